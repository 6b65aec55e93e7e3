import datetime

import numpy as np
import pytest
import torch

from flair_baseline.model.sentinel import find_clear_dates, find_days_of_year, pad_series, prepare_series
from flair_baseline.model.utt import OFFICIAL_DAY

EPOCH = datetime.date(1970, 1, 1)
SIZE = 10


def days_since_epoch(*dates: tuple[int, int, int]) -> np.ndarray:
    return np.array([(datetime.date(*date) - EPOCH).days for date in dates], dtype=np.int32)


def draw_series(dates: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, (len(dates), 10, SIZE, SIZE), dtype=np.uint16)


def cover(dates: int, **pixels: list[int]) -> np.ndarray:
    """Masks whose first so many pixels of each date are surely snow or cloud."""
    masks = np.zeros((dates, 2, SIZE * SIZE), dtype=np.uint8)
    for channel, name in enumerate(("snow", "cloud")):
        for date, count in enumerate(pixels.get(name, [])):
            masks[date, channel, :count] = 100
    return masks.reshape(dates, 2, SIZE, SIZE)


def brute_force_clear(masks: np.ndarray) -> list[int]:
    shares = []
    for date in masks:
        covered = [max(date[0, r, c], date[1, r, c]) > 50 for r in range(SIZE) for c in range(SIZE)]
        shares.append(sum(covered) / len(covered))
    kept = [index for index, share in enumerate(shares) if share < 0.6]
    return kept or [index for index, share in enumerate(shares) if share == min(shares)]


def test_a_date_goes_from_60_percent_cover_on():
    assert find_clear_dates(cover(3, cloud=[59, 60, 61])).tolist() == [0]


def test_probability_of_exactly_one_half_does_not_cover():
    masks = np.full((2, 2, SIZE, SIZE), 50, dtype=np.uint8)
    masks[1] = 51
    assert find_clear_dates(masks).tolist() == [0]


def test_a_pixel_under_snow_and_cloud_counts_once():
    assert find_clear_dates(cover(2, snow=[30, 0], cloud=[30, 0])).tolist() == [0, 1]


def test_snow_alone_covers():
    assert find_clear_dates(cover(2, snow=[90, 0])).tolist() == [1]


def test_clearest_dates_stay_when_all_would_go():
    assert find_clear_dates(cover(4, cloud=[90, 70, 70, 100])).tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_filter_agrees_with_a_plain_loop(seed):
    generator = np.random.default_rng(seed)
    masks = generator.integers(0, generator.integers(60, 101, size=(8, 2, 1, 1)), (8, 2, SIZE, SIZE)).astype(
        np.uint8
    )
    assert find_clear_dates(masks).tolist() == brute_force_clear(masks)


def test_the_official_rule_counts_snow_and_cloud_of_a_pixel_twice():
    masks = cover(4, snow=[25, 24, 0, 0], cloud=[25, 25, 50, 49])
    assert find_clear_dates(masks, "official").tolist() == [1, 3]
    assert find_clear_dates(masks, "paper").tolist() == [0, 1, 2, 3]
    probable = np.stack([np.full((2, SIZE, SIZE), value, dtype=np.uint8) for value in (59, 60)])
    assert find_clear_dates(probable, "official").tolist() == [0]
    assert find_clear_dates(cover(2, cloud=[80, 70]), "official").tolist() == [1]  # the clearer of them


@pytest.mark.parametrize("seed", range(5))
def test_the_official_rule_agrees_with_a_plain_loop(seed):
    generator = np.random.default_rng(seed)
    limits = generator.integers(60, 101, size=(8, 2, 1, 1))
    masks = generator.integers(0, limits, (8, 2, SIZE, SIZE)).astype(np.uint8)
    kept = []
    for index, date in enumerate(masks.tolist()):
        values = [value for layer in date for row in layer for value in row]
        if sum(value >= 60 for value in values) / SIZE**2 < 0.5:
            kept.append(index)
    assert 0 < len(kept) < 8
    assert find_clear_dates(masks, "official").tolist() == kept


def test_days_of_year_follow_the_calendar():
    dates = [(2020, 2, 29), (2020, 12, 31), (2021, 1, 1), (2019, 3, 1), (2020, 3, 1)]
    expected = [datetime.date(*date).timetuple().tm_yday - 1 for date in dates]
    assert find_days_of_year(days_since_epoch(*dates)).tolist() == expected


def test_monthly_means_agree_with_a_plain_loop():
    calendar = [(2020, 2, 29), (2020, 2, 2), (2020, 5, 30), (2020, 5, 31), (2020, 5, 1), (2020, 12, 31)]
    dates = days_since_epoch(*calendar)
    data = draw_series(dates)
    series, days = prepare_series(data, cover(len(dates)), dates, cloud_filter=True, monthly_average=True)
    assert series.shape == (3, 10, SIZE, SIZE)
    for image, day, month in zip(series, days, (2, 5, 12), strict=True):
        members = [index for index, date in enumerate(calendar) if date[1] == month]
        mean = np.mean([data[index].astype(float) for index in members], axis=0)
        np.testing.assert_allclose(image.numpy(), mean / 10_000, rtol=1e-6)
        ordinals = [datetime.date(*calendar[index]).timetuple().tm_yday - 1 for index in members]
        assert float(day) == pytest.approx(sum(ordinals) / len(ordinals))


