"""Latents as a backbone makes them, of clips whose frames are known: what a decoder has to cope with.

    latents of clips, noised --the model, a few steps--> latents of the same clips, as it makes them

A decoder that has only seen what the encoder says takes every error of a backbone at its word. So clips are
noised as far as the model can still make the same clip out of them, and made again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hallo4.data.latents import LatentCache
from hallo4.diffusion import keyed_generator
from hallo4.errors import InputError
from hallo4.models.devices import device_of
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.models.precision import fast_autocast
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.ranges import Range, Share, Steps, Whole
from hallo4.training.placement import to_device_of
from hallo4.training.sft import SFTConfig, draw_batch, frames_before, window_of
from hallo4.whole import whole_file

AT_ONCE = 4
DRAWN = SFTConfig(known_share=0.5, silent_share=0.0)


@dataclass(frozen=True)
class MadeLatentsConfig:
    """`share` of the crops are of `clips` clips that `model` (None: no model) made, from noise of a level
    between `sigmas` on, in `steps` steps, half of them going on after known frames. `latents_folder`: where
    the clips lie encoded; `folder`: where what was made is kept."""

    model: str | None = None
    share: Share = 0.75
    clips: Whole = 1000
    sigmas: tuple[Annotated[float, Range(0, 1)], Annotated[float, Range(0, 1)]] = (0.5, 0.95)
    steps: Steps = 2
    latents_folder: str = "runs/latents_train"
    folder: str = "runs/latents_made"


@dataclass(frozen=True)
class MadeLatents:
    """`latents` [C, F, h, w] float16 of the clips with these numbers, and their `share` of the crops."""

    latents: Mapping[int, Tensor]
    share: float

    @property
    def clips(self) -> list[int]:
        """Their numbers."""
        return list(self.latents)


def made_latents(
    model: LoadedModel,
    cache: LatentCache,
    config: MadeLatentsConfig,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadeLatents:
    """Make `config.clips` clips of `cache`, spread over all, or read them where they have been made.

    InputError: a model of pictures, whose noise levels are discrete; a folder with what another model or
    configuration made.
    """
    if model.backbone.schedule is not None:
        raise InputError(
            f"{model.info.name} has discrete noise levels; made.model must be a flow model, such as a DiT."
        )
    stamp = {
        "backbone": weights_fingerprint(model.backbone),
        "config": {k: v for k, v in asdict(config).items() if k not in ("model", "share", "folder")},
        "seed": seed,
        "clips": len(cache),
    }
    path = Path(config.folder) / "made.safetensors"
    if path.exists():
        return MadeLatents(_read(path, stamp), config.share)
    rules = model.backbone.windows
    every = max(1, len(cache) // max(1, config.clips))
    made: dict[int, Tensor] = {}
    parts = [rows for group in cache.groups.values() for rows in group[::every].split(AT_ONCE)]
    for number, rows in enumerate(parts):
        key = keyed_generator("made latents", seed, number)
        batch = draw_batch(cache.batch(rows), DRAWN, rules, key)
        low, high = config.sigmas
        sigma = low + (high - low) * float(torch.rand((), generator=key))
        latents = _made(model, to_device_of(model.backbone, batch), sigma, config.steps)
        known = batch["video"][:, :, : frames_before(rules)]
        for row, one in zip(rows.tolist(), torch.cat([known, latents.cpu()], 2), strict=True):
            made[row] = one.half()
        if on_progress is not None:
            on_progress(len(made), sum(map(len, parts)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        save_file({str(k): v.contiguous() for k, v in made.items()}, temporary, {"stamp": json.dumps(stamp)})
    return MadeLatents(made, config.share)


def _read(path: Path, stamp: Mapping[str, object]) -> dict[int, Tensor]:
    with safe_open(path, "pt") as file:
        if json.loads((file.metadata() or {}).get("stamp", "null")) != json.loads(json.dumps(stamp)):
            raise InputError(
                f"{path} holds what another model made, or was made with other settings; delete it, or name "
                "another folder by made.folder."
            )
        return {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping


@torch.no_grad()
def _made(model: LoadedModel, batch: Mapping[str, Tensor], sigma: float, steps: int) -> Tensor:
    """The clips of the batch as the model makes them from their noisy latents: [B, C, F, h, w]."""
    backbone = model.backbone
    with fast_autocast(device_of(backbone).type):
        conditions = window_of(backbone, batch, model.autoencoder)
        video = batch["video"][:, :, frames_before(backbone.windows) :]
        noisy = (1 - sigma) * video + sigma * batch["noise"]
        latents, cache = backbone.to_sample_layout(noisy, conditions), backbone.new_cache()
        for level, following in itertools.pairwise(torch.linspace(sigma, 0, steps + 1).tolist()):
            latents = backbone.pin(latents, conditions)
            timestep = torch.full((len(latents),), 1000 * level, device=latents.device)
            latents = latents + (following - level) * backbone(latents, timestep, conditions, cache)
        return backbone.video_latents(latents).float()
