"""Estimators by name."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import file_sha256
from hallo4.pose.estimator import PoseEstimator
from hallo4.weights.catalogue import BUNDLES
from hallo4.weights.check import find_weights
from hallo4.weights.places import present, weights_root

ESTIMATORS = {"dwpose": "pose-dwpose", "light": "pose-light"}
"""Name of an estimator -> the bundle of its files, the better one first."""


def load_estimator(
    name: str = "auto", device: str = "auto", folder: str | os.PathLike[str] | None = None
) -> PoseEstimator:
    """`dwpose`, `light`, or `auto`: the first of them whose files and extra are here.

    device: `auto` (CUDA where onnxruntime has it), `cpu` or `cuda`, for dwpose; the light one runs on one
    core. folder: where the files are (default: in the weights' root).

    InputError: no such name or device. CheckpointError: files are missing, damaged or others.
    MissingExtraError: what runs them is not installed.
    """
    name = chosen_estimator(name, folder)
    if name == "light":
        from hallo4.pose.light import LightEstimator

        return LightEstimator(folder)
    from hallo4.pose.dwpose import DwposeEstimator

    return DwposeEstimator(folder, device)


def chosen_estimator(name: str, folder: str | os.PathLike[str] | None = None) -> str:
    """`dwpose` or `light`: which one `load_estimator` takes under that name. Errors as there, but for damaged
    files and missing extras."""
    if name not in ("auto", *ESTIMATORS):
        raise InputError(f"estimator is {ascii(name)[:40]}; use auto, {' or '.join(ESTIMATORS)}.")
    if name == "auto":
        here = estimators_here(folder)
        if not here:
            raise CheckpointError(
                f"Finding people needs networks that are not in {folder or weights_root()}. Run `hallo4 "
                "weights fetch pose-light` (23 MB, one core is enough) or `hallo4 weights fetch pose-dwpose` "
                "(350 MB, better with a GPU)."
            )
        able = [one for one in here if _can_run(one)]
        name = (able or here)[0]
    return name


def estimator_files(name: str, folder: str | os.PathLike[str] | None = None) -> list[str]:
    """The estimator's name and the SHA-256 of each of its files: what decides what it finds. CheckpointError:
    a file is missing or damaged."""
    files = BUNDLES[ESTIMATORS[chosen_estimator(name, folder)]].files
    found = [find_weights(file.name, folder) for file in files]
    return [chosen_estimator(name, folder), *map(file_sha256, found)]


def estimators_here(folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the estimators whose files are all there, whatever they hold, the better one first."""
    return [one for one, bundle in ESTIMATORS.items() if _is_here(bundle, folder)]


def _is_here(bundle: str, folder: str | os.PathLike[str] | None) -> bool:
    return all(present(file, folder) is not None for file in BUNDLES[bundle].files)


def _can_run(name: str) -> bool:
    module = {"dwpose": "onnxruntime", "light": "ai_edge_litert"}[name]
    try:
        return find_spec(module) is not None
    except ValueError:  # its import was forbidden (sys.modules holds None)
        return False
