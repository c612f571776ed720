"""Three nodes: a model, the keypoints of a person in frames, and a portrait that speaks.

ComfyUI's types: IMAGE is [B, H, W, 3] float32 in [0, 1], AUDIO is {"waveform": [B, channels, S],
"sample_rate": int}. Ours: HALLO4_MODEL is a `PortraitAnimator`, HALLO4_KEYPOINTS a `Skeleton`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from hallo4.errors import Cancelled, InputError
from hallo4.motion import draw_skeleton
from hallo4.pipelines import DEFAULT_MODEL, PortraitAnimator, Progress, embedded_models
from hallo4.pipelines.model_info import models_folder
from hallo4.studio.make.settings import CONSENT_FACTS
from hallo4.types import FPS, Skeleton

CATEGORY = "hallo4"
SEED_MAX = 2**53 - 1
"""The largest whole number that a page's numbers hold."""

UNANSWERED = "please answer"
CONSENT = {
    "the person shown agreed": CONSENT_FACTS["agreed"],
    "no real person is shown": CONSENT_FACTS["no_real_person"],
}
"""The answers about consent, and what the provenance in the file says of each."""


class Hallo4LoadModel:
    """Loads a model once, for any number of videos."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("HALLO4_MODEL",), ("model",)
    DESCRIPTION = "An embedded model, one of the models folder, or any model folder by its path."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Models that are here, where to run, and how much memory may be used."""
        own = sorted(embedded_models(), key=lambda name: (name != DEFAULT_MODEL, name))
        kept = sorted(path.parent.name for path in models_folder().expanduser().glob("*/model.json"))
        return {
            "required": {
                "model": ([*own, *(name for name in kept if name not in own)],),
                "device": (["auto", "cpu", "cuda"],),
                "memory_gb": (
                    "FLOAT",
                    {"default": 0.0, "min": 0.0, "max": 1024.0, "step": 0.5, "tooltip": "0: what is free"},
                ),
            },
            "optional": {
                "folder": ("STRING", {"default": "", "tooltip": "the path of a model folder, instead"}),
            },
        }

    def load(self, model: str, device: str, memory_gb: float, folder: str = "") -> tuple[PortraitAnimator]:
        """CheckpointError: no model. InputError: a device or an amount of memory that cannot be."""
        memory = memory_gb or "auto"
        return (PortraitAnimator.from_pretrained(folder.strip() or model, device, memory=memory),)


