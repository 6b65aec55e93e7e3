"""Files are written whole or not at all, and what stands in the way is named."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import make_folder, read_file, require_folder, write_file


def test_folders_are_made_and_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x"
    write_file(path, "old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["x"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("file/x", "file/x: cannot be written (file is a file)"),
        ("file/x/y", "file/x/y: cannot be written (Not a directory)"),
        (".", ".: is a folder or a device"),
        ("folder", "folder: is a folder or a device"),
        ("pipe", "pipe: is a folder or a device"),
        ("x" * 255, "cannot be written (File name too long)"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    before = sorted(os.listdir())
    with pytest.raises(UsageError) as refusal:
        write_file(Path(name), "content")
    assert sentence in str(refusal.value)
    assert sorted(os.listdir()) == before
    assert Path("file").read_text() == "kept"
    assert Path("pipe").is_fifo()


def test_without_room_the_older_file_stays(tmp_path: Path) -> None:
    write_file(tmp_path / "x", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"x: cannot be written \(File too large\); make room"):
            write_file(tmp_path / "x", "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_an_interruption_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "x", "new")
    assert not os.listdir(tmp_path)


def test_folders_that_are_none_or_take_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, sentence in (("file", "file: is a file, not a folder"), ("none", "none: no such folder")):
        with pytest.raises(UsageError, match=f"{sentence}; expected one with PRED_000001.tif"):
            require_folder(tmp_path / name, "PRED_000001.tif")
    require_folder(tmp_path, "anything")
    make_folder(tmp_path / "a" / "b")
    assert not os.listdir(tmp_path / "a" / "b")
    for folder, reason in ((tmp_path / "file", "it is a file"), (Path("/proc"), "No such file or directory")):
        with pytest.raises(UsageError) as refusal:
            make_folder(folder)
        assert f"{folder}: cannot be written to ({reason}); choose another folder" in str(refusal.value)


def test_a_file_is_read_within_a_bound_and_a_pipe_blocks_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_file(tmp_path / "x", 5) == b"12345"
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert read_file(tmp_path / "link", 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name, most, reason in (
        ("x", 4, "it has 5 bytes, and at most 4 are read"),
        ("pipe", 9, "it is a pipe or a device"),
        ("zeros", 9, "it is a pipe or a device"),
        (".", 9, "Is a directory"),
        ("gone", 9, "No such file"),
    ):
        with pytest.raises(OSError, match=reason):
            read_file(tmp_path / name, most)
