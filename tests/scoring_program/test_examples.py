"""What users call from Python says what it takes, returns and raises, with an example that runs."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

import flair_scoring

PUBLIC = {name: getattr(flair_scoring, name) for name in flair_scoring.__all__}
DOCUMENTED = {name: thing for name, thing in PUBLIC.items() if callable(thing)}


def sections(thing: object) -> set[str]:
    lines = (inspect.getdoc(thing) or "").splitlines()
    return {line.removesuffix(":") for line in lines if line in ("Args:", "Returns:", "Raises:", "Example:")}


def test_everything_public_is_documented() -> None:
    assert {"evaluate", "confusion_matrix", "Evaluation"} <= DOCUMENTED.keys()
    for name, thing in DOCUMENTED.items():
        needed = {"Args", "Example"} if inspect.isclass(thing) else {"Args", "Returns", "Example"}
        assert needed <= sections(thing), name


@pytest.mark.parametrize("name", ["evaluate", "confusion_matrix"])
def test_what_refuses_its_arguments_says_so(name: str) -> None:
    assert "Raises" in sections(PUBLIC[name])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    thing = DOCUMENTED[name]
    module = inspect.getmodule(thing)
    found = [test for test in doctest.DocTestFinder().find(thing, name, module) if test.examples]
    assert found
    for test in found:
        said: list[str] = []
        test.globs = {}  # the example imports what it needs
        results = doctest.DocTestRunner().run(test, out=said.append)
        assert results.failed == 0, "".join(said)
