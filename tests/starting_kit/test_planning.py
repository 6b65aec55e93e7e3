"""The parts of a plan: kept probabilities, confusion matrices of ensembles, the search, the device table."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from test_ensemble import CONFIGS, CPU, draw_run, load
from test_packaging import make_batch

from flair_baseline.packaging import Member, pack_ensemble
from flair_baseline.planning import costs, probabilities
from flair_baseline.planning.comparison import compare
from flair_baseline.planning.costs import Timed
from flair_baseline.planning.devices import compare_devices
from flair_baseline.planning.probabilities import keep_probabilities, read_references
from flair_baseline.planning.selection import State, held_out_gain, select, state_cost
from flair_ingestion.dataset import Patch, index_patches, read_labels
from flair_scoring import confusion_matrix, mean_iou
from flair_scoring.base.errors import UsageError
from programs import run_here

CLASSES = 13


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("members")
    return {name: draw_run(folder / name, CONFIGS[name]) for name in ("first", "unet")}


@pytest.fixture(scope="module")
def patches(flair_tree: Path) -> list[Patch]:
    return index_patches(flair_tree, "val", labels=True)


def test_kept_probabilities_are_those_of_the_packed_ensemble(
    runs: dict[str, Path], patches: list[Patch], tmp_path: Path
) -> None:
    kept = keep_probabilities(runs["first"], patches, tmp_path / "kept", CPU, batch_size=4)
    for views in ("none", "flips", "d4"):
        model = load(
            pack_ensemble([Member(runs["first"], views), Member(runs["unet"], weight=0.0)], 2),
            tmp_path / views,
        )
        expected = model.average(make_batch(patches[1:3], 16)).numpy()  # at 128 x 128, every fourth pixel's
        assert kept[views].shape == (len(patches), CLASSES, 128, 128)
        np.testing.assert_allclose(kept[views][1:3] / 255, expected, atol=0.502 / 255)


def test_references_are_sampled_at_the_same_pixels(patches: list[Patch]) -> None:
    found = read_references(patches[:2]).reshape(2, 128, 128)
    for index, patch in enumerate(patches[:2]):
        values = read_labels(patch)
        for row, column in ((0, 0), (5, 77), (127, 127)):
            value = values[2 + 4 * row, 2 + 4 * column]
            assert found[index, row, column] == (value - 1 if 1 <= value <= 12 else 12)


def test_an_interrupted_prediction_goes_on(
    runs: dict[str, Path], patches: list[Patch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = keep_probabilities(runs["first"], patches, tmp_path / "whole", CPU, batch_size=2)
    predicted: list[int] = []
    predict = probabilities._predict_views

    def stop_at_the_second(model: object, batch: dict, device: object) -> dict:
        predicted.append(len(batch["aerial"]))
        if len(predicted) == 2:
            raise KeyboardInterrupt
        return predict(model, batch, device)

    monkeypatch.setattr(probabilities, "_predict_views", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        keep_probabilities(runs["first"], patches, tmp_path / "again", CPU, batch_size=2)
    again = keep_probabilities(runs["first"], patches, tmp_path / "again", CPU, batch_size=2)
    assert sum(predicted) == len(patches) + 2  # only the interrupted request was made twice
    for views, array in whole.items():
        np.testing.assert_array_equal(again[views], array)
    keep_probabilities(runs["first"], patches, tmp_path / "again", CPU, batch_size=2)
    assert sum(predicted) == len(patches) + 2
    other = keep_probabilities(runs["unet"], patches, tmp_path / "again", CPU, batch_size=2)
    assert sum(predicted) == 2 * len(patches) + 2  # another model begins anew
    assert not np.array_equal(other["none"], whole["none"])


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\x93NUMPY")])
def test_damaged_predictions_are_made_again(
    damage: Callable[[Path], object], runs: dict[str, Path], patches: list[Patch], tmp_path: Path
) -> None:
    whole = keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)["flips"].copy()
    damage(tmp_path / "flips.npy")
    again = keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)
    np.testing.assert_array_equal(again["flips"], whole)


def test_predictions_that_were_changed_are_made_again(
    runs: dict[str, Path], patches: list[Patch], tmp_path: Path
) -> None:
    whole = keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)["d4"].copy()
    array = np.load(tmp_path / "d4.npy", mmap_mode="r+")
    array[1] = 0  # as after a loss of power: the file is whole, but pages of it were never written
    array.flush()
    again = keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)
    np.testing.assert_array_equal(again["d4"], whole)


@pytest.mark.parametrize("between", ["damage", "other settings"])
def test_a_beginning_that_was_interrupted_leaves_no_state_of_an_earlier_one(
    between: str,
    runs: dict[str, Path],
    patches: list[Patch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New files are empty; the state of the files before them must not vouch for them."""
    whole = keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)["none"].copy()
    if between == "damage":
        (tmp_path / "flips.npy").unlink()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(probabilities, "Model", stop)
        run = runs["first" if between == "damage" else "unet"]
        with pytest.raises(KeyboardInterrupt):
            keep_probabilities(run, patches[:2], tmp_path, CPU, batch_size=2)
    again = keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)
    np.testing.assert_array_equal(again["none"], whole)


