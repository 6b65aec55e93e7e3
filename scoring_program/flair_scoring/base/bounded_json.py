"""JSON of strangers: bounded in size and depth, and refused with one kind of exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flair_scoring.base.files import read_file

MAX_DEPTH = 32  # levels of lists and objects in each other; Python cannot print arbitrarily many


def read_json(path: Path, most: int) -> Any:
    """The value in a file of at most `most` bytes. Raises what `read_file` and `parse_json` raise."""
    return parse_json(read_file(path, most))


def parse_json(content: bytes) -> Any:
    """The value of a JSON text; ValueError if the text is no JSON or has more than 32 levels."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return value
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _children(value: Any) -> list[Any]:
    """The lists and objects directly inside a value."""
    if isinstance(value, dict):
        value = list(value.values())
    return [one for one in value if isinstance(one, dict | list)] if isinstance(value, list) else []
