"""What tests of several rooms share: the tiny model, a portrait, a sound, a text encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_parts, save_model


@pytest.fixture(scope="session", autouse=True)
def no_weights_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever networks a machine has, tests meet those that they ask for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALLO4_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture
def computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """This CPU as one that does not compute in bf16, whose rounding hides what two ways have in common."""
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


@pytest.fixture(scope="session")
def tiny_parts():
    """(PortraitDiT, TinyVideoAutoencoder, LogMelFrontEnd)."""
    return make_parts()


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model: 32x32 px, windows of 5 frames, 2 steps, guidance 2."""
    return save_model(tiny_parts, tmp_path_factory.mktemp("models") / "testling")


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path):
    """The same, loaded."""
    from hallo4.pipelines import load_model

    return load_model(tiny_model_folder)


@pytest.fixture(scope="session")
def drafting_model(tmp_path_factory: pytest.TempPathFactory):
    """A loaded model like `tiny_model` that takes drafts of its frames and has a detail head."""
    from hallo4.pipelines import load_model

    parts = make_parts(draft=True, detail_width=8)
    return load_model(save_model(parts, tmp_path_factory.mktemp("models") / "drafting"))


@pytest.fixture(scope="session")
def portrait_u8() -> np.ndarray:
    """[40, 40, 3] uint8: smooth colours."""
    down, across = np.mgrid[0:40, 0:40]
    return np.stack([6 * down, 6 * across, 120 + 3 * (down - across)], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def hum() -> Callable:
    """hum(seconds, sample_rate_hz=16000) -> Audio."""
    from hallo4.types import Audio

    def make(seconds: float, sample_rate_hz: int = 16_000) -> Audio:
        time_s = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
        loud = 0.3 * np.sin(2 * np.pi * 220 * time_s) * (np.sin(2 * np.pi * 3 * time_s) > 0)
        return Audio(loud.astype(np.float32), sample_rate_hz)

    return make


@pytest.fixture(scope="session")
def tiny_text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `text/` of a model: umT5 of 3 layers, 16 channels and random weights in fp32, 40 tokens."""
    import tokenizers
    import torch
    from safetensors.torch import save_file
    from transformers import UMT5Config, UMT5EncoderModel

    folder = tmp_path_factory.mktemp("text") / "text"
    (folder / "tokenizer").mkdir(parents=True)
    pieces = ["<pad>", "</s>", "<s>", "<unk>", "▁", ",", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3, byte_fallback=False)
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(pieces[:4])
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=40, d_model=16, d_kv=6, d_ff=24, num_layers=3, num_heads=4)
    model = UMT5EncoderModel(config)
    for tensor in model.state_dict().values():
        torch.nn.init.normal_(tensor, std=tensor.shape[-1] ** -0.5)
    config.save_pretrained(folder)
    state = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster of two machines with one CPU each, both pretended by processes of this
    one."""
    pytest.importorskip("ray", reason="needs hallo4[cluster]")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        cluster.add_node(**small)
        yield cluster.address
    finally:
        cluster.shutdown()
