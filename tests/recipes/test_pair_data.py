"""From a store to batches of pairs: what winner and loser share, what counts, what is kept on disk."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hallo4.data.latents import RegionWeights
from hallo4.data.pair_latents import EncodedPairs, PairWindow, encode_pair_window, encode_pairs
from hallo4.diffusion import PairDrawConfig
from hallo4.errors import CheckpointError, InputError
from hallo4.media import read_frames, save_wav
from hallo4.models.window_conditions import DiTWindows
from hallo4.motion import default_rest_pose, idle_motion, save_skeleton
from hallo4.preference import Pair, PreferenceStore, Variant, make_candidates
from hallo4.preference.conditions import add_condition_of_files
from hallo4.recipes.pair_data import PairData, axis_shares, pair_windows, usable_pairs, windows_of
from hallo4.training import PairBatch
from hallo4.types import AutoencoderSpec

FRAMES = 7  # windows 0..4 and 4..8, of which 7 and 8 are beyond the end


def pair(winner, loser, gaps=(1.0, 3.0), split="train", **changes):
    axes = {
        axis: {"winner": 1.0 + gap, "loser": 1.0, "n": 3, "spread": 0.0}
        for axis, gap in zip(("alignment", "fidelity"), gaps, strict=True)
    }
    values = {
        "pair_id": f"{winner}-{loser}", "condition_id": "c", "winner": winner, "loser": loser, "axes": axes,
        "gap": float(np.mean(gaps)), "weight": 1.0, "split": split, "segment_labels": None,
    }  # fmt: skip
    return Pair(**(values | changes))


@pytest.fixture(scope="module")
def work(tiny_model_folder, tiny_model, portrait_u8, hum, tmp_path_factory):
    """A store with one condition that has a skeleton and one that has none, two takes of each, a pair of
    each."""
    folder = tmp_path_factory.mktemp("pairs")
    Image.fromarray(portrait_u8).save(folder / "portrait.png")
    save_wav(folder / "speech.wav", hum(FRAMES / 25))
    save_skeleton(folder / "moves.json", idle_motion(default_rest_pose(32, 32), FRAMES, 3, 0))
    store = PreferenceStore.create(folder / "store")
    conditions = [
        add_condition_of_files(store, folder / "portrait.png", folder / "speech.wav", skeleton)
        for skeleton in (folder / "moves.json", None)
    ]
    variants = [Variant(str(tiny_model_folder), seed) for seed in (0, 1)]
    clips = make_candidates(store, conditions, variants)
    pairs = [
        pair(clips[k].clip_id, clips[k + 1].clip_id, condition_id=conditions[k // 2].condition_id)
        for k in (0, 2)
    ]
    store.write_pairs(pairs)
    return SimpleNamespace(store=store, pairs=pairs, model=tiny_model, folder=folder)


@pytest.fixture(scope="module")
def data(work):
    """The encoded first pair: two rows."""
    first = work.pairs[0]
    encoded = encode_pairs(
        [first.pair_id],
        lambda _: pair_windows(work.store, first, work.model),
        work.model.autoencoder,
        work.model.backbone.windows,
        windows_of(work.model),
        work.folder / "latents",
    )
    made_for = (work.model.info, work.model.backbone.windows)
    return PairData(encoded, {first.pair_id: first}, PairDrawConfig(), RegionWeights(), *made_for)


def test_pairs_whose_clips_have_idle_motion_of_their_own_are_left_out_by_name(work):
    kept, left_out = usable_pairs(work.store)
    assert [p.pair_id for p in kept] == [work.pairs[0].pair_id]
    assert len(left_out) == 1
    assert work.pairs[1].pair_id in left_out[0]


def test_windows_hold_the_frames_of_both_clips_and_what_they_were_made_from(work):
    windows = list(pair_windows(work.store, work.pairs[0], work.model))
    clips = work.store.clips()
    for side in ("winner", "loser"):
        path = work.store.media_path(clips[getattr(work.pairs[0], side)].path)
        frames = np.stack(list(read_frames(path, 25.0)))
        assert len(frames) == FRAMES
        made = [getattr(window, f"{side}_u8") for window in windows]
        np.testing.assert_array_equal(made[0], frames[:5])
        np.testing.assert_array_equal(made[1], frames[[4, 5, 6, 6, 6]])
    assert windows[0].winner_known_u8 is windows[0].loser_known_u8 is None
    for side in ("winner", "loser"):
        np.testing.assert_array_equal(
            getattr(windows[1], f"{side}_known_u8")[0], getattr(windows[0], f"{side}_u8")[4]
        )
    assert [window.real_frames for window in windows] == [7, 3]
    assert windows[0].skeleton_pm1.add(1).any(), "there is a skeleton in the drawing"
    np.testing.assert_array_equal(windows[1].points_px[2], windows[1].points_px[4])


def test_pairs_of_a_model_that_takes_drafts_are_conditioned_on_them(work, drafting_model, tmp_path):
    first, rules = work.pairs[0], drafting_model.backbone.windows
    windows = list(pair_windows(work.store, first, drafting_model))
    encoded = encode_pairs(
        [first.pair_id], lambda _: windows, drafting_model.autoencoder, rules, "drafts", tmp_path
    )
    made_for = (drafting_model.info, rules)
    pairs = PairData(encoded, {first.pair_id: first}, PairDrawConfig(), RegionWeights(), *made_for)
    batch = pairs.batch(torch.tensor([0, 1]), torch.tensor([0, 0]))
    drafts = encoded.batch(torch.tensor([0, 1]))["draft"]
    assert drafts.shape == batch["winner"].shape
    for side in ("conditions", "loser_conditions"):
        torch.testing.assert_close(batch[side]["control_latents"][:, 4:8, 1:], drafts)
    with torch.inference_mode(), drafting_model.autoencoding():
        shown = drafting_model.autoencoder.encode_video(windows[1].draft_pm1.transpose(0, 1)[None])
    torch.testing.assert_close(drafts[1:], shown.float(), rtol=2e-3, atol=2e-3)


def test_a_clip_of_another_size_than_the_model_makes_is_named(work):
    bigger = replace(work.model, info=replace(work.model.info, size_px=64))
    with pytest.raises(InputError, match=r"clip k\w+ of pair .*\[7, 32, 32, 3\].*\[7, 64, 64, 3\]"):
        list(pair_windows(work.store, work.pairs[0], bigger))


CONFIG = {"patch_size": (1, 2, 2), "rho": 4, "text_dim": 6, "text_len": None, "mask_rule": "group"}
RULES = DiTWindows(SimpleNamespace(**CONFIG, known_dropped=0.0, cell_px=8, draft=False))


class _Encoder(torch.nn.Module):
    spec = AutoencoderSpec(1, 4, 8, True)

    def encode_video(self, video_pm1):
        return video_pm1[:, :1, ::4, ::8, ::8]

    def encode_frames(self, frames_pm1):
        return frames_pm1[:, :1, :, ::8, ::8]


@pytest.mark.parametrize(
    ("real", "continues", "counted"),
    [
        (17, False, [1, 1, 1, 1, 1]),
        (30, True, [0, 1, 1, 1, 1]),
        (6, True, [0, 1, 1, 0, 0]),
        (5, False, [1, 1, 0, 0, 0]),
        (1, False, [1, 0, 0, 0, 0]),
    ],
)
def test_known_frames_and_groups_beyond_the_end_do_not_count(real, continues, counted):
    video = np.zeros((17, 16, 16, 3), np.uint8)
    known = [video[:1] if continues else None] * 2
    drawn, portrait, audio = torch.zeros(17, 3, 16, 16), torch.zeros(3, 16, 16), torch.zeros(17, 5, 2, 3)
    window = PairWindow(video, video, drawn, portrait, audio, None, real, *known)
    encoded = encode_pair_window(window, _Encoder(), RULES)
    assert encoded["counted"].tolist() == [bool(c) for c in counted]
    assert not encoded["regions"].any()


def test_what_is_encoded_is_not_encoded_again_unless_damaged_or_of_other_weights(work, tmp_path):
    calls, first = [], work.pairs[0]

    def windows(pair_id):
        calls.append(pair_id)
        return pair_windows(work.store, first, work.model)

    def encode(autoencoder=work.model.autoencoder, made_for="windows of 5"):
        rules = work.model.backbone.windows
        return encode_pairs([first.pair_id], windows, autoencoder, rules, made_for, tmp_path)

    both = torch.tensor([0, 1])
    encoded = encode()
    fresh, again = encoded.batch(both), encode().batch(both)
    assert len(calls) == 1
    assert encoded.rows == [(first.pair_id, 0), (first.pair_id, 1)]
    assert all(torch.equal(fresh[name], again[name]) for name in fresh)
    file = next(tmp_path.glob("*.safetensors"))
    whole = file.read_bytes()
    file.unlink()  # its pages may be mapped
    file.write_bytes(whole[:-1])
    assert torch.equal(encode().batch(both)["winner"], fresh["winner"])
    assert len(calls) == 2
    other = type(work.model.autoencoder)(latent_channels=4, fine_width=8, coarse_width=16)
    encode(other)
    assert len(calls) == 3
    encode(made_for="windows of 9")
    assert len(calls) == 4
    longer = replace(work.model, info=replace(work.model.info, window_frames=9))
    assert windows_of(longer) != windows_of(work.model)


def file_of(path, windows, side=4):
    """As of `encode_pairs`, of noise."""
    tensors = {
        "winner": torch.randn(windows, 4, 3, side, side).half(),
        "scene.text": torch.randn(windows, 5, 6).half(),
        "counted": torch.rand(windows, 3) > 0.5,
    }
    save_file(tensors, path)
    return tensors


def test_a_batch_of_pairs_is_bit_for_bit_what_all_of_them_in_memory_would_give(tmp_path):
    torch.manual_seed(0)
    files = {name: tmp_path / f"{name}.safetensors" for name in "bca"}
    parts = [file_of(file, windows) for file, windows in zip(files.values(), (2, 1, 3), strict=True)]
    encoded = EncodedPairs(files)
    assert encoded.rows == [("b", 0), ("b", 1), ("c", 0), ("a", 0), ("a", 1), ("a", 2)]
    rows = torch.tensor([5, 0, 2, 5])
    batch = encoded.batch(rows)
    assert batch.keys() == parts[0].keys()
    for name, found in batch.items():
        of_all = torch.cat([part[name] for part in parts])
        assert torch.equal(found, of_all[rows] if name == "counted" else of_all[rows].float())
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(again, batch[name]) for name, again in encoded.batch(rows).items())


def memory_of_its_own() -> int:
    """Bytes of this process that are not pages of a file."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line)
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux tells it")
def test_of_many_pairs_only_those_of_a_batch_are_in_memory(tmp_path):
    windows, pairs = 32, 256
    file_of(tmp_path / "first.safetensors", windows, side=64)
    size = (tmp_path / "first.safetensors").stat().st_size
    files = {str(number): tmp_path / f"{number}.safetensors" for number in range(pairs)}
    for file in files.values():
        file.hardlink_to(tmp_path / "first.safetensors")
    before = memory_of_its_own()
    encoded = EncodedPairs(files)
    assert len(encoded) == pairs * windows
    for start in range(0, len(encoded), 997):
        batch = encoded.batch(torch.arange(start, min(start + 3, len(encoded))))
    assert batch["winner"].dtype == torch.float32
    grown = memory_of_its_own() - before
    assert grown < 0.05 * pairs * size, f"{grown / 2**20:.0f} of {pairs * size / 2**20:.0f} MB"


