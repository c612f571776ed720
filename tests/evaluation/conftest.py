"""A world whose truth is painted into its pixels, and an observer that reads it back: exact to one level of
255."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from video_folders import CLIPS, blurred, write
from video_folders import SIZE_PX as VIDEO_SIDE_PX

from hallo4.models.observer import KEY_POINTS, STATES, Observation
from hallo4.types import FPS, KEYPOINTS, Audio, Skeleton
from hallo4.world import make_episode

SIZE_PX = 64
INDICES = list(KEY_POINTS.values())


@dataclass(frozen=True)
class PaintedTruth:
    mouth_open: np.ndarray
    mouth_wide: np.ndarray
    blink: np.ndarray
    brow: np.ndarray
    speaking: np.ndarray


@dataclass(frozen=True)
class PaintedEpisode:
    seed: int
    portrait_u8: np.ndarray
    frames_u8: np.ndarray
    audio: Audio
    skeleton: Skeleton
    truth: PaintedTruth


def painted_episode(seed: int, seconds: float = 2.0, size_px: int = SIZE_PX) -> PaintedEpisode:
    """Row 0 holds the four states, rows 1 and 2 x and y of the key points; the rest is still, but for a
    moving band."""
    rng = np.random.default_rng(seed)
    frames = round(seconds * FPS)
    t = np.arange(frames) / FPS
    speaking = (t > 0.5).astype(np.float32)
    truth = PaintedTruth(
        mouth_open=(speaking * (0.5 + 0.4 * np.sin(17 * t + rng.random()))).astype(np.float32),
        mouth_wide=(0.5 + 0.3 * np.sin(5 * t + rng.random())).astype(np.float32),
        blink=((t % 1.3) < 0.16).astype(np.float32),
        brow=(0.6 * np.sin(3 * t + rng.random())).astype(np.float32),
        speaking=speaking,
    )
    points = np.zeros((frames, KEYPOINTS, 2), np.float32)
    start, sway = rng.uniform(0.2, 0.8, (1, len(INDICES), 2)), rng.uniform(0.02, 0.1, (1, len(INDICES), 2))
    points[:, INDICES] = start + sway * np.sin(2 * t[:, None, None] + rng.random((1, len(INDICES), 1)))
    confidence = np.zeros((frames, KEYPOINTS), np.float32)
    confidence[:, INDICES] = 1.0
    confidence[:, INDICES[-1]] = 0.0  # one point is never seen

    pictures = np.broadcast_to(rng.integers(60, 200, (size_px, size_px, 3)), (frames, size_px, size_px, 3))
    pictures = pictures.astype(np.uint8)
    band = (20 + 20 * np.sin(4 * t)).astype(np.uint8)
    pictures[:, size_px // 2 : size_px // 2 + 8] += band[:, None, None, None]
    for column, name in enumerate(STATES):
        low, high = (-1.0, 1.0) if name == "brow" else (0.0, 1.0)
        pictures[:, 0, column] = np.rint(255 * (getattr(truth, name) - low) / (high - low))[:, None]
    pictures[:, 1, : len(INDICES)] = np.rint(255 * points[:, INDICES, 0])[..., None]
    pictures[:, 2, : len(INDICES)] = np.rint(255 * points[:, INDICES, 1])[..., None]
    pictures[:, 3, : len(INDICES)] = 255 * (confidence[:, INDICES] > 0)[..., None]
    return PaintedEpisode(
        seed=seed,
        portrait_u8=pictures[0],
        frames_u8=pictures,
        audio=Audio(np.zeros(frames * 640, np.float32), 16000),
        skeleton=Skeleton(points * size_px, confidence, FPS, size_px, size_px),
        truth=truth,
    )


class PaintReader(nn.Module):
    """Reads what `painted_episode` painted."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, frames_pm1: torch.Tensor) -> Observation:
        values = (frames_pm1[:, 0] + 1) / 2
        states = dict(zip(STATES, values[:, 0, : len(STATES)].unbind(-1), strict=True))
        states["brow"] = 2 * states["brow"] - 1
        count = len(INDICES)
        return Observation(
            points_01=torch.stack([values[:, 1, :count], values[:, 2, :count]], -1),
            visibility_logits=values[:, 3, :count] - 0.5,
            heat_logits=torch.zeros(len(values), count, 1, 1),
            **states,
        )


@pytest.fixture
def make_painted():
    return painted_episode


@pytest.fixture
def reader():
    return PaintReader()


@pytest.fixture(scope="module")
def episodes():
    return {name: make_episode(7_100_000 + i, 1.2, VIDEO_SIDE_PX) for i, name in enumerate(CLIPS)}


@pytest.fixture
def folders(episodes, tmp_path):
    for name, episode in episodes.items():
        write(tmp_path / "truth" / f"{name}.mkv", episode.frames_u8, episode.audio)
        write(tmp_path / "good" / f"{name}.mkv", episode.frames_u8, episode.audio)
        write(tmp_path / "poor" / f"{name}.mkv", blurred(episode.frames_u8), episode.audio)
    return tmp_path
