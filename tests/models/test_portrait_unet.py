"""The portrait UNet: equal to diffusers where the two coincide, and every condition does what it should."""

from dataclasses import fields, replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from tiny_unets import CELLS, FRAMES, conditions, embedded, make, noise, predict

from hallo4.models.portrait_unet import PortraitUNet
from hallo4.models.unet_attention import MotionBlock, MotionTransformer, ReferenceRouting, SpatialBlock
from hallo4.models.unet_cache import LayerInputs
from hallo4.models.unet_trunk import TrunkInputs
from hallo4.types import Backbone

SWITCHES = [{}, {"reference_order": "interleaved", "motion_in_plain": False}]


def close(ours, theirs, limit=2e-5):
    return (ours - theirs).abs().max() <= limit * theirs.abs().max()


# ---------------------------------------------------------------- equal to diffusers


def sd15_like():
    torch.manual_seed(3)
    return UNet2DConditionModel(
        block_out_channels=(16, 24, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=12,
    ).eval()


@torch.inference_mode()
def test_equals_diffusers_where_the_two_coincide():
    """New layers at zero, no reference: every frame is what UNet2DConditionModel makes of it."""
    theirs = sd15_like()
    ours = make(branch_init_std=0.0)
    missing, unexpected = ours.denoiser.load_state_dict(theirs.state_dict(), strict=False)
    assert unexpected == []
    assert all(".audio_modules." in name or ".motion_modules." in name for name in missing)
    # audio layers would still change the stream by ff and self-attention if proj_out were not zero
    given = replace(conditions(), portrait_given=torch.zeros(2, dtype=torch.bool))
    face = ours.face_proj(torch.zeros(2, 6))
    time = torch.tensor([31.0, 750.0])
    found = ours(noise(), time, given)
    for frame in range(FRAMES):
        expected = theirs(noise()[:, :, frame], time, face).sample
        assert close(found[:, :, frame], expected)


@torch.inference_mode()
def test_the_reference_network_is_diffusers_unet_without_its_head():
    theirs, ours = sd15_like(), make()
    missing, unexpected = ours.reference_net.load_state_dict(theirs.state_dict(), strict=False)
    assert missing == []
    assert sorted(unexpected) == [
        "conv_norm_out.bias",
        "conv_norm_out.weight",
        "conv_out.bias",
        "conv_out.weight",
    ]
    last = {}
    theirs.conv_norm_out.register_forward_pre_hook(lambda module, given: last.update(x=given[0]))
    face, pictures = torch.randn(2, 4, 12), torch.randn(2, 4, CELLS, CELLS)
    theirs(pictures, 0, face)
    layers = [LayerInputs(face)] * ours.reference_net.sizes.attention_layers
    assert close(ours.reference_net(pictures, torch.zeros(2), TrunkInputs(1, layers)), last["x"])


@torch.inference_mode()
def test_a_motion_block_equals_the_one_of_diffusers():
    theirs = BasicTransformerBlock(
        *(16, 2, 8),
        double_self_attention=True,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=12,
    ).eval()
    ours = MotionBlock(16, 2, positions=12)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(5, 7, 16)
    expected = theirs(tokens)
    assert close(ours(tokens, before=0, first=0), expected)
    assert close(ours(tokens, before=2, first=0), expected[:, 2:])  # less is computed, nothing changes


# ---------------------------------------------------------------- reference and known frames


@torch.inference_mode()
def test_the_reference_stands_behind_the_frames_own_tokens():
    """Slow and readable: softmax over the frame's own tokens and those of the reference, head by head."""
    block = SpatialBlock(8, 2, 12)
    own, reference = torch.randn(2, 3, 5, 8), torch.randn(2, 5, 8)
    given = LayerInputs(torch.randn(2, 4, 12), reference=reference)
    found = block._self_attention(own, block.project(given, True)[1], ReferenceRouting())
    for clip in range(2):
        for frame in range(3):
            everything = torch.cat([own[clip, frame], reference[clip]])
            q, k, v = (
                part.view(-1, 2, 4).transpose(0, 1)
                for part in (
                    block.attn1.to_q(own[clip, frame]),
                    block.attn1.to_k(everything),
                    block.attn1.to_v(everything),
                )
            )
            mixed = ((q @ k.mT / 2).softmax(-1) @ v).transpose(0, 1).flatten(1)
            assert close(found[clip, frame], block.attn1.to_out(mixed))


@pytest.mark.parametrize("given", [[True, False], [False, True], [False, False]])
def test_a_clip_without_portrait_is_as_if_it_were_alone(given):
    """Clips of a batch that do and do not see a portrait are those of two batches."""
    model, flags = make(), torch.tensor(given)
    both = predict(model, replace(conditions(), portrait_given=flags))
    for clip in range(2):
        alone = {
            field.name: None
            if (value := getattr(conditions(), field.name)) is None
            else value[clip : clip + 1]
            for field in fields(conditions())
        }
        alone = replace(conditions(), **(alone | {"portrait_given": flags[clip : clip + 1]}))
        assert close(both[clip : clip + 1], predict(model, alone, noise()[clip : clip + 1]))


def test_interleaved_order_mixes_the_clips_as_released_does():
    """Frame i of the flattened window sees the reference of clip i mod B: clip 0 frame 1 that of clip 1."""
    model = make(reference_order="interleaved", branch_init_std=0.0)
    given = conditions(face_embedding=torch.zeros(2, 6))  # faces would mix the reference pass as well
    other = replace(
        given, reference_latents=given.reference_latents + torch.tensor([0.0, 1.0])[:, None, None, None, None]
    )
    change = (predict(model, other) - predict(model, given)).abs().amax(dim=(1, 3, 4))
    sees_clip_1 = (torch.arange(2 * FRAMES) % 2 == 1).view(2, FRAMES)
    assert ((change > 0) == sees_clip_1).all()
    aligned = make(branch_init_std=0.0)
    change = (predict(aligned, other) - predict(aligned, given)).abs().amax(dim=(1, 3, 4))
    assert ((change > 0) == torch.tensor([[False], [True]])).all()


@pytest.mark.parametrize("order", ["aligned", "interleaved"])
def test_faces_of_the_reference_pass_by_both_orders(order):
    """Flat picture i of the pass (portrait and two known frames of each clip) has the face of its own clip
    (aligned) or of clip i mod B (interleaved)."""
    model, given = make(reference_order=order), conditions()
    changed = replace(given, face_embedding=given.face_embedding + torch.tensor([[0.0], [1.0]]))
    before, after = (embedded(model, one).layers[-1] for one in (given, changed))
    portrait, known = after.reference - before.reference, after.motion - before.motion
    moved = torch.cat([portrait[:, None], known], dim=1).abs().amax((2, 3))
    clip = torch.arange(6) % 2 if order == "interleaved" else torch.arange(6) // 3
    assert ((moved > 0).flatten() == (clip == 1)).all()


def test_known_frames_keep_their_order():
    model, given = make(), conditions()
    before = embedded(model, given).layers
    assert len(before) == model.denoiser.sizes.attention_layers
    for place in range(2):
        known = given.motion_latents.clone()
        known[:, :, place] += 1.0
        after = embedded(model, replace(given, motion_latents=known)).layers
        for was, layer in zip(before, after, strict=True):
            moved = (layer.motion - was.motion).abs().amax((0, 2, 3)) > 0
            assert moved.tolist() == [place == 0, place == 1]
            assert torch.equal(layer.reference, was.reference)


@torch.inference_mode()
def test_a_frame_has_the_same_position_with_and_without_known_frames():
    """Keys of known frames aside, nothing tells whether there are any: frame k stands at M + k."""
    module = MotionTransformer(16, 2, 4, positions=12, motion_frames=2)
    pictures, tokens = torch.randn(3, 16, 2, 2), []
    block = module.transformer_blocks[0]
    block.attn1.to_q.register_forward_hook(lambda _, given, __: tokens.append(given[0]))
    module(pictures, 3, None)
    module(pictures, 3, torch.randn(1, 2, 4, 16))
    assert tokens[0].shape == (4, 3, 16)
    assert tokens[1].shape == (4, 5, 16)
    assert close(tokens[0], tokens[1][:, 2:])


def test_without_branches_frames_do_not_meet_and_with_them_they_do():
    """Motion modules are the only way between frames, and known frames enter through them alone."""
    latents = noise()
    later = latents.clone()
    later[:, :, 2] += 1.0
    given = conditions()
    earlier = replace(given, motion_latents=given.motion_latents + 1.0)
    silent, moving = make(branch_init_std=0.0), make()
    assert torch.equal(predict(silent, given, latents)[:, :, :2], predict(silent, given, later)[:, :, :2])
    assert not torch.equal(predict(moving, given, latents)[:, :, :2], predict(moving, given, later)[:, :, :2])
    assert torch.equal(predict(silent, given), predict(silent, earlier))
    assert not torch.equal(predict(moving, given), predict(moving, earlier))


@pytest.mark.parametrize("switch", SWITCHES)
def test_motion_modules_of_plain_blocks_run_only_if_the_config_says_so(switch):
    model, runs = make(**switch), []
    for name, module in model.named_modules():
        if isinstance(module, MotionTransformer):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    predict(model, conditions())
    plain = {"denoiser.down_blocks.2.motion_modules.0"} | {
        f"denoiser.up_blocks.0.motion_modules.{index}" for index in range(2)
    }
    held = {name for name, module in model.named_modules() if isinstance(module, MotionTransformer)}
    assert plain <= held
    assert set(runs) == (held - plain if switch else held)


# ---------------------------------------------------------------- what each condition does


@pytest.mark.parametrize(
    "name",
    [
        *("reference_latents", "audio_windows", "skeleton_latents", "motion_latents"),
        *("face_embedding", "locator_01", "region_masks"),
    ],
)
@pytest.mark.parametrize("switch", SWITCHES)
def test_every_condition_moves_the_output(name, switch):
    model, given = make(**switch), conditions()
    moved = predict(model, replace(given, **{name: getattr(given, name) * 0.5}))
    assert not close(moved, predict(model, given))


def test_sound_reaches_only_the_masked_cells_of_its_own_frame():
    """One audio layer, its feed-forward and self-attention aside: the change of sound stays in the mask."""
    model = make()
    layer = model.denoiser.down_blocks[0].audio_modules[0].transformer_blocks[0]
    tokens, audio = torch.randn(1, 2, 9, 16), torch.randn(1, 2, 4, 8)
    masks = torch.zeros(1, 2, 3, 9)
    masks[:, :, 2, 4] = 1.0  # lips: one cell
    louder = audio.clone()
    louder[:, 1] += 1.0
    with torch.inference_mode():
        face = torch.zeros(1, 4, 12)
        given = [LayerInputs(face, sound) for sound in (audio, louder)]
        quiet, loud = (layer(tokens, one, masks, (1.0, 1.0, 1.0)) for one in given)
        without_lips = [layer(tokens, one, masks, (1.0, 1.0, 0.0)) for one in given]
    changed = (quiet - loud).abs().amax(-1)[0] > 0
    assert changed.nonzero().tolist() == [[1, 4]]
    assert torch.equal(*without_lips)  # the lip reading has weight 0


def test_the_skeleton_guider_starts_at_zero():
    model, given = make(branch_init_std=0.0), conditions()
    assert torch.equal(predict(model, given), predict(model, replace(given, skeleton_latents=None)))
    assert model.skeleton_guider.conv_in.weight.abs().sum() > 0


def test_the_other_side_of_guidance_knows_no_portrait_no_face_and_no_sound():
    model, given = make(), conditions()
    without = model.windows.unconditional(given)
    for name in ("reference_latents", "audio_windows", "face_embedding", "locator_01"):
        changed = replace(without, **{name: getattr(given, name) + 0.5})
        # aligned, so that the reference pass of known frames does not depend on the portrait
        assert torch.equal(predict(model, without), predict(model, changed)), name
    assert not torch.equal(
        predict(model, without), predict(model, replace(without, motion_latents=given.motion_latents + 0.5))
    )


# ---------------------------------------------------------------- Backbone


@pytest.mark.parametrize("switch", SWITCHES)
def test_is_a_backbone_whose_embedded_window_has_the_batch_in_front(switch):
    model = make(**switch)
    assert isinstance(model, Backbone)
    assert model.sample_shape(5, CELLS, CELLS) == (4, 5, CELLS, CELLS)
    window = embedded(model, conditions())
    tensors = [window.guide, window.portrait_given, window.masks]
    for layer in window.layers:
        tensors += [layer.face, layer.audio, layer.reference, layer.motion]
        pairs = [layer.kept.face, layer.kept.reference, layer.kept.audio]
        tensors += [part for pair in pairs for part in (pair.key, pair.value)]
    assert all(len(tensor) == 2 for tensor in tensors)
    assert torch.equal(model.video_latents(model.pin(noise(), conditions())), noise())
    assert torch.equal(model.to_sample_layout(noise(), conditions()), noise())


def test_save_and_load_round_trip(tmp_path):
    model = make(reference_order="interleaved")
    model.save_pretrained(tmp_path)
    loaded = PortraitUNet.from_pretrained(tmp_path).eval()
    assert loaded.config.reference_order == "interleaved"
    assert torch.equal(predict(loaded, conditions()), predict(model, conditions()))


def test_bf16_weights_run_and_stay_near_fp32(tmp_path):
    model = make()
    expected = predict(model, conditions())
    model.save_pretrained(tmp_path)
    half = PortraitUNet.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    assert half.denoiser.conv_in.weight.dtype == torch.bfloat16
    found = predict(half, conditions())
    assert found.dtype == torch.float32
    assert (found - expected).norm() <= 0.05 * expected.norm()


def gradients(model):
    model.train()
    model(noise(), torch.full((2,), 500.0), conditions()).square().mean().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


def test_gradient_checkpointing_gives_the_same_gradients():
    model = make()
    plain = gradients(model)
    model.enable_gradient_checkpointing()
    again = gradients(model)
    unused = {name for name, gradient in plain.items() if gradient is None}
    # the last thing that is read of a reference network are the normed tokens of its last layer
    assert all(name.startswith("reference_net.up_blocks.2.") for name in unused)
    assert all(close(again[name], plain[name], 1e-4) for name in plain.keys() - unused if plain[name].any())
