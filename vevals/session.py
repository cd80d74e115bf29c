"""Several benchmarks x several models: which runs are wanted, in which order, and the board over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from vevals import licences, runner
from vevals.benchmark import Benchmark
from vevals.board import NO_PRICES, Board, Entry, build, comparable, with_evidence
from vevals.errors import BenchmarkError
from vevals.models import Model, load_model
from vevals.prices import Prices, load_prices
from vevals.registry import Registry, Suite
from vevals.runner import Result, Slice, Watcher
from vevals.runsets import evidence_of, has_current_metrics
from vevals.store import RunRow, Store
from vevals.types import Outcome


@dataclass(frozen=True, slots=True)
class Selection:
    """The benchmarks of one command with the part of each, and the weights of their domains."""

    benchmarks: Sequence[Benchmark]
    parts: Mapping[str, Slice]
    weights: Mapping[str, float] = field(default_factory=dict)


def select(
    registry: Registry, suite: str | None, patterns: Sequence[str], part: Slice, temperature: float | None = None
) -> Selection:
    """Benchmarks of a suite, or by pattern. A suite brings its own draws and weights; ``part`` overrides the draws, and
    ``temperature`` that of the benchmarks that generate text.
    """
    if suite is None and not patterns:
        raise BenchmarkError("say what to run: --suite NAME or --benchmark PATTERN; 'vevals list' shows what there is")
    if suite is not None and patterns:
        raise BenchmarkError("give --suite or --benchmark, not both")
    if suite is None:
        found = _warmed(registry.find(patterns), temperature)
        return Selection(found, {benchmark.name: part for benchmark in found})
    chosen = registry.suite(suite)
    parts = {name: _suite_part(chosen, name, part) for name in chosen.benchmarks}
    benchmarks = _warmed([registry.get(name) for name in chosen.benchmarks], temperature)
    return Selection(benchmarks, parts, chosen.weights)


def _warmed(benchmarks: Sequence[Benchmark], temperature: float | None) -> list[Benchmark]:
    if temperature is None:
        return list(benchmarks)
    if temperature > 0 and not any(benchmark.kind == "generate" for benchmark in benchmarks):
        raise BenchmarkError(f"a temperature is for generated text; {benchmarks[0].name} scores choices")
    return [runner.at_temperature(benchmark, temperature) for benchmark in benchmarks]


def _suite_part(suite: Suite, name: str, part: Slice) -> Slice:
    return part if part.limit or part.draw else replace(part, draw=suite.draws[name])


def prepare(selection: Selection, models: Sequence[str], accept_license: bool = False) -> list[Model]:
    """Find every fault that shows without a model's weights: licences, data, prompts, model names."""
    loaded = [load_model(spec) for spec in models]
    for benchmark in selection.benchmarks:
        licences.require(benchmark, accept_license)
        part = selection.parts[benchmark.name].of(benchmark)
        samples = runner.choose(benchmark, part)
        for model in loaded:
            runner.ask_for(benchmark, model, samples, part)
    return loaded


def repeats_likeliest(selection: Selection) -> bool:
    """Whether some benchmark is asked more than once at temperature 0: repeats of a deterministic model are equal."""
    parts = selection.parts
    return any(
        (part := parts[benchmark.name]).again or part.repeats * part.attempt > 1
        for benchmark in selection.benchmarks
        if runner.effective_options(benchmark).temperature == 0
    )


def run_all(selection: Selection, models: Sequence[Model], store: Store, watch: Watcher) -> Iterator[Result]:
    """Every benchmark on every model, one model at a time so that only one holds its weights."""
    for model in models:
        parts = _attempts(selection, model, store)
        try:
            for benchmark in selection.benchmarks:
                yield runner.run(benchmark, model, store, parts[benchmark.name], watch)
        finally:
            model.close()


def _attempts(selection: Selection, model: Model, store: Store) -> Mapping[str, Slice]:
    """The parts with the number of the attempt that ``again`` makes: the first that some benchmark has not finished.

    So a command that was stopped goes on with the attempt that it was at.
    """
    parts = selection.parts
    if not any(part.again for part in parts.values()):
        return parts
    number = min(runner.next_attempt(store, one, model, parts[one.name]) for one in selection.benchmarks)
    return {name: replace(part, attempt=number, again=False) for name, part in parts.items()}


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
    info = store.metrics_of(run.id)[0]
    return Entry(
        benchmark=run.benchmark,
        fingerprint=run.fingerprint,
        part=(run.limit, run.draw, run.seed),
        model=run.title,
        model_hash=f"{run.same_model} {run.label}".strip(),
        metric=metric,
        estimate=estimate,
        run=run.key,
        finished=run.finished or 0,
        chance=float(run.spec.get("chance", 0.0)),
        worst=info.worst,
        best=info.best,
        repeats=run.repeats,
        outcomes=store.outcomes(run.id).get(metric, {}),
        usage=store.usage(run.id),
        seconds=run.seconds,
    )


def _with_rows(store: Store, found: Sequence[Entry]) -> list[Entry]:
    """The entries with the rows behind those that will be compared: paired tests need them."""
    runs = {run.key: run for run in store.runs()}
    compared = {entry.run for entry in comparable(found) if has_current_metrics(store, runs[entry.run])}
    return [
        with_evidence(entry, evidence_of(store, runs[entry.run])) if entry.run in compared else entry for entry in found
    ]


def board_of(store: Store, results: Sequence[Result], selection: Selection) -> Board:
    """The leaderboard of just these runs."""
    keys = [result.run.key for result in results]
    found = _with_rows(store, entries(store, keys))
    names = [benchmark.name for benchmark in selection.benchmarks]
    return build(found, selection.weights, names, load_prices())


def board(
    store: Store,
    registry: Registry | None = None,
    suite: str | None = None,
    only: Sequence[str] = ("*",),
    prices: Prices = NO_PRICES,
) -> Board:
    """The leaderboard of the store: of one suite (its benchmarks, draws and weights), or of everything.

    ``only``: domains, or patterns of benchmark names.

    Raises:
        BenchmarkError: no such suite, or no finished run of ``only``.
    """
    found = entries(store)
    chosen = registry.suite(suite) if suite is not None and registry is not None else None
    if chosen is not None:
        found = [entry for entry in found if _in_suite(entry, chosen)]
    wanted = [entry for entry in found if _is_of(entry.benchmark, only)]
    if found and not wanted:
        names = ", ".join(sorted({entry.benchmark for entry in found}))
        raise BenchmarkError(f"there is no finished run of '{' or '.join(only)}'; there are runs of {names}")
    rows = _with_rows(store, wanted)
    if chosen is None:
        return build(rows, {}, prices=prices)
    return build(rows, chosen.weights, [name for name in chosen.benchmarks if _is_of(name, only)], prices)


def _is_of(name: str, only: Sequence[str]) -> bool:
    return any(fnmatchcase(name, one) or name.startswith(f"{one}/") for one in only)


def _in_suite(entry: Entry, suite: Suite) -> bool:
    """Whether a run took the samples that the suite asks for."""
    if entry.benchmark not in suite.draws:
        return False
    limit, draw, _ = entry.part
    wanted = suite.draws[entry.benchmark]
    return limit is None and (
        draw == wanted or (draw is None and wanted is not None and wanted >= entry.estimate.total // entry.repeats)
    )
