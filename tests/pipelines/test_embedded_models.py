"""The models that come with the package: they load, say what they are, and do what their cards say."""

import numpy as np
import pytest

from hallo4.pipelines.model_folder import load_model
from hallo4.pipelines.model_info import ASSETS

MODELS = sorted(path.parent.name for path in ASSETS.glob("*/model.json"))


def test_both_backbones_are_there_before_and_after_preference_optimization():
    assert MODELS == ["tiny-dit", "tiny-dit-sft", "tiny-unet", "tiny-unet-sft"]
    assert {load_model(name).info.family for name in MODELS if "unet" in name} == {"unet"}


@pytest.mark.parametrize("name", MODELS)
def test_a_card_says_what_it_knows_how_it_was_made_and_that_its_videos_are_marked(name):
    card = (ASSETS / name / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    for words in ("procedural portrait world", "**Made by**: `hallo4 train", "**Scores**", "AI-generated"):
        assert words in card
    assert ("*simulated* raters" in card) == (name in ("tiny-dit", "tiny-unet"))
    assert load_model(name).info.name == name


@pytest.mark.parametrize("name", MODELS)
def test_lips_follow_what_is_said_and_joints_the_skeleton(name):
    """One unseen person, two seconds: the gates of the cards, by the truth of the world."""
    pytest.importorskip("espeakng_loader", reason="the world is needed: pip install 'hallo4[world]'")
    from hallo4.evaluation.look.instrument import load_observer, measure
    from hallo4.evaluation.suites.generators import load_generator
    from hallo4.evaluation.suites.world_metrics import clip_values, make_clip
    from hallo4.world import make_episode

    episode = make_episode(5_000_004, 2.0)
    frames_u8 = load_generator(name)(episode, 0)
    assert frames_u8.shape == episode.frames_u8.shape
    measured, measured_truth = (measure(load_observer(), f) for f in (frames_u8, episode.frames_u8))
    values = clip_values(make_clip(episode, frames_u8, measured, measured_truth))
    assert np.ptp(episode.truth.mouth_open) > 0.3, "someone must speak for this to say anything"
    assert values["lip_sync_correlation"] > 0.7
    assert values["joint_error_fraction"] < 0.04
    assert values["lip_sync_lag_frames"] == 0
