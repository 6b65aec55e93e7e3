"""The keys of competition.yaml, Codabench's version 2 schema: which are read, and what each may hold.

Limits and choices are those of the platform's own importer. It ignores unknown keys silently, so here they
are problems, with a similar key that it does read, or all of them.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from flair_scoring.base.settings import similar_key

# Says what was expected instead of a value; None if it is fine
Check = Callable[[Any], str | None]

DATE = "%Y-%m-%d %H:%M:%S"
AVERAGE_RANK = "avg_rank"  # a computation that the platform knows since its version 1.29
SUBMISSION_RULES = (
    *("Add", "Add_And_Delete", "Add_And_Delete_Multiple"),
    *("Force_Last", "Force_Latest_Multiple", "Force_Best"),
)
IMAGE_TYPES = (".jpeg", ".jpg", ".png", ".gif", ".webp")
# What Django takes for an e-mail address, but for quoted names, numbers in place of a domain, and localhost
_NAME = r"[-!#$%&'*+/=?^_`{|}~0-9A-Za-z]+"
_LABEL = r"[^\W_]([^\W_]|-){0,61}(?<!-)"
_LAST_LABEL = r"(?!-)(([^\W\d_]|-){2,63}|xn--[a-z0-9]{1,59})(?<!-)"
_EMAIL = re.compile(rf"{_NAME}(\.{_NAME})*@({_LABEL}\.)+{_LAST_LABEL}")
_EMAIL_CHARACTERS = 254
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of characters that take two in UTF-16


def check_mapping(where: str, value: Any, keys: Mapping[str, Check], required: tuple[str, ...]) -> list[str]:
    """Problems of one mapping of competition.yaml: its type, unknown, missing and bad keys."""
    if not isinstance(value, dict):
        return [f"{where}: is {_short(value)}; expected keys such as {', '.join(keys)}"]
    problems = [f"{where}: {key!r} is missing" for key in required if key not in value]
    for key, content in value.items():
        if key not in keys:
            near = similar_key(key, keys)
            hint = f"did you mean {near!r}?" if near else f"it reads {', '.join(keys)}"
            problems.append(f"{where}: the platform does not read {key!r}; {hint}")
        elif expected := keys[key](content):
            problems.append(f"{where}: {key} is {_short(content)}; expected {expected}")
    return problems


def unstorable_character(text: str) -> str | None:
    """The first character, as U+0000, that the platform's database does not store; None if all are fine."""
    found = _UNSTORABLE.search(text)
    return found and f"U+{ord(found[0]):04X}"


def is_uuid(value: Any) -> bool:
    """Whether a value names something that the platform holds already."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def parse_date(value: Any) -> datetime.datetime | None:
    """A quoted "YYYY-MM-DD HH:MM:SS"; None for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", value, re.ASCII):
        return None
    try:
        return datetime.datetime.strptime(value, DATE)
    except ValueError:
        return None


