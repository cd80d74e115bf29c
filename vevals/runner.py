"""Benchmark x model -> finished run: the whole flow on one page. Killed anywhere, the same call goes on from there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol, cast, runtime_checkable

from vevals import provenance
from vevals.benchmark import Benchmark, content_hash
from vevals.canonical import canonical_json, sha256, sha256_hex
from vevals.errors import BenchmarkError, MetricError, ModelError
from vevals.metrics import Metric
from vevals.models import Classifier, Described, Informed, Model, Roller, Scorer
from vevals.statistics.estimates import Scale, estimate_mean, estimate_statistic
from vevals.store import Answer, MetricRow, Place, RunRow, Store
from vevals.types import ErrorKind, Estimate, Options, Outcome, Request, Response, Run, RunStatus, Sample, Scored


@dataclass(frozen=True, slots=True)
class Slice:
    """What a run asks: the first ``limit`` rows, or the first ``draw`` of the seeded order, each ``repeats`` times.

    ``attempt`` j of the same run asks the repeats K(j-1) to Kj-1; ``again`` makes it the one after the newest that is
    finished.
    """

    limit: int | None = None
    draw: int | None = None
    seed: int = 0
    label: str = ""
    repeats: int = 1
    attempt: int = 1
    again: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.draw is not None:
            raise BenchmarkError("give limit (the first rows) or draw (a seeded selection), not both")
        for name in ("limit", "draw"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise BenchmarkError(f"{name} is {count}; it is a number of samples, 1 or more")
        for name in ("repeats", "attempt"):
            if getattr(self, name) < 1:
                raise BenchmarkError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.again and self.attempt > 1:
            raise BenchmarkError("give again (the next attempt) or attempt (the number of one that is there), not both")

    def of(self, benchmark: Benchmark) -> Slice:
        """The same selection of a benchmark, written in one way: all of it is no selection, and needs no seed unless
        the seed says what is drawn as an answer.
        """
        total = len(benchmark.samples)
        limit = self.limit if self.limit is not None and self.limit < total else None
        draw = self.draw if self.draw is not None and self.draw < total else None
        seeded = draw is not None or effective_options(benchmark).temperature > 0
        return replace(self, limit=limit, draw=draw, seed=self.seed if seeded else 0)

    def repeat_numbers(self) -> range:
        """The numbers of the repeats of this attempt: no two attempts share one, so seeds and cache keys differ."""
        return range(self.repeats * (self.attempt - 1), self.repeats * self.attempt)


@dataclass(frozen=True)
class Sampled(Benchmark):
    """A benchmark whose replies are drawn at ``temperature`` instead of its own."""

    temperature: float = 0.0

    @property
    def options(self) -> Options:
        """How text is generated: part of the fingerprint."""
        return replace(super().options, temperature=self.temperature)


def at_temperature(benchmark: Benchmark, temperature: float) -> Benchmark:
    """``benchmark`` with another temperature; itself where that changes nothing, as for choices that are scored.

    Raises:
        BenchmarkError: no number from 0 up.
    """
    if (own := getattr(benchmark, "at_temperature", None)) is not None:
        return cast("Benchmark", own(temperature))
    if not 0 <= temperature < math.inf:
        raise BenchmarkError(f"temperature is {temperature:g}; give 0 (the likeliest reply) or more")
    if benchmark.kind != "generate" or benchmark.options.temperature == temperature:
        return benchmark
    return Sampled(benchmark.name, benchmark.folder, benchmark.spec, benchmark.lines, temperature)


def effective_options(benchmark: Benchmark) -> Options:
    """What a run of ``benchmark`` asks with; choices are scored, which needs no text."""
    return benchmark.options if benchmark.kind == "generate" else Options(max_tokens=1)


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: its row in the store, its estimates (the score first), outcomes a metric, tokens and time.

    ``ends``: the worst and the best value of the score's metric.
    """

    run: RunRow
    estimates: Sequence[tuple[str, Estimate]]
    outcomes: Mapping[str, Mapping[Outcome, int]]
    usage: Mapping[str, float]
    asked: int
    ends: tuple[float, float] = (0.0, 1.0)

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


