"""The stages of preparation on their own: cuts, speech, sharpness, filters, what is kept by content."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from hallo4.data.clip_look import face_boxes, hands_seen, sharpness
from hallo4.data.filters import ClipFilters, reasons_against
from hallo4.data.latents import region_cells
from hallo4.data.observe import find_cuts
from hallo4.data.sources import read_sources, video_files
from hallo4.data.speech import covered, speech_method, speech_spans
from hallo4.data.stages import Findings, FindingsStore, content_key
from hallo4.errors import InputError, MissingExtraError, NoPersonError
from hallo4.media import load_audio
from hallo4.motion import layout
from hallo4.training.order import grouped_batch_indices
from hallo4.types import Audio


def test_a_jump_among_small_changes_is_a_cut_and_a_pan_is_not():
    calm = np.full(60, 1.5)
    calm[0] = 0
    jump, pan = calm.copy(), calm.copy()
    jump[30], pan[20:40] = 25, 25
    nothing_unlike = np.zeros(60, bool)
    assert find_cuts(jump, nothing_unlike) == [30]
    assert find_cuts(pan, nothing_unlike) == []
    assert find_cuts(np.zeros(60), nothing_unlike) == []
    unlike = nothing_unlike.copy()
    unlike[30] = True
    assert find_cuts(np.where(unlike, 7.0, calm), unlike) == [30], "another scene of nearly the same colours"


def tone_and_silence(seconds=(1.0, 2.0, 3.0)) -> Audio:
    time_s = np.arange(round(sum(seconds) * 16000)) / 16000
    loud = (time_s >= seconds[0]) & (time_s < seconds[0] + seconds[1])
    return Audio((0.3 * np.sin(2 * np.pi * 220 * time_s) * loud).astype(np.float32), 16000)


def test_energy_finds_where_it_is_loud_also_over_the_minute():
    assert speech_spans(tone_and_silence(), "energy") == [pytest.approx((1.0, 3.0))]
    spans = speech_spans(tone_and_silence((59.0, 2.0, 3.0)), "energy")
    assert spans == [pytest.approx((59.0, 60.0)), pytest.approx((60.0, 61.0))]
    assert speech_spans(Audio(np.zeros(16000, np.float32), 16000), "energy") == []
    assert speech_spans(Audio(np.zeros(5, np.float32), 16000), "energy") == []
    assert covered(spans, 58.0, 62.0) == pytest.approx(0.5)


def test_silero_tells_speech_from_noise():
    pytest.importorskip("silero_vad", reason="needs pip install 'hallo4[data]'")
    speech = load_audio("demo/speech.wav", 16000)
    spans = speech_spans(speech, "silero")
    assert covered(spans, 0, speech.duration_s) > 0.5
    noise = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
    assert speech_spans(Audio(noise, 16000), "silero") == []
    assert covered(speech_spans(Audio(noise, 16000), "energy"), 0, 3) > 0.9, "which loudness cannot"


def test_silero_is_asked_for_by_name_only_where_it_is(monkeypatch):
    monkeypatch.setattr("hallo4.data.speech.find_spec", lambda name: None)
    assert speech_method("auto") == "energy"
    with pytest.raises(MissingExtraError, match=r"hallo4\[data\]"):
        speech_method("silero")


def test_sharpness_falls_with_blur_and_not_with_contrast_or_size():
    face = Image.open("demo/portrait.png").convert("RGB").resize((64, 64), Image.Resampling.BOX)
    values = [sharpness(np.asarray(face.filter(ImageFilter.GaussianBlur(sigma)))) for sigma in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 5 * values[3]
    faint = (np.asarray(face) * 0.5 + 60).astype(np.uint8)
    assert sharpness(faint) == pytest.approx(values[0], rel=0.15)
    larger = np.asarray(face.resize((256, 256), Image.Resampling.NEAREST))
    assert sharpness(larger) == pytest.approx(values[0], rel=0.01)
    assert sharpness(np.full((9, 9, 3), 7, np.uint8)) == 0


def test_faces_and_hands_count_where_their_points_are_seen():
    points, confidence = np.zeros((3, 133, 2), np.float32), np.zeros((3, 133), np.float32)
    points[:, layout.FACE] = np.linspace((10, 20), (40, 60), 68)
    points[:, layout.LEFT_HAND] = (50, 50)
    confidence[:2, layout.FACE] = 1
    confidence[0, layout.LEFT_HAND] = 1
    confidence[1, layout.RIGHT_HAND.start : layout.RIGHT_HAND.start + 5] = 1
    boxes = face_boxes(points, confidence)
    assert boxes[:2].tolist() == [[10, 20, 40, 60]] * 2
    assert np.isnan(boxes[2]).all()
    assert hands_seen(points, confidence, (64, 64)).tolist() == [True, False, False]
    assert hands_seen(points, confidence, (49, 64)).tolist() == [False, False, False]


def test_points_that_are_not_seen_make_no_region():
    points, seen = np.full((5, 133, 2), 4.0, np.float32), np.zeros((5, 133), bool)
    assert not region_cells(points, 64, 64, 8, 4, seen).any()
    points[3, layout.MOUTH.start] = (40, 40)
    seen[3, layout.MOUTH.start] = True
    cells = region_cells(points, 64, 64, 8, 4, seen)
    assert torch.nonzero(cells).tolist() == [[0, 1, y, x] for y in (4, 5) for x in (4, 5)]


GOOD = {
    "speech_share": 0.9, "level": 100.0, "change": 1.0, "found_share": 1.0, "face_px": 40.0, "sharpness": 0.5,
    "cut": False, "people": 1, "hands_share": 0.7, "sync_confidence": None,
}  # fmt: skip
INFO = {"has_audio": True, "fps": 25.0}


@pytest.mark.parametrize(
    ("clip", "info", "filters", "reasons"),
    [
        ({}, {}, {}, []),
        ({}, {"has_audio": False}, {}, ["no sound"]),
        ({"speech_share": 0.2}, {}, {}, ["little speech"]),
        ({"sync_confidence": 2.9}, {}, {"min_sync_confidence": 3.0}, ["lips out of sync"]),
        ({"sync_confidence": 3.0}, {}, {"min_sync_confidence": 3.0}, []),
        ({}, {"fps": 12.0}, {}, ["few frames a second"]),
        ({"level": 3.0, "change": 0.0}, {}, {}, ["dark", "still picture"]),
        ({"found_share": 0.5}, {}, {}, ["face not seen"]),
        ({"found_share": 0.0, "face_px": 0.0, "sharpness": 0.0}, {}, {"min_found": 0}, ["face not seen"]),
        ({"face_px": 9.0, "sharpness": 0.05}, {}, {}, ["small face", "blurred face"]),
        ({"cut": True}, {}, {}, ["cut"]),
        ({"people": 3}, {}, {}, ["several people"]),
        ({"people": 3}, {}, {"people": "any"}, []),
        ({"people": None}, {}, {}, []),
        ({"hands_share": 0.4}, {}, {"hands": "seen"}, ["hands not in view"]),
        ({"hands_share": 0.4}, {}, {"hands": "unseen"}, ["hands in view"]),
    ],
)
def test_filters_name_every_reason(clip, info, filters, reasons):
    against = reasons_against(GOOD | clip, INFO | info, ClipFilters(**filters))
    assert [reason for reason, _ in against] == reasons


@pytest.mark.parametrize("wrong", [{"min_found": 1.1}, {"min_face_px": -1}, {"min_level": float("nan")}])
def test_filters_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ClipFilters(**wrong)


def test_findings_are_computed_once_and_errors_of_the_user_are_findings(tmp_path):
    store, calls = FindingsStore(tmp_path), []

    def make() -> Findings:
        calls.append(1)
        return Findings({"a": [1, None, "x"]}, {"b": np.arange(3)})

    def fail() -> Findings:
        calls.append(1)
        raise NoPersonError("no person")

    for _ in range(2):
        found = store.get("look", "0" * 40, make)
        assert found.values == {"a": [1, None, "x"]}
        assert found.arrays["b"].tolist() == [0, 1, 2]
        with pytest.raises(NoPersonError, match="no person"):
            store.get("look", "1" * 40, fail)
    assert (len(calls), store.made) == (2, {"look": 2})
    file = next(tmp_path.rglob("0*.npz"))
    file.write_bytes(file.read_bytes()[:50])
    store.get("look", "0" * 40, make)
    assert len(calls) == 3, "a damaged file is made again"


def test_a_key_changes_with_everything_that_decides():
    keys = [content_key("a", 1, {"x": 1}), content_key("b", 1, {"x": 1}), content_key("a", 2, {"x": 1})]
    assert len({*keys, content_key("a", 1, {"x": 2}), content_key("a", 1, {"x": 1, "y": None})}) == 5
    assert content_key("a", 1, {"x": 1, "y": 2}) == content_key("a", 1, {"y": 2, "x": 1})


def test_sources_are_found_in_folders_and_hashed_once(tmp_path, monkeypatch):
    for name in ("b/two.mp4", "one.MOV", ".hidden.mp4", "b/.cache/three.mp4", "text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(name.encode())
    files = video_files([tmp_path, tmp_path / "one.MOV"])
    assert [file.name for file in files] == ["two.mp4", "one.MOV"]
    (tmp_path / "b" / "two.prompt.txt").write_text(" A person. \n")
    sources, problems = read_sources(files, tmp_path / "hashes.json")
    assert problems == []
    assert sources[0].prompt == "A person."
    monkeypatch.setattr("hallo4.data.sources.file_sha256", lambda path: "again")
    assert read_sources(files, tmp_path / "hashes.json")[0] == sources
    files[0].write_bytes(b"longer than before")
    assert [s.sha256 for s in read_sources(files, tmp_path / "hashes.json")[0]] == [
        "again",
        sources[1].sha256,
    ]
    with pytest.raises(InputError, match="holds no video"):
        video_files([_empty(tmp_path)])
    with pytest.raises(InputError, match="no such file"):
        video_files([tmp_path / "nothing.mp4"])


def _empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def test_groups_take_turns_and_every_sample_is_used_in_a_round():
    groups = [torch.tensor([0, 2, 4, 6, 8, 10]), torch.tensor([1, 3])]
    for turn in range(3):
        batches = [grouped_batch_indices(groups, 2, 7, 4 * turn + k) for k in range(4)]
        assert sorted(torch.cat(batches).tolist()) == [0, 1, 2, 3, 4, 6, 8, 10]
        assert all(len({int(i) % 2 for i in batch}) == 1 for batch in batches)
    rounds = [
        [int(grouped_batch_indices(groups, 2, 7, 4 * t + k)[0]) % 2 for k in range(4)] for t in range(8)
    ]
    assert len({tuple(kinds) for kinds in rounds}) > 1, "in another order each time"
