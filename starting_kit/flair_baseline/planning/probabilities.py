"""What trained models predict on the validation patches, kept on the disk: the material of a plan.

For each model and each set of views (`flair_baseline.model.views.VIEWS`) a file holds the mean probabilities
at every fourth pixel in both directions, as uint8 of 1/255: 213 kB a patch. The files are mapped into memory
and read whole only when a plan goes on: their checksums must then be those of state.json. An interrupted run
goes on at the patch where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from flair_baseline.model.ensemble import Member as Loaded
from flair_baseline.model.ensemble import Model
from flair_baseline.model.inference import prepare_inputs
from flair_baseline.model.views import VIEWS
from flair_baseline.packaging import Member, pack_ensemble, write_submission
from flair_ingestion.dataset import Patch, read_image, read_labels, read_superpatch
from flair_scoring.base.errors import UsageError
from flair_scoring.base.files import remove_files, write_file
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.raster import PATCH_SIZE

STEP, FIRST = 4, 2  # pixels FIRST, FIRST + STEP, … of rows and columns are kept
SIDE = PATCH_SIZE // STEP
CLASSES = len(FLAIR_12.classes_with_other)
ALL_VIEWS = "d4"  # the set that contains all others


class Requests(torch.utils.data.Dataset):
    """Patches as the platform hands them to a submission, in requests of `batch_size`."""

    def __init__(self, patches: Sequence[Patch], batch_size: int, window: int) -> None:
        self.batches = [patches[first : first + batch_size] for first in range(0, len(patches), batch_size)]
        self.window = window

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        patches = self.batches[index]
        windows = [read_superpatch(patch, self.window) for patch in patches]
        return {
            "aerial": torch.from_numpy(np.stack([read_image(patch) for patch in patches])),
            "sentinel": [torch.from_numpy(window.data) for window in windows],
            "sentinel_masks": [torch.from_numpy(window.masks) for window in windows],
            "sentinel_dates": [torch.from_numpy(window.dates) for window in windows],
            "metadata": [patch.metadata for patch in patches],
        }


def read_references(patches: Sequence[Patch]) -> np.ndarray:
    """The classes at the kept pixels, uint8 (N, SIDE * SIDE), 0..12."""
    kept = [FLAIR_12.index_of[read_labels(patch)[FIRST::STEP, FIRST::STEP]] for patch in patches]
    return np.stack(kept).reshape(len(patches), -1)


def keep_probabilities(
    member: Path, patches: Sequence[Patch], folder: Path, device: torch.device, batch_size: int
) -> dict[str, np.ndarray]:
    """Predict the patches from all eight views unless the files are there; returns views -> mapped file.

    `member` is a run or its weights. The arrays are uint8 (N, 13, SIDE, SIDE). Raises UsageError or DataError
    when `member` is no checkpoint, and when a file cannot be written.
    """
    files = pack_ensemble([Member(member, ALL_VIEWS)], batch_size)
    record = {
        "content": _hash(files),
        "patches": hash_patches(patches),
        "batch_size": batch_size,
        "device": device.type,
    }
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.json"
    shape = (len(patches), CLASSES, SIDE, SIDE)
    done, sums = _read_done(state, record)
    arrays = _open_kept(folder, shape, done, sums) if done else None
    if arrays is None:
        remove_files([state])  # first, or it would vouch for the files that are made now
        done, sums, arrays = 0, dict.fromkeys(VIEWS, 0), _make_files(folder, shape)
    if done < len(patches):
        with tempfile.TemporaryDirectory() as name:
            write_submission(Path(name) / "member", files)
            model = Model(Path(name) / "member", device)
        title = f"{member}: {len(VIEWS[ALL_VIEWS])} views"
        for batch in _read_batches(patches[done:], batch_size, model.superpatch_size, title):
            count = len(batch["aerial"])
            for views, means in _predict_views(model, batch, device).items():
                arrays[views][done : done + count] = content = means.cpu().numpy()
                sums[views] = zlib.crc32(content.tobytes(), sums[views])
            done += count
            for array in arrays.values():
                array.flush()
            write_file(state, json.dumps(record | {"done": done, "sums": sums}))
    return {views: np.load(folder / f"{views}.npy", mmap_mode="r") for views in VIEWS}


def _open_kept(
    folder: Path, shape: tuple[int, ...], done: int, sums: Mapping[str, int]
) -> dict[str, np.memmap] | None:
    """The files of an earlier run; None unless all are whole, with these sums of the first `done` patches."""
    try:
        arrays = {views: np.lib.format.open_memmap(folder / f"{views}.npy", "r+") for views in VIEWS}
    except (OSError, ValueError, EOFError):
        return None
    if any((one.shape, one.dtype) != (shape, np.uint8) for one in arrays.values()):
        return None
    found = dict.fromkeys(arrays, 0)
    for views, array in arrays.items():
        for patch in array[:done]:
            found[views] = zlib.crc32(patch.tobytes(), found[views])
    return arrays if found == sums else None


def _make_files(folder: Path, shape: tuple[int, ...]) -> dict[str, np.memmap]:
    """Files for probabilities with all their room on the disk, or UsageError and none of them.

    Where the disk has no room for a page of a mapped file, the kernel kills the process that writes to it.
    """
    paths = {views: folder / f"{views}.npy" for views in VIEWS}
    remove_files(paths.values())
    arrays = {}
    try:
        for views, path in paths.items():
            arrays[views] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        remove_files(paths.values())
        raise UsageError(
            f"{folder}: cannot take {len(paths) * math.prod(shape) / 2**20:.1f} MiB of probabilities "
            f"({error.strerror}); make room, choose another --work, or fewer --patches"
        ) from None
    return arrays


def _predict_views(model: Model, batch: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Mean probabilities of each set of views, uint8 (B, 13, SIDE, SIDE)."""
    member: Loaded = model.members[0]
    inputs = {name: one.to(device) for name, one in prepare_inputs(batch, member.settings).items()}
    sums: dict[str, Any] = dict.fromkeys(VIEWS, 0)
    for view in VIEWS[ALL_VIEWS]:
        with torch.inference_mode():
            probabilities = model.predict_view(member, inputs, view)
            pixels = (
                torch.arange(FIRST, PATCH_SIZE, STEP, device=device) * probabilities.shape[-1] // PATCH_SIZE
            )
            sampled = probabilities[:, :, pixels][..., pixels]
            for views in VIEWS:
                if view in VIEWS[views]:
                    sums[views] = sums[views] + sampled
    return {views: (255 / len(VIEWS[views]) * total).round().to(torch.uint8) for views, total in sums.items()}


