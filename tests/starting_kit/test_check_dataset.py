"""check_dataset.py as it is typed: its tables against counts by hand, its exit codes and its one message."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from flair_files import AREA, DOMAINS, area_folder, draw_labels, write_raster, write_series

SCRIPT = Path(__file__).parents[2] / "starting_kit" / "check_dataset.py"


@pytest.fixture
def tree(flair_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flair_tree, tmp_path / "data"))


def check(data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(data)], capture_output=True, text=True, timeout=120
    )


def test_the_tables_say_what_is_there(tree: Path) -> None:
    for domain, dates in (("D006_2020", 4), ("D007_2020", 7), ("D008_2019", 8)):
        folder = area_folder(tree, "sen", "train", domain)
        write_series(folder, domain, AREA, np.random.default_rng(0), dates)
    shutil.rmtree(tree / "flair_aerial_train/D014_2020")
    done = check(tree)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no problems")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["train", "3", "3", "6", "4", "6.3", "8"] in rows
    assert ["val", "2", "2", "4", "5", "5.0", "5"] in rows
    assert ["test", "3", "3", "6", "5", "5.0", "5"] in rows


def test_frequencies_equal_a_count_of_the_masks(tree: Path) -> None:
    labels = draw_labels(np.random.default_rng(5))
    labels[:10, :7] = 0
    write_raster(area_folder(tree, "labels", "train", "D006_2020") / "MSK_000001.tif", labels)
    done = check(tree)
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("class"))
    assert lines[start].split()[-3:] == ["train", "val", "test"]
    printed = np.array(
        [[float(number) for number in line.split()[-3:]] for line in lines[start + 1 : start + 14]]
    )
    assert lines[start + 1].startswith("building")
    assert lines[start + 13].startswith("other")

    folders = {split: "flair_2_labels_test" if split == "test" else "flair_labels_train" for split in DOMAINS}
    for column, (split, folder) in enumerate(folders.items()):
        paths = [path for domain in DOMAINS[split] for path in (tree / folder / domain).rglob("MSK_*.tif")]
        pixels = np.array([rasterio.open(path).read(1) for path in paths])
        assert pixels.shape == (6, 512, 512)
        expected = [100 * (pixels == value).mean() for value in range(1, 13)]
        expected.append(100 * ((pixels == 0) | (pixels > 12)).mean())
        np.testing.assert_allclose(printed[:, column], expected, atol=0.0051)
    assert "train: 70 pixels are 0 and count as other" in lines


def test_test_labels_may_be_absent_and_training_data_too(tree: Path) -> None:
    shutil.rmtree(tree / "flair_2_labels_test")
    done = check(tree)
    assert done.returncode == 0
    assert "train     val\n" in done.stdout
    for kind in ("aerial", "sen", "labels"):
        shutil.rmtree(tree / f"flair_{kind}_train")
    done = check(tree)
    assert done.returncode == 0
    assert "train " not in done.stdout.splitlines()[1]
    assert done.stdout.splitlines()[-1] == "no problems"


def test_problems_of_all_splits_end_in_one_message(tree: Path) -> None:
    (area_folder(tree, "labels", "train", "D006_2020") / "MSK_000001.tif").unlink()
    images = area_folder(tree, "aerial", "test", "D015_2020")
    (images / "IMG_077413.tif").write_bytes((images / "IMG_077413.tif").read_bytes()[:-100])
    (images / "IMG_077414.tif").rename(images / "IMG_000007.tif")  # of D004_2021, in val
    masks = area_folder(tree, "labels", "test", "D015_2020")
    (masks / "MSK_077414.tif").rename(masks / "MSK_000007.tif")
    (products,) = area_folder(tree, "sen", "train", "D014_2020").glob("*_products.txt")
    products.write_text("\n".join(products.read_text().splitlines()[1:]))
    done = check(tree)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no problems" not in done.stdout
    message = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert message[0].endswith("(4 problems):")
    for part in ("no MSK_000001.tif", "4 products, but", "IMG_077413.tif: ", "id 000007 is taken"):
        assert sum(part in line for line in message) == 1


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_data_says_what_to_unpack(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    done = check(tmp_path / name)
    assert done.returncode == 2
    assert "unpack FLAIR #2's archives there" in done.stderr
    assert "Traceback" not in done.stderr
