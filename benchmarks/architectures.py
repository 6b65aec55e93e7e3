"""Every decoder after small encoders of several families: which pairs work, and how fast they are.

Each pair takes one training step with U-T&T's satellite branch, is packed, and predicts a few toy patches in
the ingestion program, side by side with the reference submission: the platform limits the ratio of the two
times. The ingestion's labels are compared with those of the network that was trained. A pair that the kit
refuses is listed with its refusal. All networks have the widths of the demo, see full patches of 512 pixels
unless --pooling says otherwise, and begin without pretrained weights.

With --folder finished pairs are kept there, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from tqdm import tqdm

from common.record import append_record
from flair_baseline.checkpoint import save_model
from flair_baseline.config import Config, Decoder, load_config
from flair_baseline.encoders import check_network
from flair_baseline.machines.machine import keep_freed_memory
from flair_baseline.model.utt import choose_labels
from flair_baseline.packaging import pack_checkpoint, write_submission
from flair_baseline.samples.loader import make_loader
from flair_baseline.training.learner import make_learner
from flair_baseline.training.loop import take_step
from flair_baseline.training.losses import class_weights
from flair_ingestion.clock import clock
from flair_ingestion.dataset import Patch, index_patches
from flair_ingestion.devices.device import choose_device, exclusive_use
from flair_ingestion.limits import read_limits
from flair_ingestion.measurement import Attempt, Conditions, measure, series_lengths
from flair_ingestion.reference import open_reference
from flair_ingestion.submission import Submission, open_submission
from flair_scoring.base.errors import UsageError, run_command
from flair_toy.dataset import make_toy_dataset

ENCODERS = (
    *("resnet18", "tu-mobilenetv3_small_100", "mit_b0", "tu-convnext_atto", "tu-maxvit_rmlp_pico_rw_256"),
    *("tu-swin_tiny_patch4_window7_224", "tu-efficientvit_b0", "tu-vit_tiny_patch16_224"),
)
SEED, BATCH = 2022, 2  # patches of the training step
SLOW = 30  # seconds that a pair should take at most, on two cores
PACKAGES = ("torch", "segmentation-models-pytorch", "timm")


@dataclass(frozen=True)
class Pair:
    """What was found of a pair; without a `refusal` all other fields are known."""

    encoder: str
    decoder: str
    refusal: str = ""
    parameters: int = 0
    ratio: float = 0.0  # of the submission's time to the reference's
    equal: float = 0.0  # share of labels that are the trained network's
    seconds: float = 0.0  # for all of it, the reference's share included


def main() -> None:
    """Try all pairs, print the table, append it to the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    decoders = get_args(Decoder)
    parser.add_argument("--decoders", nargs="+", choices=decoders, default=decoders, metavar="D")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, metavar="E", help="default: all of these")
    parser.add_argument("--pooling", type=int, default=1, metavar="P", help="aerial_pooling (default: 1)")
    parser.add_argument("--patches", type=int, default=3, help="of the ingestion (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep the toy data and finished pairs there, to go on")
    args = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        if not (folder / "toy").exists():
            make_toy_dataset(folder / "toy", "tiny", SEED)
        pairs = [(encoder, decoder) for encoder in args.encoders for decoder in args.decoders]
        found = []
        progress = tqdm(pairs, unit="pair")
        for encoder, decoder in progress:
            progress.set_postfix_str(f"{encoder} {decoder}")
            found.append(try_or_keep(encoder, decoder, args.pooling, args.patches, folder))
    figures = [describe_run(found, args.pooling, args.patches)]
    figures += [describe_encoder([one for one in found if one.encoder == name]) for name in args.encoders]
    append_record(describe_command(args), figures, PACKAGES)


def describe_command(args: argparse.Namespace) -> str:
    """The command that repeats the measurement, without the folder of this machine."""
    words = ["python benchmarks/architectures.py"]
    for name, default in (("decoders", get_args(Decoder)), ("encoders", ENCODERS)):
        if tuple(getattr(args, name)) != default:
            words += [f"--{name}", *getattr(args, name)]
    return " ".join([*words, f"--pooling {args.pooling} --patches {args.patches}"])


def try_or_keep(encoder: str, decoder: str, pooling: int, patches: int, folder: Path) -> Pair:
    """The result of a pair: that of an earlier run in the folder, if there is one."""
    kept = folder / f"{encoder}-{decoder}-{pooling}-{patches}.json".replace("/", "_")
    if kept.is_file():
        return Pair(**json.loads(kept.read_text()))
    pair = try_pair(encoder, decoder, pooling, patches, folder / "toy")
    kept.write_text(json.dumps(asdict(pair)))
    return pair


