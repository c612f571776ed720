"""Compare our pipeline with the released program: `python benchmarks/end_to_end.py DIR [--case NAME]`.

DIR holds what the released program was given (`pretrained_models/`, `inputs/`, `settings.json`) and, for
every case, what it computed on the way and in the end. The released files are converted by `hallo4 weights
convert` into a temporary model folder, which our pipeline then runs, in fp32 on the CPU.

Our pipeline differs from the released program on purpose in a few choices (`hallo4.pipelines.conventions`);
here they are set to the released ones: the shorter of sound and skeleton ends the video, skeleton frames are
taken one by one, pixels are rounded down, frames before `start_inf_frame` are skipped, and the black patches
of known frames are drawn with the seeds of the case.

Prints one JSON line. Errors are max |ours - theirs| / max |theirs|, the worst over all windows of all cases:

* `text_embedding`, `audio_features` (and their windows), `reference_canvas`, `skeleton_canvas` (first and
  last frame of each window), `reference_latent`, `skeleton_latents`, `vace_context`, `velocity` (both sides
  of guidance at the first step), `denoised`: of every stage;
* `frames_max_difference` in grey levels, `frames_differing`: share of the values, `psnr_db` (capped at 200).

Exit code 2 and one line if DIR cannot be used.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hallo4.errors import Hallo4Error, InputError
from hallo4.models.audio_features import audio_windows_of
from hallo4.pipelines import AnimationRequest, LoadedModel, load_model
from hallo4.pipelines.conventions import RELEASED
from hallo4.pipelines.convert import convert_release
from hallo4.pipelines.job import Job
from hallo4.pipelines.portrait_rest import portrait_rest
from hallo4.pipelines.progress import Reporter

STAGES = (
    *("text_embedding", "audio_features", "reference_canvas", "skeleton_canvas", "reference_latent"),
    *("skeleton_latents", "vace_context", "velocity", "denoised"),
)
PSNR_CAP_DB = 200.0


class Worst:
    """The worst relative error of each stage."""

    def __init__(self) -> None:
        self.errors = dict.fromkeys(STAGES, 0.0)

    def compare(self, stage: str, ours: Tensor, theirs: Tensor) -> None:
        """InputError for another shape: then DIR belongs to another program."""
        if ours.shape != theirs.shape:
            raise InputError(
                f"{stage} has shape {list(ours.shape)} here and {list(theirs.shape)} in the case: "
                "give a case of the released program"
            )
        error = float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
        self.errors[stage] = max(self.errors[stage], error)


@dataclass(frozen=True)
class Case:
    """One run of the released program: its settings and the folder of what it computed."""

    name: str
    folder: Path
    settings: Mapping[str, Any]
    prompt: str
    negative_prompt: str
    patch_seed: int

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of `NAME.safetensors`."""
        path = self.folder / f"{name}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be read ({error}): give an end-to-end case") from error


def compare_case(root: Path, case: Case, model: LoadedModel, worst: Worst) -> dict[str, float]:
    """Run our pipeline on a case; errors of stages go to `worst`, those of frames are returned."""
    settings = case.settings
    model = replace(model, info=replace(model.info, flow_shift=float(settings["shift"])))
    request = AnimationRequest(
        image=root / settings["image"],
        audio=root / settings["audio"],
        motion=root / settings["skeleton"],
        seed=settings["seed"],
        steps=settings["steps"],
        guidance_scale=float(settings["guide"]),
        prompt=case.prompt,
        negative_prompt=case.negative_prompt,
        conventions=replace(
            RELEASED, start_frame=settings["start_inf_frame"], known_frame_seed=case.patch_seed
        ),
    )
    reporter = Reporter()
    job = Job(model, request, reporter, portrait_rest)
    reporter.begin_windows(job.total_windows, job.steps, job.total_frames)
    expected = case.tensors("conditions")
    _compare_inputs(job, expected, worst)
    windows = [case.tensors(f"window_{window.index}") for window in job.plan()]
    frames = []
    with first_velocities(model) as velocities:
        seen: dict[str, Tensor] = {}
        for index, made in enumerate(job.windows(inspect=seen.__setitem__)):
            _compare_window(seen, velocities, windows[index], windows[0], worst)
            seen.clear()
            velocities.clear()
            frames.append(made.frames_u8)
    with np.load(case.folder / "frames.npz", allow_pickle=False) as stored:
        return compare_frames(np.concatenate(frames), stored["frames"])


