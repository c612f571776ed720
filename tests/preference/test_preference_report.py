"""The report: its figures are those of the modules it asks, it says what is simulated, and it draws."""

import json

import numpy as np
import pytest
from preference_records import both, clip, condition, pair, rating
from rich.console import Console

from hallo4.errors import OutputError
from hallo4.evaluation.report import write_report
from hallo4.evaluation.show.table import rich_table
from hallo4.evaluation.statistics import rated_wins
from hallo4.preference import GoldAnswer, PreferenceStore
from hallo4.preference.agreement import krippendorff_alpha
from hallo4.preference.answers import votes
from hallo4.preference.report import preference_report
from hallo4.preference.report_views import report_grid, report_page


@pytest.fixture
def rated(tmp_path):
    """Twelve conditions, a clip of `good` and of `bad` each; three raters, one of them simulated."""
    store = PreferenceStore.create(tmp_path / "store")
    rng = np.random.default_rng(0)
    for n in range(12):
        store.add_condition(condition(f"c{n}"))
        for system in ("good", "bad"):
            store.add_clip(clip(f"{system}{n}", of=f"c{n}", system=system))
        for rater in ("anna", "bert", "sim"):
            better = "a" if rng.random() < 0.8 else "b"
            store.add_ratings(both(rater, clip_a=f"good{n}", clip_b=f"bad{n}", value=better,
                                   left_clip_id=f"good{n}", simulated=rater == "sim"))  # fmt: skip
    store.add_gold(GoldAnswer("good0", "bad0", "fidelity", "a"))
    store.add_rating(rating("anna", "fidelity", clip_a="bad0", clip_b="good0", value="a", role="gold"))
    store.write_pairs([pair(f"good{n}", f"bad{n}", of=f"c{n}") for n in range(12)])
    return store


def test_figures_are_those_of_the_modules(rated):
    report = preference_report(rated)
    units = [list(v.values()) for v in votes(rated.ratings(), "comparison", "fidelity").values()]
    assert report["agreement"]["fidelity"]["comparison"]["ordinal"]["mean"] == pytest.approx(
        krippendorff_alpha(units)
    )
    assert list(report["ranking"]["alignment"]) == ["good", "bad"]
    won = next(w for w in report["win_rates"] if w["axis"] == "alignment")
    assert (won["first"], won["second"]) == ("bad", "good")
    outcomes = votes(rated.ratings(), "comparison", "alignment")  # bad comes first, in ids and sources
    expected = rated_wins([list(v.values()) for v in outcomes.values()])
    assert won["win_rate"] == expected.win_rate.as_json()
    assert won["sign_test_p"] == expected.p_value
    assert won["sign_test_p_holm"] == min(1.0, 2 * expected.p_value)
    assert report["pairs"]["source"]["guessed"] == 1.0
    assert report["counts"]["clips"] == {"bad": 12, "good": 12}


def test_notes_say_what_must_be_known(rated):
    notes = " ".join(preference_report(rated)["notes"])
    assert "1 of 3 raters are SIMULATED, 2 are people" in notes
    assert "anna: 0% of gold questions right" in notes
    assert "The source of a clip predicts the winner" in notes
    with rated.database.writing() as connection:
        connection.execute("INSERT INTO ratings (key, about, record) VALUES ('x', '', 'broken')")
    with pytest.warns(UserWarning, match="rows left out"):
        report = preference_report(PreferenceStore.open(rated.folder))
    assert "1 rows of the store were left out." in report["notes"]


def test_it_is_written_and_drawn(rated, tmp_path):
    report = preference_report(rated)
    out = tmp_path / "new" / "report.json"
    write_report(report, out, report_page(report))
    assert json.loads(out.read_text()) == report
    shown = out.with_suffix(".html").read_text()
    for words in ("with SIMULATED raters", "sim (simulated)", "Krippendorff&#39;s alpha, comparisons"):
        assert words in shown
    assert shown.count("<figure>") == 6, "agreement, strengths, sources, gold, left side, gaps: no repeats"
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(report, tmp_path)


def test_the_table_shows_people_and_simulations_apart(rated):
    console = Console(width=140, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table(report_grid(preference_report(rated))))
    text = console.export_text()
    assert "rater sim (simulated)" in text
    assert "rater anna " in text
    assert "bad beats good" in text


def test_an_empty_store_has_a_report_too(tmp_path):
    store = PreferenceStore.create(tmp_path / "s")
    report = preference_report(store)
    assert report["pairs"] is None
    assert report["notes"] == []
    assert "<figure>" not in report_page(report)
