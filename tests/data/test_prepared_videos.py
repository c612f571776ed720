"""Folders of videos become clips to train on: what is in them, why others are not, and what is made again."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from talking_videos import acted, film, talking

pytest.importorskip("pyarrow", reason="the index is Parquet: pip install 'hallo4[data]'")

from hallo4.data import ClipFilters, PreparedClips, PrepareSettings, encode, prepare, prepare_videos
from hallo4.data.contact_sheet import table_of, write_contact_sheet
from hallo4.data.index import read_index
from hallo4.data.latents import region_cells
from hallo4.engine import open_engine
from hallo4.errors import CheckpointError, InputError
from hallo4.media import read_frames
from hallo4.media.image import save_png
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.audio_features import audio_windows
from hallo4.motion import PortraitDraft, draw_skeleton, load_skeleton, save_skeleton
from hallo4.pipelines.conditions import prepare_audio, prepare_feature_sound, prepare_portrait

FRAMES = 5
"""Of a clip of the tiny model."""
LAX = ClipFilters(min_face_px=4, min_sharpness=0.0, min_speech=0.0)


@pytest.fixture
def settings(tiny_model_folder) -> PrepareSettings:
    return PrepareSettings(str(tiny_model_folder), filters=LAX, speech="energy")


def kept(prepared) -> list:
    return [row for row in prepared.rows if row.kept]


def files_in(folder: Path) -> dict[str, bytes]:
    """All shards, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


@pytest.fixture
def videos(tmp_path, quick_world) -> Path:
    """Two people, 23 frames of each: eight clips of five."""
    for seed in (3, 4):
        talking(quick_world, tmp_path / "videos" / f"person{seed}.mp4", seed)
    return tmp_path / "videos"


def test_a_clip_is_what_the_parts_of_the_model_make_of_its_frames(videos, tmp_path, settings, tiny_model):
    prepared = prepare_videos([videos], tmp_path / "shards", settings)
    assert [Path(row.source).name for row in kept(prepared)] == ["person3.mp4"] * 4 + ["person4.mp4"] * 4
    clips = PreparedClips(tmp_path / "shards")
    assert list(clips.groups) == ["2x4x4"]
    batch = clips.batch(torch.tensor([5]))  # person4, the second clip
    video, span = videos / "person4.mp4", slice(FRAMES, 2 * FRAMES)
    frames = np.stack(list(read_frames(video)))
    fitted = [prepare_portrait(frame, 32)[0].video_pm1 for frame in frames]
    with torch.inference_mode(), tiny_model.autoencoding():
        shown = tiny_model.autoencoder.encode_video(torch.stack(fitted[span]).transpose(0, 1)[None])
        number = round(kept(prepared)[5].reference_s * 25)
        portrait = tiny_model.autoencoder.encode_video(fitted[number][None, :, None])
        skeleton = load_skeleton(videos / "person4.keypoints.json")
        skeleton = replace(skeleton, points_px=skeleton.points_px / 2, width_px=32, height_px=32)
        drawn = frames_to_pm1(draw_skeleton(skeleton, 32, 32)[span]).transpose(0, 1)[None]
        drawn = tiny_model.autoencoder.encode_frames(drawn)
    assert not span.start <= number < span.stop, "the portrait is a frame outside of the clip"
    for name, wanted in (("video", shown), ("reference", portrait), ("skeleton", drawn)):
        assert batch[name].dtype == torch.float32
        torch.testing.assert_close(batch[name], wanted.half().float(), rtol=0, atol=0, msg=name)
    sound = prepare_feature_sound(video, prepare_audio(video)[0], tiny_model.audio_front_end)
    features = tiny_model.audio_front_end.stream(sound, len(frames)).features(0, len(frames)).half().float()
    assert torch.equal(batch["audio_windows"][0], audio_windows(features, start=span.start, stop=span.stop))
    regions = region_cells(skeleton.points_px[span], 32, 32, 8, 4, skeleton.confidence[span] >= 0.3)
    assert torch.equal(batch["regions"][0], regions)
    assert batch["grey"].shape == batch["video"].shape


