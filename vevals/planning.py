"""What a policy would be asked of, before anything is run: benchmarks and their sizes, and what a pilot teaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from vevals import release, runsets
from vevals.benchmark import Benchmark
from vevals.errors import DataAbsent
from vevals.evidence import Floats, RunSet
from vevals.gate.plan import Plan, Subject, plan
from vevals.gate.questions import Part, Question, Setting, ask
from vevals.gate.terms import RESERVED, SCORE, Check, Limit, Policy
from vevals.prices import Prices, load_prices
from vevals.registry import Registry, open_registry
from vevals.statistics.clusters import design_effect, group, sums_and_sizes
from vevals.store import Store, open_store
from vevals.usage import COST, PER, column

NOTHING = "selects no benchmark that is known here: INVALID"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the sizes come from: ``pilot`` and ``against`` are run sets; without a pilot, the benchmarks themselves (of
    ``suite``, or matching ``patterns``). ``samples``: plan for so many of each instead.
    """

    pilot: str | None = None
    against: str | None = None
    samples: int | None = None
    suite: str | None = None
    patterns: tuple[str, ...] = ()
    db: str | None = None
    folders: tuple[Path, ...] = ()


def plan_policy(policy: Policy, source: Source) -> Plan:
    """Whether the policy can be passed, and how often an unchanged model would pass it."""
    subjects = _of_pilot(policy, source) if source.pilot else list(_of_registry(policy, source))
    if source.samples is not None:
        subjects = [replace(one, n=source.samples) for one in subjects]
    return plan([*subjects, *_never(policy)])


def _never(policy: Policy) -> Iterator[Subject]:
    """Checks that no run has evidence for."""
    for check in policy.checks:
        if check.judge is not None or check.contamination is not None:
            kind = "judge" if check.judge is not None else "contamination"
            yield Subject(
                check, Limit("at_least", 0.0), "", None, problem=f"no run records a {kind} result yet: INVALID"
            )


# -- from the benchmarks -------------------------------------------------------------------------------------------


def _of_registry(policy: Policy, source: Source) -> Iterator[Subject]:
    registry = open_registry(source.folders)
    universe = _universe(registry, source)
    for check in policy.checks:
        for limit in check.limits:
            found = list(_subjects(check, limit, registry, universe))
            yield from found or [
                Subject(check, limit, "", None, problem="selects no benchmark that is known here: INVALID")
            ]


def _universe(registry: Registry, source: Source) -> dict[str, int | None]:
    """Benchmarks that may be run, and how many samples of each (None: all)."""
    if source.suite:
        return dict(registry.suite(source.suite).draws)
    return dict.fromkeys(registry.names(source.patterns or ("*",)))


def _subjects(check: Check, limit: Limit, registry: Registry, universe: dict[str, int | None]) -> Iterator[Subject]:
    select = check.select
    names = universe
    if select.suite:
        names = {name: draw for suite in select.suite for name, draw in registry.suite(suite).draws.items()}
    for name, draw in names.items():
        if select.benchmark and not any(fnmatchcase(name, pattern) for pattern in select.benchmark):
            continue
        if select.domain and name.split("/")[0] not in select.domain:
            continue
        benchmark = registry.get(name)
        if (not select.tag or set(select.tag) & set(benchmark.spec.tags)) and _has_metric(benchmark, select.metric):
            yield from _sized(check, limit, benchmark, draw)


def _has_metric(benchmark: Benchmark, wanted: Sequence[str]) -> bool:
    own = {metric.name for metric in benchmark.metrics} | {SCORE, *RESERVED}
    return not wanted or bool(own & set(wanted))


def _sized(check: Check, limit: Limit, benchmark: Benchmark, draw: int | None) -> Iterator[Subject]:
    """The benchmark, or each of its slices under ``for_each``; without its data the size is not known."""
    try:
        samples = benchmark.draw(draw) if draw else benchmark.samples
    except DataAbsent:
        yield Subject(check, limit, benchmark.name, draw)
        return
    wanted = check.select.slice.items()
    inside = [one for one in samples if all(one.slices.get(key) in values for key, values in wanted)]
    whole = _whole_set(benchmark, check.select.metric)
    problem = _fault(limit, benchmark, check.select.metric)
    if not check.for_each:
        yield Subject(check, limit, benchmark.name, len(inside), whole_set=whole, problem=problem)
    for field in check.for_each:
        counts = Counter(one.slices[field] for one in inside if field in one.slices)
        for value, count in sorted(counts.items()):
            if count >= check.statistics.min_samples:
                yield Subject(
                    check, limit, f"{benchmark.name} · {field}={value}", count, whole_set=whole, problem=problem
                )


