"""Rehearse a bundle: submissions through its programs, as the platform's worker runs them, before an upload.

Prints for each phase and submission what the participant sees, what the leaderboard gets and which limits
are near, with the seconds of each step. OUTPUT/<phase>/<submission>/ gets the results and the logs, and
OUTPUT/<phase>/leaderboard.html the ranking; what an earlier rehearsal has left in OUTPUT is removed. Without
a submission the bundle's own solutions are run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
sys.path += [str(KIT / program) for program in ("scoring_program", "ingestion_program")]

from flair_ingestion.sandbox.system import require_linux  # noqa: E402

require_linux()

from flair_bundle.check import check_bundle  # noqa: E402
from flair_bundle.platform.container import namespaces_work  # noqa: E402
from flair_bundle.platform.engine import find_engine, image_problem  # noqa: E402
from flair_bundle.platform.process import Step  # noqa: E402
from flair_bundle.platform.worker import COPIES, Image, Worker  # noqa: E402
from flair_bundle.rehearsal import (  # noqa: E402
    Rehearsed,
    group_phases,
    pack_submissions,
    read_phases,
    rehearse,
    remove_earlier,
    require_apart,
    work_folder,
    write_record,
)
from flair_bundle.rehearsal_summary import describe, describe_visible  # noqa: E402
from flair_scoring.base.errors import (  # noqa: E402
    DataError,
    SubmissionError,
    UsageError,
    list_names,
    list_problems,
    run_command,
)

GPU = Path("/dev/nvidiactl")
# Exit codes of programs when the submission is not at fault, then of engines that start no container. What
# Linux kills ends with a higher one
NOT_RUN = (1, 2, 125, 126, 127)


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python bundle/rehearse.py dist/bundle.zip\n"
        "          python bundle/rehearse.py dist/bundle.zip runs/first.zip --solutions --phase Final\n"
        "          python bundle/rehearse.py dist/bundle.zip --image me/flair2-kit:1.0",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE.zip", help="as build.py wrote it")
    parser.add_argument("submissions", nargs="*", type=Path, metavar="SUBMISSION", help="zip or folder")
    parser.add_argument("--solutions", action="store_true", help="run the bundle's own solutions, too")
    parser.add_argument("--phase", metavar="NAME", help="one phase only, by its name or index")
    parser.add_argument(
        "--image",
        metavar="NAME",
        help="run in this image, with docker or podman; without it in namespaces, with this Python",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="in place of the cuda of the bundle's command; auto: cuda if there is a GPU (default)",
    )
    parser.add_argument(
        "--gpu", default="nvidia.com/gpu=0", metavar="CDI", help="the GPU for --image (default: %(default)s)"
    )
    parser.add_argument(
        "--worker-data",
        type=Path,
        metavar="DIR",
        help="what the worker has as /app/data (build.py --data-on-worker wrote worker_data/)",
    )
    parser.add_argument(
        "--copies",
        choices=COPIES,
        default=COPIES[0],
        help="when the worker copies a submission's files beside the results (default: %(default)r)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("runs/rehearsal"), help="default: %(default)s"
    )
    return parser.parse_intermixed_args()


def choose_device(asked: str) -> str:
    """cpu or cuda; raises UsageError for cuda without a GPU."""
    if asked == "cuda" and not GPU.exists():
        raise UsageError(f"--device cuda: there is no {GPU}; install NVIDIA's driver, or take --device cpu")
    if asked == "auto" and not GPU.exists():
        warn("no GPU here, so the programs get cpu in place of cuda")
    return "cuda" if GPU.exists() and asked != "cpu" else "cpu"


def choose_image(name: str | None, gpu: str | None) -> Image | None:
    """The image with the engine that has it; None without a name. Raises UsageError if either is absent."""
    if name is None:
        if not namespaces_work():
            warn("this user may not make mount namespaces: paths take the place of the platform's mounts")
        return None
    engine = find_engine(name)
    if engine.problem:
        raise UsageError(
            f"--image {name}: no container engine answers ({engine.problem}); start one, or leave it out"
        )
    if problem := image_problem(engine, name):
        raise UsageError(f"--image {name}: {problem}; build it (bundle/Dockerfile) or pull it first")
    return Image(engine, name, gpu)


def require_sound(bundle: Path) -> None:
    """Print what the check finds; raises DataError for problems that a rehearsal would meet."""
    problems, notes, remarks = check_bundle(bundle)
    for sentence in (*notes, *remarks):
        warn(sentence)
    if problems:
        raise DataError(list_problems(f"{bundle}: not ready for the platform", problems, shown=100))


def rank(folder: Path) -> None:
    """Print the leaderboard of a phase and write it as leaderboard.html, if there is anything to rank."""
    results = sorted(str(path.parent) for path in folder.glob("*/timing.json"))
    if not results:
        warn(f"{folder.name}: no submission was timed, so there is nothing to rank")
        return
    command = [sys.executable, str(KIT / "scoring_program/rank.py"), *results]
    done = subprocess.run([*command, "--output", str(folder / "leaderboard.html")], check=False)
    if done.returncode:
        raise DataError(f"{folder}: rank.py could not rank the results there; its reason stands above")


def fail_for(runs: list[Rehearsed], image: str | None) -> None:
    """Raise the error of the runs that ended without a score: 2 if machine or bundle are at fault, else 3."""
    failed = [one for one in runs if one.outcome.scores is None]
    for one in failed:
        for job, step in (("ingestion", one.outcome.ingestion), ("scoring", one.outcome.scoring)):
            if step and (step.returncode in NOT_RUN or step.returncode > max(NOT_RUN)):
                raise UsageError(describe_fault(one, job, step, image))
    if failed:
        names = [f"{one.name} in {one.phase.name}" for one in failed]
        raise SubmissionError(list_problems("submissions without a score; their logs say why", names))


def describe_fault(one: Rehearsed, job: str, step: Step, image: str | None) -> str:
    """Why `job`, ingestion or scoring, could not run: a module is absent, or the last that it said."""
    if lacking := re.search(r"No module named '([\w.]+)'", step.stderr):
        if lacking[1].startswith("flair_"):
            return f"the {job} program of the bundle lacks the module {lacking[1]}; build the bundle again"
        where = f"the image {image}" if image else "this Python"
        return f"{where} has no module {lacking[1]}; bundle/packages.txt lists the packages that it needs"
    last = (step.stderr.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("error: ")
    return f"{job} could not run for {one.name}, and ended with exit code {step.returncode}: {last}"


def main() -> None:
    """Rehearse every submission in every phase, one at a time."""
    args = parse_arguments()
    device = choose_device(args.device)
    image = choose_image(args.image, args.gpu if device == "cuda" else None)
    if args.worker_data and not args.worker_data.is_dir():
        raise UsageError(f"--worker-data {args.worker_data}: no such folder; build.py calls it worker_data")
    require_sound(args.bundle)
    require_apart(args.output, [args.bundle, *args.submissions, *filter(None, [args.worker_data])])
    runs: list[Rehearsed] = []
    with work_folder(args.output) as work:
        phases, solutions = read_phases(args.bundle, work, args.phase)
        elsewhere = [one.name for one in phases if "input_data" not in one.zips]
        if elsewhere and not args.worker_data:
            raise UsageError(
                f"{args.bundle}: holds no input_data for {list_names(elsewhere)}; name the folder of the "
                "worker's data that build.py wrote, with --worker-data .../worker_data"
            )
        submissions = pack_submissions(args.submissions, work, solutions if args.solutions else ())
        if args.solutions or not submissions:
            submissions = solutions | submissions
        if not submissions:
            raise UsageError(f"{args.bundle}: holds no solutions to rehearse; name a submission")
        groups = group_phases(phases)
        remove_earlier(args.output)
        write_record(args.output, args.bundle, runs)  # from now on the folder is known as a rehearsal's
        for phase, *others in groups:
            for name, submission in submissions.items():
                number, count = len(runs) + 1, len(groups) * len(submissions)
                print(f"== {number} of {count}: {phase.name}, {name}", file=sys.stderr)
                folder = work / f"run_{number}"
                worker = Worker(folder, args.worker_data, device, image, copies=args.copies, show=True)
                runs.append(rehearse(phase, name, submission, worker, args.output))
                write_record(args.output, args.bundle, runs)
                print(f"{phase.name}, {name}", *describe(runs[-1]), sep="\n")
                for other in others:
                    print(f"  in {other.name}, which has the same programs and data, participants")
                    print(f"               {describe_visible(other.settings, runs[-1].outcome)}", flush=True)
                shutil.rmtree(folder, ignore_errors=True)
    for phase, *others in groups:
        names = " and ".join(one.name for one in (phase, *others))
        print(f"\n{names}: results in {args.output / phase.folder}", flush=True)
        rank(args.output / phase.folder)
    fail_for(runs, args.image)


def warn(sentence: str) -> None:
    """Print a note on stderr."""
    print(f"note: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
