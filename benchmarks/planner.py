"""Whether plan.py keeps its promises on the toy data set: better than any member, and within the limit.

For each seed three models of different architecture are trained, and plan.py makes a submission of them under
a limit that excludes the ensemble of all three. Then all are evaluated on the test domains, on which nothing
was chosen. The best member is the one that is best there: a stricter opponent than the one that validation
names. Exhaustive search tries every choice of members, views and weights within the budget on the validation
patches.

The time ratio of a planned submission is measured three times: when plan.py checks it, on the test domains,
and once more as the members are. Their median counts, as on the clock of the contest, since a machine is
faster at one time and slower at another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from common.record import KIT, append_record
from flair_baseline.machines.machine import choose_device
from flair_baseline.model.views import VIEWS
from flair_baseline.planning.comparison import compare
from flair_baseline.planning.costs import (
    Clock,
    Timed,
    describe_machine,
    measure_files,
    time_model,
    to_costs,
    usual_reference,
)
from flair_baseline.planning.members import hash_weights, name_folder
from flair_baseline.planning.probabilities import hash_patches, read_references
from flair_baseline.planning.selection import WEIGHTS, Key, State, state_cost
from flair_ingestion.dataset import index_patches, sample_patches
from flair_scoring import mean_iou

# Name -> changes of the configuration demo
MEMBERS = {
    "unet": [],
    "fpn": ["decoder=fpn", "encoder=tu-convnext_atto"],
    "segformer": ["decoder=segformer", "encoder=mit_b0"],
}
SHARE = 0.9  # of the time of all members together: what the budget is
NO_LIMIT = 1000  # times the reference: the ratio is measured, and not judged
TRIES = 4
MARGIN, BATCH, TIMING_PATCHES, SAMPLE_SEED = 0.1, 8, 128, 0  # of plan.py, by default


@dataclass(frozen=True)
class Outcome:
    """What a seed gives: mIoU on the test domains, on the validation, and time ratios."""

    planned: float
    best_member: float
    search: float
    exhaustive: float
    measured_to_predicted: list[float]  # of each measurement
    within: bool


def run(program: str, *arguments: object, tries: int = 1) -> None:
    """Run a program of the starting kit to its end; its output goes to stderr.

    While other work slows the machine down, the clock gives no verdict, and asks to be run again.
    """
    command = [sys.executable, f"starting_kit/{program}.py", *map(str, arguments)]
    while subprocess.run(command, check=tries == 1, cwd=KIT, stdout=sys.stderr).returncode:
        tries -= 1


def train_members(data: Path, folder: Path, seed: int, epochs: int) -> dict[str, Path]:
    """The runs of one seed; finished ones are kept."""
    runs = {name: folder / name for name in MEMBERS}
    for name, path in runs.items():
        options = ["--data", data, "--config", "demo", "--output", path, "--resume"]
        run("train", *options, f"seed={seed}", f"epochs={epochs}", *MEMBERS[name])
    return runs


def make_clock(data: Path, work: Path) -> Clock:
    """The clock that plan.py uses by default, which takes over what it has measured."""
    device = choose_device("auto")
    patches = index_patches(data, "val", labels=True)
    count = min(TIMING_PATCHES, len(patches))
    options = ["--split", "val", "--device", device.type, "--subset", str(count)]
    machine, content = describe_machine("auto"), hash_patches(patches)
    return Clock(data, work / "timing", BATCH, options, machine, content)


def time_members(runs: Mapping[str, Path], clock: Clock) -> dict[Key, Timed]:
    """The times of all members, with one view and with eight."""
    return {
        (name, views): found
        for name, path in runs.items()
        for views, found in time_model(path, name, clock).items()
    }


def all_states(costs: Mapping[Key, float], budget: float) -> Iterator[State]:
    """Every choice of members, views and weights within the budget."""
    names = sorted({name for name, _ in costs})
    for count in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, count):
            for views in itertools.product(VIEWS, repeat=count):
                for weights in itertools.product(WEIGHTS, repeat=count) if count > 1 else [(1.0,)]:
                    columns = zip(chosen, views, weights, strict=True)
                    state = {name: (view, (weight,)) for name, view, weight in columns}
                    if max(weights) == 1.0 and state_cost(state, costs) <= budget:
                        yield state


def search_all(
    costs: Mapping[Key, float], budget: float, data: Path, work: Path, runs: Mapping[str, Path]
) -> float:
    """The best validation mIoU of all states, from the predictions that plan.py has kept in `work`."""
    patches = index_patches(data, "val", labels=True)
    sample = sample_patches(patches, len(patches), SAMPLE_SEED)
    kept = {
        (name, views): np.load(folder / f"{views}.npy", mmap_mode="r")
        for name, path in runs.items()
        for folder in [work / "predictions" / name_folder(hash_weights(path))]
        for views in VIEWS
    }
    states = list(all_states(costs, budget))
    domains = [patch.domain for patch in sample]
    matrices = compare(states, kept, read_references(sample), domains, torch.device("cpu"))
    return max(float(mean_iou(one.sum(axis=0))) for one in matrices)


def evaluate(submissions: Sequence[Path], data: Path, output: Path, limit: float) -> list[Path]:
    """The folders of the results of submissions on the test domains; a limit of 0 times no reference."""
    options = ["--data", data, "--output", output, "--limit-ratio", limit, "--no-pictures"]
    run("evaluate", *submissions, *options, tries=TRIES)
    return [output / submission.stem for submission in submissions]


def mean_ratio(folder: Path) -> float:
    """The time ratio of a result to the mean of the reference's times before and after it."""
    drift = read_number(folder, "timing.json", "reference_drift")
    return read_number(folder, "timing.json", "ratio") / ((1 + drift) / 2)


