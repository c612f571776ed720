"""The recipes of the tiny models on people of the lit world in many framings: batches have one size."""

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader", reason="recipes render the world: pip install 'hallo4[world]'")
pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")

from hallo4.data import ClipStore
from hallo4.errors import InputError
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.observer import PortraitObserver
from hallo4.pipelines import load_model
from hallo4.recipes import RECIPES
from hallo4.recipes.observer_data import ObserverData
from hallo4.training import override, read_log

CLIPS = [
    "episodes=5",
    "windows=1",
    "frames=5",
    "seconds=0.4",
    "size_px=64",
    "world=lit-1",
    "half_figures=0.2",
]
SIZES = ["heads=2", "head_dim=16", "layers=1", "ffn_dim=32", "audio_tokens=2", "audio_hidden_dim=16"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("framed")


def trained(name, work, *changes, run=None):
    """What a recipe makes in three steps of two, all of it by words after `--set`."""
    recipe = RECIPES[name]()
    words = [f"clips.{word}" for word in CLIPS] + [f"clips_folder={work}/clips", "batch_size=2"]
    if hasattr(recipe.config, "held_out"):
        words += [f"held_out.{word}" for word in CLIPS]
    words += ["train.steps=3", "train.log_every=1", "train.max_minutes=none", "train.preview_every=2"]
    made = recipe.run(override(recipe.config, [*words, *changes]), work / (run or name))
    assert all(record["loss"] > 0 for record in read_log(work / (run or name)) if "loss" in record)
    return made


@pytest.fixture(scope="module")
def autoencoder(work):
    sizes = [f"sizes.{word}" for word in ("latent_channels=4", "fine_width=8", "coarse_width=16")]
    return trained("tiny-autoencoder", work, "crop_px=32", *sizes)


def test_the_store_has_people_of_several_sizes(autoencoder, work):
    for folder in ("clips", "clips_heldout"):
        assert len(ClipStore(work / folder).shapes) > 1
    assert TinyVideoAutoencoder.from_pretrained(autoencoder).latent_std.min() > 0


def test_the_observer_learns_from_batches_of_one_size(autoencoder, work):
    sizes = [f"sizes.{word}" for word in ("width=4", "frame_px=64", "mouth_patch_px=(16, 16)")]
    observer = PortraitObserver.from_pretrained(trained("tiny-observer", work, *sizes))
    assert observer.config.frame_px == 64
    store = ClipStore(work / "clips")
    data = ObserverData([store.clip(i) for i in range(len(store))], 3)
    shapes = {tuple(data(k, torch.Generator().manual_seed(k))["frames_pm1"].shape[2:]) for k in range(40)}
    assert {"x".join(map(str, shape)) for shape in shapes} == set(store.shapes)


def test_the_observer_sees_clips_of_other_folders_too(autoencoder, work, monkeypatch):
    seen, make = [], ObserverData.__init__

    def noted(data, clips, *more, **how):
        seen.append(clips)
        make(data, clips, *more, **how)

    monkeypatch.setattr(ObserverData, "__init__", noted)
    other = f"more_clips=('{work}/clips_heldout',)"
    trained("tiny-observer", work, "sizes.width=4", other, run="both")
    own, others = ClipStore(work / "clips"), ClipStore(work / "clips_heldout")
    assert len(seen[0]) == len(own) + len(others)
    last = seen[0][-1].frames_u8
    np.testing.assert_array_equal(last, others.get("frames_u8", len(others) - 1))


def test_the_dit_learns_from_batches_of_one_size(autoencoder, work):
    torch.manual_seed(0)
    projector = trained_projector(work)
    places = [f"autoencoder={autoencoder}", f"audio_proj={projector}", f"latents_folder={work}/latents"]
    sizes = [f"sizes.{word}" for word in SIZES]
    folder = trained("tiny-dit-sft", work, *places, *sizes)
    info = load_model(folder).info
    assert (info.size_px, info.world) == (64, "lit-1")
    other = ["clips.world=drawn-1", "clips.half_figures=1", f"clips_folder={work}/flat"]
    other += [f"model={folder}", f"latents_folder={work}/flat-latents", "clips.size_px=80"]
    info = load_model(trained("tiny-dit-sft", work, *other, run="further")).info
    assert (info.size_px, info.world) == (80, "drawn-1"), "what it was trained on last"
    coarse = ["clips.aspects=(1.0,)", "clips.size_px=72", f"clips_folder={work}/others"]
    with pytest.raises(InputError, match=r"72x72 pixels, and tiny-dit-sft makes sides .* multiples of 16"):
        trained("tiny-dit-sft", work, *places, *sizes, *coarse)


def trained_projector(work):
    """An audio projector of those sizes."""
    from safetensors.torch import save_file

    from hallo4.recipes.tiny_dit import DiTSizes, build_dit
    from hallo4.types import AutoencoderSpec

    sizes = DiTSizes(heads=2, head_dim=16, layers=1, ffn_dim=32, audio_tokens=2, audio_hidden_dim=16)
    projector = build_dit(sizes, AutoencoderSpec(4, 4, 8, True)).audio_proj.state_dict()
    tensors = {name: value.contiguous() for name, value in projector.items()}
    save_file(tensors, work / "projector.safetensors")
    return work / "projector.safetensors"
