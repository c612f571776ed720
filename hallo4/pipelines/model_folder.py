"""Models on disk: find one by name or folder, load it strictly. `model_writing.py` writes them.

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
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from hallo4 import models
from hallo4.errors import CheckpointError, ShapeError
from hallo4.models.audio_features import audio_front_end_from_config
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.precision import fast_autocast, stays_fp32
from hallo4.pipelines import adapter as adapters
from hallo4.pipelines.placement import PlacementPlan
from hallo4.pipelines.plan import WindowNoise
from hallo4.pipelines.strict_weights import load_strictly
from hallo4.pipelines.weight_moves import CPU, OneAtATime, WeightRules
from hallo4.types import FPS, AudioFrontEnd, Autoencoder, Backbone

if TYPE_CHECKING:
    from hallo4.pipelines.prompts import PromptEmbeddings

ASSETS = Path(__file__).resolve().parent.parent / "assets"
DEFAULT_MODEL = "tiny-dit"

AUTOENCODERS: dict[str, type[nn.Module]] = {"TinyVideoAutoencoder": TinyVideoAutoencoder}
FAMILIES = {"dit": "PortraitDiT", "unet": "PortraitUNet"}
"""Name of the backbone's folder -> its class, which is imported when it is needed."""


@dataclass(frozen=True)
class ModelInfo:
    """`model.json`: what the model is called and how it was trained to be used.

    `family`: its backbone. `size_px`: side of the square frames it was trained on; other shapes keep that
    area. `canvas_sizes_px`: the only sizes (height, width) it was trained on, if there are such; pictures get
    black bars then. `window_frames`: frames made at a time. `steps`, `guidance_scale` (1: no guidance) and,
    of a flow model, `flow_shift` are the defaults of sampling; so are `prompt` and `negative_prompt` of a
    model with text. `window_noise`: see `window_noise`. `known_frames_as`: whether a window is conditioned on
    the frames before it as they were decoded ("float") or in the whole levels of the finished video.
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
    canvas_sizes_px: tuple[tuple[int, int], ...] = ()
    prompt: str = ""
    negative_prompt: str = ""
    window_noise: WindowNoise = "own"
    known_frames_as: Literal["uint8", "float"] = "uint8"

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
        elif any(side < 16 or side % 8 for size in self.canvas_sizes_px for side in size):
            problem = f"canvas_sizes_px is {self.canvas_sizes_px}; sides are multiples of 8, 16 or more"
        if problem:
            raise CheckpointError(f"model {self.name!r}: {problem}. Mend model.json.")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run on `device`, with products in `dtype`, without gradients.

    `prompts`: embeddings of texts, of a model that takes them. `autocast`: on a CPU with units for it,
    products run in bf16. `cache_bytes`: how much of what stays the same over the steps of a window may be
    kept (None: all of it). `plan`: where the weights live (None: all on `device`); `turns`: parts of which
    one at a time is on the device.
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
    plan: PlacementPlan | None = None
    turns: OneAtATime | None = None

    def denoising(self) -> AbstractContextManager:
        """The backbone comes to its place; the number format of its products, as a context."""
        return self._using("backbone", self.autocast)

    def autoencoding(self) -> AbstractContextManager:
        """The autoencoder comes to its place; the number format of its products, as a context."""
        return self._using("autoencoder", self.autocast and not stays_fp32(self.autoencoder))

    def _using(self, part: str, autocast: bool) -> AbstractContextManager:
        if self.turns is not None:
            self.turns.bring(part)
        return fast_autocast() if autocast and self.device.type == "cpu" else nullcontext()


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
    values = read_json(folder / "model.json")
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
    plan: PlacementPlan | None = None,
    autocast: bool = True,
) -> LoadedModel:
    """Load a model, every part strictly; no network, no pickles.

    `plan`: where the weights live (None: all on `device`). `dtype`, `autocast`: see `WeightRules`.
    CheckpointError names what does not fit: the folder, the file, and the missing, extra or mis-shaped
    tensors. MissingExtraError: the plan needs an extra.
    """
    folder = resolve_model(name_or_dir)
    info, adapter = read_info(folder), adapter_in(folder)
    parts_folder = _parts_folder(folder, adapter)
    rules = WeightRules(torch.device(device), "resident" if plan is None else plan.placement, dtype, autocast)
    # An adapter is added to the weights as its base has them in fp32.
    placing = rules.placing if adapter is None else None
    backbone = load_strictly(*read_part(parts_folder / info.family, backbone_classes(info)), placing)
    autoencoder = load_strictly(*read_part(parts_folder / "autoencoder", AUTOENCODERS), rules.placing)
    audio = parts_folder / "audio"
    front_end = audio_front_end_from_config(read_json(audio / "config.json"), audio)
    check_belonging(info, backbone, autoencoder, front_end, folder)
    if adapter is not None:
        adapters.add_adapter(backbone, adapter, folder / adapters.FOLDER)
        _place(backbone, rules.placing(backbone))
    for part in (backbone, autoencoder):
        part.eval().requires_grad_(False)
    turns = rules.settle(backbone, autoencoder)
    return LoadedModel(
        *(info, backbone, autoencoder, front_end, folder, rules.device, rules.products),
        autocast=autocast,
        cache_bytes=None if plan is None else plan.cache_bytes,
        plan=plan,
        turns=turns,
    )


def folders_of_model(name_or_dir: str | os.PathLike[str]) -> list[Path]:
    """Where everything of a model lies: its own folder and, for an adapter, that of the model it changes."""
    folder = resolve_model(name_or_dir)
    return list(dict.fromkeys([folder, _parts_folder(folder, adapter_in(folder))]))


def load_autoencoder(name_or_dir: str | os.PathLike[str]) -> Autoencoder:
    """The autoencoder of a model, or of a folder that holds an `autoencoder/`; strict like `load_model`."""
    folder = Path(os.fspath(name_or_dir))
    if not (folder / "autoencoder").is_dir():
        folder = resolve_model(name_or_dir)
        folder = _parts_folder(folder, adapter_in(folder))
    loaded = load_strictly(*read_part(folder / "autoencoder", AUTOENCODERS), WeightRules().placing)
    return loaded.eval().requires_grad_(False)  # type: ignore[return-value]


def adapter_in(folder: Path) -> adapters.Adapter | None:
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


def backbone_classes(info: ModelInfo) -> dict[str, type[nn.Module]]:
    """The class that `read_part` must find in the folder of the backbone, by name."""
    name = FAMILIES[info.family]
    return {name: getattr(models, name)}


def read_part(
    folder: Path, classes: Mapping[str, type[nn.Module]]
) -> tuple[type[nn.Module], dict[str, Any], Path]:
    """Class, configuration and folder of a part, as `load_strictly` takes them. CheckpointError: a class that
    is not known here, or no readable `config.json`."""
    config = read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in classes:
        raise CheckpointError(
            f"{folder / 'config.json'}: _class_name is {name!r}; known here: {', '.join(classes)}."
        )
    return classes[name], config, folder


def check_belonging(
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


def _place(module: nn.Module, place: Callable[[str, Tensor], Tensor]) -> None:
    """Bring every tensor of a module to its type and place, one after the other."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.data = place(name, tensor.data)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder. CheckpointError: missing, damaged, or something else."""
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
