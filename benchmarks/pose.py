"""How fast an estimator finds and follows a person: frames a second on one processor core.

`python benchmarks/pose.py [VIDEO] [--estimator light] [--frames 100]` holds the process to one core, reads
the frames beforehand and prints one JSON line: frames a second of following, of the first search in a frame,
and of all of `estimate_video` with reading and smoothing. Without VIDEO a public-domain portrait
(scikit-image) moves in a frame of 640x360.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from hallo4.media import VideoWriter, probe_video, read_frames
from hallo4.pose import estimate_video, load_estimator, parse_person
from hallo4.pose.follow import follow
from hallo4.pose.measure import video_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--estimator", default="light", choices=("light", "dwpose"))
    parser.add_argument("--frames", type=int, default=100)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        video = args.video or moving_portrait(Path(folder) / "portrait.mkv", args.frames)
        print(json.dumps(measured(video, args.estimator, args.frames)))


def moving_portrait(path: Path, frames: int) -> Path:
    from skimage.data import astronaut

    portrait = Image.fromarray(astronaut()).resize((360, 360))
    with VideoWriter(path, 640, 360) as writer:
        for k in range(frames):
            frame = Image.new("RGB", (640, 360), (90, 100, 110))
            frame.paste(portrait, (140 + round(30 * np.sin(k / 8)), round(6 * np.sin(k / 5))))
            writer.write(np.asarray(frame))
    return path


def measured(video: Path, name: str, most: int) -> dict[str, object]:
    estimator, info = load_estimator(name, "cpu"), probe_video(video)
    fps, _ = video_rate(info)
    frames = [frame for frame, _ in zip(read_frames(video, fps), range(most), strict=False)]
    times, began_s = [time.perf_counter()], time.process_time()
    track = follow(
        frames, estimator, parse_person("largest"), fps, lambda _: times.append(time.perf_counter())
    )
    processor_s = (time.process_time() - began_s) / len(frames)
    steps = np.diff(times)
    start = time.perf_counter()
    estimator.find(frames[0])
    search_s = time.perf_counter() - start
    start = time.perf_counter()
    findings = estimate_video(video, estimator)
    whole_s = time.perf_counter() - start
    return {
        "estimator": name,
        "size_px": [info.width_px, info.height_px],
        "frames": len(frames),
        "found": int(track.found.sum()),
        "follow_fps": round(1 / float(median(steps[1:])), 1),
        "follow_ms_95": round(1000 * float(np.quantile(steps[1:], 0.95)), 1),
        "follow_processor_ms": round(1000 * processor_s, 1),  # also of use on a busy machine
        "search_ms": round(1000 * search_s, 1),
        "estimate_video_fps": round(len(findings.skeleton) / whole_s, 1),
    }


if __name__ == "__main__":
    main()
