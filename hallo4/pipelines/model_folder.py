"""Models on disk: find one by name or folder, load it strictly, write one.

    model.json     what the model is and how it wants to be sampled (`ModelInfo`)
    dit/ or unet/  config.json, *.safetensors      the backbone
    autoencoder/   config.json, *.safetensors
    audio/         config.json                     the audio front end, and what it needs
    text/          config.json, *.safetensors, tokenizer/, embeddings/    of a model that takes prompts
    README.md      the card

or, instead of the parts, `adapter/`: changes of another model (`adapter.py`).

Loading is strict where diffusers' `from_pretrained` is lenient: every tensor of the class must be in the
files with its own shape, nothing else may be, and pickles are never opened.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hallo4 import models
from hallo4.errors import CheckpointError, OutputError, ShapeError
from hallo4.models.audio_features import audio_front_end_from_config
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.models.precision import fast_autocast
from hallo4.pipelines import adapter as adapters
from hallo4.pipelines.model_info import (
    DEFAULT_MODEL,
    FAMILIES,
    ModelInfo,
    embedded_models,
    read_info,
    read_json,
    resolve_model,
)
from hallo4.types import FPS, AudioFrontEnd, Autoencoder, Backbone
from hallo4.weights.module_folder import load_strictly, save_weights

if TYPE_CHECKING:
    from hallo4.pipelines.prompts import PromptEmbeddings

CPU = torch.device("cpu")

AUTOENCODERS = {"TinyVideoAutoencoder": "TinyVideoAutoencoder", "AutoencoderKLWan": "WanAutoencoder"}
"""`_class_name` in a folder's config -> our class, which is imported when it is needed."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: all parts on `device`, weights in `dtype`, without gradients.

    `prompts`: embeddings of texts, of a model that takes them. `autocast`: on a CPU with units for it,
    products run in bf16. `cache_bytes`: how much of what stays the same over the steps of a window may be
    kept (None: all of it).
    """

    info: ModelInfo
    backbone: Backbone
    autoencoder: Autoencoder
    audio_front_end: AudioFrontEnd
    folder: Path | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    prompts: PromptEmbeddings | None = None
    autocast: bool = True
    cache_bytes: int | None = None

    def denoising(self) -> AbstractContextManager:
        """The number format of the backbone's products, as a context."""
        return fast_autocast() if self.autocast and self.device.type == "cpu" else nullcontext()

    def autoencoding(self) -> AbstractContextManager:
        """The number format of the autoencoder's products, as a context."""
        return nullcontext() if stays_fp32(self.autoencoder) else self.denoising()


def stays_fp32(module: Any) -> bool:
    """Whether a part computes in fp32 whatever the others do: the released autoencoder."""
    return getattr(module, "computes_in_fp32", False)


def load_model(
    name_or_dir: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    prompts: Sequence[str | None] | None = None,
) -> LoadedModel:
    """Load a model, every part strictly; no network, no pickles.

    `dtype` of the backbone's weights; None: bfloat16 on CUDA, else float32, with products in bf16 on a CPU
    with units for them. `prompts` (prompt and negative prompt, None: the model's own): texts that will be
    needed are embedded before the backbone is loaded, so that it and the text encoder are not in memory
    together; other texts are embedded when they are asked for.

    CheckpointError names what does not fit: the folder, the file, and the missing, extra or mis-shaped
    tensors.
    """
    folder = resolve_model(name_or_dir)
    info, adapter = read_info(folder), _adapter(folder)
    parts_folder = _parts_folder(folder, adapter)
    device, autocast = torch.device(device), dtype is None
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    texts = _text(parts_folder, info, device, prompts)
    backbone_class = FAMILIES[info.family]
    backbone = _load_part(parts_folder / info.family, {backbone_class: backbone_class})
    autoencoder = _load_part(parts_folder / "autoencoder", AUTOENCODERS)
    audio = parts_folder / "audio"
    front_end = audio_front_end_from_config(read_json(audio / "config.json"), audio, device)
    _check_belonging(info, backbone, autoencoder, front_end, folder)
    if adapter is not None:
        adapters.add_adapter(backbone, adapter, folder / adapters.FOLDER)
    parts = (_ready(backbone, device, dtype), _ready(autoencoder, device, dtype), front_end)
    return LoadedModel(info, *parts, folder, device, dtype, texts, autocast)


def folders_of_model(name_or_dir: str | os.PathLike[str]) -> list[Path]:
    """Where everything of a model lies: its own folder and, for an adapter, that of the model it changes."""
    folder = resolve_model(name_or_dir)
    return list(dict.fromkeys([folder, _parts_folder(folder, _adapter(folder))]))


def load_autoencoder(name_or_dir: str | os.PathLike[str]) -> Autoencoder:
    """The autoencoder of a model, or of a folder that holds an `autoencoder/`; strict like `load_model`."""
    folder = Path(os.fspath(name_or_dir))
    if not (folder / "autoencoder").is_dir():
        folder = resolve_model(name_or_dir)
        folder = _parts_folder(folder, _adapter(folder))
    return _ready(_load_part(folder / "autoencoder", AUTOENCODERS), torch.device("cpu"), torch.float32)


