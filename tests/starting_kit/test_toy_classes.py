"""What the toy data set promises a learner.

The air tells looks apart and no look-alikes; Sentinel-2 with its dates tells look-alikes apart and no twins.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flair_toy.aerial import draw_flight, draw_patch, draw_units
from flair_toy.classes import LOOK_OF, LOOKS, MEAN, PEAK, SWING, YEAR
from flair_toy.landscape import CELL, draw_landscape, survey
from flair_toy.sentinel import class_fractions, draw_dates, draw_series

LOOK_ALIKES = [look.classes for look in LOOKS if len(look.classes) > 1]
PAIRS = [(group[0], other) for group in LOOK_ALIKES for other in group[1:]]
TWINS = [(1, 2, 3, 4), (6, 9), (7, 8)]  # mineral grounds, conifers and vines, broad-leaved trees and shrubs


def class_profiles(days: np.ndarray) -> np.ndarray:
    """Noiseless reflectance (T, 20, 10) of every FLAIR value; `days` (T,) count from 0 on 1 January."""
    phase = 2 * np.pi * (np.asarray(days)[:, None] - PEAK) / YEAR
    return MEAN + SWING * np.cos(phase)[..., None]


def test_seven_of_the_twelve_classes_have_look_alikes() -> None:
    assert sorted(len(group) for group in LOOK_ALIKES) == [2, 2, 3]
    assert sorted(value for group in LOOK_ALIKES for value in group) == [6, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("group", TWINS)
def test_twins_have_one_profile_and_different_looks(group: tuple[int, ...]) -> None:
    profiles = class_profiles(np.arange(0, YEAR, 0.25))[:, group]
    assert (profiles == profiles[:, :1]).all()
    assert len({LOOK_OF[value] for value in group}) == len(group)


def test_look_and_profile_together_identify_each_of_the_twelve_classes() -> None:
    profiles = class_profiles(np.arange(0, YEAR, 0.25))
    for one, other in itertools.combinations(range(1, 13), 2):
        differ = np.abs(profiles[:, one] - profiles[:, other]).max() > 0.05
        assert differ or LOOK_OF[one] != LOOK_OF[other]


@pytest.mark.parametrize("pair", PAIRS)
def test_profiles_of_look_alikes_agree_in_annual_mean_and_variance(pair: tuple[int, int]) -> None:
    one, other = class_profiles(np.arange(0, YEAR, 0.25))[:, pair].transpose(1, 0, 2)
    swing = np.ptp(one, axis=0)
    assert np.abs(one.mean(axis=0) - other.mean(axis=0)).max() < 1e-3 * swing.min()
    assert one.var(axis=0) == pytest.approx(other.var(axis=0), rel=1e-2)
    assert (np.abs(one - other).max(axis=0) > 0.85 * swing).all()


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("count", [20, 29, 36])
def test_they_agree_on_the_dates_of_an_area_too(pair: tuple[int, int], count: int) -> None:
    rng = np.random.default_rng(0)
    for year in (2018, 2019, 2020, 2021):
        days = np.array([(date - datetime.date(year, 1, 1)).days for date in draw_dates(rng, year, count)])
        assert len(set(days)) == count
        one, other = class_profiles(days)[:, pair].transpose(1, 0, 2)
        swing = np.ptp(one, axis=0)
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 0.04 * swing).all()
        assert (np.abs(one.std(axis=0) - other.std(axis=0)) < 0.04 * swing).all()


def test_the_aerial_image_does_not_depend_on_which_look_alike_it_shows() -> None:
    rng = np.random.default_rng(3)
    land = draw_landscape(rng)
    cover = survey(land, 600, 600, 256, 0.4)
    units, flight = draw_units(rng, land.units), draw_flight(rng)
    swapped = cover.values.copy()
    for group in LOOK_ALIKES:
        for value, following in zip(group, (*group[1:], group[0]), strict=True):
            swapped[cover.values == value] = following
    assert np.mean(swapped != cover.values) > 0.2
    image, same = (
        draw_patch(replace(cover, values=values), units, flight, np.random.default_rng(4))
        for values in (cover.values, swapped)
    )
    assert np.array_equal(image, same)


def describe_pixels(image: np.ndarray) -> np.ndarray:
    """The five bands, and their mean and deviation over 3 m, of every fourth pixel, (n, 15)."""
    bands = image.astype(np.float32)
    mean = uniform_filter(bands, (0, 15, 15))
    deviation = np.sqrt(np.maximum(uniform_filter(bands**2, (0, 15, 15)) - mean**2, 0))
    return np.concatenate([bands, mean, deviation])[:, 2::4, 2::4].reshape(15, -1).T


def draw_pixels(areas: range) -> tuple[np.ndarray, np.ndarray]:
    """Descriptions and FLAIR values of pixels from four patches in each area; each area is its own domain."""
    samples, values = [], []
    for number in areas:
        rng = np.random.default_rng([9, number])
        land = draw_landscape(rng)
        units, flight = draw_units(rng, land.units), draw_flight(rng)
        for left in (560, 670, 780, 890):
            cover = survey(land, left, 700, 256, 0.4)
            samples.append(describe_pixels(draw_patch(cover, units, flight, rng)))
            values.append(cover.values[1::2, 1::2].ravel())
    return np.concatenate(samples), np.concatenate(values)


@pytest.mark.long
def test_from_the_air_looks_are_told_apart_in_new_domains_and_look_alikes_are_not() -> None:
    forest = RandomForestClassifier(30, max_depth=14, max_samples=8000, random_state=0)
    forest.fit(*draw_pixels(range(8)))
    samples, values = draw_pixels(range(100, 104))
    scored = values <= 12
    values, predicted = values[scored], forest.predict(samples[scored])
    assert balanced_accuracy_score(LOOK_OF[values], LOOK_OF[predicted]) > 0.7
    for group in LOOK_ALIKES:
        inside = np.isin(values, group) & np.isin(predicted, group)
        assert balanced_accuracy_score(values[inside], predicted[inside]) < 1 / len(group) + 0.1
    for group in TWINS:
        inside = np.isin(values, group) & np.isin(predicted, group)
        assert balanced_accuracy_score(values[inside], predicted[inside]) > 0.8


@dataclass(frozen=True)
class Series:
    """Days (T,); reflectance (T, 10, n), cloud-free (T, n), FLAIR value (n,) of pixels of a single class."""

    days: np.ndarray
    reflectance: np.ndarray
    clear: np.ndarray
    values: np.ndarray

    def of(self, group: tuple[int, ...]) -> Series:
        chosen = np.isin(self.values, group)
        return Series(self.days, self.reflectance[:, :, chosen], self.clear[:, chosen], self.values[chosen])


@pytest.fixture(scope="module")
def areas() -> list[Series]:
    """Eight areas; the season of each is some days early or late, and it snows in two of them."""
    return [draw_area(number) for number in range(8)]


def draw_area(number: int) -> Series:
    rng = np.random.default_rng([5, number])
    fractions = class_fractions(survey(draw_landscape(rng), 0, 0, 624, CELL).values, 156)
    dates = draw_dates(rng, 2021, 30)
    days = np.array([(date - datetime.date(2021, 1, 1)).days for date in dates])
    data, masks = draw_series(rng, fractions, days, delay=rng.uniform(-8, 8), snowy=number % 4 == 0)
    pure = fractions.max(axis=0) > 0.999
    return Series(
        days, data[:, :, pure] / 10000, (masks < 10).all(axis=1)[:, pure], fractions.argmax(axis=0)[pure]
    )


def nearest_profile(area: Series, group: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """The class of the group whose profile is nearest on the dates, weighted by (T, n)."""
    profiles = class_profiles(area.days)[:, group, :, None]
    distance = [
        (((area.reflectance - profiles[:, i]) ** 2).sum(axis=1) * weight).sum(axis=0)
        for i in range(len(group))
    ]
    return np.array(group)[np.argmin(distance, axis=0)]


def test_reading_dates_separates_look_alikes_and_clouds_are_in_the_way(areas: list[Series]) -> None:
    lost = []
    for group in LOOK_ALIKES:
        series = [area.of(group) for area in areas]
        right = [nearest_profile(one, group, one.clear) == one.values for one in series]
        cloudy = [nearest_profile(one, group, np.ones_like(one.clear)) == one.values for one in series]
        assert np.concatenate(right).mean() > 0.95
        lost.append(np.concatenate(right).mean() - np.concatenate(cloudy).mean())
    assert min(lost) >= 0
    assert np.mean(lost) > 0.02


@pytest.mark.parametrize("group", LOOK_ALIKES)
def test_monthly_means_of_clear_dates_separate_look_alikes(
    areas: list[Series], group: tuple[int, ...]
) -> None:
    right = []
    for area in areas:
        series = area.of(group)
        month = (series.days * 12 / YEAR).astype(int)
        count = np.stack([series.clear[month == one].sum(axis=0) for one in range(12)])
        clear = series.reflectance * series.clear[:, None]
        total = np.stack([clear[month == one].sum(axis=0) for one in range(12)])
        means = Series(
            (np.arange(12) + 0.5) * YEAR / 12, total / np.maximum(count, 1)[:, None], count > 0, series.values
        )
        right.append(nearest_profile(means, group, means.clear) == means.values)
    assert np.concatenate(right).mean() > 0.95


def learn(areas: list[Series], describe: Callable[[Series], np.ndarray]) -> float:
    """Balanced accuracy of a linear model of descriptions (n, features), learnt on seven areas, tried on the
    eighth, each in turn."""
    features = [describe(area)[::4] for area in areas]
    values = [area.values[::4] for area in areas]
    accuracy = []
    for tried in range(len(areas)):
        learnt = [number for number in range(len(areas)) if number != tried]
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=300))
        model.fit(np.concatenate([features[i] for i in learnt]), np.concatenate([values[i] for i in learnt]))
        accuracy.append(balanced_accuracy_score(values[tried], model.predict(features[tried])))
    return float(np.mean(accuracy))


def describe_distribution(area: Series) -> np.ndarray:
    """Mean and variance of every band over the clear dates, (n, 20)."""
    cloudy = np.broadcast_to(~area.clear[:, None], area.reflectance.shape)
    clear = np.ma.array(area.reflectance, mask=cloudy)
    return np.concatenate([clear.mean(axis=0), clear.var(axis=0)]).filled(0).T


def describe_course(area: Series) -> np.ndarray:
    """Means of every band over the clear dates, alone and weighted by the season as two waves, (n, 30)."""
    angle = 2 * np.pi * area.days / YEAR
    waves = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)])
    sums = np.einsum("wt,tbn,tn->wbn", waves, area.reflectance, area.clear)
    return (sums / np.maximum(area.clear.sum(axis=0), 1)).reshape(30, -1).T


@pytest.mark.parametrize("group", LOOK_ALIKES)
def test_the_course_of_the_year_separates_look_alikes_and_its_mean_and_variance_do_not(
    areas: list[Series], group: tuple[int, ...]
) -> None:
    chosen = [area.of(group) for area in areas]
    assert learn(chosen, describe_course) > 0.9
    assert learn(chosen, describe_distribution) < 1 / len(group) + 0.1


@pytest.mark.parametrize("group", TWINS)
def test_the_course_of_the_year_does_not_separate_twins(areas: list[Series], group: tuple[int, ...]) -> None:
    assert learn([area.of(group) for area in areas], describe_course) < 1 / len(group) + 0.1
