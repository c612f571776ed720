"""The same person in pictures of other shapes, with a larger or smaller head, off centre."""

import numpy as np
import pytest

from hallo4.errors import Hallo4Error, InputError
from hallo4.motion import layout
from hallo4.world import make_episode
from hallo4.world.episode import draw_clip
from hallo4.world.framing import ASPECTS, HALF_FIGURE, KNEES, Framing, sample_framing, square
from hallo4.world.truth import skeleton_of

FRAMINGS = {
    "upright, close": Framing(9 / 16, 0.55, (0.5, 0.42)),
    "wide, small head on the left": Framing(16 / 9, 0.36, (0.3, 0.3)),
    "upright, small head": Framing(3 / 4, 0.33, (0.6, 0.25)),
    "close up": Framing(1.0, 0.8, (0.47, 0.5)),
}


@pytest.mark.parametrize("size_px", [64, 128, 200])
def test_the_default_is_the_whole_square_of_the_person(size_px):
    view = HALF_FIGURE.view(size_px)
    assert (view.width_px, view.height_px, view.unit_px, view.origin_px) == (
        size_px,
        size_px,
        size_px,
        (0, 0),
    )
    assert view == square(size_px)
    assert view.bottom == 1.0


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_key_points_keep_their_shape_and_the_eyes_are_where_they_are_asked_for(plain_person, pose, framing):
    view = framing.view(256)
    plain = skeleton_of(plain_person, pose(), square(100)).points_px[0] / 100
    framed = skeleton_of(plain_person, pose(), view).points_px[0]
    # One scale and one shift for all points: distances are those of the square, times the unit.
    spread = np.linalg.norm(framed[:, None] - framed[None], axis=-1)
    expected = np.linalg.norm(plain[:, None] - plain[None], axis=-1) * view.unit_px
    np.testing.assert_allclose(spread, expected, rtol=1e-4, atol=1e-2)
    eyes = framed[[layout.LEFT_EYE, layout.RIGHT_EYE]].mean(0) / (view.width_px, view.height_px)
    np.testing.assert_allclose(eyes, framing.head_at, atol=0.02)
    assert view.width_px % 16 == view.height_px % 16 == 0
    assert view.width_px * view.height_px == pytest.approx(256**2, rel=0.1)
    assert view.width_px / view.height_px == pytest.approx(framing.aspect, rel=0.07)


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_what_is_drawn_lies_where_the_key_points_say(plain_person, pose, framing):
    view, how = framing.view(384), pose(mouth_open=0.8)
    frame = draw_clip(plain_person, how, slice(None), view)[1][0].astype(int)
    points = skeleton_of(plain_person, how, view).points_px[0]
    assert frame.shape == (view.height_px, view.width_px, 3)
    for index in (layout.LEFT_EYE, layout.RIGHT_EYE):
        x, y = np.floor(points[index]).astype(int)
        assert np.abs(frame[y, x] - (24, 18, 22)).max() < 30, "pupil"
    x, y = np.floor((points[layout.MOUTH][3] + points[layout.MOUTH][14]) / 2).astype(int)
    assert np.abs(frame[y - 1 : y + 2, x - 1 : x + 2] - plain_person.lip).max(-1).min() <= 12, "upper lip"


def test_hands_that_rest_below_the_half_figure_are_drawn_where_the_picture_shows_them(plain_person, pose):
    how = pose(left_wrist=[0.78, 1.2], left_turn=0.9, left_spread=0.8)
    view = Framing(3 / 4, 0.36, (0.5, 0.25)).view(512)
    frame = draw_clip(plain_person, how, slice(None), view)[1][0].astype(int)
    hand = skeleton_of(plain_person, how, view).points_px[0, layout.LEFT_HAND]
    for joint in (0, 4, 8, 12, 16, 20):
        x, y = np.floor(hand[joint]).astype(int)
        assert np.abs(frame[y - 1 : y + 2, x - 1 : x + 2] - plain_person.skin).max(-1).min() <= 3


def test_below_the_torso_there_are_trousers_and_no_room(plain_person, pose):
    view = Framing(3 / 4, 0.32, (0.5, 0.27)).view(512)
    frame = draw_clip(plain_person, pose(), slice(None), view)[1][0].astype(int)
    hips = skeleton_of(plain_person, pose(), view).points_px[0, [layout.LEFT_HIP, layout.RIGHT_HIP]]
    below = view.height_px - 3
    for x in hips[:, 0].astype(int):
        assert np.abs(frame[below, x] - plain_person.wall).max() > 40
        assert np.abs(frame[below, x] - plain_person.cloth).max() > 40


def test_a_framing_changes_what_is_seen_and_nothing_else():
    plain, framed = make_episode(5, 0.2, 96), make_episode(5, 0.2, 96, framing=FRAMINGS["close up"])
    assert plain.identity == framed.identity
    np.testing.assert_array_equal(plain.audio.samples, framed.audio.samples)
    for name, curve in vars(plain.truth).items():
        np.testing.assert_array_equal(curve, getattr(framed.truth, name))


def test_sampled_framings_show_the_whole_face_in_every_shape():
    rng = np.random.default_rng(3)
    framings = [sample_framing(rng) for _ in range(500)]
    assert {framing.aspect for framing in framings} == set(ASPECTS)
    shares = [framing.head_share for framing in framings]
    assert min(shares) < 0.33
    assert max(shares) > 0.7
    person, rest = make_episode(11, 0.04, 64).identity, make_episode(11, 0.04, 64).performance
    for framing in framings[:100]:
        view = framing.view(256)
        assert view.bottom <= KNEES + 1e-9
        face = skeleton_of(person, rest, view).points_px[0, layout.FACE]
        assert (face > -0.05 * view.width_px).all()
        assert (face < (1.05 * view.width_px, 1.05 * view.height_px)).all()


@pytest.mark.parametrize(
    ("framing", "found"),
    [
        (Framing(3.0), "aspect is 3.0; it must be 0.4 to 2.5"),
        (Framing(float("nan")), "aspect is nan"),
        (Framing(1.0, 0.1), "head_share is 0.1"),
        (Framing(1.0, 0.5, (1.2, 0.5)), "head_at is 1.2"),
        (Framing(1.0, 0.5, (0.95, 0.5)), "leaves the picture"),
        (Framing(9 / 16, 0.9, (0.5, 0.5)), "leaves the picture"),
        (Framing(1.0, 0.2, (0.5, 0.2)), "down to the knees"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(framing, found):
    with pytest.raises(InputError) as error:
        framing.view(128)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_takes_a_shape_and_a_head_size(tmp_path, capsys):
    from hallo4.cli.world import run
    from hallo4.media.image import load_image

    run(f"episode --seconds 0.08 --size-px 128 --aspect 3:4 --head-share 0.4 -o {tmp_path / 'e'}".split())
    assert load_image(tmp_path / "e" / "portrait.png").shape == (144, 112, 3)
    with pytest.raises(Hallo4Error, match="3:4"):
        run(f"episode --aspect wide -o {tmp_path / 'f'}".split())
