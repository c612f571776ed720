"""Clips of real videos -> what training reads, through the parts of a model, a shard of clips at a time.

How a picture, a skeleton and a sound become conditions is what `hallo4 animate` does with them: the canvas of
`prepare_portrait`, the drawings of `prepare_motion`, the sound of `prepare_feature_sound`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from hallo4.data.latents import region_cells
from hallo4.data.observe import skeleton_of
from hallo4.data.stages import FindingsStore, require_folder
from hallo4.errors import CheckpointError, InputError, ShapeError
from hallo4.media import collect_notes, read_frames_at
from hallo4.media.files import cannot_write, shown
from hallo4.models.window_conditions import encode_grey, encode_portrait
from hallo4.motion.beside_video import ASPECT_TOLERANCE
from hallo4.motion.layout import SEEN
from hallo4.pipelines.canvas import Canvas
from hallo4.pipelines.conditions import Portrait, prepare_audio, prepare_feature_sound, prepare_portrait
from hallo4.pipelines.model_folder import load_model
from hallo4.pipelines.motion_source import KeypointMotion
from hallo4.pipelines.portrait_drafts import DraftSource
from hallo4.pipelines.portrait_rest import portrait_rest
from hallo4.pipelines.prepare_motion import prepare_motion
from hallo4.types import FPS, FeatureStream, Skeleton
from hallo4.weights.tensors import open_safetensors
from hallo4.whole import write_whole

VERSION = 2
"""Of what a clip in a shard holds and of the code that makes it."""
MARGIN = 2
"""Rows of audio features that are kept on each side of a clip: what its five-step windows reach."""
COMMON, SHARDS = "common", "shards"


@dataclass(frozen=True)
class ClipWork:
    """A clip to encode: frames `start` .. `start + frames - 1` of `path` at 25 fps, with another frame or the
    picture in a file as `reference`. `key`: its name in the shard; `person`: the key of its keypoints, which
    are those of the frames from `part` on; `info` of the video; `stamp`: size and time of the file when it
    was looked at."""

    key: str
    path: Path
    start: int
    frames: int
    reference: int | Path
    person: str
    part: int
    info: dict[str, Any]
    prompt: str | None
    stamp: tuple[int, int]


@dataclass(frozen=True)
class ShardDone:
    """What became of a batch of clips: by key, (name of the shard, latent shape "FxHxW"), or one line of what
    is wrong."""

    places: dict[str, tuple[str, str]]
    problems: dict[str, str]


@dataclass(frozen=True)
class EncodeSettings:
    """The folder of the shards, the model, and the device on which it computes."""

    folder: Path
    model: str
    device: str


@dataclass(frozen=True)
class _Reference:
    """The `latents` [C, 1, h, w] float16 of a portrait and, for drafts, its `pixels_u8` [H, W, 3] and the
    pose that was `found` in it, if it is a file of its own."""

    latents: Tensor
    pixels_u8: np.ndarray | None = None
    found: Skeleton | None = None


class ClipEncoder:
    """Encodes batches of clips with a model that is loaded once."""

    def __init__(self, settings: EncodeSettings) -> None:
        self.folder = settings.folder
        require_folder(self.folder)
        self.model = load_model(settings.model, settings.device)
        self.findings = FindingsStore(settings.folder / "findings")
        self._grey_of_size: dict[str, Tensor] = {}
        self._last_skeleton: tuple[str, Skeleton] | None = None
        self._last_sound: tuple[tuple[Path, tuple[int, int]], FeatureStream] | None = None

    @torch.inference_mode()
    def __call__(self, batch: Sequence[ClipWork]) -> ShardDone:
        """Encode clips that are sorted by path and start, and write them as one shard.

        What is wrong with a video costs its clips of this batch. OutputError: the shard cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        shapes, problems = {}, {}
        for path, clips in groupby(batch, key=lambda clip: clip.path):
            of_video = list(clips)
            try:
                for clip, made in self._clips_of(path, of_video):
                    self._keep_text(clip.prompt)
                    tensors |= {f"{clip.key}/{name}": value for name, value in made.items()}
                    shapes[clip.key] = latent_shape(made["video"].shape)
            except (InputError, ShapeError) as error:
                problems |= {clip.key: str(error) for clip in of_video if clip.key not in shapes}
        if not tensors:
            return ShardDone({}, problems)
        name = hashlib.sha256(" ".join(shapes).encode()).hexdigest()[:24]
        self._write(SHARDS, name, tensors)
        return ShardDone({key: (name, shape) for key, shape in shapes.items()}, problems)

    def _clips_of(self, path: Path, clips: list[ClipWork]) -> Iterator[tuple[ClipWork, dict[str, Tensor]]]:
        """The clips of one video, of which only their own part is read."""
        if stamp_of(path) != clips[0].stamp:
            raise InputError(f"{shown(path)}: has changed while it was prepared. Run it again.")
        sound = self._sound(path, clips[0])
        references = {clip.reference for clip in clips if isinstance(clip.reference, int)}
        beside = {clip.reference for clip in clips if isinstance(clip.reference, Path)}
        clip_of = {frame: clip for clip in clips for frame in range(clip.start, clip.start + clip.frames)}
        portraits: dict[int | Path, _Reference] = {}
        waiting: list[tuple[ClipWork, dict[str, Tensor], Skeleton, Skeleton | None]] = []
        taken: list[Tensor] = []
        done = 0
        with collect_notes([]):  # the stages before have said them
            for number, frame_u8 in read_frames_at(path, references | clip_of.keys(), FPS):
                picture = self._on_canvas(frame_u8)
                while beside:
                    file = beside.pop()
                    portraits[file] = self._reference(self._beside(file, picture), of_its_own=True)
                if number in references:
                    portraits[number] = self._reference(picture)
                if number in clip_of:
                    taken.append(picture.video_pm1)
                    clip = clip_of[number]
                    if len(taken) == clip.frames:
                        motion = self._motion(clip, picture)
                        now = motion.skeleton(self._inside(clip, clip.start, clip.frames))
                        then = None
                        if self.model.backbone.windows.drafts and isinstance(clip.reference, int):
                            then = motion.skeleton(self._inside(clip, clip.reference, 1))
                        made = self._encoded(clip, torch.stack(taken), motion, now, sound)
                        waiting.append((clip, made, now, then))
                        taken = []
                ready = [entry for entry in waiting if entry[0].reference in portraits]
                waiting = [entry for entry in waiting if entry[0].reference not in portraits]
                for clip, made, now, then in ready:
                    reference = portraits[clip.reference]
                    made |= self._draft(reference, then or reference.found, now, picture.canvas)
                    yield clip, made | {"reference": reference.latents.clone()}
                done += len(ready)
        if done < len(clips):
            last = max(references | clip_of.keys())
            raise InputError(f"{shown(path)}: ends before frame {last + 1}. Export it again.")

    def _beside(self, file: Path, picture: Portrait) -> Portrait:
        """The portrait in a file. InputError: it has another shape than the pictures of its video."""
        with collect_notes([]):
            portrait = self._on_canvas(file)
        own, wanted = (p.image_width_px / p.image_height_px for p in (portrait, picture))
        if abs(own / wanted - 1) > ASPECT_TOLERANCE:
            own, wanted = (f"{p.image_width_px}x{p.image_height_px}" for p in (portrait, picture))
            raise InputError(
                f"{shown(file)}: is {own} pixels, and its video {wanted}. Crop it to the shape of the video."
            )
        return portrait

    def _reference(self, picture: Portrait, of_its_own: bool = False) -> _Reference:
        """`of_its_own`: it is no frame of the video, so its pose has to be found, if there are drafts."""
        with self.model.autoencoding():
            latents = encode_portrait(self.model.autoencoder, picture.video_pm1[None].to(self.model.device))
        latents = latents[0].half().cpu().contiguous()
        if not self.model.backbone.windows.drafts:
            return _Reference(latents)
        pose = portrait_rest(picture) if of_its_own else None
        return _Reference(latents, picture.pixels_u8, None if pose is None else pose.skeleton)

    def _motion(self, clip: ClipWork, picture: Portrait) -> KeypointMotion:
        """The keypoints of the clip's part of its video, on the canvas."""
        skeleton, rho = self._skeleton(clip), self.model.backbone.windows.skeleton_rho
        motion, _ = prepare_motion(skeleton, picture, rho * len(skeleton), 0, fps=FPS * rho)
        assert isinstance(motion, KeypointMotion)
        return motion

    def _draft(
        self, reference: _Reference, found: Skeleton | None, now: Skeleton, canvas: Canvas
    ) -> dict[str, Tensor]:
        """`draft` [C, F, h, w] float16, of a model that takes drafts: the reference moved from the pose that
        was `found` in it to those of the clip."""
        if reference.pixels_u8 is None:
            return {}
        drafts = DraftSource(reference.pixels_u8, canvas, found)
        with self.model.autoencoding():
            draft_pm1 = _as_video(drafts.frames_pm1(now), self.model.device)
            draft = self.model.autoencoder.encode_video(draft_pm1)
        return {"draft": draft[0].half().cpu().contiguous()}

    def _inside(self, clip: ClipWork, first: int, frames: int) -> np.ndarray:
        """Numbers in the motion of the clip's part of so many frames of its video, from frame `first` on."""
        first -= clip.part
        return self.model.backbone.windows.skeleton_rho * np.arange(first, first + frames)

    def _encoded(
        self,
        clip: ClipWork,
        video_pm1: Tensor,
        motion: KeypointMotion,
        now: Skeleton,
        sound: FeatureStream,
    ) -> dict[str, Tensor]:
        """`video` [C, F, h, w], `skeleton` [C, rho T, h, w], `audio_features`
        [rho T + 2 MARGIN, blocks, channels], all float16, and `regions` [3, F, h, w] bool. `known`, of
        `WindowRules.encode_known`, where it cannot be made of the latents of the video."""
        model, rules = self.model, self.model.backbone.windows
        spec, device = model.autoencoder.spec, model.device
        height, width = video_pm1.shape[-2:]
        with model.autoencoding():
            grey = self._grey(video_pm1)
            made = {"video": model.autoencoder.encode_video(_as_video(video_pm1, device))}
            if model.backbone.condition_spec.skeleton != "none":
                rho = rules.skeleton_rho
                firsts = self._inside(clip, clip.start, clip.frames)
                inside = (firsts[:, None] + np.arange(rho)).ravel()
                drawn = _as_video(motion.frames_pm1(inside), device)
                made["skeleton"] = model.autoencoder.encode_frames(drawn)
            if not spec.independent_latents:
                known = _as_video(video_pm1[: rules.known_frames], device)
                generator = torch.Generator().manual_seed(int(clip.key[:12], 16))
                made["known"] = rules.encode_known(model.autoencoder, known, {"grey": grey}, generator)
        made = {name: value[0].half().cpu().contiguous() for name, value in made.items()}
        first, behind = (rules.audio_rho * frame for frame in (clip.start, clip.start + clip.frames))
        steps = np.arange(first - MARGIN, behind + MARGIN).clip(0, sound.rows - 1)
        features = sound.features(int(steps[0]), int(steps[-1]) + 1)
        made["audio_features"] = features[torch.from_numpy(steps - steps[0])].half().contiguous()
        made["regions"] = region_cells(
            *(now.points_px, width, height, spec.cell_px, spec.frames_per_latent),
            seen=now.confidence >= SEEN,
        )
        return made

    def _on_canvas(self, picture: np.ndarray | Path) -> Portrait:
        info, rules = self.model.info, self.model.backbone.windows
        return prepare_portrait(picture, info.size_px, rules.side_multiple_px, info.canvas_sizes_px)[0]

    def _skeleton(self, clip: ClipWork) -> Skeleton:
        """The keypoints of a clip's part of its video, read once for clips that follow each other."""
        if self._last_skeleton is None or self._last_skeleton[0] != clip.person:
            person = self.findings.stored("person", clip.person)
            if person is None:
                raise InputError(
                    f"{shown(clip.path)}: its keypoints are missing from {self.folder}. Run it again."
                )
            self._last_skeleton = clip.person, skeleton_of(person, clip.info)
        return self._last_skeleton[1]

    def _sound(self, path: Path, clip: ClipWork) -> FeatureStream:
        """The sound of a video, decoded once for batches that follow each other."""
        if self._last_sound is None or self._last_sound[0] != (path, clip.stamp):
            self._last_sound = None  # what is kept of it on the disk goes first
            with collect_notes([]):
                video_sound, _ = prepare_audio(path)
                sound = prepare_feature_sound(path, video_sound, self.model.audio_front_end)
            rows = max(1, round(clip.info["duration_s"] * FPS)) * self.model.backbone.windows.audio_rho
            self._last_sound = (path, clip.stamp), self.model.audio_front_end.stream(sound, rows)
        return self._last_sound[1]

    def _grey(self, video_pm1: Tensor) -> Tensor:
        """Latents [1, C, F, h, w] of grey frames, made and kept once for every size of clips."""
        frames, _, height, width = video_pm1.shape
        name = grey_name(height, width)
        if name not in self._grey_of_size:
            grey = encode_grey(self.model.autoencoder, video_pm1[:1].to(self.model.device), frames)
            self._grey_of_size[name] = grey
            self._write(COMMON, name, {"grey": grey.half().cpu().contiguous()})
        return self._grey_of_size[name]

    def _keep_text(self, prompt: str | None) -> None:
        """The text embedding of a prompt (None: the model's own), once. InputError: a prompt for a model
        without text."""
        if self.model.prompts is None:
            if prompt is not None:
                raise InputError(f"{self.model.info.name} takes no text; remove the .prompt.txt files.")
            return
        words = self.model.info.prompts(prompt, None)[0]
        name = text_name(words)
        if not (self.folder / COMMON / f"{name}.safetensors").is_file():
            self._write(COMMON, name, {"text": self.model.prompts.embedding(words).tokens.contiguous()})

    def _write(self, kind: str, name: str, tensors: dict[str, Tensor]) -> None:
        path = self.folder / kind / f"{name}.safetensors"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, save(tensors, {"format": "pt"}))
        except OSError as error:
            raise cannot_write(path, error) from error


