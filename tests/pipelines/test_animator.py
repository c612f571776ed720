import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from watching import Killed, Watching, kill_at

from hallo4.errors import Cancelled, InputError, OutputError
from hallo4.media import load_audio, probe_video, read_frames, read_provenance
from hallo4.models.precision import fast_autocast
from hallo4.motion import default_rest_pose, idle_motion
from hallo4.pipelines import PortraitAnimator, window
from hallo4.pipelines.plan import window_noise
from hallo4.pipelines.portrait_rest import RestPose
from hallo4.pipelines.progress import Reporter
from hallo4.types import Audio


@pytest.fixture
def animator(tiny_model):
    return PortraitAnimator(tiny_model)


# ---------------------------------------------------------------------- length and content


def test_frames_come_as_they_are_made_and_facts_stand_in_the_file(animator, portrait_u8, hum, tmp_path):
    path, seen = tmp_path / "talk.mkv", []
    facts = {"consent": "the person agreed"}
    animator.animate(portrait_u8, hum(0.5), output=path, seed=7, on_frames=seen.append, facts=facts)
    frames = np.concatenate(list(animator.frames(portrait_u8, hum(0.5), seed=7)))
    assert len(seen) > 1, "one message a window"
    np.testing.assert_array_equal(np.concatenate(seen), frames)
    assert read_provenance(path)["consent"] == "the person agreed"


@pytest.mark.parametrize("samples", [1, 320, 641, 3200, 3520, 8000, 9999])
def test_a_video_has_exactly_the_frames_of_its_sound(animator, portrait_u8, samples):
    audio = Audio(np.zeros(samples, np.float32), 16000)
    frames = list(animator.frames(portrait_u8, audio, steps=1, guidance_scale=1))
    assert sum(map(len, frames)) == max(1, round(samples / 640))
    assert {part.shape[1:] for part in frames} == {(32, 32, 3)}
    assert all(part.dtype == np.uint8 for part in frames)


def test_the_file_holds_the_frames_the_sound_and_the_provenance(animator, portrait_u8, hum, tmp_path):
    path = tmp_path / "talk.mkv"  # lossless
    seen = []
    result = animator.animate(portrait_u8, hum(0.5), output=path, seed=7, on_progress=seen.append)
    frames = np.concatenate(list(animator.frames(portrait_u8, hum(0.5), seed=7)))
    assert result.path == path
    assert result.frames == len(frames) == 12
    assert np.abs(np.stack(list(read_frames(path))).astype(int) - frames).max() <= 2
    info = probe_video(path)
    assert (info.fps, info.frames, info.has_audio) == (25.0, 12, True)
    assert load_audio(path).duration_s == pytest.approx(0.48, abs=0.021)
    record = read_provenance(path)
    assert record["ai_generated"] == "true"
    assert (record["model"], record["model_version"], record["seed"], record["steps"]) == (
        "testling", "1.2", "7", "2",
    )  # fmt: skip
    assert set(result.timings_s) == {"read", "audio", "conditions", "denoise", "decode", "write"}
    assert [p.name for p in tmp_path.iterdir()] == ["talk.mkv"]
    assert [p.stage for p in seen if p.notes] == ["generate"]
    generated = [p.frames_done for p in seen if p.stage == "generate"]
    assert generated == sorted(generated)
    assert generated[-1] == 12
    assert seen[-1].eta_s == 0


def test_the_same_seed_is_the_same_video_and_another_is_not(animator, portrait_u8, hum):
    first, again, other = (
        np.concatenate(list(animator.frames(portrait_u8, hum(0.3), default_rest_pose(40, 40), seed=seed)))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert (first != other).any()


def test_a_longer_sound_does_not_change_what_came_before(animator, portrait_u8):
    """Windows depend on nothing after them: silence of 0.4 and 0.8 s starts with the same whole windows."""
    rest = default_rest_pose(40, 40)
    short, long = (
        list(animator.frames(portrait_u8, Audio(np.zeros(n, np.float32), 16000), rest)) for n in (5760, 12800)
    )
    assert [len(part) for part in short] == [5, 4]
    for ours, theirs in zip(short, long):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(40, 64), (100, 37), (33, 33)])
def test_images_of_any_shape_work(animator, hum, size):
    image = np.zeros((*size, 3), np.uint8)
    (part,) = animator.frames(image, hum(0.04))
    assert part.shape[1] % 16 == part.shape[2] % 16 == 0
    assert (part.shape[1] - part.shape[2]) * (size[0] - size[1]) >= 0


