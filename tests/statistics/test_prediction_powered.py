"""Prediction-powered means: golden values, the published implementation, and what a bad judge may not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vevals.statistics.prediction_powered import ppi_difference, ppi_mean, ppi_plain

LABELS = [1.0] * 80 + [0.0] * 20
JUDGED = [1.0] * 78 + [0.0] * 2 + [1.0] + [0.0] * 19
OTHERS = [1.0] * 1580 + [0.0] * 420
UNIT = (0.0, 1.0)


def judged_samples(seed: int, n: int = 100, others: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Binary labels at rate .8, and a judge with sensitivity .97 and specificity .93."""
    random = np.random.default_rng(seed)
    truth = random.random(n + others) < 0.8
    seen = np.where(truth, random.random(n + others) < 0.97, random.random(n + others) > 0.93).astype(float)
    return truth[:n].astype(float), seen[:n], seen[n:]


def test_the_golden_values_of_the_design_hold() -> None:
    plus2 = ppi_mean(LABELS, JUDGED, OTHERS, UNIT, 0.025)
    assert (plus2.lam, plus2.theta, plus2.se) == pytest.approx((0.857796, 0.798995, 0.022416), abs=1e-6)
    plain = ppi_plain(LABELS, JUDGED, OTHERS, 0.025)
    assert (plain.lam, plain.theta, plain.se) == pytest.approx((0.857796, 0.800000, 0.018589), abs=1e-6)


def test_plus2_bounds_are_those_of_student_with_one_less_than_the_labels() -> None:
    found = ppi_mean(LABELS, JUDGED, OTHERS, UNIT, 0.05)
    assert found.freedom == 99
    assert (found.high - found.theta) / found.se == pytest.approx(1.660391, abs=1e-5)
    assert found.theta - found.low == pytest.approx(found.high - found.theta)


@pytest.mark.parametrize("seed", range(5))
def test_the_plain_variant_equals_the_published_implementation(seed: int) -> None:
    ppi_py = pytest.importorskip("ppi_py")
    labels, judged, others = judged_samples(seed)
    ours = ppi_plain(labels, judged, others, 0.025)
    low, high = ppi_py.ppi_mean_ci(labels, judged, others, alpha=0.05, lam=ours.lam)
    half = (ours.high - ours.low) / 2
    assert (ours.low, ours.high) == pytest.approx((low[0], high[0]), abs=half / (2 * 98))  # it divides by n, not n - 1
    theirs = ppi_py.ppi_mean_ci(labels, judged, others, alpha=0.05)  # its own weight divides by n instead of n - 1
    same = ppi_py.ppi_mean_ci(labels, judged, others, alpha=0.05, lam=ours.lam * 99 / 100)
    assert np.ravel(theirs) == pytest.approx(np.ravel(same), abs=1e-9)


def test_the_golden_case_is_within_2_in_10000_of_the_published_implementation() -> None:
    ppi_py = pytest.importorskip("ppi_py")
    low, high = ppi_py.ppi_mean_ci(*(np.array(part) for part in (LABELS, JUDGED, OTHERS)), alpha=0.05)
    ours = ppi_plain(LABELS, JUDGED, OTHERS, 0.025)
    assert (ours.low, ours.high) == pytest.approx((low[0], high[0]), abs=2e-4)


def test_the_weight_is_the_one_that_makes_the_variance_least() -> None:
    labels, judged, others = judged_samples(1)
    best = ppi_plain(labels, judged, others, 0.025).lam
    pooled = np.concatenate([judged, others]).var()
    spread = [
        lam**2 * pooled / len(others) + (labels.var() + lam**2 * pooled - 2 * lam * np.cov(labels, judged)[0, 1]) / 100
        for lam in np.linspace(0, 1, 1001)
    ]
    assert best == pytest.approx(np.linspace(0, 1, 1001)[int(np.argmin(spread))], abs=0.01)


