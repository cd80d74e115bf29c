"""What a metric is, how it is found, and how one response is judged: the table of outcomes, in one place.

A metric is a function ``(sample, response, *, option=default) -> float | bool | Score`` under ``@metric()``. It judges
``response.answer``, never the text. A set-level metric (macro-F1, corpus BLEU) adds a ``statistic``: given the rows, it
prepares integer counts and returns a function from row indices to the value, so that a bootstrap of thousands of draws
is cheap. Packages add metrics by the entry-point group ``vevals.metrics``.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vevals.catalogue import Catalogue, options_of
from vevals.errors import MetricError
from vevals.types import ErrorKind, FinishReason, Outcome, Response, Sample, Score, Scored

Judge = Callable[..., "float | bool | Score"]
Prepared = Callable[[NDArray[np.intp]], float]
"""(m,) row indices, repeats allowed -> the metric's value over those rows."""
Statistic = Callable[..., Prepared]

OVERRIDABLE = ("refused", "empty", "truncated", "unparsed")
"""Outcomes whose value a benchmark may set; what we or the judge did (failed, unjudgeable) never has one."""

FAMILIES = {"lm-eval:": "vevals.harness.metrics"}
"""Metrics of stored runs that are in no catalogue, by the start of their names: the module whose ``get`` knows them."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its options. ``best`` may be below ``worst`` (cost); ``binary``: only these two values occur.

    ``statistic(rows, **options)`` makes it a set-level metric. ``source_hash`` is the SHA-256 (hex) over the source
    text of ``fn`` and ``statistic`` (not of what they call): a metric that was rewritten is another metric.
    """

    name: str
    fn: Judge = field(repr=False)
    options: Mapping[str, Any]
    best: float = 1.0
    worst: float = 0.0
    binary: bool = False
    statistic: Statistic | None = field(default=None, repr=False)
    unit: str = ""
    source_hash: str = ""

    def judge(self, sample: Sample, response: Response, outcome_values: Mapping[str, float] | None = None) -> Scored:
        """How this response ended under this metric, and what it is worth.

        ``outcome_values`` replaces ``worst`` as the value of refused, empty, truncated or unparsed rows; MetricError
        for any other name.
        """
        values = outcome_values or {}
        _check_outcomes(values)
        ended = outcome_of(response)
        if ended is Outcome.failed:
            return Scored(sample, response, ended, None, response.error or "the request ended in an error")
        if ended is not Outcome.scored:
            return Scored(sample, response, ended, values.get(ended.name, self.worst), response.error or "")
        return self._verdict(sample, response)

    def _verdict(self, sample: Sample, response: Response) -> Scored:
        """The metric's own value; one that raises or gives none, NaN or a value out of bounds reached no verdict."""
        try:
            given = self.fn(sample, response, **self.options)
            score = given if isinstance(given, Score) else Score(None if given is None else float(given))
        except Exception as error:  # a row that cannot be judged is data, not the end of the run
            return Scored(sample, response, Outcome.unjudgeable, None, f"{type(error).__name__}: {error}")
        fault = self._fault(score.value)
        if score.value is None or fault:
            return Scored(sample, response, Outcome.unjudgeable, None, score.note or fault)
        cut = "cut" if response.finish_reason is FinishReason.length else ""
        low, high = sorted((self.worst, self.best))
        value = min(max(float(score.value), low), high)
        return Scored(sample, response, Outcome.scored, value, "; ".join(filter(None, (cut, score.note))))

    def _fault(self, value: float | None) -> str:
        low, high = sorted((self.worst, self.best))
        if value is None or math.isnan(value):
            return f"{self.name} gave no value"
        if not low - _ROUNDING <= value <= high + _ROUNDING:
            return f"{self.name} gave {value}, which is outside {low:g} to {high:g}"
        return ""

    def prepare(self, rows: Sequence[Scored]) -> Prepared:
        """The function from row indices to the value over those rows of ``rows`` (all of which must have a value)."""
        if self.statistic is not None:
            return self.statistic(rows, **self.options)
        values = np.array([row.value for row in rows], dtype=float)
        return lambda indices: float(values[indices].mean())

    def value(self, rows: Sequence[Scored]) -> float:
        """The mean, or the statistic, over all rows that have a value; NaN where none has."""
        valued = [row for row in rows if row.outcome.has_value]
        return self.prepare(valued)(np.arange(len(valued))) if valued else math.nan


def outcome_of(response: Response) -> Outcome:
    """How a response ended, before any metric sees it; the first that applies, ``scored`` if a metric can judge it."""
    if response.error_kind is ErrorKind.refused:
        return Outcome.refused
    if response.failed:
        return Outcome.failed
    if response.finish_reason is FinishReason.stop and not response.logprobs and not response.text.strip():
        return Outcome.empty
    if response.answer is None:
        return Outcome.truncated if response.finish_reason is FinishReason.length else Outcome.unparsed
    return Outcome.scored


def _check_outcomes(values: Mapping[str, float]) -> None:
    for name in values:
        if name not in OVERRIDABLE:
            raise MetricError(f"outcome '{name}' cannot be given a value; use {', '.join(OVERRIDABLE)}")


@dataclass(frozen=True, slots=True)
class _Entry:
    fn: Judge
    best: float
    worst: float
    binary: bool
    statistic: Statistic | None
    unit: str


_CATALOGUE: Catalogue[_Entry] = Catalogue("metric", "vevals.metrics", MetricError)


def metric(
    *,
    name: str | None = None,
    best: float = 1.0,
    worst: float = 0.0,
    binary: bool = False,
    statistic: Statistic | None = None,
    unit: str = "",
) -> Callable[[Judge], Judge]:
    """Register a function under ``name`` or its own; its keyword-only parameters are the options that YAML can set."""

    def register(fn: Judge) -> Judge:
        _CATALOGUE.add(name or fn.__name__, _Entry(fn, best, worst, binary, statistic, unit))
        return fn

    return register


def get(name: str, options: Mapping[str, Any] | None = None) -> Metric:
    """The metric ``name`` with ``options``; MetricError for a name, option or value that it does not know."""
    for start, module in FAMILIES.items():
        if name.startswith(start):
            found: Metric = import_module(module).get(name, options or {})
            return found
    _load_own()
    entry = _CATALOGUE.find(name)
    resolved = options_of(entry.fn, options or {}, f"metric '{name}'", MetricError)
    return Metric(
        name,
        entry.fn,
        resolved,
        best=entry.best,
        worst=entry.worst,
        binary=entry.binary,
        statistic=entry.statistic,
        unit=entry.unit,
        source_hash=_source_hash(entry.fn, entry.statistic),
    )


def names() -> list[str]:
    """Names of all metrics."""
    _load_own()
    return _CATALOGUE.names()


@cache
def _load_own() -> None:
    """Import every module of this package: adding a file adds its metrics."""
    package = import_module("vevals.metrics")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"vevals.metrics.{module.name}")


@cache
def _source_hash(fn: Judge, statistic: Statistic | None) -> str:
    """Of both functions and of those that they close over."""
    parts: list[Any] = [part for part in (fn, statistic) if part is not None]
    parts += [cell.cell_contents for part in parts for cell in part.__closure__ or ()]
    sources = [inspect.getsource(part) for part in parts if inspect.isfunction(part)]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()
