"""Draw skeletons as the released model expects them: OpenPose limbs, fingers, a face of dots without a mouth.

Sizes are those of the public DWPose drawing at 768 px, as measured on the released demo (areas of its ragged
discs, width of its lines); they scale with the shorter side of the picture, but not below about one pixel.
Unlike DWPose, which paints hard edges at whole pixels, the picture is painted larger and averaged down, so
that a quarter of a pixel of motion and a blink stay visible at 128 px.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from hallo4.motion import layout
from hallo4.types import Skeleton

_REFERENCE_SIDE_PX = 768
_LIMB_WIDTH_PX, _LIMB_MIN_PX = 9.0, 1.5
_JOINT_DIAMETER_PX, _JOINT_MIN_PX = 8.0, 1.5
_FINGER_WIDTH_PX, _FINGER_MIN_PX = 2.75, 0.75
_FINGER_JOINT_DIAMETER_PX, _FINGER_JOINT_MIN_PX = 8.0, 1.25
_FACE_DOT_DIAMETER_PX, _FACE_DOT_MIN_PX = 6.0, 1.25

# A unit circle, stretched to the ellipse of each limb.
_ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_LIMB_ENDS = np.array(layout.LIMBS)


def draw_skeleton(skeleton: Skeleton, width_px: int, height_px: int) -> np.ndarray:
    """Pictures [T, H, W, 3] uint8 RGB of `skeleton`, stretched to width_px x height_px.

    Coordinates are continuous: pixel i covers [i, i+1], so x = 0 and x = width_px are the picture's edges.
    Points with confidence below `layout.SEEN`, and the lines that end in them, are not drawn; nor are the
    mouth and the feet. Deterministic.
    """
    scale = np.array([width_px / skeleton.width_px, height_px / skeleton.height_px])
    oversampling = 4 if min(width_px, height_px) <= 256 else 2
    points = skeleton.points_px.astype(np.float64) * (scale * oversampling)
    # Far outside is as good as at the rim, and keeps Pillow's whole numbers in range.
    limit = 16.0 * oversampling * max(width_px, height_px)
    finite = np.isfinite(points).all(axis=-1)
    points = np.clip(np.where(finite[..., None], points, 0.0), -limit, limit)
    seen = (skeleton.confidence >= layout.SEEN) & finite

    brush = _Brush(min(width_px, height_px), oversampling)
    pictures = np.empty((len(points), height_px, width_px, 3), np.uint8)
    for picture, frame_points, frame_seen in zip(pictures, points, seen, strict=True):
        canvas = Image.new("RGB", (width_px * oversampling, height_px * oversampling))
        pen = ImageDraw.Draw(canvas)
        _draw_body(pen, brush, frame_points, frame_seen)
        for hand in (layout.LEFT_HAND, layout.RIGHT_HAND):
            _draw_hand(pen, brush, frame_points[hand], frame_seen[hand])
        face = layout.DRAWN_FACE
        _draw_discs(pen, brush.face_dot, frame_points[face], frame_seen[face], layout.FACE_COLOUR)
        picture[...] = np.asarray(canvas.reduce(oversampling))
    return pictures


class _Brush:
    """Sizes of all strokes on the oversampled canvas, in its whole pixels (limbs: a float)."""

    def __init__(self, side_px: int, oversampling: int) -> None:
        def stroke(size_px: float, least_px: float) -> float:
            return max(size_px * side_px / _REFERENCE_SIDE_PX, least_px) * oversampling

        self.limb = stroke(_LIMB_WIDTH_PX, _LIMB_MIN_PX)
        self.joint = round(stroke(_JOINT_DIAMETER_PX, _JOINT_MIN_PX))
        self.finger = round(stroke(_FINGER_WIDTH_PX, _FINGER_MIN_PX))
        self.finger_joint = round(stroke(_FINGER_JOINT_DIAMETER_PX, _FINGER_JOINT_MIN_PX))
        self.face_dot = round(stroke(_FACE_DOT_DIAMETER_PX, _FACE_DOT_MIN_PX))


def _draw_body(pen: ImageDraw.ImageDraw, brush: _Brush, points: np.ndarray, seen: np.ndarray) -> None:
    """Limbs as filled ellipses from joint to joint, then the joints as discs above all limbs."""
    joints, joint_confidence = layout.openpose_body(points, seen.astype(np.float64))
    joint_seen = joint_confidence > 0
    start, end = joints[_LIMB_ENDS[:, 0]], joints[_LIMB_ENDS[:, 1]]
    along = (end - start) / 2
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1) / length * (brush.limb / 2)
    axes = np.stack([along, across], axis=1)  # [limb, along | across, xy]
    # Pillow names pixels by their centre; our coordinates name their corner.
    outlines = ((start + end) / 2)[:, None] + _CIRCLE @ axes - 0.5
    limb_seen = joint_seen[_LIMB_ENDS].all(axis=1)
    for limb in np.flatnonzero(limb_seen):
        pen.polygon(outlines[limb].ravel().tolist(), fill=layout.LIMB_COLOURS[limb])
    for joint in np.flatnonzero(joint_seen):
        one = slice(joint, joint + 1)
        _draw_discs(pen, brush.joint, joints[one], joint_seen[one], layout.JOINT_COLOURS[joint])


def _draw_hand(pen: ImageDraw.ImageDraw, brush: _Brush, points: np.ndarray, seen: np.ndarray) -> None:
    """Twenty finger lines in the colours of the rainbow, then blue joints above them."""
    corner, visible = (points - 0.5).tolist(), seen.tolist()
    for (a, b), colour in zip(layout.HAND_EDGES, layout.HAND_EDGE_COLOURS, strict=True):
        if visible[a] and visible[b]:
            pen.line(corner[a] + corner[b], fill=colour, width=brush.finger)
    _draw_discs(pen, brush.finger_joint, points, seen, layout.HAND_JOINT_COLOUR)


def _draw_discs(
    pen: ImageDraw.ImageDraw,
    diameter: int,
    points: np.ndarray,
    seen: np.ndarray,
    colour: tuple[int, int, int],
) -> None:
    """Discs of `diameter` canvas pixels, centred on the seen points."""
    corners = np.rint(points[seen] - diameter / 2).astype(int)
    for x, y in corners.tolist():
        pen.ellipse((x, y, x + diameter - 1, y + diameter - 1), fill=colour)
