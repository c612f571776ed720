"""Recipes for any model folder: what is trained, what comes out, three references that are one, refusals."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import noise_videos, prepared, rated_pairs

pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")
pytest.importorskip("pyarrow", reason="shards have an index in Parquet: pip install 'hallo4[data]'")

from hallo4.errors import InputError
from hallo4.pipelines import load_model
from hallo4.pipelines.reach import TrainedOn
from hallo4.recipes import RECIPES
from hallo4.recipes.clip_sources import SourceOfClips
from hallo4.training import ScheduleConfig, override, read_log
from hallo4.weights.tensors import read_tensors

FRAMES = 13


@pytest.fixture(autouse=True)
def _without_plots(monkeypatch):
    monkeypatch.setattr("hallo4.training.loop.plot_log", lambda folder: None)  # slow


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_model_folder, hum):
    """Shards of two videos, and a store of two pairs, for the tiny model."""
    folder = tmp_path_factory.mktemp("any")
    videos = noise_videos(folder / "videos", hum, FRAMES, (48, 48))
    prepared(videos, folder / "shards", tiny_model_folder)
    rated_pairs(folder / "pairs", tiny_model_folder, hum, FRAMES)
    return folder


def recipe_of(name: str, model: Path, work: Path, *settings: str):
    """The recipe with four steps, and its configuration."""
    recipe = RECIPES[name]()
    rated = name != "hallo4-sft"
    data = (
        [f"store={work}/pairs/store", f"pairs_folder={work}/latents"]
        if rated
        else [f"prepared={work}/shards"]
    )
    watched = ["held_out.motion_windows=0", "guard.max_logit=100"] if rated else []
    few = [
        "train.steps=4",
        "train.accumulate=1",
        "train.log_every=1",
        "train.preview_every=2",
        "batch_size=2",
    ]
    rate = [f"train.optimizer.learning_rate={1e-4 if rated else 1e-2}", "adapter.rank=2", "adapter.alpha=2"]
    config = override(recipe.config, [f"model={model}", *data, *watched, *few, *rate, *settings])
    schedule = ScheduleConfig(warmup_steps=1, anneal_fraction=0.0)
    return recipe, replace(config, train=replace(config.train, schedule=schedule))


def run(name: str, model: Path, work: Path, folder: Path, *settings: str) -> Path:
    recipe, config = recipe_of(name, model, work, *settings)
    return recipe(config, folder)


def changed(made: Path, start: Path) -> set[str]:
    """Names of the backbone's tensors that are not as they were."""
    now, before = (load_model(folder).backbone.state_dict() for folder in (made, start))
    assert now.keys() == before.keys()
    return {name for name, tensor in now.items() if not torch.equal(tensor, before[name])}


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_log(folder) if "loss" in record]


def test_an_adapter_merged_is_a_complete_folder(tiny_model_folder, work, tmp_path):
    made = run("hallo4-sft", tiny_model_folder, work, tmp_path / "run", "model_name=mine")
    assert len(losses(tmp_path / "run")) == 4
    names = changed(made, tiny_model_folder)
    assert names
    assert all(any(part in name for part in (".attn1.", ".attn_audio.", ".attn_skeleton.")) for name in names)
    for part in ("autoencoder", "audio"):
        for file in (tiny_model_folder / part).iterdir():
            assert (made / part / file.name).read_bytes() == file.read_bytes()
    model = load_model(made)
    assert (model.info.name, model.info.steps, model.info.guidance_scale) == ("mine", 2, 2.0)
    card = (made / "README.md").read_text()
    for words in (
        "base_model: testling",
        "4 clips: own",
        "hallo4-sft",
        "Width over height",
        "rank 2",
        "AI-generated",
    ):
        assert words in card
    previews = [record["preview"] for record in read_log(tmp_path / "run") if "preview" in record]
    assert previews[0].keys() == {"held_out_loss", "held_out_error", "held_out_mouth_error"}
    assert previews[1]["held_out_loss"] < previews[0]["held_out_loss"]


def test_an_adapter_kept_is_the_same_model(tiny_model_folder, work, tmp_path):
    merged = run("hallo4-sft", tiny_model_folder, work, tmp_path / "merged")
    kept = run("hallo4-sft", tiny_model_folder, work, tmp_path / "kept", "result=adapter")
    assert (kept / "adapter").is_dir()
    assert not (kept / "dit").exists()
    one, other = (load_model(folder).backbone.state_dict() for folder in (merged, kept))
    for name, tensor in one.items():  # the adapter is stored in bf16, so are the merged matrices
        torch.testing.assert_close(tensor, other[name], rtol=1e-2, atol=1e-3, msg=name)
    with pytest.raises(InputError, match="use result=merged"):
        run("hallo4-sft", kept, work, tmp_path / "again", "result=adapter")
    assert not (tmp_path / "again").exists()
    further = run("hallo4-sft", kept, work, tmp_path / "further")
    assert (further / "dit").is_dir()


