"""`evaluate_videos`: folders of any systems' videos against references, matched by file name.

    clip --> the reference is looked at --> each system's video beside it --> a row, kept at once
    rows and features --> means, intervals, paired tests, win rates --> report.json, report.html

A file that cannot be read is named in `problems`; everything else is measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.errors import Cancelled, Hallo4Error, InputError, MissingExtraError
from hallo4.evaluation.dynamics import require_optical_flow
from hallo4.evaluation.generators import folder_digest, text_digest
from hallo4.evaluation.instrument import OBSERVER_FOLDER
from hallo4.evaluation.named_paths import split_name
from hallo4.evaluation.report_rows import VideosRow
from hallo4.evaluation.row_store import Row, RowStore
from hallo4.evaluation.video_beside import Beside
from hallo4.evaluation.video_files import REFERENCE, ClipFiles, System, matched_clips, systems_of
from hallo4.evaluation.video_keypoints import KeypointFinder
from hallo4.evaluation.video_look import Look, look_at
from hallo4.evaluation.video_measures import VideoPair, expression_features, identity_against
from hallo4.evaluation.video_metrics import VIDEO_METRICS, clip_values, own_values
from hallo4.evaluation.video_report import build_report, write_report
from hallo4.evaluation.video_sets import SET_METRICS
from hallo4.evaluation.video_tools import ToolSettings, available_networks, load_tools, weights_used
from hallo4.outputs import refuse_output
from hallo4.processes import shared_work
from hallo4.types import FPS
from hallo4.version import __version__
from hallo4.whole import whole_file

Progress = Callable[[int, int, Row], None]
"""(clips done, clips in all, the newest row)."""
_RATE_TOLERANCE_FPS = 0.01


@dataclass(frozen=True)
class VideosSettings:
    """What a process needs to measure clips: the tools, and the folders for keypoints and for features."""

    tools: ToolSettings
    keypoints: str
    features: str


def evaluate_videos(
    folders: Sequence[str | os.PathLike[str]],
    against: str | os.PathLike[str],
    out: str | os.PathLike[str],
    tools: ToolSettings | None = None,
    workers: int = 1,
    players: int = 6,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the videos of one or more systems against references of the same names; returns the report.

    `folders`: FOLDER or NAME=FOLDER each. The report goes to `out` (JSON) and beside it as one HTML page
    with plots and the players of `players` clips; the same call goes on after a stop, and measures again
    only clips whose files changed. Keypoints that an estimator finds are kept beside it too, by the content
    of the videos. `report["problems"]` names every file that could not be measured or matched.

    InputError for folders that do not match at all or numbers out of range, CheckpointError for weights
    that are needed, or a pose estimator that is asked for, and missing or damaged, MissingExtraError without
    scikit-image or what runs them, OutputError before any work if `out` cannot be written, Cancelled on
    Ctrl-C.
    """
    for name, value, low, high in (("workers", workers, 1, 256), ("players", players, 0, 1000)):
        if not low <= value <= high:
            raise InputError(f"{name} is {value}; allowed is {low} to {high}.")
    out, references, tools = Path(out), Path(against), tools or ToolSettings()
    refuse_output(out, [*(split_name(word)[1] for word in folders), references, tools.weights])
    require_optical_flow()
    systems = systems_of(folders)
    clips, problems = matched_clips(systems, references)
    finder = KeypointFinder(tools.pose, person=tools.person)
    networks, weights = available_networks(tools), weights_used(tools)
    key = _key(tools, finder, networks, weights, systems)
    with RowStore(out, key) as store:
        features = out.with_name(f"{out.stem}.{key}.features")
        keypoints = out.with_name(f"{out.stem}.keypoints")
        for folder in (features, keypoints):
            folder.mkdir(exist_ok=True)
        stamps = {clip.name: clip.stamp() for clip in clips}
        rows = {row["clip"]: row for row in store.rows(VideosRow) if stamps.get(row["clip"]) == row["stamp"]}
        todo = [
            clip
            for clip in clips
            if clip.name not in rows or not _feature_file(features, clip.name, stamps[clip.name]).is_file()
        ]
        settings = VideosSettings(tools, os.fspath(keypoints), os.fspath(features))
        try:
            for row in shared_work(_ClipJudge, settings, todo, workers):
                rows[row["clip"]] = row
                store.add(row)
                if on_progress is not None:
                    on_progress(len(rows), len(clips), row)
        except KeyboardInterrupt:
            raise Cancelled(
                f"Stopped after {len(rows)} of {len(clips)} clips: they are kept in {store.path}; "
                "the same command goes on."
            ) from None
        report = build_report(
            systems,
            references,
            [rows[clip.name] for clip in clips],
            {clip.name: _load_features(features, clip.name, rows[clip.name]["stamp"]) for clip in clips},
            [*problems, *(lost for clip in clips for lost in _lost(rows[clip.name]))],
            [*_without_keypoints(rows.values(), finder), *(line for line in networks.values() if line)],
            {"pose": tools.pose, "person": tools.person, "weights": weights, "workers": workers},
        )
        return write_report(report, out, clips, players)