def test_a_good_judge_makes_the_interval_narrower_than_the_labels_alone() -> None:
    labels, judged, others = judged_samples(2)
    powered, alone = ppi_mean(labels, judged, others, UNIT, 0.025), ppi_mean(labels, judged, [], UNIT, 0.025)
    assert alone.lam == 0 and alone.others == 0
    assert powered.high - powered.low < 0.7 * (alone.high - alone.low)


@pytest.mark.parametrize("judge", [lambda y: np.ones_like(y), lambda y: 1 - y], ids=["constant", "always wrong"])
def test_a_judge_that_says_nothing_or_the_opposite_is_ignored(judge: object) -> None:
    labels, _, others = judged_samples(3)
    found = ppi_mean(labels, judge(labels), judge(others), UNIT, 0.05)  # type: ignore[operator]
    extended = np.append(labels, UNIT)
    assert found.lam == 0
    assert found.theta == pytest.approx(extended.mean())
    assert found.se == pytest.approx(extended.std(ddof=1) / math.sqrt(len(extended)))


def test_the_bias_of_the_judge_does_not_reach_the_estimate() -> None:
    labels, judged, others = judged_samples(4)
    honest, generous = (ppi_plain(labels, judged + up, others + up, 0.05) for up in (0.0, 0.5))
    assert (generous.theta, generous.se) == pytest.approx((honest.theta, honest.se), abs=1e-9)
    honest, generous = (ppi_mean(labels, judged + up, others + up, (0, 2), 0.05) for up in (0.0, 0.5))
    assert generous.theta == pytest.approx(honest.theta, abs=2 * 0.5 / 102), "but for the two pseudo-values"


@given(st.integers(0, 1000))
def test_mirrored_scores_give_the_mirrored_interval(seed: int) -> None:
    labels, judged, others = judged_samples(seed, n=30, others=60)
    found = ppi_mean(labels, judged, others, UNIT, 0.05)
    mirrored = ppi_mean(1 - labels, 1 - judged, 1 - others, UNIT, 0.05)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


def test_a_scale_of_1_to_5_is_the_same_evidence_as_0_to_1() -> None:
    labels, judged, others = judged_samples(5)
    unit = ppi_mean(labels, judged, others, UNIT, 0.05)
    stars = ppi_mean(1 + 4 * labels, 1 + 4 * judged, 1 + 4 * others, (1, 5), 0.05)
    assert (stars.theta, stars.low, stars.high) == pytest.approx(
        (1 + 4 * unit.theta, 1 + 4 * unit.low, 1 + 4 * unit.high)
    )


def test_a_paired_difference_is_extended_by_its_span_both_ways() -> None:
    random = np.random.default_rng(6)
    labels = random.choice([-1.0, 0.0, 1.0], 60, p=[0.1, 0.8, 0.1])
    judged, others = labels * random.integers(0, 2, 60), random.choice([-1.0, 0.0, 1.0], 500, p=[0.1, 0.8, 0.1])
    found = ppi_difference(labels, judged, others, 1.0, 0.05)
    rest = np.append(labels - found.lam * judged, (1.0, -1.0))
    assert found.theta == pytest.approx(found.lam * others.mean() + rest.mean())
    assert found.se**2 == pytest.approx(found.lam**2 * others.var(ddof=1) / 500 + rest.var(ddof=1) / 62)


@given(st.integers(0, 1000), st.floats(0.3, 0.95))
def test_bounds_and_p_values_say_the_same(seed: int, limit: float) -> None:
    labels, judged, others = judged_samples(seed, n=40, others=200)
    bounds = ppi_mean(labels, judged, others, UNIT, 0.05).against(limit)
    assert (bounds.low >= limit) == (bounds.p_pass <= 0.05)
    assert (bounds.high <= limit) == (bounds.p_fail <= 0.05)
    assert bounds.p_pass + bounds.p_fail == pytest.approx(1)
    assert (bounds.n, bounds.n_eff, bounds.problem) == (40, 40.0, "")


