"""Build the competition bundle: competition.yaml, its pages, the programs with all they import, the data.

With --check nothing is built: the bundle is examined for whatever the platform would refuse, ignore or break.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

KIT = Path(__file__).resolve().parents[1]
SOURCE = KIT / "bundle.yaml"
sys.path.append(str(KIT / "scoring_program"))
sys.path.append(str(KIT / "ingestion_program"))

from flair_ingestion.sandbox.system import require_linux  # noqa: E402

require_linux()

from check import FILES_OF_TASK, check_bundle  # noqa: E402
from contents import (  # noqa: E402
    DESK,
    PHASES,
    WEIGHTS,
    Files,
    ingestion_files,
    input_files,
    kit_files,
    label_files,
    lay_out,
    patches_of_phases,
    reference_files,
    scoring_files,
    signing_key,
    trivial_files,
    untracked_files,
)
from filling import fill_pages  # noqa: E402
from schema import COMPETITION, COMPETITION_REQUIRED, PHASE, TASK, check_mapping  # noqa: E402

from flair_ingestion.dataset import describe_gaps  # noqa: E402
from flair_scoring.base.errors import DataError, UsageError, list_names, list_problems, run_command  # noqa: E402
from flair_scoring.base.provenance import commit  # noqa: E402
from flair_scoring.base.settings import parse_settings  # noqa: E402

PHASE_REQUIRED = ("name", "start", "tasks", "max_submissions_per_day", "max_submissions")  # pages show them
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
PACKED = (".zip", ".tif", ".png", ".safetensors")  # does not get smaller


def read_competition(image: str | None) -> dict:
    """bundle.yaml, with the image put in if there is one; DataError with all that cannot be built."""
    try:
        competition = parse_settings(SOURCE.read_bytes())
    except ValueError as error:
        raise DataError(f"{SOURCE}: {error}; expected lines of the form 'key: value'") from None
    if isinstance(competition, dict) and image:
        competition["docker_image"] = image
    problems = check_mapping(SOURCE.name, competition, COMPETITION, COMPETITION_REQUIRED)
    if not problems:
        for key, keys, required in (("tasks", TASK, FILES_OF_TASK), ("phases", PHASE, PHASE_REQUIRED)):
            for place, entry in enumerate(competition[key]):
                problems += check_mapping(f"{key}[{place}]", entry, keys, required)
        if len(competition["tasks"]) != len(PHASES):
            problems.append(f"tasks: expected {len(PHASES)}, one each for the data {' and '.join(PHASES)}")
    if problems:
        named = f"{SOURCE} with --image {image}" if image else str(SOURCE)
        raise DataError(list_problems(f"{named}: cannot be built", problems))
    return competition


def build(
    output: Path, data: Path | None, worker: str | None, image: str | None, trained: bool
) -> list[Path]:
    """Write the bundle, signing.key beside it, and worker_data/ if the inputs stay on the worker.

    `data` has the test set; `worker` is the inputs' folder below /app/data. Returns the folders written for
    the worker. Without data the tasks name none, for the organizer to add.
    """
    key, version = signing_key(output.parent / "signing.key"), commit()
    competition = read_competition(image)
    programs = {"scoring_program.zip": scoring_files(key, version)}
    if worker:
        for task, phase in zip(competition["tasks"], PHASES, strict=True):
            task["ingestion_program"] = f"ingestion_program_{phase}.zip"
            place = f"/app/data/{worker}/{phase}"
            programs[task["ingestion_program"]] = ingestion_files(key, version, trained, place)
    else:
        programs["ingestion_program.zip"] = ingestion_files(key, version, trained)
    zips: dict[str, Files] = {
        **programs,
        "starting_kit.zip": kit_files(version),
        "solution_reference.zip": reference_files(trained),
        "solution_trivial.zip": trivial_files(),
    }
    folders = []
    patches = patches_of_phases(data) if data else {}
    for gap in describe_gaps(data, {"test": patches["final"]}) if data else []:
        print(f"note: {gap}", file=sys.stderr)
    for task, phase in zip(competition["tasks"], PHASES, strict=True):
        if worker or not data:
            del task["input_data"]
        if not data:
            del task["reference_data"]
            continue
        inputs = input_files(data, patches[phase])
        zips[task["reference_data"]] = label_files(data, patches[phase])
        if worker:
            folders.append(output.parent / "worker_data" / worker / phase)
            lay_out(inputs, folders[-1])
        else:
            zips[task["input_data"]] = inputs

    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        files: Files = {name: write_zip(Path(folder, name), content) for name, content in zips.items()}
        files |= {f"pages/{name}": text.encode() for name, text in fill_pages(competition).items()}
        files["logo.png"] = DESK / "logo.png"
        files["competition.yaml"] = yaml.safe_dump(competition, sort_keys=False, allow_unicode=True).encode()
        os.replace(write_zip(Path(folder, output.name), files), output)
    return folders


def write_zip(target: Path, files: Files) -> Path:
    """Write `files` in name order, all with one fixed date."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, source in sorted(files.items()):
            info = zipfile.ZipInfo(name, TIMESTAMP)
            info.compress_type = zipfile.ZIP_STORED if name.endswith(PACKED) else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            content = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            with content, archive.open(info, "w", force_zip64=True) as entry:
                shutil.copyfileobj(content, entry, 1 << 20)
    return target


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python bundle/build.py --untrained-reference -o dist/bundle.zip\n"
        "          python bundle/build.py --data DATA --data-on-worker flair2 --image me/flair2-kit:1.0\n"
        "          python bundle/build.py --check dist/bundle.zip",
    )
    parser.add_argument("--data", type=Path, metavar="DATA", help="FLAIR #2, unpacked; none: code only")
    parser.add_argument(
        "--data-on-worker",
        metavar="PATH",
        help="ingestion reads from /app/data/PATH; with --data, worker_data/PATH is written, to be copied",
    )
    parser.add_argument("--image", metavar="NAME", help="published image, NAME:TAG; none: local use only")
    parser.add_argument(
        "--untrained-reference", action="store_true", help="leave the reference's weights out"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("dist/bundle.zip"), metavar="ZIP")
    parser.add_argument("--check", type=Path, metavar="ZIP", help="examine a bundle, build nothing")
    args = parser.parse_args()
    place = args.data_on_worker
    if place is not None and (not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", place) or ".." in place.split("/")):
        parser.error(f"--data-on-worker {place}: expected a path below /app/data, such as flair2")
    if args.output.is_dir():
        parser.error(f"--output {args.output}: is a folder; expected the name of a zip to write")
    return args


def report(path: Path) -> None:
    """Print what the check finds; DataError unless all of it can wait until the upload."""
    problems, notes, remarks = check_bundle(path)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    later = list_problems("local only, for use at home. Before an upload", notes, shown=100) if notes else ""
    if problems:
        title = f"{path}: not ready for the platform"
        raise DataError("\n".join(filter(None, (list_problems(title, problems, shown=100), later))))
    print(f"{path}: keeps all rules of the platform's importer")
    if later:
        print(later)


def main() -> None:
    """Build or check."""
    args = parse_arguments()
    if args.check:
        report(args.check)
        return
    trained = not args.untrained_reference
    if trained and not WEIGHTS.is_file():
        raise UsageError(
            f"{WEIGHTS}: missing; train the reference (make reference DATA=...), or build with "
            "--untrained-reference for a rehearsal: it can be timed, but its labels mean nothing"
        )
    if untracked := untracked_files():
        named = list_names(untracked)
        print(f"note: not in the starting kit, since git does not track them: {named}", file=sys.stderr)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        folders = build(args.output, args.data, args.data_on_worker, args.image, trained)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise UsageError(
            f"{args.output}: cannot be built ({reason}); check that file, or make room, or choose another -o"
        ) from None
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB")
    for folder in folders:
        print(f"{folder}: to be copied into the worker's data folder")


if __name__ == "__main__":
    run_command(main)
