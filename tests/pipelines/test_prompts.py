"""Text embeddings are made once, found again by what they are made from, and never by accident."""

import errno
import multiprocessing
import os
import shutil
import time
import weakref
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hallo4.errors import CheckpointError
from hallo4.models.text_encoder import UMT5TextEncoder, encoder_identity
from hallo4.pipelines import prompts
from hallo4.pipelines.prompts import PromptEmbeddings

PROMPT, NEGATIVE = "a person is talking", "blurry, worst quality"
WEIGHTS = "encoder.block.0.layer.0.layer_norm.weight"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "prompts"


@pytest.fixture
def folder(tiny_text_folder, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_text_folder, tmp_path / "text"))


@pytest.fixture
def loads(monkeypatch):
    """A list that gets a weak reference to every encoder that is loaded."""
    made = []

    class Watched(UMT5TextEncoder):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(prompts, "UMT5TextEncoder", Watched)
    return made


@pytest.fixture
def only_embeddings(tiny_text_folder, tmp_path, cache):
    """`text/` with the embeddings of both prompts and no encoder."""
    PromptEmbeddings(tiny_text_folder, cache).embeddings([PROMPT, NEGATIVE])
    folder = tmp_path / "small" / "text"
    shutil.copytree(cache, folder / "embeddings")
    return folder


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_both_prompts_are_encoded_with_one_load_and_then_found(tiny_text_folder, cache, loads):
    embeddings = PromptEmbeddings(tiny_text_folder, cache)
    assert embeddings.needs_encoder([PROMPT, NEGATIVE])
    made = embeddings.embeddings([PROMPT, NEGATIVE])
    assert len(loads) == 1
    assert len(entries(cache)) == 2
    again = PromptEmbeddings(tiny_text_folder, cache)
    assert not again.needs_encoder([NEGATIVE, PROMPT])
    found = again.embeddings([NEGATIVE, PROMPT])
    assert len(loads) == 1
    encoder = UMT5TextEncoder(tiny_text_folder)
    for text, one, other in zip([PROMPT, NEGATIVE], made, found[::-1], strict=True):
        assert torch.equal(one.tokens, encoder.encode(text)[None])
        assert torch.equal(one.tokens, other.tokens)
        assert one.notes == other.notes == ()


def test_only_what_is_missing_is_encoded(tiny_text_folder, cache, loads, monkeypatch):
    embeddings = PromptEmbeddings(tiny_text_folder, cache)
    embeddings.embedding(PROMPT)
    seen = []
    encode_all = UMT5TextEncoder.encode_all
    monkeypatch.setattr(
        UMT5TextEncoder, "encode_all", lambda self, texts: seen.append(texts) or encode_all(self, texts)
    )
    embeddings.embeddings([PROMPT, NEGATIVE])
    assert seen == [[NEGATIVE]]


def test_the_encoder_is_freed_before_the_embeddings_are_there(tiny_text_folder, cache, loads):
    embeddings = PromptEmbeddings(tiny_text_folder, cache)
    kept = embeddings.embedding(PROMPT)
    assert [encoder() for encoder in loads] == [None]
    assert kept.tokens.shape[0] == 1


def test_spellings_that_are_cleaned_alike_share_one_entry(tiny_text_folder, cache, loads):
    embeddings = PromptEmbeddings(tiny_text_folder, cache)
    one, other = embeddings.embeddings(["so,  it is\n", "so， it is"])
    assert torch.equal(one.tokens, other.tokens)
    assert len(entries(cache)) == 1


def test_an_entry_says_whose_it_is(tiny_text_folder, cache):
    PromptEmbeddings(tiny_text_folder, cache).embedding("x  y")
    (path,) = cache.iterdir()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["prompt"] == "x y"
    assert metadata["encoder"] == encoder_identity(tiny_text_folder)
    assert metadata["cut_tokens"] == "0"


def test_other_weights_have_other_entries(folder, cache, loads):
    first = PromptEmbeddings(folder, cache).embedding(PROMPT)
    state = load_file(folder / "model.safetensors")
    save_file(state | {WEIGHTS: 2 * state[WEIGHTS]}, folder / "model.safetensors")
    second = PromptEmbeddings(folder, cache).embedding(PROMPT)
    assert not torch.equal(first.tokens, second.tokens)
    assert len(loads) == len(entries(cache)) == 2


