"""What a policy says about evidence: states, families, waivers, missing values, and what makes a gate worthless."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from evidences import HEAD, answers, column, evidence, judged, margin, pair_of, policy, runs

from vevals.gate.decide import Context, decide
from vevals.gate.questions import Setting
from vevals.gate.terms import Limit
from vevals.gate.verdict import State, digest_of, from_json
from vevals.prices import Price, Prices


@pytest.mark.parametrize(
    ("fixed", "broke", "n", "state", "code"),
    [
        (42, 60, 1500, State.PASS, 0),
        (14, 20, 500, State.INCONCLUSIVE, 3),
        (3, 40, 500, State.FAIL, 1),
        (0, 0, 98, State.INCONCLUSIVE, 3),
        (0, 0, 99, State.PASS, 0),
    ],
)
def test_a_margin_of_three_points_is_judged_by_both_bounds(
    fixed: int, broke: int, n: int, state: State, code: int
) -> None:
    verdict = judged(policy(margin()), *pair_of(fixed, broke, n))
    (instance,) = verdict.instances
    assert (verdict.state, verdict.exit_code) == (state, code)
    assert (instance.fixed, instance.broke, instance.n) == (fixed, broke, n)
    assert instance.estimate == pytest.approx((fixed - broke) / n)


def test_the_numbers_of_an_instance_are_those_of_the_golden_table() -> None:
    (instance,) = judged(policy(margin()), *pair_of(14, 20, 500)).instances
    assert instance.p_pass == pytest.approx(1 - 0.930689, abs=1e-5)  # T(-.03) = 1.480951
    assert instance.high == pytest.approx(0.00769, abs=1e-5)


def test_a_floor_passes_only_when_the_exact_bound_reaches_it() -> None:
    floor = "- {id: floor, select: {metric: accuracy}, at_least: 0.80}"
    right = {413: State.INCONCLUSIVE, 417: State.PASS, 380: State.FAIL}
    for count, state in right.items():
        verdict = judged(policy(floor), runs(evidence(column(answers(count, 500 - count)))))
        assert verdict.state is state, count


def test_a_ceiling_needs_enough_samples_without_a_single_case() -> None:
    rules = policy("- {id: unsafe, select: {metric: unsafe_rate}, at_most: 0.01}")
    for n, state in ((298, State.INCONCLUSIVE), (299, State.PASS)):
        unsafe = column(np.zeros(n), name="unsafe_rate", worst=1.0, best=0.0)
        assert judged(rules, runs(evidence(unsafe))).state is state


def test_a_metric_where_lower_is_better_is_mirrored_in_a_comparison() -> None:
    better, worse = (column(np.r_[np.ones(k), np.zeros(600 - k)], name="toxic", worst=1.0, best=0.0) for k in (10, 60))
    verdict = judged(policy(margin()), runs(evidence(worse)), runs(evidence(better)))
    (instance,) = verdict.instances
    assert verdict.state is State.FAIL
    assert instance.estimate == pytest.approx(50 / 600)
    assert instance.low is not None and instance.high is not None and instance.low < 50 / 600 < instance.high
    assert (instance.fixed, instance.broke) == (0, 50)
    assert judged(policy(margin()), runs(evidence(better)), runs(evidence(worse))).state is State.PASS


def test_a_failed_row_counts_as_the_worst_for_pass_and_as_the_best_for_fail() -> None:
    values = answers(990, 10)
    values[:5] = math.nan
    rules = policy(margin(0.01))
    whole = runs(evidence(column(answers(990, 10))))
    (instance,) = judged(rules, runs(evidence(column(values))), whole).instances
    assert instance.state is State.INCONCLUSIVE
    assert instance.observed == 0.0
    assert instance.low is not None and instance.low < -0.005
    assert instance.outcomes == {"scored": 995, "failed": 5}
    assert judged(rules, whole, whole).state is State.PASS


def test_too_many_failed_rows_are_invalid_not_a_score() -> None:
    values = answers(100, 0)
    values[:3] = math.nan
    verdict = judged(policy(margin()), runs(evidence(column(values))), runs(evidence(column(answers(100, 0)))))
    assert verdict.state is State.INVALID
    assert "3.0% of the rows have no value" in verdict.instances[0].reason


def test_rule_drop_leaves_the_failed_rows_out_and_may_only_warn() -> None:
    values = answers(100, 0)
    values[0] = math.nan
    check = "- {id: w, select: {metric: score}, at_least: 0.5, severity: warn, errors: {rule: drop}}"
    (instance, _) = judged(
        policy(check, "- {id: b, select: {metric: score}, at_least: 0.5}"), runs(evidence(column(values)))
    ).instances
    assert instance.n == 99 and instance.estimate == 1.0


def test_fewer_samples_or_repeats_than_the_policy_wants_are_inconclusive() -> None:
    rules = policy(margin(0.5))
    assert judged(rules, *pair_of(0, 0, 49)).instances[0].reason == "only 49 samples, the policy wants 50"
    twice = policy(margin(0.5), head=HEAD + "statistics: {repeats: 3}\n")
    assert judged(twice, *pair_of(0, 0, 90)).instances[0].reason == "only 1 repeats, the policy wants 3"


def test_repeats_are_averaged_before_anything_else() -> None:
    rng = np.random.default_rng(1)
    grid = (rng.random((200, 4)) < 0.8).astype(float)
    (instance,) = judged(policy(margin(0.5)), runs(evidence(column(grid))), runs(evidence(column(grid)))).instances
    assert (instance.n, instance.repeats) == (200, 4)
    assert "plus-2" in instance.method


def test_holm_counts_every_blocking_instance_and_warnings_are_a_family_of_their_own() -> None:
    sides = [pair_of(3, 14, 600, benchmark=f"legal/b{k}") for k in range(4)]
    candidate, baseline = (
        runs(*(one.evidence[f"legal/b{k}"] for k, one in enumerate(side))) for side in zip(*sides, strict=True)
    )
    single = judged(policy(margin(0.0)), *sides[0]).instances[0]
    verdict = judged(policy(margin(0.0)), candidate, baseline)
    assert single.p_fail is not None and single.holm_p == pytest.approx(single.p_fail)
    assert [one.holm_p for one in verdict.instances] == pytest.approx([4 * single.p_fail] * 4)
    both = judged(policy(margin(0.0), margin(0.0, "warn").replace("same", "listed")), *sides[0])
    assert [one.holm_p for one in both.instances] == pytest.approx([single.p_fail] * 2)


def test_a_warning_never_decides_and_a_policy_without_deciding_checks_is_vacuous() -> None:
    failing = pair_of(0, 60, 100)
    assert judged(policy(margin(severity="warn")), *failing).exit_code == 4
    passing = "- {id: floor, select: {metric: score}, at_least: 0.01}"
    verdict = judged(policy(margin(severity="warn"), passing), *failing)
    assert verdict.state is State.PASS
    assert verdict.instances[0].state is State.FAIL


def test_a_select_that_matches_nothing_is_invalid() -> None:
    rules = policy("- {id: typo, select: {domain: legall, metric: score}, at_least: 0.5}")
    verdict = judged(rules, *pair_of(0, 0, 100)[:1])
    assert verdict.exit_code == 4
    assert "selects nothing" in verdict.instances[0].reason


def test_a_benchmark_that_only_the_baseline_has_is_not_forgotten() -> None:
    candidate, baseline = pair_of(0, 0, 200)
    other = evidence(column(answers(100, 100)), benchmark="legal/other")
    verdict = judged(policy(margin()), candidate, runs(*baseline.evidence.values(), other))
    assert verdict.state is State.INVALID
    assert verdict.instances[1].reason == "the candidate has no finished run of legal/other"


@pytest.mark.parametrize("part", ["dataset", "prompt", "generation", "scorer", "judge", "harness"])
def test_runs_that_differ_in_a_part_are_invalid_naming_it(part: str) -> None:
    candidate, baseline = pair_of(0, 0, 200)
    (one,) = baseline.evidence.values()
    changed = evidence(one.score, parts={**one.parts, part: "other"})
    verdict = judged(policy(margin()), candidate, runs(changed))
    assert verdict.exit_code == 4
    assert verdict.instances[0].reason == f"not comparable: the runs differ in {part}"
    loose = f"comparability: {{must_match: [{'prompt' if part != 'prompt' else 'dataset'}]}}\n"
    assert judged(policy(margin(), head=HEAD + loose), candidate, runs(changed)).exit_code == 0


def test_slices_are_judged_one_by_one_and_small_ones_are_listed() -> None:
    values = np.r_[answers(100, 0), answers(60, 40), answers(5, 5)]
    slices = [{"language": "de"}] * 100 + [{"language": "fr"}] * 100 + [{"language": "it"}] * 10
    check = "- {id: slices, select: {metric: score}, for_each: [language], at_least: 0.9, min_samples: 30}"
    verdict = judged(policy(check), runs(evidence(column(values), slices=slices)))
    assert [(one.where["language"], one.state) for one in verdict.instances] == [("de", State.PASS), ("fr", State.FAIL)]
    assert verdict.listed == ("slices · legal/nli · language=it: 10 samples, fewer than 30: not judged",)


def test_a_mean_over_benchmarks_is_one_instance_narrower_than_its_parts() -> None:
    sides = [pair_of(20, 22, 400, benchmark=f"legal/b{k}") for k in range(4)]
    candidate, baseline = (
        runs(*(one.evidence[f"legal/b{k}"] for k, one in enumerate(side))) for side in zip(*sides, strict=True)
    )
    check = margin(0.02).replace("metric: score}", "domain: legal, metric: score}, combine: mean")
    (instance,) = judged(policy(check), candidate, baseline).instances
    (single, *_) = judged(policy(margin(0.02)), candidate, baseline).instances
    assert instance.estimate == pytest.approx(-2 / 400)
    assert (instance.n, instance.fixed, instance.broke) == (1600, 80, 88)
    assert instance.low is not None and single.low is not None and instance.low > single.low
    assert (instance.state, single.state) == (State.PASS, State.INCONCLUSIVE)


def test_clusters_widen_the_bounds_and_too_few_decide_nothing() -> None:
    names = [f"c{row // 10}" for row in range(400)]
    loose = judged(policy(margin(0.05)), *pair_of(20, 22, 400)).instances[0]
    tight = judged(policy(margin(0.05)), *pair_of(20, 22, 400, clusters=names)).instances[0]
    assert loose.low is not None and tight.low is not None and tight.low < loose.low
    assert tight.clusters == 40 and tight.n_eff < 400
    few = judged(policy(margin(0.05)), *pair_of(0, 0, 400, clusters=[f"c{row % 5}" for row in range(400)]))
    assert few.state is State.INCONCLUSIVE


def test_cost_and_latency_have_limits_of_their_own() -> None:
    rng = np.random.default_rng(2)
    fast, slow = rng.gamma(4, 0.25, (300, 1)), rng.gamma(4, 0.5, (300, 1))
    quick, tardy = (runs(evidence(column(answers(300, 0)), seconds=s)) for s in (fast, slow))
    p95 = policy("- {id: p95, select: {metric: seconds.p95}, at_most: 3.0}")
    assert judged(p95, quick).state is State.PASS
    assert judged(p95, tardy).state is State.FAIL
    growth = policy("- {id: p50, select: {metric: seconds.p50}, max_increase: 0.10}")
    assert judged(growth, tardy, quick).state is State.FAIL
    assert judged(growth, quick, tardy).state is State.PASS
    cost = policy("- {id: usd, select: {metric: usd_per_1k_samples}, at_most: 1.0}")
    assert "has no price" in judged(cost, quick).instances[0].reason
    prices = Prices({"model": Price(1.0, 2.0, 0.0, "2026-01-01")})
    (instance,) = judged(cost, quick, prices=prices).instances
    assert instance.estimate == pytest.approx(0.12)  # 100 x 1e-6 + 10 x 2e-6, times 1000


def test_outcome_rates_can_be_limited() -> None:
    rules = policy("- {id: failed, select: {metric: failed_rate}, at_most: 0.05, errors: {max_rate: 1.0}}")
    values = answers(1000, 0)
    values[:20] = math.nan
    (instance,) = judged(rules, runs(evidence(column(values)))).instances
    assert instance.state is State.PASS and instance.estimate == pytest.approx(0.02)


WAIVER = "waivers:\n- {check: same, down_to: -0.10, reason: r, owner: a@b.example, issue: u, expires: %s}\n"


def test_a_waiver_lets_a_known_loss_through_until_it_expires() -> None:
    sides = pair_of(3, 40, 500)
    good = judged(policy(margin(), tail=WAIVER % "2026-08-01"), *sides)
    assert good.exit_code == 0 and good.instances[0].state is State.FAIL and good.instances[0].waiver is not None
    late = judged(policy(margin(), tail=WAIVER % "2026-05-31"), *sides)
    assert late.exit_code == 1 and "expired" in late.listed[0]
    long = judged(policy(margin(), tail=WAIVER % "2027-05-31"), *sides)
    assert long.exit_code == 1
    deep = judged(policy(margin(), tail=WAIVER % "2026-08-01"), *pair_of(3, 70, 500))
    assert deep.exit_code == 1 and deep.instances[0].waiver is None


def test_invalid_cannot_be_waived() -> None:
    candidate, baseline = pair_of(0, 0, 200)
    (one,) = baseline.evidence.values()
    changed = runs(evidence(one.score, parts={**one.parts, "prompt": "other"}))
    assert judged(policy(margin(), tail=WAIVER % "2026-08-01"), candidate, changed).exit_code == 4


def test_required_domains_rows_baseline_and_ledger_make_the_whole_policy_invalid() -> None:
    candidate, baseline = pair_of(0, 0, 200)
    domains = policy(margin(), head=HEAD + "require: {domains: [legal, medical]}\n")
    assert judged(domains, candidate, baseline).reasons == ("the candidate has no run in the required domain medical",)
    assert judged(policy(margin()), candidate, None, baseline_problem="gone").reasons[0] == "no baseline: gone"
    first = HEAD.replace("{ref: prod}", "{ref: prod, on_missing: skip_relative}")
    floor = "- {id: floor, select: {metric: score}, at_least: 0.1}"
    release = judged(policy(margin(), floor, head=first), candidate, None)
    assert release.exit_code == 0 and release.listed == ("same: skipped, there is no baseline yet",)
    old = policy(margin(), head=HEAD.replace("{ref: prod}", "{ref: prod, max_age_days: 90}"))
    assert judged(old, candidate, baseline, baseline_age_days=91).exit_code == 4
    assert judged(old, candidate, baseline, baseline_age_days=89).exit_code == 0
    ledger = policy(margin(), head=HEAD + "ledger: required\n")
    assert judged(ledger, candidate, baseline, ledger=False).exit_code == 4


def test_later_attempts_are_judged_more_strictly() -> None:
    sides = pair_of(42, 60, 1500)
    states = [judged(policy(margin(0.028)), *sides, attempt=attempt).instances[0] for attempt in (1, 2, 3)]
    assert [one.alpha for one in states] == [0.05, 0.025, 0.0125]
    assert states[0].low is not None and states[2].low is not None and states[2].low < states[0].low


def test_checks_that_nothing_can_answer_yet_are_invalid() -> None:
    rules = policy(
        margin(),
        "- {id: fit, judge: {min_labels: 50}}",
        "- {id: clean, contamination: {max_flagged_rate: 0.1}, severity: warn}",
    )
    verdict = judged(rules, *pair_of(0, 0, 200))
    assert verdict.exit_code == 4
    assert [one.state for one in verdict.instances[1:]] == [State.INVALID] * 2


def test_inconclusive_may_warn_without_becoming_a_pass_in_the_record() -> None:
    rules = policy(margin(), head=HEAD + "on_inconclusive: warn\n")
    verdict = judged(rules, *pair_of(14, 20, 500))
    assert (verdict.state, verdict.exit_code) == (State.INCONCLUSIVE, 0)


def test_needed_samples_are_told_and_a_hopeless_case_too() -> None:
    (instance,) = judged(policy(margin()), *pair_of(14, 20, 500)).instances
    assert instance.needed is not None and 1_200 <= instance.needed <= 1_400
    (stuck,) = judged(policy(margin(0.012)), *pair_of(14, 20, 500)).instances
    assert stuck.reason == "more samples are unlikely to settle this"


def test_the_anytime_method_decides_by_the_same_margin() -> None:
    head = HEAD + "statistics: {method: anytime}\n"
    assert judged(policy(margin(), head=head), *pair_of(60, 20, 1500)).state is State.PASS
    assert judged(policy(margin(), head=head), *pair_of(10, 150, 1000)).state is State.FAIL
    assert judged(policy(margin(), head=head), *pair_of(14, 20, 300)).state is State.INCONCLUSIVE


def test_equal_evidence_gives_the_equal_digest_whatever_the_day_and_json_comes_back_whole() -> None:
    sides = pair_of(14, 20, 500)
    one = judged(policy(margin()), *sides)
    other = decide(Setting(policy(margin()), *sides), Context(date(2026, 7, 7)))
    assert one.digest == other.digest == digest_of(one.to_json())
    assert from_json(one.to_json()).to_json() == one.to_json()
    assert judged(policy(margin(0.031)), *sides).digest != one.digest


@pytest.mark.parametrize("right", [0, 30, 60])
def test_a_mean_of_floors_rests_on_the_plus_2_means_of_its_parts(right: int) -> None:
    parts = [evidence(column(answers(right, 60 - right)), benchmark=f"legal/b{k}") for k in range(2)]
    check = "- {id: mean, select: {metric: score}, combine: mean, at_least: 0.5}"
    (instance,) = judged(policy(check), runs(*parts)).instances
    middle = (right + 1) / 62
    error = math.sqrt(((right + 1) / 62 - middle**2) / 62)  # of one part
    assert instance.low == pytest.approx(middle - 1.644854 * error / math.sqrt(2), abs=1e-6)


UNMISSABLE = [
    "- {id: same, select: {metric: score}, no_worse_than: {baseline: true, margin: 2}}",
    "- {id: floor, select: {metric: score}, at_least: 0.0}",
    "- {id: top, select: {metric: score}, at_most: 1.0}",
]


@pytest.mark.parametrize("check", UNMISSABLE)
def test_a_limit_that_nothing_can_miss_is_invalid(check: str) -> None:
    verdict = judged(policy(check), *pair_of(0, 50, 100))
    assert verdict.exit_code == 4 and "cannot be missed" in verdict.instances[0].reason


STRAYS = {
    "domain: [legal, legl], metric: score": "domain legl",
    "metric: [score, unsafe_rat]": "metric unsafe_rat",
    "benchmark: [legal/nli, 'medical/*'], metric: score": "benchmark medical/*",
    "slice: {language: [de, fr, xx]}, metric: score": "language=xx",
}


@pytest.mark.parametrize(("select", "told"), STRAYS.items())
def test_a_typo_among_good_values_of_a_select_does_not_pass(select: str, told: str) -> None:
    slices = [{"language": "de"}] * 100 + [{"language": "fr"}] * 100
    rules = policy(f"- {{id: floor, select: {{{select}}}, at_least: 0.1}}")
    verdict = judged(rules, runs(evidence(column(answers(200, 0)), slices=slices)))
    assert verdict.exit_code == 4
    assert told in verdict.instances[0].reason


def test_for_each_over_an_unknown_field_or_only_small_slices_is_invalid() -> None:
    slices = [{"level": str(row)} for row in range(200)]
    side = runs(evidence(column(answers(200, 0)), slices=slices))
    check = "- {id: s, select: {metric: score}, for_each: [%s], at_least: 0.9, min_samples: 30}"
    floor = "- {id: slices-floor, select: {metric: score}, at_least: 0.1}"
    assert "slice levle" in judged(policy(floor, check % "levle"), side).instances[1].reason
    assert "no slice has 30 samples" in judged(policy(floor, check % "level"), side).instances[1].reason


def test_a_mean_over_unlike_things_or_with_looks_is_invalid() -> None:
    toxic = column(np.zeros(100), name="toxic", worst=1.0, best=0.0)
    side = runs(evidence([column(answers(90, 10)), toxic]), evidence(column(answers(9, 91)), benchmark="legal/b"))
    mean = "- {id: m, select: {metric: %s}, combine: mean, at_least: 0.1}"
    assert "count its samples twice" in judged(policy(mean % "[accuracy, toxic]"), side).instances[0].reason
    anytime = policy(mean % "accuracy", head=HEAD + "statistics: {method: anytime}\n")
    assert "no anytime-valid bound" in judged(anytime, side).instances[0].reason


def test_an_unchanged_release_passes_set_scores_and_ratios() -> None:
    def statistic(rows: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(answers(150, 50)[rows].mean())

    side = replace(column(answers(150, 50), name="macro_f1", binary=False), statistic=statistic)
    same = runs(evidence(side)), runs(evidence(side))
    check = "- {id: f1, select: {metric: macro_f1}, no_worse_than: {baseline: true, margin: %s}}"
    (instance,) = judged(policy(check % 0.02), *same).instances
    assert (instance.state, instance.low) == (State.PASS, pytest.approx(-(1 - 0.05 ** (1 / 200))))
    assert judged(policy(check % 0.01), *same).state is State.INCONCLUSIVE
    tokens = "- {id: t, select: {metric: output_tokens.mean}, max_increase: 0.1}"
    assert judged(policy(tokens), *same).state is State.PASS


def test_a_score_of_the_whole_set_without_bounds_is_no_mean_of_its_rows() -> None:
    logs = np.linspace(-6.0, -3.0, 200)

    def perplexity(rows: np.ndarray) -> float:  # type: ignore[type-arg]
        return math.exp(-float(logs[rows].mean()))

    one = column(np.exp(-logs), name="perplexity", worst=math.inf, best=1.0, binary=False)
    side = runs(evidence(replace(one, statistic=perplexity)))
    check = "- {id: p, select: {metric: perplexity}, %s}"
    (instance,) = judged(policy(check % "at_most: 120"), side).instances
    assert instance.estimate == pytest.approx(math.exp(4.5))
    assert instance.state is State.PASS
    rules = policy(check % "at_most: 120")
    grown = replace(rules, checks=(replace(rules.checks[0], limits=(Limit("max_increase", 0.1),)),))
    (instance,) = judged(grown, side, side).instances
    assert instance.state is State.INVALID
    assert instance.reason == "perplexity is a score of the whole set: use at_least or at_most"


def test_draws_of_another_order_cannot_be_looked_at_again_and_again() -> None:
    (one,) = pair_of(0, 0, 200)[0].evidence.values()
    drawn = replace(one, runs=(replace(one.runs[0], draw=200, seed=3),))
    rules = policy(margin(), head=HEAD + "statistics: {method: anytime}\n")
    verdict = judged(rules, runs(drawn), pair_of(0, 0, 200)[1])
    assert "the order of method: anytime is that of --seed 0" in verdict.instances[0].reason


def test_samples_without_time_do_not_count_towards_the_least_number() -> None:
    one = evidence(column(answers(100, 0)), seconds=np.ones((100, 1)))
    half = replace(one, usage=replace(one.usage, cached=np.arange(100)[:, None] < 60))
    check = "- {id: p95, select: {metric: seconds.p50}, at_most: 2.0, min_samples: 50}"
    (instance,) = judged(policy(check), runs(half)).instances
    assert instance.reason == "only 40 samples, the policy wants 50"


def test_what_nobody_measured_is_not_cheap_or_fast() -> None:
    idle = evidence(column(answers(100, 0)), seconds=np.zeros((100, 1)))
    check = "- {id: p95, select: {metric: seconds.p95}, at_most: 2.0}"
    (instance,) = judged(policy(check), runs(idle)).instances
    assert instance.reason == "no seconds.p95 is known of model: its runs recorded no tokens or no times"


def test_a_loss_that_is_not_yet_certain_says_how_many_samples_would_show_it() -> None:
    (instance,) = judged(policy(margin(0.10)), *pair_of(2, 26, 160)).instances
    assert instance.state is State.INCONCLUSIVE and instance.estimate == pytest.approx(-0.15)
    assert instance.needed is not None and 161 <= instance.needed < 1000
