"""Intervals against published golden values, exact enumeration and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from vevals.statistics import bca, clopper_pearson, plus2, wilson


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(412, 500, 0.788186, 0.854874), (20, 20, 0.838875, 1.0), (1, 10, 0.017876, 0.404150)],
)
def test_wilson_has_its_golden_values(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("k", "n", "low", "high"), [(412, 500, 0.793578, 0.851535), (20, 20, 0.860892, 1.0)])
def test_clopper_pearson_has_its_golden_values_at_one_sided_95(k: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(k, n, confidence=0.90) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_both_rate_intervals_equal_statsmodels(case: tuple[int, int]) -> None:
    k, n = case
    assert wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-9)
    assert clopper_pearson(k, n) == pytest.approx(proportion_confint(k, n, method="beta"), abs=1e-9)


def test_wilson_covers_the_truth_by_exact_enumeration_where_a_normal_interval_does_not() -> None:
    n, rates = 20, np.linspace(0.85, 0.99, 29)
    bounds = [wilson(k, n) for k in range(n + 1)]
    covered = [sum(binom.pmf(k, n, p) for k in range(n + 1) if bounds[k][0] <= p <= bounds[k][1]) for p in rates]
    assert np.mean(covered) > 0.94
    assert min(covered) > 0.89


def test_plus2_is_never_empty_and_stays_inside_the_scale() -> None:
    low, high = plus2([1.0] * 20, 0.0, 1.0)
    assert 0.0 < low < 1.0 and high == 1.0
    assert plus2([1.0] * 20, 1.0, 0.0) == (low, high)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_plus2_of_mirrored_values_is_the_mirrored_interval(values: list[float]) -> None:
    low, high = plus2(values, 0.0, 1.0)
    mirrored = plus2([1 - value for value in values], 0.0, 1.0)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_no_values_give_no_interval_rather_than_zero_width() -> None:
    for interval in (wilson(0, 0), clopper_pearson(0, 0), plus2([], 0, 1)):
        assert all(math.isnan(bound) for bound in interval)


def test_bca_is_the_same_for_the_same_seed_and_holds_the_mean() -> None:
    values = np.random.default_rng(1).normal(size=80)
    members = [np.array([index]) for index in range(80)]
    first = bca(lambda rows: float(values[rows].mean()), members, seed=3)
    assert first == bca(lambda rows: float(values[rows].mean()), members, seed=3)
    assert first[0] < values.mean() < first[1]
    half = 1.96 * values.std(ddof=1) / math.sqrt(80)
    assert first[1] - first[0] == pytest.approx(2 * half, rel=0.1)


def test_bca_says_nothing_about_a_constant_or_about_fewer_than_20_units() -> None:
    constant = bca(lambda rows: 1.0, [np.array([index]) for index in range(50)])
    few = bca(lambda rows: float(rows.mean()), [np.array([index]) for index in range(19)])
    assert all(math.isnan(bound) for bound in (*constant, *few))
