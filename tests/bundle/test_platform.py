"""The bundle on the emulated platform: who gets a score, what the others are told, what participants see."""

from __future__ import annotations

import html
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from bundle_files import KIT, pack, read_zip, run_build
from compute_worker import Outcome, Worker, pack_folder
from entries import ENTRIES, Entry, copy_submission
from sklearn.metrics import jaccard_score

from flair_bundle.platform.container import ENVIRONMENT, Container, namespaces_work
from flair_bundle.platform.process import run_step
from flair_bundle.platform.worker import AT_SCORING, NEVER
from flair_ingestion.sandbox.policy import LEVELS

Bundle = dict[str, bytes]
# One of each kind: a score, each way to fail, each attack on what the platform hands over
ALWAYS = {"honest_batch_7", "raises_in_init", "label_256", "patches_clocks", "attacks_parent"} | {
    *("ships_predictions", "metadata_command")
}
# Where scoring's reason is not the sentence that ingestion prints
REASONS = {
    "raises_in_init": "ingestion failed: loading: RuntimeError: ",
    "metadata_command": "of a container of the submission's own; remove the command",
}
CASES = [
    pytest.param(entry, id=entry.name, marks=[] if entry.name in ALWAYS else pytest.mark.long)
    for entry in ENTRIES
]


def change_limits(bundle: Bundle, limits: str = "") -> Bundle:
    """The bundle of an organizer who has edited limits.yaml; no reference is timed without a `ratio`."""
    program = read_zip(bundle["ingestion_program.zip"])
    content = yaml.safe_load(program["limits.yaml"]) | {"ratio": None} | (yaml.safe_load(limits) or {})
    program["limits.yaml"] = yaml.safe_dump(content).encode()
    return bundle | {"ingestion_program.zip": pack(program)}


@pytest.fixture(scope="session")
def task(competition: dict[str, Any]) -> dict[str, Any]:
    return competition["tasks"][1]


def refused(outcome: Outcome) -> str:
    """What scoring says to a submission that gets no score; asserts that it gets nothing else either."""
    assert outcome.status == "Failed"
    assert outcome.scoring
    assert outcome.scoring.returncode in (2, 3, 4)
    assert "Traceback" not in outcome.scoring.stderr
    assert (outcome.scores, outcome.scored) == (None, {})
    assert outcome.report
    page = html.unescape(outcome.report.decode())
    assert "What to do" in page
    assert ("over the time limit</p>" in page) == (outcome.scoring.returncode == 4)
    told = outcome.scoring.stderr.removeprefix("error: ").strip()
    assert told.splitlines()[0] in page  # logs may be hidden
    return told


@pytest.mark.parametrize("entry", CASES)
def test_each_submission_gets_a_score_or_a_reason(
    entry: Entry, files: Bundle, competition: dict[str, Any], task: dict[str, Any], tmp_path: Path
) -> None:
    submission = pack_folder(copy_submission(entry.name, tmp_path / "copies"))
    outcome = Worker(tmp_path / "worker").run(change_limits(files, entry.limits), task, submission)
    assert outcome.ingestion
    if outcome.own and namespaces_work():  # it names /app
        assert outcome.own.returncode == 0, outcome.own.stderr
    timing = json.loads(outcome.predicted.get("timing.json", b"{}"))
    if entry.level != "none" and LEVELS.index(timing["sandbox"]) < LEVELS.index(entry.level):
        assert "CHEATED" in outcome.ingestion.stderr  # what this kernel cannot prevent is told
        return
    assert outcome.ingestion.returncode == entry.exit_code, outcome.ingestion.stderr
    assert set(outcome.predicted) >= {"metadata", "timing.json", "manifest.json"}
    if entry.exit_code:
        assert REASONS.get(entry.name, entry.says) in refused(outcome)
        assert set(outcome.predicted) == {"metadata", "timing.json", "manifest.json"}
        return
    assert outcome.status == "Finished", outcome.scoring and outcome.scoring.stderr
    assert outcome.scores
    columns = [column["key"] for column in competition["leaderboards"][0]["columns"]]
    assert list(outcome.scores) == [key for key in columns if key != "time_ratio"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in outcome.scores.values())


