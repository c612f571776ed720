"""Gain and delay by frequency: closed forms, what the world draws, and what a frozen or late video gives."""

import cmath
import json
import math

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the world is needed: pip install 'hallo4[world]'")

from hallo4.cli import main
from hallo4.errors import Cancelled, InputError
from hallo4.evaluation import evaluate_motion
from hallo4.evaluation.report import Row
from hallo4.evaluation.suites import generators
from hallo4.evaluation.suites import motion as motion_response
from hallo4.evaluation.suites.motion import (
    FRAMES,
    PARTS,
    SKELETON_RHO,
    _entry,
    amplitude,
    driven_episode,
    response,
)
from hallo4.models.observer import KEY_POINTS


@pytest.mark.parametrize("hz", [0.5, 1.7, 6.25, 12.0])
def test_amplitude_and_phase_of_a_cosine_are_found_beside_drift(hz):
    time_s = np.arange(FRAMES) / 25
    curve = 2.5 * np.cos(2 * np.pi * hz * time_s + 0.7) + 3.0 + 4.0 * time_s
    assert amplitude(curve, hz) == pytest.approx(2.5 * np.exp(0.7j), abs=1e-6)


def test_at_half_the_frame_rate_the_turning_points_are_seen():
    curve = 1.5 * (-1.0) ** np.arange(FRAMES)
    assert amplitude(curve, 12.5) == pytest.approx(1.5, abs=1e-3)


def test_a_response_tells_damping_and_delay():
    hz, time_s = 2.0, np.arange(FRAMES) / 25
    driving = np.stack([np.cos(2 * np.pi * hz * time_s), 2 * np.cos(2 * np.pi * hz * time_s)], 1)
    late = np.stack(
        [np.cos(2 * np.pi * hz * (time_s - 0.04)), 2 * np.cos(2 * np.pi * hz * (time_s - 0.04))], 1
    )
    found = response(0.5 * late, driving, hz)
    assert abs(found) == pytest.approx(0.5, abs=1e-6)
    assert -np.angle(found) / (2 * np.pi * hz) * 25 == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("part", [name for name, part in PARTS.items() if part.joints])
def test_the_world_moves_the_part_and_nothing_else(part):
    episode = driven_episode(5_000_001, part, 5.0)
    driven = PARTS[part]
    points = episode.skeleton.points_px[::SKELETON_RHO]
    for name, index in KEY_POINTS.items():
        if name in driven.joints:
            size = abs(amplitude(points[:, index, driven.axis], 5.0))
            assert size == pytest.approx(128 * driven.amplitude, rel=0.25), name
    still = "left_shoulder"
    assert np.ptp(points[:, KEY_POINTS[still]], axis=0).max() < 0.5
    assert len(episode.frames_u8) == FRAMES
    assert (len(episode.skeleton), episode.skeleton.fps) == (SKELETON_RHO * FRAMES, SKELETON_RHO * 25)
    assert not episode.audio.samples.any()


@pytest.mark.parametrize("hz", [1.0, 5.0])
def test_the_mouth_opens_so_often_and_nothing_else_moves(hz):
    episode = driven_episode(5_000_001, "mouth", hz)
    opening = episode.truth.mouth_open
    assert abs(amplitude(opening, hz)) > 0.3
    assert abs(amplitude(opening, 0.7 * hz)) < 0.3 * abs(amplitude(opening, hz))
    assert opening.min() < 0.01, "lips touch at every m"
    moved = np.ptp(episode.skeleton.points_px, axis=0).max(axis=1)
    assert moved[[KEY_POINTS[name] for part in PARTS.values() for name in part.joints]].max() < 0.5
    assert episode.audio.samples.any()
    assert len(episode.audio.samples) / episode.audio.sample_rate_hz == pytest.approx(FRAMES / 25, abs=1e-3)


class _Frozen:
    def __call__(self, episode, seed):
        return np.repeat(episode.frames_u8[:1], FRAMES, axis=0)


class _Late:
    def __call__(self, episode, seed):
        return np.roll(episode.frames_u8, 2, axis=0)


