"""Plan the best submission that the time limit allows, from trained models, by measurement.

Each model is timed by the ingestion program beside the reference, and predicts the validation patches from
eight views. An ensemble is then chosen step by step: a model, a set of views or a weight stays only if it
gains on domains that had no part in choosing it, and if the predicted time stays below the limit less a
margin. The choice is evaluated on the whole split. If the best single model is better there, it is the
submission.

WORK keeps times and predictions, so that an interrupted plan goes on, and gets plan.html and plan.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from flair_baseline.checkpoint import find_weights, read_config
from flair_baseline.evaluation import Task, evaluate_submission
from flair_baseline.machines.interruption import advice_if_interrupted, command_that_goes_on
from flair_baseline.machines.machine import choose_device
from flair_baseline.packaging import Member, check_size, check_target, pack_ensemble, write_submission
from flair_baseline.planning.comparison import compare
from flair_baseline.planning.costs import Clock, measure_costs
from flair_baseline.planning.devices import compare_devices
from flair_baseline.planning.page import Check, Plan, describe_state, render_plan_page
from flair_baseline.planning.probabilities import keep_probabilities, read_references
from flair_baseline.planning.selection import Key, State, select, state_cost
from flair_ingestion.dataset import index_patches, require_data, sample_patches
from flair_ingestion.limits import read_limits
from flair_ingestion.sandbox.system import require_linux
from flair_scoring.base.bounded_json import read_json
from flair_scoring.base.errors import FlairError, UsageError, list_problems, run_command
from flair_scoring.base.files import make_folder, write_file
from flair_scoring.base.provenance import stamp
from flair_scoring.outputs.ingestion_output import read_timing
from flair_scoring.outputs.scores import NAME as SCORES

MOST_PATCHES = 9000  # whose probabilities take 1.9 GB for each model and set of views
MARGIN = 0.10  # as wide as the widest grey zone of the clock
SEED = 0  # of the sample of patches


def main() -> None:
    """Time, predict, choose, check; write the submission, plan.html and plan.json."""
    require_linux()
    args = parse_arguments()
    if args.timings:
        print(compare_devices(args.timings))
        return
    check_target(args.output)
    members = name_members(args.members)
    work = args.work or args.output.with_name(f"{args.output.stem}_plan")
    make_folder(work)
    require_data(args.data)
    again = f"what was measured is kept in {work}; this command goes on: {command_that_goes_on()}"
    with advice_if_interrupted(again):
        plan = make_plan(members, args, work)
        members_of_choice = to_members(plan.choice.state, members)
        write_submission(args.output, pack_ensemble(members_of_choice, args.batch_size))
        record = {**stamp(), **asdict(plan), "members": {name: str(path) for name, path in members.items()}}
        write_file(work / "plan.json", json.dumps(record, indent=1) + "\n")
        write_file(work / "plan.html", render_plan_page(plan))
    choice = plan.choice
    print(f"{describe_state(choice.state)}: mIoU {choice.miou:.4f} on {args.split}", file=sys.stderr)
    ratios = f"time ratio {choice.measured_ratio:.3f}, predicted {choice.predicted_ratio:.3f}"
    print(f"{ratios}, limit {plan.limit:g}", file=sys.stderr)
    print(work / "plan.html")
    print(args.output)


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/plan.py runs/a runs/b runs/c --data DATA -o runs/best.zip\n"
        "         python starting_kit/plan.py --timings here/*/timing.json there/*/timing.json",
    )
    parser.add_argument("members", nargs="*", type=Path, metavar="RUN_OR_CHECKPOINT")
    parser.add_argument("--data", type=Path, help="folder with the FLAIR #2 archives, unpacked")
    parser.add_argument("--split", choices=["val", "test"], default="val", help="default: %(default)s")
    parser.add_argument("--limit-ratio", type=float, metavar="R", help="default: that of limits.yaml")
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        help="share of the limit that stays unused, default: %(default)s",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="patches per request, default: %(default)s"
    )
    parser.add_argument(
        "--patches", type=int, default=4000, metavar="N", help="patches of the search, default: %(default)s"
    )
    parser.add_argument(
        "--timing-patches",
        type=int,
        default=128,
        metavar="N",
        help="patches that time a model, default: %(default)s",
    )
    parser.add_argument("--class-weights", action="store_true", help="also weigh each class of each model")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--work", type=Path, metavar="WORK", help="default: beside OUTPUT, <its name>_plan")
    parser.add_argument(
        "--timings", type=Path, nargs="+", metavar="TIMING.json", help="only compare time ratios by device"
    )
    parser.add_argument("-o", "--output", type=Path, help="NAME.zip, or a new folder")
    args = parser.parse_args()
    if not args.timings and not (args.members and args.data and args.output):
        parser.error("expected models, --data DATA and -o OUTPUT, or --timings")
    if not 0 <= args.margin < 1:
        parser.error(f"--margin {args.margin}: expected a share from 0 to below 1")
    if not 1 <= args.patches <= MOST_PATCHES:
        parser.error(f"--patches {args.patches}: expected 1 to {MOST_PATCHES}")
    if not 1 <= args.batch_size <= 32:
        parser.error(f"--batch-size {args.batch_size}: the platform gives 1 to 32 patches at once")
    if args.timing_patches < 1:
        parser.error(f"--timing-patches {args.timing_patches}: expected 1 or more")
    if args.limit_ratio is not None and not args.limit_ratio > 0:
        parser.error(f"--limit-ratio {args.limit_ratio}: expected a number above 0")
    return args


def name_members(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each model, and its path; UsageError that lists all that are no checkpoints."""
    problems: list[str] = []
    members: dict[str, Path] = {}
    for path in paths:
        try:
            read_config(find_weights(path))
        except FlairError as error:
            problems.append(str(error))
        if path.resolve() in {one.resolve() for one in members.values()}:
            problems.append(f"{path}: is given twice")
        name = path.name if path.is_dir() else f"{path.parent.name}/{path.name}"
        members[name if name not in members else str(path)] = path
    if problems:
        raise UsageError(list_problems("models", problems))
    return members


