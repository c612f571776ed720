"""Clips for a model of the released kind: trained sizes, wav2vec2, prompts, a causal autoencoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_releases import make_release

pytest.importorskip("pyarrow", reason="the index is Parquet: pip install 'hallo4[data]'")

from hallo4.data import ClipFilters, PreparedClips, PrepareSettings, prepare_videos
from hallo4.errors import InputError
from hallo4.media import VideoWriter
from hallo4.motion import default_rest_pose, save_skeleton
from hallo4.pipelines import load_model
from hallo4.pipelines.convert import convert_release
from hallo4.training.sft import SFTConfig, draw_batch, sft_objective

LAX = ClipFilters(min_face_px=0, min_sharpness=0, min_speech=0)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        sizes = {"canvas_sizes_px": ((32, 48), (48, 32)), "window_frames": 17}
        yield convert_release(make_release(folder / "pretrained"), folder / "model", **sizes).folder


@pytest.fixture
def videos(tmp_path, hum):
    """Noise, tall and wide, said to show a person at rest; the second one is described."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, (width, height) in (("tall", (64, 96)), ("wide", (120, 80))):
        frames = np.random.default_rng(0).integers(0, 256, (17, height, width, 3), np.uint8)
        with VideoWriter(folder / f"{name}.mp4", width, height, audio=hum(0.68)) as writer:
            for frame in frames:
                writer.write(frame)
        rest = default_rest_pose(width, height)
        points, confidence = (np.repeat(x, 17, axis=0) for x in (rest.points_px, rest.confidence))
        skeleton = replace(rest, points_px=points, confidence=confidence)
        save_skeleton(folder / f"{name}.keypoints.json", skeleton)
    (folder / "wide.prompt.txt").write_text("piece1 piece2")
    return folder


def test_clips_have_their_canvas_sound_and_text(released, videos, tmp_path):
    settings = PrepareSettings(str(released), filters=LAX, speech="energy")
    rows = prepare_videos([videos], tmp_path / "shards", settings).rows
    assert all(row.kept for row in rows)
    clips, model = PreparedClips(tmp_path / "shards"), load_model(released)
    assert sorted(clips.groups) == ["5x4x6", "5x6x4"]
    for name, row, prompt in (("5x6x4", rows[0], None), ("5x4x6", rows[1], "piece1 piece2")):
        batch = clips.batch(clips.groups[name])
        words = model.info.prompts(prompt, None)[0]
        assert row.prompt == words
        assert torch.equal(batch["text"], model.prompts.embedding(words).tokens)
        assert batch["skeleton"].shape[1:3] == (16, 17)
        assert batch["audio_windows"].shape == (1, 17, 5, 2, 16)
        config = SFTConfig(known_share=0.0)
        model.backbone.requires_grad_(True)
        drawn = draw_batch(batch, config, model.backbone.windows, torch.Generator().manual_seed(0))
        loss, _ = sft_objective(config, model.autoencoder)(model.backbone, drawn, 1)
        assert loss.isfinite()


def test_a_prompt_for_a_model_without_text_names_the_file(videos, tmp_path, tiny_model_folder):
    settings = PrepareSettings(str(tiny_model_folder), filters=LAX, speech="energy")
    prepared = prepare_videos([videos], tmp_path / "shards", settings)
    assert {row.kept for row in prepared.rows if "tall" in row.source} == {True}
    assert {row.kept for row in prepared.rows if "wide" in row.source} == {False}
    assert any("takes no text; remove" in problem for problem in prepared.problems)
    with pytest.raises(InputError):
        PreparedClips(videos)
