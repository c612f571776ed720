"""Damaged and strange files, by fixed seeds, given to the commands that read them.

Whatever they hold, a command ends with exit code 0, 2 or 3, says at most one line of error and no traceback,
does not hang, and changes no file that it was given. `make fuzz` does the same for longer.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hallo4.cli import main
from hallo4.media import save_wav
from hallo4.motion import save_skeleton
from hallo4.preference import PreferenceStore
from hallo4.preference.lines import import_lines
from hallo4.types import KEYPOINTS, Skeleton

ROUNDS = int(os.environ.get("HALLO4_FUZZ", "1"))
"""How many times as many cases as in the ordinary tests."""
LONGEST_S = 60
STRANGE = (
    *(None, True, False, -1, 0, 1, 2**31, 10**9, 10**30, 1e308, -1e308, 1e-320, 0.5, "", "x", "nan", "16"),
    *([], {}, [[[]]], [1], {"a": 1}, ["x"], "\0", "\ud800", "x" * 400, "../../x", "/dev/zero", "é\n"),
)
ROOT = Path(__file__).parent.parent


def person() -> Skeleton:
    """Two frames of points that look like somebody."""
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


@pytest.fixture(scope="module")
def healthy(portrait_u8, hum, tiny_model_folder, tmp_path_factory):
    """A folder of good files of every kind that is read here."""
    folder = tmp_path_factory.mktemp("healthy")
    pictures = [Image.fromarray(np.roll(portrait_u8, shift, axis=0)) for shift in (0, 7)]
    pictures[0].save(folder / "p.png")
    pictures[0].save(folder / "p.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(folder / "p.tif", save_all=True, append_images=pictures[1:])
    save_wav(folder / "a.wav", hum(0.2))
    save_skeleton(folder / "m.json", person())
    save_skeleton(folder / "m.npz", person())
    shutil.copytree(tiny_model_folder, folder / "model")
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
    return folder


ANIMATE = "animate p.png a.wav --motion m.json --model model -o out.mp4 --steps 1"
CASES = {
    "p.png": "animate p.png a.wav --model model --preview look.png",
    "p.gif": "animate p.gif a.wav --model model --preview look.png",
    "p.tif": "animate p.tif a.wav --model model --preview look.png",
    "m.json": "animate p.png a.wav --motion m.json --model model --preview look.png",
    "m.npz": "animate p.png a.wav --motion m.npz --model model --preview look.png",
    "a.wav": ANIMATE,
    "model/model.json": ANIMATE,
    "model/dit/config.json": ANIMATE,
    "model/autoencoder/config.json": ANIMATE,
    "model/audio/config.json": ANIMATE,
    "model/dit/diffusion_pytorch_model.safetensors": ANIMATE,
    "r.json": "evaluate compare a=r.json b=r.json -o c.json",
    "page.md": "evaluate page page.md --check",
    "store/preferences.sqlite": "prefer report store -o c.json",
    "lines/conditions.jsonl": "prefer import new lines --format jsonl",
    "lines/clips.jsonl": "prefer import new lines --format jsonl",
    "lines/ratings.jsonl": "prefer import new lines --format jsonl",
    "lines/scores.jsonl": "prefer import new lines --format jsonl",
}


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


@contextmanager
def within(seconds: int):
    """The block takes no longer."""

    def stop(*_: object) -> None:
        pytest.fail(f"takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def state_of(folder: Path) -> dict[str, Any]:
    """What lies there, but for what a command writes, and for a database, whose header it may set."""
    made = {"out.mp4", "look.png", "c.json", "c.png", "new"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not made & set(path.relative_to(folder).parts) and ".sqlite" not in path.name
    }


@pytest.mark.parametrize("command", sorted(set(CASES.values())))
def test_the_words_of_the_cases_are_not_what_is_refused(command, healthy, tmp_path, monkeypatch, capsys):
    shutil.copytree(healthy, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    code, said = main(command.split()), capsys.readouterr().err
    assert code == 0 or "--help" not in said, said


@pytest.mark.parametrize("number", range(4 * ROUNDS))
@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_one_line_or_still_good(name, number, healthy, tmp_path, monkeypatch, capsys):
    draw = random.Random(f"{name} {number}")
    folder = tmp_path / "here"
    shutil.copytree(healthy, folder)
    how = damage(folder / name, draw)
    monkeypatch.chdir(folder)
    before = state_of(folder)
    with within(LONGEST_S):
        code = main(CASES[name].split())
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("hallo4: error: ")]
    assert code in (0, 2, 3), (how, said)
    assert len(errors) == (code == 2), (how, said)
    assert "Traceback" not in said
    assert state_of(folder) == before, how
    if code == 2:
        assert len(errors[0]) < 1500
        assert not {"out.mp4", "look.png", "c.json"} & set(os.listdir(folder))


OPTIONS = [
    "animate p.png a.wav --model model -o out.mp4 --steps",
    "animate p.png a.wav --model model -o out.mp4 --guidance-scale",
    "animate p.png a.wav --model model -o out.mp4 --scale",
    "animate p.png a.wav --model model -o out.mp4 --audio-track",
    "evaluate world -o c.json --model model --episodes",
    "evaluate world -o c.json --model model --workers",
    "evaluate motion -o c.json --model model --clips",
    "evaluate videos . --against . -o c.json --workers",
    "keypoints p.png -o look.json --workers",
    "world episode -o folder --size-px",
    "prefer score store --workers",
    *(f"train tiny-dit-sft -o folder --set {name}" for name in (
        "batch_size", "shift", "known_share", "train.seed", "train.steps", "train.ema_decay", "clips.frames",
        "train.optimizer.learning_rate", "train.optimizer.betas", "train.schedule.anneal_fraction",
    )),
]  # fmt: skip


@pytest.mark.parametrize("number", ["-7", "nan", "1e30", "x", "99999999999999999999"])
@pytest.mark.parametrize("option", OPTIONS)
def test_numbers_out_of_range_are_one_line(option, number, healthy, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "here"
    shutil.copytree(healthy, folder)
    monkeypatch.chdir(folder)
    words = option.split()
    words = [*words[:-1], f"{words[-1]}={number}"]
    with within(LONGEST_S):
        assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("hallo4: error: ")
    assert "\n" not in said
    assert words[-1].partition("=")[0].removeprefix("--") in said


NAMES = {
    "long": "a" * 300,
    "deep": "a/" * 3000 + "b",
    "bytes": "\udcff\udcfe",
    "dash": "./-",
    "home": "~",
    "lines": "a\nb",
    "device": "/dev/null",
    "memory": "/proc/self/mem",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        "animate NAME a.wav --model model -o out.mp4",
        "animate p.png NAME --model model -o out.mp4",
        "animate p.png a.wav --motion NAME --model model -o out.mp4",
        "animate p.png a.wav --model NAME -o out.mp4",
        "doctor --model NAME",
        "keypoints NAME -o out.json",
        "evaluate compare a=NAME b=NAME -o c.json",
        "evaluate page NAME",
        "prefer report NAME",
        "weights convert NAME -o folder",
    ],
)
def test_names_of_every_kind_are_one_line(command, kind, healthy, monkeypatch, capsys):
    name = NAMES[kind]
    monkeypatch.chdir(healthy)
    before = state_of(healthy)
    with within(LONGEST_S):
        assert main([name if word == "NAME" else word.replace("NAME", name) for word in command.split()]) == 2
    *notes, said = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("hallo4: error: ")
    assert not [line for line in notes if "error" in line]
    assert state_of(healthy) == before


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("p.")])
def test_a_pipe_in_the_place_of_a_file_hangs_nobody(name, healthy, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "here"
    shutil.copytree(healthy, folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    monkeypatch.chdir(folder)
    with within(LONGEST_S):
        assert main(CASES[name].split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("hallo4: error: ")] == said[-1:]


@pytest.mark.parametrize("device", ["meta", "cuda:99", "tpu", "", "cpu:x"])
def test_devices_that_are_not_here_are_one_line(device, healthy, monkeypatch, capsys):
    monkeypatch.chdir(healthy)
    assert main([*ANIMATE.split(), f"--device={device}"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("hallo4: error: device ")
    assert "\n" not in said
