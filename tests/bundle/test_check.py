"""--check finds what the platform refuses, ignores or lets through, and nothing in a sound bundle."""

from __future__ import annotations

import copy
import datetime
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bundle_files import KIT, pack, read_zip, run_build
from PIL import Image

from flair_bundle.check import Findings, check_bundle, read_competition
from flair_bundle.schema import COMPETITION
from flair_scoring.base.errors import DataError

NOW = datetime.datetime(2027, 2, 1)  # in the first phase
QUEUE = "b1a0ffa0-1111-4222-8333-444444444444"
# What is said of every bundle that names a queue
QUEUE_REMARK = f"queue: only the upload shows whether the platform has {QUEUE} and lets you use it"


@dataclass
class Release:
    """A bundle in memory, ready for the upload until something is changed."""

    competition: dict[str, Any]
    files: dict[str, bytes]
    raw: bytes | None = None  # in place of competition's YAML

    def change(self, zip_name: str, **inner: bytes | None) -> None:
        """Replace or remove (None) files of an inner zip; in names `__` is a slash and `_DOT_` a dot."""
        content = read_zip(self.files[zip_name])
        for key, value in inner.items():
            name = key.replace("__", "/").replace("_DOT_", ".")
            content.pop(name, None)
            if value is not None:
                content[name] = value
        self.files[zip_name] = pack(content)

    def write(self, path: Path) -> Path:
        text = yaml.safe_dump(self.competition, sort_keys=False).encode() if self.raw is None else self.raw
        path.write_bytes(pack({"competition.yaml": text, **self.files}))
        return path


@pytest.fixture(scope="module")
def sound(files: dict[str, bytes], competition: dict[str, Any]) -> Release:
    """As build.py wrote it, with what an organizer adds; not to be changed."""
    sound = Release(copy.deepcopy(competition), dict(files))
    del sound.files["competition.yaml"]
    sound.competition |= {"docker_image": "someone/flair2-kit:1.0", "queue": QUEUE}
    for program in ("ingestion_program.zip", "scoring_program.zip"):
        sound.change(program, flair_scoring__COMMIT=b"0123456789abcdef")
    sound.change("ingestion_program.zip", reference_submission__weights_DOT_safetensors=b"trained")
    return sound


@pytest.fixture
def release(sound: Release) -> Release:
    return Release(copy.deepcopy(sound.competition), dict(sound.files))


def set_at(*path: Any, value: Any) -> Callable[[Release], None]:
    """A change of one place of competition.yaml; a value of DELETE removes it."""

    def change(release: Release) -> None:
        *folders, last = path
        place = release.competition
        for key in folders:
            place = place[key]
        if value is DELETE:
            del place[last]
        else:
            place[last] = value

    return change


DELETE = object()
COLUMNS = ("leaderboards", 0, "columns")


def program(name: str, **inner: bytes | None) -> Callable[[Release], None]:
    return lambda release: release.change(name, **inner)


def file(name: str, content: bytes | None) -> Callable[[Release], None]:
    def change(release: Release) -> None:
        release.files.pop(name, None)
        if content is not None:
            release.files[name] = content

    return change


def both(*changes: Callable[[Release], None]) -> Callable[[Release], None]:
    def change(release: Release) -> None:
        for one in changes:
            one(release)

    return change


def yaml_text(old: str, new: str) -> Callable[[Release], None]:
    def change(release: Release) -> None:
        text = yaml.safe_dump(release.competition, sort_keys=False)
        assert old in text
        release.raw = text.replace(old, new).encode()

    return change


def command(text: str) -> bytes:
    return yaml.safe_dump({"command": text}).encode()


def one_domain(release: Release) -> None:
    kept = {
        name: content
        for name, content in read_zip(release.files["reference_data_final.zip"]).items()
        if name.startswith("D015_2020")
    }
    release.files["reference_data_final.zip"] = pack(kept)


def one_mask(release: Release) -> None:
    masks = read_zip(release.files["reference_data_final.zip"])
    del masks[max(masks)]
    release.files["reference_data_final.zip"] = pack(masks)


def flat(release: Release) -> None:
    masks = read_zip(release.files["reference_data_final.zip"])
    release.files["reference_data_final.zip"] = pack(
        {name.rsplit("/", 1)[-1]: content for name, content in masks.items()}
    )


def leak(release: Release) -> None:
    (mask, *_) = read_zip(release.files["reference_data_final.zip"]).values()
    release.change("starting_kit.zip", tests__sample_DOT_tif=mask)


