"""From a preference store to batches of pairs for training.

    pairs.jsonl -> windows of both clips and what they were made from -> latents, kept -> batches with their
    draws

A clip of several windows was made one window after the other, each from the last frames of the one before;
its likelihood is the product of theirs. So every window is a row of its own, and a clip's own last frames are
what its next window knows: the one condition in which winner and loser differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hallo4.data.latents import RegionWeights, frames_held
from hallo4.data.pair_latents import EncodedPairs, PairWindow
from hallo4.diffusion import PairDrawConfig, pair_draws
from hallo4.diffusion.keyed import keyed_seed
from hallo4.diffusion.pair_loss import AXES
from hallo4.errors import InputError
from hallo4.media import read_frames
from hallo4.motion import PortraitDraft
from hallo4.pipelines.job import AnimationRequest, Job
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.pipelines.model_info import ModelInfo
from hallo4.pipelines.motion_source import KeypointMotion
from hallo4.pipelines.portrait_rest import portrait_rest
from hallo4.pipelines.progress import Reporter
from hallo4.preference import Pair, PreferenceStore
from hallo4.preference.audit import source_of
from hallo4.training import batch_indices, batch_visits
from hallo4.training.loop import Data
from hallo4.types import FPS, WindowRules


def usable_pairs(store: PreferenceStore) -> tuple[list[Pair], list[str]]:
    """Pairs whose clips were made from the same skeleton, and why the others are left out, a line each."""
    kept, left_out = [], []
    clips, conditions = store.clips(), store.conditions()
    for pair in store.pairs().values():
        one, other = clips[pair.winner], clips[pair.loser]
        if conditions[pair.condition_id].skeleton is None and one.seed != other.seed:
            left_out.append(
                f"pair {pair.pair_id}: no skeleton was given, so each clip has idle motion of its own"
            )
        else:
            kept.append(pair)
    return kept, left_out


def pair_windows(store: PreferenceStore, pair: Pair, model: LoadedModel) -> Iterator[PairWindow]:
    """The windows of a pair, as the model would make them for its condition.

    InputError: a file of the pair is missing or damaged, or a clip is not of the size that the model makes.
    """
    condition, clips = store.conditions()[pair.condition_id], store.clips()
    request = AnimationRequest(
        image=store.media_path(condition.portrait),
        audio=store.media_path(condition.audio),
        motion=None if condition.skeleton is None else store.media_path(condition.skeleton),
        seed=clips[pair.winner].seed,
    )
    job = Job(model, request, Reporter(None), portrait_rest)
    canvas = job.portrait.canvas
    wanted = (job.total_frames, canvas.height_px, canvas.content_width_px, 3)
    videos = []
    for clip_id in (pair.winner, pair.loser):
        frames_u8 = np.stack(list(read_frames(store.media_path(clips[clip_id].path), FPS)))
        if frames_u8.shape != wanted:
            raise InputError(
                f"clip {clip_id} of pair {pair.pair_id} is {list(frames_u8.shape)} (frames, height, width, "
                f"channels); {model.info.name} makes {list(wanted)}. Make the candidates again, or train "
                "another model."
            )
        on_canvas_u8 = np.zeros((*wanted[:2], canvas.width_px, 3), np.uint8)  # with the bars that were cut
        on_canvas_u8[:, :, canvas.content_columns] = frames_u8
        videos.append(on_canvas_u8)
    rules, motion = job.rules, job.motion
    for window in job.plan():
        indices, drawn = job.indices(window), job.skeleton_pm1(window)
        if drawn is None:
            raise InputError(f"{model.info.name} takes no skeleton, and preference training needs one.")
        first_new = window.start + window.first_kept
        before = [video[first_new - rules.known_frames : first_new] for video in videos]
        yield PairWindow(
            winner_u8=videos[0][indices],
            loser_u8=videos[1][indices],
            skeleton_pm1=drawn,
            portrait_pm1=job.portrait.video_pm1,
            audio_windows=job.sound_windows(window),
            points_px=(
                motion.skeleton(rules.skeleton_rho * indices).points_px
                if isinstance(motion, KeypointMotion)
                else None
            ),
            real_frames=job.total_frames - window.start,
            winner_known_u8=before[0] if window.index else None,
            loser_known_u8=before[1] if window.index else None,
            seed=keyed_seed("known frames", pair.pair_id, window.index),
            text=job.texts[0],
            draft_pm1=job.draft_pm1(window),
        )


def windows_of(model: LoadedModel) -> str:
    """What of a model, beside its autoencoder, decides how windows are encoded."""
    config, info = model.backbone.config, model.info  # type: ignore[attr-defined]
    front_end = model.audio_front_end.to_config()
    decided = [dict(config), info.window_frames, info.size_px, front_end]
    if info.canvas_sizes_px or model.prompts is not None:
        decided += [info.canvas_sizes_px, None if model.prompts is None else info.prompt]
    if model.backbone.windows.drafts:
        decided.append(PortraitDraft.VERSION)
    return json.dumps(decided, default=str)


class PairData:
    """Encoded rows (one window of one pair each) and how a batch is made of them; see `PairBatch`."""

    def __init__(
        self,
        encoded: EncodedPairs,
        pairs: Mapping[str, Pair],
        draw: PairDrawConfig,
        regions: RegionWeights,
        info: ModelInfo,
        rules: WindowRules,
    ) -> None:
        self.encoded, self.rows, self.pairs = encoded, encoded.rows, pairs
        self.draw, self.regions, self.info, self.rules = draw, regions, info, rules
        self.dense = any(pairs[pair_id].segment_labels is not None for pair_id, _ in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def training(self, rows: Tensor, batch_size: int, seed: int, draws: int | None = None) -> Data:
        """The `Data` of a run on some `rows`: each once an epoch, with its next draw at each visit, of which
        there are `draws` (None: endless)."""

        return PairBatches(self, rows, batch_size, seed, draws)

    def batch(self, rows: Tensor, visits: Tensor) -> dict[str, object]:
        """The fields of a `PairBatch` for `rows` [B] at their `visits` [B]."""
        part = self.encoded.batch(rows)
        keys = [f"{pair_id}/{number}" for pair_id, number in (self.rows[row] for row in rows.tolist())]
        draws = pair_draws(self.draw, keys, visits.tolist(), part["winner"].shape[1:])
        chosen = [self.pairs[self.rows[row][0]] for row in rows.tolist()]
        counted = part["counted"].float()[:, None, :, None, None]
        batch: dict[str, object] = {
            "winner": part["winner"],
            "loser": part["loser"],
            "noise": draws.noise,
            "sigma": draws.sigma,
            "conditions": self._conditions(part, "winner", draws.dropped),
            "loser_conditions": self._conditions(part, "loser", draws.dropped),
            "pairs": rows,
            "visits": visits,
            "loss_weights": self.regions.of(part["regions"]) * counted,
            "pair_weights": torch.tensor([pair.weight for pair in chosen]),
            "axis_shares": torch.tensor([axis_shares(pair) for pair in chosen]),
        }
        if self.dense:
            labels = torch.stack([self._labels(row) for row in rows.tolist()])
            batch["frame_labels"] = labels * part["counted"]
        return batch

    def groups(self, rows: Tensor, clips: Mapping[str, object]) -> dict[str, Tensor]:
        """Views for the log: name -> bool [B], by the axis that decided, and by the sources of winner and
        loser."""
        chosen = [self.pairs[self.rows[row][0]] for row in rows.tolist()]
        labels = [deciding_axis(pair) for pair in chosen]
        sources = [f"{source_of(clips[pair.winner])} over {source_of(clips[pair.loser])}" for pair in chosen]
        named = labels, sources
        return {
            name: torch.tensor([found == name for found in column])
            for column in named
            for name in sorted(set(column))
        }

    def _conditions(self, part: Mapping[str, Tensor], side: str, dropped: Tensor) -> dict[str, Tensor | None]:
        start = "scene."
        conditions = self.rules.conditions(
            {name[len(start) :]: value for name, value in part.items() if name.startswith(start)},
            part["audio_windows"],
            part["skeleton"],
            part[f"{side}_known"],
            part["continues"],
            part.get("draft"),
        )
        return dict(vars(self.rules.unconditional(conditions, dropped)))

    def _labels(self, row: int) -> Tensor:
        """[F] in -1, 0, 1: who is better in each latent frame, from the labels of the pair's seconds."""
        pair_id, number = self.rows[row]
        seconds = self.pairs[pair_id].segment_labels
        latent_frames = self.encoded.latent_shape[0]
        if seconds is None:
            return torch.ones(latent_frames)
        frames = self.info.window_frames
        first = number * (frames - self.rules.repeated_frames)
        held = frames_held(frames, latent_frames)
        middles = [first + (group.start + group.stop - 1) / 2 for group in held]
        return torch.tensor([float(np.sign(seconds[min(int(m / FPS), len(seconds) - 1)])) for m in middles])


