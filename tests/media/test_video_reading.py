"""`probe_video` and `read_frames`: each tick gets the nearest picture, whatever the file's own timing."""

import bisect
import math
import os
import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from hallo4.errors import InputError
from hallo4.media import MediaWarning, probe_video, read_frames

SIZE = 32


def grey_level(index: int) -> int:
    return 16 + 7 * (index % 32)


def numbered(index: int) -> np.ndarray:
    """A frame that tells its number by its grey level."""
    return np.full((SIZE, SIZE, 3), grey_level(index), np.uint8)


def number_of(frame: np.ndarray) -> int:
    return round((float(frame.mean()) - 16) / 7)


def write_video(
    path, times: list[Fraction], unit: Fraction, codec: str = "ffv1", pixel_format: str = "bgr0"
) -> None:
    """Frame i of `numbered` shown from `times[i]` (multiples of `unit`), written without VideoWriter.

    The last frame lasts as long as the one before it.
    """
    stamps = [round(time / unit) for time in times]
    lengths = [later - earlier for earlier, later in pairwise(stamps)]
    length_of = dict(zip(stamps, [*lengths, lengths[-1]]))
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = SIZE
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = unit

        def mux(packets):
            for packet in packets:
                packet.duration = length_of[packet.pts]
                container.mux(packet)

        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts, frame.time_base = stamp, unit
            mux(stream.encode(frame))
        mux(stream.encode(None))


def steady(count: int, fps: Fraction) -> list[Fraction]:
    return [index / fps for index in range(count)]


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"), [("mkv", "ffv1", "bgr0"), ("mp4", "libx264", "yuv420p")]
)
@pytest.mark.parametrize(
    ("source_fps", "count", "expected"), [(25, 10, 10), (24, 24, 25), (30, 30, 25), (50, 9, 5), (10, 4, 10)]
)
def test_the_duration_is_kept_at_any_rate(tmp_path, suffix, codec, pixel_format, source_fps, count, expected):
    path = tmp_path / f"a.{suffix}"
    write_video(path, steady(count, Fraction(source_fps)), Fraction(1, source_fps), codec, pixel_format)
    info = probe_video(path)
    assert (info.frames, info.variable_frame_rate) == (count, False)
    assert info.duration_s == pytest.approx(count / source_fps, abs=0.002)
    shown = [number_of(frame) for frame in read_frames(path)]
    nearest = [math.ceil(Fraction(tick * source_fps, 25) - Fraction(1, 2)) for tick in range(expected)]
    assert shown == [min(number, count - 1) for number in nearest]


def test_ntsc_frames_pass_one_by_one_in_milliseconds(tmp_path):
    """Matroska rounds 1001/30000 s to whole milliseconds; reading at the same rate gives each frame once."""
    rate = Fraction(30_000, 1001)
    write_video(tmp_path / "a.mkv", steady(60, rate), 1 / rate)
    numbers = [number_of(frame) % 32 for frame in read_frames(tmp_path / "a.mkv", fps=float(rate))]
    assert numbers == [index % 32 for index in range(60)]


def nearest_picture(times: list[Fraction], tick: Fraction) -> int:
    """Independent of the reader: of the pictures around `tick` the nearer one, the earlier if both are; but a
    long one stays until half of the median interval before the next."""
    interval = sorted(later - earlier for earlier, later in pairwise(times))[(len(times) - 2) // 2]
    earlier = max(0, bisect.bisect_right(times, tick) - 1)
    if earlier + 1 == len(times) or tick < times[0]:
        return earlier
    to_next = times[earlier + 1] - tick
    return earlier + 1 if to_next < min(tick - times[earlier], interval / 2) else earlier


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"), [("mkv", "ffv1", "bgr0"), ("mp4", "libx264", "yuv420p")]
)
def test_variable_frame_rate(tmp_path, seed, suffix, codec, pixel_format):
    rng = np.random.default_rng(seed)
    steps_ms = rng.choice([7, 11, 33, 47, 90, 213], size=24)
    starts_ms = np.concatenate([[0], steps_ms.cumsum()])
    times = [Fraction(int(ms), 1000) for ms in starts_ms]
    path = tmp_path / f"a.{suffix}"
    write_video(path, times, Fraction(1, 1000), codec, pixel_format)
    info = probe_video(path)
    assert info.variable_frame_rate is True
    assert info.frames == len(times)
    numbers = [number_of(frame) for frame in read_frames(path)]
    rounding = Fraction(2, 1000)  # of the time stamps; so near to the middle of two pictures it is either
    ticks = [Fraction(tick, 25) for tick in range(len(numbers))]
    allowed = [{nearest_picture(times, tick + off) for off in (-rounding, 0, rounding)} for tick in ticks]
    assert all(number in either for number, either in zip(numbers, allowed, strict=True))
    assert sum(len(either) == 1 for either in allowed) > 0.6 * len(ticks)
    assert set(numbers) >= {i for i, (early, late) in enumerate(pairwise(times)) if late - early > 1 / 12}
    if suffix == "mkv":  # in mp4 with B-frames the length of the last frame is anybody's guess
        end = times[-1] + (times[-1] - times[-2])
        assert abs(len(numbers) - end * 25) <= 1


