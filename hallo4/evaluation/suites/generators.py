"""What makes the frames that are judged: a model, its autoencoder alone, or the renderer itself.

A `Generator` turns an episode into frames as long and as large as its own. Two names are ceilings, not
models: `truth` (the rendered frames: what the instrument says at best) and `autoencoder` or
`autoencoder:MODEL` (the rendered frames through an autoencoder: what a perfect diffusion model could reach).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hallo4.engine import Engine
from hallo4.errors import CheckpointError, InputError
from hallo4.evaluation.look.instrument import OBSERVER_FOLDER
from hallo4.evaluation.report import INTERVALS, SCHEMA, Row, write_report
from hallo4.evaluation.run import Job, Progress, measured_rows, named_models, store_of, text_digest
from hallo4.input_file import file_sha256
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.outputs import refuse_output
from hallo4.pipelines.model_folder import folders_of_model, load_autoencoder
from hallo4.pipelines.model_info import DEFAULT_MODEL, read_info, resolve_model
from hallo4.pipelines.model_outline import read_outline
from hallo4.types import Autoencoder
from hallo4.world.look import DRAWN, WorldName, checked_world

if TYPE_CHECKING:
    from hallo4.world import Episode

Generator = Callable[["Episode", int], np.ndarray]
"""(episode, seed of the noise) -> frames [T, H, W, 3] uint8 for its portrait, audio and skeleton."""

TRUTH, AUTOENCODER = "truth", "autoencoder"
_WORLD_SIZE_PX = 128


def load_generator(model: str, steps: int | None = None, guidance_scale: float | None = None) -> Generator:
    """The generator of that name; steps and guidance are the model's own where None. CheckpointError: no such
    model."""
    if model == TRUTH:
        return lambda episode, seed: episode.frames_u8
    if is_autoencoder(model):
        autoencoder = load_autoencoder(owner(model))
        return lambda episode, seed: through_autoencoder(autoencoder, episode.frames_u8)
    return _animator(model, steps, guidance_scale)


def is_autoencoder(model: str) -> bool:
    """Whether `model` names an autoencoder alone."""
    return model.split(":", 1)[0] == AUTOENCODER


def frame_size_px(model: str) -> int:
    """Side of the square frames that a model was made for; 128 where it does not say."""
    try:
        return _WORLD_SIZE_PX if model == TRUTH else read_info(resolve_model(owner(model))).size_px
    except CheckpointError:
        if is_autoencoder(model):  # one in training has no model around it yet
            return _WORLD_SIZE_PX
        raise


def side_multiple_px(models: Iterable[str]) -> int:
    """All `models` make pictures whose sides are multiples of it, as those of a framing are."""
    backbones = (model for model in models if model != TRUTH and not is_autoencoder(model))
    return math.lcm(*(read_outline(model).backbone.windows.side_multiple_px for model in backbones))


def world_of(models: Iterable[str]) -> WorldName:
    """The world that models were trained in: `drawn-1` for those that do not say, and where there is none.

    InputError: they come from several, or from one that is not known.
    """
    worlds: dict[str, str] = {}
    for model in models:
        with suppress(CheckpointError) if is_autoencoder(model) else nullcontext():
            if model != TRUTH:
                worlds.setdefault(read_info(resolve_model(owner(model))).world or DRAWN, model)
    if len(worlds) > 1:
        trained = " and ".join(f"{model} was trained in {world}" for world, model in worlds.items())
        raise InputError(f"{trained}: say in which of them all are measured (--world).")
    return checked_world(next(iter(worlds), DRAWN))


def weights_digest(model: str) -> str:
    """A hash of the weights behind a name, so that rows of another state of a model are never mixed in."""
    if model == TRUTH:
        return TRUTH
    folder = Path(owner(model))
    if (folder / "autoencoder").is_dir():
        return folder_digest(folder)
    digests = [folder_digest(each) for each in folders_of_model(owner(model))]
    return digests[0] if len(digests) == 1 else text_digest(" ".join(digests))


def folder_digest(folder: Path) -> str:
    """A hash of names and contents of all weights and configurations in a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json")):
        digest.update(os.fspath(path.relative_to(folder)).encode())
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()[:16]