def is_whole(value: Any) -> bool:
    """An integer, which True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _text(longest: int, empty: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and (empty or value.strip()) and len(value) <= longest:
            return None
        length = f"; it has {len(value)} characters" if isinstance(value, str) and value else ""
        return f"a text of {0 if empty else 1} to {longest} characters{length}"

    return check


def _version(value: Any) -> str | None:
    fine = value == "2" or (is_whole(value) and value == 2)
    return None if fine else "2 without a point: the platform does not take 2.0"


def _anything(value: Any) -> str | None:
    return None


def _description(value: Any) -> str | None:
    return None if value is None or isinstance(value, str) else "a text"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _choice(*choices: Any) -> Check:
    def check(value: Any) -> str | None:
        known = isinstance(value, str | int) and value in choices
        return None if known else f"{', '.join(map(str, choices))}, exactly so"

    return check


def _at_least(lowest: int, why: str = "") -> Check:
    def check(value: Any) -> str | None:
        return None if is_whole(value) and value >= lowest else f"a whole number from {lowest}{why}"

    return check


def _list(value: Any) -> str | None:
    return None if isinstance(value, list) else "a list"


def _full_list(value: Any) -> str | None:
    return None if isinstance(value, list) and value else "a list with at least one entry"


def _whole_numbers(value: Any) -> str | None:
    return None if isinstance(value, list) and all(map(is_whole, value)) else "a list of whole numbers"


def _uuid(value: Any) -> str | None:
    return None if is_uuid(value) else "the UUID that the platform shows"


def _email(value: Any) -> str | None:
    fine = isinstance(value, str) and len(value) <= _EMAIL_CHARACTERS and _EMAIL.fullmatch(value)
    return None if fine else "an e-mail address such as name@example.org"


def _date(value: Any) -> str | None:
    if parse_date(value):
        return None
    if isinstance(value, datetime.date):
        return '"YYYY-MM-DD HH:MM:SS" in quotes, since the platform cuts an unquoted date to midnight'
    return '"YYYY-MM-DD HH:MM:SS", which is taken as UTC (an offset would be dropped)'


def _image_name(value: Any) -> str | None:
    fine = isinstance(value, str) and len(value) <= 128 and _is_pinned(value)
    return None if fine else "NAME:TAG of at most 128 characters, with a tag that is not latest"


def _is_pinned(image: str) -> bool:
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "@sha256:" in image or (bool(tag) and tag != "latest")


COMPETITION: dict[str, Check] = {
    "version": _version,
    "title": _text(256),
    "description": _description,
    "image": _text(1000),
    "terms": _text(1000),
    "pages": _list,
    "tasks": _full_list,
    "phases": _full_list,
    "leaderboards": _full_list,
    "solutions": _list,
    "registration_auto_approve": _boolean,
    "docker_image": _image_name,
    "make_programs_available": _boolean,
    "make_input_data_available": _boolean,
    "enable_detailed_results": _boolean,
    "show_detailed_results_in_submission_panel": _boolean,
    "show_detailed_results_in_leaderboard": _boolean,
    "auto_run_submissions": _boolean,
    "can_participants_make_submissions_public": _boolean,
    "forum_enabled": _boolean,
    "queue": _uuid,
    "groups": _anything,  # check_groups
    "competition_type": _choice("competition", "benchmark"),
    "reward": _text(256, empty=True),
    "contact_email": _email,
    "fact_sheet": _anything,  # check_fact_sheet
}
COMPETITION_REQUIRED = (
    *("version", "title", "image", "terms", "pages"),
    *("tasks", "phases", "leaderboards", "docker_image"),
)
PAGE: dict[str, Check] = {"title": _text(256), "file": _text(1000)}
TASK: dict[str, Check] = {
    "index": _anything,
    "key": _uuid,
    "name": _text(256),
    "description": _description,
    "input_data": _text(1000),
    "reference_data": _text(1000),
    "ingestion_program": _text(1000),
    "scoring_program": _text(1000),
    "ingestion_only_during_scoring": _choice(False),
}
PHASE: dict[str, Check] = {
    "index": _at_least(0),
    "name": _text(256),
    "description": _description,
    "start": _date,
    "end": _date,
    "tasks": _full_list,
    "max_submissions_per_day": _at_least(1, " (0 would be no limit)"),
    "max_submissions": _at_least(1, " (0 would be no limit)"),
    "execution_time_limit": _at_least(1, " seconds (0 would be 600)"),
    "auto_migrate_to_this_phase": _boolean,
    "hide_output": _boolean,
    "hide_prediction_output": _boolean,
    "hide_score_output": _boolean,
    "starting_kit": _text(1000),
    "public_data": _text(1000),
}
SOLUTION: dict[str, Check] = {
    "index": _at_least(0),
    "tasks": _full_list,
    "path": _text(1000),
    "key": _uuid,
    "name": _text(256),
    "description": _description,
}
LEADERBOARD: dict[str, Check] = {
    "title": _text(64),
    "key": _text(36),
    "columns": _full_list,
    "primary_index": _at_least(0),
    "hidden": _boolean,
    "submission_rule": _choice(*SUBMISSION_RULES),
}
COLUMN: dict[str, Check] = {
    "index": _at_least(0),
    "title": _text(36),
    "key": _text(36),
    "sorting": _choice("desc", "asc"),
    "computation": _choice("avg", "sum", "min", "max", AVERAGE_RANK),
    "computation_indexes": _whole_numbers,
    "precision": _at_least(0),
    "hidden": _boolean,
}
GROUP: dict[str, Check] = {"name": _anything, "queue": _anything}
FACT: dict[str, Check] = {
    "key": _text(256),
    "type": _choice("checkbox", "text", "select"),
    "title": _text(256),
    "selection": _anything,
    "is_required": _anything,
    "is_on_leaderboard": _anything,
}


def check_fact_sheet(sheet: Any) -> list[str]:
    """Problems of the questions that a submission answers; every one needs all keys of FACT."""
    if not isinstance(sheet, dict):
        return [f"fact_sheet: is {_short(sheet)}; expected questions by their keys"]
    problems = []
    for name, fact in sheet.items():
        problems += check_mapping(f"fact_sheet.{name}", fact, FACT, tuple(FACT))
        if isinstance(fact, dict) and fact.get("key", name) != name:
            problems.append(
                f"fact_sheet.{name}: key is {_short(fact['key'])}; expected {name!r}, as the question "
                "is listed"
            )
    return problems


def check_groups(groups: Any) -> list[str]:
    """What is odd about groups of participants, of which each has a queue of its own."""
    if not isinstance(groups, list):
        return [f"groups: is {_short(groups)}; expected a list of entries with name and queue"]
    return [
        problem
        for index, group in enumerate(groups)
        for problem in check_mapping(f"groups[{index}]", group, GROUP, tuple(GROUP))
    ]
