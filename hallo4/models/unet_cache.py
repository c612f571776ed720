"""What a portrait UNet computes from the conditions alone, so the same at every denoising step.

    conditions --reference pass, projections, once--> EmbeddedWindow
    EmbeddedWindow --keys and values, in every layer--> LayerKeyValues

As in `dit_cache.py`: without a cache all of it is computed again in every `forward`; with one it is filled in
at the first step and kept as far as memory allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from hallo4.models.dit_cache import KeyValue


@dataclass(frozen=True)
class LayerKeyValues:
    """Keys and values that one attention layer makes of its `LayerInputs`; None: not computed (yet).

    `face` and `reference` [B, n, heads, head_dim] each; `audio` [B, F, 3, N, heads, head_dim] each, one for
    every region.
    """

    face: KeyValue | None = None
    reference: KeyValue | None = None
    audio: KeyValue | None = None


@dataclass
class LayerInputs:
    """What one attention layer is given about the conditions.

    `face` [B, N, D]; `audio` [B, F, N', D'] (None in a reference net); `reference` [B, n, C] and `motion`
    [B, M, n, C], the normed tokens of the portrait and of known frames at this layer. `keep`: the layer
    leaves in `kept` what it computes of them, for the next step.
    """

    face: Tensor
    audio: Tensor | None = None
    reference: Tensor | None = None
    motion: Tensor | None = None
    keep: bool = False
    kept: LayerKeyValues = field(default_factory=LayerKeyValues)


@dataclass(frozen=True)
class EmbeddedWindow:
    """The conditions of one window, embedded.

    `frames` T; `guide` [B, width, 1 or T, h, w]; `portrait_given` [B] bool; `masks` [B, T, 3, n] or None;
    `layers`: inputs of every attention layer.
    """

    frames: int
    guide: Tensor
    portrait_given: Tensor
    masks: Tensor | None
    layers: list[LayerInputs]


class UNetCache:
    """The cache of one window and one side of guidance (or of both as one batch); empty when new.

    `budget_bytes`: how much the layers may keep beside the embedded window, which is always kept; None:
    everything. Keys and values are kept by all layers or by none.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.window: EmbeddedWindow | None = None

    def fill(self, window: EmbeddedWindow, key_value_bytes: int) -> None:
        """The first step: decide whether the layers keep their keys and values."""
        keep = self.budget_bytes is None or key_value_bytes <= self.budget_bytes
        for layer in window.layers:
            layer.keep = keep
        self.window = window