class OneModel:
    """The model of a process that measures several, one after the other: only the last one is in memory."""

    def __init__(self, names: Mapping[str, str]):
        self.names = names
        self._loaded: tuple[str, tuple[Generator, int]] | None = None

    def __call__(self, name: str) -> tuple[Generator, int]:
        """The generator of that name, and the side of its frames in pixels."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            model = self.names[name]
            self._loaded = name, (load_generator(model), frame_size_px(model))
        return self._loaded[1]


def jobs_of(models: Mapping[str, str], items: Iterable[Any]) -> list[Job]:
    """A job for every item of every model, one model after the other; weights decide what its row is."""
    items = list(items)
    stamps = {
        name: ("autoencoder " if is_autoencoder(model) else "") + weights_digest(model)
        for name, model in models.items()
    }
    return [Job(clip_of(item), {name: stamp}, item) for name, stamp in stamps.items() for item in items]


def asked_world(
    models: Collection[str], world: WorldName | None, out: str | os.PathLike[str] | None
) -> WorldName:
    """`world`, or where that is None the `world_of` of `models`.

    OutputError before anything is read, if the report `out` would replace what belongs to a model; InputError
    as `world_of` and `checked_world`.
    """
    if out is not None:
        refuse_output(out, map(owner, models))
    return world_of(models) if world is None else checked_world(world)


def report_of_models(
    kind: str,
    models: Sequence[str],
    items: Iterable[Any],
    judge: Callable[[Any], Callable[[Job], list[Row]]],
    given: tuple[Any, ...],
    decides: Mapping[str, Any],
    out: str | os.PathLike[str] | None,
    on_progress: Progress | None,
    engine: Engine,
    figures: Callable[[Mapping[str, str], list[Row]], Mapping[str, Any]],
    page_of: Callable[[Mapping[str, Any]], str],
) -> dict[str, Any]:
    """The report of a suite that measures every one of `models` on every one of `items`, by itself.

    `judge` gets (name -> model, *given). `figures(name -> model, rows)` is what the report says; it is
    written to `out` with `page_of` it beside. Errors as `evaluate_drift`.
    """
    named = named_models(models)
    with store_of(out, {kind: decides, "observer": folder_digest(OBSERVER_FOLDER)}) as store:
        rows = measured_rows(judge, (named, *given), jobs_of(named, items), store, on_progress, engine)
        head = {"schema": SCHEMA, "kind": kind, "models": list(named)}
        report = {**head, **figures(named, rows), "notes": [INTERVALS]}
        if out is not None:
            write_report(report, Path(out), page_of(report))
        return report


def clip_of(item: Any) -> str:
    """What a row calls an item."""
    return item if isinstance(item, str) else " ".join(map(str, item))


@torch.no_grad()
def through_autoencoder(autoencoder: Autoencoder, frames_u8: np.ndarray) -> np.ndarray:
    """Frames [T, H, W, 3] uint8, encoded and decoded; the last frame is repeated up to 4k+1 and cut off
    again."""
    frames = len(frames_u8)
    padded = np.concatenate([frames_u8, np.repeat(frames_u8[-1:], (1 - frames) % 4, axis=0)])
    video = frames_to_pm1(padded).transpose(0, 1)[None]
    decoded = autoencoder.decode_video(autoencoder.encode_video(video))[0, :, :frames]
    return pm1_to_frames(decoded.transpose(0, 1))


def _animator(model: str, steps: int | None, guidance_scale: float | None) -> Generator:
    from hallo4.pipelines import PortraitAnimator

    animator = PortraitAnimator.from_pretrained(model)

    def generate(episode: Episode, seed: int) -> np.ndarray:
        windows = animator.frames(
            image=episode.portrait_u8,
            audio=episode.audio,
            motion=episode.skeleton,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
        )
        return np.concatenate(list(windows))

    return generate


def owner(model: str) -> str:
    """`autoencoder:NAME` -> NAME; `autoencoder` -> the default model; anything else is itself."""
    if not is_autoencoder(model):
        return model
    return model.split(":", 1)[1] if ":" in model else DEFAULT_MODEL
