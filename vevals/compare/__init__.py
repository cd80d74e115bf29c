"""Two run sets on the same samples: what changed, how surely, and one plain sentence about it. Pure: run sets in,
comparison out.

A is the candidate (the new one), B the baseline that it is measured against; every difference is **A minus B**, in the
metric's own units. Decisions are taken on *gains*: the difference with its sign turned where lower is better, so that
"fixed", "better" and "worse" always speak of the candidate. Intervals are two-sided, 95%.
"""

from __future__ import annotations

from vevals.compare.result import (
    PARTS,
    BenchmarkChange,
    Change,
    Comparison,
    ComparisonError,
    Difference,
    DomainChange,
    Finding,
    Measure,
    Missing,
    Rule,
    SliceChange,
    Units,
)
from vevals.compare.sets import compare

__all__ = [
    "PARTS",
    "BenchmarkChange",
    "Change",
    "Comparison",
    "ComparisonError",
    "Difference",
    "DomainChange",
    "Finding",
    "Measure",
    "Missing",
    "Rule",
    "SliceChange",
    "Units",
    "compare",
]
