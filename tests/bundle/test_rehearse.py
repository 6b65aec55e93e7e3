"""rehearse.py: a finished bundle run at home, what it tells, and what it refuses."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_files import KIT, pack, read_zip

import rehearse as command
from flair_bundle import rehearsal
from flair_bundle.platform.container import Container
from flair_bundle.platform.engine import Engine, engine_command, find_engine
from flair_bundle.platform.process import Step
from flair_bundle.platform.worker import Outcome, read_command
from flair_ingestion.limits import read_limits
from flair_scoring.base.errors import SubmissionError, UsageError

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


def inputs_on_the_worker(folder: Path, bundle: Path) -> list[object]:
    files = read_zip(bundle.read_bytes())
    competition = yaml.safe_load(files["competition.yaml"])
    for task in competition["tasks"]:
        del task["input_data"]
    files["competition.yaml"] = yaml.safe_dump(competition, sort_keys=False).encode()
    (folder / "bundle.zip").write_bytes(pack(files))
    return [folder / "bundle.zip"]


def other_files(folder: Path, bundle: Path) -> list[object]:
    (folder / "mine").mkdir()
    (folder / "mine/thesis.tex").write_text("precious")
    return [bundle, "-o", folder / "mine"]


def damaged_data(folder: Path, bundle: Path) -> list[object]:
    """Both zips open; a file in the inner one has changed."""
    files = read_zip(bundle.read_bytes())
    data = bytearray(files["input_data_development.zip"])
    data[len(data) // 3] ^= 255
    (folder / "bundle.zip").write_bytes(pack(files | {"input_data_development.zip": bytes(data)}))
    return [folder / "bundle.zip"]


def submission_in_output(folder: Path, bundle: Path) -> list[object]:
    (folder / "out").mkdir()
    (folder / "out/rehearsal.json").touch()
    (folder / "out/mine.zip").write_bytes(pack({"model.py": MODEL}))
    return [bundle, folder / "out/mine.zip"]


REFUSED = [
    (lambda folder, bundle: [folder / "absent.zip"], "cannot be read (No such file or directory)"),
    (no_zip, "not a zip file"),
    (a_part_is_missing, "scoring_program.zip is not in the bundle"),
    (no_labels, "no reference_data to score against"),
    (inputs_on_the_worker, "holds no input_data for Development, Final; name the folder"),
    (lambda folder, bundle: [bundle, "--phase", "Warm-up"], "its phases are Development, Final"),
    (lambda folder, bundle: [bundle, folder / "absent.zip"], "no such file or folder"),
    (other_files, "holds files of something else; choose another --output"),
    (damaged_data, "input_data_development.zip: not a readable zip file (Bad CRC-32"),
    (lambda folder, bundle: [bundle, "--worker-data", folder / "absent"], "absent: no such folder"),
    (submission_in_output, "mine.zip lies in it"),
    # options may stand before the submissions
    (lambda folder, bundle: [bundle, "--phase", "0", folder / "a.zip", folder / "b.zip"], "(2 problems)"),
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
    if arrange is submission_in_output:
        assert (tmp_path / "out/mine.zip").is_file()


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
        (ENGINE.format(before=LACKS_YAML), "the image me/kit:1 has no module yaml"),
        (
            ENGINE.format(before=STARTS_NOTHING),
            "ingestion could not run for mine, and ended with exit code 125: Error: cannot start",
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


def without_privileges() -> None:
    """In a child: drop what mount namespaces need, so that paths take the place of mounts."""
    libc = ctypes.CDLL(None)
    capability = 0
    while libc.prctl(24, capability, 0, 0, 0) == 0:
        capability += 1


# The signal, the exit code, the last that is told; with mounts, or with paths in their place
@pytest.mark.parametrize(
    ("number", "code", "last", "isolated"),
    [
        (signal.SIGINT, 130, "interrupted", True),  # Ctrl-C, which all processes of a terminal get
        (signal.SIGKILL, -9, "sleeps", False),
        pytest.param(signal.SIGINT, 130, "interrupted", False, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, 129, "sleeps", True, marks=pytest.mark.long),  # its terminal is closed
        pytest.param(signal.SIGHUP, 129, "sleeps", False, marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, -9, "sleeps", True, marks=pytest.mark.long),
    ],
)
def test_an_interrupted_rehearsal_leaves_nothing_running(
    bundle: Path, tmp_path: Path, number: int, code: int, last: str, isolated: bool
) -> None:
    (tmp_path / "sleeps.zip").write_bytes(pack({"model.py": SLEEPS}))
    arguments = [bundle, tmp_path / "sleeps.zip", "--phase", "0", "-o", tmp_path / "out"]
    command = [sys.executable, str(REHEARSE), *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if isolated else without_privileges,
    ) as process:
        assert process.stderr
        assert any(line.startswith("== 1 of 1") for line in process.stderr)
        work = str(tmp_path / "out/.work")
        started = "ingest.py" if isolated else "runner.py"  # the latter's paths are inside a container
        # It waits while another test on this machine is timed
        wait_until(lambda: any(started in line for line in running_with(work)), 600)
        time.sleep(0.5)
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        told = process.stderr.read()  # its end: no process has the pipe any more
    assert process.returncode == code
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if not line.startswith("waiting: another run is timed")]
    assert (lines or ["== 1 of 1: Development, sleeps"])[-1].endswith(last)
    wait_until(lambda: running_with(work) == [])
    if number != signal.SIGKILL:
        assert not (tmp_path / "out/.work").exists()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running_with(text: str) -> list[str]:
    """The command lines of processes in which a text occurs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line] if text in line else []
    return found


