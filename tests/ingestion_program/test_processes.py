"""The processes below this one: all are found with their states, and all are ended."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from holders import holder, wait_for_state

from flair_ingestion.processes import look, process_tree
from flair_ingestion.processes.look import UNSEEN, KeptFiles
from flair_ingestion.processes.process_tree import family, processor_seconds, thread_states
from flair_ingestion.processes.threads import thread_ids

SUBREAPER = 36
WAYS = ("plain", "kept", "kept, few", "starter", "kept, starter", "no lists")
SLEEPERS = "def sleeper(): threading.Thread(target=time.sleep, args=(1000,)).start()\n"
FORKS = "reading, writing = os.pipe()\n"  # a fork writes its number there
FORKED = "os.read(reading, 1)\n"

# Code of a process, and the states of all threads below it once its group is stopped
FAMILIES = {
    "one": ("", "T"),
    "threads": (f"{SLEEPERS}for _ in range(8): sleeper()", "T" * 9),
    "forks": (
        f"{FORKS}{SLEEPERS}if os.fork() == 0:\n    sleeper()\n"
        f"    if os.fork() == 0: os.write(writing, b'x')\n    signal.pause()\n{FORKED}",
        "TTTT",
    ),
    "child of a thread": (
        f"{FORKS}def fork():\n    if os.fork() == 0: os.write(writing, b'x')\n    signal.pause()\n"
        f"threading.Thread(target=fork).start()\n{FORKED}",
        "TTT",
    ),
    "child of a thread that has ended": (
        "def fork():\n    if os.fork() == 0: time.sleep(1000)\n"
        "thread = threading.Thread(target=fork)\nthread.start()\nthread.join()",
        "TT",
    ),
    "main thread has ended": (f"{SLEEPERS}sleeper()\nend_main_thread()", "TTZ"),
    "child of another thread than the ended main one": (
        f"{FORKS}def fork():\n    if os.fork() == 0: time.sleep(1000)\n    ready()\n"
        "threading.Thread(target=fork).start()\nlibc.syscall(EXIT, 0)",
        "TTZ",
    ),
    "zombie": ("if os.fork() == 0: os._exit(0)", "TZ"),
    "as by vfork": (
        "waiting = threading.Thread(target=clone, args=(0x4100,))\nwaiting.start()\n"
        "while not open(f'/proc/self/task/{waiting.native_id}/children').read(): time.sleep(0.001)",
        "DTT",
    ),
    "detached": (
        f"{FORKS}if os.fork() == 0:\n    if os.fork() == 0:\n"
        "        while os.getppid() != int(sys.argv[1]): pass\n        os.write(writing, b'x')\n"
        f"        time.sleep(1000)\n    os._exit(0)\nos.wait()\n{FORKED}",
        "TT",
    ),
    "sibling": ("clone(0x8000)", "TT"),  # CLONE_PARENT
    "many": ("for _ in range(900):\n    if os.fork() == 0: signal.pause()", "T" * 901),
}


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    """Let this process adopt the orphans of each test, and end them."""
    libc = ctypes.CDLL(None)
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    spared = process_tree.children(os.getpid())
    yield
    process_tree.end_descendants(spared)
    libc.prctl(SUBREAPER, 0, 0, 0, 0)


def listed(spared: set[int]) -> Counter[int]:
    """The number of threads of each process below this one, counted in all of /proc."""
    return Counter(
        {process.pid: process.threads for process in process_tree.descendants(os.getpid(), spared)}
    )


@pytest.mark.parametrize(
    ("name", "way"),
    [*itertools.product([name for name in FAMILIES if name != "many"], WAYS), ("many", "kept")],
)
def test_a_family_is_seen_as_a_whole_once_it_stands_still(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "no lists":
        monkeypatch.setattr(look, "lists_children", lambda: False)
        monkeypatch.setattr(process_tree, "lists_children", lambda: False)
    code, expected = FAMILIES[name]
    spared = process_tree.children(os.getpid())
    starter = threading.get_native_id() if "starter" in way else None
    with KeptFiles(6 if "few" in way else None) as files, holder(code, os.getpid()) as root:
        deadline = time.monotonic() + 10
        states = ""
        while states != expected and time.monotonic() < deadline:  # a process may have been stopped too early
            os.killpg(root.pid, signal.SIGCONT)
            time.sleep(0.002)
            os.killpg(root.pid, signal.SIGSTOP)
            time.sleep(0.002)
            seen = family(root.pid, spared, files if "kept" in way else None, starter)
            states = "".join(sorted(thread_states(seen).values()))
        assert states == expected
        assert Counter({one.pid: len(one.states) for one in seen}) == listed(spared)
    process_tree.end_descendants(spared)
    assert family(root.pid, spared) == []


class Disturbed(KeptFiles):
    """Files of /proc, with an event right before one thread is looked at for the first time."""

    def __init__(self, tid: int, happen: Callable[[], None]) -> None:
        super().__init__()
        self.tid, self.happen = tid, happen

    def look(self, pid: int, tid: int) -> tuple[bytes, bytes] | None:
        if tid == self.tid:
            self.tid = 0
            self.happen()
        return super().look(pid, tid)


def test_a_process_does_not_hide_by_the_end_of_its_parent_during_a_look() -> None:
    """When the thread that is its parent ends, the main thread gets it, whose children were read before."""
    code = f"{FORKS}def fork():\n    if os.fork() == 0: os.write(writing, b'x'); signal.pause()\n"
    code += f"    sys.stdin.read()\nthreading.Thread(target=fork).start()\n{FORKED}"
    spared = process_tree.children(os.getpid())
    with holder(code, stdin=subprocess.PIPE) as root:
        (tid,) = set(thread_ids(root.pid)) - {root.pid}

        def end_thread() -> None:
            assert root.stdin
            root.stdin.close()
            while tid in thread_ids(root.pid):
                time.sleep(0.001)

        with Disturbed(tid, end_thread) as files:
            seen = family(root.pid, spared, files)
        root.stdin = None
        assert len(seen) == 2
        assert {one.pid: len(one.states) for one in seen} == listed(spared)


def test_an_orphan_that_comes_to_us_during_a_look_is_seen() -> None:
    code = f"{FORKS}if os.fork() == 0:\n    if os.fork() == 0: os.write(writing, b'x'); time.sleep(1000)\n"
    code += f"    signal.pause()\n{FORKED}"
    spared = process_tree.children(os.getpid())
    with holder(code) as root:
        (middle,) = process_tree.children(root.pid)

        def end_middle() -> None:
            os.kill(middle, signal.SIGKILL)
            wait_for_state(middle, middle, "Z")

        with Disturbed(middle, end_middle) as files:
            seen = family(root.pid, spared, files)
        assert len(seen) == 3
        assert {one.pid: len(one.states) for one in seen} == listed(spared)


def test_a_list_of_threads_that_the_kernel_has_cut_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [2, 5, 9]  # bytes of the list that are read, as when a thread ends meanwhile
    monkeypatch.setattr(look, "thread_ids", lambda pid: thread_ids(pid)[: lists.pop(0)])
    with holder(f"{SLEEPERS}for _ in range(8): sleeper()") as root:
        assert len(thread_states(family(root.pid, starter=os.getpid()))) == 9


def test_what_we_run_ourselves_is_spared_with_all_below_it() -> None:
    forks = "if os.fork() == 0: signal.pause()"
    with holder(forks) as ours:
        spared = process_tree.children(os.getpid())
        assert ours.pid in spared
        with holder(forks) as root:
            assert len(family(root.pid, spared)) == 2
            assert len(family(root.pid)) == 4


def test_kept_files_of_a_thread_that_has_ended_are_not_taken_for_another_one_with_its_number() -> None:
    spared = process_tree.children(os.getpid())
    with holder("") as gone, KeptFiles() as files:
        family(gone.pid, spared, files)
        kept = files._kept.pop(gone.pid)
    with files, holder("if os.fork() == 0: signal.pause()") as root:
        files._kept[root.pid] = kept
        assert len(family(root.pid, spared, files)) == 2


def test_files_are_closed_and_few_of_them_kept() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with holder(f"{SLEEPERS}for _ in range(30): sleeper()") as root, KeptFiles(20) as files:
        for _ in range(3):
            assert len(thread_states(family(root.pid, files=files))) == 31
            assert len(os.listdir("/proc/self/fd")) <= before + 1 + 20
            family(root.pid)
        files.close()
        assert len(os.listdir("/proc/self/fd")) == before + 1  # the output of the holder


@pytest.mark.parametrize("kept", [False, True])
def test_a_family_that_changes_all_the_time_can_be_looked_at(kept: bool) -> None:
    code = (
        "def follow():\n    threading.Thread(target=follow).start()\n    time.sleep(0.001)\n"
        "for _ in range(3): follow()\nprint(flush=True)\n"
        "while True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()"
    )
    spared = process_tree.children(os.getpid())
    with holder(code) as root, KeptFiles() as files:
        for _ in range(100):
            seen = family(root.pid, spared, files if kept else None)
            assert root.pid in {one.pid for one in seen}
            assert set(thread_states(seen).values()) <= set(f"RSDZXt{UNSEEN}")
            processor_seconds([one.pid for one in seen])


def test_what_exists_but_cannot_be_seen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with holder("") as root:
        monkeypatch.setattr(KeptFiles, "look", lambda self, pid, tid: None)
        assert list(thread_states(family(root.pid)).values()) == [UNSEEN]
    root.wait()
    assert family(root.pid) == []


def test_processor_time_grows_while_a_process_works_and_only_then() -> None:
    with holder("threading.Thread(target=ready).start()\nwhile True: pass") as busy, holder("") as idle:
        wait_for_state(idle.pid, idle.pid, "S")
        first = processor_seconds([busy.pid, idle.pid])
        time.sleep(0.3)
        os.killpg(busy.pid, signal.SIGSTOP)
        time.sleep(0.1)
        then = processor_seconds([busy.pid, idle.pid])
        time.sleep(0.1)
        assert first
        assert then
        assert processor_seconds([busy.pid, idle.pid]) == then
        assert then[idle.pid] == first[idle.pid]
        assert then[busy.pid] - first[busy.pid] > 0.05
        fields = Path(f"/proc/{busy.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime
        assert then[busy.pid] == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"), abs=0.05)
    assert processor_seconds([busy.pid]) == {}


def test_a_kernel_that_tells_no_processor_time_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(clock: int) -> float:
        raise OSError

    monkeypatch.setattr(time, "clock_gettime", refuse)
    assert processor_seconds([os.getpid()]) is None
