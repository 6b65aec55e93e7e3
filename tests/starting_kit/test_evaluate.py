"""evaluate.py on a folder of submissions: interrupted, killed, taken up again, several runs at once."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from entries import copy_submission
from ingest_command import environment, leftovers

import evaluate
from flair_baseline import evaluation
from flair_scoring import Evaluation
from flair_scoring.base.errors import DataError, UsageError, run_command
from flair_scoring.nomenclature import FLAIR_12, FLAIR_18
from flair_scoring.outputs.matrices import encode_matrices
from programs import wait_until

KIT = Path(__file__).resolve().parents[2]
ENDED = evaluation.End(0, "mIoU 0.5000")
OPTIONS = ["--device", "cpu", "--limit-ratio", "0"]


@pytest.fixture
def here(flair_tree: Path, tmp_path: Path) -> Path:
    """Folder with `data` and an empty `submissions`."""
    (tmp_path / "data").symlink_to(flair_tree)
    (tmp_path / "submissions").mkdir()
    return tmp_path


def add(here: Path, original: str, name: str, seconds: float | None = None) -> Path:
    """Put a test submission into the folder under another name."""
    submission = copy_submission(original, here / "copies").rename(here / "submissions" / name)
    if seconds is not None:
        (submission / "seconds").write_text(str(seconds))
    return submission


def start(here: Path, *arguments: object) -> subprocess.Popen[str]:
    """evaluate.py in `here`; by default on all submissions."""
    command = [sys.executable, "-B", KIT / "starting_kit/evaluate.py", *(arguments or ["submissions"])]
    command += ["--data", "data", "--output", "results", *OPTIONS]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env=environment(here),
    )


def finish(run: subprocess.Popen[str], code: int) -> str:
    """Its stderr, which explains without a traceback; asserts that it ends with this exit code."""
    told = run.communicate(timeout=120)[1]
    assert run.returncode == code, told
    assert "Traceback" not in told
    return told


def read_until(run: subprocess.Popen[str], sentence: str) -> None:
    told = ""
    assert run.stderr
    while sentence not in told:
        letter = run.stderr.read(1)
        assert letter, told
        told += letter


def lock_file(here: Path) -> Path:
    """Where runs of this user wait for the CPU."""
    return here / f"tmp/flair2-{os.geteuid()}/cpu.lock"


def is_free(lock: Path) -> bool:
    """Whether nobody times on the device."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def processes(here: Path) -> list[str]:
    """Submissions that run."""
    return [left for left in leftovers(here) if left.isdecimal()]


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_after_a_kill_the_same_command_does_what_is_left(here: Path) -> None:
    add(here, "honest_constant", "a")
    add(here, "raises_in_init", "b")
    slow = add(here, "sleeps", "c", seconds=100)
    add(here, "honest_batch_7", "d")
    (here / "submissions/notes.txt").write_text("not a submission")
    run = start(here)
    read_until(run, "== 3 of 4: c")
    wait_until(lambda: bool(processes(here)))
    run.kill()
    run.communicate()
    wait_until(lambda: is_free(lock_file(here)) and not processes(here))
    results = here / "results"
    assert sorted(path.name for path in results.glob("[!.]*")) == ["a", "b"]
    before = times(results / "a") | times(results / "b")

    (slow / "seconds").write_text("0")
    told = finish(start(here), 3)
    assert times(results / "a") | times(results / "b") == before
    assert "not submissions, left out: notes.txt" in told
    assert "== 1 of 4: a: kept, mIoU 0." in told
    assert "== 2 of 4: b: kept, loading: RuntimeError: " in told
    assert "== 3 of 4: c\n" in told
    assert "== 4 of 4: d\n" in told
    assert "1 of 4 submissions have no score: b (exit code 3)\n  b: loading: RuntimeError: " in told
    files = {"predictions", "ids.txt", "timing.json", "manifest.json"} | {
        *("confusion.npz", "detailed_results.html", "scores.json", "evaluation.json")
    }
    for name in ("a", "c", "d"):
        assert {path.name for path in (results / name).iterdir()} == files
    assert {path.name for path in (results / "b").iterdir()} == {
        *("timing.json", "manifest.json", "evaluation.json")
    }

    ranked = subprocess.run(
        [
            *(sys.executable, KIT / "scoring_program/rank.py", "--output", "leaderboard.html"),
            *sorted(results.glob("*")),
        ],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert ranked.returncode == 0, ranked.stderr
    ranks = {line.split()[1]: line.split()[0] for line in ranked.stdout.splitlines()[1:4]}
    assert ranks.keys() == {"a", "c", "d"}
    assert "failed: loading: RuntimeError: " in ranked.stdout


def test_a_stop_leaves_nothing_running_and_no_half_result(here: Path) -> None:
    add(here, "sleeps", "a", seconds=100)
    add(here, "sleeps", "b", seconds=100)
    run = start(here)
    read_until(run, "== 1 of 2: a")
    wait_until(lambda: bool(processes(here)))
    run.send_signal(signal.SIGTERM)
    assert "Traceback" not in run.communicate(timeout=60)[1]
    assert run.returncode == 143
    assert not leftovers(here)
    assert not list((here / "results").glob("[!.]*"))


@pytest.mark.long
def test_one_that_is_named_is_evaluated_again_and_so_is_one_that_has_changed(here: Path) -> None:
    mine = add(here, "sleeps", "mine", seconds=0).rename(here / "mine")
    shutil.make_archive(here / "submissions/mine", "zip", mine)
    finish(start(here), 0)
    timing = here / "results/mine/timing.json"
    first = timing.read_bytes()
    assert "kept" in finish(start(here), 0)
    assert timing.read_bytes() == first
    assert "kept" not in finish(start(here, "submissions/mine.zip"), 0)
    second = timing.read_bytes()
    assert second != first
    (mine / "seconds").write_text("0.01")
    shutil.make_archive(here / "submissions/mine", "zip", mine)
    assert "kept" not in finish(start(here), 0)
    assert timing.read_bytes() != second


def test_the_conditions_are_what_decides_a_result(tmp_path: Path) -> None:
    submission = copy_submission("honest_constant", tmp_path)
    limits = tmp_path / "limits.yaml"
    limits.write_text("seconds: 5")
    options = ["--limits", str(limits), "--device=cpu"]

    def conditions(**changes: object) -> str | None:
        usual = {"submission": submission, "data": tmp_path, "split": "test", "options": options}
        return evaluation.hash_conditions(**(usual | changes))  # type: ignore[arg-type]

    first = conditions()
    assert first
    assert conditions() == first
    others = [
        conditions(split="val"),
        conditions(data=tmp_path / "other"),
        conditions(options=[*options, "--subset", "3"]),
    ]
    limits.write_text("seconds: 6")
    others.append(conditions())
    (submission / "weights").write_bytes(b"1")
    others.append(conditions())
    assert len({first, *others}) == 6
    (submission / "timing.json").write_text("{}")
    assert conditions() is None


def test_options_of_ingestion_are_not_taken_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "evaluate.py a.zip --data DATA --reference mine --reference-cache kept --plat --require-cage files"
    monkeypatch.setattr(sys, "argv", line.split())
    args, options = evaluate.parse_arguments()
    assert options == ["--reference", "mine", "--plat", "--require-cage", "files"]
    assert args.reference_cache == Path("kept")


def test_an_incomplete_result_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"conditions": "same", "exit_code": 3}')
    assert evaluation.read_end(tmp_path, "same") is None
    (tmp_path / "timing.json").write_text('{"schema": 1, "verdict": "failed", "reason": "it fails"}')
    assert evaluation.read_end(tmp_path, "same") == evaluation.End(3, "it fails")
    assert evaluation.read_end(tmp_path, "others") is None


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize(
    ("named", "advice"),
    [
        (["submissions"], "complete results are kept; this command goes on: "),
        (["submissions/a"], "this command begins again, since it names its submissions: "),
        (
            ["submissions", "mine"],
            "complete results are kept but those of submissions that are named; this command goes on: ",
        ),
    ],
)
def test_an_interruption_tells_the_command_that_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, named, advice, stop
) -> None:
    for name in ("a", "b"):
        add(here, "honest_constant", name)
    add(here, "honest_constant", "c").rename(here / "mine")

    def interrupt(*_: object) -> int:
        raise stop

    monkeypatch.chdir(here)
    monkeypatch.setattr(evaluation, "evaluate_submission", interrupt)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *named, "--data", "data", "--output", "my results"])
    monkeypatch.setattr(sys, "orig_argv", ["python", *sys.argv])
    with pytest.raises(SystemExit) as end:
        run_command(evaluate.main)
    assert end.value.code == (130 if isinstance(stop, KeyboardInterrupt) else 143)
    command = f"python evaluate.py {' '.join(named)} --data data --output 'my results'"
    assert f"\n{advice}{command}\n" in capsys.readouterr().err