@pytest.mark.long
@pytest.mark.parametrize("name", ["sleeps", "keeps_state", "caches_by_content", "looks_around"])
def test_submissions_that_other_tests_use(
    name: str, files: Bundle, task: dict[str, Any], tmp_path: Path
) -> None:
    """A slow one, two that only an audit shows, and one that ends when it has looked around."""
    submission = copy_submission(name, tmp_path / "copies")
    (submission / "seconds").write_text("0.01")
    outcome = Worker(tmp_path / "worker").run(change_limits(files), task, pack_folder(submission))
    if name == "looks_around":
        assert "RuntimeError: seen enough" in refused(outcome)
    else:
        assert outcome.status == "Finished", outcome.scoring


@pytest.mark.parametrize(
    ("copies", "name", "scored"),
    [
        pytest.param(NEVER, "honest_constant", True, marks=pytest.mark.long),
        (NEVER, "ships_predictions", False),
        (AT_SCORING, "honest_constant", True),
        pytest.param(AT_SCORING, "ships_predictions", False, marks=pytest.mark.long),
    ],
)
def test_a_worker_that_copies_the_submission_at_another_time(
    files: Bundle, task: dict[str, Any], tmp_path: Path, copies: str, name: str, scored: bool
) -> None:
    submission = pack_folder(copy_submission(name, tmp_path / "copies"))
    outcome = Worker(tmp_path / "worker", copies=copies).run(change_limits(files), task, submission)
    if scored:
        assert outcome.status == "Finished", outcome.scoring
    else:
        assert "'predictions/PRED_077413.tif' is a result" in refused(outcome)


PROBE = """
import json, os, shutil
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
try:
    import flair_scoring
except ImportError:
    flair_scoring = None
print(json.dumps({
    "environment": dict(os.environ), "folder": os.getcwd(), "user": os.getuid(), "process": os.getpid(),
    "capabilities": {name: int(status[name], 16) for name in status if name.startswith("Cap")},
    "shared memory": shutil.disk_usage("/dev/shm").total, "app": sorted(os.listdir("/app")),
    "temporary": os.listdir("/tmp"), "kit": flair_scoring is not None,
    "written": os.access("/app/data", os.W_OK),
}))
"""


def test_containers_are_as_bare_as_the_platforms(tmp_path: Path) -> None:
    """What was printed from inside of the real worker's containers."""
    for name in ("root", "program", "data"):
        (tmp_path / name).mkdir()
    mounts = {"/app/program": str(tmp_path / "program"), "/app/data": str(tmp_path / "data")}
    probe = [sys.executable, "-c", PROBE if namespaces_work() else PROBE.replace('"/app', f'"{tmp_path}')]
    container = Container(
        probe, mounts, "/app/program", str(tmp_path / "root"), namespaces_work(), ("/app/data",)
    )
    done = run_step(container.launcher(), ENVIRONMENT, show=False, timeout=200)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["environment"].keys() - {"LC_CTYPE"} == {"PYTHONUNBUFFERED", "http_proxy", "https_proxy"}
    bounding = seen["capabilities"].pop("CapBnd")
    assert set(seen["capabilities"].values()) == {0}
    assert bounding == 0 or os.geteuid()  # only root can give up what it could get back
    if namespaces_work():
        assert (seen["folder"], seen["user"], seen["process"]) == ("/app/program", 0, 1)
        assert seen["shared memory"] == 64 << 20
        assert seen["app"] == ["data", "program"]
        in_tmp = {
            path.parts[2] for path in map(Path, (sys.prefix, sys.base_prefix)) if path.parts[1] == "tmp"
        }
        assert (set(seen["temporary"]), seen["kit"], seen["written"]) == (in_tmp, False, False)
    else:
        assert seen["folder"] == str(tmp_path / "program")