def test_predictions_of_other_data_with_the_same_ids_are_not_taken(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(flair_tree, tmp_path / "data")  # keeps sizes and times
    before = index_patches(flair_tree, "val", labels=True)[:2]
    kept = keep_probabilities(runs["first"], before, tmp_path / "kept", CPU, batch_size=2)["none"].copy()
    same = index_patches(data, "val", labels=True)[:2]
    state = tmp_path / "kept/state.json"
    written = state.stat().st_mtime_ns
    keep_probabilities(runs["first"], same, tmp_path / "kept", CPU, batch_size=2)
    assert state.stat().st_mtime_ns == written  # data may move
    first, second = (Path(patch.image) for patch in same)
    shutil.copyfile(first, second)
    other = keep_probabilities(runs["first"], same, tmp_path / "kept", CPU, batch_size=2)["none"]
    np.testing.assert_array_equal(other[0], kept[0])
    assert not np.array_equal(other[1], kept[1])


def test_a_damaged_patch_is_told_without_a_traceback(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of the loader read the patches; torch puts their traceback before the message."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    data = shutil.copytree(flair_tree, tmp_path / "data")
    patches = index_patches(data, "val", labels=True)[:2]
    Path(patches[1].image).write_bytes(b"II*")
    monkeypatch.setattr("plan.time_model", lambda *_: {"none": Timed(1, 1), "d4": Timed(8, 1)})
    monkeypatch.setattr("plan.describe_machine", lambda _: [])
    done = run_here(
        "plan", runs["first"], "--data", data, "-o", tmp_path / "x.zip", "--device", "cpu", "--batch-size", 1
    )
    assert done.returncode == 2
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert Path(patches[1].image).name in told
    assert "Traceback" not in done.stderr


def test_a_disk_without_room_is_told(
    runs: dict[str, Path], patches: list[Patch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def refuse(*_: int) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    size = r"cannot take 1\.2 MiB of probabilities \(No space left on device\)"
    with pytest.raises(UsageError, match=size):
        keep_probabilities(runs["first"], patches[:2], tmp_path, CPU, batch_size=2)
    assert not list(tmp_path.glob("*.npy"))  # the first file had room, and would now take it from others


def draw_maps(rng: np.random.Generator, patches: int = 6) -> tuple[dict, np.ndarray, list[str]]:
    """Probabilities of three members, references, and the domains of the patches."""
    references = rng.integers(0, CLASSES, (patches, 128 * 128), np.uint8)
    kept = {}
    for name, views in itertools.product("abc", ("none", "d4")):
        shares = rng.random((patches, CLASSES, 128 * 128))
        np.put_along_axis(
            shares, references[:, None].astype(int), rng.random((patches, 1, 128 * 128)) + 0.3, 1
        )
        kept[name, views] = (
            (255 * shares / shares.sum(1, keepdims=True)).astype(np.uint8).reshape(patches, CLASSES, 128, 128)
        )
    return kept, references, [f"D{index % 3:03d}_2020" for index in range(patches)]


def test_matrices_are_those_of_the_scoring_program() -> None:
    kept, references, domains = draw_maps(np.random.default_rng(1))
    by_class = tuple(float(number) for number in range(1, 14))
    states: list[State] = [
        {"a": ("none", (1.0,))},
        {"a": ("d4", (1.0,)), "b": ("none", (2.0,))},
        {"b": ("none", by_class), "c": ("d4", (0.5,))},
        {"b": ("none", by_class)},
    ]
    found = compare(states, kept, references, domains, torch.device("cpu"))
    for state, matrices in zip(states, found, strict=True):
        maps = [kept[name, views].astype(np.float32) for name, (views, _) in state.items()]
        weights = np.array([np.broadcast_to(own, CLASSES) for _, own in state.values()])
        if (
            state.get("b", ("", ()))[1] == by_class
        ):  # a weighted mean for each class, as a packed ensemble has
            weights = weights / weights.sum(axis=0)
        columns = weights.astype(np.float32)[:, :, None, None]
        total = sum(one * column for one, column in zip(maps, columns, strict=True))
        labels = total.argmax(axis=1).astype(np.uint8).reshape(len(domains), -1)
        for index, domain in enumerate(sorted(set(domains))):
            own = [number for number, one in enumerate(domains) if one == domain]
            np.testing.assert_array_equal(matrices[index], confusion_matrix(references[own], labels[own]))


def make_matrices(rng: np.random.Generator, quality: float, domains: int = 6) -> np.ndarray:
    """Confusion matrices (domains, 13, 13) with about that share of right pixels."""
    right = np.eye(CLASSES) * quality + (1 - quality) / CLASSES
    return np.stack(
        [
            rng.multinomial(20_000, right.ravel() / right.sum()).reshape(CLASSES, CLASSES)
            for _ in range(domains)
        ]
    )


class Contest:
    """Members whose ensembles have made-up quality: the sum of their gains, one of which is negative."""

    gains: ClassVar = {"a": 0.5, "b": 0.1, "c": 0.08, "noise": -0.05}

    def __call__(self, states: Sequence[State]) -> np.ndarray:
        return np.stack([self.judge(state) for state in states])

    def judge(self, state: State) -> np.ndarray:
        quality = (
            0.1 + sum(self.gains[name] for name in state) + 0.02 * sum(v == "d4" for v, _ in state.values())
        )
        return make_matrices(np.random.default_rng(0), min(quality, 0.95))


COSTS = {
    (name, views): cost * (1 if views == "none" else 8)
    for name, cost in {"a": 1.0, "b": 0.5, "c": 0.25, "noise": 0.1}.items()
    for views in ("none", "d4")
}


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(1.0, {"a"}), (1.3, {"a", "c"}), (1.6, {"a", "b"}), (2.0, {"a", "b", "c"}), (0.3, {"c"})],
)
def test_the_search_takes_what_gains_within_the_budget(budget: float, expected: set[str]) -> None:
    singles, steps = select(COSTS, budget, Contest())
    assert set(steps[-1].state) == expected
    assert all(state_cost(step.state, COSTS) == step.cost <= budget for step in steps)
    assert [one.miou for one in singles] == sorted((one.miou for one in singles), reverse=True)


def test_views_are_bought_when_the_budget_allows() -> None:
    _, steps = select({key: cost for key, cost in COSTS.items() if key[0] == "c"}, 2.0, Contest())
    assert steps[-1].state == {"c": ("d4", (1.0,))}


def test_nothing_fits() -> None:
    assert select(COSTS, 0.05, Contest()) == ([], [])


def test_a_step_that_gains_in_one_domain_only_is_not_taken() -> None:
    """With that domain held out nothing speaks for the step; elsewhere it gains nothing."""
    rng = np.random.default_rng(3)
    current = make_matrices(rng, 0.6)
    lucky = current.copy()
    lucky[0] = 20_000 // CLASSES * np.eye(CLASSES, dtype=np.int64)
    lucky[1:] = make_matrices(rng, 0.597)[1:]
    assert mean_iou(lucky.sum(0)) > mean_iou(current.sum(0))
    assert held_out_gain(current, lucky[None]) <= 0
    better = make_matrices(rng, 0.65)
    gain = held_out_gain(current, better[None])
    assert gain == pytest.approx(mean_iou(better.sum(0)) - mean_iou(current.sum(0)))


def test_a_domain_without_which_no_scored_class_is_left_speaks_for_no_step() -> None:
    current = np.zeros((3, CLASSES, CLASSES), np.int64)
    current[:, -1, -1] = 1000  # only other ground in all domains but the first
    current[0, :2, :2] = [[60, 40], [40, 60]]
    worse, better = current.copy(), current.copy()
    worse[0, :2, :2] = [[50, 50], [50, 50]]
    better[0, :2, :2] = [[70, 30], [30, 70]]
    assert held_out_gain(current, np.stack([worse, better])) == 0


def test_an_ensemble_that_is_too_large_is_not_tried() -> None:
    tried: list[State] = []

    class Watched(Contest):
        def judge(self, state: State) -> np.ndarray:
            tried.append(state)
            return super().judge(state)

    singles, steps = select(COSTS, 100, Watched(), allow=lambda state: len(state) < 3 and "c" not in state)
    assert set(steps[-1].state) == {"a", "b"}
    assert all(len(state) < 3 and "c" not in state for state in tried)
    assert {name for one in singles for name in one.state} == {"a", "b", "noise"}


def test_weights_by_class_of_a_single_member_are_no_step_of_their_own() -> None:
    """They change nothing: a packed ensemble divides them by their sum for each class."""
    tried: list[State] = []

    class Watched(Contest):
        def judge(self, state: State) -> np.ndarray:
            tried.append(state)
            return super().judge(state)

    select(COSTS, 100, Watched(), class_weights=True)
    lone = [weights for state in tried for _, weights in state.values() if len(state) == 1]
    assert lone
    assert set(lone) == {(1.0,)}


def test_with_two_domains_the_best_single_model_is_the_choice() -> None:
    class Few(Contest):
        def judge(self, state: State) -> np.ndarray:
            return super().judge(state)[:2]

    singles, steps = select(COSTS, 100, Few())
    assert [step.state for step in steps] == [singles[0].state]
    assert set(steps[0].state) == {"a"}


def test_devices_are_compared(tmp_path: Path) -> None:
    paths = []
    for number, (name, device, ratio) in enumerate(
        [("x", "H200", 1.0), ("x", "A100", 1.5), ("y", "H200", 0.4)]
    ):
        paths.append(tmp_path / f"{number}" / "timing.json")
        paths[-1].parent.mkdir()
        content = {"submission_sha256": name * 64, "device": {"name": device}, "ratio": ratio}
        paths[-1].write_text(json.dumps(content))
    lines = compare_devices([*paths, paths[0], paths[0]]).splitlines()  # each file counts once
    assert lines[0].split("  ")[0] == "submission"
    assert lines[1].split() == ["0", "1.500", "1.000", "1.50"]
    assert lines[2].split() == ["2", "0.400"]
    paths[0].write_text("{}")
    with pytest.raises(UsageError, match=r"0/timing\.json: is no timing\.json of the ingestion program"):
        compare_devices(paths)


def write_timing(path: Path, **changes: object) -> Path:
    path.parent.mkdir(parents=True)
    usual = {
        "submission_sha256": "a" * 64,
        "device": {"name": "H200"},
        "ratio": 1.0,
        "inference_seconds": 2.0,
    }
    path.write_text(json.dumps(usual | changes))
    return path


def test_files_without_a_whole_ratio_are_all_told(tmp_path: Path) -> None:
    cut = {"completed": False, "inference_seconds": 2.0}
    wrong: dict[str, dict[str, object]] = {
        "zero": {"ratio": 0},
        "negative": {"ratio": -1.0},
        "nan": {"ratio": float("nan")},
        "infinite": {"ratio": float("inf")},
        "text": {"ratio": "1.0"},
        "device": {"device": {"name": ["H200"]}},
        "submission": {"submission_sha256": {}},
        "failed": {"ratio": None},
        "stopped": {"attempts": [cut]},
    }
    paths = [write_timing(tmp_path / name / "timing.json", **changes) for name, changes in wrong.items()]
    with pytest.raises(UsageError) as caught:
        compare_devices(paths)
    told = str(caught.value)
    assert f"timings ({len(wrong)} problems)" in told
    for name in list(wrong)[:7]:
        assert f"{name}/timing.json: is no timing.json of the ingestion program" in told
    assert "failed/timing.json: holds no ratio: the submission failed, or no reference was timed" in told
    assert "stopped/timing.json: its run was stopped at the limit, so its ratio is that of a part" in told


def test_an_earlier_attempt_that_was_stopped_leaves_the_ratio_whole(tmp_path: Path) -> None:
    attempts = [{"completed": False, "inference_seconds": 2.5}, {"completed": True, "inference_seconds": 2.0}]
    path = write_timing(tmp_path / "x/timing.json", attempts=attempts)
    assert compare_devices([path]).splitlines()[1].split() == ["x", "1.000"]


def test_submissions_of_one_name_are_told_apart_and_texts_are_harmless(tmp_path: Path) -> None:
    changes = {"submission_sha256": "b" * 64, "device": {"name": "\x1b[31mred"}}
    one = write_timing(tmp_path / "here/mine/timing.json")
    other = write_timing(tmp_path / "there/mine/timing.json", **changes)
    table = compare_devices([one, other])
    assert "mine aaaaaaaa" in table
    assert "mine bbbbbbbb" in table
    assert "\x1b" not in table
    assert "\\x1b[31mred" in table


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected models, --data DATA and -o OUTPUT"),
        (["x", "--data", ".", "-o", "y.zip", "--margin", 1], "--margin 1.0: expected a share"),
        (["x", "--data", ".", "-o", "y.zip", "--batch-size", 33], "gives 1 to 32 patches at once"),
        (["x", "--data", ".", "-o", "y.zip", "--patches", 9001], "--patches 9001: expected 1 to 9000"),
        (["x", "--data", ".", "-o", "y.zip", "--limit-ratio", "inf"], "--limit-ratio inf: expected a number"),
        (["x", "z", "--data", ".", "-o", "y.zip"], "x: no such checkpoint"),
        (["x", "--data", ".", "-o", "y.tar.gz"], "a submission is a zip or a folder"),
    ],
)
def test_mistakes_are_explained(arguments: list[object], sentence: str, tmp_path: Path) -> None:
    done = run_here("plan", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("one", "eight", "four"), [(1.0, 8.0, 4.0), (1.0, 0.9, 1.0)])
