"""The released files become a model folder: every tensor in its place, whatever layout they come in."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from tiny_releases import AUDIO, AUTOENCODER, CONFIG, DIT, TEXT, TOKENIZER, make_release, tiny_dit
from transformers import UMT5EncoderModel

from hallo4.cli import main
from hallo4.errors import Cancelled, OutputError
from hallo4.models.audio_features import audio_front_end_from_config
from hallo4.models.released_dit import load_released_dit
from hallo4.models.released_wan import released_vae_name_to_diffusers
from hallo4.pipelines import convert_release
from hallo4.pipelines.model_folder import read_info
from hallo4.pipelines.released_card import RELEASED_NEGATIVE_PROMPT, RELEASED_PROMPT
from hallo4.pipelines.released_plans import dit_config, plan_dit_tensors
from hallo4.types import Audio

SHARED = Path(__file__).parents[2].parent / "shared"
KEY_LIST = SHARED / "reference/hallo4_dit_keys.json"
GOLDEN = SHARED / "golden/end_to_end"
WEIGHTS = ("dit/diffusion_pytorch_model", "autoencoder/diffusion_pytorch_model", "text/model")


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("releases") / "pretrained_models")


@pytest.fixture(scope="session")
def model(release, tmp_path_factory):
    return convert_release(release, tmp_path_factory.mktemp("converted") / "model").folder


@pytest.fixture
def own_release(release, tmp_path):
    return shutil.copytree(release, tmp_path / "own")


@pytest.fixture(scope="session")
def golden_model(tmp_path_factory):
    if not GOLDEN.is_dir():
        pytest.skip("the end-to-end golden case lies beside the project, not in it")
    folder = tmp_path_factory.mktemp("golden") / "model"
    return convert_release(GOLDEN / "pretrained_models", folder, "keep", [(64, 96)], 17).folder


def tensors_of(model, part):
    return load_file(model / f"{part}.safetensors")


def assert_same_weights(model, other):
    for part in (*WEIGHTS, "audio/wav2vec2/model"):
        ours, theirs = tensors_of(model, part), tensors_of(other, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part


def test_the_dit_is_the_one_of_the_released_loader(release, model):
    config = json.loads((release / CONFIG).read_text())
    config |= {"audio_proj": {"blocks": 2, "channels": 16, "intermediate_dim": 16, "context_tokens": 4}}
    expected = load_released_dit(release / DIT, config).state_dict()
    stored = tensors_of(model, WEIGHTS[0])
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())
    written = json.loads((model / "dit/config.json").read_text())
    assert written.pop("_class_name") == "PortraitDiT"
    of_class = tiny_dit().config
    assert {name: of_class[name] for name in written} == {
        name: tuple(value) if isinstance(of_class[name], tuple) else value for name, value in written.items()
    }


def test_diffusers_reads_the_autoencoder(release, model):
    loaded, report = AutoencoderKLWan.from_pretrained(model / "autoencoder", output_loading_info=True)
    assert not any(report.values()), report
    released = torch.load(release / AUTOENCODER, weights_only=True)
    state = loaded.state_dict()
    assert len(state) == len(released) == 194
    for name, tensor in released.items():
        assert torch.equal(state[released_vae_name_to_diffusers(name)], tensor), name


def test_transformers_reads_the_text_encoder(release, model):
    loaded, report = UMT5EncoderModel.from_pretrained(model / "text", output_loading_info=True)
    assert not any(report.values()), report
    released = torch.load(release / TEXT, weights_only=True)
    state = loaded.state_dict()
    assert torch.equal(state["encoder.embed_tokens.weight"], released["token_embedding.weight"])
    last = "encoder.block.1.layer.1.DenseReluDense.wi_1.weight"
    assert torch.equal(state[last], released["blocks.1.ffn.fc1.weight"])
    config = loaded.config
    sizes = (config.vocab_size, config.d_model, config.d_kv, config.d_ff, config.num_layers, config.num_heads)
    assert sizes == (64, 24, 8, 32, 2, 2)
    tokenizer = model / "text/tokenizer/tokenizer.json"
    assert tokenizer.read_bytes() == (release / TOKENIZER).read_bytes()


def test_sound_features_are_those_of_the_published_folder(release, model, hum):
    front_end = audio_front_end_from_config(
        json.loads((model / "audio/config.json").read_text()), model / "audio"
    )
    published = audio_front_end_from_config({"kind": "wav2vec2", "path": AUDIO}, release)
    assert front_end.rate_hz == 25
    sound: Audio = hum(0.4)
    assert torch.equal(front_end.features(sound, 10), published.features(sound, 10))


def test_model_json_says_how_the_release_is_used(model):
    read_info(model)  # strict: every key is known
    info = json.loads((model / "model.json").read_text())
    assert info["canvas_sizes_px"] == [[480, 832], [832, 480]]
    numbers = ("window_frames", "steps", "guidance_scale", "flow_shift", "window_noise", "family")
    assert [info[name] for name in numbers] == [81, 25, 6.0, 8.0, "shared", "dit"]
    assert info["known_frames_as"] == "float"
    assert info["prompt"] == RELEASED_PROMPT
    assert info["negative_prompt"] == RELEASED_NEGATIVE_PROMPT


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the released settings lie beside the project, not in it")
def test_the_prompts_are_the_released_ones():
    settings = json.loads((GOLDEN / "settings.json").read_text())
    assert settings["prompt"] == RELEASED_PROMPT
    assert settings["negative_prompt"] == RELEASED_NEGATIVE_PROMPT


def test_the_card_names_every_file_with_its_hash(release, model):
    card = (model / "README.md").read_text()
    for place in (DIT, AUTOENCODER, TEXT, CONFIG, TOKENIZER, f"{AUDIO}/model.safetensors"):
        digest = hashlib.sha256((release / place).read_bytes()).hexdigest()
        assert card.count(f"| `{place}` | {(release / place).stat().st_size:,} | `{digest}` |") == 1
    version = json.loads((model / "model.json").read_text())["version"]
    assert hashlib.sha256((release / DIT).read_bytes()).hexdigest().startswith(version)


# ---------------------------------------------------------------------- types


def test_in_bf16_sensitive_layers_and_the_autoencoder_stay_fp32(release, model, tmp_path):
    halved = convert_release(release, tmp_path / "halved", "bf16").folder
    dit, full = tensors_of(halved, WEIGHTS[0]), tensors_of(model, WEIGHTS[0])
    in_fp32 = {name for name, tensor in dit.items() if tensor.dtype == torch.float32}
    for name in (
        *("scale_shift_table", "proj_out.weight", "blocks.0.norm2.bias", "blocks.1.attn1.norm_q.weight"),
        *("condition_embedder.time_proj.weight", "condition_embedder.time_embedder.linear_1.weight"),
    ):
        assert name in in_fp32
        assert torch.equal(dit[name], full[name])
    for name in ("blocks.0.ffn.net.2.weight", "vace_blocks.0.proj_out.weight", "patch_embedding.bias"):
        assert torch.equal(dit[name], full[name].bfloat16())
    assert {tensor.dtype for tensor in tensors_of(halved, WEIGHTS[1]).values()} == {torch.float32}
    assert {tensor.dtype for tensor in tensors_of(halved, WEIGHTS[2]).values()} == {torch.float32}


def test_types_of_the_files_are_kept_or_widened(own_release, tmp_path):
    for place in (DIT, AUTOENCODER, TEXT):
        tensors = torch.load(own_release / place, weights_only=True)
        torch.save({name: tensor.bfloat16() for name, tensor in tensors.items()}, own_release / place)
    kept = convert_release(own_release, tmp_path / "kept").folder
    types = [{tensor.dtype for tensor in tensors_of(kept, part).values()} for part in WEIGHTS]
    assert types == [{torch.bfloat16}, {torch.float32}, {torch.bfloat16}]
    assert json.loads((kept / "text/config.json").read_text())["dtype"] == "bfloat16"
    widened = tensors_of(convert_release(own_release, tmp_path / "wide", "fp32").folder, WEIGHTS[0])
    assert {tensor.dtype for tensor in widened.values()} == {torch.float32}


# ---------------------------------------------------------------------- layouts


def as_diffusers(release, model, folder):
    """Wan's autoencoder in one file, umT5 in two shards with an index."""
    shutil.rmtree(release / "Wan2.1_Encoders/google")
    (release / AUTOENCODER).unlink()
    (release / TEXT).unlink()
    shutil.copytree(model / "autoencoder", folder / "vae")
    shutil.copytree(model / "text/tokenizer", folder / "tokenizer")
    (folder / "text_encoder").mkdir()
    tensors = tensors_of(model, "text/model")
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / "text_encoder" / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "text_encoder/model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("place", [".", "Wan2.1_Encoders"])
def test_diffusers_layout_gives_the_same_weights(own_release, model, tmp_path, place):
    as_diffusers(own_release, model, own_release / place)
    assert_same_weights(convert_release(own_release, tmp_path / "m").folder, model)


