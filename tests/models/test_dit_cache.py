"""What a DiT keeps of the conditions between steps: it saves work, fits its budget and changes no bit."""

from dataclasses import replace
from itertools import chain

import pytest
import torch
from test_dit import FORMS, RELEASED_FORM, TINY_FORM, conditions, make, velocity

from hallo4.models.dit_cache import STREAMS, KeyValue, kept_streams
from hallo4.models.projection import AudioProjector, SkeletonProjector

TEXT_TOKENS = pytest.mark.parametrize("text_tokens", [1, 4])


def filled(model, given, budget_bytes=None):
    """A cache after its first step."""
    cache = model.new_cache(budget_bytes)
    velocity(model, given, cache)
    return cache


def tensors_of(value):
    """The tensors of a stream that one block keeps."""
    if value is None:
        return []
    return [value.key, value.value] if isinstance(value, KeyValue) else [value]


def kept_bytes(model, cache):
    """Stream -> bytes that the blocks really keep."""
    blocks = [cache.block(index) for index in range(len(model.blocks))]
    blocks += [cache.vace_block(index) for index in range(len(model.vace_blocks))]
    return {
        name: sum(
            tensor.numel() * tensor.element_size()
            for block in blocks
            for tensor in tensors_of(getattr(block.kept, name))
        )
        for name in STREAMS
    }


@FORMS
@TEXT_TOKENS
@torch.no_grad()
def test_with_and_without_a_cache_every_bit_is_the_same(form, text_tokens):
    """With nothing kept, text alone, text and audio, everything; at the first step and at later ones."""
    model, given = make(form), conditions(text_tokens=text_tokens)
    sizes = model.stream_bytes(filled(model, given).tokens)
    expected = velocity(model, given)
    for budget in (0, sizes["text"], sizes["text"] + sizes["audio"], sum(sizes.values()), None):
        cache = model.new_cache(budget)
        for _ in range(3):
            assert torch.equal(velocity(model, given, cache), expected), budget


@pytest.mark.parametrize(
    ("budget", "streams"),
    [
        (0, set()),
        (9, set()),
        (10, {"text"}),
        (59, {"text"}),
        (60, {"text", "skeleton"}),  # the sound does not fit, the skeleton behind it does
        (110, {"text", "audio"}),
        (159, {"text", "audio"}),
        (160, set(STREAMS)),
        (None, set(STREAMS)),
    ],
)
def test_a_budget_is_spent_on_whole_streams_in_their_order(budget, streams):
    assert kept_streams({"text": 10, "audio": 100, "skeleton": 50}, budget) == streams


@FORMS
@TEXT_TOKENS
@torch.no_grad()
def test_counted_bytes_are_those_of_what_is_kept_to_the_byte(form, text_tokens):
    model, given = make(form), conditions(text_tokens=text_tokens)
    everything = filled(model, given)
    sizes = model.stream_bytes(everything.tokens)
    assert list(sizes) == list(STREAMS)
    assert kept_bytes(model, everything) == sizes
    text, audio, skeleton = sizes.values()
    for budget in (0, text, text + audio - 1, text + audio, text + audio + skeleton):
        kept = kept_streams(sizes, budget)
        found = kept_bytes(model, filled(model, given, budget))
        assert found == {name: size if name in kept else 0 for name, size in sizes.items()}
        assert sum(found.values()) <= budget


@torch.no_grad()
def test_in_bf16_half_as_many_bytes_are_kept():
    model, given = make(RELEASED_FORM), conditions(text_tokens=4)
    whole = model.stream_bytes(filled(model, given).tokens)
    for name, parameter in model.named_parameters():
        if not model.keeps_fp32(name):
            parameter.data = parameter.data.bfloat16()
    cache = filled(model, given)
    assert kept_bytes(model, cache) == model.stream_bytes(cache.tokens)
    assert sum(kept_bytes(model, cache).values()) * 2 == sum(whole.values())


PROJECTIONS = {
    "text": ("attn2.to_k", "attn2.to_v"),
    "audio": ("attn_audio.to_k", "attn_audio.to_v"),
    "skeleton": {
        "skeleton_queries": ("attn_skeleton.to_q",),
        "video_queries": ("attn_skeleton.to_k", "attn_skeleton.to_v"),
    },
}
"""Layers of a block that see the conditions alone."""


