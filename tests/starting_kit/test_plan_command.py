"""plan.py as a command: names, places, the lock of WORK, and what follows when a candidate gets no score.

Times, and the evaluation of candidates, are made up here; test_plan.py has them measured.
"""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_ensemble import CONFIGS, draw_run

from flair_baseline import packaging
from flair_baseline.evaluation import End, Task, claim
from flair_baseline.planning import checking, choosing, probabilities, selection
from flair_baseline.planning.costs import Clock, Timed
from flair_ingestion.dataset import index_patches
from flair_ingestion.limits import read_limits
from programs import run_here

Ends = dict[str, tuple[int, float]]  # name of the submission -> exit code and mIoU


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("members")
    return {name: draw_run(folder / name, CONFIGS[name]) for name in ("first", "unet")}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ends], list[Task]]:
    """Sets how candidates end; their tasks are collected in the list that it returns."""

    def set_ends(ends: Ends) -> list[Task]:
        tasks: list[Task] = []

        def evaluate(submission: Path, again: bool, output: Path, task: Task, title: str) -> End:
            tasks.append(task)
            code, miou = ends[submission.stem]
            if code == 0:
                output.mkdir(parents=True, exist_ok=True)
                (output / "scores.json").write_text(json.dumps({"miou": miou}))
                (output / "timing.json").write_text(
                    json.dumps({"schema": 1, "ratio": 1.0, "reference_drift": None})
                )
            return End(code, "it took too long" if code else f"mIoU {miou}")

        monkeypatch.setattr(checking, "evaluate_or_keep", evaluate)
        monkeypatch.setattr("plan.describe_machine", lambda _: [])
        monkeypatch.setattr("plan.time_model", lambda *_: {"none": Timed(1, 1), "d4": Timed(8, 1)})
        return tasks

    return set_ends


def take_both(costs: dict, budget: float, evaluate: object, by_class: bool, allow: Callable) -> tuple:
    """In place of the search: the first model is the best single one, and both together are better."""
    from flair_baseline.planning.selection import Step

    names = list(dict.fromkeys(name for name, _ in costs))
    single = Step({names[0]: ("none", (1.0,))}, 0.5, 1.0, None)
    both = Step(dict.fromkeys(names, ("none", (1.0,))), 0.6, 2.0, 0.1)
    return [single], [single, both] if allow(both.state) else [single]


@pytest.mark.parametrize(
    ("ends", "choice", "told"),
    [
        ({"ensemble": (0, 0.7), "best_model": (0, 0.6)}, "ensemble", None),
        ({"ensemble": (0, 0.6), "best_model": (0, 0.7)}, "best model", None),
        ({"ensemble": (4, 0.0), "best_model": (0, 0.6)}, "best model", "The ensemble was left out"),
        ({"ensemble": (0, 0.6), "best_model": (3, 0.0)}, "ensemble", "The best model was left out"),
    ],
)
def test_the_choice_is_the_best_candidate_with_a_score(
    ends: Ends,
    choice: str,
    told: str | None,
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    tasks = made_up(ends)
    monkeypatch.setattr(choosing, "select", take_both)
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3, "-o", "best.zip"]
    done = run_here("plan", *runs.values(), *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "best_plan/plan.json").read_text())["choice"]["name"] == choice
    checked = tmp_path / "best_plan/checked" / f"{choice.replace(' ', '_')}.zip"
    assert (tmp_path / "best.zip").read_bytes() == checked.read_bytes()
    page = (tmp_path / "best_plan/plan.html").read_text()
    assert ("was left out at its check" in page) == (told is not None)
    if told:
        assert f"{told} at its check on the whole split: it took too long" in page
        assert told in done.stderr
    assert tasks[0].content  # other data at the same path are told apart
    # No kept time of the reference: a new one, which both candidates share
    assert tasks[0].cache == tasks[-1].cache
    assert tmp_path / "best_plan" not in tasks[0].cache.parents
    assert not (tmp_path / "best_plan/.plan.lock").exists()


