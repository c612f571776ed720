"""Talking portraits: a portrait, speech and a skeleton go in; a talking, moving video comes out.

    from hallo4 import PortraitAnimator

Names are imported when first used, so that `import hallo4` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hallo4.lazy import lazy_names
from hallo4.version import __version__

if TYPE_CHECKING:
    from hallo4.errors import (
        Cancelled,
        CheckpointError,
        Hallo4Error,
        InputError,
        OutputError,
        ShapeError,
    )
    from hallo4.pipelines import AnimationResult, PortraitAnimator, Progress
    from hallo4.types import Audio, Skeleton

_HOMES = {
    "PortraitAnimator": "pipelines",
    "AnimationResult": "pipelines",
    "Progress": "pipelines",
    "Audio": "types",
    "Skeleton": "types",
    "Hallo4Error": "errors",
    "InputError": "errors",
    "OutputError": "errors",
    "CheckpointError": "errors",
    "ShapeError": "errors",
    "Cancelled": "errors",
}

__all__ = [
    "AnimationResult",
    "Audio",
    "Cancelled",
    "CheckpointError",
    "Hallo4Error",
    "InputError",
    "OutputError",
    "PortraitAnimator",
    "Progress",
    "ShapeError",
    "Skeleton",
    "__version__",
]

__getattr__ = lazy_names(__name__, _HOMES)