class _ClipJudge:
    """The loaded tools of one process: a clip -> its row."""

    def __init__(self, settings: VideosSettings):
        self.tools = load_tools(settings.tools, Path(settings.keypoints))
        self.features = Path(settings.features)

    def __call__(self, clip: ClipFiles) -> Row:
        row: Row = {"clip": clip.name, "stamp": clip.stamp(), "systems": {}}
        features: dict[str, np.ndarray] = {}
        try:
            reference, _ = look_at(clip.reference, self.tools)
            facts = _facts(VideoPair(reference, reference, None), own_values(reference))
            row[REFERENCE] = facts | {"curves": _curves(reference, None)}
            _keep(features, REFERENCE, reference)
        except MissingExtraError:
            raise  # not of this clip, and gone once it is installed
        except Hallo4Error as error:
            row[REFERENCE] = {"file": clip.reference.name, "problem": _line(error)}
            reference = None
        for system, path in clip.videos.items():
            if path is None:
                continue
            if reference is None:
                row["systems"][system] = {"file": path.name, "problem": "its reference cannot be measured"}
                continue
            try:
                look, beside = look_at(path, self.tools, clip.reference)
                pair = VideoPair(look, reference, beside)
                facts = _facts(pair, clip_values(pair))
                facts["notes"] += _notes(look, reference, beside)
                row["systems"][system] = facts | {"curves": _curves(look, beside)}
                _keep(features, system, look)
            except MissingExtraError:
                raise
            except Hallo4Error as error:
                row["systems"][system] = {"file": path.name, "problem": _line(error)}
        _save_features(self.features, clip.name, row["stamp"], features)
        return row


def _facts(pair: VideoPair, values: dict[str, float]) -> dict[str, Any]:
    """What is said of a video by itself. `lost`: files and features that were left out as damaged."""
    look, info = pair.video, pair.video.info
    notes = list(look.notes)
    if abs(info.fps - FPS) > _RATE_TOLERANCE_FPS:
        notes.append(f"{info.fps:.4g} fps: measured at 25, what is on screen at every 25th of a second")
    return {
        "file": look.path.name,
        "frames": len(look),
        "fps": round(info.fps, 3),
        "width_px": info.width_px,
        "height_px": info.height_px,
        "keypoints": look.keypoints_from,
        "identity_against": identity_against(pair),
        "values": {name: float(v) if math.isfinite(v) else None for name, v in values.items()},
        "notes": notes,
        "lost": list(look.problems),
    }


def _notes(look: Look, reference: Look, beside: Beside | None) -> list[str]:
    """One line for everything in which a video differs from its reference."""
    notes = [] if beside is None else list(beside.notes)
    sources = look.keypoints_from, reference.keypoints_from
    if None not in sources and sources[0] != sources[1]:
        notes.append(
            f"its keypoints come from {sources[0]}, those of its reference from {sources[1]}: what is "
            "compared differs by that too; --pose chooses one for both"
        )
    if look.portrait is not None and reference.portrait is None:
        notes.append(
            "identity is compared with the portrait beside it, the reference's own with its first face"
        )
    difference = len(look) - len(reference)
    if abs(difference) > 1:
        common = min(len(look), len(reference))
        notes.append(
            f"{abs(difference)} frames {'longer' if difference > 0 else 'shorter'} than its reference: "
            f"the first {common} are compared"
        )
    return notes


