"""Entries of a leaderboard made from numbers: what a store would hold, without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vevals.board import Entry
from vevals.board.entries import estimate_of
from vevals.evidence import Column, Evidence, RunFact, Statistic, Usage
from vevals.types import Outcome


def evidence(
    benchmark: str,
    model: str,
    values: Sequence[Any],
    *,
    binary: bool = True,
    ends: tuple[float, float] = (0.0, 1.0),
    chance: float = 0.0,
    clusters: Sequence[str] = (),
    slices: Sequence[Mapping[str, str]] = (),
    statistic: Statistic | None = None,
    seconds: Sequence[float] | float = 0.0,
    tokens: float = 0.0,
    cached: Sequence[bool] | bool = False,
) -> Evidence:
    """Rows of one run; a value of None is a failed row, a list of values are repeats. Samples are s0, s1, ..."""
    table = np.array([row if isinstance(row, list) else [row] for row in values], dtype=float)
    ids = tuple(f"s{number}" for number in range(len(table)))
    outcomes = np.where(np.isnan(table), int(Outcome.failed), int(Outcome.scored)).astype(np.int8)

    def spread(given: Any) -> Any:
        return np.broadcast_to(np.asarray(given).reshape(-1, 1), table.shape).copy()

    return Evidence(
        benchmark=benchmark,
        runs=(RunFact("key", "digest", model, model),),
        parts={},
        ids=ids,
        contents=ids,
        clusters=tuple(clusters) or (None,) * len(ids),
        slices=tuple(slices) or ({},) * len(ids),
        columns={"score": Column("score", *ends, binary, table, outcomes, statistic)},
        usage=Usage(spread(tokens), spread(0.0), spread(seconds), spread(cached)),
        total=table.size,
        chance=chance,
    )


def entry(rows: Evidence, **changes: Any) -> Entry:
    """The entry of a run with these rows."""
    model = rows.runs[0].model
    known: dict[str, Any] = {
        "benchmark": rows.benchmark,
        "fingerprint": "f",
        "part": (None, None, 0),
        "model": model,
        "model_hash": model,
        "metric": "accuracy",
        "estimate": estimate_of(rows),
        "run": "0123456789abcdef",
        "finished": 1,
        "chance": rows.chance,
        "worst": rows.score.worst,
        "best": rows.score.best,
        "outcomes": rows.score.counts(),
        "evidence": rows,
    }
    return Entry(**{**known, **changes})


def scored(benchmark: str, model: str, right: int, total: int, **settings: Any) -> Entry:
    """A binary benchmark of which a model has the first ``right`` samples right."""
    return entry(evidence(benchmark, model, [1] * right + [0] * (total - right), **settings))
