"""No command writes over what it reads, into a folder that it reads, or into a preference store."""

import json
import os
from pathlib import Path

import pytest

from hallo4.cli import main
from hallo4.errors import OutputError
from hallo4.outputs import refuse_output
from hallo4.preference import PreferenceStore

# What the command reads -> the whole command; OUT is where the result would go.
COMMANDS = {
    "animate": "animate p.png a.wav --motion motion -o OUT",
    "animate --preview": "animate p.png a.wav --motion motion --preview OUT",
    "keypoints": "keypoints clip.mp4 -o OUT",
    "weights convert": "weights convert released -o OUT",
    "weights fetch": "weights fetch pose-light -o OUT",
    "world episode": "world episode -o OUT",
    "train": "train tiny-dpo --set model=model --set store=store -o OUT",
    "prefer candidates": "prefer candidates OUT",
    "prefer import": "prefer import OUT tables --format parquet",
    "prefer report": "prefer report store -o OUT",
    "prefer export": "prefer export store -o OUT",
    "prefer export parquet": "prefer export store -o OUT --format parquet",
    "prefer export pickapic": "prefer export store -o OUT --format pickapic",
    "evaluate world": "evaluate world --model model -o OUT",
    "evaluate videos": "evaluate videos A=theirs --against references -o OUT",
    "evaluate motion": "evaluate motion --model A=model -o OUT",
    "evaluate drift": "evaluate drift --model autoencoder:model -o OUT",
    "evaluate compare": "evaluate compare A=a.json b.json -o OUT",
}
INPUTS = [
    *[("animate", place) for place in ("p.png", "a.wav", "motion/out.mp4", "link/out.mp4")],
    ("animate --preview", "p.png"),
    *[("keypoints", place) for place in ("clip.mp4", "clip.json")],
    *[("weights convert", place) for place in ("released", "released/model", "whole")],
    *[("train", place) for place in ("model", "model/run")],
    ("prefer import", "tables/store"),
    *[("evaluate world", place) for place in ("model/report.json",)],
    *[("evaluate videos", place) for place in ("theirs/r.json", "references/deep/r.json")],
    ("evaluate motion", "model/report.json"),
    ("evaluate drift", "model/report.json"),
    *[("evaluate compare", place) for place in ("a.json", "b.json")],
]
NAMES = {"animate": "out.mp4", "animate --preview": "out.png", "prefer export pickapic": "ratings.jsonl"}
IN_STORES = [
    *[
        (name, f"store/{NAMES.get(name, 'ratings.jsonl')}")
        for name in COMMANDS
        if name != "prefer candidates"
    ],
    *[(name, "store/clips/deep/more") for name in ("weights convert", "world episode", "prefer candidates")],
    *[(name, "store") for name in ("weights convert", "world episode", "train", "prefer export")],
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Files and folders of every command, with something in each that must stay."""
    monkeypatch.chdir(tmp_path)
    for name in ("p.png", "a.wav", "clip.mp4", "a.json", "b.json"):
        Path(name).write_text(f"{name} as it was")
    for name in ("motion", "released", "model", "theirs", "references", "tables"):
        Path(name).mkdir()
        Path(name, "file").write_text("as it was")
    Path("model", "model.json").write_text(json.dumps({"name": "m"}))
    Path("whole").mkdir()
    Path("whole", "released").symlink_to("../released")
    Path("link").symlink_to("motion")
    PreferenceStore.create("store").close()
    Path("store", "ratings.jsonl").write_text("what people said\n")
    return tmp_path


def everything(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-wal", "-shm"))  # of a database that is open
    }


@pytest.mark.parametrize(("command", "out"), [*INPUTS, *IN_STORES])
def test_every_command_refuses_in_one_line_and_changes_nothing(place, capsys, command, out):
    if out == "whole":  # the folder that would be replaced holds what is read
        Path("whole", "released").unlink()
        Path("released").rename("whole/released")
        words = COMMANDS[command].replace("released", "whole/released")
    else:
        words = COMMANDS[command]
    before = everything(place)
    assert main(words.replace("OUT", out).split()) == 2
    said, line = capsys.readouterr()
    assert said == ""
    assert line.count("\n") == 1, line
    assert "one of the inputs" in line or "lies inside the input" in line or "preference store" in line
    assert everything(place) == before


def test_all_commands_that_write_are_tried():
    tried = {command for command, _ in (*INPUTS, *IN_STORES)}
    assert tried == set(COMMANDS)


def test_a_place_beside_the_inputs_is_free(place):
    refuse_output("theirs.json", ["theirs", "a.json"])
    refuse_output("theirs-2/r.json", ["theirs", "nowhere", None, 5])
    refuse_output("store.json")


@pytest.mark.parametrize("out", ["link/file", "theirs/../motion/file", "./motion"])
def test_links_and_roundabout_ways_are_followed(place, out):
    with pytest.raises(OutputError, match="input"):
        refuse_output(out, ["motion"])


def test_keypoints_may_lie_beside_their_videos_where_they_are_looked_for(place):
    refuse_output("theirs/file.keypoints.json", ["theirs/file"])


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "weights fetch"])
def test_a_loop_of_links_is_refused_in_one_line(place, capsys, command):
    Path("loop").symlink_to("loop")
    Path("loop.mp4").symlink_to("loop.mp4")
    words = COMMANDS[command].replace("A=model", "truth").replace("autoencoder:model", "truth")
    before = everything(place)
    assert main(words.replace("OUT", "loop.mp4" if command == "animate" else "loop").split()) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("hallo4: error: ")
    assert everything(place) == before


@pytest.mark.parametrize("out", ["/dev/null", "pipe"])
@pytest.mark.parametrize(
    "command", ["animate", "prefer report", "evaluate compare", "world episode", "evaluate motion"]
)
def test_what_is_no_regular_file_is_never_replaced(place, capsys, command, out):
    os.mkfifo("pipe")
    words = COMMANDS[command].replace("A=model", "truth").replace("OUT", out)
    assert main(words.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert Path("pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("out", [".", "../whole"])
@pytest.mark.parametrize("command", ["world episode -o", "weights convert ../released -o"])
def test_the_current_folder_is_not_replaced(place, capsys, monkeypatch, command, out):
    monkeypatch.chdir("whole")
    Path("released").unlink()
    assert main([*command.split(), out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "it is the current folder" in error
    assert list(Path.cwd().iterdir()) == []