def labels_among_inputs(release: Release) -> None:
    release.change("input_data_final.zip", MSK_077413_DOT_tif=b"labels")


def folder_instead_of_zip(slash: str) -> Callable[[Release], None]:
    def change(release: Release) -> None:
        for name, content in read_zip(release.files.pop("scoring_program.zip")).items():
            release.files[f"scoring_program/{name}"] = content
        for task in release.competition["tasks"]:
            task["scoring_program"] = f"scoring_program{slash}"

    return change


def wrapped(release: Release) -> None:
    inner = read_zip(release.files["scoring_program.zip"])
    release.files["scoring_program.zip"] = pack({f"scoring_program/{n}": c for n, c in inner.items()})


def phases_out_of_order(release: Release) -> None:
    release.competition["phases"][1]["start"] = "2027-04-01 00:00:00"


def second_leaderboard(release: Release) -> None:
    (board,) = release.competition["leaderboards"]
    release.competition["leaderboards"].append(board | {"key": "second"})


def reference_switched_off(release: Release) -> None:
    limits = (KIT / "ingestion_program/limits.yaml").read_bytes().replace(b"ratio: 2.5", b"ratio: null")
    release.change("ingestion_program.zip", limits_DOT_yaml=limits)


def longer_wall(release: Release) -> None:
    limits = (KIT / "ingestion_program/limits.yaml").read_bytes()
    release.change(
        "ingestion_program.zip",
        limits_DOT_yaml=limits.replace(b"wall_seconds: 7200", b"wall_seconds: 9000"),
    )


