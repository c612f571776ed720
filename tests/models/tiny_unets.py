"""Small UNets and their conditions, for the tests of this folder."""

import torch

from hallo4.models.portrait_unet import PortraitUNet
from hallo4.types import MotionConditions

SIZES = {
    "block_out_channels": [16, 24, 32],
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "audio_attention_dim": 8,
    "face_embedding_dim": 6,
    "audio_blocks": 2,
    "audio_channels": 3,
    "audio_hidden_dim": 10,
    "audio_tokens": 4,
    "skeleton": "optional",
    "skeleton_hidden_dim": 8,
    "motion_positions": 12,
    "branch_init_std": 0.2,
}
FRAMES, CELLS = 3, 8


def make(seed=0, **changes):
    torch.manual_seed(seed)
    return PortraitUNet(**(SIZES | changes)).eval()


def conditions(batch=2, frames=FRAMES, audio_rho=1, skeleton_rho=1, seed=1, **changes):
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(batch, *shape, generator=generator)

    cells = sum((CELLS >> level) ** 2 for level in range(3))
    given = {
        "reference_latents": noise(4, 1, CELLS, CELLS),
        "audio_windows": noise(audio_rho * frames, 5, 2, 3),
        "skeleton_latents": noise(4, skeleton_rho * frames, CELLS, CELLS),
        "motion_latents": noise(4, 2, CELLS, CELLS),
        "face_embedding": noise(6),
        "locator_01": torch.rand(batch, 3, 1, 8 * CELLS, 8 * CELLS, generator=generator),
        "region_masks": torch.rand(batch, frames, 3, cells, generator=generator),
    }
    return MotionConditions(**(given | changes))


def noise(batch=2, frames=FRAMES, seed=2):
    return torch.randn(batch, 4, frames, CELLS, CELLS, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def predict(model, given, latents=None, cache=None):
    latents = noise(len(given.reference_latents)) if latents is None else latents
    time = torch.full((len(latents),), 500.0)
    return model(latents, time, given, cache)


@torch.no_grad()
def embedded(model, given):
    """The conditions as the model embeds them: an `EmbeddedWindow`."""
    cache = model.new_cache()
    model(noise(len(given.reference_latents)), torch.zeros(1), given, cache)
    return cache.window
