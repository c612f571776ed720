"""Speech with known phoneme timing, spoken by espeak-ng's formant voices.

The library comes with the optional `espeakng-loader` wheel; its C interface returns 16-bit samples at
22,050 Hz and one event per phoneme (IPA, start in milliseconds). espeak-ng keeps state between sentences
(flutter, noise) that no call resets, so each sentence is spoken by a library that was just loaded: the same
words sound the same in every process and order.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
from dataclasses import dataclass, replace

import numpy as np

from hallo4.errors import MissingExtraError
from hallo4.types import Audio

SAMPLE_RATE_HZ = 22050

_SYNCHRONOUS, _PHONEME_EVENTS_AS_IPA, _UTF8 = 2, 0b11, 1
_DONT_EXIT = 1 << 15  # a failure to start is answered; without it the library ends the whole program
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_PHONEME_EVENT, _END_OF_LIST = 7, 0


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice: `name` such as "en-us+f3", words per minute, pitch and pitch range in 0..100."""

    name: str
    words_per_minute: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Phoneme:
    """An IPA `symbol` that sounds from `start_s` to `end_s`; the empty symbol is silence."""

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """Sound and the phonemes in it, in order and without gaps in time."""

    audio: Audio
    phonemes: tuple[Phoneme, ...]


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


_unload = _ctypes.FreeLibrary if os.name == "nt" else _ctypes.dlclose


