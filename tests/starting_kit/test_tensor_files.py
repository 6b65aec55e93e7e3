"""Files of tensors are recognised by their content, whatever stands beside the tensors of one network."""

from __future__ import annotations

import argparse
import datetime
import enum
import json
import os
import pickle
import zipfile
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from flair_baseline.initial.tensor_files import read_tensors
from flair_scoring.base.errors import DataError

NETWORK = {"encoder.a": torch.ones(2), "decoder.b": torch.zeros(3)}


class Settings(dict):
    """As EasyDict and others: a mapping with attributes."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.__dict__.update(values)


class Stage(enum.Enum):
    TRAIN = 1


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(path, "the tensors of a network by name")


def require_network(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == NETWORK.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in NETWORK.items())


def safetensors_whose_header_has(length: int) -> bytes:
    """A file of one tensor; its first eight bytes are the length of its header, the lowest byte first."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return length.to_bytes(8, "little") + header.ljust(length) + bytes(4)


@pytest.mark.parametrize("length", [0x80, 0x0280, int.from_bytes(b"PK", "little")])
def test_a_safetensors_file_may_begin_as_a_pickle_or_a_zip(tmp_path, length):
    content = safetensors_whose_header_has(length)
    assert content.startswith((b"\x80", b"PK"))
    path = tmp_path / "model"
    path.write_bytes(content)
    assert torch.equal(read(path)["a"], torch.zeros(1))
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"\(it is damaged, or another program wrote it\);"):
        read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_wrote_may_have_any_name(tmp_path, zipped):
    torch.save(NETWORK, tmp_path / "model.safetensors", _use_new_zipfile_serialization=zipped)
    require_network(read(tmp_path / "model.safetensors"))
    (tmp_path / "model.pth").write_bytes(save(NETWORK))
    require_network(read(tmp_path / "model.pth"))


@pytest.mark.parametrize(
    "content",
    [
        {"model_state_dict": NETWORK, "loss": torch.tensor(0.5)},
        {"model": NETWORK, "metrics": {"miou": torch.tensor(0.5)}, "class_weights": torch.ones(13)},
        {"metrics": {"miou": torch.tensor(0.5)}, "model": {"state_dict": NETWORK}},
        {"a": {"b": {"c": NETWORK}}},
        {"model": NETWORK, "history": defaultdict(list, {"loss": [0.5, 0.4]})},
        {"model": NETWORK, "history": deque([0.5, 0.4]), "more": defaultdict(int, {"a": 1, "b": 2})},
        {"model": NETWORK, "settings": Settings(rate=0.1, inner=Settings(epochs=3))},
        {"model": NETWORK, "losses": {Stage.TRAIN: 0.5}, "kinds": {1, 2}},
        {"model": NETWORK, "best": np.float64(0.5), "args": argparse.Namespace(epochs=3)},
        {"model": NETWORK, "path": Path("x"), "begun": datetime.datetime(2024, 1, 1)},
        Settings(**NETWORK),
    ],
)
def test_what_stands_beside_the_network_is_left(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    require_network(read(tmp_path / "model.pth"))


def test_networks_under_equal_keys_are_told_apart(tmp_path):
    torch.save({"student": {"state_dict": NETWORK}, "teacher": {"state_dict": NETWORK}}, tmp_path / "x.pth")
    with pytest.raises(DataError) as refusal:
        read(tmp_path / "x.pth")
    assert "holds 2 networks, 'student.state_dict' and 'teacher.state_dict'; save only" in str(refusal.value)


class Command:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


def test_a_command_in_a_pickle_is_named(tmp_path):
    torch.save({"model": NETWORK, "more": Command()}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"x\.pth: holds objects of (posix|nt)\.system, which could run code"):
        read(tmp_path / "x.pth")


def test_what_torch_did_not_write_is_told(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.py", "")
        archive.writestr("weights.safetensors", save(NETWORK))
    with pytest.raises(
        DataError, match=r"is a zip with model\.py, weights\.safetensors in it; unpack it and give the file"
    ):
        read(path)
    torch.save(NETWORK, path)
    for content in (path.read_bytes()[:-200], pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(DataError) as refusal:
            read(path)
        assert str(refusal.value) == (
            f"{path}: cannot be read (it is damaged, or torch.save did not write it); expected what "
            "torch.save wrote"
        )
