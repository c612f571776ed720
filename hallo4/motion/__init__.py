"""Skeleton sequences: reading, drawing, timing, fitting to a portrait, and idle motion out of one pose."""

from hallo4.motion.draft import PortraitDraft
from hallo4.motion.draw import draw_skeleton
from hallo4.motion.drawn_video import DrawnLook, looks_like_skeleton_video
from hallo4.motion.files import load_skeleton, save_skeleton
from hallo4.motion.gaps import bridge_gaps
from hallo4.motion.hints import MotionHints, parse_size
from hallo4.motion.idle import idle_motion
from hallo4.motion.person import PersonChoice
from hallo4.motion.rest_pose import default_rest_pose
from hallo4.motion.retarget import retarget
from hallo4.motion.timing import resample, resampled_frames, resampling_note

__all__ = [
    "DrawnLook",
    "MotionHints",
    "PersonChoice",
    "PortraitDraft",
    "bridge_gaps",
    "default_rest_pose",
    "draw_skeleton",
    "idle_motion",
    "load_skeleton",
    "looks_like_skeleton_video",
    "parse_size",
    "resample",
    "resampled_frames",
    "resampling_note",
    "retarget",
    "save_skeleton",
]
