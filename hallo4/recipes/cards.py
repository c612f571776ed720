"""Model cards: what a checkpoint is, how it was made, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from hallo4.diffusion import PreferenceLossConfig
from hallo4.types import AutoencoderSpec


def sft_card(
    name: str,
    backbone: str,
    autoencoder: AutoencoderSpec,
    seed: int,
    clips: int,
    steps: int,
    batch_size: int,
    licences: Mapping[str, int] | None = None,
) -> str:
    """The README of a fine-tuned tiny model with that `autoencoder`; scores are added to it
    after evaluation. `licences`: of prepared clips of videos, and how many have each; None: clips of the
    world."""
    frames, channels = autoencoder.frames_per_latent, autoencoder.latent_channels
    cell = f"{autoencoder.cell_px}x{autoencoder.cell_px}"
    coded = f"causal {cell}x{frames}, {channels} channels, plain convolutions, every group of {frames} frames"
    if frames == 1:
        coded = f"{cell}, {channels} channels, plain convolutions, every frame"
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


def further_card(
    name: str,
    recipe: str,
    base: str,
    trained: str,
    clips: str,
    licences: Mapping[str, int] | None,
    trained_on: Sequence[str],
    seed: int,
    batch_size: int,
    steps: int,
) -> str:
    """The README of a model that was trained further: `trained`, what of it, in words; `clips`, on what;
    `trained_on`: what was measured on them, a line each."""
    measured = "".join(f"* **{line.replace(': ', '**: ', 1)}\n" for line in trained_on)
    terms = "; ".join(f"{count} clips: {licence}" for licence, count in sorted((licences or {}).items()))
    return f"""---
license: other
base_model: {base}
tags: [portrait-animation, talking-head, video-diffusion, hallo4]
---
# {name}

`{base}`, fine-tuned further on {clips}, which are not part of it. All parts but the
backbone are those of `{base}`.

* **Made by**: `hallo4 train {recipe}`; seed {seed}, {steps} steps of {batch_size} clips.
* **Trained**: {trained}.
* **Trained on**: {clips}.
{measured}* **Licence of the data**: {terms or "none needed, clips are generated"}.
* **Licence**: the terms of `{base}` hold for the result too.

This card claims nothing about quality: measure it (`hallo4 evaluate videos`). Videos made with it say in
their metadata that they are AI-generated.
"""


def preference_card(
    name: str,
    recipe: str,
    base: str,
    kind: str,
    store: str,
    learn: Literal["preferences", "winners"],
    loss: PreferenceLossConfig,
    seed: int,
    windows: int,
    batch_size: int,
    kept_step: int,
    steps: int,
) -> str:
    """The README of a model made from preference pairs; scores are added to it after evaluation. `kind`: what
    of the model was trained, in words."""
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

`{base}` after {how}. Trained: {kind}.

* **Made by**: `hallo4 train {recipe}`; seed {seed}, {windows} windows of pairs, {batch_size} a step, {steps}
  steps, of which step {kept_step} is kept (largest held-out margin within the limits of the guard).
* **Pairs**: of the preference store `{store}`. Where its ratings are of simulated raters, the store says so,
  and the model says nothing about what people prefer. What `{base}` was trained on, its card says.

Videos made with it say in their metadata that they are AI-generated.
"""
