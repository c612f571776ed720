"""`hallo4 weights ...`: files that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from hallo4.cli import weights_convert


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 weights` and do it; the path of the result is the last line on stdout."""
    options = tyro.extras.subcommand_cli_from_dict(
        {"convert": weights_convert.Convert}, args=list(words), prog="hallo4 weights", description=__doc__
    )
    weights_convert.convert(options)