def test_a_portrait_beside_a_video_is_the_reference_of_its_clips(videos, tmp_path, settings, tiny_model):
    first = prepare_videos([videos], tmp_path / "shards", settings)
    frame = next(read_frames(videos / "person4.mp4"))
    save_png(videos / "person4.portrait.png", frame[::-1].copy())
    again = prepare_videos([videos], tmp_path / "shards", settings)
    assert again.made == Counter(encode=4), "only the clips of that video are made again"
    clips = PreparedClips(tmp_path / "shards")
    batch, before = clips.batch(torch.arange(4, 8)), kept(first)[4:]
    with torch.inference_mode(), tiny_model.autoencoding():
        upside_down = prepare_portrait(frame[::-1].copy(), 32)[0].video_pm1
        wanted = tiny_model.autoencoder.encode_video(upside_down[None, :, None]).half().float()
    assert torch.equal(batch["reference"], wanted.expand(4, -1, -1, -1, -1))
    assert [row.reference_s for row in kept(again)[4:]] == [None] * 4
    assert {row.clip for row in before}.isdisjoint(row.clip for row in kept(again))
    save_png(videos / "person4.portrait.png", frame[:40].copy())
    other = prepare_videos([videos], tmp_path / "shards", settings)
    said = {row.found for row in other.rows if not row.kept}
    assert len(kept(other)) == 4
    assert len(said) == 1
    assert "person4.portrait.png: is 64x40 pixels, and its video 64x64. Crop it" in said.pop()


def test_clips_of_a_model_that_takes_drafts_have_them(videos, tmp_path, drafting_model, settings):
    """The reference, a frame of the same video, moved from its own pose to those of the clip; a portrait in a
    file, in which no person is found here, stands still."""
    drafting = replace(settings, model=str(drafting_model.folder))
    prepared = prepare_videos([videos], tmp_path / "shards", drafting)
    batch = PreparedClips(tmp_path / "shards").batch(torch.tensor([5]))
    fitted = [prepare_portrait(frame, 32)[0] for frame in read_frames(videos / "person4.mp4")]
    skeleton = load_skeleton(videos / "person4.keypoints.json")
    points_px = skeleton.points_px / 2

    def at(frames):
        seen = skeleton.confidence[frames]
        return replace(skeleton, points_px=points_px[frames], confidence=seen, width_px=32, height_px=32)

    def encoded(video_u8):
        with torch.inference_mode(), drafting_model.autoencoding():
            video_pm1 = frames_to_pm1(video_u8).transpose(0, 1)[None]
            return drafting_model.autoencoder.encode_video(video_pm1).half().float()

    number = round(kept(prepared)[5].reference_s * 25)
    draft = PortraitDraft(fitted[number].pixels_u8, at(slice(number, number + 1)))
    wanted = encoded(draft.frames_u8(at(slice(FRAMES, 2 * FRAMES))))
    torch.testing.assert_close(batch["draft"], wanted, rtol=0, atol=2e-3)
    save_png(videos / "person4.portrait.png", np.zeros((64, 64, 3), np.uint8))
    prepare_videos([videos], tmp_path / "shards", drafting)
    again = PreparedClips(tmp_path / "shards").batch(torch.tensor([5]))
    still = encoded(np.zeros((FRAMES, 32, 32, 3), np.uint8))
    torch.testing.assert_close(again["draft"], still, rtol=0, atol=2e-3)


def test_windows_at_both_ends_of_a_sound_repeat_its_last_rows(videos, tmp_path, settings, tiny_model):
    prepare_videos([videos / "person3.mp4"], tmp_path / "shards", settings)
    first = PreparedClips(tmp_path / "shards").batch(torch.tensor([0]))["audio_windows"][0]
    assert torch.equal(first[0, 0], first[0, 2])
    assert torch.equal(first[0, 1], first[0, 2])
    assert not torch.equal(first[0, 3], first[0, 2])


