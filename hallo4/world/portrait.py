"""Drawing of a head: face, eyes with lids, brows, nose, mouth with teeth and tongue, beard, glasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.world.identity import Identity, mix
from hallo4.world.painter import Painter, smooth_loop
from hallo4.world.rig import HeadFrame

WHITE, DARK, MOUTH_INSIDE = (252, 250, 246), (44, 32, 40), (92, 24, 36)


@dataclass(frozen=True)
class FaceState:
    """What the face does in one frame; ranges as in `Performance`."""

    mouth_open: float
    mouth_wide: float
    blink: float
    brow: float
    smile: float
    gaze: np.ndarray


# ---- shapes shared with the keypoints
# with the keypoints


def face_outline(identity: Identity, jaw_drop: float, n: int = 33) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the contour from the right ear (left in the picture) round the chin to the left ear."""
    angle = np.linspace(np.pi + 0.18, -0.18, n)
    x = np.cos(angle) * identity.face_width
    down = np.maximum(np.sin(angle), 0)
    pinch = 1 - (1 - identity.jaw) * 0.42 * down**1.5
    y = np.sin(angle) * (1.16 * identity.face_height) + 0.05 * jaw_drop * down**2
    return x * pinch, y + 0.06


def eye_curves(
    identity: Identity, state: FaceState, side: float, n: int = 13
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x [n] and the upper and lower lid's y [n] of one eye; `side` -1 is the person's right (left in the
    picture)."""
    s = np.linspace(-1, 1, n)
    size = identity.eye_size
    x = side * 0.435 * identity.eye_gap + 0.275 * size * s
    tilt = identity.eye_tilt * s * side
    open_ = 1 - state.blink
    arch = (1 - np.abs(s) ** 2.2) ** 0.75
    low = 0.17 * size * arch * (1 - 0.25 * max(state.smile, 0)) * (0.35 + 0.65 * open_)
    middle = 0.02 + tilt
    upper = middle - 0.245 * size * arch * open_ + 0.17 * size * arch * 0.35 * (1 - open_)
    return x, np.minimum(upper, middle + low), middle + low


def brow_curve(
    identity: Identity, state: FaceState, side: float, n: int = 9
) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) along one brow, from its outer to its inner end for the right one, inner to outer for the
    left one."""
    s = np.linspace(-1, 1, n)
    x = side * 0.44 * identity.eye_gap + 0.30 * s
    y = -0.47 - 0.13 * state.brow - 0.07 * (1 - (s + 0.25 * side) ** 2) + 0.05 * s * side * (1 - state.brow)
    return x, y


@dataclass(frozen=True)
class Mouth:
    """Lip curves: x [n] with the y of the outer and inner upper and lower edges, corner to corner."""

    x: np.ndarray
    outer_top: np.ndarray
    inner_top: np.ndarray
    inner_bottom: np.ndarray
    outer_bottom: np.ndarray


def mouth_curves(identity: Identity, state: FaceState, n: int = 21) -> Mouth:
    """The lips. Opening parts them by up to 0.46 half face widths; spreading widens them from 0.21 to 0.41
    (half width)."""
    s = np.linspace(-1, 1, n)
    half = (0.215 + 0.185 * state.mouth_wide) * identity.mouth_width
    gap = 0.46 * state.mouth_open
    arch = np.sqrt(np.maximum(0.0, 1 - s**2))
    middle = 0.745 - 0.10 * (0.25 + state.smile) * s**2
    full = 0.058 * identity.lip_fullness * (1.25 - 0.4 * state.mouth_wide)
    bow = 1 - 0.28 * np.exp(-((s / 0.16) ** 2))
    top, bottom = middle - 0.32 * gap * arch, middle + 0.68 * gap * arch
    return Mouth(half * s, top - full * arch**0.8 * bow, top, bottom, bottom + 1.25 * full * arch**0.8)


# ---- drawing


def draw_face(painter: Painter, head: HeadFrame, identity: Identity, state: FaceState) -> None:
    """The face without hair, from the ears forward."""
    shade, light = mix(identity.skin, (120, 50, 50), 0.22), mix(identity.skin, (255, 240, 225), 0.35)
    for side in (-1.0, 1.0):
        ear = np.stack(
            [
                1.0 * side * identity.face_width + 0.12 * side * np.cos(a := np.linspace(0, 2 * np.pi, 20)),
                0.12 + 0.2 * np.sin(a),
            ]
        )
        painter.fill(head(*ear, -0.1), identity.skin)
        painter.fill(
            head(ear[0] * 0.55 + 0.46 * side * identity.face_width, 0.12 + (ear[1] - 0.12) * 0.55, -0.08),
            shade,
        )
        if identity.earrings:
            painter.ellipse(
                head(1.06 * side * identity.face_width, 0.36, -0.1)[0], 0.013, 0.016, (244, 204, 92)
            )
    x, y = face_outline(identity, state.mouth_open)
    skull = np.linspace(0, np.pi, 22)[1:-1]
    x = np.concatenate([x, np.cos(skull) * identity.face_width])
    y = np.concatenate([y, 0.0 - np.sin(skull) * 1.12])
    painter.fill(head(x, y, 0.0), identity.skin)
    # Flat cheeks have a round blush; on lit ones it fades outwards.
    rings = (
        ((1.0, 0.45),) if identity.look is None else ((1.25, 0.10), (1.0, 0.10), (0.75, 0.10), (0.45, 0.10))
    )
    for side in (-1.0, 1.0):
        a = np.linspace(0, 2 * np.pi, 18)
        for grown, opacity in rings:
            painter.fill(
                head(side * 0.62 + 0.2 * grown * np.cos(a), 0.44 + 0.13 * grown * np.sin(a)),
                mix(identity.skin, (232, 92, 92), 0.42),
                opacity,
            )
    if identity.freckles:
        for fx, fy in ((-0.6, 0.32), (-0.48, 0.42), (-0.7, 0.44), (0.6, 0.32), (0.48, 0.42), (0.7, 0.44)):
            painter.ellipse(head(fx, fy)[0], 0.0045, 0.0045, mix(identity.skin, (120, 60, 30), 0.55))
    _draw_beard(painter, head, identity, state)
    _draw_nose(painter, head, identity, shade, light)
    _draw_mouth(painter, head, identity, state)
    for side in (-1.0, 1.0):
        _draw_eye(painter, head, identity, state, side)
    _draw_glasses(painter, head, identity)


def _draw_eye(painter: Painter, head: HeadFrame, identity: Identity, state: FaceState, side: float) -> None:
    x, upper, lower = eye_curves(identity, state, side)
    loop = np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]])
    lid = mix(identity.skin, (110, 50, 60), 0.28 if identity.look is None else 0.16)
    crease = np.minimum(upper, upper.min() + 0.05) - 0.07
    if identity.look is not None:  # follows the eyeball
        crease = np.minimum(upper, upper.min() + 0.13) - 0.075 * (1 - np.linspace(-1, 1, len(x)) ** 4)
    painter.fill(head(loop[0], np.concatenate([crease, lower[::-1]])), lid)
    painter.fill(head(*loop), WHITE)
    if state.blink < 0.9:
        center = side * 0.435 * identity.eye_gap + 0.075 * state.gaze[0], 0.0 + 0.06 * state.gaze[1]
        for radius, color, dx in (
            (0.178, mix(identity.iris, DARK, 0.45), 0),
            (0.15, identity.iris, 0),
            (0.085, (24, 18, 22), 0),
        ):
            angle = np.linspace(0, 2 * np.pi, 22)
            ix, iy = center[0] + dx + radius * np.cos(angle), center[1] + radius * np.sin(angle)
            painter.fill(head(ix, np.clip(iy, np.interp(ix, x, upper), np.interp(ix, x, lower))), color)
        if identity.look is not None:
            _draw_depth_of_eye(painter, head, identity, center, x, upper, lower)
        if state.blink < 0.4:
            painter.ellipse(head(center[0] - 0.06, center[1] - 0.075)[0], 0.0095, 0.0095, (255, 255, 255))
    weight = 0.017 if identity.lashes else 0.012
    painter.stroke(head(x, upper), weight, DARK)
    if identity.lashes:
        tip = side
        end = 0 if side < 0 else -1
        painter.stroke(
            head(np.array([x[end], x[end] + 0.09 * tip]), np.array([upper[end], upper[end] - 0.07])),
            0.012,
            DARK,
        )
    bx, by = brow_curve(identity, state, side)
    thick = 0.055 * identity.brow_weight * (1 - 0.55 * np.abs(np.linspace(-1, 1, len(bx))) ** 2)
    color = mix(identity.hair, (40, 30, 30), 0.35)
    painter.fill(
        head(np.concatenate([bx, bx[::-1]]), np.concatenate([by - thick, (by + thick)[::-1]])), color
    )


