"""The words of `hallo4 prefer ...`: what each command takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from hallo4.cli.options import RayOption, WorkersOption, WorldOption
from hallo4.ranges import (
    Alpha,
    Deviation,
    Episodes,
    Guidance,
    HeldOut,
    Points,
    Port,
    Pull,
    Raters,
    Seconds,
    Seed,
    Share,
    SidePx,
    Steps,
    Whole,
    Workers,
)

Store = Annotated[Positional[Path], arg(metavar="STORE")]


@dataclass(frozen=True)
class Candidates:
    """Make candidate clips in STORE (a folder, made if it is not there), or register videos of others.

    Without --portrait the conditions are episodes of the portrait world that no model has seen.
    """

    store: Store
    """the folder of the preference store"""
    models: Annotated[tuple[str, ...], arg(name="model", metavar="NAME_OR_DIR ...")] = ("tiny-dit",)
    """models or checkpoints; `truth` is the rendered world"""
    seeds: Annotated[Episodes, arg(metavar="N")] = 4
    """takes per model and guidance scale"""
    first_seed: Annotated[Seed, arg(metavar="N")] = 0
    """seed of the first take"""
    guidance_scales: Annotated[
        tuple[Guidance, ...],
        arg(name="guidance-scale", metavar="X ...", help_behavior_hint="(default: the model's)"),
    ] = ()
    """one take of each seed per scale"""
    steps: Annotated[Steps | None, arg(metavar="N", help_behavior_hint="(default: the model's)")] = None
    """denoising steps"""
    episodes: Annotated[Episodes, arg(metavar="N")] = 10
    """how many conditions of the portrait world"""
    first_episode: Annotated[Whole, arg(metavar="N")] = 0
    """the first of them"""
    seconds: Annotated[Seconds, arg(metavar="S")] = 3.2
    """how long they last"""
    size_px: Annotated[SidePx, arg(metavar="N")] = 128
    """side of their square frames"""
    world: WorldOption = None
    """in which portrait world they are rendered"""
    workers: WorkersOption = None
    """processes that share the work"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see STORE under this path"""
    gold: Annotated[Whole, arg(metavar="N")] = 0
    """also this many gold questions: a clip beside a spoilt copy"""
    portrait: Annotated[Path | None, arg(metavar="IMAGE", help_behavior_hint="(default: the world)")] = None
    """a condition of your own: the picture"""
    audio: Annotated[Path | None, arg(metavar="AUDIO", help_behavior_hint="(with --portrait)")] = None
    """the speech"""
    motion: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: idle motion)")] = None
    """the skeleton: a keypoints file"""
    identity: Annotated[str | None, arg(metavar="ID", help_behavior_hint="(default: the picture)")] = None
    """who it is, where there are several pictures of a person"""
    condition: Annotated[str | None, arg(metavar="ID", help_behavior_hint="(with --video)")] = None
    """the condition that a video was made for"""
    video: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: generate)")] = None
    """register this video instead of making clips"""
    system: Annotated[str, arg(metavar="NAME")] = "other"
    """who made the video"""
    consent: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="(with --video)")] = None
    """on what ground the person in the video may be shown"""


@dataclass(frozen=True)
class Score:
    """Score every clip of STORE on both axes with the instrument of the evaluation."""

    store: Store
    """the folder of the preference store"""
    workers: WorkersOption = None
    """processes that share the work"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see STORE under this path"""


@dataclass(frozen=True)
class Annotate:
    """Open the rating page of STORE, or of several. Stop it with Ctrl-C: every answer is kept."""

    stores: Annotated[Positional[tuple[Path, ...]], arg(metavar="STORE ...", help_behavior_hint="(required)")]
    """the folders of the preference stores"""
    study: Annotated[
        Path | None, arg(metavar="STUDY.toml", help_behavior_hint="(default: two questions, three raters)")
    ] = None
    """what is asked, of whom and under which terms; see docs/run_a_study.md"""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """who can reach it: 127.0.0.1 is this machine alone, 0.0.0.0 everybody in the network"""
    port: Annotated[Port, arg(metavar="N")] = 8421
    """the port; 0 takes any"""
    public_url: Annotated[
        str | None, arg(metavar="URL", help_behavior_hint="(default: host and port, no proxy)")
    ] = None
    """address that raters open, where a proxy stands in front: for links, and paths that it leaves on"""
    seed: Annotated[Seed, arg(metavar="N")] = 0
    """decides order and sides"""
    workers: Annotated[Workers, arg(metavar="N")] = 1
    """processes that encode the clips beforehand"""


@dataclass(frozen=True)
class RatersOf:
    """Show the raters of STORE: checks, agreement, pace; exclude them, delete their answers, write sheets."""

    store: Store
    """the folder of the preference store"""
    exclude: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="(default: none)")] = ()
    """raters whose answers are not to count"""
    below_gold: Annotated[Share | None, arg(metavar="X", help_behavior_hint="(default: no one)")] = None
    """exclude all whose share of gold questions answered rightly is lower, of two or more"""
    reason: Annotated[str, arg(metavar="TEXT")] = "excluded by the organiser"
    """why, for the report"""
    include: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="(default: none)")] = ()
    """excluded raters whose answers are to count again"""
    delete: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="(default: none)")] = ()
    """raters whose answers, and all else that is kept of them, are deleted for good"""
    payment: Annotated[Path | None, arg(metavar="FILE.csv", help_behavior_hint="(default: none)")] = None
    """write a row per rater: platform identifiers, answers, minutes, checks, completion code"""
    answers: Annotated[Path | None, arg(metavar="FILE.csv", help_behavior_hint="(default: none)")] = None
    """write a row per answer"""


