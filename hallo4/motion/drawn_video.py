"""Whether a video is a drawn skeleton, coloured lines on black, or was filmed, by its pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hallo4.media import read_frames

_LOOKS_HZ, _LOOKS = 5.0, 12
"""Five pictures a second are looked at, until this many are not black."""

_LARGEST = 3840 * 2160
"""Of larger pictures every second pixel, or fewer, are looked at."""

DARK = 32
"""Levels below this are black: what compression leaves of black beside bright lines."""
_WHITE = 150
LEAST_BLACK, LEAST_COLOURED = 0.7, 0.5
"""A drawn skeleton is black in at least this share of its picture, and this share of the rest is white or
strongly coloured. Drawings of 64 to 512 px have 0.87 and 0.77 or more; photographs, at any brightness, have
at most one of both."""


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
    """Look at some pictures from the first seconds, or from the first in which there is something; errors as
    `media.read_frames`."""
    lit = list(
        islice((_shares(frame) for frame in read_frames(path, _LOOKS_HZ) if anything_drawn(frame)), _LOOKS)
    )
    if not lit:
        return DrawnLook(1.0, 0.0, empty=True)
    black, coloured = np.median(lit, axis=0)
    return DrawnLook(float(black), float(coloured))


def anything_drawn(frame_u8: np.ndarray) -> bool:
    """Whether a picture [H, W, 3] is not all black."""
    return bool(frame_u8.max() >= DARK)


def _shares(frame_u8: np.ndarray) -> tuple[float, float]:
    """(black, coloured) of a picture [H, W, 3] that is not all black, see `DrawnLook`."""
    every = math.isqrt(frame_u8[..., 0].size // _LARGEST) + 1
    frame_u8 = frame_u8[::every, ::every]
    most, least = frame_u8.max(axis=-1).astype(np.int16), frame_u8.min(axis=-1).astype(np.int16)
    lit = most >= DARK
    if not lit.any():
        return 1.0, 0.0
    coloured = lit & ((2 * (most - least) > most) | (least > _WHITE))
    return float(1 - lit.mean()), float(coloured.sum() / lit.sum())
