"""Short ways to make records, for the tests of this folder."""

import itertools
import sqlite3

from hallo4.preference import Clip, Condition, Pair, Rating

_numbers = itertools.count()


def condition(name="c0", identity=None, audio=None, **changes):
    values = {
        "condition_id": name,
        "identity_id": identity or f"person-{name}",
        "audio_id": audio or f"speech-{name}",
        "portrait": f"conditions/{name}/portrait.png",
        "audio": f"conditions/{name}/speech.wav",
        "skeleton": None,
    }
    return Condition(**(values | changes))


def clip(name="k0", of="c0", system="hallo4", **changes):
    values = {
        "clip_id": name,
        "condition_id": of,
        "source_system": system,
        "seed": 0,
        "checkpoint": system,
        "settings": {"steps": 6, "guidance_scale": 1.5, "weights": "abc"},
        "path": f"clips/{name}.mp4",
        "sha256": "0" * 64,
        "fps": 25.0,
        "frames": 80,
        "width_px": 128,
        "height_px": 128,
        "consent": "drawn",
        "motion_amplitude": 3.0,
    }
    return Clip(**(values | changes))


def rating(rater="r0", axis="alignment", **changes):
    """A score where `clip_id` is given, else a comparison of k0 and k1."""
    score = changes.get("clip_id") is not None
    values = {
        "event_id": f"e{next(_numbers)}",
        "rater_id": rater,
        "axis": axis,
        "kind": "score" if score else "comparison",
        "clip_id": None,
        "clip_a": None if score else "k0",
        "clip_b": None if score else "k1",
        "value": 4.0 if score else "a",
        "left_clip_id": None,
        "flags": {},
        "shown_ms": 8000,
        "answered_unix_ms": 1_700_000_000_000,
        "ui_version": "test",
        "role": "plain",
        "repeat_of": None,
        "simulated": False,
    }
    return Rating(**(values | changes))


def both(rater="r0", **changes):
    """The same answer on both axes."""
    return [rating(rater, axis, **changes) for axis in ("alignment", "fidelity")]


def pair(winner, loser, of="c0", split="train", gap=2.0):
    axis = {"winner": 4.0, "loser": 4.0 - gap, "n": 3, "spread": 0.5}
    return Pair(
        pair_id=f"{winner}-{loser}",
        condition_id=of,
        winner=winner,
        loser=loser,
        axes={"alignment": axis, "fidelity": dict(axis)},
        gap=gap,
        weight=1.0,
        split=split,
        segment_labels=None,
    )


def sql(store, words, *values):
    """What another program did to the file."""
    with sqlite3.connect(store.folder / "preferences.sqlite") as connection:
        found = connection.execute(words, values).fetchall()
    connection.close()
    return found
