"""Sound: any file, also the sound of a video -> mono float32 at the wanted rate; and back to WAV."""

from __future__ import annotations

import math
import os

import numpy as np
import soundfile

from hallo4.errors import InputError
from hallo4.media import files
from hallo4.media.files import shown, warn
from hallo4.media.mixing import Mixer, mix_weights
from hallo4.media.sound_track import DecodedTrack, SoundTrack, track_names
from hallo4.media.spooled_sound import SpooledSound, resampled_blocks
from hallo4.types import Audio
from hallo4.whole import whole_file

_RATES_HZ = (1_000, 1_000_000)
MAX_IN_MEMORY = 60 * 60 * 48_000
"""Samples of a sound that is read as a whole: an hour at 48 kHz, 0.7 GB."""
_SILENT = 1e-3
"""Sound whose peak is below this (-60 dB of full scale) is silence with the noise of a converter."""


def load_audio(path: str | os.PathLike[str], sample_rate_hz: int = 16_000) -> Audio:
    """`open_sound` read as a whole into memory; the same samples, warnings and errors.

    InputError also for more than `MAX_IN_MEMORY` samples.
    """
    sound, notes = _chosen(path, sample_rate_hz)
    for note in notes:
        warn(f"{shown(path)}: {note}.")
    if len(sound) > MAX_IN_MEMORY:
        raise InputError(
            f"{shown(path)}: lasts {sound.duration_s:.0f} s; {MAX_IN_MEMORY // sample_rate_hz} s are allowed "
            f"where all of a sound is in memory at {sample_rate_hz} Hz. Cut it."
        )
    return Audio(sound.read(0, len(sound)), sample_rate_hz)


def open_sound(path: str | os.PathLike[str], sample_rate_hz: int = 16_000) -> SpooledSound:
    """The sound of an audio or video file: mono float32 in [-1, 1], read in parts.

    The file is decoded and resampled (soxr, high quality) block by block, once, into a temporary file; N
    samples at rate r become round(N * sample_rate_hz / r), at least one. Encoder priming and padding are
    removed where the container states them, and sound that begins later than the picture is preceded by
    silence, so that second t of the sound is second t of `read_frames`.

    Stereo becomes the mean of its channels, other layouts are mixed by `mix_weights`. Where that makes the
    sound more than 3.5 dB quieter than its loudest channel, it is raised to its loudness, or, if the channels
    cancel each other, the loudest channel is taken alone. Of several sound tracks that is taken which players
    take, unless it is silent and another is not; `SoundTrack` names one.

    A `MediaWarning` says what was chosen or changed, that the sound is silent, that it is scaled down because
    it exceeds full scale, that the file is cut short (what is there is used), or that it continues behind the
    end that its header states (all is used).

    Raises:
        InputError: missing, empty, damaged, not sound, a video without sound, a track that is not there, no
            samples, NaN or infinity, or a sample rate outside 1 kHz to 1 MHz.
        OutputError: no space for the temporary file.
    """
    sound, notes = _chosen(path, sample_rate_hz)
    for note in notes:
        warn(f"{shown(path)}: {note}.")
    return sound


def _chosen(path: str | os.PathLike[str], sample_rate_hz: int) -> tuple[SpooledSound, list[str]]:
    """The sound of the track that is named, or of the first with sound in it; and what a person should know,
    one line each: a warning names the place of a public call."""
    tracks, best = track_names(path)
    wanted = path.number if isinstance(path, SoundTrack) else None
    if wanted is not None and not 1 <= wanted <= len(tracks):
        raise InputError(
            f"{shown(path)}: there is no sound track {wanted}; it has {', '.join(tracks)}. Name one of them."
        )
    if wanted is not None or len(tracks) == 1:
        return _mixed(path, wanted or best, sample_rate_hz)
    found = None
    for number in sorted(range(1, len(tracks) + 1), key=lambda n: n != best):
        try:
            sound, notes = _mixed(path, number, sample_rate_hz)
        except InputError:
            if number == best:
                raise
            continue
        if found is None or sound.peak >= _SILENT:
            found = number, sound, notes
        if sound.peak >= _SILENT:
            break
    number, sound, notes = found
    why = "" if number == best else f", because {tracks[best - 1]} is silent"
    choice = f"has {len(tracks)} sound tracks; {tracks[number - 1]} is used{why} (--audio-track N names one)"
    return sound, [choice, *notes]


def _mixed(path: str | os.PathLike[str], number: int, sample_rate_hz: int) -> tuple[SpooledSound, list[str]]:
    """The sound of one track, and notes on it."""
    track = _opened(path, number)
    names, rate_hz = track.channels, track.rate_hz
    mixer = Mixer(mix_weights(names))
    sound = SpooledSound(
        resampled_blocks(mixer.mono(track.blocks()), rate_hz, sample_rate_hz), sample_rate_hz
    )
    notes = track.notes
    if len(sound) == 0:
        raise InputError(
            f"{shown(path)}: holds no sound (0 samples). Give a file with at least one frame of sound."
        )
    loudest, lost_db = mixer.loudest, mixer.lost_db
    named = f"channel {loudest + 1} of {len(names)}"
    if mixer.cancelled:
        again = (block[loudest] for block in _opened(path, number).blocks())
        sound = SpooledSound(resampled_blocks(again, rate_hz, sample_rate_hz), sample_rate_hz)
        notes.append(f"its channels cancel each other ({lost_db:.0f} dB); {named} is used alone")
    elif mixer.too_quiet:
        sound.divisor = max(10 ** (-lost_db / 20), sound.peak)
        raised_db = -20 * math.log10(sound.divisor)
        notes.append(f"the mix of its channels is raised by {raised_db:.1f} dB, to the loudness of {named}")
    if sound.peak > sound.divisor:
        sound.divisor = sound.peak
        if sound.peak > 1.01:  # resampling and lossy codecs overshoot a little; not worth a word
            notes.append(f"is louder than full scale (peak {sound.peak:.2f}); scaled down to fit")
    if sound.peak < _SILENT:
        notes.append("is silent from beginning to end")
    return sound, notes


def _opened(path: str | os.PathLike[str], number: int) -> DecodedTrack:
    track = DecodedTrack(path, number)
    if not _RATES_HZ[0] <= track.rate_hz <= _RATES_HZ[1]:
        raise InputError(
            f"{shown(path)}: has {track.rate_hz} samples per second, allowed is {_RATES_HZ[0]} to "
            f"{_RATES_HZ[1]}. Export it at 16000 to 48000 Hz."
        )
    return track


def save_wav(path: str | os.PathLike[str], audio: Audio) -> None:
    """Write 16-bit WAV; the file appears whole or not at all. Samples beyond [-1, 1] are clipped with a
    warning.

    Raises:
        OutputError: the path cannot be written.
    """
    target = files.check_folder(path)
    samples = np.asarray(audio.samples, np.float32)
    if len(samples) and float(np.abs(samples).max()) > 1.0:
        warn(f"{shown(path)}: samples beyond full scale were clipped.")
        samples = samples.clip(-1.0, 1.0)
    try:
        with whole_file(target) as temporary:
            soundfile.write(temporary, samples, audio.sample_rate_hz, format="WAV", subtype="PCM_16")
    except (OSError, soundfile.SoundFileError) as error:
        reason = error if isinstance(error, OSError) else OSError(str(error))
        raise files.cannot_write(path, reason) from error