def test_only_what_changed_is_made_again(videos, tmp_path, settings, quick_world):
    shards = tmp_path / "shards"
    stages = ("probe", "shots", "person", "speech", "clips")
    first = prepare_videos([videos], shards, settings)
    assert first.made == Counter(dict.fromkeys(stages, 2) | {"encode": 8})
    before = files_in(shards)
    assert prepare_videos([videos], shards, settings).made == Counter()

    sharp = float(np.median([row.sharpness for row in first.rows]))
    fewer = prepare_videos([videos], shards, replace(settings, filters=replace(LAX, min_sharpness=sharp)))
    assert fewer.made == Counter()
    assert len(kept(fewer)) == len(PreparedClips(shards)) == 4
    assert {row.clip for row in kept(fewer)} < {row.clip for row in first.rows}

    talking(quick_world, videos / "person5.mp4", 5)
    more = prepare_videos([videos], shards, settings)
    assert more.made == Counter(dict.fromkeys(stages, 1) | {"encode": 4})
    assert before.items() <= files_in(shards).items()

    keypoints = videos / "person3.keypoints.json"
    skeleton = load_skeleton(keypoints)
    save_skeleton(keypoints, replace(skeleton, points_px=skeleton.points_px + 1))
    again = prepare_videos([videos], shards, settings)
    assert again.made == Counter({"person": 1, "clips": 1, "encode": 4})

    (videos / "person4.mp4").rename(videos / "renamed.mp4")
    (videos / "person4.keypoints.json").rename(videos / "renamed.keypoints.json")
    assert prepare_videos([videos], shards, settings).made == Counter(), "content counts, not names"


def test_a_run_that_was_killed_goes_on_to_the_same_shards(videos, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(prepare, "CLIPS_PER_SHARD", 3)
    whole = prepare_videos([videos], tmp_path / "whole", settings)
    write, calls = encode.ClipEncoder._write, []

    def killed(self, kind, name, tensors):
        calls.append(kind)
        if calls.count("shards") == 2:
            raise KeyboardInterrupt
        write(self, kind, name, tensors)

    monkeypatch.setattr(encode.ClipEncoder, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_videos([videos], tmp_path / "killed", settings)
    monkeypatch.setattr(encode.ClipEncoder, "_write", write)
    rest = prepare_videos([videos], tmp_path / "killed", settings)
    assert rest.made == Counter({"encode": 5})
    assert rest.rows == whole.rows
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "whole")
    assert len([name for name in files_in(tmp_path / "whole") if name.startswith("shards")]) == 3


@pytest.mark.slow
def test_three_engines_write_the_same_bytes(videos, tmp_path, settings, ray_cluster, monkeypatch):
    monkeypatch.setattr(prepare, "CLIPS_PER_SHARD", 3)
    one = prepare_videos([videos], tmp_path / "one", settings)
    for name, words in {"two": {"workers": 2}, "ray": {"ray": ray_cluster}}.items():
        with open_engine(**words) as engine:
            other = prepare_videos([videos], tmp_path / name, settings, engine)
        assert other.rows == one.rows
        assert other.made == one.made
        assert files_in(tmp_path / name) == files_in(tmp_path / "one")
    assert len([name for name in files_in(tmp_path / "one") if name.startswith("shards")]) == 3


def test_a_damaged_shard_is_made_again(videos, tmp_path, settings):
    prepare_videos([videos], tmp_path / "shards", settings)
    before = files_in(tmp_path / "shards")
    shard = next((tmp_path / "shards" / "shards").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:1000])
    assert prepare_videos([videos], tmp_path / "shards", settings).made == Counter({"encode": 8})
    assert files_in(tmp_path / "shards") == before


