"""`hallo4 weights check` runs SyncNet on its authors' film: published scores pass, other weights do not."""

from types import SimpleNamespace

import numpy as np
import pytest

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.evaluation.look import golden
from hallo4.evaluation.look.golden import CONFIDENCE, DISTANCE, EXAMPLE, OFFSET_FRAMES, syncnet_on_example
from hallo4.sync.score import SyncScore
from hallo4.weights.catalogue import FILES


@pytest.fixture
def place(tmp_path):
    (tmp_path / FILES["syncnet"].path).write_bytes(b"weights")
    (tmp_path / EXAMPLE).write_bytes(b"film")
    return tmp_path


def says(monkeypatch, offset=OFFSET_FRAMES, distance=DISTANCE, confidence=CONFIDENCE, sync=True):
    score = SyncScore(distance, confidence, offset, confidence, np.zeros(31)) if sync else None
    look = SimpleNamespace(sync=score, skeleton=None, notes=(), problems=())
    monkeypatch.setattr(golden, "look_at", lambda film, tools: (look, None))
    monkeypatch.setattr(golden, "load_syncnet", lambda folder: None)


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ({}, True),
        ({"distance": DISTANCE + 0.3, "confidence": CONFIDENCE - 0.9}, True),
        ({"offset": 2}, False),
        ({"distance": 8.0}, False),
        ({"confidence": 1.0}, False),
    ],
)
def test_what_is_published_is_near_and_other_weights_are_refused(place, monkeypatch, capsys, said, near):
    says(monkeypatch, **said)
    assert syncnet_on_example(place).near is near
    assert main(["weights", "check", str(place)]) == 2, "the other files of the bundle are not there"
    error = capsys.readouterr().err
    assert f"published: {OFFSET_FRAMES}, {DISTANCE}, {CONFIDENCE}" in error
    assert ("other weights" in error) is not near


def test_a_film_without_a_face_and_none_at_all_are_said(place, monkeypatch, capsys):
    says(monkeypatch, sync=False)
    with pytest.raises(InputError, match="SyncNet was not measured"):
        syncnet_on_example(place)
    (place / EXAMPLE).unlink()
    main(["weights", "check", str(place)])
    assert f"SyncNet was not run: {EXAMPLE}" in capsys.readouterr().err
