"""What the cage denies on this machine: a child in it attacks a parent like ingestion's, and both tell.

Runs on the standard library alone: `python ingestion_program/flair_ingestion/runner.py --probe`. Started by
itself as `python -I -B probe.py CONTROL`, this file is the child.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROCESS, _FILES, _FULL = "process", "files", "full"  # the level from which on an attempt is denied
_SECONDS = 60.0
_MESSAGE_BYTES = 1 << 16
_PTRACE_SEIZE, _PR_SET_DUMPABLE, _CLONE_NEWUSER, _IPC_RMID = 0x4206, 4, 0x10000000, 0
_PIDFD_OPEN, _PIDFD_GETFD, _IO_URING_SETUP = 434, 438, 425  # system calls, the same on all machines
_libc = ctypes.CDLL(None, use_errno=True)

Targets = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of the table. `expected`: denied, allowed, or open (the level reached does not prevent it)."""

    what: str
    expected: str
    observed: str

    @property
    def fine(self) -> bool:
        """Whether it is as expected."""
        return self.expected == "open" or self.observed.split(":")[0] == self.expected


def probe() -> tuple[str, list[Row]]:
    """The level that the cage reaches here, and what a process in it can and cannot do; may raise OSError."""
    from flair_ingestion import cage, processes  # here: the child knows no package
    from flair_ingestion.scratch import private_folder

    shielded, before = cage.shield_parent(), processes.children(os.getpid())
    with ExitStack() as stack:
        root = stack.enter_context(private_folder())
        targets = _lay_out(root, stack)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(control)
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-I", "-B", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=cage.environment(root / "scratch", None),
                cwd=root / "scratch",
                start_new_session=True,
            )
        stack.callback(child.wait)
        stack.callback(processes.end_descendants, before)
        control.settimeout(_SECONDS)
        orders = cage.orders(child.pid, root / "submission", root / "scratch", cuda=False)
        answer = b""
        with suppress(ConnectionError):
            control.send(json.dumps([orders, targets]).encode())
            answer = control.recv(_MESSAGE_BYTES)
        if not answer:
            raise OSError("the child died before it answered")
        report, told, forked = json.loads(answer)
        level = cage.reached_level(shielded, report)
        processes.end_descendants(before)
        stayed = any(process.pid in forked for process in processes.list_processes())
    told["leave a process behind"] = "allowed" if stayed else "denied: ended"
    denied = cage.LEVELS[: cage.LEVELS.index(level) + 1]
    promised = {what: from_level for what, from_level, _ in ATTEMPTS} | {"leave a process behind": _PROCESS}
    expected = {None: "allowed"} | {name: "denied" if name in denied else "open" for name in cage.LEVELS}
    return level, [Row(what, expected[promised[what]], told[what]) for what in promised]


def main() -> None:
    """Print the table; exit code 0 if everything is as it must be at the level reached, else 2."""
    try:
        level, rows = probe()
    except OSError as error:
        print(f"error: the probe cannot run here: {error}", file=sys.stderr)
        sys.exit(2)
    width = max(len(row.what) for row in rows)
    print(f"cage level: {level}")
    print(f"{'tried':{width}}  expected  observed")
    for row in rows:
        print(f"{row.what:{width}}  {row.expected:8}  {row.observed}{'' if row.fine else '   <- WRONG'}")
    wrong = sum(not row.fine for row in rows)
    if wrong:
        print(f"error: {wrong} of {len(rows)} are not as level {level!r} promises", file=sys.stderr)
    sys.exit(2 if wrong else 0)


def _lay_out(root: Path, stack: ExitStack) -> Targets:
    """Things worth attacking, as ingestion has them; they live as long as `stack`."""
    for name in ("submission", "scratch", "data", "output"):
        (root / name).mkdir()
    (root / "data" / "MSK_000001.tif").write_text("labels")
    (root / "submission" / "model.py").write_text("class Model: ...")
    secret = ctypes.create_string_buffer(b"the signing key")
    stack.callback(lambda: secret)  # keeps it where it is
    descriptor = os.open(root / "data", os.O_RDONLY)
    stack.callback(os.close, descriptor)
    abstract = f"flair2-probe-{os.getpid()}"
    servers = {}
    for name, family, kind, address in (
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}"),
        ("daemon", socket.AF_UNIX, socket.SOCK_STREAM, str(root / "data" / "daemon")),
    ):
        server = servers[name] = stack.enter_context(socket.socket(family, kind))
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()
    return {
        **{name: str(root / name) for name in ("submission", "scratch", "data", "output")},
        "label": str(root / "data" / "MSK_000001.tif"),
        "parent": os.getpid(),
        "secret": ctypes.addressof(secret),
        "descriptor": descriptor,
        "tcp": servers["tcp"].getsockname(),
        "udp": servers["udp"].getsockname(),
        "abstract": f"\0{abstract}",
        "daemon": str(root / "data" / "daemon"),
    }


