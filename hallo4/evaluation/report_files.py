"""A report on disk: JSON that is there completely or not at all, and its picture beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from hallo4.errors import OutputError
from hallo4.whole import real_path, refuse_irregular, temporary_beside, write_whole


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
        refuse_irregular(real_path(out))
        trial = temporary_beside(out)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); nothing was measured. Choose another path."
        ) from error


def write_with_picture(
    report: dict[str, Any], out: Path, draw: Callable[[dict[str, Any], BinaryIO], None]
) -> dict[str, Any]:
    """Write the report to `out` in one stroke and what `draw` makes beside it; returns the report.

    Without matplotlib there is no picture but a note that says so. OutputError: it cannot be written.
    """
    report = dict(report)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            picture = BytesIO()
            draw(report, picture)
            write_whole(out.with_suffix(".png"), picture.getvalue())
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
    try:
        write_whole(path, text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Choose another path.") from error
