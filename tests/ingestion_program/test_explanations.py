"""What a submission is told when the sandbox refuses something, or its Model does not fit the interface."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from ingest_command import INGEST

from flair_ingestion.devices.device import Device
from flair_ingestion.limits import read_limits
from flair_ingestion.sandbox import explanations, runner
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission

CPU = Device("cpu", "a processor", None, {"cores": 2})
NETWORK = (
    "a submission has no network: put what it would download, pretrained weights for example, into the zip"
)
PROCESSES = "use a ThreadPoolExecutor, and num_workers=0 for a DataLoader"
FILES = "a submission reads its own folder, the installed packages and the system's libraries"
# Each is run inside the sandbox, where Model is constructed
ATTEMPTS = {
    "weights of torchvision": "import torchvision\ntorchvision.models.resnet18(weights='DEFAULT')",
    "hub": "import torch\ntorch.hub.load('pytorch/vision', 'resnet18')",
    # smp's encoder_weights="imagenet" and timm's pretrained=True end here, after seconds of import
    "hugging face": "import huggingface_hub\nhuggingface_hub.hf_hub_download('a/b', 'c')",
    "download": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/')",
    "workers": "from torch.utils.data import DataLoader\nlist(DataLoader([1, 2], num_workers=1))",
    "pool": "import multiprocessing\nmultiprocessing.Pool(1)",
    "executor": "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor(1).submit(abs, 1)",
    "shared memory": "from multiprocessing.shared_memory import SharedMemory\nSharedMemory('x', True, 9)",
    "shared tensor": "import torch\ntorch.ones(9).share_memory_()",
    "file elsewhere": "open('/etc/shadow')",
    "write beside the code": "(folder / 'cache.txt').write_text('x')",
    "pool of threads": "from multiprocessing.pool import ThreadPool\nThreadPool(1)",  # it has a lock, too
    "thread that opens": "from concurrent.futures import ThreadPoolExecutor\n"
    "ThreadPoolExecutor(1).submit(open, '/etc/shadow').result()",
    "linked package": "import os, sys, tempfile\nsys.path.append(tempfile.gettempdir())\n"
    "os.symlink('/etc/shadow', tempfile.gettempdir() + '/linked.py')\nimport linked",
    "timer": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 9)",
    "relative path": "open('weights.bin')",
    "no such package": "import rasterio_of_nobody",
    "attribute": "dict(aerial=1).aerial",
    "fallback": "try: open('/etc/shadow')\nexcept OSError: {}['weights']",
    "own mistake": "{}['weights']",
    "library's mistake": "import torch\ntorch.nn.functional.one_hot(torch.tensor([-1]))",
}
MODEL = """
import json, os, sys, tempfile, traceback
from pathlib import Path

class Model:
    def __init__(self, folder, device):
        runner, told = sys.modules["__main__"], {}
        for name, code in json.loads((folder / "attempts.json").read_text()).items():
            try:
                exec(compile(code, str(folder / "model.py"), "exec"), {"folder": folder})
            except BaseException as error:
                told[name] = runner.explanations.describe_error(error, str(folder))
        Path(tempfile.gettempdir(), "told.json").write_text(json.dumps(told))

    def predict(self, batch): ...
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """For each attempt, what the child in the sandbox tells the parent of its failure."""
    root = tmp_path_factory.mktemp("explanations")
    folder = root / "submission"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    (folder / "weights.bin").write_bytes(b"w")
    (folder / "attempts.json").write_text(json.dumps(ATTEMPTS))
    with Session(open_submission(folder, 9), CPU, read_limits(), time.monotonic() + 120) as session:
        session.start("none")
        if session.sandbox_level != "full":
            pytest.skip("the sandbox refuses less here")
        session.load()
        found = json.loads((session._scratch / "told.json").read_text())
    return found


