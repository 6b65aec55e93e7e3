"""README and the pages beside it: the commands that they name exist, and their numbers have sources."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from flair_scoring.base.provenance import KIT_VERSION
from programs import run_here

KIT = Path(__file__).resolve().parents[1]
README = (KIT / "README.md").read_text()
PAGES = README + (KIT / "CONTRIBUTING.md").read_text() + (KIT / "CHANGELOG.md").read_text()
GUIDES = [
    KIT / "bundle/README.md",
    *(KIT / "bundle/pages").glob("*.md"),
]
EVERYWHERE = PAGES + "\n".join(path.read_text() for path in GUIDES)
COMMANDS = sorted(set(re.findall(r"python ([\w/]+\.py)([^\n`;#]*)", EVERYWHERE)))


@functools.cache
def read_help(script: str) -> str:
    if script.startswith("starting_kit/"):
        done = run_here(Path(script).stem, "--help")
    else:
        done = subprocess.run([sys.executable, str(KIT / script), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("script", "arguments"), COMMANDS)
def test_a_command_has_the_options_that_it_is_given(script: str, arguments: str) -> None:
    assert set(re.findall(r"--[a-z-]+", arguments)) <= set(re.findall(r"--[a-z-]+", read_help(script)))


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (KIT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGES, re.MULTILINE))
    assert {"demo", "test", "bundle", "reference"} <= named <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "MAINTAINING.md"])
def test_files_that_are_named_with_their_folder_exist(page: str) -> None:
    text = (KIT / page).read_text()
    paths = set(re.findall(r"`((?:[\w-]+/)+[\w.-]*|[\w-]+\.md|bundle\.yaml)`", text))
    paths |= set(re.findall(r"\]\((?!http)([^)]+)\)", text))
    of_the_user = {"RUN/", "pred/", "ref/"}
    made = ("runs/", "dist/")
    paths = {path for path in paths - of_the_user if "NAME" not in path and not path.startswith(made)}
    missing = [path for path in paths if not (KIT / path).exists()]
    assert paths
    assert missing == []


def test_the_citation_has_the_version_of_the_kit() -> None:
    assert yaml.safe_load((KIT / "CITATION.cff").read_text())["version"] == KIT_VERSION


def test_pictures_are_small_and_shown() -> None:
    pictures = re.findall(r"\]\(([^)]+\.png)\)", README)
    stored = (KIT / "starting_kit/pictures").iterdir()
    assert sorted(pictures) == sorted(str(path.relative_to(KIT)) for path in stored)
    for path in pictures:
        assert (KIT / path).stat().st_size < 300_000
        with Image.open(KIT / path) as picture:
            assert picture.width >= 800


def rows(heading: str) -> dict[str, str]:
    """First -> second column of the table that follows these words."""
    table = README.split(heading)[1].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: value for name, value, *_ in cells}


def test_published_results_are_the_published_ones() -> None:
    published = yaml.safe_load((KIT / "scoring_program/flair_scoring/report/published.yaml").read_text())
    known = {result["name"]: f"{result['miou']:.4f}" for result in published["flair_2"]}
    shown = rows("**Published, on the FLAIR #2 test set.**")
    assert len(shown) > 3
    assert shown.items() <= known.items()


def test_results_on_toy_data_are_recorded() -> None:
    record = (KIT / "benchmarks/RECORD.md").read_text()
    shown = rows("**Measured here, on the toy data set.**")
    assert len(shown) > 1
    assert [value for value in shown.values() if value not in record] == []


def told_outputs() -> list[str]:
    """The paths to which commands write, on pages, in the notebook and on help pages."""
    sources = [KIT / "README.md", *GUIDES, KIT / "starting_kit/flair-2.ipynb"]
    for folder in ("scoring_program", "ingestion_program", "starting_kit", "bundle"):
        sources += (KIT / folder).glob("*.py")
    sources += (KIT / "scoring_program/flair_scoring/commands").glob("*.py")
    found = [
        path
        for source in sources
        for path in re.findall(
            r"(?:(?:\w+\.py|%\(prog\)s) [^\n`]*?\s(?:-o|--output)|^-o|make_toy_dataset\.py) \"?([^\s\"`,]+)",
            source.read_text(),
            re.MULTILINE,
        )
    ]
    assert len(found) > 20
    return found


def test_commands_write_where_git_does_not_look() -> None:
    ignored = (KIT / ".gitignore").read_text().split()
    assert {"/runs/", "/dist/"} <= set(ignored)
    allowed = r"runs/.+|dist/.+|\{RUN\}/.+|\{output\.parent|[A-Z]+|starting_kit/pictures/patch\.png"
    assert [path for path in told_outputs() if not re.fullmatch(allowed, path)] == []


def test_the_example_of_a_submission_runs(tmp_path: Path) -> None:
    """The class is taken from README as it stands, with a network of one layer."""
    import torch

    (source,) = re.findall(r"```python\n(import torch\n.*?)```", README, re.DOTALL)
    network = torch.nn.Conv2d(5, 13, 1)
    torch.jit.trace(network, torch.zeros(1, 5, 8, 8)).save(str(tmp_path / "network.pt"))
    names: dict[str, Any] = {}
    exec(source, names)
    model = names["Model"](tmp_path, torch.device("cpu"))
    aerial = torch.randint(0, 256, (2, 5, 512, 512), dtype=torch.uint8)
    labels = model.predict({"aerial": aerial})
    with torch.inference_mode():
        assert torch.equal(labels, network(aerial / 255).argmax(1))
    assert (model.batch_size, model.superpatch_size) == (10, 40)
