"""Overriding a configuration from the command line: types, nesting, one-line errors."""

from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Literal

import pytest
import torch

from hallo4.errors import InputError
from hallo4.training import TrainConfig, override
from hallo4.training.number_format import chosen_precision


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    count: int = 3
    label: str = "a"
    flag: bool = False
    limit: float | None = None
    kind: Literal["one", "two"] = "one"
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("setting", "read", "value"),
    [
        ("count=7", lambda c: c.count, 7),
        ("count=2e4", lambda c: c.count, 20000),
        ("label=12", lambda c: c.label, "12"),
        ("label=a=b", lambda c: c.label, "a=b"),
        ("flag=true", lambda c: c.flag, True),
        ("limit=2.5", lambda c: c.limit, 2.5),
        ("limit=None", lambda c: c.limit, None),
        ("limit=none", lambda c: c.limit, None),
        ("kind=two", lambda c: c.kind, "two"),
        ("inner.rate=3e-4", lambda c: c.inner.rate, 3e-4),
        ("inner.betas=(0.8, 0.9)", lambda c: c.inner.betas, (0.8, 0.9)),
        ("inner.names=('head', 'patch')", lambda c: c.inner.names, ("head", "patch")),
    ],
)
def test_values_are_read_by_the_type_of_the_field(setting, read, value):
    found = read(override(Outer(), [setting]))
    assert found == value
    assert type(found) is type(value)


def test_later_settings_win_and_the_original_stays():
    original = Outer()
    changed = override(original, ["count=1", "inner.rate=2", "count=5"])
    assert (changed.count, changed.inner.rate, changed.inner.betas) == (5, 2.0, (0.9, 0.99))
    assert original == Outer()
    with pytest.raises(FrozenInstanceError):
        changed.count = 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("count", "NAME=VALUE"),
        ("=3", "NAME=VALUE"),
        ("cuont=3", "count, label, flag"),
        ("inner.rat=3", "rate, betas, names"),
        ("inner=3", "inner.rate"),
        ("count.x=3", "single value"),
        ("count=1.5", "int"),
        ("count=many", "int"),
        ("flag=7", "bool"),
        ("kind=three", "'one', 'two'"),
        ("inner.betas=(1, 2, 3)", "tuple"),
        ("inner.betas=__import__('os')", "tuple"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(setting, words):
    with pytest.raises(InputError) as caught:
        override(Outer(), [setting])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        "steps=0",
        "clip_norm=0",
        "max_minutes=-1",
        "ema_decay=1",
        "schedule.anneal_fraction=1.5",
        "schedule.warmup_steps=-1",
        "preview_every=-1",
    ],
)
def test_values_out_of_range_are_refused(setting):
    with pytest.raises(InputError, match="must be"):
        override(TrainConfig(name="x", steps=10), [setting])
    with pytest.raises(TypeError):
        TrainConfig(name="x", steps=10, unknown=1)


def test_number_formats_that_cannot_be_trained_in_are_refused(monkeypatch):
    plain = TrainConfig(name="plain", steps=1, mixed_precision="no")
    with pytest.raises(InputError, match="mixed_precision: found 'fp16'"):
        override(plain, ["mixed_precision=fp16"])
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(InputError, match=r"Tesla T4 does not compute in bf16: use --set train.mixed"):
        chosen_precision(replace(plain, mixed_precision="bf16"), gpu)
    assert chosen_precision(plain, gpu) == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(InputError, match="accelerate launch asks for --mixed_precision fp16"):
        chosen_precision(plain, gpu)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    auto = replace(plain, mixed_precision="auto")
    assert chosen_precision(auto, torch.device("cpu")) == "bf16"
