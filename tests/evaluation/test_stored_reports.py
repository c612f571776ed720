"""Reports that were written before: their figures come out again, and other versions are named."""

import json
from pathlib import Path

import pytest

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.evaluation.report import REFERENCE, Row, summary
from hallo4.evaluation.stored import read_report
from hallo4.evaluation.suites.world import ALL_METRICS

RESULTS = Path(__file__).parent.parent.parent / "docs" / "results"
OF_THE_WORLD = sorted(path for path in RESULTS.glob("*.json") if "instrument" in json.loads(path.read_text()))


@pytest.mark.parametrize("path", OF_THE_WORLD, ids=lambda path: path.stem)
def test_every_figure_of_a_published_report_comes_out_of_its_rows_again(path):
    said, report = json.loads(path.read_text()), read_report(path)
    found = summary(ALL_METRICS, report.rows, [said["model"]])
    for section, again in (
        (said["metrics"], found["metrics"][said["model"]]),
        (said["instrument"], found["reference_values"]),
    ):
        assert section.keys() == again.keys()
        for name, interval in section.items():
            assert (again[name]["mean"], again[name]["n"]) == (interval["mean"], interval["n"]), name
            ends = [(again[name][end], interval[end]) for end in ("low", "high")]
            assert all(a == b or a == pytest.approx(b, rel=1e-8, abs=1e-12) for a, b in ends), name


def test_there_are_published_reports():
    assert len(OF_THE_WORLD) >= 5


def written(path, **changes):
    rows = [Row("0", "a", {"ssim": 0.5}, facts={"episode_seed": 7}), Row("0", REFERENCE, {"ssim": 1.0})]
    report = {
        "schema": 2, "kind": "world", "model": "a", "against": "b", "episodes": 1, "seed": 0,
        "settings": {"seconds": 1.0}, "rows": [row.as_json() for row in rows],
    }  # fmt: skip
    path.write_text(json.dumps(report | changes))
    return path


def test_a_report_of_this_version_gives_the_rows_of_its_model_and_the_truth(tmp_path):
    other = Row("0", "b", {"ssim": 0.1})
    path = written(tmp_path / "r.json")
    rows = read_report(path).rows
    more = json.loads(path.read_text())["rows"] + [other.as_json()]
    assert read_report(written(path, rows=more)).rows == rows
    assert [(row.system, row.values) for row in rows] == [("a", {"ssim": 0.5}), (REFERENCE, {"ssim": 1.0})]
    assert Row(**json.loads(json.dumps(other.as_json()))) == other


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 3}, "is a report of schema 3; this version of hallo4 reads up to 2. Update hallo4"),
        ({"kind": "drift"}, "is a report of another kind, 'drift'. Give the JSON file"),
        ({"schema": "two"}, "schema: should be a valid integer"),
        ({"rows": []}, "rows: "),
        ({"rows": [{"clip": 0}]}, "rows.0.clip: should be a valid string"),
    ],
)
def test_another_version_or_kind_is_one_line(tmp_path, capsys, changes, said):
    path = written(tmp_path / "r.json", **changes)
    with pytest.raises(InputError, match=said):
        read_report(path)
    assert main(["evaluate", "compare", f"A={path}", f"B={path}", "-o", str(tmp_path / "c.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "r.json" in line
