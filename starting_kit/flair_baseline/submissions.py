"""The submissions that a command line names: zips, folders with model.py, and folders of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flair_scoring.base.errors import UsageError, list_names, list_problems
from flair_scoring.base.terminal import one_line


def is_submission(path: Path) -> bool:
    """Whether `path` is a zip, or a folder with model.py at its root or inside its only folder."""
    if path.is_dir():
        inside = [*path.glob("*/model.py"), *path.glob("*\\model.py")]  # as in a zip made by old Windows
        tops = {entry.name.split("\\")[0] for entry in path.iterdir()}
        return (path / "model.py").is_file() or len(inside) == len(tops) == 1
    return path.suffix.lower() == ".zip" and path.is_file()


def find_submissions(paths: Sequence[Path]) -> dict[str, Path]:
    """Every submission among `paths` and inside the folders among `paths`.

    Returns name -> path, sorted by name within a folder. A note on stderr names what else is in a folder.
    Raises UsageError, which lists all paths that are neither a submission nor a folder with some, and all
    submissions that share a name.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    for path in paths:
        inside = [path] if is_submission(path) else sorted(filter(is_submission, path.glob("*")))
        if not inside:
            kind = "neither a submission nor a folder of them" if path.exists() else "no such file or folder"
            problems.append(f"{path}: {kind}")
        for submission in inside:
            name = submission.stem if submission.is_file() else submission.resolve().name
            if found.setdefault(name, submission) != submission:
                problems.append(
                    f"{submission} and {found[name]} would share the results folder {name}; rename one"
                )
        others = sorted(entry.name for entry in path.glob("[!.]*") if entry not in inside)
        if inside and inside != [path] and others:
            print(f"note: not submissions, left out: {one_line(list_names(others))}", file=sys.stderr)
    if problems:
        expected = "expected zips or folders with model.py, and options of ingest.py after them"
        raise UsageError(list_problems(f"cannot take the submissions; {expected}", problems))
    return found
