"""How often a whole gate passes and fails when the truth is known: simulated releases through ``decide``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from evidences import HEAD, TODAY, column, evidence, margin, policy, runs

from vevals.canonical import sha256_hex
from vevals.evidence import RunSet
from vevals.gate.aa import simulate
from vevals.gate.decide import Context, decide, states
from vevals.gate.plan import Subject, plan
from vevals.gate.questions import Setting, ask
from vevals.gate.terms import Policy
from vevals.gate.verdict import State

pytestmark = pytest.mark.slow
Sides = tuple[RunSet, RunSet]
Draw = Callable[[np.random.Generator], Sides]


def binary(n: int, truth: float, discordance: float, benchmark: str = "legal/nli") -> Draw:
    """n independent samples; candidate minus baseline is ``truth`` on average."""

    def draw(rng: np.random.Generator) -> Sides:
        u = rng.random(n)
        fixed, broke = u < (discordance + truth) / 2, u > 1 - (discordance - truth) / 2
        same = (rng.random(n) < 0.8).astype(float)
        ours, theirs = (
            np.where(fixed, 1.0, np.where(broke, 0.0, same)),
            np.where(fixed, 0.0, np.where(broke, 1.0, same)),
        )
        return runs(evidence(column(ours), benchmark=benchmark)), runs(evidence(column(theirs), benchmark=benchmark))

    return draw


def clustered(count: int, size: int, truth: float, discordance: float) -> Draw:
    """``count`` clusters of uneven size in which samples tend to break, or be fixed, together."""

    def draw(rng: np.random.Generator) -> Sides:
        sizes = rng.integers(1, 2 * size, count)
        names = np.repeat(np.arange(count), sizes)
        whole = rng.random(count) < 0.2
        own, shared = rng.random(len(names)), np.repeat(rng.random(count), sizes)
        u = np.where(np.repeat(whole, sizes), shared, own)
        fixed, broke = u < (discordance + truth) / 2, u > 1 - (discordance - truth) / 2
        ours, theirs = np.where(broke, 0.0, 1.0), np.where(fixed, 0.0, 1.0)
        clusters = [f"c{name}" for name in names]
        return (
            runs(evidence(column(ours), clusters=clusters)),
            runs(evidence(column(theirs), clusters=clusters)),
        )

    return draw


def graded(n: int, truth: float) -> Draw:
    """Scores between 0 and 1 that lose 0.5 on some samples and wander a little on all."""

    def draw(rng: np.random.Generator) -> Sides:
        theirs = rng.uniform(0.5, 0.9, n)
        lost = 0.5 * (rng.random(n) < -2 * truth)
        ours = theirs - lost + rng.uniform(-0.05, 0.05, n)
        one, other = (column(values, name="rougeL", binary=False) for values in (ours, theirs))
        return runs(evidence(one)), runs(evidence(other))

    return draw


def state_of(rules: Policy, candidate: RunSet, baseline: RunSet, attempt: int = 1) -> State:
    """The verdict's state without its record."""
    questions = ask(Setting(rules, candidate, baseline)).questions
    return states(questions, rules, Context(TODAY, attempt=attempt))


def shares(rules: Policy, draw: Draw, draws: int, seed: int = 1) -> dict[State, float]:
    rng = np.random.default_rng(seed)
    counts = Counter(state_of(rules, *draw(rng)) for _ in range(draws))
    return {state: counts[state] / draws for state in State}


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(binary(1000, -0.03, 0.10), id="binary"),
        pytest.param(clustered(120, 8, -0.03, 0.10), id="binary in clusters"),
        pytest.param(graded(600, -0.03), id="graded"),
    ],
)
def test_a_truth_on_the_margin_passes_and_fails_rarely(draw: Draw) -> None:
    """Nominal 5% a side; 1,000 draws leave three standard errors of room at 7%."""
    found = shares(policy(margin(0.03)), draw, 1000)
    assert found[State.PASS] <= 0.07
    assert found[State.FAIL] <= 0.07


@pytest.mark.parametrize(("n", "most"), [(100, 0.03), (200, 0.01)])
def test_a_truth_beyond_the_margin_hardly_ever_passes(n: int, most: float) -> None:
    assert shares(policy(margin(0.02)), binary(n, -0.05, 0.15), 1000)[State.PASS] <= most


