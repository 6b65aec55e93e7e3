"""The plan of the house: every module has a room, and imports only what lies in its room or below."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

KIT = Path(__file__).resolve().parents[1]
PROGRAMS = ("scoring_program", "ingestion_program", "starting_kit", "bundle", "benchmarks")
DESK = KIT / "bundle/flair_bundle"
MOST_MODULES, MOST_LINES = 14, 350
# The rooms from the ground up. A module may import those of its own line and of all lines above it in this
# list, as far as its package may (FLOORS). `x.*` is a folder with all that is in it.
ROOMS = (
    "flair_scoring.base.*",
    "flair_scoring.nomenclature flair_scoring.raster flair_scoring.pairing flair_scoring.parallel",
    "flair_scoring.confusion flair_scoring.metrics flair_scoring.counting flair_scoring.value_mistakes",
    "flair_scoring.evaluation flair_scoring",
    "flair_scoring.maps.*",
    "flair_scoring.outputs.*",
    "flair_scoring.ranking.*",
    "flair_scoring.report.*",
    "flair_scoring.writing",
    "flair_scoring.commands.*",
    # The first floor
    "flair_ingestion flair_ingestion.clock",
    "flair_ingestion.dataset.* flair_ingestion.processes.*",
    "flair_ingestion.sandbox.*",
    "flair_ingestion.devices.*",
    "flair_ingestion.limits flair_ingestion.scheduling flair_ingestion.submission",
    "flair_ingestion.order flair_ingestion.shared_memory flair_ingestion.predictions",
    "flair_ingestion.reading flair_ingestion.session",
    "flair_ingestion.measurement",
    "flair_ingestion.gpu_memory flair_ingestion.reference",
    "flair_ingestion.timing",
    "flair_ingestion.run",
    # The top floor
    "flair_toy.*",
    "flair_baseline flair_baseline.model.*",
    "flair_baseline.official_keys",
    "flair_baseline.config_rules",
    "flair_baseline.config",
    "flair_baseline.machines.*",
    "flair_baseline.checkpoint",
    "flair_baseline.initial.*",
    "flair_baseline.encoders",
    "flair_baseline.samples.*",
    "flair_baseline.training.*",
    "flair_baseline.official flair_baseline.packaging flair_baseline.plots flair_baseline.table_iv",
    "flair_baseline.maps.*",
    "flair_baseline.imports flair_baseline.submissions flair_baseline.evaluation",
    "flair_baseline.planning.selection",
    "flair_baseline.planning.probabilities",
    "flair_baseline.planning.*",
    # The desk of organizers, and what measures the kit
    "flair_bundle.*",
    "common.*",
    "ingestion_parts.* gpu_parts.* toy_parts.*",
)
# What a package or a folder of programs may import of the others
GROUND = {"flair_scoring"}
FIRST = GROUND | {"flair_ingestion"}
TOP = FIRST | {"flair_toy", "flair_baseline"}
FLOORS = {
    "flair_scoring": set(),
    "flair_ingestion": GROUND,
    "flair_toy": GROUND,
    "flair_baseline": FIRST,
    "flair_bundle": FIRST,
    "common": GROUND,
    "ingestion_parts": FIRST | {"common"},
    "gpu_parts": TOP | {"common"},
    "toy_parts": TOP | {"common"},
    "scoring_program": GROUND,
    "ingestion_program": FIRST,
    "starting_kit": TOP | {"flair_bundle"},  # try_out.py runs the container of the platform
    "bundle": FIRST | {"flair_bundle"},
    "benchmarks": TOP | {"common", "ingestion_parts", "toy_parts"},
}
# Others import these folders as a whole
FACES = ("flair_ingestion.dataset", "flair_bundle.check")


@cache
def modules() -> dict[str, Path]:
    """Name -> file of all product code. Submissions are not the kit's: they import nothing of it."""
    found = {}
    for program in PROGRAMS:
        for path in sorted((KIT / program).rglob("*.py")):
            parts = path.relative_to(KIT / program).with_suffix("").parts
            if not any(part.endswith("_submission") for part in parts[:-1]):
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def read_imports(source: str, known: set[str]) -> set[str]:
    """The modules of `known` that a source imports, anywhere but under `if TYPE_CHECKING`."""
    tree = ast.parse(source)
    skipped: set[ast.AST] = set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else str(node.module) for name in names}
    return found & known


