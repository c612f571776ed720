"""Clips that a model makes again from noisy latents, for its decoder: the embedded DiT on rendered clips."""

from dataclasses import replace

import pytest
import torch

from hallo4.data import ClipStoreConfig, build_cache, build_clips
from hallo4.errors import InputError
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.pipelines.model_folder import load_model
from hallo4.recipes.made_latents import MadeLatentsConfig, made_latents
from hallo4.recipes.tiny_autoencoder import TinyAutoencoderConfig, run
from hallo4.training import TrainConfig

CLIPS = ClipStoreConfig(episodes=2, windows=1, frames=9, seconds=0.4, episodes_per_shard=1)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """(model, folder of clips, their latents)."""
    folder = tmp_path_factory.mktemp("made")
    model = load_model("tiny-dit-sft")
    store = build_clips(folder / "clips", CLIPS)
    return model, folder, build_cache(store, model.autoencoder, folder / "latents")


def made(encoded, folder, **settings):
    model, _, cache = encoded
    config = MadeLatentsConfig(clips=2, folder=str(folder), **settings)
    return made_latents(model, cache, config, seed=3)


def test_with_little_noise_clips_are_made_as_they_were_and_with_much_not_quite(encoded, tmp_path):
    video = encoded[2].batch(torch.arange(2))["video"]
    errors = []
    for sigma in (0.01, 0.5, 0.95):
        latents = made(encoded, tmp_path / str(sigma), sigmas=(sigma, sigma), steps=1).latents
        assert sorted(latents) == [0, 1]
        errors.append((torch.stack([latents[0], latents[1]]).float() - video).square().mean().item())
    assert errors[0] < 1e-3
    assert errors[0] < errors[1] < errors[2] < 0.6 * video.square().mean().item()


def test_what_was_made_is_read_again_and_not_taken_for_other_settings(encoded, tmp_path):
    first = made(encoded, tmp_path)
    again = made(encoded, tmp_path, share=0.25)
    assert (first.share, again.share) == (0.75, 0.25)
    assert all(torch.equal(first.latents[clip], again.latents[clip]) for clip in first.clips)
    with pytest.raises(InputError, match=r"made with other settings; delete it"):
        made(encoded, tmp_path, steps=3)


def test_a_decoder_is_trained_on_them_and_the_encoder_stays(encoded, tmp_path):
    model, folder, _ = encoded
    model.autoencoder.save_pretrained(tmp_path / "start")
    own = MadeLatentsConfig(
        model="tiny-dit-sft", clips=2, latents_folder=str(folder / "latents"), folder=str(tmp_path / "made")
    )
    config = TinyAutoencoderConfig(
        start_from=str(tmp_path / "start"),
        freeze_encoder=True,
        made=own,
        clips=CLIPS,
        clips_folder=str(folder / "clips"),
        held_out=replace(CLIPS, first_seed=900_000),
        batch_size=4,
        train=TrainConfig(name="decoder", steps=1, ema_decay=0.0),
    )
    trained = load_state(run(config, tmp_path / "run"))
    before = model.autoencoder.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(trained[name], before[name])}
    assert changed == {"decoder", "linear_decoder"}


def load_state(folder):
    """The weights of a saved autoencoder."""
    return TinyVideoAutoencoder.from_pretrained(folder).state_dict()
