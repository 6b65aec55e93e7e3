"""Every reader of a stranger's bytes returns a value or refuses them in a sentence of ours, within bounds.

Each reader gets damaged variants of files that it accepts. Whatever a library raises for them must become one
of the kit's own errors, with a message that people can read.
"""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from flair_ingestion.sandbox.child import Child
from flair_ingestion.session import BATCH_SIZES, _setting
from flair_ingestion.submission import open_submission
from flair_scoring.base.bounded_json import parse_json
from flair_scoring.base.bounded_yaml import parse_strangers_yaml
from flair_scoring.base.errors import DataError, PredictionError, SubmissionError, UsageError
from flair_scoring.base.provenance import stamp
from flair_scoring.base.settings import parse_settings
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.outputs.ingestion_output import IngestionOutput, open_platform_output, read_timing
from flair_scoring.outputs.manifest import verify_manifest, write_manifest
from flair_scoring.outputs.matrices import encode_matrices, read_domain_matrices, read_matrices
from flair_scoring.pairing import read_ids
from flair_scoring.ranking.results import read_results
from flair_scoring.ranking.standings import make_board
from flair_scoring.raster import RasterError, check_raster, read_raster
from flair_scoring.report.leaderboard import render_board_page
from flair_scoring.report.leaderboard_tables import render_board_csv, render_board_json, render_board_text
from flair_scoring.report.result import render_report
from flair_scoring.writing import write_results
from mutation import mutants

FEW, MANY = 150, 2_000
MAX_MEMORY = 160e6  # an npz may unpack to 128 MiB, all else to much less


@dataclass(frozen=True)
class Reader:
    """A function that reads a file, files that it accepts, and the errors with which it may refuse others."""

    read: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]
    refusals: tuple[type[Exception], ...]
    name: str = "file"
    accepts: bool = True  # whether it reads the seeds; if not, it stops later, where another file is missing


def evaluation() -> Evaluation:
    matrices = np.zeros((7, 13, 13), np.uint32)
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 1] = 512 * 400, 512 * 100, 512 * 12
    names = [f"D00{index}_2020" for index in range(7)]
    ids = tuple(f"{index:06d}" for index in range(7))
    checksums = np.arange(7, dtype=np.uint32)
    return Evaluation(FLAIR_12, ids, tuple(names), ("Z1_UU",) * 7, matrices, ("a note",), checksums)


def timing(**fields: Any) -> bytes:
    known = {"verdict": "within_limit", "reason": "1.2 s, fine", "inference_seconds": 1.25, "ratio": 0.5}
    known |= {"reference_seconds": 2.5, "limit_ratio": 2.5, "limit_seconds": None, "requests": 3}
    known |= {"latencies_ms": [400.0, 425.5, 424.5], "device": {"kind": "cpu", "name": "x"}}
    return json.dumps(stamp() | known | fields, indent=1).encode()


def zips(folder: Path) -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr("wrapping/model.py", b"class Model: ..." * 20)
            archive.writestr("wrapping/metadata.yaml", b"description: mine\n")
            archive.writestr("wrapping/wé", np.random.default_rng(0).bytes(300))
        made.append(stream.getvalue())
    return made


def tiffs(folder: Path) -> list[bytes]:
    labels = np.random.default_rng(0).integers(0, 13, (64, 64), np.uint8).repeat(8, 0).repeat(8, 1)
    made = []
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        stream = io.BytesIO()
        tags = {} if compression == "raw" else {278: 100}
        Image.fromarray(labels).save(stream, "TIFF", compression=compression, tiffinfo=tags)
        made.append(stream.getvalue())
    return made


def npzs(folder: Path) -> list[bytes]:
    return [encode_matrices(evaluation()), encode_matrices(evaluation(), per_domain=True)]


def manifest(folder: Path) -> list[bytes]:
    (folder / "timing.json").write_bytes(timing())
    write_manifest(folder, b"key")
    return [(folder / "manifest.json").read_bytes()]


def result(folder: Path) -> None:
    """Write a second result, which is ranked together with the one that is read."""
    (folder / "other").mkdir(exist_ok=True)
    write_results(folder / "other", evaluation(), IngestionOutput([], {}, None), per_domain=True)


def scores(folder: Path) -> list[bytes]:
    result(folder)
    (folder / "timing.json").write_bytes(timing())
    return [(folder / "other" / "scores.json").read_bytes()]


