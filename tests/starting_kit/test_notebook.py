"""The notebook is stored without outputs and runs from its first cell to its last on toy data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "starting_kit" / "flair-2.ipynb"


def test_no_outputs_are_stored() -> None:
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.long
def test_runs_from_data_to_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    try:
        client.execute()  # raises what a cell raises
    finally:
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        text = "".join(output.get("text", "") for output in outputs)
        print(text)  # commands that fail say why
    results = tmp_path / "runs/notebook/results/submission"
    scores, timing = (json.loads((results / name).read_text()) for name in ("scores.json", "timing.json"))
    assert f"mIoU {scores['miou']:.4f}" in text
    assert f"{timing['verdict']}: " in text
    dates, heads, total = re.search(r"torch.Size\(\[(\d+), (\d+)\]\) sums to ([\d.]+)", text).groups()  # type: ignore[union-attr]
    (row,) = re.findall(r"series    uint16 \((\d+), 10, 40, 40\)", text)
    assert (dates, heads) == (row, "16")  # attention on every date, by every head …
    assert float(total) == pytest.approx(1, abs=1e-4)  # … and each divides all of its own
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 8
