"""Columns that every run has besides its benchmark's metrics: cost, tokens, seconds, and the share of each outcome."""

from __future__ import annotations

import math

import numpy as np

from vevals.evidence import NO_ROW, Column, Evidence, Floats
from vevals.prices import Prices
from vevals.types import Outcome

PER = 1000
QUANTILES = {"seconds.p50": 0.50, "seconds.p95": 0.95, "seconds.p99": 0.99}
MEANS = ("input_tokens.mean", "output_tokens.mean")
COST = "usd_per_1k_samples"
RATES = tuple(f"{outcome.name}_rate" for outcome in Outcome if outcome is not Outcome.scored)
RESERVED = (COST, *MEANS, *QUANTILES, *RATES)
"""Metric names that no benchmark of its own may use; lower is better for all of them."""


def column(evidence: Evidence, name: str, prices: Prices) -> Column | None:
    """The column called ``name``: one of the benchmark's metrics, or a reserved one; None where it is not known.

    Answers that came from the store, and requests that failed, took nothing and stand as NaN in cost, tokens and
    seconds.
    """
    if name in evidence.columns:
        return evidence.columns[name]
    if name in RATES:
        return _rate(evidence, Outcome[name.removesuffix("_rate")])
    values = _amounts(evidence, name, prices)
    if values is None:
        return None
    spent = ~evidence.usage.cached & ~np.isin(evidence.score.outcomes, (int(Outcome.failed), NO_ROW))
    if spent.any() and not values[spent].any():
        return None  # recorded outputs and the like: nobody measured
    known = np.where(spent, values, np.nan)
    return Column(name, math.inf, 0.0, False, known, evidence.score.outcomes)


def _rate(evidence: Evidence, outcome: Outcome) -> Column:
    outcomes = evidence.score.outcomes
    values = np.where(outcomes == NO_ROW, np.nan, (outcomes == int(outcome)).astype(float))
    return Column(f"{outcome.name}_rate", 1.0, 0.0, True, values, outcomes)


def _amounts(evidence: Evidence, name: str, prices: Prices) -> Floats | None:
    usage = evidence.usage
    if name == "input_tokens.mean":
        return usage.input_tokens
    if name == "output_tokens.mean":
        return usage.output_tokens
    if name in QUANTILES:
        return usage.seconds
    price = prices.of(evidence.runs[0].model) if name == COST else None
    if price is None:
        return None
    return PER * price.usd(usage.input_tokens, usage.output_tokens, usage.seconds)
