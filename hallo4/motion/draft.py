"""A draft of every frame: the person in the portrait, moved by the skeleton like a figure of cut paper.

    portrait --arms and hands taken out, the gaps filled from around them--> body
    body     --head and trunk moved, what is around them the less the further it is--> frame
    body     --lids drawn over the eyes, or away from them--> over that frame
    portrait --upper arms, forearms, palms, fingers cut out and laid along the skeleton--> over that frame

A skeleton says where everything is, and the portrait what it looks like. Both together are a picture that has
cloth, hair and fingers in the right places, and all that is wrong with paper: seams, a mouth that stays shut,
nothing behind an arm that is lifted. A model that is given this draft has that left to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hallo4.motion import layout
from hallo4.motion.draft_lids import DraftEye
from hallo4.motion.draft_sampling import enlarged, pixel_centres, sampled
from hallo4.types import Skeleton

HEAD_POINTS = [
    *(layout.NOSE, layout.LEFT_EYE, layout.RIGHT_EYE, layout.LEFT_EAR, layout.RIGHT_EAR),
    *range(layout.NOSE_BRIDGE.start, layout.NOSE_BRIDGE.stop),
]
"""What moves with the skull, whatever mouth and lids do."""
FACE_POINTS = [
    *HEAD_POINTS,
    *range(layout.JAW.start, layout.NOSE_BRIDGE.start),  # jaw and brows
    *range(layout.NOSE_BASE.start, layout.NOSE_BASE.stop),
    *(layout.RIGHT_EYE_LIDS.start, layout.RIGHT_EYE_LIDS.start + 3),  # corners: lids bend eyes and glasses
    *(layout.LEFT_EYE_LIDS.start, layout.LEFT_EYE_LIDS.start + 3),
]
"""What moves in a face that turns, or raises its brows. Lips belong to the sound."""
LIDS = (layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS)
TRUNK_POINTS = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER, layout.LEFT_HIP, layout.RIGHT_HIP]
SHOULDERS = TRUNK_POINTS[:2]
SIDES_OF_HEAD = (
    [layout.LEFT_EAR, layout.RIGHT_EAR],
    [layout.JAW.stop - 1, layout.JAW.start],  # at the height of the ears
)
CHIN = layout.JAW.start + 8
HEAD_WIDTHS = 2.0
"""Of the shoulders."""

UPPER_ARM, FOREARM, PALM, FINGER = 0.12, 0.1, 0.08, 0.028
"""Half the widths of limbs, in distances of the shoulders."""
FADE = 0.05
"""How far from head and trunk their motion falls to 1 / e, in distances of the shoulders."""
REACH, FINE_REACH, FINE_SHARE, RIDGE = 0.7, 0.1, 0.3, 0.01
"""How far, in widths of the head, a point of the face takes what is around it along, coarsely and in detail,
and the share of the second; how little points that disagree are followed."""
TAKEN_OUT, RIM_PX = 1.15, 1.0
"""How much wider than what is cut out the gap is that is filled."""
GAP_SIGMAS = (1.5, 3.0, 6.0, 12.0, 24.0, 60.0)
"""Widths of the blurs that fill it, nearest surroundings first, in 1/256 of the longer side."""
LEAST_WEIGHT = 1e-3
"""Of surroundings that say anything."""
COARSE_PX = 4
"""The motion of head and trunk is smooth: it is worked out at every so many pixels."""


class PortraitDraft:
    """Drafts of frames from a portrait [H, W, 3] uint8 and the pose [1 frame] in it, in its pixels.

    What is not seen in the portrait is not moved; an arm that is not seen in a frame is left out of it.
    `moves`: whether enough is seen to move anything, which takes both shoulders or both sides of the head.
    """

    VERSION = 2
    """Of the drafts: raised when others are made of the same portraits and poses."""

    def __init__(self, portrait_u8: np.ndarray, rest: Skeleton) -> None:
        self._portrait = portrait_u8.astype(np.float32)
        height, width = portrait_u8.shape[:2]
        seen = rest.confidence[0] >= layout.SEEN
        self._rest = np.where(seen[:, None], rest.points_px[0], 0).astype(np.float32)
        size_px = _body_size_px(self._rest, seen)
        self.moves = size_px is not None
        self._size_px, self._seen = size_px or 1.0, seen & self.moves
        self._rows, self._columns = pixel_centres(height, width, height, width)
        self._coarse = pixel_centres(-(-height // COARSE_PX), -(-width // COARSE_PX), height, width)
        self._body = self._without_arms()
        self._eyes = [DraftEye(self._body, self._rest[lids]) for lids in LIDS]

    def frames_u8(self, skeleton: Skeleton) -> np.ndarray:
        """[T, H, W, 3] uint8, of T skeletons in pixels of the portrait."""
        seen = (skeleton.confidence >= layout.SEEN) & self._seen
        points = np.where(seen[..., None], skeleton.points_px, 0).astype(np.float32)
        frames = np.empty((len(skeleton), *self._portrait.shape), np.uint8)
        for number in range(len(frames)):
            frames[number] = np.rint(self._frame(points[number], seen[number]))
        return frames

    def _frame(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """One frame [H, W, 3] in [0, 255]; `seen` [133]: points that frame and portrait show."""
        sources = self._sources(points, seen)
        frame = sampled(self._body, *sources)
        for lids, eye in zip(LIDS, self._eyes, strict=True):
            if eye.opens and seen[lids].all():
                eye.move_lids(frame, *sources, points[lids])
        for now, then in zip(_limbs(points, seen), _limbs(self._rest, seen), strict=True):
            if len(now.ends):
                self._lay(frame, now, then)
        return frame

    def _sources(self, points: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in the body every pixel of a frame comes from: (y, x) [H, W]."""
        rows, columns = self._coarse
        near = {"head": np.zeros_like(rows), "trunk": np.zeros_like(rows)}
        moved = dict.fromkeys(near, (columns, rows))
        fade = FADE * self._size_px
        head = [point for point in HEAD_POINTS if seen[point]]
        sides = _sides_of_head(self._seen)
        if len(head) > 2 and sides is not None and self._seen[CHIN]:
            plane = _affine(points[head], self._rest[head])
            moved["head"] = plane(columns, rows)
            near["head"] = _fading(_outside_head(*moved["head"], self._rest, sides), fade)
            face = [point for point in FACE_POINTS if seen[point]]
            width_px = np.linalg.norm(self._rest[sides[0]] - self._rest[sides[1]])
            left = self._rest[face] - np.stack(plane(*points[face].T), 1)
            bent = _between(columns, rows, points[face], left, max(float(width_px), 1.0))
            moved["head"] = (moved["head"][0] + bent[..., 0], moved["head"][1] + bent[..., 1])
        trunk = [point for point in TRUNK_POINTS if seen[point]]
        if len(trunk) > 1 and self._seen[SHOULDERS].all():
            moved["trunk"] = _similarity(points[trunk], self._rest[trunk])(columns, rows)
            outside = _outside_trunk(*moved["trunk"], self._rest, self._seen, self._size_px)
            near["trunk"] = _fading(outside, fade)
        share = np.maximum(*near.values()) / np.maximum(sum(near.values()), 1e-6)
        parts = [share * near[part] for part in near]
        shifts = [
            sum(part * (moved[name][axis] - here) for name, part in zip(near, parts, strict=True))
            for axis, here in ((0, columns), (1, rows))
        ]
        right, down = enlarged(np.stack(shifts), self._rows.shape)
        return self._rows + down, self._columns + right

    def _lay(self, frame: np.ndarray, now: _Limb, then: _Limb) -> None:
        """Lay a limb of the portrait over a frame, in place."""
        radii_px = now.widths * self._size_px
        reach = radii_px.max() + 2
        height, width = frame.shape[:2]
        shown = _shown_lengths(then.ends, width, height)
        x0, y0 = np.clip(np.floor(now.ends.min((0, 1)) - reach), 0, (width, height)).astype(int)
        x1, y1 = np.clip(np.ceil(now.ends.max((0, 1)) + reach), 0, (width, height)).astype(int)
        if x0 >= x1 or y0 >= y1:
            return
        place = np.s_[y0:y1, x0:x1]
        x, y = self._columns[place], self._rows[place]
        inside = radii_px[:, None, None] - _distances(x, y, now.ends)
        inside[shown[:, 0] >= shown[:, 1]] = -1
        nearest = inside.argmax(0)
        cover = np.clip(inside.max(0) + 0.5, 0, 1)
        start, along, length = _axes(now.ends)
        old_start, old_along, old_length = _axes(then.ends)
        right, down = x - start[nearest, 0], y - start[nearest, 1]
        e, old = along[nearest], old_along[nearest]
        lengthways = right * e[..., 0] + down * e[..., 1]
        on_bone = np.clip(lengthways, 0, length[nearest])  # round ends are as long as they are
        lengthways += on_bone * (old_length / length - 1)[nearest]
        lengthways = np.clip(lengthways, *np.moveaxis(shown[nearest], -1, 0))
        across = down * e[..., 0] - right * e[..., 1]
        from_x = old_start[nearest, 0] + lengthways * old[..., 0] - across * old[..., 1]
        from_y = old_start[nearest, 1] + lengthways * old[..., 1] + across * old[..., 0]
        frame[place] += cover[..., None] * (sampled(self._portrait, from_y, from_x) - frame[place])

    def _without_arms(self) -> np.ndarray:
        """The portrait, where arms and hands are filled with what is around them."""
        gap = np.zeros(self._rows.shape, bool)
        for limb in _limbs(self._rest, self._seen):
            if len(limb.ends):
                radii_px = TAKEN_OUT * limb.widths * self._size_px + RIM_PX
                gap |= (_distances(self._columns, self._rows, limb.ends) < radii_px[:, None, None]).any(0)
        if not gap.any():
            return self._portrait
        kept = (~gap).astype(np.float32)
        filled, sure = np.zeros_like(self._portrait), np.zeros_like(kept)
        for sigma in np.array(GAP_SIGMAS) * max(gap.shape) / 256:
            weight = ndimage.gaussian_filter(kept, sigma)
            around = ndimage.gaussian_filter(self._portrait * kept[..., None], (sigma, sigma, 0))
            more = np.where(weight > LEAST_WEIGHT, np.clip(4 * weight, 0, 1) * (1 - sure), 0)
            filled += (more / np.maximum(weight, LEAST_WEIGHT))[..., None] * around
            sure += more
        filled += (1 - sure)[..., None] * self._portrait
        return np.where(gap[..., None], filled, self._portrait)


