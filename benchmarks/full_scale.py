"""FLAIR #2's size on one machine: index of all patches, ingestion and scoring of the whole test set.

Data: the toy set `large`. All areas of a domain share the files of one drawn area, and the training split
of 61,712 patches consists of further names for a few files. So the page cache holds everything, and nothing
waits for the disk. The submission does nothing, so what is measured is the kit's own work: once as on the
CPU, where ingestion reads between the requests, and once as on CUDA, where other processes read ahead. With
--device cuda only one thing is measured: the whole test set through the reference submission on the GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common.record import KIT, append_record
from flair_ingestion.dataset import SPLITS, VALIDATION_DOMAINS, Patch, index_patches, labels_folder
from flair_ingestion.reference import NULL_SUBMISSION
from flair_ingestion.shared_memory import read_request
from flair_scoring.base.errors import run_command
from flair_toy.areas import SIZES
from flair_toy.dataset import make_toy_dataset

TRAIN_PATCHES, TRAIN_AREAS, TRAIN_DOMAINS = 61_712, 757, 40  # train and val together
BATCH, WINDOW = 10, 40  # of the null submission's requests
EARLY = 1000  # patches after which memory should not grow any more
INGEST = KIT / "ingestion_program" / "ingest.py"
# Ingestion as on CUDA, with a submission that needs no GPU
AS_ON_CUDA = """
import runpy, sys
from unittest.mock import patch
sys.path[:0] = sys.argv.pop(1).split(":")
from flair_ingestion import measurement
from ingestion_parts.reading import read_beside
with patch.object(measurement, "work_beside", read_beside):
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
PROGRESS = re.compile(rb"submission: [^\r\n]*?(\d+)/\d+")


def make_data(data: Path, areas: int) -> np.ndarray:
    """Draw `large` with so many test areas and the whole training split.

    Returns the number of test pixels of each FLAIR value, int64 (20,).
    """
    pixels = make_test_split(data, areas)
    link_training_split(data)
    return pixels


def make_test_split(data: Path, areas: int) -> np.ndarray:
    """Draw `large` with so many test areas; return its test pixels of each FLAIR value, int64 (20,)."""
    large = SIZES["large"]
    domains = min(areas, large.splits["test"].domains)
    test = dataclasses.replace(
        large.splits["test"], domains=domains, areas=areas // domains, larger=areas % domains
    )
    SIZES["full_scale"] = dataclasses.replace(large, splits={**large.splits, "test": test})
    return make_toy_dataset(data, "full_scale", 2022)["test"]


def link_training_split(data: Path) -> None:
    """Replace the toy's training domains by 40 domains with 61,712 patches, links to the toy's files."""
    files: dict[str, list[Path]] = {}
    for kind in ("aerial", "labels", "sen"):
        root = data / f"flair_2_toy_{kind}_train"
        root.rename(data / kind)
        files[kind] = sorted(path for path in (data / kind).rglob("*") if path.is_file())
    series = files["sen"][:3]  # of one area: data, masks, products
    sidecars = {
        name: data / f"{name}.json" for name in ("flair-2_centroids_sp_to_patch", "flair_aerial_metadata")
    }
    centroids, metadata = (json.loads(path.read_text()) for path in sidecars.values())
    centroid, facts = centroids["IMG_000001.tif"], metadata["IMG_000001"]
    made_up = [f"D{number}_2019" for number in range(100, 100 + TRAIN_DOMAINS - len(VALIDATION_DOMAINS))]
    names = [*sorted(VALIDATION_DOMAINS), *made_up]
    bounds = np.linspace(0, TRAIN_PATCHES, TRAIN_AREAS + 1).astype(int).tolist()
    for number in range(TRAIN_AREAS):
        domain, area = names[number % TRAIN_DOMAINS], f"Z{number // TRAIN_DOMAINS + 1}_UF"
        folders = {
            kind: data / f"flair_2_toy_{kind}_train" / domain / area / content
            for kind, content in (("aerial", "img"), ("labels", "msk"), ("sen", "sen"))
        }
        for folder in folders.values():
            folder.mkdir(parents=True)
        for path in series:
            os.link(path, folders["sen"] / f"SEN2_sp_{domain}-{area}_{path.name.rpartition('_')[2]}")
        for patch in range(bounds[number] + 1, bounds[number + 1] + 1):
            index = patch % len(files["aerial"])
            os.link(files["aerial"][index], folders["aerial"] / f"IMG_{patch:06d}.tif")
            os.link(files["labels"][index], folders["labels"] / f"MSK_{patch:06d}.tif")
            centroids[f"IMG_{patch:06d}.tif"], metadata[f"IMG_{patch:06d}"] = centroid, facts
    for path, content in zip(sidecars.values(), (centroids, metadata), strict=True):
        path.write_text(json.dumps(content))


