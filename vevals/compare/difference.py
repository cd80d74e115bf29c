"""One metric on pairs of samples: the difference of the means, its interval, and which sentence that makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from vevals.compare.result import CONFIDENCE, ComparisonError, Difference, Finding, Rule, Units
from vevals.evidence import Column, Evidence, Floats, Rows, Statistic
from vevals.statistics import clusters, paired
from vevals.statistics.estimates import Scale, estimate_mean, estimate_statistic
from vevals.statistics.intervals import bca, z_of
from vevals.statistics.power import needed_for_margin, unlikely_to_settle
from vevals.types import Estimate

ALPHA = (1 - CONFIDENCE) / 2
POWER = 0.8
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Pairs:
    """A metric on the samples that have a value on both sides; all (n,). ``one`` is the candidate; ``whole``: both
    columns on all shared samples.
    """

    one: Column
    other: Column
    ids: tuple[str, ...]
    keys: list[str] | None
    units: Units
    whole: tuple[Column, Column]

    @property
    def gains(self) -> Floats:
        """A minus B, with its sign turned where lower is better; rounding errors are no difference."""
        difference: Floats = self.units.sign * (self.one.means - self.other.means)
        tolerance = ROUNDING * (self.units.span if math.isfinite(self.units.span) else 1.0)
        difference[np.abs(difference) < tolerance] = 0.0
        return difference

    @property
    def members(self) -> clusters.Members:
        """Rows of each unit that is drawn as one."""
        return clusters.group(range(len(self.ids)) if self.keys is None else self.keys)

    @property
    def count(self) -> int | None:
        """Number of clusters, None where samples are independent."""
        return None if self.keys is None else len(self.members)


def pairs_of(sides: tuple[Evidence, Evidence], columns: tuple[Column, Column]) -> Pairs:
    """One metric of two sides that hold the same samples in the same order. ComparisonError for unequal ends."""
    one, (a, b) = sides[0], columns
    if (a.worst, a.best) != (b.worst, b.best):
        ends = " and ".join(f"{column.worst:g} to {column.best:g}" for column in columns)
        raise ComparisonError(f"{one.benchmark}: '{a.name}' runs from {ends}; such values cannot be compared")
    known = np.flatnonzero(~np.isnan(a.means) & ~np.isnan(b.means))
    binary = a.binary and b.binary and a.values.shape[1] == b.values.shape[1] == 1
    kept = one.take(known)
    ours, theirs = (_remembering(column.take(known)) for column in columns)
    return Pairs(ours, theirs, kept.ids, kept.keys, Units(a.worst, a.best, binary), columns)


def _remembering(column: Column) -> Column:
    """A set-level metric that computes no draw twice: equal seeds draw equally for each side and for the difference."""
    whole = column.statistic
    if whole is None:
        return column
    known: dict[bytes, float] = {}

    def value(rows: Rows) -> float:
        key = blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=16).digest()
        if key not in known:
            known[key] = whole(rows)
        return known[key]

    return replace(column, statistic=value)


def taken(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """Some of the samples, by the mean of their rows."""
    index = np.asarray(rows, dtype=np.intp)
    one, other = (replace(column.take(index), statistic=None) for column in (pairs.one, pairs.other))
    keys = None if pairs.keys is None else [pairs.keys[row] for row in rows]
    alone = keys is None or len(set(keys)) == len(keys)
    ids = tuple(pairs.ids[row] for row in rows)
    return replace(pairs, one=one, other=other, ids=ids, keys=None if alone else keys)


def estimate(column: Column, pairs: Pairs, rule: Rule) -> Estimate:
    """One side of the pairs alone, with its interval."""
    n, keys, units = len(pairs.ids), pairs.keys, pairs.units
    if column.statistic is not None or not column.bounded:
        return estimate_statistic(_whole(column), n, total=n, cluster_keys=keys, seed=rule.seed)
    scale = Scale(units.worst, units.best, units.binary)
    return estimate_mean(column.means.tolist(), total=n, scale=scale, cluster_keys=keys)


def _whole(column: Column) -> Statistic:
    """The metric's value over drawn samples."""
    if column.statistic is not None:
        return column.statistic
    means = column.means
    return lambda rows: float(means[rows].mean())


@dataclass(frozen=True, slots=True)
class _Gain:
    """A difference with its sign turned where lower is better."""

    value: float
    low: float
    high: float
    p: float
    method: str
    centre: float
    error: float


