"""The metrics of a video beside its reference, each a small object: what it is, its unit, where good values
lie, who defined it and how it is taken here; and who of two systems wins a clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hallo4.evaluation import dynamics, keypoints, metrics
from hallo4.evaluation import video_measures as measures
from hallo4.evaluation.video_look import Look
from hallo4.evaluation.video_measures import VideoMetric, VideoPair

_LIPS = "mouth opening seen by the observer (0..1), or from the inner lips of other keypoints"
_PORTRAIT = (
    "the portrait is NAME.portrait.png beside the video or its reference, else the reference's first face"
)
_SYNCNET = "Chung & Zisserman 2016; Prajwal et al. 2020"
_SYNCNET_HOW = (
    "syncnet_v2.model on crops from landmarks (the original detects with S3FD), 25 fps, 16 kHz, shifts of "
    "15, zeros beyond the ends of the sound"
)
_POINTS_HOW = "points with confidence 0.3 or more, over the frames both videos have"

VIDEO_METRICS: dict[str, VideoMetric] = {
    "mouth_correlation": VideoMetric(
        "correlation of the mouth's opening with the reference's, without shifting",
        "-1..1",
        "higher",
        "this package",
        _LIPS,
        measures.of_mouths(metrics.following),
        "sync",
        tie=0.01,
    ),
    "mouth_lag_frames": VideoMetric(
        "shift with the largest such correlation; positive: later than the reference",
        "frames of 40 ms",
        "near 0",
        "this package",
        f"shifts of up to {measures.MAX_LAG_FRAMES} frames and a third of the clip; {_LIPS}",
        measures.of_mouths(measures.lag),
    ),
    "mouth_abs_lag_frames": VideoMetric(
        "size of that shift, so that early and late clips do not cancel",
        "frames of 40 ms",
        "lower",
        "this package",
        "as mouth_lag_frames",
        measures.of_mouths(measures.abs_lag),
        "sync",
    ),
    "mouth_sound_correlation": VideoMetric(
        "correlation of the mouth's opening with the loudness of the video's own sound",
        "-1..1",
        "near the reference",
        "this package",
        "loudness of every frame in dB, cut 40 dB below the loudest; needs no weights, knows no phonemes",
        measures.of_mouth_and_sound(metrics.following),
        None,
        alone=True,
    ),
    "mouth_sound_lag_frames": VideoMetric(
        "shift with the largest such correlation; positive: the mouth is later than the sound",
        "frames of 40 ms",
        "near the reference",
        "this package",
        f"shifts of up to {measures.MAX_LAG_FRAMES} frames and a third of the clip",
        measures.of_mouth_and_sound(measures.lag),
        None,
        alone=True,
    ),
    "sync_c": VideoMetric(
        "Sync-C: median of SyncNet's distances over 31 shifts less the smallest",
        "SyncNet distance",
        "higher",
        _SYNCNET,
        _SYNCNET_HOW,
        measures.of_sync("confidence"),
        "sync",
        alone=True,
    ),
    "sync_d": VideoMetric(
        "Sync-D: smallest mean distance over 31 shifts",
        "SyncNet distance",
        "lower",
        _SYNCNET,
        _SYNCNET_HOW,
        measures.of_sync("distance"),
        "sync",
        alone=True,
    ),
    "sync_offset_frames": VideoMetric(
        "shift of the smallest distance; sound k frames late gives -k",
        "frames of 40 ms",
        "near 0",
        _SYNCNET,
        _SYNCNET_HOW,
        measures.of_sync("offset_frames"),
        None,
        alone=True,
    ),
    "sync_c_at_zero": VideoMetric(
        "median of the distances less that without any shift: sees a clip that is late as a whole",
        "SyncNet distance",
        "higher",
        "this package, from the same curve",
        _SYNCNET_HOW,
        measures.of_sync("confidence_at_zero"),
        None,
        alone=True,
    ),
    "csim": VideoMetric(
        "CSIM: mean cosine of ArcFace's vectors of all faces with that of the portrait",
        "-1..1",
        "higher, to the reference",
        "Deng et al. 2019 (ArcFace)",
        f"w600k_r50.onnx, five-point alignment to 112 px; {_PORTRAIT}; frames without a face left out: see "
        "face_found_rate",
        measures.of_faces("csim"),
        "identity",
        alone=True,
        tie=0.01,
    ),
    "face_similarity": VideoMetric(
        "mean cosine of coarse colours of the aligned face with those of the portrait's; not CSIM",
        "-1..1",
        "higher, to the reference",
        "this package",
        f"blocks of 8x8 of the aligned face of 112 px, less mid-grey; {_PORTRAIT}; a stand-in that needs no "
        "weights",
        measures.of_faces("face_similarity"),
        "identity",
        alone=True,
        tie=0.02,
    ),
    "face_found_rate": VideoMetric(
        "share of frames whose face can be set upright",
        "0..1",
        "higher",
        "this package",
        "eyes, nose and corners of the mouth with confidence 0.3 or more, by the keypoints in use",
        measures.found_rate,
        None,
        alone=True,
    ),
    "mouth_landmark_distance": VideoMetric(
        "LMD: distance of mouth landmarks after each set's mean is taken away",
        "interocular distances",
        "lower",
        "Chen et al. 2018",
        _POINTS_HOW,
        measures.of_both(keypoints.landmark_distance, keypoints.MOUTH_POINTS),
        "sync",
    ),
    "face_landmark_distance": VideoMetric(
        "F-LMD: the same of all face landmarks",
        "interocular distances",
        "lower",
        "Chen et al. 2018",
        _POINTS_HOW,
        measures.of_both(keypoints.landmark_distance, keypoints.FACE_POINTS),
        "motion",
    ),
    "keypoint_distance": VideoMetric(
        "AKD: mean distance of the points seen in both videos",
        "frame widths",
        "lower",
        "Siarohin et al. 2019 (there in pixels at 256)",
        _POINTS_HOW,
        measures.of_both(keypoints.keypoint_distance),
        "motion",
    ),
    "hand_keypoint_distance": VideoMetric(
        "the same of the hands' points alone",
        "frame widths",
        "lower",
        "Siarohin et al. 2019",
        _POINTS_HOW,
        measures.of_both(keypoints.keypoint_distance, keypoints.HAND_POINTS),
        "motion",
    ),
    "missed_keypoint_rate": VideoMetric(
        "MKR: share of the points seen in the reference that are not seen in the video",
        "0..1",
        "lower",
        "Siarohin et al. 2019",
        _POINTS_HOW,
        measures.of_both(keypoints.missed_keypoint_rate),
        "motion",
    ),
    "hand_confidence": VideoMetric(
        "HKC: mean confidence of the points of hands whose wrist is seen",
        "0..1",
        "higher",
        "CyberHost and EchoMimicV2, in prose; our reading of it",
        "the confidence of the keypoints in use: another detector gives another scale, and confidence in a "
        "frozen or another person's hand may be higher than in the true one",
        measures.of_hands(keypoints.hand_confidence),
        None,
        alone=True,
    ),
    "hand_visible_rate": VideoMetric(
        "share of hands (two a frame) whose wrist is seen",
        "0..1",
        "near the reference",
        "this package",
        "confidence 0.3 or more",
        measures.of_hands(keypoints.hand_visible_rate),
        None,
        alone=True,
    ),
    "hand_variance": VideoMetric(
        "HKV: variance over time of hand points in shoulder widths, mean over points, times 1000",
        "1e-3 squared shoulder widths",
        "near the reference",
        "CyberHost and EchoMimicV2, in prose; our reading of it",
        "frames in which the point, its wrist and both shoulders are seen; richness of gesture, not quality",
        measures.of_hands(keypoints.hand_variance),
        "motion",
        alone=True,
    ),
    "subject_dynamics": VideoMetric(
        "mean speed of optical flow inside the person",
        "% of the width per second",
        "near the reference",
        "after Hallo3's subject dynamics, whose definition is not published",
        "iterative Lucas-Kanade at 96 px; the person drawn from keypoints",
        measures.of_speed(1),
        "motion",
        alone=True,
    ),
    "background_dynamics": VideoMetric(
        "mean speed of optical flow outside the person",
        "% of the width per second",
        "near the reference",
        "after Hallo3's background dynamics, whose definition is not published",
        "iterative Lucas-Kanade at 96 px; the person drawn from keypoints",
        measures.of_speed(2),
        "motion",
        alone=True,
    ),
    "temporal_flicker": VideoMetric(
        "half the mean second difference of pixels over time",
        "levels of 255",
        "near the reference",
        "this package; VBench takes first differences, which also count motion",
        "all pixels at the video's own size; more than the reference's is unsteady, less frozen or blurred",
        lambda pair: measures.mean_of(pair.video.flicker),
        "fidelity",
        alone=True,
    ),
    "psnr_db": VideoMetric(
        "peak signal-to-noise ratio to the reference, per frame (at most 60), then the mean",
        "dB",
        "higher",
        "standard",
        "RGB, peak 255; the video resized to the reference where sizes differ",
        measures.beside("psnr_db"),
        "fidelity",
        tie=0.1,
    ),
    "ssim": VideoMetric(
        "structural similarity to the reference",
        "-1..1",
        "higher",
        "Wang et al. 2004",
        "Gaussian window 11, sigma 1.5, valid area, mean of RGB and frames",
        measures.beside("ssim"),
        "fidelity",
        tie=0.002,
    ),
    "lpips": VideoMetric(
        "learned perceptual distance to the reference",
        "LPIPS",
        "lower",
        "Zhang et al. 2018",
        "AlexNet, version 0.1, inputs in [-1, 1], mean of frames",
        measures.beside("lpips"),
        "fidelity",
    ),
    "sharpness_ratio": VideoMetric(
        "mean squared Laplacian of brightness over that of the reference: below 1 blurred, above 1 noisy",
        "ratio",
        "near 1",
        "this package",
        "at the video's own size; not compared where sizes differ",
        measures.sharpness_ratio,
        "fidelity",
    ),
    "identity_drift": VideoMetric(
        "slope of the face's cosine with the portrait's; negative: it becomes someone else",
        "per second",
        "near the reference",
        "this package",
        "ArcFace's where its weights are there, else face_similarity, and as these; least squares; one "
        "second or more",
        measures.of_drift(
            lambda p: measures.identity_curve(p, "csim" if "csim" in p.video.faces else "face_similarity")
        ),
        "long video",
        alone=True,
        tie=0.01,
    ),
    "sharpness_drift": VideoMetric(
        "slope of the logarithm of sharpness: -0.1 loses a tenth each second",
        "per second",
        "near the reference",
        "this package",
        "least squares; one second or more",
        measures.of_drift(measures.log_sharpness),
        "long video",
        alone=True,
        tie=0.02,
    ),
    "colour_drift": VideoMetric(
        "slope of the distance of the mean colour to that of the first second",
        "levels of 255 per second",
        "near the reference",
        "this package",
        "RGB; least squares; one second or more",
        measures.of_drift(lambda p: dynamics.colour_departure(p.video.colour)),
        "long video",
        alone=True,
        tie=0.2,
    ),
    "av_length_difference_s": VideoMetric(
        "length of the sound less that of the pictures",
        "seconds",
        "near 0",
        "this package",
        "time stamps of the file's packets",
        lambda pair: measures.number(pair.video.times.length_difference_s),
        None,
        alone=True,
    ),
    "av_start_offset_s": VideoMetric(
        "how much later the sound begins than the pictures",
        "seconds",
        "near 0",
        "this package",
        "time stamps of the file's packets",
        lambda pair: measures.number(pair.video.times.start_offset_s),
        None,
        alone=True,
    ),
    "length_difference_s": VideoMetric(
        "length of the video less that of its reference",
        "seconds",
        "near 0",
        "this package",
        "frames at 25 fps",
        lambda pair: (len(pair.video) - len(pair.reference)) / 25,
        None,
    ),
}
"""Every metric of a clip by its name in the report."""


def clip_values(pair: VideoPair) -> dict[str, float]:
    """All metrics of a video beside its reference; NaN where one is not defined."""
    return {name: metric.of(pair) for name, metric in VIDEO_METRICS.items()}


def own_values(look: Look) -> dict[str, float]:
    """What the metrics that judge a video alone say of the reference itself."""
    pair = VideoPair(look, look, None)
    return {name: metric.of(pair) for name, metric in VIDEO_METRICS.items() if metric.alone}


def axis_outcomes(
    a: Mapping[str, float | None], b: Mapping[str, float | None], reference: Mapping[str, float | None]
) -> dict[str, float]:
    """Who wins a clip on each axis and over all: 1 for `a`, 0 for `b`, 0.5 for a tie, NaN where nothing is
    shared.

    A metric votes for the side with the better score and abstains within its `tie`; an axis goes to the
    majority of its metrics, `overall` to the majority of axes. Only metrics with a value on both sides
    vote.
    """
    votes: dict[str, list[float]] = {}
    for name, metric in VIDEO_METRICS.items():
        if metric.axis is None:
            continue
        scores = [
            metric.score(math.nan if side.get(name) is None else side[name], reference.get(name))
            for side in (a, b)
        ]
        if all(math.isfinite(score) for score in scores):
            ahead = scores[0] - scores[1]
            votes.setdefault(metric.axis, []).append(
                float(np.sign(ahead)) if abs(ahead) > metric.tie else 0.0
            )
    outcomes = {axis: 0.5 + 0.5 * float(np.sign(sum(signs))) for axis, signs in votes.items()}
    total = float(np.sign(sum(outcome - 0.5 for outcome in outcomes.values())))
    return {"overall": 0.5 + 0.5 * total if outcomes else math.nan, **outcomes}
