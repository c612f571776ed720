"""Folders of videos as `hallo4 evaluate videos` takes them: the truth, a system as good, and a poor one."""

import json

import numpy as np

from hallo4.evaluation.suites.videos import evaluate_videos
from hallo4.media import VideoWriter
from hallo4.world.files import MADE_BY

SIZE_PX = 64
CLIPS = ("ann", "bob", "cem")
OF_THE_WORLD = {"generator": MADE_BY}
"""Provenance of a video of the portrait world, which `auto` lets the observer look at."""


def write(path, frames, audio=None, fps=25.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        path, frames.shape[2], frames.shape[1], audio=audio, fps=fps, provenance=OF_THE_WORLD
    ) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))


def blurred(frames):
    wide = frames.astype(int)
    return ((wide + np.roll(wide, 2, 1) + np.roll(wide, 2, 2) + np.roll(wide, -2, 2)) // 4).astype(np.uint8)


def row(report, clip, system):
    """The row of a clip of a system, with what is empty in it."""
    (found,) = [r for r in report["rows"] if (r["clip"], r["system"]) == (clip, system)]
    return {"values": {}, "notes": [], "facts": {}, "lost": [], "problem": None, **found}


def evaluate(folders, *systems, **more):
    report = evaluate_videos(
        [folders / system for system in systems], folders / "truth", folders / "report.json", **more
    )
    json.dumps(report, allow_nan=False)
    assert json.loads((folders / "report.json").read_text()) == report
    return report
