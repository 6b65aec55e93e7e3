"""The zoo through ingestion: one animal per defence in `make test`, the others in `make test-all`.

Those that are in `make test` on the emulated platform, tests/bundle/test_platform.py, are not here as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flair_ingestion.sandbox.policy import LEVELS

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from run_zoo import observe
from zoo import ANIMALS, Animal

ALWAYS = {
    *("floods_stdout", "hangs_in_predict", "forks_without_end", "returns_unfinished", "speaks_pickle"),
    *("shadows_modules", "outlives", "builds_mazes", "reads_the_disk", "phones_home", "caches_across_runs"),
    "resizes_memory",
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
    if animal.level != "none" and LEVELS.index(timing["sandbox"]) < LEVELS.index(animal.level):
        assert "CHEATED" in done.stderr  # what this kernel cannot prevent is known, and recorded as the level
        return
    assert done.returncode == animal.exit_code, done.stderr
    assert animal.says in (done.stderr if animal.exit_code else done.stdout)
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 30_000
    assert timing["verdict"] == VERDICTS[animal.exit_code]
    assert (output / "predictions").exists() is (animal.exit_code == 0)
    assert (output / "manifest.json").is_file()
