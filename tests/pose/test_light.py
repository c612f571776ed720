"""The light estimator on a real person, still, warped by known motions, in company and alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hallo4.errors import CheckpointError, InputError, MissingExtraError
from hallo4.media import VideoWriter
from hallo4.motion import layout
from hallo4.pose import PoseEstimator, estimate_image, estimate_video, load_estimator
from hallo4.pose.light_networks import PACKED, PLACES, POSE_LANDMARKS
from hallo4.weights.catalogue import FILES

FPS = 25.0
FACE_MIDDLE = np.array([225.0, 128.0])


@pytest.fixture(scope="module")
def astronaut():
    """512 x 512 px, public domain: a woman in a space suit, her hands gloved or hidden."""
    from skimage.data import astronaut

    return astronaut()


@pytest.fixture(scope="module")
def still(astronaut, light):
    return estimate_image(astronaut, light)


def warped(picture, affine, size_px) -> np.ndarray:
    """The picture as it looks when its point p is at A p + b of a frame; its rim goes on."""
    (matrix, shift), room = affine, 150
    wide = Image.fromarray(np.pad(picture, ((room, room), (room, room), (0, 0)), mode="edge"))
    back = np.linalg.inv(matrix)
    start = room - back @ shift
    rows = (*back[0], start[0], *back[1], start[1])
    return np.asarray(wide.transform(size_px, Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC))


def motion(time_s: float):
    """A head that rolls, nods and comes nearer: (A, b)."""
    wave = lambda hertz, phase=0.0: np.sin(2 * np.pi * hertz * time_s + phase)  # noqa: E731
    roll, zoom = np.deg2rad(8) * wave(0.7), 1 + 0.08 * wave(0.4, 1.0)
    matrix = zoom * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return matrix, FACE_MIDDLE + (12 * wave(0.9), 8 * wave(1.3, 0.5)) - matrix @ FACE_MIDDLE


def test_the_astronaut_is_found_where_she_is(still, light):
    assert isinstance(light, PoseEstimator)
    points, confidence = still.skeleton.points_px[0], still.skeleton.confidence[0]
    corners = {layout.MOUTH.start: (202, 139), layout.MOUTH.start + 6: (247, 143)}
    seen = {layout.NOSE: (224, 127), layout.LEFT_EYE: (247, 104), layout.RIGHT_EYE: (204, 101), **corners}
    for point, place in seen.items():
        assert np.linalg.norm(points[point] - place) <= 6, layout.NAMES[point]
        assert confidence[point] > 0.9
    for point, place in ((layout.LEFT_SHOULDER, (303, 257)), (layout.RIGHT_SHOULDER, (107, 243))):
        assert np.linalg.norm(points[point] - place) <= 20, layout.NAMES[point]
        assert confidence[point] > 0.5
    assert still.notes == ()


def test_gloved_hands_and_what_the_picture_does_not_show_are_not_invented(still):
    confidence = still.skeleton.confidence[0]
    assert not confidence[layout.LEFT_HAND].any()
    assert not confidence[layout.RIGHT_HAND].any()
    assert not confidence[layout.FEET].any()
    assert not confidence[layout.LEFT_KNEE : layout.RIGHT_ANKLE + 1].any()


def test_boxes_hold_the_face_and_the_person(still):
    face, person = still.face_boxes_px[0], still.person_boxes_px[0]
    np.testing.assert_allclose(face, [179, 71, 271, 177], atol=8)
    points = still.skeleton.points_px[0][still.skeleton.confidence[0] > 0]
    assert (points >= person[:2] - 1e-3).all()
    assert (points <= person[2:] + 1e-3).all()


def test_a_mirrored_person_has_mirrored_points(astronaut, still, light):
    mirrored = estimate_image(np.ascontiguousarray(astronaut[:, ::-1]), light).skeleton.points_px[0]
    x, y = 512 - mirrored[:, 0], mirrored[:, 1]
    swapped = [0, 2, 1, 4, 3, 6, 5]
    jaw = [*range(23, 40)]
    for here, there, room in ((swapped[:5], range(5), 4), (jaw[::-1], jaw, 4), (swapped[5:], (5, 6), 12)):
        truth = still.skeleton.points_px[0][list(here)]
        found = np.stack([x, y], axis=-1)[list(there)]
        assert np.linalg.norm(found - truth, axis=1).max() < room


@pytest.mark.parametrize(("width", "height"), [(3840, 2160), (96, 96), (150, 512)])
def test_any_size_gives_the_same_person(astronaut, still, light, width, height):
    """In 4K, as a thumbnail, and cut to a narrow column around the head."""
    left = 140 if width == 150 else 0
    scale = min(height / 512, 1.0) if width < 512 else height / 512
    picture = Image.fromarray(astronaut[:, left : left + 150] if left else astronaut)
    picture = picture.resize((round(picture.width * scale), round(512 * scale)), Image.Resampling.LANCZOS)
    frame = Image.new("RGB", (max(width, picture.width), height), (90, 90, 90))
    frame.paste(picture, (0, 0))
    found = estimate_image(np.asarray(frame), light)
    face = [0, 1, 2, *range(23, 91)]
    points = found.skeleton.points_px[0, face] / scale + (left, 0)
    away = np.linalg.norm(points - still.skeleton.points_px[0, face], axis=1)
    assert np.median(away) < (2 if width > 96 else 4)
    assert (width == 96) == any("the face is 17 px wide" in note for note in found.notes)


@pytest.fixture(scope="module")
def driven(astronaut, light, tmp_path_factory):
    """(findings, true affines, blanked frames) of 75 frames of known motion, one in ten of them blank."""
    frames = 75
    blank = np.random.default_rng(0).choice(np.arange(1, frames - 1), 8, replace=False)
    affines = [motion(k / FPS) for k in range(frames)]
    path = tmp_path_factory.mktemp("driven") / "driven.mkv"  # lossless
    with VideoWriter(path, 512, 512, FPS) as writer:
        for k, affine in enumerate(affines):
            frame = warped(astronaut, affine, (512, 512))
            writer.write(np.zeros_like(frame) if k in blank else frame)
    return estimate_video(path, light), affines, np.sort(blank)


def truth_of(findings, affines) -> np.ndarray:
    """The first frame's points carried along by the true motion [T, 133, 2]."""
    matrix, shift = affines[0]
    start = (findings.skeleton.points_px[0].astype(float) - shift) @ np.linalg.inv(matrix).T
    return np.stack([start @ matrix.T + shift for matrix, shift in affines])


