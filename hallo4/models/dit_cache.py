"""What a DiT computes from the conditions alone, so the same at every denoising step, and what is kept of it.

    conditions --embed, once--> ConditionTokens --project, in every block--> BlockConditions

Without a cache both are computed again at every step, inside `forward`, where sharding, offloading and
compilation see them. With one they are filled in at the first step and kept as far as memory allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

Stream = Literal["text", "audio", "skeleton"]
STREAMS: tuple[Stream, ...] = ("text", "audio", "skeleton")
"""In the order in which a byte kept saves most work: text and audio are read by every video token."""


@dataclass(frozen=True)
class ConditionTokens:
    """Conditions at the width of the model, the same for all blocks.

    `text` [B, L, D]; `control` [B, (F+1)*N, D], before the first VACE block's `proj_in`; `audio`
    [B, F+1, n, D] and `skeleton` [B, F+1, N, D], None where there is none; slot 0 of these two, where the
    reference stands, is zero. `reference_detail` [B, W, h, w], `frame_detail` [B, F, W, h, w] and
    `draft` [B, C, F, h, w]: for a `DetailHead`.
    """

    text: Tensor
    control: Tensor
    audio: Tensor | None = None
    skeleton: Tensor | None = None
    reference_detail: Tensor | None = None
    frame_detail: Tensor | None = None
    draft: Tensor | None = None


@dataclass(frozen=True)
class KeyValue:
    """Key and value of an attention, [..., L, heads, head_dim] each."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class BlockConditions:
    """What one block makes of `ConditionTokens`.

    `text`: a KeyValue, or, of a single token, what attention over it gives every query, [B, 1, D]. `audio`:
    a KeyValue. `skeleton`: the query in "skeleton_queries", else a KeyValue. `control`: of
    the first VACE block, what enters its stream, [B, (F+1)*N, D]; always kept. None: not computed (yet), or
    not there.
    """

    text: KeyValue | Tensor | None = None
    audio: KeyValue | None = None
    skeleton: KeyValue | Tensor | None = None
    control: Tensor | None = None

    def only(self, streams: Iterable[Stream]) -> BlockConditions:
        """The same without the other streams (`control` is none of them)."""
        return replace(self, **{name: None for name in STREAMS if name not in streams})


class BlockCache:
    """What one block keeps between steps: those of its `BlockConditions` that `streams` names."""

    def __init__(self, streams: frozenset[Stream]) -> None:
        self._streams = streams
        self.kept = BlockConditions()

    def keep(self, conditions: BlockConditions) -> None:
        """Called by the block with all that it computed."""
        self.kept = conditions.only(self._streams)


class DiTCache:
    """The cache of one window and one side of guidance (or of both as one batch); empty when new.

    `budget_bytes`: how much the blocks may keep beside the tokens, which are always kept; None: everything.
    Streams are kept for all blocks or for none, in the order of `STREAMS`.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.tokens: ConditionTokens | None = None
        self._blocks: list[BlockCache] = []
        self._vace_blocks: list[BlockCache] = []

    def fill(
        self, tokens: ConditionTokens, sizes: Mapping[Stream, int], blocks: int, vace_blocks: int
    ) -> None:
        """The first step: decide by the `sizes` of `stream_bytes` which streams are kept, and make room."""
        self.tokens = tokens
        streams = kept_streams(sizes, self.budget_bytes)
        self._blocks = [BlockCache(streams) for _ in range(blocks)]
        self._vace_blocks = [BlockCache(streams) for _ in range(vace_blocks)]

    def block(self, index: int) -> BlockCache:
        """Of main block `index`."""
        return self._blocks[index]

    def vace_block(self, index: int) -> BlockCache:
        """Of VACE block `index`."""
        return self._vace_blocks[index]


def stream_bytes(
    tokens: ConditionTokens, blocks: int, vace_blocks: int, bytes_per_value: int, skeleton_asks: bool
) -> dict[Stream, int]:
    """Stream -> bytes that all blocks together keep of it, in values of `bytes_per_value`.

    A key and a value for each token; of a single text token one value, of a skeleton that asks its query.
    """
    text = 1 if tokens.text.shape[1] == 1 else 2
    counts: dict[Stream, int] = {"text": text * (blocks + vace_blocks) * tokens.text.numel()}
    if tokens.audio is not None:
        counts["audio"] = 2 * blocks * tokens.audio.numel()
    if tokens.skeleton is not None:
        counts["skeleton"] = (1 if skeleton_asks else 2) * blocks * tokens.skeleton.numel()
    return {name: count * bytes_per_value for name, count in counts.items()}


def kept_streams(sizes: Mapping[Stream, int], budget_bytes: int | None) -> frozenset[Stream]:
    """The streams of `stream_bytes` that fit into the budget, in the order of `STREAMS`."""
    if budget_bytes is None:
        return frozenset(STREAMS)
    kept, used = set(), 0
    for name in STREAMS:
        if name in sizes and used + sizes[name] <= budget_bytes:
            kept.add(name)
            used += sizes[name]
    return frozenset(kept)
