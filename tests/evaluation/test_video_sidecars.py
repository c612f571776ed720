"""Files beside videos: used, brought to the video, and alone lost where they are damaged."""

import json

import numpy as np
import pytest
import torch
from video_folders import CLIPS, SIZE_PX, evaluate, row

from hallo4.cli import main
from hallo4.evaluation.look.keypoints import KeypointFinder
from hallo4.evaluation.look.tools import ToolSettings, VideoTools
from hallo4.evaluation.look.video import look_at
from hallo4.evaluation.measures.identity import PatchEncoder
from hallo4.motion import save_skeleton
from hallo4.types import Skeleton


def _with(skeleton, points_px=None, confidence=None, size=(SIZE_PX, SIZE_PX)):
    points = skeleton.points_px if points_px is None else points_px
    return Skeleton(points, skeleton.confidence if confidence is None else confidence, skeleton.fps, *size)


def test_keypoints_and_expressions_beside_a_video_are_used(folders, episodes):
    rng = np.random.default_rng(0)
    for name, episode in episodes.items():
        for folder in ("truth", "good"):
            save_skeleton(folders / folder / f"{name}.keypoints.json", episode.skeleton)
            np.save(folders / folder / f"{name}.expression.npy", rng.normal(size=(30, 5)))
    report = evaluate(folders, "good", tools=ToolSettings(pose="files"), players=0)
    assert row(report, "ann", "good")["facts"]["keypoints"] == "file"
    assert report["metrics"]["good"]["keypoint_distance"]["mean"] == 0
    assert report["sets"]["good"]["e_fid[file]"]["samples"] == 90
    broken = rng.normal(size=(30, 5))
    broken[3, 2] = np.nan
    np.save(folders / "good" / "bob.expression.npy", broken)
    report = evaluate(folders, "good", tools=ToolSettings(pose="files"), players=0)
    (problem,) = report["problems"]
    assert (problem["clip"], problem["system"]) == ("bob", "good")
    wrong = "bob.expression.npy: 1 of 30 feature vectors of expression are not finite (NaN)."
    assert problem["what"] == wrong
    assert report["metrics"]["good"]["keypoint_distance"]["n"] == 3
    assert report["sets"]["good"]["e_fid[file]"]["samples"] == 60


def test_damaged_files_beside_a_video_or_reference_cost_only_what_they_give(folders, episodes):
    for folder in ("truth", "good"):
        save_skeleton(folders / folder / "cem.keypoints.json", episodes["cem"].skeleton)
    (folders / "truth" / "cem.keypoints.json").write_text('{"points_px": [[0, ')
    header = b"\x93NUMPY\x01\x00\x0c\x00{'shape': (5\n"  # a bracket that does not close
    for clip, content in (("ann", b""), ("bob", header)):
        (folders / "good" / f"{clip}.expression.npy").write_bytes(content)
    words = ["evaluate", "videos", str(folders / "good"), str(folders / "poor")]
    words += ["--against", str(folders / "truth"), "-o", str(folders / "report.json"), "--players", "0"]
    assert main(words) == 3
    report = json.loads((folders / "report.json").read_text())
    found = {(problem["clip"], problem["system"]): problem["what"] for problem in report["problems"]}
    assert set(found) == {("ann", "good"), ("bob", "good"), ("cem", "reference")}
    assert found["ann", "good"].startswith("ann.expression.npy: cannot be read as numbers")
    assert found["bob", "good"].startswith("bob.expression.npy: cannot be read as numbers")
    assert found["cem", "reference"].startswith("cem.keypoints.json: not valid JSON")
    for system in ("good", "poor"):
        assert report["metrics"][system]["ssim"]["n"] == 3
        assert report["metrics"][system]["keypoint_distance"]["n"] == 2
        assert report["metrics"][system]["hand_visible_rate"]["n"] == 3
    assert row(report, "cem", "reference")["facts"]["keypoints"] is None, "not the observer's in their place"


def test_keypoints_of_another_resolution_are_brought_to_the_video(folders, episodes):
    video, skeleton = folders / "truth" / "ann.mkv", episodes["ann"].skeleton
    sidecar = folders / "truth" / "ann.keypoints.npz"
    tools = VideoTools(KeypointFinder("files"), {"portrait_similarity": PatchEncoder()})

    def look_with(scale):
        size = np.int64(np.float32(scale) * SIZE_PX)
        save_skeleton(sidecar, _with(skeleton, points_px=skeleton.points_px * np.float32(scale), size=size))
        return look_at(video, tools)[0]

    own = look_with((1, 1))
    for scale in ((4, 4), (0.5, 0.5), (10, 10.1)):
        other = look_with(scale)
        assert (other.skeleton.width_px, other.skeleton.height_px) == (SIZE_PX, SIZE_PX)
        assert other.skeleton.points_px == pytest.approx(own.skeleton.points_px, abs=0.1)
        assert other.faces["portrait_similarity"] == pytest.approx(own.faces["portrait_similarity"], abs=2.5)
    refused = look_with((2, 1))
    assert refused.skeleton is None
    assert refused.faces == {}
    (problem,) = refused.problems
    assert problem.startswith(
        "ann.keypoints.npz: its points lie in a picture of 128x64 px, the picture itself has 64x64"
    )