# What is broken -> how, and a part of the sentence that must be among the problems
BREAKS: dict[str, tuple[Callable[[Release], None], str]] = {
    # the top of competition.yaml
    "a title is missing": (set_at("title", value=DELETE), "'title' is missing"),
    "a title that is empty": (set_at("title", value=""), "title is ''; expected a text of 1 to 256"),
    "a title that is too long": (set_at("title", value="x" * 257), "1 to 256 characters; it has 257"),
    "no version": (set_at("version", value=DELETE), "'version' is missing"),
    "version 1": (set_at("version", value=1), "version is 1; expected 2"),
    "version 2.0": (set_at("version", value="2.0"), "version is '2.0'; expected 2"),
    "version 2.0 as a number": (
        set_at("version", value=2.0),
        "version is 2.0; expected 2 without a point: the platform does not take 2.0",
    ),
    "an unknown key": (
        set_at("docker_img", value="x"),
        "'docker_img'; did you mean 'docker_image'?",
    ),
    "a starting kit at the top": (
        set_at("starting_kit", value="starting_kit.zip"),
        "does not read 'starting_kit'",
    ),
    "a path where a boolean belongs": (
        set_at("make_programs_available", value="programs.zip"),
        "make_programs_available is 'programs.zip'; expected true or false",
    ),
    "another type of competition": (
        set_at("competition_type", value="game"),
        "expected competition, benchmark",
    ),
    "a queue by its name": (set_at("queue", value="my queue"), "queue is 'my queue'; expected the UUID"),
    "no e-mail": (set_at("contact_email", value="me"), "expected an e-mail address"),
    "an e-mail with a top-level domain of one letter": (
        set_at("contact_email", value="me@example.f"),
        "contact_email is 'me@example.f'; expected an e-mail address such as name@example.org",
    ),
    "a NUL character in a title": (
        set_at("title", value="FLAIR\0#2"),
        "competition.yaml: title holds the character U+0000, which the platform cannot store; remove it",
    ),
    "half a character in a column's title": (
        yaml_text("title: mIoU\n", 'title: "m\\ud83dIoU"\n'),
        "competition.yaml: leaderboards[0].columns[0].title holds the character U+D83D",
    ),
    "a NUL character in a key": (
        set_at("fact_sheet", value={"te\0am": {}}),
        "competition.yaml: a key of fact_sheet holds the character U+0000",
    ),
    "a NUL character in a page": (
        file("pages/faq.md", b"# Questions\0"),
        "pages/faq.md holds the character U+0000",
    ),
    "a reward that is too long": (set_at("reward", value="x" * 257), "reward is"),
    "an empty question": (
        set_at("fact_sheet", value={"team": {"key": "team"}}),
        "fact_sheet.team: 'type' is missing",
    ),
    "a question under another name": (
        set_at(
            "fact_sheet",
            value={
                "team": {
                    **{"key": "Team", "type": "text", "title": "Team", "selection": ""},
                    **{"is_required": "false", "is_on_leaderboard": "false"},
                }
            },
        ),
        "fact_sheet.team: key is 'Team'; expected 'team', as the question is listed",
    ),
    "a fact sheet that is a list": (set_at("fact_sheet", value=[]), "fact_sheet: is []"),
    # image and pages
    "no image tag": (set_at("docker_image", value="someone/kit"), "with a tag that is not latest"),
    "a registry's port is no tag": (
        set_at("docker_image", value="host:5000/kit"),
        "with a tag that is not latest",
    ),
    "the tag latest": (set_at("docker_image", value="someone/kit:latest"), "with a tag that is not latest"),
    "an image name that is too long": (
        set_at("docker_image", value="x" * 130 + ":1"),
        "at most 128 characters",
    ),
    "no default image": (set_at("docker_image", value=DELETE), "'docker_image' is missing"),
    "an image that nobody has": (set_at("docker_image", value=""), "docker_image is ''"),
    "a logo that is missing": (file("logo.png", None), "image: logo.png is not in the bundle"),
    "a logo that is text": (file("logo.png", b"<svg/>"), "image: logo.png does not decode"),
    "a logo that is cut off": (
        file("logo.png", (KIT / "bundle/logo.png").read_bytes()[:500]),
        "does not decode",
    ),
    "a logo with another ending": (
        both(file("logo.bmp", (KIT / "bundle/logo.png").read_bytes()), set_at("image", value="logo.bmp")),
        "expected a name that ends in .jpeg",
    ),
    "terms that are missing": (file("pages/terms.md", None), "terms: pages/terms.md is not in the bundle"),
    "terms of one space": (file("pages/terms.md", b" "), "terms: pages/terms.md is empty"),
    "terms named by a space": (set_at("terms", value=" "), "terms is ' '; expected a text of 1 to"),
    "an empty page": (file("pages/faq.md", b" \n"), "pages/faq.md is empty"),
    "a page in Latin-1": (file("pages/faq.md", "département".encode("latin-1")), "pages/faq.md is not UTF-8"),
    "a page without title": (set_at("pages", 0, "title", value=DELETE), "pages[0]: 'title' is missing"),
    "pages that are no list": (set_at("pages", value=None), "pages is None; expected a list"),
    # tasks
    "no tasks": (set_at("tasks", value=[]), "tasks is []; expected a list with at least one entry"),
    "a task without index": (set_at("tasks", 0, "index", value=DELETE), "tasks[0]: 'index' is missing"),
    "a task's index twice": (set_at("tasks", 1, "index", value=0), "the index 0 is taken"),
    "a task's name that is too long": (set_at("tasks", 0, "name", value="x" * 257), "tasks[0]: name is"),
    "a task without scoring": (
        set_at("tasks", 0, "scoring_program", value=DELETE),
        "'scoring_program' is missing",
    ),
    "a task without ingestion": (
        set_at("tasks", 0, "ingestion_program", value=DELETE),
        "no ingestion_program",
    ),
    "a program that is missing": (
        set_at("tasks", 0, "scoring_program", value="score.zip"),
        "tasks[0].scoring_program: score.zip is not in the bundle",
    ),
    "a task's key that is no UUID": (set_at("tasks", 0, "key", value="7"), "key is '7'; expected the UUID"),
    "both programs at once": (
        set_at("tasks", 0, "ingestion_only_during_scoring", value=True),
        "ingestion_only_during_scoring is True; expected False",
    ),
    "no inputs": (
        set_at("tasks", 0, "input_data", value=DELETE),
        "tasks[0]: no input_data; build with --data",
    ),
    "no references": (set_at("tasks", 0, "reference_data", value=DELETE), "tasks[0]: no reference_data"),
    # programs
    "a program that is text": (file("scoring_program.zip", b"score"), "scoring_program.zip is not a zip"),
    "a program zipped with its folder": (wrapped, "lies in a folder: zip the files, not their folder"),
    "a program's folder without slash": (folder_instead_of_zip(""), "write the folder as 'scoring_program/'"),
    "no command": (
        program("scoring_program.zip", metadata_DOT_yaml=b"description: x"),
        "needs a line such as",
    ),
    "metadata that is no YAML": (
        program("scoring_program.zip", metadata_DOT_yaml=b"{"),
        "needs a line such as",
    ),
    "a command for a shell": (
        program("scoring_program.zip", metadata_DOT_yaml=command("python3 score.py --platform && true")),
        "needs a shell",
    ),
    "a command with a variable": (
        program("scoring_program.zip", metadata_DOT_yaml=command("python3 score.py $input --platform")),
        "has a variable; write the path that it means",
    ),
    "a folder that scoring has not": (
        program(
            "scoring_program.zip", metadata_DOT_yaml=command("python3 score.py /app/input_data --platform")
        ),
        "names /app/input_data; its container has /app/program, /app/input/res",
    ),
    "a folder that ingestion has not": (
        program(
            "ingestion_program.zip",
            metadata_DOT_yaml=command(
                "python3 ingest.py /app/input_data /app/ingestion_program /app/output --platform"
            ),
        ),
        "names /app/ingestion_program; its container has",
    ),
    "a command without its script": (
        program("scoring_program.zip", score_DOT_py=None),
        "a file of the program",
    ),
    "a command that trusts everything": (
        program("scoring_program.zip", metadata_DOT_yaml=command("python3 score.py a b")),
        "lacks --platform",
    ),
    "no key": (program("scoring_program.zip", signing_DOT_key=None), "scoring_program.zip: no signing.key"),
    "two keys": (program("scoring_program.zip", signing_DOT_key=b"another"), "hold different signing.key"),
    "the key in the starting kit": (
        program("starting_kit.zip", signing_DOT_key=b"k"),
        "starting_kit.zip: holds signing.key",
    ),
    "uncommitted changes": (
        program("scoring_program.zip", flair_scoring__COMMIT=b"abc-dirty"),
        "commit abc-dirty",
    ),
    "no commit": (program("scoring_program.zip", flair_scoring__COMMIT=None), "commit unknown"),
    "no limits": (program("ingestion_program.zip", limits_DOT_yaml=None), "no limits.yaml"),
    "limits that are wrong": (program("ingestion_program.zip", limits_DOT_yaml=b"ratio: -1"), "ratio is -1"),
    "no reference submission": (
        program("ingestion_program.zip", reference_submission__model_DOT_py=None),
        "the unit of the time limit",
    ),
    "an untrained reference": (
        program("ingestion_program.zip", reference_submission__weights_DOT_safetensors=None),
        "the reference is untrained",
    ),
    "inputs in two places": (
        program(
            "ingestion_program.zip",
            metadata_DOT_yaml=command(
                "python3 ingest.py /app/data/x /app/ingested_program /app/output --platform"
            ),
        ),
        "so leave input_data out",
    ),
    # data
    "labels among the inputs": (labels_among_inputs, "tasks[1].input_data: holds 1 label masks"),
    "labels in the starting kit": (
        leak,
        "starting_kit.zip: holds files of the references: tests/sample.tif",
    ),
    "one domain": (one_domain, "masks of 1 domains"),
    "references without domains": (flat, "masks of 0 domains"),
    "one mask in a domain": (one_mask, "one mask only in D026_2020; participants get a matrix"),
    "other patches": (
        set_at("tasks", 0, "reference_data", value="logo.zip"),
        "logo.zip is not in the bundle",
    ),
    "references of fewer patches": (one_domain, "6 images, reference_data 2 masks"),
    "no masks": (file("reference_data_final.zip", pack({"a": b"b"})), "no masks MSK_<6 digits>.tif"),
    # phases
    "no phases": (set_at("phases", value=[]), "phases is []"),
    "a phase without name": (set_at("phases", 0, "name", value=DELETE), "phases[0]: 'name' is missing"),
    "an unknown cap": (
        set_at("phases", 0, "max_submissions_per_person", value=9),
        "'max_submissions_per_person'; did you mean 'max_submissions",
    ),
    "a cap of 0": (set_at("phases", 0, "max_submissions_per_day", value=0), "0 would be no limit"),
    "no cap": (set_at("phases", 0, "max_submissions", value=None), "max_submissions is None"),
    "half a second": (
        set_at("phases", 0, "execution_time_limit", value=7500.5),
        "execution_time_limit is 7500.5",
    ),
    "no time": (set_at("phases", 0, "execution_time_limit", value=0), "0 would be 600"),
    "too short a phase": (set_at("phases", 0, "execution_time_limit", value=7499), "set at least 7500"),
    "the default time": (
        set_at("phases", 0, "execution_time_limit", value=DELETE),
        "is 600 s; ingestion alone",
    ),
    "longer ingestion": (longer_wall, "set at least 9300"),
    "no queue": (set_at("queue", value=DELETE), "the default queue stops after 600 s"),
    "an unknown task": (
        set_at("phases", 0, "tasks", value=[7]),
        "phases[0]: there is no task 7; known are 0, 1",
    ),
    "a phase without tasks": (set_at("phases", 0, "tasks", value=[]), "phases[0]: tasks is []"),
    "migration into the first phase": (
        set_at("phases", 0, "auto_migrate_to_this_phase", value=True),
        "refused in the first phase",
    ),
    "a starting kit that is missing": (
        set_at("phases", 0, "starting_kit", value="kit.zip"),
        "kit.zip is not in the",
    ),
    "no starting kit, said with null": (
        set_at("phases", 0, "starting_kit", value=None),
        "starting_kit is None",
    ),
    # dates
    "a date without quotes": (
        yaml_text("'2027-01-11 00:00:00'", "2027-01-11 08:00:00"),
        "the platform cuts an unquoted date",
    ),
    "a day without quotes": (yaml_text("'2027-01-11 00:00:00'", "2027-01-11"), "cuts an unquoted date"),
    "an offset": (
        set_at("phases", 0, "start", value="2027-01-11 00:00:00+01:00"),
        "an offset would be dropped",
    ),
    "a day that does not exist": (
        set_at("phases", 0, "end", value="2027-02-30 00:00:00"),
        "end is '2027-02-30",
    ),
    "a month first": (set_at("phases", 0, "start", value="01-11-2027"), 'expected "YYYY-MM-DD HH:MM:SS"'),
    "no start": (set_at("phases", 0, "start", value=DELETE), "phases[0]: 'start' is missing"),
    "an open phase before another": (set_at("phases", 0, "end", value=DELETE), "only the last may be open"),
    "an end before the start": (
        set_at("phases", 0, "end", value="2027-01-01 00:00:00"),
        "not after its start",
    ),
    "phases that overlap": (
        phases_out_of_order,
        "phases[1]: starts at 2027-04-01 00:00:00, not after the end",
    ),
    "phases that touch": (
        set_at("phases", 1, "start", value="2027-04-11 23:59:59"),
        "phases[1]: starts at 2027-04-11 23:59:59, not after the end",
    ),
    "dates of the past": (
        both(
            *(
                set_at("phases", 1, key, value=f"2026-{m}-01 00:00:00")
                for key, m in (("start", "05"), ("end", "06"))
            ),
            set_at("phases", 0, "start", value="2026-03-01 00:00:00"),
            set_at("phases", 0, "end", value="2026-04-01 00:00:00"),
        ),
        "the last phase has ended",
    ),
    # solutions
    "a solution without path": (
        set_at("solutions", 0, "path", value=DELETE),
        "solutions[0]: needs a path or a key",
    ),
    "a solution that is missing": (
        file("solution_trivial.zip", None),
        "solution_trivial.zip is not in the bundle",
    ),
    "a solution of no task": (set_at("solutions", 0, "tasks", value=[5]), "solutions[0]: there is no task 5"),
    "a solution without index": (set_at("solutions", 0, "index", value=DELETE), "'index' is missing"),
    "a solution without model": (file("solution_trivial.zip", pack({"a.py": b""})), "has no model.py"),
    # leaderboards
    "no leaderboard": (set_at("leaderboards", value=[]), "leaderboards is []"),
    "the old key": (set_at("leaderboard", value=[]), "did you mean 'leaderboards'?"),
    "two leaderboards": (second_leaderboard, "every phase uses the first"),
    "a rule in other letters": (
        set_at("leaderboards", 0, "submission_rule", value="force_best"),
        "exactly so",
    ),
    "a title of 65 characters": (set_at("leaderboards", 0, "title", value="x" * 65), "1 to 64 characters"),
    "a key of 37 characters": (set_at("leaderboards", 0, "key", value="x" * 37), "1 to 36 characters"),
    "no columns": (set_at(*COLUMNS, value=[]), "columns is []"),
    "a column's title of 37 characters": (set_at(*COLUMNS, 3, "title", value="x" * 37), "1 to 36 characters"),
    "a column's key twice": (set_at(*COLUMNS, 3, "key", value="miou"), "the key 'miou' occurs 2 times"),
    "a column's index twice": (set_at(*COLUMNS, 3, "index", value=0), "the index 0 is taken"),
    "a column that nobody fills": (
        set_at(*COLUMNS, 3, "key", value="accuracy"),
        "scoring does not write 'accuracy', so no row has a value there, and such rows come first in some "
        "versions of the platform and last in others; it writes miou, ",
    ),
    "a ratio without reference": (reference_switched_off, "scoring does not write 'time_ratio'"),
    "descending": (
        set_at(*COLUMNS, 0, "sorting", value="descending"),
        "sorting is 'descending'; expected desc, asc",
    ),
    "the worst first": (set_at(*COLUMNS, 0, "sorting", value="asc"), "which sorts desc"),
    "another primary column": (set_at("leaderboards", 0, "primary_index", value=1), "primary_index must be"),
    "a primary column that is not there": (
        set_at("leaderboards", 0, "primary_index", value=99),
        "primary_index must be",
    ),
    "two digits": (set_at(*COLUMNS, 0, "precision", value=2), "precision 2 of miou hides differences"),
    "a precision below 0": (set_at(*COLUMNS, 4, "precision", value=-1), "precision is -1"),
    "an unknown computation": (
        both(
            set_at(*COLUMNS, 4, "computation", value="mean"),
            set_at(*COLUMNS, 4, "computation_indexes", value=[0]),
        ),
        "expected avg, sum, min, max, avg_rank",
    ),
    "a computation of nothing": (set_at(*COLUMNS, 4, "computation", value="avg"), "need each other"),
    "a computation in a text": (
        both(
            set_at(*COLUMNS, 4, "computation", value="avg"),
            set_at(*COLUMNS, 4, "computation_indexes", value="0,1"),
        ),
        "expected a list of whole numbers",
    ),
    "a computation of itself": (
        both(
            set_at(*COLUMNS, 4, "computation", value="avg"),
            set_at(*COLUMNS, 4, "computation_indexes", value=[4]),
        ),
        "is computed from itself",
    ),
    "a computation of a column that is not there": (
        both(
            set_at(*COLUMNS, 4, "computation", value="avg"),
            set_at(*COLUMNS, 4, "computation_indexes", value=[77]),
        ),
        "column 77, which does not exist",
    ),
    # the zip
    "an empty competition.yaml": (lambda release: setattr(release, "raw", b""), "empty, or not a mapping"),
    "a YAML error": (lambda release: setattr(release, "raw", b"title: ["), "not valid YAML (line 1: "),
    "YAML in Latin-1": (
        lambda release: setattr(release, "raw", "title: é".encode("latin-1")),
        "line 1 is not UTF-8 (byte 0xe9); save the file as UTF-8",
    ),
}


