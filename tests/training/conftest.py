"""A PortraitDiT of a few thousand weights and pairs of clips for it: preference training in a blink."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

LATENTS = (4, 2, 4, 4)  # C, F, h, w: 5 video frames of 32x32


def make_dit(layers: int = 2, seed: int = 0):
    from hallo4.models.dit import PortraitDiT

    torch.manual_seed(seed)
    dit = PortraitDiT(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, text_dim=8, text_len=None, freq_dim=16,
        ffn_dim=48, num_layers=layers, vace_layers=(0,), vace_in_channels=2 * 4 + 64, branch_init_std=0.3,
        audio_blocks=2, audio_channels=6, audio_hidden_dim=16, audio_tokens=2, audio_axis="channel",
        skeleton_attention="video_queries",
    )  # fmt: skip
    torch.nn.init.normal_(dit.proj_out.weight, std=0.2)
    return dit


def make_pairs(count: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Clean latents and conditions of `count` pairs; winners are smaller than losers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    conditions = {
        "reference_latents": normal(4, 1, 4, 4),
        "audio_windows": normal(5, 5, 2, 6),
        "skeleton_latents": normal(4, 5, 4, 4),
        "control_latents": normal(72, 3, 4, 4),
        "text": normal(1, 8),
    }
    winner = normal(*LATENTS)
    return {"winner": 0.5 * winner, "loser": winner + 0.5 * normal(*LATENTS), "conditions": conditions}


def make_batch(pairs: dict, rows: Tensor, visits: Tensor) -> dict:
    """The batch that a recipe's data function makes of `pairs`."""
    from hallo4.diffusion import PairDrawConfig, pair_draws

    draw = pair_draws(PairDrawConfig(seed=5, strata=2), rows.tolist(), visits.tolist(), LATENTS)
    return {
        "winner": pairs["winner"][rows],
        "loser": pairs["loser"][rows],
        "noise": draw.noise,
        "sigma": draw.sigma,
        "conditions": {name: value[rows] for name, value in pairs["conditions"].items()},
        "pairs": rows,
        "visits": visits,
    }


def disturb(model: torch.nn.Module, std: float = 0.05, seed: int = 1) -> None:
    """As if trained: add noise to everything trainable."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(std * torch.randn(parameter.shape, generator=generator).to(parameter))


@pytest.fixture
def toolbox() -> SimpleNamespace:
    """The functions above, and `batch(count)`: a PairBatch of the first visits of `count` pairs."""

    def batch(count: int = 3, visit: int = 0, **more):
        from hallo4.training import PairBatch

        made = make_batch(make_pairs(count), torch.arange(count), torch.full((count,), visit))
        return PairBatch(**(made | more))

    functions: dict[str, Callable] = {
        f.__name__: f for f in (make_dit, make_pairs, make_batch, disturb, batch)
    }
    return SimpleNamespace(**functions)
