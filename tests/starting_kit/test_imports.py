"""Imports of a submission that the platform's image lacks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from flair_baseline.imports import missing_imports, read_packages, warn_of_imports
from flair_baseline.submissions import is_submission
from flair_ingestion.submission import open_submission, read_sources

KIT = Path(__file__).resolve().parents[2]
LIST = KIT / "bundle/packages.txt"
PACKAGES = read_packages(LIST)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("import rasterio", ["rasterio"]),
        ("import rasterio.windows as w, os", ["rasterio"]),
        ("from sklearn.metrics import confusion_matrix", ["sklearn"]),
        ("def f():\n    import hypothesis", ["hypothesis"]),
        ("import package_that_nobody_has", ["package_that_nobody_has"]),
        ("import flair_scoring", ["flair_scoring"]),
        ("import flair_baseline", []),  # packed, see below
        ("import os, json, xml.etree, typing", []),
        ("import torch, torchvision, numpy, scipy, PIL, yaml, tqdm, timm, safetensors, imagecodecs", []),
        ("import segmentation_models_pytorch as smp, pynvml", []),
        ("import onnxruntime", []),  # in the image, absent here
        ("import huggingface_hub, sympy, jinja2, networkx", []),  # what timm and torch bring
        ("from . import x\nfrom .x import y\nfrom helpers import z\nimport vendored_thing", []),
        ("try:\n    import rasterio\nexcept ImportError:\n    rasterio = None", []),
        ("try:\n    import rasterio\nexcept (ModuleNotFoundError, OSError):\n    import fiona", ["fiona"]),
        ("try:\n    import rasterio\nfinally:\n    pass", ["rasterio"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rasterio", []),
        ("import typing\nif typing.TYPE_CHECKING:\n    import rasterio\nelse:\n    import fiona", ["fiona"]),
        ("import (", []),  # ingestion tells
        ("\0", []),
        ("x = " + "(" * 500 + ")" * 500, []),
        ("x = 1" + " + 1" * 20_000, []),
    ],
)
def test_imports_that_the_image_lacks_are_found(source: str, missing: list[str]) -> None:
    files = {
        "model.py": source.encode(),
        "helpers.py": b"",
        "lib/vendored_thing/__init__.py": b"",
        "flair_baseline/model/utt.py": b"from flair_baseline import x",
    }
    assert missing_imports(files, PACKAGES) == dict.fromkeys(missing, "model.py")


def test_the_reference_and_what_package_py_writes_import_nothing_else() -> None:
    submission = open_submission(KIT / "reference_submission", 1000)
    sources = read_sources(submission)
    assert {"model.py", "flair_baseline/utt.py"} <= sources.keys()
    assert missing_imports(sources, PACKAGES) == {}


def test_evaluate_warns_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("model.py", "import rasterio")
        archive.writestr("src\\io.py", "import sklearn, torch")
    warn_of_imports(tmp_path / "mine.zip", LIST)
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}/mine.zip imports what bundle/packages.txt does not list for the platform's "
        "image: rasterio (model.py), sklearn (src/io.py); bring the sources along in the zip, or do without\n"
    )
    (tmp_path / "broken.zip").write_bytes(b"PK")
    warn_of_imports(tmp_path / "broken.zip", LIST)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.zip", "a.ZIP", "a.Zip"])
def test_a_zip_is_a_submission_in_capitals_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert is_submission(tmp_path / name)


@pytest.mark.parametrize("names", [["model.py", "a\\b"], ["mine\\model.py", "mine\\a\\b"]])
def test_a_folder_with_backslashes_in_its_names_is_a_submission(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert is_submission(tmp_path)
    (tmp_path / "other").touch()
    assert is_submission(tmp_path) == ("model.py" in names)
