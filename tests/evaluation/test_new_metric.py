"""The code of docs/new_metric.md runs, and the metric that it adds is measured like any other."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS, clip_values

PAGE = Path(__file__).parents[2] / "docs/new_metric.md"


def test_the_metric_of_the_page_is_measured(monkeypatch):
    monkeypatch.setitem(VIDEO_METRICS, "top_speed", None)  # what the page adds is gone after the test
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(compile(code, PAGE.name, "exec"), {})
    metric = VIDEO_METRICS["top_speed"]
    monkeypatch.setattr("hallo4.evaluation.suites.video_metrics.VIDEO_METRICS", {"top_speed": metric})
    video = SimpleNamespace(speed=np.stack([np.arange(101.0)] * 3, axis=1))
    pair = SimpleNamespace(video=video, reference=video)
    assert clip_values(pair) == {"top_speed": pytest.approx(95)}
    assert np.isnan(metric.of(SimpleNamespace(video=SimpleNamespace(speed=np.zeros((0, 3))))))
    assert metric.as_json()["better"] == "near the reference"
