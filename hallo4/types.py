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
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hallo4.errors import InputError

FPS = 25.0
"""Frame rate of every generated video, in frames per second."""

KEYPOINTS = 133
"""DWPose / COCO-WholeBody: 0-16 body, 17-22 feet, 23-90 face (68 points), 91-111 left hand, 112-132 right
hand."""


@runtime_checkable
class SampleSource(Protocol):
    """Mono sound that is read in parts, so that its length costs no memory: a file (`media.open_sound`), or
    an `Audio`."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples in a second."""
        ...

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        ...

    def __len__(self) -> int:
        """S, the number of samples."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """[n] float32: samples start..stop - 1, without those that lie before the beginning or behind the
        end."""
        ...


@dataclass(frozen=True)
class Audio:
    """Mono sound in memory: `samples` [S] float32 in [-1, 1] at `sample_rate_hz`; a `SampleSource`."""

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        """See `SampleSource`."""
        return np.asarray(self.samples[max(start, 0) : max(stop, 0)], np.float32)


@dataclass(frozen=True)
class Skeleton:
    """The skeletons of one person in T frames, at `fps` frames per second.

    `points_px` [T, 133, 2] float32: x to the right and y down, in a frame of `width_px` x `height_px`.
    `confidence` [T, 133] float32 in [0, 1]; a point with 0 was not seen and is never drawn.
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
    `negative_text`     [B, L, D]: the text of the other side of guidance; None: the same text.

    The DiT needs `control_latents` and `text`. A UNet takes those below instead, all of them None where
    there is nothing to say; for one that is built for rho conditions per frame, audio and skeleton are rho*T
    long.

    `motion_latents`    [B, C, M, h, w]: the M frames before the window, each encoded alone.
    `face_embedding`    [B, E]: who it is; of zeros or None: not said.
    `locator_01`        [B, 3, 1 or T, H, W] in [0, 1]: where the face may be.
    `region_masks`      [B, T, 3, n]: weights of the sound in each cell, as (full, face, lip); see
    `region_pyramid`.
    `portrait_given`, `locator_given`, `audio_given` [B] bool: False where a clip does without (the other
    side of guidance, dropout in training); None: given to all.
    """

    reference_latents: Tensor
    audio_windows: Tensor
    skeleton_latents: Tensor | None = None
    control_latents: Tensor | None = None
    text: Tensor | None = None
    negative_text: Tensor | None = None
    motion_latents: Tensor | None = None
    face_embedding: Tensor | None = None
    locator_01: Tensor | None = None
    region_masks: Tensor | None = None
    portrait_given: Tensor | None = None
    locator_given: Tensor | None = None
    audio_given: Tensor | None = None


@dataclass(frozen=True)
class StepSchedule:
    """Noise levels in 1000 steps: betas `linear` or `scaled_linear` from `beta_start` to `beta_end`.

    `zero_terminal_snr` rescales them so that the last step is pure noise (arXiv 2305.08891, algorithm 1),
    which only a v model can start from. Hallo 1 and 2 train with scaled_linear but, because the scheduler is
    made before the setting is read (`inference.py:192-193`), infer with linear: so for their weights, and
    the default for new ones, in training and in use. InputError for values out of range.
    """

    beta_schedule: Literal["linear", "scaled_linear"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_terminal_snr: bool = True

    def __post_init__(self) -> None:
        """See the class."""
        if self.beta_schedule not in ("linear", "scaled_linear"):
            raise InputError(
                f"beta_schedule is {self.beta_schedule!r}; it must be 'linear' or 'scaled_linear'."
            )
        if not 0.0 < self.beta_start < self.beta_end < 1.0:
            raise InputError(
                f"betas go from {self.beta_start} to {self.beta_end}; they must rise inside (0, 1), "
                "such as from 0.00085 to 0.012."
            )


@runtime_checkable
class WindowRules(Protocol):
    """How a backbone makes a long video out of windows, and what each is conditioned on.

    A window makes T frames. From the second on, the `known_frames` before its first new one are among its
    conditions; the DiT makes the last of them once more (`repeated_frames` 1), the UNet none.
    """

    known_frames: int
    repeated_frames: int
    frames_per_latent: int
    cell_px: int  # per latent cell, each way, as in `AutoencoderSpec`
    side_multiple_px: int
    """Sides of the picture are multiples of this."""
    audio_rho: int  # steps of sound for each video frame
    skeleton_rho: int
    """Skeleton frames for each video frame."""
    drafts: bool
    """Whether a window is made from a draft of its frames (`hallo4.motion.PortraitDraft`)."""

    def check_length(self, frames: int) -> None:
        """ShapeError unless the backbone makes windows of T = `frames`."""
        ...

    def encode_scene(
        self,
        autoencoder: Autoencoder,
        portrait_pm1: Tensor,
        frames: int,
        text: Tensor | None = None,
        negative_text: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What all windows of a video share, from portraits [B, 3, H, W]; `reference` [B, C, 1, h, w] is in
        it. Every tensor has the batch, or 1, as axis 0.

        `text`, `negative_text` [1, L, D]: embeddings of both prompts; ShapeError for a model that takes none.
        """
        ...

    def encode_known(
        self,
        autoencoder: Autoencoder,
        known_pm1: Tensor,
        scene: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The frames before a window, [B, 3, M, H, W], as `known_latents` of `conditions`; `generator`: for
        what is random about it."""
        ...

    def known_from_latents(
        self, spec: AutoencoderSpec, known_latents: Tensor, scene: Mapping[str, Tensor]
    ) -> Tensor:
        """As `encode_known`, from the latents [B, C, M, h, w] of those frames. ShapeError unless `spec` says
        that latents are independent of each other."""
        ...

    def conditions(
        self,
        scene: Mapping[str, Tensor],
        audio_windows: Tensor,
        skeleton_latents: Tensor | None = None,
        known_latents: Tensor | None = None,
        continues: Tensor | bool = False,
        draft_latents: Tensor | None = None,
    ) -> MotionConditions:
        """Everything encoded -> what the backbone is conditioned on.

        `continues` [B] bool, or one for all: the window continues from `known_latents` (of `encode_known`);
        otherwise these are ignored. `draft_latents` [B, C, F, h, w]: the draft of its frames, where `drafts`.
        ShapeError: it does, and they are None; a draft is missing, or is not taken.
        """
        ...

    def unconditional(self, conditions: MotionConditions, which: Tensor | None = None) -> MotionConditions:
        """The other side of guidance, of all clips or of those `which` [B] bool names."""
        ...


Presence = Literal["required", "optional", "none"]
"""Whether a backbone must be given a condition, may be, or has no layers for it."""


@dataclass(frozen=True)
class ConditionSpec:
    """What others may know of the conditions that a backbone takes.

    `latent_channels` C of video, portrait and skeleton; `audio_blocks`, `audio_channels` of the audio
    features; `text_dim` D of the text embedding and `text_len`, the most tokens it may have (None: any); a
    `text_dim` of None: no text.
    """

    latent_channels: int
    audio: Presence
    audio_blocks: int
    audio_channels: int
    skeleton: Presence
    text_dim: int | None = None
    text_len: int | None = None


@runtime_checkable
class Backbone(Protocol):
    """A denoiser of portrait video: what pipelines, training and preference code know about DiT and UNet
    alike.

    `latents` [B, C, F', h, w] is the backbone's own sample layout (the DiT keeps a reference slot in front,
    F' = F + 1). Every computation with parameters happens in `forward`.
    """

    condition_spec: ConditionSpec
    windows: WindowRules
    schedule: StepSchedule | None
    """None: a flow model. Else a v model whose timesteps are the steps of this schedule."""
    sides_share_a_batch: bool
    """Whether both sides of guidance must be one batch, the unconditional one first."""

    def sample_shape(self, frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int, int]:
        """(C, F', h, w) of the noise for a window of `frames` video frames; ShapeError for a bad length."""
        ...

    def pin(self, latents: Tensor, conditions: MotionConditions) -> Tensor:
        """Put what is known (the clean reference) into the sample; called before every step."""
        ...

    def to_sample_layout(self, video_latents: Tensor, conditions: MotionConditions) -> Tensor:
        """Noisy video latents [B, C, F, h, w] -> the sample, with what is known in it; `video_latents` is its
        inverse."""
        ...

    def video_latents(self, latents: Tensor) -> Tensor:
        """Drop what is not video (the reference slot): [B, C, F', h, w] -> [B, C, F, h, w]."""
        ...

    def new_cache(self, budget_bytes: int | None = None) -> Any:
        """An empty cache for `forward`: of one window, and one side of guidance (or both as one batch).

        `budget_bytes`: how much may be kept beside the embedded conditions, which are always kept; None: all
        that stays the same over the steps.
        """
        ...

    def forward(
        self, latents: Tensor, timestep: Tensor, conditions: MotionConditions, cache: Any = None
    ) -> Tensor:
        """Velocity, same shape as `latents`: noise - data of a flow model, whose `timestep` [B] is 1000
        sigma, or v, with a step 0..999.

        `cache` of `new_cache`: what the conditions alone decide is computed at the first call and reused by
        the others, which must be given the same conditions. The output is the same with and without.
        """
        ...


@dataclass(frozen=True)
class AutoencoderSpec:
    """What others may know of an autoencoder.

    `latent_channels` C; `frames_per_latent`: video frames that one latent frame holds (1: pictures);
    `cell_px`: pixels per latent cell, each way. `independent_latents`: latent frame k depends on the video
    frames of its own group alone, so latents may be cut from one video and joined with those of another.
    """

    latent_channels: int
    frames_per_latent: int
    cell_px: int
    independent_latents: bool


@runtime_checkable
class Autoencoder(Protocol):
    """Pixels <-> latents of unit variance; of videos, causal: T = 4k+1 frames <-> F = k+1 latents, or of
    pictures: F = T."""

    spec: AutoencoderSpec

    def encode_video(self, video_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, C, F, h, w]; ShapeError for a T it cannot code, or unless H, W are
        multiples of `cell_px`."""
        ...

    def encode_frames(self, frames_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, C, T, h, w]: every frame as a video of one frame, in bounded batches."""
        ...

    def decode_video(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, T, H, W], unclamped."""
        ...


@runtime_checkable
class FeatureStream(Protocol):
    """The features of one sound, made when asked for, in memory that does not grow with its length."""

    rows: int
    """How many there are, from the beginning of the sound on."""

    def features(self, start: int, stop: int) -> Tensor:
        """[stop - start, blocks, channels] float32 on the CPU, rows start..stop - 1; the same values in any
        slices. ShapeError unless 0 <= start < stop <= rows."""
        ...


@runtime_checkable
class AudioFrontEnd(Protocol):
    """Sound -> features. Log-mel needs no download; wav2vec2 is the released model's."""

    sample_rate_hz: int
    rate_hz: float
    """Features in a second: the frame rate, or a multiple of it."""
    blocks: int
    channels: int
    from_video_sound: bool
    """Whether pipelines make features of a file from the sound of the written video, brought to
    `sample_rate_hz`, or, if not, from the file's own samples."""

    def stream(self, sound: SampleSource, frames: int) -> FeatureStream:
        """The features of a sound at `sample_rate_hz`, at least `frames` rows of them.

        The sound is gone through once, for what depends on the whole of it. InputError: samples that are not
        finite. ShapeError: another sample rate, or frames < 1.
        """
        ...

    def features(self, audio: Audio, frames: int) -> Tensor:
        """[frames, blocks, channels] float32: the first `frames` features of a sound in memory, at any rate.

        Errors as for `stream`; InputError also for sound that is not mono.
        """
        ...

    def to_config(self) -> dict[str, Any]:
        """What `audio/config.json` of a model folder holds."""
        ...
