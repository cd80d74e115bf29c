"""What a comparison, a leaderboard or a gate decides on: the rows of finished runs as arrays. Pure: no store, no model.

Letters in shapes: n samples, K repeats of each. A *run set* is the finished runs of one model, one a benchmark (or
several attempts at one benchmark, whose repeats are pooled).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isnan

import numpy as np
from numpy.typing import NDArray

from vevals.canonical import sha256_hex
from vevals.types import Outcome

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Statistic = Callable[[Rows], float]
"""(m,) row indices, repeats allowed -> the value of a set-level metric over those samples."""

NO_ROW = -1
"""Where a sample has no row at all: the run did not get to it."""


@dataclass(frozen=True, slots=True)
class RunFact:
    """One finished run: where it came from, and which samples it took. ``digest`` (hex) covers config and responses."""

    key: str
    digest: str
    model: str
    model_hash: str
    label: str = ""
    limit: int | None = None
    draw: int | None = None
    seed: int = 0
    repeats: int = 1
    attempt: int = 1
    started: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One metric over the samples of one benchmark.

    ``values`` (n, K): NaN where a row has no value. ``outcomes`` (n, K): ``Outcome``, or ``NO_ROW``. ``worst`` and
    ``best`` may be infinite (tokens, seconds, cost). ``statistic`` makes it a set-level metric.
    """

    name: str
    worst: float
    best: float
    binary: bool
    values: Floats
    outcomes: NDArray[np.int8]
    statistic: Statistic | None = None

    @property
    def means(self) -> Floats:
        """(n,) mean of each sample over its repeats that have a value; NaN where none has."""
        known = ~np.isnan(self.values)
        counts = known.sum(axis=1)
        sums = np.where(known, self.values, 0.0).sum(axis=1)
        means: Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        return means

    @property
    def bounded(self) -> bool:
        """Whether the metric has two finite ends."""
        return bool(np.isfinite(self.worst) and np.isfinite(self.best))

    def counts(self) -> dict[Outcome, int]:
        """How many rows ended how."""
        return {outcome: int((self.outcomes == int(outcome)).sum()) for outcome in Outcome}

    def take(self, rows: Rows) -> Column:
        """The column over some of its samples."""
        whole = self.statistic
        statistic = None if whole is None else lambda indices: whole(rows[indices])
        return replace(self, values=self.values[rows], outcomes=self.outcomes[rows], statistic=statistic)

    def digest(self, ids: Sequence[str]) -> str:
        """SHA-256 (hex) of the outcome and value of every row, whatever the order of the samples."""
        values = [[None if isnan(value) else value for value in row] for row in self.values.tolist()]
        rows = [
            [sample, repeat, outcome, value]
            for sample, of_values, of_outcomes in zip(ids, values, self.outcomes.tolist(), strict=True)
            for repeat, (value, outcome) in enumerate(zip(of_values, of_outcomes, strict=True))
        ]
        return sha256_hex(sorted(rows, key=lambda row: (row[0], row[1])))


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """What the answers took; all arrays (n, K). ``cached`` answers came from the store and cost nothing now."""

    input_tokens: Floats
    output_tokens: Floats
    seconds: Floats
    cached: NDArray[np.bool_]

    def take(self, rows: Rows) -> Usage:
        """The usage of some samples."""
        return Usage(self.input_tokens[rows], self.output_tokens[rows], self.seconds[rows], self.cached[rows])


@dataclass(frozen=True, eq=False)
class Evidence:
    """One benchmark of one run set.

    ``ids``, ``contents`` (hex hashes of the questions), ``clusters`` and ``slices`` are (n,); the first of ``columns``
    is the benchmark's score. ``total`` = rows that were to exist, samples x repeats.
    """

    benchmark: str
    runs: tuple[RunFact, ...]
    parts: Mapping[str, str]
    ids: tuple[str, ...]
    contents: tuple[str, ...]
    clusters: tuple[str | None, ...]
    slices: tuple[Mapping[str, str], ...]
    columns: Mapping[str, Column]
    usage: Usage
    total: int
    tags: tuple[str, ...] = ()
    chance: float = 0.0

    @property
    def domain(self) -> str:
        """First part of the benchmark's name."""
        return self.benchmark.split("/")[0]

    @property
    def repeats(self) -> int:
        """K."""
        return int(self.usage.seconds.shape[1])

    @property
    def score(self) -> Column:
        """The metric that the leaderboard shows."""
        return next(iter(self.columns.values()))

    @cached_property
    def keys(self) -> list[str] | None:
        """The cluster of each sample, or None where no two samples share one. A sample without one is its own."""
        keys = [
            f"sample {sample}" if name is None else f"cluster {name}"
            for sample, name in zip(self.ids, self.clusters, strict=True)
        ]
        return None if len(set(keys)) == len(keys) else keys

    def take(self, rows: Sequence[int] | Rows) -> Evidence:
        """The evidence on some of the samples, in the order of ``rows``; ``total`` shrinks with them."""
        index = np.asarray(rows, dtype=np.intp)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            contents=tuple(self.contents[i] for i in index),
            clusters=tuple(self.clusters[i] for i in index),
            slices=tuple(self.slices[i] for i in index),
            columns={name: column.take(index) for name, column in self.columns.items()},
            usage=self.usage.take(index),
            total=len(index) * self.repeats,
        )


@dataclass(frozen=True)
class RunSet:
    """Finished runs that stand for one model: evidence by benchmark.

    ``problems``: why a benchmark's runs cannot be used ("ambiguous", "first rows only"), by benchmark.
    """

    name: str
    evidence: Mapping[str, Evidence]
    problems: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the sorted digests of the runs: equal for equal content, whenever and wherever it ran."""
        return sha256_hex(sorted(run.digest for run in self.runs))

    @property
    def runs(self) -> list[RunFact]:
        """All runs, by benchmark."""
        return [run for name in sorted(self.evidence) for run in self.evidence[name].runs]


def pair(candidate: Evidence, baseline: Evidence) -> tuple[Evidence, Evidence]:
    """Both on the samples that they share, by id and content, in the candidate's order."""
    if (candidate.ids, candidate.contents) == (baseline.ids, baseline.contents):
        return candidate, baseline
    places = {key: row for row, key in enumerate(zip(baseline.ids, baseline.contents, strict=True))}
    keys = list(zip(candidate.ids, candidate.contents, strict=True))
    ours = [row for row, key in enumerate(keys) if key in places]
    return candidate.take(ours), baseline.take([places[keys[row]] for row in ours])


def differing(one: Evidence, other: Evidence, parts: Sequence[str]) -> list[str]:
    """Which of ``parts`` of the fingerprint differ: such runs are not comparable."""
    return [part for part in parts if one.parts.get(part, "") != other.parts.get(part, "")]