def _be_child(control: socket.socket) -> None:
    """Enter the cage as runner.py does, try everything, tell what happened, wait to be killed."""
    enter_cage = runpy.run_path(str(Path(__file__).with_name("runner.py")))["enter_cage"]
    orders, targets = json.loads(control.recv(_MESSAGE_BYTES))
    report = enter_cage(orders["rlimits"], orders["landlock"], orders["filter"])
    told = {what: _outcome(action, targets) for what, _, action in ATTEMPTS}
    control.send(json.dumps([report, told, [os.getpid(), _stay()]]).encode())
    signal.pause()


def _outcome(action: Callable[[Targets], object], targets: Targets) -> str:
    try:
        action(targets)
    except OSError as error:
        return f"denied: {errno.errorcode.get(error.errno or 0, error)}"
    except Exception as error:  # a mistake in this file must show as one
        return f"failed: {error!r}"
    return "allowed"


def _stay() -> int:
    """Detach a process that ignores polite signals; its id."""
    told, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(signum, signal.SIG_IGN)
            os.write(tell, struct.pack("i", os.getpid()))
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    return int(struct.unpack("i", os.read(told, 4))[0])


def _call(function: Any, *arguments: Any) -> int:
    """A function of the C library; raises OSError with its errno."""
    result = function(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _in_a_fork(action: Callable[[], object]) -> int:
    """Wait status of a forked process that did this; its exit code is 1 if that raised OSError."""
    if (pid := os.fork()) == 0:
        try:
            action()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def _without_effect(unchanged: bool) -> None:
    if unchanged:
        raise PermissionError(errno.EPERM, "no effect")


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def _write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"x")
    os.unlink(path)


def _read_memory(targets: Targets) -> None:
    with open(f"/proc/{targets['parent']}/mem", "rb", buffering=0) as memory:
        memory.seek(targets["secret"])
        memory.read(15)


def _copy_memory(targets: Targets) -> None:
    mine = ctypes.create_string_buffer(16)
    here = struct.pack("PN", ctypes.addressof(mine), 15)
    there = struct.pack("PN", targets["secret"], 15)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    _call(_libc.process_vm_readv, targets["parent"], here, one, there, one, none)


def _open_descriptor(targets: Targets) -> None:
    os.stat(f"/proc/{targets['parent']}/fd/{targets['descriptor']}")


def _take_descriptor(targets: Targets) -> None:
    handle = _call(_libc.syscall, _PIDFD_OPEN, targets["parent"], 0)
    os.close(_call(_libc.syscall, _PIDFD_GETFD, handle, targets["descriptor"], 0))


