import csv
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score
from torch.utils._python_dispatch import TorchDispatchMode

from flair_baseline.checkpoint import read_provenance
from flair_baseline.config import Config, describe_keys, load_config, model_options, to_dict
from flair_baseline.machines.failures import explained_failures
from flair_baseline.machines.interruption import command_that_goes_on
from flair_baseline.machines.machine import be_deterministic
from flair_baseline.model.metadata import encode_metadata
from flair_baseline.model.utt import UTT
from flair_baseline.packaging import pack_checkpoint
from flair_baseline.samples import loader
from flair_baseline.samples.band_statistics import measure_series, standardise_series
from flair_baseline.samples.loader import index_training_patches, make_loader
from flair_baseline.training import class_balance, learner, loop, validation
from flair_baseline.training.history import best_row, draw_curves, epochs_since_lowest_loss, write_table
from flair_baseline.training.learner import make_learner
from flair_baseline.training.loop import take_step, train
from flair_baseline.training.losses import class_weights
from flair_baseline.training.run_folder import find_state
from flair_ingestion.dataset import index_patches, read_image, read_labels, read_superpatch
from flair_scoring.base.errors import DataError, UsageError, run_command
from flair_scoring.nomenclature import FLAIR_12
from programs import run_here

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
SINGLE = ("batch_size=1", "effective_batch_size=1")
ADAMW = ["optimizer=adamw", "schedule=one_cycle"]


EVERYTHING = [
    *("optimizer=adamw", "schedule=cosine", "warmup_steps=1", "clip_gradients=0.5", "precision=fp16"),
    *("loss={cross_entropy: 1, dice: 0.5}", "label_smoothing=0.1", "ema=0.9"),
    *("class_weights=balanced", "modality_dropout=0.5"),
]


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


def main(*arguments: object) -> None:
    """train.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAIN.parent)
        patch.setattr(sys, "argv", [str(TRAIN), *map(str, arguments)])
        importlib.import_module("train").main()


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
    names = {path.name for path in run.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == (importlib.util.find_spec("tensorboard") is not None)
    assert names - events == {*("model.safetensors", "model.json", "last.pt", "log.csv", "curves.png")}
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


def test_the_log_holds_every_digit_and_leaves_nan_empty(tmp_path: Path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2, "iou": math.nan}, {"epoch": 2, "loss": 1e-7, "iou": 1 / 3}]
    write_table(tmp_path / "log.csv", rows)
    lines = ["epoch,loss,iou", f"1,{0.1 + 0.2!r},", f"2,{1e-7!r},{1 / 3!r}"]
    assert (tmp_path / "log.csv").read_bytes() == "".join(f"{line}\n" for line in lines).encode()


def test_drawing_curves_chooses_no_window_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("matplotlib.use", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    keys = ("epoch", "train_loss", "val_loss", "val_miou", *FLAIR_12.keys)
    draw_curves(tmp_path / "curves.png", [dict.fromkeys(keys, 0.5)])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


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
    ("recipe", "seconds_of_float16"),
    [
        pytest.param(EVERYTHING, False, id="everything"),
        # on a CPU float16 takes ten times as long as float32
        pytest.param(EVERYTHING, True, id="float16", marks=pytest.mark.long),
        pytest.param(ADAMW, False, id="one_cycle", marks=pytest.mark.long),
        pytest.param(["optimizer=sgd", "schedule=plateau"], False, id="plateau", marks=pytest.mark.long),
    ],
)
def test_an_interrupted_run_resumes_bit_for_bit(
    recipe, seconds_of_float16, flair_tree, tmp_path, monkeypatch
):
    config = small(*recipe)
    if config.precision == "fp16" and not seconds_of_float16:
        for module in (loop, validation):
            monkeypatch.setattr(module, "autocast", lambda *_: nullcontext())
        # a scale that each step doubles
        monkeypatch.setattr(learner, "GradScaler", partial(torch.amp.GradScaler, growth_interval=1))
    train(config, flair_tree, tmp_path / "whole")
    with monkeypatch.context() as patch:
        calls = iter([loop.validate])  # the second epoch finds none
        patch.setattr(loop, "validate", lambda *arguments: next(calls)(*arguments))
        with pytest.raises(StopIteration):
            train(config, flair_tree, tmp_path / "parts")
    assert len(read_log(tmp_path / "parts")) == 1
    train(config, flair_tree, tmp_path / "parts", resume=True)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    whole, parts = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    for tensors in ("model", "average"):
        assert whole.get(tensors, {}).keys() == parts.get(tensors, {}).keys()
        assert all(torch.equal(value, parts[tensors][name]) for name, value in whole.get(tensors, {}).items())
    for numbers in ("scheduler", "scaler", "class_weights"):
        assert whole.get(numbers) == parts.get(numbers)
    assert ("average" in whole) == ("scaler" in whole) == (recipe is EVERYTHING)
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()


class Operations(TorchDispatchMode):
    """Names of the operations that run inside, with the reduction of those that are losses of images."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        self.seen.add(f"{name} {args[3]}" if name == "nll_loss2d_forward" else name)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_deterministic_step_leaves_out_what_cuda_cannot_repeat(deterministic, flair_tree: Path):
    config = small("aerial_pooling=1")
    learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
    batches = list(make_loader(index_training_patches(flair_tree, config)[0][:2], config))
    be_deterministic(deterministic)
    try:
        with Operations() as operations:
            take_step(learner, batches, class_weights(config))
    finally:
        be_deterministic(False)
    assert "nll_loss2d_forward 0" in operations.seen  # no reduction
    assert not {"nll_loss2d_forward 1", "nll_loss2d_forward 2"} & operations.seen
    assert ("reflection_pad2d_backward" in operations.seen) != deterministic


