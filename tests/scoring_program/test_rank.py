"""rank.py: order, groups and tests, the reference's times, results without a score, page, csv and json."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sample_patches import Patches

from flair_scoring.base.errors import DataError, FlairError
from flair_scoring.base.provenance import stamp
from flair_scoring.evaluation import Evaluation, evaluate
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.outputs.ingestion_output import IngestionOutput
from flair_scoring.ranking.permutation import permutation_test
from flair_scoring.ranking.results import Result, read_results
from flair_scoring.ranking.standings import make_board, pairwise_p_values, pareto_front, rank_results
from flair_scoring.ranking.table import standings_table
from flair_scoring.report.leaderboard_tables import render_board_text
from flair_scoring.writing import write_results
from programs import run_here

RANK = Path(__file__).resolve().parents[2] / "scoring_program" / "rank.py"
PIXELS = 512 * 512


def result(folder: Path, miou: float | None, **timing: Any) -> Path:
    """A result folder without matrices; timed if it has any field of timing.json."""
    folder.mkdir()
    if miou is not None:
        scores = {"miou": miou, "overall_accuracy": 0.7, "miou_low": miou - 0.02, "miou_high": miou + 0.02}
        (folder / "scores.json").write_text(json.dumps(scores | {"iou_building": 0.8}))
    if timing:
        fields = {"verdict": "within_limit", "reason": None, "inference_seconds": 30.0} | timing
        (folder / "timing.json").write_text(json.dumps(stamp() | fields))
    return folder


def evaluate_made_up(accuracy: np.ndarray, ground: int = 0) -> Evaluation:
    """One patch per domain with that accuracy; the reference is drawn from the seed `ground`."""
    rng = np.random.default_rng(ground)
    matrices = []
    for share in accuracy:
        actual = rng.multinomial(PIXELS, np.full(13, 1 / 13))
        right = np.floor(actual * share).astype(int)
        matrix = np.diag(right)
        matrix[np.arange(13), (np.arange(13) + 1) % 13] += actual - right
        matrices.append(matrix)
    names = tuple(f"D{index:03d}_2020" for index in range(len(accuracy)))
    ids = tuple(f"{index:06d}" for index in range(len(accuracy)))
    areas = ("Z1_UU",) * len(accuracy)
    checksums = np.arange(len(accuracy), dtype=np.uint32) + 1000 * ground
    return Evaluation(
        FLAIR_12, ids, names, areas, np.array(matrices, np.uint32), reference_checksums=checksums
    )


def write(folder: Path, evaluation: Evaluation, per_domain: bool = False) -> Path:
    folder.mkdir()
    write_results(folder, evaluation, IngestionOutput([], {}, None), per_domain)
    return folder


def scatter(domains: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, domains)


def rank(*results: Path, output: Path) -> subprocess.CompletedProcess[str]:
    return run_here("rank", *results, "--output", output, folder="scoring_program")


class Outline(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.html = page
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {"src", "href"} & dict(attributes).keys()
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_orders_by_miou_then_time_and_lists_failures_last(tmp_path: Path) -> None:
    folders = [
        result(tmp_path / "slow", None, verdict="over_limit", reason="3.10 x, limit 2.5", ratio=3.1),
        result(tmp_path / "second", 0.61, ratio=1.4, reference_seconds=20.0),
        result(tmp_path / "untimed", 0.61),
        result(tmp_path / "first", 0.64, ratio=2.2, reference_seconds=22.0),
    ]
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    within = ["within", "the", "limit"]
    assert lines[1:6] == [
        ["1", "first", "0.6400", "0.6200", "to", "0.6600", "2.200", "30.00", *within],
        ["2", "second", "0.6100", "0.5900", "to", "0.6300", "1.400", "30.00", *within],
        ["2", "untimed", "0.6100", "0.5900", "to", "0.6300", "not", "timed"],
        ["reference", "1.000", "21.00", "the", "unit", "of", "time"],
        ["slow", "3.100", "30.00", "over", "the", "limit:", "3.10", "x,", "limit", "2.5"],
    ]
    assert "No tests of differences: there is no confusion.npz with domains beside" in done.stdout
    page = (tmp_path / "board.html").read_text()
    assert page.index("first") < page.index("second") < page.index("untimed") < page.index("slow")


def test_equal_scores_share_a_rank_everywhere(tmp_path: Path) -> None:
    mious = {"c": 0.61, "top": 0.64, "b": 0.61, "last": 0.5, "a": 0.61, "low": 0.5}
    folders = [result(tmp_path / name, miou, ratio=1.0) for name, miou in mious.items()]
    done = rank(*folders, output=tmp_path / "board.html")
    expected = [("1", "top"), ("2", "a"), ("2", "b"), ("2", "c"), ("5", "last"), ("5", "low")]
    assert [tuple(line.split()[:2]) for line in done.stdout.splitlines()[1:7]] == expected
    with (tmp_path / "board.csv").open() as file:
        assert [(row["rank"], row["name"]) for row in csv.DictReader(file)] == expected
    records = json.loads((tmp_path / "board.json").read_text())["results"]
    assert [(f"{record['rank']}", record["name"]) for record in records] == expected
    page = (tmp_path / "board.html").read_text()
    cells = re.findall(r'<td class="rank">(\d+)</td>\s*<th[^>]*>([^<]*)</th>', page)
    assert cells == expected


def test_equal_scores_with_matrices_share_a_rank(tmp_path: Path) -> None:
    same = evaluate_made_up(0.8 + scatter(8, 0))
    folders = [write(tmp_path / "first", evaluate_made_up(0.9 + scatter(8, 0)))]
    folders += [write(tmp_path / name, same) for name in ("one", "other")]
    assert [one.rank for one in rank_results(read_results(folders))] == [1, 2, 2]


def test_groups_are_told_apart_and_ties_stay_together(tmp_path: Path) -> None:
    ground = 0.8 + scatter(10, 0)
    folders = [
        write(tmp_path / "best", evaluate_made_up(ground + 0.05)),
        write(tmp_path / "as good", evaluate_made_up(ground + 0.049 + scatter(10, 1))),
        write(tmp_path / "worse everywhere", evaluate_made_up(ground)),
        write(tmp_path / "on the platform", evaluate_made_up(ground - 0.1), per_domain=True),
    ]
    standings = {one.result.name: one for one in rank_results(read_results(folders))}
    tied = [standings[name] for name in ("best", "as good")]
    assert {one.rank for one in tied} == {1, 2}
    assert {one.group for one in tied} == {1}
    worse, platform = standings["worse everywhere"], standings["on the platform"]
    assert (worse.rank, worse.group, platform.rank, platform.group) == (3, 2, 4, 3)
    assert platform.p_above == 2 / 2**10
    assert platform.p_leader == worse.p_leader == 2 / 2**10
    assert max(one.p_leader or 0 for one in tied) == 1  # the leader itself


def test_fifty_far_apart_are_fifty_groups() -> None:
    results = []
    for index in range(50):
        matrices = evaluate_made_up(np.full(10, 0.99 - 0.019 * index)).domain_matrices
        results.append(Result(f"{index}", {"miou": 1 - index / 50}, {}, matrices))
    standings = rank_results(results)
    assert [one.group for one in standings] == list(range(1, 51))
    table = pairwise_p_values(results)
    assert table is not None
    assert table[3, 40] == table[40, 3] == 2 / 2**10
    assert (np.diag(table) == 1).all()


def test_few_domains_are_not_enough(tmp_path: Path) -> None:
    folders = [write(tmp_path / f"{share}", evaluate_made_up(np.full(5, share))) for share in (0.9, 0.1)]
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    assert "No tests of differences: they need at least 6 domains, and there are 5." in done.stdout
    assert "<h2>Differences" not in (tmp_path / "board.html").read_text()
    assert all(one.group is None for one in rank_results(read_results(folders)))


def test_csv_and_json_hold_the_whole_table(tmp_path: Path) -> None:
    one, other = (evaluate_made_up(share + scatter(8, 3)) for share in (0.8, 0.79))
    folders = [write(tmp_path / "one", one), write(tmp_path / "other", other)]
    folders.append(result(tmp_path / "failed", None, verdict="failed", reason="a, b"))
    assert rank(*folders, output=tmp_path / "board.html").returncode == 0
    with (tmp_path / "board.csv").open() as file:
        first, second, failed = csv.DictReader(file)
    assert (first["name"], first["rank"], first["group"], first["p_above"]) == ("one", "1", "1", "")
    p_value = permutation_test(*(np.stack(list(e.domain_matrices.values())) for e in (one, other)))
    assert float(second["p_above"]) == pytest.approx(p_value)
    assert float(second["miou"]) == pytest.approx(other.miou)
    assert float(second["iou_water"]) == pytest.approx(other.iou[4])
    assert (failed["name"], failed["rank"], failed["reason"]) == ("failed", "", "a, b")
    board = json.loads((tmp_path / "board.json").read_text())
    assert (board["schema"], board["domains"], board["results"][1]["rank"]) == (1, 8, 2)


def test_the_standings_are_a_dataframe_with_a_type_for_each_column(tmp_path: Path) -> None:
    one, other = (evaluate_made_up(share + scatter(8, 3)) for share in (0.8, 0.79))
    folders = [
        result(tmp_path / "failed", None, verdict="failed", reason="a, b", inference_seconds=81),
        write(tmp_path / "other", other),
        write(tmp_path / "=one", one),
    ]
    board = standings_table(make_board(read_results(folders)))
    assert board["name"].tolist() == ["=one", "other", "failed"]  # as it is: only the csv quotes formulas
    kinds = {"rank": "Int64", "group": "Int64", "pareto": "boolean", "name": "string", "verdict": "string"}
    assert {column: str(board[column].dtype) for column in kinds} == kinds
    assert board["rank"].tolist() == [1, 2, pd.NA]
    assert board["verdict"].tolist() == [pd.NA, pd.NA, "failed"]
    numbers = board[["p_leader", "miou", "iou_water", "inference_seconds"]]
    assert (numbers.dtypes == "float64").all()
    np.testing.assert_allclose(numbers["miou"], [one.miou, other.miou, np.nan])
    np.testing.assert_allclose(numbers["inference_seconds"], [np.nan, np.nan, 81])
    empty = standings_table(make_board(read_results(folders[:1])))
    assert empty["reason"].tolist() == ["a, b"]


def test_pandas_is_imported_only_for_a_table() -> None:
    code = "import sys, rank; assert not {'pandas', 'scipy', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=RANK.parent, check=True, timeout=60)


def test_published_results_are_those_of_the_paper(tmp_path: Path) -> None:
    rank(result(tmp_path / "mine", 0.5), output=tmp_path / "board.html")
    published = json.loads((tmp_path / "board.json").read_text())["published"]
    assert [row["miou"] for row in published[:3]] == [0.6413, 0.6355, 0.6351]  # the podium
    by_class = {row["miou"]: row["classes"] for row in published if row["classes"]}
    assert by_class.keys() == {0.5758, 0.5594, 0.5470}  # Table V; the paper's means are rounded or cut
    assert all(np.mean(classes) == pytest.approx(miou, abs=1e-4) for miou, classes in by_class.items())
    table_4 = [(row["miou"], row["deviation"]) for row in published if row["source"].endswith("Table IV")]
    assert len(table_4) == 11
    assert {(0.5467, 0.0009), (0.5517, 0.0013), (0.5354, 0.0104), (0.5623, 0.0056)} <= set(table_4)
    text = Outline((tmp_path / "board.html").read_text()).text
    assert "0.5623 ± 0.0056" in text


def test_the_page_has_charts_and_marks_winners(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / f"{index}", evaluate_made_up(0.5 + index / 20 + scatter(7, index)))
        for index in range(5)
    ]
    for index, folder in enumerate(folders):
        timing = {"verdict": "within_limit", "reason": None, "ratio": 0.5 + index / 4, "limit_ratio": 2.5}
        (folder / "timing.json").write_text(json.dumps(stamp() | timing))
    rank(*folders, output=tmp_path / "board.html")
    page = Outline((tmp_path / "board.html").read_text())
    assert page.tags.count("svg") == 5 + 1 + 1  # an interval in each row, their axis, mIoU and time
    assert page.tags.count("circle") == 10
    assert page.tags.count("script") == 1
    assert "limit 2.5" in page.text
    classes = page.html[page.html.index("<h2>Classes") : page.html.index("<h2>Differences")]
    assert classes.count("<b>") == 12  # the last one is the best in every class
    assert re.findall(r"<tr><th>(\d)</th><td[^>]*><b>", classes) == ["4"]


def test_hostile_names_are_shown_and_not_run(tmp_path: Path) -> None:
    names = ["<script>alert(1)<script>", "=1+1", "'\"><img src=x onerror=alert(1)>"]
    folders = [
        write(tmp_path / name, evaluate_made_up(np.full(6, 0.5 + 0.1 * index)))
        for index, name in enumerate(names)
    ]
    folders.append(result(tmp_path / "<u>", None, reason="<i>", verdict="<i>"))
    assert rank(*folders, output=tmp_path / "board.html").returncode == 0
    page = Outline((tmp_path / "board.html").read_text())
    assert set(names) <= set(page.text)
    assert page.tags.count("script") == 1
    assert not {"img", "i", "u"} & set(page.tags)
    with (tmp_path / "board.csv").open() as file:
        written = {row["name"] for row in csv.DictReader(file)}
    assert "'=1+1" in written  # a spreadsheet shows it and does not compute it


def test_escape_sequences_reach_no_terminal(tmp_path: Path) -> None:
    """A folder's name, a verdict or a reason could write another score over the real one."""
    red, turned = "\x1b[31mred\x07", "\u202eabc\ud800"
    folders = [
        result(tmp_path / red, 0.5, verdict=red),
        result(tmp_path / "fäiled now", None, verdict=turned, reason=f"{red}\nrank  name"),
    ]
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)
    assert r"\x1b[31mred\x07" in done.stdout
    assert r"\u202eabc\ud800: \x1b[31mred\x07\nrank  name" in done.stdout
    assert "fäiled now" in done.stdout
    (folders[0] / "scores.json").write_text("{")
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 2
    assert r"\x1b[31mred\x07/scores.json: damaged" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"inference_seconds": 1e308}, "inference_seconds must be numbers or null, from 0 to 1e+12"),
        (
            {"limit_ratio": 1e300, "reference_seconds": 1e300},
            "reference_seconds, limit_ratio must be numbers or",
        ),
        ({"ratio": float("nan")}, "ratio must be numbers or null"),
        ({"ratio": True}, "ratio must be numbers or null"),
        ({"requests": 1e-320}, "requests must be a whole number"),
        ({"latencies_ms": [1e308]}, "latencies_ms must be a list of numbers from 0 to"),
        ({"verdict": float("nan")}, "verdict must be a text or null"),
        ({"reason": {"a": 1}}, "reason must be a text or null"),
        ({"schema": [1]}, "schema [1], this kit"),
        ({"x": json.loads("[" * 50 + "]" * 50)}, "missing or damaged"),
    ],
)
def test_what_ingestion_cannot_have_written_is_refused(
    tmp_path: Path, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(FlairError) as caught:
        read_results([result(tmp_path / "a", 0.5, **fields)])
    assert sentence in str(caught.value)


def test_the_pareto_front_is_what_nobody_beats() -> None:
    rng = np.random.default_rng(0)
    results = [
        Result(f"{n}", {"miou": float(m)}, {"ratio": float(t)}, {})
        for n, (m, t) in enumerate(rng.random((40, 2)))
    ]
    expected = set()
    for one in results:
        beaten = [
            other
            for other in results
            if other is not one
            and other.scores["miou"] >= one.scores["miou"]
            and other.timing["ratio"] <= one.timing["ratio"]
        ]
        expected |= set() if beaten else {one.name}
    assert pareto_front(results) == expected
    assert 1 < len(expected) < 40


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "neither scores.json nor timing.json"),
        ("{", "scores.json: damaged"),
        ('{"miou": NaN}', "scores.json: miou out of range"),
        (f'{{"miou": 1{"0" * 400}}}', "scores.json: miou out of range"),
        ("[" * 50_000, "scores.json: damaged"),
        (f'{{"miou": 0.5, "rank": {"[" * 40 + "]" * 40}}}', "scores.json: damaged"),
        ('{"miou": 0.5, "rank": 0, "name": 1}', "scores.json: has 'rank', 'name', which score.py does not"),
        ('{"miou": 0.5, "iou_\\u001b[31m": 1}', "which score.py does not write"),
        ('{"miou": 1.5}', "scores.json: miou out of range"),
        ('{"miou": true}', "scores.json: miou out of range"),
        ('{"miou": 0.5, "inference_seconds": 1e308}', "scores.json: inference_seconds out of range"),
        (
            " " * 70_000 + '{"miou": 0.5}',
            "scores.json: cannot be read (it has 70013 bytes, and at most 65536 are read)",
        ),
        ('{"miou": 0.5, "miou_low": 0.4}', "scores.json: damaged"),
        ('{"iou_building": 0.5}', "scores.json: damaged"),
        ('{"miou": 0.5, "iou_greenhouse": 0.5}', "the results score different classes"),
    ],
)
def test_refuses_what_is_no_result(tmp_path: Path, content: str | None, sentence: str) -> None:
    good = result(tmp_path / "good", 0.6)
    bad = result(tmp_path / "bad", None)
    if content is not None:
        (bad / "scores.json").write_text(content)
    for suffix in ("html", "csv", "json"):
        (tmp_path / f"board.{suffix}").write_text("of earlier results")
    done = rank(good, bad, output=tmp_path / "board.html")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not list(tmp_path.glob("board.*"))


