"""What videos are looked at with: what finds keypoints, and published networks whose weights are there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hallo4.errors import InputError, MissingExtraError
from hallo4.evaluation.look.keypoints import KeypointFinder, Pose
from hallo4.evaluation.measures.fvd import PROTOCOLS
from hallo4.evaluation.measures.identity import ARCFACE_RUNS, ArcFaceEncoder, FaceEncoder, PatchEncoder
from hallo4.input_file import file_sha256
from hallo4.pipelines.devices import find_device
from hallo4.pose.person import LARGEST
from hallo4.weights.catalogue import FILES
from hallo4.weights.check import find_weights
from hallo4.weights.onnx_session import require_onnxruntime
from hallo4.weights.places import folder_of, present

NETWORKS: dict[str, tuple[str, ...]] = {
    "syncnet": ("syncnet",),
    "inception": ("inception",),
    "i3d_disco": ("i3d_disco",),
    "i3d_stylegan_v": ("i3d_stylegan_v",),
    "lpips": ("alexnet", "lpips"),
    "arcface": ("arcface",),
}
"""Optional networks by name, and the files (names in `hallo4.weights.FILES`) that each needs."""


@dataclass(frozen=True)
class ToolSettings:
    """What decides which tools are loaded. `need`: networks that must be there; `weights`: the folder of
    files; `person`: who is meant where there are several, as `hallo4.motion.PersonChoice.of` takes it;
    `device`: where networks of torch run (ArcFace and pose estimators run on the CPU).
    """

    pose: Pose = "auto"
    weights: str | None = None
    need: tuple[str, ...] = ()
    person: str = LARGEST
    device: str = "cpu"


@dataclass
class VideoTools:
    """The tools of one process. `networks`: those that are here, by name in `NETWORKS`, on `device`."""

    keypoints: KeypointFinder
    faces: dict[str, FaceEncoder]
    networks: dict[str, Any] = field(default_factory=dict)
    device: str | torch.device = "cpu"

    def planes(self, frames_u8: np.ndarray) -> Tensor:
        """Frames [n, H, W, 3] -> [n, 3, H, W] on the device."""
        return torch.from_numpy(np.ascontiguousarray(frames_u8)).to(self.device).permute(0, 3, 1, 2)


def available_networks(settings: ToolSettings) -> dict[str, str | None]:
    """Every network: None if its files and what runs it are there, else one line that says what is missing.

    Raises InputError for a name in `need` that does not exist, CheckpointError for a needed file that is
    not there and for one that is there but damaged, MissingExtraError if ArcFace is needed and onnxruntime
    is not installed.
    """
    for name in settings.need:
        if name not in NETWORKS:
            raise InputError(f"There is no network {name!r}; there are {', '.join(NETWORKS)}.")
    found: dict[str, str | None] = {}
    for name, files in NETWORKS.items():
        missing = [file for file in files if present(FILES[file], settings.weights) is None]
        if name in settings.need or not missing:
            for file in files:
                find_weights(file, settings.weights)
            found[name] = None if name != "arcface" else _without_onnxruntime(name in settings.need)
        else:
            first = FILES[files[0]]
            names = " and ".join(FILES[file].path for file in missing)
            found[name] = (
                f"{first.purpose}: not measured, {names} not in {folder_of(first, settings.weights)}"
            )
    return found


def _without_onnxruntime(needed: bool) -> str | None:
    """None if ArcFace can be run, else the line that says why not: MissingExtraError where it is needed."""
    try:
        require_onnxruntime(*ARCFACE_RUNS)
    except MissingExtraError as error:
        if needed:
            raise
        return f"CSIM: not measured, {FILES['arcface'].path} is there, but: {error}"
    return None


def weights_used(settings: ToolSettings) -> dict[str, str]:
    """File name -> SHA-256 of every published file that is used, for the report."""
    names = [name for name, missing in available_networks(settings).items() if missing is None]
    files = sorted({file for name in names for file in NETWORKS[name]})
    return {FILES[file].path: file_sha256(find_weights(file, settings.weights)) for file in files}


def load_tools(settings: ToolSettings, keypoints: Path) -> VideoTools:
    """Load what finds keypoints, to be kept in the folder `keypoints`, and every network that is available.

    Raises what `KeypointFinder`, `available_networks` and `find_device` raise.
    """
    finder = KeypointFinder(settings.pose, keypoints, settings.person)
    device = find_device(settings.device)
    tools = VideoTools(finder, {"portrait_similarity": PatchEncoder()}, device=device)
    loaders = _loaders(settings.weights, device)
    for name, missing in available_networks(settings).items():
        if missing is not None:
            continue
        if name == "arcface":
            tools.faces["csim"] = ArcFaceEncoder(settings.weights)
        else:
            tools.networks[name] = loaders[name]()
    return tools


def _loaders(folder: str | os.PathLike[str] | None, device: torch.device) -> dict[str, Callable[[], Any]]:
    from hallo4.evaluation.networks import i3d, inception, lpips
    from hallo4.sync.network import load_syncnet

    return {
        "syncnet": lambda: load_syncnet(folder).to(device),
        "inception": lambda: inception.load_inception(folder).to(device),
        "i3d_disco": lambda: i3d.load_i3d_disco(folder, device),
        "i3d_stylegan_v": lambda: i3d.load_i3d_stylegan_v(folder, device),
        "lpips": lambda: lpips.load_lpips(folder).to(device),
    }


FVD_NETWORKS = {protocol.weights: protocol for protocol in PROTOCOLS.values()}
"""Network name -> the FVD protocol it serves."""
