"""Can the metrics be trusted: the perfect video scores best, and each disturbance of a clip of the portrait
world, whose truth is known, worsens what it should, more the stronger it is, and leaves the rest alone.
"""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from disturbances import blur, frozen, hidden_hands, late, noise, swapped
from scipy.ndimage import gaussian_filter
from video_folders import OF_THE_WORLD

from hallo4.evaluation.look.tools import ToolSettings, load_tools
from hallo4.evaluation.look.video import look_at
from hallo4.evaluation.measures.frechet import frechet_distance
from hallo4.evaluation.metric import axis_scores, outcome, value_range
from hallo4.evaluation.suites.video_measures import VideoPair, expression_features
from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS, clip_values, own_values
from hallo4.media import VideoWriter
from hallo4.types import Audio
from hallo4.world import make_episode

SECONDS, SIZE_PX = 2.0, 128


def axis_outcomes(a, b, own):
    """Who wins a clip, by axis; None where it is not known."""
    won = {axis: outcome(scores) for axis, scores in axis_scores(VIDEO_METRICS, a, b, own).items()}
    return {axis: who for axis, who in won.items() if axis == "overall" or who is not None}


@pytest.fixture(scope="module")
def episode():
    return make_episode(7_000_005, SECONDS, SIZE_PX)


def mirrored_hands(episode, share):
    frames = episode.frames_u8.copy()
    for t in range(round(len(frames) * share)):
        for hand in (slice(91, 112), slice(112, 133)):
            points = episode.skeleton.points_px[t, hand]
            x0, y0 = (points.min(axis=0) - 5).astype(int).clip(0, SIZE_PX)
            x1, y1 = (points.max(axis=0) + 5).astype(int).clip(0, SIZE_PX)
            frames[t, y0:y1, x0:x1] = frames[t, y0:y1, x0:x1][:, ::-1]
    return frames


def fading(episode, strength):
    """Blurred more and more, up to `strength` at the end."""
    sigmas = np.linspace(0, strength, len(episode.frames_u8))
    return np.stack([gaussian_filter(f, (s, s, 0)) for f, s in zip(episode.frames_u8, sigmas, strict=True)])


