"""`hallo4 evaluate videos` on films of a real person: keypoints are found, kept and reused, and faces are
compared with the portrait.
"""

import shutil

import numpy as np
import pytest
from filmed_photograph import filmed
from PIL import Image

from hallo4.errors import CheckpointError
from hallo4.evaluation import ToolSettings, evaluate_videos
from hallo4.evaluation.look import keypoints as video_keypoints
from hallo4.evaluation.look.keypoints import KeypointFinder
from hallo4.evaluation.measures import keypoints
from hallo4.media import VideoWriter, probe_video, provenance_record
from hallo4.motion import load_skeleton, save_skeleton
from hallo4.pose import estimate_image
from hallo4.world import make_episode, write_episode

FRAMES = 12


@pytest.fixture(scope="module")
def photograph():
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module")
def films(photograph, tmp_path_factory):
    """Folders of one film each, of head and shoulders: the truth, the same, and that 3 px further right."""
    root = tmp_path_factory.mktemp("films")
    for folder, further_px in (("truth", (0, 0)), ("same", (0, 0)), ("shifted", (3, 0))):
        (root / folder).mkdir()
        with VideoWriter(root / folder / "me.mkv", 512, 512) as writer:
            for frame in filmed(photograph, FRAMES, further_px, closer=1.5):
                writer.write(frame)
    return root


@pytest.fixture
def folders(films, light_root, tmp_path, monkeypatch):
    """The same where files may be put beside them, and the networks of the light estimator."""
    monkeypatch.setenv("HALLO4_WEIGHTS", str(light_root))
    return shutil.copytree(films, tmp_path / "films")


def evaluate(folders, *systems, **settings):
    named = [folders / system for system in systems]
    tools = ToolSettings(**settings)
    return evaluate_videos(named, folders / "truth", folders / "report.json", tools, players=0)


def test_a_film_is_perfect_beside_itself_and_its_shift_is_measured(folders, monkeypatch):
    report = evaluate(folders, "same", "shifted", pose="light")
    assert report["problems"] == []
    assert report["keypoints_from"] == {side: {"light": 1} for side in ("same", "shifted", "reference")}
    assert report["identity_against"]["same"] == {"first face of the reference": 1}
    same, shifted = ({n: i["mean"] for n, i in report["metrics"][s].items()} for s in ("same", "shifted"))
    own = {n: i["mean"] for n, i in report["reference_values"].items()}
    perfect = {"psnr_db": 60, "ssim": 1, "mouth_correlation": 1, "face_found_rate": 1, "sharpness_ratio": 1}
    zero = ("keypoint_distance", "face_landmark_distance", "mouth_landmark_distance", "missed_keypoint_rate")
    assert {name: same[name] for name in perfect} == pytest.approx(perfect)
    assert {name: same[name] for name in zero} == dict.fromkeys(zero, 0)
    assert {name: same[name] for name in own} == pytest.approx(own), "what judges a video alone"
    assert same["portrait_similarity"] > 0.95
    assert shifted["keypoint_distance"] * 512 == pytest.approx(3, abs=0.3)
    assert shifted["face_landmark_distance"] < 0.02, "the face itself has not changed"
    assert shifted["psnr_db"] < 30

    kept = sorted((folders / "report.keypoints").glob("me.light.*.keypoints.npz"))
    assert len(kept) == 2, "one of each content"
    faces = [load_skeleton(file) for file in kept]
    assert keypoints.keypoint_distance(*faces, keypoints.FACE_POINTS) * 512 == pytest.approx(3, abs=0.1)
    for file in folders.glob("report.*.rows.jsonl"):
        file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(video_keypoints, "estimate_video", None)
        assert evaluate(folders, "same", "shifted", pose="light") == report, "what was found is found again"
    before = kept[0].stat().st_mtime_ns
    other = KeypointFinder("light", folders / "report.keypoints")
    other.estimator = Nobody()
    video = folders / "truth" / "me.mkv"
    notes = []
    source, skeleton = other.of_video(video, probe_video(video), notes)
    assert (source, skeleton.confidence.max()) == ("nobody", 0), "another estimator finds for itself"
    assert "no person was found in any of 12 frames" in notes[0]
    assert kept[0].stat().st_mtime_ns == before