def test_monthly_means_leave_cloudy_dates_out():
    dates = days_since_epoch((2021, 6, 1), (2021, 6, 11), (2021, 7, 1))
    data = draw_series(dates)
    series, days = prepare_series(
        data, cover(3, cloud=[0, 100, 100]), dates, cloud_filter=True, monthly_average=True
    )
    assert days.tolist() == [151]
    np.testing.assert_allclose(series[0].numpy(), data[0] / 10_000, rtol=1e-6)


def test_reflectances_have_one_scale_in_both_modes():
    dates = days_since_epoch((2021, 6, 1), (2021, 7, 1))
    data = draw_series(dates)
    means, _ = prepare_series(data, cover(2), dates, cloud_filter=False, monthly_average=True)
    all_dates, days = prepare_series(
        data, cover(2, cloud=[100]), dates, cloud_filter=False, monthly_average=False
    )
    assert torch.equal(means, all_dates)
    assert days.tolist() == [151, 181]
    assert all_dates.dtype == days.dtype == torch.float32


def test_the_padding_mask_marks_the_dates_that_only_pad():
    series = [torch.rand(2, 10, 4, 4), torch.rand(3, 10, 4, 4)]
    padded, days, padding_mask = pad_series(series, [torch.tensor([1.0, 2]), torch.tensor([3.0, 4, 5])])
    assert padding_mask.tolist() == [[False, False, True], [False, False, False]]
    assert days.tolist() == [[1, 2, 0], [3, 4, 5]]
    assert torch.equal(padded[0, :2], series[0])
    assert torch.equal(padded[1], series[1])


def test_nothing_is_marked_where_nothing_is_padded():
    series = [torch.rand(2, 10, 4, 4), torch.rand(2, 10, 4, 4)]
    padded, days, padding_mask = pad_series(series, [torch.tensor([1.0, 2]), torch.tensor([3.0, 4])])
    assert padding_mask is None
    assert torch.equal(padded, torch.stack(series))
    assert days.tolist() == [[1, 2], [3, 4]]


LEAP_YEAR = [(2020, 1, 31), (2020, 2, 2), (2020, 2, 28), (2020, 3, 1), (2020, 3, 15), (2020, 12, 31)]


def official_offset(month: int, day: int) -> int:
    """Days until 15 May as IGN's loader counts them: it takes every date for one of 2021."""
    return (datetime.date(2021, 5, 15) - datetime.date(2021, month, day)).days


@pytest.mark.parametrize("year", [2019, 2020])
def test_converted_networks_are_told_the_days_of_the_official_loader(year):
    calendar = [(year, month, day) for _, month, day in LEAP_YEAR]
    dates = days_since_epoch(*calendar)
    data, masks = draw_series(dates), cover(len(dates))
    _, days = prepare_series(data, masks, dates, False, monthly_average=False, official_days=True)
    expected = [official_offset(month, day) for _, month, day in calendar]
    assert (OFFICIAL_DAY - days).tolist() == expected
    means, days = prepare_series(data, masks, dates, False, monthly_average=True, official_days=True)
    assert (OFFICIAL_DAY - days).tolist() == [official_offset(month, 15) for month in (1, 2, 3, 12)]
    ours, _ = prepare_series(data, masks, dates, False, monthly_average=True)
    assert torch.equal(means, ours)


def test_a_29_february_on_which_the_official_loader_fails_counts_as_the_day_before():
    dates = days_since_epoch((2020, 2, 28), (2020, 2, 29), (2020, 3, 1))
    with pytest.raises(ValueError, match="day"):
        official_offset(2, 29)
    _, days = prepare_series(draw_series(dates), cover(3), dates, False, False, official_days=True)
    assert days.tolist() == [58, 58, 59]
    _, days = prepare_series(draw_series(dates), cover(3), dates, False, False)
    assert days.tolist() == [58, 59, 60]


@pytest.mark.parametrize("monthly_average", [False, True])
@pytest.mark.parametrize("cloud_filter", [False, True])
def test_dates_without_data_in_the_window_are_left_out(cloud_filter, monthly_average):
    dates = days_since_epoch((2021, 6, 1), (2021, 7, 1), (2021, 7, 11), (2021, 7, 21), (2021, 8, 1))
    data = draw_series(dates)
    data[2] = data[4] = 0
    data[:, :, 0, 0] = 0  # nodata in one pixel is data in others
    series, days = prepare_series(data, cover(5), dates, cloud_filter, monthly_average)
    expected, expected_days = prepare_series(
        data[[0, 1, 3]], cover(3), dates[[0, 1, 3]], cloud_filter, monthly_average
    )
    assert torch.equal(series, expected)
    assert torch.equal(days, expected_days)
    july = (data[1] / 10_000 + data[3] / 10_000) / 2
    if monthly_average:
        np.testing.assert_allclose(series[1].numpy(), july, rtol=1e-6)


@pytest.mark.parametrize("rule", ["paper", "official"])
def test_a_clear_date_without_data_does_not_stand_for_the_cloudy_ones(rule):
    dates = days_since_epoch((2021, 6, 1), (2021, 7, 1), (2021, 8, 1))
    data = draw_series(dates)
    data[0] = 0
    series, days = prepare_series(data, cover(3, cloud=[0, 90, 80]), dates, True, False, rule)
    assert days.tolist() == [212]
    np.testing.assert_allclose(series[0].numpy(), data[2] / 10_000, rtol=1e-6)


def test_a_series_without_any_data_stays_as_long_as_it_is():
    dates = days_since_epoch((2021, 6, 1), (2021, 7, 1))
    series, days = prepare_series(np.zeros((2, 10, SIZE, SIZE), np.uint16), cover(2), dates, True, True)
    assert days.tolist() == [151, 181]
    assert not series.any()
