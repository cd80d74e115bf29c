"""Benchmark x model -> finished run: the whole flow on one page. Killed anywhere, the same call goes on from there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

from vevals import provenance
from vevals.benchmark import Benchmark, content_hash
from vevals.canonical import canonical_json, sha256, sha256_hex
from vevals.errors import BenchmarkError, ModelError
from vevals.metrics import Metric
from vevals.models import Informed, Model, Scorer
from vevals.statistics.estimates import Scale, estimate_mean, estimate_statistic
from vevals.store import Answer, MetricRow, RunRow, Store
from vevals.types import ErrorKind, Estimate, Options, Outcome, Request, Response, Run, RunStatus, Sample, Scored


@dataclass(frozen=True, slots=True)
class Slice:
    """Which samples of a benchmark a run takes: the first ``limit`` rows, or the first ``draw`` of the seeded order."""

    limit: int | None = None
    draw: int | None = None
    seed: int = 0
    label: str = ""

    def __post_init__(self) -> None:
        if self.limit is not None and self.draw is not None:
            raise BenchmarkError("give limit (the first rows) or draw (a seeded selection), not both")
        for name in ("limit", "draw"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise BenchmarkError(f"{name} is {count}; it is a number of samples, 1 or more")

    def of(self, total: int) -> Slice:
        """The same selection of a benchmark with ``total`` samples, written in one way: all of it is no selection."""
        limit = self.limit if self.limit is not None and self.limit < total else None
        draw = self.draw if self.draw is not None and self.draw < total else None
        return replace(self, limit=limit, draw=draw, seed=0 if draw is None else self.seed)


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its row in the store, its estimates (the score first), outcomes a metric, tokens and time."""

    run: RunRow
    estimates: Sequence[tuple[str, Estimate]]
    outcomes: Mapping[str, Mapping[Outcome, int]]
    usage: Mapping[str, float]
    asked: int

    @property
    def failures(self) -> int:
        """Rows without a value under the score: failed or unjudgeable."""
        counts = self.outcomes.get(self.estimates[0][0], {})
        return sum(count for outcome, count in counts.items() if not outcome.has_value)


class Watcher(Protocol):
    """Is told how a run goes, on the thread that runs it."""

    def begin(self, benchmark: str, model: str, total: int, done: int) -> None: ...

    def answered(self, response: Response) -> None: ...

    def end(self, result: Result | None) -> None: ...


class Silent:
    """A watcher that says nothing."""

    def begin(self, benchmark: str, model: str, total: int, done: int) -> None:
        """Nothing."""

    def answered(self, response: Response) -> None:
        """Nothing."""

    def end(self, result: Result | None) -> None:
        """Nothing."""


Asked = Mapping[str, tuple[Sample, Request]]
"""What is asked, by sample id."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One run being worked on: what is asked, by sample number."""

    benchmark: Benchmark
    model: Model
    row: RunRow
    samples: Mapping[int, Sample]
    requests: Mapping[int, Request]
    identity: Mapping[str, Any]


def run(
    benchmark: Benchmark, model: Model, store: Store, part: Slice = Slice(), watch: Watcher | None = None
) -> Result:
    """Ask ``model`` what the store does not know yet, score, and write the result.

    Raises:
        BenchmarkError: the benchmark cannot be used; nothing was asked.
        ModelError: the model cannot do this, or stopped as a whole; what it answered is kept.
        StoreError: the database cannot be written; what was committed is kept.
    """
    watch = watch or Silent()
    part = part.of(len(benchmark.samples))
    samples = choose(benchmark, part)
    requests = ask_for(benchmark, model, samples, part)
    described = describe(benchmark, model, part, samples)
    everything = [(sample, content_hash(sample)) for sample in benchmark.samples]
    row = store.start(described, everything, benchmark.spec.model_dump_json(), benchmark.spec.version)
    task = _task(benchmark, model, row, requests, store.numbers(row))
    with store.lock(row.key):
        open_numbers = unanswered(store, task)
        watch.begin(benchmark.name, model.name, len(samples), len(samples) - len(open_numbers))
        result = None
        try:
            result = _complete(store, task, open_numbers, watch)
        finally:
            watch.end(result)
    return result


