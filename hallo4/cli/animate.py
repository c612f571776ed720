"""`hallo4 animate IMAGE AUDIO`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Animate:
    """Make a video of the person in IMAGE speaking AUDIO, exactly as long as the audio, at 25 fps.

    Stop it with Ctrl-C and what is finished stays playable; run the same command again and it goes on.
    """

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """the portrait: any common image format, size and shape"""
    audio: Annotated[Positional[Path], arg(metavar="AUDIO")]
    """the speech: any common audio or video file"""
    motion: Annotated[Path | None, arg(metavar="FILE")] = None
    """skeleton video or keypoints file that the person follows; without it, a natural idle motion"""
    output: Annotated[Path | None, arg(aliases=("-o",), metavar="OUT.mp4")] = None
    """where the video goes; default: IMAGE_AUDIO.mp4 in the current folder"""
    model: Annotated[str, arg(metavar="NAME_OR_DIR")] = "tiny-dit"
    """a model that comes with hallo4, or a model folder"""
    seed: int = 0
    """another seed gives another performance"""
    steps: int | None = None
    """denoising steps; default: what the model was made for"""
    guidance_scale: float | None = None
    """how strongly the lips follow the sound (1: no guidance); default: what the model was made for"""
    scale: int = 1
    """enlarge the finished frames this many times"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    resume: bool = True
    """go on with an unfinished video of the same command"""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """say nothing but the path of the video"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 animate` and do it; the video's path is the last line on stdout."""
    request = tyro.cli(Animate, args=list(words), prog="hallo4 animate")
    print(request)