def test_pairs_of_several_shapes_and_a_lost_file_are_one_line(tmp_path):
    files = {name: tmp_path / f"{name}.safetensors" for name in "ab"}
    for file, side in zip(files.values(), (4, 6), strict=True):
        file_of(file, 1, side)
    with pytest.raises(InputError, match=r"several shapes \(3x4x4 of a, 3x6x6 of b\)"):
        EncodedPairs(files)
    files.pop("b").unlink()
    encoded = EncodedPairs(files)
    files["a"].unlink()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: no such"):
        encoded.batch(torch.tensor([0]))


def test_winner_and_loser_share_all_but_the_frame_that_each_goes_on_from(data):
    batch = PairBatch(**data.batch(torch.tensor([0, 1]), torch.tensor([0, 0])))
    assert not torch.equal(batch.winner, batch.loser)
    for name, value in batch.conditions.items():
        of_loser = batch.loser_conditions[name]
        if value is None:
            assert of_loser is None
            continue
        assert torch.equal(value[0], of_loser[0]), f"{name}: nothing is known in a first window"
        assert torch.equal(value[1], of_loser[1]) == (name != "control_latents")
    control, of_loser = batch.conditions["control_latents"][1], batch.loser_conditions["control_latents"][1]
    torch.testing.assert_close(control[:4, 1], batch.winner[1, :, 0])
    torch.testing.assert_close(of_loser[:4, 1], batch.loser[1, :, 0])
    assert not batch.loss_weights[1, :, 0].any(), "the known frame has no loss"
    assert batch.loss_weights[0].min() == 1
    assert batch.axis_shares.tolist() == [[0.25, 0.75]] * 2


