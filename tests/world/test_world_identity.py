"""People: one for each seed, of known parts."""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest

from hallo4.world import sample_identity
from hallo4.world.identity import BACKGROUNDS, BEARDS, CLOTHES, GLASSES, HAIR_STYLES, LANGUAGES, mix
from hallo4.world.words import WORDS


@pytest.fixture(scope="module")
def crowd():
    return [sample_identity(seed) for seed in range(500)]


def test_the_same_seed_is_the_same_person_and_another_seed_another(crowd):
    assert [sample_identity(seed) for seed in range(20)] == crowd[:20]
    assert len({json.dumps(asdict(person)) for person in crowd}) == len(crowd)


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("hair_style", HAIR_STYLES),
        ("clothes", CLOTHES),
        ("beard", BEARDS),
        ("glasses", GLASSES),
        ("background", BACKGROUNDS),
        ("language", LANGUAGES),
    ],
)
def test_every_option_occurs_and_nothing_else(crowd, part, options):
    assert {getattr(person, part) for person in crowd} == set(options)


def test_colours_are_bytes_and_shapes_are_near_an_average_face(crowd):
    for person in crowd:
        for name, value in asdict(person).items():
            if isinstance(value, tuple):
                assert len(value) == 3, name
                assert all(isinstance(c, int) and 0 <= c <= 255 for c in value), name
            elif isinstance(value, float) and name != "eye_tilt":
                assert 0.6 < value < 1.4, name
    for name in (f.name for f in fields(crowd[0]) if f.type == "float"):
        assert np.std([getattr(person, name) for person in crowd]) > 0.02, name


def test_voices_speak_the_language_of_the_person(crowd):
    assert set(WORDS) == set(LANGUAGES)
    for person in crowd:
        language, _, variant = person.voice.name.partition("+")
        assert language == person.language
        assert variant
        assert 0 <= person.voice.pitch <= 100
        assert 100 <= person.voice.words_per_minute <= 220


def test_skins_and_hair_are_many(crowd):
    brightness = np.array([sum(person.skin) / 3 for person in crowd])
    assert brightness.min() < 90
    assert brightness.max() > 200
    assert len({person.hair for person in crowd}) > 200


def test_mix_goes_from_one_colour_to_the_other():
    assert mix((10, 20, 30), (110, 220, 30), 0.0) == (10, 20, 30)
    assert mix((10, 20, 30), (110, 220, 30), 1.0) == (110, 220, 30)
    assert mix((10, 20, 30), (110, 220, 30), 0.5) == (60, 120, 30)
