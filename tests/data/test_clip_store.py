"""The store of rendered clips: what is in it, how it is indexed, and how building goes on."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hallo4.data import ClipStore, ClipStoreConfig, build_clips, clips
from hallo4.data.clips import CURVES, FIELDS
from hallo4.errors import InputError, OutputError
from hallo4.lock import sole_writer
from hallo4.models.audio_features import audio_windows
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.motion import draw_skeleton
from hallo4.types import Skeleton
from hallo4.world.episode import draw_clip
from hallo4.world.framing import HALF_FIGURE, square
from hallo4.world.performance import neutral_performance
from hallo4.world.truth import confidence_of, skeleton_of

CONFIG = ClipStoreConfig(
    episodes=3, windows=2, frames=5, seconds=0.6, size_px=64, first_seed=40, episodes_per_shard=2
)


@pytest.fixture(scope="module")
def template(build_quickly, tmp_path_factory):
    """A store of three episodes in two shards."""
    return build_quickly(tmp_path_factory.mktemp("template"), CONFIG)


@pytest.fixture
def built(template, tmp_path):
    """A copy of it, for a test to spoil."""
    return ClipStore(shutil.copytree(template, tmp_path / "clips"))


def changed(folder):
    """When each shard was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard_*")}


def test_fields_have_the_promised_shapes(built):
    shapes = {
        "frames_u8": ((5, 64, 64, 3), np.uint8), "skeleton_u8": ((5, 64, 64, 3), np.uint8),
        "portrait_u8": ((64, 64, 3), np.uint8),
        "portrait_points_px": ((133, 2), np.float32), "points_px": ((5, 133, 2), np.float32),
        "curves": ((5, 6), np.float32), "audio_windows": ((5, 5, 4, 40), np.float16),
    }  # fmt: skip
    assert set(shapes) == set(FIELDS)
    assert len(built) == 6
    for name, (shape, dtype) in shapes.items():
        assert built.get(name, 0).shape == shape
        assert built.get(name, 5).dtype == dtype