def time_index(data: Path, runs: int = 3) -> tuple[list[str], list[Patch]]:
    """Time the index of all three splits with labels, with a warm cache; also return the test patches."""
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        splits = {split: index_patches(data, split, labels=True) for split in SPLITS}
        seconds.append(time.perf_counter() - start)
    count = sum(map(len, splits.values()))
    if len(splits["train"]) + len(splits["val"]) != TRAIN_PATCHES:
        sys.exit("error: the training split is not the one that was made")
    figure = f"index of {count} patches {statistics.median(seconds[1:]):.2f} s (median of {runs}, warm)"
    return [figure], splits["test"]


def time_reading(patches: list[Patch]) -> float:
    """Seconds that reading all requests takes, one after the other, as ingestion does on the CPU."""
    start = time.perf_counter()
    for first in range(0, len(patches), BATCH):
        read_request(patches[first : first + BATCH], WINDOW)
    return time.perf_counter() - start


def memory(pid: int) -> np.ndarray:
    """Resident memory of a process in MB: all of it, and without mapped files."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(kib) * 1024 / 1e6 for name, kib in re.findall(r"(VmRSS|RssAnon):\s*(\d+) kB", status)}
    return np.array([found["VmRSS"], found["RssAnon"]])


def processor_seconds() -> float:
    """Seconds that all programs that this process has started, and that have ended, kept a processor busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ingest(data: Path, output: Path, as_on_cuda: bool) -> tuple[float, dict[int, np.ndarray]]:
    """Seconds of ingest.py from start to exit, and its memory at each number of patches that it shows."""
    command = [sys.executable, "-B"]
    if as_on_cuda:
        folders = [KIT / "benchmarks", INGEST.parent, KIT / "scoring_program"]
        command += ["-c", AS_ON_CUDA, ":".join(map(str, folders))]
    command += [str(INGEST), str(data), str(NULL_SUBMISSION), str(output)]
    command += ["--limit-ratio", "0", "--device", "cpu"]
    memories: dict[int, np.ndarray] = {}
    said = b""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        while piece := os.read(process.stderr.fileno(), 1 << 16):
            said += piece
            if shown := PROGRESS.findall(piece):
                memories[int(shown[-1])] = memory(process.pid)
    if process.returncode:
        sys.exit(said.decode(errors="replace"))
    return time.perf_counter() - start, memories


def ingest_beside_reading(data: Path, output: Path, patches: list[Patch]) -> list[str]:
    """Compare reading alone with ingestion of the same patches; its memory early and at the end."""
    time_reading(patches[:EARLY])  # warms the cache
    reading = time_reading(patches)
    figures, walls = [], []
    for as_on_cuda in (True, False):  # score.py reads the output of the last one
        wall, told = ingest_and_check(data, output, patches, as_on_cuda)
        walls.append(wall)
        figures += [
            f"ingestion of {len(patches)} patches as on {'CUDA' if as_on_cuda else 'the CPU'} {wall:.1f} s "
            f"from start to exit, reading alone {reading:.1f} s with one worker: {wall / reading:.2f}x",
            *told,
        ]
    return [*figures, f"as on the CPU it takes {walls[1] / walls[0]:.2f}x as long as on CUDA"]


