"""The benchmark of preference schemes counts bytes: at a small size its counts obey what they must."""

import importlib.util
from pathlib import Path

import pytest
import torch

SMALL = "--width 48 --heads 2 --layers 2 --frames 5 --latent-side 8 --rounds 0 --precision fp32".split()


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "dpo_memory.py"
    spec = importlib.util.spec_from_file_location("dpo_memory", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(benchmark):
    return benchmark.report(benchmark.arguments(SMALL))


def test_live_bytes_are_those_of_what_lives(benchmark):
    old = torch.zeros(1000)
    with benchmark.LiveBytes([old]) as live:
        kept = torch.ones(100)  # 400 bytes
        view = kept.view(10, 10)[1:]
        gone = torch.ones(50) + 1  # 200 bytes, and 200 for a moment
        del gone
        old.add_(1)
        seen = live.now
    assert live.peak == 400 + 2 * 200
    assert seen == 400
    assert view.untyped_storage().nbytes() == 400


def step_peak(benchmark, name: str, *words: str) -> int:
    args = benchmark.arguments([*SMALL, *words])
    return benchmark.Scheme(name, args, benchmark.random_pairs(args)).memory()["step_peak"]


def test_what_recomputes_holds_less(benchmark):
    assert step_peak(benchmark, "lora") < 0.7 * step_peak(benchmark, "lora", "--no-checkpointing")


def test_a_second_model_costs_its_weights_and_nothing_else_changes(found):
    of = {name: result["bytes"] for name, result in found["schemes"].items()}
    model = of["naive"]["second_model"]
    assert model == 4 * found["parameters"]
    assert of["naive"]["total"] - of["full_table"]["total"] == model
    assert of["lora_second_model"]["total"] - of["lora"]["total"] == model
    assert of["naive"]["weights"] == of["naive"]["gradients"] == model
    assert of["lora"]["optimizer"] == pytest.approx(2 * of["lora"]["gradients"], rel=0.01)
    for scheme in of.values():
        assert scheme["total"] == sum(
            scheme[n] for n in ("weights", "second_model", "optimizer", "step_peak")
        )


@pytest.mark.parametrize("words", [(), ("--no-checkpointing",)])
def test_group_6_split_pairs_hold_the_activations_of_one_clip(benchmark, words):
    assert step_peak(benchmark, "lora_split", *words) < 0.6 * step_peak(benchmark, "lora", *words)


def test_the_count_is_the_same_every_time(benchmark, found):
    again = benchmark.report(benchmark.arguments(SMALL))
    assert again == found
    assert found["schemes"]["naive"]["memory_ratio"] == 1.0
    assert set(found["goals_met"]) == {"lora memory <= 0.35", "lora_split memory <= 0.25"}


def test_times_are_reported_beside_memory(benchmark, tmp_path):
    words = [*SMALL, "--rounds", "1", "--layers", "1", "-o", str(tmp_path / "report.json")]
    args = benchmark.arguments(words)
    report = benchmark.report(args)
    assert all(result["seconds"]["median"] > 0 for result in report["schemes"].values())
    assert report["schemes"]["naive"]["time_ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert "lora time <= 0.95" in report["goals_met"]
