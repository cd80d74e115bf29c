"""lm-eval's metrics as metrics of vevals: the task judges a document, an aggregation makes one number of them all.

A metric is called ``lm-eval:acc``, or ``lm-eval:exact_match/strict-match`` where the task has several filters. Its
options say how it is aggregated and what range it has, so that a stored run can be compared without the task: what the
aggregation needs of a document (an *item*, such as a log-probability and a number of words) stands in the row's note.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vevals.canonical import canonical_json
from vevals.errors import MetricError
from vevals.harness.tasks import PREFIX
from vevals.metrics import Metric
from vevals.metrics.base import Prepared
from vevals.types import ErrorKind, FinishReason, Outcome, Response, Sample, Score, Scored

ITEM = "item "
MOST_SLOW = 1000
"""Rows up to which an aggregation that is not known here gets an interval: it is called some 10,000 times."""

Items = Sequence[Any]
Key = tuple[str, str]
"""Name of a metric in lm-eval, and of the filter that its answers went through."""
Judged = Callable[[Sample, Response], Mapping[Key, Any]]


# -- aggregations --------------------------------------------------------------------------------------------------


def _mean(items: Items) -> Prepared:
    values = np.array(items, dtype=float)
    return lambda indices: float(values[indices].mean())


def _nanmean(items: Items) -> Prepared:
    values = np.array(items, dtype=float)
    return lambda indices: float(np.nanmean(values[indices]))


def _median(items: Items) -> Prepared:
    """The upper one of two in the middle, as in lm-eval."""
    values = np.array(items, dtype=float)
    return lambda indices: float(np.sort(values[indices])[len(indices) // 2])


def _perplexity(items: Items) -> Prepared:
    values = np.array(items, dtype=float)
    return lambda indices: _exp(-float(values[indices].mean()))


def _weighted_perplexity(items: Items) -> Prepared:
    mean = _weighted_mean(items)
    return lambda indices: _exp(-mean(indices))


def _bits_per_byte(items: Items) -> Prepared:
    mean = _weighted_mean(items)
    return lambda indices: -mean(indices) / math.log(2)


def _weighted_mean(items: Items) -> Prepared:
    values = np.array(items, dtype=float)
    return lambda indices: float(values[indices, 0].sum() / values[indices, 1].sum())


def _exp(value: float) -> float:
    """e to the power of ``value``; the largest float where that is more."""
    return math.exp(min(value, math.log(sys.float_info.max)))


def _brier_score(items: Items) -> Prepared:
    """Squared distance between probabilities and the right answer, summed over the choices, 0 to 2."""
    distances = []
    for gold, given in items:
        right = np.eye(len(given))[int(gold)]
        distances.append(float(((np.array(given, dtype=float) - right) ** 2).sum()))
    return _mean(distances)


def _table(items: Items) -> tuple[NDArray[np.intp], NDArray[np.intp], list[Any]]:
    """Gold and predicted classes as numbers, and the classes in order."""
    classes = sorted({one for item in items for one in item})
    place = {name: number for number, name in enumerate(classes)}
    gold, given = (np.array([place[item[side]] for item in items], dtype=np.intp) for side in (0, 1))
    return gold, given, classes


def _f1(items: Items) -> Prepared:
    """F1 of the class 1, 0 where it does not occur; more than two classes, or two without it, are lm-eval's error."""
    both = [[int(item[side]) for item in items] for side in (0, 1)]
    classes = sorted({*both[0], *both[1]})
    if len(classes) > 2 or (len(classes) == 2 and 1 not in classes):
        raise ValueError(f"f1 is of 1 and one other class; there are {', '.join(map(str, classes[:5]))}")
    gold, given = (np.array(side) == 1 for side in both)

    def over(indices: NDArray[np.intp]) -> float:
        right, wanted, found = gold[indices], gold[indices].sum(), given[indices].sum()
        return 2 * float((right & given[indices]).sum()) / float(wanted + found) if wanted + found else 0.0

    return over


def _mcc(items: Items) -> Prepared:
    """Matthews correlation of several classes; 0 where one side never changes."""
    gold, given, classes = _table(items)
    count = len(classes)

    def over(indices: NDArray[np.intp]) -> float:
        cells = np.bincount(gold[indices] * count + given[indices], minlength=count * count).reshape(count, count)
        golds, guesses, total = (cells.sum(axis=axis).astype(float) for axis in (1, 0, None))
        spread = (total**2 - (golds**2).sum()) * (total**2 - (guesses**2).sum())
        return float((np.trace(cells) * total - golds @ guesses) / math.sqrt(spread)) if spread > 0 else 0.0

    return over


