"""One block of the portrait DiT and of its VACE branch, with the attention and position tables they share."""

from __future__ import annotations

import torch
from diffusers.models.attention import AttentionModuleMixin, FeedForward
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from hallo4.models.dit_cache import BlockCache, BlockConditions, ConditionTokens, KeyValue
from hallo4.models.rms_norm import RMSNorm
from hallo4.tables import cached_table

PICTURE_THETA = 30.0
"""Base of the skeleton attention's position table. A picture has tens of patches a side, not thousands: all
waves are short enough to distinguish neighbours, and the slowest spans about a hundred patches."""

SHORT_KEYS = 512
"""With at most this many keys, a CPU uses plain products in bf16: the backward of PyTorch's fused kernel
takes 33 ms for 96 x 64 queries over 4 keys, two plain products 2 ms (two cores with AMX). With and without
gradient alike: a model and its reference must agree bit for bit."""


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The type that matrix products run in: autocast's where it is on, else the weights'."""
    device = weight.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else weight.dtype


def _rotations(positions: int, channels: int, theta: float) -> Tensor:
    """[positions, channels/2] complex unit numbers, computed in fp64 and kept in fp32."""
    frequencies = theta ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


@cached_table
def video_rotations(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> Tensor:
    """Rotary table of self-attention for a (frames, rows, columns) grid: [L, 1, head_dim/2] complex64.

    Two sixths of a head's channels (rounded down) turn with the row, two with the column, the rest with the
    latent frame; the reference slot is frame 0 (Wan2.1 `wan_model.py:48-75`, there rebuilt in every block).
    """
    frames, rows, columns = grid
    side = 2 * (head_dim // 6)
    in_time = _rotations(frames, head_dim - 2 * side, 10000.0).view(frames, 1, 1, -1)
    down = _rotations(rows, side, 10000.0).view(1, rows, 1, -1)
    across = _rotations(columns, side, 10000.0).view(1, 1, columns, -1)
    table = torch.cat([part.expand(*grid, -1) for part in (in_time, down, across)], dim=-1)
    return table.flatten(0, 2).unsqueeze(1).to(device)


@cached_table
def picture_rotations(grid: tuple[int, int], head_dim: int, device: torch.device) -> Tensor:
    """Rotary table inside one frame, half of the channels each way: [N, 1, head_dim/2] complex64."""
    rows, columns = grid
    across_channels = 2 * (head_dim // 4)
    down = _rotations(rows, head_dim - across_channels, PICTURE_THETA).view(rows, 1, -1)
    across = _rotations(columns, across_channels, PICTURE_THETA).view(1, columns, -1)
    table = torch.cat([part.expand(*grid, -1) for part in (down, across)], dim=-1)
    return table.flatten(0, 1).unsqueeze(1).to(device)


def rotate(heads: Tensor, rotations: Tensor) -> Tensor:
    """Turn channel pairs of `heads` [..., L, heads, head_dim] fp32 by `rotations` [L, 1, head_dim/2].

    On a CPU one complex product, several times faster there than the sine and cosine form; elsewhere, and
    in compiled code, which cannot fuse complex numbers, the real form of the same product.
    """
    if heads.device.type == "cpu" and not torch.compiler.is_compiling():
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * rotations).flatten(-2)
    return rotate_without_complex(heads, rotations)


def rotate_without_complex(heads: Tensor, rotations: Tensor) -> Tensor:
    """The real form of `rotate`."""
    first, second = heads.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = torch.view_as_real(rotations).unbind(-1)
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1).flatten(-2)


def plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as two products and a softmax, [batch, L, heads, head_dim] each; holds all scores."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    return (scores.softmax(-1) @ value).transpose(1, 2)


class SelectedBackend:
    """The attention kernel of one layer; `model.set_attention_backend(name)` of diffusers changes it."""

    _attention_backend = None
    _parallel_config = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[batch, L, heads, head_dim] each -> [batch, L, heads, head_dim]."""
        slow_kernel = query.device.type == "cpu" and query.dtype == torch.bfloat16
        if slow_kernel and self._attention_backend is None and key.shape[1] <= SHORT_KEYS:
            return plain_attention(query, key, value)
        return dispatch_attention_fn(query, key, value, backend=self._attention_backend)


