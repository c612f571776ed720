"""Small stand-ins for what the data room reads: acted clips without a voice, and stores without a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hallo4.data import ClipStoreConfig, build_clips
from hallo4.engine import open_engine
from hallo4.types import Audio
from hallo4.world.identity import sample_identity
from hallo4.world.performance import paced, perform
from hallo4.world.speech import Phoneme, Speech
from hallo4.world.truth import Truth
from hallo4.world.visemes import mouth_curves, speaking_frames


def quick_act(seed: int, seconds: float, tempo: float = 1.0, rho: int = 1, world: str = "drawn-1"):
    """As `hallo4.world.act`, but the voice is a hum: needs no espeak-ng, and is the same at every call."""
    frames = round(seconds * 25)
    time_s = np.arange(frames * 882) / 22050
    hum = 0.3 * np.sin(2 * np.pi * (100 + 10 * (seed % 50)) * time_s)
    phonemes = (Phoneme("", 0, 0.1), Phoneme("ɑ", 0.1, 0.3), Phoneme("m", 0.3, frames / 25))
    speech = Speech(Audio(hum.astype(np.float32), 22050), phonemes)
    opening, width = mouth_curves(phonemes, frames)
    speaking = speaking_frames(phonemes, frames)
    p = perform(np.random.default_rng(seed), opening, width, speaking, world)
    truth = Truth(p.mouth_open, p.mouth_wide, p.blink, p.brow, p.smile, speaking)
    if (tempo, rho) != (1.0, 1):
        p = paced(np.random.default_rng(seed), p, speaking, tempo, rho, world)
    return sample_identity(seed, world), speech, p, truth


def act_quickly(patch: pytest.MonkeyPatch) -> None:
    for module in ("clips", "sounds"):
        patch.setattr(f"hallo4.data.{module}.act", quick_act)
        patch.setattr(f"hallo4.data.{module}.open_engine", lambda workers: open_engine())


@pytest.fixture
def quick_world(monkeypatch) -> Callable:
    """Clips and sounds of `quick_act`, made in this process; the fixture is `quick_act` itself."""
    act_quickly(monkeypatch)
    return quick_act


@pytest.fixture(scope="session")
def build_quickly() -> Callable:
    """`build_clips` of `quick_act`, for fixtures that live longer than one test."""

    def build(folder: Path, config: ClipStoreConfig) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            act_quickly(patch)
            build_clips(folder, config, workers=1)
        return folder

    return build


@pytest.fixture
def random_store() -> Callable[..., Path]:
    """random_store(folder, [3, 2]): a store of noise, 16 px, 5 frames, with 3 clips in the first shard."""

    def make(folder: Path, lengths: list[int], size_px: int = 16, frames: int = 5) -> Path:
        for shard, n in enumerate(lengths):
            rng = np.random.default_rng(shard)
            video = (n, frames, size_px, size_px, 3)
            (folder / f"shard_{shard:04d}").mkdir(parents=True)
            arrays = {
                "frames_u8": rng.integers(0, 256, video, np.uint8),
                "skeleton_u8": rng.integers(0, 256, video, np.uint8),
                "portrait_u8": rng.integers(0, 256, (n, *video[2:]), np.uint8),
                "portrait_points_px": rng.uniform(2, size_px - 2, (n, 133, 2)).astype(np.float32),
                "points_px": rng.uniform(2, size_px - 2, (n, frames, 133, 2)).astype(np.float32),
                "curves": rng.random((n, frames, 6), np.float32),
                "audio_windows": rng.normal(size=(n, frames, 5, 4, 40)).astype(np.float16),
            }
            for name, array in arrays.items():
                np.save(folder / f"shard_{shard:04d}" / f"{name}.npy", array)
        return folder

    return make
