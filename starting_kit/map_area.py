"""Put the predictions of an area, its labels or its aerial images together to one map.

MAP.tif is a GeoTIFF in Lambert-93 (EPSG:2154) that QGIS and GDAL open at its place. A map of predictions or
labels holds class indices 0 to 12 in FLAIR's colours, and 255 where no patch lies. A map of images holds red,
green, blue and transparency. MAP.png beside it is a picture of the map with coordinates and, for classes,
their shares.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from flair_baseline.maps.geotiff import NO_DATA, encode_image, encode_labels
from flair_baseline.maps.picture import draw_image, draw_labels
from flair_ingestion.dataset import (
    SPLITS,
    Patch,
    find_roots,
    read_image,
    read_labels,
    require_data,
    scan_split,
)
from flair_scoring.base.errors import (
    DataError,
    FlairError,
    UsageError,
    list_names,
    list_problems,
    run_command,
)
from flair_scoring.base.files import require_folder, write_file
from flair_scoring.maps.georeference import read_place
from flair_scoring.maps.mosaic import Grid, fill, find_covered, lay_out
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.pairing import IMAGE, PREDICTION, REFERENCE, find_patches
from flair_scoring.raster import RasterError, read_raster

Arrays = dict[str, np.ndarray]
T = TypeVar("T")
VISIBLE = 0.05  # pixels by which patches may be off the grid without a note


def find_area(data: Path, area: str, labels: bool) -> list[Patch]:
    """The patches of DOMAIN/AREA in any split, by id; with `labels` they have their labels.

    Raises UsageError if there is no such area, and DataError if a file of it is missing.
    """
    require_data(data)
    names: set[str] = set()
    complete = True
    for split in SPLITS:
        if not find_roots(data, "aerial", split):
            continue
        patches, problems = scan_split(data, split, labels, series=False, metadata=False)
        if about := [problem for problem in problems if f"/{area}/" in problem]:
            raise DataError(list_problems(f"{data}: {area} is incomplete or damaged", about))
        if here := [patch for patch in patches if f"{patch.domain}/{patch.area}" == area]:
            return here
        names |= {f"{patch.domain}/{patch.area}" for patch in patches}
        complete = complete and not problems
    if not names:
        raise DataError(f"{data}: holds no aerial images; check_dataset.py DATA says what is there")
    more = "" if complete else "; the data set is incomplete, and check_dataset.py DATA says what is missing"
    raise UsageError(f"{data}: no area {area}; {suggest_area(area, names)}{more}")


def suggest_area(area: str, names: Collection[str]) -> str:
    """What to write in place of an area that is none of `names`."""
    meant = area.upper().replace("\\", "/")
    if halves := [name for name in sorted(names) if meant in name.split("/")]:
        return f"expected DOMAIN/AREA, such as {list_names(halves, 5)}"
    near = difflib.get_close_matches(meant, names, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else f"areas are named like {min(names)}, after their folders"


def read_predictions(folder: Path, patches: Sequence[Patch]) -> Arrays:
    """The predictions PRED_<id>.tif of the patches, class indices, by id; absent ones are left out.

    Raises UsageError when no patch has one, when one has several, and when one cannot be used.
    """
    require_folder(folder, "predictions PRED_<id>.tif")
    paths = find_patches(folder, [patch.id for patch in patches], PREDICTION)
    if not paths:
        first = patches[0]
        raise UsageError(
            f"{folder}: holds no prediction of {first.domain}/{first.area}, such as PRED_{first.id}.tif; "
            "name a results folder of evaluate.py on the split with this area, or another area"
        )
    return read_all(patches, lambda patch: _read_prediction(paths[patch.id]) if patch.id in paths else None)


def _read_prediction(path: str) -> np.ndarray:
    try:
        labels = read_raster(path)
    except RasterError as error:
        raise UsageError(f"{path}: {error}") from None
    if labels.max() > FLAIR_12.other:
        raise UsageError(f"{path}: value {labels.max()}; expected class indices 0 to {FLAIR_12.other}")
    return labels


def read_all(patches: Sequence[Patch], read: Callable[[Patch], T | None]) -> dict[str, T]:
    """What `read` returns for each patch, by id, without those for which it is None.

    Raises the error of a single patch as it is, and DataError with all of them if there are several.
    """
    found: dict[str, T] = {}
    failures: list[FlairError] = []
    for patch in patches:
        try:
            one = read(patch)
        except FlairError as error:
            failures.append(error)
        else:
            found |= {} if one is None else {patch.id: one}
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise DataError(list_problems("patches cannot be read", [str(error) for error in failures]))
    return found


def name_gaps(grid: Grid, patches: Sequence[Patch], arrays: Arrays) -> None:
    """Tell on stderr what the map does not show as one might expect: gaps, overlaps, patches off the grid."""
    if absent := [f"PRED_{patch.id}.tif" for patch in patches if patch.id not in arrays]:
        missing = f"{len(absent)} of {len(patches)}: {list_names(absent)}"
        print(f"note: gaps where predictions are missing, {missing}", file=sys.stderr)
    counts = find_covered(grid, grid.corners)
    if empty := float((counts == 0).mean()):
        print(f"note: {tell_share(empty)} of the map is no patch of the data set", file=sys.stderr)
    if shared := float((counts > 1).mean()):
        on_top = "the one with the higher id is shown there"
        print(f"note: patches overlap in {tell_share(shared)} of the map; {on_top}", file=sys.stderr)
    if grid.misfit > VISIBLE:
        moved = f"they were moved by up to {grid.misfit:.2f} pixels"
        print(f"note: the patches do not lie on one grid; {moved}", file=sys.stderr)


def tell_share(share: float) -> str:
    """A share in per cent; a few pixels are not told as 0.0%."""
    return f"{share:.1%}" if share >= 0.0005 else "less than 0.1%"


def name_result(folder: Path) -> str:
    """The name of a result, also if the folder of its predictions was given."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "predictions" else whole.name


