"""Who is better, from comparisons with ties: the model of Davidson (1970), fitted to all of them at once.

::

    P(i beats j) : P(tie) : P(j beats i)  =  e^s_i : nu e^((s_i + s_j) / 2) : e^s_j

A logistic family, so the likelihood has one top, which Newton's method finds; unlike a running Elo figure it
does not depend on the order of the answers (dpo.md 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from hallo4.errors import InputError, ShapeError
from hallo4.evaluation.statistics import CONFIDENCE, Interval

RESAMPLES = 1000
_PRIOR = 0.1  # keeps strengths finite; see `fit_davidson`
_STEPS, _HALVINGS, _CLOSE, _RIDGE, _ENDLESS = 100, 30, 1e-10, 1e-12, 15.0


@dataclass(frozen=True)
class Comparison:
    """`a` against `b`, seen on `clip` (comparisons on one clip belong together): 1 won, 0.5 tie, 0 lost."""

    clip: Hashable
    a: str
    b: str
    outcome: float


@dataclass(frozen=True)
class Davidson:
    """Strengths in natural log units with mean zero, and the weight `nu` of ties (0: there are none)."""

    names: tuple[str, ...]
    strengths: np.ndarray
    nu: float

    def probabilities(self, a: str, b: str) -> tuple[float, float, float]:
        """(a wins, tie, b wins)."""
        s_a, s_b = (self.strengths[self.names.index(name)] for name in (a, b))
        weights = np.array([(s_a - s_b) / 2, math.log(self.nu) if self.nu else -math.inf, (s_b - s_a) / 2])
        shares = np.exp(weights - weights.max())
        won, tied, lost = shares / shares.sum()
        return float(won), float(tied), float(lost)

    def expected(self, a: str, b: str) -> float:
        """Expected outcome of `a` against `b` in [0, 1], a tie counting half."""
        won, tied, _ = self.probabilities(a, b)
        return won + tied / 2

    def expected_against_all(self, name: str) -> float:
        """Mean of `expected` over all others; 0.5 where there are none."""
        others = [other for other in self.names if other != name]
        return sum(self.expected(name, other) for other in others) / len(others) if others else 0.5


def fit_davidson(comparisons: Sequence[Comparison], prior: float = _PRIOR) -> Davidson:
    """The most likely strengths. `prior`: so many comparisons that each player is taken to have had with one
    of strength 0, half of them won.

    InputError: none at all; or with prior 0 a player who never lost, whose strength would be infinite.
    """
    names = tuple(sorted({name for c in comparisons for name in (c.a, c.b)}))
    if not names:
        raise InputError("There are no comparisons to rank by. Collect some first.")
    strengths, nu = _fit(_observed(comparisons, names)[None], len(names), prior)
    if prior == 0 and np.abs(strengths).max() > _ENDLESS:
        raise InputError(
            "Someone won or lost every comparison, so their strength is infinite. Use a prior above 0."
        )
    return Davidson(names, strengths[0], float(nu[0]))


def rank(comparisons: Sequence[Comparison], seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Strengths with 95 % intervals from resampled clips, best first; n is the number of clips."""
    best = fit_davidson(comparisons)
    clips: dict[Hashable, list[Comparison]] = {}
    for comparison in comparisons:
        clips.setdefault(comparison.clip, []).append(comparison)
    per_clip = np.stack([_observed(own, best.names) for own in clips.values()])
    n = len(clips)
    drawn = np.random.default_rng(seed).multinomial(n, [1 / n] * n, resamples)
    strengths, _ = _fit(np.tensordot(drawn, per_clip, axes=1), len(best.names), _PRIOR)
    lows, highs = np.quantile(strengths, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    found = {
        name: Interval(float(s), *((float(low), float(high)) if n > 1 else (None, None)), n)
        for name, s, low, high in zip(best.names, best.strengths, lows, highs, strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def _observed(comparisons: Sequence[Comparison], names: Sequence[str]) -> np.ndarray:
    """[P, 3]: for every two players, in the order of `np.triu_indices`, how often the first won, neither,
    the second."""
    at = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names), 3))
    for c in comparisons:
        i, j = at[c.a], at[c.b]
        if i == j or c.outcome not in (0.0, 0.5, 1.0):
            raise ShapeError(f"A comparison is of two, with outcome 0, 0.5 or 1; found {c}.")
        outcome = c.outcome if i < j else 1 - c.outcome
        counts[min(i, j), max(i, j), int(2 - 2 * outcome)] += 1
    return counts[np.triu_indices(len(names), 1)]


def _fit(observed: np.ndarray, players: int, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts [R, P, 3] of R data sets -> strengths [R, n] and nu [R].

    Newton's method, with halved steps, on the concave log-likelihoods of all sets at once.
    """
    n, design = players, _design(players)
    features = design.reshape(-1, n + 1)
    squares = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    counted, played = observed.reshape(len(observed), -1), observed.sum(axis=2)
    tied = observed[:, :, 1].sum(axis=1) > 0
    allowed = np.where(tied[:, None, None] | np.array([True, False, True]), 0.0, -np.inf)

    def log_p(x: np.ndarray) -> np.ndarray:
        logits = np.tensordot(x, design, axes=(1, 2)) + allowed
        return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)

    def value(x: np.ndarray) -> np.ndarray:
        likelihood = (observed * np.where(observed > 0, log_p(x), 0.0)).sum(axis=(1, 2))
        s = x[:, :n]  # the prior: half a win and half a loss against a player of strength 0
        return likelihood - prior / 2 * (np.logaddexp(0, s) + np.logaddexp(0, -s)).sum(axis=1)

    x = np.zeros((len(observed), n + 1))
    for _ in range(_STEPS):
        p = np.exp(log_p(x))
        mean = np.einsum("rpk,pkf->rpf", p, design)
        gradient = counted @ features - np.einsum("rp,rpf->rf", played, mean)
        curvature = ((played[:, :, None] * p).reshape(counted.shape) @ squares).reshape(-1, n + 1, n + 1)
        curvature -= np.einsum("rp,rpf,rpg->rfg", played, mean, mean)
        half = np.tanh(x[:, :n] / 2)
        gradient[:, :n] -= prior * half / 2
        curvature[:, range(n), range(n)] += prior * (1 - half**2) / 4
        curvature[:, :n, :n] += prior == 0  # strengths are known up to a constant: keep it where it is
        curvature[:, n, n] += ~tied
        curvature[:, range(n + 1), range(n + 1)] += _RIDGE
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        for _ in range(_HALVINGS):
            worse = value(x + step) < value(x) - _CLOSE
            if not worse.any():
                break
            step[worse] /= 2
        x = x + step
        if np.abs(step).max() <= _CLOSE:
            break
    strengths = x[:, :n] - x[:, :n].mean(axis=1, keepdims=True)
    return strengths, np.where(tied, np.exp(x[:, n]), 0.0)


def _design(players: int) -> np.ndarray:
    """Features [P, 3, n + 1] of (first wins, tie, second wins): half the gap of strengths, being a tie."""
    first, second = np.triu_indices(players, 1)
    design, rows = np.zeros((len(first), 3, players + 1)), np.arange(len(first))
    for outcome, sign in ((0, 0.5), (2, -0.5)):
        design[rows, outcome, first] = sign
        design[rows, outcome, second] = -sign
    design[:, 1, players] = 1.0
    return design