def save_model_folder(
    folder: str | os.PathLike[str],
    info: ModelInfo,
    backbone: nn.Module,
    autoencoder: nn.Module,
    audio_config: dict[str, Any],
    card: str,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write a model folder that `load_model` reads; weights are stored in `dtype`, `card` becomes README.md.

    The folder is written beside its place and then moved there, so an older model is replaced as a whole or
    not at all. OutputError: something else than a model stands there, or it cannot be written.
    """

    def write_parts(building: Path) -> None:
        for part, module in ((info.family, backbone), ("autoencoder", autoencoder)):
            save_weights(building / part, module, dtype)
        (building / "audio").mkdir()
        (building / "audio" / "config.json").write_text(json.dumps(audio_config, indent=2) + "\n")

    return _write_folder(Path(folder), info, card, write_parts)


def save_adapter_folder(
    folder: str | os.PathLike[str],
    info: ModelInfo,
    base: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    scale: float,
    card: str,
) -> Path:
    """Write a model folder that is the model `base` (a name or a folder) plus `scale` times the low-rank
    changes `state` (see `adapter.py`).

    OutputError: as `save_model_folder`. CheckpointError: `base` is no model, or itself an adapter.
    """
    if _adapter(resolve_model(base)) is not None:
        raise CheckpointError(f"{os.fspath(base)}: is an adapter; build on the model it belongs to.")
    target, name = Path(folder), os.fspath(base)
    named = name if name in embedded_models() else os.path.relpath(name, target)
    hashed = weights_fingerprint(load_model(base).backbone)
    adapter = adapters.Adapter(named, float(scale), hashed, state)
    return _write_folder(
        target, info, card, lambda building: adapters.write_adapter(building / adapters.FOLDER, adapter)
    )


def _write_folder(target: Path, info: ModelInfo, card: str, write_parts: Callable[[Path], None]) -> Path:
    if (
        target.exists()
        and not (target / "model.json").is_file()
        and (not target.is_dir() or any(target.iterdir()))
    ):
        raise OutputError(
            f"{target}: stands there and is no model folder; it is not replaced. Choose another path."
        )
    building = target.with_name(f".{target.name}.writing")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_parts(building)
        (building / "model.json").write_text(json.dumps(asdict(info), indent=2) + "\n")
        (building / "README.md").write_text(card)
        if target.exists():
            shutil.rmtree(target)
        os.replace(building, target)
    except OSError as error:
        raise OutputError(
            f"{target}: the model cannot be written there ({error.strerror}). Choose another path."
        ) from error
    return target


def _adapter(folder: Path) -> adapters.Adapter | None:
    """The changes that a resolved model consists of; None if it has parts of its own."""
    place = folder / adapters.FOLDER
    return adapters.read_adapter(place) if place.is_dir() else None


def _parts_folder(folder: Path, adapter: adapters.Adapter | None) -> Path:
    """Where the parts of a resolved model lie: in itself, or, for an adapter, in the model it changes."""
    if adapter is None:
        return folder
    base = adapter.adapter_of
    parts = resolve_model(base if base in embedded_models() else os.path.normpath(folder / base))
    if (parts / adapters.FOLDER).is_dir():
        raise CheckpointError(
            f"{folder}: is an adapter of {base}, which is an adapter too. Merge that one first."
        )
    return parts


def _text(
    folder: Path, info: ModelInfo, device: torch.device, prompts: Sequence[str | None] | None
) -> PromptEmbeddings | None:
    """The embeddings of a model with text, those of `prompts` made; None for a model without."""
    if not (folder / "text").is_dir():
        return None
    from hallo4.pipelines.prompts import PromptEmbeddings

    texts = PromptEmbeddings(folder / "text", device=device)
    if prompts is not None:
        own = (info.prompt, info.negative_prompt)
        texts.embeddings([mine if given is None else given for given, mine in zip(prompts, own, strict=True)])
    return texts


def _load_part(folder: Path, classes: Mapping[str, str]) -> nn.Module:
    config = read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in classes:
        raise CheckpointError(
            f"{folder / 'config.json'}: _class_name is {name!r}; known here: {', '.join(classes)}."
        )
    return load_strictly(getattr(models, classes[name]), config, folder)


def _check_belonging(
    info: ModelInfo, backbone: Any, autoencoder: nn.Module, front_end: AudioFrontEnd, folder: Path
) -> None:
    """The parts were made for each other: CheckpointError if sizes that must agree do not."""
    wanted, made, rules = backbone.condition_spec, autoencoder.spec, backbone.windows
    try:
        rules.check_length(info.window_frames)
    except ShapeError as error:
        raise CheckpointError(f"{folder / 'model.json'}: window_frames: {error}") from error
    if info.window_frames - rules.repeated_frames < rules.known_frames:
        raise CheckpointError(
            f"{folder / 'model.json'}: windows of {info.window_frames} frames are shorter than what the next "
            f"one is told of them: give {rules.known_frames + rules.repeated_frames} or more."
        )
    for what, found, expected in (
        ("audio/: blocks", front_end.blocks, wanted.audio_blocks),
        ("audio/: channels", front_end.channels, wanted.audio_channels),
        ("audio/: rate_hz", front_end.rate_hz, FPS * rules.audio_rho),
        ("autoencoder/: frames_per_latent", made.frames_per_latent, rules.frames_per_latent),
        ("autoencoder/: latent_channels", made.latent_channels, wanted.latent_channels),
    ):
        if found != expected:
            raise CheckpointError(
                f"{folder}: {what} is {found}, but the backbone was made for {expected}. "
                "Use the parts of one model."
            )


def _ready(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """Onto the device, in evaluation mode, in `dtype` but for what the class keeps in fp32."""
    dtype = torch.float32 if stays_fp32(module) else dtype
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    keeps_fp32 = getattr(module, "keeps_fp32", lambda name: not kept.isdisjoint(name.split(".")))
    module.eval().requires_grad_(False)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(device, torch.float32 if keeps_fp32(name) else dtype)
        else:
            tensor.data = tensor.data.to(device)
    return module
