"""The generated part of the site: command line, Python API, files and model folder, from the code itself.

`conf.py` calls `write_reference` before pages are read; what it writes is not committed, so it cannot drift.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import site_commands
import site_records

ROOT = Path(__file__).parent.parent
ROOMS = (
    *("pipelines", "media", "motion", "pose", "world", "weights", "models", "diffusion", "data", "training"),
    *("evaluation", "sync", "preference", "studio", "recipes"),
)
"""Those that are used most come first."""
GROUND = ("types", "errors")


def write_reference(folder: Path) -> None:
    """Write all generated pages into `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in (
        ("command_line", site_commands.page()),
        ("files", site_records.files_page()),
        ("model_folder", site_records.model_folder_page()),
        ("python", _python_index()),
        *((f"python_{room}", _room_page(room)) for room in (*ROOMS, *GROUND)),
    ):
        (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def _python_index() -> str:
    pages = "\n".join(f"python_{room}" for room in (*ROOMS, *GROUND))
    return (
        "# Python API\n\nThe public names of every room. What rooms are and who may import whom: "
        "[architecture](../architecture.md). Axis letters and units in names: [hallo4.types](python_types.md)"
        f".\n\n```{{toctree}}\n:maxdepth: 1\n\n{pages}\n```"
    )


def _room_page(room: str) -> str:
    """Everything in the `__all__` of a room; of the ground, every public class and function defined there."""
    name = f"hallo4.{room}"
    module = importlib.import_module(name)
    public = getattr(module, "__all__", None) or _defined_in(module)
    texts = _texts_of_constants(Path(module.__file__))
    lines = [f".. automodule:: {name}", "   :no-members:", ""]
    for word in sorted(public, key=lambda word: (_rank(getattr(module, word)), word.lower())):
        thing = getattr(module, word)
        if inspect.isclass(thing):
            own = [":members:", ":show-inheritance:"] if not _is_plain(thing) else [":members:"]
            lines += [f".. autoclass:: {name}.{word}", *(f"   {option}" for option in own), ""]
        elif inspect.isfunction(thing):
            lines += [f".. autofunction:: {name}.{word}", ""]
        else:
            text = safe_lines(texts.get(word, "").splitlines())
            lines += [f".. py:data:: {name}.{word}", "", *(f"   {line}" for line in text), ""]
    body = "\n".join(lines)
    return f"# {name}\n\n```{{eval-rst}}\n{body}\n```"


def _defined_in(module: Any) -> list[str]:
    return [
        word
        for word, thing in vars(module).items()
        if not word.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]


def _rank(thing: Any) -> int:
    """Functions first, then classes, then constants."""
    return 0 if inspect.isfunction(thing) else 1 if inspect.isclass(thing) else 2


def _is_plain(thing: type) -> bool:
    """Whether it inherits from nothing that a reader has to know of."""
    return thing.__bases__ == (object,)


def _texts_of_constants(init: Path) -> dict[str, str]:
    """What stands below assignments in a room's files: the text of a constant."""
    texts: dict[str, str] = {}
    for path in sorted(init.parent.rglob("*.py")) if init.name == "__init__.py" else [init]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, below in pairwise(body):
            said = below.value if isinstance(below, ast.Expr) else None
            if not (isinstance(said, ast.Constant) and isinstance(said.value, str)):
                continue
            for target in getattr(node, "targets", None) or [getattr(node, "target", None)]:
                if isinstance(target, ast.Name):
                    texts.setdefault(target.id, inspect.cleandoc(said.value))
    return texts


def safe_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """autodoc's hook: our docstrings are plain text with code in backquotes, not reStructuredText."""
    lines[:] = safe_lines(lines)


def safe_lines(lines: list[str]) -> list[str]:
    """Plain text -> reStructuredText that means the same: paragraphs, indented blocks as they are, and what
    is raised as a list."""
    made: list[str] = []
    for block in _blocks(lines):
        indents = [len(line) - len(line.lstrip()) for line in block if line]
        if min(indents) >= 2:
            made += ["::", "", *(f"   {line}" for line in block), ""]
        elif block[0].strip() in ("Raises:", "Errors:"):
            made += [f"**{block[0].strip().rstrip(':')}**", "", *_listed(block[1:]), ""]
        elif all(line.startswith(("* ", "- ", "  ")) for line in block):
            made += [*_listed(block), ""]
        else:
            made += [*(_escaped(line.strip()) for line in block), ""]
    return made


def _blocks(lines: list[str]) -> list[list[str]]:
    """Paragraphs, without the blank lines between them; an indented block is one, with those inside it. What
    announces a block loses its `::`."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        last = blocks[-1]
        if not line.strip():
            if last and not (_indented(last[0]) and _indented(last[-1])):
                blocks.append([])
            elif last:
                last.append("")
        elif not last or _goes_on(last, line):
            last.append(line)
        else:
            blocks.append([line])
    kept = ["\n".join(block).rstrip() for block in blocks]
    kept = [text[:-1] if text.endswith("::") and text != "::" else text for text in kept]
    return [text.split("\n") for text in kept if text not in ("", "::")]


def _goes_on(block: list[str], line: str) -> bool:
    """Whether a line belongs to the block before it: the same indentation, or an item of its list."""
    listing = block[0].startswith(("* ", "- ")) or block[0].strip() in ("Raises:", "Errors:")
    return _indented(line) == _indented(block[0]) or (listing and _indented(line))


def _indented(line: str) -> bool:
    return not line or line.startswith("  ")


def _listed(lines: list[str]) -> list[str]:
    """Items of a list: a new one where a line is indented least."""
    least = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    items: list[str] = []
    for line in lines:
        text = line.strip().removeprefix("* ").removeprefix("- ")
        if len(line) - len(line.lstrip()) == least or not items:
            items.append(text)
        else:
            items[-1] += f" {text}"
    return [f"* {_escaped(item)}" for item in items if item]


def _escaped(text: str) -> str:
    """Words outside backquotes lose what marks up; code in backquotes becomes a literal."""
    parts = text.replace("``", "`").split("`")
    if len(parts) % 2 == 0:  # a code that goes on in the next line
        return "".join(map(_plain, text))
    words = (_plain(part) if number % 2 == 0 else f"``{part}``" for number, part in enumerate(parts))
    return "".join(words)


def _plain(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\*_|`" else letter for letter in text)