def test_what_an_earlier_rehearsal_has_left_stays_until_the_next_one_runs(tmp_path: Path) -> None:
    """Also where the output is a link to a folder."""
    (tmp_path / "disk").mkdir()
    output = tmp_path / "out"
    output.symlink_to(tmp_path / "disk")
    (output / "rehearsal.json").touch()
    (output / "Final").mkdir()
    with pytest.raises(UsageError), rehearsal.work_folder(output) as work:
        rehearsal.pack_submissions([tmp_path / "absent.zip"], work, ())
    assert (output / "Final").is_dir()
    with rehearsal.work_folder(output) as work:
        rehearsal.remove_earlier(output)
        assert list(output.iterdir()) == [work]


def test_an_output_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(UsageError), rehearsal.work_folder(tmp_path / "out"):
        raise UsageError("no such submission")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    ],
)
def test_a_full_disk_is_told_as_one(error: OSError, tmp_path: Path) -> None:
    sentence = "out: no room is left for the rehearsal"
    with pytest.raises(UsageError, match=sentence), rehearsal.work_folder(tmp_path / "out"):
        raise error


def test_an_output_that_holds_or_is_held_by_what_is_rehearsed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    inputs = [tmp_path / "out/bundle.zip", tmp_path / "link/mine", tmp_path, tmp_path / "outside.zip"]
    with pytest.raises(UsageError, match=r"\(3 problems\)") as told:
        rehearsal.require_apart(tmp_path / "out", inputs)
    assert f"{tmp_path}/out/mine lies in it" in str(told.value)
    assert f"{tmp_path} holds it" in str(told.value)


