"""Model cards: what a checkpoint is, how it was made, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hallo4.diffusion import PreferenceLossConfig


def sft_card(
    name: str,
    backbone: str,
    autoencoder: Any,
    seed: int,
    clips: int,
    steps: int,
    batch_size: int,
    licences: Mapping[str, int] | None = None,
) -> str:
    """The README of a fine-tuned tiny model, whose `autoencoder` has that config; scores are added to it
    after evaluation. `licences`: of prepared clips of videos, and how many have each; None: clips of the
    world."""
    frames, channels = autoencoder.frames_per_latent, autoencoder.latent_channels
    coded = f"causal 8x8x{frames}, {channels} channels, plain convolutions, every group of {frames} frames"
    if frames == 1:
        coded = f"8x8, {channels} channels, plain convolutions, every frame"
    makers = "`tiny-autoencoder`" if frames > 1 else "`tiny-image-autoencoder`"
    knows = (
        "It knows\nonly the procedural portrait world of the `hallo4` package, on which it was trained; for "
        "photographs load the\nreleased weights."
    )
    terms = "none needed; portraits, motion and voices (espeak-ng, formant synthesis) are\n  generated."
    if licences is not None:
        knows = "It was\ntrained further on clips of videos, which are not part of it."
        terms = "; ".join(f"{count} clips: {licence}" for licence, count in sorted(licences.items()))
    return f"""---
license: apache-2.0
tags: [portrait-animation, talking-head, video-diffusion, hallo4]
---
# {name}

A small portrait animation model: portrait, speech and skeleton in, a video at 25 fps out. {knows}

* **Backbone**: {backbone}
* **Autoencoder**: {coded}
  on its own.
* **Audio**: log-mel, no download; the projector was pre-trained to predict mouth shapes and then frozen.
* **Made by**: `hallo4 train` with {makers}, `tiny-audio`, `{name}`; seed {seed},
  {clips} clips, {steps} steps of {batch_size} clips.
* **Licence of the data**: {terms}

Videos made with it say in their metadata that they are AI-generated.
"""


def preference_card(
    name: str,
    recipe: str,
    base: str,
    learn: Literal["preferences", "winners"],
    loss: PreferenceLossConfig,
    seed: int,
    windows: int,
    batch_size: int,
    kept_step: int,
    steps: int,
) -> str:
    """The README of an adapter made from preference pairs; scores are added to it after evaluation."""
    how = (
        f"direct preference optimization ({loss.objective}, beta {loss.beta:g}, "
        f"winner hinge {loss.dpop_lambda:g})"
    )
    if learn == "winners":
        how = "fine-tuning on the winners of preference pairs alone, the control of preference optimization"
    return f"""---
license: apache-2.0
base_model: {base}
tags: [portrait-animation, talking-head, video-diffusion, dpo, hallo4]
---
# {name}

A low-rank adapter on `{base}`: {how}. It knows only the procedural portrait world of the `hallo4` package.

* **Made by**: `hallo4 train {recipe}`; seed {seed}, {windows} windows of pairs, {batch_size} a step, {steps}
  steps, of which step {kept_step} is kept (largest held-out margin within the limits of the guard).
* **Pairs**: candidates of `{base}` in the portrait world. Where the ratings are of simulated raters, the
  preference store says so, and the model says nothing about what people prefer.

Videos made with it say in their metadata that they are AI-generated.
"""
