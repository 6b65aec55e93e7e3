"""The archives of the Hugging Face hub, one per domain, are unpacked into the layout of IGN's archives.

The hub has one zip per domain, with all kinds of files of FLAIR #1 and FLAIR #2. The name of a file, and its
domain and zone in the metadata json, tell where it belongs. Folders inside a zip are ignored.
"""

from __future__ import annotations

import lzma
import os
import re
import shlex
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from flair_ingestion.dataset.layout import PACKED_DOMAIN, find_split, has_roots, require_roots
from flair_ingestion.dataset.sidecars import CENTROIDS, METADATA, POINTER, POINTER_TOLD, read_sidecar
from flair_scoring.base.errors import DataError, UsageError, list_problems
from flair_scoring.base.files import make_folder, require_folder

# Archives and folders of FLAIR-HUB; where the year is not known, they say 195X
_FLAIR_HUB = re.compile(r"D\d{3}-(\d{4}|195X)_[A-Z].*", re.ASCII)
# What huggingface_hub, wget and browsers call a download that has not ended
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download")
_RASTER = re.compile(r"(IMG|MSK)_(\d{6})\.tif", re.ASCII)
_SERIES = re.compile(r"SEN2_sp_(D\d{3}_\d{4}-Z\d+_[A-Z]{2})_(data\.npy|masks\.npy|products\.txt)", re.ASCII)
_AREA = re.compile(r"D\d{3}_\d{4}-Z\d+_[A-Z]{2}", re.ASCII)
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class _Member:
    """A file of FLAIR #2 in an archive, and its path in IGN's layout."""

    archive: Path
    info: zipfile.ZipInfo
    target: Path


def find_archives(folder: Path) -> list[Path]:
    """The archives of single domains (D015_2020.zip) anywhere below the folder, sorted by path."""
    return sorted(path for path in folder.rglob("D*.zip") if PACKED_DOMAIN.fullmatch(path.name))


def require_data(data: Path) -> None:
    """Raises UsageError or DataError, which says what to do, unless DATA is laid out as IGN's archives are.

    One folder of an archive is enough: `index_patches` tells what a split lacks.
    """
    require_folder(data, "FLAIR #2's archives, unpacked (flair_aerial_train, …)")
    if has_roots(data):
        return
    archives = find_archives(data)
    if not archives:
        _explain_other_downloads(data)
        require_roots(data)
    if pointers := _tell_pointers(archives):
        raise DataError(list_problems(f"{data}: the archives of domains are not all downloaded", pointers))
    out = data.resolve().with_name(f"{data.resolve().name}-flair2")
    first = archives[0].relative_to(data)
    told = f"{len(archives)} archives of one domain each ({first} …)"
    if len(archives) == 1:
        told = f"1 archive of one domain ({first})"
    raise DataError(
        f"{data}: {told}, as on the Hugging Face hub; the kit reads the layout of IGN's archives. "
        "Lay out what is there, and check it:\n"
        f"  python starting_kit/check_dataset.py {shlex.quote(str(data))} --lay-out {shlex.quote(str(out))}\n"
        f"  python starting_kit/check_dataset.py {shlex.quote(str(out))}"
    )


def lay_out(folder: Path, out: Path) -> int:
    """Unpack the archives of domains below `folder` into `out`, in the layout of IGN's archives.

    Both json files are copied. Files that are there with their full size are kept, so the same call continues
    an interrupted one.

    Args:
        folder: Folder with a download from the Hugging Face hub.
        out: Folder for the data set; it is made if need be.

    Returns:
        The number of files of FLAIR #2 in the archives.

    Raises:
        UsageError: `out` cannot be written, or has too little room.
        DataError: Archives are missing or damaged. What is sound has been unpacked by then.
    """
    require_folder(folder, "archives of domains (D015_2020.zip …)")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: cannot be written to (it is a file); choose another folder")
    archives = find_archives(folder)
    if not archives:
        _explain_other_downloads(folder)
        if found := sorted(path.name for path in folder.glob("flair_*.zip")):
            raise DataError(
                f"{folder}: {', '.join(found)}: IGN's own, which need no laying out; unpack each archive "
                "there"
            )
        raise DataError(f"{folder}: no archives of domains (D015_2020.zip …) in it or below it")
    sidecars = _find_sidecars(folder, archives)
    problems = [
        f"{path}: an unfinished download; finish it, and lay out again" for path in _find_unfinished(folder)
    ]
    metadata = read_sidecar(sidecars[1].parent, (sidecars[1].name,), problems)
    if metadata is None:
        raise DataError(problems[-1])
    areas = _find_areas(metadata.entries)
    members: list[_Member] = []
    for archive in archives:
        try:
            if told := _tell_pointers([archive]):
                problems += told
                continue
            members += _find_members(archive, areas, out, problems)
        except (OSError, *_DAMAGED) as error:
            problems.append(f"{archive}: cannot be read ({error}); download it again")
    if not members:
        what = "the 1 archive" if len(archives) == 1 else f"the {len(archives)} archives"
        title = f"{folder}: none of {what} holds a patch of FLAIR #2 that {METADATA[0]} knows"
        raise DataError(list_problems(title, problems) if problems else f"{title}; download its domains")
    try:
        _require_room(members, out)
        for path in sidecars:
            if path.parent.resolve() != out.resolve():
                shutil.copyfile(path, out / path.name)
        _unpack(members, problems)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); make room or name another") from None
    if problems:
        raise DataError(list_problems(f"{out}: not all of FLAIR #2 could be laid out", problems))
    return len(members)


