"""Videos of people of the portrait world who hum, with their keypoints beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hallo4.media import VideoWriter
from hallo4.motion import save_skeleton
from hallo4.types import Audio
from hallo4.world.episode import draw_clip
from hallo4.world.framing import square
from hallo4.world.truth import skeleton_of

SIZE_PX = 64


def acted(act, seed: int, frames: int, size_px: int = SIZE_PX):
    """(frames [T, H, W, 3] uint8, skeleton, sound) of a person who hums; `act`: see `quick_act`."""
    identity, speech, performance, _ = act(seed, frames / 25)
    _, frames_u8 = draw_clip(identity, performance, slice(0, frames), square(size_px))
    return frames_u8, skeleton_of(identity, performance, square(size_px), 25.0), speech.audio


def film(path: Path, frames_u8: np.ndarray, audio: Audio | None, skeleton=None, fps: float = 25.0) -> Path:
    """Write a video and, if given, the keypoints beside it."""
    height, width = frames_u8.shape[1:3]
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, width, height, fps=fps, audio=audio, crf=None) as writer:
        for frame in frames_u8:
            writer.write(frame)
    if skeleton is not None:
        save_skeleton(path.with_name(f"{path.stem}.keypoints.json"), skeleton)
    return path


def talking(act, path: Path, seed: int, frames: int = 23, size_px: int = SIZE_PX) -> Path:
    """A video of person `seed` with keypoints."""
    frames_u8, skeleton, audio = acted(act, seed, frames, size_px)
    return film(path, frames_u8, audio, skeleton)