def test_a_gpu_is_free_when_candidates_are_checked(
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    """A process that has computed on a GPU keeps a part of it, and ingestion then calls the GPU busy.

    Here plan.py takes the CPU for a GPU: what this process would predict or compare fails.
    """
    tasks = made_up({"best_model": (0, 0.6), "ensemble": (0, 0.7)})
    work = tmp_path / "my work"

    def refuse(*_: object) -> None:
        raise AssertionError("the process that checks candidates has computed on the device")

    monkeypatch.setattr("plan.choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(probabilities, "_predict_views", refuse)
    monkeypatch.setattr(selection, "mean_iou", refuse)
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3, "-o", "best.zip", "--work", work]
    done = run_here("plan", *runs.values(), *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tasks[0].options)[:2] == ["--device", "cuda"]
    assert len(list((work / "predictions").glob("*/state.json"))) == 2
    assert not multiprocessing.active_children()


def test_times_and_checks_of_another_machine_or_other_data_are_not_kept(
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    tasks = made_up({"best_model": (0, 0.6)})
    data = shutil.copytree(flair_tree, tmp_path / "my data")
    clocks: list[Clock] = []

    def time_model(member: Path, name: str, clock: Clock) -> dict[str, Timed]:
        clocks.append(clock)
        return {"none": Timed(1, 1)}

    monkeypatch.setattr("plan.time_model", time_model)
    for number, machine in enumerate(["here", "here", "there", "there"]):
        if number == 3:
            os.utime(index_patches(data, "val", labels=True)[0].image, (1, 1))
        monkeypatch.setattr("plan.describe_machine", lambda _, machine=machine: [machine])
        work = tmp_path / str(
            number
        )  # results of the check are made up, and ingestion would not replace them
        options = ["--data", data, "--device", "cpu", "--patches", 2, "--work", work]
        done = run_here("plan", runs["unet"], *options, "-o", tmp_path / "x.zip")
        assert done.returncode == 0, done.stderr
    same, again, there, other_data = [(task.content, *task.options) for task in tasks]
    assert same == again
    assert len({same, there, other_data}) == 3
    assert [clock.content for clock in clocks[:3]] == [clocks[0].content] * 3
    assert clocks[3].content != clocks[0].content


def test_predictions_are_kept_whichever_models_are_planned_together(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path, made_up: Callable[[Ends], list[Task]]
) -> None:
    made_up({"best_model": (0, 0.6), "ensemble": (0, 0.5)})
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 2, "--work", tmp_path / "my work"]
    written: list[dict[Path, int]] = []
    for names in (["first", "unet"], ["unet"], ["unet", "first"]):
        shutil.rmtree(tmp_path / "my work/checks", ignore_errors=True)  # made up, so not replaced
        done = run_here("plan", *[runs[name] for name in names], *options, "-o", tmp_path / "x.zip")
        assert done.returncode == 0, done.stderr
        states = (tmp_path / "my work/predictions").glob("*/state.json")
        written.append({path: path.stat().st_mtime_ns for path in states})
    assert len(written[0]) == 2
    assert written == [written[0]] * 3


@pytest.fixture
def training(runs: dict[str, Path], tmp_path: Path) -> tuple[Path, Callable[[], object]]:
    """A copy of a run, and what saves the better epoch of its training."""
    run = shutil.copytree(runs["unet"], tmp_path / "a run")
    better = draw_run(tmp_path / "better", replace(CONFIGS["unet"], seed=7)) / "model.safetensors"
    return run, lambda: shutil.copyfile(better, run / "model.safetensors")


def test_the_output_is_what_was_checked_though_training_goes_on(
    training: tuple[Path, Callable[[], object]],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    made_up({"best_model": (0, 0.6)})
    run, save = training
    evaluate = checking.evaluate_or_keep
    checked: list[bytes] = []

    def train_meanwhile(submission: Path, *others: Any) -> End:
        checked.append(submission.read_bytes())
        save()
        return evaluate(submission, *others)

    monkeypatch.setattr(checking, "evaluate_or_keep", train_meanwhile)
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3]
    done = run_here("plan", run, *options, "-o", tmp_path / "best.zip")
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / "best.zip").read_bytes()] == checked
    done = run_here("plan", run, *options, "-o", tmp_path / "best", "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(io.BytesIO(checked[1])) as archive:
        for name in archive.namelist():
            assert (tmp_path / "best" / name).read_bytes() == archive.read(name)


@pytest.mark.parametrize("step", ["plan.time_model", f"{choosing.__name__}.select"])
def test_times_and_predictions_of_different_weights_are_not_mixed(
    step: str,
    training: tuple[Path, Callable[[], object]],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    made_up({"best_model": (0, 0.6)})
    run, save = training
    module, _, function = step.rpartition(".")
    usual = getattr(importlib.import_module(module), function)

    def train_meanwhile(*arguments: Any) -> Any:
        found = usual(*arguments)
        save()
        return found

    monkeypatch.setattr(step, train_meanwhile)
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3, "-o", tmp_path / "best.zip"]
    done = run_here("plan", run, *options)
    assert done.returncode == 2
    assert f"error: {run}: its weights have changed since this plan began" in done.stderr
    assert not (tmp_path / "best.zip").exists()


def test_a_failure_in_a_process_of_its_own_is_told_as_usual(
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    made_up({})
    monkeypatch.setattr("plan.choose_device", lambda _: torch.device("cuda"))
    data = shutil.copytree(flair_tree, tmp_path / "data")
    patches = index_patches(data, "val", labels=True)
    for patch in patches:
        Path(patch.image).write_bytes(b"II*")
    done = run_here("plan", runs["unet"], "--data", data, "--device", "cpu", "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert Path(patches[0].image).parent.name in told
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("code", "sentence"), [(4, "no candidate got a score: The ensemble"), (2, "exit code 2")]
)
def test_without_a_score_there_is_no_submission(
    code: int,
    sentence: str,
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    made_up({"ensemble": (code, 0.0), "best_model": (code, 0.0)})
    monkeypatch.setattr(choosing, "select", take_both)
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3, "-o", "best.zip"]
    done = run_here("plan", *runs.values(), *options, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "best.zip").exists()
    assert not (tmp_path / "best_plan/plan.html").exists()


def test_an_ensemble_over_the_size_limit_is_no_candidate(
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    made_up({"best_model": (0, 0.6)})
    monkeypatch.setattr(choosing, "select", take_both)
    mib = [(run / "model.safetensors").stat().st_size / 2**20 for run in runs.values()]
    limits = replace(read_limits(), submission_mib=max(mib) + 1.1)  # room for one, not for both
    assert sum(mib) > limits.submission_mib
    for module in ("plan", packaging.__name__):
        monkeypatch.setattr(f"{module}.read_limits", lambda: limits)
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3, "-o", "best.zip"]
    done = run_here("plan", *runs.values(), *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "best_plan/plan.json").read_text())["choice"]["state"]) == 1

    small = replace(limits, submission_mib=max(mib) + 0.5)
    for module in ("plan", packaging.__name__):
        monkeypatch.setattr(f"{module}.read_limits", lambda: small)
    done = run_here("plan", *runs.values(), *options, "--work", "other", cwd=tmp_path)
    assert done.returncode == 2
    assert "MiB, and a submission may have" in done.stderr
    assert not (tmp_path / "other").exists()


