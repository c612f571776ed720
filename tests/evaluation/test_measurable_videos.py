"""What is too long or too large to be measured as one clip is refused before anything is decoded."""

from dataclasses import replace

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.evaluation.look import video
from hallo4.media import VideoWriter


@pytest.fixture
def clip(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 64, 48) as writer:
        for level in (0, 90, 180):
            writer.write(np.full((48, 64, 3), level, np.uint8))
    return tmp_path / "a.mp4"


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({"width_px": 4097, "height_px": 4096}, "has frames of 4097x4096; .* Scale it down"),
        ({"duration_s": 1800.1}, "lasts 1800 s; .* at most 1800 s. Cut it into clips"),
    ],
)
def test_beyond_the_limits_it_is_one_line(clip, monkeypatch, what, found):
    large = replace(video.probe_video(clip), **what)
    monkeypatch.setattr(video, "probe_video", lambda path: large)
    with pytest.raises(InputError, match=found):
        video.look_at(clip, tools=None)


def test_at_the_limits_it_is_measured(clip):
    video._check_measurable(clip, replace(video.probe_video(clip), width_px=4096, height_px=4096))
    video._check_measurable(clip, replace(video.probe_video(clip), duration_s=1800.0))
