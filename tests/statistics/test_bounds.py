"""What a gate decides by: bounds that agree with their p-values, with known intervals, and with common sense."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from vevals.statistics import (
    Bounds,
    bca,
    mean_at_least,
    paired_means,
    paired_rates,
    plus2,
    quantile_at_most,
    rate_at_least,
    statistic_at_least,
)
from vevals.statistics.clusters import (
    design_effect,
    effective_n_paired,
    group,
    jackknife_variance,
    plus2_clusters,
    sums_and_sizes,
)

ALPHA = 0.05
SUMS = [0, 0, -1, 0, 1, 0, -1, 0, 0, -2, 0, 1]
SIZES = [5] * 10 + [2, 8]
GOLDEN_KEYS = [cluster for cluster, size in enumerate(SIZES) for _ in range(size)]
GOLDEN = [
    float(np.sign(total)) if row < abs(total) else 0.0
    for total, size in zip(SUMS, SIZES, strict=True)
    for row in range(size)
]


def pairs(fixed: int, broke: int, n: int) -> list[float]:
    return [1.0] * fixed + [-1.0] * broke + [0.0] * (n - fixed - broke)


def rate(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def passes(bounds: Bounds, limit: float) -> bool:
    return bounds.low >= limit and not bounds.short


def fails(bounds: Bounds) -> bool:
    return bounds.p_fail <= ALPHA


def test_the_effective_number_of_pairs_has_its_golden_value() -> None:
    members = group(GOLDEN_KEYS)
    values = np.array(GOLDEN)
    sums, sizes = sums_and_sizes(values, members)
    assert sums.tolist() == SUMS and sizes.tolist() == SIZES
    effect = design_effect(sums, sizes, 6 / 60 - (2 / 60) ** 2)
    assert effect == pytest.approx(1.484988, abs=1e-6)
    assert 60 / effect * (1.6448536 / 1.7958848) ** 2 == pytest.approx(33.894226, abs=1e-5)
    assert effective_n_paired(values, members, confidence=0.90) == 12


def test_many_active_clusters_are_worth_more_than_their_number() -> None:
    values = pairs(20, 30, 60) * 2
    keys = [row % 30 for row in range(120)]
    assert 30 < effective_n_paired(values, group(keys)) < 120


def test_pairs_without_any_flip_are_worth_no_more_than_their_clusters() -> None:
    keys = [row // 4 for row in range(120)]
    assert effective_n_paired([0.0] * 120, group(keys)) == 30


def test_the_jackknife_is_a_little_above_the_cluster_robust_variance_of_statsmodels() -> None:
    values, members = np.array(GOLDEN), group(GOLDEN_KEYS)
    fitted = OLS(values, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": np.array(GOLDEN_KEYS)})
    sums, sizes = sums_and_sizes(values, members)
    robust = 12 / 11 * ((sums - sizes * values.mean()) ** 2).sum() / 60**2
    assert fitted.bse[0] ** 2 == pytest.approx(robust, rel=1e-12)
    assert robust < jackknife_variance(sums, sizes) < 1.1 * robust


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_rate_has_the_one_sided_clopper_pearson_bounds(case: tuple[int, int]) -> None:
    k, n = case
    found = rate_at_least(rate(k, n), 0.8, ALPHA)
    assert (found.low, found.high) == pytest.approx(proportion_confint(k, n, alpha=0.1, method="beta"), abs=1e-9)
    assert found.estimate == k / n and found.n_eff == n and found.clusters is None


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.01, 0.99))
def test_the_p_values_of_a_rate_are_those_of_the_binomial_test(case: tuple[int, int], limit: float) -> None:
    k, n = case
    found = rate_at_least(rate(k, n), limit, ALPHA)
    assert found.p_pass == pytest.approx(binom.sf(k - 1, n, limit), abs=1e-9)
    assert found.p_fail == pytest.approx(binom.cdf(k, n, limit), abs=1e-9)


@pytest.mark.parametrize(("limit", "n"), [(0.995, 598), (0.99, 299), (0.98, 149)])
def test_without_a_failure_a_rate_passes_from_the_published_number_of_samples_on(limit: float, n: int) -> None:
    assert rate_at_least([1.0] * n, limit, ALPHA).low >= limit
    assert rate_at_least([1.0] * (n - 1), limit, ALPHA).low < limit


def test_a_limit_at_the_end_of_the_scale_is_always_or_never_met() -> None:
    assert rate_at_least([0.0] * 20, 0.0, ALPHA).p_pass == 0.0
    assert rate_at_least([0.0] * 20, 0.0, ALPHA).low >= 0.0
    assert rate_at_least([1.0] * 20, 1.0, ALPHA).low < 1.0
    assert rate_at_least([1.0] * 20, 1.0, ALPHA).p_fail == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_a_mean_has_the_one_sided_plus2_bounds(values: list[float], limit: float) -> None:
    found = mean_at_least(values, (1.0, 0.0), limit, ALPHA)
    assert (found.low, found.high) == pytest.approx(plus2(values, 0.0, 1.0, confidence=0.9), abs=1e-12)


def test_a_mean_in_clusters_has_the_one_sided_plus2_bounds_of_clusters() -> None:
    values = np.random.default_rng(2).random(120)
    keys = [row // 4 for row in range(120)]
    found = mean_at_least(values, (0.0, 1.0), 0.4, ALPHA, keys)
    assert (found.low, found.high) == pytest.approx(plus2_clusters(values, group(keys), (0.0, 1.0), 0.9), abs=1e-12)
    assert found.clusters == 30 and found.n == 120 and 60 < found.n_eff <= 120
    assert found.method.startswith("plus-2, 30 clusters")


Method = Callable[[float, list[int] | None], Bounds]
METHODS: list[Method] = [
    lambda limit, keys: rate_at_least(rate(100, 120), limit, ALPHA, keys),
    lambda limit, keys: mean_at_least(np.linspace(0.4, 1.0, 120), (0.0, 1.0), limit, ALPHA, keys),
    lambda limit, keys: paired_means(np.linspace(-0.3, 0.2, 120), 1.0, -limit, ALPHA, keys),
]
SHUFFLED = np.random.default_rng(4).permutation(np.repeat(np.arange(30), 4)).tolist()


@pytest.mark.parametrize("keys", [None, SHUFFLED], ids=["alone", "clusters"])
@pytest.mark.parametrize(("method", "centre"), list(zip(METHODS, [0.83, 0.7, -0.05], strict=True)))
def test_a_bound_and_its_p_value_say_the_same(method: Method, centre: float, keys: list[int] | None) -> None:
    said = set()
    for limit in np.linspace(centre - 0.15, centre + 0.15, 101).tolist():
        found = method(limit, keys)
        assert (found.low >= limit) == (found.p_pass <= ALPHA)
        assert (found.high < limit) == (found.p_fail <= ALPHA)
        said.add((found.low >= limit, found.high < limit))
    assert said == {(True, False), (False, False), (False, True)}


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 600), st.sampled_from([0.0, 0.01, 0.03, 0.1]))
def test_the_bound_of_pairs_and_its_p_value_say_the_same(b: int, c: int, n: int, margin: float) -> None:
    found = paired_rates(pairs(b, c, n), margin, ALPHA)
    assert (found.low >= -margin) == (found.p_pass <= ALPHA)
    assert (found.high < -margin) == (found.p_fail <= ALPHA)
    assert found.low < found.estimate < found.high or b == c == 0


def test_pairs_have_the_bounds_that_the_verdict_prints() -> None:
    found = paired_rates(pairs(3, 40, 500), 0.03, ALPHA)
    assert (found.estimate, found.high) == pytest.approx((-0.074, -0.0524), abs=5e-6)
    assert fails(found) and not found.problem and found.method == "Tango and plus-2"
    assert not fails(paired_rates(pairs(14, 20, 500), 0.03, ALPHA))
    assert not passes(paired_rates(pairs(14, 20, 500), 0.03, ALPHA), -0.03)
    assert passes(paired_rates(pairs(42, 60, 1500), 0.03, ALPHA), -0.03)


def test_where_nothing_was_fixed_the_exact_bound_of_the_loss_rate_holds() -> None:
    found = paired_rates(pairs(0, 3, 400), 0.02, ALPHA)
    assert found.low == pytest.approx(-proportion_confint(3, 400, alpha=0.1, method="beta")[1], abs=1e-12)
    assert found.p_pass == pytest.approx(binom.cdf(3, 400, 0.02), abs=1e-12)


@pytest.mark.parametrize(("margin", "floor"), [(0.01, 299), (0.02, 149), (0.03, 99), (0.05, 59), (0.1, 29)])
def test_identical_answers_pass_from_the_floor_of_the_margin_on_and_not_before(margin: float, floor: int) -> None:
    assert passes(paired_rates(pairs(0, 0, floor), margin, ALPHA), -margin)
    before = paired_rates(pairs(0, 0, floor - 1), margin, ALPHA)
    assert not passes(before, -margin) and f"needs {floor:,} samples" in before.short


def test_a_lucky_small_sample_is_short_of_the_floor_whatever_its_bound() -> None:
    found = paired_rates(pairs(30, 0, 58), 0.05, ALPHA)
    assert found.low > 0
    assert found.short == "a margin of 5 points needs 59 samples at the least, there are 58"


def test_the_floor_counts_what_clusters_are_worth() -> None:
    keys = [row // 10 for row in range(400)]
    found = paired_rates(pairs(0, 0, 400), 0.02, ALPHA, keys)
    assert found.n == 400 and found.n_eff == 40
    assert found.short == "a margin of 2 points needs 149 samples at the least, these clusters are worth 40.0"


def test_without_a_margin_only_a_shown_improvement_passes() -> None:
    assert not passes(paired_rates(pairs(0, 0, 5000), 0.0, ALPHA), 0.0)
    assert not passes(paired_rates(pairs(12, 8, 500), 0.0, ALPHA), 0.0)
    better = paired_rates(pairs(30, 8, 500), 0.0, ALPHA)
    assert passes(better, 0.0) and better.short == ""


def test_twenty_rows_in_two_subject_categories_decide_nothing() -> None:
    categories = [row % 2 for row in range(100)]
    for found in (
        rate_at_least(rate(100, 100), 0.5, ALPHA, categories),
        mean_at_least([0.0] * 100, (0.0, 1.0), 0.5, ALPHA, categories),
        paired_rates(pairs(50, 0, 100), 0.03, ALPHA, categories),
        paired_means(pairs(0, 90, 100), 1.0, 0.03, ALPHA, categories),
    ):
        assert found.problem == "only 2 clusters, 10 are needed"
        assert not passes(found, -1.0) and not fails(found) and found.n == 100 and found.clusters == 2


def test_no_samples_are_a_problem_and_no_number() -> None:
    for found in (
        rate_at_least([], 0.5, ALPHA),
        mean_at_least([], (0.0, 1.0), 0.5, ALPHA),
        paired_rates([], 0.03, ALPHA),
        quantile_at_most([], 0.95, 1.0, (ALPHA, ALPHA)),
        statistic_at_least(lambda rows: 1.0, [], 0.5, (ALPHA, ALPHA)),
    ):
        assert found.problem and math.isnan(found.estimate) and math.isnan(found.low) and found.n == 0


def test_values_that_do_not_fit_their_method_are_refused() -> None:
    with pytest.raises(ValueError, match="none of 0, 1"):
        rate_at_least([1.0, 0.5], 0.5, ALPHA)
    with pytest.raises(ValueError, match="none of -1, 0, 1"):
        paired_rates([1.0, -0.25], 0.02, ALPHA)
    with pytest.raises(ValueError, match="NaN"):
        mean_at_least([1.0, math.nan], (0.0, 1.0), 0.5, ALPHA)


def test_a_mean_on_a_scale_without_ends_has_no_plus2_bound() -> None:
    assert "finite" in mean_at_least([1.0, 2.0], (0.0, math.inf), 0.5, ALPHA).problem


STATES = st.integers(30, 400).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)
FEW_FLIPS = st.tuples(st.integers(0, 12), st.integers(0, 18), st.integers(30, 400))
MARGINS = st.sampled_from([0.0, 0.01, 0.02, 0.03, 0.05, 0.1])


@given(STATES | FEW_FLIPS, MARGINS)
def test_turning_a_tie_or_a_win_into_a_loss_never_creates_a_pass_nor_removes_a_fail(
    counts: tuple[int, int, int], margin: float
) -> None:
    b, c, n = counts
    before = paired_rates(pairs(b, c, n), margin, ALPHA)
    worse = [pairs(b, c + 1, n)] if b + c < n else []
    worse += [pairs(b - 1, c + 1, n), pairs(b - 1, c, n)] if b else []
    for after in (paired_rates(values, margin, ALPHA) for values in worse):
        assert passes(before, -margin) or not passes(after, -margin)
        assert not fails(before) or fails(after)


@given(STATES | FEW_FLIPS, MARGINS)
def test_pass_and_fail_never_hold_together(counts: tuple[int, int, int], margin: float) -> None:
    found = paired_rates(pairs(*counts), margin, ALPHA)
    assert not (passes(found, -margin) and fails(found))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=80), st.floats(0, 0.2))
def test_graded_pass_and_fail_never_hold_together(values: list[float], margin: float) -> None:
    found = paired_means(values, 1.0, margin, ALPHA)
    assert not (passes(found, -margin) and fails(found))


def test_a_key_of_its_own_for_every_row_changes_nothing() -> None:
    keys = list(range(200))
    assert rate_at_least(rate(170, 200), 0.8, ALPHA, keys) == rate_at_least(rate(170, 200), 0.8, ALPHA)
    assert paired_rates(pairs(9, 12, 200), 0.05, ALPHA, keys) == paired_rates(pairs(9, 12, 200), 0.05, ALPHA)


def test_a_statistic_has_the_bca_bounds_at_the_level_of_each_side() -> None:
    values = np.random.default_rng(8).exponential(size=60)
    units = [np.array([row]) for row in range(60)]

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    even = statistic_at_least(mean, units, 0.5, (ALPHA, ALPHA), seed=5)
    assert (even.low, even.high) == pytest.approx(bca(mean, units, confidence=0.9, seed=5), abs=1e-12)
    assert even.estimate == pytest.approx(values.mean()) and even.n == 60 and even.clusters is None
    assert even.se == pytest.approx(values.std() / math.sqrt(60), rel=0.05)
    assert math.isnan(even.p_pass) and math.isnan(even.p_fail)
    strict = statistic_at_least(mean, units, 0.5, (ALPHA, ALPHA / 10), seed=5)
    assert strict.low == even.low and strict.high > even.high


def test_a_statistic_is_redrawn_by_cluster() -> None:
    values = np.repeat(np.random.default_rng(9).random(40), 5)
    found = statistic_at_least(
        lambda rows: float(values[rows].mean()), group(np.repeat(np.arange(40), 5).tolist()), 0.5, (ALPHA, ALPHA)
    )
    assert (found.n, found.n_eff, found.clusters, found.method) == (200, 40, 40, "BCa, 40 clusters")
    assert found.se > 1.5 * values.std() / math.sqrt(200)


@pytest.mark.parametrize(
    ("statistic", "count", "problem"),
    [
        (lambda rows: float(rows.mean()), 19, "only 19 samples, 20 are needed"),
        (lambda rows: 1.0, 50, "constant or undefined"),
        (lambda rows: math.nan, 50, "no value"),
        (lambda rows: float(rows.mean()) if 7 in rows else math.nan, 50, "constant or undefined"),
    ],
)
def test_a_statistic_without_a_usable_bootstrap_is_a_problem_and_never_has_zero_width(
    statistic: Callable[[np.ndarray], float], count: int, problem: str
) -> None:
    found = statistic_at_least(statistic, [np.array([row]) for row in range(count)], 0.5, (ALPHA, ALPHA))
    assert problem in found.problem and math.isnan(found.low) and math.isnan(found.high)


def test_a_quantile_is_mirrored_and_bounded_by_order_statistics() -> None:
    values = np.random.default_rng(6).permutation(np.arange(1.0, 101.0))
    found = quantile_at_most(values, 0.95, 98.0, (ALPHA, ALPHA))
    upper, lower = int(binom.ppf(0.95, 100, 0.95)) + 1, int(binom.ppf(0.05, 100, 0.95))
    assert (found.low, found.high) == (-upper, -lower)
    assert found.low < found.estimate < found.high and found.estimate == pytest.approx(-95.05)


@pytest.mark.parametrize("n", [1, 20, 58, 59, 60, 333, 5000])
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_ranks_of_a_quantile_are_those_of_the_binomial_distribution(n: int, q: float) -> None:
    found = quantile_at_most(np.arange(1.0, n + 1), q, 1.0, (ALPHA, 0.01))
    upper, lower = int(binom.ppf(0.95, n, q)) + 1, int(binom.ppf(0.01, n, q))
    assert found.low == (-upper if upper <= n else -math.inf)
    assert found.high == (-lower if lower >= 1 else math.inf)
    assert bool(found.short) == (upper > n)


def test_a_p95_needs_59_samples_to_pass_but_fewer_to_fail() -> None:
    few = quantile_at_most(np.full(58, 9.0), 0.95, 2.5, (ALPHA, ALPHA))
    assert few.low == -math.inf and "needs 59 samples" in few.short and few.high == -9.0 < -2.5
    assert quantile_at_most(np.full(59, 1.0), 0.95, 2.5, (ALPHA, ALPHA)).low == -1.0 >= -2.5


def test_a_quantile_in_clusters_is_bounded_by_bca() -> None:
    random = np.random.default_rng(12)
    values, keys = random.exponential(size=90), np.repeat(np.arange(30), 3).tolist()
    found = quantile_at_most(values, 0.5, 2.0, (ALPHA, ALPHA), keys)
    assert found.method == "BCa, 30 clusters" and found.low < found.estimate < found.high < 0
