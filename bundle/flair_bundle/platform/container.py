"""Run one command as the platform's container engine does, in namespaces of Linux instead of an engine.

`python container.py JSON` becomes the container that the JSON describes. Its process is root without any
capability. It has a process tree, a /tmp and a /dev/shm of 64 MB of its own, a bare environment, the mounts,
and no other folder of the kit. Where mount namespaces are not allowed, the command gets the paths outside in
place of the mounts, and only the capabilities are dropped. The container ends with the process that has
started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

KIT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "http_proxy": "", "https_proxy": ""}  # as the worker sets it
SHARED_MEMORY = "64m"
NOT_STARTED = 125  # as with docker and podman
_NEW_MOUNTS, _NEW_IPC, _NEW_PROCESSES = 0x00020000, 0x08000000, 0x20000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_CAPABILITY_VERSION = 0x20080522
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Container:
    """A command with its mounts.

    `mounts` maps a folder inside to the folder outside that is seen there; those in `read_only` cannot be
    written. `root` is an empty folder outside in which the container's own root is made. `workdir` is the
    work folder inside. `isolated`: use a mount namespace.
    """

    command: list[str]
    mounts: dict[str, str]
    workdir: str
    root: str
    isolated: bool
    read_only: tuple[str, ...] = ()

    def launcher(self) -> list[str]:
        """The command line, for a process with ENVIRONMENT, that becomes the container.

        Its exit code is the command's, 128 and the number of the signal that ended the command, or
        NOT_STARTED.
        """
        return [sys.executable, "-B", __file__, json.dumps(asdict(self))]


@functools.cache
def namespaces_work() -> bool:
    """Whether this user may have a mount namespace and change mounts in it."""
    with tempfile.TemporaryDirectory() as root:
        launcher = Container(["/bin/true"], {}, "/", root, True).launcher()
        return subprocess.run(launcher, capture_output=True, env=ENVIRONMENT).returncode == 0


def main() -> None:
    """Become the container that the argument describes."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        _become(Container(**json.loads(sys.argv[1])))
    except OSError as error:
        print(f"error: the imitation of the container cannot start ({error})", file=sys.stderr)
        sys.exit(NOT_STARTED)


def _become(container: Container) -> NoReturn:
    command, workdir = container.command, container.workdir
    if container.isolated:
        _enter_namespaces()
        _mount_all(container)
    else:
        command = [_outside(word, container.mounts) for word in command]
        workdir = _outside(workdir, container.mounts)
    _drop_capabilities()
    os.chdir(workdir)
    os.execve(command[0], command, ENVIRONMENT)


def _enter_namespaces() -> None:
    """Go on in a child that is the first process of a tree of its own; the parent ends as the child does."""
    _call("unshare", _NEW_MOUNTS | _NEW_IPC | _NEW_PROCESSES)
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    os.setsid()  # as engines do: else the group of the first process would be one outside
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _mount_all(container: Container) -> None:
    """Enter a new root, made of the machine's folders, the container's own ones and the mounts."""
    new = Path(container.root)
    _mount(None, "/", _PRIVATE | _RECURSIVE)
    _mount("tmpfs", new, kind="tmpfs")
    for entry in os.scandir("/"):
        if entry.is_symlink():
            os.symlink(os.readlink(entry), new / entry.name)
        elif entry.is_dir() and entry.name not in ("app", "proc", "tmp"):
            _bind(entry.path, new / entry.name)
    (new / "tmp").mkdir(mode=0o1777)
    (new / "proc").mkdir()
    _mount("proc", new / "proc", kind="proc")
    _mount("shm", new / "dev/shm", kind="tmpfs", options=f"size={SHARED_MEMORY}")
    for folder in _kit_folders():
        if (hidden := new / folder.relative_to("/")).is_dir():
            _mount("tmpfs", hidden, kind="tmpfs")
    for interpreter in {sys.prefix, sys.base_prefix}:  # which may lie in /tmp
        if not (new / interpreter[1:]).is_dir():
            _bind(interpreter, new / interpreter[1:])
    for inside, outside in container.mounts.items():
        _bind(outside, new / inside[1:])
        if inside in container.read_only:
            _mount(None, new / inside[1:], _REMOUNT | _BIND | _READ_ONLY)
    os.chdir(new)
    if _LIBC.syscall(_PIVOT_ROOT[os.uname().machine], b".", b".") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def _kit_folders() -> list[Path]:
    """The folders of the kit. They are hidden: no file of them may replace one that the bundle lacks."""
    names = ("flair_scoring", "flair_ingestion", "flair_toy", "flair_baseline")
    specs = [importlib.util.find_spec(name) for name in names]
    installed = {Path(spec.origin).parents[1] for spec in specs if spec and spec.origin}
    folders = {folder for folder in [*KIT.iterdir(), *installed] if folder.is_dir()}
    prefix = Path(sys.prefix)  # the interpreter stays
    return [one for one in folders if not (prefix.is_relative_to(one) or one.is_relative_to(prefix))]


def _bind(outside: str, inside: Path) -> None:
    if Path(outside).is_file():
        inside.parent.mkdir(parents=True, exist_ok=True)
        if not inside.exists():  # touch would change the time of a file that a folder around it has brought
            inside.touch()
    else:
        inside.mkdir(parents=True, exist_ok=True)
    _mount(outside, inside, _BIND | _RECURSIVE)


def _mount(
    source: str | None,
    target: str | Path,
    flags: int = 0,
    kind: str | None = None,
    options: str | None = None,
) -> None:
    encoded = [text and os.fsencode(text) for text in (source, target, kind, options)]
    _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        raise OSError(number := ctypes.get_errno(), f"{name}{arguments}: {os.strerror(number)}")


def _drop_capabilities() -> None:
    """Drop all capabilities for good. A user who may not do that has none."""
    capability = 0
    while _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    _LIBC.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24))
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _outside(word: str, mounts: dict[str, str]) -> str:
    """A word of the command; if it is a path below a mount, the path outside."""
    for inside, outside in mounts.items():
        with contextlib.suppress(ValueError):
            return str(Path(outside) / Path(word).relative_to(inside))
    return word


if __name__ == "__main__":
    main()
