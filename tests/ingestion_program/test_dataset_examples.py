"""The functions that read the data set say what they take, return and raise, and their examples run."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

from flair_ingestion import dataset

# Name -> the sections of its docstring
SECTIONS = {
    "index_patches": {"Args", "Returns", "Raises", "Example"},
    "scan_split": {"Args", "Returns", "Raises", "Example"},
    "labels_folder": {"Args", "Returns", "Raises", "Example"},
    "read_image": {"Args", "Returns", "Raises", "Example"},
    "read_labels": {"Args", "Returns", "Raises", "Example"},
    "read_superpatch": {"Args", "Returns", "Raises", "Example"},
    "read_dates": {"Args", "Returns", "Raises", "Example"},
    "check_patches": {"Args", "Returns", "Example"},
    "sample_patches": {"Args", "Returns", "Example"},
    "describe_gaps": {"Args", "Returns", "Raises", "Example"},
}


@pytest.mark.parametrize("name", SECTIONS)
def test_docstrings_are_complete_and_their_examples_run(
    name: str, flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = getattr(dataset, name)
    lines = (inspect.getdoc(function) or "").splitlines()
    assert {line.removesuffix(":") for line in lines if line.endswith(":") and line[0] != " "} == SECTIONS[
        name
    ]
    for argument in inspect.signature(function).parameters:
        assert any(argument in line.split(":")[0] for line in lines if line.startswith("    ")), argument

    (tmp_path / "data").symlink_to(flair_tree)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert bool(examples and examples[0].examples) is ("Example" in SECTIONS[name])
    for example in examples:
        told: list[str] = []
        assert doctest.DocTestRunner().run(example, out=told.append).failed == 0, "".join(told)
