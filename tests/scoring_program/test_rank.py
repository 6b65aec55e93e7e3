"""rank.py: order, the reference's times, results without a score, and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flair_scoring.provenance import stamp

RANK = Path(__file__).resolve().parents[2] / "scoring_program" / "rank.py"


def result(folder: Path, miou: float | None, **timing: Any) -> Path:
    """A result folder; timed if it has any field of timing.json."""
    folder.mkdir()
    if miou is not None:
        scores = {"miou": miou, "overall_accuracy": 0.7, "miou_low": miou - 0.02, "miou_high": miou + 0.02}
        (folder / "scores.json").write_text(json.dumps(scores | {"iou_building": 0.8}))
    if timing:
        fields = {"verdict": "within_limit", "reason": None, "inference_seconds": 30.0} | timing
        (folder / "timing.json").write_text(json.dumps(stamp() | fields))
    return folder


def rank(*results: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RANK), *map(str, results), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_orders_by_miou_then_time_and_lists_failures_last(tmp_path: Path) -> None:
    folders = [
        result(tmp_path / "slow", None, verdict="over_limit", reason="3.10 x, limit 2.5", ratio=3.1),
        result(tmp_path / "second", 0.61, ratio=1.4, reference_seconds=20.0),
        result(tmp_path / "untimed", 0.61),
        result(tmp_path / "first", 0.64, ratio=2.2, reference_seconds=22.0),
    ]
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1:] == [
        ["1", "first", "0.6400", "0.6200", "to", "0.6600", "2.200", "30.00", "within_limit"],
        ["2", "second", "0.6100", "0.5900", "to", "0.6300", "1.400", "30.00", "within_limit"],
        ["3", "untimed", "0.6100", "0.5900", "to", "0.6300", "not", "timed"],
        ["reference", "1.000", "21.00", "the", "unit", "of", "time"],
        ["slow", "3.100", "30.00", "over_limit:", "3.10", "x,", "limit", "2.5"],
    ]
    page = (tmp_path / "board.html").read_text()
    assert page.index("first") < page.index("second") < page.index("untimed") < page.index("slow")


def test_hostile_names_are_shown_and_not_run(tmp_path: Path) -> None:
    folder = result(tmp_path / "<script>alert(1)<script>", 0.5, reason="<b>", verdict="<i>")
    assert rank(folder, output=tmp_path / "board.html").returncode == 0
    page = (tmp_path / "board.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert not any(tag in page for tag in ("<script", "<b>", "<i>"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "neither scores.json nor timing.json"),
        ("{", "scores.json: damaged"),
        ('{"miou": NaN}', "scores.json: damaged"),
        ('{"iou_building": 0.5}', "scores.json: damaged"),
        ('{"miou": 0.5, "iou_greenhouse": 0.5}', "the results score different classes"),
    ],
)
def test_refuses_what_is_no_result(tmp_path: Path, content: str | None, sentence: str) -> None:
    good = result(tmp_path / "good", 0.6)
    bad = result(tmp_path / "bad", None)
    if content is not None:
        (bad / "scores.json").write_text(content)
    done = rank(good, bad, output=tmp_path / "board.html")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "board.html").exists()
