"""How a decoded picture of a video is to be shown: upright, not mirrored, with square pixels, in sRGB.

Everything that reads pictures of a video goes through here.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from hallo4.media.colour import conversion_of

# With these swscale's RGB <-> YUV is free of bias; its defaults darken each round trip by a grey level.
SWSCALE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_LONGEST_PIXEL = 8
"""Pixels whose sides differ more than that are a mistake of the header."""


class Presentation:
    """Turns the frames of one stream into pictures [H, W, 3] uint8 sRGB, all of the first one's size.

    Applied are the display matrix (turns by quarters, and mirroring: its determinant is negative then), the
    sample aspect ratio (the longer side of a pixel is drawn out, so that nothing is lost), matrix, range,
    primaries and transfer of the colours. Untagged YUV counts as BT.709 from 720 lines and BT.601 below, as
    in players. `notes` says in one line each what a person should know.
    """

    def __init__(self, first: av.VideoFrame, pixel_aspect: Fraction | None = None) -> None:
        """`first` frame of the stream; `pixel_aspect`: width of a stored pixel over its height."""
        self.notes: list[str] = []
        self._transpose, self._flip_x, self._flip_y = _orientation(first)
        self._stored_px = _square(first.width, first.height, self._checked(pixel_aspect))
        self._convert, kind = conversion_of(first)
        if kind:
            self.notes.append(f"is {kind}; its colours were tone-mapped to BT.709")
        self._reformatter = VideoReformatter()  # keeps swscale's tables from frame to frame

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) as shown."""
        width, height = self._stored_px
        return (height, width) if self._transpose else (width, height)

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """The picture [H, W, 3] uint8 that a player shows."""
        untagged = frame.colorspace == _UNSPECIFIED
        guess = Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601
        converted = self._reformatter.reformat(
            frame,
            *self._stored_px,
            format="rgb24" if self._convert is None else "rgb48le",
            src_colorspace=guess if untagged else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=SWSCALE,
        )
        if self._convert is None:
            picture = converted.to_ndarray()
        else:  # without a copy of what takes six bytes a pixel
            plane = converted.planes[0]
            rows = np.frombuffer(plane, np.uint16).reshape(converted.height, plane.line_size // 2)
            picture = self._convert(rows[:, : 3 * converted.width].reshape(converted.height, -1, 3))
        if self._transpose:
            picture = picture.swapaxes(0, 1)
        picture = picture[:: -1 if self._flip_y else 1, :: -1 if self._flip_x else 1]
        return np.ascontiguousarray(picture)

    def _checked(self, pixel_aspect: Fraction | None) -> Fraction:
        if not pixel_aspect or pixel_aspect <= 0:
            return Fraction(1)
        if not Fraction(1, _LONGEST_PIXEL) <= pixel_aspect <= _LONGEST_PIXEL:
            self.notes.append(
                f"says that its pixels are {pixel_aspect.numerator}:{pixel_aspect.denominator}, which is "
                "taken for a mistake; they are shown as squares"
            )
            return Fraction(1)
        return Fraction(pixel_aspect)


def _square(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Size of a stored picture whose pixels are drawn out to squares."""
    if pixel_aspect >= 1:
        return max(1, round(width * pixel_aspect)), height
    return width, max(1, round(height / pixel_aspect))


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(whether rows become columns, then whether columns and rows run the other way), by the display matrix.

    Nine numbers of 32 bits (a b u, c d v, x y w): a stored place (p, q) is shown at (a p + c q, b p + d q).
    Whatever is not a quarter turn counts as the nearest one, as in players.
    """
    said = frame.side_data.get(Type.DISPLAYMATRIX)
    if said is None or len(bytes(said)) != 36:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(said))
    if math.hypot(a, d) >= math.hypot(b, c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0