def test_a_sound_bundle_passes(release: Release, tmp_path: Path) -> None:
    assert check_bundle(release.write(tmp_path / "bundle.zip"), NOW) == ([], [], [QUEUE_REMARK])


@pytest.mark.parametrize("name", BREAKS)
def test_each_fault_is_found(release: Release, tmp_path: Path, name: str) -> None:
    break_it, sentence = BREAKS[name]
    break_it(release)
    problems, notes, _ = check_bundle(release.write(tmp_path / "bundle.zip"), NOW)
    assert any(sentence in problem for problem in problems), "\n".join(problems)
    assert not notes


AVERAGE_RANK = {"computation": "avg_rank", "computation_indexes": [0, 3]}
# What only some versions of the platform know, or what nobody can know before the upload -> what is remarked
REMARKED: dict[str, tuple[Callable[[Release], None], list[str]]] = {
    "a mean rank": (
        lambda release: release.competition["leaderboards"][0]["columns"][4].update(AVERAGE_RANK),
        [
            "leaderboards[0].columns[4]: only the platform's versions from 1.29 on know the computation "
            "avg_rank; older ones refuse the bundle"
        ],
    ),
    "groups": (
        set_at("groups", value=[{"name": "students", "queue": QUEUE}]),
        [
            "groups: only some versions of the platform read this key; on the others the submissions of all "
            "groups go to the competition's queue"
        ],
    ),
    "groups of another kind": (
        set_at("groups", value=[{"name": "students", "que": QUEUE}]),
        [
            "groups: only some versions of the platform read this key; on the others the submissions of all "
            "groups go to the competition's queue",
            "groups[0]: 'queue' is missing",
            "groups[0]: the platform does not read 'que'; did you mean 'queue'?",
        ],
    ),
    "groups that are no list": (
        set_at("groups", value="students"),
        [
            "groups: only some versions of the platform read this key; on the others the submissions of all "
            "groups go to the competition's queue",
            "groups: is 'students'; expected a list of entries with name and queue",
        ],
    ),
    "a first phase in the future": (
        set_at("phases", 0, "start", value="2027-02-02 00:00:00"),
        [
            "phases[0]: starts at 2027-02-02 00:00:00, in the future; until then the site refuses even the "
            "organizer's own rehearsal: set the start of every phase to the past first"
        ],
    ),
}


