"""The pose at rest of the person in a portrait, as the observer sees them."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hallo4.errors import CheckpointError
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.observer import KEY_POINTS, PortraitObserver
from hallo4.motion.align import align_rest, figure_square
from hallo4.pipelines.model_info import read_config
from hallo4.types import Skeleton
from hallo4.weights.module_folder import load_strictly

OBSERVER_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "observer"
"""Where the observer that comes with the package lies: `config.json` and one `.safetensors`."""

LOOKS = 3
"""The observer knows people of the world's framing: a further look is framed by what the last one found."""

_INDICES = np.array(list(KEY_POINTS.values()))


def packaged_rest(image_u8: np.ndarray) -> Skeleton | None:
    """`observed_rest` by the observer of the package; None also if there is none.

    CheckpointError: it is there, but damaged.
    """
    return observed_rest(image_u8, _packaged_observer()) if OBSERVER_FOLDER.is_dir() else None


@torch.no_grad()
def observed_rest(image_u8: np.ndarray, observer: PortraitObserver) -> Skeleton | None:
    """The pose at rest [1 frame] of the person in an image [H, W, 3] uint8; None if none is seen.

    The observer looks at the square in the middle of the image, then at those around the person found there.
    """
    height_px, width_px = image_u8.shape[:2]
    side_px = min(width_px, height_px)
    square = ((width_px - side_px) / 2, (height_px - side_px) / 2, float(side_px))
    device = next(observer.parameters()).device
    for _ in range(LOOKS):
        frame_u8 = _cut(image_u8, *square, observer.config.frame_px)
        observation = observer(frames_to_pm1(frame_u8)[None].to(device))
        points_px = observation.points_01[0].cpu().numpy() * square[2] + square[:2]
        inside = ((points_px >= 0) & (points_px <= (width_px, height_px))).all(axis=-1)
        seen = (observation.visibility_logits[0] > 0).cpu().numpy() & inside
        pose, plausible = align_rest(points_px, seen, _INDICES, width_px, height_px)
        if not plausible:
            return None
        square = figure_square(pose)
    return pose


def load_observer(folder: str | os.PathLike[str] | None = None) -> PortraitObserver:
    """The observer of the package, or the one saved in `folder`, in float32 on the CPU, ready to measure.

    CheckpointError: nothing there, or weights that do not fit.
    """
    folder = OBSERVER_FOLDER if folder is None else Path(folder)
    if not os.path.exists(folder / "config.json"):
        raise CheckpointError(
            f"{folder}: no observer lies there (config.json is missing). Train one with "
            "`hallo4 train tiny-observer`, or name the folder of one."
        )
    observer = load_strictly(PortraitObserver, read_config(folder), folder)
    return observer.float().eval().requires_grad_(False)


@lru_cache(maxsize=1)
def _packaged_observer() -> PortraitObserver:
    return load_observer()


def _cut(image_u8: np.ndarray, left: float, top: float, side: float, frame_px: int) -> np.ndarray:
    """A square of the image as the observer's frame of `frame_px`; beyond the image its rim is repeated."""
    height_px, width_px = image_u8.shape[:2]
    outside = max(0.0, -left, -top, left + side - width_px, top + side - height_px)
    reach = math.ceil(outside)
    wide = np.pad(image_u8, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    box = (left + reach, top + reach, left + reach + side, top + reach + side)
    frame = Image.fromarray(wide).resize((frame_px, frame_px), Image.Resampling.BILINEAR, box=box)
    return np.array(frame)
