"""One open container: frames and sound go in, an encoded file grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image

from hallo4.media.presentation import SWSCALE
from hallo4.media.spooled_sound import resampled
from hallo4.types import SampleSource


@dataclass(frozen=True)
class Recipe:
    """How one kind of file is made; `audio_rates_hz` None: any rate, empty `audio_codec`: no sound."""

    container: str
    codec: str
    pixel_format: str
    crf: int | None = None
    crf_max: int = 0
    options: dict[str, str] = field(default_factory=dict)
    audio_codec: str = ""
    audio_rates_hz: tuple[int, ...] | None = None
    even_sides: bool = False
    max_side_px: int = 16_384
    max_fps: int = 240


_AAC_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)

RECIPES = {
    # Plays everywhere: 4:2:0 H.264. Without macroblock-tree rate control, because with it x264 does not give
    # the same bytes twice.
    ".mp4": Recipe(
        container="mp4",
        codec="libx264",
        pixel_format="yuv420p",
        crf=17,
        crf_max=51,
        options={"x264-params": "mbtree=0"},
        audio_codec="aac",
        audio_rates_hz=_AAC_HZ,
        even_sides=True,
    ),
    ".webm": Recipe(
        container="webm",
        codec="libvpx-vp9",
        pixel_format="yuv420p",
        crf=24,
        crf_max=63,
        options={"b": "0", "cpu-used": "4", "row-mt": "1"},
        audio_codec="libopus",
        audio_rates_hz=_OPUS_HZ,
    ),
    ".mkv": Recipe("matroska", "ffv1", "bgr0", audio_codec="flac"),  # lossless, for measuring
    ".gif": Recipe("gif", "gif", "pal8", max_fps=50),  # browsers slow a delay of one hundredth down to ten
    ".webp": Recipe("webp", "libwebp_anim", "bgra", options={"quality": "90"}, max_side_px=16_383),
}


def part_suffix(suffix: str) -> str:
    """The suffix of the files of which a video with `suffix` can be put together: its own where packets can
    be copied, else that of a lossless file."""
    return suffix if RECIPES[suffix].audio_codec else ".mkv"


def _quality(recipe: Recipe, crf: int | None) -> dict[str, str]:
    return recipe.options | ({} if crf is None else {"crf": str(crf)})


def stored_size(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) in the file for frames of `size`."""
    width, height = size
    return (width + width % 2, height + height % 2) if recipe.even_sides else size


