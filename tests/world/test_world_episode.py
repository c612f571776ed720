"""Episodes: one seed, one clip; all parts agree in length and content."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.world import act, make_episode
from hallo4.world.episode import draw_clip
from hallo4.world.framing import square

CHECKSUM = """
import hashlib
from hallo4.world import make_episode
episode = make_episode(12, seconds=0.6, size_px=64)
parts = (episode.portrait_u8, episode.frames_u8, episode.audio.samples, episode.skeleton.points_px)
curves = [getattr(episode.truth, name) for name in ("mouth_open", "blink", "brow", "smile")]
words = repr((episode.identity, episode.phonemes)).encode()
print(hashlib.sha256(words + b"".join(part.tobytes() for part in (*parts, *curves))).hexdigest())
"""


def test_an_episode_comes_from_its_seed_in_every_process():
    runs = [subprocess.run([sys.executable, "-c", CHECKSUM], capture_output=True, check=True) for _ in "ab"]
    assert len(runs[0].stdout) > 64
    assert runs[0].stdout == runs[1].stdout


def test_an_episode_does_not_depend_on_those_made_before():
    first = act(7, 3.0)[1]
    act(3, 3.0)
    again = act(7, 3.0)[1]
    assert again.phonemes == first.phonemes
    np.testing.assert_array_equal(again.audio.samples, first.audio.samples)


def test_another_seed_is_another_person_speech_and_motion():
    (who, said, motion, _), (other, spoken, moved, _) = act(7, 1.0), act(8, 1.0)
    assert who != other
    assert np.abs(said.audio.samples - spoken.audio.samples).max() > 0.01
    assert np.abs(motion.yaw - moved.yaw).max() > 0.01


def test_all_parts_are_of_one_length(episode):
    frames, size = 40, 96
    assert episode.frames_u8.shape == (frames, size, size, 3)
    assert episode.portrait_u8.shape == (size, size, 3)
    assert episode.frames_u8.dtype == episode.portrait_u8.dtype == np.uint8
    assert len(episode.skeleton) == len(episode.performance) == frames
    assert len(episode.rest) == 1
    assert (episode.audio.sample_rate_hz, episode.audio.samples.shape) == (22050, (frames * 882,))
    assert episode.phonemes[-1].end_s == pytest.approx(frames / 25)
    for curve in vars(episode.truth).values():
        assert curve.shape == (frames,)
        assert curve.dtype == np.float32


def test_the_truth_is_what_was_acted(episode):
    for name in ("mouth_open", "mouth_wide", "blink", "brow", "smile"):
        np.testing.assert_array_equal(getattr(episode.truth, name), getattr(episode.performance, name))
    assert episode.truth.mouth_open.max() > 0.3
    assert episode.truth.mouth_open.max() <= episode.identity.vigour
    inner = episode.skeleton.points_px[:, [85, 89]]
    gap = np.linalg.norm(inner[:, 1] - inner[:, 0], axis=-1)
    assert np.corrcoef(gap, episode.truth.mouth_open)[0, 1] > 0.99


def test_the_portrait_is_the_person_at_rest(episode):
    mouth = episode.rest.points_px[0, layout.MOUTH]
    np.testing.assert_allclose(mouth[12:][2], mouth[12:][6], atol=1e-4)  # inner lips touch
    lids = episode.rest.points_px[0, layout.LEFT_EYE_LIDS]
    assert lids[5, 1] - lids[1, 1] > 4
    assert np.abs(episode.portrait_u8.astype(int) - episode.frames_u8[0]).mean() < 40
    assert (episode.portrait_u8 != episode.frames_u8[0]).any()


def test_a_part_of_a_clip_is_that_part_of_the_whole(episode):
    span = slice(10, 14)
    portrait, frames = draw_clip(episode.identity, episode.performance, span, square(96))
    np.testing.assert_array_equal(portrait, episode.portrait_u8)
    np.testing.assert_array_equal(frames, episode.frames_u8[span])


def test_some_people_just_listen():
    silent = []
    for seed in range(60):
        _, speech, _, truth = act(seed, 1.5)
        if not speech.audio.samples.any():
            silent.append(seed)
            assert not truth.mouth_open.any()
            assert not truth.speaking.any()
            assert not any(p.symbol for p in speech.phonemes)
    assert 1 <= len(silent) <= 12


@pytest.mark.parametrize(("seconds", "frames"), [(0.04, 1), (0.5, 12), (1.03, 26)])
def test_the_length_is_the_nearest_whole_frame(seconds, frames):
    _, speech, performance, truth = act(1, seconds)
    assert len(performance) == len(truth.blink) == frames
    assert len(speech.audio.samples) == frames * 882


@pytest.mark.parametrize(
    ("arguments", "found", "allowed"),
    [
        ({"size_px": 63}, "63", "64 to 1024"),
        ({"size_px": 1025}, "1025", "64 to 1024"),
        ({"seconds": 0.0}, "0.0", "0.04 to 600"),
        ({"seconds": 601.0}, "601", "0.04 to 600"),
        ({"seconds": float("nan")}, "nan", "0.04 to 600"),
        ({"seed": -1}, "-1", "not negative"),
        ({"tempo": 0.5}, "0.5", "1 to 8"),
        ({"tempo": 9.0}, "9", "1 to 8"),
    ],
)
def test_values_out_of_range_are_named(arguments, found, allowed):
    with pytest.raises(InputError) as error:
        make_episode(**{"seed": 0, "seconds": 0.2, "size_px": 64, **arguments})
    assert found in str(error.value)
    assert allowed in str(error.value)
    assert "\n" not in str(error.value)


def test_at_another_tempo_the_same_person_says_the_same_and_moves_faster():
    calm, fast = (make_episode(4, 1.2, 64, tempo) for tempo in (1.0, 4.0))
    assert np.array_equal(calm.portrait_u8, fast.portrait_u8)
    assert np.array_equal(calm.audio.samples, fast.audio.samples)
    for f in fields(calm.truth):
        assert np.array_equal(getattr(calm.truth, f.name), getattr(fast.truth, f.name)), f.name
    speed_calm, speed_fast = (
        np.abs(np.diff(e.skeleton.points_px[:, layout.BODY], axis=0)).mean() for e in (calm, fast)
    )
    assert speed_fast > 2 * speed_calm
    assert not np.array_equal(calm.frames_u8, fast.frames_u8)