@runtime_checkable
class Labelled(Protocol):
    """A classifier that knows before it is loaded whether it has a benchmark's labels; ModelError says what it lacks.

    ``several``: whether it has to give all labels of a text, and not only the most likely one.
    """

    def check_labels(self, labels: Sequence[str], several: bool) -> None: ...


Asked = Mapping[str, tuple[Sample, Request]]
"""What is asked, by sample id."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One run being worked on: the samples by number, and what is asked by sample number and repeat."""

    benchmark: Benchmark
    model: Model
    run: Run
    row: RunRow
    samples: Mapping[int, Sample]
    requests: Mapping[Place, Request]
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
    part = part.of(benchmark)
    samples = choose(benchmark, part)
    asked = ask_for(benchmark, model, samples, part)
    if part.again or part.attempt > 1:
        part = _numbered(part, next_attempt(store, benchmark, model, part))
    described = describe(benchmark, model, part, samples)
    row = start(store, benchmark, described)
    numbers = store.numbers(row)
    numbered = {numbers[sample.id]: sample for sample in samples}
    requests = _repeated(model, asked, numbers, part)
    task = _Task(benchmark, model, described, row, numbered, requests, model.identity)
    return _carry_out(store, task, watch or Silent())


def next_attempt(store: Store, benchmark: Benchmark, model: Model, part: Slice) -> int:
    """Number of the attempt after the newest finished one."""
    part = part.of(benchmark)
    return store.next_attempt(describe(benchmark, model, part, choose(benchmark, part)))


def _numbered(part: Slice, following: int) -> Slice:
    """``part`` with the number of its attempt; ``following`` is the one after the newest that is finished."""
    if part.attempt > following:
        raise BenchmarkError(f"attempt {part.attempt} cannot come before attempt {following} is finished; use again")
    return replace(part, attempt=following if part.again else part.attempt, again=False)


def start(store: Store, benchmark: Benchmark, described: Run) -> RunRow:
    """The row of a run of ``benchmark``: the one that is there, or a new one."""
    everything = [(sample, content_hash(sample)) for sample in benchmark.samples]
    return store.start(described, everything, benchmark.spec.model_dump_json(), benchmark.spec.version)


def _carry_out(store: Store, task: _Task, watch: Watcher) -> Result:
    """Ask and score what is open. A run that others rely on stays as it is: another one goes on from its good rows."""
    with store.lock(task.row.key):
        task = replace(task, row=store.run(task.row.key))  # another process may have finished it before we had the lock
        known = dict(store.responses(task.row.id))
        settled = {place for place, response in known.items() if not _worth_asking_again(response)}
        open_places = [place for place in task.requests if place not in settled]
        again = task.row.status is RunStatus.finished and bool(open_places)
        if not again or store.reopen(task.row.id):
            return _watched(store, task, open_places, watch)
    child = replace(task.run, parent=task.row.digest)
    row = start(store, task.benchmark, child)
    store.inherit(row, task.row, {place: (place, known[place]) for place in settled})
    return _carry_out(store, replace(task, run=child, row=row), watch)


def _watched(store: Store, task: _Task, open_places: Sequence[Place], watch: Watcher) -> Result:
    total = len(task.requests)
    watch.begin(task.benchmark.name, task.model.name, total, total - len(open_places))
    result = None
    try:
        result = _complete(store, task, open_places, watch)
    finally:
        watch.end(result)
    return result


def choose(benchmark: Benchmark, part: Slice) -> tuple[Sample, ...]:
    """The samples of this run, in the order of the data."""
    return benchmark.draw(part.draw, part.seed) if part.draw else benchmark.samples[: part.limit]


