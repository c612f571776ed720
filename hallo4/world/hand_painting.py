"""Drawing of hands whose fingers bend: palm or back, five fingers, nails, creases and knuckles."""

from __future__ import annotations

import numpy as np

from hallo4.world.hand_joints import HAND_LENGTH as H
from hallo4.world.hand_joints import Hand
from hallo4.world.identity import Identity, mix
from hallo4.world.painter import Painter, capsule, smooth_loop

_RADII = H * np.array(
    [
        (0.088, 0.070, 0.060, 0.050),
        (0.060, 0.056, 0.052, 0.044),
        (0.061, 0.057, 0.053, 0.045),
        (0.058, 0.054, 0.050, 0.043),
        (0.051, 0.047, 0.043, 0.037),
    ]
)
"""Half widths at the four joints of each finger, thumb first."""
_OUTLINE = 0.020 * H
_FOLDED = 0.42
"""A finger that is folded further comes back over itself."""


def draw_jointed_hand(painter: Painter, hand: Hand, identity: Identity) -> None:
    """The hand above whatever is there; the wrist's end is left to the sleeve."""
    assert hand.curl is not None
    ink = _Ink(painter, identity)
    fingers = hand.joints[1:].reshape(5, 4, 2)
    folded = [bool(c > _FOLDED) for c in hand.curl]
    palm = _palm(hand.joints)
    stretched = [k for k in (4, 3, 2, 1) if not folded[k]]
    bent = [k for k in (4, 3, 2, 1) if folded[k]]
    if hand.facing < 0:  # what is folded lies behind the back of the hand
        for k in bent:
            ink.folded_finger(fingers[k], _RADII[k])
        ink.finger(fingers[0], _RADII[0])
    ink.rim(palm)
    for k in stretched:
        ink.finger(fingers[k], _RADII[k])
    painter.fill(palm, identity.skin, inside=True)
    if hand.facing < 0:
        ink.back(hand.joints, stretched, folded[0])
        return
    ink.palm_lines(hand.joints)
    for k in bent:
        ink.folded_finger(fingers[k], _RADII[k])
    ink.finger(fingers[0], _RADII[0])
    # The ball of the thumb has no edge towards the palm.
    painter.fill(capsule(hand.joints[1], fingers[0][1], 0.078 * H, 0.062 * H), identity.skin, inside=True)


class _Ink:
    """The skin's colours, and what is drawn with them."""

    def __init__(self, painter: Painter, identity: Identity) -> None:
        skin = identity.skin
        self.painter, self.skin = painter, skin
        self.edge = mix(skin, (70, 22, 24), 0.52)
        self.light = mix(skin, (255, 240, 222), 0.26)
        self.shade = mix(skin, (128, 52, 44), 0.24)
        self.nail = mix(mix(skin, (255, 206, 204), 0.62), (255, 255, 255), 0.12)
        key = np.array(identity.look.key[:2])
        self.to_light = key / max(np.linalg.norm(key), 1e-6)

    def rim(self, outline: np.ndarray) -> None:
        """An edge round an outline that is filled later."""
        away = outline - outline.mean(0)
        away = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
        self.painter.fill(outline + _OUTLINE * away, self.edge)

    def finger(self, chain: np.ndarray, radii: np.ndarray) -> None:
        """A finger [4, 2] that does not come back over itself: edge, shade, skin and a strip of light."""
        fill, ways = self.painter.fill, _ways(chain)
        fill(_along(chain, ways, radii + _OUTLINE), self.edge)
        fill(_along(chain, ways, radii), self.shade, inside=True)
        fill(_along(chain + 0.20 * radii[1] * self.to_light, ways, 0.82 * radii), self.skin, inside=True)
        lit = chain[1:] + 0.34 * radii[1] * self.to_light
        fill(_along(lit, ways[1:], 0.36 * radii[1:]), self.light, inside=True)

    def folded_finger(self, chain: np.ndarray, radii: np.ndarray) -> None:
        """A finger that is seen to its middle joint, with its end folded under or over the palm."""
        for grow, color, move in (
            (_OUTLINE, self.edge, 0.0),
            (0.0, self.shade, 0.0),
            (-0.014 * H, self.skin, 0.2),
        ):
            shift = self.to_light * move * radii[1]
            for a, b in ((0, 1), (1, 2), (2, 3)):
                self.painter.fill(
                    capsule(chain[a] + shift, chain[b] + shift, radii[a] + grow, radii[b] + grow, 6),
                    color,
                    inside=grow <= 0,
                )
        self.painter.ellipse(chain[1] + self.to_light * 0.3 * radii[1], *2 * (0.4 * radii[1],), self.light)

    def palm_lines(self, joints: np.ndarray) -> None:
        """The two creases across the palm, and the one round the ball of the thumb."""
        wrist, index, middle, little = joints[0], joints[5], joints[9], joints[17]
        along, across = middle - wrist, index - little
        for corners in (
            ((0.78, 0.55), (0.74, 0.15), (0.62, -0.42)),
            ((0.62, 0.50), (0.58, 0.05), (0.44, -0.36)),
            ((0.60, 0.46), (0.42, 0.20), (0.10, 0.12)),
        ):
            line = np.array([wrist + u * along + v * across for u, v in corners])
            self.painter.stroke(line, 0.022 * H, self.shade)

    def back(self, joints: np.ndarray, stretched: list[int], thumb_folded: bool) -> None:
        """Knuckles and nails."""
        fingers = joints[1:].reshape(5, 4, 2)
        for k in range(1, 5):
            knuckle = fingers[k][0]
            self.painter.ellipse(knuckle + 0.012 * H, 0.036 * H, 0.030 * H, self.shade)
            self.painter.ellipse(knuckle, 0.034 * H, 0.028 * H, self.light)
        for k in stretched if thumb_folded else [0, *stretched]:
            chain, radius = fingers[k], _RADII[k][3]
            end = chain[3] - chain[2]
            unit = end / max(np.linalg.norm(end), 1e-6)
            nail = capsule(
                chain[3] - unit * 0.2 * radius, chain[3] + unit * 0.25 * radius, 0.6 * radius, 0.62 * radius
            )
            self.painter.fill(nail, self.nail, inside=True)
            if k:
                side = np.array([-unit[1], unit[0]]) * _RADII[k][1] * 0.55
                self.painter.stroke(np.array([chain[1] - side, chain[1] + side]), 0.014 * H, self.shade)


