import csv
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score

from flair_baseline.config import Config, load_config, model_options, parse_overrides, to_dict
from flair_baseline.model.utt import UTT
from flair_baseline.samples.loader import make_loader
from flair_baseline.table_iv import (
    ROWS,
    Result,
    check_test_set,
    describe_run,
    read_result,
    render_text,
    row_config,
    table_rows,
    toy_recipe,
)
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.nomenclature import FLAIR_12
from programs import run_here

TINY = [
    *("encoder=tu-mobilenetv3_small_050", "decoder_channels=[8, 8, 8, 8, 8]", "aerial_pooling=4"),
    *("epochs=1", "workers=0", "device=cpu"),
]
ROWS_RUN = ["unet", "utt_best", "satellite_only", "dates_permuted"]


def table4(data: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_here("table4", data, "--recipe", "toy", "--output", output, *options)


@pytest.fixture(scope="module")
def output(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Begun with one row and one seed, then continued with more of both."""
    folder = tmp_path_factory.mktemp("table4") / "out"
    done = table4(flair_tree, folder, "--rows", "unet", "--seeds", "1", "--set", *TINY)
    assert done.returncode == 0, done.stderr
    return folder


def test_finished_runs_are_kept_and_the_table_grows(output: Path, flair_tree: Path):
    first = output / "unet/2022"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()}
    done = table4(flair_tree, output, "--rows", *ROWS_RUN, "--seeds", "2", "--set", *TINY)
    assert done.returncode == 0, done.stderr
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()} == before
    folders = {str(path.parent.relative_to(output)) for path in output.rglob("test.json")}
    runs = ("unet", "utt_best", "utt_best-permute_dates")
    assert folders == {f"{run}/{seed}" for run in runs for seed in (2022, 2023)}
    assert done.stderr.count("epoch 1: loss") == 5  # all but the first; satellite_only has none of its own
    with (output / "table4.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["seed"]) for line in lines] == [
        (row, seed) for row in ROWS_RUN for seed in ("2022", "2023")
    ]
    results = {
        line["row"]: json.loads((output / ROWS[line["row"]].run / "2023/test.json").read_text())["result"]
        for line in lines
    }
    for line in lines[1::2]:
        key = "miou_satellite" if line["row"] == "satellite_only" else "miou"
        assert float(line["miou"]) == results[line["row"]]["scores"][key]
    permuted = json.loads((output / "utt_best-permute_dates/2023/test.json").read_text())["config"]
    assert permuted["permute_dates"] is True
    for text in (done.stdout, (output / "table4.html").read_text()):
        assert "0.5467 ±0.0009" in text
        assert "is not the paper" in text
        assert "learning_rate=0.003" in text

    refused = table4(flair_tree, output, "--rows", "unet", "--seeds", "1", "--set", *TINY, "learning_rate=1")
    assert refused.returncode == 2
    assert "another configuration or on other data" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_tested_score_is_scikit_learns_on_the_test_set(output: Path, flair_tree: Path):
    run = output / "unet/2022"
    result = json.loads((run / "test.json").read_text())
    config = load_config("unet", ["encoder_weights=null", *TINY])
    model = UTT(**model_options(config)).eval()
    model.load_state_dict(load_file(run / "model.safetensors"))
    expected, predicted = [], []
    for batch in make_loader(index_patches(flair_tree, "test", labels=True), config):
        labels = model(*batch.inputs)[0].argmax(1).numpy()
        predicted.append(labels.repeat(4, axis=1).repeat(4, axis=2).ravel())
        expected.append(batch.labels.numpy().ravel())
    miou = jaccard_score(
        np.concatenate(expected), np.concatenate(predicted), labels=range(12), average="macro"
    )
    assert result["result"]["scores"]["miou"] == pytest.approx(miou, abs=1e-4)


def test_scores_per_class_are_those_of_the_rows_own_head(output: Path, flair_tree: Path, tmp_path: Path):
    done = table4(flair_tree, output, "--rows", "utt_best", "satellite_only", "--seeds", "1", "--set", *TINY)
    assert done.returncode == 0, done.stderr
    with (output / "table4.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    run = output / "utt_best/2022"
    config = row_config("utt_best", "toy", 0, parse_overrides(TINY))
    model = UTT(**model_options(config)).eval()
    model.load_state_dict(load_file(run / "model.safetensors"))
    expected, predicted = [], {"utt_best": [], "satellite_only": []}
    for batch in make_loader(index_patches(flair_tree, "test", labels=True), config):
        expected.append(batch.labels.numpy().ravel())
        for head, logits in zip(predicted, model(*batch.inputs), strict=True):
            nearest = np.arange(512) * logits.shape[-1] // 512  # index of the nearest pixel of coarser logits
            predicted[head].append(logits.argmax(1).numpy()[:, nearest][:, :, nearest].ravel())
    for head, labels in predicted.items():
        ious = jaccard_score(np.concatenate(expected), np.concatenate(labels), labels=range(12), average=None)
        assert [float(lines[head][key]) for key in FLAIR_12.keys] == pytest.approx(ious.tolist(), abs=1e-4)
        assert float(lines[head]["miou"]) == pytest.approx(ious.mean(), abs=1e-4)
    assert lines["satellite_only"]["iou_building"] != lines["utt_best"]["iou_building"]


@pytest.mark.parametrize("content", ["{", "[1]", '{"schema": 1}', "NOT_ITS_RESULT"])
def test_a_damaged_result_is_named(tmp_path: Path, content: str):
    config = Config()
    whole = {"schema": 1} | describe_run(config, tmp_path) | {"result": {"seed": 1}}
    (tmp_path / "test.json").write_text(content.replace("NOT_ITS_RESULT", json.dumps(whole)))
    with pytest.raises(
        DataError, match=r"test\.json: damaged; delete it, and the trained run is tested again"
    ):
        read_result(config, tmp_path, tmp_path)


def test_the_papers_numbers_stand_beside_ours():
    published = {  # datapaper, Table IV: best epoch, mIoU and its spread over 5 runs
        "unet": ("62", "0.5467 ±0.0009"),
        "utt_mdr": ("27", "0.5354 ±0.0104"),
        "utt_best": ("26", "0.5623 ±0.0056"),
    }
    runs = [Result(seed, 27_249_318, 3 + seed, {"miou": 0.5 + seed / 10}) for seed in (0, 1)]
    lines = {line[0]: line for line in table_rows(dict.fromkeys(published, runs))}
    for name, cells in published.items():
        assert tuple(lines[name][-2:]) == cells
        assert lines[name][6:-2] == ["27.2 M", "4", "0.5500 ±0.0707", "2"]
    assert lines["utt_best"][1:6] == ["x", "x", "", "", "x"]
    assert lines["utt_mdr"][1:6] == ["", "", "x", "", ""]
    head, *text = render_text(list(lines.values())).splitlines()
    assert {line.rindex("0.5") for line in text} == {head.index("paper mIoU")}


def test_the_toy_recipe_changes_no_strategy_and_the_paper_recipe_nothing():
    strategies = {"cloud_filter", "monthly_average", "modality_dropout", "metadata", "augmentation"}
    assert not {"satellite", *strategies} & toy_recipe().keys()
    for name, row in ROWS.items():
        paper, toy = (to_dict(row_config(name, recipe, 0, {})) for recipe in ("paper", "toy"))
        assert {key for key in paper if paper[key] != toy[key]} <= toy_recipe().keys()
        if not row.changes:
            assert paper == to_dict(load_config(row.config))
    assert row_config("utt", "paper", 4, {}) == Config(seed=2026)


def test_mistakes_are_explained(flair_tree: Path, tmp_path: Path):
    done = table4(flair_tree, tmp_path / "out", "--seeds", "0")
    assert done.returncode == 2
    assert "--seeds 0: give 1 or more" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="did you mean 'epochs'"):
        row_config("unet", "toy", 0, {"epoch": 3})
    with pytest.raises(DataError, match="no folders flair_aerial_train"):
        check_test_set(tmp_path, [Config()])


def test_rows_that_read_no_series_need_none_in_the_test_set(flair_tree: Path, tmp_path: Path):
    for part in ("flair_2_aerial_test", "flair_2_labels_test"):
        (tmp_path / part).symlink_to(flair_tree / part)
    unet, best = (load_config(name) for name in ("unet", "utt_best"))
    check_test_set(tmp_path, [unet])
    with pytest.raises(DataError, match="no folder flair_2_sen_test"):
        check_test_set(tmp_path, [unet, best])


def test_a_result_of_an_earlier_version_had_the_defaults(tmp_path: Path):
    config = Config()
    result = Result(seed=1, parameters=2, epoch=3, scores={})
    whole = {"schema": 1} | describe_run(config, tmp_path) | {"result": vars(result)}
    for key in ("loss", "ema"):
        del whole["config"][key]
    (tmp_path / "test.json").write_text(json.dumps(whole))
    assert read_result(config, tmp_path, tmp_path) == result
    with pytest.raises(UsageError, match="holds a run with another configuration"):
        read_result(replace(config, ema=0.5), tmp_path, tmp_path)