def choose(benchmark: Benchmark, part: Slice) -> tuple[Sample, ...]:
    """The samples of this run, in the order of the data."""
    return benchmark.draw(part.draw, part.seed) if part.draw else benchmark.samples[: part.limit]


def ask_for(benchmark: Benchmark, model: Model, samples: Sequence[Sample], part: Slice) -> Asked:
    """All requests, rendered before any weights are loaded."""
    if benchmark.kind == "loglikelihood" and not isinstance(model, Scorer):
        raise ModelError(
            f"{model.name} cannot score choices, which {benchmark.name} needs (answer: most_likely); "
            "use a benchmark with generated answers"
        )
    if isinstance(model, Informed):
        model.introduce(samples, [benchmark.ideal(sample) for sample in samples])
    return {sample.id: (sample, benchmark.request(sample, seed_of(part.seed, sample.id))) for sample in samples}


def _task(benchmark: Benchmark, model: Model, row: RunRow, asked: Asked, numbers: Mapping[str, int]) -> _Task:
    samples = {numbers[sample.id]: sample for sample, _ in asked.values()}
    requests = {numbers[sample.id]: request for sample, request in asked.values()}
    return _Task(benchmark, model, row, samples, requests, model.identity)


def describe(benchmark: Benchmark, model: Model, part: Slice, samples: Sequence[Sample]) -> Run:
    """What makes this run this run."""
    return Run(
        benchmark=benchmark.name,
        fingerprint=benchmark.fingerprint,
        model=model.name,
        model_identity=model.identity,
        options=benchmark.options if benchmark.kind == "generate" else Options(max_tokens=1),
        total=len(samples),
        parts=benchmark.parts,
        selection=sha256_hex(sorted(sample.id for sample in samples)),
        limit=part.limit,
        draw=part.draw,
        seed=part.seed,
        label=part.label,
        provenance=provenance.describe(),
    )


def unanswered(store: Store, task: _Task) -> list[int]:
    """Numbers of the samples that still need an answer: never asked, or failed in a way that may pass."""
    known = dict(store.responses(task.row.id))
    return [no for no in task.requests if no not in known or _worth_asking_again(known[no])]


def _worth_asking_again(response: Response) -> bool:
    return response.failed and not response.error_kind.final


def _complete(store: Store, task: _Task, open_numbers: Sequence[int], watch: Watcher) -> Result:
    finished = task.row.status is RunStatus.finished
    if finished and not open_numbers:
        return report(store, task.row, asked=0)
    if finished:
        store.reopen(task.row.id)
    seconds = _ask(store, task, open_numbers, watch)
    _score(store, task, seconds)
    return report(store, task.row, asked=len(open_numbers))


def _ask(store: Store, task: _Task, numbers: Sequence[int], watch: Watcher) -> float:
    """Put the open requests to the model; every response goes to the store as it lands. Returns model seconds."""
    by_id = getattr(task.model, "answers_by_id", False)
    keys = {} if by_id else {no: _cache_key(task, no) for no in numbers}
    cached = store.cached(list(keys.values()))
    known = {no for no in numbers if keys.get(no) in cached}
    for no in sorted(known):
        _land(store, task, no, replace(cached[keys[no]], id=task.samples[no].id), watch)
    fresh = {task.samples[no].id: no for no in numbers if no not in known}
    begun = time.monotonic()
    try:
        for response in _responses(task, list(fresh.values())):
            if response.id not in fresh:
                raise ModelError(f"{task.model.name} answered '{response.id}' twice, or without being asked")
            no = fresh.pop(response.id)
            _land(store, task, no, response, watch, keys.get(no))
        if fresh:
            raise ModelError(f"{task.model.name} left {len(fresh)} requests unanswered, '{next(iter(fresh))}' first")
    except BaseException:
        store.flush()
        store.add_seconds(task.row.id, time.monotonic() - begun)
        raise
    store.flush()
    return time.monotonic() - begun