class Nobody:
    """An estimator that sees nobody."""

    name = "nobody"

    def find(self, frame_u8):
        return []

    def look(self, frame_u8, near):
        return None


def test_identity_is_measured_against_the_portrait_and_it_is_said(folders, photograph, monkeypatch):
    def similarity(side="same"):
        report = evaluate(folders, "same", pose="light")
        assert report["problems"] == [], report["problems"]
        (entry,) = [row for row in report["rows"] if row["system"] == side]
        return entry["values"]["portrait_similarity"], entry["facts"]["identity_against"], report

    by_first_face, against, _ = similarity()
    assert against == "first face of the reference"
    portrait = folders / "truth" / "me.portrait.jpg"
    Image.fromarray(photograph[:, ::-1]).save(portrait)
    mirrored, against, report = similarity()
    assert against == "portrait me.portrait.jpg of the reference"
    assert similarity("reference")[:2] == (mirrored, "portrait me.portrait.jpg")
    assert mirrored < by_first_face - 0.05, "of a face that is lit from one side"
    assert report["identity_against"] == {side: {"portrait": 1} for side in ("same", "reference")}
    assert "same: identity is measured against portrait (1 of 1 clips)" in report["notes"]
    page = (folders / "report.html").read_text()
    assert "<td>same</td><td>light</td><td>portrait me.portrait.jpg of the reference</td>" in page

    Image.fromarray(photograph).save(folders / "same" / "me.portrait.png")
    own, against, _ = similarity()
    assert against == "portrait me.portrait.png"
    assert own > 0.95
    given = estimate_image(photograph, "light").skeleton
    save_skeleton(folders / "same" / "me.portrait.keypoints.json", given)
    with monkeypatch.context() as patch:
        patch.delattr(video_keypoints, "estimate_image")
        portrait.unlink()
        assert similarity()[0] == pytest.approx(own, abs=1e-4), "by the keypoints beside it"


def test_a_portrait_without_a_face_is_a_problem_and_no_reason_to_take_another(folders):
    Image.new("RGB", (200, 200), (90, 120, 40)).save(folders / "truth" / "me.portrait.png")
    report = evaluate(folders, "same", pose="light")
    (problem,) = report["problems"]
    assert (problem["system"], "me.portrait.png: no person" in problem["what"]) == ("reference", True)
    assert "portrait_similarity" not in report["metrics"]["same"]
    assert report["metrics"]["same"]["keypoint_distance"]["mean"] == 0
    Image.new("RGB", (200, 200)).save(folders / "truth" / "me.portrait.webp")
    (problem,) = evaluate(folders, "same", pose="light")["problems"]
    assert "me.mkv: has two portraits beside it" in problem["what"]


def test_auto_takes_the_observer_for_the_portrait_world_only(folders, tmp_path, monkeypatch):
    def source(video, pose="auto"):
        return KeypointFinder(pose).source_of(video)

    def by(model):
        path = tmp_path / "made.mkv"
        with VideoWriter(path, 64, 64, provenance=provenance_record(model, "1", 0)) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8))
        return path

    world = write_episode(make_episode(7_300_000, 0.2, 64), tmp_path / "episode")["video.mp4"]
    filmed_video = folders / "truth" / "me.mkv"
    assert [source(video) for video in (world, filmed_video)] == ["observer", "light"]
    assert [source(by(model)) for model in ("tiny-dit", "hallo4")] == ["observer", "light"]
    assert [source(world, pose) for pose in ("light", "files", "observer")] == ["light", None, "observer"]
    monkeypatch.setenv("HALLO4_WEIGHTS", str(tmp_path / "nothing"))
    assert [source(video) for video in (world, filmed_video)] == ["observer", None]
    with pytest.raises(CheckpointError):
        source(filmed_video, "light")
    report = evaluate(folders, "same")
    assert "keypoint_distance" not in report["metrics"]["same"], "the observer knows no real people"
    assert report["metrics"]["same"]["ssim"]["mean"] == pytest.approx(1)
    (line,) = [line for line in report["not_measured"] if "keypoints" in line]
    assert line.startswith("Lips, hands, faces and keypoints of 2 videos: not measured")
    assert "hallo4 weights fetch pose-light" in line
    assert report["problems"] == []