class _Synthesizer:
    """The freshly loaded library; collects what the callback delivers during one synchronous call."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise MissingExtraError(
                "the portrait world speaks with espeak-ng, which is not installed; "
                "run: pip install 'hallo4[world]'"
            ) from error
        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._lib.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        data = espeakng_loader.get_data_path().encode()
        rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS_AS_IPA | _DONT_EXIT)
        if rate != SAMPLE_RATE_HZ:
            raise MissingExtraError(
                f"espeak-ng did not start (it answered {rate}, expected {SAMPLE_RATE_HZ}); "
                "reinstall it: pip install --force-reinstall espeakng-loader"
            )
        self._callback = _Callback(self._collect)  # kept alive: the library holds only the address
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(1))

    def close(self) -> None:
        """Unload the library, and with it all that it remembers."""
        self._lib.espeak_Terminate()
        _unload(self._lib._handle)

    def _collect(self, wav: object, count: int, events: object) -> int:
        if wav and count > 0:
            self._chunks.append(np.ctypeslib.as_array(wav, (count,)).copy())
        i = 0
        while events[i].type != _END_OF_LIST:
            if events[i].type == _PHONEME_EVENT:
                symbol = bytes(events[i].id.string).decode("utf-8", "ignore")
                self._events.append((events[i].audio_position_ms / 1000.0, symbol))
            i += 1
        return 0

    def say(self, text: str, voice: Voice) -> tuple[np.ndarray, list[tuple[float, str]]]:
        """Samples [S] float32 in [-1, 1] and (start_s, symbol) of each phoneme."""
        self._chunks: list[np.ndarray] = []
        self._events: list[tuple[float, str]] = []
        if self._lib.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.name!r}")
        for parameter, value in (
            (_RATE, voice.words_per_minute), (_PITCH, voice.pitch), (_PITCH_RANGE, voice.pitch_range),
        ):  # fmt: skip
            self._lib.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        self._lib.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        samples = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
        return samples.astype(np.float32) / 32768.0, self._events


def say(text: str, voice: Voice) -> Speech:
    """Speak `text`; silence before, between and after words has the empty symbol."""
    synthesizer = _Synthesizer()
    try:
        samples, events = synthesizer.say(text, voice)
    finally:
        synthesizer.close()
    end_s = len(samples) / SAMPLE_RATE_HZ
    starts = [start for start, _ in events] + [end_s]
    phonemes = [
        Phoneme(symbol.strip("ˈˌ "), start, min(max(start, starts[i + 1]), end_s))
        for i, (start, symbol) in enumerate(events)
    ]
    if phonemes and phonemes[0].start_s > 0:
        phonemes.insert(0, Phoneme("", 0.0, phonemes[0].start_s))
    return Speech(Audio(samples, SAMPLE_RATE_HZ), tuple(p for p in phonemes if p.end_s > p.start_s))


def monologue(
    rng: np.random.Generator,
    voice: Voice,
    words: tuple[str, ...],
    seconds: float,
    pause_s: tuple[float, float] = (0.3, 0.9),
) -> Speech:
    """Phrases of random `words` with pauses between them, exactly `seconds` long.

    A phrase that would not fit is replaced by silence, so speech is never cut in the middle of a word.
    """
    total = round(seconds * SAMPLE_RATE_HZ)
    samples = np.zeros(total, np.float32)
    phonemes: list[Phoneme] = []
    cursor_s = float(rng.uniform(0.1, 0.45))
    misfits = 0
    while cursor_s < seconds - 0.3 and misfits < 6:
        phrase = " ".join(rng.choice(words, size=max(1, int(rng.integers(2, 7)) - misfits)))
        speech = say(phrase, voice)
        sound = _trim(speech)
        length_s = len(sound.audio.samples) / SAMPLE_RATE_HZ
        if cursor_s + length_s > seconds - 0.08:
            misfits += 1
            continue
        start = round(cursor_s * SAMPLE_RATE_HZ)
        samples[start : start + len(sound.audio.samples)] = sound.audio.samples[: total - start]
        phonemes += [Phoneme(p.symbol, p.start_s + cursor_s, p.end_s + cursor_s) for p in sound.phonemes]
        cursor_s += length_s + float(rng.uniform(*pause_s))
    return Speech(Audio(samples, SAMPLE_RATE_HZ), _fill_silence(phonemes, seconds))


def babble(voice: Voice, syllables_hz: float, seconds: float) -> Speech:
    """ "ma" again and again, one syllable every 1/`syllables_hz` seconds, exactly `seconds` long.

    Each is spoken at the slowest rate, of the voice's own and faster ones, at which it fits; between slow
    ones there is silence, and one that never fits is cut at its end.
    """
    period_s = 1.0 / syllables_hz
    for words_per_minute in range(voice.words_per_minute, 451, 25):
        syllable = _trim(say("ma", replace(voice, words_per_minute=words_per_minute)))
        if len(syllable.audio.samples) <= period_s * SAMPLE_RATE_HZ:
            break
    total = round(seconds * SAMPLE_RATE_HZ)
    samples = np.zeros(total, np.float32)
    phonemes: list[Phoneme] = []
    for number in range(int(np.ceil(seconds * syllables_hz))):
        start_s, stop_s = number * period_s, min((number + 1) * period_s, seconds)
        start, stop = round(start_s * SAMPLE_RATE_HZ), min(round(stop_s * SAMPLE_RATE_HZ), total)
        sound = syllable.audio.samples[: stop - start]
        samples[start : start + len(sound)] = sound
        moved = (Phoneme(p.symbol, p.start_s + start_s, p.end_s + start_s) for p in syllable.phonemes)
        phonemes += [Phoneme(p.symbol, p.start_s, min(p.end_s, stop_s)) for p in moved if p.start_s < stop_s]
    return Speech(Audio(samples, SAMPLE_RATE_HZ), _fill_silence(phonemes, seconds))


def _trim(speech: Speech) -> Speech:
    """Cut leading and trailing silence by the phonemes' times."""
    voiced = [p for p in speech.phonemes if p.symbol]
    if not voiced:
        return Speech(Audio(np.zeros(0, np.float32), SAMPLE_RATE_HZ), ())
    start_s, end_s = voiced[0].start_s, voiced[-1].end_s
    lo, hi = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
    inside = (p for p in speech.phonemes if start_s <= p.start_s < end_s)
    moved = tuple(Phoneme(p.symbol, p.start_s - start_s, p.end_s - start_s) for p in inside)
    return Speech(Audio(speech.audio.samples[lo:hi], SAMPLE_RATE_HZ), moved)


def _fill_silence(phonemes: list[Phoneme], seconds: float) -> tuple[Phoneme, ...]:
    filled: list[Phoneme] = []
    cursor_s = 0.0
    for p in phonemes:
        if p.start_s > cursor_s + 1e-6:
            filled.append(Phoneme("", cursor_s, p.start_s))
        filled.append(p)
        cursor_s = p.end_s
    if cursor_s < seconds:
        filled.append(Phoneme("", cursor_s, seconds))
    return tuple(filled)
