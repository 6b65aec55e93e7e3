"""A submission in the organizers' image: an engine that only notes what it is asked, and the imitation."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

import try_out
from flair_baseline.imports import read_packages, read_versions
from flair_bundle.platform import engine as engine_module
from flair_bundle.platform.container import namespaces_work
from programs import KIT, run_here

PACKAGES = read_packages(KIT / "bundle/packages.txt")
# Paths are the same inside and outside, so the command runs here as it stands
ENGINE = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
info) {info};;
image) test "$3" = kit:1;;
run) while [ "$1" != kit:1 ]; do shift; done; shift; {run};;
esac
"""
EVALUATE = "import os, sys; assert os.path.exists(sys.argv[1]); print(sys.argv[1:]); sys.exit(4)"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A submission, a data set with a link, and in place of evaluate.py a program that exits with 4."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/flair_2_aerial_test").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "first.zip").touch()
    (tmp_path / "data/evaluate.py").write_text(EVALUATE)
    monkeypatch.setattr(try_out, "EVALUATE", tmp_path / "data/evaluate.py")
    return {name: tmp_path / name for name in ("first.zip", "data", "elsewhere", "out")}


def write_engine(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    info: str = "",
    run: str = 'exec "$@"',
    name: str = "docker",
) -> Path:
    """Make PATH a folder with an engine and a python3; the log of what the engine is asked."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / name).write_text(
        ENGINE.format(log=shlex.quote(str(folder / "log")), info=info or ":", run=run)
    )
    (programs / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(try_out, "read_packages", lambda path: ["torch", "nvidia-ml-py"])
    return folder / "log"


def try_it(paths: dict[str, Path], *options: str):
    return run_here("try_out", paths["first.zip"], "--data", paths["data"], "-o", paths["out"], *options)


def test_the_image_gets_the_paths_of_this_machine_and_no_network(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = write_engine(tmp_path, monkeypatch)
    monkeypatch.setattr(try_out, "GPU", tmp_path / "none")
    done = try_it(paths, "--image", "kit:1", "--split", "val")
    assert done.returncode == 4
    arguments = [paths["first.zip"], "--data", paths["data"], "--output", paths["out"], "--split", "val"]
    assert capfd.readouterr().out == f"{[str(word) for word in arguments]}\n"
    line = log.read_text().splitlines()[-1]
    for option in ("--network none", "--cap-drop ALL", "--security-opt no-new-privileges", "--shm-size 64m"):
        assert option in line
    for path in (paths["first.zip"], paths["data"], paths["elsewhere"], KIT):
        assert f"--volume {path}:{path}:ro " in line
    assert f"--volume {paths['out']}:{paths['out']} " in line
    assert "--device" not in line


def test_a_gpu_of_this_machine_is_handed_over(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_engine(tmp_path, monkeypatch)
    monkeypatch.setattr(try_out, "GPU", tmp_path)
    try_it(paths, "--image", "kit:1")
    assert "--device nvidia.com/gpu=0 " in log.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("engine", "security", "uid", "options"),
    [
        ("docker", "[name=seccomp]", 1000, ["--user", "1000:100"]),
        ("docker", "[name=seccomp name=rootless]", 1000, []),
        ("docker", "[name=seccomp]", 0, []),
        ("podman", "", 1000, []),
    ],
)
def test_the_container_may_read_and_write_what_the_user_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, security: str, uid: int, options: list[str]
) -> None:
    write_engine(tmp_path, monkeypatch, info=f"echo '{security}'", name=engine)
    monkeypatch.setattr("os.getuid", lambda: uid)
    monkeypatch.setattr("os.getgid", lambda: 100)
    assert engine_module.user_options(engine_module.Engine(engine)) == options


@pytest.mark.parametrize(
    ("image", "engine", "sentence"),
    [
        ("kit:2", {}, "there is no image kit:2 on this machine; get it with `docker pull kit:2`"),
        (
            "kit:1",
            {"info": "echo 'no daemon' >&2; exit 1"},
            "no container engine answers (docker info: no daemon)",
        ),
        (
            "kit:1",
            {"run": "echo 'exec: python3: not found' >&2; exit 127"},
            "docker cannot run python3 in it",
        ),
        ("kit:1", {"run": "echo '[\"torch\"]'"}, "lacks torch; take the image that the competition's page"),
        ("kit:1", {"run": "test $1 = python3 && echo '[]' || exit 125"}, "could not start the container"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_sentence(
    paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    image: str,
    engine: dict[str, str],
    sentence: str,
) -> None:
    write_engine(tmp_path, monkeypatch, **engine)
    done = try_it(paths, "--image", image)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: --image {image}: ")
    assert sentence in error
    assert done.stdout == ""


def test_no_engine_at_all(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = try_it(paths, "--image", "kit:1")
    assert done.returncode == 2
    assert "neither docker nor podman is installed" in done.stderr
    assert "leave --image out" in done.stderr


def test_paths_that_do_not_exist_are_told_together(tmp_path: Path) -> None:
    done = run_here("try_out", tmp_path / "a.zip", "--data", tmp_path / "b", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert f"{tmp_path}/a.zip: no such" in done.stderr
    assert f"{tmp_path}/b: no such" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_or_a_submission_that_is_neither_file_nor_folder(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    paths["out"].touch()
    done = try_it(paths)
    assert done.returncode == 2
    assert f"{paths['out']}: is a file; expected a folder for the results" in done.stderr
    os.mkfifo(tmp_path / "pipe")
    done = run_here("try_out", tmp_path / "pipe", "--data", paths["data"], "-o", "/")
    assert done.returncode == 2
    assert f"{tmp_path}/pipe: no such file or folder" in done.stderr
    assert "/: holds the whole machine; choose another --output" in done.stderr


def test_outer_folders_are_mounted_before_those_in_them(paths: dict[str, Path]) -> None:
    """Otherwise the data would lie in the output, and could be written."""
    inner = paths["out"] / "data"
    inner.mkdir(parents=True)
    mounts = list(try_out.find_mounts(paths["first.zip"], inner, paths["out"]))
    assert mounts.index(str(paths["out"])) < mounts.index(str(inner))


@pytest.mark.skipif(not namespaces_work(), reason="needs a mount namespace")
def test_a_submission_beside_the_interpreter_stays_as_it_is(tmp_path: Path) -> None:
    """A home often holds both: only the submission is mounted, not another folder in place of its own."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin/python").symlink_to(sys.executable)
    submission = home / "first.zip"
    submission.write_bytes(b"zip")
    os.utime(submission, (10, 10))
    code = "import sys; from pathlib import Path; sys.exit(Path(sys.argv[1]).read_bytes() != b'zip')"
    mounts = {str(path): str(path) for path in (KIT, home, submission)}
    command = [str(home / "bin/python"), "-c", code, str(submission)]
    assert try_out.run_imitated(command, mounts, *mounts) == 0
    assert submission.stat().st_mtime == 10


def test_without_an_image_the_differences_are_told(
    paths: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    done = try_it(paths, "--split", "val")
    assert done.returncode == 4
    assert "'--split', 'val'" in capfd.readouterr().out
    assert "note: no --image, so this is an imitation of the platform:\n  " in done.stderr
    assert "PyTorch is " in done.stderr


def test_differences_name_packages_that_are_absent_or_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "onnxruntime-gpu":
            raise try_out.PackageNotFoundError(name)
        return "0.1" if name == "scipy" else read_versions(*files)[name][0]

    files = (KIT / "requirements.lock", KIT / "bundle/packages.txt")
    monkeypatch.setattr(try_out, "version", installed)
    told = try_out.describe_differences(PACKAGES)
    assert "onnxruntime-gpu is absent here" in told
    (scipy,) = [sentence for sentence in told if sentence.startswith("scipy")]
    assert scipy == f"scipy is 0.1 here, {' or '.join(read_versions(*files)['scipy'])} there"
    assert not [sentence for sentence in told if sentence.startswith("numpy")]
