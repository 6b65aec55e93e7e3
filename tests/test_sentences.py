"""The messages of all errors: at most three sentences, and never Python's words alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sentences import FILLED_IN, Message, count_sentences, find_faults, read_messages

KIT = Path(__file__).parents[1]
# These functions pass on a ValueError whose text the kit has worded
WORDED = {("counting.py", "_count_chunk"), ("sidecars.py", "look_up"), ("config.py", "parse_overrides")}
PROGRAMS = ("scoring_program", "ingestion_program", "starting_kit", "bundle")


def own_errors() -> set[str]:
    """FlairError, all errors derived from it, and RasterError, whose text is ours, too."""
    known = {"FlairError", "RasterError"}
    classes = [
        node
        for program in PROGRAMS
        for path in (KIT / program).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    while (
        new := {node.name for node in classes if known & {ast.unparse(base) for base in node.bases}} - known
    ):
        known |= new
    return known


@pytest.fixture(scope="module", params=PROGRAMS)
def messages(request: pytest.FixtureRequest) -> list[Message]:
    return list(read_messages(KIT / request.param, own_errors()))


def test_no_message_is_longer_than_three_sentences(messages: list[Message]) -> None:
    assert len(messages) > 10
    assert [message for message in messages if count_sentences(message.text) > 3] == []


def test_no_message_is_in_the_words_of_python_alone(messages: list[Message]) -> None:
    """A message that contains the text of an exception says in the kit's words what it means."""
    foreign = [one for one in messages if one.foreign and (one.file, one.function) not in WORDED]
    assert foreign
    wordless = [one for one in foreign if not re.search("[a-z]{3}", one.text.replace(FILLED_IN, ""))]
    assert wordless == []


def test_no_message_says_what_only_programmers_understand(messages: list[Message]) -> None:
    assert [message for message in messages if find_faults(message.text)] == []


SOURCE = """
def read(path):
    try:
        return path.read_text()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except FlairError as error:
        raise DataError(f"{path}: {error}") from None
    except ValueError as error:
        reason = str(error)
        problems.append(f"{path}: {reason}")
    text = "One. Two." if path else "One"
    raise UsageError(text + " Three. Four.")
"""


def test_what_is_looked_for_is_found(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SOURCE)
    found = list(read_messages(tmp_path, {"FlairError", "DataError", "UsageError"}))
    assert sorted((one.text, one.foreign) for one in found) == [
        ("One Three. Four.", False),
        ("One. Two. Three. Four.", False),
        ("{}: {}", False),
        ("{}: {}", True),
        ("{}: {}", True),
    ]
    assert [count_sentences(one.text) for one in found if one.text.startswith("One. ")] == [4]
    assert find_faults("error: x: 'NoneType' object has no attribute 'y'")
    assert find_faults("error: a.b is missing.\n  - D004: copy it again (1.5 MB).\nThen go on.") == []
