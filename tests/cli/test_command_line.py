import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from hallo4.cli import front_door, main
from hallo4.errors import Hallo4Error
from hallo4.media import load_audio, probe_video, save_wav
from hallo4.version import __version__


@pytest.fixture
def inputs(portrait_u8, hum, tiny_model_folder, tmp_path, monkeypatch):
    """In an own folder: p.png, a.wav (0.4 s), and the words that ask for the tiny model."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(portrait_u8).save("p.png")
    save_wav("a.wav", hum(0.4))
    return ["--model", str(tiny_model_folder)]


def test_the_front_door_answers_without_the_heavy_packages():
    program = (
        "import sys; from hallo4.cli import main; import hallo4; hallo4.__version__; "
        "codes = [main(w) for w in ([], ['--help'], ['--version'], ['paint'], ['animate', '--help'])];"
        "print(codes, sorted({'torch', 'diffusers', 'numpy', 'av', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 2, 0] []"
    assert "hallo4 animate" in done.stdout
    assert f"hallo4 {__version__}" in done.stdout
    assert "'paint' is no command" in done.stderr


@pytest.mark.parametrize(
    "command", [["animate"], ["world", "episode"], ["train"], ["evaluate", "world"], ["weights", "fetch"]]
)
def test_every_command_explains_itself(command, capsys):
    assert main([*command, "--help"]) == 0
    assert " ".join(["usage: hallo4", *command]) in capsys.readouterr().out


def test_the_path_is_the_last_line_on_stdout_and_all_else_is_on_stderr(inputs, capsys):
    assert main(["animate", "p.png", "a.wav", "-o", "talk.mp4", "--seed", "3", "--steps", "1", *inputs]) == 0
    out, err = capsys.readouterr()
    assert out == "talk.mp4\n"
    assert "note: image 40x40 -> video 32x32" in err
    assert "10 of 10 frames" in err
    assert probe_video("talk.mp4").frames == 10


def test_the_default_name_and_silence(inputs, capsys):
    assert main(["animate", "p.png", "a.wav", "--quiet", *inputs]) == 0
    assert capsys.readouterr() == ("p_a.mp4\n", "")


def test_ctrl_c_is_130_one_line_and_a_playable_part(inputs, capsys, monkeypatch):
    @contextmanager
    def impatient(quiet):
        def on_progress(progress):
            if progress.stage == "generate" and progress.frames_done > 5:
                raise KeyboardInterrupt

        yield on_progress

    monkeypatch.setattr("hallo4.cli.progress.shown_progress", impatient)
    assert main(["animate", "p.png", "a.wav", "-o", "talk.mp4", *inputs]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "talk.partial.mp4" in err
    assert probe_video("talk.partial.mp4").frames == 5
    monkeypatch.undo()


def test_ctrl_c_anywhere_else_is_130_too(capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(front_door.importlib, "import_module", interrupted)
    assert main(["train"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_of_several_lines_becomes_one(capsys, monkeypatch):
    class Command:
        @staticmethod
        def run(words):
            raise Hallo4Error("first\n  second")

    monkeypatch.setattr(front_door.importlib, "import_module", lambda name: Command)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "hallo4: error: first second\n"


@pytest.mark.parametrize("words", [["animate", "p.png"], ["animate", "a", "b", "--steps", "many"], ["world"]])
def test_words_that_cannot_be_parsed_are_exit_2(words, capsys):
    assert main(words) == 2


def test_the_world_command_writes_an_episode(tmp_path, capsys):
    pytest.importorskip("espeakng_loader")
    words = [
        "world",
        "episode",
        "--seed",
        "5",
        "--seconds",
        "0.2",
        "-o",
        str(tmp_path / "e"),
        "--size-px",
        "64",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "e")
    names = {"portrait.png", "speech.wav", "skeleton.mp4", "keypoints.json", "video.mp4", "truth.json"}
    assert {path.name for path in (tmp_path / "e").iterdir()} == names
    assert len(json.loads((tmp_path / "e/truth.json").read_text())["mouth_open"]) == 5
    (tmp_path / "f").write_text("")
    assert main(["world", "episode", "-o", str(tmp_path / "f")]) == 2


@dataclass(frozen=True)
class Inner:
    steps: int = 3


@dataclass(frozen=True)
class Config:
    train: Inner = Inner()
    name: str = "x"


def test_train_runs_a_recipe_with_changes(monkeypatch, capsys, tmp_path):
    from hallo4.recipes import RECIPES, Recipe

    ran = []

    def run(config, folder):
        ran.append((config, folder))
        return folder / "dit"

    monkeypatch.setitem(RECIPES, "toy-run", lambda: Recipe("toy-run", "a toy", Config(), run))
    assert main(["train", "toy_run", "--set", "train.steps=5", "--set", "name=y", "-o", str(tmp_path)]) == 0
    assert ran == [(Config(Inner(5), "y"), tmp_path)]
    assert capsys.readouterr().out == f"{tmp_path / 'dit'}\n"
    assert main(["train"]) == 0
    assert "toy-run" in capsys.readouterr().out
    assert main(["train", "no-such"]) == 2
    assert "toy-run" in capsys.readouterr().err
    assert main(["train", "toy-run", "--set", "train.speed=5"]) == 2


def test_evaluate_passes_everything_on(monkeypatch, capsys):
    import hallo4.evaluation as evaluation
    from hallo4.evaluation.report import Row
    from hallo4.world.framing import Framing

    asked = []

    def evaluate_world(*values, out, on_progress, engine, players, **seen):
        asked.append((values, str(out), type(engine).__name__, players, seen))
        on_progress(1, 4, Row("a [clip]", "A"))
        return {"notes": ["a [note]"]}

    monkeypatch.setattr(evaluation, "evaluate_world", evaluate_world, raising=False)
    monkeypatch.setattr(evaluation, "tables_of", lambda report: ["the table"], raising=False)
    monkeypatch.setattr(evaluation, "rich_table", lambda grid: grid, raising=False)
    words = "evaluate world --model A --against B --episodes 4 --seed 9 --tempo 2 --steps 3 -o r.json"
    words += " --world lit-1 --aspect 4:3 --head-share 0.4 --head-at 0.4 0.3 --observer second"
    assert main([*words.split(), "--workers", "2", "--players", "7"]) == 0
    seen = {"world": "lit-1", "framing": Framing(4 / 3, 0.4, (0.4, 0.3)), "observer": "second"}
    assert asked == [(("A", "B", 4, 9, 3.2, 2.0, 3, None), "r.json", "Scheduler", 7, seen)]
    said = capsys.readouterr()
    assert said.out.splitlines() == ["the table", "r.json"]
    assert said.err.splitlines()[-2:] == ["note: a [note]", "page: r.html"]


def test_real_seconds_of_sound_in_odd_clothes(inputs, capsys, hum):
    """Mono or stereo, any rate, any container: the video is as long as the sound."""
    import soundfile

    for rate, channels, name in (
        (8000, 1, "a.flac"),
        (44100, 2, "b.wav"),
        (48000, 6, "c.wav"),
        (11025, 2, "d.ogg"),
    ):
        samples = np.repeat(hum(0.41, rate).samples[:, None], channels, axis=1)
        soundfile.write(name, samples, rate)
        assert main(["animate", "p.png", name, "-o", "o.mp4", "--steps", "1", "--quiet", *inputs]) == 0, name
        assert probe_video("o.mp4").frames == round(0.41 * 25), name
        assert abs(load_audio("o.mp4").duration_s - 0.4) < 0.025, name


def test_a_terminal_gets_a_bar_with_the_notes_and_the_time_left(capsys, monkeypatch):
    from hallo4.cli.progress import shown_progress
    from hallo4.pipelines import Progress

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with shown_progress(quiet=False) as on_progress:
        on_progress(Progress("read", 0, 0))
        on_progress(Progress("generate", 0, 3000, None, ("a [bold] note",)))
        on_progress(Progress("generate", 750.25, 3000, 3725.0))
    err = capsys.readouterr().err
    assert "note: a [bold] note" in err
    assert "750 of 3000 frames, 1:02:05 left" in err


def test_a_sound_track_is_named_and_a_silent_sound_is_said(inputs, capsys):
    """Notes come before the first frame."""
    with av.open("two.mkv", "w") as container:
        streams = [container.add_stream("flac", rate=16_000, layout="mono") for _ in range(2)]
        for stream, level in zip(streams, (0, 3000)):
            noise = np.random.default_rng(0).integers(-level, level + 1, (1, 4800)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    words = ["animate", "p.png", "two.mkv", "-o", "o.mp4", "--steps", "1", *inputs]
    for choice, expected in (
        ([], "two.mkv: has 2 sound tracks; track 2 (mono) is used, because track 1 (mono) is silent"),
        (["--audio-track", "1"], "two.mkv: is silent from beginning to end."),
    ):
        assert main([*words, *choice]) == 0
        lines = capsys.readouterr().err.splitlines()
        (at,) = (n for n, line in enumerate(lines) if line.startswith(f"note: {expected}"))
        assert at < next(n for n, line in enumerate(lines) if line.startswith("generating"))
    assert main([*words, "--audio-track", "3"]) == 2
    assert "there is no sound track 3" in capsys.readouterr().err
