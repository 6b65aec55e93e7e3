"""What the sandbox denies on this machine: a child in the sandbox attacks a parent like that of ingestion.

`python ingestion_program/flair_ingestion/sandbox/runner.py --probe` starts it, and needs the standard library
only. What the child tries is in attempts.py.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from flair_ingestion.processes import process_tree
from flair_ingestion.sandbox import attempts, policy
from flair_ingestion.sandbox.attempts import ATTEMPTS, MESSAGE_BYTES, PROCESS, Targets
from flair_ingestion.sandbox.scratch import private_folder

_SECONDS = 60.0


@dataclass(frozen=True)
class Observation:
    """An attempt as the table shows it: `what` was tried, and what was `observed`.

    `expected` is denied, allowed, or open where the level reached does not prevent the attempt.
    """

    what: str
    expected: str
    observed: str

    @property
    def fine(self) -> bool:
        """Whether what was observed is as expected."""
        return self.expected == "open" or self.observed.split(":")[0] == self.expected


def probe() -> tuple[str, list[Observation]]:
    """The level that the sandbox reaches here, and what a process in it can do.

    Raises OSError if the child cannot be started or dies.
    """
    shielded, before = policy.shield_parent(), process_tree.children(os.getpid())
    with ExitStack() as stack:
        root = stack.enter_context(private_folder())
        targets = _make_targets(root, stack)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(control)
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-I", "-B", attempts.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=policy.environment(root / "scratch", None),
                cwd=root / "scratch",
                start_new_session=True,
            )
        stack.callback(child.wait)
        stack.callback(process_tree.end_descendants, before)
        control.settimeout(_SECONDS)
        orders = policy.orders(child.pid, root / "submission", root / "scratch")
        answer = b""
        with suppress(ConnectionError):
            control.send(json.dumps([orders, targets]).encode())
            answer = control.recv(MESSAGE_BYTES)
        if not answer:
            raise OSError("the child died before it answered")
        report, told, forked = json.loads(answer)
        level = policy.reached_level(shielded, report)
        process_tree.end_descendants(before)
        stayed = any(process.pid in forked for process in process_tree.list_processes())
    told["leave a process behind"] = "allowed" if stayed else "denied: ended"
    denied = policy.LEVELS[: policy.LEVELS.index(level) + 1]
    promised = {what: from_level for what, from_level, _ in ATTEMPTS} | {"leave a process behind": PROCESS}
    expected = {None: "allowed"} | {name: "denied" if name in denied else "open" for name in policy.LEVELS}
    return level, [Observation(what, expected[promised[what]], told[what]) for what in promised]


def main() -> None:
    """Print the table; the exit code is 0 if every row is as the level reached promises, else 2."""
    try:
        level, rows = probe()
    except OSError as error:
        print(f"error: the probe cannot run here: {error}", file=sys.stderr)
        sys.exit(2)
    width = max(len(row.what) for row in rows)
    print(f"sandbox level: {level}")
    print(f"{'tried':{width}}  expected  observed")
    for row in rows:
        print(f"{row.what:{width}}  {row.expected:8}  {row.observed}{'' if row.fine else '   <- WRONG'}")
    wrong = sum(not row.fine for row in rows)
    if wrong:
        print(
            f"error: {wrong} of {len(rows)} attempts did not end as level {level!r} promises", file=sys.stderr
        )
    sys.exit(2 if wrong else 0)


def _make_targets(root: Path, stack: ExitStack) -> Targets:
    """Targets of attacks like those that ingestion has; they exist until `stack` is closed."""
    for name in ("submission", "scratch", "data", "output"):
        (root / name).mkdir()
    (root / "data" / "MSK_000001.tif").write_text("labels")
    (root / "submission" / "model.py").write_text("class Model: ...")
    secret = ctypes.create_string_buffer(b"the signing key")
    stack.callback(lambda: secret)  # keeps the memory until then
    neighbour = subprocess.Popen(["sleep", str(_SECONDS)], stdin=subprocess.DEVNULL)
    stack.callback(neighbour.wait)
    stack.callback(neighbour.kill)
    descriptor = os.open(root / "data", os.O_RDONLY)
    stack.callback(os.close, descriptor)
    abstract = f"flair2-probe-{os.getpid()}"
    servers = {}
    for name, family, kind, address in (
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}"),
        # By a descriptor: its path may be longer than the address of a socket
        ("daemon", socket.AF_UNIX, socket.SOCK_STREAM, f"/proc/self/fd/{descriptor}/daemon"),
    ):
        server = servers[name] = stack.enter_context(socket.socket(family, kind))
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()
    return {
        **{name: str(root / name) for name in ("submission", "scratch", "data", "output")},
        "label": str(root / "data" / "MSK_000001.tif"),
        "parent": os.getpid(),
        "neighbour": neighbour.pid,  # attacked in place of the parent, which could stay slow
        "secret": ctypes.addressof(secret),
        "descriptor": descriptor,
        "tcp": servers["tcp"].getsockname(),
        "udp": servers["udp"].getsockname(),
        "abstract": f"\0{abstract}",
        "daemon": str(root / "data" / "daemon"),
    }
