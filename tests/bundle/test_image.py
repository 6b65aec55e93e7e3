"""The image: it installs what programs and submissions import, and its install step works."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_files import KIT

from flair_bundle import filling

DOCKERFILE = (KIT / "bundle/Dockerfile").read_text()
BASE = {"torch", "torchvision"}  # in the base image
DISTRIBUTION = {
    "PIL": "pillow",
    "pynvml": "nvidia-ml-py",
    "yaml": "pyyaml",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}


def third_party_imports(*folders: str) -> set[str]:
    found = set()
    for path in (path for folder in folders for path in (KIT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    own = {path.stem for folder in folders for path in (KIT / folder).iterdir()}
    return {DISTRIBUTION.get(name, name) for name in found - set(sys.stdlib_module_names) - own}


def run_steps() -> list[str]:
    return [step.split("\n\n")[0] for step in DOCKERFILE.replace("\\\n", "").split("\nRUN ")[1:]]


def test_everything_that_runs_in_it_finds_its_imports() -> None:
    needed = third_party_imports("scoring_program", "ingestion_program", "reference_submission")
    needed = {name for name in needed if not name.startswith("flair_")}
    assert {"torch", "numpy", "imagecodecs", "scipy"} <= needed
    assert needed <= BASE | set(filling.package_names())


def test_every_package_is_pinned_by_the_lock() -> None:
    assert not [name for name in filling.package_names() if not filling.locked_versions(name)]


def test_the_base_is_a_pinned_runtime_of_pytorch() -> None:
    found = re.fullmatch(
        r"pytorch/pytorch:(\d+)\.(\d+)\.\d+-cuda[\d.]+-cudnn\d+-runtime", filling.base_image()
    )
    assert found
    assert (int(found[1]), int(found[2])) >= (2, 6)  # the lowest that pyproject.toml allows


def test_it_runs_as_root_without_an_entrypoint_and_asks_nothing() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["root"]
    assert not re.search(r"^(ENTRYPOINT|CMD)", DOCKERFILE, re.MULTILINE)
    assert "DEBIAN_FRONTEND=noninteractive" in DOCKERFILE
    assert all(
        (KIT / name).is_file() for name in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE)[0].split()
    )
    assert "pip list" in run_steps()[-1]


@pytest.mark.long
def test_the_install_step_works_in_a_plain_environment(tmp_path: Path) -> None:
    """The RUN step itself, in the image's folders, beside a stand-in for the base's PyTorch."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python3"
    (site,) = (tmp_path / "venv/lib").glob("python3.*/site-packages")
    version = re.search(r":(\d+\.\d+\.\d+)-", filling.base_image())[1] + "+cu130"
    for name, given in (("torch", version), ("torchvision", "0.29.0+cu130")):
        (site / f"{name}-{given}.dist-info").mkdir()
        (site / f"{name}-{given}.dist-info/METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {given}\n"
        )
        (site / f"{name}-{given}.dist-info/RECORD").write_text("")
    image = tmp_path / "opt/flair2"
    image.mkdir(parents=True)
    for source in ("bundle/packages.txt", "requirements.lock"):
        (image / Path(source).name).write_bytes((KIT / source).read_bytes())
    (step,) = [step for step in run_steps() if "pip install" in step]
    done = subprocess.run(
        ["sh", "-c", step.replace("/opt/flair2", str(image))],
        env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "PIP_NO_CACHE_DIR": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    frozen = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    installed = dict(line.lower().replace("_", "-").split("==") for line in frozen.stdout.split())
    assert installed["torch"] == version
    for name in filling.package_names():
        assert installed[name] in filling.locked_versions(name).values()
    imports = "import imagecodecs, numpy, PIL, safetensors, scipy.special, tqdm, yaml"
    subprocess.run([python, "-c", imports], check=True, cwd=tmp_path)
    help_page = [python, str(KIT / "scoring_program/score.py"), "--help"]
    assert subprocess.run(help_page, capture_output=True, cwd=tmp_path).returncode == 0
