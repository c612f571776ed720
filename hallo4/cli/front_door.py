"""The front door of the command line: pick the command, and turn every error of the user into one line.

Nothing heavy is imported here, so `hallo4 --help` answers at once; a command's module is imported when it is
asked for.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from hallo4.errors import Cancelled, Hallo4Error
from hallo4.input_file import shown, why
from hallo4.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "animate": ("hallo4.cli.animate", "make a video of a portrait that speaks a recording"),
    "studio": ("hallo4.cli.studio", "open a page in the browser on which people make videos"),
    "keypoints": ("hallo4.cli.keypoints", "find a person in videos and pictures: skeleton files"),
    "weights": ("hallo4.cli.weights", "fetch, check and convert files that come from elsewhere"),
    "doctor": ("hallo4.cli.doctor", "what this machine can do, and what a job would take"),
    "world": ("hallo4.cli.world", "write episodes of the procedural portrait world"),
    "data": ("hallo4.cli.data", "prepare folders of videos to train on, and look at what was kept"),
    "train": ("hallo4.cli.train", "run or resume a training recipe"),
    "prefer": ("hallo4.cli.prefer", "collect preferences: candidates, ratings, pairs"),
    "evaluate": ("hallo4.cli.evaluate", "measure a model, with confidence intervals"),
}

EXIT_OK, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_UNREAD = 0, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hallo4 ARGUMENTS` (default: those of the process) and return the exit code.

    0: done; 2: the user can fix it, one line on stderr says how; 130: stopped by the user; 141: whoever read
    the output has closed it, as `head` does.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with suppress(AttributeError, ValueError):  # closed, or something that is no file
        sys.stdout.reconfigure(errors="surrogateescape")  # paths are printed byte by byte
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show, warnings.showwarning)
        try:
            code = _run(words)
            if sys.stdout is not None:  # closed from the beginning
                sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            return EXIT_UNREAD
        except OSError as error:
            if error.filename is not None:  # a name that cannot be, a loop of links, a folder that is closed
                name = shown(error.filename)
                return _complain(f"{name}: cannot be used ({why(error)}). Give another name or place.")
            if error.errno != errno.ENOSPC:
                raise
            _forget_output()
            return _complain(f"what was to be printed cannot be written ({error.strerror}). Make room.")
    if "hallo4.training.ranks" in sys.modules:  # one of several processes ends in its own way
        sys.modules["hallo4.training.ranks"].leave(code)
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return EXIT_OK
    if words[0] in ("-V", "--version"):
        print(f"hallo4 {__version__}")
        return EXIT_OK
    if words[0] not in COMMANDS:
        return _complain(
            f"{words[0]!r} is no command of hallo4; there are {', '.join(COMMANDS)}. See hallo4 --help."
        )
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        importlib.import_module(COMMANDS[words[0]][0]).run(words[1:])
    except Cancelled as stop:
        print(f"hallo4: {stop}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("hallo4: stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Hallo4Error as error:
        return _complain(str(error))
    except SystemExit as stop:  # the argument parser has spoken already
        return stop.code if isinstance(stop.code, int) else EXIT_OK
    return EXIT_OK


def _forget_output() -> None:
    """What waits to be printed goes nowhere, so that Python does not complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())


def _show(others: Callable[..., None], message: Warning | str, kind: type[Warning], *place: object) -> None:
    """Warnings of this package are notes of one line; the others are shown as ever."""
    if kind.__module__.startswith("hallo4."):
        print(f"hallo4: note: {message}", file=sys.stderr)
    else:
        others(message, kind, *place)


def _complain(message: str) -> int:
    line = " ".join(message.split()).encode(errors="backslashreplace").decode()  # names of other bytes
    print(f"hallo4: error: {line}", file=sys.stderr)
    return EXIT_ERROR


def _help() -> str:
    lines = [f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hallo4 COMMAND ...",
            "",
            "A portrait, speech and, if you like, a skeleton go in; a talking, moving video comes out.",
            "",
            "commands:",
            *lines,
            "",
            "  hallo4 COMMAND --help   what a command takes",
            "  hallo4 --version        the version",
            "",
            "example: hallo4 animate portrait.png speech.wav -o talk.mp4",
        ]
    )
