"""Models that take drafts of their frames: what they are given in use, in preference pairs, and what is said
where the portrait cannot be moved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from watching import Watching

from hallo4.media import VideoWriter
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.precision import fast_autocast
from hallo4.motion import PortraitDraft, default_rest_pose, draw_skeleton, idle_motion
from hallo4.pipelines import PortraitAnimator, preview
from hallo4.pipelines.conditions import prepare_portrait
from hallo4.pipelines.job import AnimationRequest, Job
from hallo4.pipelines.portrait_rest import RestPose
from hallo4.pipelines.progress import Reporter

REST = default_rest_pose(32, 32)


def found(portrait):
    return RestPose(REST, "by the test")


def no_one(portrait):
    return None


def moving(frames, pixels=3):
    motion = idle_motion(REST, frames, seed=5)
    points_px = motion.points_px + np.linspace(0, pixels, frames, dtype=np.float32)[:, None, None]
    return replace(motion, points_px=points_px)


def given_drafts(model, *request, rest_pose=found, **more):
    """The reactive latents [F, C, h, w] of each window of a video."""
    backbone = Watching(model.backbone)
    animator = PortraitAnimator(replace(model, backbone=backbone), rest_pose)
    frames = list(animator.frames(*request, guidance_scale=1.0, **more))
    return [c.control_latents[0, 4:8, 1:].transpose(0, 1) for c in backbone.conditions], frames


def encoded(model, draft_u8):
    with fast_autocast(), torch.inference_mode():  # the pipeline's own arithmetic
        return model.autoencoder.encode_video(frames_to_pm1(draft_u8).transpose(0, 1)[None])[0].transpose(
            0, 1
        )


def test_each_window_is_given_the_draft_of_its_own_frames(drafting_model, portrait_u8, hum):
    motion = moving(9)
    windows, _ = given_drafts(drafting_model, portrait_u8, hum(9 / 25), motion)
    on_canvas = prepare_portrait(portrait_u8, 32, 16)[0].pixels_u8
    draft_u8 = PortraitDraft(on_canvas, REST).frames_u8(motion)
    assert (draft_u8[0] != draft_u8[-1]).any()
    assert len(windows) == 2
    for window, start in zip(windows, (0, 4), strict=True):
        expected = encoded(drafting_model, draft_u8[start : start + 5])
        torch.testing.assert_close(window, expected, rtol=1e-4, atol=1e-4)


def test_idle_motion_moves_the_portrait_too(drafting_model, portrait_u8, hum):
    (window, *_), _ = given_drafts(drafting_model, portrait_u8, hum(0.4), seed=2)
    on_canvas = prepare_portrait(portrait_u8, 32, 16)[0].pixels_u8
    idle = PortraitDraft(on_canvas, REST).frames_u8(idle_motion(REST, 5, 2, 0))
    torch.testing.assert_close(window, encoded(drafting_model, idle), rtol=1e-4, atol=1e-4)


def job_of(model, request, rest_pose):
    return Job(model, request, Reporter(None), rest_pose)


def drawn_video(path):
    with VideoWriter(path, 32, 32, fps=25) as writer:
        for frame in draw_skeleton(moving(10), 32, 32):
            writer.write(frame)
    return path


def test_a_portrait_that_cannot_be_moved_stands_still_and_that_is_said(
    drafting_model, portrait_u8, hum, tmp_path
):
    still = prepare_portrait(portrait_u8, 32, 16)[0].pixels_u8[None].repeat(5, 0)
    drawn = drawn_video(tmp_path / "drawn.mkv")
    for motion, rest_pose, why in (
        (moving(9), no_one, "no person was found in it"),
        (drawn, found, "a drawn skeleton has no keypoints"),
    ):
        request = AnimationRequest(portrait_u8, hum(0.4), motion)
        notes = [
            note for note in job_of(drafting_model, request, rest_pose).notes if "could not be moved" in note
        ]
        assert len(notes) == 1
        assert why in notes[0]
        windows, _ = given_drafts(drafting_model, portrait_u8, hum(0.4), motion, rest_pose=rest_pose)
        for window in windows:
            torch.testing.assert_close(window, encoded(drafting_model, still), rtol=1e-4, atol=1e-4)
    moved = job_of(drafting_model, AnimationRequest(portrait_u8, hum(0.4), moving(9)), found)
    assert not any("could not be moved" in note for note in moved.notes)


def test_a_preview_says_whether_the_portrait_can_be_moved(drafting_model, tiny_model, portrait_u8, hum):
    request = AnimationRequest(portrait_u8, hum(0.4), moving(9))
    for model, rest_pose, said in (
        (drafting_model, found, "draft: the portrait is moved from its pose, by the test"),
        (drafting_model, no_one, "draft: the portrait could not be moved by the skeleton beforehand, no"),
        (tiny_model, no_one, None),
    ):
        notes = [note for note in preview(model, request, Reporter(), rest_pose).notes if "draft" in note]
        assert [note[: len(said or "")] for note in notes] == ([said] if said else [])


def test_a_job_goes_on_only_from_the_same_pose_in_the_portrait(drafting_model, tiny_model, portrait_u8, hum):
    request = AnimationRequest(portrait_u8, hum(0.4), moving(9))

    def elsewhere(portrait):
        return RestPose(replace(REST, points_px=REST.points_px + 1), "by the test")

    stamps = [
        job_of(drafting_model, request, pose).fingerprint() for pose in (found, found, elsewhere, no_one)
    ]
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 3
    plain = [job_of(tiny_model, request, pose).fingerprint() for pose in (found, elsewhere)]
    assert plain[0] == plain[1], "a model without drafts does not look at it"


def test_a_model_without_drafts_is_given_grey(tiny_model, portrait_u8, hum):
    windows, _ = given_drafts(tiny_model, portrait_u8, hum(0.4), moving(9))
    grey = encoded(tiny_model, np.full((5, 32, 32, 3), 127.5))
    assert job_of(tiny_model, AnimationRequest(portrait_u8, hum(0.4), moving(9)), found).drafts is None
    torch.testing.assert_close(windows[0], grey, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("known", [False, True])
def test_the_latents_of_a_preference_pair_hold_the_draft(drafting_model, known):
    from hallo4.data.pair_latents import PairWindow, encode_pair_window

    video = np.zeros((5, 32, 32, 3), np.uint8)
    draft_u8 = np.random.default_rng(0).integers(0, 256, video.shape, np.uint8)
    before = [video[:1] if known else None] * 2
    parts = (torch.zeros(5, 3, 32, 32), torch.zeros(3, 32, 32), torch.zeros(5, 5, 4, 40), None, 5, *before)
    draft_pm1 = frames_to_pm1(draft_u8)
    window = PairWindow(video, video, *parts, draft_pm1=draft_pm1)
    row = encode_pair_window(window, drafting_model.autoencoder, drafting_model.backbone.windows)
    expected = encoded(drafting_model, draft_u8).transpose(0, 1).half()
    torch.testing.assert_close(row["draft"], expected, rtol=1e-3, atol=1e-3)
