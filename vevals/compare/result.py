"""The nouns of a comparison: its rule, and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from vevals.errors import VevalsError
from vevals.types import Estimate

PARTS = ("dataset", "prompt", "generation", "scorer", "judge", "sandbox", "harness")
SCORE = "score"
ALL = "all"
CONFIDENCE = 0.95


class ComparisonError(VevalsError):
    """Two run sets that cannot be compared."""


class Finding(StrEnum):
    """What the interval [low, high] of the gain says beside 0 and the margin m; the first that holds."""

    worse_beyond = "worse_beyond"
    """high < -m: worse by more than the margin."""
    worse = "worse"
    """low < -m and high < 0: worse, and whether by more than the margin is open."""
    worse_within = "worse_within"
    """-m <= low and high < 0: worse, but not by more than the margin."""
    better = "better"
    """0 < low."""
    not_worse = "not_worse"
    """-m <= low <= 0 <= high: not worse by more than the margin; better or worse is open."""
    open = "open"
    """low < -m and 0 <= high, or no interval."""


@dataclass(frozen=True, slots=True)
class Units:
    """The ends of a metric. ``binary``: only they occur, and each sample was asked once."""

    worst: float
    best: float
    binary: bool = False

    @property
    def sign(self) -> float:
        """Turns a difference into a gain: -1 where lower is better."""
        return 1.0 if self.best > self.worst else -1.0

    @property
    def span(self) -> float:
        """Width of the range; infinite for tokens, seconds and cost."""
        return abs(self.best - self.worst)

    @property
    def points(self) -> bool:
        """Whether the metric runs from 0 to 1, and is shown in percent and points."""
        return {self.worst, self.best} == {0.0, 1.0}


@dataclass(frozen=True, slots=True)
class Rule:
    """How to compare. ``margin``: a share of the metric's range (0.03 = 3 points), the loss that would not matter.

    ``must_match``: parts of the fingerprint that may not differ. ``metrics``: ``score`` (each benchmark's own), ``all``
    or the name of one, also a reserved one such as ``output_tokens.mean``. ``seed``: of the bootstrap.
    """

    margin: float = 0.03
    must_match: tuple[str, ...] = PARTS
    seed: int = 0
    metrics: str = SCORE

    def margin_in(self, units: Units) -> float | None:
        """The margin in the metric's own units; None for a metric without ends, which has no range to share."""
        return self.margin * units.span if math.isfinite(units.span) else None


@dataclass(frozen=True, slots=True)
class Difference:
    """A minus B over ``n`` paired samples. ``p``: of "no difference", NaN where the method has none.

    ``low`` and ``high`` are NaN without an interval, and ``method`` then says why. ``centre`` and ``error``: what sums
    over benchmarks rest on, the plus-2 mean and its standard error (or the middle of the interval and its half / 1.96).
    ``needed``: samples with which "cannot tell" would probably (80%) become another sentence; None where it is another,
    or where more samples are unlikely to settle it.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    fixed: int
    broke: int
    clusters: int | None
    method: str
    finding: Finding
    needed: int | None
    centre: float
    error: float


@dataclass(frozen=True, slots=True)
class Missing:
    """Rows of the shared samples that have no value, and what the difference could be if they had one; None if that is
    not bounded.
    """

    candidate: int
    baseline: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class SliceChange:
    """One value of one slice field. ``adjusted_p``: Benjamini-Hochberg over all slices of the comparison."""

    field: str
    value: str
    difference: Difference
    adjusted_p: float = math.nan


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one benchmark.

    ``candidate`` and ``baseline`` are estimates over the ``n`` samples that have a value on both sides. ``holm_p``:
    Holm over the first metric of every benchmark. ``fixed``, ``broke``: ids, the largest change first. ``slices``: the
    worst first, by the mean of the rows also where the metric is of the whole set; ``small`` ones are only counted.
    """

    metric: str
    units: Units
    repeats: tuple[int, int]
    candidate: Estimate
    baseline: Estimate
    difference: Difference
    margin: float | None
    missing: Missing
    outcomes: tuple[Mapping[str, int], Mapping[str, int]]
    fixed: tuple[str, ...]
    broke: tuple[str, ...]
    slices: tuple[SliceChange, ...] = ()
    small: int = 0
    set_level: bool = False
    holm_p: float = math.nan


@dataclass(frozen=True, slots=True)
class Measure:
    """What the answers took, or how often they ended otherwise, on the shared samples; NaN where it is not known."""

    name: str
    candidate: float
    baseline: float

    @property
    def ratio(self) -> float:
        """A over B; NaN where either is unknown or B is 0."""
        return self.candidate / self.baseline if self.baseline else math.nan


@dataclass(frozen=True, slots=True)
class BenchmarkChange:
    """One benchmark. ``runs``: keys of A's and of B's runs; ``sizes``: samples of A, of B, and shared."""

    benchmark: str
    runs: tuple[tuple[str, ...], tuple[str, ...]]
    sizes: tuple[int, int, int]
    changes: tuple[Change, ...]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """First part of the benchmark's name."""
        return self.benchmark.split("/")[0]


@dataclass(frozen=True, slots=True)
class DomainChange:
    """Equal-weight mean of the gains of a domain's benchmarks, each as a share of its metric's range: higher is better.

    ``low`` and ``high`` are NaN, and ``without`` names the benchmarks, where one of them has no interval. ``missing``:
    rows without a value, of both sides.
    """

    domain: str
    benchmarks: tuple[str, ...]
    value: float
    low: float
    high: float
    n: int
    finding: Finding
    without: tuple[str, ...] = ()
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate against baseline. ``only_candidate``, ``only_baseline``: benchmarks of one side; ``problems``: why runs
    of a benchmark could not be used.
    """

    candidate: str
    baseline: str
    digests: tuple[str, str]
    rule: Rule
    benchmarks: tuple[BenchmarkChange, ...]
    domains: tuple[DomainChange, ...]
    only_candidate: tuple[str, ...] = ()
    only_baseline: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
