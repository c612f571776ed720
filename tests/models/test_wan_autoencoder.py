"""Wan's autoencoder: equal to diffusers', frame by frame or not; nothing kept, nothing mixed, bad input."""

import json

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from hallo4.errors import CheckpointError, ShapeError
from hallo4.models import wan_autoencoder as module
from hallo4.models import wan_layers
from hallo4.models.wan_autoencoder import WanAutoencoder
from hallo4.types import Autoencoder, AutoencoderSpec
from hallo4.weights.module_folder import load_strictly, save_weights

SMALL = {"base_dim": 8}


def with_random_weights(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(1 + 0.1 * noise if name.endswith("gamma") else noise * fan_in**-0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture
def model():
    return with_random_weights(WanAutoencoder(**SMALL))


@pytest.fixture
def plain(model):
    """diffusers' own class with the same weights."""
    plain = AutoencoderKLWan(**SMALL).eval().requires_grad_(False)
    plain.load_state_dict(model.state_dict())
    return plain


def statistics(plain):
    mean, std = torch.tensor([plain.config.latents_mean, plain.config.latents_std], dtype=plain.dtype)
    return mean[:, None, None, None], std[:, None, None, None]


def encoded_by_diffusers(plain, video):
    mean, std = statistics(plain)
    return (plain.encode(video).latent_dist.mode() - mean) / std


def decoded_by_diffusers(plain, latents):
    mean, std = statistics(plain)
    return plain.decode(latents * std + mean).sample


def video(frames, batch=1, height=16, width=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, height, width, generator=generator) * 2 - 1


def latents(frames, batch=1, height=2, width=3, spread=1.0):
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(batch, 16, frames, height, width, generator=generator) * spread


def assert_near(found, expected, limit):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= limit * expected.abs().max()


def record_batches(model):
    """Sizes [B, n] of what the encoder is given from now on."""
    sizes = []
    model.encoder.register_forward_pre_hook(lambda _, given: sizes.append((len(given[0]), given[0].shape[2])))
    return sizes


def test_it_is_an_autoencoder_that_says_what_it_is(model):
    assert isinstance(model, Autoencoder)
    assert model.spec == AutoencoderSpec(16, 4, 8, independent_latents=False)


@pytest.mark.parametrize("pixels", [1, 2 * 16 * 24, 10**9], ids=["1 frame", "2 frames", "all frames"])
def test_videos_are_coded_as_by_diffusers_however_many_frames_run_at_once(model, plain, monkeypatch, pixels):
    monkeypatch.setattr(wan_layers, "PIXELS_AT_ONCE", pixels)
    clip, code = video(13, batch=2), latents(3, batch=2)
    assert_near(model.encode_video(clip), encoded_by_diffusers(plain, clip), 1e-6)
    assert_near(model.decode_video(code).clamp(-1, 1), decoded_by_diffusers(plain, code), 1e-5)


def test_the_methods_of_diffusers_still_do_what_they_say(model, plain):
    clip, code = video(9), latents(2)
    assert_near(model.encode(clip).latent_dist.mode(), plain.encode(clip).latent_dist.mode(), 1e-6)
    assert_near(model.decode(code).sample, plain.decode(code).sample, 1e-5)


def test_what_leaves_the_range_is_not_clamped(model, plain):
    code = latents(2, spread=4.0)
    decoded = model.decode_video(code)
    assert decoded.abs().max() > 1.5
    assert_near(decoded.clamp(-1, 1), decoded_by_diffusers(plain, code), 1e-5)


# ------------------------------------------------------------------ frames one by one


def one_by_one(plain, frames):
    singles = [encoded_by_diffusers(plain, frames[:, :, t : t + 1]) for t in range(frames.shape[2])]
    return torch.cat(singles, dim=2)


def test_frames_are_encoded_as_videos_of_one_frame_in_bounded_batches(model, plain, monkeypatch):
    monkeypatch.setattr(wan_layers, "PIXELS_AT_ONCE", 4 * 16 * 24 + 1)
    frames = video(5, batch=2)
    sizes = record_batches(model)
    assert_near(model.encode_frames(frames), one_by_one(plain, frames), 1e-6)
    assert sizes == [(4, 1), (4, 1), (2, 1)]


def test_a_single_frame_needs_a_third_of_the_operations(model, plain):
    frame = video(1)
    with FlopCounterMode(display=False) as ours:
        model.encode_frames(frame)
    with FlopCounterMode(display=False) as theirs:
        plain.encode(frame)
    assert 0.3 < ours.get_total_flops() / theirs.get_total_flops() < 0.4


def test_frames_follow_the_weights_when_they_are_cast_or_changed(model, plain):
    frames = video(2)
    model.encode_frames(frames)
    for each in (model, plain):
        with_random_weights(each, seed=5)
        each.double()
    assert_near(model.encode_frames(frames).double(), one_by_one(plain, frames.double()), 1e-6)


def test_frames_that_repeat_the_one_before_are_encoded_once(model, plain):
    a, b = video(1, batch=2), video(1, batch=2, seed=2)
    only_one_clip_repeats = torch.cat([b[:1], a[1:]])
    frames = torch.cat([a, a, b, only_one_clip_repeats, b, b, b], dim=2)
    expected = one_by_one(plain, frames)
    sizes = record_batches(model)
    assert_near(model.encode_frames(frames), expected, 1e-6)
    assert sum(batch for batch, _ in sizes) == 2 * 4


# ------------------------------------------------------------------ videos that do not change


def flops(call):
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def known_then_grey(frames):
    return torch.cat([video(1, height=8, width=8), torch.zeros(1, 3, frames - 1, 8, 8)], dim=2)


@pytest.mark.parametrize(
    "clip", [known_then_grey(81), torch.full((1, 3, 61, 8, 8), -1.0)], ids=["known", "black"]
)
def test_a_still_stretch_is_not_computed_and_changes_no_bit(model, plain, clip):
    whole, expected = flops(lambda: model._encode_steps(clip, [False] * clip.shape[2]))
    saved, found = flops(lambda: model.encode_video(clip))
    assert torch.equal(found, expected)
    assert saved < 0.5 * whole
    assert_near(found, encoded_by_diffusers(plain, clip), 1e-6)


@pytest.mark.parametrize("change", [38, 41, 45])
def test_a_video_may_move_again_after_a_still_stretch(model, change):
    clip = torch.cat([known_then_grey(change), video(61 - change, 1, 8, 8)], dim=2)
    saved, found = flops(lambda: model.encode_video(clip))
    whole, expected = flops(lambda: model._encode_steps(clip, [False] * 61))
    assert torch.equal(found, expected)
    assert saved < whole


def test_a_clip_that_moves_beside_a_still_one_is_computed(model, plain):
    clips = torch.cat([torch.zeros(1, 3, 33, 16, 24), video(33)])
    assert_near(model.encode_video(clips), encoded_by_diffusers(plain, clips), 1e-6)


def test_grey_is_encoded_once_for_its_size(model, plain):
    grey = torch.zeros(1, 3, 9, 16, 24)
    expected = encoded_by_diffusers(plain, grey)
    first = model.encode_video(grey)
    assert_near(first, expected, 1e-6)
    sizes = record_batches(model)
    first.zero_()  # what was returned is the caller's
    assert_near(model.encode_video(grey), expected, 1e-6)
    assert_near(
        model.encode_video(grey[:, :, :5].repeat(2, 1, 1, 1, 1)),
        expected[:, :, :2].repeat(2, 1, 1, 1, 1),
        1e-6,
    )
    assert sizes == []
    assert_near(model.encode_video(torch.zeros(1, 3, 13, 16, 24))[:, :, :3], expected, 1e-6)
    assert len(sizes) == 4


@pytest.mark.parametrize("change", ["in place", "cast", "assigned"])
def test_grey_is_encoded_anew_for_other_weights(model, change):
    grey = torch.zeros(1, 3, 5, 16, 24)
    model.encode_video(grey)
    if change == "in place":
        model.encoder.conv_out.bias.add_(1.0)
    elif change == "cast":
        model.to(torch.bfloat16)
    else:
        model.load_state_dict(with_random_weights(WanAutoencoder(**SMALL), 7).state_dict(), assign=True)
    assert torch.equal(model.encode_video(grey), model._encode_steps(grey, [False] * 5))


def test_grey_of_few_sizes_is_kept(model):
    for width in range(8, 8 * (module.GREY_SIZES + 3), 8):
        model.encode_video(torch.zeros(1, 3, 1, 8, width))
    assert len(model._grey) == module.GREY_SIZES


def test_a_still_video_that_is_not_grey_is_not_taken_for_grey(model, plain):
    still = torch.full((1, 3, 5, 16, 24), -1.0)
    model.encode_video(torch.zeros_like(still))
    assert_near(model.encode_video(still), encoded_by_diffusers(plain, still), 1e-6)


# ------------------------------------------------------------------ decoding


def test_decoded_pieces_come_one_by_one_and_do_not_depend_on_later_latents(model):
    code = latents(4, batch=2)
    whole = model.decode_video(code)
    pieces = model.decode_chunks(code)
    first = next(pieces)
    assert torch.equal(first, whole[:, :, :1])
    assert [piece.shape[2] for piece in pieces] == [4, 4, 4]
    assert torch.equal(model.decode_video(code[:, :, :2]), whole[:, :, :5])


def test_calls_may_run_into_each_other(model):
    one, other = latents(3), latents(4)
    expected = model.decode_video(one), model.decode_video(other)
    clip = video(5)
    latents_of_clip = model.encode_video(clip)
    pairs = []
    for pieces in zip(model.decode_chunks(one), model.decode_chunks(other)):
        pairs.append(pieces)
        assert torch.equal(model.encode_video(clip), latents_of_clip)
    for found, whole in zip(zip(*pairs), expected):
        assert torch.equal(torch.cat(found, dim=2), whole[:, :, :9])


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return 1
    if isinstance(value, dict):
        value = list(value.values())  # the attributes of a module, its hooks, its settings
    return sum(map(tensors_in, value)) if isinstance(value, list | tuple) else 0


def kept_tensors(model):
    return tensors_in({name: value for name, value in vars(model).items() if name != "_modules"})


def test_nothing_is_kept_after_a_call_or_a_failure(model):
    clip, code = video(9), latents(3)
    expected = model.encode_video(clip), model.decode_video(code), model.decode_video(code, tile_px=128)

    def fail(*_):
        raise KeyboardInterrupt

    for layer, call in (
        (model.encoder.conv_out, lambda: model.encode_video(clip)),
        (model.decoder.conv_out, lambda: model.decode_video(code)),
        (model.decoder.conv_out, lambda: model.decode_video(latents(2, height=18), tile_px=128)),
    ):
        hook = layer.register_forward_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            call()
        hook.remove()
        assert kept_tensors(model) == 0
    found = model.encode_video(clip), model.decode_video(code), model.decode_video(code, tile_px=128)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert kept_tensors(model) == 0


def test_tiles_are_those_of_diffusers_and_one_tile_is_the_whole(model, plain):
    code = latents(2, height=18, width=4)
    mean, std = statistics(plain)
    plain.enable_tiling(128, 128, 96, 96)
    tiled = model.decode_video(code, tile_px=128)
    assert_near(tiled, plain.decode(code * std + mean).sample, 1e-5)
    whole = model.decode_video(code).clamp(-1, 1)
    assert (tiled - whole).abs().max() > 0.01
    assert_near(model.decode_video(code, tile_px=256), whole, 1e-5)


# ------------------------------------------------------------------ types, places, files


def test_parts_may_differ_in_type_and_results_are_float32(model, plain):
    code, clip = latents(2), video(5)
    model.decoder.to(torch.bfloat16)
    model.post_quant_conv.to(torch.bfloat16)
    decoded = model.decode_video(code)
    assert decoded.dtype == torch.float32
    assert 1e-4 < (decoded.clamp(-1, 1) - decoded_by_diffusers(plain, code)).abs().mean() < 0.1
    assert_near(model.encode_video(clip.half()), encoded_by_diffusers(plain, clip.half().float()), 1e-6)
    model.to(torch.bfloat16)
    assert model.encode_video(clip).dtype == model.encode_frames(clip).dtype == torch.float32


def test_everything_is_made_on_the_device_of_the_input(monkeypatch):
    """On fake tensors of another device than the default, which refuse a partner from elsewhere.

    They hold no values, so what is asked of values is answered here.
    """
    monkeypatch.setattr(module, "still_frames", lambda video: [False] + [True] * (video.shape[2] - 1))
    monkeypatch.setattr(module, "is_grey", lambda video: True)
    elsewhere = "lazy:0"  # an index into a fake CUDA tensor needs a build of torch with CUDA
    with FakeTensorMode():
        model = WanAutoencoder(**SMALL).requires_grad_(False)
        weights = {name: torch.empty(t.shape, device=elsewhere) for name, t in model.state_dict().items()}
        model.load_state_dict(weights, assign=True)
        clip = torch.zeros(1, 3, 33, 8, 8, device=elsewhere)
        code = torch.zeros(1, 16, 2, 18, 4, device=elsewhere)
        with pytest.raises(RuntimeError, match="device"):  # the test itself works
            model.encode_video(clip.new_zeros(clip.shape, device="cpu"))
        made = [
            model.encode_video(clip),
            model.encode_frames(clip[:, :, :5]),
            model.decode_video(code),
            model.decode_video(code, tile_px=128),
        ]
    assert {str(tensor.device) for tensor in made} == {elsewhere}


def test_a_folder_is_read_by_the_strict_loader_and_by_diffusers(model, tmp_path):
    folder = tmp_path / "autoencoder"
    save_weights(folder, model, torch.float32)
    config = json.loads((folder / "config.json").read_text())
    assert config["_class_name"] == "AutoencoderKLWan"
    loaded = load_strictly(WanAutoencoder, config, folder).eval()
    theirs = AutoencoderKLWan.from_pretrained(folder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
        assert torch.equal(theirs.state_dict()[name], tensor)
    assert torch.equal(loaded.encode_video(video(5)), model.encode_video(video(5)))
    AutoencoderKLWan(**SMALL).save_pretrained(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert load_strictly(WanAutoencoder, config, tmp_path / "theirs").config.base_dim == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_residual": True}, "Wan2.2"),
        ({"dim_mult": [1, 2, 4], "temperal_downsample": [True, True]}, "4x4 pixels"),
        ({"in_channels": 12}, "12 channels"),
        ({"latents_std": [1.0] * 3}, "latents_std 3; 16"),
        ({"latents_std": [0.0] * 16}, "above 0"),
    ],
)
def test_other_autoencoders_are_refused_in_one_line(tmp_path, change, words):
    save_weights(tmp_path / "a", AutoencoderKLWan(**SMALL), torch.float32)
    with pytest.raises(CheckpointError, match=words) as error:
        load_strictly(WanAutoencoder, SMALL | change, tmp_path / "a")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "shape", "words"),
    [
        ("encode_video", (1, 3, 4, 16, 16), "4k\\+1"),
        ("encode_video", (1, 3, 0, 16, 16), "4k\\+1"),
        ("encode_video", (1, 3, 5, 12, 16), "multiples of 8; found 12x16"),
        ("encode_video", (1, 4, 5, 16, 16), "\\[1, 4, 5, 16, 16\\]"),
        ("encode_video", (3, 5, 16, 16), "\\[B, 3, T, H, W\\]"),
        ("encode_frames", (1, 3, 0, 16, 16), "no frame"),
        ("encode_frames", (1, 3, 2, 16, 20), "multiples of 8; found 16x20"),
        ("decode_video", (1, 4, 2, 2, 2), "\\[B, 16, F, h, w\\]"),
        ("decode_chunks", (1, 16, 0, 2, 2), "at least 1"),
    ],
)
def test_bad_shapes_give_one_line(model, method, shape, words):
    with pytest.raises(ShapeError, match=words) as error:
        getattr(model, method)(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tile_px", [0, 64, 200])
def test_impossible_tiles_give_one_line(model, tile_px):
    with pytest.raises(ShapeError, match=f"tile_px is {tile_px}"):
        model.decode_video(latents(1), tile_px=tile_px)