def test_scale_enlarges_the_file(animator, portrait_u8, hum, tmp_path):
    animator.animate(portrait_u8, hum(0.04), output=tmp_path / "o.mp4", scale=3)
    info = probe_video(tmp_path / "o.mp4")
    assert (info.width_px, info.height_px) == (96, 96)


# ---------------------------------------------------------------------- windows


def test_each_window_is_given_the_last_frame_of_the_one_before(tiny_model, portrait_u8, hum):
    watching = Watching(tiny_model.autoencoder)
    parts = list(PortraitAnimator(replace(tiny_model, autoencoder=watching)).frames(portrait_u8, hum(0.6)))
    _portrait, grey, *known = watching.encoded
    assert not grey.any()
    assert grey.shape[2] == 5
    assert len(known) == len(parts) - 1 == 3
    for video, before in zip(known, parts):
        frame = torch.from_numpy(before[-1].copy()).movedim(-1, 0)
        assert video.shape[:3] == (1, 3, 1), "the grey frames behind it are encoded once for all windows"
        assert torch.equal(video[0, :, 0].add(1).mul(127.5).round().to(torch.uint8), frame)


def test_the_mask_of_each_window_says_that_its_first_frame_is_known(tiny_model, portrait_u8, hum):
    backbone = Watching(tiny_model.backbone)
    animator = PortraitAnimator(replace(tiny_model, backbone=backbone))
    parts = list(animator.frames(portrait_u8, hum(0.4), guidance_scale=1.0))
    inactive = [c.control_latents[0, :4, 1] for c in backbone.conditions]
    first_mask = [c.control_latents[0, 8:, 1].unique().tolist() for c in backbone.conditions]
    assert first_mask == [[1.0], [0.0], [0.0]]
    assert all((c.control_latents[0, 8:, 2:] == 1).all() for c in backbone.conditions)
    for before, latent in zip(parts, inactive[1:]):
        frame_pm1 = torch.from_numpy(before[-1].copy()).movedim(-1, 0)[None, :, None] / 127.5 - 1
        with fast_autocast():  # the pipeline's own arithmetic
            expected = tiny_model.autoencoder.encode_video(frame_pm1)[0, :, 0]
        assert torch.allclose(latent, expected, atol=1e-5)


def test_noise_is_that_of_seed_and_window(tiny_model, portrait_u8, hum, monkeypatch):
    asked = []
    real = window_noise

    def note(shape, seed, index, kind):
        asked.append((seed, index, kind))
        return real(shape, seed, index, kind)

    monkeypatch.setattr("hallo4.pipelines.job.window_noise", note)
    list(PortraitAnimator(tiny_model).frames(portrait_u8, hum(0.6), seed=11, steps=1))
    assert asked == [(11, window, "own") for window in range(4)]


def test_guidance_in_one_batch_equals_guidance_one_by_one(tiny_model, portrait_u8, hum, monkeypatch):
    batched, single, plain = (Watching(tiny_model.backbone) for _ in range(3))

    def frames(backbone, scale):
        model = replace(tiny_model, backbone=backbone)
        return np.concatenate(
            list(PortraitAnimator(model).frames(portrait_u8, hum(0.2), guidance_scale=scale))
        )

    together = frames(batched, 4.0)
    unguided = frames(plain, 1.0)
    monkeypatch.setattr(window, "FEW_CELLS", 0)
    apart = frames(single, 4.0)
    assert np.abs(together.astype(int) - apart).max() <= 1
    assert (together != unguided).any()
    assert (set(batched.batches), set(single.batches), set(plain.batches)) == ({2}, {1}, {1})
    assert len(single.batches) == 2 * len(batched.batches) == 2 * len(plain.batches)


def test_only_one_window_is_held_however_long_the_sound(animator, portrait_u8):
    audio = Audio(np.zeros(16000 * 3, np.float32), 16000)
    alive, most = [], 0
    for part in animator.frames(portrait_u8, audio, steps=1, guidance_scale=1):
        base = part if part.base is None else part.base
        alive = [seen for seen in alive if seen() is not None] + [weakref.ref(base)]
        most = max(most, len(alive))
        del part, base
    assert most <= 2


# ---------------------------------------------------------------------- stop and go on


