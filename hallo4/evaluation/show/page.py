"""A report as one HTML page that needs nothing else: style, script, charts and videos are in the file."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jinja2

from hallo4.evaluation.report import REFERENCE, Row
from hallo4.evaluation.show import charts
from hallo4.evaluation.show.charts import REFERENCE_COLOUR, colour_of
from hallo4.evaluation.show.table import Grid

if TYPE_CHECKING:
    import numpy as np

    from hallo4.types import Audio

PLAYER_SIDE_PX, PLAYER_SECONDS, PLAYER_CRF = 256, 20.0, 27
SIGNS = {
    "higher": "▲",
    "higher, to the reference": "▲ ref",
    "lower": "▼",
    "near 0": "→ 0",
    "near 1": "→ 1",
    "near the reference": "≈ ref",
}
"""Where good values of a metric lie, as a sign."""
_GROUPS = ("alignment", "sync", "identity", "motion", "fidelity", "long video", "whole sets")
_EMPTY: dict[str, Any] = {
    "metrics": {}, "definitions": {}, "sets": {}, "reference_values": {}, "best": {},
    "pairs": [], "problems": [], "legend": [],
}  # fmt: skip
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Video:
    """A video of a player: whose it is, its `data:` URL (None: it cannot be played), and values under it."""

    system: str
    url: str | None
    values: Mapping[str, float | None]
    note: str = ""


@dataclass(frozen=True)
class Player:
    """A clip to look at: its videos side by side, and curves over its frames, by title and system."""

    title: str
    videos: Sequence[Video]
    curves: Mapping[str, Mapping[str, Sequence[float | None]]] = field(default_factory=dict)


def page(
    title: str,
    lead: str,
    found: Mapping[str, Any],
    rows: Sequence[Row] = (),
    players: Sequence[Player] = (),
    grids: Sequence[Grid] = (),
    figures: Sequence[str] = (),
) -> str:
    """The page as text: what is in `found`, a `summary` with its notes, and charts of the rows.

    `grids` are further tables, `figures` further charts. All text is escaped.
    """
    found = {**_EMPTY, **found}
    systems = list(found["metrics"]) or found["legend"]
    colours = {system: colour_of(place) for place, system in enumerate(systems)}
    colours[REFERENCE] = REFERENCE_COLOUR
    return _template().render(
        title=title,
        lead=lead,
        found=found,
        systems=systems,
        colours=colours,
        groups=_groups(found["definitions"], found["sets"]),
        strips=[_strip(name, rows, colours) for name in found["definitions"]],
        table_rows=[row for row in rows if row.system != REFERENCE and row.values],
        source_rows=[row for row in rows if row.values and "keypoints" in row.facts],
        players=[(player, _curves(player, colours)) for player in players],
        grids=grids,
        figures=list(figures),
        signs=SIGNS,
        REFERENCE=REFERENCE,
        interval_line=charts.interval_line,
        bar=charts.bar,
    )


def chosen_clips(
    found: Mapping[str, Any], rows: Sequence[Row], ranked_by: Sequence[str], count: int
) -> list[str]:
    """`count` clips evenly from the worst to the best of the first system's, by the first of the metrics
    `ranked_by` that exists, of those that every system has."""
    systems = list(found["metrics"])
    name = next((n for n in ranked_by if (found["metrics"][systems[0]].get(n) or {}).get("n")), None)
    values = {(row.clip, row.system): row.values for row in rows if row.values}
    clips = [
        clip for clip in dict.fromkeys(row.clip for row in rows) if any((clip, s) in values for s in systems)
    ]
    whole = [clip for clip in clips if all((clip, system) in values for system in systems)]

    def value(clip: str) -> float:
        found = values.get((clip, systems[0]), {}).get(name)
        return float("-inf") if found is None else found

    return evenly(sorted(whole or clips, key=value), count)


def evenly(ranked: Sequence[Thing], count: int) -> list[Thing]:
    """`count` of `ranked` things, first and last among them, evenly between; all where there are no more."""
    if count >= len(ranked) or count < 2:
        return list(ranked[:count])
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]


def video_url(
    frames_u8: Iterable[np.ndarray],
    size_px: tuple[int, int],
    audio: Audio | None,
    label: Mapping[str, str] | None,
) -> str:
    """Frames [H, W, 3] at 25 fps, of (width, height) pixels, as H.264 with sound and provenance `label` in a
    `data:` URL."""
    from hallo4.media import VideoWriter

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clip.mp4"
        provenance = None if label is None else dict(label)
        with VideoWriter(target, *size_px, audio=audio, crf=PLAYER_CRF, provenance=provenance) as writer:
            for frame in frames_u8:
                writer.write(frame)
        return "data:video/mp4;base64," + base64.b64encode(target.read_bytes()).decode()


def file_url(path: Path) -> str | None:
    """A video file as a `data:` URL: of at most 256 px and 20 s, with sound and its AI label; None if it
    cannot be read.
    """
    import numpy as np
    from PIL import Image

    from hallo4.errors import Hallo4Error
    from hallo4.media import collect_notes, load_audio, probe_video, read_frames, read_provenance

    try:
        info = probe_video(path)
        with collect_notes([]):  # said already
            audio = load_audio(path, 44_100) if info.has_audio else None
            pictures = read_frames(path, 25.0, end_s=PLAYER_SECONDS)
        scale = min(1.0, PLAYER_SIDE_PX / max(info.width_px, info.height_px))
        size = tuple(max(2, 2 * round(side * scale / 2)) for side in (info.width_px, info.height_px))
        frames = (
            np.array(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in pictures
        )
        return video_url(frames, size, audio, read_provenance(path))
    except Hallo4Error:
        return None


def _groups(definitions: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, list[str]]:
    """Heading -> metrics, in the order of the tables."""
    of_sets = {name for values in sets.values() for name in values}
    groups: dict[str, list[str]] = {heading: [] for heading in _GROUPS}
    for name, definition in definitions.items():
        heading = "whole sets" if name in of_sets else definition["axis"] or "described, part of no win"
        groups.setdefault(heading, []).append(name)
    return {heading: names for heading, names in groups.items() if names}


def _strip(name: str, rows: Sequence[Row], colours: Mapping[str, str]) -> str:
    columns = []
    for system, colour in colours.items():
        own = [row for row in rows if row.system == system and row.values.get(name) is not None]
        if own or system != REFERENCE:
            columns.append((system, [(row.clip, row.values[name]) for row in own], colour))
    return charts.strip(columns, name) if columns else ""


def _curves(player: Player, colours: Mapping[str, str]) -> list[str]:
    return [
        charts.curves({system: (line, colours[system]) for system, line in lines.items()}, title)
        for title, lines in player.curves.items()
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


@cache
def _template() -> jinja2.Template:
    folder = resources.files("hallo4.evaluation.show") / "templates"
    files = {name: (folder / name).read_text() for name in ("page.html", "report.css", "report.js")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(files), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["figure"] = _figure
    for name in ("report.css", "report.js"):
        environment.globals[name.replace(".", "_")] = files[name]
    return environment.get_template("page.html")
