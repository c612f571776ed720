"""A calm half-body pose, facing the camera: where idle motion starts when no pose was measured."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.json_file import read_json
from hallo4.types import FPS, Skeleton

REST_POSE_FILE = Path(__file__).resolve().parent.parent / "assets" / "rest_pose.json"
"""Mean and modes of many people of the portrait world at rest, in parts of a square picture."""


def default_rest_pose(width_px: int, height_px: int) -> Skeleton:
    """One frame of the mean portrait at rest, in a picture of `width_px` x `height_px`.

    In a square picture the eyes lie at y = 0.43, the chin at 0.70, the shoulders at 0.85 and the hands at the
    lower edge; other pictures hold this square in their middle. Confidence is 1, also for elbows and hips,
    which lie below a square picture (their limbs are drawn as far as they reach into it); for knees, ankles
    and feet it is 0.
    """
    points_01, confidence, _ = _rest_pose()
    side_px = min(width_px, height_px)
    points = np.array([width_px, height_px]) / 2 + (points_01 - 0.5) * side_px
    return Skeleton(
        points[None].astype(np.float32), confidence[None].copy(), FPS, int(width_px), int(height_px)
    )


def rest_modes() -> np.ndarray:
    """How people differ at rest: the leading principal components [8, 133, 2], one standard deviation long.

    In sides of the square picture that `default_rest_pose` speaks of.
    """
    return _rest_pose()[2].copy()


@lru_cache(maxsize=1)
def _rest_pose() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pose = read_json(REST_POSE_FILE, dict[str, Any])
    return np.array(pose["points_01"]), np.array(pose["confidence"], np.float32), np.array(pose["modes"])