def ask_for(benchmark: Benchmark, model: Model, samples: Sequence[Sample], part: Slice) -> Asked:
    """All requests, rendered before any weights are loaded."""
    if isinstance(model, Classifier):
        _check_labels(benchmark, model)
        return {sample.id: (sample, benchmark.classified(sample)) for sample in samples}
    if benchmark.kind == "loglikelihood" and not isinstance(model, Scorer):
        raise ModelError(
            f"{model.name} cannot score choices, which {benchmark.name} needs (answer: most_likely); "
            "use a benchmark with generated answers"
        )
    if benchmark.kind == "rolling" and not isinstance(model, Roller):
        raise ModelError(f"{model.name} cannot score whole texts, which {benchmark.name} needs; use a local model")
    if isinstance(model, Informed):
        model.introduce(benchmark.samples, [benchmark.ideal(sample) for sample in benchmark.samples])
    asked = {sample.id: (sample, benchmark.request(sample, seed_of(part.seed, sample.id))) for sample in samples}
    _check_prompts(benchmark, model, asked)
    return asked


def _check_prompts(benchmark: Benchmark, model: Model, asked: Asked) -> None:
    """Refuse plain texts for a model that does not know them, and choices that a reference row cannot tell apart."""
    knows = bool(getattr(model, "plain_prompts", False))
    for sample, request in asked.values():
        if request.prompts and not request.messages and not knows:
            raise ModelError(
                f"{model.name} does not read plain prompts, which {benchmark.name} asks with; use a local model, or an "
                "option that asks in turns (apply_chat_template=true)"
            )
        count = len(sample.choices)  # behind them an lm-eval task may ask the same choices without their context
        offered, prompts = set(request.choices[:count]), set(request.prompts[:count])
        if isinstance(model, Informed) and len(offered) < count and len(prompts) > 1:
            raise ModelError(
                f"{model.name} knows choices by their text, and those of {benchmark.name} differ in their prompt only; "
                "use a local model"
            )


def _check_labels(benchmark: Benchmark, model: Classifier) -> None:
    """Refuse what a classifier cannot do: free text, and labels that it does not have."""
    try:
        labels = benchmark.labels
    except BenchmarkError as error:
        name = getattr(model, "name", "the model")
        raise ModelError(f"{name} names labels and writes no text, and {error}; use another model") from error
    if isinstance(model, Labelled):
        model.check_labels(labels, benchmark.several)


def _repeated(model: Model, asked: Asked, numbers: Mapping[str, int], part: Slice) -> dict[Place, Request]:
    """Every request as often as the run repeats it, each with its own seed; ids are unique within a call."""
    mark = "#"
    while any(mark in name for name in asked):
        mark += "#"
    by_id = _answers_by_id(model)
    found = {}
    for repeat in part.repeat_numbers():
        for name, (_, request) in asked.items():
            called = name if by_id or not repeat else f"{name}{mark}{repeat}"
            found[numbers[name], repeat] = replace(request, id=called, seed=seed_of(part.seed, name, repeat))
    return found


def _answers_by_id(model: Model) -> bool:
    return bool(getattr(model, "answers_by_id", False))


def describe(benchmark: Benchmark, model: Model, part: Slice, samples: Sequence[Sample]) -> Run:
    """What makes this run this run."""
    return Run(
        benchmark=benchmark.name,
        fingerprint=benchmark.fingerprint,
        model=model.name,
        model_identity=model.identity,
        options=effective_options(benchmark),
        total=len(samples) * part.repeats,
        parts=benchmark.parts,
        selection=sha256_hex(sorted(sample.id for sample in samples)),
        limit=part.limit,
        draw=part.draw,
        seed=part.seed,
        label=part.label,
        provenance=provenance.describe(),
        repeats=part.repeats,
        attempt=part.attempt,
    )


def _worth_asking_again(response: Response) -> bool:
    return response.failed and not response.error_kind.final


def _complete(store: Store, task: _Task, open_places: Sequence[Place], watch: Watcher) -> Result:
    if task.row.status is RunStatus.finished and not open_places:
        return report(store, task.row, asked=0)
    seconds = _ask(store, task, open_places, watch)
    score(store, task.row, task.benchmark, task.samples, seconds)
    return report(store, task.row, asked=len(open_places))