def test_every_bad_video_costs_its_own_rows_and_says_why(videos, tmp_path, settings, quick_world):
    frames_u8, skeleton, audio = acted(quick_world, 6, 23)
    film(videos / "silent.mp4", frames_u8, None, skeleton)
    film(videos / "black.mp4", np.zeros_like(frames_u8), audio, skeleton)
    film(videos / "still.mp4", np.repeat(frames_u8[:1], 23, axis=0), audio, skeleton)
    film(videos / "short.mp4", frames_u8[:4], audio, skeleton)
    film(videos / "slow.mp4", frames_u8[::3], audio, skeleton, fps=8)
    (videos / "broken.mp4").write_bytes((videos / "person3.mp4").read_bytes()[:3000])
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "twin.mp4").write_bytes((videos / "person3.mp4").read_bytes())
    (videos / "twin.keypoints.json").write_bytes((videos / "person3.keypoints.json").read_bytes())
    (videos / "broken.keypoints.json").write_bytes((videos / "person3.keypoints.json").read_bytes())
    prepared = prepare_videos([videos], tmp_path / "shards", settings)
    reasons = {}
    for row in prepared.rows:
        reasons.setdefault(Path(row.source).stem, set()).update(filter(None, row.reasons.split("; ")))
    assert reasons.pop("person3") == reasons.pop("person4") == set()
    assert reasons.pop("black") == {"dark", "still picture"}
    assert reasons == {
        "silent": {"no sound"}, "still": {"still picture"}, "short": {"too short"},
        "slow": {"few frames a second", "still picture"}, "broken": {"unusable"}, "empty": {"unusable"},
        "twin": {"same file"},
    }  # fmt: skip
    assert len(prepared.problems) == 2
    assert all(name in " ".join(prepared.problems) for name in ("broken.mp4", "empty.mp4"))
    assert len(PreparedClips(tmp_path / "shards")) == 8


def test_no_clip_spans_a_cut(tmp_path, settings, quick_world):
    one, two = (acted(quick_world, seed, 13) for seed in (3, 4))
    points_px = np.concatenate([one[1].points_px, two[1].points_px])
    confidence = np.concatenate([one[1].confidence, two[1].confidence])
    both = replace(one[1], points_px=points_px, confidence=confidence)
    path = film(tmp_path / "cut.mp4", np.concatenate([one[0], two[0]]), one[2], both)
    rows = prepare_videos([path], tmp_path / "shards", settings).rows
    assert [row.start_s * 25 for row in rows] == pytest.approx([0, 5, 13, 18])
    assert all((row.start_s < 13 / 25) == (row.reference_s < 13 / 25) for row in rows)


def test_a_record_says_where_it_comes_from(videos, tmp_path, settings):
    (videos / "person3.licence.txt").write_text("CC BY 4.0\n")
    prepare_videos([videos], tmp_path / "shards", replace(settings, licence="own"))
    rows = list(read_index(tmp_path / "shards"))
    assert {Path(row.source).stem: row.licence for row in rows} == {"person3": "CC BY 4.0", "person4": "own"}
    made_of = json.loads(rows[1].made_of)
    assert (rows[1].start_s, rows[1].end_s, made_of["start"]) == (0.2, 0.4, 5)
    assert made_of["source"] == rows[1].source_sha256
    assert {"probe", "shots", "person", "speech", "clips"} == made_of["stages"].keys()
    assert PreparedClips(tmp_path / "shards").licences() == {"CC BY 4.0": 4, "own": 4}


def test_shapes_are_not_mixed_in_a_batch(videos, tmp_path, settings, quick_world):
    frames_u8, skeleton, audio = acted(quick_world, 5, 10)
    wide = np.concatenate([frames_u8, frames_u8[:, :, ::-1]], axis=2)
    film(tmp_path / "videos" / "wide.mp4", wide, audio, replace(skeleton, width_px=128))
    prepare_videos([videos], tmp_path / "shards", settings)
    clips = PreparedClips(tmp_path / "shards")
    assert {name: len(group) for name, group in clips.groups.items()} == {"2x4x4": 8, "2x2x6": 2}
    assert clips.batch(clips.groups["2x2x6"])["video"].shape == (2, 4, 2, 2, 6)
    with pytest.raises(InputError, match="several latent shapes"):
        clips.batch(torch.arange(10))


def test_opening_reads_no_shard(videos, tmp_path, settings):
    prepare_videos([videos], tmp_path / "shards", settings)
    (tmp_path / "shards" / "shards").rename(tmp_path / "elsewhere")
    clips = PreparedClips(tmp_path / "shards")
    assert len(clips) == 8
    with pytest.raises(CheckpointError, match="safetensors"):
        clips.batch(torch.tensor([0]))


