"""The commit that files of the kit carry is the kit's own, wherever the package lies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from copies import copy_folder

PACKAGE = Path(__file__).resolve().parents[2] / "scoring_program/flair_scoring"
IGNORED, TRACKED = "/site-packages/\n", ""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("ignored", [IGNORED, TRACKED])
@pytest.mark.parametrize("recorded", [None, "0123abc"])
def test_the_commit_of_a_package_inside_a_repository(
    tmp_path: Path, ignored: str, recorded: str | None
) -> None:
    """A package that is installed there is not of that repository, unlike one that it tracks."""
    copy_folder(PACKAGE, tmp_path / "site-packages/flair_scoring")
    (tmp_path / "site-packages/flair_scoring/COMMIT").unlink(missing_ok=True)
    (tmp_path / ".gitignore").write_text(f"{ignored}__pycache__/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=all")
    if recorded:
        (tmp_path / "site-packages/flair_scoring/COMMIT").write_text(recorded + "\n")
    source = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site-packages')!r}); "
        "from flair_scoring.base.provenance import commit; print(commit())"
    )
    done = subprocess.run([sys.executable, "-B", "-c", source], capture_output=True, text=True, check=True)
    own = "unknown" if ignored else git(tmp_path, "rev-parse", "HEAD")
    assert done.stdout.strip() == (recorded or own)
