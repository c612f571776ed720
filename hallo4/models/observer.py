"""The instrument of the portrait world: a small network that looks at one frame and says what it sees.

    frame [B, 3, 128, 128], or of another `frame_px`, and all below in proportion
      | pixel-unshuffle 2, three stride-2 stages (64 -> 32 -> 16 -> 8), two upward steps with shortcuts
      |-- heat maps at 32x32 --> soft-argmax --> 34 key points, and from their height how visible each is
      |                              | (where the mouth and the eyes are; no gradient)
      '-- upright patches of mouth and eyes, cut from the *frame* --> mouth_open, mouth_wide | blink, brow

A mouth is about 24 px wide and a tenth of its opening is about one pixel, so the second step looks at the
pixels themselves. Soft-argmax as in integral pose regression (arXiv 1711.08229), here with a cross-entropy on
the heat map beside the loss on coordinates. It is trained on rendered episodes, never on generated ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hallo4.errors import ShapeError

KEY_POINTS: dict[str, int] = {
    "nose": 0,
    "left_eye": 1,
    "right_eye": 2,
    "left_ear": 3,
    "right_ear": 4,
    "left_shoulder": 5,
    "right_shoulder": 6,
    "left_elbow": 7,
    "right_elbow": 8,
    "left_wrist": 9,
    "right_wrist": 10,
    "chin": 31,
    "right_brow": 42,
    "left_brow": 47,
    "right_eye_outer": 59,
    "right_eye_inner": 62,
    "left_eye_inner": 65,
    "left_eye_outer": 68,
    "mouth_right": 71,
    "lip_upper_outer": 74,
    "mouth_left": 77,
    "lip_lower_outer": 80,
    "lip_upper_inner": 85,
    "lip_lower_inner": 89,
    **{
        f"left_{finger}_tip": 95 + 4 * i
        for i, finger in enumerate(("thumb", "index", "middle", "ring", "little"))
    },
    **{
        f"right_{finger}_tip": 116 + 4 * i
        for i, finger in enumerate(("thumb", "index", "middle", "ring", "little"))
    },
}
"""The P = 34 points that are observed, and their place among the 133 of `hallo4.types` (left is theirs)."""

STATES = ("mouth_open", "mouth_wide", "blink", "brow")
"""The scalars that are observed, in the truth's own units: [0, 1], [0, 1], [0, 1] and [-1, 1]."""

_PLACE = {name: place for place, name in enumerate(KEY_POINTS)}


@dataclass(frozen=True)
class Observation:
    """What was seen in B frames. Scalars are raw: they can leave their range by the error of the instrument.

    `points_01` [B, P, 2]: x, y as fractions of width and height, in the order of `KEY_POINTS`.
    `visibility_logits` [B, P]: above 0, the point is more likely seen in the frame than not.
    `mouth_open`, `mouth_wide`, `blink`, `brow` [B]: `STATES`.
    `heat_logits` [B, P, 32, 32]: what `points_01` is the soft-argmax of; for the loss.
    """

    points_01: Tensor
    visibility_logits: Tensor
    mouth_open: Tensor
    mouth_wide: Tensor
    blink: Tensor
    brow: Tensor
    heat_logits: Tensor


class ResidualBlock(nn.Module):
    """[B, D, h, w] -> same; the identity at initialisation."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the rectified input twice and add it."""
        return x + self.last(F.relu(self.first(F.relu(x))))


