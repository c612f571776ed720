"""The portrait DiT: Wan2.1-VACE's transformer with audio and skeleton attention, a
`hallo4.types.Backbone`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import PixArtAlphaTextProjection, TimestepEmbedding
from diffusers.models.normalization import FP32LayerNorm
from diffusers.utils import is_accelerate_available
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.models.dit_block import (
    DiTBlock,
    VaceBlock,
    compute_dtype,
    picture_rotations,
    video_rotations,
)
from hallo4.models.dit_cache import ConditionTokens, DiTCache, Stream, stream_bytes
from hallo4.models.dit_conditions import check_dit_conditions, check_dit_config, check_grid
from hallo4.models.dit_detail import DetailHead, to_cells
from hallo4.models.precision import autocast_off
from hallo4.models.projection import AudioProjector, SkeletonProjector
from hallo4.models.temporal_motion_modulation import latent_frame_count
from hallo4.models.timestep import timestep_waves
from hallo4.models.vace_context import MaskRule
from hallo4.models.window_conditions import DiTWindows
from hallo4.types import ConditionSpec, MotionConditions, Presence

KEPT_IN_FP32 = [
    *("norm", "norm1", "norm2", "norm3", "norm_q", "norm_k", "norm_audio", "norm_skeleton"),
    *("time_embedder", "time_proj", "scale_shift_table", "guess_log_variance"),
]
"""Modules and tensors that stay in fp32 when the rest is loaded as bf16: norms and modulation. The head stays
too (`PortraitDiT.keeps_fp32`), but shares its name with a large layer of the VACE blocks."""


class ConditionEmbedder(nn.Module):
    """Timestep and text to model width; parameter names as in diffusers' Wan models."""

    def __init__(self, dim: int, freq_dim: int, text_dim: int) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.time_embedder = TimestepEmbedding(freq_dim, dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = PixArtAlphaTextProjection(text_dim, dim, act_fn="gelu_tanh")

    def time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """`timestep` [B] in [0, 1000] -> embedding [B, D] and the blocks' modulation [B, 6, D], in fp32."""
        with autocast_off(timestep.device.type):
            waves = timestep_waves(timestep, self.freq_dim).to(self.time_proj.weight.dtype)
            embedding = self.time_embedder(waves)
            return embedding.float(), self.time_proj(F.silu(embedding)).float().unflatten(1, (6, -1))


class PortraitDiT(ModelMixin, ConfigMixin):
    """Velocity of portrait video latents, given a portrait, speech, a skeleton, control latents and text.

    The default sizes are those of the released Hallo4 model (2.77 B parameters; `load_released_dit` reads its
    weights); small configs of the same class are trained by this package. `mask_rule` and `known_dropped`
    have our values by default. The sample is [B, C, F+1, h, w]: slot 0
    holds the clean reference, slots 1.. the video; both condition streams have a zero slot there.

    Beside sizes, named as in diffusers, the config says:

    * `rho`: video frames per latent frame; conditions come at frame rate, `redistribute` regroups them.
    * `text_len`: text is padded to this length with zeros, unmasked, as Wan does; None: taken as it is.
    * `vace_layers`: main blocks that get a hint from a VACE block; the first must be 0.
    * `audio`, `skeleton`: "required", "optional" (None in the conditions skips the attention) or "none".
    * `audio_axis`: "token" (released: the frames of a group become more tokens) or "channel" (they lie
      side by side in the channels, so that a small model can tell which frame a sound belongs to).
    * `audio_expansion`, `skeleton_expansion`: how many of the rho frames of a group are kept, for the
      ablation; None: all.
    * `skeleton_attention`: "skeleton_queries" (released) or "video_queries" (the paper); see DiTBlock.
    * `skeleton_rope`: turn the skeleton attention's queries and keys by their place in the picture, so
      that a video patch finds the skeleton patch it lies on; new weights then look near their own place.
    * `branch_init_std`: spread of new weights in the layers that add conditions to the stream (outputs of
      audio and skeleton attention, VACE `proj_in` and `proj_out`). 0 (released) leaves a pretrained base
      unchanged at the first step; from scratch, where nothing needs preserving, about 0.02 lets gradients
      through at once.
    * `mask_rule`: how the VACE context tells known frames from others: "nearest" (released) or "group"; see
      `vace_context`.
    * `known_dropped`: share of the known frame's 2x2 pixel patches that are blackened before it is encoded
      (released: 0.1); see `DiTWindows.encode_known`.
    * `cell_px`: pixels per cell, each way, of the latents it was made for (`AutoencoderSpec.cell_px`).
    * `detail_width`: features per cell of a `DetailHead`, which stands in place of the linear head; None
      (released): there is none.
    * `draft`: the reactive latents of the VACE context are a draft of the frames (`PortraitDraft`) in place
      of grey ones, and a `DetailHead` starts from it (released: False).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["DiTBlock", "VaceBlock"]
    _repeated_blocks: ClassVar = ["DiTBlock", "VaceBlock"]
    # diffusers refuses to load a class with such modules where accelerate, an extra of ours, is not installed
    _keep_in_fp32_modules: ClassVar = KEPT_IN_FP32 if is_accelerate_available() else None

    @register_to_config
    def __init__(
        self,
        patch_size: Sequence[int] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        text_dim: int = 4096,
        text_len: int | None = 512,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        eps: float = 1e-6,
        vace_layers: Sequence[int] = tuple(range(0, 30, 2)),
        vace_in_channels: int = 96,
        rho: int = 4,
        audio: Presence = "required",
        audio_window: int = 5,
        audio_blocks: int = 12,
        audio_channels: int = 768,
        audio_hidden_dim: int = 512,
        audio_tokens: int = 32,
        audio_axis: Literal["token", "channel"] = "token",
        audio_expansion: int | None = None,
        skeleton: Presence = "required",
        skeleton_attention: Literal["skeleton_queries", "video_queries"] = "skeleton_queries",
        skeleton_rope: bool = False,
        skeleton_expansion: int | None = None,
        branch_init_std: float = 0.0,
        mask_rule: MaskRule = "group",
        known_dropped: float = 0.0,
        cell_px: int = 8,
        detail_width: int | None = None,
        draft: bool = False,
    ) -> None:
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        check_dit_config(self.config)
        self.patch_embedding = nn.Conv3d(in_channels, dim, patch_size, patch_size)
        self.vace_patch_embedding = nn.Conv3d(vace_in_channels, dim, patch_size, patch_size)
        self.condition_embedder = ConditionEmbedder(dim, freq_dim, text_dim)
        if audio != "none":
            self.audio_proj = AudioProjector(
                *(audio_window, audio_blocks, audio_channels, audio_hidden_dim, audio_tokens, dim),
                *(rho, audio_axis, audio_expansion),
            )
        if skeleton != "none":
            self.skeleton_proj = SkeletonProjector(in_channels, dim, patch_size[1], rho, skeleton_expansion)
        sizes = (dim, num_attention_heads, ffn_dim, eps)
        attention = None if skeleton == "none" else skeleton_attention
        self.blocks = nn.ModuleList(DiTBlock(*sizes, audio != "none", attention) for _ in range(num_layers))
        self.vace_blocks = nn.ModuleList(VaceBlock(*sizes, first=layer == 0) for layer in vace_layers)
        self.norm_out = FP32LayerNorm(dim, eps, elementwise_affine=False)
        if detail_width is None:
            self.proj_out = nn.Linear(dim, in_channels * patch_size[1] * patch_size[2])
        else:
            pictures = (in_channels, patch_size[1], rho, skeleton != "none")
            self.detail_head = DetailHead(dim, detail_width, *pictures, draft)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.gradient_checkpointing = False
        self.initialize()

    @staticmethod
    def keeps_fp32(name: str) -> bool:
        """Whether the parameter `name` stays in fp32 when the rest is cast: norms, modulation, the linear
        head."""
        return name.startswith("proj_out.") or not set(KEPT_IN_FP32).isdisjoint(name.split("."))

    # ------------------------------------------------------------------ Backbone

    schedule = None
    """A flow model: its noise levels are continuous."""
    sides_share_a_batch = False

    @property
    def condition_spec(self) -> ConditionSpec:
        """What it is conditioned on."""
        config = self.config
        return ConditionSpec(
            latent_channels=config.in_channels,
            audio=config.audio,
            audio_blocks=config.audio_blocks,
            audio_channels=config.audio_channels,
            skeleton=config.skeleton,
            text_dim=config.text_dim,
            text_len=config.text_len,
        )

    @property
    def windows(self) -> DiTWindows:
        """How it makes long videos."""
        return DiTWindows(self.config)

    def sample_shape(self, frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int, int]:
        """(C, F+1, h, w) of the noise for `frames` = rho*k + 1 video frames; ShapeError if not possible."""
        check_grid(self.config, latent_height, latent_width)
        slots = latent_frame_count(frames, self.config.rho) + 1
        return (self.config.in_channels, slots, latent_height, latent_width)

    def pin(self, latents: Tensor, conditions: MotionConditions) -> Tensor:
        """`latents` [B, C, F+1, h, w] with the clean reference in slot 0 (a new tensor)."""
        reference = conditions.reference_latents.to(latents)
        return torch.cat([reference.expand(latents.shape[0], -1, -1, -1, -1), latents[:, :, 1:]], dim=2)

    def to_sample_layout(self, video_latents: Tensor, conditions: MotionConditions) -> Tensor:
        """[B, C, F, h, w] -> [B, C, F+1, h, w]: behind the clean reference."""
        return torch.cat([conditions.reference_latents.to(video_latents), video_latents], dim=2)

    def video_latents(self, latents: Tensor) -> Tensor:
        """[B, C, F+1, h, w] -> [B, C, F, h, w]: without the reference slot."""
        return latents[:, :, 1:]

    def new_cache(self, budget_bytes: int | None = None) -> DiTCache:
        """See `Backbone`; what is kept beside the tokens is text, then audio, then skeleton."""
        return DiTCache(budget_bytes)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditions: MotionConditions,
        cache: DiTCache | None = None,
    ) -> Tensor:
        """Velocity (noise - data) of `latents` [B, C, F+1, h, w], same shape and type.

        ::

            conditions --embed (or cache)--> tokens ----------------------------.
            timestep --> embedding, modulation of all blocks -------------------|
            latents --patches--> stream --.---------- + hint --- + hint ---> head --> velocity
                         + control tokens '-> VACE blocks --'-----------'

        `timestep` [B] in [0, 1000] (= 1000 sigma). `cache` of `new_cache`: filled at the first step, then
        used for the same `conditions`; the same output, less work. Raises ShapeError for anything that does
        not fit the model or each other.
        """
        batch, _, slots, height, width = latents.shape
        check_grid(self.config, height, width)
        tokens = self._tokens(conditions, cache)
        grid = (slots, height // self._patch, width // self._patch)
        if tokens.control.shape[:2] != (batch, math.prod(grid)):
            raise ShapeError(
                f"latents of shape {tuple(latents.shape)} make (batch, tokens) {(batch, math.prod(grid))}, "
                f"but the conditions were made for {tuple(tokens.control.shape[:2])}: use the same window "
                "for both"
            )
        rotations = video_rotations(grid, self.config.attention_head_dim, latents.device)
        picture = self._picture_rotations(height, width)
        embedding, time = self.condition_embedder.time(timestep.expand(batch))
        stream = self._patches(self.patch_embedding, latents).float()
        control = stream  # to which the first VACE block adds the control tokens
        vace_index = {layer: index for index, layer in enumerate(self.config.vace_layers)}
        for layer, block in enumerate(self.blocks):
            hint = None
            if layer in vace_index:  # its hint lives only until this layer is done
                index = vace_index[layer]
                kept = None if cache is None else cache.vace_block(index)
                control, hint = self._run(self.vace_blocks[index], control, time, rotations, tokens, kept)
            kept = None if cache is None else cache.block(layer)
            stream = self._run(block, stream, time, rotations, tokens, picture, slots, kept)
            stream = stream if hint is None else stream + hint
        shift, scale = (self.scale_shift_table.float() + embedding.unsqueeze(1)).chunk(2, dim=1)
        with autocast_off(stream.device.type):  # the velocity of a linear head keeps its precision
            stream = torch.addcmul(shift, self.norm_out(stream), 1 + scale)
            if self.config.detail_width is None:
                found = self._unpatch(self.proj_out(stream.to(self.proj_out.weight.dtype)), *grid)
                return found.to(latents.dtype)
        return self._detailed(stream, timestep.expand(batch) / 1000, embedding, latents, tokens)

    def idle_parameters(self, text: bool = True) -> list[str]:
        """Names of parameters that no loss reaches. Without `text` there is a single null token, and
        attention over it gives the same to every query."""
        if text or self.config.text_len is not None:
            return []
        unasked = r"(vace_)?blocks\.\d+\.(norm2|attn2\.(to_q|to_k|norm_q|norm_k))\..+"
        return [name for name, _ in self.named_parameters() if re.fullmatch(unasked, name)]

    # ------------------------------------------------------------------ parts

    @property
    def _patch(self) -> int:
        return self.config.patch_size[1]

    def _tokens(self, conditions: MotionConditions, cache: DiTCache | None) -> ConditionTokens:
        """Conditions at model width: from the cache, or embedded, and kept where there is a cache."""
        if cache is not None and cache.tokens is not None:
            return cache.tokens
        check_dit_conditions(self.config, conditions)
        dtype = self.patch_embedding.weight.dtype
        control = self._patches(self.vace_patch_embedding, conditions.control_latents)
        audio = skeleton = None
        if self.config.audio != "none" and conditions.audio_windows is not None:
            audio = _reference_slot(self.audio_proj(conditions.audio_windows.to(dtype)))
        if self.config.skeleton != "none" and conditions.skeleton_latents is not None:
            skeleton = _reference_slot(self.skeleton_proj(conditions.skeleton_latents.to(dtype)))
        text = self.condition_embedder.text_embedder(self._padded(conditions.text).to(dtype))
        detail: tuple[Tensor | None, ...] = (None, None, None)
        if self.config.detail_width is not None:
            draft = self._draft(conditions.control_latents)
            pictures = (conditions.reference_latents, conditions.skeleton_latents, draft)
            found = self.detail_head.conditions(*(None if x is None else x.to(dtype) for x in pictures))
            detail = (*found, draft)
        tokens = ConditionTokens(text, control, audio, skeleton, *detail)
        if cache is not None:
            cache.fill(tokens, self.stream_bytes(tokens), len(self.blocks), len(self.vace_blocks))
        return tokens

    def stream_bytes(self, tokens: ConditionTokens) -> dict[Stream, int]:
        """What a cache would keep of each stream; see `dit_cache.stream_bytes`."""
        asks = self.config.skeleton_attention == "skeleton_queries"
        value_bytes = compute_dtype(self.patch_embedding.weight).itemsize
        return stream_bytes(tokens, len(self.blocks), len(self.vace_blocks), value_bytes, asks)

    def _run(self, block: nn.Module, *inputs: object) -> object:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)

    def _patches(self, embedding: nn.Conv3d, latents: Tensor) -> Tensor:
        return embedding(latents.to(embedding.weight.dtype)).flatten(2).transpose(1, 2).contiguous()

    def _draft(self, control_latents: Tensor) -> Tensor | None:
        """[B, C, F, h, w]: the reactive latents of the VACE context, if they are a draft."""
        channels = self.config.in_channels
        return control_latents[:, channels : 2 * channels, 1:] if self.config.draft else None

    def _padded(self, text: Tensor) -> Tensor:
        length = self.config.text_len
        return text if length is None else F.pad(text, (0, 0, 0, length - text.shape[1]))

    def _picture_rotations(self, height: int, width: int) -> Tensor | None:
        if not self.config.skeleton_rope:
            return None
        grid = (height // self._patch, width // self._patch)
        return picture_rotations(grid, self.config.attention_head_dim, self.scale_shift_table.device)

    def _detailed(
        self, stream: Tensor, sigma: Tensor, embedding: Tensor, latents: Tensor, given: ConditionTokens
    ) -> Tensor:
        """The velocity by the detail head, which leaves the reference in slot 0 as it is."""
        dtype = compute_dtype(self.detail_head.from_tokens.weight)
        stream = stream.to(dtype).unflatten(1, (latents.shape[2], -1))[:, 1:]
        detail = (given.reference_detail, given.frame_detail, given.draft)
        velocity = self.detail_head(stream, latents, sigma, embedding.to(dtype), *detail)
        return F.pad(velocity, (0, 0, 0, 0, 1, 0)).to(latents.dtype)

    def _unpatch(self, tokens: Tensor, slots: int, height: int, width: int) -> Tensor:
        """[B, slots*height*width, p*p*C] of a grid of tokens -> [B, C, F+1, h, w]."""
        cells = to_cells(tokens.unflatten(1, (slots, -1)).flatten(0, 1), (height, width), self._patch)
        return cells.unflatten(0, (-1, slots)).transpose(1, 2)

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw new weights: Wan's scheme, with `branch_init_std` for the layers that add conditions."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        embedder = self.condition_embedder
        for linear in (
            *(embedder.time_embedder.linear_1, embedder.time_embedder.linear_2),
            *(embedder.text_embedder.linear_1, embedder.text_embedder.linear_2),
        ):
            nn.init.normal_(linear.weight, std=0.02)
        if self.config.detail_width is None:
            nn.init.zeros_(self.proj_out.weight)
        else:
            self.detail_head.initialize()
        branches = [self.vace_blocks[0].proj_in, *(block.proj_out for block in self.vace_blocks)]
        for block in self.blocks:
            if self.config.audio != "none":
                branches.append(block.attn_audio.to_out[0])
            if self.config.skeleton != "none":
                branches.append(block.attn_skeleton.to_out[0])
        for linear in branches:
            nn.init.normal_(linear.weight, std=self.config.branch_init_std)
        if self.config.skeleton != "none" and self.config.skeleton_rope:
            for block in self.blocks:
                block.attn_skeleton.look_near()


def _reference_slot(tokens: Tensor) -> Tensor:
    """[B, F, N, D] -> [B, F+1, N, D] with zeros in slot 0, where the reference stands."""
    return F.pad(tokens, (0, 0, 0, 0, 1, 0))
