"""The floor plan is a fact: who may import whom, how long things may be, and no circles."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hallo4"
PLAN = (ROOT / "docs" / "architecture.md").read_text()

GROUND = {
    "types",
    "errors",
    "lazy",
    "tables",
    "version",
    "lock",
    "outputs",
    "input_file",
    "json_file",
    "ranges",
    "whole",
}
MAY_IMPORT: dict[str, set[str]] = {
    "engine": set(),
    "media": set(),
    "motion": {"media"},
    "world": {"media", "motion"},
    "weights": set(),
    "pose": {"media", "motion", "weights"},
    "sync": {"motion", "weights"},
    "models": {"weights"},
    "diffusion": set(),
    "pipelines": {"media", "motion", "weights", "pose", "models", "diffusion"},
    "data": {"engine", "media", "motion", "world", "weights", "pose", "sync", "models", "pipelines"},
    "training": {"weights", "models", "diffusion", "data"},
    "evaluation": {"engine", "media", "motion", "world", "weights", "pose", "sync", "models", "pipelines"},
    "preference": {"engine", "media", "motion", "world", "models", "pipelines", "evaluation"},
    "studio": {
        "engine",
        "media",
        "motion",
        "world",
        "models",
        "diffusion",
        "pipelines",
        "data",
        "training",
        "evaluation",
        "preference",
    },
    "recipes": {
        "media",
        "motion",
        "world",
        "weights",
        "models",
        "diffusion",
        "pipelines",
        "data",
        "training",
        "evaluation",
        "preference",
    },
}
ROOMS = [*MAY_IMPORT, "cli"]
MAY_IMPORT["cli"] = set(MAY_IMPORT)

MODULES = sorted(PACKAGE.rglob("*.py"))
OUR_CODE = [
    path
    for folder in ("hallo4", "tests", "benchmarks", "docs", "integrations")
    for path in (ROOT / folder).rglob("*.py")
]


def name_of(path: Path) -> str:
    """hallo4/models/dit.py -> hallo4.models.dit"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def room_of(name: str) -> str:
    """hallo4.models.dit -> models; the package itself -> ''"""
    return name.split(".")[1] if "." in name else ""


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, at the top or inside a function: `hallo4.models.dit`."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in NAMES else base for alias in node.names
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
            # A module named in a string is imported late, by importlib; "hallo4" alone is a word like others.
            found = [node.value] if "." in node.value else []
        else:
            continue
        yield from (name for name in found if name == "hallo4" or name.startswith("hallo4."))


def test_the_plan_in_the_docs_is_the_plan_checked_here():
    rows = re.findall(r"^\| (.+?) \|.+\| (.+?) \|$", PLAN, flags=re.MULTILINE)
    table = {rooms.strip("`/ "): allowed for rooms, allowed in rows if rooms.startswith("`")}
    ground = table.pop(
        "types.py`, `errors.py`, `input_file.py`, `json_file.py`, `lazy.py`, `lock.py`, `outputs.py`, "
        "`ranges.py`, `tables.py`, `version.py`, `whole.py"
    )
    assert ground == "-"
    assert list(table) == ROOMS, "the order is top down: a room stands below all that it imports"
    assert table.pop("cli").startswith("everything")
    for room, allowed in table.items():
        words = set(allowed.split(", "))
        assert "ground" in words
        assert words - {"ground"} == MAY_IMPORT[room], room


def test_no_room_imports_one_below_it_in_the_list():
    for room, allowed in MAY_IMPORT.items():
        assert all(ROOMS.index(other) < ROOMS.index(room) for other in allowed), room


def test_every_module_stands_in_a_room():
    known = GROUND | set(ROOMS) | {"", "__main__"}
    assert {room_of(name_of(path)) for path in MODULES} <= known
    folders = {path.parent for path in MODULES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("room", sorted(GROUND) + ROOMS)
def test_a_room_imports_only_what_the_plan_allows(room):
    allowed = GROUND | {room} | MAY_IMPORT.get(room, set())
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        if room_of(name_of(path)) == room
        for name in imported(path)
        if room_of(name) not in allowed
    ]
    assert wrong == []


INSIDE_EVALUATION = {
    "metric": set(),
    "statistics": set(),
    "report": {"metric", "statistics"},
    "stored": {"report"},
    "run": {"report"},
    "networks": set(),
    "measures": {"networks"},
    "look": {"measures", "networks"},
    "show": {"report", "statistics"},
    "suites": {"metric", "statistics", "report", "stored", "run", "measures", "look", "show"},
}
"""The rooms of `evaluation/`: suites -> show -> report -> metric, and suites -> look -> measures."""


def test_inside_evaluation_arrows_go_one_way():
    def place(name: str) -> str:
        return name.split(".")[2]

    found: dict[str, set[str]] = {}
    for path in MODULES:
        name = name_of(path)
        if room_of(name) == "evaluation" and name.count(".") >= 2:
            others = (o for o in imported(path) if room_of(o) == "evaluation" and o.count(".") >= 2)
            found.setdefault(place(name), set()).update(place(other) for other in others)
    assert found.keys() == INSIDE_EVALUATION.keys()
    for own, others in found.items():
        assert others - {own} <= INSIDE_EVALUATION[own], own


def test_modules_form_no_cycle():
    # Who imports a module by its own path does not wait for the __init__ of that room, which re-exports it.
    graph = {name_of(path): set(imported(path)) - {name_of(path)} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", OUR_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    lines = len(text.splitlines())
    assert lines <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 80, f"{node.name} has {length} lines"


def test_no_room_for_odds_and_ends():
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(path.relative_to(ROOT)) for path in OUR_CODE if path.stem in forbidden] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_offers_the_names_in_the_plan(room):
    row = re.search(rf"^\| `{room}/` \|[^|]*\|([^|]*)\|", PLAN, flags=re.MULTILINE)
    assert row, room
    module = import_module(f"hallo4.{room}")
    missing = [name for name in re.findall(r"`([A-Za-z_]+)`", row[1]) if not hasattr(module, name)]
    assert missing == []
