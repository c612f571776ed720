"""Skeleton files: round trips, foreign formats, and one clear line for every kind of broken file."""

import json
import pickle

import numpy as np
import pytest

from hallo4.errors import InputError, OutputError
from hallo4.motion import checks, default_rest_pose, idle_motion, layout, load_skeleton, save_skeleton
from hallo4.types import KEYPOINTS, Skeleton


@pytest.fixture(scope="module")
def sequence() -> Skeleton:
    return idle_motion(default_rest_pose(640, 480), 5, seed=2)


def record(sequence: Skeleton) -> dict:
    return {
        "format": "hallo4-keypoints",
        "version": 1,
        "fps": 25.0,
        "width_px": 640,
        "height_px": 480,
        "points_px": sequence.points_px.tolist(),
        "confidence": sequence.confidence.tolist(),
    }


def test_json_round_trip_is_within_a_hundredth_and_then_exact(tmp_path, sequence):
    save_skeleton(tmp_path / "a.json", sequence)
    back = load_skeleton(tmp_path / "a.json")
    assert (back.fps, back.width_px, back.height_px) == (25.0, 640, 480)
    assert back.points_px.dtype == back.confidence.dtype == np.float32
    np.testing.assert_allclose(back.points_px, sequence.points_px, atol=0.0051)
    np.testing.assert_array_equal(back.confidence, sequence.confidence)
    save_skeleton(tmp_path / "b.json", back)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert len((tmp_path / "a.json").read_text().splitlines()) == 2 * len(sequence) + 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_npz_round_trip_is_exact(tmp_path, sequence):
    save_skeleton(tmp_path / "a.npz", sequence)
    back = load_skeleton(tmp_path / "a.npz")
    np.testing.assert_array_equal(back.points_px, sequence.points_px)
    np.testing.assert_array_equal(back.confidence, sequence.confidence)
    assert (back.fps, back.width_px, back.height_px) == (25.0, 640, 480)


def test_unseen_points_need_no_place(tmp_path, sequence):
    points, confidence = sequence.points_px.copy(), sequence.confidence.copy()
    points[2, 40], confidence[2, 40] = np.nan, 0
    save_skeleton(tmp_path / "a.json", Skeleton(points, confidence, 25.0, 640, 480))
    back = load_skeleton(tmp_path / "a.json")
    assert (back.points_px[2, 40] == 0).all()
    assert back.confidence[2, 40] == 0


def test_dwpose_arrays_with_and_without_the_axis_of_one_person(tmp_path, sequence):
    scores = sequence.confidence * 1.2  # DWPose's scores may pass 1
    numbers = {"fps": 30, "width_px": 640, "height_px": 480}
    np.savez(tmp_path / "a.npz", keypoints=sequence.points_px, scores=scores, **numbers)
    np.savez(tmp_path / "b.npz", keypoints=sequence.points_px[:, None], scores=scores[:, None], **numbers)
    joined = np.concatenate([sequence.points_px, scores[..., None]], axis=-1)
    (tmp_path / "c.json").write_text(json.dumps({"keypoints": joined.tolist(), **numbers}))
    for name in ("a.npz", "b.npz", "c.json"):
        back = load_skeleton(tmp_path / name)
        np.testing.assert_allclose(back.points_px, sequence.points_px, rtol=1e-6)
        np.testing.assert_array_equal(back.confidence, sequence.confidence)
        assert back.fps == 30


