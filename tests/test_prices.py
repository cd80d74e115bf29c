"""Prices: written by the user, dated, and unknown where nobody wrote one; cost, tokens and seconds of answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evidences import answers, column, evidence

from vevals import usage
from vevals.errors import BenchmarkError
from vevals.gate import terms
from vevals.prices import Price, Prices, from_json, load_prices
from vevals.types import Outcome

TABLE = """
gpt-4o: {usd_per_million_input: 2.5, usd_per_million_output: 10, date: 2026-01-31}
"hf:*": {usd_per_hour: 1.2, date: 2026-01-31}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VEVALS_CONFIG", str(tmp_path / "config"))
    return tmp_path


def test_tokens_and_hours_are_priced_by_title_or_pattern(here: Path) -> None:
    (here / "prices.yaml").write_text(TABLE, encoding="utf-8")
    prices = load_prices(here)
    assert prices.usd("gpt-4o", 1_000_000, 100_000, 50.0) == pytest.approx(3.5)
    assert prices.usd("hf:Qwen/Qwen3-8B", 1_000_000, 0, 1800.0) == pytest.approx(0.6)
    assert prices.usd("claude", 1, 1, 1.0) is None
    assert from_json(prices.to_json()) == prices


def test_the_users_own_table_serves_every_folder(here: Path) -> None:
    assert load_prices(here).entries == {}
    (here / "config").mkdir()
    (here / "config" / "prices.yaml").write_text(TABLE, encoding="utf-8")
    assert load_prices(here).of("gpt-4o") == Price(2.5, 10.0, 0.0, "2026-01-31")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: {usd_per_hour: 1}", "prices.yaml:1: 'date' is missing"),
        ("a: {usd_per_hour: 1, date: soon}", "date is 'soon'; write it as 2026-01-31"),
        ("a: {usd_per_hour: -1, date: 2026-01-31}", "a price is negative"),
        ("a: {usd_per_hor: 1, date: 2026-01-31}", "unknown key 'usd_per_hor'; did you mean 'usd_per_hour'?"),
        ("- a", "expected"),
    ],
)
def test_a_wrong_table_is_an_error_with_its_line(here: Path, text: str, told: str) -> None:
    (here / "prices.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"prices\.yaml:1: ") as error:
        load_prices(here)
    assert told in str(error.value)


def test_reserved_columns_are_those_that_a_policy_may_name() -> None:
    assert set(usage.RESERVED) == set(terms.RESERVED)


def test_cached_and_failed_answers_cost_nothing_and_do_not_lower_the_mean() -> None:
    values = answers(4, 0)
    values[3] = math.nan
    one = evidence(column(values), seconds=np.array([[1.0], [2.0], [3.0], [4.0]]))
    cached = np.array([[True], [False], [False], [False]])
    one = replace(one, usage=replace(one.usage, cached=cached))
    seconds = usage.column(one, "seconds.p50", Prices({}))
    assert seconds is not None
    np.testing.assert_array_equal(seconds.values[:, 0], [math.nan, 2.0, 3.0, math.nan])
    assert usage.column(one, usage.COST, Prices({})) is None
    cost = usage.column(one, usage.COST, Prices({"model": Price(1.0, 0.0, 3.6, "2026-01-01")}))
    assert cost is not None and cost.values[1, 0] == pytest.approx(1000 * (100e-6 + 2.0 * 0.001))


def test_the_share_of_an_outcome_is_a_column_where_lower_is_better() -> None:
    values = answers(3, 1)
    values[0] = math.nan
    found = usage.column(evidence(column(values)), "failed_rate", Prices({}))
    assert found is not None
    assert (found.worst, found.best, found.binary) == (1.0, 0.0, True)
    assert found.values[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert found.counts()[Outcome.failed] == 1
