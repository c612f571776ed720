"""Arms of preference training at equal drift: wins over the model before, by how far each has moved from it.

`python benchmarks/equal_drift.py FOLDER DPO=adapter0,adapter1 winners=adapter2 ... --base tiny-dit-sft` takes
adapters on one base, several (runs from other seeds) under one name. Of each it makes copies with the
low-rank changes times `--scales`, measures how far the velocity has moved from the base's on unseen clips
(mean squared change over the base's own mean squared error, at fixed draws), and how often the copy wins
against the base on `--unseen` others (`hallo4 evaluate world`). One number per arm would compare how far they
went; a curve over the drift compares where they went. Writes FOLDER/equal_drift.json and .png and prints the
table; clips that lie measured in FOLDER are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from hallo4.data import ClipStoreConfig, build_cache, build_clips
from hallo4.diffusion import keyed_generator
from hallo4.engine import open_engine
from hallo4.evaluation import evaluate_world
from hallo4.evaluation.suites.generators import world_of
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.pipelines import load_model
from hallo4.pipelines.adapter import read_adapter
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.training import predict, prediction_of
from hallo4.training.denoising import found_and_wanted
from hallo4.training.sft import SFTConfig, draw_batch, frames_before, window_of
from hallo4.whole import whole_folder

DRAWN = SFTConfig(batch_size=8, silent_share=0.0)
"""How the clips of the drift are noised, and how many at once."""
FIRST_UNSEEN = 990_000
"""Clips of the drift: people that no recipe trains on."""


@dataclass(frozen=True)
class Point:
    """A copy of one run of one arm: its drift, and its shares of wins with low and high ends."""

    arm: str
    run: int
    scale: float
    drift: float
    wins: dict[str, dict[str, float]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("arms", nargs="+", metavar="NAME=ADAPTER,ADAPTER")
    parser.add_argument("--base", default="tiny-dit-sft")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--unseen", type=int, default=100)
    parser.add_argument("--seed", type=int, default=2, help="which unseen clips")
    parser.add_argument("--seconds", type=float, default=1.96)
    parser.add_argument("--observer", help="who looks (default: the embedded observer)")
    parser.add_argument("--drift-clips", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.unseen < 2:
        parser.error("--unseen: one clip has no interval; take two at least")
    return args


def runs_of(arms: Sequence[str]) -> Iterator[tuple[str, int, Path]]:
    """(name, number, adapter) of every run of every arm; the program ends if one is not named so."""
    for arm in arms:
        name, given, adapters = arm.partition("=")
        if not given or not adapters:
            raise SystemExit(f"{arm}: name an arm and its adapters, as in DPO=runs/a/model,runs/b/model")
        for run, adapter in enumerate(adapters.split(",")):
            yield name, run, Path(adapter)


def scaled(adapter: Path, scale: float, to: Path) -> Path:
    """A copy of the model folder `adapter` whose changes count `scale` times."""
    shutil.rmtree(to, ignore_errors=True)
    with whole_folder(to) as building:
        shutil.copytree(adapter, building, dirs_exist_ok=True)
        config = building / "adapter" / "config.json"
        values = json.loads(config.read_text())
        origin = Path(os.path.normpath(adapter / values["adapter_of"]))
        if origin.exists():  # a path is relative to the folder of the adapter
            values["adapter_of"] = str(origin.resolve())
        config.write_text(json.dumps(values | {"scale": scale * values["scale"]}))
    return to


class Drift:
    """How far a model's velocity is from that of `base`, on unseen clips at fixed draws."""

    def __init__(self, base: LoadedModel, clips: ClipStoreConfig, folder: Path) -> None:
        store = build_clips(folder / "drift_clips", clips)
        rules = base.backbone.windows
        self.cache = build_cache(
            *(store, base.autoencoder, folder / "drift_latents"),
            skeleton_rho=rules.skeleton_rho,
            drafts=rules.drafts,
        )
        self.base = base

    @torch.no_grad()
    def velocities(self, model: LoadedModel) -> tuple[torch.Tensor, torch.Tensor]:
        """What `model` says of all draws, and what it should have said."""
        found, wanted = [], []
        rules = self.base.backbone.windows
        for rows in (part for group in self.cache.groups.values() for part in group.split(DRAWN.batch_size)):
            key = keyed_generator("drift", int(rows[0]))
            batch = draw_batch(self.cache.batch(rows), DRAWN, rules, key)
            conditions = vars(window_of(self.base.backbone, batch, self.base.autoencoder))
            video = batch["video"][:, :, frames_before(rules) :]
            with model.denoising():
                draws = (video, batch["noise"], batch["sigma"], conditions)
                pair = found_and_wanted(predict, prediction_of(model.backbone), model.backbone, *draws)
            found.append(pair[0].float().flatten())
            wanted.append(pair[1].float().flatten())
        return torch.cat(found), torch.cat(wanted)

    def of(self, models: dict[str, Path]) -> dict[str, float]:
        """The drift of every model."""
        at_base, wanted = self.velocities(self.base)
        error = (at_base - wanted).square().mean()
        drifts = {}
        for name, folder in models.items():
            moved = self.velocities(load_model(str(folder)))[0] - at_base
            drifts[name] = float(moved.square().mean() / error)
        return drifts


