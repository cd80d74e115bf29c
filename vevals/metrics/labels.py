"""Metrics of choices, classes and label sets: accuracy, F1 and their relatives, and the confusion table.

The gold class of a row is its first target. A row without an answer counts as a wrong prediction, of a class 'no
answer' that is never a gold one. Averages over classes run over the classes that are gold in the evaluated rows (in a
bootstrap draw: in that draw), as scikit-learn's do with ``labels=`` these classes and ``zero_division=0``. A wrong
class also costs the class that it names, no answer costs only the gold one: macro and weighted F1, precision and MCC
can therefore prefer silence to a guess, which recall, accuracy and the printed outcome counts never do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vevals.extract import most_likely_index
from vevals.metrics.base import Prepared, metric
from vevals.types import Response, Sample, Score, Scored

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]


@metric(binary=True)
def accuracy(sample: Sample, response: Response) -> bool:
    """Whether the answer is one of the targets."""
    return response.answer in sample.target


@metric(binary=True)
def accuracy_norm(
    sample: Sample, response: Response, *, normalise: Literal["bytes", "characters", "tokens"] = "bytes"
) -> Score:
    """Whether the choice with the highest log-probability for its length is a target.

    ``bytes``: UTF-8 bytes. The ``acc_norm`` of lm-evaluation-harness divides by ``characters``: the same for ASCII.
    """
    if response.logprobs and not response.choice_tokens and not response.greedy:
        return Score(None, "a classifier's log-probabilities are of labels; they have no length to divide by")
    best = most_likely_index(sample.choices, response, normalise)
    if best is None:
        return Score(None, "accuracy_norm needs one finite log-probability for each choice")
    return Score(float(sample.choices[best] in sample.target))


@metric()
def set_f1(sample: Sample, response: Response) -> float:
    """F1 of the set of labels against the set of targets; 1 when both are empty. The answer is a JSON list."""
    given, wanted = _label_set(response), set(sample.target)
    if not given and not wanted:
        return 1.0
    return 2 * len(given & wanted) / (len(given) + len(wanted))


@metric(binary=True)
def set_match(sample: Sample, response: Response) -> bool:
    """Whether the set of labels is exactly the set of targets. The answer is a JSON list."""
    return _label_set(response) == set(sample.target)


def _label_set(response: Response) -> set[str]:
    try:
        labels = json.loads(response.answer or "")
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("the answer is not a JSON list of labels; use answer: labels")
    return set(labels)


# --- set-level metrics ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """Per class, over the drawn rows: rows of that gold class, predictions of it, and those that agree. (C,) each."""

    gold: Floats
    predicted: Floats
    right: Floats
    rows: int

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Classes that are gold in some row."""
        return self.gold > 0


def _codes(rows: Sequence[Scored]) -> tuple[list[str], Ints, Ints]:
    """Classes in order of first sight, each row's gold class and its predicted one; ``len(classes)`` is no answer."""
    code: dict[str, int] = {}
    gold = [code.setdefault(row.sample.target[0], len(code)) for row in rows]
    answers = [row.response.answer for row in rows]
    said = [None if answer is None else code.setdefault(answer, len(code)) for answer in answers]
    predicted = [len(code) if number is None else number for number in said]
    return list(code), np.array(gold, dtype=np.intp), np.array(predicted, dtype=np.intp)


def _over_classes(value: Callable[[Counts], float]) -> Callable[..., Prepared]:
    """The set-level statistic that computes ``value`` from the counts of a draw."""

    def statistic(rows: Sequence[Scored], **_: Any) -> Prepared:
        classes, gold, predicted = _codes(rows)
        size = len(classes) + 1
        agreed = np.where(gold == predicted, gold, size)  # size: a bin for the rows that disagree

        def over(indices: Ints) -> float:
            def count(codes: Ints) -> Floats:
                return np.bincount(codes[indices], minlength=size + 1)[:size].astype(float)

            return value(Counts(count(gold), count(predicted), count(agreed), len(indices)))

        return over

    return statistic


