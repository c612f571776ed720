"""Pictures: any common file -> [H, W, 3] uint8 sRGB."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input
from hallo4.media.files import cannot_write, check_folder, check_input, shown, warn
from hallo4.media.presentation import Presentation
from hallo4.media.tagged_picture import has_png_tags, tagged_frame
from hallo4.whole import write_whole

MIN_SIDE_PX = 16
MAX_SIDE_PX = 20_000
MAX_PIXELS = 64_000_000
MAX_CLEAR_TAGGED_PIXELS = 40_000_000
"""Limit for a transparent PNG with HDR or wide-gamut tags: its conversion takes 21 bytes a pixel."""
BACKGROUND = (128, 128, 128)
"""Mid grey, what transparent pixels are laid over."""

_STRIP = 256
"""Rows that are converted at a time."""
_PLAIN_MODES = ("L", "RGB", "RGBA", "CMYK", "YCbCr")

# Raster formats only: Pillow would hand EPS to Ghostscript, for example.
_FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "AVIF",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "PPM",
    "JPEG2000",
    "TGA",
    "ICO",
)


def load_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as [H, W, 3] uint8 sRGB, upright.

    EXIF rotation is applied. Colour profiles (wide-gamut, CMYK) and tags of HDR or a wide gamut (AVIF, PNG)
    are converted to sRGB, the tags as in video (`Presentation`, with its `MediaWarning`). Palettes and grey
    are expanded, 16-bit grey is scaled by 1/257, transparency is composited over `BACKGROUND`. Of an
    animation or a multi-page file the first picture is taken, with a `MediaWarning`.

    Raises:
        InputError: missing, folder, empty, truncated, not a picture, a side below 16 px, or a side above
            20,000 px or more than 64 megapixels (refused from the header, before any pixel is decoded).
    """
    source = check_input(path, "a picture")
    name = shown(path)
    with open_input(source, "a picture") as file, _opened(file, name) as image:
        width, height = image.size
        if (
            min(width, height) < MIN_SIDE_PX
            or max(width, height) > MAX_SIDE_PX
            or width * height > MAX_PIXELS
        ):
            raise InputError(f"{name}: is {width}x{height} pixels. {_LIMITS}")
        try:
            pictures = getattr(image, "n_frames", 1)
        except Exception:  # what follows the first picture is cut short
            pictures = None
        if pictures != 1 and image.format != "MPO":  # MPO: a photo with previews behind it
            held = "damaged pictures behind the first" if pictures is None else f"{pictures} pictures"
            warn(f"{name}: holds {held}; the first one is used.")
        frame = _tagged(source, image, name)
        if frame is None:
            return rgb_of(image, name)
        return _by_tags(frame, image, name)


def _tagged(source: Path, image: Image.Image, name: str) -> av.VideoFrame | None:
    """The picture as a frame, where tags say that its colours are not those of sRGB."""
    if image.format == "AVIF" and image.info.get("icc_profile"):  # in a PNG, tags come first
        return None
    large = image.format == "PNG" and image.width * image.height > MAX_CLEAR_TAGGED_PIXELS
    if large and image.has_transparency_data and has_png_tags(source):
        warn(
            f"{name}: is transparent and has more than {MAX_CLEAR_TAGGED_PIXELS // 10**6} megapixels, so its "
            "colours are taken for sRGB, whatever its tags say. Scale it down, or remove the transparency."
        )
        return None
    try:
        frame = tagged_frame(source, image.format)
    except (InputError, av.FFmpegError):
        warn(f"{name}: the tags of its colours cannot be read; they are taken for sRGB.")
        return None
    if frame is not None and (frame.width, frame.height) != image.size:
        warn(f"{name}: is stored in parts, so its colours are taken for sRGB, though its tags say otherwise.")
        return None
    return frame


def _by_tags(frame: av.VideoFrame, image: Image.Image, name: str) -> np.ndarray:
    """The picture in the colours of its tags, laid over `BACKGROUND` where it is transparent."""
    alpha = _alpha(image, name)
    image.close()  # its pixels are not needed any more
    picture = Presentation(frame)
    for note in picture.notes:
        warn(f"{name}: {note}.")
    shown_u8 = picture.rgb(frame)
    if alpha is None:
        return shown_u8
    for top in range(0, len(shown_u8), _STRIP):
        strip = Image.fromarray(shown_u8[top : top + _STRIP])
        below = Image.new("RGB", strip.size, BACKGROUND)
        mask = alpha.crop((0, top, alpha.width, top + strip.height))
        shown_u8[top : top + _STRIP] = np.asarray(Image.composite(strip, below, mask))
    return shown_u8


