"""What a process in the sandbox tries for probe.py: attacks that must fail, and ordinary work that must not.

probe.py starts this file as `python -I -B attempts.py CONTROL`, where CONTROL is the number of a socket. It
imports the standard library only, as runner.py does before it is in the sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
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
from pathlib import Path
from typing import Any

PROCESS, FILES, FULL = "process", "files", "full"  # the lowest level that denies an attempt
MESSAGE_BYTES = 1 << 16
_PTRACE_SEIZE, _PR_SET_DUMPABLE, _CLONE_NEWUSER, _IPC_RMID = 0x4206, 4, 0x10000000, 0
_PIDFD_OPEN, _PIDFD_GETFD, _IO_URING_SETUP = 434, 438, 425  # system calls, the same on all machines
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _CLOCK_MONOTONIC, _SIGEV_SIGNAL, _WAIT_ALL = 1, 2, 1, 0, 0x40000000
_PUNCH_HOLE = 3
_libc = ctypes.CDLL(None, use_errno=True)

Targets = dict[str, Any]


def _be_child(control: socket.socket) -> None:
    """Enter the sandbox as runner.py does, make all attempts, tell what happened, wait to be killed."""
    enter_sandbox = runpy.run_path(str(Path(__file__).with_name("entering.py")))["enter_sandbox"]
    orders, targets = json.loads(control.recv(MESSAGE_BYTES))
    report = enter_sandbox(orders["rlimits"], orders["landlock"], orders["filter"])
    told = {what: _outcome(action, targets) for what, _, action in ATTEMPTS}
    control.send(json.dumps([report, told, [os.getpid(), _stay()]]).encode())
    signal.pause()


def _outcome(action: Callable[[Targets], object], targets: Targets) -> str:
    try:
        action(targets)
    except OSError as error:
        return f"denied: {errno.errorcode.get(error.errno or 0, error)}"
    except Exception as error:  # a mistake in this file is neither denied nor allowed
        return f"failed: {error!r}"
    return "allowed"


def _stay() -> int:
    """Detach a process that ignores every signal that can be ignored. Returns its id."""
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
    """Call a function of the C library; raises OSError with its errno."""
    result = function(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _in_a_fork(action: Callable[[], object]) -> int:
    """The wait status of a forked process that runs `action`; its exit code is 1 if that raises OSError."""
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


def _connect_to_file(path: str) -> None:
    """Connect through a descriptor of the folder: the address of a socket holds only 107 bytes of a path."""
    folder, _, name = path.rpartition("/")
    descriptor = os.open(folder, os.O_PATH)
    try:
        _connect(socket.AF_UNIX, f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


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


def _set_timer(targets: Targets) -> None:
    timer, event = ctypes.c_void_p(), struct.pack("Pii", 0, signal.SIGCONT, _SIGEV_SIGNAL).ljust(64, b"\0")
    _call(_libc.timer_create, _CLOCK_MONOTONIC, event, ctypes.byref(timer))
    _libc.timer_delete(timer)


def _set_alarm(targets: Targets) -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _signal_from_descriptor(owner: int) -> None:
    for end in (pair := socket.socketpair()):
        fcntl.fcntl(end, fcntl.F_SETOWN, owner)
        fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC)
        fcntl.fcntl(end, fcntl.F_SETOWN, 0)
    for end in pair:
        end.close()


def _clone_with_signal(targets: Targets) -> None:
    stack = ctypes.create_string_buffer(1 << 16)
    top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~63)
    pid = _call(_libc.clone, ctypes.cast(_libc._exit, ctypes.c_void_p), top, signal.SIGCONT, None)
    os.waitpid(pid, _WAIT_ALL)


def _ask_for_death_signal(targets: Targets) -> None:
    before, after = ctypes.c_int(), ctypes.c_int()
    _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(before), 0, 0, 0)
    _call(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
    _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(after), 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, before.value, 0, 0, 0)
    _without_effect(after.value == before.value)


def _slow_down(targets: Targets) -> None:
    before = os.getpriority(os.PRIO_PROCESS, targets["neighbour"])
    os.setpriority(os.PRIO_PROCESS, targets["neighbour"], before + 1)
    _without_effect(os.getpriority(os.PRIO_PROCESS, targets["neighbour"]) == before)


def _move(targets: Targets) -> None:
    before = os.sched_getaffinity(targets["neighbour"])
    os.sched_setaffinity(targets["neighbour"], {min(before)})
    _without_effect(os.sched_getaffinity(targets["neighbour"]) == before)


def _punch_hole(targets: Targets) -> None:
    memory = os.memfd_create("probe")
    try:
        os.write(memory, b"x" * 4096)
        _call(_libc.fallocate, memory, _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(4096))
    finally:
        os.close(memory)


def _remove_pages(targets: Targets) -> None:
    with mmap.mmap(-1, 4096) as memory:
        memory.madvise(mmap.MADV_REMOVE)


def _look_into_page_cache(targets: Targets) -> None:
    with open(targets["submission"] + "/model.py", "rb") as file:
        os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)


def _run_thread(targets: Targets) -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def _run_program(targets: Targets) -> None:
    subprocess.run([sys.executable, "-I", "-c", ""], check=True, start_new_session=True)


ATTEMPTS: tuple[tuple[str, str | None, Callable[[Targets], object]], ...] = (
    ("list the data", FILES, lambda to: os.listdir(to["data"])),
    ("read a label", FILES, lambda to: _read(to["label"])),
    ("truncate a label", FILES, lambda to: os.truncate(to["label"], 0)),
    ("change a file's mode", FULL, _change_mode),
    ("change a file's times", FULL, _change_times),
    ("mark a file", FULL, lambda to: os.setxattr(to["submission"] + "/model.py", "user.flair", b"x")),
    ("read /etc/shadow", FILES, lambda to: _read("/etc/shadow")),
    ("write into the output", FILES, lambda to: _write(to["output"] + "/timing.json")),
    ("link into the output", FILES, lambda to: os.symlink("/", to["output"] + "/predictions")),
    ("change the submission", FILES, lambda to: _write(to["submission"] + "/cache")),
    ("write beside the scratch", FILES, lambda to: _write(to["scratch"] + "-x")),
    ("write to /dev/shm", FILES, lambda to: _write(f"/dev/shm/flair2-probe-{os.getpid()}")),
    ("read the parent's memory", PROCESS, _read_memory),
    ("copy the parent's memory", PROCESS, _copy_memory),
    ("trace the parent", PROCESS, lambda to: _call(_libc.ptrace, _PTRACE_SEIZE, to["parent"], None, None)),
    ("read the parent's environment", PROCESS, lambda to: _read(f"/proc/{to['parent']}/environ")),
    ("list the parent's files", FILES, lambda to: os.listdir(f"/proc/{to['parent']}/fd")),
    ("open a file of the parent", PROCESS, _open_descriptor),
    ("take a file of the parent", PROCESS, _take_descriptor),
    ("signal the parent", FULL, lambda to: os.kill(to["parent"], 0)),
    ("see the parent's limits", FULL, lambda to: resource.prlimit(to["parent"], resource.RLIMIT_CORE)),
    ("connect by TCP", FULL, lambda to: _connect(socket.AF_INET, to["tcp"])),
    ("send by UDP", FULL, _send_datagram),
    ("connect to an abstract socket", FULL, lambda to: _connect(socket.AF_UNIX, to["abstract"])),
    ("connect to a daemon's socket", FULL, lambda to: _connect_to_file(to["daemon"])),
    ("open a netlink socket", FULL, lambda to: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
    ("use io_uring", FULL, lambda to: _call(_libc.syscall, _IO_URING_SETUP, 1, bytes(120))),
    ("set a timer that signals", FULL, _set_timer),
    ("set an alarm", FULL, _set_alarm),
    ("signal from a descriptor", FULL, lambda to: _signal_from_descriptor(os.getpid())),
    ("signal the parent from a descriptor", FULL, lambda to: _signal_from_descriptor(to["parent"])),
    ("continue itself", FULL, lambda to: os.kill(os.getpid(), signal.SIGCONT)),
    ("child with another exit signal", FULL, _clone_with_signal),
    ("ask for a death signal", FULL, _ask_for_death_signal),
    ("slow down the parent", FULL, _slow_down),
    ("move the parent to one core", FULL, _move),
    ("punch a hole in memory", FULL, _punch_hole),
    ("remove pages of memory", FULL, _remove_pages),
    ("look into the page cache", FULL, _look_into_page_cache),
    ("enter a new namespace", FULL, _enter_namespace),
    ("change its root", PROCESS, lambda to: os.chroot(to["scratch"])),
    ("watch files", FULL, lambda to: os.close(_call(_libc.inotify_init1, 0))),
    ("keep shared memory", FULL, _keep_shared_memory),
    ("hide its memory", FULL, lambda to: _call(_libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)),
    ("leave its process group", FULL, _leave_group),
    ("raise its limits", PROCESS, _raise_limit),
    ("dump core", PROCESS, _dump_core),
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
