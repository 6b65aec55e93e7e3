from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ingest_command import run_ingest

from flair_ingestion import cage, child, probe, processes, seccomp
from flair_ingestion.devices import Device
from flair_ingestion.limits import read_limits
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.errors import SubmissionError, UsageError

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from zoo import lay_out

LEVEL = "full" if cage.landlock_version() else "process"  # what this kernel can give
PACKAGE = Path(cage.__file__).parent
NOBODY = 65534


def drop_all_capabilities() -> None:
    """As in a container that is started with --cap-drop ALL."""
    libc = ctypes.CDLL(None)
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    assert libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)) == 0


IDENTITIES: dict[str, dict[str, Any]] = {
    "myself": {},
    "no capabilities": {"preexec_fn": drop_all_capabilities},
}
if os.geteuid() == 0:
    IDENTITIES["an ordinary user"] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@pytest.fixture(scope="module")
def public_copy() -> Iterator[Path]:
    """The package alone, where every user may read it, with a folder where every user may write."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "tmp").mkdir()
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o777 if path.name == "tmp" else 0o755)
        yield copy


def reachable_python(identity: dict[str, Any]) -> str:
    """This interpreter, or the system's where a user cannot reach this one."""
    try:
        subprocess.run([sys.executable, "-c", ""], **identity, check=True, cwd="/")
    except PermissionError:
        return "/usr/bin/python3"
    return sys.executable


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_probe_finds_that_the_cage_holds_whoever_runs_it(name: str, public_copy: Path) -> None:
    identity = IDENTITIES[name]
    command = [reachable_python(identity), "-B", str(public_copy / PACKAGE.name / "runner.py"), "--probe"]
    environment = {"TMPDIR": str(public_copy / "tmp")}
    done = subprocess.run(
        command, **identity, capture_output=True, text=True, env=environment, cwd="/", timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    level, _, *rows = done.stdout.splitlines()
    assert level == f"cage level: {LEVEL}"
    assert len(rows) == len(probe.ATTEMPTS) + 1
    assert not list((public_copy / "tmp").iterdir())


@pytest.mark.parametrize(
    ("landlock", "filtered", "level"),
    [(5, True, "full"), (3, True, "full"), (5, False, "files"), (0, True, "process"), (0, False, "process")],
)
def test_a_weaker_kernel_gives_a_lower_level_and_still_keeps_what_that_promises(
    landlock: int, filtered: bool, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if landlock:
        landlock = min(landlock, cage.landlock_version())
        level = level if landlock else "process"
    monkeypatch.setattr(cage, "landlock_version", lambda: landlock)
    if not filtered:
        monkeypatch.setattr(cage, "system_call_filter", lambda child: None)
    reached, rows = probe.probe()
    assert reached == level
    assert [row for row in rows if not row.fine] == []
    found = {row.what: row.observed for row in rows}
    if not filtered:  # the probe notices what is not prevented
        assert found["send by UDP"] == found["keep shared memory"] == "allowed"
    if not landlock:
        assert found["read a label"] == found["write into the output"] == "allowed"


def test_the_probe_fails_where_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        probe.Row("fly", "denied", "allowed"),
        probe.Row("sing", "open", "allowed"),
        probe.Row("walk", "allowed", "denied: EPERM"),
    ]
    monkeypatch.setattr(probe, "probe", lambda: ("files", rows))
    with pytest.raises(SystemExit) as ended:
        probe.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines() if "WRONG" in line] == ["fly", "walk"]
    assert "2 of 3 are not as level 'files' promises" in told.err


def test_a_probe_without_an_answer_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "probe.py"
    broken.write_text("")
    monkeypatch.setattr(probe, "__file__", str(broken))
    with pytest.raises(SystemExit) as ended:
        probe.main()
    assert ended.value.code == 2
    assert "the probe cannot run here: the child died" in capsys.readouterr().err