def make_plan(members: Mapping[str, Path], args: argparse.Namespace, work: Path) -> Plan:
    """Time, predict, choose and check; UsageError when no model fits the limit."""
    limit = args.limit_ratio or read_limits().ratio
    if limit is None:
        raise UsageError("limits.yaml has no limit by ratio; give one with --limit-ratio")
    budget = limit * (1 - args.margin)
    device = choose_device(args.device)
    split = ["--split", args.split, "--device", device.type]
    patches = index_patches(args.data, args.split, labels=True)
    timed = ["--subset", str(min(args.timing_patches, len(patches)))]
    clock = Clock(args.data, work / "timing", args.batch_size, [*split, *timed])
    costs: dict[Key, float] = {}
    for name, path in members.items():
        for views, ratio in measure_costs(path, name, clock).items():
            costs[name, views] = ratio
            print(f"{name} ({views}): time ratio {ratio:.3f}", file=sys.stderr)
    require_one_within(costs, budget, limit)
    sample = sample_patches(patches, min(args.patches, len(patches)), SEED)
    kept: dict[Key, np.ndarray] = {}
    for number, (name, path) in enumerate(members.items(), 1):
        if costs[name, "none"] > budget:
            print(f"note: {name} is left out: alone it needs more than {budget:.3f}", file=sys.stderr)
            continue
        folder = work / "predictions" / str(number)
        for views, array in keep_probabilities(path, sample, folder, device, args.batch_size).items():
            kept[name, views] = array
    compare_states = functools.partial(
        compare,
        kept=kept,
        references=read_references(sample),
        domains=[patch.domain for patch in sample],
        device=device,
    )
    usable = {key: cost for key, cost in costs.items() if key in kept}
    singles, steps = select(usable, budget, compare_states, args.class_weights)
    checks = []
    states = {"ensemble" if len(steps[-1].state) > 1 else "best model": steps[-1].state}
    states |= {"best model": singles[0].state}
    for name, state in states.items():
        checks.append(check(name, state, state_cost(state, costs), members, args, work, split))
    choice = max(checks, key=lambda one: one.miou)
    return Plan(limit, args.margin, len(sample), args.split, singles, steps, checks, choice)


def require_one_within(costs: Mapping[Key, float], budget: float, limit: float) -> None:
    """UsageError when even the fastest model takes longer than the budget."""
    (name, _), ratio = min(costs.items(), key=lambda item: item[1])
    if ratio > budget:
        raise UsageError(
            f"no model fits: the fastest, {name}, has a time ratio of {ratio:.3f}, and {budget:.3f} is the "
            f"limit of {limit:g} less the margin; train a smaller network, or change --batch-size or --margin"
        )


def to_members(state: State, members: Mapping[str, Path]) -> list[Member]:
    """The members of an ensemble as packaging takes them."""
    return [
        Member(members[name], views, weights if len(weights) > 1 else weights[0])
        for name, (views, weights) in state.items()
    ]


def check(
    name: str,
    state: State,
    predicted: float,
    members: Mapping[str, Path],
    args: argparse.Namespace,
    work: Path,
    options: Sequence[str],
) -> Check:
    """Evaluate an ensemble on the whole split by the ingestion and the scoring program."""
    files = pack_ensemble(to_members(state, members), args.batch_size)
    check_size(files)
    submission, output = work / f"{name.replace(' ', '_')}.zip", work / "checks" / name.replace(" ", "_")
    write_submission(submission, files)
    print(f"checking the {name}: {describe_state(state)}", file=sys.stderr)
    limit = ["--limit-ratio", str(args.limit_ratio)] if args.limit_ratio else []
    cache = work / "timing" / "reference"
    device = list(options[2:])
    code = evaluate_submission(
        submission, output, Task(args.data, args.split, output, cache, [*device, *limit])
    )
    if code:
        raise UsageError(
            f"{submission}: was not scored, exit code {code}; the message above says why. If it was over the "
            "limit, choose a larger --margin"
        )
    miou = read_json(output / SCORES, 1 << 16)["miou"]
    return Check(name, state, predicted, float(read_timing(output)["ratio"]), float(miou))


if __name__ == "__main__":
    run_command(main)
