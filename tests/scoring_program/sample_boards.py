"""Leaderboards to draw: of many sizes, with failures, long names, and with parts that are missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from flair_scoring.metrics import iou, mean_iou
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.ranking.results import Result
from flair_scoring.ranking.standings import Board, make_board

PIXELS = 512 * 512
LONG = "convnext_b_unetplusplus_ensemble_of_five_with_d4_tta_run_042"  # 60 characters
NAMES = (
    "utt_best",
    LONG,
    "Équipe Forêt Ardèche",
    "a name with words and blanks up to sixty characters, all in all",
    "x",
)
REASONS = (
    (
        "over_limit",
        "141.2 s of inference, over 2.5 times the reference's 45.33 s; stopped after 71 of 96 requests",
    ),
    ("failed", "predict raised RuntimeError: CUDA out of memory. " + "Tried to allocate 20.00 GiB. " * 30),
    ("failed", "x" * 700),
)


def make_results(
    ranked: int,
    failed: int = 0,
    left_out: int = 0,
    domains: int = 8,
    timed: bool = True,
    absent: int | None = None,
    name: str = "",
) -> list[Result]:
    """Results of falling quality. The second and the third are equal; `absent` is a class without a pixel."""
    rng = np.random.default_rng(0)
    grounds = [rng.multinomial(PIXELS, np.full(13, 1 / 13)) for _ in range(max(domains, 1))]
    if absent is not None:
        for ground in grounds:
            ground[absent] = 0
    results = []
    for index in range(ranked):
        if index != 2:
            quality = 0.9 - 0.5 * index / max(ranked, 10)
            matrices = [_make_matrix(ground, quality, rng) for ground in grounds]
        total = np.sum(matrices, axis=0)
        scores = {"miou": float(mean_iou(total)), "overall_accuracy": 0.8}
        if domains >= 3:
            scores |= {"miou_low": scores["miou"] - 0.05, "miou_high": scores["miou"] + 0.06}
        scores |= dict(zip(FLAIR_12.keys, map(float, np.nan_to_num(iou(total))), strict=True))
        keys = [f"D{number:03d}_2020" for number in range(domains)]
        results.append(
            Result(
                f"{name or NAMES[index % len(NAMES)]}{index or ''}",
                scores,
                _make_timing(min(float(rng.lognormal(-0.7, 0.9)), 2.5)) if timed else {},
                dict(zip(keys, matrices, strict=False)) if domains else {},
                checksums=dict.fromkeys(keys, 1),
            )
        )
    results += [
        Result(
            f"old try {index} {name}",
            one.scores,
            one.timing,
            {},
            left_out=f"not ranked: {one.name} is the best",
        )
        for index, one in enumerate(results[:left_out])
    ]
    for index in range(failed):
        verdict, reason = REASONS[index % len(REASONS)]
        timing = _make_timing(3.1 if verdict == "over_limit" else None)
        results.append(Result(f"{LONG}{index}", {}, timing | {"verdict": verdict, "reason": reason}, {}))
    return results


def sample_boards() -> dict[str, Board]:
    """The boards that the page must show well, by a name that says what is special."""
    kinds: dict[str, dict[str, Any]] = {
        "2 entries": {"ranked": 2},
        "10 entries, 3 failed": {"ranked": 7, "failed": 3},
        "50 entries, 4 failed, 2 left out": {"ranked": 44, "failed": 4, "left_out": 2},
        "names of 60 characters": {"ranked": 10, "failed": 1, "name": LONG[:58]},
        "without time": {"ranked": 4, "failed": 1, "timed": False},
        "without domains": {"ranked": 4, "domains": 0},
        "without a class": {"ranked": 4, "absent": 8},
        "all failed": {"ranked": 0, "failed": 3},
        "a single one": {"ranked": 1},
    }
    return {kind: make_board(make_results(**options)) for kind, options in kinds.items()}


def _make_matrix(ground: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    right = np.floor(ground * np.clip(quality + rng.normal(0, 0.02, 13), 0, 1)).astype(np.int64)
    matrix = np.diag(right)
    matrix[np.arange(13), (np.arange(13) + 3) % 13] += ground - right
    return matrix * (ground > 0)[:, None]


def _make_timing(ratio: float | None) -> dict[str, Any]:
    seconds = None if ratio is None else 45.33 * ratio
    times = {"ratio": ratio, "inference_seconds": seconds, "reference_seconds": 45.33, "limit_ratio": 2.5}
    return {"verdict": "within_limit", "reason": None, "device": {"name": "H200"}} | times