def test_a_deterministic_run_is_one_from_its_start_on(flair_tree: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen = []

    def begin(name: str) -> torch.device:
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        return torch.device("cpu")

    monkeypatch.setattr(loop, "choose_device", begin)
    for name, value in (("repeatable", "true"), ("other", "false")):
        train(small("epochs=1", f"deterministic={value}"), flair_tree, tmp_path / name)
    assert seen[0] == (True, ":4096:8")
    assert not seen[1][0]
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


@pytest.mark.long
def test_a_killed_run_resumes_bit_for_bit(flair_tree: Path, tmp_path: Path):
    options = [override for override in SMALL if override != "epochs=2"] + [
        "epochs=3",
        "modality_dropout=0.5",
    ]
    line = ["--data", flair_tree, "--config", "utt_all", *options, *ADAMW, "--output"]
    assert command(*line, tmp_path / "whole").returncode == 0
    first = [sys.executable, str(TRAIN), *map(str, line), str(tmp_path / "parts")]
    with subprocess.Popen(first, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "parts/last.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)  # into the second epoch
        process.kill()
    rows = torch.load(tmp_path / "parts/last.pt", weights_only=True)["rows"]
    assert 1 <= len(rows) < 3
    resumed = command(*line, tmp_path / "parts", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts")]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts")]
    for whole, parts in ([state["model"] for state in states], weights):
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    provenance = [read_provenance(tmp_path / name / "model.safetensors") for name in ("whole", "parts")]
    for one in provenance:
        del one["commit"]  # a commit may have been made while this test ran
    assert provenance[0] == provenance[1]


def test_accumulated_batches_make_the_step_of_one_large_batch(flair_tree: Path):
    patches = index_patches(flair_tree, "train", labels=True)[:4]
    weights = []
    for batch_size in (1, 4):
        config = small(f"batch_size={batch_size}", "optimizer=sgd", "learning_rate=0.1")
        learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
        learner.model.eval()  # neither batch statistics nor dropout, which depend on the batch by design
        take_step(learner, list(make_loader(patches, config)), class_weights(config))
        weights.append(flatten(learner.model))
    change = weights[1] - flatten(make_learner(config, torch.device("cpu"), steps_per_epoch=1).model)
    assert float((weights[0] - weights[1]).norm() / change.norm()) < 1e-4


def test_a_stalled_loss_lowers_the_rate_and_then_ends_the_run(flair_tree, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, *[2.5] * 100])
    ious = dict.fromkeys(FLAIR_12.keys, 0.5)
    monkeypatch.setattr(loop, "validate", lambda *_: ious | {"val_loss": next(losses), "val_miou": 0.5})
    train(small("epochs=100", "plateau_patience=1", "stopping_patience=4"), flair_tree, tmp_path / "run")
    rows = read_log(tmp_path / "run")
    assert len(rows) == 2 + 4
    assert [float(row["learning_rate"]) for row in rows] == [0.001] * 4 + [0.0005] * 2
    # Of equally good epochs the first is kept
    assert read_provenance(tmp_path / "run/model.safetensors")["epoch"] == 1


def test_epochs_are_counted_from_the_lowest_loss():
    assert epochs_since_lowest_loss([]) == 0
    assert epochs_since_lowest_loss([{"val_loss": loss} for loss in (3, 1, 2, 1)]) == 2


def test_a_run_is_neither_overwritten_nor_continued_with_another_configuration(run: Path, flair_tree: Path):
    before = (run / "last.pt").read_bytes()
    refused = run_here("train", "--data", flair_tree, "--config", "utt_best", "--output", run)
    assert refused.returncode == 2
    assert "holds a run already; continue it with --resume" in refused.stderr
    assert "Traceback" not in refused.stderr
    with pytest.raises(UsageError, match=r"another configuration: learning_rate \(then 0.001, now 0.5\)"):
        train(small(*ADAMW, "learning_rate=0.5", "workers=1"), flair_tree, run, resume=True)
    with pytest.raises(
        UsageError,
        match=r"epochs \(then 2, now 99\); a run cannot be lengthened or shortened with schedule=one_cycle",
    ):
        train(small(*ADAMW, "epochs=99"), flair_tree, run, resume=True)
    assert (run / "last.pt").read_bytes() == before