def ingest_and_check(
    data: Path, output: Path, patches: list[Patch], as_on_cuda: bool
) -> tuple[float, list[str]]:
    """Seconds of ingestion, and what it used meanwhile; exits if a prediction is missing."""
    before = processor_seconds()
    wall, memories = ingest(data, output, as_on_cuda)
    busy = processor_seconds() - before
    timing = json.loads((output / "timing.json").read_text())
    ids = (output / "ids.txt").read_text().split()
    written = {path.name for path in (output / "predictions").iterdir()}
    if ids != [patch.id for patch in patches] or written != {f"PRED_{id}.tif" for id in ids}:
        sys.exit("error: the predictions are not those of the patches")
    if (timing["patches"], max(memories)) != (len(patches), len(patches)):
        sys.exit(f"error: {timing['patches']} patches in timing.json, progress up to {max(memories)}")
    early = next(count for count in sorted(memories) if count >= min(EARLY, len(patches) // 2))
    first, last = memories[early], memories[len(patches)]
    return wall, [
        f"its processes kept {busy / wall:.2f} of {os.cpu_count()} processors busy",
        f"of it under the clock {timing['inference_seconds']:.1f} s",
        f"ingest.py holds {first[0]:.0f} MB at patch {early} and {last[0]:.0f} MB at the last "
        f"({last[0] - first[0]:+.0f}; without mapped files {first[1]:.0f} and {last[1]:.0f}, "
        f"{last[1] - first[1]:+.0f})",
    ]


def ingest_on_gpu(data: Path, output: Path) -> list[str]:
    """Time the reference submission on the GPU, on all test patches and without a limit."""
    command = [sys.executable, "-B", str(INGEST), str(data)]
    command += [str(KIT / "reference_submission"), str(output), "--limit-ratio", "0", "--device", "cuda"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    timing = json.loads((output / "timing.json").read_text())
    patches, seconds = timing["patches"], timing["inference_seconds"]
    return [
        f"{timing['device']['name']}: the reference's inference of {patches} patches {seconds:.1f} s, "
        f"{patches / seconds:.0f} patches/s, from start to exit {wall:.1f} s"
    ]


def score(data: Path, output: Path, pixels: np.ndarray) -> list[str]:
    """Time score.py on what ingestion wrote.

    Every prediction is building, so the overall accuracy must be the share of building in the labels.
    """
    command = [sys.executable, str(KIT / "scoring_program" / "score.py"), str(output)]
    command += [str(labels_folder(data, "test")), "--output", str(output / "score")]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    accuracy = json.loads((output / "score" / "scores.json").read_text())["overall_accuracy"]
    figures = (
        f"overall accuracy {accuracy:.6f}, building's share of the labels {pixels[1] / pixels.sum():.6f}"
    )
    return [f"score.py {seconds:.1f} s", figures]


def main() -> None:
    """Make the data, measure, append to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--areas", type=int, default=642, help="test areas of 25 patches, for a trial (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    args = parser.parse_args()
    command = " ".join(["python benchmarks/full_scale.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        data, output = Path(folder, "data"), Path(folder, "output")
        start = time.perf_counter()
        if args.device == "cuda":
            make_test_split(data, args.areas)
            append_record(command, ingest_on_gpu(data, output), ("torch",))
            return
        pixels = make_data(data, args.areas)
        figures = [f"data made in {time.perf_counter() - start:.0f} s"]
        found, patches = time_index(data)
        figures += found
        figures += ingest_beside_reading(data, output, patches)
        figures += score(data, output, pixels)
    append_record(command, figures, ("numpy", "imagecodecs"))


if __name__ == "__main__":
    run_command(main)
