"""The test submissions through ingestion: one for each defence in `make test`, the others in `make test-all`.

A submission that `make test` runs on the emulated platform (tests/bundle/test_platform.py) is not in it here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from entries import ENTRIES, Entry
from run_submissions import observe

from flair_ingestion.sandbox.policy import LEVELS

ALWAYS = {
    *("floods_stdout", "hangs_in_predict", "forks_without_end", "returns_unfinished", "speaks_pickle"),
    *("shadows_modules", "outlives", "builds_mazes", "reads_the_disk", "phones_home", "caches_across_runs"),
    "resizes_memory",
}
CASES = [
    pytest.param(entry, id=entry.name, marks=[] if entry.name in ALWAYS else pytest.mark.long)
    for entry in ENTRIES
]
VERDICTS = {0: "within_limit", 3: "failed", 4: "over_limit"}


@pytest.mark.parametrize("entry", CASES)
def test_each_submission_ends_with_its_exit_code_and_a_reason(
    entry: Entry, flair_tree: Path, tmp_path: Path
) -> None:
    done, timing = observe(entry, flair_tree, tmp_path)
    output = tmp_path / "output"
    if entry.level != "none" and LEVELS.index(timing["sandbox"]) < LEVELS.index(entry.level):
        assert "CHEATED" in done.stderr  # what this kernel cannot prevent is known, and recorded as the level
        return
    assert done.returncode == entry.exit_code, done.stderr
    assert entry.says in (done.stderr if entry.exit_code else done.stdout)
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 30_000
    assert timing["verdict"] == VERDICTS[entry.exit_code]
    assert (output / "predictions").exists() is (entry.exit_code == 0)
    assert (output / "manifest.json").is_file()
