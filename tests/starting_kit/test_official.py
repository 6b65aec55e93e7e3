"""Converted checkpoints give the numbers of the official model.

official_numbers.npz was written by the model of github.com/IGNF/FLAIR-2 at b9b48922 (2024-07-14), in eval
mode, batch 1, float32 on the CPU, torch 2.15 and smp 0.6, for the weights and inputs of official_recipe.py.
Its U-TAE is that of github.com/VSainteuf/utae-paps at 987874e2. Two edits made it run:
`encoder_weights=None` in the call of smp, and `decoder(unet_utae_fmaps)` without the star. Aerial patches
were divided by 255; at 12 dates the series were fed as digital numbers (that code's monthly means),
otherwise divided by 65535; dates were its days until 15 May 2021; metadata went through its
`adding_encoded_metadata`. The file keeps one pixel in 1021 of the aerial logits; the 10 x 10 pixels of the
satellite logits before they were enlarged; the counts of the labels; and a hash of the labels without the
pixels whose two highest logits differ by less than 2e-4 of the largest.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from official_recipe import CASES, METADATA, STEP, draw_inputs, draw_tensors, hash_labels
from safetensors.torch import load_file, save_file

from flair_baseline.checkpoint import read_config
from flair_baseline.config import load_config, model_options
from flair_baseline.model import inference
from flair_baseline.model.metadata import encode_metadata
from flair_baseline.model.utt import UTT
from flair_baseline.official import convert as convert_tensors
from flair_baseline.official import read_official
from flair_baseline.packaging import pack_checkpoint, write_submission
from flair_scoring.base.errors import DataError
from programs import run_here

TOLERANCE = 1e-4  # of the largest logit
NUMBERS = np.load(Path(__file__).parent / "official_numbers.npz")
SHAPES: dict[str, list[int]] = json.loads(str(NUMBERS["tensors"]))
LIGHTNING = """
import sys, torch
class Callback:  # an object that the converter's process cannot import
    def __init__(self): self.best = 0.5
sys.modules["lightning_like"] = type(sys)("lightning_like")
sys.modules["lightning_like"].Callback, Callback.__module__ = Callback, "lightning_like"
state = {"model." + name: tensor for name, tensor in torch.load(sys.argv[1]).items()}
state |= {"criterion.0.weight": torch.ones(13), "criterion.1.weight": torch.ones(13)}
torch.save({"epoch": 9, "state_dict": state, "callbacks": {"best": Callback()}}, sys.argv[2])
"""


def official_tensors(metadata: bool) -> dict[str, torch.Tensor]:
    return draw_tensors(
        {name: shape for name, shape in SHAPES.items() if metadata or not name.startswith("mtd_mlp")}
    )


def convert(checkpoint: Path, run: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return run_here("convert_checkpoint", checkpoint, "-o", run, *settings, cwd=checkpoint.parent)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A plain state dict without metadata, and a Lightning checkpoint with them."""
    folder = tmp_path_factory.mktemp("official")
    torch.save(OrderedDict(official_tensors(metadata=False)), folder / "plain.pt")
    torch.save(official_tensors(metadata=True), folder / "metadata.pt")
    files = [str(folder / "metadata.pt"), str(folder / "metadata.ckpt")]
    subprocess.run([sys.executable, "-c", LIGHTNING, *files], check=True)
    return {False: folder / "plain.pt", True: folder / "metadata.ckpt"}


@pytest.fixture(scope="module")
def converted(checkpoints: dict[bool, Path]) -> Callable[[bool, bool], Path]:
    """The run folder for a network with metadata or without, trained with monthly means or single dates."""

    @cache
    def run(metadata: bool, monthly: bool) -> Path:
        folder = checkpoints[metadata].parent / f"run_{metadata}_{monthly}"
        done = convert(checkpoints[metadata], folder, f"monthly_average={monthly}")
        assert (done.returncode, done.stdout) == (0, f"{folder}\n"), done.stderr
        assert f"{len(SHAPES) - 6 * (not metadata)} tensors" in done.stderr
        return folder

    return run


@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize("dates", CASES)
def test_logits_of_both_branches_equal_those_of_the_official_model(converted, dates, metadata):
    folder = converted(metadata, CASES[dates])
    config = read_config(folder / "model.safetensors")
    assert (config.metadata, config.monthly_average) == (metadata, CASES[dates])
    model = UTT(**model_options(config)).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    aerial, numbers, days = draw_inputs(dates)
    inputs = {
        "aerial": torch.from_numpy(aerial)[None],
        "series": torch.from_numpy(numbers.astype(np.float32) / 10_000)[None],
        "days": torch.from_numpy(days.astype(np.float32))[None],
        "metadata": encode_metadata(METADATA)[None] if metadata else None,
    }
    with torch.inference_mode():
        logits, satellite = (branch[0].numpy() for branch in model(**inputs))

    official = {
        key: NUMBERS[f"{'metadata' if metadata else 'plain'}_{dates}_{key}"]
        for key in ("aerial", "satellite", "largest", "uncertain", "labels", "counts")
    }
    assert np.abs(logits).max() == pytest.approx(official["largest"], rel=TOLERANCE)
    error = np.abs(logits.reshape(13, -1)[:, ::STEP] - official["aerial"]).max()
    assert error / official["largest"] < TOLERANCE
    error = np.abs(satellite - official["satellite"]).max()
    assert error / np.abs(official["satellite"]).max() < TOLERANCE
    labels = logits.argmax(0).ravel().astype(np.uint8)
    assert hash_labels(labels, official["uncertain"]) == official["labels"]
    differences = np.abs(np.bincount(labels, minlength=13) - official["counts"])
    assert differences.sum() < len(official["uncertain"])


