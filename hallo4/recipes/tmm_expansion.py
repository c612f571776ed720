"""The ablation of temporal motion modulation: how many of the rho frames of a group a DiT is given.

    tiny-dit-sft --with_expansion e--> the same network, given e of every 4 sounds and skeletons
    [--with_new_modulation--> the same, but nothing it learnt about sound and skeletons is left]
    trained further on people of whom some move two and four times as fast, as long for every e
    --hallo4 evaluate motion--> how fast a motion it still follows

Begun from a trained model and not from scratch, because hours for each do not fit two cores. That model was
trained with all 4; `modulation="new"` takes this advantage from the full variant: all begin as ignorant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch

from hallo4.data.clips import ClipStoreConfig
from hallo4.models.dit import PortraitDiT
from hallo4.models.temporal_motion_modulation import kept_slots
from hallo4.ranges import Range
from hallo4.recipes.recipe import Recipe
from hallo4.recipes.tiny_dit import DiTSizes, build_dit, describe_dit, tiny_dit_training
from hallo4.recipes.tiny_models import TinyModelConfig, fine_tune_tiny
from hallo4.training import TrainConfig

Expansion = Annotated[int, Range(1, 4)]
"""How many of the frames of a group are used."""


def fast_clips() -> ClipStoreConfig:
    """People of whom a third move two and a third four times as fast, seen twice a frame."""
    return ClipStoreConfig(episodes=600, first_seed=100_000, tempos=(1.0, 2.0, 4.0), skeleton_rho=2)


@dataclass(frozen=True, kw_only=True)
class ExpansionConfig(TinyModelConfig):
    """`TinyModelConfig` of one variant: of every group of rho frames, `expansion` sounds and skeletons are
    used, evenly spread and always the last; `modulation`: whether what hands them on starts as trained or
    new. Stop all variants after the same `train.steps`."""

    model_name: str = "tmm-expansion"
    expansion: Expansion = 1
    modulation: Literal["trained", "new"] = "trained"
    model: str | None = "tiny-dit-sft"
    clips: ClipStoreConfig = field(default_factory=fast_clips)
    clips_folder: str = "runs/clips_fast"
    latents_folder: str = "runs/latents_fast"
    train: TrainConfig = field(
        default_factory=lambda: tiny_dit_training("tmm-expansion", steps=500, max_minutes=None)
    )


def with_expansion(model: PortraitDiT, expansion: int) -> PortraitDiT:
    """`model`, given `expansion` of the rho frames of a group, sound and skeleton; other weights shared.

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


MODULATION = (
    "skeleton_proj.proj.",
    "skeleton_proj.norm.",
    "attn_audio.",
    "norm_audio.",
    "attn_skeleton.",
    "norm_skeleton.",
)
"""Parts of the names of weights that carry sound and skeletons into the blocks; the layers of single audio
frames are not among them, nor how frames that are left stand in for the others."""


def with_new_modulation(model: PortraitDiT, seed: int) -> PortraitDiT:
    """`model` with the weights of `MODULATION` as a new network has them, the same for every expansion; the
    rest is shared."""
    full = dict(model.config) | {"audio_expansion": None, "skeleton_expansion": None}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        fresh = PortraitDiT.from_config(full).state_dict()
    new = {name: value for name, value in fresh.items() if any(part in name for part in MODULATION)}
    model.load_state_dict(model.state_dict() | new)
    return model


def adapted(model: PortraitDiT, config: ExpansionConfig) -> PortraitDiT:
    """What a variant starts as."""
    changed = with_expansion(model, config.expansion)
    return with_new_modulation(changed, config.train.seed) if config.modulation == "new" else changed


def run(config: ExpansionConfig, folder: Path) -> Path:
    """See `fine_tune_tiny`."""
    return fine_tune_tiny(
        *(config, folder, lambda code: build_dit(DiTSizes(), code), describe_dit),
        adapt=lambda model: adapted(model, config),
    )


def recipe() -> Recipe:
    """One variant of the sweep over expansions."""
    summary = "ablation: a tiny DiT given 1, 2 or 4 of every 4 sounds and skeletons"
    return Recipe("tmm-expansion", summary, ExpansionConfig(), run)
