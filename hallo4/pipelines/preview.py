"""What a video will be made from, before any of it is made: the portrait under its first skeleton."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hallo4.pipelines.conditions import prepare_audio, prepare_portrait
from hallo4.pipelines.expected import JobSize
from hallo4.pipelines.job import AnimationRequest
from hallo4.pipelines.model_outline import ModelOutline
from hallo4.pipelines.plan import frame_count
from hallo4.pipelines.portrait_drafts import portrait_drafts
from hallo4.pipelines.portrait_rest import FindPose, asked_once, portrait_rest
from hallo4.pipelines.prepare_motion import prepare_motion
from hallo4.pipelines.progress import Reporter

LEAST_SIDE_PX = 512
"""Smaller canvases are enlarged by a whole number."""


@dataclass(frozen=True)
class Preview:
    """`picture_u8` [H, W, 3]: the portrait on the canvas of a model, with the skeleton of the first frame
    over it; the `size` of the job that would follow; `height_px` and `width_px` of the video; `notes` on what
    was done to portrait, sound and motion."""

    picture_u8: np.ndarray
    size: JobSize
    height_px: int
    width_px: int
    notes: tuple[str, ...]


def preview(
    outline: ModelOutline, request: AnimationRequest, reporter: Reporter, rest_pose: FindPose = portrait_rest
) -> Preview:
    """What would be made of a request.

    No weights of the model are read. InputError: one of them cannot be used.
    """
    info, rules = outline.info, outline.backbone.windows
    portrait, notes = prepare_portrait(
        request.image, info.size_px, rules.side_multiple_px, info.canvas_sizes_px
    )
    rest_pose = asked_once(rest_pose)
    sound, of_sound = prepare_audio(request.sound)
    frames = frame_count(len(sound), sound.sample_rate_hz)
    motion, of_motion = prepare_motion(
        *(request.motion, portrait, frames, request.seed, rest_pose, request.fit_motion),
        hints=request.motion_hints,
        on_frames=reporter.frames_of("pose"),
    )
    of_drafts = portrait_drafts(portrait, motion, rest_pose)[-1] if rules.drafts else []
    drawn = motion.frames_u8(np.array([0]))[0]
    factor = math.ceil(LEAST_SIDE_PX / min(portrait.canvas.width_px, portrait.canvas.height_px))
    picture, lines = (
        Image.fromarray(pixels).resize(
            (pixels.shape[1] * factor, pixels.shape[0] * factor), Image.Resampling.BICUBIC
        )
        for pixels in (portrait.pixels_u8, drawn)
    )
    # Drawn lines are opaque, and black between them lets the picture through.
    opaque = np.asarray(lines).max(axis=-1, keepdims=True) / 255
    blended = np.asarray(picture) * (1 - 0.85 * opaque) + 0.85 * np.asarray(lines)
    canvas = portrait.canvas
    size = JobSize(
        *(frames, canvas.height_px, canvas.width_px),
        info.steps if request.steps is None else request.steps,
        info.guidance_scale if request.guidance_scale is None else request.guidance_scale,
    )
    notes = (*notes, *of_sound, *of_motion, *of_drafts)
    picture_u8 = blended.clip(0, 255).round().astype(np.uint8)
    return Preview(picture_u8, size, canvas.height_px, canvas.content_width_px, notes)
