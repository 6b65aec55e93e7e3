"""A DATA that is not quite the right folder: one sentence says where the data set lies, or what to unpack."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flair_files import AREA, CENTROIDS, METADATA
from flair_ingestion.dataset import index_patches, require_data
from flair_scoring.base.errors import DataError


@pytest.fixture
def tree(flair_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flair_tree, tmp_path / "data"))


def problems(tree: Path, split: str = "train") -> list[str]:
    with pytest.raises(DataError) as caught:
        index_patches(tree, split, labels=True)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def pack(folder: Path) -> None:
    with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
        archive.writestr("x", b"")
    shutil.rmtree(folder)


@pytest.mark.parametrize("find", [require_data, lambda data: index_patches(data, "test")])
@pytest.mark.parametrize("inner", ["", "D006_2020", f"D006_2020/{AREA}", f"D006_2020/{AREA}/img"])
def test_a_folder_inside_names_the_whole(tree: Path, inner: str, find: Callable[[Path], object]) -> None:
    data = tree / "flair_aerial_train" / inner
    with pytest.raises(DataError) as caught:
        find(data)
    assert str(caught.value) == (
        f"{data}: is, or lies in, flair_aerial_train; name the folder that holds it, {tree}"
    )


def test_a_relative_folder_inside_is_known_too(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "flair_sen_train")
    with pytest.raises(
        DataError, match=f"^\\.: is, or lies in, flair_sen_train; name the folder that holds it, {tree}"
    ):
        require_data(Path("."))
    other = tree / "notes"
    other.mkdir()
    with pytest.raises(DataError, match="notes: no folders flair_aerial_train"):
        require_data(other)


@pytest.mark.parametrize("find", [require_data, lambda data: index_patches(data, "test")])
@pytest.mark.parametrize("outer", ["data", "downloads/flair2"])
def test_a_folder_around_names_the_inner(
    tree: Path, tmp_path: Path, outer: str, find: Callable[[Path], object]
) -> None:
    inner = tmp_path / "home" / outer
    inner.parent.mkdir(parents=True)
    tree.rename(inner)
    with pytest.raises(DataError) as caught:
        find(tmp_path / "home")
    assert str(caught.value) == f"{tmp_path / 'home'}: the data set lies deeper; name {inner} instead"


@pytest.mark.parametrize("kind", ["aerial", "sen", "labels"])
def test_a_doubled_folder_is_one_problem(tree: Path, kind: str) -> None:
    root = tree / f"flair_{kind}_train"
    root.rename(tree / "moved")
    root.mkdir()
    (tree / "moved").rename(root / root.name)
    assert problems(tree) == [f"{root}: holds a folder {root.name} once more; move what is in that one up"]


@pytest.mark.parametrize("kind", ["aerial", "sen", "labels"])
def test_an_archive_that_is_still_packed_is_one_problem(tree: Path, kind: str) -> None:
    pack(tree / f"flair_{kind}_train")
    assert problems(tree) == [f"{tree}: flair_{kind}_train.zip is still packed; unpack the archive there"]


@pytest.mark.parametrize("find", [require_data, lambda data: index_patches(data, "test")])
def test_all_archives_still_packed(tree: Path, find: Callable[[Path], object]) -> None:
    for folder in [path for path in tree.iterdir() if path.is_dir()]:
        pack(folder)
    with pytest.raises(
        DataError, match=r"still packed: flair_2_aerial_test\.zip, .*; unpack each archive there"
    ):
        find(tree)


def test_domains_that_are_still_packed(tree: Path) -> None:
    root = tree / "flair_sen_train"
    for folder in list(root.iterdir()):
        pack(folder)
    told = "D004_2021.zip, D006_2020.zip, D007_2020.zip, …: still packed; unpack them there"
    assert problems(tree) == [f"{root}: {told}"]


@pytest.mark.parametrize(
    ("name", "archive"),
    [(CENTROIDS, "flair_2_centroids_sp_to_patch.zip"), (METADATA, "flair_2_aerial_metadata.zip")],
)
def test_a_json_that_is_packed_or_deeper(tree: Path, name: str, archive: str) -> None:
    (tree / archive).touch()
    (tree / "aux-data").mkdir()
    (tree / name).rename(tree / "aux-data" / name)
    assert problems(tree) == [f"{tree / 'aux-data' / name}: must lie one folder up, in {tree}; move it there"]
    os.remove(tree / "aux-data" / name)
    assert problems(tree) == [f"{tree}: {archive} is still packed; unpack it there"]
