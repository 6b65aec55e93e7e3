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
import json
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flair_baseline.evaluation import Task, claim, require_outputs
from flair_baseline.machines.interruption import advice_if_interrupted, command_that_goes_on
from flair_baseline.machines.machine import choose_device
from flair_baseline.packaging import (
    Member,
    check_target,
    pack_ensemble,
    read_member,
    refuse_input,
    resolve_weights,
    write_submission,
)
from flair_baseline.planning.checking import check_candidates
from flair_baseline.planning.choosing import Search, choose
from flair_baseline.planning.costs import Clock, Timed, describe_machine, time_model, to_costs
from flair_baseline.planning.devices import compare_devices
from flair_baseline.planning.members import hash_weights, require_unchanged
from flair_baseline.planning.page import Plan, describe_state, render_plan_page
from flair_baseline.planning.probabilities import hash_patches
from flair_baseline.planning.selection import Key, State
from flair_ingestion.dataset import Patch, index_patches, require_data, sample_patches
from flair_ingestion.limits import read_limits
from flair_ingestion.sandbox.system import require_linux
from flair_scoring.base.errors import FlairError, UsageError, list_problems, run_command
from flair_scoring.base.files import make_folder, write_file
from flair_scoring.base.provenance import stamp

MOST_PATCHES = 9000  # whose probabilities take 1.9 GB for each model and set of views
MARGIN = 0.10  # as wide as the widest grey zone of the clock
SEED = 0  # of the sample of patches
CHECKED = {"ensemble": "ensemble.zip", "best model": "best_model.zip"}  # in WORK/checked
FOLDERS = ("checked", "checks", "predictions", "timing")  # that a plan fills in WORK
CODE_MIB = 1  # room in a submission for what is not weights


@dataclass(frozen=True)
class Given:
    """What a plan begins with: it is read before any folder is made.

    `members` maps names of models to their paths, `hashes` has those of their weights; `machine` is what
    `describe_machine` returns.
    """

    members: Mapping[str, Path]
    hashes: Mapping[str, str]
    patches: Sequence[Patch]
    limit: float
    device: str
    machine: Sequence[Any]


def main() -> None:
    """Time, predict, choose, check; write the submission, plan.html and plan.json."""
    require_linux()
    args = parse_arguments()
    if args.timings:
        print(compare_devices(args.timings))
        return
    output = args.output if args.output.name not in ("", "..") else args.output.resolve()
    work = args.work or output.with_name(f"{output.stem}_plan")
    if args.output.parent.is_dir():
        check_target(args.output)  # here it makes no folder
    members = name_members(args.members)
    require_data(args.data)
    refuse_input(args.output, args.members)
    require_places(args.output, work, args.data)
    given = read_given(members, args)
    check_target(args.output)
    make_folder(work)
    again = f"what was measured is kept in {work}; this command goes on: {command_that_goes_on()}"
    with claim(work / "plan", wait=False) as ours, advice_if_interrupted(again):
        if not ours:
            raise UsageError(f"{work}: another plan writes there; wait for its end, or choose another --work")
        plan = make_plan(given, args, work)
        write_checked(work / "checked" / CHECKED[plan.choice.name], args.output)
        paths = {name: str(path) for name, path in given.members.items()}
        record = {**stamp(), **asdict(plan), "members": paths}
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
    if args.limit_ratio is not None and not 0 < args.limit_ratio < math.inf:
        parser.error(f"--limit-ratio {args.limit_ratio}: expected a number above 0")
    return args


