"""Nothing that a stranger has named reaches a terminal as a command to it."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest

from flair_scoring.base.errors import UsageError, list_problems, run_command
from flair_scoring.base.terminal import one_line, printable


def test_every_control_character_is_escaped_and_all_text_is_kept() -> None:
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert one_line(chr(code)).isascii()
            assert one_line(chr(code)).isprintable()
        elif category[0] in "LMNPS":
            assert one_line(chr(code)) == chr(code)
    assert one_line("forêt à 20 %\u202f: 森\u00a0") == "forêt à 20 %\u202f: 森\u00a0"
    assert printable("a\x1b\nb\r\tc") == "a\\x1b\nb\\r\\tc"


def test_a_list_of_problems_stays_readable_whatever_its_names() -> None:
    message = list_problems("s.zip: not a valid submission", ["x" * 65_535 + " leaves the folder"] * 30)
    assert message.count("\n") == 21
    assert len(message) < 32_000


def test_an_error_message_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UsageError("\x1b[2J/scores.json: damaged\n  - second line")

    with pytest.raises(SystemExit):
        run_command(fail)
    assert capsys.readouterr().err == "error: \\x1b[2J/scores.json: damaged\n  - second line\n"


def test_links_in_a_circle_are_an_error_of_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(SystemExit) as end:
        run_command(lambda: print(circle.resolve(strict=True)))
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {circle}: ")


def test_another_runtime_error_keeps_its_traceback() -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_command(fail)
