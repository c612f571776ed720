"""Clips encoded once: what the diffusion models train on."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from hallo4.data.clips import REBUILD, ClipStore
from hallo4.errors import CheckpointError, InputError
from hallo4.json_file import read_json
from hallo4.lock import in_turn
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.devices import device_of
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.models.precision import fast_autocast
from hallo4.models.temporal_motion_modulation import latent_frame_count
from hallo4.models.window_conditions import encode_grey, encode_portrait
from hallo4.motion import PortraitDraft, layout
from hallo4.ranges import NotNegative, check_ranges
from hallo4.weights.tensors import read_tensors
from hallo4.whole import whole_file, write_whole
from hallo4.world.look import named_world
from hallo4.world.truth import confidence_of

REGIONS = ("mouth", "eyes", "hands")

STILL_DRAFTS, REST_ERROR = 0.04, 0.012
"""Of the drafts that are trained on; the error is the largest standard deviation of a joint in the portrait,
each way, in sides of a square of its area."""
HAND_ERROR = 10
"""How many times as large, as a share, the error of the size of a hand is."""
FOUND_TOGETHER = (
    *([joint] for joint in range(layout.LEFT_SHOULDER, layout.LEFT_WRIST)),
    [layout.LEFT_WRIST, *range(layout.LEFT_HAND.start, layout.LEFT_HAND.stop)],
    [layout.RIGHT_WRIST, *range(layout.RIGHT_HAND.start, layout.RIGHT_HAND.stop)],
    *([hip] for hip in (layout.LEFT_HIP, layout.RIGHT_HIP)),
)
"""Points that are found too far to one side together: each joint, a hand with its wrist."""
HEAD = [*range(layout.LEFT_SHOULDER), *range(layout.FACE.start, layout.FACE.stop)]
HEAD_SHARE = 0.3
"""Of the error, for the head, whose many points are found better than a joint."""
DRAFTS = [PortraitDraft.VERSION, STILL_DRAFTS, REST_ERROR, HEAD_SHARE, HAND_ERROR]


@dataclass(frozen=True)
class RegionWeights:
    """How much latent cells count that show the mouth, an eye or a hand; 1 elsewhere, or `elsewhere`.

    0 elsewhere is the loss mask of an axis: mouth alone for lips, say.
    """

    mouth: NotNegative = 4.0
    eyes: NotNegative = 3.0
    hands: NotNegative = 3.0
    elsewhere: NotNegative = 1.0

    def __post_init__(self) -> None:
        """InputError for a weight below 0."""
        check_ranges(self, "{} of regions".format)

    def of(self, regions: Tensor) -> Tensor:
        """`regions` [B, 3, F, h, w] bool -> weights [B, 1, F, h, w], the largest that applies."""
        inside = torch.tensor([self.mouth, self.eyes, self.hands], device=regions.device)
        weights = torch.where(regions, inside.view(1, 3, 1, 1, 1), 0.0).amax(1, keepdim=True)
        return torch.where(regions.any(1, keepdim=True), weights, self.elsewhere)


class LatentCache:
    """Latents of clips of T frames, in memory as float16; of the n clips of each size of picture:

    `video` [n, C, F, h, w], `reference` [n, C, 1, h, w], `skeleton` [n, C, rho*T, h, w], `audio_windows` [n,
    T, 5, blocks, channels], `grey` [1, C, F, h, w], `regions` [n, 3, F, h, w] bool: latent cells that show
    mouth, eyes or hands in any frame of the group, and for models that take them `draft` [n, C, F, h, w]. Of
    an autoencoder of pictures, F = T.
    """

    def __init__(self, sizes: Sequence[dict[str, Tensor]]) -> None:
        """`sizes`: the tensors of the clips of each size, in the order of the clips."""
        self.sizes = list(sizes)
        self.starts = torch.tensor([0, *(len(tensors["video"]) for tensors in sizes)]).cumsum(0)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def groups(self) -> dict[str, Tensor]:
        """As of `PreparedClips`."""
        edges = itertools.pairwise(self.starts.tolist())
        return {
            "x".join(map(str, tensors["video"].shape[2:])): torch.arange(*edge)
            for tensors, edge in zip(self.sizes, edges, strict=True)
        }

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Clips `indices` as float32 (regions as bool). InputError: clips of several sizes."""
        found = torch.searchsorted(self.starts, indices, right=True) - 1
        if found.unique().numel() > 1:
            raise InputError(
                "a batch of clips of several sizes was asked for; take those of one of `groups`."
            )
        size = int(found[0])
        tensors, rows = self.sizes[size], indices - self.starts[size]
        batch = {name: t[rows] for name, t in tensors.items() if name != "grey"}
        batch = {name: t if t.dtype == torch.bool else t.float() for name, t in batch.items()}
        return batch | {"grey": tensors["grey"].float()}


