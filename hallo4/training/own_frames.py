"""Known frames that a model makes itself, for its own fine-tuning: as in a long video, errors included."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hallo4.diffusion import denoise_ddim
from hallo4.errors import InputError
from hallo4.training.sharding import is_sharded
from hallo4.types import Autoencoder, WindowRules

CONDITIONS = ("reference", "skeleton", "audio_windows")
"""What of a batch of clips a window is conditioned on."""


def draw_own_frames(
    clips: Mapping[str, Tensor], own: Tensor, rules: WindowRules, rounds: int, generator: torch.Generator
) -> dict[str, Any]:
    """For the clips that `own` [B] bool names: `rows` [n], and the `noise` [n, rounds, C, M, h, w] of as many
    windows as are made, at most `rounds`; `seed` [n], all alike, for what is random about encoding them."""
    rows, count = own.nonzero()[:, 0], rules.known_frames
    depth = int(torch.randint(1, rounds + 1, (), generator=generator))
    like = clips["reference"][own].expand(-1, -1, count, -1, -1)
    noise = [torch.empty_like(like).normal_(generator=generator) for _ in range(depth)]
    seed = torch.randint(2**62, (), generator=torch.Generator().manual_seed(generator.initial_seed()))
    return {"rows": rows, "noise": torch.stack(noise, 1), "seed": seed.expand(len(rows)).clone()}


def with_own_frames(
    known: Tensor, model: nn.Module, autoencoder: Autoencoder, batch: Mapping[str, Any]
) -> Tensor:
    """`known` [B, C, M, h, w], where those that the batch's draws name are made by `model`."""
    own = batch["own"]
    given = {name: batch[name][own["rows"]] for name in CONDITIONS}
    made = own_known_latents(model, autoencoder, given, own["noise"], int(own["seed"][0]))
    return known.index_copy(0, own["rows"], made.to(known))


@torch.no_grad()
def own_known_latents(
    model: nn.Module,
    autoencoder: Autoencoder,
    batch: Mapping[str, Tensor],
    noise: Tensor,  # [B, rounds, C, M, h, w]
    seed: int = 0,
    steps: int = 2,
) -> Tensor:
    """The known frames [B, C, M, h, w] of a batch of picture latents as `model` makes them itself.

    A long video hands errors on from window to window, which a model that has only known true frames
    cannot correct. So the frames are made from the portrait on as a window of their own, shown,
    encoded again, and made again, `rounds` times in all, after what was made before. (The frames of several
    windows in a row would be truer to use, and cost several training steps.) InputError for a backbone whose
    latents hold several frames, or which is shared out among processes.
    """
    if is_sharded(model):
        raise InputError(
            "own_known_share needs forwards of the model on some processes alone, and sharding=full needs "
            "all of them in each: use own_known_share=0, or sharding=none."
        )
    rules, count = model.windows, model.windows.known_frames
    if rules.frames_per_latent != 1 or model.schedule is None:
        raise InputError(
            "this backbone cannot make known frames for its own training, because its latents hold several "
            "frames; use own_known_share=0"
        )
    audio = batch["audio_windows"][:, : count * rules.audio_rho]
    skeleton = batch["skeleton"][:, :, : count * rules.skeleton_rho]
    generator = torch.Generator().manual_seed(seed)
    made = None
    for drawn in noise.unbind(1):
        conditions = rules.conditions(batch, audio, skeleton, made, continues=made is not None)
        velocity = partial(model, conditions=conditions, cache=model.new_cache())
        latents = denoise_ddim(velocity, drawn, steps, model.schedule)
        shown_pm1 = autoencoder.decode_video(latents).clamp(-1, 1)
        made = rules.encode_known(autoencoder, shown_pm1, batch, generator)
    return made
