"""Whether a video is a drawn skeleton, coloured lines on black, or was filmed: told by its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hallo4.media import read_frames

_LOOKS_HZ, _LOOKS = 1.0, 12
"""One picture a second is looked at, this many at most."""

DARK = 32
"""Levels below this are black: what compression leaves of black beside bright lines."""
_WHITE = 150
LEAST_BLACK, LEAST_COLOURED = 0.7, 0.5
"""A drawn skeleton is black in at least this share of the picture; of the rest at least this share is white
or strongly coloured. Drawings of 64 to 1024 px have 0.88 and 0.78 or more, a darkened photograph less."""


@dataclass(frozen=True)
class DrawnLook:
    """What was found in some pictures of a video, medians in [0, 1]: `black`, the share of black, and of
    the rest `coloured`, the share of white and of strong colours. True if that is a drawn skeleton.

    Pictures without anything that is not black count for neither; a video of nothing else is `empty`.
    """

    black: float
    coloured: float
    empty: bool = False

    def __bool__(self) -> bool:
        return not self.empty and self.black >= LEAST_BLACK and self.coloured >= LEAST_COLOURED

    def __str__(self) -> str:
        if self.empty:
            return "every picture that was looked at is black"
        return (
            f"{1 - self.black:.0%} of its picture is not black and {self.coloured:.0%} of that is strongly "
            f"coloured or white (a drawn skeleton: at most {1 - LEAST_BLACK:.0%}, at least "
            f"{LEAST_COLOURED:.0%})"
        )


def looks_like_skeleton_video(path: str | Path) -> DrawnLook:
    """Look at a picture a second of the first seconds of a video. Errors as `media.read_frames`."""
    shares = [_shares(frame) for frame in read_frames(path, _LOOKS_HZ, end_s=_LOOKS / _LOOKS_HZ)]
    lit = [share for share in shares if share is not None]
    if not lit:
        return DrawnLook(1.0, 0.0, empty=True)
    black, coloured = np.median(lit, axis=0)
    return DrawnLook(float(black), float(coloured))


def _shares(frame_u8: np.ndarray) -> tuple[float, float] | None:
    """(black, coloured) of a picture [H, W, 3], see `DrawnLook`; None if all of it is black."""
    most, least = frame_u8.max(axis=-1).astype(int), frame_u8.min(axis=-1).astype(int)
    lit = most >= DARK
    if not lit.any():
        return None
    coloured = lit & ((2 * (most - least) > most) | (least > _WHITE))
    return float(1 - lit.mean()), float(coloured.sum() / lit.sum())
