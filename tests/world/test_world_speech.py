"""Speech: what is said is known to the phoneme."""

import sys

import numpy as np
import pytest

from hallo4.errors import MissingExtraError
from hallo4.world.identity import LANGUAGES
from hallo4.world.speech import SAMPLE_RATE_HZ, Voice, babble, monologue, say
from hallo4.world.visemes import REST, mouth_shapes
from hallo4.world.words import WORDS

SECONDS = 4.0


@pytest.fixture(scope="module", params=LANGUAGES)
def talk(request):
    """Four seconds of talk in each language."""
    voice = Voice(f"{request.param}+f2", words_per_minute=160, pitch=55, pitch_range=50)
    return monologue(np.random.default_rng(5), voice, WORDS[request.param], SECONDS)


def samples_of(talk, phonemes):
    edges = [(round(p.start_s * SAMPLE_RATE_HZ), round(p.end_s * SAMPLE_RATE_HZ)) for p in phonemes]
    return np.concatenate([talk.audio.samples[low:high] for low, high in edges])


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def test_phonemes_follow_each_other_without_gaps_and_fill_the_clip(talk):
    assert talk.phonemes[0].start_s == 0.0
    assert talk.phonemes[-1].end_s == SECONDS
    assert all(p.end_s > p.start_s for p in talk.phonemes)
    for before, after in zip(talk.phonemes[:-1], talk.phonemes[1:]):
        assert after.start_s == pytest.approx(before.end_s, abs=1e-6)
    assert talk.audio.sample_rate_hz == SAMPLE_RATE_HZ
    assert talk.audio.samples.shape == (SECONDS * SAMPLE_RATE_HZ,)
    assert talk.audio.samples.dtype == np.float32


@pytest.mark.parametrize("syllables_hz", [0.5, 3.0, 8.0])
def test_babble_keeps_its_beat(syllables_hz):
    """Lips close once in a period, at its beginning; no phoneme reaches into the next syllable."""
    babbled = babble(Voice("en-us+f2", 160, 55, 50), syllables_hz, SECONDS)
    starts = [p.start_s for p in babbled.phonemes if p.symbol == "m"]
    assert np.allclose(starts, np.arange(SECONDS * syllables_hz) / syllables_hz)
    assert len(babbled.audio.samples) == SECONDS * SAMPLE_RATE_HZ
    for before, after in zip(babbled.phonemes[:-1], babbled.phonemes[1:]):
        assert after.start_s == pytest.approx(before.end_s, abs=1e-6)
    sounding = samples_of(babbled, [p for p in babbled.phonemes if p.symbol])
    assert rms(sounding) > 0.05
    if syllables_hz < 1:
        assert not samples_of(babbled, [p for p in babbled.phonemes if not p.symbol]).any()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sound_of_every_language_has_a_mouth_shape(language):
    """All words of the vocabulary; a sound without a shape would close the mouth of a speaker."""
    spoken = say(" ".join(sorted(set(WORDS[language]))), Voice(f"{language}+m1", 200, 50, 50))
    symbols = {p.symbol for p in spoken.phonemes if p.symbol}
    assert len(symbols) > 20
    assert {s for s in symbols if mouth_shapes(s) == [REST] and not set(s) & set("mbp")} == set()
    assert not set("".join(symbols)) & set("ˈˌ "), "stress is no sound"


def test_phonemes_sound_and_silence_is_quiet(talk):
    spoken = [p for p in talk.phonemes if p.symbol]
    pauses = [p for p in talk.phonemes if not p.symbol]
    assert rms(samples_of(talk, spoken)) > 0.02
    assert rms(samples_of(talk, spoken)) > 4 * rms(samples_of(talk, pauses))
    assert np.abs(talk.audio.samples).max() <= 1.0


def test_no_word_is_cut_at_the_end(talk):
    last = max(p.end_s for p in talk.phonemes if p.symbol)
    assert last <= SECONDS - 0.08
    assert rms(talk.audio.samples[round((last + 0.02) * SAMPLE_RATE_HZ) :]) == 0.0


def test_a_clip_too_short_for_a_word_is_silence():
    talk = monologue(np.random.default_rng(0), Voice("en+f1", 160, 50, 50), WORDS["en"], 0.2)
    assert [(p.symbol, p.start_s, p.end_s) for p in talk.phonemes] == [("", 0.0, 0.2)]
    assert not talk.audio.samples.any()


def test_a_fast_voice_needs_less_time():
    slow, fast = (say("wonderful morning", Voice("en-us+m1", rate, 50, 50)) for rate in (120, 200))
    assert fast.audio.duration_s < 0.8 * slow.audio.duration_s
    assert [p.symbol for p in fast.phonemes if p.symbol] == [p.symbol for p in slow.phonemes if p.symbol]


def test_phonemes_lie_where_they_sound():
    """An s hisses: in it, far more of the energy is high than in the vowel after it."""
    talk = say("see", Voice("en-us+m1", 130, 40, 50))
    hiss, vowel = (p for p in talk.phonemes if p.symbol)

    def share_above_3_khz(phoneme):
        power = np.abs(np.fft.rfft(samples_of(talk, [phoneme]))) ** 2
        return power[len(power) * 3000 // (SAMPLE_RATE_HZ // 2) :].sum() / power.sum()

    assert (hiss.symbol, vowel.symbol[0]) == ("s", "i")
    assert share_above_3_khz(hiss) > 0.5 > 0.2 > share_above_3_khz(vowel)


def test_without_espeak_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hallo4\[world\]'"):
        say("hello", Voice("en-us+m1", 150, 50, 50))


def test_an_unknown_voice_is_named():
    with pytest.raises(ValueError, match="'xx-nowhere'"):
        say("hello", Voice("xx-nowhere", 150, 50, 50))