def test_a_missing_shard_is_named(own_release, model, tmp_path, capsys):
    as_diffusers(own_release, model, own_release)
    (own_release / "text_encoder/model-00002-of-00002.safetensors").unlink()
    assert main(["weights", "convert", str(own_release), "-o", str(tmp_path / "m")]) == 2
    assert "model-00002-of-00002.safetensors: is one of 2 shards" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["safetensors", "pth", "old"])
def test_every_kind_of_file_gives_the_same_weights(own_release, model, tmp_path, kind):
    tensors = torch.load(own_release / DIT, weights_only=True)
    (own_release / DIT).unlink()
    path = (own_release / DIT).with_suffix(".pth")
    if kind == "safetensors":
        save_file(
            {f"model.{name}": tensor for name, tensor in tensors.items()}, path.with_suffix(".safetensors")
        )
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=kind == "pth")
    result = convert_release(own_release, tmp_path / "m")
    assert_same_weights(result.folder, model)
    assert any("cannot be mapped" in note for note in result.notes) == (kind == "old")


def test_wav2vec2_may_lie_beside_the_others(own_release, model, tmp_path):
    (own_release / AUDIO).rename(own_release / "wav2vec2-base-960h")
    assert_same_weights(convert_release(own_release, tmp_path / "m").folder, model)


