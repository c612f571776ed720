"""A video that is put together from parts, as `VideoWriter.append` does it."""

from itertools import pairwise

import av
import numpy as np
import pytest
from test_video_writing import SOUNDING, read_animation, smooth_frames, write

from hallo4.errors import InputError
from hallo4.media import (
    VIDEO_SUFFIXES,
    VideoWriter,
    load_audio,
    provenance_record,
    read_frames,
    read_provenance,
)
from hallo4.media.encoder import part_suffix
from hallo4.types import Audio


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_parts_play_one_after_the_other_as_they_are(tmp_path, suffix):
    """Frames, times and sound of a video that was made in parts, also of one with fewer frames than a codec
    looks ahead."""
    frames, parts, sizes = smooth_frames(40), [], (17, 3, 20)
    starts = np.cumsum([0, *sizes])
    for number, (start, end) in enumerate(pairwise(starts)):
        parts.append(tmp_path / f"part_{number}{part_suffix(suffix)}")
        write(parts[-1], frames[start:end])
    hum = Audio(0.3 * np.sin(np.arange(16000 * 3) / 8).astype(np.float32), 16000)
    sound = hum if suffix in SOUNDING else None
    made = [tmp_path / f"{name}{suffix}" for name in ("first", "again")]
    for path in made:
        with VideoWriter(path, 96, 64, audio=sound, provenance=provenance_record("m", "1", 2)) as writer:
            for part in parts:
                writer.append(part)
        assert writer.finish().frames == 40
    assert made[0].read_bytes() == made[1].read_bytes()
    assert read_provenance(made[0])["seed"] == "2"
    if suffix in SOUNDING:
        of_parts = np.concatenate([np.stack(list(read_frames(part))) for part in parts])
        assert np.array_equal(np.stack(list(read_frames(made[0]))), of_parts)
        with av.open(str(made[0])) as container:
            times_s = [float(frame.time) for frame in container.decode(video=0)]
        assert times_s == pytest.approx(np.arange(40) / 25, abs=1e-6)
        assert load_audio(made[0]).duration_s == pytest.approx(40 / 25, abs=0.03)
    else:
        whole = tmp_path / f"whole{suffix}"
        write(whole, frames)
        assert np.array_equal(read_animation(made[0])[0], read_animation(whole)[0])


def test_a_damaged_part_is_an_error_and_leaves_nothing(tmp_path):
    part = tmp_path / "part.mp4"
    write(part, smooth_frames(5))
    part.write_bytes(part.read_bytes()[:200])
    with (
        pytest.raises(InputError, match="part of a video"),
        VideoWriter(tmp_path / "o.mp4", 96, 64) as writer,
    ):
        writer.append(part)
    assert [path.name for path in tmp_path.iterdir()] == ["part.mp4"]