def text_name(words: str) -> str:
    """The name of the file with the text embedding of a prompt."""
    return "text-" + hashlib.sha256(words.encode()).hexdigest()[:24]


def latent_shape(shape: Sequence[int]) -> str:
    """[C, F, h, w] -> "FxHxW" in latent frames and cells."""
    return "x".join(map(str, shape[1:]))


def places_in_shards(folder: Path) -> dict[str, tuple[str, str]]:
    """Key of a clip -> (shard of `folder` that holds it, its latent shape), by the heads of the shards. A
    damaged shard is removed, so that its clips are made again."""
    places = {}
    for file in sorted((folder / SHARDS).glob("*.safetensors")):
        try:
            opened = open_safetensors(file)
        except CheckpointError:
            file.unlink()
            continue
        with opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                key, _, what = name.partition("/")
                if what == "video":
                    places[key] = (file.stem, latent_shape(opened.get_slice(name).get_shape()))
    return places


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of a file; zeros for one that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def grey_name(height_px: int | str, width_px: int | str) -> str:
    """The name of the file with the latents of grey frames of that size; of "*", a pattern of such names."""
    return f"grey-{height_px}x{width_px}"


def _as_video(frames_pm1: Tensor, device: torch.device) -> Tensor:
    """[T, 3, H, W] -> [1, 3, T, H, W] on a device."""
    return frames_pm1.transpose(0, 1)[None].to(device)
