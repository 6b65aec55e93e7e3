"""rehearse.py: a finished bundle run at home, what it tells, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_files import KIT, pack, read_zip

from flair_bundle.platform.container import Container
from flair_bundle.platform.engine import Engine, engine_command, find_engine

REHEARSE = KIT / "bundle" / "rehearse.py"
# Labels that follow from the image alone, so that every run predicts the same
MODEL = b"""
class Model:
    batch_size = 4

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return batch["aerial"][:, 0] // 20
"""
BROKEN = (
    b"class Model:\n    def __init__(self, submission_dir, device):\n        raise ValueError('no weights')\n"
)


def without_ratio(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The bundle of an organizer who times no reference, which takes long on a processor."""
    program = read_zip(files["ingestion_program.zip"])
    program["limits.yaml"] = yaml.safe_dump(yaml.safe_load(program["limits.yaml"]) | {"ratio": None}).encode()
    bundle = dict(files) | {"ingestion_program.zip": pack(program)}
    competition = yaml.safe_load(bundle["competition.yaml"])
    columns = competition["leaderboards"][0]["columns"]
    columns[:] = [column for column in columns if column["key"] != "time_ratio"]
    for index, column in enumerate(columns):
        column["index"] = index
    return bundle | {"competition.yaml": yaml.safe_dump(competition, sort_keys=False).encode()}


