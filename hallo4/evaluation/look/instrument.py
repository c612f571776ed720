"""Measuring videos: the trained observer looked through, and what it should have seen.

The same functions measure generated frames and rendered ones; on the latter the truth is known, which is how
the instrument's own error is stated beside every result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hallo4.errors import ShapeError
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.observer import KEY_POINTS, STATES, PortraitObserver
from hallo4.motion import layout
from hallo4.motion.align import align_rest
from hallo4.pipelines.portrait_pose import OBSERVER_FOLDER as OBSERVER_FOLDER
from hallo4.pipelines.portrait_pose import load_observer as load_observer
from hallo4.types import FPS, KEYPOINTS, Skeleton

FRAMES_AT_ONCE = 32
_RANGES = {"mouth_open": (0.0, 1.0), "mouth_wide": (0.0, 1.0), "blink": (0.0, 1.0), "brow": (-1.0, 1.0)}
_INDICES = list(KEY_POINTS.values())


@dataclass(frozen=True)
class Measurement:
    """What the observer saw in T frames.

    `points_px` [T, P, 2] float32 in pixels of the measured frames, in the order of `KEY_POINTS`; `seen` [T,
    P] bool; `mouth_open`, `mouth_wide`, `blink` [T] in [0, 1] and `brow` [T] in [-1, 1], float32, clipped.
    """

    points_px: np.ndarray
    seen: np.ndarray
    mouth_open: np.ndarray
    mouth_wide: np.ndarray
    blink: np.ndarray
    brow: np.ndarray

    def __len__(self) -> int:
        return len(self.mouth_open)


@torch.no_grad()
def measure(observer: PortraitObserver, frames_u8: np.ndarray) -> Measurement:
    """Look at every frame of [T, H, W, 3] uint8, one by one; ShapeError for anything else."""
    if frames_u8.dtype != np.uint8 or frames_u8.ndim != 4 or frames_u8.shape[-1] != 3 or not len(frames_u8):
        raise ShapeError(
            "The observer measures frames uint8 [T, H, W, 3]; "
            f"found {frames_u8.dtype} {list(frames_u8.shape)}."
        )
    height, width = frames_u8.shape[1:3]
    device = next(observer.parameters()).device
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("points_px", "seen", *STATES)}
    for start in range(0, len(frames_u8), FRAMES_AT_ONCE):
        chunk = np.ascontiguousarray(frames_u8[start : start + FRAMES_AT_ONCE])
        observation = observer(frames_to_pm1(torch.from_numpy(chunk).to(device)))
        parts["points_px"].append(observation.points_01.cpu().numpy() * np.float32([width, height]))
        parts["seen"].append((observation.visibility_logits > 0).cpu().numpy())
        for name in STATES:
            parts[name].append(np.clip(getattr(observation, name).cpu().numpy(), *_RANGES[name]))
    return Measurement(**{name: np.concatenate(values) for name, values in parts.items()})


@torch.no_grad()
def observed_skeleton(
    observer: PortraitObserver, frames_u8: np.ndarray
) -> tuple[Skeleton, dict[str, np.ndarray]]:
    """What the observer sees in [T, H, W, 3] uint8, as a skeleton and its `STATES` [T] (as in `measure`).

    The observer's key points have the probability that they are visible as confidence; the rest of the 133
    has none. Of frames that are not square it sees the square in the middle. A frame whose points make no
    plausible person (`motion.align`) shows no person: confidences zero, states NaN. It knows the portrait
    world only.
    """
    frames, (height, width) = len(frames_u8), frames_u8.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    skeleton = no_person(frames, width, height)
    states = {name: np.full(frames, np.nan, np.float32) for name in STATES}
    for start in range(0, frames, FRAMES_AT_ONCE):
        chunk = frames_u8[start : start + FRAMES_AT_ONCE, top : top + side, left : left + side]
        observation = observer(frames_to_pm1(np.ascontiguousarray(chunk)))
        seen_px = observation.points_01.numpy() * np.float32(side) + np.float32([left, top])
        certain = observation.visibility_logits.sigmoid().numpy()
        for t in range(len(chunk)):
            _, person = align_rest(seen_px[t], certain[t] > 0.5, np.array(_INDICES), width, height)
            if person:
                skeleton.points_px[start + t, _INDICES] = seen_px[t]
                skeleton.confidence[start + t, _INDICES] = certain[t]
                for name in STATES:
                    states[name][start + t] = np.clip(float(getattr(observation, name)[t]), *_RANGES[name])
    return skeleton, states


def no_person(frames: int, width: int, height: int) -> Skeleton:
    """Frames in which no point is seen."""
    points, confidence = np.zeros((frames, KEYPOINTS, 2)), np.zeros((frames, KEYPOINTS))
    return Skeleton(np.float32(points), np.float32(confidence), FPS, width, height)


def true_key_points(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """The observer's key points in a skeleton: pixels [T, P, 2] float32, and which are visible, [T, P] bool.

    Visible: confidence of at least `layout.SEEN` (0.3) and inside the frame.
    """
    points = skeleton.points_px[:, _INDICES].astype(np.float32)
    inside = ((points >= 0) & (points <= np.float32([skeleton.width_px, skeleton.height_px]))).all(axis=-1)
    return points, inside & (skeleton.confidence[:, _INDICES] >= layout.SEEN)
