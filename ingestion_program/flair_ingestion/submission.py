"""Opening a submission: a stranger's zip or folder is checked as a whole, then copied to a private folder."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from flair_scoring.base.bounded_yaml import parse_strangers_yaml
from flair_scoring.base.bounded_zip import ZipError, entry_problem, open_zip, read_pieces, read_start
from flair_scoring.base.errors import SubmissionError, UsageError, list_problems

MAX_FILES = 10_000
MAX_DEPTH = 32  # levels of folders
_NAME_BYTES, _PATH_BYTES = 255, 1000
MAX_RATIO = 100  # of unpacked to packed size of a zip; trained weights reach 1.1
_BOMB_BYTES = 64 << 20  # a zip that unpacks to less may have any ratio
_METADATA = "metadata.yaml"  # the platform reads it
_RECORD = "metadata"  # the platform reads it, too, and some versions copy it over a record of their own
_METADATA_BYTES = 1 << 16
_JUNK = {"__MACOSX", ".DS_Store", "__pycache__"}
_RESULT = re.compile(
    r"(PRED|MSK).*\.tiff?|timing\.json|manifest\.json|scores\.(json|txt|csv)|signing\.key", re.IGNORECASE
)
_PREDICTION = re.compile(r".*\.(tiff?|png|np[yz]|json|txt|csv)", re.IGNORECASE)  # inside of predictions/
_NOT_A_FILE = "is a link or a special file; only files are allowed"
_OUTSIDE = "leaves the folder of the submission; store relative paths below it"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of the submission: stored name, unpacked size in bytes, and the reason if it is refused."""

    stored: str
    size: int
    refusal: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(_with_slashes(self.stored)).parts or (self.stored,)

    @property
    def name(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True)
class Submission:
    """A checked submission.

    Attributes:
        source: The zip or folder.
        files: Path of each file, from the folder of model.py on -> its name in `source`.
        sha256: Hash of paths and contents; the order and the times of a zip do not change it.
        weight_bytes: Bytes of all files that are not Python code: mostly trained weights.
    """

    source: Path
    files: dict[str, str]
    sha256: str
    weight_bytes: int


def open_submission(source: Path, max_mib: float) -> Submission:
    """Check a zip or folder without running any of it; raises SubmissionError that lists all problems."""
    with _opened(source) as archive:
        entries = [entry for entry in archive.entries() if not _JUNK & set(entry.parts)]
        problems = _size_problems(archive, entries, max_mib)
        root = _model_root(entries)
        if not problems:  # otherwise a million names might follow
            problems = _name_problems(entries) + _metadata_problems(archive, entries, root or "")
        if root is None:
            problems.append(_no_model(entries))
        if problems:
            raise SubmissionError(list_problems(f"{source}: not a valid submission", problems))
        files = {entry.name.removeprefix(root or ""): entry.stored for entry in entries}
        weights = sum(entry.size for entry in entries if not entry.name.endswith(".py"))
        return Submission(source, files, _copy(archive, files, None), weights)


def unpack(submission: Submission, folder: Path) -> None:
    """Copy the files into `folder`; raises SubmissionError if they have changed since they were checked."""
    with _opened(submission.source) as archive:
        if _copy(archive, submission.files, folder) != submission.sha256:
            raise SubmissionError(f"{submission.source} has changed since it was checked; start again")


def read_sources(submission: Submission) -> dict[str, bytes]:
    """Path -> content of each Python file, cut after 1 MiB; raises SubmissionError if one cannot be read."""
    with _opened(submission.source) as archive:
        sources = {}
        for name, stored in submission.files.items():
            if name.endswith(".py"):
                sources[name] = read_start(archive.pieces(stored), _CHUNK)
        return sources


