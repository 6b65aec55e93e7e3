"""The packages of the wheel: those found, and the folder around flair_ingestion as flair_ingestion.program.

flair_ingestion opens limits.yaml, which organizers edit in ingestion_program/, and two submissions beside it.
A wheel holds packages only, so that folder goes into it as a package. In pyproject.toml packages are either
found or listed; here both are needed.
"""

from setuptools import find_packages, setup

FOLDERS = ("scoring_program", "ingestion_program", "starting_kit")
FOUND = [package for folder in FOLDERS for package in find_packages(folder, include=["flair_*"])]
PROGRAM = [
    "flair_ingestion.program",
    "flair_ingestion.program.null_submission",
    "flair_ingestion.program.overwriting_submission",
]

setup(packages=[*FOUND, *PROGRAM])
