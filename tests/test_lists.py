"""A message about many files names ten of them, and says how many more there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluate import describe_failures
from flair_baseline.evaluation import End
from flair_baseline.submissions import find_submissions
from flair_ingestion.dataset import read_dates
from flair_scoring.base.errors import DataError, FlairError, list_names
from flair_scoring.pairing import PREDICTION, find_rasters


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, ""),
        (1, "0"),
        (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (11, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1 more"),
        (5010, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 5000 more"),
    ],
)
def test_ten_names_are_shown(count: int, expected: str) -> None:
    assert list_names([str(number) for number in range(count)]) == expected


def test_other_files_beside_submissions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.py").touch()
    for number in range(500):
        (tmp_path / f"notes_{number:03d}.txt").touch()
    find_submissions([tmp_path])
    assert "notes_009.txt and 490 more\n" in capsys.readouterr().err


def test_submissions_without_a_score() -> None:
    end = End(3, "no model.py")
    error = describe_failures({f"team_{number:03d}": end for number in range(300)}, 300)
    assert "team_009 (exit code 3) and 290 more" in str(error)
    assert str(error).count("\n") == 300  # each has its reason


def test_copies_of_one_prediction() -> None:
    files = [f"run_{number}/PRED_077413.tif" for number in range(200)]
    (problem,) = find_rasters(files, PREDICTION).problems
    assert problem.startswith("200 files for 077413: run_0/PRED_077413.tif, ")
    assert problem.endswith(" and 190 more")


def test_lines_without_a_date(tmp_path: Path) -> None:
    products = tmp_path / "products.txt"
    products.write_text("yesterday\n" * 5000)
    with pytest.raises(DataError) as refusal:
        read_dates(products)
    assert "line 10 ('yesterday') and 4990 more; expected names" in str(refusal.value)
    assert isinstance(refusal.value, FlairError)
