"""Drawing of everything but the head: the room behind, the clothed torso, arms and hands; and the whole
picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from hallo4.world.framing import View
from hallo4.world.hair import draw_back_hair, draw_front_hair
from hallo4.world.hand_joints import Hand
from hallo4.world.hand_painting import draw_jointed_hand, draw_wrist
from hallo4.world.identity import Color, Identity, mix
from hallo4.world.lamp import Lamp
from hallo4.world.painter import Painter, capsule, smooth_loop
from hallo4.world.performance import Performance
from hallo4.world.places import paint_place
from hallo4.world.portrait import FaceState, draw_face
from hallo4.world.rig import FACE_RADIUS, Body, HeadFrame, body, head_frame
from hallo4.world.shading import Lights, Surface

SUPERSAMPLING = 4
LIT_SUPERSAMPLING = 3
"""Shading hides the steps of edges that flat colours would show."""


def face_state(performance: Performance, t: int) -> FaceState:
    """The face's part of frame `t`."""
    p = performance
    return FaceState(
        float(p.mouth_open[t]),
        float(p.mouth_wide[t]),
        float(p.blink[t]),
        float(p.brow[t]),
        float(p.smile[t]),
        p.gaze[t],
    )


def draw_frame(
    identity: Identity,
    performance: Performance,
    t: int,
    view: View,
    backdrop: Image.Image,
    surface: Surface | None = None,
) -> np.ndarray:
    """Frame `t`, [H, W, 3] uint8; `backdrop` comes from `draw_backdrop` once a clip, and `surface`, of
    a person of the lit world, likewise from `surface_of`."""
    head, limbs = head_frame(identity, performance, t), body(identity, performance, t)
    lamp = None if surface is None else Lamp(surface.look, view, surface.vignette)
    painter = Painter(view, backdrop, SUPERSAMPLING if lamp is None else LIT_SUPERSAMPLING, lamp)
    lights = None if surface is None else Lights(surface, head, limbs)
    painter.lay(lights and lights.back_hair)
    draw_back_hair(painter, head, identity)
    painter.lay(lights and lights.torso)
    _draw_legs(painter, limbs, identity)
    painter.lay(lights and lights.neck)
    _draw_neck(painter, head, limbs, identity)
    painter.lay(lights and lights.torso)
    _draw_torso(painter, limbs, identity, lights)
    painter.lay(lights and lights.face)
    draw_face(painter, head, identity, face_state(performance, t))
    painter.lay(lights and lights.front_hair)
    draw_front_hair(painter, head, identity)
    for shoulder, elbow, hand in (
        (limbs.right_shoulder, limbs.right_elbow, limbs.right_hand),
        (limbs.left_shoulder, limbs.left_elbow, limbs.left_hand),
    ):
        _draw_arm(painter, shoulder, elbow, hand, identity, lights)
    return painter.picture()


def draw_backdrop(identity: Identity, view: View) -> Image.Image:
    """The room behind the person, at the painter's drawing size: a square that covers the picture, cut off
    evenly."""
    if identity.look is not None:
        place, times = paint_place(identity, view), LIT_SUPERSAMPLING
        return place.resize((place.width * times, place.height * times), Image.Resampling.NEAREST)
    width, height = view.width_px * SUPERSAMPLING, view.height_px * SUPERSAMPLING
    size = max(width, height)
    cut_x, cut_y = (width - size) / 2, (height - size) / 2
    rng = np.random.default_rng(identity.layout_seed)
    down = np.linspace(0, 1, height)[:, None, None]
    across = np.linspace(-1, 1, width)[None, :, None]
    top, bottom = (
        np.array(mix(identity.wall, (255, 255, 255), 0.22)),
        np.array(mix(identity.wall, (30, 30, 60), 0.18)),
    )
    wall = top + (bottom - top) * down - 14 * across**2
    image = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8), "RGB")
    draw = ImageDraw.Draw(image)
    accent = identity.wall_accent

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, ...]:
        return x0 * size + cut_x, y0 * size + cut_y, x1 * size + cut_x, y1 * size + cut_y

    if identity.background == "sunset":
        draw.ellipse(box(0.12, 0.08, 0.88, 0.84), fill=accent)
    elif identity.background == "window":
        x = rng.choice((0.04, 0.66))
        draw.rectangle(box(x, 0.08, x + 0.30, 0.52), fill=mix(identity.wall, (255, 255, 255), 0.6))
        draw.rectangle(box(x + 0.025, 0.105, x + 0.275, 0.495), fill=mix(accent, (190, 224, 250), 0.6))
        draw.rectangle(box(x + 0.14, 0.10, x + 0.16, 0.50), fill=mix(identity.wall, (255, 255, 255), 0.6))
    elif identity.background == "dots":
        for row in range(5):
            for column in range(5):
                cx, cy = 0.1 + 0.2 * column + 0.1 * (row % 2), 0.08 + 0.2 * row
                draw.ellipse(box(cx - 0.028, cy - 0.028, cx + 0.028, cy + 0.028), fill=accent)
    elif identity.background == "hills":
        draw.ellipse(box(-0.5, 0.52, 0.75, 1.6), fill=accent)
        draw.ellipse(box(0.35, 0.60, 1.5, 1.7), fill=mix(accent, identity.wall, 0.4))
    elif identity.background == "shelf":
        draw.rectangle(box(0, 0.34, 1, 0.365), fill=mix(identity.wall, (90, 60, 40), 0.5))
        x = 0.02
        while x < 0.97:
            width, height = rng.uniform(0.05, 0.09), rng.uniform(0.12, 0.2)
            color = mix(accent, tuple(rng.integers(60, 230, 3)), 0.5)
            draw.rectangle(box(x, 0.34 - height, x + width, 0.34), fill=color)
            x += width + 0.006
    return image