def test_a_folder_with_files_from_before_1980_is_a_submission(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/model.py").write_bytes(MODEL)
    os.utime(tmp_path / "old/model.py", (0, 0))
    packed = rehearsal.pack_submissions([tmp_path / "old"], tmp_path, ())
    assert read_zip(packed["old"].read_bytes()) == {"model.py": MODEL}


def changed(at: int, value: int) -> bytes:
    content = bytearray(pack({"model.py": MODEL}))
    content[at] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (changed(60, 0), "the worker cannot unpack it (Bad CRC-32 for file 'model.py'); zip it again"),
        (changed(6, 1).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"), "is encrypted"),
        (pack({"a": b"", "a/b": b""}), "the worker cannot unpack it (Not a directory)"),
        (b"text", "mine.zip: is no zip"),
        (None, "mine.zip: is no zip"),
    ],
)
def test_submissions_that_no_worker_unpacks(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is None:
        os.mkfifo(tmp_path / "mine.zip")
    else:
        (tmp_path / "mine.zip").write_bytes(content)
    with pytest.raises(UsageError) as told:
        rehearsal.pack_submissions([tmp_path / "mine.zip"], tmp_path, ())
    assert sentence in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zip"]


def test_a_submission_with_the_name_of_a_solution(tmp_path: Path) -> None:
    (tmp_path / "solution_trivial.zip").write_bytes(pack({"model.py": MODEL}))
    with pytest.raises(UsageError, match="another submission has the name solution_trivial; rename one"):
        rehearsal.pack_submissions([tmp_path / "solution_trivial.zip"], tmp_path, ["solution_trivial"])


@pytest.mark.parametrize("text", ["command: [python3", "command: 5", "- a list", "\udc80"])
def test_a_metadata_file_from_which_no_command_can_be_read(text: str, tmp_path: Path) -> None:
    """Ingestion refuses such a submission, with a reason."""
    (tmp_path / "metadata.yaml").write_bytes(text.encode(errors="surrogateescape"))
    assert read_command(tmp_path) is None


def test_every_phase_and_task_has_a_folder_of_its_own_inside_the_output(bundle: Path, tmp_path: Path) -> None:
    files = read_zip(bundle.read_bytes())
    competition = yaml.safe_load(files["competition.yaml"])
    names = ["../Warm-up 1/2", "..", "Übung", "Übung", "rehearsal.json", ".work", "x" * 256]
    competition["phases"] = [competition["phases"][0] | {"name": name} for name in names]
    competition["phases"][2]["tasks"] = [0, 1]
    files["competition.yaml"] = yaml.safe_dump(competition).encode()
    (tmp_path / "bundle.zip").write_bytes(pack(files))
    phases, _ = rehearsal.read_phases(tmp_path / "bundle.zip", tmp_path, None)
    folders = [phase.folder for phase in phases]
    assert folders[:5] == ["__Warm-up 1_2", "_", "Übung, task 0", "Übung, task 1", "Übung"]
    assert folders[5:7] == ["rehearsal.json (2)", "_work"]
    assert len(folders[7]) < 100


NOTHING = Step(0, "", "", 1.0)


@pytest.mark.parametrize(
    ("ingestion", "scoring", "error", "sentence"),
    [
        (
            Step(1, "", "ModuleNotFoundError: No module named 'flair_scoring.metrics'\n", 1.0),
            Step(3, "", "", 1.0),
            UsageError,
            "the ingestion program of the bundle lacks the module flair_scoring.metrics; build",
        ),
        (
            NOTHING,
            Step(1, "", "ModuleNotFoundError: No module named 'imagecodecs'\n", 1.0),
            UsageError,
            "this Python has no module imagecodecs",
        ),
        (
            NOTHING,
            Step(2, "", "note\nerror: no masks\n", 1.0),
            UsageError,
            "scoring could not run for mine, and ended with exit code 2: no masks",
        ),
        (Step(137, "", "", 1.0), Step(3, "", "", 1.0), UsageError, "exit code 137: it printed nothing"),
        (Step(4, "", "", 1.0), Step(4, "", "", 1.0), SubmissionError, "mine in Final"),
        (None, None, SubmissionError, "mine in Final"),
    ],
)
def test_the_end_of_a_rehearsal_tells_who_is_at_fault(
    ingestion: Step | None, scoring: Step | None, error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    outcome = Outcome("Failed", None, ingestion, scoring, None, None, None, None)
    phase = rehearsal.Phase("Final", "Final", {}, {}, read_limits(), [])
    with pytest.raises(error) as told:
        command.fail_for([rehearsal.Rehearsed(phase, "mine", 1.0, outcome, tmp_path)], None)
    assert sentence in str(told.value)
