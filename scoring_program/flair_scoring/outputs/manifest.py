"""manifest.json: the files that ingestion wrote, with a signature that only the organizer can make.

A submission can put any file where scoring will look. On the platform scoring therefore opens a file only if
the manifest names it, if it is unchanged, and if the manifest is signed with the key that both programs hold.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import reprlib
from pathlib import Path, PurePosixPath
from typing import Any

from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import PredictionError, UsageError, list_problems
from flair_scoring.base.files import write_file
from flair_scoring.base.provenance import SCHEMA, stamp

NAME = "manifest.json"
_MAX_BYTES = 32 << 20  # the most that a manifest may have: about 100 for each file


def write_manifest(folder: Path, key: bytes | None) -> None:
    """Write manifest.json with the SHA-256 of every other file below `folder`, signed if there is a key.

    Raises PredictionError if the folder holds a link.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    manifest: dict[str, Any] = stamp()
    manifest["files"] = {name: _digest(folder / name) for name in names if name != NAME}
    manifest["signature"] = None if key is None else _sign(manifest, key)
    write_file(folder / NAME, json.dumps(manifest, indent=1) + "\n")


def verify_manifest(folder: Path, key: bytes | None) -> dict[str, Any]:
    """The manifest of `folder`; PredictionError unless every file that it names is there and unchanged.

    The manifest must be signed with `key`; without a key the signature is not checked. Files that the
    manifest does not name are ignored, but links are refused.
    """
    manifest = _read(folder / NAME)
    if key is not None:
        if manifest["signature"] is None:
            raise PredictionError(f"{folder / NAME}: not signed; expected ingestion's signature with our key")
        signature = str(manifest["signature"]).encode(errors="replace")
        if not hmac.compare_digest(signature, _sign(manifest, key).encode()):
            raise PredictionError(
                f"{folder / NAME}: wrong signature; it was changed, or signed with another key"
            )
    _files(folder)  # no links
    problems = [_problem(folder, name, digest) for name, digest in manifest["files"].items()]
    if any(problems):
        raise PredictionError(
            list_problems(f"{folder}: not as ingestion left it", list(filter(None, problems)))
        )
    return manifest


def _files(folder: Path) -> list[Path]:
    """All files below `folder`; raises PredictionError that names all links."""
    paths = [Path(root, name) for root, folders, files in os.walk(folder) for name in folders + files]
    if links := sorted(str(path) for path in paths if path.is_symlink()):
        raise PredictionError(list_problems(f"{folder}: links are not allowed", links))
    return [path for path in paths if path.is_file()]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PredictionError(f"{path}: missing; ingestion writes it, run ingestion to its end")
    try:
        manifest = read_json(path, _MAX_BYTES)
    except (OSError, ValueError):
        manifest = None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise PredictionError(
            f"{path}: damaged, or of another version: schema {reprlib.repr(schema)}, expected {SCHEMA}"
        )
    if not isinstance(manifest.get("files"), dict) or "signature" not in manifest:
        raise PredictionError(f"{path}: damaged; files or signature are missing; run ingestion again")
    return manifest


def _problem(folder: Path, name: str, digest: str) -> str | None:
    """What is wrong with a file that the manifest names; None if nothing is."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        return f"{name} is outside the folder"
    path = folder.joinpath(*parts)
    try:
        if not path.is_file():
            return f"{name} is missing"
        return None if _digest(path) == digest else f"{name} was changed"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sign(manifest: dict[str, Any], key: bytes) -> str:
    """The HMAC-SHA256, in hex, of all fields but the signature, as JSON with sorted keys and no spaces."""
    if not key.strip():
        raise UsageError("the signing key is empty; build the bundle again")
    signed = {name: value for name, value in manifest.items() if name != "signature"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.strip(), text.encode(), "sha256").hexdigest()
