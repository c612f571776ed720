"""The portrait DiT: agreement with diffusers, conditions, caching, training and its errors."""

from dataclasses import replace

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from torch.nn import functional as F

from hallo4.errors import CheckpointError, ShapeError
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_block import Attention, picture_rotations, video_rotations
from hallo4.models.rms_norm import RMSNorm
from hallo4.types import Backbone, MotionConditions

SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_dim": 8,
    "freq_dim": 16,
    "ffn_dim": 48,
    "num_layers": 3,
    "vace_layers": (0, 2),
}
AUDIO_SIZES = {"audio_blocks": 2, "audio_channels": 3, "audio_hidden_dim": 8, "audio_tokens": 2}
RELEASED_FORM = {**SIZES, **AUDIO_SIZES, "text_len": 6}
TINY_FORM = {
    **{**SIZES, **AUDIO_SIZES},
    "text_len": None,
    "audio_axis": "channel",
    "skeleton_attention": "video_queries",
    "skeleton_rope": True,
    "branch_init_std": 0.02,
}
DETAIL_FORM = {**TINY_FORM, "detail_width": 16}
ALL_FORMS = {"released": RELEASED_FORM, "tiny": TINY_FORM, "detail": DETAIL_FORM}
FORMS = pytest.mark.parametrize("form", ALL_FORMS.values(), ids=ALL_FORMS)
FRAMES, HEIGHT, WIDTH = 9, 4, 6


