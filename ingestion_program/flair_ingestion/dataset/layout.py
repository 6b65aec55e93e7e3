"""The layout of FLAIR #2 on disk: names of its folders, ids of its splits, and mistakes in naming DATA.

The folders have the names that IGN or the toy data set gives them. Training and validation share their
folders and are told apart by domain.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.files import require_folder
from flair_scoring.pairing import DOMAIN

KINDS = ("aerial", "sen", "labels")
SPLITS = ("train", "val", "test")
# The validation split of the data card; the csv of FLAIR #1 has D070_2020 in place of D077_2021
VALIDATION_DOMAINS = frozenset(
    ("D004_2021", "D014_2020", "D029_2021", "D031_2019", "D058_2020", "D066_2021", "D067_2021", "D077_2021")
)
LAST_TRAINING_ID, FIRST_TEST_ID = 61712, 77413  # in between lies the test set of FLAIR #1
PACKED_DOMAIN = re.compile(r"D\d{3}_\d{4}.*\.zip", re.ASCII)
_DEPTH = 3  # levels between the folder of an archive and that of an area's images


def find_split(id: str, domain: str) -> str | None:
    """The split of a patch, by its 6-digit id and its domain; None if FLAIR #2 has no such patch."""
    number = int(id) if id.isdecimal() else 0
    if number >= FIRST_TEST_ID:
        return "test"
    if not 1 <= number <= LAST_TRAINING_ID:
        return None
    return "val" if domain in VALIDATION_DOMAINS else "train"


def root_names(kind: str, split: str) -> tuple[str, str]:
    """Both names of the folder with the "aerial", "sen" or "labels" of a split: IGN's, the toy data set's."""
    if split == "test":
        return f"flair_2_{kind}_test", f"flair_2_toy_{kind}_test"
    return f"flair_{kind}_train", f"flair_2_toy_{kind}_train"


def find_roots(data: Path, kind: str, split: str) -> list[Path]:
    """Folders in `data` with the "aerial", "sen" or "labels" of that split; sound data have exactly one.

    Raises UsageError if there is no split of that name.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    return [data / name for name in root_names(kind, split) if (data / name).is_dir()]


def find_root(data: Path, kind: str, split: str, problems: list[str]) -> Path | None:
    """The one folder with the "aerial", "sen" or "labels" of that split, or None and a problem."""
    roots = find_roots(data, kind, split)
    names = root_names(kind, split)
    if len(roots) > 1:
        problems.append(f"{data}: holds both {' and '.join(names)}; keep one data set per folder")
        return None
    if not roots:
        packed = [f"{name}.zip" for name in names if (data / f"{name}.zip").is_file()]
        told = f"{packed[0]} is still packed" if packed else f"no folder {' or '.join(names)}"
        problems.append(f"{data}: {told}; unpack the archive there")
        return None
    (root,) = roots
    if find_names(root, DOMAIN):
        return root
    if (root / root.name).is_dir():
        problems.append(f"{root}: holds a folder {root.name} once more; move what is in that one up")
        return None
    if packed := find_names(root, PACKED_DOMAIN):
        named = ", ".join(packed[:3]) + (", …" if len(packed) > 3 else "")
        problems.append(f"{root}: {named}: still packed; unpack them there")
        return None
    return root


def has_roots(data: Path) -> bool:
    """Whether `data` has the folder of at least one archive."""
    return any(find_roots(data, kind, split) for kind in KINDS for split in SPLITS)


def require_roots(data: Path) -> None:
    """Raises UsageError or DataError unless `data` has the folder of an archive.

    The error says where the data set lies, if it is found around `data`, one or two folders deeper, or in
    archives that are still packed.
    """
    require_folder(data, "FLAIR #2's archives, unpacked (flair_aerial_train, …)")
    if has_roots(data):
        return
    names = {name for kind in KINDS for split in SPLITS for name in root_names(kind, split)}
    whole = Path(os.path.abspath(data))
    for outer in list(whole.parents)[: _DEPTH + 1]:
        if (name := whole.relative_to(outer).parts[0]) in names:
            raise DataError(f"{data}: is, or lies in, {name}; name the folder that holds it, {outer}")
    deeper = [
        path.parent for depth in ("*", "*/*") for path in data.glob(f"{depth}/flair_*") if path.is_dir()
    ]
    if inner := sorted(path for path in set(deeper) if has_roots(path)):
        raise DataError(f"{data}: the data set lies deeper; name {inner[0]} instead")
    if packed := sorted(path.name for path in data.glob("flair_*.zip") if path.stem in names):
        raise DataError(f"{data}: still packed: {', '.join(packed)}; unpack each archive there")
    raise DataError(f"{data}: no folders flair_aerial_train, …; unpack FLAIR #2's archives there")


def list_domains(root: Path, split: str) -> list[str]:
    """Names of the split's domains in the folder of an archive; folders with other names are passed over."""
    domains = find_names(root, DOMAIN)
    if split == "test":
        return domains
    return [domain for domain in domains if (domain in VALIDATION_DOMAINS) == (split == "val")]


def find_names(folder: str | Path, pattern: re.Pattern[str]) -> list[str]:
    """The names in a folder that match, sorted; none if there is no such folder.

    Raises DataError if the folder cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
