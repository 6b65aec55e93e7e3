"""confusion.npz, the confusion matrices of an evaluation as a file, and its shards put together again."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.errors import DataError, list_problems
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import NOMENCLATURES
from flair_scoring.provenance import check_stamp, stamp
from flair_scoring.raster import PATCH_SIZE

NAME = "confusion.npz"
_TEXTS = ("ids", "domains", "areas", "notes")


def encode_matrices(evaluation: Evaluation, per_domain: bool = False) -> bytes:
    """npz with `ids`, `domains`, `areas`, `matrices` uint32 (N, K+1, K+1), one per patch, `notes`, the stamp.

    With `per_domain` only `domains`, `matrices` int64 (D, K+1, K+1) and the stamp: the rows of a patch's
    matrix would tell participants how many pixels of each class its hidden mask has.
    """
    if per_domain:
        domains = evaluation.domain_matrices
        arrays: dict[str, Any] = {
            "domains": np.array(list(domains)),
            "matrices": np.stack(list(domains.values())),
        }
    else:
        arrays = {name: np.array(getattr(evaluation, name), dtype=str) for name in _TEXTS}
        arrays["matrices"] = evaluation.matrices
    buffer = io.BytesIO()
    arrays |= {name: np.array(value) for name, value in stamp(evaluation.nomenclature.name).items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_matrices(path: Path) -> Evaluation:
    """The evaluation that `encode_matrices` wrote, one matrix per patch; DataError for any other file."""
    arrays = _read(path)
    if "ids" not in arrays and "domains" in arrays:
        raise DataError(f"{path}: has no ids, as --platform writes it; score again without --platform")
    return _make_evaluation(arrays, path)


def read_domain_matrices(path: Path) -> dict[str, np.ndarray]:
    """Sum over each domain, int64 (K+1, K+1) by domain, of either kind of file; DataError for any other."""
    arrays = _read(path)
    if "ids" in arrays:
        return _make_evaluation(arrays, path).domain_matrices
    domains, matrices = arrays.get("domains", np.empty(0)), arrays.get("matrices", np.empty(0))
    nomenclature = NOMENCLATURES.get(str(arrays.get("nomenclature")))
    side = nomenclature.other + 1 if nomenclature else 0
    if matrices.shape != (domains.size, side, side) or matrices.dtype != np.int64 or domains.ndim != 1:
        raise DataError(f"{path}: domains and matrices do not fit together; score its predictions again")
    return dict(zip(domains.tolist(), matrices, strict=True))


def _make_evaluation(arrays: dict[str, np.ndarray], path: Path) -> Evaluation:
    if not _is_whole(arrays):
        raise DataError(f"{path}: ids and matrices do not fit together; score its predictions again")
    texts = {name: tuple(arrays[name].tolist()) for name in _TEXTS}
    nomenclature = NOMENCLATURES[str(arrays["nomenclature"])]
    return Evaluation(nomenclature=nomenclature, matrices=arrays["matrices"], **texts)


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz of ours."""
    try:
        if path.is_fifo():
            raise OSError(0, "it is a pipe")  # which would block
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file.items())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a {NAME} of score.py"
        ) from None
    except (  # of a file that is damaged, encrypted, packed in another way or claims a size beyond all memory
        *(ValueError, EOFError, TypeError, MemoryError, RuntimeError, NotImplementedError),
        *(zipfile.BadZipFile, zlib.error),
    ):
        raise DataError(f"{path}: not a whole {NAME} of score.py; score its predictions again") from None
    check_stamp({name: array.item() for name, array in arrays.items() if array.ndim == 0}, path)
    return arrays


def merge(paths: Sequence[Path]) -> Evaluation:
    """One evaluation from shards of it, each a confusion.npz over other patches: the same as scored at once.

    Raises DataError with all problems: files that are damaged, of several nomenclatures, or share patches.
    """
    shards: dict[Path, Evaluation] = {}
    problems = []
    for path in paths:
        try:
            shards[path] = read_matrices(path)
        except DataError as error:
            problems.append(str(error))
    if len(shards) + len(problems) < len(paths):
        problems.append("a file is named twice")
    names = {shard.nomenclature.name for shard in shards.values()}
    if len(names) > 1:
        problems.append(f"several nomenclatures: {', '.join(sorted(names))}")
    for (first, one), (second, other) in combinations(shards.items(), 2):
        if shared := sorted(set(one.ids) & set(other.ids)):
            problems.append(f"{first} and {second} share {len(shared)} patches, the first {shared[0]}")
    if problems:
        raise DataError(list_problems("the files do not add up to one evaluation", problems))
    return _concatenate(shards)


def _is_whole(arrays: dict[str, np.ndarray]) -> bool:
    """All arrays are there and agree: an id, a domain, an area and 512 x 512 pixels for every matrix."""
    try:
        matrices = arrays["matrices"]
        patches, side = len(matrices), NOMENCLATURES[str(arrays["nomenclature"])].other + 1
        ids = arrays["ids"].tolist()
        return (
            matrices.dtype == np.uint32
            and matrices.shape == (patches, side, side)
            and bool((matrices.sum(axis=(1, 2)) == PATCH_SIZE**2).all())
            and all(arrays[name].shape == (patches,) for name in ("ids", "domains", "areas"))
            and all(arrays[name].dtype.kind == "U" for name in _TEXTS)
            and len(set(ids)) == patches > 0
            and all(re.fullmatch(r"\d{6}", id, re.ASCII) for id in ids)
        )
    except (KeyError, IndexError, TypeError):
        return False


def _concatenate(shards: dict[Path, Evaluation]) -> Evaluation:
    parts = list(shards.values())
    ids = [id for part in parts for id in part.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    domains = [domain for part in parts for domain in part.domains]
    areas = [area for part in parts for area in part.areas]
    return Evaluation(
        nomenclature=parts[0].nomenclature,
        ids=tuple(ids[place] for place in order),
        domains=tuple(domains[place] for place in order),
        areas=tuple(areas[place] for place in order),
        matrices=np.concatenate([part.matrices for part in parts])[order],
        notes=(
            f"Files that were scored apart and put together: {len(parts)}.",
            *(f"{path}: {note}" for path, part in shards.items() for note in part.notes),
        ),
    )
