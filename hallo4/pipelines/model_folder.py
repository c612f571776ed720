"""Models on disk: find one by name or folder, load it strictly, write one.

    model.json     what the model is and how it wants to be sampled (`ModelInfo`)
    dit/ or unet/  config.json, *.safetensors      the backbone
    autoencoder/   config.json, *.safetensors
    audio/         config.json                     the audio front end, and what it needs
    text/          config.json, *.safetensors, tokenizer/, embeddings/    of a model that takes prompts
    README.md      the card
    model_index.json               for diffusers (`diffusers_pipeline.py`)

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
from dataclasses import asdict, dataclass, replace
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
from hallo4.pipelines.model_index import write_model_index
from hallo4.pipelines.model_info import (
    DEFAULT_MODEL,
    FAMILIES,
    ModelInfo,
    embedded_models,
    read_config,
    read_info,
    refuse_other_than_model,
    resolve_model,
)
from hallo4.pipelines.placement import PlacementPlan
from hallo4.pipelines.weight_moves import CPU, OneAtATime, WeightRules, place_all
from hallo4.types import FPS, AudioFrontEnd, Autoencoder, Backbone
from hallo4.weights.module_folder import StoredTensors, load_strictly, save_weights
from hallo4.whole import whole_folder

if TYPE_CHECKING:
    from hallo4.pipelines.prompts import PromptEmbeddings

AUTOENCODERS = {"TinyVideoAutoencoder": "TinyVideoAutoencoder", "AutoencoderKLWan": "WanAutoencoder"}
"""`_class_name` in a folder's config -> our class, which is imported when it is needed."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run on `device`, with products in `dtype`, without gradients.

    `prompts`: embeddings of texts, of a model that takes them. `autocast`: on a CPU with units for it,
    products run in bf16. `plan`: where the weights live, and how much of what stays the same over the steps
    of a window may be kept (None: all weights on `device`, all of it kept). `turns`: the parts of which one
    at a time is on the device. `attention`: the backend of diffusers that was chosen (None: PyTorch's own).
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
    plan: PlacementPlan | None = None
    turns: OneAtATime | None = None
    attention: str | None = None

    @property
    def cache_bytes(self) -> int | None:
        """How much of what stays the same over the steps of a window may be kept; None: all of it."""
        return None if self.plan is None else self.plan.cache_bytes

    def denoising(self) -> AbstractContextManager:
        """The backbone comes to its place; the number format of its products, as a context."""
        return self._using("backbone")

    def autoencoding(self) -> AbstractContextManager:
        """The autoencoder comes to its place; the number format of its products, as a context."""
        return self._using("autoencoder")

    def _using(self, part: str) -> AbstractContextManager:
        if self.turns is not None:
            self.turns.bring(part)
        return fast_autocast() if self.autocast and self.device.type == "cpu" else nullcontext()


def load_model(
    name_or_dir: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    prompts: Sequence[str | None] | None = None,
    plan: PlacementPlan | None = None,
) -> LoadedModel:
    """Load a model, every part strictly; no network, no pickles.

    `dtype` of weights and products; None: bfloat16 on CUDA, else float32, with products in bf16 on a CPU with
    units for them (see `WeightRules`). `plan`: where the weights live (None: all on `device`). `prompts`
    (prompt and negative prompt, None: the model's own): texts that will be needed are embedded before the
    backbone is loaded, so that it and the text encoder are not in memory together; other texts are embedded
    when they are asked for.

    CheckpointError names what does not fit: the folder, the file, and the missing, extra or mis-shaped
    tensors. MissingExtraError: the plan needs an extra.
    """
    folder = resolve_model(name_or_dir)
    info, adapter = read_info(folder), _adapter(folder)
    parts_folder = _parts_folder(folder, adapter)
    rules = WeightRules(torch.device(device), dtype)
    if plan is not None:
        rules = replace(rules, placement=plan.placement, scarce=plan.scarce)
    if adapter is not None and rules.blocks_stay_in_files:
        rules = replace(rules, placement="resident")  # changed weights lie in no file
    texts = _text(parts_folder, info, rules.device, prompts)
    # An adapter is added to the weights of its base as they are in fp32.
    backbone_placing = rules.placing if adapter is None else None
    backbone_folder = parts_folder / info.family
    backbone = load_strictly(*read_part(backbone_folder, backbone_classes(info)), backbone_placing)
    autoencoder = load_strictly(*read_part(parts_folder / "autoencoder", AUTOENCODERS), rules.placing)
    audio = parts_folder / "audio"
    front_end = audio_front_end_from_config(read_config(audio), audio, rules.device)
    check_belonging(info, backbone, autoencoder, front_end, folder)
    if adapter is not None:
        adapters.add_adapter(backbone, adapter, folder / adapters.FOLDER)
        place_all(backbone, rules.placing(backbone))
    parts = (_at_rest(backbone), _at_rest(autoencoder), front_end)
    turns = rules.settle(backbone, autoencoder, StoredTensors(backbone_folder))
    return LoadedModel(info, *parts, folder, rules.device, rules.products, texts, rules.autocast, plan, turns)


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
    return _at_rest(load_strictly(*read_part(folder / "autoencoder", AUTOENCODERS)))


def saved_autoencoder(folder: str | os.PathLike[str]) -> Any:
    """The tiny autoencoder in a folder with its `config.json`, as a training leaves it; strict like
    `load_model`, and never looked for anywhere else. CheckpointError: none lies there, or it does not fit."""
    known = {"TinyVideoAutoencoder": "TinyVideoAutoencoder"}
    return _at_rest(load_strictly(*read_part(Path(os.fspath(folder)), known)))


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


def save_trained_folder(
    folder: str | os.PathLike[str], start: Path, info: ModelInfo, backbone: nn.Module, card: str
) -> Path:
    """Write the model folder of `start` once more with another `backbone`, of the same family: all other
    parts byte for byte (as hard links, where the disk has them), matrices in the type that `start` has them
    in.

    OutputError: as `save_model_folder`.
    """
    parts = _parts_folder(start, _adapter(start))
    headers = StoredTensors(parts / info.family).headers.values()
    stored = {header.kind for header in headers if len(header.shape) > 1}
    dtype = torch.float32 if "F32" in stored else torch.bfloat16

    def write_parts(building: Path) -> None:
        save_weights(building / info.family, backbone, dtype)
        for part in ("autoencoder", "audio", "text"):
            if (parts / part).is_dir():
                shutil.copytree(parts / part, building / part, copy_function=_linked)

    return _write_folder(Path(folder), info, card, write_parts)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
    return target


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
    if is_adapter(resolve_model(base)):
        raise CheckpointError(f"{os.fspath(base)}: is an adapter; build on the model it belongs to.")
    target, name = Path(folder), os.fspath(base)
    named = name if name in embedded_models() else os.path.relpath(name, target)
    hashed = weights_fingerprint(load_model(base).backbone)
    adapter = adapters.Adapter(named, float(scale), hashed, state)
    return _write_folder(
        target, info, card, lambda building: adapters.write_adapter(building / adapters.FOLDER, adapter)
    )


def _write_folder(target: Path, info: ModelInfo, card: str, write_parts: Callable[[Path], None]) -> Path:
    refuse_other_than_model(target)
    try:
        with whole_folder(target) as building:
            write_parts(building)
            (building / "model.json").write_text(json.dumps(asdict(info), indent=2) + "\n")
            write_model_index(building)
            (building / "README.md").write_text(card)
    except OSError as error:
        raise OutputError(
            f"{target}: the model cannot be written there ({error.strerror}). Choose another path."
        ) from error
    return target


def is_adapter(folder: Path | None) -> bool:
    """Whether a resolved model consists of changes of another one."""
    return folder is not None and (folder / adapters.FOLDER).is_dir()


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
        texts.embeddings(info.prompts(*prompts))
    return texts


def backbone_classes(info: ModelInfo) -> dict[str, str]:
    """The class that `read_part` must find in the folder of the backbone."""
    return {FAMILIES[info.family]: FAMILIES[info.family]}


def read_part(folder: Path, classes: Mapping[str, str]) -> tuple[type[nn.Module], dict[str, Any], Path]:
    """Class, configuration and folder of a part, as `load_strictly` takes them. CheckpointError: a class that
    is not among `classes`, or no readable `config.json`."""
    config = read_config(folder)
    name = config.get("_class_name")
    if name not in classes:
        raise CheckpointError(
            f"{folder / 'config.json'}: _class_name is {name!r}; known here: {', '.join(classes)}."
        )
    return getattr(models, classes[name]), config, folder


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
            f"one is conditioned on: give {rules.known_frames + rules.repeated_frames} or more."
        )
    if any(side % rules.side_multiple_px for size in info.canvas_sizes_px for side in size):
        raise CheckpointError(
            f"{folder / 'model.json'}: canvas_sizes_px is {info.canvas_sizes_px}, but the backbone makes "
            f"sides that are multiples of {rules.side_multiple_px}. Correct it."
        )
    for what, found, expected in (
        ("audio/: blocks", front_end.blocks, wanted.audio_blocks),
        ("audio/: channels", front_end.channels, wanted.audio_channels),
        ("audio/: rate_hz", front_end.rate_hz, FPS * rules.audio_rho),
        ("autoencoder/: frames_per_latent", made.frames_per_latent, rules.frames_per_latent),
        ("autoencoder/: latent_channels", made.latent_channels, wanted.latent_channels),
        ("autoencoder/: pixels per latent cell", made.cell_px, rules.cell_px),
    ):
        if found != expected:
            raise CheckpointError(
                f"{folder}: {what} is {found}, but the backbone was made for {expected}. "
                "Use the parts of one model."
            )


def _at_rest(module: nn.Module) -> Any:
    """In evaluation mode, without gradients."""
    return module.eval().requires_grad_(False)
