"""A tiny DiT on an autoencoder of 16x16x4: trained, saved, loaded, planned, prepared for and animated."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("espeakng_loader", reason="recipes render the world: pip install 'hallo4[world]'")
pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")

from hallo4.data import ClipStoreConfig
from hallo4.errors import CheckpointError
from hallo4.media import read_frames
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.dit_detail import GUESS_VARIANCE
from hallo4.pipelines import PortraitAnimator, load_model
from hallo4.pipelines.diagnosis import diagnose
from hallo4.recipes import RECIPES
from hallo4.recipes.tiny_dit import DiTSizes, build_dit
from hallo4.recipes.tiny_unet import UNetSizes
from hallo4.types import AutoencoderSpec
from hallo4.world import make_episode
from hallo4.world.framing import Framing

SIZES = DiTSizes(heads=2, head_dim=16, layers=1, ffn_dim=32, audio_tokens=2, audio_hidden_dim=16)
CLIPS = ClipStoreConfig(episodes=4, windows=1, frames=5, seconds=0.4, size_px=256, episodes_per_shard=2)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A random 16x16x4 autoencoder of six channels, and an audio projector."""
    folder = tmp_path_factory.mktemp("larger-cells")
    torch.manual_seed(0)
    autoencoder = TinyVideoAutoencoder(6, 8, 8, (1, 1, 1), (1, 1, 1), finest_width=8)
    autoencoder.save_pretrained(folder / "autoencoder")
    projector = build_dit(SIZES, AutoencoderSpec(4, 4, 8, True)).audio_proj.state_dict()
    save_file({name: value.contiguous() for name, value in projector.items()}, folder / "proj.safetensors")
    return folder


def trained(work, name, run, **values):
    """The model of a recipe after two steps of two clips, trained in the folder `run`."""
    recipe = RECIPES[name]()
    train = replace(recipe.config.train, steps=2, log_every=1, max_minutes=None, preview_every=0)
    places = {"autoencoder": f"{work}/autoencoder", "audio_proj": f"{work}/proj.safetensors"}
    latents = f"{work}/latents-{getattr(values.get('sizes'), 'draft', False)}"
    places |= {"clips_folder": f"{work}/clips", "latents_folder": latents}
    values = {"clips": CLIPS, "batch_size": 2, "train": train} | places | values
    return recipe.run(replace(recipe.config, **values), run)


@pytest.mark.parametrize(
    ("patch", "tall", "head"),
    [
        (1, (304, 224), {}),
        (2, (256, 192), {}),
        (4, (256, 192), {"detail_width": 8}),
        (4, (256, 192), {"detail_width": 8, "draft": True}),
    ],
)
def test_a_tiny_dit_takes_cells_of_sixteen_pixels(work, tmp_path, patch, tall, head):
    """`tall`: the canvas (height, width) of a picture of 192x256, of about the trained area."""
    folder = trained(work, "tiny-dit-sft", tmp_path, sizes=replace(SIZES, patch=patch, **head))
    model = load_model(folder)
    rules = model.backbone.windows
    assert (rules.cell_px, rules.side_multiple_px, model.info.size_px) == (16, 16 * patch, 256)
    if head:  # the reference was measured as a guess of these clips
        guesses = model.backbone.detail_head.guess_log_variance
        assert (guesses - math.log(GUESS_VARIANCE)).abs().min() > 1e-3
    assert "16x16x4, 6 channels" in (folder / "README.md").read_text()
    assert any("256x256" in text for _, text in diagnose(str(folder), 1.0, "auto", "auto", "cpu"))
    for size_px, aspect, picture, shape in (
        (256, 1.0, (256, 256), (256, 256)),
        (222, 0.75, (256, 192), tall),
    ):
        episode = make_episode(3, 0.2, size_px, framing=Framing(aspect, 0.4))
        assert episode.portrait_u8.shape[:2] == picture
        given = (episode.portrait_u8, episode.audio, episode.skeleton)
        PortraitAnimator(model).animate(*given, output=tmp_path / "video.mp4")
        frames = np.stack(list(read_frames(tmp_path / "video.mp4")))
        assert frames.shape == (5, *shape, 3)


def test_a_tiny_unet_is_refused_before_it_is_trained(work, tmp_path):
    """Its locator comes in pixels, so it is for cells of eight."""
    code = TinyVideoAutoencoder(4, 8, 8, (1, 1, 1), (1, 1, 1), frames_per_latent=1, finest_width=8)
    code.save_pretrained(work / "pictures")
    sizes = UNetSizes(widths=(16, 16, 32), heads=(1, 2, 2), audio_dim=8, audio_tokens=2, audio_hidden_dim=16)
    with pytest.raises(CheckpointError, match="per latent cell is 16, but the backbone was made for 8"):
        trained(work, "tiny-unet-sft", tmp_path, sizes=sizes, autoencoder=f"{work}/pictures")
