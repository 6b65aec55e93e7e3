"""ingest.py as a whole, in processes of its own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from entries import copy_sleeper, copy_submission
from ingest_command import INGEST, environment, ingest_command, leftovers, run_ingest

from copies import copy_folder
from flair_files import area_folder, write_series
from flair_ingestion.dataset import index_patches, read_image, read_superpatch
from flair_ingestion.sandbox.policy import landlock_version
from flair_scoring.base.errors import UsageError
from flair_scoring.outputs.manifest import verify_manifest

KIT = INGEST.parents[1]
TEST_IDS = [f"{number:06d}" for number in range(77413, 77419)]
TIMING_KEYS = [
    *("schema", "kit_version", "commit", "nomenclature", "verdict", "reason", "inference_seconds"),
    *(
        "reference_seconds",
        "ratio",
        "limit_ratio",
        "limit_seconds",
        "grey_zone",
        "reference_drift",
        "floor_seconds",
        "reference_gpu",
        "attempts",
        "order_seed",
        "patches",
        "requests",
    ),
    *(
        "latencies_ms",
        "latency_ms",
        "patches_per_second",
        "overhead_ms",
        "load_seconds",
        "warmup_seconds",
        "peak_memory_mib",
        "device",
        "versions",
    ),
    *("threads", "sandbox", "harness_sha256", "reference_sha256", "submission_sha256"),
]


def read_timing(output: Path) -> dict[str, Any]:
    return json.loads((output / "timing.json").read_text())


@pytest.fixture(scope="module")
def data(flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree with one test domain of 9 dates, where the others have 5."""
    data = tmp_path_factory.mktemp("uneven") / "data"
    shutil.copytree(flair_tree, data)
    folder = area_folder(data, "sen", "test", "D015_2020")
    write_series(folder, "D015_2020", "Z1_UF", np.random.default_rng(1), dates=9)
    return data


@pytest.fixture(scope="module")
def good_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """OUTPUT and stdout of a run within both limits: 6 patches, 4 per request, a sleeping reference."""
    folder = tmp_path_factory.mktemp("good")
    reference = copy_sleeper(folder / "reference", 0.3)
    options = ["--reference", reference, "--limit-seconds", 600, "--require-sandbox", "process"]
    done = run_ingest(folder, data, copy_submission("honest_numpy", folder), folder / "output", *options)
    assert done.returncode == 0, done.stderr
    return folder / "output", done.stdout


def test_predictions_equal_those_of_a_plain_loop_over_the_same_model(
    good_run: tuple[Path, str], data: Path
) -> None:
    source = KIT / "tests/submissions/honest_numpy.py"
    specification = importlib.util.spec_from_file_location("honest", source)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    model = module.Model(source.parent, torch.device("cpu"))
    for patch in index_patches(data, "test"):
        series = read_superpatch(patch, 20)
        batch = {
            "aerial": torch.from_numpy(read_image(patch))[None],
            "sentinel": [torch.from_numpy(series.data)],
            "sentinel_masks": [torch.from_numpy(series.masks)],
            "sentinel_dates": [torch.from_numpy(series.dates)],
            "metadata": [patch.metadata],
        }
        with rasterio.open(good_run[0] / f"predictions/PRED_{patch.id}.tif") as raster:
            np.testing.assert_array_equal(raster.read(1), model.predict(batch)[0])


def test_output_holds_the_files_of_the_contract(good_run: tuple[Path, str]) -> None:
    output, stdout = good_run
    assert sorted(os.listdir(output)) == ["ids.txt", "manifest.json", "predictions", "timing.json"]
    assert sorted(os.listdir(output / "predictions")) == [f"PRED_{id}.tif" for id in TEST_IDS]
    assert (output / "ids.txt").read_text().split() == TEST_IDS
    assert len(verify_manifest(output, None)["files"]) == 8
    assert stdout.startswith("within_limit: ")
    assert str(output / "predictions") in stdout


