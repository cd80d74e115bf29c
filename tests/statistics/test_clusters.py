"""Samples that stand or fall together must not count as independent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vevals.statistics.clusters import effective_n, group, jackknife_variance, plus2_clusters
from vevals.statistics.estimates import Scale, estimate_mean, estimate_statistic

BINARY = Scale(0.0, 1.0, binary=True)


def test_the_jackknife_has_its_golden_value() -> None:
    sums = np.array([0, 0, -1, 0, 1, 0, -1, 0, 0, -2, 0, 1], dtype=float)
    sizes = np.array([5] * 10 + [2, 8], dtype=float)
    assert jackknife_variance(sums, sizes) == pytest.approx(0.00244748, abs=1e-8)


def test_copies_of_each_answer_add_nothing_to_what_is_known() -> None:
    answers = [1.0, 0.0] * 30
    values = [value for value in answers for _ in range(5)]
    keys = [index for index in range(60) for _ in range(5)]
    assert effective_n(values, group(keys)) == pytest.approx(60, rel=0.08)
    alone = estimate_mean(answers, total=60, scale=BINARY)
    copied = estimate_mean(values, total=300, scale=BINARY, cluster_keys=keys)
    assert copied.value == alone.value
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_independent_answers_in_clusters_keep_nearly_all_their_worth() -> None:
    random = np.random.default_rng(7)
    values = random.integers(0, 2, 400).astype(float)
    assert effective_n(list(values), group(list(np.arange(400) // 4))) > 280


def test_a_cluster_key_that_is_different_for_every_row_changes_nothing() -> None:
    values = [1.0, 0.0, 1.0, 1.0] * 10
    assert estimate_mean(values, total=40, scale=BINARY, cluster_keys=list(range(40))) == estimate_mean(
        values, total=40, scale=BINARY
    )


@pytest.mark.parametrize("scale", [BINARY, Scale(0.0, 1.0)])
def test_fewer_than_ten_clusters_give_no_interval_and_say_so(scale: Scale) -> None:
    estimate = estimate_mean([0.0, 1.0] * 20, total=40, scale=scale, cluster_keys=[i // 8 for i in range(40)])
    assert math.isnan(estimate.low) and "only 5 clusters" in estimate.method
    assert estimate.value == 0.5


def test_plus2_over_clusters_is_wider_when_clusters_agree_inside() -> None:
    keys = [index // 10 for index in range(200)]
    together = [float(key % 2) for key in keys]
    mixed = [float(index % 2) for index in range(200)]
    wide = plus2_clusters(together, group(keys), (0.0, 1.0))
    narrow = plus2_clusters(mixed, group(keys), (0.0, 1.0))
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_the_interval_under_clustering_covers_the_truth() -> None:
    random = np.random.default_rng(11)
    inside = 0
    for _ in range(300):
        rates = random.beta(4, 1, size=30)
        values = [float(random.random() < rate) for rate in rates for _ in range(8)]
        estimate = estimate_mean(values, total=240, scale=BINARY, cluster_keys=[i // 8 for i in range(240)])
        inside += estimate.low <= 0.8 <= estimate.high
    assert inside / 300 > 0.92


def test_a_set_level_statistic_is_resampled_by_cluster() -> None:
    values = np.random.default_rng(5).normal(size=120)
    keys = [index // 4 for index in range(120)]
    estimate = estimate_statistic(lambda rows: float(values[rows].mean()), 120, total=130, cluster_keys=keys)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.scored, estimate.total, estimate.method) == (120, 130, "BCa, 30 clusters")
    assert estimate.low < estimate.value < estimate.high


def test_nothing_scored_is_no_number() -> None:
    estimate = estimate_mean([], total=12, scale=BINARY)
    assert math.isnan(estimate.value) and estimate.coverage == 0.0
