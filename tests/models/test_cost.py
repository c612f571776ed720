"""What is counted without memory is what closed forms and shapes say."""

import pytest
import torch
from torch import nn

from hallo4.models.cost import META, FusedAttention, count, fused_attention, on_meta
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cache import STREAMS
from hallo4.models.dit_cost import (
    WindowSize,
    count_forward,
    denoising_flops,
    dit_without_memory,
    window_memory,
)

SMALL = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "text_dim": 24, "text_len": 7,
    "freq_dim": 16, "ffn_dim": 40, "num_layers": 3, "vace_layers": (0, 2), "vace_in_channels": 72,
    "audio_blocks": 2, "audio_channels": 6, "audio_hidden_dim": 20, "audio_tokens": 3,
}  # fmt: skip


def config_of(**changes):
    with on_meta():
        return PortraitDiT(**{**SMALL, **changes}).config


@pytest.fixture(scope="module")
def released_config():
    """The released sizes; 30 blocks are built on paper only."""
    config = dict(config_of())
    with on_meta():
        released = PortraitDiT(num_layers=1, vace_layers=(0,)).config
    config = dict(released) | {"num_layers": 30, "vace_layers": tuple(range(0, 30, 2))}
    return type("Config", (dict,), {"__getattr__": dict.__getitem__})(config)


def test_a_product_costs_what_its_shapes_say():
    left, right = torch.empty(3, 5, device=META), torch.empty(5, 7, device=META)
    cost = count(lambda: left @ right)
    assert cost.flops == 2 * 3 * 5 * 7
    assert cost.kernels == 1
    assert cost.moved_bytes == 4 * (3 * 5 + 5 * 7 + 3 * 7)
    assert cost.peak_bytes == 4 * 3 * 7


def test_views_are_free_and_what_is_dropped_is_not_alive():
    given = torch.empty(1000, device=META)

    def run():
        first = given.view(10, 100).t() + 1
        second = first * 2
        del first
        return second * 2

    cost = count(run)
    assert cost.kernels == 3
    assert cost.moved_bytes == 3 * 8000
    assert cost.peak_bytes == 2 * 4000


def test_an_expanded_tensor_is_read_once():
    row = torch.empty(1, 100, device=META)
    assert count(lambda: row.expand(50, 100) * 2).moved_bytes == 400 + 50 * 400


def test_fused_attention_holds_no_scores():
    query, key = (torch.empty(1, length, 2, 16, device=META) for length in (500, 300))
    cost = count(lambda: FusedAttention()(query, key, key))
    assert cost.flops == 4 * 500 * 300 * 32
    assert cost.peak_bytes < 2 * query.nbytes
    module = fused_attention(nn.Sequential(nn.Linear(2, 2)))
    assert not hasattr(module[0], "processor")


@pytest.mark.parametrize(
    ("changes", "text_tokens"),
    [
        ({}, 7),
        ({"text_len": None}, 1),
        ({"audio": "none", "text_len": None}, 5),
        ({"skeleton_attention": "video_queries", "audio_axis": "channel"}, 7),
        ({"audio_axis": "channel", "audio_expansion": 2, "skeleton_expansion": 1}, 7),
        ({"detail_width": 16}, 7),
        ({"detail_width": 16, "skeleton": "none"}, 7),
        ({"detail_width": 16, "draft": True}, 7),
    ],
    ids=str,
)
def test_the_closed_form_is_what_is_counted(changes, text_tokens):
    config = config_of(**changes)
    size = WindowSize(frames=9, height=8, width=6, text_tokens=text_tokens, batch=2)
    model = dit_without_memory(config, torch.bfloat16)
    assert count_forward(model, size, torch.bfloat16).flops == denoising_flops(config, size)
    for budget, kept in ((None, STREAMS), (0, ())):
        cache = model.new_cache(budget)
        first = count_forward(model, size, torch.bfloat16, cache)
        later = count_forward(model, size, torch.bfloat16, cache)
        assert first.flops == denoising_flops(config, size)
        assert later.flops == denoising_flops(config, size, kept)
        assert later.kernels < first.kernels


def test_the_released_forward_costs_what_was_counted_of_the_released_program(released_config):
    size = WindowSize(frames=81, height=60, width=104, text_tokens=512)
    assert denoising_flops(released_config, size) == pytest.approx(502.8e12, rel=1e-4)
    two_forwards = 2 * denoising_flops(released_config, size)
    assert 25 * two_forwards == pytest.approx(25_138e12, rel=1e-4)
    saved = denoising_flops(released_config, size) - denoising_flops(released_config, size, STREAMS)
    assert saved == pytest.approx(6.1e12, rel=0.01)  # 4.86 skeleton, 0.8 audio, 0.23 text, 0.2 control


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_model_of_one_block_needs_the_memory_of_all(dtype):
    config = config_of()
    size = WindowSize(frames=9, height=16, width=16, text_tokens=7)
    memory = window_memory(config, size, dtype)
    whole = dit_without_memory(config, dtype)
    cache = whole.new_cache(0)
    filled = count_forward(whole, size, dtype, cache)
    assert memory.activations == pytest.approx(filled.peak_bytes, rel=0.1)
    assert memory.streams == whole.stream_bytes(cache.tokens)
    kept = [cache.tokens.text, cache.tokens.control, cache.tokens.audio, cache.tokens.skeleton]
    entering = cache.vace_block(0).kept.control
    assert memory.tokens == sum(tensor.numel() for tensor in (*kept, entering)) * dtype.itemsize


def test_stream_bytes_are_what_a_cache_keeps():
    config = config_of()
    model = dit_without_memory(config, torch.bfloat16)
    cache = model.new_cache()
    count_forward(model, WindowSize(9, 8, 6, 7), torch.bfloat16, cache)
    kept = dict.fromkeys(STREAMS, 0)
    for index in range(3):
        block = cache.block(index).kept
        kept["text"] += block.text.key.nbytes + block.text.value.nbytes
        kept["audio"] += block.audio.key.nbytes + block.audio.value.nbytes
        kept["skeleton"] += block.skeleton.nbytes
    for index in range(2):
        block = cache.vace_block(index).kept
        kept["text"] += block.text.key.nbytes + block.text.value.nbytes
    assert kept == model.stream_bytes(cache.tokens)