def test_parts_by_name_are_trained_and_nothing_else(tiny_model_folder, work, tmp_path):
    parts = ("tuning=full", "trainable=('attn_audio', 'skeleton_proj')", "frozen=(r'attn_audio\\.to_q',)")
    made = run("hallo4-sft", tiny_model_folder, work, tmp_path / "run", *parts)
    names = changed(made, tiny_model_folder)
    assert {name.split(".")[0] for name in names} == {"blocks", "skeleton_proj"}
    inside = [name for name in names if name.startswith("blocks")]
    assert inside
    assert all(".attn_audio." in name and ".to_q." not in name for name in inside)


def test_all_of_a_model_is_trained_but_what_no_clip_reaches(tiny_model_folder, work, tmp_path):
    made = run(
        "hallo4-sft", tiny_model_folder, work, tmp_path / "run", "tuning=full", "gradient_checkpointing=true"
    )
    untouched = set(load_model(made).backbone.state_dict()) - changed(made, tiny_model_folder)
    idle = set(load_model(made).backbone.idle_parameters(text=False))
    assert idle
    assert idle <= untouched


def test_three_references_are_one(tiny_model_folder, work, tmp_path):
    logs = {}
    for reference in ("adapter_off", "frozen", "table"):
        folder = tmp_path / reference
        made = run("hallo4-dpo", tiny_model_folder, work, folder, f"reference={reference}")
        assert changed(made, tiny_model_folder)
        logs[reference] = losses(folder), [r["preview"]["margin"] for r in read_log(folder) if "preview" in r]
    assert logs["adapter_off"][0][0] == pytest.approx(0.6931, abs=1e-4)
    assert logs["frozen"] == logs["adapter_off"], "the same module, kernels and batches"
    for found, expected in zip(logs["table"], logs["adapter_off"], strict=True):
        assert found == pytest.approx(expected, abs=1e-3), "other batches round otherwise, times beta"
    assert (tmp_path / "table" / "reference.safetensors").is_file()
    shutil.rmtree(tmp_path / "table" / "model")
    assert run("hallo4-dpo", tiny_model_folder, work, tmp_path / "table", "reference=table").is_dir()


def test_all_weights_are_aligned_against_a_copy_or_a_table(tiny_model_folder, work, tmp_path):
    rate = "train.optimizer.learning_rate=1e-5"
    found = []
    for reference in ("frozen", "table"):
        how = ("tuning=full", f"reference={reference}", "mode=batched", rate)
        run("hallo4-dpo", tiny_model_folder, work, tmp_path / reference, *how)
        found.append(losses(tmp_path / reference))
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_the_control_learns_from_winners_alone(tiny_model_folder, work, tmp_path):
    made = run("hallo4-winners", tiny_model_folder, work, tmp_path / "run")
    first, *_, last = (r["metrics"] for r in read_log(tmp_path / "run") if "loss" in r)
    assert last["winner_error"] < first["winner_error"]
    assert "the control of preference optimization" in (made / "README.md").read_text()


def test_an_anchor_of_prepared_clips_adds_their_loss(tiny_model_folder, work, tmp_path):
    anchor = ("anchor_weight=2", f"anchor.prepared={work}/shards")
    run("hallo4-dpo", tiny_model_folder, work, tmp_path / "run", *anchor)
    first = next(r for r in read_log(tmp_path / "run") if "loss" in r)
    assert first["loss"] > 2 * first["metrics"]["real_error"] * 0.5 > 0
    with pytest.raises(InputError, match="no clips are named"):
        run("hallo4-dpo", tiny_model_folder, work, tmp_path / "other", "anchor_weight=2")


