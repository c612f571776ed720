"""Systems that were measured one by one, side by side: against values by hand, and bad input."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hallo4.cli import main
from hallo4.errors import InputError, OutputError
from hallo4.evaluation import compare_reports, rich_table, tables_of
from hallo4.evaluation.suites.world_metrics import METRICS

CLIPS = 12
PLAIN = dict.fromkeys(METRICS, 0.5) | {"joint_error_fraction": 0.05, "jitter_ratio": 1.0}


def report(tmp_path, name, changes=None, **settings):
    """A report on CLIPS clips with the values of PLAIN; `changes` of clip i: a dict, or None."""
    rows = [
        {"clip": i, "episode_seed": 100 + i, "model": PLAIN | ((changes or (lambda _: {}))(i) or {})}
        for i in range(CLIPS)
    ]
    content = {
        "model": name, "against": None, "episodes": CLIPS, "seed": 1, "metrics": {}, "rows": rows[::-1],
        "settings": {"seconds": 2.0, "size_px": 128, "observer": "embedded"} | settings,
    }  # fmt: skip
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_clips_of_another_tempo_are_other_clips(tmp_path):
    old, usual = report(tmp_path, "old"), report(tmp_path, "usual", tempo=1.0)
    assert compare_reports([old, usual])["against"] == "old", "a report without a tempo means the usual one"
    with pytest.raises(InputError, match=r"tempo is 4\.0, of the first report 1\.0"):
        compare_reports([old, report(tmp_path, "fast", tempo=4.0)])


def test_win_rates_and_differences_are_those_by_hand(tmp_path):
    base = report(tmp_path, "sft")
    # 8 of 12 clips with better lips, 2 with worse, 2 alike; SSIM never changes
    better = report(
        tmp_path, "dpo", lambda i: {"lip_sync_correlation": 0.5 + 0.2 * (i < 8) - 0.2 * (i in (8, 9))}
    )
    out = tmp_path / "comparison.json"
    found = compare_reports([base, better], out=out)
    assert found == json.loads(out.read_text())
    assert found["against"] == "sft"
    of_dpo = found["compared"]["dpo"]
    for axis in ("overall", "alignment"):
        assert of_dpo["win_rate"][axis]["mean"] == pytest.approx((8 + 0.5 * 2) / 12)
        assert of_dpo["win_rate"][axis]["n"] == 12
    assert of_dpo["win_rate"]["fidelity"]["mean"] == 0.5
    assert of_dpo["difference"]["lip_sync_correlation"]["mean"] == pytest.approx(0.2 * 6 / 12)
    assert of_dpo["difference"]["ssim"]["mean"] == 0
    assert of_dpo["p_holm"]["ssim"] == 1
    assert found["metrics"]["dpo"]["lip_sync_correlation"]["mean"] == pytest.approx(0.6)
    assert "psnr_db" in found["unscored"]
    assert "ssim" not in found["unscored"]


def test_runs_of_one_name_are_one_system_whose_clips_are_resampled(tmp_path):
    base = report(tmp_path, "sft")
    wins = report(tmp_path, "run1", lambda i: {"ssim": 0.7})
    loses = report(tmp_path, "run2", lambda i: {"ssim": 0.3})
    found = compare_reports([f"SFT={base}", f"DPO={wins}", f"DPO={loses}"])
    assert found["runs"] == {"SFT": 1, "DPO": 2}
    of_dpo = found["compared"]["DPO"]
    assert of_dpo["win_rate"]["fidelity"]["mean"] == 0.5
    assert of_dpo["win_rate"]["fidelity"]["n"] == CLIPS, "a clip counts once, however many runs saw it"
    assert [own["mean"] for own in of_dpo["overall_of_runs"]] == [1.0, 0.0]
    assert found["metrics"]["DPO"]["ssim"]["mean"] == pytest.approx(0.5)


def test_a_metric_that_some_clips_lack_counts_where_it_is(tmp_path):
    base = report(tmp_path, "sft", lambda i: {"blink_correlation": None if i < 3 else 0.5})
    other = report(tmp_path, "dpo", lambda i: {"blink_correlation": 0.6})
    found = compare_reports([base, other])
    assert found["metrics"]["sft"]["blink_correlation"]["n"] == CLIPS - 3
    assert found["compared"]["dpo"]["difference"]["blink_correlation"]["n"] == CLIPS - 3


def test_gains_point_up_whatever_direction_is_good(tmp_path):
    rng = np.random.default_rng(0)
    spread = {name: rng.uniform(0.9, 1.1, CLIPS) for name in METRICS}
    base = report(tmp_path, "a", lambda i: {n: float(1.5 * spread[n][i]) for n in METRICS})
    nearer = {"higher": 1.6, "lower": 1.4, "near 0": 1.4, "near 1": 1.4}
    good = report(
        tmp_path, "b", lambda i: {n: float(nearer[m.better] * spread[n][i]) for n, m in METRICS.items()}
    )
    gains = compare_reports([base, good])["compared"]["b"]["standardised"]
    assert gains.keys() == METRICS.keys()
    assert all(gain["mean"] > 0 for gain in gains.values())


def test_errors_of_opposite_sign_do_not_cancel_over_runs(tmp_path):
    base = report(tmp_path, "sft", lambda i: {"jitter_ratio": 1.2 + 0.01 * i})
    runs = [report(tmp_path, f"run{q}", lambda i, q=q: {"jitter_ratio": q}) for q in (0.5, 2.0)]
    found = compare_reports([base, *(f"DPO={run}" for run in runs)])["compared"]["DPO"]
    assert found["standardised"]["jitter_ratio"]["mean"] < 0, "0.5 and 2 are both far from 1"


def test_a_metric_that_an_old_report_has_not_is_a_gap(tmp_path, capsys):
    old, new = report(tmp_path, "old"), report(tmp_path, "new", lambda i: {"ssim": 0.6})
    content = json.loads(Path(old).read_text())
    for row in content["rows"]:
        del row["model"]["colour_overlap"]
    Path(old).write_text(json.dumps(content))
    out = tmp_path / "beta=1" / "c.json"
    out.parent.mkdir()
    assert main(["evaluate", "compare", new, old, "-o", str(out)]) == 0
    assert "colour_overlap" not in json.loads(out.read_text())["compared"]["old"]["difference"]
    moved = Path(old).rename(tmp_path / "beta=1" / "old.json")
    assert compare_reports([new, str(moved)])["runs"] == {"new": 1, "old": 1}
    assert compare_reports([f"A={new}", f"B={moved}"])["runs"] == {"A": 1, "B": 1}


def test_reports_of_another_instrument_are_refused_where_both_name_it(tmp_path):
    one, other = (report(tmp_path, name, observer_weights=name) for name in "ab")
    old = report(tmp_path, "old")
    with pytest.raises(InputError, match="observer_weights is 'b', of the first report 'a'"):
        compare_reports([one, other])
    assert compare_reports([one, old])["against"] == "a"


def test_names_are_text(tmp_path):
    systems = [f"{name}={report(tmp_path, 'x')}" for name in ("DPO[b500]", "DPO[b2000]", "a[/x]")]
    console = Console(width=200, record=True, file=StringIO())
    console.print(rich_table(*tables_of(compare_reports(systems))))
    text = console.export_text()
    assert all(name in text for name in ("DPO[b500]", "DPO[b2000]", "a[/x]", "against DPO[b500]"))


@pytest.mark.parametrize("name", ["c.html", "c.PNG"])
def test_a_report_does_not_take_the_name_of_its_picture(tmp_path, name):
    systems = [report(tmp_path, "a"), report(tmp_path, "b")]
    with pytest.raises(OutputError, match=r"ends in \.json"):
        compare_reports(systems, out=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_other_episodes_are_refused_and_named(tmp_path):
    base = report(tmp_path, "sft")
    longer = report(tmp_path, "long", seconds=3.2)
    with pytest.raises(InputError, match=r"long.json: seconds is 3\.2, of the first report 2\.0"):
        compare_reports([base, longer])
    shifted = json.loads(Path(base).read_text())
    shifted["rows"][0]["episode_seed"] = 7
    (tmp_path / "shifted.json").write_text(json.dumps(shifted))
    with pytest.raises(InputError, match="the episodes"):
        compare_reports([base, str(tmp_path / "shifted.json")])


def test_what_is_no_report_is_named(tmp_path):
    base = report(tmp_path, "sft")
    (tmp_path / "empty.json").write_text("{}")
    text = json.loads(Path(base).read_text())
    text["rows"][1]["model"]["ssim"] = "high"
    (tmp_path / "words.json").write_text(json.dumps(text))
    for wrong, said in (
        (
            "empty.json",
            "episodes is missing. Give the JSON file that `hallo4 evaluate world` or `videos` wrote",
        ),
        ("missing.json", "no such file"),
        ("words.json", 'rows.1.model.ssim: should be a valid number; found "high"'),
    ):
        with pytest.raises(InputError, match=f"{wrong}: {said}"):
            compare_reports([base, str(tmp_path / wrong)])
    with pytest.raises(InputError, match="one system only"):
        compare_reports([base])
    with pytest.raises(InputError, match="there are sft"):
        compare_reports([base, base], against="dpo")
    with pytest.raises(OutputError, match="cannot be written"):
        compare_reports([f"a={base}", f"b={base}"], out=Path(base) / "c.json")


def test_the_command_prints_a_table_and_writes_a_page(tmp_path, capsys):
    base, other = report(tmp_path, "sft"), report(tmp_path, "dpo", lambda i: {"ssim": 0.6})
    out = tmp_path / "c.json"
    assert main(["evaluate", "compare", f"SFT={base}", f"DPO={other}", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "wins against" in said
    assert "psnr_db *" in said
    page = out.with_suffix(".html").read_text()
    assert all(word in page for word in ("DPO against SFT", "psnr_db", "Clip by clip"))


def test_a_narrow_terminal_loses_nothing_of_names_and_numbers(tmp_path):
    systems = [report(tmp_path, name, lambda i: {"ssim": 0.123 + 0.001 * i}) for name in "abcdef"]
    console = Console(width=70, record=True, file=StringIO())
    console.print(rich_table(*tables_of(compare_reports(systems))))
    text = console.export_text()
    assert "…" not in text
    first = "".join(line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│"))
    assert all(name in first for name in METRICS)
