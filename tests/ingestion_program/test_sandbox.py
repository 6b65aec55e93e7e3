"""The sandbox: what it denies on this kernel, on weaker ones, and to a real submission."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from entries import copy_submission
from filtered import drop_all_capabilities
from ingest_command import run_ingest

from copies import copy_folder
from flair_ingestion.devices.device import Device
from flair_ingestion.limits import read_limits
from flair_ingestion.processes import process_tree
from flair_ingestion.sandbox import attempts, child, policy, probe
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.base.errors import SubmissionError, UsageError

LEVEL = "full" if policy.landlock_version() else "process"  # what this kernel can give
PACKAGE = Path(policy.__file__).parents[1]
NOBODY = 65534


IDENTITIES: dict[str, dict[str, Any]] = {
    "myself": {},
    "no capabilities": {"preexec_fn": drop_all_capabilities},
}
if os.geteuid() == 0:
    IDENTITIES["an ordinary user"] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@pytest.fixture(scope="module")
def public_copy() -> Iterator[Path]:
    """A copy of flair_ingestion that every user may read, beside a folder where every user may write."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_folder(PACKAGE, copy / PACKAGE.name)
        (copy / "tmp").mkdir()
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o777 if path.name == "tmp" else 0o755)
        yield copy


def reachable_python(identity: dict[str, Any]) -> str:
    """This interpreter, or that of the system if the user cannot reach this one."""
    try:
        subprocess.run([sys.executable, "-c", ""], **identity, check=True, cwd="/")
    except PermissionError:
        return "/usr/bin/python3"
    return sys.executable


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_probe_finds_that_the_sandbox_holds_whoever_runs_it(name: str, public_copy: Path) -> None:
    identity = IDENTITIES[name]
    runner = public_copy / PACKAGE.name / "sandbox" / "runner.py"
    command = [reachable_python(identity), "-B", str(runner), "--probe"]
    temporary = public_copy / "tmp" / ("a long path, " * 8)  # longer than the address of a socket may be
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o777)
    environment = {"TMPDIR": str(temporary)}
    done = subprocess.run(
        command, **identity, capture_output=True, text=True, env=environment, cwd="/", timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    level, _, *rows = done.stdout.splitlines()
    assert level == f"sandbox level: {LEVEL}"
    assert len(rows) == len(attempts.ATTEMPTS) + 1
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("landlock", "filtered", "level"),
    [(5, True, "full"), (3, True, "full"), (5, False, "files"), (0, True, "process"), (0, False, "process")],
)
def test_a_weaker_kernel_gives_a_lower_level_and_still_keeps_what_that_promises(
    landlock: int, filtered: bool, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if landlock:
        landlock = min(landlock, policy.landlock_version())
        level = level if landlock else "process"
    monkeypatch.setattr(policy, "landlock_version", lambda: landlock)
    if not filtered:
        monkeypatch.setattr(policy, "system_call_filter", lambda child: None)
    reached, rows = probe.probe()
    assert reached == level
    assert [row for row in rows if not row.fine] == []
    found = {row.what: row.observed for row in rows}
    if not filtered:  # the probe reports what is not prevented
        assert found["send by UDP"] == found["keep shared memory"] == "allowed"
        assert found["connect to a daemon's socket"] == "allowed"
        assert found["set a timer that signals"] == found["signal from a descriptor"] == "allowed"
        assert found["child with another exit signal"] == found["ask for a death signal"] == "allowed"
        assert found["continue itself"] == found["punch a hole in memory"] == "allowed"
    if not landlock:
        assert found["read a label"] == found["write into the output"] == "allowed"


def test_the_probe_fails_where_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        probe.Observation("fly", "denied", "allowed"),
        probe.Observation("sing", "open", "allowed"),
        probe.Observation("walk", "allowed", "denied: EPERM"),
    ]
    monkeypatch.setattr(probe, "probe", lambda: ("files", rows))
    with pytest.raises(SystemExit) as ended:
        probe.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines() if "WRONG" in line] == ["fly", "walk"]
    assert "2 of 3 attempts did not end as level 'files' promises" in told.err


def test_a_probe_without_an_answer_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "attempts.py"
    broken.write_text("")
    monkeypatch.setattr(attempts, "__file__", str(broken))
    with pytest.raises(SystemExit) as ended:
        probe.main()
    assert ended.value.code == 2
    assert "the probe cannot run here: the child died" in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["MAX_PROCESSES", "MAX_THREADS"])
