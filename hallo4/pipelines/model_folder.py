"""Models on disk: find one by name or folder, load it strictly, write one.

    model.json     what the model is and how it wants to be sampled (`ModelInfo`)
    dit/ or unet/  config.json, *.safetensors      the backbone
    autoencoder/   config.json, *.safetensors
    audio/         config.json                     the audio front end
    README.md      the card

or, instead of the parts, `adapter/`: changes of another model (`adapter.py`).

Loading is strict where diffusers' `from_pretrained` is lenient: every tensor of the class must be in the
files with its own shape, nothing else may be, and pickles are never opened.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from hallo4 import models
from hallo4.errors import CheckpointError, OutputError, ShapeError
from hallo4.models.audio_features import audio_front_end_from_config
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.pipelines import adapter as adapters
from hallo4.pipelines.strict_weights import load_strictly, save_weights
from hallo4.types import FPS, AudioFrontEnd, Autoencoder, Backbone

ASSETS = Path(__file__).resolve().parent.parent / "assets"
DEFAULT_MODEL = "tiny-dit"
CPU = torch.device("cpu")

AUTOENCODERS: dict[str, type[nn.Module]] = {"TinyVideoAutoencoder": TinyVideoAutoencoder}
FAMILIES = {"dit": "PortraitDiT", "unet": "PortraitUNet"}
"""Name of the backbone's folder -> its class, which is imported when it is needed."""


@dataclass(frozen=True)
class ModelInfo:
    """`model.json`: what the model is called and how it was trained to be used.

    `family`: its backbone. `size_px`: side of the square frames it was trained on; other shapes keep that
    area. `window_frames`: frames made at a time. `steps`, `guidance_scale` (1: no guidance) and, of a flow
    model, `flow_shift` are the defaults of sampling.
    """

    name: str
    version: str
    family: str = "dit"
    size_px: int = 128
    window_frames: int = 17
    steps: int = 16
    guidance_scale: float = 1.0
    flow_shift: float = 1.0
    fps: float = FPS
    description: str = ""

    def __post_init__(self) -> None:
        problem = None
        if self.family not in FAMILIES:
            problem = f"family is {self.family!r}; known: {', '.join(FAMILIES)}"
        elif self.fps != FPS:
            problem = f"fps is {self.fps}; only {FPS:g} is supported"
        elif self.size_px < 16 or self.steps < 1 or self.window_frames < 1:
            problem = (
                f"size_px is {self.size_px}, steps {self.steps} and window_frames {self.window_frames}; "
                "at least 16, 1 and 1 are needed"
            )
        elif not (math.isfinite(self.guidance_scale) and 0 < self.flow_shift < math.inf):
            problem = (
                f"guidance_scale is {self.guidance_scale} and flow_shift {self.flow_shift}; "
                "they must be finite, flow_shift above 0"
            )
        if problem:
            raise CheckpointError(f"model {self.name!r}: {problem}. Mend model.json.")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: all parts on `device`, weights in `dtype`, without gradients."""

    info: ModelInfo
    backbone: Backbone
    autoencoder: Autoencoder
    audio_front_end: AudioFrontEnd
    folder: Path | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in ASSETS.glob("*/model.json"))


def resolve_model(name_or_dir: str | os.PathLike[str]) -> Path:
    """The folder of a model given by the name of an embedded one or by its path.

    CheckpointError: neither a known name nor a folder with a `model.json`.
    """
    text = os.fspath(name_or_dir)
    embedded = ASSETS / text
    is_name = text in embedded_models()
    folder = embedded if is_name else Path(text)
    if not is_name and not folder.exists():
        known = ", ".join(embedded_models()) or "(none in this installation)"
        raise CheckpointError(f"{text!r} is no model: give a folder or one of {known}.")
    if not folder.is_dir():
        raise CheckpointError(
            f"{text}: a model is a folder with model.json, dit/, autoencoder/ and audio/; this is a file."
        )
    if not (folder / "model.json").is_file():
        raise CheckpointError(
            f"{text}: this folder holds no model.json, so it is no model; give the folder above or below."
        )
    return folder


def read_info(folder: Path) -> ModelInfo:
    """`model.json` of a resolved folder. CheckpointError: unreadable, wrong keys, impossible values."""
    values = _read_json(folder / "model.json")
    allowed = {field.name for field in fields(ModelInfo)}
    unknown, missing = sorted(values.keys() - allowed), sorted({"name", "version"} - values.keys())
    if unknown or missing:
        found = f"unknown key {unknown[0]!r}" if unknown else f"key {missing[0]!r} is missing"
        raise CheckpointError(f"{folder / 'model.json'}: {found}; allowed are {', '.join(sorted(allowed))}.")
    try:
        return TypeAdapter(ModelInfo).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{folder / 'model.json'}: {place}: {first['msg']}. Mend it.") from error


def load_model(
    name_or_dir: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """Load a model, every part strictly; no network, no pickles.

    CheckpointError names what does not fit: the folder, the file, and the missing, extra or mis-shaped
    tensors.
    """
    folder = resolve_model(name_or_dir)
    info, adapter = read_info(folder), _adapter(folder)
    parts_folder = _parts_folder(folder, adapter)
    device = torch.device(device)
    backbone_class = FAMILIES[info.family]
    backbone = _load_part(parts_folder / info.family, {backbone_class: getattr(models, backbone_class)})
    autoencoder = _load_part(parts_folder / "autoencoder", AUTOENCODERS)
    audio = parts_folder / "audio"
    front_end = audio_front_end_from_config(_read_json(audio / "config.json"), audio, device)
    _check_belonging(info, backbone, autoencoder, front_end, folder)
    if adapter is not None:
        adapters.add_adapter(backbone, adapter, folder / adapters.FOLDER)
    parts = (_ready(backbone, device, dtype), _ready(autoencoder, device, dtype), front_end)
    return LoadedModel(info, *parts, folder, device, dtype)


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


def _load_part(folder: Path, classes: dict[str, type[nn.Module]]) -> nn.Module:
    config = _read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in classes:
        raise CheckpointError(
            f"{folder / 'config.json'}: _class_name is {name!r}; known here: {', '.join(classes)}."
        )
    return load_strictly(classes[name], config, folder)


def _check_belonging(
    info: ModelInfo, backbone: Any, autoencoder: nn.Module, front_end: AudioFrontEnd, folder: Path
) -> None:
    """The parts were made for each other: CheckpointError if sizes that must agree do not."""
    wanted, made, rules = backbone.config, autoencoder.config, backbone.windows
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
        ("autoencoder/: latent_channels", made.latent_channels, wanted.in_channels),
    ):
        if found != expected:
            raise CheckpointError(
                f"{folder}: {what} is {found}, but the backbone was made for {expected}. "
                "Use the parts of one model."
            )


def _ready(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """Onto the device, in evaluation mode, in `dtype` but for what the class keeps in fp32."""
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    nn.Module.to(module, device)  # diffusers' own `to` imports peft and transformers first: seconds
    module.eval().requires_grad_(False)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if kept & set(name.split(".")) else dtype)
    return module


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; the model folder is incomplete. Copy it anew.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as JSON ({error}). Copy the model folder anew."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, not a JSON object. Copy the model folder anew."
        )
    return content