@pytest.mark.parametrize("text", ["", "   ", "😀"])
def test_short_prompts_are_allowed(tiny_text_folder, cache, text):
    embedding = PromptEmbeddings(tiny_text_folder, cache).embedding(text)
    assert embedding.tokens.shape[1] == (1 if not text.strip() else 3)
    assert embedding.notes == ()


def test_a_long_prompt_is_cut_with_a_note_every_time(tiny_text_folder, cache, loads):
    embeddings = PromptEmbeddings(tiny_text_folder, cache)
    for _ in range(2):
        embedding = embeddings.embedding("a" * 600)
        assert embedding.tokens.shape[1] == 512
        (note,) = embedding.notes
        assert "is 90 tokens too long: the text encoder reads 511" in note
    assert len(loads) == 1


def test_embeddings_of_the_model_folder_come_first(folder, cache, loads):
    embeddings = PromptEmbeddings(folder, cache)
    embeddings.embedding(PROMPT)
    shutil.move(cache, folder / "embeddings")
    assert not PromptEmbeddings(folder, cache).needs_encoder([PROMPT])
    PromptEmbeddings(folder, cache).embedding(PROMPT)
    assert len(loads) == 1
    assert not cache.exists()


def test_a_folder_with_embeddings_needs_no_encoder(only_embeddings, tiny_text_folder, tmp_path):
    found = PromptEmbeddings(only_embeddings, tmp_path / "empty").embedding(f" {PROMPT} ")
    assert torch.equal(found.tokens[0], UMT5TextEncoder(tiny_text_folder).encode(PROMPT))


def test_the_cache_serves_a_folder_without_an_encoder(only_embeddings, tiny_text_folder, cache):
    other = PromptEmbeddings(tiny_text_folder, cache).embedding("other")
    assert torch.equal(PromptEmbeddings(only_embeddings, cache).embedding("other").tokens, other.tokens)


def test_a_prompt_that_needs_the_missing_encoder_gives_one_line(only_embeddings, tmp_path):
    (only_embeddings / "config.json").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        PromptEmbeddings(only_embeddings, tmp_path / "empty").embeddings([PROMPT, "something else"])
    line = str(caught.value)
    assert f"only the embeddings of {PROMPT!r}, {NEGATIVE!r}" in line or f"{NEGATIVE!r}, {PROMPT!r}" in line
    assert "'something else'" in line
    assert "Add *.safetensors, tokenizer/tokenizer.json" in line
    assert "\n" not in line


def test_a_folder_without_anything_gives_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="holds no embeddings and no complete text encoder"):
        PromptEmbeddings(tmp_path / "nowhere", tmp_path / "cache").embedding(PROMPT)


def test_a_damaged_embedding_of_a_folder_without_an_encoder_is_named(only_embeddings, tmp_path):
    for path in (only_embeddings / "embeddings").iterdir():
        path.write_bytes(path.read_bytes()[:-4])
        small = PromptEmbeddings(only_embeddings, tmp_path / "empty")
        with pytest.raises(CheckpointError, match="safetensors: is no usable text embedding"):
            small.embeddings([PROMPT, NEGATIVE])


def test_embeddings_of_two_encoders_are_not_mixed(only_embeddings, tmp_path):
    path = next((only_embeddings / "embeddings").iterdir())
    with safe_open(path, framework="pt") as file:
        metadata, tokens = file.metadata(), file.get_tensor("tokens").clone()
    save_file({"tokens": tokens}, path, metadata | {"encoder": "0" * 64})
    with pytest.raises(CheckpointError, match="holds embeddings of 2 text encoders"):
        PromptEmbeddings(only_embeddings, tmp_path / "empty")


