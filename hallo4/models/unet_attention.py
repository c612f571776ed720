"""The three transformers of a portrait UNet layer: over the picture, over the sound, over time.

Each works on tokens [B, F, n, C] of F frames of n = h*w cells. Parameter names are those of diffusers
(`Transformer2DModel`, `UNetMotionModel`) and, for the sound, of Hallo 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from diffusers.models.attention import AttentionModuleMixin, FeedForward
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn

from hallo4.models.dit_block import SelectedBackend
from hallo4.models.dit_cache import KeyValue
from hallo4.models.unet_cache import LayerInputs

REGIONS = ("full", "face", "lip")
"""What the three audio attentions of a layer are for, in the order of masks and scales."""


@dataclass(frozen=True)
class ReferenceRouting:
    """Which clips of a batch see which reference; the default: every clip sees its own, in all frames.

    `rows`: indices [.] of the clips that see a reference, and of those that do not (None: all do).
    `source` [B, F]: the clip whose reference a frame sees (None: its own).
    """

    rows: tuple[Tensor, Tensor] | None = None
    source: Tensor | None = None

    @property
    def anybody_sees(self) -> bool:
        """Whether any clip sees a reference."""
        return self.rows is None or len(self.rows[0]) > 0

    def join(self, own: Tensor, reference: Tensor, clips: Tensor | None = None) -> Tensor:
        """[B', F, n, ...] of the `clips` (None: all) and [B, n, ...] -> [B', F, 2n, ...]."""
        if self.source is not None:
            theirs = reference[self.source if clips is None else self.source[clips]]
        else:
            theirs = reference if clips is None else reference[clips]
            theirs = theirs.unsqueeze(1).expand(-1, own.shape[1], *theirs.shape[1:])
        return torch.cat([own, theirs.to(own.dtype)], dim=2)


class StepAttention(nn.Module, AttentionModuleMixin):
    """Multi-head attention of SD1.5 (no bias but at the output), in steps, so that callers can keep K and V.

    Parameter names are those of diffusers' `Attention`: `to_q to_k to_v to_out.0`.
    """

    _default_processor_cls = SelectedBackend
    _available_processors = (SelectedBackend,)
    _supports_qkv_fusion = False

    def __init__(self, dim: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))
        self.set_processor(SelectedBackend())

    def query(self, tokens: Tensor) -> Tensor:
        """[..., L, D] -> [..., L, heads, head_dim]."""
        return self.to_q(tokens).unflatten(-1, (self.heads, -1))

    def key_value(self, tokens: Tensor) -> KeyValue:
        """[..., L, D] -> key and value, [..., L, heads, head_dim] each."""
        return KeyValue(
            self.to_k(tokens).unflatten(-1, (self.heads, -1)),
            self.to_v(tokens).unflatten(-1, (self.heads, -1)),
        )

    def mix(self, query: Tensor, context: KeyValue) -> Tensor:
        """[..., Lq, heads, head_dim] over [..., Lk, heads, head_dim] -> [..., Lq, D], not yet projected."""
        outer = query.shape[:-3]
        parts = (query, context.key, context.value)
        mixed = self.processor(*(part.reshape(-1, *part.shape[-3:]) for part in parts))
        return mixed.flatten(-2).unflatten(0, outer)

    def attend(self, query: Tensor, context: KeyValue) -> Tensor:
        """`mix`, projected: [..., Lq, D]."""
        return self.to_out(self.mix(query, context))


class TokenConv(nn.Conv2d):
    """A 1x1 convolution applied to tokens [..., C] -> [..., C']; the weight keeps its [C', C, 1, 1]."""

    def __init__(self, channels: int, channels_out: int) -> None:
        super().__init__(channels, channels_out, kernel_size=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Multiply every token by the kernel."""
        return F.linear(tokens, self.weight.flatten(1), self.bias)


def to_tokens(picture: Tensor, frames: int) -> Tensor:
    """[B*F, C, h, w] -> [B, F, h*w, C]."""
    return picture.flatten(2).transpose(1, 2).unflatten(0, (-1, frames))


def to_picture(tokens: Tensor, like: Tensor) -> Tensor:
    """[B, F, h*w, C] -> [B*F, C, h, w] with h, w of `like`."""
    return tokens.flatten(0, 1).transpose(1, 2).unflatten(2, like.shape[-2:])


