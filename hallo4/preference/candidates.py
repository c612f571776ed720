"""Candidate clips: one condition, several takes, all encoded alike.

::

    conditions x Variant(checkpoint, seed, steps, guidance) --PortraitAnimator--+
    a video that another system made for a condition -----------25 fps, cut-----+--> clips/<clip_id>.mp4
                                                                                     one line of clips.jsonl

Raters and models must not see who made a clip: every clip of a condition has one size, rate, length, codec
and sound track, whatever it came from, and file names say nothing. What is in the store is never made twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from hallo4.engine import THIS_PROCESS, Engine, Outcome, Stage, raise_lost
from hallo4.errors import Cancelled, InputError
from hallo4.evaluation.suites.generators import TRUTH, weights_digest
from hallo4.input_file import file_sha256
from hallo4.media import VideoWriter, collect_notes, load_audio, provenance_record, read_frames
from hallo4.media.files import shown
from hallo4.pipelines import PortraitAnimator, resolve_model
from hallo4.pipelines.canvas import STRETCH_LIMIT
from hallo4.pipelines.model_info import read_info
from hallo4.pipelines.plan import frame_count
from hallo4.preference.conditions import SOUND_RATE_HZ, world_episode
from hallo4.preference.schema import Clip, Condition
from hallo4.preference.store import PreferenceStore
from hallo4.preference.watch import amplitude_px, watch
from hallo4.types import FPS

OWN_SYSTEM = "own"
GENERATED = "AI-generated from a portrait given with consent, or of the procedural world"
WITHHELD = "withheld: the clip is rated blind"

Setting = int | float | str


@dataclass(frozen=True)
class Variant:
    """One take of a model: `checkpoint` is a model name or folder, or `truth` (rendered world, for gold
    questions). `steps` and `guidance_scale` None: the model's own."""

    checkpoint: str = "tiny-dit"
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None


@dataclass(frozen=True)
class Source:
    """Who made a clip, and how; together with the condition it decides the clip's id."""

    system: str
    checkpoint: str
    seed: int
    settings: Mapping[str, Setting]
    consent: str = GENERATED

    def clip_id(self, condition_id: str) -> str:
        """Says nothing, and is the same for the same take."""
        words = [condition_id, self.system, self.checkpoint, self.seed, dict(self.settings)]
        return "k" + hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:20]


Take = Callable[[PreferenceStore, Condition, Variant], Iterable[np.ndarray]]
"""Frames [n, H, W, 3] uint8, piece by piece, of a variant of one checkpoint."""

Progress = Callable[[int, int, Clip], None]
"""(clips done, clips in all, the newest one)"""


def make_candidates(
    store: PreferenceStore,
    conditions: Sequence[Condition],
    variants: Sequence[Variant],
    on_progress: Progress | None = None,
    load: Callable[[str], Take] | None = None,
    engine: Engine = THIS_PROCESS,
) -> list[Clip]:
    """Make every variant of every condition that the store lacks; returns all of them, old and new.

    Checkpoint by checkpoint, each of them once in every worker of `engine`, all of which see the store under
    one path; `load` gives the maker of its frames. CheckpointError: no such model. InputError: see
    `add_clip_of_frames`; all other clips are made first. OutputError: another process makes clips of the
    store. Cancelled on Ctrl-C, with what is finished kept.
    """
    with store.sole_writer_of("clips"):
        return _make_candidates(store, conditions, variants, on_progress, load or load_take, engine)


