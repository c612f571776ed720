"""Options of every command: numbers have ranges, and mistakes in the words are one line that names them."""

import dataclasses
import importlib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from tyro.conf import Positional

from hallo4.cli import main, options
from hallo4.cli.front_door import COMMANDS
from hallo4.ranges import Range


class Found(Exception):
    """What a command would have parsed its words into."""


def commands() -> Iterator[tuple[str, type]]:
    """("prefer score", its options) of every command, as given to the one parser of words."""
    for name, (module, _) in COMMANDS.items():
        place = importlib.import_module(module)

        def parse(kinds: Any, *_: Any, **__: Any) -> None:
            raise Found(kinds)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, "parse", parse)
            with pytest.raises(Found) as caught:
                place.run([])
        kinds = caught.value.args[0]
        named = kinds if isinstance(kinds, dict) else {"": kinds}
        yield from ((f"{name} {word}".strip(), kind) for word, kind in named.items())


def word_of(field: str, hint: Any) -> str:
    own = (getattr(part, "name", None) for part in getattr(hint, "__metadata__", ()))
    return "--" + next(filter(None, own), field.replace("_", "-"))


def is_positional(hint: Any) -> bool:
    return any(part in Positional[int].__metadata__ for part in getattr(hint, "__metadata__", ()))


def bare(hint: Any) -> Any:
    return hint.__origin__ if get_origin(hint) is Annotated else hint


def numbers(hint: Any, ranged: bool = False) -> Iterator[bool]:
    """For every number in a type, whether it has a range."""
    if get_origin(hint) is Annotated:
        ranged = ranged or any(isinstance(part, Range) for part in hint.__metadata__)
        yield from numbers(hint.__origin__, ranged)
    elif hint in (int, float):
        yield ranged
    elif get_origin(hint) is not Literal:
        for part in get_args(hint):
            yield from numbers(part, ranged)


OPTIONS = {
    (command, word_of(field.name, hints[field.name])): hints[field.name]
    for command, kind in commands()
    for hints in [get_type_hints(kind, include_extras=True)]
    for field in dataclasses.fields(kind)
    if not is_positional(hints[field.name])
}
NUMBERS = [key for key, hint in OPTIONS.items() if list(numbers(hint))]
WITH_VALUE = [key for key, hint in OPTIONS.items() if bare(hint) is not bool]
CHOICES = [key for key, hint in OPTIONS.items() if get_origin(bare(hint)) is Literal]


def needed(command: str) -> list[str]:
    """Words without which a command is not understood."""
    kind = dict(commands())[command]
    hints, words = get_type_hints(kind, include_extras=True), []
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            hint = hints[field.name]
            words += ["x"] if is_positional(hint) else [word_of(field.name, hint), "y"]
    return words


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """A command whose words are understood ends there."""

    def parse(*given: Any, **named: Any) -> None:
        raise Found(options.parse(*given, **named))

    for module, _ in COMMANDS.values():
        monkeypatch.setattr(importlib.import_module(module), "parse", parse)


def refused(words: list[str], capsys) -> str:
    """What is said of words that are not understood."""
    assert main(words) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith("hallo4: error: ")
    assert len(said.splitlines()) == 1
    return said


def test_the_walk_finds_the_options():
    assert len(NUMBERS) > 50
    assert ("prefer candidates", "--guidance-scale") in NUMBERS
    assert ("data prepare", "--hands") in CHOICES


@pytest.mark.parametrize("option", NUMBERS, ids=" ".join)
def test_every_number_has_a_range(option):
    assert all(numbers(OPTIONS[option])), "give it a type of hallo4.ranges"


@pytest.mark.parametrize("option", NUMBERS, ids=" ".join)
def test_numbers_outside_of_it_are_one_line(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, word = option
    parts = get_args(bare(OPTIONS[option]))
    count = len(parts) if get_origin(bare(OPTIONS[option])) is tuple and ... not in parts else 1
    for number in ("nan", "-1e30", "-99999999999999999999", "many"):
        said = refused([*command.split(), *needed(command), word, *[number] * count], capsys)
        assert word in said, number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", CHOICES, ids=" ".join)
def test_a_wrong_choice_is_one_line(option, capsys):
    command, word = option
    said = refused([*command.split(), *needed(command), word, "purple"], capsys)
    assert word in said
    assert "purple" in said


@pytest.mark.parametrize("command", dict(commands()))
def test_words_that_no_command_has_are_one_line(command, capsys):
    said = refused([*command.split(), *needed(command), "--purple", "1"], capsys)
    assert "--purple" in said


def test_words_in_the_wrong_place_are_named_with_the_commands_there_are(capsys):
    said = refused(["world", "here", "--seed", "1"], capsys)
    assert "options: here --seed 1. Available subcommands: episode. Perhaps you meant: --seed N" in said


@pytest.mark.parametrize("option", WITH_VALUE, ids=" ".join)
def test_an_option_without_its_value_is_one_line(option, capsys):
    command, word = option
    assert word in refused([*command.split(), *needed(command), word], capsys)


@pytest.mark.parametrize("command", [command for command, _ in commands() if needed(command)])
def test_a_command_without_what_it_needs_is_one_line(command, capsys):
    assert re.search("required|at least one", refused(command.split(), capsys))
