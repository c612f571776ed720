"""`evaluate_videos`: folders of any systems' videos, beside references of the same names or without any.

    clip --> the reference is looked at once, and each system's video beside it --> a row of each, kept
    rows, and features of whole sets --> means, intervals, paired tests, wins --> report.json, report.html

A file that cannot be read is named in `problems`; everything else is measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hallo4.engine import THIS_PROCESS, Engine
from hallo4.errors import Hallo4Error, MissingExtraError
from hallo4.evaluation.look.beside import Beside
from hallo4.evaluation.look.instrument import OBSERVER_FOLDER
from hallo4.evaluation.look.kept import KeptLooks, Stamps
from hallo4.evaluation.look.keypoints import KeypointFinder
from hallo4.evaluation.look.tools import ToolSettings, available_networks, load_tools, weights_used
from hallo4.evaluation.look.video import Look, look_at
from hallo4.evaluation.measures.dynamics import require_optical_flow
from hallo4.evaluation.report import REFERENCE, Row, write_report
from hallo4.evaluation.run import Job, Progress, RowStore, measured_rows, split_name, text_digest, within
from hallo4.evaluation.suites.generators import folder_digest
from hallo4.evaluation.suites.video_files import (
    UNPAIRED,
    ClipFiles,
    matched_clips,
    systems_of,
    videos_in,
)
from hallo4.evaluation.suites.video_measures import VideoPair, expression_features, identity_against
from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS, clip_values, own_values
from hallo4.evaluation.suites.video_report import video_page, video_report
from hallo4.evaluation.suites.video_sets import SET_METRICS
from hallo4.outputs import refuse_output
from hallo4.types import FPS
from hallo4.version import __version__

_RATE_TOLERANCE_FPS = 0.01


@dataclass(frozen=True)
class VideosSettings:
    """What a process needs to measure clips: the tools, and the folders for keypoints and for looks."""

    tools: ToolSettings
    keypoints: str
    looks: str


def evaluate_videos(
    folders: Sequence[str | os.PathLike[str]],
    against: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    tools: ToolSettings | None = None,
    engine: Engine = THIS_PROCESS,
    players: int = 6,
    on_progress: Progress | None = None,
    portraits: str | os.PathLike[str] | None = None,
    unpaired: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measure the videos of one or more systems; returns the report.

    `folders`: FOLDER or NAME=FOLDER each. `against`: references of the same names; without them only what
    judges a video by itself is measured. `portraits`: pictures of the same names, whom the videos show.
    `unpaired`: any true videos, with which FID and other metrics of whole sets compare in the place of the
    references. The workers of `engine` share the clips, and see all files under one path.

    The report goes to `out` (JSON) and beside it as one HTML page with plots and the players of
    `players` clips; the same call goes on after a stop, and measures again only videos whose files changed;
    one with a further system measures that alone. What was seen of videos is kept beside the report, and the
    keypoints that an estimator finds, by the content of the videos. `report["problems"]` names every file
    that could not be measured or matched.

    InputError for folders that do not match at all or numbers out of range, CheckpointError for weights
    that are needed, or a pose estimator that is asked for, and missing or damaged, MissingExtraError without
    scikit-image or what runs them, OutputError before any work if `out` cannot be written, Cancelled on
    Ctrl-C.
    """
    within(players=(players, 0, 1000))
    out, tools = Path(out), tools or ToolSettings()
    references, portraits, real = (None if p is None else Path(p) for p in (against, portraits, unpaired))
    inputs = [*(split_name(word)[1] for word in folders), references, portraits, real, tools.weights]
    refuse_output(out, [path for path in inputs if path is not None])
    require_optical_flow()
    systems = systems_of(folders)
    clips, problems = matched_clips(systems, references, portraits)
    sets = None if real is None else videos_in(real)
    stamps = Stamps()
    unmatched = [ClipFiles(name, {UNPAIRED: path}) for name, path in (sets or {}).items()]
    files = [clip.stamped(stamps) for clip in (*clips, *unmatched)]
    finder = KeypointFinder(tools.pose, person=tools.person)
    networks, weights = available_networks(tools), weights_used(tools)
    with RowStore(out, _decides(tools, finder, networks, weights)) as store:
        looks = KeptLooks(out.with_name(f"{out.stem}.{store.key}.looks"))
        keypoints = out.with_name(f"{out.stem}.keypoints")
        for folder in (looks.folder, keypoints):
            folder.mkdir(exist_ok=True)
        settings = VideosSettings(tools, os.fspath(keypoints), os.fspath(looks.folder))
        jobs = [Job(clip.name, _row_stamps(clip), clip) for clip in files]
        rows = measured_rows(
            _ClipJudge, settings, jobs, store, on_progress, engine,
            complete=lambda job, s: looks.file(job.item.videos[s], job.item.stamps[s]).is_file(),
        )  # fmt: skip
        report = video_report(systems, references, sets, files, rows, looks, finder)
        report["problems"] = [*problems, *report["problems"]]
        report["not_measured"] += [line for line in networks.values() if line]
        report["settings"] = {
            **{name: getattr(tools, name) for name in ("pose", "person", "device")},
            **{"weights": weights, "version": __version__},
        }
        write_report(report, out, video_page(report, rows, files, players))
        return report


