"""Show that an image can run what participants are promised: packages, torch.compile, the C++ compiler.

The Dockerfile runs it last, so a build ends with an error where something is missing. It prints the versions.
Where the container has a GPU, torch.compile is tried there, too.
"""

import importlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BASE = ("torch", "torchvision")  # which the base image brings
PACKAGES = Path(__file__).with_name("packages.txt")
MODULES = {  # of packages whose module has another name
    "nvidia-ml-py": "pynvml",
    "onnxruntime-gpu": "onnxruntime",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "pyyaml": "yaml",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
}
LOWEST_PYTHON = (3, 11)
TOLERANCE = 1e-4


def package_problems() -> list[str]:
    """Print the version of each package; say which ones are absent or cannot be imported."""
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    listed = [line.split("#")[0].split("==")[0].strip() for line in lines]
    problems = []
    for name in (*BASE, *filter(None, listed)):
        try:
            print(f"{name} {version(name)}")
            importlib.import_module(MODULES.get(name, name))
        except PackageNotFoundError:
            problems.append(f"{name} is not installed")
        except Exception as error:
            problems.append(f"{name} cannot be imported ({type(error).__name__}: {error})")
    return problems


def compiler_problem() -> str:
    """Print the version of g++; say if it is absent or does not answer."""
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        return f"there is no {compiler}: install the package g++"
    asked = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    if asked.returncode or not asked.stdout.strip():
        return f"{compiler} --version says nothing: install the package g++ again"
    print(asked.stdout.splitlines()[0])
    return ""


def compile_problem(device: str) -> str:
    """Compile a small network on `device` and compare it with the same network as it is."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(5, 8, 3, padding=1), torch.nn.GELU(), torch.nn.Conv2d(8, 13, 1)
    ).to(device)
    images = torch.rand(2, 5, 32, 32, device=device)
    try:
        with torch.inference_mode():
            difference = (torch.compile(network)(images) - network(images)).abs().max().item()
    except Exception as error:  # of the compiler, of missing headers, of the driver
        reason = next((line for line in str(error).splitlines() if "error:" in line), str(error))
        return f"torch.compile fails on {device} ({type(error).__name__}: {reason.strip()[:500]})"
    if difference > TOLERANCE:
        return f"torch.compile on {device} changes the logits by {difference:g}, more than {TOLERANCE:g}"
    print(f"torch.compile works on {device}")
    return ""


def main() -> None:
    """Print what the image has; exits with 2 and all that it lacks."""
    print(f"Python {sys.version.split()[0]}")
    problems = package_problems()
    if sys.version_info < LOWEST_PYTHON:
        problems.append(f"the kit needs Python {'.'.join(map(str, LOWEST_PYTHON))} or newer")
    problems.append(compiler_problem())
    if not any(problem.startswith("torch ") for problem in problems):
        import torch

        print(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
        devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        problems += [compile_problem(device) for device in devices]
    problems = [problem for problem in problems if problem]
    if problems:
        listing = "".join(f"\n  {problem}" for problem in problems)
        print(f"error: the image lacks what bundle/pages/packages.md promises:{listing}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
