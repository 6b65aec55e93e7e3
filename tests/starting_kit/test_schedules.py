"""The learning rate of each step."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from flair_baseline.config import Config, load_config
from flair_baseline.training.schedules import finish_epoch, finish_step, make_schedule
from flair_scoring.base.errors import UsageError

STEPS = 12


def optimizer(rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def rates(config: Config, steps: int) -> list[float]:
    """The rate of each step of a run."""
    one = optimizer(config.learning_rate)
    schedule, found = make_schedule(config, one, steps // config.epochs), []
    for _ in range(steps):
        found.append(one.param_groups[0]["lr"])
        one.step()
        finish_step(schedule)
    return found


def test_cosine_is_torchs_from_the_rate_to_a_hundredth_of_it():
    config = Config(schedule="cosine", learning_rate=0.5, epochs=3)
    one = optimizer(0.5)
    reference = CosineAnnealingLR(one, T_max=STEPS - 1, eta_min=0.005)
    expected = []
    for _ in range(STEPS):
        expected.append(one.param_groups[0]["lr"])
        one.step()
        reference.step()
    assert rates(config, STEPS) == pytest.approx(expected, rel=1e-6)
    assert expected[-1] == pytest.approx(0.005)


def test_warm_up_rises_in_equal_parts_and_the_cosine_follows():
    config = Config(schedule="cosine", learning_rate=1.0, epochs=1, warmup_steps=4)
    found = rates(config, STEPS)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    expected = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 7)) / 2 for step in range(8)]
    assert found[4:] == pytest.approx(expected)
    assert rates(Config(schedule="cosine", epochs=1), 1) == [0.001]  # a run of one step


def test_warm_up_must_end_before_the_run():
    config = Config(schedule="cosine", epochs=2, warmup_steps=6)
    with pytest.raises(
        UsageError, match=r"warmup_steps=6: the run has 6 steps in all \(epochs=2, steps in each: 3\)"
    ):
        make_schedule(config, optimizer(1), steps_per_epoch=3)
    make_schedule(config, optimizer(1), steps_per_epoch=4)


def test_steps_after_the_end_of_one_cycle_keep_its_last_rate():
    """A run that is resumed on another number of ranks may have a step more in each epoch."""
    config = Config(schedule="one_cycle", epochs=1, learning_rate=1.0)
    one = optimizer(1.0)
    schedule = make_schedule(config, one, STEPS)
    for _ in range(STEPS + 3):
        one.step()
        finish_step(schedule)
    assert one.param_groups[0]["lr"] < 1e-4


def test_only_plateau_listens_to_the_validation_loss():
    for name, lower in (("plateau", True), ("cosine", False), ("one_cycle", False)):
        config = load_config("unet", [f"schedule={name}", "plateau_patience=0"])
        one = optimizer(0.1)
        schedule = make_schedule(config, one, steps_per_epoch=5)
        before = one.param_groups[0]["lr"]
        for loss in (1.0, 2.0):
            finish_epoch(schedule, loss)
        assert (one.param_groups[0]["lr"] < before) == lower