def run_filtered(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` with the filter on, `libc` and `runner` at hand."""
    program = seccomp.system_call_filter(None)
    assert program, f"no filter for {platform.machine()}"
    prologue = (
        "import ctypes, os, runpy\n"
        f"runner = runpy.run_path({str(PACKAGE / 'runner.py')!r})\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0\n"
        f"runner['install_filter'](libc, bytes.fromhex({program.hex()!r}))\n"
    )
    return subprocess.run([sys.executable, "-c", prologue + code], capture_output=True, text=True)


def test_every_call_of_the_lists_is_refused_or_without_effect() -> None:
    column = ["x86_64", "aarch64"].index(platform.machine())
    lists = [
        [n[column] for n in numbers.values() if n[column]]
        for numbers in (seccomp.REFUSED, seccomp.WITHOUT_EFFECT)
    ]
    code = (  # arguments that no call accepts: without the filter, errors of many kinds
        f"refused, idle = {lists}\n"
        "for number in refused + idle:\n"
        "    result = libc.syscall(number, -1, -1, -1, -1, -1, -1)\n"
        "    print(number, result, ctypes.get_errno() if result else 0)\n"
    )
    done = run_filtered(code)
    assert done.returncode == 0, done.stderr
    seen = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert seen == [(number, -1, 1) for number in lists[0]] + [(number, 0, 0) for number in lists[1]]


def test_the_filter_lets_honest_code_work() -> None:
    code = (
        "import multiprocessing.dummy, shutil, socket, subprocess, sys, tempfile, threading\n"
        "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    shutil.copy2(sys.executable, folder); shutil.copytree(folder, folder + '/copy')\n"
        "assert multiprocessing.dummy.Pool(4).map(abs, [-1]) == [1]\n"
        "subprocess.run([sys.executable, '-c', ''], check=True, start_new_session=True)\n"
        "os.close(os.memfd_create('x')); os.sched_setaffinity(0, os.sched_getaffinity(0))\n"
        "os.kill(os.getpid(), 0)\n"
        "import torch; torch.set_num_threads(2); torch.rand(500, 500) @ torch.rand(500, 500); print('done')\n"
    )
    done = run_filtered(code)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    "family", [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK, 38]
)
def test_no_family_of_sockets_but_the_local_one_exists(family: int) -> None:
    code = (
        "pair = ctypes.create_string_buffer(8)\n"
        "for kind in (1, 2, 3, 5):\n"
        f"    print(libc.socket({int(family)}, kind, 0), ctypes.get_errno())\n"
        f"    print(libc.socketpair({int(family)}, kind, 0, pair), ctypes.get_errno())\n"
    )
    assert run_filtered(code).stdout == "-1 1\n" * 8


def test_calls_of_another_architecture_kill() -> None:
    code = "os.kill(os.getpid(), 0)"
    if platform.machine() == "x86_64":  # getpid of 32-bit programs, in machine code
        code = (
            "import mmap\n"
            "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
            "page.write(bytes.fromhex('b814000000cd80c3'))\n"
            "print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())\n"
        )
        # SIGSEGV where the kernel knows no 32-bit programs
        assert run_filtered(code).returncode in (-signal.SIGSYS, -signal.SIGSEGV)
    assert run_filtered("").returncode == 0


def test_an_unknown_machine_gets_no_filter() -> None:
    assert seccomp.system_call_filter(None, "riscv64") is None
    assert seccomp.system_call_filter(None, "x86_64") != seccomp.system_call_filter(None, "aarch64")


def start_holder(code: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process that has run `code` and waits."""
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import os, mmap, signal\n{code}\nprint(flush=True)\nsignal.pause()"],
        stdout=subprocess.PIPE,
        **options,
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"\n"
    return holder


def held_mib(root: subprocess.Popen[bytes], enough: float) -> float:
    family = processes.descendants(os.getpid())
    below = {root.pid}
    for process in family:
        if process.parent in below:
            below.add(process.pid)
    return processes.held_mib([process for process in family if process.pid in below], enough)


@pytest.mark.parametrize("enough", [1e6, 0.0])
def test_memory_is_counted_whether_mapped_or_not_and_once_where_it_is_shared(enough: float) -> None:
    """Processes that hold a known 128 MiB more than an idle one."""
    fill = "x = b'x' * (128 << 20)"
    unmapped = "f = os.memfd_create('x')\nfor _ in range(128): os.write(f, bytes(1 << 20))"
    mapped = f"{unmapped}\nm = mmap.mmap(f, 0)\nsum(m[::4096])\n"
    shared = f"{fill}\nfor _ in range(3):\n    if os.fork() == 0: signal.pause()"
    holders = {
        name: start_holder(code, start_new_session=True)
        for name, code in {"": "", "x": fill, "u": unmapped, "m": mapped, "s": shared}.items()
    }
    try:
        held = {name: held_mib(holder, enough) for name, holder in holders.items()}
    finally:
        for holder in holders.values():
            os.killpg(holder.pid, signal.SIGKILL)
            holder.communicate()
    more = {name: mib - held[""] for name, mib in held.items()}
    assert more["x"] == pytest.approx(128, abs=16)
    assert more["u"] == pytest.approx(128, abs=16)
    if enough:  # quick sums may count twice, never too little
        assert min(more["m"], more["s"]) > 112
    else:
        assert more["m"] == pytest.approx(128, abs=16)
        assert more["s"] == pytest.approx(128, abs=48)


@pytest.mark.parametrize("limit", ["MAX_PROCESSES", "MAX_THREADS"])
def test_too_many_processes_or_threads_are_the_submissions_fault(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cage.shield_parent()
    monkeypatch.setattr(child, limit, 0)
    monkeypatch.setattr(child, "_WATCH_SECONDS", 0)
    started = child.Child(cage.environment(tmp_path, None), tmp_path, 32, float("inf"))
    try:
        with pytest.raises(SubmissionError, match="test: the submission runs 1 processes with 1 threads"):
            started.watch("test")
    finally:
        started.close()
    assert started.pid not in {process.pid for process in processes.list_processes()}


def test_a_submission_reaches_its_own_things_and_nothing_else(flair_tree: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(flair_tree, data)
    (tmp_path / "output").mkdir()
    file = data / "flair_aerial_metadata.json"
    content = file.read_bytes()
    submission = lay_out("reaches_out", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        targets = {"data": str(data), "file": str(file), "output": str(tmp_path / "output")}
        targets["port"] = server.getsockname()[1]
        (submission / "targets.json").write_text(json.dumps(targets))
        options = ["--limit-ratio", 0, "--require-cage", "full"]
        done = run_ingest(tmp_path, data, submission, tmp_path / "output", *options)
    if LEVEL != "full":
        assert done.returncode == 2
        assert f"reaches level '{LEVEL}' here; --require-cage asks for 'full'" in done.stderr
        return
    assert "RuntimeError: tried everything" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "list the data" in line]
    tried = json.loads(line.partition("| ")[2])
    succeeded = [what for what in tried if tried[what]]
    assert succeeded == ["write its home", "discard output", "read its own status"]
    assert file.read_bytes() == content
    assert not Path("/dev/shm/flair2-test").exists()


@pytest.mark.parametrize(
    "place", [Path(sys.prefix), Path(sys.base_prefix) / "share", Path("/usr/local/data")]
)
def test_data_where_a_submission_may_read_are_refused(place: Path, tmp_path: Path) -> None:
    cage.require_hidden(tmp_path)
    with pytest.raises(UsageError, match="which a submission may read; move the data elsewhere"):
        cage.require_hidden(place)


def test_levels_are_ordered_and_none_is_claimed_without_all_of_its_parts() -> None:
    parts = ("own_session", "no_new_privileges", "root_hidden", "network_refused")
    report = dict.fromkeys(parts, True)
    assert cage.reached_level(True, report) == "full"
    assert cage.reached_level(True, report | {"network_refused": False}) == "files"
    assert cage.reached_level(True, report | {"root_hidden": False}) == "process"
    assert cage.reached_level(True, report | {"no_new_privileges": False}) == "none"
    assert cage.reached_level(True, report | {"own_session": False}) == "none"
    assert cage.reached_level(False, report) == "none"
    for reached, required in [("process", "process"), ("files", "none"), ("full", "full")]:
        cage.require_level(reached, required)
    for reached, required in [("none", "process"), ("process", "files"), ("files", "full")]:
        with pytest.raises(UsageError, match=f"level '{reached}' here; --require-cage asks for '{required}'"):
            cage.require_level(reached, required)


def test_what_a_level_leaves_open_is_said() -> None:
    assert cage.describe_level("full", cuda=False) == "full"
    assert "network" in cage.describe_level("files", cuda=False)
    assert "Landlock" in cage.describe_level("process", cuda=False)
    assert "untested" in cage.describe_level("full", cuda=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there to be seen")
def test_a_gpu_that_torch_does_not_see_is_the_machines_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    submission = open_submission(lay_out("honest_constant", tmp_path), 1)
    device = Device("cuda", "a GPU", "0", {})
    with (
        pytest.raises(UsageError, match="torch sees no CUDA device"),
        Session(submission, device, read_limits(), time.monotonic() + 300) as session,
    ):
        session.start("none")
    assert ("trying without" in capfd.readouterr().err) is bool(cage.landlock_version())