class _Folder:
    """A submission that is a folder; links are not followed."""

    packed_size = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> Iterator[_Entry]:
        """Every file, link and special file at any depth."""
        for folder, folders, files in os.walk(self.path, onerror=_raise):
            names = files + [name for name in folders if os.path.islink(os.path.join(folder, name))]
            if len(Path(folder).relative_to(self.path).parts) > MAX_DEPTH:
                names += folders  # refused for the depth; walking deeper would exhaust the stack
                folders.clear()
            for name in names:
                path = Path(folder, name)
                status = path.lstat()
                stored = path.relative_to(self.path).as_posix()
                refusal = _OUTSIDE if "\\" in stored and _leaves(stored) else None
                if not stat.S_ISREG(status.st_mode):
                    refusal = _NOT_A_FILE
                # A zip of an old Windows program, unpacked on Linux, leaves its folders as empty files
                if refusal or status.st_size or not stored.endswith("\\"):
                    yield _Entry(stored, status.st_size, refusal)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a file; OSError if it has become a link since it was checked."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(self.path / name, flags), "rb") as file:
            while piece := file.read(_CHUNK):
                yield piece


class _Zip:
    """A submission that is a zip file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.packed_size = sum(info.compress_size for info in archive.infolist())

    def entries(self) -> Iterator[_Entry]:
        """Every entry that is not a folder; an entry that must not be unpacked says why."""
        for info in self.archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            refusal = _OUTSIDE if _leaves(info.filename) else None
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                refusal = _NOT_A_FILE
            refusal = refusal or entry_problem(info)
            if refusal or not _with_slashes(info.filename).endswith("/"):
                yield _Entry(info.filename, info.file_size, refusal)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of an entry; ZipError if it is damaged."""
        return read_pieces(self.archive, name)


@contextmanager
def _opened(source: Path) -> Iterator[_Folder | _Zip]:
    """The submission at `source`.

    Raises SubmissionError if it is damaged, also if that shows later, and UsageError if it cannot be read.
    """
    try:
        if source.is_dir():
            yield _Folder(source)
        elif not source.is_file():
            kind = "is a pipe or a device" if source.exists() else "no such file or folder"
            raise UsageError(f"{source}: {kind}; expected a zip or a folder with model.py")
        else:
            with open_zip(source) as archive:
                yield _Zip(archive)
    except ZipError as error:
        raise SubmissionError(f"{source}: {error}; zip what the model needs again") from None
    except OSError as error:
        file = f"{error.filename}: " if error.filename not in (None, str(source)) else ""
        raise UsageError(
            f"{source}: cannot be read or copied ({file}{error.strerror}); check its permissions and the "
            f"room for a copy in {tempfile.gettempdir()}, which TMPDIR sets"
        ) from None


def _raise(error: OSError) -> None:
    raise error


def _with_slashes(name: str) -> str:
    """The name with / between its folders; some zip programs of Windows write backslashes there.

    If such a zip is unpacked on Linux, the names of the files hold these backslashes.
    """
    return name.replace("\\", "/")


def _leaves(name: str) -> bool:
    """Whether a file of that name would be unpacked outside of the folder, on any system."""
    name = _with_slashes(name)
    return name in ("", ".") or name.startswith("/") or name[1:2] == ":" or ".." in name.split("/")


def _size_problems(archive: _Folder | _Zip, entries: list[_Entry], max_mib: float) -> list[str]:
    problems = []
    size = sum(entry.size for entry in entries)
    if len(entries) > MAX_FILES:
        problems.append(f"holds {len(entries)} files; at most {MAX_FILES} are allowed")
    if size > max_mib * 2**20:
        problems.append(f"unpacks to {size / 2**20:.0f} MiB; at most {max_mib:g} are allowed")
    depth = max((len(entry.parts) - 1 for entry in entries), default=0)
    if depth > MAX_DEPTH:
        problems.append(f"nests folders {depth} deep; at most {MAX_DEPTH} are allowed")
    if archive.packed_size is not None and size > max(_BOMB_BYTES, MAX_RATIO * archive.packed_size):
        problems.append(f"unpacks to more than {MAX_RATIO} times its size")
    return problems


