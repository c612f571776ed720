"""The header of a WAV file: how much sound it says it holds, and how much there is.

A recorder that is interrupted, or that writes to a pipe, leaves 0 or the largest number there.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from hallo4.input_file import open_input

_UNSAID = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_PIPED = range(0x7FFF0000, 0x1_0000_0000)  # what programs that write to a pipe put there
_MAX_CHUNKS = 1000


@dataclass(frozen=True)
class WavHeader:
    """Where the sound of a WAV file begins, its bytes as the header says (None: it does not), the bytes that
    are there, and whether it is the 64-bit kind (RF64, BW64)."""

    data_at: int
    declared: int | None
    present: int
    wide: bool


def read_wav_header(path: Path) -> WavHeader | None:
    """None: no WAV file, or one without a chunk of sound. InputError as `open_input`; OSError: a failing
    disk."""
    with open_input(path, "a sound file") as file:
        end = os.fstat(file.fileno()).st_size
        head = file.read(12)
        kind = head[:4]
        if kind not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
            return None
        long_size, at = None, 12
        for _ in range(_MAX_CHUNKS):
            file.seek(at)
            chunk = file.read(8)
            if len(chunk) < 8:
                return None
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"ds64":
                sizes = file.read(16)
                long_size = int.from_bytes(sizes[8:16], "little") if len(sizes) == 16 else None
            if chunk[:4] == b"data":
                wide = kind != b"RIFF"
                declared = long_size if wide and size == 0xFFFFFFFF else size
                unsaid = declared is None or declared in _UNSAID or (not wide and declared in _PIPED)
                return WavHeader(at + 8, None if unsaid else declared, end - at - 8, wide)
            at += 8 + size + size % 2
    return None


class StreamedWav(io.RawIOBase):
    """A WAV file whose header is read as that of a stream of unknown length, which FFmpeg reads to the end;
    in RF64 it takes the sizes at their word."""

    def __init__(self, path: Path, header: WavHeader) -> None:
        self._file = open_input(path, "a sound file")
        unknown = struct.pack("<I", 0xFFFFFFFF)
        self._changes = {0: b"RIFF", 4: unknown, header.data_at - 4: unknown}

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.RawIOBase`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        start = self._file.tell()
        found = bytearray(self._file.read(size))
        for at, new in self._changes.items():
            for place, value in enumerate(new, start=at - start):
                if 0 <= place < len(found):
                    found[place] = value
        return bytes(found)

    def close(self) -> None:
        """See `io.RawIOBase`."""
        self._file.close()
        super().close()
