"""What the programs of the starting kit say to mistakes: one message, exit code 2, and nothing is written.

Mistakes that need more than arguments have their tests beside what they break.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flair_scoring.base.errors import run_command
from flair_scoring.raster import write_labels
from sentences import find_faults

KIT = Path(__file__).parents[2] / "starting_kit"
NOWHERE = (
    "error: nowhere: no such folder; expected one with FLAIR #2's archives, unpacked (flair_aerial_train, …)"
)
FILE = "error: file: is a file, not a folder; expected one with FLAIR #2's archives"
EMPTY = "error: empty: no folders flair_aerial_train, …; unpack FLAIR #2's archives there"
TRAIN = "train --data data --config unet encoder=tu-mobilenetv3_small_050 encoder_weights=null device=cpu"
EVALUATE = "evaluate submission --data data --device cpu --limit-ratio 0"
TAKEN = "give a name that ends in .zip, or a folder that is empty or new"

CASES = [  # a command line in a folder with what `here` puts there, and what it must say
    ("train --data nowhere --config unet", NOWHERE),
    ("train --data file --config unet", FILE),
    ("train --data empty --config unet", EMPTY),
    ("train --data hub --config unet", "check_dataset.py hub --lay-out "),
    ("train --data data --config unet epochs seed=[", "changes of the configuration (2 problems)"),
    (f"{TRAIN} --output file", "error: file: cannot be written to (it is a file); choose another folder"),
    (f"{TRAIN} --output /proc/x", "error: /proc/x: cannot be written to (No such file or directory)"),
    (f"{TRAIN} encoder=resnet9999", "no such encoder; the nearest are resnet"),
    (f"{TRAIN} encoder=tu-resnet9999", "no such encoder; the nearest are tu-resnet"),
    (f"{TRAIN} encoder=convnext_tiny", "no such encoder; the nearest are tu-convnext_tiny, "),
    (f"{TRAIN} encoder=my_own", "encoder=my_own: no such encoder; all are in segmentation_models"),
    (
        f"{TRAIN} encoder=tu-resnet18.a1_in2k",
        "encoder=tu-resnet18.a1_in2k: no such encoder; the nearest are tu-resnet18.a1_in1k, tu-resnet18.",
    ),
    (
        f"{TRAIN} encoder=tu-hf-hub:timm/resnet18.a1_in1k",
        "is described outside of timm, where a submission cannot look it up; give the name that it has",
    ),
    (f"{TRAIN} encoder=resnet18 encoder_weights=mine", "expected imagenet, ssl, swsl or null"),
    (
        f"{TRAIN} encoder_weights=imagnet",
        "no weights imagnet of this encoder are known; expected imagenet or",
    ),
    (
        f"{TRAIN} encoder_weights=weights/mine.pth",
        "error: encoder_weights=weights/mine.pth: no such file; expected one with the weights of the encoder",
    ),
    (
        f"{TRAIN} encoder=timm-res2net50_26w_4s encoder_weights=ssl",
        "expected imagenet or null, or a file such as weights.safetensors",
    ),
    (f"{TRAIN} encoder_weights=file.pth", "error: encoder_weights=file.pth: no such file; expected one"),
    (
        f"{TRAIN} encoder_weights=other.safetensors",
        "error: other.safetensors: holds no weights of encoder=tu-mobilenetv3_small_050; expected its",
    ),
    (
        f"{TRAIN} --init-from nowhere",
        "error: nowhere: no such file; --init-from takes a folder that train.py",
    ),
    (
        f"{TRAIN} --init-from empty",
        "error: empty/model.safetensors: no such file; --init-from takes a folder",
    ),
    (f"{TRAIN} --init-from file", "error: file: cannot be read (it is damaged, or another program wrote it)"),
    (
        f"{TRAIN} --init-from other.safetensors",
        "error: other.safetensors: holds no network of a known layout",
    ),
    (
        f"{TRAIN} --init-channels RVB",
        "error: --init-channels tells about the file of --init-from, which is missing",
    ),
    (
        f"{TRAIN} --init-from file --init-channels RGB",
        "error: --init-channels RGB: expected different letters of RVBIE: red, green (V), blue",
    ),
    (f"{TRAIN} encoder=tu-coatnet_0_224 encoder_weights=imagenet", "are known; expected null"),
    (f"{TRAIN} encoder=tu-skresnet18 batch_size=1", "a single value per channel; choose batch_size=2 or"),
    (f"{TRAIN} encoder=timm-skresnet18 batch_size=1", "a single value per channel; choose batch_size=2 or"),
    (f"{TRAIN} encoder=resnet18 aerial_pooling=16 batch_size=1", "a single value per channel; choose"),
    (
        f"{TRAIN} encoder=tu-vit_tiny_patch16_224",
        "as this decoder expects; decoder=dpt works with this encoder, encoder=resnet34 works",
    ),
    (
        f"{TRAIN} encoder=mit_b0 decoder=unetplusplus",
        "decoder=unet works with this encoder, encoder=resnet34 works with this decoder",
    ),
    (f"{TRAIN} decoder=dpt encoder=resnet18", "encoder=tu-vit_small_patch16_224 works with this decoder"),
    (f"{TRAIN} decoder=fpn decoder_channels=[32]", "decoder fpn needs a multiple of 64 as the first number"),
    (f"{TRAIN} decoder=manet decoder_channels=[8,8]", "needs 1 GiB a patch; give 3 numbers or more"),
    (f"{TRAIN} decoder=upernet decoder_channels=[8] aerial_pooling=32", "as decoder upernet needs it"),
    ("table4 nowhere", NOWHERE),
    ("table4 empty", EMPTY),
    ("table4 data --set epochs=0 batchsize=1", "configuration unet (paper recipe) (2 problems)"),
    ("package empty -o x.zip", "error: empty/model.safetensors: no such checkpoint"),
    ("package file -o x.zip", "error: file: not a checkpoint of this kit: it is damaged, or another program"),
    ("package other.safetensors -o x.zip", ": its header does not name a configuration;"),
    ("package list.safetensors -o x.zip", ": its header does not name a configuration;"),
    ("package no_config.safetensors -o x.zip", ": its header does not name a configuration;"),
    ("package utt --untrained -o file", f"error: file: {TAKEN}"),
    ("package utt --untrained -o folder.zip", f"error: folder.zip: {TAKEN}"),
    ("package utt --untrained -o file/x.zip", "error: file: cannot be written to (it is a file)"),
    ("most_frequent nowhere -o x.zip", NOWHERE),
    ("most_frequent empty -o x.zip", EMPTY),
    ("most_frequent data -o file", f"error: file: {TAKEN}"),
    (
        "evaluate nowhere file --data data",
        "  - nowhere: no such file or folder\n  - file: neither a submission",
    ),
    (
        "evaluate --subset 2 submission --data data",
        "options of ingest.py after them (1 problem):\n  - 2: no such",
    ),
    ("evaluate submission --data nowhere", NOWHERE),
    ("evaluate submission --data empty", EMPTY),
    (f"{EVALUATE} -o file", "  - file/submission: cannot be made (Not a directory)"),
    (f"{EVALUATE} --output file", "  - file/submission: cannot be made (Not a directory)"),
    (f"{EVALUATE} --output data/x", "  - data/x/submission: overlaps "),
    (
        "convert_checkpoint nowhere -o run",
        "nowhere: cannot be read (No such file or directory); expected the tensors of a U-T&T by name",
    ),
    ("convert_checkpoint empty -o run", "empty: cannot be read (Is a directory); expected the tensors of a"),
    ("convert_checkpoint file -o run", "file: cannot be read (it is damaged, or another program wrote it)"),
    ("convert_checkpoint tensors.pt -o run encoder=resnet35", "encoder=resnet35: no such encoder"),
    ("check_dataset nowhere", NOWHERE),
    ("check_dataset file", FILE),
    ("check_dataset empty", EMPTY),
    ("check_dataset nowhere --lay-out out", "nowhere: no such folder; expected one with archives of domains"),
    ("check_dataset hub --lay-out file", "error: file: cannot be written to (it is a file)"),
    ("make_toy_dataset file/toy", "error: {here}/file: cannot be written to (it is a file)"),
    ("show 077413 --data nowhere -o x.png", NOWHERE),
    ("show 077413 --data empty -o x.png", EMPTY),
    ("show 077413 --data data -o empty", "error: --output empty: expected a name that ends in .png"),
    ("show 077413 --data data -o file/x.png", "error: file/x.png: cannot be written (file is a file)"),
    (
        "show 077413 --data data -o x.png --predictions file",
        "file: is a file, not a folder; expected one with",
    ),
    ("show 077413 --data data -o x.png --predictions folder.zip", "value 255; expected indices 0 to 12"),
]


@pytest.fixture
def here(flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a data set, and things that are not what they are taken for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(KIT)
    Path("data").symlink_to(flair_tree)
    Path("file").write_text("text")
    for name in ("empty", "folder.zip", "hub", "submission"):
        Path(name).mkdir()
    Path("submission/model.py").touch()
    Path("hub/D006_2020.zip").touch()
    for path in flair_tree.glob("*.json"):
        Path("hub", path.name).symlink_to(path)
    write_labels("folder.zip/PRED_077413.tif", np.full((512, 512), 255, np.uint8))
    torch.save({"a": torch.ones(1)}, "tensors.pt")
    save_file({"a": torch.ones(1)}, "other.safetensors")
    for name, provenance in (("list", [1]), ("no_config", {"schema": 1, "config": 3})):
        header = {"provenance": json.dumps(provenance)}
        save_file({"a": torch.ones(1)}, f"{name}.safetensors", metadata=header)
    return tmp_path


@pytest.mark.parametrize(("command", "sentence"), CASES, ids=[command for command, _ in CASES])
def test_a_mistake_is_explained_and_nothing_is_written(
    here: Path,
    command: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = sorted(here.rglob("*"))
    program, *arguments = command.split()
    monkeypatch.setattr(sys, "argv", [f"{program}.py", *arguments])
    with pytest.raises(SystemExit) as end:
        run_command(importlib.import_module(program).main)
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    assert sentence.replace("{here}", os.fspath(here)) in said
    assert said.count("error: ") == 1
    assert find_faults(said) == []
    assert sorted(here.rglob("*")) == before
