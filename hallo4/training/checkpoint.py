"""The run folder: what a run needs to go on, written so that a kill at any moment leaves a whole checkpoint.

::

    runs/NAME/last/       model, mean weights, optimizers, progress: for resuming
    runs/NAME/best/       the same at the best value of the watched metric so far
    runs/NAME/log.jsonl   one JSON object per line;  loss.png  its curve;  config.json  what was asked for

A checkpoint is a folder of safetensors files, to which every process adds what it holds
(`torch.distributed.checkpoint`), and `state.json` with the numbers. It is read by any number of processes,
each of which reads the portions that it needs.

    model.NAME   mean.NAME   optimizer.INDEX.PARAMETER.QUANTITY
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from hallo4.errors import CheckpointError, OutputError
from hallo4.json_file import read_json
from hallo4.ranges import NotNegative, Whole
from hallo4.training.ema import EMA
from hallo4.training.ranks import Group, current_group
from hallo4.training.sharding import local
from hallo4.weights.tensors import misfits, refuse_non_finite, shapes_of
from hallo4.whole import discard, place_folder, temporary_beside, write_whole

STATE = "state.json"
FILE_BYTES = 1 << 28
"""About so large are the files that a process writes, unless a tensor is larger."""


@dataclass
class TrainingProgress:
    """Where a run stands: optimizer steps done, seconds of training in all sessions, best metric so far,
    and whether its guard has ended it.

    `micro_batches`: how many were used by all processes together, which is where the next sample is;
    `per_step`: how many make a step, `accumulate` times the processes that the run began with."""

    step: Whole = 0
    seconds: NotNegative = 0.0
    best: float | None = None
    ended: bool = False
    micro_batches: Whole = 0
    per_step: Whole = 0
    accumulate: Whole = 0


@dataclass(frozen=True)
class _State:
    """`state.json`: progress, updates of the mean, kinds and numbers of the optimizers, and the files with
    their sizes."""

    progress: TrainingProgress
    mean_updates: Whole
    files: dict[str, int]
    optimizers: list[str]
    numbers: dict[str, int | float] = field(default_factory=dict)


Optimizers = Sequence[torch.optim.Optimizer]
Stored = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of a tensor in a checkpoint."""


def save(
    path: Path, model: nn.Module, mean: EMA, optimizers: Optimizers, progress: TrainingProgress, group: Group
) -> None:
    """Write the checkpoint `path` atomically, by all processes; OutputError on all when that fails."""
    tensors, numbers = _named(model, mean, optimizers)
    error = None
    building = group.agreed(_new_folder(path) if group.main else None)
    try:
        if isinstance(building, str):
            raise OSError(building)
        _write_tensors(tensors, building, group)
        if group.main:
            files = {file.name: file.stat().st_size for file in sorted(building.iterdir())}
            state = _State(progress, mean.updates, files, _kinds(optimizers), numbers)
            (building / STATE).write_text(json.dumps(asdict(state), indent=1) + "\n")
            place_folder(building, path)
    except (OSError, RuntimeError, dcp.CheckpointException) as failure:  # a full disk, say
        error = _first_line(failure)
    finally:
        if group.main and isinstance(building, Path):
            discard(building)
    error = next(filter(None, group.gathered(error)), None)
    if error is not None:
        raise OutputError(
            f"Cannot write the checkpoint {path}: {error}. Free the disk or choose another folder."
        )


def load(path: Path, model: nn.Module, mean: EMA, optimizers: Optimizers, group: Group) -> TrainingProgress:
    """Take over everything from `path`, by all processes. Rates and decays stay: the configuration may be
    new. CheckpointError: it is damaged, or of another model, other mean weights or other optimizers."""
    state, shapes = read_state(path)
    _check_model(path, model, shapes)
    kept = {name.removeprefix("mean."): s for name, s in shapes.items() if name.startswith("mean.")}
    means = misfits(shapes_of(mean.weights), {name: size for name, (size, _) in kept.items()})
    if means:
        raise CheckpointError(f"{path}: its mean weights are of another run: {means}. Use a new folder.")
    tensors = {f"model.{name}": value.detach() for name, value in model.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.weights.items()}
    tensors |= _optimizer_places(path, model, optimizers, shapes, state)
    _read_tensors(tensors, path, group)
    mean.updates = state.mean_updates
    return state.progress


