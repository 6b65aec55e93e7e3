"""Draw one patch: aerial image, false colours, height, labels, a prediction, errors, the Sentinel-2 series.

Labels, series and metadata may be absent from DATA; the picture then leaves them out.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from flair_baseline.plots import draw_png, prepare_plot
from flair_ingestion.dataset import METADATA, SPLITS, Patch, find_roots, require_data, scan_split
from flair_scoring.base.errors import DataError, UsageError, list_problems, run_command
from flair_scoring.base.files import require_folder, write_file
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.pairing import PREDICTION, find_patches
from flair_scoring.raster import RasterError, read_raster


def find_patch(data: Path, id: str) -> Patch:
    """The patch with that id, of any split, with what DATA has of it.

    UsageError or DataError says why there is no such patch.
    """
    require_data(data)
    problems: list[str] = []
    metadata = any((data / name).is_file() for name in METADATA)
    for split in SPLITS:
        if find_roots(data, "aerial", split):
            labels, series = (bool(find_roots(data, kind, split)) for kind in ("labels", "sen"))
            patches, found = scan_split(data, split, labels, series, metadata)
            problems += found
            for patch in patches:
                if patch.id == id:
                    return patch
    if problems:
        title = f"{data}: no complete patch {id}; the data set is incomplete or damaged"
        raise DataError(list_problems(title, sorted(problems, key=lambda problem: id not in problem)))
    raise UsageError(f"{data}: no patch {id} in any split; check_dataset.py DATA says what is there")


def find_prediction(folder: Path, id: str) -> Path:
    """The path of PRED_<id>.tif, anywhere below the folder; UsageError if there is none, or several."""
    require_folder(folder, f"PRED_{id}.tif")
    paths = find_patches(folder, [id], PREDICTION)
    if id not in paths:
        raise UsageError(f"{folder}: no PRED_{id}.tif there; name a folder with predictions of this patch")
    return Path(paths[id])


def main() -> None:
    """Find the patch and its prediction, draw them, and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python starting_kit/show.py 077413 --data DATA --predictions pred -o runs/patch.png",
    )
    parser.add_argument("patch", metavar="PATCH", help="6-digit id, or a name such as IMG_077413.tif")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="a folder with PRED_<id>.tif")
    parser.add_argument(
        "--superpatch",
        type=int,
        default=40,
        metavar="S",
        help="side of the Sentinel-2 window in pixels of 10 m (default: %(default)s)",
    )
    parser.add_argument(
        "--dates", type=int, default=30, metavar="N", help="draw at most N dates (default: %(default)s)"
    )
    parser.add_argument(
        "--width",
        type=int,
        default=1700,
        metavar="N",
        help="width of the picture in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--colours", type=int, metavar="N", help="reduce the picture to N colours, for a smaller file"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    match = re.fullmatch(r"(?:IMG_|MSK_)?(\d{6})(?:\.tif)?", Path(args.patch).name, re.ASCII)
    if not match:
        parser.error(f"{args.patch}: expected a 6-digit id")
    if args.superpatch % 2 or not 10 <= args.superpatch <= 110:
        parser.error(f"--superpatch {args.superpatch}: expected an even number from 10 to 110")
    if args.dates < 1:
        parser.error(f"--dates {args.dates}: expected 1 or more")
    if args.output.suffix.lower() != ".png":
        parser.error(f"--output {args.output}: expected a name that ends in .png")
    if not 500 <= args.width <= 10_000:
        parser.error(f"--width {args.width}: expected 500 to 10000")
    if args.colours is not None and not 32 <= args.colours <= 256:
        parser.error(f"--colours {args.colours}: expected 32 to 256")
    patch = find_patch(args.data, match[1])
    prediction = None
    if args.predictions:
        path = find_prediction(args.predictions, patch.id)
        try:
            prediction = read_raster(path)
        except RasterError as error:
            raise UsageError(f"{path}: {error}") from None
        if prediction.max() > FLAIR_12.other:
            raise UsageError(f"{path}: value {prediction.max()}; expected indices 0 to {FLAIR_12.other}")
    plot = prepare_plot(patch, args.superpatch, prediction)
    write_file(args.output, draw_png(plot, args.dates, args.width, args.colours))
    if plot.series is None:
        absent = "no unpacked Sentinel-2 archive of the patch's split"
        print(f"note: the picture has no series: {args.data} has {absent}", file=sys.stderr)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
