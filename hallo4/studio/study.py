"""What a study asks, of whom, how much and under which terms: `study.toml`, read strictly.

::

    version, mode, languages     heading and lead of the page, in every language
    [[questions]]                name, the axis that it is about, its words    [scale] of all of them
    [[rubric]]                   what to look for
    [consent]                    organiser, contact, retention, version: who does not agree does not rate
    [quotas] [checks]            how much of whom; gold, repeats, practice, sound check, stopping
    [end] [platform]             completion code and redirect; parameters of a recruiting platform

A text is a string, or a table with one string per language.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import ConfigDict, Field

from hallo4.errors import InputError
from hallo4.input_file import read_input, shown
from hallo4.json_file import checked
from hallo4.preference.schema import HIGHEST, LOWEST, Name, Words
from hallo4.ranges import Episodes, Range, Raters, Share, Whole

MAX_BYTES = 1 << 20
ADVICE = "See docs/run_a_study.md."
Mode = Literal["comparison", "score"]
"""Two clips side by side, or one clip on a scale."""
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")]
Sentence = Annotated[str, Field(min_length=1, max_length=4000)]
Text = Sentence | dict[Language, Sentence]
Parameter = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
ScalePoints = Annotated[int, Range(2, 9)]
Every = Annotated[int, Range(4, 1000)]


@dataclass(frozen=True)
class _Strict:
    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class StudyQuestion(_Strict):
    """One thing that is asked of every question's clips; `axis`: what the answer counts for."""

    name: Name
    axis: Name
    title: Text
    hint: Text | None = None
    lowest: Text | None = None
    highest: Text | None = None


@dataclass(frozen=True)
class Scale(_Strict):
    """`points` of a score; whether a tie, and passing, are answers."""

    points: ScalePoints = 5
    ties: bool = True
    cannot_judge: bool = True


@dataclass(frozen=True)
class Section(_Strict):
    """A part of the rubric."""

    title: Text
    text: Text


@dataclass(frozen=True)
class Consent(_Strict):
    """What a rater agrees to. `text`: paragraphs of the organiser's own, after those of the page."""

    organiser: Text
    contact: Text
    retention: Text
    version: Words
    text: tuple[Text, ...] = ()


@dataclass(frozen=True)
class Quotas(_Strict):
    """How many raters a question gets (`overlap_raters` for a share `overlap` of them, if that is more), how
    many questions a rater (None: as many as there are), and how many raters may join."""

    per_question: Raters = 3
    overlap: Share = 0.0
    overlap_raters: Raters = 3
    per_rater: Episodes | None = None
    raters: Raters = 200


@dataclass(frozen=True)
class Checks(_Strict):
    """One gold question in `gold_every` questions, one repeat in `repeat_every` (None: none); `practice`
    questions with a known answer, shown afterwards; a rater is stopped whose share of right gold answers is
    below `stop_below` once there are `stop_after`."""

    gold_every: Every | None = 20
    repeat_every: Every | None = 20
    practice: Whole = 0
    stop_below: Share | None = None
    stop_after: Raters = 4
    sound_check: bool = False


@dataclass(frozen=True)
class End(_Strict):
    """What a rater gets who is done. `code` None: a code of their own. `redirect` may hold {code} and the
    platform's parameters, as in https://app.example/complete?cc={code}."""

    code: Code | None = None
    stopped_code: Code | None = None
    redirect: str | None = None
    text: Text | None = None


@dataclass(frozen=True)
class Platform(_Strict):
    """Parameters that a recruiting platform puts into the link, kept apart from answers. `participant`: the
    one that names a person, who takes part once; with it the server draws the pseudonym."""

    parameters: tuple[Parameter, ...] = ()
    participant: Parameter | None = None


@dataclass(frozen=True)
class Study(_Strict):
    """A whole study."""

    version: Words
    heading: Text
    lead: Text
    questions: Annotated[tuple[StudyQuestion, ...], Field(min_length=1, max_length=12)]
    consent: Consent
    mode: Mode = "comparison"
    languages: Annotated[tuple[Language, ...], Field(min_length=1, max_length=20)] = ("en",)
    scale: Scale = Scale()
    rubric: tuple[Section, ...] = ()
    quotas: Quotas = Quotas()
    checks: Checks = Checks()
    end: End = End()
    platform: Platform = Platform()
    words: dict[Language, dict[str, str]] = field(default_factory=dict)

    @property
    def stamp(self) -> str:
        """The version and a digest of the content, for the record of who agreed to what."""
        content = json.dumps(asdict(self), sort_keys=True)
        return f"{self.version} {sha256(content.encode()).hexdigest()[:12]}"

    def axis_of(self, question: str) -> str | None:
        """What an answer to it counts for; None: there is no such question."""
        return next((own.axis for own in self.questions if own.name == question), None)

    def value_of(self, points: int) -> float:
        """A score of 1 to `scale.points` on the scale of ratings, 1 to 5."""
        return LOWEST + (HIGHEST - LOWEST) * (points - 1) / (self.scale.points - 1)