def _draw_legs(painter: Painter, limbs: Body, identity: Identity) -> None:
    """Trousers from the waist down, where the picture shows them; the hem of the torso lies over them."""
    waist = (limbs.right_hip[1] + limbs.left_hip[1]) / 2 - 0.1
    if waist > painter.view.bottom:
        return
    cloth = mix(identity.cloth_accent, (36, 40, 66), 0.72)
    (right, y), (left, _) = limbs.right_hip, limbs.left_hip
    middle = (right + left) / 2
    for side, hip in ((-1, right), (1, left)):
        outline = np.array(
            [
                (middle, waist),
                (hip + side * 0.045, waist),
                (hip + side * 0.085, y + 0.10),
                (hip + side * 0.075, y + 0.75),
                (middle + side * 0.02, y + 0.75),
                (middle, y + 0.16),
            ]
        )
        painter.fill(outline, cloth)
    crease = np.array([(middle, y + 0.16), (middle, y + 0.7)])
    painter.stroke(crease, 0.012, mix(cloth, (10, 8, 24), 0.5))


def _draw_neck(painter: Painter, head: HeadFrame, limbs: Body, identity: Identity) -> None:
    chin = head(0.0, 0.9, 0.0)[0]
    painter.fill(capsule(chin, limbs.neck + (0, 0.03), 0.085, 0.085), _neck_shade(identity))


def _draw_torso(painter: Painter, limbs: Body, identity: Identity, lights: Lights | None) -> None:
    cloth, accent = identity.cloth, identity.cloth_accent
    rs, ls, neck = limbs.right_shoulder, limbs.left_shoulder, limbs.neck
    y = max(rs[1], ls[1])
    outline = np.array(
        [
            neck + (-0.09, 0.0),
            rs + (0.07, -0.045),
            rs + (-0.028, 0.0),
            (rs[0] - 0.02, y + 0.15),
            (rs[0] + 0.03, y + 0.35),
            (ls[0] - 0.03, y + 0.35),
            (ls[0] + 0.02, y + 0.15),
            ls + (0.028, 0.0),
            ls + (-0.07, -0.045),
            neck + (0.09, 0.0),
        ]
    )
    painter.fill(smooth_loop(outline), cloth)
    if identity.clothes == "stripes":
        for k in range(3):
            at = y + 0.02 + 0.055 * k
            painter.stroke(np.array([(rs[0] - 0.005, at), (ls[0] + 0.005, at)]), 0.022, accent)
    _draw_neckline(painter, neck, identity, lights)