@pytest.mark.parametrize("frames_before_kill", [0, 7])
def test_after_a_kill_the_same_call_goes_on_and_ends_the_same(
    animator, portrait_u8, hum, tmp_path, frames_before_kill
):
    whole = tmp_path / "whole.mp4"
    animator.animate(portrait_u8, hum(0.6), output=whole)
    path, seen = tmp_path / "killed.mp4", []
    with pytest.raises(Killed):
        animator.animate(portrait_u8, hum(0.6), output=path, on_progress=kill_at(frames_before_kill))
    assert not path.exists()
    result = animator.animate(portrait_u8, hum(0.6), output=path, on_progress=seen.append)
    start = next(p.frames_done for p in seen if p.stage == "generate")
    assert start == (5 if frames_before_kill else 0)
    assert any("resumed" in note for note in result.notes) == bool(start)
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.mp4", "whole.mp4"]


def test_the_work_folder_holds_encoded_parts_not_all_frames(
    animator, portrait_u8, hum, tmp_path, monkeypatch
):
    """Killed at several places, the video is that of an uninterrupted call, whose parts are the same."""
    monkeypatch.setattr("hallo4.pipelines.animator.PART_FRAMES", 8)
    whole, path, most = tmp_path / "whole.mp4", tmp_path / "killed.mp4", 0
    animator.animate(portrait_u8, hum(1.2), output=whole)
    for frames_before_kill in (7, 14, 24):
        with pytest.raises(Killed):
            animator.animate(portrait_u8, hum(1.2), output=path, on_progress=kill_at(frames_before_kill))
        work = tmp_path / ".killed.mp4.partial"
        most = max(most, len(list(work.glob("window_*"))))
    assert [part.name for part in sorted(work.glob("part_*"))] == ["part_000002.mp4", "part_000004.mp4"]
    assert most <= 2, "frames wait only until they make a part"
    animator.animate(portrait_u8, hum(1.2), output=path)
    assert path.read_bytes() == whole.read_bytes()
    assert probe_video(path).frames == 30


def test_a_damaged_part_is_said(animator, portrait_u8, hum, tmp_path, monkeypatch):
    monkeypatch.setattr("hallo4.pipelines.animator.PART_FRAMES", 4)
    with pytest.raises(Killed):
        animator.animate(portrait_u8, hum(0.6), output=tmp_path / "o.mp4", on_progress=kill_at(7))
    part = next((tmp_path / ".o.mp4.partial").glob("part_*"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(OutputError, match=r"damaged.*no-resume"):
        animator.animate(portrait_u8, hum(0.6), output=tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"steps": 3}, {"guidance_scale": 1.5}, {"scale": 2}, {"resume": False}]
)
def test_another_request_does_not_go_on(animator, portrait_u8, hum, tmp_path, change):
    path, seen = tmp_path / "o.mp4", []
    with pytest.raises(Killed):
        animator.animate(portrait_u8, hum(0.6), output=path, on_progress=kill_at(7))
    animator.animate(portrait_u8, hum(0.6), output=path, on_progress=seen.append, **change)
    assert next(p.frames_done for p in seen if p.stage == "generate") == 0


@pytest.mark.parametrize("how", ["callback", "ctrl-c"])
def test_a_stop_leaves_a_playable_part_and_the_older_video(animator, portrait_u8, hum, tmp_path, how):
    path = tmp_path / "talk.mp4"
    animator.animate(portrait_u8, hum(0.1), output=path)
    older, calls = path.read_bytes(), []

    def stop_in_the_third_window(*_):
        calls.append(1)
        if how == "ctrl-c" and len(calls) >= 5:
            raise KeyboardInterrupt
        return len(calls) >= 5

    monitor = {"should_cancel": stop_in_the_third_window}
    with pytest.raises(Cancelled, match=r"9 of 20 frames.*talk\.partial\.mp4.*same command") as stop:
        animator.animate(portrait_u8, hum(0.8), output=path, seed=3, **monitor)
    assert "\n" not in str(stop.value)
    assert path.read_bytes() == older
    part = tmp_path / "talk.partial.mp4"
    assert probe_video(part).frames == 9
    assert load_audio(part).duration_s == pytest.approx(9 / 25, abs=0.025)
    assert read_provenance(part)["seed"] == "3"
    animator.animate(portrait_u8, hum(0.8), output=path, seed=3)
    assert probe_video(path).frames == 20
    assert [p.name for p in tmp_path.iterdir()] == ["talk.mp4"]