def _draw_depth_of_eye(
    painter: Painter,
    head: HeadFrame,
    identity: Identity,
    center: tuple[float, float],
    x: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
) -> None:
    """Light that falls through the iris, and the shadow of the upper lid."""
    angle = np.linspace(0.1, np.pi - 0.1, 12)
    ix = center[0] + np.r_[0.138 * np.cos(angle), 0.095 * np.cos(angle[::-1])]
    iy = center[1] + np.r_[0.138 * np.sin(angle), 0.095 * np.sin(angle[::-1])]
    inside = np.clip(iy, np.interp(ix, x, upper), np.interp(ix, x, lower))
    painter.fill(head(ix, inside), mix(identity.iris, (255, 255, 235), 0.42), 0.75)
    for depth in (0.085, 0.05):
        shadow = np.minimum(upper + depth, lower)
        painter.fill(head(np.r_[x, x[::-1]], np.r_[upper, shadow[::-1]]), (40, 26, 44), 0.22)


def _draw_nose(painter: Painter, head: HeadFrame, identity: Identity, shade: tuple, light: tuple) -> None:
    size = identity.nose_size
    tip = np.array(
        [[-0.13, 0.40], [-0.06, 0.33], [0.06, 0.33], [0.13, 0.40], [0.07, 0.47], [-0.07, 0.47]]
    ) * [size, 1]
    loop = smooth_loop(tip)
    if identity.look is not None:  # its form is in the relief; there remain the nostrils
        for side in (-1, 1):
            painter.ellipse(
                head(side * 0.075 * size, 0.475, 0.98)[0], 0.0085, 0.0048, mix(shade, (60, 16, 20), 0.5)
            )
        return
    painter.fill(head(loop[:, 0], loop[:, 1] + 0.02, 1.02), shade)
    painter.fill(head(loop[:, 0] * 0.85, loop[:, 1] - 0.02, 1.14), mix(identity.skin, light, 0.5))


