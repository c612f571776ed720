"""`hallo4 doctor`: what this machine has, which models are here, what a job would take; nothing starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from hallo4.cli.options import parse
from hallo4.ranges import Seconds


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do: devices, memory, number formats, extras, models; and of one model, where
    its weights would live and how long a job would take. Nothing is loaded but a few matrices for measuring.
    """

    model: Annotated[str, arg(metavar="NAME_OR_DIR")] = "tiny-dit"
    """a model that comes with hallo4, or a model folder"""
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

    from hallo4.pipelines.diagnosis import diagnose

    lines = diagnose(options.model, options.seconds, options.memory, options.dtype, options.device)
    for name, text in lines:
        print(f"{name:<10} {text}", flush=True)
