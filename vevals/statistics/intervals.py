"""Intervals for one rate, one bounded mean and one statistic of a set of rows. All return (low, high)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
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
    from scipy.stats import beta

    if n <= 0:
        return NO_INTERVAL
    alpha = (1 - confidence) / 2
    low = 0.0 if k <= 0 else float(beta.ppf(alpha, k, n - k + 1))
    high = 1.0 if k >= n else float(beta.ppf(1 - alpha, k + 1, n - k))
    return low, high


def plus2(values: Sequence[float], worst: float, best: float, confidence: float = 0.95) -> Interval:
    """Interval for the mean of bounded values: one pseudo-observation at each end keeps small samples honest.

    Source: the pseudo-observations of Bonett and Price (2012), doi:10.3102/1076998611411915, for a bounded mean.
    """
    if not len(values):
        return NO_INTERVAL
    low, high = sorted((worst, best))
    extended = np.append(np.asarray(values, dtype=float), (low, high))
    centre, error = float(extended.mean()), float(np.sqrt(extended.var() / len(extended)))
    z = z_of(confidence)
    return max(low, centre - z * error), min(high, centre + z * error)


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
    import warnings

    from scipy.stats import DegenerateDataWarning, bootstrap

    if len(members) < FEWEST_BCA_UNITS:
        return NO_INTERVAL

    def of_units(units: NDArray[np.int64]) -> float:
        return statistic(np.concatenate([members[unit] for unit in units]))

    def of_rows(units: NDArray[np.int64]) -> float:
        return statistic(rows[units])

    single = all(len(unit) == 1 for unit in members)
    rows = np.concatenate(members)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = bootstrap(
            (np.arange(len(members)),),
            of_rows if single else of_units,
            vectorized=False,
            method="BCa",
            n_resamples=RESAMPLES,
            batch=max(1, BATCH_CELLS // len(members)),
            confidence_level=confidence,
            rng=np.random.default_rng(seed),
        )
    low, high = (float(bound) for bound in result.confidence_interval)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else NO_INTERVAL