@pytest.fixture(scope="module")
def bundle(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rehearse") / "bundle.zip"
    path.write_bytes(pack(without_ratio(files)))
    return path


def rehearse(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REHEARSE), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def rehearsed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Two submissions and the trivial solution in the phase Development, which equals Final on few data."""
    folder = tmp_path_factory.mktemp("rehearsed")
    (folder / "mine.zip").write_bytes(pack({"model.py": MODEL}))
    (folder / "broken").mkdir()
    (folder / "broken/model.py").write_bytes(BROKEN)
    done = rehearse(bundle, folder / "mine.zip", folder / "broken", "--output", folder / "out")
    return folder, done


def test_a_rehearsal_tells_what_each_submission_gets(rehearsed: tuple[Path, Any]) -> None:
    folder, done = rehearsed
    assert done.returncode == 3, done.stderr
    assert "broken in Development" in done.stderr
    told = dict(re.findall(r"^Development, (\w+)\n((?:  .*\n)+)", done.stdout, re.MULTILINE))
    assert set(told) == {"mine", "broken"}
    assert re.search(r"ingestion +exit code 0, \d+\.\d s", told["mine"])
    scores = json.loads((folder / "out/Development/mine/scores.json").read_text())
    assert f"mIoU {scores['miou']:.4f}, inference (s) " in told["mine"]
    assert "see logs, output of scoring, page of detailed results" in told["mine"]
    assert "do not see output of ingestion" in told["mine"]
    assert "in Final, which has the same programs and data, participants\n" in told["mine"]
    assert "see page of detailed results; do not see logs" in told["mine"]
    assert re.search(r"ingestion +exit code 3", told["broken"])
    assert re.search(r"reason +ingestion failed: loading: ValueError: no weights", told["broken"])
    assert "status       Failed" in told["broken"]
    record = json.loads((folder / "out/rehearsal.json").read_text())
    assert [run["status"] for run in record["runs"]] == ["Finished", "Failed"]
    board = (folder / "out/Development/leaderboard.html").read_text()
    assert "mine" in board
    assert "no weights" in board
    assert not (folder / "out/.work").exists()


def test_the_scores_are_those_of_evaluate_py_but_for_the_time(
    rehearsed: tuple[Path, Any], flair_tree: Path
) -> None:
    folder, _ = rehearsed
    command = [sys.executable, KIT / "starting_kit/evaluate.py", folder / "mine.zip", "--data", flair_tree]
    options = ["--output", folder / "home", "--limit-ratio", "0", "--device", "cpu"]
    done = subprocess.run(
        map(str, command + options),
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TMPDIR": str(folder)},  # the lock of the device lies there
    )
    assert done.returncode == 0, done.stderr
    here, home = (
        json.loads((folder / path / "mine/scores.json").read_text()) for path in ("out/Development", "home")
    )
    assert list(here) == list(home)
    assert here.pop("inference_seconds") != home.pop("inference_seconds")
    assert here == home


def test_without_a_submission_the_bundles_solutions_run(bundle: Path, tmp_path: Path) -> None:
    """The reference solution takes its time on a processor, so the bundle has the trivial one only."""
    files = read_zip(bundle.read_bytes())
    competition = yaml.safe_load(files["competition.yaml"])
    competition["solutions"] = [one for one in competition["solutions"] if "trivial" in one["path"]]
    files["competition.yaml"] = yaml.safe_dump(competition, sort_keys=False).encode()
    (tmp_path / "bundle.zip").write_bytes(pack(files))
    done = rehearse(tmp_path / "bundle.zip", "--phase", "Final", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/Final/solution_trivial/scores.json").is_file()


def no_zip(folder: Path, _: Path) -> list[object]:
    (folder / "text.zip").write_text("no zip")
    return [folder / "text.zip"]


def a_part_is_missing(folder: Path, bundle: Path) -> list[object]:
    files = read_zip(bundle.read_bytes())
    del files["scoring_program.zip"]
    (folder / "bundle.zip").write_bytes(pack(files))
    return [folder / "bundle.zip"]


def no_labels(folder: Path, bundle: Path) -> list[object]:
    files = read_zip(bundle.read_bytes())
    competition = yaml.safe_load(files["competition.yaml"])
    for task in competition["tasks"]:
        del task["reference_data"]
    files["competition.yaml"] = yaml.safe_dump(competition, sort_keys=False).encode()
    (folder / "bundle.zip").write_bytes(pack(files))
    return [folder / "bundle.zip"]


def other_files(folder: Path, bundle: Path) -> list[object]:
    (folder / "mine").mkdir()
    (folder / "mine/thesis.tex").write_text("precious")
    return [bundle, "-o", folder / "mine"]


REFUSED = [
    (lambda folder, bundle: [folder / "absent.zip"], "cannot be read (No such file or directory)"),
    (no_zip, "not a zip file"),
    (a_part_is_missing, "scoring_program.zip is not in the bundle"),
    (no_labels, "no reference_data to score against"),
    (lambda folder, bundle: [bundle, "--phase", "Warm-up"], "its phases are Development, Final"),
    (lambda folder, bundle: [bundle, folder / "absent.zip"], "no such file or folder"),
    (other_files, "holds files of something else; choose another --output"),
]


@pytest.mark.parametrize(("arrange", "sentence"), REFUSED)
def test_what_cannot_be_rehearsed(arrange: Any, sentence: str, bundle: Path, tmp_path: Path) -> None:
    arguments = arrange(tmp_path, bundle)
    output = [] if "-o" in arguments else ["-o", tmp_path / "out"]
    done = rehearse(*arguments, *output)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/.work").exists()
    if output == []:
        assert (tmp_path / "mine/thesis.tex").read_text() == "precious"


# An engine that knows every image, and runs a command with the paths outside in place of the mounts
ENGINE = """
import os, pathlib, shlex, sys
arguments = sys.argv[1:]
if arguments[0] == "info":
    sys.exit(0)
if arguments[0] in ("image", "rm"):
    sys.exit(0)
mounts, image, rest = {{}}, None, arguments[1:]
flags = {{"--rm"}}
while rest[0].startswith("--"):
    name = rest.pop(0)
    if name in flags:
        continue
    value = rest.pop(0)
    if name == "--volume":
        outside, inside = value.removesuffix(":ro").split(":")
        mounts[inside] = outside
    if name == "--workdir":
        workdir = value
image, *command = rest
{before}
def outside(word):
    for inside in sorted(mounts, key=len, reverse=True):
        if word == inside or word.startswith(inside + "/"):
            return mounts[inside] + word[len(inside):]
    return word
command = [sys.executable if word == "python3" else outside(word) for word in command]
os.chdir(outside(workdir))
# Temporary files of its own: the lock of the device lies among them
here = os.path.dirname(mounts["/app/output"])
os.execve(command[0], command, {{"PYTHONUNBUFFERED": "1", "TMPDIR": here}})
"""
LACKS_YAML = """
print("Traceback (most recent call last):", file=sys.stderr)
print("ModuleNotFoundError: No module named 'yaml'", file=sys.stderr)
sys.exit(1)
"""
STARTS_NOTHING = """
print("Error: cannot start the container: no space left", file=sys.stderr)
sys.exit(125)
"""
NO_DAEMON = """#!/bin/sh
echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2
exit 1
"""


def put_engine(folder: Path, content: str) -> str:
    """PATH with a `docker` and a `podman` of this content, a script for the shell or for Python."""
    folder.mkdir()
    if not content.startswith("#!"):  # a path with spaces cannot stand in a first line
        (folder / "engine.py").write_text(content)
        words = [sys.executable, str(folder / "engine.py")]
        content = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    for name in ("docker", "podman"):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        (NO_DAEMON, "Is the docker daemon running?"),
        (ENGINE.format(before=LACKS_YAML), "image me/kit:1 lacks the package yaml"),
        (
            ENGINE.format(before=STARTS_NOTHING),
            "ingestion could not run mine: Error: cannot start the container: no space left",
        ),
    ],
)
def test_engines_and_images_that_do_not_serve(
    engine: str, sentence: str, bundle: Path, tmp_path: Path
) -> None:
    path = put_engine(tmp_path / "bin", engine)
    (tmp_path / "mine.zip").write_bytes(pack({"model.py": MODEL}))
    options = ["--image", "me/kit:1", "-o", tmp_path / "out"]
    done = rehearse(bundle, tmp_path / "mine.zip", *options, PATH=path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr.splitlines()[-1]
    assert done.stderr.count("error: ") <= 2  # scoring's in its log, and the last line


def test_an_image_gets_the_commands_and_the_mounts(bundle: Path, tmp_path: Path) -> None:
    path = put_engine(tmp_path / "bin", ENGINE.format(before=""))
    (tmp_path / "mine.zip").write_bytes(pack({"model.py": MODEL}))
    options = ["--image", "me/kit:1", "--phase", "0", "-o", tmp_path / "out"]
    done = rehearse(bundle, tmp_path / "mine.zip", *options, PATH=path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/Development/mine/scores.json").is_file()


def test_the_engine_that_has_the_image_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_engine(tmp_path / "bin", "#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert find_engine("me/kit:1").program == "docker"
    (tmp_path / "bin/docker").write_text('#!/bin/sh\ntest "$1" = info\n')
    assert find_engine("me/kit:1").program == "podman"
    (tmp_path / "bin/podman").write_text("#!/bin/sh\nexit 1\n")
    assert find_engine("me/kit:1").program == "docker"  # which then says that it lacks the image


def test_the_engine_gets_the_workers_options() -> None:
    """compute_worker.py of Codabench: all capabilities dropped, no new privileges, no more of /dev/shm."""
    mounts = {"/app/program": "/tmp/program", "/app/data": "/tmp/data"}
    container = Container(["python3", "x.py"], mounts, "/app/program", "/tmp/root", True, ("/app/data",))
    line, removal = engine_command(Engine("podman"), "me/kit:1", container, "nvidia.com/gpu=0", False)
    text = " ".join(line)
    assert line[:2] == ["podman", "run"]
    assert line[-3:] == ["me/kit:1", "python3", "x.py"]
    for option in (
        *("--cap-drop ALL", "--security-opt no-new-privileges", "--network none", "--workdir /app/program"),
        *("--volume /tmp/program:/app/program", "--volume /tmp/data:/app/data:ro"),
        *("--device nvidia.com/gpu=0", "--env http_proxy="),
    ):
        assert option in text
    assert "--user" not in text
    assert removal[:3] == ["podman", "rm", "--force"]
    assert removal[3] in line


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="a GPU is there")
def test_a_gpu_that_is_asked_for_must_be_there(bundle: Path, tmp_path: Path) -> None:
    done = rehearse(bundle, "--device", "cuda", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "--device cuda: there is no /dev/nvidiactl" in done.stderr


SLEEPS = b"""
import time
class Model:
    def __init__(self, submission_dir, device):
        time.sleep(100)
"""


def test_an_interrupted_rehearsal_leaves_nothing_running(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "sleeps.zip").write_bytes(pack({"model.py": SLEEPS}))
    arguments = [bundle, tmp_path / "sleeps.zip", "--phase", "0", "-o", tmp_path / "out"]
    command = [sys.executable, str(REHEARSE), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "loading" in line or "ingestion" in line or "reference" in line or "patches" in line:
                break
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 143
    assert not (tmp_path / "out/.work").exists()
    work = str(tmp_path / "out/.work").encode()
    left = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            left += [path] if work in path.read_bytes() else []
        except OSError:
            continue
    assert left == []
