"""Two runs of one model against each other: how often would this gate pass, or fail, a release without a change?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vevals.evidence import Column, Evidence, Rows
from vevals.gate.decide import Context, states
from vevals.gate.questions import Part, Question, Setting, ask
from vevals.gate.verdict import State
from vevals.statistics.clusters import group

DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the draws by state. ``skipped``: checks that could not take part."""

    draws: int
    shares: dict[State, float]
    alpha: float
    skipped: tuple[str, ...] = ()

    @property
    def defective(self) -> bool:
        """Whether more draws fail than the error rate allows, beyond chance."""
        room = 2 * math.sqrt(self.alpha * (1 - self.alpha) / self.draws)
        return self.shares[State.FAIL] > self.alpha + room

    def exit_code(self, least_pass: float) -> int:
        """1 a defect, 3 the gate is too strict for its samples, 0 fine."""
        if self.defective:
            return 1
        return 0 if self.shares[State.PASS] >= least_pass else 3


def simulate(setting: Setting, context: Context, draws: int = DRAWS) -> Rates:
    """Draw clusters with replacement and swap the two labels of each with probability one half.

    Only paired checks of bounded per-sample metrics take part: floors have no second side, and a score of the whole set
    cannot be swapped row by row.
    """
    asked = ask(setting).questions
    usable = [question for question in asked if _usable(question)]
    skipped = tuple(question.name for question in asked if not _usable(question) and question.check.severity == "block")
    rng = np.random.default_rng(setting.policy.statistics.seed)
    counts: Counter[State] = Counter()
    for _ in range(draws if usable else 0):
        drawn = [replace(question, parts=tuple(_swapped(part, rng) for part in question.parts)) for question in usable]
        counts[states(drawn, setting.policy, context)] += 1
    total = max(1, sum(counts.values()))
    shares = {state: counts[state] / total for state in State}
    return Rates(draws, shares, setting.policy.statistics.alpha, skipped)


def _usable(question: Question) -> bool:
    if question.limit.kind != "no_worse_than" or question.problem:
        return False
    columns = [part.candidate.columns.get(part.metric) for part in question.parts]
    return all(column is not None and column.bounded and column.statistic is None for column in columns)


def _swapped(part: Part, rng: np.random.Generator) -> Part:
    """One draw: as many clusters as there are, each with its label kept or swapped; drawn twice, it counts twice."""
    assert part.baseline is not None
    keys = part.candidate.keys
    members = group(keys if keys is not None else range(len(part.candidate.ids)))
    picked = rng.integers(len(members), size=len(members))
    swaps = rng.random(len(members)) < 0.5
    rows = np.concatenate([members[place] for place in picked])
    sizes = [len(members[place]) for place in picked]
    names = None if keys is None else np.repeat(np.arange(len(picked)), sizes)
    mask = np.repeat(swaps, sizes)
    one, other = _drawn(part.candidate, rows, names), _drawn(part.baseline, rows, names)
    column, against = one.columns[part.metric], other.columns[part.metric]
    return Part(_with(one, _mixed(column, against, mask)), _with(other, _mixed(against, column, mask)), part.metric)


def _drawn(evidence: Evidence, rows: Rows, names: Sequence[int] | Rows | None) -> Evidence:
    ids = tuple(str(place) for place in range(len(rows)))
    clusters = (None,) * len(rows) if names is None else tuple(str(name) for name in names)
    return replace(
        evidence,
        ids=ids,
        contents=ids,
        clusters=clusters,
        slices=tuple(evidence.slices[row] for row in rows),
        columns={name: column.take(rows) for name, column in evidence.columns.items() if column.statistic is None},
        usage=evidence.usage.take(rows),
        total=len(rows) * evidence.repeats,
    )


def _with(evidence: Evidence, column: Column) -> Evidence:
    return replace(evidence, columns={**evidence.columns, column.name: column})


def _mixed(own: Column, other: Column, mask: NDArray[np.bool_]) -> Column:
    """(n, K) ``own`` where the label is kept, ``other`` where it is swapped; repeats are cut to the fewer."""
    repeats = min(own.values.shape[1], other.values.shape[1])
    values = np.where(mask[:, None], other.values[:, :repeats], own.values[:, :repeats])
    outcomes = np.where(mask[:, None], other.outcomes[:, :repeats], own.outcomes[:, :repeats])
    return replace(own, values=values, outcomes=outcomes)