def _ask(store: Store, task: _Task, places: Sequence[Place], watch: Watcher) -> float:
    """Put the open requests to the model; every response goes to the store as it lands. Returns model seconds."""
    keys = {} if _answers_by_id(task.model) else {place: _cache_key(task, place) for place in places}
    cached = store.cached(list(keys.values()))
    known = {place for place in places if keys.get(place) in cached}
    for place in sorted(known):
        _land(store, task, place, cached[keys[place]], watch)
    begun = time.monotonic()
    try:
        for call in _calls(task, [place for place in places if place not in known]):
            for place, response in _answers(task, call):
                _land(store, task, place, response, watch, keys.get(place))
    except BaseException:
        store.flush()
        store.add_seconds(task.row.id, time.monotonic() - begun)
        raise
    store.flush()
    if len(known) < len(places) and isinstance(task.model, Described):
        store.note(task.row.id, {"engine": dict(task.model.conditions)})
    return time.monotonic() - begun


def _calls(task: _Task, places: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """All at once; one repeat after the other for a model that knows a question by its id alone."""
    if not _answers_by_id(task.model):
        yield places
        return
    for number in sorted({repeat for _, repeat in places}):
        yield [place for place in places if place[1] == number]


def _answers(task: _Task, places: Sequence[Place]) -> Iterator[tuple[Place, Response]]:
    """One call of the model, which owes each request exactly one response."""
    name = task.model.name
    waiting = {task.requests[place].id: place for place in places}
    for response in _responses(task, places):
        if response.id not in waiting:
            raise ModelError(f"{name} answered '{response.id}' twice, or without being asked")
        yield waiting.pop(response.id), response
    if waiting:
        raise ModelError(f"{name} left {len(waiting)} requests unanswered, '{next(iter(waiting))}' first")


def _responses(task: _Task, places: Sequence[Place]) -> Iterator[Response]:
    requests = [task.requests[place] for place in places]
    if not requests:
        return iter(())
    if isinstance(task.model, Classifier):
        return task.model.classify(requests)
    if task.benchmark.kind == "loglikelihood" and isinstance(task.model, Scorer):
        return task.model.loglikelihood(requests)
    if task.benchmark.kind == "rolling" and isinstance(task.model, Roller):
        return task.model.rolling(requests)
    return task.model.generate(requests)


def _land(
    store: Store, task: _Task, place: Place, response: Response, watch: Watcher, cache_key: bytes | None = None
) -> None:
    no, repeat = place
    response = replace(response, id=task.samples[no].id)
    if not response.failed:
        labelled = task.requests[place].kind == "classify"
        response = with_answer(task.benchmark, task.samples[no], response, labelled)
    store.save(Answer(task.row.id, no, request_text(task.requests[place]), response, cache_key, repeat))
    watch.answered(response)


def with_answer(benchmark: Benchmark, sample: Sample, response: Response, labelled: bool) -> Response:
    """The response with its answer; an extractor that breaks on it is our failure and keeps the reply.

    ``labelled``: a classifier was asked, whose log-probabilities are those of labels: there is no reply to be read.
    """
    if labelled:
        return replace(response, answer=benchmark.named(response.logprobs))
    try:
        return replace(response, answer=benchmark.extractor.answer(sample, response))
    except Exception as error:
        problem = f"the extractor '{benchmark.extractor.name}' broke: {type(error).__name__}: {error}"
        return replace(response, error=problem, error_kind=ErrorKind.extractor)


def score(store: Store, row: RunRow, benchmark: Benchmark, samples: Mapping[int, Sample], seconds: float) -> None:
    """Judge the stored responses by every metric; scores, estimates and the finished state are one transaction."""
    stored = [(place, response) for place, response in store.responses(row.id) if place[0] in samples]
    results: list[tuple[MetricRow, Sequence[tuple[Place, Scored]], Estimate]] = []
    for metric in benchmark.metrics:
        values = benchmark.outcome_values(metric)
        rows = [(place, metric.judge(samples[place[0]], response, values)) for place, response in stored]
        scored = [one for _, one in rows]
        try:
            estimate = estimated(metric, scored, row.total, row.repeats)
        except MetricError as error:
            if not results:
                raise
            estimate = _failed(scored, row.total, error)
        results.append((metric_row(metric), rows, estimate))
    store.finish(row.id, results, seconds)


def _failed(rows: Sequence[Scored], total: int, error: MetricError) -> Estimate:
    """Of a metric that is not the score: it has no value, and its method says why."""
    valued = sum(row.value is not None for row in rows)
    return Estimate(math.nan, math.nan, math.nan, valued, total, str(error))


def estimated(metric: Metric, rows: Sequence[Scored], total: int, repeats: int = 1) -> Estimate:
    """The estimate of ``metric`` over the rows that carry a value, clustered where the samples name a cluster.

    The repeats of a sample are averaged first, so a mean of several is no longer binary; a set-level metric takes all
    rows, with those of a sample drawn together. ``total`` and ``Estimate.scored`` count rows, samples x ``repeats``.
    """
    valued = [row for row in rows if row.value is not None]
    clustered = any(row.sample.cluster is not None for row in valued)
    if metric.statistic is not None and valued:
        keys = [_unit(row.sample) for row in valued] if clustered or repeats > 1 else None
        found = estimate_statistic(metric.prepare(valued), len(valued), total=total, cluster_keys=keys)
        return found if clustered else replace(found, method=found.method.replace(" clusters", " samples"))
    values: dict[str, list[float]] = {}
    units = {row.sample.id: _unit(row.sample) for row in valued}
    for row in rows:
        if row.value is not None:
            values.setdefault(row.sample.id, []).append(row.value)
    means = [sum(repeated) / len(repeated) for repeated in values.values()]
    keys = list(units.values()) if clustered else None
    scale = Scale(metric.worst, metric.best, metric.binary and repeats == 1)
    return replace(estimate_mean(means, total=total, scale=scale, cluster_keys=keys), scored=len(valued))


def _unit(sample: Sample) -> tuple[str | None, str | bool]:
    """What stands or falls together: a cluster, or a sample without one."""
    return sample.cluster, sample.cluster is None and sample.id


def report(store: Store, row: RunRow, asked: int) -> Result:
    """Read a finished run back from the store."""
    fresh = store.run(row.key)
    score_metric = store.metrics_of(row.id)[0]
    ends = (score_metric.worst, score_metric.best)
    return Result(fresh, store.estimates(row.id), store.outcomes(row.id), store.usage(row.id), asked, ends)


def metric_row(metric: Metric) -> MetricRow:
    """A metric as the store identifies it."""
    options = canonical_json(dict(metric.options))
    return MetricRow(metric.name, options, metric.source_hash, metric.worst, metric.best)


def request_text(request: Request) -> str:
    """What was asked, as canonical JSON: equal texts are equal questions."""
    messages = [asdict(message) for message in request.messages]
    options = asdict(request.options) if request.kind == "generate" else None
    parts = {"kind": request.kind, "messages": messages, "options": options, "choices": request.choices}
    return canonical_json({**parts, "prompts": request.prompts} if request.prompts else parts)


def seed_of(seed: int, sample_id: str, repeat: int = 0) -> int:
    """The seed of one request: the same on every machine and in every shard."""
    digest = blake2b(f"{seed}/{sample_id}/{repeat}".encode("utf-8", "backslashreplace"), digest_size=4)
    return int.from_bytes(digest.digest(), "big")


def _cache_key(task: _Task, place: Place) -> bytes:
    request = task.requests[place]
    seed = request.seed if request.options.temperature > 0 else None
    return sha256({"model": dict(task.identity), "request": request_text(request), "repeat": place[1], "seed": seed})
