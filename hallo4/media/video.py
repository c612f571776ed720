"""Video -> frames at a constant rate: the picture nearest to each tick, whatever the file's own timing."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import chain, dropwhile, pairwise
from statistics import median_low

import av
import numpy as np
from av.container import InputContainer

from hallo4.errors import InputError
from hallo4.media.files import check_input, declared_end, open_media, shown, start_of, warn
from hallo4.media.image import MAX_PIXELS
from hallo4.media.presentation import Presentation

_STEADY_S = 0.002  # spread of frame intervals that rounding to milliseconds explains
_MISSING_S = Fraction(1, 10)
_WORTH_S = Fraction(2)
"""Gaps up to this long are read rather than skipped: seeking costs as much."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds: `width_px` x `height_px` as shown (upright, with square pixels), `frames`
    pictures over `duration_s`.

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
        InputError: missing, folder, empty, not a video, without frames, damaged, or above 64 megapixels.
    """
    return _probed(path).info


def read_frames(
    path: str | os.PathLike[str],
    fps: float | None = 25.0,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] uint8 sRGB, upright, at exactly `fps`: tick k is the picture whose time is nearest to
    `start_s` + k / fps, of two equally near ones the earlier. `fps` None: every picture of the file once, in
    the order of showing, whatever their times are.

    So pictures are not late beside the sound on average, as they are where each stays until the next comes;
    ffmpeg's filter `fps` rounds alike. Only a picture that stays longer than most is not left before half of
    the usual interval (the median) before the next. The ticks in [start_s, end_s) set the number of frames
    (24 -> 25 fps keeps the duration, frames repeat), a variable frame rate works, and two decoded frames are
    held. Time zero is the beginning of the file, as in `load_audio`; before the first picture the first is
    shown. Pictures are as players show
    them (`Presentation`); HDR is tone-mapped, with a `MediaWarning`. Of a file that is cut short the whole
    pictures are read, with a `MediaWarning` that counts them. Files are checked at the call, not at the first
    frame.

    Raises:
        InputError: as `probe_video`; `start_s` at or after the end; damage found while decoding.
    """
    assert fps is None or fps > 0, fps
    assert 0 <= start_s < (math.inf if end_s is None else end_s), (start_s, end_s)
    probed = _probed(path)
    info, end = probed.info, probed.end
    for note in probed.notes:
        warn(f"{shown(path)}: {note}.")
    if start_s >= info.duration_s:
        raise InputError(
            f"{shown(path)}: lasts {info.duration_s:.3f} s, frames from {start_s:.3f} s on were asked for. "
            "Begin earlier."
        )
    start = _exact(start_s)
    end = end if end_s is None else min(end, _exact(end_s))
    if fps is None:
        return _every_picture(path, start, end)
    rate = Fraction(fps).limit_denominator(1001)
    return (rgb() for rgb in _resampled(path, probed, rate, start, end))


def read_frames_at(
    path: str | os.PathLike[str], ticks: Iterable[int], fps: float = 25.0
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, frame) of those frames of `read_frames(path, fps)` whose numbers are in `ticks`, in order.

    What lies between them is skipped where the file has pictures to begin at, and is not turned into
    pictures where it has none; so a part of a long video costs what that part does. Numbers behind the end
    give nothing. Errors as `read_frames`.
    """
    probed, rate = _probed(path), Fraction(fps).limit_denominator(1001)
    for note in probed.notes:
        warn(f"{shown(path)}: {note}.")
    return _chosen(path, probed, rate, sorted(set(ticks)))


def _chosen(
    path: str | os.PathLike[str], probed: _Probed, rate: Fraction, ticks: list[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Runs of `ticks` that no picture to begin at parts are read in one go."""
    while ticks:
        run = [ticks[0]]
        for tick in ticks[1:]:
            if probed.begin_at(tick / rate) > run[-1] / rate + _WORTH_S:
                break
            run.append(tick)
        wanted, start = set(run), run[0] / rate
        behind = min(probed.end, (run[-1] + 1) / rate)
        for number, rgb in enumerate(_resampled(path, probed, rate, start, behind), start=run[0]):
            if number in wanted:
                yield number, rgb()
        ticks = ticks[len(run) :]


