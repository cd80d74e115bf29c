"""The score of every model on each value of a slice: where one is strong and another weak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vevals.board.entries import Entry, estimate_of
from vevals.board.table import Board
from vevals.errors import BenchmarkError
from vevals.types import Estimate

FEWEST = 10
"""Values of a slice with fewer samples are listed, not estimated."""


@dataclass(frozen=True, slots=True)
class SliceScore:
    """One model on one value of a slice of a benchmark; ``estimate`` is None where there are too few samples.

    ``ends``: the worst and the best value of the metric.
    """

    benchmark: str
    metric: str
    field: str
    value: str
    model: str
    samples: int
    estimate: Estimate | None
    ends: tuple[float, float] = (0.0, 1.0)


def by_slice(board: Board, field: str) -> list[SliceScore]:
    """Scores by value of ``field``, for every benchmark of the board whose samples have it; not rescaled.

    Raises:
        BenchmarkError: no benchmark has it.
    """
    found = [score for name in board.benchmarks for score in _of_benchmark(board, name, field)]
    if not found:
        known = sorted({key for row in board.rows for cell in row.cells.values() for key in _fields(cell)})
        there = f"there is {', '.join(known)}" if known else "there are no slices at all"
        raise BenchmarkError(f"no sample on this board has the slice '{field}'; {there}")
    return found


def _of_benchmark(board: Board, name: str, field: str) -> list[SliceScore]:
    """By value, and for each value all models whose samples are known."""
    cells = [(row.model, row.cells[name]) for row in board.rows if name in row.cells]
    rows = {model: _rows(cell, field) for model, cell in cells}
    values = sorted({value for known in rows.values() for value in known})
    return [
        _score(model, cell, (field, value), rows[model][value])
        for value in values
        for model, cell in cells
        if value in rows[model]
    ]


def _score(model: str, cell: Entry, of: tuple[str, str], rows: Sequence[int]) -> SliceScore:
    evidence = cell.evidence
    estimate = estimate_of(evidence.take(rows)) if evidence is not None and len(rows) >= FEWEST else None
    return SliceScore(cell.benchmark, cell.metric, *of, model, len(rows), estimate, (cell.worst, cell.best))


def _rows(cell: Entry, field: str) -> dict[str, list[int]]:
    """Rows of each value of the field; samples without one are in no slice."""
    found: dict[str, list[int]] = {}
    for row, slices in enumerate(cell.evidence.slices if cell.evidence else ()):
        if field in slices:
            found.setdefault(slices[field], []).append(row)
    return found


def _fields(cell: Entry) -> set[str]:
    return {key for slices in (cell.evidence.slices if cell.evidence else ()) for key in slices}
