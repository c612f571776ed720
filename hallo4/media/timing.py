"""When pictures and sound of a file begin and end: what lip sync is lost by before any mouth is looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer

from hallo4.media.files import MAX_PADDING, declared_end, open_media, start_of


@dataclass(frozen=True)
class StreamTimes:
    """Seconds from the beginning of the file; sound is None where the file has none."""

    video_start_s: float
    video_end_s: float
    audio_start_s: float | None
    audio_end_s: float | None

    @property
    def start_offset_s(self) -> float | None:
        """How much later sound begins than pictures; negative: earlier."""
        return None if self.audio_start_s is None else self.audio_start_s - self.video_start_s

    @property
    def length_difference_s(self) -> float | None:
        """Length of the sound less that of the pictures."""
        if self.audio_start_s is None or self.audio_end_s is None:
            return None
        return (self.audio_end_s - self.audio_start_s) - (self.video_end_s - self.video_start_s)


def stream_times(path: str | os.PathLike[str]) -> StreamTimes:
    """Read them from the packets of the first video and audio stream, without decoding.

    Encoder priming and padding do not count where the container states them. Raises InputError as
    `probe_video` for files that cannot be read or have no pictures.
    """
    with open_media(path, "a video") as container:
        video = _span(container, container.streams.best("video"))
    with open_media(path, "a video") as container:
        audio = _span(container, container.streams.best("audio"))
    video = video or (Fraction(0), Fraction(0))
    start, end = (None, None) if audio is None else (float(audio[0]), float(audio[1]))
    return StreamTimes(float(video[0]), float(video[1]), start, end)


def _span(container: InputContainer, stream: av.stream.Stream | None) -> tuple[Fraction, Fraction] | None:
    """(start, end) of the packets that are played, or None without a stream or packets."""
    if stream is None:
        return None
    origin = start_of(container)
    start, end = None, Fraction(0)
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard or packet.is_corrupt or packet.pts is None:
            continue
        begins = packet.pts * packet.time_base - origin
        lasts = (packet.duration or 0) * packet.time_base
        start = begins if start is None else min(start, begins)
        end = max(end, begins + lasts)
    if start is None:
        return None
    start = max(start, Fraction(0))  # priming lies before the beginning
    declared, padding = declared_end(container, stream), Fraction(0)
    rate_hz = getattr(stream.codec_context, "sample_rate", 0)  # no codec context: no decoder
    if stream.type == "audio" and rate_hz:
        padding = Fraction(MAX_PADDING, rate_hz)
    # A header that ends long before the packets do is wrong, not a trim.
    return start, declared if declared is not None and declared < end <= declared + padding else end