def test_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    good = write(tmp_path / "good", evaluate_made_up(np.full(6, 0.9)))
    elsewhere = write(tmp_path / "elsewhere", evaluate_made_up(np.full(6, 0.5), ground=1))
    fewer = write(tmp_path / "fewer", evaluate_made_up(np.full(5, 0.5)))
    done = rank(good, elsewhere, fewer, output=tmp_path / "board.html")
    assert done.returncode == 2
    assert "scored on 3 versions of the references; score all again on one of them" in done.stderr
    every = ", ".join(f"D{index:03d}_2020" for index in range(6))
    assert "version 1: good" in done.stderr
    assert f"version 2, which differs in {every}: elsewhere" in done.stderr
    assert "version 3, which differs in D005_2020: fewer" in done.stderr
    (fewer / "confusion.npz").write_bytes((good / "confusion.npz").read_bytes())
    assert (
        "confusion.npz and scores.json are of different runs"
        in rank(good, fewer, output=tmp_path / "board.html").stderr
    )
    (fewer / "confusion.npz").write_bytes(b"PK")
    assert "confusion.npz: not a whole" in rank(good, fewer, output=tmp_path / "board.html").stderr


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize("platform", [(False, False), (True, False), (True, True)])
def test_swapped_masks_are_another_version_of_the_references(
    patches: Patches, tmp_path: Path, platform: tuple[bool, bool]
) -> None:
    write(tmp_path / "a", evaluate(patches.predictions, patches.references, jobs=1), platform[0])
    swap(patches.reference("077413"), patches.reference("077414"))  # both in D015_2020
    write(tmp_path / "b", evaluate(patches.predictions, patches.references, jobs=1), platform[1])
    with pytest.raises(DataError) as caught:
        rank_results(read_results([tmp_path / "a", tmp_path / "b"]))
    assert "scored on 2 versions of the references" in str(caught.value)
    assert "version 1: a" in str(caught.value)
    assert "version 2, which differs in D015_2020: b" in str(caught.value)


