"""Pictures of a video are as a player shows them: turned, mirrored, with square pixels, in sRGB."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc

from hallo4.media import MediaWarning, probe_video, read_frames
from hallo4.media.colour import hlg_scene_light, pq_nits, rolled_off, srgb_code, srgb_light, to_bt709

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
CORNERS = np.zeros((16, 32, 3), np.uint8)
CORNERS[:8, :16], CORNERS[:8, 16:], CORNERS[8:, :16] = (200, 0, 0), (0, 200, 0), (0, 0, 200)

# (a, b, c, d) of the display matrix: a stored place (p, q) is shown at (a p + c q, b p + d q).
ORIENTATIONS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [
    (0, b, c, 0) for b in (1, -1) for c in (1, -1)
]


def as_shown(picture: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Independent of the reader: every stored pixel is carried to its place, one by one."""
    places = {
        (a * p + c * q, b * p + d * q): picture[q, p]
        for q in range(picture.shape[0])
        for p in range(picture.shape[1])
    }
    left, top = min(x for x, _ in places), min(y for _, y in places)
    right, bottom = max(x for x, _ in places), max(y for _, y in places)
    shown = np.empty((bottom - top + 1, right - left + 1, 3), np.uint8)
    for (x, y), value in places.items():
        shown[y - top, x - left] = value
    return shown


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_every_display_matrix_is_applied(tmp_path, matrix):
    a, b, c, d = (value << 16 for value in matrix)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        frame = av.VideoFrame.from_ndarray(CORNERS, format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (shown,) = read_frames(tmp_path / "a.mp4")
    np.testing.assert_array_equal(shown, as_shown(CORNERS, *matrix))
    info = probe_video(tmp_path / "a.mp4")
    assert (info.height_px, info.width_px) == shown.shape[:2]


def write_one(path, planes: np.ndarray, pixel_format: str, aspect=None, trc=2, primaries=2, matrix=2) -> None:
    """One lossless frame with these tags."""
    codec, options = ("ffv1", {}) if path.suffix == ".mkv" else ("libx264rgb", {"crf": "0"})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        frame = av.VideoFrame.from_ndarray(planes, format=pixel_format)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = trc, primaries, matrix
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        frame.color_trc, frame.color_primaries, frame.colorspace = trc, primaries, matrix
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (80, 45)), (Fraction(1, 2), (60, 90)), (Fraction(1), (60, 45))]
)
def test_pixels_are_drawn_out_to_squares(tmp_path, aspect, size):
    """A circle that was stored squeezed is one again, and nothing is shrunk."""
    across, down = np.meshgrid((np.arange(60) + 0.5) / 60, (np.arange(45) + 0.5) / 45)
    width, height = size
    inside = ((across - 0.5) * width) ** 2 + ((down - 0.5) * height) ** 2 < 20**2
    write_one(tmp_path / "a.mp4", np.repeat(255 * inside[..., None], 3, 2).astype(np.uint8), "rgb24", aspect)
    info = probe_video(tmp_path / "a.mp4")
    assert (info.width_px, info.height_px) == size
    (shown,) = read_frames(tmp_path / "a.mp4")
    assert shown.shape == (height, width, 3)
    wide, high = (shown[..., 0] > 127).any(0).sum(), (shown[..., 0] > 127).any(1).sum()
    assert abs(int(wide) - int(high)) <= 2
    assert abs(int(wide) - 40) <= 2


def test_impossible_pixels_are_squares_and_it_is_said(tmp_path):
    write_one(tmp_path / "a.mp4", np.zeros((16, 16, 3), np.uint8), "rgb24", Fraction(12, 1))
    assert probe_video(tmp_path / "a.mp4").width_px == 16
    with pytest.warns(MediaWarning, match="12:1, which is taken for a mistake"):
        read_frames(tmp_path / "a.mp4")