def difference(pairs: Pairs, rule: Rule) -> Difference:
    """A minus B with what may be said of it."""
    gains, units = pairs.gains, pairs.units
    of_rows = pairs.one.statistic is None and math.isfinite(units.span)
    gain = _of_rows(pairs) if of_rows else _bootstrapped(pairs, rule.seed)
    finding = finding_of(gain.low, gain.high, rule.margin_in(units))
    plain = of_rows and pairs.keys is None and len(gains) > 0
    needed = _needed(gain, len(gains), units, rule, float(gains.var()) if plain else None)
    ends = (gain.low, gain.high) if units.sign > 0 else (-gain.high, -gain.low)
    return Difference(
        value=units.sign * gain.value,
        low=ends[0],
        high=ends[1],
        p=gain.p,
        n=len(gains),
        fixed=int((gains > 0).sum()),
        broke=int((gains < 0).sum()),
        clusters=pairs.count,
        method=gain.method,
        finding=finding,
        needed=needed if finding is Finding.open else None,
        centre=units.sign * gain.centre,
        error=gain.error,
    )


def _of_rows(pairs: Pairs) -> _Gain:
    gains, units = pairs.gains, pairs.units
    low, high, method = paired.difference_interval(gains, units.binary, units.span, pairs.keys)
    p = paired.difference_p(gains, units.binary, units.span, pairs.keys)
    mean = float(gains.mean()) if len(gains) else math.nan
    if not units.binary or math.isnan(low):
        return _Gain(mean, low, high, p, method, *_middle(low, high))
    centre, error = paired.plus2_paired_moments(*paired.effective_flips(gains, clusters.shared(pairs.keys)))
    return _Gain(mean, low, high, p, method, centre * units.span, error * units.span)


def _bootstrapped(pairs: Pairs, seed: int) -> _Gain:
    """Of a set-level or unbounded metric: samples or clusters are drawn, both sides together."""
    n, count = len(pairs.ids), pairs.count
    if not n:
        return _Gain(math.nan, math.nan, math.nan, math.nan, "BCa: no samples", math.nan, math.nan)
    one, other, sign = _whole(pairs.one), _whole(pairs.other), pairs.units.sign

    def gain(rows: Rows) -> float:
        return sign * (one(rows) - other(rows))

    low, high = bca(gain, pairs.members, confidence=CONFIDENCE, seed=seed)
    method = "BCa" if count is None else f"BCa, {count} clusters"
    method = method if math.isfinite(low) else f"{method}: too few or constant"
    return _Gain(gain(np.arange(n)), low, high, math.nan, method, *_middle(low, high))


def _middle(low: float, high: float) -> tuple[float, float]:
    return (low + high) / 2, (high - low) / 2 / z_of(CONFIDENCE)


def finding_of(low: float, high: float, margin: float | None) -> Finding:
    """What the interval of a gain says; ``margin`` None: nothing is known of which loss would matter."""
    if math.isnan(low):
        return Finding.open
    if high < 0:
        if margin is None or low < -margin:
            return Finding.worse_beyond if margin and high < -margin else Finding.worse
        return Finding.worse_within
    if low > 0:
        return Finding.better
    return Finding.not_worse if margin is not None and low >= -margin else Finding.open


def _needed(gain: _Gain, n: int, units: Units, rule: Rule, variance: float | None) -> int | None:
    """Samples with which the interval would probably clear the margin, or, if the gain is below it, clear 0.

    ``variance`` of one gain; None: it follows from the interval (clusters, set-level metrics). At least what two models
    without any difference need. None where nothing can be said, or the gain lies within half a standard error of the
    margin: such a truth takes any number of samples.
    """
    margin = rule.margin_in(units)
    if margin is None or math.isnan(gain.low):
        return None
    spread = n * _middle(gain.low, gain.high)[1] ** 2 if variance is None else variance
    if unlikely_to_settle(gain.value, margin, math.sqrt(spread / n)):
        return None
    if gain.value < -margin:
        return needed_for_margin(spread, -gain.value, 0.0, ALPHA, POWER)
    unchanged = math.ceil(z_of(CONFIDENCE) ** 2 * (1 / rule.margin - 1)) if rule.margin else 0
    return max(needed_for_margin(spread, gain.value, margin, ALPHA, POWER) or 0, unchanged) or None
