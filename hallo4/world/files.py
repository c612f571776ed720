"""An episode on disk: what `hallo4 world episode` writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hallo4.errors import OutputError
from hallo4.media import VideoWriter, save_wav
from hallo4.media.image import save_png
from hallo4.motion import draw_skeleton, save_skeleton
from hallo4.outputs import refuse_output
from hallo4.types import FPS
from hallo4.version import __version__
from hallo4.whole import refuse_fixed_folder, whole_folder
from hallo4.world.episode import Episode
from hallo4.world.look import DRAWN

NAMES = ("portrait.png", "speech.wav", "skeleton.mp4", "keypoints.json", "video.mp4", "truth.json")
MADE_BY = "portrait world"
"""How videos of episodes end what they say, in their provenance, of their `generator`."""


def write_episode(episode: Episode, folder: str | Path) -> dict[str, Path]:
    """Write `portrait.png speech.wav skeleton.mp4 keypoints.json video.mp4 truth.json`; returns their
    paths.

    The folder appears, or takes the place of an empty folder or of an older episode, when all of them are
    made. OSError, OutputError: they cannot be written, or see `check_episode_folder`; what was there stays.
    """
    folder = Path(folder)
    check_episode_folder(folder)
    height_px, width_px = episode.portrait_u8.shape[:2]
    provenance = {"generator": f"hallo4 {__version__} {MADE_BY}", "seed": str(episode.seed)}
    if episode.identity.world != DRAWN:  # files of the first world stay as they are
        provenance["world"] = episode.identity.world
    with whole_folder(folder) as building:
        save_png(building / "portrait.png", episode.portrait_u8)
        save_wav(building / "speech.wav", episode.audio)
        save_skeleton(building / "keypoints.json", episode.skeleton)
        drawings = draw_skeleton(episode.skeleton, width_px, height_px)
        for name, frames, sound in (
            ("skeleton.mp4", drawings, None),
            ("video.mp4", episode.frames_u8, episode.audio),
        ):
            with VideoWriter(
                building / name, width_px, height_px, audio=sound, provenance=provenance
            ) as writer:
                for frame in frames:
                    writer.write(frame)
        (building / "truth.json").write_text(json.dumps(_truth_record(episode), indent=1))
    return {name: folder / name for name in NAMES}


def check_episode_folder(folder: str | Path) -> None:
    """OutputError unless an episode may be written as `folder`: it is not there, or is empty, or holds an
    episode and nothing else, because it is replaced as a whole."""
    folder = Path(folder)
    refuse_output(folder)
    try:
        refuse_fixed_folder(folder)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file. Give the name of a folder.")
        others = sorted({path.name for path in folder.iterdir()} - {*NAMES}) if folder.is_dir() else []
    except OSError as error:
        raise OutputError(
            f"{folder}: the episode cannot be written there ({error.strerror}). Choose another folder."
        ) from error
    if others:
        raise OutputError(
            f"{folder}: holds {others[0]}, which is not part of an episode; a folder is replaced as a whole. "
            "Choose a new folder."
        )


def _truth_record(episode: Episode) -> dict:
    curves = {name: np.round(curve, 4).tolist() for name, curve in asdict(episode.truth).items()}
    performance = {
        name: np.round(getattr(episode.performance, name), 4).tolist()
        for name in ("yaw", "pitch", "roll", "head", "gaze")
    }
    joints = np.round(episode.skeleton.points_px, 2).tolist()
    return {
        "seed": episode.seed,
        "world": episode.identity.world,
        "fps": FPS,
        "width_px": episode.skeleton.width_px,
        "height_px": episode.skeleton.height_px,
        "frames": len(episode.frames_u8),
        "identity": asdict(episode.identity),
        "phonemes": [[p.symbol, round(p.start_s, 4), round(p.end_s, 4)] for p in episode.phonemes],
        **curves,
        **performance,
        "joints_px": joints,
    }
