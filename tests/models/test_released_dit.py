"""The importer of released DiT weights: complete, strict, safe."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hallo4.errors import CheckpointError, InputError
from hallo4.models.dit import PortraitDiT
from hallo4.models.released_dit import (
    config_from_released,
    config_from_shapes,
    convert_released,
    load_released_dit,
    our_name,
    released_name,
)

ROOT = Path(__file__).parents[2]
CASE = ROOT / "tests/golden/dit_square"
KEY_LIST = ROOT.parent / "shared/reference/hallo4_dit_keys.json"
CONFIG = json.loads((CASE / "config.json").read_text())


@pytest.fixture
def released():
    return load_file(CASE / "weights.safetensors")


def write(path, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def same_weights(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.skipif(
    not KEY_LIST.is_file(), reason="the list of released keys lies beside the project, not in it"
)
def test_every_released_key_has_its_place():
    listed = json.loads(KEY_LIST.read_text())
    released = {name: torch.empty(shape, device="meta") for name, shape in listed.items()}
    assert len(released) == 1996
    config = config_from_shapes(released, "model_weight.pth")
    with torch.device("meta"):
        model, defaults = PortraitDiT(**config), PortraitDiT()
    model.load_state_dict(convert_released(released, model, "model_weight.pth"), strict=True, assign=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(2770.0e6, rel=1e-4)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in defaults.state_dict().items()}
    assert all(list(config[name]) == list(defaults.config[name]) for name in ("patch_size", "vace_layers"))


def test_names_map_one_to_one(released):
    ours = [our_name(name) for name in released]
    assert None not in ours
    assert len(set(ours)) == len(released)
    assert [released_name(name) for name in ours] == list(released)


@pytest.mark.parametrize(
    ("released_key", "our_key"),
    [
        ("blocks.3.cross_attn.q.weight", "blocks.3.attn2.to_q.weight"),
        ("blocks.3.audio_cross_attn.q.weight", "blocks.3.attn_audio.to_q.weight"),
        ("blocks.3.condition_cross_attn.o.bias", "blocks.3.attn_skeleton.to_out.0.bias"),
        ("blocks.3.norm3.weight", "blocks.3.norm2.weight"),
        ("vace_blocks.0.before_proj.weight", "vace_blocks.0.proj_in.weight"),
        ("module.model.head.modulation", "scale_shift_table"),
        ("model.blocks.0.audio_attn.norm_q.weight", "blocks.0.attn_audio.norm_q.weight"),
        ("blocks.0.audio_norm.bias", "blocks.0.norm_audio.bias"),
        ("blocks.0.img_attn.q.weight", None),
    ],
)
def test_names_are_matched_whole(released_key, our_key):
    assert our_name(released_key) == our_key


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.ckpt"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_container_gives_the_same_model(released, tmp_path, name, wrapped):
    expected = load_released_dit(CASE / "weights.safetensors", CONFIG)
    if name.endswith("safetensors"):
        prefix = "module." if wrapped else ""
        path = write(tmp_path / name, {prefix + key: tensor for key, tensor in released.items()})
    else:
        path = tmp_path / name
        aliased = {key.replace("audio_cross_", "audio_"): tensor for key, tensor in released.items()}
        content = {"state_dict": {"model." + key: tensor for key, tensor in aliased.items()}}
        torch.save(content if wrapped else released, path, _use_new_zipfile_serialization=name == "w.pth")
    assert same_weights(load_released_dit(path, CONFIG), expected)
    assert not load_released_dit(path, CONFIG).training


def test_casting_keeps_norms_and_modulation_in_fp32():
    model = load_released_dit(CASE / "weights.safetensors", CONFIG, torch.bfloat16)
    assert model.blocks[0].attn_audio.to_q.weight.dtype == torch.bfloat16
    for parameter in (
        model.blocks[0].norm_audio.weight,
        model.blocks[0].scale_shift_table,
        model.audio_proj.norm.bias,
    ):
        assert parameter.dtype == torch.float32


def test_missing_unexpected_and_mis_shaped_tensors_are_named(released, tmp_path):
    del released["blocks.1.audio_cross_attn.o.bias"]
    released["blocks.1.img_attn.q.weight"] = torch.zeros(2)
    released["head.head.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        load_released_dit(write(tmp_path / "bad.safetensors", released), CONFIG)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("bad.safetensors")
    assert "1 missing (blocks.1.audio_cross_attn.o.bias)" in message
    assert "1 unexpected (blocks.1.img_attn.q.weight)" in message
    assert "1 mis-shaped (head.head.bias [3] instead of [64])" in message


def test_many_problems_are_counted(released, tmp_path):
    fewer = {name: tensor for name, tensor in released.items() if ".self_attn." not in name}
    with pytest.raises(CheckpointError, match=r"60 missing \(blocks\.0\.self_attn\.q\.weight, .*, \.\.\.\)"):
        load_released_dit(write(tmp_path / "bad.safetensors", fewer), CONFIG)


class RunsCode:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "trap.pth"
    torch.save({"patch_embedding.weight": RunsCode()}, path)
    with pytest.raises(CheckpointError, match=r"trap\.pth holds more than tensors.*was not loaded"):
        load_released_dit(path, CONFIG)
    assert capsys.readouterr().out == ""


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="found nothing"):
        load_released_dit(tmp_path / "absent.pth", CONFIG)
    with pytest.raises(InputError, match="found a folder"):
        load_released_dit(tmp_path, CONFIG)
    whole = (CASE / "weights.safetensors").read_bytes()
    for name, content in {
        "empty.pth": b"",
        "text.ckpt": b"hello, this is no checkpoint at all",
        "cut.safetensors": whole[: len(whole) // 2],
        "zip.pth": b"PK\x03\x04 and nothing more",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_released_dit(tmp_path / name, CONFIG)
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        load_released_dit(tmp_path / "list.pth", CONFIG)


def test_shapes_that_leave_the_config_open_ask_for_it():
    with pytest.raises(CheckpointError, match=r"width 64 and 240 audio inputs.*give the config"):
        load_released_dit(CASE / "weights.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_norm": False}, "qk_norm is False"),
        ({"model_type": "i2v"}, "model_type is 'i2v'"),
        ({"num_heads": 3}, "dim 64 with 3 heads"),
        ({"num_layers": "four"}, "num_layers is 'four'"),
        ({"out_dim": 8}, "out_dim 8"),
    ],
)
def test_released_configs_we_do_not_have(change, message):
    with pytest.raises(CheckpointError, match=message):
        config_from_released(CONFIG | change)