@pytest.mark.parametrize("name", REMARKED)
def test_what_an_upload_may_do_is_remarked_and_refuses_nothing(
    release: Release, tmp_path: Path, name: str
) -> None:
    change, expected = REMARKED[name]
    change(release)
    problems, notes, remarks = check_bundle(release.write(tmp_path / "bundle.zip"), NOW)
    assert (problems, notes) == ([], [])
    assert [remark for remark in remarks if remark != QUEUE_REMARK] == expected


# Judged by Django's EmailValidator, which the platform's importer uses
EMAILS = {
    True: [
        *("a@b.fr", "a.b+c@ign.fr", "o'neil@x-y.example", "a@b.museum", "a@münchen.de", "a@b.xn--p1ai"),
        *("1@1.co", "a@b.c-d"),
    ],
    False: [
        *("a@b.f", "a@b", "a@b.cd-", "a@-b.fr", "a@b-.fr", "a@b..fr", "a@.fr", "a@b.fr.", "@b.fr", "a@"),
        *(".a@b.fr", "a.@b.fr", "a..b@b.fr", "a b@c.fr", "a@b@c.fr", "é@b.fr", "a@b_c.fr", "a,b@c.fr"),
        *("a@1.22", "", f"a@{'b' * 64}.fr", f"a@b.{'f' * 64}", f"{'a' * 312}@b.fr.org"),
    ],
}


