"""The work folder of an unfinished video: what is already made survives a kill, a power cut and Ctrl-C.

`.<output name>.partial/` beside the output holds `request.json` with the fingerprint of the request, the
finished windows, and the frames that the next window is conditioned on, as floats. Windows are kept as
losslessly packed frames until they make a part of the video of at least `PART_FRAMES` frames; then they are
encoded once and for all, so the folder takes hardly more space than the video. The same command finds it and
resumes; another command for the same output starts again. A finished video removes it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input
from hallo4.json_file import read_json
from hallo4.media.encoder import part_suffix
from hallo4.pipelines.frames import WindowFrames
from hallo4.types import SampleSource
from hallo4.whole import companion, write_whole

PART_FRAMES = 250
"""As far apart as key frames of H.264 usually are, so that parts make the video hardly larger."""
_PACKING_LEVEL = 1  # of zlib: three times faster than the default and hardly larger


def partial_video_path(output: Path) -> Path:
    """Where the playable part of an interrupted video goes: `talk.mp4` -> `talk.partial.mp4`."""
    return companion(output, "", f".partial{output.suffix}")


def fingerprint(parts: Mapping[str, Any]) -> str:
    """A hash of everything that decides the frames of a video.

    Values: arrays by shape and bytes, sound by its rate and samples, paths by the bytes of the file, the rest
    by its JSON.
    """
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name]
        digest.update(f"{name}:{type(value).__name__}:".encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif isinstance(value, SampleSource):
            digest.update(f"{value.sample_rate_hz}:{len(value)}".encode())
            for start in range(0, len(value), 1 << 18):
                digest.update(np.ascontiguousarray(value.read(start, start + (1 << 18))).data)
        elif isinstance(value, Path):
            with open_input(value) as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()


class WorkFolder:
    """Finished windows of one video, numbered from 0 without gaps: first those in encoded parts, `part_*`,
    whose names say how many windows are finished with them, then [n, H, W, 3] uint8 each, `window_*`."""

    def __init__(self, output: Path, request: str, height_px: int, width_px: int, resume: bool = True):
        """Open or make the folder beside `output` for the request with that fingerprint.

        Windows of the same request are kept with `resume`; everything else in it is removed, and `discarded`
        says whether that was another request's work. OutputError: the folder cannot be made.
        """
        self.path = companion(output, ".", f"{output.suffix}.partial")
        self.frame_shape = (height_px, width_px, 3)
        self._part_suffix = part_suffix(output.suffix.lower())
        self.discarded = False
        label = self.path / "request.json"
        try:
            if self.path.exists() and not (resume and _request_in(label) == request):
                self.discarded = any(self.path.glob("window_*")) or any(self.path.glob("part_*"))
                shutil.rmtree(self.path)
            self.path.mkdir(exist_ok=True)
            write_whole(label, json.dumps({"request": request}))
        except OSError as error:
            raise OutputError(
                f"{self.path}: the work folder cannot be made ({error.strerror}); nothing was generated. "
                "Free some space or give the right to write, or choose an output in another folder."
            ) from error

    @property
    def left_partial_video(self) -> bool:
        """Whether `note_partial_video` was called for this request."""
        return (self.path / "partial_video").exists()

    def note_partial_video(self) -> None:
        """An interruption of this request wrote a video to `partial_video_path`."""
        (self.path / "partial_video").touch()

    def finished(self) -> int:
        """Number of windows that are finished."""
        count = self.in_parts()
        while self._file(count).is_file():
            count += 1
        return count

    def save(self, index: int, made: WindowFrames) -> None:
        """Keep what window `index` made. OutputError: no space or no right to write."""
        frames_u8 = made.frames_u8
        assert frames_u8.dtype == np.uint8
        assert frames_u8.shape[1:] == self.frame_shape
        try:
            if made.known_pm1 is not None:
                write_whole(self._known_file(index), save({"known_pm1": made.known_pm1.contiguous()}))
            write_whole(
                self._file(index), zlib.compress(np.ascontiguousarray(frames_u8).data, _PACKING_LEVEL)
            )
            self._known_file(index - 1).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path}: window {index} cannot be kept ({error.strerror}); {self.finished()} windows "
                "are. Free some space and run the same command again."
            ) from error

    def load(self, index: int) -> np.ndarray:
        """[n, H, W, 3] uint8 of a finished window. OutputError: the file is damaged."""
        try:
            with open_input(self._file(index), error=OutputError) as file:
                packed = zlib.decompress(file.read())
            return np.frombuffer(packed, np.uint8).reshape(-1, *self.frame_shape)
        except (zlib.error, ValueError) as error:
            raise OutputError(
                f"{self._file(index)}: is damaged ({error}). Run again with --no-resume to start afresh."
            ) from error

    def known(self, index: int) -> Tensor | None:
        """What window `index` left for the next, [M, 3, H, W] in [-1, 1]; None: nothing. OutputError: the
        file is damaged."""
        path = self._known_file(index)
        try:
            if not path.exists():
                return None
            with open_input(path, error=OutputError) as file:
                return load(file.read())["known_pm1"]
        except (SafetensorError, KeyError) as error:
            raise OutputError(
                f"{path}: is damaged ({error}). Run again with --no-resume to start afresh."
            ) from error

    def in_parts(self) -> int:
        """How many of the finished windows are in encoded parts: the first ones."""
        return max((_windows_up_to(part) for part in self.parts()), default=0)

    def parts(self) -> list[Path]:
        """The encoded parts, in the order of time."""
        return sorted(self.path.glob(f"part_??????{self._part_suffix}"), key=_windows_up_to)

    def close_part(self, encode: Callable[[Path, Iterator[np.ndarray]], None]) -> None:
        """Make one part of the windows that are in none, if there are any, and remove their frames.

        `encode` writes frames [n, H, W, 3] uint8, as they come, to a path, whole or not at all.
        """
        count = self.finished()
        if count > self.in_parts():
            encode(self.path / f"part_{count:06d}{self._part_suffix}", self.windows_in_no_part())
        for file in self.path.glob("window_*"):
            file.unlink()

    @property
    def last_part(self) -> Path:
        """Where the windows that are in no part can be encoded for a video of what is finished so far; it
        does not count as a part, so that the parts do not depend on interruptions."""
        return self.path / f"last{self._part_suffix}"

    def windows_in_no_part(self) -> Iterator[np.ndarray]:
        """The finished windows that are in no part, one in memory at a time."""
        return (self.load(index) for index in range(self.in_parts(), self.finished()))

    def remove(self) -> None:
        """Delete the folder; the video is finished."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _known_file(self, index: int) -> Path:
        return self.path / f"known_{index:06d}.safetensors"

    def _file(self, index: int) -> Path:
        return self.path / f"window_{index:06d}.rgb.z"


def _windows_up_to(part: Path) -> int:
    return int(part.stem.removeprefix("part_"))


def _request_in(label: Path) -> str | None:
    try:
        return read_json(label, dict[str, Any])["request"]
    except (InputError, KeyError):
        return None
