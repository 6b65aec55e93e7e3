from __future__ import annotations

import copy
import os
import re
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flair_ingestion import submission as module
from flair_ingestion.submission import open_submission, unpack
from flair_scoring.base.errors import SubmissionError, UsageError

MODEL = b"class Model: ..."
Files = dict[str, bytes]


def write_zip(path: Path, files: Files, year: int = 2024, mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
            info.external_attr = (mode if name != "model.py" else stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def write_folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize("wrapping", ["", "my submission/"])
def test_contents_are_unpacked_below_model_py_and_leftovers_of_systems_ignored(
    tmp_path: Path, write: Callable[[Path, Files], Path], wrapping: str
) -> None:
    wanted = {"model.py": MODEL, "weights/a.bin": bytes(range(256)), "metadata.yaml": b"description: mine"}
    junk = {"__MACOSX/._model.py": b"x", ".DS_Store": b"x", "weights/__pycache__/a.pyc": b"x"}
    source = write(
        tmp_path / "source", {wrapping + name: content for name, content in (wanted | junk).items()}
    )
    unpack(open_submission(source, 1), tmp_path / "copy")
    found = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert {p.relative_to(tmp_path / "copy").as_posix(): p.read_bytes() for p in found} == wanted


def test_the_hash_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    files = {"model.py": MODEL, "weights.bin": b"w", "config.json": b"{}"}
    sources = [
        write_zip(tmp_path / "1.zip", files, 2023),
        write_zip(tmp_path / "2.zip", dict(reversed(files.items()))),
        write_zip(tmp_path / "3.zip", {f"x/{name}": content for name, content in files.items()}),
        write_folder(tmp_path / "folder", files),
    ]
    others = [
        write_zip(tmp_path / "4.zip", files | {"weights.bin": b"v"}),
        write_zip(tmp_path / "5.zip", {"model.py": MODEL, "weight.bin": b"w", "config.json": b"{}"}),
    ]
    hashes = [open_submission(source, 1).sha256 for source in sources + others]
    assert len(set(hashes[:4])) == 1
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("unpacked", [False, True], ids=["zip", "as a platform unpacks it"])
@pytest.mark.parametrize("wrapping", ["", "my submission\\"])
def test_backslashes_in_the_names_of_a_zip_separate_folders(
    tmp_path: Path, wrapping: str, unpacked: bool
) -> None:
    """Windows' zip before 2017 writes them; Python unpacks them on Linux into names with backslashes."""
    wanted = {"model.py": MODEL, "flair_baseline/__init__.py": b"", "a/b/weights.bin": b"w" * 100}
    stored = {wrapping + name.replace("/", "\\"): content for name, content in wanted.items()}
    stored |= {wrapping + "a\\": b"", "__MACOSX\\._model.py": b"x"}
    source = write_zip(tmp_path / "windows.zip", stored)
    if unpacked:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "windows")
        source = tmp_path / "windows"
        assert len(list(source.iterdir())) == len(stored)  # flat
    submission = open_submission(source, 1)
    unpack(submission, tmp_path / "copy")
    found = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert {p.relative_to(tmp_path / "copy").as_posix(): p.read_bytes() for p in found} == wanted
    assert submission.sha256 == open_submission(write_folder(tmp_path / "folder", wanted), 1).sha256


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a\\..\\..\\x", "leaves the folder"),
        ("..\\x", "leaves the folder"),
        ("\\etc\\x", "leaves the folder"),
        ("\\\\server\\share\\x", "leaves the folder"),
        ("C:\\x", "leaves the folder"),
        (".\\model.py", "'model.py' is there 2 times"),
        ("weights\\PRED_077413.tif", "'weights/PRED_077413.tif' is a result"),
        ("model.py\\x", "'model.py' is both a file and a folder"),
        ("a\\" * 40 + "x", "nests folders 40 deep"),
        (".\\metadata.yaml", "'metadata.yaml' is not a short YAML mapping"),
    ],
)
def test_names_with_backslashes_are_checked_like_others(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    for source in (write_zip, write_folder):
        files = {"model.py": MODEL, name: b"x"}
        with pytest.raises(SubmissionError) as caught:
            open_submission(source(tmp_path / ("folder" if source is write_folder else "s.zip"), files), 2)
        assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("metadata.py", "metadata.json", "src/metadata", "src/metadata/__init__.py"),
        *("scores.py", "src/predictions/__init__.py", "predictions/model.pt", "predictions.py", "timing.py"),
        *("scores.safetensors", "scores/__init__.py", "masks.tif", "predictor/x.json", "manifest.py"),
    ],
)
def test_code_and_weights_are_no_results_whatever_their_name(tmp_path: Path, name: str) -> None:
    source = write_zip(tmp_path / "s.zip", {"model.py": MODEL, name: b"x"})
    assert set(open_submission(source, 1).files) == {"model.py", name}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"train.py": b""}, "has no model.py at its root, which holds 'train.py'"),
        ({}, "which holds nothing"),
        ({"a/model.py": MODEL, "b/x": b""}, "has no model.py at its root, which holds 'a', 'b'"),
        ({"submission.zip": b"PK"}, "not a zip of them"),
        ({"../model.py": MODEL}, "'../model.py' leaves the folder"),
        ({"/etc/model.py": MODEL}, "'/etc/model.py' leaves the folder"),
        ({"a/../../model.py": MODEL}, "leaves the folder"),
        ({"C:model.py": MODEL}, "leaves the folder"),
        ({"a\\..\\model.py": MODEL}, "leaves the folder"),
        ({"model.py": MODEL, "x/PRED_077413.tif": b""}, "'x/PRED_077413.tif' is a result"),
        ({"model.py": MODEL, "msk_000001.TIFF": b""}, "is a result"),
        ({"model.py": MODEL, "Predictions/x.npy": b""}, "is a result"),
        ({"model.py": MODEL, "x/timing.json": b""}, "is a result"),
        ({"model.py": MODEL, "manifest.json": b""}, "is a result"),
        ({"model.py": MODEL, "scores.txt": b""}, "is a result"),
        ({"model.py": MODEL, "x/scores.csv": b""}, "is a result"),
        ({"model.py": MODEL, "src/predictions/x.TXT": b""}, "is a result"),
        ({"model.py": MODEL, "signing.key": b""}, "is a result"),
        ({"model.py": MODEL, "metadata.yaml": b"command: python x.py"}, "'metadata.yaml' has a command"),
        ({"model.py": MODEL, "metadata.yaml": b"a: 0x" + b"f" * 9000}, "line 1: a number of 9002 characters"),
        ({"model.py": MODEL, "metadata.yaml": b"command"}, "'metadata.yaml' is not a short YAML mapping"),
        ({"model.py": MODEL, "metadata.yaml": b"a: [1"}, "'metadata.yaml' is not a short YAML mapping"),
        ({"model.py": MODEL, "metadata.yaml": b"#" * 70_000}, "YAML mapping (more than 65536 bytes); write"),
        ({"model.py": MODEL, "metadata.yaml": b"a: !!bool maybe"}, "YAML mapping (line 1: tag"),
        ({"model.py": MODEL, "metadata.yaml": b"a: !!timestamp x"}, "YAML mapping (line 1: tag"),
        ({"model.py": MODEL, "metadata.yaml": b'a: !!int ""'}, "YAML mapping (line 1: tag"),
        ({"model.py": MODEL, "metadata.yaml": b'a: !!float ""'}, "YAML mapping (line 1: tag"),
        ({"model.py": MODEL, "metadata.yaml": b"a: " + b"1:" * 400 + b"1.5"}, "is not a valid number"),
        ({"model.py": MODEL, "metadata.yaml": b"a: 2021-02-30"}, "2021-02-30 is not a valid date"),
        ({"model.py": MODEL, "metadata.yaml": b"a: &a {k: v}\n<<: [*a, *a]"}, "merge key '<<', which is not"),
        ({"model.py": MODEL, "metadata.yaml": b"a: &a [k]\nb: *a"}, "alias '*a', which is not allowed"),
        (
            {"model.py": MODEL, "metadata.yaml": b"command: x\ncommand: y"},
            "the key 'command' occurs a second time",
        ),
        ({"a/model.py": MODEL, "a/metadata.yaml": b"command: x"}, "'a/metadata.yaml' has a command"),
        ({"model.py": MODEL, "metadata": b"description: x"}, "'metadata' has the name of the record that"),
        ({"model.py": MODEL, "metadata": b"ingestionExitCode: 0"}, "rename it, or write a description into"),
        ({"model.py": MODEL, "metadata/__init__.py": b""}, "'metadata' has the name of the record that"),
        ({"a/model.py": MODEL, "a/metadata": b"description: x"}, "'a/metadata' has the name of the record"),
        ({"model.py": MODEL, "a": b"", "a/b": b""}, "'a' is both a file and a folder"),
        ({"model.py": MODEL, "x" * 256: b""}, "is too long a name"),
        ({"model.py": MODEL, f"{'x' * 250}/" * 16 + "x": b""}, "is too long a name"),
        ({"model.py": MODEL, "a/" * 1800 + "x": b""}, "nests folders 1800 deep; at most 32"),
        ({"model.py": MODEL, "big": os.urandom(3 << 20)}, "unpacks to 3 MiB; at most 2 are allowed"),
    ],
)
def test_a_zip_is_refused_with_the_reason(tmp_path: Path, files: Files, sentence: str) -> None:
    source = write_zip(tmp_path / "s.zip", files)
    with pytest.raises(SubmissionError) as caught:
        open_submission(source, 2)
    assert sentence in str(caught.value)
    assert str(source) in str(caught.value)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    source = write_zip(tmp_path / "s.zip", {"model.py": MODEL, "secret": b"/etc/passwd"}, mode=kind | 0o777)
    with pytest.raises(SubmissionError, match="'secret' is a link or a special file"):
        open_submission(source, 2)


