"""`load_image`: every kind of picture becomes upright 8-bit sRGB; everything else is one clear line."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from hallo4.errors import InputError
from hallo4.media import MediaWarning, load_image
from hallo4.media.image import BACKGROUND


@pytest.fixture
def picture() -> np.ndarray:
    """[24, 32, 3]: smooth, and different in every corner and channel."""
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([8 * x, 10 * y, 255 - 4 * x - 4 * y], -1).clip(0, 255).astype(np.uint8)


def test_png_is_read_bit_for_bit(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, picture)


@pytest.mark.parametrize("name", ["-a b é 漢字.png", "plain.PNG", "no_suffix", "lies.jpg"])
def test_the_content_counts_not_the_name(tmp_path, picture, monkeypatch, name):
    Image.fromarray(picture).save(tmp_path / name, format="PNG")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(load_image(name), picture)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tiff", "ppm", "gif", "tga"])
def test_common_formats(tmp_path, picture, suffix):
    smooth = np.repeat(picture[:, :, :1] // 2 + 40, 3, -1)
    Image.fromarray(smooth).save(tmp_path / f"a.{suffix}")
    assert np.abs(load_image(tmp_path / f"a.{suffix}").astype(int) - smooth).max() <= 6


# What EXIF orientation n does to the stored picture, written as plain indexing.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_rotation_is_applied(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), ORIENTATIONS[orientation](picture))


def test_grey_black_and_white_and_palette(tmp_path, picture):
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(load_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, -1))
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(load_image(tmp_path / "bits.png")[..., 1], np.where(grey > 100, 255, 0))
    colours = Image.fromarray(picture).quantize(16)
    colours.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(load_image(tmp_path / "palette.png"), np.array(colours.convert("RGB")))


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, name):
    deep = np.linspace(0, 65535, 20 * 20).reshape(20, 20).round().astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    expected = (deep / 257).round()
    np.testing.assert_array_equal(load_image(tmp_path / name)[..., 2], expected)


def test_sixteen_bit_colour(tmp_path):
    deep = (np.arange(16 * 16 * 3).reshape(16, 16, 3) * 85).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    (tmp_path / "deep.png").write_bytes(_png(16, 16, depth=16, colour=2, data=zlib.compress(rows)))
    assert np.abs(load_image(tmp_path / "deep.png").astype(int) - deep.astype(int) / 257).max() <= 1


def test_float_grey(tmp_path):
    unit = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    Image.fromarray(unit).save(tmp_path / "unit.tiff")
    np.testing.assert_array_equal(load_image(tmp_path / "unit.tiff")[..., 0], (unit * 255).round())
    Image.fromarray(unit * 300).save(tmp_path / "wild.tiff")
    with pytest.raises(InputError, match="allowed is 0 to 1"):
        load_image(tmp_path / "wild.tiff")


def test_transparency_shows_the_stated_background(tmp_path, picture):
    alpha = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    share = alpha[..., None] / 255.0
    expected = picture * share + np.array(BACKGROUND) * (1 - share)
    assert np.abs(load_image(tmp_path / "a.png") - expected).max() <= 1


def test_transparent_palette_and_grey_with_alpha(tmp_path, picture):
    palette = Image.fromarray(picture).quantize(8)
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(tmp_path / "p.png")
    assert tuple(load_image(tmp_path / "p.png")[0, 0]) == BACKGROUND
    Image.new("LA", (20, 20), (200, 0)).save(tmp_path / "la.png")
    assert (load_image(tmp_path / "la.png") == BACKGROUND).all()


def test_cmyk(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red = load_image(tmp_path / "red.jpg").reshape(-1, 3).mean(0)
    assert red[0] > 200
    assert red[1:].max() < 60


def _swapped_profile() -> bytes:
    """sRGB with the red and green primaries exchanged: what is stored as red is shown as green."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ", 128), data.index(b"gXYZ", 128)
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles_are_converted_to_srgb(tmp_path, mode):
    image = Image.new("RGB", (20, 20), (220, 30, 60))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png", icc_profile=_swapped_profile())
    assert np.abs(load_image(tmp_path / "a.png").astype(int) - (30, 220, 60)).max() <= 2


def test_a_profile_that_does_not_fit_is_said(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=b"not a profile")
    with pytest.warns(MediaWarning, match=r"a\.png: the colour profile"):
        np.testing.assert_array_equal(load_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_of_several_pictures_with_a_warning(tmp_path, suffix):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    with pytest.warns(MediaWarning, match="holds 2 pictures; the first one is used"):
        loaded = load_image(tmp_path / f"a.{suffix}")
    assert (loaded == (255, 0, 0)).all()


def test_a_photo_with_a_preview_behind_it_is_no_animation(tmp_path, picture):
    Image.fromarray(picture).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "a.jpg").shape == picture.shape


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    "size", [(30_000, 30_000), (12_000, 12_000), (8_001, 8_000), (20_001, 16), (1, 1), (15, 400)]
)
def test_wrong_sizes_are_refused_from_the_header(tmp_path, size):
    # There are no pixels in this file: whoever tried to decode it would complain about that instead.
    (tmp_path / "a.png").write_bytes(_png(*size))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=r"sides of 16 to 20000 pixels and at most 64 megapixels"):
            load_image(tmp_path / "a.png")


def test_sixteen_pixels_are_enough(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape == (16, 16, 3)


def _make_bad(folder, kind: str, picture):
    path = folder / "bad.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("hello, I am no picture\n" * 50)
    elif kind == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "postscript":  # Pillow would run Ghostscript on it
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n")
    elif kind.startswith("cut"):
        whole = folder / f"whole.{kind[4:]}"
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(whole)
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "folder",
        "empty",
        "text",
        "bytes",
        "postscript",
        "cut_png",
        "cut_jpg",
        "cut_webp",
        "cut_gif",
        "cut_tiff",
        "cut_bmp",
    ],
)
def test_bad_files_are_one_line_that_names_the_file(tmp_path, picture, kind):
    path = _make_bad(tmp_path, kind, picture)
    with pytest.raises(InputError) as caught:
        load_image(path)
    assert "bad.png" in str(caught.value)
    if kind in ("text", "bytes", "postscript"):  # not even begun to decode
        assert "is not a picture that can be read (unknown format)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, "line\nbreak.png"])
def test_impossible_names(name):
    with pytest.raises(InputError) as caught:
        load_image(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
