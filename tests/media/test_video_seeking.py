"""`read_frames_at` and late starts of `read_frames`: the pictures of the whole, for less work."""

from fractions import Fraction

import av
import numpy as np
import pytest

from hallo4.media import read_frames, read_frames_at, video

FRAMES, SIZE_PX = 400, 32


def moving(index: int) -> np.ndarray:
    """Noise that drifts, so that every picture is told from its neighbours, also after encoding."""
    pattern = np.random.default_rng(3).integers(0, 256, (SIZE_PX, FRAMES + SIZE_PX, 1), np.uint8)
    return np.repeat(pattern[:, index : index + SIZE_PX], 3, axis=2)


def write(path, codec: str, options: dict[str, str], steps: list[int], encoder_rate: int = 30):
    """Pictures shown for `steps` thirtieths of a second each, over and over."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=encoder_rate, options=options)
        stream.width = stream.height = SIZE_PX
        stream.pix_fmt, stream.gop_size = "yuv420p", 60
        at = 0
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(moving(index), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 30)
            at += steps[index % len(steps)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(
    params=[
        ("a.mp4", "libx264", {"bf": "3"}, [1]),
        ("open.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1"}, [1]),
        ("uneven.mkv", "libx264", {}, [1, 2, 1, 3]),
        ("a.avi", "mpeg4", {}, [1]),
        ("a.ts", "libx264", {}, [1]),
        ("a.webm", "libvpx", {"deadline": "realtime"}, [1]),
        ("every.mkv", "ffv1", {}, [1]),
    ],
    ids=lambda kind: kind[0],
)
def film(request, tmp_path):
    name, codec, options, steps = request.param
    return write(tmp_path / name, codec, options, steps)


@pytest.fixture
def decoded(monkeypatch):
    """Grows by one with every frame that is decoded."""
    counted, frames = [], video._timed_frames

    def counting(container, stream):
        for found in frames(container, stream):
            counted.append(found)
            yield found

    monkeypatch.setattr(video, "_timed_frames", counting)
    return counted


def test_chosen_frames_are_those_of_the_whole(film):
    whole = list(read_frames(film, 25))
    rng = np.random.default_rng(0)
    some = rng.integers(0, len(whole), 12).tolist()
    for ticks in ([0], [len(whole) - 1], [3, 4, 250], [200, 70, 70], some):
        found = list(read_frames_at(film, ticks, 25))
        assert [number for number, _ in found] == sorted(set(ticks))
        for number, frame_u8 in found:
            np.testing.assert_array_equal(frame_u8, whole[number])
    assert list(read_frames_at(film, [10_000], 25)) == []
    assert list(read_frames_at(film, [], 25)) == []


def test_a_late_start_is_a_slice_of_the_whole(film):
    whole = list(read_frames(film, 25))
    for start in (1, 74, 130, 260):
        np.testing.assert_array_equal(list(read_frames(film, 25, start / 25)), whole[start:])


def test_what_is_far_away_is_not_decoded(tmp_path, decoded):
    film = write(tmp_path / "a.mp4", "libx264", {}, [1])
    assert len(list(read_frames_at(film, [5, 300], 25))) == 2
    assert len(decoded) < 140
    decoded.clear()
    next(iter(read_frames(film, 25, 12.5)))
    assert len(decoded) < 80


def test_a_file_that_does_not_begin_where_it_is_told_to_is_read_from_its_beginning(tmp_path, monkeypatch):
    """Here the picture that was sought is never found."""
    film = write(tmp_path / "a.mp4", "libx264", {}, [1])
    whole = list(read_frames(film, 25))
    monkeypatch.setattr(video._Probed, "begin_at", lambda probed, time: Fraction(301, 100))
    (found,) = read_frames_at(film, [200], 25)
    np.testing.assert_array_equal(found[1], whole[200])


def test_a_file_that_was_replaced_is_looked_at_again(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", {}, [1])
    assert video.probe_video(path).frames == FRAMES
    write(path, "libx264", {}, [2])
    assert video.probe_video(path).duration_s == pytest.approx(2 * FRAMES / 30, abs=0.1)
