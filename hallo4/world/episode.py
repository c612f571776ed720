"""An episode: one person speaks for some seconds, with everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.errors import InputError
from hallo4.types import FPS, Audio, Skeleton
from hallo4.world.framing import HALF_FIGURE, Framing, View
from hallo4.world.identity import Identity, sample_identity
from hallo4.world.look import DRAWN, WorldName
from hallo4.world.performance import Performance, neutral_performance, paced, perform
from hallo4.world.scene import draw_backdrop, draw_frame
from hallo4.world.shading import surface_of
from hallo4.world.speech import Phoneme, Speech, monologue
from hallo4.world.truth import Truth, skeleton_of
from hallo4.world.visemes import mouth_curves, speaking_frames
from hallo4.world.words import WORDS

MIN_SIZE_PX, MAX_SIZE_PX = 64, 1024
MAX_SECONDS = 600.0
MAX_TEMPO = 8.0


@dataclass(frozen=True)
class Episode:
    """A clip of the world. T frames at 25 fps, of H x W pixels as `framing` has it.

    `portrait_u8` [H, W, 3]: the person at rest, mouth closed and eyes open: the reference image; `rest` is
    its skeleton.
    `frames_u8` [T, H, W, 3], `audio` at 22,050 Hz and exactly T frames long, `skeleton` with T frames of
    true keypoints.
    """

    seed: int
    identity: Identity
    performance: Performance
    phonemes: tuple[Phoneme, ...]
    portrait_u8: np.ndarray
    rest: Skeleton
    frames_u8: np.ndarray
    audio: Audio
    skeleton: Skeleton
    truth: Truth


def act(
    seed: int, seconds: float, tempo: float = 1.0, rho: int = 1, world: WorldName = DRAWN
) -> tuple[Identity, Speech, Performance, Truth]:
    """Everything of an episode but its pictures: who, what is said, how they move, and the truth about it.

    Head, body and hands move `tempo` times as fast as people of this world do. The performance is seen `rho`
    times a frame, as conditions of a higher rate are: rho*T values, of which every rho-th belongs to a frame.
    In another `world` the same person says the same, with other gestures.
    InputError for values out of range.
    """
    if not 0.04 <= seconds <= MAX_SECONDS:
        raise InputError(f"seconds is {seconds}; an episode lasts 0.04 to {MAX_SECONDS:.0f} s")
    if not 1.0 <= tempo <= MAX_TEMPO:
        raise InputError(f"tempo is {tempo:g}; it is 1 to {MAX_TEMPO:g}")
    if seed < 0:
        raise InputError(f"seed is {seed}; take a number that is not negative")
    frames = max(1, round(seconds * FPS))
    identity = sample_identity(seed, world)
    rng = np.random.default_rng([seed, 0xE])
    if rng.random() < 0.04:  # now and then a person just listens
        silence = Audio(np.zeros(round(frames / FPS * 22050), np.float32), 22050)
        speech = Speech(silence, (Phoneme("", 0.0, frames / FPS),))
    else:
        speech = monologue(rng, identity.voice, WORDS[identity.language], frames / FPS)
    mouth_open, mouth_wide = mouth_curves(speech.phonemes, frames, identity.vigour)
    speaking = speaking_frames(speech.phonemes, frames)
    performance = perform(rng, mouth_open, mouth_wide, speaking, world)
    p = performance
    if tempo != 1.0 or rho != 1:
        again = np.random.default_rng([seed, 0xFA57])
        performance = paced(again, performance, speaking, tempo, rho, world)
    return (
        identity,
        speech,
        performance,
        Truth(p.mouth_open, p.mouth_wide, p.blink, p.brow, p.smile, speaking),
    )


def draw_clip(
    identity: Identity, performance: Performance, span: slice, view: View
) -> tuple[np.ndarray, np.ndarray]:
    """(portrait at rest [H, W, 3], frames of `span` [T, H, W, 3]), uint8."""
    backdrop = draw_backdrop(identity, view)
    surface = None if identity.look is None else surface_of(identity, view)
    portrait = draw_frame(identity, neutral_performance(), 0, view, backdrop, surface)
    frames = range(*span.indices(len(performance)))
    return portrait, np.stack([draw_frame(identity, performance, t, view, backdrop, surface) for t in frames])


def make_episode(
    seed: int,
    seconds: float = 3.0,
    size_px: int = 128,
    tempo: float = 1.0,
    framing: Framing = HALF_FIGURE,
    world: WorldName = DRAWN,
) -> Episode:
    """The episode of this seed, its body `tempo` times as fast, on pictures of about `size_px` squared;
    deterministic. The framing changes what is seen, nothing else. Raises InputError for values out of range.
    """
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise InputError(f"size_px is {size_px}; the world draws {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels")
    view = framing.view(size_px)
    identity, speech, performance, truth = act(seed, seconds, tempo, world=world)
    portrait_u8, frames_u8 = draw_clip(identity, performance, slice(None), view)
    return Episode(
        seed=seed,
        identity=identity,
        performance=performance,
        phonemes=speech.phonemes,
        portrait_u8=portrait_u8,
        rest=skeleton_of(identity, neutral_performance(), view),
        frames_u8=frames_u8,
        audio=speech.audio,
        skeleton=skeleton_of(identity, performance, view),
        truth=truth,
    )
