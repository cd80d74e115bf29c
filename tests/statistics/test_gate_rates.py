"""How often a gate errs: exact enumerations and seeded simulations of its bounds, the truth on the limit or worse.

Every rate has a stated ceiling that leaves three standard errors of Monte-Carlo room.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from vevals.statistics import Bounds, mean_at_least, paired_means, paired_rates, rate_at_least

pytestmark = pytest.mark.slow

ALPHA = 0.05
GATES = 2000
Array = NDArray[np.float64]


def passes(bounds: Bounds, limit: float) -> bool:
    return bounds.low >= limit and not bounds.short


def fails(bounds: Bounds) -> bool:
    return bounds.p_fail <= ALPHA


def differences(fixed: int, broke: int, n: int) -> Array:
    return np.repeat([1.0, -1.0, 0.0], [fixed, broke, n - fixed - broke])


def rates_of(draw: Callable[[np.random.Generator], Bounds], limit: float, seed: int, gates: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    states = [draw(random) for _ in range(gates)]
    passed, failed = (sum(found) / gates for found in ([passes(b, limit) for b in states], [fails(b) for b in states]))
    return passed, failed


def fewest_fixed_that_pass(n: int, margin: float, broke: int) -> list[int]:
    """For each number broke up to ``broke``, the least number fixed that passes (more always pass)."""
    least, found = 0, []
    for count in range(broke + 1):
        while count + least <= n and not passes(paired_rates(differences(least, count, n), margin, ALPHA), -margin):
            least += 1
        found.append(least)
    return found


def most_fixed_that_fail(n: int, margin: float, broke: int) -> list[int]:
    """For each number broke up to ``broke``, the greatest number fixed that fails (fewer always fail), or -1."""
    most, found = -1, []
    for count in range(broke + 1):
        while count + most + 1 <= n and fails(paired_rates(differences(most + 1, count, n), margin, ALPHA)):
            most += 1
        found.append(most)
    return found


WINS = np.linspace(0.0, 0.2, 81)


def worst_error(n: int, margin: float) -> tuple[float, float]:
    """Greatest chance of PASS and of FAIL over win rates 0 to .2 where the candidate loses exactly ``margin``."""
    broke = int(binom.isf(1e-9, n, WINS[-1] + margin))
    counts = np.arange(broke + 1)[:, None]
    mass = binom.pmf(counts, n, WINS + margin)
    share = WINS / (1 - WINS - margin)
    least = np.array(fewest_fixed_that_pass(n, margin, broke))[:, None]
    most = np.array(most_fixed_that_fail(n, margin, broke))[:, None]
    passed = (mass * binom.sf(least - 1, n - counts, share)).sum(axis=0)
    failed = (mass * binom.cdf(most, n - counts, share)).sum(axis=0)
    return float(passed.max()), float(failed.max())


def test_the_binary_rule_errs_as_rarely_as_stated_by_exact_enumeration() -> None:
    errors = [worst_error(n, margin) for margin in (0.01, 0.02, 0.03, 0.05, 0.1) for n in range(20, 501, 18)]
    assert max(passed for passed, _ in errors) <= 0.056
    assert max(failed for _, failed in errors) <= 0.0505


def least_that(holds: Callable[[int], bool], n: int) -> int:
    """The least k in 0 to n for which ``holds``, which stays true from there on; n + 1 if none."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


@pytest.mark.parametrize("n", [20, 33, 50, 100, 199, 500, 1000])
def test_a_rate_on_its_limit_never_errs_more_often_than_alpha_by_exact_enumeration(n: int) -> None:
    for limit in np.linspace(0.05, 0.995, 64):

        def bounds(k: int, limit: float = float(limit)) -> Bounds:
            return rate_at_least(np.repeat([1.0, 0.0], [k, n - k]), limit, ALPHA)

        passing = least_that(lambda k, bounds=bounds, limit=limit: passes(bounds(k), limit), n)
        standing = least_that(lambda k, bounds=bounds: not fails(bounds(k)), n)
        assert binom.sf(passing - 1, n, limit) <= ALPHA
        assert binom.cdf(standing - 1, n, limit) <= ALPHA


