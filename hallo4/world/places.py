"""Places behind a person of the lit world: rooms, windows, lights out of focus, gardens, skies, walls.

Painted once a clip, small and blurred as by a portrait lens, and lit from the same side as the person.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hallo4.world.framing import View
from hallo4.world.identity import Color, Identity, mix

_SIDE = 192
"""Places are painted as squares of so many pixels, and enlarged: they are out of focus."""


def paint_place(identity: Identity, view: View) -> Image.Image:
    """[H, W] RGB picture of the place: a square that covers the picture, cut off evenly."""
    look = identity.look
    assert look is not None
    rng = np.random.default_rng([look.seed, 11])
    picture = _PAINTERS[look.place](rng, identity)
    light = 1 + 0.20 * np.sign(look.key[0]) * _ramp() - 0.10 * _ramp().T
    lit = np.asarray(picture, np.float32) * light[..., None]
    picture = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    side = max(view.width_px, view.height_px)
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    left, top = (side - view.width_px) // 2, (side - view.height_px) // 2
    return picture.crop((left, top, left + view.width_px, top + view.height_px))


def _ramp() -> np.ndarray:
    return np.broadcast_to(np.linspace(-1, 1, _SIDE, dtype=np.float32), (_SIDE, _SIDE))


def _gradient(top: Color, bottom: Color) -> Image.Image:
    share = np.linspace(0, 1, _SIDE)[:, None, None]
    colours = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.broadcast_to(colours, (_SIDE, _SIDE, 3)).astype(np.uint8))


def _clouds(rng: np.random.Generator, cells: tuple[int, ...], stretch: int = 1) -> np.ndarray:
    """Fractal noise [side, side] in about [-1, 1]; each octave half as strong; `stretch` times as wide."""
    total = np.zeros((_SIDE, _SIDE), np.float32)
    for octave, count in enumerate(cells):
        values = rng.uniform(-1, 1, (count, max(2, count // stretch))).astype(np.float32)
        grown = Image.fromarray(values).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        total += np.asarray(grown) * 0.5**octave
    return total / 1.5


def _toned(picture: Image.Image, level: np.ndarray) -> Image.Image:
    """The picture times 1 + level."""
    return Image.fromarray(
        np.clip(np.asarray(picture, np.float32) * (1 + level[..., None]), 0, 255).astype(np.uint8)
    )


def _blurred(picture: Image.Image, share: float) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(share * _SIDE))


def _box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, ...]:
    return x0 * _SIDE, y0 * _SIDE, x1 * _SIDE, y1 * _SIDE


def _discs(
    rng: np.random.Generator,
    picture: Image.Image,
    colours: list[Color],
    count: int,
    heights: tuple[float, float],
    strength: float,
) -> Image.Image:
    """Lights out of focus: discs with a brighter rim, added to the picture."""
    glow = Image.new("RGB", picture.size)
    for _ in range(count):
        spot = Image.new("RGB", picture.size)
        draw = ImageDraw.Draw(spot)
        x, y, r = rng.uniform(0, 1), rng.uniform(*heights), rng.uniform(0.018, 0.062)
        colour = mix((0, 0, 0), colours[int(rng.integers(len(colours)))], rng.uniform(0.35, 1.0) * strength)
        box = _box(x - r, y - r, x + r, y + r)
        draw.ellipse(box, fill=colour, outline=mix(colour, (255, 255, 255), 0.18), width=1)
        area = tuple(int(np.clip(v, 0, _SIDE)) for v in (box[0] - 2, box[1] - 2, box[2] + 3, box[3] + 3))
        if area[2] > area[0] and area[3] > area[1]:
            glow.paste(_added(glow.crop(area), spot.crop(area)), area)
    return _added(picture, _blurred(glow, 0.004))


def _added(a: Image.Image, b: Image.Image) -> Image.Image:
    total = np.asarray(a, np.uint16) + np.asarray(b, np.uint16)
    return Image.fromarray(np.minimum(total, 255).astype(np.uint8))


def _room(rng: np.random.Generator, identity: Identity) -> Image.Image:
    wall = mix(identity.wall, (120, 112, 108), 0.45)
    picture = _toned(_gradient(mix(wall, (255, 255, 255), 0.12), mix(wall, (30, 24, 30), 0.30)),
                     0.05 * _clouds(rng, (3, 6)))  # fmt: skip
    draw = ImageDraw.Draw(picture)
    wood, side = mix(wall, (84, 54, 36), 0.75), float(rng.choice((0.0, 0.62)))
    for shelf in (0.30, 0.56, 0.82):
        x = side
        while x < side + 0.37:
            width = rng.uniform(0.018, 0.045)
            book = mix(tuple(int(v) for v in rng.integers(40, 230, 3)), wall, 0.35)
            draw.rectangle(_box(x, shelf - rng.uniform(0.11, 0.19), x + width, shelf), fill=book)
            x += width + (rng.uniform(0.03, 0.08) if rng.random() < 0.15 else 0.002)
        draw.rectangle(_box(side - 0.01, shelf, side + 0.40, shelf + 0.022), fill=wood)
    other = 0.82 if side == 0.0 else 0.16
    draw.rectangle(_box(other - 0.11, 0.12, other + 0.11, 0.40), fill=mix(wall, (40, 34, 34), 0.6))
    draw.rectangle(
        _box(other - 0.09, 0.14, other + 0.09, 0.38), fill=mix(identity.wall_accent, (240, 232, 220), 0.5)
    )
    draw.ellipse(
        _box(other - 0.06, 0.22, other + 0.03, 0.34), fill=mix(identity.wall_accent, (90, 70, 90), 0.4)
    )
    picture = _blurred(picture, 0.016)
    return _lamp_glow(picture, other, 0.66, (255, 214, 150), 0.55)


def _lamp_glow(picture: Image.Image, x: float, y: float, colour: Color, strength: float) -> Image.Image:
    across, down = (_ramp() + 1) / 2 - x, (_ramp().T + 1) / 2 - y
    glow = strength * np.exp(-(across**2 + down**2) / 0.045)
    lit = np.asarray(picture, np.float32) + glow[..., None] * (np.array(colour) - 90)
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _window(rng: np.random.Generator, identity: Identity) -> Image.Image:
    wall = mix(identity.wall, (150, 140, 134), 0.4)
    picture = _toned(_gradient(wall, mix(wall, (40, 36, 44), 0.28)), 0.04 * _clouds(rng, (3, 7)))
    x = 0.60 if identity.look.key[0] > 0 else 0.02
    outside = _blurred(_garden(rng, identity), 0.012).resize((round(0.36 * _SIDE), round(0.62 * _SIDE)))
    outside = Image.blend(outside, Image.new("RGB", outside.size, (255, 252, 244)), 0.45)
    draw = ImageDraw.Draw(picture)
    frame = mix(wall, (255, 253, 248), 0.75)
    draw.rectangle(_box(x - 0.03, 0.01, x + 0.41, 0.71), fill=frame)
    picture.paste(outside, (round((x + 0.01) * _SIDE), round(0.045 * _SIDE)))
    draw.rectangle(_box(x + 0.18, 0.04, x + 0.20, 0.67), fill=frame)
    draw.rectangle(_box(x, 0.30, x + 0.38, 0.32), fill=frame)
    draw.rectangle(_box(x - 0.05, 0.69, x + 0.43, 0.725), fill=mix(frame, (90, 80, 76), 0.25))
    pot = x + rng.uniform(0.05, 0.3)
    leaf = mix((70, 120, 62), identity.wall, 0.2)
    for angle in np.linspace(-1.2, 1.2, 9) + rng.normal(0, 0.1, 9):
        tip = pot + 0.12 * np.sin(angle), 0.60 - 0.15 * np.cos(angle)
        draw.line((pot * _SIDE, 0.64 * _SIDE, tip[0] * _SIDE, tip[1] * _SIDE), fill=leaf, width=5)
    draw.rectangle(_box(pot - 0.04, 0.62, pot + 0.04, 0.69), fill=(176, 100, 70))
    return _lamp_glow(_blurred(picture, 0.013), x + 0.19, 0.3, (255, 250, 240), 0.25)


def _bokeh(rng: np.random.Generator, identity: Identity) -> Image.Image:
    base = mix(identity.wall, (22, 22, 40), 0.80)
    picture = _toned(_gradient(mix(base, (40, 44, 80), 0.3), mix(base, (70, 44, 40), 0.3)),
                     0.25 * _clouds(rng, (3, 6)))  # fmt: skip
    colours = [(255, 190, 110), (255, 224, 170), (255, 140, 90), (140, 180, 255), identity.wall_accent]
    return _discs(rng, picture, colours, 46, (0.02, 0.85), 0.6)


def _garden(rng: np.random.Generator, identity: Identity) -> Image.Image:
    picture = _gradient((188, 214, 232), (236, 236, 214))
    leaves, line = _clouds(rng, (5, 11, 23, 46)), np.asarray(_ramp().T)
    dark, light = mix((38, 74, 44), identity.wall, 0.12), mix((126, 164, 74), identity.wall, 0.12)
    share = np.clip(leaves * 0.7 + 0.5, 0, 1)[..., None]
    green = np.array(dark) * (1 - share) + np.array(light) * share
    hedge = np.clip((line + 0.25 + 0.75 * _clouds(rng, (4, 9, 18))) * 5, 0, 1)[..., None]
    mixed = np.asarray(picture, np.float32) * (1 - hedge) + green * hedge
    picture = _blurred(Image.fromarray(mixed.astype(np.uint8)), 0.018)
    return _discs(rng, picture, [(255, 246, 190), (230, 240, 180), (255, 255, 240)], 14, (0.38, 0.85), 0.28)


def _sky(rng: np.random.Generator, identity: Identity) -> Image.Image:
    low_sun = rng.random() < 0.45
    top, bottom = ((92, 116, 170), (250, 196, 150)) if low_sun else ((96, 152, 214), (206, 226, 240))
    picture = _gradient(top, bottom)
    cloud = np.clip(_clouds(rng, (4, 8, 16, 32), stretch=2) * 1.3, 0, 1)[..., None] * 0.75
    mixed = np.asarray(picture, np.float32)
    mixed = mixed + cloud * (np.array((255, 226, 208) if low_sun else (250, 250, 252)) - mixed)
    picture = Image.fromarray(mixed.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for k, (height, colour) in enumerate(
        ((0.56, (120, 134, 160)), (0.66, (92, 112, 112)), (0.78, (78, 98, 66)))
    ):
        ridge = height + 0.05 * np.interp(
            np.arange(0, 1.01, 0.02), np.linspace(0, 1, 7 + 3 * k), rng.uniform(-1, 1, 7 + 3 * k)
        )
        line = [(x * _SIDE, y * _SIDE) for x, y in zip(np.arange(0, 1.01, 0.02), ridge)]
        draw.polygon([*line, (_SIDE, _SIDE), (0, _SIDE)], fill=mix(colour, bottom, 0.25))
    picture = _blurred(picture, 0.014)
    if low_sun:
        return _lamp_glow(picture, 0.5 + 0.4 * np.sign(identity.look.key[0]), 0.5, (255, 232, 190), 0.8)
    return picture


def _paper(rng: np.random.Generator, identity: Identity) -> Image.Image:
    wall = mix(identity.wall, (96, 92, 96), 0.35)
    picture = _toned(_gradient(wall, mix(wall, (24, 22, 30), 0.42)), 0.10 * _clouds(rng, (4, 9, 20, 40)))
    return _lamp_glow(
        _blurred(picture, 0.006),
        0.5 - 0.12 * np.sign(identity.look.key[0]),
        0.42,
        mix(wall, (255, 255, 255), 0.75),
        0.55,
    )


def _curtain(rng: np.random.Generator, identity: Identity) -> Image.Image:
    cloth = mix(identity.wall, (110, 96, 100), 0.25)
    x = (_ramp() + 1) / 2
    fold = np.interp(x + 0.02 * np.sin(3 * x.T + 1), np.linspace(-0.1, 1.1, 40), rng.uniform(0.0, 1.0, 40))
    waves = np.sin(2 * np.pi * (9 * x + 0.7 * fold))
    picture = _toned(_gradient(mix(cloth, (255, 255, 255), 0.1), mix(cloth, (30, 22, 36), 0.2)),
                     0.17 * waves + 0.05 * np.sin(2 * np.pi * 23 * x + 4 * fold))  # fmt: skip
    return _blurred(picture, 0.007)


def _bricks(rng: np.random.Generator, identity: Identity) -> Image.Image:
    mortar = mix(identity.wall, (150, 144, 138), 0.6)
    brick = (
        mix(identity.wall, (150, 84, 62), 0.68)
        if rng.random() < 0.6
        else mix(identity.wall, (214, 208, 200), 0.65)
    )
    picture = Image.new("RGB", (_SIDE, _SIDE), mix(mortar, brick, 0.35))
    draw = ImageDraw.Draw(picture)
    rows, columns = 15, 7
    for row in range(rows):
        for column in range(-1, columns + 1):
            x, y = (column + 0.5 * (row % 2)) / columns, row / rows
            tone = mix(brick, (30, 20, 20) if rng.random() < 0.5 else (250, 236, 220), rng.uniform(0, 0.22))
            draw.rectangle(
                _box(x + 0.006, y + 0.006, x + 1 / columns - 0.004, y + 1 / rows - 0.004), fill=tone
            )
    return _blurred(_toned(picture, 0.10 * _clouds(rng, (5, 12, 40))), 0.007)


_PAINTERS = {
    "room": _room,
    "window": _window,
    "bokeh": _bokeh,
    "garden": _garden,
    "sky": _sky,
    "paper": _paper,
    "curtain": _curtain,
    "bricks": _bricks,
}