def _fault(limit: Limit, benchmark: Benchmark, wanted: Sequence[str]) -> str:
    """Why the limit checks nothing on the metrics that it is for."""
    names = {metric.name: metric for metric in benchmark.metrics}
    chosen = [names[one] for one in wanted if one in names]
    if not wanted or SCORE in wanted:
        chosen.append(benchmark.metrics[0])
    return next((fault for metric in chosen if (fault := limit.fault(metric.worst, metric.best))), "")


def _whole_set(benchmark: Benchmark, wanted: Sequence[str]) -> bool:
    """Whether the metric that is asked for (by default the first) is one of the whole set."""
    metrics = {metric.name: metric for metric in reversed(benchmark.metrics)}
    name = next((one for one in wanted if one in metrics), benchmark.metrics[0].name)
    return metrics[name].statistic is not None and not set(wanted) & set(RESERVED)


# -- from a pilot --------------------------------------------------------------------------------------------------


def _of_pilot(policy: Policy, source: Source) -> list[Subject]:
    with open_store(source.db, create=False) as store:
        setting = _pilot(store, policy, source)
        prices = load_prices()
        return [_taught(question, prices) for question in ask(setting).questions]


def _pilot(store: Store, policy: Policy, source: Source) -> Setting:
    ours = runsets.load(store, source.pilot or "")
    theirs: RunSet | None = runsets.load(store, source.against) if source.against else None
    if theirs is None:
        theirs, _, _ = release.find_baseline(store, policy, None, ours)
    return Setting(policy, ours, ours if theirs is None else theirs, release.suites_of(policy, source.folders))


def _usd_per_sample(question: Question, prices: Prices) -> float | None:
    """The mean price of a sample of the candidate, over the answers that cost something."""
    found = [column(part.candidate, COST, prices) for part in question.parts]
    values = [one.values[~np.isnan(one.values)] for one in found if one is not None]
    everything = np.concatenate(values) if values else np.array([])
    return float(everything.mean()) / PER if len(everything) else None


def _taught(question: Question, prices: Prices) -> Subject:
    check, limit = question.check, question.limit
    label = " · ".join([question.benchmark, *(f"{key}={value}" for key, value in question.where.items())])
    if question.problem:
        return Subject(check, limit, label, None, problem=question.problem)
    n = sum(len(part.candidate.ids) for part in question.parts)
    part, usd = question.parts[0], _usd_per_sample(question, prices)
    if part.metric not in part.candidate.columns or part.candidate.columns[part.metric].statistic is not None:
        return Subject(check, limit, label, n, whole_set=part.metric in part.candidate.columns)
    if limit.kind == "no_worse_than":
        variance, deff = _differences(question.parts)
        return Subject(check, limit, label, n, variance=variance, deff=deff, usd_per_sample=usd)
    column = part.candidate.columns[part.metric]
    low, high = sorted((column.worst, column.best))
    rate = (float(np.nanmean(column.means)) - low) / (high - low)
    return Subject(check, limit, label, n, usd_per_sample=usd, rate=rate if limit.kind == "at_least" else 1 - rate)


def _differences(parts: Sequence[Part]) -> tuple[float | None, float]:
    """Variance of a sample's paired difference, and how much clusters inflate it. None where nothing flipped."""
    found: list[Floats] = []
    effects: list[float] = []
    for part in parts:
        assert part.baseline is not None
        d = part.candidate.columns[part.metric].means - part.baseline.columns[part.metric].means
        found.append(d[~np.isnan(d)])
        keys = part.candidate.keys
        effects.append(1.0 if keys is None else _effect(d, keys))
    everything = np.concatenate(found)
    variance = float(everything.var())
    return (variance if variance > 0 else None), max(effects)


def _effect(differences: Floats, keys: Sequence[str]) -> float:
    effect = design_effect(*sums_and_sizes(np.nan_to_num(differences), group(keys)), float(np.nanvar(differences)))
    return 1.0 if np.isnan(effect) else effect