def test_every_clip_of_every_shard_is_what_the_world_renders(built, quick_world):
    for index in range(6):
        identity, speech, performance, truth = quick_world(40 + index // 2, 0.6)
        points = skeleton_of(identity, performance, square(64)).points_px
        start = int(np.abs(points[None, :11] - built.get("points_px", index)[0]).sum((0, 2, 3)).argmin())
        span = slice(start, start + 5)
        portrait, frames = draw_clip(identity, performance, span, square(64))
        heard = audio_windows(LogMelFrontEnd().features(speech.audio, 15))[span].numpy()
        clip = built.clip(index)
        np.testing.assert_array_equal(built.get("frames_u8", index), frames)
        np.testing.assert_array_equal(built.get("portrait_u8", index), portrait)
        np.testing.assert_array_equal(built.get("points_px", index), points[span])
        np.testing.assert_array_equal(built.get("audio_windows", index), heard.astype(np.float16))
        np.testing.assert_array_equal(built.get("skeleton_u8", index), draw_skeleton(clip.skeleton, 64, 64))
        np.testing.assert_array_equal(clip.frames_u8, frames)
        for name in CURVES:
            np.testing.assert_array_equal(getattr(clip.truth, name), getattr(truth, name)[span])


def test_people_take_turns_in_tempo_and_skeletons_may_be_twice_as_many(build_quickly, quick_world, tmp_path):
    """The pictures of a frame are those of the first of its two skeletons."""
    config = replace(CONFIG, tempos=(1.0, 3.0), skeleton_rho=2)
    made = ClipStore(build_quickly(tmp_path / "fast", config))
    for index in range(6):
        person = index // 2
        identity, _, performance, truth = quick_world(40 + person, 0.6, tempo=(1.0, 3.0)[person % 2], rho=2)
        points = skeleton_of(identity, performance, square(64), 50.0).points_px
        distance = np.abs(points[: 2 * 11 : 2] - made.get("points_px", index)[0]).sum((1, 2))
        start = int(distance.argmin())
        span = slice(2 * start, 2 * start + 10)
        _, frames = draw_clip(identity, performance, slice(span.start, span.stop, 2), square(64))
        np.testing.assert_array_equal(made.get("frames_u8", index), frames)
        np.testing.assert_array_equal(made.get("points_px", index), points[span][::2])
        drawn = Skeleton(points[span], confidence_of(10), 50.0, 64, 64)
        np.testing.assert_array_equal(made.get("skeleton_u8", index), draw_skeleton(drawn, 64, 64))
        np.testing.assert_array_equal(made.clip(index).truth.blink, truth.blink[start : start + 5])


@pytest.mark.parametrize("index", [6, 100, -1, -7])
def test_an_index_outside_is_refused(built, index):
    with pytest.raises(IndexError):
        built.get("curves", index)


def test_shards_of_unequal_length_are_one_row_of_clips(random_store, tmp_path):
    store = ClipStore(random_store(tmp_path, [3, 1, 4]))
    shards = [np.load(tmp_path / f"shard_{k:04d}" / "curves.npy") for k in range(3)]
    assert len(store) == 8
    np.testing.assert_array_equal([store.get("curves", i) for i in range(8)], np.concatenate(shards))


def test_building_goes_on_where_it_was_stopped(built, quick_world, tmp_path):
    folder, seen = tmp_path / "clips", []
    before = {name: np.array(built.get(name, 1)) for name in FIELDS}
    times = changed(folder)
    (folder / "shard_0000").rename(folder / ".shard_0000.123")  # a worker was killed before its last step
    store = build_clips(folder, CONFIG, workers=1, on_progress=lambda *done: seen.append(done))
    assert seen == [(2, 2)]
    assert len(store) == 6
    for name in FIELDS:
        np.testing.assert_array_equal(store.get(name, 1), before[name])
    assert changed(folder)["shard_0001"] == times["shard_0001"]


def test_no_other_process_builds_a_store_meanwhile(quick_world, tmp_path, monkeypatch):
    build, seen = clips._ShardBuilder.__call__, []

    def building(builder, shard):
        with pytest.raises(OutputError, match="is working on it"), sole_writer(builder.folder):
            pytest.fail("two at once")
        seen.append(shard)
        build(builder, shard)

    monkeypatch.setattr(clips._ShardBuilder, "__call__", building)
    build_clips(tmp_path / "clips", CONFIG, workers=1)
    assert seen == [0, 1]
    assert not list((tmp_path / "clips").glob(".*"))


def test_a_full_store_is_not_built_again(built, tmp_path, monkeypatch):
    monkeypatch.setattr("hallo4.data.clips._ShardBuilder", lambda *_: pytest.fail("rendered again"))
    assert len(build_clips(tmp_path / "clips", CONFIG, workers=1)) == 6


def test_a_store_of_an_older_version_is_refused_before_anything_is_rendered(built, tmp_path, monkeypatch):
    monkeypatch.setattr("hallo4.data.clips._ShardBuilder", lambda *_: pytest.fail("rendered"))
    (tmp_path / "clips" / "shard_0000" / "portrait_points_px.npy").unlink()
    wanted = r"portrait_points_px\.npy: no such file\. Delete the folder to make it again"
    with pytest.raises(InputError, match=wanted):
        build_clips(tmp_path / "clips", replace(CONFIG, episodes=5), workers=1)
    with pytest.raises(InputError, match=wanted):
        ClipStore(tmp_path / "clips")


def test_the_keypoints_of_the_portrait_are_those_of_the_person_at_rest(built, quick_world):
    identity, *_ = quick_world(40, 0.6)
    rest = skeleton_of(identity, neutral_performance(), square(64))
    for clip in (0, 1):
        np.testing.assert_array_equal(built.get("portrait_points_px", clip), rest.points_px[0])


def test_a_store_can_grow_and_its_last_shard_is_filled_up(built, quick_world, tmp_path):
    first, times = np.array(built.get("frames_u8", 4)), changed(tmp_path / "clips")
    store = build_clips(tmp_path / "clips", replace(CONFIG, episodes=5), workers=1)
    assert len(store) == 10
    np.testing.assert_array_equal(store.get("frames_u8", 4), first)
    assert changed(tmp_path / "clips")["shard_0000"] == times["shard_0000"]
    assert len(build_clips(tmp_path / "clips", CONFIG, workers=1)) == 10, "and never shrinks"


def test_a_store_that_names_no_world_is_of_the_first(built, tmp_path, monkeypatch):
    stamp = tmp_path / "clips" / "config.json"
    written = json.loads(stamp.read_text())
    assert written.pop("world") == "drawn-1"
    stamp.write_text(json.dumps(written))
    monkeypatch.setattr("hallo4.data.clips._ShardBuilder", lambda *_: pytest.fail("rendered again"))
    assert len(build_clips(tmp_path / "clips", CONFIG, workers=1)) == 6


def test_clips_of_the_lit_world_show_it(quick_world, tmp_path):
    flat, lit = (
        build_clips(tmp_path / world, replace(CONFIG, episodes=1, world=world), workers=1)
        for world in ("drawn-1", "lit-1")
    )
    np.testing.assert_array_equal(lit.get("curves", 0), flat.get("curves", 0))
    assert np.abs(lit.get("frames_u8", 0).astype(int) - flat.get("frames_u8", 0)).mean() > 5


FRAMED = replace(CONFIG, episodes=7, windows=1, half_figures=0.3)


def test_people_are_seen_in_framings_of_their_own(quick_world, tmp_path):
    """Clips have their person's size; those of one size follow each other, whatever the shards."""
    store = build_clips(tmp_path / "clips", FRAMED, workers=1)
    views = {seed: FRAMED.framing(seed).view(64) for seed in range(40, 47)}
    sizes = {seed: f"{view.height_px}x{view.width_px}" for seed, view in views.items()}
    assert len(set(sizes.values())) > 2
    assert {shape: len(clips) for shape, clips in store.shapes.items()} == Counter(sizes.values())
    assert [index for shape in sorted(store.shapes) for index in store.shapes[shape]] == list(range(7))
    for shape, indices in store.shapes.items():
        people = [seed for seed in sizes if sizes[seed] == shape]
        for index, seed in zip(indices, people, strict=True):
            identity, _, performance, _ = quick_world(seed, 0.6)
            start = int(np.random.default_rng([seed, 0xC11]).integers(0, 15 - 5 + 1, 1)[0])
            skeleton = skeleton_of(identity, performance, views[seed], 25.0)
            clip = store.clip(index)
            np.testing.assert_array_equal(clip.skeleton.points_px, skeleton.points_px[start : start + 5])
            _, frames = draw_clip(identity, performance, slice(start, start + 5), views[seed])
            np.testing.assert_array_equal(clip.frames_u8, frames)
            assert (clip.skeleton.height_px, clip.skeleton.width_px) == frames.shape[1:3]


def test_a_store_of_framings_grows_and_keeps_the_order_of_each_size(quick_world, tmp_path):
    first = build_clips(tmp_path / "clips", FRAMED, workers=1)
    held = {shape: [np.array(first.get("curves", i)) for i in clips] for shape, clips in first.shapes.items()}
    grown = build_clips(tmp_path / "clips", replace(FRAMED, episodes=12), workers=1)
    assert len(grown) == 12
    for shape, curves in held.items():
        again = [grown.get("curves", i) for i in grown.shapes[shape][: len(curves)]]
        np.testing.assert_array_equal(again, curves)


def test_framings_are_chosen_among_the_aspects_that_are_asked_for():
    wide = replace(FRAMED, half_figures=0.0, aspects=(4 / 3,))
    chosen = [wide.framing(seed) for seed in range(30)]
    assert {framing.aspect for framing in chosen} == {4 / 3}
    assert chosen == [wide.framing(seed) for seed in range(30)]
    shares = [framing.head_share for framing in chosen]
    assert min(shares) < 0.4
    assert max(shares) > 0.65
    upright = replace(wide, size_px=256, aspects=(9 / 16,))
    for multiple_px, height_px in ((16, 336), (32, 352)):
        view = replace(upright, multiple_px=multiple_px).framing(0).view(256)
        assert (view.width_px, view.height_px) == (192, height_px)
    figures = [FRAMED.framing(seed) == HALF_FIGURE for seed in range(1000)]
    assert 0.25 < np.mean(figures) < 0.35


def test_a_store_of_half_figures_says_what_it_always_said(built, tmp_path):
    said = json.loads((tmp_path / "clips" / "config.json").read_text())
    assert list(said) == ["episodes", "windows", "frames", "seconds", "size_px", "first_seed",
                          "episodes_per_shard", "tempos", "skeleton_rho", "world"]  # fmt: skip
    assert not [path for path in (tmp_path / "clips" / "shard_0000").iterdir() if path.is_dir()]


CHANGES = [{"size_px": 96}, {"first_seed": 41}, {"windows": 1}, {"seconds": 0.8}, {"world": "lit-1"}]
CHANGES.append({"half_figures": 0.5})


@pytest.mark.parametrize("change", CHANGES)
def test_another_configuration_is_refused(built, tmp_path, change):
    with pytest.raises(InputError, match="another configuration") as error:
        build_clips(tmp_path / "clips", replace(CONFIG, **change))
    assert str(tmp_path / "clips") in str(error.value)
    assert len(build_clips(tmp_path / "clips", CONFIG)) == 6, "the refusal changes nothing"


def test_clips_longer_than_their_episode_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"17 frames .* 0\.6 s"):
        build_clips(tmp_path / "clips", replace(CONFIG, frames=17))


def test_an_empty_folder_is_no_store(tmp_path):
    with pytest.raises(InputError, match="holds no clips"):
        ClipStore(tmp_path)


def test_worker_processes_render_the_real_world(tmp_path):
    pytest.importorskip("espeakng_loader")
    config = replace(CONFIG, episodes=2, episodes_per_shard=1, windows=1, frames=2)
    store = build_clips(tmp_path, config, workers=2)
    assert [store.get("frames_u8", i).std() > 20 for i in range(len(store))] == [True, True]
    assert (store.get("portrait_u8", 0) != store.get("portrait_u8", 1)).any()
