"""What a run observed, read back row by row."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vevals.store import Answer, MetricRow, RunRow, Store
from vevals.types import ErrorKind, Estimate, FinishReason, Options, Outcome, Response, Run, Sample, Scored

METRICS = [MetricRow("accuracy", "{}", "hash", 0.0, 1.0), MetricRow("cost", '{"by":2}', "other", 9.0, 0.0)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "v.db"))


def finished(store: Store, count: int, repeats: int = 1) -> RunRow:
    samples = [
        Sample(f"s{n}", f"question {n}", ("yes",), ("yes", "no"), f"c{n // 2}" if n else None, {"level": f"l{n % 3}"})
        for n in range(count)
    ]
    described = Run("test/x", "cd" * 32, "m", {}, Options(), total=count * repeats, repeats=repeats)
    run = store.start(described, [(sample, f"{n:064x}") for n, sample in enumerate(samples)], "{}", 1)
    rows = []
    for repeat in range(repeats):
        for no, sample in enumerate(samples):
            reply = Response(sample.id, f"yes {repeat}", input_tokens=no, output_tokens=2, seconds=0.5, answer="yes")
            if no == 1:
                failed = {"error": "late", "error_kind": ErrorKind.timeout, "finish_reason": FinishReason.error}
                reply = Response(sample.id, **failed)  # type: ignore[arg-type]
            store.save(Answer(run.id, no, "{}", reply, repeat=repeat))
            outcome, value = (Outcome.failed, None) if no == 1 else (Outcome.scored, float(repeat))
            rows.append(((no, repeat), Scored(sample, reply, outcome, value)))
    store.flush()
    store.finish(run.id, [(metric, rows, Estimate(1, 1, 1, 1, 1, "x")) for metric in METRICS], seconds=1.0)
    return store.run(run.key)


def test_observations_hold_every_repeat_of_every_sample_with_all_scores(store: Store) -> None:
    run = finished(store, 4, repeats=2)
    rows = store.observations(run.id)
    assert [(row.sample_no, row.repeat, row.sample_id) for row in rows] == [
        (no, repeat, f"s{no}") for no in range(4) for repeat in range(2)
    ]
    last = rows[-1]
    assert (last.content_hash, last.cluster, last.slices) == (f"{3:064x}", "c1", {"level": "l0"})
    assert (last.input_tokens, last.output_tokens, last.seconds, last.cached) == (3, 2, 0.5, False)
    assert last.scores == {"accuracy": (Outcome.scored, 1.0), "cost": (Outcome.scored, 1.0)}
    assert rows[2].scores["cost"] == (Outcome.failed, None)
    assert rows[0].cluster is None


def test_metrics_come_in_the_order_of_the_leaderboard(store: Store) -> None:
    assert store.metrics_of(finished(store, 2).id) == METRICS


def test_judged_rows_hold_what_a_metric_of_the_whole_set_reads(store: Store) -> None:
    run = finished(store, 3, repeats=2)
    rows = store.judged(run.id, "cost")
    assert [place for place, _ in rows] == [(no, repeat) for no in range(3) for repeat in range(2)]
    _, scored = rows[5]
    assert (scored.sample.id, scored.sample.target, scored.sample.choices) == ("s2", ("yes",), ("yes", "no"))
    assert (scored.response.text, scored.response.answer, scored.value) == ("yes 1", "yes", 1.0)
    assert rows[2][1].outcome is Outcome.failed and rows[2][1].response.failed


def test_ten_thousand_rows_are_read_in_moments(store: Store) -> None:
    run = finished(store, 10_000)
    begun = time.process_time()
    assert len(store.observations(run.id)) == 10_000
    assert time.process_time() - begun < 1.5
