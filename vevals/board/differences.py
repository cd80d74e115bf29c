"""Is one model better than another? Paired differences on the same samples, benchmark by benchmark, then weighted.

Letters in shapes: M models, n samples, d differences of their per-sample means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vevals.board.entries import Entry
from vevals.evidence import Column, Evidence, Floats, pair
from vevals.statistics import clusters
from vevals.statistics.intervals import plus2_moments, z_of
from vevals.statistics.paired import difference_p, effective_flips, plus2_paired_moments, refusal

RESAMPLES = 500
FEWEST_UNITS = 20
SEED = 0

Cells = Mapping[str, Entry]
"""The entries of one complete model, by benchmark."""


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """All pairs of M models: row minus column, rescaled and weighted like the overall score.

    ``low`` and ``high``: two-sided 95%. NaN where a pair cannot be tested. All arrays (M, M).
    """

    low: Floats
    high: Floats
    p: Floats


def differences(models: Sequence[Cells], shares: Mapping[str, float]) -> Differences:
    """Compare all pairs of complete models. ``shares``: weight of each benchmark in the overall score, sum 1."""
    from scipy.special import ndtr

    count, z = len(models), z_of(0.95)
    mean, variance = np.zeros((count, count)), np.zeros((count, count))
    for name, share in shares.items():
        entries = [cells[name] for cells in models]
        factor = share * entries[0].unit if entries else 0.0
        means, errors = _on_one_benchmark(entries)
        mean += factor * means
        variance += (factor * errors) ** 2
    error = np.sqrt(variance)
    ratio = np.divide(np.abs(mean), error, out=np.full_like(mean, np.nan), where=error > 0)
    p = 2 * ndtr(-ratio)
    if len(shares) == 1:
        _exact(p, [cells[name] for cells in models for name in shares])
    return Differences(mean - z * error, mean + z * error, p)


def _on_one_benchmark(entries: Sequence[Entry]) -> tuple[Floats, Floats]:
    """Mean difference and standard error of every pair in the metric's units: two (M, M) arrays, NaN if untestable."""
    count = len(entries)
    means, errors = np.zeros((count, count)), np.zeros((count, count))
    evidence = [entry.evidence for entry in entries]
    if any(one is not None and one.score.statistic is not None for one in evidence):
        return _of_statistics(evidence)
    for i in range(count):
        for j in range(i):
            one, other = evidence[i], evidence[j]
            mean, error = (math.nan, math.nan) if one is None or other is None else _of_means(one, other)
            means[i, j], means[j, i] = mean, -mean
            errors[i, j] = errors[j, i] = error
    return means, errors


def _of_means(one: Evidence, other: Evidence) -> tuple[float, float]:
    """plus-2 on the paired differences; binary ones in clusters count as their effective number of independent pairs.

    The error of bounded values in few clusters is widened so that 1.96 errors are what Student's t asks for.
    """
    from scipy.special import stdtrit

    d, keys = paired(one, other)
    members, reach = clusters.shared(keys), abs(one.score.best - one.score.worst)
    if refusal(len(d), members, reach):
        return math.nan, math.nan
    if members is None:
        return plus2_moments(d.tolist(), -reach, reach)
    if _binary(one, other):
        mean, error = plus2_paired_moments(*effective_flips(d, members))
        return reach * mean, reach * error
    mean, error = clusters.plus2_cluster_moments(d.tolist(), members, (-reach, reach))
    return mean, error * float(stdtrit(len(members) + 1, 0.975)) / z_of(0.95)


def paired(one: Evidence, other: Evidence, name: str = "") -> tuple[Floats, list[str] | None]:
    """Differences of the samples that have a value on both sides, and their clusters (None: independent).

    ``name``: the column to compare, by default the score.
    """
    a, b = (one, other) if _aligned(one, other) else pair(one, other)
    ours, theirs = ((side.columns[name] if name else side.score) for side in (a, b))
    d = ours.means - theirs.means
    rows = np.flatnonzero(~np.isnan(d))
    return d[rows], None if a.keys is None else [a.keys[row] for row in rows]


def _aligned(one: Evidence, other: Evidence) -> bool:
    return one.ids == other.ids and one.contents == other.contents


def _of_statistics(evidence: Sequence[Evidence | None]) -> tuple[Floats, Floats]:
    """Set-level metrics: all models on the same seeded draws of samples or clusters, so that pairing is kept.

    The error is never below that of plus-2 on as many equal differences: a constant bootstrap is no certainty.
    """
    known = [one for one in evidence if one is not None]
    values = np.full((len(evidence), RESAMPLES + 1), np.nan)
    units = _units(known[0])
    if len(units) >= FEWEST_UNITS:
        places = [_places(known[0], one) for one in known]
        values[[i for i, one in enumerate(evidence) if one is not None]] = _resampled(known, places, units)
    reach = abs(known[0].score.best - known[0].score.worst)
    floor = math.sqrt(2) * reach / (len(units) + 2)
    gaps = values[:, None, :] - values[None, :, :]
    return gaps[..., 0], np.maximum(gaps[..., 1:].std(axis=-1, ddof=1), floor)


def _units(evidence: Evidence) -> list[NDArray[np.int64]]:
    return clusters.group(evidence.ids if evidence.keys is None else evidence.keys)


def _places(first: Evidence, other: Evidence) -> NDArray[np.intp]:
    """Row of ``other`` for each sample of ``first``; -1 where it has no such sample or no value for it."""
    valued = ~np.isnan(other.score.means)
    rows = {key: row for row, key in enumerate(zip(other.ids, other.contents, strict=True)) if valued[row]}
    keys = zip(first.ids, first.contents, strict=True)
    return np.array([rows.get(key, -1) for key in keys], dtype=np.intp)


def _resampled(
    known: Sequence[Evidence], places: Sequence[NDArray[np.intp]], units: Sequence[NDArray[np.int64]]
) -> Floats:
    """(models, 1 + RESAMPLES): each model's statistic on its whole data, then on every draw."""
    rng = np.random.default_rng(SEED)
    found = np.empty((len(known), RESAMPLES + 1))
    whole = np.concatenate(units)
    single = len(whole) == len(units)
    for draw in range(RESAMPLES + 1):
        drawn = rng.integers(len(units), size=len(units))
        rows = whole if draw == 0 else whole[drawn] if single else np.concatenate([units[unit] for unit in drawn])
        for model, (one, place) in enumerate(zip(known, places, strict=True)):
            at = place[rows]
            found[model, draw] = _statistic(one.score, at[at >= 0])
    return found


def _statistic(column: Column, rows: NDArray[np.intp]) -> float:
    assert column.statistic is not None
    return float(column.statistic(rows)) if len(rows) else math.nan


def _exact(p: Floats, entries: Sequence[Entry]) -> None:
    """On one binary benchmark McNemar's exact test replaces the normal one (with clusters, the score test)."""
    for i, one in enumerate(entries):
        for j, other in enumerate(entries[:i]):
            if one.evidence is not None and other.evidence is not None and _binary(one.evidence, other.evidence):
                d, keys = paired(one.evidence, other.evidence)
                p[i, j] = p[j, i] = difference_p(d.tolist(), True, abs(one.best - one.worst), keys)


def _binary(one: Evidence, other: Evidence) -> bool:
    return all(side.score.binary and side.score.statistic is None and side.repeats == 1 for side in (one, other))
