"""THREATS.md: what it names exists, and each test submission stands in the row of its threat."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SUBMISSIONS = TESTS / "submissions"
ROWS = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (SUBMISSIONS / "THREATS.md").read_text(), re.MULTILINE)


def read_docstrings() -> dict[str, str]:
    found = {}
    for path in SUBMISSIONS.iterdir():
        source = path / "model.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file():
            found[path.stem] = ast.get_docstring(ast.parse(source.read_text())) or ""
    return found


def test_every_threat_has_its_proof_or_a_reason() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 52))
    sources = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE)) | read_docstrings().keys()
    for number, proof in ROWS:
        names = re.findall(r"`(\w+)`", proof)
        assert names or len(proof.split()) > 3, number
        assert set(names) <= known, number


def test_a_submission_stands_in_the_row_of_its_threat() -> None:
    told = {
        (name, number)
        for name, docstring in read_docstrings().items()
        for found in re.findall(r"threats? (\d+)(?: and (\d+))?", docstring)
        for number in filter(None, found)
    }
    assert len(told) > 15
    assert not [(name, number) for name, number in told if f"`{name}`" not in dict(ROWS)[number]]
