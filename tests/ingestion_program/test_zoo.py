"""The zoo through ingestion: one animal per defence in `make test`, the others in `make test-all`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flair_ingestion.cage import LEVELS

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from run_zoo import observe
from zoo import ANIMALS, Animal

ALWAYS = {
    *("honest_batch_7", "floods_stdout", "raises_in_init", "float_labels", "label_256", "hangs_in_predict"),
    *("dies_by_signal", "exhausts_memory", "forks_without_end", "returns_unfinished", "patches_clocks"),
    *("speaks_pickle", "shadows_modules", "outlives", "builds_mazes", "reads_the_disk", "attacks_parent"),
    *("phones_home", "caches_across_runs", "ships_predictions", "metadata_command", "resizes_memory"),
}
CASES = [
    pytest.param(animal, id=animal.name, marks=[] if animal.name in ALWAYS else pytest.mark.long)
    for animal in ANIMALS
]
VERDICTS = {0: "within_limit", 3: "failed", 4: "over_limit"}


@pytest.mark.parametrize("animal", CASES)
def test_each_animal_ends_with_its_exit_code_and_a_reason(
    animal: Animal, flair_tree: Path, tmp_path: Path
) -> None:
    done, timing = observe(animal, flair_tree, tmp_path)
    output = tmp_path / "output"
    if animal.level != "none" and LEVELS.index(timing["cage"]) < LEVELS.index(animal.level):
        assert "CHEATED" in done.stderr  # what this kernel cannot prevent is known, and recorded as the level
        return
    assert done.returncode == animal.exit_code, done.stderr
    assert animal.says in (done.stderr if animal.exit_code else done.stdout)
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 30_000
    assert timing["verdict"] == VERDICTS[animal.exit_code]
    assert (output / "predictions").exists() is (animal.exit_code == 0)
    assert (output / "manifest.json").is_file()
