"""`hallo4 prefer ...`: preference data from candidates to pairs; every command resumes where it stopped."""

from __future__ import annotations

from collections.abc import Sequence

from hallo4.cli.options import parse
from hallo4.cli.prefer_words import COMMANDS


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 prefer` and do it; the path of the result is the last line on stdout."""
    options = parse(COMMANDS, list(words), prog="hallo4 prefer", description=__doc__)

    from hallo4.cli import prefer_work

    prefer_work.do(options)