def test_shards_belong_to_one_model_and_one_length(videos, tmp_path, settings, tiny_parts):
    from hallo4.pipelines import ModelInfo, save_model_folder

    dit, autoencoder, front_end = tiny_parts
    info = ModelInfo("larger", "1.2", size_px=48, window_frames=5, steps=2)
    other = save_model_folder(tmp_path / "m", info, dit, autoencoder, front_end.to_config(), "# a card\n")
    shards = tmp_path / "shards"
    prepare_videos([videos], shards, settings)
    with pytest.raises(InputError, match="which differ from those for larger in canvas"):
        prepare_videos([videos], shards, replace(settings, model=str(other)))
    with pytest.raises(InputError, match="holds clips of 5 frames, and 9 are asked for"):
        prepare_videos([videos], shards, replace(settings, clip_frames=9))
    with pytest.raises(InputError, match="do not fit testling: 8 frames cannot"):
        prepare_videos([videos], shards, replace(settings, clip_frames=8))
    with pytest.raises(InputError, match=r"holds other things, such as person3\.keypoints"):
        prepare_videos([videos], videos, settings)
    with pytest.raises(InputError, match="holds no prepared clips"):
        PreparedClips(videos)


def test_the_page_shows_every_reason_and_runs_nothing(videos, tmp_path, settings, quick_world):
    frames_u8, skeleton, _ = acted(quick_world, 6, 11)
    film(videos / "<b>mute.mp4", frames_u8, None, skeleton)
    (videos / "person3.licence.txt").write_text("<script>alert(1)</script>")
    prepared = prepare_videos([videos], tmp_path / "shards", settings)
    assert table_of(prepared.rows)[:2] == [("kept", "8", "1.6", ""), ("no sound", "2", "0.4", "")]
    write_contact_sheet(tmp_path / "shards", tmp_path / "look.html", shown=3)
    page = (tmp_path / "look.html").read_text()
    assert "<script" not in page
    assert "<b>mute" not in page
    assert "&lt;b&gt;mute.mp4" in page
    assert "no sound: the video has no sound track" in page
    assert page.count("data:image/jpeg;base64,") == 3 + 2
    assert "3 of 8 are shown" in page


def test_fine_tuning_runs_on_prepared_clips(videos, tmp_path, settings, tiny_model_folder):
    pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")
    from hallo4.pipelines import load_model
    from hallo4.recipes import RECIPES
    from hallo4.training import read_log

    prepare_videos([videos], tmp_path / "shards", replace(settings, licence="own"))
    recipe = RECIPES["tiny-dit-sft"]()
    train = replace(recipe.config.train, steps=2, log_every=1, max_minutes=None, preview_every=0)
    config = replace(recipe.config, train=train, batch_size=3, model=str(tiny_model_folder))
    made = recipe.run(replace(config, prepared=str(tmp_path / "shards")), tmp_path / "run")
    assert [record["step"] for record in read_log(tmp_path / "run") if "loss" in record] == [1, 2]
    model = load_model(made)
    assert (model.info.size_px, model.info.window_frames) == (32, 5)
    card = (made / "README.md").read_text()
    assert "8 clips: own" in card
    assert "portrait world" not in card
    with pytest.raises(InputError, match="name it with --set model=FOLDER"):
        recipe.run(replace(config, model=None, prepared=str(tmp_path / "shards")), tmp_path / "run2")


def test_the_command_says_what_happened(videos, tmp_path, tiny_model_folder, capsys):
    from hallo4.cli import main

    shards, model = str(tmp_path / "shards"), str(tiny_model_folder)
    words = ["data", "prepare", str(videos), "-o", shards, "--model", model, "--speech", "energy"]
    assert main([*words, "--min-face-px", "4"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == shards
    assert "recomputed: probe 2" in said.err
    assert main(["data", "look", shards]) == 0
    out = capsys.readouterr().out
    assert "kept" in out
    assert out.splitlines()[-1] == f"{shards}/look.html"
    assert main([*words, "--min-face-px", "4000"]) == 2
    assert "no clip was kept of 2 videos, such as for 'small face'" in capsys.readouterr().err
    assert main([*words, "--min-speech", "2"]) == 2
    assert main([*words, "--workers", "0"]) == 2
    assert main(["data", "look", str(videos)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
