"""Windows and macOS: scoring, data and training run there; programs that time a submission say they do not.

The tests imitate these systems: they take away what Python lacks there, then import the kit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KIT = Path(__file__).resolve().parents[1]
IMITATE = """
import contextlib, ctypes, io, json, os, runpy, sys
import numpy, PIL.Image, imagecodecs, multiprocessing.pool, scipy.optimize, tempfile, tqdm, yaml
system, scripts = sys.argv[1], json.loads(sys.argv[2])
if any("starting_kit" in script[0] for script in scripts):  # torch would load other libraries
    import segmentation_models_pytorch, safetensors.torch, torch.distributed, torch.utils.data
    import matplotlib.pyplot
sys.platform = system
library = ctypes.CDLL(None)
absent = ["sched_getaffinity", "sched_setaffinity", "memfd_create", "posix_fallocate"]
if system == "win32":
    absent += ["pread", "pwrite", "mkfifo", "geteuid", "getuid", "fork", "killpg", "O_NOFOLLOW", "O_NONBLOCK"]
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None
for name in absent:
    delattr(os, name)
class Library:
    def __init__(self, name, **options):
        if name is None and system == "win32":
            raise TypeError("expected a string")  # as ctypes does on Windows
    def __getattr__(self, name):
        raise AttributeError(name)
ctypes.CDLL = Library
ends, path = [], sys.path[:]
for script, *arguments in scripts:
    sys.argv, sys.path = [script, *arguments], [os.path.dirname(script), *path]
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = repr(error)
    ends.append((code, told.getvalue()))
print(json.dumps(ends), file=sys.__stdout__)
"""
ON_LINUX = (
    *("ingestion_program/ingest.py", "starting_kit/evaluate.py", "bundle/audit.py", "bundle/build.py"),
    "ingestion_program/flair_ingestion/sandbox/runner.py",
)


def run_on(system: str, scripts: list[list[str]]) -> list[tuple[int | str, str]]:
    """The exit code (or the exception) and the output of each script with its arguments."""
    script = [sys.executable, "-c", IMITATE, system, json.dumps(scripts)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [(code, told) for code, told in json.loads(done.stdout)]


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_what_times_a_submission_needs_linux_and_says_so_at_once(system: str) -> None:
    scripts = [[str(KIT / name), *(["--probe"] * name.endswith("runner.py"))] for name in ON_LINUX]
    scripts = [script for script in scripts if "starting_kit" not in script[0]]
    for code, told in run_on(system, scripts):
        assert code == 2
        assert told.startswith("error: this command needs Linux")
        assert told.count("\n") == 1


def test_scoring_runs_on_windows(flair_tree: Path, tmp_path: Path) -> None:
    (references,) = flair_tree.glob("*labels_test")
    for mask in references.rglob("MSK_*.tif"):
        labels = np.minimum(np.asarray(Image.open(mask)).astype(np.uint8) - 1, 12)  # as FLAIR-2's code has it
        Image.fromarray(labels).save(tmp_path / mask.name.replace("MSK", "PRED"))
    script = [str(KIT / "scoring_program/score.py"), str(tmp_path), str(references), "--jobs", "1"]
    [(code, table)] = run_on("win32", [script])
    assert (code, table.splitlines()[-1]) == (0, "mIoU: 1.0000")


def test_data_and_training_run_on_windows() -> None:
    """The programs import everything and print their options."""
    names = ("check_dataset", "train", "package", "convert_checkpoint", "show", "table4", "make_toy_dataset")
    scripts = [[str(KIT / f"starting_kit/{name}.py"), "--help"] for name in names]
    refused = [[str(KIT / f"starting_kit/{name}.py")] for name in ("evaluate", "try_out")]
    *helps, evaluated, tried = run_on("win32", [*scripts, *refused])
    assert [(code, text[:6]) for code, text in helps] == [(0, "usage:")] * len(names)
    for code, told in (evaluated, tried):
        assert (code, told[:30]) == (2, "error: this command needs Linu")