@pytest.fixture(scope="module")
def plateau_run(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs whose model is an average."""
    folder = tmp_path_factory.mktemp("plateau") / "run"
    train(small(*PLATEAU), flair_tree, folder)
    return folder


PLATEAU = ("satellite=false", "ema=0.8", "learning_rate=0.01", "class_weights=balanced")


def test_a_finished_run_goes_on_with_more_epochs_under_plateau(plateau_run, flair_tree, tmp_path):
    train(small(*PLATEAU, "epochs=1"), flair_tree, tmp_path / "run")
    train(small(*PLATEAU, "epochs=2"), flair_tree, tmp_path / "run", resume=True)
    assert read_log(tmp_path / "run") == read_log(plateau_run)
    ours, whole = (tmp_path / "run/model.safetensors", plateau_run / "model.safetensors")
    assert all(torch.equal(value, load_file(ours)[name]) for name, value in load_file(whole).items())
    with pytest.raises(UsageError, match="run: has 2 epochs already; give epochs=2 or more"):
        train(small(*PLATEAU, "epochs=1"), flair_tree, tmp_path / "run", resume=True)


def test_the_average_is_what_is_validated_kept_and_packed(plateau_run, flair_tree, capsys):
    state = torch.load(plateau_run / "last.pt", weights_only=True)
    average = {name[7:]: value for name, value in state["average"].items() if name.startswith("module.")}
    provenance = read_provenance(plateau_run / "model.safetensors")
    assert average.keys() == state["model"].keys()
    assert not all(torch.equal(average[name], state["model"][name]) for name in average)
    config = small(*PLATEAU)
    model = UTT(**model_options(config))
    model.load_state_dict(average)
    measured = class_balance.balance_classes(config, state["class_weights"])
    patches = index_patches(flair_tree, "val", labels=True, series=False)
    metrics = validation.validate(model, patches, measured)
    assert metrics["val_loss"] == pytest.approx(state["rows"][-1]["val_loss"], rel=1e-6)
    assert metrics["val_miou"] == pytest.approx(state["rows"][-1]["val_miou"], rel=1e-6)
    if provenance["epoch"] == 2:
        kept = load_file(plateau_run / "model.safetensors")
        assert all(torch.equal(kept[name], average[name]) for name in average)
    assert provenance["class_weights"] == state["class_weights"]
    assert provenance["config"] == to_dict(config)
    files = pack_checkpoint(plateau_run, 1)
    assert files["weights.safetensors"] == (plateau_run / "model.safetensors").read_bytes()


def test_a_run_that_has_lost_patience_says_how_it_goes_on(plateau_run, flair_tree, tmp_path, capsys):
    shutil.copytree(plateau_run, tmp_path / "run")
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    state["rows"][0]["val_loss"] = 0.0  # the second epoch is no better
    torch.save(state, tmp_path / "run/last.pt")
    longer = small(*PLATEAU, "epochs=3", "stopping_patience=1")
    train(longer, flair_tree, tmp_path / "run", resume=True)
    told = capsys.readouterr().err
    assert "note: the run has ended: no lower validation loss since epoch 1; a larger" in told
    assert "a larger stopping_patience than 1 lets it go on" in told
    assert len(torch.load(tmp_path / "run/last.pt", weights_only=True)["rows"]) == 2
    train(small(*PLATEAU, "epochs=3", "stopping_patience=9"), flair_tree, tmp_path / "run", resume=True)
    assert len(read_log(tmp_path / "run")) == 3


def test_a_state_of_an_earlier_version_had_the_defaults(plateau_run, tmp_path):
    shutil.copytree(plateau_run, tmp_path / "run")
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    for key in ("loss", "warmup_steps", "clip_gradients"):
        del state["config"][key]
    torch.save(state, tmp_path / "run/last.pt")
    assert find_state(tmp_path / "run", small(*PLATEAU), resume=True) is not None
    with pytest.raises(UsageError, match=r"clip_gradients \(then 0.0, now 1.0\); give the same again"):
        find_state(tmp_path / "run", small(*PLATEAU, "clip_gradients=1"), resume=True)


def test_a_step_that_overflows_changes_nothing_and_is_counted(flair_tree: Path):
    config = small("precision=fp16", "satellite=false", "ema=0.5", "schedule=one_cycle")
    one = make_learner(config, torch.device("cpu"), steps_per_epoch=4)
    batch = next(iter(make_loader(index_training_patches(flair_tree, config)[0], config)))
    before, rate = flatten(one.model), one.learning_rate
    overflow = next(one.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    sums, _ = take_step(one, [batch], class_weights(config), "fp32")
    overflow.remove()
    assert math.isfinite(float(sums.sum()))
    assert torch.equal(flatten(one.model), before)
    assert (one.skipped_steps, one.scaler.get_scale()) == (1, 2.0**15)
    assert one.kept_model is one.model  # no step has been averaged yet
    assert one.learning_rate > rate  # the schedule goes on
    take_step(one, [batch], class_weights(config), "fp32")
    assert one.skipped_steps == 1
    assert not torch.equal(flatten(one.model), before)
    assert torch.equal(flatten(one.kept_model), flatten(one.model))
    loop.require_scale(one, "epoch 1/2")
    one.scaler = torch.amp.GradScaler("cpu", init_scale=0.5)
    with pytest.raises(UsageError, match="epoch 1/2: gradients overflow precision=fp16 in step after step"):
        loop.require_scale(one, "epoch 1/2")


def test_a_clipped_step_is_as_long_as_allowed(flair_tree: Path):
    lengths = []
    for limit in (0, 0.01, 1e6):
        config = small(f"clip_gradients={limit}", "satellite=false", "optimizer=sgd", "learning_rate=1")
        one = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
        batch = next(iter(make_loader(index_training_patches(flair_tree, config)[0], config)))
        before = flatten(one.model)
        take_step(one, [batch], class_weights(config))
        lengths.append(float((flatten(one.model) - before).norm()))
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)
    assert lengths[0] == lengths[2] > 0.02


def test_a_first_epoch_without_room_for_its_state_can_begin_again(flair_tree, tmp_path, monkeypatch):
    config = small("epochs=1", "satellite=false")

    def fail(*_):
        raise UsageError("last.pt: cannot be written (No space left on device); make room")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", fail)
        with pytest.raises(UsageError, match="No space left"):
            train(config, flair_tree, tmp_path / "run")
    assert not list(tmp_path.glob("run/[!e]*"))  # but an event file, where TensorBoard is there
    train(config, flair_tree, tmp_path / "run")
    with monkeypatch.context() as patch:  # a later epoch keeps those before
        patch.setattr(loop, "save_state", fail)
        with pytest.raises(UsageError, match="No space left"):
            train(small("epochs=2", "satellite=false"), flair_tree, tmp_path / "run", resume=True)
    train(small("epochs=2", "satellite=false"), flair_tree, tmp_path / "run", resume=True)
    assert len(read_log(tmp_path / "run")) == 2


def keep_patches(count: int, patch: pytest.MonkeyPatch) -> None:
    """Let a run find so many training patches."""
    index = loop.index_training_patches

    def find(data: Path, config: Config):
        training, held_out = index(data, config)
        return training[:count], held_out

    patch.setattr(loop, "index_training_patches", find)


def test_a_single_patch_is_refused_where_batch_norm_needs_two(flair_tree: Path, tmp_path: Path, monkeypatch):
    keep_patches(1, monkeypatch)
    pyramid = ("decoder=upernet", "satellite=false", "epochs=1")
    with pytest.raises(UsageError, match="a single value per channel; train on 2 patches or more"):
        train(small(*pyramid), flair_tree, tmp_path / "run")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "plateau"])
def test_a_run_that_goes_on_with_other_patches_says_so_and_ends(
    schedule: str, flair_tree: Path, tmp_path: Path, monkeypatch, capsys
):
    config = small("satellite=false", f"schedule={schedule}", "effective_batch_size=2")
    with monkeypatch.context() as patch:
        keep_patches(2, patch)
        calls = iter([loop.validate])  # the second epoch finds none
        patch.setattr(loop, "validate", lambda *arguments: next(calls)(*arguments))
        with pytest.raises(StopIteration):
            train(config, flair_tree, tmp_path / "run")
    capsys.readouterr()
    train(config, flair_tree, tmp_path / "run", resume=True)
    told = "note: the finished epochs had 1 steps each, and now an epoch has 3: there are other training"
    assert (told in capsys.readouterr().err) == (schedule != "plateau")
    assert len(read_log(tmp_path / "run")) == 2


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("names", [["model.safetensors", "model.json"], ["curves.png", "log.csv"]])
def test_what_is_left_of_a_run_without_its_state_is_not_overwritten(run, flair_tree, tmp_path, names, resume):
    for name in names:
        shutil.copy(run / name, tmp_path)
    with pytest.raises(UsageError, match=rf"holds .*{names[0]}.* but no last.pt, so it cannot be continued"):
        train(small(*ADAMW), flair_tree, tmp_path, resume=resume)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: (run / name).read_bytes() for name in names
    }


def test_a_run_says_where_it_begins_and_writes_a_line_per_epoch(flair_tree: Path, tmp_path: Path, capsys):
    config = small("epochs=1", "satellite=false")
    train(config, flair_tree, tmp_path / "run", resume=True)
    told = without_note(capsys.readouterr().err)
    assert told.startswith(f"{tmp_path}/run: a new run begins\nepoch 1: loss ")
    assert told.count("\n") == 2
    assert "\r" not in told
    train(config, flair_tree, tmp_path / "run", resume=True)
    assert without_note(capsys.readouterr().err) == f"{tmp_path}/run: continues after epoch 1 of 1\n"


def without_note(told: str) -> str:
    """What a run has told, without the note that stands there where TensorBoard is missing."""
    return "".join(line for line in told.splitlines(True) if not line.startswith("note: TensorBoard"))


def test_two_runs_do_not_share_a_folder(flair_tree: Path, tmp_path: Path, monkeypatch):
    config = small("epochs=1", "satellite=false")

    def begin_another(*arguments):
        for resume in (False, True):
            with pytest.raises(
                UsageError, match="run: another process trains there; choose another --output"
            ):
                train(config, flair_tree, tmp_path / "run", resume)
        return validate(*arguments)

    validate = loop.validate
    monkeypatch.setattr(loop, "validate", begin_another)
    train(config, flair_tree, tmp_path / "run")
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {name for name in written if not name.startswith("events.out.tfevents.")} == {
        *("model.safetensors", "model.json", "last.pt", "log.csv", "curves.png")
    }


def test_a_run_that_fails_before_it_writes_leaves_no_folder(flair_tree: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(small("satellite=false"), flair_tree, tmp_path / "runs/mine")
    assert os.listdir(tmp_path) == []
    (tmp_path / "runs").mkdir()
    with pytest.raises(ZeroDivisionError):
        train(small("satellite=false"), flair_tree, tmp_path / "runs/mine")
    assert os.listdir(tmp_path) == ["runs"]


def test_a_signal_waits_until_an_epoch_is_saved(flair_tree: Path, tmp_path: Path, monkeypatch):
    def save_interrupted(*arguments):
        save_model(*arguments)
        signal.raise_signal(signal.SIGINT)

    save_model = loop.save_model
    monkeypatch.setattr(loop, "save_model", save_interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it for us
    try:
        with pytest.raises(KeyboardInterrupt):
            train(small("satellite=false"), flair_tree, tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(torch.load(tmp_path / "run/last.pt", weights_only=True)["rows"]) == 1


def test_a_last_step_that_ruins_the_weights_is_not_saved(flair_tree: Path, tmp_path: Path):
    """The only loss of the epoch is computed before the step."""
    config = small("learning_rate=1e30", "batch_size=6", "effective_batch_size=6", "satellite=false")
    with pytest.raises(UsageError, match="epoch 1/2: the validation loss is no longer finite"):
        train(config, flair_tree, tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_after_a_loss_that_is_no_number_the_epoch_before_is_resumable(flair_tree, tmp_path, monkeypatch):
    config = small("satellite=false", "schedule=plateau")
    train(config, flair_tree, tmp_path / "whole")
    validate, losses = loop.validate, iter([0.0, math.nan, 0.0])
    monkeypatch.setattr(
        loop, "validate", lambda *arguments: add(validate(*arguments), "val_loss", next(losses))
    )
    with pytest.raises(
        UsageError, match="epoch 2/2: the validation loss is no longer finite, and nothing of"
    ):
        train(config, flair_tree, tmp_path / "run")
    assert len(read_log(tmp_path / "run")) == 1
    train(config, flair_tree, tmp_path / "run", resume=True)
    assert read_log(tmp_path / "run") == read_log(tmp_path / "whole")


def add(row: dict[str, float], key: str, value: float) -> dict[str, float]:
    return row | {key: row[key] + value}


def test_an_undefined_miou_is_never_the_best():
    rows = [{"val_miou": miou} for miou in (math.nan, 0.1, math.nan, 0.2, 0.2)]
    assert best_row(rows) is rows[3]
    assert best_row(rows[:1]) is rows[0]


def test_a_damaged_state_is_named(run: Path, flair_tree: Path, tmp_path: Path):
    whole = (run / "last.pt").read_bytes()
    lacking = torch.load(run / "last.pt")
    lacking["model"].popitem()
    damaged = (b"", b"text", b"PK\x03\x04 half a file", whole[: len(whole) // 2], [1], {"schema": 1})
    for content in (*damaged, lacking | {"config": 3}, lacking):
        if isinstance(content, bytes):
            (tmp_path / "last.pt").write_bytes(content)
        else:
            torch.save(content, tmp_path / "last.pt")
        with pytest.raises(DataError) as refusal:
            train(small(*ADAMW), flair_tree, tmp_path, resume=True)
        fault = "does not fit the network" if content is lacking else "cannot be read (it is damaged"
        assert f"{tmp_path}/last.pt: {fault}" in str(refusal.value)
        assert str(refusal.value).endswith("another --output")
        assert "\n" not in str(refusal.value)
    assert os.listdir(tmp_path) == ["last.pt"]


def test_damage_that_a_reading_process_meets_is_told_without_its_traceback(flair_tree: Path, tmp_path: Path):
    data = Path(shutil.copytree(flair_tree, tmp_path / "data"))
    for path in data.glob("flair_labels_train/*/*/msk/*.tif"):
        path.write_bytes(b"x")
    with pytest.raises(DataError) as refusal, explained_failures():
        train(small("satellite=false", "workers=2"), data, tmp_path / "run")
    message = str(refusal.value)
    assert message.startswith(f"{data}/flair_labels_train/D00")
    assert message.endswith("has 1 byte, too few for a TIFF file; write it again")
    assert "\n" not in message


def test_a_reading_process_that_is_killed_is_explained(flair_tree: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loader, "read_labels", lambda patch: os._exit(1))
    with (
        pytest.raises(UsageError, match=r"was killed: memory.* ran out; lower workers"),
        explained_failures(),
    ):
        train(small("satellite=false", "workers=1"), flair_tree, tmp_path / "run")


def test_other_failures_of_torch_are_explained_or_left_alone():
    with pytest.raises(UsageError, match="the GPU's memory ran out; lower batch_size"), explained_failures():
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(UsageError, match="memory ran out; lower batch_size"), explained_failures():
        torch.empty(2**59)
    be_deterministic(True)
    try:
        pixels, places = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.long)
        told = "no deterministic algorithm here for max_unpool"
        with pytest.raises(UsageError, match=told), explained_failures():
            torch.nn.functional.max_unpool2d(pixels, places, 2)
    finally:
        be_deterministic(False)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), explained_failures():
        torch.ones(2, 3) @ torch.ones(2, 3)
    with pytest.raises(DataError, match="as it is"), explained_failures():
        raise DataError("as it is")


@pytest.mark.long
def test_pretrained_weights_without_network_are_explained(flair_tree: Path, tmp_path: Path):
    overrides = ("encoder=resnet18", *SMALL[2:])
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = command(
        "--data", flair_tree, "--config", "utt_best", "--output", tmp_path / "run", *overrides, **offline
    )
    assert done.returncode == 2
    assert "use encoder_weights=null" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_the_keys_of_a_configuration(capsys):
    with pytest.raises(SystemExit, match="0"):
        main("--help")
    assert describe_keys() in capsys.readouterr().out


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_command_tells_the_one_that_goes_on(flair_tree, tmp_path, monkeypatch, capsys, stop):
    def interrupt(*_):
        raise stop

    monkeypatch.setattr(loop, "run_epoch", interrupt)
    monkeypatch.setattr(sys, "orig_argv", ["python", "starting_kit/train.py", "--data", "my data"])
    line = ["--data", flair_tree, "--config", "utt_best", "--output", tmp_path / "run", *SMALL]
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main(*line))
    assert end.value.code == (130 if isinstance(stop, KeyboardInterrupt) else 143)
    command = "python starting_kit/train.py --data 'my data' --resume"
    assert f"finished epochs are kept; this command goes on: {command}\n" in capsys.readouterr().err
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setattr(sys, "orig_argv", ["python", "starting_kit/train.py", "--resume"])
    assert command_that_goes_on("--resume") == "the same torchrun command with --resume"
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert command_that_goes_on("--resume") == "python starting_kit/train.py --resume"


def test_impossible_wishes_are_refused(flair_tree: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"encoder=resnet35: no such encoder; the nearest are .*resnet34"):
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
            moved = [one for one in TURNS if torch.equal(turn(original.inputs[0], one), aerial)]
            assert len(moved) == 1
            assert torch.equal(turn(original.labels, moved[0]), batch.labels)
            assert torch.equal(turn(original.inputs[1], moved[0]), series)
            turned += moved[0] != (False, 0)
    assert turned > 5


TURNS = [(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]


def turn(raster: torch.Tensor, moved: tuple[bool, int]) -> torch.Tensor:
    mirrored, quarters = moved
    return torch.rot90(raster.flip(-1) if mirrored else raster, quarters, (-2, -1))


def image_key(aerial: torch.Tensor) -> int:
    return int(aerial.long().sum())


def test_modality_dropout_trains_the_aerial_branch_alone(flair_tree: Path):
    config = small("optimizer=sgd", "learning_rate=0.1")
    batch = next(iter(make_loader(index_patches(flair_tree, "train", labels=True), config)))
    learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
    for parameter in learner.model.fusion.parameters():  # zeros would fuse nothing anyway
        torch.nn.init.normal_(parameter, std=0.1)
    learner.model.eval()
    branch = ("utae.", "fusion.")
    before = {name: value.detach().clone() for name, value in learner.model.named_parameters()}
    sums, totals = take_step(learner, [batch], class_weights(config), drop_satellite=True)
    alone = small("optimizer=sgd", "learning_rate=0.1", "satellite=false")
    unet = make_learner(alone, torch.device("cpu"), steps_per_epoch=1)
    unet.model.unet.load_state_dict(
        {name[5:]: value for name, value in before.items() if name.startswith("unet.")}, strict=False
    )
    unet.model.eval()
    expected, _ = take_step(unet, [batch._replace(inputs=batch.inputs[:1])], class_weights(alone))
    assert sums.tolist() == pytest.approx([float(expected[0]), 0])
    assert totals[1] == 0
    for name, value in learner.model.named_parameters():
        if name.startswith(branch):
            assert torch.equal(value, before[name])
    torch.testing.assert_close(flatten(learner.model.unet), flatten(unet.model.unet))
    take_step(learner, [batch], class_weights(config))
    assert not torch.equal(learner.model.utae.in_conv[0].weight, before["utae.in_conv.0.weight"])


def test_half_of_the_steps_drop_the_branch_at_a_rate_of_one_half(flair_tree, monkeypatch):
    dropped = []

    def fake_step(learner, batches, weights, precision, drop):
        dropped.append(drop)
        return torch.ones(2), torch.ones(2)

    monkeypatch.setattr(loop, "take_step", fake_step)
    config = small("modality_dropout=0.5", "effective_batch_size=2")
    learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
    for _ in range(2):  # the same epoch twice
        loop.train_epoch(learner, [None] * 400, config)
    assert dropped[:400] == dropped[400:]
    assert 160 < sum(dropped[:400]) < 240


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_changes_the_numbers_but_little(precision, flair_tree: Path):
    config = small(f"precision={precision}")
    batch = next(iter(make_loader(index_patches(flair_tree, "train", labels=True), config)))
    losses = []
    for kind in ("fp32", precision):
        learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
        losses.append(take_step(learner, [batch], class_weights(config), kind)[0])
        assert all(value.dtype == torch.float32 for value in learner.model.parameters())
        assert next(iter(learner.model.parameters())).grad.dtype == torch.float32
    assert torch.equal(losses[0], losses[1]) == (precision == "fp32")
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0)


@pytest.mark.parametrize(("channels", "count"), [("RVB", 3), ("RVBI", 4), ("RVBIE", 5)])
def test_a_channel_subset_never_sees_the_others(channels, count, flair_tree: Path):
    config = small(f"channels={channels}", "satellite=false")
    model = make_learner(config, torch.device("cpu"), steps_per_epoch=1).model.eval()
    batch = next(iter(make_loader(index_patches(flair_tree, "train", labels=True), config)))
    with torch.inference_mode():
        logits, _ = model(*batch.inputs)
        for band in range(5):
            aerial = batch.inputs[0].clone()
            aerial[:, band] = 255 - aerial[:, band]
            assert torch.equal(model(aerial)[0], logits) == (band >= count)


def test_both_published_validation_splits(flair_tree: Path, tmp_path: Path):
    shutil.copytree(flair_tree, tmp_path / "data")
    renamed = {"D029_2021": "D077_2021", "D008_2019": "D070_2020"}
    for old, new in renamed.items():
        for folder in (tmp_path / "data").glob(f"flair_*_train/{old}"):
            folder.rename(folder.with_name(new))
        for file in (tmp_path / "data").glob(f"flair_*_train/{new}/**/*{old}*"):
            file.rename(file.with_name(file.name.replace(old, new)))
    found = {}
    for name in ("data_card", "flair_1"):
        split = index_training_patches(tmp_path / "data", small(f"validation={name}"))
        found[name] = [{patch.domain for patch in patches} for patches in split]
        assert [[patch.id for patch in patches] for patches in split] == [
            sorted(patch.id for patch in patches) for patches in split
        ]
    assert found["data_card"] == [
        {"D006_2020", "D007_2020", "D070_2020"},
        {"D004_2021", "D014_2020", "D077_2021"},
    ]
    assert found["flair_1"] == [
        {"D006_2020", "D007_2020", "D077_2021"},
        {"D004_2021", "D014_2020", "D070_2020"},
    ]
    plain = index_training_patches(flair_tree, small("validation=flair_1"))
    assert plain == index_training_patches(flair_tree, small())


def test_problems_of_both_splits_come_together(flair_tree: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(flair_tree, data)
    (data / "flair_aerial_metadata.json").unlink()
    lost = [
        next((data / f"flair_labels_train/{domain}").rglob("*.tif")) for domain in ("D006_2020", "D004_2021")
    ]
    for path in lost:
        path.unlink()
    with pytest.raises(DataError) as caught:
        index_training_patches(data, small("metadata=true"))
    assert all(f"no {path.name}" in str(caught.value) for path in lost)
    assert str(caught.value).count("flair_aerial_metadata.json") == 1


def test_metadata_reach_the_model(flair_tree: Path):
    patches = index_patches(flair_tree, "val", labels=True)
    for satellite in ("true", "false"):
        config = small("metadata=true", f"satellite={satellite}")
        batch = next(iter(make_loader(patches, config)))
        expected = torch.stack([encode_metadata(patch.metadata) for patch in patches[:2]])
        assert torch.equal(batch.inputs[4], expected)
        assert (batch.inputs[1] is None) == (satellite == "false")


def test_a_new_model_begins_as_if_series_were_standardised(flair_tree: Path):
    config = small("epochs=1")
    patches = index_patches(flair_tree, "train", labels=True)
    means, stds = measure_series(patches, config)
    series = [batch.inputs[1].numpy() for batch in make_loader(patches, small(*SINGLE))]
    bands = np.concatenate([one.transpose(2, 0, 1, 3, 4).reshape(10, -1) for one in series], axis=1)
    np.testing.assert_allclose(means, bands.mean(axis=1, dtype=float), rtol=1e-5)
    np.testing.assert_allclose(stds, bands.std(axis=1, dtype=float, ddof=1), rtol=1e-5)

    plain, ready = (make_learner(config, torch.device("cpu"), 1).model.utae.eval() for _ in range(2))
    standardise_series(ready, means, stds)
    batch = next(iter(make_loader(patches, config)))
    _, raw, days, padding_mask = batch.inputs
    standardised = (raw - means[:, None, None]) / stds[:, None, None]
    with torch.inference_mode():
        expected, found = plain(standardised, days, padding_mask), ready(raw, days, padding_mask)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(plain(raw, days, padding_mask), expected, rtol=1e-2, atol=1e-2)


def test_permuted_dates_keep_the_images_and_lose_their_order(flair_tree: Path):
    patches = index_patches(flair_tree, "val", labels=True)
    raw = ("cloud_filter=false", "monthly_average=false")
    plain, permuted, again = (
        next(iter(make_loader(patches, small(*raw, f"permute_dates={value}"))))
        for value in ("false", "true", "true")
    )
    assert torch.equal(plain.inputs[1], permuted.inputs[1])
    assert torch.equal(plain.inputs[2].sort()[0], permuted.inputs[2].sort()[0])
    assert not torch.equal(plain.inputs[2], permuted.inputs[2])
    assert torch.equal(again.inputs[2], permuted.inputs[2])


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_are_what_the_files_hold(flair_tree: Path, workers: int):
    patches = index_patches(flair_tree, "val", labels=True)
    plain = ("cloud_filter=false", "monthly_average=false", f"workers={workers}")
    batch = next(iter(make_loader(patches, small("batch_size=4", "effective_batch_size=4", *plain))))
    aerial, series, days, padding_mask = batch.inputs
    window = read_superpatch(patches[2], 16)
    for index, patch in enumerate(patches[:4]):
        assert np.array_equal(aerial[index].numpy(), read_image(patch))
        assert np.array_equal(batch.labels[index].numpy(), FLAIR_12.index_of[read_labels(patch)])
    np.testing.assert_allclose(series[2].numpy(), window.data / 10_000, rtol=1e-6)
    assert np.array_equal(days[2].numpy(), window.dates - int(window.dates[0]) + 19)  # from 20 January on
    assert padding_mask is None  # all series have five dates: nothing is padded


def test_a_window_without_any_data_is_a_damaged_file(flair_tree: Path, tmp_path: Path):
    tree = Path(shutil.copytree(flair_tree, tmp_path / "data"))
    patch = index_patches(tree, "train", labels=True)[0]
    series = np.load(patch.super_area.data)
    series[:, :, :100, :100] = 0
    np.save(patch.super_area.data, series)
    with pytest.raises(DataError, match=f"{patch.super_area.data}: no data .* around IMG_000001"):
        loader.PatchDataset([patch], small())[0]


@pytest.mark.parametrize(("name", "read"), [("unet", ()), ("unet_mtd", ("flair_aerial_metadata.json",))])
def test_what_the_configuration_does_not_read_is_not_asked_for(
    flair_tree: Path, tmp_path: Path, name: str, read: tuple[str, ...]
):
    tree = tmp_path / "data"
    tree.mkdir()
    for part in ("flair_aerial_train", "flair_labels_train", *read):
        (tree / part).symlink_to(flair_tree / part)
    config = load_config(name, [*SMALL, "epochs=1"])
    training, held_out = index_training_patches(tree, config)
    assert (len(training), len(held_out)) == (6, 6)
    sample = loader.PatchDataset(training, config)[0]
    whole = loader.PatchDataset(index_patches(flair_tree, "train", labels=True), config)[0]
    assert torch.equal(sample.aerial, whole.aerial)
    assert (sample.metadata is None) == (whole.metadata is None) == (name == "unet")
    with pytest.raises(DataError) as caught:
        index_training_patches(tree, small())
    for part in ("no folder flair_sen_train", "no file flair-2_centroids_sp_to_patch.json"):
        assert part in str(caught.value)


def test_a_metadata_json_that_nobody_reads_may_be_damaged(flair_tree: Path, tmp_path: Path):
    tree = Path(shutil.copytree(flair_tree, tmp_path / "data"))
    (tree / "flair_aerial_metadata.json").write_text("{")
    training, _ = index_training_patches(tree, load_config("utt", SMALL))
    assert len(training) == 6
    with pytest.raises(DataError, match=r"flair_aerial_metadata\.json: not a readable json file"):
        index_training_patches(tree, load_config("utt_mtd", SMALL))
