"""FVD: the Frechet distance of videos by I3D's logits, in the two protocols that are in use.

They read the same network from different files, cut other clips and resize otherwise, so their numbers
differ and neither says anything about the other: the report always names the protocol. FVD is biased by the
number of clips as FID is by that of frames (the original takes 2,048), and judges content more than motion
(Ge et al. 2024).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hallo4.errors import InputError, ShapeError

CLIP_FRAMES, SIDE_PX, LOGITS = 16, 224, 400
_CLIPS_AT_ONCE = 4

Extractor = Callable[..., "object"]
"""Clips [B, 3, 16, 224, 224] float in [-1, 1] -> [B, 400] (torch tensors): an I3D, or a stand-in in tests."""


@dataclass(frozen=True)
class FvdProtocol:
    """Which clips of a video are judged, and how frames are resized (squashed, never cropped) to 224 px.

    `stride`: frames from one 16-frame clip to the next. `resize`: the kernel. `weights`: name in
    `hallo4.weights.FILES`.
    """

    name: str
    stride: int
    resize: Literal["pillow-bicubic", "bilinear"]
    weights: str
    says: str


PROTOCOLS: dict[str, FvdProtocol] = {
    "disco": FvdProtocol(
        "disco",
        1,
        "pillow-bicubic",
        "i3d_disco",
        "DisCo's, followed by the Hallo papers: every 16-frame window, Pillow bicubic to 224, logits "
        "averaged over time",
    ),
    "stylegan-v": FvdProtocol(
        "stylegan-v",
        CLIP_FRAMES,
        "bilinear",
        "i3d_stylegan_v",
        "StyleGAN-V's network: windows of 16 frames end to end, bilinear to 224 (theirs: one window "
        "drawn at random)",
    ),
}
"""Both protocols by name."""


def clip_starts(frames: int, protocol: FvdProtocol) -> range:
    """First frames of the clips that a video of `frames` frames gives. ShapeError: fewer than 16 frames."""
    if frames < CLIP_FRAMES:
        raise ShapeError(f"FVD takes videos of {CLIP_FRAMES} frames or more; found {frames}. Leave it out.")
    return range(0, frames - CLIP_FRAMES + 1, protocol.stride)


def resized_224(frame_u8: np.ndarray, protocol: FvdProtocol) -> np.ndarray:
    """Frame [H, W, 3] uint8 -> [3, 224, 224] float32 in [-1, 1]."""
    if protocol.resize == "pillow-bicubic":
        from PIL import Image

        picture = Image.fromarray(frame_u8).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        return (np.asarray(picture, np.float32) / 127.5 - 1).transpose(2, 0, 1)
    import torch.nn.functional as F
    from torch import from_numpy

    planes = from_numpy(np.ascontiguousarray(frame_u8)).permute(2, 0, 1)[None].float()
    small = F.interpolate(planes, (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
    return (small[0] / 127.5 - 1).numpy()


class ClipFeatures:
    """Frames of one video, one after the other -> one vector per clip; holds no more than a few clips.

    `finish` raises ShapeError for fewer than 16 frames and InputError where the network says something that
    is not finite.
    """

    def __init__(self, extractor: Extractor, protocol: FvdProtocol, device: object = "cpu"):
        self.extractor, self.protocol, self.device = extractor, protocol, device
        self._recent: deque[np.ndarray] = deque(maxlen=CLIP_FRAMES)
        self._waiting: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []
        self.frames = 0

    def add(self, frame_pm1: np.ndarray) -> None:
        """The next frame [3, 224, 224] (from `resized_224`)."""
        self._recent.append(frame_pm1)
        self.frames += 1
        start = self.frames - CLIP_FRAMES
        if start >= 0 and start % self.protocol.stride == 0:
            self._waiting.append(np.stack(self._recent))
        if len(self._waiting) == _CLIPS_AT_ONCE:
            self._extract()

    def finish(self) -> np.ndarray:
        """Features of all clips, [n, 400] float64."""
        clip_starts(self.frames, self.protocol)
        self._extract()
        features = np.concatenate(self._vectors)
        if not np.isfinite(features).all():
            raise InputError("FVD's network gave values that are not finite. Check its weights.")
        return features

    def _extract(self) -> None:
        import torch

        if self._waiting:
            with torch.no_grad():
                batch = torch.from_numpy(np.stack(self._waiting)).to(self.device)
                logits = self.extractor(batch.transpose(1, 2))  # of [B, 3, 16, 224, 224]
                self._vectors.append(np.asarray(logits.cpu(), np.float64))
            self._waiting = []
