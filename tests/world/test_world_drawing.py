"""Pictures agree with the truth: what is drawn lies where the key points say."""

from dataclasses import replace

import numpy as np
import pytest

from hallo4.motion import layout
from hallo4.world import sample_identity
from hallo4.world.episode import draw_clip
from hallo4.world.framing import square
from hallo4.world.identity import BACKGROUNDS, BEARDS, CLOTHES, GLASSES, HAIR_STYLES
from hallo4.world.performance import perform
from hallo4.world.portrait import MOUTH_INSIDE, WHITE
from hallo4.world.scene import draw_backdrop
from hallo4.world.truth import skeleton_of

SIZE = 256


def draw(identity, performance, size_px=SIZE):
    """(frames [T, H, W, 3] int, points [T, 133, 2] in pixels)."""
    _, frames = draw_clip(identity, performance, slice(None), square(size_px))
    return frames.astype(int), skeleton_of(identity, performance, square(size_px)).points_px


def shows(frame, point, colour, tolerance=3):
    """Is there, within a pixel of `point`, a pixel of `colour`?"""
    x, y = np.floor(point).astype(int)
    return bool((np.abs(frame[y - 1 : y + 2, x - 1 : x + 2] - colour).max(-1) <= tolerance).any())


def count(frame, points, colour, margin_px=1, tolerance=24):
    """Pixels near `colour` in the box around `points`."""
    (x0, y0), (x1, y1) = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
    box = frame[y0 - margin_px : y1 + margin_px + 1, x0 - margin_px : x1 + margin_px + 1]
    return int((np.abs(box - colour).max(-1) <= tolerance).sum())


POSES = {
    "at rest": {},
    "turned": {"yaw": 0.35, "pitch": 0.1},
    "tilted": {"roll": -0.25},
    "moved": {"head": [0.04, -0.03]},
}


