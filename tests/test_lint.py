"""`make lint` looks at the files that git tracks, whatever else lies in the folder of the clone."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
# Takes the place of .venv/bin/python. It leaves out mypy, whose packages pyproject.toml names
PYTHON = f"""#!/bin/sh
test "$2" = mypy || exec {shlex.quote(sys.executable)} "$@"
"""
BAD = "import os\nx = lambda: l\n"


def test_files_that_git_does_not_track_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(KIT / name, tmp_path)
    (tmp_path / "reference_submission").mkdir()
    (tmp_path / "reference_submission" / "frozen.py").write_text(BAD)
    (tmp_path / "good file.py").write_text('"""A module."""\n')
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    for command in (["init", "-q"], ["add", "good file.py", "pyproject.toml", "reference_submission"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "model.py").write_text(BAD)

    def lint() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", "lint"], cwd=tmp_path, capture_output=True, text=True)

    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run(["git", "add", "submissions"], cwd=tmp_path, check=True)
    done = lint()
    assert done.returncode != 0
    assert "model.py:1:8" in done.stdout
    assert "frozen.py" not in done.stdout