def _explain_other_downloads(folder: Path) -> None:
    """Raises DataError if the folder holds FLAIR-HUB or unfinished downloads."""
    hub = sorted(path for path in folder.rglob("D*") if _FLAIR_HUB.fullmatch(path.name))
    hub = [path for path in hub if path.is_dir() or path.suffix == ".zip"]
    if hub:
        raise DataError(
            f"{folder}: {hub[0].relative_to(folder)} is of FLAIR-HUB, another data set with other labels and "
            "patches; the kit reads FLAIR, which lies at https://huggingface.co/datasets/IGNF/FLAIR"
        )
    if unfinished := _find_unfinished(folder):
        raise DataError(
            f"{folder}: downloads are unfinished ({len(unfinished)}), such as "
            f"{unfinished[0].relative_to(folder)}; finish them"
        )


def _find_unfinished(folder: Path) -> list[Path]:
    """Unfinished downloads below the folder; not those that lie beside the finished file."""
    parts = (path for path in folder.rglob("*") if path.suffix in _UNFINISHED and path.is_file())
    return sorted(path for path in parts if not path.with_suffix("").is_file())


def _tell_pointers(archives: list[Path]) -> list[str]:
    """A problem for each archive that is only a pointer of git-lfs; unreadable files are passed over."""
    problems = []
    for archive in archives:
        with suppress(OSError), archive.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                problems.append(f"{archive}: {POINTER_TOLD}")
    return problems


def _find_sidecars(folder: Path, archives: list[Path]) -> list[Path]:
    """The paths of both json files, anywhere below the folder; the hub has them in aux-data/.

    Raises DataError if one is missing. It names the archives that are pointers of git-lfs first.
    """
    found = [sorted(path for name in names for path in folder.rglob(name)) for names in (CENTROIDS, METADATA)]
    missing = [names[0] for names, paths in zip((CENTROIDS, METADATA), found, strict=True) if not paths]
    if missing:
        absent = f"{folder}: no {' and no '.join(missing)} in it or below it; download aux-data/ as well"
        pointers = _tell_pointers(archives)
        title = f"{folder}: FLAIR is not wholly downloaded"
        raise DataError(list_problems(title, [*pointers, absent]) if pointers else absent)
    return [paths[0] for paths in found]


def _find_areas(entries: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Id of a patch, or its area as D015_2020-Z1_UU, -> that area and its split; FLAIR #2 only."""
    found: dict[str, tuple[str, str]] = {}
    for key, entry in entries.items():
        fields = entry if isinstance(entry, dict) else {}
        area, id = f"{fields.get('domain')}-{fields.get('zone')}", key.removeprefix("IMG_")
        split = find_split(id, str(fields.get("domain")))
        if split and _AREA.fullmatch(area):
            found[id] = found[area] = (area, split)
    return found


def _find_members(
    archive: Path, areas: dict[str, tuple[str, str]], out: Path, problems: list[str]
) -> Iterator[_Member]:
    """The files of FLAIR #2 in an archive; all other files are passed over."""
    recognised = False
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = PurePosixPath(
                info.filename.replace("\\", "/")
            ).name  # old Windows programs write backslashes
            if match := _RASTER.fullmatch(name):
                kind, content = ("aerial", "img") if match[1] == "IMG" else ("labels", "msk")
                key = match[2]
                if key not in areas and find_split(key, ""):
                    problems.append(
                        f"{archive}: {name}: {METADATA[0]} lacks the domain and zone of IMG_{key}"
                    )
            elif match := _SERIES.fullmatch(name):
                kind = content = "sen"
                key = match[1]
            else:
                continue
            recognised = True
            if key in areas:
                area, split = areas[key]
                root = f"flair_2_{kind}_test" if split == "test" else f"flair_{kind}_train"
                yield _Member(archive, info, out.joinpath(root, *area.split("-"), content, name))
    if not recognised:
        problems.append(f"{archive}: holds no files of FLAIR (IMG_<6 digits>.tif, …); download it again")


def _require_room(members: list[_Member], out: Path) -> None:
    """Make `out`; raises UsageError if there is too little room for the files that are not there yet."""
    make_folder(out)
    needed = sum(member.info.file_size for member in members if not _is_there(member))
    free = shutil.disk_usage(out).free
    if needed > free:
        raise UsageError(
            f"{out}: {needed / 1e9:.1f} GB to unpack, {free / 1e9:.1f} GB free; make room or name another"
        )


def _is_there(member: _Member) -> bool:
    return member.target.is_file() and member.target.stat().st_size == member.info.file_size


def _unpack(members: list[_Member], problems: list[str]) -> None:
    """Write every file that is not there yet; each appears whole or not at all."""
    opened: zipfile.ZipFile | None = None
    try:
        for member in tqdm(members, "unpacking", unit="file", dynamic_ncols=True):
            if _is_there(member):
                continue
            if opened is None or opened.filename != str(member.archive):
                if opened:
                    opened.close()
                opened = zipfile.ZipFile(member.archive)
            member.target.parent.mkdir(parents=True, exist_ok=True)
            partial = member.target.with_name(f".{member.target.name}.partial")
            try:
                with opened.open(member.info) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                os.replace(partial, member.target)
            except _DAMAGED as error:  # zipfile compares the checksum as well
                problems.append(
                    f"{member.archive}: {member.info.filename} is damaged ({error}); download it again"
                )
            finally:
                partial.unlink(missing_ok=True)
    finally:
        if opened:
            opened.close()
