"""One question -> bounds: which method belongs to which case, and what a missing value counts as.

A missing value is never a score: the bound that decides PASS takes the worst that the missing rows could have been, the
bound that decides FAIL the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vevals.canonical import sha256_hex
from vevals.evidence import NO_ROW, Column, Evidence, Floats, Rows
from vevals.gate.questions import Part, Question
from vevals.gate.terms import Limit, Statistics
from vevals.prices import Prices
from vevals.statistics import bounds, sequential
from vevals.statistics.bounds import Bounds
from vevals.statistics.clusters import group
from vevals.types import Outcome
from vevals.usage import COST, QUANTILES, column

Keys = Sequence[Hashable] | None
ORDER_SEED = 0
"""Of the order in which method: anytime looks at samples, and of the draws that it accepts."""
LOST = (int(Outcome.failed), int(Outcome.unjudgeable))


@dataclass(frozen=True, slots=True)
class Levels:
    """One-sided error rates of the two sides, and the seed of orders and resampling."""

    passing: float
    failing: float
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a part: its evidence, its column, and +1 where higher is better, else -1."""

    evidence: Evidence
    column: Column
    sign: float

    @property
    def ends(self) -> tuple[float, float]:
        """Worst and best after orientation: the first is the lower."""
        ends = sorted((self.sign * self.column.worst, self.sign * self.column.best))
        return ends[0], ends[1]

    @property
    def span(self) -> float:
        """R, the distance of the two ends; infinite for cost, tokens and seconds."""
        return self.ends[1] - self.ends[0]

    def means(self, fill: float = math.nan) -> Floats:
        """(n,) oriented mean of each sample over its repeats, with ``fill`` (oriented) for missing rows."""
        values = self.sign * self.column.values
        if math.isfinite(fill):
            values = np.where(self._lost_cells, fill, values)
        means: Floats = replace(self.column, values=values).means
        return means

    @property
    def _lost_cells(self) -> NDArray[np.bool_]:
        """(n, K) rows that are there and have no value."""
        cells: NDArray[np.bool_] = np.isnan(self.column.values) & (self.column.outcomes != NO_ROW)
        return cells

    @property
    def lost(self) -> float:
        """Share of rows that failed or could not be judged."""
        rows = int((self.column.outcomes != NO_ROW).sum())
        return float(np.isin(self.column.outcomes, LOST).sum()) / rows if rows else 0.0

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return int(self._lost_cells.sum())

    @property
    def once(self) -> bool:
        """Whether every sample has one row: only then is a binary metric's mean of a sample binary."""
        return bool(((self.column.outcomes != NO_ROW).sum(axis=1) <= 1).all())


@dataclass(frozen=True, slots=True)
class Measured:
    """Bounds of one question, oriented so that higher is better; ``sign`` turns them back.

    ``observed``: the estimate over the rows that have a value, where it differs. ``invalid``: why the question cannot
    be answered at all. ``sides``: the bounds that decide PASS and FAIL, each whole.
    """

    bounds: Bounds | None
    sign: float = 1.0
    limit: float = math.nan
    observed: float | None = None
    fixed: int | None = None
    broke: int | None = None
    invalid: str = ""
    sides: tuple[Bounds, Bounds] | None = None


def measure(question: Question, limit: Limit, levels: Levels, prices: Prices) -> Measured:
    """Bounds of the question against ``limit`` (which a waiver may have moved)."""
    if len(question.parts) > 1:
        return _mean(question, limit, levels, prices)
    return _one(question.parts[0], question.check.statistics, limit, levels, prices)


def _one(part: Part, rules: Statistics, limit: Limit, levels: Levels, prices: Prices) -> Measured:
    case = _case(part, rules, limit, levels, prices)
    return Measured(None, invalid=case) if isinstance(case, str) else _bounded(case)


def _case(part: Part, rules: Statistics, limit: Limit, levels: Levels, prices: Prices) -> _Case | str:
    """The case of one part, or why it cannot be decided on at all."""
    evidence = [part.candidate] if part.baseline is None else [part.candidate, part.baseline]
    columns = [column(one, part.metric, prices) for one in evidence]
    for one, found in zip(evidence, columns, strict=True):
        if found is None:
            return _unknown(one, part.metric, prices)
    known = [found for found in columns if found is not None]
    sign = _sign(known[0], limit)
    sides = [Side(one, found, sign) for one, found in zip(evidence, known, strict=True)]
    lost = max(side.lost for side in sides)
    if lost > rules.errors.max_rate:
        text = f"{100 * lost:.1f}% of the rows have no value, the policy allows {100 * rules.errors.max_rate:g}%"
        return f"{text}: ask them again"
    if rules.errors.rule == "drop" and known[0].bounded:
        sides = _dropped(sides)
    problem = _order_problem(part.candidate, rules) or limit.fault(known[0].worst, known[0].best)
    if problem:
        return problem
    keys = _keys(sides[0].evidence, rules.cluster)
    return keys if isinstance(keys, str) else _Case(sides, keys, rules, limit, levels)


def _order_problem(evidence: Evidence, rules: Statistics) -> str:
    """Looking again is valid only while later samples follow earlier ones: there is one order, that of ORDER_SEED."""
    other = [run for run in evidence.runs if run.draw is not None and run.seed != ORDER_SEED]
    if rules.method != "anytime" or not other:
        return ""
    return f"drawn with seed {other[0].seed}, but the order of method: anytime is that of --seed {ORDER_SEED}"


def _unknown(evidence: Evidence, metric: str, prices: Prices) -> str:
    """Why a column of cost, tokens or seconds cannot be had."""
    model = evidence.runs[0].model
    if metric == COST and prices.of(model) is None:
        return f"{model} has no price: write one into prices.yaml"
    return f"no {metric} is known of {model}: its runs recorded no tokens or no times"


def _dropped(sides: Sequence[Side]) -> list[Side]:
    """Both sides on the samples where every side has some value; a sample's mean is over the repeats that have one."""
    rows = np.flatnonzero(~np.isnan(np.vstack([side.means() for side in sides])).any(axis=0))
    cut = []
    for side in sides:
        means = replace(side.column.take(rows), values=side.column.means[rows][:, None])
        cut.append(Side(side.evidence.take(rows), replace(means, binary=means.binary and side.once), side.sign))
    return cut


def _sign(own: Column, limit: Limit) -> float:
    """Floors look up, ceilings look down, comparisons follow the metric."""
    if limit.kind == "at_least":
        return 1.0
    if limit.kind in ("at_most", "max_increase"):
        return -1.0
    return 1.0 if own.best > own.worst else -1.0


def _keys(evidence: Evidence, cluster: str | None) -> Keys | str:
    """Cluster keys, None for independent samples, or why they cannot be had."""
    if cluster is None:
        return None
    if cluster == "auto":
        return evidence.keys
    values = [slices.get(cluster) for slices in evidence.slices]
    if any(value is None for value in values):
        return f"the cluster field '{cluster}' is no slice of every sample of {evidence.benchmark}"
    return values


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that picks the method."""

    sides: Sequence[Side]
    keys: Keys
    rules: Statistics
    limit: Limit
    levels: Levels

    @property
    def own(self) -> Side:
        return self.sides[0]

    @property
    def binary(self) -> bool:
        plain = self.own.column.binary and all(side.once for side in self.sides)
        return plain and self.rules.method != "plus2"

    @property
    def alphas(self) -> tuple[float, float]:
        return self.levels.passing, self.levels.failing


def _bounded(case: _Case) -> Measured:
    column = case.own.column
    unbounded = not column.bounded
    if unbounded and case.limit.kind == "no_worse_than":
        return Measured(None, invalid=f"{column.name} has no bounds, so no margin: use at_least or at_most")
    if case.rules.method == "anytime" and (unbounded or column.statistic is not None):
        text = f"{column.name} has no anytime-valid bound: put this check into a policy with method: auto"
        return _undecidable(case, text)
    if column.statistic is not None and case.limit.kind == "max_increase":
        return Measured(None, invalid=f"{column.name} is a score of the whole set: use at_least or at_most")
    if case.limit.kind == "max_increase":
        return _increase(case)
    if column.statistic is not None:
        return _set_level(case)
    if unbounded:
        return _amount(case)
    return _floor(case) if len(case.sides) == 1 else _difference(case)


def _floor(case: _Case) -> Measured:
    """Cases A, B and H: one rate or mean against a limit."""
    side, limit = case.own, case.own.sign * case.limit.value
    low, high = side.ends

    def at(fill: float) -> Bounds:
        values, alpha = side.means(fill), case.levels.passing
        if case.rules.method == "anytime":
            order = _order(side.evidence)
            return sequential.mean_sequential(values[order], side.ends, limit, alpha, _ordered(case.keys, order))
        if case.binary:
            scaled = bounds.rate_at_least((values - low) / side.span, (limit - low) / side.span, alpha, case.keys)
            return _scaled(scaled, low, side.span)
        return bounds.mean_at_least(values, side.ends, limit, alpha, case.keys)

    return _both(case, limit, (at(low), at(high)), side.means())


def _difference(case: _Case) -> Measured:
    """Cases C, D and H: candidate minus baseline, paired, against minus the margin."""
    own, other = case.sides
    low, high = own.ends
    factor = 1 - own.sign * case.limit.value if case.limit.relative else 1.0
    margin = 0.0 if case.limit.relative else case.limit.value
    span = own.span * max(1.0, factor)

    def at(ours: float, theirs: float) -> Bounds:
        differences = own.means(ours) - factor * other.means(theirs)
        alpha = case.levels.passing
        if case.rules.method == "anytime":
            order = _order(own.evidence)
            keys = _ordered(case.keys, order)
            return sequential.paired_sequential(differences[order], span, margin, alpha, keys)
        if case.binary and not case.limit.relative:
            scaled = bounds.paired_rates(differences / span, margin / span, alpha, case.keys)
            return _scaled(scaled, 0.0, span)
        return bounds.paired_means(differences, span, margin, alpha, case.keys)

    observed = own.means() - factor * other.means()
    measured = _both(case, -margin, (at(low, high), at(high, low)), observed)
    plain = own.means() - other.means()
    return replace(measured, fixed=int((plain > 0).sum()), broke=int((plain < 0).sum()))


def _set_level(case: _Case) -> Measured:
    """Case E: a statistic of the whole set. Missing rows cannot be bounded, so they leave it open."""
    if any(side.missing for side in case.sides) and case.rules.errors.rule == "worst_case":
        missing = sum(side.missing for side in case.sides)
        text = f"{missing} rows have no value, and a score of the whole set has no bound for them: ask them again"
        return _undecidable(case, text)
    signs = [side.sign for side in case.sides]
    factor = 1 - signs[0] * case.limit.value if case.limit.relative else 1.0
    whole = [_required(side.column) for side in case.sides]

    def statistic(rows: Rows) -> float:
        values = [sign * fn(rows) for sign, fn in zip(signs, whole, strict=True)]
        return values[0] if len(values) == 1 else values[0] - factor * values[1]

    limit = case.own.sign * case.limit.value if len(case.sides) == 1 else -case.limit.value
    limit = 0.0 if case.limit.relative else limit
    rows = np.arange(len(case.own.evidence.ids))
    if len(case.sides) == 2 and factor == 1.0 and _same_answers(case):
        return _unchanged(case, len(rows), case.own.span, limit)
    return _resampled(case, statistic, rows, limit)


def _same_answers(case: _Case) -> bool:
    """Whether no sample changed: the statistics agree on the whole and on every row alone, and so do the row values."""
    own, other = case.sides
    if not np.array_equal(own.column.values, other.column.values, equal_nan=True):
        return False
    whole = [_required(side.column) for side in case.sides]
    rows = [np.array([row]) for row in range(len(own.evidence.ids))]
    return all(_equal(*(fn(picked) for fn in whole)) for picked in (np.arange(len(rows)), *rows))


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _unchanged(case: _Case, samples: int, effect: float, limit: float) -> Measured:
    """No sample changed, where a bootstrap would have no width: bound the share of samples that could have changed.

    At level alpha that share is at most 1 - alpha^(1/G) (G clusters, or samples); each may shift the result by
    ``effect``. Source: zero events of G, Clopper and Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    count = samples if case.keys is None else len(set(case.keys))
    low, high = (effect * (1 - alpha ** (1 / count)) for alpha in case.alphas)
    nan = math.nan
    clusters = None if case.keys is None else count
    method = "no sample changed: bound of the share that could"
    found = Bounds(0.0, -low, high, nan, nan, low / 2, samples, float(count), clusters, method)
    return Measured(found, case.own.sign, limit)


def _required(column: Column) -> Callable[[Rows], float]:
    assert column.statistic is not None
    return column.statistic


def _amount(case: _Case) -> Measured:
    """Cases E and F: a mean or a quantile of something without bounds, over the rows that took something."""
    rows, values = _known([case.own.means()])
    limit = case.own.sign * case.limit.value
    if not len(rows):
        return Measured(None, invalid="no answer was asked for anew: cached answers have no cost and no time")
    quantile = QUANTILES.get(case.own.column.name)
    if quantile is not None:
        keys = None if case.keys is None else [case.keys[row] for row in rows]
        found = bounds.quantile_at_most(-values[0], quantile, case.limit.value, case.alphas, keys)
        return Measured(found, -1.0, limit)
    if np.ptp(values[0]) == 0:
        text = f"every sample took {abs(values[0][0]):.4g}: without any spread there is no bound for the mean"
        return _undecidable(case, text, float(values[0][0]))
    return _resampled(case, lambda picked: float(values[0][picked].mean()), rows, limit)


def _increase(case: _Case) -> Measured:
    """Case E on a ratio: candidate over baseline, paired, may grow by the limit at most."""
    rows, values = _known([side.sign * side.means() for side in case.sides])
    if not len(rows):
        return Measured(
            None, invalid="no sample was asked for anew on both sides: cached answers have no cost and no time"
        )
    quantile = QUANTILES.get(case.own.column.name)
    if quantile is None and np.array_equal(values[0], values[1]) and values[1].mean() > 0:
        return _unchanged(case, len(rows), float(values[1].max() / values[1].mean()), -case.limit.value)

    def of(amounts: Floats) -> float:
        return float(amounts.mean() if quantile is None else np.quantile(amounts, quantile))

    def growth(picked: Rows) -> float:
        base = of(values[1][picked])
        return -(of(values[0][picked]) / base - 1) if base else math.nan

    return _resampled(case, growth, rows, -case.limit.value)


def _known(columns: Sequence[Floats]) -> tuple[Rows, list[Floats]]:
    """Rows where every column has a value, and the columns over those."""
    rows = np.flatnonzero(~np.isnan(np.vstack(columns)).any(axis=0))
    return rows, [column[rows] for column in columns]


def _resampled(case: _Case, statistic: Callable[[Rows], float], rows: Rows, limit: float) -> Measured:
    keys = range(len(rows)) if case.keys is None else [case.keys[row] for row in rows]
    found = bounds.statistic_at_least(statistic, group(list(keys)), limit, case.alphas, case.levels.seed)
    return Measured(found, case.own.sign, limit)


def _both(case: _Case, limit: float, sides: tuple[Bounds, Bounds], observed: Floats) -> Measured:
    """The PASS side of the pessimistic filling with the FAIL side of the optimistic one."""
    passing, failing = sides
    complete = not any(side.missing for side in case.sides)
    known = observed[~np.isnan(observed)]
    seen = float(known.mean()) if len(known) else math.nan
    merged = replace(
        passing,
        estimate=passing.estimate if complete else seen,
        high=failing.high,
        p_fail=failing.p_fail,
        problem=passing.problem or failing.problem,
    )
    return Measured(merged, case.own.sign, limit, None if complete else seen, sides=sides)


def _undecidable(case: _Case, problem: str, estimate: float = math.nan) -> Measured:
    n = len(case.own.evidence.ids)
    nan = math.nan
    none = Bounds(estimate, nan, nan, nan, nan, nan, n, n, None, "none", problem)
    return Measured(none, case.own.sign, math.nan)


def _scaled(found: Bounds, offset: float, span: float) -> Bounds:
    """Bounds of values in 0..1 back in the metric's own units."""
    estimate, low, high = (offset + span * x for x in (found.estimate, found.low, found.high))
    return replace(found, estimate=estimate, low=low, high=high, se=span * found.se)


def _order(evidence: Evidence) -> Rows:
    """The seeded order of the samples: that of ``vevals run --draw``, so that a longer draw continues a shorter one.

    It is the same for every policy: an order that could be chosen after the answers would be one more thing to try.
    """
    ranks = [sha256_hex(["draw", ORDER_SEED, sample]) for sample in evidence.ids]
    return np.array(sorted(range(len(ranks)), key=ranks.__getitem__), dtype=np.intp)


def _ordered(keys: Keys, order: Rows) -> Keys:
    return None if keys is None else [keys[row] for row in order]


def _mean(question: Question, limit: Limit, levels: Levels, prices: Prices) -> Measured:
    """``combine: mean``: the plain mean of the benchmarks' plus-2 means; their squared errors add up."""
    problem = _unmixable(question)
    if problem:
        return Measured(None, invalid=problem)
    rules = replace(question.check.statistics, method="plus2")
    singles = [_one(part, rules, limit, levels, prices) for part in question.parts]
    for part, single in zip(question.parts, singles, strict=True):
        name = part.candidate.benchmark
        if single.invalid:
            return Measured(None, invalid=f"{name}: {single.invalid}")
        if single.sides is None:
            return Measured(
                None, invalid=f"{name}: combine: mean works on means of bounded scores, not on {part.metric}"
            )
    passing, failing = ([single.sides[side] for single in singles if single.sides] for side in (0, 1))
    merged = replace(
        _stratified(passing, singles[0].limit, levels.passing),
        high=(upper := _stratified(failing, singles[0].limit, levels.passing)).high,
        p_fail=upper.p_fail,
        estimate=float(np.mean([single.bounds.estimate for single in singles if single.bounds])),
    )
    counts = [sum(getattr(single, name) or 0 for single in singles) for name in ("fixed", "broke")]
    paired = singles[0].fixed is not None
    observed = None if all(single.observed is None for single in singles) else merged.estimate
    return Measured(merged, singles[0].sign, singles[0].limit, observed, *(counts if paired else (None, None)))


def _unmixable(question: Question) -> str:
    """Why several parts have no common mean; empty where they have."""
    if question.check.statistics.method == "anytime":
        return "combine: mean has no anytime-valid bound: put this check into a policy with method: auto"
    names = [part.candidate.benchmark for part in question.parts]
    if len(set(names)) < len(names):
        return "combine: mean over several metrics of one benchmark would count its samples twice: name one metric"
    found = [part.candidate.columns.get(part.metric) for part in question.parts]
    ends = {(one.worst, one.best) for one in found if one is not None}
    return "combine: mean over metrics of different ranges or directions means nothing" if len(ends) > 1 else ""


def _centre(one: Bounds, alpha: float) -> float:
    """M of plus-2, read off the bound that the metric's range has not cut."""
    from scipy.special import ndtri, stdtrit

    width = float(ndtri(1 - alpha) if one.clusters is None else stdtrit(one.clusters + 1, 1 - alpha)) * one.se
    return one.high - width if one.estimate - one.low < one.high - one.estimate else one.low + width


def _stratified(found: Sequence[Bounds], limit: float, alpha: float) -> Bounds:
    from scipy.special import ndtr, ndtri

    count, z = len(found), float(ndtri(1 - alpha))
    centre = sum(_centre(one, alpha) for one in found) / count
    se = math.sqrt(sum(one.se**2 for one in found)) / count
    return Bounds(
        estimate=sum(one.estimate for one in found) / count,
        low=centre - z * se,
        high=centre + z * se,
        p_pass=float(ndtr((limit - centre) / se)),
        p_fail=float(ndtr((centre - limit) / se)),
        se=se,
        n=sum(one.n for one in found),
        n_eff=sum(one.n_eff for one in found),
        clusters=None,
        method=f"stratified mean of {count} benchmarks, plus-2",
        problem=next((one.problem for one in found if one.problem), ""),
    )
