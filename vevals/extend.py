"""Run a model, judge it, and where the policy allows ask more samples until the question is settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vevals import prices, release, runsets, session
from vevals.errors import PolicyError
from vevals.gate.measure import ORDER_SEED
from vevals.gate.terms import Policy
from vevals.gate.verdict import State
from vevals.models import Model
from vevals.registry import Registry
from vevals.release import Checked
from vevals.runner import Result, Slice, Watcher
from vevals.store import Store

GROWTH = 1.5
"""Each look takes half as many samples again: few looks, little waste."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: a suite or benchmarks, and how many samples of each to begin with (None: all)."""

    registry: Registry
    suite: str | None
    patterns: tuple[str, ...]
    draw: int | None
    accept_license: bool = False
    folders: tuple[Path, ...] = ()


def run_and_judge(
    store: Store, policy: Policy, model: str, plan: Plan, baseline: str | None, watch: Watcher
) -> Checked:
    """Finish the runs of ``model`` and judge them; under ``extend`` and ``stop_early`` look, ask more, look again.

    Every look uses the next samples of one seeded order, and the policy's method is valid at every look (``anytime``):
    that is no second attempt. Only the last look is recorded.
    """
    loaded, checked = None, None
    for draw in _draws(policy, plan):
        selection = session.select(plan.registry, plan.suite, plan.patterns, Slice(draw=draw, seed=ORDER_SEED))
        (loaded,) = session.prepare(selection, [model], plan.accept_license)
        results = list(session.run_all(selection, [loaded], store, watch))
        ours = runsets.of_digests(store, loaded.name, [result.run.digest for result in results])
        checked = release.consider(store, policy, ours, baseline, plan.folders)
        if checked.verdict.state is not State.INCONCLUSIVE or not _may_go_on(policy, results, loaded):
            break
    assert checked is not None
    return release.recorded(store, checked)


def _draws(policy: Policy, plan: Plan) -> Iterator[int | None]:
    """Samples of each benchmark, look by look; None is all of them."""
    looks = policy.on_inconclusive == "extend" or policy.budget.stop_early
    draw = plan.draw
    if policy.budget.stop_early and draw is None:
        draw = policy.statistics.min_samples
    if draw is None or not looks:
        yield draw
        return
    benchmarks = session.select(plan.registry, plan.suite, plan.patterns, Slice()).benchmarks
    largest = max(len(benchmark.samples) for benchmark in benchmarks)
    most = _most(policy, len(benchmarks), largest)
    while True:
        yield min(draw, most)
        if draw >= most:
            return
        draw = max(draw + 1, int(draw * GROWTH))


def _most(policy: Policy, benchmarks: int, largest: int) -> int:
    """Samples of one benchmark that the budget allows."""
    total = policy.budget.max_samples
    return largest if total is None else max(1, min(largest, total // benchmarks))


def _may_go_on(policy: Policy, results: Sequence[Result], model: Model) -> bool:
    """Whether the next look fits the money that may be spent."""
    if policy.budget.max_usd is None:
        return True
    spent = 0.0
    for result in results:
        tokens = (result.usage.get("input_tokens", 0), result.usage.get("output_tokens", 0))
        usd = prices.load_prices().usd(model.name, *tokens, result.run.seconds)
        if usd is None:
            raise PolicyError(f"budget.max_usd needs the price of {model.name}: write it into {prices.FILE}")
        spent += usd
    return spent * GROWTH <= policy.budget.max_usd