def _exact(time_s: float) -> Fraction:
    """What was meant: 0.2 is 1/5, not the float a little above it."""
    return Fraction(time_s).limit_denominator(10**6)


def _every_picture(path: str | os.PathLike[str], start: Fraction, end: Fraction) -> Iterator[np.ndarray]:
    with open_media(path, "a video") as container:
        stream, picture = container.streams.best("video"), None
        for time, frame in _timed_frames(container, stream):
            picture = picture or Presentation(frame, stream.sample_aspect_ratio)
            if start <= time < end:
                yield picture.rgb(frame)


def _resampled(
    path: str | os.PathLike[str], probed: _Probed, fps: Fraction, start: Fraction, end: Fraction
) -> Iterator[Callable[[], np.ndarray]]:
    """What makes the picture of every tick."""
    tick, picture, nearest, at = start, None, None, Fraction(0)
    behind = end - probed.tolerance
    for time, frame, pixel_aspect in _frames_from(path, probed.begin_at(start)):
        picture = picture or Presentation(frame, pixel_aspect)
        # The first picture also stands for the time before it.
        nearest, at = (frame, time) if nearest is None else (nearest, at)
        middle = time - min(time - at, probed.interval) / 2 + probed.slack
        while tick <= middle and tick < behind:
            yield partial(picture.rgb, nearest)
            tick += 1 / fps
        nearest, at = frame, time
        if tick >= behind:
            return
    if nearest is None:
        raise InputError(f"{shown(path)}: no frame of the video can be decoded. Export it again.")
    while tick < behind:
        yield partial(picture.rgb, nearest)
        tick += 1 / fps


