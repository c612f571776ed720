"""The ablation of temporal motion modulation: how many of the rho frames of a group a DiT is told of.

    tiny-dit-sft --with_expansion e--> the same network, told of e of every 4 sounds and skeletons
    trained further on people of whom some move two and four times as fast, as long for every e
    --hallo4 evaluate motion--> how fast a motion it still follows

Begun from a trained model and not from scratch, because an hour for each does not fit two cores; at the
start a variant reads the frames that it is still given in place of those that it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from hallo4.data.clips import ClipStoreConfig
from hallo4.models.dit import PortraitDiT
from hallo4.models.temporal_motion_modulation import kept_slots
from hallo4.pipelines.model_folder import ModelInfo
from hallo4.recipes.fine_tuning import FineTuneConfig, fine_tune
from hallo4.recipes.recipe import Recipe
from hallo4.recipes.tiny_dit import DiTSizes, build_dit, describe_dit, tiny_dit_training
from hallo4.training import TrainConfig
from hallo4.version import __version__


def fast_clips() -> ClipStoreConfig:
    """People of whom a third move two and a third four times as fast, seen twice a frame."""
    return ClipStoreConfig(episodes=600, first_seed=100_000, tempos=(1.0, 2.0, 4.0), skeleton_rho=2)


@dataclass(frozen=True)
class ExpansionConfig(FineTuneConfig):
    """`FineTuneConfig` of one variant: of every group of rho frames, `expansion` sounds and skeletons are
    told, evenly spread and always the last. Stop all variants after the same `train.steps`."""

    expansion: int = 1
    start_from: str | None = "tiny-dit-sft"
    clips: ClipStoreConfig = field(default_factory=fast_clips)
    clips_folder: str = "runs/clips_fast"
    latents_folder: str = "runs/latents_fast"
    train: TrainConfig = field(
        default_factory=lambda: tiny_dit_training("tmm-expansion", steps=500, max_minutes=None)
    )


def with_expansion(model: PortraitDiT, expansion: int) -> PortraitDiT:
    """`model` told of `expansion` of the rho frames of a group, sound and skeleton; other weights shared.

    The Linear behind the narrower tokens puts each frame that is left in its own place and in those of the
    frames before it that are not.
    """
    slots = kept_slots(model.config.rho, expansion)
    if len(slots) == model.config.rho:
        return model
    changes = {"audio_expansion": expansion, "skeleton_expansion": expansion}
    changed = PortraitDiT.from_config(dict(model.config) | changes)
    missing, unexpected = changed.load_state_dict(model.state_dict(), strict=False)
    new = [f"{part}.widen.{name}" for part in ("audio_proj", "skeleton_proj") for name in ("weight", "bias")]
    assert (sorted(missing), unexpected) == (sorted(new), []), (missing, unexpected)
    for projector in (changed.audio_proj, changed.skeleton_proj):
        wide, narrow = projector.widen.weight.shape
        width = narrow // len(slots)
        with torch.no_grad():
            projector.widen.weight.zero_()
            projector.widen.bias.zero_()
            for slot in range(wide // width):
                stands_in = next(place for place, kept in enumerate(slots) if kept >= slot)
                columns = projector.widen.weight[:, stands_in * width : (stands_in + 1) * width]
                columns[slot * width : (slot + 1) * width] = torch.eye(width)
    return changed


def run(config: ExpansionConfig, folder: Path) -> Path:
    """See `fine_tune`."""
    info = ModelInfo(config.train.name, __version__, steps=4, flow_shift=3.0)
    return fine_tune(
        config, folder, info, lambda channels: build_dit(DiTSizes(), channels), describe_dit,
        adapt=lambda model: with_expansion(model, config.expansion),
    )  # fmt: skip


def recipe() -> Recipe:
    """One variant of the sweep over expansions."""
    summary = "ablation: a tiny DiT told of 1, 2 or 4 of every 4 sounds and skeletons"
    return Recipe("tmm-expansion", summary, ExpansionConfig(), run)
