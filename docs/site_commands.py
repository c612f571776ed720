"""The page of the command line, from what every command says with `--help`."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from unittest import mock

from hallo4.cli import main
from hallo4.cli.front_door import COMMANDS

WIDE = "2000"
"""Columns: every option of the help is one line, or two where its name is long."""
_FRAME = "│╭╮╰╯─"


def page() -> str:
    """All commands, with their options."""
    parts = [
        "# Command line",
        "Generated from the programs' own help. Every command answers mistakes in one line, with the exit "
        "code 2; 0 is done, 130 stopped by Ctrl-C, 141 that the reader of its output has gone.",
    ]
    for name, (_, what) in COMMANDS.items():
        parts += [f"## hallo4 {name}", f"{what[0].upper()}{what[1:]}."]
        parts += _command([name])
    return "\n\n".join(parts)


def _command(words: list[str]) -> list[str]:
    """A command and the commands below it."""
    usage, described, boxes = read_help(help_of(words))
    if "subcommands" in boxes:
        parts = [_prose(described)]
        for name in re.search(r"\{([a-z,]+)\}", usage)[1].split(","):
            parts += [f"### hallo4 {' '.join([*words, name])}", *_command([*words, name])]
        return parts
    parts = [f"```text\n{usage}\n```", _prose(described)]
    for title, entries in boxes.items():
        kept = [(option, text) for option, text in entries if not option.startswith("-h, ")]
        if kept:
            parts += [f"**{title.capitalize()}**", "\n\n".join(map(_definition, kept))]
    return parts


def help_of(words: list[str]) -> str:
    """What `hallo4 WORDS --help` prints, in lines that are not broken."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # in which the parser draws frames
    with redirect_stdout(said), mock.patch.dict(os.environ, COLUMNS=WIDE, NO_COLOR="1", TERM="dumb"):
        code = main([*words, "--help"])
    assert code == 0, words
    said.flush()
    return said.buffer.getvalue().decode()


def read_help(text: str) -> tuple[str, str, dict[str, list[tuple[str, str]]]]:
    """Usage, description, and the boxes: title -> (option, its text)."""
    usage, described, boxes = "", [], {}
    entries: list[tuple[str, str]] | None = None
    for line in text.splitlines():
        if line.startswith("usage: "):
            usage = line.removeprefix("usage: ").replace("[-h] ", "")
        elif line.startswith("╭"):
            entries = boxes.setdefault(line.strip(_FRAME + " "), [])
        elif line.startswith("╰"):
            entries = None
        elif entries is None:
            described.append(line)
        else:
            inner = line.strip("│").rstrip().removeprefix(" ")
            if inner.startswith(" ") and entries:
                option, before = entries[-1]
                entries[-1] = (option, f"{before} {inner.strip()}".strip())
            elif inner.strip():
                option, _, words = inner.partition("  ")
                entries.append((option.strip(), words.strip()))
    return usage, "\n".join(described).strip(), boxes


def _definition(entry: tuple[str, str]) -> str:
    option, text = entry
    return f"`{option}`\n: {_prose(text)}"


def _prose(text: str) -> str:
    """Plain text as Markdown: code in backquotes stays, everything else means nothing."""
    parts = text.split("`")
    words = (
        re.sub(r"([*_<>\[\]$|])", r"\\\1", part) if number % 2 == 0 else f"`{part}`"
        for number, part in enumerate(parts)
    )
    return "".join(words) if len(parts) % 2 else re.sub(r"([*_<>\[\]$|`])", r"\\\1", text)