def test_other_patches_with_the_same_mask_are_another_version(patches: Patches, tmp_path: Path) -> None:
    for kind in (patches.reference, patches.prediction):
        kind("077414").write_bytes(kind("077413").read_bytes())
    for name in ("077413", "077414"):
        found = evaluate(patches.predictions, patches.references, ids=[name], jobs=1)
        write(tmp_path / name, found)
    with pytest.raises(DataError, match="version 2, which differs in D015_2020: 077414"):
        rank_results(read_results([tmp_path / "077413", tmp_path / "077414"]))


def test_masks_in_another_compression_are_the_same_version(patches: Patches, tmp_path: Path) -> None:
    write(tmp_path / "a", evaluate(patches.predictions, patches.references, jobs=1))
    for id, mask in patches.masks.items():
        before = patches.reference(id).read_bytes()
        Image.fromarray(mask).save(patches.reference(id), compression="packbits")
        assert patches.reference(id).read_bytes() != before
    write(tmp_path / "b", evaluate(patches.predictions, patches.references, jobs=1), per_domain=True)
    assert len(rank_results(read_results([tmp_path / "a", tmp_path / "b"]))) == 2


def without_checksums(folder: Path) -> Path:
    """The result folder, with confusion.npz as older kits wrote it."""
    arrays = dict(np.load(folder / "confusion.npz").items())
    arrays.pop("reference_checksums", None)
    np.savez(folder / "confusion.npz", **arrays)
    return folder


