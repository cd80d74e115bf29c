"""Scores from a pandas DataFrame -> entries of a board, so that results from elsewhere are ranked like our own.

With a column ``sample``, a row is one model's value on one sample, and models are compared pair by pair. Without it, a
row is one model's estimate on one benchmark (``value, low, high, scored, total``), and no two models can be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vevals.board.entries import Entry, estimate_of
from vevals.errors import DataError
from vevals.evidence import NO_ROW, Column, Evidence, RunFact, Usage
from vevals.types import Estimate, Outcome

if TYPE_CHECKING:
    import pandas

NEEDED = ("model", "benchmark", "value")
OF_ESTIMATES = ("low", "high", "scored", "total")
OF_SAMPLES = ("sample", "cluster", "binary")
OF_BENCHMARKS: Mapping[str, Any] = {"metric": "score", "chance": 0.0, "worst": 0.0, "best": 1.0, "binary": False}
"""Optional columns that must be the same in all rows of a benchmark, and what they are without the column."""
PART = (None, None, 0)


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of the frame. ``where``: its index, as errors name it."""

    where: Hashable
    cells: Mapping[str, Any]

    def fault(self, column: str, problem: str) -> DataError:
        return DataError(f"frame, row {self.where!r}, column '{column}': {problem}")

    def text(self, column: str) -> str:
        value = self.cells[column]
        if _missing(value) or not str(value).strip():
            raise self.fault(column, "is empty; every row needs one")
        return str(value)

    def number(self, column: str) -> float:
        """A finite number, or NaN where the cell is empty."""
        value = self.cells[column]
        try:
            found = math.nan if _missing(value) else float(value)
        except (TypeError, ValueError):
            raise self.fault(column, f"{value!r} is not a number") from None
        if math.isinf(found):
            raise self.fault(column, "is infinite; leave it empty where there is no value")
        return found

    def given(self, column: str) -> float:
        """A number that may not be missing."""
        found = self.number(column)
        if math.isnan(found):
            raise self.fault(column, "is empty; every row needs one")
        return found


def from_frame(frame: pandas.DataFrame) -> list[Entry]:
    """Entries from columns ``model, benchmark, value`` and ``sample``, or ``low, high, scored, total``.

    Optional: ``metric, chance, worst, best``, the same in all rows of a benchmark; with ``sample`` also ``binary``
    (only worst and best occur) and ``cluster``. An empty ``value``, or a sample that only others have, lowers coverage.

    Raises:
        DataError: what is wrong, in which column and row.
    """
    _check_columns([str(name) for name in frame.columns])
    records = frame.to_dict("records")
    lines = [_Line(where, cells) for where, cells in zip(frame.index.tolist(), records, strict=True)]
    if not lines:
        raise DataError("frame: it has no rows")
    groups: dict[str, list[_Line]] = {}
    for line in lines:
        groups.setdefault(line.text("benchmark"), []).append(line)
    make = _of_samples if "sample" in frame.columns else _of_estimates
    return [entry for name, found in groups.items() for entry in make(name, found)]


