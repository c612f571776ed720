"""Supervised fine-tuning of any backbone on any clips: what is drawn for a batch, and the loss on it.

    clips --SFTBatches--> video, conditions; noise, sigma, what is known, what is silent
                              '--sft_objective: add_noise, predict through the model--> weighted squared error

Every draw is made on the CPU, keyed by (seed, index of the batch), so the loss is a function of model and
batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hallo4.data.latents import RegionWeights
from hallo4.diffusion import sample_sigma, sft_loss
from hallo4.diffusion.flow import Distribution
from hallo4.diffusion.keyed import keyed_generator
from hallo4.errors import InputError
from hallo4.models.window_conditions import null_text
from hallo4.ranges import BatchSize, FlowShift, Frames, NotNegative, Share, Whole, check_ranges
from hallo4.training.denoising import found_and_wanted, predict, prediction_of
from hallo4.training.local_sharpness import size_difference
from hallo4.training.loop import Data, Method, Preview
from hallo4.training.method import TrainingMethod
from hallo4.training.order import grouped_batch_indices
from hallo4.training.own_frames import draw_own_frames, with_own_frames
from hallo4.training.reference import unwrapped
from hallo4.types import Autoencoder, MotionConditions, WindowRules

Batch = dict[str, Any]


class Clips(Protocol):
    """Clips to fine-tune on, encoded: prepared videos (`PreparedClips`) or rendered ones (`LatentCache`)."""

    @property
    def groups(self) -> Mapping[str, Tensor]:
        """Latent shape -> indices [n] of the clips that have it; only such make a batch."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Batch:
        """See `PreparedClips.batch`."""
        ...


@dataclass(frozen=True)
class SFTConfig:
    """`batch_size` clips in a micro-batch. `regions` multiply the loss in latent cells that show mouth, eyes
    or hands.

    `shift` and `distribution` of noise levels; `known_share` of the windows know the frames before them
    (slightly wrong, by up to `known_noise`, as generated frames are), `silent_share` do without what guidance
    leaves out. `own_known_share` of those windows know frames that the model made itself, as in a long
    video, up to `own_known_rounds` windows deep: see `own_known_latents`. `window_frames`: of every clip only
    so many frames in a row are made, anywhere in it (None: all that follow the known ones); a first run on
    few frames shows a backbone of pictures more people and noise levels in the same time, a second one
    teaches it to move. `detail_weight` is that of `size_difference` of the latents that a flow model makes
    and the true ones: as much detail as there is, where the squared error asks for the blurred mean of all
    that may be. InputError for a value out of range.
    """

    batch_size: BatchSize = 16
    shift: FlowShift = 2.0
    distribution: Distribution = "logit_normal"
    regions: RegionWeights = field(default_factory=RegionWeights)
    known_share: Share = 0.6
    known_noise: NotNegative = 0.25
    own_known_share: Share = 0.0
    own_known_rounds: Whole = 3
    silent_share: Share = 0.1
    window_frames: Frames | None = None
    detail_weight: NotNegative = 0.0

    def __post_init__(self) -> None:
        """See the class."""
        check_ranges(self)


