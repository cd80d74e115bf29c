"""Which interval belongs to which mean: the one place that turns values into an Estimate."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vevals.statistics import clusters
from vevals.statistics.intervals import NO_INTERVAL, Interval, Statistic, bca, plus2, wilson
from vevals.types import Estimate

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Scale:
    """What values a metric can take: its ends, and whether only the two ends occur."""

    worst: float = 0.0
    best: float = 1.0
    binary: bool = False


def estimate_mean(
    values: Sequence[float], *, total: int, scale: Scale, cluster_keys: Sequence[Hashable] | None = None
) -> Estimate:
    """Mean of ``values`` with its two-sided 95% interval.

    Args:
        values: one value a row that has one.
        total: rows that were to be answered, whether they have a value or not.
        cluster_keys: the cluster of each value, or None when rows are independent.
    """
    if not len(values):
        return Estimate(math.nan, *NO_INTERVAL, 0, total, "no values")
    mean = float(np.mean(values))
    members = None if cluster_keys is None else clusters.group(cluster_keys)
    if members is not None and len(members) == len(values):
        members = None
    (low, high), method = _rate(values, scale, members) if scale.binary else _bounded(values, scale, members)
    return Estimate(mean, low, high, len(values), total, method)


def estimate_statistic(
    statistic: Statistic, rows: int, *, total: int, cluster_keys: Sequence[Hashable] | None = None, seed: int = 0
) -> Estimate:
    """A set-level statistic (macro-F1, corpus BLEU) over ``rows`` rows with its BCa interval over rows or clusters."""
    if not rows:
        return Estimate(math.nan, *NO_INTERVAL, 0, total, "no values")
    keys = range(rows) if cluster_keys is None else cluster_keys
    members = clusters.group(list(keys))
    value = float(statistic(np.arange(rows)))
    low, high = bca(statistic, members, confidence=CONFIDENCE, seed=seed)
    method = "BCa" if cluster_keys is None else f"BCa, {len(members)} clusters"
    return Estimate(value, low, high, rows, total, method if math.isfinite(low) else f"{method}: too few or constant")


def _rate(values: Sequence[float], scale: Scale, members: clusters.Members | None) -> tuple[Interval, str]:
    span = scale.best - scale.worst
    unit = [(value - scale.worst) / span for value in values]
    n, method = float(len(unit)), "Wilson"
    if members is not None:
        if len(members) < clusters.FEWEST_CLUSTERS:
            return NO_INTERVAL, f"Wilson: only {len(members)} clusters"
        n = clusters.effective_n(unit, members, CONFIDENCE)
        method = f"Wilson, {len(members)} clusters, n_eff {n:.1f}"
    low, high = wilson(sum(unit) * n / len(unit), n, CONFIDENCE)
    ends = sorted((scale.worst + low * span, scale.worst + high * span))
    return (ends[0], ends[1]), method


def _bounded(values: Sequence[float], scale: Scale, members: clusters.Members | None) -> tuple[Interval, str]:
    if members is None:
        return plus2(values, scale.worst, scale.best, CONFIDENCE), "plus-2"
    interval = clusters.plus2_clusters(values, members, (scale.worst, scale.best), CONFIDENCE)
    few = len(members) < clusters.FEWEST_CLUSTERS
    return interval, f"plus-2: only {len(members)} clusters" if few else f"plus-2, {len(members)} clusters"