class Attention(nn.Module, AttentionModuleMixin):
    """Multi-head attention with RMS-normalised queries and keys, in steps, so that callers can keep K and V.

    Parameter names are those of diffusers' Wan attention (`to_q to_k to_v to_out.0 norm_q norm_k`).
    """

    _default_processor_cls = SelectedBackend
    _available_processors = (SelectedBackend,)
    _supports_qkv_fusion = False

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))
        self.norm_q = RMSNorm(dim, eps)
        self.norm_k = RMSNorm(dim, eps)
        self.set_processor(SelectedBackend())

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1))

    def query(self, tokens: Tensor, rotations: Tensor | None = None) -> Tensor:
        """[..., L, D] -> [..., L, heads, head_dim], normalised over D and turned by `rotations`."""
        heads = self._split(self.norm_q(self.to_q(tokens)))
        heads = heads if rotations is None else rotate(heads, rotations)
        return heads.to(compute_dtype(self.to_v.weight))

    def key_value(self, tokens: Tensor, rotations: Tensor | None = None) -> KeyValue:
        """[..., L, D] -> key and value, [..., L, heads, head_dim] each."""
        heads = self._split(self.norm_k(self.to_k(tokens)))
        heads = heads if rotations is None else rotate(heads, rotations)
        value = self._split(self.to_v(tokens))
        return KeyValue(heads.to(value.dtype), value)

    def attend(self, query: Tensor, context: KeyValue) -> Tensor:
        """[..., Lq, heads, head_dim] over [..., Lk, heads, head_dim] -> [..., Lq, D], projected."""
        outer = query.shape[:-3]
        parts = (query, context.key, context.value)
        mixed = self.processor(*(part.reshape(-1, *part.shape[-3:]) for part in parts))
        return self.to_out(mixed.flatten(-2)).unflatten(0, outer)

    @torch.no_grad()
    def look_near(self) -> None:
        """Make new weights attend around each query's own place, given `picture_rotations`.

        Equal biases on both sides leave, after the rotation, a score that falls with the distance. With these
        values about 60 % of the weight lies within one and a half patches on an 8x8 grid; without them the
        attention starts uniform and must first discover the picture's geometry.
        """
        nn.init.constant_(self.to_q.bias, 2.0)
        nn.init.constant_(self.to_k.bias, 2.0)
        nn.init.constant_(self.norm_q.weight, 2.0)

    def only_value(self, token: Tensor) -> Tensor:
        """What attention over the single `token` [B, 1, D] gives every query: softmax over one key is one."""
        return self.to_out(self.to_v(token))


def _modulate(normed: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, normed, 1 + scale)


