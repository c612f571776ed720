"""Names of the released autoencoder and of diffusers' are a one-to-one map that covers every tensor."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from hallo4.models.released_wan import diffusers_vae_name_to_released, released_vae_name_to_diffusers
from hallo4.weights.tensors import read_tensors

RELEASED = (
    Path(__file__).parents[3] / "shared/golden/end_to_end/pretrained_models/Wan2.1_Encoders/Wan2.1_VAE.pth"
)


def diffusers_shapes(**config):
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in AutoencoderKLWan(**config).state_dict().items()}


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ("conv1.weight", "quant_conv.weight"),
        ("conv2.bias", "post_quant_conv.bias"),
        ("encoder.conv1.weight", "encoder.conv_in.weight"),
        ("decoder.head.0.gamma", "decoder.norm_out.gamma"),
        ("encoder.downsamples.3.shortcut.weight", "encoder.down_blocks.3.conv_shortcut.weight"),
        ("encoder.downsamples.5.time_conv.bias", "encoder.down_blocks.5.time_conv.bias"),
        ("decoder.middle.1.to_qkv.weight", "decoder.mid_block.attentions.0.to_qkv.weight"),
        ("decoder.middle.2.residual.6.weight", "decoder.mid_block.resnets.1.conv2.weight"),
        ("decoder.upsamples.4.residual.3.gamma", "decoder.up_blocks.1.resnets.0.norm2.gamma"),
        ("decoder.upsamples.7.resample.1.weight", "decoder.up_blocks.1.upsamplers.0.resample.1.weight"),
    ],
)
def test_names_in_both_directions(released, ours):
    assert released_vae_name_to_diffusers(released) == ours
    assert diffusers_vae_name_to_released(ours) == released


@pytest.mark.parametrize(
    "name",
    [
        "conv1",
        "conv1.gamma",
        "encoder.conv2.weight",
        "model.conv1.weight",
        "encoder.downsamples.2.residual.2.weight",
        "encoder.downsamples.11.residual.2.weight",
        "encoder.upsamples.0.residual.2.weight",
        "encoder.middle.1.norm.weight",
        "encoder.down_blocks.0.norm1.gamma",
        "",
    ],
)
def test_names_of_other_architectures_have_no_counterpart(name):
    assert released_vae_name_to_diffusers(name) is None


def test_every_tensor_of_the_full_size_class_has_a_released_name():
    names = list(diffusers_shapes())
    released = [diffusers_vae_name_to_released(name) for name in names]
    assert len(names) == len(set(released)) == 194
    assert [released_vae_name_to_diffusers(name) for name in released] == names


@pytest.mark.skipif(not RELEASED.is_file(), reason="the golden end-to-end case is not in the project")
def test_the_released_file_fits_tensor_by_tensor():
    found = {
        released_vae_name_to_diffusers(name): tuple(tensor.shape)
        for name, tensor in read_tensors(RELEASED, "autoencoder").items()
    }
    assert found == diffusers_shapes(base_dim=8)
