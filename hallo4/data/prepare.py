"""Folders of real videos -> shards that training reads; only what changed is made again.

::

    videos --observe--> rows of clips --filters--> kept --encode, a shard at a time--> shards/*.safetensors
                             |                       |                                        |
                             `-----------------------+------------> index.parquet <-----------'

What decides a clip (bytes of the video and of its keypoints, options, networks, the model's weights, versions
of our code) makes its key. A shard says itself which keys it holds, so a run that was killed goes on behind
the last whole shard. Clips that are no longer chosen stay in their shards and leave the index.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch

from hallo4.data.clip_look import CanvasRule
from hallo4.data.encode import (
    VERSION,
    ClipEncoder,
    ClipWork,
    EncodeSettings,
    ShardDone,
    places_in_shards,
    stamp_of,
    text_name,
)
from hallo4.data.filters import ClipFilters, reasons_against
from hallo4.data.index import (
    NO_PERSON,
    SAME_FILE,
    TOO_SHORT,
    UNUSABLE,
    IndexRow,
    Stamp,
    claim_folder,
    write_index,
    write_kept,
)
from hallo4.data.observe import Observed, Observer, ObserveSettings
from hallo4.data.sources import Source, read_sources, video_files
from hallo4.data.speech import speech_method
from hallo4.data.stages import content_key
from hallo4.engine import THIS_PROCESS, Engine, Outcome, Stage
from hallo4.errors import InputError, OutputError
from hallo4.input_file import file_sha256
from hallo4.lock import sole_writer
from hallo4.media.files import cannot_write, shown
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.motion import PortraitDraft
from hallo4.pipelines.devices import find_device
from hallo4.pipelines.model_folder import LoadedModel, folders_of_model, load_model
from hallo4.pose.loading import estimator_files, estimators_here
from hallo4.pose.person import LARGEST
from hallo4.sync.network import FRAMES, read_syncnet
from hallo4.types import FPS
from hallo4.weights.check import find_weights

CLIPS_PER_SHARD = 64
UNKNOWN = "unknown"
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done (`read`, `observe`, `encode`), how much is done and how much there is."""


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the result. `clip_frames`: frames of a clip (None: what a window of the model needs);
    `estimator`, `device`, `weights`, `person`: see `load_estimator` and `PersonChoice`; `speech`: what finds
    it; `syncnet`: SyncNet's weights (None: where `hallo4 weights` puts them), which are read where
    `filters.min_sync_confidence` is above 0; `licence`: of all videos without a NAME.licence.txt."""

    model: str
    clip_frames: int | None = None
    filters: ClipFilters = field(default_factory=ClipFilters)
    estimator: str = "auto"
    person: str = LARGEST
    speech: Literal["auto", "silero", "energy"] = "auto"
    licence: str = UNKNOWN
    device: str = "auto"
    weights: Path | None = None
    syncnet: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """What a run came to: rows of the index, how often each stage was computed, and lines for people."""

    folder: Path
    rows: tuple[IndexRow, ...]
    made: Counter[str]
    notes: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """A line for every video, or clip, that could not be used."""
        return list(dict.fromkeys(row.found for row in self.rows if row.reasons == UNUSABLE))


def prepare_videos(
    sources: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    settings: PrepareSettings,
    engine: Engine = THIS_PROCESS,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Prepared:
    """Prepare all videos in `sources` into the folder of shards `folder`; what is there is used again.

    The workers of `engine` see videos and shards under the paths that this process has. A video that cannot
    be used costs its own rows and is named. InputError: no videos, options out of range, or shards of another
    model or clip length. CheckpointError, MissingExtraError: the model, or networks that are needed.
    OutputError: `folder` cannot be written, or another process prepares it.
    """
    files, folder = video_files(sources), Path(folder)
    device = find_device(settings.device)
    model = load_model(settings.model, device)
    frames = clip_length(model, settings.clip_frames)
    stamp = stamp_of_model(model, settings.model, frames)
    syncnet = syncnet_file(settings, frames)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Choose another folder.") from error
    with sole_writer(folder, "Wait for it, or choose another folder."):
        try:
            claim_folder(folder, stamp)
            read, broken = read_sources(
                files, folder / "sources.json", lambda done: on_progress("read", done, len(files))
            )
        except OSError as error:
            raise cannot_write(folder, error) from error
        observe = ObserveSettings(
            *(folder / "findings", frames, canvas_rule(model), settings.estimator, settings.person),
            *(speech_method(settings.speech), settings.device, settings.weights, syncnet),
        )
        del model
        encode = EncodeSettings(folder, settings.model, str(device))
        job = _Job(folder, settings, stamp, observe, encode, on_progress)
        return job.do(engine, read, broken)


def clip_length(model: LoadedModel, wanted: int | None) -> int:
    """Frames of a clip: those of a window and those before it. InputError: `wanted` makes no window."""
    rules = model.backbone.windows
    before = rules.known_frames - rules.repeated_frames
    frames = before + model.info.window_frames if wanted is None else wanted
    try:
        rules.check_length(frames - before)
    except ValueError as error:
        raise InputError(
            f"clips of {frames} frames do not fit {model.info.name}: {error}. Its own length is "
            f"{before + model.info.window_frames}."
        ) from error
    return frames


def syncnet_file(settings: PrepareSettings, frames: int) -> Path | None:
    """The weights of SyncNet, which fit it; None: it is not asked. InputError: they are given and not used,
    or there is no such file, or clips are too short. CheckpointError: they are not there, or others."""
    if not settings.filters.min_sync_confidence:
        if settings.syncnet is not None:
            raise InputError(
                f"{shown(settings.syncnet)}: no filter uses SyncNet; set one, such as "
                "--min-sync-confidence 3."
            )
        return None
    if frames < FRAMES:
        raise InputError(f"clips of {frames} frames are too short for SyncNet, which looks at {FRAMES}.")
    file = find_weights("syncnet") if settings.syncnet is None else settings.syncnet
    read_syncnet(file)
    return file


def stamp_of_model(model: LoadedModel, name: str, frames: int) -> Stamp:
    """Everything of a model that decides what its shards hold."""
    rules, folder = model.backbone.windows, model.folder
    assert folder is not None
    parts = folders_of_model(folder)[-1]  # of an adapter, those of the model it changes
    audio = sorted(path for path in (parts / "audio").rglob("*") if path.is_file())
    made_by = {
        "encode": VERSION,
        "autoencoder": weights_fingerprint(model.autoencoder),
        "audio": model.audio_front_end.to_config(),
        "audio_files": [[path.name, file_sha256(path)] for path in audio],
        "prompt": None if model.prompts is None else model.info.prompt,
        "canvas": asdict(canvas_rule(model)),
        "rho": [rules.audio_rho, rules.skeleton_rho],
        "skeleton": model.backbone.condition_spec.skeleton != "none",
        "arithmetic": [str(model.device.type), model.autocast],
    }
    if rules.drafts:  # other shards are as they were before there were drafts
        made_by["drafts"] = [PortraitDraft.VERSION, *estimators_here()]
    return Stamp(model.info.name, os.fspath(name), frames, made_by)


def canvas_rule(model: LoadedModel) -> CanvasRule:
    """How pictures come onto the model's frame."""
    info, rules = model.info, model.backbone.windows
    sizes = tuple((int(height), int(width)) for height, width in info.canvas_sizes_px)
    return CanvasRule(info.size_px, rules.side_multiple_px, sizes)


