"""A report on disk: JSON that is there completely or not at all, and its picture beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hallo4.errors import OutputError


def require_writable(out: Path) -> None:
    """OutputError, before any work, unless a report can be written to `out`; its folder is made.

    Page and picture of a report lie beside it under the same name, so it may not end as they do.
    """
    if out.suffix.lower() in (".html", ".png"):
        raise OutputError(
            f"{out}: a page or picture takes that name; the report is JSON. Choose one that ends in .json."
        )
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; the report is a file. Choose a name that ends in .json.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.touch()
        part.unlink()
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); nothing was measured. Choose another path."
        ) from error


def write_with_picture(
    report: dict[str, Any], out: Path, draw: Callable[[dict[str, Any], Path], None]
) -> dict[str, Any]:
    """Write the report to `out` in one stroke and what `draw` makes beside it; returns the report.

    Without matplotlib there is no picture but a note that says so. OutputError: it cannot be written.
    """
    report = dict(report)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            draw(report, out.with_suffix(".png"))
        except ImportError:
            missing = "No picture: matplotlib is missing (pip install 'hallo4[evaluate]')."
            report["notes"] = [*report.get("notes", ()), missing]
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}). Choose another path.") from error
    write_json(report, out)
    return report


def write_json(report: dict[str, Any], out: Path) -> None:
    """Write a report in one stroke. OutputError: it cannot be written."""
    write_text(out, json.dumps(report, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one stroke: whole or not at all. OutputError: it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Choose another path.") from error
