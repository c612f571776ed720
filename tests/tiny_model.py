"""A tiny model with random weights: enough network to run every path, small enough to run it in a blink."""

from __future__ import annotations

from pathlib import Path


def make_parts(**changes):
    """(PortraitDiT, TinyVideoAutoencoder, LogMelFrontEnd); `changes` to the config of the DiT."""
    import torch

    from hallo4.models.autoencoder import TinyVideoAutoencoder
    from hallo4.models.dit import PortraitDiT
    from hallo4.models.log_mel import LogMelFrontEnd

    torch.manual_seed(0)
    front_end = LogMelFrontEnd()
    dit = PortraitDiT(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, text_dim=8, text_len=None, freq_dim=16,
        ffn_dim=32, num_layers=1, vace_layers=(0,), vace_in_channels=2 * 4 + 64, branch_init_std=0.5,
        audio_blocks=front_end.blocks, audio_channels=front_end.channels, audio_hidden_dim=16,
        audio_tokens=2, audio_axis="channel", **changes,
    )  # fmt: skip
    if dit.config.detail_width is None:
        torch.nn.init.normal_(dit.proj_out.weight, std=0.1)
    autoencoder = TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16)
    return dit, autoencoder, front_end


def save_model(parts, folder: Path) -> Path:
    """A saved model of these parts: 32x32 px, windows of 5 frames, 2 steps, guidance 2."""
    from hallo4.pipelines import ModelInfo, save_model_folder

    dit, autoencoder, front_end = parts
    info = ModelInfo("testling", "1.2", size_px=32, window_frames=5, steps=2, guidance_scale=2.0)
    return save_model_folder(folder, info, dit, autoencoder, front_end.to_config(), "# a card\n")
