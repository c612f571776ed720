"""How far a portrait is from what a model was trained on, said before work starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from hallo4.motion import layout
from hallo4.types import Autoencoder, Skeleton

_TOLERANCE = 0.05
"""How far beyond the ends of a trained range, as a fraction, a value may be without a word."""

Range = tuple[float, float]


@dataclass(frozen=True)
class TrainedOn:
    """What the portraits were that a model has learned from, measured on them; part of `model.json`.

    `what`: in words. `aspect`: width over height of the canvas. `head_width`: width of the face's outline
    over the root of the canvas' area. `least_psnr_db`: of a portrait that the model's autoencoder has encoded
    and decoded, against the portrait. Ranges are (lowest, highest).
    """

    what: str
    aspect: Range
    head_width: Range
    least_psnr_db: float

    def problem(self) -> str:
        """What is impossible about the values, or ""."""
        for name, (low, high) in (("aspect", self.aspect), ("head_width", self.head_width)):
            if not 0 < low <= high < math.inf:
                return f"trained_on.{name} is {low} to {high}; it must rise and be above 0"
        return "" if math.isfinite(self.least_psnr_db) else "trained_on.least_psnr_db must be finite"


def head_width(pose: Skeleton) -> float | None:
    """Width of the outline of the face (17 points) over the root of the picture's area; None where not all of
    it is seen."""
    if pose.confidence[0, layout.JAW].min() < layout.SEEN:
        return None
    outline = pose.points_px[0, layout.JAW, 0]
    return float(np.ptp(outline) / math.sqrt(pose.width_px * pose.height_px))


@torch.no_grad()
def decoded_psnr_db(autoencoder: Autoencoder, video_pm1: torch.Tensor) -> float:
    """PSNR of a picture [3, H, W] in [-1, 1] after encoding and decoding, in dB."""
    parameter = next(autoencoder.parameters())
    video = video_pm1[None, :, None].to(parameter.device, parameter.dtype)
    decoded = autoencoder.decode_video(autoencoder.encode_video(video)).clamp(-1, 1)
    return -10 * math.log10(max(float((decoded - video).float().square().mean()) / 4, 1e-10))


def notes_beyond_training(
    name: str, trained: TrainedOn, size_px: tuple[int, int], pose: Skeleton | None, psnr_db: float
) -> list[str]:
    """One line about a portrait on a canvas of `size_px` (width, height), or none where the model knows its
    kind. `pose` of the person in it (None: no person was found)."""
    found = []
    aspect = size_px[0] / size_px[1]
    if not _within(aspect, trained.aspect):
        found.append(f"{size_px[0]}x{size_px[1]} pixels (width over height {_said(trained.aspect)})")
    width = None if pose is None else head_width(pose)
    if width is None:
        found.append("no face that was found")
    elif not _within(width, trained.head_width):
        found.append(f"a head {width:.2f} of the side wide ({_said(trained.head_width)})")
    if psnr_db < trained.least_psnr_db:
        found.append(
            f"a kind of picture that its autoencoder gives back with {psnr_db:.1f} dB (at least "
            f"{trained.least_psnr_db:.1f})"
        )
    if not found:
        return []
    return [
        f"{name} was trained on {trained.what} only; this portrait has {', '.join(found)}: expect a face "
        "that is blurred or another's"
    ]


def _within(value: float, ends: Range) -> bool:
    return ends[0] * (1 - _TOLERANCE) <= value <= ends[1] * (1 + _TOLERANCE)


def _said(ends: Range) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return f"trained: {low}" if low == high else f"trained: {low} to {high}"