def test_what_is_there_twice_is_noted(own_release, tmp_path):
    shutil.copy(own_release / DIT, own_release / "hallo4/model_weight.pth")
    result = convert_release(own_release, tmp_path / "m")
    assert result.notes == (
        "hallo4/model_weight.pth is there too and is not read: hallo4/model_weight.ckpt is used",
    )


@pytest.mark.skipif(
    not KEY_LIST.is_file(), reason="the list of released keys lies beside the project, not in it"
)
def test_all_1996_released_keys_are_covered_with_and_without_a_config():
    shapes = json.loads(KEY_LIST.read_text())
    released = {
        name: torch.empty(shape, device="meta", dtype=torch.bfloat16) for name, shape in shapes.items()
    }
    assert len(released) == 1996
    wav2vec2 = {"num_hidden_layers": 12, "hidden_size": 768}
    published = {"dim": 1536, "num_heads": 12, "num_layers": 30, "ffn_dim": 8960, "model_type": "vace"}
    file = Path("model_weight.pth")
    configs = [dit_config(released, config, wav2vec2, file, Path(CONFIG)) for config in (published, None)]
    planned = [plan_dit_tensors(released, config, torch.bfloat16, file, file) for config in configs]
    (with_config, tensors), (without, _) = planned
    assert json.dumps(with_config) == json.dumps(without)
    assert {theirs for theirs, _ in tensors.values()} == released.keys()
    assert all(list(stored.shape) == shapes[theirs] for theirs, stored in tensors.values())
    assert sum(torch.Size(stored.shape).numel() for _, stored in tensors.values()) == 2_770_040_256


# ---------------------------------------------------------------------- writing


def interrupt_in(part):
    def on_progress(progress):
        if progress.part == part and progress.bytes_done:
            raise KeyboardInterrupt

    return on_progress


def test_an_interrupted_conversion_goes_on(release, model, tmp_path):
    with pytest.raises(Cancelled, match=r"\.m\.converting, and the same command resumes"):
        convert_release(release, tmp_path / "m", on_progress=interrupt_in("text"))
    assert os.listdir(tmp_path) == [".m.converting"]
    written = tmp_path / f".m.converting/{WEIGHTS[0]}.safetensors"
    file = written.stat().st_ino
    messages = []
    result = convert_release(release, tmp_path / "m", on_progress=messages.append)
    assert "dit/ is kept from the interrupted run" in messages[0].notes
    assert {message.part for message in messages} == {"text", "audio"}
    assert messages[-1].bytes_done == messages[-1].bytes_total
    assert (result.folder / f"{WEIGHTS[0]}.safetensors").stat().st_ino == file
    assert_same_weights(result.folder, model)
    assert (result.folder / "README.md").read_text() == (model / "README.md").read_text()
    assert os.listdir(tmp_path) == ["m"]
    assert sorted(os.listdir(result.folder)) == sorted(os.listdir(model))


