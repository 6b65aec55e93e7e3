import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score

from flair_baseline import training
from flair_baseline.checkpoint import read_provenance
from flair_baseline.config import Config, load_config, model_options, to_dict
from flair_baseline.learner import make_learner
from flair_baseline.patches import make_loader
from flair_baseline.training import epochs_since_lowest_loss, take_step, train
from flair_baseline.utt import UTT
from flair_baseline.validation import class_weights
from flair_ingestion.dataset import index_patches, read_image, read_labels, read_superpatch
from flair_scoring.errors import DataError, UsageError
from flair_scoring.nomenclature import FLAIR_12

TRAIN = Path(__file__).parents[2] / "starting_kit" / "train.py"
SMALL = [
    "encoder=tu-mobilenetv3_small_050",
    "encoder_weights=null",
    "decoder_channels=[8, 8, 8, 8, 8]",
    "aerial_pooling=4",
    "superpatch_size=16",
    "batch_size=2",
    "effective_batch_size=4",
    "epochs=2",
    "workers=0",
    "device=cpu",
]
ADAMW = ["optimizer=adamw", "schedule=one_cycle"]


def small(*overrides: str) -> Config:
    return load_config("utt_best", [*SMALL, *overrides])


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(TRAIN), *map(str, arguments)]
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def flatten(model: UTT) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def read_log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def run(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "run"
    train(small(*ADAMW), flair_tree, folder)
    return folder


def test_a_run_leaves_model_state_log_and_curves(run: Path):
    assert {path.name for path in run.iterdir()} == {
        *("model.safetensors", "model.json", "last.pt", "log.csv", "curves.png")
    }
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = read_log(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert math.isfinite(
            float(row["train_loss"]) + float(row["val_loss"]) + float(row["val_loss_satellite"])
        )
        ious = [float(row[key]) for key in FLAIR_12.keys if row[key]]
        assert float(row["val_miou"]) == pytest.approx(np.mean(ious))
    provenance = json.loads((run / "model.json").read_text())
    assert provenance == read_provenance(run / "model.safetensors")
    assert provenance["config"] == to_dict(small(*ADAMW))
    best = max(rows, key=lambda row: float(row["val_miou"]))
    assert str(provenance["epoch"]) == best["epoch"]
    for key, value in provenance["metrics"].items():
        assert ("" if value is None else str(value)) == best[key]
    assert len([key for key in best if key.startswith("val_miou_D")]) == 3


def test_the_logged_miou_is_scikit_learns_on_the_best_weights(run: Path, flair_tree: Path):
    model = UTT(**model_options(small())).eval()
    model.load_state_dict(load_file(run / "model.safetensors"))
    patches = index_patches(flair_tree, "val", labels=True)
    expected = np.concatenate([FLAIR_12.index_of[read_labels(patch)].ravel() for patch in patches])
    predicted = []
    with torch.inference_mode():
        for batch in make_loader(patches, small("batch_size=1", "effective_batch_size=1")):
            labels = model(*batch.inputs)[0][0].argmax(0).numpy()
            predicted.append(labels.repeat(4, axis=0).repeat(4, axis=1).ravel())
    score = jaccard_score(expected, np.concatenate(predicted), labels=range(12), average="macro")
    assert read_provenance(run / "model.safetensors")["metrics"]["val_miou"] == pytest.approx(score, abs=1e-4)


def test_the_seed_repeats_a_run_and_another_one_does_not(run: Path, flair_tree: Path, tmp_path: Path):
    train(small(*ADAMW), flair_tree, tmp_path / "again")
    assert read_log(tmp_path / "again") == read_log(run)
    train(small(*ADAMW, "seed=1", "epochs=1"), flair_tree, tmp_path / "other")
    assert read_log(tmp_path / "other")[0] != read_log(run)[0]


@pytest.mark.parametrize(
    "recipe", [ADAMW, ["optimizer=sgd", "schedule=plateau"]], ids=["one_cycle", "plateau"]
)
def test_an_interrupted_run_resumes_bit_for_bit(recipe, flair_tree, tmp_path, monkeypatch):
    config = small(*recipe)
    train(config, flair_tree, tmp_path / "whole")
    with monkeypatch.context() as patch:
        calls = iter([training.validate])  # the second epoch finds none
        patch.setattr(training, "validate", lambda *arguments: next(calls)(*arguments))
        with pytest.raises(StopIteration):
            train(config, flair_tree, tmp_path / "parts")
    assert len(read_log(tmp_path / "parts")) == 1
    train(config, flair_tree, tmp_path / "parts", resume=True)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    whole, parts = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()


def test_accumulated_batches_make_the_step_of_one_large_batch(flair_tree: Path):
    patches = index_patches(flair_tree, "train", labels=True)[:4]
    weights = []
    for batch_size in (1, 4):
        config = small(f"batch_size={batch_size}", "optimizer=sgd", "learning_rate=0.1")
        learner = make_learner(config, torch.device("cpu"), batches_per_epoch=1)
        learner.model.eval()  # neither batch statistics nor dropout, which depend on the batch by design
        take_step(learner, list(make_loader(patches, config)), class_weights(config))
        weights.append(flatten(learner.model))
    change = weights[1] - flatten(make_learner(config, torch.device("cpu"), batches_per_epoch=1).model)
    assert float((weights[0] - weights[1]).norm() / change.norm()) < 1e-4


def test_a_stalled_loss_lowers_the_rate_and_then_ends_the_run(flair_tree, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, *[2.5] * 100])
    monkeypatch.setattr(training, "validate", lambda *_: {"val_loss": next(losses), "val_miou": 0.5})
    train(small("epochs=100", "plateau_patience=1", "stopping_patience=4"), flair_tree, tmp_path / "run")
    rows = read_log(tmp_path / "run")
    assert len(rows) == 2 + 4
    assert [float(row["learning_rate"]) for row in rows] == [0.001] * 4 + [0.0005] * 2
    assert (
        read_provenance(tmp_path / "run/model.safetensors")["epoch"] == 1
    )  # the first of equally good epochs


def test_epochs_are_counted_from_the_lowest_loss():
    assert epochs_since_lowest_loss([]) == 0
    assert epochs_since_lowest_loss([{"val_loss": loss} for loss in (3, 1, 2, 1)]) == 2


def test_a_run_is_neither_overwritten_nor_continued_with_another_configuration(run: Path, flair_tree: Path):
    before = (run / "last.pt").read_bytes()
    refused = command("--data", flair_tree, "--config", "utt_best", "--output", run)
    assert refused.returncode == 2
    assert "holds a run already; continue it with --resume" in refused.stderr
    assert "Traceback" not in refused.stderr
    with pytest.raises(UsageError, match=r"another configuration: learning_rate \(then 0.001, now 0.5\)"):
        train(small(*ADAMW, "learning_rate=0.5", "workers=1"), flair_tree, run, resume=True)
    assert (run / "last.pt").read_bytes() == before


def test_a_damaged_state_is_named(flair_tree: Path, tmp_path: Path):
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(DataError, match=r"last\.pt: cannot be read"):
        train(small(), flair_tree, tmp_path, resume=True)


def test_pretrained_weights_without_network_are_explained(flair_tree: Path, tmp_path: Path):
    overrides = ("encoder=resnet18", *SMALL[2:])
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = command(
        "--data", flair_tree, "--config", "utt_best", "--output", tmp_path / "run", *overrides, **offline
    )
    assert done.returncode == 2
    assert "use encoder_weights=null" in done.stderr
    assert "Traceback" not in done.stderr


def test_impossible_wishes_are_refused(flair_tree: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="encoder=resnet35"):
        train(small("encoder=resnet35"), flair_tree, tmp_path / "a")
    with pytest.raises(UsageError, match="the loss is no longer finite"):
        train(small("learning_rate=1e30"), flair_tree, tmp_path / "b")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device=cuda: no GPU"):
            train(small("device=cuda"), flair_tree, tmp_path / "c")


def test_augmented_samples_keep_image_labels_and_series_together(flair_tree: Path):
    patches = index_patches(flair_tree, "train", labels=True)
    config = small("batch_size=1", "effective_batch_size=1")
    plain = {image_key(batch.inputs[0]): batch for batch in make_loader(patches, config)}
    turned = 0
    for epoch in range(3):
        for batch in make_loader(patches, config, epoch):
            aerial, series, *_ = batch.inputs
            original = plain[image_key(aerial)]
            moved = [place for place in TURNS if torch.equal(turn(original.inputs[0], place), aerial)]
            assert len(moved) == 1
            assert torch.equal(turn(original.labels, moved[0]), batch.labels)
            assert torch.equal(turn(original.inputs[1], moved[0]), series)
            turned += moved[0] != (False, 0)
    assert turned > 5


TURNS = [(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]


def turn(raster: torch.Tensor, place: tuple[bool, int]) -> torch.Tensor:
    mirrored, quarters = place
    return torch.rot90(raster.flip(-1) if mirrored else raster, quarters, (-2, -1))


def image_key(aerial: torch.Tensor) -> int:
    return int(aerial.long().sum())


def test_samples_are_what_the_files_hold(flair_tree: Path):
    patches = index_patches(flair_tree, "val", labels=True)
    plain = ("cloud_filter=false", "monthly_average=false")
    batch = next(iter(make_loader(patches, small("batch_size=4", "effective_batch_size=4", *plain))))
    aerial, series, days, present = batch.inputs
    window = read_superpatch(patches[2], 16)
    assert np.array_equal(aerial[1].numpy(), read_image(patches[1]))
    assert np.array_equal(batch.labels[3].numpy(), FLAIR_12.index_of[read_labels(patches[3])])
    np.testing.assert_allclose(series[2].numpy(), window.data / 10_000, rtol=1e-6)
    assert np.array_equal(days[2].numpy(), window.dates - int(window.dates[0]) + 19)  # from 20 January on
    assert present.all()
