"""The array job: its tasks share a folder of submissions, and one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_files import KIT
from entries import copy_submission
from ingest_command import environment, leftovers

JOB = KIT / "bundle/evaluate.sbatch"


def start(here: Path, task: int) -> tuple[subprocess.Popen[bytes], Path]:
    """A task on a node of its own: it shares the folders with the others, but no lock of a device."""
    node = here / f"node{task}"
    log = here / f"task{task}.log"
    slurm = {"SLURM_SUBMIT_DIR": KIT, "SLURM_ARRAY_JOB_ID": 7, "SLURM_ARRAY_TASK_ID": task}
    paths = {"SUBMISSIONS": here / "submissions", "DATA": here / "data", "RESULTS": here / "results"}
    settings = {name: str(value) for name, value in (slurm | paths | {"PYTHON": sys.executable}).items()}
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", str(JOB), "--device", "cpu", "--limit-ratio", "0"],
            env=environment(node) | settings,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=here,
        )
    return process, log


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_node_that_dies_loses_nothing(flair_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(flair_tree)
    for name, kind in (("a", "sleeps"), ("b", "honest_constant"), ("c", "honest_batch_7")):
        submission = copy_submission(kind, tmp_path / "zoo")
        (tmp_path / "submissions").mkdir(exist_ok=True)
        submission.rename(tmp_path / "submissions" / name)
    (tmp_path / "submissions/a/seconds").write_text("100")
    first, first_log = start(tmp_path, 0)
    wait_until(lambda: (tmp_path / "results/.a.lock").exists())
    second, second_log = start(tmp_path, 1)
    wait_until(lambda: second_log.read_text().count("another run is at it") == 1)
    wait_until(lambda: (tmp_path / "results/c/evaluation.json").exists())  # the second is done but for a
    assert not (tmp_path / "results/a").exists()

    (tmp_path / "submissions/a/seconds").write_text("0")
    first.send_signal(signal.SIGKILL)  # exec: the shell of the job has become evaluate.py
    assert first.wait(60) == -signal.SIGKILL
    assert second.wait(60) == 0, second_log.read_text()
    assert "== 1 of 3: a" in first_log.read_text()
    assert "task 1 of job 7 on " in second_log.read_text()
    for name in ("a", "b", "c"):
        assert json.loads((tmp_path / f"results/{name}/evaluation.json").read_text())["exit_code"] == 0
    assert not [left for left in leftovers(tmp_path / "node0") if left.isdecimal()]  # nothing still runs

    third, third_log = start(tmp_path, 0)  # SLURM starts the dead task again
    assert third.wait(60) == 0
    assert third_log.read_text().count(": kept, mIoU ") == 3


@pytest.mark.parametrize("missing", ["SUBMISSIONS", "DATA", "RESULTS"])
def test_the_job_says_which_folder_it_lacks(tmp_path: Path, missing: str) -> None:
    settings = {name: str(tmp_path) for name in ("SUBMISSIONS", "DATA", "RESULTS") if name != missing}
    done = subprocess.run(
        ["bash", str(JOB)], env={"PATH": os.environ["PATH"], **settings}, capture_output=True, text=True
    )
    assert done.returncode
    assert f"{missing}: the folder" in done.stderr


def test_the_job_stops_cleanly_before_slurm_kills_it() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", JOB.read_text(), re.MULTILINE))
    assert options["signal"] == "B:TERM@60"  # to the shell, which has become evaluate.py
    assert {"array", "requeue", "gres", "exclusive", "ntasks"} <= options.keys()
    lines = JOB.read_text().splitlines()
    first_command = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    assert not [
        line for line in lines[first_command:] if line.startswith("#SBATCH")
    ]  # SLURM reads no further
    assert lines[-1].startswith("exec ")
