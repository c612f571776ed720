"""Is it still the same person: faces set upright, turned into vectors, compared by their cosine (CSIM).

    frame, five points (eyes, nose, corners of the mouth) --> similarity transform --> face [112, 112, 3]
    --> a `FaceEncoder` --> [D] --> cosine with that of the portrait

With ArcFace (insightface `w600k_r50.onnx`, brought by the user) this is CSIM. Without it the `patch`
encoder stands in, which compares coarse colours of the aligned face: good enough to see another person in
the portrait world, never to be called CSIM.
"""

from __future__ import annotations

import math
import os
from typing import Protocol

import numpy as np

from hallo4.errors import InputError, ShapeError
from hallo4.types import Skeleton

FACE_PX = 112
TEMPLATE_PX = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where ArcFace wants the eye at the left of the picture, the other eye, nose, and corners of the mouth, as
insightface publishes it (`arcface_dst` of its face_align.py): whole numbers are the middles of pixels."""


class FaceEncoder(Protocol):
    """Aligned faces [n, 112, 112, 3] uint8 RGB -> vectors [n, D] float; `name` stands in every report."""

    name: str

    def __call__(self, faces_u8: np.ndarray) -> np.ndarray:
        """Encode."""
        ...


class PatchEncoder:
    """Coarse colours: means of 8x8 blocks of the inner face, 11 down by 10 across, less mid-grey (128):
    [n, 330]. No weights.
    """

    name = "patch"

    def __call__(self, faces_u8: np.ndarray) -> np.ndarray:
        """Encode."""
        cells = FACE_PX // 8
        blocks = faces_u8.reshape(len(faces_u8), cells, 8, cells, 8, 3).mean(axis=(2, 4), dtype=np.float64)
        inner = blocks[:, 2:-1, 2:-2]  # brows to chin; the rim is hair and background
        return (inner - 128.0).reshape(len(faces_u8), -1)


ARCFACE_RUNS = ("CSIM runs ArcFace", "identity")
"""What `require_onnxruntime` names in its error."""


class ArcFaceEncoder:
    """insightface's ArcFace by onnxruntime: (x - 127.5) / 127.5, RGB -> [n, 512].

    MissingExtraError without onnxruntime, CheckpointError without `w600k_r50.onnx`.
    """

    name = "arcface-r50"

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        from hallo4.weights.check import find_weights
        from hallo4.weights.onnx_session import open_onnx

        self.session = open_onnx(find_weights("arcface", folder), *ARCFACE_RUNS, threads=1)

    def __call__(self, faces_u8: np.ndarray) -> np.ndarray:
        """Encode."""
        planes = ((faces_u8.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
        return self.session.run(None, {self.session.get_inputs()[0].name: np.ascontiguousarray(planes)})[0]


def cosine_similarity(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """[T]: cosine of vectors [T, D] (rows of NaN: no face) with that of the portrait [D]; NaN: no face.

    ShapeError for other shapes; InputError where the portrait has no face or its vector is zero.
    """
    vectors, reference = np.asarray(vectors, np.float64), np.asarray(reference, np.float64)
    if vectors.ndim != 2 or reference.shape != vectors.shape[1:] or not len(vectors):
        raise ShapeError(
            f"Identity compares vectors [T, D] with one [D]; found {list(vectors.shape)} and "
            f"{list(reference.shape)}."
        )
    length = np.linalg.norm(reference)
    if not np.isfinite(length) or length == 0:
        raise InputError("The portrait has no usable face. Give a portrait, or a reference that shows one.")
    found = np.isfinite(vectors).all(axis=1)
    cosine = np.full(len(vectors), math.nan)
    lengths = np.linalg.norm(vectors[found], axis=1)
    cosine[found] = vectors[found] @ reference / np.maximum(lengths * length, 1e-12)
    return cosine


def faces_alike(
    frames_u8: np.ndarray, points_px: np.ndarray, others_u8: np.ndarray, others_px: np.ndarray
) -> np.ndarray:
    """[T]: cosine of `PatchEncoder`'s vectors of the faces of two videos [T, H, W, 3] uint8, moment by
    moment, each set upright by its own five points [T, 5, 2] px; NaN where a point is NaN or a face mid-grey.
    """
    found = np.flatnonzero((np.isfinite(points_px) & np.isfinite(others_px)).all(axis=(1, 2)))
    alike = np.full(len(frames_u8), math.nan)
    if not len(found):
        return alike
    one, other = (
        PatchEncoder()(np.stack([align_face(video[t], points[t]) for t in found]))
        for video, points in ((frames_u8, points_px), (others_u8, others_px))
    )
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (one * other).sum(axis=1) / np.where(lengths > 0, lengths, math.nan)
    alike[found] = np.clip(cosine, -1, 1)
    return alike


def five_points(skeleton: Skeleton) -> np.ndarray:
    """[T, 5, 2] float64 pixels in the order of `TEMPLATE_PX`, rows of NaN where one of the five is not seen
    or all fall together.

    Eyes and nose are the body's points 1, 2 and 0, mouth corners the face's 48 and 54.
    """
    from hallo4.motion import layout

    corner = layout.MOUTH.start
    indices = [layout.RIGHT_EYE, layout.LEFT_EYE, layout.NOSE, corner, corner + 6]
    points = skeleton.points_px[:, indices].astype(np.float64)
    unseen = (skeleton.confidence[:, indices] < layout.SEEN).any(axis=1)
    points[unseen | (np.ptp(points, axis=1) == 0).all(axis=1)] = math.nan
    return points


def faces_found(skeleton: Skeleton) -> np.ndarray:
    """[T] bool: frames whose face can be set upright, the only ones that identity is measured in."""
    return np.isfinite(five_points(skeleton)).all(axis=(1, 2))


def similarity_transform(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[2, 3]: turn, scale and shift that bring points [n, 2] nearest to targets [n, 2] (Umeyama 1991, eq.
    40-43).
    """
    points, targets = np.asarray(points, np.float64), np.asarray(targets, np.float64)
    centre, target_centre = points.mean(axis=0), targets.mean(axis=0)
    spread = ((points - centre) ** 2).sum(axis=1).mean()
    if not np.isfinite(spread) or spread == 0:
        raise InputError("Points that coincide have no direction. Give the points of a face.")
    covariance = (targets - target_centre).T @ (points - centre) / len(points)
    u, values, vt = np.linalg.svd(covariance)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])  # never a mirror
    turn = u @ np.diag(sign) @ vt
    scale = (values * sign).sum() / spread
    return np.column_stack([scale * turn, target_centre - scale * turn @ centre])


def align_face(frame_u8: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Frame [H, W, 3] uint8 and its five points [5, 2] -> upright face [112, 112, 3] uint8, black beyond
    the frame.

    The picture of insightface's `norm_crop` (bilinear), whose points count from the middle of the first
    pixel; ours, here as everywhere, from its corner.
    """
    from PIL import Image

    forward = np.vstack([similarity_transform(points_px, TEMPLATE_PX + 0.5), [0, 0, 1]])
    back = np.linalg.inv(forward)[:2]
    height, width = frame_u8.shape[:2]
    # A black rim, or Pillow ends in a step where the published program fades into what is beyond the frame.
    back[:, 2] += 1
    picture = Image.fromarray(frame_u8).crop((-1, -1, width + 1, height + 1))
    face = picture.transform(
        (FACE_PX, FACE_PX), Image.Transform.AFFINE, back.ravel(), Image.Resampling.BILINEAR
    )
    return np.asarray(face)