@pytest.mark.parametrize("year", [2021, 2020])  # that code moves every date to 2021; 2020 has a day more
def test_a_packaged_conversion_labels_as_the_official_model(converted, tmp_path, year):
    write_submission(tmp_path / "new", pack_checkpoint(converted(True, False), batch_size=1))
    model = inference.Model(tmp_path / "new", torch.device("cpu"))
    aerial, numbers, days = draw_inputs(55)
    read = np.datetime64("2021-01-01") + days
    dates = np.array([f"{year}{str(date)[4:]}" for date in read], dtype="datetime64[D]").astype(np.int32)
    batch = {
        "aerial": torch.from_numpy(aerial)[None],
        "sentinel": [torch.from_numpy(numbers)],
        "sentinel_masks": [torch.zeros(55, 2, 40, 40, dtype=torch.uint8)],
        "sentinel_dates": [torch.from_numpy(dates)],
        "metadata": [METADATA],
    }
    labels = model.predict(batch).numpy().ravel()
    uncertain = NUMBERS["metadata_55_uncertain"]
    assert hash_labels(labels, uncertain) == NUMBERS["metadata_55_labels"]


def test_metadata_are_encoded_as_by_the_official_code_but_for_the_month():
    ours, official = encode_metadata(METADATA).numpy(), NUMBERS["encoded"]
    month, rest = slice(39, 41), [*range(39), *range(41, 45)]
    assert ours[rest] == pytest.approx(official[rest], abs=1e-6)
    assert official[month] == pytest.approx([0.25, 0.9330127])  # whatever the month
    august = 2 * np.pi * 7 / 12
    assert ours[month] == pytest.approx([0.5 + np.sin(august) / 2, 0.5 + np.cos(august) / 2])


@pytest.mark.parametrize(
    ("metadata", "count", "parameters"), [(False, 486, 27_254_744), (True, 492, 27_260_296)]
)
def test_the_official_variant_has_the_official_tensors(metadata, count, parameters):
    options = {"metadata": metadata, "metadata_stages": "deepest", "official_layers": True}
    model = UTT(**options)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == count
    official = [shape for name, shape in SHAPES.items() if metadata or not name.startswith("mtd_mlp")]
    assert sorted(official) == sorted(list(tensor.shape) for tensor in model.state_dict().values())


def test_all_that_is_wrong_with_the_tensors_is_listed():
    tensors = official_tensors(metadata=False)
    tensors["arch_hr.extra"] = tensors.pop("arch_hr.temporal_encoder.attention_heads.Q")
    tensors["arch_vhr.segmentation_head.0.bias"] = torch.zeros(19)
    config = load_config("utt_best", ["official_layers=true", "metadata_stages=deepest"])
    with pytest.raises(DataError) as refusal:
        convert_tensors(tensors, config, Path("x.ckpt"))
    assert str(refusal.value) == (
        "x.ckpt: not a checkpoint of the official U-T&T (3 problems):\n"
        "  - arch_hr.extra: unexpected\n"
        "  - arch_vhr.segmentation_head.0.bias: [19], expected [13]\n"
        "  - arch_hr.temporal_encoder.attention_heads.Q: missing"
    )


def test_of_hundreds_of_wrong_tensors_some_are_listed():
    tensors = {name: one for name, one in official_tensors(False).items() if name.startswith("arch_vhr.")}
    config = load_config("utt_best", ["official_layers=true", "metadata_stages=deepest"])
    with pytest.raises(DataError) as refusal:
        convert_tensors(tensors, config, Path("x.ckpt"))
    title, *lines, rest = str(refusal.value).splitlines()
    missing = 486 - len(tensors)
    assert f"({missing} problems)" in title
    assert len(lines) == 20
    assert rest == f"  … and {missing - 20} more"


