from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import ADAMW, read_log, small

from flair_baseline.samples import rarity
from flair_baseline.samples.batches import draw_batches
from flair_baseline.samples.loader import PatchDataset
from flair_baseline.samples.rarity import draw_probabilities
from flair_baseline.training import loop
from flair_baseline.training.loop import train
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import DataError, UsageError


def counts_of(*rows: dict[int, int]) -> torch.Tensor:
    counts = torch.zeros(len(rows), 13, dtype=torch.int32)
    for row, pixels in enumerate(rows):
        for index, count in pixels.items():
            counts[row, index] = count
    return counts


def test_the_probability_is_the_formula_worked_out_by_hand() -> None:
    # all of it: class 0 has 150 of 400 pixels, class 8 has 50, *other* has 200
    counts = counts_of({0: 100}, {0: 50, 8: 50}, {12: 100}, {12: 100})
    rarity = np.array([1 / 0.375, 0.5 / 0.375 + 0.5 / 0.125, 0, 0])
    for power in (1.0, 0.5):
        expected = rarity**power / (rarity**power).sum()
        assert draw_probabilities(counts, small(f"rare_classes={power}")) == pytest.approx(expected)


def test_the_example_of_the_docstring() -> None:
    """Half a patch of vineyard, where 0.3 % of all pixels are vineyard, all others are evenly spread."""
    others = dict.fromkeys((0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11), 1000)
    rows = [others] * 200
    rows[0] = {8: 5500} | dict.fromkeys(others, 500)
    counts = counts_of(*rows)
    counts[1:, 8] = round((0.003 * 200 * 11000 - 5500) / 199)
    half = draw_probabilities(counts, small("rare_classes=1"))
    assert 13 < half[0] * 200 < 16
    assert 3.5 < draw_probabilities(counts, small("rare_classes=0.5"))[0] * 200 < 4.5


def test_labels_of_nothing_but_other_are_refused() -> None:
    with pytest.raises(DataError, match=r"all labels of the training patches are \*other\*"):
        draw_probabilities(counts_of({12: 5}, {12: 5}), small("rare_classes=1"))


def test_patches_are_drawn_as_often_as_their_probabilities_say() -> None:
    probabilities = np.array([0.7, 0.2, 0.1, 0])
    config = small("batch_size=1", "effective_batch_size=1")
    drawn = [batch[0] % 4 for epoch in range(1000) for batch in draw_batches(4, config, epoch, probabilities)]
    assert np.bincount(drawn, minlength=4) / 4000 == pytest.approx(probabilities, abs=0.03)


def test_any_number_of_ranks_draws_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = np.arange(1, 13) / 78
    config, both = small("batch_size=2", "effective_batch_size=4"), []
    (whole, other) = (draw_batches(12, config, epoch, probabilities) for epoch in (3, 4))
    assert whole == draw_batches(12, config, 3, probabilities) != other
    monkeypatch.setattr("flair_baseline.samples.batches.world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("flair_baseline.samples.batches.rank", lambda rank=rank: rank)
        both.append(draw_batches(12, config, 3, probabilities))
    assert [batch for pair in zip(*both, strict=True) for batch in pair] == whole


def test_a_patch_that_is_drawn_twice_is_augmented_in_two_ways(flair_tree: Path) -> None:
    patches = index_patches(flair_tree, "train", labels=True)[:2]
    order = [index for batch in draw_batches(2, small(), 0, np.array([1.0, 0])) for index in batch]
    assert order == [0, 2]
    samples = PatchDataset(patches, small("photometric=1"), epoch=0)
    first, second = samples[0], samples[2]
    assert not torch.equal(first.aerial, second.aerial)
    assert sorted(first.aerial[4].flatten().tolist()) == sorted(second.aerial[4].flatten().tolist())


def test_a_run_counts_once_and_resumes_bit_for_bit(
    flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(*ADAMW, "rare_classes=0.5", "photometric=0.5")
    train(config, flair_tree, tmp_path / "whole")
    assert capsys.readouterr().err.count("counting the classes of 6 patches") == 1
    with monkeypatch.context() as patch:
        calls = iter([loop.validate])  # the second epoch finds none
        patch.setattr(loop, "validate", lambda *arguments: next(calls)(*arguments))
        with pytest.raises(StopIteration):
            train(config, flair_tree, tmp_path / "parts")
    monkeypatch.setattr(rarity, "count_classes", None)  # the state has the counts
    train(config, flair_tree, tmp_path / "parts", resume=True)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("power", ["-0.5", "1.5"])
def test_powers_beyond_the_range_are_refused(power: str) -> None:
    with pytest.raises(UsageError, match=r"rare_classes: \S+ is not from 0 \(off\) to 1"):
        small(f"rare_classes={power}")
