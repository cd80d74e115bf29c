"""How often early stopping, judges, rank sets and plans are wrong in the long run, by seeded simulation.

Limits leave three standard errors of Monte-Carlo room; what was measured stands beside them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import bdtr, ndtri

from vevals.statistics import clopper_pearson
from vevals.statistics.power import power_of_floor, power_of_margin
from vevals.statistics.prediction_powered import ppi_difference, ppi_mean
from vevals.statistics.ranks import rank_sets
from vevals.statistics.sequential import log_wealth, mean_sequential

pytestmark = pytest.mark.slow

ENOUGH = math.log(20)
FLIPS, MARGIN, CAP = 0.15, 0.03, 2000


def room(rate: float, draws: int) -> float:
    """``rate`` plus three standard errors of what is counted in ``draws``."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / draws)


def differences(random: np.random.Generator, truth: float, size: tuple[int, ...]) -> np.ndarray:
    """Paired differences of mean ``truth`` in which 15% of the samples flip."""
    win, loss = (FLIPS + truth) / 2, (FLIPS - truth) / 2
    return random.choice([1.0, 0.0, -1.0], size, p=[win, 1 - FLIPS, loss])


def stopped(truth: float, paths: int, seed: int) -> dict[str, np.ndarray]:
    """After how many samples each path passed, failed and was noted as worse; infinite where it never did."""
    x = (differences(np.random.default_rng(seed), truth, (paths, CAP)) + 1) / 2
    sides = {
        "pass": log_wealth(x, (1 - MARGIN) / 2),
        "fail": log_wealth(1 - x, (1 + MARGIN) / 2),
        "worse": log_wealth(1 - x, 0.5),
    }
    return {name: np.where((e >= ENOUGH).any(1), (e >= ENOUGH).argmax(1) + 1.0, np.inf) for name, e in sides.items()}


def test_on_the_margin_the_e_process_is_wrong_at_most_1_in_20_times_however_often_one_looks() -> None:
    found = stopped(-MARGIN, 2000, seed=1)
    assert np.isfinite(found["pass"]).mean() <= 0.05  # .028
    assert np.isfinite(found["fail"]).mean() <= 0.05  # .026
    assert np.isfinite(stopped(0.0, 2000, seed=2)["worse"]).mean() <= 0.05  # .030


def test_the_e_process_passes_what_is_as_good_and_fails_what_is_worse_while_samples_last() -> None:
    same, better, worse = stopped(0.0, 500, seed=3), stopped(0.03, 500, seed=4), stopped(-0.06, 500, seed=5)
    assert np.isfinite(same["pass"]).mean() > 0.65  # .71, of these the median at 857
    assert np.isfinite(same["fail"]).mean() <= 0.01
    assert np.median(better["pass"]) < 320  # 280
    assert np.isfinite(worse["fail"]).mean() > 0.7  # .79
    assert np.isfinite(worse["worse"]).mean() > 0.98
    assert np.median(stopped(-0.10, 500, seed=6)["fail"]) < 200  # 173


def test_the_bounds_of_the_e_process_hold_the_truth_at_every_look_at_once() -> None:
    random, outside, draws = np.random.default_rng(7), 0, 400
    looks = (20, 50, 100, 200, 400)
    for _ in range(draws):
        x = random.binomial(1, 0.9, looks[-1]).astype(float)
        bounds = [mean_sequential(x[:n], (0, 1), 0.8, 0.05) for n in looks]
        outside += any(not one.low <= 0.9 <= one.high for one in bounds)
    assert outside / draws <= 0.10, "two sides at 5% each"  # .048


def judged_by(random: np.random.Generator, right: np.ndarray, sensitivity: float, specificity: float) -> np.ndarray:
    """What a judge says of answers that are ``right`` or not."""
    return np.where(right, random.random(right.shape) < sensitivity, random.random(right.shape) > specificity)


def test_a_judged_rate_with_100_labels_is_claimed_too_high_in_at_most_7_of_100_cases() -> None:
    random, draws, n = np.random.default_rng(11), 3000, 100
    too_high = too_low = 0
    for _ in range(draws):
        right = random.random(n + 2000) < 0.95
        seen = judged_by(random, right, 0.97, 0.93).astype(float)
        found = ppi_mean(right[:n].astype(float), seen[:n], seen[n:], (0, 1), 0.05)
        too_high += found.low > 0.95
        too_low += found.high < 0.95
    assert too_high / draws <= 0.07  # .039
    assert too_low / draws <= 0.07  # .015