def test_a_program_that_is_killed_is_said_to_be(tmp_path: Path) -> None:
    code = evaluation.run_program(["-c", "import os; os.kill(os.getpid(), 9)"])
    assert evaluation.describe_result(tmp_path, code) == (
        "killed by SIGKILL; perhaps the machine ran out of memory"
    )


@pytest.mark.long
def test_a_run_waits_for_its_device(here: Path) -> None:
    add(here, "honest_constant", "a")
    environment(here)
    lock_file(here).parent.mkdir(0o700)
    with lock_file(here).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = start(here, "submissions/a")
        read_until(run, "waiting: another run is timed")
        assert not (here / "results/a").exists()
    finish(run, 0)
    assert (here / "results/a/scores.json").is_file()


@pytest.mark.long
def test_two_runs_share_a_folder(here: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        add(here, "honest_constant", name)
    told = [finish(run, 0) for run in [start(here), start(here)]]
    evaluated = re.findall(r"^== \d of 3: (\w+)$", "".join(told), re.MULTILINE)
    assert sorted(evaluated) == names, told
    assert all((here / "results" / name / "scores.json").is_file() for name in names)


def test_results_folders_of_others_are_told_before_anything_runs(here: Path) -> None:
    for name in ("a", "b", "c"):
        add(here, "honest_constant", name)
    for name in ("a", "c"):
        (here / "results" / name).mkdir(parents=True)
        (here / "results" / name / "thesis.tex").write_text("years of work")
    told = finish(start(here), 2)
    assert "results: cannot take the results (2 problems):" in told
    assert "results/a: holds files that ingestion did not write" in told
    assert "results/c: holds files that ingestion did not write" in told
    assert "== " not in told


def test_holes_in_the_data_are_told_before_anything_runs(
    here: Path, flair_tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = add(here, "honest_constant", "a")
    data = Path(shutil.copytree(flair_tree, here / "holes"))
    command = ["evaluate.py", submission, "--data", data, "--output", here / "results"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    monkeypatch.setattr(evaluate, "evaluate_all", lambda submissions, *_: dict.fromkeys(submissions, ENDED))
    for kind in ("aerial", "sen", "labels"):
        shutil.rmtree(data / f"flair_2_{kind}_test/D022_2021")
    evaluate.main()
    assert "note: 4 of the 6 test patches known to flair_aerial_metadata.json" in capsys.readouterr().err
    for image in data.glob("flair_2_aerial_test/*/*/img/*[02468].tif"):
        image.unlink()
    with pytest.raises(DataError, match=r"\(2 problems\):\n.*1 label without its image"):
        evaluate.main()


@pytest.mark.long
def test_a_submission_that_the_limit_stops_does_not_stop_the_others(here: Path) -> None:
    add(here, "sleeps", "a", seconds=1)
    add(here, "honest_constant", "b")
    told = finish(start(here, "submissions", "--limit-seconds", "0.5"), 4)
    assert "1 of 2 submissions have no score: a (exit code 4)\n  a: " in told
    assert json.loads((here / "results/a/timing.json").read_text())["verdict"] == "over_limit"
    assert (here / "results/b/scores.json").is_file()
    assert not (here / "results/a/predictions").exists()


@pytest.mark.parametrize(("code", "name"), [(129, "SIGHUP"), (130, "SIGINT"), (143, "SIGTERM")])
def test_a_program_that_somebody_has_stopped_is_told_as_such(code: int, name: str, tmp_path: Path) -> None:
    """It said nothing itself, and the next submission does not follow."""
    assert evaluation.describe_result(tmp_path, code) == f"stopped by {name}"
    assert code in evaluation._ABOUT_ALL


def test_what_this_run_did_not_reach_may_have_a_score_of_another_run() -> None:
    ends = {"a": evaluation.End(None, ""), "b": evaluation.End(143, "stopped by SIGTERM")}
    told = str(evaluate.describe_failures(ends, 3))
    assert "have no score: a (not reached by this run), b (exit code 143)\n  b: stopped by SIGTERM" in told


def test_pages_show_pictures_and_a_kept_result_can_be_compared(here: Path) -> None:
    add(here, "honest_constant", "a")
    add(here, "raises_in_init", "b")
    finish(start(here), 3)
    page, timing = (here / "results/a" / name for name in ("detailed_results.html", "timing.json"))
    assert "<h2>Pictures</h2>" in page.read_text()
    before = timing.read_bytes()
    shutil.copytree(here / "results/a", here / "earlier")
    told = finish(start(here, "submissions", "--no-pictures", "--compare", "earlier"), 3)
    assert "== 1 of 2: a: kept, mIoU 0." in told
    assert timing.read_bytes() == before  # scored again, and not timed again
    assert "<h2>Pictures</h2>" not in page.read_text()
    assert "Difference from earlier" in page.read_text()
    conditions = json.loads((here / "results/a/evaluation.json").read_text())["conditions"]
    kept = evaluation.read_end(here / "results/a", conditions)
    assert kept
    assert kept.sentence in told
    scores = (here / "results/a/scores.json").read_bytes()
    told = finish(start(here, "submissions", "--compare", "earlier", "--subset", "1"), 2)
    assert "earlier: patches scored: 6; patches of this run: 1 (--subset)" in told
    assert (here / "results/a/scores.json").read_bytes() == scores


def test_what_cannot_be_compared_is_refused_before_the_run(tmp_path: Path) -> None:
    def write(folder: Path, domain: str) -> Path:
        folder.mkdir(parents=True)
        matrices = np.zeros((1, 13, 13), np.uint32)
        matrices[0, 0, 0] = 512 * 512
        found = Evaluation(FLAIR_12, ("000001",), (domain,), ("Z1_UU",), matrices)
        (folder / "confusion.npz").write_bytes(encode_matrices(found))
        return folder

    own = write(tmp_path / "results/a", "D015_2020")
    other = write(tmp_path / "other", "D004_2021")
    (tmp_path / "empty").mkdir()
    check = functools.partial(
        evaluation.require_comparable,
        submissions=["a"],
        output=tmp_path / "results",
        patches={"D015_2020": 1, "D022_2021": 1},
    )
    with pytest.raises(UsageError, match=r"results/a: this run replaces it; choose another --output"):
        check(own, subset=None)
    with pytest.raises(UsageError, match="this run replaces it"):
        check(own / "confusion.npz", subset=None)
    with pytest.raises(UsageError, match=r"other: was scored on domains .* D004_2021; compare results"):
        check(other, subset=None)
    with pytest.raises(UsageError, match=r"empty: holds no confusion\.npz"):
        check(tmp_path / "empty", subset=None)
    earlier = write(tmp_path / "earlier", "D015_2020")
    check(earlier, subset=1)
    for subset in (None, 2, 3):
        with pytest.raises(UsageError, match=r"earlier: patches scored: 1; patches of this run: 2 "):
            check(earlier, subset=subset)
    wide = np.zeros((1, 19, 19), np.uint32)
    wide[0, 0, 0] = 512 * 512
    found = Evaluation(FLAIR_18, ("000001",), ("D015_2020",), ("Z1_UU",), wide)
    (earlier / "confusion.npz").write_bytes(encode_matrices(found))
    with pytest.raises(UsageError, match="earlier: scores 18 classes, and this run 12;"):
        check(earlier, subset=1)