# ---------------------------------------------------------------------- looking


class _ClipJudge:
    """The loaded tools of one process: a job -> the rows of its clip that are missing."""

    def __init__(self, settings: VideosSettings):
        self.tools = load_tools(settings.tools, Path(settings.keypoints))
        self.looks = KeptLooks(Path(settings.looks))

    def __call__(self, job: Job) -> list[Row]:
        clip: ClipFiles = job.item
        wanted = [system for system in clip.videos if system in job.stamps]
        reference: Look | Row | None = None
        rows = []
        if clip.reference is not None:
            kept = None if REFERENCE in wanted else self.looks.load(clip.reference, clip.stamps[REFERENCE])
            reference = kept or self._look(clip, REFERENCE)[0]
            if REFERENCE in wanted:
                rows.append(reference if isinstance(reference, Row) else _row(clip, REFERENCE, reference))
        for system in (system for system in wanted if system != REFERENCE):
            if isinstance(reference, Row):
                self.looks.save(clip.videos[system], clip.stamps[system], None)
                rows.append(_unmeasured(clip, system, "its reference cannot be measured"))
                continue
            look, beside = self._look(clip, system, clip.reference)
            rows.append(look if isinstance(look, Row) else _row(clip, system, look, reference, beside))
        return rows

    def _look(
        self, clip: ClipFiles, system: str, reference: Path | None = None
    ) -> tuple[Look | Row, Beside | None]:
        """What is seen of a video, which is kept; its row where it cannot be measured."""
        path = clip.videos[system]
        try:
            look, beside = look_at(path, self.tools, reference, clip.portrait)
        except MissingExtraError:
            raise  # not of this clip, and gone once it is installed
        except Hallo4Error as error:
            self.looks.save(path, clip.stamps[system], None)
            return _unmeasured(clip, system, " ".join(str(error).split())), None
        expressions = expression_features(look)
        if expressions is not None:
            look.features["landmarks"] = expressions
        self.looks.save(path, clip.stamps[system], look)
        return look, beside


def _row_stamps(clip: ClipFiles) -> dict[str, str]:
    """System -> the stamp of its row, for which the reference counts too."""
    reference = clip.stamps.get(REFERENCE)
    return {system: text_digest(f"{stamp} {reference}") for system, stamp in clip.stamps.items()}


def _unmeasured(clip: ClipFiles, system: str, problem: str) -> Row:
    return Row(clip.name, system, facts={"file": clip.videos[system].name}, problem=problem)


def _row(
    clip: ClipFiles, system: str, look: Look, reference: Look | None = None, beside: Beside | None = None
) -> Row:
    """What is said of a video, beside its reference if it has one; of the reference, by itself."""
    info, notes = look.info, list(look.notes)
    if abs(info.fps - FPS) > _RATE_TOLERANCE_FPS:
        notes.append(
            f"{info.fps:.4g} fps: measured at 25, the picture that is nearest to every 25th of a second"
        )
    if system == REFERENCE:
        pair, values = VideoPair(look, look), own_values(look)
    else:
        pair = VideoPair(look, reference, beside)
        values = clip_values(pair)
    if pair.reference is not None and pair.reference is not look:
        notes += _differences(look, reference, beside)
    curves = {"mouth": look.mouth}
    if beside is not None and system != REFERENCE and beside.psnr_db is not None:
        curves["psnr_db"] = beside.psnr_db
    facts = {
        "file": look.path.name,
        "frames": len(look),
        "fps": round(info.fps, 3),
        "width_px": info.width_px,
        "height_px": info.height_px,
        "keypoints": look.keypoints_from,
        "identity_against": identity_against(pair),
    }
    rounded = {n: [round(float(v), 3) if math.isfinite(v) else None for v in c] for n, c in curves.items()}
    return Row(clip.name, system, values, rounded, facts, tuple(notes), look.problems)


def _differences(look: Look, reference: Look, beside: Beside | None) -> list[str]:
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


def _decides(
    tools: ToolSettings,
    finder: KeypointFinder,
    networks: Mapping[str, str | None],
    weights: Mapping[str, str],
) -> dict[str, Any]:
    """Everything but the clips' own files that decides a row."""
    return {
        "tools": asdict(tools) | {"need": None},
        "estimator": None if finder.estimator is None else finder.estimator.name,
        "networks": sorted(name for name, missing in networks.items() if missing is None),
        "weights": weights,
        "observer": folder_digest(OBSERVER_FOLDER) if tools.pose in ("auto", "observer") else None,
        "metrics": [{name: m.alone for name, m in VIDEO_METRICS.items()}, sorted(SET_METRICS)],
    }
