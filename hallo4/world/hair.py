"""Hair: what lies behind the head and what lies in front of it."""

from __future__ import annotations

import numpy as np

from hallo4.world.identity import Identity, mix
from hallo4.world.painter import Painter, circle, smooth_loop
from hallo4.world.rig import HeadFrame

_CAP_OUTER = [
    (-1.07, 0.10),
    (-1.10, -0.45),
    (-0.88, -0.98),
    (-0.45, -1.27),
    (0.0, -1.34),
    (0.45, -1.27),
    (0.88, -0.98),
    (1.10, -0.45),
    (1.07, 0.10),
]
_HAIRLINES = {
    "short": [(0.93, -0.30), (0.70, -0.66), (0.25, -0.76), (-0.25, -0.76), (-0.70, -0.66), (-0.93, -0.30)],
    "side": [(0.95, -0.22), (0.80, -0.62), (0.30, -0.92), (-0.20, -0.74), (-0.66, -0.50), (-0.95, -0.14)],
    "bob": [
        (0.97, 0.05),
        (0.86, -0.45),
        (0.45, -0.62),
        (-0.05, -0.66),
        (-0.5, -0.62),
        (-0.86, -0.45),
        (-0.97, 0.05),
    ],
    "long": [
        (0.97, 0.10),
        (0.82, -0.40),
        (0.36, -0.78),
        (0.02, -1.02),
        (-0.34, -0.78),
        (-0.82, -0.40),
        (-0.97, 0.10),
    ],
    "bun": [(0.95, -0.25), (0.76, -0.62), (0.3, -0.84), (-0.3, -0.84), (-0.76, -0.62), (-0.95, -0.25)],
    "buzz": [(0.92, -0.40), (0.70, -0.74), (0.25, -0.86), (-0.25, -0.86), (-0.70, -0.74), (-0.92, -0.40)],
}
_LONG_FALL = {"bob": 0.95, "long": 1.85, "ponytail": 0.0}


def draw_back_hair(painter: Painter, head: HeadFrame, identity: Identity) -> None:
    """Hair behind face and shoulders."""
    style, dark = identity.hair_style, mix(identity.hair, (20, 14, 22), 0.28)
    if identity.look is not None and style not in ("bald", "buzz"):
        # Under the front hair, so that a turned head shows hair and not the place behind it.
        under = np.array([(1.0, 0.12), (0.7, 0.3), (-0.7, 0.3), (-1.0, 0.12)])
        _fill(painter, head, _spline(_CAP_OUTER, under), dark, 0.0)
    if style in ("bob", "long"):
        fall = _LONG_FALL[style]
        wide = 1.22 if style == "bob" else 1.16
        corners = np.array(
            [
                (-wide, -0.1),
                (-0.95, -1.05),
                (0, -1.36),
                (0.95, -1.05),
                (wide, -0.1),
                (wide * 1.04, fall * 0.7),
                (0.8, fall),
                (0, fall * 0.92),
                (-0.8, fall),
                (-wide * 1.04, fall * 0.7),
            ]
        )
        _fill(painter, head, smooth_loop(corners), dark, -0.45)
    elif style == "afro":
        _fill(painter, head, circle((0, -0.42), 1.5, 1.28, 40), dark, -0.4)
        for angle in np.linspace(0, 2 * np.pi, 14, endpoint=False):
            _fill(
                painter,
                head,
                circle((1.36 * np.cos(angle), -0.42 + 1.14 * np.sin(angle)), 0.26, 0.26, 14),
                dark,
                -0.4,
            )
    elif style == "curly":
        for angle in np.linspace(np.pi * 0.86, np.pi * 2.14, 13):
            _fill(
                painter,
                head,
                circle((1.08 * np.cos(angle), -0.12 + 1.1 * np.sin(angle)), 0.34, 0.34, 16),
                dark,
                -0.35,
            )
    elif style == "bun":
        _fill(painter, head, circle((0, -1.46), 0.42, 0.36), dark, -0.3)
    elif style == "ponytail":
        corners = np.array(
            [(0.72, -1.0), (1.36, -0.85), (1.62, -0.1), (1.42, 0.85), (1.2, 0.35), (1.14, -0.35)]
        )
        _fill(painter, head, smooth_loop(corners), dark, -0.6)
    elif style == "scarf":
        corners = np.array(
            [
                (-1.22, -0.1),
                (-0.95, -1.08),
                (0, -1.4),
                (0.95, -1.08),
                (1.22, -0.1),
                (1.15, 0.85),
                (0.85, 1.5),
                (0, 1.62),
                (-0.85, 1.5),
                (-1.15, 0.85),
            ]
        )
        _fill(painter, head, smooth_loop(corners), mix(identity.cloth_accent, (20, 14, 30), 0.2), -0.3)


