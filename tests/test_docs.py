"""What the pages say is true: links lead somewhere, commands, options, names and the file tree exist."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hallo4.cli.front_door import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "hallo4").rglob("*.md")])
sys.path.insert(0, str(ROOT / "docs"))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced code blocks of a page that are marked with one of the languages."""
    return [
        code
        for kind, code in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
        if kind in languages
    ]


def commands() -> list[str]:
    """Every command line on any page: lines of shell blocks, and inline code that starts with `hallo4` or `make`."""
    lines = []
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "shell", "console"):
            lines += block.replace("\\\n", " ").splitlines()
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        lines += re.findall(r"`((?:hallo4|make|python) [^`]+)`", prose)
    return sorted(
        {line.split("#")[0].strip().removeprefix("$ ") for line in lines if line.split("#")[0].strip()}
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
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
    assert (
        text.index("docs/media/demo.webp")
        < text.index("make demo   #")
        < text.index("make test   #")
        < text.index("\n## ")
    )


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert {"demo", "test"} <= named
    assert named <= targets


def test_scripts_exist():
    scripts = {
        word for line in commands() for word in line.split() if word.endswith(".py") and "python" in line
    }
    assert scripts
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def documented_calls() -> dict[str, set[str]]:
    """`animate`, `world episode` ... -> the options that the pages use with it."""
    calls: dict[str, set[str]] = {}
    for line in commands():
        words = line.split()
        if words[0] != "hallo4" or not re.fullmatch(r"[a-z]+", words[1]):
            continue
        known = {"world": ["episode"], "evaluate": ["world"]}.get(words[1], [])
        name = " ".join(words[1:3] if len(words) > 2 and words[2] in known else words[1:2])
        options = {word.strip("[]").partition("=")[0] for word in words if re.match(r"\[?--?[a-z]", word)}
        calls.setdefault(name, set()).update(options - {"--help", "--version"})
    return calls


@pytest.mark.parametrize("name", sorted(documented_calls()))
def test_documented_commands_take_the_documented_options(name):
    assert name.split()[0] in COMMANDS
    code = "import sys; from hallo4.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, *name.split(), "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    offered = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", result.stdout))
    assert documented_calls()[name] - offered == set()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_python_examples_call_what_exists(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        names: dict[str, object] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        made: dict[str, object] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                root = ast.unparse(node.value.func).split(".")[0]
                made |= {
                    target.id: names[root]
                    for target in node.targets
                    if isinstance(target, ast.Name) and root in names
                }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                check_call(node, names, made)


def check_call(node: ast.Call, names: dict[str, object], made: dict[str, object]) -> None:
    """The callee exists and takes these arguments; `made` maps variables to the class of what they hold."""
    root, *path = ast.unparse(node.func).split(".")
    if root not in names and root not in made:
        return
    callee = names.get(root, made.get(root))
    for attribute in path:
        callee = getattr(callee, attribute)
    takes_self = root in made and path
    arguments = ([None] if takes_self else []) + [None] * len(node.args)
    inspect.signature(callee).bind(*arguments, **{keyword.arg: None for keyword in node.keywords})


def test_the_file_tree_of_the_readme_is_up_to_date():
    file_tree = importlib.import_module("file_tree")
    text = (ROOT / "README.md").read_text()
    assert text == file_tree.with_tree(text), "run: make readme"