class _Job:
    """Everything behind the reading of sources. Both stages work at the same time: clips are encoded as soon
    as there are enough for a shard."""

    def __init__(
        self,
        folder: Path,
        settings: PrepareSettings,
        stamp: Stamp,
        observe: ObserveSettings,
        encode: EncodeSettings,
        on_progress: OnProgress,
    ) -> None:
        self.folder, self.settings, self.stamp = folder, settings, stamp
        self.observe, self.on_progress = observe, on_progress
        gpus = int(torch.device(encode.device).type == "cuda")
        self.encode: Stage[tuple[ClipWork, ...], ShardDone] = Stage(ClipEncoder, encode, cpus=1, gpus=gpus)
        self.places = places_in_shards(folder)
        self.problems: dict[str, str] = {}
        self.made: Counter[str] = Counter()
        self.rows: list[IndexRow] = []
        self.observed: list[Observed] = []
        self.lacking = 0

    def do(self, engine: Engine, read: list[Source], broken: list[tuple[Path, str]]) -> Prepared:
        """Observe, choose, encode, and write the index."""
        first = [source for source in read if source.same_as is None]
        if any(source.keypoints is None for source in first):
            estimator_files(self.settings.estimator, self.settings.weights)  # said before any work
        for path, found in broken:
            self.rows.append(IndexRow.of_video(path, UNUSABLE, found, None, self.settings.licence))
        for source in read:
            if source.same_as is not None:
                found = f"its bytes are those of {source.same_as}"
                licence = _licence(source, self.settings)
                self.rows.append(IndexRow.of_video(source.path, SAME_FILE, found, source, licence))
        lost = [
            outcome.item
            for outcome in engine.map(self.encode, self._batches(engine, first))
            if not self._encoded(outcome)
        ]
        # What no worker survived is tried again a video at a time, and costs the clips of that video.
        videos = [tuple(c) for batch in lost for _, c in groupby(batch, key=lambda clip: clip.path)]
        for outcome in engine.map(self.encode, videos):
            if not self._encoded(outcome):
                self.problems |= {clip.key: f"{shown(clip.path)}: {outcome.reason}" for clip in outcome.item}
        rows = [row.placed(self.places.get(row.clip), self.problems.get(row.clip)) for row in self.rows]
        rows.sort(key=lambda row: (row.source, row.start_s))
        write_index(self.folder, rows)
        write_kept(self.folder, rows)
        return Prepared(self.folder, tuple(rows), self.made, tuple(_notes(self.observed, self.observe)))

    def _batches(self, engine: Engine, sources: list[Source]) -> Iterator[tuple[ClipWork, ...]]:
        """Clips that are kept and lie in no shard yet, in the order of the videos."""
        waiting: list[ClipWork] = []
        for outcome in engine.map(Stage(Observer, self.observe, cpus=1), sources):
            one = outcome.value or Observed(
                outcome.item, problem=f"{shown(outcome.item.path)}: {outcome.reason}"
            )
            self.observed.append(one)
            self.made += one.made
            self.on_progress("observe", len(self.observed), len(sources))
            waiting += self._chosen(one)
            while len(waiting) >= CLIPS_PER_SHARD:
                yield tuple(waiting[:CLIPS_PER_SHARD])
                del waiting[:CLIPS_PER_SHARD]
        if waiting:
            yield tuple(waiting)

    def _chosen(self, one: Observed) -> Iterator[ClipWork]:
        """The clips of a video that are to be encoded; its rows are kept."""
        rows = _rows_of(one, self.settings, self.stamp, self.observe)
        self.rows += rows
        for row, clip in zip(rows, one.clips, strict=False):
            if row.kept and row.clip not in self.places:
                self.lacking += 1
                yield ClipWork(
                    *(row.clip, one.source.path, clip["start"], self.observe.clip_frames),
                    one.source.portrait or clip["reference"],
                    *(clip["stages"]["person"], clip["part"], one.info),
                    *(one.source.prompt, stamp_of(one.source.path)),
                )

    def _encoded(self, outcome: Outcome[tuple[ClipWork, ...], ShardDone]) -> bool:
        if outcome.value is None:
            return False
        self.places |= outcome.value.places
        self.problems |= outcome.value.problems
        self.made["encode"] += len(outcome.value.places)
        self.on_progress("encode", self.made["encode"] + len(self.problems), self.lacking)
        return True


