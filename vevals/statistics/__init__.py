"""Intervals and estimates: pure functions over numbers, NumPy and SciPy only."""

from vevals.statistics.estimates import estimate_mean, estimate_statistic
from vevals.statistics.intervals import bca, clopper_pearson, plus2, wilson

__all__ = ["bca", "clopper_pearson", "estimate_mean", "estimate_statistic", "plus2", "wilson"]
