"""A wheel holds every file that flair_ingestion and flair_baseline open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import find_packages

from copies import copy_folder
from flair_baseline.config import load_config
from flair_ingestion.limits import read_limits
from flair_ingestion.reference import harness_sha256

KIT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the packages of the wheel, as they come into an environment."""
    clone, target = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    for folder in ("scoring_program", "ingestion_program", "starting_kit"):
        copy_folder(KIT / folder, clone / folder)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(KIT / name, clone / name)
    build = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(target)]
    done = subprocess.run(build, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run_installed(folder: Path, *arguments: str) -> str:
    """stdout of Python with the packages in `folder`, and no clone around."""
    done = subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_limits_and_what_measures_are_those_of_the_clone(installed: Path) -> None:
    source = (
        "import flair_ingestion.limits as limits; from flair_ingestion.reference import harness_sha256;"
        "print(limits.__file__, limits.read_limits(), harness_sha256(), sep='\\n')"
    )
    expected = [f"{installed}/flair_ingestion/limits.py", str(read_limits()), harness_sha256()]
    assert run_installed(installed, "-c", source).splitlines() == expected


def test_ingestion_is_a_module_of_it(installed: Path) -> None:
    told = run_installed(installed, "-m", "flair_ingestion.program.ingest", "--help")
    assert "DATA SUBMISSION OUTPUT" in told


def test_it_holds_every_package_and_no_key(installed: Path) -> None:
    for folder in ("scoring_program", "ingestion_program", "starting_kit"):
        for package in find_packages(str(KIT / folder), include=["flair_*"]):
            assert (installed / package.replace(".", "/") / "__init__.py").is_file(), package
    program = {
        path.relative_to(installed / "flair_ingestion/program").as_posix()
        for path in (installed / "flair_ingestion/program").rglob("*")
        if path.is_file()
    }
    submissions = {f"{kind}_submission/model.py" for kind in ("null", "overwriting")}
    assert program == {"ingest.py", "limits.yaml"} | submissions


def test_named_configurations_are_those_of_the_clone(installed: Path) -> None:
    names = [path.stem for path in sorted((KIT / "starting_kit/configs").glob("*.yaml"))]
    source = (
        "import flair_baseline.config as config; print(config.__file__)\n"
        "for path in sorted(config.FOLDER.glob('*.yaml')): print(path.stem, config.load_config(path.stem))"
    )
    expected = [f"{installed}/flair_baseline/config.py", *(f"{name} {load_config(name)}" for name in names)]
    assert run_installed(installed, "-c", source).splitlines() == expected
