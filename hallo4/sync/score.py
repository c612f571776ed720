"""Lip sync without a reference: Sync-C, Sync-D and offset (also called LSE-C and LSE-D).

    face crops --> windows of 5 frames --> v [N, D] --.
                                                      |--> mean distance at 31 shifts --> scores
    sound -------> windows of 0.2 s -----> a [N, D] --'

Chung & Zisserman 2016; Prajwal et al. 2020. The mathematics takes any pair of embeddings; with SyncNet's
published weights and its own face crops the numbers are the published metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from hallo4.errors import InputError, ShapeError
from hallo4.sync.cepstra import syncnet_mfcc
from hallo4.types import Audio, Skeleton

if TYPE_CHECKING:
    from hallo4.sync.network import SyncNet

MAX_SHIFT = 15
_WINDOW_FRAMES, _CEPSTRA_PER_FRAME, _WINDOW_CEPSTRA = 5, 4, 20
_SAMPLES_PER_FRAME = 640
_EPSILON = 1e-6  # of torch's pairwise_distance, added to every component of the difference
_WINDOWS_AT_ONCE = 20
_CROP_SCALE, _CROP_GREY, _CROP_PX, _SMOOTH_FRAMES = 0.4, 110, 224, 13


@dataclass(frozen=True)
class SyncScore:
    """What 31 shifts say of one clip.

    `distance` (Sync-D, lower is better): smallest mean distance. `confidence` (Sync-C, higher is better):
    median of the curve less that smallest. `offset_frames` (nearest 0 is best): 15 less the place of the
    smallest; sound that comes k frames late moves it by -k. `confidence_at_zero`: median less the distance
    without any shift, because the other two are taken at the *best* shift and so do not see that a whole
    clip is late. `curve` [31].
    """

    distance: float
    confidence: float
    offset_frames: int
    confidence_at_zero: float
    curve: np.ndarray


def sync_score(video: np.ndarray, sound: np.ndarray, max_shift: int = MAX_SHIFT) -> SyncScore:
    """Scores of embeddings `video` [N, D] and `sound` [N, D], one pair a frame; at any scale.

    Window i of the picture is compared with windows i-15 .. i+15 of the sound; beyond the ends the sound is
    zeros, as in the original, which costs short clips some confidence: compare only clips of one length, or
    whole videos. Raises ShapeError for other shapes or fewer than one window, InputError for values that
    are not finite.
    """
    video, sound = np.asarray(video, np.float64), np.asarray(sound, np.float64)
    if video.ndim != 2 or video.shape != sound.shape or not len(video):
        raise ShapeError(
            f"Sync needs embeddings [N, D] of picture and sound alike; found {list(video.shape)} and "
            f"{list(sound.shape)}. A clip needs six frames or more."
        )
    return score_around(video, np.pad(sound, ((max_shift, max_shift), (0, 0))))


def score_around(video: np.ndarray, around: np.ndarray) -> SyncScore:
    """As `sync_score`, of `video` [N, D] and `around` [N + 2 M, D]: the sound of the same windows, and of M
    before and M behind them. Of a clip out of a longer video, which so loses nothing by being short.
    InputError: values that are not finite."""
    video, around = np.asarray(video, np.float64), np.asarray(around, np.float64)
    if not (np.isfinite(video).all() and np.isfinite(around).all()):
        raise InputError("A sync embedding is not finite. Check the weights and the clip's sound.")
    max_shift = (len(around) - len(video)) // 2
    curve = []
    for shift in range(2 * max_shift + 1):
        difference = video - around[shift : shift + len(video)] + _EPSILON
        curve.append(np.sqrt((difference * difference).sum(axis=1)).mean())
    best = int(np.argmin(curve))
    median = float(np.median(curve))
    return SyncScore(
        distance=float(curve[best]),
        confidence=median - float(curve[best]),
        offset_frames=max_shift - best,
        confidence_at_zero=median - float(curve[max_shift]),
        curve=np.array(curve),
    )


def windows_of(frames: int, audio: Audio) -> int:
    """How many windows SyncNet judges: min(frames, whole frames of sound) - 5; ShapeError if that is none."""
    count = min(frames, len(audio.samples) // _SAMPLES_PER_FRAME) - _WINDOW_FRAMES
    if count < 1:
        raise ShapeError(
            f"SyncNet needs six frames with sound or more; found {frames} frames and "
            f"{audio.duration_s:.2f} s of sound. Use longer clips."
        )
    return count


def syncnet_score(
    network: SyncNet,
    faces_u8: Iterable[np.ndarray],
    frames: int,
    audio: Audio,
    device: object = "cpu",
) -> SyncScore:
    """SyncNet, which is on `device`, on `frames` face crops [224, 224, 3] uint8 RGB at 25 fps (see
    `FaceCropper`), of which few are held at once, and their sound at 16 kHz.
    """
    count = windows_of(frames, audio)
    seen = embedded_faces(network, faces_u8, count, device)
    return sync_score(seen, embedded_sound(network, audio, count, device))


def embedded_faces(
    network: SyncNet, faces_u8: Iterable[np.ndarray], count: int, device: object = "cpu"
) -> np.ndarray:
    """[count, D]: windows of five of the crops that `syncnet_score` takes, each a frame later."""
    import torch

    coming, held, seen = iter(faces_u8), [], []
    with torch.no_grad():
        for start in range(0, count, _WINDOWS_AT_ONCE):
            places = range(start, min(count, start + _WINDOWS_AT_ONCE))
            held += islice(coming, len(places) + _WINDOW_FRAMES - 1 - len(held))
            # RGB -> BGR, levels as they are: [1, 3, n, 224, 224].
            faces = torch.from_numpy(np.stack(held)[..., ::-1].copy()).to(device)
            faces = faces.permute(3, 0, 1, 2)[None].float()
            pictures = [faces[:, :, i : i + _WINDOW_FRAMES] for i in range(len(places))]
            held = held[len(places) :]
            seen.append(network.embed_faces(torch.cat(pictures)).cpu())
    return torch.cat(seen).numpy()


def embedded_sound(network: SyncNet, audio: Audio, count: int, device: object = "cpu") -> np.ndarray:
    """[count, D]: windows of 0.2 s of a sound at 16 kHz, each a frame later."""
    import torch

    cepstra = torch.from_numpy(syncnet_mfcc(audio).T).float()[None, None].to(device)  # [1, 1, 13, n]
    vectors = []
    with torch.no_grad():
        for start in range(0, count, _WINDOWS_AT_ONCE):
            places = range(start, min(count, start + _WINDOWS_AT_ONCE))
            sounds = [cepstra[..., _CEPSTRA_PER_FRAME * i :][..., :_WINDOW_CEPSTRA] for i in places]
            vectors.append(network.embed_sound(torch.cat(sounds)).cpu())
    return torch.cat(vectors).numpy()


def face_boxes(skeleton: Skeleton) -> np.ndarray:
    """[T, 4] float64: x0, y0, x1, y1 in pixels of the face by its seen points; NaN where fewer than eight
    are seen.

    From the lowest to the highest point of the face, and a third of that further up for the forehead, which
    has no points: about where a face detector (S3FD) draws its box, but not exactly, so say "boxes from
    landmarks".
    """
    from hallo4.motion import layout

    face = slice(layout.FACE.start, layout.FACE.stop)
    points = skeleton.points_px[:, face].astype(np.float64)
    boxes = np.full((len(skeleton), 4), math.nan)
    for t, seen in enumerate(skeleton.confidence[:, face] >= layout.SEEN):
        if seen.sum() >= 8:
            low, high = points[t, seen].min(axis=0), points[t, seen].max(axis=0)
            boxes[t] = (low[0], low[1] - (high[1] - low[1]) / 3, high[0], high[1])
    return boxes


class FaceCropper:
    """Boxes [T, 4] -> square crops of frames, as SyncNet's own pipeline cuts them.

    Centre and half side pass a median of 13 frames; the square reaches 1.4 half sides to the left and
    right, 1 up and 1.8 down, is filled with grey 110 beyond the frame and resized to 224 px. Frames without
    a box take the nearest. InputError: no frame has a box.
    """

    def __init__(self, boxes_px: np.ndarray):
        known = np.flatnonzero(np.isfinite(boxes_px).all(axis=1))
        if not len(known):
            raise InputError("No face was found in any frame. Give clips that show one, or their keypoints.")
        nearest = known[np.abs(np.arange(len(boxes_px))[:, None] - known[None]).argmin(axis=1)]
        x0, y0, x1, y1 = boxes_px[nearest].T
        half = np.maximum(x1 - x0, y1 - y0) / 2
        self.half, self.x, self.y = (_median(curve) for curve in (half, (x0 + x1) / 2, (y0 + y1) / 2))

    def __call__(self, t: int, frame_u8: np.ndarray) -> np.ndarray:
        """Frame t [H, W, 3] uint8 -> crop [224, 224, 3] uint8."""
        from PIL import Image

        half = self.half[t]
        reach = int(half * (1 + 2 * _CROP_SCALE))
        x, y = self.x[t] + reach, self.y[t] + reach
        padded = np.pad(frame_u8, ((reach, reach), (reach, reach), (0, 0)), constant_values=_CROP_GREY)
        down = half * (1 + 2 * _CROP_SCALE)
        across = half * (1 + _CROP_SCALE)
        crop = padded[max(0, int(y - half)) : int(y + down), max(0, int(x - across)) : int(x + across)]
        return np.asarray(Image.fromarray(crop).resize((_CROP_PX, _CROP_PX), Image.Resampling.BILINEAR))


def _median(curve: np.ndarray) -> np.ndarray:
    """Median over 13 frames; the ends go on (SciPy's `medfilt`, used originally, puts zeros there)."""
    width = min(_SMOOTH_FRAMES, len(curve) if len(curve) % 2 else len(curve) - 1)
    padded = np.pad(curve, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