def build_cache(
    store: ClipStore,
    autoencoder: TinyVideoAutoencoder,
    folder: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
    skeleton_rho: int = 1,
    drafts: bool = False,
) -> LatentCache:
    """Encode all clips of `store` in chunks of 50 that are saved as they are made, those of each size of
    picture by themselves; the store may grow. Of several processes one encodes, the others wait for it.

    `skeleton_rho`: how many skeletons of a frame are kept; the store has so many or a multiple. `drafts`:
    whether drafts of the frames are made (`draft_of_clip`). InputError if the store has not so many
    skeletons, or if the folder was made with other weights or from other clips."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    clips = named_world(store.config or {})
    clips.pop("episodes", None)
    skeleton_stride(store, skeleton_rho)  # refused before any work
    clips["skeleton_rho"] = skeleton_rho
    if drafts:
        clips["drafts"] = DRAFTS
    stamp = {"autoencoder": weights_fingerprint(autoencoder), "clips": clips}
    with in_turn(folder):
        _keep_stamp(folder, stamp)
        return LatentCache(
            [
                _encoded_size(store, autoencoder, clips, folder / place, skeleton_rho, drafts, on_progress)
                for place, clips in _places(store).items()
            ]
        )


def _places(store: ClipStore) -> dict[str, range]:
    """Where in the cache the clips of each size lie: in a folder of their own, if there may be several."""
    framed = (store.config or {}).get("half_figures", 1.0) != 1.0
    return {shape if framed else ".": clips for shape, clips in store.shapes.items()}


def _keep_stamp(folder: Path, stamp: dict[str, Any]) -> None:
    """Write what the codes are made of. InputError: the folder was made with other weights or from other
    clips."""
    stamp_file = folder / "cache.json"
    if stamp_file.exists():
        there = read_json(stamp_file, dict[str, Any], advice=REBUILD)
        if isinstance(there.get("clips"), dict):
            there["clips"] = named_world(there["clips"])
        if there != stamp:
            raise InputError(
                f"{folder} holds codes of other autoencoder weights or other clips, or differs in having "
                "drafts; delete it to encode again"
            )
    write_whole(stamp_file, json.dumps(stamp))


def _encoded_size(
    store: ClipStore,
    autoencoder: TinyVideoAutoencoder,
    clips: range,
    folder: Path,
    skeleton_rho: int,
    drafts: bool,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, Tensor]:
    """The tensors of `clips`, which have one size."""
    folder.mkdir(exist_ok=True)
    parts = []
    for start in range(0, len(clips), 50):
        chunk = clips[start : start + 50]
        path = folder / f"clips_{start:06d}.safetensors"
        parts.append(_encode_chunk(store, autoencoder, chunk, path, skeleton_rho, drafts))
        if on_progress:
            on_progress(chunk.stop, len(store))
    tensors = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    return tensors | {"grey": grey_of(store, autoencoder, clips.start)}


def _encode_chunk(
    store: ClipStore,
    autoencoder: TinyVideoAutoencoder,
    indices: range,
    path: Path,
    skeleton_rho: int,
    drafts: bool,
) -> dict[str, Tensor]:
    """Read the chunk from `path`, or encode and save it: also when the store has grown since, or the file is
    damaged."""
    with suppress(InputError, CheckpointError, KeyError):
        chunk = read_tensors(path, "clips that were encoded")
        if len(chunk["video"]) == len(indices):
            return chunk
    chunk = encode_clips(store, autoencoder, indices, skeleton_rho, drafts)
    with whole_file(path) as temporary:
        save_file(chunk, temporary)
    return chunk


def skeleton_stride(store: ClipStore, skeleton_rho: int) -> int:
    """Which of the skeletons of `store` are `skeleton_rho` of a frame: every so many. InputError: it does not
    hold them."""
    held = (store.config or {}).get("skeleton_rho", 1)
    if held % skeleton_rho:
        raise InputError(
            f"{store.folder} has {held} skeletons a frame, and {skeleton_rho} are asked for; render clips "
            f"with clips.skeleton_rho={skeleton_rho}, into a folder of their own"
        )
    return held // skeleton_rho


def encode_clips(
    store: ClipStore,
    autoencoder: TinyVideoAutoencoder,
    indices: Sequence[int],
    skeleton_rho: int,
    drafts: bool = False,
) -> dict[str, Tensor]:
    """The tensors of `LatentCache` of clips of one size, but for `grey`, on the CPU; InputError as
    `skeleton_stride`."""
    every = skeleton_stride(store, skeleton_rho)
    with fast_autocast(device_of(autoencoder).type):
        clips = [_encode_clip(store, autoencoder, i, every, drafts) for i in indices]
    return {name: torch.stack([c[name] for c in clips]) for name in clips[0]}


def draft_of_clip(store: ClipStore, index: int) -> np.ndarray:
    """The draft [T, H, W, 3] uint8 of a clip, from a pose in its portrait that is as inexact as one that is
    found there, in another way for every clip; of a share of `STILL_DRAFTS` one that stands still, as where
    none is found."""
    clip, portrait_u8 = store.clip(index), store.get("portrait_u8", index)
    rng = np.random.default_rng([zlib.crc32(clip.skeleton.points_px.tobytes()), 0xD4AF])
    if rng.random() < STILL_DRAFTS:
        return np.broadcast_to(portrait_u8, clip.frames_u8.shape)
    points_px = np.array(store.get("portrait_points_px", index))
    error = rng.uniform(0, REST_ERROR)
    sigma_px = error * (clip.skeleton.height_px * clip.skeleton.width_px) ** 0.5
    points_px[HEAD] += rng.normal(0, HEAD_SHARE * sigma_px, 2)
    for together in FOUND_TOGETHER:
        points_px[together] += rng.normal(0, sigma_px, 2)
    for hand in (layout.LEFT_HAND, layout.RIGHT_HAND):
        points_px[hand] += rng.normal(0, HAND_ERROR * error) * (points_px[hand] - points_px[hand][0])
    rest = replace(clip.skeleton, points_px=points_px[None], confidence=confidence_of(1))
    return PortraitDraft(portrait_u8, rest).frames_u8(clip.skeleton)


@torch.no_grad()
def grey_of(store: ClipStore, autoencoder: TinyVideoAutoencoder, index: int) -> Tensor:
    """`grey` of `LatentCache` for clips of the size of clip `index`."""
    frames_u8 = store.get("frames_u8", index)
    like = torch.zeros(1, *frames_u8.shape[1:3], device=device_of(autoencoder))
    return encode_grey(autoencoder, like, len(frames_u8)).half().cpu()


@torch.no_grad()
def _encode_clip(
    store: ClipStore, autoencoder: TinyVideoAutoencoder, index: int, every: int, drafts: bool
) -> dict[str, Tensor]:
    device = device_of(autoencoder)
    frames = frames_to_pm1(store.get("frames_u8", index)).transpose(0, 1)[None].to(device)
    skeleton = frames_to_pm1(store.get("skeleton_u8", index)[::every]).transpose(0, 1)[None].to(device)
    portrait = frames_to_pm1(store.get("portrait_u8", index))[None].to(device)
    draft = {}
    if drafts:
        draft_pm1 = frames_to_pm1(draft_of_clip(store, index)).transpose(0, 1)[None].to(device)
        draft = {"draft": autoencoder.encode_video(draft_pm1)[0].half().cpu()}
    return draft | {
        "video": autoencoder.encode_video(frames)[0].half().cpu(),
        "reference": encode_portrait(autoencoder, portrait)[0].half().cpu(),
        "skeleton": autoencoder.encode_frames(skeleton)[0].half().cpu(),
        "audio_windows": torch.as_tensor(np.array(store.get("audio_windows", index))),
        "regions": region_cells(
            np.array(store.get("points_px", index)),
            *(
                frames.shape[-1],
                frames.shape[-2],
                autoencoder.spec.cell_px,
                autoencoder.spec.frames_per_latent,
            ),
        ),
    }


def frames_of_latent(index: int, rho: int) -> range:
    """The video frames that latent frame `index` holds: 0, then rho at a time."""
    return range(max(0, rho * (index - 1) + 1), rho * index + 1)


def frames_held(frames: int, latent_frames: int) -> list[range]:
    """`frames_of_latent` of all latents of a window of so many video and latent frames."""
    rho = max(1, (frames - 1) // max(latent_frames - 1, 1))
    return [frames_of_latent(index, rho) for index in range(latent_frames)]


def region_cells(
    points_px: np.ndarray,
    width_px: int,
    height_px: int,
    cell_px: int,
    rho: int = 4,
    seen: np.ndarray | None = None,
) -> Tensor:
    """[T, 133, 2] -> [3, F, h, w] bool: cells of `cell_px` pixels each way that mouth, eyes and hands touch
    in any frame of each latent frame, of `rho` frames. `seen` [T, 133] bool: the points that count (None:
    all)."""
    columns, rows = width_px // cell_px, height_px // cell_px
    groups = frames_held(len(points_px), latent_frame_count(len(points_px), rho))
    masks = torch.zeros(len(REGIONS), len(groups), rows, columns, dtype=torch.bool)
    parts = (
        (layout.MOUTH,),
        (layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS),
        (layout.LEFT_HAND, layout.RIGHT_HAND),
    )
    for region, slices in enumerate(parts):
        for f, group in enumerate(groups):
            for points in slices:
                part = points_px[group.start : group.stop, points].reshape(-1, 2)
                if seen is not None:
                    part = part[seen[group.start : group.stop, points].ravel()]
                if not len(part):
                    continue
                low, high = part.min(0) - 2, part.max(0) + 2
                if (high < 0).any() or (low >= (width_px, height_px)).any():
                    continue
                x0, y0 = np.clip(low // cell_px, 0, (columns - 1, rows - 1)).astype(int)
                x1, y1 = np.clip(high // cell_px, 0, (columns - 1, rows - 1)).astype(int)
                masks[region, f, y0 : y1 + 1, x0 : x1 + 1] = True
    return masks