@pytest.mark.parametrize("change", ["file", "dtype"])
def test_what_changed_is_converted_anew(own_release, tmp_path, change):
    with pytest.raises(Cancelled):
        convert_release(own_release, tmp_path / "m", on_progress=interrupt_in("text"))
    dtype = "keep"
    if change == "file":
        tensors = torch.load(own_release / DIT, weights_only=True)
        tensors["head.head.bias"] += 1
        torch.save(tensors, own_release / DIT)
    else:
        dtype = "fp32"
        (tmp_path / ".m.converting/autoencoder/diffusion_pytorch_model.safetensors").unlink()
    messages = []
    result = convert_release(own_release, tmp_path / "m", dtype, on_progress=messages.append)
    changed = "dit" if change == "file" else "autoencoder"
    assert changed in {message.part for message in messages}
    fresh = convert_release(own_release, tmp_path / "fresh", dtype)
    assert_same_weights(result.folder, fresh.folder)


def test_an_older_model_is_replaced_when_the_new_one_is_complete(release, model, tmp_path):
    older = shutil.copytree(model, tmp_path / "m")
    (older / "model.json").write_text("{}")
    with pytest.raises(Cancelled):
        convert_release(release, older, on_progress=interrupt_in("audio"))
    assert (older / "model.json").read_text() == "{}"
    assert_same_weights(convert_release(release, older).folder, model)
    assert (older / "model.json").read_text() == (model / "model.json").read_text()
    assert os.listdir(tmp_path) == ["m"]


def test_something_else_is_never_replaced(release, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/letter.txt").write_text("dear")
    for place in ("letters", "letters/letter.txt"):
        with pytest.raises(OutputError, match="is no model folder; it is not replaced"):
            convert_release(release, tmp_path / place)
    assert (tmp_path / "letters/letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    assert convert_release(release, tmp_path / "empty").folder == tmp_path / "empty"


def test_a_full_disk_is_found_before_work_begins(release, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"0\.1 GB are needed there and 0\.0 GB are free"):
        convert_release(release, tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_keeps_finished_parts(release, tmp_path, monkeypatch):
    def fill_up(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill_up)  # text/ is the first part with copies
    with pytest.raises(OutputError, match=r"No space left on device.*run the same command"):
        convert_release(release, tmp_path / "m")
    monkeypatch.undo()
    messages = []
    convert_release(release, tmp_path / "m", on_progress=messages.append)
    assert "dit" not in {message.part for message in messages}


def test_the_command_prints_the_folder_and_takes_other_sizes(release, tmp_path, capsys):
    words = ["--dtype", "fp32", "--canvas", "64x96", "--canvas", "96x64", "--window-frames", "17"]
    target = str(tmp_path / "m")
    assert main(["weights", "convert", str(release), "-o", target, *words]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == f"{target}\n"
    assert [line.split(",")[0] for line in stderr.splitlines()] == [
        f"converting {part}/" for part in ("dit", "autoencoder", "text", "audio")
    ]
    info = json.loads((tmp_path / "m/model.json").read_text())
    assert (info["canvas_sizes_px"], info["window_frames"]) == ([[64, 96], [96, 64]], 17)


# ---------------------------------------------------------------------- the released program's own numbers


def relative_error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def test_golden_text_embeddings(golden_model):
    conditions = load_file(GOLDEN / "main/conditions.safetensors")
    encoder = UMT5EncoderModel.from_pretrained(golden_model / "text").eval()
    for kind in ("text", "text_uncond"):
        ids = conditions[f"{kind}_token_ids"].long()[None]
        with torch.no_grad():
            embedding = encoder(ids).last_hidden_state[0]
        assert relative_error(embedding, conditions[f"{kind}_embedding"]) <= 2e-6


def test_golden_reference_latent(golden_model):
    autoencoder = AutoencoderKLWan.from_pretrained(golden_model / "autoencoder").eval()
    canvas_pm1 = load_file(GOLDEN / "main/conditions.safetensors")["reference_canvas"]
    with torch.no_grad():
        mode = autoencoder.encode(canvas_pm1[None, :, None]).latent_dist.mode()[0]
    mean, std = (
        torch.tensor(autoencoder.config[name])[:, None, None, None]
        for name in ("latents_mean", "latents_std")
    )
    expected = load_file(GOLDEN / "main/window_0.safetensors")["reference_latent"]
    assert relative_error((mode - mean) / std, expected) <= 1e-5
