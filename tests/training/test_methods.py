"""What is drawn for fine-tuning, what of a model is trained, and values out of range."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hallo4.diffusion import PairDrawConfig, PreferenceLossConfig, sample_sigma
from hallo4.errors import InputError
from hallo4.models.window_conditions import DiTWindows
from hallo4.pipelines import load_model
from hallo4.training import (
    AdapterConfig,
    PairConfig,
    PreferenceGuard,
    ScheduleConfig,
    SFTConfig,
    TrainConfig,
    TuningConfig,
    adapter_state,
    override,
    sft,
    train,
    tuned,
)
from hallo4.training.local_sharpness import size_difference
from hallo4.training.lora import linear_layers
from hallo4.training.sft import SFTBatches, draw_batch, sft_objective
from hallo4.training.tuning import names_of

RUN = TrainConfig("run", 1, mixed_precision="no")
CLIPS = 6


class NoiseClips:
    """Six clips of noise in two shapes; a clip knows its number."""

    groups = property(lambda self: {"2x4x4": torch.arange(4), "2x4x6": torch.arange(4, CLIPS)})

    def __len__(self):
        return CLIPS

    def batch(self, indices):
        width = 4 if int(indices[0]) < 4 else 6
        numbers = indices.float()[:, None, None, None, None]
        return {
            "video": numbers + torch.zeros(len(indices), 4, 2, 4, width),
            "reference": torch.ones(len(indices), 4, 1, 4, width),
            "skeleton": torch.ones(len(indices), 4, 5, 4, width),
            "audio_windows": torch.ones(len(indices), 5, 5, 2, 6),
            "grey": torch.zeros(1, 4, 2, 4, width),
            "regions": torch.zeros(len(indices), 3, 2, 4, width, dtype=torch.bool),
        }


@pytest.fixture
def rules(toolbox) -> DiTWindows:
    return toolbox.make_dit().windows


def test_draws_are_those_of_a_generator_in_the_order_that_trainings_had_before(rules):
    """Values of runs that drew from torch's global generator, in the loss: they are the same numbers."""
    config = SFTConfig(batch_size=4, known_noise=0.5, known_share=0.5, silent_share=0.5, shift=3.0)
    clips = NoiseClips().batch(torch.arange(4))
    batch = draw_batch(clips, config, rules, torch.Generator().manual_seed(11))
    torch.manual_seed(11)
    blur = 0.5 * torch.rand(4, 1, 1, 1, 1)
    assert torch.equal(batch["known_noise"], blur * torch.randn_like(clips["video"][:, :, :1]))
    assert torch.equal(batch["continues"], torch.rand(4) < 0.5)
    assert torch.equal(batch["silent"], torch.rand(4) < 0.5)
    assert torch.equal(batch["noise"], torch.randn_like(clips["video"]))
    assert torch.equal(batch["sigma"], sample_sigma(4, shift=3.0))