def test_models_of_one_name_are_all_members(runs: dict[str, Path], tmp_path: Path) -> None:
    from plan import name_members

    for place in ("old/a", "a", "b"):
        shutil.copytree(runs["unet"], tmp_path / place)
    paths = [tmp_path / "old/a", tmp_path / "a", tmp_path / "b"]
    assert list(name_members(paths).values()) == paths
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        relative = [Path("old/a"), Path("a"), Path("b")]
        assert list(name_members(relative).values()) == relative
        patch.chdir(tmp_path / "a")
        assert list(name_members([Path(".")])) == ["a"]
    assert list(name_members([tmp_path / "a", tmp_path / "b"])) == ["a", "b"]


def test_a_run_and_its_own_weights_are_the_same_model(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path
) -> None:
    models = [runs["unet"], runs["unet"] / "model.safetensors"]
    done = run_here("plan", *models, "--data", flair_tree, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert "is given twice" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_second_plan_in_the_same_folder_is_refused(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path, made_up: Callable[[Ends], list[Task]]
) -> None:
    made_up({})
    with claim(tmp_path / "x_plan/plan", wait=False):
        done = run_here("plan", runs["unet"], "--data", flair_tree, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert "x_plan: another plan writes there; wait for its end, or choose another --work" in done.stderr
    assert not list((tmp_path / "x_plan").iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "absent", "-o", "x.zip"], "absent: no such folder"),
        (["--data", "DATA", "-o", "x", "--work", "x"], "lies in x, the folder of the submission"),
        (["--data", "DATA", "-o", "x", "--work", "x/work"], "lies in x, the folder of the submission"),
        (["--data", "DATA", "-o", "x.zip", "--work", "DATA/plan"], "overlaps"),
        (["--data", "absent", "-o", "new folder/x.zip"], "absent: no such folder"),
        (["--data", "DATA", "-o", "w/checked/ensemble.zip", "--work", "w"], "which plan.py fills"),
        (["--data", "DATA", "-o", f"{'x' * 248}.zip"], "its name is too long; the file system takes 255"),
        (["--data", "DATA", "-o", "x" * 251], "its name is too long; the file system takes 255"),
    ],
)
def test_places_are_refused_before_anything_is_measured(
    options: list[str], sentence: str, runs: dict[str, Path], flair_tree: Path, tmp_path: Path
) -> None:
    data = sorted(flair_tree.rglob("*"))
    given = [option.replace("DATA", str(flair_tree)) for option in options]
    done = run_here("plan", runs["unet"], *given, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())
    assert sorted(flair_tree.rglob("*")) == data