@cache
def imports() -> dict[str, set[str]]:
    """Each module's imports within the kit."""
    known = set(modules())
    return {name: read_imports(path.read_text(), known) - {name} for name, path in modules().items()}


def arrows() -> Iterator[tuple[str, str]]:
    """Importing and imported module."""
    return ((name, other) for name, others in imports().items() for other in others)


def is_program(name: str) -> bool:
    """Whether it is a script beside the packages, such as score.py."""
    return modules()[name].parent.name in PROGRAMS


def floor_of(name: str) -> str:
    return modules()[name].parent.name if is_program(name) else name.partition(".")[0]


def room_of(name: str) -> int | None:
    """The line of ROOMS that names the module itself, else that of the folder it lies in."""
    for height, room in enumerate(ROOMS):
        for entry in room.split():
            folder = entry.removesuffix(".*")
            if name == folder or (entry != folder and name.startswith(folder + ".")):
                return height
    return None


def test_every_module_has_a_room() -> None:
    homeless = [name for name in modules() if not is_program(name) and room_of(name) is None]
    assert homeless == []  # write a new module into ROOMS


def test_no_room_is_empty() -> None:
    entries = {entry.removesuffix(".*") for room in ROOMS for entry in room.split()}
    missing = {entry for entry in entries if entry not in modules()}
    # A participant's copy of the kit has no desk
    assert missing - (set() if DESK.is_dir() else {"flair_bundle"}) == set()


def test_modules_import_downwards_only() -> None:
    upwards = [
        f"{name} -> {other}"
        for name, other in arrows()
        if not is_program(name) and not is_program(other) and (room_of(other) or 0) > (room_of(name) or 0)
    ]
    assert upwards == []


def test_floors_import_what_lies_below_them() -> None:
    wrong = [
        f"{name} -> {other}"
        for name, other in arrows()
        if floor_of(other) not in FLOORS[floor_of(name)] | {floor_of(name)}
    ]
    assert wrong == []


def test_nothing_imports_a_program() -> None:
    """Programs are started; what two of them share is a module of a package."""
    assert [f"{name} -> {other}" for name, other in arrows() if is_program(other)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("face", FACES)
def test_a_folder_with_a_face_is_imported_through_it(face: str) -> None:
    past = [
        f"{name} -> {other}"
        for name, other in arrows()
        if other.startswith(face + ".") and not f"{name}.".startswith(face + ".")
    ]
    assert past == []


def test_folders_and_modules_stay_small() -> None:
    counts: dict[Path, int] = {}
    for path in modules().values():
        counts[path.parent] = counts.get(path.parent, 0) + (path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > MOST_MODULES} == {}
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_each_package_says_who_may_import_it() -> None:
    silent = []
    for name, path in modules().items():
        if path.name == "__init__.py":
            said = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
            if not re.search(r"may import (?:it|them|this|these)\b|imports (?:it|these modules)\b", said):
                silent.append(f"{name}: {said}")
    assert silent == []


def test_the_map_names_files_that_exist() -> None:
    """Each way of the data in CONTRIBUTING.md: its folder, then files and folders below it."""
    (plan,) = re.findall(r"```\n(Score: .*?)```", (KIT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    ways = plan.strip().split("\n\n")
    assert len(ways) == 4
    missing = []
    for way in ways:
        head, *lines = way.splitlines()
        folder = KIT / head.split()[-1]
        if folder != DESK or DESK.is_dir():
            named = re.findall(r"(?<![\w/.])(?:\.\./)?(?:\w+/)*(?:\w+\.(?:py|yaml)|\w+/)", "\n".join(lines))
            assert len(named) > 5
            missing += [name for name in named if not (folder / name).exists()]
    assert missing == []


SOURCE = """
from __future__ import annotations
from typing import TYPE_CHECKING
import a.b
from a import c, value
if TYPE_CHECKING:
    from a import d
def later():
    import e
"""


def test_imports_are_found_wherever_they_stand() -> None:
    known = {"a", "a.b", "a.c", "a.d", "e"}
    assert read_imports(SOURCE, known) == {"a", "a.b", "a.c", "e"}
