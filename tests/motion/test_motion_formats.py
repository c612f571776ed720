"""Keypoints as other tools write them: every point comes home, and what is not read says what was found."""

import json
from pathlib import Path

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.media import MediaWarning
from hallo4.motion import default_rest_pose, idle_motion, layout, load_skeleton

CASES = Path(__file__).parents[3] / "shared/cases"
SIZE_PX = (640, 480)

pytestmark = pytest.mark.filterwarnings("ignore::hallo4.media.MediaWarning")


@pytest.fixture(scope="module")
def sequence():
    return idle_motion(default_rest_pose(*SIZE_PX), 6, seed=2)


def assert_comes_home(path, sequence, frames=slice(None), **told):
    back = load_skeleton(path, **({"size_px": SIZE_PX} | told))
    np.testing.assert_allclose(back.points_px, sequence.points_px[frames], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(back.confidence, sequence.confidence[frames], rtol=1e-5)
    assert (back.width_px, back.height_px) == SIZE_PX
    return back


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def instance(points, confidence):
    return {"keypoints": points.tolist(), "keypoint_scores": confidence.tolist(), "bbox_score": 0.9}


def test_predictions_of_mmpose_for_a_video_for_pictures_and_in_a_folder(tmp_path, sequence):
    people = [instance(*frame) for frame in zip(sequence.points_px, sequence.confidence)]
    frames = [{"frame_id": number, "instances": [one]} for number, one in enumerate(people, start=1)]
    whole = {"meta_info": {"dataset_name": "coco_wholebody"}, "instance_info": frames}
    assert_comes_home(write(tmp_path / "whole.json", whole), sequence)
    assert_comes_home(write(tmp_path / "list.json", frames), sequence)
    assert_comes_home(write(tmp_path / "lists.json", [[one] for one in people]), sequence)
    assert_comes_home(write(tmp_path / "picture.json", people[:1]), sequence, slice(0, 1))
    for number, one in enumerate(people):
        write(tmp_path / "clip" / f"{number}.json", [one])
    assert_comes_home(tmp_path / "clip", sequence)


def coco_triples(points, confidence, part):
    return np.concatenate([points, confidence[:, None]], axis=-1)[part].ravel().tolist()


def test_results_of_coco_wholebody_joined_and_in_parts(tmp_path, sequence):
    parts = {
        "keypoints": layout.BODY, "foot_kpts": layout.FEET, "face_kpts": layout.FACE,
        "lefthand_kpts": layout.LEFT_HAND, "righthand_kpts": layout.RIGHT_HAND,
    }  # fmt: skip
    joined, split = [], []
    for number, frame in enumerate(zip(sequence.points_px, sequence.confidence)):
        image = {"image_id": 40 + 2 * number, "category_id": 1, "score": 0.9}
        joined.append(image | {"keypoints": coco_triples(*frame, slice(None))})
        split.append(image | {name: coco_triples(*frame, part) for name, part in parts.items()})
    assert_comes_home(write(tmp_path / "joined.json", joined[::-1]), sequence)  # in any order
    assert_comes_home(write(tmp_path / "split.json", split), sequence)
    images = [{"id": 40, "width": SIZE_PX[0], "height": SIZE_PX[1]}]
    annotations = {"images": images, "annotations": split}
    assert_comes_home(write(tmp_path / "annotations.json", annotations), sequence, size_px=None)
    named = [one | {"image_id": f"frame_{number}.png"} for number, one in enumerate(joined)]
    assert_comes_home(write(tmp_path / "named.json", named), sequence)


def test_a_frame_without_results_of_coco_is_a_frame_of_nobody(tmp_path, sequence):
    results = [
        {"image_id": number, "keypoints": coco_triples(*frame, slice(None))}
        for number, frame in enumerate(zip(sequence.points_px, sequence.confidence))
        if number != 3
    ]
    back = load_skeleton(write(tmp_path / "r.json", results), size_px=SIZE_PX)
    assert len(back) == 6
    assert (back.confidence.max(axis=1) > 0).tolist() == [True, True, True, False, True, True]
    results[-1]["image_id"] = 500_000
    with pytest.raises(InputError, match="do not number the frames of one video"):
        load_skeleton(write(tmp_path / "r.json", results), size_px=SIZE_PX)


def with_neck(points, confidence):
    """The 134 points of DWPose's own order: 18 of OpenPose, then feet, face and hands."""
    names = ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow"]
    names += ["left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"]
    names += ["right_eye", "left_eye", "right_ear", "left_ear", *layout.NAMES[17:]]
    order = [5 if name == "neck" else layout.NAMES.index(name) for name in names]
    assert len(order) == 134
    return points[:, order], confidence[:, order]


def test_arrays_of_dwpose_in_its_own_order_and_of_several_people(tmp_path, sequence):
    points, scores = with_neck(sequence.points_px, sequence.confidence)
    numbers = {"width_px": SIZE_PX[0], "height_px": SIZE_PX[1]}
    np.savez(tmp_path / "neck.npz", keypoints=points, scores=scores, **numbers)
    assert_comes_home(tmp_path / "neck.npz", sequence, size_px=None)
    small = 0.3 * points + 100
    pair = np.stack([small, points], axis=1)
    np.savez(tmp_path / "two.npz", keypoints=pair, scores=np.stack([scores, scores], axis=1), **numbers)
    assert_comes_home(tmp_path / "two.npz", sequence, size_px=None)


def test_openpose_of_version_1_0_has_keys_without_2d(tmp_path, sequence):
    hand = coco_triples(sequence.points_px[0], sequence.confidence[0], layout.LEFT_HAND)
    face = coco_triples(sequence.points_px[0], sequence.confidence[0], layout.FACE)
    frame = {
        "version": 1.0,
        "people": [{"pose_keypoints": [], "face_keypoints": face, "hand_left_keypoints": hand}],
    }
    back = load_skeleton(write(tmp_path / "one.json", [frame]), size_px=SIZE_PX)
    for part in (layout.FACE, layout.LEFT_HAND):
        np.testing.assert_allclose(back.points_px[0, part], sequence.points_px[0, part], atol=1e-3)
    assert not back.confidence[0, layout.BODY].any()


@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of cases is not beside the repository")
@pytest.mark.parametrize("name", ["openpose_v1", "mmpose_predictions", "coco_wholebody_results"])
def test_three_files_of_three_tools_are_the_same_motion(name):
    """The demo's own motion, as three tools would have written it."""
    demo = load_skeleton(Path(__file__).parents[2] / "demo/keypoints.json")
    back = load_skeleton(CASES / f"pose-formats-message/{name}.json", assumed_size_px=(256, 256))
    drawn = np.r_[0:17, 23:133]
    np.testing.assert_allclose(back.points_px[:, drawn], demo.points_px[:30, drawn], atol=0.006)
    np.testing.assert_array_equal(back.confidence[:, drawn], demo.confidence[:30, drawn])


UNKNOWN = {
    "another key": ({"poses": []}, "found 'poses'; read are .*MMPose.*COCO-WholeBody"),
    "list of other objects": ([{"poses": []}], "objects with 'poses'; read are"),
    "17 points": ([{"instances": [{"keypoints": [[1, 2]] * 17}]}], r"frame 0 is \[17\]\[2\]; .*whole-body"),
    "no scores": ([{"instances": [{"keypoints": [[1, 2]] * 133}]}], '"scores" of frame 0 is missing'),
    "instances of text": ({"instance_info": [{"instances": ["a"]}]}, "is no list of objects, as MMPose"),
    "an image of no name": (
        [{"image_id": 0, "keypoints": [1] * 399}, {"keypoints": []}],
        'entry 1 has no "image_id"',
    ),
    "two kinds of images": (
        [{"image_id": 0, "keypoints": [1] * 399}, {"image_id": "a", "keypoints": [1] * 399}],
        "a number in some entries and a text in others",
    ),
    "short of COCO": ([{"image_id": 0, "keypoints": [1] * 9}], "entry 0 has 9 values; must be 399 or 51"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_read_says_what_was_found(tmp_path, name):
    value, message = UNKNOWN[name]
    with pytest.raises(InputError, match=message) as caught:
        load_skeleton(write(tmp_path / "x.json", value), size_px=SIZE_PX)
    assert "\n" not in str(caught.value)


def test_a_folder_of_whole_videos_is_refused(tmp_path, sequence):
    write(tmp_path / "clip" / "a.json", {"points_px": [], "confidence": []})
    with pytest.raises(InputError, match="Files of whole videos are given by themselves"):
        load_skeleton(tmp_path / "clip")


def test_what_was_assumed_names_the_place_that_asked(tmp_path, sequence):
    people = [instance(sequence.points_px[0], sequence.confidence[0])]
    with pytest.warns(MediaWarning) as said:
        load_skeleton(write(tmp_path / "x.json", people), assumed_size_px=SIZE_PX)
    assert {warning.filename for warning in said} == {__file__}