class SFTBatches:
    """The `Data` of fine-tuning: `rows` (indices [n]; None: all) of `clips`, each once an epoch, drawn."""

    def __init__(
        self, clips: Clips, config: SFTConfig, rules: WindowRules, seed: int, rows: Tensor | None = None
    ) -> None:
        self.clips, self.config, self.rules, self.seed = clips, config, rules, seed
        self.groups = chosen_groups(clips.groups, rows)

    def __len__(self) -> int:
        """How many clips there are."""
        return sum(map(len, self.groups))

    def __call__(self, index: int, generator: torch.Generator) -> Batch:
        """Micro-batch `index`."""
        rows = grouped_batch_indices(self.groups, self.config.batch_size, self.seed, index)
        return self.drawn(rows, keyed_generator("method", self.seed, index))

    def drawn(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Clips `rows` [B] with the draws of `generator`; see `draw_batch`."""
        return draw_batch(self.clips.batch(rows), self.config, self.rules, generator)


def chosen_groups(groups: Mapping[str, Tensor], rows: Tensor | None) -> list[Tensor]:
    """The `groups` with those of `rows` alone (None: all), without groups of none."""
    if rows is None:
        return list(groups.values())
    kept = (group[torch.isin(group, rows)] for group in groups.values())
    return [group for group in kept if len(group)]


def draw_batch(clips: Batch, config: SFTConfig, rules: WindowRules, generator: torch.Generator) -> Batch:
    """A batch of clips, cut to an excerpt where the configuration says so, with what is random about it:

    `noise` [B, C, F, h, w] and `sigma` [B]; `known_noise` [B, C, M, h, w], by how much the known latents are
    off; `continues`, `silent` [B] bool; `own`: see `draw_own_frames`. F counts the frames behind those that
    are known.
    """
    before = frames_before(rules)
    if config.window_frames is not None:
        clips = excerpt(clips, before + config.window_frames, generator)
    video, size = clips["video"], len(clips["video"])
    blur = config.known_noise * torch.rand(size, 1, 1, 1, 1, generator=generator)
    drawn = {"known_noise": blur * normal_like(video[:, :, : rules.known_frames], generator)}
    drawn["continues"] = torch.rand(size, generator=generator) < config.known_share
    if config.own_known_share:
        own = drawn["continues"] & (torch.rand(size, generator=generator) < config.own_known_share)
        if own.any():
            drawn["own"] = draw_own_frames(clips, own, rules, config.own_known_rounds, generator)
    drawn["silent"] = torch.rand(size, generator=generator) < config.silent_share
    drawn["noise"] = normal_like(video[:, :, before:], generator)
    drawn["sigma"] = sample_sigma(size, generator, config.shift, config.distribution)
    return clips | drawn


def frames_before(rules: WindowRules) -> int:
    """Frames of a clip that are known and not made."""
    return rules.known_frames - rules.repeated_frames


def normal_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape and layout of `tensor`."""
    return torch.empty_like(tensor).normal_(generator=generator)


def excerpt(clips: Batch, frames: int, generator: torch.Generator) -> Batch:
    """`frames` frames in a row, from one random place of all clips of a batch of picture latents.

    InputError if the clips are shorter, or their latents hold several frames."""
    held = clips["audio_windows"].shape[1]
    if clips["video"].shape[2] != held or frames > held:
        raise InputError(
            f"excerpts of {frames} frames of clips of {held} frames in {clips['video'].shape[2]} latents: "
            "give window_frames to a backbone of pictures only, and no more than the clips have"
        )
    start = int(torch.randint(held - frames + 1, (), generator=generator))
    by_frame = [name for name in ("video", "skeleton", "draft", "regions") if name in clips]
    cut = {name: clips[name][:, :, start : start + frames] for name in by_frame}
    return clips | cut | {"audio_windows": clips["audio_windows"][:, start : start + frames]}


def sft_objective(config: SFTConfig, autoencoder: Autoencoder) -> Method:
    """Denoising of a clip's last frames, given as many before as the backbone is conditioned on.

    Every latent that sampling makes is scored. With a DiT of the released kind this includes the known frame
    of a window that goes on: it is known through the control alone, denoised again like all others, which
    attend to it at every step, and left out only when the window is done; unscored, it would be noise that
    the others look at. (The authors published no training code.) Preference training leaves it out: winner
    and loser are judged by what each did *after* it.

    `autoencoder`: of the latents, on the device of the model."""

    def objective(model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        bare, before = unwrapped(model), frames_before(unwrapped(model).windows)
        video, regions = batch["video"][:, :, before:], batch["regions"][:, :, before:]
        conditions = vars(window_of(bare, batch, autoencoder))
        draws = (video, batch["noise"], batch["sigma"], conditions)
        found, wanted = found_and_wanted(predict, prediction_of(bare), model, *draws)
        loss = sft_loss(found, wanted, config.regions.of(regions))
        values = {}
        if config.detail_weight:
            if bare.schedule is not None:
                raise InputError(
                    "detail_weight looks at the latents that a flow model makes, and this one has discrete "
                    "noise levels; use detail_weight=0."
                )
            made = video + batch["sigma"].view(-1, 1, 1, 1, 1) * (wanted - found)
            blur = size_difference(made, video)
            loss = loss + config.detail_weight * blur
            values["size_difference"] = float(blur.detach())
        mouth = regions[:, :1].float()
        error = (found.detach() - wanted).square()
        mouth_error = (error * mouth).sum() / (mouth.sum() * video.shape[1] + 1e-6)
        return loss, values | {"error": float(error.mean()), "mouth_error": float(mouth_error)}

    return objective


def window_of(model: nn.Module, batch: Batch, autoencoder: Autoencoder) -> MotionConditions:
    """What the windows of a batch of `draw_batch` are conditioned on."""
    rules, before = model.windows, frames_before(model.windows)
    scene = {"reference": batch["reference"], "grey": batch["grey"]}
    if "text" in batch:
        scene["text"] = batch["text"]
    elif model.condition_spec.text_dim is not None:
        scene["text"] = null_text(model.condition_spec.text_dim)
    known = batch["video"][:, :, : rules.known_frames] + batch["known_noise"]
    if "own" in batch:
        known = with_own_frames(known, model, autoencoder, batch)
    if "known" in batch:
        known = batch["known"]
    else:
        known = rules.known_from_latents(autoencoder.spec, known, scene)
    skeleton = batch.get("skeleton")
    conditions = rules.conditions(
        scene,
        batch["audio_windows"][:, before * rules.audio_rho :],
        None if skeleton is None else skeleton[:, :, before * rules.skeleton_rho :],
        known,
        batch["continues"],
        batch.get("draft"),
    )
    return rules.unconditional(conditions, batch["silent"])


def sft_method(
    name: str,
    model: nn.Module,
    autoencoder: Autoencoder,
    clips: Clips,
    config: SFTConfig,
    seed: int,
    rows: Tensor | None = None,
    preview: Preview | None = None,
) -> TrainingMethod:
    """Fine-tuning of `model` on `rows` of `clips` (None: all)."""
    data: Data = SFTBatches(clips, config, unwrapped(model).windows, seed, rows)
    return TrainingMethod(name, model, sft_objective(config, autoencoder), data, preview)
