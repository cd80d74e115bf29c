"""Which samples changed between two run sets, with their texts: what a person looks at first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vevals.evidence import Evidence
from vevals.gate.lines import Flip
from vevals.gate.questions import Part, Setting, ask
from vevals.store import Store

NO_ANSWER = "(no answer)"


@dataclass(frozen=True, slots=True)
class Changed:
    """Sample ids of one part that got worse and better, the largest changes first."""

    part: Part
    broke: tuple[str, ...]
    fixed: tuple[str, ...]


def changed(part: Part) -> Changed:
    """Which samples broke and which were fixed, by the mean over their repeats."""
    assert part.baseline is not None
    own, other = part.candidate.columns[part.metric], part.baseline.columns[part.metric]
    sign = 1.0 if own.best > own.worst else -1.0
    difference = sign * (own.means - other.means)
    order = np.argsort(difference, kind="stable")
    broke = [part.candidate.ids[row] for row in order if difference[row] < 0]
    fixed = [part.candidate.ids[row] for row in order[::-1] if difference[row] > 0]
    return Changed(part, tuple(broke), tuple(fixed))


def of_setting(store: Store, setting: Setting, check: str | None = None, most: int = 20) -> list[Flip]:
    """Flips of every benchmark that a policy compares, ``most`` of a benchmark, broken ones first."""
    found: list[Flip] = []
    seen: set[tuple[str, str]] = set()
    for question in ask(setting).questions:
        if question.limit.kind != "no_worse_than" or (check is not None and question.check.id != check):
            continue
        for part in question.parts:
            place = (part.candidate.benchmark, part.metric)
            if place not in seen and part.metric in part.candidate.columns and not question.where:
                seen.add(place)
                found += with_texts(store, changed(part), most)
    return found


def with_texts(store: Store, flips: Changed, most: int) -> Iterator[Flip]:
    """The first ``most`` flips with target and both answers."""
    part = flips.part
    assert part.baseline is not None
    picked: list[tuple[str, Literal["broke", "fixed"]]] = [(sample, "broke") for sample in flips.broke[:most]]
    picked += [(sample, "fixed") for sample in flips.fixed[: most - len(picked)]]
    ids = {sample for sample, _ in picked}
    ours, theirs = (_texts(store, side, part.metric, ids) for side in (part.candidate, part.baseline))
    for sample, direction in picked:
        _, target = ours.get(sample, theirs.get(sample, ("", "")))
        was, now = (texts.get(sample, (NO_ANSWER, ""))[0] for texts in (theirs, ours))
        yield Flip(part.candidate.benchmark, sample, direction, was, now, target)


def _texts(store: Store, evidence: Evidence, metric: str, ids: Sequence[str] | set[str]) -> dict[str, tuple[str, str]]:
    """Sample id -> (answer, target), of the first repeat."""
    if not ids:
        return {}
    run = store.run(evidence.runs[0].key)
    found: dict[str, tuple[str, str]] = {}
    for row in store.samples(run, metric):
        if row["id"] in ids and row["id"] not in found:
            answer = row["answer"] if row["answer"] is not None else (row["text"] or row["error"] or NO_ANSWER)
            found[row["id"]] = answer, " | ".join(row["target"])
    return found
