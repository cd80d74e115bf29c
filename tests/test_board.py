"""Comparable runs side by side: rescaled means, rank sets, choices, slices, and every form in which they are given."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import numpy as np
import pytest
from boards import entry as with_rows
from boards import evidence, scored
from scipy.stats import norm

from vevals.board import (
    Board,
    Entry,
    Row,
    Standing,
    build,
    by_slice,
    notes,
    slice_markdown,
    slice_records,
    to_csv,
    to_frame,
    to_markdown,
    to_records,
)
from vevals.errors import BenchmarkError
from vevals.prices import Price, Prices
from vevals.statistics import mcnemar, wilson
from vevals.types import Estimate, Outcome


def entry(benchmark: str, model: str, value: float, **changes: object) -> Entry:
    estimate = Estimate(value, max(0.0, value - 0.1), min(1.0, value + 0.1), 50, 50, "Wilson")
    defaults: dict[str, object] = {
        "fingerprint": "f",
        "part": (None, None, 0),
        "model": model,
        "model_hash": model,
        "metric": "accuracy",
        "estimate": estimate,
        "run": "r",
        "finished": 1,
        "outcomes": {Outcome.scored: 50},
    }
    return Entry(benchmark=benchmark, **{**defaults, **changes})  # type: ignore[arg-type]


def test_chance_is_zero_and_perfect_is_one() -> None:
    board = build([entry("a/x", "m", 0.625, chance=0.25)], {})
    overall = board.rows[0].overall
    assert overall is not None
    assert (overall.value, overall.low, overall.high) == pytest.approx(
        (0.5, (0.525 - 0.25) / 0.75, (0.725 - 0.25) / 0.75)
    )


def test_a_perfect_model_is_not_better_than_perfect() -> None:
    overall = build([entry("a/x", "m", 1.0), entry("b/y", "m", 1.0)], {}).rows[0].overall
    assert overall is not None and overall.value == overall.high == 1.0 > overall.low


def test_a_domain_counts_once_however_many_benchmarks_it_has() -> None:
    entries = [entry("a/x", "m", 1.0), entry("a/y", "m", 0.5), entry("b/z", "m", 0.25)]
    overall = build(entries, {}).rows[0].overall
    weighted = build(entries, {"a": 3.0}).rows[0].overall
    assert overall is not None and weighted is not None
    assert overall.value == pytest.approx((0.75 + 0.25) / 2)
    assert weighted.value == pytest.approx((3 * 0.75 + 0.25) / 4)


def test_a_model_with_a_gap_has_no_overall_score_and_stands_last() -> None:
    entries = [entry("a/x", "whole", 0.2), entry("b/y", "whole", 0.2), entry("a/x", "gap", 0.9)]
    board = build(entries, {})
    assert [row.model for row in board.rows] == ["whole", "gap"]
    assert board.rows[1].overall is None
    assert board.rows[1].problem == "incomplete 1/2, no overall rank"


def test_thin_coverage_has_no_overall_score() -> None:
    thin = entry("a/x", "m", 0.9, estimate=Estimate(0.9, 0.8, 1.0, 97, 100, "Wilson"))
    row = build([thin], {}).rows[0]
    assert row.overall is None and row.problem == "no overall score: 97% of a/x"


def test_runs_on_other_questions_are_not_compared() -> None:
    old = entry("a/x", "old", 0.9, fingerprint="before", finished=1)
    drawn = entry("a/x", "drawn", 0.9, part=(None, 10, 0), finished=2)
    new = entry("a/x", "new", 0.5, finished=3)
    assert [row.model for row in build([old, drawn, new], {}).rows] == ["new"]


def test_repeats_do_not_make_a_small_draw_the_larger_one() -> None:
    drawn = entry("a/x", "m", 0.9, part=(None, 20, 0), repeats=3, estimate=Estimate(0.9, 0.8, 1.0, 60, 60, "plus-2"))
    whole = entry("a/x", "m", 0.5)
    assert build([whole, drawn], {}).rows[0].cells["a/x"] is whole


def test_two_models_of_one_name_are_told_apart() -> None:
    entries = [entry("a/x", "same", 0.5, model_hash="aaaaaaa1"), entry("a/x", "same", 0.6, model_hash="bbbbbbb2")]
    assert [row.model for row in build(entries, {}).rows] == ["same #bbbbbb", "same #aaaaaa"]


BOARD = build([entry("a/x", "=cmd|'x'!A1", 0.5), entry("b/y", "=cmd|'x'!A1", 0.5), entry("a/x", "other", 0.4)], {})


def test_the_frame_has_a_row_a_model_and_a_column_a_benchmark() -> None:
    frame = to_frame(BOARD)
    fixed = ["model", "overall", "low", "high", "rank_low", "rank_high", "tier", "lead_share"]
    spent = ["usd_per_1k_samples", "seconds_per_sample", "choice", "problem"]
    assert list(frame.columns) == [*fixed, *spent, "a/x", "b/y"]
    assert frame.loc[0, "overall"] == 0.5 and math.isnan(frame.loc[1, "overall"]) and frame.loc[1, "a/x"] == 0.4
    assert (frame.loc[0, "rank_low"], frame["rank_low"].isna().tolist()) == (1, [False, True])


def test_csv_disarms_formulas_and_keeps_every_number() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(BOARD))))
    assert rows[0]["model"] == "'=cmd|'x'!A1"
    assert [(row["benchmark"], row["value"], row["scored"]) for row in rows][:2] == [
        ("overall", "0.5", "100"),
        ("a/x", "0.5", "50"),
    ]


def test_markdown_escapes_bars_and_records_carry_outcomes() -> None:
    assert "| =cmd\\|'x'!A1 | 50.0 (" in to_markdown(BOARD)
    assert to_records(BOARD)[1]["outcomes"] == {
        outcome.name: 50 if outcome == Outcome.scored else 0 for outcome in Outcome
    }


# -- ranks -----------------------------------------------------------------------------------------------------------


def row_of(board: Board, model: str) -> Row:
    return next(row for row in board.rows if row.model == model)


def standing(board: Board, model: str) -> Standing:
    found = row_of(board, model).standing
    assert found is not None
    return found


def rank(board: Board, model: str) -> tuple[int, int, str]:
    found = standing(board, model)
    return found.rank_low, found.rank_high, found.tier


def test_a_clear_gap_gives_two_ranks_and_a_tie_one_shared_set() -> None:
    board = build([scored("a/x", "good", 90, 100), scored("a/x", "bad", 40, 100), scored("a/x", "same", 91, 100)], {})
    assert [row.model for row in board.rows] == ["same", "good", "bad"]
    assert rank(board, "same") == rank(board, "good") == (1, 2, "A")
    assert rank(board, "bad") == (3, 3, "B")


def test_an_incomplete_model_has_no_rank_and_does_not_count_among_the_ranked() -> None:
    entries = [scored(name, "whole", 50, 100) for name in ("a/x", "b/y")]
    board = build([*entries, scored("a/x", "gap", 99, 100)], {})
    assert row_of(board, "gap").standing is None
    assert rank(board, "whole") == (1, 1, "A")
    assert len(board.ranked) == 1 and board.pairs == ()


def test_one_binary_benchmark_is_decided_by_the_exact_mcnemar_test() -> None:
    ours, theirs = [1] * 6 + [1, 0] * 7, [0] * 6 + [1, 0] * 7
    [pair] = build([with_rows(evidence("a/x", m, v)) for m, v in (("one", ours), ("other", theirs))], {}).pairs
    assert pair.p == mcnemar(6, 0) == 0.03125
    assert (pair.one, pair.other, pair.value) == ("one", "other", pytest.approx(6 / 20))


def plus2(values: Sequence[float], reach: float = 1.0) -> tuple[float, float]:
    extended = [*values, reach, -reach]
    mean = sum(extended) / len(extended)
    variance = sum((value - mean) ** 2 for value in extended) / len(extended)
    return mean, math.sqrt(variance / len(extended))


def test_several_benchmarks_are_compared_by_the_weighted_sum_of_paired_differences() -> None:
    x = {"one": [1] * 30 + [0] * 10, "other": [1] * 20 + [0] * 15 + [1] * 5}
    y = {"one": [0.2, 0.9, 0.4] * 8, "other": [0.3, 0.1, 0.5] * 8}
    entries = [with_rows(evidence("a/x", model, values, chance=0.25)) for model, values in x.items()]
    entries += [with_rows(evidence("b/y", model, values, binary=False)) for model, values in y.items()]
    [pair] = build(entries, {"a": 3.0}).pairs
    mean_x, error_x = plus2([a - b for a, b in zip(x["one"], x["other"], strict=True)])
    mean_y, error_y = plus2([a - b for a, b in zip(y["one"], y["other"], strict=True)])
    mean = 0.75 * mean_x / 0.75 + 0.25 * mean_y
    error = math.hypot(0.75 * error_x / 0.75, 0.25 * error_y)
    sign = 1 if pair.one == "one" else -1
    assert (pair.low, pair.high) == pytest.approx((sign * mean - 1.959964 * error, sign * mean + 1.959964 * error))
    assert pair.p == pytest.approx(2 * norm.sf(abs(mean) / error))


def test_weights_decide_who_is_first_and_the_board_says_how_much() -> None:
    entries = [scored("a/x", "left", 90, 100), scored("b/y", "left", 50, 100)]
    entries += [scored("a/x", "right", 50, 100), scored("b/y", "right", 90, 100)]
    assert [build(entries, {name: 9.0}).rows[0].model for name in "ab"] == ["left", "right"]
    board = build(entries, {})
    left, right = (standing(board, model).lead_share for model in ("left", "right"))
    assert left is not None and right is not None
    assert left + right == pytest.approx(1) and left == pytest.approx(0.5, abs=0.05)
    [line] = [line for line in notes(board) if line.startswith("With any weights: ")]
    assert " leads in 5" in line and "of 2,000 draws of domain weights" in line


def test_one_domain_has_no_weights_to_try() -> None:
    board = build([scored("a/x", "one", 9, 20), scored("a/x", "other", 8, 20)], {})
    assert standing(board, "one").lead_share is None
    assert not [line for line in notes(board) if line.startswith("With any weights")]


def test_samples_are_paired_by_id_whatever_their_order() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 2, 60).tolist(), rng.integers(0, 2, 60).tolist()
    straight = [with_rows(evidence("a/x", m, v)) for m, v in (("one", ours), ("other", theirs))]
    turned = evidence("a/x", "other", theirs).take(range(59, -1, -1))
    assert build(straight, {}).pairs == build([straight[0], with_rows(turned)], {}).pairs


def test_repeats_are_averaged_before_they_are_compared() -> None:
    ours, theirs = [[1, 0], [1, 1], [0, 0]] * 10, [[0, 0], [1, 0], [0, 0]] * 10
    [pair] = build([with_rows(evidence("a/x", m, v)) for m, v in (("one", ours), ("other", theirs))], {}).pairs
    mean, error = plus2([0.5, 0.5, 0.0] * 10)
    assert pair.p == pytest.approx(2 * norm.sf(mean / error))


def test_clusters_make_a_difference_less_certain_and_few_of_them_leave_it_open() -> None:
    ours, theirs = [1] * 45 + [0] * 15, [1] * 20 + [0] * 40

    def p(clusters: Sequence[str]) -> float:
        models = (("one", ours), ("other", theirs))
        return build([with_rows(evidence("a/x", m, v, clusters=clusters)) for m, v in models], {}).pairs[0].p

    assert p([]) < p([f"c{number // 5}" for number in range(60)]) < 1
    few = [with_rows(evidence("a/x", m, v, clusters=["c", "d"] * 30)) for m, v in (("one", ours), ("other", theirs))]
    board = build(few, {})
    assert math.isnan(board.pairs[0].p) and rank(board, "one") == (1, 2, "A")


def test_clustered_scores_between_0_and_1_are_widened_for_few_clusters() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.random(60), rng.random(60)
    clusters = [f"c{number // 5}" for number in range(60)]
    models = (("one", ours), ("other", theirs))
    [pair] = build([with_rows(evidence("a/x", m, v, binary=False, clusters=clusters)) for m, v in models], {}).pairs
    sums, sizes = [*(ours - theirs).reshape(12, 5).sum(axis=1), 5, -5], np.full(14, 5)
    mean = sum(sums) / 70
    variance = 14 / 13 * ((np.array(sums) - mean * sizes) ** 2).sum() / 70**2
    assert (pair.high - pair.low) / 2 == pytest.approx(2.160369 * math.sqrt(variance), rel=1e-5)


def share_of(values: Sequence[float]) -> object:
    kept = np.asarray(values, dtype=float)
    return lambda rows: float(kept[rows].mean())


def test_a_score_of_the_whole_set_is_compared_on_shared_draws() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(200)
    answers = {"one": hard < 0.8, "other": hard < 0.7, "third": hard < 0.79}
    board = build([with_rows(evidence("a/x", m, v, statistic=share_of(v))) for m, v in answers.items()], {})
    plain = build([with_rows(evidence("a/x", m, v)) for m, v in answers.items()], {})
    for found, wanted in zip(board.pairs, plain.pairs, strict=True):
        assert (found.one, found.other) == (wanted.one, wanted.other)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.02)
    assert (rank(board, "one"), rank(board, "other")) == ((1, 2, "A"), (3, 3, "B"))


def test_a_score_of_few_samples_or_of_equal_models_is_never_certain() -> None:
    def ranks(ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int, str]:
        models = (("one", ours), ("other", theirs))
        return rank(build([with_rows(evidence("a/x", m, v, statistic=share_of(v))) for m, v in models], {}), "one")

    assert ranks([1] * 19, [0] * 19) == (1, 2, "A")
    assert ranks([1] * 40, [1] * 40) == (1, 2, "A")
    assert ranks([1] * 40, [0] * 40) == (1, 1, "A")


def test_without_samples_nothing_tells_a_model_from_the_others() -> None:
    board = build([scored("a/x", "ours", 90, 100), scored("a/x", "low", 10, 100), entry("a/x", "told", 0.5)], {})
    assert [rank(board, model)[:2] for model in ("ours", "told", "low")] == [(1, 2), (1, 3), (2, 3)]
    assert notes(board)[-1].endswith("nothing tells these from the others: told.")


def test_where_lower_is_better_the_lowest_stands_first() -> None:
    faults = {"careful": [0] * 90 + [1] * 10, "careless": [0] * 40 + [1] * 60}
    board = build([with_rows(evidence("a/x", m, v, ends=(1.0, 0.0))) for m, v in faults.items()], {})
    assert [row.model for row in board.rows] == ["careful", "careless"]
    overall = board.rows[0].overall
    assert overall is not None and overall.value == pytest.approx(0.9) and overall.low < 0.9 < overall.high
    assert (rank(board, "careful"), board.pairs[0].low > 0) == ((1, 1, "A"), True)


def test_a_metric_without_a_best_value_has_no_overall_score() -> None:
    endless = entry("a/x", "m", 3.0, worst=math.inf, best=0.0)
    assert build([endless], {}).rows[0].problem == "no overall score: a/x has no best value"


@pytest.mark.slow
def test_equal_models_are_told_apart_in_at_most_5_of_100_boards() -> None:
    rng = np.random.default_rng(5)
    apart = 0
    for _ in range(400):
        hard = rng.random((2, 150))
        answers = rng.random((4, 2, 150)) < 0.3 + 0.4 * hard
        entries = [
            with_rows(evidence(name, f"m{model}", answers[model, place]))
            for model in range(4)
            for place, name in enumerate(("a/x", "b/y"))
        ]
        board = build(entries, {})
        apart += any(rank(board, row.model)[:2] != (1, 4) for row in board.rows)
    assert apart / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


# -- cost and speed --------------------------------------------------------------------------------------------------

PRICES = Prices({"cheap": Price(1.0, 0.0, 0.0, "2026-01-01"), "dear": Price(3.0, 0.0, 0.0, "2026-01-01")})


def test_cost_and_speed_are_means_over_samples_of_answers_given_now() -> None:
    cached = [True] * 10 + [False] * 10
    entries = [
        scored("a/x", "cheap", 10, 20, tokens=1000, seconds=[9.0] * 10 + [2.0] * 10, cached=cached),
        scored("b/y", "cheap", 30, 60, tokens=500, seconds=1.0),
    ]
    row = build(entries, {}, prices=PRICES).rows[0]
    assert row.usd_per_1k_samples == pytest.approx((20 * 1.0 + 60 * 0.5) / 80)
    assert row.seconds_per_sample == pytest.approx((20 * 2.0 + 60 * 1.0) / 80)


def test_what_nobody_measured_or_priced_is_unknown_and_not_zero() -> None:
    unpriced = build([scored("a/x", "m", 10, 20, tokens=10, seconds=1.0)], {}, prices=PRICES).rows[0]
    assert (unpriced.usd_per_1k_samples, unpriced.seconds_per_sample) == (None, 1.0)
    recorded = build([scored("a/x", "cheap", 10, 20)], {}, prices=PRICES).rows[0]
    stored = build([scored("a/x", "cheap", 10, 20, tokens=10, seconds=1.0, cached=True)], {}, prices=PRICES).rows[0]
    for row in (recorded, stored):
        assert (row.usd_per_1k_samples, row.seconds_per_sample) == (None, None)


def test_a_model_that_another_beats_in_cost_and_equals_in_score_is_no_choice() -> None:
    board = build(
        [scored("a/x", "cheap", 80, 100, tokens=100), scored("a/x", "dear", 80, 100, tokens=100)], {}, prices=PRICES
    )
    assert board.dimensions == ("score", "usd_per_1k_samples")
    assert (standing(board, "cheap").choice, standing(board, "dear").choice) == (True, False)
    assert any(line.startswith("◆: no other model is as good in score and cost") for line in notes(board))


def test_a_dearer_model_with_a_better_score_stays_a_choice_and_noise_beats_nobody() -> None:
    rng = np.random.default_rng(4)
    noisy = rng.gamma(1.0, 1.0, 100)
    entries = [
        scored("a/x", "dear", 81, 100, tokens=100, seconds=noisy),
        scored("a/x", "cheap", 80, 100, tokens=100, seconds=np.roll(noisy, 1) + 0.001),
    ]
    board = build(entries, {}, prices=PRICES)
    assert board.dimensions == ("score", "usd_per_1k_samples", "seconds_per_sample")
    assert [standing(board, model).choice for model in ("dear", "cheap")] == [True, True]
    timed = build(entries, {})
    assert timed.dimensions == ("score", "seconds_per_sample")
    assert [standing(timed, model).choice for model in ("dear", "cheap")] == [True, True]


def test_what_is_known_of_some_models_only_is_not_weighed() -> None:
    entries = [scored("a/x", "cheap", 80, 100, tokens=100), scored("a/x", "unpriced", 80, 100, tokens=100)]
    board = build(entries, {}, prices=PRICES)
    assert (board.dimensions, standing(board, "cheap").choice) == (("score",), None)


# -- slices ----------------------------------------------------------------------------------------------------------

LANGUAGES = [{"language": "de"}] * 30 + [{"language": "en"}] * 65 + [{"language": "fr"}] * 4 + [{}]


def test_a_slice_is_scored_by_itself_and_small_ones_are_only_listed() -> None:
    board = build([scored("a/x", "m", 50, 100, slices=LANGUAGES), scored("b/y", "m", 5, 10)], {})
    scores = by_slice(board, "language")
    assert [(score.benchmark, score.value, score.samples) for score in scores] == [
        ("a/x", "de", 30),
        ("a/x", "en", 65),
        ("a/x", "fr", 4),
    ]
    german, english, french = (score.estimate for score in scores)
    assert german is not None and english is not None and french is None
    assert (german.value, german.low, german.high) == pytest.approx((1.0, *wilson(30, 30)))
    assert (english.value, english.low, english.high) == pytest.approx((20 / 65, *wilson(20, 65)))
    assert (english.scored, english.total) == (65, 65)
    records = slice_records(scores)
    assert [(record["slice"], record["slice_value"], record["value"]) for record in records[1:]] == [
        ("language", "en", 20 / 65),
        ("language", "fr", None),
    ]
    assert "| a/x (accuracy) | fr | m | fewer than 10 samples | 4 |" in slice_markdown(scores)


def test_a_failed_row_lowers_the_coverage_of_its_slice() -> None:
    values = [None, *[1] * 19]
    [score] = by_slice(build([with_rows(evidence("a/x", "m", values, slices=[{"k": "v"}] * 20))], {}), "k")
    assert score.estimate is not None
    assert (score.samples, score.estimate.scored, score.estimate.total, score.estimate.value) == (20, 19, 20, 1.0)


def test_a_slice_that_nobody_has_is_refused_with_those_there_are() -> None:
    board = build([scored("a/x", "m", 50, 100, slices=LANGUAGES)], {})
    with pytest.raises(BenchmarkError, match="no sample on this board has the slice 'langauge'; there is language"):
        by_slice(board, "langauge")


# -- forms -----------------------------------------------------------------------------------------------------------


def test_csv_and_json_carry_ranks_tier_lead_share_cost_and_seconds() -> None:
    entries = [scored(name, "cheap", 80, 100, tokens=100, seconds=2.0) for name in ("a/x", "b/y")]
    entries += [scored(name, "dear", 20, 100, tokens=100, seconds=1.0) for name in ("a/x", "b/y")]
    board = build([*entries, scored("a/x", "gap", 1, 100)], {}, prices=PRICES)
    overall = {record["model"]: record for record in to_records(board) if record["benchmark"] == "overall"}
    wanted = {"rank_low": 1, "rank_high": 1, "tier": "A", "lead_share": 1.0, "choice": True}
    assert {key: overall["cheap"][key] for key in wanted} == wanted
    assert overall["cheap"]["usd_per_1k_samples"] == pytest.approx(0.1)
    assert (overall["dear"]["seconds_per_sample"], overall["dear"]["rank_low"]) == (1.0, 2)
    assert (overall["gap"]["rank_low"], overall["gap"]["value"]) == (None, None)
    assert overall["gap"]["problem"] == "incomplete 1/2, no overall rank"
    rows = [row for row in csv.DictReader(io.StringIO(to_csv(board))) if row["benchmark"] == "overall"]
    assert [(row["rank_low"], row["rank_high"], row["tier"]) for row in rows] == [
        ("1", "1", "A"),
        ("2", "2", "B"),
        ("", "", ""),
    ]
    shown = to_markdown(board)
    assert "| cheap | 80.0 (73.7 to 84.7) ◆ | 1 | A | 100% | 0.10 | 2.0 |" in shown
    assert "| gap | incomplete 1/2, no overall rank | – | – | – | – | – |" in shown


def test_the_board_says_what_a_rank_means() -> None:
    board = build([scored("a/x", "one", 50, 100), scored("a/x", "other", 52, 100)], {})
    assert any(line.startswith("Rank 1–2 of 2: every place that the data leave open") for line in notes(board))