@dataclass(frozen=True)
class PairBatches:
    """See `PairData.training`."""

    pairs: PairData
    rows: Tensor
    batch_size: int
    seed: int
    draws: int | None

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, object]:
        """Micro-batch `index`."""
        chosen = self.rows[batch_indices(len(self), self.batch_size, self.seed, index)]
        visits = batch_visits(len(self), self.batch_size, index)
        return self.pairs.batch(chosen, visits if self.draws is None else visits % self.draws)


def deciding_axis(pair: Pair) -> str:
    """The axis with the largest gap; of several, the first by the order of `AXES` and then by name."""
    gaps = {axis: of["winner"] - of["loser"] for axis, of in pair.axes.items()}
    order = [*(axis for axis in AXES if axis in gaps), *sorted(gaps.keys() - set(AXES))]
    return max(order, key=gaps.__getitem__)


def axis_shares(pair: Pair) -> list[float]:
    """How much of the preference is of each axis (`AXES`), from the gaps; sum 1. Equal where neither has one,
    as of a pair that another axis decided."""
    gaps = [
        max(pair.axes[axis]["winner"] - pair.axes[axis]["loser"], 0.0) if axis in pair.axes else 0.0
        for axis in AXES
    ]
    total = sum(gaps)
    return [gap / total for gap in gaps] if total else [1 / len(AXES)] * len(AXES)
