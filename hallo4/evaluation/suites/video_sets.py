"""Metrics of whole sets of videos: Frechet and kernel distances of features, with intervals over clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hallo4.errors import Hallo4Error
from hallo4.evaluation.measures.frechet import (
    frechet_distance,
    frechet_without,
    kernel_distance,
    kernel_without,
)
from hallo4.evaluation.measures.fvd import PROTOCOLS
from hallo4.evaluation.metric import Metric
from hallo4.evaluation.statistics import Interval, groups_of, jackknife_interval

Features = Mapping[str, np.ndarray]
"""Clip -> vectors [n, D]."""


_BIASED = "biased upwards like 1/N: compare at equal numbers of frames only"
# fmt: off
SET_METRICS: dict[str, Metric] = {
    "e_fid[landmarks]": Metric(
        "Frechet distance of expressions, from 13 upright face points; a stand-in, not E-FID",
        "squared percent of the interocular distance", "lower", frechet_distance, None,
        "after EMO and Hallo, which take 3D face model coefficients",
        f"all frames in which the points are seen; {_BIASED}", feature="landmarks"
    ),
    "e_fid[file]": Metric(
        "E-FID: Frechet distance of the expression coefficients in NAME.expression.npy beside the videos",
        "squared unit of the coefficients", "lower", frechet_distance, None,
        "EMO (64 coefficients of Deng et al.) or Hallo (79 of the ER-NeRF tracker): they do not compare",
        f"as many frames as the files hold; {_BIASED}", feature="expression"
    ),
    "fid": Metric(
        "FID: Frechet distance of Inception features of frames", "squared feature distance", "lower",
        frechet_distance, None, "Heusel et al. 2017",
        f"pt_inception-2015-12-05, every fifth frame, bilinear as pytorch-fid; {_BIASED}", feature="inception"
    ),
    "kid": Metric(
        "KID: unbiased squared MMD of the same features, cubic kernel", "squared MMD", "lower",
        kernel_distance, None, "Binkowski et al. 2018",
        "all pairs; without bias, so sets of different size compare", feature="inception"
    ),
    **{
        f"fvd[{name}]": Metric(
            f"FVD: Frechet distance of I3D logits of 16-frame clips, protocol {name}",
            "squared logit distance", "lower", frechet_distance, None, "Unterthiner et al. 2018",
            f"{protocol.says}; {_BIASED}", feature=protocol.weights
        )
        for name, protocol in PROTOCOLS.items()
    },
}
# fmt: on
"""Every metric of a set by its name in the report."""


@dataclass(frozen=True)
class SetValue:
    """A value over `interval.n` clips with its jackknife interval, and how many vectors either side gave;
    `problem`: why there is none.
    """

    interval: Interval
    samples: int
    reference_samples: int
    problem: str | None = None

    def as_json(self) -> dict[str, object]:
        """The keys of the report."""
        return {
            **self.interval.as_json(),
            "samples": self.samples,
            "reference_samples": self.reference_samples,
            "problem": self.problem,
        }


def set_value(metric: Metric, video: Features, reference: Features, paired: bool = True) -> SetValue | None:
    """The distance over the clips that have features on both sides, or of not `paired` sets over all clips of
    either; None if there are none.

    The interval leaves groups of clips out: of both sides together where clips belong together, else of one
    side after the other.
    """
    clips = [sorted(set(video) & set(reference))] * 2 if paired else [sorted(video), sorted(reference)]
    if not all(clips):
        return None
    sides = [[np.asarray(f[c], np.float64) for c in names] for f, names in zip((video, reference), clips)]
    counts = [sum(len(part) for part in side) for side in sides]
    widths = {part.shape[1] for side in sides for part in side}
    if len(widths) > 1:
        what = f"vectors of different width ({', '.join(map(str, sorted(widths)))}) cannot be compared"
        return SetValue(Interval(None, None, None, 0), *counts, what)
    groups = [[np.concatenate([side[i] for i in part]) for part in groups_of(len(side))] for side in sides]
    places = [range(len(side)) if len(side) > 2 else range(0) for side in groups]
    if paired:
        left = [[(i, i) for i in places[0]]]
    else:
        left = [[(i, None) for i in places[0]], [(None, i) for i in places[1]]]
    without = frechet_without if metric.of is frechet_distance else kernel_without
    try:
        value, *found = without(*groups, [(None, None), *(pair for part in left for pair in part)])
    except Hallo4Error as error:
        return SetValue(Interval(None, None, None, 0), *counts, str(error))
    parts = [found[: len(left[0])], found[len(left[0]) :]][: len(left)]
    interval = jackknife_interval(value, [] if not all(left) else parts, len(clips[0]))
    if metric.of is frechet_distance and interval.low is not None:  # which is never negative
        interval = replace(interval, low=max(0.0, interval.low))
    return SetValue(interval, *counts)
