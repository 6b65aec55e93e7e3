"""What goes into which zip of the bundle: programs, starting kit, solutions, data."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from flair_ingestion.dataset import Patch, check_patches, index_patches, labels_folder, sample_patches
from flair_scoring.base.errors import DataError, UsageError, list_problems

KIT = Path(__file__).resolve().parents[2]
DESK = KIT / "bundle"
REFERENCE = KIT / "reference_submission"
WEIGHTS = REFERENCE / "weights.safetensors"
PHASES = ("development", "final")  # names of the data of the two tasks
DEVELOPMENT_PATCHES = 2000  # of the test set, drawn evenly from its domains
SEED = 2022
# The organizer's side of the repository, which participants need not have
_NOT_IN_THE_KIT = (
    *("bundle/", "bundle.yaml", ".ci/", ".dockerignore"),
    *("tests/bundle/", "tests/test_audit.py", "tests/earlier_versions/", "tests/test_earlier_versions.py"),
)
# evaluate.py compares imports with packages.txt, README links to the page, and try_out.py starts
# containers
_IN_THE_KIT = (
    *("bundle/packages.txt", "bundle/pages/submission.md", "bundle/flair_bundle/__init__.py"),
    *(f"bundle/flair_bundle/platform/{name}.py" for name in ("__init__", "container", "engine", "process")),
)
_LEFT_OUT = {"__pycache__", "signing.key", WEIGHTS.name}

# Name in a zip -> path of a file, or its content
Files = dict[str, Path | bytes]


def folder_files(folder: Path, prefix: str = "") -> Files:
    """Every file below `folder` but caches, keys, weights and hidden ones."""
    found: Files = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not _LEFT_OUT & set(parts) and not any(part.startswith(".") for part in parts):
            found[prefix + "/".join(parts)] = path
    return found


def scoring_files(key: bytes, commit: str) -> Files:
    """The scoring program: the platform mounts it alone, so it holds all that it imports."""
    return folder_files(KIT / "scoring_program") | _vendored(key, commit)


def ingestion_files(key: bytes, commit: str, trained: bool, data: str | None = None) -> Files:
    """The ingestion program with flair_scoring and the reference; `data`: where it reads on the worker."""
    files = folder_files(KIT / "ingestion_program") | _vendored(key, commit)
    files |= folder_files(KIT / "scoring_program" / "flair_scoring", "flair_scoring/")
    files |= {f"{REFERENCE.name}/{name}": content for name, content in reference_files(trained).items()}
    if data:
        metadata = yaml.safe_load((KIT / "ingestion_program" / "metadata.yaml").read_text(encoding="utf-8"))
        metadata["command"] = metadata["command"].replace("/app/input_data", data)
        files["metadata.yaml"] = yaml.safe_dump(metadata, sort_keys=False, width=1000).encode()
    return files


def reference_files(trained: bool) -> Files:
    """The reference submission, with its weights if `trained`."""
    return folder_files(REFERENCE) | ({WEIGHTS.name: WEIGHTS} if trained else {})


def trivial_files() -> Files:
    """The submission that needs no model."""
    return folder_files(DESK / "trivial_submission")


def kit_files(commit: str) -> Files:
    """The starting kit: every file that git tracks, but the organizer's side, and the commit."""
    files: Files = {name: KIT / name for name in [*_list_files(), *_IN_THE_KIT] if (KIT / name).is_file()}
    # Unpacked it is no clone, and must not take the commit of a repository around it for its own
    return files | {"scoring_program/flair_scoring/COMMIT": commit.encode()}


def patches_of_phases(data: Path, development: int = DEVELOPMENT_PATCHES) -> dict[str, list[Patch]]:
    """The test patches of each of PHASES, with labels: a sample from all domains, and all of them.

    DataError with all that their names and headers show to be wrong: on the platform every run would fail.
    """
    patches = index_patches(data, "test", labels=True)
    if problems := check_patches(patches, labels=True, decode=False, progress=False):
        raise DataError(list_problems(f"{data}: rasters of the test split are damaged", problems))
    return dict(zip(PHASES, (sample_patches(patches, development, SEED), patches), strict=True))


def input_files(data: Path, patches: Sequence[Patch]) -> Files:
    """What ingestion reads for these patches: images, series, json files; no labels."""
    paths = [Path(patch.image) for patch in patches]
    for area in {patch.super_area for patch in patches}:
        paths += [Path(area.data), Path(area.masks), Path(area.products)]
    paths += data.glob("*.json")
    return {path.relative_to(data).as_posix(): path for path in sorted(paths)}


def label_files(data: Path, patches: Sequence[Patch]) -> Files:
    """What scoring reads for these patches: masks in their folders of domain and area."""
    root = labels_folder(data, "test")
    paths = [Path(str(patch.labels)) for patch in patches]
    return {path.relative_to(root).as_posix(): path for path in paths}


def replace_folder(folder: Path, files: Files) -> None:
    """Remove `folder` and fill it again with `files`, which must be paths: by hard links, else by copies."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(path, Path)
        try:
            os.link(path.resolve(), target)
        except OSError:  # another file system
            shutil.copyfile(path, target)


def signing_key(path: Path) -> bytes:
    """The key that ingestion signs with and scoring checks; created once, so that re-scoring works."""
    if not path.is_file():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32) + "\n")
    key = path.read_bytes()
    if not key.strip():  # an earlier build had no room for it
        raise DataError(f"{path}: is empty; remove it and build again, which makes a new key")
    return key


def untracked_files() -> list[str]:
    """Files of the working tree that the starting kit lacks, because git does not track them."""
    return _list_files("--others", "--exclude-standard")


def _list_files(*options: str) -> list[str]:
    git = ["git", "-C", str(KIT), "ls-files", "-z", *options]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0].removeprefix("fatal: ")
    except OSError as error:
        done, reason = None, error.strerror or str(error)
    if done and done.returncode and "dubious ownership" in reason:
        raise UsageError(
            f"{KIT}: git does not list its files, since the folder belongs to another user; build as its "
            "owner, or tell git to trust it: git config --global --add safe.directory "
            f"{shlex.quote(str(KIT))}"
        )
    if not done or done.returncode:
        raise UsageError(
            f"{KIT}: git does not list its files ({reason}); build from a clone of the repository"
        )
    listing = done.stdout
    return [name for name in listing.split("\0") if name and not name.startswith(_NOT_IN_THE_KIT)]


def _vendored(key: bytes, commit: str) -> Files:
    return {"signing.key": key, "flair_scoring/COMMIT": commit.encode()}
