"""The private folder of a run: what is in it is counted, and it is removed, whatever was built there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from holders import as_ordinary_user, holder

from flair_ingestion.processes.process_tree import children
from flair_ingestion.processes.threads import read
from flair_ingestion.sandbox import scratch
from flair_ingestion.sandbox.scratch import Holding, ScratchWatch, free_mib, private_folder, scratch_holding

BUILD = """
import os, sys
os.chdir(sys.argv[1])
for name in ("a/b/c", "moved-0/moved-1", "closed/inner"): os.makedirs("scratch/" + name)
os.makedirs("submission")
for target in ("/", "..", "nowhere", os.getcwd()): os.symlink(target, f"scratch/a/{abs(hash(target))}")
os.mkfifo("scratch/pipe")
open("scratch/a/b/readonly", "w").close()
os.chmod("scratch/a/b/readonly", 0)
os.chmod("scratch/closed/inner", 0)
os.chmod("scratch/closed", 0)
os.chdir("scratch")
for _ in range(1200):
    os.mkdir("x"); os.chdir("x")
"""


def test_whatever_was_built_is_removed_and_nothing_that_links_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    (kept / "file").write_text("x")
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        subprocess.run([sys.executable, "-c", BUILD, str(folder)], check=True)
        (folder / "scratch" / "a" / "outside").symlink_to(kept)
    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "file").read_text() == "x"


def test_an_error_inside_comes_out_and_the_folder_is_gone() -> None:
    folders = []

    def fail() -> None:
        with private_folder() as folder:
            folders.append(folder)
            (folder / "scratch").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not folders[0].exists()


def count(folder: Path, *pids: int, enough: float = 1e9) -> tuple[float, bool]:
    holding = scratch_holding(folder, enough, pids)
    return holding.mib, holding.complete


def du(folder: Path) -> float:
    """MiB in a folder as the system's du counts them."""
    done = subprocess.run(["du", "-s", "-B512", folder], capture_output=True, check=True)
    return int(done.stdout.split()[0]) / 2048


BUILD_MUCH = """
import os, sys
os.chdir(os.fsencode(sys.argv[1]))
for name in (b"one", b"a/two", b"a/b/\\xff\\n three"):
    os.makedirs(os.path.dirname(name) or b".", exist_ok=True)
    with open(name, "wb") as file: file.write(bytes(3 << 20))
os.link(b"one", b"a/again")
os.link(b"a/two", b"a/b/again")
os.symlink("/usr", "link")
os.symlink("x" * 200, "a/long link")
os.mkfifo("pipe")
with open("sparse", "wb") as file: file.truncate(1 << 30)
os.mkdir("closed", 0)
for _ in range(1500):
    os.mkdir("deep"); os.chdir("deep")
with open("deepest", "wb") as file: file.write(bytes(5 << 20))
"""


def test_all_in_a_folder_counts_once_however_deep_it_is_and_whatever_its_name(tmp_path: Path) -> None:
    with private_folder() as folder:
        (folder / "scratch").mkdir()
        subprocess.run([sys.executable, "-c", BUILD_MUCH, str(folder / "scratch")], check=True)
        mib, complete = count(folder)
        assert complete is os.access(folder / "scratch" / "closed", os.R_OK)
        if complete:
            assert mib == pytest.approx(du(folder), abs=0.01)
        assert mib > 14
        assert count(folder, enough=4)[0] < 9  # counting has ended early


HELD = {
    "open": "f = open('x', 'wb'); f.write(bytes(8 << 20)); f.flush(); os.unlink('x')",
    "mapped": "f = open('x', 'wb+'); f.write(bytes(8 << 20)); f.flush(); os.unlink('x')\n"
    "map_part(f.fileno(), 8 << 20); f.close()",
    "running": "with open('/bin/sleep', 'rb') as program: code = program.read()\n"
    "with open('x', 'wb') as f: f.write(code + bytes(8 << 20))\nos.chmod('x', 0o700)\n"
    "f = os.open('x', os.O_PATH | os.O_CLOEXEC)\nos.unlink('x')\n"
    "print(flush=True)\nos.execve(f, ['x', '1000'], {})",
}
HELD["open, twice"] = f"{HELD['open']}\ng = os.dup(f.fileno())\nif os.fork() == 0: signal.pause()"
HELD["open, no main thread"] = f"{HELD['open']}\nend_main_thread()"


@pytest.mark.parametrize("name", HELD)
def test_files_without_a_name_count_as_long_as_they_are_held(name: str, tmp_path: Path) -> None:
    with holder(HELD[name], cwd=tmp_path) as process:
        while name == "running" and b"1000" not in read(f"/proc/{process.pid}/cmdline"):
            time.sleep(0.001)
        pids = {process.pid, *children(process.pid)}
        assert du(tmp_path) < 1
        assert count(tmp_path, *pids) == (pytest.approx(8, abs=0.1), True)
        assert count(tmp_path, *pids)
    assert count(tmp_path, *pids)[0] < 1