DISTURBANCES = {
    noise: (4, 12, 30),
    blur: (0.5, 1.0, 2.0),
    frozen: (0.3, 0.6, 1.0),
    swapped: (0.3, 0.6, 1.0),
    mirrored_hands: (0.3, 0.6, 1.0),
    hidden_hands: (0.3, 0.6, 1.0),
    fading: (0.5, 1.0, 2.0),
}
WORSENS = {
    noise: (
        "psnr_db",
        "ssim",
        "sharpness_ratio",
        "temporal_flicker",
        "keypoint_distance",
        "background_dynamics",
    ),
    blur: (
        *("psnr_db", "ssim", "sharpness_ratio", "temporal_flicker"),
        *("keypoint_distance", "face_landmark_distance", "mouth_landmark_distance"),
    ),
    frozen: (
        *("psnr_db", "ssim", "temporal_flicker", "subject_dynamics", "background_dynamics"),
        *("mouth_correlation", "mouth_sound_correlation", "mouth_landmark_distance"),
        *("keypoint_distance", "hand_variance"),
    ),
    swapped: ("psnr_db", "ssim", "portrait_similarity", "face_landmark_distance", "keypoint_distance"),
    mirrored_hands: ("psnr_db", "ssim", "hand_keypoint_distance", "keypoint_distance"),
    hidden_hands: (
        *("hand_confidence", "hand_visible_rate", "hand_variance", "missed_keypoint_rate"),
        *("hand_keypoint_distance", "psnr_db", "ssim"),
    ),
    fading: ("sharpness_drift", "sharpness_ratio", "psnr_db", "ssim", "mouth_landmark_distance"),
}
WORSENED_ELSEWHERE = {
    # by late pictures and late sound, below
    *("mouth_lag_frames", "mouth_abs_lag_frames", "mouth_sound_lag_frames"),
    # by a person who turns into another, below
    *("identity_drift", "colour_drift"),
    # by files without a face, or with other lengths and late sound: test_evaluate_videos.py
    *("face_found_rate", "av_length_difference_s", "av_start_offset_s", "length_difference_s"),
}
ALWAYS_ALONE = ("face_found_rate", "av_length_difference_s", "av_start_offset_s", "length_difference_s")
LEAVES_ALONE = {
    noise: ("mouth_abs_lag_frames", "mouth_sound_lag_frames", "portrait_similarity"),
    blur: (
        "mouth_abs_lag_frames",
        "mouth_sound_lag_frames",
        "hand_variance",
        "portrait_similarity",
        "subject_dynamics",
    ),
    frozen: ("sharpness_ratio",),
    swapped: ("mouth_correlation", "mouth_abs_lag_frames", "mouth_sound_lag_frames", "hand_visible_rate"),
    mirrored_hands: (
        *("mouth_correlation", "mouth_abs_lag_frames", "mouth_sound_lag_frames", "mouth_landmark_distance"),
        *("portrait_similarity", "face_landmark_distance", "sharpness_ratio", "missed_keypoint_rate"),
    ),
    hidden_hands: (
        *("mouth_correlation", "mouth_abs_lag_frames", "mouth_sound_lag_frames", "mouth_landmark_distance"),
        *("portrait_similarity", "face_landmark_distance", "subject_dynamics"),
    ),
    fading: (
        *("mouth_correlation", "mouth_abs_lag_frames", "mouth_sound_lag_frames", "portrait_similarity"),
        *("hand_variance", "hand_visible_rate", "subject_dynamics"),
    ),
}
ALONE_WITHIN = {
    "hand_variance": 1.0,  # of about 20
    "subject_dynamics": 1.0,  # of about 11
    "portrait_similarity": 0.02,
    "mouth_correlation": 0.01,
    "mouth_landmark_distance": 0.01,
    "face_landmark_distance": 0.01,
    "sharpness_ratio": 0.1,
    "missed_keypoint_rate": 0.01,
    "hand_visible_rate": 0.03,
}
IMPROVES = {
    # What a metric is blind to or even rewards: no single number is enough, which is why there are many.
    noise: {"hand_confidence"},
    blur: {"hand_confidence"},
    frozen: {"hand_confidence"},
    swapped: {"hand_confidence"},
    mirrored_hands: {"hand_confidence"},
    hidden_hands: set(),
    fading: set(),
}


@pytest.fixture(scope="module")
def measured(episode, tmp_path_factory):
    """measured(disturbance, strength) -> (values, VideoPair), each looked at once."""
    folder, known = tmp_path_factory.mktemp("clips"), {}
    tools = load_tools(ToolSettings(), folder)

    def written(name, frames, audio):
        path = folder / f"{name}.mkv"
        with VideoWriter(path, SIZE_PX, SIZE_PX, audio=audio, provenance=OF_THE_WORLD) as writer:
            for frame in frames:
                writer.write(np.ascontiguousarray(frame))
        return path

    reference_file = written("reference", episode.frames_u8, episode.audio)
    reference, _ = look_at(reference_file, tools)

    def measure(disturbance=None, strength=0, audio=None):
        key = (disturbance, strength, None if audio is None else float(np.abs(audio.samples).argmax()))
        if key not in known:
            frames = episode.frames_u8 if disturbance is None else disturbance(episode, strength)
            video, beside = look_at(
                written(len(known), frames, audio or episode.audio), tools, reference_file
            )
            pair = VideoPair(video, reference, beside)
            known[key] = (clip_values(pair), pair)
        return known[key]

    measure.own = own_values(reference)
    return measure


def _score(name, measured, values):
    return VIDEO_METRICS[name].score(values[name], measured.own.get(name))


WITHOUT_WEIGHTS = [
    name for name in VIDEO_METRICS if name not in {"csim", "lpips"} and not name.startswith("sync_")
]