@dataclass(frozen=True)
class _Limb:
    """Straight parts that are laid as one: `ends` [n, 2, 2] as (x, y), half their `widths` [n] in distances
    of the shoulders."""

    ends: np.ndarray
    widths: np.ndarray


def _limbs(points: np.ndarray, seen: np.ndarray) -> list[_Limb]:
    """Both arms, then both hands, which are in front; parts whose points are not `seen` are missing."""
    arms, hands = [], []
    for side, hand in ((0, layout.LEFT_HAND), (1, layout.RIGHT_HAND)):
        shoulder, elbow, wrist = (
            joint + side for joint in (layout.LEFT_SHOULDER, layout.LEFT_ELBOW, layout.LEFT_WRIST)
        )
        arms.append([((shoulder,), (elbow,), UPPER_ARM), ((elbow,), (wrist,), FOREARM)])
        root = hand.start
        knuckles = tuple(root + 4 * finger + 1 for finger in range(1, 5))
        bones = [root + 4 * finger + joint for finger in range(5) for joint in range(1, 4)]
        fingers = [((bone,), (bone + 1,), FINGER) for bone in bones]
        hands.append([((root,), knuckles, PALM), *fingers])
    limbs = []
    for parts in arms + hands:
        there = [part for part in parts if seen[[*part[0], *part[1]]].all()]
        ends = [[points[[*end]].mean(0) for end in part[:2]] for part in there]
        widths = np.array([width for *_, width in there], np.float32)
        limbs.append(_Limb(np.array(ends, np.float32).reshape(-1, 2, 2), widths))
    return limbs


