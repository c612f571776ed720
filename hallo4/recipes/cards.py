"""Model cards: what a checkpoint is, how it was made, what it must not be used for."""

from __future__ import annotations


def sft_card(
    name: str,
    width: int,
    layers: int,
    latent_channels: int,
    seed: int,
    clips: int,
    steps: int,
    batch_size: int,
) -> str:
    """The README of a fine-tuned tiny DiT; scores are added to it after evaluation."""
    return f"""---
license: apache-2.0
tags: [portrait-animation, talking-head, video-diffusion, hallo4]
---
# {name}

A small portrait animation model: portrait, speech and skeleton in, a 128x128 video at 25 fps out. It knows
only the procedural portrait world of the `hallo4` package, on which it was trained; for photographs load the
released weights.

* **Backbone**: the package's `PortraitDiT` (Wan2.1-VACE family), width {width}, {layers} layers and one VACE
  block. It differs from the released configuration in that video tokens query the skeleton (the paper's
  formula) with rotary positions, audio frames of a group lie side by side in the channels, and there is no
  text.
* **Autoencoder**: causal 8x8x4, {latent_channels} channels, plain convolutions, every group of four frames on
  its own.
* **Audio**: log-mel, no download; the projector was pre-trained to hear mouth shapes and then frozen.
* **Made by**: `hallo4 train tiny-autoencoder`, `tiny-audio`, `{name}`; seed {seed},
  {clips} clips of 17 frames, {steps} steps of {batch_size} clips, on two CPU cores.
* **Licence of the data**: none needed; portraits, motion and voices (espeak-ng, formant synthesis) are
  generated.

Videos made with it say in their metadata that they are AI-generated.
"""