def test_a_stop_before_the_first_window_says_so(animator, portrait_u8, hum, tmp_path):
    with pytest.raises(Cancelled, match="no video"):
        animator.animate(portrait_u8, hum(0.8), output=tmp_path / "o.mp4", should_cancel=lambda: True)
    assert not (tmp_path / "o.mp4").exists()
    assert not (tmp_path / "o.partial.mp4").exists()


def test_time_left_is_what_the_pace_so_far_says():
    now = [0.0]
    seen = []
    reporter = Reporter(seen.append, clock=lambda: now[0])
    reporter.begin_windows(windows=5, steps=10, frames_total=21, finished=1, finished_frames=5)
    now[0] = 30.0
    reporter.step(window=2, steps_done=5, frames_before=9, frames_in_window=4)
    assert seen[-1].eta_s == pytest.approx(30.0 / 1.5 * 2.5)
    assert seen[-1].frames_done == 11


# ---------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"steps": 0}, "steps"),
        ({"guidance_scale": float("nan")}, "guidance"),
        ({"scale": 0}, "scale"),
    ],
)
def test_numbers_out_of_range_are_refused_first(animator, portrait_u8, hum, tmp_path, change, word):
    with pytest.raises(InputError, match=word):
        animator.animate(portrait_u8, hum(0.1), output=tmp_path / "o.mp4", **change)
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_never_overwritten(animator, portrait_u8, hum, tmp_path):
    film = tmp_path / "skeleton.mp4"
    animator.animate(portrait_u8, hum(0.1), output=film)
    with pytest.raises(OutputError, match="inputs"):
        animator.animate(portrait_u8, hum(0.1), tmp_path / "." / "skeleton.mp4", output=film)


def test_a_second_job_for_one_output_is_refused_and_the_first_is_whole(animator, portrait_u8, hum, tmp_path):
    path, seen = tmp_path / "talk.mkv", []

    def second(progress):
        if progress.stage == "generate" and not seen:
            seen.append(progress)
            with pytest.raises(
                OutputError, match=r"talk\.mkv: this process \(\d+\), since .* is working on it"
            ):
                animator.animate(portrait_u8[::-1].copy(), hum(0.5), output=path, seed=7)

    animator.animate(portrait_u8, hum(0.5), output=path, seed=7, on_progress=second)
    assert seen
    frames = np.concatenate(list(animator.frames(portrait_u8, hum(0.5), seed=7)))
    assert np.abs(np.stack(list(read_frames(path))).astype(int) - frames).max() <= 2
    assert [p.name for p in tmp_path.iterdir()] == ["talk.mkv"]


@pytest.mark.parametrize("stem", ["声" * 82, "x" * 251], ids=["three bytes", "one byte"])
def test_every_name_that_a_video_may_have_works_also_after_a_stop(animator, portrait_u8, hum, tmp_path, stem):
    path = tmp_path / f"{stem}.mp4"
    calls = []

    def stop_in_the_third_window():
        calls.append(1)
        return len(calls) >= 5

    with pytest.raises(Cancelled, match="these play in"):
        animator.animate(portrait_u8, hum(0.5), output=path, should_cancel=stop_in_the_third_window)
    assert sum(p.suffix == ".mp4" for p in tmp_path.iterdir()) == 1
    animator.animate(portrait_u8, hum(0.5), output=path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_device_that_is_not_there_is_refused(tiny_model_folder):
    with pytest.raises(InputError, match="auto or cpu"):
        PortraitAnimator.from_pretrained(tiny_model_folder, device="abacus")


def test_a_detector_of_poses_can_be_put_in(tiny_model, portrait_u8, hum):
    seen = []

    def detector(portrait):
        seen.append(portrait.pixels_u8.shape)
        return RestPose(default_rest_pose(portrait.canvas.width_px, portrait.canvas.height_px), "by hand")

    list(PortraitAnimator(tiny_model, rest_pose=detector).frames(portrait_u8, hum(0.04)))
    assert seen == [(32, 32, 3)]


def test_keypoints_steer_the_video(animator, portrait_u8, hum):
    rest = default_rest_pose(40, 40)
    still = replace(rest)
    moving = idle_motion(rest, 10, seed=5)
    moving = replace(
        moving, points_px=moving.points_px + 6 * np.sin(np.arange(10))[:, None, None].astype("f")
    )
    first, second = (
        np.concatenate(list(animator.frames(portrait_u8, hum(0.4), motion))) for motion in (still, moving)
    )
    assert (first != second).any()