def openpose_person(points: np.ndarray, body: int) -> dict:
    """A person as OpenPose writes it, from 133 points [133, 3]; joints are placed by name."""
    names = ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow"]
    names += ["left_wrist", *(["mid_hip"] if body == 25 else []), "right_hip", "right_knee", "right_ankle"]
    names += ["left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"]
    if body == 25:
        names += [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
    assert len(names) == body
    made = {"neck": (1.0, 1.0, 0.9), "mid_hip": (2.0, 2.0, 0.9)}
    pose = [made.get(name) or points[layout.NAMES.index(name)].tolist() for name in names]
    face = np.concatenate([points[layout.FACE], np.ones((2, 3))])
    return {
        "person_id": [-1],
        "pose_keypoints_2d": [value for point in pose for value in point],
        "face_keypoints_2d": face.ravel().tolist(),
        "hand_left_keypoints_2d": points[layout.LEFT_HAND].ravel().tolist(),
        "hand_right_keypoints_2d": points[layout.RIGHT_HAND].ravel().tolist(),
    }


@pytest.fixture
def people() -> np.ndarray:
    """Twelve frames of 133 points with confidence, [12, 133, 3]."""
    random = np.random.default_rng(0)
    first = random.uniform(50, 400, (KEYPOINTS, 2))
    drift = np.arange(12)[:, None, None] * 2.0
    return np.concatenate([first + drift, random.uniform(0.4, 1, (12, KEYPOINTS, 1))], axis=-1)


@pytest.mark.parametrize("body", [18, 25])
def test_openpose_lists_and_folders_bring_every_point_home(tmp_path, people, body):
    canvas = {"canvas_width": 640, "canvas_height": 480}
    frames = [{"people": [openpose_person(points, body)], **canvas} for points in people]
    (tmp_path / "all.json").write_text(json.dumps(frames))
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(frames):  # names without leading zeros: 10 must not come before 2
        (tmp_path / "clip" / f"clip_{number}_keypoints.json").write_text(json.dumps(frame))
    for path in (tmp_path / "all.json", tmp_path / "clip"):
        back = load_skeleton(path, fps=30.0)
        expected = people.copy()
        if body == 18:
            expected[:, layout.FEET] = 0
        np.testing.assert_allclose(back.points_px, expected[..., :2], rtol=1e-5)
        np.testing.assert_allclose(back.confidence, expected[..., 2], rtol=1e-5)
        assert (back.fps, back.width_px, back.height_px) == (30.0, 640, 480)


@pytest.mark.filterwarnings("ignore::hallo4.media.MediaWarning")
def test_openpose_follows_one_person_and_survives_gaps(tmp_path, people):
    other = people.copy()
    other[..., 0] += 500
    other[..., 2] = 0.35  # less visible, so not the one to follow
    other[5:, :, 2] = 1.0  # and more visible later, but far away
    frames = [{"people": [openpose_person(b, 25), openpose_person(a, 25)]} for a, b in zip(people, other)]
    frames[3] = {"people": []}
    frames[4]["people"][1]["face_keypoints_2d"] = None
    frames[4]["people"][1]["hand_left_keypoints_2d"] = []
    (tmp_path / "two.json").write_text(json.dumps(frames))
    back = load_skeleton(tmp_path / "two.json", size_px=(1280, 720))
    keep = [i for i in range(12) if i not in (3, 4)]
    np.testing.assert_allclose(back.points_px[keep], people[keep, :, :2], rtol=1e-5)
    assert (back.confidence[3] == 0).all()
    assert (back.confidence[4, layout.FACE] == 0).all()
    assert (back.confidence[4, layout.LEFT_HAND] == 0).all()
    assert (back.confidence[4, layout.RIGHT_HAND] > 0).all()


def edited(sequence: Skeleton, **changes) -> str:
    value = record(sequence)
    for field, change in changes.items():
        if change is None:
            del value[field]
        else:
            value[field] = change(value[field]) if callable(change) else change
    return json.dumps(value)


def with_value(frame: int, point: int, value: object):
    def change(frames: list) -> list:
        frames[frame][point] = value
        return frames

    return change


BAD_RECORDS = {
    "no frames": ({"points_px": [], "confidence": []}, "0 frames"),
    "one frame too few": ({"confidence": lambda c: c[:-1]}, "5 frames of points but 4 of confidence"),
    "132 points": ({"points_px": lambda p: [p[0], p[1][:-1]]}, r"frame 1 is \[132\]\[2\]; .*\[133\]\[2\]"),
    "three columns": ({"points_px": lambda p: [[[1, 2, 3]] * 133]}, r"frame 0 is \[133\]\[3\]"),
    "ragged": ({"points_px": with_value(3, 7, [1.0])}, "frame 3 is something else"),
    "text": ({"points_px": with_value(3, 7, ["1.0", "2.0"])}, "frame 3 is something else"),
    "null": ({"points_px": with_value(0, 7, None)}, "frame 0 is something else"),
    "huge integer": ({"points_px": with_value(0, 7, [10**30, 1])}, "frame 0 is something else"),
    "infinite": (
        {"points_px": with_value(2, 0, [1.0, float("1e5") * 2])},
        "coordinate 200000 of point 0 in frame 2",
    ),
    "negative confidence": ({"confidence": with_value(1, 9, -0.5)}, "confidence -0.5 of point 9 in frame 1"),
    "confidence above 1": ({"confidence": with_value(1, 9, 1.5)}, "confidence 1.5 of point 9 in frame 1"),
    "flat": ({"points_px": [1, 2, 3]}, "frame 0 is a number"),
    "no list": ({"points_px": 3}, '"points_px" is not frames'),
    "fps 0": ({"fps": 0}, '"fps" is 0; allowed is a number 0.001 to 240'),
    "fps negative": ({"fps": -25}, '"fps" is -25'),
    "fps text": ({"fps": "a\nb"}, '"fps" is \'a'),
    "fps list": ({"fps": [25, 25]}, '"fps" is'),
    "no width": ({"width_px": None}, "does not say how large"),
    "width huge": ({"width_px": 10**9}, '"width_px" is 1000000000'),
    "height broken": ({"height_px": 480.5}, "whole pixels"),
    "other format": ({"format": "mp4"}, '"format" is'),
    "future version": ({"version": 2}, '"version" is'),
    "no confidence": ({"confidence": None}, 'no "confidence"'),
    "no points": ({"points_px": None}, 'found .* read are "points_px"'),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_bad_records_are_named_in_one_line(tmp_path, sequence, name):
    changes, message = BAD_RECORDS[name]
    path = tmp_path / "bad.json"
    path.write_text(edited(sequence, **changes))
    with pytest.raises(InputError, match=message) as caught:
        load_skeleton(path)
    assert str(caught.value).startswith("bad.json: ")
    assert "\n" not in str(caught.value)


BAD_TEXTS = {
    "cut off": (b'{"format": "hallo4-keypoints",\n"points_px": [[[1', "not valid JSON at line 2 column"),
    "empty": (b"", "not valid JSON at line 1 column 1"),
    "not text": (b"\xff\xd8\xff\xe0", "not text in UTF-8"),
    "NaN": (b'{"points_px": [[[NaN, 1]]]}', "holds NaN"),
    "infinity": (b'{"points_px": [[[-Infinity, 1]]]}', "holds -Infinity"),
    "too large a number": (b'{"fps": 1e999, "points_px": 3}', "no number that can be used"),
    "deep": (b"[" * 200_000, "nested more than 64 deep"),
    "endless digits": (b'{"fps": ' + b"9" * 5000 + b"}", "no number that can be used"),
    "a number": (b"7", "holds a single int"),
    "empty list": (b"[]", "0 frames"),
    "list of numbers": (b"[1, 2]", 'a list of int; read are "points_px"'),
    "people is no list": (b'{"people": 5}', '"people" of frame 0 is no list of objects'),
    "nobody, nowhere": (b'[{"people": []}, {"people": []}]', "does not say how large its picture is"),
    "other keys": (b'[{"people": [{"body": []}]}]', "has none of \"pose_keypoints_2d\".*found 'body'"),
    "17 joints": (
        json.dumps([{"people": [{"pose_keypoints_2d": [1.0] * 51}]}]).encode(),
        '"pose_keypoints_2d" of frame 0 has 51 values; must be 54 or 75',
    ),
    "text for a hand": (
        b'[{"people": [{"hand_left_keypoints_2d": "abc"}]}]',
        '"hand_left_keypoints_2d" of frame 0 has str; must be 63',
    ),
    "infinite joint": (
        b'[{"people": [{"hand_left_keypoints_2d": [' + b"1e999, " * 62 + b"1]}]}]",
        "no number that can be used",
    ),
    "no canvas": (
        json.dumps([{"people": [{"pose_keypoints_2d": [1.0] * 54}]}]).encode(),
        "does not say how large its picture is",
    ),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts_are_named_in_one_line(tmp_path, name):
    content, message = BAD_TEXTS[name]
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_skeleton(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_arrays_with_nan_are_named(tmp_path, sequence, bad):
    points = sequence.points_px.copy()
    points[3, 5, 1] = bad
    np.savez(tmp_path / "a.npz", points_px=points, confidence=sequence.confidence, fps=25.0)
    with pytest.raises(InputError, match='"points_px" of frame 3 holds NaN or infinity'):
        load_skeleton(tmp_path / "a.npz")


class Bomb:
    """Pickled, it would make a file when opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_never_opened(tmp_path, sequence):
    trace = tmp_path / "trace"
    bomb = np.array([Bomb(trace)], dtype=object)
    np.savez(tmp_path / "object.npz", points_px=bomb, confidence=sequence.confidence)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Bomb(trace)))
    (tmp_path / "motion.pkl").write_bytes(pickle.dumps(Bomb(trace)))
    for name in ("object.npz", "plain.npz", "motion.pkl"):
        with pytest.raises(InputError, match="pickle"):
            load_skeleton(tmp_path / name)
    assert not trace.exists()


def test_broken_archives_are_refused(tmp_path, sequence):
    save_skeleton(tmp_path / "good.npz", sequence)
    content = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "flipped.npz").write_bytes(content[:300] + bytes(200) + content[500:])
    (tmp_path / "empty.npz").write_bytes(b"")
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, sequence.points_px)
    for name in ("cut.npz", "flipped.npz", "empty.npz", "array.npz"):
        with pytest.raises(InputError, match="not a readable"):
            load_skeleton(tmp_path / name)


def test_limits_on_length_and_size(tmp_path, sequence, monkeypatch):
    from hallo4.motion import files

    save_skeleton(tmp_path / "a.json", sequence)
    save_skeleton(tmp_path / "a.npz", sequence)
    monkeypatch.setattr(checks, "MAX_FRAMES", 4)
    with pytest.raises(InputError, match="5 frames"):
        load_skeleton(tmp_path / "a.json")
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 5_000)
    for name in ("a.json", "a.npz"):
        with pytest.raises(InputError, match="MiB are read"):
            load_skeleton(tmp_path / name)


def test_what_is_not_there_or_not_a_skeleton(tmp_path, sequence):
    (tmp_path / "video.mp4").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("missing.json", "no such file"),
        ("video.mp4", ".mp4 suffix"),
        ("folder", "without .json files"),
    ):
        with pytest.raises(InputError, match=message):
            load_skeleton(tmp_path / name)
    (tmp_path / "folder" / "x.json").write_text("{}")
    with pytest.raises(InputError, match=r'folder/x\.json: no "people"'):
        load_skeleton(tmp_path / "folder")
    for path in (tmp_path / "nowhere" / "a.json", tmp_path / "a.txt"):
        with pytest.raises(OutputError):
            save_skeleton(path, sequence)
