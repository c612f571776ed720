"""Read the weights of Hallo 1 and 2 (`net.pth`), strictly: every tensor is expected, found and fits.

Names, released -> ours: `denoising_unet. -> denoiser.`, `reference_unet. -> reference_net.`, `imageproj. ->
face_proj.`, `audioproj. -> audio_proj.`; in motion modules as diffusers names them. Hallo 2's portrait model
has the same names and shapes as Hallo 1's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hallo4.errors import CheckpointError, InputError
from hallo4.models.portrait_unet import KEPT_IN_FP32, PortraitUNet
from hallo4.weights.tensors import misfits, read_tensors, shapes_of

_PARTS = {
    "denoising_unet": "denoiser",
    "reference_unet": "reference_net",
    "face_locator": "face_locator",
    "imageproj": "face_proj",
    "audioproj": "audio_proj",
}
_MOTION = {
    "attention_blocks.0.pos_encoder.pe": "pos_embed.pe",
    "attention_blocks.0": "attn1",
    "attention_blocks.1": "attn2",
    "norms.0": "norm1",
    "norms.1": "norm2",
    "ff_norm": "norm3",
    "ff": "ff",
}
_TEMPORAL = re.compile(
    r"^(.+\.motion_modules\.\d+)\.temporal_transformer\.(?:(transformer_blocks\.0)\.)?(.+)$"
)
_SECOND_TABLE = "attention_blocks.1.pos_encoder.pe"
_SUPER_RESOLUTION = ("quantize.", "generator.", "fuse_convs_dict.", "ft_layers.", "position_emb")
_AUDIO_INPUTS = 5 * 12 * 768  # window, wav2vec2-base-960h layers and channels
RELEASED_WIDTHS = (320, 640, 1280, 1280)

RELEASED_RULES = {
    "reference_order": "interleaved",
    "motion_in_plain": False,
    "beta_schedule": "linear",
}
"""The switches of `PortraitUNet` under which it computes what the released inference computes."""


def load_released_unet(
    path: str | Path,
    config: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    changes: Mapping[str, Any] | None = None,
) -> PortraitUNet:
    """The portrait UNet in a released `net.pth`, in evaluation mode on the CPU, set to parity.

    `path`: a torch file of tensors only, or safetensors of the same names. `config`: sizes under their
    released names (`block_out_channels`, `audio_proj`, `motion_scale`, ...); None: the released sizes.
    `changes`: further `PortraitUNet` arguments, such as other switches than `RELEASED_RULES`, or
    `skeleton="optional"`, whose guider is not in the file and starts at zero. `dtype` casts all but the
    tables of positions; None keeps the file's types.

    InputError if there is no such file. CheckpointError names what does not fit: a missing, unexpected or
    mis-shaped tensor, code in the file, another model (Hallo 2's super-resolution).
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: found a folder: give the file in it, such as {path / 'net.pth'}")
    released = {_plain_name(name): tensor for name, tensor in read_tensors(path, "UNet weights").items()}
    _check_kind(released, path.name)
    sizes = config_from_shapes(released, path.name) if config is None else config_from_released(config)
    options = sizes | RELEASED_RULES | dict(changes or {})
    with torch.device("meta"):
        model = PortraitUNet(**options)
    tensors = convert_released(released, model, path.name)
    if model.config.skeleton != "none":
        guider = model.skeleton_guider.to_empty(device="cpu").reset()
        tensors |= {f"skeleton_guider.{name}": tensor for name, tensor in guider.state_dict().items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    if dtype is not None:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        for name, buffer in model.named_buffers():
            kept = set(KEPT_IN_FP32) & set(name.split("."))
            buffer.data = buffer.data.to(torch.float32 if kept else dtype)
    return model.eval()


def our_name(released: str) -> str | None:
    """Our name of a released key; None if it is not a key of this architecture, or a second table of
    positions (which is the first once more)."""
    part, _, rest = _plain_name(released).partition(".")
    if part not in _PARTS or released.endswith(_SECOND_TABLE):
        return None
    temporal = _TEMPORAL.match(rest)
    if temporal is None:
        return None if ".motion_modules." in rest else f"{_PARTS[part]}.{rest}"
    module, block, leaf = temporal.groups()
    if block is None:
        return f"{_PARTS[part]}.{module}.{leaf}"
    for theirs, ours in _MOTION.items():
        if leaf == theirs or leaf.startswith(theirs + "."):
            return f"{_PARTS[part]}.{module}.{block}.{ours}{leaf[len(theirs) :]}"
    return None


def released_name(ours: str) -> str:
    """Inverse of `our_name`."""
    part, _, rest = ours.partition(".")
    names = {value: key for key, value in _PARTS.items()}
    match = re.match(r"^(.+\.motion_modules\.\d+)\.(?:(transformer_blocks\.0)\.)?(.+)$", rest)
    if match is None:
        return f"{names[part]}.{rest}"
    module, block, leaf = match.groups()
    if block is None:
        return f"{names[part]}.{module}.temporal_transformer.{leaf}"
    for theirs, our_leaf in _MOTION.items():
        if leaf == our_leaf or leaf.startswith(our_leaf + "."):
            rest = leaf[len(our_leaf) :]
            return f"{names[part]}.{module}.temporal_transformer.{block}.{theirs}{rest}"
    raise AssertionError(f"no released name for {ours}")


def convert_released(
    released: Mapping[str, Tensor], model: PortraitUNet, file_name: str
) -> dict[str, Tensor]:
    """Tensors under our names, exactly those of `model` that released files have (all but the skeleton
    guider's); CheckpointError that names what does not fit."""
    ours = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.startswith("skeleton_guider.")
    }
    expected = {released_name(name): shape for name, shape in ours.items()}
    tables = {_second_table(name): shape for name, shape in ours.items() if name.endswith("pos_embed.pe")}
    problems = misfits(expected | tables, shapes_of(released))
    if problems:
        count = len(expected) + len(tables)
        raise CheckpointError(
            f"{file_name} does not hold this portrait UNet: tensors {problems}; {count} are expected: "
            "use Hallo's net.pth, or give the config that belongs to the file"
        )
    for name in tables:
        first = released[name.replace("attention_blocks.1.pos", "attention_blocks.0.pos")]
        if not first.is_meta and not torch.equal(first, released[name]):
            raise CheckpointError(
                f"{file_name}: {name} differs from the table of the first attention, which this model uses "
                "for both: use Hallo's net.pth as it was released"
            )
    return {our_name(name): tensor for name, tensor in released.items() if name not in tables}


def config_from_released(released: Mapping[str, Any]) -> dict[str, Any]:
    """`PortraitUNet` arguments from released sizes; what is absent has the released value."""
    names = {
        "cross_attention_dim": "cross_attention_dim",
        "audio_attention_dim": "audio_attention_dim",
        "face_embedding_dim": "face_embedding_dim",
        "num_attention_heads": "num_attention_heads",
        "motion_max_positions": "motion_positions",
        "motion_frames": "motion_frames",
    }
    audio = {
        "seq_len": "audio_window",
        "blocks": "audio_blocks",
        "channels": "audio_channels",
        "intermediate_dim": "audio_hidden_dim",
        "context_tokens": "audio_tokens",
    }
    config = {ours: released[theirs] for theirs, ours in names.items() if theirs in released}
    sounds = released.get("audio_proj", {})
    config |= {ours: sounds[theirs] for theirs, ours in audio.items() if theirs in sounds}
    wrong = [name for name, value in config.items() if not isinstance(value, int) or value < 1]
    widths = list(released.get("block_out_channels", RELEASED_WIDTHS))
    if wrong or not widths or not all(isinstance(width, int) and width > 0 for width in widths):
        name = wrong[0] if wrong else "block_out_channels"
        raise CheckpointError(
            f"{name} is {config.get(name, widths)!r} in the released config: give whole numbers above zero"
        )
    scales = released.get("motion_scale", {})
    config["region_scales"] = [float(scales.get(name, 1.0)) for name in ("pose", "face", "lip")]
    return config | {"block_out_channels": widths}


def config_from_shapes(released: Mapping[str, Tensor], file_name: str) -> dict[str, Any]:
    """`PortraitUNet` arguments of a file of released widths; CheckpointError if shapes leave them open."""
    widths = tuple(
        released[name].shape[0]
        for level in range(len(RELEASED_WIDTHS))
        if (name := f"denoising_unet.down_blocks.{level}.resnets.0.conv1.weight") in released
    )
    sound = released.get("audioproj.proj1.weight")
    inputs = _AUDIO_INPUTS if sound is None else sound.shape[1]
    if widths != RELEASED_WIDTHS or inputs != _AUDIO_INPUTS:
        raise CheckpointError(
            f"{file_name} has widths {widths} and {inputs} audio inputs: its shapes do not tell the number "
            "of heads or the audio features; give the config that belongs to it"
        )
    return {"block_out_channels": list(widths)}


def _check_kind(released: Mapping[str, Tensor], file_name: str) -> None:
    """CheckpointError if the file is plainly another model."""
    if any(name.startswith("denoising_unet.") for name in released):
        return
    if any(name.startswith(_SUPER_RESOLUTION) for name in released):
        raise CheckpointError(
            f"{file_name} is Hallo 2's super-resolution, not its portrait model: use hallo2/net.pth beside it"
        )
    first = next(iter(released), "(none)")
    raise CheckpointError(
        f"{file_name} is no portrait UNet: it has no tensor under denoising_unet. (found {first}): "
        "use net.pth of Hallo 1 or 2"
    )


def _second_table(ours: str) -> str:
    """Released name of the second copy of a table of positions."""
    return released_name(ours).replace("attention_blocks.0.pos", "attention_blocks.1.pos")


def _plain_name(name: str) -> str:
    return re.sub(r"^(?:(?:module|model)\.)+", "", name)


def start_from_sd15(model: PortraitUNet, folder: str | Path) -> PortraitUNet:
    """Put the weights of a Stable Diffusion 1.5 UNet into the denoiser's and the reference network's picture
    layers, in place: where Hallo's first stage of training starts.

    `folder`: the model's folder (with `unet/`) or the UNet's own, with
    `diffusion_pytorch_model.safetensors` or `.bin` (tensors only). InputError: neither file is there.
    CheckpointError: tensors are missing or mis-shaped.
    """
    folder = Path(folder)
    inside = folder / "unet" if (folder / "unet").is_dir() else folder
    files = [inside / f"diffusion_pytorch_model.{ending}" for ending in ("safetensors", "bin")]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        raise InputError(
            f"{folder}: holds no unet/{files[0].name} (nor .bin): give a whole folder of Stable Diffusion 1.5"
        )
    tensors = read_tensors(file, "Stable Diffusion UNet")
    for trunk in (model.denoiser, model.reference_net):
        added = (".audio_modules.", ".motion_modules.")
        wanted = {
            name: tensor
            for name, tensor in trunk.state_dict().items()
            if not any(part in name for part in added)
        }
        last = ("conv_norm_out.", "conv_out.")  # the reference network has no head
        used = {
            name: tensor for name, tensor in tensors.items() if name in wanted or not name.startswith(last)
        }
        problems = misfits(shapes_of(wanted), shapes_of(used))
        if problems:
            raise CheckpointError(
                f"{file}: does not hold the UNet that this model starts from: tensors {problems}; "
                "use Stable Diffusion 1.5 and the released sizes"
            )
        trunk.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
    return model
