"""Texts of strangers made safe for a terminal: no character moves its cursor or changes its colours."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text with every control character but line ends replaced by its escape, as ESC by \\x1b."""
    return "\n".join(map(one_line, text.split("\n")))


def one_line(text: str) -> str:
    """The text with every control character replaced by its escape, line ends too.

    Marks that turn the direction of writing are replaced as well, and surrogates, which cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    harmless = character.isprintable() or unicodedata.category(character) == "Zs"
    return character if harmless else character.encode("unicode_escape").decode()


def count_cells(text: str) -> int:
    """How many cells of a terminal a line takes: two for each wide letter, none for accents of their own."""
    return sum(map(_count_cells, text))


def _count_cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
