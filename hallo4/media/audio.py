"""Sound: any file, also the sound of a video -> mono float32 at the wanted rate; and back to WAV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import soundfile
from av.container import InputContainer

from hallo4.errors import InputError
from hallo4.media import files
from hallo4.media.files import check_input, declared_end, open_media, shown, start_of, warn
from hallo4.media.spooled_sound import BLOCK, SpooledSound, resampled_blocks
from hallo4.types import Audio

_RATES_HZ = (1_000, 1_000_000)
_GAP_S = Fraction(20, 1000)  # holes in the time stamps below this are rounding of the container, not silence
_MISSING_S = Fraction(1, 10)  # a stream this much shorter than its container says has lost its end
_LONGEST_GAP_S = 3600


def load_audio(path: str | os.PathLike[str], sample_rate_hz: int = 16_000) -> Audio:
    """`open_sound` read as a whole into memory; the same samples, warnings and errors."""
    sound, repair = _spooled(path, sample_rate_hz)
    if repair:
        warn(repair)
    return Audio(sound.read(0, len(sound)), sample_rate_hz)


def open_sound(path: str | os.PathLike[str], sample_rate_hz: int = 16_000) -> SpooledSound:
    """The sound of an audio or video file: mono (mean of the channels) float32 in [-1, 1], read in parts.

    The file is decoded and resampled (soxr, high quality) block by block, once, into a temporary file; N
    samples at rate r become round(N * sample_rate_hz / r), at least one. Encoder priming and padding are
    removed where the container tells of them, and sound that begins later than the picture is preceded by
    silence, so that second t of the sound is second t of `read_frames`. Sound that exceeds full scale (float
    files) is scaled down as a whole, with a `MediaWarning`.

    Raises:
        InputError: missing, empty, cut short, not sound, a video without sound, no samples, NaN or
            infinity, or a sample rate outside 1 kHz to 1 MHz.
        OutputError: no space for the temporary file.
    """
    sound, repair = _spooled(path, sample_rate_hz)
    if repair:
        warn(repair)
    return sound


def _spooled(path: str | os.PathLike[str], sample_rate_hz: int) -> tuple[SpooledSound, str]:
    """The sound, and what was done to it in one line or nothing: a warning names the place of a public
    call."""
    check_input(path, "a sound file")
    blocks = _decode_soundfile(path)
    rate_hz = next(blocks)
    if rate_hz is None:
        blocks = _decode_container(path)
        rate_hz = next(blocks)
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise InputError(
            f"{shown(path)}: has {rate_hz} samples per second, allowed is {_RATES_HZ[0]} to {_RATES_HZ[1]}. "
            "Export it at 16000 to 48000 Hz."
        )
    sound = SpooledSound(resampled_blocks(_checked(blocks, path), rate_hz, sample_rate_hz), sample_rate_hz)
    if len(sound) == 0:
        raise InputError(
            f"{shown(path)}: holds no sound (0 samples). Give a file with at least one frame of sound."
        )
    if sound.peak > 1.0:
        sound.divisor = sound.peak
    if sound.peak <= 1.01:  # resampling and lossy codecs overshoot a little; not worth a word
        return sound, ""
    return sound, f"{shown(path)}: is louder than full scale (peak {sound.peak:.2f}); scaled down to fit."


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
    temporary = files.temporary_beside(target)
    try:
        soundfile.write(temporary, samples, audio.sample_rate_hz, format="WAV", subtype="PCM_16")
        files.commit(temporary, target)
    except (OSError, soundfile.SoundFileError) as error:
        reason = error if isinstance(error, OSError) else OSError(str(error))
        raise files.cannot_write(path, reason) from error
    finally:
        files.discard(temporary)


def _checked(blocks: Iterator[np.ndarray], path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    position = 0
    for block in blocks:
        broken = ~np.isfinite(block)
        if broken.any():
            raise InputError(
                f"{shown(path)}: sample {position + int(broken.argmax())} is not a number (NaN or infinity). "
                "Export the sound again, as 16-bit WAV for example."
            )
        position += len(block)
        yield block


def _decode_soundfile(path: str | os.PathLike[str]) -> Iterator:
    """First the sample rate, or None where PyAV must read the file; then mono blocks [S] float32.

    MP3 is left to PyAV, because libsndfile fills a truncated one up with silence.
    """
    try:
        with open(path, "rb") as handle, soundfile.SoundFile(handle.fileno(), closefd=False) as sound:
            if sound.format == "MP3":
                yield None
                return
            _check_length(sound, path)
            yield sound.samplerate
            for block in sound.blocks(BLOCK, dtype="float32", always_2d=True):
                yield block.mean(axis=1)
    except soundfile.LibsndfileError as error:
        if "malformed" not in error.error_string and "ormat" in error.error_string:  # not one of its formats
            yield None
            return
        raise InputError(
            f"{shown(path)}: is damaged or cut short ({error.error_string.rstrip('.')}). "
            "Copy or export it again."
        ) from error
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({error.strerror}).") from error


def _check_length(sound: soundfile.SoundFile, path: str | os.PathLike[str]) -> None:
    """libsndfile reads a truncated WAV without a word, but its log holds both lengths of the data chunk.

    A truncated Ogg has no last page with the length in it and counts as empty.
    """
    if sound.format == "OGG" and sound.frames == 0:
        raise InputError(f"{shown(path)}: is cut short or empty. Copy or export it again.")
    match = re.search(r"^data\s*:\s*(\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if not match:
        return
    declared, present = int(match[1]), int(match[2])
    streamed = declared >= 0x7FFF0000  # programs that write to a pipe cannot know the length
    if declared > present and not streamed:
        raise InputError(
            f"{shown(path)}: is cut short: {present} of {declared} bytes of sound are there. "
            "Copy or export it again."
        )


def _decode_container(path: str | os.PathLike[str]) -> Iterator:
    """First the sample rate, then mono blocks [S] float32, from the beginning of the file, gaps filled with
    silence."""
    with open_media(path, "a sound file") as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise InputError(f"{shown(path)}: has no sound track. Give a file with speech in it.")
        end_s = declared_end(container, stream)
        rate_hz, position = None, 0
        for start_s, frame_rate_hz, block in _frames(container, stream):
            if rate_hz is None:
                rate_hz = frame_rate_hz
                yield rate_hz
            if frame_rate_hz != rate_hz:
                raise InputError(f"{shown(path)}: the sample rate changes within the file. Export it as WAV.")
            gap_s = start_s - Fraction(position, rate_hz)
            if gap_s > _LONGEST_GAP_S:
                raise InputError(
                    f"{shown(path)}: the time stamps jump by {float(gap_s):.0f} s. Export it as WAV."
                )
            if gap_s > (_GAP_S if position else 0):
                silence = np.zeros(round(gap_s * rate_hz), np.float32)
                position += len(silence)
                yield silence
            if end_s is not None:  # AAC in mp4: the padding of the last packet is not sound
                block = block[: max(0, round(end_s * rate_hz) - position)]
            position += len(block)
            yield block
        if rate_hz is None:
            raise InputError(f"{shown(path)}: holds no sound (0 samples). Give a file with speech in it.")
        if end_s is not None and Fraction(position, rate_hz) < end_s - _MISSING_S:
            raise InputError(
                f"{shown(path)}: is cut short: {position / rate_hz:.2f} s of sound are there instead of "
                f"{float(end_s):.2f} s. Copy or export it again."
            )


def _frames(container: InputContainer, stream: av.AudioStream) -> Iterator[tuple[Fraction, int, np.ndarray]]:
    """(start in seconds from the beginning of the file, sample rate, mono [S] float32) of every decoded
    frame."""
    origin_s, next_s = start_of(container), Fraction(0)
    for frame in container.decode(stream):
        start_s = next_s if frame.pts is None else frame.pts * frame.time_base - origin_s
        samples = frame.to_ndarray()
        if not frame.format.is_planar:  # [1, S * channels] -> [channels, S]
            samples = samples.reshape(-1, len(frame.layout.channels)).T
        if samples.dtype.kind == "f":
            mono = samples.mean(axis=0, dtype=np.float32)
        else:
            bits = 8 * samples.dtype.itemsize
            centre = 128 if samples.dtype == np.uint8 else 0
            mono = ((samples.mean(axis=0) - centre) / 2 ** (bits - 1)).astype(np.float32)
        next_s = start_s + Fraction(frame.samples, frame.sample_rate)
        yield start_s, frame.sample_rate, mono