def test_links_and_special_files_in_a_folder_are_refused_all_at_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", {"model.py": MODEL, "timing.json": b""})
    (folder / "file").symlink_to("/etc/passwd")
    (folder / "directory").symlink_to("/etc")
    (folder / "nowhere").symlink_to("nowhere at all")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SubmissionError) as caught:
        open_submission(folder, 2)
    for name in ("file", "directory", "nowhere", "pipe"):
        assert f"'{name}' is a link or a special file" in str(caught.value)
    assert "5 problems" in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_copy", None)
    source = write_zip(tmp_path / "s.zip", {"model.py": MODEL, "zeros": bytes(70 << 20)})
    with pytest.raises(SubmissionError, match="unpacks to more than 100 times its size"):
        open_submission(source, 1024)


def test_too_many_files_are_refused_without_naming_them(tmp_path: Path) -> None:
    names = {f"{number}/timing.json": b"" for number in range(module.MAX_FILES)}
    with pytest.raises(SubmissionError, match="holds 10001 files; at most 10000") as caught:
        open_submission(write_zip(tmp_path / "s.zip", {"model.py": MODEL} | names), 1024)
    assert "timing" not in str(caught.value)


def test_a_folder_of_any_depth_is_refused_with_a_sentence(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", {"model.py": MODEL})
    build = "import os\nfor _ in range(1200): os.mkdir('a'); os.chdir('a')\nopen('x', 'w').close()"
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True)
    try:
        with pytest.raises(SubmissionError, match="nests folders 33 deep; at most 32"):
            open_submission(folder, 2)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def test_a_zip_that_understates_a_size_is_refused(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "s.zip", {"model.py": MODEL, "zeros": bytes(70 << 20)})
    content = bytearray(source.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 10)
    source.write_bytes(content)
    with pytest.raises(SubmissionError, match="not a readable zip file"):
        open_submission(source, 2)


