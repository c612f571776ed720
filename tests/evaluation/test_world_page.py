"""The page of an evaluation in the world: everything that is known is on it, and it needs nothing else."""

import base64
import re

import numpy as np
import pytest

from hallo4.evaluation.report import build_report
from hallo4.evaluation.world_metrics import METRICS
from hallo4.evaluation.world_page import Shown, chosen_rows, world_page
from hallo4.media import probe_video, read_provenance
from hallo4.types import Audio

FRAMES = 10


def report(clips=8, against="<b>", lips=lambda clip: 0.5 + 0.05 * ((3 * clip) % 8)):
    """Of `clips` clips in which the model has better lips than the second, and all else alike."""

    def values(lip_sync):
        return dict.fromkeys(METRICS, 0.5) | {"lip_sync_correlation": lip_sync}

    curve = [0.1] * FRAMES
    rows = [
        {
            "clip": i, "episode_seed": 100 + i, "frames": FRAMES, "instrument": {"ssim": 1.0},
            "curves": {"true": curve, "instrument": curve, "model": curve, "against": curve},
            "model": values(lips(i)), "against": values(0.4),
        }
        for i in range(clips)
    ]  # fmt: skip
    settings = {
        "model": "ours",
        "against": against,
        "episodes": clips,
        "seed": 3,
        "seconds": 0.4,
        "tempo": 1.0,
    }
    return build_report(settings, rows)


def shown(row):
    grey = np.full((FRAMES, 32, 48, 3), 128, np.uint8)
    sound = Audio(np.zeros(FRAMES * 640, np.float32), 16_000)
    return Shown(row, sound, {"truth": grey, "model": grey, "against": grey})


def test_tests_are_those_of_eight_clips_of_which_all_are_better():
    of = report()
    assert of["p_value"]["lip_sync_correlation"] == 2 / 2**8
    assert of["p_value"]["ssim"] == 1.0
    assert of["p_holm"]["lip_sync_correlation"] == pytest.approx(len(METRICS) * 2 / 2**8)
    assert report(clips=1)["p_value"] == {}, "one clip says nothing"
    assert "p_value" not in report(against=None)


def test_clips_to_look_at_go_from_the_worst_to_the_best():
    of = report()
    lips = [row["model"]["lip_sync_correlation"] for row in chosen_rows(of, 3)]
    assert lips == sorted(lips)
    assert (lips[0], lips[-1]) == (0.5, pytest.approx(0.85))
    assert [len(chosen_rows(of, count)) for count in (0, 1, 8, 20)] == [0, 1, 8, 8]


def test_without_lips_clips_are_ranked_by_their_pictures():
    silent = report(lips=lambda clip: None)
    assert len(chosen_rows(silent, 20)) == 8


def test_the_page_holds_everything_and_asks_for_nothing():
    of = report()
    page = world_page(of, [shown(row) for row in chosen_rows(of, 2)])
    assert "<b>" not in re.sub(r"<b>[-\d.e]+</b>", "", page), "names are text"
    assert "&lt;b&gt;" in page
    assert all(name in page for name in METRICS)
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert page.count("<video") == 6
    assert page.count("<tr><td>") >= 16, "every clip of both models has its row"
    for definition in of["definitions"].values():
        assert {"definition", "unit", "better", "source", "protocol"} == definition.keys()


def test_players_play_and_say_that_they_are_made(tmp_path):
    of = report(clips=2)
    page = world_page(of, [shown(of["rows"][0])])
    urls = re.findall(r"data:video/mp4;base64,([^\"]+)", page)
    for place, url in enumerate(urls):
        path = tmp_path / f"{place}.mp4"
        path.write_bytes(base64.b64decode(url))
        info = probe_video(path)
        assert (info.width_px, info.height_px, info.has_audio) == (48, 32, True)
        assert "hallo4" in read_provenance(path)["generator"]
    assert len(urls) == 3


def test_one_model_alone_has_no_tests_and_missing_values_are_counted():
    of = report(against=None, lips=lambda clip: None if clip < 3 else 0.5)
    page = world_page(of, [])
    assert "p, adjusted" not in page
    assert "n = 5 of 8" in page
    assert "<video" not in page