class SpatialBlock(nn.Module):
    """Self-attention in each frame, joined by the reference's tokens; face tokens; feed-forward.

    The reference takes part as in Hallo 1 (`mutual_self_attention.py:223-284`): its own normed tokens are
    further keys and values, the same for all frames.
    """

    def __init__(self, dim: int, heads: int, face_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = StepAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = StepAttention(dim, heads, face_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")

    def project(self, given: LayerInputs, see_reference: bool) -> tuple[KeyValue, KeyValue | None]:
        """Keys and values of face and reference: kept ones, or new ones, which are kept if so wished."""
        face, reference = given.kept.face, given.kept.reference
        if face is None:
            face = self.attn2.key_value(given.face)
        if reference is None and given.reference is not None and see_reference:
            reference = self.attn1.key_value(given.reference)
        if given.keep:
            given.kept = replace(given.kept, face=face, reference=reference)
        return face, reference if see_reference else None

    def forward(self, tokens: Tensor, given: LayerInputs, routing: ReferenceRouting) -> tuple[Tensor, Tensor]:
        """Tokens [B, F, n, C] -> the same one block on, and the normed tokens, which a reference net gives to
        the denoiser."""
        face, reference = self.project(given, routing.anybody_sees)
        own = self.norm1(tokens)
        tokens = tokens + self._self_attention(own, reference, routing)
        frames = tokens.shape[1]
        query = self.attn2.query(self.norm2(tokens).flatten(1, 2))  # faces are the same in all frames
        tokens = tokens + self.attn2.attend(query, face).unflatten(1, (frames, -1))
        return tokens + self.ff(self.norm3(tokens)), own

    def _self_attention(self, own: Tensor, reference: KeyValue | None, routing: ReferenceRouting) -> Tensor:
        query, context = self.attn1.query(own), self.attn1.key_value(own)
        if reference is None:
            return self.attn1.attend(query, context)
        if routing.rows is None:
            keys = routing.join(context.key, reference.key)
            return self.attn1.attend(query, KeyValue(keys, routing.join(context.value, reference.value)))
        seeing, alone = routing.rows
        joined = KeyValue(
            routing.join(context.key[seeing], reference.key, seeing),
            routing.join(context.value[seeing], reference.value, seeing),
        )
        seen = self.attn1.mix(query[seeing], joined)
        unseen = self.attn1.mix(query[alone], KeyValue(context.key[alone], context.value[alone]))
        return self.attn1.to_out(torch.cat([seen, unseen])[torch.cat(routing.rows).argsort()])


class SpatialTransformer(nn.Module):
    """`SpatialBlock` between a norm and two projections, added to the picture."""

    def __init__(self, channels: int, heads: int, face_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = TokenConv(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, heads, face_dim)])
        self.proj_out = TokenConv(channels, channels)

    def forward(
        self, picture: Tensor, frames: int, given: LayerInputs, routing: ReferenceRouting
    ) -> tuple[Tensor, Tensor]:
        """[B*F, C, h, w] -> the same, and the block's normed tokens [B, F, n, C]."""
        tokens = self.proj_in(to_tokens(self.norm(picture), frames))
        tokens, own = self.transformer_blocks[0](tokens, given, routing)
        return picture + to_picture(self.proj_out(tokens), picture), own


class AudioBlock(nn.Module):
    """Self-attention in each frame; the frame's audio tokens, read three times; feed-forward.

    The three readings (whole picture, face, lips) are masked, each passes a 1x1 convolution of its own, and
    their weighted sum is added (hierarchical audio attention, Hallo 1 `attention.py:812-907`). One norm
    serves all three. The mask comes before the convolution, so its bias also enters outside the region.
    """

    def __init__(self, dim: int, heads: int, audio_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = StepAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        for index, region in enumerate(REGIONS):
            self.add_module(f"attn2_{index}", StepAttention(dim, heads, audio_dim))
            self.add_module(f"zero_conv_{region}", TokenConv(dim, dim))
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")

    def readings(self) -> list[tuple[StepAttention, TokenConv]]:
        """Attention and convolution of each region."""
        return [
            (getattr(self, f"attn2_{index}"), getattr(self, f"zero_conv_{region}"))
            for index, region in enumerate(REGIONS)
        ]

    def project(self, given: LayerInputs) -> KeyValue:
        """`audio` [B, F, N, D] -> keys and values [B, F, 3, N, heads, head_dim], kept if so wished."""
        if given.kept.audio is not None:
            return given.kept.audio
        pairs = [attention.key_value(given.audio) for attention, _ in self.readings()]
        audio = KeyValue(
            torch.stack([pair.key for pair in pairs], dim=2),
            torch.stack([pair.value for pair in pairs], dim=2),
        )
        if given.keep:
            given.kept = replace(given.kept, audio=audio)
        return audio

    def forward(
        self, tokens: Tensor, given: LayerInputs, masks: Tensor | None, scales: tuple[float, ...]
    ) -> Tensor:
        """Tokens [B, F, n, C] -> the same; `masks` [B, F, 3, n] (None: all ones), `scales` of the regions."""
        audio = self.project(given)
        own = self.norm1(tokens)
        tokens = tokens + self.attn1.attend(self.attn1.query(own), self.attn1.key_value(own))
        normed = self.norm2(tokens)
        for index, (attention, convolution) in enumerate(self.readings()):
            of_region = KeyValue(audio.key[:, :, index], audio.value[:, :, index])
            reading = attention.attend(attention.query(normed), of_region)
            if masks is not None:
                reading = reading * masks[:, :, index, :, None].to(reading.dtype)
            tokens = tokens + scales[index] * convolution(reading)
        return tokens + self.ff(self.norm3(tokens))


class AudioTransformer(nn.Module):
    """`AudioBlock` of its own width between a norm and two projections, added to the picture."""

    def __init__(self, channels: int, inner: int, heads: int, audio_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = TokenConv(channels, inner)
        self.transformer_blocks = nn.ModuleList([AudioBlock(inner, heads, audio_dim)])
        self.proj_out = TokenConv(inner, channels)

    def forward(
        self,
        picture: Tensor,
        frames: int,
        given: LayerInputs,
        masks: Tensor | None,
        scales: tuple[float, ...],
    ) -> Tensor:
        """[B*F, C, h, w] -> the same."""
        tokens = self.proj_in(to_tokens(self.norm(picture), frames))
        tokens = self.transformer_blocks[0](tokens, given, masks, scales)
        return picture + to_picture(self.proj_out(tokens), picture)


class MotionBlock(nn.Module):
    """Attention over time at every cell, twice, with positions; feed-forward (AnimateDiff v2)."""

    def __init__(self, dim: int, heads: int, positions: int) -> None:
        super().__init__()
        self.pos_embed = SinusoidalPositionalEmbedding(dim, max_seq_length=positions)
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = StepAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = StepAttention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")

    def forward(self, tokens: Tensor, before: int, first: int) -> Tensor:
        """Tokens [P, before + F, C] of P cells -> [P, F, C], without the `before` frames in front.

        `first`: the position of the first frame. The frames in front are keys of both attentions; what
        they themselves would become after the second is not computed, as nothing reads it.
        """
        places = self.pos_embed.pe[:, first : first + tokens.shape[1]].to(tokens.dtype)
        placed = self.norm1(tokens) + places
        tokens = tokens + self.attn1.attend(self.attn1.query(placed), self.attn1.key_value(placed))
        placed = self.norm2(tokens) + places
        query = self.attn2.query(placed[:, before:])
        tokens = tokens[:, before:] + self.attn2.attend(query, self.attn2.key_value(placed))
        return tokens + self.ff(self.norm3(tokens))


class MotionTransformer(nn.Module):
    """`MotionBlock` over the frames of a window, preceded by known frames, added to the picture.

    The group norm takes each frame alone (Hallo 1 `motion_module.py:285-316`; diffusers' `UNetMotionModel`
    pools over frames). Frame k of the window stands at position `motion_frames` + k, whether known frames
    precede it or not.
    """

    def __init__(self, channels: int, heads: int, groups: int, positions: int, motion_frames: int) -> None:
        super().__init__()
        self.motion_frames = motion_frames
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([MotionBlock(channels, heads, positions)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, picture: Tensor, frames: int, before: Tensor | None) -> Tensor:
        """[B*F, C, h, w] -> the same; `before` [B, M, n, C]: tokens of known frames in front, or None."""
        known = 0 if before is None else before.shape[1]
        pictures = picture.unflatten(0, (-1, frames))
        if before is not None:
            earlier = before.transpose(2, 3).unflatten(3, picture.shape[-2:])  # B M C h w
            pictures = torch.cat([earlier.to(pictures.dtype), pictures], dim=1)
        tokens = self.proj_in(to_tokens(self.norm(pictures.flatten(0, 1)), known + frames))
        batch = len(tokens)
        through_time = tokens.transpose(1, 2).flatten(0, 1)  # (B n) M+F C
        moved = self.transformer_blocks[0](through_time, known, self.motion_frames - known)
        return picture + to_picture(self.proj_out(moved).unflatten(0, (batch, -1)).transpose(1, 2), picture)
