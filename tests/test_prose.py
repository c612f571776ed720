"""Prose is plain English in the field's words, and no sentence is broken by a paragraph."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hallo4"
ROOMS = (
    "cli",
    "data",
    "diffusion",
    "engine",
    "evaluation",
    "media",
    "models",
    "motion",
    "pipelines",
    "pose",
    "preference",
    "recipes",
    "studio",
    "sync",
    "training",
    "weights",
    "world",
)
FILES = sorted([*PACKAGE.glob("*.py"), *(file for room in ROOMS for file in (PACKAGE / room).rglob("*.py"))])
PRIVATE = re.compile(
    r"\b(told|heard|lent|lender|mend(s|ed)?|nobody|somebody|anew|in one stroke|hand(s|ed)? (over|on))\b", re.I
)
"""Words that a reader of other projects of the field would not expect."""


def prose(source: str) -> list[tuple[int, str]]:
    """Strings of several words, and comments, with their lines."""
    found = [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return found + [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def broken(source: str) -> list[int]:
    """Lines of docstrings in which a paragraph ends in a comma."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str) and re.search(r",[ ]*\n\s*\n", node.value.value)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_prose_has_no_private_words_and_no_broken_sentences(file):
    source = file.read_text()
    assert [f"{line}: {text.strip()[:80]}" for line, text in prose(source) if PRIVATE.search(text)] == []
    assert broken(source) == []


def test_what_the_rule_refuses():
    assert prose('"""Nobody is told."""\nx = 1  # lent\ny = "one"\n') == [
        (1, "Nobody is told."),
        (2, "# lent"),
    ]
    assert all(PRIVATE.search(word) for word in ("It is told.", "Mend it.", "handed over"))
    assert not PRIVATE.search("the talent of recommended silent hands")
    assert broken('def f():\n    """One,\n\n    and two."""\n') == [2]
