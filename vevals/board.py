"""Finished runs -> one comparable table of models. Pure: rows in, rows out.

A benchmark's score is rescaled so that chance is 0 and perfect is 1; a domain is the plain mean of its benchmarks;
the overall score is the weighted mean of the domains. A model with a gap has no overall score: a mean over other
benchmarks than its neighbour's would be no comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vevals.canonical import finite
from vevals.display import points
from vevals.types import Estimate, Outcome

if TYPE_CHECKING:
    import pandas

ENOUGH_COVERAGE = 0.99


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished run under its leaderboard metric. ``part`` says which samples: (limit, draw, seed)."""

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
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def domain(self) -> str:
        """First part of the benchmark's name."""
        return self.benchmark.split("/")[0]

    @property
    def rescaled(self) -> Estimate:
        """The estimate with chance at 0 and perfect at 1; linear, so the bounds carry over."""
        old = self.estimate
        value, low, high = ((x - self.chance) / (1 - self.chance) for x in (old.value, old.low, old.high))
        return Estimate(value, low, high, old.scored, old.total, old.method)


@dataclass(frozen=True, slots=True)
class Row:
    """One model. ``overall`` is None while ``problem`` says what is missing."""

    model: str
    model_hash: str
    cells: Mapping[str, Entry]
    overall: Estimate | None
    problem: str = ""

    @property
    def seconds(self) -> float:
        """Model time of all runs together."""
        return sum(cell.seconds for cell in self.cells.values())

    def tokens(self, kind: str) -> int:
        """``input_tokens``, ``output_tokens``, ``cached`` or ``present`` of all runs together."""
        return int(sum(cell.usage.get(kind, 0) for cell in self.cells.values()))


@dataclass(frozen=True, slots=True)
class Board:
    """All models over the same benchmarks, best first; those without an overall score last."""

    benchmarks: tuple[str, ...]
    weights: Mapping[str, float]
    rows: tuple[Row, ...]
    left_out: int = 0


def build(entries: Sequence[Entry], weights: Mapping[str, float], benchmarks: Sequence[str] = ()) -> Board:
    """Put comparable runs side by side.

    For each benchmark one kind of run counts (same fingerprint, same samples): the one over most samples, and of those
    the newest. Runs of another kind are left out and counted.
    ``benchmarks``: what a complete model must have (default: all that occur). ``weights``: of domains, default 1.
    """
    comparable = _one_kind(entries)
    names = tuple(benchmarks) or tuple(sorted({entry.benchmark for entry in comparable}))
    models: dict[str, dict[str, Entry]] = {}
    for entry in comparable:
        if entry.benchmark in names:
            models.setdefault(entry.model_hash, {})[entry.benchmark] = entry
    domains = sorted({name.split("/")[0] for name in names})
    known = {domain: float(weights.get(domain, 1.0)) for domain in domains}
    labels = _labels(models)
    rows = [_row(labels[key], key, cells, names, known) for key, cells in models.items()]
    return Board(names, known, tuple(sorted(rows, key=_order)), len(entries) - len(comparable))


def to_frame(board: Board) -> pandas.DataFrame:
    """One row a model: ``model, overall, low, high, problem``, then one column a benchmark (not rescaled)."""
    import pandas

    columns = ["model", "overall", "low", "high", "problem", *board.benchmarks]
    records = []
    for row in board.rows:
        overall = row.overall or Estimate(math.nan, math.nan, math.nan, 0, 0, "")
        values = [row.cells[name].estimate.value if name in row.cells else math.nan for name in board.benchmarks]
        records.append([row.model, overall.value, overall.low, overall.high, row.problem, *values])
    return pandas.DataFrame(records, columns=columns)


def to_records(board: Board) -> list[dict[str, Any]]:
    """One record a model and benchmark, plus one with ``benchmark: overall``: for CSV and JSON."""
    records = []
    for row in board.rows:
        if row.overall is not None:
            records.append(_record(row.model, "overall", "rescaled mean", row.overall))
        for name in board.benchmarks:
            if name in row.cells:
                cell = row.cells[name]
                extra = {"chance": cell.chance, "run": cell.run, "seconds": round(cell.seconds, 3), **cell.usage}
                counts = {outcome.name: cell.outcomes.get(outcome, 0) for outcome in Outcome}
                records.append({**_record(row.model, name, cell.metric, cell.estimate), **extra, "outcomes": counts})
    return records


