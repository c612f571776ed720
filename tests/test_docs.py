"""What the pages say is true: links lead somewhere; commands, options, names and the file tree exist."""

import ast
import functools
import importlib
import inspect
import itertools
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hallo4.cli.front_door import COMMANDS
from hallo4.cli.prefer_words import COMMANDS as PREFER
from hallo4.recipes import RECIPES, find_recipe
from hallo4.training import override

ROOT = Path(__file__).parent.parent
GENERATED = ROOT / "docs" / "generated"
"""Pages that the build of the site writes; tests/test_site.py looks at them."""
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "hallo4").rglob("*.md")]
    if page.parent != GENERATED
)
LONGEST_ROW = 400
"""Characters of a row of a table."""
FENCED = re.compile(r"```(\w+)\n(.*?)```", flags=re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced code blocks of a page that are marked with one of the languages."""
    return [code for language, code in FENCED.findall(page.read_text()) if language in languages]


def prose(page: Path) -> str:
    """A page without its fenced code."""
    return FENCED.sub("", page.read_text())


def commands() -> list[str]:
    """Every command line on any page: lines of shell blocks, and inline code that starts like one."""
    lines = []
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "shell", "console"):
            lines += block.replace("\\\n", " ").splitlines()
        lines += re.findall(r"`((?:hallo4|make|python) [^`]+)`", prose(page))
    said = (line.split("#")[0].strip().removeprefix("$ ") for line in lines)
    return sorted({line for line in said if line})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file) if file else page
        assert linked.exists(), f"{target} on {page.name}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{target} on {page.name}"


def test_the_readme_opens_with_the_moving_picture_and_the_two_commands():
    text = (ROOT / "README.md").read_text()
    places = [text.index(word) for word in ("docs/media/demo.webp", "\nmake demo", "\nmake test", "\n## ")]
    assert places == sorted(places)
    assert text.count("\n") <= 150


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert {"demo", "test"} <= named
    assert named <= targets


def test_scripts_exist():
    scripts = {
        word for line in commands() if "python" in line for word in line.split() if word.endswith(".py")
    }
    assert scripts
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


SECOND_WORDS = {
    "weights": ["list", "fetch", "check", "convert"],
    "world": ["episode"],
    "data": ["prepare", "look"],
    "evaluate": ["world", "videos", "motion", "drift", "compare", "page"],
    "prefer": list(PREFER),
}


def documented_calls() -> dict[str, set[str]]:
    """`animate`, `world episode` ... -> the options that the pages use with it."""
    calls: dict[str, set[str]] = {}
    for line in commands():
        words = line.split()
        if words[0] != "hallo4" or not re.fullmatch(r"[a-z]+", words[1]):
            continue
        second = SECOND_WORDS.get(words[1], [])
        name = " ".join(words[1:3] if words[2:3] and words[2] in second else words[1:2])
        options = {word.strip("[]").partition("=")[0] for word in words if re.match(r"\[?--?[a-z]", word)}
        calls.setdefault(name, set()).update(options - {"--help"})
    return calls


@pytest.mark.parametrize("name", sorted(documented_calls()))
def test_documented_commands_take_the_documented_options(name):
    assert name.split()[0] in COMMANDS
    code = "import sys; from hallo4.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, *name.split(), "--help"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"\(default: (?:None)?\)", result.stdout) == [], "what is then taken is said in words"
    offered = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", result.stdout))
    assert documented_calls()[name] - offered == set()


def documented_settings() -> dict[str, set[str]]:
    """Recipe -> values that the pages set of it; not those that stand for something, such as `$e`."""
    settings: dict[str, set[str]] = {}
    for line in commands():
        words = shlex.split(line)
        recipe = next((name for name in RECIPES if f"hallo4 train {name} " in line), None)
        said = [value for word, value in itertools.pairwise(words) if word == "--set"]
        if recipe is not None:
            settings.setdefault(recipe, set()).update(value for value in said if "$" not in value)
    return settings


@pytest.mark.parametrize("name", sorted(documented_settings()))
def test_documented_settings_are_values_of_their_recipe(name):
    for setting in documented_settings()[name]:
        override(find_recipe(name).config, [setting])


def table_rows(page: Path) -> list[str]:
    """Rows of the tables of a page, without the marks of their figures."""
    text = re.sub(r"<!--.*?-->", "", prose(page), flags=re.DOTALL)
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_fit_a_screen(page):
    """Rows are short and columns few; what needs more is a list, or several tables."""
    rows = table_rows(page)
    long = [row[:60] for row in rows if len(row) > LONGEST_ROW and page != ROOT / "docs" / "architecture.md"]
    assert long == []
    source = [line for line in prose(page).splitlines() if line.startswith("|") and "<!--" in line]
    assert [line[:60] for line in source if len(line) > LONGEST_ROW] == [], "use a `table:` mark"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name)
def test_python_examples_call_what_exists(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        known: dict[str, object] = {}  # a name in the example -> what it is, or the class of what it holds
        held: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        for node in ast.walk(tree):
            made = isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            if made and isinstance(node.targets[0], ast.Name):
                maker = ast.unparse(node.value.func).split(".")[0]
                if inspect.isclass(known.get(maker)) and maker not in held:
                    known[node.targets[0].id] = known[maker]
                    held.add(node.targets[0].id)
        for node in ast.walk(tree):
            counted = isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args)
            if counted and "(" not in ast.unparse(node.func):
                root, *path = ast.unparse(node.func).split(".")
                if root in known:
                    path = path or ["__call__"] * (root in held)
                    bind(functools.reduce(getattr, path, known[root]), node, with_self=root in held)


def bind(function: object, call: ast.Call, with_self: bool) -> None:
    """TypeError unless the function takes the arguments of the call."""
    places = len(call.args) + with_self
    inspect.signature(function).bind(*[None] * places, **{word.arg: None for word in call.keywords})


def test_the_file_tree_is_up_to_date():
    with_tree = runpy.run_path(str(ROOT / "docs" / "file_tree.py"))["with_tree"]
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert text == with_tree(text), "run: make file-tree"
