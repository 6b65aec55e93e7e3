"""runner.py: what it imports, and that it waits for the GPU before it answers (a stand-in)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import torch

from flair_ingestion.sandbox import runner


@pytest.mark.parametrize("in_use", [True, False])
def test_work_that_is_left_to_the_gpu_is_waited_for_where_there_is_any(
    monkeypatch: pytest.MonkeyPatch, in_use: bool
) -> None:
    waits: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append("waited"))
    runner.finish_gpu_work()
    assert waits == ["waited"] * in_use


@pytest.mark.parametrize("name", ["runner", "entering", "explanations", "attempts"])
def test_programs_in_the_sandbox_start_with_the_standard_library_only(name: str) -> None:
    """The parent starts them by their path, and a submission must find no module of the kit but its own."""
    tree = ast.parse(Path(runner.__file__).with_name(f"{name}.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert imported
    assert {module.split(".")[0] for module in imported} <= sys.stdlib_module_names


def test_a_submission_cannot_import_the_files_that_the_runner_loads() -> None:
    loaded = (runner.entering, runner.explanations)
    assert not [name for name, module in sys.modules.items() if module in loaded]
