"""What stands in the folder of results before anything is scored: nothing that scoring wrote before."""

from __future__ import annotations

from pathlib import Path

import pytest

from flair_scoring.base.errors import UsageError
from flair_scoring.outputs.manifest import write_manifest
from flair_scoring.writing import prepare_output

WRITTEN = ("confusion.npz", "detailed_results.html", "scores.json")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder with what scoring writes, and a file of somebody else."""
    folder = tmp_path / "output"
    folder.mkdir()
    for name in (*WRITTEN, "timing.json", "notes.txt"):
        (folder / name).write_text("of an earlier run")
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("predictions", ["predictions", "output/predictions", None])
def test_nothing_of_an_earlier_run_is_left(output: Path, tmp_path: Path, predictions: str | None) -> None:
    prepare_output(output, tmp_path / predictions if predictions else None)
    assert names(output) == {"notes.txt"}


def test_the_time_of_the_predictions_in_the_same_folder_is_kept(output: Path) -> None:
    prepare_output(output, output.parent / "output/../output")
    assert names(output) == {"timing.json", "notes.txt"}


@pytest.mark.parametrize("predictions", [".", "predictions"])
def test_what_ingestion_wrote_is_kept(output: Path, predictions: str) -> None:
    write_manifest(output, None)
    prepare_output(output, output / predictions)
    assert names(output) == {"timing.json", "manifest.json", "notes.txt"}


@pytest.mark.parametrize("predictions", ["predictions", None])
def test_the_output_of_another_ingestion_is_left_alone(
    output: Path, tmp_path: Path, predictions: str | None
) -> None:
    write_manifest(output, None)
    before = names(output)
    with pytest.raises(
        UsageError, match=r"output: holds a manifest\.json, as another ingestion writes it; choose another"
    ):
        prepare_output(output, tmp_path / predictions if predictions else None)
    assert names(output) == before


def test_what_cannot_be_removed_is_named(output: Path) -> None:
    (output / "scores.json").unlink()
    (output / "scores.json").mkdir()
    with pytest.raises(UsageError, match=r"scores.json: cannot be removed \(Is a directory\); remove it, or"):
        prepare_output(output, None)