def _responses(task: _Task, numbers: Sequence[int]) -> Iterator[Response]:
    requests = [task.requests[no] for no in numbers]
    if not requests:
        return iter(())
    if task.benchmark.kind == "loglikelihood" and isinstance(task.model, Scorer):
        return task.model.loglikelihood(requests)
    return task.model.generate(requests)


def _land(
    store: Store, task: _Task, no: int, response: Response, watch: Watcher, cache_key: bytes | None = None
) -> None:
    if not response.failed:
        response = _with_answer(task, no, response)
    store.save(Answer(task.row.id, no, request_text(task.requests[no]), response, cache_key))
    watch.answered(response)


def _with_answer(task: _Task, no: int, response: Response) -> Response:
    """The response with its answer; an extractor that breaks on it is our failure and keeps the reply."""
    try:
        return replace(response, answer=task.benchmark.extractor.answer(task.samples[no], response))
    except Exception as error:
        problem = f"the extractor '{task.benchmark.extractor.name}' broke: {type(error).__name__}: {error}"
        return replace(response, error=problem, error_kind=ErrorKind.extractor)


def _score(store: Store, task: _Task, seconds: float) -> None:
    """Judge the stored responses by every metric; scores, estimates and the finished state are one transaction."""
    stored = [(no, response) for no, response in store.responses(task.row.id) if no in task.samples]
    results = []
    for metric in task.benchmark.metrics:
        values = task.benchmark.outcome_values(metric)
        rows = [(no, metric.judge(task.samples[no], response, values)) for no, response in stored]
        estimate = estimated(metric, [scored for _, scored in rows], len(task.samples))
        results.append((metric_row(metric), rows, estimate))
    store.finish(task.row.id, results, seconds)


def estimated(metric: Metric, rows: Sequence[Scored], total: int, seed: int = 0) -> Estimate:
    """The estimate of ``metric`` over the rows that carry a value, clustered where the samples name a cluster."""
    valued = [row for row in rows if row.value is not None]
    clustered = any(row.sample.cluster is not None for row in valued)
    keys = [(row.sample.cluster, row.sample.cluster is None and row.sample.id) for row in valued] if clustered else None
    if metric.statistic is not None and valued:
        return estimate_statistic(metric.prepare(valued), len(valued), total=total, cluster_keys=keys, seed=seed)
    scale = Scale(metric.worst, metric.best, metric.binary)
    values = [row.value for row in valued if row.value is not None]
    return estimate_mean(values, total=total, scale=scale, cluster_keys=keys)


def report(store: Store, row: RunRow, asked: int) -> Result:
    """Read a finished run back from the store."""
    fresh = store.run(row.key)
    return Result(fresh, store.estimates(row.id), store.outcomes(row.id), store.usage(row.id), asked)


def metric_row(metric: Metric) -> MetricRow:
    """A metric as the store identifies it."""
    options = canonical_json(dict(metric.options))
    return MetricRow(metric.name, options, metric.source_hash, metric.worst, metric.best)


def request_text(request: Request) -> str:
    """What was asked, as canonical JSON: equal texts are equal questions."""
    messages = [asdict(message) for message in request.messages]
    options = asdict(request.options) if request.kind == "generate" else None
    return canonical_json({"kind": request.kind, "messages": messages, "options": options, "choices": request.choices})


def seed_of(seed: int, sample_id: str, repeat: int = 0) -> int:
    """The seed of one request: the same on every machine and in every shard."""
    digest = blake2b(f"{seed}/{sample_id}/{repeat}".encode("utf-8", "backslashreplace"), digest_size=4)
    return int.from_bytes(digest.digest(), "big")


def _cache_key(task: _Task, no: int) -> bytes:
    request = task.requests[no]
    seed = request.seed if request.options.temperature > 0 else None
    return sha256({"model": dict(task.identity), "request": request_text(request), "repeat": 0, "seed": seed})
