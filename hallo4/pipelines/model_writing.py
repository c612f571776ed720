"""Model folders written: whole or not at all, in the layout that `model_folder.py` reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hallo4.errors import CheckpointError, OutputError
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.pipelines import adapter as adapters
from hallo4.pipelines.model_folder import (
    ModelInfo,
    adapter_in,
    embedded_models,
    load_model,
    resolve_model,
)
from hallo4.pipelines.strict_weights import save_weights


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
    if adapter_in(resolve_model(base)) is not None:
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
