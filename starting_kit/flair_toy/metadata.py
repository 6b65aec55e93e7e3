"""Metadata of made-up patches, in the form and range of real ones: day, time, camera, position, altitude."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from flair_toy.areas import PATCH, PATCHES, Area, Domain

# Year of the flight -> camera -> weight: names and rough proportions are those of FLAIR's records
_CAMERAS = {
    2018: {"CAMERA#017": 5, "CAMERA#020": 1, "CAMERA#030": 2},
    2019: {"CAMERA#017": 4, "CAMERA#020": 3, "CAMERA#030": 6, "CAMERA#034": 1, "UCE-M3-f100": 2},
    2020: {"CAMERA#020": 1, "CAMERA#030": 5, "CAMERA#034": 2, "UCE-M3-f120": 3, "UCE-M3-f120-s06": 6},
    2021: {"UCE-M3-f120-s06": 2, "UCE-M3-f120-s07": 3, "UCE-M3-f120-s08": 4},
}
_FLIGHTS = 3  # most flights over a domain; all lie within _WEEKS
_WEEKS = 3
_FIRST_FLIGHT, _LAST_FLIGHT = (4, 18), (10, 16)  # month and day
_TIMES = (7 * 60 + 19, 9 * 60 + 20, 16 * 60 + 17)  # earliest, most frequent and latest, in minutes
_LOWEST = -1.7  # metres


def draw_metadata(area: Area, seed: int) -> list[dict[str, Any]]:
    """The records of the 25 patches of an area, in order.

    All have the same day, time and camera, and each has its own position and altitude.
    """
    rng = np.random.default_rng([seed, area.domain.number, area.number, *b"metadata", 0])
    date, camera = _choose(rng, _draw_flights(area.domain, seed))
    minutes = int(rng.triangular(*_TIMES))
    altitude = area.domain.altitude + rng.uniform(-60, 60)
    altitudes = altitude + rng.normal(0, 2 + 0.02 * altitude, PATCHES**2)  # the higher, the hillier
    corners = [area.patch_corner(patch) for patch in range(PATCHES**2)]
    return [
        {
            "domain": area.domain.name,
            "zone": area.name,
            "patch_centroid_x": round(left + PATCH / 2, 1),
            "patch_centroid_y": round(top - PATCH / 2, 1),
            "patch_centroid_z": _as_recorded(max(float(height), _LOWEST)),
            "date": date.isoformat(),
            "time": f"{minutes // 60:02d}h{minutes % 60:02d}",
            "camera": camera,
        }
        for (left, top), height in zip(corners, altitudes, strict=True)
    ]


def _draw_flights(domain: Domain, seed: int) -> list[tuple[datetime.date, str]]:
    """Day and camera of every flight over a domain, which use one or two cameras."""
    rng = np.random.default_rng([seed, domain.number, *b"flights"])
    known = _CAMERAS[domain.year]
    shares = np.array(list(known.values()), float)
    cameras = rng.choice(list(known), rng.integers(1, 3), replace=False, p=shares / shares.sum()).tolist()
    first, last = (datetime.date(domain.year, *day) for day in (_FIRST_FLIGHT, _LAST_FLIGHT))
    start = int(rng.integers((last - first).days - 7 * _WEEKS + 1))
    days = start + rng.choice(7 * _WEEKS, rng.integers(1, _FLIGHTS + 1), replace=False)
    return [(first + datetime.timedelta(days=int(day)), _choose(rng, cameras)) for day in np.sort(days)]


def _choose(rng: np.random.Generator, items: list[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def _as_recorded(metres: float) -> float:
    """An altitude as FLAIR's json files have it: a float32 with ten decimals, 292.98 as 292.9800109863."""
    return round(float(np.float32(round(metres, 2))), 10)
