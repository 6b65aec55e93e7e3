"""confusion.npz: the confusion matrices of an evaluation in a file, and several such files added up."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from flair_scoring.base.bounded_zip import open_zip, read_entry
from flair_scoring.base.errors import DataError, list_problems
from flair_scoring.base.files import read_file
from flair_scoring.base.provenance import check_stamp, stamp
from flair_scoring.evaluation import Evaluation
from flair_scoring.nomenclature import NOMENCLATURES
from flair_scoring.pairing import AREA, DOMAIN
from flair_scoring.raster import PATCH_SIZE

NAME = "confusion.npz"
_TEXTS = ("ids", "domains", "areas", "notes")
_CHECKSUMS = "reference_checksums"
_MAX_BYTES = 128 << 20  # packed or not; all of FLAIR, 77,762 patches, takes 113 MB with the most classes
_MAX_ARRAYS = 32
_MAX_DOMAINS = 500  # France has 96 departments; the permutation tests take 0.5 MB for each domain
_MAX_COUNT = 1 << 40  # pixels in one cell; France has 1.4 * 10^13 at 20 cm


def encode_matrices(evaluation: Evaluation, per_domain: bool = False) -> bytes:
    """The content of confusion.npz.

    The arrays are `ids`, `domains`, `areas` and `notes`, `matrices` uint32 (N, K+1, K+1), one for each patch,
    and the fields of the stamp. With `per_domain` they are only `domains`, `matrices` int64 (D, K+1, K+1) and
    the stamp, for the matrix of a patch would tell participants how many pixels of each class its hidden mask
    has. In both cases `reference_checksums` are added, uint32 (N,) or (D,), if the evaluation has them.
    """
    checksums = evaluation.reference_checksums
    if per_domain:
        domains = evaluation.domain_matrices
        arrays: dict[str, Any] = {
            "domains": np.array(list(domains)),
            "matrices": np.stack(list(domains.values())),
        }
    else:
        arrays = {name: np.array(getattr(evaluation, name), dtype=str) for name in _TEXTS}
        arrays["matrices"] = evaluation.matrices
    if checksums is not None:
        of_domains = list(evaluation.domain_checksums.values())
        arrays[_CHECKSUMS] = np.array(of_domains, np.uint32) if per_domain else checksums
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


def read_domain_matrices(path: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The matrices, int64 (K+1, K+1), and the checksums of the references, both by domain.

    `path` may be of either kind that `encode_matrices` writes. Files of older versions of the kit have no
    checksums: the second result is empty. Raises DataError for any other file.
    """
    arrays = _read(path)
    if "ids" in arrays:
        evaluation = _make_evaluation(arrays, path)
        return evaluation.domain_matrices, evaluation.domain_checksums
    domains, matrices = arrays.get("domains", np.empty(0)), arrays.get("matrices", np.empty(0))
    nomenclature = NOMENCLATURES.get(str(arrays.get("nomenclature")))
    shape = nomenclature.matrix_shape if nomenclature else (0, 0)
    if (
        matrices.shape != (domains.size, *shape)
        or matrices.dtype != np.int64
        or domains.ndim != 1
        or not _have_form(domains, DOMAIN)
        or not 0 < len(set(domains.tolist())) == domains.size <= _MAX_DOMAINS
        or not 0 <= matrices.min() <= matrices.max() <= _MAX_COUNT
        or not _are_patches(matrices.sum(axis=(1, 2)))
    ):
        raise DataError(f"{path}: domains and matrices do not fit together; score its predictions again")
    checksums = _find_checksums(arrays, path)
    names, order = domains.tolist(), np.argsort(domains)
    return (
        {names[index]: matrices[index] for index in order},
        {} if checksums is None else {names[index]: int(checksums[index]) for index in order},
    )


