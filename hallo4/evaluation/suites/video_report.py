"""Rows of videos, and what was seen of them -> the report and its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from hallo4.evaluation.look.kept import KeptLooks
from hallo4.evaluation.look.keypoints import KeypointFinder
from hallo4.evaluation.report import INTERVALS, REFERENCE, SCHEMA, Row, summary, the_best
from hallo4.evaluation.show.page import Player, Video, chosen_clips, file_url, page
from hallo4.evaluation.suites.video_files import UNPAIRED, ClipFiles, System
from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS
from hallo4.evaluation.suites.video_sets import SET_METRICS, Features, set_value

_RANKED_BY = ("mouth_correlation", "ssim", "sync_c")
_UNDER_PLAYER = (
    *("mouth_correlation", "mouth_lag_frames", "sync_c", "ssim", "psnr_db", "keypoint_distance"),
)
_CURVES = {"mouth": "mouth opening", "psnr_db": "PSNR, dB"}

FeaturesOf = Callable[[str, str], Features]
"""(system, name of a feature) -> clip -> vectors."""


def video_report(
    systems: Sequence[System],
    references: Path | None,
    unpaired: Mapping[str, Path] | None,
    clips: Sequence[ClipFiles],
    rows: Sequence[Row],
    looks: KeptLooks,
    finder: KeypointFinder,
) -> dict[str, Any]:
    """The report, ready for JSON, but for its settings: what `found_in` has, and what it rests on."""
    found = found_in(systems, rows, _features_of(looks, clips), unpaired is not None)
    return {
        "schema": SCHEMA,
        "kind": "videos",
        "references": None if references is None else str(references),
        "unpaired": None if unpaired is None else len(unpaired),
        "systems": {system.name: str(system.folder) for system in systems},
        **{key: value for key, value in found.items() if key != "set_problems"},
        "problems": [*_problems(rows), *found["set_problems"]],
        "not_measured": [*_without_keypoints(rows, finder), *_without_portraits(rows)],
        "notes": _notes(found, rows),
        "rows": [row.as_json() for row in rows if row.system != UNPAIRED],
    }


def _features_of(looks: KeptLooks, clips: Sequence[ClipFiles]) -> FeaturesOf:
    """Reads one feature of one system at a time, so that no more is in memory."""

    def features(system: str, name: str) -> Features:
        own = [clip for clip in clips if system in clip.videos]
        found = {c.name: looks.features(c.videos[system], c.stamps[system], [name]) for c in own}
        return {clip: of[name] for clip, of in found.items() if name in of}

    return features


def found_in(
    systems: Sequence[System], rows: Sequence[Row], features: FeaturesOf, unpaired: bool
) -> dict[str, Any]:
    """A `summary` of clips and whole sets; `keypoints_from`, `identity_against`: system, and reference ->
    where its keypoints come from, and what its faces are compared with -> in how many clips."""
    names = [system.name for system in systems]
    of_clips = [row for row in rows if row.system != UNPAIRED]
    found = summary(VIDEO_METRICS, of_clips, names, list(combinations(names, 2)), only_measured=True)
    sets: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, metric in SET_METRICS.items():
        true = features(UNPAIRED if unpaired else REFERENCE, metric.feature)
        for system in names if true else ():
            value = set_value(metric, features(system, metric.feature), true, paired=not unpaired)
            if value is not None:
                sets[system][name] = value.as_json()
    used = {n: m for n, m in SET_METRICS.items() if any(n in sets[s] for s in names)}
    found["definitions"] |= {name: metric.as_json() for name, metric in used.items()}
    found["best"] |= {name: best for name in used if (best := _best_set(name, sets)) is not None}
    sides = [*names, REFERENCE] if any(row.system == REFERENCE for row in rows) else names
    for fact, key in (("keypoints", "keypoints_from"), ("identity_against", "identity_against")):
        found[key] = {side: _counted(of_clips, side, fact) for side in sides}
    what = "no value of the whole set"
    problems = [
        {"clip": name, "system": system, "what": f"{what}: {value['problem']}"}
        for system, values in sets.items()
        for name, value in values.items()
        if value["problem"]
    ]
    return {**found, "sets": sets, "set_problems": problems}


def _best_set(name: str, sets: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The system with the smallest distance; None where sets have other sizes, since Frechet distances are
    larger of fewer samples."""
    values = {system: of[name] for system, of in sets.items() if name in of and of[name]["mean"] is not None}
    if len({(value["n"], value["samples"], value["reference_samples"]) for value in values.values()}) != 1:
        return None
    return the_best({system: -value["mean"] for system, value in values.items()})


