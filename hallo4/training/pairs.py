"""Training on preference pairs: direct preference optimization, or the winners alone as its control.

PairBatch --pair_objective--> dpo_objective, or errors of the winners   [+ weight * fine-tuning loss]
reference: adapter off | frozen copy | table of numbers computed beforehand
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hallo4.diffusion import PairDrawConfig, PreferenceLossConfig, clip_errors
from hallo4.errors import InputError
from hallo4.ranges import BatchSize, NotNegative, check_ranges
from hallo4.training.denoising import found_and_wanted, predict
from hallo4.training.loop import Data, Guard, Method, Preview
from hallo4.training.method import TrainingMethod
from hallo4.training.pair_batch import PairBatch
from hallo4.training.placement import to_device_of
from hallo4.training.preference_step import Mode, dpo_objective, reference_errors
from hallo4.training.reference import AdapterOff, FrozenCopy, Reference
from hallo4.training.reference_table import Table, build_table, table_stamp
from hallo4.training.tuning import Tuning

ReferenceKind = Literal["adapter_off", "frozen", "table"]
TABLE_ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class PairConfig:
    """`learn` "preferences" is DPO, "winners" the control. `draw` should have shift and distribution of the
    fine-tuning before. `reference`: the adapter switched off; a frozen copy of the first weights of what is
    trained (the only one of those two for `tuning=full`); or a table of `draw.strata` draws of each pair,
    computed before the first step. `mode`: both clips at once, or one after the other in half the memory.

    `anchor_weight` above 0 adds so many times the loss of fine-tuning on clips of its own, which holds a
    model that learns from videos of other systems to what is real. At the start a pair's loss has a gradient
    of beta / 4 with respect to an error: weights of 10 to 100 are felt. InputError for a value out of range.
    """

    learn: Literal["preferences", "winners"] = "preferences"
    loss: PreferenceLossConfig = field(default_factory=PreferenceLossConfig)
    draw: PairDrawConfig = field(default_factory=lambda: PairDrawConfig(shift=2.0))
    reference: ReferenceKind = "adapter_off"
    mode: Mode = "batched"
    batch_size: BatchSize = 8
    anchor_weight: NotNegative = 0.0

    def __post_init__(self) -> None:
        """See the class."""
        check_ranges(self)


def check_reference(reference: ReferenceKind, tuning: Tuning) -> None:
    """InputError: the reference of full training cannot be the model with its adapter off."""
    if reference == "adapter_off" and tuning == "full":
        raise InputError(
            "reference=adapter_off needs an adapter, and tuning=full has none: use tuning=lora, or "
            "reference=frozen or reference=table."
        )


def make_reference(
    model: nn.Module,
    config: PairConfig,
    rows: int,
    make_batch: Callable[[Tensor, Tensor], Mapping[str, Any]],
    autocast: Callable[[], AbstractContextManager],
    fingerprint: Callable[[], str],
    file: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Reference:
    """The reference of `config` for `model` as it is now, before any training.

    A table is of all `rows` of pairs, measured on `make_batch(rows [b], visits [b])` under `autocast` of the
    training, and kept in `file`; `fingerprint()`: of the encoded pairs, asked for where a table is.
    InputError: a table of other pairs, weights or draws lies there.
    """
    if config.reference == "adapter_off":
        return AdapterOff(model)
    if config.reference == "frozen":
        return FrozenCopy(model)
    with autocast(), torch.no_grad():
        stamp = table_stamp(model, fingerprint(), config.draw, config.loss)
        if file.exists():
            return Table.load(file, stamp)
        now = _AsItIs()

        def batch(chosen: Tensor, visits: Tensor) -> PairBatch:
            return PairBatch(**to_device_of(model, make_batch(chosen, visits)))

        def errors(pairs: PairBatch) -> Tensor:
            return reference_errors(model, pairs, predict, now, config.loss, config.mode)

        made = (batch, errors, rows, config.draw.strata, TABLE_ROWS_AT_ONCE, stamp, on_progress)
        table = build_table(*made)
    table.save(file)
    return table


class _AsItIs:
    """A reference that is the model in the state it is in: of a model that is not trained yet."""

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """See `Reference`."""
        return measure()


def draws_of(reference: Reference) -> int | None:
    """How many draws of each pair there are: those of a table come again after K; None: no end."""
    return reference.draws if isinstance(reference, Table) else None


def winners_objective(config: PreferenceLossConfig) -> Method:
    """Fine-tuning on the winners alone: the mean of their errors at the draws of the pairs."""

    def objective(model: nn.Module, batch: Mapping[str, Any], step: int) -> tuple[Tensor, dict[str, float]]:
        pairs = PairBatch(**batch)
        draws = (pairs.winner, pairs.noise, pairs.sigma, pairs.conditions)
        found, wanted = found_and_wanted(predict, config.prediction, model, *draws)
        errors = clip_errors(found, wanted, pairs.loss_weights)
        return errors.mean(), {"winner_error": float(errors.detach().mean())}

    return objective


def anchored(objective: Method, fine_tuning: Method, weight: float) -> Method:
    """`objective` plus `weight` times the loss of `fine_tuning` on the clips in the batch's "real"."""

    def both(model: nn.Module, batch: Mapping[str, Any], step: int) -> tuple[Tensor, dict[str, float]]:
        pairs = {name: value for name, value in batch.items() if name != "real"}
        loss, values = objective(model, pairs, step)
        real_loss, real_values = fine_tuning(model, batch["real"], step)
        return loss + weight * real_loss, {**values, "real_error": real_values["error"]}

    return both


def with_real_clips(pairs: Data, clips: Data) -> Data:
    """Batches of `pairs` with those of `clips` under "real"."""
    return lambda index, generator: {**pairs(index, generator), "real": clips(index, generator)}


def pair_method(
    name: str,
    model: nn.Module,
    data: Data,
    reference: Reference,
    config: PairConfig,
    preview: Preview | None = None,
    guard: Guard | None = None,
    anchor: TrainingMethod | None = None,
) -> TrainingMethod:
    """Training of `model` on batches of pairs `data`, and on those of the fine-tuning `anchor` where there
    is one."""
    objective = winners_objective(config.loss)
    if config.learn == "preferences":
        objective = dpo_objective(predict, reference, config.loss, config.mode)
    if anchor is not None and config.anchor_weight:
        objective = anchored(objective, anchor.loss, config.anchor_weight)
        data = with_real_clips(data, anchor.data)
    return TrainingMethod(name, model, objective, data, preview, guard)