def test_known_motion_is_followed_within_a_pixel_and_a_half(driven):
    findings, affines, _ = driven
    away = np.linalg.norm(findings.skeleton.points_px - truth_of(findings, affines), axis=-1)
    face = away[:, layout.FACE]
    assert np.median(face) <= 1.5
    assert np.quantile(face, 0.95) <= 4
    assert (findings.skeleton.confidence[:, layout.FACE] >= layout.SEEN).all()
    assert findings.cuts_s == ()


def test_blank_frames_are_bridged_and_said(driven):
    findings, _, blank = driven
    np.testing.assert_array_equal(np.flatnonzero(~findings.found), blank)
    np.testing.assert_allclose(findings.skeleton.confidence[blank][:, layout.FACE], 0.5)
    assert findings.notes == (
        "the person was not found in 8 of 75 frames; 8 of them in gaps of at most 0.4 s, which were bridged",
    )


def test_there_is_no_lag(driven):
    """The delay at which the cross-correlation of found and true motion is largest, to a tenth of a frame."""
    findings, affines, _ = driven
    found, truth = findings.skeleton.points_px.astype(float), truth_of(findings, affines)
    fine = np.arange(0, len(found) - 1, 0.1)
    for axis in (0, 1):
        tracks = [
            np.interp(fine, np.arange(len(found)), one[:, layout.FACE, axis].mean(axis=1))
            for one in (found, truth)
        ]
        one, other = (track - track.mean() for track in tracks)
        room = 30
        delays = range(-room, room + 1)
        products = [one[room + d : len(one) - room + d] @ other[room : len(other) - room] for d in delays]
        assert abs(delays[int(np.argmax(products))]) <= 1


@pytest.fixture(scope="module")
def group(astronaut):
    """Three of her, of three sizes, in one wide picture; noses at about x = 134, 512 and 844."""
    frame = np.full((400, 1000, 3), 120, np.uint8)
    for left, side in ((0, 300), (340, 400), (740, 240)):
        small = Image.fromarray(astronaut[:, :480]).resize((round(side * 480 / 512), side))
        frame[400 - side :, left : left + small.width] = np.asarray(small)
    return frame


@pytest.mark.parametrize(
    ("person", "x", "scale"),
    [
        ("largest", 515, 400 / 512),
        ("left", 131, 300 / 512),
        ("3", 845, 240 / 512),
        ("840,200", 845, 240 / 512),
    ],
)
def test_in_a_group_face_and_body_are_of_the_same_person(group, light, person, x, scale):
    findings = estimate_image(group, light, person)
    points, confidence = findings.skeleton.points_px[0], findings.skeleton.confidence[0]
    assert abs(points[layout.NOSE, 0] - x) < 8
    assert "3 people are seen" in findings.notes[0]
    for shoulder, dx in ((layout.LEFT_SHOULDER, 79), (layout.RIGHT_SHOULDER, -117)):
        if confidence[shoulder] >= layout.SEEN:
            assert abs(points[shoulder, 0] - (x + dx * scale)) < 40 * scale


@pytest.mark.parametrize("name", ["rocket", "coffee", "chelsea", "coins", "page"])
def test_pictures_of_nobody_are_said_in_one_line(light, name):
    import skimage.data

    picture = getattr(skimage.data, name)()
    picture = picture if picture.ndim == 3 else picture[..., None].repeat(3, axis=-1)
    with pytest.raises(InputError, match="no person was found in the picture") as caught:
        estimate_image(picture, light)
    assert "\n" not in str(caught.value)


