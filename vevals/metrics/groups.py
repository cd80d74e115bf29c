"""Metrics of rows that belong together: variants of one case, which share their ``cluster``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from vevals.metrics.base import Prepared, metric
from vevals.types import Outcome, Response, Sample, Scored


def _same_answers(rows: Sequence[Scored], **_: Any) -> Prepared:
    """Over clusters of two or more samples, repeat by repeat, each counted by the share of its rows that were drawn."""
    members: dict[tuple[str, int], list[int]] = defaultdict(list)
    repeats: Counter[str] = Counter()
    for place, row in enumerate(rows):
        if row.sample.cluster is not None:
            members[row.sample.cluster, repeats[row.sample.id]].append(place)
            repeats[row.sample.id] += 1
    weight, same = np.zeros(len(rows)), np.zeros(len(rows))
    for places in members.values():
        if len(places) > 1:
            answers = {rows[place].response.answer for place in places}
            alike = len(answers) == 1 and all(rows[place].outcome is Outcome.scored for place in places)
            weight[places], same[places] = 1 / len(places), alike / len(places)

    def over(indices: np.ndarray[Any, np.dtype[np.intp]]) -> float:
        whole = float(weight[indices].sum())
        return float(same[indices].sum()) / whole if whole else float("nan")

    return over


@metric(statistic=_same_answers)
def same_answer(sample: Sample, response: Response) -> float:
    """Share of clusters whose rows all got one and the same answer, right or wrong.

    For counterfactual variants of a case (another name, gender or age), where the answer must not change. A cluster
    with a row in which no answer was found does not count as the same. Rows that failed are no evidence and left out,
    and so are clusters of which one row is left. Each repeat is compared by itself. Read it beside ``accuracy``: a
    model that always gives one answer is perfectly constant.
    """
    return float(response.answer in sample.target)
