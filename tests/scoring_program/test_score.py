"""score.py as people and the platform call it: files, keys, exit codes and messages."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sample_patches import PLACES, Patches
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import jaccard_score

from copies import copy_folder
from flair_scoring.base.provenance import stamp
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.outputs.manifest import write_manifest
from flair_scoring.raster import write_labels
from programs import run_here

PROGRAM = Path(__file__).resolve().parents[2] / "scoring_program"
KEY = b"73656372657420\n"
TIMING: dict[str, Any] = {
    **stamp(),
    "verdict": "within_limit",
    "reason": None,
    "inference_seconds": 12.5,
    "reference_seconds": 10.0,
    "ratio": 1.25,
    "limit_ratio": 2.5,
    "limit_seconds": None,
    "device": "<script>alert(1)</script>",
}
COLUMNS = [
    "miou",
    "time_ratio",
    "inference_seconds",
    "overall_accuracy",
    "miou_low",
    "miou_high",
    *FLAIR_12.keys,
]


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line; no failure may show a traceback."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def score(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_here("score", *arguments, folder="scoring_program")


def read_scores(folder: Path) -> dict[str, float]:
    return json.loads((folder / "scores.json").read_text(), parse_constant=pytest.fail)


def pixels(patches: Patches) -> tuple[np.ndarray, np.ndarray]:
    truth = np.minimum(np.ravel([patches.masks[id] for id in PLACES]).astype(int) - 1, 12)
    return truth, np.ravel([patches.labels[id] for id in PLACES])


def test_writes_what_the_design_promises(patches: Patches, tmp_path: Path) -> None:
    done = score(patches.predictions, patches.references, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "confusion.npz",
        "detailed_results.html",
        "scores.json",
    }
    scores = read_scores(tmp_path / "out")
    assert list(scores) == [key for key in COLUMNS if key not in ("time_ratio", "inference_seconds")]
    truth, predicted = pixels(patches)
    expected = jaccard_score(truth, predicted, labels=range(12), average=None)
    assert scores["miou"] == pytest.approx(expected.mean(), abs=1e-12)
    assert [scores[key] for key in FLAIR_12.keys] == pytest.approx(expected.tolist(), abs=1e-12)
    assert scores["miou_low"] < scores["miou"] < scores["miou_high"]
    assert done.stdout.splitlines()[-1] == f"mIoU: {expected.mean():.4f}"
    matrices = np.load(tmp_path / "out/confusion.npz")
    assert matrices["matrices"].dtype == np.uint32
    np.testing.assert_array_equal(matrices["ids"], sorted(PLACES))
    assert [f"{d}/{a}" for d, a in zip(matrices["domains"], matrices["areas"], strict=True)] == list(
        PLACES.values()
    )
    np.testing.assert_array_equal(
        matrices["matrices"].sum(axis=0), sklearn_matrix(truth, predicted, labels=range(13))
    )
    assert int(matrices["schema"]) == 1


def test_reads_the_output_of_ingestion_and_writes_into_it(patches: Patches, tmp_path: Path) -> None:
    text = json.dumps(TIMING)
    (tmp_path / "timing.json").write_text(text)
    done = score(tmp_path, patches.references, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    scores = read_scores(tmp_path)
    assert list(scores) == COLUMNS
    assert (scores["time_ratio"], scores["inference_seconds"]) == (1.25, 12.5)
    assert (tmp_path / "timing.json").read_text() == text
    assert "<script" not in (tmp_path / "detailed_results.html").read_text()


def test_columns_without_a_value_are_left_out_or_zero(patches: Patches, tmp_path: Path) -> None:
    for id in PLACES:
        write_labels(patches.reference(id), np.full((512, 512), 5, np.uint8))
        write_labels(patches.prediction(id), np.full((512, 512), 4, np.uint8))
    (tmp_path / "ids.txt").write_text("077413\n080001\n")
    (tmp_path / "timing.json").write_text(json.dumps(TIMING | {"ratio": None}))
    score(tmp_path, patches.references, "--ids", tmp_path / "ids.txt", "--output", tmp_path)
    scores = read_scores(tmp_path)
    assert not {"time_ratio", "miou_low", "miou_high"} & scores.keys()  # two domains
    assert scores["miou"] == scores["iou_water"] == 1.0
    assert [scores[key] for key in FLAIR_12.keys].count(0.0) == 11


def test_shards_scored_apart_add_up(patches: Patches, tmp_path: Path) -> None:
    ids = sorted(PLACES)
    for name, shard in {"a": ids[::2], "b": ids[1::2], "whole": ids}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(shard))
        options = ["--ids", tmp_path / f"{name}.txt", "--output", tmp_path / name]
        assert score(patches.predictions, patches.references, *options).returncode == 0
    shards = [tmp_path / "b/confusion.npz", tmp_path / "a/confusion.npz"]
    done = score("--merge", *shards, "--output", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert read_scores(tmp_path / "merged") == read_scores(tmp_path / "whole")
    whole, merged = (np.load(tmp_path / name / "confusion.npz") for name in ("whole", "merged"))
    for name in ("ids", "domains", "areas", "matrices", "reference_checksums"):
        np.testing.assert_array_equal(merged[name], whole[name])
    assert "note: Files that were scored apart and put together: 2." in done.stderr

    folders = score("--merge", tmp_path / "a", shards[0], "--output", tmp_path / "merged")
    assert folders.returncode == 0, folders.stderr
    assert read_scores(tmp_path / "merged") == read_scores(tmp_path / "whole")

    kept = (tmp_path / "a/scores.json").read_text()
    into = score("--merge", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "a")
    assert (into.returncode, (tmp_path / "a/scores.json").read_text()) == (2, kept)
    into = score("--merge", *shards, "--output", tmp_path / "a")
    assert (into.returncode, (tmp_path / "a/scores.json").read_text()) == (2, kept)
    assert "holds a file that --merge reads" in into.stderr
    twice = score("--merge", *shards, tmp_path / "whole/confusion.npz", "--output", tmp_path / "merged")
    assert twice.returncode == 2
    assert "share 2 patches, the first 077413" in twice.stderr
    assert not (tmp_path / "merged/scores.json").exists()

    cut(patches)
    options = ["--ids", tmp_path / "a.txt", "--output", tmp_path / "a"]
    assert score(patches.predictions, patches.references, *options).returncode == 3
    without = score("--merge", *shards, "--output", tmp_path / "merged")  # of a, nothing counts any more
    assert without.returncode == 2
    assert f"{shards[1]}: cannot be read" in without.stderr
    without = score("--merge", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "merged")
    assert without.returncode == 2
    assert f"{tmp_path / 'a'}: holds no confusion.npz" in without.stderr
    assert "1 problem" in without.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected PRED and REF"),
        (["pred"], "expected PRED and REF"),
        (["pred", "ref", "--merge", "a.npz"], "--merge stands alone"),
        (["--merge", "a.npz", "--platform"], "--merge stands alone"),
    ],
)
def test_half_a_command_line_is_explained(arguments: list[str], sentence: str) -> None:
    done = score(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


OUTPUTS = {"confusion.npz", "detailed_results.html", "timing.json", "scores.json"}


def cut(patches: Patches) -> None:
    patches.prediction("077413").write_bytes(b"II*\0")


FAILURES: dict[str, tuple[Callable[[Patches], object], list[str], int, str]] = {
    "prediction": (cut, [], 3, "PRED_077413.tif"),
    "reference": (
        lambda patches: patches.reference("077413").write_text("no raster"),
        [],
        2,
        "is not a TIFF file",
    ),
    "nomenclature": (lambda patches: None, ["--nomenclature", "flair-13"], 2, "choose one of flair-12"),
    "jobs": (lambda patches: None, ["--jobs", "0"], 2, "expected at least 1"),
    "ids": (lambda patches: None, ["--ids", "nowhere.txt"], 2, "nowhere.txt: cannot be read"),
    "key": (lambda patches: None, ["--platform"], 2, "signing.key: missing"),
    "ids on the platform": (
        lambda patches: None,
        ["--platform", "--ids", "x"],
        2,
        "--ids cannot be combined",
    ),
    "no folder": (lambda patches: shutil.rmtree(patches.predictions), [], 2, "no such folder"),
    "no images": (lambda patches: None, ["--pictures", "nowhere"], 2, "nowhere: no such folder"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_leaves_no_scores(patches: Patches, tmp_path: Path, failure: str) -> None:
    damage, options, code, sentence = FAILURES[failure]
    damage(patches)
    for name in OUTPUTS:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("of an earlier run")
    done = score(patches.predictions, patches.references, "--output", tmp_path / "out", *options)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stdout == ""
    left = {path.name for path in (tmp_path / "out").iterdir()}
    if failure == "jobs":  # the command line is not understood, and nothing is touched
        assert left == OUTPUTS
        return
    assert left == {"detailed_results.html"}
    page = (tmp_path / "out/detailed_results.html").read_text()
    assert "no score" in page
    assert (html.escape(sentence) in page) == ("--platform" not in options)


def test_what_cannot_be_written_whole_is_not_left_in_part(patches: Patches, tmp_path: Path) -> None:
    (tmp_path / ".scores.json.partial").mkdir()  # the last file of all cannot be written
    done = score(patches.predictions, patches.references, "--output", tmp_path)
    assert done.returncode == 2
    assert "scores.json: cannot be written" in done.stderr
    assert not (tmp_path / "confusion.npz").exists()
    assert "no score" in (tmp_path / "detailed_results.html").read_text()


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        (
            {"verdict": "failed", "reason": "model.py has no Model"},
            3,
            "ingestion failed: model.py has no Model",
        ),
        ({"verdict": "over_limit", "reason": "3.1 x, limit 2.5"}, 4, "over the time limit: 3.1 x, limit 2.5"),
        ({"verdict": None}, 3, "ingestion failed"),
        ({"ratio": "fast"}, 3, "ratio must be numbers or null"),
        ({"ratio": 10**400, "requests": "x"}, 3, "ratio, requests must be numbers or null"),
        ({"latencies_ms": [1.0, float("nan")]}, 3, "latencies_ms must be a list of numbers"),
        ({"latencies_ms": [-1.0]}, 3, "latencies_ms must be a list of numbers"),
        ({"schema": 2}, 2, "schema 2"),
    ],
)
def test_the_verdict_of_ingestion_decides(
    patches: Patches, tmp_path: Path, fields: dict[str, Any], code: int, sentence: str
) -> None:
    (tmp_path / "timing.json").write_text(json.dumps(TIMING | fields))
    done = score(tmp_path, patches.references, "--output", tmp_path)
    assert done.returncode == code
    assert sentence in done.stderr
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize("fields", [{"verdict": "failed", "reason": "no Model"}, {"verdict": "within_limit"}])
def test_without_a_score_the_timing_is_kept_beside_the_page(
    patches: Patches, tmp_path: Path, fields: dict[str, Any]
) -> None:
    (tmp_path / "one").mkdir()  # without predictions, which a run within the limit must have
    text = json.dumps(TIMING | fields)
    (tmp_path / "one/timing.json").write_text(text)
    assert score(tmp_path / "one", patches.references, "--output", tmp_path / "out").returncode == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detailed_results.html", "timing.json"}
    assert (tmp_path / "out/timing.json").read_text() == text
    (tmp_path / "one/timing.json").write_text(text[:-1])  # damaged: not copied, and the earlier copy goes
    assert score(tmp_path / "one", patches.references, "--output", tmp_path / "out").returncode == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detailed_results.html"}


def test_the_organizers_recipe_scores_outputs_again(patches: Patches, tmp_path: Path) -> None:
    """A subset, which leaves references without a prediction, and a failed ingestion, which has no ids."""
    page = (PROGRAM.parent / "bundle/README.md").read_text()
    (recipe,) = re.findall(r"```\n(for one in outputs/.*?)```", page, re.DOTALL)
    for name in ("subset", "failed"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
        fields = {} if name == "subset" else BROKEN
        (tmp_path / "outputs" / name / "timing.json").write_text(json.dumps(TIMING | fields))
    shutil.copytree(patches.predictions, tmp_path / "outputs/subset/predictions")
    (tmp_path / "outputs/subset/predictions/PRED_077413.tif").unlink()
    (tmp_path / "outputs/subset/ids.txt").write_text("\n".join(sorted(PLACES)[1:]))
    for old, new in (
        ("/data/flair2/flair_2_labels_test", shlex.quote(str(patches.references))),
        ("scoring_program", shlex.quote(str(PROGRAM))),
        ("python ", f"{shlex.quote(sys.executable)} "),
    ):
        assert old in recipe
        recipe = recipe.replace(old, new)
    done = run("bash", "-c", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "miou" in read_scores(tmp_path / "runs/rescored/subset")
    assert "ids.txt" not in done.stderr
    assert "predict returned floats" in (tmp_path / "runs/leaderboard.html").read_text()


def test_what_the_machine_refuses_is_told_without_a_traceback(patches: Patches, tmp_path: Path) -> None:
    too_long = score("x" * 300, patches.references)
    assert (too_long.returncode, too_long.stdout) == (2, "")
    assert "File name too long; check the path" in too_long.stderr
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(PROGRAM / "score.py"), patches.predictions, patches.references]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr


def test_a_place_that_cannot_be_written_is_told_before_the_work(patches: Patches) -> None:
    done = score("nowhere", patches.references, "--output", "/proc/self")  # in which nobody can make a file
    assert (done.returncode, done.stdout) == (2, "")
    assert "/proc/self: cannot be written to" in done.stderr


def test_a_reader_that_has_left_is_no_error(patches: Patches) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(PROGRAM / "score.py"), patches.predictions, patches.references]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_from_a_bare_copy_without_torch_and_pandas(patches: Patches, tmp_path: Path) -> None:
    program = tmp_path / "elsewhere"
    copy_folder(PROGRAM, program)
    check = tmp_path / "check.py"
    check.write_text(
        "import pathlib, runpy, sys\n"
        "sys.modules['torch'] = sys.modules['pandas'] = None  # any import of them fails\n"
        f"sys.path[0] = {str(program)!r}\n"
        f"sys.argv = ['score.py', {str(patches.predictions)!r}, {str(patches.references)!r}]\n"
        "try:\n"
        "    runpy.run_path(sys.path[0] + '/score.py', run_name='__main__')\n"
        "finally:\n"
        "    own = [module for name, module in sys.modules.items() if name.startswith('flair_')]\n"
        "    assert len(own) > 5\n"
        f"    assert all(pathlib.Path(module.__file__).is_relative_to({str(program)!r}) for module in own)\n"
    )
    (tmp_path / "empty").mkdir()
    done = run(sys.executable, check, cwd=tmp_path / "empty", env={})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("mIoU: 0.")


@pytest.fixture
def platform(patches: Patches, tmp_path: Path) -> Path:
    """/app as the worker lays it out for scoring, after an ingestion that went well."""
    app = tmp_path / "app"
    copy_folder(PROGRAM, app / "program")
    (app / "program/signing.key").write_bytes(KEY)
    (app / "output").mkdir()
    (app / "input").mkdir()
    shutil.copytree(patches.references, app / "input/ref")
    shutil.copytree(patches.predictions, app / "input/res/predictions")
    (app / "input/res/timing.json").write_text(json.dumps(TIMING))
    write_manifest(app / "input/res", KEY)
    write_record(app)
    return app


def write_record(app: Path, **fields: Any) -> None:
    record = {
        "exitCode": None,
        "elapsedTime": None,
        "ingestionExitCode": 0,
        "ingestionElapsedTime": 40.2,
    } | fields
    (app / "input/res/metadata").write_text(yaml.safe_dump(record))


def run_on_platform(app: Path) -> subprocess.CompletedProcess[str]:
    command = yaml.safe_load((app / "program/metadata.yaml").read_text())["command"]
    # The path may hold spaces here, where the platform's /app has none
    first, *arguments = [word.replace("/app", str(app)) for word in shlex.split(command)]
    assert first == "python3"
    return run(sys.executable, *arguments, cwd=app / "program", env={"PYTHONUNBUFFERED": "1"})


def test_the_platform_gets_all_columns_and_no_matrix_of_a_patch(platform: Path) -> None:
    (platform / "input/res/predictions/PRED_000000.tif").write_text("planted; the manifest does not name it")
    (platform / "input/res/model.py").write_text("copied from the submission")
    (platform / "program/pandas.py").write_text("raise SystemExit('pandas is imported')")
    done = run_on_platform(platform)
    assert done.returncode == 0, done.stderr
    assert list(read_scores(platform / "output")) == COLUMNS
    assert {path.name for path in (platform / "output").iterdir()} == OUTPUTS
    matrices = np.load(platform / "output/confusion.npz")
    assert list(matrices["domains"]) == ["D015_2020", "D022_2021", "D061_2020"]
    assert matrices["matrices"].shape == (3, 13, 13)
    assert matrices["reference_checksums"].shape == (3,)
    assert set(matrices) == {"domains", "matrices", "reference_checksums", *stamp()}
    report = (platform / "output/detailed_results.html").read_text()
    assert not any(id in report for id in PLACES)


def test_the_platform_scores_as_at_home(platform: Path, patches: Patches, tmp_path: Path) -> None:
    run_on_platform(platform)
    score(platform / "input/res", patches.references, "--output", tmp_path / "home")
    assert read_scores(platform / "output") == read_scores(tmp_path / "home")


def sign(app: Path, **fields: Any) -> None:
    (app / "input/res/timing.json").write_text(json.dumps(TIMING | fields))
    write_manifest(app / "input/res", KEY)


def fail(app: Path, code: int, **fields: Any) -> None:
    shutil.rmtree(app / "input/res/predictions")
    (app / "input/res/metadata").unlink()  # the worker writes it, later
    sign(app, **fields)
    write_record(app, ingestionExitCode=code)


def change_prediction(app: Path) -> None:
    write_labels(app / "input/res/predictions/PRED_077413.tif", np.zeros((512, 512), np.uint8))


def link_prediction(app: Path) -> None:
    path = app / "input/res/predictions/PRED_077413.tif"
    path.rename(app / "kept.tif")
    os.symlink(app / "kept.tif", path)


def damage_reference(app: Path) -> None:
    next((app / "input/ref").rglob("MSK_077413.tif")).write_text("no raster")


def leave_out_prediction(app: Path) -> None:
    (app / "input/res/predictions/PRED_077413.tif").unlink()
    sign(app)


def replace_everything(app: Path) -> None:
    """What a submission that runs instead of ingestion can do: all but the signature."""
    write_manifest(app / "input/res", b"guessed")


def change_timing(app: Path) -> None:
    (app / "input/res/timing.json").write_text(json.dumps(TIMING | {"ratio": 0.1}))


def forge_reason(app: Path) -> None:
    """What ingestion that could not start leaves: the submission's own files."""
    shutil.rmtree(app / "input/res/predictions")
    (app / "input/res/timing.json").write_text(json.dumps(TIMING | SLOW | {"reason": "read my page"}))
    write_record(app, ingestionExitCode=2)