def _corpus(kind: str, **settings: Any) -> Callable[[Items], Prepared]:
    """A score of sacrebleu from the counts of each sentence, which its own bootstrap also sums."""

    def prepared(items: Items) -> Prepared:
        from sacrebleu import metrics

        made = getattr(metrics, kind)(**settings)
        wanted, given = [_texts(item[0]) for item in items], [_texts(item[1])[0] for item in items]
        streams = [list(column) for column in zip(*wanted, strict=False)]  # lm-eval: as many as every document has
        counts = np.array(made._extract_corpus_statistics(given, streams), dtype=float)
        return lambda indices: float(made._compute_score_from_stats(counts[indices].sum(axis=0).tolist()).score)

    return prepared


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value]


@dataclass(frozen=True, slots=True)
class _Known:
    """An aggregation of lm-eval under its own name, with the ends of its scale."""

    prepare: Callable[[Items], Prepared]
    low: float = -math.inf
    high: float = math.inf


KNOWN: Mapping[str, _Known] = {
    "mean": _Known(_mean),
    "nanmean": _Known(_nanmean),
    "median": _Known(_median),
    "perplexity": _Known(_perplexity, 1.0),
    "weighted_perplexity": _Known(_weighted_perplexity, 1.0),
    "bits_per_byte": _Known(_bits_per_byte, 0.0),
    "brier_score": _Known(_brier_score, 0.0, 2.0),
    "f1": _Known(_f1, 0.0, 1.0),
    "matthews_corrcoef": _Known(_mcc, -1.0, 1.0),
    "bleu": _Known(_corpus("BLEU"), 0.0, 100.0),
    "chrf": _Known(_corpus("CHRF"), 0.0, 100.0),
    "chrf++": _Known(_corpus("CHRF", word_order=2), 0.0, 100.0),
    "ter": _Known(_corpus("TER"), 0.0),
}
SHARES = ("acc", "em", "exact_match")
"""Means of metrics whose names begin so (``acc_norm``) are shares of documents, 0 to 1."""


def _own(function: Callable[..., Any]) -> Callable[[Items], Prepared]:
    """An aggregation that only the task knows; above ``MOST_SLOW`` rows it has a value, but no interval."""

    def prepared(items: Items) -> Prepared:
        everything = np.arange(len(items))

        def over(indices: NDArray[np.intp]) -> float:
            if len(items) > MOST_SLOW and not np.array_equal(indices, everything):
                return math.nan
            return float(function([items[index] for index in indices]))

        over(everything)
        return _or_nan(over)

    return prepared


def _or_nan(over: Prepared) -> Prepared:
    """A bootstrap may draw rows (of one class only) that a function of the task cannot take: NaN, not the end."""

    def safe(indices: NDArray[np.intp]) -> float:
        try:
            return over(indices)
        except Exception:
            return math.nan

    return safe


# -- metrics -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskMetric(Metric):
    """A metric that judges what came back whatever it is: to lm-eval an empty or cut reply is a reply."""

    def judge(self, sample: Sample, response: Response, outcome_values: Mapping[str, float] | None = None) -> Scored:
        """As ``Metric.judge``, but an empty or refused reply has the value that lm-eval gives it, and no other.

        Raises:
            MetricError: ``outcome_values`` are given.
        """
        if outcome_values:
            raise MetricError(f"{self.name}: lm-eval's task says what an empty or refused reply is worth")
        refused = response.error_kind is ErrorKind.refused
        if response.failed and not refused:
            problem = response.error or "the request ended in an error"
            return Scored(sample, response, Outcome.failed, None, problem)
        found = self._verdict(sample, response)
        blank = not response.logprobs and not response.text.strip() and response.finish_reason is FinishReason.stop
        if found.outcome is Outcome.scored and (refused or blank):
            return replace(found, outcome=Outcome.refused if refused else Outcome.empty)
        return found


def of_task(task: Any, judged: Judged) -> tuple[TaskMetric, ...]:
    """The metrics of an lm-eval task, in its order, filter by filter; ``judged`` gives the items of a document."""
    filters = [ensemble.name for ensemble in task._filters]
    aggregations, higher = task.aggregation(), task.higher_is_better()
    found = []
    for part in filters:
        for name, function in aggregations.items():
            plain = _is_plain(task, name)
            options = _options(name, function, bool(higher.get(name, True)), plain)
            called = f"{PREFIX}{name}" + (f"/{part}" if len(filters) > 1 else "")
            found.append(_metric(called, options, _judge((name, part), options, judged), function))
    return tuple(found)


def get(name: str, options: Mapping[str, Any]) -> TaskMetric:
    """A metric of a stored run, which can aggregate its rows but not judge new ones.

    Where its aggregation is the task's own and not on this machine as it was, it counts as a metric that was changed.

    Raises:
        MetricError: its options are not those of an lm-eval metric.
    """
    known = {"aggregation", "source", "higher_is_better", "low", "high", "binary"}
    if set(options) != known:
        raise MetricError(f"the metric '{name}' is of lm-eval's tasks; run one with --benchmark {PREFIX}TASK")

    def judge(*_: Any, **__: Any) -> Score:
        raise MetricError(f"'{name}' is judged by its task")

    called = str(options["aggregation"])
    if called in KNOWN:
        return _metric(name, options, judge, None)
    function = _imported(called)
    if function is None or _source(function) != options["source"]:
        return replace(_metric(name, options, judge, _absent), source_hash="")
    return _metric(name, options, judge, function)


