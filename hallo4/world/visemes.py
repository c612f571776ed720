"""Phonemes -> mouth shape over time: `mouth_open` and `mouth_wide`, each in [0, 1].

Each phoneme has a target shape; the mouth glides between targets (coarticulation, a Gaussian of 28 ms)
except that lips which must
touch do touch. Frame t shows the mean of [t/25, (t+1)/25) seconds.
"""

from __future__ import annotations

import numpy as np

from hallo4.types import FPS
from hallo4.world.speech import Phoneme

REST = (0.0, 0.45)
"""Mouth shape of silence: closed, neither spread nor rounded."""

_STEP_S = 0.005
_GLIDE_S = 0.028

# (open, wide): how far the lips part, and how far they spread (1) or round (0).
_SHAPES: dict[str, tuple[float, float]] = {
    **dict.fromkeys("ɑaɐɒ", (1.0, 0.55)),
    **dict.fromkeys("æ", (0.9, 0.8)),
    **dict.fromkeys("ʌɜɚɝ", (0.68, 0.5)),
    **dict.fromkeys("əɘ", (0.5, 0.5)),
    **dict.fromkeys("ɛe", (0.66, 0.78)),
    **dict.fromkeys("iɪɨyᵻ", (0.36, 1.0)),
    **dict.fromkeys("ɔoø", (0.74, 0.18)),
    **dict.fromkeys("uʊʉɯ", (0.36, 0.0)),
    **dict.fromkeys("mbp", (0.0, 0.45)),
    **dict.fromkeys("fvɱβ", (0.08, 0.55)),
    **dict.fromkeys("wʍ", (0.16, 0.0)),
    **dict.fromkeys("ɹrɾʁʀɻ", (0.28, 0.3)),
    **dict.fromkeys("szθð", (0.16, 0.75)),
    **dict.fromkeys("ʃʒɕʑç", (0.22, 0.15)),
    **dict.fromkeys("tdnlɫɲʎ", (0.24, 0.6)),
    **dict.fromkeys("kgɡŋxɣqχhɦʔ", (0.34, 0.5)),
    **dict.fromkeys("jɥ", (0.28, 0.9)),
}
_LIPS_TOUCH = frozenset("mbp")


def mouth_shapes(symbol: str) -> list[tuple[float, float]]:
    """(open, wide) of each sounding letter of an IPA symbol: two for a diphthong, REST alone for silence."""
    return [_SHAPES[letter] for letter in symbol if letter in _SHAPES] or [REST]


def mouth_curves(
    phonemes: tuple[Phoneme, ...], frames: int, vigour: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """`mouth_open` [T] and `mouth_wide` [T] float32 in [0, 1]; `vigour` scales how far this speaker opens."""
    steps = int(np.ceil(frames / FPS / _STEP_S))
    opening = np.full(steps, REST[0])
    width = np.full(steps, REST[1])
    touch = np.zeros(steps, bool)
    for phoneme in phonemes:
        shapes = mouth_shapes(phoneme.symbol)
        edges = np.linspace(phoneme.start_s, phoneme.end_s, len(shapes) + 1) / _STEP_S
        for (open_, wide), lo, hi in zip(shapes, edges[:-1], edges[1:]):
            span = slice(round(lo), max(round(hi), round(lo) + 1))
            opening[span], width[span] = open_ * vigour, wide
        if _LIPS_TOUCH & set(phoneme.symbol):
            middle = (phoneme.start_s + phoneme.end_s) / 2 / _STEP_S
            touch[max(0, round(middle) - 4) : round(middle) + 4] = True
    opening, width = _glide(opening), _glide(width)
    opening = np.where(touch, 0.0, opening)
    opening = _glide(opening, 0.008)
    per_frame = round(1 / FPS / _STEP_S)
    return tuple(
        np.clip(_frame_means(curve, frames, per_frame), 0, 1).astype(np.float32) for curve in (opening, width)
    )


def speaking_frames(phonemes: tuple[Phoneme, ...], frames: int) -> np.ndarray:
    """[T] float32: the share of each frame during which a phoneme sounds."""
    per_frame = round(1 / FPS / _STEP_S)
    sounding = np.zeros(frames * per_frame)
    for phoneme in phonemes:
        if phoneme.symbol:
            sounding[round(phoneme.start_s / _STEP_S) : round(phoneme.end_s / _STEP_S)] = 1.0
    return _frame_means(sounding, frames, per_frame).astype(np.float32)


def _glide(curve: np.ndarray, width_s: float = _GLIDE_S) -> np.ndarray:
    reach = int(np.ceil(3 * width_s / _STEP_S))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP_S / width_s) ** 2)
    padded = np.pad(curve, reach, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _frame_means(curve: np.ndarray, frames: int, per_frame: int) -> np.ndarray:
    needed = frames * per_frame
    curve = np.pad(curve, (0, max(0, needed - len(curve))), mode="edge")[:needed]
    return curve.reshape(frames, per_frame).mean(1)
