"""The umT5 encoder equals the released one and the library's whole model, and takes no other files."""

import json
import shutil
import sys
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hallo4.errors import CheckpointError, MissingExtraError
from hallo4.models.released_umt5 import released_umt5_name
from hallo4.models.text_encoder import UMT5TextEncoder, clean_prompt, encoder_identity, missing_parts
from hallo4.weights import module_folder

GOLDEN = Path(__file__).parents[3] / "shared/golden/end_to_end"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the end-to-end golden case is not in the project"
)
PROMPT = "a person is talking, slowly"


def far(found, wanted):
    """Largest difference, relative to the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def write(folder, changes, shards=1):
    """The same folder with some tensors replaced, or, by None, left out."""
    tensors = load_file(folder / "model.safetensors") | changes
    kept = [(name, tensor) for name, tensor in tensors.items() if tensor is not None]
    (folder / "model.safetensors").unlink()
    for number in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file(dict(kept[number::shards]), folder / name)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(tiny_text_folder, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_text_folder, tmp_path / "text"))


@pytest.fixture(scope="module")
def encoder(tiny_text_folder):
    return UMT5TextEncoder(tiny_text_folder)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The released encoder of the golden case as a folder of ours."""
    folder = tmp_path_factory.mktemp("released") / "text"
    source = GOLDEN / "pretrained_models/Wan2.1_Encoders"
    state = torch.load(source / "models_t5_umt5-xxl-enc-bf16.pth", weights_only=True)
    (folder / "tokenizer").mkdir(parents=True)
    for path in (source / "google/umt5-xxl").iterdir():
        shutil.copyfile(path, folder / "tokenizer" / path.name)
    save_file({released_umt5_name(name): tensor for name, tensor in state.items()}, folder / "a.safetensors")
    sizes = {"vocab_size": 512, "d_model": 48, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4}
    (folder / "config.json").write_text(json.dumps({"model_type": "umt5", **sizes}))
    return folder


@needs_golden
@pytest.mark.parametrize(
    ("prompt", "name"), [("prompt", "text"), ("negative_prompt", "text_uncond")], ids=["prompt", "negative"]
)
def test_ids_and_embeddings_are_those_of_the_released_program(released, prompt, name):
    text = json.loads((GOLDEN / "settings.json").read_text())[prompt]
    truth = load_file(GOLDEN / "main/conditions.safetensors")
    encoder = UMT5TextEncoder(released)
    tokens = encoder.tokenize(text)
    assert torch.equal(tokens.ids, truth[f"{name}_token_ids"])
    assert tokens.cut == 0
    embedding = encoder.encode(text)
    assert embedding.dtype == torch.float32
    assert far(embedding, truth[f"{name}_embedding"]) <= 2e-6


@needs_golden
def test_both_tokenizer_formats_give_the_same_ids(released, tmp_path):
    folder = Path(shutil.copytree(released, tmp_path / "text"))
    (folder / "tokenizer/tokenizer.json").unlink()
    settings = json.loads((GOLDEN / "settings.json").read_text())
    one, other = UMT5TextEncoder(released), UMT5TextEncoder(folder)
    for text in ("", "a", settings["prompt"], settings["negative_prompt"], "outside: λ😀", "1 &lt; 2"):
        assert torch.equal(one.tokenize(text).ids, other.tokenize(text).ids), text


def test_every_tensor_of_the_encoder_has_one_released_name(encoder, tiny_text_folder):
    inside = ("norm1", "norm2", "attn.q", "attn.k", "attn.v", "attn.o", "pos_embedding.embedding")
    inside += ("ffn.gate.0", "ffn.fc1", "ffn.fc2")
    names = ["token_embedding.weight", "norm.weight"]
    names += [f"blocks.{block}.{name}.weight" for block in range(3) for name in inside]
    ours = [released_umt5_name(name) for name in names]
    assert sorted(ours) == sorted(load_file(tiny_text_folder / "model.safetensors"))
    for name in (
        "norm.bias",
        "blocks.0.norm",
        "blocks.01.norm1.weight",
        "blocks.0.norm.weight",
        "head.weight",
    ):
        assert released_umt5_name(name) is None


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        (" \t\n ", ""),
        ("  a \n\n b\u3000c\u00a0d ", "a b c d"),
        ("静态，模糊", "静态,模糊"),
        ("sÃ© “so”", 'sé "so"'),
        ("<b> a &amp;lt; b &amp;amp;amp; c", "<b> a < b &amp; c"),  # ftfy leaves entities alone beside a "<"
        ("a\x00b\x1b[31mc", "abc"),
        ("\ud800x", "�x"),
    ],
)
def test_prompts_are_cleaned_like_the_released_program_does(text, cleaned):
    assert clean_prompt(text) == cleaned


