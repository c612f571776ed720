"""Conditions: who is to say what, moving how. From episodes of the portrait world, or from files.

::

    seed of the world -+                                     portrait.png
    picture, sound,    +--> conditions/<condition_id>/  <--  speech.wav
    skeleton files ----+                                     keypoints.json  [episode.json: the world's seed]
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.errors import InputError, OutputError
from hallo4.json_file import read_json
from hallo4.media import load_audio, load_image, save_wav
from hallo4.media.image import save_png
from hallo4.motion import load_skeleton, save_skeleton
from hallo4.preference.schema import Condition
from hallo4.preference.store import PreferenceStore
from hallo4.ranges import Seconds, Seed, SidePx
from hallo4.types import FPS, Audio, Skeleton
from hallo4.whole import write_whole
from hallo4.world import Episode, make_episode
from hallo4.world.look import DRAWN, WorldName, named_beside

PREFERENCE_SEEDS = range(3_000_000, 4_000_000)
"""Seeds of the world for candidates: no model, no instrument and no evaluation ever sees these people."""

SOUND_RATE_HZ = 48_000


@dataclass(frozen=True)
class WorldSeed:
    """What makes an episode again: `episode.json` of a condition."""

    seed: Seed
    seconds: Seconds
    size_px: SidePx
    world: WorldName = DRAWN

    def record(self) -> dict[str, Any]:
        """For `episode.json`, which names no other world than the first by not naming it."""
        values = asdict(self)
        del values["world"]
        return values | named_beside(self.world)

    def episode(self) -> Episode:
        """It, with its truth."""
        return make_episode(self.seed, self.seconds, self.size_px, world=self.world)


def add_world_condition(
    store: PreferenceStore, episode: int, seconds: float = 3.2, size_px: int = 128, world: WorldName = DRAWN
) -> Condition:
    """The condition of episode number `episode` (from 0) of `PREFERENCE_SEEDS` in `world`; made if it is not
    there yet.

    InputError: a number, length or size that the world does not have. OutputError: it cannot be written.
    """
    if not 0 <= episode < len(PREFERENCE_SEEDS):
        raise InputError(f"episode is {episode}; allowed is 0 to {len(PREFERENCE_SEEDS) - 1}.")
    of = WorldSeed(PREFERENCE_SEEDS[episode], seconds, size_px, world)
    name = f"world-{of.seed}-{round(seconds * FPS)}f-{size_px}px" + ("" if world == DRAWN else f"-{world}")
    known = store.conditions().get(name)
    if known is not None:
        return known
    made = of.episode()
    # A person and what they say both come from the seed, whatever the length, size and world.
    condition = Condition(
        name, f"world-person-{of.seed}", f"world-speech-{of.seed}", *_places(name, made.skeleton)
    )
    return _written(store, condition, made.portrait_u8, made.audio, made.skeleton, of)


def add_condition_of_files(
    store: PreferenceStore,
    portrait: str | Path,
    audio: str | Path,
    skeleton: str | Path | None = None,
    identity_id: str | None = None,
    audio_id: str | None = None,
) -> Condition:
    """A condition of the user's own files, copied into the store as PNG, WAV and keypoints.

    Without `identity_id` and `audio_id` the contents stand for themselves: name the person if there are
    several portraits of them, or the split cannot keep them together. InputError: a file cannot be used.
    """
    picture, sound = load_image(portrait), load_audio(audio, SOUND_RATE_HZ)
    motion = None if skeleton is None else load_skeleton(skeleton)
    face, speech = _digest(picture), _digest(sound.samples)
    moves = "" if motion is None else _digest(motion.points_px)
    identity_id, audio_id = identity_id or f"face-{face}", audio_id or f"sound-{speech}"
    name = "files-" + _digest(np.frombuffer(f"{face} {speech} {moves}".encode(), np.uint8))
    condition = Condition(name, identity_id, audio_id, *_places(name, motion))
    return _written(store, condition, picture, sound, motion, None)


def world_seed(store: PreferenceStore, condition: Condition) -> WorldSeed | None:
    """Which episode of the world a condition is; None if it is of files. InputError: the note is damaged."""
    path = store.media_path(condition.portrait).parent / "episode.json"
    if not path.exists():
        return None
    return read_json(path, WorldSeed, advice="Delete it, or make the condition again.")


def world_episode(store: PreferenceStore, condition: Condition) -> Episode | None:
    """The episode behind a condition, with its truth; None if the condition is of files."""
    world = world_seed(store, condition)
    return None if world is None else world.episode()


def _places(name: str, motion: Skeleton | None) -> tuple[str, str, str | None]:
    folder = f"conditions/{name}"
    skeleton = None if motion is None else f"{folder}/keypoints.json"
    return f"{folder}/portrait.png", f"{folder}/speech.wav", skeleton


def _written(
    store: PreferenceStore,
    condition: Condition,
    portrait_u8: np.ndarray,
    audio: Audio,
    skeleton: Skeleton | None,
    world: WorldSeed | None,
) -> Condition:
    """Files first, then the record: a condition in the log has its files."""
    if condition == store.conditions().get(condition.condition_id):
        return condition
    portrait = store.media_path(condition.portrait)
    try:
        portrait.parent.mkdir(parents=True, exist_ok=True)
        save_png(portrait, portrait_u8)
        save_wav(store.media_path(condition.audio), audio)
        if skeleton is not None and condition.skeleton is not None:
            save_skeleton(store.media_path(condition.skeleton), skeleton)
        if world is not None:
            write_whole(portrait.parent / "episode.json", json.dumps(world.record()) + "\n")
    except OSError as error:
        raise OutputError(
            f"{portrait.parent}: cannot be written ({error.strerror}). Free some space, then try again."
        ) from error
    store.add_condition(condition)
    return condition


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
