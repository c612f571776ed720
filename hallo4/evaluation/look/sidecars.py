"""Files that a user puts beside a video: its expression coefficients."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hallo4.errors import InputError
from hallo4.input_file import open_input
from hallo4.media.names import as_stored


def given_expression(video: Path) -> np.ndarray | None:
    """Expression coefficients [n, D] that the user has fitted: `NAME.expression.npy` beside the video."""
    file = as_stored(video.with_name(video.stem + ".expression.npy"))
    if not file.is_file():
        return None
    try:
        with open_input(file, "a matrix of numbers") as handle:
            values = np.lib.format.read_array(handle, allow_pickle=False)
    except Exception as error:  # a damaged header also raises what the parser of its Python literal does
        raise InputError(
            f"{file.name}: cannot be read as numbers ({error}). Save it with numpy.save."
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "fiu" or len(values) < 1:
        raise InputError(
            f"{file.name}: holds {values.dtype} {list(values.shape)}; allowed is a matrix [n, D]."
        )
    return finite_features(values.astype(np.float64), "expression", file.name)


def read_arrays(file: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file, or those of the `names` that it has; none of an empty one. InputError: it is
    damaged."""
    try:
        with (
            open_input(file, "what was seen of a video") as handle,
            np.load(handle, allow_pickle=False) as kept,
        ):
            wanted = kept.files if names is None else [name for name in names if name in kept.files]
            return {name: kept[name] for name in wanted}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{file}: is damaged ({error}). Delete it, and run the same command again."
        ) from error


def finite_features(values: np.ndarray, name: str, file: str) -> np.ndarray:
    """`values` [n, D]; InputError, which names `file`, where they are not finite."""
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise InputError(f"{file}: {bad} of {len(values)} feature vectors of {name} are not finite (NaN).")
    return values
