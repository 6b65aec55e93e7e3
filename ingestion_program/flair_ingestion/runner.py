"""The child: runs one submission. Started as `python -I -B runner.py CONTROL`, the number of a socket.

`python runner.py --probe` shows what a submission cannot do on this machine.

One file: the standard library only until the cage is entered, then torch, then the submission. Of the kit,
only what the submission brings along can be imported here. The parent trusts nothing that this process says.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import operator
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

GO, DONE = b"g", b"d"  # each is followed by the random number of its request; all other messages are JSON
NUMBER_BYTES = 16
MAX_MESSAGE = 1 << 16  # bytes
CLASSES = 12  # labels are 0..12, 12 is other
KIT = ("flair_scoring", "flair_ingestion", "flair_baseline")
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # system calls, the same on all machines
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION, _CAP_DAC_READ_SEARCH = 0x20080522, 1 << 2
_SENTENCE, _FRAMES, _FRAME = 2000, 8, 300  # what is told of an exception: characters, frames, characters each


class Refusal(Exception):
    """The submission does not keep the interface; the message says how."""


class SubmissionModules:
    """Finds modules of the kit in the submission or nowhere, as where the kit is not installed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for a module that is not the kit's; raises ModuleNotFoundError if the submission lacks it."""
        if name.split(".")[0] not in KIT:
            return None
        inside = path or [entry for entry in sys.path if entry.startswith(self.folder)]
        spec = PathFinder.find_spec(name, inside, target)
        if spec is None:
            raise ModuleNotFoundError(
                f"No module named {name!r} in the submission: package it too", name=name
            )
        return spec


def main() -> None:
    """Enter the cage, load the submission when told to, answer requests until told to end."""
    for stream in (sys.stdout, sys.stderr):  # what was printed before a sudden death helps to find its cause
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    control = socket.socket(fileno=int(sys.argv[1]))
    orders = json.loads(control.recv(MAX_MESSAGE))
    send(control, caged=enter_cage(orders["rlimits"], orders["landlock"], orders["filter"]))
    send(control, ready=describe_software(orders["device"]))
    folder = json.loads(control.recv(MAX_MESSAGE))["load"]
    try:
        model = load_model(folder, orders["device"])
        send(control, loaded=read_settings(model))
        _, (labels,), _, _ = socket.recv_fds(control, 1, 1)
        answer_requests(control, model, mmap.mmap(labels, 0))
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a submission are failures, too
        send(control, failed=describe_error(error, folder))
        os._exit(1)
    send(control, ended=describe_memory())


def send(control: socket.socket, **message: Any) -> None:
    """Send one JSON message."""
    control.send(json.dumps(message).encode())