def test_draws_are_keyed_by_pair_window_and_visit_in_whatever_order(data):
    there = data.batch(torch.tensor([0, 1]), torch.tensor([0, 5]))
    back = data.batch(torch.tensor([1, 0]), torch.tensor([5, 0]))
    assert torch.equal(there["noise"], back["noise"].flip(0))
    assert torch.equal(there["sigma"], back["sigma"].flip(0))
    later = data.batch(torch.tensor([0, 1]), torch.tensor([1, 6]))
    assert not torch.equal(there["noise"], later["noise"])


def test_a_run_visits_every_chosen_row_once_an_epoch(data):
    make = data.training(torch.tensor([1]), 1, seed=0)
    batches = [make(index, torch.Generator()) for index in range(3)]
    assert [batch["pairs"].tolist() for batch in batches] == [[1]] * 3
    assert [batch["visits"].tolist() for batch in batches] == [[0], [1], [2]]


def test_dropped_conditions_are_those_of_both_clips(data):
    silent = PairData(**(vars_of(data) | {"draw": PairDrawConfig(drop_rate=1.0)}))
    batch = silent.batch(torch.tensor([0]), torch.tensor([0]))
    assert not batch["conditions"]["audio_windows"].any()
    assert not batch["loser_conditions"]["audio_windows"].any()


