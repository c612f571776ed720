"""Files are opened in one way, JSON is read by one reader, and numbers carry their ranges."""

import json
import math
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import check_regular, open_input, read_input
from hallo4.json_file import MAX_DEPTH, parse_json, read_json, read_json_lines
from hallo4.ranges import Positive, Range, Seed, Share, Steps, check_ranges


def make(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "terminal":
        path.symlink_to("/dev/tty")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # names of sockets are short
            server.bind(path.name)
            os.chdir(here)
    return path


KINDS = ("pipe", "loop", "endless", "terminal", "folder", "socket", "nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_at_once(kind, tmp_path):
    path = make(kind, tmp_path / "thing")
    begun = time.monotonic()
    for read in (open_input, check_regular, lambda p: read_input(p, 10), read_json):
        with pytest.raises(InputError, match=r"thing: [^\n]*\.$"):
            read(path)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "b\udcff" * 2])
def test_names_that_cannot_be_are_one_line(name, tmp_path):
    with pytest.raises(InputError) as caught:
        open_input(tmp_path / name)
    assert str(caught.value).isprintable()


def test_no_more_is_read_than_allowed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 11)
    assert read_input(path, 11) == b"x" * 11
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read_input(path, 10)


def nested(depth, opening="[", closing="]"):
    return (opening * depth + closing * depth).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (nested(MAX_DEPTH + 1), "nested more than 64 deep"),
        (nested(100_000), "nested more than 64 deep"),
        (nested(100_000, '{"a":', "}"), "nested more than 64 deep"),
        (b'["\\"' + b"[" * 100 + b'", ' + nested(70) + b"]", "nested more than 64 deep"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b"[1, 2", "not valid JSON at line 1 column 6"),
        (b"", "not valid JSON at line 1 column 1"),
        (b"\xff\xfe[\0", "not text in UTF-8"),
        (b"[NaN]", "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b"[1e999]", "no number that can be used"),
        (b"[" + b"7" * 250 + b"e99]", "no number that can be used"),
        (b"[" + b"9" * 5000 + b"]", "no number that can be used"),
        (b'{"a": 1, "b": 2, "a": 3}', '"a" stands twice'),
    ],
)
def test_json_that_is_no_json_is_one_line(content, said):
    with pytest.raises(CheckpointError) as caught:
        parse_json(content, "a.json", error=CheckpointError, advice="Mend it.")
    line = str(caught.value)
    assert line.startswith("a.json: ")
    assert said in line
    assert line.endswith("Mend it.")
    assert "\n" not in line
    assert len(line) < 300


@pytest.mark.parametrize(
    "value", [[], {}, None, 0.5, 'a\\"[{', 10**18, 1e308, -1e-320, ["[" * 200, '"'], {"a": [{}]}]
)
def test_what_json_writes_is_read_back(value):
    assert parse_json(json.dumps(value).encode(), "a") == value
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value).encode(), "a") == value
    assert parse_json(json.dumps(value, ensure_ascii=False), "a") == value
    assert parse_json(nested(MAX_DEPTH), "a")


def test_a_text_full_of_quotes_takes_no_longer_than_its_length():
    begun = time.monotonic()
    for content in (b'["' + b'\\"' * 2_000_000, b"[" * 65 + b'"' * 2_000_001):
        with pytest.raises(InputError):
            parse_json(content, "a")
    assert time.monotonic() - begun < 10


@dataclass(frozen=True)
class Settings:
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    steps: Steps
    shares: tuple[Share, ...] = ()
    rate: Positive | None = None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"steps": 0}, "steps: must be 1 to 10 000; found 0"),
        ({"steps": 10**9}, "steps: must be 1 to 10 000"),
        ({"steps": True}, "steps: should be a valid integer; found true"),
        ({"steps": "16"}, 'steps: should be a valid integer; found "16"'),
        ({"steps": 16, "shares": [0, 1, 1.5]}, "shares.2: must be 0 to 1; found 1.5"),
        ({"steps": 16, "shares": 1}, "shares: should be a valid array; found 1"),
        ({"steps": 16, "rate": 0}, "rate: must be above 0; found 0"),
        ({"steps": 16, "rte": 1}, "unknown key 'rte'"),
        ({}, "steps is missing"),
        ([], "holds a list, not a JSON object"),
        (None, "holds null, not a JSON object"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_field(tmp_path, value, said):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError) as caught:
        read_json(path, Settings)
    assert f"a.json: {said}" in str(caught.value)


def test_what_fits_is_the_record(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"steps": 10000, "shares": [0, 0.5, 1], "rate": 3}')
    assert read_json(path, Settings) == Settings(10_000, (0, 0.5, 1), 3.0)


def test_lines_cut_by_a_kill_are_left_out_and_others_are_checked(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": 2\n{"a": 3}\n{"a"')
    assert list(read_json_lines(path, dict[str, Any])) == [{"a": 1}, {"a": 3}]
    path.write_bytes(b'{"a": 1}\n7\n')
    with pytest.raises(InputError, match=r"rows.jsonl line 2: holds 7, not a JSON object"):
        list(read_json_lines(path, dict[str, Any]))


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "said"),
    [
        (Range(1, 3), (1, 2.5, 3), (0, 4, math.nan, math.inf, 10**400), "1 to 3"),
        (Range(0, above=True), (1e-9, 1e300), (0, -1, math.nan, math.inf), "above 0"),
        (Range(0), (0, 5), (-1e-9, math.inf), "at least 0"),
        (Range(0, 2, above=True), (2,), (0, 2.1), "above 0, up to 2"),
    ],
)
def test_a_range_holds_what_it_says(allowed, inside, outside, said):
    assert str(allowed) == said
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)


def test_ranges_are_checked_alike_in_records_and_by_pydantic():
    for record, name in (
        (Settings(0), "steps"),
        (Settings(1, (0.5, 2.0)), "shares"),
        (Settings(1, (), -1), "rate"),
    ):
        with pytest.raises(InputError, match=f"--{name} is .*; it must be "):
            check_ranges(record, lambda field: f"--{field}")
    check_ranges(Settings(1, (0.0, 1.0), None))
    for wrong in (-1, 2**60, "nan"):
        with pytest.raises(ValidationError):
            TypeAdapter(Seed).validate_python(wrong)
