"""The result of one evaluation: the table for the terminal, and detailed_results.html."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any

import imagecodecs
import numpy as np
import PIL

from flair_scoring import metrics
from flair_scoring.base.provenance import stamp
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.report.charts import histogram, interval_plot
from flair_scoring.report.html import bar, heat, paragraph, render_page, table
from flair_scoring.report.published import Published, read_published

_METRICS = {"IoU": metrics.iou, "precision": metrics.precision, "recall": metrics.recall, "F1": metrics.f1}
_SHARE = "in reference"
_LONGEST = 500  # characters of a value of timing.json; the submission's process reports its own versions


def render_text(evaluation: Evaluation) -> str:
    """The table of the classes and the other figures; the last line is the mIoU."""
    rows = [["", *_METRICS, _SHARE], *_class_rows(evaluation)]
    lines = [f"{name:<24}" + "".join(f"{cell:>13}" for cell in cells) for name, *cells in rows]
    lines += ["", *_figures(evaluation), f"mIoU: {evaluation.miou:.4f}"]
    return "\n".join(lines)


def render_report(evaluation: Evaluation, timing: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """The page: score, classes, confusion matrix, domains, pictures, latencies, checks and versions.

    `pictures` is HTML. It shows labels, so a page with pictures is only for people who have the labels.
    """
    return render_page(
        "FLAIR #2: result",
        paragraph("mIoU", "soft"),
        paragraph(f"{evaluation.miou:.4f}", "score"),
        *map(paragraph, _figures(evaluation)),
        paragraph(_describe_timing(timing)),
        "<h2>Classes</h2>",
        *_class_section(evaluation),
        "<h2>Confusion matrix</h2>",
        paragraph(
            "Rows are reference classes, columns are predicted classes. A cell is per cent of its row.",
            "soft",
        ),
        _confusion_table(evaluation),
        *map(paragraph, _describe_confusion(evaluation)),
        *_domain_section(evaluation),
        *pictures,
        *_latency_section(timing),
        "<h2>What was checked</h2>",
        *map(paragraph, _checks(evaluation)),
        "<h2>How it was computed</h2>",
        provenance_table(timing, evaluation.nomenclature.name),
    )


def _class_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    """The row of each class: name, metrics, share of the reference pixels; of *other* only the share."""
    matrix = evaluation.matrix
    columns = [metric(matrix) for metric in _METRICS.values()]
    *shares, other = matrix.sum(axis=1) / matrix.sum()
    for name, share, *values in zip(evaluation.nomenclature.classes, shares, *columns, strict=True):
        yield [name, *map(_format, values), f"{share:.2%}"]
    yield ["other (not scored)", *("-" for _ in columns), f"{other:.2%}"]


def _class_section(evaluation: Evaluation) -> Iterator[str]:
    values, colours = np.nan_to_num(evaluation.iou), evaluation.nomenclature.colours
    baseline = _baseline() if evaluation.nomenclature.name == FLAIR_12.name else None
    marks: Sequence[float | None] = baseline.classes if baseline else [None] * len(values)
    bars = [bar(*cells) for cells in zip(values, colours, marks, strict=True)]
    rows = zip(_class_rows(evaluation), [*bars, ""], strict=True)
    yield table(["class", "", *_METRICS, _SHARE], [[name, cell, *cells] for (name, *cells), cell in rows])
    if baseline:
        known = f"{baseline.name}, on the test set of FLAIR #2, mIoU {baseline.miou:.4f} ({baseline.source})"
        yield paragraph(f"Bars: IoU. Vertical lines: {known}.", "soft")


def _baseline() -> Published:
    """The best published result whose IoU per class is known."""
    return next(row for row in read_published() if row.classes)


def _confusion_table(evaluation: Evaluation) -> str:
    names = evaluation.nomenclature.classes_with_other
    matrix = evaluation.matrix
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = [
        [name, *(heat(share, f"{count:,} pixels") for share, count in zip(*row, strict=True))]
        for name, *row in zip(names, shares, matrix, strict=True)
    ]
    return table(["reference", *names], rows, "heat")


def _describe_confusion(evaluation: Evaluation, count: int = 5) -> Iterator[str]:
    """The most frequent confusions, in words."""
    matrix = evaluation.matrix
    names = evaluation.nomenclature.classes_with_other
    errors = np.where(np.eye(len(names), dtype=bool), 0, matrix)
    for index in np.argsort(-errors, axis=None, kind="stable")[:count]:
        actual, predicted = np.unravel_index(index, errors.shape)
        pixels = errors[actual, predicted]
        if pixels:
            yield (
                f"{pixels / matrix[actual].sum():.1%} of {names[actual]} was predicted as "
                f"{names[predicted]}: {pixels / errors.sum():.1%} of all errors."
            )


def _domain_section(evaluation: Evaluation) -> list[str]:
    scores = {domain: metrics.mean_iou(matrix) for domain, matrix in evaluation.domain_matrices.items()}
    if "" in scores:
        return []
    ranked = sorted(scores.items(), key=lambda item: -np.nan_to_num(item[1]))
    rows = [
        (f"{domain} ({evaluation.domains.count(domain)} patches)", score, score, score)
        for domain, score in ranked
        if not np.isnan(score)
    ]
    return ["<h2>Domains</h2>", interval_plot(rows, "mIoU of the domain")] if rows else []


def _latency_section(timing: dict[str, Any]) -> list[str]:
    latencies, requests = timing.get("latencies_ms"), timing.get("requests")
    if not latencies or not requests:
        return []
    limits = [timing.get("limit_seconds")]
    if timing.get("limit_ratio") and timing.get("reference_seconds"):
        limits.append(timing["limit_ratio"] * timing["reference_seconds"])
    seconds = min((limit for limit in limits if limit), default=None)
    limit = 1000 * seconds / requests if seconds else None
    note = "One value per request. The limit is that of the whole run, divided by the number of requests."
    return ["<h2>Latency</h2>", histogram(latencies, limit, "milliseconds"), paragraph(note, "soft")]


def _figures(evaluation: Evaluation) -> Iterator[str]:
    domains = len(set(evaluation.domains) - {""})
    yield f"patches: {len(evaluation.ids)}" + (f" in {domains} domains" if domains else "")
    if evaluation.interval:
        low, high = evaluation.interval
        yield f"95 % interval for new domains: {low:.4f} to {high:.4f} (jackknife over {domains} domains)"
    matrix = evaluation.matrix
    without_other = metrics.mean_iou_without_other(matrix)
    yield f"overall accuracy: {metrics.overall_accuracy(matrix):.4f}"
    yield f"mIoU without the reference pixels of other: {without_other:.4f} (not the score)"


def _describe_timing(timing: dict[str, Any]) -> str:
    figures = [
        ("time / baseline's time", timing.get("ratio"), timing.get("limit_ratio")),
        ("seconds of inference", timing.get("inference_seconds"), timing.get("limit_seconds")),
    ]
    lines = [
        f"{name}: {value:.3f}" + (f" (limit {limit})" if limit else "")
        for name, value, limit in figures
        if value is not None
    ]
    return "; ".join(["within the time limit", *lines]) if timing else "inference was not timed"


def _checks(evaluation: Evaluation) -> Iterator[str]:
    yield (
        f"{len(evaluation.ids)} references and exactly one prediction for each: one band, uint8, 512 x 512 "
        f"pixels, values 0 to {evaluation.nomenclature.other}. All {evaluation.matrix.sum()} pixels count."
    )
    classes = zip(evaluation.nomenclature.classes, evaluation.iou, strict=True)
    if absent := [name for name, value in classes if np.isnan(value)]:
        yield (
            f"Neither in the references nor in the predictions: {', '.join(absent)}. Such a class is left "
            "out of the mean, and its column of the leaderboard shows 0."
        )
    yield from evaluation.notes


def provenance_table(timing: dict[str, Any], nomenclature: str = FLAIR_12.name) -> str:
    """A table of the versions of the scoring program, and of every single value in timing.json."""
    own: dict[str, Any] = stamp(nomenclature)
    own |= {"Python": platform.python_version(), "numpy": np.__version__}
    own |= {"imagecodecs": imagecodecs.__version__, "Pillow": PIL.__version__}
    for name, value in timing.items():
        facts = value.items() if isinstance(value, dict) else [("", value)]
        own |= {f"inference: {name} {fact}".strip(): text for fact, text in facts if name not in own}
    rows = [(name[:_LONGEST], str(value)[:_LONGEST]) for name, value in own.items() if _is_single(value)]
    return table(["", ""], rows, "facts")


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"
