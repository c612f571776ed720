from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image

from hallo4.errors import InputError
from hallo4.media import MediaWarning, load_audio
from hallo4.pipelines.conditions import (
    prepare_audio,
    prepare_feature_sound,
    prepare_portrait,
)
from hallo4.types import Audio


def test_an_array_a_file_and_a_pil_image_are_the_same_portrait(portrait_u8, tmp_path):
    Image.fromarray(portrait_u8).save(tmp_path / "p.png")
    portraits = [
        prepare_portrait(image, 64)[0].pixels_u8
        for image in (portrait_u8, tmp_path / "p.png", Image.open(tmp_path / "p.png"))
    ]
    assert portraits[0].shape == (64, 64, 3)
    assert all(np.array_equal(portraits[0], other) for other in portraits[1:])


def test_the_size_is_said_unless_it_stays(portrait_u8):
    assert prepare_portrait(np.zeros((64, 64, 3), np.uint8), 64)[1] == []
    (note,) = prepare_portrait(np.zeros((100, 230, 3), np.uint8), 64)[1]
    assert "230x100" in note


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_other_arrays_are_refused(shape):
    with pytest.raises(InputError, match="RGB"):
        prepare_portrait(np.zeros(shape, np.uint8), 64)
    with pytest.raises(InputError, match="float"):
        prepare_portrait(np.zeros((8, 8, 3)), 64)


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros((2, 9)), np.array([0.0, np.nan]), np.array([np.inf])]
)
def test_impossible_sound_is_refused(samples):
    with pytest.raises(InputError):
        prepare_audio(Audio(samples, 16000))


def test_a_front_end_takes_the_samples_of_the_file_or_those_of_the_video(tmp_path):
    """A 16 kHz file reaches a front end at 16 kHz untouched unless it goes by the sound of the video."""
    samples = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    video, notes = prepare_audio(path)
    assert (video.sample_rate_hz, len(video), notes) == (48_000, 60_000, [])
    direct = SimpleNamespace(sample_rate_hz=16_000, from_video_sound=False)
    through = SimpleNamespace(sample_rate_hz=16_000, from_video_sound=True)
    np.testing.assert_array_equal(prepare_feature_sound(path, video, direct).read(0, 20_000), samples)
    expected = soxr.resample(load_audio(path, 48_000).samples, 48_000, 16_000)
    np.testing.assert_array_equal(prepare_feature_sound(path, video, through).read(0, 20_000), expected)
    assert (expected != samples).any()
    in_memory, _ = prepare_audio(Audio(samples.astype(np.float64), 16_000))
    for front_end in (direct, through):
        np.testing.assert_array_equal(
            prepare_feature_sound(in_memory, in_memory, front_end).read(0, 20_000), samples
        )


def test_loud_sound_is_noted_once(tmp_path, recwarn):
    soundfile.write(tmp_path / "a.wav", np.full(999, 3.0, np.float32), 16_000, subtype="FLOAT")
    video, notes = prepare_audio(tmp_path / "a.wav")
    assert len(notes) == 1
    assert "louder than full scale" in notes[0]
    prepare_feature_sound(
        tmp_path / "a.wav", video, SimpleNamespace(sample_rate_hz=16_000, from_video_sound=False)
    )
    assert not [warning for warning in recwarn if issubclass(warning.category, MediaWarning)]


def test_an_opened_picture_is_read_as_its_file_is(tmp_path):
    """Orientation, transparency and depth of a PIL image count as they do in a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 7  # mirrored and turned
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    by_file, _ = prepare_portrait(tmp_path / "a.png", 32)
    opened, _ = prepare_portrait(Image.open(tmp_path / "a.png"), 32)
    assert (opened.image_width_px, opened.image_height_px) == (40, 56)
    assert np.array_equal(opened.pixels_u8, by_file.pixels_u8)
