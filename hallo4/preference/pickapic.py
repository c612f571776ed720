"""Pick-a-Pic's parquet, as Diffusion-DPO trains on it: two pictures as bytes, a caption, who was preferred.

::

    jpg_0, jpg_1, label_0, label_1, caption, image_0_uid, image_1_uid, best_image_uid, has_label, ...
      |                |
    middle frames    1 preferred, 0.5 tie, 0 not          + mp4_0, mp4_1: the videos; axis, simulated: ours

Where a table has no videos (the original), its pictures become clips of one frame.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hallo4.errors import InputError
from hallo4.media import VideoWriter, load_image, read_frames
from hallo4.media.files import check_input
from hallo4.media.parquet_files import pyarrow, read_table, write_table
from hallo4.preference.audit import source_of
from hallo4.preference.foreign import Imported, Inbox, is_simulated, majorities, prompt_of
from hallo4.preference.schema import AXES, Axis, Choice, Clip
from hallo4.preference.store import PreferenceStore
from hallo4.types import FPS

NAME = "pickapic"
BOTH = "both"
_NEEDED = ("jpg_0", "jpg_1", "label_0", "caption")
_COLUMNS = (*_NEEDED, "mp4_0", "mp4_1", "model_0", "model_1", "axis", "simulated", "has_label")


def export_pickapic(store: PreferenceStore, path: Path, axis: Axis | None = None) -> int:
    """Write every two compared clips as a row; returns the rows. `axis` None: the mean of both axes.

    MissingExtraError without pyarrow; InputError: no ratings, or a clip's file is missing.
    """
    pyarrow()
    clips, conditions, simulated = store.clips(), store.conditions(), is_simulated(store)
    pictures = {
        name: _still(store, clips[name]) for name in {name for pair in majorities(store) for name in pair}
    }

    def rows() -> Iterator[dict[str, Any]]:
        for (a, b), outcome in majorities(store).items():
            known = [outcome[of] for of in AXES if of in outcome and axis in (None, of)]
            if not known:
                continue
            mean = sum(known) / len(known)
            label = 0.5 if mean == 0.5 else float(mean > 0.5)
            best = a if label == 1 else b if label == 0 else "tie"
            yield {
                "are_different": True,
                "best_image_uid": best,
                "caption": prompt_of(store, conditions[clips[a].condition_id]),
                "has_label": True,
                **{f"image_{i}_uid": name for i, name in enumerate((a, b))},
                **{f"jpg_{i}": pictures[name] for i, name in enumerate((a, b))},
                "label_0": label,
                "label_1": 1.0 - label,
                **{f"model_{i}": source_of(clips[name]) for i, name in enumerate((a, b))},
                **{f"mp4_{i}": store.media_path(clips[n].path).read_bytes() for i, n in enumerate((a, b))},
                "axis": axis or BOTH,
                "simulated": simulated,
            }

    return write_table(path, rows())


def import_pickapic(store: PreferenceStore, table: Path) -> Imported:
    """Add the comparisons of a table to a store, on the axis it names, else on both: one label says no more.

    Rows without a label or with unreadable media are dropped, one line each. MissingExtraError without
    pyarrow; InputError: no parquet, or columns are missing.
    """
    pyarrow()
    inbox = Inbox(store, NAME, check_input(table, "a parquet file"))
    for number, row in enumerate(read_table(table, _COLUMNS), start=1):
        missing = [name for name in _NEEDED if name not in row]
        if missing:
            raise InputError(f"{table}: has no column {', '.join(missing)}; needed are {', '.join(_NEEDED)}.")
        answer = {1.0: "a", 0.5: "tie", 0.0: "b"}.get(row["label_0"])
        if answer is None or row.get("has_label") is False:
            inbox.drop(number, f"label_0 is {row['label_0']}; allowed are 0, 0.5 and 1.")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                videos = tuple(_video(row, side, Path(scratch)) for side in (0, 1))
            except InputError as error:
                inbox.drop(number, str(error))
                continue
            models = tuple(str(row.get(f"model_{side}") or NAME)[:400] for side in (0, 1))
            said = _said(row.get("axis"), answer)  # type: ignore[arg-type]
            inbox.add_row(number, str(row["caption"]), videos, models, said, bool(row.get("simulated")))  # type: ignore[arg-type]
    return inbox.result


def _said(axis: str | None, answer: Choice) -> dict[Axis, Choice]:
    return {of: answer for of in AXES if axis in (None, BOTH, of)}


def _still(store: PreferenceStore, clip: Clip) -> bytes:
    """The middle frame as JPEG."""
    frames = read_frames(store.media_path(clip.path), FPS, start_s=(clip.frames // 2) / FPS)
    out = io.BytesIO()
    Image.fromarray(next(frames)).save(out, "JPEG", quality=95)
    return out.getvalue()


def _video(row: dict[str, Any], side: int, scratch: Path) -> Path:
    """The video of a row as a file; a picture becomes one frame. InputError: neither is there."""
    path = scratch / f"{side}.mp4"
    if row.get(f"mp4_{side}"):
        path.write_bytes(row[f"mp4_{side}"])
        return path
    if not row.get(f"jpg_{side}"):
        raise InputError(f"jpg_{side} is empty.")
    picture = scratch / f"{side}.jpg"
    picture.write_bytes(row[f"jpg_{side}"])
    frame: np.ndarray = load_image(picture)
    with VideoWriter(path, frame.shape[1], frame.shape[0], FPS) as writer:
        writer.write(frame)
    return path
