"""The words of a command line -> checked options: mistakes in one line, numbers within their ranges."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Annotated, Any, Literal, get_type_hints

import tyro
from tyro.conf import Positional, arg

from hallo4.errors import InputError
from hallo4.ranges import Share, Workers, check_ranges

WorkersOption = Annotated[
    Workers | None, arg(metavar="N", help_behavior_hint="(default: 1; with --ray, all that it has)")
]
"""`--workers` of a command whose work an engine runs."""
RayOption = Annotated[
    str | None, arg(metavar="auto|HOST:PORT", help_behavior_hint="(default: this machine alone)")
]
"""`--ray` of the same."""
World = Literal["drawn-1", "lit-1"]
"""`hallo4.world.look.WorldName`, said here so that help needs no import."""
WorldOption = Annotated[
    World | None, arg(metavar="drawn-1|lit-1", help_behavior_hint="(default: where the models were trained)")
]
"""`--world` of a command that measures models or makes clips of them."""
AspectOption = Annotated[str, arg(metavar="W:H")]
HeadShareOption = Annotated[Share, arg(metavar="SHARE")]
HeadAtOption = Annotated[tuple[Share, Share], arg(metavar="X Y")]
"""`--aspect`, `--head-share` and `--head-at` of a command that draws people; see `world.framing.Framing`."""

_RESTS = (" Got errors:", " Argument helptext:", " Arguments similar to")
"""What the parser adds, which the help says better."""
_BESIDE = (
    (re.compile(r" \(applied to [^)]*\)"), ""),
    (re.compile(r" Arguments are applied to the directly preceding subcommand[^.]*\."), "."),
    (re.compile(r"(?<!\.) (?=(?:Perhaps you meant|Available subcommands|Unrecognized options):)"), ". "),
)
"""What it says between words that people need, and what stays of that."""
_FRAME = re.compile(r"[─│╭╮╰╯━┃┏┓┗┛]+|^[|+]|[|+]$|-{4,}")


def parse(options: Any, words: Sequence[str], prog: str, description: str | None = None) -> Any:
    """The options of a command, a dataclass, or of one of several: a dict of them by name.

    InputError: the words do not fit, or a number is out of its range. SystemExit: help was asked for.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            if isinstance(options, dict):
                found = tyro.extras.subcommand_cli_from_dict(
                    options, args=list(words), prog=prog, description=description
                )
            else:
                found = tyro.cli(options, args=list(words), prog=prog)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(f"{_one_line(said.getvalue())} See {prog} --help.") from None
    check_ranges(found, lambda field: _word(type(found), field))
    _refuse_nothing(found, words, prog)
    return found


def _refuse_nothing(found: Any, words: Sequence[str], prog: str) -> None:
    """InputError for a list of at least one of which none is given: the parser takes it for an empty one."""
    for field in dataclasses.fields(found):
        word = _word(type(found), field.name)
        if getattr(found, field.name) == () and (field.default != () or word in words):
            raise InputError(f"{word}: nothing is named; at least one is needed. See {prog} --help.")


def _word(options: type, field: str) -> str:
    """What a field is called on the command line."""
    marks = getattr(get_type_hints(options, include_extras=True)[field], "__metadata__", ())
    said = next((mark for mark in marks if hasattr(mark, "metavar")), None)
    if said is not None and any(mark in Positional[int].__metadata__ for mark in marks):
        return said.metavar
    return f"--{getattr(said, 'name', None) or field.replace('_', '-')}"


def _one_line(text: str) -> str:
    """What the parser says, without its frame and its pointer to the help."""
    lines = [" ".join(_FRAME.sub(" ", line).split()) for line in text.splitlines()]
    kept = [line for line in lines if line and not line.endswith("--help") and "full helptext" not in line]
    words = " ".join(kept[1:] or kept)  # the first is the title of the frame
    for beside, left in _BESIDE:
        words = beside.sub(left, words)
    for rest in _RESTS:
        words = words.partition(rest)[0]
    return (words[:400] or "The words of the command cannot be read").rstrip(". ") + "."


def ratio(text: str) -> float:
    """Width over height of "W:H". InputError: it is not that."""
    sides = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text)
    if sides is None:
        raise InputError(f"--aspect is {text!r}; give width and height as whole numbers, such as 3:4")
    return int(sides[1]) / int(sides[2])
