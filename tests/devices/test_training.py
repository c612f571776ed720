"""Fine-tuning and preference training where the model is: batches, adapters, previews, encoding."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_device import pretend_device
from safetensors.torch import save_file

pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")

from hallo4.data.latents import RegionWeights, build_cache
from hallo4.data.pair_latents import EncodedPairs, PairWindow, encode_pair_window
from hallo4.diffusion import PairDrawConfig, PreferenceLossConfig
from hallo4.models.devices import device_of
from hallo4.models.observer import STATES, PortraitObserver
from hallo4.pipelines.portrait_pose import load_observer
from hallo4.preference import Pair
from hallo4.recipes import held_out_pairs
from hallo4.recipes.held_out_pairs import HeldOutConfig
from hallo4.recipes.observer_data import observer_method
from hallo4.recipes.pair_data import PairData
from hallo4.recipes.tiny_audio import MouthFromAudio, TinyAudioConfig, held_out_correlation, mouth_method
from hallo4.recipes.tiny_autoencoder import TinyAutoencoderConfig, autoencoder_method, held_out_psnr
from hallo4.recipes.tiny_dit import TinyDiTConfig
from hallo4.recipes.tiny_unet import TinyUNetConfig
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    PairBatch,
    PreferenceGuard,
    TrainConfig,
    add_lora,
    pair_step,
    predict,
    to_device_of,
)
from hallo4.training.sft import draw_batch, sft_objective

SEED = 3


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED))


def clips_of(model):
    """A batch of cached latents of four clips, on the CPU; of pictures, one latent a frame."""
    frames = 7 if model.info.family == "unet" else 5
    latents = frames if model.info.family == "unet" else 2
    return {
        "video": draw(4, 4, latents, 4, 4), "reference": draw(4, 4, 1, 4, 4),
        "skeleton": draw(4, 4, frames, 4, 4), "audio_windows": draw(4, frames, 5, 4, 40),
        "grey": draw(1, 4, latents, 4, 4), "regions": draw(4, 3, latents, 4, 4) > 0.5,
    }  # fmt: skip


def gradient_of(backbone):
    """The sum of the sizes of all gradients."""
    return sum(float(p.grad.abs().sum()) for p in backbone.parameters() if p.grad is not None)


def step_of(model, batch, config):
    """(loss, summed gradient) of a step of fine-tuning on the device of the backbone."""
    torch.manual_seed(SEED)
    backbone = model.backbone.train().requires_grad_(True)
    drawn = draw_batch(batch, config, backbone.windows, torch.Generator().manual_seed(SEED))
    loss, _ = sft_objective(config, model.autoencoder)(backbone, to_device_of(backbone, drawn), 0)
    loss.backward()
    assert loss.device == device_of(backbone)
    return float(loss.detach()), gradient_of(backbone)


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("tiny_model", replace(TinyDiTConfig(), known_share=0.5, silent_share=0.5)),
        ("tiny_unet", replace(TinyUNetConfig(), known_share=0.9, own_known_share=0.9, silent_share=0.5)),
    ],
)
def test_a_step_of_fine_tuning_is_the_same_on_another_device(family, config, request, there):
    model = request.getfixturevalue(family)
    expected = step_of(there(model, "cpu"), clips_of(model), config)
    with pretend_device() as device:
        found = step_of(there(model, device), clips_of(model), config)
    assert found == pytest.approx(expected, rel=1e-3)


def pair_rows(model, sides=("winner", "loser")):
    """Two encoded windows of one pair, the second of which goes on; the videos are noise."""
    rules, rows = model.backbone.windows, []
    rng = np.random.default_rng(0)
    for continues in (False, True):
        clips = {f"{side}_u8": rng.integers(0, 256, (5, 32, 32, 3), np.uint8) for side in sides}
        known = {f"{side}_known_u8": clips[f"{side}_u8"][: rules.known_frames] for side in sides}
        if not continues:
            known = dict.fromkeys(known)
        window = PairWindow(
            **clips, **known, skeleton_pm1=draw(5, 3, 32, 32).clamp(-1, 1), points_px=None, real_frames=9,
            portrait_pm1=draw(3, 32, 32).clamp(-1, 1), audio_windows=draw(5, 5, 4, 40),
        )  # fmt: skip
        rows.append(encode_pair_window(window, model.autoencoder, rules))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def pairs_of(model, tensors, folder):
    axes = {axis: {"winner": 2.0, "loser": 1.0, "n": 3, "spread": 0.0} for axis in ("alignment", "fidelity")}
    pair = Pair("p", "c", "w", "l", axes, gap=1.0, weight=1.0, split="held_out", segment_labels=(1.0,))
    made_for = (PairDrawConfig(drop_rate=0.5), RegionWeights(), model.info, model.backbone.windows)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "p.safetensors")
    return PairData(EncodedPairs({"p": folder / "p.safetensors"}), {"p": pair}, *made_for)


@pytest.mark.usefixtures("computes_in_fp32")
@pytest.mark.parametrize("family", ["tiny_model", "tiny_unet"])
def test_pairs_are_encoded_where_the_autoencoder_is_and_kept_on_the_cpu(family, request, there):
    model = request.getfixturevalue(family)
    expected = pair_rows(there(model, "cpu"))
    with pretend_device() as device:
        found = pair_rows(there(model, device))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.device.type == "cpu", name
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=2e-3, msg=name)


def preference_step(model, tensors, mode, folder):
    """(loss, summed gradient of the adapter) of a step on both rows."""
    attention = AdapterConfig(rank=2, alpha=2.0)
    backbone = add_lora(model.backbone, attention, parts=["attn1"])
    kind = "flow" if backbone.schedule is None else "v"
    rows = torch.tensor([0, 1])
    batch = PairBatch(**to_device_of(backbone, pairs_of(model, tensors, folder).batch(rows, rows)))
    config = PreferenceLossConfig(prediction=kind)
    loss, stats = pair_step(backbone, batch, predict, AdapterOff(backbone), config, mode)
    loss.backward()
    assert stats.summary()["margin"] == 0.0
    return float(loss.detach()), gradient_of(backbone)


@pytest.mark.parametrize("mode", ["batched", "split"])
@pytest.mark.parametrize("family", ["tiny_model", "tiny_unet"])
def test_a_step_of_preference_training_is_the_same_on_another_device(family, mode, request, there, tmp_path):
    model = request.getfixturevalue(family)
    tensors = pair_rows(there(model, "cpu"))
    torch.manual_seed(SEED)
    expected = preference_step(there(model, "cpu"), tensors, mode, tmp_path / "here")
    with pretend_device() as device:
        torch.manual_seed(SEED)
        found = preference_step(there(model, device), tensors, mode, tmp_path / "there")
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("family", ["tiny_model", "tiny_unet"])
def test_a_preview_of_preference_training_brings_its_pairs_and_windows_along(
    family, request, there, monkeypatch, tmp_path
):
    model = request.getfixturevalue(family)
    tensors, seen = pair_rows(there(model, "cpu")), []
    monkeypatch.setattr(held_out_pairs, "observer", lambda: None)
    monkeypatch.setattr(held_out_pairs, "measure", lambda observer, frames_u8: seen.append(frames_u8))
    monkeypatch.setattr(held_out_pairs, "amplitude_px", lambda measured: 2.0)
    clips = {name: SimpleNamespace(source="here", model="m", kind="made") for name in "wl"}
    monkeypatch.setattr(PairData, "groups", lambda self, rows, clips: {"all": torch.ones(len(rows)) > 0})
    with pretend_device() as device:
        start = there(model, device)
        backbone = add_lora(start.backbone, AdapterConfig(rank=2, alpha=2.0), parts=["attn1"])
        kind = "flow" if backbone.schedule is None else "v"
        config = (HeldOutConfig(), PreferenceLossConfig(prediction=kind), PreferenceGuard())
        what = (
            pairs_of(model, tensors, tmp_path / "pairs"),
            torch.tensor([0, 1]),
            clips,
            start,
            AdapterOff(backbone),
        )
        held_out = held_out_pairs.HeldOutPairs(*what, *config, TrainConfig("run", 1))
        held_out.before_training(backbone)
        values = held_out(1, backbone)
    assert values["motion_ratio"] == 1.0
    assert values["accuracy: all"] == values["accuracy"]
    assert len(seen) == 4, "two windows, of the reference and of the model"
    assert all(isinstance(frames, np.ndarray) for frames in seen)


def test_the_audio_projector_is_trained_and_judged_where_it_is():
    torch.manual_seed(0)
    model = MouthFromAudio(TinyAudioConfig(dim=32, tokens=2, hidden_dim=8))
    rng = np.random.default_rng(0)
    curves = rng.random((3, 21, 3)).astype(np.float32)
    sounds = {"features": rng.normal(size=(3, 21, 4, 40)).astype(np.float16), "curves": curves}
    batch = {"windows": draw(2, 17, 5, 4, 40), "curves": torch.from_numpy(curves[:2, :17])}
    expected = float(mouth_method(model, batch, 0)[0].detach()), held_out_correlation(model, sounds)
    with pretend_device() as device:
        model.to(device)
        loss, _ = mouth_method(model, to_device_of(model, batch), 0)
        loss.backward()
        found = float(loss.detach()), held_out_correlation(model, sounds)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1] == pytest.approx(expected[1], abs=1e-4)


class _Store:
    """Two clips of noise, 32 px, 5 frames."""

    config, folder, shapes = None, "noise", {"32x32": range(2)}

    def __len__(self):
        return 2

    def get(self, name, index):
        rng = np.random.default_rng(index)
        if name == "points_px":
            return rng.uniform(2, 30, (5, 133, 2)).astype(np.float32)
        if name == "audio_windows":
            return rng.normal(size=(5, 5, 4, 40)).astype(np.float16)
        return rng.integers(0, 256, (32, 32, 3) if name == "portrait_u8" else (5, 32, 32, 3), np.uint8)


@pytest.mark.usefixtures("computes_in_fp32")
def test_clips_are_encoded_where_the_autoencoder_is_and_kept_on_the_cpu(tiny_model, there, tmp_path):
    expected = build_cache(_Store(), there(tiny_model, "cpu").autoencoder, tmp_path / "here").sizes[0]
    with pretend_device() as device:
        found = build_cache(_Store(), there(tiny_model, device).autoencoder, tmp_path / "there").sizes[0]
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.device.type == "cpu", name
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=2e-3, msg=name)


def test_the_autoencoder_is_trained_and_judged_where_it_is(tiny_model):
    autoencoder = copy.deepcopy(tiny_model.autoencoder)
    batch = {"groups_pm1": draw(2, 3, 4, 16, 16).clamp(-1, 1), "weights": torch.ones(2, 1, 1, 16, 16)}
    config = TinyAutoencoderConfig(perceptual_weight=1.0)
    method, expected = autoencoder_method(config, load_observer()), held_out_psnr(autoencoder, _Store())
    with pretend_device() as device:
        autoencoder.to(device).requires_grad_(True)
        loss, _ = method(autoencoder, to_device_of(autoencoder, batch), 0)
        loss.backward()
        assert loss.device == device
        found = held_out_psnr(autoencoder, _Store())
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_observer_is_trained_where_it_is():
    torch.manual_seed(0)
    observer, count = PortraitObserver(), 2
    points = observer(torch.zeros(1, 3, 128, 128)).points_01.shape[1]
    batch = {
        "frames_pm1": draw(count, 3, 128, 128), "points_01": torch.rand(count, points, 2),
        "visible": torch.ones(count, points), **{name: torch.rand(count) for name in STATES},
    }  # fmt: skip
    expected = float(observer_method(observer, batch, 0)[0].detach())
    with pretend_device() as device:
        observer.to(device)
        loss, metrics = observer_method(observer, to_device_of(observer, batch), 0)
        loss.backward()
        assert all(torch.isfinite(torch.as_tensor(float(value))) for value in metrics.values())
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