@pytest.mark.parametrize(
    "old", [("a",), ("a", "b"), ("a", "b", "c")], ids=lambda names: f"{len(names)} of 3 results"
)
def test_results_of_older_kits_are_compared_by_class_totals(tmp_path: Path, old: Sequence[str]) -> None:
    folders = [write(tmp_path / name, evaluate_made_up(np.full(6, 0.5), ground=0)) for name in "abc"]
    complete = render_board_text(make_board(read_results(folders)))
    assert "checksums" not in complete
    for name in old:
        without_checksums(tmp_path / name)
    text = render_board_text(make_board(read_results(folders)))
    assert text.startswith(complete)
    assert f"The confusion.npz of {', '.join(old)} holds no checksums of the references" in text
    write(tmp_path / "elsewhere", evaluate_made_up(np.full(6, 0.4), ground=1))
    with pytest.raises(DataError, match="scored on 2 versions of the references"):
        rank_results(read_results([*folders, without_checksums(tmp_path / "elsewhere")]))


def test_class_totals_alone_do_not_tell_which_version_it_was(tmp_path: Path) -> None:
    found = evaluate_made_up(np.full(6, 0.5))
    write(tmp_path / "a", found)
    assert found.reference_checksums is not None
    found.reference_checksums[2] += 1
    write(tmp_path / "b", found)
    without_checksums(write(tmp_path / "old", found))
    with pytest.raises(DataError) as caught:
        rank_results(read_results([tmp_path / name for name in ("a", "b", "old")]))
    assert "version 1: a" in str(caught.value)
    assert "version 2, which differs in D002_2020: b" in str(caught.value)
    assert "without checksums, by class totals version 1 or 2: old" in str(caught.value)