def rewrite(path, tokens=None, **changes):
    with safe_open(path, framework="pt") as file:
        metadata, stored = file.metadata(), file.get_tensor("tokens").clone()
    save_file({"tokens": stored if tokens is None else tokens}, path, metadata | changes)


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "empty": lambda path: path.write_bytes(b""),
    "other bytes": lambda path: path.write_bytes(b"\xff" * 99),
    "another prompt": lambda path: rewrite(path, prompt="x"),
    "another encoder": lambda path: rewrite(path, encoder="x"),
    "no count": lambda path: rewrite(path, cut_tokens="-1"),
    "no metadata": lambda path: save_file(load_file(path), path),
    "no tokens": lambda path: save_file({"other": torch.ones(2, 2)}, path),
    "NaN": lambda path: rewrite(path, torch.full((3, 16), torch.nan)),
    "other type": lambda path: rewrite(path, torch.ones(3, 16, dtype=torch.float64)),
    "other axes": lambda path: rewrite(path, torch.ones(1, 3, 16)),
    "no rows": lambda path: rewrite(path, torch.ones(0, 16)),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_entry_is_made_again(tiny_text_folder, cache, loads, case):
    first = PromptEmbeddings(tiny_text_folder, cache).embedding(PROMPT)
    (path,) = cache.iterdir()
    DAMAGE[case](path)
    again = PromptEmbeddings(tiny_text_folder, cache).embedding(PROMPT)
    assert torch.equal(again.tokens, first.tokens)
    (note,) = again.notes
    assert f"{path}: is no usable text embedding" in note
    assert "\n" not in note
    repaired = PromptEmbeddings(tiny_text_folder, cache).embedding(PROMPT)
    assert torch.equal(repaired.tokens, first.tokens)
    assert repaired.notes == ()
    assert len(loads) == 2


def test_a_cache_that_cannot_be_written_is_only_a_note(tiny_text_folder, tmp_path):
    (tmp_path / "file").write_text("")
    found = PromptEmbeddings(tiny_text_folder, tmp_path / "file" / "prompts").embedding(PROMPT)
    assert torch.equal(found.tokens[0], UMT5TextEncoder(tiny_text_folder).encode(PROMPT))
    assert any("the text embedding could not be kept" in note for note in found.notes)


def test_a_full_disk_leaves_nothing_behind(tiny_text_folder, cache, monkeypatch):
    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[:99])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    found = PromptEmbeddings(tiny_text_folder, cache).embedding(PROMPT)
    (note,) = found.notes
    assert "could not be kept (No space left on device)" in note
    assert entries(cache) == []


def write_often(folder, cache, value):
    os.fsync = lambda _file: None  # slow, and about power cuts
    embeddings = PromptEmbeddings(folder, cache)
    for _ in range(200):
        assert embeddings._keep("the same prompt", torch.full((64, 256), value), 0) == ""


def test_processes_that_write_one_entry_never_leave_half_of_it(tiny_text_folder, cache):
    fork = multiprocessing.get_context("fork")  # importing everything anew would take seconds
    writers = [
        fork.Process(target=write_often, args=(tiny_text_folder, cache, value)) for value in (1.0, 2.0)
    ]
    for writer in writers:
        writer.start()
    reader, seen = PromptEmbeddings(tiny_text_folder, cache), set()
    while any(writer.is_alive() for writer in writers):
        notes: list[str] = []
        found = reader._stored("the same prompt", notes)
        assert notes == []
        time.sleep(0.002)
        if found is not None:
            seen.add(tuple(found[0].unique().tolist()))
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {(1.0,), (2.0,)}
    assert seen
    assert len(entries(cache)) == 1


@pytest.mark.parametrize(("variable", "place"), [("{}/x", "x"), ("x", "home/.cache"), ("", "home/.cache")])
def test_the_cache_lies_where_a_user_keeps_caches(tiny_text_folder, tmp_path, monkeypatch, variable, place):
    monkeypatch.setenv("XDG_CACHE_HOME", variable.format(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert PromptEmbeddings(tiny_text_folder).cache_folder == tmp_path / place / "hallo4" / "prompts"


def test_without_a_home_nothing_is_kept_and_a_note_says_so(tiny_text_folder, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    (note,) = PromptEmbeddings(tiny_text_folder).embedding(PROMPT).notes
    assert "set XDG_CACHE_HOME" in note
