"""What a plan promises, against the figures of the design and exact enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from vevals.statistics import clopper_pearson
from vevals.statistics.power import (
    each_for_joint,
    joint,
    least_for_floor,
    needed_at_truth_zero,
    needed_for_margin,
    power_of_floor,
    power_of_margin,
    two_digits,
    unlikely_to_settle,
)


@pytest.mark.parametrize(
    ("margin", "good", "safe"), [(0.01, 6183, 10823), (0.02, 1546, 2706), (0.03, 687, 1203), (0.05, 248, 433)]
)
def test_a_tenth_of_flips_needs_the_samples_of_the_design(margin: float, good: int, safe: int) -> None:
    assert needed_at_truth_zero(0.1, margin, 0.05) == good
    assert needed_at_truth_zero(0.1, margin, 0.05, power=0.95) == safe


def test_the_example_line_says_about_1300_samples() -> None:
    difference = -6 / 500
    needed = needed_for_margin(34 / 500 - difference**2, difference, 0.03, 0.05)
    assert needed == 1295 and two_digits(needed) == 1300


def test_clusters_multiply_what_is_needed() -> None:
    assert needed_at_truth_zero(0.1, 0.03, 0.05, deff=2.5) == math.ceil(2.5 * 686.97)


@pytest.mark.parametrize("difference", [-0.03, -0.05])
def test_nothing_is_enough_where_the_truth_is_on_the_margin_or_below(difference: float) -> None:
    assert needed_for_margin(0.1, difference, 0.03, 0.05) is None


def test_an_unchanged_model_does_not_pass_a_margin_of_zero() -> None:
    with pytest.raises(ValueError, match="margin of 0"):
        needed_at_truth_zero(0.1, 0.0, 0.05)
    assert power_of_margin(10**6, 0.1, 0.0, 0.05) == pytest.approx(0.05)


@given(st.floats(0.01, 0.4), st.floats(0.01, 0.2), st.floats(0.01, 0.1), st.floats(0.5, 0.99))
def test_what_is_needed_has_just_the_power_that_was_asked_for(
    variance: float, margin: float, alpha: float, power: float
) -> None:
    needed = needed_at_truth_zero(variance, margin, alpha, power)
    assert power_of_margin(needed, variance, margin, alpha) >= power - 1e-9
    if needed > 1:
        assert power_of_margin(needed - 1, variance, margin, alpha) < power + 1e-9


def test_without_any_variance_only_the_side_of_the_margin_counts() -> None:
    assert needed_for_margin(0.0, 0.0, 0.03, 0.05) == 0
    assert power_of_margin(10, 0.0, 0.03, 0.05) == 1.0
    assert power_of_margin(10, 0.0, 0.03, 0.05, truth=-0.04) == 0.0


def test_on_the_margin_a_check_passes_at_its_error_rate() -> None:
    assert power_of_margin(500, 0.1, 0.03, 0.05, truth=-0.03) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, 0),
        (7, 7),
        (42, 42),
        (99, 99),
        (104, 100),
        (105, 110),
        (1294, 1300),
        (1249, 1200),
        (996, 1000),
        (61_826, 62_000),
    ],
)
def test_two_digits_are_enough(n: int, shown: int) -> None:
    assert two_digits(n) == shown


def test_close_to_the_margin_more_samples_do_not_help() -> None:
    assert unlikely_to_settle(-0.028, 0.03, 0.01)
    assert not unlikely_to_settle(-0.02, 0.03, 0.01)


def enumerated(n: int, rate: float, limit: float, alpha: float) -> float:
    """Every possible count, judged by the interval that the gate uses."""
    passes = [k for k in range(n + 1) if clopper_pearson(k, n, 1 - 2 * alpha)[0] >= limit]
    return float(sum(binom.pmf(k, n, rate) for k in passes))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.floats(0.001, 1), st.floats(0.02, 0.98), st.sampled_from([0.05, 0.025, 0.1]))
def test_the_power_of_a_floor_is_that_of_every_possible_count(n: int, rate: float, limit: float, alpha: float) -> None:
    assert power_of_floor(n, rate, limit, alpha) == pytest.approx(enumerated(n, rate, limit, alpha), abs=1e-9)


@pytest.mark.parametrize(("limit", "least"), [(0.995, 598), (0.99, 299), (0.98, 149)])
def test_a_faultless_model_needs_the_samples_of_zero_failures(limit: float, least: int) -> None:
    assert least_for_floor(1.0, limit, 0.05) == least
    assert power_of_floor(least, 1.0, limit, 0.05) == 1.0
    assert power_of_floor(least - 1, 1.0, limit, 0.05) == 0.0


@pytest.mark.parametrize(
    ("rate", "limit", "power"), [(0.9, 0.8, 0.8), (0.85, 0.8, 0.95), (0.999, 0.99, 0.8), (0.3, 0.1, 0.9)]
)
def test_from_the_least_size_on_the_power_never_falls_short(rate: float, limit: float, power: float) -> None:
    least = least_for_floor(rate, limit, 0.05, power)
    assert least is not None
    assert power_of_floor(least - 1, rate, limit, 0.05) < power
    assert min(power_of_floor(n, rate, limit, 0.05) for n in range(least, 2 * least)) >= power


@pytest.mark.parametrize("rate", [0.8, 0.5])
def test_a_rate_that_is_not_above_the_limit_needs_more_than_there_is(rate: float) -> None:
    assert least_for_floor(rate, 0.8, 0.05) is None


def test_a_rate_next_to_the_limit_is_planned_in_a_moment() -> None:
    least = least_for_floor(0.801, 0.8, 0.05)
    assert least is not None and 980_000 < least < 1_000_000


def test_eight_checks_of_91_percent_let_an_unchanged_model_through_in_less_than_half() -> None:
    power = power_of_margin(1000, 0.1, 0.03, 0.05)
    assert power == pytest.approx(0.91, abs=0.005)
    assert joint([power] * 8) == pytest.approx(0.48, abs=0.005)
    assert joint([each_for_joint(0.95, 8)] * 8) == pytest.approx(0.95)
    assert joint([]) == 1.0


def test_power_grows_with_samples_and_falls_with_variance() -> None:
    powers = [power_of_margin(n, 0.1, 0.02, 0.05) for n in (100, 400, 1600)]
    assert powers == sorted(powers)
    assert power_of_margin(400, 0.2, 0.02, 0.05) < powers[1]
    assert np.isfinite(powers).all()
