"""Inputs that a GPU prepares are those that the processor prepares; test_cuda.py tries them on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flair_baseline.config import load_config
from flair_baseline.model import inference
from flair_baseline.model.inference import prepare_inputs
from flair_baseline.model.staging import LENGTHS, shorten, stage_inputs
from flair_baseline.packaging import pack_untrained, write_submission

CPU = torch.device("cpu")
WINDOW = 16
NETWORK = (
    *("encoder=resnet18", "encoder_weights=null", "decoder_channels=[16, 16, 16, 16, 16]"),
    *("aerial_pooling=4", f"superpatch_size={WINDOW}"),
)


def settings(**changes: Any) -> dict[str, Any]:
    model = {"satellite": True, "metadata": True, "official_layers": changes.pop("official", False)}
    usual = {"cloud_filter": True, "cloud_rule": "paper", "monthly_average": True}
    return {"model": model, "superpatch_size": WINDOW, **usual, **changes}


def draw_batch(lengths: list[int], window: int = WINDOW) -> dict[str, Any]:
    """Digital numbers up to the largest, cloudy dates, one date without data, and a leap day."""
    random = np.random.default_rng(7)
    batch: dict[str, Any] = {"sentinel": [], "sentinel_masks": [], "sentinel_dates": []}
    for length in lengths:
        data = random.integers(0, 1 << 16, (length, 10, window, window), dtype=np.uint16)
        masks = random.integers(0, 101, (length, 1, 1, 1), dtype=np.uint8)
        masks = np.broadcast_to(masks, (length, 2, window, window)).copy()
        masks[0] = 0
        data[length // 2] = 0
        dates = random.choice(np.arange(18262, 18628), length, replace=False).astype(np.int32)  # of 2020
        dates[0] = 18321  # 29 February
        arrays = zip(batch.values(), (data, masks, np.sort(dates)), strict=True)
        for kept, array in arrays:
            kept.append(torch.from_numpy(array))
    aerial = random.integers(0, 256, (len(lengths), 5, 512, 512), dtype=np.uint8)
    facts = {"date": "2020-06-15", "time": "11h30", "camera": "UCE-M3-f120-s06"}
    facts |= {"patch_centroid_x": 650000.0, "patch_centroid_y": 6650000.0, "patch_centroid_z": 150.0}
    return {"aerial": torch.from_numpy(aerial), "metadata": [facts] * len(lengths), **batch}


@pytest.mark.parametrize("lengths", [[40], [3, 70, 1], [20, 20]])
@pytest.mark.parametrize("monthly", [True, False])
@pytest.mark.parametrize("rule", ["paper", "official", None])
def test_a_gpu_prepares_what_the_processor_prepares(
    lengths: list[int], monthly: bool, rule: str | None
) -> None:
    """Bit for bit, also where the window of a request is larger than the network's."""
    filtered = {"cloud_filter": rule is not None, "cloud_rule": rule or "paper"}
    chosen = settings(monthly_average=monthly, official=rule == "official", **filtered)
    for window in (WINDOW, WINDOW + 4):
        batch = draw_batch(lengths, window)
        staged, expected = stage_inputs(batch, chosen, CPU), prepare_inputs(batch, chosen)
        assert staged.keys() == expected.keys()
        for name, tensor in expected.items():
            assert staged[name].dtype == tensor.dtype
            assert torch.equal(staged[name], tensor), name


def test_what_a_network_does_not_read_is_not_sent() -> None:
    aerial_only = settings()
    aerial_only["model"] = {"satellite": False, "metadata": False}
    assert stage_inputs(draw_batch([5]), aerial_only, CPU).keys() == {"aerial"}


@pytest.mark.parametrize(
    ("monthly", "dates", "padded"), [(True, 3, 12), (True, 70, 12), (False, 18, 24), (False, 200, 199)]
)
def test_series_of_fixed_length_begin_like_the_others(monthly: bool, dates: int, padded: int) -> None:
    chosen = settings(monthly_average=monthly, cloud_filter=False)
    batch = draw_batch([dates, dates])
    short = stage_inputs(batch, chosen, CPU)
    fixed = stage_inputs(batch, chosen, CPU, fixed_lengths=True)
    length = short["days"].shape[1]
    assert fixed["days"].shape[1] == padded
    for name in ("series", "days"):
        assert torch.equal(fixed[name][:, :length], short[name])
        assert not fixed[name][:, length:].any()
    assert not fixed["padding_mask"][:, :length].any()
    assert fixed["padding_mask"][:, length:].all()
    shorter = [inputs["series"].shape[1] for inputs in shorten(fixed)]
    assert shorter == ([size for size in LENGTHS if size < padded] if padded in LENGTHS else [])


@pytest.mark.parametrize("row", ["utt_best", "utt_mtd"])
def test_labels_stay_the_same(row: str, tmp_path: Path) -> None:
    """A processor computes here what a GPU does with these switches; graphs change only how it is started."""
    write_submission(tmp_path / "new", pack_untrained(load_config(row, NETWORK), batch_size=2))
    model = inference.Model(tmp_path / "new", CPU)
    batch = draw_batch([30, 9])
    expected = model.predict(batch)
    assert len(expected.unique()) > 1
    model.staged = True
    assert torch.equal(model.predict(batch), expected)
    model.graphs = True
    assert model.network.utae is not None
    model.network.utae.skip_padding = False
    asked_for = []

    def label(**inputs: torch.Tensor) -> torch.Tensor:
        asked_for.append(inputs["series"].shape[1])
        return model._label(**inputs)

    model.label = label
    for _ in range(2):
        assert float((model.predict(batch) == expected).float().mean()) > 0.9999
    # a graph for each shorter length is captured with the first batch
    assert asked_for == ([12, 12] if row == "utt_best" else [8, 16, 24, 32, 32])


def test_graphs_of_all_lengths_are_captured_in_the_warm_up(tmp_path: Path) -> None:
    """The warm-up has a short, a middle and a long series, in this order; others follow on the clock."""
    write_submission(tmp_path / "new", pack_untrained(load_config("utt_mtd", NETWORK), batch_size=2))
    model = inference.Model(tmp_path / "new", CPU)
    model.graphs = True
    captured = set()

    def label(**inputs: torch.Tensor) -> torch.Tensor:
        captured.add((len(inputs["aerial"]), inputs["series"].shape[1]))
        return torch.zeros(len(inputs["aerial"]), 512, 512, dtype=torch.uint8)

    model.label = label
    for count in (2, 1):
        for longest in (20, 71, 110):
            model.predict(draw_batch([longest] * count))
    assert captured == {(count, length) for count in (1, 2) for length in LENGTHS}


def test_a_gpu_divides_by_tensors_only() -> None:
    """A GPU multiplies with the reciprocal of a Python number, whose last bit differs from a division's."""
    divisors = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "div" in str(function):
                divisors.append(args[1])
            return function(*args, **(kwargs or {}))

    with Watch():
        stage_inputs(draw_batch([20]), settings(), CPU)
    assert len(divisors) == 2
    assert all(isinstance(divisor, torch.Tensor) for divisor in divisors)


def test_a_processor_ignores_the_switches_of_a_gpu(tmp_path: Path) -> None:
    class Switched(inference.Model):
        staged = graphs = True

    write_submission(tmp_path / "new", pack_untrained(load_config("utt_best", NETWORK), batch_size=2))
    batch = draw_batch([30, 9])
    plain, switched = (kind(tmp_path / "new", CPU) for kind in (inference.Model, Switched))
    assert torch.equal(switched.predict(batch), plain.predict(batch))
