"""Validation of preference training: held-out windows at fixed draws, and the motion of made windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hallo4.diffusion import PreferenceLossConfig
from hallo4.errors import InputError
from hallo4.evaluation.look.instrument import measure
from hallo4.media.pixels import pm1_to_frames
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.pipelines.plan import window_noise
from hallo4.pipelines.window import decode_window, denoise_window
from hallo4.preference.watch import amplitude_px, observer
from hallo4.ranges import Episodes, Whole, check_ranges
from hallo4.recipes.pair_data import PairData
from hallo4.training import (
    PairBatch,
    PreferenceGuard,
    TrainConfig,
    evaluate_pairs,
    predict,
    to_device_of,
    training_autocast,
)
from hallo4.training.pair_views import viewed
from hallo4.training.pairs import draws_of
from hallo4.training.reference import Reference
from hallo4.types import MotionConditions

EVALUATED_AT_ONCE = 8


@dataclass(frozen=True)
class HeldOutConfig:
    """`draws`: fixed draws for each held-out window; at most `windows` of those are looked at.
    `motion_windows`: how many windows a preview makes to compare their motion with that of the model before
    training (0: none), by `motion`: "joints" of the body, as the observer of the portrait world sees them,
    or "pixels", the mean change from frame to frame, of any videos."""

    windows: Episodes = 32
    draws: Episodes = 2
    motion_windows: Whole = 16
    motion: Literal["joints", "pixels"] = "joints"

    def __post_init__(self) -> None:
        """InputError for a value out of range."""
        check_ranges(self)


class HeldOutPairs:
    """What a preview looks at: `rows` of `data`. `first_motion` is measured before the first step."""

    def __init__(
        self,
        data: PairData,
        rows: Tensor,
        clips: Mapping[str, Any],
        start: LoadedModel,
        reference: Reference,
        config: HeldOutConfig,
        loss: PreferenceLossConfig,
        guard: PreferenceGuard,
        run: TrainConfig,
    ) -> None:
        self.data, self.start, self.reference, self.config = data, start, reference, config
        self.loss, self.guard, self.run = loss, guard, run
        self.rows = rows.repeat_interleave(config.draws)
        self.visits = torch.arange(config.draws).repeat(len(rows)) % (draws_of(reference) or config.draws)
        self.groups = data.groups(self.rows, clips)
        self.made_from = rows[: config.motion_windows]
        self.first_motion: float | None = None

    def before_training(self, model: nn.Module) -> None:
        """Measure the motion of `model`, which is not trained yet."""
        if len(self.made_from):
            with self._autocast(model), torch.no_grad():
                self.first_motion = self._motion(model)

    def __call__(self, step: int, model: nn.Module) -> dict[str, float]:
        """Statistics of all rows and of their groups; `motion_ratio` where windows are made; `score`: minus
        the margin, infinite where the guard's limits are broken.

        (The held-out loss turns earlier: a few pairs that are wrong by much decide it, and the model it chose
        hardly differed from the reference.)
        """
        with self._autocast(model):
            stats = evaluate_pairs(model, self._batches(model), predict, self.reference, self.loss)
            values = stats.summary() | {"loss": float(stats.loss.mean())}
            if self.first_motion is not None:
                values["motion_ratio"] = self._motion(model) / self.first_motion
        score = self.guard.score(values, -values["margin"])
        return values | {"score": score} | viewed(stats, self.groups)

    def _autocast(self, model: nn.Module) -> Any:
        return training_autocast(self.run, next(model.parameters()).device.type)

    def _batches(self, model: nn.Module) -> Iterator[PairBatch]:
        for start in range(0, len(self.rows), EVALUATED_AT_ONCE):
            part = slice(start, start + EVALUATED_AT_ONCE)
            yield PairBatch(**to_device_of(model, self.data.batch(self.rows[part], self.visits[part])))

    def _motion(self, model: nn.Module) -> float:
        """How much moves, mean over windows that `model` makes."""
        made_by, info = replace(self.start, backbone=model), self.start.info
        amplitudes = []
        for row in self.made_from.tolist():
            batch = to_device_of(model, self.data.batch(torch.tensor([row]), torch.tensor([0])))
            conditions = MotionConditions(**batch["conditions"])  # type: ignore[arg-type]
            cells = batch["winner"].shape[-2:]
            noise = window_noise(model.sample_shape(info.window_frames, *cells), 0, row)
            clean = denoise_window(made_by, conditions, noise, info.steps, 1.0, on_step=lambda done: None)
            frames_pm1 = decode_window(made_by, clean)
            if self.config.motion == "pixels":
                amplitudes.append(float(frames_pm1.diff(dim=0).abs().mean()) * 127.5)
            elif (amplitude := amplitude_px(measure(observer(), pm1_to_frames(frames_pm1)))) is not None:
                amplitudes.append(amplitude)
        if not amplitudes or not sum(amplitudes):
            raise InputError(
                "no made window shows enough of a body to measure motion; set held_out.motion_windows=0."
            )
        return sum(amplitudes) / len(amplitudes)
