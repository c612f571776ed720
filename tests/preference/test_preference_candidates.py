"""Candidates: resumable, encoded alike whatever they came from, blind, and refused where they differ."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from preference_records import clip

from hallo4.engine import open_engine
from hallo4.errors import Cancelled, InputError
from hallo4.evaluation.look.instrument import Measurement
from hallo4.media import VideoWriter, load_audio, probe_video, read_frames, read_provenance, save_wav
from hallo4.models.observer import KEY_POINTS
from hallo4.preference import PreferenceStore, candidates, gold, watch
from hallo4.preference.candidates import (
    Source,
    Variant,
    add_clip_of_frames,
    make_candidates,
    register_video,
    source_of_variant,
)
from hallo4.preference.conditions import (
    PREFERENCE_SEEDS,
    add_condition_of_files,
    add_world_condition,
    world_episode,
)
from hallo4.preference.score import world_truth

FRAMES, SIZE = 10, 32
SOURCE = Source("a system", "a checkpoint", 3, {"steps": 2})


def shades(seed=0, frames=FRAMES, width=SIZE, height=SIZE):
    """[T, H, W, 3] uint8: a picture that darkens slowly."""
    down, across = np.mgrid[0:height, 0:width]
    picture = np.stack([4 * down, 4 * across, np.full_like(down, 40 * seed % 256)], axis=-1)
    return np.stack([(picture.clip(0, 250) * (1 - 0.02 * t)).astype(np.uint8) for t in range(frames)])


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    """The observer is tried elsewhere."""
    monkeypatch.setattr(candidates, "watch", lambda path: None)
    monkeypatch.setattr(candidates, "amplitude_px", lambda seen: 2.5)


@pytest.fixture
def empty(tmp_path):
    return PreferenceStore.create(tmp_path / "store")


@pytest.fixture
def asked(empty, tmp_path, hum):
    """A condition of files, 10 frames long."""
    Image.fromarray(shades()[0]).save(tmp_path / "face.png")
    save_wav(tmp_path / "speech.wav", hum(FRAMES / 25))
    return add_condition_of_files(empty, tmp_path / "face.png", tmp_path / "speech.wav")


def film(path, frames, fps=25.0):
    with VideoWriter(path, frames.shape[2], frames.shape[1], fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


# ---------------------------------------------------------------------- conditions


def test_a_condition_of_files_is_copied_in(empty, asked, tmp_path):
    assert empty.conditions() == {asked.condition_id: asked}
    assert asked.skeleton is None
    assert (np.asarray(Image.open(empty.media_path(asked.portrait))) == shades()[0]).all()
    assert load_audio(empty.media_path(asked.audio)).duration_s == pytest.approx(FRAMES / 25, abs=1e-3)
    assert world_episode(empty, asked) is None
    again = add_condition_of_files(empty, tmp_path / "face.png", tmp_path / "speech.wav")
    assert again == asked
    named = add_condition_of_files(PreferenceStore.create(tmp_path / "other"), tmp_path / "face.png",
                                   tmp_path / "speech.wav", identity_id="anna")  # fmt: skip
    assert (named.identity_id, named.audio_id) == ("anna", asked.audio_id)


def test_the_same_face_or_speech_has_the_same_id(empty, asked, tmp_path, hum):
    save_wav(tmp_path / "other.wav", hum(0.8))
    other = add_condition_of_files(empty, tmp_path / "face.png", tmp_path / "other.wav")
    assert other.condition_id != asked.condition_id
    assert other.identity_id == asked.identity_id
    assert other.audio_id != asked.audio_id


def test_an_episode_of_the_world_becomes_a_condition(empty):
    made = add_world_condition(empty, 5, seconds=0.4, size_px=64)
    assert add_world_condition(empty, 5, seconds=0.4, size_px=64) == made
    seed = PREFERENCE_SEEDS[5]
    assert (made.identity_id, made.audio_id) == (f"world-person-{seed}", f"world-speech-{seed}")
    episode = world_episode(empty, made)
    assert (episode.seed, len(episode.frames_u8)) == (seed, 10)
    portrait = np.asarray(Image.open(empty.media_path(made.portrait)))
    assert (portrait == episode.portrait_u8).all()
    assert empty.media_path(made.skeleton).is_file()
    longer = add_world_condition(empty, 5, seconds=0.6, size_px=64)
    assert longer.condition_id != made.condition_id
    assert longer.identity_id == made.identity_id
    with pytest.raises(InputError, match="episode is -1"):
        add_world_condition(empty, -1)
    (made_truth,) = make_candidates(empty, [made], [Variant("truth")])
    shown = np.stack(list(read_frames(empty.media_path(made_truth.path))))
    assert np.abs(shown.astype(int) - episode.frames_u8).mean() < 4


def test_a_condition_of_the_lit_world_is_the_same_person_in_it(empty):
    flat, lit = (add_world_condition(empty, 5, 0.4, 64, world) for world in ("drawn-1", "lit-1"))
    assert flat.condition_id + "-lit-1" == lit.condition_id
    assert (flat.identity_id, flat.audio_id) == (lit.identity_id, lit.audio_id)
    notes = [empty.media_path(each.portrait).parent / "episode.json" for each in (flat, lit)]
    assert [json.loads(note.read_text()).get("world") for note in notes] == [None, "lit-1"]
    episode = world_episode(empty, lit)
    assert episode.identity.world == "lit-1"
    (truth,) = make_candidates(empty, [lit], [Variant("truth")])
    shown = np.stack(list(read_frames(empty.media_path(truth.path))))
    assert np.abs(shown.astype(int) - episode.frames_u8).mean() < 4
    judged = world_truth(empty, lit).episode
    assert (judged.frames_u8 == episode.frames_u8).all(), "it is judged by the truth of its world"


def test_candidates_are_people_that_nothing_else_sees():
    from hallo4.evaluation.suites.world import EVALUATION_SEEDS, INSTRUMENT_SEEDS, TRAINING_SEEDS

    for others in (TRAINING_SEEDS, INSTRUMENT_SEEDS):
        assert max(PREFERENCE_SEEDS.start, others.start) >= min(PREFERENCE_SEEDS.stop, others.stop)
    assert PREFERENCE_SEEDS.stop <= EVALUATION_SEEDS


# ---------------------------------------------------------------------- clips of frames


def test_a_clip_says_what_it_is_and_its_file_does_not(empty, asked):
    made = add_clip_of_frames(empty, asked, [shades()[:4], shades()[4:]], SOURCE)
    assert empty.clips() == {made.clip_id: made}
    path = empty.media_path(made.path)
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made.shape == (FRAMES, 25.0, SIZE, SIZE)
    assert (made.source_system, made.seed, made.settings) == ("a system", 3, {"steps": 2})
    assert made.motion_amplitude == 2.5
    info = probe_video(path)
    assert (info.frames, info.fps, info.codec, info.has_audio) == (FRAMES, 25.0, "h264", True)
    content = path.read_bytes()
    assert b"a system" not in content
    assert b"a checkpoint" not in content
    assert b"checkpoint" not in made.path.encode()
    assert read_provenance(path)["ai_generated"] == "true"


def test_the_id_depends_on_everything_that_decides_the_clip():
    ids = {
        source.clip_id(condition)
        for condition in ("c0", "c1")
        for source in (
            SOURCE, replace(SOURCE, seed=4), replace(SOURCE, system="b"), replace(SOURCE, checkpoint="b"),
            replace(SOURCE, settings={"steps": 3}),
        )
    }  # fmt: skip
    assert len(ids) == 10
    assert SOURCE.clip_id("c0") == replace(SOURCE, consent="other").clip_id("c0")


@pytest.mark.parametrize("frames", [FRAMES - 1, FRAMES + 1, 0])
def test_another_length_is_refused_and_leaves_nothing(empty, asked, frames):
    with pytest.raises(InputError, match="frames"):
        add_clip_of_frames(empty, asked, [shades(frames=frames)] if frames else [], SOURCE)
    assert list((empty.folder / "clips").iterdir()) == []
    assert empty.clips() == {}


def test_the_first_clip_sets_the_size_for_all(empty, asked):
    add_clip_of_frames(empty, asked, [shades()], SOURCE)
    larger = add_clip_of_frames(empty, asked, [shades(width=64, height=64)], replace(SOURCE, seed=4))
    assert (larger.width_px, larger.height_px) == (SIZE, SIZE)
    with pytest.raises(InputError, match=r"is 48x32 pixels; the other clips of .* are 32x32"):
        add_clip_of_frames(empty, asked, [shades(width=48)], replace(SOURCE, seed=5))


def test_odd_sides_are_made_even(empty, asked):
    made = add_clip_of_frames(empty, asked, [shades(width=33, height=31)], SOURCE)
    assert (made.width_px, made.height_px) == (34, 32)
    assert probe_video(empty.media_path(made.path)).width_px == 34


# ---------------------------------------------------------------------- many, and on


@pytest.fixture
def fake_models(monkeypatch):
    """Two models that paint one shade per seed; what was made is in `made`."""
    made = []

    def load(checkpoint):
        def take(store, condition, variant):
            made.append((checkpoint, condition.condition_id, variant.seed))
            yield shades(variant.seed)

        return take

    monkeypatch.setattr(candidates, "weights_digest", lambda name: f"weights of {name}")
    monkeypatch.setattr(
        candidates,
        "source_of_variant",
        lambda v, digest: Source("own", v.checkpoint, v.seed, {"weights": digest}),
    )
    return made, load


def test_what_is_there_is_not_made_again(empty, asked, fake_models):
    made, load = fake_models
    variants = [Variant("one", 0), Variant("two", 0), Variant("one", 1)]
    seen = []
    first = make_candidates(empty, [asked], variants[:1], load=load)
    every = make_candidates(empty, [asked], variants, lambda *step: seen.append(step[:2]), load)
    assert [m[0::2] for m in made] == [("one", 0), ("one", 1), ("two", 0)]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert every[0] == first[0]
    assert {c.clip_id for c in every} == set(empty.clips())
    make_candidates(empty, [asked], variants, load=load)
    assert len(made) == 3


def test_other_weights_under_the_same_name_are_other_clips(empty, asked, fake_models, monkeypatch):
    made, load = fake_models
    make_candidates(empty, [asked], [Variant("one")], load=load)
    monkeypatch.setattr(candidates, "weights_digest", lambda name: "other weights")
    make_candidates(empty, [asked], [Variant("one")], load=load)
    assert len(empty.clips()) == len(made) == 2


def test_a_stop_keeps_what_is_finished(empty, asked, fake_models):
    _, load = fake_models

    def stopped_at_two(checkpoint):
        take = load(checkpoint)

        def until(store, condition, variant):
            if variant.seed == 2:
                raise KeyboardInterrupt
            return take(store, condition, variant)

        return until

    variants = [Variant("one", seed) for seed in range(4)]
    with pytest.raises(Cancelled, match="stopped after 2 of 4 clips, which are kept"):
        make_candidates(empty, [asked], variants, load=stopped_at_two)
    assert [c.seed for c in empty.clips().values()] == [0, 1]
    assert len(make_candidates(empty, [asked], variants, load=load)) == 4


def test_a_real_model_makes_real_clips(empty, asked, tiny_model_folder):
    variants = [Variant(str(tiny_model_folder), seed, steps=1) for seed in range(2)]
    one, two = make_candidates(empty, [asked], variants)
    assert one.settings["steps"] == 1
    assert one.settings["guidance_scale"] == 2.0  # the model's own
    assert one.settings["weights"] == two.settings["weights"]
    assert one.sha256 != two.sha256
    assert one.shape == two.shape


def test_settings_are_spelt_out(tiny_model_folder):
    plain = source_of_variant(Variant(str(tiny_model_folder)), "d")
    same = source_of_variant(Variant(str(tiny_model_folder), steps=2, guidance_scale=2.0), "d")
    assert plain == same
    assert plain.settings == {"steps": 2, "guidance_scale": 2.0, "weights": "d"}


# ---------------------------------------------------------------------- videos of others


def test_a_video_of_another_system_is_encoded_alike(empty, asked, tmp_path):
    own = add_clip_of_frames(empty, asked, [shades()], SOURCE)
    other = film(tmp_path / "other.mkv", shades(1, frames=8, width=64, height=64), fps=20.0)
    made = register_video(empty, asked, other, "sad-talker")
    assert made.shape == own.shape
    assert (made.source_system, made.checkpoint) == ("sad-talker", "sad-talker")
    facts = [probe_video(empty.media_path(c.path)) for c in (own, made)]
    assert facts[0] == facts[1], "same codec, size, rate, length, sound"
    assert register_video(empty, asked, other, "sad-talker") == made


def test_a_longer_video_is_cut_and_a_shorter_one_refused(empty, asked, tmp_path):
    long = film(tmp_path / "long.mp4", shades(2, frames=14))
    assert register_video(empty, asked, long, "x").frames == FRAMES
    short = film(tmp_path / "short.mp4", shades(2, frames=7))
    with pytest.raises(InputError, match=r"short\.mp4: has 7 frames at 25 fps; the sound of .* lasts 10"):
        register_video(empty, asked, short, "x")
    with pytest.raises(InputError, match="no such file"):
        register_video(empty, asked, tmp_path / "none.mp4", "x")


# ---------------------------------------------------------------------- gold and motion


def test_gold_questions_are_a_clip_and_a_spoilt_copy(empty, asked):
    base = add_clip_of_frames(empty, asked, [shades()], SOURCE)
    add_clip_of_frames(empty, asked, [shades(1)], replace(SOURCE, seed=4))
    made = gold.make_gold(empty, 2)
    assert {answer.axis for answer in made} == {"alignment", "fidelity"}
    assert all(answer.answer == "a" for answer in made)
    clips = empty.clips()
    for answer in made:
        assert clips[answer.clip_b].source_system == gold.GOLD_SYSTEM
        assert clips[answer.clip_b].shape == base.shape
        assert clips[answer.clip_a].source_system != gold.GOLD_SYSTEM
    assert gold.make_gold(empty, 2) == made == empty.gold()
    assert len(empty.clips()) == 4
    assert len(gold.make_gold(empty, 9)) == 2, "no more than there are clips"


def test_what_spoils_a_clip():
    frames = shades()
    late = gold.out_of_step(frames)
    assert (late[FRAMES // 2 :] == frames[: FRAMES // 2]).all()
    assert sorted(f.sum() for f in late) == sorted(f.sum() for f in frames)
    spoilt = gold.coarse(frames)
    assert spoilt.shape == frames.shape
    assert len(np.unique(spoilt[0].reshape(-1, 3), axis=0)) <= 25
    assert np.ptp(spoilt.astype(int), axis=-1).mean() < np.ptp(frames.astype(int), axis=-1).mean()


def seen_joints(points, seen):
    frames, zero = len(points), np.zeros(len(points), np.float32)
    assert points.shape == (frames, len(KEY_POINTS), 2)
    return Measurement(points, seen, zero, zero, zero, zero)


def test_motion_amplitude_is_how_far_joints_stray():
    t = np.arange(64) / 64 * 2 * np.pi
    points = np.zeros((64, len(KEY_POINTS), 2), np.float32)
    points[..., 0] = 50 + 3.0 * np.sin(t)[:, None]
    points[..., 1] = 20 + 4.0 * np.cos(t)[:, None]
    seen = np.ones(points.shape[:2], bool)
    expected = np.sqrt((9 + 16) / 2)
    assert watch.amplitude_px(seen_joints(points, seen)) == pytest.approx(expected, abs=1e-3)
    assert watch.amplitude_px(seen_joints(2 * points, seen)) == pytest.approx(2 * expected, abs=1e-3)
    assert watch.amplitude_px(seen_joints(points + 7, seen)) == pytest.approx(expected, abs=1e-3)
    seen[8:] = False
    assert watch.amplitude_px(seen_joints(points, seen)) < expected  # eight frames are an eighth of a turn
    seen[7:] = False
    assert watch.amplitude_px(seen_joints(points, seen)) is None


def test_a_clip_is_watched_in_pieces(tmp_path, monkeypatch):
    pieces = []

    def measure(by, frames_u8):
        pieces.append(len(frames_u8))
        zero = np.zeros(len(frames_u8), np.float32)
        points = np.zeros((len(frames_u8), len(KEY_POINTS), 2), np.float32)
        return Measurement(points, points[..., 0] > 0, zero, zero, zero, zero)

    monkeypatch.setattr(watch, "measure", measure)
    path = film(tmp_path / "v.mp4", shades(frames=70))
    assert len(watch.watch(path, by=object())) == 70
    assert pieces == [64, 6]


def test_records_of_tests_are_like_real_ones():
    assert clip().shape == (80, 25.0, 128, 128)


def test_several_processes_make_the_same_clips(empty, asked, tiny_model_folder, tmp_path, hum):
    variants = [Variant(str(tiny_model_folder), seed, steps=1) for seed in range(3)]
    alone = make_candidates(empty, [asked], variants)
    other = PreferenceStore.create(tmp_path / "other")
    again = add_condition_of_files(other, tmp_path / "face.png", tmp_path / "speech.wav")
    seen = []
    with open_engine(2) as engine:
        shared = make_candidates(other, [again], variants, lambda *step: seen.append(step[:2]), engine=engine)
    assert [c.sha256 for c in shared] == [c.sha256 for c in alone]
    assert len(make_candidates(other, [again], variants)) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_take_that_fails_costs_no_other(empty, asked):
    """Of three takes, the second one ends too soon."""

    def load(checkpoint):
        return lambda store, condition, variant: [shades(frames=10 - (variant.seed == 1))]

    variants = [Variant("truth", seed) for seed in range(3)]
    with pytest.raises(InputError, match=r"1 of 3 clips failed, the others are kept in .*has 9 frames"):
        make_candidates(empty, [asked], variants, load=load)
    assert [clip.seed for clip in empty.clips().values()] == [0, 2]
