"""Comparable runs side by side: rescaled means, gaps that forbid an overall score, and every printed form."""

from __future__ import annotations

import csv
import io
import math

import pytest

from vevals.board import Entry, build, to_csv, to_frame, to_markdown, to_records
from vevals.types import Estimate, Outcome


def entry(benchmark: str, model: str, value: float, **changes: object) -> Entry:
    estimate = Estimate(value, max(0.0, value - 0.1), min(1.0, value + 0.1), 50, 50, "Wilson")
    defaults: dict[str, object] = {
        "fingerprint": "f",
        "part": (None, None, 0),
        "model": model,
        "model_hash": model,
        "metric": "accuracy",
        "estimate": estimate,
        "run": "r",
        "finished": 1,
        "outcomes": {Outcome.scored: 50},
    }
    return Entry(benchmark=benchmark, **{**defaults, **changes})  # type: ignore[arg-type]


def test_chance_is_zero_and_perfect_is_one() -> None:
    board = build([entry("a/x", "m", 0.625, chance=0.25)], {})
    overall = board.rows[0].overall
    assert overall is not None
    assert (overall.value, overall.low, overall.high) == pytest.approx(
        (0.5, (0.525 - 0.25) / 0.75, (0.725 - 0.25) / 0.75)
    )


def test_a_perfect_model_is_not_better_than_perfect() -> None:
    overall = build([entry("a/x", "m", 1.0), entry("b/y", "m", 1.0)], {}).rows[0].overall
    assert overall is not None and overall.value == overall.high == 1.0 > overall.low


def test_a_domain_counts_once_however_many_benchmarks_it_has() -> None:
    entries = [entry("a/x", "m", 1.0), entry("a/y", "m", 0.5), entry("b/z", "m", 0.25)]
    overall = build(entries, {}).rows[0].overall
    weighted = build(entries, {"a": 3.0}).rows[0].overall
    assert overall is not None and weighted is not None
    assert overall.value == pytest.approx((0.75 + 0.25) / 2)
    assert weighted.value == pytest.approx((3 * 0.75 + 0.25) / 4)


def test_a_model_with_a_gap_has_no_overall_score_and_stands_last() -> None:
    entries = [entry("a/x", "whole", 0.2), entry("b/y", "whole", 0.2), entry("a/x", "gap", 0.9)]
    board = build(entries, {})
    assert [row.model for row in board.rows] == ["whole", "gap"]
    assert board.rows[1].overall is None
    assert board.rows[1].problem == "incomplete 1/2, no overall score"


def test_thin_coverage_has_no_overall_score() -> None:
    thin = entry("a/x", "m", 0.9, estimate=Estimate(0.9, 0.8, 1.0, 97, 100, "Wilson"))
    row = build([thin], {}).rows[0]
    assert row.overall is None and row.problem == "no overall score: 97% of a/x"


def test_runs_on_other_questions_are_not_compared() -> None:
    old = entry("a/x", "old", 0.9, fingerprint="before", finished=1)
    drawn = entry("a/x", "drawn", 0.9, part=(None, 10, 0), finished=2)
    new = entry("a/x", "new", 0.5, finished=3)
    assert [row.model for row in build([old, drawn, new], {}).rows] == ["new"]


def test_two_models_of_one_name_are_told_apart() -> None:
    entries = [entry("a/x", "same", 0.5, model_hash="aaaaaaa1"), entry("a/x", "same", 0.6, model_hash="bbbbbbb2")]
    assert [row.model for row in build(entries, {}).rows] == ["same #bbbbbb", "same #aaaaaa"]


BOARD = build([entry("a/x", "=cmd|'x'!A1", 0.5), entry("b/y", "=cmd|'x'!A1", 0.5), entry("a/x", "other", 0.4)], {})


def test_the_frame_has_a_row_a_model_and_a_column_a_benchmark() -> None:
    frame = to_frame(BOARD)
    assert list(frame.columns) == ["model", "overall", "low", "high", "problem", "a/x", "b/y"]
    assert frame.loc[0, "overall"] == 0.5 and math.isnan(frame.loc[1, "overall"]) and frame.loc[1, "a/x"] == 0.4


def test_csv_disarms_formulas_and_keeps_every_number() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(BOARD))))
    assert rows[0]["model"] == "'=cmd|'x'!A1"
    assert [(row["benchmark"], row["value"], row["scored"]) for row in rows][:2] == [
        ("overall", "0.5", "100"),
        ("a/x", "0.5", "50"),
    ]


def test_markdown_escapes_bars_and_records_carry_outcomes() -> None:
    assert "| =cmd\\|'x'!A1 | 50.0 (" in to_markdown(BOARD)
    assert to_records(BOARD)[1]["outcomes"] == {
        outcome.name: 50 if outcome == Outcome.scored else 0 for outcome in Outcome
    }