def _timed_frames(
    container: InputContainer, stream: av.VideoStream
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(time in seconds from the beginning of the file, frame) in the order of showing."""
    stream.thread_type = "AUTO"
    origin, interval = start_of(container), 1 / (stream.average_rate or Fraction(25))
    next_time = Fraction(0)
    for packet in container.demux(stream):
        for frame in () if packet.is_corrupt else packet.decode():  # `_packet_times` says where these may be
            time = next_time if frame.pts is None else frame.pts * frame.time_base - origin
            next_time = time + interval
            yield time, frame


def _frames_from(
    path: str | os.PathLike[str], begin: Fraction
) -> Iterator[tuple[Fraction, av.VideoFrame, Fraction | None]]:
    """`_timed_frames`, with the aspect of a pixel, from the picture at `begin` on: 0, or the time of one that
    needs no other. A file that does not begin there when it is asked to is read from its first picture."""
    with open_media(path, "a video") as container:
        stream = container.streams.best("video")
        if begin > 0:
            container.seek(round((begin + start_of(container)) / stream.time_base), stream=stream)
        frames = _timed_frames(container, stream)
        if begin > 0:
            # Pictures before the one that was sought may need others that were not read.
            frames = dropwhile(lambda found: found[1].pts is not None and found[0] < begin, frames)
        first = next(frames, None)
        if begin == 0 or (first is not None and first[1].pts is not None and first[0] == begin):
            for time, frame in chain([first] if first else [], frames):
                yield time, frame, stream.sample_aspect_ratio
            return
    yield from _frames_from(path, Fraction(0))


def _probed(path: str | os.PathLike[str]) -> _Probed:
    """What is known of a video's packets; of a file that stays as it is, they are looked at once."""
    stat = check_input(path, "a video").stat()
    return _probe(os.fspath(path), (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@dataclass(frozen=True)
class _Probed:
    """`info`; exact `end` in seconds; the usual `interval` of pictures; how far time stamps may be off by
    rounding (`tolerance`); `notes` on its pictures; `begins`, times of pictures that need no other, in order.
    """

    info: VideoInfo
    end: Fraction
    interval: Fraction
    tolerance: Fraction
    notes: tuple[str, ...]
    begins: tuple[Fraction, ...]

    @property
    def slack(self) -> Fraction:
        """How much later than in the middle of two pictures a tick may be and still count as there: half of
        the unit of time stamps."""
        return min(self.tolerance / 3, self.interval / 8)

    def begin_at(self, time: Fraction) -> Fraction:
        """Where reading may begin for the picture at `time`: 0, where that is not far."""
        place = bisect_right(self.begins, time)
        begin = self.begins[place - 1] if place else Fraction(0)
        return begin if begin > _WORTH_S else Fraction(0)


@lru_cache(maxsize=64)
def _probe(path: str, stamp: tuple[int, ...]) -> _Probed:
    """See `_probed`; `stamp` tells a file from what stood there before."""
    with open_media(path, "a video") as container:
        stream = container.streams.best("video")
        if stream is None:
            raise InputError(f"{shown(path)}: has no pictures, only sound. Give a video.")
        if stream.codec_context is None:
            raise InputError(
                f"{shown(path)}: its pictures are coded in a way that is not known here, or its header is "
                "damaged. Export it again, for example as H.264 in mp4."
            )
        _check_size(path, stream.codec_context.width, stream.codec_context.height)
        codec, rate, unit = stream.codec_context.name, stream.average_rate, stream.time_base
        has_audio = bool(container.streams.audio)
        times, end, begins, notes = _packet_times(path, container, stream)
    with open_media(path, "a video") as container:
        stream = container.streams.best("video")
        first = next(container.decode(stream), None)
        if first is None:
            raise InputError(f"{shown(path)}: no frame of the video can be decoded. Export it again.")
        picture = Presentation(first, stream.sample_aspect_ratio)
        width, height = picture.size_px
        _check_size(path, width, height)
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
    tolerance = min(Fraction(3, 2) * unit, Fraction(2, 1000))
    interval = median_low(steps) if steps else 1 / (rate or Fraction(25))
    return _Probed(info, end, interval, tolerance, (*notes, *picture.notes), begins if stamped else ())


def _check_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{shown(path)}: is {width}x{height} pixels, allowed are {MAX_PIXELS // 10**6} megapixels. "
            "Resize it."
        )


def _packet_times(
    path: str | os.PathLike[str], container: InputContainer, stream: av.VideoStream
) -> tuple[list[Fraction | None], Fraction, tuple[Fraction, ...], list[str]]:
    """(time of every whole packet that is shown, end of the last, times of those that need no other), in
    seconds from the beginning of the file, and a note if the file is cut short. InputError: none; or a
    damaged one with whole ones behind it."""
    origin, interval = start_of(container), 1 / (stream.average_rate or Fraction(25))
    times, begins, end, torn = [], [], Fraction(0), False
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.is_corrupt:
            torn = True
            continue
        if torn:
            raise InputError(
                f"{shown(path)}: is damaged behind {float(end):.2f} s of pictures. Copy or export it again."
            )
        stamp = packet.pts if packet.pts is not None else packet.dts
        time = None if stamp is None else stamp * packet.time_base - origin
        shown_from = len(times) * interval if time is None else time
        end = max(end, shown_from + (packet.duration * packet.time_base if packet.duration else interval))
        times.append(time)
        if packet.is_keyframe and packet.pts is not None:
            begins.append(time)
    if not times or end <= 0:
        raise InputError(f"{shown(path)}: holds no whole frames. Give a video with pictures in it.")
    declared = declared_end(container, stream) or Fraction(0)
    if not torn and end >= declared - _MISSING_S:
        return times, end, _apart(sorted(begins)), []
    of = f" of the {float(declared):.2f} s that it says it has" if declared > end else ""
    note = f"is cut short: {len(times)} whole pictures are read, {float(end):.2f} s{of}"
    return times, end, _apart(sorted(begins)), [note]


def _apart(times: list[Fraction]) -> tuple[Fraction, ...]:
    """Of sorted `times` such that are a second or more apart: enough to begin at, and few in any video."""
    kept: list[Fraction] = []
    for time in times:
        if not kept or time - kept[-1] >= 1:
            kept.append(time)
    return tuple(kept)