def binary_pairs(rates: tuple[float, float], n: int, margin: float) -> Callable[[np.random.Generator], Bounds]:
    fixed, broke = rates

    def draw(random: np.random.Generator) -> Bounds:
        b, c, _ = random.multinomial(n, (fixed, broke, 1 - fixed - broke))
        return paired_rates(differences(b, c, n), margin, ALPHA)

    return draw


def test_a_candidate_on_the_margin_rarely_passes_and_rarely_fails() -> None:
    passed, failed = rates_of(binary_pairs((0.035, 0.065), 1000, 0.03), -0.03, 1, GATES)
    assert passed <= 0.065 and failed <= 0.065


@pytest.mark.parametrize(("n", "ceiling"), [(100, 0.03), (200, 0.01)])
def test_a_five_point_loss_hardly_ever_passes_a_two_point_margin(n: int, ceiling: float) -> None:
    passed, _ = rates_of(binary_pairs((0.05, 0.10), n, 0.02), -0.02, 2, GATES)
    assert passed <= ceiling


@pytest.mark.parametrize(("n", "ceiling"), [(20, 0.0), (40, 0.0), (80, 0.08)])
def test_a_rare_catastrophe_is_not_overlooked_because_the_sample_shows_none(n: int, ceiling: float) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        noise = random.normal(0.0, 0.02, n)
        return paired_means(np.where(random.random(n) < 0.03, -1.0, noise), 1.0, 0.03, ALPHA)

    passed, _ = rates_of(draw, -0.03, 3, GATES)
    assert passed <= ceiling


def test_a_skewed_mean_on_its_limit_passes_and_fails_rarely() -> None:
    def draw(random: np.random.Generator) -> Bounds:
        return mean_at_least(random.beta(4.0, 1.0, 60), (0.0, 1.0), 0.8, ALPHA)

    passed, failed = rates_of(draw, 0.8, 4, GATES)
    assert passed <= 0.065 and failed <= 0.065


SIZES = np.resize([1, 2, 3, 4, 5, 5, 6, 7, 8, 9], 40)
"""Rows of each of 40 clusters: 5 on average, very unequal."""
KEYS = np.repeat(np.arange(40), SIZES).tolist()


def clustered_flips(random: np.random.Generator, rates: tuple[float, float]) -> Array:
    """-1, 0, 1 with intra-cluster correlation .2: each cluster has its own rates, Dirichlet of concentration 4."""
    fixed, broke = rates
    each = random.dirichlet(4 * np.array([broke, 1 - fixed - broke, fixed]), len(SIZES))
    chance = np.cumsum(each, axis=1)[KEYS]
    return (random.random(len(KEYS))[:, None] > chance[:, :2]).sum(axis=1) - 1.0


@pytest.mark.parametrize(("rates", "margin"), [((0.05, 0.10), 0.05), ((0.025, 0.125), 0.10), ((0.02, 0.07), 0.05)])
def test_clusters_that_agree_inside_do_not_buy_a_pass_or_a_fail(rates: tuple[float, float], margin: float) -> None:
    passed, failed = rates_of(
        lambda random: paired_rates(clustered_flips(random, rates), margin, ALPHA, KEYS), -margin, 5, GATES
    )
    assert passed <= 0.07 and failed <= 0.07


@pytest.mark.parametrize("rate", [0.8, 0.9])
def test_a_rate_in_clusters_on_its_limit_passes_and_fails_rarely(rate: float) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        right = random.beta(4 * rate, 4 * (1 - rate), len(SIZES))[KEYS]
        return rate_at_least((random.random(len(KEYS)) < right).astype(float), rate, ALPHA, KEYS)

    passed, failed = rates_of(draw, rate, 6, GATES)
    assert passed <= 0.07 and failed <= 0.07


@pytest.mark.parametrize("keys", [None, KEYS], ids=["alone", "clusters"])
def test_graded_pairs_on_the_margin_rarely_pass_and_rarely_fail(keys: list[int] | None) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        shift = 0.0 if keys is None else random.normal(0.0, 0.15, len(SIZES))[KEYS]
        four_repeats = random.binomial(4, 0.7, (2, len(KEYS))) / 4
        moved = four_repeats[0] - four_repeats[1] + shift
        return paired_means(np.clip(moved, -0.97, 0.97) - 0.03, 1.0, 0.03, ALPHA, keys)

    passed, failed = rates_of(draw, -0.03, 7, GATES)
    assert passed <= 0.065 and failed <= 0.065