@pytest.mark.parametrize("how", POSES.values(), ids=POSES)
def test_features_are_where_the_key_points_are(plain_person, pose, how):
    frames, points = draw(plain_person, pose(mouth_open=0.8, **how))
    frame, at = frames[0], points[0]
    inner = at[layout.MOUTH][12:]
    assert shows(frame, at[layout.LEFT_EYE], (24, 18, 22)), "pupil"
    assert shows(frame, at[layout.RIGHT_EYE], (24, 18, 22)), "pupil"
    assert shows(frame, (inner[2] + 2 * inner[6]) / 3 - (0, 1), MOUTH_INSIDE, 8) or shows(
        frame, (inner[2] + inner[6]) / 2, MOUTH_INSIDE, 8
    ), "inside of the mouth"
    for outer, inside in ((3, 14), (9, 18)):  # middles of the upper and the lower lip
        lip = (at[layout.MOUTH][outer] + at[layout.MOUTH][inside]) / 2
        assert shows(frame, lip, plain_person.lip, 12), "lip"
    nose = at[layout.NOSE]
    tip = frame[tuple(np.floor(nose).astype(int)[::-1])] - plain_person.skin
    assert 3 <= tip.min() <= tip.max() < 40, "the nose is a lighter skin"
    cheek = (at[layout.FACE][2] + at[layout.FACE][31]) / 2
    assert not shows(frame, cheek, plain_person.lip, 12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_skin_is_at_the_wrist_and_at_the_finger_tips(plain_person, pose, side):
    x = 0.3 if side == "right" else 0.7
    how = {f"{side}_wrist": [x, 0.86], f"{side}_turn": 0.9, f"{side}_spread": 0.8}
    frames, points = draw(plain_person, pose(**how))
    hand = points[0][layout.LEFT_HAND if side == "left" else layout.RIGHT_HAND]
    for name, joint in (
        ("wrist", 0),
        ("thumb", 4),
        ("index", 8),
        ("middle", 12),
        ("ring", 16),
        ("little", 20),
    ):
        assert shows(frames[0], hand[joint], plain_person.skin), name


def test_clothes_and_hair_are_where_they_belong(plain_person, pose):
    frames, points = draw(plain_person, pose())
    neck = (points[0][layout.LEFT_SHOULDER] + points[0][layout.RIGHT_SHOULDER]) / 2
    assert shows(frames[0], neck + (0, 0.1 * SIZE), plain_person.cloth)
    brows = points[0][[42, 47]].mean(0)
    assert shows(frames[0], brows - (0, 0.14 * SIZE), plain_person.hair)


def test_a_dark_mouth_grows_with_its_opening(plain_person, pose):
    opening = np.array([0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0])
    frames, points = draw(plain_person, pose(mouth_open=opening))
    dark = [count(f, p[layout.MOUTH], MOUTH_INSIDE, tolerance=10) for f, p in zip(frames, points)]
    assert dark[0] == 0
    assert (np.diff(dark) > 0).all(), dark
    assert dark[-1] > 60


def test_the_white_of_the_eyes_goes_in_a_blink(plain_person, pose):
    blink = np.array([0.0, 0.3, 0.6, 1.0])
    frames, points = draw(plain_person, pose(blink=blink))
    for lids in (layout.LEFT_EYE_LIDS, layout.RIGHT_EYE_LIDS):
        white = [count(f, points[0, lids], WHITE) for f in frames]
        assert white[0] > 100
        assert white[0] == count(frames[0], points[0, lids], WHITE, margin_px=7), "no white beside the eye"
        assert (np.diff(white) < 0).all(), white
        assert white[-1] == 0


def test_gaze_moves_the_pupils_and_nothing_else(plain_person, pose):
    frames, points = draw(plain_person, pose(gaze=[[-0.8, 0.0], [0.8, 0.0]]))
    changed = np.argwhere((frames[0] != frames[1]).any(-1))[:, ::-1]
    eyes = np.concatenate([points[0, layout.LEFT_EYE_LIDS], points[0, layout.RIGHT_EYE_LIDS]])
    assert len(changed) > 50
    assert (changed >= eyes.min(0) - 4).all()
    assert (changed <= eyes.max(0) + 4).all()
    x = [np.mean(np.argwhere(np.abs(f - (24, 18, 22)).max(-1) < 4)[:, 1]) for f in frames]
    assert x[1] > x[0] + 4


def test_a_picture_does_not_depend_on_its_size(plain_person):
    """256 px reduced by two is nearly the same as 128 px."""
    talk = np.ones(30, np.float32)
    motion = perform(np.random.default_rng(2), 0.6 * talk, 0.5 * talk, talk)
    for identity, frame in ((plain_person, 5), (sample_identity(5), 15), (sample_identity(8), 25)):
        one = slice(frame, frame + 1)
        large, small = (
            draw_clip(identity, motion, one, square(size))[1][0].astype(float) for size in (256, 128)
        )
        reduced = large.reshape(128, 2, 128, 2, 3).mean((1, 3))
        assert np.abs(reduced - small).mean() < 1.0


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("hair_style", HAIR_STYLES),
        ("clothes", CLOTHES),
        ("beard", tuple(dict.fromkeys(BEARDS))),
        ("glasses", tuple(dict.fromkeys(GLASSES))),
        ("background", BACKGROUNDS),
        ("earrings", (False, True)),
        ("freckles", (False, True)),
        ("lashes", (False, True)),
    ],
)
def test_every_option_can_be_seen(plain_person, pose, part, options):
    pictures = {draw(replace(plain_person, **{part: o}), pose(), 64)[0].tobytes() for o in options}
    assert len(pictures) == len(options)


def test_the_room_stands_still(plain_person, pose):
    frames, _ = draw(plain_person, pose(head=[[0, 0], [0.03, 0.02]], torso=[[0, 0], [0.02, 0]]), 64)
    room = np.asarray(draw_backdrop(plain_person, square(64)).reduce(4)).astype(int)
    for corner in (np.s_[:8, :8], np.s_[:8, -8:]):
        np.testing.assert_array_equal(frames[0][corner], frames[1][corner])
        assert np.abs(frames[0][corner] - room[corner]).max() <= 1
    assert (frames[0] != frames[1]).any()


def test_what_is_drawn_first_is_not_drawn_over_by_the_next_frame(plain_person, pose):
    """Frames do not leave traces on the backdrop that they share."""
    both, _ = draw(plain_person, pose(yaw=[0.3, 0.0]), 64)
    alone, _ = draw(plain_person, pose(yaw=[0.0]), 64)
    np.testing.assert_array_equal(both[1], alone[0])