def _draw_mouth(painter: Painter, head: HeadFrame, identity: Identity, state: FaceState) -> None:
    mouth = mouth_curves(identity, state)
    x, back = mouth.x, mouth.x[::-1]
    outer = head(np.concatenate([x, back]), np.concatenate([mouth.outer_top, mouth.outer_bottom[::-1]]))
    painter.fill(outer, identity.lip)
    if identity.look is not None:
        _draw_form_of_lips(painter, head, identity, mouth)
    gap = (mouth.inner_bottom - mouth.inner_top).max()
    if gap > 0.035:
        painter.fill(
            head(np.concatenate([x, back]), np.concatenate([mouth.inner_top, mouth.inner_bottom[::-1]])),
            MOUTH_INSIDE,
        )
        inner = 0.86 * x
        top, bottom = np.interp(inner, x, mouth.inner_top), np.interp(inner, x, mouth.inner_bottom)
        tongue = np.clip(
            mouth.inner_bottom.max() - 0.42 * gap + 0.9 * (inner / (0.9 * x.max())) ** 2 * gap, top, bottom
        )
        painter.fill(
            head(np.concatenate([inner, inner[::-1]]), np.concatenate([tongue, bottom[::-1]])), (206, 92, 98)
        )
        teeth = np.minimum(top + min(0.105, 0.5 * gap), bottom)
        painter.fill(head(np.concatenate([inner, inner[::-1]]), np.concatenate([top, teeth[::-1]])), WHITE)
    else:
        painter.stroke(
            head(x, (mouth.inner_top + mouth.inner_bottom) / 2), 0.011, mix(identity.lip, (60, 10, 25), 0.6)
        )


