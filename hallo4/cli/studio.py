"""`hallo4 studio`: a page in the browser on which people make videos."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from hallo4.cli.options import parse
from hallo4.ranges import Port, Workers


@dataclass(frozen=True)
class Studio:
    """Open a page on which people make videos: from a portrait, a voice and a driving video, dropped or
    recorded there.

    Videos and everything that they are made from lie in FOLDER. Stop it with Ctrl-C or kill it: what was not
    finished resumes at the next start.
    """

    folder: Annotated[Positional[Path], arg(metavar="[FOLDER]")] = Path("hallo4-studio")
    """where videos, uploads and the key are kept; it is made if it is not there"""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """0.0.0.0 lets other machines of your network in, with the link"""
    port: Annotated[Port, arg(metavar="N")] = 8431
    """0 takes any free port"""
    model: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME_OR_DIR", help_behavior_hint="(repeatable; default: those that are here)"),
    ] = ()
    """offer this model too, and first"""
    device: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME", help_behavior_hint="(repeatable; default: every GPU, else the CPU)"),
    ] = ()
    """one worker on it: cpu, cuda or cuda:N"""
    ray: Annotated[
        str | None, arg(metavar="auto|HOST:PORT", help_behavior_hint="(default: one studio, here)")
    ] = None
    """several studios behind the page, on a Ray cluster whose machines share FOLDER's disk; `auto` is the
    cluster of this machine"""
    replicas: Annotated[
        Workers | None,
        arg(metavar="N", help_behavior_hint="(default: one for every GPU, else for every machine)"),
    ] = None
    """how many studios with --ray, each with a GPU where there are any, else a CPU"""
    no_browser: Annotated[bool, FlagCreatePairsOff] = False
    """only print the link"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 studio` and serve until Ctrl-C; the link is the only line on stdout."""
    options = parse(Studio, list(words), prog="hallo4 studio")

    from hallo4.errors import InputError
    from hallo4.studio.make import open_on_cluster, serve

    def ready(link: str) -> None:
        print(link, flush=True)
        print("Open this link to make videos; Ctrl-C ends the studio.", file=sys.stderr)
        if not options.no_browser and _has_screen():
            import webbrowser

            webbrowser.open(link)

    if options.replicas is not None and options.ray is None:
        raise InputError("--replicas is for a cluster; give its address with --ray, or leave it out.")
    if options.ray is not None:
        if options.device:
            raise InputError("--device is for one studio; those of --ray take what the cluster gives them.")
        where = (options.folder, options.ray, options.replicas, options.host, options.port, options.model)
        with open_on_cluster(*where) as link:
            ready(link)
            with suppress(KeyboardInterrupt):  # the way to end it
                threading.Event().wait()
        return
    serve(
        *(options.folder, options.host, options.port, options.model),
        devices=options.device or ("auto",),
        on_ready=ready,
    )


def _has_screen() -> bool:
    """Whether a browser with a window can be opened; one in the terminal would stand in the way."""
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
