"""Latents as a backbone makes them, of clips whose frames are known: what a decoder has to cope with.

    clips --encode, noise--> noisy latents --the model, a few steps--> latents of these clips, as it has them

A decoder that has only seen what the encoder says takes every error of a backbone at its word. So clips are
noised as far as the model can still make the same clip out of them, and made again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hallo4.data.clips import ClipStore
from hallo4.data.latents import LatentCache, encode_clips, grey_of
from hallo4.diffusion import add_noise, keyed_generator
from hallo4.errors import InputError
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.ranges import Episodes, Range, Steps
from hallo4.training.placement import to_device_of
from hallo4.training.sft import SFTConfig, draw_batch, frames_before, window_of
from hallo4.weights.tensors import open_safetensors
from hallo4.whole import whole_file

AT_ONCE = 4
"""Clips that are made in one batch."""
DRAWN = SFTConfig(known_share=0.5, silent_share=0.0)


@dataclass(frozen=True)
class MadeLatentsConfig:
    """`share` of the crops are of `clips` clips that `model` (None: no model) made, from noise of a level
    between `sigmas` on, in `steps` steps, half of them going on after known frames. `folder`: where what was
    made is kept."""

    model: str | None = None
    share: Annotated[float, Range(0, 0.95)] = 0.75
    clips: Episodes = 1000
    sigmas: tuple[Annotated[float, Range(0, 1)], Annotated[float, Range(0, 1)]] = (0.5, 0.95)
    steps: Steps = 2
    folder: str = "runs/latents_made"


@dataclass(frozen=True)
class MadeLatents:
    """`latents` [C, F, h, w] float16 of the clips with these numbers, and their `share` of the crops."""

    latents: Mapping[int, Tensor]
    share: float

    @cached_property
    def clips(self) -> list[int]:
        """Their numbers."""
        return sorted(self.latents)


def made_latents(
    model: LoadedModel,
    store: ClipStore,
    config: MadeLatentsConfig,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadeLatents:
    """Make `config.clips` clips of `store`, spread over all of them, or read them where they have been made.

    InputError: a model of pictures, whose noise levels are discrete; a folder with what another model made,
    or of other clips, or with other settings.
    """
    if model.backbone.schedule is not None:
        raise InputError(
            f"{model.info.name} has discrete noise levels; made.model must be a flow model, such as a DiT."
        )
    stamp = {
        "backbone": weights_fingerprint(model.backbone),
        "autoencoder": weights_fingerprint(model.autoencoder),
        "clips of": store.config,
        "config": {k: v for k, v in asdict(config).items() if k not in ("model", "share", "folder")},
        "seed": seed,
    }
    path = Path(config.folder) / "made.safetensors"
    if path.exists():
        return MadeLatents(_read(path, stamp), config.share)
    made: dict[int, Tensor] = {}
    chosen = torch.linspace(0, len(store) - 1, min(config.clips, len(store))).long().tolist()
    for clips in _batches(store, chosen):
        key = keyed_generator("made latents", seed, clips[0])
        made |= zip(clips, _made(model, _encoded(model, store, clips), config, key), strict=True)
        if on_progress is not None:
            on_progress(len(made), len(chosen))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        save_file({str(clip): latents for clip, latents in made.items()}, temporary, _metadata(stamp))
    return MadeLatents(made, config.share)


def _metadata(stamp: Mapping[str, Any]) -> dict[str, str]:
    return {"stamp": json.dumps(stamp)}


def _read(path: Path, stamp: Mapping[str, Any]) -> dict[int, Tensor]:
    with open_safetensors(path) as file:
        if file.metadata() != _metadata(stamp):
            raise InputError(
                f"{path} holds what another model made, or of other clips, or with other settings; delete "
                "it, or name another folder by made.folder."
            )
        return {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _batches(store: ClipStore, chosen: Sequence[int]) -> list[list[int]]:
    """The chosen clips, at most `AT_ONCE` of one size together."""
    of_size = ([clip for clip in chosen if clip in clips] for clips in store.shapes.values())
    return [clips[start : start + AT_ONCE] for clips in of_size for start in range(0, len(clips), AT_ONCE)]


def _encoded(model: LoadedModel, store: ClipStore, clips: Sequence[int]) -> dict[str, Tensor]:
    """A batch as of `LatentCache.batch`."""
    rules = model.backbone.windows
    tensors = encode_clips(store, model.autoencoder, clips, rules.skeleton_rho, rules.drafts)
    grey = grey_of(store, model.autoencoder, clips[0])
    return LatentCache([tensors | {"grey": grey}]).batch(torch.arange(len(clips)))


@torch.no_grad()
def _made(
    model: LoadedModel, clips: Mapping[str, Tensor], config: MadeLatentsConfig, generator: torch.Generator
) -> Tensor:
    """The clips as the model makes them from their noisy latents: [B, C, F, h, w] float16."""
    backbone, before = model.backbone, frames_before(model.backbone.windows)
    low, high = config.sigmas
    level = low + (high - low) * float(torch.rand((), generator=generator))
    batch = to_device_of(backbone, draw_batch(clips, DRAWN, backbone.windows, generator))
    with model.denoising():
        conditions = window_of(backbone, batch, model.autoencoder)
        sigma = torch.full((len(batch["video"]),), level, device=batch["video"].device)
        noisy = add_noise(batch["video"][:, :, before:], batch["noise"], sigma)
        latents, cache = backbone.to_sample_layout(noisy, conditions), backbone.new_cache()
        for share, following in itertools.pairwise(torch.linspace(1, 0, config.steps + 1).tolist()):
            velocity = backbone(backbone.pin(latents, conditions), 1000 * share * sigma, conditions, cache)
            latents = latents + (following - share) * level * velocity
        found = backbone.video_latents(latents)
    return torch.cat([clips["video"][:, :, :before], found.float().cpu()], 2).half()
