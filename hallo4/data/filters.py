"""Which clips are good enough to train on, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hallo4.ranges import NotNegative, Share, check_ranges

STILL = 0.02
"""Levels by which the coarse colours of a living person change in most frames; encoders change those of a
picture that stands still in few."""


@dataclass(frozen=True)
class ClipFilters:
    """What a clip must have. `min_face_px`: width of the face on the model's frame; `min_sharpness`: of the
    face, see `clip_look.sharpness`; `min_found`: share of frames with the face; `min_speech`: share of time
    in which a person speaks; `min_sync_confidence`: of lips and sound, as SyncNet sees them (0: it is not
    asked); `min_level`: mean brightness, 0 to 255; `min_fps`: of the video; `hands`: in at
    least half of the frames, in none, or either; `people`: more than one seen is a reason, or not.

    InputError: a value out of range.
    """

    min_face_px: NotNegative = 16.0
    min_sharpness: NotNegative = 0.12
    min_found: Share = 0.95
    min_speech: Share = 0.3
    min_sync_confidence: NotNegative = 0.0
    min_level: NotNegative = 12.0
    min_fps: NotNegative = 20.0
    hands: Literal["any", "seen", "unseen"] = "any"
    people: Literal["one", "any"] = "one"

    def __post_init__(self) -> None:
        check_ranges(self)


def reasons_against(
    clip: Mapping[str, Any], info: Mapping[str, Any], filters: ClipFilters
) -> list[tuple[str, str]]:
    """(reason, what was found) of everything that a clip lacks, as `look_at_clips` found it in a video of
    which `info` was probed; [] for one that is kept."""
    against = []

    def unless(good: bool, reason: str, found: str) -> None:
        if not good:
            against.append((reason, found))

    unless(info["has_audio"], "no sound", "the video has no sound track")
    unless(
        not info["has_audio"] or clip["speech_share"] >= filters.min_speech,
        *("little speech", f"{clip['speech_share']:.0%} of the time, wanted {filters.min_speech:.0%}"),
    )
    # None: no person was seen or no speech found, which is a reason of its own.
    confidence = clip["sync_confidence"]
    unless(
        confidence is None or confidence >= filters.min_sync_confidence,
        *("lips out of sync", f"confidence {confidence or 0:.2f}, wanted {filters.min_sync_confidence:g}"),
    )
    unless(
        info["fps"] >= filters.min_fps,
        *("few frames a second", f"{info['fps']:.3g}, wanted {filters.min_fps:g}"),
    )
    unless(
        clip["level"] >= filters.min_level, "dark", f"level {clip['level']:.0f}, wanted {filters.min_level:g}"
    )
    unless(clip["change"] >= STILL, "still picture", "most frames are like the one before")
    unless(
        clip["found_share"] >= filters.min_found and clip["found_share"] > 0,
        *("face not seen", f"seen in {clip['found_share']:.0%} of frames, wanted {filters.min_found:.0%}"),
    )
    if clip["found_share"] > 0:
        unless(
            clip["face_px"] >= filters.min_face_px,
            *("small face", f"{clip['face_px']:.0f} px of the model's frame, wanted {filters.min_face_px:g}"),
        )
        unless(
            clip["sharpness"] >= filters.min_sharpness,
            *("blurred face", f"sharpness {clip['sharpness']:.2f}, wanted {filters.min_sharpness:g}"),
        )
    unless(not clip["cut"], "cut", "the person was chosen again in the clip")
    unless(
        filters.people == "any" or (clip["people"] or 0) <= 1,
        *("several people", f"{clip['people']} are seen"),
    )
    unless(
        filters.hands != "seen" or clip["hands_share"] >= 0.5,
        *("hands not in view", f"in {clip['hands_share']:.0%} of frames"),
    )
    unless(
        filters.hands != "unseen" or clip["hands_share"] == 0,
        *("hands in view", f"in {clip['hands_share']:.0%} of frames"),
    )
    return against
