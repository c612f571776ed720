"""Draw the pictures of the explanation pages (`python docs/explanation_pictures.py`), with matplotlib."""

import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from hallo4.models.temporal_motion_modulation import group_frames
from hallo4.motion import PortraitDraft, draw_skeleton
from hallo4.types import FPS
from hallo4.world import act, make_episode, sample_identity
from hallo4.world.episode import draw_clip
from hallo4.world.framing import HALF_FIGURE, Framing, sample_framing
from hallo4.world.look import LIT, PLACES

MEDIA = Path(__file__).parent / "media"
COLOURS = ("#c8553d", "#2a7f9e", "#4f7f3a", "#8a5a9e")
INK, PALE = "#2b2b2b", "#8a8a8a"
RHO, FRAMES = 4, 13


def box(
    axes: Axes, left: float, bottom: float, width: float, text: str, colour: str, copy: bool = False
) -> None:
    """A rounded box with a word in it; a `copy` is drawn with a dashed line and without filling."""
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom), width, 0.8, boxstyle="round,pad=0,rounding_size=0.12", linewidth=1.4,
            edgecolor=colour, facecolor="none" if copy else f"{colour}2e", linestyle="--" if copy else "-",
        )
    )  # fmt: skip
    axes.text(left + width / 2, bottom + 0.4, text, ha="center", va="center", fontsize=11, color=INK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """From one place to another."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, linewidth=1.3, color=colour)
    )


def temporal_motion_modulation() -> Figure:
    """Which frames a latent frame sees, from the function that decides it, and the two ways of folding."""
    import torch

    groups = group_frames(torch.arange(FRAMES)[None], RHO)[0].tolist()  # [F, rho]
    figure, axes = plt.subplots(figsize=(10, 6.2))
    axes.set(xlim=(-3.4, 13.2), ylim=(-4.0, 6.0))
    axes.axis("off")

    def title(height: float, text: str) -> None:
        axes.text(-3.3, height, text, fontsize=11, color=PALE, va="center")

    title(5.6, "video frames and their conditions, 25 a second")
    title(1.05, "latent frames of the video autoencoder, 6.25 a second")
    for number, group in enumerate(groups):
        colour = COLOURS[number % len(COLOURS)]
        slots = [RHO * number + slot - (RHO - 1) for slot in range(RHO)]
        for slot, (place, frame) in enumerate(zip(slots, group, strict=True)):
            box(axes, place, 4.4, 0.86, str(frame), colour, copy=number == 0 and slot < RHO - 1)
            arrow(axes, (place + 0.43, 4.35), (slots[0] + 1.93, 2.35), colour)
        box(axes, slots[0] + 0.9, 1.5, 2.06, f"latent {number}", colour)
    folding(axes)
    figure.tight_layout(pad=0.4)
    return figure


def folding(axes: Axes) -> None:
    """How the four frames of a group become one condition: into channels, or into tokens."""
    colour, tokens = COLOURS[1], 4
    for left, title, wide in (
        (-3.3, "skeleton: folded into channels", True),
        (5.6, "sound: folded into tokens", False),
    ):
        axes.text(left, -0.1, title, fontsize=11, color=INK, va="center", weight="bold")
        for frame in range(RHO):
            cells(axes, left + 0.62 * frame, -2.9, tokens, f"{colour}{'3355779a'[2 * frame : 2 * frame + 2]}")
        axes.text(left + 1.15, -3.1, "4 frames of N tokens\nof width D", ha="center", va="top", fontsize=9.5)
        arrow(axes, (left + 2.7, -1.9), (left + 3.5, -1.9), INK)
        for frame in range(RHO):
            shade = f"{colour}{'3355779a'[2 * frame : 2 * frame + 2]}"
            place = (
                (left + 3.75 + 0.5 * frame, -2.9) if wide else (left + 3.9, -3.4 + 0.8 * (RHO - 1 - frame))
            )
            cells(axes, *place, tokens, shade, height=0.5 if wide else 0.19)
        words = "N tokens\nof width 4 D" if wide else "4 N tokens\nof width D"
        axes.text(left + 4.75, -3.1 if wide else -1.9, words,
                  ha="center" if wide else "left", va="top" if wide else "center", fontsize=9.5)  # fmt: skip


def cells(axes: Axes, left: float, bottom: float, count: int, colour: str, height: float = 0.5) -> None:
    """A column of cells: the tokens of a frame."""
    for number in range(count):
        axes.add_patch(
            plt.Rectangle(
                (left, bottom + height * number), 0.48, height * 0.9, facecolor=colour, edgecolor="white"
            )
        )


def portrait_world() -> Figure:
    """People of the world; one of them speaks: sound, mouth, frames and skeletons."""
    people = [make_episode(seed, seconds=0.4, size_px=160).portrait_u8 for seed in (3, 11, 12, 17, 23, 29)]
    episode = make_episode(11, seconds=2.4, size_px=160)
    shown = np.linspace(4, len(episode.frames_u8) - 5, 6).round().astype(int)
    drawn_u8 = draw_skeleton(episode.skeleton, 160, 160)
    figure = plt.figure(figsize=(10, 6.6))
    grid = figure.add_gridspec(4, 6, height_ratios=(1.6, 0.9, 1.6, 1.6), hspace=0.16, wspace=0.06)
    for row, pictures in ((0, people), (2, episode.frames_u8[shown]), (3, drawn_u8[shown])):
        for column, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture)
            axes.axis("off")
    curve = figure.add_subplot(grid[1, :])
    sound = episode.audio
    time_s = np.arange(len(sound.samples)) / sound.sample_rate_hz
    curve.plot(time_s[::8], 0.5 + 0.5 * sound.samples[::8], color=PALE, linewidth=0.4)
    curve.plot(
        np.arange(len(episode.truth.mouth_open)) / FPS,
        episode.truth.mouth_open,
        color=COLOURS[0],
        linewidth=2,
    )
    for frame in shown:
        curve.axvline(frame / FPS, color=COLOURS[1], linewidth=0.8, linestyle=":")
    curve.set(xlim=(0, time_s[-1]), ylim=(-0.05, 1.1), yticks=[])
    curve.text(
        0.01,
        0.9,
        "sound, and how far the mouth is open (seconds)",
        transform=curve.transAxes,
        fontsize=10,
        color=INK,
        va="top",
    )
    curve.tick_params(labelsize=9, colors=PALE)
    curve.spines[["top", "right", "left"]].set_visible(False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01)
    return figure


def lit_world() -> Image.Image:
    """People of the lit world in every place, shape and head size."""
    seeds, rng = range(40, 120), np.random.default_rng(1)
    by_place = {sample_identity(seed, LIT).look.place: seed for seed in seeds}
    rows = [
        [shown_at(by_place[place], HALF_FIGURE) for place in PLACES],
        [shown_at(seed, sample_framing(rng)) for seed in range(44, 56)],
    ]
    height = 256
    sized = [
        [Image.fromarray(p).resize((p.shape[1] * height // p.shape[0], height)) for p in row] for row in rows
    ]
    flat = [picture for row in sized for picture in row]
    sheet, x, y = Image.new("RGB", (1044, 5 * (height + 4) - 4), "white"), 0, 0
    for picture in flat:
        if x + picture.width > sheet.width:
            x, y = 0, y + height + 4
        sheet.paste(picture, (x, y))
        x += picture.width + 4
    return sheet


def drafts() -> Image.Image:
    """Of four people: the portrait, a skeleton of another moment, the draft made of both, the true frame."""
    sheet = Image.new("RGB", (4 * 260 - 4, 4 * 260 - 4), "white")
    for row, (seed, moment) in enumerate(((60, 10), (45, 20), (52, 28), (63, 34))):
        episode = make_episode(seed, 1.6, 256, world=LIT)
        skeleton, shown = episode.skeleton, slice(moment, moment + 1)
        now = replace(skeleton, points_px=skeleton.points_px[shown], confidence=skeleton.confidence[shown])
        pictures = (
            episode.portrait_u8,
            draw_skeleton(now, 256, 256)[0],
            PortraitDraft(episode.portrait_u8, episode.rest).frames_u8(now)[0],
            episode.frames_u8[moment],
        )
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (260 * column, 260 * row))
    return sheet


def shown_at(seed: int, framing: Framing) -> np.ndarray:
    """A frame of this episode of the lit world, about a second after its beginning."""
    identity, _, performance, _ = act(seed, 2.0, world=LIT)
    return draw_clip(identity, performance, slice(28, 29), framing.view(256))[1][0]


def save(figure: Figure, path: Path) -> None:
    """As a WebP, sharp on dense screens; nothing of when or by what it was made."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=160, facecolor="white")
    plt.close(figure)
    Image.open(content).convert("RGB").save(path, lossless=False, quality=88, method=6)


def main(folder: Path = MEDIA) -> None:
    """Draw all of them."""
    plt.switch_backend("agg")
    save(temporal_motion_modulation(), folder / "temporal_motion_modulation.webp")
    save(portrait_world(), folder / "portrait_world.webp")
    lit_world().save(folder / "lit_world.webp", quality=82, method=6)
    drafts().save(folder / "drafts.webp", quality=82, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else MEDIA)
