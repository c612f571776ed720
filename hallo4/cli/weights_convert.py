"""`hallo4 weights convert PRETRAINED -o DIR`: the released files become a model folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from hallo4.ranges import Frames

if TYPE_CHECKING:
    from hallo4.pipelines.convert import ConversionProgress


@dataclass(frozen=True)
class Convert:
    """Turn the released files (`pretrained_models/`) into a model folder for `hallo4 animate --model DIR`.

    Nothing is fetched and no code in the files is run. Stop it with Ctrl-C and the same command resumes.
    """

    pretrained: Annotated[
        Positional[Path | None],
        arg(metavar="[PRETRAINED]", help_behavior_hint="(default: where `weights fetch hallo4` puts it)"),
    ] = None
    """the folder with hallo4/, Wan2.1_Encoders/ and wav2vec/ as published; Wan's autoencoder and umT5 may
    also lie in diffusers layout: vae/, text_encoder/, tokenizer/"""
    output: Annotated[
        Path | None,
        arg(aliases=("-o",), metavar="DIR", help_behavior_hint="(default: where `--model hallo4` finds it)"),
    ] = None
    """the model folder to write; an older model there is replaced when the new one is complete"""
    dtype: Literal["keep", "bf16", "fp32"] = "keep"
    """how the DiT is stored: as in the file, in bf16 (sensitive layers stay fp32), or in fp32; the text
    encoder stays as it is and the autoencoder is always fp32"""
    canvas: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="HxW", help_behavior_hint="(repeatable; default: 480x832 and 832x480)"),
    ] = ()
    """picture size that the weights were trained on; only for weights other than the released ones"""
    window_frames: Annotated[Frames, arg(metavar="N")] = 81
    """frames that the weights make at a time (4k+1); only for weights other than the released ones"""
    quiet: Annotated[bool, FlagCreatePairsOff] = False
    """print nothing but the path of the folder"""


def convert(options: Convert) -> None:
    """Do it; the folder's path is the last line on stdout."""
    sizes = [_size_px(text) for text in options.canvas]  # before torch is loaded

    from hallo4.pipelines.convert import convert_release
    from hallo4.pipelines.model_info import RELEASED_MODEL, models_folder
    from hallo4.weights.places import weights_root

    chosen = {"canvas_sizes_px": sizes} if sizes else {}
    with _shown(options.quiet) as on_progress:
        result = convert_release(
            options.pretrained or weights_root() / "pretrained_models",
            options.output or models_folder() / RELEASED_MODEL,
            options.dtype,
            window_frames=options.window_frames,
            on_progress=on_progress,
            **chosen,
        )
    print(result.folder)


def _size_px(text: str) -> tuple[int, int]:
    """ "480x832" -> (480, 832): height, width."""
    from hallo4.errors import InputError

    match = re.fullmatch(r"(\d{1,5})[x*](\d{1,5})", text)
    if match is None:
        raise InputError(f"--canvas {text!r}: give height x width in pixels, such as 480x832.")
    return int(match[1]), int(match[2])


@contextmanager
def _shown(quiet: bool) -> Iterator[Callable[[ConversionProgress], None]]:
    """A callback that shows a bar of bytes on stderr; where that is no terminal, a line for every part."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        yield lambda progress: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("checking", total=None)
        last = ""

        def show(progress: ConversionProgress) -> None:
            nonlocal last
            for note in progress.notes:
                console.print(f"note: {note}", markup=False)
            if progress.part != last and not console.is_terminal:
                left = (progress.bytes_total - progress.bytes_done) / 1e9
                console.print(
                    f"converting {progress.part}/, {left:.1f} GB left to read and write", markup=False
                )
            last = progress.part
            words = f"converting {progress.part}/"
            bars.update(task, description=words, total=progress.bytes_total, completed=progress.bytes_done)

        yield show
