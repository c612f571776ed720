"""Who is in the picture: everything about a person, their clothes, voice and room that stays the same in a
clip."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from hallo4.world.look import DRAWN, LIT, Look, WorldName, checked_world, sample_look
from hallo4.world.speech import Voice

Color = tuple[int, int, int]

_SKINS = (
    (255, 224, 196),
    (247, 207, 172),
    (236, 188, 150),
    (214, 160, 118),
    (178, 122, 84),
    (141, 90, 60),
    (104, 66, 45),
)
_HAIRS = (
    (38, 30, 30),
    (66, 44, 34),
    (110, 70, 42),
    (160, 104, 56),
    (218, 172, 96),
    (196, 84, 40),
    (146, 146, 152),
    (232, 228, 222),
)
_FUN_HAIRS = ((78, 70, 160), (44, 120, 132), (190, 72, 116))
_IRISES = ((86, 54, 34), (120, 82, 44), (58, 110, 150), (70, 126, 88), (96, 104, 116))
HAIR_STYLES = (
    "short",
    "side",
    "bob",
    "long",
    "curly",
    "bun",
    "afro",
    "buzz",
    "bald",
    "quiff",
    "scarf",
    "ponytail",
)
CLOTHES = ("tee", "vneck", "collar", "hoodie", "turtleneck", "stripes", "dungarees")
BEARDS = ("none", "none", "none", "none", "stubble", "full", "moustache", "goatee")
GLASSES = ("none", "none", "none", "round", "square")
BACKGROUNDS = ("plain", "sunset", "window", "dots", "hills", "shelf")

_VOICE_FAMILIES = {
    "low": ("m1", "m2", "m3", "m4", "m7", "m8", "Andy", "john", "max", "ed"),
    "high": ("f1", "f2", "f3", "f4", "f5", "Annie", "linda", "steph", "belinda", "Alicia"),
}
LANGUAGES = ("en-us", "en", "de", "fr", "es", "it")


@dataclass(frozen=True)
class Identity:
    """A person. Colours are RGB 0..255; shape factors are multiples of an average face. `look`: light and
    place in the lit world; None: the person belongs to `drawn-1`."""

    skin: Color
    hair: Color
    iris: Color
    lip: Color
    cloth: Color
    cloth_accent: Color
    wall: Color
    wall_accent: Color
    hair_style: str
    clothes: str
    beard: str
    glasses: str
    background: str
    earrings: bool
    freckles: bool
    lashes: bool
    face_width: float
    face_height: float
    jaw: float
    eye_size: float
    eye_gap: float
    eye_tilt: float
    brow_weight: float
    nose_size: float
    mouth_width: float
    lip_fullness: float
    shoulder_width: float
    vigour: float
    language: str
    voice: Voice
    layout_seed: int
    look: Look | None = None

    @property
    def world(self) -> WorldName:
        """Which world the person is drawn in."""
        return DRAWN if self.look is None else LIT


def _hsv(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Color:
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return tuple(round(255 * c) for c in rgb)


def mix(a: Color, b: Color, share: float) -> Color:
    """`a` with `share` of `b` in it."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b))


def _pick(rng: np.random.Generator, options: tuple):
    return options[int(rng.integers(len(options)))]


def sample_identity(seed: int, world: WorldName = DRAWN) -> Identity:
    """The person of this seed; the same seed gives the same person on every machine, and in every world.

    InputError: there is no such world.
    """
    checked_world(world)
    rng = np.random.default_rng([seed, 0x1D])
    skin_at = rng.uniform(0, len(_SKINS) - 1)
    skin = mix(_SKINS[int(skin_at)], _SKINS[min(int(skin_at) + 1, len(_SKINS) - 1)], skin_at % 1)
    hair = (
        _pick(rng, _FUN_HAIRS)
        if rng.random() < 0.07
        else mix(_pick(rng, _HAIRS), _pick(rng, _HAIRS), rng.uniform(0, 0.25))
    )
    family = _pick(rng, ("low", "high"))
    style = _pick(rng, HAIR_STYLES)
    beard = _pick(rng, BEARDS) if family == "low" and style not in ("scarf", "bob", "ponytail") else "none"
    cloth = _hsv(rng, (0.25, 0.75), (0.35, 0.95))
    wall = _hsv(rng, (0.12, 0.45), (0.62, 0.95))
    pitch = rng.integers(25, 60) if family == "low" else rng.integers(45, 85)
    language = _pick(rng, LANGUAGES) if rng.random() < 0.5 else _pick(rng, ("en-us", "en"))
    return Identity(
        skin=skin,
        hair=hair,
        iris=_pick(rng, _IRISES),
        lip=mix(mix(skin, (196, 58, 72), rng.uniform(0.35, 0.7)), (120, 20, 40), 0.15),
        cloth=cloth,
        cloth_accent=mix(cloth, (255, 255, 255) if sum(cloth) < 380 else (40, 40, 70), 0.45),
        wall=wall,
        wall_accent=mix(wall, _hsv(rng, (0.2, 0.6), (0.5, 1.0)), 0.45),
        hair_style=style,
        clothes=_pick(rng, CLOTHES),
        beard=beard,
        glasses=_pick(rng, GLASSES),
        background=_pick(rng, BACKGROUNDS),
        earrings=bool(rng.random() < 0.25) and beard == "none",
        freckles=bool(rng.random() < 0.15),
        lashes=beard == "none" and bool(rng.random() < 0.6),
        face_width=rng.uniform(0.93, 1.06),
        face_height=rng.uniform(0.95, 1.06),
        jaw=rng.uniform(0.72, 1.0),
        eye_size=rng.uniform(0.9, 1.12),
        eye_gap=rng.uniform(0.94, 1.05),
        eye_tilt=rng.uniform(-0.10, 0.10),
        brow_weight=rng.uniform(0.7, 1.3),
        nose_size=rng.uniform(0.85, 1.2),
        mouth_width=rng.uniform(0.92, 1.1),
        lip_fullness=rng.uniform(0.8, 1.25),
        shoulder_width=rng.uniform(0.94, 1.06) * (1.04 if family == "low" else 0.96),
        vigour=rng.uniform(0.85, 1.0),
        language=language,
        voice=Voice(
            f"{language}+{_pick(rng, _VOICE_FAMILIES[family])}",
            int(rng.integers(125, 200)),
            int(pitch),
            int(rng.integers(35, 75)),
        ),
        layout_seed=int(rng.integers(1 << 30)),
        look=sample_look(seed) if world == LIT else None,
    )