def test_a_perfect_video_has_the_values_of_perfection(measured):
    values, _ = measured()
    assert {name for name in VIDEO_METRICS if values[name] is None} == set(VIDEO_METRICS) - set(
        WITHOUT_WEIGHTS
    )
    for name in ("mouth_correlation", "ssim", "sharpness_ratio", "face_found_rate"):
        assert values[name] == pytest.approx(1), name
    for name in ("keypoint_distance", "missed_keypoint_rate", "mouth_landmark_distance", "mouth_lag_frames"):
        assert values[name] == pytest.approx(0, abs=1e-6), name
    assert values["psnr_db"] == 60
    for name, value in measured.own.items():
        if value is not None:
            assert values[name] == pytest.approx(value), name
    assert values["mouth_sound_correlation"] > 0.6
    assert abs(values["mouth_sound_lag_frames"]) <= 1


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: d.__name__)
def test_no_disturbed_video_scores_better_than_the_perfect_one(measured, disturbance):
    perfect, _ = measured()
    for strength in DISTURBANCES[disturbance]:
        values, _ = measured(disturbance, strength)
        for name in set(WITHOUT_WEIGHTS) - IMPROVES[disturbance]:
            score, best = _score(name, measured, values), _score(name, measured, perfect)
            assert not score > best + 1e-6, (name, strength, values[name], perfect[name])


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: d.__name__)
def test_no_disturbed_video_wins_a_vote_against_the_perfect_one(measured, disturbance):
    perfect, _ = measured()
    for strength in DISTURBANCES[disturbance]:
        values, _ = measured(disturbance, strength)
        for name in WITHOUT_WEIGHTS:
            ahead = _score(name, measured, values) - _score(name, measured, perfect)
            assert VIDEO_METRICS[name].axis is None or not ahead > VIDEO_METRICS[name].tie, (name, strength)
        outcomes = axis_outcomes(values, perfect, measured.own)
        assert outcomes["fidelity"] == outcomes["overall"] == 0, (strength, outcomes)


def test_every_metric_is_worsened_by_something_and_what_disturbances_improve_has_no_vote():
    worsened = {name for names in WORSENS.values() for name in names}
    assert worsened | WORSENED_ELSEWHERE == set(WITHOUT_WEIGHTS)
    assert not worsened & WORSENED_ELSEWHERE
    excused = {name for names in IMPROVES.values() for name in names}
    assert not {name for name in excused if VIDEO_METRICS[name].axis}


def test_a_frozen_face_is_most_like_itself_and_gains_nothing_by_it(measured):
    perfect, still = measured()[0], measured(frozen, 1.0)[0]
    assert still["portrait_similarity"] > 0.999 > measured.own["portrait_similarity"] + 0.01
    assert _score("portrait_similarity", measured, still) == pytest.approx(
        measured.own["portrait_similarity"]
    )
    assert axis_outcomes(still, perfect, measured.own)["identity"] == 0.5
    csim = VIDEO_METRICS["csim"]
    assert csim.score(0.9, 0.8) == csim.score(0.8, 0.8) == 0.8 > csim.score(0.7, 0.8)
    assert math.isnan(csim.score(0.9, None)), "without a face in the reference there is nothing to reach"


def test_a_picture_without_any_detail_loses_the_vote_of_sharpness():
    metric = VIDEO_METRICS["sharpness_ratio"]
    assert -math.inf < metric.score(0.0, None) < metric.score(0.01, None) < metric.score(1.0, None) == 0
    outcomes = axis_outcomes({"sharpness_ratio": 0.0}, {"sharpness_ratio": 0.4}, {})
    assert outcomes == {"overall": 0.0, "fidelity": 0.0}


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: d.__name__)
def test_what_should_worsen_does_so_with_every_step(measured, disturbance):
    steps = [measured()[0], *(measured(disturbance, strength)[0] for strength in DISTURBANCES[disturbance])]
    for name in WORSENS[disturbance]:
        scores = [_score(name, measured, values) for values in steps]
        assert all(later < earlier for earlier, later in pairwise(scores)), (
            name,
            scores,
        )


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: d.__name__)
def test_what_has_nothing_to_do_with_it_stays(measured, disturbance):
    perfect, _ = measured()
    for strength in DISTURBANCES[disturbance]:
        values, _ = measured(disturbance, strength)
        for name in (*LEAVES_ALONE[disturbance], *ALWAYS_ALONE):
            assert values[name] == pytest.approx(perfect[name], abs=ALONE_WITHIN.get(name, 1e-6)), (
                name,
                strength,
            )


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: d.__name__)
def test_no_value_leaves_the_range_of_its_metric(measured, disturbance):
    for strength in DISTURBANCES[disturbance]:
        for name, value in measured(disturbance, strength)[0].items():
            low, high = value_range(VIDEO_METRICS[name].unit, VIDEO_METRICS[name].better)
            assert value is None or low - 1e-9 <= value <= high + 1e-9, (name, strength, value)


