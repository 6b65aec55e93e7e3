"""The pages of the competition: the texts of pages/, with the numbers that the kit holds filled in.

A placeholder is ${name}; $$ stands for a dollar sign.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from flair_bundle.rules import read_rules
from flair_ingestion.limits import MAX_ATTEMPTS, MAX_GREY_ZONE, MIN_GREY_ZONE, read_limits
from flair_ingestion.reference import DRIFT_PATCHES
from flair_ingestion.run import MAX_CHANGED_PIXELS, MAX_TIME_RATIO
from flair_ingestion.session import BATCH_SIZES, SUPERPATCH_SIZES
from flair_ingestion.submission import MAX_FILES, MAX_RATIO
from flair_scoring.base.errors import DataError, list_problems
from flair_scoring.base.provenance import KIT_VERSION
from flair_scoring.nomenclature import FLAIR_12, FLAIR_VALUES
from flair_scoring.ranking.permutation import ALPHA, MIN_DOMAINS
from flair_scoring.report.published import read_dataset, read_published

DESK = Path(__file__).resolve().parents[1]
PAGES = DESK / "pages"
PACKAGES = DESK / "packages.txt"
DOCKERFILE = DESK / "Dockerfile"
LOCK = DESK.parent / "requirements.lock"


def fill_pages(competition: dict[str, Any]) -> dict[str, str]:
    """Name -> text of every page; DataError with all placeholders that nothing fills."""
    values = page_values(competition)
    texts, problems = {}, []
    for path in sorted(PAGES.glob("*.md")):
        try:
            texts[path.name] = Template(path.read_text(encoding="utf-8")).substitute(values)
        except UnicodeDecodeError:
            problems.append(f"{path}: is not UTF-8; save it as UTF-8")
        except KeyError as error:
            problems.append(f"{path}: ${{{error.args[0]}}} is not known; known are {', '.join(values)}")
        except ValueError as error:
            problems.append(f"{path}: {error}; write $$ for a dollar sign")
    if problems:
        raise DataError(list_problems("pages cannot be filled", problems))
    return texts


def page_values(competition: dict[str, Any]) -> dict[str, str]:
    """Everything that a page may ask for, as text."""
    limits = read_limits()
    values = {name: f"{value:g}" for name, value in asdict(limits).items() if value is not None}
    return (
        values
        | read_rules()
        | {
            "limit": _limit(limits.ratio, limits.seconds),
            "time_ratio_limit": f"at most {limits.ratio:g}" if limits.ratio else "not limited",
            "max_batch": str(max(BATCH_SIZES)),
            "min_window": str(min(SUPERPATCH_SIZES)),
            "max_window": str(max(SUPERPATCH_SIZES)),
            "grey_zone": f"{MIN_GREY_ZONE:.0%}".replace("%", " %"),
            "max_grey_zone": f"{MAX_GREY_ZONE:.0%}".replace("%", " %"),
            "drift_patches": str(DRIFT_PATCHES),
            "max_time_change": f"{MAX_TIME_RATIO - 1:.0%}".replace("%", " %"),
            "max_changed_pixels": f"{MAX_CHANGED_PIXELS:.0%}".replace("%", " %"),
            "max_attempts": str(MAX_ATTEMPTS),
            "max_files": f"{MAX_FILES:,}",
            "max_zip_ratio": str(MAX_RATIO),
            "classes": str(FLAIR_12.num_classes),
            "other": str(FLAIR_12.other),
            "other_values": f"{FLAIR_12.other + 1} to {max(FLAIR_VALUES)}",
            "side": str(len(FLAIR_12.classes_with_other)),
            "class_table": _class_table(),
            "dataset_table": _dataset_table(),
            "baseline_table": _baseline_table(),
            "phase_table": _phase_table(competition),
            "package_table": _package_table(),
            "image_base": base_image(),
            "image": competition["docker_image"],
            "alpha_percent": f"{ALPHA:.0%}".replace("%", " %"),
            "min_domains": str(MIN_DOMAINS),
            "kit_version": KIT_VERSION,
            "contact": competition.get("contact_email", "the forum of this competition"),
        }
    )


def base_image() -> str:
    """The image that the Dockerfile starts from."""
    found = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise DataError(f"{DOCKERFILE}: no line ARG BASE=NAME; the pages tell participants that image")
    return found[1]


def package_versions() -> dict[str, dict[str, str]]:
    """What the Dockerfile installs beside PyTorch, in the order of packages.txt, with versions.

    The inner dict is condition (empty for none) -> version: those of requirements.lock, or the one that
    packages.txt itself has. It is empty if neither has one.
    """
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    listed = [line.split("#")[0].strip().partition("==") for line in lines]
    return {name: {"": version} if version else locked_versions(name) for name, _, version in listed if name}


def locked_versions(name: str) -> dict[str, str]:
    """Condition (empty for none) -> version of a package in requirements.lock."""
    found = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        package, _, rest = line.partition("==")
        if package == name and rest:
            version, _, condition = rest.partition(" ; ")
            found[condition.strip()] = version.strip()
    return found


def _limit(ratio: float | None, seconds: float | None) -> str:
    relative = f"{ratio:g} times the baseline's time on the same machine" if ratio else ""
    absolute = f"{seconds:g} s" if seconds else ""
    return " and at most ".join(filter(None, (relative, absolute))) or "any time it needs"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _dataset_table() -> str:
    return _table(["", "in all"], [[figure.name, f"{figure.value:,}"] for figure in read_dataset()])


def _class_table() -> str:
    (pixels,) = (figure for figure in read_dataset() if figure.classes)
    shares = [f"{count / pixels.value:.2%}".replace("%", " %") for count in pixels.classes]
    rows = [
        [str(index), name, str(value), FLAIR_VALUES[value][1], shares[index]]
        for index, name in enumerate(FLAIR_12.classes)
        for value in [list(FLAIR_12.index_of).index(index)]
    ]
    merged = ", ".join(
        f"{value} {name}"
        for value, (name, _) in FLAIR_VALUES.items()
        if FLAIR_12.index_of[value] == FLAIR_12.other
    )
    rows.append([str(FLAIR_12.other), "*other*, not scored", merged, "", shares[FLAIR_12.other]])
    return _table(["index in predictions", "class", "value in the labels", "colour", "pixels"], rows)


def _baseline_table() -> str:
    rows = [
        [row.name, f"{row.miou:.4f}" + (f" ± {row.deviation:.4f}" if row.deviation else ""), row.source]
        for row in read_published()
    ]
    return _table(["", "mIoU", "source"], rows)


def _phase_table(competition: dict[str, Any]) -> str:
    rows = [
        [
            phase["name"],
            str(phase["start"]),
            str(phase.get("end", "open")),
            str(phase["max_submissions_per_day"]),
            str(phase["max_submissions"]),
        ]
        for phase in competition["phases"]
    ]
    return _table(["phase", "from (UTC)", "to (UTC)", "submissions a day", "in all"], rows)


def _package_table() -> str:
    rows = []
    for name, versions in package_versions().items():
        texts = [
            f"{version} ({condition})" if condition else version for condition, version in versions.items()
        ]
        rows.append([name, "; ".join(texts).replace("python_full_version", "Python").replace("'", "")])
    return _table(["package", "version"], rows)