def test_a_profile_behind_a_camera_is_found_with_arms_and_no_hands_are_made_up(light):
    import skimage.data

    picture = skimage.data.camera()[..., None].repeat(3, axis=-1)
    findings = estimate_image(picture, light)
    nose = findings.skeleton.points_px[0, layout.NOSE]
    assert np.linalg.norm(nose - (255, 155)) < 25
    assert (findings.skeleton.confidence[0, layout.LEFT_SHOULDER : layout.RIGHT_WRIST + 1] > 0.5).any()
    assert not findings.skeleton.confidence[0, 91:].any()


def test_a_drawing_is_found_where_it_is_drawn(light):
    path = Path(__file__).parents[2] / "demo" / "portrait.png"
    points = estimate_image(path, light).skeleton.points_px[0]
    assert points[layout.RIGHT_EYE, 0] < points[layout.NOSE, 0] < points[layout.LEFT_EYE, 0]


def test_a_video_of_two_frames_and_one_that_is_left(astronaut, light, tmp_path):
    with VideoWriter(tmp_path / "two.mkv", 512, 512, FPS) as writer:
        for _ in range(2):
            writer.write(astronaut)
    findings = estimate_video(tmp_path / "two.mkv", light)
    assert (len(findings.skeleton), findings.skeleton.fps, findings.notes) == (2, 25.0, ())
    with VideoWriter(tmp_path / "left.mkv", 256, 256, FPS) as writer:
        small = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
        for k in range(24):  # she moves out of the picture to the right, 20 px a frame, and is gone
            writer.write(np.roll(small, 20 * k, axis=1) if k < 9 else np.full_like(small, small[0, 0]))
    with_gap = estimate_video(tmp_path / "left.mkv", light)
    assert with_gap.found[:5].all()
    assert not with_gap.found[10:].any()
    assert not with_gap.skeleton.confidence[10:].any()
    assert "nothing is drawn at" in with_gap.notes[-1]


def test_a_cut_to_another_shot_is_said(astronaut, light, tmp_path):
    near = np.ascontiguousarray(astronaut[40:240, 120:320].repeat(3, axis=0).repeat(3, axis=1)[:512, :512])
    with VideoWriter(tmp_path / "cut.mkv", 512, 512, FPS) as writer:
        for k in range(12):
            writer.write(astronaut if k < 6 else near)
    findings = estimate_video(tmp_path / "cut.mkv", light)
    assert findings.cuts_s == (0.24,)
    assert any("a cut at 0.24 s" in note for note in findings.notes)


def place(light_root, folder) -> Path:
    """The networks as hard links or copies, to be damaged one by one."""
    import shutil

    for name in (PACKED, POSE_LANDMARKS):
        shutil.copyfile(light_root / "pose" / FILES[name].path, folder / FILES[name].path)
    return folder


def test_missing_truncated_and_other_files_are_said_in_one_line(light_root, tmp_path):
    folder = place(light_root, tmp_path)
    packed = folder / FILES[PACKED].path
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=r"has 16,877,754 bytes, the published file has 16,877,755"):
        load_estimator("light", folder=folder)
    packed.write_bytes(whole[:-1] + b"!")
    with pytest.raises(CheckpointError, match="its SHA-256 begins with"):
        load_estimator("light", folder=folder)
    packed.unlink()
    with pytest.raises(CheckpointError, match=r"not in .*Run `hallo4 weights fetch holistic-networks`"):
        load_estimator("light", folder=folder)


def test_another_network_is_told_by_its_shapes(light_root):
    from hallo4.pose.light_networks import Network

    content = (light_root / "pose" / FILES[PACKED].path).read_bytes()
    start, stop = PLACES["face_mesh"]
    with pytest.raises(CheckpointError, match=r"is another network: .*1404.*wanted are .*896"):
        Network(content[start:stop], "toy", 128, ((1, 896, 16), (1, 896, 1)))
    with pytest.raises(CheckpointError, match="LiteRT cannot load it"):
        Network(b"no network" * 100, "toy", 128, ())


def test_without_litert_the_extra_is_named(light_root, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hallo4\[pose\]'"):
        load_estimator("light", folder=light_root / "pose")


def test_nothing_is_written_to_stderr(light_root, capfd):
    load_estimator("light", folder=light_root / "pose")
    assert capfd.readouterr() == ("", "")


def test_a_body_of_another_person_is_not_taken_for_the_face_s(group, light):
    """Both are looked at where they are, but the body belongs to the neighbour: it must be left."""
    people = sorted(light.find(group), key=lambda one: one.box_px[0])
    assert len(people) == 3
    mixed = replace(people[0], trace=replace(people[0].trace, body=people[1].trace.body))
    pose = light.look(group, mixed)
    assert abs(pose.points_px[layout.NOSE, 0] - 131) < 8
    shoulders = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
    seen = pose.confidence[shoulders] >= layout.SEEN
    assert (np.abs(pose.points_px[shoulders, 0] - 131) < 100)[seen].all()
