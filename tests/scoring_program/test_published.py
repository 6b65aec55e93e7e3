"""What others have published stands where readers look for it, and is what the sources say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.report.published import read_dataset, read_others, read_published

KIT = Path(__file__).resolve().parents[2]
SEEDS = KIT.parent / "shared" / "seeds"
README = " ".join((KIT / "README.md").read_text().split())
FIGURES = {
    "labelled pixels": 20_384_841_728,
    "patches of 512 x 512 pixels": 77_762,
    "training and validation patches": 61_712,
    "test patches": 16_050,
    "Sentinel-2 acquisitions": 51_244,
    "domains": 50,
    "areas": 916,
    "km²": 817,
}


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Card, paper and slides as text."""
    if not SEEDS.is_dir():
        pytest.skip(f"no sample of FLAIR #2's documents in {SEEDS}")
    card, paper, slides = sorted(SEEDS.glob("0*.txt"))
    return {"data card": card.read_text(), "datapaper": paper.read_text(), "slides": slides.read_text()}


def test_the_data_sets_figures_are_the_papers() -> None:
    figures = {figure.name: figure.value for figure in read_dataset()}
    assert figures == FIGURES
    assert figures["labelled pixels"] == figures["patches of 512 x 512 pixels"] * 512**2
    trained, tested = figures["training and validation patches"], figures["test patches"]
    assert trained + tested == figures["patches of 512 x 512 pixels"]


def test_the_frequencies_of_the_classes_are_table_iii() -> None:
    """They add up. Some are no multiples of 4, so labels are not constant on 2 x 2 pixels everywhere."""
    (pixels,) = (figure for figure in read_dataset() if figure.name == "labelled pixels")
    assert [pixels.classes[0], pixels.classes[9], pixels.classes[12]] == [
        1_453_245_093,
        3_717_682_095,
        153_055_302,
    ]
    assert len(pixels.classes) == len(FLAIR_12.classes) + 1
    assert sum(pixels.classes) == pixels.value
    assert any(count % 4 for count in pixels.classes)


def test_rows_of_other_tables() -> None:
    rows = {table: {row.name: row.value for row in found} for table, found in read_others().items()}
    assert list(rows["FLAIR #1"].values()) == [65.92, 65.60, 64.93, 54.56]
    assert rows["CoSIA"] == {"RVB": 85.2, "RVBI": 85.7, "RVBIE": 86.2}


def test_the_best_u_net_with_metadata_and_augmentation_is_the_data_cards() -> None:
    (row,) = (row for row in read_published() if row.miou == 0.5593)
    assert row.name == "U-Net with metadata and augmentation, best run"
    assert row.source == "data card, leaderboard"


def test_every_number_is_in_the_source_that_is_named(sources: dict[str, str]) -> None:
    for row in read_published():
        if row.source.startswith(("datapaper", "data card")):
            text = sources[row.source.split(",")[0]]
            assert f"{row.miou:.4f}" in text, row
            assert row.deviation is None or f"±{row.deviation:.4f}" in text, row
    for figure in read_dataset():
        assert f"{figure.value:,}" in sources[figure.source.split(",")[0]], figure
        assert all(f"{count:,}" in sources["datapaper"] for count in figure.classes)
    for rows in read_others().values():
        for row in rows:
            digits = f"{row.value:.2f}" if row.value < 80 else f"{row.value:.1f}".replace(".", ",")
            assert digits in sources[row.source.split(",")[0]], row


def test_the_readme_has_them() -> None:
    for figure in read_dataset():
        assert f"{figure.value:,} {figure.name.split()[0]}" in README, figure
    for row in (row for rows in read_others().values() for row in rows):
        assert f"{row.value:.4g}" in README or f"{row.value / 100:.4f}" in README, row
    assert "U-Net with metadata and augmentation, best run | 0.5593" in README


@pytest.mark.parametrize(
    "words",
    [
        "https://ignf.github.io/FLAIR/#FLAIR2",
        "https://huggingface.co/datasets/IGNF/FLAIR",
        "NeurIPS 2023",
        "ENSG",
        "CNES",
        "FPCUP",
        "GENCI-IDRIS",
        "Licence Ouverte",
    ],
)
def test_the_readme_says_where_the_data_are_from(words: str) -> None:
    assert words in README


def test_toy_means_come_with_their_spread() -> None:
    record = (KIT / "benchmarks/RECORD.md").read_text()
    rows = re.findall(r"\| ([^|]+) \| (0\.\d{4} ±0\.\d{4}) \|", README)
    assert len(rows) == 4
    assert all(value in record for _, value in rows)


def test_nobody_says_that_all_labels_are_constant_on_2_x_2_pixels() -> None:
    notebook = (KIT / "starting_kit/flair-2.ipynb").read_text()
    assert "the labels are constant on 2 x 2 pixels" not in notebook
    assert "labels of the toy data set are constant on 2 x 2 pixels" in notebook
