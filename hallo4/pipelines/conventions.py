"""Choices in which our pipeline differs on purpose from the released program, and the released ones.

They exist so that both can be compared frame by frame (`benchmarks/end_to_end.py`); a video for people is
made with the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hallo4.media.pixels import Rounding


@dataclass(frozen=True)
class Conventions:
    """Our choices, by default.

    `length` "sound": the video is as long as the sound, round(25 s) frames; "shortest" (released): the sound
    counts ceil(25 s) frames, and sound or skeleton, whichever is shorter, ends the video.
    `skeleton_timing` "resampled": a skeleton video is brought to 25 fps; "frame_by_frame" (released): its
    frames are taken one by one, whatever its rate.
    `rounding` "nearest" or "down" (released): of finished pixels to whole levels.
    `start_frame`: frames and sound before it are skipped (released: `start_inf_frame`; ours begin at 0).
    `known_frame_seed`: the blackened patches of window i come from a new generator with this seed plus i;
    None: a draw that depends on the video's seed and the window (released: from the global generator, whose
    state nothing fixes).
    """

    length: Literal["sound", "shortest"] = "sound"
    skeleton_timing: Literal["resampled", "frame_by_frame"] = "resampled"
    rounding: Rounding = "nearest"
    start_frame: int = 0
    known_frame_seed: int | None = None


OURS = Conventions()
RELEASED = Conventions("shortest", "frame_by_frame", "down")