def test_a_terminal_without_accents_gets_the_table(tmp_path: Path) -> None:
    command = [sys.executable, RANK, result(tmp_path / "forêt", 0.6), "--output", tmp_path / "board.html"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"for\xeat" in done.stdout
    assert "forêt" in (tmp_path / "board.html").read_text(encoding="utf-8")


def test_all_that_are_no_results_are_named_at_once(tmp_path: Path) -> None:
    bad = result(tmp_path / "bad", None)
    (bad / "scores.json").write_text("{")
    done = rank(bad, result(tmp_path / "good", 0.6), tmp_path / "gone", output=tmp_path / "board.html")
    assert done.returncode == 2
    assert "(2 problems)" in done.stderr
    assert f"{bad}/scores.json: damaged" in done.stderr
    assert f"{tmp_path}/gone: no such folder; expected one with the output of score.py" in done.stderr


def test_columns_of_the_text_stand_below_each_other_in_every_script(tmp_path: Path) -> None:
    names = ("plain", "模型第一版", "e\u0301quipe")
    folders = [result(tmp_path / name, 0.6 - index / 10) for index, name in enumerate(names)]
    rows = render_board_text(make_board(read_results(folders))).splitlines()[1:4]
    gaps = {
        name: len(row.partition(name)[2]) - len(row.partition(name)[2].lstrip())
        for name, row in zip(names, rows, strict=True)
    }
    assert gaps == {"plain": 7, "模型第一版": 2, "e\u0301quipe": 6}  # 5, 10 and 6 cells wide


@pytest.mark.parametrize("name", ["scores.html", "timing.html", "detailed_results.html"])
def test_the_leaderboard_does_not_replace_what_it_ranks(tmp_path: Path, name: str) -> None:
    folder = result(tmp_path / "good", 0.6)
    (folder / "detailed_results.html").write_text("its page")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = rank(folder, output=folder / name)
    assert done.returncode == 2
    assert f"--output {folder / name}: would replace a file of a RESULT" in done.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_page_needs_a_name_of_its_own(tmp_path: Path) -> None:
    done = rank(result(tmp_path / "good", 0.6), output=tmp_path / "board.csv")
    assert done.returncode == 2
    assert "expected a name that ends with .html" in done.stderr
    (tmp_path / "board.html").mkdir()
    done = rank(tmp_path / "good", output=tmp_path / "board.html")
    assert done.returncode == 2
    assert "is a folder; expected the name of a page" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board.html", "good"]


def timed(folder: Path, miou: float, ratio: float, **facts: Any) -> Path:
    basis = {
        "device": {"kind": "cuda", "name": "H200"},
        "harness_sha256": "a" * 64,
        "reference_sha256": "b" * 64,
    }
    return result(folder, miou, ratio=ratio, **(basis | facts))


def test_times_of_another_device_program_or_reference_are_marked_and_not_compared(tmp_path: Path) -> None:
    folders = [
        timed(tmp_path / "usual", 0.60, 1.5),
        timed(tmp_path / "usual too", 0.61, 1.6),
        timed(tmp_path / "slow card", 0.60, 0.5, device={"kind": "cuda", "name": "V100"}),
        timed(tmp_path / "old clock", 0.62, 0.6, harness_sha256="c" * 64),
        timed(tmp_path / "other unit", 0.59, 0.7, reference_sha256=None),
        result(tmp_path / "untimed", 0.3),
    ]
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    marked = [line.split("0.")[0] for line in done.stdout.splitlines() if re.search(r"\d\*", line)]
    assert [line.strip() for line in marked] == ["1  old clock", "3  slow card", "5  other unit"]
    (note,) = [line for line in done.stdout.splitlines() if line.startswith("*")]
    assert "slow card (device V100 instead of H200)" in note
    assert "old clock (version of the ingestion program cccccccccccc instead of aaaaaaaaaaaa)" in note
    assert "other unit (reference submission unknown instead of bbbbbbbbbbbb)" in note
    board = json.loads((tmp_path / "board.json").read_text())["results"]
    assert [row["name"] for row in board if row["pareto"]] == ["usual too", "usual"]
    assert {row["name"]: row["time_comparable"] for row in board} == {
        **dict.fromkeys(("usual", "usual too"), True),
        **dict.fromkeys(("old clock", "slow card", "other unit"), False),
        "untimed": None,
    }
    assert [row["name"] for row in board][2:4] == ["usual", "slow card"]  # a tie in mIoU
    page = Outline((tmp_path / "board.html").read_text())
    assert any(text.startswith("* Timed on another basis than the 2 without a mark") for text in page.text)
    assert "slow card" not in page.text[page.text.index("mIoU and time") : page.text.index("Classes")]


def test_a_result_is_excluded_with_a_reason_that_everybody_sees(tmp_path: Path) -> None:
    good = write(tmp_path / "good", evaluate_made_up(np.full(6, 0.8)))
    cheat = write(tmp_path / "cheat", evaluate_made_up(np.full(6, 0.9), ground=1))
    failed = result(tmp_path / "failed", None, verdict="failed", reason="r")
    options = ["--exclude", "cheat", "--because", "work in gaps"]
    done = rank(good, cheat, failed, *map(Path, options), output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr  # its references do not matter any more
    lines = done.stdout.splitlines()
    assert lines[1].split()[:2] == ["1", "good"]
    assert lines[3].split()[:2] == ["cheat", f"{evaluate_made_up(np.full(6, 0.9), ground=1).miou:.4f}"]
    assert lines[3].endswith("excluded: work in gaps")
    rows = {row["name"]: row for row in json.loads((tmp_path / "board.json").read_text())["results"]}
    assert rows["cheat"]["left_out"] == "excluded: work in gaps"
    assert rows["cheat"]["miou"] > rows["good"]["miou"]
    assert "rank" not in rows["cheat"]
    assert "excluded: work in gaps" in (tmp_path / "board.csv").read_text()
    assert "excluded: work in gaps" in Outline((tmp_path / "board.html").read_text()).text
    for wrong, sentence in (
        (
            ["--exclude", "nobody", "--because", "x"],
            "--exclude: no result is named nobody; there are cheat,",
        ),
        (["--exclude", "cheat"], "each --exclude NAME needs a --because TEXT"),
    ):
        done = rank(good, cheat, failed, *map(Path, wrong), output=tmp_path / "board.html")
        assert done.returncode == 2
        assert sentence in done.stderr


@pytest.mark.parametrize(("rule", "ranked"), [("best", ["b1", "a2", "c"]), ("latest", ["a3", "c", "b2"])])
def test_one_result_of_each_participant_is_ranked(tmp_path: Path, rule: str, ranked: list[str]) -> None:
    scores = {"a1": 0.5, "a2": 0.61, "a3": 0.6, "b1": 0.7, "b2": 0.4, "c": 0.55}
    folders = [result(tmp_path / name, miou) for name, miou in scores.items()]
    folders.append(result(tmp_path / "a4", None, verdict="failed", reason="r"))
    lines = ["result,participant", "a1,Ann", "b1, Bob", "a2,Ann", "a3,Ann", "", "b2,Bob", "a4,Ann", "c,Cid"]
    (tmp_path / "who.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    options = ["--participants", str(tmp_path / "who.csv"), "--keep", rule]
    done = rank(*folders, *map(Path, options), output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "board.json").read_text())["results"]
    assert [row["name"] for row in rows if "rank" in row] == ranked
    left_out = {row["name"]: row["left_out"] for row in rows if "left_out" in row}
    assert left_out.keys() == scores.keys() - set(ranked)
    (bobs,) = set(ranked) & {"b1", "b2"}
    told = f"not ranked: {bobs} is the {rule} of the results of Bob that count"
    assert left_out[({"b1", "b2"} - {bobs}).pop()] == told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "who.csv: cannot be read"),
        ("good,Ann", "who.csv: the first line is 'good,Ann'; expected result,participant, with a comma"),
        ("result,participant\ngood\ngood,A\ngood,B", "(2 problems)"),
        ('result,participant\ngood,"Ann\nother,Ann', "who.csv: is not a csv file"),
        ('result,participant\ngood,"Ann\nother"', "line 2: expected the name of a result and a participant"),
        ("result,participant\ngood,Ann\nother,ann", "Ann and ann differ in capital letters only"),
        ("result,participant\ngood,Ann", "--participants: no line for other; expected one line for each"),
        (
            "result,participant\nelsewhere,Ann",
            "--participants: no result is named elsewhere; there are good",
        ),
        (b"\xff\xfe", "who.csv: is not text in UTF-8"),
    ],
)
def test_a_list_of_participants_that_is_wrong_is_refused(
    tmp_path: Path, text: str | bytes | None, sentence: str
) -> None:
    path = tmp_path / "who.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    folders = [result(tmp_path / "good", 0.6), result(tmp_path / "other", 0.5)]
    done = rank(*folders, Path("--participants"), path, output=tmp_path / "board.html")
    assert done.returncode == 2
    assert sentence in done.stderr