def test_where_namespaces_are_refused_paths_take_the_place_of_mounts(
    files: Bundle, task: dict[str, Any], tmp_path: Path
) -> None:
    """And a submission that was zipped with its folder, on a Mac."""
    model = (KIT / "tests/submissions/honest_constant.py").read_bytes()
    submission = pack({"mine/model.py": model, "mine/.DS_Store": b"\0", "__MACOSX/mine/._model.py": b"\0"})
    outcome = Worker(tmp_path, isolated=False).run(change_limits(files), task, submission)
    assert outcome.status == "Finished", outcome.scoring
    assert not (tmp_path / "prediction/program/signing.key").exists()


# What a submission can put into the output without ingestion: all but the signature
FORGED: Bundle = {
    "timing.json": b'{"schema": 1, "verdict": "within_limit", "reason": "fast", "inference_seconds": 0.1}',
    "manifest.json": b'{"schema": 1, "files": {"timing.json": ""}, "signature": "00"}',
    "scores.json": b'{"miou": 1.0}',
    "detailed_results.html": b"<p>first place",
}
# A program of the submission's own, which puts it all there, and more
OWN: Bundle = {
    "metadata.yaml": b"command: python3 forge.py /app/program /app/output",
    "forge.py": b"""
import pathlib, shutil, sys
program, output = map(pathlib.Path, sys.argv[1:])
for path in program.iterdir():
    shutil.copy(path, output)
(output / "metadata").write_text("ingestionExitCode: 0")
""",
    "model.py": b"",
}


def test_a_program_of_the_submissions_own_earns_nothing(
    files: Bundle, task: dict[str, Any], tmp_path: Path
) -> None:
    outcome = Worker(tmp_path).run(change_limits(files), task, pack(OWN | FORGED))
    assert outcome.own
    assert outcome.own.returncode == 0, outcome.own.stderr
    assert "exitCode 0 and elapsedTime" in (told := refused(outcome))
    assert "of a container of the submission's own; remove the command from its metadata file" in told


# It knows all inputs before the clock starts, and hides the command that let it run
EARLY = b"""
import pathlib
answers = [path.name for path in pathlib.Path("/app/input_data").rglob("IMG_*.tif")]
pathlib.Path("answers.txt").write_text("\\n".join(answers))
pathlib.Path("metadata.yaml").write_text("description: a submission")
pathlib.Path("metadata").unlink(missing_ok=True)
"""
RECORD = b"{exitCode: null, elapsedTime: 9.5, ingestionExitCode: 0, ingestionElapsedTime: 9.5}"


@pytest.mark.long
@pytest.mark.skipif(not namespaces_work(), reason="its program names /app")
@pytest.mark.parametrize(
    ("copies", "brought", "sentence"),
    [
        (NEVER, {}, "of a container of the submission's own; remove the command"),
        (AT_SCORING, {"metadata": RECORD}, "metadata.yaml: has a command, so the submission had a container"),
    ],
)
def test_a_program_that_hides_its_own_command_earns_nothing(
    files: Bundle, task: dict[str, Any], tmp_path: Path, copies: str, brought: Bundle, sentence: str
) -> None:
    """Ingestion sees an honest submission then and signs its result."""
    submission = {
        "metadata.yaml": b"command: python3 early.py",
        "early.py": EARLY,
        "model.py": MODEL,
        **brought,
    }
    outcome = Worker(tmp_path, copies=copies).run(change_limits(files), task, pack(submission))
    assert outcome.own
    assert outcome.own.returncode == 0, outcome.own.stderr
    assert outcome.ingestion
    assert outcome.ingestion.returncode == 0, outcome.ingestion.stderr
    assert sentence in refused(outcome)


def test_ingestion_that_cannot_start_earns_nothing(
    files: Bundle, task: dict[str, Any], tmp_path: Path
) -> None:
    """It leaves the output as it was: with what a worker or the submission has put there."""
    without_data = {key: value for key, value in task.items() if key != "input_data"}
    outcome = Worker(tmp_path / "copied").run(files, without_data, pack({"model.py": b"", **FORGED}))
    assert outcome.ingestion
    assert outcome.ingestion.returncode == 2
    assert "/app/input_data" in outcome.ingestion.stderr
    assert set(outcome.predicted) == {"model.py", "metadata", *FORGED}
    assert "ingestion ended with exit code 2; its log says why" in refused(outcome)

    outcome = Worker(tmp_path / "own").run(files, without_data, pack(OWN | FORGED))
    # The worker gives up: what it wants to record is there already
    assert (outcome.status, outcome.scoring, outcome.scores) == ("Failed", None, None)


