"""Damaged and strange files, by fixed seeds, given to the commands that read them.

Whatever they hold, a command ends with exit code 0, 2 or 3, says at most one line of error and no traceback,
does not hang, and changes no file that it was given. `make fuzz` does the same for longer.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from damaged_files import PICTURES, SOUNDS, VIDEOS, damage, state_of, write_healthy

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.recipes import RECIPES, Recipe
from hallo4.training import TrainConfig, train

ROUNDS = int(os.environ.get("HALLO4_FUZZ", "1"))
"""How many times as many cases as in the ordinary tests."""
LONGEST_S = 60
MOST_BYTES = 1 << 30
"""By which the memory of the process may grow."""


@dataclass(frozen=True)
class ToyRun:
    """A training that takes milliseconds."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig("toy", 3, log_every=1, ema_decay=0.9, mixed_precision="no")
    )


def run_toy(config: ToyRun, folder: Path) -> Path:
    model = torch.nn.Linear(3, 1)
    train(
        config.train,
        lambda model, batch, step: (model(batch["x"]).pow(2).mean(), {}),
        model,
        lambda index, generator: {"x": torch.randn(4, 3, generator=generator)},
        folder=folder,
    )
    return folder


@pytest.fixture(scope="module", autouse=True)
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "toy-run", lambda: Recipe("toy-run", "a toy", ToyRun(), run_toy))
        yield


@pytest.fixture(scope="module")
def healthy(portrait_u8, hum, tiny_model_folder, tmp_path_factory):
    """A folder of good files of every kind that is read here."""
    folder = tmp_path_factory.mktemp("healthy")
    write_healthy(folder, portrait_u8, hum, tiny_model_folder)
    run_toy(replace(ToyRun(), train=replace(ToyRun().train, steps=2)), folder / "begun")
    return folder


ANIMATE = "animate p.png a.wav --motion m.json --model model -o out.mp4 --steps 1"
LOOK = "animate p.png a.wav --model model --preview look.png"
MEASURE = "evaluate videos theirs --against truth --pose files --players 0 -o report/c.json"
CONVERT = "weights convert released -o new --quiet"
CASES = {
    "p.png": LOOK,
    **{f"p.{suffix}": LOOK.replace("p.png", f"p.{suffix}") for suffix in ("gif", "tif", *PICTURES)},
    **{f"a.{suffix}": LOOK.replace("a.wav", f"a.{suffix}") for suffix in ("wav", *SOUNDS)},
    **{f"v.{suffix}": LOOK + f" --motion v.{suffix}" for suffix in VIDEOS},
    "m.json": LOOK + " --motion m.json",
    "m.npz": LOOK + " --motion m.npz",
    "model/model.json": ANIMATE,
    "model/dit/config.json": ANIMATE,
    "model/autoencoder/config.json": ANIMATE,
    "model/audio/config.json": ANIMATE,
    "model/dit/diffusion_pytorch_model.safetensors": ANIMATE,
    "theirs/v.mp4": MEASURE,
    "theirs/v.keypoints.json": MEASURE,
    "r.json": "evaluate compare a=r.json b=r.json -o c.json",
    "page.md": "evaluate page page.md --check",
    "store/preferences.sqlite": "prefer report store -o c.json",
    "lines/conditions.jsonl": "prefer import new lines --format jsonl",
    "lines/clips.jsonl": "prefer import new lines --format jsonl",
    "lines/ratings.jsonl": "prefer import new lines --format jsonl",
    "lines/scores.jsonl": "prefer import new lines --format jsonl",
    "t.csv": "prefer import new t.csv",
    "t.parquet": "prefer import new t.parquet --format pickapic",
    "released/hallo4/model_weight.ckpt": CONVERT,
    "released/Wan2.1_Encoders/Wan2.1_VAE.pth": CONVERT,
    "released/Wan2.1_Encoders/config.json": CONVERT,
    "released/Wan2.1_Encoders/google/umt5-xxl/tokenizer.json": CONVERT,
    "released/wav2vec/wav2vec2-base-960h/config.json": CONVERT,
    "begun/config.json": "train toy-run -o begun",
    "begun/last/state.json": "train toy-run -o begun",
    "begun/last/shard-00001-model-00001-of-00001.safetensors": "train toy-run -o begun",
    "begun/log.jsonl": "train toy-run -o begun",
}


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


