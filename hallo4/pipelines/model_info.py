"""Which models there are, where they lie, and what `model.json` says of one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hallo4.errors import CheckpointError, OutputError
from hallo4.json_file import read_json
from hallo4.pipelines.plan import WindowNoise
from hallo4.pipelines.reach import TrainedOn
from hallo4.ranges import FlowShift, Frames, Guidance, SidePx, Steps, check_ranges
from hallo4.types import FPS
from hallo4.weights.places import user_cache
from hallo4.whole import refuse_fixed_folder

ASSETS = Path(__file__).resolve().parent.parent / "assets"
DEFAULT_MODEL = "tiny-dit"
RELEASED_MODEL = "hallo4"
"""Name of the converted released model."""

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
    `trained_on`: the portraits it knows, if that was measured; a note says where another is given. `world`:
    the portrait world that it was trained in, if it says so; models that do not, of any, know "drawn-1".
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - the name that pydantic reads

    name: str
    version: str
    family: str = "dit"
    size_px: SidePx = 128
    window_frames: Frames = 17
    steps: Steps = 16
    guidance_scale: Guidance = 1.0
    flow_shift: FlowShift = 1.0
    fps: float = FPS
    description: str = ""
    canvas_sizes_px: tuple[tuple[SidePx, SidePx], ...] = ()
    prompt: str = ""
    negative_prompt: str = ""
    window_noise: WindowNoise = "own"
    known_frames_as: Literal["uint8", "float"] = "uint8"
    trained_on: TrainedOn | None = None
    world: str | None = None

    def prompts(self, prompt: str | None, negative_prompt: str | None) -> tuple[str, str]:
        """Both prompts of a video, the model's own where None."""
        return (
            self.prompt if prompt is None else prompt,
            self.negative_prompt if negative_prompt is None else negative_prompt,
        )

    def __post_init__(self) -> None:
        check_ranges(self, error=CheckpointError)
        problem = None
        if self.family not in FAMILIES:
            problem = f"family is {self.family!r}; known: {', '.join(FAMILIES)}"
        elif self.fps != FPS:
            problem = f"fps is {self.fps}; only {FPS:g} is supported"
        elif self.trained_on is not None:
            problem = self.trained_on.problem()
        if problem:
            raise CheckpointError(f"model {self.name!r}: {problem}. Correct model.json.")


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in ASSETS.glob("*/model.json"))


def models_folder() -> Path:
    """Where models that are not embedded are found by name: `hallo4/models` in `$XDG_CACHE_HOME`, else in
    `~/.cache`."""
    return (user_cache() or Path("~/.cache")) / "hallo4/models"


def resolve_model(name_or_dir: str | os.PathLike[str]) -> Path:
    """The folder of a model, given by the name of an embedded one, by its path, or by the name of a folder in
    `models_folder`.

    CheckpointError: neither a known name nor a folder with a `model.json`.
    """
    text = os.fspath(name_or_dir)
    if text in embedded_models():
        return ASSETS / text
    folder = Path(text)
    kept = models_folder() / text
    if not folder.exists() and (kept / "model.json").is_file() and kept.parent == models_folder():
        return kept
    if text == RELEASED_MODEL and not (folder / "model.json").is_file():
        raise CheckpointError(
            f"{text}: the released model is not here (looked in {models_folder()}). Get its files with "
            "`hallo4 weights fetch hallo4`, then run `hallo4 weights convert`."
        )
    if not folder.exists():
        known = ", ".join(embedded_models()) or "(none in this installation)"
        raise CheckpointError(
            f"{text!r} is no model: give a folder, one of {known}, or the name of a folder in "
            f"{models_folder()}."
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"{text}: a model is a folder with model.json, dit/, autoencoder/ and audio/; this is a file."
        )
    if not (folder / "model.json").is_file():
        raise CheckpointError(
            f"{text}: this folder holds no model.json, so it is no model; give the folder above or below."
        )
    return folder


def refuse_other_than_model(target: Path) -> None:
    """OutputError: something stands at `target` that is neither a model folder nor an empty folder, or that
    no folder can replace (`refuse_fixed_folder`)."""
    try:
        refuse_fixed_folder(target)
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror}. Choose another path.") from error
    taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if taken and not (target / "model.json").is_file():
        raise OutputError(
            f"{target}: stands there and is no model folder; it is not replaced. Choose another path."
        )


def read_info(folder: Path) -> ModelInfo:
    """`model.json` of a resolved folder. CheckpointError: unreadable, wrong keys, impossible values."""
    return read_json(folder / "model.json", ModelInfo, error=CheckpointError, advice="Correct it.")


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` in the folder of a part. CheckpointError: missing, unreadable, or no JSON object."""
    return read_json(
        folder / "config.json", dict[str, Any], error=CheckpointError, advice="Copy the model folder again."
    )