def test_the_places_that_everybody_knows_are_out_of_reach(
    files: Bundle, task: dict[str, Any], tmp_path: Path
) -> None:
    """Where data, output and programs lie on the platform, no submission has to guess."""
    places = {
        "data": "/app/input_data",
        "file": "/app/input_data/flair_aerial_metadata.json",
        "output": "/app/output",
        "port": 9,  # nobody answers, allowed or not: test_sandbox.py has a server
    }
    submission = copy_submission("reaches_out", tmp_path / "copies")
    (submission / "targets.json").write_text(json.dumps(places))
    outcome = Worker(tmp_path / "worker").run(change_limits(files), task, pack_folder(submission))
    assert "ingestion failed: loading: RuntimeError: tried everything" in refused(outcome)
    assert outcome.ingestion
    (line,) = [line for line in outcome.ingestion.stderr.splitlines() if "list the data" in line]
    tried = json.loads(line.partition("| ")[2])
    sandbox = json.loads(outcome.predicted["timing.json"])["sandbox"]
    if LEVELS.index(sandbox) >= LEVELS.index("files"):
        allowed = {"write its home", "discard output", "read its own status", "signal the parent"}
        assert {what for what in tried if tried[what]} <= allowed


# Labels that follow from the image alone, so that every run predicts the same
MODEL = b"""
class Model:
    batch_size = 4

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return batch["aerial"][:, 0] // 20
"""


