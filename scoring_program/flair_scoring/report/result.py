"""The result of one evaluation: the table for the terminal, and detailed_results.html."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any

import imagecodecs
import numpy as np
import PIL

from flair_scoring import metrics
from flair_scoring.base.provenance import KIT_VERSION, stamp
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.ranking.comparison import Comparison
from flair_scoring.report.bars import beside, empty_bar, scale_head, share_bar, table_of_bars
from flair_scoring.report.differences import describe_difference, render_differences
from flair_scoring.report.html import (
    bullets,
    folded,
    heading,
    heat,
    paragraph,
    render_page,
    table,
    with_noun,
)
from flair_scoring.report.published import Published, read_published
from flair_scoring.report.result_style import RESULT_STYLE
from flair_scoring.report.run_time import render_latencies, render_time

_METRICS = {"IoU": metrics.iou, "precision": metrics.precision, "recall": metrics.recall, "F1": metrics.f1}
_SHARE = "in reference"
_LONGEST = 500  # characters of a value of timing.json; the submission's process reports its own versions


def render_text(evaluation: Evaluation, comparison: Comparison | None = None) -> str:
    """The table of the classes and the other figures; the last line is the mIoU."""
    rows = [["", *_METRICS, _SHARE], *_class_rows(evaluation)]
    lines = [f"{name:<24}" + "".join(f"{cell:>13}" for cell in cells) for name, *cells in rows]
    lines += ["", *_figures(evaluation)]
    lines += [f"difference: {describe_difference(comparison)}"] if comparison else []
    return "\n".join([*lines, f"mIoU: {evaluation.miou:.4f}"])


def render_report(
    evaluation: Evaluation,
    timing: dict[str, Any],
    pictures: Sequence[str] = (),
    comparison: Comparison | None = None,
) -> str:
    """The page: score, difference from another result, classes, pictures, domains, confusions, latencies.

    `pictures` is HTML. It shows labels, so a page with pictures is only for people who have the labels.
    """
    return render_page(
        "FLAIR #2: result",
        paragraph(_describe_origin(evaluation), "soft"),
        _summary(evaluation, timing),
        *render_differences(comparison),
        "<h2>Classes</h2>",
        *_class_section(evaluation),
        *pictures,
        *_domain_section(evaluation),
        "<h2>Confusion matrix</h2>",
        paragraph(
            "Rows are reference classes, columns are predicted classes. A cell is per cent of its row.",
            "soft",
        ),
        _confusion_table(evaluation),
        bullets(_describe_confusion(evaluation)),
        *render_latencies(timing),
        "<h2>What was checked</h2>",
        *map(paragraph, _checks(evaluation)),
        folded(heading("How it was computed"), provenance_table(timing, evaluation.nomenclature.name)),
        style=RESULT_STYLE,
    )


def _describe_origin(evaluation: Evaluation) -> str:
    domains = len(set(evaluation.domains) - {""})
    patches = with_noun(len(evaluation.ids), "patch", "patches")
    patches += f" in {with_noun(domains, 'domain', 'domains')}" if domains else ""
    return f"{patches}, {evaluation.nomenclature.name}, scored by kit {KIT_VERSION}"


def _summary(evaluation: Evaluation, timing: dict[str, Any]) -> str:
    """The figures that a reader looks for first: the score with its interval, the time, the accuracy."""
    score = [paragraph("mIoU", "soft"), paragraph(f"{evaluation.miou:.4f}", "score")]
    if evaluation.interval:
        low, high = evaluation.interval
        domains = len(evaluation.domain_matrices)
        reach = f"95 % interval for new domains: {low:.3f} to {high:.3f} (jackknife over {domains} domains)"
        score.append(paragraph(reach, "soft"))
    matrix = evaluation.matrix
    without_other = metrics.mean_iou_without_other(matrix)
    accuracy = [
        paragraph("Overall accuracy", "soft"),
        paragraph(f"{metrics.overall_accuracy(matrix):.4f}", "second"),
        paragraph(f"mIoU without the reference pixels of other: {without_other:.4f} (not the score)", "soft"),
    ]
    cells = [f"<div>{''.join(score)}</div>", render_time(timing), f"<div>{''.join(accuracy)}</div>"]
    return f'<div class="summary">{"".join(cells)}</div>'


def _class_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    """The row of each class: name, metrics, share of the reference pixels; of *other* only the share."""
    matrix = evaluation.matrix
    columns = [metric(matrix) for metric in _METRICS.values()]
    *shares, other = matrix.sum(axis=1) / matrix.sum()
    for name, share, *values in zip(evaluation.nomenclature.classes, shares, *columns, strict=True):
        yield [name, *map(_format, values), f"{share:.2%}"]
    yield ["other (not scored)", *("-" for _ in columns), f"{other:.2%}"]


def _class_section(evaluation: Evaluation) -> Iterator[str]:
    colours = evaluation.nomenclature.colours
    baseline = _baseline() if evaluation.nomenclature.name == FLAIR_12.name else None
    marks: Sequence[float | None] = baseline.classes if baseline else [None] * len(colours)
    bars = [
        empty_bar() if np.isnan(value) else share_bar(value, colour, mark)
        for value, colour, mark in zip(evaluation.iou, colours, marks, strict=True)
    ]
    rows = zip(_class_rows(evaluation), [*bars, empty_bar()], strict=True)
    head = ["class", scale_head(), *_METRICS, _SHARE]
    yield table(head, [[name, cell, *cells] for (name, *cells), cell in rows], "chart")
    if baseline:
        known = f"{baseline.name}, on the test set of FLAIR #2, mIoU {baseline.miou:.4f} ({baseline.source})"
        yield _explain_mark(f"Bars show the IoU. The line in a bar is {known}.")


def _explain_mark(sentence: str) -> str:
    """A sentence about bars, after the sign of the line in them."""
    return paragraph(sentence, "soft").replace(">", '><i class="mark"></i>', 1)


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
        [
            domain,
            share_bar(score, mark=evaluation.miou),
            f"{score:.4f}",
            f"{evaluation.domains.count(domain):,}",
        ]
        for domain, score in ranked
        if not np.isnan(score)
    ]
    head = ["domain", scale_head(), "mIoU", "patches"]
    mark = _explain_mark("The line in a bar is the mIoU of all domains together.")
    if not rows:
        return []
    tables = table_of_bars(head, rows)
    return ["<h2>Domains</h2>", beside(tables) if len(tables) > 1 else tables[0], mark]


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


def _checks(evaluation: Evaluation) -> Iterator[str]:
    references = with_noun(len(evaluation.ids), "reference", "references")
    yield (
        f"{references} and exactly one prediction for each: one band, uint8, 512 x 512 pixels, values 0 to "
        f"{evaluation.nomenclature.other}. All {evaluation.matrix.sum():,} pixels count."
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
    rows = [(name[:_LONGEST], _show(value)[:_LONGEST]) for name, value in own.items() if _is_single(value)]
    return table(["", ""], rows, "facts")


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _show(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"