def draw_front_hair(painter: Painter, head: HeadFrame, identity: Identity) -> None:
    """Hair over forehead and temples."""
    style, hair = identity.hair_style, identity.hair
    if style == "bald":
        return
    if style == "scarf":
        line = [
            (0.96, 0.5),
            (0.90, -0.25),
            (0.62, -0.66),
            (0.0, -0.82),
            (-0.62, -0.66),
            (-0.90, -0.25),
            (-0.96, 0.5),
        ]
        outer = [(-1.16, 0.6), (-1.2, -0.3), *_CAP_OUTER[2:-2], (1.2, -0.3), (1.16, 0.6)]
        _fill(painter, head, _spline(outer, line), identity.cloth_accent, 0.1)
        return
    key = {"curly": "short", "afro": "short", "quiff": "bun", "ponytail": "side"}.get(style, style)
    color = mix(hair, identity.skin, 0.45) if style == "buzz" else hair
    outer = [(x, y * (0.93 if style == "buzz" else 1.0)) for x, y in _CAP_OUTER]
    if style == "buzz":
        outer = [(x * 0.95, y) for x, y in outer]
    _fill(painter, head, _spline(outer, _HAIRLINES[key]), color, 0.12)
    if style in ("curly", "afro"):
        for x, y in (
            (-0.82, -0.58),
            (-0.5, -0.86),
            (-0.12, -0.97),
            (0.28, -0.95),
            (0.64, -0.78),
            (0.9, -0.45),
            (-0.98, -0.2),
        ):
            _fill(painter, head, circle((x, y), 0.27, 0.25, 14), hair, 0.15)
    if style == "quiff":
        corners = np.array(
            [
                (-0.72, -0.82),
                (-0.62, -1.42),
                (0.0, -1.62),
                (0.7, -1.5),
                (0.86, -1.0),
                (0.4, -0.98),
                (-0.1, -0.86),
            ]
        )
        _fill(painter, head, smooth_loop(corners), mix(hair, (255, 255, 255), 0.08), 0.2)
    if style not in ("buzz", "afro", "curly") and identity.look is None:
        shine = np.array([(-0.62, -0.98), (-0.3, -1.14), (0.05, -1.18), (-0.28, -1.06), (-0.56, -0.9)])
        _fill(painter, head, smooth_loop(shine), mix(hair, (255, 255, 255), 0.28), 0.2)


def _spline(outer: list[tuple[float, float]], inner: list[tuple[float, float]]) -> np.ndarray:
    """Smooth outer and inner arcs that meet in corners."""
    return np.concatenate([_open_curve(np.array(outer)), _open_curve(np.array(inner))])


def _open_curve(points: np.ndarray, n: int = 5) -> np.ndarray:
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = (ends[i : len(ends) - 3 + i, None] for i in range(4))
    s = (np.arange(n) / n)[None, :, None]
    curve = 0.5 * (
        2 * p1 + (p2 - p0) * s + (2 * p0 - 5 * p1 + 4 * p2 - p3) * s**2 + (3 * p1 - p0 - 3 * p2 + p3) * s**3
    )
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def _fill(painter: Painter, head: HeadFrame, points: np.ndarray, color: tuple, z: float) -> None:
    painter.fill(head(points[:, 0], points[:, 1], z), color)