def test_truth_follows_a_frozen_video_does_not_and_a_late_one_is_late(monkeypatch):
    real = generators.load_generator
    made = {"frozen": _Frozen(), "late": _Late()}
    monkeypatch.setattr(generators, "load_generator", lambda name: made.get(name) or real(name))
    monkeypatch.setattr(generators, "frame_size_px", lambda name: 128)
    monkeypatch.setattr(generators, "world_of", lambda models: "drawn-1")
    monkeypatch.setattr(generators, "weights_digest", lambda name: name)
    report = evaluate_motion(["truth", "still=frozen", "late"], clips=2, frequencies_hz=[2.0])
    for part in PARTS:
        truth, frozen, late = (report["responses"][name][part][0] for name in ("truth", "still", "late"))
        assert 0.8 < truth["gain"]["mean"] < 1.25, "of the instrument itself"
        assert abs(truth["delay_frames"]["mean"]) < 0.3
        assert frozen["gain"]["mean"] < 0.05
        assert late["delay_frames"]["mean"] == pytest.approx(2.0, abs=0.4)
        assert late["gain"]["low"] <= late["gain"]["mean"] <= late["gain"]["high"]


def test_a_stopped_measurement_goes_on_and_keeps_models_apart(monkeypatch, tmp_path):
    real, asked = generators.load_generator, []
    weights = {"late": "1", "frozen": "2"}

    def load(name):
        made = {"frozen": _Frozen(), "late": _Late()}.get(name) or real(name)
        return lambda episode, seed: asked.append((name, seed)) or made(episode, seed)

    monkeypatch.setattr(generators, "load_generator", load)
    monkeypatch.setattr(generators, "frame_size_px", lambda name: 128)
    monkeypatch.setattr(generators, "world_of", lambda models: "drawn-1")
    monkeypatch.setattr(generators, "weights_digest", lambda name: weights[name])
    monkeypatch.setattr(motion_response, "PARTS", {"head": PARTS["head"]})

    def stop(done, total, row):
        if done == 3:
            raise KeyboardInterrupt

    models, out = ["late", "again=frozen"], tmp_path / "motion.json"
    with pytest.raises(Cancelled, match=r"3 of 4 videos: they are kept in .*\.rows\.jsonl; the same command"):
        evaluate_motion(models, clips=2, frequencies_hz=[2.0], out=out, on_progress=stop)
    assert not out.exists()
    asked.clear()
    resumed = evaluate_motion(models, clips=2, frequencies_hz=[2.0], out=out)
    assert [name for name, _ in asked] == ["frozen"], "one was left"
    asked.clear()
    weights["late"] = "3"
    evaluate_motion(models, clips=2, frequencies_hz=[2.0], out=out)
    assert [name for name, _ in asked] == ["late", "late"], "other weights, other rows"
    assert resumed == evaluate_motion(models, clips=2, frequencies_hz=[2.0])


def test_frequencies_that_frames_cannot_show_are_refused():
    with pytest.raises(InputError, match=r"13 Hz.*12\.5 Hz"):
        evaluate_motion(["truth"], frequencies_hz=[13.0])
    with pytest.raises(InputError, match="clips is 0"):
        evaluate_motion(["truth"], clips=0)


def test_the_command_writes_report_and_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hallo4.evaluation.suites.motion._Judge", _Quick)
    out = tmp_path / "motion.json"
    assert main(["evaluate", "motion", "--model", "truth", "--clips", "2", "-o", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [entry["gain"]["mean"] for entry in report["responses"]["truth"]["head"]] == [1.0] * 10
    assert out.with_suffix(".html").read_text().count("<polyline") == 2 * len(PARTS)
    shown = capsys.readouterr().out
    assert "delay, frames" in shown
    assert [shown.count(part) for part in PARTS] == [10, 10, 8], "the mouth moves no faster than 8 Hz"


class _Quick:
    def __init__(self, settings):
        pass

    def __call__(self, job):
        return [Row(job.clip, *job.stamps, facts={"response": [1.0, 0.0]})]


def test_a_mouth_that_never_opens_has_no_gain_and_no_delay():
    entry = _entry(2.0, [0j, 0j, 0j])
    assert (entry["gain"]["mean"], entry["gain"]["low"], entry["gain"]["high"]) == (0, 0, 0)
    assert (entry["delay_frames"]["mean"], entry["delay_frames"]["low"]) == (None, None)
    json.dumps(entry, allow_nan=False)
    late = cmath.exp(-0.5j)
    assert _entry(2.0, [late, late])["delay_frames"]["mean"] == pytest.approx(0.5 / (4 * math.pi) * 25)
