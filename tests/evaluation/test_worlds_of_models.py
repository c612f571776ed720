"""In which world a model is measured: where it was trained, unless said; two worlds are never set side by
side."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("espeakng_loader", reason="episodes speak: pip install 'hallo4[world]'")

from hallo4.cli import main
from hallo4.cli.options import World
from hallo4.errors import Hallo4Error, InputError
from hallo4.evaluation import compare_reports, fill_page
from hallo4.evaluation.suites import drift, motion
from hallo4.evaluation.suites import world as of_world
from hallo4.evaluation.suites.generators import world_of
from hallo4.evaluation.suites.motion import driven_episode
from hallo4.pipelines.model_info import read_info
from hallo4.preference.ship import _measured
from hallo4.world.framing import Framing
from hallo4.world.look import WorldName


def changed(model, folder, **said):
    """A copy of a model folder whose model.json says something else."""
    shutil.copytree(model, folder)
    known = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(known | said))
    return str(folder)


@pytest.fixture
def flat(tiny_model_folder, tmp_path):
    """A model that does not say in which world it was trained."""
    return changed(tiny_model_folder, tmp_path / "flat", size_px=64)


@pytest.fixture
def lit(tiny_model_folder, tmp_path):
    """A model that says that it was trained in the lit world."""
    return changed(tiny_model_folder, tmp_path / "lit", size_px=64, world="lit-1")


def test_the_command_line_knows_the_worlds():
    assert get_args(World) == get_args(WorldName)


def test_models_that_name_no_world_are_of_the_first(flat, lit, tmp_path):
    assert read_info(Path(flat)).world is None
    assert world_of([flat]) == world_of(["truth"]) == "drawn-1"
    assert world_of(["truth", lit, f"autoencoder:{lit}"]) == "lit-1"
    with pytest.raises(InputError, match=r"flat was trained in drawn-1 and .*lit .* in lit-1: .*--world"):
        world_of([flat, lit])
    with pytest.raises(InputError, match="world is 'lit-9'; there are drawn-1 and lit-1"):
        world_of([changed(Path(flat), tmp_path / "other", world="lit-9")])


def test_reports_of_two_worlds_are_not_compared(flat, lit, tmp_path):
    with pytest.raises(InputError, match="was trained in"):
        of_world.evaluate_world(flat, lit, episodes=1, seconds=0.4)
    asked = {"episodes": 2, "seconds": 0.4, "steps": 1, "players": 0}
    first = of_world.evaluate_world(flat, out=tmp_path / "a.json", **asked)
    other = of_world.evaluate_world(lit, out=tmp_path / "b.json", **asked)
    of_world.evaluate_world(lit, out=tmp_path / "c.json", **asked)  # whose rows are of the other world
    same = of_world.evaluate_world(lit, out=tmp_path / "c.json", world="drawn-1", **asked)
    assert [report["settings"]["world"] for report in (first, other, same)] == ["drawn-1", "lit-1", "drawn-1"]
    assert first["metrics"] == same["metrics"] != other["metrics"]
    assert "in the world lit-1" in (tmp_path / "b.html").read_text()
    files = {name: str(tmp_path / f"{name}.json") for name in "abc"}
    with pytest.raises(InputError, match=r"b\.json: world is 'lit-1', of the first report 'drawn-1'"):
        compare_reports([f"x={files['a']}", f"y={files['b']}"])
    without = {key: value for key, value in first["settings"].items() if key != "world"}
    (tmp_path / "a.json").write_text(json.dumps(first | {"settings": without}))
    compare_reports([f"x={files['a']}", f"y={files['c']}"])
    with pytest.raises(InputError, match=r"world lit-1, .* in drawn-1: measure both in one"):
        _measured(tmp_path / "b.json", tmp_path / "a.json")
    with pytest.raises(InputError, match="several worlds, drawn-1 and lit-1"):
        fill_page(leaderboard(tmp_path))


def leaderboard(folder):
    page = folder / "page.md"
    page.write_text("<!-- leaderboard: a.json b.json -->\n<!-- /leaderboard -->\n")
    return page


def test_reports_through_two_observers_are_not_set_side_by_side(flat, tmp_path):
    first = of_world.evaluate_world(flat, episodes=1, seconds=0.4, steps=1, out=tmp_path / "a.json")
    other = first | {"settings": first["settings"] | {"observer": "second", "observer_weights": "f00d"}}
    (tmp_path / "b.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"through another observer than .*a\.json"):
        _measured(tmp_path / "b.json", tmp_path / "a.json")
    with pytest.raises(InputError, match="measured through several observers"):
        fill_page(leaderboard(tmp_path))
    with pytest.raises(InputError, match="observer_weights is 'f00d'"):
        compare_reports([f"x={tmp_path / 'a.json'}", f"y={tmp_path / 'b.json'}"])
    renamed = first | {"settings": first["settings"] | {"observer": "the/same/one"}}
    (tmp_path / "b.json").write_text(json.dumps(renamed))
    compare_reports([f"x={tmp_path / 'a.json'}", f"y={tmp_path / 'b.json'}"])


def test_a_model_is_measured_on_pictures_of_any_shape(flat, tmp_path, capsys):
    words = ["evaluate", "world", "--model", flat, "--episodes", "1", "--seconds", "0.4", "--steps", "1"]
    square, tall = tmp_path / "square.json", tmp_path / "tall.json"
    assert main([*words, "--players", "0", "-o", str(square)]) == 0
    assert main([*words, "--players", "1", "-o", str(tall), "--aspect", "3:4", "--head-share", "0.4"]) == 0
    said = json.loads(tall.read_text())["settings"]["framing"]
    assert said == {"aspect": 0.75, "head_share": 0.4, "head_at": [0.5, 0.43]}
    assert "framing" not in json.loads(square.read_text())["settings"]
    assert "0.75 times as wide as high" in tall.with_suffix(".html").read_text()
    with pytest.raises(InputError, match="framing is"):
        compare_reports([f"x={square}", f"y={tall}"])
    assert main([*words, "-o", str(tall), "--head-share", "0.2"]) == 2
    assert "shows the person down to the knees" in capsys.readouterr().err


def test_pictures_have_sides_that_all_models_can_make(flat, tmp_path):
    """9:16 at 128 px is 96x176 in multiples of 16, which the UNet with its multiples of 32 cannot make."""
    asked = {"episodes": 1, "seconds": 0.4, "steps": 1, "players": 0, "framing": Framing(9 / 16, 0.4)}
    own = of_world.evaluate_world(flat, **asked)
    assert "multiple_px" not in own["settings"]["framing"]
    report = of_world.evaluate_world("tiny-unet", **asked)
    assert report["settings"]["framing"]["multiple_px"] == 32
    truth = of_world.evaluate_world("truth", "tiny-unet", world="drawn-1", **asked)
    assert truth["settings"]["framing"] == report["settings"]["framing"]
    assert report["metrics"]["ssim"]["mean"] is not None


def test_driven_people_and_long_videos_are_of_that_world(lit, tmp_path, monkeypatch):
    assert driven_episode(5_000_001, "head", 5.0, 64, "lit-1").identity.world == "lit-1"
    monkeypatch.setattr(motion, "PARTS", {"head": motion.PARTS["head"]})
    seen, make = [], motion.driven_episode
    monkeypatch.setattr(motion, "driven_episode", lambda *of: seen.append(of[-1]) or make(*of))
    report = motion.evaluate_motion([lit], clips=1, frequencies_hz=[2.0], out=tmp_path / "motion.json")
    assert (report["settings"]["world"], seen) == ("lit-1", ["lit-1"])
    assert "of the world lit-1" in (tmp_path / "motion.html").read_text()
    long = []
    monkeypatch.setattr("hallo4.world.make_episode", lambda *of, world: long.append(world) or _stop())
    with pytest.raises(Hallo4Error, match="1 of 1 clips failed"):
        drift.evaluate_drift([lit], clips=1, seconds=15.0)
    assert long == ["lit-1"]


def _stop():
    raise InputError("enough")
