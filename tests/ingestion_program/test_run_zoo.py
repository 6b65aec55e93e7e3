"""The table of the zoo, on animals that get away with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
import run_zoo
import zoo
from zoo import Animal

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
    monkeypatch.setattr(zoo, "HERE", tmp_path)
    animals = (Animal("cheats", 0, "within_limit"), Animal("honest", 0, "within_limit"))
    monkeypatch.setattr(zoo, "ANIMALS", (*animals, Animal("lies", 3, "something else")))
    monkeypatch.setattr(sys, "argv", ["run_zoo.py"])
    with pytest.raises(SystemExit) as ended:
        run_zoo.main()
    assert ended.value.code == 1
    _, *rows, total = capsys.readouterr().out.splitlines()
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        *(("cheats", "CHEATED"), ("honest", "PASSED"), ("lies", "UNEXPECTED"))
    ]
    assert "CHEATED: read" in rows[0]
    assert total == "3 submissions: 1 PASSED, 0 CAUGHT, 0 OPEN, 1 CHEATED, 1 UNEXPECTED"
    monkeypatch.setattr(sys, "argv", ["run_zoo.py", "honest"])
    with pytest.raises(SystemExit) as ended:
        run_zoo.main()
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
    animal = Animal("x", expected, "why" if expected else "within_limit")
    stdout = "" if code else "within_limit: fast"
    assert run_zoo.judge(animal, kind, subprocess.CompletedProcess([], code, stdout, stderr)) == result


def test_every_animal_says_what_it_is() -> None:
    animals = (*zoo.ANIMALS, *zoo.GPU_ANIMALS)
    assert {run_zoo.read_kind(animal) for animal in animals} == {"Honest", "Broken", "Cheating"}
