"""The metrics of a video, beside its reference or alone."""

from __future__ import annotations

import numpy as np

from hallo4.evaluation.look.video import Look
from hallo4.evaluation.measures import arrays, dynamics, keypoints
from hallo4.evaluation.metric import Metric, values_of
from hallo4.evaluation.suites import video_measures as measures
from hallo4.evaluation.suites.video_measures import VideoPair

_LIPS = "mouth opening seen by the observer (0..1), or from the inner lips of other keypoints"
_PORTRAIT = (
    "the portrait is NAME.portrait.png beside the video or its reference, or in the folder of portraits, "
    "else the reference's first face"
)
_SYNCNET = "Chung & Zisserman 2016; Prajwal et al. 2020"
_SYNCNET_HOW = (
    "syncnet_v2.model on crops from landmarks (the original detects with S3FD), 25 fps, 16 kHz, shifts of "
    "15, zeros beyond the ends of the sound"
)
_POINTS_HOW = "points with confidence 0.3 or more, over the frames both videos have"

# fmt: off
VIDEO_METRICS: dict[str, Metric] = {
    "mouth_correlation": Metric(
        "correlation of the mouth's opening with the reference's, without shifting", "-1..1", "higher",
        measures.following(arrays.following), "sync", protocol=_LIPS, tie=0.01
    ),
    "mouth_lag_frames": Metric(
        "shift with the largest such correlation; positive: later than the reference", "frames of 40 ms",
        "near 0", measures.following(measures.lag), None,
        protocol=f"shifts of up to {measures.MAX_LAG_FRAMES} frames and a third of the clip; {_LIPS}",
        tested=False
    ),
    "mouth_abs_lag_frames": Metric(
        "size of that shift, so that early and late clips do not cancel", "frames of 40 ms", "lower",
        measures.following(lambda *curves: abs(measures.lag(*curves))), "sync", protocol="as mouth_lag_frames"
    ),
    "mouth_sound_correlation": Metric(
        "correlation of the mouth's opening with the loudness of the video's own sound", "-1..1",
        "near the reference", measures.following(arrays.following, sound=True), None,
        protocol="loudness of frames in dB, cut 40 dB below the loudest; needs no weights, knows no phonemes",
        alone=True, tested=False
    ),
    "mouth_sound_lag_frames": Metric(
        "shift with the largest such correlation; positive: the mouth is later than the sound",
        "frames of 40 ms", "near the reference", measures.following(measures.lag, sound=True), None,
        protocol=f"shifts of up to {measures.MAX_LAG_FRAMES} frames and a third of the clip", alone=True,
        tested=False
    ),
    "sync_c": Metric(
        "Sync-C: median of SyncNet's distances over 31 shifts less the smallest", "SyncNet distance",
        "higher", measures.of_sync("confidence"), "sync", _SYNCNET, _SYNCNET_HOW, alone=True
    ),
    "sync_d": Metric(
        "Sync-D: smallest mean distance over 31 shifts", "SyncNet distance", "lower",
        measures.of_sync("distance"), "sync", _SYNCNET, _SYNCNET_HOW, alone=True
    ),
    "sync_offset_frames": Metric(
        "shift of the smallest distance; sound k frames late gives -k", "frames of 40 ms", "near 0",
        measures.of_sync("offset_frames"), None, _SYNCNET, _SYNCNET_HOW, alone=True, tested=False
    ),
    "sync_c_at_zero": Metric(
        "median of the distances less that without any shift: sees a clip that is late as a whole",
        "SyncNet distance", "higher", measures.of_sync("confidence_at_zero"), None,
        "this package, from the same curve", _SYNCNET_HOW, alone=True, tested=False
    ),
    "csim": Metric(
        "CSIM: mean cosine of ArcFace's vectors of all faces with that of the portrait", "-1..1",
        "higher, to the reference", measures.of_faces("csim"), "identity", "Deng et al. 2019 (ArcFace)",
        (f"w600k_r50.onnx, five-point alignment to 112 px; {_PORTRAIT}; frames without a face left out: "
        f"see face_found_rate"), alone=True, tie=0.01
    ),
    "portrait_similarity": Metric(
        "mean cosine of coarse colours of the aligned face with those of the portrait's; not CSIM", "-1..1",
        "higher, to the reference", measures.of_faces("portrait_similarity"), "identity",
        protocol=(f"blocks of 8x8 of the aligned face of 112 px, less mid-grey; {_PORTRAIT}; a stand-in that "
        f"needs no weights"), alone=True, tie=0.02
    ),
    "face_found_rate": Metric(
        "share of frames whose face can be set upright", "0..1", "higher", measures.found_rate, None,
        protocol="eyes, nose and corners of the mouth with confidence 0.3 or more, by the keypoints in use",
        alone=True, tested=False
    ),
    "mouth_landmark_distance": Metric(
        "LMD: distance of mouth landmarks after each set's mean is taken away", "interocular distances",
        "lower", measures.of_both(keypoints.landmark_distance, keypoints.MOUTH_POINTS), "sync",
        "Chen et al. 2018", _POINTS_HOW
    ),
    "face_landmark_distance": Metric(
        "F-LMD: the same of all face landmarks", "interocular distances", "lower",
        measures.of_both(keypoints.landmark_distance, keypoints.FACE_POINTS), "motion", "Chen et al. 2018",
        _POINTS_HOW
    ),
    "keypoint_distance": Metric(
        "AKD: mean distance of the points seen in both videos", "frame widths", "lower",
        measures.of_both(keypoints.keypoint_distance), "motion",
        "Siarohin et al. 2019 (there in pixels at 256)", _POINTS_HOW
    ),
    "hand_keypoint_distance": Metric(
        "the same of the hands' points alone", "frame widths", "lower",
        measures.of_both(keypoints.keypoint_distance, keypoints.HAND_POINTS), "motion",
        "Siarohin et al. 2019", _POINTS_HOW
    ),
    "missed_keypoint_rate": Metric(
        "MKR: share of the points seen in the reference that are not seen in the video", "0..1", "lower",
        measures.of_both(keypoints.missed_keypoint_rate), "motion", "Siarohin et al. 2019", _POINTS_HOW
    ),
    "hand_confidence": Metric(
        "HKC: mean confidence of the points of hands whose wrist is seen", "0..1", "higher",
        measures.of_hands(keypoints.hand_confidence), None,
        "CyberHost and EchoMimicV2, in prose; our reading of it",
        ("the confidence of the keypoints in use: another detector gives another scale, and confidence "
        "in a frozen or another person's hand may be higher than in the true one"), alone=True, tested=False
    ),
    "hand_visible_rate": Metric(
        "share of hands (two a frame) whose wrist is seen", "0..1", "near the reference",
        measures.of_hands(keypoints.hand_visible_rate), None, protocol="confidence 0.3 or more", alone=True,
        tested=False
    ),
    "hand_variance": Metric(
        "HKV: variance over time of hand points in shoulder widths, mean over points, times 1000",
        "1e-3 squared shoulder widths", "near the reference", measures.of_hands(keypoints.hand_variance),
        "motion", "CyberHost and EchoMimicV2, in prose; our reading of it",
        ("frames in which the point, its wrist and both shoulders are seen; richness of gesture, not "
        "quality"), alone=True
    ),
    "subject_dynamics": Metric(
        "mean speed of optical flow inside the person", "% of the width per second", "near the reference",
        measures.of_speed(1), "motion",
        "after Hallo3's subject dynamics, whose definition is not published",
        "iterative Lucas-Kanade at 96 px; the person drawn from keypoints", alone=True
    ),
    "background_dynamics": Metric(
        "mean speed of optical flow outside the person", "% of the width per second", "near the reference",
        measures.of_speed(2), "motion",
        "after Hallo3's background dynamics, whose definition is not published",
        "iterative Lucas-Kanade at 96 px; the person drawn from keypoints", alone=True
    ),
    "temporal_flicker": Metric(
        "half the mean second difference of pixels over time", "levels of 255", "near the reference",
        lambda pair: measures.mean_of(pair.video.flicker), "fidelity",
        "this package; VBench takes first differences, which also count motion",
        ("all pixels at the video's own size; more than the reference's is unsteady, less frozen or "
        "blurred"), alone=True
    ),
    "psnr_db": Metric(
        "peak signal-to-noise ratio to the reference, per frame (at most 60), then the mean", "dB",
        "higher", measures.beside("psnr_db"), "fidelity", "standard",
        "RGB, peak 255; the video resized to the reference where sizes differ", tie=0.1
    ),
    "ssim": Metric(
        "structural similarity to the reference", "-1..1", "higher", measures.beside("ssim"), "fidelity",
        "Wang et al. 2004", "Gaussian window 11, sigma 1.5, valid area, mean of RGB and frames", tie=0.002
    ),
    "lpips": Metric(
        "learned perceptual distance to the reference", "LPIPS", "lower", measures.beside("lpips"),
        "fidelity", "Zhang et al. 2018", "AlexNet, version 0.1, inputs in [-1, 1], mean of frames"
    ),
    "sharpness_ratio": Metric(
        "mean squared Laplacian of brightness over that of the reference: below 1 blurred, above 1 noisy",
        "ratio", "near 1", measures.sharpness_ratio, "fidelity",
        protocol="at the video's own size; not compared where sizes differ"
    ),
    "identity_drift": Metric(
        "slope of the face's cosine with the portrait's; negative: it becomes someone else", "per second",
        "near the reference",
        measures.of_drift(measures.identity_curve), "long video",
        protocol=("ArcFace's where its weights are there, else portrait_similarity, and as these; least "
        "squares; one second or more"), alone=True, tie=0.01
    ),
    "sharpness_drift": Metric(
        "slope of the logarithm of sharpness: -0.1 loses a tenth each second", "per second",
        "near the reference", measures.of_drift(lambda p: np.log(np.maximum(p.video.sharpness, 1e-6))),
        "long video", protocol="least squares; one second or more", alone=True, tie=0.02
    ),
    "colour_drift": Metric(
        "slope of the distance of the mean colour to that of the first second", "levels of 255 per second",
        "near the reference", measures.of_drift(lambda p: dynamics.colour_departure(p.video.colour)),
        "long video", protocol="RGB; least squares; one second or more", alone=True, tie=0.2
    ),
    "av_length_difference_s": Metric(
        "length of the sound less that of the pictures", "seconds", "near 0",
        lambda pair: pair.video.times.length_difference_s, None,
        protocol="time stamps of the file's packets", alone=True, tested=False
    ),
    "av_start_offset_s": Metric(
        "how much later the sound begins than the pictures", "seconds", "near 0",
        lambda pair: pair.video.times.start_offset_s, None,
        protocol="time stamps of the file's packets", alone=True, tested=False
    ),
    "length_difference_s": Metric(
        "length of the video less that of its reference", "seconds", "near 0",
        measures.length_difference_s, None, protocol="frames at 25 fps",
        tested=False
    ),
}
# fmt: on
"""Every metric of a clip by its name in the report."""


def clip_values(pair: VideoPair) -> dict[str, float | None]:
    """All metrics of a video beside its reference, or those that need none; None where one is not defined."""
    return values_of(VIDEO_METRICS, pair, None if pair.reference is not None else ALONE)


def own_values(look: Look) -> dict[str, float | None]:
    """What the metrics that judge a video alone say of the reference itself."""
    return values_of(VIDEO_METRICS, VideoPair(look, look, None), ALONE)


ALONE = tuple(name for name, metric in VIDEO_METRICS.items() if metric.alone)
