"""The words of the field, once: axis letters, frozen records, Protocols. No behaviour.

Axis letters used in every docstring and trailing comment of the package::

    B batch        T video frames at 25 fps     F latent frames (T = 4k+1 -> k+1)
    C channels     H, W pixels                  h, w latent cells (one eighth of H, W)
    L tokens       N tokens per frame           D width of a token
    S audio samples                             K keypoints (133, DWPose order)

Ranges and units stand in names: `video_pm1` is in [-1, 1], `video_01` in [0, 1], `frames_u8` in 0..255 (RGB),
`sample_rate_hz`, `points_px`, `duration_s`. `sigma` runs from 1 (noise) to 0 (data) and
`velocity = noise - data` everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

FPS = 25.0
"""Frame rate of every generated video, in frames per second."""

KEYPOINTS = 133
"""DWPose / COCO-WholeBody: 0-16 body, 17-22 feet, 23-90 face (68 points), 91-111 left hand, 112-132 right
hand."""


@dataclass(frozen=True)
class Audio:
    """Mono sound: `samples` [S] float32 in [-1, 1] at `sample_rate_hz`."""

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True)
class Skeleton:
    """A skeleton sequence: `points_px` [T, 133, 2] float32 (x right, y down, in a `width_px` x `height_px`
    frame),

    `confidence` [T, 133] float32 in [0, 1] (0: not seen, never drawn), at `fps` frames per second.
    """

    points_px: np.ndarray
    confidence: np.ndarray
    fps: float
    width_px: int
    height_px: int

    def __len__(self) -> int:
        return len(self.points_px)


@dataclass(frozen=True)
class MotionConditions:
    """Everything a backbone is conditioned on for one window of T frames, before any projection.

    `reference_latents` [B, C, 1, h, w]: the portrait, encoded as a one-frame video.
    `audio_windows`     [B, T, 5, blocks, channels]: features of the frame and its two neighbours on each
    side.
    `skeleton_latents`  [B, C, T, h, w]: one latent per skeleton frame; None: the model must allow it.
    `control_latents`   [B, 2C+64, F+1, h, w]: VACE context (inactive, reactive, mask; reference slot in
    front).
    `text`              [B, L, D]: text embedding; a single null token for models without text.

    The DiT needs the last two. A UNet takes those below instead, all of them None where there is nothing to
    say; for one that is built for rho conditions per frame, audio and skeleton are rho*T long.

    `motion_latents`    [B, C, M, h, w]: the M frames before the window, each encoded alone.
    `face_embedding`    [B, E]: who it is; of zeros or None: not said.
    `locator_01`        [B, 3, 1 or T, H, W] in [0, 1]: where the face may be.
    `region_masks`      [B, T, 3, n]: how much each cell hears as (full, face, lip); see `region_pyramid`.
    `portrait_given`, `locator_given`, `audio_given` [B] bool: False where a clip does without (the other
    side of guidance, dropout in training); None: given to all.
    """

    reference_latents: Tensor
    audio_windows: Tensor
    skeleton_latents: Tensor | None = None
    control_latents: Tensor | None = None
    text: Tensor | None = None
    motion_latents: Tensor | None = None
    face_embedding: Tensor | None = None
    locator_01: Tensor | None = None
    region_masks: Tensor | None = None
    portrait_given: Tensor | None = None
    locator_given: Tensor | None = None
    audio_given: Tensor | None = None


@runtime_checkable
class Backbone(Protocol):
    """A denoiser of portrait video: what pipelines, training and preference code know about DiT and UNet
    alike.

    `latents` [B, C, F', h, w] is the backbone's own sample layout (the DiT keeps a reference slot in front,
    F' = F + 1). Step-invariant work happens once in `prepare`; `forward` runs at every step.
    """

    config: Any

    def sample_shape(self, frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int, int]:
        """(C, F', h, w) of the noise for a window of `frames` video frames; ShapeError for a bad length."""
        ...

    def prepare(self, conditions: MotionConditions, cache_kv: bool = False) -> Mapping[str, Tensor]:
        """Project the conditions to tokens and features that stay the same over all denoising steps.

        `cache_kv`: also to what every layer makes of them; the same output, faster steps, more memory.
        """
        ...

    def pin(self, latents: Tensor, conditions: MotionConditions) -> Tensor:
        """Put what is known (the clean reference) into the sample; called before every step."""
        ...

    def forward(self, latents: Tensor, timestep: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Velocity, same shape as `latents`; `timestep` [B] in [0, 1000] (= 1000 sigma)."""
        ...

    def video_latents(self, latents: Tensor) -> Tensor:
        """Drop what is not video (the reference slot): [B, C, F', h, w] -> [B, C, F, h, w]."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """A causal video autoencoder, 8x8x4: T = 4k+1 frames <-> F = k+1 latents, normalised to unit variance."""

    config: Any

    def encode_video(self, video_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, C, F, h, w]; ShapeError unless T = 4k+1 and H, W are multiples of 8."""
        ...

    def decode_video(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, T, H, W], unclamped."""
        ...


@runtime_checkable
class AudioFrontEnd(Protocol):
    """Sound -> features at frame rate. Log-mel needs no download; wav2vec2 is the released model's."""

    sample_rate_hz: int
    blocks: int
    channels: int

    def features(self, audio: Audio, frames: int) -> Tensor:
        """[frames, blocks, channels] float32: features of exactly `frames` frames at 25 fps."""
        ...
