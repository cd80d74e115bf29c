"""The Python interface: the same nouns and verbs as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vevals import board as boards
from vevals import runner, session
from vevals.benchmark import Benchmark
from vevals.errors import VevalsError
from vevals.models import Model, load_model
from vevals.prices import load_prices
from vevals.registry import open_registry
from vevals.runner import Result, Silent, Slice
from vevals.store import open_store

if TYPE_CHECKING:
    import pandas


def list_benchmarks(pattern: str = "*", *, folders: Sequence[str | Path] = ()) -> list[str]:
    """Names of all benchmarks that match ``pattern``. ``folders``: further places to look."""
    return open_registry([Path(folder) for folder in folders]).names([pattern])


def load_benchmark(
    name: str, *, folders: Sequence[str | Path] = (), include_path: Sequence[str | Path] = ()
) -> Benchmark:
    """The benchmark called ``name``, such as ``"medical/triage"`` or ``"lm-eval:arc_easy"``.

    Args:
        folders: further places to look for benchmarks; include_path: folders of YAML files for lm-eval.
    """
    return open_registry([Path(folder) for folder in folders], [Path(folder) for folder in include_path]).get(name)


def run(
    benchmark: str | Benchmark,
    model: str | Model,
    *,
    limit: int | None = None,
    draw: int | None = None,
    seed: int = 0,
    db: str | Path | None = None,
    accept_license: bool = False,
) -> Result:
    """Evaluate one model on one benchmark; what the store has already is not asked again.

    Args:
        limit: only the first rows; draw: only the first samples of the seeded order.
        db: path or URL of the store (default ``$VEVALS_DB`` or ``results/vevals.db``).
    """
    chosen = load_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    part = Slice(limit, draw, seed)
    selection = session.Selection([chosen], {chosen.name: part})
    if isinstance(model, str):
        loaded = session.prepare(selection, [model], accept_license)
    else:
        session.prepare(selection, [], accept_license)
        loaded = [model]
    with open_store(None if db is None else str(db)) as store:
        result = runner.run(chosen, loaded[0], store, part, Silent())
    if isinstance(model, str):
        loaded[0].close()
    return result


def leaderboard(
    suite: str | None = None, *, db: str | Path | None = None, frame: pandas.DataFrame | None = None
) -> pandas.DataFrame:
    """All finished runs, or the scores in ``frame``, as one row a model, best first (see ``vevals.board.to_frame``).

    Args:
        suite: only its benchmarks, with its weights.
        frame: columns model, benchmark, value and sample, or low, high, scored, total (``vevals.board.from_frame``).

    Raises:
        VevalsError: no such suite, no results, or what is wrong in which column and row of ``frame``.
    """
    if frame is not None:
        return boards.to_frame(_board_of_frame(frame, suite, db))
    with open_store(None if db is None else str(db), create=False) as store:
        registry = open_registry() if suite else None
        return boards.to_frame(session.board(store, registry, suite, prices=load_prices()))


def _board_of_frame(frame: pandas.DataFrame, suite: str | None, db: str | Path | None) -> boards.Board:
    if db is not None:
        raise VevalsError("give db or frame, not both")
    entries = boards.from_frame(frame)
    if suite is None:
        return boards.build(entries, {})
    chosen = open_registry().suite(suite)
    return boards.build(entries, chosen.weights, chosen.benchmarks)


__all__ = ["leaderboard", "list_benchmarks", "load_benchmark", "load_model", "run"]