def to_csv(board: Board) -> str:
    """``to_records`` as CSV; a cell that a spreadsheet would take for a formula gets a leading quote."""
    import csv
    import io

    out = io.StringIO()
    records = [_flat(record) for record in to_records(board)]
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in record.items()} for record in records)
    return out.getvalue()


def to_markdown(board: Board) -> str:
    """A table of models and a table of models x benchmarks, for a README or a comment."""
    from vevals.display import percent

    lines = ["| model | overall, chance = 0, perfect = 100 |", "|---|---|"]
    for row in board.rows:
        value = row.overall
        shown = points(value.value, value.low, value.high) if value else row.problem
        lines.append(f"| {_cell(row.model)} | {shown} |")
    lines += ["", "| benchmark | model | score | samples |", "|---|---|---|---|"]
    for name in board.benchmarks:
        for row in board.rows:
            if name in row.cells:
                cell = row.cells[name]
                rows = f"{cell.estimate.scored}/{cell.estimate.total}"
                lines.append(f"| {name} ({cell.metric}) | {_cell(row.model)} | {percent(cell.estimate)} | {rows} |")
    return "\n".join(lines) + "\n"


def _record(model: str, benchmark: str, metric: str, estimate: Estimate) -> dict[str, Any]:
    numbers = {name: finite(getattr(estimate, name)) for name in ("value", "low", "high")}
    return {
        "model": model,
        "benchmark": benchmark,
        "metric": metric,
        **numbers,
        "scored": estimate.scored,
        "total": estimate.total,
        "method": estimate.method,
    }


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in record.items() if key != "outcomes"}, **record.get("outcomes", {})}


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _one_kind(entries: Sequence[Entry]) -> list[Entry]:
    kinds: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.estimate.total, entry.finished)):
        kinds[entry.benchmark] = entry
    chosen = {name: (entry.fingerprint, entry.part) for name, entry in kinds.items()}
    kept = [entry for entry in entries if (entry.fingerprint, entry.part) == chosen[entry.benchmark]]
    return sorted(kept, key=lambda entry: entry.finished)


def _labels(models: Mapping[str, Mapping[str, Entry]]) -> Mapping[str, str]:
    """Names to show; where two different models go by one name, the start of their hash tells them apart."""
    names = {key: max(cells.values(), key=lambda cell: cell.finished).model for key, cells in models.items()}
    listed = list(names.values())
    return {key: name if listed.count(name) == 1 else f"{name} #{key[:6]}" for key, name in names.items()}


def _row(label: str, key: str, cells: Mapping[str, Entry], names: Sequence[str], weights: Mapping[str, float]) -> Row:
    missing = [name for name in names if name not in cells]
    thin = [name for name in names if name in cells and cells[name].estimate.coverage < ENOUGH_COVERAGE]
    if missing:
        return Row(label, key, cells, None, f"incomplete {len(cells)}/{len(names)}, no overall score")
    if thin:
        share = cells[thin[0]].estimate.coverage
        return Row(label, key, cells, None, f"no overall score: {100 * share:.0f}% of {thin[0]}")
    return Row(label, key, cells, _overall([cells[name] for name in names], weights))


def _overall(cells: Sequence[Entry], weights: Mapping[str, float]) -> Estimate:
    """Weighted mean of domain means. Its interval keeps each benchmark's own, asymmetric one (MOVER).

    Source: Zou and Donner (2008), doi:10.1002/sim.3095, for a weighted sum of independent estimates.
    """
    total = sum(weights.values())
    mean, below, above = 0.0, 0.0, 0.0
    for domain, weight in weights.items():
        inside = [cell.rescaled for cell in cells if cell.domain == domain]
        for estimate in inside:
            share = weight / total / len(inside)
            mean += share * estimate.value
            below += (share * (estimate.value - estimate.low)) ** 2
            above += (share * (estimate.high - estimate.value)) ** 2
    scored, rows = (sum(getattr(cell.estimate, name) for cell in cells) for name in ("scored", "total"))
    return Estimate(mean, mean - math.sqrt(below), mean + math.sqrt(above), scored, rows, "weighted mean, MOVER")


def _order(row: Row) -> tuple[bool, float, str]:
    return row.overall is None, -row.overall.value if row.overall else 0.0, row.model