def test_of_two_equally_good_results_of_a_participant_the_faster_one_is_ranked(tmp_path: Path) -> None:
    folders = [timed(tmp_path / "slow", 0.6, 2.4), timed(tmp_path / "fast", 0.6, 0.5)]
    for reverse in (False, True):
        lines = sorted(["slow,T", "fast,T"], reverse=reverse)
        (tmp_path / "who.csv").write_text("\n".join(["result,participant", *lines]))
        options = map(Path, ["--participants", str(tmp_path / "who.csv")])
        done = rank(*folders, *options, output=tmp_path / "board.html")
        assert done.stdout.splitlines()[1].split()[:2] == ["1", "fast"]


def test_ties_are_broken_on_the_basis_of_those_that_are_ranked(tmp_path: Path) -> None:
    elsewhere = {"device": {"kind": "cuda", "name": "V100"}, "reference_seconds": 99.0}
    folders = [
        timed(tmp_path / "x slow", 0.6, 2.0, reference_seconds=3.0),
        timed(tmp_path / "y fast", 0.6, 1.0, reference_seconds=3.0),
        timed(tmp_path / "excluded", 0.9, 1.0, **elsewhere),
    ]
    folders += [timed(tmp_path / f"failed {n}", None, 3.0, **elsewhere, verdict="failed") for n in range(3)]
    done = rank(*folders, *map(Path, ["--exclude", "excluded", "--because", "x"]), output=tmp_path / "b.html")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("0.6")[0].split() for line in lines[1:3]] == [["1", "y", "fast"], ["1", "x", "slow"]]
    assert lines[3].split()[:3] == ["reference", "1.000", "3.00"]  # of the same device
    assert sum("3.000*" in line for line in lines) == 3


