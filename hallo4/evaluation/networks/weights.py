"""Weights that only the user can bring: which file, from where, where it goes, and a strict way of loading
it.

Nothing is ever downloaded. A file lies in the folder given with `--weights`, else in the one named by the
environment variable HALLO4_METRIC_WEIGHTS, else in `~/.cache/hallo4/metrics`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hallo4.errors import CheckpointError

FOLDER_VARIABLE = "HALLO4_METRIC_WEIGHTS"


@dataclass(frozen=True)
class WeightFile:
    """A published file: its exact name, what it is for, where it is published and under what terms.

    `sha256_prefix`: the eight digits that its own name carries (the convention of torch.hub), else None: no
    checksum of it is published.
    """

    file: str
    gives: str
    source: str
    terms: str
    sha256_prefix: str | None = None


WEIGHTS: dict[str, WeightFile] = {
    "syncnet": WeightFile(
        "syncnet_v2.model",
        "Sync-C, Sync-D and offset",
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/ or auxiliary/ of ByteDance/LatentSync-1.5",
        "code MIT",
    ),
    "inception": WeightFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "FID and KID",
        "release fid_weights of github.com/mseitzer/pytorch-fid",
        "Apache-2.0",
        "6726825d",
    ),
    "i3d_disco": WeightFile(
        "i3d_pretrained_400.pt", "FVD, protocol disco", "github.com/Wangt-CN/DisCo", "see there"
    ),
    "i3d_stylegan_v": WeightFile(
        "i3d_torchscript.pt",
        "FVD, protocol stylegan-v",
        "flateon/FVD-I3D-torchscript or auxiliary/ of ByteDance/LatentSync-1.5",
        "see there",
    ),
    "alexnet": WeightFile(
        "alexnet-owt-7be5be79.pth", "LPIPS", "download.pytorch.org/models", "BSD-3", "7be5be79"
    ),
    "lpips": WeightFile(
        "alex.pth",
        "LPIPS",
        "lpips/weights/v0.1 of github.com/richzhang/PerceptualSimilarity",
        "BSD-2",
    ),
    "arcface": WeightFile(
        "w600k_r50.onnx",
        "CSIM",
        "model pack buffalo_l of github.com/deepinsight/insightface",
        "non-commercial research only",
    ),
}
"""Every file by a short name."""


def weights_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder given, else that of HALLO4_METRIC_WEIGHTS, else `~/.cache/hallo4/metrics`."""
    chosen = folder or os.environ.get(FOLDER_VARIABLE) or "~/.cache/hallo4/metrics"
    return Path(chosen).expanduser()


def has_weights(name: str, folder: str | os.PathLike[str] | None = None) -> bool:
    """Whether the file of `WEIGHTS[name]` lies there."""
    return (weights_folder(folder) / WEIGHTS[name].file).is_file()


def find_weights(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """The path of `WEIGHTS[name]`. CheckpointError: it is not there, or is not the file its name promises."""
    wanted, place = WEIGHTS[name], weights_folder(folder)
    path = place / wanted.file
    if not path.is_file():
        raise CheckpointError(
            f"{wanted.gives} needs the weights {wanted.file}, which are not in {place}. Get them from "
            f"{wanted.source} ({wanted.terms}) and put them there, or name their folder with --weights."
        )
    if wanted.sha256_prefix is not None:
        found = file_sha256(path)
        if not found.startswith(wanted.sha256_prefix):
            raise CheckpointError(
                f"{path}: its SHA-256 begins with {found[:8]}, its name promises {wanted.sha256_prefix}. "
                f"It is damaged or another file; get it again from {wanted.source}."
            )
    return path


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file; every report states it for the weights it used."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a file written by `torch.save`; nothing in it is executed. CheckpointError:
    unreadable.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as tensors by name ({reason}). Copy it anew."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds no tensors by name. Give the file that is published.")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Put `state` into `network`, every tensor by its name; ready to measure: no gradients, evaluation mode.

    Only counters of batch normalisation (`num_batches_tracked`), which old files lack, may be missing. Raises
    CheckpointError for anything missing, unknown, of another shape, or not finite.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in own]
    reshaped = [name for name in own if name in state and own[name].shape != state[name].shape]
    broken = [
        name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    for what, names in (
        ("lacks", missing),
        ("has unknown", unknown),
        ("has another shape for", reshaped),
        ("holds values that are not finite in", broken),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"{path}: {what} {', '.join(names[:3])}{more}; the {type(network).__name__} weights are "
                f"{len(own)} tensors by name. Give the file that is published."
            )
    network.load_state_dict(dict(state), strict=False)
    return network.eval().requires_grad_(False)
