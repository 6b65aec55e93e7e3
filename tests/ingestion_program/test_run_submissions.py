"""The table of the test submissions, with a submission that cheats and one that does not end as expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import entries
import pytest
import run_submissions
from entries import Entry

CHEATS = '''"""Cheating: reads what it may read, and says so."""
class Model:
    def __init__(self, submission_dir, device):
        raise RuntimeError("CHEATED: read " + (submission_dir / "model.py").read_text()[:3])
'''
HONEST = '''"""Honest, on the whole."""
import torch
class Model:
    def __init__(self, submission_dir, device): ...
    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
'''


@pytest.mark.long
def test_an_attack_that_succeeds_shows_as_cheated_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in {"cheats": CHEATS, "honest": HONEST, "lies": HONEST}.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(entries, "HERE", tmp_path)
    expected = (Entry("cheats", 0, "within_limit"), Entry("honest", 0, "within_limit"))
    monkeypatch.setattr(entries, "ENTRIES", (*expected, Entry("lies", 3, "something else")))
    monkeypatch.setattr(sys, "argv", ["run_submissions.py"])
    with pytest.raises(SystemExit) as ended:
        run_submissions.main()
    assert ended.value.code == 1
    _, *rows, total = capsys.readouterr().out.splitlines()
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        *(("cheats", "CHEATED"), ("honest", "PASSED"), ("lies", "UNEXPECTED"))
    ]
    assert "CHEATED: read" in rows[0]
    assert total == "3 submissions: 1 PASSED, 0 CAUGHT, 0 OPEN, 1 CHEATED, 1 UNEXPECTED"
    monkeypatch.setattr(sys, "argv", ["run_submissions.py", "honest"])
    with pytest.raises(SystemExit) as ended:
        run_submissions.main()
    assert ended.value.code == 0


@pytest.mark.parametrize(
    ("expected", "kind", "code", "stderr", "result"),
    [
        (0, "Honest", 0, "", "PASSED"),
        (3, "Broken", 3, "error: why", "CAUGHT"),
        (0, "Cheating", 0, "", "CAUGHT"),
        (3, "Cheating", 0, "", "CHEATED"),
        (0, "Cheating", 3, "error: CHEATED: read a label", "CHEATED"),
        (3, "Broken", 0, "", "UNEXPECTED"),
        (3, "Broken", 1, "Traceback", "UNEXPECTED"),
        (3, "Broken", 3, "error: another reason", "UNEXPECTED"),
        (0, "Honest", 3, "error: why", "UNEXPECTED"),
    ],
)
def test_the_judgement(expected: int, kind: str, code: int, stderr: str, result: str) -> None:
    entry = Entry("x", expected, "why" if expected else "within_limit")
    stdout = "" if code else "within_limit: fast"
    assert run_submissions.judge(entry, kind, subprocess.CompletedProcess([], code, stdout, stderr)) == result


def test_every_submission_says_what_it_is() -> None:
    listed = (*entries.ENTRIES, *entries.GPU_ENTRIES)
    assert {run_submissions.read_kind(entry) for entry in listed} == {"Honest", "Broken", "Cheating"}
