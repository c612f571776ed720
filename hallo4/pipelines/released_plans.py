"""What becomes of the released files: the four parts of a model folder, planned; nothing large is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hallo4.errors import CheckpointError, MissingExtraError
from hallo4.input_file import check_regular
from hallo4.models.dit import PortraitDiT
from hallo4.models.released_dit import config_from_released, config_from_shapes, our_name, released_name
from hallo4.models.released_umt5 import released_umt5_name
from hallo4.models.released_wan import diffusers_vae_name_to_released, released_vae_name_to_diffusers
from hallo4.pipelines import released_files as files
from hallo4.pipelines.released_files import find_beside, find_files, read_object
from hallo4.pipelines.released_part import (
    Part,
    build_on_meta,
    match_tensors,
    open_checkpoint,
    stored_tensors,
)
from hallo4.pipelines.safetensors_stream import StoredTensor
from hallo4.types import FPS
from hallo4.weights.module_folder import WEIGHTS_NAME

StoredType = Literal["keep", "bf16", "fp32"]
DIT_TYPES = {"keep": None, "bf16": torch.bfloat16, "fp32": torch.float32}
assert tuple(DIT_TYPES) == get_args(StoredType)
KNOWN_DROPPED = 0.1
"""Share of the known frame's 2x2 patches that the released weights saw black (Hallo4 `mask_ratio`)."""


def plan_parts(root: Path, dtype: StoredType) -> list[Part]:
    """The parts of the model folder that the released files under `root` make; `dtype` is that of the DiT.

    InputError: a file is not there. CheckpointError: a file is not what belongs in its place.
    """
    return [
        _plan_dit(root, DIT_TYPES[dtype]),
        _plan_autoencoder(root),
        _plan_text(root),
        _plan_audio(root),
    ]


# ---------------------------------------------------------------------- DiT


def _plan_dit(root: Path, dtype: torch.dtype | None) -> Part:
    paths, found, _, notes = open_checkpoint(root, files.DIT, "dit")
    config_path, audio_path = root / files.DIT_CONFIG, _audio_config(root)
    released = read_object(config_path) if config_path.is_file() else None
    if released is None:
        notes.append(f"{files.DIT_CONFIG} is not there: the sizes of the DiT are read off its tensors")
    config = dit_config(found, released, read_object(audio_path), paths[0], config_path)
    sized_by = paths[0] if released is None else config_path
    model_config, tensors = plan_dit_tensors(found, config, dtype, paths[0], sized_by)
    return Part(
        "dit", files.DIT.what, tuple(paths), WEIGHTS_NAME, tensors, {"config.json": model_config},
        configs=(audio_path,) if released is None else (config_path, audio_path), notes=tuple(notes),
    )  # fmt: skip


def plan_dit_tensors(
    found: Mapping[str, Tensor],
    config: Mapping[str, Any],
    dtype: torch.dtype | None,
    file: Path,
    sized_by: Path,
) -> tuple[dict[str, Any], dict[str, tuple[str, StoredTensor]]]:
    """`config.json` of the part and its tensors; norms, timestep and modulation layers and the output layer
    are fp32 whatever the `dtype` of the others. `sized_by`: the file that `config` was read from."""
    rules = {"mask_rule": "nearest", "known_dropped": KNOWN_DROPPED}
    model = build_on_meta(lambda: PortraitDiT(**config, **rules), sized_by, len(found))
    sources = match_tensors(file, found, model.state_dict(), our_name, released_name)

    def stored_type(name: str) -> torch.dtype | None:
        return torch.float32 if dtype is not None and model.keeps_fp32(name) else dtype

    described = {name: value for name, value in model.config.items() if name != "_use_default_values"}
    return {"_class_name": "PortraitDiT", **described}, stored_tensors(sources, found, stored_type)


def dit_config(
    found: Mapping[str, Tensor],
    released: Mapping[str, Any] | None,
    wav2vec2: Mapping[str, Any],
    file: Path,
    config_path: Path,
) -> dict[str, Any]:
    """`PortraitDiT` arguments: from the released `config.json`, or read off the shapes of a released width.

    The sizes of the audio projector are in no config: they follow from its shapes and from the layers and
    channels of `wav2vec2`'s config. `model_type` is not asked for: "t2v", "i2v" and "vace" have the same
    tensors here. CheckpointError: contradictory, or undecided.
    """
    plain = {released_name(our_name(name)): tensor for name, tensor in found.items() if our_name(name)}
    sizes = _audio_sizes(plain, wav2vec2, file)
    if released is not None:
        return _config_from_file(released, config_path) | sizes
    width = plain["patch_embedding.weight"].shape[0] if "patch_embedding.weight" in plain else 1536
    if width != 1536:
        raise CheckpointError(
            f"{config_path}: is not there, and the width of {file.name} ({width}, not the released 1536) "
            "leaves the number of heads open. Put the config.json there that belongs to these weights "
            f"(that of the released ones is published in {files.WAN})."
        )
    return config_from_shapes(plain, file.name) | sizes