def _draw_form_of_lips(painter: Painter, head: HeadFrame, identity: Identity, mouth: Mouth) -> None:
    """The upper lip is turned from the light; the lower one shines in its middle."""
    x, inner = mouth.x, slice(5, -5)
    upper = head(np.r_[x, x[::-1]], np.r_[mouth.outer_top, mouth.inner_top[::-1]])
    painter.fill(upper, mix(identity.lip, (70, 10, 30), 0.7), 0.28)
    low, thick = mouth.inner_bottom[inner], (mouth.outer_bottom - mouth.inner_bottom)[inner]
    band = np.r_[low + 0.30 * thick, (low + 0.62 * thick)[::-1]]
    painter.fill(head(0.8 * np.r_[x[inner], x[inner][::-1]], band), (255, 232, 226), 0.30)


def _draw_beard(painter: Painter, head: HeadFrame, identity: Identity, state: FaceState) -> None:
    if identity.beard == "none":
        return
    color = mix(identity.hair, identity.skin, 0.15)
    x, y = face_outline(identity, state.mouth_open)
    if identity.beard in ("stubble", "full"):
        keep = y > (0.30 if identity.look is None else 0.10)
        bx, by = x[keep], y[keep]
        inner_y = np.clip(0.62 - 0.28 * np.abs(bx) + 0.0 * by, 0.30, 0.6)
        if identity.look is not None:  # cheeks stay free
            inner_y = 0.90 - 0.62 * np.clip((np.abs(bx) - 0.42) / 0.5, 0, 1) ** 1.6
        grow = 1.03 if identity.beard == "full" else 1.0
        loop = head(
            np.concatenate([bx * grow, bx[::-1] * 0.86]),
            np.concatenate([by + (grow - 1) * 2, inner_y[::-1]]),
            0.05,
        )
        stubble = 0.35 if identity.look is None else 0.2
        painter.fill(loop, color, 1.0 if identity.beard == "full" else stubble)
    if identity.beard in ("moustache", "full"):
        corners = np.array(
            [
                [-0.34, 0.66],
                [-0.2, 0.56],
                [0.0, 0.55],
                [0.2, 0.56],
                [0.34, 0.66],
                [0.17, 0.65],
                [0, 0.62],
                [-0.17, 0.65],
            ]
        )
        loop = smooth_loop(corners)
        painter.fill(head(loop[:, 0], loop[:, 1] - 0.3 * 0.2 * state.mouth_open), color)
    if identity.beard == "goatee":
        drop = 0.30 * state.mouth_open
        loop = smooth_loop(
            np.array([[-0.2, 0.93], [0, 0.90], [0.2, 0.93], [0.17, 1.13], [0, 1.22], [-0.17, 1.13]])
        )
        painter.fill(head(loop[:, 0], loop[:, 1] + drop * 0.6), color)


def _draw_glasses(painter: Painter, head: HeadFrame, identity: Identity) -> None:
    if identity.glasses == "none":
        return
    color = mix(identity.cloth_accent, (30, 30, 40), 0.75)
    angle = np.linspace(0, 2 * np.pi, 33)
    power = 1.0 if identity.glasses == "round" else 0.5
    cx = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    cy = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    for side in (-1.0, 1.0):
        painter.stroke(head(side * 0.45 + 0.36 * cx, 0.02 + 0.33 * cy, 1.02), 0.012, color)
        painter.stroke(
            head(np.array([side * 0.81, side * 1.0]), np.array([0.0, -0.02]), np.array([0.75, 0.1])),
            0.011,
            color,
        )
    painter.stroke(head(np.array([-0.09, 0.09]), np.array([0.0, 0.0]), 1.05), 0.012, color)
