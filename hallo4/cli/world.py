"""`hallo4 world episode`: an episode of the procedural portrait world, with the truth of every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from hallo4.cli.options import AspectOption, HeadAtOption, HeadShareOption, World, parse, ratio
from hallo4.ranges import Seconds, Seed, SidePx


@dataclass(frozen=True)
class Episode:
    """Write portrait.png, speech.wav, skeleton.mp4, keypoints.json, video.mp4 and truth.json."""

    output: Annotated[Path, arg(aliases=("-o",), metavar="DIR")]
    """the folder to make; an older episode in its place is replaced as a whole"""
    seed: Annotated[Seed, arg(metavar="N")] = 0
    """which episode: the same seed gives the same person, speech and movements"""
    world: Annotated[World, arg(metavar="WORLD")] = "drawn-1"
    """drawn-1 has flat colours and is what the embedded models know; lit-1 shows the same people with light,
    places behind them, fingers that bend and faster motion"""
    seconds: Annotated[Seconds, arg(metavar="S")] = 3.0
    """how long it lasts"""
    size_px: Annotated[SidePx, arg(metavar="N")] = 128
    """side of the square frames, or of a square of the same area"""
    aspect: AspectOption = "1:1"
    """shape of the frames, such as 3:4 or 16:9"""
    head_share: HeadShareOption = 0.52
    """height of the head, chin to crown, in parts of the frame's height"""
    head_at: HeadAtOption = (0.5, 0.43)
    """where the middle between the eyes is, in parts of the frame's width and height"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 world` and do it; the folder's path is the last line on stdout."""
    options = parse({"episode": Episode}, list(words), prog="hallo4 world", description=__doc__)

    from hallo4.errors import OutputError
    from hallo4.world import make_episode
    from hallo4.world.files import check_episode_folder, write_episode
    from hallo4.world.framing import Framing

    check_episode_folder(options.output)  # before any work
    episode = make_episode(
        options.seed,
        options.seconds,
        options.size_px,
        framing=Framing(ratio(options.aspect), options.head_share, options.head_at),
        world=options.world,
    )
    try:
        write_episode(episode, options.output)
    except OSError as error:
        raise OutputError(
            f"{options.output}: the episode cannot be written ({error.strerror}). Choose another folder."
        ) from error
    print(options.output)
