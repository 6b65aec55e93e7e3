"""The packages of the wheel: those found, and two folders of files that the packages open.

flair_ingestion opens limits.yaml, which organizers edit in ingestion_program/, and two submissions beside it.
flair_baseline opens the named configurations, which participants copy in starting_kit/configs/. A wheel holds
packages only, so these folders go into it as packages, at the paths that pyproject.toml gives. In
pyproject.toml packages are either found or listed; here both are needed.
"""

from setuptools import find_packages, setup

FOLDERS = ("scoring_program", "ingestion_program", "starting_kit")
FOUND = [package for folder in FOLDERS for package in find_packages(folder, include=["flair_*"])]
OPENED = [
    "flair_ingestion.program",
    "flair_ingestion.program.null_submission",
    "flair_ingestion.program.overwriting_submission",
    "flair_baseline.configs",
]

setup(packages=[*FOUND, *OPENED])