def load_weights(
    folder: Path, model: nn.Module, which: Literal["last", "best"] = "last", mean: bool = True
) -> int:
    """Put the weights of a run into `model`: the mean ones, or the raw ones with `mean=False`.

    Returns the step they are from; CheckpointError names tensors that are missing, unexpected, of another
    shape or not finite.
    """
    path = Path(folder) / which
    state, shapes = read_state(path)
    _check_model(path, model, shapes)
    tensors = {}
    for name, value in model.state_dict().items():
        averaged = mean and f"mean.{name}" in shapes
        tensors[f"mean.{name}" if averaged else f"model.{name}"] = value.detach()
    _read_tensors(tensors, path, current_group())
    return state.progress.step


def read_state(path: Path) -> tuple[_State, dict[str, Stored]]:
    """(numbers, tensor name -> shape and type) of a checkpoint; CheckpointError: missing, cut or damaged."""
    if not os.path.lexists(path):
        raise CheckpointError(f"No checkpoint {path}. Train first, or name another run folder.")
    advice = "Delete it to start again."
    state: _State = read_json(path / STATE, _State, error=CheckpointError, advice=advice)
    for name, size in state.files.items():
        file = path / name
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            raise CheckpointError(
                f"{file}: has {found} bytes instead of {size}. Delete {path} to start again."
            )
    with _readable(path):
        metadata = dcp.HuggingFaceStorageReader(str(path)).read_metadata()
    shapes = {name: (tuple(m.size), m.properties.dtype) for name, m in metadata.state_dict_metadata.items()}
    return state, shapes


def exists(folder: Path, which: Literal["last", "best"]) -> bool:
    """Whether the run in `folder` has saved that checkpoint."""
    return (Path(folder) / which / STATE).exists()


# ---------------------------------------------------------------------- tensors by name


def _named(model: nn.Module, mean: EMA, optimizers: Optimizers) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Everything that is saved: tensors, and plain numbers of optimizers."""
    tensors = {f"model.{name}": value.detach() for name, value in model.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.weights.items()}
    numbers: dict[str, float] = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for index, optimizer in enumerate(optimizers):
        for parameter, quantities in optimizer.state.items():
            for quantity, value in quantities.items():
                key = f"optimizer.{index}.{names[id(parameter)]}.{quantity}"
                if isinstance(value, Tensor):
                    tensors[key] = value
                else:
                    numbers[key] = value
    tensors = {name: value.contiguous() for name, value in tensors.items()}  # kernels may be channels-last
    return tensors, numbers


def _optimizer_places(
    path: Path, model: nn.Module, optimizers: Optimizers, shapes: Mapping[str, Stored], saved: _State
) -> dict[str, Tensor]:
    """Empty momenta for what `path` holds, put into the optimizers."""
    parameters = dict(model.named_parameters())
    held = [{id(p) for group in o.param_groups for p in group["params"]} for o in optimizers]
    tensors: dict[str, Tensor] = {}
    for key in sorted([*(name for name in shapes if name.startswith("optimizer.")), *saved.numbers]):
        _, index, *rest, quantity = key.split(".")
        number, parameter = int(index), parameters.get(".".join(rest))
        if _kinds(optimizers) != saved.optimizers or id(parameter) not in held[number]:
            raise CheckpointError(
                f"{path} was written with another optimizer ({', '.join(saved.optimizers)}, which had "
                f"{quantity} of {'.'.join(rest)}). Use the one it was started with, or a new folder."
            )
        state = optimizers[number].state[parameter]
        if key in saved.numbers:
            state[quantity] = saved.numbers[key]
            continue
        size, dtype = shapes[key]
        if tuple(parameter.shape) == size:
            state[quantity] = torch.zeros_like(parameter.detach(), dtype=dtype)
        else:
            state[quantity] = torch.zeros(size, dtype=dtype, device=parameter.device if size else "cpu")
        tensors[key] = state[quantity]
    return tensors


def _kinds(optimizers: Optimizers) -> list[str]:
    return [type(optimizer).__name__ for optimizer in optimizers]


def _check_model(path: Path, model: nn.Module, shapes: Mapping[str, Stored]) -> None:
    found = {n.removeprefix("model."): size for n, (size, _) in shapes.items() if n.startswith("model.")}
    wrong = misfits(shapes_of(model.state_dict()), found)
    if wrong:
        raise CheckpointError(
            f"The checkpoint {path} does not fit the model: {wrong}. Use the configuration that it was "
            "trained with."
        )


# ---------------------------------------------------------------------- files


def _new_folder(path: Path) -> Path | str:
    """A new folder beside `path`, or why there can be none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        building = temporary_beside(path)
        building.mkdir()
    except OSError as error:
        return _first_line(error)
    return building


