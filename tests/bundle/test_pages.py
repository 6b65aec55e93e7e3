"""The pages: complete, and with the kit's own numbers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle_files import KIT

from flair_bundle import filling, rules
from flair_ingestion.limits import read_limits
from flair_scoring.base.errors import DataError, UsageError

COMPETITION = yaml.safe_load((KIT / "bundle.yaml").read_text())


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return filling.fill_pages(COMPETITION)


def test_no_page_has_an_unfilled_placeholder(files: dict[str, bytes], pages: dict[str, str]) -> None:
    shipped = {name.removeprefix("pages/"): text.decode() for name, text in files.items() if "pages/" in name}
    assert shipped == pages
    assert not [name for name, text in shipped.items() if "$" in text]


def test_every_page_is_in_the_menu_and_every_entry_of_the_menu_is_a_page(pages: dict[str, str]) -> None:
    menu = [page["file"] for page in COMPETITION["pages"]]
    assert sorted([*menu, COMPETITION["terms"]]) == sorted(f"pages/{name}" for name in pages)


def test_pages_name_each_other_by_their_titles(pages: dict[str, str]) -> None:
    titles = {page["title"] for page in COMPETITION["pages"]} | {"Terms"}
    named = {name for text in pages.values() for name in re.findall(r"page\s+\*([^*]+)\*", text)}
    assert named
    assert named <= titles


def test_limits_are_those_of_limits_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        field.name: 7013.0 + place for place, field in enumerate(dataclasses.fields(read_limits()))
    } | {"ratio": 3.75, "seconds": None}
    limits = dataclasses.replace(read_limits(), **changed)
    monkeypatch.setattr(filling, "read_limits", lambda: limits)
    texts = "\n".join(filling.fill_pages(COMPETITION).values())
    assert "3.75 times the baseline's time" in texts
    for name in ("load", "warmup", "request", "wall"):
        assert f"{changed[f'{name}_seconds']:g} s" in texts
    assert f"{changed['submission_mib']:g} MiB" in texts
    assert f"{changed['memory_gib']:g} GiB" in texts
    for old in ("2.5 times", "7200", "1024 MiB"):
        assert old not in texts


@pytest.mark.parametrize(
    ("ratio", "seconds", "sentence"),
    [
        (2.5, 900.0, "may take 2.5 times the baseline's time on the same machine and at most 900 s."),
        (None, 900.0, "may take 900 s."),
        (None, None, "may take any time it needs."),
    ],
)
def test_the_limit_in_words(
    ratio: float | None, seconds: float | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = dataclasses.replace(read_limits(), ratio=ratio, seconds=seconds)
    monkeypatch.setattr(filling, "read_limits", lambda: limits)
    assert sentence in " ".join(filling.fill_pages(COMPETITION)["overview.md"].split())


def rows(text: str, columns: int) -> list[list[str]]:
    """Cells of the tables with that many columns, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [line for line in cells if len(line) == columns and not line[0].startswith("-")]


def test_the_classes_are_the_data_papers(pages: dict[str, str]) -> None:
    _, *found = rows(pages["data.md"], 5)  # with the shares of Table III
    assert found[0] == ["0", "building", "1", "#db0e9a", "7.13 %"]
    assert found[9] == ["9", "herbaceous vegetation", "10", "#55ff00", "18.24 %"]
    assert found[11] == ["11", "plowed land", "12", "#e4df7c", "3.45 %"]
    assert found[12][4] == "0.75 %"
    assert [line[2] for line in found[:12]] == [str(value) for value in range(1, 13)]
    assert found[12][0] == "12"
    assert re.findall(r"\d+", found[12][2]) == [str(value) for value in range(13, 20)]
    assert len(found) == 13


def test_the_data_page_has_the_papers_figures_and_says_where_to_download(pages: dict[str, str]) -> None:
    text = pages["data.md"]
    figures = dict(rows(text, 2)[1:])
    assert figures["labelled pixels"] == "20,384,841,728"
    assert figures["Sentinel-2 acquisitions"] == "51,244"
    assert figures["km²"] == "817"
    assert {"50", "916", "77,762", "61,712", "16,050"} <= set(figures.values())
    assert "https://ignf.github.io/FLAIR/#FLAIR2" in text
    assert "https://huggingface.co/datasets/IGNF/FLAIR" in text


def test_the_table_to_beat_has_the_papers_best_and_the_podium(pages: dict[str, str]) -> None:
    table = rows(pages["overview.md"], 3)
    assert [line[1] for line in table if "of the challenge" in line[0]] == ["0.6413", "0.6355", "0.6351"]
    assert [line[1] for line in table if line[0].startswith("U-T&T best (filter")] == ["0.5623 ± 0.0056"]
    assert ["U-Net with metadata and augmentation, best run", "0.5593", "data card, leaderboard"] in table


