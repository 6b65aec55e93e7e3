"""A folder without the Sentinel-2 archives suffices for training on the aerial images alone."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest
from test_check_dataset import run as check
from test_training import SMALL

from flair_baseline.config import load_config
from flair_baseline.packaging import pack_checkpoint
from flair_baseline.training.loop import train
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import DataError

SENTINEL = ("flair_sen_train", "flair_2_sen_test", "flair-2_centroids_sp_to_patch.json")
METADATA = "flair_aerial_metadata.json"
ENOUGH = "enough for training on the aerial images alone: satellite"


@pytest.fixture(scope="module")
def aerial(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA with everything but the Sentinel-2 archives and the json that belongs to them."""
    tree = tmp_path_factory.mktemp("aerial") / "data"
    return Path(shutil.copytree(flair_tree, tree, ignore=shutil.ignore_patterns(*SENTINEL)))


@pytest.mark.parametrize("name", ["unet", "unet_mtd_aug"])
def test_a_run_trains_validates_and_is_packaged(aerial: Path, tmp_path: Path, name: str) -> None:
    assert not [path for path in aerial.rglob("*") if "sen" in path.name.lower()]
    best = train(load_config(name, [*SMALL, "epochs=1"]), aerial, tmp_path / "run")
    assert best["val_loss"] > 0
    files = pack_checkpoint(tmp_path / "run", batch_size=2)
    assert {"model.py", "weights.safetensors"} <= files.keys()


def test_a_run_that_reads_series_says_how_it_does_without(aerial: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder flair_sen_train") as caught:
        train(load_config("utt", [*SMALL, "epochs=1"]), aerial, tmp_path / "run")
    *_, advice = str(caught.value).splitlines()
    assert advice == "without the Sentinel-2 archives a configuration trains with satellite=false"


def test_evaluation_says_which_archive_it_lacks(aerial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform hands series to every submission, so evaluation reads them whatever the model reads."""
    script = Path(__file__).parents[2] / "starting_kit" / "evaluate.py"
    arguments = ["most_frequent.zip", "--data", str(aerial), "--split", "val"]
    (aerial.parent / "most_frequent.zip").write_bytes(b"PK")
    monkeypatch.chdir(aerial.parent)
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.syspath_prepend(script.parent)
    with pytest.raises(DataError) as caught:
        importlib.import_module("evaluate").main()
    assert "no folder flair_sen_train" in str(caught.value)
    assert "no file flair-2_centroids_sp_to_patch.json" in str(caught.value)


def test_check_dataset_says_what_the_folder_suffices_for(aerial: Path, capsys) -> None:
    check(aerial, "--aerial-only")
    told = capsys.readouterr().out
    assert "dates" not in told
    assert "series" not in told.partition("\n\n")[2].partition("enough")[0]
    *_, enough, lacking, verdict = told.splitlines()
    assert enough == f"{ENOUGH}: false, as in unet and unet_mtd"
    assert lacking == (
        f"note: no {', no '.join(SENTINEL)}; training with satellite: true reads the series, and ingest.py "
        "and evaluate.py hand them to every submission"
    )
    assert verdict == "no problems"


def test_check_dataset_names_the_option_where_series_are_missing(aerial: Path, flair_tree: Path) -> None:
    with pytest.raises(DataError) as caught:
        check(aerial)
    *problems, advice = str(caught.value).splitlines()
    assert "no folder flair_sen_train" in "".join(problems)
    assert advice == ("Training with satellite: false needs no Sentinel-2 archive: check with --aerial-only")


def test_all_archives_leave_nothing_to_note(flair_tree: Path, capsys) -> None:
    check(flair_tree, "--aerial-only")
    *_, before, enough, verdict = capsys.readouterr().out.splitlines()
    assert (before, enough, verdict) == ("", f"{ENOUGH}: false, as in unet and unet_mtd", "no problems")


def test_without_metadata_and_validation_less_is_possible(aerial: Path, tmp_path: Path, capsys) -> None:
    tree = Path(shutil.copytree(aerial, tmp_path / "data"))
    (tree / METADATA).unlink()
    check(tree, "--aerial-only")
    told = capsys.readouterr().out
    assert f"{ENOUGH} and metadata: false, as in unet\nnote: no {METADATA}, which" in told
    for kind in ("aerial", "labels"):
        shutil.rmtree(tree / f"flair_{kind}_train")
    check(tree, "--aerial-only")
    assert "not enough for training, which needs the domains of train and of val\n" in capsys.readouterr().out


def test_images_and_labels_are_still_checked(aerial: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(aerial, tmp_path / "data"))
    patch = index_patches(tree, "train", labels=True, series=False)[0]
    Path(str(patch.labels)).write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"{patch.labels}: "):
        check(tree, "--aerial-only")
