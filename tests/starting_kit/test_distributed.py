"""Training on two ranks, which really are two processes that torchrun starts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flair_baseline.checkpoint import read_state
from flair_baseline.config import Config, load_config
from flair_baseline.machines.distributed import average_buffers, joined_ranks
from flair_baseline.samples.batches import (
    batches_per_epoch,
    batches_per_step,
    draw_batches,
    share_step,
    steps_per_epoch,
)
from flair_baseline.samples.loader import index_training_patches, make_loader
from flair_baseline.training.class_balance import balance_classes, measure_weights
from flair_baseline.training.learner import make_learner
from flair_baseline.training.loop import take_step, train_epoch
from flair_baseline.training.losses import class_weights
from flair_baseline.training.validation import validate
from flair_scoring.base.errors import UsageError

TRAIN = Path(__file__).parents[2] / "starting_kit" / "train.py"
SMALL = [
    *("encoder=tu-mobilenetv3_small_050", "encoder_weights=null", "decoder_channels=[8, 8, 8, 8, 8]"),
    *("aerial_pooling=4", "superpatch_size=16", "workers=0", "device=cpu", "metadata=true"),
    *("batch_size=1", "effective_batch_size=2", "learning_rate=0.01"),
]
PROBE = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from test_distributed import average_three_steps, begin_with_an_encoder, three_steps, validate_untrained
from flair_baseline.machines.distributed import copy_from_rank_0, joined_ranks, rank
torch.set_num_threads(1)
with joined_ranks():
    data, target = map(Path, sys.argv[2:])
    averages = average_three_steps(data)
    torch.manual_seed(rank())
    layers = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    layers[1].num_batches_tracked += rank()
    copy_from_rank_0(layers.to(memory_format=torch.channels_last))
    steps, found = three_steps(data), validate_untrained(data)
    encoder = begin_with_an_encoder(target / "encoder.pth")
    torch.save([*steps, averages, encoder, layers.state_dict(), found], target / f"{rank()}.pt")
"""


def small(*overrides: str) -> Config:
    return load_config("utt_all", [*SMALL, *overrides])


def torchrun(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*launcher, *map(str, command)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)


