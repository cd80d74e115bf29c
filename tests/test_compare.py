"""Two run sets on the same samples: what is refused, every sentence, slices, domains, and the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vevals.compare import Change, Comparison, ComparisonError, Finding, Rule, compare
from vevals.compare.difference import finding_of
from vevals.compare.words import domain_sentence, estimated, line, p_value
from vevals.evidence import NO_ROW, Column, Evidence, RunFact, RunSet, Statistic, Usage
from vevals.prices import Price, Prices
from vevals.statistics.estimates import estimate_statistic
from vevals.statistics.intervals import RESAMPLES, bca, plus2
from vevals.statistics.paired import mcnemar, tango
from vevals.statistics.ranks import benjamini_hochberg, holm
from vevals.types import Outcome

PARTS = {"dataset": "d", "prompt": "p", "generation": "g", "scorer": "s"}
Z = 1.959964


def column(values: Any, name: str = "accuracy", **changes: Any) -> Column:
    """A column of (n,) or (n, K) values; NaN is a failed row."""
    array = np.asarray(values, dtype=float)
    array = array[:, None] if array.ndim == 1 else array
    outcomes = np.where(np.isnan(array), int(Outcome.failed), int(Outcome.scored)).astype(np.int8)
    settings = {"worst": 0.0, "best": 1.0, "binary": True, "outcomes": outcomes, **changes}
    return Column(name=name, values=array, **settings)


def evidence(columns: Column | Sequence[Column], benchmark: str = "a/x", **changes: Any) -> Evidence:
    """One benchmark; samples s-0, s-1, ... and a run named after ``run``."""
    listed = [columns] if isinstance(columns, Column) else list(columns)
    n, repeats = listed[0].values.shape
    ids = tuple(changes.pop("ids", [f"s-{row}" for row in range(n)]))
    blank = np.zeros((n, repeats))
    fact = RunFact(
        changes.pop("run", "0123456789abcdef"), "digest", "some:model", "hash", limit=changes.pop("limit", None)
    )
    defaults = {
        "runs": (fact,),
        "parts": PARTS,
        "contents": tuple(f"content of {sample}" for sample in ids),
        "clusters": (None,) * n,
        "slices": ({},) * n,
        "usage": Usage(blank, blank, blank, blank.astype(bool)),
        "total": n * repeats,
    }
    named = {one.name: one for one in listed}
    return Evidence(benchmark=benchmark, ids=ids, columns=named, **{**defaults, **changes})


def run_set(*found: Evidence, name: str = "model") -> RunSet:
    return RunSet(name, {one.benchmark: one for one in found})


def binary(fixed: int, broke: int, n: int) -> tuple[list[int], list[int]]:
    """Values of A and of B with so many flips; the rest alternates, equal on both sides."""
    rest = [row % 2 for row in range(n - fixed - broke)]
    return [1] * fixed + [0] * broke + rest, [0] * fixed + [1] * broke + rest


def compared(a: Column, b: Column, rule: Rule | None = None, **changes: Any) -> Comparison:
    return compare(run_set(evidence(a, **changes), name="A"), run_set(evidence(b, **changes), name="B"), rule)


def only(found: Comparison) -> Change:
    [benchmark] = found.benchmarks
    return benchmark.changes[0]


def said(fixed: int, broke: int, n: int, rule: Rule | None = None, **ends: float) -> str:
    a, b = binary(fixed, broke, n)
    found = compared(column(a, **ends), column(b, **ends), rule)
    return line(only(found), found.rule)


SENTENCES = [
    ((3, 40, 500), "−7.4 points (−10.2 to −5.1): worse by more than 3 points; 3 fixed, 40 broke"),
    ((10, 30, 500), "−4.0 points (−6.7 to −1.6): worse; whether by more than 3 points is open; 10 fixed, 30 broke"),
    ((5, 40, 4000), "−0.9 points (−1.2 to −0.6): worse, but not by more than 3 points; 5 fixed, 40 broke"),
    ((40, 3, 500), "+7.4 points (+5.1 to +10.2): better; 40 fixed, 3 broke"),
    ((20, 14, 500), "+1.2 points (−1.1 to +3.6): not worse by more than 3 points; 20 fixed, 14 broke"),
    (
        (14, 20, 500),
        "−1.2 points (−3.6 to +1.1): cannot tell for a 3-point margin; about 1,600 samples would; 14 fixed, 20 broke",
    ),
    ((0, 0, 500), "0.0 points (−0.8 to +0.8): not worse by more than 3 points; 0 fixed, 0 broke"),
    (
        (0, 0, 10),
        "0 points (−28 to +28): cannot tell for a 3-point margin; about 130 samples would; 0 fixed, 0 broke",
    ),
]


@pytest.mark.parametrize(("counts", "text"), SENTENCES, ids=lambda value: str(value)[:40])
def test_each_sentence_follows_from_the_interval(counts: tuple[int, int, int], text: str) -> None:
    assert said(*counts) == text


def test_the_interval_is_tangos_and_the_p_value_the_exact_one() -> None:
    a, b = binary(14, 20, 500)
    difference = only(compared(column(a), column(b))).difference
    assert (difference.low, difference.high) == pytest.approx((-0.036361, 0.011413), abs=1e-6)
    assert (difference.low, difference.high) == pytest.approx(tango(14, 20, 500, Z), abs=1e-7)
    assert (difference.value, difference.p) == pytest.approx((-6 / 500, 0.391528), abs=1e-6)
    assert (difference.method, difference.n) == ("Tango", 500)


def test_needed_samples_are_those_of_the_interval_that_is_shown() -> None:
    a, b = binary(14, 20, 500)
    needed = only(compared(column(a), column(b))).difference.needed
    variance = 34 / 500 - 0.012**2
    assert needed == math.ceil((Z + 0.841621) ** 2 * variance / 0.018**2)


def test_an_estimate_on_the_margin_is_not_promised_an_end() -> None:
    assert "more samples are unlikely to settle this" in said(10, 16, 200)


def test_below_the_margin_the_samples_needed_are_those_that_show_the_loss() -> None:
    a, b = binary(1, 5, 60)
    found = compared(column(a), column(b), Rule(margin=0.01))
    difference = only(found).difference
    variance = 6 / 60 - (4 / 60) ** 2
    assert difference.finding is Finding.open
    assert difference.needed == math.ceil((Z + 0.841621) ** 2 * variance / (4 / 60) ** 2)


ORIENTED = [
    ((-0.10, -0.04, 0.03), Finding.worse_beyond),
    ((-0.10, -0.03, 0.03), Finding.worse),
    ((-0.03, -0.01, 0.03), Finding.worse_within),
    ((-0.03, 0.00, 0.03), Finding.not_worse),
    ((0.00, 0.05, 0.03), Finding.not_worse),
    ((0.001, 0.05, 0.03), Finding.better),
    ((-0.031, 0.05, 0.03), Finding.open),
    ((-0.02, -0.01, 0.0), Finding.worse),
    ((-0.02, 0.01, 0.0), Finding.open),
    ((0.0, 0.01, 0.0), Finding.not_worse),
    ((-5.0, -1.0, None), Finding.worse),
    ((-5.0, 1.0, None), Finding.open),
    ((math.nan, math.nan, 0.03), Finding.open),
]


@pytest.mark.parametrize(("numbers", "finding"), ORIENTED)
def test_the_ends_of_the_interval_decide_equality_counts_for_the_candidate(
    numbers: tuple[float, float, float | None], finding: Finding
) -> None:
    assert finding_of(*numbers) is finding


def test_where_lower_is_better_fixed_still_means_that_the_candidate_improved() -> None:
    assert said(3, 40, 500, worst=1.0, best=0.0) == (
        "−7.4 points (−10.2 to −5.1; lower is better): better; 40 fixed, 3 broke"
    )
    a, b = binary(3, 40, 500)
    found = only(compared(column(a, worst=1.0, best=0.0), column(b, worst=1.0, best=0.0)))
    assert found.fixed == tuple(f"s-{row}" for row in range(3, 43)) and found.broke == ("s-0", "s-1", "s-2")


def test_repeats_are_averaged_first_and_leave_the_binary_case() -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.random((80, 3)) < 0.7).astype(float), (rng.random((80, 1)) < 0.6).astype(float)
    found = only(compared(column(a), column(b)))
    gains = a.mean(axis=1) - b[:, 0]
    difference = found.difference
    assert (difference.low, difference.high) == pytest.approx(plus2(gains, -1, 1))
    assert difference.value == pytest.approx(gains.mean()) and difference.method == "plus-2"
    assert (difference.fixed, difference.broke) == (int((gains > 0).sum()), int((gains < 0).sum()))
    assert found.repeats == (3, 1) and not found.units.binary
    assert "improved" in line(found, Rule()) and "fixed" not in line(found, Rule())


def test_the_same_mean_of_different_repeats_is_no_flip() -> None:
    a, b = [[1, 0, 0, 0, 0, 0, 1, 0, 1]] * 30, [[0, 1, 0]] * 30
    difference = only(compared(column(a), column(b))).difference
    assert (difference.fixed, difference.broke, difference.value) == (0, 0, 0.0)


def test_clusters_widen_the_interval_and_too_few_give_none() -> None:
    a, b = binary(10, 30, 400)
    alone = only(compared(column(a), column(b))).difference
    of_ten = tuple(f"d{row // 10}" for row in range(400))
    clustered = only(compared(column(a), column(b), clusters=of_ten)).difference
    assert clustered.clusters == 40 and "40 clusters" in clustered.method
    assert clustered.low < alone.low < alone.high < clustered.high
    few = compared(column(a), column(b), clusters=tuple(f"d{row // 50}" for row in range(400)))
    assert line(only(few), few.rule) == (
        "−5.0 points (no interval): cannot tell (Tango: only 8 clusters, 10 are needed); 10 fixed, 30 broke"
    )


def macro_recall(gold: Any, said: Any) -> Statistic:
    """Mean of the shares of right answers among the samples of class 0 and of class 1."""

    def over(rows: Any) -> float:
        counts = np.bincount(2 * gold[rows] + (gold[rows] == said[rows]), minlength=4)
        return float((counts[1] / (counts[0] + counts[1]) + counts[3] / (counts[2] + counts[3])) / 2)

    return over


def set_level(seed: int = 1, n: int = 120) -> tuple[Column, Column, Statistic, Statistic]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 2, n) * (np.arange(n) % 4 == 0)
    answers = [np.where(rng.random(n) < share, gold, 1 - gold) for share in (0.9, 0.6)]
    statistics = [macro_recall(gold, one) for one in answers]
    a, b = (
        column((one == gold).astype(float), "macro_recall", binary=False, statistic=whole)
        for one, whole in zip(answers, statistics, strict=True)
    )
    return a, b, statistics[0], statistics[1]


def test_a_set_level_metric_is_bootstrapped_with_both_sides_drawn_together() -> None:
    a, b, one, other = set_level()
    found = only(compared(a, b, Rule(seed=7)))
    units = [np.array([row]) for row in range(120)]
    expected = bca(lambda rows: one(rows) - other(rows), units, seed=7)
    assert (found.difference.low, found.difference.high) == pytest.approx(expected)
    assert found.difference.value == pytest.approx(one(np.arange(120)) - other(np.arange(120)))
    assert found.difference.method == "BCa" and math.isnan(found.difference.p) and math.isnan(found.holm_p)
    assert found.difference.finding is Finding.better


def test_no_draw_of_a_set_level_metric_is_computed_twice() -> None:
    a, b, one, _ = set_level()
    calls = []

    def counted(rows: Any) -> float:
        calls.append(len(rows))
        return one(rows)

    found = only(compared(replace(a, statistic=counted), b))
    plain = estimate_statistic(one, 120, total=120)
    assert (found.candidate.low, found.candidate.high) == (plain.low, plain.high)
    assert RESAMPLES < len(calls) < RESAMPLES + 200


def test_equal_answers_of_a_set_level_metric_never_get_a_zero_width_interval() -> None:
    a, _, _, _ = set_level()
    found = compared(a, a)
    assert line(only(found), found.rule).startswith("0.0 points (no interval): cannot tell (BCa: too few or constant)")


def test_missing_rows_leave_the_mean_and_open_a_worst_case_beside_it() -> None:
    a, b = binary(20, 4, 100)
    gaps = [math.nan] * 2
    found = only(compared(column([*a, *gaps, 1]), column([*b, 1, 1, math.nan])))
    assert found.difference.n == 100 and found.difference.value == pytest.approx(0.16)
    missing = found.missing
    assert (missing.candidate, missing.baseline) == (2, 1)
    assert missing.low == pytest.approx((16 - 2 + 0) / 103) and missing.high == pytest.approx((16 + 0 + 1) / 103)
    assert found.outcomes[0] == {"scored": 101, "failed": 2}


def test_the_worst_case_fills_row_by_row_before_averaging() -> None:
    a = column([[1, math.nan], [1, 1]])
    b = column([[1, 1], [0, math.nan]])
    missing = only(compared(a, b)).missing
    assert (missing.low, missing.high) == pytest.approx(((0.5 + 1) / 2 - (1 + 0.5) / 2, 1.0 - (1 + 0) / 2))


def test_a_row_that_the_run_did_not_get_to_is_missing_too() -> None:
    absent = np.array([[int(Outcome.scored)]] * 29 + [[NO_ROW]], dtype=np.int8)
    found = only(compared(column([1.0] * 29 + [math.nan], outcomes=absent), column([1] * 30)))
    assert found.outcomes[0] == {"scored": 29, "absent": 1} and found.missing.candidate == 1


def test_without_a_single_value_nothing_is_claimed() -> None:
    found = compared(column([math.nan] * 30), column([1] * 30))
    assert line(only(found), found.rule) == "no difference known: cannot tell (Tango: no samples); 0 fixed, 0 broke"


def sides(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[RunSet, RunSet]:
    values = [row % 2 for row in range(40)]
    one = {"run": "aaaaaaaa11", **a}
    other = {"run": "bbbbbbbb22", **b}
    return run_set(evidence(column(values), **one), name="A"), run_set(evidence(column(values), **other), name="B")


def test_differing_parts_are_refused_by_name_with_both_runs() -> None:
    with pytest.raises(ComparisonError) as caught:
        compare(*sides({}, {"parts": {**PARTS, "prompt": "other", "scorer": "other"}}))
    assert str(caught.value) == (
        "a/x: the runs differ in prompt and scorer (A: run aaaaaaaa; B: run bbbbbbbb), so the difference would not be "
        "the models' own; '--allow prompt --allow scorer' compares them all the same"
    )


def test_an_allowed_part_is_compared_and_said() -> None:
    rule = Rule(must_match=("dataset", "scorer"))
    found = compare(*sides({}, {"parts": {**PARTS, "prompt": "other"}}), rule)
    assert found.benchmarks[0].notes == ("the runs differ in prompt",)


def test_other_questions_can_never_be_allowed() -> None:
    contents = tuple(f"another content {row}" for row in range(40))
    with pytest.raises(ComparisonError, match="share no question"):
        compare(*sides({}, {"contents": contents}), Rule(must_match=()))


def test_a_partial_overlap_is_compared_on_the_shared_samples_and_said() -> None:
    ids = tuple(f"s-{row}" for row in range(10, 50))
    found = compare(*sides({"limit": 40}, {"ids": ids}))
    assert found.benchmarks[0].sizes == (40, 40, 30) and only(found).difference.n == 30
    assert found.benchmarks[0].notes == (
        "only the 30 samples that both have (A has 40, B 40)",
        "A took only the first 40 rows, which need not be like the others",
    )


def test_benchmarks_of_one_side_are_listed_unless_none_is_shared() -> None:
    shared, lone = evidence(column([1, 0] * 20)), evidence(column([1, 0] * 20), "b/y")
    found = compare(run_set(shared, lone), run_set(shared))
    assert (found.only_candidate, found.only_baseline) == (("b/y",), ())
    with pytest.raises(ComparisonError, match=r"A \(one\) has b/y; B \(two\) has a/x; c/z: B: ambiguous"):
        compare(run_set(lone, name="one"), RunSet("two", {"a/x": shared}, {"c/z": "ambiguous"}))


@pytest.mark.parametrize("margin", [3, 1.0, -0.01, math.nan])
def test_a_margin_in_points_is_refused(margin: float) -> None:
    with pytest.raises(ComparisonError, match=r"write 0\.03 for 3 points"):
        compare(*sides({}, {}), Rule(margin=margin))


def test_metrics_with_other_ends_are_not_compared() -> None:
    a, b = column([1, 0] * 20), column([1, 0] * 20, best=5.0)
    with pytest.raises(ComparisonError, match="'accuracy' runs from 0 to 1 and 0 to 5"):
        compare(run_set(evidence(a)), run_set(evidence(b)))


def test_all_metrics_or_one_by_name() -> None:
    columns = [column([1, 0] * 20), column([0.5] * 40, "quality", binary=False)]
    one = run_set(evidence(columns), evidence(column([1, 0] * 20), "b/y"))
    everything = compare(one, one, Rule(metrics="all"))
    assert [[c.metric for c in found.changes] for found in everything.benchmarks] == [
        ["accuracy", "quality"],
        ["accuracy"],
    ]
    quality = compare(one, one, Rule(metrics="quality"))
    assert [found.benchmark for found in quality.benchmarks] == ["a/x"]
    assert quality.problems == ("b/y: no metric 'quality'",)
    with pytest.raises(
        ComparisonError, match="no benchmark has the metric 'qualty' on both sides; there is accuracy, quality"
    ):
        compare(one, one, Rule(metrics="qualty"))
    with pytest.raises(ComparisonError, match=r"'seconds\.p95' is shown beside every comparison"):
        compare(one, one, Rule(metrics="seconds.p95"))


def test_tokens_have_no_margin_and_are_said_in_their_own_units() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.uniform(20, 30, (60, 1)), rng.uniform(50, 70, (60, 1))
    blank = np.zeros((60, 1))
    values = column([1, 0] * 30)
    one, other = (
        run_set(evidence(values, usage=Usage(blank, found, blank + 0.5, blank.astype(bool)))) for found in tokens
    )
    found = compare(one, other, Rule(metrics="output_tokens.mean"))
    change = only(found)
    assert change.margin is None and change.difference.needed is None and not change.slices and not found.domains
    assert change.difference.value == pytest.approx(tokens[0].mean() - tokens[1].mean())
    text = line(change, found.rule)
    assert text.startswith("−33.9 (−35.7 to −32.3; lower is better): better; 60 improved, 0 got worse")
    same = compare(one, one, Rule(metrics="output_tokens.mean"))
    assert "cannot tell" in line(only(same), same.rule)
    assert estimated(change.candidate, change.units).startswith("25.")


def test_a_scale_other_than_0_to_1_is_said_in_its_own_units() -> None:
    rng = np.random.default_rng(3)
    b = rng.integers(1, 6, 200).astype(float)
    a = np.clip(b - (rng.random(200) < 0.3), 1, 5)
    found = compared(
        column(a, "grade", worst=1.0, best=5.0, binary=False), column(b, "grade", worst=1.0, best=5.0, binary=False)
    )
    change = only(found)
    low, high = plus2(a - b, -4, 4)
    assert (change.difference.low, change.difference.high) == pytest.approx((low, high))
    text = line(change, found.rule)
    assert "points" not in text and "0.12" in text and text.startswith(f"−{b.mean() - a.mean():.2f}")
    assert "%" not in estimated(change.candidate, change.units)


def test_holm_is_over_the_first_metrics_of_all_benchmarks() -> None:
    counts = {"a/x": (2, 12, 100), "b/y": (3, 10, 100), "c/z": (30, 1, 200)}
    made = [
        run_set(*(evidence(column(binary(*found)[side]), name) for name, found in counts.items())) for side in (0, 1)
    ]
    found = compare(made[0], made[1])
    p = [mcnemar(fixed, broke) for fixed, broke, _ in counts.values()]
    assert [one.changes[0].holm_p for one in found.benchmarks] == pytest.approx(list(holm(p)))
    assert found.benchmarks[0].changes[0].holm_p == pytest.approx(2 * p[0])


def with_slices(n: int = 200) -> tuple[Comparison, list[int], list[int]]:
    a, b = binary(0, 30, n)
    a = [*a[:30], *[1 - value if row % 10 == 0 else value for row, value in enumerate(a[30:])]]
    slices = tuple({"part": "first" if row < 40 else "rest", "rare": "yes" if row < 3 else "no"} for row in range(n))
    return compared(column(a), column(b), slices=slices), a, b


def test_the_worst_slice_stands_first_and_small_ones_are_only_counted() -> None:
    found, a, b = with_slices()
    change = only(found)
    assert [(part.field, part.value) for part in change.slices] == [("part", "first"), ("rare", "no"), ("part", "rest")]
    assert change.small == 1
    worst = change.slices[0].difference
    assert (worst.n, worst.broke) == (40, sum(x < y for x, y in zip(a[:40], b[:40], strict=True)))
    p = [part.difference.p for part in change.slices]
    assert [part.adjusted_p for part in change.slices] == pytest.approx(list(benjamini_hochberg(p)))


def test_slices_of_a_set_level_metric_go_by_the_mean_of_the_rows() -> None:
    a, b, _, _ = set_level()
    found = compared(a, b, slices=tuple({"half": "one" if row < 60 else "two"} for row in range(120)))
    for part in only(found).slices:
        rows = slice(0, 60) if part.value == "one" else slice(60, 120)
        assert part.difference.value == pytest.approx(float((a.values[rows] - b.values[rows]).mean()))
        assert part.difference.method == "plus-2"


def test_a_domain_is_the_equal_weight_mean_of_its_benchmarks() -> None:
    counts = {"a/x": (2, 12, 100), "a/y": (9, 3, 400)}
    made = [
        run_set(*(evidence(column(binary(*found)[side]), name) for name, found in counts.items())) for side in (0, 1)
    ]
    [domain] = compare(made[0], made[1]).domains
    means, squares = [], []
    for fixed, broke, n in counts.values():
        up, down = (fixed + 1) / (n + 2), (broke + 1) / (n + 2)
        means.append(up - down)
        squares.append((up + down - (up - down) ** 2) / (n + 2))
    assert domain.value == pytest.approx((-0.10 + 0.015) / 2)
    reach = Z * math.sqrt(sum(squares)) / 2
    assert (domain.low, domain.high) == pytest.approx((np.mean(means) - reach, np.mean(means) + reach), abs=1e-7)
    assert domain.n == 500 and domain_sentence(domain, Rule()).startswith("−4.2 points (−8.0 to −0.3): worse;")


def test_a_domain_turns_metrics_round_where_lower_is_better() -> None:
    a, b = binary(40, 3, 500)
    good, bad = column(a), column(b)
    rate = {"name": "unsafe_rate", "worst": 1.0, "best": 0.0}
    one = run_set(evidence(good), evidence(column(b, **rate), "a/y"))
    other = run_set(evidence(bad), evidence(column(a, **rate), "a/y"))
    [domain] = compare(one, other).domains
    assert domain.value == pytest.approx(0.074) and domain.finding is Finding.better


def test_a_domain_without_one_interval_has_none() -> None:
    a, b = binary(5, 5, 100)
    few = tuple(f"d{row // 20}" for row in range(100))
    made = [run_set(evidence(column(x)), evidence(column(x), "a/y", clusters=few)) for x in (a, b)]
    found = compare(made[0], made[1])
    [domain] = found.domains
    assert math.isnan(domain.low) and domain.without == ("a/y",)
    assert domain_sentence(domain, found.rule) == "0.0 points: no interval, a/y has none"


def test_length_outcomes_time_and_cost_stand_beside_the_score() -> None:
    n = 40
    blank = np.zeros((n, 1))
    cut = np.full((n, 1), int(Outcome.scored), dtype=np.int8)
    cut[:4] = int(Outcome.truncated)
    made = [
        run_set(
            evidence(
                column([0] * 4 + [1] * 36, outcomes=outcomes),
                usage=Usage(blank + 100, blank + tokens, blank + seconds, blank.astype(bool)),
            )
        )
        for outcomes, tokens, seconds in ((cut, 20, 1.0), (np.zeros_like(cut), 10, 0.5))
    ]
    prices = Prices({"some:model": Price(1.0, 2.0, 0.0, "2026-01-01")})
    found = {one.name: one for one in compare(made[0], made[1], None, prices).benchmarks[0].measures}
    assert (found["output_tokens.mean"].candidate, found["output_tokens.mean"].ratio) == (20, 2)
    assert (found["seconds.p50"].candidate, found["seconds.p50"].baseline) == (1.0, 0.5)
    assert (found["truncated_rate"].candidate, found["truncated_rate"].baseline) == (0.1, 0.0)
    assert math.isnan(found["truncated_rate"].ratio)
    assert found["usd_per_1k_samples"].ratio == pytest.approx((100 + 40) / (100 + 20))
    unknown = {one.name: one for one in compare(made[0], made[1]).benchmarks[0].measures}
    assert math.isnan(unknown["usd_per_1k_samples"].candidate)


def test_no_bound_is_rounded_onto_zero_or_the_margin() -> None:
    found = compared(*(column(values) for values in binary(2, 21, 1000)))
    difference = only(found).difference
    text = line(only(found), found.rule)
    assert -0.0305 < difference.low < -0.03
    assert text.startswith("−1.90 points (−3.01 to −1.07): worse; whether by more than 3 points is open")


@pytest.mark.parametrize(("p", "text"), [(0.391528, "p = 0.39"), (1.0, "p = 1"), (4e-7, "p < 0.001"), (math.nan, "")])
def test_p_values_have_two_digits(p: float, text: str) -> None:
    assert p_value(p) == text


def test_everything_becomes_plain_values() -> None:
    found, _, _ = with_slices()
    body = found.to_json()
    change = body["benchmarks"][0]["changes"][0]
    assert change["difference"]["finding"] in set(Finding) and change["slices"][0]["field"] == "part"
    assert body["rule"]["margin"] == 0.03 and len(change["broke"]) == change["difference"]["broke"]
