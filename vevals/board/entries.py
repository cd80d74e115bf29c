"""One finished run under its leaderboard metric, and which runs are of one kind: the rows that a board is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vevals.evidence import Evidence
from vevals.statistics.estimates import Scale, estimate_mean, estimate_statistic
from vevals.types import Estimate, Outcome


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished run under its leaderboard metric. ``part`` says which samples: (limit, draw, seed); ``run`` its key.

    ``evidence`` is None where only the estimate is known; such a run enters the means, but no paired test.
    """

    benchmark: str
    fingerprint: str
    part: tuple[int | None, int | None, int]
    model: str
    model_hash: str
    metric: str
    estimate: Estimate
    run: str
    finished: int
    chance: float = 0.0
    worst: float = 0.0
    best: float = 1.0
    repeats: int = 1
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    evidence: Evidence | None = None

    @property
    def domain(self) -> str:
        """First part of the benchmark's name."""
        return self.benchmark.split("/")[0]

    @property
    def bounded(self) -> bool:
        """Whether the metric has two ends, without which no score can be rescaled."""
        return math.isfinite(self.worst) and math.isfinite(self.best)

    @property
    def unit(self) -> float:
        """What one unit of the metric is on the scale from chance (0) to perfect (1); negative if lower is better.

        A chance of 0 is no chance level where 0 is perfect (a rate of faults): the worst value takes its place.
        """
        return 1 / (self.best - self._origin)

    @property
    def rescaled(self) -> Estimate:
        """The estimate with chance at 0 and perfect at 1; linear, so the bounds carry over."""
        old = self.estimate
        value, *ends = ((x - self._origin) * self.unit for x in (old.value, old.low, old.high))
        low, high = ends if self.unit > 0 else ends[::-1]
        return Estimate(value, low, high, old.scored, old.total, old.method)

    @property
    def _origin(self) -> float:
        return self.worst if self.chance == self.best else self.chance


def with_evidence(entry: Entry, evidence: Evidence) -> Entry:
    """The entry with the rows behind it, and the ends of its metric."""
    return replace(entry, evidence=evidence, worst=evidence.score.worst, best=evidence.score.best)


def comparable(entries: Sequence[Entry]) -> list[Entry]:
    """Entries of one kind a benchmark (same fingerprint, same samples), oldest first.

    The kind is the one over most samples, and of those the newest.
    """
    kinds: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.estimate.total // entry.repeats, entry.finished)):
        kinds[entry.benchmark] = entry
    chosen = {name: (entry.fingerprint, entry.part) for name, entry in kinds.items()}
    kept = [entry for entry in entries if (entry.fingerprint, entry.part) == chosen[entry.benchmark]]
    return sorted(kept, key=lambda entry: entry.finished)


def estimate_of(evidence: Evidence) -> Estimate:
    """The score of some evidence with its two-sided 95% interval; repeats are averaged before anything else."""
    column, means = evidence.score, evidence.score.means
    rows = np.flatnonzero(~np.isnan(means))
    keys = None if evidence.keys is None else [evidence.keys[row] for row in rows]
    if column.statistic is not None:
        whole = column.take(rows).statistic
        assert whole is not None
        found = estimate_statistic(whole, len(rows), total=evidence.total, cluster_keys=keys)
    else:
        scale = Scale(column.worst, column.best, column.binary and evidence.repeats == 1)
        found = estimate_mean(means[rows].tolist(), total=evidence.total, scale=scale, cluster_keys=keys)
    return replace(found, scored=int((~np.isnan(column.values)).sum()))