@pytest.mark.parametrize("name", ["\x1b[31mGPU\n* evil" + 3000 * "x", {"a": 1}])
def test_a_devices_name_is_one_short_line(tmp_path: Path, name: Any) -> None:
    folders = [timed(tmp_path / name, 0.6, 1.0) for name in ("one", "two")]
    folders.append(timed(tmp_path / "other", 0.5, 1.0, device={"name": name}, harness_sha256={"a": 1}))
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    (note,) = [line for line in done.stdout.splitlines() if line.startswith("*")]
    assert len(note) < 400
    assert "version of the ingestion program unknown instead of aaaaaaaaaaaa" in note


def test_what_has_no_matrices_is_named(tmp_path: Path) -> None:
    folders = [write(tmp_path / f"{n}", evaluate_made_up(np.full(6, 0.5 + n / 10))) for n in range(3)]
    (folders[1] / "confusion.npz").unlink()
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 0, done.stderr
    assert "there is no confusion.npz with domains beside the scores.json of 1." in done.stdout
    alone = rank(folders[0], output=tmp_path / "board.html")
    assert "No tests of differences: they need at least two results." in alone.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--exclude", "a", "--because", " "], "each --exclude NAME needs a --because TEXT"),
        (["--exclude", "a", "--because", "x"] * 2, "--exclude: a NAME is given twice"),
        (["--keep", "latest"], "--keep needs --participants FILE"),
        (["again"], "given twice: "),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    folders = [result(tmp_path / name, 0.5) for name in ("a", "b")]
    given = [str(folders[0]) if option == "again" else option for option in options]
    done = rank(*folders, *map(Path, given), output=tmp_path / "board.html")
    assert done.returncode == 2
    assert sentence in done.stderr


def test_results_of_other_classes_are_named(tmp_path: Path) -> None:
    folders = [result(tmp_path / name, 0.5) for name in ("a", "b", "other")]
    (folders[2] / "scores.json").write_text('{"miou": 0.5, "iou_greenhouse": 0.5, "iou_water": 0.5}')
    done = rank(*folders, output=tmp_path / "board.html")
    assert done.returncode == 2
    assert "1 classes: a, b" in done.stderr
    assert "2 classes: other" in done.stderr
