"""Samples that stand or fall together: what a cluster key does to an interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from vevals.statistics.intervals import NO_INTERVAL, Interval, Values

Members = Sequence[NDArray[np.int64]]

FEWEST_CLUSTERS = 10
FEWEST_ACTIVE = 10


def group(keys: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """Row indices of each cluster, in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return [np.asarray(rows, dtype=np.int64) for rows in found.values()]


def shared(keys: Sequence[Hashable] | None) -> list[NDArray[np.int64]] | None:
    """Row indices of each cluster, or None where no two rows share one: then rows are independent."""
    if keys is None:
        return None
    members = group(keys)
    return None if len(members) == len(keys) else members


def effective_n(values: Values, members: Members, confidence: float = 0.95) -> float:
    """Independent samples that ``values`` (0 or 1) in clusters are worth, for use in a rate's interval.

    Delete-one-cluster jackknife variance over the independent one, Student's t for the number of clusters; with
    fewer than 10 clusters that hold both a failure and a success somewhere, no more than the number of clusters.
    ``confidence`` is that of the two-sided interval; a one-sided bound at level 1 - a is that of confidence 1 - 2a.
    """
    x = np.asarray(values, dtype=float)
    sums, sizes = sums_and_sizes(x, members)
    active = min(int((sums < sizes).sum()), int((sums > 0).sum()))
    return _worth(sums, sizes, float(x.mean() * (1 - x.mean())), (active, confidence))


def effective_n_paired(differences: Values, members: Members, confidence: float = 0.95) -> float:
    """Independent pairs that ``differences`` (-1, 0 or 1) in clusters are worth; as :func:`effective_n`, but a cluster
    is active if its differences do not cancel.
    """
    d = np.asarray(differences, dtype=float)
    sums, sizes = sums_and_sizes(d, members)
    independent = float((d != 0).mean() - d.mean() ** 2)
    return _worth(sums, sizes, independent, (int((sums != 0).sum()), confidence))


def sums_and_sizes(values: NDArray[np.float64], members: Members) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the values and number of rows of each cluster, both (G,)."""
    sizes = np.array([len(unit) for unit in members])
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    return np.add.reduceat(values[np.concatenate(members)], starts), sizes.astype(float)


def design_effect(sums: NDArray[np.float64], sizes: NDArray[np.float64], independent: float) -> float:
    """How many times the variance of the mean exceeds that of independent rows, at least 1.

    ``independent``: variance of one value. NaN where either variance is 0, because nothing can be said then.
    """
    jackknife = jackknife_variance(sums, sizes)
    if jackknife <= 0 or independent <= 0:
        return math.nan
    return max(1.0, jackknife * float(sizes.sum()) / independent)


def _worth(sums: NDArray[np.float64], sizes: NDArray[np.float64], independent: float, rule: tuple[int, float]) -> float:
    from scipy.special import ndtri, stdtrit

    (active, confidence), count = rule, float(len(sums))
    effect = design_effect(sums, sizes, independent)
    if math.isnan(effect):
        return count
    p = 0.5 + confidence / 2
    effective = float(sizes.sum()) / effect * (float(ndtri(p)) / float(stdtrit(count - 1, p))) ** 2
    return min(effective, count) if active < FEWEST_ACTIVE else effective


def jackknife_variance(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Delete-one-cluster jackknife variance of the mean; ``sums`` and ``sizes`` are (G,)."""
    count, n, total = len(sums), sizes.sum(), sums.sum()
    if count < 2:
        return 0.0
    left_out = (total - sums) / (n - sizes)
    return float((count - 1) / count * ((left_out - total / n) ** 2).sum())


def plus2_clusters(values: Values, members: Members, bounds: Interval, confidence: float = 0.95) -> Interval:
    """Interval for the mean of bounded values in clusters: two pseudo-clusters of mean size, one at each bound.

    Returns (NaN, NaN) with fewer than 10 clusters.
    """
    from scipy.special import stdtrit

    if len(members) < FEWEST_CLUSTERS:
        return NO_INTERVAL
    low, high = sorted(bounds)
    centre, error = plus2_cluster_moments(values, members, bounds)
    half = float(stdtrit(len(members) + 1, 0.5 + confidence / 2)) * error
    return max(low, centre - half), min(high, centre + half)


def plus2_cluster_moments(values: Values, members: Members, bounds: Interval) -> tuple[float, float]:
    """Mean and its standard error over G clusters and two pseudo-clusters; for Student's t with G + 1 degrees."""
    low, high = sorted(bounds)
    x = np.asarray(values, dtype=float)
    mean_size = len(x) / len(members)
    sums, sizes = sums_and_sizes(x, members)
    sizes = np.append(sizes, (mean_size, mean_size))
    sums = np.append(sums, (low * mean_size, high * mean_size))
    centre, count = sums.sum() / sizes.sum(), len(sizes)
    variance = count / (count - 1) * ((sums - centre * sizes) ** 2).sum() / sizes.sum() ** 2
    return float(centre), math.sqrt(variance)
