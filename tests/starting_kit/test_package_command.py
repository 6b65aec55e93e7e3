"""package.py as a command: paths that cannot be packed, and options that do not fit together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from test_ensemble import CONFIGS, draw_run

from flair_baseline.config import FOLDER
from programs import run_here


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("members")
    return {name: draw_run(folder / name, CONFIGS[name]) for name in ("first", "unet")}


@pytest.mark.parametrize("program", ["package", "plan"])
@pytest.mark.parametrize("inside", ["", "model.safetensors"])
def test_links_in_a_circle_are_no_model(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path, program: str, inside: str
) -> None:
    circle = tmp_path / "my run" / inside
    circle.parent.mkdir(exist_ok=True)
    circle.symlink_to(circle)
    data = ["--data", flair_tree] if program == "plan" else []
    done = run_here(program, tmp_path / "my run", runs["unet"], *data, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert f"{circle}: its symbolic links lead in a circle; expected a folder that train.py" in done.stderr
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("program", ["package", "plan"])
def test_a_path_that_is_not_utf_8_is_told(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path, program: str
) -> None:
    run = tmp_path / os.fsdecode(b"for\xeat 1")
    try:
        shutil.copytree(runs["first"], run)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    data = ["--data", flair_tree] if program == "plan" else []
    done = run_here(program, run, *data, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert "for\\udceat 1/model.safetensors: this path is not UTF-8, and safetensors" in done.stderr
    assert "damaged" not in done.stderr
    assert not (tmp_path / "x.zip").exists()
    assert run_here("package", "model.safetensors", "-o", tmp_path / "x.zip", cwd=run).returncode == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--one-at-a-time: expected several models, and one is given; leave the option out"),
        (["--tta", "d4"], "--one-at-a-time: expected several models"),
        (["--untrained"], "packs one configuration, without --weights, --tta and --one-at-a-time"),
    ],
)
def test_a_single_model_is_not_one_at_a_time(
    runs: dict[str, Path], tmp_path: Path, options: list[str], sentence: str
) -> None:
    model = "demo" if "--untrained" in options else runs["first"]
    done = run_here("package", model, *options, "--one-at-a-time", "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("link", ["none", "output", "input", "hard", "run"])
def test_a_submission_does_not_replace_its_own_weights(
    runs: dict[str, Path], tmp_path: Path, link: str
) -> None:
    weights, output = tmp_path / "my weights.zip", tmp_path / "my weights.zip"
    shutil.copyfile(runs["first"] / "model.safetensors", weights)
    model = weights
    if link in ("output", "hard"):
        output = tmp_path / "out.zip"
        output.symlink_to(weights) if link == "output" else output.hardlink_to(weights)
    elif link == "input":
        model = tmp_path / "in.safetensors"
        model.symlink_to(weights)
    elif link == "run":
        model = tmp_path / "run"
        model.mkdir()
        (model / "model.safetensors").symlink_to(weights)
    before = weights.read_bytes()
    done = run_here("package", runs["unet"], model, "-o", output)
    assert done.returncode == 2
    assert f"{output}: is the input {model}, which it would replace; choose another output" in done.stderr
    assert weights.read_bytes() == before
    other = run_here("package", runs["unet"], model, "-o", tmp_path / "other.zip")
    assert other.returncode == 0, other.stderr


def test_a_submission_does_not_replace_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.zip"
    shutil.copyfile(FOLDER / "demo.yaml", config)
    before = config.read_bytes()
    done = run_here("package", config, "--untrained", "-o", config)
    assert done.returncode == 2
    assert f"{config}: is the input {config}" in done.stderr
    assert config.read_bytes() == before
