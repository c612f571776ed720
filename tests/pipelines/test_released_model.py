"""A converted release, in small, makes videos: canvas, length, timing, prompts."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from tiny_releases import make_release

from hallo4.errors import InputError
from hallo4.media import VideoWriter, probe_video
from hallo4.media.audio import save_wav
from hallo4.pipelines import AnimationRequest, PortraitAnimator
from hallo4.pipelines.convert import convert_release
from hallo4.pipelines.job import Job
from hallo4.pipelines.progress import Reporter
from hallo4.types import Audio

SECONDS = 1.22  # 30.5 frames: two windows of 17, and a length that must be rounded
FRAMES = 30
ROUNDED_S = 0.002
"""Matroska rounds times to milliseconds: a tick so near to the beginning of a picture may show either."""


@pytest.fixture(scope="module")
def animator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        made = convert_release(
            make_release(folder / "pretrained"),
            folder / "model",
            canvas_sizes_px=((32, 48), (48, 32)),
            window_frames=17,
        )
        yield PortraitAnimator.from_pretrained(made.folder, "cpu")


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


@pytest.fixture
def speech(tmp_path):
    samples = 0.2 * np.sin(np.arange(round(SECONDS * 16000)) / 9).astype(np.float32)
    save_wav(tmp_path / "speech.wav", Audio(samples, 16000))
    return tmp_path / "speech.wav"


def level(number):
    """The red of frame `number` of a skeleton video."""
    return 60 + (40 * number) % 190


def drawing(number):
    """A red square in the middle of black."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[8:24, 16:32, 0] = level(number)
    return frame


def constant_rate(path, fps, seconds=2.0):
    with VideoWriter(path, 48, 32, fps=fps) as writer:
        for number in range(round(seconds * fps)):
            writer.write(drawing(number))
    return path, lambda time_s: max(0, round(time_s * fps - 1e-6))


def variable_rate(path):
    """Pictures of 1/50 s and 3/50 s in turns."""
    starts = np.cumsum([0] + [1, 3] * 30)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=50)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        stream.codec_context.time_base = Fraction(1, 50)
        for number, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(drawing(number), "rgb24")
            frame = frame.reformat(format="bgr0")
            frame.pts, frame.time_base = int(start), Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path, lambda time_s: int(np.searchsorted(starts, time_s * 50 + 1e-6, side="right") - 1)


SKELETONS = {
    "24": lambda folder: constant_rate(folder / "s.mkv", 24),
    "25": lambda folder: constant_rate(folder / "s.mkv", 25),
    "29.97": lambda folder: constant_rate(folder / "s.mkv", Fraction(30000, 1001)),
    "variable": lambda folder: variable_rate(folder / "s.mkv"),
}


@pytest.mark.parametrize("rate", SKELETONS)
def test_the_video_is_as_long_as_the_sound_and_follows_the_skeleton_at_any_rate(
    animator, picture, speech, tmp_path, rate
):
    motion, shown_at = SKELETONS[rate](tmp_path)
    result = animator.animate(picture, speech, motion, tmp_path / "out.mkv", steps=1, seed=3)
    info = probe_video(tmp_path / "out.mkv")
    assert (result.frames, info.frames, info.fps) == (FRAMES, FRAMES, 25.0)
    assert (info.width_px, info.height_px) == (35, 32), "56x50 fitted to 32 rows, without the bars"
    job = Job(animator.model, AnimationRequest(picture, speech, motion), Reporter(), lambda image: None)
    for window in job.plan():
        drawn = job.skeleton_pm1(window)[:, 0, 16, 24]
        seen = np.round((drawn.numpy() + 1) * 127.5).astype(int)
        for frame, red in zip(np.minimum(job.indices(window), FRAMES - 1), seen, strict=True):
            around = (frame / 25 - ROUNDED_S, frame / 25 + ROUNDED_S)
            assert red in {level(shown_at(max(0.0, time_s))) for time_s in around}


def test_the_upright_canvas_is_taken_for_an_upright_picture(animator, speech, tmp_path):
    picture = np.zeros((96, 60, 3), np.uint8)
    result = animator.animate(picture, speech, None, tmp_path / "out.mkv", steps=1)
    info = probe_video(tmp_path / "out.mkv")
    assert (info.width_px, info.height_px) == (30, 48)
    assert any("60x96 -> video 30x48" in note and "bars" in note for note in result.notes)


def test_prompts_are_the_models_own_unless_given(animator, picture, speech):
    def texts(**given):
        request = AnimationRequest(picture, speech, **given)
        return Job(animator.model, request, Reporter(), lambda image: None).texts

    own, other = texts(), texts(prompt="piece3 piece4")
    assert own[0].shape[1] != other[0].shape[1] or not np.array_equal(own[0], other[0])
    assert np.array_equal(own[1], other[1]), "the negative prompt stays"
    again = texts(prompt=animator.model.info.prompt)
    assert np.array_equal(own[0], again[0])


def test_the_same_seed_gives_the_same_video_and_all_windows_the_same_noise(animator, picture, speech):
    def frames(seed):
        return np.concatenate(list(animator.frames(picture, speech, None, seed=seed, steps=1)))

    first = frames(1)
    assert np.array_equal(first, frames(1))
    assert not np.array_equal(first, frames(2))
    assert animator.model.info.window_noise == "shared"
    assert animator.model.info.known_frames_as == "float"


def test_a_model_without_text_refuses_a_prompt():
    tiny = PortraitAnimator.from_pretrained("tiny-dit")
    silence = Audio(np.zeros(1600, np.float32), 16000)
    with pytest.raises(InputError, match="takes no text, but a negative prompt was given"):
        next(tiny.frames(np.zeros((64, 64, 3), np.uint8), silence, negative_prompt="blurred"))