def test_entries_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "s.zip", {"model.py": MODEL, "zeros": bytes(20 << 20)})
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("last", b"")  # so that the list of entries is written again
        shared = archive.getinfo("zeros")
        for number in range(40):
            info = copy.copy(shared)
            info.filename = info.orig_filename = f"zeros{number}"
            archive.filelist.append(info)
    with pytest.raises(SubmissionError, match="unpacks to more than 100 times its size"):
        open_submission(source, 1024)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("model.py", MODEL)
        archive.writestr("./model.py", b"class Other: ...")
    with pytest.raises(SubmissionError, match=r"'model\.py' is there 2 times"):
        open_submission(tmp_path / "s.zip", 2)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "s.zip", {"model.py": MODEL})
    content = bytearray(source.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    struct.pack_into("<H", content, central + 8, 1)
    source.write_bytes(content)
    with pytest.raises(SubmissionError, match=r"'model\.py' is encrypted"):
        open_submission(source, 2)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_zip_is_refused(tmp_path: Path, damage: str) -> None:
    source = write_zip(tmp_path / "s.zip", {"model.py": os.urandom(1000)})
    content = bytearray(source.read_bytes())
    content[200] ^= 1
    source.write_bytes({"truncated": content[:500], "flipped": content, "empty": b""}[damage])
    with pytest.raises(SubmissionError, match=r"s\.zip: not a readable zip file"):
        open_submission(source, 2)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_anywhere_in_a_zip_is_the_submissions_fault(tmp_path: Path, method: int) -> None:
    source, random = tmp_path / "s.zip", np.random.default_rng(method)
    with zipfile.ZipFile(source, "w", method) as archive:
        archive.writestr("model.py", MODEL * 20)
        archive.writestr("wé", random.bytes(300))
    content = source.read_bytes()
    refused = 0
    for index in range(len(content)):
        source.write_bytes(content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :])
        try:
            open_submission(source, 2)
        except SubmissionError:
            refused += 1
    assert refused > len(content) / 2


