"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from flair_scoring.errors import UsageError


def write_file(path: Path, content: str | bytes) -> None:
    """Write under a temporary name beside `path`, then rename; raises UsageError if that fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