def remove(name: str) -> Callable[[Path], object]:
    return lambda app: (app / name).unlink()


SLOW = {"verdict": "over_limit", "reason": "3.1 x the baseline"}
BROKEN = {"verdict": "failed", "reason": "predict returned floats"}
REFUSALS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "failed": (lambda app: fail(app, 3, **BROKEN), 3, "ingestion failed: predict returned floats"),
    "over limit": (lambda app: fail(app, 4, **SLOW), 4, "over the time limit: 3.1 x the baseline"),
    "over limit, ended with 0": (lambda app: sign(app, **SLOW), 4, "over the time limit: 3.1 x the baseline"),
    "crashed": (
        lambda app: write_record(app, ingestionExitCode=137),
        3,
        "ingestion ended with exit code 137",
    ),
    "exit code false": (lambda app: write_record(app, ingestionExitCode=False), 3, "exit code False"),
    "no ingestion": (lambda app: write_record(app, ingestionExitCode=None), 3, "exit code None"),
    "own container": (
        lambda app: write_record(app, exitCode=0, elapsedTime=3.5),
        3,
        "exitCode 0 and elapsedTime 3.5 of a container of the submission's own",
    ),
    "no record": (remove("input/res/metadata"), 3, "metadata: missing or damaged"),
    "odd record": (
        lambda app: (app / "input/res/metadata").write_text("{["),
        3,
        "metadata: missing or damaged",
    ),
    "no manifest": (remove("input/res/manifest.json"), 3, "manifest.json: missing"),
    "unsigned": (lambda app: write_manifest(app / "input/res", None), 3, "not signed"),
    "forged": (replace_everything, 3, "wrong signature"),
    "changed timing": (change_timing, 3, "timing.json was changed"),
    "changed prediction": (change_prediction, 3, "PRED_077413.tif was changed"),
    "linked prediction": (link_prediction, 3, "links are not allowed"),
    "incomplete": (leave_out_prediction, 3, "predictions are missing (1 problem)"),
    "forged reason": (forge_reason, 3, "ingestion ended with exit code 2; its log says why"),
    "no key": (remove("program/signing.key"), 2, "signing.key: missing"),
    "references": (damage_reference, 2, "MSK_077413.tif: is not a TIFF file"),
}
SIGNED = {  # what ingestion has written about time, and nobody has changed
    *("failed", "over limit", "over limit, ended with 0", "crashed", "exit code false", "no ingestion"),
    *("own container", "no record", "odd record", "incomplete", "references"),
}
ADVICE = {2: "write to the organizers", 3: "submit", 4: "faster"}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_platform_gives_no_score_and_says_why(platform: Path, refusal: str) -> None:
    damage, code, sentence = REFUSALS[refusal]
    damage(platform)
    done = run_on_platform(platform)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "read my page" not in done.stderr
    signed = {"timing.json"} if refusal in SIGNED else set()
    assert {path.name for path in (platform / "output").iterdir()} == {"detailed_results.html"} | signed
    page = html.unescape((platform / "output/detailed_results.html").read_text())
    # Participants are not told what is wrong with labels and programs
    assert (sentence in page) == (code != 2)
    assert "MSK_" not in page
    assert "read my page" not in page
    assert ADVICE[code] in page


def test_the_platforms_page_shows_the_signed_time(platform: Path) -> None:
    fail(platform, 4, **SLOW, ratio=3.125)
    run_on_platform(platform)
    page = (platform / "output/detailed_results.html").read_text()
    assert "over the time limit" in page
    assert "3.125" in page
    assert "<script" not in page  # TIMING's device