def test_clusters_of_one_sample_each_are_no_clusters_and_one_pair_costs_next_to_nothing() -> None:
    labels, judged, others = judged_samples(7)
    alone = ppi_mean(labels, judged, others, UNIT, 0.05)
    assert ppi_mean(labels, judged, others, UNIT, 0.05, keys=range(2100)) == alone
    paired = ppi_mean(labels, judged, others, UNIT, 0.05, keys=[*range(2099), 2098])
    assert paired.theta == pytest.approx(alone.theta) and paired.se == pytest.approx(alone.se, rel=0.01)
    assert paired.freedom == 99 and paired.clusters == 100


def test_copies_inside_a_cluster_do_not_make_the_error_smaller() -> None:
    labels, judged, others = judged_samples(8, n=50, others=500)
    keys = [*np.repeat(np.arange(50), 4), *np.repeat(np.arange(50, 550), 4)]
    parts = [np.repeat(part, 4) for part in (labels, judged, others)]
    alone, copied = ppi_mean(labels, judged, others, UNIT, 0.05), ppi_mean(*parts, UNIT, 0.05, keys=keys)
    assert (copied.theta, copied.se) == pytest.approx((alone.theta, alone.se), rel=0.02)
    assert ppi_mean(*parts, UNIT, 0.05).se < 0.6 * alone.se, "what ignoring the clusters would claim"
    assert copied.freedom == 49 and "jackknife over clusters (50 with labels)" in copied.method
    assert copied.against(0.5).clusters == 50 and copied.against(0.5).n == 200


def test_a_difference_takes_clusters_too() -> None:
    labels, judged, others = judged_samples(9, n=60, others=60)
    keys = [*range(30), *range(30), *range(30), *range(30)]
    found = ppi_difference(labels - 1, judged - 1, others - 1, 1.0, 0.05, keys=keys)
    assert found.clusters == 30 and math.isfinite(found.low)


@pytest.mark.parametrize(
    ("labels", "keys", "problem"),
    [
        ([1.0], None, "only 1 labels"),
        ([], None, "only 0 labels"),
        ([1.0, 0.0] * 10, [*[row % 5 for row in range(20)], *range(9, 13)], "only 5 clusters with labels"),
        ([1.0, 0.0] * 10, [*range(20), *["same"] * 4], "one cluster holds all"),
    ],
)
def test_too_little_to_go_by_gives_no_bounds_and_says_why(
    labels: list[float], keys: list[object] | None, problem: str
) -> None:
    found = ppi_mean(labels, labels, [1.0, 0.0, 1.0, 1.0], UNIT, 0.05, keys=keys)
    bounds = found.against(0.5)
    assert problem in found.problem == bounds.problem
    assert all(math.isnan(value) for value in (found.low, found.high, bounds.p_pass, bounds.p_fail))


def test_plain_without_any_variation_has_no_bounds() -> None:
    found = ppi_plain([1.0] * 50, [1.0] * 50, [1.0] * 50, 0.05)
    assert found.theta == 1.0 and found.problem == "no variation, so no error"
    assert ppi_mean([1.0] * 50, [1.0] * 50, [1.0] * 50, UNIT, 0.05).low < 0.97


@pytest.mark.parametrize(
    ("labels", "judged", "keys", "message"),
    [
        ([1.0, 0.0], [1.0], None, "2 labels but 1 scores"),
        ([1.0, math.nan], [1.0, 0.0], None, "must be numbers"),
        ([1.0, 0.0], [1.0, 0.0], [1], "1 cluster keys for 4 samples"),
    ],
)
def test_input_that_does_not_fit_together_is_refused(
    labels: list[float], judged: list[float], keys: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ppi_mean(labels, judged, [1.0, 0.0], UNIT, 0.05, keys=keys)
