"""Make the folder of this version: small files of every kind that the kit writes, for later versions to read.

    python tests/earlier_versions/make.py

writes tests/earlier_versions/<kit version>/. All commands run in a temporary folder with relative paths, so
that no artefact names a place of the machine. A folder that is there already is left as it is.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import rasterio
import yaml

from flair_scoring.base.provenance import KIT_VERSION

KIT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).resolve().parent / KIT_VERSION
PATCHES = {"train": 1, "test": 2}  # per area; a bundle needs two of each test domain
DATES = 4  # of a series
PIXELS = {"aerial": 64, "sen": 52}  # side of a block of one value; blocks compress well
EPOCHS, INTERRUPTED_AFTER = 3, 2

CONFIG = {
    "encoder": "tu-regnetx_002",  # 8,000 parameters with one stage and metadata
    "encoder_weights": None,
    "decoder_channels": [2],
    "aerial_pooling": 4,
    "satellite": False,
    "metadata": True,
    "augmentation": True,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "schedule": "one_cycle",
    "epochs": EPOCHS,
    "batch_size": 1,
    "effective_batch_size": 1,
    "workers": 0,
    "device": "cpu",
}
# The U-TAE alone has 2.3 million parameters: too many for weights that are kept
UTT = {
    **CONFIG,
    "satellite": True,
    "superpatch_size": 16,
    "cloud_filter": True,
    "monthly_average": True,
    "epochs": 1,
}
# The programs, and a starting kit of little more: the tests alone would take 0.8 MB
PROGRAMS = ("bundle.yaml", "bundle/", "scoring_program/", "ingestion_program/", "reference_submission/")
IN_THE_BUNDLE = (*PROGRAMS, "requirements.lock", "pyproject.toml", "README.md", "LICENSE")


def run(script: Path | str, *arguments: object, cwd: Path, kit: Path = KIT) -> None:
    """`python SCRIPT ARGUMENTS` in `cwd` with the packages of `kit`; CalledProcessError when it fails."""
    subprocess.run(python(script, *arguments, kit=kit), cwd=cwd, env=environment(kit), check=True)


def python(script: Path | str, *arguments: object, kit: Path = KIT) -> list[str]:
    return [sys.executable, "-B", str(kit / script), *map(str, arguments)]


def environment(kit: Path) -> dict[str, str]:
    folders = ("scoring_program", "ingestion_program", "starting_kit")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(kit / name) for name in folders)}


def coarsen(pixels: np.ndarray, side: int) -> np.ndarray:
    """The same shape, every block of the last two axes with the value of its first pixel."""
    rows, columns = (np.arange(length) // side * side for length in pixels.shape[-2:])
    return np.ascontiguousarray(pixels[..., rows[:, None], columns])


def shrink_dataset(toy: Path, data: Path) -> None:
    """A part of the toy data set: few patches and dates, in blocks of one value."""
    kept = set()
    for folder in sorted(toy.glob("flair_2_toy_aerial_*/*/*/img")):
        part = "test" if "_test" in folder.parts[-4] else "train"
        for image in sorted(folder.iterdir())[: PATCHES[part]]:
            number = image.stem.removeprefix("IMG_")
            labels = toy / f"flair_2_toy_labels_{part}" / folder.parts[-3] / folder.parts[-2] / "msk"
            kept.add(number)
            for path in (image, labels / f"MSK_{number}.tif"):
                shrink_raster(path, data / path.relative_to(toy))
    for path in sorted(toy.glob("flair_2_toy_sen_*/*/*/sen/*_data.npy")):
        shrink_series(path, data / path.relative_to(toy))
    for path in toy.glob("flair*.json"):
        entries = json.loads(path.read_text())
        few = {key: value for key, value in entries.items() if key[4:10] in kept}
        (data / path.name).write_text(json.dumps(few, indent=1) + "\n")


def shrink_raster(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path) as source:
        profile = source.profile | {"compress": "zstd", "blockysize": source.height}
        with rasterio.open(target, "w", **profile) as file:
            file.write(coarsen(source.read(), PIXELS["aerial"]))


def shrink_series(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    masks, products = (str(path).replace("_data.npy", end) for end in ("_masks.npy", "_products.txt"))
    lines = Path(products).read_text().splitlines()
    chosen = np.linspace(0, len(lines) - 1, DATES).round().astype(int)
    for source in (str(path), masks):
        np.save(target.with_name(Path(source).name), coarsen(np.load(source)[chosen], PIXELS["sen"]))
    target.with_name(Path(products).name).write_text("".join(f"{lines[date]}\n" for date in chosen))


def pack(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # its date is 1980-01-01
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def unpack(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def train_until(epoch: int, command: list[str], run_folder: Path, cwd: Path) -> None:
    """Start training and kill it when so many epochs are on the disk."""
    process = subprocess.Popen(command, cwd=cwd, env=environment(KIT))
    while process.poll() is None and not is_saved(epoch, run_folder):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if count_epochs(run_folder) != epoch:
        raise SystemExit(f"{run_folder}: {count_epochs(run_folder)} epochs instead of {epoch}; try again")
    (run_folder / ".lock").unlink(missing_ok=True)


def is_saved(epoch: int, run_folder: Path) -> bool:
    """Whether last.pt, which is written after the log, has that epoch."""
    state, table = run_folder / "last.pt", run_folder / "log.csv"
    written = count_epochs(run_folder) >= epoch and state.is_file()
    return written and state.stat().st_mtime_ns > table.stat().st_mtime_ns


def count_epochs(run_folder: Path) -> int:
    table = run_folder / "log.csv"
    return len(list(csv.DictReader(table.read_text().splitlines()))) if table.is_file() else 0


def train(here: Path) -> None:
    """run/, ended after two of three epochs; resumed_log.csv, its log at the end; utt_header.json."""
    (here / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (here / "utt.yaml").write_text(yaml.safe_dump(UTT, sort_keys=False))
    command = ("starting_kit/train.py", "--data", "data", "--config", "config.yaml", "--output")
    train_until(INTERRUPTED_AFTER, python(*command, "run"), here / "run", here)
    shutil.copytree(here / "run", here / "resumed")
    run(*command, "resumed", "--resume", cwd=here)
    shutil.copy(here / "resumed/log.csv", here / "resumed_log.csv")
    run("starting_kit/train.py", "--data", "data", "--config", "utt.yaml", "--output", "utt", cwd=here)
    checkpoint = (here / "utt/model.safetensors").read_bytes()
    header = json.loads(checkpoint[8 : 8 + int.from_bytes(checkpoint[:8], "little")])
    (here / "utt_header.json").write_text(json.dumps(header) + "\n")


def evaluate(here: Path) -> None:
    """submission.zip, utt.zip, result/ and utt_labels/."""
    run("starting_kit/package.py", "run", "-o", "submission.zip", "--batch-size", 2, cwd=here)
    run("starting_kit/package.py", "utt.yaml", "--untrained", "-o", "utt.zip", "--batch-size", 2, cwd=here)
    at_home = ("--data", "data", "--output", "results", "--device", "cpu")
    run("starting_kit/evaluate.py", "submission.zip", *at_home, cwd=here)
    (here / "results/submission").rename(here / "result")
    quick = ("--device", "cpu", "--limit-ratio", 0, "--subset", 3)
    run("ingestion_program/ingest.py", "data", "utt.zip", "utt_result", *quick, cwd=here)
    (here / "utt_result/predictions").rename(here / "utt_labels")


def evaluate_on_platform(here: Path) -> None:
    """bundle.zip; platform/res, what its ingestion program wrote; platform/scored, what scoring wrote."""
    clone = here / "clone"
    git = ["git", "-C", str(clone)]
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(KIT), str(clone)], check=True)
    subprocess.run(
        [*git, "sparse-checkout", "set", "--no-cone", *(f"/{name}" for name in IN_THE_BUNDLE)], check=True
    )
    subprocess.run([*git, "checkout", "--quiet"], check=True)
    built = ("--data", here / "data", "--untrained-reference", "-o", here / "bundle.zip")
    run("bundle/build.py", *built, cwd=here, kit=clone)
    bundle = unpack(here / "bundle.zip", here / "unpacked")
    job = here / "job"
    for name in ("ingestion_program", "scoring_program"):
        unpack(bundle / f"{name}.zip", job / name)
    unpack(bundle / "input_data_final.zip", job / "input_data")
    unpack(bundle / "reference_data_final.zip", job / "ref")
    unpack(here / "submission.zip", job / "submission")
    # In seconds: against a reference, which takes minutes, a busy machine would give no verdict
    options = ("--platform", "--device", "cpu", "--limit-ratio", 0, "--limit-seconds", 600)
    run("ingestion_program/ingest.py", "input_data", "submission", "res", *options, cwd=job, kit=job)
    record = {"exitCode": None, "elapsedTime": None, "ingestionExitCode": 0, "ingestionElapsedTime": 60.0}
    (job / "res/metadata").write_text(yaml.safe_dump(record))  # as the platform's worker leaves it
    run("scoring_program/score.py", "res", "ref", "--output", "scored", "--platform", cwd=job, kit=job)
    for path in (job / "res/predictions").iterdir():
        assert path.read_bytes() == (here / "result/predictions" / path.name).read_bytes(), path
    for name in ("res", "scored"):
        shutil.copytree(job / name, here / "platform" / name)


def main() -> None:
    """Make everything, then put it into the folder of this version."""
    if TARGET.exists():
        raise SystemExit(f"{TARGET}: is there already; a version's artefacts are made once")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run("starting_kit/make_toy_dataset.py", "toy", "--size", "tiny", cwd=here)
        shrink_dataset(here / "toy", here / "data")
        pack(here / "data", here / "data.zip")
        train(here)
        evaluate(here)
        evaluate_on_platform(here)
        TARGET.mkdir()
        files = ("bundle.zip", "config.yaml", "data.zip", "resumed_log.csv", "submission.zip", "utt.zip")
        for name in (*files, "utt_header.json"):
            shutil.copy(here / name, TARGET / name)
        unneeded = shutil.ignore_patterns("curves.png", ".lock", ".*.tmp")
        for name in ("platform", "run", "utt_labels"):
            shutil.copytree(here / name, TARGET / name, ignore=unneeded)
        # The same submission gives the same predictions, which lie in platform/res already
        shutil.copytree(here / "result", TARGET / "result", ignore=shutil.ignore_patterns("predictions"))
    sizes = [path.stat().st_size for path in TARGET.rglob("*") if path.is_file()]
    print(f"{TARGET}: {len(sizes)} files, {sum(sizes) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
