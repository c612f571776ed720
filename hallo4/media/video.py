"""Video -> frames at a constant rate: what is shown at each tick, whatever the file's own timing."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from hallo4.errors import InputError
from hallo4.media.files import declared_end, open_media, shown, start_of
from hallo4.media.image import MAX_PIXELS

# With these swscale's RGB <-> YUV is free of bias; its defaults darken each round trip by a grey level.
SWSCALE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_STEADY_S = 0.002  # spread of frame intervals that rounding to milliseconds explains
_MISSING_S = Fraction(1, 10)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds: `width_px` x `height_px` as shown (upright), `frames` pictures over
    `duration_s`.

    `fps` is the average rate; `variable_frame_rate` is None where the file has no time stamps to tell.
    """

    width_px: int
    height_px: int
    fps: float
    frames: int
    duration_s: float
    has_audio: bool
    codec: str
    variable_frame_rate: bool | None


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Measure a video from its packets: exact counts, one frame decoded.

    Raises:
        InputError: missing, folder, empty, not a video, without frames, cut short, or above 64 megapixels.
    """
    return _probe(path)[0]


def read_frames(
    path: str | os.PathLike[str],
    fps: float | None = 25.0,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] uint8 RGB, upright, at exactly `fps`: tick k is what is on screen at `start_s` + k /
    fps. `fps` None: every picture of the file once, in the order of showing, whatever their times are.

    So the ticks in [start_s, end_s) set the number of frames (24 -> 25 fps keeps the duration, frames
    repeat), a variable frame rate works, and only one decoded frame is held. Time zero is the beginning of
    the file, as in `load_audio`; before the first picture the first is shown. Colours follow the file's
    tags; untagged YUV counts as BT.709 from 720 lines and BT.601 below, as in players. Files are checked at
    the call, not at the first frame.

    Raises:
        InputError: as `probe_video`; `start_s` at or after the end; damage found while decoding.
    """
    assert fps is None or fps > 0, fps
    assert 0 <= start_s < (math.inf if end_s is None else end_s), (start_s, end_s)
    info, end, tolerance = _probe(path)
    if start_s >= info.duration_s:
        raise InputError(
            f"{shown(path)}: lasts {info.duration_s:.3f} s, frames from {start_s:.3f} s on were asked for. "
            "Begin earlier."
        )
    end = end if end_s is None else min(end, Fraction(end_s))
    if fps is None:
        return _every_picture(path, Fraction(start_s), end)
    return _resampled(path, Fraction(fps).limit_denominator(1001), Fraction(start_s), end, tolerance)


def _every_picture(path: str | os.PathLike[str], start: Fraction, end: Fraction) -> Iterator[np.ndarray]:
    with open_media(path, "a video") as container:
        picture = _PictureReader()
        for time, frame in _timed_frames(container, container.streams.best("video")):
            if start <= time < end:
                yield picture.rgb(frame)


def _resampled(
    path: str | os.PathLike[str], fps: Fraction, start: Fraction, end: Fraction, tolerance: Fraction
) -> Iterator[np.ndarray]:
    with open_media(path, "a video") as container:
        picture, tick, on_screen = _PictureReader(), start, None
        for time, frame in _timed_frames(container, container.streams.best("video")):
            # `on_screen` stays until `frame` comes; the first picture also stands for the time before it.
            on_screen = on_screen or frame
            while tick < min(time, end) - tolerance:
                yield picture.rgb(on_screen)
                tick += 1 / fps
            on_screen = frame
            if tick >= end - tolerance:
                return
        if on_screen is None:
            raise InputError(f"{shown(path)}: no frame of the video can be decoded. Export it again.")
        while tick < end - tolerance:
            yield picture.rgb(on_screen)
            tick += 1 / fps


def _timed_frames(
    container: InputContainer, stream: av.VideoStream
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(time in seconds from the beginning of the file, frame) in the order of showing."""
    stream.thread_type = "AUTO"
    origin, interval = start_of(container), 1 / (stream.average_rate or Fraction(25))
    next_time = Fraction(0)
    for frame in container.decode(stream):
        time = next_time if frame.pts is None else frame.pts * frame.time_base - origin
        next_time = time + interval
        yield time, frame


class _PictureReader:
    """Decoded frames -> upright RGB; keeps swscale's tables from frame to frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        untagged = frame.colorspace == _UNSPECIFIED
        guess = Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601
        converted = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=guess if untagged else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=SWSCALE,
        )
        upright = np.rot90(converted.to_ndarray(), k=_quarter_turns(frame))
        return np.ascontiguousarray(upright)


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns that set the frame upright (the display matrix of phone videos)."""
    return round(frame.rotation / 90) % 4


def _probe(path: str | os.PathLike[str]) -> tuple[VideoInfo, Fraction, Fraction]:
    """(info, exact end in seconds, how far time stamps may be off by rounding)."""
    with open_media(path, "a video") as container:
        stream = container.streams.best("video")
        if stream is None:
            raise InputError(f"{shown(path)}: has no pictures, only sound. Give a video.")
        width, height, codec = (
            stream.codec_context.width,
            stream.codec_context.height,
            stream.codec_context.name,
        )
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{shown(path)}: is {width}x{height} pixels, allowed are {MAX_PIXELS // 10**6} megapixels. "
                "Resize it."
            )
        rate, unit, has_audio = stream.average_rate, stream.time_base, bool(container.streams.audio)
        times, end = _packet_times(path, container, stream)
    with open_media(path, "a video") as container:
        first = next(container.decode(container.streams.best("video")), None)
        if first is None:
            raise InputError(f"{shown(path)}: no frame of the video can be decoded. Export it again.")
        if _quarter_turns(first) % 2:
            width, height = height, width
    stamped = None not in times
    steps = [later - earlier for earlier, later in pairwise(sorted(times))] if stamped else []
    info = VideoInfo(
        width_px=width,
        height_px=height,
        fps=float(rate or len(times) / end),
        frames=len(times),
        duration_s=float(end),
        has_audio=has_audio,
        codec=codec,
        variable_frame_rate=max(steps, default=0) - min(steps, default=0) > _STEADY_S if stamped else None,
    )
    return info, end, min(Fraction(3, 2) * unit, Fraction(2, 1000))


def _packet_times(
    path: str | os.PathLike[str], container: InputContainer, stream: av.VideoStream
) -> tuple[list[Fraction | None], Fraction]:
    """(time of every packet that is shown, end of the last), in seconds from the beginning of the file."""
    origin, interval = start_of(container), 1 / (stream.average_rate or Fraction(25))
    times, end, whole = [], Fraction(0), True
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        whole &= not packet.is_corrupt
        stamp = packet.pts if packet.pts is not None else packet.dts
        time = None if stamp is None else stamp * packet.time_base - origin
        shown_from = len(times) * interval if time is None else time
        end = max(end, shown_from + (packet.duration * packet.time_base if packet.duration else interval))
        times.append(time)
    if not times or end <= 0:
        raise InputError(f"{shown(path)}: holds no frames. Give a video with pictures in it.")
    declared = declared_end(container, stream) or Fraction(0)
    if not whole or end < declared - _MISSING_S:
        raise InputError(
            f"{shown(path)}: is cut short: only {float(end):.2f} s of its pictures are whole. "
            "Copy or export it again."
        )
    return times, end
