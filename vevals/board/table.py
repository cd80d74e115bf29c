"""Entries -> one comparable table of models, ranked as far as the data allow.

A benchmark's score is rescaled so that chance is 0 and perfect is 1; a domain is the plain mean of its benchmarks;
the overall score is the weighted mean of the domains. A model with a gap has no overall score: a mean over other
benchmarks than its neighbour's would be no comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vevals.board import spending
from vevals.board.differences import differences
from vevals.board.entries import Entry, comparable
from vevals.evidence import Floats
from vevals.prices import Prices
from vevals.statistics.ranks import lead_shares, pareto, rank_sets, tiers
from vevals.types import Estimate

ENOUGH_COVERAGE = 0.99
DRAWS = 2000
SCORE = "score"
NO_PRICES = Prices({})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a complete model stands: the set of ranks that the data leave open, and models of equal sets by letter.

    ``lead_share``: in which share of all weightings of the domains it leads; None with a single domain or model.
    ``choice``: no other model is as good in every dimension and certainly better in one; None if only the score is
    known.
    """

    rank_low: int
    rank_high: int
    tier: str
    lead_share: float | None = None
    choice: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One model. ``overall`` and ``standing`` are None while ``problem`` says what is missing.

    ``usd_per_1k_samples`` and ``seconds_per_sample``: without answers from the store; None where unknown.
    """

    model: str
    model_hash: str
    cells: Mapping[str, Entry]
    overall: Estimate | None
    problem: str = ""
    standing: Standing | None = None
    usd_per_1k_samples: float | None = None
    seconds_per_sample: float | None = None

    @property
    def seconds(self) -> float:
        """Model time of all runs together."""
        return sum(cell.seconds for cell in self.cells.values())

    @property
    def tested(self) -> bool:
        """Whether the rows of all its runs are known, without which there is no paired test."""
        return all(cell.evidence is not None for cell in self.cells.values())

    def tokens(self, kind: str) -> int:
        """``input_tokens``, ``output_tokens``, ``cached`` or ``present`` of all runs together."""
        return int(sum(cell.usage.get(kind, 0) for cell in self.cells.values()))


@dataclass(frozen=True, slots=True)
class Pair:
    """The paired difference of two models' overall scores with its two-sided 95% interval (NaN: cannot be tested)."""

    one: str
    other: str
    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Board:
    """All models over the same benchmarks, best first; those without an overall score last.

    ``pairs``: all pairs of ranked models, the better one first. ``dimensions``: what the choices were weighed by.
    """

    benchmarks: tuple[str, ...]
    weights: Mapping[str, float]
    rows: tuple[Row, ...]
    left_out: int = 0
    pairs: tuple[Pair, ...] = ()
    dimensions: tuple[str, ...] = (SCORE,)

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The complete models."""
        return tuple(row for row in self.rows if row.overall is not None)


def build(
    entries: Sequence[Entry],
    weights: Mapping[str, float],
    benchmarks: Sequence[str] = (),
    prices: Prices = NO_PRICES,
) -> Board:
    """Put comparable runs side by side and rank the complete models.

    For each benchmark one kind of run counts (see ``comparable``); runs of another kind are left out and counted.
    ``benchmarks``: what a complete model must have (default: all that occur). ``weights``: of domains, default 1.
    """
    kept = comparable(entries)
    names = tuple(benchmarks) or tuple(sorted({entry.benchmark for entry in kept}))
    models: dict[str, dict[str, Entry]] = {}
    for entry in kept:
        if entry.benchmark in names:
            models.setdefault(entry.model_hash, {})[entry.benchmark] = entry
    domains = sorted({name.split("/")[0] for name in names})
    known = {domain: float(weights.get(domain, 1.0)) for domain in domains}
    labels = _labels(models)
    rows = [_row(labels[key], key, cells, names, known) for key, cells in models.items()]
    board = Board(names, known, tuple(sorted(rows, key=_order)), len(entries) - len(kept))
    return _ranked(board, prices)


def shares(names: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Weight of each benchmark in the overall score: its domain's, split evenly inside the domain. Sums to 1."""
    total = sum(weights.values())
    inside = {domain: [name for name in names if name.split("/")[0] == domain] for domain in weights}
    return {name: weights[domain] / total / len(found) for domain, found in inside.items() for name in found}


def _ranked(board: Board, prices: Prices) -> Board:
    bills = [spending.bill(row.cells, prices) for row in board.rows]
    cost, pace = ([spending.mean(bill, board.benchmarks, what) for bill in bills] for what in spending.SPENDING)
    rows = [
        replace(row, usd_per_1k_samples=usd, seconds_per_sample=seconds)
        for row, usd, seconds in zip(board.rows, cost, pace, strict=True)
    ]
    complete = len(board.ranked)
    if not complete:
        return replace(board, rows=tuple(rows))
    ranked, pairs, dimensions = _standings(board, rows[:complete], bills[:complete])
    return replace(board, rows=(*ranked, *rows[complete:]), pairs=pairs, dimensions=dimensions)


