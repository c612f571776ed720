"""Good files of every kind that hallo4 reads, and ways to break them, by fixed seeds."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

from hallo4.media import save_wav
from hallo4.media.parquet_files import write_table
from hallo4.motion import draw_skeleton, save_skeleton
from hallo4.preference import PreferenceStore
from hallo4.preference.lines import import_lines
from hallo4.types import KEYPOINTS, Skeleton

STRANGE = (
    *(None, True, False, -1, 0, 1, 2**31, 10**9, 10**30, 1e308, -1e308, 1e-320, 0.5, "", "x", "nan", "16"),
    *([], {}, [[[]]], [1], {"a": 1}, ["x"], "\0", "\ud800", "x" * 400, "../../x", "/dev/zero", "é\n"),
)
ROOT = Path(__file__).parent.parent
MADE = {"out.mp4", "look.png", "c.json", "c.html", "new", "begun", "report"}
"""What the commands of the cases write."""


def person() -> Skeleton:
    """Two frames of points that look like a person."""
    spread = np.random.default_rng(0).uniform(10, 30, (2, KEYPOINTS, 2)).astype(np.float32)
    return Skeleton(spread, np.ones((2, KEYPOINTS), np.float32), 25.0, 40, 40)


def store_lines() -> dict[str, list[str]]:
    from hallo4.preference.schema import Clip, Condition, MachineScore, Rating

    condition = Condition("c0", "i0", "s0", "conditions/c0/portrait.png", "conditions/c0/speech.wav", None)
    clips = [
        Clip(
            *(f"k{n}", "c0", "other", n, "none", {"a": 1}, f"clips/k{n}.mp4", "0" * 64),
            25.0,
            5,
            32,
            32,
            "own",
            None,
        )
        for n in range(2)
    ]
    rating = Rating(
        *(
            "e0",
            "r0",
            "alignment",
            "comparison",
            None,
            "k0",
            "k1",
            "a",
            "k0",
            {"k0": ("broken",)},
            900,
            1,
            "1",
            "plain",
            None,
            True,
        )
    )
    score = MachineScore("k0", "fidelity", 3.0, {"ssim": 0.5}, "world", "1")
    return {
        "conditions.jsonl": [condition.to_json()],
        "clips.jsonl": [clip.to_json() for clip in clips],
        "ratings.jsonl": [rating.to_json()],
        "scores.jsonl": [score.to_json()],
        "gold.jsonl": [],
        "pairs.jsonl": [],
    }


def write_video(path: Path, frames_u8: np.ndarray, codec: str, pixel_format: str) -> None:
    """[T, H, W, 3] at 25 a second, by FFmpeg alone."""
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames_u8.shape[1:3]
        stream.pix_fmt = pixel_format
        for number, frame_u8 in enumerate(frames_u8):
            frame = av.VideoFrame.from_ndarray(frame_u8, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


VIDEOS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("mpeg4", "yuv420p"),
    "mkv": ("ffv1", "bgr0"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "avi": ("mjpeg", "yuvj420p"),
}
PICTURES = ("jpg", "webp", "bmp", "avif", "tga")
SOUNDS = ("flac", "ogg", "mp3", "aiff")


def write_healthy(folder: Path, portrait_u8: np.ndarray, hum: Callable, model: Path) -> None:
    """Files of every kind into `folder`."""
    pictures = [Image.fromarray(np.roll(portrait_u8, shift, axis=0)) for shift in (0, 7)]
    pictures[0].save(folder / "p.png")
    pictures[0].save(folder / "p.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(folder / "p.tif", save_all=True, append_images=pictures[1:])
    for suffix in PICTURES:
        pictures[0].save(folder / f"p.{suffix}")
    save_wav(folder / "a.wav", hum(0.2))
    for suffix in SOUNDS:
        soundfile.write(folder / f"a.{suffix}", hum(0.3).samples, 16_000)
    save_skeleton(folder / "m.json", person())
    save_skeleton(folder / "m.npz", person())
    drawn = draw_skeleton(person(), 64, 64)
    for suffix, how in VIDEOS.items():
        write_video(folder / f"v.{suffix}", np.repeat(drawn, 4, axis=0), *how)
    shutil.copytree(model, folder / "model")
    shutil.copy(ROOT / "docs/results/tiny-dit-sft.json", folder / "r.json")
    report = json.loads((folder / "r.json").read_text())
    report["rows"] = report["rows"][:2]
    (folder / "r.json").write_text(json.dumps(report))
    (folder / "page.md").write_text("<!-- figure: r.json#episodes d --><!-- /figure -->\n")
    (folder / "lines").mkdir()
    for name, lines in store_lines().items():
        (folder / "lines" / name).write_text("".join(line + "\n" for line in lines))
    store = PreferenceStore.create(folder / "store")
    import_lines(store, folder / "lines")
    store.close()
    write_tables(folder, pictures)
    write_folders(folder)


def write_tables(folder: Path, pictures: list[Image.Image]) -> None:
    """Preference data of others."""
    content = [io.BytesIO() for _ in pictures]
    for picture, file in zip(pictures, content, strict=True):
        picture.save(file, "JPEG")
    row = {"caption": "two pictures", "label_0": 1.0, "label_1": 0.0, "has_label": True}
    write_table(
        folder / "t.parquet", [row | {f"jpg_{i}": file.getvalue() for i, file in enumerate(content)}] * 2
    )
    with open(folder / "t.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path_A", "path_B", "prompt", "VQ", "TA"])
        rows.writerow(["v.mp4", "v.mkv", "a prompt", "A", "same"])


def write_folders(folder: Path) -> None:
    """A release in small, videos with their keypoints, and a run of a training."""
    releases = module_of("pipelines/tiny_releases.py")
    releases.make_release(folder / "released")
    (folder / "report").mkdir()
    for name in ("theirs", "truth"):
        (folder / name).mkdir()
        shutil.copy(folder / "v.mp4", folder / name / "v.mp4")
        shutil.copy(folder / "m.json", folder / name / "v.keypoints.json")


def module_of(path: str) -> Any:
    """A module of another folder of tests."""
    file = Path(__file__).parent / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Where something stands in a JSON value: the first few of a long list."""
    inside = (
        value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    )
    return [at, *(place for key, part in inside for place in places(part, (*at, key)))]