def points(args: argparse.Namespace) -> list[Point]:
    """Every run of every arm at every scale."""
    args.folder.mkdir(parents=True, exist_ok=True)
    base, arms = load_model(args.base), list(runs_of(args.arms))
    weights = weights_fingerprint(base.backbone)
    for _, _, adapter in arms:
        if read_adapter(adapter / "adapter").base_weights != weights:
            raise SystemExit(f"{adapter}: is an adapter on another state of its base than {args.base}")
    runs, copies = [(*arm, scale) for arm in arms for scale in args.scales], {}
    for name, run, adapter, scale in runs:
        copy = f"{name}-{run}-x{scale:g}"
        copies[copy] = scaled(adapter, scale, args.folder / copy)
    clips = ClipStoreConfig(
        episodes=args.drift_clips,
        windows=1,
        size_px=base.info.size_px,
        first_seed=FIRST_UNSEEN,
        world=world_of([args.base]),
    )
    drifts = Drift(base, clips, args.folder).of(copies)
    found, out = [], args.folder / "wins.json"  # one store of rows: the base makes its clips once
    with open_engine(args.workers) as engine:
        for (name, run, _, scale), (copy, folder) in zip(runs, copies.items(), strict=True):
            asked = (args.unseen, args.seed, args.seconds)
            report = evaluate_world(
                str(folder), args.base, *asked, out=out, engine=engine, players=0, observer=args.observer
            )
            found.append(Point(name, run, scale, drifts[copy], report["win_rate"]))
    return found


def draw(found: list[Point], path: Path) -> None:
    """Share of wins over the drift, one colour for each arm, one line for each run."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for colour, arm in enumerate(dict.fromkeys(point.arm for point in found)):
        for run in sorted({point.run for point in found if point.arm == arm}):
            line = sorted((p for p in found if (p.arm, p.run) == (arm, run)), key=lambda p: p.drift)
            rates = np.array([[p.wins["overall"][end] for end in ("mean", "low", "high")] for p in line])
            drifts = [p.drift for p in line]
            label = arm if run == 0 else None
            axis.plot(drifts, rates[:, 0], "o-", color=f"C{colour}", label=label)
            axis.fill_between(drifts, rates[:, 1], rates[:, 2], color=f"C{colour}", alpha=0.08, linewidth=0)
    axis.axhline(0.5, color="grey", linewidth=0.8)
    axis.set(xscale="log", xlabel="drift (mean squared change of the velocity, over the base's error)")
    axis.set(ylabel="share of clips won against the base")
    axis.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    args = arguments()
    found = points(args)
    record: list[dict[str, Any]] = [vars(point) for point in found]
    (args.folder / "equal_drift.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(found, args.folder / "equal_drift.png")
    for point in found:
        rates = "  ".join(
            f"{axis} {rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"
            for axis, rate in point.wins.items()
        )
        print(f"{point.arm} {point.run} x{point.scale:g}: drift {point.drift:.4f}  {rates}")


if __name__ == "__main__":
    main()
