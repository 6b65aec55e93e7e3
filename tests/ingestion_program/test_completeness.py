"""What is missing is told, whatever shows that it is: labels, series or entries of the json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flair_files import AREA, METADATA, area_folder
from flair_ingestion.dataset import SPLITS, describe_gaps, index_patches
from flair_scoring.base.errors import DataError


@pytest.fixture
def tree(flair_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flair_tree, tmp_path / "data"))


def gaps(tree: Path, *splits: str) -> list[str]:
    return describe_gaps(tree, {split: index_patches(tree, split, labels=True) for split in splits or SPLITS})


def test_a_whole_data_set_has_no_gaps(tree: Path) -> None:
    assert gaps(tree) == []


def test_labels_without_their_images_are_refused(tree: Path) -> None:
    for domain, id in (("D015_2020", "077413"), ("D022_2021", "077416")):
        (area_folder(tree, "aerial", "test", domain) / f"IMG_{id}.tif").unlink()
    with pytest.raises(DataError) as caught:
        index_patches(tree, "test", labels=True)
    title, *problems = str(caught.value).splitlines()
    assert title.endswith("(2 problems):")
    for problem, domain, id in zip(problems, ("D015_2020", "D022_2021"), ("077413", "077416"), strict=True):
        labels, images = (area_folder(tree, kind, "test", domain) for kind in ("labels", "aerial"))
        assert problem == (
            f"  - {labels}: 1 label without its image (MSK_{id}.tif); put the images into {images}, or "
            "remove the labels"
        )
    assert len(index_patches(tree, "test")) == 4  # without labels nothing shows it but the json
    assert len(index_patches(tree, "train", labels=True)) == 6


@pytest.mark.parametrize("gone", ["domain", "area", "images"])
def test_labels_of_a_place_without_images_are_refused_once(tree: Path, gone: str) -> None:
    images = area_folder(tree, "aerial", "train", "D006_2020")
    shutil.rmtree({"domain": images.parents[1], "area": images.parent, "images": images}[gone])
    with pytest.raises(DataError) as caught:
        index_patches(tree, "train", labels=True)
    told = [line for line in str(caught.value).splitlines()[1:] if "2 labels without their images" in line]
    assert len(told) == 1
    assert "(MSK_000001.tif, MSK_000002.tif)" in told[0]
    assert told[0].endswith(f"{'D006_2020' if gone == 'domain' else 'img'}, or remove the labels")


def test_labels_of_another_split_are_none_of_ours(tree: Path) -> None:
    shutil.rmtree(tree / "flair_aerial_train/D004_2021")
    assert len(index_patches(tree, "train", labels=True)) == 6
    with pytest.raises(DataError, match="D004_2021: 2 labels without their images"):
        index_patches(tree, "val", labels=True)


def test_a_declared_subset_is_counted(tree: Path) -> None:
    for kind in ("aerial", "labels"):
        shutil.rmtree(tree / f"flair_2_{kind}_test/D022_2021")
    (area_folder(tree, "aerial", "test", "D026_2020") / "IMG_077418.tif").unlink()
    (area_folder(tree, "labels", "test", "D026_2020") / "MSK_077418.tif").unlink()
    assert gaps(tree) == [
        f"3 of the 6 test patches known to {METADATA} are here; missing: all of D022_2021, and 1 patch of "
        "D026_2020",
        "1 area of flair_2_sen_test (test) has a series and no images",
    ]


def test_the_json_shows_a_domain_of_which_nothing_is_here(tree: Path) -> None:
    for kind in ("aerial", "sen", "labels"):
        for domain in ("D006_2020", "D007_2020"):
            shutil.rmtree(tree / f"flair_{kind}_train" / domain)
    assert gaps(tree) == [
        f"2 of the 6 train patches known to {METADATA} are here; missing: all of D006_2020, D007_2020"
    ]


def test_a_split_of_which_nothing_is_here(tree: Path) -> None:
    shutil.rmtree(tree / "flair_2_aerial_test")
    told = describe_gaps(tree, {"train": index_patches(tree, "train"), "test": []})
    assert told == [
        f"0 of the 6 test patches known to {METADATA} are here",
        "3 areas of flair_2_sen_test (test) have series and no images",
    ]


def test_patches_of_flair_1_are_not_missed_and_unknown_domains_count_for_no_split(tree: Path) -> None:
    content = json.loads((tree / METADATA).read_text())
    one = content["IMG_077415"]
    content |= {f"IMG_{id:06d}": one | {"zone": "Z9_AA"} for id in (61713, 77412)}
    content["IMG_001234"] = one | {"domain": None}
    content["IMG_001235"] = None
    content["litter"] = one
    (tree / METADATA).write_text(json.dumps(content))
    assert gaps(tree) == []
    content["IMG_077499"] = one | {"domain": "D099_2020"}
    content["IMG_061712"] = one | {"domain": "D077_2021"}
    (tree / METADATA).write_text(json.dumps(content))
    assert [told.split(" are ")[0] for told in gaps(tree)] == [
        f"6 of the 7 {split} patches known to {METADATA}" for split in ("val", "test")
    ]


def test_large_numbers_are_readable_and_many_domains_are_counted(tree: Path) -> None:
    content = json.loads((tree / METADATA).read_text())
    one = content["IMG_077413"]
    content |= {f"IMG_{id:06d}": one | {"domain": f"D{id % 40:03d}_2030"} for id in range(77419, 93463)}
    (tree / METADATA).write_text(json.dumps(content))
    assert gaps(tree, "test") == [
        f"6 of the 16,050 test patches known to {METADATA} are here; missing: all of 40 domains"
    ]


def test_areas_without_images_are_counted_in_present_domains_too(tree: Path) -> None:
    for area in ("Z2_UF", "Z3_UF"):
        shutil.copytree(
            area_folder(tree, "sen", "train", "D006_2020"),
            tree / f"flair_sen_train/D006_2020/{area}/sen",
        )
    assert AREA not in ("Z2_UF", "Z3_UF")
    assert gaps(tree) == ["2 areas of flair_sen_train (train) have series and no images"]
