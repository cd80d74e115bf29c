"""What is asked of the database, and nothing else: the statements behind a run, a leaderboard and a list of samples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import ColumnElement, Connection, RowMapping, Table, func, select, text, update
from sqlalchemy.dialects.sqlite import insert

from vevals.canonical import canonical_json, sha256
from vevals.errors import RunLocked, StoreError
from vevals.store import blobs, ledger, observations, schema
from vevals.store.connection import WRITES, connect, explained
from vevals.store.observations import OF_THE_SAME_ROW, OF_THE_SAME_SAMPLE
from vevals.store.rows import (
    Answer,
    BaselineRow,
    MetricRow,
    Observation,
    Place,
    RunRow,
    VerdictRow,
    cache_row,
    cached_response,
    estimate_of,
    estimate_row,
    inherited_row,
    now,
    payload,
    place_of,
    response_row,
    response_text,
    run_key,
    run_of,
    run_row,
    score_row,
    stored_response,
)
from vevals.store.writer import Writer
from vevals.types import ErrorKind, Estimate, FinishReason, Outcome, Response, Run, RunStatus, Sample, Scored

DEFAULT_DB = "results/vevals.db"
CHUNK = 500


def open_store(db: str | None = None, create: bool = True) -> Store:
    """Open the store at a path or URL; by default ``$VEVALS_DB`` or ``results/vevals.db``.

    Raises:
        StoreError: not usable, or absent and ``create`` is False.
    """
    return Store(db or os.environ.get("VEVALS_DB") or DEFAULT_DB, create)


class Store:
    """One database. Use as a context manager: leaving it commits what is queued and closes the file."""

    def __init__(self, db: str, create: bool = True) -> None:
        self.engine, self.path = connect(db, create)
        self._writing = self.engine.execution_options(**{WRITES: True})
        self._writer: Writer[Answer] | None = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, then close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.engine.dispose()

    # -- a run ---------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the run ``key`` (hex): a second process that wants it is refused. A killed process leaves no lock.

        Raises:
            RunLocked: another process is writing this run.
        """
        path = self.path.resolve()
        folder = path.parent / ".locks"
        lock = FileLock(folder / f"{path.stem}-{key[:16]}.lock")
        try:
            folder.mkdir(exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            raise RunLocked(f"{self.path}: run {key[:8]} is being written by another process; wait for it") from None
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot be written: {error.strerror}; name another database with --db"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def start(self, run: Run, samples: Sequence[tuple[Sample, str]], spec: str, version: int) -> RunRow:
        """The row of ``run``: the one that is there (to be continued), or a new one.

        ``samples`` are all samples of the benchmark with their content hashes (hex), in order.
        """
        with self._write() as connection:
            self._check_integrity(connection)
            benchmark_id = self._benchmark(connection, run, samples, spec, version)
            connection.execute(insert(schema.runs).values(run_row(run, benchmark_id)).on_conflict_do_nothing())
            this = schema.runs.c.key == run_key(run)
            connection.execute(update(schema.runs).where(this).values(model=run.model))
            row = connection.execute(_runs().where(this)).mappings().one()
        return run_of(row)

    def numbers(self, run: RunRow) -> dict[str, int]:
        """Sample id -> its number in the store, which does not depend on the order of the data's rows."""
        table = schema.samples.c
        query = select(table.sample_id, table.sample_no).join(
            schema.runs, schema.runs.c.benchmark_id == table.benchmark_id
        )
        with self._read() as connection:
            rows = connection.execute(query.where(schema.runs.c.id == run.id))
            return {row.sample_id: row.sample_no for row in rows}

    def save(self, answer: Answer) -> None:
        """Queue one response; it is committed within 200 ms."""
        if self._writer is None:
            self._writer = Writer(self._save_all)
        self._writer.put(answer)

    def flush(self) -> None:
        """Return when every saved response is committed. Raises StoreError when one could not be."""
        if self._writer is not None:
            self._writer.flush()

    def cached(self, keys: Sequence[bytes]) -> dict[bytes, Response]:
        """Earlier answers to the same requests of the same model; ids are empty."""
        found: dict[bytes, Response] = {}
        query = select(schema.cache.c.request, schema.cache.c.meta, *_blob_columns()).join(
            schema.blobs, schema.blobs.c.hash == schema.cache.c.response
        )
        with self._read() as connection:
            for some in _chunks(keys):
                for row in connection.execute(query.where(schema.cache.c.request.in_(some))).mappings():
                    found[row["request"]] = cached_response(row)
        return found

    def responses(self, run_id: int) -> Iterator[tuple[Place, Response]]:
        """((sample number, repeat), response) of a run in this order; ids are the samples' ids."""
        query = (
            select(schema.responses, schema.samples.c.sample_id, *_blob_columns())
            .join(schema.runs, schema.runs.c.id == schema.responses.c.run_id)
            .join(schema.samples, OF_THE_SAME_SAMPLE)
            .join(schema.blobs, schema.blobs.c.hash == schema.responses.c.response)
            .where(schema.responses.c.run_id == run_id)
            .order_by(schema.responses.c.sample_no, schema.responses.c.repeat)
        )
        with self._read() as connection:
            for row in connection.execute(query).mappings():
                yield (row["sample_no"], row["repeat"]), stored_response(row)

    def finish(
        self, run_id: int, results: Sequence[tuple[MetricRow, Sequence[tuple[Place, Scored]], Estimate]], seconds: float
    ) -> None:
        """Write scores, estimates and the state ``finished`` in one transaction. ``seconds`` is added to the run's."""
        with self._write() as connection:
            connection.execute(schema.scores.delete().where(schema.scores.c.run_id == run_id))
            connection.execute(schema.estimates.delete().where(schema.estimates.c.run_id == run_id))
            for position, (metric, rows, estimate) in enumerate(results):
                metric_id = self._metric(connection, metric)
                _insert(connection, schema.scores, [score_row(run_id, place, metric_id, s) for place, s in rows])
                row = estimate_row(run_id, metric_id, position, estimate, rows)
                connection.execute(insert(schema.estimates).values(row))
            self._close_run(connection, run_id, seconds)

    def add_seconds(self, run_id: int, seconds: float) -> None:
        """Add model time to a run that stops unfinished."""
        with self._write() as connection:
            total = schema.runs.c.seconds + seconds
            connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(seconds=total))

    def note(self, run_id: int, facts: Mapping[str, Any]) -> None:
        """Add to what is known of a run's surroundings; a fact that is there already is replaced."""
        this = schema.runs.c.id == run_id
        with self._write() as connection:
            known = json.loads(connection.execute(select(schema.runs.c.provenance).where(this)).scalar_one())
            merged = canonical_json({**known, **facts})
            connection.execute(update(schema.runs).where(this).values(provenance=merged))

    def reopen(self, run_id: int) -> bool:
        """Mark a finished run as unfinished, because failed rows are asked again; its old estimates stay until then.

        Returns False, and changes nothing, where a baseline or a verdict names the run.
        """
        this = schema.runs.c.id == run_id
        with self._write() as connection:
            digest = connection.execute(select(schema.runs.c.digest).where(this)).scalar_one()
            if digest is not None and ledger.frozen(connection, digest.hex()):
                return False
            connection.execute(update(schema.runs).where(this).values(status=RunStatus.unfinished))
        return True

    def inherit(self, child: RunRow, parent: RunRow, rows: Mapping[Place, tuple[Place, Response]]) -> None:
        """Copy rows of one run into another; rows that are there stay as they are.

        ``rows``: place in ``parent`` -> place in ``child``, and the response whose answer and error are written there.
        A child without rows also begins with the parent's model time.
        """
        table = schema.responses
        with self._write() as connection:
            empty = not connection.execute(select(table.c.run_id).where(table.c.run_id == child.id).limit(1)).first()
            stored = connection.execute(select(table).where(table.c.run_id == parent.id)).mappings()
            copies = [inherited_row(row, child.id, *rows[place]) for row in stored if (place := place_of(row)) in rows]
            _insert(connection, table, copies)
            if empty:
                mine = schema.runs.c.id == child.id
                connection.execute(update(schema.runs).where(mine).values(seconds=parent.seconds))

    def next_attempt(self, run: Run) -> int:
        """Number of the attempt after the newest finished one of the same configuration."""
        known = {row.key: row.status for row in self.runs()}
        attempt, newest = 1, 0
        while (status := known.get(run_key(replace(run, attempt=attempt)).hex())) is not None:
            newest = attempt if status is RunStatus.finished else newest
            attempt += 1
        return newest + 1

    # -- looking back --------------------------------------------------------------------------------------------

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        with self._read() as connection:
            return [run_of(row) for row in connection.execute(_runs().order_by(schema.runs.c.id)).mappings()]

    def run(self, name: str) -> RunRow:
        """The run whose key begins with ``name``.

        Raises:
            StoreError: no such run, or several.
        """
        found = [run for run in self.runs() if run.key.startswith(name.lower())]
        if len(found) == 1:
            return found[0]
        problem = "no run is called" if not found else f"{len(found)} runs begin with"
        raise StoreError(f"{self.path}: {problem} '{name}'; 'vevals leaderboard --runs' lists them")

    def estimates(self, run_id: int) -> list[tuple[str, Estimate]]:
        """(metric name, estimate) of a finished run, the leaderboard's metric first."""
        query = (
            select(schema.estimates, schema.metrics.c.name)
            .join(schema.metrics)
            .where(schema.estimates.c.run_id == run_id)
            .order_by(schema.estimates.c.position)
        )
        with self._read() as connection:
            return [(row["name"], estimate_of(row)) for row in connection.execute(query).mappings()]

    def outcomes(self, run_id: int) -> dict[str, dict[Outcome, int]]:
        """Metric name -> how many rows ended how."""
        query = (
            select(schema.metrics.c.name, schema.scores.c.outcome, func.count())
            .join(schema.metrics)
            .where(schema.scores.c.run_id == run_id)
            .group_by(schema.metrics.c.name, schema.scores.c.outcome)
        )
        counts: dict[str, dict[Outcome, int]] = {}
        with self._read() as connection:
            for name, outcome, count in connection.execute(query):
                counts.setdefault(name, {})[Outcome(outcome)] = count
        return counts

    def usage(self, run_id: int) -> Mapping[str, float]:
        """Responses present, tokens without those of cache hits, and how many were cache hits."""
        fresh = schema.responses.c.cached == 0
        query = select(
            func.count(),
            func.coalesce(func.sum(schema.responses.c.input_tokens).filter(fresh), 0),
            func.coalesce(func.sum(schema.responses.c.output_tokens).filter(fresh), 0),
            func.coalesce(func.sum(schema.responses.c.cached), 0),
        ).where(schema.responses.c.run_id == run_id)
        with self._read() as connection:
            present, tokens_in, tokens_out, cached = connection.execute(query).one()
        return {"present": present, "input_tokens": tokens_in, "output_tokens": tokens_out, "cached": cached}

    def samples(self, run: RunRow, metric: str, outcome: Outcome | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a run with what was asked, answered and scored under ``metric``."""
        query = (
            select(
                schema.responses,
                schema.samples.c.sample_id,
                schema.samples.c.slices,
                schema.samples.c.payload,
                schema.scores.c.outcome,
                schema.scores.c.value,
                schema.scores.c.note,
                *_blob_columns(),
            )
            .join(schema.runs, schema.runs.c.id == schema.responses.c.run_id)
            .join(schema.samples, OF_THE_SAME_SAMPLE)
            .join(schema.blobs, schema.blobs.c.hash == schema.responses.c.response)
            .outerjoin(
                schema.scores,
                OF_THE_SAME_ROW
                & schema.scores.c.metric_id.in_(select(schema.metrics.c.id).where(schema.metrics.c.name == metric)),
            )
            .where(schema.responses.c.run_id == run.id)
            .order_by(schema.responses.c.sample_no, schema.responses.c.repeat)
        )
        if outcome is not None:
            query = query.where(schema.scores.c.outcome == outcome)
        with self._read() as connection:
            for row in connection.execute(query).mappings():
                yield self._sample_view(connection, row)

    def metrics_of(self, run_id: int) -> list[MetricRow]:
        """The metrics of a finished run, the leaderboard's first."""
        with self._read() as connection:
            return observations.metrics_of(connection, run_id)

    def observations(self, run_id: int) -> list[Observation]:
        """The rows of a finished run by sample number and repeat: usage, outcomes and values, no texts."""
        with self._read() as connection:
            return observations.observations(connection, run_id)

    def judged(self, run_id: int, metric: str) -> list[tuple[Place, Scored]]:
        """((sample number, repeat), row) of a finished run as ``metric`` judged it; its samples have no ``fields``."""
        with self._read() as connection:
            return list(observations.judged(connection, run_id, metric))

    def digest_now(self, run_id: int) -> str:
        """The digest (hex) that the configuration and responses of a run have now; its row holds the one at finish."""
        with self._read() as connection:
            return _digest(connection, run_id).hex()

    # -- baselines and verdicts ----------------------------------------------------------------------------------

    def add_baseline(self, name: str, set_digest: str, runs: Sequence[str], who: str, reason: str) -> BaselineRow:
        """Append to the log: from now on ``name`` stands for the finished runs with these digests (hex).

        Raises:
            StoreError: a run that is not finished here, or no run at all.
        """
        row = {"name": name, "set_digest": set_digest, "runs": runs, "who": who, "reason": reason, "at": now()}
        with self._write() as connection:
            missing = ledger.unfinished(connection, tuple(runs))
            if missing or not runs:
                what = f"run {missing[0][:8]} is not finished here" if missing else "there is no run in it"
                raise StoreError(f"{self.path}: '{name}' cannot be set: {what}; 'vevals leaderboard --runs' lists all")
            return ledger.add_baseline(connection, row)

    def baselines(self, name: str | None = None) -> list[BaselineRow]:
        """The log of one baseline, or of all, newest last."""
        with self._read() as connection:
            return ledger.baselines(connection, name)

    def add_verdict(self, body: Mapping[str, Any], digest: str, key: str, attempt: int, state: str) -> VerdictRow:
        """Append a verdict's JSON to the ledger. Its ``digest`` and ``prev`` are written into the stored body.

        The entry that is there already is returned, untouched, where this digest was written before.
        """
        hashes = {"digest": bytes.fromhex(digest), "key": bytes.fromhex(key)}
        with self._write() as connection:
            row = {**hashes, "attempt": attempt, "state": state, "body": body, "at": now()}
            return ledger.add_verdict(connection, row)

    def ledger_began(self) -> int | None:
        """When the first baseline or verdict was written (microseconds since 1970), None where none was."""
        with self._read() as connection:
            return ledger.began(connection)

    def verdicts(self, key: str | None = None) -> list[VerdictRow]:
        """The verdicts under one key (hex), or all, newest last."""
        with self._read() as connection:
            return ledger.verdicts(connection, key)

    def verdict(self, digest_prefix: str) -> VerdictRow:
        """The verdict whose digest begins with ``digest_prefix``.

        Raises:
            StoreError: no such verdict, or several.
        """
        with self._read() as connection:
            found = ledger.verdicts_called(connection, digest_prefix)
        if len(found) == 1:
            return found[0]
        problem = "no verdict is called" if not found else f"{len(found)} verdicts begin with"
        raise StoreError(f"{self.path}: {problem} '{digest_prefix}'; give the first digits of its digest")

    def check_chain(self, digest_of: ledger.DigestOf | None = None) -> list[str]:
        """What is wrong with the ledger, a sentence each. ``digest_of``: what a body's digest (hex) must be."""
        with self._read() as connection:
            return ledger.problems(connection, digest_of)

    def frozen(self, digest: str) -> bool:
        """Whether a baseline or a verdict names the run with this digest (hex): it must stay as it is."""
        with self._read() as connection:
            return bool(digest) and ledger.frozen(connection, digest)

    # -- inside --------------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with explained(self.path), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with explained(self.path), self.engine.connect() as connection:
            yield connection

    def _check_integrity(self, connection: Connection) -> None:
        found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
        if found != "ok":
            raise StoreError(
                f"{self.path}: the database is damaged ({found}); restore a copy or name another with --db"
            )

    def _benchmark(
        self, connection: Connection, run: Run, samples: Sequence[tuple[Sample, str]], spec: str, version: int
    ) -> int:
        fingerprint = bytes.fromhex(run.fingerprint)
        row = {"name": run.benchmark, "version": version, "fingerprint": fingerprint, "spec": spec}
        added = connection.execute(
            insert(schema.benchmarks).values({**row, "total": len(samples)}).on_conflict_do_nothing()
        )
        where = schema.benchmarks.c.fingerprint == fingerprint
        benchmark_id = int(connection.execute(select(schema.benchmarks.c.id).where(where)).scalar_one())
        if added.rowcount:
            payloads = [blobs.pack(payload(sample)) for sample, _ in samples]
            rows = [
                {
                    "benchmark_id": benchmark_id,
                    "sample_no": no,
                    "sample_id": sample.id,
                    "content_hash": bytes.fromhex(digest),
                    "cluster": sample.cluster,
                    "slices": canonical_json(dict(sample.slices)),
                    "payload": payload["hash"],
                }
                for no, ((sample, digest), payload) in enumerate(zip(samples, payloads, strict=True))
            ]
            _insert(connection, schema.blobs, payloads)
            _insert(connection, schema.samples, rows)
        return benchmark_id

    def _save_all(self, answers: Sequence[Answer]) -> None:
        """One transaction: texts first, so that a hash never dangles."""
        texts, rows, hits = [], [], []
        for answer in answers:
            request, response = blobs.pack(answer.request), blobs.pack(response_text(answer.response))
            texts += [request, response]
            rows.append(response_row(answer, request["hash"], response["hash"]))
            if answer.cache_key is not None and _worth_caching(answer.response):
                hits.append(cache_row(answer, response["hash"]))
        with self._write() as connection:
            _insert(connection, schema.blobs, texts)
            _upsert_responses(connection, rows)
            _insert(connection, schema.cache, hits)

    def _metric(self, connection: Connection, metric: MetricRow) -> int:
        connection.execute(insert(schema.metrics).values(asdict(metric)).on_conflict_do_nothing())
        table = schema.metrics.c
        query = select(table.id).where(
            table.name == metric.name, table.options == metric.options, table.source_hash == metric.source_hash
        )
        return int(connection.execute(query).scalar_one())

    def _close_run(self, connection: Connection, run_id: int, seconds: float) -> None:
        values = {
            "status": RunStatus.finished,
            "finished": now(),
            "digest": _digest(connection, run_id),
            "seconds": schema.runs.c.seconds + seconds,
        }
        connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(values))

    def _sample_view(self, connection: Connection, row: RowMapping) -> dict[str, Any]:
        response = stored_response(row)
        payload = json.loads(_blob(connection, row["payload"]))
        outcome = None if row["outcome"] is None else Outcome(row["outcome"]).name
        return {
            "id": row["sample_id"],
            "repeat": row["repeat"],
            "outcome": outcome,
            "value": row["value"],
            "note": row["note"] or "",
            "target": payload["target"],
            "answer": response.answer,
            "text": response.text,
            "logprobs": dict(zip(payload["choices"], response.logprobs, strict=False)),
            "finish_reason": response.finish_reason.name,
            "error": response.error,
            "input_tokens": response.input_tokens,
            "output_tokens": response.output_tokens,
            "slices": json.loads(row["slices"]),
            "request": json.loads(_blob(connection, row["request"])),
        }