def count_calls(model):
    """Stream, or "embed", -> how often a layer that sees the conditions alone was called."""
    calls = dict.fromkeys((*STREAMS, "embed"), 0)

    def watch(module, kind):
        module.register_forward_hook(lambda *_: calls.update({kind: calls[kind] + 1}))

    skeleton = PROJECTIONS["skeleton"][model.config.skeleton_attention]
    for name, module in chain(model.blocks.named_modules(), model.vace_blocks.named_modules()):
        for kind, layers in (PROJECTIONS | {"skeleton": skeleton}).items():
            if name.endswith(layers):
                watch(module, kind)
    for module in model.modules():
        if isinstance(module, AudioProjector | SkeletonProjector):
            watch(module, "embed")
    for module in (model.vace_patch_embedding, model.vace_blocks[0].proj_in):
        watch(module, "embed")
    watch(model.condition_embedder.text_embedder, "embed")
    return calls


@FORMS
@torch.no_grad()
def test_what_is_kept_is_not_computed_again(form):
    """Layers that see the conditions alone run at the first step, and later only for streams not kept."""
    model, given = make(form), conditions(text_tokens=4)
    sizes = model.stream_bytes(filled(model, given).tokens)
    calls = count_calls(model)
    blocks, both = len(model.blocks), len(model.blocks) + len(model.vace_blocks)
    skeleton = 1 if form is RELEASED_FORM else 2
    once = {"text": 2 * both, "audio": 2 * blocks, "skeleton": skeleton * blocks, "embed": 5}
    for budget in (None, sizes["text"], 0):
        kept = {"embed", *STREAMS} if budget is None else {"embed", *kept_streams(sizes, budget)}
        calls.update(dict.fromkeys(calls, 0))
        cache = filled(model, given, budget)
        assert calls == once
        for _ in range(3):
            velocity(model, given, cache)
        assert calls == {name: n * (1 if name in kept else 4) for name, n in once.items()}
    calls.update(dict.fromkeys(calls, 0))
    velocity(model, given)
    velocity(model, given)
    assert calls == {name: 2 * n for name, n in once.items()}, "without a cache nothing is kept anywhere"


@FORMS
@torch.no_grad()
def test_every_window_has_a_cache_of_its_own(form):
    """A filled cache answers for its own window whatever it is given; a new one knows nothing of it."""
    model, first, second = make(form), conditions(), conditions(seed=5)
    second = replace(second, reference_latents=first.reference_latents)  # which is pinned, not cached
    cache = filled(model, first)
    expected = velocity(model, second)
    assert not torch.equal(velocity(model, first), expected)
    assert torch.equal(velocity(model, second, model.new_cache()), expected)
    assert torch.equal(velocity(model, second, cache), velocity(model, first)), "this one was filled already"


CONDITION_PARTS = (
    *("audio_proj.proj1.weight", "audio_proj.norm.weight", "skeleton_proj.proj.weight"),
    *("vace_patch_embedding.weight", "vace_blocks.0.proj_in.weight"),
    *("condition_embedder.text_embedder.linear_1.weight", "condition_embedder.time_proj.weight"),
    *("blocks.0.attn2.to_k.weight", "blocks.2.attn_audio.to_v.weight", "blocks.1.attn_skeleton.to_q.weight"),
    *("patch_embedding.weight", "scale_shift_table"),
)


@FORMS
def test_every_parameter_has_a_gradient_through_forward(form):
    """So that what wraps or hooks `forward` (sharding, offloading, several processes) sees all of them."""
    model = make(form).train()
    velocity(model, conditions(text_tokens=3)).square().mean().backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    assert without == set()
    head = "proj_out.weight" if model.config.detail_width is None else "detail_head.from_skeleton.weight"
    assert {*CONDITION_PARTS, head} <= dict(model.named_parameters()).keys()


def test_one_text_token_is_not_asked_about_so_its_queries_and_keys_have_no_gradient():
    model = make(TINY_FORM).train()
    velocity(model, conditions(text_tokens=1)).square().mean().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without
    unread = ("attn2.to_q", "attn2.to_k", "attn2.norm_q", "attn2.norm_k", "norm2")
    assert all(name.rpartition(".")[0].endswith(unread) for name in without)
