"""Which finished runs of a store stand for a model, and their rows as evidence."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vevals import metrics
from vevals.errors import MetricError, StoreError
from vevals.evidence import NO_ROW, Column, Evidence, Floats, Rows, RunFact, RunSet, Statistic, Usage
from vevals.metrics import Metric
from vevals.store import MetricRow, Observation, RunRow, Store
from vevals.types import RunStatus, Scored

BASELINE = "baseline:"
SHOWN_DIGITS = 8
RECENT = 30 * 86_400 * 1_000_000
"""30 days in microseconds."""


# -- which runs ----------------------------------------------------------------------------------------------------


def load(store: Store, name: str) -> RunSet:
    """The run set called ``name``: a model's title, a label, keys of runs with commas between, or ``baseline:NAME``.

    Runs over the first rows only are no evidence. Of several runs over the same questions a complete one stands before
    a draw, a longer draw before a shorter one, and the current version of a benchmark before an older one; attempts are
    pooled; anything else is ambiguous, which is a problem of that benchmark.

    Raises:
        StoreError: nothing in the store is called so.
    """
    if name.startswith(BASELINE):
        return _baseline(store, name)
    finished = [run for run in store.runs() if run.status is RunStatus.finished]
    chosen = [run for run in finished if run.title == name]
    chosen = chosen or [run for run in finished if run.label and run.label == name] or _by_keys(store, name)
    if not chosen:
        hint = f"; it is a baseline: write {BASELINE}{name}" if store.baselines(name) else _nearest(name, finished)
        raise StoreError(f"{store.path}: no finished runs are called '{name}'{hint}")
    return _gathered(store, name, chosen)


def of_digests(store: Store, name: str, digests: Sequence[str]) -> RunSet:
    """The run set of exactly these runs, by digest (hex). StoreError where one is not in the store."""
    known = {run.digest: run for run in store.runs() if run.status is RunStatus.finished}
    missing = [digest for digest in digests if digest not in known]
    if missing:
        raise StoreError(
            f"{store.path}: {len(missing)} of {len(digests)} runs of '{name}' are not in this store, "
            f"{missing[0][:12]} first; copy the database in which they were run, or name it with --db"
        )
    by_benchmark: dict[str, list[RunRow]] = {}
    for digest in digests:
        by_benchmark.setdefault(known[digest].benchmark, []).append(known[digest])
    return RunSet(name, {benchmark: _pooled(store, runs) for benchmark, runs in sorted(by_benchmark.items())})


def pool(store: Store, ours: RunSet, baseline: RunSet | None) -> tuple[RunSet, int]:
    """The run set with every other attempt of the store pooled in, and the number of attempts that it then holds.

    An attempt is a run of the same model on the same questions, prompt, options and scorer, under whatever label, that
    was finished after the baseline's runs (without one: in the last 30 days): picking the best of several is what
    this forbids. A run that the evidence contains (a shorter draw, or the same answers again) is none of its own.
    """
    theirs = [] if baseline is None else baseline.runs
    since = max((run.finished for run in theirs), default=time.time_ns() // 1000 - RECENT)
    named = {run.digest for run in (*ours.runs, *theirs)}
    finished = [run for run in store.runs() if run.status is RunStatus.finished]
    rows = {run.digest: run for run in finished}
    newer = [run for run in finished if (run.finished or 0) > since or run.digest in named]
    replaced = {run.parent for run in newer if run.parent}
    free = [run for run in newer if run.digest not in named | replaced]
    evidence = {}
    for name, one in ours.evidence.items():
        own = [rows[fact.digest] for fact in one.runs]
        others = [run for run in free if _same_question(run, own[0])]
        evidence[name] = _with_attempts(store, one, own, others) if others else one
    attempts = max((len(one.runs) for one in evidence.values()), default=1)
    return replace(ours, evidence=evidence), attempts


def _same_question(run: RunRow, own: RunRow) -> bool:
    same = (run.benchmark, run.model_hash, run.parts) == (own.benchmark, own.model_hash, own.parts)
    return same and run.limit is None


def _with_attempts(store: Store, evidence: Evidence, own: Sequence[RunRow], others: Sequence[RunRow]) -> Evidence:
    """The evidence of ``own`` runs with that of ``others`` which it does not hold, oldest first."""
    parts, held = [_evidence(store, run) for run in own], evidence
    for run in sorted(others, key=lambda run: (run.finished or 0, run.id)):
        more = _evidence(store, run)
        if _contains(held, more):
            continue
        # The same answers and further ones replace what is held: a shorter draw of them is no choice.
        parts = [more] if _contains(more, held) else [*parts, more]
        held = _joined(parts)
    return held


def evidence_of(store: Store, run: RunRow) -> Evidence:
    """The rows of one finished run."""
    return _pooled(store, [run])


def has_current_metrics(store: Store, run: RunRow) -> bool:
    """Whether the score of a run can be computed again over some of its samples: its metric is here, and unchanged."""
    info = store.metrics_of(run.id)[0]
    try:
        metric = metrics.get(info.name, json.loads(info.options))
    except MetricError:
        return False
    return metric.statistic is None or metric.source_hash == info.source_hash


def tampered(store: Store, digests: Sequence[str]) -> list[str]:
    """Runs whose answers are no longer those that their digest was taken of."""
    runs = [run for run in store.runs() if run.digest in digests]
    return [
        f"run {run.key[:SHOWN_DIGITS]}: its answers were changed"
        for run in runs
        if store.digest_now(run.id) != run.digest
    ]


def _baseline(store: Store, name: str) -> RunSet:
    entries = store.baselines(name.removeprefix(BASELINE))
    if not entries:
        raise StoreError(f"{store.path}: no baseline is called '{name.removeprefix(BASELINE)}'")
    return of_digests(store, name, entries[-1].runs)


def _by_keys(store: Store, name: str) -> list[RunRow]:
    parts = [part.strip() for part in name.split(",") if part.strip()]
    if not parts or not all(len(part) >= 4 and set(part.lower()) <= set("0123456789abcdef") for part in parts):
        return []
    runs = [store.run(part) for part in parts]
    for run in runs:
        if run.status is not RunStatus.finished:
            raise StoreError(f"run {run.key[:SHOWN_DIGITS]} of {run.benchmark} is not finished; run it to its end")
    return runs


def _nearest(name: str, finished: Sequence[RunRow]) -> str:
    known = sorted({word for run in finished for word in (run.title, run.label) if word})
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there is {', '.join(known)}" if known else "; there are none at all"


def _gathered(store: Store, name: str, chosen: Sequence[RunRow]) -> RunSet:
    by_benchmark: dict[str, list[RunRow]] = {}
    for run in chosen:
        by_benchmark.setdefault(run.benchmark, []).append(run)
    mixed = _mixed(chosen)
    evidence: dict[str, Evidence] = {}
    problems: dict[str, str] = {}
    for benchmark, runs in sorted(by_benchmark.items()):
        picked = mixed or pick(runs)
        if isinstance(picked, str):
            problems[benchmark] = picked
        else:
            evidence[benchmark] = _pooled(store, picked)
    return RunSet(name, evidence, problems)


def _mixed(chosen: Sequence[RunRow]) -> str:
    """Runs of several models are no candidate; empty where they are of one."""
    titles = sorted({run.title for run in chosen})
    if len({run.same_model for run in chosen}) == 1:
        return ""
    return f"these are runs of several models ({', '.join(titles)}): a run set stands for one"


def pick(runs: Sequence[RunRow]) -> list[RunRow] | str:
    """The runs (attempts) of one benchmark that count, or why none does."""
    replaced = {run.parent for run in runs if run.parent}
    runs = [run for run in runs if run.digest not in replaced]
    newest = max(runs, key=lambda run: run.finished or 0).fingerprint
    whole = [run for run in runs if run.fingerprint == newest and run.limit is None]
    if not whole:
        return "only first rows were run (--limit), which is never evidence; run it whole or with --draw"
    attempts: dict[int, RunRow] = {}
    for run in sorted(whole, key=lambda run: (run.draw is not None, -(run.draw or 0))):
        first = attempts.setdefault(run.attempt, run)
        if not _stands_for(first, run):
            keys = " and ".join(one.key[:SHOWN_DIGITS] for one in (first, run))
            return f"ambiguous: {keys} are different runs of it; name the runs by their keys, or run with --label"
    return [attempts[number] for number in sorted(attempts)]


def _stands_for(run: RunRow, other: RunRow) -> bool:
    """Whether ``run`` is ``other``, or holds all of its samples under equal conditions."""
    if run.key == other.key or run.digest == other.digest:
        return True
    same = (run.model_hash, run.parts, run.repeats) == (other.model_hash, other.parts, other.repeats)
    return same and other.draw is not None and (run.draw is None or (run.seed == other.seed and run.draw > other.draw))


# -- their rows ----------------------------------------------------------------------------------------------------


def _pooled(store: Store, runs: Sequence[RunRow]) -> Evidence:
    return _joined([_evidence(store, run) for run in runs])


def _evidence(store: Store, run: RunRow) -> Evidence:
    rows = list(store.observations(run.id))
    places: dict[str, int] = {}
    for row in rows:
        places.setdefault(row.sample_id, len(places))
    first = {row.sample_id: row for row in reversed(rows)}
    ordered = [first[sample] for sample in places]
    shape = (len(places), run.repeats)
    at = [(places[row.sample_id], row.repeat - run.repeats * (run.attempt - 1)) for row in rows]
    columns = {info.name: _column(store, run, info, rows, at, shape) for info in store.metrics_of(run.id)}
    return Evidence(
        benchmark=run.benchmark,
        runs=(_fact(run),),
        parts={**run.parts, "harness": _harness(run)},
        ids=tuple(places),
        contents=tuple(row.content_hash for row in ordered),
        clusters=tuple(row.cluster for row in ordered),
        slices=tuple(row.slices for row in ordered),
        columns=columns,
        usage=_usage(rows, at, shape),
        total=run.total,
        tags=tuple(run.spec.get("tags", ())),
        chance=float(run.spec.get("chance", 0.0)),
    )


def _fact(run: RunRow) -> RunFact:
    return RunFact(
        key=run.key,
        digest=run.digest,
        model=run.title,
        model_hash=run.model_hash,
        label=run.label,
        limit=run.limit,
        draw=run.draw,
        seed=run.seed,
        repeats=run.repeats,
        attempt=run.attempt,
        started=run.started,
        finished=run.finished or 0,
    )


def _harness(run: RunRow) -> str:
    """Major and minor version of the vevals that ran it."""
    return ".".join(str(run.provenance.get("vevals", "")).split(".")[:2])


Places = Sequence[tuple[int, int]]


def _grid(values: Iterable[float], at: Places, shape: tuple[int, int], empty: float = 0.0) -> Floats:
    grid = np.full(shape, empty)
    for place, value in zip(at, values, strict=True):
        grid[place] = value
    return grid


def _usage(rows: Sequence[Observation], at: Places, shape: tuple[int, int]) -> Usage:
    return Usage(
        input_tokens=_grid((row.input_tokens for row in rows), at, shape),
        output_tokens=_grid((row.output_tokens for row in rows), at, shape),
        seconds=_grid((row.seconds for row in rows), at, shape),
        cached=_grid((row.cached for row in rows), at, shape) > 0,
    )


def _column(
    store: Store, run: RunRow, info: MetricRow, rows: Sequence[Observation], at: Places, shape: tuple[int, int]
) -> Column:
    metric = metrics.get(info.name, json.loads(info.options))
    judged = [row.scores.get(info.name, (NO_ROW, None)) for row in rows]
    values = _grid((np.nan if value is None else value for _, value in judged), at, shape, np.nan)
    outcomes = _grid((int(outcome) for outcome, _ in judged), at, shape, NO_ROW).astype(np.int8)
    statistic = None
    if metric.statistic is not None:
        ids = list(dict.fromkeys(row.sample_id for row in rows))
        statistic = _statistic(store, run, info, metric, ids)
    return Column(info.name, info.worst, info.best, metric.binary, values, outcomes, statistic)


def _statistic(store: Store, run: RunRow, info: MetricRow, metric: Metric, ids: Sequence[str]) -> Statistic:
    """The set-level value over some samples, all their repeats; the texts are read when it is first asked for."""

    @cache
    def prepared() -> tuple[Callable[[Rows], float], Callable[[Rows], Rows]]:
        if metric.source_hash != info.source_hash:
            if not metric.source_hash:
                raise StoreError(
                    f"the metric {info.name} is aggregated by code of its task, which is not here; "
                    "leave it out with --metric"
                )
            key = run.key[:SHOWN_DIGITS]
            raise StoreError(f"the metric {info.name} was changed since run {key}; 'vevals rescore' scores it anew")
        scored, members = _scored_rows(store, run, info.name, ids)
        return metric.prepare(scored), _places_of(members)

    def value(rows: Rows) -> float:
        of_rows, places_of = prepared()
        picked = places_of(rows)
        return float(of_rows(picked)) if len(picked) else float("nan")

    return value


def _places_of(members: Sequence[Sequence[int]]) -> Callable[[Rows], Rows]:
    """Samples -> their rows; by a plain look-up where each sample has exactly one."""
    if all(len(one) == 1 for one in members):
        single = np.array([one[0] for one in members], dtype=np.intp)
        return lambda rows: single[rows]
    return lambda rows: np.array([place for row in rows for place in members[row]], dtype=np.intp)


def _scored_rows(store: Store, run: RunRow, metric: str, ids: Sequence[str]) -> tuple[list[Scored], list[list[int]]]:
    """Rows that have a value, as a set-level metric wants them, and which of them belong to each sample."""
    places = {sample: place for place, sample in enumerate(ids)}
    valued = [row for _, row in store.judged(run.id, metric) if row.value is not None]
    members: list[list[int]] = [[] for _ in ids]
    for place, row in enumerate(valued):
        members[places[row.sample.id]].append(place)
    return valued, members


# -- several attempts as one ---------------------------------------------------------------------------------------


def _joined(parts: Sequence[Evidence]) -> Evidence:
    """Repeats side by side, on the union of the samples; a sample that a part did not take has no rows there."""
    first = parts[0]
    if len(parts) == 1:
        return first
    union = _union(parts)
    rows = [_rows_of(one, union) for one in parts]
    return replace(
        union,
        runs=tuple(run for one in parts for run in one.runs),
        columns={name: _joined_column(parts, rows, name) for name in first.columns},
        usage=_joined_usage(parts, rows),
        total=sum(one.total for one in parts),
    )


def _union(parts: Sequence[Evidence]) -> Evidence:
    """Ids, contents, clusters and slices of all samples of the parts, in order of first appearance."""
    found: dict[tuple[str, str], tuple[str | None, Mapping[str, str]]] = {}
    for one in parts:
        keys = zip(one.ids, one.contents, strict=True)
        for key, cluster, slices in zip(keys, one.clusters, one.slices, strict=True):
            found.setdefault(key, (cluster, slices))
    return replace(
        parts[0],
        ids=tuple(sample for sample, _ in found),
        contents=tuple(content for _, content in found),
        clusters=tuple(cluster for cluster, _ in found.values()),
        slices=tuple(slices for _, slices in found.values()),
    )


def _rows_of(evidence: Evidence, first: Evidence) -> Rows:
    """(n,) where each sample of ``first`` stands in ``evidence``; -1 where it is not there."""
    places = {key: row for row, key in enumerate(zip(evidence.ids, evidence.contents, strict=True))}
    return np.array([places.get(key, -1) for key in zip(first.ids, first.contents, strict=True)], dtype=np.intp)


def _spread(grid: NDArray[Any], rows: Rows, empty: float) -> NDArray[Any]:
    """(n, K) of another order of samples in ours; rows that are not there are ``empty``."""
    taken = grid[np.maximum(rows, 0)].copy()
    taken[rows < 0] = empty
    return taken


def _joined_column(parts: Sequence[Evidence], rows: Sequence[Rows], name: str) -> Column:
    columns = [one.columns[name] for one in parts if name in one.columns]
    pairs = list(zip(columns, rows, strict=True))
    values = np.hstack([_spread(column.values, place, np.nan) for column, place in pairs])
    outcomes = np.hstack([_spread(column.outcomes, place, NO_ROW) for column, place in pairs])
    statistics = [(column.statistic, place) for column, place in pairs if column.statistic is not None]

    def mean(indices: Rows) -> float:
        drawn = [(whole, place[indices]) for whole, place in statistics]
        found = [whole(picked[picked >= 0]) for whole, picked in drawn if (picked >= 0).any()]
        return float(np.mean(found)) if found else float("nan")

    return replace(columns[0], values=values, outcomes=outcomes, statistic=mean if statistics else None)


def _joined_usage(parts: Sequence[Evidence], rows: Sequence[Rows]) -> Usage:
    def together(name: str) -> NDArray[Any]:
        return np.hstack([_spread(getattr(one.usage, name), place, 0) for one, place in zip(parts, rows, strict=True)])

    input_tokens, output_tokens, seconds = (together(name) for name in ("input_tokens", "output_tokens", "seconds"))
    return Usage(input_tokens, output_tokens, seconds, together("cached") > 0)


def _contains(new: Evidence, old: Evidence) -> bool:
    """Whether the new evidence goes on from the old: all its samples, with the results that those had that had one."""
    rows = _rows_of(new, old)
    if (rows < 0).any() or new.repeats < old.repeats:
        return False
    name = old.score.name
    if name not in new.columns:
        return False
    ours, theirs = new.columns[name].values[rows], old.score.values
    starts = range(ours.shape[1] - old.repeats + 1)
    cells = [ours[:, start : start + old.repeats] for start in starts]
    return any(bool((np.isnan(theirs) | (part == theirs)).all()) for part in cells)