def read_packed(submission: Path) -> dict[str, bytes]:
    """The files of a packed submission, by name."""
    with zipfile.ZipFile(submission) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read_number(folder: Path, file: str, name: str) -> float:
    """A number from a file of a result."""
    return float(json.loads((folder / file).read_text())[name])


def judge(seed: int, data: Path, folder: Path, epochs: int) -> Outcome:
    """Train, plan, evaluate and search for one seed."""
    runs = train_members(data, folder, seed, epochs)
    work = folder / "plan"
    clock = make_clock(data, work)
    timed = time_members(runs, clock)
    costs = to_costs(timed)
    budget = SHARE * sum(costs[name, "none"] for name in runs)
    limit = budget / (1 - MARGIN)
    best = folder / "best.zip"
    options = ["--data", data, "--limit-ratio", limit, "--work", work, "-o", best]
    run("plan", *runs.values(), *options, tries=TRIES)
    plan = json.loads((work / "plan.json").read_text())
    for name, path in runs.items():
        run("package", path, "-o", folder / f"{name}.zip")
    members = evaluate([folder / f"{name}.zip" for name in runs], data, folder / "results", limit=0)
    (planned,) = evaluate([best], data, folder / "planned", limit=NO_LIMIT)
    checked = work / "checks" / plan["choice"]["name"].replace(" ", "_")
    ratios = [read_number(folder, "timing.json", "ratio") for folder in (checked, planned)]
    again = measure_files(read_packed(best), "planned", clock)
    assert isinstance(again, Timed), f"exit code {again}"
    measured = [mean_ratio(checked), mean_ratio(planned), again.seconds / usual_reference(timed.values())]
    return Outcome(
        planned=read_number(planned, "scores.json", "miou"),
        best_member=max(read_number(member, "scores.json", "miou") for member in members),
        search=plan["steps"][-1]["miou"],
        exhaustive=search_all(costs, budget, data, work, runs),
        measured_to_predicted=[ratio / plan["choice"]["predicted_ratio"] for ratio in measured],
        within=max(ratios) <= limit,
    )


def judge_once(seed: int, data: Path, folder: Path, epochs: int) -> Outcome:
    """What `judge` gives; kept in the folder, so that a finished seed is not run again."""
    kept = folder / "outcome.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text()))
    outcome = judge(seed, data, folder, epochs)
    kept.write_text(json.dumps(asdict(outcome)))
    return outcome


def describe(outcomes: Sequence[Outcome]) -> list[str]:
    """The figures of the record."""
    gains = np.array([one.planned - one.best_member for one in outcomes])
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / math.sqrt(len(gains))
    ratios = ", ".join(f"{np.median(one.measured_to_predicted):.3f}" for one in outcomes)
    single = [ratio for one in outcomes for ratio in one.measured_to_predicted]
    return [
        f"planned {np.mean([one.planned for one in outcomes]):.4f}, best member on the test domains "
        f"{np.mean([one.best_member for one in outcomes]):.4f}",
        f"gain {gains.mean():+.4f}, 95 % interval {gains.mean() - half:+.4f} to {gains.mean() + half:+.4f} "
        f"(each seed: {', '.join(f'{gain:+.4f}' for gain in gains)})",
        f"below exhaustive search by at most {max(one.exhaustive - one.search for one in outcomes):.4f}",
        f"measured / predicted time ratio {ratios} (single measurements {min(single):.3f} to "
        f"{max(single):.3f})",
        f"within the limit on validation and test domains in {sum(one.within for one in outcomes)} of "
        f"{len(outcomes)} runs",
    ]


def main() -> None:
    """Draw the data, run the seeds, print, append one line to the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="K", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="keep data and runs there, to go on if interrupted")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds {args.seeds}: expected 2 or more")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        data = folder / "toy"
        if not data.exists():
            run("make_toy_dataset", data, "--size", "demo", "--seed", 2022)
        outcomes = [
            judge_once(2022 + seed, data, folder / f"seed_{2022 + seed}", args.epochs)
            for seed in range(args.seeds)
        ]
    command = f"python benchmarks/planner.py --seeds {args.seeds} --epochs {args.epochs}"
    append_record(command, describe(outcomes), ("torch", "numpy", "segmentation-models-pytorch"))


if __name__ == "__main__":
    main()