class PatchReader(nn.Module):
    """Patch [B, 3, h, w] (multiples of 8) -> two scalars [B, 2]."""

    def __init__(self, height_px: int, width_px: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (height_px // 8) * (width_px // 8), 96),
            nn.ReLU(),
            nn.Linear(96, 2),
        )

    def forward(self, patch_pm1: Tensor) -> Tensor:
        """Read both scalars."""
        return self.layers(patch_pm1)


class PortraitObserver(ModelMixin, ConfigMixin):
    """Frames [B, 3, H, W] in [-1, 1] -> `Observation`: 0.14 G multiply-adds a frame, 1.2 M weights.

    `width`: channels at 64x64, doubled at each of three further stages. `mouth_patch_px`, `eyes_patch_px`:
    (height, width) of the two patches in samples, multiples of 8. `frame_px`: side of the frames that the
    network sees, a multiple of 16; others are resized to it, stretched if they are not square.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 16,
        mouth_patch_px: tuple[int, int] = (32, 32),
        eyes_patch_px: tuple[int, int] = (24, 48),
        frame_px: int = 128,
    ):
        super().__init__()
        sides = (*mouth_patch_px, *eyes_patch_px)
        if frame_px < 16 or frame_px % 16 or any(side < 8 or side % 8 for side in sides):
            raise ShapeError(
                f"PortraitObserver: frame_px is {frame_px} and the patches have sides of {list(sides)}; use "
                "a multiple of 16, and multiples of 8."
            )
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
        self.at_64 = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, w1, 3, padding=1), nn.ReLU())
        self.at_32 = nn.Sequential(_down(w1, w2), ResidualBlock(w2))
        self.at_16 = nn.Sequential(_down(w2, w3), ResidualBlock(w3))
        self.at_8 = nn.Sequential(_down(w3, w4), ResidualBlock(w4), ResidualBlock(w4))
        self.up_to_16 = nn.Conv2d(w4, w3, 1)
        self.mix_16 = ResidualBlock(w3)
        self.up_to_32 = nn.Conv2d(w3, w2, 1)
        self.mix_32 = nn.Conv2d(w2, w2, 3, padding=1)
        self.heat = nn.Conv2d(w2, len(KEY_POINTS), 1)
        self.visibility_scale = nn.Parameter(torch.ones(len(KEY_POINTS)))
        self.visibility_bias = nn.Parameter(torch.zeros(len(KEY_POINTS)))
        self.mouth_reader = PatchReader(*mouth_patch_px)
        self.eyes_reader = PatchReader(*eyes_patch_px)

    def forward(self, frames_pm1: Tensor) -> Observation:
        """[B, 3, H, W] in [-1, 1] -> `Observation`. ShapeError unless it is a batch of RGB frames."""
        if frames_pm1.ndim != 4 or frames_pm1.shape[1] != 3:
            raise ShapeError(f"The observer takes frames [B, 3, H, W]; found {list(frames_pm1.shape)}.")
        size = (self.config.frame_px,) * 2
        if frames_pm1.shape[-2:] != size:
            frames_pm1 = F.interpolate(frames_pm1, size, mode="bilinear", antialias=True)
        heat_logits = self._heat(frames_pm1)
        points_01 = soft_argmax(heat_logits)
        # Softmax does not see the level of the logits: it is free to say whether there is a point at all.
        level = heat_logits.float().flatten(2).logsumexp(-1) - _log_cells(heat_logits)
        mouth, eyes = face_patches(
            frames_pm1, points_01.detach(), self.config.mouth_patch_px, self.config.eyes_patch_px
        )
        mouth_open, mouth_wide = self.mouth_reader(mouth).float().unbind(-1)
        blink, brow = self.eyes_reader(eyes).float().unbind(-1)
        return Observation(
            points_01=points_01,
            visibility_logits=self.visibility_scale * level + self.visibility_bias,
            mouth_open=mouth_open,
            mouth_wide=mouth_wide,
            blink=blink,
            brow=brow,
            heat_logits=heat_logits,
        )

    def features(self, frames_pm1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W], H and W multiples of 8 -> what its stages see: [B, D, H/2, W/2], [B, 2D, H/4, W/4]
        and [B, 4D, H/8, W/8]."""
        at_64 = self.at_64(frames_pm1)
        at_32 = self.at_32(at_64)
        return at_64, at_32, self.at_16(at_32)

    def _heat(self, frames_pm1: Tensor) -> Tensor:
        """[B, 3, 128, 128] -> logits [B, P, 32, 32]; of other frames a quarter of their side."""
        _, at_32, at_16 = self.features(frames_pm1)
        up = self.up_to_16(self.at_8(at_16))
        at_16 = self.mix_16(at_16 + F.interpolate(up, scale_factor=2, mode="bilinear"))
        up = self.up_to_32(at_16)
        at_32 = self.mix_32(at_32 + F.interpolate(up, scale_factor=2, mode="bilinear"))
        return self.heat(F.relu(at_32))


def perceptual_distance(observer: PortraitObserver, made_pm1: Tensor, true_pm1: Tensor) -> Tensor:
    """How differently `observer` sees two batches of frames [B, 3, H, W]: [B], zero for equal ones.

    As LPIPS (arXiv 1801.03924) without learned weights: features of every place at unit length over the
    channels, their squared distance, averaged over places and stages.
    """
    seen = (_unit(stage) for stage in observer.features(made_pm1))
    wanted = (_unit(stage) for stage in observer.features(true_pm1))
    stages = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(seen, wanted, strict=True)]
    return torch.stack(stages).mean(0)


def _unit(features: Tensor) -> Tensor:
    return features * torch.rsqrt(features.square().sum(1, keepdim=True) + 1e-6)


def soft_argmax(heat_logits: Tensor) -> Tensor:
    """Mean position [B, P, 2] (x, y as fractions of width and height) under the softmax of [B, P, h, w].

    Cell i of n stands for its centre (i + 0.5) / n, so pixel edges are 0 and 1 as everywhere in the package.
    """
    height, width = heat_logits.shape[-2:]
    probability = heat_logits.float().flatten(2).softmax(-1).unflatten(2, (height, width))
    x = (probability.sum(-2) * _centres(width, probability)).sum(-1)
    y = (probability.sum(-1) * _centres(height, probability)).sum(-1)
    return torch.stack([x, y], dim=-1)