def _body_size_px(points: np.ndarray, seen: np.ndarray) -> float | None:
    """The distance of the shoulders, or what it would be with such a head; None where neither is seen."""
    sides = _sides_of_head(seen)
    for pair, ratio in ((SHOULDERS if seen[SHOULDERS].all() else None, 1.0), (sides, HEAD_WIDTHS)):
        if pair is not None:
            return max(ratio * float(np.linalg.norm(points[pair[0]] - points[pair[1]])), 1.0)
    return None


def _sides_of_head(seen: np.ndarray) -> list[int] | None:
    """The ears, or else the ends of the jaw, of which both are seen."""
    return next((pair for pair in SIDES_OF_HEAD if seen[pair].all()), None)


def _outside_head(x: np.ndarray, y: np.ndarray, points: np.ndarray, sides: list[int]) -> np.ndarray:
    """How far pixels are from a head with its hair, in pixels, negative inside."""
    middle, width_px = points[sides].mean(0), np.linalg.norm(points[sides[0]] - points[sides[1]])
    crown = middle + 0.9 * (middle - points[CHIN])
    return _distances(x, y, np.stack([points[CHIN], crown])[None])[0] - 0.5 * width_px


def _outside_trunk(
    x: np.ndarray, y: np.ndarray, points: np.ndarray, seen: np.ndarray, size_px: float
) -> np.ndarray:
    """How far pixels are from the trunk, in pixels, negative inside. Without hips it goes straight down."""
    left, right = points[SHOULDERS]
    neck = (left + right) / 2
    hips = points[TRUNK_POINTS[2:]]
    if not seen[TRUNK_POINTS[2:]].all():
        hips = points[SHOULDERS] + np.array([0.0, 1.2 * size_px], np.float32)
    bottom = neck + 1.5 * (hips.mean(0) - neck)
    parts = np.stack([[left, right], [left, hips[0]], [right, hips[1]], [neck, bottom]])
    radii_px = size_px * np.array([0.1, 0.1, 0.1, 0.5], np.float32)
    return (_distances(x, y, parts) - radii_px[:, None, None]).min(0)


