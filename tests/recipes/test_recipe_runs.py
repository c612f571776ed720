"""Every recipe from end to end in miniature: each makes what the next one needs; a second call goes on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("espeakng_loader", reason="recipes render the world: pip install 'hallo4[world]'")
pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")

from hallo4.data import ClipStoreConfig
from hallo4.errors import InputError
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.observer import PortraitObserver
from hallo4.pipelines import load_model
from hallo4.preference import Pair, PreferenceStore, Variant, make_candidates
from hallo4.preference.conditions import add_world_condition
from hallo4.recipes import RECIPES, Recipe
from hallo4.recipes.held_out_pairs import HeldOutConfig
from hallo4.recipes.tiny_autoencoder import AutoencoderSizes
from hallo4.recipes.tiny_dit import DiTSizes
from hallo4.recipes.tiny_unet import UNetSizes
from hallo4.training import read_log

OF_THE_WORLD = [name for name in RECIPES if not name.startswith("hallo4-")]
CLIPS = ClipStoreConfig(episodes=2, windows=1, frames=13, seconds=0.6, size_px=64, episodes_per_shard=1)
PICTURES = AutoencoderSizes(latent_channels=4, fine_width=8, coarse_width=16, frames_per_latent=1)
UNET = UNetSizes(widths=(16, 16, 32), heads=(1, 2, 2), audio_dim=8, audio_tokens=2, audio_hidden_dim=16)
SIZES = DiTSizes(heads=2, head_dim=16, layers=1, ffn_dim=32, audio_tokens=2, audio_hidden_dim=16)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """The folder that all runs share."""
    return tmp_path_factory.mktemp("runs")


def miniature(name: str, work: Path) -> Recipe:
    """The recipe with two clips of thirteen frames, and two steps of two."""
    recipe, stores = RECIPES[name](), {}
    if hasattr(recipe.config, "clips"):
        stores = {"clips": CLIPS, "clips_folder": f"{work}/clips"}
    if hasattr(recipe.config, "held_out"):
        stores["held_out"] = replace(CLIPS, first_seed=900_000)
    own = {
        "tiny-autoencoder": {"crop_px": 32},
        "tiny-audio": {"dim": 32, "tokens": 2, "hidden_dim": 16, "speeches": 2, "held_out_speeches": 2,
                       "sounds_folder": str(work)},
        "tiny-observer": {},
        "tiny-dit-sft": {"autoencoder": f"{work}/tiny-autoencoder/autoencoder", "sizes": SIZES,
                         "audio_proj": f"{work}/tiny-audio/audio_proj.safetensors",
                         "latents_folder": f"{work}/latents"},
        "tiny-dpo": PREFERENCES | {"model": f"{work}/tiny-dit-sft/model", "store": f"{work}/store",
                                   "pairs_folder": f"{work}/pairs"},
        "tiny-image-autoencoder": {"crop_px": 32, "sizes": PICTURES},
        "tiny-unet-sft": {"autoencoder": f"{work}/tiny-image-autoencoder/autoencoder", "sizes": UNET,
                          "audio_proj": f"{work}/tiny-audio/audio_proj.safetensors",
                          "latents_folder": f"{work}/image-latents"},
        "tiny-unet-dpo": PREFERENCES | {"model": f"{work}/tiny-unet-sft/model",
                                        "store": f"{work}/unet-store", "pairs_folder": f"{work}/pairs"},
        "tmm-expansion": {"model": f"{work}/tiny-dit-sft/model", "clips": FAST,
                          "clips_folder": f"{work}/clips-fast", "latents_folder": f"{work}/latents-fast"},
        "unet-rate": {"model": f"{work}/tiny-unet-sft/model", "clips": FAST,
                      "clips_folder": f"{work}/clips-fast", "latents_folder": f"{work}/image-fast"},
    }[name.replace("winners", "dpo")]  # fmt: skip
    train = replace(recipe.config.train, steps=2, log_every=1, max_minutes=None, preview_every=1)
    if not name.endswith(("dpo", "winners", "autoencoder")):
        train = replace(train, preview_every=0)
    return replace(recipe, config=replace(recipe.config, batch_size=2, train=train, **(stores | own)))


FAST = replace(CLIPS, tempos=(1.0, 3.0), skeleton_rho=2)
PREFERENCES = {"held_out": HeldOutConfig(windows=2, draws=2, motion_windows=1)}


def rated_store(folder: Path, model: Path) -> PreferenceStore:
    """Two takes of each of two people; the second is said to be better, of one for training, the other held
    out."""
    store = PreferenceStore.create(folder)
    axis = {"winner": 4.0, "loser": 2.0, "n": 3, "spread": 0.0}
    pairs = []
    for number, split in enumerate(("train", "held_out")):
        condition = add_world_condition(store, number, seconds=0.68)
        loser, winner = make_candidates(store, [condition], [Variant(str(model), seed) for seed in (0, 1)])
        axes = {"alignment": axis, "fidelity": dict(axis)}
        names = (f"pair-{number}", condition.condition_id, winner.clip_id, loser.clip_id)
        pairs.append(Pair(*names, axes, gap=2.0, weight=1.0, split=split, segment_labels=None))
    store.write_pairs(pairs)
    return store


@pytest.fixture(scope="module")
def results(work) -> dict[str, Path]:
    """What each recipe returns, run one after the other: the DiT stands on autoencoder and ear."""
    made = {}
    for name in OF_THE_WORLD:
        if name == "tiny-dpo":
            rated_store(work / "store", made["tiny-dit-sft"])
        if name == "tiny-unet-dpo":
            rated_store(work / "unet-store", made["tiny-unet-sft"])
        recipe = miniature(name, work)
        made[name] = recipe.run(recipe.config, work / name)
    return made


def steps_logged(folder: Path) -> list[int]:
    return [record["step"] for record in read_log(folder) if "loss" in record]


@pytest.mark.parametrize("name", OF_THE_WORLD)
def test_a_run_logs_its_steps_and_returns_what_it_made(results, work, name):
    assert steps_logged(work / name) == [1, 2]
    assert results[name].exists()
    assert work / name in results[name].parents
    losses = [record["loss"] for record in read_log(work / name) if "loss" in record]
    assert all(0 < loss < 1e4 for loss in losses)


@pytest.mark.parametrize("name", OF_THE_WORLD)
def test_a_run_goes_on_where_it_stopped(results, work, name):
    recipe, folder = miniature(name, work), work / f"{name}-further"
    shutil.copytree(work / name, folder)
    longer = replace(recipe.config, train=replace(recipe.config.train, steps=3))
    made = recipe.run(longer, folder)
    assert made == folder / results[name].relative_to(work / name)
    assert steps_logged(folder) == [1, 2, 3]


def test_a_finished_run_is_not_trained_again(results, work):
    recipe, before = miniature("tiny-audio", work), load_file(results["tiny-audio"])
    assert recipe.run(recipe.config, work / "tiny-audio") == results["tiny-audio"]
    assert steps_logged(work / "tiny-audio") == [1, 2]
    after = load_file(results["tiny-audio"])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_ablations_make_what_they_are_about(results):
    fewer, faster = (load_model(results[name]) for name in ("tmm-expansion", "unet-rate"))
    assert fewer.backbone.config.audio_expansion == fewer.backbone.config.skeleton_expansion == 1
    assert faster.backbone.windows.skeleton_rho == 2
    assert faster.info.window_frames == load_model(results["tiny-unet-sft"]).info.window_frames


def test_the_autoencoder_can_be_loaded_and_codes_pictures(results):
    autoencoder = TinyVideoAutoencoder.from_pretrained(results["tiny-autoencoder"])
    assert autoencoder.latent_std.min() > 0
    assert (autoencoder.latent_std != 1).any(), "latents were normalised"
    with torch.no_grad():
        assert autoencoder.encode_video(torch.zeros(1, 3, 5, 64, 64)).shape == (
            1,
            autoencoder.spec.latent_channels,
            2,
            8,
            8,
        )


def test_the_observer_can_be_loaded_and_sees(results):
    observer = PortraitObserver.from_pretrained(results["tiny-observer"])
    with torch.no_grad():
        assert observer(torch.zeros(1, 3, 128, 128)).mouth_open.shape == (1,)


def test_a_finished_model_is_where_a_further_run_begins(results, work):
    """With rates of almost zero it comes out as it went in, whatever sizes the configuration has for new
    models."""
    recipe = miniature("tiny-dit-sft", work)
    still = replace(recipe.config.train.optimizer, learning_rate=1e-30, muon_learning_rate=1e-30)
    further = replace(
        recipe.config,
        model=str(results["tiny-dit-sft"]),
        sizes=replace(SIZES, layers=7),
        latents_folder=f"{work}/latents-further",
        train=replace(recipe.config.train, optimizer=still),
    )
    made = load_model(recipe.run(further, work / "further")).backbone.state_dict()
    before = load_model(results["tiny-dit-sft"]).backbone.state_dict()
    assert made.keys() == before.keys()
    assert all(torch.allclose(made[name], before[name], rtol=0, atol=1e-25) for name in made)


@pytest.mark.parametrize("name", ["tiny-dit-sft", "tiny-unet-sft"])
def test_the_model_folder_is_complete_and_keeps_the_ear_as_it_was(results, work, name):
    model = load_model(results[name])
    assert model.info.name == name
    assert model.info.window_frames == (13 if name == "tiny-dit-sft" else 11)
    ear = load_file(results["tiny-audio"])
    kept = model.backbone.audio_proj.state_dict()
    assert ear.keys() == kept.keys()
    for key, weight in ear.items():
        stored = weight.bfloat16().float() if weight.ndim > 1 else weight
        assert torch.equal(kept[key], stored), key
    card = (results[name] / "README.md").read_text()
    assert name in card
    assert "AI-generated" in card


@pytest.mark.parametrize(
    ("missing", "maker"), [("autoencoder", "tiny-autoencoder"), ("audio_proj", "tiny-audio")]
)
def test_a_dit_without_its_parts_says_what_to_train(results, work, missing, maker):
    recipe = miniature("tiny-dit-sft", work)
    config = replace(recipe.config, **{missing: f"{work}/nowhere"})
    with pytest.raises(InputError, match=f"nowhere is missing.*hallo4 train {maker}"):
        recipe.run(config, work / "other")


@pytest.mark.parametrize(
    ("start", "names"),
    [
        ("tiny-dit-sft", ("tiny-dpo", "tiny-winners")),
        ("tiny-unet-sft", ("tiny-unet-dpo", "tiny-unet-winners")),
    ],
)
def test_preference_training_gives_an_adapter_that_changes_the_attention_alone(results, start, names):
    base = load_model(results[start]).backbone.state_dict()
    for name in names:
        assert not (results[name] / "dit").exists()
        made = load_model(results[name])
        changed = {
            key for key, value in made.backbone.state_dict().items() if not torch.equal(value, base[key])
        }
        assert changed
        assert all(".attn" in key for key in changed)
        assert made.info.name == {"tiny-dpo": "tiny-dit", "tiny-unet-dpo": "tiny-unet"}.get(name, name)
        assert "AI-generated" in (results[name] / "README.md").read_text()


def test_a_loss_of_another_prediction_than_the_models_is_refused(results, work):
    recipe = miniature("tiny-unet-dpo", work)
    flow = replace(recipe.config, loss=replace(recipe.config.loss, prediction="flow"))
    with pytest.raises(InputError, match="predicts 'v', but the loss is of 'flow'"):
        recipe.run(flow, work / "never")


def test_previews_of_preference_training_look_at_axes_sources_and_noise_levels(results, work):
    previews = [record["preview"] for record in read_log(work / "tiny-dpo") if "preview" in record]
    assert len(previews) == 2
    assert {"accuracy", "winner_diff", "motion_ratio", "score", "accuracy: alignment"} <= previews[0].keys()
    assert any(key.startswith("margin: sigma ") for key in previews[0])
    assert any(" over " in key for key in previews[0])


def test_preference_training_without_pairs_says_how_to_make_them(results, work):
    recipe = miniature("tiny-dpo", work)
    with pytest.raises(InputError, match="nowhere"):
        recipe.run(replace(recipe.config, store=str(work / "nowhere")), work / "other")
    empty = PreferenceStore.create(work / "empty")
    with pytest.raises(InputError, match=r"no pairs to train on.*hallo4 prefer pairs"):
        recipe.run(replace(recipe.config, store=str(empty.folder)), work / "other")
    store = PreferenceStore.open(work / "store")
    kept = list(store.pairs().values())
    store.write_pairs([pair for pair in kept if pair.split == "train"])
    try:
        with pytest.raises(InputError, match="no pair is held out"):
            recipe.run(recipe.config, work / "other")
    finally:
        store.write_pairs(kept)


def test_an_anchor_adds_the_fine_tuning_loss_on_real_clips(results, work):
    recipe = miniature("tiny-dpo", work)
    fine_tuning = replace(miniature("tiny-dit-sft", work).config, latents_folder=f"{work}/latents-anchor")
    anchored = replace(recipe.config, anchor_weight=3.0, anchor=fine_tuning)
    recipe.run(anchored, work / "anchored")
    plain, held = (next(r for r in read_log(work / name) if "loss" in r) for name in ("tiny-dpo", "anchored"))
    assert held["metrics"]["winner_error"] == plain["metrics"]["winner_error"], (
        "both start from the reference"
    )
    assert held["loss"] - plain["loss"] > 0.5 * 3.0 * held["metrics"]["real_error"] > 0
