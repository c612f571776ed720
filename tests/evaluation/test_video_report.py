"""The report of videos says what its numbers rest on: clips, samples, who is better and by what."""

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hallo4.evaluation import rich_table, tables_of
from hallo4.evaluation.report import REFERENCE, Row
from hallo4.evaluation.show.page import page
from hallo4.evaluation.suites.video_files import System
from hallo4.evaluation.suites.video_report import found_in


def build(own=None, features=None, **systems):
    """What a report says of rows made up: system -> values of each clip, None where its video cannot be
    read."""
    rows = []
    for i in range(len(next(iter(systems.values())))):
        given = {REFERENCE: own[i] if own else {}, **{name: column[i] for name, column in systems.items()}}
        rows += [_row(f"clip{i}", name, values) for name, values in given.items()]

    def of(system, name):
        sides = {clip: found.get(system, {}) for clip, found in (features or {}).items()}
        return {clip: found[name] for clip, found in sides.items() if name in found}

    named = [System(name, Path(name)) for name in systems]
    found = found_in(named, rows, of, unpaired=False)
    report = {**found, "problems": found["set_problems"], "references": "truth", "notes": [], "version": "1"}
    return {**report, "kind": "videos", "rows": rows, "systems": systems}


def _row(clip, system, values):
    if values is None:
        return Row(clip, system, problem="x.mp4: not a video")
    return Row(clip, system, values, facts={"file": "x.mp4", "keypoints": None, "identity_against": None})


def report_page(report):
    return page("Videos", "", report, report["rows"])


def page_row(report, name):
    """A metric's row of the summary, as cells without tags and the class of each."""
    row = rf'<tr><td title="[^"]*">{re.escape(name)}<small>(.*?)</tr>'
    found = re.search(row, report_page(report), re.DOTALL)
    cells = re.findall(r'<td class="num([^"]*)">(.*?)</td>', found.group(1), re.DOTALL)
    return [(kind.strip(), re.sub("<[^>]*>", " ", text)) for kind, text in cells]


def best(report, name):
    """The system that the page marks, None where it marks none."""
    marked = [
        system
        for system, (kind, _) in zip(report["systems"], page_row(report, name), strict=False)
        if kind == "best"
    ]
    return marked[0] if marked else None


def terminal(report):
    console = Console(file=io.StringIO(), width=300)
    console.print(rich_table(*tables_of(report)))
    return console.file.getvalue()


def expressions(rng, clips, frames=30, width=4, shift=0.0):
    return {f"clip{i}": {"expression": rng.normal(shift, 1, (frames, width))} for i in range(clips)}


def features_of(**sides):
    clips = {clip for side in sides.values() for clip in side}
    return {clip: {side: found[clip] for side, found in sides.items() if clip in found} for clip in clips}


# ---------------------------------------------------------------------- metrics of whole sets


def test_sets_of_other_sizes_have_no_best_and_every_set_says_its_size():
    rng = np.random.default_rng(0)
    reference = expressions(rng, 4)
    values = [{"ssim": 0.5}] * 4
    few = features_of(reference=reference, near=expressions(rng, 3), far=expressions(rng, 4, shift=3))
    report = build(near=values, far=values, features=few)
    assert report["sets"]["near"]["e_fid[file]"]["mean"] < report["sets"]["far"]["e_fid[file]"]["mean"]
    assert best(report, "e_fid[file]") is None
    (_, near), (_, far), *_ = page_row(report, "e_fid[file]")
    assert "n = 3 of 4" in near
    assert "90 samples against 90" in near
    assert "n = 4 " in far
    assert "120 samples against 120" in far
    assert "(n=3)" in next(line for line in terminal(report).splitlines() if "e_fid[file]" in line)

    many = features_of(reference=reference, near=expressions(rng, 4), far=expressions(rng, 4, shift=3))
    assert best(build(near=values, far=values, features=many), "e_fid[file]") == "near"
    short = features_of(reference=reference, near=expressions(rng, 4, 20), far=expressions(rng, 4, shift=3))
    assert best(build(near=values, far=values, features=short), "e_fid[file]") is None


def test_a_set_metric_that_failed_is_a_problem_that_the_page_and_the_table_name():
    rng = np.random.default_rng(0)
    features = features_of(reference=expressions(rng, 3), ours=expressions(rng, 3, width=5))
    report = build(ours=[{"ssim": 0.5}] * 3, features=features)
    (problem,) = report["problems"]
    assert (problem["clip"], problem["system"]) == ("e_fid[file]", "ours")
    assert "vectors of different width (4, 5)" in problem["what"]
    assert "vectors of different width (4, 5)" in report_page(report)
    assert "failed" in page_row(report, "e_fid[file]")[0][1]
    assert "failed" in next(line for line in terminal(report).splitlines() if "e_fid[file]" in line)