def _check_columns(columns: Sequence[str]) -> None:
    rest = OF_SAMPLES if "sample" in columns else OF_ESTIMATES
    needed = NEEDED if "sample" in columns else (*NEEDED, *OF_ESTIMATES)
    for name in needed:
        if name not in columns:
            more = "" if "sample" in columns else "; with a column 'sample' only model, benchmark and value are needed"
            raise DataError(f"frame: there is no column '{name}'{more}")
    known = dict.fromkeys((*NEEDED, *rest, *OF_BENCHMARKS))
    if "sample" not in columns:
        del known["binary"]
    for name in columns:
        if name not in known or columns.count(name) > 1:
            raise DataError(f"frame: column '{name}' has no use here, or stands twice; columns are {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class _Scale:
    metric: str
    chance: float
    worst: float
    best: float
    binary: bool

    def check(self, line: _Line, column: str) -> float:
        value, (low, high) = line.number(column), sorted((self.worst, self.best))
        if value < low or value > high:
            raise line.fault(column, f"{value:g} is outside {low:g} to {high:g}, the columns 'worst' and 'best'")
        if self.binary and not math.isnan(value) and value not in (low, high):
            raise line.fault(column, f"{value:g} is neither {low:g} nor {high:g}, but the column 'binary' says so")
        return value


def _scale(lines: Sequence[_Line]) -> _Scale:
    first = lines[0]
    found: dict[str, Any] = {}
    for name, usual in OF_BENCHMARKS.items():
        found[name] = first.cells.get(name, usual)
        for line in lines if name in first.cells else ():
            line.text(name)
            if line.cells[name] != found[name]:
                raise line.fault(name, f"{line.cells[name]!r} differs from {found[name]!r} of the same benchmark")
    numbers = {name: first.given(name) if name in first.cells else usual for name, usual in _numbers()}
    scale = _Scale(str(found["metric"]), binary=_flag(first, found["binary"]), **numbers)
    if scale.worst == scale.best or not min(scale.worst, scale.best) <= scale.chance <= max(scale.worst, scale.best):
        raise first.fault("chance" if "chance" in first.cells else "best", "chance must lie between worst and best")
    return scale


def _numbers() -> list[tuple[str, float]]:
    return [(name, usual) for name, usual in OF_BENCHMARKS.items() if name in ("chance", "worst", "best")]


def _flag(line: _Line, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise line.fault("binary", f"{value!r} is neither True nor False")


def _of_estimates(benchmark: str, lines: Sequence[_Line]) -> list[Entry]:
    scale = _scale(lines)
    seen: set[str] = set()
    entries = []
    for line in lines:
        model = line.text("model")
        if model in seen:
            raise line.fault("model", f"'{model}' stands twice for {benchmark}; add a column 'sample', or drop one")
        seen.add(model)
        entries.append(_entry(benchmark, model, scale, _estimate(line, scale)))
    return entries


def _estimate(line: _Line, scale: _Scale) -> Estimate:
    value, low, high = (scale.check(line, name) for name in ("value", "low", "high"))
    if not (math.isnan(low) or math.isnan(high) or math.isnan(value)) and not low <= value <= high:
        raise line.fault("value", f"{value:g} is outside its interval {low:g} to {high:g}")
    scored, total = line.given("scored"), line.given("total")
    if scored != int(scored) or total != int(total) or not 0 <= scored <= total or not total:
        raise line.fault("scored", f"{scored:g} of {total:g} is no count of rows")
    return Estimate(value, low, high, int(scored), int(total), "given")


def _of_samples(benchmark: str, lines: Sequence[_Line]) -> list[Entry]:
    """Samples that any model has count for every model: what one lacks is a gap, not a smaller benchmark."""
    scale, clusters = _scale(lines), _clusters(lines)
    models: dict[str, dict[str, float]] = {}
    for line in lines:
        values, sample = models.setdefault(line.text("model"), {}), line.text("sample")
        if sample in values:
            raise line.fault("sample", f"'{sample}' stands twice for {line.text('model')} on {benchmark}")
        values[sample] = scale.check(line, "value")
    entries = []
    for model, values in models.items():
        evidence = _evidence(benchmark, model, (scale, clusters, values))
        entries.append(_entry(benchmark, model, scale, estimate_of(evidence), evidence))
    return entries


def _clusters(lines: Sequence[_Line]) -> dict[str, str | None]:
    """The cluster of each sample, in order of first appearance."""
    found: dict[str, str | None] = {}
    for line in lines:
        cluster = None if _missing(line.cells.get("cluster")) else str(line.cells["cluster"])
        sample = line.text("sample")
        if found.setdefault(sample, cluster) != cluster:
            raise line.fault("cluster", f"{cluster!r} differs from {found[sample]!r} of the same sample")
    return found


def _evidence(
    benchmark: str, model: str, data: tuple[_Scale, Mapping[str, str | None], Mapping[str, float]]
) -> Evidence:
    scale, clusters, values = data
    column = np.array([[values.get(sample, math.nan)] for sample in clusters])
    outcomes = np.where(np.isnan(column), int(Outcome.failed), int(Outcome.scored)).astype(np.int8)
    outcomes[[sample not in values for sample in clusters]] = NO_ROW
    nothing = np.full(column.shape, math.nan)
    ids = tuple(clusters)
    return Evidence(
        benchmark=benchmark,
        runs=(RunFact(key="frame", digest="", model=model, model_hash=model),),
        parts={},
        ids=ids,
        contents=ids,
        clusters=tuple(clusters.values()),
        slices=({},) * len(ids),
        columns={scale.metric: Column(scale.metric, scale.worst, scale.best, scale.binary, column, outcomes)},
        usage=Usage(nothing, nothing, nothing, np.zeros(column.shape, dtype=bool)),
        total=len(ids),
        chance=scale.chance,
    )


def _entry(benchmark: str, model: str, scale: _Scale, estimate: Estimate, evidence: Evidence | None = None) -> Entry:
    counts = {Outcome.scored: estimate.scored} if evidence is None else evidence.score.counts()
    return Entry(
        benchmark=benchmark,
        fingerprint="frame",
        part=PART,
        model=model,
        model_hash=model,
        metric=scale.metric,
        estimate=estimate,
        run="frame",
        finished=0,
        chance=scale.chance,
        worst=scale.worst,
        best=scale.best,
        outcomes=counts,
        evidence=evidence,
    )


def _missing(value: Any) -> bool:
    """None, NaN, NaT or pandas.NA (which is neither equal to itself nor different)."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)