def _shares(part: Floats, whole: Floats) -> Floats:
    """``part / whole``, 0 where ``whole`` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(counts: Counts) -> Floats:
    return _shares(2 * counts.right, counts.gold + counts.predicted)


def _macro_f1(counts: Counts) -> float:
    return float(_f1(counts)[counts.seen].mean())


def _weighted_f1(counts: Counts) -> float:
    return float(_f1(counts) @ counts.gold / counts.rows)


def _micro_f1(counts: Counts) -> float:
    return float(counts.right.sum() / counts.rows)


def _macro_precision(counts: Counts) -> float:
    return float(_shares(counts.right, counts.predicted)[counts.seen].mean())


def _macro_recall(counts: Counts) -> float:
    return float(_shares(counts.right, counts.gold)[counts.seen].mean())


def _mcc(counts: Counts) -> float:
    """Source: Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006 (R_K); 0 where one side has a single class."""
    n = float(counts.rows)
    covariance = n * counts.right.sum() - counts.gold @ counts.predicted
    spread = (n * n - counts.gold @ counts.gold) * (n * n - counts.predicted @ counts.predicted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def _right(sample: Sample, response: Response) -> float:
    return float(response.answer == sample.target[0])


@metric(statistic=_over_classes(_macro_f1))
def macro_f1(sample: Sample, response: Response) -> float:
    """Mean over classes of F1. Per row: whether the class is right."""
    return _right(sample, response)


@metric(statistic=_over_classes(_weighted_f1))
def weighted_f1(sample: Sample, response: Response) -> float:
    """Mean over rows of the F1 of their gold class. Per row: whether the class is right."""
    return _right(sample, response)


@metric(statistic=_over_classes(_micro_f1))
def micro_f1(sample: Sample, response: Response) -> float:
    """F1 over all decisions; with one class a row that is the accuracy. Per row: whether the class is right."""
    return _right(sample, response)


@metric(statistic=_over_classes(_macro_precision))
def macro_precision(sample: Sample, response: Response) -> float:
    """Mean over classes of precision, 0 for a class never predicted. Per row: whether the class is right."""
    return _right(sample, response)


@metric(statistic=_over_classes(_macro_recall))
def macro_recall(sample: Sample, response: Response) -> float:
    """Mean over classes of recall. Per row: whether the class is right."""
    return _right(sample, response)


@metric(statistic=_over_classes(_macro_recall))
def balanced_accuracy(sample: Sample, response: Response) -> float:
    """The same number as ``macro_recall``, under the name that medicine uses. Per row: whether the class is right."""
    return _right(sample, response)


@metric(worst=-1.0, statistic=_over_classes(_mcc))
def mcc(sample: Sample, response: Response) -> float:
    """Matthews correlation of several classes, -1 to 1, 0 for guessing. Per row: 1 if the class is right, else -1."""
    return 2 * _right(sample, response) - 1


def confusion(rows: Sequence[Scored]) -> tuple[list[str], NDArray[np.intp]]:
    """(labels, counts): counts[i, j] rows of gold class i were called j; the last column is 'no answer'.

    Labels are those that occur as gold or as an answer, in the order of the samples' choices, then of first sight. Rows
    that failed or could not be judged are left out. Shape (L, L + 1).
    """
    valued = [row for row in rows if row.outcome.has_value]
    classes, gold, predicted = _codes(valued)
    offered = list(dict.fromkeys(choice for row in valued for choice in row.sample.choices))
    place = {name: number for number, name in enumerate(offered)}
    order = sorted(range(len(classes)), key=lambda i: (place.get(classes[i], len(place)), i))
    counts = np.zeros((len(classes), len(classes) + 1), dtype=np.intp)
    np.add.at(counts, (gold, predicted), 1)
    return [classes[i] for i in order], counts[np.ix_(order, [*order, len(classes)])]
