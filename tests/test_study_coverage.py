"""The simulation of what intervals cover, and its committed result."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "studies"))

import coverage_of_intervals  # noqa: E402

ROWS = json.loads(coverage_of_intervals.OUT.read_text(encoding="utf-8"))["rows"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["kind"])
def test_every_kind_covers_as_often_as_it_says(row):
    assert 0.92 <= row["coverage"] <= 0.98 and row["repeats"] >= 400


def test_the_result_is_that_of_the_simulation():
    assert [row["kind"] for row in ROWS] == [kind[0] for kind in coverage_of_intervals.KINDS]
    for kind in coverage_of_intervals.KINDS[:2]:
        found = coverage_of_intervals.row(kind, 300)
        (known,) = (row for row in ROWS if row["kind"] == kind[0])
        assert abs(found["coverage"] - known["coverage"]) < 5 * found["standard_error"]
