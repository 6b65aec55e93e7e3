"""flair-score, flair-rank and flair_scoring from a wheel: without torch, without a clone, in any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from copies import copy_folder

KIT = Path(__file__).resolve().parents[1]
COMMIT = "flair_scoring/COMMIT"
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]


def run(*command: object, cwd: Path, packages: Path | None = None) -> str:
    """stdout of a command, which finds nothing of the kit but what is in `packages`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(packages)} if packages else {}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of a commit is installed; its torch is one that cannot be imported."""
    clone, target = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    for folder in ("scoring_program", "ingestion_program", "starting_kit"):
        copy_folder(KIT / folder, clone / folder)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(KIT / name, clone / name)
    git = ["git", "-C", clone, "-c", "user.name=kit", "-c", "user.email=kit@example.org"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=all"]):
        run(*git, *arguments, cwd=target)
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", clone / "dist", clone, cwd=target)
    (wheel,) = (clone / "dist").iterdir()
    run(*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=target)
    assert (target / COMMIT).read_text() == run(*git, "rev-parse", "HEAD", cwd=target)
    (target / "torch.py").write_text("raise ImportError('there is no torch')\n")
    return target


@pytest.fixture(scope="module")
def predictions(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of predictions and references that are equal."""
    folder = tmp_path_factory.mktemp("predictions")
    (references,) = flair_tree.glob("*labels_test")
    for mask in references.rglob("MSK_*.tif"):
        labels = np.minimum(np.asarray(Image.open(mask)).astype(np.uint8) - 1, 12)  # as FLAIR-2's code has it
        Image.fromarray(labels).save(folder / mask.name.replace("MSK", "PRED"))
    return folder, references


def test_results_are_scored_and_ranked(
    installed: Path, predictions: tuple[Path, Path], tmp_path: Path
) -> None:
    score = [installed / "bin/flair-score", *predictions, "--jobs", 1, "--output", tmp_path / "result"]
    assert run(*score, cwd=tmp_path, packages=installed).splitlines()[-1] == "mIoU: 1.0000"
    rank = [installed / "bin/flair-rank", tmp_path / "result", "--output", tmp_path / "leaderboard.html"]
    assert "1.0000" in run(*rank, cwd=tmp_path, packages=installed)
    assert (tmp_path / "leaderboard.html").stat().st_size > 1000


def test_python_finds_evaluate(installed: Path, predictions: tuple[Path, Path], tmp_path: Path) -> None:
    source = (
        "import sys; import flair_scoring; from flair_scoring import evaluate, mean_iou; "
        "matrix = evaluate(*sys.argv[1:], jobs=1).matrix; "
        "print(flair_scoring.__file__, mean_iou(matrix), 'torch' in sys.modules, sep='\\n')"
    )
    told = run(sys.executable, "-c", source, *predictions, cwd=tmp_path, packages=installed)
    assert told.splitlines() == [str(installed / "flair_scoring/__init__.py"), "1.0", "False"]


def test_type_checkers_find_the_annotations(installed: Path) -> None:
    for package in ("flair_scoring", "flair_ingestion", "flair_baseline", "flair_toy"):
        assert (installed / package / "py.typed").is_file()
