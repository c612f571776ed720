"""A study file says what is asked, of whom and how; what is wrong in it is one line."""

import re
from pathlib import Path

import pytest

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.studio.study import default_study, parse_study, read_study, redirect_of
from hallo4.studio.study_pages import chosen_language, rating_pages, words_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "study.toml"

SMALL = """
version = "1"
heading = "Which one?"
lead = "Look."
[[questions]]
name = "lips"
axis = "alignment"
title = "Lips"
[consent]
organiser = "The lab"
contact = "lab@example.org"
retention = "one year"
version = "1"
"""


def test_the_example_of_the_docs_has_the_four_questions_of_the_paper():
    study = read_study(EXAMPLE)
    assert [(q.name, q.axis) for q in study.questions] == [
        ("lip-sync", "alignment"), ("body-motion", "alignment"), ("expression", "fidelity"),
        ("identity", "fidelity"),
    ]  # fmt: skip
    assert study.quotas.per_rater
    assert study.checks.practice
    assert study.checks.sound_check
    assert len(rating_pages(study)) == len(study.languages) == 2


def test_the_smallest_study():
    study = parse_study(SMALL, "small.toml")
    assert (study.mode, study.languages, study.quotas.per_question) == ("comparison", ("en",), 3)
    assert study.axis_of("lips") == "alignment"
    assert study.axis_of("nose") is None


def changed(old, new):
    assert old in SMALL
    return SMALL.replace(old, new, 1)


