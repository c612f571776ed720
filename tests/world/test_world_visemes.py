"""From phonemes to the mouth: closed lips close, silence rests, loud speech is open."""

import numpy as np
import pytest

from hallo4.types import FPS
from hallo4.world.episode import act
from hallo4.world.speech import Phoneme
from hallo4.world.visemes import REST, mouth_curves, mouth_shapes, speaking_frames


def spell(*symbols_and_seconds):
    """spell(("a", 0.2), ("m", 0.1)) -> phonemes one after the other."""
    ends = np.cumsum([seconds for _, seconds in symbols_and_seconds])
    starts = [0.0, *ends[:-1]]
    return tuple(Phoneme(s, a, b) for (s, _), a, b in zip(symbols_and_seconds, starts, ends))


def held(symbol):
    """(open, wide) in the middle of a long sound."""
    opening, width = mouth_curves(spell((symbol, 0.6)), 15)
    return float(opening[7]), float(width[7])


def test_a_symbol_is_the_shapes_of_its_letters():
    assert mouth_shapes("") == mouth_shapes("ː") == [REST]
    assert mouth_shapes("aɪ") == [*mouth_shapes("a"), *mouth_shapes("ɪ")]
    assert mouth_shapes("ɑː") == mouth_shapes("ɑ")


def test_sounds_open_the_mouth_as_speakers_do():
    opening = {symbol: held(symbol)[0] for symbol in "ɑɛəisvm"}
    assert sorted(opening, key=opening.get, reverse=True) == list("ɑɛəisvm")
    assert opening["m"] == 0.0
    width = {symbol: held(symbol)[1] for symbol in "iəu"}
    assert width["i"] > width["ə"] > width["u"]


@pytest.mark.parametrize("lips", "mbp")
@pytest.mark.parametrize("length_s", [0.04, 0.08, 0.2])
def test_lips_touch_in_the_middle_of_m_b_and_p(lips, length_s):
    """Even when the sound is short and the vowels around it are wide open."""
    middle_s = 0.42  # the middle of frame 10
    vowel_s = middle_s - length_s / 2
    opening, _ = mouth_curves(spell(("ɑ", vowel_s), (lips, length_s), ("ɑ", 0.4)), 20)
    assert opening[10] < 0.1
    assert opening[4] > 0.95
    assert opening[16] > 0.95
    other, _ = mouth_curves(spell(("ɑ", vowel_s), ("d", length_s), ("ɑ", 0.4)), 20)
    assert other[10] > opening[10] + 0.15


def test_the_mouth_is_closed_in_silence():
    opening, width = mouth_curves(spell(("", 0.4), ("ɑ", 0.2), ("", 0.6)), 30)
    assert opening[:6].max() == opening[20:].max() == 0.0
    np.testing.assert_allclose(width[20:], REST[1], atol=1e-6)


def test_vigour_scales_the_opening_alone():
    words = spell(("h", 0.1), ("ə", 0.1), ("l", 0.1), ("oʊ", 0.2), ("m", 0.1), ("ɑ", 0.2))
    full, wide = mouth_curves(words, 20, vigour=1.0)
    half, same = mouth_curves(words, 20, vigour=0.5)
    np.testing.assert_allclose(half, 0.5 * full, atol=1e-6)
    np.testing.assert_array_equal(same, wide)


@pytest.mark.parametrize("frames", [1, 17, 40])
def test_curves_have_the_length_asked_for(frames):
    """Also where phonemes end early or late."""
    opening, width = mouth_curves(spell(("ɑ", 0.5), ("i", 0.5)), frames)
    for curve in (opening, width, speaking_frames(spell(("ɑ", 0.5), ("i", 0.5)), frames)):
        assert curve.shape == (frames,)
        assert curve.dtype == np.float32
        assert 0 <= curve.min() <= curve.max() <= 1


def test_a_sound_one_frame_later_moves_the_curves_by_one_frame():
    early = mouth_curves(spell(("", 0.24), ("oʊ", 0.16), ("b", 0.08), ("", 0.52)), 25)
    late = mouth_curves(spell(("", 0.28), ("oʊ", 0.16), ("b", 0.08), ("", 0.48)), 25)
    for before, after in zip(early, late):
        np.testing.assert_allclose(after[1:], before[:-1], atol=1e-6)


def test_speaking_is_the_share_of_a_frame_that_sounds():
    phonemes = spell(("", 0.06), ("ɑ", 0.04), ("s", 0.035), ("", 0.145))
    np.testing.assert_allclose(speaking_frames(phonemes, 7), [0, 0.5, 1, 0.375, 0, 0, 0], atol=1e-6)
    fine = np.arange(0, 0.28, 1e-4) + 5e-5  # an independent, slow way to say the same
    sounds = sum((p.start_s <= fine) & (fine < p.end_s) for p in phonemes if p.symbol)
    share = [np.mean(sounds[(fine >= t / FPS) & (fine < (t + 1) / FPS)]) for t in range(7)]
    np.testing.assert_allclose(speaking_frames(phonemes, 7), share, atol=1e-3)


@pytest.fixture(scope="module")
def speeches():
    """(speech, truth) of twelve people who speak."""
    acts = [act(seed, 3.0) for seed in range(20)]
    return [(speech, truth) for _, speech, _, truth in acts if len(speech.phonemes) > 1][:12]


def test_in_real_speech_lips_close_at_m_b_and_p(speeches):
    least = []
    for speech, truth in speeches:
        for p in speech.phonemes:
            if set(p.symbol) & set("mbp"):
                frame = int((p.start_s + p.end_s) / 2 * FPS)
                least.append(truth.mouth_open[max(frame - 1, 0) : frame + 2].min())
    assert len(least) > 20
    assert np.mean(np.array(least) < 0.1) > 0.75
    assert max(least) < 0.3  # the touch lasts 40 ms, which two frames may share


def test_in_real_speech_long_pauses_are_closed(speeches):
    checked = 0
    for speech, truth in speeches:
        for p in speech.phonemes:
            first, last = int(np.ceil((p.start_s + 0.1) * FPS)), int((p.end_s - 0.1) * FPS)
            if not p.symbol and last > first:
                assert truth.mouth_open[first:last].max() < 0.01
                assert truth.speaking[first:last].max() == 0.0
                checked += last - first
    assert checked > 50


def test_in_real_speech_loud_is_open(speeches):
    correlations = []
    for speech, truth in speeches:
        frames = speech.audio.samples.reshape(len(truth.mouth_open), -1)
        loudness = np.sqrt(np.square(frames).mean(1))
        correlations.append(np.corrcoef(loudness, truth.mouth_open)[0, 1])
    assert min(correlations) > 0.1
    assert np.mean(correlations) > 0.55
