"""The cache of latents: what the autoencoder says, once, and never of other weights or other clips."""

import copy
import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from hallo4.data import ClipStore, ClipStoreConfig, build_cache, build_clips, latents
from hallo4.data.latents import REGIONS, draft_of_clip, region_cells
from hallo4.errors import InputError, OutputError
from hallo4.lock import sole_writer
from hallo4.media.pixels import frames_to_pm1
from hallo4.motion import PortraitDraft, layout

FRAMED = ClipStoreConfig(
    episodes=5,
    windows=1,
    frames=5,
    seconds=0.4,
    size_px=64,
    first_seed=40,
    episodes_per_shard=3,
    half_figures=0,
)


@pytest.fixture
def autoencoder(tiny_parts):
    """A copy, so that a test may change its weights."""
    return copy.deepcopy(tiny_parts[1]).eval()


@pytest.fixture
def store(random_store, tmp_path):
    """53 clips in two shards: two chunks of the cache."""
    return ClipStore(random_store(tmp_path / "clips", [30, 23]))


@torch.no_grad()
def test_it_holds_what_the_autoencoder_says(store, autoencoder, tmp_path):
    cache = build_cache(store, autoencoder, tmp_path / "latents")
    assert len(cache) == len(store) == 53
    batch = cache.batch(torch.tensor([52, 0, 31]))
    for row, index in enumerate((52, 0, 31)):
        video = frames_to_pm1(store.get("frames_u8", index)).movedim(0, 1)[None]  # [1, 3, T, H, W]
        singles = frames_to_pm1(store.get("skeleton_u8", index))[:, :, None]  # [T, 3, 1, H, W]
        portrait = frames_to_pm1(store.get("portrait_u8", index))[None, :, None]
        expected = {
            "video": autoencoder.encode_video(video)[0],
            "reference": autoencoder.encode_video(portrait)[0],
            "skeleton": autoencoder.encode_video(singles)[:, :, 0].movedim(0, 1),
            "audio_windows": torch.from_numpy(np.array(store.get("audio_windows", index))).float(),
        }
        for name, value in expected.items():
            torch.testing.assert_close(batch[name][row], value, rtol=3e-2, atol=3e-2, msg=name)
        assert torch.equal(batch["regions"][row], region_cells(store.get("points_px", index), 16, 16, 8))
    grey = autoencoder.encode_video(torch.zeros(1, 3, 5, 16, 16))
    torch.testing.assert_close(batch["grey"], grey, rtol=2e-3, atol=2e-3)


def test_a_batch_is_float32_and_of_the_promised_shapes(store, autoencoder, tmp_path):
    batch = build_cache(store, autoencoder, tmp_path / "latents").batch(torch.arange(7))
    shapes = {
        "video": (7, 4, 2, 2, 2), "reference": (7, 4, 1, 2, 2), "skeleton": (7, 4, 5, 2, 2),
        "audio_windows": (7, 5, 5, 4, 40), "regions": (7, 3, 2, 2, 2), "grey": (1, 4, 2, 2, 2),
    }  # fmt: skip
    assert {name: tuple(t.shape) for name, t in batch.items()} == shapes
    assert {t.dtype for name, t in batch.items() if name != "regions"} == {torch.float32}
    assert batch["regions"].dtype == torch.bool


def test_encoding_goes_on_where_it_was_stopped(store, autoencoder, tmp_path, monkeypatch):
    folder, seen = tmp_path / "latents", []
    whole = build_cache(store, autoencoder, folder)
    (folder / "clips_000050.safetensors").write_bytes(b"torn")
    encode, alone = latents._encode_clip, 0

    def encoding(store, autoencoder, index, *more):
        nonlocal alone
        with suppress(OutputError), sole_writer(folder):
            alone -= 1  # two at once
        alone += 1
        seen.append(index)
        return encode(store, autoencoder, index, *more)

    monkeypatch.setattr(latents, "_encode_clip", encoding)
    resumed = build_cache(store, autoencoder, folder)
    assert seen == [50, 51, 52]
    assert alone == 3
    (before,), (after,) = whole.sizes, resumed.sizes
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_clips_that_came_later_are_encoded_too(random_store, autoencoder, tmp_path):
    random_store(tmp_path / "clips", [30])
    build_cache(ClipStore(tmp_path / "clips"), autoencoder, tmp_path / "latents")
    random_store(tmp_path / "more", [30, 25])
    grown = ClipStore(tmp_path / "more")
    assert len(build_cache(grown, autoencoder, tmp_path / "latents")) == 55


