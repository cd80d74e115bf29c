"""What models take, and which of them are a sensible choice: cost, speed, and their trade-off with quality.

Answers that came from the store took nothing now and are left out; what nobody measured or priced is unknown, not 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vevals.board.differences import paired
from vevals.board.entries import Entry
from vevals.evidence import Column, Evidence
from vevals.prices import Prices
from vevals.statistics import clusters
from vevals.statistics.intervals import z_of
from vevals.usage import COST, QUANTILES, column

SECONDS = next(iter(QUANTILES))
"""The reserved column that holds the seconds of each answer."""
SPENDING = {COST: "usd_per_1k_samples", SECONDS: "seconds_per_sample"}
"""What models spend: the reserved column of the rows, and the name of its mean on a board."""


@dataclass(frozen=True, slots=True, eq=False)
class Spent:
    """What one model took on one benchmark: its evidence with a column for each thing that is known, and its weight."""

    evidence: Evidence
    known: Mapping[str, Column]
    rows: int


Bill = Mapping[str, Spent]
"""What one model took, by benchmark."""


def bill(cells: Mapping[str, Entry], prices: Prices) -> Bill:
    """What the runs of one model took, where their rows are known."""
    return {
        name: _spent(entry.evidence, entry.estimate.total, prices)
        for name, entry in cells.items()
        if entry.evidence is not None
    }


def _spent(evidence: Evidence, rows: int, prices: Prices) -> Spent:
    known = {name: found for name in SPENDING if (found := _column(evidence, name, prices)) is not None}
    return Spent(replace(evidence, columns={**evidence.columns, **known}), known, rows)


def _column(evidence: Evidence, name: str, prices: Prices) -> Column | None:
    """None where nobody measured: recorded outputs carry neither seconds nor tokens."""
    usage = evidence.usage
    measured = [usage.seconds] if name == SECONDS else [usage.seconds, usage.input_tokens, usage.output_tokens]
    if not any(np.nansum(amounts) > 0 for amounts in measured):
        return None
    found = column(evidence, name, prices)
    return None if found is None or np.isnan(found.values).all() else found


def mean(spent: Bill, names: Sequence[str], what: str) -> float | None:
    """Mean of ``what`` over samples, benchmarks in proportion to their size; None if it is unknown for one of them."""
    if not names or any(name not in spent or what not in spent[name].known for name in names):
        return None
    total = sum(spent[name].rows * float(np.nanmean(spent[name].known[what].means)) for name in names)
    return total / sum(spent[name].rows for name in names)


def takes_less(bills: Sequence[Bill], names: Sequence[str], what: str) -> NDArray[np.bool_]:
    """(M, M) whether the row's model certainly takes less of ``what``, which must be known for all, than the column's.

    Certainly: the 95% interval of the paired difference excludes 0. It is the normal interval over samples or clusters,
    because cost and time have no finite ends; it decides a mark on a table, never a gate.
    """
    count = len(bills)
    less = np.zeros((count, count), dtype=bool)
    for i in range(count):
        for j in range(i):
            gap, error = _gap(bills[i], bills[j], names, what)
            less[i, j], less[j, i] = gap + error < 0, gap - error > 0
    return less


def _gap(one: Bill, other: Bill, names: Sequence[str], what: str) -> tuple[float, float]:
    """Mean difference and half its 95% interval; NaN where on some benchmark fewer than two units can be paired."""
    total, variance, rows = 0.0, 0.0, 0
    for name in names:
        d, keys = paired(one[name].evidence, other[name].evidence, what)
        if len(d) < 2:
            return math.nan, math.nan
        members = clusters.shared(keys) or clusters.group(range(len(d)))
        size = one[name].rows
        total += size * float(d.mean())
        variance += size**2 * clusters.jackknife_variance(*clusters.sums_and_sizes(d, members))
        rows += size
    return total / rows, z_of(0.95) * math.sqrt(variance) / rows
