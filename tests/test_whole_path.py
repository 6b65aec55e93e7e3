"""From toy data to the leaderboard with the commands that a participant types."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from entries import copy_submission
from sklearn.metrics import jaccard_score

from flair_ingestion.dataset import index_patches, read_labels
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.raster import read_raster

KIT = Path(__file__).resolve().parents[1]


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(KIT / script), *map(str, arguments)], capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module", params=["3 patches", pytest.param("all patches", marks=pytest.mark.long)])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with data, train, submission.zip, results and leaderboard.html, as `make demo` lays them out.

    The kit's reference takes minutes on a processor. With 3 patches, one that sleeps is the reference.
    """
    here = tmp_path_factory.mktemp("path")
    (copy_submission("sleeps", here) / "seconds").write_text("1")
    short = ["--subset", 3, "--reference", here / "sleeps"] if request.param == "3 patches" else []
    commands = [
        ("starting_kit/make_toy_dataset.py", here / "data", "--size", "tiny"),
        (
            "starting_kit/train.py",
            "--data",
            here / "data",
            "--config",
            "demo",
            "--output",
            here / "train",
            "epochs=1",
        ),
        ("starting_kit/package.py", here / "train", "-o", here / "submission.zip"),
        ("starting_kit/most_frequent.py", here / "data", "-o", here / "most_frequent.zip"),
        (
            *("starting_kit/evaluate.py", here / "submission.zip", here / "most_frequent.zip"),
            *("--data", here / "data", "--output", here / "results", "--device", "cpu", *short),
        ),
        (
            *("scoring_program/rank.py", here / "results/submission", here / "results/most_frequent"),
            *("--output", here / "leaderboard.html"),
        ),
    ]
    for command in commands:
        done = run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    (here / "ranking.txt").write_text(done.stdout)
    return here


def test_the_score_is_scikit_learns_jaccard_of_the_written_predictions(path: Path) -> None:
    ids = (path / "results/submission/ids.txt").read_text().split()
    patches = [patch for patch in index_patches(path / "data", "test", labels=True) if patch.id in ids]
    assert len(patches) == len(ids) >= 3
    predictions = path / "results/submission/predictions"
    predicted = np.concatenate(
        [read_raster(predictions / f"PRED_{patch.id}.tif").ravel() for patch in patches]
    )
    expected = np.concatenate([FLAIR_12.index_of[read_labels(patch)].ravel() for patch in patches])
    score = jaccard_score(expected, predicted, labels=range(12), average="macro")
    scores = json.loads((path / "results/submission/scores.json").read_text())
    assert scores["miou"] == pytest.approx(score, abs=1e-12)


def test_the_results_tell_the_time_against_the_reference(path: Path) -> None:
    timing = json.loads((path / "results/submission/timing.json").read_text())
    scores = json.loads((path / "results/submission/scores.json").read_text())
    assert timing["verdict"] == "within_limit"
    assert timing["inference_seconds"] == pytest.approx(sum(timing["latencies_ms"]) / 1000)
    assert timing["ratio"] == pytest.approx(timing["inference_seconds"] / timing["reference_seconds"])
    assert scores["time_ratio"] == timing["ratio"]


def test_the_leaderboard_ranks_both_and_gives_the_reference_a_time_only(path: Path) -> None:
    ranking = (path / "ranking.txt").read_text()
    reference = next(line for line in ranking.splitlines() if "reference" in line)
    assert "1.00" in reference
    for name in ("submission", "most_frequent"):
        miou = json.loads((path / "results" / name / "scores.json").read_text())["miou"]
        assert any(name in line and f"{miou:.4f}" in line for line in ranking.splitlines())
    assert "most_frequent" in (path / "leaderboard.html").read_text()


@pytest.mark.long
def test_a_failing_submission_does_not_keep_the_others_from_their_score(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "submissions"
    (folder / "broken").mkdir(parents=True)
    (folder / "broken/model.py").write_text("raise RuntimeError('no weights in the package')\n")
    shutil.copy(path / "most_frequent.zip", folder / "sound.zip")
    done = run(
        "starting_kit/evaluate.py",
        folder,
        "--data",
        path / "data",
        "--output",
        tmp_path / "out",
        "--limit-ratio",
        0,
    )
    assert done.returncode == 3
    assert "no weights in the package" in done.stderr
    assert "1 of 2 submissions have no score: broken (exit code 3)" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out/sound/scores.json").is_file()
    assert not (tmp_path / "out/broken/scores.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.zip", "--data", "data"], "nowhere.zip: no such file or folder"),
        (["most_frequent.zip", "--data", "nowhere"], "nowhere"),
    ],
)
def test_evaluate_refuses_what_is_not_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(path)
    done = run("starting_kit/evaluate.py", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
