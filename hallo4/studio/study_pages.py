"""The pages of a study in its languages: templates with autoescape, filled once at the start.

::

    study + words/<language>.toml --templates/rate.html--> one page per language
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from hallo4.errors import InputError
from hallo4.studio.sound import FEWEST, MOST
from hallo4.studio.study import ADVICE, Study, in_language


def words_of(study: Study, language: str) -> dict[str, str]:
    """The words of the page in a language: those that come with the package, and the study's own.

    InputError: a language without words, words that are missing, or ones that the page does not know.
    """
    known, own = _built_in("en"), study.words.get(language, {})
    strange = next((word for word in own if word not in known), None)
    if strange is not None:
        raise InputError(f"words.{language}: the page has no word {strange!r}. {ADVICE}")
    found = {**_built_in(language), **own}
    lacking = next((word for word in known if word not in found), None)
    if lacking is not None:
        raise InputError(f"words.{language}: {lacking} is missing, and all {len(known)} are needed. {ADVICE}")
    return found


def fill(text: str, **values: object) -> str:
    """A word of the page with values in the places of their {names}."""
    return re.sub(r"\{(\w+)\}", lambda place: str(values.get(place[1], place[0])), text)


def rating_pages(study: Study) -> dict[str, bytes]:
    """Language -> the raters' page. InputError: see `words_of`."""
    words = {language: words_of(study, language) for language in study.languages}
    names = [(language, words[language]["language"]) for language in study.languages]
    template = _template("rate.html")
    return {
        language: template.render(**_values(study, language, words[language]), languages=names).encode()
        for language in study.languages
    }


def organiser_page(study: Study) -> bytes:
    """The page with progress and downloads."""
    values = {
        "language": "en",
        "page_title": "Rating progress",
        "heading": in_language(study.heading, study.languages[0]),
        "version": study.version,
    }
    return _template("admin.html").render(**values).encode()


def chosen_language(study: Study, asked: str, accepted: str) -> str:
    """The language of a page: the one asked for, else the first acceptable one (`Accept-Language`), else the
    study's first."""
    wanted = [asked, *(part.partition(";")[0].strip() for part in accepted[:500].split(","))]
    for tag in wanted:
        for language in study.languages:
            if tag.lower() in (language.lower(), language.lower().partition("-")[0]):
                return language
        for language in study.languages:
            if tag and tag.lower().partition("-")[0] == language.lower():
                return language
    return study.languages[0]


def _values(study: Study, language: str, words: dict[str, str]) -> dict[str, Any]:
    def said(text: Any) -> str:
        return in_language(text, language)

    consent, platform = study.consent, study.platform
    questions = [
        {
            "name": question.name,
            "title": said(question.title),
            "hint": said(question.hint),
            "lowest": said(question.lowest),
            "highest": said(question.highest),
        }
        for question in study.questions
    ]
    parameters = ", ".join(platform.parameters)
    return {
        "language": language,
        "words": words,
        "page_title": words["title" if study.mode == "comparison" else "title_score"],
        "heading": said(study.heading),
        "lead": said(study.lead),
        "questions": questions,
        "points": study.scale.points,
        "counts": range(FEWEST, MOST + 1),
        "rubric": [{"title": said(part.title), "text": said(part.text)} for part in study.rubric],
        "key_rows": _key_rows(study, words, [question["title"] for question in questions]),
        "who": fill(words["who"], organiser=said(consent.organiser), contact=said(consent.contact)),
        "consent_platform": parameters and fill(words["consent_platform"], parameters=parameters),
        "consent_kept": fill(words["consent_kept"], retention=said(consent.retention)),
        "consent_text": [said(paragraph) for paragraph in consent.text],
        "consent_version": fill(words["consent_version"], version=consent.version),
        "drawn": platform.participant is not None,
        "thanks": said(study.end.text),
        "page": {
            "words": words,
            "language": language,
            "questions": [{"name": q["name"], "title": q["title"]} for q in questions],
            "scale": vars(study.scale),
            "parameters": platform.parameters,
            "drawn": platform.participant is not None,
        },
    }


def _key_rows(study: Study, words: Mapping[str, str], titles: list[str]) -> list[tuple[str, str]]:
    """(keys, what they do): rows of the guide."""
    answers = "1234" if study.mode == "comparison" else "123456789"[: study.scale.points]
    letters = "QWERTYUIO"[: len(answers)]
    if len(titles) > 2:
        rows = [(answers, words["keys_marked"])]
    else:
        rows = list(zip((answers, letters), titles, strict=False))
    return [
        *rows,
        (("Enter",), words["keys_next"]),
        ("Z", words["keys_undo"]),
        (("Space",), words["keys_play"]),
        ("←→", words["keys_frames"]),
        ("SLMV", words["keys_more"]),
        ("AB", words["keys_side"]),
        ("UKI", words["keys_flags"]),
        (("⇧", "←↑↓→"), words["keys_move"]),
    ]  # type: ignore[list-item]


def _built_in(language: str) -> dict[str, str]:
    """The words that come with the package; none for a language that it does not know."""
    folder = resources.files("hallo4.studio").joinpath("words")
    for tag in (language, language.partition("-")[0]):
        file = folder.joinpath(f"{tag}.toml")
        if file.is_file():
            return tomllib.loads(file.read_text(encoding="utf-8"))
    return {}


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def _template_text(name: str) -> str:
    return resources.files("hallo4.studio").joinpath("templates", name).read_text(encoding="utf-8")