def name_members(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each model, and its path; UsageError that lists all that a submission cannot have."""
    problems: list[str] = []
    most = read_limits().submission_mib - CODE_MIB
    for path in paths:
        try:
            weights, _ = read_member(path)
            if (mib := weights.stat().st_size / 2**20) > most:
                problems.append(
                    f"{path}: its weights have {mib:.0f} MiB, and a submission may have {most + CODE_MIB:g} "
                    "(submission_mib); leave it out"
                )
        except FlairError as error:
            problems.append(str(error))
    files = [resolve_weights(path) for path in paths]
    problems += [
        f"{path}: is given twice" for path, file in zip(paths, files, strict=True) if files.count(file) > 1
    ]
    short = [path.resolve().name if path.is_dir() else f"{path.parent.name}/{path.name}" for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if problems:
        raise UsageError(list_problems("models", list(dict.fromkeys(problems))))
    return dict(zip(names, paths, strict=True))


def require_places(output: Path, work: Path, data: Path) -> None:
    """UsageError if OUTPUT or WORK cannot be written, or if one of them would fill a folder of the other."""
    with_temporary = f".{output.name}.partial" if output.suffix.lower() == ".zip" else output.name
    for path, name in ((output, with_temporary), (work, work.name)):
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if len(os.fsencode(name)) > (most := os.pathconf(above, "PC_NAME_MAX")):
            raise UsageError(
                f"{path}: its name is too long; the file system takes {most} bytes, of which plan.py needs "
                "up to 9 while it writes; choose a shorter name"
            )
    for folder in (work / name for name in FOLDERS):
        if output.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{output}: lies in {folder}, which plan.py fills; choose another --output")
    if output.suffix.lower() != ".zip" and work.resolve().is_relative_to(output.resolve()):
        raise UsageError(
            f"{work}: lies in {output}, the folder of the submission, which must hold nothing else; choose "
            "another --work"
        )
    checked = {Path(name).stem: work / "checked" / name for name in CHECKED.values()}
    require_outputs(checked, data, work / "checks")


def read_given(members: Mapping[str, Path], args: argparse.Namespace) -> Given:
    """Read weights, data and machine; UsageError or DataError, which says what is wrong with them."""
    limit = args.limit_ratio or read_limits().ratio
    if limit is None:
        raise UsageError("limits.yaml has no limit by ratio; give one with --limit-ratio")
    device, machine = choose_device(args.device).type, describe_machine(args.device)
    patches = index_patches(args.data, args.split, labels=True)
    hashes = {name: hash_weights(path) for name, path in members.items()}
    return Given(members, hashes, patches, limit, device, machine)


def make_plan(given: Given, args: argparse.Namespace, work: Path) -> Plan:
    """Time, predict, choose and check; UsageError when no model fits the limit."""
    members, hashes, patches, limit = given.members, given.hashes, given.patches, given.limit
    budget = limit * (1 - args.margin)
    split = ["--split", args.split, "--device", given.device]
    timed = ["--subset", str(min(args.timing_patches, len(patches)))]
    content = hash_patches(patches)
    clock = Clock(args.data, work / "timing", args.batch_size, [*split, *timed], given.machine, content)
    times: dict[Key, Timed] = {}
    for name, path in members.items():
        require_unchanged({name: path}, hashes)
        times |= {(name, views): found for views, found in time_model(path, name, clock).items()}
    costs = to_costs(times)
    for (name, views), ratio in costs.items():
        print(f"{name} ({views}): time ratio {ratio:.3f}", file=sys.stderr)
    require_one_within(costs, budget, limit)
    sample = sample_patches(patches, min(args.patches, len(patches)), SEED)
    search = Search(
        members=leave_slow_out(members, costs, budget),
        hashes=hashes,
        costs=costs,
        mib={name: weigh(path) for name, path in members.items()},
        budget=budget,
        most_mib=read_limits().submission_mib - CODE_MIB,
        patches=sample,
        folder=work / "predictions",
        device=args.device,
        batch_size=args.batch_size,
        class_weights=args.class_weights,
    )
    singles, steps = choose(search, apart=given.device != "cpu")
    states = {"ensemble": steps[-1].state} if len(steps[-1].state) > 1 else {}
    states |= {"best model": singles[0].state}
    submissions = {name: work / "checked" / CHECKED[name] for name in states}
    for name, state in states.items():
        write_submission(submissions[name], pack_ensemble(to_members(state, members), args.batch_size))
    require_unchanged(members, hashes)  # what was timed and predicted is what was packed
    options = ["--device", given.device, "--limit-ratio", str(limit)]
    with tempfile.TemporaryDirectory() as name:  # the reference is timed anew, as on the platform
        conditions = json.dumps([content, given.machine])
        task = Task(args.data, args.split, work / "checks", Path(name), options, content=conditions)
        checks, failures = check_candidates(states, submissions, costs, task)
    choice = max(checks, key=lambda one: one.miou)
    return Plan(limit, args.margin, len(sample), args.split, singles, steps, checks, choice, failures)


def write_checked(checked: Path, target: Path) -> None:
    """Write the files of a submission that was checked, and nothing newer, to the target."""
    with zipfile.ZipFile(checked) as archive:
        write_submission(target, {name: archive.read(name) for name in archive.namelist()})


def weigh(run_or_checkpoint: Path) -> float:
    """The size of a model's weights in MiB."""
    return resolve_weights(run_or_checkpoint).stat().st_size / 2**20


def leave_slow_out(members: Mapping[str, Path], costs: Mapping[Key, float], budget: float) -> dict[str, Path]:
    """The members that fit the budget alone and with one view; a note tells each of the others."""
    for name in members:
        if costs[name, "none"] > budget:
            print(f"note: {name} is left out: alone it needs more than {budget:.3f}", file=sys.stderr)
    return {name: path for name, path in members.items() if costs[name, "none"] <= budget}


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


if __name__ == "__main__":
    run_command(main)
