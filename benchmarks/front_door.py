"""The same world by two ways: as rendered clips, and as ordinary videos that `hallo4 data prepare` reads.

`python benchmarks/front_door.py FOLDER [--episodes 600 --steps 400 --unseen 40 ...]` writes `--episodes`
episodes of the portrait world as H.264 videos of several sizes, rates, containers and sound rates, with
keypoints and the portrait at rest beside them, prepares them with `--workers` processes, trains one model on
these shards and on the same episodes as the recipe renders them, from the same start for equal steps of equal
batches, and evaluates both on the same unseen episodes. The start is `--start` with new weights wherever
sound and skeletons enter, so that both ways have lips and limbs to learn. Prints one JSON line: clips a
second of `prepare`, and of both ways lip sync and joint error with their intervals, and the paired
difference. What is finished in FOLDER is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from PIL import Image

from hallo4.data import ClipStoreConfig, PrepareSettings, prepare_videos
from hallo4.engine import open_engine
from hallo4.evaluation import compare_reports, evaluate_world
from hallo4.media import VideoWriter
from hallo4.motion import save_skeleton
from hallo4.pipelines import load_model
from hallo4.pipelines.model_folder import save_trained_folder
from hallo4.recipes import RECIPES
from hallo4.recipes.tmm_expansion import with_new_modulation
from hallo4.types import FPS, Audio, Skeleton
from hallo4.world import make_episode

METRICS = ("lip_sync_correlation", "joint_error_fraction")
KINDS = (
    (128, 25.0, ".mp4", 48_000),
    (192, 25.0, ".mp4", 22_050),
    (256, 30.0, ".mp4", 44_100),
    (160, 50.0, ".mkv", 16_000),
    (128, 24.0, ".mkv", 48_000),
)
"""Size, rate, container and sound rate of the videos, in turn."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=3.4)
    parser.add_argument("--start", default="tiny-dit-sft", help="the model whose pictures both begin with")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--unseen", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def film(folder: Path, number: int, seconds: float) -> None:
    """Episode `number` as a video of its kind, with its keypoints, which say the size they were made at, and
    its portrait."""
    size_px, fps, suffix, sound_hz = KINDS[number % len(KINDS)]
    path = folder / f"person{number:04d}{suffix}"
    if path.exists():
        return
    episode = make_episode(number, seconds, 128)
    keypoints = path.with_name(f"{path.stem}.keypoints.json")
    skeleton: Skeleton = episode.skeleton
    save_skeleton(keypoints, skeleton)
    portrait = Image.fromarray(episode.portrait_u8).resize((size_px, size_px), Image.Resampling.BICUBIC)
    portrait.save(path.with_name(f"{path.stem}.portrait.png"))
    rate = episode.audio.sample_rate_hz
    audio = Audio(soxr.resample(episode.audio.samples, rate, sound_hz).astype(np.float32), sound_hz)
    with VideoWriter(path, size_px, size_px, fps=fps, audio=audio) as writer:
        for tick in range(round(len(episode.frames_u8) / FPS * fps)):
            shown_u8 = episode.frames_u8[min(round(tick / fps * FPS), len(episode.frames_u8) - 1)]
            picture = Image.fromarray(shown_u8).resize((size_px, size_px), Image.Resampling.BICUBIC)
            writer.write(np.asarray(picture))


def early_model(args: argparse.Namespace) -> Path:
    """`--start` as it is before it has learnt anything about sound and skeletons."""
    folder: Path = args.folder / "start"
    if folder.exists():
        return folder
    model = load_model(args.start)
    backbone = with_new_modulation(model.backbone, seed=0)
    info = replace(model.info, name="start")
    card = f"{args.start} with new modulation weights.\n"
    return save_trained_folder(folder, model.folder, info, backbone, card)


def trained(args: argparse.Namespace, start: Path, way: str, **clips: Any) -> Path:
    """A model that was trained on the clips of one way, for `--steps` steps."""
    folder: Path = args.folder / way
    recipe = RECIPES["tiny-dit-sft"]()
    train = replace(recipe.config.train, steps=args.steps, max_minutes=None)
    config = replace(
        recipe.config, train=train, model=str(start), batch_size=args.batch_size, model_name=way, **clips
    )
    return folder / "model" if (folder / "model").exists() else recipe.run(config, folder)


def main() -> None:
    args = arguments()
    videos, shards = args.folder / "videos", args.folder / "shards"
    videos.mkdir(parents=True, exist_ok=True)
    for number in range(args.episodes):
        film(videos, number, args.seconds)
    start = early_model(args)
    began = time.perf_counter()
    with open_engine(args.workers) as engine:
        prepared = prepare_videos([videos], shards, PrepareSettings(args.start), engine)
    took_s, made = time.perf_counter() - began, prepared.made["encode"]
    kept = sum(row.kept for row in prepared.rows)
    store = ClipStoreConfig(episodes=args.episodes, seconds=args.seconds)
    rendered = {"clips_folder": str(args.folder / "clips"), "latents_folder": str(args.folder / "latents")}
    models = {
        "front-door": trained(args, start, "front-door", prepared=str(shards)),
        "native": trained(args, start, "native", clips=store, **rendered),
    }
    reports = {"start": args.folder / "start.json"}
    reports |= {way: args.folder / f"{way}.json" for way in models}
    with open_engine(args.workers) as engine:
        for way, out in reports.items():
            model = str(models.get(way, start))
            evaluate_world(model, None, args.unseen, 7, 1.96, out=out, engine=engine, players=0)
    compared = compare_reports([f"{way}={reports[way]}" for way in ("native", "front-door")])
    found = {
        way: {name: json.loads(out.read_text())["metrics"][name] for name in METRICS}
        for way, out in reports.items()
    }
    record = {
        "episodes": args.episodes, "clips": kept, "steps": args.steps, "batch_size": args.batch_size,
        "unseen": args.unseen, "start": args.start, "metrics": found,
        "clips_per_s": made / took_s if made else None,
        "front_door_less_native": compared["compared"]["front-door"]["difference"],
    }  # fmt: skip
    print(json.dumps(record))


if __name__ == "__main__":
    main()
