"""Gold questions: a clip beside a spoilt copy of itself, so that the right answer is known beforehand.

::

    clip --frames half a clip late--------> its lips and hands miss the sound: worse in alignment
         --six pixels made one, grey------> skin never looks so: worse in fidelity

Whoever gets these wrong does not look (dpo.md 3.3: at least 0.8 of them right). Spoilt copies are of the
system `gold-check`, are asked about in gold questions only, and never become training pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from hallo4.media import read_frames
from hallo4.preference.candidates import Source, add_clip_of_frames
from hallo4.preference.schema import Axis, Clip, GoldAnswer
from hallo4.preference.store import PreferenceStore
from hallo4.types import FPS

GOLD_SYSTEM = "gold-check"
"""`source_system` of spoilt copies."""

COARSE_PX = 6


def out_of_step(frames_u8: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] -> the same, half the clip late and then from its beginning."""
    return np.roll(frames_u8, len(frames_u8) // 2, axis=0)


def coarse(frames_u8: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] -> the same in blocks of 6 x 6 pixels with half of the colour gone."""
    height, width = frames_u8.shape[1:3]
    small = (max(1, width // COARSE_PX), max(1, height // COARSE_PX))
    spoilt = []
    for frame in frames_u8:
        blocks = Image.fromarray(frame).resize(small, Image.Resampling.BOX).resize((width, height), 0)
        pixels = np.asarray(blocks).astype(np.float32)
        spoilt.append(0.5 * pixels + 0.5 * pixels.mean(axis=-1, keepdims=True))
    return np.stack(spoilt).round().astype(np.uint8)


SPOIL: dict[Axis, Callable[[np.ndarray], np.ndarray]] = {"alignment": out_of_step, "fidelity": coarse}


def make_gold(store: PreferenceStore, count: int, seed: int = 0) -> list[GoldAnswer]:
    """Make `count` gold questions, axes in turn, from clips of different conditions; what is there stays.

    The same store and seed give the same ones. OutputError: it cannot be written.
    """
    axes = list(SPOIL)
    gold = []
    for number, clip in enumerate(_chosen(store, count, seed)):
        axis = axes[number % len(axes)]
        condition = store.conditions()[clip.condition_id]
        source = Source(GOLD_SYSTEM, GOLD_SYSTEM, 0, {"of": clip.clip_id, "spoilt": axis}, clip.consent)
        spoilt = store.clips().get(source.clip_id(clip.condition_id))
        if spoilt is None:
            frames_u8 = np.stack(list(read_frames(store.media_path(clip.path), FPS)))
            spoilt = add_clip_of_frames(store, condition, [SPOIL[axis](frames_u8)], source)
        gold.append(GoldAnswer(clip.clip_id, spoilt.clip_id, axis, "a"))
        store.add_gold(gold[-1])
    return gold


def _chosen(store: PreferenceStore, count: int, seed: int) -> list[Clip]:
    """Clips in an order hashed from the seed, at first one of each condition, then a second of each ..."""
    ranked = sorted(
        (clip for clip in store.clips().values() if clip.source_system != GOLD_SYSTEM),
        key=lambda clip: hashlib.sha256(f"{seed} {clip.clip_id}".encode()).digest(),
    )
    turn: dict[str, int] = {}
    rounds = []
    for clip in ranked:
        turn[clip.condition_id] = turn.get(clip.condition_id, -1) + 1
        rounds.append((turn[clip.condition_id], clip))
    return [clip for _, clip in sorted(rounds, key=lambda item: item[0])][:count]
