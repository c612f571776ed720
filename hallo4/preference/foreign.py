"""Between our records and other people's tables: what both directions of every format share.

::

    ratings --majority--> {(clip, clip): {axis: 1 | 0.5 | 0}} --> a row of their table
    a row of theirs --paths checked--> condition, two clips encoded alike, ratings --> store

Their tables know neither portrait nor sound: the first frame and the sound track of a prompt's first video
stand in for them, and the prompt for the identity and the speech.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input, read_input
from hallo4.media import load_audio, probe_video, read_frames, save_wav
from hallo4.media.files import shown
from hallo4.media.image import save_png
from hallo4.media.names import below
from hallo4.preference.answers import Votes, counted, votes
from hallo4.preference.candidates import Source, add_clip_of_frames
from hallo4.preference.conditions import SOUND_RATE_HZ
from hallo4.preference.schema import AXES, Axis, Choice, Clip, Condition, Rating
from hallo4.preference.store import PreferenceStore
from hallo4.types import FPS, Audio
from hallo4.whole import write_whole

CONSENT = "as stated by the source of the imported table"
PROMPT_FILE = "prompt.txt"
"""Beside the portrait of a condition from a foreign table: its prompt, and a line break."""
MAX_PROMPT_BYTES = 1 << 20
LONGEST_S = 600.0
"""Of a video in a foreign table: longer ones are no clips to compare, or have time stamps that jump."""
TIE_POINTS = 0.25
"""Mean scores that differ by less count as a tie where only single clips were scored."""

Majorities = dict[tuple[str, str], dict[str, float]]
"""Two clips in the order of their ids -> per axis 1 (the first is better), 0.5 or 0."""


def majorities(store: PreferenceStore) -> Majorities:
    """What most raters said of every two clips of a condition, on the axes that count for training; from
    scores where nothing was compared. Excluded raters are left out.

    InputError: the store has no ratings.
    """
    ratings = [rating for rating in counted(store) if rating.axis in AXES]
    said: dict[tuple[str, str], dict[str, list[float]]] = {}
    for question, answers in votes(ratings, "comparison").items():
        axes = said.setdefault((question.clips[0], question.clips[1]), {})
        axes.setdefault(question.axis, []).extend(answers.values())
    found = {
        clips: {axis: _sign(sum(of) / len(of) - 0.5) for axis, of in axes.items()}
        for clips, axes in said.items()
    }
    found = found or _from_scores(votes(ratings, "score"), store.clips())
    if not found:
        raise InputError(f"{store.folder}: has no ratings of two clips of a condition; nothing to export.")
    return dict(sorted(found.items()))


def is_simulated(store: PreferenceStore) -> bool:
    """Whether any rating of the store was made by no person."""
    return any(rating.simulated for rating in store.ratings())


def _from_scores(found: Votes, clips: Mapping[str, Clip]) -> Majorities:
    said: dict[tuple[str, str], dict[str, list[float]]] = {}
    for question, answers in found.items():
        (clip,) = question.clips
        of_condition = said.setdefault((clips[clip].condition_id, question.axis), {})
        of_condition.setdefault(clip, []).extend(answers.values())
    majority: Majorities = {}
    for (_, axis), scores in said.items():
        for one, other in combinations(sorted(scores), 2):
            difference = sum(scores[one]) / len(scores[one]) - sum(scores[other]) / len(scores[other])
            outcome = 0.5 if abs(difference) < TIE_POINTS else _sign(difference)
            majority.setdefault((one, other), {})[axis] = outcome
    return majority


def _sign(difference: float) -> float:
    return 0.5 if abs(difference) < 1e-9 else float(difference > 0)


def path_beside(table: Path, named: str, row: int) -> Path:
    """A file that row number `row` of a table names, beside the table or in a folder below it.

    Its way of writing paths may be another system's; see `below`. InputError: it leads out of the folder, or
    is an absolute path to nothing there: the table is not trusted.
    """
    path = below(table.parent, named)
    if path is None:
        raise InputError(
            f"{table} row {row}: {shown(named)!r} is not a path below the table's folder; nothing was "
            "imported. Only files beside the table are read."
        )
    return path


@dataclass
class Imported:
    """What came of an import: `records` that are new, ratings and clips among them.

    `dropped`: a line for every row that could not be used.
    """

    records: int = 0
    dropped: list[str] = field(default_factory=list)


def prompt_of(store: PreferenceStore, condition: Condition) -> str:
    """The prompt that came with a condition from a foreign table, letter for letter; else the condition's id.

    InputError: its file cannot be read.
    """
    file = store.media_path(condition.portrait).parent / PROMPT_FILE
    if not file.exists():
        return condition.condition_id
    try:
        return read_input(file, MAX_PROMPT_BYTES, "a prompt").decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: cannot be read ({error}). Import its table again.") from error


class Inbox:
    """Adds rows of a foreign table to a store; `name` of the format, `table` the file they come from."""

    def __init__(self, store: PreferenceStore, name: str, table: Path) -> None:
        self.store, self.name, self.table = store, name, table
        with open_input(table, "a table") as file:
            self._table_digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        self.result = Imported()

    def add_row(
        self,
        row: int,
        prompt: str,
        videos: tuple[Path, Path],
        models: tuple[str, str],
        answers: Mapping[Axis, Choice],
        simulated: bool,
    ) -> None:
        """One comparison of two videos; a row that cannot be used is dropped with a line that says why."""
        try:
            for video in videos:
                _refuse_long(video)
            condition = self._condition(prompt, videos[0])
            clips = [self._clip(condition, v, m) for v, m in zip(videos, models, strict=True)]
            if clips[0].clip_id == clips[1].clip_id:
                raise InputError("both videos are the same.")
        except InputError as error:
            self.result.dropped.append(f"row {row}: {error}")
            return
        ratings = [self._rating(row, clips, axis, answer, simulated) for axis, answer in answers.items()]
        self.result.records += self.store.add_ratings(ratings)

    def drop(self, row: int, why: str) -> None:
        """A row that cannot be used."""
        self.result.dropped.append(f"row {row}: {why}")

    def _condition(self, prompt: str, video: Path) -> Condition:
        name = f"import-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}"
        known = self.store.conditions().get(name)
        if known is not None:
            return known
        first = next(read_frames(video, FPS))
        audio = _sound_of(video)
        folder = f"conditions/{name}"
        condition = Condition(name, name, name, f"{folder}/portrait.png", f"{folder}/speech.wav", None)
        try:
            self.store.media_path(folder).mkdir(parents=True, exist_ok=True)
            save_png(self.store.media_path(condition.portrait), first)
            write_whole(self.store.media_path(folder) / PROMPT_FILE, f"{prompt}\n")
        except OSError as error:
            raise OutputError(
                f"{self.store.folder / folder}: cannot be written ({error.strerror})."
            ) from error
        save_wav(self.store.media_path(condition.audio), audio)
        self.store.add_condition(condition)
        return condition

    def _clip(self, condition: Condition, video: Path, model: str) -> Clip:
        with open_input(video, "a video") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        source = Source(self.name, model, 0, {"file": digest}, CONSENT)
        known = self.store.clips().get(source.clip_id(condition.condition_id))
        if known is not None:
            return known
        frames: Iterable[np.ndarray] = (frame[None] for frame in read_frames(video, FPS))
        clip = add_clip_of_frames(self.store, condition, frames, source, cut=True, name=shown(video))
        self.result.records += 1
        return clip

    def _rating(self, row: int, clips: list[Clip], axis: Axis, answer: Choice, simulated: bool) -> Rating:
        source = f"{self.name} {self._table_digest} {row} {axis}"
        return Rating(
            event_id=f"i{hashlib.sha256(source.encode()).hexdigest()[:24]}",
            rater_id=f"import-{self.name}",
            axis=axis,
            kind="comparison",
            clip_id=None,
            clip_a=clips[0].clip_id,
            clip_b=clips[1].clip_id,
            value=answer,
            left_clip_id=None,
            flags={},
            shown_ms=0,
            answered_unix_ms=0,
            ui_version=f"import-{self.name}",
            role="plain",
            repeat_of=None,
            simulated=simulated,
        )


def _refuse_long(video: Path) -> None:
    """InputError for a video that would fill memory and disk, before any of it is decoded."""
    lasts_s = probe_video(video).duration_s
    if lasts_s > LONGEST_S:
        raise InputError(f"{shown(video)}: lasts {lasts_s:.0f} s; {LONGEST_S:.0f} s are allowed. Cut it.")


def _sound_of(video: Path) -> Audio:
    """The sound track of a video, exactly as long as its pictures; silence where it has none."""
    info = probe_video(video)
    frames = max(1, round(info.duration_s * FPS))
    samples = np.zeros(round(frames * SOUND_RATE_HZ / FPS), np.float32)
    if info.has_audio:
        track = load_audio(video, SOUND_RATE_HZ).samples[: len(samples)]
        samples[: len(track)] = track
    return Audio(samples, SOUND_RATE_HZ)