@pytest.mark.parametrize("fine", EMAILS)
def test_the_e_mail_addresses_that_the_platform_takes(fine: bool) -> None:
    judge = COMPETITION["contact_email"]
    assert [address for address in EMAILS[fine] if (judge(address) is None) != fine] == []


def test_other_ways_to_say_it_pass(release: Release, tmp_path: Path) -> None:
    folder_instead_of_zip("/")(release)
    release.competition["version"] = "2"
    del release.competition["phases"][1]["end"]
    release.competition["tasks"].append({"index": "old", "key": QUEUE})
    release.competition["phases"][1]["tasks"].append("old")
    release.competition["docker_image"] = "host:5000/kit@sha256:" + "0" * 40
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    release.files["logo.JPG"], release.competition["image"] = picture.getvalue(), "logo.JPG"
    assert check_bundle(release.write(tmp_path / "bundle.zip"), NOW) == ([], [], [QUEUE_REMARK])


def test_inputs_on_the_worker_pass(release: Release, tmp_path: Path) -> None:
    text = "python3 ingest.py /app/data/flair2 /app/ingested_program /app/output --platform --device cuda"
    release.change("ingestion_program.zip", metadata_DOT_yaml=command(text))
    for task in release.competition["tasks"]:
        del release.files[task.pop("input_data")]
    assert check_bundle(release.write(tmp_path / "bundle.zip"), NOW) == ([], [], [QUEUE_REMARK])