# ---------------------------------------------------------------------- clips that drop out


def test_a_mean_over_fewer_clips_says_so_and_clips_that_cannot_be_read_are_counted():
    known, blind = {"ssim": 0.5, "csim": 0.5}, {"ssim": 0.5, "csim": None}
    report = build(ours=[known, known, blind, None], own=[{"sync_c": 3.0}] * 3 + [{}])
    assert report["undefined"]["ours"]["csim"] == 1
    assert report["unmeasured"] == {"ours": 1, REFERENCE: 1}
    assert "n = 3 of 4" in page_row(report, "ssim")[0][1]
    assert "n = 2 of 4" in page_row(report, "csim")[0][1]
    text = report_page(report)
    assert "<th>ours<small>3 of 4 clips measured</small></th>" in text
    lines = terminal(report).splitlines()
    assert "ours (3 of 4 clips)" in " ".join(lines)
    assert "(n=3)" in next(line for line in lines if " ssim " in line)
    assert "(n=2)" in next(line for line in lines if " csim " in line)


def test_nothing_is_said_of_clips_that_all_count():
    report = build(ours=[{"ssim": 0.4}, {"ssim": 0.5}, {"ssim": 0.6}], own=[{"face_found_rate": 1.0}] * 3)
    assert report["unmeasured"] == {"ours": 0, REFERENCE: 0}
    assert "n =" not in page_row(report, "ssim")[0][1]
    assert "clips measured" not in report_page(report)
    assert "(n=3)" not in terminal(report)


# ---------------------------------------------------------------------- who is better


def test_the_best_has_the_best_mean_score_not_the_score_of_its_mean():
    unsteady, steady = [0.5, 1.5, 0.5, 1.5], [0.8] * 4
    report = build(
        unsteady=[{"sharpness_ratio": v} for v in unsteady], steady=[{"sharpness_ratio": v} for v in steady]
    )
    assert report["metrics"]["unsteady"]["sharpness_ratio"]["mean"] == pytest.approx(1)
    assert best(report, "sharpness_ratio") == "steady"

    own = [{"subject_dynamics": v} for v in (0.0, 10.0)]
    report = build(
        same=[{"subject_dynamics": 5.0}] * 2, near=[{"subject_dynamics": v} for v in (1.0, 12.0)], own=own
    )
    assert best(report, "subject_dynamics") == "near", "each clip has its own reference"


def test_means_over_other_clips_have_no_best():
    ours, theirs = [{"ssim": 0.9}, {"ssim": None}, {"ssim": 0.9}], [{"ssim": 0.5}] * 3
    assert best(build(ours=ours, theirs=theirs), "ssim") is None
    assert best(build(ours=[{"ssim": 0.9}] * 3, theirs=theirs), "ssim") == "ours"
    other_two = [{"ssim": None}, {"ssim": 0.5}, {"ssim": 0.5}]
    assert best(build(ours=ours, theirs=other_two), "ssim") is None, "as many clips, but others"


def test_where_a_metric_has_a_goal_the_difference_in_distance_stands_beside_p():
    clips = 8
    own = [{"subject_dynamics": 10.0}] * clips
    ours = [{"subject_dynamics": 15.0 + 0.1 * i, "ssim": 0.9, "sharpness_ratio": 2.0} for i in range(clips)]
    theirs = [{"subject_dynamics": 9.0 + 0.1 * i, "ssim": 0.8, "sharpness_ratio": 0.8} for i in range(clips)]
    report = build(ours=ours, theirs=theirs, own=own)
    (pair,) = report["pairs"]
    assert pair["difference"]["subject_dynamics"]["mean"] == pytest.approx(6)
    nearer = pair["goal_difference"]["subject_dynamics"]
    distances = [abs(-1 + 0.1 * i) - (5 + 0.1 * i) for i in range(clips)]
    assert nearer["mean"] == pytest.approx(np.mean(distances))
    assert nearer["low"] <= nearer["mean"] <= nearer["high"] < 0, "larger, and further from the reference"
    assert pair["p_value"]["subject_dynamics"] == 2 / 2**clips
    assert pair["goal_difference"]["sharpness_ratio"]["mean"] == pytest.approx(math.log(1.25) - math.log(2))
    assert "ssim" not in pair["goal_difference"]
    text = report_page(report)
    (line,) = re.findall(r"<tr[^>]*><td>subject_dynamics</td>.*?</tr>", text, re.DOTALL)
    cells = re.findall(r'<td class="num">(.*?)(?:<small>|</td>)', line)
    assert cells[:2] == ["6", f"{nearer['mean']:.3g}"]
    (line,) = re.findall(r"<tr[^>]*><td>ssim</td>.*?</tr>", text, re.DOTALL)
    assert '<td class="num"></td>' in line
