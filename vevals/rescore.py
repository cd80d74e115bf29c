"""Stored replies under a changed scorer: a new run with answers read anew and scored anew, and no model asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vevals import provenance
from vevals.benchmark import Benchmark
from vevals.canonical import sha256_hex
from vevals.errors import StoreError
from vevals.runner import at_temperature, score, start, with_answer
from vevals.store import Place, RunRow, Store
from vevals.types import ErrorKind, Options, Response, Run, RunStatus, Sample

SCORER = "scorer"


def rescore(store: Store, run: RunRow, benchmark: Benchmark) -> RunRow | None:
    """The replies of a finished ``run`` under the scorer that ``benchmark`` has now, as a run of its own.

    The old run stays as it is. None where the benchmark is still the one of the run. Doing it again finds the run that
    was made before.

    Raises:
        StoreError: the run is not finished, or more than the scorer of its benchmark has changed.
    """
    if run.status is not RunStatus.finished:
        raise StoreError(f"run {run.key[:8]} of {run.benchmark} is not finished; run it to its end first")
    benchmark = at_temperature(benchmark, run.options["temperature"])
    if benchmark.fingerprint == run.fingerprint:
        return None
    _check(run, benchmark)
    replies = dict(store.responses(run.id))
    fresh = start(store, benchmark, _described(store, run, benchmark, replies))
    with store.lock(fresh.key):
        fresh = store.run(fresh.key)
        if fresh.status is not RunStatus.finished:
            _fill(store, fresh, run, benchmark, replies)
    return store.run(fresh.key)


def _check(run: RunRow, benchmark: Benchmark) -> None:
    """Only the scorer may differ: other questions, prompts or options would have got other replies."""
    names = sorted({*run.parts, *benchmark.parts} - {SCORER})
    changed = [name for name in names if run.parts.get(name) != benchmark.parts.get(name)]
    if changed:
        raise StoreError(
            f"run {run.key[:8]}: {benchmark.name} has another {' and '.join(changed)} now, not only another scorer; "
            "'vevals run' asks the model again"
        )


def _described(store: Store, run: RunRow, benchmark: Benchmark, replies: Mapping[Place, Response]) -> Run:
    """The run that 'vevals run' would make now, so that it can go on from this one."""
    options = {**run.options, "stop": tuple(run.options["stop"])}
    return Run(
        benchmark=benchmark.name,
        fingerprint=benchmark.fingerprint,
        model=run.model,
        model_identity=run.model_identity,
        options=Options(**options),
        total=run.total,
        parts=benchmark.parts,
        selection=sha256_hex(sorted({reply.id for reply in replies.values()})),
        limit=run.limit,
        draw=run.draw,
        seed=run.seed,
        label=run.label,
        provenance={**run.provenance, "rescored": {"run": run.key, "with": provenance.describe()}},
        repeats=run.repeats,
        attempt=run.attempt,
        parent=_parent(store, run, benchmark),
    )


def _parent(store: Store, run: RunRow, benchmark: Benchmark) -> str:
    """The digest of the run that the new one goes on from: the re-scored one, where the old parent is here."""
    for other in store.runs():
        if run.parent and (other.digest, other.label) == (run.parent, run.label):
            fresh = rescore(store, other, benchmark)
            return fresh.digest if fresh else run.parent
    return run.parent


def _fill(store: Store, fresh: RunRow, run: RunRow, benchmark: Benchmark, replies: Mapping[Place, Response]) -> None:
    samples = {sample.id: sample for sample in benchmark.samples}
    numbers, labelled = store.numbers(fresh), _labelled(store, run)
    rows = {
        place: ((numbers[reply.id], place[1]), _read_anew(benchmark, samples[reply.id], reply, labelled))
        for place, reply in replies.items()
    }
    store.inherit(fresh, run, rows)
    taken = {numbers[reply.id]: samples[reply.id] for reply in replies.values()}
    score(store, fresh, benchmark, taken, seconds=0.0)


def _labelled(store: Store, run: RunRow) -> bool:
    """Whether a classifier was asked: a run asks all its questions in one way."""
    first = next(store.samples(run, ""), None)
    return first is not None and first["request"]["kind"] == "classify"


def _read_anew(benchmark: Benchmark, sample: Sample, reply: Response, labelled: bool) -> Response:
    """The reply with the answer that the extractor finds now, also where the old one broke on it."""
    if reply.error_kind is ErrorKind.extractor:
        reply = replace(reply, error=None, error_kind=ErrorKind.none)
    return reply if reply.failed else with_answer(benchmark, sample, replace(reply, answer=None), labelled)
