"""The pose at rest of the person in a portrait: by a pose estimator where one is here, and by the observer,
which knows the people of the portrait world only, but these whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hallo4.errors import CheckpointError, MissingExtraError, NoPersonError
from hallo4.motion import layout
from hallo4.pipelines.canvas import on_canvas, plan_motion_box
from hallo4.pipelines.conditions import Portrait
from hallo4.pipelines.portrait_pose import packaged_rest
from hallo4.pose import PoseEstimator, estimate_image, estimators_here, load_estimator
from hallo4.types import Skeleton
from hallo4.weights.places import weights_root

SAME_FACE = 0.25
"""The observer is believed where it sees the eyes and the nose at most so many distances of the eyes from
where an estimator finds them."""

_EYES_AND_NOSE = [layout.NOSE, layout.LEFT_EYE, layout.RIGHT_EYE]


@dataclass(frozen=True)
class RestPose:
    """The pose [1 frame] of the person in a portrait, in pixels of its canvas, `how` it was found, in words,
    and `notes` of one line on what else was seen."""

    skeleton: Skeleton
    how: str
    notes: tuple[str, ...] = ()


FindPose = Callable[[Portrait], RestPose | None]
"""None: no person is seen."""


def portrait_rest(portrait: Portrait) -> RestPose | None:
    """The pose of the person in a portrait.

    What the pose estimator finds that is here (DWPose before the light one); but the observer of the portrait
    world, whose poses have shoulders and arms even if they are covered, where both agree on the face.
    Without an estimator, or where it finds no person, what the observer sees.
    """
    seen = packaged_rest(portrait.pixels_u8)
    estimator = usable_estimator()
    if estimator is None:
        how = "as the observer of the portrait world sees it (photographs: `hallo4 weights fetch pose-light`)"
        return None if seen is None else RestPose(seen, how)
    try:
        findings = estimate_image(portrait.image_u8, estimator)
    except NoPersonError:
        how = f"as the observer of the portrait world sees it; the estimator {estimator.name} finds no person"
        return None if seen is None else RestPose(seen, how)
    found = _onto_canvas(findings.skeleton, portrait)
    if seen is not None and _same_face(seen, found):
        return RestPose(seen, "as the observer of the portrait world sees it")
    how = f"as the estimator {estimator.name} finds it ({confidences(found)})"
    return RestPose(found, how, tuple(f"portrait: {note}" for note in findings.notes))


def asked_once(find: FindPose) -> FindPose:
    """`find` for one portrait, which is looked at once however often it is asked for."""
    found: list[RestPose | None] = []

    def again(portrait: Portrait) -> RestPose | None:
        if not found:
            found.append(find(portrait))
        return found[0]

    return again


def usable_estimator() -> PoseEstimator | None:
    """The pose estimator that is here, loaded once; None if there is none, or nothing that runs it.

    CheckpointError: its files are here, but damaged or others.
    """
    if not estimators_here():
        return None
    try:
        return _estimator(weights_root())
    except MissingExtraError:
        return None


def missing_estimator() -> str:
    """Why there is no `usable_estimator`, and what to do, in one line."""
    try:
        load_estimator("auto")
    except (CheckpointError, MissingExtraError) as error:
        return str(error)
    return ""


@lru_cache(maxsize=1)
def _estimator(_root: Path) -> PoseEstimator:
    """The one of the weights' root, which is the key under which it is kept."""
    return load_estimator("auto")


def confidences(skeleton: Skeleton) -> str:
    """How sure an estimator is of the parts that it sees, in words: the median over frames and points."""
    parts = {
        "face": [*range(layout.FACE.start, layout.FACE.stop)],
        "shoulders": [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER],
        "left hand": [*range(layout.LEFT_HAND.start, layout.LEFT_HAND.stop)],
        "right hand": [*range(layout.RIGHT_HAND.start, layout.RIGHT_HAND.stop)],
    }
    sure = {name: float(np.median(skeleton.confidence[:, points])) for name, points in parts.items()}
    seen = [f"{name} {value:.2f}" for name, value in sure.items() if value >= layout.SEEN]
    unseen = [name for name, value in sure.items() if value < layout.SEEN]
    return ", ".join(seen + ([f"no {', '.join(unseen)}"] if unseen else []))


def _onto_canvas(skeleton: Skeleton, portrait: Portrait) -> Skeleton:
    width_px, height_px = portrait.image_width_px, portrait.image_height_px
    box, _ = plan_motion_box(width_px, height_px, width_px, height_px, portrait.canvas)
    return on_canvas(skeleton, box, portrait.canvas)


def _same_face(seen: Skeleton, found: Skeleton) -> bool:
    eyes = found.points_px[0, layout.LEFT_EYE] - found.points_px[0, layout.RIGHT_EYE]
    apart = np.linalg.norm(seen.points_px[0, _EYES_AND_NOSE] - found.points_px[0, _EYES_AND_NOSE], axis=-1)
    both = min(seen.confidence[0, _EYES_AND_NOSE].min(), found.confidence[0, _EYES_AND_NOSE].min())
    return bool(both >= layout.SEEN and apart.max() <= SAME_FACE * np.linalg.norm(eyes))