def _ways(chain: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 2] along a chain of joints, at each of them."""
    bones = np.diff(chain, axis=0)
    bones /= np.maximum(np.hypot(bones[:, 0], bones[:, 1]), 1e-9)[:, None]
    ways = np.concatenate([bones[:1], bones[:-1] + bones[1:], bones[-1:]])
    return ways / np.maximum(np.hypot(ways[:, 0], ways[:, 1]), 1e-9)[:, None]


_TURN = np.linspace(-np.pi / 2, np.pi / 2, 7)[1:-1, None]
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)


def _along(chain: np.ndarray, ways: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outline round a chain of joints [n, 2] with these half widths, round at both ends."""
    left = ways[:, ::-1] * (radii[:, None] * (1.0, -1.0))
    tip = chain[-1] + radii[-1] * _COS * ways[-1] - _SIN * left[-1]
    root = chain[0] - radii[0] * _COS * ways[0] + _SIN * left[0]
    return np.concatenate([chain + left, tip, (chain - left)[::-1], root])


def _palm(joints: np.ndarray) -> np.ndarray:
    """Outline of the palm from the wrist round the knuckles."""
    wrist, thumb, ball = joints[0], joints[1], joints[2]
    index, middle, ring, little = joints[5], joints[9], joints[13], joints[17]
    along = (middle - wrist) / 0.53
    across = (index - little) / 0.365
    corners = np.array(
        [
            wrist + 0.135 * across - 0.03 * along,
            thumb + 0.03 * across,
            0.45 * ball + 0.55 * index - 0.08 * along,
            index + 0.055 * across - 0.05 * along,
            index + 0.035 * across + 0.035 * along,
            middle + 0.055 * along,
            ring + 0.055 * along,
            little - 0.01 * across + 0.045 * along,
            little - 0.058 * across - 0.03 * along,
            wrist + 0.20 * along - 0.225 * across,
            wrist - 0.140 * across - 0.03 * along,
        ]
    )
    return smooth_loop(corners, 4)


def draw_wrist(painter: Painter, cuff: np.ndarray, wrist: np.ndarray, identity: Identity) -> None:
    """Skin from the sleeve to the hand."""
    edge = mix(identity.skin, (70, 22, 24), 0.52)
    painter.fill(capsule(cuff, wrist, 0.150 * H + _OUTLINE, 0.135 * H + _OUTLINE), edge)
    painter.fill(capsule(cuff, wrist, 0.150 * H, 0.135 * H), identity.skin, inside=True)
