"""Texts of strangers on a terminal: without the characters that move its cursor or change its colours."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text with line ends as they are, and every other control character as its escape: ESC as \\x1b."""
    return "\n".join(map(one_line, text.split("\n")))


def one_line(text: str) -> str:
    """The text with every control character as its escape, line ends too.

    So are marks that turn the direction of writing, and halves of characters that no encoding has.
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    harmless = character.isprintable() or unicodedata.category(character) == "Zs"
    return character if harmless else character.encode("unicode_escape").decode()
