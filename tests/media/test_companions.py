"""Files that are named after an output: their names fit wherever the output's fits."""

import os
from pathlib import Path

import pytest

from hallo4.errors import OutputError
from hallo4.media import check_output
from hallo4.whole import companion


def test_short_names_are_kept():
    assert companion(Path("a/talk.v2.mp4"), "", ".partial.mp4") == Path("a/talk.v2.partial.mp4")
    assert companion(Path("a/talk.mp4"), ".", ".mp4.lock") == Path("a/.talk.mp4.lock")


@pytest.mark.parametrize("stem", ["x" * 251, "声" * 83, "é" * 125, "\udcff" * 251])
def test_names_of_any_legal_length_have_companions_that_can_be_made(tmp_path, stem):
    target = tmp_path / f"{stem}.mp4"
    (tmp_path / f"{stem}.mp4").touch()
    found = {
        companion(target, before, after) for before, after in ((".", ".mp4.partial"), ("", ".partial.mp4"))
    }
    assert len(found) == 2
    for path in found:
        assert len(os.fsencode(path.name)) <= 255
        path.touch()
    other = companion(tmp_path / f"{stem[:-1]}.mp4", ".", ".mp4.partial")
    assert other not in found, "another output has another work folder"


def test_a_name_too_long_says_how_long_it_may_be(tmp_path):
    check_output(tmp_path / ("x" * 251 + ".mp4"))
    with pytest.raises(OutputError, match="the file name is too long: 256 bytes, 255 are allowed there"):
        check_output(tmp_path / ("x" * 252 + ".mp4"))
