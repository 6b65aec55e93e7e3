"""The bundle: what the platform unpacks, and what must not be in which zip."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from flair_scoring.nomenclature import FLAIR_12

KIT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, flair_tree: Path) -> zipfile.ZipFile:
    output = tmp_path_factory.mktemp("dist") / "bundle.zip"
    build = [sys.executable, str(KIT / "bundle/build.py"), "--data", str(flair_tree), "-o", str(output)]
    subprocess.run(build, check=True, capture_output=True)
    return zipfile.ZipFile(output)


def inner(bundle: zipfile.ZipFile, name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(bundle.read(name)))


def test_every_path_of_competition_yaml_is_in_the_bundle(bundle: zipfile.ZipFile) -> None:
    competition = yaml.safe_load(bundle.read("competition.yaml"))
    files = [competition["image"], competition["terms"], *(page["file"] for page in competition["pages"])]
    for task in competition["tasks"]:
        files += [
            task[key] for key in ("ingestion_program", "scoring_program", "input_data", "reference_data")
        ]
    files += [phase["starting_kit"] for phase in competition["phases"]]
    assert set(files) <= set(bundle.namelist())
    assert competition["version"] == 2


def test_dates_are_text_so_that_the_platform_keeps_their_time(bundle: zipfile.ZipFile) -> None:
    phases = yaml.safe_load(bundle.read("competition.yaml"))["phases"]
    assert all(
        isinstance(phase[key], str) and len(phase[key]) == 19 for phase in phases for key in ("start", "end")
    )


def test_the_leaderboard_has_a_column_for_each_key_that_scoring_writes(bundle: zipfile.ZipFile) -> None:
    (leaderboard,) = yaml.safe_load(bundle.read("competition.yaml"))["leaderboards"]
    keys = [column["key"] for column in leaderboard["columns"]]
    times = ["time_ratio", "inference_seconds"]
    assert keys == ["miou", *times, "overall_accuracy", "miou_low", "miou_high", *FLAIR_12.keys]
    assert all(len(column["title"]) <= 36 and column["precision"] <= 10 for column in leaderboard["columns"])


def test_programs_hold_what_they_import(bundle: zipfile.ZipFile) -> None:
    scoring = inner(bundle, "scoring_program.zip").namelist()
    ingestion = inner(bundle, "ingestion_program.zip").namelist()
    assert {"metadata.yaml", "score.py", "flair_scoring/evaluation.py"} <= set(scoring)
    assert {"metadata.yaml", "ingest.py", "flair_ingestion/session.py", "flair_scoring/raster.py"} <= set(
        ingestion
    )
    assert "reference_submission/model.py" in ingestion


def test_the_key_is_in_the_two_programs_only(bundle: zipfile.ZipFile) -> None:
    holders = [
        name
        for name in bundle.namelist()
        if name.endswith(".zip") and "signing.key" in inner(bundle, name).namelist()
    ]
    assert sorted(holders) == ["ingestion_program.zip", "scoring_program.zip"]
    assert len({inner(bundle, name).read("signing.key") for name in holders}) == 1


def test_no_label_is_among_the_inputs(bundle: zipfile.ZipFile) -> None:
    inputs = inner(bundle, "input_data.zip").namelist()
    references = inner(bundle, "reference_data.zip").namelist()
    assert not [name for name in inputs if "MSK" in name]
    assert [Path(name).stem[4:] for name in references if "MSK" in name] == [
        Path(name).stem[4:] for name in inputs if "IMG" in name
    ]
    assert all(name.split("/")[0].startswith("D") for name in references)  # the domains, for the interval
