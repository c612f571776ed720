"""Every command that works for long, in a small version: what it starts from, its words, and what stands in
for what is not tried here."""

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import peft  # noqa: F401  (this and the next ones once, not in every run)
import tyro  # noqa: F401

import hallo4.data.clips
import hallo4.data.prepare
import hallo4.evaluation.suites.videos
import hallo4.evaluation.suites.world
import hallo4.pipelines.convert
import hallo4.pose.files
import hallo4.preference.candidates
import hallo4.preference.score
import hallo4.recipes
import hallo4.training.loop
from hallo4.media import VideoWriter, save_wav
from hallo4.media.image import save_png
from hallo4.motion import save_skeleton
from hallo4.pose.measure import PoseFindings
from hallo4.preference import MachineScore, Pair, PreferenceStore, Variant, make_candidates
from hallo4.preference.conditions import add_condition_of_files
from hallo4.preference.schema import AXES
from hallo4.training import read_log
from hallo4.types import KEYPOINTS, Audio, Skeleton
from hallo4.whole import write_whole


def beside(path):
    """A module of another folder of tests."""
    file = Path(__file__).parents[1] / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


acting = beside("data/conftest.py")
records = beside("preference/preference_records.py")
releases = beside("pipelines/tiny_releases.py")
talking = beside("data/talking_videos.py")
tiny_model = beside("tiny_model.py")


def nothing(work):
    """The command needs nothing."""


def scored_store(work):
    store = PreferenceStore.create(work / "store")
    store.add_condition(records.condition())
    for number in range(4):
        store.add_clip(records.clip(f"k{number}"))


def fake_scores(store, clip, condition, truth, version):
    value = 2.0 + int(clip.clip_id[1:]) / 4
    return [MachineScore(clip.clip_id, axis, value, {}, "fake", version) for axis in AXES]


def two_videos(work):
    frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    for folder in ("truth", "theirs"):
        (work / folder).mkdir()
        for name in ("ann", "bob"):
            with VideoWriter(work / folder / f"{name}.mp4", 64, 64) as writer:
                for frame in frames:
                    writer.write(frame)


def fake_estimate(path, *_, **__):
    points = np.full((6, KEYPOINTS, 2), 9.0 + len(str(path)), np.float32)
    skeleton = Skeleton(points, np.ones((6, KEYPOINTS), np.float32), 25.0, 64, 64)
    boxes, found = np.zeros((6, 4)), np.ones(6, bool)
    return PoseFindings(skeleton, boxes, boxes, found, points[..., 0] > 99, (), ("a note",))


def release(work):
    releases.make_release(work / "released")


def model(work):
    tiny_model.save_model(tiny_model.make_parts(), work / "model")


def portrait_and_speech(work):
    model(work)
    down, across = np.mgrid[0:40, 0:40]
    shades = np.stack([6 * down, 6 * across, 120 + 3 * (down - across)], axis=-1).clip(0, 255)
    save_png(work / "p.png", shades.astype(np.uint8))
    time_s = np.arange(11_200) / 16_000  # 18 frames: four windows and a piece
    save_wav(work / "a.wav", Audio((0.3 * np.sin(1400 * time_s)).astype(np.float32), 16_000))


def people_on_film(work):
    model(work)
    for seed in (3, 4):
        talking.talking(acting.quick_act, work / "videos" / f"person{seed}.mp4", seed)


def stores_of_pairs(work):
    """Two takes of each of two people; the second is said to be better, of one for training."""
    portrait_and_speech(work)
    save_png(work / "q.png", np.full((40, 40, 3), 99, np.uint8))
    store = PreferenceStore.create(work / "store")
    axis = {"winner": 4.0, "loser": 2.0, "n": 3, "spread": 0.0}
    save_skeleton(work / "k.json", talking.acted(acting.quick_act, 3, 18, 40)[1])
    pairs = []
    for face, split in (("p.png", "train"), ("q.png", "held_out")):
        condition = add_condition_of_files(store, work / face, work / "a.wav", work / "k.json")
        variants = [Variant(str(work / "model"), seed) for seed in (0, 1)]
        loser, winner = make_candidates(store, [condition], variants)
        ids = (f"pair-{split}", condition.condition_id, winner.clip_id, loser.clip_id)
        axes = {"alignment": axis, "fidelity": dict(axis)}
        pairs.append(Pair(*ids, axes, gap=2.0, weight=1.0, split=split, segment_labels=None))
    store.write_pairs(pairs)


def in_threads(workers, *_):
    return ThreadPoolExecutor(1)


def plot_quickly(folder):
    """Which steps a plot would show; drawing them takes seconds."""
    write_whole(folder / "loss.png", str([record["step"] for record in read_log(folder)]))


FAKE = SimpleNamespace(name="light")


def stand_ins():
    """What measures is not what is tried here, and people of the world hum."""
    hallo4.preference.score.machine_scores = fake_scores
    hallo4.preference.score.world_truth = lambda *_: None
    hallo4.pose.files.load_estimator = lambda *_: FAKE
    hallo4.pose.files.estimate_video = fake_estimate
    hallo4.data.clips.act = acting.quick_act
    hallo4.data.clips.worker_pool = in_threads
    hallo4.training.loop.plot_log = plot_quickly


@dataclass(frozen=True)
class Command:
    """`prepare(folder)` makes what `words` need; `rounds`: how many times it is killed in the suite."""

    prepare: object
    words: str
    rounds: int = 3


TRAIN = (
    "--set train.schedule.warmup_steps=0 --set train.max_minutes=none --set train.save_minutes=1e-9 "
    "--set train.log_every=1"
)
COMMANDS = {
    "animate": Command(portrait_and_speech, "animate p.png a.wav --model model -o talk.mp4 --quiet"),
    "train": Command(
        model,
        f"train tiny-dit-sft -o run {TRAIN} --set train.steps=6 --set model=model --set batch_size=2 "
        "--set clips.episodes=2 --set clips.windows=1 --set clips.frames=5 --set clips.seconds=0.4 "
        "--set clips.size_px=64 --set clips.episodes_per_shard=1 --set clips_folder=clips "
        "--set latents_folder=latents",
    ),
    "train on preferences": Command(
        stores_of_pairs,
        f"train tiny-dpo -o run {TRAIN} --set train.steps=5 --set train.preview_every=1 "
        "--set model=model --set store=store --set pairs_folder=pairs --set batch_size=2 "
        "--set held_out.motion_windows=0 --set held_out.windows=2",
    ),
    "prefer candidates": Command(
        model, "prefer candidates store --model model --episodes 2 --seeds 2 --seconds 0.4 --size-px 64"
    ),
    "prefer score": Command(scored_store, "prefer score store", rounds=4),
    "evaluate world": Command(
        nothing, "evaluate world --model truth --episodes 2 --seconds 0.4 --players 0 -o report.json"
    ),
    "evaluate videos": Command(
        two_videos, "evaluate videos theirs --against truth --pose files --players 0 -o report.json"
    ),
    "keypoints": Command(two_videos, "keypoints theirs -o points --estimator light"),
    "world episode": Command(nothing, "world episode --seconds 0.4 --size-px 64 -o episode"),
    "weights convert": Command(release, "weights convert released -o model --quiet"),
    "data prepare": Command(
        people_on_film,
        "data prepare videos -o shards --model model --speech energy --min-face-px 4 --min-sharpness 0 "
        "--min-speech 0 --quiet",
    ),
}
ROUNDS = int(os.environ.get("HALLO4_KILLS", "0"))
"""Of each command, in place of its own number."""
