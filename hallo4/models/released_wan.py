"""Names of the released Wan2.1 autoencoder and of diffusers' `AutoencoderKLWan`, both ways.

Read off `wan/modules/vae.py` of Wan2.1 (9737cba) and `autoencoder_kl_wan.py` of diffusers 0.42.1. The tables
hold for the released depth, two residual blocks at each of four resolutions; widths do not matter. Whole
names are looked up, so a key of another architecture is never taken for one of this.
"""

from __future__ import annotations

_ENDS = {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out"}
_RESIDUAL = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_ATTENTION = {"norm": "norm", "to_qkv": "to_qkv", "proj": "proj"}
_RESAMPLING = {"resample.1": "resample.1", "time_conv": "time_conv"}
_NORMS = ("residual.0", "residual.3", "head.0", "middle.1.norm")


def _blocks() -> dict[str, tuple[str, dict[str, str]]]:
    """Released path of every block -> its path in diffusers and the modules in it."""
    blocks = {}
    for branch in ("encoder", "decoder"):
        blocks[branch] = (branch, _ENDS)
        blocks[f"{branch}.middle.0"] = (f"{branch}.mid_block.resnets.0", _RESIDUAL)
        blocks[f"{branch}.middle.1"] = (f"{branch}.mid_block.attentions.0", _ATTENTION)
        blocks[f"{branch}.middle.2"] = (f"{branch}.mid_block.resnets.1", _RESIDUAL)
    for index in range(11):  # two residual blocks, then half the resolution
        inside = _RESAMPLING if index % 3 == 2 else _RESIDUAL
        blocks[f"encoder.downsamples.{index}"] = (f"encoder.down_blocks.{index}", inside)
    for index in range(15):  # three residual blocks, then twice the resolution
        block, step = divmod(index, 4)
        name, inside = ("upsamplers.0", _RESAMPLING) if step == 3 else (f"resnets.{step}", _RESIDUAL)
        blocks[f"decoder.upsamples.{index}"] = (f"decoder.up_blocks.{block}.{name}", inside)
    return blocks


def _tensor_names() -> dict[str, str]:
    """Released name of every tensor that may occur -> its name in diffusers."""
    modules = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
    for released_block, (block, inside) in _blocks().items():
        modules |= {f"{released_block}.{theirs}": f"{block}.{ours}" for theirs, ours in inside.items()}
    return {
        f"{released}.{kind}": f"{ours}.{kind}"
        for released, ours in modules.items()
        for kind in (("gamma",) if released.endswith(_NORMS) else ("weight", "bias"))
    }


_TO_DIFFUSERS = _tensor_names()
_TO_RELEASED = {ours: released for released, ours in _TO_DIFFUSERS.items()}


def released_vae_name_to_diffusers(name: str) -> str | None:
    """diffusers' name of a released tensor; None if this architecture has no such tensor."""
    return _TO_DIFFUSERS.get(name)


def diffusers_vae_name_to_released(name: str) -> str | None:
    """The inverse of `released_vae_name_to_diffusers`."""
    return _TO_RELEASED.get(name)
