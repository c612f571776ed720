"""What a training would take on N devices, before it starts: memory of each, time of a step, on paper.

With T trained parameters (fp32), W bytes of all weights, A micro-batches a step on each device, and g passes
through all blocks that need the weights (forward, backward, and one for each forward of a reference):

    DDP     W, 4T gradients, momenta, 4T mean weights     on every device
            exchanged a step:        2 (N-1)/N 4T         (ring all-reduce of the gradients)
    FSDP2   all of these / N, and two blocks whole        on every device
            exchanged a step:        A (N-1)/N (g W + 4T) (all-gather of weights, reduce-scatter of gradients)

Seconds are bytes over an assumed bandwidth, and counted FLOPs over an assumed or measured speed. Exchanges
run beside the arithmetic where both fit, so a step takes the longer of the two at best, their sum at worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from hallo4.errors import InputError
from hallo4.models.dit_cost import WindowSize
from hallo4.training.config import OptimizerConfig
from hallo4.training.pairs import PairConfig
from hallo4.training.sft import SFTConfig
from hallo4.training.step_cost import PassCost, WeightCounts, count_pass, count_weights
from hallo4.training.tuning import TuningConfig

Sharding = Literal["DDP", "FSDP2"]


@dataclass(frozen=True)
class Hardware:
    """Assumed: memory and achieved speed of one device, and bandwidths in bytes a second, of a device to the
    others of its machine (`inside`) and of a whole machine of `per_machine` devices to the others
    (`between`)."""

    name: str
    memory_bytes: float
    flops_per_s: float
    inside: float
    between: float
    per_machine: int = 8

    def bandwidth(self, devices: int) -> float:
        """Of a ring over `devices`: what leaves a machine goes over all its links together."""
        return self.inside if devices <= self.per_machine else min(self.inside, self.between)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.name}, {self.flops_per_s / 1e12:g} TFLOP/s, {self.per_machine} a machine with "
            f"{self.inside / 1e9:g} GB/s between them, {self.between / 1e9:g} GB/s from machine to machine"
        )


H100 = Hardware("H100 80 GB", 80e9, 4e14, 300e9, 320e9)
"""40 % of 989 TFLOP/s in bf16; two thirds of 450 GB/s of NVLink; 80 % of 8 x 400 Gb/s of network."""
H100_SLOW_NETWORK = Hardware("H100 80 GB", 80e9, 4e14, 300e9, 10e9)
"""The same with one link of 100 Gb/s a machine, at 80 %."""
RELEASED_CLIP = WindowSize(81, 60, 104, text_tokens=512)
"""81 frames of 480x832, as the released model was trained on."""


@dataclass(frozen=True)
class StepWork:
    """What one device does in a step: `micro_batches` of `flops` each, with `working_bytes`; in each of them
    the weights of every block are needed `gathers` times. `copy_of_trained`: a reference is kept."""

    micro_batches: int
    flops: int
    working_bytes: int
    gathers: int
    copy_of_trained: bool = False

    @property
    def step_flops(self) -> int:
        """Of all micro-batches."""
        return self.micro_batches * self.flops


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device; `reference`: a frozen copy; `gathered`: whole blocks, and casts of weights to the
    format of the products."""

    weights: float
    gradients: float
    momenta: float
    mean: float
    reference: float
    gathered: float
    working: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class TrainingPlan:
    """One way to train, on `devices` devices: memory of each, its work, and bytes it exchanges in a step."""

    sharding: Sharding
    devices: int
    memory: DeviceMemory
    work: StepWork
    exchanged_bytes: float

    def compute_s(self, hardware: Hardware) -> float:
        """Seconds of arithmetic in a step."""
        return self.work.step_flops / hardware.flops_per_s

    def exchange_s(self, hardware: Hardware) -> float:
        """Seconds that the exchanges of a step take; beside the arithmetic where both fit."""
        return self.exchanged_bytes / hardware.bandwidth(self.devices)


def work_of_sft(cost: PassCost, clips: int, micro_batches: int) -> StepWork:
    """Fine-tuning on `clips` at a time; also the winners alone."""
    return StepWork(micro_batches, clips * cost.training_flops, clips * cost.working_bytes, 2)