class _BaseBlock(nn.Module):
    """What main and VACE blocks share: self-attention, text, feed-forward, modulation by the timestep.

    The stream stays in fp32; products run in `compute_dtype`. Parameter names follow diffusers'
    WanTransformerBlock.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int, eps: float) -> None:
        super().__init__()
        self.norm1 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = Attention(dim, heads, eps)
        self.norm2 = FP32LayerNorm(dim, eps, elementwise_affine=True)
        self.attn2 = Attention(dim, heads, eps)
        self.norm3 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = FeedForward(dim, inner_dim=ffn_dim, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def project_text(self, text: Tensor) -> KeyValue | Tensor:
        """Keys and values of the text [B, L, D]; for a single token what they come to, [B, 1, D]."""
        return self.attn2.only_value(text) if text.shape[1] == 1 else self.attn2.key_value(text)

    def _modulation(self, time: Tensor) -> tuple[Tensor, ...]:
        return (self.scale_shift_table.float() + time).chunk(6, dim=1)

    def _self_attention(
        self, stream: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, rotations: Tensor
    ) -> Tensor:
        dtype = compute_dtype(self.attn1.to_q.weight)
        tokens = _modulate(self.norm1(stream), scale, shift).to(dtype)
        query = self.attn1.query(tokens, rotations)
        mixed = self.attn1.attend(query, self.attn1.key_value(tokens, rotations))
        return torch.addcmul(stream, gate, mixed.float())

    def _text_attention(self, stream: Tensor, text: KeyValue | Tensor) -> Tensor:
        if isinstance(text, Tensor):
            return stream + text
        query = self.attn2.query(self.norm2(stream).to(compute_dtype(self.attn2.to_q.weight)))
        return stream + self.attn2.attend(query, text)

    def _feed_forward(self, stream: Tensor, tokens: Tensor, gate: Tensor) -> Tensor:
        fed = self.ffn(tokens.to(compute_dtype(self.attn1.to_q.weight)))
        return torch.addcmul(stream, gate, fed.float())


class DiTBlock(_BaseBlock):
    """A main block: self-attention, text, audio per latent frame, skeleton per latent frame, feed-forward.

    `skeleton_attention` "skeleton_queries" (released, Hallo4 `wan_model.py:361-373`): the skeleton is the
    query, the modulated video tokens are key and value, and the result enters the feed-forward's input only.
    "video_queries" (the paper's formula Z' = softmax(QK^T/sqrt(d))V + Z): the video is the query, the
    skeleton key and value, and the result is added to the stream after the audio.
    None leaves skeleton layers out; `audio=False` leaves audio layers out.
    """

    def __init__(
        self, dim: int, heads: int, ffn_dim: int, eps: float, audio: bool, skeleton_attention: str | None
    ) -> None:
        super().__init__(dim, heads, ffn_dim, eps)
        self.skeleton_attention = skeleton_attention
        if audio:
            self.norm_audio = FP32LayerNorm(dim, eps, elementwise_affine=True)
            self.attn_audio = Attention(dim, heads, eps)
        if skeleton_attention is not None:
            self.norm_skeleton = FP32LayerNorm(dim, eps, elementwise_affine=True)
            self.attn_skeleton = Attention(dim, heads, eps)

    def project(
        self, tokens: ConditionTokens, picture: Tensor | None, kept: BlockConditions
    ) -> BlockConditions:
        """All that this block computes from the conditions alone, so the same at every step; what is `kept`
        from the step before is taken over.

        `picture` [N, 1, head_dim/2]: rotations inside one frame, or None.
        """
        text, audio, skeleton = kept.text, kept.audio, kept.skeleton
        if text is None:
            text = self.project_text(tokens.text)
        if audio is None and tokens.audio is not None:
            audio = self.attn_audio.key_value(tokens.audio)
        if skeleton is None and tokens.skeleton is not None:
            asks = self.skeleton_attention == "skeleton_queries"
            project = self.attn_skeleton.query if asks else self.attn_skeleton.key_value
            skeleton = project(tokens.skeleton, picture)
        return BlockConditions(text, audio, skeleton)

    def forward(
        self,
        stream: Tensor,
        time: Tensor,
        rotations: Tensor,
        tokens: ConditionTokens,
        picture: Tensor | None,
        frames: int,
        cache: BlockCache | None = None,
    ) -> Tensor:
        """One step of the stream [B, L, D], L = frames * N.

        `time` [B, 6, D]; `rotations` [L, 1, head_dim/2]; `picture`: rotations inside one frame, or None;
        `cache`: what the step before left, and where this one leaves it.
        """
        given = self.project(tokens, picture, BlockConditions() if cache is None else cache.kept)
        if cache is not None:
            cache.keep(given)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulation(time)
        stream = self._self_attention(stream, shift, scale, gate, rotations)
        stream = self._text_attention(stream, given.text)
        if given.audio is not None:
            query = self.attn_audio.query(self._per_frame(self.norm_audio, stream, frames))
            stream = stream + self.attn_audio.attend(query, given.audio).flatten(1, 2)
        if isinstance(given.skeleton, KeyValue):
            query = self.attn_skeleton.query(self._per_frame(self.norm_skeleton, stream, frames), picture)
            stream = stream + self.attn_skeleton.attend(query, given.skeleton).flatten(1, 2)
        inner = _modulate(self.norm3(stream), ffn_scale, ffn_shift)
        if isinstance(given.skeleton, Tensor):
            answers = self._per_frame(self.norm_skeleton, inner, frames)
            context = self.attn_skeleton.key_value(answers, picture)
            inner = inner + self.attn_skeleton.attend(given.skeleton, context).flatten(1, 2)
        return self._feed_forward(stream, inner, ffn_gate)

    def _per_frame(self, norm: nn.Module, tokens: Tensor, frames: int) -> Tensor:
        return norm(tokens).to(compute_dtype(self.attn1.to_q.weight)).unflatten(1, (frames, -1))


class VaceBlock(_BaseBlock):
    """A block of the VACE branch: carries the control stream on and leaves a hint for its main block.

    Only the first has `proj_in`, through which the control tokens enter.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int, eps: float, first: bool) -> None:
        super().__init__(dim, heads, ffn_dim, eps)
        self.proj_in = nn.Linear(dim, dim) if first else None
        self.proj_out = nn.Linear(dim, dim)

    def forward(
        self,
        control: Tensor,
        time: Tensor,
        rotations: Tensor,
        tokens: ConditionTokens,
        cache: BlockCache | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`control` [B, L, D] -> the control stream for the next VACE block, and the main one's hint.

        The first is given the video stream, to which it adds the control tokens.
        """
        kept = BlockConditions() if cache is None else cache.kept
        text = self.project_text(tokens.text) if kept.text is None else kept.text
        entering = kept.control
        if self.proj_in is not None and entering is None:
            entering = self.proj_in(tokens.control)
        if cache is not None:
            cache.keep(BlockConditions(text, control=entering))
        control = control if entering is None else control + entering
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulation(time)
        control = self._self_attention(control, shift, scale, gate, rotations)
        control = self._text_attention(control, text)
        control = self._feed_forward(control, _modulate(self.norm3(control), ffn_scale, ffn_shift), ffn_gate)
        return control, self.proj_out(control.to(compute_dtype(self.proj_out.weight)))
