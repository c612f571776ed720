"""Talking portraits: a portrait, speech and a skeleton go in; a talking, moving video comes out.

    from hallo4 import PortraitAnimator

Names are imported when first used, so that `import hallo4` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