def vars_of(data):
    names = ("encoded", "pairs", "draw", "regions", "info", "rules")
    return {name: getattr(data, name) for name in names}


def test_region_weights_are_the_largest_that_applies():
    regions = torch.zeros(1, 3, 1, 2, 2, dtype=torch.bool)
    regions[0, 0, 0, 0, 0] = regions[0, 1, 0, 0, 0] = regions[0, 1, 0, 0, 1] = regions[0, 2, 0, 1, 0] = True
    weights = RegionWeights(mouth=0.5, eyes=2.0, hands=3.0, elsewhere=0.25).of(regions)
    assert weights[0, 0, 0].tolist() == [[2.0, 2.0], [3.0, 0.25]]
    alone = RegionWeights(mouth=1.0, eyes=0.0, hands=0.0, elsewhere=0.0).of(regions)
    assert alone.sum() == 1.0


def test_shares_of_the_axes_are_those_of_the_gaps():
    assert axis_shares(pair("a", "b", (1.0, 3.0))) == [0.25, 0.75]
    assert axis_shares(pair("a", "b", (2.0, -1.0), gap=0.5)) == [1.0, 0.0]
    assert axis_shares(pair("a", "b", (0.0, 0.0), gap=0.0)) == [0.5, 0.5]


def test_labels_of_seconds_become_labels_of_latent_frames(data):
    """Windows of 17 frames at 25 fps: window 1 begins at frame 16; its groups lie around 18.5, 22.5, 26.5,
    30.5."""
    first = data.pairs[data.rows[0][0]]
    labelled = replace(first, segment_labels=(1.0, -0.5))
    info = replace(data.info, window_frames=17)
    encoded = SimpleNamespace(rows=data.rows, latent_shape=(5, 4, 4))
    changes = {"pairs": {first.pair_id: labelled}, "info": info, "encoded": encoded}
    dense = PairData(**(vars_of(data) | changes))
    assert dense.dense
    assert not data.dense
    assert [dense._labels(row).tolist() for row in (0, 1)] == [[1, 1, 1, 1, 1], [1, 1, 1, -1, -1]]


def test_segment_labels_leave_out_what_does_not_count(data):
    first = data.pairs[data.rows[0][0]]
    labelled = replace(first, segment_labels=(1.0,))
    dense = PairData(**(vars_of(data) | {"pairs": {first.pair_id: labelled}}))
    batch = dense.batch(torch.tensor([0, 1]), torch.tensor([0, 0]))
    counted = data.encoded.batch(torch.tensor([0, 1]))["counted"]
    assert not counted[1, 0]
    assert torch.equal(batch["frame_labels"] != 0, counted)


def test_groups_for_the_log_name_the_axis_and_the_sources(data, work):
    groups = data.groups(torch.tensor([0, 1, 0]), work.store.clips())
    assert groups["fidelity"].tolist() == [True] * 3
    (source,) = groups.keys() - {"fidelity"}
    assert source.count(" over ") == 1
