from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio

from flair_ingestion import predictions
from flair_ingestion.predictions import Spool, check_output, write_output
from flair_scoring.base.errors import UsageError
from flair_scoring.outputs.manifest import verify_manifest


def patches(*ids: str) -> Any:
    return [SimpleNamespace(id=id) for id in ids]


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 13, (3, 512, 512), dtype=np.uint8)


def spool_of(labels: np.ndarray, *ids: str) -> Spool:
    """A spool with one attempt."""
    spool = Spool(len(ids), 1)
    spool.begin_attempt()
    spool.add(patches(*ids), labels)
    return spool


@pytest.mark.parametrize("platform", [False, True])
def test_what_is_written_is_what_was_predicted(tmp_path: Path, labels: np.ndarray, platform: bool) -> None:
    """Each attempt has its own labels, and the ids are in order, whatever the order of the run."""
    output = tmp_path / "a" / "output"
    ids = ("077420", "077413", "077414")
    with Spool(3, 3) as spool:
        spool.begin_attempt()
        spool.add(patches(*ids), np.zeros_like(labels))
        spool.begin_attempt()
        spool.add(patches(*ids[:2]), labels[:2])
        spool.add(patches(*ids[2:]), labels[2:])
        spool.begin_attempt()
        spool.add(patches(*ids[:1]), labels[2:])
        write_output(output, {"verdict": "within_limit"}, spool.files(1), None, platform)
    assert (output / "ids.txt").read_text().split() == sorted(ids)
    for id, expected in zip(ids, labels, strict=True):
        with rasterio.open(output / f"predictions/PRED_{id}.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), expected)
    assert len(verify_manifest(output, None)["files"]) == 5
    assert os.listdir(tmp_path / "a") == ["output"]


def test_many_predictions_come_in_their_order(labels: np.ndarray) -> None:
    ids = [f"{number:06d}" for number in range(150)]
    with Spool(len(ids), 1) as spool:
        spool.begin_attempt()
        for id in ids:
            spool.add(patches(id), labels[int(id) % 3][None])
        found = list(spool.files(0))
    assert [id for id, _ in found] == ids
    assert [encoded == found[int(id) % 3][1] for id, encoded in found] == [True] * len(ids)


def test_the_share_of_pixels_in_which_attempts_differ(labels: np.ndarray) -> None:
    other = labels.copy()
    other[0, :100] = (other[0, :100] + 1) % 13
    other[1, :, :37] = 12 - other[1, :, :37]
    with Spool(3, 2) as spool:
        for attempt in (labels, other):
            spool.begin_attempt()
            spool.add(patches("077413", "077414", "077420"), attempt)
        assert spool.difference(0, 1) == spool.difference(1, 0) == pytest.approx((labels != other).mean())
        assert spool.difference(1, 1) == 0


def test_the_room_for_all_attempts_is_taken_at_the_start() -> None:
    with Spool(10, 3) as spool:
        status = os.fstat(spool._file.fileno())
        assert status.st_blocks * 512 >= status.st_size == 3 * 10 * 512 * 512 // 2


def test_without_that_room_nothing_starts() -> None:
    with pytest.raises(UsageError, match=r"no room for .* MiB of predictions .*; make room, or set TMPDIR"):
        Spool(1 << 30, 3)


def test_a_failure_replaces_the_predictions_of_an_earlier_run(tmp_path: Path, labels: np.ndarray) -> None:
    output = tmp_path / "output"
    with spool_of(labels[:1], "077413") as spool:
        write_output(output, {}, spool.files(0), None, False)
    (output / "scores.json").write_text("{}")
    check_output(output, [], platform=False)
    write_output(output, {"verdict": "failed"}, None, b"key", False)
    assert sorted(os.listdir(output)) == ["manifest.json", "timing.json"]
    assert list(verify_manifest(output, b"key")["files"]) == ["timing.json"]


def test_an_output_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "output"
    write_output(output, {"verdict": "within_limit"}, None, None, False)
    monkeypatch.setattr(predictions, "_fill", lambda folder, *rest: folder.rmdir())
    with pytest.raises(UsageError, match="cannot be written"):
        write_output(output, {"verdict": "failed"}, None, None, False)
    assert json.loads((output / "timing.json").read_text()) == {"verdict": "within_limit"}
    assert os.listdir(tmp_path) == ["output"]


def test_on_the_platform_whatever_lies_in_output_is_deleted_and_no_link_followed(tmp_path: Path) -> None:
    output, outside = tmp_path / "output", tmp_path / "outside"
    (output / "predictions").mkdir(parents=True)
    (output / "predictions/PRED_077413.tif").write_text("shipped")
    outside.mkdir()
    (outside / "kept").touch()
    (output / "link").symlink_to(outside)
    (output / "timing.json").symlink_to(outside / "kept")
    check_output(output, [outside], platform=True)
    write_output(output, {"verdict": "failed"}, None, b"key", True)
    assert sorted(os.listdir(output)) == ["manifest.json", "timing.json"]
    assert (outside / "kept").read_text() == ""


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("data", "overlaps"),
        ("data/inside", "overlaps"),
        (".", "overlaps"),
        ("link to data/x", "overlaps"),
        ("file", "is not a folder"),
        ("mine", "holds files that ingestion did not write"),
        ("other manifest", "holds files that ingestion did not write"),
    ],
)
def test_output_is_refused(tmp_path: Path, output: str, sentence: str) -> None:
    for name in ("data", "mine", "other manifest"):
        (tmp_path / name).mkdir()
    (tmp_path / "link to data").symlink_to(tmp_path / "data")
    (tmp_path / "file").touch()
    (tmp_path / "mine/thesis.tex").touch()
    (tmp_path / "other manifest/manifest.json").write_text(json.dumps({"name": "a web page"}))
    with pytest.raises(UsageError, match=sentence):
        check_output(tmp_path / output, [tmp_path / "data"], platform=False)
    if sentence == "overlaps":
        with pytest.raises(UsageError, match=sentence):
            check_output(tmp_path / output, [tmp_path / "data"], platform=True)


def test_a_mount_point_is_refused_at_once_since_it_cannot_be_replaced() -> None:
    with pytest.raises(UsageError, match="/proc: is a mount point"):
        check_output(Path("/proc"), [], platform=False)


def test_absent_and_empty_folders_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for output in ("absent", "absent/too", "empty", "dataset"):
        check_output(tmp_path / output, [tmp_path / "data"], platform=False)
