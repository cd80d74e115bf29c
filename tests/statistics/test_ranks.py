"""What may be said about many p-values at once, and about the order of models."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from vevals.statistics.ranks import benjamini_hochberg, holm, lead_shares, pareto, rank_sets, tiers

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def symmetric(models: int, pairs: dict[tuple[int, int], float]) -> np.ndarray:
    """p = 1 but for the given pairs."""
    p = np.ones((models, models))
    for (one, other), value in pairs.items():
        p[one, other] = p[other, one] = value
    return p


@settings(max_examples=15, deadline=None)
@given(P_VALUES)
def test_holm_equals_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


@given(P_VALUES)
def test_benjamini_hochberg_equals_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p), abs=1e-12)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_test_that_was_not_made_counts_in_the_family_and_stays_unknown(adjust: object) -> None:
    with_gap = adjust([0.01, math.nan, 0.02])  # type: ignore[operator]
    assert math.isnan(with_gap[1])
    assert with_gap[[0, 2]] == pytest.approx(adjust([0.01, 1.0, 0.02])[[0, 2]])  # type: ignore[operator]


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_adjusting_nothing_gives_nothing_and_a_wrong_p_value_is_refused(adjust: object) -> None:
    assert len(adjust([])) == 0  # type: ignore[operator]
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjust([0.5, 1.5])  # type: ignore[operator]


def test_models_that_cannot_be_told_apart_can_all_have_every_rank() -> None:
    assert rank_sets([0.9, 0.8, 0.7], np.ones((3, 3))) == [(1, 3)] * 3


def test_only_significant_pairs_narrow_a_rank_set() -> None:
    p = symmetric(4, {(0, 3): 0.001, (1, 3): 0.002, (0, 2): 0.04})
    assert rank_sets([0.9, 0.85, 0.8, 0.5], p) == [(1, 3), (1, 3), (1, 4), (3, 4)]


def test_rank_sets_are_holm_adjusted_over_all_pairs() -> None:
    assert rank_sets([0.9, 0.8], symmetric(2, {(0, 1): 0.04})) == [(1, 1), (2, 2)]
    assert rank_sets([0.9, 0.8, 0.7], symmetric(3, {(0, 1): 0.04})) == [(1, 3)] * 3


def test_rank_sets_do_not_depend_on_the_order_of_the_models() -> None:
    random = np.random.default_rng(4)
    values, p = random.random(6), random.random((6, 6)) ** 6
    p = np.triu(p, 1) + np.triu(p, 1).T
    order = random.permutation(6)
    found = rank_sets(values, p)
    assert rank_sets(values[order], p[np.ix_(order, order)]) == [found[model] for model in order]


def test_a_pair_that_was_not_tested_or_has_equal_values_orders_nobody() -> None:
    untested = symmetric(2, {(0, 1): math.nan})
    assert rank_sets([0.9, 0.1], untested) == [(1, 2), (1, 2)]
    assert rank_sets([0.5, 0.5], symmetric(2, {(0, 1): 1e-9})) == [(1, 2), (1, 2)]


def test_one_model_is_first_and_last() -> None:
    assert rank_sets([0.3], np.ones((1, 1))) == [(1, 1)]
    assert rank_sets([], np.ones((0, 0))) == []


def test_incomplete_models_and_lopsided_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match="leave incomplete models out"):
        rank_sets([0.5, math.nan], np.ones((2, 2)))
    with pytest.raises(ValueError, match="symmetric 2 x 2"):
        rank_sets([0.5, 0.6], np.array([[1, 0.1], [0.2, 1]]))
    with pytest.raises(ValueError, match="symmetric 2 x 2"):
        rank_sets([0.5, 0.6], np.ones((3, 3)))


def test_equal_rank_sets_share_a_letter_and_different_ones_do_not() -> None:
    assert tiers([(3, 4), (1, 2), (1, 2), (1, 3)]) == ["C", "A", "A", "B"]


def test_letters_go_on_after_z() -> None:
    assert tiers([(rank, 60) for rank in range(1, 60)])[24:29] == ["Y", "Z", "AA", "AB", "AC"]


def test_the_share_of_weights_is_the_one_that_geometry_gives() -> None:
    assert lead_shares(np.array([[1.0, 0.0], [0.0, 0.5]]), draws=20_000) == pytest.approx([2 / 3, 1 / 3], abs=0.01)


def test_a_model_that_is_worse_everywhere_never_leads_and_equals_share() -> None:
    assert lead_shares(np.array([[0.9, 0.8], [0.9, 0.8], [0.2, 0.7]])) == pytest.approx([0.5, 0.5, 0.0])


def test_incomplete_models_take_no_part_in_weight_shares() -> None:
    shares = lead_shares(np.array([[0.5, 0.5], [math.nan, 0.9]]))
    assert shares[0] == 1.0 and math.isnan(shares[1])
    assert np.isnan(lead_shares(np.full((2, 2), np.nan))).all()


def test_weight_shares_are_seeded() -> None:
    scores = np.random.default_rng(1).random((5, 4))
    assert (lead_shares(scores, seed=3) == lead_shares(scores, seed=3)).all()
    assert (lead_shares(scores, seed=3) != lead_shares(scores, seed=4)).any()
    assert lead_shares(scores).sum() == pytest.approx(1)


def test_dominated_needs_no_worse_everywhere_and_significantly_better_somewhere() -> None:
    values = [[0.9, -1.0], [0.8, -1.0], [0.8, -0.5]]
    better = np.zeros((3, 3, 2), dtype=bool)
    assert pareto(values, better) == [True, True, True]
    better[0, 1, 0] = better[0, 2, 0] = True
    assert pareto(values, better) == [True, False, True], "the third is cheaper, whatever the first is better at"


def test_significantly_better_on_one_and_worse_by_a_hair_on_another_does_not_dominate() -> None:
    better = np.zeros((2, 2, 2), dtype=bool)
    better[0, 1, 0] = True
    assert pareto([[0.9, 0.500], [0.5, 0.501]], better) == [True, True]


def test_an_unknown_dimension_is_neither_won_nor_lost() -> None:
    better = np.ones((2, 2, 2), dtype=bool)
    assert pareto([[0.9, math.nan], [0.1, 0.1]], better) == [None, True]


def test_flags_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="2 models in 3 dimensions"):
        pareto(np.zeros((2, 3)), np.zeros((2, 2), dtype=bool))
