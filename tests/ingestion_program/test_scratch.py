from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flair_ingestion.scratch import private_folder

BUILD = """
import os, sys
os.chdir(sys.argv[1])
for name in ("a/b/c", "moved-0/moved-1", "closed/inner"): os.makedirs("scratch/" + name)
os.makedirs("submission")
for target in ("/", "..", "nowhere", os.getcwd()): os.symlink(target, f"scratch/a/{abs(hash(target))}")
os.mkfifo("scratch/pipe")
open("scratch/a/b/readonly", "w").close()
os.chmod("scratch/a/b/readonly", 0)
os.chmod("scratch/closed/inner", 0)
os.chmod("scratch/closed", 0)
os.chdir("scratch")
for _ in range(1200):
    os.mkdir("x"); os.chdir("x")
"""


def test_whatever_was_built_is_removed_and_nothing_that_links_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    (kept / "file").write_text("x")
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        subprocess.run([sys.executable, "-c", BUILD, str(folder)], check=True)
        (folder / "scratch" / "a" / "outside").symlink_to(kept)
    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "file").read_text() == "x"


def test_an_error_inside_comes_out_and_the_folder_is_gone() -> None:
    folders = []

    def fail() -> None:
        with private_folder() as folder:
            folders.append(folder)
            (folder / "scratch").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not folders[0].exists()
