"""The settings of a training run, as frozen records, and how a command line changes them: `override`."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from hallo4.errors import InputError
from hallo4.json_file import what_is_wrong
from hallo4.ranges import (
    BatchSize,
    Momentum,
    NotNegative,
    Positive,
    Rate,
    Seed,
    Share,
    TrainingSteps,
    Whole,
    check_ranges,
)

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW for everything, or Muon for the hidden matrices and AdamW for the rest.

    `weight_decay` touches tensors of two or more dimensions only. With `kind="muon"`, parameters whose name
    contains one of `adamw_names` (input and output layers, say) stay with AdamW. `adamw_state`: how AdamW
    keeps its two means: in fp32, 8 bytes a weight; in 8 bits, 2 bytes; or those in memory that a GPU and the
    machine share, so that a peak moves out what does not fit (`hallo4[eight-bit]`).
    """

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: Rate = 1e-3
    muon_learning_rate: Rate = 1e-3
    weight_decay: NotNegative = 0.01
    betas: tuple[Momentum, Momentum] = (0.9, 0.99)
    muon_momentum: Momentum = 0.95
    adamw_names: tuple[str, ...] = ()
    adamw_state: Literal["fp32", "8bit", "paged_8bit"] = "fp32"


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up over `warmup_steps`, then constant, then half a cosine down to `final_fraction` of
    the peak.

    `anneal_fraction`: the part of the run, at its end, over which the rate falls. 1 is the ordinary cosine
    schedule, 0 a constant one.
    """

    warmup_steps: Whole = 100
    anneal_fraction: Share = 1.0
    final_fraction: Share = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """One training run: it ends after `steps` steps or `max_minutes` minutes in all, whichever comes first.

    The schedule follows the larger of both fractions, so that a run limited by time anneals too.
    `ema_decay` 0: no averaging. `best_metric`: `loss` (of training)
    or a name that the preview returns; lower is better. `preview_every`: in steps; 0: at the end only.
    `mixed_precision` "auto" is bf16 where the hardware computes with it (GPUs, CPUs with AMX), else fp32.
    `accumulate`: micro-batches per step and process. `sharding` "full": parameters, gradients, momenta and
    mean weights are shared out among the processes (FSDP2), "none": each process has all of them (DDP);
    "auto": as `accelerate launch --use_fsdp` says.
    """

    name: str
    steps: TrainingSteps
    max_minutes: Positive | None = None
    seed: Seed = 0
    accumulate: BatchSize = 1
    clip_norm: Positive = 1.0
    ema_decay: Momentum = 0.999
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    sharding: Literal["auto", "none", "full"] = "auto"
    log_every: TrainingSteps = 10
    save_minutes: Positive = 5.0
    preview_every: Whole = 0
    best_metric: str = "loss"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        """InputError for a value out of range."""
        for record in (self, self.optimizer, self.schedule):
            check_ranges(record)


def override(config: ConfigT, settings: Iterable[str]) -> ConfigT:
    """Return a copy of the (nested) dataclass `config` with each `"a.b=value"` of `settings` applied.

    Values are checked against the field's type: `steps=2e4`, `max_minutes=none`, `optimizer.betas=(0.9,
    0.95)`.
    InputError for an unknown name, a value of the wrong type, or a setting without `=`.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise InputError(
                f"--set takes NAME=VALUE, such as optimizer.learning_rate=3e-4; found {setting!r}."
            )
        config = _replace(config, path.strip().split("."), text.strip(), path.strip())
    return config


def _replace(config: ConfigT, path: list[str], text: str, whole: str) -> ConfigT:
    names = [f.name for f in dataclasses.fields(config)]
    name, *rest = path
    if name not in names:
        raise InputError(
            f"--set {whole}: {type(config).__name__} has no {name!r}. It has {', '.join(names)}."
        )
    value = getattr(config, name)
    if dataclasses.is_dataclass(value):
        if not rest:
            inner = ", ".join(f"{whole}.{f.name}" for f in dataclasses.fields(value))
            raise InputError(f"--set {whole}: this is a group of values. Set one of {inner}.")
        return dataclasses.replace(config, **{name: _replace(value, rest, text, whole)})
    if rest:
        raise InputError(f"--set {whole}: {name!r} is a single value and has no {'.'.join(rest)!r}.")
    hint = get_type_hints(type(config), include_extras=True)[name]
    return dataclasses.replace(config, **{name: _parse(hint, text, whole)})


def _parse(hint: Any, text: str, whole: str) -> Any:
    """Read `text` as the type `hint`: as a word first (`bf16`, `0.1`, `true`), then as a Python literal
    (`(1, 2)`, `2e4`)."""
    adapter = TypeAdapter(hint, config={"allow_inf_nan": False})
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        reason = what_is_wrong(error)
    try:
        return adapter.validate_python(ast.literal_eval("None" if text.lower() == "none" else text))
    except ValidationError as error:
        reason = what_is_wrong(error)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # no literal
        pass
    raise InputError(f"--set {whole}: found {text[:60]!r}, allowed is {_in_words(hint)} ({reason}).")


def _in_words(hint: Any) -> str:
    """A type as a person reads it, without the ranges, which the reason names."""
    if get_origin(hint) is Annotated:
        return _in_words(hint.__origin__)
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) is tuple:
        parts = ["..." if part is Ellipsis else _in_words(part) for part in get_args(hint)]
        return f"tuple[{', '.join(parts)}]"
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
