"""Where weights live is decided beforehand and changes no bit of the video."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hallo4.errors import CheckpointError, InputError, MissingExtraError
from hallo4.models.dit import PortraitDiT
from hallo4.models.precision import has_bf16_units
from hallo4.models.wan_autoencoder import WanAutoencoder
from hallo4.pipelines import ModelInfo, PortraitAnimator, load_model, placement
from hallo4.pipelines.model_outline import (
    ModelOutline,
    part_bytes,
    plan_if_large,
    plan_model,
    read_outline,
    work_bytes,
)
from hallo4.pipelines.placement import (
    RESERVE_BYTES,
    PartBytes,
    WorkBytes,
    needed_bytes,
    plan_placement,
    usable_bytes,
)
from hallo4.pipelines.weight_moves import OneAtATime, WeightRules, blocks_of, cast_in_use, stream_blocks

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GB = 10**9
WITHOUT_UNITS = pytest.mark.skipif(has_bf16_units(), reason="this CPU multiplies in bf16 itself")


@pytest.fixture(scope="module")
def released():
    """The released model without its weights, and how it is used on a GPU: (ModelOutline, WeightRules)."""
    with torch.device("meta"):
        dit, autoencoder = PortraitDiT(), WanAutoencoder()
    canvas = {"canvas_sizes_px": ((480, 832),), "window_frames": 81}
    info = ModelInfo("r", "1", steps=25, guidance_scale=6.0, **canvas)
    return ModelOutline(info, Path(), dit, autoencoder, {}), WeightRules(CUDA, None)


@pytest.mark.parametrize(
    ("free_gb", "expected", "scarce"),
    [(80, "resident", False), (24, "resident", False), (12, "offload", False), (8, "stream", True)],
)
def test_the_released_model_on_cards_of_several_sizes(released, free_gb, expected, scarce):
    outline, rules = released
    plan = plan_model(outline, rules, free_gb * GB)
    assert (plan.placement, plan.scarce) == (expected, scarce)
    assert plan.peak_bytes <= free_gb * GB
    cache = work_bytes(outline, rules).cache
    assert plan.cache_bytes == cache if free_gb >= 24 else 0 < plan.cache_bytes < cache
    assert "\n" not in plan.describe()
    assert ("to save memory" in plan.describe()) == scarce


def test_what_is_decoded_in_fp32_is_halved_where_memory_is_scarce_and_nothing_else(released):
    _, rules = released
    with torch.device("meta"):
        autoencoder = WanAutoencoder()
    for scarce, halved in ((False, set()), (True, {"decoder", "post_quant_conv"})):
        place = replace(rules, device=CPU, asked_dtype=torch.bfloat16, scarce=scarce).used_dtype
        names = dict(autoencoder.named_parameters())
        found = {n.split(".")[0] for n in names if place(autoencoder, n, torch.bfloat16) == torch.bfloat16}
        assert found == halved


def test_a_card_that_is_too_small_is_told_what_would_fit(released):
    with pytest.raises(
        InputError, match=r"offers 4\.0 GB.*needs [45]\.\d GB.*stream.*--memory.*cpu"
    ) as error:
        plan_model(*released, 4 * GB)
    assert "\n" not in str(error.value)


def test_sizes_of_the_released_parts(released):
    parts, work = part_bytes(*released), work_bytes(*released)
    assert parts.backbone == 5_576_528_384  # 2.77 B parameters in bf16, but norms, modulation and head
    assert 2 * parts.block < 0.1 * parts.backbone
    assert work.denoising < 4 * GB


PARTS = PartBytes(backbone=6 * GB, autoencoder=1 * GB, block=GB // 10, rest=GB // 5)
WORK = WorkBytes(denoising=2 * GB, autoencoding=4 * GB, cache=3 * GB)


@pytest.mark.parametrize(
    ("device", "free_gb", "expected", "cache_gb"),
    [
        (CUDA, 20, "resident", 3),
        (CUDA, 12, "resident", 2.4),  # 0.6 reserved + 7 of weights + 2 to denoise; 4 to decode
        (CUDA, 11, "offload", 2.4),  # 0.6 + 6 + 2; or 0.6 + 1 + 4
        (CUDA, 8, "stream", 3),
        (CPU, 20, "resident", 3),
        (CPU, 11, "stream", 3),
    ],
)
def test_the_fastest_placement_that_fits(device, free_gb, expected, cache_gb):
    plan = plan_placement(PARTS, WORK, free_gb * GB, device)
    assert plan.placement == expected
    needed = needed_bytes(PARTS, WORK, plan.placement, device, plan.cache_bytes)
    assert plan.peak_bytes == needed <= free_gb * GB
    assert plan.cache_bytes == pytest.approx(cache_gb * GB)


def test_just_enough_is_enough():
    resident = RESERVE_BYTES + 7 * GB + 4 * GB
    assert plan_placement(PARTS, WORK, resident, CUDA).placement == "resident"
    assert plan_placement(PARTS, WORK, resident - 1, CUDA).placement == "offload"


@pytest.mark.parametrize("memory", ["lots", "-3", "0", "nan", "1e99", ""])
def test_impossible_amounts_of_memory_are_refused(memory):
    with pytest.raises(InputError, match="memory is"):
        usable_bytes(memory, CPU)


def test_memory_is_what_is_free_or_less(monkeypatch):
    monkeypatch.setattr(placement, "free_bytes", lambda device: 7 * GB)
    assert usable_bytes("auto", CPU) == 7 * GB
    assert usable_bytes("3.5", CPU) == 3.5 * GB
    assert usable_bytes(12, CPU) == 7 * GB


def test_this_machine_says_how_much_is_free():
    assert 0 < placement.free_bytes(CPU) <= placement.total_bytes(CPU)


def test_small_models_are_not_planned(tiny_model_folder, monkeypatch):
    assert plan_if_large(tiny_model_folder, WeightRules(), "auto") is None
    monkeypatch.setattr("hallo4.pipelines.model_outline.SMALL", 1e9)
    assert plan_if_large(tiny_model_folder, WeightRules(), "auto").placement == "resident"


# ---------------------------------------------------------------------- the same bits


def plan_of(folder, name, rules):
    return replace(plan_model(read_outline(folder), rules, 100 * GB), placement=name)


def video(model, portrait_u8, hum):
    return np.concatenate(list(PortraitAnimator(model).frames(portrait_u8, hum(0.4))))


@pytest.fixture
def resident_video(tiny_model, portrait_u8, hum, computes_in_fp32):
    return video(tiny_model, portrait_u8, hum)


@pytest.mark.parametrize("name", ["resident", "offload", "stream"])
def test_every_placement_gives_the_same_bits(name, tiny_model_folder, resident_video, portrait_u8, hum):
    plan = plan_of(tiny_model_folder, name, WeightRules())
    model = load_model(tiny_model_folder, dtype=torch.float32, plan=plan)
    assert model.cache_bytes == plan.cache_bytes
    assert np.array_equal(video(model, portrait_u8, hum), resident_video)


def test_a_streamed_model_is_kept_as_it_is_stored(tiny_model_folder):
    plan = plan_of(tiny_model_folder, "stream", WeightRules())
    backbone = load_model(tiny_model_folder, dtype=torch.float32, plan=plan).backbone
    stored = load_file(tiny_model_folder / "dit/diffusion_pytorch_model.safetensors")
    for name, tensor in backbone.named_parameters():
        expected = stored[name].dtype if name.startswith(("blocks.", "vace_blocks.")) else torch.float32
        assert tensor.dtype == expected, name


def test_blocks_that_stay_in_their_file_take_no_memory_before_and_after_a_forward(
    tiny_model_folder, portrait_u8, hum
):
    plan = plan_of(tiny_model_folder, "stream", WeightRules())
    model = load_model(tiny_model_folder, dtype=torch.float32, plan=plan)
    of_blocks = [t for block in blocks_of(model.backbone).values() for t in block.parameters()]
    assert len(of_blocks) > 20
    assert sum(t.untyped_storage().nbytes() for t in of_blocks) <= 4 * len(of_blocks)
    video(model, portrait_u8, hum)
    assert sum(t.untyped_storage().nbytes() for t in of_blocks) <= 4 * len(of_blocks)
    assert all(t.isnan().all() for t in of_blocks), "what is not in use can be mistaken for nothing"


def test_a_file_that_goes_while_blocks_stay_in_it_is_named(tiny_model_folder, tmp_path, portrait_u8, hum):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    model = load_model(folder, dtype=torch.float32, plan=plan_of(folder, "stream", WeightRules()))
    (folder / "dit" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model"):
        video(model, portrait_u8, hum)


def test_the_stream_of_diffusers_gives_the_same_bits(tiny_model_folder, resident_video, portrait_u8, hum):
    model = load_model(tiny_model_folder)
    stream_blocks(model.backbone, CPU)
    assert np.array_equal(video(model, portrait_u8, hum), resident_video)


def test_streaming_without_accelerate_names_the_extra(monkeypatch, tiny_model):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match=r"hallo4\[released\]"):
        stream_blocks(tiny_model.backbone, CPU)


@WITHOUT_UNITS
def test_bf16_weights_are_multiplied_in_fp32(tiny_model_folder, portrait_u8, hum):
    kept = load_model(tiny_model_folder, dtype=torch.bfloat16)
    rounded = load_model(tiny_model_folder, dtype=torch.float32)
    for name, tensor in rounded.backbone.named_parameters():
        if dict(kept.backbone.named_parameters())[name].dtype == torch.bfloat16:
            tensor.data = tensor.data.bfloat16().float()
    assert kept.dtype == torch.float32
    assert sum(p.dtype == torch.bfloat16 for p in kept.backbone.parameters()) > 20
    assert np.array_equal(video(kept, portrait_u8, hum), video(rounded, portrait_u8, hum))


def test_unet_blocks_may_be_kept_in_another_type_too(portrait_u8, hum):
    plan = plan_of("tiny-unet-sft", "stream", WeightRules())
    streamed = load_model("tiny-unet-sft", dtype=torch.float32, plan=plan)
    assert any(p.dtype == torch.bfloat16 for p in streamed.backbone.parameters())
    sound = hum(0.1)
    made, expected = (
        next(PortraitAnimator(model).frames(portrait_u8, sound, steps=1))
        for model in (streamed, load_model("tiny-unet-sft", dtype=torch.float32))
    )
    assert np.array_equal(made, expected)


# ---------------------------------------------------------------------- moving


def test_parts_take_turns_and_come_home_unchanged():
    parts = {"one": nn.Linear(2, 2), "other": nn.Linear(3, 3)}
    homes = {name: [p.data_ptr() for p in part.parameters()] for name, part in parts.items()}

    def at_home(name):
        return [p.data_ptr() for p in parts[name].parameters()] == homes[name]

    turns = OneAtATime(parts, torch.clone)
    for name, other in (("one", "other"), ("one", "other"), ("other", "one")):
        turns.bring(name)
        assert not at_home(name)
        assert at_home(other)
    turns.bring("neither")
    assert at_home("one")
    assert at_home("other")


def test_a_part_that_is_there_is_not_brought_again():
    brought = []
    turns = OneAtATime({"one": nn.Linear(2, 2)}, lambda tensor: brought.append(tensor) or tensor.clone())
    for _ in range(3):
        turns.bring("one")
    assert len(brought) == 2  # weight and bias, once


def test_a_block_is_cast_for_its_forward_alone_even_if_that_fails():
    class Block(nn.Linear):
        def forward(self, x):
            assert self.weight.dtype == torch.float32
            return super().forward(x)

    block = Block(2, 2).to(torch.bfloat16)
    stored = block.weight.data_ptr()
    cast_in_use(block, {"weight": torch.float32, "bias": torch.float32})
    block(torch.ones(1, 2))
    with pytest.raises(RuntimeError):
        block(torch.ones(1, 3))
    assert block.weight.dtype == torch.bfloat16
    assert block.weight.data_ptr() == stored


def test_blocks_of_a_dit_are_all_its_blocks(tiny_model):
    assert list(blocks_of(tiny_model.backbone)) == ["blocks.0", "vace_blocks.0"]


# ---------------------------------------------------------------------- memory of loading

LOADING = """
import sys
from pathlib import Path
import torch
from hallo4.weights.module_folder import load_strictly
from torch import nn

class Stack(nn.Module):
    def __init__(self, layers: int = 1, side: int = 8):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(side, side, bias=False) for _ in range(layers))

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

def load(name, config):
    place = lambda module: lambda name, tensor: tensor.to(getattr(torch, sys.argv[2]))
    return load_strictly(Stack, config, Path(sys.argv[1]) / name, place)

load("small", {})
before = peak()
stack = load("large", {"layers": 16, "side": 2048})
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure memory")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_loading_takes_the_model_and_little_more(tmp_path, dtype):
    for name, layers, side in (("small", 1, 8), ("large", 16, 2048)):
        (tmp_path / name).mkdir()
        tensors = {f"layers.{index}.weight": torch.zeros(side, side).bfloat16() for index in range(layers)}
        save_file(tensors, tmp_path / name / "w.safetensors")
    words = [sys.executable, "-c", LOADING, str(tmp_path), dtype]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    tensor_bytes = 2048 * 2048 * getattr(torch, dtype).itemsize
    in_file = 2 * 32_000_000 if dtype == "float32" else 0  # mapped, and given back
    assert int(done.stdout) <= 16 * tensor_bytes + tensor_bytes + in_file