def _make_candidates(
    store: PreferenceStore,
    conditions: Sequence[Condition],
    variants: Sequence[Variant],
    on_progress: Progress | None,
    load: Callable[[str], Take],
    engine: Engine,
) -> list[Clip]:
    checkpoints = dict.fromkeys(variant.checkpoint for variant in variants)
    digests = {checkpoint: weights_digest(checkpoint) for checkpoint in checkpoints}
    orders = [
        Order(condition, variant, source_of_variant(variant, digest))
        for checkpoint, digest in digests.items()
        for condition in conditions
        for variant in dict.fromkeys(variants)
        if variant.checkpoint == checkpoint
    ]
    known = store.clips()
    made = {order.clip_id: known[order.clip_id] for order in orders if order.clip_id in known}
    sizes = sizes_of(known.values())
    lost: list[Outcome] = []
    try:
        for done, clip in enumerate(made.values(), start=1):
            if on_progress is not None:
                on_progress(done, len(orders), clip)
        for checkpoint in digests:
            lacking = [
                replace(order, size_px=sizes.get(order.condition.condition_id))
                for order in orders
                if order.variant.checkpoint == checkpoint and order.clip_id not in made
            ]
            for outcome in engine.map(Stage(_Maker, (store.folder, checkpoint, load)), lacking):
                if outcome.error is not None:
                    lost.append(outcome)
                    continue
                clip = outcome.result()
                store.add_clip(clip)
                made[clip.clip_id] = clip
                if on_progress is not None:
                    on_progress(len(made), len(orders), clip)
            sizes |= sizes_of(made.values())
    except KeyboardInterrupt:
        raise Cancelled(
            f"stopped after {len(made)} of {len(orders)} clips, which are kept in {store.folder}; "
            "the same command goes on."
        ) from None
    raise_lost(lost, len(orders), "clips", f"the others are kept in {store.folder}")
    return [made[order.clip_id] for order in orders]


@dataclass(frozen=True)
class Order:
    """A clip that is wanted; `size_px`: (width, height) of the other clips of its condition, if there are
    any."""

    condition: Condition
    variant: Variant
    source: Source
    size_px: tuple[int, int] | None = None

    @property
    def clip_id(self) -> str:
        """The clip's, made or not."""
        return self.source.clip_id(self.condition.condition_id)


class _Maker:
    """What a worker does: an order -> its clip, encoded."""

    def __init__(self, settings: tuple[Path, str, Callable[[str], Take]]) -> None:
        folder, checkpoint, load = settings
        self.store = PreferenceStore.open(folder)
        self.take = load(checkpoint)

    def __call__(self, order: Order) -> Clip:
        frames = self.take(self.store, order.condition, order.variant)
        return _encoded(self.store, order.condition, frames, order.source, order.size_px)


def source_of_variant(variant: Variant, digest: str) -> Source:
    """How a variant is recorded: the model's own settings spelt out, and a digest of its weights."""
    if variant.checkpoint == TRUTH:
        return Source(TRUTH, TRUTH, variant.seed, {})
    info = read_info(resolve_model(variant.checkpoint))
    scale = variant.guidance_scale
    settings: dict[str, Setting] = {
        "steps": info.steps if variant.steps is None else variant.steps,
        "guidance_scale": info.guidance_scale if scale is None else scale,
        "weights": digest,
    }
    return Source(OWN_SYSTEM, variant.checkpoint, variant.seed, settings)


def load_take(checkpoint: str) -> Take:
    """The maker of a checkpoint's frames. CheckpointError: no such model."""
    if checkpoint == TRUTH:
        return _truth
    animator = PortraitAnimator.from_pretrained(checkpoint)

    def take(store: PreferenceStore, condition: Condition, variant: Variant) -> Iterator[np.ndarray]:
        return animator.frames(
            image=store.media_path(condition.portrait),
            audio=store.media_path(condition.audio),
            motion=None if condition.skeleton is None else store.media_path(condition.skeleton),
            seed=variant.seed,
            steps=variant.steps,
            guidance_scale=variant.guidance_scale,
        )

    return take


def _truth(store: PreferenceStore, condition: Condition, variant: Variant) -> Iterable[np.ndarray]:
    episode = world_episode(store, condition)
    if episode is None:
        raise InputError(f"{condition.condition_id}: is not of the world, so its truth is not known.")
    return [episode.frames_u8]


def register_video(
    store: PreferenceStore,
    condition: Condition,
    video: str | Path,
    system: str,
    checkpoint: str | None = None,
    seed: int = 0,
    consent: str = GENERATED,
) -> Clip:
    """Bring a video that another system made for `condition` into the store, encoded like all others.

    It is shown at 25 fps, scaled to the size of the condition's other clips, cut to the length of the sound
    and given the condition's sound. InputError: unreadable; shorter than the sound; of another shape.
    """
    digest = file_sha256(video, what="a video")[:16] if Path(video).is_file() else ""
    source = Source(system, checkpoint or system, seed, {"file": digest}, consent)
    known = store.clips().get(source.clip_id(condition.condition_id))
    if known is not None:
        return known
    frames = (frame[None] for frame in read_frames(video, FPS))
    return add_clip_of_frames(store, condition, frames, source, cut=True, name=shown(video))


