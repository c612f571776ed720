"""`hallo4 animate IMAGE AUDIO`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from hallo4.cli.options import parse
from hallo4.ranges import FrameRate, Guidance, Scale, Seed, Steps, Track

if TYPE_CHECKING:
    from hallo4.motion import MotionHints


@dataclass(frozen=True)
class Animate:
    """Make a video of the person in IMAGE speaking AUDIO, exactly as long as the audio, at 25 fps.

    Without AUDIO, the sound of the video that gives the motion is used.

    Stop it with Ctrl-C and what is finished stays playable; run the same command again to resume.
    """

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """the portrait: any common image format, size and shape"""
    audio: Annotated[
        Positional[Path | None], arg(metavar="[AUDIO]", help_behavior_hint="(default: the motion's own)")
    ] = None
    """the speech: any common audio or video file"""
    audio_track: Annotated[
        Track | None, arg(metavar="N", help_behavior_hint="(default: the first with sound)")
    ] = None
    """which sound track, from 1, of a file that has several"""
    motion: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: idle motion)")] = None
    """what the person follows: a filmed video of a person, a skeleton video, or keypoints of OpenPose,
    ComfyUI, MMPose or DWPose"""
    motion_size: Annotated[
        str | None, arg(metavar="WxH", help_behavior_hint="(default: what the keypoints say)")
    ] = None
    """size of the video that the keypoints were made from, as 1280x720"""
    motion_fps: Annotated[
        FrameRate | None, arg(metavar="F", help_behavior_hint="(default: what the keypoints say, or 25)")
    ] = None
    """frame rate of that video"""
    person: Annotated[
        str | None, arg(metavar="left|right|N|x,y", help_behavior_hint="(default: the largest)")
    ] = None
    """whom of several people to follow: N counts from the left, x,y lies in their figure, in pixels"""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="OUT.mp4", help_behavior_hint="(default: IMAGE_AUDIO.mp4)")
    ] = None
    """where the video goes"""
    preview: Annotated[
        Path | None, arg(metavar="OUT.png", help_behavior_hint="(default: the video is made)")
    ] = None
    """make no video, but a picture of the portrait on its canvas with the first skeleton over it"""
    model: Annotated[str, arg(metavar="NAME_OR_DIR")] = "tiny-dit"
    """a model that comes with hallo4, or a model folder"""
    seed: Annotated[Seed, arg(metavar="N")] = 0
    """another seed gives another performance"""
    steps: Annotated[Steps | None, arg(metavar="N", help_behavior_hint="(default: the model's)")] = None
    """denoising steps: more are slower and finer"""
    guidance_scale: Annotated[
        Guidance | None, arg(metavar="X", help_behavior_hint="(default: the model's)")
    ] = None
    """how strongly the lips follow the sound; 1 is without guidance and twice as fast"""
    prompt: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="(default: the model's)")] = None
    """what the video shows, for a model that takes text"""
    negative_prompt: Annotated[
        str | None, arg(metavar="TEXT", help_behavior_hint="(default: the model's)")
    ] = None
    """what it should not show"""
    fit_motion: Annotated[bool, FlagCreatePairsOff] = False
    """bring keypoints of another person to the face and shoulders of this one"""
    scale: Annotated[Scale, arg(metavar="N")] = 1
    """enlarge the finished frames this many times"""
    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """auto, cpu, cuda or cuda:N"""
    memory: Annotated[str, arg(metavar="auto|N")] = "auto"
    """how many GB of the device may be used; from it follows where the weights live"""
    dtype: Annotated[str, arg(metavar="auto|fp32|bf16")] = "auto"
    """number format of the weights and their products"""
    attention: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: PyTorch's own)")] = (
        None
    )
    """attention backend of diffusers, such as native, _native_cudnn or sage"""
    no_resume: Annotated[bool, FlagCreatePairsOff] = False
    """start afresh even if the same command was interrupted before"""
    quiet: Annotated[bool, FlagCreatePairsOff] = False
    """print nothing but the path of the video"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 animate` and do it; the video's path is the last line on stdout."""
    options = parse(Animate, list(words), prog="hallo4 animate")

    from hallo4.media import SoundTrack, check_input, check_output
    from hallo4.outputs import refuse_output
    from hallo4.whole import companion

    sounding = options.audio or options.motion
    name = options.image.stem if sounding is None else f"{options.image.stem}_{sounding.stem}"
    output = options.output or companion(Path(f"{name}.mp4"), "", ".mp4")

    # Before the model is loaded, which may take long.
    refuse_output(options.preview or output, [options.image, options.audio, options.motion, options.model])
    if options.preview is None:
        check_output(output)
    check_input(options.image, "a picture")
    audio = options.audio
    if audio is not None:
        check_input(audio, "a sound file")
    if options.audio_track is not None and sounding is not None:
        audio = SoundTrack(sounding, options.audio_track)

    from hallo4.cli.progress import shown_progress
    from hallo4.motion import MotionHints, parse_size
    from hallo4.pipelines import PortraitAnimator

    size_px = None if options.motion_size is None else parse_size(options.motion_size)
    hints = MotionHints(size_px, options.motion_fps, options.person)
    if options.preview is not None:
        _preview(options, audio, hints)
        return

    with shown_progress(options.quiet) as on_progress:
        animator = PortraitAnimator.from_pretrained(
            options.model,
            device=options.device,
            dtype=options.dtype,
            prompts=(options.prompt, options.negative_prompt),
            memory=options.memory,
            attention=options.attention,
        )
        result = animator.animate(
            options.image,
            audio,
            options.motion,
            output,
            seed=options.seed,
            steps=options.steps,
            guidance_scale=options.guidance_scale,
            fit_motion=options.fit_motion,
            prompt=options.prompt,
            negative_prompt=options.negative_prompt,
            scale=options.scale,
            on_progress=on_progress,
            resume=not options.no_resume,
            motion_hints=hints,
        )
    print(result.path)


def _preview(options: Animate, audio: Any, hints: MotionHints) -> None:
    from hallo4.cli.progress import shown_progress
    from hallo4.media.image import check_png, save_png
    from hallo4.pipelines import AnimationRequest, Progress, preview, read_outline
    from hallo4.pipelines.progress import Reporter

    check_png(options.preview)  # before a long film is measured
    given = (options.image, audio, options.motion, options.seed)
    request = AnimationRequest(*given, fit_motion=options.fit_motion, motion_hints=hints)
    with shown_progress(options.quiet) as on_progress:
        looked = preview(read_outline(options.model), request, Reporter(on_progress))
        on_progress(Progress("preview", 0, 0, notes=looked.notes))
    save_png(options.preview, looked.picture_u8)
    print(options.preview)
