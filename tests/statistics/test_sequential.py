"""The e-process against its formula written out, and what may never happen however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vevals.statistics.sequential import (
    log_wealth,
    mean_sequential,
    p_value,
    paired_process,
    paired_sequential,
    process,
)

GOLDEN = np.array([1, 0.5, 0.5, 0.5, 0, 0.5, 1, 0.5, 0.5, 0.5] * 30)
PATHS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=80)


def written_out(x: list[float], m0: float) -> list[float]:
    """The definition, one value after the other."""
    log_e, path = 0.0, []
    for t in range(1, len(x) + 1):
        means = [(0.5 + sum(x[:j])) / (j + 1) for j in range(t)]
        spread = 0.25 + sum((x[j] - means[j + 1]) ** 2 for j in range(t - 1))
        gap = means[-1] - m0
        bet = max(0.0, min(gap / (spread / t + gap * gap), 0.5 / m0))
        log_e += math.log(1 + bet * (x[t - 1] - m0))
        path.append(log_e)
    return path


def test_log_e_has_its_golden_values() -> None:
    path = log_wealth(GOLDEN, 0.475)
    assert path[[9, 99, 299]] == pytest.approx((-0.358079, 2.058982, 8.950451), abs=1e-6)


@given(PATHS, st.floats(0.02, 1.0))
def test_log_e_equals_its_definition_one_value_after_the_other(x: list[float], m0: float) -> None:
    assert log_wealth(np.array(x), m0) == pytest.approx(written_out(x, m0), abs=1e-9)


def test_many_paths_and_many_limits_at_once_equal_one_by_one() -> None:
    x, limits = np.random.default_rng(3).random((4, 50)), np.array([0.0, 0.3, 0.7, 1.0])
    assert log_wealth(x, 0.4) == pytest.approx(np.array([log_wealth(row, 0.4) for row in x]))
    assert log_wealth(x[0], limits[:, None]) == pytest.approx(np.array([log_wealth(x[0], m) for m in limits]))


def test_nothing_seen_is_no_evidence() -> None:
    assert log_wealth(np.array([]), 0.5).shape == (0,)
    assert p_value(np.array([])) == 1.0
    bounds = mean_sequential([], (0, 1), 0.5, 0.05)
    assert bounds.problem == "no samples" and math.isnan(bounds.low) and math.isnan(bounds.p_pass)


@given(PATHS, st.floats(0.05, 0.95))
def test_fail_is_pass_in_the_mirror(x: list[float], m0: float) -> None:
    ours, mirrored = process(np.array(x), m0, 0.05), process(1 - np.array(x), 1 - m0, 0.05)
    assert ours.log_fail == pytest.approx(mirrored.log_pass, abs=1e-9)
    assert (ours.decision == "pass") == (mirrored.decision == "fail")


@given(PATHS, st.floats(0.05, 0.95))
def test_bounds_and_p_values_say_the_same_and_never_pass_and_fail_at_once(x: list[float], limit: float) -> None:
    bounds = mean_sequential(x, (0, 1), limit, 0.05)
    assert (bounds.low >= limit) == (bounds.p_pass <= 0.05)
    assert (bounds.high <= limit) == (bounds.p_fail <= 0.05)
    assert not (bounds.p_pass <= 0.05 and bounds.p_fail <= 0.05)
    assert bounds.low <= bounds.high


@given(PATHS, st.floats(0.05, 0.95), st.integers(1, 80))
def test_more_samples_never_take_a_decision_back(x: list[float], limit: float, seen: int) -> None:
    early, late = process(np.array(x[:seen]), limit, 0.1), process(np.array(x), limit, 0.1)
    if early.decision is not None:
        assert (late.decision, late.stopped_at) == (early.decision, early.stopped_at)
    elif late.stopped_at is not None:
        assert late.stopped_at > seen


@pytest.mark.parametrize("first", [1.0, 0.0])
def test_the_side_that_decides_first_keeps_the_decision_when_the_data_turn(first: float) -> None:
    x = [first] * 40 + [1 - first] * 4000
    bounds = mean_sequential(x, (0, 1), 0.5, 0.05)
    path = process(np.array(x), 0.5, 0.05)
    late = path.log_fail if first else path.log_pass
    assert late.max() > math.log(20), "the data really turn"
    assert path.decision == ("pass" if first else "fail") and path.stopped_at is not None and path.stopped_at <= 40
    assert (bounds.p_pass <= 0.05, bounds.p_fail <= 0.05) == (bool(first), not first)
    assert (bounds.low >= 0.5) == bool(first) and (bounds.high <= 0.5) == (not first)


def test_ten_identical_answers_decide_nothing_at_a_margin_of_one_point() -> None:
    bounds = paired_sequential([0.0] * 10, 1.0, 0.01, 0.05)
    assert bounds.estimate == 0.0 and bounds.n == 10
    assert bounds.low < -0.2 < 0.2 < bounds.high
    assert bounds.p_pass > 0.05 and bounds.p_fail == 1.0


def test_identical_answers_pass_in_the_end() -> None:
    bounds = paired_sequential([0.0] * 2000, 1.0, 0.03, 0.05)
    assert bounds.p_pass < 0.001 and bounds.low > -0.03


def test_a_difference_in_other_units_is_the_same_evidence() -> None:
    d = np.random.default_rng(5).choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.85, 0.05])
    ours, scaled = paired_sequential(d, 1.0, 0.02, 0.05), paired_sequential(20 * d, 20.0, 0.4, 0.05)
    assert (scaled.low, scaled.high, scaled.se, scaled.estimate) == pytest.approx(
        (20 * ours.low, 20 * ours.high, 20 * ours.se, 20 * ours.estimate)
    )
    assert (scaled.p_pass, scaled.p_fail) == pytest.approx((ours.p_pass, ours.p_fail))


def test_a_loss_inside_the_margin_is_noted_as_worse_without_being_a_failure() -> None:
    d = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], 3000, p=[0.06, 0.92, 0.02])
    path = paired_process(d, 1.0, 0.08, 0.05)
    assert path.decision == "pass" and path.p_fail > 0.05
    assert path.p_worse < 0.05


def test_samples_of_a_cluster_count_once() -> None:
    random = np.random.default_rng(9)
    answers = random.integers(0, 2, 60).astype(float)
    keys = [name for name in range(60) for _ in range(5)]
    copied = mean_sequential(np.repeat(answers, 5), (0, 1), 0.3, 0.05, keys)
    alone = mean_sequential(answers, (0, 1), 0.3, 0.05)
    assert (copied.low, copied.high, copied.p_pass) == (alone.low, alone.high, alone.p_pass)
    assert (copied.n, copied.n_eff, copied.clusters) == (300, 60.0, 60)
    assert "60 clusters" in copied.method


def test_clusters_stand_in_the_order_in_which_they_first_appear() -> None:
    values, keys = [1.0, 0.0, 1.0, 1.0] * 12, [key for pair in range(12) for key in (f"b{pair}", f"a{pair}") * 2]
    together = mean_sequential(values, (0, 1), 0.2, 0.05, keys)
    means = [mean for _ in range(12) for mean in (1.0, 0.5)]
    assert together.low == mean_sequential(means, (0, 1), 0.2, 0.05).low


def test_fewer_than_ten_clusters_decide_nothing() -> None:
    bounds = mean_sequential([1.0] * 900, (0, 1), 0.5, 0.05, [row % 9 for row in range(900)])
    assert "only 9 clusters" in bounds.problem and bounds.estimate == 1.0
    assert all(math.isnan(value) for value in (bounds.low, bounds.high, bounds.p_pass, bounds.p_fail))


def test_keys_that_are_all_different_change_nothing() -> None:
    assert mean_sequential(GOLDEN, (0, 1), 0.4, 0.05, range(300)) == mean_sequential(GOLDEN, (0, 1), 0.4, 0.05)


@pytest.mark.parametrize("wrong", [math.nan, 1.2, -0.1, math.inf])
def test_a_value_that_is_no_number_or_beyond_the_scale_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        mean_sequential([0.5, wrong], (0, 1), 0.5, 0.05)


def test_a_limit_beyond_the_scale_is_judged_at_its_end() -> None:
    assert mean_sequential([1.0] * 100, (0, 1), 1.5, 0.05).p_pass == 1.0
    assert mean_sequential([0.0] * 100, (0, 1), 1.5, 0.05).p_fail < 0.001
    assert mean_sequential([0.0] * 100, (0, 1), -0.5, 0.05).p_fail == 1.0


def test_the_bounds_close_in_on_the_truth() -> None:
    x = np.random.default_rng(8).binomial(1, 0.8, 20_000).astype(float)
    few, many = (mean_sequential(x[:n], (0, 1), 0.5, 0.05) for n in (200, 20_000))
    assert few.low < many.low < 0.8 < many.high < few.high
    assert many.high - many.low < 0.03