def _is_plain(task: Any, name: str) -> bool:
    """Whether lm-eval itself judges the document, and not code of the task: then 0 and 1 are its only verdicts."""
    if task.get_config("process_results") is not None or type(task).__name__ != "ConfigurableTask":
        return False
    return task.OUTPUT_TYPE != "generate_until" or (name == "exact_match" and not task.multiple_target)


def _options(name: str, function: Callable[..., Any], higher: bool, plain: bool) -> dict[str, Any]:
    """What a stored metric has to say of itself; ends that do not exist are null."""
    called = _name_of(function)
    low, high = (KNOWN[called].low, KNOWN[called].high) if called in KNOWN else (-math.inf, math.inf)
    share = called == "mean" and any(name == one or name.startswith(f"{one}_") for one in SHARES)
    if share:
        low, high = 0.0, 1.0
    ends = {key: value if math.isfinite(value) else None for key, value in (("low", low), ("high", high))}
    source = "" if called in KNOWN else _source(function)
    return {"aggregation": called, "source": source, "higher_is_better": higher, **ends, "binary": share and plain}


def _metric(name: str, options: Mapping[str, Any], judge: Callable[..., Score], function: Any) -> TaskMetric:
    low = -math.inf if options["low"] is None else float(options["low"])
    high = math.inf if options["high"] is None else float(options["high"])
    worst, best = (low, high) if options["higher_is_better"] else (high, low)
    prepare = KNOWN[options["aggregation"]].prepare if options["aggregation"] in KNOWN else _own(function)

    def statistic(rows: Sequence[Scored], **_: Any) -> Prepared:
        try:
            return prepare([_item(row) for row in rows])
        except Exception as error:  # as lm-eval's own would fail on these items
            kind = type(error).__name__
            raise MetricError(f"{name}: its aggregation {options['aggregation']} fails: {kind}: {error}") from error

    averaged = _is_averaged(options)
    return TaskMetric(
        name,
        judge,
        options,
        best=best,
        worst=worst,
        binary=options["binary"],
        statistic=None if averaged else statistic,
        source_hash=_hash(options),
    )


def _is_averaged(options: Mapping[str, Any]) -> bool:
    """Whether the metric is the mean of its rows on a scale with two ends, which needs no bootstrap."""
    return options["aggregation"] == "mean" and None not in (options["low"], options["high"])


def _hash(options: Mapping[str, Any]) -> str:
    known = KNOWN.get(options["aggregation"])
    source = options["source"] if known is None else inspect.getsource(inspect.unwrap(known.prepare))
    return hashlib.sha256(canonical_json([dict(options), source]).encode()).hexdigest()


def _judge(key: Key, options: Mapping[str, Any], judged: Judged) -> Callable[..., Score]:
    """The value of one document: its item, or what the aggregation makes of this item alone."""

    def judge(sample: Sample, response: Response, **_: Any) -> Score:
        items = judged(sample, response)
        if key not in items:
            return Score(None, f"lm-eval gives no {key[0]} for this document")
        item = _plain(items[key])
        if _is_averaged(options):
            return Score(float(item))
        return Score(_alone(item, options), f"{ITEM}{json.dumps(item)}")

    return judge


def _alone(item: Any, options: Mapping[str, Any]) -> float:
    """The value of a set of one item; for classes, whether it is right."""
    called = options["aggregation"]
    if called in ("f1", "matthews_corrcoef") or called not in KNOWN:
        if not isinstance(item, list | tuple):
            return float(item)
        right = item[0] == item[1]
        return float(right) if called != "matthews_corrcoef" else 2.0 * right - 1
    return KNOWN[called].prepare([item])(np.arange(1))


def _item(row: Scored) -> Any:
    return json.loads(row.note.partition(ITEM)[2])


def _plain(value: Any) -> Any:
    """An item as JSON keeps it: numpy's numbers and arrays become Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return value


# -- names of aggregations -----------------------------------------------------------------------------------------


def _name_of(function: Callable[..., Any]) -> str:
    """lm-eval's name of an aggregation, or ``module:function``; a folder is no part of it."""
    from lm_eval.api.registry import get_aggregation

    for name in KNOWN:
        if get_aggregation(name) is function:
            return name
    module = str(getattr(function, "__module__", "?")).rpartition("/")[2]
    return f"{module}:{getattr(function, '__qualname__', '?')}"


def _source(function: Callable[..., Any]) -> str:
    """SHA-256 (hex) of the source text of a task's own function."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = repr(function)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _imported(called: str) -> Callable[..., Any] | None:
    module, _, name = called.partition(":")
    if not module.startswith("lm_eval."):
        return None
    try:
        found: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found


def _absent(_: Items) -> float:
    raise MetricError("it is code of the task, which is not here as it was")
