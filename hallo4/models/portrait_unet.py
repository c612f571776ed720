"""The portrait UNet: SD1.5 with a reference network, sound, skeleton and motion modules, a
`hallo4.types.Backbone`.

::

    portrait, known frames [B, C, 1+M, h, w] --reference_net, timestep 0--> normed tokens of 16 layers --.
    face embedding --face_proj--> face tokens ---------------------------------------------------------|
    sound at audio rate --audio_proj, redistribute--> audio tokens of each frame ----------------------|
    skeleton at its rate --redistribute, guider--.                                                     |
    where the face is --face_locator-------------+--> guide, added behind conv_in ---------------------|
                                                                                                       v
    noise [B, C, T, h, w] --------------------------------------------------------------> denoiser --> v

The UNet does not compress time, so a latent frame is a video frame and temporal motion modulation works with
rho = condition rate / frame rate: 1 at 25 Hz (nothing changes), 2 for sound at 50 Hz or skeletons at 50 fps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import is_accelerate_available
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.models.dit_block import compute_dtype
from hallo4.models.portrait_guides import FaceLocator, FaceProjector, SkeletonGuider, pyramid_sizes
from hallo4.models.projection import AudioProjector
from hallo4.models.unet_attention import ReferenceRouting, TokenConv
from hallo4.models.unet_cache import EmbeddedWindow, LayerInputs, UNetCache
from hallo4.models.unet_conditions import (
    check_cells,
    check_conditions,
    check_unet_config,
    heads_of_levels,
)
from hallo4.models.unet_trunk import TrunkInputs, TrunkSizes, UNetTrunk
from hallo4.models.unet_windows import UNetWindows
from hallo4.types import FPS, ConditionSpec, MotionConditions, Presence, StepSchedule

KEPT_IN_FP32 = ["pos_embed"]
"""Modules that stay in fp32 when the rest is loaded as bf16: the tables of positions."""


class PortraitUNet(ModelMixin, ConfigMixin):
    """v (alpha noise - sigma data) of portrait video latents, of which there is one for every video frame.

    The default sizes are those of Hallo 1 and 2 (2.42 B parameters; `load_released_unet` reads them);
    small configs of the same class are trained by this package. Beside sizes the config says:

    * `num_attention_heads`: one number for all levels, or one for each.
    * `fps`, `audio_rate_hz`, `skeleton_fps`: rates of the video and of its conditions; a condition's rate is
      rho times the video's, rho a whole number, and `redistribute` gives each frame its rho steps.
    * `audio_axis`, `audio_expansion`, `skeleton_expansion`: see `redistribute`; expansion None keeps all.
    * `region_scales`: weights of the (full, face, lip) readings of sound.
    * `skeleton`, `face`: "required", "optional" or (skeleton) "none"; a face that is not given has tokens of
      its own.
    * `motion_frames`: known frames before the window; together with it they fill at most `motion_positions`.
    * `motion_dropped`: share of the known frames' pixels that are blanked where frames are encoded for it
      (`encode_known`; Hallo 2: 0.25, outside the face), see `drop_patches`.
    * `beta_schedule`: of its noise levels, see `StepSchedule`; "linear" for released weights.
    * `branch_init_std`: spread of new weights in the layers that add to a pretrained SD1.5 (audio, motion,
      locator, skeleton). 0 leaves it unchanged at the first step; from scratch about 0.02 is better. Hallo 1
      (`attention.py:691-701`) makes only `zero_conv_*` zero, so there a new audio module disturbs the base.

    Two switches follow what Hallo 1's inference in fact computes (parity), or what it was meant to:

    * `reference_order` "interleaved" (released): with B clips in a batch, flat picture i of the reference
      pass has the face tokens of clip i mod B (`mutual_self_attention.py:341-349`), and flat frame i of
      the window sees the reference of clip i mod B (235-263), whoever they belong to. So the result depends
      on the batch, and under guidance every other frame sees the reference with the face left out. The two
      sides must be prepared as one batch, the unconditional first. "aligned": each clip has its own.
    * `motion_in_plain` False (released; inference runs in training mode with gradient checkpointing,
      `unet_3d_blocks.py:905-927, 1376-1395`): the motion modules of `down_blocks.3` and `up_blocks.0` are
      held but never run. True: they run, over the window's frames alone.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["UNetBlock", "DownBlock", "MiddleBlock", "UpBlock"]
    # diffusers refuses to load a class with such modules where accelerate, an extra of ours, is not installed
    _keep_in_fp32_modules: ClassVar = KEPT_IN_FP32 if is_accelerate_available() else None

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        num_attention_heads: int | Sequence[int] = 8,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 768,
        audio_attention_dim: int = 768,
        fps: float = FPS,
        face: Literal["required", "optional"] = "required",
        face_embedding_dim: int = 512,
        face_tokens: int = 4,
        audio_rate_hz: float = FPS,
        audio_window: int = 5,
        audio_blocks: int = 12,
        audio_channels: int = 768,
        audio_hidden_dim: int = 512,
        audio_tokens: int = 32,
        audio_axis: Literal["token", "channel"] = "token",
        audio_expansion: int | None = None,
        region_scales: Sequence[float] = (1.0, 1.0, 1.0),
        skeleton: Presence = "none",
        skeleton_fps: float = FPS,
        skeleton_hidden_dim: int = 128,
        skeleton_expansion: int | None = None,
        motion_frames: int = 2,
        motion_positions: int = 32,
        motion_in_plain: bool = True,
        motion_dropped: float = 0.0,
        beta_schedule: Literal["linear", "scaled_linear"] = "scaled_linear",
        reference_order: Literal["interleaved", "aligned"] = "aligned",
        branch_init_std: float = 0.0,
    ) -> None:
        super().__init__()
        check_unet_config(self.config)
        width = block_out_channels[0]
        sizes = TrunkSizes(
            in_channels=in_channels,
            channels=tuple(block_out_channels),
            layers=layers_per_block,
            heads=heads_of_levels(self.config),
            groups=norm_num_groups,
            face_dim=cross_attention_dim,
            audio_dim=audio_attention_dim,
            positions=motion_positions,
            motion_frames=motion_frames,
            motion_in_plain=motion_in_plain,
        )
        self.denoiser = UNetTrunk(sizes)
        self.reference_net = UNetTrunk(replace(sizes, audio_dim=None, positions=None, head=False))
        self.face_locator = FaceLocator(width)
        self.face_proj = FaceProjector(face_embedding_dim, face_tokens, cross_attention_dim)
        self.audio_proj = AudioProjector(
            *(
                audio_window,
                audio_blocks,
                audio_channels,
                audio_hidden_dim,
                audio_tokens,
                audio_attention_dim,
            ),
            *(self.windows.audio_rho, audio_axis, audio_expansion, False),
        )
        if skeleton != "none":
            self.skeleton_guider = SkeletonGuider(
                in_channels, skeleton_hidden_dim, width, self.windows.skeleton_rho, skeleton_expansion
            )
        self.initialize_branches()

    # ------------------------------------------------------------------ Backbone

    @property
    def condition_spec(self) -> ConditionSpec:
        """What it is conditioned on."""
        config = self.config
        return ConditionSpec(
            latent_channels=config.in_channels,
            audio="required",
            audio_blocks=config.audio_blocks,
            audio_channels=config.audio_channels,
            skeleton=config.skeleton,
        )

    @property
    def windows(self) -> UNetWindows:
        """How it makes long videos."""
        return UNetWindows(self.config)

    @property
    def schedule(self) -> StepSchedule:
        """Its noise levels."""
        return StepSchedule(self.config.beta_schedule)

    @property
    def sides_share_a_batch(self) -> bool:
        """Whether frames see the references of other clips of their batch."""
        return self.config.reference_order == "interleaved"

    def idle_parameters(self, text: bool = True) -> list[str]:
        """Names of parameters that no loss reaches: clips do not say where the face may be, nothing reads
        what the reference network makes of its last tokens, and some motion modules never run."""
        last = list(self.reference_net.up_blocks[-1].attentions)[-1]
        read = {"norm", "proj_in", "transformer_blocks.0.norm1"}
        unread = {
            id(parameter)
            for name, parameter in last.named_parameters()
            if not any(name.startswith(f"{part}.") for part in read)
        }
        for level in self.modules():
            if not getattr(level, "run_motion", True) and hasattr(level, "motion_modules"):
                unread |= {id(parameter) for parameter in level.motion_modules.parameters()}
        return [
            name
            for name, parameter in self.named_parameters()
            if name.startswith("face_locator.") or id(parameter) in unread
        ]

    def sample_shape(self, frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int, int]:
        """(C, T, h, w) of the noise for T = `frames`; ShapeError for too many, or an odd number of cells."""
        self.windows.check_length(frames)
        check_cells(self.config, latent_height, latent_width)
        return (self.config.in_channels, frames, latent_height, latent_width)

    def pin(self, latents: Tensor, conditions: MotionConditions) -> Tensor:
        """`latents` [B, C, T, h, w] as they are: the sample holds nothing that is known."""
        return latents

    def to_sample_layout(self, video_latents: Tensor, conditions: MotionConditions) -> Tensor:
        """[B, C, T, h, w], as it is."""
        return video_latents

    def video_latents(self, latents: Tensor) -> Tensor:
        """[B, C, T, h, w], all of which is video."""
        return latents

    def new_cache(self, budget_bytes: int | None = None) -> UNetCache:
        """See `Backbone`; what is kept beside the embedded window are keys and values of all layers."""
        return UNetCache(budget_bytes)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditions: MotionConditions,
        cache: UNetCache | None = None,
    ) -> Tensor:
        """v of `latents` [B, C, T, h, w], same shape and type.

        `timestep` [B]: discrete steps 0..999 of training. `cache` of `new_cache`: filled at the first step,
        then used for the same `conditions`; the same output, less work. Raises ShapeError for anything that
        does not fit the model or each other.
        """
        batch, _, frames, height, width = latents.shape
        self.windows.check_length(frames)
        check_cells(self.config, height, width)
        window = self.embedded(conditions, cache)
        self._check_window(latents, window)
        masks = None
        if window.masks is not None:
            sizes = pyramid_sizes(height, width, len(self.config.block_out_channels))
            masks = window.masks.split(sizes, dim=-1)
        scales, routing = tuple(self.config.region_scales), self._routing(window.portrait_given, frames)
        given = TrunkInputs(frames, window.layers, masks, scales, routing)
        guide = window.guide.expand(-1, -1, frames, -1, -1).transpose(1, 2).flatten(0, 1)
        pictures = latents.to(guide.dtype).transpose(1, 2).flatten(0, 1)
        predicted = self.denoiser(pictures, timestep.expand(batch), given, guide)
        return predicted.unflatten(0, (batch, frames)).transpose(1, 2).to(latents.dtype)

    # ------------------------------------------------------------------ parts

    def embedded(self, conditions: MotionConditions, cache: UNetCache | None) -> EmbeddedWindow:
        """The conditions embedded: from the cache, or computed, and kept where there is a cache."""
        if cache is not None and cache.window is not None:
            return cache.window
        check_conditions(self.config, self.windows, conditions)
        dtype = self.denoiser.conv_in.weight.dtype
        batch = conditions.reference_latents.shape[0]
        given = conditions.portrait_given
        embedding = conditions.face_embedding
        if embedding is None:
            embedding = conditions.reference_latents.new_zeros(batch, self.config.face_embedding_dim)
        face = self.face_proj(_where_given(embedding, given).to(dtype))
        audio = self.audio_proj(conditions.audio_windows.to(dtype))
        audio = _where_given(audio.to(dtype), conditions.audio_given)
        all_given = face.new_ones(batch, dtype=torch.bool)
        masks = conditions.region_masks
        window = EmbeddedWindow(
            frames=audio.shape[1],
            guide=self._guide(conditions, dtype),
            portrait_given=all_given if given is None else given.to(face.device),
            masks=None if masks is None else masks.to(dtype),
            layers=self._layer_inputs(conditions, face, audio),
        )
        if cache is not None:
            value_bytes = compute_dtype(self.denoiser.conv_in.weight).itemsize
            cache.fill(window, value_bytes * self.denoiser.key_value_count(window.layers))
        return window

    def _layer_inputs(self, conditions: MotionConditions, face: Tensor, audio: Tensor) -> list[LayerInputs]:
        """Inputs of every attention layer, from one pass of the reference network over portrait and known
        frames, at timestep 0."""
        pictures = [conditions.reference_latents, conditions.motion_latents]
        latents = torch.cat([part for part in pictures if part is not None], dim=2).to(face.dtype)
        batch, count = latents.shape[0], latents.shape[2]
        if self.config.reference_order == "interleaved":
            faces = face.repeat(count, 1, 1)
        else:
            faces = face.repeat_interleave(count, dim=0)
        collected: list[Tensor] = []
        layers = [LayerInputs(faces)] * self.reference_net.sizes.attention_layers
        inputs = TrunkInputs(1, layers, reference_tokens=collected)
        self.reference_net(latents.transpose(1, 2).flatten(0, 1), latents.new_zeros(batch * count), inputs)
        found = []
        for tokens in collected:
            by_picture = tokens.squeeze(1).unflatten(0, (batch, count))
            motion = by_picture[:, 1:] if count > 1 else None
            found.append(LayerInputs(face, audio, by_picture[:, 0], motion))
        return found

    def _routing(self, given: Tensor, frames: int) -> ReferenceRouting:
        """Which frames see which reference."""
        batch, source, rows = len(given), None, None
        if self.config.reference_order == "interleaved" and batch > 1:
            source = (torch.arange(batch * frames, device=given.device) % batch).view(batch, frames)
        if not given.all():
            rows = (given.nonzero()[:, 0], (~given).nonzero()[:, 0])
        return ReferenceRouting(rows, source)

    def _guide(self, conditions: MotionConditions, dtype: torch.dtype) -> Tensor:
        batch, _, _, height, width = conditions.reference_latents.shape
        channels = self.config.block_out_channels[0]
        guide = conditions.reference_latents.new_zeros(batch, channels, 1, height, width, dtype=dtype)
        if conditions.locator_01 is not None:
            located = self.face_locator(conditions.locator_01.to(dtype))
            guide = guide + _where_given(located, conditions.locator_given)
        if self.config.skeleton != "none" and conditions.skeleton_latents is not None:
            guide = guide + self.skeleton_guider(conditions.skeleton_latents.to(dtype))
        return guide

    @torch.no_grad()
    def initialize_branches(self) -> None:
        """Draw new weights for the layers that add conditions to the stream: `branch_init_std`."""
        branches: list[nn.Module] = [self.face_locator.conv_out]
        if self.config.skeleton != "none":
            branches.append(self.skeleton_guider.conv_out)
        for name, module in self.denoiser.named_modules():
            leaf = name.rpartition(".")[2]
            added = (".audio_modules." in name or ".motion_modules." in name) and leaf == "proj_out"
            if added or (isinstance(module, TokenConv) and leaf.startswith("zero_conv_")):
                branches.append(module)
        for module in branches:
            nn.init.normal_(module.weight, std=self.config.branch_init_std)
            nn.init.zeros_(module.bias)

    def _check_window(self, latents: Tensor, window: EmbeddedWindow) -> None:
        batch, _, frames, height, width = latents.shape
        found = (len(window.portrait_given), window.frames, *window.guide.shape[-2:])
        if found != (batch, frames, height, width):
            raise ShapeError(
                f"latents of {batch} clips, {frames} frames and {height}x{width} cells meet conditions of "
                f"{found[0]} clips, {found[1]} frames and {found[2]}x{found[3]} cells: use the same window "
                f"for both, with sound at {self.config.audio_rate_hz:g} Hz and skeletons at "
                f"{self.config.skeleton_fps:g} fps"
            )


def _where_given(values: Tensor, given: Tensor | None) -> Tensor:
    """`values` [B, ...], zero where `given` [B] is False."""
    if given is None:
        return values
    return torch.where(given.to(values.device).reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)