def test_another_source_of_keypoints_than_the_reference_has_is_said(folders, episodes):
    save_skeleton(folders / "good" / "ann.keypoints.json", episodes["ann"].skeleton)
    report = evaluate(folders, "good", players=0)
    assert report["keypoints_from"] == {"good": {"file": 1, "observer": 2}, "reference": {"observer": 3}}
    notes = [note for note in report["notes"] if "those of its reference" in note]
    (said,) = notes
    assert said.startswith("good, ann: its keypoints come from file, those of its reference from observer")


def test_keypoints_without_confidence_are_no_face(folders, episodes):
    """DWPose gives every point some confidence, in pictures of nothing too."""
    for name, episode in episodes.items():
        skeleton = episode.skeleton
        unsure = np.full_like(skeleton.confidence, 0.05)
        if name == "bob":
            unsure[:15] = 1
        save_skeleton(folders / "good" / f"{name}.keypoints.json", _with(skeleton, confidence=unsure))
    report = evaluate(folders, "good", tools=ToolSettings(pose="files"), players=0)
    values = {clip: row(report, clip, "good")["values"] for clip in CLIPS}
    assert {clip: found["face_found_rate"] for clip, found in values.items()} == {
        "ann": 0,
        "bob": 0.5,
        "cem": 0,
    }
    notes = [note for note in report["notes"] if "no face found in any frame" in note]
    assert [note.split(":")[0] for note in notes] == ["good, ann", "good, cem"]


def test_features_that_are_not_finite_are_named_and_left_out(folders, episodes):
    class Broken:
        name = "broken"

        def __call__(self, faces_u8):
            vectors = np.ones((len(faces_u8), 4))
            vectors[-1] = np.nan
            return vectors

    save_skeleton(folders / "truth" / "ann.keypoints.json", episodes["ann"].skeleton)
    networks = {
        "inception": lambda frames: torch.full((len(frames), 3), float("nan")),
        "i3d_disco": lambda clips: clips.mean(dim=(1, 3, 4)) * float("inf"),
        "i3d_stylegan_v": lambda clips: clips.mean(dim=(1, 3, 4)),
    }
    tools = VideoTools(
        KeypointFinder("files"), {"csim": Broken(), "portrait_similarity": PatchEncoder()}, networks
    )
    look, _ = look_at(folders / "truth" / "ann.mkv", tools)
    assert set(look.features) == {"i3d_stylegan_v"}
    assert np.isnan(look.faces["csim"]).all(), "a vector that is not finite is no frame without a face"
    assert np.isfinite(look.faces["portrait_similarity"]).all()
    faces, *others = look.problems
    assert faces == "ann.mkv: 1 of 30 feature vectors of broken are not finite (NaN)."
    assert others[0].startswith("ann.mkv: FVD, protocol disco: ")
    assert others[1] == "ann.mkv: 6 of 6 feature vectors of inception are not finite (NaN)."


def test_keypoints_in_fractions_are_measured_like_those_in_pixels(folders, episodes):
    """Read as pixels, an error would be `SIZE_PX` times too small, and the best of all."""
    for name, episode in episodes.items():
        moved = episode.skeleton.points_px + np.float32(2)
        save_skeleton(folders / "truth" / f"{name}.keypoints.json", episode.skeleton)
        for folder, points in (("good", moved), ("poor", moved / np.float32(SIZE_PX))):
            save_skeleton(folders / folder / f"{name}.keypoints.npz", _with(episode.skeleton, points))
    tools = ToolSettings(pose="files")
    report = evaluate(folders, "good", "poor", tools=tools, players=0)
    pixels, fractions = (report["metrics"][name]["keypoint_distance"] for name in ("good", "poor"))
    assert pixels["mean"] > 0.01
    np.testing.assert_allclose(fractions["mean"], pixels["mean"], rtol=1e-4)
    notes = row(report, "ann", "poor")["notes"]
    assert any("coordinates are fractions (0..1) and were scaled" in note for note in notes)


def test_keypoints_of_a_larger_picture_that_do_not_say_so_are_refused_by_name(folders, episodes):
    skeleton = episodes["ann"].skeleton
    triples = np.concatenate([4 * skeleton.points_px, skeleton.confidence[..., None]], axis=-1)
    (folders / "good" / "ann.keypoints.json").write_text(json.dumps({"keypoints": triples.tolist()}))
    report = evaluate(folders, "good", tools=ToolSettings(pose="files"), players=0)
    (problem,) = report["problems"]
    assert problem["what"].startswith("ann.keypoints.json: does not say how large its picture is")
    assert f"of its points lie outside {SIZE_PX}x{SIZE_PX} px" in problem["what"]