REFUSED = {
    "a pattern of nothing": ("hallo4-sft", ["trainable=('attn9',)"], "part called 'attn9'"),
    "a pattern of nothing, full": (
        "hallo4-sft", ["tuning=full", "trainable=('attn9',)"], "part called 'attn9'",
    ),
    "no pattern": ("hallo4-sft", ["trainable=('(',)"], "is not a pattern of parts"),
    "nothing left": (
        "hallo4-sft", ["tuning=full", "frozen=('.*',)"], "nothing of the model is left to train",
    ),
    "no adapter to switch off": ("hallo4-dpo", ["tuning=full"], "reference=adapter_off needs an adapter"),
    "two types without autocast": (
        "hallo4-sft", ["tuning=full", "frozen_dtype=bf16", "train.mixed_precision=no"], "frozen_dtype=bf16",
    ),
    "an unknown kernel": ("hallo4-sft", ["attention=fastest"], "attention 'fastest' is unknown"),
    "paged without a GPU": ("hallo4-sft", ["train.optimizer.adamw_state=paged_8bit"], "this run is on cpu"),
    "a loss of another prediction": (
        "hallo4-dpo", ["loss.prediction=v"], "predicts 'flow', but the loss is of 'v'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_line_and_leaves_nothing(case, tiny_model_folder, work, tmp_path):
    name, settings, words = REFUSED[case]
    if case == "paged without a GPU" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError) as refusal:
        run(name, tiny_model_folder, work, tmp_path / "run", *settings)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run" / "last").exists()


@pytest.mark.parametrize(
    ("name", "missing"),
    [("hallo4-sft", "model"), ("hallo4-sft", "prepared"), ("hallo4-dpo", "model"), ("hallo4-dpo", "store")],
)
def test_what_is_not_said_is_asked_for(name, missing, tiny_model_folder, work, tmp_path):
    recipe, config = recipe_of(name, tiny_model_folder, work)
    with pytest.raises(InputError, match=f"{missing} is not set: say which with --set {missing}="):
        recipe(replace(config, **{missing: None}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shards_of_another_model_are_refused_with_what_differs(tiny_model_folder, work, tmp_path):
    from hallo4.pipelines import save_model_folder

    model = load_model(tiny_model_folder)
    torch.manual_seed(1)
    other = type(model.autoencoder)(latent_channels=4, fine_width=8, coarse_width=16)
    audio = model.audio_front_end.to_config()
    folder = save_model_folder(tmp_path / "other", model.info, model.backbone, other, audio, "# a card\n")
    with pytest.raises(InputError, match=r"shards: holds clips for testling.* in autoencoder"):
        run("hallo4-sft", folder, work, tmp_path / "run")


def test_pairs_of_another_size_are_refused_by_name(tiny_model_folder, work, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "larger")
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"size_px": 32', '"size_px": 64'))
    with pytest.raises(InputError, match=r"clip k\w+ of pair pair-0 is \[13, 32, 32, 3\]"):
        run("hallo4-dpo", folder, work, tmp_path / "run")


def test_a_folder_belongs_to_a_recipe_and_its_values(tiny_model_folder, work, tmp_path):
    recipe, config = recipe_of("hallo4-sft", tiny_model_folder, work)
    recipe(config, tmp_path / "run")
    longer = replace(config, train=replace(config.train, steps=5), model_name="renamed")
    assert load_model(recipe(longer, tmp_path / "run")).info.name == "renamed"
    assert len(losses(tmp_path / "run")) == 5
    with pytest.raises(InputError, match=r"was begun with adapter\.rank=2, and this is adapter\.rank=3"):
        recipe(override(config, ["adapter.rank=3"]), tmp_path / "run")
    with pytest.raises(InputError, match="holds a run of hallo4-sft, and this is hallo4-dpo"):
        run("hallo4-dpo", tiny_model_folder, work, tmp_path / "run")


def test_eight_bits_train_and_go_on(tiny_model_folder, work, tmp_path):
    pytest.importorskip("bitsandbytes", reason="AdamW in 8 bits: pip install 'hallo4[eight-bit]'")
    short = ("adapter.rank=64", "train.optimizer.adamw_state=8bit")
    run("hallo4-sft", tiny_model_folder, work, tmp_path / "whole", *short)
    run("hallo4-sft", tiny_model_folder, work, tmp_path / "parts", *short, "train.steps=2")
    run("hallo4-sft", tiny_model_folder, work, tmp_path / "parts", *short)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


class Counted:
    """Ten clips of nothing."""

    def __len__(self):
        return 10


def test_whole_videos_are_held_out():
    videos = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    source = SourceOfClips(Counted(), 5, "clips", videos=videos)
    rows, held_out = source.split(0.25, seed=0)
    assert sorted([*rows.tolist(), *held_out.tolist()]) == list(range(10))
    assert not set(videos[rows].tolist()) & set(videos[held_out].tolist())
    assert len(set(videos[held_out].tolist())) == 1
    assert source.split(0.0, 0)[1].tolist() == []
    with pytest.raises(InputError, match="two videos or more"):
        replace(source, videos=torch.zeros(10, dtype=torch.long)).split(0.25, 0)


def test_what_a_model_was_trained_on_grows():
    known = TrainedOn("the world", (1.0, 1.0), (0.43, 0.45), 28.0)
    source = SourceOfClips(Counted(), 5, "10 clips", aspects=(0.75, 0.9), head_widths=(0.3, 0.44))
    both = source.extends(known)
    assert (both.aspect, both.head_width, both.least_psnr_db) == ((0.75, 1.0), (0.3, 0.45), 28.0)
    assert both.what == "the world, then 10 clips"
    assert replace(source, aspects=None).extends(known) == known


def test_nothing_of_a_run_is_a_pickle(tiny_model_folder, work, tmp_path):
    run("hallo4-dpo", tiny_model_folder, work, tmp_path / "run", "reference=table")
    kinds = {path.suffix for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".md", ".png", ".lock", ""}
    for path in (tmp_path / "run").rglob("*.safetensors"):
        assert read_tensors(path, "anything")
