"""Where the clips of a fine-tuning come from: prepared videos, or episodes of the portrait world.

shards of `hallo4 data prepare` --PreparedClips--.
episodes, rendered and encoded --LatentCache-----+--> SourceOfClips: clips, their length, what they are
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hallo4.data.clips import ClipStoreConfig, build_clips
from hallo4.data.index import differences
from hallo4.data.latents import build_cache
from hallo4.data.prepare import stamp_of_model
from hallo4.data.prepared import PreparedClips
from hallo4.diffusion.keyed import keyed_generator
from hallo4.errors import InputError
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.pipelines.reach import Range, TrainedOn
from hallo4.recipes.recipe import counted
from hallo4.training.ranks import main_first
from hallo4.training.sft import Clips
from hallo4.types import FPS

WORLD = "the procedural portrait world"


@dataclass(frozen=True)
class WorldClipsConfig:
    """Episodes that are rendered into `clips_folder` and encoded into `latents_folder`, once."""

    clips: ClipStoreConfig = field(default_factory=lambda: ClipStoreConfig(episodes=2000))
    clips_folder: str = "runs/clips_train"
    latents_folder: str = "runs/latents_train"


@dataclass(frozen=True)
class SourceOfClips:
    """`frames` of each clip, those that are known included. For the card: `what` it is, in words; how many
    clips have each licence (`licences`, None: rendered, no terms); and `aspects`, `head_widths`, (lowest,
    highest) as in `TrainedOn`, where known. `videos` [n]: number of the video of each clip. `rendered`: as
    what, of clips of a world."""

    clips: Clips
    frames: int
    what: str
    licences: Mapping[str, int] | None = None
    aspects: Range | None = None
    head_widths: Range | None = None
    videos: Tensor | None = None
    rendered: ClipStoreConfig | None = None

    def split(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """Indices (for training, held out): the clips of about `share` of the videos, at least of one.

        InputError: there are not two videos to choose from.
        """
        rows = torch.arange(len(self.clips))
        if not share:
            return rows, rows[:0]
        videos = rows if self.videos is None else self.videos
        count = int(videos.max()) + 1
        if count < 2:
            raise InputError(
                "held_out_share needs clips of two videos or more, because clips of one video are alike: "
                "prepare more videos, or train with --set held_out_share=0."
            )
        order = torch.randperm(count, generator=keyed_generator("held out videos", seed))
        chosen = order[: min(count - 1, max(1, round(share * count)))]
        away = torch.isin(videos, chosen)
        return rows[~away], rows[away]

    def measured(self) -> list[str]:
        """Lines for the card: what was measured on the clips."""
        lines = [f"Frames of a clip: {self.frames}, at {FPS:g} frames a second"]
        for name, ends in (
            ("Width over height of the canvas", self.aspects),
            ("Width of the face over the root of the canvas' area", self.head_widths),
        ):
            if ends is not None:
                lines.append(f"{name}: {ends[0]:.2f} to {ends[1]:.2f}")
        return lines

    def extends(self, known: TrainedOn) -> TrainedOn:
        """What a model knows that knew `known` and has been trained on these clips too. Their portraits went
        through its autoencoder like all others, so what that gives back stays as it was."""
        if self.aspects is None or self.head_widths is None:
            return known
        return replace(
            known,
            what=f"{known.what}, then {self.what}",
            aspect=_joined(known.aspect, self.aspects),
            head_width=_joined(known.head_width, self.head_widths),
        )


def _joined(one: Range, other: Range) -> Range:
    return min(one[0], other[0]), max(one[1], other[1])


def source_of(config: Any, model: LoadedModel) -> SourceOfClips:
    """The clips that the configuration of a fine-tuning of `model` names: `prepared` ones, or else rendered
    ones. InputError: it names none, or they are not for the model."""
    if config.prepared is not None:
        return prepared_clips(config.prepared, model)
    if isinstance(config, WorldClipsConfig):
        return world_clips(config, model)
    raise InputError("no clips are named: prepare videos for the model, and set prepared=SHARDS.")


def world_clips(config: WorldClipsConfig, model: LoadedModel) -> SourceOfClips:
    """Rendered clips, encoded by the autoencoder of `model`. InputError: it takes other sound than they
    hold."""
    rules = model.backbone.windows
    if rules.audio_rho != 1 or model.audio_front_end.to_config() != LogMelFrontEnd().to_config():
        raise InputError(
            f"{model.info.name} takes sound that the rendered clips do not hold (log-mel at {FPS:g} Hz): "
            "prepare videos for it with hallo4 data prepare, and set prepared=SHARDS."
        )
    with main_first("the rendered clips"):
        progress = counted("shards of clips rendered"), counted("clips encoded")
        store = build_clips(config.clips_folder, config.clips, on_progress=progress[0])
        for shape in store.shapes:
            if any(int(side) % rules.side_multiple_px for side in shape.split("x")):
                raise InputError(
                    f"{config.clips_folder}: holds clips of {shape} pixels, and {model.info.name} makes "
                    f"sides that are multiples of {rules.side_multiple_px}: render others into another "
                    "folder (clips.size_px, clips.multiple_px), or take smaller patches (sizes.patch=1)."
                )
        folders = (config.latents_folder, progress[1], rules.skeleton_rho, rules.drafts)
        cache = build_cache(store, model.autoencoder, *folders)
    return SourceOfClips(cache, config.clips.frames, WORLD, rendered=config.clips)


def prepared_clips(folder: str, model: LoadedModel) -> SourceOfClips:
    """The clips in a folder of shards. InputError: they were not made for `model`."""
    clips = PreparedClips(folder)
    wanted = stamp_of_model(model, model.info.name, clips.stamp.clip_frames)
    # Clips that another device or precision encoded are the model's as well; only adding to them is refused.
    differ = [name for name in differences(clips.stamp, wanted) if name != "arithmetic"]
    if differ:
        raise InputError(
            f"{folder}: holds clips for {clips.stamp.model}, which differ from those for "
            f"{model.info.name} in {', '.join(differ)}. Prepare the videos with --model {model.folder}."
        )
    videos = clips.numbers_of("source")
    measured = _measured(clips, model.autoencoder.spec.cell_px)
    return SourceOfClips(
        *(clips, clips.stamp.clip_frames, f"{len(clips)} clips of {int(videos.max()) + 1} videos"),
        *(clips.licences(), *measured, videos),
    )


def _measured(clips: PreparedClips, cell_px: int) -> tuple[Range, Range | None]:
    """Lowest and highest aspect of the canvas, and width of a head over the root of its area."""
    aspects, widths = [], []
    face_px = clips.column("face_px")
    for shape, rows in clips.groups.items():
        _, height, width = map(int, shape.split("x"))
        aspects.append(width / height)
        widths += [face_px[row] / (cell_px * (height * width) ** 0.5) for row in rows.tolist()]
    widths = [width for width in widths if width > 0]
    return (min(aspects), max(aspects)), (min(widths), max(widths)) if widths else None
