"""Adapters on disk: what is loaded is the base model plus s B A, or an error that says why not."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hallo4.errors import CheckpointError, OutputError
from hallo4.evaluation.suites.generators import weights_digest
from hallo4.pipelines import ModelInfo, load_model, model_folder, model_info
from hallo4.pipelines.model_folder import load_autoencoder, save_adapter_folder

LAYER = "blocks.0.attn1.to_q"
OTHER = "blocks.0.attn_audio.to_out.0"
INFO = ModelInfo("changed", "1", size_px=32, window_frames=5, steps=2)


def low_rank(seed=0, rank=2, width=32):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for path in (LAYER, OTHER):
        state[f"{path}.lora_A"] = torch.randn(rank, width, generator=generator).bfloat16().float()
        state[f"{path}.lora_B"] = torch.randn(width, rank, generator=generator).bfloat16().float()
    return state


@pytest.fixture
def base(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "base")


@pytest.fixture
def folder(base, tmp_path):
    return save_adapter_folder(tmp_path / "changed", INFO, base, low_rank(), 0.5, "# a card")


def edit(folder, **changes):
    path = folder / "adapter" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_state(folder, change):
    path = folder / "adapter" / "adapter.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_weights_are_those_of_the_base_plus_the_scaled_product(base, folder):
    plain, changed, state = load_model(base), load_model(folder), low_rank()
    assert changed.info == INFO
    before, after = plain.backbone.state_dict(), changed.backbone.state_dict()
    assert before.keys() == after.keys()
    for name, weight in before.items():
        path = name.removesuffix(".weight")
        expected = weight
        if f"{path}.lora_A" in state:
            expected = weight + 0.5 * state[f"{path}.lora_B"] @ state[f"{path}.lora_A"]
            assert (expected - weight).abs().max() > 0.1
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-6)
    assert not any(p.requires_grad for p in changed.backbone.parameters())
    for name, weight in plain.autoencoder.state_dict().items():
        assert torch.equal(changed.autoencoder.state_dict()[name], weight)
    assert isinstance(load_autoencoder(folder), type(plain.autoencoder))


def test_it_holds_no_copy_of_the_base_and_can_move_with_it(base, folder, tmp_path):
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "README.md", "adapter.safetensors", "config.json", "model.json", "model_index.json",
    ]  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    for moved in (base, folder):
        shutil.move(moved, tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere" / "changed").info.name == "changed"


def test_the_name_of_an_embedded_model_is_kept_as_a_name(monkeypatch, tiny_model_folder, tmp_path):
    monkeypatch.setattr(model_info, "ASSETS", tiny_model_folder.parent)
    made = save_adapter_folder(tmp_path / "changed", INFO, "testling", low_rank(), 1.0, "")
    assert json.loads((made / "adapter" / "config.json").read_text())["adapter_of"] == "testling"
    assert load_model(made).info.name == "changed"


def test_another_state_of_the_base_is_refused(base, folder):
    path = base / "dit" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["proj_out.bias"][0] += 1
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"another state of \.\./base"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(f"{LAYER}.lora_A"), f"changes of {LAYER} do not fit"),
        (lambda t: t.update({f"{LAYER}.lora_B": torch.ones(8, 2)}), f"changes of {LAYER} do not fit"),
        (lambda t: t.update({f"{LAYER}.lora_A": torch.ones(2)}), f"changes of {LAYER} do not fit"),
        (lambda t: t.update({"nowhere.lora_A": torch.ones(2, 32)}), "changes of nowhere do not fit"),
        (lambda t: t[f"{LAYER}.lora_A"].fill_(torch.nan), "NaN"),
    ],
)
def test_changes_that_do_not_fit_are_named(folder, change, said):
    edit_state(folder, change)
    with pytest.raises(CheckpointError, match=said):
        load_model(folder)


@pytest.mark.parametrize("changes", [{"scale": "big"}, {"more": 1}, {"scale": float("inf")}])
def test_a_damaged_configuration_is_refused(folder, changes):
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match="adapter"):
        load_model(folder)


def test_damaged_or_missing_files_and_bases_are_refused(folder, tmp_path):
    for path, content, said in (
        (folder / "adapter" / "adapter.safetensors", b"\x80\x04pickle", "damaged or no safetensors file"),
        (folder / "adapter" / "config.json", b"{", "config.json: not valid JSON"),
    ):
        kept = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=said):
            load_model(folder)
        path.unlink()
        with pytest.raises(CheckpointError, match=f"{path.name}: no such file"):
            load_model(folder)
        path.write_bytes(kept)
    edit(folder, adapter_of="../gone")
    with pytest.raises(CheckpointError, match="gone' is no model"):
        load_model(folder)


def test_an_adapter_of_an_adapter_is_refused_when_saved_and_when_loaded(base, folder, tmp_path):
    with pytest.raises(CheckpointError, match="is an adapter; build on the model"):
        save_adapter_folder(tmp_path / "second", INFO, folder, low_rank(), 1.0, "")
    edit(folder, adapter_of="../changed")
    with pytest.raises(CheckpointError, match="an adapter too"):
        load_model(folder)


def test_only_a_model_is_replaced(base, folder, tmp_path):
    again = save_adapter_folder(folder, INFO, base, low_rank(1), 1.0, "# new")
    assert (again / "README.md").read_text() == "# new"
    other = tmp_path / "other"
    other.mkdir()
    (other / "photo.png").write_bytes(b"x")
    with pytest.raises(OutputError, match="not replaced"):
        save_adapter_folder(other, INFO, base, low_rank(), 1.0, "")
    assert (other / "photo.png").exists()


def test_where_a_model_lies_and_what_its_digest_depends_on(base, folder):
    """Of an adapter also on the model it changes, whose autoencoder decides the frames too."""
    assert model_folder.folders_of_model(base) == [base]
    assert model_folder.folders_of_model(folder) == [folder, base]
    before = weights_digest(str(folder)), weights_digest(str(base))
    config = base / "autoencoder" / "config.json"
    config.write_text(config.read_text() + "\n")
    after = weights_digest(str(folder)), weights_digest(str(base))
    assert all(one != other for one, other in zip(before, after))
    assert weights_digest(str(folder)) != weights_digest(str(base))
