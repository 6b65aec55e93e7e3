"""The bundle: what the platform unpacks, what must not be in which zip, and that the parts run alone."""

from __future__ import annotations

import ast
import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_files import KIT, read_zip, run_build

import build
from flair_bundle import building, contents, filling
from flair_bundle.contents import REFERENCE, input_files, label_files, patches_of_phases
from flair_files import DOMAINS
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.nomenclature import FLAIR_12

PROGRAMS = ["ingestion_program.zip", "scoring_program.zip"]


def unpack(content: bytes, folder: Path) -> Path:
    for name, data in read_zip(content).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def patch_ids(names: Any, kind: str) -> list[str]:
    return sorted(Path(name).stem[4:] for name in names if Path(name).name.startswith(kind))


def test_every_file_that_the_platform_looks_for_is_there(
    files: dict[str, bytes], competition: dict[str, Any]
) -> None:
    named = [competition["image"], competition["terms"], *(page["file"] for page in competition["pages"])]
    for task in competition["tasks"]:
        named += [
            task[key] for key in ("ingestion_program", "scoring_program", "input_data", "reference_data")
        ]
    named += [phase["starting_kit"] for phase in competition["phases"]]
    named += [solution["path"] for solution in competition["solutions"]]
    assert set(named) | {"competition.yaml"} == set(files)


def test_the_columns_are_the_keys_of_the_design(competition: dict[str, Any]) -> None:
    (board,) = competition["leaderboards"]
    keys = [column["key"] for column in board["columns"]]
    times = ["time_ratio", "inference_seconds"]
    assert keys == ["miou", *times, "overall_accuracy", "miou_low", "miou_high", *FLAIR_12.keys]
    assert [column["title"] for column in board["columns"][6:]] == list(FLAIR_12.classes)


def test_the_shipped_commands(files: dict[str, bytes]) -> None:
    ingest, score = (yaml.safe_load(read_zip(files[name])["metadata.yaml"])["command"] for name in PROGRAMS)
    assert ingest == (
        "python3 ingest.py /app/input_data /app/ingested_program /app/output --platform --device cuda"
    )
    assert score == "python3 score.py /app/input/res /app/input/ref --output /app/output --platform"


