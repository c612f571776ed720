"""What can be wrong with a video: the frames of an episode, disturbed by a strength or for a share of it."""

import numpy as np
from scipy.ndimage import gaussian_filter

from hallo4.world import sample_identity
from hallo4.world.episode import draw_clip
from hallo4.world.framing import square


def noise(episode, strength):
    grain = np.random.default_rng(0).normal(size=episode.frames_u8.shape)
    return np.clip(np.rint(episode.frames_u8 + strength * grain), 0, 255).astype(np.uint8)


def blur(episode, strength):
    return np.stack([gaussian_filter(frame, (strength, strength, 0)) for frame in episode.frames_u8])


def frozen(episode, share):
    frames = episode.frames_u8
    kept = max(1, round(len(frames) * (1 - share)))
    return np.concatenate([frames[:kept], np.repeat(frames[kept - 1 : kept], len(frames) - kept, axis=0)])


def swapped(episode, share):
    """Another person acts the same from here to the end."""
    other = draw_clip(
        sample_identity(episode.seed + 77),
        episode.performance,
        slice(None),
        square(episode.frames_u8.shape[1]),
    )[1]
    kept = round(len(other) * (1 - share))
    return np.concatenate([episode.frames_u8[:kept], other[kept:]])


def late(episode, frames):
    return np.roll(episode.frames_u8, frames, axis=0)


def hidden_hands(episode, share):
    """The background's colour over the fingers of both hands."""
    frames = episode.frames_u8.copy()
    size_px = frames.shape[1]
    colour = np.median(frames[:, :8].reshape(-1, 3), axis=0)
    for t in range(round(len(frames) * share)):
        for fingers in (slice(92, 112), slice(113, 133)):
            points = episode.skeleton.points_px[t, fingers]
            x0, y0 = (points.min(axis=0) - 2).astype(int).clip(0, size_px)
            x1, y1 = (points.max(axis=0) + 2).astype(int).clip(0, size_px)
            frames[t, y0:y1, x0:x1] = colour
    return frames
