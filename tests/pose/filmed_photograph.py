"""A photograph that is turned, moved and zoomed by known amounts: a film of a real person."""

import numpy as np
from PIL import Image

FRAMES = 60
SECONDS = np.arange(FRAMES) / 25
ROLL_DEG = 10 * np.sin(2 * np.pi * 0.6 * SECONDS)
SHIFT_PX = np.stack(
    [16 * np.sin(2 * np.pi * 0.9 * SECONDS + 1), 9 * np.sin(2 * np.pi * 0.7 * SECONDS)], axis=-1
)
ZOOM = 1 + 0.06 * np.sin(2 * np.pi * 0.4 * SECONDS)
MIDDLE = np.array([224.0, 127.0])  # the astronaut's nose


def filmed(photograph, frames=FRAMES, further_px=(0.0, 0.0), closer=1.0):
    """Frames [512, 512, 3] uint8 of the photograph, `closer` times as large in all of them and `further_px`
    (right, down) away."""
    motion = zip(np.deg2rad(ROLL_DEG), SHIFT_PX + further_px, closer * ZOOM, strict=True)
    for _, (roll, shift, zoom) in zip(range(frames), motion, strict=False):
        back = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]]) / zoom
        away = MIDDLE - back @ (MIDDLE + shift)
        affine = (*back[0], away[0], *back[1], away[1])
        picture = Image.fromarray(photograph).transform(
            (512, 512), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
        )
        yield np.asarray(picture)
