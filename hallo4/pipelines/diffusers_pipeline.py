"""A model folder as a pipeline of diffusers, by its convention for community pipelines.

::

    pipe = DiffusionPipeline.from_pretrained(
        FOLDER, custom_pipeline="integrations/diffusers", trust_remote_code=True
    )
    frames = pipe("portrait.png", "speech.wav", generator=torch.Generator().manual_seed(7)).frames[0]

The frames are those of `hallo4 animate`: all work is that of `PortraitAnimator`, which also loads the
weights, strictly and where memory allows it, instead of diffusers' own loaders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.utils import BaseOutput
from PIL import Image

from hallo4.errors import InputError
from hallo4.pipelines.animator import PortraitAnimator
from hallo4.pipelines.conditions import PathLike
from hallo4.pipelines.devices import find_device
from hallo4.pipelines.job import Motion
from hallo4.pipelines.model_info import read_info, resolve_model
from hallo4.pipelines.progress import Progress
from hallo4.types import Audio

OutputType = Literal["np", "pt", "pil"]


class ModelFolder(ModelMixin):
    """The one component: a model folder, whose networks become its submodules once they are loaded."""

    def __init__(self, folder: Path, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.folder, self.asked_dtype = folder, dtype

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], torch_dtype: torch.dtype | None = None, **options: Any
    ) -> ModelFolder:
        """Look at `model.json`; nothing is loaded before the pipeline knows the device.

        CheckpointError: no model. InputError: an option of diffusers that would be without effect.
        """
        for name in ("device_map", "max_memory", "quantization_config"):
            if options.get(name) is not None:
                raise InputError(f"{name} is not used by this pipeline; give device= and memory= instead.")
        found = resolve_model(folder)
        read_info(found)
        return cls(found, torch_dtype)

    def hold(self, animator: PortraitAnimator) -> None:
        """Make the networks of a loaded model submodules, so that device, type and size can be asked for."""
        self.backbone, self.autoencoder = animator.model.backbone, animator.model.autoencoder


@dataclass
class Hallo4PipelineOutput(BaseOutput):
    """`frames`: one video, as `output_type` says. `notes`: what was done to the inputs, one line each."""

    frames: Any
    notes: tuple[str, ...]


class Hallo4Pipeline(DiffusionPipeline):
    """Talking portraits from a model folder; `animator` is the `PortraitAnimator` that does the work.

    Differs from pipelines of diffusers: weights come to `device` at once ("auto": CUDA where there is one),
    or, where `memory` (GB that may be used, or "auto") is less than they take, when they are needed; so
    there are no offloading hooks to switch on.
    """

    def __init__(
        self,
        model: ModelFolder,
        device: str | torch.device = "auto",
        memory: str | float = "auto",
        attention: str | None = None,
    ) -> None:
        """Arguments beside `model`: see `PortraitAnimator.from_pretrained`; `from_pretrained` takes them."""
        super().__init__()
        self.register_modules(model=model)
        self._memory, self._attention = memory, attention
        self._load(device, model.asked_dtype)

    def _load(self, device: str | torch.device, dtype: torch.dtype | None) -> None:
        self.animator = PortraitAnimator.from_pretrained(
            self.model.folder, device, dtype, memory=self._memory, attention=self._attention
        )
        self.model.asked_dtype = dtype
        self.model.hold(self.animator)

    @property
    def device(self) -> torch.device:
        """Where networks compute."""
        return self.animator.model.device

    def to(
        self, device: str | int | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Hallo4Pipeline:
        """Load the model again for another device or type, where these differ; returns the pipeline.

        InputError: a device or type that cannot be used.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        wanted = self.device if device is None else find_device(torch.device(device))
        dtype = self.model.asked_dtype if dtype is None else dtype
        if (wanted, dtype) != (self.device, self.model.asked_dtype):
            self._load(wanted, dtype)
        return self

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """InputError: there is nothing to save that is not in the model's folder already."""
        raise InputError(f"{self.model.folder}: is the saved model already; copy this folder.")

    def enable_sequential_cpu_offload(self, *_: Any, **__: Any) -> None:
        """InputError: offloading is decided when the weights are loaded."""
        raise InputError("offloading is not switched on later: load the pipeline with memory=GB instead.")

    @torch.no_grad()
    def __call__(
        self,
        image: PathLike | np.ndarray | Image.Image,
        audio: PathLike | Audio | None = None,
        motion: Motion = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        fit_motion: bool = False,
        output_type: OutputType = "np",
        return_dict: bool = True,
    ) -> Hallo4PipelineOutput | tuple[Any]:
        """Make one video, 25 frames per second and as long as the sound.

        `image`, `audio`, `motion`, `fit_motion`, prompts, and steps and guidance (None: the model's own): as
        in `PortraitAnimator.animate`. `generator`: its initial seed is the seed of the video (None: 0), as
        noise is drawn from (seed, window); it is not advanced. `output_type`: "np" [1, T, H, W, 3] floats in
        [0, 1], "pt" [1, T, 3, H, W] the same, "pil" a list with a list of pictures.

        Frames carry no provenance and no sound: for a file with both, `animator.animate(..., output=...)`.

        InputError: an input that cannot be used.
        """
        if output_type not in ("np", "pt", "pil"):
            raise InputError(f"output_type is {output_type!r}; use np, pt or pil.")
        messages: list[Progress] = []
        windows = self.animator.frames(
            image, audio, motion, prompt=prompt, negative_prompt=negative_prompt,
            seed=0 if generator is None else generator.initial_seed() % 2**63, steps=num_inference_steps,
            guidance_scale=guidance_scale, fit_motion=fit_motion, on_progress=messages.append,
        )  # fmt: skip
        made = []
        with self.progress_bar(total=messages[-1].frames_total) as bar:
            for window in windows:
                made.append(window)
                bar.update(len(window))
        frames = _as_wanted(np.concatenate(made), output_type)
        notes = tuple(note for message in messages for note in message.notes)
        return Hallo4PipelineOutput(frames, notes) if return_dict else (frames,)


def _as_wanted(frames_u8: np.ndarray, output_type: OutputType) -> Any:
    """[T, H, W, 3] uint8 -> a batch of one video."""
    if output_type == "pil":
        return [[Image.fromarray(frame_u8) for frame_u8 in frames_u8]]
    frames_01 = frames_u8[None].astype(np.float32) / 255
    return frames_01 if output_type == "np" else torch.from_numpy(frames_01).movedim(-1, 2)
