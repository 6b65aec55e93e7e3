"""Messages that name files name some of them, and say how many more there are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / name) for name in ("bundle", "starting_kit")]
import build
from check import Findings, _read_competition

import evaluate
from flair_ingestion.superarea import read_dates
from flair_scoring.errors import DataError, FlairError, list_names
from flair_scoring.pairing import PREDICTION, find_rasters

NAMES = [f"toy/flair_2_toy_aerial_train/D006_2020/Z1_AA/img/IMG_{number:06d}.tif" for number in range(900)]


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


def test_untracked_files_of_a_whole_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "untracked_files", lambda: NAMES)
    monkeypatch.setattr(build, "build", lambda output, *_: output.touch() or [])
    monkeypatch.setattr(build, "report", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["build.py", "--untrained-reference", "-o", str(tmp_path / "b.zip")])
    build.main()
    told = capsys.readouterr().err
    assert f"{NAMES[0]}, " in told
    assert "and 890 more" in told
    assert len(told) < 1000


def test_other_files_beside_submissions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.py").touch()
    for number in range(500):
        (tmp_path / f"notes_{number:03d}.txt").touch()
    evaluate.find_submissions([tmp_path])
    assert "notes_009.txt and 490 more\n" in capsys.readouterr().err


def test_submissions_without_a_score() -> None:
    end = evaluate.End(3, "no model.py")
    error = evaluate._failure({f"team_{number:03d}": end for number in range(300)}, 300)
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


def test_near_names_of_the_competition_file() -> None:
    class Archive:
        def namelist(self) -> list[str]:
            return [f"folder_{number}/competition.yaml" for number in range(40)]

    found = Findings([], [])
    assert _read_competition(Archive(), found) is None  # type: ignore[arg-type]
    assert found.problems[0].endswith("folder_9/competition.yaml and 30 more")