def _draw_neckline(painter: Painter, neck: np.ndarray, identity: Identity, lights: Lights | None) -> None:
    """What makes the garment: scoop, collar, hood, roll neck or bib."""
    style, cloth, accent = identity.clothes, identity.cloth, identity.cloth_accent
    shade = mix(cloth, (20, 16, 40), 0.2)
    scoop = {"vneck": 0.13, "tee": 0.055, "stripes": 0.05, "dungarees": 0.05}.get(style, 0.0)
    if scoop:
        rim = np.array(
            [
                neck + (-0.094, -0.012),
                neck + (-0.06, scoop * 0.55),
                neck + (0, scoop),
                neck + (0.06, scoop * 0.55),
                neck + (0.094, -0.012),
            ]
        )
        painter.stroke(rim, 0.02, shade if style != "stripes" else accent)
        painter.lay(lights and lights.neck)
        painter.fill(rim, _neck_shade(identity))
        painter.lay(lights and lights.torso)
    if style == "collar":
        for side in (-1, 1):
            painter.fill(
                neck
                + np.array(
                    [(side * 0.10, -0.03), (side * 0.015, 0.05), (side * 0.075, 0.115), (side * 0.145, 0.02)]
                ),
                mix(cloth, (255, 255, 255), 0.5),
            )
        painter.stroke(np.array([neck + (0, 0.06), neck + (0, 0.3)]), 0.008, shade)
    elif style == "hoodie":
        painter.fill(
            smooth_loop(
                neck
                + np.array(
                    [
                        (-0.16, 0.01),
                        (-0.10, -0.05),
                        (0, -0.012),
                        (0.10, -0.05),
                        (0.16, 0.01),
                        (0.05, 0.07),
                        (-0.05, 0.07),
                    ]
                )
            ),
            shade,
        )
        for side in (-1, 1):
            painter.stroke(
                neck + np.array([(side * 0.035, 0.06), (side * 0.045, 0.16)]), 0.011, (246, 244, 238)
            )
    elif style == "turtleneck":
        painter.fill(
            capsule(neck + (-0.045, -0.025), neck + (0.045, -0.025), 0.052, 0.052),
            mix(cloth, (255, 255, 255), 0.12),
        )
    elif style == "dungarees":
        for side in (-1, 1):
            painter.stroke(np.array([neck + (side * 0.13, 0.0), neck + (side * 0.10, 0.14)]), 0.034, accent)
        painter.fill(
            np.array([neck + (-0.14, 0.13), neck + (0.14, 0.13), neck + (0.15, 0.4), neck + (-0.15, 0.4)]),
            accent,
        )


def _neck_shade(identity: Identity) -> Color:
    if identity.look is not None:  # what is darker there is shaded by the lamp
        return mix(identity.skin, (120, 50, 50), 0.08)
    return mix(identity.skin, (110, 50, 50), 0.3)


def _draw_arm(
    painter: Painter,
    shoulder: np.ndarray,
    elbow: np.ndarray,
    hand: Hand,
    identity: Identity,
    lights: Lights | None,
) -> None:
    rim = mix(identity.cloth, (16, 12, 36), 0.42 if lights is None else 0.25)
    sleeve = mix(identity.cloth, (255, 255, 255), 0.07)
    wrist = hand.joints[0]
    top = shoulder + (0, 0.02)
    painter.lay(lights and lights.limb(top, elbow, 0.058))
    painter.fill(capsule(top, elbow, 0.058, 0.056), mix(identity.cloth, (16, 12, 36), 0.12))
    reach = 0.15 if lights is None else 0.2
    if wrist[1] - reach > painter.view.bottom:
        return
    cuff = wrist + (elbow - wrist) * 0.10
    if lights is not None:
        painter.lay(lights.hand)
        draw_wrist(painter, cuff, wrist, identity)
    painter.lay(lights and lights.limb(elbow, cuff, 0.058, casts=True))
    painter.fill(capsule(elbow, cuff, 0.062, 0.046), rim)
    painter.fill(capsule(elbow, cuff, 0.054, 0.038), sleeve)
    painter.lay(lights and lights.hand)
    if lights is not None:
        draw_jointed_hand(painter, hand, identity)
    else:
        _draw_fan(painter, hand, identity)


def _draw_fan(painter: Painter, hand: Hand, identity: Identity) -> None:
    joints = hand.joints
    rim = mix(identity.skin, (80, 30, 30), 0.5)
    fingers = [joints[1 + 4 * k : 5 + 4 * k] for k in range(5)]
    knuckles = np.array([f[0] for f in fingers[1:]])
    palm = np.concatenate([joints[:1], fingers[0][:1], knuckles])
    center = palm.mean(0)
    for grow, color in ((0.007, rim), (0.0, identity.skin)):
        away = palm + (palm - center) / np.linalg.norm(palm - center, axis=1, keepdims=True) * (grow + 0.012)
        painter.fill(smooth_loop(away, 4), color)
        for k, finger in enumerate(fingers):
            thick = 0.0135 if k else 0.0150
            painter.fill(capsule(finger[0], finger[3], thick + grow, thick * 0.85 + grow, 6), color)
    for a, b in pairwise(fingers[1:]):
        root = (a[0] + b[0]) / 2
        painter.stroke(np.array([root, (a[1] + b[1]) / 2]), 0.005, rim)


__all__ = ["FACE_RADIUS", "draw_backdrop", "draw_frame", "face_state"]
