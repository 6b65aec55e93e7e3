"""What only a GPU can show. The toy data set needs no package that a machine with a GPU may lack."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from entries import copy_submission
from ingest_command import run_ingest

from flair_baseline.checkpoint import save_model
from flair_baseline.config import load_config
from flair_baseline.encoders import make_network
from flair_baseline.model import ensemble, inference
from flair_baseline.packaging import Member, pack_ensemble, pack_untrained, write_submission
from flair_ingestion.sandbox import policy
from flair_scoring.raster import read_raster
from flair_toy.dataset import make_toy_dataset
from gpu_parts.packages import draw_batch

pytestmark = pytest.mark.cuda
KIT = Path(__file__).parents[1]
SMALL = [
    *("encoder=resnet18", "encoder_weights=null", "decoder_channels=[16, 16, 16, 16, 16]"),
    *("batch_size=2", "effective_batch_size=4", "workers=0", "device=cuda", "deterministic=true"),
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("toy") / "toy"
    make_toy_dataset(data, "tiny", 2022)
    return data


def ingest(folder: Path, data: Path, submission: Path, device: str) -> tuple[dict[str, Any], np.ndarray, str]:
    """timing.json, the labels of all patches in the order of their names, and stderr."""
    output = folder / device
    done = run_ingest(folder, data, submission, output, "--limit-ratio", 0, device=device)
    assert done.returncode == 0, done.stderr
    labels = [read_raster(path) for path in sorted((output / "predictions").iterdir())]
    return json.loads((output / "timing.json").read_text()), np.stack(labels), done.stderr


def test_a_submission_uses_its_gpu_inside_the_sandbox(toy: Path, tmp_path: Path) -> None:
    submission = copy_submission("honest_gpu", tmp_path)
    timing, labels, said = ingest(tmp_path, toy, submission, "cuda")
    assert timing["sandbox"] == ("full" if policy.landlock_version() else "process")
    assert "trying without" not in said
    assert "opens those of all GPUs" not in said
    assert "the memory of the GPU was not overwritten" not in said
    assert timing["device"]["kind"] == "cuda"
    assert timing["device"]["name"] == torch.cuda.get_device_name()
    assert timing["peak_memory_mib"]["accelerator"] > 0
    assert timing["attempts"][0]["gaps"]["restless"] == 0
    assert timing["attempts"][0]["gaps"]["accounted"]
    _, expected, _ = ingest(tmp_path, toy, submission, "cpu")
    np.testing.assert_array_equal(labels, expected)


def test_the_clock_of_the_gpu_is_looked_at(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "sleeps").mkdir()
    source = (Path(__file__).parent / "submissions/honest_gpu.py").read_text()
    source = source.replace("return batch", "import time; time.sleep(1); return batch")
    (tmp_path / "sleeps/model.py").write_text(source)
    timing, _, _ = ingest(tmp_path, toy, tmp_path / "sleeps", "cuda")
    state = timing["attempts"][0]["gpu"]
    assert state["clock_mhz"] > 100
    assert state["power_watts"] > 10
    assert state["joules_per_patch"] > 10  # a third of a second at 30 W or more


def test_the_baseline_labels_as_on_the_cpu(toy: Path, tmp_path: Path) -> None:
    """The weights are untrained, so logits lie closer to each other than those of a trained network."""
    _, labels, _ = ingest(tmp_path, toy, KIT / "reference_submission", "cuda")
    _, expected, _ = ingest(tmp_path, toy, KIT / "reference_submission", "cpu")
    assert (labels == expected).mean() > 0.99


@pytest.mark.parametrize("row", ["utt_best", "utt_mtd"])
@pytest.mark.parametrize("switch", ["staged", "graphs"])
def test_the_switches_of_a_package_keep_its_labels(row: str, switch: str, tmp_path: Path) -> None:
    """The weights are untrained, so logits lie closer to each other than those of a trained network."""
    config = load_config(row, ["encoder_weights=null"])
    write_submission(tmp_path / "new", pack_untrained(config, batch_size=2))
    gpu = torch.device("cuda")
    plain = inference.Model(tmp_path / "new", gpu)
    switched = type("Switched", (inference.Model,), {switch: True})(tmp_path / "new", gpu)
    for seed, size in enumerate([2, 2, 1, 2]):
        batch = draw_batch(size, plain.superpatch_size, seed)
        expected, labels = plain.predict(batch).cpu(), switched.predict(batch).cpu()
        assert len(expected.unique()) > 1
        assert float((labels == expected).double().mean()) > (0.999999 if switch == "staged" else 0.999)


def test_an_ensemble_with_staged_inputs_keeps_its_labels(tmp_path: Path) -> None:
    members = []
    for row in ("utt", "utt_mtd"):
        config = load_config(row, ["encoder_weights=null"])
        (tmp_path / row).mkdir()
        save_model(tmp_path / row, make_network(config), config, epoch=1, metrics={})
        members.append(Member(tmp_path / row, "flips"))
    write_submission(tmp_path / "both", pack_ensemble(members, batch_size=2))
    gpu = torch.device("cuda")
    plain = ensemble.Model(tmp_path / "both", gpu)
    staged = type("Staged", (ensemble.Model,), {"staged": True})(tmp_path / "both", gpu)
    for seed, size in enumerate([2, 1]):
        batch = draw_batch(size, plain.superpatch_size, seed)
        expected, labels = plain.predict(batch).cpu(), staged.predict(batch).cpu()
        assert len(expected.unique()) > 1
        assert float((labels == expected).double().mean()) > 0.999999


def training(data: Path, run: Path, *options: str, launcher: tuple[str, ...] = ()) -> list[str]:
    program = [sys.executable, *launcher, str(KIT / "starting_kit/train.py")]
    return [*program, "--data", str(data), "--config", "utt_all", "--output", str(run), *SMALL, *options]


def train(data: Path, run: Path, *options: str, launcher: tuple[str, ...] = ()) -> None:
    line = training(data, run, *options, launcher=launcher)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "last.pt", weights_only=True)["model"]


def assert_equal(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = []
    for run in (first, second):
        with (run / "log.csv").open() as file:
            logs.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert logs[0] == logs[1]


def test_a_seed_repeats_bit_for_bit_where_that_is_asked_for_also_after_a_kill(
    toy: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        train(toy, tmp_path / name, "epochs=3")
    assert_equal(tmp_path / "first", tmp_path / "second")
    killed = tmp_path / "killed"
    process = subprocess.Popen(training(toy, killed, "epochs=3"), stderr=subprocess.DEVNULL)
    while process.poll() is None and not (killed / "last.pt").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (killed / "log.csv").exists() or len((killed / "log.csv").read_text().splitlines()) < 4
    train(toy, killed, "epochs=3", "--resume")
    assert_equal(tmp_path / "first", killed)


def test_one_rank_over_nccl_trains(toy: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    train(toy, tmp_path / "run", "epochs=1", launcher=launcher)
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


@pytest.mark.long
def test_a_plan_checks_its_choice_on_the_gpu_that_it_has_used(toy: Path, tmp_path: Path) -> None:
    """Ingestion refuses a GPU on which another process computes, where the driver lists processes."""
    config = load_config("utt", ["encoder_weights=null"])
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run", make_network(config), config, epoch=1, metrics={})
    options = ["--device", "cuda", "--limit-ratio", "1000", "--timing-patches", "2"]
    program = [sys.executable, str(KIT / "starting_kit/plan.py"), str(tmp_path / "run"), "--data", str(toy)]
    line = [*program, *options, "-o", str(tmp_path / "best.zip")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "best.zip").exists()
