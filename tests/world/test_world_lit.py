"""The lit world: the same people and truth as before, with light, bending hands and faster motion."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.world import act, make_episode, sample_identity, write_episode
from hallo4.world.episode import draw_clip
from hallo4.world.framing import ASPECTS, Framing, square
from hallo4.world.gestures import BRISK_SHARE
from hallo4.world.hand_joints import HAND_LENGTH, jointed_hand
from hallo4.world.look import LIT, PLACES, checked_world, sample_look
from hallo4.world.performance import perform
from hallo4.world.truth import skeleton_of

OPEN, FIST, POINT = (0.0,) * 5, (0.95, 1.0, 1.0, 1.0, 1.0), (0.9, 0.0, 1.0, 1.0, 1.0)
GOLDEN_BLOCKS = (
    190, 210, 210, 210, 226, 222, 208, 223, 221, 189, 208, 213, 175, 189, 190, 218, 189, 167, 216, 185,
    160, 170, 175, 177, 179, 207, 207, 216, 191, 175, 213, 194, 178, 176, 201, 202, 179, 173, 192, 223,
    152, 188, 222, 153, 188, 180, 175, 194,
)  # fmt: skip
GOLDEN_POINTS = (
    31.133, 33.656, 46.375, 56.653, 21.192, 57.688, 46.375, 56.653, 42.231, 57.716, 40.316, 55.036,
    18.993, 52.897,
)  # fmt: skip
DIGEST = """
import hashlib
from hallo4.world import make_episode
e = make_episode(12, seconds=0.4, size_px=64, world="lit-1")
print(hashlib.sha256(e.frames_u8.tobytes() + e.skeleton.points_px.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def lit_person(plain_person):
    """The plain person in even paper, lit from the right of the picture."""
    look = replace(sample_look(3), place="paper", pattern="none", key=(0.6, -0.4, 0.6928))
    return replace(plain_person, look=look)


def drawn(identity, performance, view):
    """(frames [T, H, W, 3] int, points [T, 133, 2] in pixels)."""
    _, frames = draw_clip(identity, performance, slice(None), view)
    return frames.astype(int), skeleton_of(identity, performance, view).points_px


def hue(colour):
    colour = np.asarray(colour, float)
    return colour / colour.sum(-1, keepdims=True)


def is_skin(frame, point, skin, tolerance=0.08):
    """Is the pixel at `point` of the colour of skin or of a nail, however bright it is lit?"""
    x, y = np.floor(point).astype(int)
    return np.abs(hue(frame[y, x]) - hue(skin)).max() < tolerance


def test_the_first_world_is_drawn_as_ever(pose):
    """Means of 4 x 4 blocks of a frame, and some joints, as version 0.1 drew them."""
    talk = np.ones(30, np.float32)
    motion = perform(np.random.default_rng(2), 0.6 * talk, 0.5 * talk, talk)
    identity = sample_identity(5)
    frames, points = drawn(identity, motion, square(64))
    blocks = frames[20].reshape(4, 16, 4, 16, 3).mean((1, 3)).round().astype(int)
    np.testing.assert_allclose(blocks.ravel(), GOLDEN_BLOCKS, atol=1)
    np.testing.assert_allclose(points[20, [0, 9, 10, 91, 95, 99, 132]].ravel(), GOLDEN_POINTS, atol=0.01)


def test_an_episode_comes_from_its_seed_in_every_process():
    runs = [subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, check=True) for _ in "ab"]
    assert len(runs[0].stdout) > 64
    assert runs[0].stdout == runs[1].stdout


def test_in_both_worlds_the_same_person_says_the_same():
    flat, lit = make_episode(4, 0.4, 64), make_episode(4, 0.4, 64, world=LIT)
    assert replace(lit.identity, look=None) == flat.identity
    assert (flat.identity.world, lit.identity.world) == ("drawn-1", "lit-1")
    np.testing.assert_array_equal(lit.audio.samples, flat.audio.samples)
    for name, curve in vars(flat.truth).items():
        np.testing.assert_array_equal(curve, getattr(lit.truth, name))
    mouth = [e.skeleton.points_px[:, layout.MOUTH] - e.skeleton.points_px[:, 85:86] for e in (flat, lit)]
    brisk_or_not = np.abs(mouth[0] - mouth[1]).max()
    assert brisk_or_not < 3, "the same lips, on a head that may move otherwise"
    assert np.abs(flat.frames_u8.astype(int) - lit.frames_u8).mean() > 5


def test_there_are_two_worlds():
    with pytest.raises(InputError, match="world is 'lit-9'; there are drawn-1 and lit-1"):
        checked_world("lit-9")
    with pytest.raises(InputError, match="lit-9"):
        make_episode(1, 0.1, 64, world="lit-9")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("turn", [0.9, 0.4], ids=["palm", "back"])
def test_an_open_hand_is_skin_at_its_21_joints(lit_person, pose, side, turn):
    x = 0.2 if side == "right" else 0.8
    how = {f"{side}_wrist": [x, 0.80], f"{side}_turn": turn, f"{side}_spread": 0.9, f"{side}_curl": OPEN}
    frames, points = drawn(lit_person, pose(**how), Framing(1.0, 0.4, (0.5, 0.4)).view(384))
    hand = points[0][layout.LEFT_HAND if side == "left" else layout.RIGHT_HAND]
    assert all(is_skin(frames[0], joint, lit_person.skin) for joint in hand)


@pytest.mark.parametrize("curl", [FIST, POINT], ids=["fist", "point"])
def test_folded_fingers_are_skin_within_the_hand(lit_person, pose, curl):
    how = {"right_wrist": [0.15, 0.80], "right_turn": 0.95, "right_spread": 0.5, "right_curl": curl}
    frames, points = drawn(lit_person, pose(**how), square(384))
    hand = points[0][layout.RIGHT_HAND]
    assert all(is_skin(frames[0], joint, lit_person.skin) for joint in hand)
    reach = np.linalg.norm(hand - hand[0], axis=1) / (HAND_LENGTH * 384)
    folded = [k for k in range(1, 5) if curl[k] > 0.5]
    assert all(reach[4 + 4 * k] < 0.75 for k in folded)
    assert all(reach[4 + 4 * k] > 0.9 for k in range(1, 5) if k not in folded)


def test_between_the_fingers_of_an_open_hand_there_is_no_skin(lit_person, pose):
    how = {"right_wrist": [0.15, 0.85], "right_turn": 1.0, "right_spread": 1.0, "right_curl": OPEN}
    for size, share in ((256, 0.52), (256, 0.4), (512, 0.3)):
        frames, points = drawn(lit_person, pose(**how), Framing(1.0, share, (0.5, 0.35)).view(size))
        hand = points[0][layout.RIGHT_HAND]
        tips = (hand[[8, 12, 16, 20]] + hand[[7, 11, 15, 19]]) / 2
        along = np.concatenate([np.linspace(a, b, 24) for a, b in pairwise(tips)])
        skin = np.array([is_skin(frames[0], point, lit_person.skin, 0.045) for point in along])
        fingers = int(skin[0]) + int((np.diff(skin.astype(int)) == 1).sum())
        assert fingers == 4, (size, share)
        assert is_skin(frames[0], hand[4], lit_person.skin), "and a thumb"


def test_hands_are_of_one_length_and_mirror_each_other():
    right = jointed_hand(np.zeros(2), 1.0, 0.5, np.zeros(5), -1.0)
    left = jointed_hand(np.zeros(2), 1.0, 0.5, np.zeros(5), 1.0)
    np.testing.assert_allclose(right.joints * (-1, 1), left.joints, atol=1e-12)
    assert np.linalg.norm(right.joints[12]) == pytest.approx(1.025 * HAND_LENGTH, rel=0.02)
    tips = right.joints[[8, 12, 16, 20]]
    assert (np.diff(tips[:, 0]) < 0).all(), "index to little finger, outwards from the middle of the body"
    assert right.joints[4, 0] > tips[0, 0], "the thumb is on the inner side"
    turned = [
        jointed_hand(np.zeros(2), turn, 0.5, np.zeros(5), -1.0).joints for turn in np.arange(0.3, 1.2, 0.01)
    ]
    assert np.abs(np.diff(turned, axis=0)).max() < 0.12 * HAND_LENGTH, "hands turn without a jump"


@pytest.mark.parametrize("place", PLACES)
def test_nothing_moves_behind_a_person_who_keeps_still(lit_person, pose, place):
    person = replace(lit_person, look=replace(lit_person.look, place=place))
    frames, points = drawn(person, pose(mouth_open=[0.0, 0.0, 0.9]), square(96))
    np.testing.assert_array_equal(frames[0], frames[1])
    changed = np.argwhere((frames[0] != frames[2]).any(-1))[:, ::-1]
    face = points[0, layout.FACE]
    assert len(changed) > 50
    assert (changed >= face.min(0) - 2).all()
    assert (changed <= face.max(0) + (2, 14)).all(), "chin, beard and the shadow on the neck"


def test_the_mouth_opens_and_the_eyes_close_as_the_truth_says(lit_person, pose):
    opening = np.array([0.0, 0.5, 0.75, 1.0])
    frames, points = drawn(lit_person, pose(mouth_open=opening, blink=opening), square(256))
    lips, lids = points[0, layout.MOUTH], points[0, layout.LEFT_EYE_LIDS]

    def count(frame, around, test):
        (x0, y0), (x1, y1) = np.floor(around.min(0)).astype(int), np.ceil(around.max(0)).astype(int)
        return int(test(frame[y0 : y1 + 16, x0 : x1 + 1]).sum())

    dark = [count(f, lips, lambda box: (box[..., 1] < 30) & (box[..., 0] > box[..., 1] + 20)) for f in frames]
    white = [count(f, lids, lambda box: (box.min(-1) > 110) & (np.ptp(box, -1) < 45)) for f in frames]
    assert dark[0] < 40, "the line between closed lips"
    assert (np.diff(dark) > 20).all(), dark
    assert (np.diff(white) < 0).all(), white
    assert white[-1] == 0


def test_the_side_of_the_light_is_brighter(lit_person, pose):
    for sign in (1, -1):
        x, y, z = lit_person.look.key
        person = replace(lit_person, look=replace(lit_person.look, key=(sign * x, y, z)))
        frames, points = drawn(person, pose(), square(192))
        at = np.floor(points[0, layout.FACE][[2, 14]] * 0.75 + points[0, layout.NOSE] * 0.25).astype(int)
        left, right = (frames[0, y - 2 : y + 3, x - 2 : x + 3].mean() for x, y in at)
        assert sign * (right - left) > 15


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("aspect", ASPECTS)
def test_every_shape_and_head_size_shows_the_eyes_where_they_are(lit_person, pose, aspect, share):
    share = min(share, 0.9 * aspect * 1.1)
    view = Framing(aspect, share, (0.52, max(0.34, 0.62 * share))).view(256)
    frames, points = drawn(lit_person, pose(), view)
    assert frames.shape[1:] == (view.height_px, view.width_px, 3)
    for eye in (layout.LEFT_EYE, layout.RIGHT_EYE):
        x, y = np.floor(points[0, eye]).astype(int)
        assert frames[0, y - 1 : y + 2, x - 1 : x + 2].min(-1).min() < 45, "pupil"


def test_a_share_of_the_clips_moves_faster_than_two_hertz():
    def fast_px(seed):
        yaw = act(seed, 6.0, world=LIT)[2].yaw.astype(float)
        power = np.abs(np.fft.rfft((yaw - yaw.mean()) * np.hanning(len(yaw)))) ** 2
        hz = np.fft.rfftfreq(len(yaw), 1 / 25)
        return power[(hz > 2) & (hz < 4.5)].sum() / power.sum(), power[hz > 6].sum() / power.sum()

    shares = np.array([fast_px(seed) for seed in range(40)])
    brisk = shares[:, 0] > 0.05
    assert 0.5 * BRISK_SHARE < brisk.mean() < 1.7 * BRISK_SHARE
    assert shares[brisk, 0].mean() > 0.15
    assert shares[:, 1].max() < 0.05, "and nothing trembles"


def test_files_say_which_world_they_are_of(tmp_path):
    from hallo4.cli.world import run
    from hallo4.media.provenance import read_provenance

    run(f"episode --seconds 0.08 --size-px 64 --world lit-1 -o {tmp_path / 'lit'}".split())
    write_episode(make_episode(0, 0.08, 64), tmp_path / "flat")
    said = [json.loads((tmp_path / name / "truth.json").read_text()) for name in ("lit", "flat")]
    assert [record["world"] for record in said] == ["lit-1", "drawn-1"]
    assert said[0]["identity"]["look"]["place"] in PLACES
    assert read_provenance(tmp_path / "lit" / "video.mp4")["world"] == "lit-1"