def zip64(path: Path, offset: int) -> Path:
    """A zip whose entry lies at that offset, told in 64 bits."""
    write_zip(path, {"model.py": MODEL})
    content = bytearray(path.read_bytes())
    central, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    extra = struct.pack("<HHQ", 1, 8, offset)
    struct.pack_into("<I", content, central + 42, 2**32 - 1)  # look for it in the extra field
    struct.pack_into("<H", content, central + 30, len(extra))
    content[end:end] = extra
    (size,) = struct.unpack_from("<I", content, end + len(extra) + 12)
    struct.pack_into("<I", content, end + len(extra) + 12, size + len(extra))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("offset", [2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_an_offset_beyond_all_files_is_damage(tmp_path: Path, offset: int) -> None:
    with pytest.raises(SubmissionError, match=r"s\.zip: not a readable zip file \(.+\); zip what") as caught:
        open_submission(zip64(tmp_path / "s.zip", offset), 2)
    assert not re.search("Errno|int too|struct|unpack|seek", str(caught.value))
    assert "model.py" in open_submission(zip64(tmp_path / "s.zip", 0), 2).files


def test_a_list_of_a_million_files_is_refused_before_it_is_read(tmp_path: Path) -> None:
    entry = (
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, *[0] * 6) + b"x"
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, len(entry) * 10**6, 0, 0)
    source = tmp_path / "s.zip"
    source.write_bytes(entry * 10**6 + end)
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        with pytest.raises(SubmissionError, match=r"s\.zip: lists its files in 47000000 bytes, and at most"):
            open_submission(source, 2)
        assert time.perf_counter() - begin < 1
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_only_deflate_is_unpacked(tmp_path: Path, method: int, name: str) -> None:
    """45 bytes of bzip2 can stand for 46 MB, and zipfile unpacks all of them at once."""
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("model.py", MODEL)
        archive.writestr("zeros", bytes(20 << 20), method)
    tracemalloc.start()
    try:
        with pytest.raises(SubmissionError, match=f"'zeros' is packed with {name}; pack it with deflate"):
            open_submission(tmp_path / "s.zip", 2000)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_submission_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.zip: no such file or folder; expected a zip or a folder"):
        open_submission(tmp_path / "nowhere.zip", 2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: is a pipe or a device"):
        open_submission(tmp_path / "pipe", 2)


def test_without_room_for_a_copy_the_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = open_submission(write_folder(tmp_path / "folder", {"model.py": MODEL}), 2)
    full = Path("/dev/full")
    monkeypatch.setattr(module, "_target", lambda folder, name: full.open("wb", buffering=0))
    with pytest.raises(UsageError, match=r"No space left on device\); check .* room .* which TMPDIR sets"):
        unpack(submission, tmp_path / "copy")


def test_a_change_between_check_and_copy_is_noticed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", {"model.py": MODEL, "lookup.bin": b"before"})
    submission = open_submission(folder, 2)
    (folder / "lookup.bin").write_bytes(b"after!")
    with pytest.raises(SubmissionError, match="has changed since it was checked"):
        unpack(submission, tmp_path / "copy")
