"""Runs that begin with given weights, and what stays true of them when they are continued and packaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from given_weights import write
from official_recipe import draw_tensors
from safetensors.torch import load_file

from flair_baseline.checkpoint import read_state
from flair_baseline.config import Config, load_config
from flair_baseline.encoders import make_network
from flair_baseline.initial.given import Start
from flair_baseline.packaging import pack_checkpoint
from flair_baseline.training import estimate, loop
from flair_baseline.training.loop import train
from flair_scoring.base.errors import DataError, UsageError

SMALL = (
    *("encoder=tu-mobilenetv3_small_050", "encoder_weights=null", "decoder_channels=[8, 8, 8, 8, 8]"),
    *("aerial_pooling=4", "superpatch_size=16", "batch_size=2", "effective_batch_size=4", "epochs=2"),
    *("workers=0", "device=cpu"),
)


def small(*overrides: str) -> Config:
    return load_config("utt_best", [*SMALL, *overrides])


@pytest.fixture(scope="module")
def first(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(small("epochs=1", "learning_rate=0.01"), flair_tree, folder)
    return folder


def train_one_epoch_of_two(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> None:
    """Train until the second validation, which fails."""
    calls = iter([loop.validate])
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", lambda *given: next(calls)(*given))
        with pytest.raises(StopIteration):
            train(*arguments, **options)


def test_a_run_begins_with_the_weights_and_says_so(first, flair_tree, tmp_path, capsys):
    """With a rate of almost 0 the weights after an epoch are those of the file, the U-TAE's too."""
    config = small("epochs=1", "learning_rate=1e-12", "channels=RVBI", "seed=7")
    train(config, flair_tree, tmp_path, start=Start(first))
    given, found = (load_file(folder / "model.safetensors") for folder in (first, tmp_path))
    assert torch.equal(
        found["unet.encoder.model.conv_stem.weight"], given["unet.encoder.model.conv_stem.weight"][:, :4]
    )
    for name, tensor in given.items():
        if name.endswith(("weight", "bias")) and "conv_stem" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-7)
    record = json.loads((tmp_path / "model.json").read_text())["init_from"]
    assert record == read_state(tmp_path)["init_from"]
    assert (record["file"], record["layout"]) == ("model.safetensors", "this kit")
    assert record["loaded"]["tensors"] == len(given) - 1
    assert record["adapted"] == {"tensors": 1, "numbers": 16 * 4 * 9}
    assert record["drawn_anew"]["tensors"] == record["left_over"]["tensors"] == 0
    said = capsys.readouterr().err
    assert "weights from model.safetensors (this kit; SHA-256 " in said
    assert "bands: RVBIE in the file, RVBI here; those of E are left out" in said


def test_a_run_without_given_weights_has_no_record_of_them(first):
    assert "init_from" not in json.loads((first / "model.json").read_text())
    assert "init_from" not in read_state(first)


def test_a_continued_run_does_not_read_the_file_again(first, flair_tree, tmp_path, monkeypatch, capsys):
    config, given = small(), write(tmp_path, load_file(first / "model.safetensors"))
    train(config, flair_tree, tmp_path / "whole", start=Start(given))
    train_one_epoch_of_two(monkeypatch, config, flair_tree, tmp_path / "parts", start=Start(given))
    given.unlink()
    train(config, flair_tree, tmp_path / "parts", resume=True, start=Start(given))
    assert (
        f"{tmp_path / 'parts'}: goes on with its own weights; {given} is not read" in capsys.readouterr().err
    )
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    states = [read_state(tmp_path / name) for name in ("whole", "parts")]
    assert all(torch.equal(tensor, states[1]["model"][name]) for name, tensor in states[0]["model"].items())
    assert states[0]["init_from"] == states[1]["init_from"]


def test_weights_of_the_encoder_are_not_looked_for_when_they_are_given(first, flair_tree, tmp_path):
    config = small("epochs=1", f"encoder_weights={tmp_path}/absent.pth")
    with pytest.raises(UsageError, match=r"absent\.pth: no such file"):
        train(config, flair_tree, tmp_path / "run")
    train(config, flair_tree, tmp_path / "run", start=Start(first))


def test_an_estimate_reads_the_given_weights_too(first, flair_tree, tmp_path, monkeypatch):
    config = small("epochs=1", f"encoder_weights={tmp_path}/absent.pth")
    with pytest.raises(UsageError, match=r"nowhere: no such file; --init-from takes"):
        estimate.estimate_run(config, flair_tree, Start(tmp_path / "nowhere"))
    asked_for = []

    def make_no_learner(given, *rest):
        asked_for.append(given.encoder_weights)
        raise InterruptedError  # what follows, the measurement, takes long

    monkeypatch.setattr(estimate, "make_learner", make_no_learner)
    with pytest.raises(InterruptedError):
        estimate.estimate_run(config, flair_tree, Start(first))
    assert asked_for == [None]  # the encoder is in the given weights


def test_a_file_of_the_encoder_is_read_once(flair_tree, tmp_path, monkeypatch):
    encoder = make_network(small()).unet.encoder
    shapes = {name: list(one.shape) for name, one in encoder.state_dict().items()}
    config = small(f"encoder_weights={tmp_path}/model.safetensors", "learning_rate=1e-12")
    path = write(tmp_path, draw_tensors(shapes), "model.safetensors")
    train_one_epoch_of_two(monkeypatch, config, flair_tree, tmp_path / "run")
    path.unlink()
    train(config, flair_tree, tmp_path / "run", resume=True)
    assert len(read_state(tmp_path / "run")["rows"]) == 2
    assert "weights.safetensors" in pack_checkpoint(tmp_path / "run", batch_size=1)
    found = load_file(tmp_path / "run/model.safetensors")
    expected = draw_tensors(shapes)
    torch.testing.assert_close(
        found["unet.encoder.model.conv_stem.weight"], expected["model.conv_stem.weight"], rtol=1e-5, atol=1e-7
    )


def test_weights_that_do_not_fit_leave_nothing(flair_tree, tmp_path):
    path = write(tmp_path, {"a.weight": torch.ones(1)})
    with pytest.raises(DataError, match="holds no network of a known layout"):
        train(small(), flair_tree, tmp_path / "run", start=Start(path))
    assert not (tmp_path / "run").exists()