def _counted(rows: Sequence[Row], side: str, fact: str) -> dict[str, int]:
    found = [row.facts[fact] for row in rows if row.system == side and row.facts.get(fact)]
    kinds = ["portrait" if word.startswith("portrait ") else word for word in found]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _problems(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Of clips that could not be measured, or were without some damaged files or features."""
    return [
        {"clip": row.clip, "system": row.system, "what": what}
        for row in rows
        for what in (*([row.problem] if row.problem else []), *row.lost)
    ]


def _without_keypoints(rows: Sequence[Row], finder: KeypointFinder) -> list[str]:
    """One line if there are videos without keypoints that are not damaged: how many, and what would help."""
    bare = sum(bool(row.values) and row.facts["keypoints"] is None and not row.lost for row in rows)
    if not bare:
        return []
    why = finder.missing or "--pose files takes those beside videos only."
    return [f"Lips, hands, faces and keypoints of {bare} videos: not measured, they have no keypoints. {why}"]


def _without_portraits(rows: Sequence[Row]) -> list[str]:
    """One line if there are faces that are compared with no other."""
    alone = [row for row in rows if row.system not in (REFERENCE, UNPAIRED) and row.values]
    bare = sum(row.facts["identity_against"] is None and row.facts["keypoints"] is not None for row in alone)
    if not bare or any(row.system == REFERENCE for row in rows):
        return []
    return [f"Identity of {bare} videos: not measured, they have no portrait. --portraits FOLDER gives them."]


def _notes(found: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    notes = [INTERVALS, "Intervals of whole sets: jackknife over clips."]
    for key, what in (
        ("keypoints_from", "keypoints come from"),
        ("identity_against", "identity is measured against"),
    ):
        for side, counts in found[key].items():
            if counts:
                listed = ", ".join(f"{name} ({n} of {found['clips']} clips)" for name, n in counts.items())
                notes.append(f"{side}: {what} {listed}")
    counts = [i["n"] for metrics in found["metrics"].values() for i in metrics.values()]
    if counts and max(counts) == 1:
        notes.append("One clip: there are no intervals and no tests (null), whatever the values.")
    elif counts and max(counts) < 6 and found["pairs"]:
        notes.append("Fewer than six clips: no paired test can reach p = 0.05.")
    return notes + [f"{row.system}, {row.clip}: {note}" for row in rows for note in row.notes]


def video_page(report: Mapping[str, Any], rows: Sequence[Row], clips: Sequence[ClipFiles], count: int) -> str:
    """The page as text, with the players of `count` clips."""
    against = [report["references"]] if report["references"] else []
    against += [f"{report['unpaired']} unpaired videos (whole sets)"] if report["unpaired"] else []
    lead = f"{report['clips']} clips" + (
        f" against {', '.join(against)}" if against else ", without references"
    )
    used = [f"{file}: SHA-256 {digest}" for file, digest in report["settings"]["weights"].items()]
    notes = [*report["notes"], *report["not_measured"], *used]
    files = {clip.name: clip for clip in clips if UNPAIRED not in clip.videos}
    own = [row for row in rows if row.system != UNPAIRED]
    chosen = chosen_clips(report, own, _RANKED_BY, min(count, len(clips)))
    players = [_player(files[name], [row for row in own if row.clip == name], report) for name in chosen]
    said = {**report, "notes": notes, "version": report["settings"]["version"]}
    return page("Video evaluation", lead, said, own, players)


def _player(files: ClipFiles, rows: Sequence[Row], report: Mapping[str, Any]) -> Player:
    of = {row.system: row for row in rows}
    sides = [*([REFERENCE] if REFERENCE in of else []), *report["systems"]]
    videos, curves = [], {title: {} for title in _CURVES.values()}
    for side in sides:
        row = of.get(side)
        if row is None or not row.values:
            videos.append(Video(side, None, {}, note="not measured"))
            continue
        values = {name: row.values.get(name) for name in _UNDER_PLAYER}
        videos.append(Video(side, file_url(files.videos[side]), values))
        for name, curve in row.curves.items():
            curves[_CURVES[name]][side] = curve
    return Player(files.name, videos, {title: lines for title, lines in curves.items() if lines})