@pytest.fixture(scope="module")
def both(
    files: Bundle, task: dict[str, Any], flair_tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """What evaluate.py writes for a participant's submission, and what the platform makes of it."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "mine.zip").write_bytes(pack({"model.py": MODEL}))
    command = [sys.executable, KIT / "starting_kit/evaluate.py", folder / "mine.zip", "--data", flair_tree]
    options = ["--output", folder / "home", "--limit-ratio", "0", "--device", "cpu"]
    done = subprocess.run(map(str, command + options), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    submission = (folder / "mine.zip").read_bytes()
    outcome = Worker(folder / "worker").run(change_limits(files), task, submission)
    assert outcome.status == "Finished", outcome.scoring
    return folder / "home/mine", outcome


def test_the_scores_are_those_of_a_run_at_home_but_for_the_time(both: tuple[Path, Outcome]) -> None:
    at_home = json.loads((both[0] / "scores.json").read_text())
    scores = dict(both[1].scores or {})
    assert list(scores) == list(at_home)
    assert scores.pop("inference_seconds") != at_home.pop("inference_seconds")
    assert scores == at_home
    predictions = {name: file for name, file in both[1].predicted.items() if name.startswith("predictions/")}
    assert len(predictions) == 6
    assert all((both[0] / name).read_bytes() == file for name, file in predictions.items())


def test_the_score_is_scikit_learns_of_what_the_submission_computes(
    both: tuple[Path, Outcome], flair_tree: Path
) -> None:
    masks = sorted(flair_tree.glob("flair_2_labels_test/**/MSK_*.tif"))
    images = sorted(flair_tree.glob("flair_2_aerial_test/**/IMG_*.tif"))
    values = np.concatenate([rasterio.open(path).read(1).ravel() for path in masks])
    red = np.concatenate([rasterio.open(path).read(1).ravel() for path in images])
    expected = jaccard_score(np.minimum(values, 13) - 1, red // 20, labels=range(12), average="macro")
    assert both[1].scores
    assert both[1].scores["miou"] == pytest.approx(expected, abs=1e-12)


def test_participants_learn_nothing_of_single_masks(both: tuple[Path, Outcome]) -> None:
    outcome = both[1]
    names = {"confusion.npz", "detailed_results.html", "timing.json", "scores.json"}
    assert set(outcome.scored) == names
    with np.load(io.BytesIO(outcome.scored["confusion.npz"])) as file:
        arrays = {name: file[name] for name in file.files}
    several = {name for name, array in arrays.items() if array.size > 1}
    assert several == {"domains", "matrices", "reference_checksums"}
    assert arrays["reference_checksums"].shape == (3,)
    assert arrays["matrices"].shape == (3, 13, 13)
    assert (arrays["matrices"].sum(axis=(1, 2)) == 2 * 512 * 512).all()  # both patches of each domain
    ids = [name[-10:-4] for name in outcome.predicted if name.startswith("predictions/")]
    told = b"".join(outcome.scored.values()) + str(outcome.scoring).encode()
    assert not [id for id in ids if re.search(rb"(?<![0-9a-f.])%s(?![0-9a-f])" % id.encode(), told)]
    assert outcome.report == outcome.scored["detailed_results.html"]
    assert outcome.scored["timing.json"] == outcome.predicted["timing.json"]


def test_the_guide_tells_of_every_file_that_participants_get(both: tuple[Path, Outcome]) -> None:
    told = (KIT / "bundle/README.md").read_text().split("**What participants see.**")[1].split("**")[0]
    rows = [row for row in told.splitlines() if row.startswith("| output of")]
    for row, output in zip(rows, (both[1].predicted, both[1].scored), strict=True):
        names = {name.split("/")[0] + "/" * ("/" in name) for name in output}
        assert not [name for name in names if f"`{name}`" not in row]


def test_inputs_that_stay_on_the_worker(flair_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    output = tmp_path / "dist/bundle.zip"
    options = ("--data", flair_tree, "--data-on-worker", "flair2", "--untrained-reference", "-o", output)
    assert run_build(*options).returncode == 0
    bundle = read_zip(output.read_bytes())
    task = yaml.safe_load(bundle["competition.yaml"])["tasks"][1]
    program = change_limits({"ingestion_program.zip": bundle[task["ingestion_program"]]})
    bundle[task["ingestion_program"]] = program["ingestion_program.zip"]
    worker = Worker(tmp_path / "worker", data=tmp_path / "dist/worker_data")
    outcome = worker.run(bundle, task, pack({"model.py": MODEL}))
    assert outcome.status == "Finished", outcome.scoring
    assert len([name for name in outcome.predicted if name.startswith("predictions/")]) == 6


def test_the_trivial_solution(files: Bundle, competition: dict[str, Any], tmp_path: Path) -> None:
    worker, task = Worker(tmp_path), competition["tasks"][0]
    outcome = worker.run(change_limits(files), task, files["solution_trivial.zip"])
    assert outcome.status == "Finished", outcome.scoring
    assert outcome.scores
    assert [key for key, value in outcome.scores.items() if key.startswith("iou_") and value] == [
        "iou_herbaceous_vegetation"
    ]


@pytest.mark.long
def test_the_reference_solution_fills_every_column(
    files: Bundle, competition: dict[str, Any], tmp_path: Path
) -> None:
    """On one patch of each domain and far from the limit: it is slow on a processor.

    The time of so few patches scatters too much for a verdict, so a reference that sleeps takes its place.
    """
    task = competition["tasks"][0]
    few: Bundle = {}
    for name in (task["input_data"], task["reference_data"]):
        content = read_zip(files[name])
        seconds = [path for path in content if re.search(r"(IMG|MSK)_\d{5}[02468]\.tif$", path)]
        assert len(seconds) == 3
        few[name] = pack({path: file for path, file in content.items() if path not in seconds})
    bundle = change_limits(files, "ratio: 100") | few
    program = read_zip(bundle["ingestion_program.zip"])
    assert "reference_submission/model.py" in program
    program["reference_submission/model.py"] = (KIT / "tests/submissions/sleeps.py").read_bytes()
    program["reference_submission/seconds"] = b"1"
    bundle["ingestion_program.zip"] = pack(program)
    outcome = Worker(tmp_path).run(bundle, task, files["solution_reference.zip"])
    assert outcome.status == "Finished", outcome.scoring
    assert outcome.scores
    columns = [column["key"] for column in competition["leaderboards"][0]["columns"]]
    assert list(outcome.scores) == columns
    assert 0.05 < outcome.scores["time_ratio"] < 20