class Hallo4Keypoints:
    """Finds a person in frames: the keypoints, and pictures of them to look at."""

    CATEGORY, FUNCTION = CATEGORY, "find"
    RETURN_TYPES, RETURN_NAMES = ("HALLO4_KEYPOINTS", "IMAGE", "STRING"), ("keypoints", "skeleton", "notes")
    DESCRIPTION = "133 points per frame. The networks are fetched once: hallo4 weights fetch pose-light"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The frames of a driving video and their rate."""
        return {
            "required": {
                "frames": ("IMAGE",),
                "fps": ("FLOAT", {"default": 25.0, "min": 1.0, "max": 240.0, "step": 0.01}),
                "estimator": (["auto", "dwpose", "light"],),
                "person": (
                    "STRING",
                    {"default": "largest", "tooltip": "largest, left, right, a number from the left, or X,Y"},
                ),
            }
        }

    def find(self, frames: Tensor, fps: float, estimator: str, person: str) -> tuple[Skeleton, Tensor, str]:
        """InputError: no person is seen, or not that one. CheckpointError: the networks are not here."""
        from hallo4.pose import estimate_frames

        bar = _progress_bar(len(frames))

        def on_progress(done: int, total: int) -> None:
            _stop_if_asked()
            bar.update_absolute(done, total)

        frames_u8 = _frames_u8(frames)
        findings = estimate_frames(frames_u8, fps, estimator, person, on_progress=on_progress)
        height_px, width_px = frames_u8.shape[1:3]
        drawn_u8 = draw_skeleton(findings.skeleton, width_px, height_px)
        return findings.skeleton, _image(drawn_u8), "\n".join(findings.notes)


class Hallo4Animate:
    """Makes the portrait speak: the frames, the sound, and a file with provenance in ComfyUI's output folder.

    Frames alone carry no provenance, so the file is always written.
    """

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "animate", True
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT", "STRING", "STRING")
    RETURN_NAMES = ("frames", "audio", "fps", "file", "notes")
    DESCRIPTION = "As long as the sound, 25 frames a second; the file says that it is AI-generated."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What `animate` of the model takes, and the question of consent, which has no default answer."""
        text = ("STRING", {"default": "", "multiline": True, "tooltip": "empty: the model's own"})
        return {
            "required": {
                "model": ("HALLO4_MODEL",),
                "image": ("IMAGE",),
                "audio": ("AUDIO",),
                "consent": ([UNANSWERED, *CONSENT],),
                "seed": (
                    "INT",
                    {"default": 0, "min": 0, "max": SEED_MAX, "control_after_generate": True},
                ),
                "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's own"}),
                "guidance": (
                    "FLOAT",
                    {
                        "default": -1.0,
                        "min": -1.0,
                        "max": 100.0,
                        "step": 0.1,
                        "tooltip": "-1: the model's own",
                    },
                ),
                "filename_prefix": ("STRING", {"default": "hallo4/talk"}),
            },
            "optional": {
                "keypoints": ("HALLO4_KEYPOINTS",),
                "fit_motion": ("BOOLEAN", {"default": True, "tooltip": "keypoints of another person"}),
                "prompt": text,
                "negative_prompt": text,
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, consent: str) -> bool | str:
        """ComfyUI asks this before anything runs."""
        return True if consent in CONSENT else "Say whether the person shown agreed: answer `consent`."

    def animate(
        self,
        model: PortraitAnimator,
        image: Tensor,
        audio: dict[str, Any],
        consent: str,
        seed: int,
        steps: int,
        guidance: float,
        filename_prefix: str,
        keypoints: Skeleton | None = None,
        fit_motion: bool = True,
        prompt: str = "",
        negative_prompt: str = "",
    ) -> dict[str, Any]:
        """InputError: an input that cannot be used. OutputError: the file cannot be written."""
        if consent not in CONSENT:
            raise InputError(f"consent is not answered; choose one of: {'; '.join(CONSENT)}.")
        portrait_u8 = _frames_u8(image)
        if len(portrait_u8) != 1:
            raise InputError(f"the image is a batch of {len(portrait_u8)} pictures; give one portrait.")
        folder, name, place = _new_file(filename_prefix, *portrait_u8.shape[1:3])
        bar, made = _progress_bar(1), []

        def on_progress(progress: Progress) -> None:
            if progress.stage == "generate":
                bar.update_absolute(progress.frames_done, progress.frames_total)

        try:
            with _sound_file(audio) as sound:
                result = model.animate(
                    portrait_u8[0], sound, keypoints, folder / name,
                    seed=seed, steps=steps or None, guidance_scale=None if guidance < 0 else guidance,
                    fit_motion=fit_motion and keypoints is not None, prompt=prompt or None,
                    negative_prompt=negative_prompt or None, on_progress=on_progress,
                    should_cancel=_is_stopped, resume=False, on_frames=made.append,
                    facts={"consent": CONSENT[consent]},
                )  # fmt: skip
        except Cancelled:
            _stop_if_asked()
            raise
        frames = _image(np.concatenate(made))
        notes = "\n".join(result.notes)
        shown = {"images": [{"filename": name, "subfolder": place, "type": "output"}], "animated": (True,)}
        return {
            "ui": shown | {"text": (notes,)},
            "result": (frames, audio, FPS, str(folder / name), notes),
        }


def _frames_u8(image: Tensor) -> np.ndarray:
    """IMAGE -> [B, H, W, 3] uint8; a fourth channel is transparency and is left out."""
    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise InputError(f"an image of shape {list(image.shape)} was given; IMAGE is [B, H, W, 3].")
    return (image[..., :3].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _image(frames_u8: np.ndarray) -> Tensor:
    """[B, H, W, 3] uint8 -> IMAGE."""
    return torch.from_numpy(frames_u8.astype(np.float32) / 255)


@contextmanager
def _sound_file(audio: dict[str, Any]) -> Iterator[Path]:
    """AUDIO as a file without loss, so that channels and level are dealt with as those of any file."""
    waveform = audio["waveform"]
    if waveform.ndim != 3 or len(waveform) != 1:
        raise InputError(f"AUDIO of shape {list(waveform.shape)} was given; give one sound [1, channels, S].")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        samples = waveform[0].T.float().cpu().numpy()
        soundfile.write(path, samples, int(audio["sample_rate"]), subtype="FLOAT")
        yield path


def _new_file(prefix: str, height_px: int, width_px: int) -> tuple[Path, str, str]:
    """The folder, a name that is free, and the folder as ComfyUI calls it below its output folder."""
    import folder_paths

    folder, stem, counter, place, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width_px, height_px
    )
    return Path(folder), f"{stem}_{counter:05}_.mp4", place


def _progress_bar(total: int) -> Any:
    from comfy.utils import ProgressBar

    return ProgressBar(total)


def _is_stopped() -> bool:
    from comfy.model_management import processing_interrupted

    return processing_interrupted()


def _stop_if_asked() -> None:
    """Ends the work in ComfyUI's own way where its stop button was pressed."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    throw_exception_if_processing_interrupted()
