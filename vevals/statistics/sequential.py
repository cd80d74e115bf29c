"""Evidence that may be looked at after every sample: a betting e-process for a bounded mean against a limit.

Values arrive in random order (seeded by the caller), oriented so that higher is better. With clusters the unit is the
mean of a cluster, in order of first appearance, and the estimate weighs clusters equally; data must grow by whole
clusters, because a unit that was looked at may not change.
Source: Waudby-Smith and Ramdas (2024), doi:10.1093/jrsssb/qkad009, predictable plug-in betting.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vevals.statistics.bounds import Bounds
from vevals.statistics.clusters import FEWEST_CLUSTERS, Members, shared
from vevals.statistics.intervals import Values

Floats = NDArray[np.float64]

METHOD = "e-process"
BOLDEST = 0.5
"""Largest bet, as a share of the one that can go bankrupt."""

COARSE, FINE, ZOOMS = 65, 17, 7
"""Points of the grids on which a bound is searched: after all zooms it is within 1e-10 of the scale."""

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Sequential:
    """Running log E (nats) after each unit, (T,) each: for "at least the limit", "below the limit", "below the middle".

    ``decision`` is the side that first reached ln(1/alpha), ``stopped_at`` the units it took; None while neither has.
    The other side's evidence ends there. ``log_worse`` is a note ("worse than the baseline"), never a verdict.
    """

    log_pass: Floats
    log_fail: Floats
    log_worse: Floats
    stopped_at: int | None
    decision: Literal["pass", "fail"] | None

    @property
    def p_pass(self) -> float:
        """Anytime p-value of "true value < limit"."""
        return p_value(self.log_pass[: self.stopped_at if self.decision == "fail" else None])

    @property
    def p_fail(self) -> float:
        """Anytime p-value of "true value >= limit"."""
        return p_value(self.log_fail[: self.stopped_at if self.decision == "pass" else None])

    @property
    def p_worse(self) -> float:
        """Anytime p-value of "true value >= middle of the scale"; for a difference the middle is 0."""
        return p_value(self.log_worse)


def log_wealth(x: Floats, m0: float | Floats) -> Floats:
    """Running log E against "mean <= m0" for ``x`` (..., T) in [0, 1]; (..., T). ``m0`` broadcasts: (M, 1) for many."""
    if x.shape[-1] == 0:
        return np.zeros(np.broadcast_shapes(x.shape, (*np.shape(m0)[:-1], 0)))
    limit = np.asarray(m0, dtype=float)
    mean, variance = _guesses(x)
    gap = mean - limit
    cap = np.divide(BOLDEST, limit, out=np.full(limit.shape, np.inf), where=limit > 0)
    bet = np.clip(gap / (variance + gap**2), 0.0, cap)
    wealth: Floats = np.cumsum(np.log1p(bet * (x - limit)), axis=-1)
    return wealth


def p_value(log_e: Floats) -> float:
    """Anytime p-value of a path of log E: 1 over the largest E so far, the E of 1 before the first unit included."""
    return math.exp(-max(0.0, float(log_e.max()))) if len(log_e) else 1.0


def process(x: Floats, m0: float, alpha: float) -> Sequential:
    """Both sides of "mean of ``x`` (T,) against ``m0``", everything on the scale [0, 1]."""
    log_pass, log_fail, log_worse = log_wealth(x, m0), log_wealth(1 - x, 1 - m0), log_wealth(1 - x, 0.5)
    passed, failed = (np.flatnonzero(path >= -math.log(alpha)) for path in (log_pass, log_fail))
    first = {name: int(hits[0]) + 1 for name, hits in (("pass", passed), ("fail", failed)) if len(hits)}
    if not first:
        return Sequential(log_pass, log_fail, log_worse, None, None)
    stopped_at = min(first.values())
    decision: Literal["pass", "fail"] = "pass" if first.get("pass") == stopped_at else "fail"
    return Sequential(log_pass, log_fail, log_worse, stopped_at, decision)


def paired_process(
    differences: Values, span: float, margin: float, alpha: float, keys: Sequence[Hashable] | None = None
) -> Sequential:
    """The e-process behind ``paired_sequential``; its ``log_worse`` tests "worse than the baseline"."""
    ends = (-span, span)
    return process(_scaled(_units(differences, shared(keys)), ends), _share(-margin, ends), alpha)


def paired_sequential(
    differences: Values, span: float, margin: float, alpha: float, keys: Sequence[Hashable] | None = None
) -> Bounds:
    """Candidate minus baseline (n,), each in [-span, span], against "not worse by more than ``margin``"."""
    return mean_sequential(differences, (-span, span), -margin, alpha, keys)


def mean_sequential(
    values: Values,
    ends: tuple[float, float],
    limit: float,
    alpha: float,
    keys: Sequence[Hashable] | None = None,
) -> Bounds:
    """Mean of ``values`` (n,) between ``ends`` (worst, best) against "at least ``limit``".

    ``low`` and ``high`` hold at every look at once: a limit is inside while its own e-process has not rejected it.
    ``n_eff`` counts units. Raises ValueError for a value that is NaN or outside of ``ends``.
    """
    members = shared(keys)
    x, m0 = _scaled(_units(values, members), ends), _share(limit, ends)
    clusters = None if members is None else len(members)
    method = METHOD if clusters is None else f"{METHOD}, {clusters} clusters weighted equally"
    worst, span = ends[0], ends[1] - ends[0]
    estimate, n, n_eff = worst + span * float(x.mean()) if len(x) else math.nan, len(values), float(len(x))
    problem = _problem(n, clusters)
    if problem:
        nan = math.nan
        return Bounds(estimate, nan, nan, nan, nan, nan, n, n_eff, clusters, method, problem)
    path = process(x, m0, alpha)
    low, high = (worst + span * share for share in _interval(x, m0, alpha, path))
    error = span * float(np.append(x, (0.0, 1.0)).std()) / math.sqrt(len(x) + 2)
    return Bounds(estimate, low, high, path.p_pass, path.p_fail, error, n, n_eff, clusters, method)


def _units(values: Values, members: Members | None) -> Floats:
    """What is bet on, one after the other: the values, or the means of clusters in order of first appearance."""
    x = np.asarray(values, dtype=float)
    return x if members is None else np.array([x[rows].mean() for rows in members])


def _problem(n: int, clusters: int | None) -> str:
    if n == 0:
        return "no samples"
    few = clusters is not None and clusters < FEWEST_CLUSTERS
    return f"only {clusters} clusters, {FEWEST_CLUSTERS} are needed" if few else ""


def _guesses(x: Floats) -> tuple[Floats, Floats]:
    """Mean and variance expected of each value from those before it, (..., T) each; half a value is known at first."""
    counts = np.arange(1, x.shape[-1] + 1)
    mean = (0.5 + _before(np.cumsum(x, axis=-1))) / counts
    after = np.concatenate([mean[..., 1:], mean[..., -1:]], axis=-1)
    return mean, (0.25 + _before(np.cumsum((x - after) ** 2, axis=-1))) / counts


def _before(sums: Floats) -> Floats:
    return np.concatenate([np.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)


def _interval(x: Floats, m0: float, alpha: float, path: Sequential) -> tuple[float, float]:
    """The limits that neither side rejects; one that would contradict the decision at ``m0`` ends where that fell."""
    low, high, decided = _lower(x, alpha), 1 - _lower(1 - x, alpha), path.stopped_at
    if path.decision == "pass":
        return max(low, m0), high if high > m0 else 1 - _lower(1 - x[:decided], alpha)
    if path.decision == "fail":
        return low if low < m0 else _lower(x[:decided], alpha), min(high, m0)
    return low, high


def _lower(x: Floats, alpha: float) -> float:
    """Greatest limit below which every limit is rejected (to the width of the grid); 0 where none is."""
    grid = np.linspace(0.0, 1.0, COARSE)
    for _ in range(ZOOMS):
        kept = log_wealth(x, grid[:, None]).max(axis=-1, initial=0.0) < -math.log(alpha)
        first = int(np.argmax(kept))  # 1 is never rejected: nothing above it can be won
        if first == 0:
            return float(grid[0])
        grid = np.linspace(grid[first - 1], grid[first], FINE)
    return float(grid[0])


def _scaled(values: Floats, ends: tuple[float, float]) -> Floats:
    worst, best = ends
    scaled = (values - worst) / (best - worst)
    if not np.all((scaled >= -ROUNDING) & (scaled <= 1 + ROUNDING)):
        raise ValueError(f"values of an e-process must lie between {worst} and {best}; fill or drop the others first")
    return np.clip(scaled, 0.0, 1.0)


def _share(limit: float, ends: tuple[float, float]) -> float:
    """``limit`` on the scale [0, 1]; beyond an end it is that end."""
    return min(1.0, max(0.0, (limit - ends[0]) / (ends[1] - ends[0])))