def test_tokens_end_with_the_end_token_and_say_what_was_cut(encoder):
    assert encoder.tokenize("").ids.tolist() == [1]
    assert encoder.tokenize("ab c").ids.tolist() == [4, 6, 7, 4, 8, 1]
    assert encoder.tokenize("aλ").ids.tolist() == [4, 6, 3, 1]
    fits = encoder.tokenize("a" * 510)
    assert (len(fits.ids), fits.cut) == (512, 0)
    long = encoder.tokenize("a" * 600)
    assert (len(long.ids), long.cut) == (512, 90)
    assert torch.equal(long.ids, fits.ids)


def test_a_file_that_asks_for_padding_or_truncation_changes_nothing(encoder, folder):
    path = folder / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    content["truncation"] = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None}
    content["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}
    path.write_text(json.dumps(content))
    assert torch.equal(UMT5TextEncoder(folder).tokenize("abcdef").ids, encoder.tokenize("abcdef").ids)


@pytest.mark.parametrize("text", ["", PROMPT, "a" * 600], ids=["empty", "prompt", "long"])
def test_block_by_block_is_the_whole_model_bit_for_bit(encoder, tiny_text_folder, text):
    from transformers import UMT5EncoderModel

    whole = UMT5EncoderModel.from_pretrained(tiny_text_folder, local_files_only=True).eval()
    ids = encoder.tokenize(text).ids
    with torch.no_grad():
        wanted = whole(ids[None]).last_hidden_state[0]
        padded = torch.nn.functional.pad(ids, (0, 512 - len(ids)))[None]
        masked = whole(padded, attention_mask=(torch.arange(512) < len(ids))[None]).last_hidden_state[0]
    assert torch.equal(encoder.encode(text), wanted)
    assert far(encoder.encode(text), masked[: len(ids)]) <= 1e-6


def test_prompts_encoded_together_do_not_change_each_other(encoder):
    together = encoder.encode_all([PROMPT, "", "blurry"])
    for text, embedding in zip([PROMPT, "", "blurry"], together, strict=True):
        assert torch.equal(embedding, encoder.encode(text))
        assert embedding.shape == (len(encoder.tokenize(text).ids), encoder.width)


def test_bf16_weights_are_multiplied_in_fp32(encoder, folder):
    rounded = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    write(folder, rounded)
    found = UMT5TextEncoder(folder).encode(PROMPT)
    write(folder, {name: tensor.float() for name, tensor in rounded.items()})
    assert torch.equal(found, UMT5TextEncoder(folder).encode(PROMPT))
    assert 1e-4 < far(found, encoder.encode(PROMPT)) < 2e-2  # what rounding the weights costs


def test_sharded_files_are_one_encoder(encoder, folder):
    identity = encoder_identity(folder)
    write(folder, {}, shards=4)
    assert torch.equal(UMT5TextEncoder(folder).encode(PROMPT), encoder.encode(PROMPT))
    assert encoder_identity(folder) == identity


def test_weights_of_one_block_live_at_a_time(folder, monkeypatch):
    write(folder, {name: t.bfloat16() for name, t in load_file(folder / "model.safetensors").items()})
    alive = []
    read = module_folder.StoredTensors.read

    def watched(self, names):
        assert [name for name, tensor in alive if tensor() is not None] == []
        found = read(self, names)
        alive[:] = [(name, weakref.ref(tensor)) for name, tensor in found.items()]
        return found

    monkeypatch.setattr(module_folder.StoredTensors, "read", watched)
    encoder = UMT5TextEncoder(folder)
    encoder.encode_all([PROMPT, "blurry"])
    assert all(tensor.is_meta for tensor in encoder._model.state_dict().values())


def test_the_identity_tells_encoders_apart(folder):
    first = encoder_identity(folder)
    path, weights = folder / "tokenizer/tokenizer.json", folder / "model.safetensors"
    seen = [first]
    original = load_file(weights)
    for name in (
        "encoder.block.2.layer.1.DenseReluDense.wo.weight",
        "encoder.block.0.layer.0.layer_norm.weight",
    ):
        write(folder, {name: original[name] * 1.001})
        seen.append(encoder_identity(folder))
        write(folder, original)
        assert encoder_identity(folder) == first
    write(folder, {name: tensor.bfloat16() for name, tensor in original.items()})
    seen.append(encoder_identity(folder))
    write(folder, original)
    configure(folder, dense_act_fn="relu")
    seen.append(encoder_identity(folder))
    path.write_text(path.read_text().replace("▁", "_"))
    seen.append(encoder_identity(folder))
    assert len(set(seen)) == len(seen)


def test_the_identity_misses_what_it_says_it_misses(folder):
    first, table = encoder_identity(folder), load_file(folder / "model.safetensors")["shared.weight"]
    table[7, 3] += 1.0
    write(folder, {"shared.weight": table})
    assert encoder_identity(folder) == first


NORM = "encoder.block.1.layer.0.layer_norm.weight"


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def other_tokenizer(folder, change):
    path = folder / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap_specials(content):
    for token in content["added_tokens"]:
        token["content"] = {"</s>": "<s>", "<s>": "</s>"}.get(token["content"], token["content"])
    vocabulary = content["model"]["vocab"]
    vocabulary[1], vocabulary[2] = vocabulary[2], vocabulary[1]


BROKEN = {
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "config.json: no such file. Copy the folder again.",
    ),
    "config is no JSON": (
        lambda f: (f / "config.json").write_text("{"),
        "config.json: not valid JSON at line 1 column 2",
    ),
    "config is a list": (
        lambda f: (f / "config.json").write_text("[]"),
        "config.json: holds a list, not a JSON object",
    ),
    "other model": (lambda f: configure(f, model_type="t5"), "model_type is 't5'; allowed is 'umt5'"),
    "bad value": (lambda f: configure(f, num_layers="many"), "config.json: no text encoder can be built"),
    "missing": (lambda f: write(f, {NORM: None}), f"1 missing ({NORM})"),
    "unexpected": (lambda f: write(f, {"lm_head.weight": torch.ones(2)}), "1 unexpected (lm_head.weight)"),
    "mis-shaped": (lambda f: write(f, {NORM: torch.ones(17)}), f"{NORM} [17] instead of [16]"),
    "other heads": (lambda f: configure(f, num_heads=2, d_kv=12), "3 mis-shaped"),
    "fewer layers": (lambda f: configure(f, num_layers=2), "unexpected (encoder.block.2."),
    "quantized": (
        lambda f: write(f, {NORM: torch.ones(16).to(torch.float8_e4m3fn)}),
        f"{NORM} is stored as F8_E4M3; allowed are F32, F16 and BF16",
    ),
    "NaN": (
        lambda f: write(f, {NORM: torch.full((16,), torch.nan)}),
        "encoder.block.1.* give NaN or infinite values",
    ),
    "cut short": (cut_short, "model.safetensors: damaged or no safetensors file"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no .safetensors file"),
    "twice": (
        lambda f: shutil.copyfile(f / "model.safetensors", f / "again.safetensors"),
        "stands in two files of this folder",
    ),
    "no tokenizer": (
        lambda f: (f / "tokenizer/tokenizer.json").unlink(),
        "holds neither tokenizer.json nor spiece.model",
    ),
    "damaged tokenizer": (
        lambda f: (f / "tokenizer/tokenizer.json").write_text("{}"),
        "tokenizer.json: cannot be read as a tokenizer",
    ),
    "damaged spiece": (
        lambda f: (f / "tokenizer/tokenizer.json").rename(f / "tokenizer/spiece.model"),
        "spiece.model: cannot be read as a tokenizer",
    ),
    "more tokens": (
        lambda f: other_tokenizer(f, lambda c: c["model"]["vocab"].extend([[f"x{n}", -9] for n in range(9)])),
        "has ids up to 40, but the embedding table has 40 rows",
    ),
    "other end token": (
        lambda f: other_tokenizer(f, swap_specials),
        "the id of the end token </s> is 2, but config.json says 1",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_folders_that_do_not_fit_give_one_line(folder, case):
    breaks, words = BROKEN[case]
    breaks(folder)
    with pytest.raises(CheckpointError) as caught:
        UMT5TextEncoder(folder).encode(PROMPT)
    line = str(caught.value)
    assert words in line
    assert str(folder) in line
    assert "\n" not in line


@pytest.mark.parametrize("case", ["no config", "no weights", "no tokenizer", "cut short"])
def test_no_identity_without_the_parts(folder, case):
    BROKEN[case][0](folder)
    with pytest.raises(CheckpointError, match=str(folder)):
        encoder_identity(folder)


def test_missing_parts_are_named(folder):
    assert missing_parts(folder) == []
    for path in (folder / "config.json", folder / "model.safetensors", folder / "tokenizer/tokenizer.json"):
        path.unlink()
    assert missing_parts(folder) == ["config.json", "*.safetensors", "tokenizer/tokenizer.json"]
    assert missing_parts(folder / "nowhere") == missing_parts(folder)


@pytest.mark.parametrize("module", ["ftfy", "transformers", "tokenizers", "sentencepiece"])
def test_a_missing_library_names_the_extra(folder, monkeypatch, module):
    if module == "sentencepiece":
        BROKEN["damaged spiece"][0](folder)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"hallo4\[released\]"):
        UMT5TextEncoder(folder).tokenize("a")