def test_tensors_that_are_not_finite_are_named():
    tensors = official_tensors(metadata=False)
    tensors["arch_vhr.segmentation_head.0.bias"][3] = float("nan")
    config = load_config("utt_best", ["official_layers=true", "metadata_stages=deepest"])
    with pytest.raises(DataError, match=r"segmentation_head\.0\.bias: holds NaN or infinity"):
        convert_tensors(tensors, config, Path("x.ckpt"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda named: {"module." + name: tensor for name, tensor in named.items()},
        lambda named: {"_orig_mod." + name: tensor for name, tensor in named.items()},
        lambda named: {"net." + name: tensor for name, tensor in named.items()},
        lambda named: {"state_dict": {"model.module." + name: tensor for name, tensor in named.items()}},
        lambda named: {"state_dict": {"model._orig_mod." + name: tensor for name, tensor in named.items()}},
        lambda named: {
            "state_dict": {
                name.replace("arch_vhr.", "arch_vhr._orig_mod."): tensor for name, tensor in named.items()
            }
            | {"net.criterion.0.weight": torch.ones(13)}
        },
        lambda named: {"epoch": 3, "model_state_dict": named, "optimizer": {"state": {}, "param_groups": []}},
        lambda named: {"network": {"a.b." + name: tensor for name, tensor in named.items()}, "loss": 0.5},
    ],
    ids=["DDP", "compiled", "attribute", "Lightning DDP", "Lightning compiled", "part", "key", "deep"],
)
def test_wrappers_of_the_network_are_taken_off(tmp_path, wrap):
    """What DataParallel, torch.compile, Lightning and hand-written loops put around a state dict."""
    named = {"arch_vhr.encoder.conv1.weight": torch.ones(1), "arch_hr.in_conv.x": torch.ones(2)}
    named |= {"fm_utae_featmap_cropped.conv_list.0": torch.ones(3), "mtd_mlp.enc_mlp.0": torch.ones(4)}
    torch.save(wrap(named), tmp_path / "x.ckpt")
    found = read_official(tmp_path / "x.ckpt")
    assert {name: len(tensor) for name, tensor in found.items()} == dict(zip(named, range(1, 5), strict=True))


def test_safetensors_are_read_too(tmp_path):
    named = {"model.arch_hr.in_conv.x": torch.ones(2), "model.criterion.weight": torch.ones(13)}
    save_file(named, tmp_path / "x.safetensors")
    assert read_official(tmp_path / "x.safetensors").keys() == {"arch_hr.in_conv.x"}


def test_two_networks_in_one_checkpoint_are_told(tmp_path):
    tensors = {"model.arch_hr.x": torch.ones(1), "ema.module.arch_hr.x": torch.ones(1)}
    torch.save({"state_dict": tensors}, tmp_path / "x.ckpt")
    with pytest.raises(
        DataError, match=r"x\.ckpt: holds 2 networks, 'ema\.module\.' and 'model\.'; save only one"
    ):
        read_official(tmp_path / "x.ckpt")
    torch.save({"a": {"arch_hr.x": torch.ones(1)}, "b": {"arch_hr.x": torch.ones(1)}}, tmp_path / "x.ckpt")
    with pytest.raises(DataError, match=r"x\.ckpt: holds 2 networks, 'a' and 'b'; save only one"):
        read_official(tmp_path / "x.ckpt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_a_pickled_model_is_named_as_such(tmp_path, key, zipped):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    content = {key: model, "epoch": 3} if key else model
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError) as refusal:
        read_official(tmp_path / "x.ckpt")
    told = str(refusal.value)
    assert "x.ckpt: holds objects of torch.nn.modules." in told
    assert "torch.save(model.state_dict(), FILE)" in told


class Attack:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", [os.mkdir, Path.touch, subprocess.check_call])
def test_nothing_in_a_checkpoint_is_run(tmp_path, call, zipped):
    target = tmp_path / "made"
    argument = {os.mkdir: str(target), Path.touch: target}.get(call, ["mkdir", str(target)])
    state = {"state_dict": {"a": torch.ones(1)}, "extra": Attack(call, argument)}
    torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    with contextlib.suppress(DataError):
        assert read_official(tmp_path / "x.ckpt") == {"a": torch.ones(1)}
    assert not target.exists()
    torch.load(tmp_path / "x.ckpt", weights_only=False)
    assert target.exists()  # the attack would have worked


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "x.ckpt: cannot be read ("),
        (b"PK is no checkpoint", "x.ckpt: cannot be read ("),
        (b"version https://git-lfs.github.com/spec/v1", "it is a git-lfs pointer: download the file itself"),
        (b"<!DOCTYPE html>", "it is a web page"),
        ({"state_dict": {}}, "x.ckpt: holds no tensors"),
        ([torch.ones(1)], "x.ckpt: holds a list; expected the tensors of a U-T&T by name"),
        ({"a": torch.ones(1)}, "x.ckpt: no checkpoint of the official U-T&T; it holds other tensors (a …)"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, sentence, tmp_path):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError) as refusal:
        convert_tensors(read_official(path), load_config("utt_best", ["official_layers=true"]), path)
    assert sentence in str(refusal.value)


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "last.pt").touch()
    done = convert(tmp_path / "x.ckpt", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path}: holds a run already; choose another --output\n"


def test_what_the_checkpoint_decides_is_refused_as_a_setting(checkpoints, tmp_path):
    done = convert(
        checkpoints[False], tmp_path / "run", "metadata=true", "monthly_average=false", "cloud_rule=paper"
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: metadata=true cloud_rule=paper: the checkpoint itself decides that; leave it out\n"
    )
    assert not (tmp_path / "run").exists()
