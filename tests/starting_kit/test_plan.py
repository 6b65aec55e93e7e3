"""plan.py from trained models to a submission, with the real clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_ensemble import CONFIGS, draw_run

from flair_ingestion.submission import open_submission
from flair_scoring.outputs.ingestion_output import read_timing

KIT = Path(__file__).resolve().parents[2]


def plan(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(KIT / "starting_kit/plan.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1500)


@pytest.mark.long
def test_a_plan_ends_in_a_submission_within_the_limit(
    flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))  # the lock of the device lies there
    runs = [draw_run(tmp_path / name, CONFIGS[name]) for name in ("first", "unet")]
    options = [*runs, "--data", flair_tree, "--device", "cpu", "--timing-patches", 2, "-o", "best.zip"]
    done = plan(*options, "--limit-ratio", 50, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["best_plan/plan.html", "best.zip"]
    record = json.loads((tmp_path / "best_plan/plan.json").read_text())
    choice = record["choice"]
    assert choice["miou"] == max(check["miou"] for check in record["checks"])
    name = choice["name"].replace(" ", "_")
    timing = read_timing(tmp_path / "best_plan/checks" / name)
    assert timing["ratio"] <= 50
    assert choice["measured_ratio"] == timing["ratio"] / timing["reference_drift"]
    checked = open_submission(tmp_path / f"best_plan/checked/{name}.zip", 1024)
    assert open_submission(tmp_path / "best.zip", 1024).sha256 == checked.sha256
    assert "<polyline" in (tmp_path / "best_plan/plan.html").read_text()

    # Times and predictions are kept
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "best_plan/timing").glob("*.json")}
    assert len(kept) == 4
    done = plan(*options, "--limit-ratio", 1e-9, cwd=tmp_path)
    assert done.returncode == 2
    assert "no model fits: the fastest, " in done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
