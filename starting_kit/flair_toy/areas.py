"""The areas of a toy data set: their number, their positions in France, their folders and identifiers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PATCH = 102.4  # side of a patch in metres
PATCHES = 5  # patches along a side of an area
FIRST_IDS = {"train": 1, "test": 77413}
_GRID = (3.2, 20.8)  # the top left corner of every patch of FLAIR #2 is at these x, y (mod PATCH)
_BUFFER = 512.0  # metres of Sentinel-2 image around the patches of an area
_PIXEL = 10.0
_SNOW_LINE = 800.0
# Pairs of land uses in FLAIR's names: agricultural, forest, natural, urban
_AREA_KINDS = ("UU", "UA", "UN", "AA", "UF", "NN", "AU", "FA", "NU", "NF", "FF", "NA", "AN", "FU", "AF", "FN")


@dataclass(frozen=True)
class Domain:
    """A department in one year, as D006_2020.

    `x`, `y` (Lambert-93) and `altitude` are metres, and about right for the department. `tile` is that of
    Sentinel-2.
    """

    name: str
    x: float
    y: float
    altitude: float
    tile: str

    @property
    def number(self) -> int:
        """Number of the department."""
        return int(self.name[1:4])

    @property
    def year(self) -> int:
        """Year of the flight and of the Sentinel-2 series."""
        return int(self.name[5:])

    @property
    def snowy(self) -> bool:
        """Whether it snows there in winter."""
        return self.altitude >= _SNOW_LINE


DOMAINS = {
    "train": (
        Domain("D006_2020", 1030e3, 6310e3, 900, "T32TLP"),
        Domain("D007_2020", 810e3, 6400e3, 450, "T31TFK"),
        Domain("D008_2019", 825e3, 6960e3, 220, "T31UFR"),
        Domain("D009_2019", 590e3, 6205e3, 850, "T31TCH"),
        Domain("D013_2020", 880e3, 6270e3, 90, "T31TFJ"),
        Domain("D016_2020", 480e3, 6510e3, 110, "T30TYR"),
    ),
    "val": (
        Domain("D004_2021", 960e3, 6330e3, 950, "T31TGJ"),
        Domain("D014_2020", 455e3, 6900e3, 80, "T30UXV"),
        Domain("D029_2021", 170e3, 6830e3, 70, "T30UUU"),
    ),
    "test": (
        Domain("D015_2020", 655e3, 6440e3, 900, "T31TDL"),
        Domain("D022_2021", 270e3, 6830e3, 100, "T30UVU"),
        Domain("D026_2020", 860e3, 6410e3, 380, "T31TFK"),
        Domain("D036_2020", 600e3, 6630e3, 150, "T31TCM"),
        Domain("D061_2020", 485e3, 6820e3, 210, "T30UYU"),
        Domain("D064_2021", 400e3, 6250e3, 260, "T30TYN"),
        Domain("D068_2021", 1020e3, 6785e3, 240, "T32ULU"),
        Domain("D069_2020", 840e3, 6520e3, 310, "T31TFL"),
        Domain("D071_2020", 800e3, 6620e3, 290, "T31TFM"),
        Domain("D084_2021", 870e3, 6330e3, 180, "T31TFJ"),
    ),
}


@dataclass(frozen=True)
class Share:
    """What a split consists of.

    It has the first `domains` domains of its list, `areas` areas in each of them (one more in the first
    `larger` of them), and files for `patches` of the 25 patches of each area. With `copies` only the first
    area of a domain is drawn, and its other areas share the files of the first.
    """

    domains: int
    areas: int
    patches: int
    larger: int = 0
    copies: bool = False


@dataclass(frozen=True)
class Size:
    """The splits of a data set, the smallest and the largest number of Sentinel-2 dates of an area."""

    splits: dict[str, Share]
    dates: tuple[int, int]


SIZES = {
    "tiny": Size({"train": Share(3, 1, 4), "val": Share(3, 1, 4), "test": Share(3, 1, 4)}, dates=(20, 23)),
    "demo": Size({"train": Share(6, 2, 20), "val": Share(3, 1, 12), "test": Share(4, 1, 24)}, dates=(24, 36)),
    # The whole test set of FLAIR #2: 642 areas of 25 patches
    "large": Size(
        {"train": Share(3, 1, 4), "val": Share(3, 1, 4), "test": Share(10, 64, 25, larger=2, copies=True)},
        dates=(24, 36),
    ),
}


@dataclass(frozen=True)
class Area:
    """An area of 5 x 5 patches, numbered row by row from the top left.

    The json files describe all of its patches; `written` of them get an image and labels. An area with an
    `original` is a copy: its files are those of the original, georeferencing included, under other names.
    """

    split: str
    domain: Domain
    number: int
    first_id: int
    written: int
    original: Area | None = None

    @property
    def name(self) -> str:
        """Name of the area, as Z1_UU."""
        return f"Z{self.number}_{_AREA_KINDS[(self.domain.number + self.number) % len(_AREA_KINDS)]}"

    def folder(self, root: Path, kind: str, content: str) -> Path:
        """Folder of the area, as ROOT/flair_2_toy_aerial_train/D006_2020/Z1_UU/img; made if it is missing."""
        archive = f"flair_2_toy_{kind}_{'test' if self.split == 'test' else 'train'}"
        path = root / archive / self.domain.name / self.name / content
        path.mkdir(parents=True, exist_ok=True)
        return path

    def patch_corner(self, patch: int) -> tuple[float, float]:
        """Lambert-93 x, y of the top left corner of a patch, on the national grid of patches."""
        column = round(self.domain.x / PATCH) + 40 * (self.number % 8) + patch % PATCHES
        row = round(self.domain.y / PATCH) - 40 * (self.number // 8) - patch // PATCHES
        return round(column * PATCH + _GRID[0], 1), round(row * PATCH + _GRID[1], 1)

    @property
    def sentinel_corner(self) -> tuple[float, float]:
        """Lambert-93 x, y of the top left corner of the Sentinel-2 image, on its 10 m grid."""
        x, y = self.patch_corner(0)
        return ((x - _BUFFER) // _PIXEL - 1) * _PIXEL, ((y + _BUFFER) // _PIXEL + 2) * _PIXEL

    def offset(self, patch: int) -> tuple[float, float]:
        """Metres right and down from the top left corner of the Sentinel-2 image to that of a patch."""
        (x, y), (left, top) = self.patch_corner(patch), self.sentinel_corner
        return x - left, top - y

    def centroid(self, patch: int) -> list[int]:
        """Row and column of the corner between Sentinel-2 pixels that is nearest to the middle of a patch."""
        right, down = self.offset(patch)
        return [round((down + PATCH / 2) / _PIXEL), round((right + PATCH / 2) / _PIXEL)]


def plan_areas(size: Size) -> list[Area]:
    """Every area of a data set; identifiers run through the domains of train and val, then through test."""
    areas: list[Area] = []
    next_id = dict(FIRST_IDS)
    chosen = [
        (split, domain) for split, share in size.splits.items() for domain in DOMAINS[split][: share.domains]
    ]
    for split, domain in sorted(chosen, key=lambda pair: pair[1].number):
        ids, share = "test" if split == "test" else "train", size.splits[split]
        original = None
        larger = domain in DOMAINS[split][: share.larger]
        for number in range(1, share.areas + larger + 1):
            areas.append(Area(split, domain, number, next_id[ids], share.patches, original))
            next_id[ids] += PATCHES**2
            original = original or (areas[-1] if share.copies else None)
    return areas