def work_of_pairs(
    cost: PassCost, pairs: int, micro_batches: int, mode: Literal["batched", "split"], table: bool
) -> StepWork:
    """Preference training on `pairs` at a time; `table`: the reference is read, not computed."""
    reference = 0 if table else 2 * pairs * cost.forward_flops
    both = 2 * pairs * cost.training_flops
    if mode == "batched":
        return StepWork(micro_batches, both + reference, 2 * pairs * cost.working_bytes, 2 + (not table))
    again = pairs * cost.forward_flops  # the loser's forward, which its checkpoint repeats
    gathers = 5 + 2 * (not table)
    return StepWork(micro_batches, both + again + reference, pairs * cost.working_bytes, gathers)


def momenta_bytes(optimizer: OptimizerConfig, trained: int) -> int:
    """Of AdamW two numbers for each parameter, in fp32 or, but for their scales, in 8 bits; of Muon, which
    takes most, one."""
    if optimizer.kind == "muon":
        return 4 * trained
    return (8 if optimizer.adamw_state == "fp32" else 2) * trained


def plan_training(
    sharding: Sharding,
    devices: int,
    weights: WeightCounts,
    work: StepWork,
    optimizer: OptimizerConfig,
    cast_bytes: int = 2,
) -> TrainingPlan:
    """`cast_bytes`: of a number in the products, 2 for bf16; 0 where products are in fp32."""
    reference = 4 * weights.trained if work.copy_of_trained else 0
    gradients, momenta = 4 * weights.trained, momenta_bytes(optimizer, weights.trained)
    around = (devices - 1) / devices
    if sharding == "DDP":
        casts = cast_bytes * weights.trained  # autocast keeps those of one forward
        held = (weights.bytes, gradients, momenta, gradients, reference)
        memory = DeviceMemory(*held, casts, work.working_bytes)
        exchanged = 2 * around * gradients
    else:
        blocks = 2 * weights.largest_bytes + weights.outer_bytes  # the next one is gathered meanwhile
        summed = 4 * (weights.largest_trained + weights.outer_trained)
        gathered = blocks + summed + cast_bytes * weights.largest_trained
        shares = (weights.bytes, gradients, momenta, gradients, reference)
        memory = DeviceMemory(*(share / devices for share in shares), gathered, work.working_bytes)
        exchanged = work.micro_batches * around * (work.gathers * weights.bytes + gradients)
    return TrainingPlan(sharding, devices, memory, work, exchanged)


def plans_for(
    config: Any, backbone: Any, size: WindowSize, devices: Sequence[int] = (1, 2, 8, 64)
) -> dict[str, list[TrainingPlan]]:
    """The tunings `lora` and `full` -> plans of a recipe's `config` for a DiT of the configuration `backbone`
    and clips of `size`: of one device, and of DDP and FSDP2 on more. InputError: it trains no such model."""
    if not (isinstance(config, TuningConfig) and isinstance(config, SFTConfig | PairConfig)):
        raise InputError(
            "only fine-tuning and preference training of a DiT are planned, and this recipe is neither."
        )
    plans: dict[str, list[TrainingPlan]] = {}
    for kind in ("lora", "full"):
        chosen = config if config.tuning == kind else replace(config, tuning=kind, trainable=(), frozen=())
        weights = count_weights(backbone, chosen)
        work = work_of(chosen, count_pass(backbone, chosen, size, torch.bfloat16))
        given = (weights, work, chosen.train.optimizer)
        plans[kind] = [
            plan_training(sharding, count, *given)
            for count in devices
            for sharding in (("DDP",) if count == 1 else ("DDP", "FSDP2"))
        ]
    return plans


def work_of(config: Any, cost: PassCost) -> StepWork:
    """What a recipe's step does on one device."""
    clips, micro_batches = config.batch_size, config.train.accumulate
    if isinstance(config, PairConfig) and config.learn == "preferences":
        table = config.reference == "table"
        work = work_of_pairs(cost, clips, micro_batches, config.mode, table)
        return replace(work, copy_of_trained=config.tuning == "full" and not table)
    return work_of_sft(cost, clips, micro_batches)
