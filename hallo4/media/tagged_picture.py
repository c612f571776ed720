"""Still pictures whose tags say HDR or a wide gamut (AVIF, PNG): shown as the frames of a video are."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import av

from hallo4.input_file import open_input
from hallo4.media.colour import conversion_of
from hallo4.media.files import open_media

_CHUNKS_BEFORE_PIXELS = 100


def tagged_frame(path: Path, kind: str | None) -> av.VideoFrame | None:
    """A picture of the `kind` "PNG" or "AVIF" whose transfer or primaries are not those of sRGB by its tags,
    as a frame for `Presentation`; None: another. InputError, or an error of the decoder: damaged."""
    frame = _png_frame(path) if kind == "PNG" else _avif_frame(path) if kind == "AVIF" else None
    return None if frame is None or conversion_of(frame)[0] is None else frame


def has_png_tags(path: Path) -> bool:
    """Whether a PNG has the chunk for such tags (PNG 3, 11.3.2.6); its pixels are not read."""
    with open_input(path, "a picture") as file:
        return _has_cicp(file)


def _png_frame(path: Path) -> av.VideoFrame | None:
    with open_input(path, "a picture") as file:
        if not _has_cicp(file):
            return None
        file.seek(0)
        decoder = av.CodecContext.create("png", "r")
        return next(iter((*decoder.decode(av.Packet(file.read())), *decoder.decode(None))), None)


def _has_cicp(file: BinaryIO) -> bool:
    at = 8  # behind the signature
    for _ in range(_CHUNKS_BEFORE_PIXELS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return False
        if head[4:] == b"cICP":
            return True
        at += 12 + int.from_bytes(head[:4])
    return False


def _avif_frame(path: Path) -> av.VideoFrame | None:
    with open_media(path, "a picture") as container:
        stream = container.streams.best("video")
        known = stream is not None and stream.codec_context is not None
        return next(container.decode(stream), None) if known else None