def flatten(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def three_steps(data: Path, batch_size: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """All weights after three steps, of which the second drops the satellite branch, and their loss sums.

    Batch norm is frozen and dropout off: they depend on how a step is cut into batches by design. The
    cross-entropy is smoothed and the gradients are clipped.
    """
    config = small(f"batch_size={batch_size}", "label_smoothing=0.1", "clip_gradients=0.5")
    learner = make_learner(config, torch.device("cpu"), steps_per_epoch=2)
    learner.model.eval()
    batches = list(make_loader(index_training_patches(data, config)[0], config, epoch=0))
    count, losses = batches_per_step(config), []
    for step in range(3):
        own = batches[step * count : (step + 1) * count]
        losses.append(torch.stack(take_step(learner, own, class_weights(config), "fp32", step == 1)))
    return flatten(learner.model), torch.stack(losses)


def average_three_steps(data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The moving average of three steps by cross-entropy and dice: its weights and its batch-norm statistics.

    Batch norm learns the statistics of each rank's own patches. The class weights are measured.
    """
    config = small("ema=0.5", "loss={cross_entropy: 1, dice: 1}", "class_weights=balanced")
    training = index_training_patches(data, config)[0]
    config = balance_classes(config, measure_weights(training, config))
    learner = make_learner(config, torch.device("cpu"), steps_per_epoch=3)
    train_epoch(learner, make_loader(training, config, epoch=0), config)
    average_buffers(learner.average)
    statistics = [buffer.flatten() for buffer in learner.kept_model.buffers() if buffer.is_floating_point()]
    return flatten(learner.kept_model), torch.cat([*statistics, class_weights(config).flatten()])


def begin_with_an_encoder(path: Path) -> dict[str, torch.Tensor]:
    """The encoder of a new run, whose weights and batch-norm statistics are in a file."""
    learner = make_learner(small(f"encoder_weights={path}"), torch.device("cpu"), steps_per_epoch=2)
    return dict(learner.model.unet.encoder.state_dict())


def validate_untrained(data: Path) -> dict[str, float]:
    """The validation of the weights before the first step, on an odd number of patches."""
    config = small()
    learner = make_learner(config, torch.device("cpu"), steps_per_epoch=2)
    return validate(learner.model, index_training_patches(data, config)[1][:5], config)


def test_two_ranks_and_accumulation_are_one_process(flair_tree: Path, tmp_path: Path):
    (tmp_path / "probe.py").write_text(PROBE)
    encoder = make_learner(small(), torch.device("cpu"), steps_per_epoch=2).model.unet.encoder.state_dict()
    given = {name: torch.full_like(tensor, 3) for name, tensor in encoder.items()}
    torch.save(given, tmp_path / "encoder.pth")
    done = torchrun(tmp_path / "probe.py", Path(__file__).parent, flair_tree, tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = flatten(make_learner(small(), torch.device("cpu"), steps_per_epoch=2).model)
    whole, losses = three_steps(flair_tree, batch_size=2)
    metrics = validate_untrained(flair_tree)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for weights, sums in (three_steps(flair_tree), *(rank[:2] for rank in ranks)):
        torch.testing.assert_close(sums, losses, rtol=1e-5, atol=1e-5)
        assert float((weights - whole).abs().max()) < 1e-5
        assert float((weights - whole).norm() / (whole - before).norm()) < 1e-4
    assert torch.equal(ranks[0][0], ranks[1][0])
    averages, alone = [rank[2] for rank in ranks], average_three_steps(flair_tree)
    for part in (0, 1):
        assert torch.equal(averages[0][part], averages[1][part])
    assert torch.equal(averages[0][1][-26:], alone[1][-26:])  # the class weights, as measured by one process
    torch.manual_seed(0)
    expected = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).state_dict()
    for *_, encoder, layers, found in ranks:
        assert all(torch.equal(encoder[name], tensor) for name, tensor in given.items())
        assert all(torch.equal(layers[name], tensor) for name, tensor in expected.items())
        assert found == pytest.approx(metrics, rel=1e-6, nan_ok=True)


@pytest.mark.long
def test_torchrun_trains_and_rank_0_writes(flair_tree: Path, tmp_path: Path):
    line = [TRAIN, "--data", flair_tree, "--config", "utt_best", *SMALL, "--output", "run", "epochs=1"]
    line.append("batch_size=2")  # the two patches of a step, of which each rank has one
    done = torchrun(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation mIoU") == done.stderr.count("validation mIoU") == 1
    assert len(read_state(tmp_path / "run")["rows"]) == 1
    assert torchrun(*line, "--resume", cwd=tmp_path).returncode == 0


def test_every_rank_holds_its_share_of_the_patches(flair_tree: Path, monkeypatch):
    config = small()
    training, _ = index_training_patches(flair_tree, config)
    steps = {}
    for world in (1, 2):
        monkeypatch.setattr("flair_baseline.samples.batches.world_size", lambda world=world: world)
        for rank in range(world):
            monkeypatch.setattr("flair_baseline.samples.batches.rank", lambda rank=rank: rank)
            steps[world, rank] = list(make_loader(training, config, epoch=3).batch_sampler)
    both = [batch for pair in zip(steps[2, 0], steps[2, 1], strict=True) for batch in pair]
    assert both == steps[1, 0]
    assert sorted(index for batch in both for index in batch) == list(range(len(training)))


@pytest.mark.parametrize(("step", "ranks", "batch"), [(4, 1, 4), (4, 2, 2), (4, 4, 1), (8, 2, 4), (4, 3, 4)])
def test_a_step_is_shared_by_all_ranks(monkeypatch, step: int, ranks: int, batch: int):
    monkeypatch.setattr("flair_baseline.samples.batches.world_size", lambda: ranks)
    config = small("batch_size=4", f"effective_batch_size={step}")
    assert share_step(config) == replace(config, batch_size=batch)


def test_ranks_that_cannot_share_a_step_are_refused(flair_tree: Path, monkeypatch):
    monkeypatch.setattr("flair_baseline.samples.batches.world_size", lambda: 4)
    with pytest.raises(
        UsageError, match="effective_batch_size=2 is no multiple of 4 ranks with batch_size=1"
    ):
        batches_per_step(small())
    training, _ = index_training_patches(flair_tree, small())
    monkeypatch.setattr("flair_baseline.samples.batches.world_size", lambda: 9)
    with pytest.raises(UsageError, match="too few for 9 ranks"):
        make_loader(training, small(), epoch=0)


@pytest.mark.parametrize(
    ("patches", "ranks", "batches", "steps"),
    [(6, 1, 3, 2), (7, 1, 3, 2), (8, 1, 4, 2), (1, 1, 1, 1), (9, 2, 2, 2), (15, 2, 3, 3)],
)
def test_full_batches_are_counted_and_drawn_once(monkeypatch, patches, ranks, batches, steps):
    """Batches of 2 patches, of which 2 make a step: one after the other on one rank, side by side on two."""
    config = small("batch_size=2", "effective_batch_size=4")
    monkeypatch.setattr("flair_baseline.samples.batches.world_size", lambda: ranks)
    assert batches_per_epoch(patches, config) == batches
    assert steps_per_epoch(patches, config) == steps
    drawn = []
    for rank in range(ranks):
        monkeypatch.setattr("flair_baseline.samples.batches.rank", lambda rank=rank: rank)
        drawn += draw_batches(patches, config, epoch=0)
    assert [len(batch) for batch in drawn] == [min(patches, 2)] * (batches * ranks)
    indices = [index for batch in drawn for index in batch]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(patches))


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UsageError, match="3 processes or more, but 2 GPUs"), joined_ranks():
        pass


def test_no_parameter_is_without_a_gradient(flair_tree: Path):
    """DistributedDataParallel without find_unused_parameters waits for all of them."""
    official = ("official_layers=true", "metadata_stages=deepest")
    for name, *layers in (
        ["unet"],
        ["unet_mtd"],
        ["utt"],
        ["utt_all"],
        ["utt", *official],
        ["utt_all", *official],
    ):
        config = load_config(name, [*SMALL[:-4], "batch_size=2", "effective_batch_size=2", *layers])
        for drop in (False, config.satellite):
            learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
            batch = next(iter(make_loader(index_training_patches(flair_tree, config)[0], config)))
            take_step(learner, [batch], class_weights(config), drop_satellite=drop)
            learning = [(key, one.grad) for key, one in learner.model.named_parameters() if one.requires_grad]
            assert [key for key, gradient in learning if gradient is None] == []
            assert bool(layers) == (len(learning) < len(list(learner.model.parameters())))