def try_pair(encoder: str, decoder: str, pooling: int, patches: int, data: Path) -> Pair:
    """Train a step, pack, ingest, compare."""
    begin = time.monotonic()
    overrides = (f"encoder={encoder}", f"decoder={decoder}", f"aerial_pooling={pooling}", "device=cpu")
    sizes = (f"batch_size={BATCH}", f"effective_batch_size={BATCH}", "augmentation=false")
    config = load_config("demo", [*overrides, *sizes])
    try:
        check_network(config, BATCH)
    except UsageError as refusal:
        return Pair(encoder, decoder, str(refusal))
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary)
        learner = make_learner(config, torch.device("cpu"), steps_per_epoch=1)
        batch = next(iter(make_loader(index_patches(data, "train", labels=True)[:BATCH], config)))
        learner.model.train()
        take_step(learner, [batch], class_weights(config))
        save_model(run, learner.model, config, 1, {})
        write_submission(run / "submission", pack_checkpoint(run, batch_size=1))
        chosen = index_patches(data, "val", labels=True)[:patches]
        labels, ratio = ingest(open_submission(run / "submission", read_limits().submission_mib), chosen)
    expected = predict(learner.model.eval(), chosen, config)
    return Pair(
        encoder,
        decoder,
        parameters=sum(parameter.numel() for parameter in learner.model.parameters()),
        ratio=ratio,
        equal=float((labels == expected).mean()),
        seconds=time.monotonic() - begin,
    )


@torch.inference_mode()
def predict(network: torch.nn.Module, patches: Sequence[Patch], config: Config) -> np.ndarray:
    """The labels of the network that the validation would see, uint8 (patches, 512, 512)."""
    logits = [network(*batch.inputs)[0] for batch in make_loader(patches, config)]
    return choose_labels(torch.cat(logits), 512).numpy()


def ingest(submission: Submission, patches: Sequence[Patch]) -> tuple[np.ndarray, float]:
    """The labels of a submission under the clock, and the ratio of its time to the reference's."""
    device, limits = choose_device("cpu"), read_limits().with_options(0, None)
    reference, labels = open_reference(None, limits.submission_mib), []
    ours, unit = Attempt(), Attempt()
    with exclusive_use(device):
        conditions = Conditions(
            device, limits, clock() + limits.wall_seconds, "none", series_lengths(patches)
        )
        measure(reference, patches, conditions, unit, title="reference")
        measure(submission, patches, conditions, ours, deliver=lambda _, found: labels.append(found.copy()))
    # medians of requests of one patch each: a single slow request does not count
    return np.concatenate(labels), statistics.median(ours.latencies) / statistics.median(unit.latencies)


def describe_run(found: Sequence[Pair], pooling: int, patches: int) -> str:
    """What was measured, and whether anything is worth a warning."""
    worked = [pair for pair in found if not pair.refusal]
    sentence = (
        f"{len(worked)} of {len(found)} pairs work, aerial pooling {pooling}, {patches} toy patches, "
        "parameters and time as a multiple of the reference submission's"
    )
    if worked:
        slowest = max(worked, key=lambda pair: pair.seconds)
        slow = sum(pair.seconds > SLOW for pair in worked)
        sentence += (
            f"; at worst {min(pair.equal for pair in worked):.5f} of the labels are the trained network's; "
            f"{slow} pairs took more than {SLOW} s, the slowest ({slowest.encoder} {slowest.decoder}) "
            f"{slowest.seconds:.0f} s"
        )
    return sentence


def describe_encoder(pairs: Sequence[Pair]) -> str:
    """All decoders of an encoder in one sentence, the refused ones together by their reason."""
    cells = [
        f"{pair.decoder} {pair.parameters / 1e6:.2f} M {pair.ratio:.2f}x"
        for pair in pairs
        if not pair.refusal
    ]
    refused: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.refusal:
            refused.setdefault(pair.refusal.partition(": ")[2].partition("; ")[0], []).append(pair.decoder)
    cells += [f"refused {' '.join(decoders)} ({reason})" for reason, decoders in refused.items()]
    return f"{pairs[0].encoder}: {', '.join(cells)}"


if __name__ == "__main__":
    run_command(main)