def test_a_judge_that_favours_the_candidate_does_not_buy_a_pass() -> None:
    random, draws, n, margin = np.random.default_rng(12), 1000, 200, 0.03
    powered = raw = 0
    for _ in range(draws):
        ours, theirs = random.random((2, n + 2000)) < np.array([[0.77], [0.80]])
        seen = judged_by(random, ours, 0.97, 0.75) * 1.0 - judged_by(random, theirs, 0.97, 0.85)
        truth = ours[:n] * 1.0 - theirs[:n]
        powered += ppi_difference(truth, seen[:n], seen[n:], 1.0, 0.05).low >= -margin
        raw += seen.mean() - 1.645 * seen.std() / math.sqrt(len(seen)) >= -margin
    assert powered / draws <= room(0.06, draws)  # .050
    assert raw / draws > 0.5, "what trusting the judge would do"  # .79


def test_clusters_of_judged_samples_are_not_taken_for_independent_ones() -> None:
    random, draws, groups = np.random.default_rng(13), 1500, 240
    too_high = too_low = ignored = 0
    keys = [*np.repeat(np.arange(40), 5), *np.repeat(np.arange(40, groups), 5)]
    for _ in range(draws):
        rates = random.beta(0.8 * 4, 0.2 * 4, groups)
        right = random.random(groups * 5) < np.repeat(rates, 5)
        seen = judged_by(random, right, 0.9, 0.8).astype(float)
        parts = right[:200].astype(float), seen[:200], seen[200:]
        found = ppi_mean(*parts, (0, 1), 0.05, keys=keys)
        too_high += found.low > 0.8
        too_low += found.high < 0.8
        ignored += ppi_mean(*parts, (0, 1), 0.05).low > 0.8
    assert too_high / draws <= 0.07  # .005
    assert too_low / draws <= 0.07  # .012
    assert ignored / draws > 0.07, "what ignoring the clusters would do"  # .088


RATES = np.array([0.80, 0.795, 0.78, 0.76, 0.73, 0.70, 0.66, 0.60])


def answers(random: np.random.Generator, n: int) -> np.ndarray:
    """(models, n) right or wrong; half of the variance of a latent score is the question's."""
    latent = math.sqrt(0.5) * random.standard_normal(n) + math.sqrt(0.5) * random.standard_normal((len(RATES), n))
    return latent < ndtri(RATES)[:, None]


def exact_p(right: np.ndarray) -> np.ndarray:
    """(models, models) exact McNemar p-values."""
    wins = right.astype(float) @ (~right).T.astype(float)
    pairs = wins + wins.T
    few = np.minimum(wins, wins.T)
    return np.minimum(1.0, 2 * bdtr(few, pairs.astype(int), 0.5))


@pytest.mark.parametrize(("n", "widest", "narrowest"), [(100, 8.0, 6.0), (1000, 4.5, 2.5)])
def test_all_rank_sets_hold_the_true_ranks_at_once(n: int, widest: float, narrowest: float) -> None:
    random, draws, whole, sizes = np.random.default_rng(21), 150, 0, []
    for _ in range(draws):
        right = answers(random, n)
        sets = rank_sets(right.mean(axis=1), exact_p(right))
        whole += all(low <= rank <= high for rank, (low, high) in enumerate(sets, start=1))
        sizes.append(np.mean([high - low + 1 for low, high in sets]))
    assert whole / draws >= 0.95
    assert narrowest < np.mean(sizes) < widest


def passes_margin(fixed: np.ndarray, broke: np.ndarray, n: int, margin: float) -> np.ndarray:
    """The gate's rule for binary pairs, written out: score test at the margin, and enough samples for it."""
    delta = -margin
    linear = -fixed - broke + (2 * n - fixed + broke) * delta
    loss = (np.sqrt(linear**2 + 8 * n * broke * delta * (1 - delta)) - linear) / (4 * n)
    score = (fixed - broke - n * delta) / np.sqrt(n * (2 * loss + delta * (1 - delta)))
    return (score >= ndtri(0.95)) & (n >= math.ceil(math.log(0.05) / math.log(1 - margin)))


@pytest.mark.parametrize(("n", "flips", "margin"), [(1000, 0.10, 0.03), (1500, 0.15, 0.02), (300, 0.10, 0.05)])
def test_an_unchanged_model_passes_as_often_as_the_plan_says(n: int, flips: float, margin: float) -> None:
    counts = np.random.default_rng(31).multinomial(n, [flips / 2, flips / 2, 1 - flips], 5000)
    found = passes_margin(counts[:, 0], counts[:, 1], n, margin).mean()
    assert found == pytest.approx(power_of_margin(n, flips, margin, 0.05), abs=0.04)


def test_a_floor_is_passed_as_often_as_the_plan_says() -> None:
    counts = np.random.default_rng(32).binomial(200, 0.87, 4000)
    lower = {k: clopper_pearson(k, 200, 0.9)[0] for k in set(counts.tolist())}
    found = np.mean([lower[k] >= 0.8 for k in counts.tolist()])
    assert found == pytest.approx(power_of_floor(200, 0.87, 0.8, 0.05), abs=3 * 0.5 / math.sqrt(4000))
