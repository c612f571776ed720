"""Pictures: any common file -> [H, W, 3] uint8 sRGB."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image, ImageCms, ImageOps

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input
from hallo4.media.files import cannot_write, check_folder, check_input, shown, warn
from hallo4.media.tagged_picture import picture_by_tags
from hallo4.whole import write_whole

MIN_SIDE_PX = 16
MAX_SIDE_PX = 20_000
MAX_PIXELS = 64_000_000
BACKGROUND = (128, 128, 128)
"""Mid grey, what transparent pixels are laid over."""

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
        picture_u8 = rgb_of(image, name)
        if image.format == "AVIF" and image.info.get("icc_profile"):  # in a PNG, tags come first
            return picture_u8
        try:
            tagged = picture_by_tags(source, image.format)
        except (InputError, av.FFmpegError):
            warn(f"{name}: the tags of its colours cannot be read; they are taken for sRGB.")
            return picture_u8
        return picture_u8 if tagged is None else _by_tags(*tagged, picture_u8, image, name)


def _by_tags(
    by_tags_u8: np.ndarray, notes: list[str], picture_u8: np.ndarray, image: Image.Image, name: str
) -> np.ndarray:
    """The picture in the colours of its tags, laid over `BACKGROUND` where it is transparent."""
    if by_tags_u8.shape != picture_u8.shape:
        warn(f"{name}: is stored in parts, so its colours are taken for sRGB, though its tags say otherwise.")
        return picture_u8
    for note in notes:
        warn(f"{name}: {note}.")
    if image.has_transparency_data:
        alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
        below = Image.new("RGB", alpha.size, BACKGROUND)
        return np.array(Image.composite(Image.fromarray(by_tags_u8), below, alpha))
    return by_tags_u8


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
        raise InputError(
            f"{name}: is damaged or cut short ({_reason(error)}). Save it again as PNG or JPEG."
        ) from error


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


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image, name)
    transparent = image.has_transparency_data
    if image.mode not in ("L", "RGB", "RGBA", "CMYK", "YCbCr"):
        image = image.convert("RGBA" if transparent else "RGB")
    image = _apply_profile(image, name)
    if transparent:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    return np.array(image.convert("RGB"))


def _deep_grey_to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """Grey of 16 bits, or of 32 bits when the values say which range is meant."""
    grey = np.asarray(image).astype(np.float64)
    white = 1.0 if image.mode == "F" else 65535.0
    if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= white):
        raise InputError(
            f"{name}: grey values reach from {grey.min():g} to {grey.max():g}, allowed is 0 to {white:g}. "
            "Save it with 8 or 16 bits."
        )
    return np.repeat((grey * (255.0 / white)).round().astype(np.uint8)[..., None], 3, axis=-1)


def _apply_profile(image: Image.Image, name: str) -> Image.Image:
    """Convert the embedded colour profile, if any, to sRGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, BytesIO(profile), srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError) as error:
        warn(f"{name}: the colour profile does not fit the picture and is ignored ({_reason(error)}).")
        return image