@pytest.mark.parametrize(
    "times_ms",
    [range(0, 480, 40), range(0, 480, 20), [0, 7, 18, 51, 264, 270, 311, 500], [0, 1000, 1001, 1002]],
    ids=["25 fps", "50 fps", "variable", "still, then fast"],
)
@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"), [("mkv", "ffv1", "bgr0"), ("mp4", "libx264", "yuv420p")]
)
def test_without_a_rate_every_picture_comes_once_in_the_order_of_showing(
    tmp_path, times_ms, suffix, codec, pixel_format
):
    path, times = tmp_path / f"a.{suffix}", [Fraction(ms, 1000) for ms in times_ms]
    write_video(path, times, Fraction(1, 1000), codec, pixel_format)
    assert [number_of(frame) for frame in read_frames(path, fps=None)] == list(range(len(times)))


def test_without_a_rate_a_part_is_what_begins_in_it(tmp_path):
    times = [Fraction(ms, 1000) for ms in (0, 30, 90, 100, 200, 210)]
    write_video(tmp_path / "a.mkv", times, Fraction(1, 1000))
    part = read_frames(tmp_path / "a.mkv", fps=None, start_s=0.09, end_s=0.2)
    assert [number_of(frame) for frame in part] == [2, 3]


def test_parts_are_slices_of_the_whole(tmp_path):
    write_video(tmp_path / "a.mkv", steady(24, Fraction(12)), Fraction(1, 12))
    whole = list(read_frames(tmp_path / "a.mkv"))
    part = list(read_frames(tmp_path / "a.mkv", start_s=0.4, end_s=1.2))
    np.testing.assert_array_equal(np.stack(part), np.stack(whole[10:30]))
    assert len(list(read_frames(tmp_path / "a.mkv", start_s=1.0, end_s=99.0))) == 25
    with pytest.raises(InputError, match=r"lasts 2\.000 s, frames from 2\.000 s on"):
        read_frames(tmp_path / "a.mkv", start_s=2.0)


def test_frames_are_fresh_arrays(tmp_path):
    """A repeated frame is a copy: drawing on one must not show on the next."""
    write_video(tmp_path / "a.mkv", steady(2, Fraction(5)), Fraction(1, 5))
    for frame in read_frames(tmp_path / "a.mkv"):
        assert frame.max() < 200
        frame[:] = 255


