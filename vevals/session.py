"""Several benchmarks x several models: which runs are wanted, in which order, and the board over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vevals import licences, runner
from vevals.benchmark import Benchmark
from vevals.board import Board, Entry, build
from vevals.errors import BenchmarkError
from vevals.models import Model, load_model
from vevals.registry import Registry, Suite
from vevals.runner import Result, Slice, Watcher
from vevals.store import RunRow, Store
from vevals.types import Outcome


@dataclass(frozen=True, slots=True)
class Selection:
    """The benchmarks of one command with the part of each, and the weights of their domains."""

    benchmarks: Sequence[Benchmark]
    parts: Mapping[str, Slice]
    weights: Mapping[str, float] = field(default_factory=dict)


def select(registry: Registry, suite: str | None, patterns: Sequence[str], part: Slice) -> Selection:
    """Benchmarks of a suite, or by pattern. A suite brings its own draws and weights; ``part`` overrides the draws."""
    if suite is None and not patterns:
        raise BenchmarkError("say what to run: --suite NAME or --benchmark PATTERN; 'vevals list' shows what there is")
    if suite is not None and patterns:
        raise BenchmarkError("give --suite or --benchmark, not both")
    if suite is None:
        found = registry.find(patterns)
        return Selection(found, {benchmark.name: part for benchmark in found})
    chosen = registry.suite(suite)
    parts = {name: _suite_part(chosen, name, part) for name in chosen.benchmarks}
    return Selection([registry.get(name) for name in chosen.benchmarks], parts, chosen.weights)


def _suite_part(suite: Suite, name: str, part: Slice) -> Slice:
    return part if part.limit or part.draw else replace(part, draw=suite.draws[name])


def prepare(selection: Selection, models: Sequence[str], accept_license: bool = False) -> list[Model]:
    """Find every fault that shows without a model's weights: licences, data, prompts, model names."""
    loaded = [load_model(spec) for spec in models]
    for benchmark in selection.benchmarks:
        licences.require(benchmark, accept_license)
        part = selection.parts[benchmark.name].of(len(benchmark.samples))
        samples = runner.choose(benchmark, part)
        for model in loaded:
            runner.ask_for(benchmark, model, samples, part)
    return loaded


def run_all(selection: Selection, models: Sequence[Model], store: Store, watch: Watcher) -> Iterator[Result]:
    """Every benchmark on every model, one model at a time so that only one holds its weights."""
    for model in models:
        try:
            for benchmark in selection.benchmarks:
                yield runner.run(benchmark, model, store, selection.parts[benchmark.name], watch)
        finally:
            model.close()


def first_failure(store: Store, result: Result) -> str:
    """Why the first sample of a run has no score, in one line; empty when all have one."""
    metric = result.estimates[0][0]
    for outcome in (Outcome.failed, Outcome.unjudgeable):
        for row in store.samples(result.run, metric, outcome):
            return f"{result.run.benchmark} · {result.run.model}: {row['error'] or row['note']}"
    return ""


def entries(store: Store, keep: Sequence[str] | None = None) -> list[Entry]:
    """All finished runs of the store (or those with these keys) as rows for a leaderboard."""
    found = []
    for run in store.runs():
        if run.finished is not None and (keep is None or run.key in keep):
            found.append(_entry(store, run))
    return found


def _entry(store: Store, run: RunRow) -> Entry:
    metric, estimate = store.estimates(run.id)[0]
    return Entry(
        benchmark=run.benchmark,
        fingerprint=run.fingerprint,
        part=(run.limit, run.draw, run.seed),
        model=run.title,
        model_hash=f"{run.model_hash} {run.label}".strip(),
        metric=metric,
        estimate=estimate,
        run=run.key[:8],
        finished=run.finished or 0,
        chance=float(run.spec.get("chance", 0.0)),
        outcomes=store.outcomes(run.id).get(metric, {}),
        usage=store.usage(run.id),
        seconds=run.seconds,
    )


def board_of(store: Store, results: Sequence[Result], selection: Selection) -> Board:
    """The leaderboard of just these runs."""
    keys = [result.run.key for result in results]
    return build(entries(store, keys), selection.weights, [benchmark.name for benchmark in selection.benchmarks])


def board(store: Store, registry: Registry | None = None, suite: str | None = None) -> Board:
    """The leaderboard of the store: of one suite (its benchmarks, draws and weights), or of everything."""
    found = entries(store)
    if suite is None or registry is None:
        return build(found, {})
    chosen = registry.suite(suite)
    wanted = [entry for entry in found if _in_suite(entry, chosen)]
    return build(wanted, chosen.weights, chosen.benchmarks)


def _in_suite(entry: Entry, suite: Suite) -> bool:
    """Whether a run took the samples that the suite asks for."""
    if entry.benchmark not in suite.draws:
        return False
    limit, draw, _ = entry.part
    wanted = suite.draws[entry.benchmark]
    return limit is None and (
        draw == wanted or (draw is None and wanted is not None and wanted >= entry.estimate.total)
    )
