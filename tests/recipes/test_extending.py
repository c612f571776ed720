"""The code of docs/extending.md runs, and what it makes goes through the commands."""

import re
from pathlib import Path

import pytest
import torch
from small_runs import noise_videos, prepared, rated_pairs

pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")
pytest.importorskip("pyarrow", reason="shards have an index in Parquet: pip install 'hallo4[data]'")

from hallo4 import models
from hallo4.cli import main
from hallo4.pipelines import load_model, model_folder, model_info
from hallo4.preference import PreferenceStore
from hallo4.training import read_log

PAGE = Path(__file__).parents[2] / "docs/extending.md"
FRAMES = 9


@pytest.fixture(scope="module")
def page(tmp_path_factory, hum):
    """The folder in which all code of the page has run, block after block, and a store of its model."""
    folder = tmp_path_factory.mktemp("extending")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    known = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("hallo4.training.loop.plot_log", lambda folder: None)  # slow
        patch.setitem(model_info.FAMILIES, "small", "")
        patch.setitem(model_folder.AUTOENCODERS, "MeanAutoencoder", "")
        for name in ("SmallBackbone", "MeanAutoencoder"):
            patch.setattr(models, name, None, raising=False)
        for number, block in enumerate(blocks):
            if "runs/store" in block:
                store = rated_pairs(folder / "pairs", folder / "runs/small", hum, FRAMES, people=3)
                store.folder.rename(folder / "runs/store")
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), known)
        yield folder


def run(folder: Path, recipe: str, *settings: str) -> Path:
    few = [
        "train.steps=2",
        "train.accumulate=1",
        "train.log_every=1",
        "train.preview_every=1",
        "batch_size=2",
    ]
    words = [word for setting in (*few, *settings) for word in ("--set", setting)]
    assert main(["train", recipe, *words, "-o", str(folder)]) == 0
    assert [record["step"] for record in read_log(folder) if "loss" in record] == [1, 2]
    return folder / "model"


@pytest.mark.parametrize("name", ["small", "mean"])
def test_a_backbone_and_an_autoencoder_of_ones_own_are_trained_and_animate(name, page, hum):
    model = page / "runs" / name
    videos = noise_videos(page / f"videos-{name}", hum, FRAMES, (48, 48))
    prepared(videos, page / f"shards-{name}", model)
    data = (f"model={model}", f"prepared={page}/shards-{name}", "tuning=full", "gradient_checkpointing=false")
    made = run(page / f"sft-{name}", "hallo4-sft", *data)
    now, before = (load_model(folder).backbone.state_dict() for folder in (made, model))
    assert any(not torch.equal(tensor, before[key]) for key, tensor in now.items())
    clip = videos / "0.mp4"
    words = [str(page / "pairs/face.png"), str(clip), "--motion", str(page / "pairs/moves.json")]
    assert main(["animate", *words, "--model", str(made), "-o", str(page / f"{name}.mp4")]) == 0


def test_clips_of_ones_own_were_trained_on(page):
    assert [record["step"] for record in read_log(page / "runs/small-run") if "loss" in record] == [1, 2, 3]
    assert load_model(page / "runs/small-trained").info.name == "small"


def test_pairs_by_an_axis_of_ones_own_are_trained_on(page):
    pairs = PreferenceStore.open(page / "runs/store").pairs().values()
    assert {axis for pair in pairs for axis in pair.axes} == {"movement"}
    how = ("tuning=full", "reference=frozen", "mode=batched", "gradient_checkpointing=false")
    watched = ("held_out.motion_windows=0", "guard.max_logit=100", "train.optimizer.learning_rate=1e-6")
    data = (f"model={page}/runs/small", f"store={page}/runs/store", f"pairs_folder={page}/latents")
    run(page / "dpo", "hallo4-dpo", *data, *how, *watched)
    preview = next(r["preview"] for r in read_log(page / "dpo") if "preview" in r)
    assert "accuracy: movement" in preview