def test_timing_holds_the_keys_of_the_contract_and_adds_up(good_run: tuple[Path, str]) -> None:
    timing = read_timing(good_run[0])
    assert list(timing) == TIMING_KEYS
    assert timing["verdict"] == "within_limit"
    assert (timing["patches"], timing["requests"], len(timing["latencies_ms"])) == (6, 2, 2)
    assert timing["inference_seconds"] == pytest.approx(sum(timing["latencies_ms"]) / 1000)
    assert timing["ratio"] == pytest.approx(timing["inference_seconds"] / timing["reference_seconds"])
    assert timing["reference_seconds"] > 6 * 0.3  # it sleeps that long, the machine adds to it
    assert (timing["limit_ratio"], timing["limit_seconds"]) == (2.5, 600)
    assert timing["sandbox"] == ("full" if landlock_version() else "process")
    low, high = sorted(timing["latencies_ms"])
    assert timing["latency_ms"]["min"] == pytest.approx(low)
    assert timing["latency_ms"]["median"] == pytest.approx((low + high) / 2)
    assert timing["latency_ms"]["p90"] == pytest.approx(low + 0.9 * (high - low))
    assert timing["latency_ms"]["max"] == pytest.approx(high)
    assert 0 < timing["overhead_ms"] < 300  # less than the reference takes
    assert timing["reference_drift"] > 0
    assert timing["peak_memory_mib"]["host"] > 50  # an interpreter with torch
    assert timing["peak_memory_mib"]["accelerator"] is None
    assert timing["versions"]["torch"] == torch.__version__
    assert [attempt["completed"] for attempt in timing["attempts"]] == [True]
    hashes = [timing[f"{name}_sha256"] for name in ("harness", "reference", "submission")]
    assert all(len(found) == 64 for found in hashes)
    assert len(set(hashes)) == 3


@pytest.mark.long
def test_a_submission_slower_than_the_limit_is_stopped_with_a_report(data: Path, tmp_path: Path) -> None:
    reference = copy_sleeper(tmp_path / "reference", 0.05)
    slow = copy_sleeper(tmp_path / "slow", 1.0)
    done = run_ingest(tmp_path, data, slow, tmp_path / "output", "--reference", reference)
    assert done.returncode == 4, done.stderr
    assert "2.5 times the reference's" in done.stderr
    timing = read_timing(tmp_path / "output")
    assert timing["verdict"] == "over_limit"
    assert re.match("stopped after [0-5] of 6 patches: inference takes longer than 2.5 t", timing["reason"])
    assert timing["ratio"] > 2.5
    assert timing["attempts"][0]["completed"] is False
    assert sorted(os.listdir(tmp_path / "output")) == ["manifest.json", "timing.json"]


def test_the_absolute_limit_holds_without_a_reference(data: Path, tmp_path: Path) -> None:
    slow = copy_sleeper(tmp_path / "slow", 0.3)
    options = ["--limit-ratio", 0, "--limit-seconds", 0.5]
    done = run_ingest(tmp_path, data, slow, tmp_path / "output", *options)
    assert done.returncode == 4, done.stderr
    assert "inference takes longer than 0.5 s" in done.stderr
    timing = read_timing(tmp_path / "output")
    assert (timing["reference_seconds"], timing["ratio"], timing["limit_ratio"]) == (None, None, None)
    assert timing["inference_seconds"] >= 0.5


def test_when_the_time_for_everything_is_over_the_run_ends(data: Path, tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("ratio:\nwall_seconds: 5")
    slow = copy_sleeper(tmp_path / "slow", 50)
    done = run_ingest(tmp_path, data, slow, tmp_path / "output", "--limits", tmp_path / "limits.yaml")
    assert done.returncode == 4, done.stderr
    assert "the time for the whole run is over (wall_seconds)" in done.stderr


def test_a_submission_sees_neither_ids_nor_paths_nor_the_kit(data: Path, tmp_path: Path) -> None:
    options = ["--limit-ratio", 0]
    done = run_ingest(
        tmp_path, data, copy_submission("looks_around", tmp_path), tmp_path / "output", *options
    )
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if '"argv"' in line]
    text = line.partition("| ")[2]
    seen = json.loads(text)
    assert seen["batch"] == ["aerial", "metadata", "sentinel", "sentinel_dates", "sentinel_masks"]
    keys = {"date", "time", "patch_centroid_x", "patch_centroid_y", "patch_centroid_z", "camera"}
    assert all(set(entry) == keys for entry in seen["metadata"])
    assert seen["modules"] == []
    for secret in (str(data), str(tmp_path / "output"), "0774", "IMG_", "PRED_", "MSK_", "D015", "Z1_UF"):
        assert secret not in text
    scratch = str(tmp_path / "tmp")
    assert seen["folder"].startswith(scratch)
    assert seen["environ"]["HOME"].startswith(scratch)
    assert not {"PYTHONPATH", "SSH_AUTH_SOCK", "USER"} & seen["environ"].keys()
    assert seen["path"][0].startswith(scratch)
    assert not [entry for entry in seen["path"] if "ingestion_program" in entry or "scoring_program" in entry]


