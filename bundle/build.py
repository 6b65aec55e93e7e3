"""Build the competition bundle: competition.yaml, its pages, the programs with all they import, the data."""

from __future__ import annotations

import argparse
import io
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

KIT = Path(__file__).resolve().parents[1]
sys.path.append(str(KIT / "scoring_program"))
sys.path.append(str(KIT / "ingestion_program"))

from flair_ingestion.dataset import index_patches, labels_folder  # noqa: E402
from flair_scoring.errors import run_command  # noqa: E402
from flair_scoring.provenance import commit  # noqa: E402

TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
LEFT_OUT = {"__pycache__", "signing.key", "weights.safetensors"}


def folder_files(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Name in the zip -> path, for every file below `folder` but caches, keys and weights."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not LEFT_OUT & set(path.parts))
    return {prefix + path.relative_to(folder).as_posix(): path for path in paths}


def program_files(program: str) -> dict[str, Path]:
    """The files of one program's zip: the platform mounts it alone, so it holds all that it imports."""
    files = folder_files(KIT / program)
    if program == "ingestion_program":
        files |= folder_files(KIT / "scoring_program" / "flair_scoring", "flair_scoring/")
        files |= folder_files(KIT / "reference_submission", "reference_submission/")
        weights = KIT / "reference_submission" / "weights.safetensors"
        if weights.is_file():
            files["reference_submission/weights.safetensors"] = weights
    return files


def data_files(data: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Files of input_data (test images, series, json; no labels) and of reference_data (test masks)."""
    patches = index_patches(data, "test", labels=True)
    inputs = [Path(patch.image) for patch in patches]
    for area in {patch.super_area for patch in patches}:
        inputs += [Path(area.data), Path(area.masks), Path(area.products)]
    inputs += sorted(data.glob("*.json"))
    references = labels_folder(data, "test")
    return (
        {path.relative_to(data).as_posix(): path for path in sorted(inputs)},
        {
            Path(str(patch.labels)).relative_to(references).as_posix(): Path(str(patch.labels))
            for patch in patches
        },
    )


def tracked_files() -> dict[str, Path]:
    """The starting kit: every file that git tracks, but the organizer's desk."""
    listing = subprocess.run(
        ["git", "-C", str(KIT), "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    names = [name for name in listing.stdout.split("\0") if name and not name.startswith(("bundle/", ".ci/"))]
    return {name: KIT / name for name in names}


def signing_key(path: Path) -> bytes:
    """The key that ingestion signs with and scoring checks; created once, so that re-scoring works."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32) + "\n")
    return path.read_bytes()


def write_zip(target: Path, files: dict[str, Path], extra: dict[str, bytes] | None = None) -> Path:
    """Write `files` (name -> path) and `extra` (name -> content) in name order, all with one fixed date."""
    sources: dict[str, Path | bytes] = {**files, **(extra or {})}
    with zipfile.ZipFile(target, "w") as archive:
        for name, source in sorted(sources.items()):
            info = zipfile.ZipInfo(name, TIMESTAMP)
            info.compress_type = (
                zipfile.ZIP_STORED if name.endswith((".zip", ".tif", ".png")) else zipfile.ZIP_DEFLATED
            )
            info.external_attr = 0o644 << 16
            content = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            with content, archive.open(info, "w", force_zip64=True) as entry:
                shutil.copyfileobj(content, entry, 1 << 20)
    return target


def competition_yaml(with_data: bool) -> bytes:
    """bundle.yaml as the platform reads it; without data its tasks name none, for the organizer to add."""
    competition = yaml.safe_load((KIT / "bundle.yaml").read_text(encoding="utf-8"))
    for task in competition["tasks"] if not with_data else []:
        del task["input_data"], task["reference_data"]
    return yaml.safe_dump(competition, sort_keys=False, allow_unicode=True).encode()


def build(data: Path | None, output: Path) -> None:
    """Write the bundle to `output`, with the test split of `data` if given, and signing.key beside it."""
    key = {"signing.key": signing_key(output.parent / "signing.key")}
    vendored = {"flair_scoring/COMMIT": commit().encode()}
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        zips = [
            write_zip(
                Path(folder, "ingestion_program.zip"), program_files("ingestion_program"), key | vendored
            ),
            write_zip(Path(folder, "scoring_program.zip"), program_files("scoring_program"), key | vendored),
            write_zip(Path(folder, "starting_kit.zip"), tracked_files()),
        ]
        if data:
            inputs, references = data_files(data)
            zips.append(write_zip(Path(folder, "input_data.zip"), inputs))
            zips.append(write_zip(Path(folder, "reference_data.zip"), references))
        files = {path.name: path for path in zips} | folder_files(KIT / "bundle" / "pages", "pages/")
        files["logo.png"] = KIT / "bundle" / "logo.png"
        written = write_zip(
            Path(folder, output.name), files, {"competition.yaml": competition_yaml(data is not None)}
        )
        os.replace(written, output)


def main() -> None:
    """Build the bundle and say how large it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python bundle/build.py --data /data/flair2 -o dist/bundle.zip"
    )
    parser.add_argument(
        "--data", type=Path, help="folder with the FLAIR #2 archives, unpacked; none: code only"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("dist/bundle.zip"), help="default: %(default)s"
    )
    args = parser.parse_args()
    if not (KIT / "reference_submission" / "weights.safetensors").is_file():
        print("warning: reference_submission/ has no weights; it is good for timing only", file=sys.stderr)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    build(args.data, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_command(main)