def _config_from_file(released: Mapping[str, Any], path: Path) -> dict[str, Any]:
    values = {name: value for name, value in released.items() if name != "model_type"}
    try:
        values["eps"] = float(values.get("eps", 1e-6))
        return config_from_released(values)
    except (CheckpointError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}. Use the file that belongs to the weights.") from error


def _audio_sizes(plain: Mapping[str, Tensor], wav2vec2: Mapping[str, Any], file: Path) -> dict[str, int]:
    layers, channels = (wav2vec2.get(name) for name in ("num_hidden_layers", "hidden_size"))
    shapes = [plain.get(f"audio_proj.{layer}.weight") for layer in ("proj1", "proj3", "norm")]
    if any(shape is None for shape in shapes):
        return {}  # the comparison of all tensors names them
    first, last, norm = (tuple(tensor.shape) for tensor in shapes)
    window = first[1] / (layers * channels)
    if window != int(window):
        raise CheckpointError(
            f"{file}: audio_proj takes {first[1]} inputs, which are no windows of wav2vec2's {layers} layers "
            f"of {channels} channels. Use the wav2vec2 that belongs to it: {files.WAV2VEC2}."
        )
    return {
        "audio_window": int(window),
        "audio_blocks": layers,
        "audio_channels": channels,
        "audio_hidden_dim": first[0],
        "audio_tokens": last[0] // norm[0],
    }


# ---------------------------------------------------------------------- autoencoder


def _plan_autoencoder(root: Path) -> Part:
    from diffusers import AutoencoderKLWan

    paths, found, kind, notes = open_checkpoint(root, files.AUTOENCODER, "vae", "vae_diffusers")
    new_name, foreign_name = (
        (released_vae_name_to_diffusers, diffusers_vae_name_to_released)
        if kind == "vae"
        else (lambda name: name, lambda name: name)
    )
    first = next(
        (tensor for name, tensor in found.items() if new_name(name) == "encoder.conv_in.weight"), None
    )
    sizes = {} if first is None else {"base_dim": first.shape[0]}
    model = build_on_meta(lambda: AutoencoderKLWan(**sizes), paths[0], len(found))
    sources = match_tensors(paths[0], found, model.state_dict(), new_name, foreign_name)
    config = {name: value for name, value in model.config.items() if name != "_use_default_values"}
    # The released program runs its autoencoder in fp32.
    return Part(
        "autoencoder", files.AUTOENCODER.what, tuple(paths), WEIGHTS_NAME,
        stored_tensors(sources, found, lambda name: torch.float32),
        {"config.json": {"_class_name": "AutoencoderKLWan", **config}}, notes=tuple(notes),
    )  # fmt: skip


# ---------------------------------------------------------------------- text encoder


def _plan_text(root: Path) -> Part:
    transformers = _transformers()
    paths, found, kind, notes = open_checkpoint(root, files.TEXT, "umt5", "umt5_transformers")
    new_name = released_umt5_name if kind == "umt5" else _umt5_name
    if "shared.weight" in found:  # transformers' class has the table under two names
        found.pop("encoder.embed_tokens.weight", None)
    config = _umt5_config({new_name(name): tensor for name, tensor in found.items()})
    model = build_on_meta(
        lambda: transformers.UMT5EncoderModel(transformers.UMT5Config(**config)), paths[0], len(found)
    )
    expected = model.state_dict()
    expected.pop("encoder.embed_tokens.weight", None)
    sources = match_tensors(paths[0], found, expected, new_name)
    (tokenizer, *_), more_notes = find_files(root, files.TOKENIZER)
    _check_tokenizer(tokenizer, rows=config["vocab_size"])
    stored = stored_tensors(sources, found, lambda name: None)
    types = {str(tensor.dtype).removeprefix("torch.") for _, tensor in stored.values()}
    kept_type = {"dtype": types.pop()} if len(types) == 1 else {}
    beside = {path.name: path for path in sorted(tokenizer.parent.iterdir()) if path.is_file()}
    return Part(
        "text", files.TEXT.what, tuple(paths), "model.safetensors", stored,
        {"config.json": {"architectures": ["UMT5EncoderModel"], "model_type": "umt5", **config, **kept_type}},
        copies={f"tokenizer/{name}": path for name, path in beside.items()},
        notes=(*notes, *more_notes),
    )  # fmt: skip


def _umt5_name(name: str) -> str:
    return "shared.weight" if name == "encoder.embed_tokens.weight" else name