def test_a_batch_depends_on_its_index_and_seed_alone(rules):
    data = SFTBatches(NoiseClips(), SFTConfig(batch_size=2), rules, seed=3)
    first, again = (data(5, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["noise"], data(6, torch.Generator())["noise"][..., : first["noise"].shape[-1]]
    )
    seen = [data(index, torch.Generator())["video"][:, 0, 0, 0, 0].tolist() for index in range(3)]
    assert sorted(int(number) for batch in seen for number in batch) == list(range(CLIPS))


def test_rows_that_are_left_out_are_never_drawn(rules):
    data = SFTBatches(NoiseClips(), SFTConfig(batch_size=2), rules, 0, rows=torch.tensor([1, 3, 5]))
    drawn = {int(n) for index in range(9) for n in data(index, torch.Generator())["video"][:, 0, 0, 0, 0]}
    assert drawn == {1, 3, 5}


def test_the_loss_is_a_function_of_model_and_batch(toolbox, tiny_parts, rules):
    model, autoencoder = toolbox.make_dit(), tiny_parts[1]
    config = SFTConfig(batch_size=4)
    batch = draw_batch(NoiseClips().batch(torch.arange(4)), config, rules, torch.Generator().manual_seed(0))
    losses = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses.add(float(sft_objective(config, autoencoder)(model, batch, 0)[0].detach()))
    assert len(losses) == 1


def test_detail_is_measured_on_the_latents_that_the_velocity_means(monkeypatch):
    """Noisy latents minus sigma times the velocity; a UNet has no such ones."""
    model = load_model("tiny-dit-sft")
    config = SFTConfig(batch_size=2, silent_share=0.0)
    batch = window_batch(model, config)
    looked_at = {}

    def velocity(bare, noisy, sigma, conditions):
        looked_at["made"] = 0.5 * noisy - 0.1  # of which this is the velocity
        return (noisy - looked_at["made"]) / sigma.view(-1, 1, 1, 1, 1)

    monkeypatch.setattr(sft, "predict", velocity)
    plain, _ = sft_objective(config, model.autoencoder)(model.backbone, batch, 0)
    detailed = replace(config, detail_weight=0.7)
    loss, values = sft_objective(detailed, model.autoencoder)(model.backbone, batch, 0)
    expected = float(size_difference(looked_at["made"], batch["video"]))
    assert values["size_difference"] == pytest.approx(expected, rel=1e-3)
    assert float(loss) == pytest.approx(float(plain) + 0.7 * expected, rel=1e-4)
    unet = load_model("tiny-unet-sft")
    with pytest.raises(InputError, match="discrete noise levels; use detail_weight=0"):
        sft_objective(detailed, unet.autoencoder)(unet.backbone, window_batch(unet, config), 0)


@pytest.mark.parametrize("family", ["tiny-dit-sft", "tiny-unet-sft"])
def test_idle_parameters_are_those_without_a_gradient(family):
    model = load_model(family)
    backbone = model.backbone.requires_grad_(True)
    config = SFTConfig(batch_size=2)
    batch = window_batch(model, config)
    sft_objective(config, model.autoencoder)(backbone, batch, 0)[0].backward()
    without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert without
    assert sorted(without) == sorted(backbone.idle_parameters(text=False))


@pytest.mark.parametrize(("family", "scored"), [("tiny-dit-sft", [0, 1]), ("tiny-unet-sft", [2, 3, 4, 5, 6])])
def test_all_that_sampling_makes_is_scored_what_is_known_or_not(family, scored, monkeypatch):
    """A DiT makes the known frame of a window again, under noise; a UNet's known frames stand before it."""
    model, config = load_model(family), SFTConfig(batch_size=2, known_share=1.0)
    batch = window_batch(model, config)
    errors = []
    for latent in range(batch["video"].shape[2]):

        def off(predict, kind, backbone, clean, *draws, latent=latent):
            wrong = (batch["video"][:, :, latent : latent + 1] == clean).flatten(3).all(-1).all(1)
            return wrong[:, None, :, None, None] * torch.ones_like(clean), torch.zeros_like(clean)

        monkeypatch.setattr(sft, "found_and_wanted", off)
        errors.append(float(sft_objective(config, model.autoencoder)(model.backbone, batch, 0)[0]))
    assert [latent for latent, error in enumerate(errors) if error] == scored


def window_batch(model, config):
    """Two windows of five frames, of noise."""
    rules = model.backbone.windows
    channels, frames = model.autoencoder.spec.latent_channels, 5 + rules.known_frames
    latents = frames if model.info.family == "unet" else 2
    frames = frames if model.info.family == "unet" else 5
    clips = {
        "video": torch.randn(2, channels, latents, 4, 4), "reference": torch.randn(2, channels, 1, 4, 4),
        "skeleton": torch.randn(2, channels, frames, 4, 4), "audio_windows": torch.randn(2, frames, 5, 4, 40),
        "grey": torch.randn(1, channels, latents, 4, 4),
        "regions": torch.zeros(2, 3, latents, 4, 4, dtype=torch.bool),
    }  # fmt: skip
    return draw_batch(clips, config, rules, torch.Generator().manual_seed(0))


def test_a_model_with_prompts_has_no_idle_attention(toolbox):
    dit = toolbox.make_dit()
    assert dit.idle_parameters(text=True) == []
    assert all(".attn2." in name or ".norm2." in name for name in dit.idle_parameters(text=False))


def test_frozen_weights_in_bf16_are_all_but_what_stays_in_fp32(toolbox):
    config = TuningConfig(tuning="lora", frozen_dtype="bf16", adapter=AdapterConfig(rank=2))
    model = tuned(toolbox.make_dit(), config, RUN)
    for name, parameter in model.named_parameters():
        kept = parameter.requires_grad or model.keeps_fp32(name)
        assert parameter.dtype == (torch.float32 if kept else torch.bfloat16), name
    assert adapter_state(model)
    plain = tuned(toolbox.make_dit(), replace(config, frozen_dtype="fp32"), RUN)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}


