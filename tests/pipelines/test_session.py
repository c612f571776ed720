import zlib

import numpy as np
import pytest

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
    assert np.array_equal(
        np.concatenate(list(again.windows(2))), np.concatenate([noise, window(1).frames_u8])
    )
    assert not again.discarded


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
