import builtins
import math
import resource
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import small

from flair_baseline.config import model_options
from flair_baseline.model.utt import UTT
from flair_baseline.training import event_files
from flair_baseline.training.event_files import draw_prediction, opened_events, tag_values
from flair_baseline.training.history import Row
from flair_ingestion.dataset import Patch, index_patches, read_image, read_labels
from flair_scoring.base.errors import UsageError
from flair_scoring.nomenclature import FLAIR_12

TITLE = "aerial, reference, prediction/IMG_"


def make_row(epoch: int, loss: float = 0.5) -> Row:
    numbers = {"seconds": 1.5, "learning_rate": 0.01, "train_loss": loss, "val_loss": 0.7, "val_miou": 0.25}
    return (
        {"epoch": epoch} | numbers | {"val_miou_D004_2021": 0.5, "iou_water": 0.125, "iou_building": math.nan}
    )


@pytest.fixture(scope="module")
def model() -> UTT:
    torch.manual_seed(0)
    return UTT(**model_options(small()))


@pytest.fixture(scope="module")
def held_out(flair_tree: Path) -> list[Patch]:
    return index_patches(flair_tree, "val", labels=True)


def read_events(run: Path) -> SimpleNamespace:
    """What TensorBoard shows of RUN: tag -> [(step, value)] and tag -> [step]."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return SimpleNamespace(
        scalars={
            tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]
        },
        images={tag: events.Images(tag) for tag in events.Tags()["images"]},
    )


def test_tensorboard_shows_the_numbers_and_pictures_of_each_epoch(model, held_out, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with opened_events(tmp_path, held_out, small()) as write:
        assert list(tmp_path.iterdir()) == []  # a run that fails in its first epoch leaves nothing
        for epoch in (1, 2):
            write(model, make_row(epoch, loss=1 / epoch))
    shown = read_events(tmp_path)
    assert shown.scalars == {
        "training/seconds": [(1, 1.5), (2, 1.5)],
        "training/learning_rate": [(1, pytest.approx(0.01)), (2, pytest.approx(0.01))],
        "loss/train_loss": [(1, 1), (2, 0.5)],
        "loss/val_loss": [(1, pytest.approx(0.7)), (2, pytest.approx(0.7))],
        "miou/val_miou": [(1, 0.25), (2, 0.25)],
        "miou/val_miou_D004_2021": [(1, 0.5), (2, 0.5)],
        "iou/iou_water": [(1, 0.125), (2, 0.125)],
    }
    assert len(shown.images) == 4
    assert {tag[: len(TITLE)] for tag in shown.images} == {TITLE}
    for pictures in shown.images.values():
        assert [(one.step, one.width, one.height) for one in pictures] == [(1, 768, 256), (2, 768, 256)]
    again = tmp_path / "again"
    with opened_events(again, held_out, small()) as write:
        write(model, make_row(1))
    assert read_events(again).images.keys() == shown.images.keys()  # the seed chooses the patches


def test_a_resumed_run_shows_no_step_twice(model, held_out, tmp_path: Path) -> None:
    """The first process was killed in its third epoch, after its events and before its state."""
    pytest.importorskip("tensorboard")
    for epochs, loss in (((1, 2, 3), 0.5), ((3, 4), 0.25)):
        with opened_events(tmp_path, held_out, small()) as write:
            for epoch in epochs:
                write(model, make_row(epoch, loss))
    shown = read_events(tmp_path)
    assert shown.scalars["loss/train_loss"] == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]
    for pictures in shown.images.values():
        assert [one.step for one in pictures] == [1, 2, 3, 4]


def test_the_picture_is_the_patch_its_labels_and_the_prediction(model, held_out) -> None:
    patch, config = held_out[0], small()
    sample = event_files.PatchDataset([patch], config)[0]
    picture = draw_prediction(model, sample, config)
    aerial, reference, prediction = np.split(picture, 3, axis=1)
    assert np.array_equal(aerial, read_image(patch)[:3, ::2, ::2].transpose(1, 2, 0))
    palette = Image.new("P", (1, 1))
    palette.putpalette(bytes.fromhex("".join(colour[1:] for colour in FLAIR_12.colours_with_other)))
    for panel, labels in (
        (reference, FLAIR_12.index_of[read_labels(patch)]),
        (prediction, model(*event_files.collate([sample]).inputs)[0].argmax(1)[0].numpy().astype(np.uint8)),
    ):
        labels = np.kron(labels, np.ones((512 // len(labels),) * 2, np.uint8))
        drawn = Image.fromarray(np.ascontiguousarray(labels[::2, ::2]), "L")
        drawn.putpalette(palette.getpalette())
        assert np.array_equal(panel, np.array(drawn.convert("RGB")))


def test_every_number_of_the_log_but_nan_has_a_tag() -> None:
    tags = tag_values(make_row(3))
    assert "iou/iou_building" not in tags
    assert {tag.partition("/")[2] for tag in tags} == make_row(3).keys() - {"epoch", "iou_building"}


def test_without_tensorboard_a_note_says_so_once(model, held_out, tmp_path, monkeypatch, capsys) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with opened_events(tmp_path, held_out, small()) as write:
        for epoch in (1, 2):
            write(model, make_row(epoch))
    told = capsys.readouterr().err
    assert told.count("note: TensorBoard is not installed") == told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_only_rank_0_writes(model, held_out, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(event_files, "rank", lambda: 1)
    with opened_events(tmp_path, held_out, small()) as write:
        write(model, make_row(1))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_a_full_disk_ends_the_run_in_one_sentence(model, held_out, tmp_path: Path, capsys) -> None:
    pytest.importorskip("tensorboard")
    before, hook = resource.getrlimit(resource.RLIMIT_FSIZE), threading.excepthook
    with opened_events(tmp_path, held_out, small()) as write:
        write(model, make_row(1))
        (events,) = tmp_path.iterdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (events.stat().st_size + 100, before[1]))
        try:
            with pytest.raises(
                UsageError, match=r"event file cannot be written \(File too large\); make room"
            ):
                write(model, make_row(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capsys.readouterr().err == ""
    assert threading.excepthook is hook
    assert read_events(tmp_path).scalars["loss/train_loss"][0] == (1, 0.5)  # what was there can be read
