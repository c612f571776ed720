"""What the log of preference training says of parts of the pairs: by axis, by source, by noise level."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hallo4.diffusion.pair_stats import PairStats

WATCHED = ("accuracy", "margin", "winner_diff", "loser_diff")
"""Of all that `PairStats.summary` knows, what is logged of parts."""
BUCKETS = 10


def viewed(stats: PairStats, groups: Mapping[str, Tensor]) -> dict[str, float]:
    """`WATCHED` of each group (name -> bool [B]) and of each tenth of the noise levels that occurs, as
    "accuracy: GROUP" and "accuracy: sigma 0.2-0.3"."""
    edge = (stats.sigma * BUCKETS).floor().clamp(0, BUCKETS - 1)
    tenths = {f"sigma {k / BUCKETS:.1f}-{(k + 1) / BUCKETS:.1f}": edge == k for k in range(BUCKETS)}
    values = {}
    for name, chosen in {**groups, **tenths}.items():
        if chosen.any():
            summary = stats.of(chosen.to(stats.sigma.device)).summary()
            values |= {f"{watched}: {name}": summary[watched] for watched in WATCHED}
    return values
