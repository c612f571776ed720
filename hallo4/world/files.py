"""An episode on disk: what `hallo4 world episode` writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from hallo4.media import VideoWriter, save_wav
from hallo4.motion import draw_skeleton, save_skeleton
from hallo4.types import FPS
from hallo4.version import __version__
from hallo4.world.episode import Episode

MADE_BY = "portrait world"
"""How videos of episodes end what they say, in their provenance, of their `generator`."""


def write_episode(episode: Episode, folder: str | Path) -> dict[str, Path]:
    """Write `portrait.png speech.wav skeleton.mp4 keypoints.json video.mp4 truth.json`; returns their
    paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("portrait.png", "speech.wav", "skeleton.mp4", "keypoints.json", "video.mp4", "truth.json")
    paths = {name: folder / name for name in names}
    size_px = episode.portrait_u8.shape[0]
    provenance = {"generator": f"hallo4 {__version__} {MADE_BY}", "seed": str(episode.seed)}
    Image.fromarray(episode.portrait_u8).save(paths["portrait.png"])
    save_wav(paths["speech.wav"], episode.audio)
    save_skeleton(paths["keypoints.json"], episode.skeleton)
    drawings = draw_skeleton(episode.skeleton, size_px, size_px)
    for name, frames, sound in (
        ("skeleton.mp4", drawings, None),
        ("video.mp4", episode.frames_u8, episode.audio),
    ):
        with VideoWriter(paths[name], size_px, size_px, audio=sound, provenance=provenance) as writer:
            for frame in frames:
                writer.write(frame)
    paths["truth.json"].write_text(json.dumps(_truth_record(episode), indent=1))
    return paths


def _truth_record(episode: Episode) -> dict:
    curves = {name: np.round(curve, 4).tolist() for name, curve in asdict(episode.truth).items()}
    performance = {
        name: np.round(getattr(episode.performance, name), 4).tolist()
        for name in ("yaw", "pitch", "roll", "head", "gaze")
    }
    joints = np.round(episode.skeleton.points_px, 2).tolist()
    return {
        "seed": episode.seed,
        "fps": FPS,
        "size_px": int(episode.portrait_u8.shape[0]),
        "frames": len(episode.frames_u8),
        "identity": asdict(episode.identity),
        "phonemes": [[p.symbol, round(p.start_s, 4), round(p.end_s, 4)] for p in episode.phonemes],
        **curves,
        **performance,
        "joints_px": joints,
    }
