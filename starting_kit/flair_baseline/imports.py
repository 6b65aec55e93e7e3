"""Modules that a submission imports and the platform's image lacks."""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path, PurePosixPath

from flair_ingestion.submission import open_submission, read_sources
from flair_scoring.base.errors import SubmissionError

BASE_IMAGE = ("torch", "torchvision")  # the base image brings them, packages.txt does not list them
# Modules of packages that the image has and that may be absent at home
_OF_THE_IMAGE = {"onnxruntime-gpu": {"onnxruntime"}}
_ABSENCE = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def warn_of_imports(submission: Path, packages: Path) -> None:
    """Warn on stderr of modules that a submission imports and the platform's image lacks.

    `packages` is bundle/packages.txt. Nothing is said of a submission that cannot be opened; ingestion will
    say why.
    """
    try:
        sources = read_sources(open_submission(submission, math.inf))
    except SubmissionError:
        return
    if missing := missing_imports(sources, read_packages(packages)):
        listing = ", ".join(f"{module} ({path})" for module, path in missing.items())
        print(
            f"warning: {submission} imports what bundle/packages.txt does not list for the platform's image: "
            f"{listing}; bring the sources along in the zip, or do without",
            file=sys.stderr,
        )


def read_packages(path: Path) -> list[str]:
    """The packages of the platform's image: those of bundle/packages.txt and those of the base image."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = (line.split("#")[0].split("==")[0].strip() for line in lines)
    return [*BASE_IMAGE, *filter(None, names)]


def read_versions(lock: Path, packages: Path) -> dict[str, list[str]]:
    """Name -> versions in requirements.lock and packages.txt; more than one if they depend on Python."""
    found: dict[str, list[str]] = {}
    for path in (lock, packages):
        for line in path.read_text(encoding="utf-8").splitlines():
            if pinned := re.match(r"([\w.-]+)==([^\s;#]+)", line):
                found.setdefault(pinned[1], []).append(pinned[2])
    return found


def missing_imports(files: Mapping[str, bytes], packages: Sequence[str]) -> dict[str, str]:
    """The imported modules that none of `packages` brings: module -> the first file that imports it.

    `files` maps the paths of the submission's Python files to their contents. Imports do not count if the
    program goes on without them, or if only type checkers read them. A file that does not parse imports
    nothing.
    """
    own = {part.split(".")[0] for path in files for part in PurePosixPath(path).parts}
    found: dict[str, str] = {}
    for path, content in files.items():
        for module in _imported(content):
            found.setdefault(module, path)
    foreign = found.keys() - own - sys.stdlib_module_names
    brought = _modules_of(packages) if foreign else set()
    return {module: path for module, path in found.items() if module in foreign - brought}


def _imported(content: bytes) -> list[str]:
    """The top-level names of all modules that a file cannot run without."""
    try:
        return list(_walk(ast.parse(content)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _walk(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module.split(".")[0]
    elif isinstance(node, ast.stmt | ast.Module | ast.ExceptHandler | ast.match_case):
        skipped = getattr(node, "body", []) if _may_fail(node) or _is_for_type_checkers(node) else []
        for child in ast.iter_child_nodes(node):
            if child not in skipped:
                yield from _walk(child)


def _may_fail(node: ast.AST) -> bool:
    """Whether the node is a `try` that goes on when an import in its body fails."""
    if not isinstance(node, ast.Try):
        return False
    caught = [handler.type for handler in node.handlers]
    names = {one.id for kind in caught if kind for one in ast.walk(kind) if isinstance(one, ast.Name)}
    return None in caught or bool(names & _ABSENCE)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _modules_of(packages: Sequence[str]) -> set[str]:
    """The modules of these packages and of all packages that they require, as far as they are known here."""
    wanted, waiting = set(), list(packages)
    known = {module for name in packages for module in _OF_THE_IMAGE.get(name, ())}
    while waiting:
        name = _normal(waiting.pop())
        if name not in wanted:
            wanted.add(name)
            try:
                lines = requires(name) or []
            except PackageNotFoundError:
                continue
            waiting += [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]
    found = packages_distributions().items()
    return known | {module for module, owners in found if wanted & set(map(_normal, owners))}


def _normal(name: str) -> str:
    """The name of a package in the form in which registries compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()
