"""How runs, responses, scores and estimates become rows of the tables, and rows become them again."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import RowMapping

from vevals.canonical import canonical_json, finite, sha256
from vevals.store import blobs
from vevals.types import ErrorKind, Estimate, FinishReason, Outcome, Response, Run, RunStatus, Sample, Scored

Place = tuple[int, int]
"""A row of a run: the number of the sample, and which repeat of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response on its way into the store. ``request`` is the canonical text of what was asked."""

    run_id: int
    sample_no: int
    request: str
    response: Response
    cache_key: bytes | None = None
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric as the store knows it: what identifies it, and its range."""

    name: str
    options: str
    source_hash: str
    worst: float
    best: float


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it stands in the store. ``key`` is hexadecimal; its first 8 digits name the run on the command line.

    ``digest`` (hex) covers configuration and responses; it is empty while the run is not finished. ``parts``: hashes of
    what makes runs comparable. ``total``: rows to be answered, samples x ``repeats``. ``parent``: digest of the frozen
    run whose good rows this one began with, or empty.
    """

    id: int
    key: str
    benchmark: str
    fingerprint: str
    spec: Mapping[str, Any]
    model: str
    model_hash: str
    label: str
    limit: int | None
    draw: int | None
    seed: int
    total: int
    status: RunStatus
    provenance: Mapping[str, Any]
    started: int
    finished: int | None
    seconds: float
    digest: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    model_identity: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    attempt: int = 1
    parent: str = ""

    @property
    def same_model(self) -> str:
        """What runs of one model share (hex): its hash. Recorded outputs are one model by their name, since those of
        several benchmarks may lie in several files.
        """
        if self.model_identity.get("kind") != "replay":
            return self.model_hash
        return sha256({key: value for key, value in self.model_identity.items() if key != "outputs"}).hex()

    @property
    def samples(self) -> int:
        """Questions, however often each was asked."""
        return self.total // self.repeats

    @property
    def title(self) -> str:
        """The model as it is shown, with the label that keeps this run apart."""
        return f"{self.model} [{self.label}]" if self.label else self.model


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """One entry of the log of baselines. ``runs``: their digests (hex). ``at``: microseconds since 1970 (UTC)."""

    id: int
    name: str
    set_digest: str
    runs: tuple[str, ...]
    who: str
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One entry of the ledger; hashes are hexadecimal. ``body``: the verdict's JSON with its ``digest`` and ``prev``.

    ``prev``: digest of the verdict written before, empty for the first. ``link``: hash over the link before and this
    row. ``candidate``: digest of the set of runs that was judged. ``at``: microseconds since 1970 (UTC).
    """

    id: int
    digest: str
    prev: str
    link: str
    key: str
    attempt: int
    state: str
    candidate: str
    body: Mapping[str, Any]
    at: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One row of a finished run, without its texts. ``content_hash`` is hexadecimal; ``cached``: the answer came from
    the store. ``scores``: metric name -> outcome and value, None where there is no value.
    """

    sample_no: int
    repeat: int
    sample_id: str
    content_hash: str
    cluster: str | None
    slices: Mapping[str, str]
    input_tokens: int
    output_tokens: int
    seconds: float
    cached: bool
    scores: Mapping[str, tuple[Outcome, float | None]]


def run_key(run: Run) -> bytes:
    """SHA-256 of what makes two runs the same run: equal keys continue each other, unequal ones never mix.

    What is as it was before there were repeats is left out, so that runs of that time are still found.
    """
    later = {"repeats": (run.repeats, 1), "attempt": (run.attempt, 1), "parent": (run.parent, "")}
    return sha256(
        {
            **{name: value for name, (value, before) in later.items() if value != before},
            "fingerprint": run.fingerprint,
            "model": dict(run.model_identity),
            "options": asdict(run.options),
            "label": run.label,
            "selection": run.selection,
            "limit": run.limit,
            "draw": run.draw,
            "seed": run.seed,
        }
    )


def response_text(response: Response) -> str:
    """What of a response is stored as content: its text, or the numbers of its choices."""
    if not response.logprobs:
        return response.text
    numbers = [finite(value) for value in response.logprobs]
    return canonical_json({"logprobs": numbers, "tokens": response.choice_tokens, "greedy": response.greedy})


def payload(sample: Sample) -> str:
    parts = {"input": sample.input, "target": sample.target, "choices": sample.choices}
    return canonical_json(parts)


def run_row(run: Run, benchmark_id: int) -> dict[str, Any]:
    return {
        "key": run_key(run),
        "benchmark_id": benchmark_id,
        "parts": canonical_json(dict(run.parts)),
        "model": run.model,
        "model_hash": sha256(dict(run.model_identity)),
        "model_identity": canonical_json(dict(run.model_identity)),
        "config": canonical_json({"options": asdict(run.options), "benchmark": run.benchmark}),
        "label": run.label,
        "limit": run.limit,
        "draw": run.draw,
        "seed": run.seed,
        "total": run.total,
        "status": RunStatus.unfinished,
        "provenance": canonical_json(dict(run.provenance)),
        "started": now(),
        "seconds": 0.0,
        "repeats": run.repeats,
        "attempt": run.attempt,
        "parent": bytes.fromhex(run.parent) or None,
    }


def response_row(answer: Answer, request: bytes, response: bytes) -> dict[str, Any]:
    given = answer.response
    return {
        "run_id": answer.run_id,
        "sample_no": answer.sample_no,
        "repeat": answer.repeat,
        "request": request,
        "response": response,
        "answer": storable(given.answer),
        "finish_reason": given.finish_reason,
        "error": storable(given.error),
        "error_kind": given.error_kind,
        "input_tokens": given.input_tokens,
        "output_tokens": given.output_tokens,
        "seconds": given.seconds,
        "cached": int(given.cached),
        "scored": int(bool(given.logprobs)),
        "tries": 1,
    }


def place_of(row: RowMapping) -> Place:
    return row["sample_no"], row["repeat"]


def inherited_row(row: RowMapping, run_id: int, place: Place, given: Response) -> dict[str, Any]:
    """A stored response as a row of another run, with the answer and the error of ``given``."""
    changed = {"answer": storable(given.answer), "error": storable(given.error), "error_kind": given.error_kind}
    return {**row, "run_id": run_id, "sample_no": place[0], "repeat": place[1], **changed}


def cache_row(answer: Answer, response: bytes) -> dict[str, Any]:
    given = answer.response
    facts = {
        "finish_reason": int(given.finish_reason),
        "input_tokens": given.input_tokens,
        "output_tokens": given.output_tokens,
        "seconds": given.seconds,
        "scored": bool(given.logprobs),
    }
    return {"request": answer.cache_key, "response": response, "meta": canonical_json(facts), "created": now()}


def cached_response(row: RowMapping) -> Response:
    facts = json.loads(row["meta"])
    response = Response(
        "",
        input_tokens=facts["input_tokens"],
        output_tokens=facts["output_tokens"],
        seconds=facts["seconds"],
        finish_reason=FinishReason(facts["finish_reason"]),
        cached=True,
    )
    return with_content(response, blobs.unpack(row["codec"], row["bytes"]), facts["scored"])


def stored_response(row: RowMapping) -> Response:
    response = Response(
        row["sample_id"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        seconds=row["seconds"],
        finish_reason=FinishReason(row["finish_reason"]),
        error=row["error"],
        error_kind=ErrorKind(row["error_kind"]),
        cached=bool(row["cached"]),
        answer=row["answer"],
    )
    return with_content(response, blobs.unpack(row["codec"], row["bytes"]), bool(row["scored"]))


def with_content(response: Response, content: str, scored: bool) -> Response:
    if not scored:
        return replace(response, text=content)
    numbers = json.loads(content)
    logprobs = tuple(-math.inf if value is None else value for value in numbers["logprobs"])
    return replace(response, logprobs=logprobs, choice_tokens=tuple(numbers["tokens"]), greedy=tuple(numbers["greedy"]))


def score_row(run_id: int, place: Place, metric_id: int, scored: Scored) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "sample_no": place[0],
        "repeat": place[1],
        "metric_id": metric_id,
        "outcome": scored.outcome,
        "value": scored.value,
        "note": storable(scored.note),
    }


def estimate_row(
    run_id: int, metric_id: int, position: int, estimate: Estimate, rows: Sequence[tuple[Place, Scored]]
) -> dict[str, Any]:
    used = sorted(
        ([scored.sample.id, place[1], int(scored.outcome), scored.value] for place, scored in rows),
        key=lambda row: (row[0], row[1]),
    )
    return {
        "run_id": run_id,
        "metric_id": metric_id,
        "position": position,
        "value": finite(estimate.value),
        "low": finite(estimate.low),
        "high": finite(estimate.high),
        "scored": estimate.scored,
        "total": estimate.total,
        "method": estimate.method,
        "digest": sha256(used),
    }


def estimate_of(row: RowMapping) -> Estimate:
    value, low, high = (math.nan if row[name] is None else row[name] for name in ("value", "low", "high"))
    return Estimate(value, low, high, row["scored"], row["total"], row["method"])


def run_of(row: RowMapping) -> RunRow:
    status = RunStatus(row["status"])
    return RunRow(
        id=row["id"],
        key=row["key"].hex(),
        benchmark=row["benchmark"],
        fingerprint=row["fingerprint"].hex(),
        spec=json.loads(row["spec"]),
        model=row["model"],
        model_hash=row["model_hash"].hex(),
        label=row["label"],
        limit=row["limit"],
        draw=row["draw"],
        seed=row["seed"],
        total=row["total"],
        status=status,
        provenance=json.loads(row["provenance"]),
        started=row["started"],
        finished=row["finished"],
        seconds=row["seconds"],
        digest=hex_of(row["digest"]) if status is RunStatus.finished else "",
        parts=json.loads(row["parts"]),
        model_identity=json.loads(row["model_identity"]),
        options=json.loads(row["config"])["options"],
        repeats=row["repeats"],
        attempt=row["attempt"],
        parent=hex_of(row["parent"]),
    )


def hex_of(value: bytes | None) -> str:
    """A hash as it is written; empty where there is none."""
    return "" if value is None else value.hex()


def storable(value: str | None) -> str | None:
    """SQLite wants valid UTF-8: lone surrogates become visible escapes."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8")


def now() -> int:
    return time.time_ns() // 1000
