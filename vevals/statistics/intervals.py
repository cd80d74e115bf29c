"""Intervals for one rate, one bounded mean and one statistic of a set of rows. All return (low, high)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Values = Sequence[float] | NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], float]

NO_INTERVAL: Interval = (math.nan, math.nan)
RESAMPLES = 9999
BATCH_CELLS = 1_000_000  # indices drawn at once: 8 MB
FEWEST_BCA_UNITS = 20


def z_of(confidence: float) -> float:
    """Two-sided normal quantile: 1.95996 for 0.95."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def wilson(k: float, n: float, confidence: float = 0.95) -> Interval:
    """Score interval for a rate of ``k`` successes in ``n`` (both may be real, for effective sample sizes).

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    if n <= 0:
        return NO_INTERVAL
    z, p = z_of(confidence), k / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(max(0.0, p * (1 - p) / n + z * z / (4 * n * n)))
    scale = 1 + z * z / n
    low = 0.0 if k <= 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if k >= n else min(1.0, (centre + half) / scale)
    return low, high


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval for a rate; one-sided bounds at level 1 - a are those of confidence 1 - 2a.

    Source: Clopper and Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    from scipy.special import betaincinv

    if n <= 0:
        return NO_INTERVAL
    alpha = (1 - confidence) / 2
    low = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, alpha))
    high = 1.0 if k >= n else float(betaincinv(k + 1, n - k, 1 - alpha))
    return low, high


def plus2(values: Values, worst: float, best: float, confidence: float = 0.95) -> Interval:
    """Interval for the mean of bounded values: one pseudo-observation at each end keeps small samples honest.

    Source: the pseudo-observations of Bonett and Price (2012), doi:10.3102/1076998611411915, for a bounded mean.
    """
    if not len(values):
        return NO_INTERVAL
    low, high = sorted((worst, best))
    centre, error = plus2_moments(values, worst, best)
    z = z_of(confidence)
    return max(low, centre - z * error), min(high, centre + z * error)


def plus2_moments(values: Values, worst: float, best: float) -> tuple[float, float]:
    """Mean and its standard error, of ``values`` with one pseudo-observation at each end."""
    low, high = sorted((worst, best))
    extended = np.append(np.asarray(values, dtype=float), (low, high))
    return float(extended.mean()), float(np.sqrt(extended.var() / len(extended)))


def bca(
    statistic: Statistic, members: Sequence[NDArray[np.int64]], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Bias-corrected accelerated bootstrap over units (single rows or clusters).

    Args:
        statistic: row indices (m,) -> value of the statistic on these rows.
        members: row indices of each unit; a drawn unit brings all its rows.
        seed: equal data and seed give the equal interval.

    Returns (NaN, NaN) with fewer than 20 units, or where the bootstrap distribution is degenerate.
    Source: Efron (1987), doi:10.1080/01621459.1987.10478410; arithmetic by ``scipy.stats.bootstrap``.
    """
    return _bca(statistic, members, (confidence, confidence), seed)[:2]


def bca_bounds(
    statistic: Statistic, members: Sequence[NDArray[np.int64]], alphas: tuple[float, float], seed: int = 0
) -> tuple[float, float, float]:
    """One-sided BCa bounds and the bootstrap's standard error: (low, high, error).

    ``alphas``: the error allowed to the lower bound, and to the upper one. Units, seed and NaN as for :func:`bca`.
    """
    return _bca(statistic, members, (1 - 2 * alphas[0], 1 - 2 * alphas[1]), seed)


def _bca(
    statistic: Statistic, members: Sequence[NDArray[np.int64]], confidences: tuple[float, float], seed: int
) -> tuple[float, float, float]:
    """Lower end at the first two-sided confidence, upper end at the second, standard error."""
    import warnings

    from scipy.stats import DegenerateDataWarning, bootstrap

    if len(members) < FEWEST_BCA_UNITS:
        return (*NO_INTERVAL, math.nan)
    settings = {"vectorized": False, "method": "BCa", "batch": max(1, BATCH_CELLS // len(members))}
    data, of_units = (np.arange(len(members)),), _over_units(statistic, members)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        random = np.random.default_rng(seed)
        first = bootstrap(
            data, of_units, n_resamples=RESAMPLES, confidence_level=confidences[0], rng=random, **settings
        )
        second = first
        if confidences[1] != confidences[0]:
            level = confidences[1]
            second = bootstrap(
                data, of_units, n_resamples=0, confidence_level=level, bootstrap_result=first, **settings
            )
    low, high = float(first.confidence_interval.low), float(second.confidence_interval.high)
    usable = math.isfinite(low) and math.isfinite(high) and low < high
    return (low, high, float(first.standard_error)) if usable else (*NO_INTERVAL, math.nan)


def _over_units(statistic: Statistic, members: Sequence[NDArray[np.int64]]) -> Statistic:
    """The statistic as a function of drawn units rather than rows."""
    rows = np.concatenate(members)
    if len(rows) == len(members):
        return lambda units: statistic(rows[units])
    return lambda units: statistic(np.concatenate([members[unit] for unit in units]))
