"""How light falls on the parts of a person: fields for the lamp, and the relief of a face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hallo4.world.framing import View
from hallo4.world.identity import Identity
from hallo4.world.lamp import Field, Light, Shadow, vignette
from hallo4.world.look import Look
from hallo4.world.rig import Body, HeadFrame

Cloth = Callable[..., np.ndarray]

_CELL = 1 / 48
_REACH = 1.9
"""The relief is kept for face coordinates from -1.9 to 1.9, in cells of 1/48 half face widths."""
_AXIS = np.arange(-_REACH, _REACH + 1e-6, _CELL, dtype=np.float32)


@dataclass(frozen=True)
class Surface:
    """What of a person's light does not change in a clip. `normals` [n, n, 3] of the face and `strands`
    [n, n] of the hair over face coordinates, `mottle` [n, n]: the unevenness of skin. `vignette` [H, W]."""

    look: Look
    normals: np.ndarray
    strands: np.ndarray
    mottle: np.ndarray
    cloth: Cloth
    vignette: np.ndarray


def surface_of(identity: Identity, view: View) -> Surface:
    """The relief of this person's face and hair."""
    look = identity.look
    assert look is not None
    rng = np.random.default_rng(look.seed)
    x, y = _AXIS[None, :], _AXIS[:, None]
    normals = _face_normals(identity, x, y)
    strands, mottle = _strands(identity, rng, x, y).astype(np.float32), _mottle(rng, len(_AXIS))
    return Surface(look, normals, strands, mottle, cloth_of(identity), vignette(view))


def _face_normals(identity: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An ellipsoid with brows, sockets, cheekbones, a nose, lips and a chin."""
    size, gap = identity.nose_size, 0.435 * identity.eye_gap
    nose = 0.17 * _bump(x, y, 0, 0.39, 0.12 * size, 0.11) + 0.085 * _bump(x, y, 0, 0.10, 0.10, 0.26)
    nose += sum(0.045 * _bump(x, y, side * 0.14 * size, 0.43, 0.07, 0.06) for side in (-1, 1))
    height = nose - 0.05 * _bump(x, y, 0, 0.60, 0.05, 0.06) + 0.08 * _bump(x, y, 0, 1.04, 0.26, 0.14)
    height += 0.08 * _bump(x, y, 0, 0.76, 0.30, 0.11) - 0.06 * _bump(x, y, 0, 0.92, 0.26, 0.05)
    for side in (-1, 1):
        height = height - 0.10 * _bump(x, y, side * gap, -0.02, 0.27, 0.20)
        height = height + 0.07 * _bump(x, y, side * 0.45, -0.42, 0.30, 0.10)
        height = height + 0.075 * _bump(x, y, side * 0.58, 0.36, 0.24, 0.18)
        height = height - 0.05 * _bump(x, y, side * 0.36, 0.62, 0.06, 0.16)
    fall, across = np.gradient(height, _CELL)
    inside = np.sqrt(np.maximum(0.03, 1 - (x / 1.12) ** 2 - (y / 1.45) ** 2))
    toward_x, toward_y = 0.95 * x / 1.12**2 - across * inside, 0.95 * y / 1.45**2 - fall * inside
    normals = np.stack(np.broadcast_arrays(toward_x, toward_y, inside), -1)
    return (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)


def _bump(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, wide: float, high: float) -> np.ndarray:
    return np.exp(-0.5 * (((x - at_x) / wide) ** 2 + ((y - at_y) / high) ** 2))


def _strands(identity: Identity, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Light and dark along the way hair is combed, about zero; curls where it curls, folds of a scarf."""
    style, parting = identity.hair_style, identity.look.parting
    if style in ("curly", "afro"):
        return 0.16 * _clouds(rng, x.size, 0.17) + 0.10 * _clouds(rng, x.size, 0.08)
    if style in ("buzz", "bald"):
        return 0.10 * _clouds(rng, x.size, 0.045)
    # Hair fans out from a point above the crown, at the parting; it turns at the sides of the head.
    if style in ("bun", "ponytail", "quiff"):
        fan = np.arctan2(x - 0.6 * parting, 1.75 + y) * 1.2
    else:
        fan = np.sign(x - parting) * np.abs(x - parting) ** 0.85 / (0.9 + 0.55 * (y + 1.5))
    if style == "scarf":
        drape = np.arctan2(x - 0.3 * parting, 1.9 + y) + 0.10 * np.sin(2.5 * y)
        return 0.24 * np.interp(drape, *_noise(rng, 0.11)) + 0.12 * np.interp(drape, *_noise(rng, 0.05))
    fine = np.interp(fan, *_noise(rng, 0.022)) + np.interp(fan, *_noise(rng, 0.05))
    broad = np.interp(fan + 0.05 * np.sin(3 * y), *_noise(rng, 0.16))
    return (0.085 * fine + 0.13 * broad).astype(np.float32)


def _noise(rng: np.random.Generator, cell: float) -> tuple[np.ndarray, np.ndarray]:
    places = np.arange(-6, 6, cell)
    return places, rng.uniform(-1, 1, len(places))


def _clouds(rng: np.random.Generator, n: int, cell: float) -> np.ndarray:
    """Smooth noise [n, n] in about [-1, 1] with cells of that size in face coordinates."""
    from PIL import Image

    coarse = max(4, round(2 * _REACH / cell))
    values = rng.uniform(-1, 1, (coarse, coarse)).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((n, n), Image.Resampling.BICUBIC))


