"""``vevals rescore``: what stored replies are worth under the scorers of today."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vevals.cli.options import Db, Folders, IncludePath, Json

if TYPE_CHECKING:
    from vevals.registry import Registry
    from vevals.store import RunRow, Store
    from vevals.types import Estimate

    Scored = tuple[str, Estimate]
    """The first metric of a run, and its estimate."""
    Pairs = Sequence[tuple[RunRow, RunRow]]
    """Runs as they were, and as they are scored now."""


def rescore(
    run: Annotated[list[str] | None, typer.Argument(help="First digits of the keys of runs; all where none.")] = None,
    benchmark: Annotated[
        str, typer.Option("--benchmark", "-b", help="Only runs of this benchmark, domain or pattern.")
    ] = "*",
    db: Db = None,
    benchmarks: Folders = None,
    include_path: IncludePath = None,
    json: Json = False,
) -> None:
    """Score stored replies anew, without a model.

    For runs whose metric or extractor has changed; the old runs stay, and it is told which verdicts move.
    """
    from vevals import release
    from vevals.cli import output, verdicts
    from vevals.registry import open_registry
    from vevals.store import open_store

    with open_store(db, create=False) as store:
        pairs = _pairs(store, open_registry(benchmarks or [], include_path or []), run or [], benchmark)
        scores = [(old, store.estimates(old.id)[0], new, store.estimates(new.id)[0]) for old, new in pairs]
        moved = release.moved(store, {old.digest: new.digest for old, new in pairs})
    if json:
        runs, judged = [_record(*score) for score in scores], [verdicts.moved_record(one) for one in moved]
        return output.print_json({"runs": runs, "verdicts": judged})
    _print(scores)
    return verdicts.print_moved(moved)


def _pairs(store: Store, registry: Registry, names: Sequence[str], pattern: str) -> Pairs:
    """All wanted runs that are scored otherwise now. One that cannot be is an error if it was named, else a note."""
    from functools import cache

    from vevals.errors import VevalsError
    from vevals.rescore import rescore

    found = []
    benchmark_of = cache(registry.get)
    for old in _wanted(store, names, pattern):
        try:
            new = rescore(store, old, benchmark_of(old.benchmark))
        except VevalsError as error:
            if names:
                raise
            print(f"Left out: {error}", file=sys.stderr)
            continue
        if new is not None:
            found.append((old, new))
    return found


def _wanted(store: Store, names: Sequence[str], pattern: str) -> list[RunRow]:
    from fnmatch import fnmatchcase

    from vevals.types import RunStatus

    runs = [store.run(name) for name in names] or [run for run in store.runs() if run.status is RunStatus.finished]
    domain = f"{pattern.rstrip('/')}/"
    return [run for run in runs if fnmatchcase(run.benchmark, pattern) or run.benchmark.startswith(domain)]


def _record(old: RunRow, before: Scored, new: RunRow, after: Scored) -> dict[str, object]:
    sides = {
        side: {"run": run.key[:8], "metric": name, "value": score.value, "low": score.low, "high": score.high}
        for side, run, (name, score) in (("old", old, before), ("new", new, after))
    }
    return {"benchmark": old.benchmark, "model": old.title, **sides}


def _print(scores: Sequence[tuple[RunRow, Scored, RunRow, Scored]]) -> None:
    from vevals.cli import output
    from vevals.display import percent

    if not scores:
        print("Nothing to do: no run was scored by another scorer than that of today.")
        return
    made = output.table("run", "benchmark", "model", "was", "is", "new run")
    for old, before, new, after in scores:
        model = output.cell(old.title)
        made.add_row(old.key[:8], old.benchmark, model, percent(before[1]), percent(after[1]), new.key[:8])
    output.console().print(made)