@pytest.mark.parametrize("frames", [-6, 3, 8])
def test_a_late_picture_moves_both_lags_by_as_much(measured, frames):
    perfect, _ = measured()
    values, _ = measured(late, frames)
    assert values["mouth_lag_frames"] == frames
    assert values["mouth_sound_lag_frames"] - perfect["mouth_sound_lag_frames"] == frames
    assert values["mouth_correlation"] < 0.8
    for name in ("sharpness_ratio", "portrait_similarity", "hand_variance"):
        assert values[name] == pytest.approx(perfect[name], rel=0.01), name


@pytest.mark.parametrize("frames", [-7, 4])
def test_late_sound_moves_the_lag_to_the_sound_by_as_much_and_nothing_of_the_picture(
    episode, measured, frames
):
    samples = np.roll(episode.audio.samples, round(frames * episode.audio.sample_rate_hz / 25))
    perfect, _ = measured()
    values, _ = measured(audio=Audio(samples, episode.audio.sample_rate_hz))
    assert values["mouth_sound_lag_frames"] - perfect["mouth_sound_lag_frames"] == -frames
    of_sound = {"mouth_sound_lag_frames", "mouth_sound_correlation"}
    for name in set(WITHOUT_WEIGHTS) - of_sound:
        assert values[name] == pytest.approx(perfect[name], abs=1e-6), name


def test_a_person_who_turns_into_another_shows_as_drift(measured):
    halfway, _ = measured(swapped, 0.6)
    perfect, _ = measured()
    assert halfway["identity_drift"] < perfect["identity_drift"] - 0.02
    assert halfway["colour_drift"] > perfect["colour_drift"] + 2


def test_expression_features_forget_the_pose_and_keep_the_face(measured):
    """e_fid[landmarks]: nothing between equal videos, more for a frozen face than for a delayed one."""
    _, perfect = measured()
    true = expression_features(perfect.reference)
    assert true.shape[1] == 26
    assert frechet_distance(expression_features(perfect.video), true) == pytest.approx(0, abs=1e-6)
    delayed = frechet_distance(expression_features(measured(late, 8)[1].video), true)
    still = frechet_distance(expression_features(measured(frozen, 1.0)[1].video), true)
    other = frechet_distance(expression_features(measured(swapped, 1.0)[1].video), true)
    assert delayed < 0.05 * min(still, other), "the same expressions at other times are the same distribution"
    video = perfect.video
    skeleton = replace(video.skeleton, points_px=2 * video.skeleton.points_px + 30)
    assert expression_features(replace(video, skeleton=skeleton)) == pytest.approx(true, abs=1e-3)


def test_the_better_video_wins_every_axis_and_equals_tie(measured):
    perfect, worse = measured()[0], measured(blur, 2.0)[0]
    outcomes = axis_outcomes(perfect, worse, measured.own)
    assert outcomes["overall"] == 1
    assert outcomes["fidelity"] == outcomes["motion"] == 1
    assert axis_outcomes(worse, perfect, measured.own)["overall"] == 0
    assert set(axis_outcomes(perfect, perfect, measured.own).values()) == {0.5}
    assert axis_outcomes({}, perfect, measured.own)["overall"] is None
