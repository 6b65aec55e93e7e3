"""Event files for TensorBoard, beside log.csv: the numbers of each epoch, and pictures of validation patches.

TensorBoard is an optional package. Without it a run writes no event files.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flair_baseline.config import Config
from flair_baseline.machines.distributed import rank
from flair_baseline.machines.machine import autocast
from flair_baseline.model.utt import UTT, choose_labels
from flair_baseline.samples.loader import PatchDataset, Sample, collate
from flair_baseline.training.history import Row
from flair_ingestion.dataset import Patch, sample_patches
from flair_scoring.base.errors import UsageError
from flair_scoring.nomenclature import FLAIR_12

PICTURES = 4  # patches, drawn by the seed
_EVERY = 2  # row and column of a patch that a picture shows: 256 x 256 pixels keep event files small
_COLOURS = np.array([list(bytes.fromhex(colour[1:])) for colour in FLAIR_12.colours_with_other], np.uint8)

WriteEpoch = Callable[[UTT, Row], None]


@contextmanager
def opened_events(run: Path, held_out: Sequence[Patch], config: Config) -> Iterator[WriteEpoch]:
    """Inside, the function that is yielded writes the model's pictures and the row of an epoch into RUN.

    The file begins with the first epoch that is written. TensorBoard then drops what earlier files say of
    this epoch and of later ones: the run was stopped after it had written events and before its state.

    Without TensorBoard, and on other ranks than 0, nothing is written; rank 0 says on stderr that TensorBoard
    is missing. UsageError when the file cannot be written.
    """
    if rank() != 0:
        yield lambda model, row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # not before it is needed: it takes a while
    except ImportError:
        print(
            "note: TensorBoard is not installed, so the run writes no event files for it; log.csv has all "
            "numbers; pip install tensorboard adds it",
            file=sys.stderr,
        )
        yield lambda model, row: None
        return
    opened: list[SummaryWriter] = []
    samples: list[tuple[str, Sample]] = []

    def write(model: UTT, row: Row) -> None:
        epoch = int(row["epoch"])
        if not samples:
            chosen = sample_patches(held_out, PICTURES, config.seed)
            samples.extend((patch.id, PatchDataset([patch], config)[0]) for patch in chosen)
        pictures = {id: draw_prediction(model, sample, config) for id, sample in samples}
        with told_in_one_sentence(run):
            if not opened:
                opened.append(SummaryWriter(str(run), purge_step=epoch))
                ending.callback(_close, opened[0])
            for tag, value in tag_values(row).items():
                opened[0].add_scalar(tag, value, epoch)
            for id, picture in pictures.items():
                title = f"aerial, reference, prediction/IMG_{id}"
                opened[0].add_image(title, picture, epoch, dataformats="HWC")
            opened[0].flush()

    with ExitStack() as ending:
        yield write


def tag_values(row: Row) -> dict[str, float]:
    """The numbers of a row by tag, group/key. NaN, the IoU of a class that does not occur, has no tag."""
    tags = {}
    for key, value in row.items():
        if key != "epoch" and not math.isnan(value):
            groups = ("loss", "miou", "iou")
            tags[f"{next((group for group in groups if group in key), 'training')}/{key}"] = float(value)
    return tags


@torch.inference_mode()
def draw_prediction(model: UTT, sample: Sample, config: Config) -> np.ndarray:
    """Aerial image, reference and prediction of the model side by side: uint8 (256, 768, 3)."""
    model.eval()
    device = next(model.parameters()).device
    inputs, labels = collate([sample]).to(device)
    with autocast(device, config.precision):
        logits, _ = model(*inputs)
    prediction = choose_labels(logits, labels.shape[-1])[0].cpu().numpy()
    aerial = sample.aerial[:3].permute(1, 2, 0).numpy()
    panels = [aerial, _COLOURS[sample.labels.numpy()], _COLOURS[prediction]]
    return np.concatenate([panel[::_EVERY, ::_EVERY] for panel in panels], axis=1)


@contextmanager
def told_in_one_sentence(run: Path) -> Iterator[None]:
    """Inside, an event file that cannot be written is a UsageError; nothing else is printed of it."""

    def tell(failure: Any) -> None:
        # TensorBoard writes in a thread of its own, and hands an error of that thread over to us
        if not _writes_events(failure.thread):
            before(failure)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    except OSError as error:
        for thread in filter(_writes_events, threading.enumerate()):
            thread.join(timeout=1)  # it is about to fail with the same error
        raise UsageError(
            f"{run}: TensorBoard's event file cannot be written ({error.strerror}); make room and continue "
            "with --resume"
        ) from None
    finally:
        threading.excepthook = before


def _writes_events(thread: threading.Thread) -> bool:
    return type(thread).__module__.startswith("tensorboard.")


def _close(writer: Any) -> None:
    with suppress(OSError):  # all that was written is flushed, or the failure has been told
        writer.close()