def _alpha(image: Image.Image, name: str) -> Image.Image | None:
    """The transparency of a picture, None where it has none. InputError: the picture is damaged."""
    try:
        image.load()
        if not image.has_transparency_data:
            return None
        return _upright(image).convert("RGBA").getchannel("A")
    except Exception as error:
        raise _damaged(error, name) from error


def _opened(file: BinaryIO, name: str) -> Image.Image:
    """The picture, its header read. InputError: none, or of a size beyond all limits."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower limit follows
            return Image.open(file, formats=_known_formats())
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error.args[0].split(',')[0].lower()}. {_LIMITS}") from error
    except Exception as error:  # decoders meet broken headers with errors of every kind
        raise InputError(
            f"{name}: is not a picture that can be read ({_reason(error)}). Save it as PNG or JPEG."
        ) from error


def rgb_of(image: Image.Image, name: str = "the image") -> np.ndarray:
    """An opened picture as `load_image` gives it; `name` stands in messages.

    InputError: damaged, or grey values out of range.
    """
    try:
        return _to_rgb(image, name)
    except InputError:
        raise
    except Exception as error:
        raise _damaged(error, name) from error


def check_png(path: str | os.PathLike[str]) -> Path:
    """The real path of a PNG that can be written. OutputError: another suffix, or as `check_folder`."""
    if Path(path).suffix.lower() != ".png":
        raise OutputError(f"{shown(path)}: pictures are written as PNG. Choose a name that ends in .png.")
    return check_folder(path)


def save_png(path: str | os.PathLike[str], picture_u8: np.ndarray) -> None:
    """Write a picture [H, W, 3] uint8 as PNG, whole or not at all.

    OutputError: as `check_png`; a failing disk.
    """
    target, content = check_png(path), BytesIO()
    Image.fromarray(picture_u8).save(content, "PNG")
    try:
        write_whole(target, content.getvalue())
    except OSError as error:
        raise cannot_write(path, error) from error


_LIMITS = (
    f"A picture needs sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels and at most {MAX_PIXELS // 10**6} "
    "megapixels: resize it."
)


def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _reason(error: Exception) -> str:
    """The decoder's own words without the path, which the message starts with anyway."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "unknown format"
    return " ".join(str(error).split()) or type(error).__name__


def _damaged(error: Exception, name: str) -> InputError:
    return InputError(f"{name}: is damaged or cut short ({_reason(error)}). Save it again as PNG or JPEG.")


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """[H, W, 3] uint8, made in strips: whole copies of a large picture take hundreds of megabytes each."""
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image, name)
    to_srgb = _profile_transform(image, name)
    picture = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        picture[top : top + _STRIP] = _strip_to_rgb(strip, to_srgb)
    return picture


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; itself, not a copy, where that says nothing."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _strip_to_rgb(image: Image.Image, to_srgb: ImageCms.ImageCmsTransform | None) -> np.ndarray:
    transparent = image.has_transparency_data
    image = _plain(image)
    if to_srgb is not None:
        image = ImageCms.applyTransform(image, to_srgb)
    if transparent:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    return np.asarray(image.convert("RGB"))


def _plain(image: Image.Image) -> Image.Image:
    """In a mode that profiles know."""
    if image.mode in _PLAIN_MODES:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _deep_grey_to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """Grey of 16 bits, or of 32 bits when the values say which range is meant."""
    grey, white = np.asarray(image), 1.0 if image.mode == "F" else 65535.0
    if not (grey.min() >= 0 and grey.max() <= white):  # NaN is neither
        raise InputError(
            f"{name}: grey values reach from {grey.min():g} to {grey.max():g}, allowed is 0 to {white:g}. "
            "Save it with 8 or 16 bits."
        )
    picture = np.empty((*grey.shape, 3), np.uint8)
    for top in range(0, len(grey), _STRIP):
        levels = grey[top : top + _STRIP].astype(np.float64) * (255.0 / white)
        picture[top : top + _STRIP] = levels.round().astype(np.uint8)[..., None]
    return picture


def _profile_transform(image: Image.Image, name: str) -> ImageCms.ImageCmsTransform | None:
    """What brings the colours of the embedded profile, if there is one that fits, to sRGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    mode = _plain(image.crop((0, 0, 1, 1))).mode
    try:
        srgb = ImageCms.createProfile("sRGB")
        outcome = "RGBA" if mode == "RGBA" else "RGB"
        return ImageCms.buildTransform(BytesIO(profile), srgb, mode, outcome)
    except (ImageCms.PyCMSError, OSError) as error:
        warn(f"{name}: the colour profile does not fit the picture and is ignored ({_reason(error)}).")
        return None
