"""Drafts of frames on the canvas: the portrait, moved from the pose that is found in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from hallo4.media.pixels import frames_to_pm1
from hallo4.motion import PortraitDraft
from hallo4.pipelines.canvas import Canvas
from hallo4.pipelines.conditions import Portrait
from hallo4.pipelines.motion_source import MotionSource
from hallo4.pipelines.portrait_rest import FindPose
from hallo4.types import Skeleton


class DraftSource:
    """Drafts of frames on the canvas, from a portrait `pixels_u8` [H, W, 3] on it and the pose [1 frame] that
    was `found` in it. It `stands_still` where none was found, or too little of one."""

    def __init__(self, pixels_u8: np.ndarray, canvas: Canvas, found: Skeleton | None) -> None:
        self._pixels_u8, self._columns = pixels_u8, canvas.content_columns
        self._draft = None
        if found is not None:
            self._draft = PortraitDraft(pixels_u8[:, self._columns], self._without_bars(found))
        self.stands_still = self._draft is None or not self._draft.moves

    def frames_pm1(self, skeleton: Skeleton) -> Tensor:
        """Drafts [T, 3, H, W] in [-1, 1] of T skeletons on the canvas."""
        frames = self.still_pm1(len(skeleton))
        if self._draft is None:
            return frames
        frames = frames.clone()
        frames[..., self._columns] = frames_to_pm1(self._draft.frames_u8(self._without_bars(skeleton)))
        return frames

    def still_pm1(self, frames: int) -> Tensor:
        """The portrait, so often."""
        return frames_to_pm1(self._pixels_u8)[None].expand(frames, -1, -1, -1)

    def _without_bars(self, skeleton: Skeleton) -> Skeleton:
        left = self._columns.start or 0
        return replace(skeleton, points_px=skeleton.points_px - np.float32([left, 0]))


def portrait_drafts(
    portrait: Portrait, motion: MotionSource, rest_pose: FindPose
) -> tuple[DraftSource, Skeleton | None, list[str]]:
    """Drafts of a portrait for this motion, the pose that was found in it, if it was looked for and one was
    found, and notes of one line on how, or on why it stands still."""
    has_keypoints = motion.skeleton(np.array([0])) is not None
    found = rest_pose(portrait) if has_keypoints else None
    pose = None if found is None else found.skeleton
    drafts = DraftSource(portrait.pixels_u8, portrait.canvas, pose)
    if not drafts.stands_still:
        return drafts, pose, [f"draft: the portrait is moved from its pose, {found.how}", *found.notes]
    why = "no person was found in it" if has_keypoints else "a drawn skeleton has no keypoints"
    return drafts, pose, [f"draft: the portrait could not be moved by the skeleton beforehand, {why}"]