def test_memory_is_no_disk(tmp_path: Path) -> None:
    with holder("f = os.memfd_create('x')\nos.write(f, bytes(8 << 20))\nm = mmap.mmap(f, 0)") as process:
        assert count(tmp_path, process.pid)[0] < 1


def look_into_closed_folder() -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "closed").mkdir(mode=0)
        (Path(folder) / "open").write_bytes(bytes(1 << 20))
        return list(count(Path(folder)))


def test_a_folder_that_is_closed_to_us_is_told_and_the_others_count() -> None:
    mib, complete = as_ordinary_user(look_into_closed_folder)
    assert mib > 1
    assert not complete


@pytest.mark.parametrize(("name", "value"), [("MAX_ENTRIES", 50), ("_MAX_SECONDS", 0.0)])
def test_the_effort_is_bounded(
    name: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(100):
        (tmp_path / f"{index}").write_bytes(b"")
    assert count(tmp_path)[1]
    monkeypatch.setattr(scratch, name, value)
    holding = scratch_holding(tmp_path, 1e9, [])
    assert not holding.complete
    assert holding.entries <= 52


def test_a_folder_that_moves_or_ends_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_in = scratch._count_in

    def move(folder: int, holding: Holding) -> list[str]:
        if os.fstat(folder).st_ino == inode:
            os.rename(tmp_path / "a" / "b", tmp_path / "moved")
        return count_in(folder, holding)

    (tmp_path / "a" / "b").mkdir(parents=True)
    inode = os.stat(tmp_path / "a" / "b").st_ino
    monkeypatch.setattr(scratch, "_count_in", move)
    assert not count(tmp_path)[1]
    assert not count(tmp_path / "nowhere")[1]
    (tmp_path / "file").write_text("")
    assert not count(tmp_path / "file")[1]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The free MiB and entries of a made-up disk, which a test changes."""
    free = {"mib": 1000.0, "entries": 1e6}
    monkeypatch.setattr(scratch, "_free", lambda folder: (free["mib"], free["entries"]))
    return free


def test_who_has_filled_the_disk_is_told(tmp_path: Path, disk: dict[str, float]) -> None:
    watch = ScratchWatch(tmp_path, 4)
    (tmp_path / "much").write_bytes(bytes(6 << 20))
    assert watch.excess([]) is None  # not counted: the free space has not changed
    disk["mib"] -= 5
    held = watch.excess([])
    assert held
    assert held.mib == pytest.approx(6, abs=0.1)
    assert held.complete
    (tmp_path / "much").unlink()
    assert watch.excess([]) is None  # others have filled the disk


def test_others_may_fill_the_disk_and_free_it_again(
    tmp_path: Path, disk: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def look(folder: Path, enough_mib: float, pids: object) -> Holding:
        looks.append(disk["mib"])
        return scratch_holding(folder, enough_mib, [])

    watch = ScratchWatch(tmp_path, 100)
    (tmp_path / "some").write_bytes(bytes(40 << 20))
    monkeypatch.setattr(scratch, "scratch_holding", look)
    for disk["mib"] in (950, 899, 898, 840, 838, 800):
        assert watch.excess([]) is None
    assert looks == [899, 838]  # the second 60 MiB further: the submission may still write so much
    disk["mib"] = 990
    assert watch.excess([]) is None
    (tmp_path / "more").write_bytes(bytes(61 << 20))
    disk["mib"] = 929
    assert watch.excess([])


def test_many_empty_files_fill_a_disk_too(
    tmp_path: Path, disk: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MAX_ENTRIES", 50)
    watch = ScratchWatch(tmp_path, 100)
    for index in range(100):
        (tmp_path / f"{index}").write_bytes(b"")
    assert watch.excess([]) is None
    disk["entries"] -= 100
    held = watch.excess([])
    assert held
    assert not held.complete


def test_a_folder_that_is_gone_is_the_submissions_doing(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    watch = ScratchWatch(tmp_path / "scratch", 100)
    (tmp_path / "scratch").rmdir()
    assert watch.excess([])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB for this test alone."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", tmp_path], capture_output=True)
    if done.returncode:
        pytest.skip("no disk can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_on_a_real_disk(small_disk: Path) -> None:
    for name in ("scratch", "spool"):
        (small_disk / name).mkdir()
    fill = "f = open(sys.argv[1] + '/x', 'wb'); f.write(bytes(24 << 20)); f.flush(); os.unlink(f.name)"
    watch = ScratchWatch(small_disk / "scratch", 16)
    assert free_mib(small_disk) == pytest.approx(shutil.disk_usage(small_disk).free / 2**20)
    with holder("", cwd=small_disk) as submission, holder(fill, small_disk / "spool"):
        assert free_mib(small_disk) < 48
        assert watch.excess([submission.pid]) is None
    assert watch.excess([]) is None
    with holder(fill, small_disk / "scratch") as submission:
        held = watch.excess([submission.pid])
        assert held
        assert held.mib == pytest.approx(24, abs=0.1)
