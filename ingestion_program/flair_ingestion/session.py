"""One submission from load to end, under the clock: the parent's part of the protocol with runner.py."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from flair_ingestion.clock import clock
from flair_ingestion.devices.device import Device, all_gpu_nodes, create_gpu_nodes, gpu_nodes
from flair_ingestion.limits import Limits
from flair_ingestion.sandbox import policy
from flair_ingestion.sandbox.child import Budget, Child
from flair_ingestion.sandbox.runner import DONE, GO, NUMBER_BYTES
from flair_ingestion.sandbox.scratch import private_folder
from flair_ingestion.shared_memory import (
    UNWRITTEN,
    LabelMemory,
    SealedRequest,
    request_bytes,
    synthetic_request,
    write_request,
)
from flair_ingestion.submission import Submission, unpack
from flair_scoring.base.errors import FlairError, PredictionError, SubmissionError, UsageError
from flair_scoring.base.interrupts import held_signals
from flair_scoring.base.terminal import one_line
from flair_scoring.nomenclature import FLAIR_12

BATCH_SIZES = range(1, 33)
SUPERPATCH_SIZES = range(10, 111, 2)
_START_SECONDS = 300.0  # for the interpreter and torch: a slow disk is not the submission's fault
_END_SECONDS = 30.0


class Session:
    """A running submission, used in a `with` block; after the block all its processes and files are gone.

    Call `start`, `load`, `warm_up`, then `predict` for each request, then `end`. They raise SubmissionError
    or PredictionError with what was wrong, and TimeLimitError after `wall`, a time on `clock`.
    """

    def __init__(self, submission: Submission, device: Device, limits: Limits, wall: float) -> None:
        self._device, self._limits, self._wall = device, limits, wall
        self._shielded = policy.shield_parent()
        with ExitStack() as stack:  # closed at once if anything fails here, otherwise by __exit__
            root = stack.enter_context(private_folder())
            self._copy, self._scratch = root / "submission", root / "scratch"
            unpack(submission, self._copy)
            self._scratch.mkdir()
            self.child = self._spawn()
            stack.callback(lambda: self.child.close())
            self._stack = stack.pop_all()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with held_signals():
            self._stack.close()
        lines = self.child.last_output()
        if isinstance(error, FlairError) and lines:
            print("last output of the submission:", *lines, sep="\n  | ", file=sys.stderr)

    def start(self, required_level: str) -> None:
        """Put the child into the sandbox and let it import torch; raises UsageError where that fails.

        If the sandbox hides the GPU, the child starts again without the rules for files, with a warning.
        """
        cuda = self._device.kind == "cuda"
        self._enter_sandbox(required_level)
        if cuda and not self.software["accelerator"] and self.sandbox_level in ("files", "full"):
            print("warning: no CUDA device inside the sandbox for files; trying without", file=sys.stderr)
            self.child.close()
            self.child = self._spawn()
            self._enter_sandbox(required_level, hide_files=False)
        if cuda and not self.software["accelerator"]:
            raise UsageError(
                "torch sees no CUDA device: the driver does not fit this torch, or device files in /dev are "
                "missing; --device cpu works"
            )
        if not self.child.sees_memory():
            raise UsageError(
                "this machine does not let us see how much memory a child process holds, so memory_gib cannot"
                " be kept; allow reading /proc/PID/status, or run as the owner of the interpreter"
            )

    def load(self) -> float:
        """Let the child import model.py and construct its Model. Returns the seconds that this took."""
        begin = clock()
        self._tell(load=str(self._copy))
        settings = self.child.receive_event("loaded", self.budget("loading", "load_seconds"))
        settings = settings if isinstance(settings, dict) else {}
        self.batch_size = _setting(settings, "batch_size", BATCH_SIZES, "1 to 32")
        self.superpatch_size = _setting(
            settings, "superpatch_size", SUPERPATCH_SIZES, "even numbers from 10 to 110"
        )
        return clock() - begin

    def warm_up(self, counts: Sequence[int], lengths: Sequence[int]) -> float:
        """Share memory with the child, and run synthetic requests. Returns the seconds that this took.

        There is a request for each count of patches with each series length as its longest one. `lengths` are
        the series lengths that occur, in ascending order.
        """
        _check_size(self.batch_size, self.superpatch_size, lengths[-1], self._limits.request_mib)
        self._labels = LabelMemory(self.batch_size)
        self._stack.callback(self._labels.close)
        self.child.send(b"m", [self._labels.descriptor])
        end = clock() + self._limits.warmup_seconds
        begin = clock()
        for count in counts:
            for longest in range(len(lengths)):
                mixed = [lengths[max(longest - index, 0)] for index in range(count)]
                budget = self.budget(f"warm-up (batch of {count})", "warmup_seconds", end - clock())
                self.predict(write_request(synthetic_request(mixed, self.superpatch_size)), budget)
        return clock() - begin

    def predict(self, request: SealedRequest, budget: Budget) -> tuple[np.ndarray, float]:
        """Labels uint8 (B, 512, 512), valid until the next call, and the seconds that they took.

        The clock starts before the submission gets the request, and stops when its labels have been copied
        away. Before and after that, the submission stands still. "Done" carries the random number that came
        with the request, so it cannot have been sent earlier. The request is closed in any case.
        """
        try:
            self.child.watch(budget.step)
            self._labels.poison()
            number = os.urandom(NUMBER_BYTES)
            self.child.end_gap()
            self.child.refuse_early_message(budget.step)
            begin = clock()
            self.child.send(GO + number, [request.descriptor])
            self.child.thaw()
            message = self.child.receive(budget)
            labels = self._labels.copy_away(request.count)
            seconds = clock() - begin
            self.child.freeze()
        finally:
            request.close()
        if message != DONE + number:
            raise self.child.failure(message, budget.step)
        _check_labels(labels, budget.step)
        return labels, seconds

    def end(self) -> float | None:
        """Let the child end. Returns its peak of GPU memory in MiB as it tells it, None if it does not."""
        self.child.end_gap()
        self.child.thaw()
        self._tell(end=True)
        exceeded = SubmissionError(
            f"the submission does not end within {_END_SECONDS:g} s after its last request"
        )
        told = self.child.receive_event("ended", Budget("end", _END_SECONDS, exceeded))
        peak = told.get("accelerator_mib") if isinstance(told, dict) else None
        return float(peak) if isinstance(peak, int | float) and 0 <= peak < 1e9 else None

    def budget(self, step: str, name: str, seconds: float | None = None) -> Budget:
        """The budget `name` of limits.yaml for a step; at most `seconds`, if only these are left of it."""
        whole = getattr(self._limits, name)
        exceeded = SubmissionError(f"{step}: no answer within {name} = {whole:g}")
        return Budget(step, whole if seconds is None else seconds, exceeded)

    def _spawn(self) -> Child:
        environment = policy.environment(self._scratch, self._device.visible_gpu)
        limits = self._limits
        return Child(environment, self._scratch, limits.memory_gib, limits.scratch_gib, self._wall)

    def _enter_sandbox(self, required_level: str, hide_files: bool = True) -> None:
        failure = UsageError(f"the child process is not ready after {_START_SECONDS:g} s")
        budget = Budget("start", _START_SECONDS, failure)
        try:
            create_gpu_nodes(self._device)
            nodes = gpu_nodes(self._device)
            if nodes is None:
                _warn_of_all_gpus()
                nodes = all_gpu_nodes()
            orders = policy.orders(self.child.pid, self._copy, self._scratch, nodes, hide_files)
            self._tell(**orders, device=self._device.torch_name)
            self.sandbox_level = policy.reached_level(
                self._shielded, self.child.receive_event("sandboxed", budget)
            )
            policy.require_level(self.sandbox_level, required_level)
            self.software: dict[str, Any] = self.child.receive_event("ready", budget)
        except SubmissionError as error:  # no code of the submission has run yet
            raise UsageError(f"the child process cannot run here: {error}") from None

    def _tell(self, **message: Any) -> None:
        self.child.send(json.dumps(message).encode())


@functools.cache
def _warn_of_all_gpus() -> None:
    """Warn once in a run: each process of the run would warn again."""
    print(
        "warning: the driver does not tell this GPU's device file; the sandbox opens those of all GPUs",
        file=sys.stderr,
    )


def _setting(settings: dict[str, Any], name: str, allowed: range, wording: str) -> int:
    value = settings.get(name)
    if type(value) is not int or value not in allowed:
        raise SubmissionError(f"loading: Model.{name} is {one_line(str(value)[:50])}; expected {wording}")
    return value


def _check_size(batch_size: int, superpatch_size: int, longest: int, allowed_mib: float) -> None:
    mib = request_bytes(batch_size, superpatch_size, longest) / 2**20
    if mib > allowed_mib:
        raise SubmissionError(
            f"loading: batch_size {batch_size} with superpatch_size {superpatch_size} makes requests of "
            f"{mib:.0f} MiB where series have {longest} dates; request_mib allows {allowed_mib:g}"
        )


def _check_labels(labels: np.ndarray, step: str) -> None:
    highest = int(labels.max())
    if highest == UNWRITTEN:
        pixels = int((labels == UNWRITTEN).sum())
        raise PredictionError(f"{step}: {pixels} pixels were not predicted, or predicted as {UNWRITTEN}")
    if highest > FLAIR_12.other:
        raise PredictionError(f"{step}: predict returned the label {highest}; expected 0..{FLAIR_12.other}")