def test_parts_are_found_wherever_they_are_and_by_whole_names(toolbox):
    dit = toolbox.make_dit()
    found = names_of(dit, ["attn1"])
    assert {name.split(".")[0] for name in found} == {"blocks", "vace_blocks"}
    assert all(".attn1." in name for name in found)
    layers = linear_layers(dit, ["ffn"])
    assert all(isinstance(dit.get_submodule(layer), nn.Linear) for layer in layers)
    assert len(layers) == 2 * 3
    with pytest.raises(InputError, match=r"part called 'attn'; parts are called .*attn1"):
        names_of(dit, ["attn"])


OUT_OF_RANGE = [
    (PairConfig(), "loss.beta=0", "loss.beta"),
    (PairConfig(), "loss.label_smoothing=0.5", "loss.label_smoothing"),
    (PairConfig(), "draw.strata=0", "draw.strata"),
    (PairConfig(), "draw.sigma_range=(0.1, 1.5)", "draw.sigma_range"),
    (PairConfig(), "draw.sigma_range=(0.5, 0.5)", "sigma_range of a pair's draw is 0.5 to 0.5"),
    (PairConfig(), "loss.alignment_window=(0.9, 0.1)", "alignment_window of the preference loss"),
    (PairConfig(), "anchor_weight=-1", "anchor_weight"),
    (PairConfig(), "reference=none", "reference"),
    (SFTConfig(), "regions.mouth=-1", "regions.mouth"),
    (SFTConfig(), "known_share=1.5", "known_share"),
    (TuningConfig(), "adapter.rank=0", "adapter.rank"),
    (TuningConfig(), "frozen_dtype=fp8", "frozen_dtype"),
]


@pytest.mark.parametrize(("config", "setting", "words"), OUT_OF_RANGE, ids=[case[1] for case in OUT_OF_RANGE])
def test_values_out_of_range_are_refused_in_a_line(config, setting, words):
    with pytest.raises(InputError) as refusal:
        override(config, [setting])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PreferenceLossConfig(beta=float("nan")),
        lambda: PreferenceLossConfig(objective="best"),
        lambda: PairDrawConfig(seed=-1),
        lambda: PreferenceGuard(max_logit=0.0),
        lambda: SFTConfig(batch_size=0),
    ],
)
def test_records_that_are_made_in_code_are_checked_too(make):
    with pytest.raises(InputError):
        make()


def test_kernels_that_lie_channels_last_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr("hallo4.training.loop.plot_log", lambda folder: None)  # slow

    def trained(steps: int, folder: str) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Conv2d(3, 3, 3, padding=1).to(memory_format=torch.channels_last)
        schedule = ScheduleConfig(warmup_steps=0, anneal_fraction=0.0)
        config = TrainConfig("kernels", steps, mixed_precision="no", schedule=schedule)
        data = lambda index, generator: torch.randn(2, 3, 8, 8, generator=generator)  # noqa: E731
        train(
            config, lambda m, x, step: ((m(x) - x).square().mean(), {}), model, data, folder=tmp_path / folder
        )
        return model

    whole, _, parts = trained(4, "whole"), trained(2, "parts"), trained(4, "parts")
    assert not whole.weight.is_contiguous()
    assert torch.equal(whole.weight, parts.weight)
