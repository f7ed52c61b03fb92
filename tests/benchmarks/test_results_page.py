"""The page of results says what the measurements say."""

import json
from pathlib import Path

import pytest

from benchmarks import results_page
from benchmarks.evidence import FOLDER
from benchmarks.results_page import PAPER

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_made_of_the_committed_measurements(tmp_path):
    assert results_page.main([f"out={tmp_path / 'RESULTS.md'}"]) == 0

    assert (tmp_path / "RESULTS.md").read_text() == (ROOT / "docs" / "RESULTS.md").read_text()
    assert (tmp_path / "evidence.png").is_file()


def test_every_claim_is_about_rows_that_were_measured():
    tables = json.loads((FOLDER / "tables.json").read_text())["tables"]
    table = next(table for table in tables if table["part"] == "digits")

    assert all(claim.verdict(table) for claim in (*PAPER, *results_page.OURS))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.03, -0.01, "**holds**: -2.00 [-3.00, -1.00]"),
        (0.01, 0.03, "**the opposite**: +2.00 [+1.00, +3.00]"),
        (-0.01, 0.03, "undecided: +1.00 [-1.00, +3.00]"),
    ],
)
def test_a_claim_holds_where_its_interval_lies_on_its_side(low, high, verdict):
    claim = PAPER[0]
    pair = {"of": claim.of, "minus": claim.minus, "estimate": (low + high) / 2, "low": low, "high": high}

    assert claim.verdict({"differences": {claim.metric: [pair]}}) == verdict
