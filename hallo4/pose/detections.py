"""Single-shot detectors: anchors, decoding and suppression of what is found twice.

After the graphs of MediaPipe (Apache-2.0, github.com/google-ai-edge/mediapipe): the options of
`SsdAnchorsCalculator`, `TensorsToDetectionsCalculator` and `NonMaxSuppressionCalculator` in
mediapipe/modules/face_detection/face_detection_short_range.pbtxt, pose_detection/pose_detection_cpu.pbtxt and
palm_detection/palm_detection_cpu.pbtxt.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from hallo4.pose.estimator import overlap

MIN_SCORE = 0.5
SAME_OVERLAP = 0.3
_SCORE_CLIP = 100.0


@dataclass(frozen=True)
class Detection:
    """`box` [4] (left, top, right, bottom), `points` [n, 2] and `score` in [0, 1], in whatever unit the
    anchors have."""

    box: np.ndarray
    points: np.ndarray
    score: float

    def moved(self, scale: float, shift: np.ndarray) -> Detection:
        """The same in another frame: `scale` times, then `shift` [2]."""
        return Detection(
            self.box * scale + np.concatenate([shift, shift]), self.points * scale + shift, self.score
        )


def anchors_01(size_px: int, strides: tuple[int, ...]) -> np.ndarray:
    """Centres [A, 2] of the anchors of a picture of `size_px`, in its sides.

    Two anchors per cell for each layer; layers of equal stride share their cells.
    """
    centres = []
    for stride, layers in groupby(strides):
        cells = size_px // stride
        down, across = np.mgrid[0:cells, 0:cells]
        grid = (np.stack([across.ravel(), down.ravel()], axis=-1) + 0.5) / cells
        centres.append(np.repeat(grid, 2 * len(list(layers)), axis=0))
    return np.concatenate(centres)


def decode(regressors: np.ndarray, logits: np.ndarray, anchors: np.ndarray, size_px: int) -> list[Detection]:
    """Raw outputs [A, 4 + 2 n] and [A] -> detections in sides of the picture, each person once, best first.

    A row is (x, y, width, height, x0, y0, x1, y1, ...) in pixels, x and y relative to the anchor.
    """
    score = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -_SCORE_CLIP, _SCORE_CLIP)))
    chosen = np.flatnonzero(score >= MIN_SCORE)
    rows = regressors[chosen].astype(np.float64) / size_px
    centre, half = rows[:, :2] + anchors[chosen], rows[:, 2:4] / 2
    points = rows[:, 4:].reshape(len(rows), (rows.shape[1] - 4) // 2, 2) + anchors[chosen, None]
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return suppressed([Detection(*one) for one in zip(boxes, points, score[chosen].tolist(), strict=True)])


def suppressed(found: list[Detection]) -> list[Detection]:
    """Detections of one thing merged: their mean, weighted by score, with the score of the best."""
    left = sorted(found, key=lambda one: -one.score)
    kept = []
    while left:
        shared = overlap(left[0].box, np.stack([one.box for one in left]))
        same = [one for one, part in zip(left, shared, strict=True) if part > SAME_OVERLAP or one is left[0]]
        weights = np.array([one.score for one in same]) / sum(one.score for one in same)
        box = np.tensordot(weights, np.stack([one.box for one in same]), 1)
        points = np.tensordot(weights, np.stack([one.points for one in same]), 1)
        kept.append(Detection(box, points, left[0].score))
        left = [one for one in left if not any(one is other for other in same)]
    return kept