def _compare_inputs(job: Job, expected: Mapping[str, Tensor], worst: Worst) -> None:
    for ours, name in zip(job.texts, ("text_embedding", "text_uncond_embedding"), strict=True):
        worst.compare("text_embedding", ours[0], expected[name])
    rows = torch.arange(job.sound.rows)
    worst.compare("audio_features", job.sound.features(0, job.sound.rows), expected["audio_features"])
    worst.compare("audio_features", audio_windows_of(job.sound, rows.numpy()), expected["audio_windows"])
    worst.compare("reference_canvas", job.portrait.video_pm1, expected["reference_canvas"])


def _compare_window(
    seen: Mapping[str, Tensor],
    velocities: list[Tensor],
    theirs: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    worst: Worst,
) -> None:
    """`first`: the case's window 0, which has what all windows share."""
    skeleton = seen["skeleton_pm1"]
    worst.compare("skeleton_canvas", skeleton[0], theirs["skeleton_canvas_first"])
    worst.compare("skeleton_canvas", skeleton[-1], theirs["skeleton_canvas_last"])
    worst.compare("reference_latent", seen["reference"][0], first["reference_latent"])
    worst.compare("skeleton_latents", seen["skeleton_latents"][0], theirs["skeleton_latents"])
    worst.compare("vace_context", seen["control_latents"][0], theirs["vace_context"])
    sides = torch.cat(velocities)
    worst.compare("velocity", sides[0], theirs["velocity_uncond_step0"])
    worst.compare("velocity", sides[-1], theirs["velocity_cond_step0"])
    worst.compare("denoised", seen["latents"][0], theirs["denoised"])


@contextmanager
def first_velocities(model: LoadedModel) -> Iterator[list[Tensor]]:
    """A list that collects the velocities of the first step: the unconditional side, then the other."""
    found: list[Tensor] = []

    def collect(_module: torch.nn.Module, _inputs: tuple, velocity: Tensor) -> None:
        if sum(len(part) for part in found) < 2:
            found.append(velocity.clone())

    hook = model.backbone.register_forward_hook(collect)  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        hook.remove()


def compare_frames(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """`frames_max_difference`, `frames_differing`, `psnr_db`."""
    if ours.shape != theirs.shape:
        raise InputError(
            f"our video is {list(ours.shape)} (frames, height, width, channels), the released one "
            f"{list(theirs.shape)}: give a case of the released program"
        )
    difference = np.abs(ours.astype(np.int16) - theirs)
    mean_square = float(np.square(difference, dtype=np.float64).mean())
    psnr_db = PSNR_CAP_DB if not mean_square else 10 * math.log10(255**2 / mean_square)
    return {
        "frames_max_difference": int(difference.max()),
        "frames_differing": float((difference > 0).mean()),
        "psnr_db": min(PSNR_CAP_DB, psnr_db),
    }


def read_cases(root: Path, chosen: str | None) -> tuple[dict[str, Any], list[Case]]:
    """The settings of DIR and its cases, or the one named."""
    try:
        settings = json.loads((root / "settings.json").read_text(encoding="utf-8"))
        prompts = json.loads((root / "inputs/prompts.json").read_text(encoding="utf-8"))
        cases = settings["cases"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{root}: is no end-to-end case ({error}): give a folder of that layout") from error
    if chosen is not None and chosen not in cases:
        raise InputError(f"{root}: has no case {chosen!r}; there are {', '.join(cases)}")
    found = []
    for name in cases if chosen is None else [chosen]:
        run = cases[name]
        prompt = run.get("prompt", prompts["prompt"])
        negative = run.get("negative_prompt", settings["negative_prompt"])
        found.append(Case(name, root / name, run, prompt, negative, settings["mask_seed"]))
    return settings, found


def compare(root: Path, chosen: str | None) -> dict[str, float]:
    """The JSON line of DIR."""
    settings, cases = read_cases(root, chosen)
    worst, frames = Worst(), []
    with tempfile.TemporaryDirectory(prefix="hallo4-end-to-end-") as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")  # every text is encoded anew
        folder = Path(scratch) / "model"
        convert_release(
            root / "pretrained_models",
            folder,
            dtype="keep",
            canvas_sizes_px=(tuple(settings["size_hw"]),),
            window_frames=settings["frame_num"],
        )
        model = load_model(folder, "cpu", torch.float32)
        for case in cases:
            frames.append(compare_case(root, case, model, worst))
    worst_frames = {
        name: (min if name == "psnr_db" else max)(found[name] for found in frames) for name in frames[0]
    }
    return worst.errors | worst_frames


def main(arguments: list[str] | None = None) -> int:
    """Print the line; exit code 2 for a folder that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--case", help="one of its cases; all by default", metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(compare(options.folder, options.case)))
    except Hallo4Error as error:
        print(f"end_to_end: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
