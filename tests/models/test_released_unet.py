"""The importer of Hallo 1's and 2's weights: complete, strict, safe."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_unets import conditions, make, predict

from hallo4.errors import CheckpointError, InputError
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.models.released_unet import (
    RELEASED_RULES,
    config_from_shapes,
    convert_released,
    load_released_unet,
    our_name,
    released_name,
    start_from_sd15,
)

ROOT = Path(__file__).parents[2]
KEY_LIST = ROOT.parent / "shared/reference/hallo1_net_keys.json"
BESIDE = pytest.mark.skipif(
    not KEY_LIST.is_file(), reason="the list of released keys lies beside the project, not in it"
)
RELEASED_CONFIG = {
    "block_out_channels": [32, 64, 64, 64],
    "cross_attention_dim": 12,
    "audio_attention_dim": 8,
    "face_embedding_dim": 6,
    "num_attention_heads": 8,
    "motion_max_positions": 12,
    "motion_frames": 2,
    "audio_proj": {"seq_len": 5, "blocks": 2, "channels": 3, "intermediate_dim": 10, "context_tokens": 4},
    "motion_scale": {"pose": 1.0, "face": 1.2, "lip": 0.8},
}
FOUR_LEVELS = {
    "block_out_channels": [32, 64, 64, 64],
    "num_attention_heads": 8,
    "norm_num_groups": 32,
    "layers_per_block": 2,
    "skeleton": "none",
    "region_scales": [1.0, 1.2, 0.8],
}


def as_released(model):
    """The state dict of `model` as Hallo would have saved it."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensors[released_name(name)] = tensor.clone()
        if name.endswith("pos_embed.pe"):
            second = released_name(name).replace("attention_blocks.0.pos", "attention_blocks.1.pos")
            tensors[second] = tensor.clone()
    return tensors


@pytest.fixture(scope="module")
def original():
    return make(**FOUR_LEVELS, **RELEASED_RULES)


@pytest.fixture
def released(original):
    return as_released(original)


def write(path, tensors):
    torch.save(tensors, path)
    return path


@BESIDE
def test_every_released_key_has_its_place():
    listed = json.loads(KEY_LIST.read_text())
    released = {name: torch.empty(shape, device="meta") for name, shape in listed.items()}
    assert len(released) == 2656
    with torch.device("meta"):
        model = PortraitUNet(**config_from_shapes(released, "net.pth"))
    model.load_state_dict(convert_released(released, model, "net.pth"), strict=True, assign=True)
    tables = sum(name.endswith("attention_blocks.1.pos_encoder.pe") for name in released)
    assert len(model.state_dict()) + tables == 2656
    sizes = {"all": sum(tensor.numel() for tensor in released.values())}
    for part in ("motion_modules", "audio_modules"):
        sizes[part] = sum(t.numel() for name, t in released.items() if f".{part}." in name)
    assert {part: round(size / 1e6, 1) for part, size in sizes.items()} == {
        "all": 2424.8,
        "motion_modules": 454.4,
        "audio_modules": 212.8,
    }


@BESIDE
def test_names_map_one_to_one():
    listed = list(json.loads(KEY_LIST.read_text()))
    ours = {name: our_name(name) for name in listed if not name.endswith("blocks.1.pos_encoder.pe")}
    assert None not in ours.values()
    assert len(set(ours.values())) == len(ours)
    assert all(released_name(our) == name for name, our in ours.items())


@pytest.mark.parametrize(
    ("released_key", "our_key"),
    [
        ("denoising_unet.conv_in.weight", "denoiser.conv_in.weight"),
        (
            "module.reference_unet.mid_block.resnets.1.conv2.bias",
            "reference_net.mid_block.resnets.1.conv2.bias",
        ),
        (
            "denoising_unet.up_blocks.0.motion_modules.2.temporal_transformer.transformer_blocks.0."
            "attention_blocks.1.to_out.0.bias",
            "denoiser.up_blocks.0.motion_modules.2.transformer_blocks.0.attn2.to_out.0.bias",
        ),
        (
            "denoising_unet.up_blocks.0.motion_modules.2.temporal_transformer.transformer_blocks.0.ff_norm.bias",
            "denoiser.up_blocks.0.motion_modules.2.transformer_blocks.0.norm3.bias",
        ),
        ("imageproj.norm.weight", "face_proj.norm.weight"),
        ("denoising_unet.up_blocks.0.motion_modules.2.something.weight", None),
        ("net_g.conv.weight", None),
    ],
)
def test_names_are_matched_whole(released_key, our_key):
    assert our_name(released_key) == our_key


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "wrapped"])
def test_every_container_gives_the_same_model_at_parity(original, released, tmp_path, kind):
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    if kind == "safetensors":
        save_file(released, path)
    elif kind == "wrapped":
        torch.save({"state_dict": {"module." + name: tensor for name, tensor in released.items()}}, path)
    else:
        torch.save(released, path, _use_new_zipfile_serialization=kind == "zip")
    loaded = load_released_unet(path, RELEASED_CONFIG)
    assert not loaded.training
    assert loaded.config.reference_order == "interleaved"
    assert loaded.config.motion_in_plain is False
    ours, theirs = loaded.state_dict(), original.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_widths_of_audio_modules_are_the_irregular_ones(original):
    """The inner width is that of the block's input below, not of its output."""
    trunk = original.denoiser
    inner = {
        name: [module.proj_in.weight.shape[:2] for module in block.audio_modules]
        for name, block in (("down1", trunk.down_blocks[1]), ("up2", trunk.up_blocks[2]))
    }
    assert inner == {"down1": [(32, 64), (64, 64)], "up2": [(32, 64)] * 3}


