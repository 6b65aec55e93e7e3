"""The notebook is stored without outputs and runs from its first cell to its last on toy data."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from flair_scoring.nomenclature import FLAIR_12

NOTEBOOK = Path(__file__).parents[2] / "starting_kit" / "flair-2.ipynb"


def test_no_outputs_are_stored() -> None:
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_commands_take_paths_with_blanks() -> None:
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = "".join("".join(cell["source"]) + "\n" for cell in code).replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.strip().startswith("!")]
    assert len(commands) == 7
    for command in commands:
        names = re.findall(r'(.)\{(KIT|RUN|DATA|sys\.executable)\}[^" ]*(.)', command)
        assert names
        assert all((before, after) == ('"', '"') for before, _, after in names), command


def test_the_score_of_one_patch_is_the_challenges() -> None:
    """Half of the ground is building and predicted so; the other half is *other*, predicted as bare soil."""
    labels = np.repeat(np.array([1, 19], np.uint8), 512 * 256).reshape(512, 512)
    prediction = np.repeat(np.array([0, 3], np.uint8), 512 * 256).reshape(512, 512)
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"]]
    (scoring,) = [cell for cell in cells if "confusion_matrix(" in cell]
    names = {"labels": labels, "prediction": prediction, "FLAIR_12": FLAIR_12}
    exec(scoring, names)  # the notebook's own code
    # Of building all is right, of bare soil nothing: *other* is not a third class
    assert names["mean_iou"](names["matrix"]) == pytest.approx((1 + 0) / 2)  # type: ignore[operator]
    assert names["matrix"].shape == (13, 13)  # type: ignore[attr-defined]


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
    results = tmp_path / "runs/notebook/results"
    scores, timing = (
        json.loads((results / "submission" / name).read_text()) for name in ("scores.json", "timing.json")
    )
    assert f"mIoU {scores['miou']:.4f}" in text
    assert f"{timing['verdict']}: " in text
    dates, heads, total = re.search(r"torch.Size\(\[(\d+), (\d+)\]\) sums to ([\d.]+)", text).groups()  # type: ignore[union-attr]
    (row,) = re.findall(r"series    uint16 \((\d+), 10, 40, 40\)", text)
    assert (dates, heads) == (row, "16")  # attention on every date, by every head …
    assert float(total) == pytest.approx(1, abs=1e-4)  # … and each divides all of its own
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 9
    for name in ("attention", "classes", "clouds", "domains", "ious", "report"):
        path = tmp_path / f"runs/notebook/pictures/{name}.png"
        assert path.stat().st_size < 300_000
        with Image.open(path) as picture:
            assert picture.width >= 800
    tables = [output["data"] for output in outputs if "text/html" in output.get("data", {})]
    (report,) = [table["text/html"] for table in tables if "<iframe" in table["text/html"]]
    assert html.escape((results / "submission/detailed_results.html").read_text()) in report
    per_class, standings = [table["text/plain"] for table in tables if "<iframe" not in table["text/html"]]
    water = re.search(r"^water +([\d.]+) ", per_class, re.MULTILINE)  # in the first column
    assert water
    assert float(water[1]) == pytest.approx(scores["iou_water"], abs=5e-4)
    constant = json.loads((results / "most_frequent/scores.json").read_text())
    mious = dict(re.findall(r"^\d +\d +(\w+) +([\d.]+) ", standings, re.MULTILINE))
    for name, found in (("submission", scores), ("most_frequent", constant)):
        assert float(mious[name]) == pytest.approx(found["miou"], abs=5e-4)
