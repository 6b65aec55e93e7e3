"""The child: runs one submission. Started as `python -I -B runner.py CONTROL`, the number of a socket.

`python runner.py --probe` shows what a submission cannot do on this machine.

One file: the standard library only until the sandbox is entered, then torch, then the submission. Of the kit,
only what the submission brings along can be imported here. The parent trusts nothing that this process says.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import inspect
import json
import mmap
import operator
import os
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
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
_CAUSE = 200  # characters of an exception's own words behind our advice
_DENIED = (errno.EACCES, errno.EPERM)
# Files and packages through which a library reaches the network, or other processes
_NETWORK = {
    *("socket.py", "ssl.py", "hub.py", "urllib", "http", "urllib3", "requests", "httpx", "httpx2"),
    *("httpcore", "httpcore2", "aiohttp", "huggingface_hub"),
}
_PROCESSES = {"multiprocessing", "loky"}
_BATCH = ("aerial", "sentinel", "sentinel_masks", "sentinel_dates", "metadata")
_USAGE = f"""usage: python {Path(__file__).name} --probe

--probe shows what a submission cannot do on this machine. Ingestion starts it itself, with the number of a
socket as argument; by hand, use ingest.py or starting_kit/evaluate.py."""


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
    """Enter the sandbox, load the submission when told to, answer requests until told to end."""
    for stream in (sys.stdout, sys.stderr):  # what was printed before a sudden death helps to find its cause
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    control = socket.socket(fileno=int(sys.argv[1]))
    orders = json.loads(control.recv(MAX_MESSAGE))
    send(control, sandboxed=enter_sandbox(orders["rlimits"], orders["landlock"], orders["filter"]))
    folder = None
    try:
        send(control, ready=describe_software(orders["device"]))
        folder = json.loads(control.recv(MAX_MESSAGE))["load"]
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


def enter_sandbox(
    rlimits: dict[str, int], landlock: dict[str, Any] | None, call_filter: str | None
) -> dict[str, bool]:
    """Give up what a submission does not need, as policy.py has worked it out; says what is true then."""
    import resource  # not on Windows, where this file can be imported only to say so

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
    if not callable(module.Model):
        raise Refusal(f"Model in model.py is {type(module.Model).__name__}; expected a class")
    inherited = getattr(module.Model, "__init__", None) is torch.nn.Module.__init__
    require_call(module.Model, "Model", "__init__", ("submission_dir", "device"), inherited)
    model = module.Model(Path(folder), torch.device(device))
    if not callable(getattr(model, "predict", None)):
        raise Refusal("Model has no method predict(batch)")
    require_call(model.predict, "predict", "predict", ("batch",))
    return model


def require_call(
    called: Callable, name: str, method: str, given: tuple[str, ...], inherited: bool = False
) -> None:
    """Raises Refusal if `called` does not take what it will be given; `inherited`: it is known not to."""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # not written in Python: the call itself will tell
        return
    try:
        signature.bind(*given)
    except TypeError:
        inherited = True
    if inherited:
        arguments = ", ".join(given)
        raise Refusal(
            f"{name} is defined as {name}{str(signature)[:_CAUSE]}, and is called as {name}({arguments}): "
            f"write def {method}(self, {arguments})"
        )


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


def describe_error(error: BaseException, folder: str | None) -> dict[str, Any]:
    """What happened, in one sentence; the last frames of the submission in `folder`; a library's last one.

    Where an exception in the chain shows that the sandbox or a wrong path is the cause, the sentence says so.
    """
    sentence = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
    chain = causes(error)
    advised = ((cause, advise(cause, folder, cause is error)) for cause in reversed(chain))
    cause, advice = next(((cause, told) for cause, told in advised if told), (error, None))
    if advice:
        sentence = f"{advice} ({' '.join(sentence[:_CAUSE].split())})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if folder and is_below(f.filename, folder)]
    told = [describe_frame(frame, folder) for frame in frames[-_FRAMES:]]
    innermost = innermost_frame(cause)
    if innermost and not (folder and is_below(innermost.filename, folder)):
        told.append(describe_frame(innermost, folder))
    return {"sentence": sentence[:_SENTENCE], "frames": told}


def causes(error: BaseException) -> list[BaseException]:
    """The exception, and those that led to it, the first one last."""
    chain = [error]
    while len(chain) < _FRAMES:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or before in chain:
            break
        chain.append(before)
    return chain


def advise(error: BaseException, folder: str | None, outermost: bool) -> str | None:
    """What most likely was the cause of an exception, and the way out; None for the submission's own affair.

    Mistakes that a library may have met and got over are explained only where they were the `outermost` one.
    """
    innermost = innermost_frame(error)
    within = set(Path(innermost.filename).parts) if innermost else set()
    denied = isinstance(error, OSError) and error.errno in _DENIED
    if (denied and within & _PROCESSES) or "shared memory object" in str(error):
        return (
            "locks, queues, pools and memory of multiprocessing need /dev/shm, which a submission does not "
            "have: use a ThreadPoolExecutor, and num_workers=0 for a DataLoader"
        )
    path = getattr(error, "filename", None)
    passed = {part for f in traceback.extract_tb(error.__traceback__) for part in Path(f.filename).parts}
    unreachable = denied or isinstance(error, socket.gaierror | ConnectionError | TimeoutError)
    if unreachable and path is None and passed & _NETWORK:
        return (
            "a submission has no network: put what it would download, pretrained weights for example, into "
            "the zip"
        )
    if denied and isinstance(path, str | os.PathLike):
        return explain_path(os.path.abspath(path), folder)
    if denied:
        return "the sandbox refuses some system calls, probably this one; the page Questions lists them"
    return explain_mistake(error, folder) if outermost else None


def explain_path(path: str, folder: str | None) -> str:
    """Why the sandbox does not open a file."""
    real = os.path.realpath(path)
    below = [entry for entry in sys.path if entry and entry != folder]
    if real != path and any(is_below(path, entry) and not is_below(real, entry) for entry in below):
        return (
            f"{path} is a link to {real}, which a submission cannot read: install the package itself in "
            "place of the link"
        )
    return (
        "a submission reads its own folder, the installed packages and the system's libraries, and reads and "
        f"writes its scratch folder {tempfile.gettempdir()}, but nothing else"
    )


def explain_mistake(error: BaseException, folder: str | None) -> str | None:
    """The way out of mistakes that beginners make; None for all others."""
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] not in KIT:
        return f"{error.name!r} is neither in the submission nor installed: bring it along in the zip"
    if isinstance(error, AttributeError) and isinstance(error.obj, dict) and error.name in _BATCH:
        return f"batch is a dict: write batch[{error.name!r}]"
    missing = error.filename if isinstance(error, FileNotFoundError) else None
    if not folder or not isinstance(missing, str | os.PathLike):
        return None
    name = os.fspath(missing)
    if not isinstance(name, str):
        return None
    if os.path.isabs(name):
        if not is_below(os.path.normpath(name), folder):
            return None
        name = os.path.relpath(name, folder)
    elif os.path.exists(os.path.join(folder, name)):
        return f"relative paths do not start in the submission's folder: open submission_dir / {name!r}"
    return None if os.path.exists(os.path.join(folder, name)) else f"the submission holds no file {name}"


def innermost_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Where an exception was raised, but for this file and the import system."""
    frames = traceback.extract_tb(error.__traceback__)
    own = (__file__, "<frozen importlib")
    return next((frame for frame in reversed(frames) if not frame.filename.startswith(own)), None)


def describe_frame(frame: traceback.FrameSummary, folder: str | None) -> str:
    """File, line, function and source line; the file below the submission or the packages it belongs to."""
    roots = [folder or "", *sys.path]
    roots = [root for root in roots if root and is_below(frame.filename, root)]
    name = os.path.relpath(frame.filename, max(roots, key=len)) if roots else frame.filename
    return f"{name}:{frame.lineno} in {frame.name}: {frame.line}"[:_FRAME]


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, both as they are written."""
    return path.startswith(os.path.join(folder, ""))


if __name__ == "__main__":
    if sys.argv[1:] == ["--probe"]:  # by a person, outside of the sandbox
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        importlib.import_module("flair_ingestion.sandbox.system").require_linux()
        importlib.import_module("flair_ingestion.sandbox.probe").main()
    elif len(sys.argv) == 2 and sys.argv[1].isdecimal():
        main()
    else:
        asked = sys.argv[1:] in (["--help"], ["-h"])
        print(_USAGE, file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
