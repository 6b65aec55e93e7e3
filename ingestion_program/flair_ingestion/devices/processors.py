"""Which processors this process and the submission have while others read data, and how many may read.

Linux calls each hardware thread a processor. Two of them can be threads of one core, and then work on one of
them slows the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CORES_LEFT = 4  # for this process and the submission
TOPOLOGY = Path("/sys/devices/system/cpu")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # version 2 of cgroups; a container sees its own quota there


@dataclass(frozen=True)
class Division:
    """The processors for this process and the submission, those for the readers, and the number of readers.

    If `readers_have` none, the readers use all processors while the submission stands still.
    """

    ours: set[int]
    readers_have: set[int]
    readers: int


def divide_processors(allowed: Iterable[int], topology: Path = TOPOLOGY, cpu_max: Path = CPU_MAX) -> Division:
    """Divide the processors that this process is allowed to use.

    This process and the submission get one processor of each of the first CORES_LEFT cores. The other threads
    of these cores stay idle, and the readers have all other cores: one reader for each processor of these. A
    quota of the cgroup lowers the number of readers, so that the quota less CORES_LEFT suffices for them.

    Where cores or quota leave nothing for readers, they have no processors of their own. Then there is one
    for each processor, or as many as the quota allows to work at once.
    """
    processors = set(allowed)
    cores = _list_cores(processors, topology)
    ours, theirs = cores[:CORES_LEFT], set[int]().union(*cores[CORES_LEFT:])
    quota = _read_quota(cpu_max)
    free = len(processors) if quota is None else int(quota) - CORES_LEFT
    if theirs and free > 0:
        return Division({min(core) for core in ours}, theirs, min(len(theirs), free))
    most = len(processors) if quota is None else max(1, int(quota))
    return Division(processors, set(), min(len(processors), most))


def _list_cores(processors: set[int], topology: Path) -> list[set[int]]:
    """The cores, each as the set of its threads among these processors, in the order of their first one."""
    cores: list[set[int]] = []
    for processor in sorted(processors):
        if not any(processor in core for core in cores):
            cores.append(_read_siblings(processor, topology) & processors)
    return cores


def _read_siblings(processor: int, topology: Path) -> set[int]:
    """The threads of a processor's core, with itself; itself alone where the kernel does not tell them."""
    with suppress(OSError, ValueError):
        text = (topology / f"cpu{processor}" / "topology" / "thread_siblings_list").read_text()
        return {processor, *_parse_list(text)}
    return {processor}


def _parse_list(text: str) -> set[int]:
    """The numbers in a list as the kernel writes it, such as 0-3,8."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _read_quota(cpu_max: Path) -> float | None:
    """How many processors the cgroup may keep busy on average; None without a limit, or if it is not told."""
    with suppress(OSError, ValueError):
        quota, period = cpu_max.read_text().split()
        return int(quota) / int(period)  # the quota is the word max where there is no limit
    return None
