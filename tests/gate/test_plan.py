"""What a plan says before anything is run: floors, power, and how many samples would do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evidences import margin, policy

from vevals.cli.gate import _check_tasks
from vevals.errors import PolicyError
from vevals.gate.plan import Forecast, Plan, Subject, forecast, plan

FLOOR = "- {id: floor, select: {metric: score}, at_least: %s, min_samples: 10}"
CEILING = "- {id: top, select: {metric: unsafe_rate}, at_most: %s, min_samples: 10}"


def subject(check: str, n: int | None, **more: float) -> Subject:
    (one,) = policy(check).checks
    return Subject(one, one.limits[0], "legal/nli", n, **more)  # type: ignore[arg-type]


def of_margin(value: float, n: int | None, **more: float) -> Forecast:
    return forecast(subject(margin(value), n, **more))


@pytest.mark.parametrize(
    ("value", "eighty", "safe", "least"),
    [(0.01, 6183, 10823, 299), (0.02, 1546, 2706, 149), (0.03, 687, 1203, 99), (0.05, 248, 433, 59)],
)
def test_a_margin_needs_as_many_samples_as_the_table_says(value: float, eighty: int, safe: int, least: int) -> None:
    found = of_margin(value, 1000)
    assert (found.needed, found.least) == ((eighty, safe), least)


def test_below_the_floor_of_a_margin_no_result_can_pass() -> None:
    short, enough = of_margin(0.01, 298), of_margin(0.01, 299)
    assert (short.reachable, short.power) == (False, 0.0)
    assert enough.reachable and enough.power is not None and 0 < enough.power < 0.2


def test_a_margin_of_zero_is_never_passed_by_an_unchanged_model() -> None:
    assert not of_margin(0.0, 100_000).reachable


def test_clusters_raise_the_number_that_is_needed() -> None:
    plain, lumped = of_margin(0.03, 1000), of_margin(0.03, 1000, deff=2.0)
    assert plain.needed[0] is not None and lumped.needed[0] == pytest.approx(2 * plain.needed[0], abs=1)
    assert plain.power is not None and lumped.power is not None and lumped.power < plain.power
    assert lumped.least == 198


def test_floors_and_ceilings_have_exact_power() -> None:
    floor = forecast(subject(FLOOR % 0.8, 100, rate=0.9))
    assert floor.power is not None and 0.7 < floor.power < 0.95 and floor.least == 14
    strict = forecast(subject(CEILING % 0.005, 500))
    assert (strict.reachable, strict.least) == (False, 598)
    assert forecast(subject(CEILING % 0.005, 598)).reachable


def test_what_no_formula_covers_is_not_forecast() -> None:
    relative = "- {id: same, select: {metric: score}, no_worse_than: {baseline: true, margin_relative: 0.05}}"
    latency = "- {id: p95, select: {metric: seconds.p95}, at_most: 2.5}"
    for one in (subject(relative, 100), subject(latency, 100), subject(margin(0.03), 500, whole_set=True)):
        found = forecast(one)
        assert found.reachable and found.power is None


def eight(n: int) -> Plan:
    return plan([subject(margin(0.03), n, usd_per_sample=0.01) for _ in range(8)])


def test_joint_power_is_the_product_and_the_plan_says_what_each_needs() -> None:
    found = eight(1000)
    assert found.joint == pytest.approx(found.forecasts[0].power ** 8)  # type: ignore[operator]
    assert found.each == pytest.approx(0.95 ** (1 / 8))
    assert found.exit_code == 0


def test_samples_and_money_are_those_of_the_hungriest_check_of_each_benchmark() -> None:
    found = eight(1000)
    assert found.samples == found.forecasts[0].needed[1]
    assert found.usd == pytest.approx(0.01 * found.forecasts[0].needed[1])  # type: ignore[operator]
    assert plan([subject(margin(0.03), 1000)]).usd is None


def test_a_plan_without_blocking_checks_is_vacuous_and_one_out_of_reach_is_told() -> None:
    assert plan([subject(margin(0.03, "warn"), 1000)]).exit_code == 4
    assert eight(50).exit_code == 3
    assert plan([replace(subject(margin(), None), problem="gone")]).exit_code == 3


def test_a_plan_for_lm_eval_tasks_wants_them_named() -> None:
    rules = policy("- {id: floor, select: {benchmark: 'lm-eval:arc_*'}, at_least: 0.5}")
    with pytest.raises(PolicyError, match=r"selects lm-eval:arc_\*, and plan does not know lm-eval's tasks by itself"):
        _check_tasks(rules, ("code/*",))
    _check_tasks(rules, ("lm-eval:arc_easy",))


def test_a_ceiling_on_money_is_no_rate() -> None:
    found = forecast(subject("- {id: usd, select: {metric: usd_per_1k_samples}, at_most: 0.2}", 100))
    assert found.reachable and found.power is None
