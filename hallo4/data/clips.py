"""Rendered clips of the portrait world on disk: what every training run of the tiny models reads.

A store is a folder of shards; each shard holds some episodes, `windows` clips of `frames` frames from
each. Shards are written whole by worker processes, so building can stop and go on at any time.

    config.json                  what it was built with
    shard_0000/NAME.npy          of a store of square half figures
    shard_0000/288x224/NAME.npy  of others: the clips of this height and width
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from hallo4.engine import Stage, open_engine
from hallo4.errors import InputError
from hallo4.input_file import check_regular
from hallo4.json_file import parse_json, read_json
from hallo4.lock import in_turn
from hallo4.models.audio_features import audio_windows
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.motion import draw_skeleton
from hallo4.ranges import Episodes, Frames, Range, Seed, Share
from hallo4.types import FPS, Skeleton
from hallo4.whole import whole_folder, write_whole
from hallo4.world.episode import act, draw_clip
from hallo4.world.framing import ASPECTS, HALF_FIGURE, Framing, sample_framing
from hallo4.world.look import DRAWN, WorldName, named_world
from hallo4.world.performance import neutral_performance
from hallo4.world.truth import Truth, confidence_of, skeleton_of


@dataclass(frozen=True)
class ClipStoreConfig:
    """What is rendered: `episodes` people (seeds from `first_seed`), `windows` clips of `frames` frames
    from each. Heads, bodies and hands move at the first of `tempos` for one person, at the second for the
    next, and so on in turn (1: as people of this world do). Skeletons have `skeleton_rho` times the frame
    rate. `world`: in which world they are drawn. A share of `half_figures` of the people are seen in the
    default framing, the others as `sample_framing` has it, in one of `aspects`; all pictures have about the
    area of a square of `size_px`, and those that are not square have sides that are multiples of
    `multiple_px`."""

    episodes: Episodes
    windows: Annotated[int, Range(1, 1000)] = 2
    frames: Frames = 17
    seconds: Annotated[float, Range(0.04, 600)] = 3.4
    size_px: Annotated[int, Range(64, 1024)] = 128
    first_seed: Seed = 0
    episodes_per_shard: Episodes = 25
    tempos: tuple[Annotated[float, Range(1, 8)], ...] = (1.0,)
    skeleton_rho: Annotated[int, Range(1, 16)] = 1
    world: WorldName = DRAWN
    half_figures: Share = 1.0
    aspects: tuple[Annotated[float, Range(0.4, 2.5)], ...] = ASPECTS
    multiple_px: Annotated[int, Range(2, 128)] = 16

    def framing(self, seed: int) -> Framing:
        """How the person of this seed is seen."""
        if self.half_figures == 1.0:
            return HALF_FIGURE
        rng = np.random.default_rng([seed, 0xF4A3])
        if rng.random() < self.half_figures:
            return HALF_FIGURE
        return replace(sample_framing(rng, self.aspects), multiple_px=self.multiple_px)

    def record(self) -> dict[str, Any]:
        """For `config.json`: what a store of half figures had no words for is left out of it."""
        values = asdict(self)
        if self.half_figures == 1.0:
            del values["half_figures"], values["aspects"], values["multiple_px"]
        return parse_json(json.dumps(values), "config.json", dict[str, Any])


FIELDS = (
    "frames_u8", "skeleton_u8", "portrait_u8", "portrait_points_px", "points_px", "curves", "audio_windows",
)  # fmt: skip
"""Arrays of a shard; n clips, T frames: `frames_u8` [n, T, H, W, 3], `skeleton_u8` [n, rho*T, H, W, 3],
`portrait_u8` [n, H, W, 3], `portrait_points_px` [n, 133, 2] float32, `points_px` [n, T, 133, 2] float32,
`curves` [n, T, 6] float32 (`CURVES`), `audio_windows` [n, T, 5, blocks, channels] float16."""

REBUILD = "Delete the folder to make it again."
CURVES = tuple(field.name for field in fields(Truth))


class ClipStore:
    """Read access to a built store, arrays concatenated over shards without copying.

    `config`: what it was built with, as in `ClipStoreConfig.record`; None where that is not written down.
    `shapes`: "HxW" -> the clips of this size in pixels; clips of one size have numbers that follow each
    other, and keep their order when the store grows.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        shards = sorted(self.folder.glob("shard_*"))
        if not shards:
            raise InputError(f"{self.folder} holds no clips. Build them first with build_clips().")
        stamp = self.folder / "config.json"
        self.config = read_json(stamp, dict[str, Any], advice=REBUILD) if stamp.exists() else None
        of_shape: dict[str, list[dict[str, np.ndarray]]] = {}
        for part in (part for shard in shards for part in _parts(shard)):
            arrays = {name: _mapped(part / f"{name}.npy") for name in FIELDS}
            height, width = arrays["portrait_u8"].shape[1:3]
            of_shape.setdefault(f"{height}x{width}", []).append(arrays)
        self._arrays = [arrays for shape in sorted(of_shape) for arrays in of_shape[shape]]
        self._starts = np.concatenate([[0], np.cumsum([len(arrays["curves"]) for arrays in self._arrays])])
        edges = np.cumsum([0, *(len(of_shape[shape]) for shape in sorted(of_shape))])
        self.shapes = {
            shape: range(int(self._starts[first]), int(self._starts[behind]))
            for shape, (first, behind) in zip(sorted(of_shape), itertools.pairwise(edges), strict=True)
        }

    def __len__(self) -> int:
        return int(self._starts[-1])

    def get(self, name: str, index: int) -> np.ndarray:
        """Field `name` of clip `index`, without its leading axis."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._arrays[part][name][index - self._starts[part]]

    def clip(self, index: int) -> StoredClip:
        """Clip `index` with its truth."""
        frames, points = self.get("frames_u8", index), np.array(self.get("points_px", index))
        height_px, width_px = frames.shape[1:3]
        truth = Truth(*np.array(self.get("curves", index)).T)
        return StoredClip(
            frames, Skeleton(points, confidence_of(len(points)), FPS, width_px, height_px), truth
        )


@dataclass(frozen=True)
class StoredClip:
    """The part of an episode that a store keeps: `frames_u8` [T, H, W, 3], true `skeleton` and `truth`."""

    frames_u8: np.ndarray
    skeleton: Skeleton
    truth: Truth


def build_clips(
    folder: str | Path,
    config: ClipStoreConfig,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> ClipStore:
    """Render what is missing of the store in `folder`; of several processes one does, the others wait for it.

    InputError if it was built with another configuration, except that a store may grow, or if a clip is
    longer than its episode.
    """
    folder = Path(folder)
    if config.frames > round(config.seconds * FPS):
        raise InputError(
            f"clips of {config.frames} frames do not fit into {config.seconds} s; take fewer frames"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if _is_of(folder, config) and not _missing(folder, config):
        return ClipStore(folder)
    with in_turn(folder):
        if not _is_of(folder, config):
            write_whole(folder / "config.json", json.dumps(config.record(), indent=1))
        missing = _missing(folder, config)
        shards = _shards(config)
        done = len(shards) - len(missing)
        with open_engine(workers) as engine:
            for outcome in engine.map(Stage(_ShardBuilder, (folder, config), cpus=1), missing):
                outcome.result()
                done += 1
                if on_progress:
                    on_progress(done, len(shards))
    return ClipStore(folder)


def _is_of(folder: Path, config: ClipStoreConfig) -> bool:
    """Whether the store is said to be of `config`. InputError: it is of another one."""
    stamp = folder / "config.json"
    if not stamp.exists():
        return False
    built, wanted = named_world(read_json(stamp, dict[str, Any], advice=REBUILD)), config.record()
    any_number = {"episodes": 0}
    if built | any_number != wanted | any_number:
        raise InputError(
            f"{folder} was built with another configuration. Choose another folder or delete it."
        )
    return built == wanted


def _shards(config: ClipStoreConfig) -> range:
    return range(-(-config.episodes // config.episodes_per_shard))


def _missing(folder: Path, config: ClipStoreConfig) -> list[int]:
    """Shards that are not there with all their clips."""
    return [
        k
        for k in _shards(config)
        if _clips_in(folder / f"shard_{k:04d}") < config.windows * len(_seeds(config, k))
    ]


def _seeds(config: ClipStoreConfig, shard: int) -> range:
    first = shard * config.episodes_per_shard
    last = min(first + config.episodes_per_shard, config.episodes)
    return range(config.first_seed + first, config.first_seed + last)


def _mapped(array: Path) -> np.ndarray:
    return np.load(check_regular(array, "clips", advice=REBUILD), mmap_mode="r", allow_pickle=False)


def _clips_in(shard: Path) -> int:
    """InputError: the shard lacks a field, being of an older version."""
    if not shard.exists():
        return 0
    fields = [[_mapped(part / f"{name}.npy") for name in FIELDS] for part in _parts(shard)]
    return sum(len(arrays[0]) for arrays in fields)


def _parts(shard: Path) -> list[Path]:
    """The folders of a shard in which arrays lie: itself, or one for each size of picture."""
    inner = sorted(path for path in shard.iterdir() if path.is_dir())
    return inner or [shard]


class _ShardBuilder:
    """Renders shards by their numbers."""

    def __init__(self, settings: tuple[Path, ClipStoreConfig]) -> None:
        self.folder, self.config = settings

    def __call__(self, shard: int) -> None:
        clips = [clip for seed in _seeds(self.config, shard) for clip in _episode_clips(self.config, seed)]
        of_place: dict[str, list[dict[str, np.ndarray]]] = {}
        for clip in clips:
            height, width = clip["portrait_u8"].shape[:2]
            place = "." if self.config.half_figures == 1.0 else f"{height}x{width}"
            of_place.setdefault(place, []).append(clip)
        with whole_folder(self.folder / f"shard_{shard:04d}") as building:  # the last one of a store may grow
            for place, there in of_place.items():
                (building / place).mkdir(exist_ok=True)
                for name in FIELDS:
                    np.save(building / place / f"{name}.npy", np.stack([clip[name] for clip in there]))


def _episode_clips(config: ClipStoreConfig, seed: int) -> list[dict[str, np.ndarray]]:
    tempo, rho = config.tempos[(seed - config.first_seed) % len(config.tempos)], config.skeleton_rho
    identity, speech, performance, truth = act(seed, config.seconds, tempo, rho, config.world)
    length = len(performance) // rho
    rng = np.random.default_rng([seed, 0xC11])
    starts = rng.integers(0, length - config.frames + 1, config.windows)
    front_end = LogMelFrontEnd()
    sound = audio_windows(front_end.features(speech.audio, length)).numpy()
    curves = np.stack([getattr(truth, name) for name in CURVES], 1)
    view = config.framing(seed).view(config.size_px)
    skeleton = skeleton_of(identity, performance, view, rho * FPS)
    rest = skeleton_of(identity, neutral_performance(), view)
    clips = []
    for start in starts:
        span = slice(int(start), int(start) + config.frames)
        seen = slice(rho * span.start, rho * span.stop)
        portrait, frames = draw_clip(identity, performance, slice(seen.start, seen.stop, rho), view)
        part = Skeleton(
            skeleton.points_px[seen],
            skeleton.confidence[seen],
            skeleton.fps,
            skeleton.width_px,
            skeleton.height_px,
        )
        clips.append(
            {
                "frames_u8": frames,
                "skeleton_u8": draw_skeleton(part, view.width_px, view.height_px),
                "portrait_u8": portrait,
                "portrait_points_px": rest.points_px[0],
                "points_px": part.points_px[::rho],
                "curves": curves[span],
                "audio_windows": sound[span].astype(np.float16),
            }
        )
    return clips
