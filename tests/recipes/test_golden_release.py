"""The released architecture in small, as a user would: converted, fine-tuned, aligned, animated."""

from pathlib import Path

import pytest
import torch
from small_runs import noise_videos, prepared, rated_pairs

pytest.importorskip("accelerate", reason="recipes train: pip install 'hallo4[train]'")
pytest.importorskip("pyarrow", reason="shards have an index in Parquet: pip install 'hallo4[data]'")
pytest.importorskip("transformers", reason="wav2vec2 and umT5: pip install 'hallo4[released]'")

from hallo4.cli import main
from hallo4.media import probe_video
from hallo4.pipelines import load_model
from hallo4.pipelines.convert import convert_release
from hallo4.training import read_log

CASE = Path(__file__).parents[3] / "shared/golden/end_to_end"
FRAMES = 17

pytestmark = [
    pytest.mark.skipif(not CASE.is_dir(), reason="the end-to-end case is not part of the project"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def work(tmp_path_factory, hum):
    """The converted release, ten clips of two videos, and a store of two pairs of its own clips."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        sizes = {"canvas_sizes_px": ((64, 96),), "window_frames": FRAMES}
        convert_release(CASE / "pretrained_models", folder / "model", **sizes)
        videos = noise_videos(folder / "videos", hum, 5 * FRAMES, (96, 64))
        prepared(videos, folder / "shards", folder / "model")
        rated_pairs(folder / "pairs", folder / "model", hum, FRAMES)
        yield folder


def train(folder: Path, recipe: str, *settings: str) -> list[float]:
    """Run the command; the losses it logged."""
    few = ["train.accumulate=1", "train.log_every=1", "train.schedule.warmup_steps=1", "batch_size=2"]
    words = [word for setting in (*few, *settings) for word in ("--set", setting)]
    assert main(["train", recipe, *words, "-o", str(folder)]) == 0
    return [record["loss"] for record in read_log(folder) if "loss" in record]


def animates(model: Path, work: Path, out: Path) -> bool:
    """One window of the released portrait."""
    what = [str(CASE / "inputs/reference.png"), str(work / "pairs/speech.wav")]
    words = [*what, "--motion", str(work / "pairs/moves.json"), "--model", str(model), "--steps", "1"]
    assert main(["animate", *words, "--guidance-scale", "1", "-o", str(out)]) == 0
    return probe_video(out).frames == FRAMES


@pytest.mark.parametrize(
    "how",
    [["tuning=lora"], ["tuning=full", "trainable=('attn_audio', 'attn_skeleton')"]],
    ids=["lora", "full"],
)
def test_fine_tuned_on_ten_clips_it_learns_and_animates(how, work, tmp_path):
    data = [f"model={work}/model", f"prepared={work}/shards", "train.steps=6", "train.preview_every=3"]
    train(tmp_path / "run", "hallo4-sft", *data, *how, "train.optimizer.learning_rate=1e-3")
    held_out = [r["preview"]["held_out_loss"] for r in read_log(tmp_path / "run") if "preview" in r]
    assert held_out[1] < held_out[0]
    model = load_model(tmp_path / "run/model")
    assert model.prompts is not None
    assert model.info.canvas_sizes_px == ((64, 96),)
    assert animates(tmp_path / "run/model", work, tmp_path / "video.mp4")


def test_preference_optimized_it_prefers_and_animates(work, tmp_path):
    data = [f"model={work}/model", f"store={work}/pairs/store", f"pairs_folder={tmp_path}/latents"]
    rate = ["train.optimizer.learning_rate=1e-4", "guard.max_logit=100", "held_out.motion_windows=0"]
    found = train(tmp_path / "run", "hallo4-dpo", *data, *rate, "train.steps=4", "train.preview_every=4")
    assert found[0] == pytest.approx(0.6931, abs=1e-3)
    assert found[-1] < 0.68
    before, after = (
        load_model(folder).backbone.state_dict() for folder in (work / "model", tmp_path / "run/model")
    )
    different = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert different
    assert all(".attn" in name for name in different)
    assert animates(tmp_path / "run/model", work, tmp_path / "video.mp4")
