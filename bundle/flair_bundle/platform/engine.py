"""Run one command in an image, with docker or podman, with the options of the platform's worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass

from flair_bundle.platform.container import ENVIRONMENT, SHARED_MEMORY, Container

ENGINES = ("docker", "podman")
_ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Engine:
    """docker or podman. Where neither answers, `program` is empty, and `problem` says why."""

    program: str
    problem: str = ""


def find_engine(image: str) -> Engine:
    """The engine, docker or podman, that answers and has the image; if none has it, one that answers."""
    problems, without = [], None
    for name in ENGINES:
        if not shutil.which(name):
            continue
        try:
            asked = subprocess.run(
                [name, "info"], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append(f"{name}: {error}")
            continue
        if asked.returncode == 0:
            engine = Engine(name)
            if not image_problem(engine, image):
                return engine
            without = without or engine
            continue
        told = asked.stderr.strip().splitlines() or ["no reason given"]
        problems.append(f"{name} info: {told[-1]}")
    return without or Engine("", "; ".join(problems) or f"neither {' nor '.join(ENGINES)} is installed")


def image_problem(engine: Engine, image: str) -> str:
    """Why the image cannot be used; empty if it is on this machine."""
    asked = subprocess.run([engine.program, "image", "inspect", image], capture_output=True, check=False)
    return "" if asked.returncode == 0 else f"there is no image {image} on this machine"


def engine_command(
    engine: Engine, image: str, container: Container, gpu: str | None, network: bool
) -> tuple[list[str], list[str]]:
    """The command lines that run a container in the image, and that remove it if it is left running.

    `gpu` is a CDI device such as nvidia.com/gpu=0, None for no GPU.
    """
    name = f"flair2-{uuid.uuid4().hex[:12]}"
    options = [
        *("--rm", "--name", name, "--workdir", container.workdir),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--shm-size", SHARED_MEMORY),
        *("--security-opt", "label=disable"),  # else SELinux keeps the container from the mounts
        *("--pull", "never"),
        *([] if network else ["--network", "none"]),
        *(["--device", gpu] if gpu else []),
    ]
    for key, value in ENVIRONMENT.items():
        options += ["--env", f"{key}={value}"]
    for inside, outside in container.mounts.items():
        mode = ":ro" if inside in container.read_only else ""
        options += ["--volume", f"{outside}:{inside}{mode}"]
    options += user_options(engine)
    return (
        [engine.program, "run", *options, image, *container.command],
        [engine.program, "rm", "--force", name],
    )


def user_options(engine: Engine) -> list[str]:
    """Options with which the container runs as this user, for docker whose daemon is root's.

    Otherwise its root, which has no capabilities, could not read and write the mounts of this user.
    """
    if engine.program != "docker" or os.getuid() == 0:
        return []
    asked = ["docker", "info", "--format", "{{.SecurityOptions}}"]
    rootless = "rootless" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return [] if rootless else ["--user", f"{os.getuid()}:{os.getgid()}"]