def _fading(outside_px: np.ndarray, fade_px: float) -> np.ndarray:
    return np.exp(-np.maximum(outside_px, 0) / fade_px)


def _similarity(now: np.ndarray, then: np.ndarray) -> _Plane:
    """The turn, scale and shift that brings points [n, 2] `now` nearest to `then`, as a function of x, y."""
    return _Plane(_turn_and_scale(now, then), now.mean(0), then.mean(0))


def _affine(now: np.ndarray, then: np.ndarray) -> _Plane:
    """As `_similarity`, and what else a linear map gains, which points on a line do not decide."""
    turn = _turn_and_scale(now, then)
    start, end = now - now.mean(0), then - then.mean(0)
    ridge = (1e-3 * (start**2).sum() + 1e-6) * np.eye(2, dtype=np.float32)
    more = np.linalg.solve(start.T @ start + ridge, start.T @ (end - start @ turn.T)).T
    return _Plane(turn + more, now.mean(0), then.mean(0))


def _turn_and_scale(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """[2, 2]"""
    start, end = ((points - points.mean(0)) @ (1, 1j) for points in (now, then))
    factor = (end * start.conj()).sum() / max((abs(start) ** 2).sum(), 1e-9)
    return np.array([[factor.real, -factor.imag], [factor.imag, factor.real]], np.float32)


def _between(
    x: np.ndarray, y: np.ndarray, points: np.ndarray, values: np.ndarray, width_px: float
) -> np.ndarray:
    """Of `values` [n, 2] at `points` [n, 2], what lies between, smoothly: [h, w, 2], 0 far away. By radial
    basis functions of two widths."""

    def basis(right: np.ndarray, down: np.ndarray) -> np.ndarray:
        square = (right**2 + down**2) / (-2 * width_px**2)
        return np.exp(square / REACH**2) + FINE_SHARE * np.exp(square / FINE_REACH**2)

    apart = basis(*(points[:, None] - points).transpose(2, 0, 1))
    amounts = np.linalg.solve(apart + RIDGE * np.eye(len(points)), values).astype(np.float32)
    return basis(x[..., None] - points[:, 0], y[..., None] - points[:, 1]) @ amounts


@dataclass(frozen=True)
class _Plane:
    """The linear map by which what lies `around` a point comes to lie around another."""

    matrix: np.ndarray
    around: np.ndarray
    target: np.ndarray

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        right, down = x - self.around[0], y - self.around[1]
        (a, b), (c, d) = self.matrix
        return self.target[0] + a * right + b * down, self.target[1] + c * right + d * down


def _axes(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of straight parts [n, 2, 2]: where they start [n, 2], their direction [n, 2] and length [n]."""
    along = ends[:, 1] - ends[:, 0]
    length = np.maximum(np.linalg.norm(along, axis=1), 1e-3)
    return ends[:, 0], along / length[:, None], length


def _shown_lengths(ends: np.ndarray, width: int, height: int) -> np.ndarray:
    """From where to where, lengthways, straight parts [n, 2, 2] can be taken from a picture: [n, 2] in
    pixels. Without end where an end is in the picture; the first not below the second where nothing is."""
    start, along, length = _axes(ends)
    with np.errstate(divide="ignore", invalid="ignore"):
        borders = (np.array([[0.0, 0.0], [width, height]]) - start[:, None]) / along[:, None]
    first, last = np.sort(borders, axis=1).transpose(1, 0, 2)  # [n, 2], of x and y
    inside = (start >= 0) & (start <= (width, height))
    level = along == 0
    first = np.where(level, np.where(inside, -np.inf, np.inf), first).max(1)
    last = np.where(level, np.where(inside, np.inf, -np.inf), last).min(1)
    first, last = np.maximum(first, 0), np.minimum(last, length)
    nothing = first >= last
    first = np.where(first <= 0, -np.inf, first)
    last = np.where(last >= length, np.inf, last)
    return np.stack([np.where(nothing, 0, first), np.where(nothing, 0, last)], 1).astype(np.float32)


def _distances(x: np.ndarray, y: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Of pixels [h, w] from straight parts [n, 2, 2]: [n, h, w]."""
    start, along, length = (part[..., None, None] for part in _axes(ends))
    right, down = x - start[:, 0], y - start[:, 1]
    step = np.clip(right * along[:, 0] + down * along[:, 1], 0, length)
    return np.hypot(right - step * along[:, 0], down - step * along[:, 1])