def _read_batches(
    patches: Sequence[Patch], batch_size: int, window: int, title: str
) -> Iterator[dict[str, Any]]:
    requests = Requests(patches, batch_size, window)
    workers = min(len(requests), (os.cpu_count() or 1) - 1, 8)
    loader = DataLoader(requests, batch_size=None, num_workers=workers)
    yield from tqdm(loader, title, unit="request", dynamic_ncols=True, leave=False, disable=None)


def hash_patches(patches: Sequence[Patch]) -> str:
    """SHA-256 of ids, sizes and times of change of the patches' files: other data have other ones."""
    total = hashlib.sha256()
    for patch in patches:
        area = patch.super_area
        for path in (patch.image, patch.labels, area.data, area.masks, area.products):
            found = os.stat(path) if path else None
            total.update(f"{patch.id} {found and (found.st_size, found.st_mtime_ns)}\n".encode())
        total.update(json.dumps([patch.centroid, patch.metadata], default=str).encode())
    return total.hexdigest()


def _hash(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.encode() + hashlib.sha256(files[path]).digest())
    return total.hexdigest()


def _read_done(state: Path, record: Mapping[str, Any]) -> tuple[int, dict[str, int]]:
    """How many patches files of the same content hold already, and the checksum of each file's patches."""
    try:
        found = json.loads(state.read_text())
        done, sums = found.pop("done"), found.pop("sums")
        if found == record and isinstance(done, int) and done > 0 and sums.keys() == VIEWS.keys():
            return done, sums
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        pass  # not predicted yet, or the file is damaged
    return 0, {}
