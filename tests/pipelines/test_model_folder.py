import errno
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hallo4 import whole
from hallo4.errors import CheckpointError, OutputError
from hallo4.pipelines import ModelInfo, load_model, model_folder, model_info, resolve_model, save_model_folder
from hallo4.pipelines.model_folder import load_autoencoder
from hallo4.weights.module_folder import WEIGHTS_NAME


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


def edit_weights(folder, change):
    path = folder / "dit" / WEIGHTS_NAME
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_what_is_saved_is_loaded(tiny_parts, tmp_path):
    dit, autoencoder, front_end = tiny_parts
    info = ModelInfo("round", "3", size_px=64, window_frames=9, steps=7, guidance_scale=1.5, flow_shift=3.0)
    saved = save_model_folder(
        tmp_path / "m", info, dit, autoencoder, front_end.to_config(), "# card", torch.float32
    )
    model = load_model(saved)
    assert model.info == info
    assert model.audio_front_end == front_end
    for ours, theirs in ((model.backbone, dit), (model.autoencoder, autoencoder)):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert not model.backbone.training
    assert (saved / "README.md").read_text() == "# card"
    assert isinstance(load_autoencoder(saved), type(autoencoder))


def test_matrices_are_stored_in_half_and_vectors_in_full(tiny_model_folder):
    for name, tensor in load_file(tiny_model_folder / "dit" / WEIGHTS_NAME).items():
        assert tensor.dtype == (torch.bfloat16 if tensor.ndim > 1 else torch.float32), name


def test_in_bf16_what_the_class_keeps_in_fp32_stays(tiny_model_folder):
    model = load_model(tiny_model_folder, dtype=torch.bfloat16)
    kinds = {name: p.dtype for name, p in model.backbone.named_parameters()}
    assert kinds["condition_embedder.time_proj.weight"] == torch.float32
    assert kinds["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert kinds["proj_out.weight"] == kinds["proj_out.bias"] == torch.float32
    assert kinds["vace_blocks.0.proj_out.weight"] == torch.bfloat16


def test_an_unknown_name_lists_the_known_ones(monkeypatch, tiny_model_folder):
    monkeypatch.setattr(model_info, "ASSETS", tiny_model_folder.parent)
    with pytest.raises(CheckpointError, match=r"'no-such'.*testling"):
        resolve_model("no-such")
    assert resolve_model("testling") == tiny_model_folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("proj_out.bias"), r"1 missing \(proj_out.bias\)"),
        (lambda t: t.update(stranger=torch.ones(2)), r"1 unexpected \(stranger\)"),
        (
            lambda t: t.update({"proj_out.bias": torch.ones(3)}),
            r"mis-shaped \(proj_out.bias \[3\] instead of \[",
        ),
        (lambda t: t["proj_out.bias"].fill_(float("nan")), "proj_out.bias holds NaN"),
    ],
)
def test_tensors_fit_exactly_or_not_at_all(folder, change, words):
    edit_weights(folder, change)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


def test_a_pickle_is_refused_unopened(folder):
    (folder / "dit" / WEIGHTS_NAME).unlink()
    (folder / "dit" / "model.pth").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(CheckpointError, match=r"model\.pth: is a pickle"):
        load_model(folder)


def test_a_pickle_in_the_clothes_of_safetensors_is_refused(folder):
    torch.save({"a": torch.ones(1)}, folder / "dit" / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match="no safetensors"):
        load_model(folder)


def test_a_truncated_file_is_refused(folder):
    path = folder / "dit" / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.json", "{", "model.json: not valid JSON at line 1"),
        ("model.json", "[]", "not a JSON object"),
        ("model.json", '{"name": "a"}', "version"),
        ("model.json", '{"name": "a", "version": "1", "window": 3}', "'window'"),
        ("model.json", '{"name": "a", "version": "1", "window_frames": 16}', "4k\\+1"),
        ("model.json", '{"name": "a", "version": "1", "steps": "many"}', "steps|type"),
        *(
            ("model.json", json.dumps({"name": "a", "version": "1", "window_frames": 5} | change), words)
            for change, words in (
                ({"canvas_sizes_px": [[480, 836]]}, r"canvas_sizes_px is .*836.*multiples of 16"),
                ({"canvas_sizes_px": [[8, 832]]}, "canvas_sizes_px.0.0: must be 16 to 16 384; found 8"),
                ({"canvas_sizes_px": [[0, 0]]}, "canvas_sizes_px.0.0: must be 16 to 16 384; found 0"),
                ({"canvas_sizes_px": [[40, 64]]}, "canvas_sizes_px is .*sides that are multiples of 16"),
                ({"canvas_sizes_px": [480, 832]}, r"canvas_sizes_px\.0"),
                ({"canvas_sizes_px": [[480, 832, 3]]}, r"canvas_sizes_px\.0"),
                ({"window_noise": "same"}, "window_noise: .*'own' or 'shared'"),
                ({"known_frames_as": "half"}, "known_frames_as: .*'uint8' or 'float'"),
                ({"prompt": 7}, "prompt: "),
            )
        ),
        ("dit/config.json", '{"_class_name": "Other"}', "Other.*PortraitDiT"),
        ("dit/config.json", '{"_class_name": "PortraitDiT", "depth": 3}', "'depth'"),
        ("dit/config.json", '{"_class_name": "PortraitDiT", "num_layers": 1}', "vace_layers"),
        ("audio/config.json", '{"kind": "ears"}', "ears"),
    ],
)
def test_a_wrong_description_is_named(folder, file, content, words):
    (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=words) as refused:
        load_model(folder)
    assert "\n" not in str(refused.value)


def test_a_missing_part_is_named(folder):
    shutil.rmtree(folder / "autoencoder")
    with pytest.raises(CheckpointError, match="autoencoder"):
        load_model(folder)


def test_an_ear_of_another_model_is_refused(folder):
    config = json.loads((folder / "audio/config.json").read_text())
    (folder / "audio/config.json").write_text(json.dumps(config | {"channels": config["channels"] + 1}))
    with pytest.raises(CheckpointError, match="channels"):
        load_model(folder)


def test_saving_replaces_a_model_but_nothing_else(tiny_parts, folder, tmp_path):
    dit, autoencoder, front_end = tiny_parts
    parts = (dit, autoencoder, front_end.to_config(), "# new")
    info = replace(load_model(folder).info, version="9")
    save_model_folder(folder, info, *parts)
    assert load_model(folder).info.version == "9"
    precious = tmp_path / "letters"
    precious.mkdir()
    (precious / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="no model folder"):
        save_model_folder(precious, info, *parts)
    assert (precious / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("step", ["parts", "exchange"])
def test_an_older_model_stays_until_the_new_one_is_complete(tiny_parts, folder, monkeypatch, step):
    dit, autoencoder, front_end = tiny_parts

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(
        *{"parts": (model_folder, "save_weights"), "exchange": (whole, "place_folder")}[step], fail
    )
    with pytest.raises(OutputError, match="full"):
        save_model_folder(folder, ModelInfo("new", "2"), dit, autoencoder, front_end.to_config(), "# new")
    assert load_model(folder).info.name == "testling"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