def test_a_broken_reference_is_the_organizers_fault_and_leaves_output_alone(
    data: Path, tmp_path: Path
) -> None:
    reference = copy_submission("raises_in_init", tmp_path)
    honest = copy_submission("honest_constant", tmp_path)
    done = run_ingest(tmp_path, data, honest, tmp_path / "output", "--reference", reference)
    assert done.returncode == 2
    assert (
        "the reference cannot be timed: loading: RuntimeError: weights of another architecture" in done.stderr
    )
    assert not (tmp_path / "output").exists()


def test_damage_in_the_middle_of_the_data_is_the_organizers_fault(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (image,) = (tmp_path / "data").rglob("IMG_077416.tif")
    image.write_bytes(image.read_bytes()[:-100])
    honest = copy_submission("honest_constant", tmp_path)
    done = run_ingest(tmp_path, tmp_path / "data", honest, tmp_path / "output", "--limit-ratio", 0)
    assert done.returncode == 2, done.stderr
    assert "IMG_077416.tif" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{data}", "{honest}", "{data}/out"], "overlaps"),
        (
            ["{data}", "{honest}", "{folder}/out", "--limits", "{folder}/limits.yaml"],
            "the nearest is 'wall_seconds'",
        ),
        (["{data}", "{honest}", "{folder}/out", "--reference", "{folder}/none"], "no reference submission"),
        (["{data}", "{folder}/none.zip", "{folder}/out", "--limit-ratio", "0"], "none.zip"),
        (["{folder}/none", "{honest}", "{folder}/out", "--limit-ratio", "0"], "none"),
        (["{data}", "{honest}", "{folder}/out", "--subset", "0"], "expected at least 1"),
        (
            ["{data}", "{honest}", "{folder}/out", "--order-seed", "1", "--platform"],
            "on the platform nobody may",
        ),
        (["{data}", "{honest}", "{folder}/out", "--order-seed", "-1"], "expected 0 or more"),
        (["{data}", "{honest}", "{folder}/out", "--limit-seconds", "-1"], "--limit-seconds is -1"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_sentence(
    data: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "limits.yaml").write_text("wal_seconds: 3")
    names = {"data": data, "folder": tmp_path, "honest": copy_submission("honest_constant", tmp_path)}
    done = run_ingest(tmp_path, *(argument.format(**names) for argument in arguments))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ([], "none"),
        (["--require-sandbox", "files"], "files"),
        (["--require-cage", "files"], "files"),
        (["--require-cage=full"], "full"),
        (["--require", "process"], "process"),
    ],
)
def test_the_old_name_of_require_sandbox_is_accepted_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], level: str
) -> None:
    monkeypatch.syspath_prepend(INGEST.parent)
    parse_arguments = importlib.import_module("ingest").parse_arguments
    monkeypatch.setattr(sys, "argv", ["ingest.py", "data", "submission.zip", "output", *words])
    assert parse_arguments().require_sandbox == level
    monkeypatch.setattr(sys, "argv", ["ingest.py", *words, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        parse_arguments()
    told = capsys.readouterr()
    assert "--require-sandbox" in told.out
    assert "cage" not in told.out
    assert ("is now called --require-sandbox" in told.err) is any("cage" in word for word in words)


@pytest.mark.long
def test_a_subset_of_another_split_holds_all_of_its_domains(data: Path, tmp_path: Path) -> None:
    options = ["--split", "val", "--subset", 3, "--limit-ratio", 0]
    done = run_ingest(
        tmp_path, data, copy_submission("honest_constant", tmp_path), tmp_path / "output", *options
    )
    assert done.returncode == 0, done.stderr
    ids = (tmp_path / "output/ids.txt").read_text().split()
    domains = {patch.id: patch.domain for patch in index_patches(data, "val")}
    assert len({domains[id] for id in ids}) == len(ids) == 3


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        (signal.SIGTERM, 143),
        (signal.SIGKILL, -9),
    ],
)
def test_an_interrupted_run_leaves_nothing(data: Path, tmp_path: Path, signum: int, code: int) -> None:
    command = ingest_command(
        data, copy_submission("hangs_in_predict", tmp_path), tmp_path / "output", "--limit-ratio", 0
    )
    run = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        # A shell that starts the tests in the background lets them ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stderr
    while not run.stderr.read(1).startswith(b"s"):  # the progress bar of the submission: all children are up
        assert run.poll() is None
    run.send_signal(signum)
    run.communicate(timeout=60)
    assert run.returncode == code
    assert not (tmp_path / "output").exists()
    if signum == signal.SIGKILL:  # nobody can remove the files then, but the child dies with its parent
        deadline = time.monotonic() + 30
        while any(name.isdecimal() for name in leftovers(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [name for name in leftovers(tmp_path) if name.isdecimal()]
    else:
        assert not leftovers(tmp_path)


def test_a_program_as_the_platform_mounts_it_needs_nothing_else_and_signs(data: Path, tmp_path: Path) -> None:
    program, key = tmp_path / "program", b"0123456789abcdef\n"
    copy_folder(KIT / "ingestion_program", program)
    copy_folder(KIT / "scoring_program/flair_scoring", program / "flair_scoring")
    (program / "signing.key").write_bytes(key)
    (tmp_path / "output").mkdir()
    (tmp_path / "output/PRED_077413.tif").write_text("copied from the submission by the platform")
    arguments = [
        data,
        copy_submission("honest_constant", tmp_path),
        tmp_path / "output",
        "--platform",
        "--limit-ratio",
        0,
    ]
    done = run_traced(tmp_path, program, *arguments)
    assert done.returncode == 0, done.stderr
    assert not (program / "signing.key").exists()
    assert len(verify_manifest(tmp_path / "output", key)["files"]) == 8
    assert not (tmp_path / "output/PRED_077413.tif").exists()


def test_an_uninstalled_clone_runs_and_says_how_to_go_on_without_a_reference(
    data: Path, tmp_path: Path
) -> None:
    for name in ("ingestion_program", "scoring_program"):
        copy_folder(KIT / name, tmp_path / "clone" / name)
    honest = copy_submission("honest_constant", tmp_path)
    program = tmp_path / "clone" / "ingestion_program"
    done = run_traced(tmp_path, program, data, honest, tmp_path / "output", "--platform")
    assert done.returncode == 2
    assert "--reference" in done.stderr
    assert "--limit-ratio 0" in done.stderr
    assert "will not be signed" in done.stderr


def run_traced(folder: Path, program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `program`/ingest.py; asserts that all modules of the kit that it loaded come from beside it."""
    tracer = folder / "tracer.py"
    tracer.write_text(
        "import atexit, json, runpy, sys\n"
        "def tell():\n"
        "    names = [name for name in sys.modules if name.startswith('flair_')]\n"
        "    print(json.dumps([sys.modules[name].__file__ for name in names]), file=open('modules', 'w'))\n"
        "atexit.register(tell)\n"
        "sys.path[0] = sys.argv[1].rpartition('/')[0]\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)  # it may lead to another copy of the kit
        done = run_ingest(folder, program / "ingest.py", *arguments, program=tracer)
    files = json.loads((folder / "modules").read_text())
    assert len(files) > 10
    assert all(file.startswith(str(program.parent)) for file in files)
    return done


def test_a_worker_without_its_data_is_told_the_setting(tmp_path: Path) -> None:
    sys.path.append(str(INGEST.parent))
    import ingest

    with pytest.raises(UsageError) as caught:
        ingest.require_worker_data(Path("/app/data/flair2/final"))
    assert "/app/data/flair2/final: no such folder on this worker" in str(caught.value)
    assert "worker_data/flair2/final to HOST_DIRECTORY/data/flair2/final" in str(caught.value)
    ingest.require_worker_data(tmp_path / "absent")  # travels in the bundle: the index tells
