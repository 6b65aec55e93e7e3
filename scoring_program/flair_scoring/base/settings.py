"""YAML that users of this kit write: configurations, limits, the description of a competition."""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterable
from typing import Any

import yaml

from flair_scoring.base.bounded_yaml import build_values, check_size


def parse_settings(content: str | bytes) -> Any:
    """The value of a YAML text. Bytes are UTF-8, or UTF-16 with a byte order mark.

    Raises ValueError with the reason in one line: the encoding, the syntax, a key that occurs twice, or more
    values than `check_size` allows.
    """
    text = _decode(content) if isinstance(content, bytes) else content
    try:
        check_size(text)
        return build_values(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise ValueError(f"not valid YAML ({where}{reason})") from error
    except RecursionError as error:
        raise ValueError("not valid YAML (too many levels inside each other)") from error


def similar_key(key: object, known: Iterable[str]) -> str | None:
    """The known key that `key` was probably meant to be; None if it resembles none of them."""
    plain = str(key).lower().replace("-", "_")
    return next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=0.7)), None)


def _decode(content: bytes) -> str:
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        if marked:
            raise ValueError("not UTF-16, which its first bytes announce; save the file as UTF-8") from error
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise ValueError(f"line {line} is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from error