def test_codes_of_clips_that_named_no_world_are_those_of_the_first_world(random_store, autoencoder, tmp_path):
    random_store(tmp_path / "clips", [3])
    said, stamp = tmp_path / "clips" / "config.json", tmp_path / "latents" / "cache.json"
    said.write_text('{"episodes": 3}')
    build_cache(ClipStore(tmp_path / "clips"), autoencoder, tmp_path / "latents")
    older = json.loads(stamp.read_text())
    older["clips"].pop("world", None)
    stamp.write_text(json.dumps(older))
    said.write_text('{"episodes": 4, "world": "drawn-1"}')
    build_cache(ClipStore(tmp_path / "clips"), autoencoder, tmp_path / "latents")
    said.write_text('{"episodes": 4, "world": "lit-1"}')
    with pytest.raises(InputError, match="other clips"):
        build_cache(ClipStore(tmp_path / "clips"), autoencoder, tmp_path / "latents")


def test_progress_is_told_in_clips(store, autoencoder, tmp_path):
    seen = []
    build_cache(store, autoencoder, tmp_path / "latents", on_progress=lambda *done: seen.append(done))
    assert seen == [(50, 53), (53, 53)]


def test_of_more_skeletons_a_frame_the_first_ones_can_be_kept(store, autoencoder, tmp_path):
    """A store with two a frame serves models of either rate; one with one does not serve both."""
    once = build_cache(store, autoencoder, tmp_path / "once").sizes[0]["skeleton"]
    skeletons = [np.array(store.get("skeleton_u8", index)) for index in range(53)]
    for shard, part in ((0, skeletons[:30]), (1, skeletons[30:])):
        twice = np.repeat(np.stack(part), 2, axis=1)
        twice[:, 1::2] = 255 - twice[:, 1::2]
        np.save(tmp_path / "clips" / f"shard_{shard:04d}" / "skeleton_u8.npy", twice)
    (tmp_path / "clips" / "config.json").write_text('{"skeleton_rho": 2}')
    double = ClipStore(tmp_path / "clips")
    both = build_cache(double, autoencoder, tmp_path / "both", skeleton_rho=2).sizes[0]["skeleton"]
    assert both.shape[2] == 10
    torch.testing.assert_close(both[:, :, ::2], once)
    torch.testing.assert_close(
        build_cache(double, autoencoder, tmp_path / "first").sizes[0]["skeleton"], once
    )
    with pytest.raises(InputError, match=r"2 skeletons a frame, and 3 are asked for.*clips\.skeleton_rho=3"):
        build_cache(double, autoencoder, tmp_path / "three", skeleton_rho=3)


def test_other_weights_are_refused(store, autoencoder, tmp_path):
    build_cache(store, autoencoder, tmp_path / "latents")
    with torch.no_grad():
        autoencoder.linear_encoder.bias += 0.01
    with pytest.raises(InputError, match="other autoencoder weights"):
        build_cache(store, autoencoder, tmp_path / "latents")