def main() -> None:
    """Read the patches of the area, put them together, write the map and its picture."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/map_area.py runs/demo/results/submission --data runs/demo/data "
        "--area D015_2020/Z1_UU -o runs/map.tif",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "result", nargs="?", type=Path, metavar="RESULT", help="a folder with PRED_<id>.tif, at any depth"
    )
    what.add_argument("--labels", action="store_true", help="a map of the labels instead")
    what.add_argument("--images", action="store_true", help="a map of the aerial images instead")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--area", required=True, metavar="DOMAIN/AREA", help="such as D015_2020/Z1_UU")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MAP.tif")
    args = parser.parse_args()
    if args.output.suffix.lower() not in (".tif", ".tiff"):
        parser.error(f"--output {args.output}: expected a name that ends in .tif")
    if any(kind.fullmatch(args.output.name) for kind in (IMAGE, REFERENCE, PREDICTION)):
        parser.error(f"--output {args.output}: is the name of a patch's file; choose another name")
    if args.output.is_dir():
        parser.error(f"--output {args.output}: is a folder; expected the name of a map to write")
    area = args.area.strip("/")
    patches = find_area(args.data, area, args.labels)
    if args.labels and not all(patch.labels for patch in patches):
        raise UsageError(f"{args.data}: there are no labels of {area}; unpack the archive with the labels")
    grid = lay_out(read_all(patches, lambda patch: read_place(patch.image)), area)
    if args.images:
        arrays = read_all(patches, lambda patch: read_image(patch)[:3].transpose(1, 2, 0))
        pixels, covered = fill(grid, arrays, empty=0), find_covered(grid, arrays) > 0
        raster = encode_image(pixels, covered, grid)
        picture = draw_image(pixels, covered, grid, f"{area}: aerial images")
    else:
        if args.labels:
            arrays = read_all(patches, lambda patch: FLAIR_12.index_of[read_labels(patch)])
        else:
            arrays = read_predictions(args.result, patches)
        labels = fill(grid, arrays, NO_DATA)
        raster = encode_labels(labels, grid, FLAIR_12)
        title = f"{area}: {'labels' if args.labels else f'predictions of {name_result(args.result)}'}"
        picture = draw_labels(labels, grid, title, FLAIR_12)
    name_gaps(grid, patches, arrays)
    write_file(args.output.with_suffix(".png"), picture)
    write_file(args.output, raster)
    print(args.output)
    print(args.output.with_suffix(".png"))


if __name__ == "__main__":
    run_command(main)