HEAD = 'version = "1"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed('axis = "alignment"\n', ""), "questions.0.axis is missing"),
        (changed(HEAD, f"{HEAD}colour = 1\n"), "unknown key 'colour'"),
        (SMALL + "[quotas]\nper_rater = 0\n", "quotas.per_rater: must be 1 to 1 000 000; found 0"),
        (SMALL + "[quotas]\nper_question = 0\n", "quotas.per_question: must be 1 to 1000; found 0"),
        (SMALL + "[quotas]\noverlap = 1.5\n", "quotas.overlap: must be 0 to 1; found 1.5"),
        (SMALL + "[quotas]\noverlap = nan\n", "NaN"),
        (SMALL + "[checks]\ngold_every = 1\n", "checks.gold_every: must be 4 to 1000"),
        (SMALL + "[scale]\npoints = 1\n", "scale.points: must be 2 to 9"),
        (changed('contact = "lab@example.org"\n', ""), "consent.contact is missing"),
        (changed('name = "lips"', 'name = "two words"'), "questions.0.name"),
        (changed('title = "Lips"', 'title = ""'), "questions.0.title"),
        (changed('title = "Lips"', "title = 5"), "questions.0.title"),
        (SMALL + '[[questions]]\nname = "lips"\naxis = "x"\ntitle = "X"\n', "two questions are called lips"),
        (changed('name = "lips"\naxis = "alignment"', 'name = "fidelity"\naxis = "alignment"')
         + '[[questions]]\nname = "x"\naxis = "fidelity"\ntitle = "X"\n', "has the name of an axis"),
        (changed(HEAD, f'{HEAD}languages = ["en", "de"]\n').replace('"Look."', '{ en = "Look." }'),
         "lead: has no text in de"),
        (changed(HEAD, f"{HEAD}languages = []\n"), "languages"),
        (changed(HEAD, f'{HEAD}mode = "score"\n') + "[checks]\npractice = 2\n", "checks.practice"),
        (SMALL + '[platform]\nparticipant = "PID"\n', "PID is not among platform.parameters"),
        (SMALL + '[end]\nredirect = "javascript:alert(1)"\n', "end.redirect: is not an address"),
        (SMALL + '[end]\nredirect = "https://x.example/{name}"\n', "{name} is neither {code} nor"),
        (SMALL + '[end]\nredirect = "https://{code}.example/"\n', "its host must be plain"),
        (SMALL + '[end]\ncode = "a b"\n', "end.code"),
        (changed(HEAD, f"{HEAD}day = 2026-01-01\n"), "holds a date"),
        ("version = ", "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_names_the_place(text, said):
    with pytest.raises(InputError, match=re.escape(said)) as error:
        parse_study(text, "study.toml")
    assert str(error.value).startswith("study.toml: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"version = '1'\x00", b"a = [" * 5000])
def test_no_text_is_one_line(tmp_path, content, capsys):
    (tmp_path / "study.toml").write_bytes(content)
    assert main(["prefer", "annotate", str(tmp_path), "--study", str(tmp_path / "study.toml")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "study.toml: " in said
    with pytest.raises(InputError, match="no such file"):
        read_study(tmp_path / "none.toml")


def test_languages_need_all_words_and_get_those_of_the_package():
    english, german = (words_of(default_study(), language) for language in ("en", "de"))
    assert set(english) == set(german)
    places = re.compile(r"\{\w+\}")
    for word, text in english.items():
        assert sorted(places.findall(text)) == sorted(places.findall(german[word])), word
    own = changed(HEAD, f'{HEAD}languages = ["de-AT"]\n') + '[words.de-AT]\nbegin = "Los geht’s"\n'
    assert words_of(parse_study(own, "x"), "de-AT") == {**german, "begin": "Los geht’s"}
    foreign = changed(HEAD, f'{HEAD}languages = ["tlh"]\n')
    with pytest.raises(InputError, match=r"words\.tlh: language is missing, and all \d+ are needed"):
        rating_pages(parse_study(foreign, "x"))
    with pytest.raises(InputError, match="the page has no word 'beginn'"):
        rating_pages(parse_study(SMALL + '[words.en]\nbeginn = "x"\n', "x"))


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [("", "", "en"), ("de", "en", "de"), ("", "de-CH,de;q=0.9", "de"), ("", "fr, de;q=0.5", "de"),
     ("xx", "", "en"), ("../de", "\x00" * 9999, "en"), ("EN", "", "en")],
)  # fmt: skip
def test_who_asks_for_a_language_gets_it(asked, accepted, language):
    assert chosen_language(default_study(), asked, accepted) == language


def test_markup_in_a_study_is_text():
    evil = "</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\"'&"
    quoted = evil.replace('"', '\\"')
    text = (
        SMALL.replace('"Look."', f'"{quoted}"')
        .replace('"Lips"', f'"{quoted}"')
        .replace('"The lab"', f'"{quoted}"')
    )
    page = rating_pages(parse_study(text, "x"))["en"].decode()
    assert "<img" not in page.replace('<img src="static/icon.svg"', "")
    assert "{{ 7 * 7 }}" in page, "no template within a template"
    assert page.count("</script>") == 3


def test_redirects_carry_code_and_parameters():
    text = SMALL + (
        '[end]\nredirect = "https://app.example/done?cc={code}&pid={PID}"\n[platform]\nparameters = ["PID"]\n'
    )
    study = parse_study(text, "x")
    assert (
        redirect_of(study, "C0DE", {"PID": "a&b=c/d"}) == "https://app.example/done?cc=C0DE&pid=a%26b%3Dc%2Fd"
    )
    assert redirect_of(study, "C0DE", {}) == "https://app.example/done?cc=C0DE&pid="
    assert redirect_of(parse_study(SMALL, "x"), "C0DE", {}) is None


def test_scores_of_any_scale_are_on_that_of_ratings():
    seven = parse_study(changed(HEAD, f'{HEAD}mode = "score"\n') + "[scale]\npoints = 7\n", "x")
    assert [seven.value_of(points) for points in (1, 4, 7)] == [1.0, 3.0, 5.0]


def test_who_agrees_agrees_to_this_very_text():
    one, other = parse_study(SMALL, "x"), parse_study(SMALL.replace("one year", "two years"), "x")
    assert one.stamp != other.stamp
    assert one.stamp == parse_study(SMALL, "elsewhere").stamp