def replaced(value: Any, at: tuple, new: Any) -> Any:
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


def wrong_types(text: str, draw: random.Random) -> str:
    """A JSON text with one value exchanged, or one key left out."""
    value = json.loads(text)
    at = draw.choice(places(value)[1:] or [()])
    if at and isinstance(at[-1], str) and draw.random() < 0.2:
        whole = json.loads(text)
        inner = whole
        for key in at[:-1]:
            inner = inner[key]
        del inner[at[-1]]
        return json.dumps(whole)
    return json.dumps(replaced(value, at, draw.choice(STRANGE)))


def damage(path: Path, draw: random.Random) -> str:
    """Break the file; returns how."""
    content = path.read_bytes()
    kinds = ["cut", "flip", "flip", "empty", "deep", "noise", "pipe", "loop", "endless", "folder", "mark"]
    if path.suffix in (".json", ".jsonl"):
        kinds += ["types"] * 20
    kind = draw.choice(kinds)
    if kind == "types":
        if path.suffix == ".json":
            path.write_text(wrong_types(content.decode(), draw))
        else:
            lines = content.decode().splitlines()
            path.write_text("".join(wrong_types(line, draw) + "\n" for line in lines))
    elif kind == "cut":
        path.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif kind == "flip":
        flipped = bytearray(content)
        for _ in range(draw.choice((1, 3, 30))):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
    elif kind in ("empty", "noise", "mark", "deep"):
        path.write_bytes(
            {
                "empty": b"",
                "noise": draw.randbytes(3000),
                "mark": b"\xef\xbb\xbf" + content,
                "deep": b"[" * 100_000 + b"]" * 100_000,
            }[kind]
        )
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path if kind == "loop" else "/dev/zero")
    return kind


def state_of(folder: Path) -> dict[str, Any]:
    """What lies there, but for what a command writes, and for a database, whose header it may set."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not MADE & set(path.relative_to(folder).parts) and ".sqlite" not in path.name
    }