@pytest.mark.parametrize("command", sorted(set(CASES.values())))
def test_the_words_of_the_cases_are_not_what_is_refused(command, healthy, tmp_path, monkeypatch, capsys):
    shutil.copytree(healthy, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    code, said = main(command.split()), capsys.readouterr().err
    assert code == 0 or "--help" not in said, said


@pytest.mark.parametrize("number", range(2 * ROUNDS))
@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_one_line_or_still_good(name, number, healthy, tmp_path, monkeypatch, capsys):
    draw = random.Random(f"{name} {number}")
    folder = tmp_path / "here"
    shutil.copytree(healthy, folder)
    how = damage(folder / name, draw)
    monkeypatch.chdir(folder)
    before = state_of(folder)
    least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within(LONGEST_S):
        code = main(CASES[name].split())
    said = capsys.readouterr().err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - least < MOST_BYTES >> 10, how
    errors = [line for line in said.splitlines() if line.startswith("hallo4: error: ")]
    assert code in (0, 2, 3), (how, said)
    assert len(errors) == (code == 2), (how, said)
    assert "Traceback" not in said
    assert state_of(folder) == before, how
    if code == 2:
        assert len(errors[0]) < 1500
        assert not {"out.mp4", "look.png", "c.json"} & set(os.listdir(folder))


@pytest.mark.parametrize("number", range(20 * ROUNDS))
def test_a_damaged_study_is_one_line_or_still_a_study(number, tmp_path):
    from hallo4.studio.study import read_study
    from hallo4.studio.study_pages import organiser_page, rating_pages

    path = tmp_path / "study.toml"
    path.write_bytes((Path(__file__).parents[1] / "docs" / "study.toml").read_bytes())
    how = damage(path, random.Random(f"study {number}"))
    said, pages = "study.toml: ", [b"</html>"]
    with within(LONGEST_S):
        try:
            study = read_study(path)
            pages = [organiser_page(study), *rating_pages(study).values()]
        except InputError as error:
            said = str(error)
    assert "study.toml: " in said, how
    assert "\n" not in said, how
    assert len(said) < 1500
    assert all(b"</html>" in page for page in pages)


SETTINGS = [
    "batch_size", "shift", "known_share", "train.seed", "train.steps", "train.ema_decay", "clips.frames",
    "train.optimizer.learning_rate", "train.optimizer.betas", "train.schedule.anneal_fraction",
]  # fmt: skip


@pytest.mark.parametrize("number", ["-7", "nan", "1e30", "x", "99999999999999999999"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_out_of_range_are_one_line(setting, number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "tiny-dit-sft", "-o", "folder", "--set", f"{setting}={number}"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("hallo4: error: ")
    assert "\n" not in said
    assert setting in said


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
def test_a_pipe_in_the_place_of_a_file_does_not_hang(name, healthy, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "here"
    shutil.copytree(healthy, folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    monkeypatch.chdir(folder)
    with within(LONGEST_S):
        code = main(CASES[name].split())
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("hallo4: error: ")]
    if code == 3:  # what else there is was done, and a line names what was not
        assert errors == []
        assert [line for line in said if line.startswith("not measured: ") and f"{name}: is not a" in line]
    else:
        assert code == 2
        assert errors == said[-1:]


@pytest.mark.parametrize("device", ["meta", "cuda:99", "tpu", "", "cpu:x"])
def test_devices_that_are_not_here_are_one_line(device, healthy, monkeypatch, capsys):
    monkeypatch.chdir(healthy)
    assert main([*ANIMATE.split(), f"--device={device}"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("hallo4: error: device ")
    assert "\n" not in said
