"""Videos by themselves: what needs no reference is measured, also with portraits; bad input is one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from video_folders import CLIPS, row, write

from hallo4.cli import main
from hallo4.evaluation import ToolSettings, evaluate_videos
from hallo4.evaluation.suites.video_metrics import ALONE
from hallo4.sync.network import SyncNet
from hallo4.weights.catalogue import FILES


def measured(folders, *systems, **more):
    paths = [folders / system for system in systems]
    return evaluate_videos(paths, None, folders / "alone.json", players=1, **more)


def test_without_references_every_metric_that_needs_none_has_its_value(folders, episodes):
    beside = evaluate_videos([folders / "poor"], folders / "truth", folders / "beside.json", players=0)
    report = measured(folders, "poor", "good")
    assert report["problems"] == []
    assert (report["references"], report["reference_values"]) == (None, {})
    of_faces = {"portrait_similarity", "identity_drift"}  # they need a person to compare with
    for clip in CLIPS:
        alone, known = row(report, clip, "poor")["values"], row(beside, clip, "poor")["values"]
        assert set(alone) == set(ALONE)
        assert {n: v for n, v in alone.items() if n not in of_faces} == {
            n: known[n] for n in ALONE if n not in of_faces
        }
    assert any("Identity of 6 videos: not measured" in line for line in report["not_measured"])
    (pair,) = report["pairs"]
    assert "mouth_sound_correlation" in pair["difference"]
    page = (folders / "alone.html").read_text()
    assert "3 clips, without references" in page
    assert "reference" not in page.split("<section>")[1].split("</thead>")[0]


def test_portraits_are_whom_videos_are_compared_with(folders, episodes):
    (folders / "faces").mkdir()
    for name in CLIPS:
        Image.fromarray(episodes[name].portrait_u8).save(folders / "faces" / f"{name}.png")
    report = measured(folders, "good", portraits=folders / "faces")
    assert report["metrics"]["good"]["portrait_similarity"]["mean"] > 0.9
    assert row(report, "ann", "good")["facts"]["identity_against"] == "portrait ann.png"
    swapped = folders / "faces" / "ann.png"
    Image.fromarray(episodes["bob"].portrait_u8).save(swapped)
    again = measured(folders, "good", portraits=folders / "faces")
    values = [row(r, "ann", "good")["values"]["portrait_similarity"] for r in (report, again)]
    assert values[1] < values[0] - 0.05, "another person, and measured again because the file changed"
    swapped.unlink()
    (problem,) = measured(folders, "good", portraits=folders / "faces")["problems"]
    assert problem["what"] == "has no portrait named ann"


def test_where_nothing_finds_a_face_one_line_says_so_for_videos_and_portraits(folders, episodes):
    (folders / "faces").mkdir()
    for name in CLIPS:
        Image.fromarray(episodes[name].portrait_u8).save(folders / "faces" / f"{name}.png")
    report = measured(folders, "good", portraits=folders / "faces", tools=ToolSettings(pose="files"))
    assert report["problems"] == []
    (said,) = [line for line in report["not_measured"] if "keypoints" in line]
    assert said.startswith("Lips, hands, faces and keypoints of 3 videos: not measured")


def test_whole_sets_compare_with_unpaired_videos_of_any_names(folders, episodes):
    for i, name in enumerate(CLIPS):
        write(folders / "others" / f"film{i}.mkv", episodes[name].frames_u8, episodes[name].audio)
    report = measured(folders, "good", "poor", unpaired=folders / "others")
    good, poor = (report["sets"][name]["e_fid[landmarks]"] for name in ("good", "poor"))
    assert good["mean"] == pytest.approx(0, abs=1e-3)
    assert poor["mean"] > good["mean"]
    assert poor["low"] <= poor["mean"] <= poor["high"]
    assert (poor["samples"], poor["reference_samples"]) == (90, 90)
    assert report["unpaired"] == 3
    assert {r["system"] for r in report["rows"]} == {"good", "poor"}


def test_the_command_needs_no_references(folders, capsys):
    words = ["evaluate", "videos", f"A={folders / 'good'}", "-o", str(folders / "r.json"), "--players", "0"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "A" in said.out
    assert "r.json" in said.out
    assert json.loads((folders / "r.json").read_text())["references"] is None


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--portraits", "nowhere"], "nowhere: no such folder"),
        (["--unpaired", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(folders, capsys, option, said):
    words = ["evaluate", "videos", str(folders / "good"), "-o", str(folders / "r.json"), "--players", "0"]
    assert main([*words, *option]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_weights_of_another_network_are_one_line(folders, tmp_path, capsys):
    place = tmp_path / "weights"
    place.mkdir()
    state = {f"other.{name}": value[:1] for name, value in SyncNet().state_dict().items() if value.ndim}
    torch.save(state, place / FILES["syncnet"].path)
    words = ["evaluate", "videos", str(folders / "good"), "-o", str(folders / "r.json"), "--players", "0"]
    assert main([*words, "--weights", str(place)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "syncnet_v2.model" in said.splitlines()[-1]
    assert not (folders / "r.json").exists()


def test_a_clip_of_which_nothing_is_finite_is_a_problem_and_no_number(folders, monkeypatch):
    class Broken(torch.nn.Module):
        def forward(self, frames_u8):
            return torch.full((len(frames_u8), 4), np.nan)

    from hallo4.evaluation.suites import videos

    original = videos.load_tools

    def load(settings, keypoints):
        tools = original(settings, keypoints)
        tools.networks["inception"] = Broken()
        return tools

    monkeypatch.setattr(videos, "load_tools", load)
    report = measured(folders, "good", unpaired=folders / "truth", tools=ToolSettings())
    assert len(report["problems"]) == 6, "of each clip, and of each video of the set"
    assert all("not finite" in problem["what"] for problem in report["problems"])
    assert "fid" not in report["sets"]["good"]
    json.dumps(report, allow_nan=False)
