"""What a policy says, as frozen values: the terms that the gate decides by. Knows no file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from math import isfinite
from typing import Literal, get_args

from vevals.gate.verdict import Severity

USAGE = (
    "usd_per_1k_samples",
    "input_tokens.mean",
    "output_tokens.mean",
    "seconds.p50",
    "seconds.p95",
    "seconds.p99",
)
"""Metrics of what the answers took: without upper end, compared with a baseline as a ratio (``max_increase``)."""
RATES = ("failed_rate", "refused_rate", "empty_rate", "truncated_rate", "unparsed_rate", "unjudgeable_rate")
"""Metrics of how rows ended: shares of rows, lower is better."""
RESERVED = USAGE + RATES
"""Metric names that a policy can use besides a benchmark's own."""
SCORE = "score"
"""The metric name that stands for each benchmark's first metric."""
Part = Literal["dataset", "prompt", "generation", "scorer", "judge", "sandbox", "harness"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What two runs can differ in so that they are not comparable; by default all must match."""
LimitKind = Literal["at_least", "at_most", "no_worse_than", "max_increase"]
Method = Literal["auto", "plus2", "anytime"]
Rule = Literal["worst_case", "drop"]
Level = Literal["block", "warn", "info"]
LONGEST_WAIVER = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class BaselineRule:
    """Which run set the candidate is compared with, and what holds where there is none."""

    ref: str
    max_age_days: int | None
    on_missing: Literal["invalid", "skip_relative"]


@dataclass(frozen=True, slots=True)
class Errors:
    """What rows without a value count as, and the share of them (0 to 1, either side) that makes a check INVALID."""

    rule: Rule
    max_rate: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a check is decided. ``cluster``: ``auto``, a field of the samples, or None for independent samples."""

    confidence: float
    method: Method
    cluster: str | None
    repeats: int
    min_samples: int
    errors: Errors
    seed: int

    @property
    def alpha(self) -> float:
        """One-sided error rate of each check, without the noise of the subtraction (0.05, not 0.0500…04)."""
        return round(1 - self.confidence, 12)


@dataclass(frozen=True, slots=True)
class Select:
    """What a check looks at, or a waiver applies to. An empty part restricts nothing; in a part any one may match."""

    benchmark: tuple[str, ...] = ()
    suite: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    metric: tuple[str, ...] = ()
    slice: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a check. ``value``: the metric's units; for ``no_worse_than`` the margin (0 or more), a share of the
    baseline if ``relative``; for ``max_increase`` a share of the baseline (0.1 = 10% more).
    """

    kind: LimitKind
    value: float
    relative: bool = False

    @property
    def against_baseline(self) -> bool:
        """Whether it needs a baseline."""
        return self.kind in ("no_worse_than", "max_increase")

    def fault(self, worst: float, best: float) -> str:
        """Why this limit checks nothing on a metric between ``worst`` and ``best``: mostly points written for shares.

        Empty where it can be kept and missed.
        """
        low, high = sorted((worst, best))
        value, share = self.value, self.value / 100
        if self.relative or self.kind == "max_increase" or not isfinite(high - low):
            return ""
        if self.kind == "no_worse_than":
            told = f"a margin of {value:g} cannot be missed on a range of {high - low:g}"
            return f"{told}: write {share:g} for {value:g} points" if value >= high - low else ""
        if not low <= value <= high:
            return f"{self.kind} {value:g} lies outside {low:g} to {high:g}: write {share:g} for {value:g}%"
        return f"{self.kind} {value:g} cannot be missed" if value == (low if self.kind == "at_least" else high) else ""

    def stricter_than(self, other: Limit) -> bool:
        """Whether less passes here than under ``other``, a limit of the same kind."""
        return self.value > other.value if self.kind == "at_least" else self.value < other.value


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """What a judge's agreement with human labels must reach: labels, those of the rarer class, lower bound of kappa."""

    min_labels: int
    min_rare: int
    min_kappa_lower: float


@dataclass(frozen=True, slots=True)
class ContaminationLimit:
    """The largest share of samples (0 to 1) that may be flagged as seen in training."""

    max_flagged_rate: float


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the release decision: limits on selected metrics, or ``judge``, or ``contamination``.

    Each limit becomes an instance of its own. ``statistics`` are those of this check, its own keys merged in. ``line``
    is where it starts in the file.
    """

    id: str
    select: Select
    limits: tuple[Limit, ...]
    combine: Literal["each", "mean"]
    for_each: tuple[str, ...]
    severity: Severity
    statistics: Statistics
    judge: JudgeLimits | None
    contamination: ContaminationLimit | None
    line: int


@dataclass(frozen=True, slots=True)
class Waiver:
    """For a time, a looser limit (``down_to``) for a check, or for the part of it that ``where`` selects."""

    check: str
    where: Select
    down_to: float
    reason: str
    owner: str
    issue: str
    expires: date
    line: int

    def limit_for(self, limit: Limit) -> Limit:
        """``limit`` with ``down_to`` in its place, which for ``no_worse_than`` is the signed difference."""
        return replace(limit, value=-self.down_to if limit.kind == "no_worse_than" else self.down_to)

    def expired(self, today: date) -> bool:
        """Whether it no longer counts; the day of ``expires`` still does."""
        return today > self.expires

    def too_long(self, today: date) -> bool:
        """Whether it would hold for more than 180 days from ``today``, which no waiver may."""
        return self.expires - today > LONGEST_WAIVER


@dataclass(frozen=True, slots=True)
class Budget:
    """How far ``extend`` may go (None: no bound of this kind), and whether a run stops once the answer is known."""

    max_samples: int | None
    max_usd: float | None
    stop_early: bool


@dataclass(frozen=True, slots=True)
class Require:
    """Domains that the candidate must have, and the share of ``total`` rows that must exist, whatever the outcome."""

    domains: tuple[str, ...]
    present: float


@dataclass(frozen=True, slots=True)
class Policy:
    """A release policy. ``path`` is its name in messages, ``text`` what the file said.

    ``sha256`` (hex) is that of the canonical JSON of the document with defaults filled in: comments, the order of keys
    and "one value or a list of one" do not change it, whatever is decided by does. Keys that are not given and have no
    default are left out, so that a key added to the schema later leaves the sha of older policies as it is.
    ``terms`` (hex) is the same without name, waivers and seed: two policies with equal terms ask the same.
    """

    schema: str
    name: str
    path: str
    text: str
    sha256: str
    terms: str
    baseline: BaselineRule | None
    statistics: Statistics
    must_match: tuple[Part, ...]
    require: Require
    ledger: Literal["required", "optional"]
    checks: tuple[Check, ...]
    on_inconclusive: Literal["block", "warn", "extend"]
    budget: Budget
    waivers: tuple[Waiver, ...]


def waiver_problems(policy: Policy, today: date) -> list[str]:
    """Waivers that do not count on ``today``, a sentence with file and line for each: expired, or too far ahead."""
    found = []
    latest = today + LONGEST_WAIVER
    for waiver in policy.waivers:
        where = f"{policy.path}:{waiver.line}: the waiver of '{waiver.check}'"
        if waiver.expired(today):
            found.append(f"{where} expired on {waiver.expires} and is ignored; renew it or delete it")
        elif waiver.too_long(today):
            days = LONGEST_WAIVER.days
            found.append(f"{where} expires on {waiver.expires}, more than {days} days ahead; write {latest} or earlier")
    return found