def test_a_late_first_picture_is_shown_from_the_beginning(tmp_path):
    """Sound from 0 s, pictures from 0.2 s: tick 0 belongs to the sound's beginning."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video, sound = (
            container.add_stream("ffv1", rate=25),
            container.add_stream("flac", rate=16_000, layout="mono"),
        )
        video.width = video.height = SIZE
        video.pix_fmt = "bgr0"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts, frame.time_base = index + 5, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert probe_video(tmp_path / "a.mkv").has_audio
    assert [number_of(frame) for frame in read_frames(tmp_path / "a.mkv")] == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_phone_videos_are_upright(tmp_path, rotation):
    """The display matrix says how far to turn the stored picture counter-clockwise."""
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:8, :16], picture[:8, 16:], picture[8:, :16] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        if rotation:
            stream.set_display_rotation(rotation)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (shown,) = read_frames(tmp_path / "a.mp4")
    np.testing.assert_array_equal(shown, np.rot90(picture, rotation // 90))
    info = probe_video(tmp_path / "a.mp4")
    assert (info.height_px, info.width_px) == shown.shape[:2]


# Studio-range YUV of one colour by hand: (Kr, Kb) of BT.601 and BT.709.
@pytest.mark.parametrize(
    ("tag", "full_range", "size", "weights"),
    [
        (5, False, 32, (0.299, 0.114)),
        (1, False, 32, (0.2126, 0.0722)),
        (1, True, 32, (0.2126, 0.0722)),
        (2, False, 32, (0.299, 0.114)),  # untagged and small: BT.601
        (2, False, 720, (0.2126, 0.0722)),  # untagged and large: BT.709
    ],
)
def test_colours_follow_the_tags(tmp_path, tag, full_range, size, weights):
    rgb = np.array([200.0, 80.0, 40.0]) / 255
    red, blue = weights
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma_b, chroma_r = (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)
    scale = (0, 255, 255) if full_range else (16, 219, 224)
    levels = [scale[0] + scale[1] * luma, 128 + scale[2] * chroma_b, 128 + scale[2] * chroma_r]
    planes = np.empty((size * 3 // 2, size), np.uint8)
    planes[:size], planes[size : size * 5 // 4], planes[size * 5 // 4 :] = np.round(levels)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 2 if full_range else 1
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.colorspace, frame.color_range = tag, 2 if full_range else 1
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (shown,) = read_frames(tmp_path / "a.mp4")
    assert np.abs(shown[size // 2, size // 2] - rgb * 255).max() <= 2


def test_an_animation_is_a_video(tmp_path):
    frames = [Image.fromarray(numbered(index)) for index in (1, 9, 20)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[40, 120, 80])
    info = probe_video(tmp_path / "a.gif")
    assert (info.frames, info.codec, info.variable_frame_rate) == (3, "gif", True)
    assert [number_of(frame) for frame in read_frames(tmp_path / "a.gif")] == [1, 9, 9, 9, 20, 20]


@pytest.mark.parametrize("name", ["-a b é 漢字.mkv", "with:colon.mkv", "no_suffix", "concat:x", "wrong.txt"])
def test_strange_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video("plain.mkv", steady(3, Fraction(25)), Fraction(1, 25))
    os.rename("plain.mkv", name)
    assert len(list(read_frames(name))) == 3


def _make_bad(folder, kind: str):
    path = folder / "bad.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("hello\n" * 500)
    elif kind == "text_with_the_name_of_text":  # FFmpeg would show the letters as a video
        path = folder / "bad.txt"
        path.write_text("hello\n" * 500)
    elif kind == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(9_000))
    elif kind == "still":
        Image.new("RGB", (64, 64)).save(path, format="PNG")
    elif kind == "script":  # would open another file
        write_video(folder / "other.mkv", steady(3, Fraction(25)), Fraction(1, 25))
        path.write_text("ffconcat version 1.0\nfile other.mkv\n")
    elif kind == "sound_only":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4_096), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    elif kind == "no_frames":
        whole = folder / "whole.avi"
        write_video(whole, steady(3, Fraction(25)), Fraction(1, 25), "mpeg4", "yuv420p")
        data = whole.read_bytes()
        frames_at = data.index(b"movi")  # keep all headers, drop every frame
        path.write_bytes(data[: frames_at - 8] + b"LIST" + struct.pack("<I", 4) + b"movi")
    elif kind == "no_decoder":
        write_video(path, steady(5, Fraction(25)), Fraction(1, 25), "libx264", "yuv420p")
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    elif kind == "damaged_inside":
        whole = folder / "whole.ts"
        write_video(whole, steady(50, Fraction(25)), Fraction(1, 25), "libx264", "yuv420p")
        data = bytearray(whole.read_bytes())
        pictures = [at for at in range(0, len(data), 188) if data[at + 1] & 0x1F == 1 and data[at + 2] == 0]
        data[pictures[len(pictures) // 2] + 1] |= 0x80  # "there is an error in this packet"
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("text", "cannot be read as a video"),
        ("text_with_the_name_of_text", "cannot be read as a video"),
        ("bytes", "cannot be read as a video"),
        ("still", "cannot be read as a video"),
        ("script", "cannot be read as a video"),
        ("sound_only", "has no pictures, only sound"),
        ("no_frames", "holds no whole frames|cannot be read"),
        ("no_decoder", "coded in a way that is not known here"),
        ("damaged_inside", r"is damaged behind \d\.\d\d s of pictures"),
    ],
)
def test_bad_files_are_one_line_at_the_call(tmp_path, kind, words):
    path = _make_bad(tmp_path, kind)
    for call in (probe_video, read_frames):
        with pytest.raises(InputError, match=words) as caught:
            call(path)
        assert "bad." in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "of"),
    [
        ("mkv", "ffv1", "bgr0", " of the 2.00 s that it says it has"),
        ("mp4", "libx264", "yuv420p", " of the 2.00 s that it says it has"),
        ("mov", "libx264", "yuv420p", " of the 2.00 s that it says it has"),
        ("webm", "libvpx-vp9", "yuv420p", " of the 2.00 s that it says it has"),
        ("avi", "mpeg4", "yuv420p", ""),
    ],
)
def test_what_is_whole_of_a_video_that_is_cut_short_is_read(tmp_path, suffix, codec, pixel_format, of):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    write_video(whole, steady(50, Fraction(25)), Fraction(1, 25), codec, pixel_format)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 9 // 10])
    with pytest.warns(MediaWarning, match=r"is cut short: (\d+) whole pictures") as said:
        frames = list(read_frames(cut))
    assert 35 < len(frames) < 50
    note = f"cut.{suffix}: is cut short: {len(frames)} whole pictures are read, {len(frames) / 25:.2f} s{of}."
    assert str(said[0].message).endswith(note)
    for frame, expected in zip(frames, read_frames(whole), strict=False):
        np.testing.assert_array_equal(frame, expected)
    assert probe_video(cut).frames == len(frames)


def test_one_torn_picture_at_the_end_costs_one(tmp_path):
    write_video(tmp_path / "a.mp4", steady(50, Fraction(25)), Fraction(1, 25), "libx264", "yuv420p")
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-3])
    with pytest.warns(MediaWarning, match=r"49 whole pictures are read, 1\.96 s of the 2\.00 s"):
        assert len(list(read_frames(tmp_path / "a.mp4"))) == 49