def test_the_cost_of_views_lies_on_a_line_that_never_falls(
    one: float, eight: float, four: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference took 2 s, once 3 s, and the median counts."""
    found = {"none": Timed(2 * one, 2), "d4": Timed(2 * eight, 3), "other": Timed(1, 2)}
    monkeypatch.setattr(costs, "_measure", lambda member, views, *_: found[views])
    times = costs.time_model(tmp_path, "x", costs.Clock(tmp_path, tmp_path, 8, []))
    ratios = costs.to_costs(
        {**{("x", views): time for views, time in times.items()}, ("y", "none"): found["other"]}
    )
    expected = {("x", "none"): one, ("x", "flips"): four, ("x", "d4"): max(one, eight), ("y", "none"): 0.5}
    assert ratios == pytest.approx(expected)


def test_times_of_another_machine_and_damaged_times_are_measured_again(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    # The machine has become slower since the reference was timed before the submission
    timing = {"schema": 1, "reference_seconds": 32, "reference_drift": 1.25, "inference_seconds": 20}

    def ingest(command: Sequence[str]) -> int:
        output = Path(command[3])
        output.mkdir()
        measured.append(command[0])
        (output / "timing.json").write_text(json.dumps(timing))
        return 0

    monkeypatch.setattr(costs, "run_program", ingest)
    here = costs.Clock(tmp_path, tmp_path / "timing", 8, ["--device", "cuda"], ["H200"])
    for _ in range(2):
        assert costs.time_model(runs["first"], "first", here)["none"] == Timed(20, 40)
        assert len(measured) == 2  # the second time they are kept
    there = replace(here, machine=["A100"])
    costs.time_model(runs["first"], "first", there)
    assert len(measured) == 4
    costs.time_model(runs["first"], "first", replace(here, content="other data at the same path"))
    assert len(measured) == 6
    for content in ("NaN", "-1.0", "Infinity", "null", "[]"):
        measured.clear()
        for path in (tmp_path / "timing").glob("*.json"):
            path.write_text(f'{{"seconds": [{content}], "timing": {json.dumps(timing)}}}')
        assert costs.time_model(runs["first"], "first", here)["none"] == Timed(20, 40)
        assert len(measured) == 2


def test_a_model_costs_more_in_an_ensemble_than_alone() -> None:
    """By hand: alone it needs no probabilities; eight views of it need eight maps of them."""
    costs_found = {("a", "none"): 1.0, ("a", "flips"): 4.6, ("a", "d4"): 9.6, ("b", "none"): 2.0}
    one, four = ("none", (1.0,)), ("flips", (1.0,))
    assert state_cost({"a": one}, costs_found) == 1.0
    assert state_cost({"a": one, "b": one}, costs_found) == pytest.approx(1.2 + 2.0)
    assert state_cost({"a": four, "b": one}, costs_found) == pytest.approx(4.8 + 2.0)


def test_short_times_are_measured_again_and_the_mean_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first run times the reference; four runs are enough, or five seconds."""
    times = {"slow": [3.0, 2.25, 2.5], "fast": [0.5, 1.0, 1.5, 2.0, 2.5]}
    limits: list[str] = []

    def ingest(command: Sequence[str]) -> int:
        output = Path(command[3])
        output.mkdir()
        limits.append(command[-1])
        timing = {"schema": 1, "reference_seconds": 4, "reference_drift": None}
        timing["inference_seconds"] = left.pop(0)
        (output / "timing.json").write_text(json.dumps(timing))
        return 0

    monkeypatch.setattr(costs, "run_program", ingest)
    for name, mean, runs_needed in (("slow", 2.625, 2), ("fast", 1.25, 4)):
        left = times[name]
        clock = costs.Clock(tmp_path, tmp_path / name, 8, [])
        assert costs.measure_files({"model.py": b""}, name, clock) == Timed(mean, 4)
        assert limits == [costs.NO_LIMIT] + ["0"] * (runs_needed - 1)
        limits.clear()


def test_a_model_whose_eight_views_fail_is_still_a_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: dict[str, Timed | int] = {"none": Timed(1.5, 1), "d4": 3}
    monkeypatch.setattr(costs, "_measure", lambda member, views, *_: codes[views])
    clock = costs.Clock(tmp_path, tmp_path, 8, [])
    assert costs.time_model(tmp_path, "x", clock) == {"none": Timed(1.5, 1)}
    assert "note: x: more views than one are left out" in capsys.readouterr().err
    codes["d4"] = 2
    with pytest.raises(UsageError, match="exit code 2 and did not time its eight views"):
        costs.time_model(tmp_path, "x", clock)
    codes["none"] = 3
    with pytest.raises(UsageError, match="exit code 3 and did not time it"):
        costs.time_model(tmp_path, "x", clock)