def _connect(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(tuple(address) if isinstance(address, list) else address)


def _send_datagram(targets: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"x", tuple(targets["udp"]))


def _keep_shared_memory(targets: Targets) -> None:
    handle = _call(_libc.shmget, 0, ctypes.c_size_t(4096), 0o1600)
    _libc.shmctl(handle, _IPC_RMID, None)


def _change_mode(targets: Targets) -> None:
    before = os.stat(targets["label"]).st_mode
    os.chmod(targets["label"], 0o500)
    _without_effect(os.stat(targets["label"]).st_mode == before)


def _change_times(targets: Targets) -> None:
    os.utime(targets["label"], (1, 1))
    _without_effect(os.stat(targets["label"]).st_mtime != 1)


def _enter_namespace(targets: Targets) -> None:
    _without_effect(_in_a_fork(lambda: _call(_libc.unshare, _CLONE_NEWUSER)) != 0)


def _leave_group(targets: Targets) -> None:
    group = os.getpgrp()

    def leave() -> None:
        os.setsid()
        _without_effect(os.getpgrp() == group)

    _without_effect(_in_a_fork(leave) != 0)


def _dump_core(targets: Targets) -> None:
    _without_effect(not os.WCOREDUMP(_in_a_fork(os.abort)))


def _raise_limit(targets: Targets) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    except ValueError as error:
        raise PermissionError(errno.EPERM, str(error)) from None


def _run_thread(targets: Targets) -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def _run_program(targets: Targets) -> None:
    subprocess.run([sys.executable, "-I", "-c", ""], check=True, start_new_session=True)


ATTEMPTS: tuple[tuple[str, str | None, Callable[[Targets], object]], ...] = (
    ("list the data", _FILES, lambda to: os.listdir(to["data"])),
    ("read a label", _FILES, lambda to: _read(to["label"])),
    ("truncate a label", _FILES, lambda to: os.truncate(to["label"], 0)),
    ("change a file's mode", _FULL, _change_mode),
    ("change a file's times", _FULL, _change_times),
    ("mark a file", _FULL, lambda to: os.setxattr(to["submission"] + "/model.py", "user.flair", b"x")),
    ("read /etc/shadow", _FILES, lambda to: _read("/etc/shadow")),
    ("write into the output", _FILES, lambda to: _write(to["output"] + "/timing.json")),
    ("link into the output", _FILES, lambda to: os.symlink("/", to["output"] + "/predictions")),
    ("change the submission", _FILES, lambda to: _write(to["submission"] + "/cache")),
    ("write beside the scratch", _FILES, lambda to: _write(to["scratch"] + "-x")),
    ("write to /dev/shm", _FILES, lambda to: _write(f"/dev/shm/flair2-probe-{os.getpid()}")),
    ("read the parent's memory", _PROCESS, _read_memory),
    ("copy the parent's memory", _PROCESS, _copy_memory),
    ("trace the parent", _PROCESS, lambda to: _call(_libc.ptrace, _PTRACE_SEIZE, to["parent"], None, None)),
    ("read the parent's environment", _PROCESS, lambda to: _read(f"/proc/{to['parent']}/environ")),
    ("list the parent's files", _FILES, lambda to: os.listdir(f"/proc/{to['parent']}/fd")),
    ("open a file of the parent", _PROCESS, _open_descriptor),
    ("take a file of the parent", _PROCESS, _take_descriptor),
    ("signal the parent", _FULL, lambda to: os.kill(to["parent"], 0)),
    ("see the parent's limits", _FULL, lambda to: resource.prlimit(to["parent"], resource.RLIMIT_CORE)),
    ("connect by TCP", _FULL, lambda to: _connect(socket.AF_INET, to["tcp"])),
    ("send by UDP", _FULL, _send_datagram),
    ("connect to an abstract socket", _FULL, lambda to: _connect(socket.AF_UNIX, to["abstract"])),
    ("connect to a daemon's socket", _FULL, lambda to: _connect(socket.AF_UNIX, to["daemon"])),
    ("open a netlink socket", _FULL, lambda to: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
    ("use io_uring", _FULL, lambda to: _call(_libc.syscall, _IO_URING_SETUP, 1, bytes(120))),
    ("enter a new namespace", _FULL, _enter_namespace),
    ("change its root", _PROCESS, lambda to: os.chroot(to["scratch"])),
    ("watch files", _FULL, lambda to: os.close(_call(_libc.inotify_init1, 0))),
    ("keep shared memory", _FULL, _keep_shared_memory),
    ("hide its memory", _FULL, lambda to: _call(_libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)),
    ("leave its process group", _FULL, _leave_group),
    ("raise its limits", _PROCESS, _raise_limit),
    ("dump core", _PROCESS, _dump_core),
    ("write its scratch", None, lambda to: _write(to["scratch"] + "/x")),
    ("read its submission", None, lambda to: _read(to["submission"] + "/model.py")),
    ("read its own status", None, lambda to: _read("/proc/self/status")),
    ("discard output", None, lambda to: open("/dev/null", "wb").close()),
    ("signal itself", None, lambda to: os.kill(os.getpid(), 0)),
    ("run a thread", None, _run_thread),
    ("run a program", None, _run_program),
    ("create memory with a name", None, lambda to: os.close(os.memfd_create("probe"))),
    ("connect with itself", None, lambda to: socket.socketpair()),
)  # fmt: skip


if __name__ == "__main__":
    _be_child(socket.socket(fileno=int(sys.argv[1])))