@dataclass(frozen=True)
class Pairs:
    """Make training pairs from the ratings, audit them, and write them into STORE."""

    store: Store
    """the folder of the preference store"""
    evidence: Literal["comparisons", "bradley_terry", "scores", "machine"] = "comparisons"
    """ratings of two clips, strengths fitted to those, ratings of single clips, or machine scores"""
    min_raters: Annotated[Raters, arg(metavar="N")] = 3
    """fewest raters on each axis"""
    axis: Literal["both", "alignment", "fidelity"] = "both"
    """what counts: with one axis, ratings of the other are not looked at"""
    min_gap: Annotated[Points, arg(metavar="X")] = 1.5
    """smallest difference on the scale of 1 to 5, mean of the axes that count"""
    any_axis: Annotated[bool, FlagCreatePairsOff] = False
    """let the winner be worse on one axis"""
    max_motion_difference: Annotated[Share, arg(metavar="X")] = 0.2
    """largest difference of the motion amplitudes, of the larger; 1 is any"""
    choose: Literal["widest", "all"] = "widest"
    """of each condition the pair with the largest gap, or all"""
    weights: Literal["none", "gap"] = "none"
    """weigh pairs by their gap"""
    held_out: Annotated[HeldOut, arg(metavar="X")] = 0.1
    """share of pairs with people and speeches that training never sees"""
    seed: Annotated[Seed, arg(metavar="N")] = 0
    """decides who is held out"""
    min_gold: Annotated[Share, arg(metavar="X")] = 0.8
    """leave out raters with a smaller share of gold answers right, of two or more; 0 keeps all"""
    exclude_rater: Annotated[
        tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="(default: none)")
    ] = ()
    """leave these raters out too, beside those that `prefer raters` excluded"""
    min_alpha: Annotated[Alpha, arg(metavar="X")] = 0.4
    """refuse to write pairs where raters agree less (Krippendorff's alpha, each question); -1 is any"""
    allow_source_shortcut: Annotated[bool, FlagCreatePairsOff] = False
    """write the pairs even if the source of a clip predicts the winner"""


@dataclass(frozen=True)
class Ship:
    """May a new model take the old one's place? By people's answers, motion and, if given, two reports.

    The exit code is 0 if it may and 1 if it may not.
    """

    store: Store
    """the folder of the preference store"""
    new: Annotated[Positional[str], arg(metavar="NEW")]
    """the source of the new clips, as `prefer report` names it"""
    old: Annotated[Positional[str], arg(metavar="OLD")]
    """the source of the old ones"""
    reports: Annotated[
        tuple[Path, Path] | None,
        arg(metavar="NEW.json OLD.json", help_behavior_hint="(default: people only)"),
    ] = None
    """reports of `hallo4 evaluate` of both, for sync, identity and Frechet distances"""
    min_gold: Annotated[Share, arg(metavar="X")] = 0.8
    """leave out raters with a smaller share of gold answers right"""


@dataclass(frozen=True)
class Report:
    """Say how far the raters agree, who wins, and what the pairs might teach by mistake."""

    store: Store
    """the folder of the preference store"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a picture is put beside it"""


@dataclass(frozen=True)
class Import:
    """Add preference data of others to STORE (made if it is not there)."""

    store: Store
    """the folder of the preference store"""
    source: Annotated[Positional[Path], arg(metavar="FILE")]
    """data.csv of videoreward, a .parquet of pickapic, or the folder of a parquet or jsonl export"""
    format: Literal["videoreward", "pickapic", "parquet", "jsonl"] = "videoreward"
    """what it is"""


@dataclass(frozen=True)
class Export:
    """Write STORE in a format of others."""

    store: Store
    """the folder of the preference store"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="PATH")]
    """a folder (videoreward, parquet, jsonl) or a .parquet file (pickapic)"""
    format: Literal["videoreward", "pickapic", "parquet", "jsonl"] = "videoreward"
    """which format"""


@dataclass(frozen=True)
class Upgrade:
    """Take over STORE, kept as JSON lines by an older hallo4, in place; its old files move into `older/`."""

    store: Store
    """the folder of the preference store"""


@dataclass(frozen=True)
class Simulate:
    """Add the answers of simulated raters, marked as such: to try the tools, not to learn about people."""

    store: Store
    """the folder of the preference store"""
    raters: Annotated[Raters, arg(metavar="N")] = 3
    """how many"""
    kind: Literal["comparison", "score"] = "comparison"
    """what they do"""
    noise: Annotated[tuple[Deviation, Deviation], arg(metavar="A F")] = (0.6, 0.8)
    """standard deviation of an answer on alignment and fidelity, in points"""
    rater_bias: Annotated[Deviation, arg(metavar="X")] = 0.3
    """standard deviation between raters, in points"""
    left_pull: Annotated[Pull, arg(metavar="X")] = 0.0
    """how much better the left side looks to all of them, in points"""
    seed: Annotated[Seed, arg(metavar="N")] = 0
    """which raters"""


COMMANDS: dict[str, type] = {
    "candidates": Candidates,
    "score": Score,
    "annotate": Annotate,
    "raters": RatersOf,
    "pairs": Pairs,
    "ship": Ship,
    "report": Report,
    "import": Import,
    "export": Export,
    "upgrade": Upgrade,
    "simulate": Simulate,
}
"""The word after `hallo4 prefer` -> its options."""