def _rows_of(
    one: Observed, settings: PrepareSettings, stamp: Stamp, observe: ObserveSettings
) -> list[IndexRow]:
    """A row for every clip of a video, or one that says why there is none."""
    source, licence = one.source, _licence(one.source, settings)
    if one.problem is not None:
        reason = NO_PERSON if one.no_person else UNUSABLE
        return [IndexRow.of_video(source.path, reason, one.problem, source, licence)]
    frames = observe.clip_frames
    if not one.clips:
        found = f"no shot of it lasts {frames / FPS:.2f} s, {frames} frames"
        return [IndexRow.of_video(source.path, TOO_SHORT, found, source, licence)]
    own_prompt = stamp.made_by["prompt"]
    prompt = own_prompt if source.prompt is None else source.prompt
    rows = []
    for clip in one.clips:
        against = reasons_against(clip, one.info, settings.filters)
        made_of = {
            "source": source.sha256,
            "person": clip["stages"]["person"],
            "start": clip["start"],
            "reference": source.portrait_sha256 or clip["reference"],
            "frames": frames,
            "prompt": prompt,
            "model": stamp.made_by,
        }
        rows.append(
            IndexRow(
                clip=content_key("encode", VERSION, made_of),
                source=str(source.path),
                source_sha256=source.sha256,
                start_s=clip["start"] / FPS,
                end_s=(clip["start"] + frames) / FPS,
                licence=licence,
                kept=not against,
                reasons="; ".join(reason for reason, _ in against),
                found="; ".join(f"{reason}: {found}" for reason, found in against),
                prompt=prompt,
                text=None if own_prompt is None else text_name(prompt),
                reference_s=None if source.portrait else clip["reference"] / FPS,
                **{name: clip[name] for name in _MEASURED},
                keypoints_by=clip["keypoints_by"],
                picture=clip["picture"],
                made_of=json.dumps({**made_of, "stages": clip["stages"], "model": stamp.model}),
            )
        )
    return rows


_MEASURED = (
    *("face_px", "sharpness", "found_share", "hands_share", "speech_share", "people"),
    *("sync_confidence", "sync_offset"),
)


def _licence(source: Source, settings: PrepareSettings) -> str:
    return settings.licence if source.licence is None else source.licence


def _notes(observed: list[Observed], observe: ObserveSettings) -> Iterator[str]:
    for one in observed:
        yield from (f"{one.source.path}: {note}" for note in one.notes)
    unused_s = sum(one.unused_s for one in observed)
    if unused_s > 0:
        yield f"{unused_s:.1f} s at the ends of shots are shorter than a clip and are not used"
    if any(one.source.keypoints is not None for one in observed):
        yield "of videos with keypoints beside them it is not known how many people are seen"
    if observe.speech == "energy":
        yield "speech is found by loudness alone; silero-vad (pip install 'hallo4[data]') detects voices"
