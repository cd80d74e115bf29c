"""Intervals, estimates and bounds: pure functions over numbers, NumPy and SciPy only."""

from vevals.statistics.bounds import (
    Bounds,
    mean_at_least,
    paired_means,
    paired_rates,
    quantile_at_most,
    rate_at_least,
    statistic_at_least,
)
from vevals.statistics.estimates import estimate_mean, estimate_statistic
from vevals.statistics.intervals import bca, clopper_pearson, plus2, wilson
from vevals.statistics.paired import difference_interval, difference_p, margin_floor, mcnemar, tango

__all__ = [
    "Bounds",
    "bca",
    "clopper_pearson",
    "difference_interval",
    "difference_p",
    "estimate_mean",
    "estimate_statistic",
    "margin_floor",
    "mcnemar",
    "mean_at_least",
    "paired_means",
    "paired_rates",
    "plus2",
    "quantile_at_most",
    "rate_at_least",
    "statistic_at_least",
    "tango",
    "wilson",
]
