"""Metrics of whole sets of videos: Frechet and kernel distances of features, with intervals over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hallo4.errors import Hallo4Error
from hallo4.evaluation.frechet import frechet_distance, kernel_distance
from hallo4.evaluation.fvd import PROTOCOLS
from hallo4.evaluation.statistics import Interval, jackknife_interval

Features = Mapping[str, np.ndarray]
"""Clip -> vectors [n, D]."""


@dataclass(frozen=True)
class SetMetric:
    """A distance of two sets of feature vectors: what it is, its unit, source and protocol; `feature` names
    the vectors, `distance` takes [N, D] and [M, D]. Lower is always better.
    """

    definition: str
    unit: str
    source: str
    protocol: str
    feature: str
    distance: Callable[[np.ndarray, np.ndarray], float]
    better: str = "lower"


_BIASED = "biased upwards like 1/N: compare at equal numbers of frames only"
SET_METRICS: dict[str, SetMetric] = {
    "e_fid[landmarks]": SetMetric(
        "Frechet distance of expressions, from 13 upright face points; a stand-in, not E-FID",
        "squared percent of the interocular distance",
        "after EMO and Hallo, which take 3D face model coefficients",
        f"all frames in which the points are seen; {_BIASED}",
        "landmarks",
        frechet_distance,
    ),
    "e_fid[file]": SetMetric(
        "E-FID: Frechet distance of the expression coefficients in NAME.expression.npy beside the videos",
        "squared unit of the coefficients",
        "EMO (64 coefficients of Deng et al.) or Hallo (79 of the ER-NeRF tracker): they do not compare",
        f"as many frames as the files hold; {_BIASED}",
        "expression",
        frechet_distance,
    ),
    "fid": SetMetric(
        "FID: Frechet distance of Inception features of frames",
        "squared feature distance",
        "Heusel et al. 2017",
        f"pt_inception-2015-12-05, every fifth frame, bilinear as pytorch-fid; {_BIASED}",
        "inception",
        frechet_distance,
    ),
    "kid": SetMetric(
        "KID: unbiased squared MMD of the same features, cubic kernel",
        "squared MMD",
        "Binkowski et al. 2018",
        "all pairs; without bias, so sets of different size compare",
        "inception",
        kernel_distance,
    ),
    **{
        f"fvd[{name}]": SetMetric(
            f"FVD: Frechet distance of I3D logits of 16-frame clips, protocol {name}",
            "squared logit distance",
            "Unterthiner et al. 2018",
            f"{protocol.says}; {_BIASED}",
            protocol.weights,
            frechet_distance,
        )
        for name, protocol in PROTOCOLS.items()
    },
}
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


def set_value(metric: SetMetric, video: Features, reference: Features) -> SetValue | None:
    """The distance over the clips that have features on both sides; None if none has."""
    clips: Sequence[str] = sorted(set(video) & set(reference))
    if not clips:
        return None
    sides = [[np.asarray(side[clip], np.float64) for clip in clips] for side in (video, reference)]
    counts = [sum(len(part) for part in side) for side in sides]
    widths = {part.shape[1] for side in sides for part in side}
    if len(widths) > 1:
        what = f"vectors of different width ({', '.join(map(str, sorted(widths)))}) cannot be compared"
        return SetValue(Interval(None, None, None, 0), *counts, what)

    def distance(kept: np.ndarray) -> float:
        return metric.distance(*(np.concatenate([side[i] for i in kept]) for side in sides))

    try:
        interval = jackknife_interval(distance, len(clips))
        if metric.distance is frechet_distance and interval.low is not None:  # which is never negative
            interval = replace(interval, low=max(0.0, interval.low))
        return SetValue(interval, *counts)
    except Hallo4Error as error:
        return SetValue(Interval(None, None, None, 0), *counts, str(error))
