"""Every record is a line and back, and nothing that is wrong gets in."""

import json
from dataclasses import replace

import pytest
from preference_records import clip, condition, pair, rating

from hallo4.errors import InputError
from hallo4.preference import GoldAnswer, MachineScore, Pair, Rating

RECORDS = [
    condition(skeleton="conditions/c0/keypoints.json"),
    clip(motion_amplitude=None, settings={}),
    rating(clip_id="k0", value=3.5, flags={"k0": ("unsafe", "broken")}),
    rating(clip_id="k0", value="cannot_judge"),
    rating(value="tie", left_clip_id="k1"),
    rating(role="repeat", repeat_of="e1", simulated=True),
    GoldAnswer("k0", "k1", "fidelity", "tie"),
    MachineScore("k0", "alignment", 1.0, {"ssim": 0.7}, "world-truth", "1"),
    replace(pair("k0", "k1"), segment_labels=(1.0, -1.0, 0.0)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_one_line_and_back(record):
    line = record.to_json()
    assert "\n" not in line
    assert json.loads(line)["schema_version"] == 2
    assert type(record).from_json(line) == record


def wrong(record, **changes):
    """The line of a record with some values replaced; None removes one."""
    values = json.loads(record.to_json())
    for key, value in changes.items():
        values.pop(key, None) if value is ... else values.update({key: value})
    return type(record), json.dumps(values)


@pytest.mark.parametrize(
    ("kind_and_line", "said"),
    [
        (wrong(condition(), extra=1), "unknown key 'extra'"),
        (wrong(condition(), audio_id=...), "audio_id is missing"),
        (wrong(condition(), schema_version=3), "schema_version is 3; this hallo4 reads 1 and 2"),
        (wrong(condition(), schema_version=...), "schema_version is None"),
        (wrong(condition(), schema_version=True), "schema_version is True"),
        (wrong(condition(), condition_id="../c0"), "condition_id"),
        (wrong(condition(), condition_id="c0\n"), "condition_id"),
        (wrong(condition(), portrait="/etc/passwd"), "portrait: is not a plain path below the store"),
        (wrong(condition(), portrait="conditions/../../x"), "portrait: is not a plain path"),
        (wrong(condition(), portrait="C:\\x.png"), "portrait: is not a plain path"),
        (wrong(condition(), portrait="a//b"), "portrait: is not a plain path"),
        (wrong(clip(), frames=0), "frames"),
        (wrong(clip(), frames=80.0), "frames"),
        (wrong(clip(), frames="80"), "frames"),
        (wrong(clip(), fps=0), "fps"),
        (wrong(clip(), fps=float("nan")), "holds NaN"),
        (wrong(clip(), fps=float("inf")), "holds Infinity"),
        (wrong(clip(), sha256="0" * 63), "sha256"),
        (wrong(clip(), motion_amplitude=-1), "motion_amplitude"),
        (wrong(clip(), settings={"a": [1]}), "settings"),
        (wrong(clip(), consent=""), "consent"),
        (wrong(rating(), value="x"), "value"),
        (wrong(rating(clip_id="k0"), value=5.5), "value"),
        (wrong(rating(clip_id="k0"), value=0), "value"),
        (wrong(rating(), flags=["ugly"]), "flags"),
        (wrong(rating(), axis="two words"), "axis"),
        (wrong(rating(), shown_ms=-1), "shown_ms"),
        (wrong(rating(), simulated="yes"), "simulated"),
        (wrong(rating(), clip_id="k2"), "names clip_a and clip_b alone"),
        (wrong(rating(), clip_b="k0"), "two different clips"),
        (wrong(rating(), value=4), "the value of a comparison"),
        (wrong(rating(clip_id="k0"), value="tie"), "the value of a score"),
        (wrong(rating(clip_id="k0"), clip_a="k1"), "a score names clip_id alone"),
        (wrong(rating(), left_clip_id="k2"), "left_clip_id is one of the clips"),
        (wrong(rating(), repeat_of="e0"), "only it, has repeat_of"),
        (wrong(rating(), role="repeat"), "has repeat_of"),
        (wrong(pair("k0", "k1"), loser="k0"), "two different clips"),
        (wrong(pair("k0", "k1"), axes={"alignment": {"winner": 1.0}}), "has winner, loser, n and spread"),
        (wrong(pair("k0", "k1"), axes={}), "has winner, loser, n and spread"),
        (wrong(pair("k0", "k1"), weight=0), "weight"),
        (wrong(pair("k0", "k1"), segment_labels=[2.0]), "segment_labels"),
        ((Rating, "[1, 2]"), "a rating is a JSON object"),
        ((Rating, "{"), "not valid JSON"),
        ((Rating, "[" * 100_000), "nested more than 64 deep"),
        ((Pair, "null"), "found NoneType"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(kind_and_line, said):
    kind, line = kind_and_line
    with pytest.raises(InputError, match=said) as caught:
        kind.from_json(line)
    assert "\n" not in str(caught.value)


def test_a_record_that_could_not_be_read_back_is_not_written():
    with pytest.raises(InputError, match="frames"):
        replace(clip(), frames=-1).to_json()
    with pytest.raises(InputError, match="value"):
        rating(clip_id="k0", value=9.0).to_json()


def test_ratings_of_version_1_are_read_and_their_flags_are_of_both_clips():
    line = wrong(rating(), schema_version=1, flags=["unsafe"], question=...)[1]
    read = Rating.from_json(line)
    assert read.flags == {"k0": ("unsafe",), "k1": ("unsafe",)}
    assert (read.question, read.asked) == (None, "alignment")
    assert Rating.from_json(wrong(rating(), schema_version=1, flags=[], question=...)[1]).flags == {}


def test_flags_are_of_clips_that_were_shown():
    with pytest.raises(InputError, match="flags are of the clips that were shown"):
        rating(flags={"k7": ("unsafe",)})
