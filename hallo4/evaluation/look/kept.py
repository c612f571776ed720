"""What was seen of a video, on disk: it is looked at once, however many reports and systems need it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.evaluation.look.portrait import Portrait
from hallo4.evaluation.look.sidecars import read_arrays
from hallo4.evaluation.look.video import Look
from hallo4.json_file import parse_json
from hallo4.media import StreamTimes, VideoInfo
from hallo4.media.names import same_name
from hallo4.sync.score import SyncScore
from hallo4.types import FPS, Skeleton
from hallo4.whole import whole_file

_CURVES = ("sharpness", "colour", "flicker", "speed", "mouth")
_SAID = "said"


class Stamps:
    """Tells whether files have changed since: folders are listed once."""

    def __init__(self) -> None:
        self._beside: dict[Path, dict[str, list[Path]]] = {}

    def of(self, video: Path, portrait: Path | None = None) -> str:
        """A hash of sizes and times of a video, of what lies beside it under its name, and of a portrait."""
        if video.parent not in self._beside:
            beside = self._beside[video.parent] = {}
            for file in sorted(video.parent.iterdir()):
                parts = same_name(file.name).split(".")
                for count in range(1, len(parts)):
                    beside.setdefault(".".join(parts[:count]), []).append(file)
        digest = hashlib.sha256()
        files = self._beside[video.parent].get(same_name(video.stem), [video])
        for file in [*files, *([portrait] if portrait is not None else [])]:
            state = file.stat()
            digest.update(f"{os.fspath(file)} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()[:16]


class KeptLooks:
    """A folder of looks, by the path of the video and the stamp of its files."""

    def __init__(self, folder: Path):
        self.folder = folder

    def file(self, video: Path, stamp: str) -> Path:
        """Where the look at a video lies, or belongs; videos go by their path as it is given."""
        return self.folder / f"{_digest(video)}.{stamp}.npz"

    def save(self, video: Path, stamp: str, look: Look | None) -> None:
        """Atomically; what was seen of the video as it was before is removed. None: it cannot be looked
        at."""
        target = self.file(video, stamp)
        with whole_file(target) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, **({} if look is None else _arrays_of(look)))
        for old in self.folder.glob(f"{_digest(video)}.*.npz"):
            if old != target:
                old.unlink()

    def load(self, video: Path, stamp: str) -> Look | None:
        """None: it was not looked at. InputError: the file is damaged."""
        target = self.file(video, stamp)
        arrays = read_arrays(target) if target.is_file() else {}
        return _look_of(video, arrays) if arrays else None

    def features(self, video: Path, stamp: str, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Those of the networks `names` that a look has, [n, D] each. InputError: the file is damaged."""
        wanted = {f"features {name}": name for name in names}
        found = read_arrays(self.file(video, stamp), wanted)
        return {wanted[key]: values for key, values in found.items()}


def _digest(video: Path) -> str:
    return hashlib.sha256(os.fspath(video).encode()).hexdigest()[:16]


def _arrays_of(look: Look) -> dict[str, np.ndarray]:
    arrays = {name: getattr(look, name) for name in _CURVES}
    arrays |= {f"faces {name}": np.float32(vectors) for name, vectors in look.faces.items()}
    arrays |= {f"features {name}": np.float32(vectors) for name, vectors in look.features.items()}
    said: dict[str, Any] = {
        "info": asdict(look.info),
        "times": asdict(look.times),
        "keypoints_from": look.keypoints_from,
        "notes": look.notes,
        "problems": look.problems,
    }
    if look.skeleton is not None:
        arrays |= {"points_px": look.skeleton.points_px, "confidence": look.skeleton.confidence}
        said["size_px"] = [look.skeleton.width_px, look.skeleton.height_px]
    if look.portrait is not None:
        arrays |= {f"portrait {name}": vector for name, vector in look.portrait.faces.items()}
        said["portrait"] = look.portrait.name
    if look.loudness is not None:
        arrays["loudness"] = look.loudness
    if look.sync is not None:
        arrays["sync"] = look.sync.curve
        said["sync"] = {key: value for key, value in asdict(look.sync).items() if key != "curve"}
    return {**arrays, _SAID: np.frombuffer(json.dumps(said).encode(), np.uint8)}


def _look_of(video: Path, arrays: dict[str, np.ndarray]) -> Look:
    said = parse_json(arrays[_SAID].tobytes(), video.name, dict[str, Any])

    def of(kind: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(f"{kind} "): v for k, v in arrays.items() if k.startswith(f"{kind} ")}

    skeleton = None
    if "size_px" in said:
        skeleton = Skeleton(arrays["points_px"], arrays["confidence"], FPS, *said["size_px"])
    return Look(
        path=video,
        info=VideoInfo(**said["info"]),
        times=StreamTimes(**said["times"]),
        **{name: arrays[name] for name in _CURVES},
        skeleton=skeleton,
        keypoints_from=said["keypoints_from"],
        faces={name: np.float64(vectors) for name, vectors in of("faces").items()},
        portrait=Portrait(said["portrait"], of("portrait")) if "portrait" in said else None,
        loudness=arrays.get("loudness"),
        sync=SyncScore(**said["sync"], curve=arrays["sync"]) if "sync" in said else None,
        features=of("features"),
        notes=tuple(said["notes"]),
        problems=tuple(said["problems"]),
    )