# Ten-bit studio-range signal of a grey, by hand: luma 64 + 876 v, chroma 512.
def grey_planes(signal: float, size: int = 32) -> np.ndarray:
    planes = np.full((size * 3 // 2, size), 512, np.uint16)
    planes[:size] = round(64 + 876 * signal)
    return planes


def grey_of(tmp_path, signal: float, trc: int, primaries: int = 9) -> np.ndarray:
    path = tmp_path / "a.mkv"
    write_one(path, grey_planes(signal), "yuv420p10le", trc=trc, primaries=primaries, matrix=9)
    (shown,) = read_frames(path)
    return shown[16, 16].astype(int)


@pytest.mark.parametrize(
    ("trc", "white", "peak"), [(ColorTrc.SMPTE2084, 0.5807, 0.7518), (ColorTrc.ARIB_STD_B67, 0.75, 1.0)]
)
@pytest.mark.filterwarnings("ignore::hallo4.media.MediaWarning")
def test_hdr_greys_stay_grey_and_rise_to_white(tmp_path, trc, white, peak):
    """Signals of ITU-R BT.2408: diffuse white is bright but below the highlights, the peak is white, and half
    the light of diffuse white has the code of half of sRGB's."""
    levels = []
    for signal in (0.0, white / 2, white, (white + peak) / 2, peak):
        red, green, blue = grey_of(tmp_path, signal, trc)
        assert red == green == blue
        levels.append(red)
    assert levels == sorted(set(levels))
    assert levels[0] == 0
    assert 225 <= levels[2] <= 245
    assert levels[-1] == 255
    half = {ColorTrc.SMPTE2084: pq_nits, ColorTrc.ARIB_STD_B67: hlg_scene_light}[trc]
    signals = np.linspace(0, 1, 10_001)
    half_white = signals[np.abs(half(signals) - half(np.float64(white)) / 2).argmin()]
    assert abs(grey_of(tmp_path, half_white, trc)[0] - 255 * srgb_code(np.float64(0.5))) <= 2


def test_hdr_is_said(tmp_path):
    write_one(tmp_path / "a.mkv", grey_planes(0.5), "yuv420p10le", trc=18, primaries=9, matrix=9)
    with pytest.warns(MediaWarning, match=r"a\.mkv: is HDR \(HLG\); its colours were tone-mapped"):
        read_frames(tmp_path / "a.mkv")
    write_one(tmp_path / "b.mkv", grey_planes(0.5), "yuv420p10le", trc=1, primaries=1, matrix=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_frames(tmp_path / "b.mkv")


def test_transfer_functions_have_the_published_values():
    """SMPTE ST 2084 and BT.2408: 0, 100 and 1000 cd/m2; BT.2100: the knee of HLG; sRGB there and back."""
    np.testing.assert_allclose(pq_nits(np.array([0, 0.5081, 0.7518, 1])), [0, 100, 1000, 10_000], rtol=2e-3)
    np.testing.assert_allclose(hlg_scene_light(np.array([0, 0.5, 0.75, 1])), [0, 1 / 12, 0.265, 1], atol=4e-4)
    codes = np.linspace(0, 1, 256)
    np.testing.assert_allclose(srgb_code(srgb_light(codes)), codes, atol=1e-6)


def test_primaries_have_the_published_matrix():
    """ITU-R BT.2087, and white stays white from all of them."""
    bt2020 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    np.testing.assert_allclose(to_bt709(ColorPrimaries.BT2020), bt2020, atol=2e-4)
    for primaries in (ColorPrimaries.BT709, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432):
        np.testing.assert_allclose(to_bt709(primaries).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(to_bt709(ColorPrimaries.BT709), np.eye(3), atol=1e-12)


@pytest.mark.parametrize("primaries", [ColorPrimaries.BT2020, ColorPrimaries.SMPTE432])
def test_sdr_of_other_primaries_is_converted(tmp_path, primaries):
    """A colour of sRGB, written in wide primaries, comes back as it was."""
    rgb = np.array([200.0, 80.0, 40.0]) / 255
    wide = srgb_code(np.linalg.solve(to_bt709(primaries), srgb_light(rgb)))
    stored = np.broadcast_to(np.round(wide * 65535).astype(np.uint16), (16, 16, 3))
    gbr = np.ascontiguousarray(stored)
    write_one(tmp_path / "a.mkv", gbr, "gbrp16le", trc=13, primaries=primaries, matrix=0)
    (shown,) = read_frames(tmp_path / "a.mkv")
    assert np.abs(shown[8, 8] - rgb * 255).max() <= 1


def test_tones_are_kept_up_to_the_knee_and_rolled_off_above():
    light = np.linspace(0, 4, 4_001)
    rolled = rolled_off(light, 4.0)
    np.testing.assert_allclose(rolled[light <= 0.75], light[light <= 0.75])
    slopes = np.diff(rolled) / np.diff(light)
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 1e-6).all(), "the curve bends down, without a corner"
    assert rolled[-1] == pytest.approx(1)


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.filterwarnings("ignore::hallo4.media.MediaWarning")
@pytest.mark.parametrize(
    ("case", "least_db"),
    [("hdr-reference/{}", 35), ("mirrored-display-matrix/eval/{}", 36)],
)
def test_references_that_show_the_same_are_read_alike(case, least_db):
    videos = []
    for side in ("sys", "ref"):
        (path,) = (CASES / case.format(side)).iterdir()
        videos.append(np.stack(list(read_frames(path))).astype(float))
    error = ((videos[0] - videos[1]) ** 2).mean()
    assert 10 * np.log10(255**2 / error) > least_db
