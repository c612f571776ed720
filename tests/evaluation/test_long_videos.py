"""Drift: parts of a clip are what they are on their own, and what fades is found, in every part."""

import json
from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the world is needed: pip install 'hallo4[world]'")

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.evaluation import evaluate_drift
from hallo4.evaluation.look.instrument import load_observer, measure
from hallo4.evaluation.report import Row
from hallo4.evaluation.suites import generators
from hallo4.evaluation.suites.drift import DRIFTING, part_of, part_values
from hallo4.evaluation.suites.world_metrics import clip_values, make_clip
from hallo4.world import make_episode


@pytest.fixture(scope="module")
def clip():
    """Four seconds as they are rendered, beside themselves one frame late."""
    episode = make_episode(5_000_003, 4.0)
    late = np.roll(episode.frames_u8, 1, axis=0)
    observer = load_observer()
    return make_clip(episode, late, measure(observer, late), measure(observer, episode.frames_u8))


def test_a_part_has_all_that_is_known_about_its_frames(clip):
    span = slice(25, 75)
    part = part_of(clip, span)
    for field in fields(part):
        whole, cut = getattr(clip, field.name), getattr(part, field.name)
        for inner in fields(cut) if hasattr(cut, "__dataclass_fields__") else (None,):
            of_whole, of_part = (
                (whole, cut) if inner is None else (getattr(c, inner.name) for c in (whole, cut))
            )
            assert np.array_equal(of_part, of_whole[span], equal_nan=True), field.name


def test_values_of_a_part_are_those_of_the_part_as_a_clip(clip):
    values = part_values(clip, 50)
    assert {len(row) for row in values.values()} == {2}, "two whole parts; a rest would be left out"
    second = clip_values(part_of(clip, slice(50, 100)))
    assert {name: row[1] for name, row in values.items()} == {name: second[name] for name in DRIFTING}


class _Fading:
    """Rendered frames that lose a twentieth of their contrast every second."""

    def __call__(self, episode, seed):
        kept = 1 - 0.05 * np.arange(len(episode.frames_u8)) / 25
        faded = 128 + (episode.frames_u8 - 128.0) * kept[:, None, None, None]
        return faded.round().astype(np.uint8)


def test_truth_does_not_drift_and_what_fades_does(monkeypatch, tmp_path):
    real = generators.load_generator
    monkeypatch.setattr(generators, "load_generator", lambda n: _Fading() if n == "fading" else real(n))
    monkeypatch.setattr(generators, "frame_size_px", lambda name: 128)
    monkeypatch.setattr(generators, "world_of", lambda models: "drawn-1")
    monkeypatch.setattr(generators, "weights_digest", lambda name: name)
    out = tmp_path / "drift.json"
    report = evaluate_drift(["truth", "fading"], clips=2, seconds=16.0, out=out)
    assert json.loads(out.read_text()) == report
    assert out.with_suffix(".html").read_text().count("<polyline") == 2 * len(DRIFTING)
    for name in ("ssim", "colour_overlap", "sharpness_ratio"):
        assert [entry["mean"] for entry in report["curves"]["truth"][name]] == [pytest.approx(1.0)] * 3
        assert report["drift"]["truth"][name]["per_minute"]["mean"] == pytest.approx(0.0, abs=1e-9)
        assert report["drift"]["fading"][name]["last_minus_first"]["high"] < 0
    # squared contrast: (1 - t/20)^2, meaned over five seconds, twelve parts a minute
    means = [np.mean((1 - 0.05 * np.arange(first, first + 125) / 25) ** 2) for first in (0, 125, 250)]
    sharpness = report["curves"]["fading"]["sharpness_ratio"]
    assert [entry["mean"] for entry in sharpness] == pytest.approx(means, rel=0.03)
    beyond = report["beyond"]
    assert beyond.keys() == {"fading"}, "the truth is a ceiling itself"
    assert beyond["fading"]["of"] == "truth"
    own = report["drift"]["fading"]["sharpness_ratio"]["last_minus_first"]
    assert beyond["fading"]["last_minus_first"]["sharpness_ratio"] == pytest.approx(own), "the truth stays 1"
    slope = report["drift"]["fading"]["sharpness_ratio"]["per_minute"]["mean"]
    assert slope == pytest.approx(12 * (means[2] - means[0]) / 2, rel=0.06)
    assert [entry["start_s"] for entry in sharpness] == [0.0, 5.0, 10.0]


def test_a_model_is_compared_with_its_own_autoencoder_clip_by_clip(monkeypatch):
    steps = {"truth": (0.0, 0.0), "autoencoder:a": (0.1, -0.3), "a": (0.3, -0.1), "b": (0.2, 0.4)}

    class Judge:
        def __init__(self, settings):
            self.names = settings[0]

        def __call__(self, job):
            (system,) = job.stamps
            curve = [0.5, None, 0.5 + steps[self.names[system]][int(job.item)]]
            return [Row(job.clip, system, curves=dict.fromkeys(DRIFTING, curve))]

    monkeypatch.setattr("hallo4.evaluation.suites.drift._Judge", Judge)
    monkeypatch.setattr(generators, "world_of", lambda models: "drawn-1")
    monkeypatch.setattr(generators, "weights_digest", lambda name: name)
    found = evaluate_drift(["x=truth", "autoencoder:a", "mine=a", "b"], clips=2)["beyond"]
    assert {name: of["of"] for name, of in found.items()} == {"mine": "autoencoder:a", "b": "x"}
    assert found["mine"]["last_minus_first"]["ssim"]["mean"] == pytest.approx(0.2)
    assert found["mine"]["last_minus_first"]["ssim"]["low"] == pytest.approx(0.2), "alike in both clips"
    assert found["b"]["last_minus_first"]["ssim"]["mean"] == pytest.approx(0.3)
    assert evaluate_drift(["a", "b"], clips=2)["beyond"] == {}


def test_impossible_lengths_and_numbers_are_refused():
    with pytest.raises(InputError, match=r"15\.0 to 600\.0"):
        evaluate_drift(["truth"], seconds=14.0)
    with pytest.raises(InputError, match="clips is 0"):
        evaluate_drift(["truth"], clips=0)


def test_the_command_prints_first_last_and_slope(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hallo4.evaluation.suites.drift._Judge", _Falling)
    out = tmp_path / "drift.json"
    assert (
        main(["evaluate", "drift", "--model", "truth", "--clips", "2", "--seconds", "15", "-o", str(out)])
        == 0
    )
    shown = capsys.readouterr().out
    assert "last minus first" in shown
    assert shown.splitlines()[-1] == str(out)
    assert json.loads(out.read_text())["drift"]["truth"]["ssim"]["per_minute"]["mean"] == pytest.approx(-1.2)


class _Falling:
    def __init__(self, settings):
        pass

    def __call__(self, job):
        return [Row(job.clip, *job.stamps, curves={name: [0.9, 0.8, 0.7] for name in DRIFTING})]
