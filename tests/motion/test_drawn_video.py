"""Drawn skeletons and filmed videos: told apart by black, and by the colours on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hallo4.media import VideoWriter
from hallo4.motion import default_rest_pose, draw_skeleton, idle_motion, looks_like_skeleton_video
from hallo4.motion.drawn_video import anything_drawn

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared/cases"


def video(path, frames, fps=25.0):
    height_px, width_px = frames[0].shape[:2]
    with VideoWriter(path, width_px, height_px, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("size_px", [64, 128, 256, 512])
def test_drawn_skeletons_of_every_size_are_recognised(tmp_path, size_px):
    drawn = draw_skeleton(idle_motion(default_rest_pose(size_px, size_px), 3, 0), size_px, size_px)
    look = looks_like_skeleton_video(video(tmp_path / "s.mp4", list(drawn)))
    assert look
    assert look.black > 0.85


@pytest.mark.parametrize("brightness", [1.0, 0.5, 0.3, 0.2, 0.15])
def test_pictures_of_a_person_are_not_however_dark(tmp_path, brightness):
    portrait = np.asarray(Image.open(ROOT / "demo/portrait.png").convert("RGB"))
    frames = [(portrait * brightness).astype(np.uint8)] * 3
    look = looks_like_skeleton_video(video(tmp_path / "p.mp4", frames))
    assert not look
    assert not look.empty
    assert "of its picture is not black" in str(look)


def test_a_skeleton_on_white_or_over_a_film_is_none(tmp_path):
    drawn = draw_skeleton(default_rest_pose(128, 128), 128, 128)[0]
    portrait = np.asarray(Image.open(ROOT / "demo/portrait.png").convert("RGB").resize((128, 128)))
    lines = drawn.max(axis=-1, keepdims=True) > 40
    for ground in (np.full_like(drawn, 255), portrait):
        assert not looks_like_skeleton_video(video(tmp_path / "o.mp4", [np.where(lines, drawn, ground)]))


def test_frames_without_a_drawing_do_not_count_and_black_is_empty(tmp_path):
    drawn = draw_skeleton(default_rest_pose(64, 64), 64, 64)[0]
    black = np.zeros_like(drawn)
    assert looks_like_skeleton_video(video(tmp_path / "late.mp4", [black, black, drawn], fps=1.0))
    look = looks_like_skeleton_video(video(tmp_path / "black.mp4", [black] * 3))
    assert look.empty
    assert not look
    assert anything_drawn(drawn)
    assert not anything_drawn(black)


@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of cases is not beside the repository")
def test_the_filmed_video_of_a_user_is_told_from_a_skeleton_of_another_tool():
    filmed = looks_like_skeleton_video(CASES / "real-video-as-motion/driving.mp4")
    assert not filmed
    assert filmed.black < 0.01
    assert looks_like_skeleton_video(CASES / "mirrored-display-matrix/selfie_skeleton.mp4")
