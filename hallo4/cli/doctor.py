"""`hallo4 doctor`: what this machine has, which models are here, what a job would take; nothing starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from hallo4.cli.options import parse
from hallo4.ranges import Seconds


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do: devices, memory, number formats, extras, models; and of one model, where
    its weights would live and how long a job would take. Nothing is loaded but a few matrices for measuring.
    """

    model: Annotated[
        str, arg(metavar="NAME_OR_DIR", help_behavior_hint="(default: tiny-dit, or the released sizes)")
    ] = ""
    """a model that comes with hallo4, or a model folder"""
    train: Annotated[str, arg(metavar="RECIPE", help_behavior_hint="")] = ""
    """say instead what this training would take, on 1 to 64 devices"""
    changes: Annotated[
        UseAppendAction[tuple[str, ...]], arg(name="set", metavar="A.B=C", help_behavior_hint="(repeatable)")
    ] = ()
    """with --train: a value of the recipe's configuration, such as train.accumulate=4"""
    seconds: Annotated[Seconds, arg(metavar="N")] = 10.0
    """how long the sound of the job is"""
    memory: Annotated[str, arg(metavar="auto|N")] = "auto"
    """how many GB of the device may be used"""
    dtype: Annotated[str, arg(metavar="auto|fp32|bf16")] = "auto"
    """number format of the weights and their products"""
    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """auto, cpu, cuda or cuda:N"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 doctor` and print lines of a name and what is to be said of it."""
    options = parse(Doctor, list(words), prog="hallo4 doctor")

    from hallo4.errors import InputError

    if options.train:
        from hallo4.cli.doctor_train import say_training

        say_training(options.train, options.changes, options.model or None, options.device)
        return
    if options.changes:
        raise InputError("--set changes a recipe: name it with --train.")
    from hallo4.pipelines.diagnosis import diagnose

    lines = diagnose(
        options.model or "tiny-dit", options.seconds, options.memory, options.dtype, options.device
    )
    for name, text in lines:
        print(f"{name:<10} {text}", flush=True)
