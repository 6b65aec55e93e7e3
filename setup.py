"""The packages of the wheel: those found, and two folders of files that the packages open.

flair_ingestion opens limits.yaml, which organizers edit in ingestion_program/, and two submissions beside it.
flair_baseline opens the named configurations, which participants copy in starting_kit/configs/. A wheel holds
packages only, so these folders go into it as packages, at the paths that pyproject.toml gives. In
pyproject.toml packages are either found or listed; here both are needed.

A wheel also gets the file flair_scoring/COMMIT, which flair_scoring.base.provenance reads: outside of a clone
git cannot tell from which commit the wheel was built.
"""

import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

KIT = Path(__file__).resolve().parent

FOLDERS = ("scoring_program", "ingestion_program", "starting_kit")
FOUND = [package for folder in FOLDERS for package in find_packages(folder, include=["flair_*"])]
OPENED = [
    "flair_ingestion.program",
    "flair_ingestion.program.null_submission",
    "flair_ingestion.program.overwriting_submission",
    "flair_baseline.configs",
]


class BuildWithCommit(build_py):
    """Copies the packages. An editable install gets no commit: its files are those of the clone."""

    def run(self) -> None:
        """Copy the packages, and write the commit of the clone into a wheel."""
        super().run()
        if not self.editable_mode and (KIT / ".git").exists():
            git = ["git", "-C", str(KIT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
            commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout
            Path(self.build_lib, "flair_scoring", "COMMIT").write_text(commit or "unknown")


setup(packages=[*FOUND, *OPENED], cmdclass={"build_py": BuildWithCommit})