def imports_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.startswith("flair_")}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_alone(files: dict[str, bytes], program: str, tmp_path: Path) -> None:
    folder = unpack(files[program], tmp_path / "program")
    modules = set()
    for path in folder.glob("*.py"):
        modules |= imports_of(path.read_text())
    check = (
        f"import sys, pathlib; sys.path.insert(0, {str(folder)!r})\n"
        + "".join(f"import {name}\n" for name in sorted(modules))
        + "own = [module for name, module in sys.modules.items() if name.startswith('flair_')]\n"
        "strangers = [m.__file__ for m in own if not pathlib.Path(m.__file__).is_relative_to(sys.path[0])]\n"
        "assert own and not strangers, strangers\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_ingestion_brings_the_reference_and_scoring_does_not(files: dict[str, bytes]) -> None:
    ingestion, scoring = (read_zip(files[name]) for name in PROGRAMS)
    shipped = {name for name in ingestion if name.startswith("reference_submission/")}
    tracked = subprocess.run(
        ["git", "ls-files", REFERENCE.name], cwd=KIT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert shipped == set(tracked)
    assert all(ingestion[name] == (KIT / name).read_bytes() for name in shipped)
    assert not [name for name in scoring if name.startswith(("reference", "flair_ingestion"))]


def find(secret: bytes, content: bytes) -> bool:
    if content[:4] == b"PK\x03\x04":
        return any(find(secret, inner) for inner in read_zip(content).values())
    return secret in content


def test_the_key_is_in_the_two_programs_and_nowhere_else(built: Path, files: dict[str, bytes]) -> None:
    key = (built.parent / "signing.key").read_bytes()
    assert len(key.strip()) == 64
    assert (built.parent / "signing.key").stat().st_mode & 0o077 == 0
    assert sorted(name for name, content in files.items() if find(key.strip(), content)) == PROGRAMS
    assert {read_zip(files[name])["signing.key"] for name in PROGRAMS} == {key}


def test_the_key_and_the_bytes_stay_when_the_bundle_is_built_again(
    built: Path, flair_tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "signing.key").write_bytes((built.parent / "signing.key").read_bytes())
    again = tmp_path / "again.zip"
    assert run_build("--data", flair_tree, "--untrained-reference", "-o", again).returncode == 0
    assert again.read_bytes() == built.read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zip", "signing.key"]


@pytest.mark.parametrize("phase", ["development", "final"])
def test_inputs_hold_no_labels_and_references_keep_the_tree(files: dict[str, bytes], phase: str) -> None:
    inputs = read_zip(files[f"input_data_{phase}.zip"])
    references = read_zip(files[f"reference_data_{phase}.zip"])
    assert not [name for name in inputs if "MSK" in name or "label" in name]
    assert patch_ids(references, "MSK") == patch_ids(inputs, "IMG")
    assert {name.split("/")[0] for name in references} == set(DOMAINS["test"])
    assert not set(references.values()) & set(inputs.values())


def test_the_development_phase_has_a_part_of_every_domain(flair_tree: Path) -> None:
    phases = patches_of_phases(flair_tree, development=3)
    assert [patch.domain for patch in phases["development"]] == sorted(DOMAINS["test"])
    assert len(phases["final"]) == 6
    inputs = input_files(flair_tree, phases["development"])
    assert patch_ids(inputs, "IMG") == patch_ids(label_files(flair_tree, phases["development"]), "MSK")
    assert len(patch_ids(inputs, "IMG")) == 3
    assert len([name for name in inputs if name.endswith("_data.npy")]) == 3


def test_a_part_of_the_test_set_is_told_and_holes_in_it_refuse(flair_tree: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(flair_tree, tmp_path / "data"))
    for kind in ("aerial", "sen", "labels"):
        shutil.rmtree(data / f"flair_2_{kind}_test/D022_2021")
    output = tmp_path / "bundle.zip"
    done = run_build("--data", data, "--untrained-reference", "-o", output)
    assert done.returncode == 0
    told = "4 of the 6 test patches known to flair_aerial_metadata.json are here; missing: all of D022_2021"
    assert f"note: {told}\n" in done.stderr
    done = run_build("--check", output)
    for task in (0, 1):
        assert f"note: tasks[{task}].input_data: {told}\n" in done.stderr
    next(data.glob("flair_2_aerial_test/*/*/img/*.tif")).unlink()
    with pytest.raises(DataError, match="1 label without its image"):
        patches_of_phases(data)


def test_on_the_worker_there_are_inputs_only(flair_tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle.zip"
    options = ("--data", flair_tree, "--data-on-worker", "sets/flair2", "--untrained-reference")
    for _ in range(2):  # the second time over the first one's folders
        done = run_build(*options, "-o", output)
        assert done.returncode == 0, done.stderr
    files = read_zip(output.read_bytes())
    competition = yaml.safe_load(files["competition.yaml"])
    assert not [name for name in files if name.startswith("input_data")]
    for task, phase in zip(competition["tasks"], ["development", "final"], strict=True):
        assert "input_data" not in task
        assert len(patch_ids(read_zip(files[task["reference_data"]]), "MSK")) == 6
        command = yaml.safe_load(read_zip(files[task["ingestion_program"]])["metadata.yaml"])["command"]
        assert command == (
            f"python3 ingest.py /app/data/sets/flair2/{phase} /app/ingested_program /app/output "
            "--platform --device cuda"
        )
        folder = tmp_path / "worker_data/sets/flair2" / phase
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        assert len(patch_ids(names, "IMG")) == 6
        assert not [name for name in names if "MSK" in name]
        assert str(folder) in done.stdout


def test_without_data_the_tasks_name_none(tmp_path: Path) -> None:
    output = tmp_path / "bundle.zip"
    done = run_build("--untrained-reference", "-o", output)
    assert done.returncode == 0, done.stderr
    assert output.stat().st_size < 10e6
    tasks = yaml.safe_load(read_zip(output.read_bytes())["competition.yaml"])["tasks"]
    assert not [task for task in tasks if "input_data" in task or "reference_data" in task]


def test_the_image_is_the_one_that_was_named(tmp_path: Path) -> None:
    output = tmp_path / "bundle.zip"
    run_build("--untrained-reference", "--image", "someone/flair2:3", "-o", output)
    files = read_zip(output.read_bytes())
    assert yaml.safe_load(files["competition.yaml"])["docker_image"] == "someone/flair2:3"
    assert "someone/flair2:3" in files["pages/packages.md"].decode()


def test_an_untrained_reference_must_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "WEIGHTS", tmp_path / "weights.safetensors")
    monkeypatch.setattr(sys, "argv", ["build.py", "-o", str(tmp_path / "dist/bundle.zip")])
    with pytest.raises(UsageError, match=r"(?s)make reference DATA=.*--untrained-reference"):
        build.main()
    assert not list(tmp_path.iterdir())


def test_a_trained_reference_is_shipped_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"trained")
    monkeypatch.setattr(contents, "WEIGHTS", weights)
    monkeypatch.setattr(build, "WEIGHTS", weights)
    for options, expected in (([], b"trained"), (["--untrained-reference"], None)):
        monkeypatch.setattr(sys, "argv", ["build.py", *options, "-o", str(tmp_path / "bundle.zip")])
        build.main()
        files = read_zip((tmp_path / "bundle.zip").read_bytes())
        ingestion, solution = (
            read_zip(files[name]) for name in ("ingestion_program.zip", "solution_reference.zip")
        )
        assert solution.get("weights.safetensors") == expected
        assert ingestion.get("reference_submission/weights.safetensors") == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data-on-worker", "/flair2"], "expected a path below /app/data"),
        (["--data-on-worker", "../input"], "expected a path below /app/data"),
        (["--data-on-worker", "a b"], "expected a path below /app/data"),
        (["--data", "nowhere", "--untrained-reference"], "nowhere"),
    ],
)
def test_refusals_leave_nothing(options: list[str], sentence: str, tmp_path: Path) -> None:
    done = run_build(*options, "-o", tmp_path / "bundle.zip")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle.zip").exists()


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        ("version: 2\n\tname: x", ["not valid YAML (line 2: "]),
        ("start: 2027-13-01", ["(line 1: 2027-13-01 is not a valid date)"]),
        ("- 1", ["expected keys such as version"]),
        (
            "version: 2\ntitle: x\nversion: 2",
            ["line 3: the key 'version' occurs a second time, after line 1"],
        ),
        ({"tasks": 7, "titel": "x"}, ["tasks is 7; expected a list", "the platform does not read 'titel'"]),
        ({"tasks": [{"index": 0, "name": "x"}]}, ["'scoring_program' is missing", "tasks: expected 2"]),
        ({"phases": [{"name": "x", "max_submissions": 0}]}, ["'start' is missing", "max_submissions is 0"]),
        ({"docker_image": None}, ["docker_image is None; expected NAME:TAG"]),
    ],
)
def test_what_an_organizer_may_get_wrong_in_bundle_yaml(
    change: str | dict[str, Any], sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = yaml.safe_load(building.SOURCE.read_text())
    source = tmp_path / "bundle.yaml"
    source.write_text(change if isinstance(change, str) else yaml.safe_dump(sound | change))
    monkeypatch.setattr(building, "SOURCE", source)
    with pytest.raises(DataError) as caught:
        building.read_bundle_yaml(None)
    assert str(caught.value).startswith(f"{source}: ")
    for sentence in sentences:
        assert sentence in str(caught.value)


def test_an_image_without_a_tag_is_refused_before_anything_is_packed() -> None:
    with pytest.raises(DataError, match="docker_image is 'me/kit'; expected NAME:TAG"):
        building.read_bundle_yaml("me/kit")


def test_pages_that_are_no_text_are_named_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.md").write_bytes(b"\xff")
    (tmp_path / "two.md").write_text("${nobody}")
    monkeypatch.setattr(filling, "PAGES", tmp_path)
    with pytest.raises(DataError, match=r"(?s)one\.md: is not UTF-8.*two\.md: \$\{nobody\} is not known"):
        filling.fill_pages(building.read_bundle_yaml(None))


def test_rasters_that_would_fail_on_the_platform_are_not_packed(flair_tree: Path, tmp_path: Path) -> None:
    data = shutil.copytree(flair_tree, tmp_path / "data")
    mask = next(data.glob("flair_2_labels_test/**/MSK_*.tif"))
    image = next(data.glob("flair_2_aerial_test/**/IMG_*.tif"))
    for path in (mask, image):
        path.write_bytes(path.read_bytes()[:-100])
    done = run_build("--untrained-reference", "--data", data, "-o", tmp_path / "dist/bundle.zip")
    assert (done.returncode, "(2 problems)" in done.stderr) == (2, True)
    assert f"{mask}: is truncated" in done.stderr
    assert f"{image}: is truncated" in done.stderr
    assert not (tmp_path / "dist/bundle.zip").exists()


def test_places_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place, sentence in ((tmp_path, "is a folder"), (tmp_path / "file/bundle.zip", "cannot be built")):
        done = run_build("--untrained-reference", "-o", place)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_no_half_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["build.py", "--untrained-reference", "-o", str(tmp_path / "bundle.zip")]
    )

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    with pytest.raises(UsageError, match=r"bundle\.zip: cannot be built \(No space left"):
        build.main()
    assert [path.name for path in tmp_path.iterdir()] == ["signing.key"]


