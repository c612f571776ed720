"""The index of prepared clips costs the same at any length, and what it does not need is found."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from talking_videos import talking

pytest.importorskip("pyarrow", reason="the index is Parquet: pip install 'hallo4[data]'")

import pyarrow

from hallo4.data import ClipFilters, PreparedClips, PrepareSettings, prepare, prepare_videos, prune_shards
from hallo4.data.index import IndexRow, Stamp, claim_folder, read_index, write_kept
from hallo4.errors import InputError

LAX = ClipFilters(min_face_px=4, min_sharpness=0.0, min_speech=0.0)


@pytest.fixture
def settings(tiny_model_folder) -> PrepareSettings:
    return PrepareSettings(str(tiny_model_folder), filters=LAX, speech="energy")


def folder_of(folder: Path, clips: int) -> Path:
    """As of `prepare_videos`; all clips lie in one shard, two latent shapes take turns."""
    folder.mkdir()
    claim_folder(folder, Stamp("m", "m", 5, {}))
    row = IndexRow("", "v.mp4", "", 0.0, 0.2, "own", True, shard="s")
    shapes = ("2x4x4", "2x4x6")
    write_kept(folder, (replace(row, clip=f"{n:040x}", latent_shape=shapes[n % 2]) for n in range(clips)))
    (folder / "shards").mkdir()
    (folder / "common").mkdir()
    tensors = {}
    for number in range(0, 20, 2):
        clip = f"{number:040x}"
        tensors[f"{clip}/video"] = torch.full((4, 2, 4, 4), float(number))
        tensors[f"{clip}/audio_features"] = torch.zeros(9, 4, 40)
    save_file(tensors, folder / "shards" / "s.safetensors")
    save_file({"grey": torch.zeros(1, 4, 2, 4, 4)}, folder / "common" / "grey-32x32.safetensors")
    return folder


def operations(work) -> int:
    """Calls of functions, of Python and of C, while `work` runs."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_opening_and_drawing_cost_the_same_for_any_number_of_clips(tmp_path):
    few, many = folder_of(tmp_path / "few", 100), folder_of(tmp_path / "many", 100_000)

    def draw(folder):
        clips = PreparedClips(folder)
        batch = clips.batch(torch.tensor([3, 0, 7]))
        assert batch["video"][:, 0, 0, 0, 0].tolist() == [6, 0, 14]

    draw(few)  # what is done once in a process
    draw(many)
    before = pyarrow.total_allocated_bytes()
    counts = []
    for folder in (few, many):
        counts.append(operations(lambda folder=folder: draw(folder)))
        assert pyarrow.total_allocated_bytes() - before < 10_000, "rows are mapped, not read"
    assert counts[0] == counts[1]


def test_shapes_and_licences_are_known_without_reading_rows(tmp_path):
    clips = PreparedClips(folder_of(tmp_path / "few", 101))
    assert {shape: group.tolist() for shape, group in clips.groups.items()} == {
        "2x4x4": list(range(51)),
        "2x4x6": list(range(51, 101)),
    }
    assert clips.licences() == {"own": 101}
    assert clips.column("latent_shape") == ["2x4x4"] * 51 + ["2x4x6"] * 50


def test_damage_and_other_versions_are_one_line(tmp_path):
    folder = folder_of(tmp_path / "few", 10)
    (folder / "kept.arrow").write_bytes((folder / "kept.arrow").read_bytes()[:300])
    with pytest.raises(InputError, match=r"kept.arrow: is damaged .* Prepare again: shards are kept\.$"):
        PreparedClips(folder)
    (folder / "kept.arrow").unlink()
    with pytest.raises(InputError, match=r"kept.arrow: no such file"):
        PreparedClips(folder)
    stamp = folder / "prepared.json"
    stamp.write_text(stamp.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(InputError, match=r"is of another version of hallo4\. Prepare into another folder"):
        PreparedClips(folder)
    stamp.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        PreparedClips(folder)


def test_what_no_row_needs_is_pruned_and_the_rest_stays(tmp_path, quick_world, settings, monkeypatch):
    monkeypatch.setattr(prepare, "CLIPS_PER_SHARD", 4)
    videos, shards = tmp_path / "videos", tmp_path / "shards"
    for seed in (3, 4):
        talking(quick_world, videos / f"person{seed}.mp4", seed)
    (videos / "broken.mp4").write_bytes((videos / "person3.mp4").read_bytes()[:3000])
    (videos / "broken.keypoints.json").write_bytes((videos / "person3.keypoints.json").read_bytes())
    prepare_videos([videos], shards, settings)
    assert prune_shards(shards).bytes_freed == 0, "all of it is needed"
    (videos / "person4.mp4").rename(tmp_path / "away.mp4")
    rest = prepare_videos([videos], shards, settings)
    assert not rest.made
    done = prune_shards(shards)
    assert (done.shards, done.findings, done.clips_left) == (1, 5, 0)
    assert done.bytes_freed > 1000
    assert not prepare_videos([videos], shards, settings).made, "nothing that is needed is gone"
    assert len(PreparedClips(shards)) == sum(row.kept for row in read_index(shards)) == 4
    PreparedClips(shards).batch(torch.arange(4))
    (tmp_path / "away.mp4").rename(videos / "person4.mp4")
    assert prepare_videos([videos], shards, settings).made["encode"] == 4, "and can be made again"


def test_clips_in_shards_with_others_stay_and_are_counted(tmp_path, quick_world, settings):
    talking(quick_world, tmp_path / "videos" / "person3.mp4", 3)
    first = prepare_videos([tmp_path / "videos"], tmp_path / "shards", settings)
    sharp = sorted(row.sharpness for row in first.rows)[2]
    fewer = replace(settings, filters=replace(LAX, min_sharpness=sharp))
    prepare_videos([tmp_path / "videos"], tmp_path / "shards", fewer)
    done = prune_shards(tmp_path / "shards")
    assert (done.shards, done.clips_left) == (0, 2)
