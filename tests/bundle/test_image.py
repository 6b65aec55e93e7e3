"""The image: it installs what programs and submissions import, and its install step works."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bundle_files import KIT

import check_image
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
    assert needed <= BASE | set(filling.package_versions())


def test_every_package_has_a_version_in_the_lock_or_of_its_own_but_not_both() -> None:
    versions = filling.package_versions()
    assert not [name for name, found in versions.items() if not found]
    own = re.findall(r"^([\w-]+)==", filling.PACKAGES.read_text(), re.MULTILINE)
    assert "onnxruntime-gpu" in own
    assert not [name for name in own if filling.locked_versions(name)]


def test_constraints_leave_out_what_belongs_to_pytorch_and_nothing_else() -> None:
    """nvidia-ml-py begins like CUDA's packages; its version is the lock's, as the page says."""
    (pattern,) = re.findall(r"--invert-match '([^']+)'", DOCKERFILE)
    left_out = [line for line in filling.LOCK.read_text().splitlines() if re.match(pattern, line)]
    names = {line.split("==")[0] for line in left_out}
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"} <= names
    assert not names & set(filling.package_versions())


def test_torch_compile_finds_its_compiler_and_headers() -> None:
    packages = re.search(r"apt-get install [^&]*", DOCKERFILE.replace("\\\n", ""))
    assert packages
    assert {"g++", "libc6-dev", "python3-dev"} <= set(packages[0].split())
    assert run_steps()[-1].rstrip().endswith("python3 /opt/flair2/check_image.py")


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    """A clone has gigabytes of environment, data and runs, which a build would read."""
    copied = {
        name for names in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in names.split()
    }
    lines = [line for line in (KIT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines[1:]} == copied


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """packages.txt of a made-up image, with one package."""
    packages = tmp_path / "packages.txt"
    packages.write_text("# of the image\nnumpy # arrays\n")
    monkeypatch.setattr(check_image, "PACKAGES", packages)
    monkeypatch.setattr(check_image, "BASE", ())
    return packages


def test_the_check_of_the_image_names_every_package_that_it_lacks(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image.write_text("numpy\npackage_that_nobody_has==1.0 # for a test\nanother_one\n")
    assert check_image.package_problems() == [
        "package_that_nobody_has is not installed",
        "another_one is not installed",
    ]
    assert re.fullmatch(r"numpy [\d.]+\n", capsys.readouterr().out)


def test_the_check_of_the_image_misses_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "compiler_that_nobody_has")
    assert check_image.compiler_problem() == "there is no compiler_that_nobody_has: install the package g++"


@pytest.mark.usefixtures("image")
def test_the_check_of_the_image_ends_with_all_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_image, "LOWEST_PYTHON", (99, 0))
    monkeypatch.setattr(check_image, "compile_problem", lambda device: f"torch.compile fails on {device}")
    monkeypatch.setenv("CXX", "compiler_that_nobody_has")
    with pytest.raises(SystemExit) as ended:
        check_image.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: the image lacks what bundle/pages/packages.md promises:\n"
        "  the kit needs Python 99.0 or newer\n"
        "  there is no compiler_that_nobody_has: install the package g++\n"
        "  torch.compile fails on cpu\n"
    )


@pytest.mark.usefixtures("image")
def test_torch_is_tried_although_a_package_with_its_name_in_its_own_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ["segmentation-models-pytorch is not installed"]
    monkeypatch.setattr(check_image, "package_problems", lambda: list(absent))
    monkeypatch.setattr(check_image, "compiler_problem", lambda: "")
    monkeypatch.setattr(check_image, "compile_problem", lambda device: f"torch.compile fails on {device}")
    with pytest.raises(SystemExit):
        check_image.main()
    assert "\n  segmentation-models-pytorch is not installed\n  torch.compile fails on cpu\n" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("code", ["exit 1", ":"])
def test_a_compiler_that_does_not_answer_is_a_problem(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cxx").write_text(f"#!/bin/sh\n{code}\n")
    (tmp_path / "cxx").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "cxx"))
    told = check_image.compiler_problem()
    assert told == f"{tmp_path}/cxx --version says nothing: install the package g++ again"


@pytest.mark.long
def test_the_check_of_the_image_compiles() -> None:
    assert check_image.compile_problem("cpu") == ""


@pytest.mark.parametrize(
    "folder", ["ingestion_program", "scoring_program", "reference_submission", "bundle/trivial_submission"]
)
def test_a_metadata_file_is_read_as_it_is_written(folder: str) -> None:
    """An unquoted # begins a comment."""
    lines = (KIT / folder / "metadata.yaml").read_text().splitlines()
    written = dict(line.split(": ", 1) for line in lines)
    assert yaml.safe_load("\n".join(lines)) == {key: value.strip('"') for key, value in written.items()}


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
    for name, versions in filling.package_versions().items():
        assert installed[name] in versions.values()
    imports = "import imagecodecs, numpy, onnxruntime, PIL, safetensors, scipy.special, tqdm, yaml"
    subprocess.run([python, "-c", imports], check=True, cwd=tmp_path)
    help_page = [python, str(KIT / "scoring_program/score.py"), "--help"]
    assert subprocess.run(help_page, capture_output=True, cwd=tmp_path).returncode == 0
