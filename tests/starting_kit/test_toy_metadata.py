"""The metadata of toy patches look like real ones: cameras, days, times and altitudes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flair_toy.areas import PATCHES, SIZES, plan_areas
from flair_toy.metadata import draw_metadata

RECORDS = Path(__file__).parents[2].parent / "shared" / "data" / "flair1_toy_metadata.json"
Record = dict[str, Any]


@pytest.fixture(scope="module")
def toy() -> list[Record]:
    """Every patch of the largest toy set under two seeds."""
    areas = plan_areas(SIZES["large"])
    return [record for seed in (1, 2022) for area in areas for record in draw_metadata(area, seed)]


@pytest.fixture(scope="module")
def real() -> list[Record]:
    """250 records of FLAIR #1's toy set."""
    if not RECORDS.is_file():
        pytest.skip(f"no sample of FLAIR #2 in {RECORDS}")
    return list(json.loads(RECORDS.read_text()).values())


def by_year(records: Iterable[Record]) -> dict[str, set[str]]:
    """Year -> cameras."""
    cameras = defaultdict(set)
    for record in records:
        cameras[record["date"][:4]].add(record["camera"])
    return cameras


def flights(records: Iterable[Record], *keys: str) -> list[set[tuple[str, str]]]:
    """Days and cameras of each domain or area, which `keys` tell apart."""
    found = defaultdict(set)
    for record in records:
        found[tuple(record[key] for key in keys)].add((record["date"], record["camera"]))
    return list(found.values())


def test_form_of_every_field(toy: list[Record]) -> None:
    for record in toy:
        assert re.fullmatch(r"20\d\d-(0[4-9]|10)-\d\d", record["date"])
        assert re.fullmatch(r"(0[7-9]|1[0-6])h[0-5]\d", record["time"])
        assert re.fullmatch(r"CAMERA#0\d\d|UCE-M3-f1[02]0(-s0[678])?", record["camera"])
        assert record["date"][:4] == record["domain"][5:]
        altitude = record["patch_centroid_z"]  # centimetres, stored as float32, printed with 10 decimals
        assert altitude == round(float(np.float32(round(altitude, 2))), 10)


def test_records_hold_what_real_ones_hold_in_their_order(toy: list[Record], real: list[Record]) -> None:
    assert {tuple(record) for record in toy} == {tuple(record) for record in real}
    for key, value in toy[0].items():
        assert type(value) is type(real[0][key])


def test_cameras_are_those_of_the_year(toy: list[Record], real: list[Record]) -> None:
    made, known = by_year(toy), by_year(real)
    assert set(made) == {"2019", "2020", "2021"}
    assert all(cameras <= known[year] for year, cameras in made.items())
    assert len(set().union(*made.values())) >= 8


def test_days_times_and_altitudes_are_in_the_range_of_real_ones(
    toy: list[Record], real: list[Record]
) -> None:
    for key, part in (("date", slice(5, None)), ("time", slice(None)), ("patch_centroid_z", None)):
        made, known = ([r[key] if part is None else r[key][part] for r in rs] for rs in (toy, real))
        assert min(known) <= min(made) <= max(made) <= max(known)
    made, known = (
        np.median([60 * int(r["time"][:2]) + int(r["time"][3:]) for r in rs]) for rs in (toy, real)
    )
    assert abs(made - known) < 45  # minutes


def test_an_area_is_flown_over_once_and_a_domain_on_few_days(toy: list[Record], real: list[Record]) -> None:
    assert {len(found) for found in flights(real, "domain", "zone")} == {1}
    days, cameras = (
        {len({flight[part] for flight in found}) for found in flights(real, "domain")} for part in (0, 1)
    )
    half = len(toy) // 2
    for one_seed in (toy[:half], toy[half:]):
        assert {len(found) for found in flights(one_seed, "domain", "zone")} == {1}
        for found in flights(one_seed, "domain"):
            assert len({date for date, _ in found}) in days
            assert len({camera for _, camera in found}) in cameras


def test_patches_of_an_area_lie_at_different_altitudes(toy: list[Record]) -> None:
    for first in range(0, len(toy), PATCHES**2):
        altitudes = [record["patch_centroid_z"] for record in toy[first : first + PATCHES**2]]
        assert len(set(altitudes)) > PATCHES**2 // 2
        assert np.ptp(altitudes) < 400  # of real patches of one area: up to 356 m in the mountains
