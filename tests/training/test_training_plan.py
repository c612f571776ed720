"""Plans of trainings: counted FLOPs and bytes against closed forms, a real run, and each other."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hallo4.cli.front_door import main
from hallo4.models.cost import on_meta
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cost import WindowSize, denoising_flops
from hallo4.recipes import find_recipe
from hallo4.training import OptimizerConfig, TuningConfig
from hallo4.training.ema import EMA
from hallo4.training.optimizer import build_optimizers
from hallo4.training.plan import (
    H100,
    H100_SLOW_NETWORK,
    RELEASED_CLIP,
    StepWork,
    momenta_bytes,
    plan_training,
    plans_for,
    work_of_pairs,
)
from hallo4.training.step_cost import PassCost, WeightCounts, count_pass, count_weights, tuned_without_memory

SIZES = {
    "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": 4, "text_dim": 8, "text_len": 6,
    "freq_dim": 16, "ffn_dim": 256, "vace_in_channels": 72, "audio_blocks": 2, "audio_channels": 6,
    "audio_hidden_dim": 16, "audio_tokens": 2,
}  # fmt: skip
SIZE = WindowSize(9, 8, 8, text_tokens=6)
FULL, LORA = TuningConfig(), TuningConfig(tuning="lora", frozen_dtype="bf16")


def config_of(layers: int, vace: int):
    with on_meta():
        return PortraitDiT(**SIZES, num_layers=layers, vace_layers=tuple(range(vace))).config


def attention_flops(config, size: WindowSize) -> int:
    """Scores and values of every attention of a forward: 4 * queries * keys * width."""
    width = config.num_attention_heads * config.attention_head_dim
    slots, picture = (size.frames - 1) // config.rho + 2, size.height * size.width // 4
    video, audio = slots * picture, config.rho * config.audio_tokens
    shared = 4 * width * video * (video + config.text_len)
    own = 4 * width * slots * picture * (audio + picture)
    return config.num_layers * (shared + own) + len(config.vace_layers) * shared


def first_layer_flops(config, size: WindowSize) -> int:
    """Of layers whose input, latents and conditions, needs no gradient."""
    width = config.num_attention_heads * config.attention_head_dim
    slots, picture = (size.frames - 1) // config.rho + 2, size.height * size.width // 4
    narrow, features = width // config.rho, 5 * config.audio_blocks * config.audio_channels
    patches = 2 * slots * picture * 4 * (config.in_channels + config.vace_in_channels) * width
    audio = 2 * size.frames * features * config.audio_hidden_dim
    skeleton = 2 * size.frames * picture * 4 * config.in_channels * narrow
    text = 2 * config.text_len * config.text_dim * width
    return patches + audio + skeleton + text + 2 * config.freq_dim * width


def test_flops_of_a_full_step_are_the_closed_form():
    """Backward is two products for one of the forward; five for two in attention."""
    config = config_of(2, 1)
    cost = count_pass(config, FULL, SIZE, torch.float32)
    forward, attention = denoising_flops(config, SIZE), attention_flops(config, SIZE)
    assert cost.forward_flops == forward
    backward = 2 * (forward - attention) + 2.5 * attention - first_layer_flops(config, SIZE)
    assert cost.training_flops == pytest.approx(forward + backward, rel=2e-4)


def test_checkpointing_computes_the_blocks_again_in_less_memory():
    config = config_of(6, 1)
    kept = count_pass(config, FULL, SIZE, torch.float32)
    again = count_pass(config, replace(FULL, gradient_checkpointing=True), SIZE, torch.float32)
    assert 0.95 < (again.training_flops - kept.training_flops) / kept.forward_flops < 1.0
    assert again.working_bytes < 0.5 * kept.working_bytes


@pytest.mark.parametrize("tuning", [FULL, LORA, replace(FULL, gradient_checkpointing=True)])
def test_deep_models_are_counted_from_shallow_ones(tuning, monkeypatch):
    config = config_of(6, 3)
    whole = count_pass(config, tuning, SIZE, torch.bfloat16)
    monkeypatch.setattr("hallo4.training.step_cost.COUNTED_WHOLE", 0)
    from_shallow = count_pass(config, tuning, SIZE, torch.bfloat16)
    assert from_shallow.forward_flops == whole.forward_flops
    assert from_shallow.training_flops == whole.training_flops
    assert from_shallow.working_bytes == pytest.approx(whole.working_bytes, rel=0.02)


def test_weights_and_what_is_kept_of_them_are_those_of_a_real_model():
    config = config_of(2, 1)
    counts = count_weights(config, FULL)
    model = PortraitDiT(**SIZES, num_layers=2, vace_layers=(0,))
    model.requires_grad_(True)
    for name in model.idle_parameters(True):
        model.get_parameter(name).requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert counts.trained == sum(p.numel() for p in trained)
    assert counts.bytes == sum(p.numel() * 4 for p in model.parameters())
    (optimizer,) = build_optimizers(model, OptimizerConfig())
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    momenta = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    assert momenta_bytes(OptimizerConfig(), counts.trained) == sum(m.numel() * 4 for m in momenta)
    assert 4 * counts.trained == sum(m.numel() * 4 for m in EMA(model, 0.9).weights.values())


def test_an_adapter_of_rank_r_trains_r_rows_and_columns():
    config = config_of(2, 1)
    counts = count_weights(config, LORA)
    width, rank = 64, LORA.adapter.rank
    model = tuned_without_memory(config, LORA)
    layers = [m for m in model.modules() if hasattr(m, "lora_A")]
    assert len(layers) == 4 * (3 * 2 + 1)  # query, key, value, output of three attentions, and of one
    assert counts.trained == sum(rank * (m.in_features + m.out_features) for m in layers)
    assert counts.trained == 28 * rank * 2 * width
    assert counts.frozen_bytes < 0.6 * 4 * sum(p.numel() for p in model.parameters() if not p.requires_grad)


WEIGHTS = WeightCounts(1000, 600, 100, 460, 50, 230)
WORK = StepWork(micro_batches=3, flops=7, working_bytes=10_000, gathers=2)


def test_exchanged_bytes_are_those_of_rings():
    """A device of N sends (N-1) of N portions in a gather or a scatter, and twice that in a sum of all."""
    for devices in (2, 8, 64):
        part = 4000 / devices
        ddp, fsdp = (
            plan_training(way, devices, WEIGHTS, WORK, OptimizerConfig()) for way in ("DDP", "FSDP2")
        )
        assert ddp.exchanged_bytes == pytest.approx(sum(2 * part for _ in range(devices - 1)))
        gathers = 3 * (devices - 1) * (2 * 4600 / devices + part)
        assert fsdp.exchanged_bytes == pytest.approx(gathers)
        inside = devices <= H100.per_machine
        assert ddp.exchange_s(H100) == ddp.exchanged_bytes / 300e9
        assert ddp.exchange_s(H100_SLOW_NETWORK) == ddp.exchanged_bytes / (300e9 if inside else 10e9)
    alone = plan_training("DDP", 1, WEIGHTS, WORK, OptimizerConfig())
    assert alone.exchanged_bytes == 0
    assert alone.compute_s(H100) == 21 / 4e14


def test_memory_is_shared_out_but_for_activations_and_whole_blocks():
    muon = OptimizerConfig(kind="muon")
    ddp = plan_training("DDP", 4, WEIGHTS, WORK, muon).memory
    fsdp = plan_training("FSDP2", 4, WEIGHTS, WORK, muon).memory
    assert vars(ddp) == {
        "weights": 4600, "gradients": 4000, "momenta": 4000, "mean": 4000, "reference": 0,
        "gathered": 2000, "working": 10_000,
    }  # fmt: skip
    for name in ("weights", "gradients", "momenta", "mean"):
        assert getattr(fsdp, name) == getattr(ddp, name) / 4
    assert fsdp.gathered == 2 * 460 + 230 + 4 * 150 + 2 * 100
    copy = replace(WORK, copy_of_trained=True)
    assert plan_training("FSDP2", 4, WEIGHTS, copy, muon).memory.reference == 1000


def test_work_on_pairs_counts_every_pass():
    cost = PassCost(forward_flops=10, training_flops=30, working_bytes=5)
    batched = work_of_pairs(cost, 2, 1, "batched", table=False)
    assert (batched.flops, batched.working_bytes, batched.gathers) == (2 * 2 * 30 + 2 * 2 * 10, 20, 3)
    split = work_of_pairs(cost, 2, 1, "split", table=True)
    assert (split.flops, split.working_bytes) == (2 * 2 * 30 + 2 * 10, 10)


def test_the_doctor_says_what_a_training_would_take(capsys):
    assert main(["doctor", "--train", "tiny-dit-sft", "--model", "tiny-dit", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "tiny-dit-sft" in said
    assert said.count("FSDP2") == 6
    assert "slow network" in said


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--train", "nothing"], "'nothing' is not a recipe; there are tiny-autoencoder"),
        (["--train", "tiny-audio"], "this recipe is neither"),
        (["--train", "hallo4-sft", "--model", "tiny-unet"], "is a UNet, whose training is not planned"),
        (["--train", "hallo4-sft", "--set", "nonsense=1"], "has no 'nonsense'"),
        (["--set", "train.steps=4"], "--set changes a recipe: name it with --train"),
    ],
)
def test_what_cannot_be_planned_is_one_line(options, line, capsys):
    assert main(["doctor", *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert line in said[-1]
    assert sum(text.startswith("hallo4: error") for text in said) == 1


def test_the_page_has_the_figures_of_the_plans():
    page = (Path(__file__).parents[2] / "docs" / "full_scale.md").read_text()
    with on_meta():
        config = PortraitDiT().config
    for recipe in ("hallo4-sft", "hallo4-dpo"):
        rows = page.split(f"| `{recipe}` |")[1].splitlines()[2:12]
        found = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
        plans = plans_for(find_recipe(recipe).config, config, RELEASED_CLIP, (1, 8, 64))
        wanted = [
            [
                *("LoRA" if kind == "lora" else "full", str(plan.devices)),
                *(plan.sharding if plan.devices > 1 else "-", f"{plan.memory.total / 1e9:.1f}"),
                *(f"{plan.compute_s(H100):.1f}", f"{plan.exchanged_bytes / 1e9:.1f}"),
                *(f"{plan.exchange_s(hardware):.2f}" for hardware in (H100, H100_SLOW_NETWORK)),
            ]
            for kind, of_kind in plans.items()
            for plan in of_kind
        ]
        assert found == wanted
