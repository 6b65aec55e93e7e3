"""scores.json: its keys, and that what is written is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flair_scoring import COSIA_16, FLAIR_12, FLAIR_18, Evaluation, Nomenclature
from flair_scoring.base.errors import UsageError
from flair_scoring.outputs.scores import make_scores, read_scores, score_keys, write_scores

TIMES = {"ratio": 1.25, "inference_seconds": 12.5}


def evaluation_of(nomenclature: Nomenclature, domains: int) -> Evaluation:
    """One patch for each domain, which has more wrong pixels than the one before."""
    matrices = np.stack([np.eye(nomenclature.num_classes + 1, dtype=np.uint32) * 9] * domains)
    matrices[:, 0, 1] = range(domains)
    ids = tuple(f"{number:06d}" for number in range(domains))
    return Evaluation(nomenclature, ids, tuple(f"D{id[3:]}_2020" for id in ids), ("",) * domains, matrices)


@pytest.mark.parametrize("nomenclature", [FLAIR_12, FLAIR_18, COSIA_16], ids=lambda one: one.name)
def test_three_domains_and_a_time_have_all_keys(nomenclature: Nomenclature) -> None:
    scores = make_scores(evaluation_of(nomenclature, 3), TIMES)
    assert tuple(scores) == score_keys(nomenclature)
    assert (scores["time_ratio"], scores["inference_seconds"]) == (1.25, 12.5)


@pytest.mark.parametrize(
    ("domains", "timing", "absent"),
    [
        (2, TIMES, {"miou_low", "miou_high"}),
        (3, TIMES | {"ratio": None}, {"time_ratio"}),
        (3, {}, {"time_ratio", "inference_seconds"}),
    ],
)
def test_what_is_not_known_has_no_key(domains: int, timing: dict[str, float], absent: set[str]) -> None:
    scores = make_scores(evaluation_of(FLAIR_12, domains), timing)
    assert tuple(scores) == tuple(key for key in score_keys() if key not in absent)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    scores = make_scores(evaluation_of(FLAIR_12, 4), TIMES)
    write_scores(tmp_path, scores)
    assert list(read_scores(tmp_path / "scores.json").items()) == list(scores.items())
    with pytest.raises(UsageError, match=r"scores\.json: cannot be read \(No such file"):
        read_scores(tmp_path / "nowhere/scores.json")