@pytest.mark.parametrize(
    ("attempt", "sentence", "frame"),
    [
        ("weights of torchvision", NETWORK, "socket.py"),
        ("hub", NETWORK, "socket.py"),
        ("hugging face", NETWORK, ""),
        ("download", NETWORK, "socket.py"),
        ("workers", PROCESSES, "multiprocessing/synchronize.py"),
        ("pool", PROCESSES, "multiprocessing/synchronize.py"),
        ("executor", PROCESSES, "multiprocessing/synchronize.py"),
        ("shared memory", PROCESSES, "multiprocessing/shared_memory.py"),
        ("shared tensor", PROCESSES, "torch/storage.py"),
        ("file elsewhere", FILES, "model.py"),
        ("write beside the code", FILES, "pathlib"),
        ("pool of threads", PROCESSES, "multiprocessing/synchronize.py"),
        ("thread that opens", FILES, "concurrent/futures/thread.py"),
        ("linked package", "linked.py is a link to /etc/shadow, which a submission cannot read", "model.py"),
        ("timer", "the sandbox refuses some system calls, probably this one", "model.py"),
        ("relative path", "open submission_dir / 'weights.bin'", "model.py"),
        ("no such package", "bring it along in the zip", "model.py"),
        ("attribute", "batch is a dict: write batch['aerial']", "model.py"),
        ("fallback", FILES, "model.py"),
        ("own mistake", "KeyError: 'weights'", "model.py"),
        ("library's mistake", "RuntimeError: ", "model.py"),
    ],
)
def test_what_is_refused_is_told_with_its_cause_and_the_way_out(
    told: dict[str, dict[str, Any]], attempt: str, sentence: str, frame: str
) -> None:
    found = told[attempt]
    assert sentence in found["sentence"]
    assert "\n" not in found["sentence"].strip()
    assert frame in found["frames"][-1]
    assert any(line.startswith("model.py:") for line in found["frames"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("weights.pt", "the submission holds no file weights.pt"),
        ("{folder}/parts/weights.pt", "the submission holds no file parts/weights.pt"),
        ("{folder}/../weights.pt", None),
        ("weights.bin", "relative paths do not start in the submission's folder"),
        ("/nowhere/weights.pt", None),
    ],
)
def test_a_file_that_the_submission_lacks_is_named(tmp_path: Path, name: str, sentence: str | None) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(FileNotFoundError) as caught:
        Path(name.format(folder=tmp_path)).read_bytes()
    told = explanations.explain_mistake(caught.value, str(tmp_path))
    assert told is None if sentence is None else told and told.startswith(sentence)


def test_an_error_after_another_one_is_told_as_well(told: dict[str, dict[str, Any]]) -> None:
    assert told["fallback"]["sentence"].endswith("(KeyError: 'weights')")


def test_an_environment_of_links_is_told_before_the_submission_runs(flair_tree: Path, tmp_path: Path) -> None:
    """Some package managers make such environments, with links into their cache."""
    packages = Path(sysconfig.get_path("purelib"))
    if packages.is_relative_to(sys.base_prefix):
        pytest.skip("no virtual environment: the packages lie where every child may read")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (linked,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for entry in packages.iterdir():
        (linked / entry.name).symlink_to(entry)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/model.py").write_text("class Model: ...")
    command = [tmp_path / "venv/bin/python", "-B", INGEST, flair_tree, tmp_path / "mine", tmp_path / "output"]
    options = ["--device", "cpu", "--limit-ratio", "0", "--require-sandbox", "files"]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"__init__.py is a link to {packages.resolve()}/" in done.stderr
    assert "install the package itself in place of the link" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("class Model:\n def __init__(self): ...\n def predict(self, batch): ...", "defined as Model()"),
        ("class Model:\n def predict(self, batch): ...", "write def __init__(self, submission_dir, device)"),
        ("class Model:\n def __init__(self, a, b, c): ...\n def predict(self, x): ...", "Model(a, b, c)"),
        (
            "import torch\nclass Model(torch.nn.Module):\n def predict(self, batch): ...",
            "write def __init__(self, submission_dir, device)",
        ),
        ("Model = None", "Model in model.py is NoneType; expected a class"),
        (
            "class Model:\n def __init__(self, a, b): ...\n def predict(self, aerial, sentinel): ...",
            "defined as predict(aerial, sentinel), and is called as predict(batch)",
        ),
        (
            "class Model:\n def __init__(self, a, b): ...\n def predict(batch): ...",
            "write def predict(self, batch)",
        ),
        ("class Model:\n def __init__(self, a, b): ...", "Model has no method predict(batch)"),
    ],
)
def test_a_model_that_does_not_fit_the_interface_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str
) -> None:
    (tmp_path / "model.py").write_text(source)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.delitem(sys.modules, "model", raising=False)
    with pytest.raises(runner.Refusal) as caught:
        runner.load_model(str(tmp_path), "cpu")
    sys.modules.pop("model", None)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "class Model:\n def __init__(self, *a, **k): ...\n def predict(self, *a): ...",
        "class Model:\n def __init__(self, a, b, c=1): ...\n @staticmethod\n def predict(b, c=2): ...",
        "class M:\n def predict(self, batch): ...\ndef Model(folder, device): return M()",
        "import torch\nclass Model(torch.nn.Module):\n def __init__(self, a, b): super().__init__()\n"
        " @torch.inference_mode()\n def predict(self, batch): ...",
    ],
)
def test_models_that_can_be_called_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "model.py").write_text(source)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.delitem(sys.modules, "model", raising=False)
    assert hasattr(runner.load_model(str(tmp_path), "cpu"), "predict")
    sys.modules.pop("model", None)


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["-h"], 0), ([], 2), (["x"], 2), (["1", "2"], 2)]
)
def test_the_runner_tells_how_it_is_used(arguments: list[str], code: int) -> None:
    command = [sys.executable, "-I", "-B", runner.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert "--probe" in (done.stderr if code else done.stdout)
    assert "with the number of a\nsocket as argument" in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr
