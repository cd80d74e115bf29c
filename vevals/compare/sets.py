"""Run sets side by side: what is comparable, every metric of every benchmark, slices, domains, adjusted p-values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vevals import usage
from vevals.compare.difference import Pairs, difference, estimate, finding_of, pairs_of, taken
from vevals.compare.result import (
    ALL,
    CONFIDENCE,
    PARTS,
    SCORE,
    BenchmarkChange,
    Change,
    Comparison,
    ComparisonError,
    DomainChange,
    Measure,
    Missing,
    Rule,
    SliceChange,
    Units,
)
from vevals.compare.words import listed
from vevals.evidence import NO_ROW, Column, Evidence, Floats, RunSet, differing, pair
from vevals.prices import Prices
from vevals.statistics.intervals import z_of
from vevals.statistics.ranks import benjamini_hochberg, holm

FEWEST_IN_SLICE = 10
MEASURES = (usage.COST, *usage.MEANS, "seconds.p50", *usage.RATES)


def compare(candidate: RunSet, baseline: RunSet, rule: Rule | None = None, prices: Prices | None = None) -> Comparison:
    """Compare ``candidate`` (A) with ``baseline`` (B) on the samples that they share.

    Raises:
        ComparisonError: nothing is shared, or a part of the fingerprint that must match differs.
    """
    how, costs = rule or Rule(), prices or Prices({})
    _check_rule(how)
    shared = sorted(candidate.evidence.keys() & baseline.evidence.keys())
    if not shared:
        raise ComparisonError(_nothing_shared(candidate, baseline))
    pairs = {name: (candidate.evidence[name], baseline.evidence[name]) for name in shared}
    _refuse_differing(pairs, how.must_match)
    benchmarks = [_benchmark(*sides, how, costs) for sides in pairs.values()]
    measured = _adjusted([found for found in benchmarks if found.changes])
    if not measured:
        raise ComparisonError(_no_metric(pairs, how.metrics))
    without = [f"{found.benchmark}: no metric {how.metrics!r}" for found in benchmarks if not found.changes]
    return Comparison(
        candidate=candidate.name,
        baseline=baseline.name,
        digests=(candidate.digest, baseline.digest),
        rule=how,
        benchmarks=tuple(measured),
        domains=tuple(_domains(measured, how)),
        only_candidate=tuple(sorted(candidate.evidence.keys() - baseline.evidence.keys())),
        only_baseline=tuple(sorted(baseline.evidence.keys() - candidate.evidence.keys())),
        problems=(*_problems(candidate, baseline), *without),
    )


# --- what is comparable ---------------------------------------------------------------------------------------------


def _check_rule(rule: Rule) -> None:
    if not 0 <= rule.margin < 1:
        raise ComparisonError(f"margin {rule.margin:g}: it is a share of the metric's range; write 0.03 for 3 points")


def _nothing_shared(candidate: RunSet, baseline: RunSet) -> str:
    sides = [
        f"{side} ({found.name}) has {', '.join(sorted(found.evidence)) or 'none'}"
        for side, found in (("A", candidate), ("B", baseline))
    ]
    problems = "".join(f"; {problem}" for problem in _problems(candidate, baseline))
    return f"no benchmark has usable runs on both sides: {'; '.join(sides)}{problems}"


def _problems(candidate: RunSet, baseline: RunSet) -> list[str]:
    sides = (("A", candidate), ("B", baseline))
    return [f"{name}: {side}: {why}" for side, found in sides for name, why in sorted(found.problems.items())]


def _refuse_differing(pairs: Mapping[str, tuple[Evidence, Evidence]], parts: Sequence[str]) -> None:
    refusals = []
    for name, (one, other) in pairs.items():
        runs = f"(A: run {_runs(one)}; B: run {_runs(other)})"
        differ = differing(one, other, parts)
        if not set(zip(one.ids, one.contents, strict=True)) & set(zip(other.ids, other.contents, strict=True)):
            refusals.append(f"{name}: the runs share no question {runs}; compare runs on the same samples")
        elif differ:
            allow = " ".join(f"--allow {part}" for part in differ)
            why = "so the difference would not be the models' own"
            differ_in = f"{name}: the runs differ in {listed(differ)} {runs}, {why}"
            refusals.append(f"{differ_in}; '{allow}' compares them all the same")
    if refusals:
        more = f" (and {len(refusals) - 1} more benchmarks)" if len(refusals) > 1 else ""
        raise ComparisonError(refusals[0] + more)


def _runs(evidence: Evidence) -> str:
    return ", ".join(run.key[:8] for run in evidence.runs)


def _no_metric(pairs: Mapping[str, tuple[Evidence, Evidence]], wanted: str) -> str:
    known = sorted({name for one, other in pairs.values() for name in one.columns.keys() & other.columns.keys()})
    what = (
        "no benchmark has a metric in common" if wanted in (SCORE, ALL) else f"no benchmark has the metric '{wanted}'"
    )
    return f"{what} on both sides; there is {', '.join(known) or 'none'}"


# --- one benchmark --------------------------------------------------------------------------------------------------


def _benchmark(candidate: Evidence, baseline: Evidence, rule: Rule, prices: Prices) -> BenchmarkChange:
    one, other = pair(candidate, baseline)
    columns = [(usage.column(one, name, prices), usage.column(other, name, prices)) for name in _metrics(one, rule)]
    pairs = [pairs_of((one, other), (a, b)) for a, b in columns if a is not None and b is not None]
    changes = [_change(found, rule) for found in pairs]
    if changes:
        slices, small = _slices(one, pairs[0], rule)
        changes[0] = replace(changes[0], slices=tuple(slices), small=small)
    return BenchmarkChange(
        benchmark=candidate.benchmark,
        runs=(tuple(run.key for run in candidate.runs), tuple(run.key for run in baseline.runs)),
        sizes=(len(candidate.ids), len(baseline.ids), len(one.ids)),
        changes=tuple(changes),
        measures=tuple(_measures(one, other, prices)),
        notes=tuple(_notes(candidate, baseline, len(one.ids))),
    )


def _metrics(evidence: Evidence, rule: Rule) -> list[str]:
    if rule.metrics == SCORE:
        return [evidence.score.name]
    if rule.metrics in usage.QUANTILES:
        raise ComparisonError(f"'{rule.metrics}' is shown beside every comparison and has no interval here")
    return list(evidence.columns) if rule.metrics == ALL else [rule.metrics]


def _notes(candidate: Evidence, baseline: Evidence, shared: int) -> list[str]:
    notes = []
    if shared < max(len(candidate.ids), len(baseline.ids)):
        sizes = f"A has {len(candidate.ids):,}, B {len(baseline.ids):,}"
        notes.append(f"only the {shared:,} samples that both have ({sizes})")
    for side, evidence in (("A", candidate), ("B", baseline)):
        limits = [run.limit for run in evidence.runs if run.limit is not None]
        if limits:
            notes.append(f"{side} took only the first {limits[0]} rows, which need not be like the others")
    allowed = differing(candidate, baseline, PARTS)
    if allowed:
        notes.append(f"the runs differ in {listed(allowed)}")
    return notes


def _measures(one: Evidence, other: Evidence, prices: Prices) -> list[Measure]:
    return [Measure(name, _typical(one, name, prices), _typical(other, name, prices)) for name in MEASURES]


def _typical(evidence: Evidence, name: str, prices: Prices) -> float:
    """The mean of a reserved column, the median of seconds; NaN where nothing is known."""
    column = usage.column(evidence, name, prices)
    known = np.empty(0) if column is None else column.values[~np.isnan(column.values)]
    if not known.size:
        return math.nan
    return float(np.quantile(known, usage.QUANTILES[name]) if name in usage.QUANTILES else known.mean())


def _change(pairs: Pairs, rule: Rule) -> Change:
    a, b = pairs.whole
    gains = pairs.gains
    order = np.argsort(-np.abs(gains), kind="stable")
    return Change(
        metric=a.name,
        units=pairs.units,
        repeats=(a.values.shape[1], b.values.shape[1]),
        candidate=estimate(pairs.one, pairs, rule),
        baseline=estimate(pairs.other, pairs, rule),
        difference=difference(pairs, rule),
        margin=rule.margin_in(pairs.units),
        missing=_missing(a, b, pairs.units),
        outcomes=(_outcomes(a), _outcomes(b)),
        fixed=tuple(pairs.ids[row] for row in order if gains[row] > 0),
        broke=tuple(pairs.ids[row] for row in order if gains[row] < 0),
        set_level=a.statistic is not None,
    )


def _outcomes(column: Column) -> dict[str, int]:
    """Rows by the name of their outcome; ``absent``: the run did not get to them."""
    counts = {outcome.name: count for outcome, count in column.counts().items() if count}
    absent = int((column.outcomes == NO_ROW).sum())
    return {**counts, "absent": absent} if absent else counts


def _missing(a: Column, b: Column, units: Units) -> Missing:
    """Worst case: A's missing rows all wrong and B's all right; best case: the reverse. Row by row, then averaged."""
    counts = int(np.isnan(a.values).sum()), int(np.isnan(b.values).sum())
    if not any(counts) or a.statistic is not None or not a.bounded:
        return Missing(*counts, None, None)
    ends = [
        float(_filled(a, mine).mean() - _filled(b, theirs).mean())
        for mine, theirs in ((units.worst, units.best), (units.best, units.worst))
    ]
    return Missing(*counts, min(ends), max(ends))


def _filled(column: Column, value: float) -> Floats:
    filled: Floats = np.where(np.isnan(column.values), value, column.values).mean(axis=1)
    return filled


# --- many at once ---------------------------------------------------------------------------------------------------


def _slices(candidate: Evidence, pairs: Pairs, rule: Rule) -> tuple[list[SliceChange], int]:
    """Every slice value with at least 10 samples, and how many have fewer."""
    if not math.isfinite(pairs.units.span):
        return [], 0
    where = dict(zip(candidate.ids, candidate.slices, strict=True))
    rows: dict[tuple[str, str], list[int]] = {}
    for row, sample in enumerate(pairs.ids):
        for field, value in where[sample].items():
            rows.setdefault((field, value), []).append(row)
    large = {key: found for key, found in rows.items() if len(found) >= FEWEST_IN_SLICE}
    return [_slice(*key, taken(pairs, found), rule) for key, found in large.items()], len(rows) - len(large)


def _slice(field: str, value: str, pairs: Pairs, rule: Rule) -> SliceChange:
    return SliceChange(field, value, difference(pairs, rule))


def _adjusted(benchmarks: Sequence[BenchmarkChange]) -> list[BenchmarkChange]:
    """With Holm's p over the first metrics, and Benjamini-Hochberg's over the slices of all."""
    first = holm([found.changes[0].difference.p for found in benchmarks])
    slices = [part for found in benchmarks for change in found.changes for part in change.slices]
    adjusted = iter(benjamini_hochberg([part.difference.p for part in slices]))
    made = []
    for found, holm_p in zip(benchmarks, first, strict=True):
        changes = [_with_slices(change, adjusted) for change in found.changes]
        changes[0] = replace(changes[0], holm_p=float(holm_p))
        made.append(replace(found, changes=tuple(changes)))
    return made


def _with_slices(change: Change, adjusted: Iterator[float]) -> Change:
    parts = [replace(part, adjusted_p=float(next(adjusted))) for part in change.slices]
    sign = change.units.sign
    parts.sort(key=lambda part: (sign * part.difference.value, part.field, part.value))
    return replace(change, slices=tuple(parts))


def _domains(benchmarks: Sequence[BenchmarkChange], rule: Rule) -> Iterator[DomainChange]:
    grouped: dict[str, list[BenchmarkChange]] = {}
    for found in benchmarks:
        if math.isfinite(found.changes[0].units.span):
            grouped.setdefault(found.domain, []).append(found)
    for domain, inside in grouped.items():
        yield _domain(domain, inside, rule)


def _domain(domain: str, inside: Sequence[BenchmarkChange], rule: Rule) -> DomainChange:
    """Stratified mean: the value is the plain one, the bounds rest on centres and errors."""
    scores = [found.changes[0] for found in inside]
    factors = [change.units.sign / change.units.span for change in scores]
    differences = [change.difference for change in scores]
    value, centre = (
        sum(factor * part for factor, part in zip(factors, parts, strict=True)) / len(inside)
        for parts in ([one.value for one in differences], [one.centre for one in differences])
    )
    squares = [(factor * one.error) ** 2 for factor, one in zip(factors, differences, strict=True)]
    reach = z_of(CONFIDENCE) * math.sqrt(sum(squares)) / len(inside)
    without = [found.benchmark for found, one in zip(inside, differences, strict=True) if math.isnan(one.error)]
    return DomainChange(
        domain=domain,
        benchmarks=tuple(found.benchmark for found in inside),
        value=value,
        low=centre - reach,
        high=centre + reach,
        n=sum(one.n for one in differences),
        finding=finding_of(centre - reach, centre + reach, rule.margin),
        without=tuple(without),
        missing=sum(change.missing.candidate + change.missing.baseline for change in scores),
    )