def times(folder: Path) -> list[bytes]:
    scores(folder)
    (folder / "scores.json").write_bytes((folder / "other" / "scores.json").read_bytes())
    return [timing(), timing(verdict="over_limit", latencies_ms=[], requests=0, limit_seconds=3)]


def rank(path: Path) -> None:
    board = make_board(read_results([path.parent, path.parent / "other"]))
    text = render_board_text(board)
    assert all(map(str.isprintable, text.split("\n"))), text
    for render in (render_board_csv, render_board_json, render_board_page):
        render(board)
    render_report(evaluation(), read_timing(path.parent))


def read_both_npz(path: Path) -> None:
    with suppress(DataError):
        read_matrices(path)
    read_domain_matrices(path)


def read_twice(path: Path) -> None:
    """The pixels must not depend on what the buffer held before."""
    check_raster(path)
    first, second = (read_raster(path, out=np.full((512, 512), fill, np.uint8)) for fill in (7, 9))
    np.testing.assert_array_equal(first, second)


def hear(path: Path) -> None:
    """Read a message of the submission's process as the parent does."""
    message = path.read_bytes()[: 1 << 16]
    try:
        event = parse_json(message)
    except ValueError:
        event = None
    if isinstance(event, dict) and isinstance(settings := event.get("loaded"), dict):
        _setting(settings, "batch_size", BATCH_SIZES, "1 to 32")
    raise Child.failure(None, message, "predicting")  # type: ignore[arg-type]


def messages(folder: Path) -> list[bytes]:
    failed = {"sentence": "ValueError: no\nsuch", "frames": ["model.py, line 3, in predict", "x"]}
    told = [{"failed": failed}, {"loaded": {"batch_size": 7, "superpatch_size": 40}}, {"failed": [[failed]]}]
    return [json.dumps(one).encode() for one in told]


def text(*contents: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [content.encode() for content in contents]


CONFIG = "a: 1\nb: [1.5, x, '2']\nc: &a {d: 2021-06-15, e: 0x1F}\nf:\n  - |\n    text\n  - yes\n"
ALIASES = CONFIG + "g: *a\nh: {<<: *a, e: !!float 1}\n"
RECORD = yaml.safe_dump({"exitCode": None, "ingestionExitCode": 0, "elapsedTime": 1.5})
READERS = {
    "zip": Reader(lambda path: open_submission(path, 2), zips, (SubmissionError,)),
    "strangers' YAML": Reader(
        lambda path: parse_strangers_yaml(path.read_bytes()), text(CONFIG), (ValueError,)
    ),
    "own YAML": Reader(lambda path: parse_settings(path.read_bytes()), text(CONFIG, ALIASES), (ValueError,)),
    "the worker's record": Reader(
        lambda path: open_platform_output(path.parent, b"key"),
        text(RECORD),
        (PredictionError,),
        "metadata",
        accepts=False,
    ),
    "npz": Reader(read_both_npz, npzs, (DataError,)),
    "TIFF": Reader(read_twice, tiffs, (RasterError,)),
    "timing.json": Reader(rank, times, (PredictionError, DataError), "timing.json"),
    "scores.json": Reader(rank, scores, (DataError, UsageError), "scores.json"),
    "manifest.json": Reader(
        lambda path: verify_manifest(path.parent, None), manifest, (PredictionError,), "manifest.json"
    ),
    "messages": Reader(hear, messages, (SubmissionError,), accepts=False),
    "ids": Reader(read_ids, text("077413\n077414\n", "000001"), (UsageError,)),
}


def feed(reader: Reader, folder: Path, count: int, seed: int) -> None:
    """Let it read `count` variants. Any other exception fails the test, and so does a bad message."""
    seeds, path, refused = reader.seeds(folder), folder / reader.name, 0
    for content in seeds:
        path.write_bytes(content)
        if reader.accepts:
            reader.read(path)
    for number, content in enumerate(mutants(seeds, count, seed)):
        path.write_bytes(content)
        try:
            reader.read(path)
        except reader.refusals as error:
            message = str(error)
            refused += 1
            assert 10 < len(message) < 6000, message[:1000]
            assert "Traceback" not in message
        except BaseException as error:
            error.add_note(f"variant {number} of {count}, seed {seed}: {content[:300]!r}, kept in {path}")
            raise
    assert refused > count / 20


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes_are_read_or_refused_in_our_own_words(name: str, tmp_path: Path) -> None:
    feed(READERS[name], tmp_path, FEW, seed=2022)


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_bytes_are_read_or_refused_within_bounds(name: str, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        feed(READERS[name], tmp_path, MANY, seed=1)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()
