"""`hallo4 evaluate videos`: matching, bad input, resuming, tests between systems, and a page that needs
nothing else.
"""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from video_folders import CLIPS, SIZE_PX, evaluate, row, write

from hallo4.cli import main
from hallo4.engine import open_engine
from hallo4.errors import CheckpointError, InputError, MissingExtraError
from hallo4.evaluation.look.keypoints import KeypointFinder
from hallo4.evaluation.look.tools import (
    ToolSettings,
    VideoTools,
    available_networks,
    load_tools,
    weights_used,
)
from hallo4.evaluation.look.video import look_at
from hallo4.evaluation.show.charts import _ticks, lines, strip
from hallo4.evaluation.suites import videos as videos_module
from hallo4.evaluation.suites.video_files import matched_clips, systems_of
from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS
from hallo4.evaluation.suites.video_sets import SET_METRICS, set_value
from hallo4.evaluation.suites.videos import evaluate_videos
from hallo4.media import stream_times
from hallo4.weights.catalogue import FILES


def test_the_better_system_wins_and_the_page_needs_nothing_else(folders):
    report = evaluate(folders, "good", "poor", players=1)
    assert report["problems"] == []
    good, poor = report["metrics"]["good"], report["metrics"]["poor"]
    assert good["ssim"]["mean"] == pytest.approx(1)
    assert good["psnr_db"]["n"] == 3
    assert poor["ssim"]["low"] < poor["ssim"]["mean"] < poor["ssim"]["high"] < 0.99
    assert report["sets"]["good"]["e_fid[landmarks]"]["mean"] == pytest.approx(0, abs=1e-3)
    (pair,) = report["pairs"]
    assert pair["win_rate"]["overall"]["mean"] == 1
    assert pair["win_rate"]["overall"]["low"] < 1, "three clips are no certainty"
    assert pair["p_value"]["ssim"] == 2 / 2**3
    assert pair["p_holm"]["ssim"] >= pair["p_value"]["ssim"]
    for name, definition in report["definitions"].items():
        assert all(definition[key] for key in ("definition", "unit", "better", "source", "protocol")), name
    page = (folders / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 3
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>\s]{1,5})""", page)
    assert set(sources) == {"data:"}
    assert re.findall(r"url\(|@import|https?://", page) == []
    for word in ("good", "poor", "mouth_correlation", "Wang et al. 2004"):
        assert word in page


def test_a_folder_is_like_itself(folders):
    report = evaluate(folders, "truth", "good", players=0)
    assert report["problems"] == []
    assert report["metrics"]["truth"]["ssim"]["mean"] == pytest.approx(1)
    assert row(report, "ann", "truth")["notes"] == []


def test_a_corrupt_file_is_named_the_rest_measured_and_the_exit_code_tells(folders, capsys):
    file = folders / "good" / "bob.mkv"
    file.write_bytes(file.read_bytes()[:2000])
    (folders / "good" / "cem.mkv").rename(folders / "good" / "dan.mkv")
    words = ["evaluate", "videos", str(folders / "good"), "--against", str(folders / "truth")]
    code = main([*words, "-o", str(folders / "report.json"), "--players", "0"])
    said = capsys.readouterr()
    assert code == 3
    assert said.out.strip().endswith("report.json")
    assert "Traceback" not in said.err
    report = json.loads((folders / "report.json").read_text())
    found = {problem["clip"]: problem["what"] for problem in report["problems"]}
    assert set(found) == {"bob", "cem", "dan"}
    assert "bob.mkv" in found["bob"]
    assert all(clip in said.err for clip in found)
    ssim = report["metrics"]["good"]["ssim"]
    assert (ssim["n"], ssim["low"], ssim["high"]) == (1, None, None)
    assert any("One clip: there are no intervals" in note for note in report["notes"])


def test_a_corrupt_reference_is_named_and_the_rest_measured(folders):
    file = folders / "truth" / "bob.mkv"
    file.write_bytes(file.read_bytes()[:2000])
    report = evaluate(folders, "good", "poor", players=1)
    found = {(problem["clip"], problem["system"]): problem["what"] for problem in report["problems"]}
    assert set(found) == {("bob", side) for side in ("reference", "good", "poor")}
    assert "bob.mkv" in found["bob", "reference"]
    assert found["bob", "good"] == "its reference cannot be measured"
    assert report["metrics"]["good"]["ssim"]["n"] == report["metrics"]["poor"]["ssim"]["n"] == 2


def test_other_sizes_rates_and_lengths_are_handled_and_said(folders, episodes):
    frames = {name: episode.frames_u8 for name, episode in episodes.items()}
    double = frames["ann"].repeat(2, axis=1).repeat(2, axis=2)
    write(folders / "odd" / "ann.mkv", double, episodes["ann"].audio)
    write(folders / "odd" / "bob.mkv", frames["bob"][::2][:, 8:-8], episodes["bob"].audio, fps=12.5)
    write(folders / "odd" / "cem.mkv", frames["cem"][:20])
    report = evaluate(folders, "odd", players=0)
    assert report["problems"] == []
    entries = {clip: row(report, clip, "odd") for clip in CLIPS}
    notes = {clip: " / ".join(entry["notes"]) for clip, entry in entries.items()}
    assert "128x128 against 64x64 px of the reference: resized" in notes["ann"]
    assert entries["ann"]["values"]["ssim"] > 0.98
    assert entries["ann"]["values"]["sharpness_ratio"] is None
    assert "12.5 fps: measured at 25" in notes["bob"]
    assert "aspect ratios differ" in notes["bob"]
    assert entries["bob"]["facts"]["frames"] == 30
    assert entries["bob"]["values"]["ssim"] is None
    assert entries["bob"]["values"]["keypoint_distance"] is None
    assert "10 frames shorter than its reference: the first 20 are compared" in notes["cem"]
    assert "has no sound" in notes["cem"]
    assert entries["cem"]["values"]["ssim"] == pytest.approx(1)
    assert entries["cem"]["values"]["length_difference_s"] == pytest.approx(-0.4)
    assert report["undefined"]["odd"]["ssim"] == 1


def test_a_reference_of_another_rate_is_said(folders, episodes):
    write(folders / "truth" / "bob.mkv", episodes["bob"].frames_u8[::2], episodes["bob"].audio, fps=12.5)
    notes = [note for note in evaluate(folders, "good", players=0)["notes"] if "measured at 25" in note]
    assert [note.split(" fps")[0] for note in notes] == ["reference, bob: 12.5"]


def test_a_video_without_a_face_is_said_and_measured_without_one(folders, episodes):
    write(folders / "blank" / "ann.mkv", np.full_like(episodes["ann"].frames_u8, 128), episodes["ann"].audio)
    report = evaluate(folders, "blank", players=0)
    values = row(report, "ann", "blank")["values"]
    assert values["face_found_rate"] == 0
    assert values["mouth_correlation"] is None
    assert values["portrait_similarity"] is None
    assert values["missed_keypoint_rate"] == 1
    assert values["psnr_db"] < 20
    assert any("no face found in any frame" in note for note in report["notes"])


def test_a_stopped_run_goes_on_and_changed_files_are_measured_again(folders, monkeypatch):
    looked = []
    original = videos_module.look_at

    def spy(path, *more):
        looked.append(f"{path.parent.name}/{path.name}")
        return original(path, *more)

    monkeypatch.setattr(videos_module, "look_at", spy)
    first = evaluate(folders, "good", players=0)
    assert len(looked) == 6
    (rows,) = folders.glob("report.*.rows.jsonl")
    rows.write_text("\n".join(rows.read_text().splitlines()[:4]) + '\n{"clip": "ce')
    assert evaluate(folders, "good", players=0) == first
    assert len(looked) == 8, "the third clip again"
    (folders / "good" / "ann.mkv").write_bytes((folders / "poor" / "ann.mkv").read_bytes())
    assert evaluate(folders, "good", players=0)["metrics"] != first["metrics"]
    assert looked[8:] == ["good/ann.mkv"], "its reference has not changed"


def test_a_system_that_is_added_is_measured_alone_and_nothing_else_changes(folders, monkeypatch):
    looked = []
    original = videos_module.look_at

    def spy(path, *more):
        looked.append(path.parent.name)
        return original(path, *more)

    monkeypatch.setattr(videos_module, "look_at", spy)
    alone = evaluate(folders, "good", players=0)
    looked.clear()
    both = evaluate(folders, "good", "poor", players=0)
    assert looked == ["poor"] * 3
    assert both["metrics"]["good"] == {n: alone["metrics"]["good"][n] for n in both["metrics"]["good"]}
    looked.clear()
    kept = {path: path.unlink() for path in folders.glob("report.*.rows.jsonl")}
    fresh = evaluate(folders, "good", "poor", players=0)
    assert len(kept) == 1
    assert len(looked) == 9
    assert fresh == both, "what was seen and kept gives the same values as what is seen"


def test_references_that_come_back_bring_their_own_features_back(folders):
    def sets_against(references):
        report = evaluate_videos([folders / "good"], folders / references, folders / "report.json", players=0)
        return report["sets"]

    first, other = sets_against("truth"), sets_against("poor")
    assert other != first
    assert sets_against("truth") == first
    (looks,) = folders.glob("report.*.looks")
    assert len(list(looks.iterdir())) == 9, "of every video as it is now"


def test_rows_are_kept_under_everything_that_decides_them(folders, tmp_path, monkeypatch):
    def key(pose="auto", syncnet=None):
        return videos_module._decides(ToolSettings(pose), KeypointFinder(pose), {"syncnet": syncnet}, {})

    first, of_files = key(), key("files")
    assert key() == first
    assert key(syncnet="SyncNet: not measured") != first
    with monkeypatch.context() as patch:
        patch.setitem(videos_module.VIDEO_METRICS, "new", VIDEO_METRICS["ssim"])
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setitem(videos_module.VIDEO_METRICS, "csim", replace(VIDEO_METRICS["csim"], alone=False))
        assert key() != first, "references have other values of their own"
    observer = tmp_path / "observer"
    observer.mkdir()
    (observer / "config.json").write_text("{}")
    monkeypatch.setattr(videos_module, "OBSERVER_FOLDER", observer)
    assert key() != first
    assert key("files") == of_files, "no observer looks there"


@pytest.mark.slow
def test_processes_give_the_same_rows(folders):
    alone = evaluate(folders, "poor", players=0)
    for file in folders.glob("report.*.rows.jsonl"):
        file.unlink()
    with open_engine(2) as engine:
        shared = evaluate(folders, "poor", players=0, engine=engine)
    assert shared["rows"] == alone["rows"]


def test_networks_whose_weights_are_there_are_used_on_every_clip(folders):
    class Inception(torch.nn.Module):
        def forward(self, frames_u8):
            return frames_u8.float().mean(dim=(2, 3))

    class I3d:
        def __call__(self, clips):
            return clips.mean(dim=(1, 3, 4))

    tools = VideoTools(KeypointFinder("files"), {}, {"inception": Inception(), "i3d_disco": I3d()})
    look, _ = look_at(folders / "truth" / "ann.mkv", tools)
    assert look.features["inception"].shape == (6, 3), "every fifth of 30 frames"
    assert look.features["i3d_disco"].shape == (15, 16)
    value = set_value(SET_METRICS["fid"], *[{"ann": look.features["inception"]}] * 2)
    assert value.interval.mean == pytest.approx(0, abs=1e-6)
    assert value.interval.low is None
    assert look.problems == ()


def test_missing_weights_are_said_and_needed_ones_refused_before_any_work(folders, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    missing = available_networks(ToolSettings(weights=nowhere))
    assert all(FILES["syncnet"].path in missing["syncnet"] for _ in "1")
    assert set(missing) == {"syncnet", "inception", "i3d_disco", "i3d_stylegan_v", "lpips", "arcface"}
    with pytest.raises(CheckpointError, match=r"syncnet_v2\.model"):
        evaluate(folders, "good", tools=ToolSettings(weights=nowhere, need=("syncnet",)))
    with pytest.raises(InputError, match="no network 'sincnet'"):
        evaluate(folders, "good", tools=ToolSettings(need=("sincnet",)))
    assert not (folders / "report.json").exists()


def test_csim_without_onnxruntime_is_said_and_measured_once_it_is_there(folders, tmp_path, monkeypatch):
    file = FILES["arcface"].path
    place = tmp_path / "weights"
    place.mkdir()
    (place / file).write_bytes(b"a graph")
    tools = ToolSettings(weights=str(place))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # an import of it fails
    report = evaluate(folders, "good", tools=tools, players=0)
    (said,) = [line for line in report["not_measured"] if file in line]
    assert "pip install 'hallo4[identity]'" in said
    assert report["settings"]["weights"] == weights_used(tools) == {}
    assert "csim" not in report["metrics"]["good"]
    with pytest.raises(MissingExtraError, match="onnxruntime"):
        available_networks(ToolSettings(weights=str(place), need=("arcface",)))

    class Session:
        def __init__(self, path, options, providers):
            assert path == place / file

        def get_inputs(self):
            return [SimpleNamespace(name="input")]

        def run(self, _, planes):
            return [planes["input"].mean(axis=(2, 3))]

    fake = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    report = evaluate(folders, "good", tools=tools, players=0)
    assert report["metrics"]["good"]["csim"]["mean"] > 0.9
    assert set(report["settings"]["weights"]) == {file}
    assert not any(file in line for line in report["not_measured"])


def test_folders_that_cannot_be_matched_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        systems_of([folders / "nothing"])
    assert [s.name for s in systems_of([f"A={folders / 'good'}", folders / "poor"])] == ["A", "poor"]
    with pytest.raises(InputError, match="NAME=FOLDER"):
        systems_of([folders / "good", f"good={folders / 'poor'}"])
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no videos"):
        matched_clips(systems_of([tmp_path / "other"]), folders / "truth")
    (tmp_path / "other" / "zoe.mp4").touch()
    with pytest.raises(InputError, match="matched by file name"):
        matched_clips(systems_of([tmp_path / "other"]), folders / "truth")
    (tmp_path / "other" / "zoe.mkv").touch()
    with pytest.raises(InputError, match="both"):
        matched_clips(systems_of([tmp_path / "other"]), folders / "truth")


def test_stream_times_see_short_and_late_sound(folders, episodes, tmp_path):
    import av

    times = stream_times(folders / "truth" / "ann.mkv")
    assert times.start_offset_s == pytest.approx(0, abs=0.001)
    assert times.length_difference_s == pytest.approx(0, abs=0.03)
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("ffv1", rate=25)
        picture.width = picture.height = SIZE_PX
        picture.pix_fmt = "bgr0"
        sound = container.add_stream("flac", rate=16_000, layout="mono")
        for frame in episodes["ann"].frames_u8[:25]:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate, silence.pts = 16_000, 3200
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    times = stream_times(path)
    assert times.start_offset_s == pytest.approx(0.2, abs=0.005)
    assert times.length_difference_s == pytest.approx(-0.5, abs=0.05)


def test_lines_fill_their_height_whatever_else_stands_beside_the_values():
    values = [
        {"start_s": 100.0 * i, "mean": 0.5 + 0.1 * i, "low": None, "high": None, "n": 9} for i in range(3)
    ]
    drawn = lines([("a", [0.0, 1.0, 2.0], values, "red")], "one", "s", height=100)
    (path,) = re.findall(r'points="([^"]*)"', drawn)
    heights = [float(point.split(",")[1]) for point in path.split()]
    assert (max(heights), min(heights)) == (80, 24)


def test_charts_have_round_ticks_and_no_dots_out_of_nothing():
    assert _ticks(0.13, 0.91) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert strip([("a", [], "red")], "empty") == ""
    drawn = strip([("a<b", [("clip", 1.0)], "red")], "one")
    assert drawn.count("<circle") == 1
    assert "a&lt;b" in drawn


def test_what_is_not_installed_is_said_before_any_work_and_is_no_problem_of_a_clip(folders, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "skimage.registration", None)
        with pytest.raises(MissingExtraError, match="scikit-image"):
            evaluate(folders, "good", players=0)
        patch.setattr(videos_module, "require_optical_flow", lambda: None)
        with pytest.raises(MissingExtraError, match="scikit-image"):
            evaluate(folders, "good", players=0)
    report = evaluate(folders, "good", players=0)
    assert report["problems"] == []
    assert report["metrics"]["good"]["subject_dynamics"]["n"] == 3


def test_sound_that_cannot_be_decoded_costs_the_sound_and_not_the_clip(folders):
    file = folders / "good" / "bob.mkv"
    stored = file.read_bytes()
    codec = re.search(rb"A_[A-Z0-9_/]{4,}", stored).group()
    file.write_bytes(stored.replace(codec, b"A_NOSUCH"[: len(codec)].ljust(len(codec), b"_")))
    report = evaluate(folders, "good", players=1)
    (problem,) = report["problems"]
    assert (problem["clip"], problem["system"]) == ("bob", "good")
    assert "bob.mkv" in problem["what"]
    values = row(report, "bob", "good")["values"]
    assert values["ssim"] == pytest.approx(1)
    assert values["mouth_correlation"] == pytest.approx(1, abs=0.01)
    assert values["mouth_sound_correlation"] is None


def test_syncnet_vectors_that_are_not_finite_are_a_problem_and_short_clips_a_note(episodes, tmp_path):
    class Broken:
        def embed_faces(self, faces):
            return torch.full((len(faces), 8), torch.nan)

        def embed_sound(self, cepstra):
            return torch.zeros(len(cepstra), 8)

    tools = replace(load_tools(ToolSettings(), tmp_path), networks={"syncnet": Broken()})
    episode = episodes["ann"]
    write(tmp_path / "ann.mkv", episode.frames_u8, episode.audio)
    look, _ = look_at(tmp_path / "ann.mkv", tools)
    assert look.sync is None
    assert ["not finite" in problem for problem in look.problems] == [True]
    assert look.loudness is not None
    write(tmp_path / "short.mkv", episode.frames_u8[:4], episode.audio)
    look, _ = look_at(tmp_path / "short.mkv", tools)
    assert look.problems == ()
    assert any("SyncNet needs six frames" in note for note in look.notes)
