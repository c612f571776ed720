"""Every recipe: its configuration can be built and changed, and says in words what it is."""

import dataclasses
import json

import pytest

from hallo4.errors import InputError
from hallo4.recipes import RECIPES
from hallo4.recipes.tiny_audio import TinyAudioConfig
from hallo4.recipes.tiny_autoencoder import TinyAutoencoderConfig
from hallo4.recipes.tiny_dit import TinyDiTConfig, build_dit
from hallo4.recipes.tiny_observer import TinyObserverConfig
from hallo4.recipes.tiny_unet import TinyUNetConfig, build_unet
from hallo4.training import TrainConfig, override
from hallo4.types import AutoencoderSpec


@pytest.fixture(params=RECIPES)
def recipe(request):
    """Each recipe under the name it is asked for with."""
    found = RECIPES[request.param]()
    assert found.name == request.param
    return found


def test_a_recipe_is_a_frozen_configuration_with_a_summary(recipe):
    assert 10 < len(recipe.summary) < 100
    assert callable(recipe.run)
    assert isinstance(recipe.config.train, TrainConfig)
    assert recipe.config.train.name == recipe.name
    assert recipe == RECIPES[recipe.name](), "the same at every call"
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.config.train.steps = 1
    assert json.loads(json.dumps(dataclasses.asdict(recipe.config)))["train"]["name"] == recipe.name


def test_every_value_can_be_overridden_on_the_command_line(recipe):
    changed = override(recipe.config, ["train.steps=2", "batch_size=3", "train.optimizer.learning_rate=1e-2"])
    assert (changed.train.steps, changed.batch_size, changed.train.optimizer.learning_rate) == (2, 3, 1e-2)
    assert dataclasses.replace(changed, batch_size=recipe.config.batch_size, train=recipe.config.train) == (
        recipe.config
    )
    with pytest.raises(InputError, match="colour"):
        override(recipe.config, ["train.colour=blue"])
    with pytest.raises(InputError, match="many"):
        override(recipe.config, ["train.steps=many"])


def test_clips_of_all_recipes_come_from_one_store_and_are_judged_on_other_people():
    autoencoder, observer, dit = TinyAutoencoderConfig(), TinyObserverConfig(), TinyDiTConfig()
    assert autoencoder.clips == observer.clips == dit.clips
    assert autoencoder.clips_folder == observer.clips_folder == dit.clips_folder
    assert autoencoder.held_out == observer.held_out
    trained = range(dit.clips.first_seed, dit.clips.first_seed + dit.clips.episodes)
    held_out = autoencoder.held_out
    assert held_out.first_seed not in trained
    assert held_out.first_seed + held_out.episodes < trained.start or held_out.first_seed >= trained.stop


def test_the_audio_projector_fits_the_models_that_it_is_made_for():
    """The projector of `tiny-audio` loads into both backbones as all are configured."""
    from hallo4.recipes.tiny_audio import MouthFromAudio

    projector = MouthFromAudio(TinyAudioConfig()).audio_proj
    dit = build_dit(TinyDiTConfig().sizes, AutoencoderSpec(16, 4, 8, True))
    unet = build_unet(TinyUNetConfig().sizes, AutoencoderSpec(8, 1, 8, True))
    for backbone in (dit, unet):
        backbone.audio_proj.load_state_dict(projector.state_dict())