def slow_region_cells(points_px, size_px):
    """A cell is marked when any of its pixels lies in a box around the points, two pixels wider."""
    frames = [0, *np.repeat(np.arange(1, (len(points_px) - 1) // 4 + 1), 4)]  # latent frame of each frame
    marks = np.zeros((3, frames[-1] + 1, size_px // 8, size_px // 8), bool)
    parts = {
        "mouth": [layout.MOUTH],
        "eyes": [layout.LEFT_EYE_LIDS, layout.RIGHT_EYE_LIDS],
        "hands": [layout.LEFT_HAND, layout.RIGHT_HAND],
    }
    for region, name in enumerate(REGIONS):
        for part in parts[name]:
            for f in range(frames[-1] + 1):
                seen = np.concatenate([p[part] for p, of in zip(points_px, frames) if of == f])
                (x0, y0), (x1, y1) = np.floor(seen.min(0) - 2), np.floor(seen.max(0) + 2)
                for y in range(size_px):
                    for x in range(size_px):
                        if x0 <= x <= x1 and y0 <= y <= y1:
                            marks[region, f, y // 8, x // 8] = True
    return marks


def test_regions_are_those_of_a_slow_loop():
    size, rng = 40, np.random.default_rng(1)
    for _ in range(6):
        points = rng.uniform(-12, size + 12, (133, 2))  # hands and all may leave the picture
        for part in (layout.MOUTH, layout.LEFT_EYE_LIDS, layout.RIGHT_EYE_LIDS, layout.LEFT_HAND,
                     layout.RIGHT_HAND):  # fmt: skip
            points[part] = points[part][:1] + rng.uniform(-5, 5, points[part].shape)
        moving = points + np.cumsum(rng.normal(0, 1.5, (9, 1, 2)), 0)
        found = region_cells(moving.astype(np.float32), size, size, 8).numpy()
        assert found.shape == (3, 3, 5, 5)
        np.testing.assert_array_equal(found, slow_region_cells(moving.astype(np.float32), size))


def test_parts_outside_the_picture_mark_nothing():
    points = np.full((5, 133, 2), -50.0, np.float32)
    assert not region_cells(points, 64, 64, 8).any()
    points[:, layout.MOUTH] = 20.0
    mouth = region_cells(points, 64, 64, 8)[0]
    assert mouth.sum() == 2 * 1  # pixels 18 to 22: one cell, in both latent frames
    assert region_cells(points, 64, 64, 16)[0].nonzero().tolist() == [[0, 1, 1], [1, 1, 1]]


def test_clips_of_several_sizes_are_encoded_size_by_size(quick_world, autoencoder, tmp_path):
    """Batches have one size; what a clip's codes are does not depend on the others, nor on growth."""
    store = build_clips(tmp_path / "clips", FRAMED, workers=1)
    cache = build_cache(store, autoencoder, tmp_path / "latents")
    assert len(cache) == len(store)
    assert [len(rows) for rows in cache.groups.values()] == [len(clips) for clips in store.shapes.values()]
    for clips, (shape, rows) in zip(store.shapes.values(), cache.groups.items(), strict=True):
        assert rows.tolist() == list(clips)
        batch = cache.batch(rows[-1:])
        frames = frames_to_pm1(store.get("frames_u8", clips[-1])).movedim(0, 1)[None]
        assert "x".join(map(str, batch["video"].shape[2:])) == shape
        assert batch["grey"].shape == batch["video"].shape
        with torch.no_grad():
            expected = autoencoder.encode_video(frames)
        torch.testing.assert_close(batch["video"], expected, rtol=3e-2, atol=3e-2)
    with pytest.raises(InputError, match="several sizes"):
        cache.batch(torch.arange(len(cache)))
    grown = build_clips(tmp_path / "clips", replace(FRAMED, episodes=8), workers=1)
    further = build_cache(grown, autoencoder, tmp_path / "latents")
    anew = build_cache(grown, autoencoder, tmp_path / "anew")
    for kept, made in zip(further.sizes, anew.sizes, strict=True):
        assert all(torch.equal(kept[name], made[name]) for name in made)


def test_drafts_are_encoded_where_they_are_asked_for(quick_world, autoencoder, tmp_path, monkeypatch):
    store = build_clips(tmp_path / "clips", FRAMED, workers=1)
    inexact = [draft_of_clip(store, index) for index in range(len(store))]
    cache = build_cache(store, autoencoder, tmp_path / "latents", drafts=True)
    for clips in store.shapes.values():
        batch = cache.batch(torch.tensor([clips[0]]))
        draft_pm1 = frames_to_pm1(inexact[clips[0]]).movedim(0, 1)[None]
        with torch.no_grad():
            expected = autoencoder.encode_video(draft_pm1)
        torch.testing.assert_close(batch["draft"], expected, rtol=3e-2, atol=3e-2)
    with pytest.raises(InputError, match="other autoencoder weights or other clips"):
        build_cache(store, autoencoder, tmp_path / "latents")
    grown = build_clips(tmp_path / "clips", replace(FRAMED, episodes=8), workers=1)
    later = [draft_of_clip(grown, index) for index in range(len(grown))]
    for draft in inexact:  # of the same clip the same, whatever its number now is
        assert any(draft.shape == other.shape and (draft == other).all() for other in later)
    monkeypatch.setattr(latents, "STILL_DRAFTS", 0)
    monkeypatch.setattr(latents, "REST_ERROR", 0)
    for index in range(len(store)):
        clip = store.clip(index)
        portrait_u8, points_px = store.get("portrait_u8", index), store.get("portrait_points_px", index)
        rest = replace(clip.skeleton, points_px=points_px[None], confidence=np.ones((1, 133)))
        exact = PortraitDraft(portrait_u8, rest).frames_u8(clip.skeleton)
        np.testing.assert_array_equal(draft_of_clip(store, index), exact)
        assert (exact != inexact[index]).any()
    monkeypatch.setattr(latents, "STILL_DRAFTS", 1)
    still = draft_of_clip(store, 0)
    assert (still == store.get("portrait_u8", 0)).all()
    assert still.shape == store.get("frames_u8", 0).shape
