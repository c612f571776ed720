"""A store of records without media."""

import pytest
from preference_records import clip, condition

from hallo4.preference import PreferenceStore


@pytest.fixture
def store(tmp_path):
    """One condition, three clips."""
    made = PreferenceStore.create(tmp_path / "store")
    made.add_condition(condition())
    for name in ("k0", "k1", "k2"):
        made.add_clip(clip(name))
    return made
