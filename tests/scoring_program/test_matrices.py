"""Shards of an evaluation, scored apart, add up to the evaluation; anything else is refused."""

from __future__ import annotations

import dataclasses
import io
import os
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_patches import PLACES, Patches

from flair_scoring import Evaluation, evaluate
from flair_scoring.base.errors import DataError
from flair_scoring.nomenclature import FLAIR_18
from flair_scoring.outputs.matrices import encode_matrices, merge, read_domain_matrices, read_matrices
from flair_scoring.outputs.scores import make_scores

IDS = sorted(PLACES)
FIXTURES = [HealthCheck.function_scoped_fixture]  # each example writes its files anew


@pytest.fixture
def whole(patches: Patches) -> Evaluation:
    return evaluate(patches.predictions, patches.references)


def write_shard(path: Path, patches: Patches, ids: list[str]) -> Path:
    path.write_bytes(encode_matrices(evaluate(patches.predictions, patches.references, ids=ids)))
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=FIXTURES)
@given(shards=st.lists(st.integers(0, 3), min_size=4, max_size=4), order=st.randoms(use_true_random=False))
def test_any_partition_in_any_order_adds_up(
    patches: Patches, whole: Evaluation, tmp_path: Path, shards: list[int], order: object
) -> None:
    groups = [[id for id, shard in zip(IDS, shards, strict=True) if shard == group] for group in set(shards)]
    order.shuffle(groups)  # type: ignore[attr-defined]
    paths = [write_shard(tmp_path / f"{index}.npz", patches, ids) for index, ids in enumerate(groups) if ids]
    merged = merge(paths)
    for name in ("ids", "domains", "areas", "nomenclature", "interval"):
        assert getattr(merged, name) == getattr(whole, name)
    for name in ("matrices", "reference_checksums"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
        assert getattr(merged, name).dtype == np.uint32
    assert make_scores(merged, {}) == make_scores(whole, {})
    assert merged.notes[0] == f"Files that were scored apart and put together: {len(paths)}."


def test_notes_of_the_shards_are_kept(patches: Patches, whole: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(encode_matrices(dataclasses.replace(whole, notes=("1024 reference pixels hold 0",))))
    assert merge([path]).notes[1] == f"{path}: 1024 reference pixels hold 0"


def damage(**arrays: object) -> Callable[[Path], object]:
    """Another value for some arrays of a file, or no such array (None)."""

    def change(path: Path) -> None:
        kept = dict(np.load(path).items()) | arrays
        np.savez(path, **{name: value for name, value in kept.items() if value is not None})

    return change


def write_claim(path: Path, patches: int) -> None:
    """A small file whose header announces the matrices of that many patches."""
    header = io.BytesIO()
    shape = {"descr": "<u4", "fortran_order": False, "shape": (patches, 13, 13)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("matrices.npy", header.getvalue())


def write_members(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def damage_lzma(path: Path) -> None:
    write_members(path, [("matrices.npy", npy(np.arange(1000)))], zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)


def patch_text(path: Path) -> None:
    """A character beyond Unicode's last one in the notes."""
    notes = npy(np.array(["x"])).replace(b"x\0\0\0", b"\xff\xff\xff\x7f")
    others = {name: npy(array) for name, array in np.load(path).items() if name != "notes"}
    write_members(
        path, [(f"{name}.npy", content) for name, content in others.items()] + [("notes.npy", notes)]
    )


def platform(**arrays: object) -> Callable[[Path], object]:
    """A file as --platform writes it, with other values for some arrays."""

    def change(path: Path) -> None:
        kept = {name: np.load(path)[name] for name in ("schema", "kit_version", "commit", "nomenclature")}
        matrices = np.zeros((2, 13, 13), np.int64)
        matrices[:, 0, 0] = 512 * 512
        kept |= {"domains": np.array(["D001_2020", "D002_2020"]), "matrices": matrices}
        kept |= {"reference_checksums": np.array([1, 2], np.uint32)}
        np.savez(path, **kept | arrays)

    return change


def cells(*values: int) -> np.ndarray:
    """Two matrices with these numbers in their first cells."""
    matrices = np.zeros((2, 13, 13), np.int64)
    matrices[:, 0, 0] = 512 * 512
    matrices[0, 0, : len(values)] = values
    return matrices


MISFIT = "ids and matrices do not fit together"
CHECKSUM_MISFIT = "reference_checksums and matrices do not fit together"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
    "empty": (lambda path: path.write_bytes(b""), "not a whole confusion.npz"),
    "text": (lambda path: path.write_text("ids"), "not a whole confusion.npz"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not a whole confusion.npz"),
    "pipe": (
        lambda path: (path.unlink(), os.mkfifo(path)),
        "cannot be read (it is a pipe or a device, not a file)",
    ),
    "size beyond all memory": (lambda path: write_claim(path, 10**12), "not a whole confusion.npz"),
    "one array": (lambda path: np.save(path.open("wb"), np.eye(13)), "not a whole confusion.npz"),
    "pickle": (damage(ids=np.array(IDS, dtype=object)), "not a whole confusion.npz"),
    "other schema": (damage(schema=np.array(2)), "schema 2"),
    "no schema": (damage(schema=None), "schema None"),
    "platform": (damage(ids=None, areas=None, notes=None), "has no ids, as --platform writes it"),
    "no areas": (damage(areas=None), MISFIT),
    "other ids": (damage(ids=np.array(["1", "2", "3", "4"])), MISFIT),
    "doubled ids": (damage(ids=np.array(["077413"] * 4)), MISFIT),
    "fewer ids": (damage(ids=np.array(IDS[:3])), MISFIT),
    "fewer pixels": (damage(matrices=np.ones((4, 13, 13), np.uint32)), MISFIT),
    "fewer classes": (damage(matrices=np.full((4, 1, 1), 512 * 512, np.uint32)), MISFIT),
    "fewer checksums": (damage(reference_checksums=np.ones(3, np.uint32)), CHECKSUM_MISFIT),
    "one checksum": (damage(reference_checksums=np.array(1, np.uint32)), CHECKSUM_MISFIT),
    "long checksums": (damage(reference_checksums=np.ones(4, np.uint64)), CHECKSUM_MISFIT),
    "checksums in text": (damage(reference_checksums=np.array(["1"] * 4)), CHECKSUM_MISFIT),
    "unknown nomenclature": (damage(nomenclature=np.array("flair-13")), MISFIT),
}


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged LZMA": (damage_lzma, "not a whole confusion.npz"),
    "unfinished header": (
        lambda path: write_members(path, [("ids.npy", b"\x93NUMPY\x01\0\x10\0{'descr': '<u4',")]),
        "not a whole confusion.npz",
    ),
    "header of nested brackets": (
        lambda path: write_members(path, [("a.npy", b"\x93NUMPY\x01\0\xff\x1f" + b"[" * 8191)]),
        "not a whole confusion.npz",
    ),
    "bomb": (
        lambda path: write_members(path, [(f"{n}.npy", bytes(64 << 20)) for n in range(3)]),
        "not a whole confusion.npz",
    ),
    "no text": (patch_text, "not a whole confusion.npz"),
    "half a character": (damage(areas=np.array(["\ud800"] * 4)), "not a whole confusion.npz"),
    "two arrays of one name": (
        lambda path: write_members(path, [("ids.npy", npy(np.array(["077413"])))] * 2),
        "not a whole confusion.npz",
    ),
    "a nested schema": (
        damage(schema=np.array("x" * 10**6)),
        "schema 'xxxxxxxxxxxx...xxxxxxxxxxxxx', this kit",
    ),
    "escapes in a domain": (damage(domains=np.array(["\x1b[31mred"] * 4)), MISFIT),
    "negative counts": (platform(matrices=cells(-1, 512 * 512 + 1)), "domains and matrices do not fit"),
    "huge counts": (platform(matrices=cells(2**62)), "domains and matrices do not fit"),
    "counts that overflow": (platform(matrices=cells(2**62, 2**62, 2**62, 2**62)), "matrices do not fit"),
    "no pixels": (platform(matrices=cells(0)), "domains and matrices do not fit"),
    "part of a patch": (platform(matrices=cells(1)), "domains and matrices do not fit"),
    "doubled domains": (platform(domains=np.array(["D001_2020"] * 2)), "domains and matrices do not fit"),
    "other domains": (platform(domains=np.array(["a", "b"])), "domains and matrices do not fit"),
    "checksum of one domain": (platform(reference_checksums=np.ones(1, np.uint32)), CHECKSUM_MISFIT),
    "signed checksums": (platform(reference_checksums=np.ones(2, np.int32)), CHECKSUM_MISFIT),
    "numbered domains": (platform(domains=np.array([1, 2])), "domains and matrices do not fit"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_file_made_to_break_the_reader_is_refused(whole: Evaluation, tmp_path: Path, fault: str) -> None:
    change, sentence = BROKEN[fault]
    path = tmp_path / "confusion.npz"
    path.write_bytes(encode_matrices(whole))
    change(path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read_domain_matrices(path)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


def test_domains_are_paired_by_name_whatever_their_order_in_the_file(
    whole: Evaluation, tmp_path: Path
) -> None:
    path = tmp_path / "confusion.npz"
    path.write_bytes(encode_matrices(whole))
    platform(domains=np.array(["D002_2020", "D001_2020"]), matrices=cells(0, 512 * 512))(path)
    domains, checksums = read_domain_matrices(path)
    assert list(domains) == ["D001_2020", "D002_2020"]
    assert domains["D002_2020"][0, 1] == 512 * 512
    assert checksums == {"D001_2020": 2, "D002_2020": 1}


def test_checksums_of_the_references_are_those_of_the_masks_values(
    patches: Patches, whole: Evaluation, tmp_path: Path
) -> None:
    local, platform_file = tmp_path / "local.npz", tmp_path / "platform.npz"
    local.write_bytes(encode_matrices(whole))
    platform_file.write_bytes(encode_matrices(whole, per_domain=True))
    of_masks = {id: zlib.crc32(patches.masks[id].tobytes()) for id in IDS}
    stored = np.load(local)["reference_checksums"]
    assert (stored.tolist(), stored.dtype) == (list(of_masks.values()), np.uint32)

    of_domains: dict[str, int] = {}
    for id in IDS:
        domain = PLACES[id].split("/")[0]
        row = id.encode() + of_masks[id].to_bytes(4, "little")
        of_domains[domain] = zlib.crc32(row, of_domains.get(domain, 0))
    stored = np.load(platform_file)["reference_checksums"]
    assert (stored.tolist(), stored.dtype) == (list(of_domains.values()), np.uint32)
    assert read_domain_matrices(local)[1] == read_domain_matrices(platform_file)[1] == of_domains


def test_files_of_older_kits_without_checksums_are_read_and_merged(
    patches: Patches, whole: Evaluation, tmp_path: Path
) -> None:
    old = write_shard(tmp_path / "old.npz", patches, IDS[:2])
    damage(reference_checksums=None)(old)
    merged = merge([old, write_shard(tmp_path / "new.npz", patches, IDS[2:])])
    np.testing.assert_array_equal(merged.matrices, whole.matrices)
    assert merged.reference_checksums is None
    for per_domain in (False, True):
        old.write_bytes(encode_matrices(merged, per_domain))
        assert "reference_checksums" not in np.load(old)
        domains, checksums = read_domain_matrices(old)
        assert (list(domains), checksums) == (sorted(set(whole.domains)), {})


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_shard_is_refused(whole: Evaluation, tmp_path: Path, fault: str) -> None:
    change, sentence = FAULTS[fault]
    path = tmp_path / "confusion.npz"
    path.write_bytes(encode_matrices(whole))
    change(path)
    with pytest.raises(DataError) as caught:
        read_matrices(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


def test_all_that_does_not_add_up_is_in_one_report(
    patches: Patches, whole: Evaluation, tmp_path: Path
) -> None:
    one = write_shard(tmp_path / "one.npz", patches, IDS[:3])
    two = write_shard(tmp_path / "two.npz", patches, IDS[1:])
    more = tmp_path / "flair-18.npz"
    wider = np.pad(whole.matrices[:1], ((0, 0), (0, 6), (0, 6)))
    patch = dataclasses.replace(
        whole,
        nomenclature=FLAIR_18,
        ids=("000001",),
        domains=("",),
        areas=("",),
        matrices=wider,
        reference_checksums=None,
    )
    more.write_bytes(encode_matrices(patch))
    with pytest.raises(DataError) as caught:
        merge([one, two, one, tmp_path / "gone.npz", more])
    report = str(caught.value)
    assert "(4 problems)" in report
    assert f"{tmp_path / 'gone.npz'}: cannot be read" in report
    assert "a file is named twice" in report
    assert "several nomenclatures: flair-12, flair-18" in report
    assert f"{one} and {two} share 2 patches, the first {IDS[1]}" in report
