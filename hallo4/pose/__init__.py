"""Real pictures and videos -> the skeleton of one person in them, by DWPose or by a light estimator.
Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "Candidate": "estimator",
    "PersonPose": "estimator",
    "PoseEstimator": "estimator",
    "PoseFindings": "measure",
    "estimate_frames": "measure",
    "estimate_image": "measure",
    "estimate_video": "measure",
    "estimators_here": "loading",
    "load_estimator": "loading",
    "plan_jobs": "files",
    "save_keypoints": "files",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