def default_study() -> Study:
    """Two questions, one about each axis, of two clips side by side; three raters each."""
    text = resources.files("hallo4.studio").joinpath("studies/default.toml").read_text(encoding="utf-8")
    return parse_study(text, "default.toml")


def read_study(path: Path) -> Study:
    """The study of a file. InputError, in one line: what is wrong with it."""
    content = read_input(path, MAX_BYTES, "a study file", advice=ADVICE)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)}: is not text in UTF-8. {ADVICE}") from error
    return parse_study(text, shown(path))


def parse_study(text: str, name: str) -> Study:
    """The study of a text in TOML; `name` stands in messages. InputError as `read_study`."""
    try:
        found = tomllib.loads(text)
        json.dumps(found)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{name}: is not TOML ({error}). {ADVICE}") from error
    except TypeError as error:
        raise InputError(f"{name}: holds a date or time; write it as text, in quotes. {ADVICE}") from error
    study = checked(found, Study, name, advice=ADVICE)
    wrong = next(_contradictions(study), None)
    if wrong:
        raise InputError(f"{name}: {wrong}. {ADVICE}")
    return study


def in_language(text: Text | None, language: str) -> str:
    """A text of the study in one of its languages; "" for None."""
    return (text or "") if isinstance(text, str | None) else text[language]


def redirect_of(study: Study, code: str, participant: Mapping[str, str]) -> str | None:
    """Where the rater goes at the end, with code and parameters in their places."""
    if study.end.redirect is None:
        return None
    values = {"code": code} | {name: participant.get(name, "") for name in study.platform.parameters}
    return re.sub(r"\{([^{}]*)\}", lambda found: quote(values[found[1]], safe=""), study.end.redirect)


def _contradictions(study: Study) -> Iterator[str]:
    """What no single field shows."""
    names = [question.name for question in study.questions]
    for name in names:
        if names.count(name) > 1:
            yield f"two questions are called {name}"
    axes = [question.axis for question in study.questions]
    for question in study.questions:
        if question.name in axes and question.name != question.axis:
            yield f"question {question.name} has the name of an axis and is about another"
    for place, text in _texts(study):
        missing = [language for language in study.languages if language not in text]
        if missing:
            yield f"{place}: has no text in {missing[0]}, one of the languages of the study"
    if study.checks.practice and study.mode == "score":
        yield 'checks.practice: practice questions compare two clips; with mode "score" it must be 0'
    participant = study.platform.participant
    if participant is not None and participant not in study.platform.parameters:
        yield f"platform.participant: {participant} is not among platform.parameters"
    yield from _wrong_redirect(study)


def _wrong_redirect(study: Study) -> Iterator[str]:
    redirect = study.end.redirect
    if redirect is None:
        return
    parts = urlsplit(redirect)
    if parts.scheme not in ("https", "http") or not parts.netloc or re.search(r"[\s\\<>\"]", redirect):
        yield "end.redirect: is not an address that begins with https://"
    if "{" in parts.netloc or "@" in parts.netloc:
        yield "end.redirect: its host must be plain"
    for place in re.findall(r"\{([^{}]*)\}", redirect):
        if place not in ("code", *study.platform.parameters):
            yield f"end.redirect: {{{place}}} is neither {{code}} nor one of platform.parameters"


def _texts(record: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, str]]]:
    """Every text that is given per language, with its place."""
    for own in fields(record):
        value, here = getattr(record, own.name), f"{place}{own.name}"
        if own.name == "words" or value is None:
            continue
        if is_dataclass(value):
            yield from _texts(value, f"{here}.")
        elif isinstance(value, dict):
            yield here, value
        elif isinstance(value, tuple):
            for at, item in enumerate(value):
                if is_dataclass(item):
                    yield from _texts(item, f"{here}.{at}.")
                elif isinstance(item, dict):
                    yield f"{here}.{at}", item
