"""The operations guide and the pages: files, switches and targets that they name exist."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import yaml
from bundle_files import KIT

from flair_bundle.schema import COMPETITION, PHASE, parse_date
from gpu import MINUTES, list_parts

GUIDE = (KIT / "bundle/README.md").read_text()
PAGES = "\n".join(path.read_text() for path in (KIT / "bundle/pages").glob("*.md"))


def test_the_files_of_the_table_exist() -> None:
    table = GUIDE.split("## 1.")[0]
    names = re.findall(r"`([\w./]+\.\w+|[\w./]+/|Dockerfile)`", table)
    assert len(names) > 8
    assert not [name for name in names if not (KIT / "bundle" / name).exists()]


def test_switches_that_hide_are_those_of_the_schema() -> None:
    switches = set(re.findall(r"`(hide_\w+|registration_\w+|auto_\w+|make_\w+_available)", GUIDE))
    assert len(switches) > 4
    assert switches <= set(COMPETITION) | set(PHASE)


def test_limits_that_the_guide_shortens_exist() -> None:
    limits = yaml.safe_load((KIT / "ingestion_program/limits.yaml").read_text())
    assert set(re.findall(r"`(\w+_seconds)`", GUIDE)) <= set(limits)


def read_sources() -> str:
    """The text of all programs, with the parts of each message joined, and placeholders as …."""
    paths = [
        path
        for folder in ("bundle", "ingestion_program", "scoring_program", "starting_kit")
        for path in (KIT / folder).rglob("*.py")
    ]
    joined = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in paths))
    return re.sub(r"\{[^{}\n]*\}", "…", joined)


def test_messages_of_the_table_are_those_of_the_programs() -> None:
    rows = GUIDE.split("## What a message means")[1].split("\n\n")[2].splitlines()[2:]
    told = [re.findall(r"`([^`]+)`", row.split(" | ")[1]) for row in rows]
    of_others = {"No matching distribution found", "-dirty"}  # pip's and git's
    messages = {message for found in told for message in found} - of_others
    sources = read_sources()
    assert len(messages) > 20
    parts = {
        message: [part for part in re.split(r"\s*…\s*", message) if part.strip("-)( ")]
        for message in messages
    }
    assert [message for message, found in parts.items() if not all(part in sources for part in found)] == []


def test_the_worker_gets_every_setting_that_the_guide_explains() -> None:
    part = GUIDE.split("## 4.")[1].split("## 5.")[0]
    settings = dict(re.findall(r"^([A-Z_]+)=(\S+)$", part, re.MULTILINE))
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", part, re.MULTILINE))
    assert explained == settings.keys()
    assert settings["BROKER_USE_SSL"] == "True"
    assert settings["USE_GPU"] == settings["COMPETITION_CONTAINER_NETWORK_DISABLED"] == "true"
    folder = settings["HOST_DIRECTORY"]
    assert part.count(f"-v {folder}:{folder}") == 2  # docker and podman, under the same path


def test_the_dates_for_a_rehearsal_are_in_order_and_past() -> None:
    rows = re.findall(r'^\| \w+ \| `"([\d: -]+)"` \| `"([\d: -]+)"` \|$', GUIDE, re.MULTILINE)
    (first, end), (second, _) = [tuple(map(parse_date, row)) for row in rows]
    assert first < end < second < datetime.datetime.now()
    phases = yaml.safe_load((KIT / "bundle.yaml").read_text())["phases"]
    assert [phase["name"] for phase in phases] == re.findall(r'^\| (\w+) \| `"', GUIDE, re.MULTILINE)
    assert parse_date(phases[-1]["end"]) == parse_date(rows[-1][1])


def test_the_seconds_of_a_whole_test_set_are_in_the_record() -> None:
    text = " ".join(GUIDE.split("**How many submissions a day**")[1].split("## 5.")[0].split())
    lines = (KIT / "benchmarks/RECORD.md").read_text().splitlines()
    record = "\n".join(line for line in lines if "benchmarks/full_scale.py`" in line)
    for sentence, figure in {
        "Read as on CUDA": r"as on CUDA ([\d.]+) s",
        "Read as on the CPU": r"as on the CPU ([\d.]+) s",
        "Scoring took": r"score\.py ([\d.]+) s",
    }.items():
        assert sentence in text
        told = text.split(sentence)[1].split(". ")[0].split(";")[0]
        seconds = re.findall(r"\b(\d+)(?= s\b| to \d)", told)
        assert len(seconds) > 1
        assert set(seconds) <= {str(int(float(found) + 0.5)) for found in re.findall(figure, record)}


def test_parts_of_make_gpu_may_find_no_time_and_then_have_commands() -> None:
    parts = list_parts(Path("DATA"), Path("OUT"))
    assert sum(part.seconds for part in parts) > 60 * MINUTES
    commands = dict(re.findall(r"^python (benchmarks/.+?) +# (.+)$", GUIDE.split("## 4.")[0], re.MULTILINE))
    shown = ("inference", "test set")
    assert commands == {" ".join(part.gpu): part.name for part in parts if part.name in shown}
    told = " ".join(GUIDE.split("`make gpu` on the worker")[1].split("```")[0].split())
    assert "*not run: no time was left*" in told
    names = [part.name for part in parts]
    subjects = ["sandbox", "timed run", "submissions", "tests", "inference", "training", "test set"]
    assert sorted(subjects, key=told.index) == subjects
    order = ["training step" if subject == "training" else subject for subject in subjects]
    assert sorted(order, key=names.index) == order