def test_a_simulated_state_is_that_of_the_whole_verdict() -> None:
    rng, rules = np.random.default_rng(2), policy(margin(0.03))
    for truth in (0.03, 0.0, -0.03, -0.1):
        setting = Setting(rules, *binary(300, truth, 0.15)(rng))
        assert state_of(rules, setting.candidate, setting.baseline) is decide(setting, Context(TODAY)).state  # type: ignore[arg-type]


def test_an_unchanged_model_passes_as_often_as_the_plan_says() -> None:
    rules = policy(margin(0.03))
    (check,) = rules.checks
    forecast = plan([Subject(check, check.limits[0], "legal/nli", 1000, variance=0.10)])
    found = shares(rules, binary(1000, 0.0, 0.10), 1000)
    assert forecast.joint is not None
    assert found[State.PASS] == pytest.approx(forecast.joint, abs=0.04)
    assert found[State.FAIL] <= 0.01


def test_eight_checks_pass_together_as_often_as_the_plan_says() -> None:
    rules = policy(margin(0.03))
    (check,) = rules.checks
    names = [f"legal/b{k}" for k in range(8)]
    forecast = plan([Subject(check, check.limits[0], name, 1000, variance=0.10) for name in names])

    def draw(rng: np.random.Generator) -> Sides:
        sides = [binary(1000, 0.0, 0.10, name)(rng) for name in names]
        ours, theirs = (
            runs(*(one.evidence[name] for one, name in zip(side, names, strict=True)))
            for side in zip(*sides, strict=True)
        )
        return ours, theirs

    found = shares(rules, draw, 100)
    assert forecast.joint is not None and 0.4 < forecast.joint < 0.5
    assert found[State.PASS] == pytest.approx(forecast.joint, abs=0.12)


def test_a_model_against_itself_passes_in_the_simulation_as_often_as_in_truth() -> None:
    rules = policy(margin(0.03))
    rng = np.random.default_rng(5)
    sides = binary(1000, 0.0, 0.10)(rng)
    rates = simulate(Setting(rules, *sides), Context(TODAY), draws=400)
    found = shares(rules, binary(1000, 0.0, 0.10), 400, seed=6)
    assert rates.shares[State.PASS] == pytest.approx(found[State.PASS], abs=0.10)
    assert not rates.defective


def test_looking_again_and_again_keeps_the_error_rate_of_an_early_stop() -> None:
    """The truth on the margin; four looks at the same growing evidence, as ``gate run`` takes them."""
    rules = policy(margin(0.03), head=HEAD + "statistics: {method: anytime, min_samples: 20}\n")
    rng = np.random.default_rng(7)
    ever: Counter[State] = Counter()
    ranks = [sha256_hex(["draw", rules.statistics.seed, f"s{row}"]) for row in range(1500)]
    order = sorted(range(1500), key=ranks.__getitem__)  # that of ``vevals run --draw``
    for _ in range(200):
        ours, theirs = binary(1500, -0.03, 0.15)(rng)
        found = set()
        for n in (100, 300, 700, 1500):
            cut = [runs(*(one.take(order[:n]) for one in side.evidence.values())) for side in (ours, theirs)]
            found.add(state_of(rules, *cut))
        ever.update(found & {State.PASS, State.FAIL})
    assert ever[State.PASS] / 200 <= 0.09
    assert ever[State.FAIL] / 200 <= 0.09


def test_five_retries_on_the_margin_pass_rarely() -> None:
    """Each attempt adds a repeat to the pooled evidence and is judged at half the error rate of the one before."""
    rng = np.random.default_rng(8)
    rules = policy(margin(0.03))
    passed = 0
    for _ in range(150):
        pairs = [binary(600, -0.03, 0.10)(rng) for _ in range(5)]
        passed += any(
            state_of(rules, *_pooled(pairs[:attempt]), attempt=attempt) is State.PASS for attempt in range(1, 6)
        )
    assert passed / 150 <= 0.15


def _all(sides: Iterable[RunSet]) -> RunSet:
    """Several benchmarks as one run set."""
    return runs(*(one for side in sides for one in side.evidence.values()))


def _pooled(pairs: list[Sides]) -> Sides:
    """Repeats side by side."""
    sides = []
    for side in range(2):
        (first,) = pairs[0][side].evidence.values()
        grid = np.hstack([next(iter(pair[side].evidence.values())).score.values for pair in pairs])
        sides.append(runs(replace(evidence(column(grid)), ids=first.ids, contents=first.contents)))
    return sides[0], sides[1]
