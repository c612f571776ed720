"""Frames and sound -> a video file: one pass, constant memory, whole or not at all."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from hallo4.errors import InputError, OutputError
from hallo4.media import files, provenance
from hallo4.media.encoder import RECIPES, Encoder, common_palette, part_suffix, stored_size
from hallo4.media.files import open_media, shown
from hallo4.media.video import read_frames
from hallo4.types import SampleSource
from hallo4.whole import commit, discard, temporary_beside

VIDEO_SUFFIXES = tuple(RECIPES)
"""What `VideoWriter` can make: h264+aac, vp9+opus, lossless ffv1+flac, and two silent animations."""


@dataclass(frozen=True)
class WrittenVideo:
    """What lies on the disk, `width_px` x `height_px` as stored; `notes` say what is unlike the request."""

    path: Path
    frames: int
    duration_s: float
    width_px: int
    height_px: int
    notes: tuple[str, ...]


def check_output(path: str | os.PathLike[str], overwrite: bool = True) -> Path:
    """The real path of a video that can be written; call it before any long work.

    Raises:
        OutputError: unknown suffix, missing or unwritable folder, an existing folder or device, or an
            existing file without `overwrite`.
    """
    target = files.check_folder(path, overwrite)
    if Path(path).suffix.lower() not in RECIPES:
        raise OutputError(
            f"{shown(path)}: the name ends in {Path(path).suffix or 'no suffix'}, which is not a video "
            f"that can be written. Use one of {' '.join(VIDEO_SUFFIXES)}."
        )
    return target


class VideoWriter:
    """Writes frames [H, W, 3] uint8 RGB and, in the same pass, `audio` cut or padded to exactly frames / fps.

    The suffix of `path` sets the container (`VIDEO_SUFFIXES`). The file is written under a hidden name beside
    `path` and renamed at the end: after an error nothing new is there and what was there before is untouched.
    The same frames give the same bytes. Colours are BT.709, tagged and converted.

    H.264 for every player needs even sides, so an odd .mp4 gets its last row or column twice; `notes` says
    so. GIF is limited to 256 colours, chosen over all frames at the end (frames wait losslessly on the disk
    until then).

    Example::

        with VideoWriter("out.mp4", 256, 256, audio=speech) as writer:
            for frame in frames:
                writer.write(frame)
        print(writer.finish().notes)

    Leaving the block with an exception discards the file. To keep what is there, catch it inside and leave
    normally.

    `crf` is the quality of .mp4 (0..51, default 17) and .webm (0..63, default 24), lower is better; the
    others have none. `provenance` (see `provenance_record`) labels the file as AI-generated.

    Raises:
        OutputError: as `check_output`; a size, rate or crf the container cannot have; a failing disk while
            writing; no frame at all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width_px: int,
        height_px: int,
        fps: float = 25.0,
        audio: SampleSource | None = None,
        provenance: dict[str, str] | None = None,
        crf: int | None = None,
        overwrite: bool = True,
    ) -> None:
        self._target = check_output(path, overwrite)
        self._recipe = RECIPES[Path(path).suffix.lower()]
        self._path, self._size, self._provenance = path, (width_px, height_px), provenance
        self._check_request(fps, crf)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._audio = audio if self._recipe.audio_codec else None
        self._crf = self._recipe.crf if crf is None else crf
        self._sink: Encoder | None = None
        self._temporary = temporary_beside(self._target)
        self._spool = temporary_beside(self._target)  # only GIF uses it
        self._written: WrittenVideo | None = None
        self._discarded = False
        self.frames = 0
        self.notes: list[str] = []
        if audio is not None and not self._recipe.audio_codec:
            self.notes.append(f"{Path(path).suffix} has no sound: the audio is left out")

    def _check_request(self, fps: float, crf: int | None) -> None:
        recipe, suffix, (width, height) = self._recipe, Path(self._path).suffix, self._size
        if not 1 <= min(width, height) <= max(width, height) <= recipe.max_side_px:
            raise OutputError(
                f"{shown(self._path)}: {width}x{height} pixels cannot be written; {suffix} takes sides of "
                f"1 to {recipe.max_side_px}."
            )
        if not (math.isfinite(fps) and 0 < fps <= recipe.max_fps):
            raise OutputError(
                f"{shown(self._path)}: {fps} frames per second cannot be written; {suffix} takes up to "
                f"{recipe.max_fps}."
            )
        if crf is not None and (recipe.crf is None or not 0 <= crf <= recipe.crf_max):
            allowed = f"0 to {recipe.crf_max}" if recipe.crf_max else "none: it has one quality only"
            raise OutputError(f"{shown(self._path)}: crf {crf} is not possible; {suffix} takes {allowed}.")

    def write(self, frame_u8: np.ndarray) -> None:
        """Append one frame [H, W, 3] uint8 RGB."""
        width, height = self._size
        assert frame_u8.shape == (height, width, 3), f"{frame_u8.shape} is not ({height}, {width}, 3)"
        assert frame_u8.dtype == np.uint8, frame_u8.dtype
        assert not self._discarded, "the writer is closed"
        try:
            if self._sink is None:
                self._sink = self._open()
            self._sink.write(frame_u8)
        except (OSError, av.FFmpegError) as error:
            self.discard()
            raise files.cannot_write(self._path, error) from error
        self.frames += 1

    def append(self, part: Path) -> None:
        """Append a file that another writer of the same size, rate and quality made without sound, with the
        suffix that `part_suffix` gives for this one's.

        Where the container allows it (all but GIF and WebP) its packets are copied, not encoded again; then
        a video consists of parts only. InputError: `part` cannot be read.
        """
        suffix = Path(self._path).suffix.lower()
        if part_suffix(suffix) != suffix:
            for frame_u8 in read_frames(part, float(self._fps)):
                self.write(frame_u8)
            return
        assert not self._discarded, "the writer is closed"
        with open_media(part, "a part of the video") as source:
            if not source.streams.video:
                raise InputError(f"{shown(part)}: holds no pictures; it is damaged or not a part of a video.")
            try:
                if self._sink is None:
                    self._sink = self._open(template=source.streams.video[0])
                self.frames += self._sink.copy(source)
            except OSError as error:
                self.discard()
                raise files.cannot_write(self._path, error) from error

    def finish(self) -> WrittenVideo:
        """Close the file and give it its name; later calls return the same record."""
        if self._written is not None:
            return self._written
        if self._discarded or self._sink is None:
            raise OutputError(f"{shown(self._path)}: no video was written, because there are no frames.")
        try:
            self._sink.close()
            self._finish_animation()
            commit(self._temporary, self._target)
        except (OSError, av.FFmpegError) as error:
            raise files.cannot_write(self._path, error) from error
        finally:
            self.discard()
        self._note_differences()
        width, height = stored_size(self._recipe, self._size)
        self._written = WrittenVideo(
            Path(self._path), self.frames, float(self.frames / self._fps), width, height, tuple(self.notes)
        )
        return self._written

    def discard(self) -> None:
        """Stop and remove what was written so far; what was at `path` before stays. Safe to call twice."""
        self._discarded = True
        if self._sink is not None:
            with suppress(OSError, av.FFmpegError):  # the index of a broken file; it goes anyway
                self._sink.abandon()
        discard(self._temporary)
        discard(self._spool)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()

    def _metadata(self) -> dict[str, str]:
        if self._provenance is None:
            return {}
        return {"title": "AI-generated video", "comment": provenance.to_json(self._provenance)}

    def _open(self, template: av.VideoStream | None = None) -> Encoder:
        if self._recipe.container == "gif":
            return Encoder(self._spool, RECIPES[".mkv"], self._size, self._fps)
        return Encoder(
            *(self._temporary, self._recipe, self._size, self._fps, self._audio, self._metadata()),
            *(self._crf, None, template),
        )

    def _finish_animation(self) -> None:
        """GIF: from the spool to the temporary file. GIF and WebP: the label, which FFmpeg does not write."""
        if self._recipe.container == "gif":
            colours = common_palette(read_frames(self._spool, float(self._fps)), self.frames)
            gif = Encoder(self._temporary, self._recipe, self._size, self._fps, colours=colours)
            for frame in read_frames(self._spool, float(self._fps)):
                gif.write(frame)
            gif.close()
        tag = {"gif": provenance.tag_gif, "webp": provenance.tag_webp}.get(self._recipe.container)
        if tag and self._provenance is not None:
            tag(self._temporary, self._metadata()["comment"])

    def _note_differences(self) -> None:
        stored = stored_size(self._recipe, self._size)
        if stored != self._size:
            self.notes.append(
                "stored as {}x{} instead of {}x{} pixels: ".format(*stored, *self._size)
                + "H.264 needs even sides, the edge is repeated"
            )
        if self._audio is not None:
            extra_s = self._audio.duration_s - float(self.frames / self._fps)
            if extra_s > 0.5 / self._fps:
                self.notes.append(f"the last {extra_s:.2f} s of the audio are left out")
            elif extra_s < -0.5 / self._fps:
                self.notes.append(f"the audio is {-extra_s:.2f} s shorter than the video: silence is added")
