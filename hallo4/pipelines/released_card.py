"""What a converted model says of itself: `model.json`, with the released program's settings, and the card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hallo4.pipelines.released_files import HALLO4, WAN, WAV2VEC2
from hallo4.version import __version__

RELEASED_CANVAS_SIZES_PX = ((480, 832), (832, 480))
"""(height, width) of the pictures that the released weights were trained on."""
RELEASED_WINDOW_FRAMES = 81
RELEASED_PROMPT = "a person is talking"
RELEASED_NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""Prompts of the released program (Wan2.1's `sample_neg_prompt`)."""


def model_description(
    version: str, canvas_sizes_px: Sequence[tuple[int, int]], window_frames: int
) -> dict[str, Any]:
    """`model.json`: steps, guidance, shift and prompts are the defaults of the released script."""
    return {
        "name": "hallo4",
        "version": version,
        "family": "dit",
        "window_frames": window_frames,
        "steps": 25,
        "guidance_scale": 6.0,
        "flow_shift": 8.0,
        "canvas_sizes_px": [list(size) for size in canvas_sizes_px],
        "prompt": RELEASED_PROMPT,
        "negative_prompt": RELEASED_NEGATIVE_PROMPT,
        "window_noise": "shared",
        "known_frames_as": "float",
        "description": "Hallo4's DiT with Wan2.1's autoencoder, umT5 and wav2vec2, from the published files.",
    }


def converted_card(version: str, dtype: str, sources: Iterable[tuple[Path, int, str]]) -> str:
    """README.md; `sources`: (path, bytes, SHA-256) of every file that was converted."""
    rows = "\n".join(f"| `{path.as_posix()}` | {size:,} | `{digest}` |" for path, size, digest in sources)
    types = {"keep": "the types of the files", "bf16": "bf16 but for sensitive layers", "fp32": "fp32"}[dtype]
    return f"""---
license: other
tags: [portrait-animation, talking-head, video-diffusion, hallo4]
---
# hallo4 {version}

The published weights of Hallo4 in the layout of the `hallo4` package: a portrait, speech and a skeleton go
in, a video of that person speaking and moving comes out. Nothing was trained or changed; this card claims
nothing about quality.

* **`dit/`**: Hallo4's DiT, published in `{HALLO4}`; stored in {types}.
* **`autoencoder/`**: Wan2.1's causal video autoencoder, published in `{WAN}`; stored in fp32.
* **`text/`**: the umT5 encoder and its tokenizer, published in the same place; stored as in the file.
* **`audio/`**: wav2vec2, published in `{WAV2VEC2}`; stored as in the file.
* **Converted by**: `hallo4 weights convert` of hallo4 {__version__}.
* **Licence**: the terms of the publishers of each part hold for it; read them where the parts are published.

## Made from

| file | bytes | SHA-256 |
|---|---|---|
{rows}

Videos made with it say in their metadata that they are AI-generated.
"""
