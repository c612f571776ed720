"""Clips whose lips and sound do not fit, by SyncNet: its confidence is right, and its limit drops clips."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from talking_videos import acted, film, talking

pytest.importorskip("pyarrow", reason="the index is Parquet: pip install 'hallo4[data]'")

from hallo4.cli import main
from hallo4.data import ClipFilters, PrepareSettings, prepare_videos
from hallo4.data.contact_sheet import table_of
from hallo4.data.prepare import syncnet_file
from hallo4.errors import InputError
from hallo4.media import load_audio, read_frames
from hallo4.sync import FaceCropper, face_boxes
from hallo4.sync.cepstra import syncnet_mfcc
from hallo4.sync.network import SyncNet, read_syncnet
from hallo4.types import Audio, Skeleton

FRAMES = 13
LIMIT = 1e-9
"""Asks SyncNet and drops nothing."""
LAX = ClipFilters(min_face_px=4, min_sharpness=0.0, min_speech=0.0, min_sync_confidence=LIMIT)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """SyncNet at random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("syncnet") / "random.safetensors"
    save_file(SyncNet().state_dict(), path)
    return path


@pytest.fixture
def settings(tiny_model_folder, weights):
    return PrepareSettings(
        str(tiny_model_folder), FRAMES, filters=LAX, speech="energy", syncnet=weights, device="cpu"
    )


@torch.no_grad()
def confidence_slowly(path, skeleton: Skeleton, start: int, network) -> float:
    """Window by window, of the clip from frame `start` on; beyond the ends of the sound is silence."""
    span = slice(start, start + FRAMES)
    parts = skeleton.points_px[span], skeleton.confidence[span]
    cropper = FaceCropper(face_boxes(Skeleton(*parts, 25.0, skeleton.width_px, skeleton.height_px)))
    frames_u8 = list(read_frames(path, 25.0))[span]
    crops = np.stack([cropper(t, frame) for t, frame in enumerate(frames_u8)])[..., ::-1].copy()
    pictures = torch.from_numpy(crops).permute(3, 0, 1, 2).float()
    samples = np.pad(load_audio(path, 16_000).samples, (16_000, 32_000))  # a second before
    distances = np.empty((FRAMES - 4, 31))
    for i in range(FRAMES - 4):
        seen = network.embed_faces(pictures[None, :, i : i + 5])[0]
        for shift in range(-15, 16):
            at = 16_000 + 640 * (start + i + shift)
            cepstra = syncnet_mfcc(Audio(samples[at - 160 : at + 640 * 6], 16_000))[1:21]
            heard = network.embed_sound(torch.from_numpy(cepstra.T).float()[None, None])[0]
            distances[i, shift + 15] = (seen - heard + 1e-6).norm()
    curve = distances.mean(axis=0)
    return float(np.median(curve) - curve.min())


def test_the_confidence_of_a_clip_is_that_of_its_windows_among_the_sound_around_it(
    tmp_path, quick_world, settings, weights
):
    frames_u8, skeleton, audio = acted(quick_world, 3, 42)
    path = film(tmp_path / "person.mp4", frames_u8, audio, skeleton)
    rows = prepare_videos([path], tmp_path / "shards", settings).rows
    assert [row.kept for row in rows] == [True] * 3
    network = read_syncnet(weights)
    for row in rows:
        slowly = confidence_slowly(path, skeleton, round(row.start_s * 25), network)
        assert row.sync_confidence == pytest.approx(slowly, rel=2e-2)
        assert -15 <= row.sync_offset <= 15
    assert len({row.sync_confidence for row in rows}) == 3


def test_a_limit_drops_what_lies_below_and_measures_nothing_again(tmp_path, quick_world, settings):
    for seed in (3, 4):
        talking(quick_world, tmp_path / "videos" / f"person{seed}.mp4", seed, 30)
    frames_u8, skeleton, _ = acted(quick_world, 5, 30)
    film(tmp_path / "videos" / "silent.mp4", frames_u8, None, skeleton)
    first = prepare_videos([tmp_path / "videos"], tmp_path / "shards", settings)
    assert first.made["sync"] == 2
    values = sorted(row.sync_confidence for row in first.rows if row.kept)
    assert len(values) == 4
    limit = (values[1] + values[2]) / 2
    stricter = replace(settings, filters=replace(LAX, min_sync_confidence=limit))
    second = prepare_videos([tmp_path / "videos"], tmp_path / "shards", stricter)
    assert second.made == Counter()
    assert sorted(row.sync_confidence for row in second.rows if row.kept) == values[2:]
    dropped = [row for row in second.rows if row.reasons == "lips out of sync"]
    assert sorted(row.sync_confidence for row in dropped) == values[:2]
    assert all(f"wanted {limit:g}" in row.found for row in dropped)
    assert ("lips out of sync", "2", "1.0", "") in table_of(second.rows)
    silent = [row for row in second.rows if row.source.endswith("silent.mp4")]
    assert {(row.reasons, row.sync_confidence) for row in silent} == {("no sound", None)}
    without = replace(settings, filters=replace(LAX, min_sync_confidence=0.0), syncnet=None)
    third = prepare_videos([tmp_path / "videos"], tmp_path / "shards", without)
    assert third.made == Counter()
    assert [row.sync_confidence for row in third.rows if row.kept] == [None] * 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-sync-confidence", "3", "--syncnet", "nowhere.model"], "nowhere.model: found nothing"),
        (["--min-sync-confidence", "3", "--syncnet", "{other}"], "does not fit SyncNet"),
        (["--syncnet", "{other}"], "no filter uses SyncNet; set one, such as"),
        (["--min-sync-confidence", "-1"], "min-sync-confidence"),
        (["--min-sync-confidence", "3"], "needs the weights syncnet_v2.model"),
    ],
)
def test_what_cannot_be_asked_is_one_line_before_any_work(
    tmp_path, words, said, tiny_model_folder, quick_world, capsys, monkeypatch
):
    monkeypatch.setenv("HALLO4_WEIGHTS", str(tmp_path / "weights"))
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    talking(quick_world, tmp_path / "videos" / "person.mp4", 3, 23)
    words = [word.format(other=tmp_path / "other.safetensors") for word in words]
    shards = tmp_path / "shards"
    start = ["data", "prepare", str(tmp_path / "videos"), "-o", str(shards), "--model"]
    assert main([*start, str(tiny_model_folder), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not shards.exists()


def test_clips_that_syncnet_cannot_see_are_refused(settings):
    with pytest.raises(InputError, match="clips of 4 frames are too short for SyncNet"):
        syncnet_file(settings, 4)
