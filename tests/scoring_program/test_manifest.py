"""The manifest vouches for every file it names, and only the key can sign it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flair_scoring.base.errors import PredictionError, UsageError
from flair_scoring.outputs.manifest import verify_manifest, write_manifest

KEY = b"6b6579\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/PRED_077413.tif").write_bytes(b"pixels")
    (tmp_path / "timing.json").write_text("{}")
    return tmp_path


def test_names_and_signs_every_file(folder: Path) -> None:
    write_manifest(folder, KEY)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == {
        "predictions/PRED_077413.tif": hashlib.sha256(b"pixels").hexdigest(),
        "timing.json": hashlib.sha256(b"{}").hexdigest(),
    }
    assert {"schema", "kit_version", "commit", "nomenclature"} < manifest.keys()
    rest = {key: value for key, value in manifest.items() if key != "signature"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    assert manifest["signature"] == hmac.new(KEY.strip(), canonical, hashlib.sha256).hexdigest()
    assert verify_manifest(folder, KEY) == manifest


def test_without_a_key_only_the_files_are_checked(folder: Path) -> None:
    write_manifest(folder, None)
    assert verify_manifest(folder, None)["signature"] is None
    with pytest.raises(PredictionError, match="not signed"):
        verify_manifest(folder, KEY)
    write_manifest(folder, KEY)
    assert verify_manifest(folder, None)["signature"]


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def forge(folder: Path) -> None:
    """Another prediction under its right hash: only the signature tells."""
    (folder / "predictions/PRED_077413.tif").write_bytes(b"better")
    write_manifest(folder, b"a guess")


def link(folder: Path) -> None:
    (folder / "kept").write_bytes(b"pixels")
    (folder / "predictions/PRED_077413.tif").unlink()
    (folder / "predictions/PRED_077413.tif").symlink_to(folder / "kept")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: missing"),
    "not json": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: damaged"),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json: damaged"),
    "no files": (lambda folder: edit(folder, files=None), "files or signature are missing"),
    "other schema": (lambda folder: edit(folder, schema=99), "schema 99, expected 1"),
    "unsigned": (lambda folder: write_manifest(folder, None), "not signed"),
    "other key": (forge, "wrong signature"),
    "signature of another type": (lambda folder: edit(folder, signature=["\ud800"]), "wrong signature"),
    "one more name": (lambda folder: edit(folder, files={}), "wrong signature"),
    "changed": (lambda folder: (folder / "timing.json").write_text("{ }"), "timing.json was changed"),
    "deleted": (lambda folder: (folder / "timing.json").unlink(), "timing.json is missing"),
    "link in its place": (link, "links are not allowed"),
    "dangling link beside": (lambda folder: (folder / "x").symlink_to("gone"), "links are not allowed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_what_was_tampered_with(folder: Path, fault: str) -> None:
    write_manifest(folder, KEY)
    FAULTS[fault][0](folder)
    with pytest.raises(PredictionError) as caught:
        verify_manifest(folder, KEY)
    assert FAULTS[fault][1] in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"schema": json.loads("[" * 900 + "]" * 900)}, "damaged, or of another version"),
        ({"schema": "x" * 10**6}, "schema 'xxxxxxxxxxxx...xxxxxxxxxxxxx', expected 1"),
        ({"signature": json.loads("[" * 900 + "]" * 900)}, "damaged, or of another version"),
        ({"files": {"x" * 300: "0"}}, "cannot be read (File name too long)"),
        ({"files": {"a\0b": "0"}}, "is missing"),
        ({"files": {"timing.json": [0]}}, "timing.json was changed"),
    ],
)
def test_what_ingestion_never_writes_is_refused(folder: Path, fields: dict[str, Any], sentence: str) -> None:
    write_manifest(folder, None)
    edit(folder, **fields)
    with pytest.raises(PredictionError) as caught:
        verify_manifest(folder, None)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "predictions/../../outside", ""])
def test_names_cannot_leave_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "outside").write_bytes(b"pixels")
    write_manifest(folder, None)
    edit(folder, files={name: hashlib.sha256(b"pixels").hexdigest()})
    with pytest.raises(PredictionError, match="is outside the folder"):
        verify_manifest(folder, None)


def test_links_are_not_signed_either(folder: Path) -> None:
    link(folder)
    with pytest.raises(PredictionError, match="links are not allowed"):
        write_manifest(folder, KEY)
    assert not (folder / "manifest.json").exists()


def test_an_empty_key_signs_nothing(folder: Path) -> None:
    with pytest.raises(UsageError, match="signing key is empty"):
        write_manifest(folder, b"\n")