def test_the_overview_says_where_the_baseline_departs_from_the_paper(pages: dict[str, str]) -> None:
    assert "`starting_kit/DEPARTURES.md`" in pages["overview.md"]


def test_phases_are_those_of_bundle_yaml(pages: dict[str, str]) -> None:
    _, *found = rows(pages["overview.md"], 5)
    assert [line[0] for line in found] == ["Development", "Final"]
    for line, phase in zip(found, COMPETITION["phases"], strict=True):
        caps = [str(phase["max_submissions_per_day"]), str(phase["max_submissions"])]
        assert line[1:] == [phase["start"], phase["end"], *caps]


def test_no_page_sends_a_participant_to_a_log_that_the_final_phase_hides(pages: dict[str, str]) -> None:
    assert any(phase.get("hide_output") for phase in COMPETITION["phases"])
    (answer,) = re.findall(r"Where is the reason\?\*\* (.+?)\n\n", pages["faq.md"], re.DOTALL)
    assert answer.startswith("In its *detailed results*, in both phases")
    for name in ("evaluation.md", "submission.md"):
        sentences = " ".join(pages[name].split()).split(". ")
        assert [line for line in sentences if "*detailed results*" in line.lower() and "tell" in line]
        assert not [line for line in sentences if "log" in line.split()]


def test_unknown_placeholders_are_listed_with_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.md").write_text("${ratoi} times")
    (tmp_path / "b.md").write_text("costs 5 $")
    monkeypatch.setattr(filling, "PAGES", tmp_path)
    with pytest.raises(filling.DataError) as caught:
        filling.fill_pages(COMPETITION)
    message = str(caught.value)
    assert "a.md: ${ratoi} is not known" in message
    assert "b.md" in message
    assert "$$" in message


def test_the_numbers_of_requests_are_those_that_ingestion_checks(pages: dict[str, str]) -> None:
    text = pages["submission.md"]
    assert "1 to 32; 1 if left out" in text
    assert "even, 10 to 110; 40 if left out" in text


def test_versions_of_packages_are_those_that_the_image_gets(pages: dict[str, str]) -> None:
    found: dict[str, Any] = dict(rows(pages["packages.md"], 2))
    pins = (KIT / "requirements.lock").read_text() + filling.PACKAGES.read_text()
    for name in filling.package_versions():
        versions = re.findall(rf"^{name}==(\S+)", pins, re.MULTILINE)
        assert versions
        assert all(version in found[name] for version in versions)


@pytest.mark.parametrize(
    ("choices", "allowed", "refused"),
    [
        ({}, "public and named", "FLAIR-INC and FLAIR-HUB count as such"),
        ({"public_weights": "any"}, "public and named", "that others cannot download"),
        ({"public_weights": "none"}, "from random ones", "also those of ImageNet"),
        ({"pseudo_labels": "allowed"}, "your own model has made for them", "corrected by hand"),
    ],
)
def test_rules_are_those_that_the_organizer_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choices: dict[str, str], allowed: str, refused: str
) -> None:
    chosen = {"public_weights": "without_test_domains", "pseudo_labels": "forbidden"} | choices
    (tmp_path / "rules.yaml").write_text("".join(f"{key}: {value}\n" for key, value in chosen.items()))
    monkeypatch.setattr(filling, "read_rules", lambda: rules.read_rules(tmp_path / "rules.yaml"))
    texts = filling.fill_pages(COMPETITION)
    rows = [line.strip("|").split("|") for line in texts["rules.md"].splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {2}
    assert any(allowed in row[0] for row in rows)
    assert any(refused in row[1] for row in rows)
    assert f"{rules.WORDS['pseudo_labels'][chosen['pseudo_labels']][2]}" in texts["faq.md"]


def test_the_rules_of_the_kit_are_complete() -> None:
    assert set(rules.read_rules()) == {
        f"{key}_{part}" for key in rules.WORDS for part in ("allowed", "not_allowed", "answer")
    }


def test_unknown_rules_are_listed_together(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("public_weights: some\nensembles: allowed\n")
    with pytest.raises(DataError) as caught:
        rules.read_rules(path)
    for part in ("unknown key ensembles", "public_weights: 'some'; choose one of any", "pseudo_labels: None"):
        assert part in str(caught.value)
    path.write_text("- any\n")
    with pytest.raises(DataError, match="expected lines of key: choice"):
        rules.read_rules(path)
    with pytest.raises(UsageError, match="cannot be read"):
        rules.read_rules(tmp_path / "absent.yaml")