def _mottle(rng: np.random.Generator, n: int) -> np.ndarray:
    return (0.018 * _clouds(rng, n, 0.4) + 0.012 * _clouds(rng, n, 0.1)).astype(np.float32)


# ---- fields


def head_fields(surface: Surface, head: HeadFrame) -> dict[str, Field]:
    """Fields of `face`, `front_hair` and `back_hair` of a head in this place and turn."""
    rotation = head.rotation
    third = np.cross(rotation[0], rotation[1])
    key = (np.concatenate([rotation, third[None]]).T @ np.array(surface.look.key)).astype(np.float32)
    toward = surface.normals @ key
    half = key + np.concatenate([rotation[:, 2], third[2:]])
    shine = np.maximum(surface.normals @ (half / np.linalg.norm(half)).astype(np.float32), 0)
    for _ in range(4):
        shine *= shine
    skin = _soft(toward) + np.float32(0.16) * shine + surface.mottle
    # Hair is a rounder, rougher shell; a band of shine lies where the shell turns to the light.
    crown = np.clip(toward, 0, 1)
    turned = _AXIS - key[0]
    band = np.exp(-30 * (_AXIS[:, None] + 1.0 + np.float32(0.12) * np.cos(2.2 * turned)) ** 2)
    band *= np.clip(1.1 - np.abs(turned), 0, 1) * (0.22 + 1.6 * surface.strands)
    front = 0.20 + 0.72 * crown + surface.strands + band
    back = 0.20 + 0.25 * np.clip(_AXIS * key[0] * 0.8 + 0.6, 0, 1) + 0.9 * surface.strands
    back = np.ascontiguousarray(np.broadcast_to(back, front.shape))
    return {
        "face": _on_head(head, skin, 0.95),
        "front_hair": _on_head(head, front, 0.95),
        "back_hair": _on_head(head, back, 0.0),
    }


def _soft(toward: np.ndarray) -> np.ndarray:
    """Brightness by the cosine to the light: skin scatters light round the edge of its shadow."""
    return 0.06 + 0.94 * np.clip((toward + 0.42) / 1.28, 0, 1)


