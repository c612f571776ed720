"""VideoReward's CSV, as VideoAlign trains on it: two videos, a prompt, who is better in three respects.

::

    path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B        labels A, B, same, invalid
                         |     |
                  fidelity     alignment                  (motion quality, MQ, has no axis of ours)
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input
from hallo4.media.files import check_input
from hallo4.preference.foreign import Imported, Inbox, is_simulated, majorities, path_beside, prompt_of
from hallo4.preference.schema import Axis, Choice
from hallo4.preference.store import PreferenceStore
from hallo4.whole import whole_file

NAME = "videoreward"
COLUMNS: dict[Axis, str] = {"fidelity": "VQ", "alignment": "TA"}
FIELDS = (
    *("path_A", "path_B", "prompt", "VQ", "MQ", "TA"),
    *("fps_A", "num_frames_A", "fps_B", "num_frames_B", "simulated"),
)
"""Their columns, and one of ours: whether no person answered."""

_LABELS: dict[float | None, str] = {1.0: "A", 0.5: "same", 0.0: "B", None: "invalid"}
_ANSWERS: dict[str, Choice] = {"a": "a", "b": "b", "same": "tie", "invalid": "cannot_judge"}
_MAX_ROWS = 1_000_000


def export_videoreward(store: PreferenceStore, folder: Path) -> int:
    """Write `folder/data.csv` and the videos that it names below `folder/videos/`; returns the rows.

    The prompt is the one that the condition came with, or else its id. InputError: no ratings, or a file of
    a clip or condition is missing. OutputError.
    """
    clips, found, simulated = store.clips(), majorities(store), is_simulated(store)
    conditions = store.conditions()
    try:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        for name in sorted({name for pair in found for name in pair}):
            source = check_input(store.media_path(clips[name].path), "a video")
            with whole_file(folder / "videos" / f"{name}.mp4") as temporary:
                shutil.copyfile(source, temporary)
        with (
            whole_file(folder / "data.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, FIELDS)
            table.writeheader()
            for (a, b), outcome in found.items():
                table.writerow(
                    {
                        "path_A": f"./videos/{a}.mp4",
                        "path_B": f"./videos/{b}.mp4",
                        "prompt": prompt_of(store, conditions[clips[a].condition_id]),
                        **{column: _LABELS[outcome.get(axis)] for axis, column in COLUMNS.items()},
                        "MQ": _LABELS[None],
                        **{f"fps_{side}": f"{clips[n].fps:g}" for side, n in (("A", a), ("B", b))},
                        **{f"num_frames_{side}": clips[n].frames for side, n in (("A", a), ("B", b))},
                        "simulated": str(simulated).lower(),
                    }
                )
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}). Choose another folder or free some space."
        ) from error
    return len(found)


def import_videoreward(store: PreferenceStore, table: Path) -> Imported:
    """Add the comparisons of a CSV, whose videos lie beside it, to a store.

    Rows whose videos cannot be read or differ in shape are dropped, one line each. InputError, and nothing is
    imported: no such file, missing columns, an unknown label, or a path that leads out of the folder.
    """
    inbox = Inbox(store, NAME, check_input(table, "a table"))
    rows = list(_rows(table))
    videos = [tuple(path_beside(table, row[f"path_{side}"], n) for side in "AB") for n, row in rows]
    answers = [_answers(table, n, row) for n, row in rows]
    for (n, row), two, said in zip(rows, videos, answers, strict=True):
        missing = [path for path in two if not path.is_file()]
        if missing:
            inbox.drop(n, f"{missing[0].name}: no such file.")
            continue
        models = tuple(row.get(f"model_{side}") or NAME for side in "AB")
        simulated = (row.get("simulated") or "").strip().lower() == "true"
        inbox.add_row(n, row["prompt"], two, models, said, simulated)  # type: ignore[arg-type]
    return inbox.result


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(number of the row from 1, its values by column), without empty rows."""
    wanted = {"path_A", "path_B", "prompt", *COLUMNS.values()}
    try:
        with (
            open_input(table, "a table") as content,
            TextIOWrapper(content, newline="", encoding="utf-8-sig") as file,
        ):
            reader = csv.DictReader(file)
            missing = sorted(wanted - set(reader.fieldnames or ()))
            if missing:
                raise InputError(
                    f"{table}: has no column {', '.join(missing)}. A VideoReward table has "
                    f"{', '.join(FIELDS[:-1])}."
                )
            for number, row in enumerate(reader, start=1):
                if number > _MAX_ROWS:
                    raise InputError(f"{table}: has more than {_MAX_ROWS} rows. Cut it into several tables.")
                yield number, {key: value or "" for key, value in row.items() if key is not None}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: is not a CSV file in UTF-8 ({error}). Export it again.") from error


def _answers(table: Path, number: int, row: dict[str, str]) -> dict[Axis, Choice]:
    found: dict[Axis, Choice] = {}
    for axis, column in COLUMNS.items():
        label = row[column].strip().lower()
        if label not in _ANSWERS:
            raise InputError(
                f"{table} row {number}: {column} is {row[column]!r}; allowed are A, B, same and invalid."
            )
        found[axis] = _ANSWERS[label]
    return found
