"""The portrait DiT: Wan2.1-VACE's transformer with audio and skeleton attention, a
`hallo4.types.Backbone`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import PixArtAlphaTextProjection, TimestepEmbedding, Timesteps
from diffusers.models.normalization import FP32LayerNorm
from diffusers.utils import is_accelerate_available
from torch import Tensor, nn

from hallo4.errors import CheckpointError, ShapeError
from hallo4.models.dit_block import DiTBlock, VaceBlock, picture_rotations, video_rotations
from hallo4.models.projection import AudioProjector, SkeletonProjector
from hallo4.models.temporal_motion_modulation import latent_frame_count
from hallo4.models.vace_context import MaskRule
from hallo4.models.window_conditions import DiTWindows
from hallo4.types import MotionConditions

Presence = Literal["required", "optional", "none"]
KEPT_IN_FP32 = [
    *("norm", "norm1", "norm2", "norm3", "norm_q", "norm_k", "norm_audio", "norm_skeleton"),
    *("time_embedder", "time_proj", "scale_shift_table"),
]
"""Modules and tensors that stay in fp32 when the rest is loaded as bf16: norms and modulation."""


class ConditionEmbedder(nn.Module):
    """Timestep and text to model width; parameter names as in diffusers' Wan models."""

    def __init__(self, dim: int, freq_dim: int, text_dim: int) -> None:
        super().__init__()
        self.timesteps_proj = Timesteps(freq_dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedder = TimestepEmbedding(freq_dim, dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = PixArtAlphaTextProjection(text_dim, dim, act_fn="gelu_tanh")

    def time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """`timestep` [B] in [0, 1000] -> embedding [B, D] and the blocks' modulation [B, 6, D], in fp32."""
        with torch.autocast(timestep.device.type, enabled=False):
            waves = self.timesteps_proj(timestep.float()).to(self.time_proj.weight.dtype)
            embedding = self.time_embedder(waves)
            return embedding.float(), self.time_proj(F.silu(embedding)).float().unflatten(1, (6, -1))


class PortraitDiT(ModelMixin, ConfigMixin):
    """Velocity of portrait video latents, given a portrait, speech, a skeleton, control latents and text.

    The defaults are the released Hallo4 model (2.77 B parameters; `load_released_dit` reads its weights);
    small configs of the same class are trained by this package. The sample is [B, C, F+1, h, w]: slot 0
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
    * `mask_rule`: how the VACE context tells known frames from others; "nearest" for released weights, see
      `vace_context`.
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
    ) -> None:
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        self._check_config()
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
        self.proj_out = nn.Linear(dim, in_channels * patch_size[1] * patch_size[2])
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.gradient_checkpointing = False
        self.initialize()

    # ------------------------------------------------------------------ Backbone

    schedule = None
    """A flow model: its noise levels are continuous."""
    sides_meet = False

    @property
    def windows(self) -> DiTWindows:
        """How it makes long videos."""
        return DiTWindows(self.config)

    def sample_shape(self, frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int, int]:
        """(C, F+1, h, w) of the noise for `frames` = rho*k + 1 video frames; ShapeError if not possible."""
        self._check_grid(latent_height, latent_width)
        slots = latent_frame_count(frames, self.config.rho) + 1
        return (self.config.in_channels, slots, latent_height, latent_width)

    def pin(self, latents: Tensor, conditions: MotionConditions) -> Tensor:
        """`latents` [B, C, F+1, h, w] with the clean reference in slot 0 (a new tensor)."""
        reference = conditions.reference_latents.to(latents)
        return torch.cat([reference.expand(latents.shape[0], -1, -1, -1, -1), latents[:, :, 1:]], dim=2)

    def sample(self, video_latents: Tensor, conditions: MotionConditions) -> Tensor:
        """[B, C, F, h, w] -> [B, C, F+1, h, w]: behind the clean reference."""
        return torch.cat([conditions.reference_latents.to(video_latents), video_latents], dim=2)

    def video_latents(self, latents: Tensor) -> Tensor:
        """[B, C, F+1, h, w] -> [B, C, F, h, w]: without the reference slot."""
        return latents[:, :, 1:]

    def prepare(self, conditions: MotionConditions, cache_kv: bool = False) -> dict[str, Tensor]:
        """Everything that does not change over the denoising steps, each tensor with the batch as axis 0.

        `text` [B, L, D], `control` [B, (F+1)*N, D], `audio` [B, F+1, n, D] and `skeleton` [B, F+1, N, D];
        slot 0 of the last two is zero. With `cache_kv` these give way to the keys, values and queries that
        every block makes of them (`blocks.audio_key` [B, layers, F+1, n, heads, head_dim], ...): same
        output, less work per step, more memory. Differentiable. Raises ShapeError for anything that does
        not fit the model or each other.
        """
        self._check_conditions(conditions)
        dtype = self.patch_embedding.weight.dtype
        control = self._patches(self.vace_patch_embedding, conditions.control_latents)
        features = {
            "text": self.condition_embedder.text_embedder(self._padded(conditions.text).to(dtype)),
            "control": self.vace_blocks[0].proj_in(control),
        }
        if self.config.audio != "none" and conditions.audio_windows is not None:
            features["audio"] = _reference_slot(self.audio_proj(conditions.audio_windows.to(dtype)))
        if self.config.skeleton != "none" and conditions.skeleton_latents is not None:
            features["skeleton"] = _reference_slot(self.skeleton_proj(conditions.skeleton_latents.to(dtype)))
        if not cache_kv:
            return features
        picture = self._picture_rotations(*conditions.control_latents.shape[-2:])
        kept = {"control": features["control"]}
        kept |= _over_layers("blocks", [block.project(features, picture) for block in self.blocks])
        of_text = [block.project_text(features["text"]) for block in self.vace_blocks]
        kept |= _over_layers("vace_blocks", of_text)
        return kept

    def forward(self, latents: Tensor, timestep: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Velocity (noise - data) of `latents` [B, C, F+1, h, w], same shape and type.

        `timestep` [B] in [0, 1000] (= 1000 sigma); `features` of `prepare`, for the same batch and grid.
        """
        batch, _, slots, height, width = latents.shape
        self._check_grid(height, width)
        grid = (slots, height // self._patch, width // self._patch)
        tokens = (batch, math.prod(grid))
        if features["control"].shape[:2] != tokens:
            raise ShapeError(
                f"latents of shape {tuple(latents.shape)} make (batch, tokens) {tokens}, but the conditions "
                f"were prepared for {tuple(features['control'].shape[:2])}: use the same window for both"
            )
        rotations = video_rotations(grid, self.config.attention_head_dim, latents.device)
        picture = self._picture_rotations(height, width)
        embedding, time = self.condition_embedder.time(timestep.expand(batch))
        stream = self._patches(self.patch_embedding, latents).float()
        control = stream + features["control"]
        vace_index = {layer: index for index, layer in enumerate(self.config.vace_layers)}
        for layer, block in enumerate(self.blocks):
            hint = None
            if layer in vace_index:  # its hint lives only until this layer is done
                index = vace_index[layer]
                kept = _of_layer(features, "vace_blocks", index)
                control, hint = self._run(self.vace_blocks[index], control, time, rotations, kept)
            kept = _of_layer(features, "blocks", layer)
            stream = self._run(block, stream, time, rotations, kept, picture, slots)
            stream = stream if hint is None else stream + hint
        return self._unpatch(self._head(stream, embedding), slots, height, width).to(latents.dtype)

    # ------------------------------------------------------------------ parts

    @property
    def _patch(self) -> int:
        return self.config.patch_size[1]

    def _run(self, block: nn.Module, *inputs: object) -> object:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)

    def _patches(self, embedding: nn.Conv3d, latents: Tensor) -> Tensor:
        return embedding(latents.to(embedding.weight.dtype)).flatten(2).transpose(1, 2).contiguous()

    def _padded(self, text: Tensor) -> Tensor:
        length = self.config.text_len
        return text if length is None else F.pad(text, (0, 0, 0, length - text.shape[1]))

    def _picture_rotations(self, height: int, width: int) -> Tensor | None:
        if not self.config.skeleton_rope:
            return None
        grid = (height // self._patch, width // self._patch)
        return picture_rotations(grid, self.config.attention_head_dim, self.scale_shift_table.device)

    def _head(self, stream: Tensor, embedding: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table.float() + embedding.unsqueeze(1)).chunk(2, dim=1)
        with torch.autocast(stream.device.type, enabled=False):  # the velocity keeps its precision
            tokens = torch.addcmul(shift, self.norm_out(stream), 1 + scale)
            return self.proj_out(tokens.to(self.proj_out.weight.dtype))

    def _unpatch(self, tokens: Tensor, slots: int, height: int, width: int) -> Tensor:
        patch = self._patch
        cells = tokens.unflatten(2, (patch, patch, -1)).unflatten(1, (slots, height // patch, width // patch))
        return cells.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)  # B C F+1 h w

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
        nn.init.zeros_(self.proj_out.weight)
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

    # ------------------------------------------------------------------ checks

    def _check_config(self) -> None:
        config = self.config
        layers = list(config.vace_layers)
        if layers[:1] != [0] or layers != sorted(set(layers)) or layers[-1] >= config.num_layers:
            raise CheckpointError(
                f"vace_layers {layers} do not fit {config.num_layers} blocks: "
                f"start with 0, go up and stay below {config.num_layers}"
            )
        allowed = {
            "audio": ("required", "optional", "none"),
            "skeleton": ("required", "optional", "none"),
            "audio_axis": ("token", "channel"),
            "skeleton_attention": ("skeleton_queries", "video_queries"),
            "mask_rule": get_args(MaskRule),
        }
        for name, values in allowed.items():
            if config[name] not in values:
                raise CheckpointError(
                    f"{name} is {config[name]!r} in the DiT config: use one of {', '.join(values)}"
                )
        patch = tuple(config.patch_size)
        if patch[0] != 1 or patch[1] != patch[2]:
            raise CheckpointError(f"patch_size {patch} is not supported: use (1, p, p)")

    def _check_grid(self, height: int, width: int) -> None:
        if height % self._patch or width % self._patch:
            raise ShapeError(
                f"latents of {height}x{width} cells cannot be cut into {self._patch}x{self._patch} patches: "
                f"choose a picture whose sides are multiples of {8 * self._patch} pixels"
            )

    def _check_conditions(self, conditions: MotionConditions) -> None:
        """ShapeError unless all conditions belong to one window, and to this model."""
        config = self.config
        if conditions.control_latents is None or conditions.text is None:
            raise ShapeError("this model needs control_latents and text: make both (`DiTWindows`)")
        batch, _, slots, height, width = conditions.control_latents.shape
        self._check_grid(height, width)
        frames = config.rho * (slots - 2) + 1
        length = conditions.text.shape[1]
        if config.text_len is not None and length > config.text_len:
            raise ShapeError(f"text has {length} tokens, the model takes {config.text_len}: shorten it")
        wanted = {
            "control_latents": (batch, config.vace_in_channels, slots, height, width),
            "reference_latents": (batch, config.in_channels, 1, height, width),
            "text": (batch, length, config.text_dim),
        }
        if self._uses("audio", conditions.audio_windows):
            feature_shape = (config.audio_window, config.audio_blocks, config.audio_channels)
            wanted["audio_windows"] = (batch, frames, *feature_shape)
        if self._uses("skeleton", conditions.skeleton_latents):
            wanted["skeleton_latents"] = (batch, config.in_channels, frames, height, width)
        for name, shape in wanted.items():
            found = tuple(getattr(conditions, name).shape)
            if found != shape:
                raise ShapeError(
                    f"{name} has shape {found}, but this model needs {shape} beside control_latents of "
                    f"{slots - 1} latent frames: make all conditions for the same {frames} video frames"
                )

    def _uses(self, stream: str, value: Tensor | None) -> bool:
        presence = self.config[stream]
        if presence == "required" and value is None:
            raise ShapeError(
                f"this model needs {stream} conditions and got none: give them, "
                f"or use a model whose config says {stream}='optional'"
            )
        return presence != "none" and value is not None


def _reference_slot(tokens: Tensor) -> Tensor:
    """[B, F, N, D] -> [B, F+1, N, D] with zeros in slot 0, where the reference stands."""
    return F.pad(tokens, (0, 0, 0, 0, 1, 0))


def _over_layers(stack: str, projected: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    names = projected[0]
    return {f"{stack}.{name}": torch.stack([layer[name] for layer in projected], dim=1) for name in names}


def _of_layer(features: Mapping[str, Tensor], stack: str, layer: int) -> Mapping[str, Tensor]:
    if "text" in features:
        return features
    start = f"{stack}."
    return {name[len(start) :]: kept[:, layer] for name, kept in features.items() if name.startswith(start)}