@pytest.mark.parametrize("fault", ["model", "data", "gpu"])
def test_a_refused_plan_leaves_no_folder(
    fault: str, runs: dict[str, Path], flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(flair_tree, tmp_path / "my data")
    model = runs["unet"]
    if fault == "model":
        model = Path("absent")
    elif fault == "data":
        labels = index_patches(data, "val", labels=True)[0].labels
        assert labels is not None
        Path(labels).unlink()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    device = "cuda" if fault == "gpu" else "cpu"
    options = ["--data", data, "-o", "new folder/x.zip", "--work", "new work", "--device", device]
    done = run_here("plan", model, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["my data"]


def test_the_output_does_not_replace_a_model(runs: dict[str, Path], flair_tree: Path, tmp_path: Path) -> None:
    weights = tmp_path / "my weights.zip"
    shutil.copyfile(runs["unet"] / "model.safetensors", weights)
    before = weights.read_bytes()
    done = run_here("plan", weights, "--data", flair_tree, "-o", weights)
    assert done.returncode == 2
    assert f"{weights}: is the input {weights}" in done.stderr
    assert weights.read_bytes() == before
    assert list(tmp_path.iterdir()) == [weights]


def test_files_of_the_user_in_the_folder_of_the_work_are_kept(
    runs: dict[str, Path],
    flair_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: Callable[[Ends], list[Task]],
) -> None:
    """Nor does the submission lie there before it was checked."""
    monkeypatch.setattr(choosing, "select", take_both)
    work = tmp_path / "my work"
    work.mkdir()
    (work / "best_model.zip").write_text("mine")
    made_up({"ensemble": (2, 0.0)})
    options = ["--data", flair_tree, "--device", "cpu", "--patches", 3, "--work", work]
    done = run_here("plan", *runs.values(), *options, "-o", work / "ensemble.zip")
    assert done.returncode == 2
    assert (work / "best_model.zip").read_text() == "mine"
    assert not (work / "ensemble.zip").exists()


def test_a_foreign_folder_of_checks_is_refused_before_anything_is_measured(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "work/checks/ensemble/notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    done = run_here("plan", runs["unet"], "--data", flair_tree, "-o", "x.zip", "--work", "work", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds files that ingestion did not write" in done.stderr
    assert foreign.read_text() == "mine"