def _lost(row: Row) -> list[dict[str, str]]:
    """Problems, as in the report, of a clip that was measured without some damaged files or features."""
    return [
        {"clip": row["clip"], "system": side, "what": what}
        for side, entry in ((REFERENCE, row[REFERENCE]), *row["systems"].items())
        for what in entry.get("lost", ())
    ]


def _without_keypoints(rows: Iterable[Row], finder: KeypointFinder) -> list[str]:
    """One line if there are videos without keypoints that are not damaged: how many, and what would help."""
    entries = [entry for row in rows for entry in (row[REFERENCE], *row["systems"].values())]
    bare = sum("values" in e and e["keypoints"] is None and not e["lost"] for e in entries)
    if not bare:
        return []
    why = finder.missing or "--pose files takes those beside videos only."
    return [f"Lips, hands, faces and keypoints of {bare} videos: not measured, they have no keypoints. {why}"]


def _curves(look: Look, beside: Beside | None) -> dict[str, list[float | None]]:
    """What the page draws, rounded: mouth opening, and PSNR of every frame."""
    curves = {"mouth": look.mouth}
    if beside is not None and beside.psnr_db is not None:
        curves["psnr_db"] = beside.psnr_db
    return {name: [round(float(v), 3) if math.isfinite(v) else None for v in c] for name, c in curves.items()}


# ---------------------------------------------------------------------- features on disk


def _keep(features: dict[str, np.ndarray], side: str, look: Look) -> None:
    found = dict(look.features)
    expressions = expression_features(look)
    if expressions is not None:
        found["landmarks"] = expressions
    features.update({f"{side}\t{name}": np.asarray(v, np.float32) for name, v in found.items()})


def _feature_file(folder: Path, clip: str, stamp: str) -> Path:
    """Features go by the stamp as rows do, or those of other files under the same name would be taken."""
    return folder / f"{_name_digest(clip)}.{stamp}.npz"


def _name_digest(clip: str) -> str:
    """A clip's name for a file's: with a stamp it could be too long."""
    return hashlib.sha256(clip.encode()).hexdigest()[:16]


def _save_features(folder: Path, clip: str, stamp: str, features: dict[str, np.ndarray]) -> None:
    """In one stroke; features of the clip as it was before are removed."""
    target = _feature_file(folder, clip, stamp)
    with whole_file(target) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **features)
    for old in folder.glob(f"{_name_digest(clip)}.*.npz"):
        if old != target:
            old.unlink()


def _load_features(folder: Path, clip: str, stamp: str) -> dict[str, dict[str, np.ndarray]]:
    """side -> feature -> [n, D]."""
    sides: dict[str, dict[str, np.ndarray]] = {}
    with np.load(_feature_file(folder, clip, stamp), allow_pickle=False) as arrays:
        for key in arrays.files:
            side, _, name = key.partition("\t")
            sides.setdefault(side, {})[name] = arrays[key]
    return sides


def _key(
    tools: ToolSettings,
    finder: KeypointFinder,
    networks: dict[str, str | None],
    weights: dict[str, str],
    systems: list[System],
) -> str:
    """A hash of everything but the clips' own files that decides a row."""
    decides = {
        "tools": asdict(tools) | {"need": None},
        "estimator": None if finder.estimator is None else finder.estimator.name,
        "networks": sorted(name for name, missing in networks.items() if missing is None),
        "weights": weights,
        "observer": folder_digest(OBSERVER_FOLDER) if tools.pose in ("auto", "observer") else None,
        "metrics": [{name: m.alone for name, m in VIDEO_METRICS.items()}, sorted(SET_METRICS)],
        "systems": {system.name: str(system.folder.resolve()) for system in systems},
        "version": __version__,
    }
    return text_digest(json.dumps(decides, sort_keys=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
