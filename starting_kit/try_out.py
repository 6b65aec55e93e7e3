"""Try a submission as the platform runs it: in the organizers' image, with docker or podman, without network.

evaluate.py runs inside and writes the results to OUTPUT. Without --image it runs in an imitation of the
container, with the packages of this machine; what then differs from the platform is said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
sys.path.append(str(KIT / "bundle"))

from flair_ingestion.sandbox.system import require_linux  # noqa: E402

if sys.platform == "win32":  # on a Mac, docker and podman run Linux, and show folders under the same paths
    require_linux()

from flair_baseline.imports import read_packages, read_versions  # noqa: E402
from flair_bundle.platform.container import ENVIRONMENT, Container, namespaces_work  # noqa: E402
from flair_bundle.platform.engine import Engine, engine_command, find_engine, image_problem  # noqa: E402
from flair_bundle.platform.process import run_attached  # noqa: E402
from flair_scoring.base.errors import UsageError, list_problems, run_command  # noqa: E402

EVALUATE = KIT / "starting_kit" / "evaluate.py"
PACKAGES = KIT / "bundle" / "packages.txt"
LOCK = KIT / "requirements.lock"
GPU = Path("/dev/nvidiactl")
# Runs in the image: prints the names of the packages that it lacks
LACKING = """
import importlib.metadata, json, sys
installed = {one.metadata["Name"].lower().replace("_", "-") for one in importlib.metadata.distributions()}
print(json.dumps([name for name in sys.argv[1:] if name not in installed]))
"""
# The image has the packages that the kit needs, but not the kit
PYTHONPATH = os.pathsep.join(
    str(KIT / name) for name in ("scoring_program", "ingestion_program", "starting_kit")
)
_ENGINE_FAILED = (125, 126, 127)  # exit codes of docker and podman when the program was not started


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the options for evaluate.py; exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="evaluate.py's options (--split, --subset, --limit-seconds …) come last and are passed on.\n"
        "example: python starting_kit/try_out.py runs/first.zip --data DATA --image NAME:TAG\n"
        "         python starting_kit/try_out.py runs/first.zip --data DATA --split val --subset 500",
    )
    parser.add_argument("submission", type=Path, metavar="SUBMISSION", help="zip, or folder with model.py")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the FLAIR #2 archives, unpacked"
    )
    parser.add_argument(
        "--image", metavar="NAME", help="the competition's image; its page Installed packages has the name"
    )
    parser.add_argument(
        "--gpu", default="nvidia.com/gpu=0", metavar="CDI", help="the GPU for --image (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/try"), help="default: %(default)s")
    return parser.parse_known_args()


def find_mounts(submission: Path, data: Path, output: Path) -> dict[str, str]:
    """What the container sees, each under the path that it has outside; a folder comes before those in it.

    Links at the top of the data set lead to folders elsewhere, which are seen, too. Raises UsageError for all
    paths that cannot be used, together.
    """
    problems = []
    for path in (submission, data):
        if not (path.is_file() or path.is_dir()):
            problems.append(f"{path}: no such file or folder")
    if output.exists() and not output.is_dir():
        problems.append(f"{output}: is a file; expected a folder for the results")
    if output == output.parent:
        problems.append(f"{output}: holds the whole machine; choose another --output")
    if problems:
        raise UsageError(list_problems("expected a submission, a data set, and an output", problems))
    output.mkdir(parents=True, exist_ok=True)
    links = [entry for entry in data.iterdir() if entry.is_symlink()] if data.is_dir() else []
    paths = sorted(
        (KIT, submission, data, *map(Path.resolve, links), output), key=lambda path: len(path.parts)
    )
    return {str(path): str(path) for path in paths}


def find_image(name: str, packages: list[str]) -> Engine:
    """The engine that has the image. Raises UsageError if there is none, or if the image lacks packages."""
    engine = find_engine(name)
    if engine.problem:
        raise UsageError(
            f"--image {name}: no container engine answers ({engine.problem}); start docker or podman, or "
            "leave --image out to try the submission in an imitation of the container"
        )
    if problem := image_problem(engine, name):
        raise UsageError(f"--image {name}: {problem}; get it with `{engine.program} pull {name}`")
    asked = Container(["python3", "-c", LACKING, *packages], {}, "/", "/", True)
    command, _ = engine_command(engine, name, asked, None, network=False)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"--image {name}: {engine.program} cannot run python3 in it ({reason})")
    if lacking := json.loads(done.stdout):
        raise UsageError(
            f"--image {name}: lacks {', '.join(lacking)}; take the image that the competition's page "
            "Installed packages names"
        )
    return engine


def describe_differences(packages: list[str]) -> list[str]:
    """How an imitation of the container differs from the platform's, in sentences."""
    differences = []
    wanted = read_versions(LOCK, PACKAGES)
    for name in packages:
        try:
            here = version(name)
        except PackageNotFoundError:
            differences.append(f"{name} is absent here")
            continue
        if name in wanted and here not in wanted[name]:
            differences.append(f"{name} is {here} here, {' or '.join(wanted[name])} there")
    differences.append(f"PyTorch is {_version_of_torch()} here; the page Installed packages has the image's")
    differences.append("compilers and libraries of the system are this machine's")
    differences.append("nothing but the sandbox around the submission keeps it from the network")
    if not namespaces_work():
        differences.append("this user may not make namespaces, so mounts and processes are this machine's")
    return differences


def _version_of_torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "absent"


def run_imitated(command: list[str], mounts: dict[str, str], *read_only: str) -> int:
    """The exit code of `command` in an imitation of the platform's container."""
    with tempfile.TemporaryDirectory() as root:
        container = Container(command, mounts, str(KIT), root, namespaces_work(), read_only)
        return run_attached(container.launcher(), ENVIRONMENT)


def run_in_image(
    engine: Engine, args: argparse.Namespace, command: list[str], mounts: dict[str, str], *read_only: str
) -> int:
    """The exit code of `command` in the image. The container ends with this process."""
    container = Container(command, mounts, str(KIT), "/", True, read_only)
    gpu = args.gpu if GPU.exists() else None
    line, removal = engine_command(engine, args.image, container, gpu, network=False)
    code = run_attached(line, None, lambda: subprocess.run(removal, capture_output=True, check=False))
    if code in _ENGINE_FAILED:
        raise UsageError(
            f"--image {args.image}: {engine.program} could not start the container (exit code {code}); "
            "what it said stands above"
        )
    return code


def main() -> None:
    """Try one submission; the exit code is evaluate.py's."""
    args, options = parse_arguments()
    submission, data, output = (path.resolve() for path in (args.submission, args.data, args.output))
    packages = read_packages(PACKAGES)
    if args.image:
        engine = find_image(args.image, packages)
    else:
        require_linux()
    mounts = find_mounts(submission, data, output)
    read_only = [path for path in mounts if path != str(output)]
    python = "python3" if args.image else sys.executable
    command = ["/usr/bin/env", f"PYTHONPATH={PYTHONPATH}", python, "-B", str(EVALUATE), str(submission)]
    command += ["--data", str(data), "--output", str(output), *options]
    if args.image:
        print(f"in the image {args.image}, with {engine.program}, without network", file=sys.stderr)
        code = run_in_image(engine, args, command, mounts, *read_only)
    else:
        listing = "".join(f"\n  {sentence}" for sentence in describe_differences(packages))
        print(f"note: no --image, so this is an imitation of the platform:{listing}", file=sys.stderr)
        code = run_imitated(command, mounts, *read_only)
    sys.exit(code)


if __name__ == "__main__":
    run_command(main)