def _standings(
    board: Board, rows: Sequence[Row], bills: Sequence[spending.Bill]
) -> tuple[list[Row], tuple[Pair, ...], tuple[str, ...]]:
    """The complete models, best first, with their standing; all pairs; what the choices were weighed by."""
    found = differences([row.cells for row in rows], shares(board.benchmarks, board.weights))
    values = _overalls(rows)
    sets = rank_sets(values, found.p)
    leads = _leads(rows, board)
    dimensions, choices = _choices(rows, bills, board.benchmarks, found.low > 0)
    standings = [
        Standing(low, high, tier, lead, choice)
        for (low, high), tier, lead, choice in zip(sets, tiers(sets), leads, choices, strict=True)
    ]
    ranked = [replace(row, standing=standing) for row, standing in zip(rows, standings, strict=True)]
    pairs = tuple(
        Pair(
            rows[i].model,
            rows[j].model,
            float(values[i] - values[j]),
            float(found.low[i, j]),
            float(found.high[i, j]),
            float(found.p[i, j]),
        )
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    )
    return ranked, pairs, dimensions


def _overalls(rows: Sequence[Row]) -> Floats:
    return np.array([row.overall.value for row in rows if row.overall is not None])


def _leads(rows: Sequence[Row], board: Board) -> list[float | None]:
    """For each model the share of weightings under which it leads; None without a choice of domains or of models."""
    if len(rows) < 2 or len(board.weights) < 2:
        return [None] * len(rows)
    scores = [[_domain_mean(row, domain, board.benchmarks) for domain in board.weights] for row in rows]
    return [float(share) for share in lead_shares(np.array(scores), draws=DRAWS)]


def _domain_mean(row: Row, domain: str, names: Sequence[str]) -> float:
    inside = [row.cells[name].rescaled.value for name in names if name.split("/")[0] == domain]
    return sum(inside) / len(inside)


def _choices(
    rows: Sequence[Row], bills: Sequence[spending.Bill], names: Sequence[str], better: NDArray[np.bool_]
) -> tuple[tuple[str, ...], list[bool | None]]:
    """By the score and by what is known to be spent for all models; None where the score stands alone."""
    values, betters, dimensions = [_overalls(rows)], [better], [SCORE]
    for what, name in spending.SPENDING.items():
        means = [spending.mean(bill, names, what) for bill in bills]
        if None not in means:
            values.append(-np.array(means, dtype=float))
            betters.append(spending.takes_less(bills, names, what))
            dimensions.append(name)
    if len(dimensions) == 1 or len(rows) < 2:
        return (SCORE,), [None] * len(rows)
    return tuple(dimensions), pareto(np.stack(values, axis=-1), np.stack(betters, axis=-1))


def _labels(models: Mapping[str, Mapping[str, Entry]]) -> Mapping[str, str]:
    """Names to show; where two different models go by one name, the start of their hash tells them apart."""
    names = {key: max(cells.values(), key=lambda cell: cell.finished).model for key, cells in models.items()}
    listed = list(names.values())
    return {key: name if listed.count(name) == 1 else f"{name} #{key[:6]}" for key, name in names.items()}


def _row(label: str, key: str, cells: Mapping[str, Entry], names: Sequence[str], weights: Mapping[str, float]) -> Row:
    missing = [name for name in names if name not in cells]
    thin = [name for name in names if name in cells and cells[name].estimate.coverage < ENOUGH_COVERAGE]
    endless = [name for name in names if name in cells and not cells[name].bounded]
    blank = [name for name in names if name in cells and math.isnan(cells[name].estimate.value)]
    if missing:
        return Row(label, key, cells, None, f"incomplete {len(cells)}/{len(names)}, no overall rank")
    if thin:
        share = cells[thin[0]].estimate.coverage
        return Row(label, key, cells, None, f"no overall score: {100 * share:.0f}% of {thin[0]}")
    if endless:
        return Row(label, key, cells, None, f"no overall score: {endless[0]} has no best value")
    if blank:
        return Row(label, key, cells, None, f"no overall score: {blank[0]} has no value")
    return Row(label, key, cells, _overall([cells[name] for name in names], shares(names, weights)))


def _overall(cells: Sequence[Entry], weights: Mapping[str, float]) -> Estimate:
    """Weighted mean. Its interval keeps each benchmark's own, asymmetric one (MOVER). ``weights``: by benchmark, sum 1.

    Source: Zou and Donner (2008), doi:10.1002/sim.3095, for a weighted sum of independent estimates.
    """
    mean, below, above = 0.0, 0.0, 0.0
    for cell in cells:
        estimate, share = cell.rescaled, weights[cell.benchmark]
        mean += share * estimate.value
        below += (share * (estimate.value - estimate.low)) ** 2
        above += (share * (estimate.high - estimate.value)) ** 2
    scored, rows = (sum(getattr(cell.estimate, name) for cell in cells) for name in ("scored", "total"))
    return Estimate(mean, mean - math.sqrt(below), mean + math.sqrt(above), scored, rows, "weighted mean, MOVER")


def _order(row: Row) -> tuple[bool, float, str]:
    return row.overall is None, -row.overall.value if row.overall else 0.0, row.model
