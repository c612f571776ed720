"""Still pictures in HDR look as the same picture does in a video, wherever their tags lie."""

import io
import struct
import zlib

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc
from PIL import Image

from hallo4.media import image, load_image
from hallo4.media.colour import srgb_code
from hallo4.media.files import MediaWarning

HEIGHT, WIDTH = 48, 64
WHITE = 203 / 10_000
"""A diffuse white in PQ, of its largest light."""


def pq(light: np.ndarray) -> np.ndarray:
    """Light in parts of 10,000 cd/m2 -> signal (SMPTE ST 2084, equation 5.2)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = np.asarray(light, float) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def greys(levels) -> np.ndarray:
    """[H, W, 3] uint16 in PQ: columns of grey at these linear levels of diffuse white."""
    signal = pq(np.repeat(levels, WIDTH // len(levels)) * WHITE)
    return np.broadcast_to(
        np.round(signal * 65535).astype(np.uint16)[None, :, None], (HEIGHT, WIDTH, 3)
    ).copy()


LEVELS = np.array([0.01, 0.05, 0.2, 0.6])
EXPECTED = np.repeat(np.round(255 * srgb_code(LEVELS)), WIDTH // len(LEVELS))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png(path, rgb_u16, tags=(9, 16, 0, 1), alpha=None):
    """16 bits a channel, by hand, with the chunk that names primaries, transfer, matrix and range."""
    channels = rgb_u16 if alpha is None else np.dstack([rgb_u16, alpha])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2 if alpha is None else 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"cICP", bytes(tags)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))


def write_avif(path, rgb_u16):
    frame = av.VideoFrame.from_ndarray(rgb_u16, format="rgb48le").reformat(
        format="yuv420p10le", dst_colorspace=9
    )
    with av.open(str(path), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p10le"
        stream.codec_context.color_trc = frame.color_trc = ColorTrc.SMPTE2084
        stream.codec_context.color_primaries = frame.color_primaries = ColorPrimaries.BT2020
        stream.codec_context.colorspace = frame.colorspace = 9
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)


def test_a_png_in_pq_has_the_levels_of_its_light(tmp_path):
    write_png(tmp_path / "p.png", greys(LEVELS))
    with pytest.warns(MediaWarning, match=r"p\.png: is HDR \(PQ\)"):
        found = load_image(tmp_path / "p.png")
    assert np.abs(found - EXPECTED[None, :, None]).max() <= 1


def test_an_avif_in_pq_looks_as_the_png(tmp_path):
    write_avif(tmp_path / "p.avif", greys(LEVELS))
    with pytest.warns(MediaWarning, match=r"p\.avif: is HDR \(PQ\)"):
        found = load_image(tmp_path / "p.avif")
    middles = np.arange(8, WIDTH, 16)
    assert np.abs(found[:, middles] - EXPECTED[None, middles, None]).max() <= 4


def test_tags_of_srgb_change_nothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint16) * 257
    write_png(tmp_path / "p.png", pixels, (1, 13, 0, 1))
    assert (load_image(tmp_path / "p.png") == pixels >> 8).all()


def test_transparent_hdr_lies_over_grey(tmp_path):
    alpha = np.where(np.arange(WIDTH) < 32, 0, 65535)[None, :].repeat(HEIGHT, 0).astype(np.uint16)
    write_png(tmp_path / "p.png", greys(LEVELS), alpha=alpha)
    with pytest.warns(MediaWarning):
        found = load_image(tmp_path / "p.png")
    assert (found[:, :32] == 128).all()
    assert np.abs(found[:, 32:] - EXPECTED[None, 32:, None]).max() <= 1


def test_a_very_large_transparent_one_is_taken_for_srgb_and_it_is_said(tmp_path, monkeypatch):
    """Converted, it would take more memory than any picture may."""
    opaque = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    write_png(tmp_path / "p.png", greys(LEVELS), alpha=opaque)
    write_png(tmp_path / "q.png", greys(LEVELS))
    write_png(tmp_path / "s.png", greys(LEVELS), alpha=opaque)
    monkeypatch.setattr(image, "MAX_CLEAR_TAGGED_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.warns(MediaWarning, match=r"p\.png: is transparent and has more .* taken for sRGB"):
        found = load_image(tmp_path / "p.png")
    assert (found == (greys(LEVELS) >> 8)).all()
    with pytest.warns(MediaWarning, match=r"q\.png: is HDR"):
        load_image(tmp_path / "q.png")
    monkeypatch.setattr(image, "MAX_CLEAR_TAGGED_PIXELS", HEIGHT * WIDTH)
    with pytest.warns(MediaWarning, match=r"s\.png: is HDR"):
        load_image(tmp_path / "s.png")


@pytest.mark.parametrize("turned", range(1, 9))
def test_an_avif_is_turned_alike_by_both_readers(tmp_path, turned):
    """Orientation of a picture in a wide gamut is that of the same picture in sRGB."""
    from hallo4.media.presentation import Presentation
    from hallo4.media.tagged_picture import _avif_frame

    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:20, :20], picture[:20, 40:] = (250, 0, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x112] = turned
    Image.fromarray(picture).save(tmp_path / "p.avif", exif=exif.tobytes(), quality=95)
    frame = _avif_frame(tmp_path / "p.avif")
    shown = Presentation(frame).rgb(frame)
    assert shown.shape == load_image(tmp_path / "p.avif").shape
    assert np.abs(shown.astype(int) - load_image(tmp_path / "p.avif")).mean() < 6


def test_damaged_tags_are_said(tmp_path, monkeypatch):
    def broken(path, kind):
        raise av.InvalidDataError(1, "broken")

    monkeypatch.setattr("hallo4.media.image.tagged_frame", broken)
    content = io.BytesIO()
    Image.new("RGB", (32, 32), (9, 9, 9)).save(content, "PNG")
    (tmp_path / "p.png").write_bytes(content.getvalue())
    with pytest.warns(MediaWarning, match="tags of its colours cannot be read"):
        assert (load_image(tmp_path / "p.png") == 9).all()