def add_clip_of_frames(
    store: PreferenceStore,
    condition: Condition,
    frames: Iterable[np.ndarray],
    source: Source,
    cut: bool = False,
    name: str | None = None,
) -> Clip:
    """Encode frames [n, H, W, 3] uint8, given piece by piece, as the clip of `source`, and record it.

    InputError, calling the clip `name`: more or fewer frames than the condition's sound has (more are cut
    off with `cut`), or a shape unlike that of the condition's other clips (2 % of stretching are allowed).
    OutputError: it cannot be written.
    """
    size_px = sizes_of(store.clips().values()).get(condition.condition_id)
    clip = _encoded(store, condition, frames, source, size_px, cut, name)
    store.add_clip(clip)
    return clip


def _encoded(
    store: PreferenceStore,
    condition: Condition,
    frames: Iterable[np.ndarray],
    source: Source,
    size_px: tuple[int, int] | None,
    cut: bool = False,
    name: str | None = None,
) -> Clip:
    """See `add_clip_of_frames`; the store only has the file."""
    clip_id = source.clip_id(condition.condition_id)
    name = name or f"clip {clip_id}"
    with collect_notes([]):  # said when it was brought
        audio = load_audio(store.media_path(condition.audio), SOUND_RATE_HZ)
    wanted = frame_count(len(audio.samples), audio.sample_rate_hz)
    single = (frame for piece in frames for frame in piece)
    first = next(single, None)
    if first is None:
        raise InputError(f"{name}: has no frames.")
    width, height = _size(size_px, condition, first, name)
    relative = f"clips/{clip_id}.mp4"
    path = store.media_path(relative)
    label = provenance_record(WITHHELD, WITHHELD, 0)
    with VideoWriter(path, width, height, FPS, audio=audio, provenance=label) as writer:
        frame = first
        while frame is not None and writer.frames < wanted:
            writer.write(_scaled(frame, width, height))
            frame = next(single, None)
        if writer.frames < wanted or (frame is not None and not cut):
            found = f"{writer.frames}" if writer.frames < wanted else "more"
            raise InputError(
                f"{name}: has {found} frames at {FPS:g} fps; the sound of {condition.condition_id} lasts "
                f"{wanted}. Make it as long as its sound."
            )
    return Clip(
        clip_id=clip_id,
        condition_id=condition.condition_id,
        source_system=source.system,
        seed=source.seed,
        checkpoint=source.checkpoint,
        settings=dict(source.settings),
        path=relative,
        sha256=file_sha256(path),
        fps=FPS,
        frames=wanted,
        width_px=width,
        height_px=height,
        consent=source.consent,
        motion_amplitude=amplitude_px(watch(path)),
    )


def sizes_of(clips: Iterable[Clip]) -> dict[str, tuple[int, int]]:
    """Id of a condition -> (width, height) of its clips; the first one decides."""
    sizes: dict[str, tuple[int, int]] = {}
    for clip in clips:
        sizes.setdefault(clip.condition_id, (clip.width_px, clip.height_px))
    return sizes


def _size(
    others_px: tuple[int, int] | None, condition: Condition, first_u8: np.ndarray, name: str
) -> tuple[int, int]:
    """(width, height) of a clip: that of the condition's others, else its own, made even for the codec."""
    height, width = first_u8.shape[:2]
    if others_px is None:
        return width + width % 2, height + height % 2
    stretch = (width / height) / (others_px[0] / others_px[1])
    if not 1 / (1 + STRETCH_LIMIT) <= stretch <= 1 + STRETCH_LIMIT:
        raise InputError(
            f"{name}: is {width}x{height} pixels; the other clips of {condition.condition_id} are "
            f"{others_px[0]}x{others_px[1]}. Crop it to that shape."
        )
    return others_px


def _scaled(frame_u8: np.ndarray, width: int, height: int) -> np.ndarray:
    if frame_u8.shape[:2] == (height, width):
        return frame_u8
    return np.asarray(Image.fromarray(frame_u8).resize((width, height), Image.Resampling.LANCZOS))
