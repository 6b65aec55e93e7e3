"""How much memory processes hold: never counted too low, shared memory once, hidden memory without end."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from holders import as_ordinary_user, holder, wait_for_state

from flair_ingestion.processes import holdings, memory, process_tree, threads

MIB = 128  # what a process holds here, more than an idle one
QUICK, EXACT = 1e6, 0.0  # values of `enough` that select the quick or the exact sum
FILL = f"x = b'x' * ({MIB} << 20)"
FILE = f"f = os.memfd_create('x')\nfor _ in range({MIB}): os.write(f, bytes(1 << 20))"
PART = f"{FILE}\nmap_part(f, 4096)\nos.close(f)"
SHARED = f"m = mmap.mmap(-1, {MIB} << 20)\nfor i in range(0, len(m), 4096): m[i] = 1"


def held_mib(root: int, enough: float, known: Mapping[int, float] | None = None) -> float:
    """MiB that a process and all processes below it hold."""
    family = process_tree.descendants(os.getpid())
    below = {root}
    for process in family:
        if process.parent in below:
            below.add(process.pid)
    return memory.held_mib([process for process in family if process.pid in below], enough, known or {})


def more_mib(code: str, enough: float) -> float:
    """MiB that a process which has run `code` holds more than one which has not."""
    with holder("") as idle, holder(code) as busy:
        return held_mib(busy.pid, enough) - held_mib(idle.pid, enough)


@pytest.mark.parametrize("enough", [QUICK, EXACT])
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(FILL, id="anonymous"),
        pytest.param(FILE, id="unmapped"),
        pytest.param(f"{FILE}\nm = mmap.mmap(f, 0)\nsum(m[::4096])", id="mapped"),
        pytest.param(f"{FILE}\nmap_part(f, {MIB} << 20)\nos.close(f)", id="closed"),
        pytest.param(f"{FILL}\nfor _ in range(3):\n    if os.fork() == 0: signal.pause()", id="forked"),
        pytest.param(f"{SHARED}\nm.madvise(mmap.MADV_DONTNEED)", id="shared, not resident"),
        pytest.param(f"{SHARED}\nfor _ in range(3):\n    if os.fork() == 0: signal.pause()", id="shared"),
        pytest.param(f"{FILL}\nend_main_thread()", id="ended main"),
        pytest.param(f"{FILE}\nend_main_thread()", id="unmapped, ended main"),
        pytest.param(f"{SHARED}\nm.madvise(mmap.MADV_DONTNEED)\nend_main_thread()", id="shared, ended main"),
        pytest.param(
            "def own():\n    assert libc.unshare(0x400) == 0\n"  # CLONE_FILES
            + "".join(f"    {line}\n" for line in FILE.splitlines())
            + "    ready()\nthreading.Thread(target=own).start()\nsignal.pause()",
            id="descriptors of a thread",
        ),
        pytest.param(
            f"m = mmap.mmap(-1, {MIB} << 29, flags=0x4022, prot=mmap.PROT_READ)\n"  # private, not reserved
            "m.madvise(mmap.MADV_NOHUGEPAGE)\nfor i in range(0, len(m), 1 << 21): m[i]",
            id="tables of empty pages",
        ),
    ],
)
def test_memory_is_counted_however_it_is_held_and_once_where_it_is_shared(code: str, enough: float) -> None:
    more = more_mib(code, enough)
    if enough == QUICK:  # the quick sum may count memory twice, and never too little
        assert more > MIB - 16
    else:
        assert more == pytest.approx(MIB, abs=48 if "fork" in code else 16)


def test_a_program_without_a_name_counts() -> None:
    code = (
        f"{FILE}\nwith open('/bin/sleep', 'rb') as program: os.pwrite(f, program.read(), 0)\n"
        "print(flush=True)\nos.execve(f, ['sleep', '1000'], {})"
    )
    with holder("") as idle, holder(code) as busy:
        while b"sleep" not in threads.read(f"/proc/{busy.pid}/cmdline"):
            time.sleep(0.001)
        assert held_mib(busy.pid, QUICK) - held_mib(idle.pid, QUICK) > MIB - 32


def test_memory_that_two_processes_share_as_a_whole_counts_once() -> None:
    code = (
        f"{FILL}\nwaiting = threading.Thread(target=clone, args=(0x4100,))\nwaiting.start()\n"  # as vfork
        "while not open(f'/proc/self/task/{waiting.native_id}/children').read(): time.sleep(0.001)"
    )
    with holder("") as idle, holder(code) as busy:
        if len(threads.distinct([busy.pid, *threads.thread_ids(busy.pid)], threads.MEMORY)) > 1:
            pytest.skip("the kernel does not say here who shares memory")
        assert held_mib(busy.pid, EXACT) - held_mib(idle.pid, EXACT) == pytest.approx(MIB, abs=16)


def part_of_a_closed_file() -> tuple[bool, float, float]:
    """Whether mapped files may be looked up; MiB counted for a part of one, and for a part of a known one."""
    with holder("") as idle, holder(PART) as busy:
        found = holdings.look_into(busy.pid, holdings.memory_device())
        assert found
        (part,) = found.mapped
        idle_mib = held_mib(idle.pid, EXACT)
        told = held_mib(busy.pid, EXACT, {part.inode: 1000})
        return part.status() is not None, held_mib(busy.pid, EXACT) - idle_mib, told - idle_mib


def test_of_a_closed_file_of_which_a_part_is_mapped_all_counts_as_far_as_it_can_be_known() -> None:
    may_look, counted, told = part_of_a_closed_file()
    assert counted == pytest.approx(MIB if may_look else 0, abs=16)
    assert told == pytest.approx(1000, abs=16)


def test_what_was_handed_over_counts_without_privileges_too() -> None:
    may_look, counted, told = as_ordinary_user(part_of_a_closed_file)
    assert not may_look
    assert counted == pytest.approx(0, abs=16)
    assert told == pytest.approx(1000, abs=16)


@pytest.mark.parametrize("end", ["", "end_main_thread()"])
def test_resident_memory_and_its_peak_are_read_through_a_living_thread(end: str) -> None:
    with holder(f"{FILL}\ndel x\nx = b'x' * ({MIB // 2} << 20)\n{end}") as busy:
        if end:
            wait_for_state(busy.pid, busy.pid, "Z")
        (process,) = [process for process in process_tree.list_processes() if process.pid == busy.pid]
        assert process.threads == (2 if end else 1)
        assert MIB / 2 < process.resident_mib < MIB
        assert MIB < memory.peak_mib(busy.pid) < MIB + 64


def test_what_has_ended_holds_nothing() -> None:
    with holder(f"{FILL}\nif os.fork() == 0: os._exit(0)") as busy:
        below = [process for process in process_tree.list_processes() if process.parent == busy.pid]
        wait_for_state(below[0].pid, below[0].pid, "Z")
        assert memory.held_mib(below, QUICK) == memory.held_mib(below, EXACT) == 0
        assert memory.peak_mib(below[0].pid) == 0
    assert memory.held_mib(below, QUICK) == memory.held_mib(below, EXACT) == 0
    assert memory.peak_mib(below[0].pid) == 0


def hide_memory() -> list[float]:
    """MiB counted for a program that this user may not read, and so may not look into."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(shutil.copy("/bin/sleep", folder))
        program.chmod(0o111)
        with subprocess.Popen([program, "1000"]) as hidden:
            try:
                family = [process for process in process_tree.list_processes() if process.pid == hidden.pid]
                return [memory.held_mib(family, enough) for enough in (QUICK, EXACT)]
            finally:
                hidden.kill()


