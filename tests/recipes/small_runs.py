"""Shards and preference stores for a model folder, made quickly: noise that is said to show a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from hallo4.data import ClipFilters, PrepareSettings, prepare_videos
from hallo4.media import VideoWriter, save_wav
from hallo4.motion import default_rest_pose, idle_motion, save_skeleton
from hallo4.preference import Pair, PreferenceStore, Variant, make_candidates
from hallo4.preference.conditions import add_condition_of_files

LAX = ClipFilters(min_face_px=0, min_sharpness=0, min_speech=0)


def noise_videos(folder: Path, sound, frames: int, size: tuple[int, int], count: int = 2) -> Path:
    """`count` videos of noise, `size` (width, height), with the keypoints of a person at rest."""
    folder.mkdir()
    width, height = size
    rest = default_rest_pose(width, height)
    points, confidence = (np.repeat(x, frames, axis=0) for x in (rest.points_px, rest.confidence))
    for number in range(count):
        rng = np.random.default_rng(number)
        with VideoWriter(folder / f"{number}.mp4", width, height, audio=sound(frames / 25)) as writer:
            for _ in range(frames):
                writer.write(rng.integers(0, 256, (height, width, 3), np.uint8))
        skeleton = replace(rest, points_px=points, confidence=confidence)
        save_skeleton(folder / f"{number}.keypoints.json", skeleton)
    return folder


def prepared(videos: Path, shards: Path, model: Path) -> Path:
    """The videos as shards for `model`."""
    prepare_videos([videos], shards, PrepareSettings(str(model), filters=LAX, speech="energy", licence="own"))
    return shards


def rated_pairs(folder: Path, model: Path, sound, frames: int, people: int = 2) -> PreferenceStore:
    """Two takes of each of `people`, the second of which is said to be better; the last are held out."""
    folder.mkdir()
    store = PreferenceStore.create(folder / "store")
    axis = {"winner": 4.0, "loser": 2.0, "n": 3, "spread": 0.0}
    pairs = []
    for number in range(people):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / "face.png")
        save_wav(folder / "speech.wav", sound(frames / 25))
        save_skeleton(folder / "moves.json", idle_motion(default_rest_pose(48, 48), frames, 3, number))
        files = (folder / "face.png", folder / "speech.wav", folder / "moves.json")
        condition = add_condition_of_files(store, *files)
        takes = [Variant(str(model), seed, steps=2) for seed in (0, 1)]
        loser, winner = make_candidates(store, [condition], takes)
        split = "held_out" if number == people - 1 else "train"
        names = (f"pair-{number}", condition.condition_id, winner.clip_id, loser.clip_id)
        axes = {"alignment": axis, "fidelity": dict(axis)}
        pairs.append(Pair(*names, axes, gap=2.0, weight=1.0, split=split, segment_labels=None))
    store.write_pairs(pairs)
    return store
