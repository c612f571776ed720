"""Sound of any length in bounded memory: its samples wait in a temporary file and are read in parts."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import soxr

from hallo4.errors import OutputError
from hallo4.types import SampleSource

BLOCK = 1 << 16
"""Samples that are worked on at a time."""

_SAMPLE_BYTES = 4


class SpooledSound:
    """Mono float32 samples in a temporary file; a `SampleSource`.

    The file lies in the system's folder for temporary files (TMPDIR) and has no name there, so it is gone
    with this object, and after a kill. It is read by plain reads, because pages of a mapped file would count
    as memory of the process. `peak` is the largest magnitude of the samples as written; `read` divides by
    `divisor`. For one thread at a time.
    """

    def __init__(self, blocks: Iterable[np.ndarray], sample_rate_hz: int) -> None:
        """Write all `blocks` [S] float32. OutputError: no space for them."""
        self.sample_rate_hz = sample_rate_hz
        self.divisor, self.peak = 1.0, 0.0
        self._length = 0
        try:
            self._file = tempfile.TemporaryFile(prefix="hallo4-sound-")  # noqa: SIM115 - lives as long as this
        except OSError as error:
            raise _no_room(error) from error
        weakref.finalize(self, self._file.close)
        for block in blocks:
            self._append(block)
        try:
            self._file.flush()
        except OSError as error:
            raise _no_room(error) from error

    def __len__(self) -> int:
        return self._length

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self._length / self.sample_rate_hz

    def read(self, start: int, stop: int) -> np.ndarray:
        """See `SampleSource`."""
        start, stop = (min(max(place, 0), self._length) for place in (start, stop))
        samples = np.empty(max(stop - start, 0), np.float32)
        self._file.seek(start * _SAMPLE_BYTES)
        count = self._file.readinto(samples.data)
        assert count == samples.nbytes, (count, samples.nbytes)
        return samples if self.divisor == 1.0 else samples / np.float32(self.divisor)

    def _append(self, block: np.ndarray) -> None:
        block = np.ascontiguousarray(block, np.float32)
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self._length += len(block)
        try:
            self._file.write(block.data)
        except OSError as error:
            raise _no_room(error) from error


def resampled(sound: SampleSource, sample_rate_hz: int) -> SampleSource:
    """The sound at another rate: round(S * new / old) samples, at least one of any; itself at its own rate.

    OutputError: no space for the result.
    """
    if sound.sample_rate_hz == sample_rate_hz:
        return sound
    blocks = (sound.read(start, start + BLOCK) for start in range(0, len(sound), BLOCK))
    return SpooledSound(resampled_blocks(blocks, sound.sample_rate_hz, sample_rate_hz), sample_rate_hz)


def resampled_blocks(blocks: Iterable[np.ndarray], rate_hz: int, new_rate_hz: int) -> Iterator[np.ndarray]:
    """Blocks [S] float32 at `rate_hz` -> blocks at `new_rate_hz` (soxr, high quality), however they are cut.

    The samples are those of `soxr.resample` of the whole.
    """
    if rate_hz == new_rate_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_hz, new_rate_hz, 1, dtype="float32", quality="HQ")
    received = produced = 0
    for block in blocks:
        received += len(block)
        part = stream.resample_chunk(np.ascontiguousarray(block, np.float32))
        produced += len(part)
        yield part
    if received == 0:
        return
    missing = max(1, round(Fraction(received * new_rate_hz, rate_hz))) - produced
    assert missing >= 0, "the resampler holds samples back until the end is known"
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)[:missing]
    yield np.pad(rest, (0, missing - len(rest)))


def _no_room(error: OSError) -> OutputError:
    return OutputError(
        f"{tempfile.gettempdir()}: the sound cannot be kept there while it is worked on "
        f"({error.strerror or error}). Make room, or name another folder in the variable TMPDIR."
    )