def test_a_skeleton_guider_can_be_added_and_changes_nothing_yet(released, tmp_path):
    path = write(tmp_path / "net.pth", released)
    added = {"skeleton": "optional", "skeleton_fps": 50.0, "skeleton_hidden_dim": 8}
    with_guider = load_released_unet(path, RELEASED_CONFIG, changes=added)
    given = conditions(skeleton_rho=2, region_masks=None)
    without = replace(given, skeleton_latents=None)
    plain = load_released_unet(path, RELEASED_CONFIG)
    assert torch.equal(predict(with_guider, given), predict(plain, without))
    assert with_guider.skeleton_guider.conv_in.weight.std() > 0


def test_casting_keeps_positions_in_fp32(released, tmp_path):
    model = load_released_unet(write(tmp_path / "net.pth", released), RELEASED_CONFIG, torch.bfloat16)
    motion = model.denoiser.mid_block.motion_modules[0]
    assert motion.proj_in.weight.dtype == torch.bfloat16
    assert motion.transformer_blocks[0].pos_embed.pe.dtype == torch.float32


def test_missing_unexpected_and_mis_shaped_tensors_are_named(released, tmp_path):
    del released["denoising_unet.conv_out.bias"]
    released["denoising_unet.conv_extra.bias"] = torch.zeros(2)
    released["audioproj.norm.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        load_released_unet(write(tmp_path / "net.pth", released), RELEASED_CONFIG)
    message = str(caught.value)
    assert "\n" not in message
    assert "1 missing (denoising_unet.conv_out.bias)" in message
    assert "1 unexpected (denoising_unet.conv_extra.bias)" in message
    assert "1 mis-shaped (audioproj.norm.bias [3] instead of [8])" in message
    assert "use Hallo's net.pth" in message


def test_second_tables_of_positions_are_expected_and_compared(released, tmp_path):
    name = next(name for name in released if name.endswith("attention_blocks.1.pos_encoder.pe"))
    whole = released.pop(name)
    with pytest.raises(
        CheckpointError, match=r"1 missing \(denoising_unet.*attention_blocks\.1\.pos_encoder\.pe"
    ):
        load_released_unet(write(tmp_path / "net.pth", released), RELEASED_CONFIG)
    released[name] = whole + 1
    with pytest.raises(CheckpointError, match="differs from the table of the first attention"):
        load_released_unet(write(tmp_path / "net.pth", released), RELEASED_CONFIG)


class RunsCode:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    path = write(tmp_path / "net.pth", {"denoising_unet.conv_in.weight": RunsCode()})
    with pytest.raises(CheckpointError, match=r"net\.pth holds more than tensors.*was not loaded; use"):
        load_released_unet(path)
    assert capsys.readouterr().out == ""


def test_other_models_are_told_by_name(tmp_path):
    generator = {"quantize.embedding.weight": torch.zeros(4, 2), "generator.blocks.0.weight": torch.zeros(2)}
    with pytest.raises(
        CheckpointError, match=r"net_g\.pth is Hallo 2's super-resolution.*use hallo2/net\.pth"
    ):
        load_released_unet(write(tmp_path / "net_g.pth", {"params_ema": generator}))
    with pytest.raises(CheckpointError, match=r"dit\.pth is no portrait UNet.*patch_embedding.*use net\.pth"):
        load_released_unet(write(tmp_path / "dit.pth", {"patch_embedding.weight": torch.zeros(2)}))
    with pytest.raises(InputError, match=r"found a folder.*net\.pth"):
        load_released_unet(tmp_path)
    with pytest.raises(InputError, match="found nothing"):
        load_released_unet(tmp_path / "absent.pth")


def test_shapes_that_leave_the_config_open_ask_for_it(released, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"widths \(32, 64, 64, 64\) and 30 audio inputs.*give the config"
    ):
        load_released_unet(write(tmp_path / "net.pth", released))


def test_sizes_that_are_no_numbers_are_refused(released, tmp_path):
    path = write(tmp_path / "net.pth", released)
    with pytest.raises(CheckpointError, match="cross_attention_dim is 'wide'"):
        load_released_unet(path, RELEASED_CONFIG | {"cross_attention_dim": "wide"})


def test_start_from_stable_diffusion(original, tmp_path):
    """Both trunks get the picture layers; what is ours alone keeps its values."""
    trunk = make(seed=9, **FOUR_LEVELS).denoiser
    sd15 = {
        name: tensor.clone()
        for name, tensor in trunk.state_dict().items()
        if ".audio_modules." not in name and ".motion_modules." not in name
    }
    model = make(seed=1, **FOUR_LEVELS)
    with pytest.raises(InputError, match=r"holds no unet/diffusion_pytorch_model\.safetensors"):
        start_from_sd15(model, tmp_path)
    (tmp_path / "unet").mkdir()
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file(sd15, file)
    kept = model.denoiser.mid_block.audio_modules[0].proj_in.weight.clone()
    start_from_sd15(model, tmp_path)
    for part in (model.denoiser, model.reference_net):
        assert torch.equal(part.mid_block.resnets[0].conv1.weight, sd15["mid_block.resnets.0.conv1.weight"])
    assert torch.equal(model.denoiser.mid_block.audio_modules[0].proj_in.weight, kept)
    save_file({name: tensor for name, tensor in sd15.items() if name != "conv_in.bias"}, file)
    with pytest.raises(CheckpointError, match=r"1 missing \(conv_in\.bias\).*use Stable Diffusion 1\.5"):
        start_from_sd15(model, tmp_path / "unet")