def make(form, **changes):
    """A model whose every parameter is random, also those that start at zero."""
    torch.manual_seed(0)
    model = PortraitDiT(**{**form, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def conditions(batch=2, text_tokens=1, seed=1):
    draw = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=draw)

    slots = (FRAMES - 1) // 4 + 2
    return MotionConditions(
        reference_latents=noise(batch, 16, 1, HEIGHT, WIDTH),
        audio_windows=noise(batch, FRAMES, 5, 2, 3),
        skeleton_latents=noise(batch, 16, FRAMES, HEIGHT, WIDTH),
        control_latents=noise(batch, 96, slots, HEIGHT, WIDTH),
        text=noise(batch, text_tokens, 8),
    )


def sample(model, batch=2):
    draw = torch.Generator().manual_seed(2)
    return torch.randn(batch, *model.sample_shape(FRAMES, HEIGHT, WIDTH), generator=draw)


def velocity(model, given, cache=None):
    latents = model.pin(sample(model, len(given.text)), given)
    times = torch.tensor([731.0, 200.0])[: len(given.text)]
    return model(latents, times, given, cache)


def close(a, b, rtol=1e-5):
    return (a - b).abs().max() <= rtol * b.abs().max()


# ---------------------------------------------------------------- the architecture


@pytest.mark.parametrize("text_tokens", [1, 5])
@torch.no_grad()
def test_base_equals_diffusers_wan_vace(text_tokens):
    """Without audio and skeleton, the same weights under the same names give the same output."""
    ours = make(SIZES, text_len=None, audio="none", skeleton="none")
    theirs = WanVACETransformer3DModel(**{**SIZES, "vace_layers": [0, 2]})
    theirs.load_state_dict(ours.state_dict())
    given = conditions(text_tokens=text_tokens)
    latents, times = sample(ours), torch.tensor([731.0, 200.0])
    expected = theirs(latents, times, given.text, control_hidden_states=given.control_latents)[0]
    assert close(ours(latents, times, given), expected)


@torch.no_grad()
def test_new_layers_leave_a_pretrained_base_unchanged_at_first():
    model = PortraitDiT(**RELEASED_FORM).eval()
    model.proj_out.weight.normal_()
    given = conditions()
    other = replace(conditions(seed=7), text=given.text, control_latents=given.control_latents)
    other = replace(other, reference_latents=given.reference_latents)
    assert torch.equal(velocity(model, given), velocity(model, other))


@FORMS
@pytest.mark.parametrize(
    "name", ["audio_windows", "skeleton_latents", "control_latents", "reference_latents", "text"]
)
@torch.no_grad()
def test_every_condition_moves_the_output(form, name):
    model, given = make(form), conditions()
    moved = replace(given, **{name: getattr(conditions(seed=5), name)})
    assert not close(velocity(model, moved), velocity(model, given), rtol=1e-3)


@pytest.mark.parametrize("name", ["audio_windows", "skeleton_latents"])
@torch.no_grad()
def test_a_frame_enters_through_its_own_latent_frame(name):
    """With one block, self-attention runs before the conditions: only the frame's own latent can change."""
    model = make(TINY_FORM, num_layers=1, vace_layers=(0,))
    given = conditions()
    tensor = getattr(given, name).clone()
    time_axis = 1 if name == "audio_windows" else 2
    tensor.select(time_axis, 6).mul_(-1)  # frame 6 belongs to latent 2, slot 3
    difference = velocity(model, replace(given, **{name: tensor})) - velocity(model, given)
    assert (difference.abs().amax((0, 1, 3, 4)) > 1e-4).tolist() == [False, False, False, True]


@torch.no_grad()
def test_one_text_token_equals_the_general_path():
    attention = Attention(32, 2, 1e-6)
    token, video = torch.randn(2, 1, 32), torch.randn(2, 7, 32)
    general = attention.attend(attention.query(video), attention.key_value(token))
    assert close(attention.only_value(token).expand_as(general), general)
    model, given = make(TINY_FORM), conditions()
    twice = replace(given, text=given.text.expand(-1, 2, -1))  # two equal keys share the weight
    assert close(velocity(model, twice), velocity(model, given))


def slow_rotations(grid, widths, thetas):
    """Rotary table by loops over positions and channel pairs."""
    table = []
    for position in torch.cartesian_prod(*(torch.arange(n) for n in grid)).tolist():
        angles = [
            place * theta ** (-2 * pair / width)
            for place, width, theta in zip(position, widths, thetas)
            for pair in range(width // 2)
        ]
        table.append(angles)
    angles = torch.tensor(table, dtype=torch.float64)
    return torch.complex(angles.cos(), angles.sin()).unsqueeze(1)


@pytest.mark.parametrize(("head_dim", "widths"), [(128, (44, 42, 42)), (32, (12, 10, 10))])
def test_video_rotations_split_a_head_as_released(head_dim, widths):
    table = video_rotations((2, 3, 4), head_dim, torch.device("cpu"))
    assert torch.allclose(
        table.to(torch.complex128), slow_rotations((2, 3, 4), widths, (1e4,) * 3), atol=1e-6
    )


@torch.no_grad()
def test_new_skeleton_attention_looks_near_its_own_place():
    torch.manual_seed(0)
    attention = Attention(64, 2, 1e-6)
    rotations = picture_rotations((8, 8), 32, torch.device("cpu"))

    def distance():
        query = attention.query(torch.randn(16, 64, 64), rotations)
        key = attention.key_value(torch.randn(16, 64, 64), rotations).key
        weight = (torch.einsum("bqhd,bkhd->bhqk", query, key) / 32**0.5).softmax(-1).mean((0, 1))
        places = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
        return (weight * torch.cdist(places, places)).sum(1).mean()

    uniform = distance()
    attention.look_near()
    assert distance() < 0.6 * uniform


def test_rms_norm_and_its_gradient():
    norm = RMSNorm(6, 1e-6).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 5, 6)
    assert torch.allclose(norm(x), F.rms_norm(x, (6,), norm.weight.float(), 1e-6), atol=1e-6)
    x.requires_grad_()
    ours = torch.autograd.grad(norm(x).pow(3).sum(), (x, norm.weight))
    theirs = torch.autograd.grad(
        F.rms_norm(x, (6,), norm.weight.float(), 1e-6).pow(3).sum(), (x, norm.weight)
    )
    assert all(close(a, b, 1e-5) for a, b in zip(ours, theirs))


# ---------------------------------------------------------------- the Backbone contract


def test_in_bf16_on_a_cpu_gradients_do_not_change_the_output():
    """A model and its reference, which runs without gradients, must take the same kernels."""
    layer = Attention(32, 2, 1e-6)
    tokens = torch.randn(3, 7, 32)
    with torch.autocast("cpu", torch.bfloat16):
        query, context = layer.query(tokens), layer.key_value(tokens)
        with_gradient = layer.attend(query, context)
        assert with_gradient.requires_grad
        with torch.no_grad():
            assert torch.equal(layer.attend(query, context), with_gradient)
    parts = (query, context.key, context.value)
    heads = [part.detach().float().transpose(1, 2) for part in parts]
    expected = layer.to_out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(with_gradient.float(), expected, atol=0.03, rtol=0.03)


@FORMS
def test_is_a_backbone_with_a_reference_slot(form):
    model, given = make(form), conditions()
    assert isinstance(model, Backbone)
    assert model.sample_shape(FRAMES, HEIGHT, WIDTH) == (16, 4, HEIGHT, WIDTH)
    noise = sample(model)
    pinned, video = model.pin(noise, given), model.video_latents(noise)
    assert torch.equal(pinned[:, :, :1], given.reference_latents)
    assert torch.equal(model.video_latents(pinned), video)
    assert video.shape == (2, 16, 3, HEIGHT, WIDTH)


@FORMS
@torch.no_grad()
def test_a_batch_is_its_clips_one_by_one(form):
    """What is embedded has the batch in front, so clips do not meet."""
    model, both = make(form), conditions()
    cache, latents, times = model.new_cache(), sample(model), torch.tensor([731.0, 200.0])
    together, singles = model(latents, times, both, cache), []
    for clip in range(2):
        row = slice(clip, clip + 1)
        one = {name: None if part is None else part[row] for name, part in vars(both).items()}
        alone = model.new_cache()
        singles.append(model(latents[row], times[row], MotionConditions(**one), alone))
        for name, tokens in vars(alone.tokens).items():
            assert tokens is None or close(tokens, getattr(cache.tokens, name)[row])
    assert close(torch.cat(singles), together)


@FORMS
@torch.no_grad()
def test_save_and_load_round_trip(form, tmp_path):
    model, given = make(form), conditions()
    model.save_pretrained(tmp_path)
    loaded = PortraitDiT.from_pretrained(tmp_path)
    for name, value in form.items():
        found = loaded.config[name]
        assert found == value or list(found) == list(value), name  # JSON has no tuples
    assert torch.equal(velocity(loaded, given), velocity(model, given))


@FORMS
@torch.no_grad()
def test_bf16_weights_run_and_stay_near_fp32(form, tmp_path):
    model, given = make(form), conditions()
    model.save_pretrained(tmp_path)
    half = PortraitDiT.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert half.blocks[0].scale_shift_table.dtype == half.blocks[0].attn1.norm_q.weight.dtype == torch.float32
    out = velocity(half, given)
    assert out.dtype == torch.float32
    assert close(out, velocity(model, given), rtol=0.03)
    with torch.autocast("cpu", torch.bfloat16):
        cache, plain = model.new_cache(), velocity(model, given)
        assert all(close(velocity(model, given, cache), plain, rtol=1e-6) for _ in range(2))


def test_the_head_stays_in_fp32_and_the_vace_blocks_layer_of_that_name_does_not():
    model = make(RELEASED_FORM)
    kept = {name for name, _ in model.named_parameters() if model.keeps_fp32(name)}
    assert {"proj_out.weight", "proj_out.bias", "scale_shift_table", "blocks.0.norm2.weight"} <= kept
    assert {"blocks.1.attn_audio.norm_k.weight", "condition_embedder.time_proj.bias"} <= kept
    assert not any(name.startswith("vace_blocks.") and "proj_out" in name for name in kept)
    cast = {"blocks.0.attn1.to_q.weight", "vace_blocks.1.proj_out.weight", "audio_proj.proj3.weight"}
    assert not kept & cast


@torch.no_grad()
def test_attention_backend_can_be_chosen():
    model, given = make(TINY_FORM), conditions()
    expected, name = velocity(model, given), "_native_math"
    model.set_attention_backend(name)
    try:
        assert model.blocks[0].attn_audio.processor._attention_backend == name
        assert close(velocity(model, given), expected)
    finally:
        model.set_attention_backend("native")


# ---------------------------------------------------------------- training


@FORMS
def test_gradient_checkpointing_gives_the_same_gradients(form):
    model, given = make(form).train(), conditions(text_tokens=3)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        velocity(model, given).square().mean().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    assert all(
        torch.allclose(gradients[0][name], gradients[1][name], rtol=1e-5, atol=1e-8) for name in gradients[0]
    )
    assert all(gradient.abs().max() > 0 for gradient in gradients[0].values())


def test_training_after_inference_mode():
    """Position tables that were made in inference mode must serve training too."""
    video_rotations.cache_clear()
    picture_rotations.cache_clear()
    model, given = make(TINY_FORM), conditions()
    with torch.inference_mode():
        velocity(model, given)
    velocity(model, given).mean().backward()


@pytest.mark.parametrize("stream", ["audio", "skeleton"])
@pytest.mark.parametrize("expansion", [1, 2])
@torch.no_grad()
def test_ablated_expansion_drops_exactly_the_other_frames(stream, expansion):
    model = make(TINY_FORM, **{f"{stream}_expansion": expansion})
    given = conditions()
    expected = velocity(model, given)
    name, axis = ("audio_windows", 1) if stream == "audio" else ("skeleton_latents", 2)
    for frame, kept in ((5, False), (6, expansion == 2), (7, False), (8, True)):  # the sub-slots of group 2
        tensor = getattr(given, name).clone()
        tensor.select(axis, frame).mul_(-1)
        assert close(velocity(model, replace(given, **{name: tensor})), expected, 1e-4) == (not kept)


# ---------------------------------------------------------------- absent conditions and errors


@pytest.mark.parametrize("stream", ["audio", "skeleton"])
@torch.no_grad()
def test_absence_is_allowed_only_if_the_config_says_so(stream):
    name = {"audio": "audio_windows", "skeleton": "skeleton_latents"}[stream]
    given = conditions()
    without = replace(given, **{name: None})
    with pytest.raises(ShapeError, match=f"needs {stream} conditions.*{stream}='optional'"):
        velocity(make(TINY_FORM), without)
    optional = make(TINY_FORM, **{stream: "optional"})
    assert not close(velocity(optional, without), velocity(optional, given), 1e-3)
    soundless = make(TINY_FORM, **{stream: "none"})
    assert torch.equal(velocity(soundless, without), velocity(soundless, given))
    assert not any(stream in key for key in soundless.state_dict())


@pytest.mark.parametrize(
    ("name", "crop", "message"),
    [
        ("audio_windows", (slice(None), slice(0, 8)), "audio_windows has shape .*9 video frames"),
        ("audio_windows", (..., slice(0, 2)), "audio_windows has shape"),
        ("skeleton_latents", (..., slice(0, 4)), "skeleton_latents has shape"),
        ("control_latents", (slice(None), slice(0, 95)), "control_latents has shape"),
        ("reference_latents", (..., slice(0, 4)), "reference_latents has shape"),
        ("text", (..., slice(0, 7)), "text has shape"),
    ],
)
def test_conditions_that_do_not_fit_are_named(name, crop, message):
    model, given = make(TINY_FORM), conditions()
    with pytest.raises(ShapeError, match=message):
        model(sample(model), torch.zeros(1), replace(given, **{name: getattr(given, name)[crop]}))


def test_other_bad_shapes():
    model, given = make(RELEASED_FORM), conditions()
    with pytest.raises(ShapeError, match=r"8 frames .* 5 or 9"):
        model.sample_shape(8, HEIGHT, WIDTH)
    with pytest.raises(ShapeError, match=r"5x6 cells .* multiples of 16 pixels"):
        model.sample_shape(9, 5, 6)
    with pytest.raises(ShapeError, match="text has 7 tokens"):
        velocity(model, conditions(text_tokens=7))
    for shape in ((2, 16, 5, HEIGHT, WIDTH), (1, 16, 4, HEIGHT, WIDTH)):
        with pytest.raises(ShapeError, match="use the same window for both"):
            model(torch.randn(shape), torch.zeros(1), given)


@pytest.mark.parametrize(
    "change",
    [
        {"vace_layers": (1,)},
        {"vace_layers": ()},
        {"vace_layers": (0, 3)},
        {"vace_layers": (0, 2, 1)},
        {"audio_axis": "time"},
        {"skeleton": "maybe"},
        {"skeleton_attention": "both"},
        {"patch_size": (2, 2, 2)},
    ],
)
def test_impossible_configs_are_refused(change):
    with pytest.raises(CheckpointError, match=next(iter(change))):
        PortraitDiT(**{**TINY_FORM, **change})