def test_too_many_processes_or_threads_are_the_submissions_fault(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert policy.shield_parent()
    monkeypatch.setattr(child, limit, 0)
    monkeypatch.setattr(child, "_WATCH_SECONDS", 0)
    started = child.Child(policy.environment(tmp_path, None), tmp_path, 32, 4, float("inf"))
    try:
        with pytest.raises(SubmissionError, match="test: the submission runs 1 processes with 1 threads"):
            started.watch("test")
    finally:
        started.close()
    assert started.pid not in {process.pid for process in process_tree.list_processes()}


def test_a_submission_reaches_its_own_things_and_nothing_else(flair_tree: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(flair_tree, data)
    (tmp_path / "output").mkdir()
    file = data / "flair_aerial_metadata.json"
    content = file.read_bytes()
    submission = copy_submission("reaches_out", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        targets = {"data": str(data), "file": str(file), "output": str(tmp_path / "output")}
        targets["port"] = server.getsockname()[1]
        (submission / "targets.json").write_text(json.dumps(targets))
        options = ["--limit-ratio", 0, "--require-sandbox", "full"]
        done = run_ingest(tmp_path, data, submission, tmp_path / "output", *options)
    if LEVEL != "full":
        assert done.returncode == 2
        assert f"reaches level '{LEVEL}' here; --require-sandbox asks for 'full'" in done.stderr
        return
    assert "RuntimeError: tried everything" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "list the data" in line]
    tried = json.loads(line.partition("| ")[2])
    succeeded = [what for what in tried if tried[what]]
    assert succeeded == ["write its home", "discard output", "read its own status"]
    assert file.read_bytes() == content
    assert not Path("/dev/shm/flair2-test").exists()


@pytest.mark.parametrize(
    "folder", [Path(sys.prefix), Path(sys.base_prefix) / "share", Path("/usr/local/data")]
)
def test_data_where_a_submission_may_read_are_refused(folder: Path, tmp_path: Path) -> None:
    policy.require_hidden(tmp_path)
    with pytest.raises(UsageError, match="which a submission may read; move the data elsewhere"):
        policy.require_hidden(folder)


def test_libraries_that_the_loader_finds_are_open_with_their_whole_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some images have torch's libraries in /opt."""
    configuration = tmp_path / "cluster.conf"
    configuration.write_text("# comment\ninclude other/*.conf\n/opt/cluster/mpi/lib\n/srv/libraries \n")
    monkeypatch.setattr(policy, "_LOADER", [configuration, tmp_path / "absent.conf"])
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/driver/lib64::relative:/opt")
    before = {sys.prefix, sys.base_prefix, *policy._SYSTEM}
    assert set(policy._code_paths()) - before == {"/opt/cluster", "/srv/libraries", "/opt/driver", "/opt"}
    with pytest.raises(UsageError, match="below /opt, which"):
        policy.require_hidden(Path("/opt/cluster/data"))


def test_what_the_driver_reads_is_open_with_a_gpu_only(tmp_path: Path) -> None:
    if not policy.landlock_version():
        pytest.skip("no Landlock")
    for gpu in ([], ["/dev/null"]):
        orders = policy.landlock(tmp_path, tmp_path, gpu)
        assert orders
        opened = {path for path, _ in orders["rules"]}
        assert ("/proc/sys/vm/mmap_min_addr" in opened) is bool(gpu)
        assert "/proc/sys" not in opened


def test_levels_are_ordered_and_none_is_claimed_without_all_of_its_parts() -> None:
    parts = ("own_session", "no_new_privileges", "root_hidden", "network_refused")
    report = dict.fromkeys(parts, True)
    assert policy.reached_level(True, report) == "full"
    assert policy.reached_level(True, report | {"network_refused": False}) == "files"
    assert policy.reached_level(True, report | {"root_hidden": False}) == "process"
    assert policy.reached_level(True, report | {"no_new_privileges": False}) == "none"
    assert policy.reached_level(True, report | {"own_session": False}) == "none"
    assert policy.reached_level(False, report) == "none"
    for reached, required in [("process", "process"), ("files", "none"), ("full", "full")]:
        policy.require_level(reached, required)
    for reached, required in [("none", "process"), ("process", "files"), ("files", "full")]:
        with pytest.raises(UsageError, match=f"'{reached}' here; --require-sandbox asks for '{required}'"):
            policy.require_level(reached, required)


def test_what_a_level_leaves_open_is_said() -> None:
    assert policy.describe_level("full", cuda=False) == "full"
    assert "network" in policy.describe_level("files", cuda=False)
    assert "Landlock" in policy.describe_level("process", cuda=False)
    assert "untested" in policy.describe_level("full", cuda=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there to be seen")
def test_a_gpu_that_torch_does_not_see_is_the_machines_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    submission = open_submission(copy_submission("honest_constant", tmp_path), 1)
    device = Device("cuda", "a GPU", "0", {})
    with (
        pytest.raises(UsageError, match="torch sees no CUDA device"),
        Session(submission, device, read_limits(), time.monotonic() + 300) as session,
    ):
        session.start("none")
    assert ("trying without" in capfd.readouterr().err) is bool(policy.landlock_version())