def _worth_caching(response: Response) -> bool:
    """What the model answered, also when our extractor could not read it."""
    return not response.cached and (not response.failed or response.error_kind is ErrorKind.extractor)


def _upsert_responses(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row is replaced only while it is a failure; an answer is never overwritten."""
    table = schema.responses
    statement = insert(table)
    kept = {
        name: statement.excluded[name] for name in rows[0] if name not in ("run_id", "sample_no", "repeat", "tries")
    }
    statement = statement.on_conflict_do_update(
        index_elements=["run_id", "sample_no", "repeat"], set_={**kept, "tries": table.c.tries + 1}, where=_failed()
    )
    connection.execute(statement, list(rows))


def _failed() -> ColumnElement[bool]:
    """``Response.failed`` as a condition."""
    table = schema.responses.c
    return table.error.is_not(None) | (table.error_kind != 0) | (table.finish_reason == FinishReason.error)


def _runs() -> Any:
    return select(
        schema.runs,
        schema.benchmarks.c.name.label("benchmark"),
        schema.benchmarks.c.fingerprint,
        schema.benchmarks.c.spec,
    ).join(schema.benchmarks)


def _digest(connection: Connection, run_id: int) -> bytes:
    """SHA-256 over configuration and responses: equal for equal content, whenever and wherever it ran.

    A run that began with the rows of another never has the digest of that one, also where it came to nothing new.
    """
    table = schema.responses.c
    query = (
        select(
            schema.samples.c.sample_id,
            table.repeat,
            table.request,
            table.response,
            table.answer,
            table.finish_reason,
            table.error_kind,
        )
        .join(schema.runs, schema.runs.c.id == schema.responses.c.run_id)
        .join(schema.samples, OF_THE_SAME_SAMPLE)
        .where(table.run_id == run_id)
    )
    rows = [[item.hex() if isinstance(item, bytes) else item for item in row] for row in connection.execute(query)]
    run = schema.runs.c
    columns = select(run.config, run.parts, run.model_identity, run.limit, run.draw, run.seed, run.total, run.parent)
    *config, parent = connection.execute(columns.where(run.id == run_id)).one()
    lineage = [] if parent is None else [parent.hex()]
    return sha256([config + lineage, sorted(rows, key=canonical_json)])


def _blob_columns() -> tuple[Any, Any]:
    return schema.blobs.c.codec, schema.blobs.c.bytes


def _blob(connection: Connection, digest: bytes) -> str:
    row = connection.execute(select(*_blob_columns()).where(schema.blobs.c.hash == digest)).one()
    return blobs.unpack(row.codec, row.bytes)


def _insert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    listed = list(rows)
    if listed:
        connection.execute(insert(table).on_conflict_do_nothing(), listed)


def _chunks(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]