def face_patches(
    frames_pm1: Tensor,
    points_01: Tensor,
    mouth_px: tuple[int, int] = (32, 32),
    eyes_px: tuple[int, int] = (24, 48),
) -> tuple[Tensor, Tensor]:
    """Upright patches of mouth and eyes, [B, 3, h, w] each, cut bilinearly where `points_01` [B, P, 2] says.

    Their unit is the distance from between the eyes to the chin (kept within 0.1 .. 0.6 of the frame while
    points are unlearned): the mouth patch is 0.9 wide and high, that of eyes and brows 1.9 by 0.95.
    """
    eyes = (points_01[:, _PLACE["left_eye"]] + points_01[:, _PLACE["right_eye"]]) / 2
    mouth = (points_01[:, _PLACE["mouth_left"]] + points_01[:, _PLACE["mouth_right"]]) / 2
    down = points_01[:, _PLACE["chin"]] - eyes  # [B, 2]
    length = down.norm(dim=-1, keepdim=True)
    upright = torch.tensor([0.0, 1.0], device=down.device, dtype=down.dtype)
    down = torch.where(length > 1e-3, down / length.clamp_min(1e-3), upright)
    across = torch.stack([down[:, 1], -down[:, 0]], dim=-1)
    unit = length.clamp(0.1, 0.6)
    mouth_patch = _cut(frames_pm1, mouth, 0.45 * unit * across, 0.45 * unit * down, mouth_px)
    eyes_centre = eyes - 0.1 * unit * down  # a little above the eyes, to hold the brows
    eyes_patch = _cut(frames_pm1, eyes_centre, 0.95 * unit * across, 0.475 * unit * down, eyes_px)
    return mouth_patch, eyes_patch


def observer_loss(
    observation: Observation, targets: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss (a scalar) and metrics (detached scalars) of `observation` of B frames against their truth.

    `targets`: `points_01` [B, P, 2], `visible` [B, P] (1 or 0), and `STATES` [B]; points count where visible.
    Terms: cross-entropy of heat maps with the four cells around the truth; coordinates; visibility; states.
    """
    visible = targets["visible"]
    seen = visible.sum().clamp_min(1.0)
    distance = (observation.points_01 - targets["points_01"]).norm(dim=-1)  # [B, P]
    # 0.02 of the frame is 2.5 px: below it the loss is quadratic and does not chase single pixels of noise.
    coordinates = F.smooth_l1_loss(distance, torch.zeros_like(distance), beta=0.02, reduction="none")
    coordinates = (coordinates * visible).sum() / seen
    heat = (_heat_cross_entropy(observation.heat_logits, targets["points_01"]) * visible).sum() / seen
    visibility = F.binary_cross_entropy_with_logits(observation.visibility_logits, visible)
    errors = {name: getattr(observation, name) - targets[name] for name in STATES}
    states = sum(
        weight * F.smooth_l1_loss(errors[name], torch.zeros_like(errors[name]), beta=0.05)
        for name, weight in zip(STATES, (3.0, 1.0, 1.0, 0.5), strict=True)
    )
    loss = 0.1 * heat + 5.0 * coordinates + 0.2 * visibility + states
    hit = ((observation.visibility_logits > 0) == (visible > 0.5)).float().mean()
    metrics = {
        "point_error_fraction": (distance * visible).sum() / seen,
        "visibility_accuracy": hit,
        **{f"{name}_mae": error.abs().mean() for name, error in errors.items()},
    }
    return loss, {name: value.detach() for name, value in metrics.items()}


# ---------------------------------------------------------------------- pieces


def _down(width: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width_out, 3, stride=2, padding=1), nn.ReLU())


def _centres(cells: int, like: Tensor) -> Tensor:
    return (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) / cells


def _log_cells(heat_logits: Tensor) -> float:
    return math.log(heat_logits.shape[-1] * heat_logits.shape[-2])


def _cut(
    frames_pm1: Tensor, centre: Tensor, half_x: Tensor, half_y: Tensor, size_px: tuple[int, int]
) -> Tensor:
    """Samples [B, 3, h, w] of the rectangle centre +- half_x +- half_y (each [B, 2], in frames)."""
    height, width = size_px
    v = 2 * _centres(height, centre) - 1
    u = 2 * _centres(width, centre) - 1
    grid_01 = (
        centre[:, None, None]
        + u[None, None, :, None] * half_x[:, None, None]
        + v[None, :, None, None] * half_y[:, None, None]
    )
    grid = (2 * grid_01 - 1).to(frames_pm1.dtype)
    return F.grid_sample(frames_pm1, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _heat_cross_entropy(heat_logits: Tensor, points_01: Tensor) -> Tensor:
    """Cross-entropy [B, P] of the softmax of [B, P, h, w] with a spike at `points_01` [B, P, 2]."""
    height, width = heat_logits.shape[-2:]
    log_probability = heat_logits.float().flatten(2).log_softmax(-1).unflatten(2, (height, width))
    x = _spike(points_01[..., 0], width)
    y = _spike(points_01[..., 1], height)
    return -torch.einsum("bpyx,bpy,bpx->bp", log_probability, y, x)


def _spike(position_01: Tensor, cells: int) -> Tensor:
    """Weights [B, P, cells] of the two cells around each position: sum 1, mean the position."""
    place = (position_01 * cells - 0.5).clamp(0, cells - 1)[..., None]
    return (1 - (place - torch.arange(cells, device=place.device, dtype=place.dtype)).abs()).clamp_min(0)