def _umt5_config(found: Mapping[str | None, Tensor]) -> dict[str, Any]:
    """`UMT5Config` arguments from the shapes of the encoder; a tensor that is not there counts as in
    umT5-xxl, and is found missing in the comparison that follows."""

    def shape(name: str, *released: int) -> tuple[int, ...]:
        tensor = found.get(name)
        return tuple(tensor.shape) if tensor is not None and tensor.ndim == 2 else released

    attention = "encoder.block.0.layer.0.SelfAttention"
    rows, width = shape("shared.weight", 256384, 4096)
    buckets, heads = shape(f"{attention}.relative_attention_bias.weight", 32, 64)
    layers = {name.split(".")[2] for name in found if name and name.startswith("encoder.block.")}
    return {
        "vocab_size": rows,
        "d_model": width,
        "d_kv": shape(f"{attention}.q.weight", 4096, 4096)[0] // max(1, heads),
        "d_ff": shape("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 10240, 4096)[0],
        "num_layers": len(layers),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
    }


def _check_tokenizer(path: Path, rows: int) -> None:
    """CheckpointError: not the tokenizer of an embedding table with that many rows.

    Some rows may be unused (84 of umT5's 256384), and a small model may leave most of them, but no id may lie
    outside, `<pad>` is 0 and `</s>` is 1.
    """
    from tokenizers import Tokenizer

    check_regular(path, "a tokenizer", CheckpointError)
    try:
        vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises its own kinds, all about this file
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: cannot be read as a tokenizer ({reason}). Copy it again.") from error
    problem = None
    if not vocabulary or max(vocabulary.values()) >= rows:
        problem = f"its largest id is {max(vocabulary.values(), default=None)}"
    elif len(vocabulary) < rows / 4:
        problem = f"it has {len(vocabulary)} pieces"
    elif (vocabulary.get("<pad>"), vocabulary.get("</s>")) != (0, 1):
        problem = f"<pad> is {vocabulary.get('<pad>')} and </s> {vocabulary.get('</s>')} instead of 0 and 1"
    if problem:
        raise CheckpointError(
            f"{path}: is the tokenizer of another vocabulary: {problem}, and the text encoder knows {rows}. "
            f"Use the one of {files.TOKENIZER.published}."
        )


# ---------------------------------------------------------------------- wav2vec2


def _audio_config(root: Path) -> Path:
    """`config.json` of wav2vec2, checked to be one."""
    weights, _ = find_files(root, files.AUDIO)
    path = find_beside(weights[0], "config.json", files.WAV2VEC2)
    config = read_object(path)
    sizes = {name: config.get(name) for name in ("num_hidden_layers", "hidden_size")}
    if config.get("model_type") != "wav2vec2" or not all(
        isinstance(s, int) and s > 0 for s in sizes.values()
    ):
        raise CheckpointError(
            f"{path}: is no config of wav2vec2 (model_type {config.get('model_type')!r}, {sizes}). "
            f"Use the file of {files.WAV2VEC2}."
        )
    return path


def _plan_audio(root: Path) -> Part:
    transformers = _transformers()
    config_path = _audio_config(root)
    paths, found, _, notes = open_checkpoint(root, files.AUDIO, "wav2vec2")
    config = {
        name: value for name, value in read_object(config_path).items() if name != "transformers_version"
    }
    model = build_on_meta(
        lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**config)), config_path, len(found)
    )
    expected = model.state_dict()
    if not any(name.endswith("masked_spec_embed") for name in found):
        # Serves pre-training only; published checkpoints for recognition leave it out.
        expected.pop("masked_spec_embed", None)
    found = {name: tensor for name, tensor in found.items() if not name.startswith("lm_head.")}
    sources = match_tensors(paths[0], found, expected, _wav2vec2_name)
    copied = (config_path, find_beside(paths[0], "preprocessor_config.json", files.WAV2VEC2))
    return Part(
        "audio", files.AUDIO.what, tuple(paths), "wav2vec2/model.safetensors",
        stored_tensors(sources, found, lambda name: None),
        {"config.json": {"kind": "wav2vec2", "path": "wav2vec2", "rate_hz": FPS}},
        copies={f"wav2vec2/{path.name}": path for path in copied}, notes=tuple(notes),
    )  # fmt: skip


def _wav2vec2_name(name: str) -> str:
    """Name in transformers' `Wav2Vec2Model` of a tensor in a published checkpoint: without the prefix of the
    recogniser, and with the two parts of the normalised kernel named as torch does since 2.0."""
    name = name.removeprefix("wav2vec2.")
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        name = name.replace(f".conv.{old}", f".conv.parametrizations.weight.{new}")
    return name


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "converting umT5 and wav2vec2 needs transformers, which is not installed: "
            "pip install 'hallo4[released]'"
        ) from error
    return transformers
