from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ingest_command import run_ingest

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from zoo import ANIMALS, Animal, lay_out


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
def test_each_animal_ends_with_its_exit_code_and_a_reason(
    animal: Animal, flair_tree: Path, tmp_path: Path
) -> None:
    submission = lay_out(animal.name, tmp_path)
    (tmp_path / "limits.yaml").write_text(animal.limits or "load_seconds: 120")
    output = tmp_path / "output"
    options = ["--limits", tmp_path / "limits.yaml", "--limit-ratio", 0]
    done = run_ingest(tmp_path, flair_tree, submission, output, *options)
    assert done.returncode == animal.exit_code, done.stderr
    assert animal.says in (done.stderr if animal.exit_code else done.stdout)
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 30_000
    timing = json.loads((output / "timing.json").read_text())
    assert timing["verdict"] == ("failed" if animal.exit_code else "within_limit")
    assert (output / "predictions").exists() is (animal.exit_code == 0)
    assert (output / "manifest.json").is_file()