def test_what_the_inputs_lack_of_the_data_set_is_remarked(release: Release, tmp_path: Path) -> None:
    for name in ("input_data_final.zip", "reference_data_final.zip"):
        part = read_zip(release.files[name])
        release.files[name] = pack(
            {file: part[file] for file in part if "07741" not in file or "077413" in file}
        )
    *_, remarks = check_bundle(release.write(tmp_path / "bundle.zip"), NOW)
    assert remarks == [
        QUEUE_REMARK,
        "tasks[1].input_data: 1 of the 6 test patches known to flair_aerial_metadata.json are here; missing: "
        "all of D022_2021, D026_2020, and 1 patch of D015_2020",
    ]


def test_all_problems_come_at_once(release: Release, tmp_path: Path) -> None:
    for name in ("a title is missing", "a logo that is text", "no key", "an offset", "descending"):
        BREAKS[name][0](release)
    problems, *_ = check_bundle(release.write(tmp_path / "bundle.zip"), NOW)
    assert len(problems) >= 5


def test_a_bundle_that_is_too_large(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = release.write(tmp_path / "bundle.zip")
    monkeypatch.setattr("flair_bundle.check.LARGE_BYTES", path.stat().st_size - 1)
    assert "have been seen to hang" in check_bundle(path, NOW)[0][0]
    monkeypatch.setattr("flair_bundle.check.MAX_BYTES", path.stat().st_size - 1)
    assert "a user may store" in check_bundle(path, NOW)[0][0]


@pytest.mark.parametrize("name", ["bundle.yaml", "competition.yml", "Competition.yaml", "x/competition.yaml"])
def test_the_one_name_that_the_platform_opens(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(pack({name: b"version: 2"}))
    assert check_bundle(path, NOW)[0] == [
        f"no competition.yaml at the root of the zip, exactly that name; it has {name}"
    ]


def test_a_bundle_for_use_at_home_says_so_and_what_an_upload_needs(built: Path) -> None:
    done = run_build("--check", built)
    assert done.returncode == 0, done.stderr
    assert "local only" in done.stdout
    for sentence in ("--image NAME:TAG", "set a queue of your own", "the reference is untrained"):
        assert sentence in done.stdout


def test_a_broken_bundle_exits_with_2_and_no_traceback(release: Release, tmp_path: Path) -> None:
    BREAKS["descending"][0](release)
    done = run_build("--check", release.write(tmp_path / "bundle.zip"))
    assert done.returncode == 2
    assert "sorting is 'descending'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("content", "sentence"), [(None, "cannot be read"), (b"text", "not a zip file")])
def test_what_is_no_bundle(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    if content is not None:
        path.write_bytes(content)
    done = run_build("--check", path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bundle.zip")
    with pytest.raises(DataError, match=r"bundle\.zip: cannot be read \(it is a pipe\)"):
        check_bundle(tmp_path / "bundle.zip")


def test_damage_anywhere_in_a_bundle_is_told_or_found(built: Path, tmp_path: Path) -> None:
    content = built.read_bytes()
    with zipfile.ZipFile(built) as archive:
        info = archive.getinfo("competition.yaml")
    path, random = tmp_path / "bundle.zip", np.random.default_rng(1)
    sentences = []
    for place in random.integers(info.header_offset, info.header_offset + info.compress_size, 60):
        path.write_bytes(content[:place] + b"\xff\x00" + content[place + 2 :])
        try:
            check_bundle(path, NOW)
        except DataError as error:
            sentences.append(str(error))
    assert sentences
    assert all(text.startswith(f"{path}: not a readable zip file (") for text in sentences)


def test_an_encrypted_bundle_is_no_bundle(built: Path, tmp_path: Path) -> None:
    content = bytearray(built.read_bytes())
    with zipfile.ZipFile(built) as archive:
        start = archive.getinfo("competition.yaml").header_offset
    central = content.rindex(b"competition.yaml") - 46
    for flags in (start + 6, central + 8):
        content[flags] |= 1
    (tmp_path / "bundle.zip").write_bytes(content)
    done = run_build("--check", tmp_path / "bundle.zip")
    assert done.returncode == 2
    assert "competition.yaml' is encrypted" in done.stderr
    assert "Traceback" not in done.stderr


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value inside a structure."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def test_no_value_crashes_the_check(release: Release, tmp_path: Path) -> None:
    """Every place of competition.yaml takes every kind of value."""
    sound = release.competition
    release.files = {name: content for name, content in release.files.items() if not name.endswith("zip")}
    sound["leaderboards"][0]["columns"][2:] = []
    sound["leaderboards"][0]["columns"][1] |= {"computation": "sum", "computation_indexes": [0]}
    sound["pages"][2:] = []
    for path in list(places(sound)):
        for value in (None, 7, "x", [[]], {"x": [None]}):
            release.competition = copy.deepcopy(sound)
            set_at(*path, value=value)(release)
            check_bundle(release.write(tmp_path / "bundle.zip"), NOW)


def test_near_names_of_the_competition_file() -> None:
    class Archive:
        def namelist(self) -> list[str]:
            return [f"folder_{number}/competition.yaml" for number in range(40)]

    found = Findings([], [])
    assert read_competition(Archive(), found) is None  # type: ignore[arg-type]
    assert found.problems[0].endswith("folder_9/competition.yaml and 30 more")
