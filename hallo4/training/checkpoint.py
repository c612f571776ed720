"""The run folder: what a run needs to go on, written so that a kill at any moment leaves a whole file.

runs/NAME/last.pt    model, mean weights, optimizers, progress: for resuming
runs/NAME/best.pt    the same at the best value of the watched metric so far
runs/NAME/log.jsonl  one JSON object per line;  loss.png  its curve;  config.json  what was asked for
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from hallo4.errors import CheckpointError, OutputError
from hallo4.input_file import open_input
from hallo4.json_file import checked, read_json
from hallo4.ranges import NotNegative, Whole
from hallo4.weights.tensors import fill
from hallo4.whole import whole_file, write_whole


@dataclass
class TrainingProgress:
    """Where a run stands: optimizer steps done, seconds of training in all sessions, best metric so far,
    and whether its guard has ended it."""

    step: Whole = 0
    seconds: NotNegative = 0.0
    best: float | None = None
    ended: bool = False


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings) to `path` in one stroke; OutputError when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            torch.save(dict(state), file)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"Cannot write the checkpoint {path}: {error}. Free the disk or choose another folder."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU, running no pickled code; CheckpointError when missing or damaged."""
    if not os.path.lexists(path):
        raise CheckpointError(f"No checkpoint {path}. Train first, or name another run folder.")
    with open_input(path, "a checkpoint", CheckpointError) as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for damaged files
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"Cannot read the checkpoint {path}: {line}. Delete it to start again."
            ) from error


def load_run(path: Path) -> dict[str, Any]:
    """`load` of the state of a run; CheckpointError also where a part of it is missing or of another kind."""
    state = load(path)
    if not (
        isinstance(state, dict)
        and _named_tensors(state.get("model"))
        and isinstance(mean := state.get("mean"), dict)
        and _named_tensors(mean.get("weights"))
        and isinstance(mean.get("updates"), int)
        and isinstance(state.get("optimizers"), list)
        and isinstance(state.get("progress"), dict)
    ):
        raise CheckpointError(f"{path} holds no run that can go on. Delete it to start again.")
    checked(state["progress"], TrainingProgress, str(path), error=CheckpointError, advice="Delete it.")
    return state


def _named_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(tensor, torch.Tensor) for tensor in value.values())


def load_weights(
    folder: Path, model: nn.Module, which: Literal["last", "best"] = "last", mean: bool = True
) -> int:
    """Put the weights of a run into `model`: the mean ones, or the raw ones with `mean=False`.

    Returns the step they are from; CheckpointError names tensors that are missing, unexpected, of another
    shape or not finite.
    """
    path = Path(folder) / f"{which}.pt"
    state = load_run(path)
    weights = dict(state["model"])
    if mean:
        weights.update(state["mean"]["weights"])
    fill_model(model, weights, path)
    return state["progress"]["step"]


def fill_model(model: nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put the weights that `path` holds into `model`; CheckpointError says in one line what does not fit."""
    fill(model, weights, f"The checkpoint {path}", "Use the configuration it was trained with.")


def restore_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], states: Sequence[dict[str, Any]], path: Path
) -> None:
    """Give the optimizers their momenta back. Rates and decays stay: the configuration may be new.

    CheckpointError when `path` was written with other optimizers.
    """
    try:
        for optimizer, state in zip(optimizers, states, strict=True):
            for old, new in zip(state["param_groups"], optimizer.param_groups, strict=True):
                old.update({name: value for name, value in new.items() if name != "params"})
            optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} was written with another optimizer ({error}). Use the one it was started with, or a "
            "new folder."
        ) from error


def make_folder(folder: Path) -> None:
    """Make the run folder if it is not there; OutputError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error


def open_folder(folder: Path, config: Any) -> list[str]:
    """Write `config` (a dataclass) to the `config.json` of `folder`; OutputError when that fails.

    Returns the names whose values differ from those of an earlier run in the folder.
    """
    path = folder / "config.json"
    text = json.dumps(asdict(config), indent=1) + "\n"
    try:
        before = read_json(path, dict[str, Any], advice="Delete it.") if path.exists() else json.loads(text)
        write_whole(path, text)
    except OSError as error:
        raise _unusable(folder, error) from error
    old, new = _flat(before), _flat(json.loads(text))
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _unusable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"Cannot use {folder} as the run folder: {error}. Choose another folder.")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