def _on_head(head: HeadFrame, texture: np.ndarray, depth: float) -> Field:
    """A texture over face coordinates, seen on a head: pixels are traced back to its surface."""
    inverse = np.linalg.inv(head.rotation[:, :2]).astype(np.float32)
    lean = (inverse @ head.rotation[:, 2]).astype(np.float32)
    last = texture.shape[0] - 1

    def field(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx = (x - np.float32(head.center[0])) / np.float32(head.radius)
        dy = (y - np.float32(head.center[1])) / np.float32(head.radius)
        flat_x, flat_y = inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy
        face_x, face_y = flat_x, flat_y
        if depth:
            for _ in range(2):  # the surface's depth is found where the pixel was last thought to lie
                z = depth * np.sqrt(np.maximum(0.0, 1 - (face_x / 1.12) ** 2 - (face_y / 1.45) ** 2))
                face_x, face_y = flat_x - lean[0] * z, flat_y - lean[1] * z
        # Between the cells: what is nearest would jump as the head moves.
        column = np.clip((face_x + np.float32(_REACH)) * np.float32(1 / _CELL), 0, last - 0.01)
        row = np.clip((face_y + np.float32(_REACH)) * np.float32(1 / _CELL), 0, last - 0.01)
        left, top = column.astype(np.int32), row.astype(np.int32)
        column -= left
        row -= top
        corner = top * (last + 1) + left
        cells = texture.ravel()
        upper = cells[corner]
        upper += (cells[corner + 1] - upper) * column
        corner += last + 1
        lower = cells[corner]
        lower += (cells[corner + 1] - lower) * column
        lower -= upper
        lower *= row
        upper += lower
        return upper

    return field


def limb_field(look: Look, start: np.ndarray, end: np.ndarray, radius: float, cloth: Cloth | None) -> Field:
    """A round limb, with folds across where it is clothed."""
    along = np.asarray(end) - start
    length = max(float(np.linalg.norm(along)), 1e-6)
    ux, uy = (along / length).tolist()
    across_key = float(-uy * look.key[0] + ux * look.key[1])

    def field(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
        s = ux * dx + uy * dy
        n = np.clip((-uy * dx + ux * dy) * np.float32(1 / radius), -1, 1)
        level = 0.12 + 0.95 * np.clip(n * across_key + np.sqrt(1.001 - n * n) * look.key[2], 0, 1)
        return level if cloth is None else level + cloth(s, n * radius, near=s - length * 0.5)

    return field


def cloth_of(identity: Identity) -> Cloth:
    """Folds and weave: (s, n) along and across a piece of cloth -> what they add to its brightness."""
    look = identity.look
    rng = np.random.default_rng([look.seed, 5])
    a, b, c = rng.uniform(0, 2 * np.pi, 3).tolist()
    pattern = "none" if identity.clothes == "stripes" else look.pattern

    def cloth(s: np.ndarray, n: np.ndarray, near: np.ndarray | float = 1.0) -> np.ndarray:
        folds = np.sin(70 * s + 22 * n + a + 1.8 * np.sin(24 * n + 9 * s + b))
        folds = np.exp(np.abs(folds) * -4.0) * (0.6 + 0.4 * np.sin(31 * n - 17 * s + c))
        level = -0.13 * folds * np.exp(np.square(near) * (-1 / 0.13**2))
        return level + weave(pattern, s, n)

    return cloth


def weave(pattern: str, s: np.ndarray, n: np.ndarray) -> np.ndarray | float:
    """The pattern of a cloth, as light and dark."""
    if pattern == "knit":
        return 0.07 * np.sin(165 * n) * np.sin(165 * s + 2.0 * np.abs(np.sin(82 * n)))
    if pattern == "stripes":
        return 0.16 * np.clip(3 * np.sin(120 * s), -1, 1)
    if pattern == "check":
        return 0.09 * (np.clip(3 * np.sin(95 * s), -1, 1) + np.clip(3 * np.sin(95 * n), -1, 1))
    if pattern == "dots":
        return 0.22 * np.clip(4 * (np.sin(105 * s) * np.sin(105 * n) - 0.55), 0, 1)
    if pattern == "twill":
        return 0.05 * np.sin(210 * (s + n))
    return 0.0


def torso_field(look: Look, neck: np.ndarray, half: float, cloth: Cloth) -> Field:
    """A chest: round to the sides, lit from above, folds from the armpits and the hem."""

    def field(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u = np.clip((x - np.float32(neck[0])) * np.float32(1 / (half * 1.25)), -1, 1)
        v = y - np.float32(neck[1])
        level = 0.14 + 0.92 * np.clip(u * look.key[0] + np.sqrt(1.001 - u * u) * (look.key[2] + 0.12), 0, 1)
        level = level - 0.55 * np.clip(v - 0.12, 0, 0.45)
        sides = 0.30 - np.minimum(np.abs(np.abs(u) - 0.62) * 0.42, 0.3)
        return level + cloth(v, x - np.float32(neck[0]), near=0.24 - sides)

    return field


def even_field(level: float) -> Field:
    """The same brightness everywhere."""
    return lambda x, y: np.full((len(y), len(x)), level, np.float32)


class Lights:
    """How each part of a person is lit in one frame."""

    def __init__(self, surface: Surface, head: HeadFrame, limbs: Body) -> None:
        self._surface = surface
        fields, look = head_fields(surface, head), surface.look
        half = (limbs.left_shoulder[0] - limbs.right_shoulder[0]) / 2
        self.back_hair = Light(fields["back_hair"])
        self.torso = Light(torso_field(look, limbs.neck, half, surface.cloth))
        self.neck = Light(limb_field(look, limbs.neck - (0, 0.1), limbs.neck, 0.10, None))
        self.face = Light(fields["face"], _shadow(look, 0.075, 0.022, 0.72))
        self.front_hair = Light(fields["front_hair"], _shadow(look, 0.020, 0.010, 0.5))
        self.hand = Light(even_field(0.90), _shadow(look, 0.022, 0.012, 0.6))

    def limb(self, start: np.ndarray, end: np.ndarray, radius: float, casts: bool = False) -> Light:
        """A sleeve from start to end."""
        look = self._surface.look
        field = limb_field(look, start, end, radius, self._surface.cloth)
        return Light(field, _shadow(look, 0.02, 0.014, 0.5) if casts else None)


def _shadow(look: Look, distance: float, blur: float, strength: float) -> Shadow:
    """Away from the key light."""
    away = -np.array(look.key[:2]) / look.key[2] * distance
    return Shadow((float(away[0]), float(away[1])), blur, strength)
