"""What earlier versions of the kit have written is still read, run and scored by this one.

tests/earlier_versions/ has a folder for each of those versions; the README there says what is in it. Where a
later version can no longer read something, its test here expects one sentence that says so, and what to do.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from programs import run_here

KIT = Path(__file__).resolve().parents[1]
VERSIONS = sorted(path for path in (KIT / "tests/earlier_versions").iterdir() if path.is_dir())
# Other processors and versions of torch round differently, so a pixel between two classes may change
MAX_CHANGED_LABELS = 0.001
MAX_CHANGED_LOSS = 0.001  # of itself, after one more epoch


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def data(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(old / "data.zip", tmp_path_factory.mktemp("data"))


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def copy(source: Path, target: Path) -> Path:
    """A copy of a folder that can be written to, wherever the clone lies."""
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            written = target / path.relative_to(source)
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_bytes(path.read_bytes())
    return target


def read_labels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("PRED_*.tif"))}


def read_log(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "log.csv").read_text().splitlines()))


def read_scores(folder: Path) -> dict[str, float]:
    return json.loads((folder / "scores.json").read_text())


def run(script: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own; asserts that it succeeds."""
    command = [sys.executable, "-B", str(script), *map(str, arguments)]
    temporary = {**os.environ, "TMPDIR": str(cwd)}  # the lock of the device lies there
    done = subprocess.run(command, cwd=cwd, env=temporary, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """What it has printed; asserts that it has succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_earlier_versions() -> None:
    assert VERSIONS


@pytest.mark.parametrize(
    ("submission", "labels"),
    [
        ("submission.zip", "platform/res/predictions"),
        pytest.param("utt.zip", "utt_labels", marks=pytest.mark.long),
    ],
)
def test_a_submission_gives_the_labels_that_it_gave(
    old: Path, data: Path, tmp_path: Path, submission: str, labels: str
) -> None:
    expected = read_labels(old / labels)
    options = ("--device", "cpu", "--limit-ratio", 0, "--subset", len(expected))
    run(KIT / "ingestion_program/ingest.py", data, old / submission, "out", *options, cwd=tmp_path)
    found = read_labels(tmp_path / "out/predictions")
    assert found.keys() == expected.keys()
    for name, pixels in expected.items():
        assert found[name].shape == pixels.shape == (512, 512)
        assert np.mean(found[name] != pixels) <= MAX_CHANGED_LABELS, name
    assert len(np.unique(np.stack(list(expected.values())))) > 3  # else the comparison would tell little


def test_a_run_is_packed_again_with_the_same_weights(old: Path, tmp_path: Path) -> None:
    succeed(run_here("package", old / "run", "-o", tmp_path / "again.zip"))
    with zipfile.ZipFile(old / "submission.zip") as then, zipfile.ZipFile(tmp_path / "again.zip") as now:
        assert now.read("weights.safetensors") == then.read("weights.safetensors")
        settings, before = (json.loads(archive.read("config.json")) for archive in (now, then))
    assert before["model"].items() <= settings["model"].items()


def test_an_interrupted_run_is_resumed_to_the_end_that_it_had(old: Path, data: Path, tmp_path: Path) -> None:
    copy(old / "run", tmp_path / "run")
    command = ("--data", data, "--config", old / "config.yaml", "--output", "run", "--resume")
    succeed(run_here("train", *command, cwd=tmp_path))
    before = read_log(old / "run")
    expected = list(csv.DictReader((old / "resumed_log.csv").read_text().splitlines()))
    found = read_log(tmp_path / "run")
    assert 0 < len(before) < len(expected) == len(found)
    for epoch, row in enumerate(expected):
        exact = epoch < len(before)
        for key in ("train_loss", "val_loss"):
            tolerance = 1e-9 if exact else MAX_CHANGED_LOSS
            assert float(found[epoch][key]) == pytest.approx(float(row[key]), rel=tolerance)
        assert float(found[epoch]["val_miou"]) == pytest.approx(float(row["val_miou"]), abs=0.01)

    weights = (tmp_path / "run/model.safetensors").read_bytes()
    succeed(run_here("train", *command, cwd=tmp_path))  # nothing is left to do
    assert read_log(tmp_path / "run") == found
    assert (tmp_path / "run/model.safetensors").read_bytes() == weights


def write_zeros(header: dict[str, Any], target: Path) -> None:
    """A safetensors file with this header, every weight 0."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    size = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    target.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(target, 8 + len(text) + size)


@pytest.mark.long
def test_a_checkpoint_of_all_branches_fits_the_network_of_this_version(
    old: Path, data: Path, tmp_path: Path
) -> None:
    write_zeros(json.loads((old / "utt_header.json").read_text()), tmp_path / "model.safetensors")
    succeed(run_here("package", tmp_path / "model.safetensors", "-o", tmp_path / "utt.zip"))
    options = ("--device", "cpu", "--limit-ratio", 0, "--subset", 3)
    run(KIT / "ingestion_program/ingest.py", data, "utt.zip", "out", *options, cwd=tmp_path)


def test_the_matrices_of_patches_are_added_up(old: Path, tmp_path: Path) -> None:
    done = run_here(
        "score", "--merge", old / "result", "--output", tmp_path / "sum", folder="scoring_program"
    )
    scores = read_scores(old / "result")
    assert succeed(done).endswith(f"mIoU: {scores['miou']:.4f}\n")
    merged = read_scores(tmp_path / "sum")
    assert merged == {key: pytest.approx(scores[key]) for key in merged}
    assert scores.keys() - merged.keys() == {"time_ratio", "inference_seconds"}


def test_the_matrices_of_domains_cannot_be_added_up(old: Path) -> None:
    done = run_here("score", "--merge", old / "platform/scored", folder="scoring_program")
    assert done.returncode == 2
    assert "no ids" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_of_home_and_platform_are_ranked(old: Path, tmp_path: Path) -> None:
    results = {"home": old / "result", "platform": old / "platform/scored"}
    for name, folder in results.items():
        copy(folder, tmp_path / name)
    board = ("--output", tmp_path / "leaderboard.html")
    table = succeed(run_here("rank", *map(tmp_path.joinpath, results), *board, folder="scoring_program"))
    for name, folder in results.items():
        miou = f"{read_scores(folder)['miou']:.4f}"
        assert any(name in line and miou in line for line in table.splitlines()), table


def test_predictions_are_scored_again_at_home(old: Path, data: Path, tmp_path: Path) -> None:
    command = (old / "platform/res", data / "flair_2_toy_labels_test", "--output", tmp_path / "scored")
    succeed(run_here("score", *command, folder="scoring_program"))
    assert read_scores(tmp_path / "scored") == pytest.approx(read_scores(old / "platform/scored"))


def test_what_ingestion_has_signed_is_scored_again_on_the_platform(old: Path, tmp_path: Path) -> None:
    """An organizer replaces the scoring program and has all submissions scored again."""
    program = copy(KIT / "scoring_program", tmp_path / "program")
    bundle = unpack(old / "bundle.zip", tmp_path / "bundle")
    before = unpack(bundle / "scoring_program.zip", tmp_path / "before")
    (program / "signing.key").write_bytes((before / "signing.key").read_bytes())
    references = unpack(bundle / "reference_data_final.zip", tmp_path / "ref")
    command = (old / "platform/res", references, "--output", "scored", "--platform")
    run(program / "score.py", *command, cwd=tmp_path)
    assert read_scores(tmp_path / "scored") == pytest.approx(read_scores(old / "platform/scored"))
