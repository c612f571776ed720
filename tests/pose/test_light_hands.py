"""Which hands are taken for the person's, with palm and hand networks that say what they are told."""

import numpy as np
import pytest

from hallo4.pose.crops import Region
from hallo4.pose.detections import Detection
from hallo4.pose.light_hands import hands_of
from hallo4.pose.light_parts import Body

FRAME = np.zeros((400, 400, 3), np.uint8)
HEAD = np.array([170.0, 60, 230, 120])
"""A head of 60 px; shoulders 100 px apart below it."""

HAND_01 = np.random.default_rng(0).uniform(0.4, 0.6, (21, 2))
HAND_01[[0, 9]] = (0.5, 0.6), (0.5, 0.4)


class ToldNetworks:
    """`palms_px`: where palms are seen; `right`: the probability that a hand is a right one; `flag`: that it
    is a hand."""

    def __init__(self, *palms_px, right=0.9, flag=0.9):
        def palms(picture):
            # The frame of 400 px is looked at as a whole.
            return [
                Detection(
                    np.array([x - 10, y - 10, x + 10, y + 10]) / 400,
                    np.array([[x, y + 10], [x, y], [x, y - 10]]) / 400,
                    0.9,
                )
                for x, y in palms_px
            ]

        def hand(picture):
            self.hand_looks += 1
            landmarks = np.concatenate([HAND_01 * 224, np.zeros((21, 1))], axis=1)
            return [landmarks.ravel(), np.array([flag]), np.array([right]), None]

        self.hand_looks = 0
        self.palms, self.hand = palms, hand
        self.palms.size_px, self.hand.size_px = 192, 224


def body(wrists=((260, 300), (140, 300)), sure=0.9) -> Body:
    points, confidence = np.zeros((33, 2)), np.zeros(33)
    points[[11, 12]] = (250, 150), (150, 150)
    points[[15, 16]] = wrists
    confidence[[11, 12, 15, 16]] = 1, 1, sure, sure
    return Body(points, confidence, 1.0, np.zeros((2, 2)))


def found(networks, somebody, regions=(None, None)):
    hands = hands_of(networks, FRAME, regions, somebody, HEAD)
    return [None if hand is None else hand.points_px[0].round().tolist() for hand in hands]


# A palm at (x, y) gives a hand whose root lies a little below: 52 px region centred 10 px above.
ROOT_BELOW = -10 + 0.1 * 52


@pytest.mark.parametrize("right", [0.1, 0.9])
def test_a_hand_at_a_wrist_that_is_seen_belongs_to_it_whatever_the_network_thinks(right):
    left, none = found(ToldNetworks((262, 305), right=right), body())
    assert none is None
    assert left == pytest.approx([262, 305 + ROOT_BELOW], abs=1)


@pytest.mark.parametrize(("right", "side"), [(0.1, 0), (0.9, 1)])
def test_where_wrists_are_guesses_the_network_says_which_hand_it_is(right, side):
    hands = found(ToldNetworks((200, 200), right=right), body(sure=0.1))
    assert hands[side] is not None
    assert hands[1 - side] is None


def test_a_hand_away_from_both_wrists_is_somebody_else_s():
    assert found(ToldNetworks((60, 60)), body()) == [None, None]
    assert found(ToldNetworks((60, 390), right=0.1), body(sure=0.1)) == [
        None,
        None,
    ]  # out of the left arm's reach


def test_without_a_body_the_hand_is_on_its_side_and_near_the_head():
    assert found(ToldNetworks((250, 150), right=0.9), None)[0] is not None
    assert found(ToldNetworks((150, 150), right=0.1), None)[1] is not None
    assert found(ToldNetworks((210, 170), right=0.1), None)[0] is not None
    assert found(ToldNetworks((120, 250)), None) == [None, None]  # it may be a neighbour's


def test_what_is_no_hand_is_none():
    assert found(ToldNetworks((262, 305), flag=0.4), body()) == [None, None]
    assert found(ToldNetworks(), body()) == [None, None]


def test_a_hand_that_is_followed_is_not_found_a_second_time():
    """Its palm is seen too; both hands can then not be the same one."""
    networks = ToldNetworks((140, 305), right=0.9)
    hands = found(networks, body(), (None, Region(140, 295, 52)))
    assert hands[0] is None
    assert hands[1] is not None
    same = Region(200, 200, 52)
    hands = found(ToldNetworks(), body(sure=0.1), (same, same))
    assert hands.count(None) == 1


def test_with_both_hands_followed_no_palm_is_looked_for():
    networks = ToldNetworks()
    networks.palms = None  # calling it would fail
    hands = found(networks, body(), (Region(260, 295, 52), Region(140, 295, 52)))
    assert None not in hands
    assert networks.hand_looks == 2