def test_a_key_that_an_earlier_build_could_not_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "signing.key").touch()
    with pytest.raises(DataError, match=r"signing\.key: is empty; remove it"):
        contents.signing_key(tmp_path / "signing.key")


def test_the_solutions_are_submissions(files: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("solution_reference.zip", "solution_trivial.zip"):
        (tmp_path / name).write_bytes(files[name])
        assert "model.py" in open_submission(tmp_path / name, 1024).files


def test_the_trivial_solution_predicts_the_class_that_it_names(files: dict[str, bytes]) -> None:
    solution = read_zip(files["solution_trivial.zip"])
    namespace: dict[str, Any] = {}
    exec(solution["model.py"], namespace)
    labels = namespace["Model"](None, None).predict({"aerial": range(2)})
    assert labels.shape == (2, 512, 512)
    (index,) = set(labels.ravel().tolist())
    assert f"every pixel is {FLAIR_12.classes[index]}" in solution["metadata.yaml"].decode()


@pytest.fixture(scope="module")
def kit(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starting kit, unpacked; no clone."""
    return unpack(files["starting_kit.zip"], tmp_path_factory.mktemp("kit"))


def fake_git(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    program = folder / "git"
    program.write_text(f'#!/bin/sh\necho "{says}" >&2\nexit 128\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_clone_of_another_user_gets_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path, monkeypatch, f"fatal: detected dubious ownership in repository at '{KIT}'")
    with pytest.raises(UsageError) as caught:
        contents.untracked_files()
    assert f"git config --global --add safe.directory {shlex.quote(str(KIT))}" in str(caught.value)


def test_git_that_fails_is_told_with_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path, monkeypatch, "fatal: not a git repository (or any of the parent directories): .git")
    with pytest.raises(UsageError, match=r"\(not a git repository .*\); build from a clone"):
        contents.untracked_files()


def kit_environment(kit: Path) -> dict[str, str]:
    """Its own packages come before those of this environment."""
    packages = ("scoring_program", "ingestion_program", "starting_kit")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(kit / name) for name in packages)}


def test_the_starting_kit_is_the_tracked_tree_without_the_organizers_side(kit: Path) -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=KIT, capture_output=True, text=True, check=True)
    tracked = {name for name in listing.stdout.splitlines() if (KIT / name).is_file()}
    shipped = {path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()}
    assert shipped - tracked == {"scoring_program/flair_scoring/COMMIT"}
    organizers_side = ("bundle", "tests/", ".ci/", ".dockerignore")
    assert not [name for name in tracked - shipped if not name.startswith(organizers_side)]
    assert {"Makefile", "README.md", "requirements.lock", "starting_kit/train.py"} <= shipped
    organizers = {name for name in shipped if name.startswith("bundle")}
    platform = {
        f"bundle/flair_bundle/platform/{name}.py" for name in ("__init__", "container", "engine", "process")
    }
    assert organizers == platform | {
        "bundle/flair_bundle/__init__.py",
        "bundle/packages.txt",
        "bundle/pages/submission.md",
    }


def test_the_starting_kit_evaluates_a_submission_and_knows_its_commit(
    kit: Path, flair_tree: Path, tmp_path: Path
) -> None:
    for command in (
        ["starting_kit/make_toy_dataset.py", "--help"],
        ["starting_kit/most_frequent.py", flair_tree, "-o", tmp_path / "trivial.zip"],
        [
            *("starting_kit/try_out.py", tmp_path / "trivial.zip", "--data", flair_tree),
            *("--output", tmp_path / "results", "--limit-ratio", "0", "--device", "cpu"),
        ],
    ):
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=kit, capture_output=True, text=True, timeout=300,
            env=kit_environment(kit),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    timing = json.loads((tmp_path / "results/trivial/timing.json").read_text())
    assert timing["commit"] == (kit / "scoring_program/flair_scoring/COMMIT").read_text()
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude=*"], cwd=KIT, capture_output=True, text=True
    )
    assert timing["commit"].removesuffix("-dirty") == described.stdout.strip()


@pytest.mark.long
def test_the_demo_runs_from_the_starting_kit(kit: Path) -> None:
    make = ["make", "-o", ".venv/installed", "demo", "SIZE=tiny", f"PY={sys.executable}"]
    done = subprocess.run(
        make, cwd=kit, capture_output=True, text=True, timeout=1800, env=kit_environment(kit)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (kit / "runs/demo/leaderboard.html").is_file()


def test_untracked_files_of_a_whole_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"toy/D006_2020/Z1_AA/img/IMG_{number:06d}.tif" for number in range(900)]
    monkeypatch.setattr(build, "untracked_files", lambda: names)
    monkeypatch.setattr(build, "build", lambda output, *_: output.touch() or [])
    monkeypatch.setattr(build, "report", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["build.py", "--untrained-reference", "-o", str(tmp_path / "b.zip")])
    build.main()
    told = capsys.readouterr().err
    assert f"{names[0]}, " in told
    assert "and 890 more" in told
    assert len(told) < 1000
