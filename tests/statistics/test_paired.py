"""Paired differences against golden values, a numeric restricted likelihood and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import ndtri, xlogy
from statsmodels.stats.contingency_tables import mcnemar as oracle_mcnemar

from vevals.statistics import difference_interval, difference_p, margin_floor, mcnemar, plus2, tango
from vevals.statistics.paired import flips, plus2_paired_binary, plus2_paired_moments, tango_score

Z95, ONE_SIDED = float(ndtri(0.975)), float(ndtri(0.95))
COUNTS = st.integers(1, 300).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


def pairs(fixed: int, broke: int, n: int) -> list[float]:
    return [1.0] * fixed + [-1.0] * broke + [0.0] * (n - fixed - broke)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((14, 20, 500), -0.036361, 0.011413),
        ((0, 1, 44), -0.118077, 0.059393),
        ((9, 3, 100), -0.009116, 0.137693),
        ((5, 0, 30), 0.034234, 0.335644),
    ],
)
def test_tango_has_its_golden_values(counts: tuple[int, int, int], low: float, high: float) -> None:
    assert tango(*counts, Z95) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("n", "bound"), [(10, 0.212942), (300, 0.008938)])
def test_without_any_flip_tango_is_plus_or_minus_z_squared_over_n_plus_z_squared(n: int, bound: float) -> None:
    assert tango(0, 0, n, ONE_SIDED) == pytest.approx((-bound, bound), abs=1e-6)
    assert tango(0, 0, n, ONE_SIDED)[1] == pytest.approx(ONE_SIDED**2 / (n + ONE_SIDED**2), rel=1e-12)


def test_the_score_and_mcnemar_have_their_golden_values() -> None:
    assert tango_score(14, 20, 500, -0.03) == pytest.approx(1.480951, abs=1e-6)
    assert mcnemar(14, 20) == pytest.approx(0.391528, abs=1e-6)


def test_plus2_has_its_golden_values_at_one_sided_95() -> None:
    assert plus2_paired_binary(14, 20, 500, ONE_SIDED) == pytest.approx((-0.03159, 0.00769), abs=5e-6)
    assert plus2_paired_binary(3, 40, 500, ONE_SIDED) == pytest.approx((-0.09501, -0.05240), abs=5e-6)


@pytest.mark.parametrize(("margin", "floor"), [(0.01, 299), (0.02, 149), (0.03, 99), (0.05, 59), (0.1, 29)])
def test_the_floor_of_a_margin_is_where_a_loss_of_none_becomes_telling(margin: float, floor: int) -> None:
    assert margin_floor(margin, 0.05) == floor
    assert (1 - margin) ** floor <= 0.05 < (1 - margin) ** (floor - 1)


def test_no_number_of_pairs_shows_a_margin_of_nothing() -> None:
    assert margin_floor(0.0, 0.05) is None
    assert margin_floor(0.5, 0.25) == 2
    assert margin_floor(1.0, 0.05) == 1


def numeric_score(b: int, c: int, n: int, delta: float) -> float:
    """The score with P(broke) found by maximising the likelihood numerically."""

    def minus_log_likelihood(broke: float) -> float:
        rest = 1 - 2 * broke - delta
        return -float(xlogy(b, broke + delta) + xlogy(c, broke) + xlogy(n - b - c, max(rest, 0.0)))

    ends = (max(0.0, -delta), (1 - delta) / 2)
    broke = minimize_scalar(minus_log_likelihood, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * delta) / math.sqrt(n * (2 * broke + delta - delta**2))


@pytest.mark.parametrize("counts", [(14, 20, 500), (9, 3, 100), (5, 0, 30), (0, 4, 60), (30, 30, 60), (1, 1, 25)])
@pytest.mark.parametrize("delta", [-0.6, -0.1, -0.03, 0.02, 0.25, 0.7])
def test_the_score_is_that_of_a_numeric_restricted_likelihood(counts: tuple[int, int, int], delta: float) -> None:
    assert tango_score(*counts, delta) == pytest.approx(numeric_score(*counts, delta), rel=2e-4)


@given(COUNTS)
def test_tango_holds_the_difference_and_is_mirrored_when_the_models_are_swapped(counts: tuple[int, int, int]) -> None:
    b, c, n = counts
    low, high = tango(b, c, n, Z95)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert low < high
    assert tango(c, b, n, Z95) == pytest.approx((-high, -low), abs=1e-12)


@given(COUNTS, st.floats(-0.95, 0.95))
def test_the_score_rejects_exactly_what_lies_outside_the_interval(counts: tuple[int, int, int], delta: float) -> None:
    low, high = tango(*counts, Z95)
    if min(abs(delta - low), abs(delta - high)) > 1e-9:
        assert (abs(tango_score(*counts, delta)) <= Z95) == (low <= delta <= high)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_that_of_statsmodels(b: int, c: int) -> None:
    assert mcnemar(b, c) == pytest.approx(oracle_mcnemar([[0, b], [c, 0]], exact=True).pvalue, abs=1e-12)


def test_mcnemar_is_1_where_no_pair_differs() -> None:
    assert mcnemar(0, 0) == 1.0


@given(COUNTS)
def test_plus2_from_counts_is_plus2_of_the_differences(counts: tuple[int, int, int]) -> None:
    assert plus2_paired_binary(*counts, Z95) == pytest.approx(plus2(pairs(*counts), -1.0, 1.0), abs=1e-12)


def test_flips_counts_what_the_candidate_fixed_and_broke() -> None:
    assert flips([1.0, -1.0, -0.5, 0.0]) == (1.0, 2.0, 4.0)


def test_a_binary_difference_is_shown_with_tango_in_the_metrics_own_units() -> None:
    low, high, method = difference_interval([100 * d for d in pairs(14, 20, 500)], True, 100.0)
    assert (low, high) == pytest.approx((-3.6361, 1.1413), abs=1e-4)
    assert method == "Tango"


def test_a_graded_difference_is_shown_with_plus2() -> None:
    values = [0.25, -0.5, 0.0, 0.75, 0.1]
    assert difference_interval(values, False, 1.0) == (*plus2(values, -1.0, 1.0), "plus-2")


@pytest.mark.parametrize("binary", [True, False])
def test_copies_in_clusters_neither_narrow_the_interval_nor_sharpen_the_p_value(binary: bool) -> None:
    once = pairs(30, 55, 400)
    copied, keys = [d for d in once for _ in range(5)], [row for row in range(400) for _ in range(5)]
    alone, together = difference_interval(once, binary, 1.0), difference_interval(copied, binary, 1.0, keys)
    assert together[1] - together[0] == pytest.approx(alone[1] - alone[0], rel=0.03)
    assert "400 clusters" in together[2]
    assert difference_p(copied, binary, 1.0, keys) == pytest.approx(difference_p(once, binary, 1.0), rel=0.35)
    assert difference_p(copied, binary, 1.0) < difference_p(copied, binary, 1.0, keys) / 100


@pytest.mark.parametrize("binary", [True, False])
def test_a_key_of_its_own_for_every_pair_changes_nothing(binary: bool) -> None:
    values, keys = pairs(9, 3, 100), list(range(100))
    assert difference_interval(values, binary, 1.0, keys) == difference_interval(values, binary, 1.0)
    assert difference_p(values, binary, 1.0, keys) == difference_p(values, binary, 1.0)


def test_the_p_value_is_exact_for_binary_pairs_and_from_plus2_for_graded_ones() -> None:
    assert difference_p(pairs(14, 20, 500), True, 1.0) == mcnemar(14, 20)
    mean, error = plus2_paired_moments(14, 20, 500)
    assert difference_p(pairs(14, 20, 500), False, 1.0) == pytest.approx(math.erfc(abs(mean) / error / math.sqrt(2)))


@pytest.mark.parametrize(
    ("values", "span", "keys", "why"),
    [
        ([], 1.0, None, "no samples"),
        ([1.0, 0.0] * 20, 1.0, [row // 8 for row in range(40)], "only 5 clusters"),
        ([1.0, 0.0] * 20, math.inf, None, "not two finite numbers"),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_where_nothing_can_be_said_there_is_no_number_and_a_reason(
    values: list[float], span: float, keys: list[int] | None, why: str, binary: bool
) -> None:
    low, high, method = difference_interval(values, binary, span, keys)
    assert math.isnan(low) and math.isnan(high) and why in method
    assert math.isnan(difference_p(values, binary, span, keys))


def test_a_pair_without_a_value_is_refused_rather_than_counted_as_a_tie() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        difference_interval([1.0, math.nan], True, 1.0)


def test_the_two_sided_interval_of_clusters_covers_the_difference() -> None:
    random, inside = np.random.default_rng(3), 0
    keys = [row // 5 for row in range(200)]
    for _ in range(400):
        each = random.dirichlet([0.4, 3.0, 0.6], 40)[keys]
        values = (random.random(200)[:, None] > np.cumsum(each, axis=1)[:, :2]).sum(axis=1) - 1.0
        low, high, _ = difference_interval(values, True, 1.0, keys)
        inside += low <= 0.05 <= high
    assert inside / 400 > 0.92