def enter_cage(
    rlimits: dict[str, int], landlock: dict[str, Any] | None, call_filter: str | None
) -> dict[str, bool]:
    """Give up what a submission does not need, as cage.py has worked it out; says what is true afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the filter keeps it so
    with suppress(OSError):  # where memory runs out, the kernel ends this process and not the parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name, value in rlimits.items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    report = {
        "own_session": os.getsid(0) == os.getpid(),
        "no_new_privileges": libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
    }
    if landlock:
        enter_landlock(libc.syscall, bytes.fromhex(landlock["ruleset"]), landlock["rules"])
    drop_capabilities(libc)
    if call_filter:
        install_filter(libc, bytes.fromhex(call_filter))
    return report | {
        "root_hidden": refused(os.listdir, "/"),
        "network_refused": refused(socket.socket, socket.AF_INET, socket.SOCK_DGRAM),
    }


def drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep none but the one to read files of other users, for an interpreter that is another user's."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    for kept in (_CAP_DAC_READ_SEARCH, 0):
        if libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) == 0:
            return


def install_filter(libc: ctypes.CDLL, program: bytes) -> None:
    """Let the kernel judge every system call from here on by this program (seccomp.py)."""
    steps = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0)


def refused(action: Any, *arguments: Any) -> bool:
    """Whether this process lacks the permission to do something."""
    try:
        action(*arguments)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def enter_landlock(syscall: Any, ruleset: bytes, rules: list[tuple[str, int]]) -> None:
    """Allow the rights in `rules`, by path, and nothing else that `ruleset` covers."""
    handle = syscall(_LANDLOCK_CREATE, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    for path, rights in rules:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        syscall(_LANDLOCK_ADD, handle, 1, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    syscall(_LANDLOCK_RESTRICT, handle, 0)
    os.close(handle)


def describe_software(device: str) -> dict[str, Any]:
    """Versions, and the accelerator as torch sees it, None if it sees none. Imports torch."""
    import numpy
    import torch

    cuda = torch.cuda.is_available() if device.startswith("cuda") else False
    return {
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "cuda": torch.version.cuda if cuda else None,
            "cudnn": torch.backends.cudnn.version() if cuda else None,
        },
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if cuda else None,
    }


def load_model(folder: str, device: str) -> Any:
    """Import model.py from the submission and construct its Model."""
    import torch

    sys.path.insert(0, folder)
    sys.meta_path.insert(0, SubmissionModules(folder))
    module = importlib.import_module("model")
    if not hasattr(module, "Model"):
        raise Refusal("model.py defines no class Model")
    model = module.Model(Path(folder), torch.device(device))
    if not callable(getattr(model, "predict", None)):
        raise Refusal("Model has no method predict(batch)")
    return model


def read_settings(model: Any) -> dict[str, int]:
    """batch_size and superpatch_size of the instance."""
    found = {}
    for name, default in (("batch_size", 1), ("superpatch_size", 40)):
        value = getattr(model, name, default)
        try:
            found[name] = operator.index(value)
        except TypeError:
            raise Refusal(f"Model.{name} is {value!r}; expected a whole number") from None
    return found


def answer_requests(control: socket.socket, model: Any, labels: mmap.mmap) -> None:
    """Predict each request and write its labels, until the parent says that it was the last."""
    import torch

    target = torch.frombuffer(labels, dtype=torch.uint8).reshape(-1, 512, 512)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, len(GO) + NUMBER_BYTES, 1)
        if not message.startswith(GO):
            return
        batch = read_batch(map_request(descriptors[0]))
        write_labels(model.predict(batch), target[: len(batch["metadata"])])
        finish_gpu_work()
        del batch  # giving memory back takes time: it belongs to this request, not to the gap after it
        control.send(DONE + message[len(GO) :])


def map_request(descriptor: int) -> mmap.mmap:
    """The memory behind the descriptor, which is closed; what is written there stays in this process."""
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    os.close(descriptor)
    return memory


def read_batch(memory: mmap.mmap) -> dict[str, Any]:
    """The request in `memory` as the batch of `Model.predict`: tensors over that memory, not copies."""
    import numpy
    import torch

    def tensor(place: dict[str, Any]) -> Tensor:
        array = numpy.ndarray(place["shape"], place["dtype"], memory, place["offset"])
        return torch.from_numpy(array)

    header = json.loads(memory[8 : 8 + int.from_bytes(memory[:8], "little")])
    arrays = header.pop("arrays")
    series = ("sentinel", "sentinel_masks", "sentinel_dates")
    return {"aerial": tensor(arrays["aerial"])} | {k: [tensor(p) for p in arrays[k]] for k in series} | header


def write_labels(labels: Any, target: Tensor) -> None:
    """Check what predict returned and write it as uint8 into `target` (B, 512, 512).

    The range of wide integers is checked before the cast, so that 256 does not become 0.
    """
    import numpy
    import torch

    if isinstance(labels, numpy.ndarray) and labels.dtype.kind in "iufb":
        labels = torch.from_numpy(numpy.ascontiguousarray(labels))
    if not isinstance(labels, torch.Tensor):
        what = getattr(labels, "dtype", type(labels).__name__)
        raise Refusal(
            f"predict returned {what}; expected labels as a torch.Tensor or numpy.ndarray of integers"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise Refusal(
            f"predict returned {labels.dtype}; expected an integer dtype: take the argmax over the classes"
        )
    if labels.shape != target.shape:
        raise Refusal(f"predict returned the shape {tuple(labels.shape)}; expected {tuple(target.shape)}")
    if labels.dtype != torch.uint8:
        wide = labels.to(torch.int64) if not labels.dtype.is_signed else labels
        low, high = (int(value) for value in torch.aminmax(wide))
        if low < 0 or high > CLASSES:
            raise Refusal(f"predict returned values from {low} to {high}; expected labels 0..{CLASSES}")
    # not torch's copy, which would start its threads: they stay busy and delay the answer on a small machine
    numpy.copyto(target.numpy(), labels.detach().to("cpu", torch.uint8).numpy())


def finish_gpu_work() -> None:
    """Wait for what the submission has left to the GPU: it belongs to this request, not to the next gap."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def describe_memory() -> dict[str, float | None]:
    """Peak of the accelerator's memory in MiB, as torch's allocator counts it."""
    import torch

    peak = torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_initialized() else None
    return {"accelerator_mib": peak}


def describe_error(error: BaseException, folder: str) -> dict[str, Any]:
    """What happened, in one sentence, and the last frames of the submission's own code."""
    sentence = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
    frames = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(folder):
            where = f"{os.path.relpath(frame.filename, folder)}:{frame.lineno} in {frame.name}"
            frames.append(f"{where}: {frame.line}"[:_FRAME])
    return {"sentence": sentence[:_SENTENCE], "frames": frames[-_FRAMES:]}


if __name__ == "__main__":
    if sys.argv[1:] == ["--probe"]:  # by a person, outside of the cage
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        importlib.import_module("flair_ingestion.probe").main()
    main()
