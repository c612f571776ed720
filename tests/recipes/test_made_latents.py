"""Clips that a model makes again from noisy latents, for its decoder: the embedded DiT on rendered clips."""

from dataclasses import replace

import pytest
import torch

from hallo4.data import ClipStoreConfig, build_cache, build_clips
from hallo4.errors import InputError
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.pipelines.model_folder import load_model
from hallo4.recipes.autoencoder_crops import AutoencoderData
from hallo4.recipes.made_latents import MadeLatentsConfig, made_latents
from hallo4.recipes.tiny_autoencoder import TinyAutoencoderConfig, run
from hallo4.training import TrainConfig

CLIPS = ClipStoreConfig(episodes=3, windows=1, frames=9, seconds=0.4, episodes_per_shard=1)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """(model, store of three clips)."""
    return load_model("tiny-dit-sft"), build_clips(tmp_path_factory.mktemp("made") / "clips", CLIPS)


def made(rendered, folder, **settings):
    config = MadeLatentsConfig(folder=str(folder), **settings)
    return made_latents(*rendered, config, seed=3)


def test_with_little_noise_clips_are_made_as_they_were_and_with_much_not_quite(rendered, tmp_path):
    model, store = rendered
    cache = build_cache(store, model.autoencoder, tmp_path / "encoded")
    video = cache.batch(torch.arange(3))["video"]
    errors = []
    for sigma in (0.01, 0.5, 0.95):
        found = made(rendered, tmp_path / str(sigma), sigmas=(sigma, sigma), steps=1)
        assert found.clips == [0, 1, 2]
        latents = torch.stack([found.latents[clip] for clip in found.clips])
        errors.append((latents.float() - video).square().mean().item())
    assert errors[0] < 1e-3
    assert errors[0] < errors[1] < errors[2] < 0.6 * video.square().mean().item()


def test_as_many_clips_are_made_as_asked_for_and_from_all_over_the_store(rendered, tmp_path):
    assert made(rendered, tmp_path, clips=2, steps=1).clips == [0, 2]


def test_what_was_made_is_read_again_and_not_taken_for_other_settings_or_clips(rendered, tmp_path):
    first = made(rendered, tmp_path / "made", clips=1)
    again = made(rendered, tmp_path / "made", clips=1, share=0.25)
    assert (first.share, again.share) == (0.75, 0.25)
    assert all(torch.equal(first.latents[clip], again.latents[clip]) for clip in first.clips)
    model, _ = rendered
    others = build_clips(tmp_path / "others", replace(CLIPS, first_seed=50))
    for own, settings in ((rendered, {"steps": 3}), ((model, others), {})):
        with pytest.raises(InputError, match=r"or with other settings; delete it"):
            made(own, tmp_path / "made", clips=1, **settings)


def test_models_with_discrete_noise_levels_are_refused(rendered, tmp_path):
    with pytest.raises(InputError, match=r"made\.model must be a flow model"):
        made((load_model("tiny-unet-sft"), rendered[1]), tmp_path)


def decoder_config(rendered, folder, **settings):
    model, store = rendered
    model.autoencoder.save_pretrained(folder / "start")
    own = MadeLatentsConfig(model="tiny-dit-sft", clips=2, share=0.5, folder=str(folder / "made"))
    config = TinyAutoencoderConfig(
        start_from=str(folder / "start"),
        freeze_encoder=True,
        made=own,
        clips=CLIPS,
        clips_folder=str(store.folder),
        held_out=replace(CLIPS, first_seed=900_000),
        batch_size=4,
        train=TrainConfig(name="decoder", steps=1, ema_decay=0.0),
    )
    return replace(config, **settings)


def test_a_decoder_is_trained_on_them_and_the_encoder_stays(rendered, tmp_path, monkeypatch):
    counts, draw = [], AutoencoderData.__call__

    def counted(data, index, generator):
        batch = draw(data, index, generator)
        counts.append(len(batch["made"]))
        return batch

    monkeypatch.setattr(AutoencoderData, "__call__", counted)
    folder = run(decoder_config(rendered, tmp_path), tmp_path / "run")
    assert set(counts) == {2}
    before = rendered[0].autoencoder.state_dict()
    trained = TinyVideoAutoencoder.from_pretrained(folder).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(trained[name], before[name])}
    assert changed == {"decoder", "linear_decoder"}


def test_latents_of_another_encoder_are_refused(rendered, tmp_path):
    config = decoder_config(rendered, tmp_path)
    other = TinyVideoAutoencoder.from_config(rendered[0].autoencoder.config)
    torch.nn.init.normal_(other.linear_encoder.weight)
    other.save_pretrained(tmp_path / "start")
    with pytest.raises(InputError, match="latents of another encoder than that of"):
        run(config, tmp_path / "run")
