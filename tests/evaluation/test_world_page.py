"""The page of a report: everything that is known is on it, and it needs nothing else."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from hallo4.evaluation.report import REFERENCE, Row, summary
from hallo4.evaluation.show.page import Player, Video, chosen_clips, page, video_url
from hallo4.evaluation.suites.world_metrics import METRICS
from hallo4.media import probe_video, read_provenance
from hallo4.types import Audio

FRAMES = 10
RANKED_BY = ("lip_sync_correlation", "ssim")


def measured(clips=8, against="<b>", lips=lambda clip: 0.5 + 0.05 * ((3 * clip) % 8)):
    """Rows of `clips` clips in which the model has better lips than the second, and all else alike."""
    plain = dict.fromkeys(METRICS, 0.5)
    rows = []
    for i in range(clips):
        rows.append(Row(str(i), REFERENCE, {"ssim": 1.0}))
        rows.append(Row(str(i), "ours", plain | {"lip_sync_correlation": lips(i)}))
        if against is not None:
            rows.append(Row(str(i), against, plain | {"lip_sync_correlation": 0.4}))
    systems = ["ours", *([against] if against is not None else [])]
    pairs = [tuple(systems)] if against is not None else []
    found = summary(METRICS, rows, systems, pairs)
    return {**found, "notes": ["said"], "version": "1"}, rows


def player(clip):
    frames = np.full((FRAMES, 32, 48, 3), 128, np.uint8)
    sound = Audio(np.zeros(FRAMES * 640, np.float32), 16_000)
    url = video_url(frames, (48, 32), sound, {"generator": "hallo4, in the portrait world"})
    curve = [0.1, None, *[0.2] * (FRAMES - 2)]
    videos = [Video(system, url, {"ssim": 0.5, "psnr_db": None}) for system in (REFERENCE, "ours", "<b>")]
    return Player(f"clip {clip}", videos, {"mouth opening": {"ours": curve, REFERENCE: curve}})


def test_tests_are_those_of_eight_clips_of_which_all_are_better():
    (pair,) = measured()[0]["pairs"]
    assert pair["p_value"]["lip_sync_correlation"] == 2 / 2**8
    assert pair["p_value"]["ssim"] == 1.0
    assert pair["p_holm"]["lip_sync_correlation"] == pytest.approx(len(METRICS) * 2 / 2**8)
    assert measured(clips=1)[0]["pairs"][0]["p_value"] == {}, "one clip says nothing"
    assert measured(against=None)[0]["pairs"] == []


def test_p_values_are_adjusted_for_all_tests_of_a_report():
    _, rows = measured(against="b")
    rows += [replace(row, system="c") for row in rows if row.system == "b"]
    found = summary(METRICS, rows, ["ours", "b", "c"], [("ours", "b"), ("ours", "c"), ("b", "c")])
    first, second, third = found["pairs"]
    assert first["p_holm"]["lip_sync_correlation"] == pytest.approx(3 * len(METRICS) * 2 / 2**8)
    assert second["p_holm"]["lip_sync_correlation"] == first["p_holm"]["lip_sync_correlation"]
    assert set(third["p_holm"].values()) == {1.0}


def test_clips_to_look_at_go_from_the_worst_to_the_best():
    found, rows = measured()
    values = {row.clip: row.values["lip_sync_correlation"] for row in rows if row.system == "ours"}
    lips = [values[clip] for clip in chosen_clips(found, rows, RANKED_BY, 3)]
    assert lips == sorted(lips)
    assert (lips[0], lips[-1]) == (0.5, pytest.approx(0.85))
    assert [len(chosen_clips(found, rows, RANKED_BY, count)) for count in (0, 1, 8, 20)] == [0, 1, 8, 8]


def test_without_lips_clips_are_ranked_by_their_pictures():
    assert len(chosen_clips(*measured(lips=lambda clip: None), RANKED_BY, 20)) == 8


def test_the_page_holds_everything_and_asks_for_nothing():
    found, rows = measured()
    text = page("A title", "A lead & more", found, rows, [player(0), player(1)])
    assert "<b>" not in re.sub(r"<b>[-\d.e]+</b>", "", text), "names are text"
    assert "&lt;b&gt;" in text
    assert "A lead &amp; more" in text
    assert all(name in text for name in METRICS)
    assert not re.search(r"(src|href)=[\"'](?!data:)", text)
    assert text.count("<video") == 6
    assert text.count("<tr><td>") >= 16, "every clip of both models has its row"
    for definition in found["definitions"].values():
        assert {"definition", "unit", "better", "axis", "source", "protocol"} == definition.keys()


def test_players_play_and_say_that_they_are_made(tmp_path):
    found, rows = measured(clips=2)
    urls = re.findall(r"data:video/mp4;base64,([^\"]+)", page("", "", found, rows, [player(0)]))
    for place, url in enumerate(urls):
        path = tmp_path / f"{place}.mp4"
        path.write_bytes(base64.b64decode(url))
        info = probe_video(path)
        assert (info.width_px, info.height_px, info.has_audio) == (48, 32, True)
        assert "hallo4" in read_provenance(path)["generator"]
    assert len(urls) == 3


def test_one_model_alone_has_no_tests_and_missing_values_are_counted():
    found, rows = measured(against=None, lips=lambda clip: None if clip < 3 else 0.5)
    text = page("", "", found, rows)
    assert "p, adjusted" not in text
    assert "n = 5 of 8" in text
    assert "<video" not in text
