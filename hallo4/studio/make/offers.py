"""The models that a studio offers: those of the package, those in the models folder, and named folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hallo4.errors import CheckpointError
from hallo4.pipelines import DEFAULT_MODEL, embedded_models, resolve_model
from hallo4.pipelines.model_info import models_folder, read_info
from hallo4.studio.make.settings import ModelView, Settings, Speed, SpeedView
from hallo4.studio.refused import Refused


class Offers:
    """Models by name. People choose among these; no path of theirs is opened."""

    def __init__(self, more: Sequence[str] = ()) -> None:
        """`more`: names or folders beside the embedded models and those in `models_folder`; they come first.

        CheckpointError: one of them is no model.
        """
        kept = sorted(path.parent for path in models_folder().glob("*/model.json"))
        own = sorted(embedded_models(), key=lambda name: (name != DEFAULT_MODEL, name))
        self._folders: dict[str, Path] = {}
        self._views: dict[str, ModelView] = {}
        for number, given in enumerate([*more, *own, *kept]):
            try:
                self._add(resolve_model(given))
            except CheckpointError:
                if number < len(more):
                    raise  # asked for by name; others are left out

    def _add(self, folder: Path) -> None:
        info = read_info(folder)
        if info.name in self._folders:
            return
        self._folders[info.name] = folder.resolve()
        self._views[info.name] = ModelView(
            name=info.name, description=info.description, speeds=speeds_of(info.steps, info.guidance_scale),
            takes_text=(folder / "text").is_dir(), prompt=info.prompt, negative_prompt=info.negative_prompt,
        )  # fmt: skip

    def views(self) -> tuple[ModelView, ...]:
        """All of them, the first is the one that is chosen unless people choose."""
        return tuple(self._views.values())

    def check(self, settings: Settings) -> None:
        """Refused: the model is not offered, or a prompt for one that takes no text."""
        self.folder(settings.model)
        prompted = settings.prompt is not None or settings.negative_prompt is not None
        if prompted and not self._views[settings.model].takes_text:
            raise Refused(422, f"The model {settings.model} takes no text. Leave the prompt out.")

    def effort(self, settings: Settings) -> tuple[int, float]:
        """Denoising steps and guidance scale: as given, else as the speed says. Refused: no such model."""
        self.folder(settings.model)
        chosen = self._views[settings.model].speeds[settings.speed]
        steps, guidance_scale = settings.steps, settings.guidance_scale
        return (
            chosen.steps if steps is None else steps,
            chosen.guidance_scale if guidance_scale is None else guidance_scale,
        )

    def folder(self, name: str) -> Path:
        """Where a model lies. Refused: it is not offered."""
        if name not in self._folders:
            raise Refused(422, f"The model {name!r} is not offered here. Choose one of the list.")
        return self._folders[name]


def speeds_of(steps: int, guidance_scale: float) -> dict[Speed, SpeedView]:
    """The speeds of a model with these settings of its own: all of its steps, half of them, and a quarter
    without guidance, which needs one pass through the network a step instead of two."""
    own = {
        "full": (steps, guidance_scale),
        "fast": (-(-steps // 2), guidance_scale),
        "draft": (-(-steps // 4), 1.0),
    }
    passes = {speed: count * (1 if scale == 1.0 else 2) for speed, (count, scale) in own.items()}
    return {
        speed: SpeedView(steps=count, guidance_scale=scale, times=passes["full"] / passes[speed])
        for speed, (count, scale) in own.items()
    }