def test_a_process_that_hides_what_it_holds_counts_as_too_much() -> None:
    assert as_ordinary_user(hide_memory) == [math.inf, math.inf]


def test_a_thread_that_ends_does_not_hide_the_one_that_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = iter([[1, 2], [1], [1, 3]])
    reports = {
        "/proc/1/task/2/status": b"Name:\tx\n",
        "/proc/1/task/3/status": b"Name:\tx\nVmRSS:\t1 kB\n",
    }
    monkeypatch.setattr(threads, "thread_ids", lambda _: next(listed))
    monkeypatch.setattr(threads, "read", lambda path: reports.get(path, b"Name:\tmain\nState:\tZ\n"))
    assert threads.living_thread(1) == (3, reports["/proc/1/task/3/status"])


def test_threads_that_follow_each_other_without_end_do_not_hide_memory() -> None:
    code = (
        f"{FILE}\ndef follow():\n    threading.Thread(target=follow).start()\n"
        "    time.sleep(0.0005)\nfor _ in range(3): follow()\nprint(flush=True)\nlibc.syscall(EXIT, 0)"
    )
    with holder(code) as busy:
        wait_for_state(busy.pid, busy.pid, "Z")
        assert all(held_mib(busy.pid, QUICK) > MIB for _ in range(50))
