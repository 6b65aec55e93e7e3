"""The child process that runs one submission, started as `python -I -B runner.py CONTROL`.

CONTROL is the number of a socket, through which the parent gives its orders and receives messages. The parent
trusts nothing that this process says. `python runner.py --probe` shows what a submission cannot do on this
machine.

Until this process is in the sandbox, it imports only the standard library and two files beside this one;
then it imports torch, then the submission. Of the kit, it can import only what the submission brings along.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import mmap
import operator
import os
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any


def _load_beside(name: str) -> ModuleType:
    """The module `name` of this folder, loaded by its path: a submission cannot import it."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_runner_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from torch import Tensor

    from flair_ingestion.sandbox import entering, explanations
else:
    entering, explanations = _load_beside("entering"), _load_beside("explanations")

GO, DONE = b"g", b"d"  # each is followed by the random number of its request; all other messages are JSON
NUMBER_BYTES = 16
MAX_MESSAGE = 1 << 16  # bytes
CLASSES = 12  # labels are 0..12, 12 is other
Refusal = explanations.Refusal
_USAGE = f"""usage: python {Path(__file__).name} --probe

--probe shows what a submission cannot do on this machine. Ingestion starts it itself, with the number of a
socket as argument; by hand, use ingest.py or starting_kit/evaluate.py."""


class SubmissionModules:
    """Finds a module of the kit in the submission or nowhere, as if the kit were not installed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the submission has a module of the kit; None for any other module.

        Raises ModuleNotFoundError for a module of the kit that the submission does not have.
        """
        if name.split(".")[0] not in explanations.KIT:
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
    for stream in (sys.stdout, sys.stderr):  # so that nothing printed before a sudden death is lost
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    control = socket.socket(fileno=int(sys.argv[1]))
    orders = json.loads(control.recv(MAX_MESSAGE))
    report = entering.enter_sandbox(orders["rlimits"], orders["landlock"], orders["filter"])
    send(control, sandboxed=report)
    folder = None
    try:
        send(control, ready=describe_software(orders["device"]))
        folder = json.loads(control.recv(MAX_MESSAGE))["load"]
        model = load_model(folder, orders["device"])
        send(control, loaded=read_settings(model))
        _, (labels,), _, _ = socket.recv_fds(control, 1, 1)
        answer_requests(control, model, mmap.mmap(labels, 0))
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a submission are failures, too
        send(control, failed=explanations.describe_error(error, folder))
        os._exit(1)
    send(control, ended=describe_memory())


def send(control: socket.socket, **message: Any) -> None:
    """Send one JSON message."""
    control.send(json.dumps(message).encode())


def describe_software(device: str) -> dict[str, Any]:
    """Versions, threads, and the accelerator that torch sees (None without one). Imports torch."""
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
    called: Callable, name: str, method: str, given: tuple[str, ...], wrong: bool = False
) -> None:
    """Raises Refusal if `called` does not take the arguments `given`, or if that is known to be `wrong`."""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # not written in Python: only the call itself shows what it takes
        return
    try:
        signature.bind(*given)
    except TypeError:
        wrong = True
    if wrong:
        defined, arguments = str(signature)[: explanations.CAUSE], ", ".join(given)
        raise Refusal(
            f"{name} is defined as {name}{defined}, and is called as {name}({arguments}): "
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
    """Predict each request and write its labels, until the parent sends another message than a request."""
    import torch

    target = torch.frombuffer(labels, dtype=torch.uint8).reshape(-1, 512, 512)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, len(GO) + NUMBER_BYTES, 1)
        if not message.startswith(GO):
            return
        batch = read_batch(map_request(descriptors[0]))
        write_labels(model.predict(batch), target[: len(batch["metadata"])])
        finish_gpu_work()
        del batch  # giving memory back takes time, which belongs to this request and not to the gap after it
        control.send(DONE + message[len(GO) :])


def map_request(descriptor: int) -> mmap.mmap:
    """Map the request privately, so that what is written there stays in this process; closes `descriptor`."""
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    os.close(descriptor)
    return memory


def read_batch(memory: mmap.mmap) -> dict[str, Any]:
    """The request in `memory` as the batch of `Model.predict`: tensors over that memory, not copies."""
    import numpy
    import torch

    def tensor(where: dict[str, Any]) -> Tensor:
        array = numpy.ndarray(where["shape"], where["dtype"], memory, where["offset"])
        return torch.from_numpy(array)

    header = json.loads(memory[8 : 8 + int.from_bytes(memory[:8], "little")])
    arrays = header.pop("arrays")
    series = ("sentinel", "sentinel_masks", "sentinel_dates")
    return (
        {"aerial": tensor(arrays["aerial"])}
        | {k: [tensor(one) for one in arrays[k]] for k in series}
        | header
    )


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
    # numpy copies in this thread; torch would start threads, which stay busy and delay the answer on 2 cores
    numpy.copyto(target.numpy(), labels.detach().to("cpu", torch.uint8).numpy())


def finish_gpu_work() -> None:
    """Wait for work that the submission has queued on the GPU: its time belongs to this request."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def describe_memory() -> dict[str, float | None]:
    """The peak of GPU memory in MiB, as torch's allocator counts it; None if the GPU was not used."""
    import torch

    peak = torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_initialized() else None
    return {"accelerator_mib": peak}


if __name__ == "__main__":
    if sys.argv[1:] == ["--probe"]:  # by a person, outside of the sandbox
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        importlib.import_module("flair_ingestion.sandbox.system").require_linux()
        try:
            importlib.import_module("flair_ingestion.sandbox.probe").main()
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our stdout (head, less) has left
            os._exit(1)
    elif len(sys.argv) == 2 and sys.argv[1].isdecimal():
        main()
    else:
        asked = sys.argv[1:] in (["--help"], ["-h"])
        print(_USAGE, file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
