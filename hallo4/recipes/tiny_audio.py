"""Pre-training of the audio projector: mouth shapes, out of formant voices made to sound like recordings.

It plays the part that wav2vec2's pre-training plays for the released model. The linear read-out is thrown
away; the projector's
tokens go into the DiT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hallo4.data.sounds import build_sounds
from hallo4.models.audio_features import audio_windows
from hallo4.models.projection import AudioProjector
from hallo4.models.temporal_motion_modulation import ungroup_frames
from hallo4.ranges import BatchSize, Episodes, Width
from hallo4.recipes.recipe import Recipe
from hallo4.training import OptimizerConfig, ScheduleConfig, TrainConfig, to_device_of, train
from hallo4.whole import whole_file

WINDOW, BLOCKS, CHANNELS = 5, 4, 40
FRAMES = 17


@dataclass(frozen=True)
class TinyAudioConfig:
    """Sizes of the projector (they must be the DiT's) and what it is trained on."""

    dim: Width = 192
    tokens: Width = 4
    hidden_dim: Width = 384
    speeches: Episodes = 2400
    held_out_speeches: Episodes = 120
    sounds_folder: str = "runs"
    batch_size: BatchSize = 48
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            name="tiny-audio",
            steps=3000,
            max_minutes=4,
            ema_decay=0.998,
            log_every=100,
            optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.05),
            schedule=ScheduleConfig(warmup_steps=100, anneal_fraction=0.9),
        )
    )


class MouthFromAudio(nn.Module):
    """Audio projector and a linear read-out of (mouth_open, mouth_wide, speaking) per frame."""

    def __init__(self, config: TinyAudioConfig) -> None:
        super().__init__()
        self.audio_proj = AudioProjector(
            WINDOW, BLOCKS, CHANNELS, config.hidden_dim, config.tokens, config.dim, rho=4, axis="channel"
        )
        self.read_out = nn.Linear(config.tokens * config.dim // 4, 3)

    def forward(self, windows: Tensor) -> Tensor:
        """[B, T, 5, blocks, channels] -> [B, T, 3]."""
        tokens = self.audio_proj(windows)  # B F N (rho d)
        per_frame = ungroup_frames(tokens.unflatten(-1, (4, -1)).movedim(3, 2), dim=1)  # B T N d
        return self.read_out(per_frame.flatten(2))


def mouth_method(
    model: MouthFromAudio, batch: dict[str, Tensor], step: int
) -> tuple[Tensor, dict[str, float]]:
    """Squared error of the three curves."""
    error = (model(batch["windows"]) - batch["curves"]).square().mean((0, 1))
    loss = (error * error.new_tensor([4.0, 1.0, 0.5])).sum()
    return loss, {"mouth_open_rmse": float(error[0].detach().sqrt())}


class SpeechBatches:
    """Random 17-frame windows of random recordings."""

    def __init__(self, sounds: dict[str, np.ndarray], batch_size: int) -> None:
        self.features, self.curves = sounds["features"], sounds["curves"]
        self.batch_size = batch_size

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The batch of this generator."""
        rng = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))
        rows = rng.integers(0, len(self.features), self.batch_size)
        starts = rng.integers(0, self.features.shape[1] - FRAMES + 1, self.batch_size)
        windows = [
            audio_windows(torch.as_tensor(self.features[r]).float(), start=int(s), stop=int(s) + FRAMES)
            for r, s in zip(rows, starts)
        ]
        curves = [self.curves[r, s : s + FRAMES] for r, s in zip(rows, starts)]
        return {"windows": torch.stack(windows), "curves": torch.as_tensor(np.stack(curves))}


@torch.no_grad()
def held_out_correlation(model: MouthFromAudio, sounds: dict[str, np.ndarray]) -> dict[str, float]:
    """Correlation of predicted and true mouth opening over whole unseen speeches: clean, and degraded."""
    scores: dict[str, list[float]] = {"clean": [], "degraded": []}
    for i in range(len(sounds["features"])):
        windows = audio_windows(torch.as_tensor(sounds["features"][i]).float())[None]
        predicted = model(to_device_of(model, windows))[0, :, 0].cpu().numpy()
        true = sounds["curves"][i, :, 0]
        if true.std() > 0.02:
            scores["degraded" if i % 3 else "clean"].append(float(np.corrcoef(predicted, true)[0, 1]))
    means = {f"correlation_{name}": float(np.mean(values)) for name, values in scores.items()}
    return means | {"one_minus_correlation": 1 - means["correlation_degraded"]}


def run(config: TinyAudioConfig, folder: Path) -> Path:
    """Make the sounds, train, save `folder/audio_proj.safetensors`."""
    root = Path(config.sounds_folder)
    sounds = build_sounds(root / "sounds_train.npz", config.speeches, first_seed=100_000)
    held_out = build_sounds(root / "sounds_heldout.npz", config.held_out_speeches, first_seed=950_000)
    torch.manual_seed(config.train.seed)
    model = MouthFromAudio(config)
    result = train(
        config.train,
        mouth_method,
        model,
        SpeechBatches(sounds, config.batch_size),
        folder=folder,
        on_preview=lambda step, averaged: held_out_correlation(averaged, held_out),
    )
    with result.ema.applied(model), whole_file(folder / "audio_proj.safetensors") as temporary:
        save_file(model.audio_proj.state_dict(), temporary)
    return folder / "audio_proj.safetensors"


def recipe() -> Recipe:
    """The audio projector of the tiny models."""
    return Recipe("tiny-audio", "the audio projector of the tiny models, pre-trained", TinyAudioConfig(), run)
