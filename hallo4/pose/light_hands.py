"""Hands that belong to the arms of the person: found by their palms, distinguished, kept or left."""

from __future__ import annotations

import numpy as np

from hallo4.pose.crops import Region, cut, whole_frame
from hallo4.pose.estimator import box_centre, box_side
from hallo4.pose.light_networks import LightNetworks
from hallo4.pose.light_parts import Body, Hand, look_at_hand, palm_region
from hallo4.pose.light_points import POSE_SHOULDERS, POSE_WRISTS

_SURE_WRIST = 0.5
"""From this confidence on the pose network's wrist is believed; in close-ups it is a guess."""
_AT_WRIST = 0.6
"""A hand's root lies within this of the arm's wrist, in widths of the shoulders ..."""
_IN_REACH = 2.2
"""... and within this of the arm's shoulder, as far as an arm reaches."""
_IN_REACH_OF_FACE = 1.6
"""Where no body is seen, as in close-ups, a hand's root lies within this of the face, in its sizes: further
away it may be anybody's."""

_CLEARLY_ASIDE = 0.6
"""So far beside the middle of the head, in its sizes, a hand is taken for that side's."""

Hands = tuple[Hand | None, Hand | None]


def hands_of(
    networks: LightNetworks,
    frame_u8: np.ndarray,
    regions: tuple[Region | None, Region | None],
    body: Body | None,
    head_px: np.ndarray,
) -> Hands:
    """The person's left and right hand in a frame, each None if it is not seen.

    regions: where they were in the last frame; a hand without one is looked for by its palm. head_px: the box
    of the head [4].
    """
    seen = [None if region is None else look_at_hand(networks.hand, frame_u8, region) for region in regions]
    hands = [
        hand if hand is not None and _may_be(side, hand, body, head_px) else None
        for side, hand in enumerate(seen)
    ]
    if hands[0] is not None and hands[1] is not None and _same(hands[0], hands[1]):
        hands[int(hands[0].flag >= hands[1].flag)] = None
    if None in hands:
        for hand in _new_hands(networks, frame_u8, body, head_px):
            known = any(other is not None and _same(hand, other) for other in hands)
            side = None if known else _side_of(hand, body, head_px)
            if side is not None and hands[side] is None:
                hands[side] = hand
    return hands[0], hands[1]


def _new_hands(
    networks: LightNetworks, frame_u8: np.ndarray, body: Body | None, head_px: np.ndarray
) -> list[Hand]:
    region = _around(frame_u8, body, head_px)
    picture = cut(frame_u8, region, networks.palms.size_px, "black")
    if picture is None:
        return []
    corner = region.to_frame(np.zeros(2))
    palms = [palm.moved(region.side_px, corner) for palm in networks.palms(picture)]
    looks = (look_at_hand(networks.hand, frame_u8, palm_region(palm)) for palm in palms)
    return [hand for hand in looks if hand is not None]


def _around(frame_u8: np.ndarray, body: Body | None, head_px: np.ndarray) -> Region:
    """The upright square in which this person's hands can be, as far as the frame goes."""
    whole = whole_frame(frame_u8)
    size = box_side(head_px)
    if body is not None:
        size = max(size, 0.6 * _shoulder_width(body))
    x, y = box_centre(head_px)
    reach = Region(float(x), float(y + size), 7 * size)
    return reach if reach.side_px < 0.7 * whole.side_px else whole


def _side_of(hand: Hand, body: Body | None, head_px: np.ndarray) -> int | None:
    """0: the left hand of the person, 1: the right one, None: no one's, or another person's."""
    likely = int(hand.right >= 0.5)
    aside = (hand.points_px[0] - box_centre(head_px))[0] / box_side(head_px)
    if body is None and abs(aside) > _CLEARLY_ASIDE:
        likely = int(aside < 0)  # the person's right hand is at the left of the picture
    if body is not None and all(body.confidence[wrist] >= _SURE_WRIST for wrist in POSE_WRISTS):
        away = [np.linalg.norm(hand.points_px[0] - body.points_px[wrist]) for wrist in POSE_WRISTS]
        if max(away) > 2 * min(away):
            likely = int(away[1] < away[0])
    return likely if _may_be(likely, hand, body, head_px) else None


def _may_be(side: int, hand: Hand, body: Body | None, head_px: np.ndarray) -> bool:
    """Whether a hand is where this arm of the person can have it."""
    root = hand.points_px[0]
    if body is None:
        return bool(np.linalg.norm(root - box_centre(head_px)) < _IN_REACH_OF_FACE * box_side(head_px))
    width = max(_shoulder_width(body), box_side(head_px))
    if body.confidence[POSE_WRISTS[side]] >= _SURE_WRIST:
        return bool(np.linalg.norm(root - body.points_px[POSE_WRISTS[side]]) < _AT_WRIST * width)
    return bool(np.linalg.norm(root - body.points_px[POSE_SHOULDERS[side]]) < _IN_REACH * width)


def _shoulder_width(body: Body) -> float:
    left, right = body.points_px[list(POSE_SHOULDERS)]
    return float(np.linalg.norm(left - right))


def _same(one: Hand, other: Hand) -> bool:
    """Whether two hands lie on each other: nearer than half the length of a palm."""
    palm = np.linalg.norm(one.points_px[9] - one.points_px[0])
    return bool(np.linalg.norm(one.points_px - other.points_px, axis=1).mean() < 0.5 * palm)
