"""Writing a bundle: competition.yaml, its pages, and the zips of programs, data and solutions."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

from flair_bundle.check import FILES_OF_TASK
from flair_bundle.contents import (
    DESK,
    KIT,
    PHASES,
    Files,
    ingestion_files,
    input_files,
    kit_files,
    label_files,
    patches_of_phases,
    reference_files,
    replace_folder,
    scoring_files,
    signing_key,
    trivial_files,
)
from flair_bundle.filling import fill_pages
from flair_bundle.schema import COMPETITION, COMPETITION_REQUIRED, PHASE, TASK, check_mapping
from flair_ingestion.dataset import describe_gaps
from flair_scoring.base.errors import DataError, list_problems
from flair_scoring.base.provenance import commit
from flair_scoring.base.settings import parse_settings

SOURCE = KIT / "bundle.yaml"
PHASE_REQUIRED = ("name", "start", "tasks", "max_submissions_per_day", "max_submissions")  # pages show them
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
PACKED = (".zip", ".tif", ".png", ".safetensors")  # does not get smaller


def read_bundle_yaml(image: str | None) -> dict:
    """The content of bundle.yaml, with `image` as its docker_image if given.

    Raises DataError with all problems for which no bundle can be built.
    """
    try:
        competition = parse_settings(SOURCE.read_bytes())
    except ValueError as error:
        raise DataError(f"{SOURCE}: {error}; expected lines of the form 'key: value'") from None
    if isinstance(competition, dict) and image:
        competition["docker_image"] = image
    problems = check_mapping(SOURCE.name, competition, COMPETITION, COMPETITION_REQUIRED)
    if not problems:
        for key, keys, required in (("tasks", TASK, FILES_OF_TASK), ("phases", PHASE, PHASE_REQUIRED)):
            for index, entry in enumerate(competition[key]):
                problems += check_mapping(f"{key}[{index}]", entry, keys, required)
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

    `data` is the folder of FLAIR #2; without it the tasks name no data, and the organizer adds them. `worker`
    is the folder of the inputs below /app/data. Returns the folders that were written for the worker.
    """
    key, version = signing_key(output.parent / "signing.key"), commit()
    competition = read_bundle_yaml(image)
    programs = {"scoring_program.zip": scoring_files(key, version)}
    if worker:
        for task, phase in zip(competition["tasks"], PHASES, strict=True):
            task["ingestion_program"] = f"ingestion_program_{phase}.zip"
            path = f"/app/data/{worker}/{phase}"
            programs[task["ingestion_program"]] = ingestion_files(key, version, trained, path)
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
            replace_folder(folders[-1], inputs)
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