def _name_problems(entries: list[_Entry]) -> list[str]:
    problems = [f"{entry.stored!r} {entry.refusal}" for entry in entries if entry.refusal]
    counts = Counter(entry.name for entry in entries)
    folders = {str(parent) for name in counts for parent in PurePosixPath(name).parents}
    problems += [f"{name!r} is there {count} times" for name, count in sorted(counts.items()) if count > 1]
    problems += [f"{name!r} is both a file and a folder" for name in sorted(counts.keys() & folders)]
    too_long = [name for name in counts if _is_too_long(os.fsencode(name))]
    problems += [f"{name[:60]!r}… is too long a name" for name in too_long]
    results = [entry.name for entry in entries if _is_result(entry)]
    told = "is a result, which only the organizer writes; rename it or leave it out"
    return problems + [f"{name!r} {told}" for name in results]


def _is_too_long(name: bytes) -> bool:
    return len(name) > _PATH_BYTES or max(map(len, name.split(b"/"))) > _NAME_BYTES


def _is_result(entry: _Entry) -> bool:
    *folders, name = entry.parts
    predicted = "predictions" in map(str.lower, folders) and _PREDICTION.fullmatch(name)
    return bool(predicted or _RESULT.fullmatch(name))


def _model_root(entries: list[_Entry]) -> str | None:
    """'' if model.py is at the root, 'name/' if it is in the only folder at the root, else None."""
    names = {entry.name for entry in entries}
    if "model.py" in names:
        return ""
    tops = {entry.parts[0] for entry in entries}
    wrapping = f"{next(iter(tops))}/" if len(tops) == 1 else ""
    return wrapping if f"{wrapping}model.py" in names else None


def _no_model(entries: list[_Entry]) -> str:
    tops = sorted({entry.parts[0] for entry in entries})
    held = ", ".join(map(repr, tops[:10])) or "nothing"
    zipped = any(top.endswith(".zip") for top in tops)
    hint = "; zip the files themselves, not a zip of them" if zipped else ""
    return f"has no model.py at its root, which holds {held}{hint}"


def _metadata_problems(archive: _Folder | _Zip, entries: list[_Entry], root: str) -> list[str]:
    problems = [
        f"{path!r} has the name of the record that the platform writes; rename it, or write a description "
        f"into {_METADATA}"
        for path in sorted({_RECORD, root + _RECORD})
        if any(f"{entry.name}/".startswith(f"{path}/") for entry in entries)
    ]
    paths = {_METADATA, root + _METADATA}
    for entry in (entry for entry in entries if entry.name in paths and not entry.refusal):
        name = entry.name
        content = read_start(archive.pieces(entry.stored), _METADATA_BYTES + 1)
        reason = f"more than {_METADATA_BYTES} bytes"
        found = None
        if len(content) <= _METADATA_BYTES:
            try:
                found, reason = parse_strangers_yaml(content), "no lines of the form 'key: value'"
            except ValueError as error:
                reason = str(error)
        if not isinstance(found, dict):
            problems.append(
                f"{name!r} is not a short YAML mapping ({reason}); write 'description: ...' or leave it out"
            )
        elif "command" in found:
            problems.append(
                f"{name!r} has a command; the platform would run it beside the clock, so leave it out"
            )
    return problems


def _copy(archive: _Folder | _Zip, files: dict[str, str], folder: Path | None) -> str:
    """Read all files, and write them into `folder` if given. Returns a SHA-256 of paths and contents."""
    total = hashlib.sha256()
    for name, stored in sorted(files.items()):
        content = hashlib.sha256()
        with _target(folder, name) as target:
            for piece in archive.pieces(stored):
                content.update(piece)
                target.write(piece)
        total.update(f"{name}\0{content.hexdigest()}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def _target(folder: Path | None, name: str) -> IO[bytes]:
    path = folder / name if folder else Path(os.devnull)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")
