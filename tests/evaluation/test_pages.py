"""Pages whose figures come from reports: filled, checked, and refused where they say something else."""

import json
from pathlib import Path

import pytest

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.evaluation import check_page, fill_page
from hallo4.evaluation.suites.world_metrics import METRICS

ROOT = Path(__file__).parent.parent.parent
INTERVAL = {"mean": 0.12345, "low": 0.1, "high": 0.2, "n": 4}


@pytest.fixture
def page(tmp_path):
    report = {
        "model": "some-model", "episodes": 4, "settings": {"seconds": 2.0}, "rows": [{"clip": 7}],
        "metrics": {"ssim": INTERVAL, "psnr_db": dict.fromkeys(("mean", "low", "high"), None) | {"n": 0}},
        "definitions": {"ssim": {"better": "higher"}},
    }  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(report))
    comparison = {
        "against": "SFT", "runs": {"SFT": 1, "DPO": 3}, "unscored": ["psnr_db"],
        "metrics": {name: {"ssim": INTERVAL, "psnr_db": INTERVAL} for name in ("SFT", "DPO")},
        "compared": {"DPO": {"win_rate": dict.fromkeys(("overall", "alignment", "fidelity"), INTERVAL)}},
    }  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(comparison))
    path = tmp_path / "page.md"
    path.write_text(
        "SSIM <!-- figure: r.json#metrics.ssim .2f -->?<!-- /figure --> of clip "
        "<!-- figure: r.json#rows.0.clip d --><!-- /figure -->.\n\n"
        "<!-- leaderboard: r.json -->\nold\n<!-- /leaderboard -->\n\n"
        "<!-- comparison: c.json --><!-- /comparison -->\n\n"
        "<!-- table:\n| gain | mean | low |\n| SSIM, of 1 | $(r.json#metrics.ssim.{mean,low} .3f) |\n"
        "| all | $(r.json#metrics.ssim .1f) | |\n-->\n<!-- /table -->\nThe end.\n"
    )
    return path


def test_figures_and_tables_are_those_of_the_reports(page):
    assert fill_page(page) == 5
    text = page.read_text()
    assert "-->0.12 [0.10, 0.20]<!--" in text
    assert "-->7<!--" in text
    row = next(line for line in text.splitlines() if line.startswith("| `some-model`"))
    assert "| 4 x 2 s |" in row
    assert "| 0.123 [0.100, 0.200] |" in row
    assert row.count("| - ") == row.count("|") - 4, "what is not known is a dash"
    assert "| wins against SFT, overall |  | 12.3% [10.0%, 20.0%] |" in text
    assert "DPO, 3 runs" in text
    assert "| psnr db * |" in text
    assert "| SSIM, of 1 | 0.123 | 0.100 |\n| all | 0.1 [0.1, 0.2] |  |\n<!-- /table -->" in text
    assert text.endswith("The end.\n")


def test_a_leaderboard_shows_the_metrics_that_are_named(page):
    page.write_text("<!-- leaderboard: r.json; psnr_db ssim -->\n<!-- /leaderboard -->\n")
    fill_page(page)
    header, *_, row, _close = page.read_text().splitlines()[1:]
    assert header == "| model | psnr db | ssim |"
    assert row == "| `some-model` | - | 0.123 [0.100, 0.200] |"


def test_filling_twice_changes_nothing_and_passes_the_check(page):
    fill_page(page)
    once = page.read_text()
    assert fill_page(page) == check_page(page) == 5
    assert page.read_text() == once


def test_a_figure_that_disagrees_is_refused_with_its_line(page):
    fill_page(page)
    right = page.read_text()
    for old, new, line in (("0.12 [0.10", "0.13 [0.10", 1), ("0.123 [", "0.124 [", None)):
        page.write_text(right.replace(old, new, 1))
        with pytest.raises(InputError, match=f"line {line}" if line else r"line \d+ is not what"):
            check_page(page)
        assert page.read_text() != right, "a check writes nothing"
    report = page.parent / "r.json"
    page.write_text(right)
    report.write_text(report.read_text().replace("0.12345", "0.5"))
    with pytest.raises(InputError, match=r"the line should be: SSIM .*0\.50"):
        check_page(page)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- figure: r.json#metrics.ssim -->0.1", "not closed"),
        ("<!-- figure: r.json#metrics.colour --><!-- /figure -->", "line 1: figure .*'colour'"),
        ("<!-- figure: r.json --><!-- /figure -->", "FILE#KEY"),
        ("<!-- figure: none.json#a --><!-- /figure -->", "none.json: no such file"),
        (
            "<!-- leaderboard: c.json --><!-- /leaderboard -->",
            r"line 1: leaderboard 'c\.json' asks for what the report does not have \('episodes'\)",
        ),
        (
            "<!-- table:\n| a | b |\n| c |\n--><!-- /table -->",
            "line 1: table .* of 'c' has 1 cells, the header 2",
        ),
        ("<!-- table:\n| a |\n| $(r.json#none.{x,y}) |\n--><!-- /table -->", "line 1: table .*'none'"),
        ("<!-- leaderboard: r.json; beauty --><!-- /leaderboard -->", "leaderboard .*'beauty'"),
        ("<!-- figure: r.json#episodes .999999999f --><!-- /figure -->", "not a format of a figure"),
    ],
)
def test_marks_that_say_nothing_are_named(page, text, words):
    page.write_text(text)
    with pytest.raises(InputError, match=words):
        fill_page(page)


def test_the_command_fills_and_checks(page, capsys):
    assert main(["evaluate", "page", str(page), "--check"]) == 2
    assert "line 1 is not what the reports say" in capsys.readouterr().err
    assert main(["evaluate", "page", str(page)]) == 0
    assert main(["evaluate", "page", str(page), "--check"]) == 0
    assert "5 figures and tables" in capsys.readouterr().err


def test_every_page_of_the_project_says_what_its_reports_say():
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert sum(check_page(page) for page in pages) > 0


def test_shown_metrics_exist():
    from hallo4.evaluation.show.markdown import SHOWN

    assert SHOWN.keys() <= METRICS.keys()
