"""Samples that stand or fall together: what a cluster key does to an interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from vevals.statistics.intervals import NO_INTERVAL, Interval

Members = Sequence[NDArray[np.int64]]

FEWEST_CLUSTERS = 10
FEWEST_ACTIVE = 10


def group(keys: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """Row indices of each cluster, in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return [np.asarray(rows, dtype=np.int64) for rows in found.values()]


def effective_n(values: Sequence[float], members: Members, confidence: float = 0.95) -> float:
    """Independent samples that ``values`` (0 or 1) in clusters are worth, for use in a rate's interval.

    Delete-one-cluster jackknife variance over the independent one, Student's t for the number of clusters; with
    fewer than 10 clusters that hold both a failure and a success somewhere, no more than the number of clusters.
    """
    from scipy.special import ndtri, stdtrit

    x = np.asarray(values, dtype=float)
    n, count = len(x), float(len(members))
    sizes = np.array([len(unit) for unit in members], dtype=float)
    sums = np.array([x[unit].sum() for unit in members])
    active = min(int((sums < sizes).sum()), int((sums > 0).sum()))
    jackknife = jackknife_variance(sums, sizes)
    independent = float(x.mean() * (1 - x.mean()))
    if jackknife == 0 or independent == 0:
        return count
    effect = max(1.0, jackknife * n / independent)
    p = 0.5 + confidence / 2
    effective = n / effect * (float(ndtri(p)) / float(stdtrit(count - 1, p))) ** 2
    return min(effective, count) if active < FEWEST_ACTIVE else effective


def jackknife_variance(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Delete-one-cluster jackknife variance of the mean; ``sums`` and ``sizes`` are (G,)."""
    count, n, total = len(sums), sizes.sum(), sums.sum()
    if count < 2:
        return 0.0
    left_out = (total - sums) / (n - sizes)
    return float((count - 1) / count * ((left_out - total / n) ** 2).sum())


def plus2_clusters(values: Sequence[float], members: Members, bounds: Interval, confidence: float = 0.95) -> Interval:
    """Interval for the mean of bounded values in clusters: two pseudo-clusters of mean size, one at each bound.

    Returns (NaN, NaN) with fewer than 10 clusters.
    """
    from scipy.special import stdtrit

    if len(members) < FEWEST_CLUSTERS:
        return NO_INTERVAL
    low, high = sorted(bounds)
    x = np.asarray(values, dtype=float)
    mean_size = len(x) / len(members)
    sizes = np.array([*(len(unit) for unit in members), mean_size, mean_size], dtype=float)
    sums = np.array([*(x[unit].sum() for unit in members), low * mean_size, high * mean_size])
    centre = sums.sum() / sizes.sum()
    count = len(sizes)
    variance = count / (count - 1) * ((sums - centre * sizes) ** 2).sum() / sizes.sum() ** 2
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * math.sqrt(variance)
    return max(low, centre - half), min(high, centre + half)