def _find_checksums(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray | None:
    """One checksum for each matrix, uint32; None if an older kit wrote the file. DataError if they misfit."""
    checksums, count = arrays.get(_CHECKSUMS), len(arrays["matrices"])
    if checksums is None or (checksums.dtype == np.uint32 and checksums.shape == (count,)):
        return checksums
    raise DataError(f"{path}: {_CHECKSUMS} and matrices do not fit together; score its predictions again")


def _have_form(names: np.ndarray, form: re.Pattern[str]) -> bool:
    """Whether each name has that form, or is empty because the reference lies in no such folder."""
    different = set(names.tolist())  # far fewer than names
    return names.dtype.kind == "U" and all(not name or form.fullmatch(name) for name in different)


def _are_patches(pixels: np.ndarray) -> bool:
    """Whether each number of pixels is that of one or more whole patches."""
    return bool((pixels > 0).all() and (pixels % PATCH_SIZE**2 == 0).all())


def _make_evaluation(arrays: dict[str, np.ndarray], path: Path) -> Evaluation:
    if not _is_whole(arrays):
        raise DataError(f"{path}: ids and matrices do not fit together; score its predictions again")
    texts = {name: tuple(arrays[name].tolist()) for name in _TEXTS}
    nomenclature = NOMENCLATURES[str(arrays["nomenclature"])]
    return Evaluation(
        nomenclature=nomenclature,
        matrices=arrays["matrices"],
        reference_checksums=_find_checksums(arrays, path),
        **texts,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a confusion.npz; DataError for any other file."""
    try:
        content = read_file(path, _MAX_BYTES)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a {NAME} of score.py"
        ) from None
    try:
        arrays = _decode(content)
    except Exception:  # what numpy raises for a damaged header is not documented
        raise DataError(f"{path}: not a whole {NAME} of score.py; score its predictions again") from None
    check_stamp({name: array.item() for name, array in arrays.items() if array.ndim == 0}, path)
    return arrays


def _decode(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz by name. No array takes more memory than the file holds bytes for it."""
    with open_zip(content) as archive:
        entries = archive.infolist()
        names = [entry.filename.removesuffix(".npy") for entry in entries]
        if not len(set(names)) == len(names) <= _MAX_ARRAYS:
            raise ValueError("too many arrays, or two of one name")
        if sum(entry.file_size for entry in entries) > _MAX_BYTES:
            raise ValueError("unpacks to too much")
        arrays = [_decode_array(read_entry(archive, entry, entry.file_size)) for entry in entries]
    return dict(zip(names, arrays, strict=True))


def _decode_array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, columns_first, dtype = readers[version](stream)
    if dtype.kind not in "Uiuf" or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("is not an array of texts or numbers of that size")
    order: Any = "F" if columns_first else "C"
    array: np.ndarray = np.ndarray(shape, dtype, content, stream.tell(), order=order)
    if dtype.kind == "U":
        "".join(array.ravel().tolist()).encode()  # ValueError if a character cannot be encoded
    return array


def merge(paths: Sequence[Path]) -> Evaluation:
    """Add up evaluations of different patches: the result is that of all patches scored at once.

    A path is a confusion.npz or the folder of one. The evaluation has checksums of the references if all
    shards have them. Raises DataError with all problems: folders without a confusion.npz, files that are
    damaged, of several nomenclatures, or share patches.
    """
    shards: dict[Path, Evaluation] = {}
    problems = []
    for path in paths:
        if path.is_dir() and not (path / NAME).exists():
            problems.append(f"{path}: holds no {NAME}; score this shard again, its page says why it failed")
            continue
        file = path / NAME if path.is_dir() else path
        try:
            shards[file] = read_matrices(file)
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
    """Whether all arrays are there, with an id, a domain, an area and 512 x 512 pixels for every matrix."""
    try:
        matrices = arrays["matrices"]
        patches, shape = len(matrices), NOMENCLATURES[str(arrays["nomenclature"])].matrix_shape
        ids = arrays["ids"].tolist()
        return (
            matrices.dtype == np.uint32
            and matrices.shape == (patches, *shape)
            and bool((matrices.sum(axis=(1, 2)) == PATCH_SIZE**2).all())
            and all(arrays[name].shape == (patches,) for name in ("ids", "domains", "areas"))
            and all(arrays[name].dtype.kind == "U" for name in _TEXTS)
            and _have_form(arrays["domains"], DOMAIN)
            and _have_form(arrays["areas"], AREA)
            and len(set(arrays["domains"].tolist())) <= _MAX_DOMAINS
            and arrays["notes"].ndim == 1
            and len(set(ids)) == patches > 0
            and set(map(len, ids)) == {6}
            and re.fullmatch(r"\d*", "".join(ids), re.ASCII) is not None
        )
    except (KeyError, IndexError, TypeError):
        return False


def _concatenate(shards: dict[Path, Evaluation]) -> Evaluation:
    parts = list(shards.values())
    ids = [id for part in parts for id in part.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    domains = [domain for part in parts for domain in part.domains]
    areas = [area for part in parts for area in part.areas]
    checksums = [part.reference_checksums for part in parts if part.reference_checksums is not None]
    return Evaluation(
        nomenclature=parts[0].nomenclature,
        ids=tuple(ids[index] for index in order),
        domains=tuple(domains[index] for index in order),
        areas=tuple(areas[index] for index in order),
        matrices=np.concatenate([part.matrices for part in parts])[order],
        notes=(
            f"Files that were scored apart and put together: {len(parts)}.",
            *(f"{path}: {note}" for path, part in shards.items() for note in part.notes),
        ),
        reference_checksums=np.concatenate(checksums)[order] if len(checksums) == len(parts) else None,
    )