class Encoder:
    """One open PyAV container: frames of `size` (width, height) at `fps`, with `audio` alongside.

    `colours` is the palette image that a GIF needs. With `template`, the video stream of a file that the same
    recipe made, nothing is encoded: the packets of such files are copied. FFmpeg's errors pass through.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        size: tuple[int, int],
        fps: Fraction,
        audio: SampleSource | None = None,
        metadata: dict[str, str] | None = None,
        crf: int | None = None,
        colours: Image.Image | None = None,
        template: av.VideoStream | None = None,
    ) -> None:
        self._fps, self._recipe, self._colours = fps, recipe, colours
        self._frames, self._closed = 0, False
        # No random identifiers and no times in the file: the same video gives the same bytes.
        flags = {"fflags": "+bitexact"}
        if recipe.container == "mp4":
            flags["movflags"] = "+faststart"  # the index in front, so that a browser can begin at once
        if recipe.container == "webp":
            flags["loop"] = "0"  # for ever, as GIF does by itself
        self._container = av.open(f"file:{path}", "w", format=recipe.container, container_options=flags)
        self._container.metadata.update(metadata or {})
        self._encodes = template is None
        if template is None:
            self._video = self._encoding_stream(size, options=_quality(recipe, crf))
        else:
            self._video = self._container.add_stream_from_template(template)
        self._reformatter = VideoReformatter()
        self._sound = None if audio is None else _SoundTrack(self._container, recipe, audio)

    def _encoding_stream(self, size: tuple[int, int], options: dict[str, str]) -> av.VideoStream:
        recipe = self._recipe
        video = self._container.add_stream(recipe.codec, rate=self._fps, options=options)
        video.width, video.height = stored_size(recipe, size)
        video.pix_fmt = recipe.pixel_format
        self._colour_space = {}
        if recipe.pixel_format.startswith("yuv"):
            context = video.codec_context
            context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
            context.color_range = ColorRange.MPEG
            self._colour_space = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        return video

    def write(self, frame_u8: np.ndarray) -> None:
        """Encode one frame [H, W, 3] uint8 RGB, and the sound up to its end."""
        if self._colours is not None:
            frame = _paletted(frame_u8, self._colours)
        else:
            frame = av.VideoFrame.from_ndarray(_padded(frame_u8, self._recipe), format="rgb24")
            frame = self._reformatter.reformat(
                frame, format=self._recipe.pixel_format, interpolation=SWSCALE, **self._colour_space
            )
        frame.pts, frame.time_base = self._frames, 1 / self._fps
        self._container.mux(self._video.encode(frame))
        self._count_frame()

    def copy(self, part: InputContainer) -> int:
        """Append all packets of a file of the same recipe, size and rate, and the sound up to its end;
        returns how many frames these are."""
        stream, before = part.streams.video[0], self._frames
        offset = round(before / self._fps / stream.time_base)
        for packet in part.demux(stream):
            if packet.size:  # the last one of a file is empty
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = self._video
                self._container.mux(packet)
                self._count_frame()
        return self._frames - before

    def _count_frame(self) -> None:
        self._frames += 1
        if self._sound is not None:
            self._sound.advance(self._frames / self._fps)

    def close(self) -> None:
        """Write what the codecs still hold and the container's index."""
        try:
            if self._encodes:
                self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is; safe to call twice.

        After a failed write nothing more may be muxed: a second try at the header would crash inside FFmpeg.
        """
        if not self._closed:
            self._closed = True
            self._container.close()


class _SoundTrack:
    """Sound that is encoded up to the end of each frame, with silence after its own end."""

    def __init__(self, container: av.container.OutputContainer, recipe: Recipe, audio: SampleSource) -> None:
        rates = recipe.audio_rates_hz
        self._rate_hz = audio.sample_rate_hz
        if rates and self._rate_hz not in rates:
            self._rate_hz = min((rate for rate in rates if rate >= self._rate_hz), default=rates[-1])
        self._sound = resampled(audio, self._rate_hz)
        self._container = container
        self._stream = container.add_stream(recipe.audio_codec, rate=self._rate_hz, layout="mono")
        self._position = 0

    def advance(self, until_s: Fraction) -> None:
        end = round(until_s * self._rate_hz)
        part = self._sound.read(self._position, end)
        part = np.pad(part, (0, end - self._position - len(part))).clip(-1.0, 1.0)
        sample_format = self._stream.codec_context.format.name
        if sample_format.startswith("s16"):
            part = np.round(part * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(part[None], format=sample_format, layout="mono")
        frame.sample_rate, frame.time_base = self._rate_hz, Fraction(1, self._rate_hz)
        frame.pts = self._position
        self._position = end
        self._container.mux(self._stream.encode(frame))

    def flush(self) -> None:
        self._container.mux(self._stream.encode(None))


def _padded(frame_u8: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The frame with its last row or column repeated where the container needs even sides."""
    height, width = frame_u8.shape[:2]
    stored_width, stored_height = stored_size(recipe, (width, height))
    if (stored_width, stored_height) != (width, height):
        frame_u8 = np.pad(
            frame_u8, ((0, stored_height - height), (0, stored_width - width), (0, 0)), mode="edge"
        )
    return np.ascontiguousarray(frame_u8)


def common_palette(frames: Iterable[np.ndarray], count: int) -> Image.Image:
    """256 colours for all `count` frames: one palette keeps still parts still. From 32 thumbnails."""
    every = max(1, count // 32)
    thumbnails = []
    for index, frame in enumerate(frames):
        if index % every == 0:
            thumbnail = Image.fromarray(frame)
            thumbnail.thumbnail((64, 64))
            thumbnails.append(np.asarray(thumbnail))
    pixels = np.concatenate(thumbnails)
    # Refined until fewer than 1 in 200 pixels change their colour: the last ones take most of the time.
    settled = max(1, pixels.size // 600)
    return Image.fromarray(pixels).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=settled)


def _paletted(frame_u8: np.ndarray, colours: Image.Image) -> av.VideoFrame:
    # Pillow looks colours up by their upper six bits; half a step added makes that rounding, not darkening.
    centred = Image.fromarray(np.minimum(frame_u8, 253) + np.uint8(2))
    indices = np.asarray(centred.quantize(palette=colours, dither=Image.Dither.NONE))
    rgb = np.zeros((256, 3), np.uint8)
    table = np.array(colours.getpalette(), np.uint8).reshape(-1, 3)
    rgb[: len(table)] = table
    argb = np.concatenate([np.full((256, 1), 255, np.uint8), rgb], axis=1)
    return av.VideoFrame.from_ndarray((np.ascontiguousarray(indices), argb), format="pal8")
