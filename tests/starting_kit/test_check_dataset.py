"""check_dataset.py as it is typed: its tables against counts by hand, its exit codes and its one message."""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from flair_files import AREA, DOMAINS, area_folder, draw_labels, write_raster, write_series
from flair_scoring.base.errors import DataError

SCRIPT = Path(__file__).parents[2] / "starting_kit" / "check_dataset.py"


@pytest.fixture
def tree(flair_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flair_tree, tmp_path / "data"))


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def hub(flair_tree: Path, tmp_path: Path) -> Path:
    """The same data set in the Hugging Face packaging, with a patch and a series of FLAIR #1's test set."""
    root = tmp_path / "the hub"
    (root / "aux-data").mkdir(parents=True)
    for path in flair_tree.glob("*.json"):
        shutil.copy(path, root / "aux-data")
    metadata_path = root / "aux-data" / "flair_aerial_metadata.json"
    metadata = json.loads(metadata_path.read_text())
    metadata["IMG_061713"] = metadata["IMG_077415"] | {"zone": "Z9_AA"}  # D022_2021, as in both challenges
    metadata_path.write_text(json.dumps(metadata))
    for split, domains in DOMAINS.items():
        folder = root / "data" / ("flair#2-test" if split == "test" else "train-val")
        folder.mkdir(parents=True, exist_ok=True)
        for domain in domains:
            with zipfile.ZipFile(folder / f"{domain}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for path in flair_tree.glob(f"*/{domain}/{AREA}/*/*"):
                    kind = next(kind for kind in ("aerial", "labels", "sen") if kind in path.parts[-5])
                    archive.write(path, f"{kind}/{AREA}/{path.name}")
                archive.writestr("README.md", "not of the data set")
    (root / "data" / "flair#1-test").mkdir()
    with zipfile.ZipFile(root / "data" / "flair#1-test" / "D022_2021.zip", "w") as archive:
        archive.writestr("aerial/Z9_AA/IMG_061713.tif", "of FLAIR #1")
        archive.writestr("sen/Z9_AA/SEN2_sp_D022_2021-Z9_AA_data.npy", "of FLAIR #1")
    return root


def run(*arguments: object) -> None:
    """As `check`, but in this process, whose exceptions come through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["check_dataset.py", *map(str, arguments)])
        patch.syspath_prepend(SCRIPT.parent)
        importlib.import_module("check_dataset").main()


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_archives_of_domains_are_recognised_and_the_commands_lay_them_out(
    hub: Path, flair_tree: Path
) -> None:
    found = check(hub)
    assert found.returncode == 2
    assert "10 archives of one domain each" in found.stderr
    commands = [
        line.split("python starting_kit/check_dataset.py ")[1] for line in found.stderr.splitlines()[1:]
    ]
    first, second = map(shlex.split, commands)
    assert first[:2] == [str(hub), "--lay-out"]
    assert first[2:] == second
    assert check(*first).returncode == 0
    laid_out, expected = files(Path(*second)), files(flair_tree)
    assert b"IMG_061713" in laid_out.pop("flair_aerial_metadata.json")
    del expected["flair_aerial_metadata.json"]
    assert laid_out == expected
    done = check(*second)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no problems")


def test_laying_out_again_completes_what_is_there(hub: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert check(hub, "--lay-out", out).returncode == 0
    complete = files(out)
    kept, cut, gone = sorted(out.rglob("IMG_*.tif"))[:3]
    kept.write_bytes(b"x" * kept.stat().st_size)  # of the right size: not read again
    cut.write_bytes(cut.read_bytes()[:100])
    gone.unlink()
    done = check(hub, "--lay-out", out)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert {name for name, content in files(out).items() if content != complete[name]} == {
        kept.relative_to(out).as_posix()
    }
    assert files(out).keys() == complete.keys()


def test_damaged_archives_and_unknown_patches_are_listed_and_the_rest_is_laid_out(
    hub: Path, flair_tree: Path, tmp_path: Path
) -> None:
    cut, broken = (hub / "data/train-val" / f"{domain}.zip" for domain in ("D006_2020", "D007_2020"))
    cut.write_bytes(cut.read_bytes()[:5000])
    content = bytearray(broken.read_bytes())
    with zipfile.ZipFile(broken) as archive:
        info = next(info for info in archive.infolist() if "_data.npy" in info.filename)
    content[info.header_offset + 1000] ^= 0xFF
    broken.write_bytes(content)
    metadata_path = hub / "aux-data" / "flair_aerial_metadata.json"
    metadata = json.loads(metadata_path.read_text())
    del metadata["IMG_077413"]
    metadata_path.write_text(json.dumps(metadata))
    out = tmp_path / "out"
    done = check(hub, "--lay-out", out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert message[0].endswith("(4 problems):")
    for part in (str(cut), f"{info.filename} is damaged", ": IMG_077413.tif: ", ": MSK_077413.tif: "):
        assert sum(part in line for line in message) == 1, part
    absent = files(flair_tree).keys() - files(out).keys()
    assert {name.split("/")[1] for name in absent} == {"D006_2020", "D007_2020", "D015_2020"}
    assert sum("D007_2020" in name for name in absent) == 1
    assert not files(out).keys() - files(flair_tree).keys()


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [("data", "no archives of domains"), ("aux-data", "no flair-2_centroids_sp_to_patch.json")],
)
def test_a_partial_download_says_what_is_missing(
    hub: Path, tmp_path: Path, missing: str, sentence: str
) -> None:
    shutil.rmtree(hub / missing)
    done = check(hub, "--lay-out", tmp_path / "out")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_tables_say_what_is_there(tree: Path) -> None:
    for domain, dates in (("D006_2020", 4), ("D007_2020", 7), ("D008_2019", 8)):
        folder = area_folder(tree, "sen", "train", domain)
        write_series(folder, domain, AREA, np.random.default_rng(0), dates)
    for kind in ("aerial", "labels"):
        shutil.rmtree(tree / f"flair_{kind}_train/D014_2020")
    done = check(tree)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no problems in what is here")
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
    *_, first, second, verdict = done.stdout.splitlines()
    assert (first[:10], second[:10]) == ("note: 0 of", "note: 0 of")
    assert verdict == "no problems in what is here"


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


def test_holes_in_the_test_set_refuse(tree: Path) -> None:
    for domain in DOMAINS["test"]:
        next(area_folder(tree, "aerial", "test", domain).glob("IMG_*.tif")).unlink()
    next(area_folder(tree, "aerial", "train", "D006_2020").glob("IMG_*.tif")).unlink()
    done = check(tree)
    assert done.returncode == 2
    message = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert message[0].endswith("(4 problems):")
    assert sum("1 label without its image" in line for line in message) == 4


def test_a_domain_that_is_gone_is_told_beside_the_verdict(tree: Path) -> None:
    for kind in ("aerial", "sen", "labels"):
        shutil.rmtree(tree / f"flair_2_{kind}_test/D022_2021")
    done = check(tree)
    assert done.returncode == 0
    *_, note, verdict = done.stdout.splitlines()
    assert note.startswith("note: 4 of the 6 test patches known to flair_aerial_metadata.json are here;")
    assert verdict == "no problems in what is here"


def blank(path: Path, *index: object) -> Path:
    """Fill a part of a npy file with nodata."""
    content = np.load(path)
    content[index] = 0
    np.save(path, content)
    return path


def test_dates_series_and_images_without_data_are_problems(tree: Path) -> None:
    one, other = (
        next(area_folder(tree, "sen", "test", domain).glob("*_data.npy")) for domain in DOMAINS["test"][:2]
    )
    blank(one, [1, 3])
    blank(other, slice(None))
    image = area_folder(tree, "aerial", "test", "D026_2020") / "IMG_077417.tif"
    write_raster(image, np.zeros((5, 512, 512), np.uint8))
    done = check(tree)
    assert done.returncode == 2
    message = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert message[0].endswith("(3 problems):")
    for part in (
        f"{one}: 2 of 5 dates hold no data (2020-03-09, 2020-06-15)",
        f"{other}: 5 of 5 dates hold no data (2021-01-20, 2021-03-10, 2021-04-28, …)",
        f"{image}: holds no data: red, green, blue and near infrared are 0 everywhere",
    ):
        assert sum(part in line for line in message) == 1, part


def test_what_has_one_value_everywhere_is_a_problem(tree: Path) -> None:
    one, other = (
        next(area_folder(tree, "sen", "test", domain).glob("*_data.npy")) for domain in DOMAINS["test"][:2]
    )
    content = np.load(one)
    content[1] = 65535
    np.save(one, content)
    blank(other, slice(None), 3)
    image = area_folder(tree, "aerial", "test", "D026_2020") / "IMG_077417.tif"
    write_raster(image, np.full((5, 512, 512), 255, np.uint8))
    mask = area_folder(tree, "labels", "train", "D006_2020") / "MSK_000001.tif"
    write_raster(mask, np.zeros((1, 512, 512), np.uint8))
    with pytest.raises(DataError) as caught:
        run(tree)
    title, *problems = str(caught.value).splitlines()
    assert title.endswith("(4 problems):")
    expected = (
        f"{one}: 1 of 5 dates hold one value per band everywhere (2020-03-09); unpack it again",
        f"{other}: band 4 is 0 on all dates; unpack it again",
        f"{image}: red, green, blue and near infrared have one value each everywhere; unpack it again",
        f"{mask}: is 0 everywhere, which is no class; unpack it again",
    )
    assert sorted(problems) == sorted(f"  - {told}" for told in expected)


def test_shares_of_nodata_equal_a_count_by_hand(tree: Path) -> None:
    series = next(area_folder(tree, "sen", "test", "D015_2020").glob("*_data.npy"))
    blank(series, 2, slice(None), slice(0, 65))  # half of one of the 15 dates
    image = area_folder(tree, "aerial", "train", "D004_2021") / "IMG_000007.tif"
    with rasterio.open(image) as opened:
        pixels = opened.read()
    pixels[:4, :256] = 0  # a height alone is no measurement
    pixels[4, :256] = 7
    write_raster(image, pixels)
    done = check(tree)
    assert done.returncode == 0
    rows = {line.split("  ")[0]: line.split()[-3:] for line in done.stdout.splitlines() if line}
    assert rows["without data, %"] == ["train", "val", "test"]
    assert rows["pixels of the images"] == ["0.00", f"{100 / 2 / 6:.2f}", "0.00"]
    assert rows["pixels of the series"] == ["0.00", "0.00", f"{100 / 2 / 15:.2f}"]
    assert rows["dates with some pixels without data"] == ["0.00", "0.00", f"{100 / 15:.2f}"]


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 2580000000\n"


def empty_zip(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")


@pytest.mark.parametrize("json_files", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_flair_hub_is_named(flair_tree: Path, tmp_path: Path, json_files: bool, packed: bool) -> None:
    hub = tmp_path / "hub"
    name = "D004-2021_AERIAL_RGBI"
    if packed:
        empty_zip(hub / f"data/{name}.zip", f"{name}/UN-S1-4/{name}_UN-S1-4_18-5.tif")
        empty_zip(hub / "data/D012-195X_AERIAL-RLT_PAN.zip")
    else:
        (hub / f"data/{name}/UN-S1-4").mkdir(parents=True)
    for path in flair_tree.glob("*.json") if json_files else []:
        shutil.copy(path, hub)
    out = tmp_path / "out"
    for command in ((hub,), (hub, "--lay-out", out)):
        with pytest.raises(DataError, match=rf"{name}.* FLAIR-HUB, another data set.*IGNF/FLAIR$"):
            run(*command)
    assert not out.exists()


def test_names_with_backslashes_are_paths(hub: Path, flair_tree: Path, tmp_path: Path) -> None:
    for path in hub.rglob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                info = zipfile.ZipInfo("x")
                info.filename = name.replace("/", "\\")
                archive.writestr(info, data)
    out = tmp_path / "out"
    run(hub, "--lay-out", out)
    assert files(out).keys() == files(flair_tree).keys()


def test_what_is_no_whole_archive_is_told_and_the_rest_laid_out(hub: Path, tmp_path: Path) -> None:
    data = hub / "data/train-val"
    (data / "D006_2020.zip").rename(data / "D006_2020.zip.incomplete")
    (data / "D007_2020.zip").write_text(POINTER)
    (data / "D008_2019.zip.part").touch()  # left over: the whole archive is there
    hidden = hub / ".cache/huggingface/download/data"
    hidden.mkdir(parents=True)
    (hidden / "Zr8.0123abcd.incomplete").touch()
    empty_zip(data / "D009_2019.zip", "IMG_000001.png", "README.md")
    out = tmp_path / "out"
    with pytest.raises(DataError) as caught:
        run(hub, "--lay-out", out)
    title, *problems = str(caught.value).splitlines()
    assert title.endswith("(4 problems):")
    expected = {
        data / "D006_2020.zip.incomplete": "an unfinished download; finish it, and lay out again",
        hidden / "Zr8.0123abcd.incomplete": "an unfinished download; finish it, and lay out again",
        data / "D007_2020.zip": "a git-lfs pointer, not the file itself; fetch it with git lfs pull",
        data / "D009_2019.zip": "holds no files of FLAIR (IMG_<6 digits>.tif, …); download it again",
    }
    assert sorted(problems) == sorted(f"  - {path}: {told}" for path, told in expected.items())
    assert len(list(out.glob("*/*/*/*/*"))) == 7 * (2 + 2 + 3)


def test_an_empty_result_is_an_error(hub: Path, tmp_path: Path) -> None:
    for part in ("train-val", "flair#2-test"):
        shutil.rmtree(hub / "data" / part)
    out = tmp_path / "out"
    with pytest.raises(DataError, match="none of the 1 archive holds a patch of FLAIR #2"):
        run(hub, "--lay-out", out)
    assert not out.exists()


def test_only_unfinished_downloads_are_said_to_be(hub: Path, tmp_path: Path) -> None:
    for path in list(hub.rglob("*.zip")):
        path.rename(f"{path}.incomplete")
    for command in ((hub, "--lay-out", tmp_path / "out"), (hub,)):
        with pytest.raises(DataError, match=r"downloads are unfinished \(10\)"):
            run(*command)


def test_a_json_that_is_a_pointer_is_told(hub: Path, tmp_path: Path) -> None:
    path = hub / "aux-data/flair_aerial_metadata.json"
    path.write_text(POINTER)
    with pytest.raises(DataError, match=f"{path}: a git-lfs pointer, not the file itself"):
        run(hub, "--lay-out", tmp_path / "out")


@pytest.mark.parametrize("json_files", [True, False])
def test_archives_that_are_pointers_are_named_first(hub: Path, tmp_path: Path, json_files: bool) -> None:
    archives = sorted(hub.rglob("*.zip"))
    for path in archives:
        path.write_text(POINTER)
    if not json_files:
        shutil.rmtree(hub / "aux-data")
    for command in ((hub,), (hub, "--lay-out", tmp_path / "out")):
        with pytest.raises(DataError) as caught:
            run(*command)
        first, *others = str(caught.value).splitlines()[1:]
        assert (
            first == f"  - {archives[0]}: a git-lfs pointer, not the file itself; fetch it with git lfs pull"
        )
        assert "--lay-out" not in str(caught.value)
        assert any("download aux-data/" in line for line in others) == (not json_files and len(command) > 1)


def test_a_single_archive_of_a_domain_is_counted_in_the_singular(tmp_path: Path) -> None:
    empty_zip(tmp_path / "D004_2021.zip", "IMG_000007.tif")
    with pytest.raises(
        DataError, match=r": 1 archive of one domain \(D004_2021\.zip\), as on the Hugging Face hub"
    ):
        run(tmp_path)


def test_archives_of_ign_need_no_laying_out(tmp_path: Path) -> None:
    empty_zip(tmp_path / "flair_aerial_train.zip")
    with pytest.raises(DataError, match=r"flair_aerial_train\.zip: IGN's own, which need no laying out; unp"):
        run(tmp_path, "--lay-out", tmp_path / "out")
