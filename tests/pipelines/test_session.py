import zlib

import numpy as np
import pytest
import torch

from hallo4.errors import OutputError
from hallo4.media import SpooledSound
from hallo4.pipelines.frames import WindowFrames
from hallo4.pipelines.session import WorkFolder, fingerprint, partial_video_path


def window(value, known_pm1=None):
    return WindowFrames(np.full((3, 8, 6, 3), value, np.uint8), known_pm1)


def test_windows_come_back_bit_for_bit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)
    work = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    work.save(0, WindowFrames(noise, None))
    work.save(1, window(1))
    again = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    assert again.finished() == 2
    kept = list(again.windows_in_no_part())
    assert np.array_equal(np.concatenate(kept), np.concatenate([noise, window(1).frames_u8]))
    assert not again.discarded


def test_what_the_next_window_is_conditioned_on_comes_back_as_the_same_floats(tmp_path):
    known = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    work = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    assert work.known(0) is None
    work.save(0, window(1, known.movedim(0, 1).contiguous().movedim(0, 1)))
    again = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    assert torch.equal(again.known(0), known)
    again.save(1, window(2, known + 1))
    assert again.known(0) is None, "only the last is kept"
    assert torch.equal(again.known(1), known + 1)
    next(again.path.glob("known_*")).write_bytes(b"torn")
    with pytest.raises(OutputError, match="no-resume"):
        again.known(1)


@pytest.mark.parametrize(("request_hash", "resume"), [("other", True), ("request", False)])
def test_another_request_or_no_resume_starts_afresh(tmp_path, request_hash, resume):
    WorkFolder(tmp_path / "out.mp4", "request", 8, 6).save(0, window(1))
    work = WorkFolder(tmp_path / "out.mp4", request_hash, 8, 6, resume)
    assert work.finished() == 0
    assert work.discarded
    assert not any(work.path.glob("window*"))


def test_a_window_written_by_half_is_not_finished(tmp_path):
    work = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    work.save(0, window(1))
    (work.path / "window_000001.rgb.writing").write_bytes(b"half")
    assert work.finished() == 1


def test_a_gap_ends_what_is_finished(tmp_path):
    work = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    work.save(0, window(1))
    work.save(2, window(3))
    assert work.finished() == 1


def test_a_damaged_window_is_said(tmp_path):
    work = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    work.save(0, window(1))
    file = next(work.path.glob("window*"))
    file.write_bytes(zlib.compress(b"\0" * 100))
    with pytest.raises(OutputError, match="no-resume"):
        work.load(0)


def keep_mean(made):
    """An encoder of parts that writes what it was given as text, and tells `made`."""

    def encode(path, windows):
        values = [int(frames.mean()) for frames in windows]
        path.write_text(" ".join(map(str, values)))
        made.append((path.name, values))

    return encode


def test_windows_become_parts_once_and_their_frames_go(tmp_path):
    work, made = WorkFolder(tmp_path / "out.mp4", "request", 8, 6), []
    for index in range(3):
        work.save(index, window(index))
    work.close_part(keep_mean(made))
    assert not any(work.path.glob("window*"))
    work.save(3, window(3))
    again = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    assert (again.finished(), again.in_parts()) == (4, 3)
    again.close_part(keep_mean(made))
    again.close_part(keep_mean(made))
    assert made == [("part_000003.mp4", [0, 1, 2]), ("part_000004.mp4", [3])]
    assert [part.read_text() for part in again.parts()] == ["0 1 2", "3"]


def test_a_kill_between_a_part_and_the_removal_of_its_frames_does_no_harm(tmp_path):
    work, made = WorkFolder(tmp_path / "out.mp4", "request", 8, 6), []
    work.save(0, window(0))
    frames = next(work.path.glob("window*"))
    packed = frames.read_bytes()
    work.close_part(keep_mean(made))
    frames.write_bytes(packed)
    again = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    assert again.finished() == 1
    again.save(1, window(1))
    again.close_part(keep_mean(made))
    assert [values for _, values in made] == [[0], [1]]


def test_an_interrupted_part_is_made_again(tmp_path):
    work, made = WorkFolder(tmp_path / "out.mp4", "request", 8, 6), []
    work.save(0, window(5))

    def stopped(path, windows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.close_part(stopped)
    assert work.finished() == 1
    work.close_part(keep_mean(made))
    assert made == [("part_000001.mp4", [5])]


def test_a_finished_video_leaves_nothing(tmp_path):
    work = WorkFolder(tmp_path / "out.mp4", "request", 8, 6)
    work.save(0, window(1))
    work.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_partial_video_has_its_own_name(tmp_path):
    assert partial_video_path(tmp_path / "talk.v2.mp4") == tmp_path / "talk.v2.partial.mp4"


def test_a_fingerprint_sees_values_files_shapes_and_names(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    base = {"a": 1, "x": np.zeros((2, 3), np.uint8), "f": file}
    first = fingerprint(base)
    assert first == fingerprint(dict(reversed(base.items())))
    changed = [
        base | {"a": 2},
        base | {"x": np.zeros((3, 2), np.uint8)},
        base | {"x": np.ones((2, 3), np.uint8)},
        {"b": 1, "x": base["x"], "f": file},
    ]
    assert len({first, *map(fingerprint, changed)}) == 5
    file.write_bytes(b"abd")
    assert fingerprint(base) != first


def test_a_fingerprint_of_sound_is_of_its_rate_and_samples_wherever_they_are():
    samples = np.random.default_rng(0).normal(0, 0.1, 300_000).astype(np.float32)
    first = fingerprint({"sound": SpooledSound([samples], 16000)})
    assert first == fingerprint({"sound": SpooledSound(np.split(samples, 3), 16000)})
    late = samples.copy()
    late[-1] += 0.1
    others = [
        SpooledSound([late], 16000),
        SpooledSound([samples], 48000),
        SpooledSound([samples[:-1]], 16000),
    ]
    assert len({first, *(fingerprint({"sound": other}) for other in others)}) == 4
