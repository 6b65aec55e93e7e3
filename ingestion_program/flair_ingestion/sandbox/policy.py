"""The rules of the sandbox, and the level of protection that this machine allows.

- `process`: the child has a session of its own, no privileges and no way to new ones, limits of resources, a
  scrubbed environment and a bounded log. Its parent cannot be traced, and adopts processes that the child
  detaches. This level prevents accidents only.
- `files`: the child also reads and writes only what `landlock` lists. It needs Linux 6.2 with Landlock.
- `full`: the child also has no network and no way to other processes, and leaves nothing for a later run. It
  needs the filter of system calls (seccomp.py), which is installed at every level where the kernel has it.

With a GPU, its device files, driver and caches are open at every level; this has not been tried on a GPU.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flair_ingestion.sandbox.seccomp import system_call_filter

LEVELS = ("none", "process", "files", "full")
_GAPS = {
    "none": "a submission can do whatever this user can",
    "process": "a submission can read and write this user's files; Linux 6.2 with Landlock prevents it",
    "files": "a submission can use the network; a kernel with seccomp, x86_64 or aarch64, prevents it",
}
# In bytes and descriptors. A core size of 1 and not 0: with 0 the kernel still feeds a program that collects
# crashes. No RLIMIT_NPROC: it counts all processes of a user, also those of other runs, and none of root's.
RLIMITS = {"RLIMIT_CORE": 1, "RLIMIT_NOFILE": 4096, "RLIMIT_FSIZE": 4 << 30}
# Landlock, https://docs.kernel.org/userspace-api/landlock.html: its rights on files
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_MAKE_DEVICES = 1 << 6 | 1 << 11
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_KNOWN_RIGHTS = (0, 13, 14, 15, 15, 16)  # how many of them each version knows, from version 0 on
_MIN_VERSION, _TCP_VERSION, _SCOPE_VERSION = 3, 4, 6  # before 3, files outside could be truncated
_CREATE_RULESET = 444
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/sys")
_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "passwd", "group"),
    *("locale.alias", "ssl/openssl.cnf"),  # /usr has links to them
)
_LOADER = [Path("/etc/ld.so.conf"), *sorted(Path("/etc/ld.so.conf.d").glob("*.conf"))]
_PROC = ("self", "cpuinfo", "meminfo", "stat")
_PROC_CUDA = ("devices", "driver/nvidia", "driver/nvidia-caps", "sys/vm/mmap_min_addr")
_DEVICES = ("null", "zero", "random", "urandom")
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_CACHES = (
    "XDG_CACHE_HOME",
    "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "HF_HOME",
)
# Freed memory stays with the process: otherwise page faults take a large part of a time on the CPU
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


def shield_parent() -> bool:
    """Make this process untraceable, and the parent of all processes that its children detach.

    Returns whether the kernel has done both.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    untraceable = libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    return libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 and untraceable


def environment(scratch: Path, visible_gpu: str | None) -> dict[str, str]:
    """The whole environment of a child; its home, temporary files and caches lie in `scratch`."""
    settings = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": visible_gpu or "",
    }
    if libraries := os.environ.get("LD_LIBRARY_PATH"):  # where some images keep the driver
        settings["LD_LIBRARY_PATH"] = libraries
    return settings | dict.fromkeys(_CACHES, str(scratch / "cache")) | _ALLOCATOR


def orders(
    child: int, submission: Path, scratch: Path, gpu: Sequence[str] = (), hide_files: bool = True
) -> dict[str, Any]:
    """The orders for entering.enter_sandbox in the process `child`: limits, Landlock's rules, the filter.

    `gpu` lists the device files of the GPU that it may use. Without `hide_files`, Landlock is left out.
    """
    rules = landlock(submission, scratch, gpu) if hide_files else None
    scoped = rules is not None and landlock_version() >= _SCOPE_VERSION
    program = system_call_filter(None if scoped else child)
    return {"rlimits": RLIMITS, "landlock": rules, "filter": program and program.hex()}


