"""The published boards: what the page shows is what the files hold, and their benchmarks exist."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT

from vevals.registry import open_registry

PUBLISHED = ROOT / "results" / "published"
NAMES = sorted(path.stem for path in PUBLISHED.glob("*.json"))


def test_there_is_a_board_of_the_quick_suite_and_one_of_the_reference_rows() -> None:
    assert {"quick", "labels"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_board_as_it_was_printed(name: str) -> None:
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    assert (PUBLISHED / f"{name}.md").read_text(encoding="utf-8").strip() in page


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_board_has_its_numbers_and_its_benchmark(name: str) -> None:
    rows = json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))
    table = (PUBLISHED / f"{name}.md").read_text(encoding="utf-8")
    suite = open_registry().suite(name)
    assert {row["benchmark"] for row in rows} == {"overall", *suite.benchmarks}
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"]
        shown = (
            "overall" if row["benchmark"] == "overall" else f"| {row['benchmark']} ({row['metric']}) | {row['model']} |"
        )
        assert shown in table
