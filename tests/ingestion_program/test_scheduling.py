"""The scheduling of the process that holds the clock, which another process really changes here."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from filtered import drop_all_capabilities

from flair_ingestion import scheduling

PACKAGES = [str(Path(__file__).parents[2] / name) for name in ("ingestion_program", "scoring_program")]
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}[platform.machine()]

# What another process does to the process `clock`, and a word that the message must contain
CHANGES = {
    "renice": ("os.setpriority(os.PRIO_PROCESS, clock, 15)", "niceness became 15 instead of "),
    "idle": (
        "os.sched_setscheduler(clock, os.SCHED_IDLE, os.sched_param(0))",
        "policy became SCHED_IDLE instead of ",
    ),
    "batch": (
        "os.sched_setscheduler(clock, os.SCHED_BATCH, os.sched_param(0))",
        "policy became SCHED_BATCH instead of ",
    ),
    "one processor": ("os.sched_setaffinity(clock, {min(os.sched_getaffinity(clock))})", "processors became"),
    "idle I/O": (
        f"assert ctypes.CDLL(None).syscall({IOPRIO_SET}, 1, clock, 3 << 13) == 0",
        "I/O priority became 24576 instead of ",
    ),
}

# The program of the process that holds the clock: it waits for the change, restores, and tells
CLOCK = (
    f"import sys; sys.path[:0] = {PACKAGES}\n"
    "from flair_ingestion import scheduling\n"
    "from flair_scoring.base.errors import UsageError\n"
    "import json\n"
    "before = scheduling.current_scheduling()\n"
    "assert scheduling.restore_scheduling(before) == []\n"
    "print('ready', flush=True); input()\n"
    "changed = scheduling.current_scheduling() != before\n"
    "try: told, error = scheduling.restore_scheduling(before), None\n"
    "except UsageError as problem: told, error = [], str(problem)\n"
    "same = scheduling.current_scheduling() == before\n"
    "print(json.dumps({'changed': changed, 'told': told, 'error': error, 'same': same}))\n"
)


CAP_SYS_NICE = 23
CAPABILITIES = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
if len(os.sched_getaffinity(0)) == 1:
    del CHANGES["one processor"]  # this machine has only one
UNDONE_BY_ALL = [name for name in CHANGES if name not in ("renice", "idle")]


def change_a_clock(change: str, **options: Any) -> dict[str, Any]:
    """What the process that holds the clock tells after another process has run `change` on it."""
    clock = subprocess.Popen(
        [sys.executable, "-c", CLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    assert clock.stdout
    assert clock.stdout.readline() == "ready\n"
    code = f"import ctypes, os; clock = {clock.pid}; {change}"
    subprocess.run([sys.executable, "-c", code], check=True)
    answer, _ = clock.communicate("\n", timeout=60)
    assert clock.returncode == 0
    told: dict[str, Any] = json.loads(answer)
    return told


@pytest.mark.parametrize("name", CHANGES if CAPABILITIES >> CAP_SYS_NICE & 1 else UNDONE_BY_ALL)
def test_what_another_process_has_changed_is_put_back_and_told(name: str) -> None:
    change, word = CHANGES[name]
    found = change_a_clock(change)
    assert found["changed"]
    assert found["same"]
    assert found["error"] is None
    (sentence,) = found["told"]
    assert word in sentence
    assert sentence.endswith("it was put back")


def test_several_changes_are_told_one_by_one() -> None:
    found = change_a_clock(f"{CHANGES['idle I/O'][0]}; {CHANGES['batch'][0]}")
    assert found["same"]
    assert len(found["told"]) == 2


@pytest.mark.parametrize("name", ["renice", "idle"])
def test_without_the_right_to_put_it_back_the_time_is_worthless(name: str) -> None:
    change, word = CHANGES[name]
    found = change_a_clock(change, preexec_fn=drop_all_capabilities)
    assert found["changed"]
    assert not found["same"]
    assert word in found["error"]
    assert "so a time measured now would be worthless" in found["error"]
    assert "\n" not in found["error"]


@pytest.mark.parametrize("name", UNDONE_BY_ALL)
def test_without_capabilities_processors_and_io_are_put_back(name: str) -> None:
    found = change_a_clock(CHANGES[name][0], preexec_fn=drop_all_capabilities)
    assert found["changed"]
    assert found["same"]
    assert found["error"] is None


def test_it_is_the_main_threads_whoever_asks() -> None:
    seen: list[scheduling.Scheduling] = []

    def ask() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        seen.append(scheduling.current_scheduling())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [scheduling.current_scheduling()]


def test_a_machine_without_numbers_for_io_priorities_is_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    found = scheduling.current_scheduling()
    assert found.io_priority is None
    assert scheduling.restore_scheduling(found) == []