def _write_tensors(tensors: Mapping[str, Tensor], folder: Path, group: Group) -> None:
    files, written = {}, 0
    for name, tensor in tensors.items():  # a file is put together in memory
        files[name] = 1 + written // (FILE_BYTES * group.size)
        written += tensor.numel() * tensor.element_size()
    writer = dcp.HuggingFaceStorageWriter(str(folder), files, save_distributed=True)
    with _quiet():
        dcp.save(dict(tensors), storage_writer=writer, no_dist=group.size == 1)


def _read_tensors(tensors: Mapping[str, Tensor], path: Path, group: Group) -> None:
    reader = dcp.HuggingFaceStorageReader(str(path))
    with _readable(path):
        dcp.load(dict(tensors), storage_reader=reader, no_dist=group.size == 1)
    refuse_non_finite(((name, local(value)) for name, value in tensors.items()), path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        with _quiet():
            yield
    except (Exception, dcp.CheckpointException) as error:  # damaged files fail in many ways
        raise CheckpointError(
            f"Cannot read the checkpoint {path}: {_first_line(error)}. Delete it to start again."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remark that one process is alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        logger = logging.getLogger("torch.distributed.checkpoint")
        before, _ = logger.level, logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


def _first_line(error: BaseException) -> str:
    failures = getattr(error, "failures", None)  # of a CheckpointException: rank -> (exception, traceback)
    if failures:
        rank, (cause, *_) = next(iter(failures.items()))
        return f"on rank {rank}, {_first_line(cause)}"
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


def make_folder(folder: Path) -> None:
    """Make the run folder if it is not there; OutputError when that fails.

    CheckpointError: it holds a run of an older version, whose checkpoints were single files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    if (folder / "last.pt").exists() and not exists(folder, "last"):
        raise CheckpointError(
            f"{folder / 'last.pt'} is a checkpoint of an older hallo4, which this one cannot go on with. "
            "Choose another run folder, or finish the run with the older one."
        )


def open_folder(folder: Path, config: Any) -> list[str]:
    """Write `config` (a dataclass with a `name`) to the `config.json` of `folder`; OutputError when that
    fails, CheckpointError when `folder` has a checkpoint of a run of another name.

    Returns the names whose values differ from those of an earlier run in the folder.
    """
    path = folder / "config.json"
    text = json.dumps(asdict(config), indent=1) + "\n"
    try:
        before = read_json(path, dict[str, Any], advice="Delete it.") if path.exists() else json.loads(text)
        if exists(folder, "last") and before.get("name", config.name) != config.name:
            raise CheckpointError(
                f"{folder} holds a run of {before['name']!r}, and this is {config.name!r}. Choose another "
                "run folder (-o), or delete that one."
            )
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