def landlock_version() -> int:
    """The version of Landlock that the kernel offers; 0 without it, and for versions that leave gaps."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    version = syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return version if version >= _MIN_VERSION else 0


def landlock(submission: Path, scratch: Path, gpu: Sequence[str] = ()) -> dict[str, Any] | None:
    """Ruleset and rules for entering.enter_landlock; None without Landlock.

    A child may read and execute code, read its own part of /proc, write its scratch, and use a few devices;
    with a GPU, also its device files (`gpu`) and the driver's tables. TCP and signals to other processes are
    refused where the kernel's version of Landlock knows them.
    """
    version = landlock_version()
    if not version:
        return None
    known = (1 << _KNOWN_RIGHTS[min(version, len(_KNOWN_RIGHTS) - 1)]) - 1
    fields = [known] + [3] * (version >= _TCP_VERSION) + [3] * (version >= _SCOPE_VERSION)
    # runner.py itself is read later for the lines of a traceback
    read = [*_code_paths(), str(submission), str(Path(__file__).with_name("runner.py"))]
    read += [f"/etc/{name}" for name in _ETC] + [f"/proc/{name}" for name in _PROC + _PROC_CUDA * bool(gpu)]
    devices = [f"/dev/{name}" for name in _DEVICES] + list(gpu)
    rules = [(path, _EXECUTE | _READ | _LIST) for path in read]
    rules += [(path, _WRITE | _READ | _LIST | _TRUNCATE | _IOCTL) for path in devices]
    rules += [(str(scratch), known & ~_MAKE_DEVICES & ~_IOCTL)]
    return {
        "ruleset": struct.pack(f"={len(fields)}Q", *fields).hex(),
        "rules": [
            (path, rights & known & (~0 if os.path.isdir(path) else _ON_FILES))
            for path, rights in rules
            if os.path.exists(path)
        ],
    }


def require_hidden(data: Path) -> None:
    """Raises UsageError if the data lie where every child may read."""
    from flair_scoring.base.errors import UsageError  # here: the probe runs without that package

    for path in map(Path, _code_paths()):
        if data.resolve().is_relative_to(path.resolve()):
            raise UsageError(
                f"{data}: lies below {path}, which a submission may read; move the data elsewhere"
            )


def reached_level(shielded: bool, report: dict[str, bool]) -> str:
    """The level reached: by the parent, if it is `shielded`, and by the child, which has sent `report`."""
    if not (shielded and report["own_session"] and report["no_new_privileges"]):
        return "none"
    if not report["root_hidden"]:
        return "process"
    return "full" if report["network_refused"] else "files"


def describe_level(reached: str, cuda: bool) -> str:
    """The level, what it leaves open, and what has not been tried."""
    untested = ["CUDA inside it is untested"] if cuda else []
    return "; ".join([reached, *([_GAPS[reached]] if reached in _GAPS else []), *untested])


def require_level(reached: str, required: str) -> None:
    """Raises UsageError if the level is below the one that was asked for."""
    from flair_scoring.base.errors import UsageError

    if LEVELS.index(reached) < LEVELS.index(required):
        raise UsageError(
            f"the sandbox reaches level {reached!r} here; --require-sandbox asks for {required!r}"
        )


def _code_paths() -> list[str]:
    """The folders of the interpreter, its packages and the system's libraries."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    libraries += [folder for path in _LOADER for folder in _loader_folders(path)]
    packages = [_package(folder) for folder in libraries if os.path.isabs(folder)]
    return list(dict.fromkeys([sys.prefix, sys.base_prefix, *_SYSTEM, *packages]))


def _loader_folders(configuration: Path) -> list[str]:
    """The folders that a file of the dynamic loader's configuration names."""
    try:
        lines = configuration.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines]


def _package(folder: str) -> str:
    """The whole package for a folder of a package in /opt: its libraries may be links into other folders."""
    parts = Path(os.path.normpath(folder)).parts
    return str(Path(*parts[:3])) if parts[:2] == ("/", "opt") and len(parts) > 2 else folder
