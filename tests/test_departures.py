"""DEPARTURES.md names code that exists, with the numbers of that code, and readers find their way to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flair_baseline.config import load_config
from flair_baseline.model import sentinel
from flair_baseline.model.metadata import DeepestStage, EveryStage
from flair_baseline.samples.band_statistics import SAMPLED_PATCHES
from flair_scoring.base.errors import UsageError

KIT = Path(__file__).resolve().parents[1]
PAGE = (KIT / "starting_kit" / "DEPARTURES.md").read_text()
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| what", "| -"))
]
WHERE = r"`((?:\w+/)?\w+\.py)` `(\w+)` \|$"


def row(name: str) -> str:
    (found,) = (line for line in ROWS if line.startswith(f"| {name} |"))
    return found


@pytest.mark.parametrize("line", ROWS, ids=[line.split("|")[1].strip() for line in ROWS])
def test_a_departure_says_all_and_where_it_is_made(line: str) -> None:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert len(cells) == 6
    assert all(cells)
    found = re.search(WHERE, line)
    assert found
    file, name = found.groups()
    programs = ("scoring_program", "ingestion_program", "starting_kit")
    (path,) = (path for program in programs for path in (KIT / program).rglob(file))
    assert re.search(rf"(?:^|\s)(?:def|class) {name}\b|^{name} = ", path.read_text(), re.MULTILINE)


def test_what_differs_between_paper_code_and_kit_is_there() -> None:
    named = {found[2] for line in ROWS if (found := re.search(WHERE, line))}
    assert named >= {
        *("AERIAL_MEANS", "prepare_series", "standardise_series", "find_days_of_year", "average_months"),
        *("find_clear_dates", "PatchDataset", "Config", "encode_metadata", "Fusion", "EveryStage", "UTAE"),
        *("masked_group_norm", "train_epoch", "take_step", "make_learner", "validate", "make_loader"),
    }


def test_its_numbers_are_those_of_the_code() -> None:
    config = load_config("utt")
    sides = []
    for side in range(8, 121):
        try:
            sides.append(load_config("utt", [f"superpatch_size={side}"]).superpatch_size)
        except UsageError:
            continue
    assert f"{config.superpatch_size}; {min(sides)} to {max(sides)} in training" in row(
        "side of the super-patch"
    )
    assert f"{sentinel.CLOUD_PROBABILITY / 100:g} covers at least {sentinel.CLOUD_COVERAGE:.0%}".replace(
        "%", " %"
    ) in row("a cloudy date goes if")
    official = f"at least {sentinel.OFFICIAL_PROBABILITY} covers at least {sentinel.OFFICIAL_COVERAGE:.0%}"
    assert official.replace("%", " %") in row("a cloudy date goes if")
    assert f"{SAMPLED_PATCHES} training patches" in row("offset and spread of the series")
    every, deepest = EveryStage([64, 64, 128, 256, 512]), DeepestStage(16)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (every, deepest)]
    assert "{:,} parameters instead of {:,}".format(*counts) in row("metadata")
    assert f"{config.effective_batch_size} patches per step" in row("batch")
    assert f"a plateau of {config.plateau_patience} epochs" in row("learning rate")


@pytest.mark.parametrize("page", ["README.md", "starting_kit/flair-2.ipynb"])
def test_readers_find_it(page: str) -> None:
    assert "starting_kit/DEPARTURES.md" in (KIT / page).read_text()
