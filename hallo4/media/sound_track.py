"""A sound track of a file, decoded: the decoded samples count, not what headers say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from av.container import InputContainer

from hallo4.errors import InputError
from hallo4.input_file import open_input
from hallo4.media.files import MAX_PADDING, check_input, declared_end, open_media, shown, start_of
from hallo4.media.mixing import channel_names
from hallo4.media.spooled_sound import BLOCK
from hallo4.media.wav_header import StreamedWav, WavHeader, read_wav_header

LONGEST_S = 4 * 3600
"""Longest sound, in seconds: what a temporary file may hold, and how long a video of it may last."""
_GAP_S = Fraction(20, 1000)  # holes in the time stamps below this are rounding of the container, not silence
_MISSING_S = Fraction(1, 10)  # a stream this much shorter than its container says has lost its end
_LONGEST_GAP_S = 3600
_WITHOUT_HOLES = ("flac", "mp3", "aac", "ogg", "wav", "aiff", "au", "caf", "w64")  # they hold all samples

_VORBIS_ORDER = {  # Vorbis I specification, 4.3.9
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FC", "FR"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}


@dataclass(frozen=True)
class SoundTrack(os.PathLike):
    """One sound track of a file that has several: `number` 1 is the first. It stands for the path wherever
    sound is read."""

    path: str | os.PathLike[str]
    number: int

    def __fspath__(self) -> str:
        return os.fspath(self.path)


def track_names(path: str | os.PathLike[str]) -> tuple[list[str], int]:
    """What the sound tracks of a file are, in words, and the number (from 1) of the one that players take.

    InputError: no sound track, or no media file.
    """
    with _open(path) as container:
        streams = container.streams.audio
        best = container.streams.best("audio")
        if best is None:
            raise InputError(f"{shown(path)}: has no sound track. Give a file with speech in it.")
        return [f"track {n} ({_words(s)})" for n, s in enumerate(streams, 1)], streams.index(best) + 1


def _words(stream: av.AudioStream) -> str:
    title = " ".join(stream.metadata.get("title", "").split())
    layout = "no decoder for it" if stream.codec_context is None else stream.layout.name
    return ", ".join(filter(None, [layout, stream.language, shown(title)]))


class DecodedTrack:
    """The blocks of one track, from the beginning of the file, gaps filled with silence.

    Known from the start are `rate_hz` and the `channels`' names; once all blocks are taken, `notes` says
    where the sound is not as the header says.
    """

    def __init__(self, path: str | os.PathLike[str], number: int) -> None:
        """Decode until the first sound. InputError: not sound, damaged, or no samples at all."""
        self._path, self.notes = check_input(path, "a sound file"), list[str]()
        self._blocks = _whole_vorbis(self._path) or self._decoded(number)
        self.rate_hz, self.channels = next(self._blocks)

    def blocks(self) -> Iterator[np.ndarray]:
        """[C, S] float32, once. InputError: damage with sound behind it; time stamps or a rate that jump."""
        position = 0
        for block in _joined(self._blocks):
            broken = ~np.isfinite(block).all(axis=0)
            if broken.any():
                raise InputError(
                    f"{shown(self._path)}: sample {position + int(broken.argmax())} is not a number (NaN or "
                    "infinity). Export the sound again, as 16-bit WAV for example."
                )
            position += block.shape[1]
            yield block

    def _decoded(self, number: int) -> Iterator:
        """First (rate, names of channels), then blocks."""
        with _open(self._path) as container:
            stream = container.streams.audio[number - 1]
            end_s, end, filled_s = _said_end(self._path, container, stream), None, Fraction(0)
            self._refuse_long(end_s or 0)
            for start_s, rate_hz, names, block in self._frames(container, stream):
                if end is None:
                    end = _DeclaredEnd(end_s, rate_hz)
                    yield rate_hz, names
                gap_s = self._gap(start_s - Fraction(end.received, rate_hz), end, container)
                filled_s += gap_s if end.received else 0
                for silence in _silence(len(block), round(gap_s * rate_hz)):
                    yield from end.passed(silence)
                yield from end.passed(block)
                self._refuse_long(Fraction(end.received, rate_hz))
            if end is None:
                raise InputError(
                    f"{shown(self._path)}: holds no sound (0 samples). Give a file with speech in it."
                )
            if filled_s > _MISSING_S:
                self.notes.append(f"{float(filled_s):.2f} s without sound inside it are silence")
            if end.wrong:
                self.notes.append(
                    f"says that its sound ends at {float(end_s):.2f} s, but there is more; all is used"
                )
            self._note_the_end(end.given / rate_hz, None if end.wrong else end_s)

    def _refuse_long(self, lasts_s: Fraction | float) -> None:
        """InputError for sound that is too long: of what the file says of itself, and of what came so far."""
        if lasts_s > LONGEST_S:
            raise InputError(
                f"{shown(self._path)}: lasts more than {LONGEST_S} s of sound, which are allowed. Cut it."
            )

    def _gap(self, gap_s: Fraction, end: _DeclaredEnd, container: InputContainer) -> Fraction:
        """How long silence is before the next block. InputError: so long that the time stamps are wrong, or
        sound is missing in a file that holds every sample."""
        if gap_s > _LONGEST_GAP_S:
            raise InputError(
                f"{shown(self._path)}: the time stamps jump by {float(gap_s):.0f} s. Export it as WAV."
            )
        if gap_s <= (_GAP_S if end.received else 0):
            return Fraction(0)
        if end.received and container.format.name in _WITHOUT_HOLES:
            raise _damaged(self._path, Fraction(end.received, end.rate_hz))
        return gap_s

    def _note_the_end(self, decoded_s: float, end_s: Fraction | None) -> None:
        header = read_wav_header(self._path)
        if header is not None and header.declared is not None and header.present:
            end_s = Fraction(header.declared, header.present) * Fraction(decoded_s)
        if end_s is not None and decoded_s < end_s - _MISSING_S:
            self.notes.append(
                f"is cut short: {decoded_s:.2f} s of sound are there instead of {float(end_s):.2f} s; they "
                "are used"
            )
        elif _says_no_end(self._path, header):
            self.notes.append(
                f"does not say where it ends, as after an interruption; the {decoded_s:.2f} s of sound that "
                "are there are used"
            )

    def _frames(self, container: InputContainer, stream: av.AudioStream) -> Iterator[tuple]:
        """(start in seconds from the beginning of the file, sample rate, names of channels, [C, S] float32)
        of every decoded frame.

        Where nothing that can be decoded follows it, damage is the end of an interrupted recording.
        """
        origin_s, next_s, damage, kind = start_of(container), Fraction(0), None, None
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                damage = damage or error
                continue
            for frame in frames:
                if damage is not None and next_s:
                    raise _damaged(self._path, next_s) from damage
                names = channel_names(frame.layout)
                kind = kind or (frame.sample_rate, len(names))
                if kind != (frame.sample_rate, len(names)):
                    raise InputError(
                        f"{shown(self._path)}: the sample rate or the number of channels changes within the "
                        "file. Export it as WAV."
                    )
                start_s = next_s if frame.pts is None else frame.pts * frame.time_base - origin_s
                next_s = start_s + Fraction(frame.samples, frame.sample_rate)
                yield start_s, frame.sample_rate, names, _samples(frame)
        if damage is not None and not next_s:
            raise damage


def _whole_vorbis(path: Path) -> Iterator | None:
    """(rate, names of channels), then blocks of an Ogg Vorbis file that has its end, through libsndfile;
    None: another file. FFmpeg puts the first block of some of them in the place of the second."""
    with open_input(path, "a sound file") as file:
        if file.read(4) != b"OggS" or _says_no_end(path):
            return None
    try:
        with open_input(path) as file, soundfile.SoundFile(file) as sound:
            if sound.subtype != "VORBIS" or not sound.frames:
                return None
    except soundfile.LibsndfileError:
        return None
    return _vorbis_blocks(path)


def _vorbis_blocks(path: Path) -> Iterator:
    with open_input(path) as file, soundfile.SoundFile(file) as sound:
        order, decoded = _VORBIS_ORDER.get(sound.channels), 0
        yield sound.samplerate, order or ("NONE",) * sound.channels
        try:
            for block in sound.blocks(BLOCK, dtype="float32", always_2d=True):
                yield np.ascontiguousarray(block.T)
                decoded += len(block)
        except soundfile.LibsndfileError as error:
            raise _damaged(path, decoded / sound.samplerate) from error
        if decoded < sound.frames:
            raise _damaged(path, decoded / sound.samplerate)


class _DeclaredEnd:
    """Holds back what lies behind the end that a header states: padding, or sound if there is much of it."""

    def __init__(self, end_s: Fraction | None, rate_hz: int) -> None:
        self.rate_hz, self.received, self.given, self.wrong = rate_hz, 0, 0, False
        self._end = None if end_s is None else round(end_s * rate_hz)
        self._held: list[np.ndarray] = []

    def passed(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """What of the sound so far may be given on: [C, S] blocks."""
        inside = block.shape[1] if self._end is None else max(0, self._end - self.received)
        self.received += block.shape[1]
        ready = [block[:, :inside]]
        if inside < block.shape[1]:
            self._held.append(block[:, inside:])
        if _length(self._held) > MAX_PADDING:
            ready += self._held
            self._held, self._end, self.wrong = [], None, True
        for part in ready:
            self.given += part.shape[1]
            yield part


def _silence(channels: int, samples: int) -> Iterator[np.ndarray]:
    for start in range(0, samples, BLOCK):
        yield np.zeros((channels, min(BLOCK, samples - start)), np.float32)


def _packets(container: InputContainer, stream: av.AudioStream) -> Iterator[av.Packet]:
    """Those of a file that ends in the middle of one end there."""
    packets, some = container.demux(stream), False
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            if some:
                return
            raise
        if packet is None:
            return
        yield packet
        some = True


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """[C, S] float32 in [-1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:  # [1, S * channels] -> [channels, S]
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    centre = 128 if samples.dtype == np.uint8 else 0
    return ((samples - np.float64(centre)) / 2 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)


def _damaged(path: str | os.PathLike[str], where_s: Fraction | float) -> InputError:
    return InputError(f"{shown(path)}: is damaged at {float(where_s):.2f} s. Copy or export it again.")


def _joined(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in fewer blocks: some decoders give a thousand at a time."""
    waiting: list[np.ndarray] = []
    for block in blocks:
        waiting.append(block)
        if _length(waiting) >= BLOCK:
            yield np.concatenate(waiting, axis=1)
            waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _length(blocks: list[np.ndarray]) -> int:
    return sum(block.shape[1] for block in blocks)


def _said_end(
    path: str | os.PathLike[str], container: InputContainer, stream: av.AudioStream
) -> Fraction | None:
    """End of the sound in seconds, where the file says it (but for WAV); also for kinds that hold nothing
    else."""
    kind = container.format.name
    if kind in ("aiff", "au") or (kind == "mp3" and _has_mp3_length(path)):
        return None if stream.duration is None else stream.duration * stream.time_base
    return declared_end(container, stream)


def _has_mp3_length(path: str | os.PathLike[str]) -> bool:
    """Whether the number of frames stands in the first of an MP3; else its length is only guessed."""
    with open_input(path, "a sound file") as file:
        head = file.read(10)
        tagged = head[:3] == b"ID3" and len(head) == 10
        file.seek(10 + sum((head[6 + i] & 0x7F) << 7 * (3 - i) for i in range(4)) if tagged else 0)
        first = file.read(4096)
    return any(word in first for word in (b"Xing", b"Info", b"VBRI"))


def _says_no_end(path: str | os.PathLike[str], header: WavHeader | None = None) -> bool:
    """Whether a WAV has no length, or the last page of an Ogg file is not marked as the last."""
    if header is not None:
        return header.declared is None
    with open_input(path, "a sound file") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 16) - 300))
        tail = file.read()
    last = tail.rfind(b"OggS")
    return last < 0 or len(tail) < last + 6 or not tail[last + 5] & 4


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """The file, opened as sound; a 64-bit WAV without its length as a stream."""
    source = check_input(path, "a sound file")
    try:
        header = read_wav_header(source)
        streamed = header is not None and header.wide and header.declared is None
        opened = closing(StreamedWav(source, header)) if streamed else nullcontext()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({error.strerror}).") from error
    with opened as file, open_media(source, "a sound file", file) as container:
        yield container
