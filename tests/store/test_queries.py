"""The store on real SQLite files: what is written comes back, and nothing is lost or overwritten."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from vevals.errors import RunLocked, StoreError
from vevals.store import Answer, Store, open_store
from vevals.store.migrations import VERSION
from vevals.store.rows import MetricRow, run_key
from vevals.types import ErrorKind, Estimate, FinishReason, Options, Outcome, Response, Run, RunStatus, Sample, Scored

SAMPLES = [
    (Sample(f"s{n}", f"question {n}", ("yes",), ("yes", "no"), slices={"level": "x"}), "ab" * 32) for n in range(5)
]
METRIC = MetricRow("accuracy", "{}", "hash", 0.0, 1.0)


def a_run(**changes: object) -> Run:
    identity = {"kind": "fake", "name": "m"}
    run = Run("test/x", "cd" * 32, "fake:m", identity, Options(), total=5)
    return replace(run, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "v.db"))


def begun(store: Store, run: Run | None = None) -> int:
    return store.start(run or a_run(), SAMPLES, '{"chance": 0.5}', 1).id


def answer(run_id: int, no: int, response: Response, key: bytes | None = None) -> Answer:
    request = '{"messages":[{"role":"user","content":"question"}]}'
    return Answer(run_id, no, request, response, key)


HOSTILE = "\x00\x1b[31m\u202e\ud800 </script> 数据 \u2028" + "long " * 100


@pytest.mark.parametrize("text", ["", "short", HOSTILE])
def test_a_text_comes_back_as_it_was(store: Store, text: str) -> None:
    run_id = begun(store)
    given = Response("s0", text=text, input_tokens=3, output_tokens=4, seconds=0.5, finish_reason=FinishReason.length)
    store.save(answer(run_id, 0, given))
    store.flush()
    assert list(store.responses(run_id)) == [((0, 0), given)]


def test_numbers_of_choices_come_back_as_they_were(store: Store) -> None:
    run_id = begun(store)
    given = Response("s1", logprobs=(-1.25, -math.inf), choice_tokens=(2, 3), greedy=(True, False), answer="yes")
    store.save(answer(run_id, 1, given))
    store.flush()
    assert list(store.responses(run_id)) == [((1, 0), given)]


def test_an_answer_is_never_overwritten_but_a_failure_is(store: Store) -> None:
    run_id = begun(store)
    failed = Response("s0", error="timeout", error_kind=ErrorKind.timeout, finish_reason=FinishReason.error)
    for response in (failed, Response("s0", text="first"), Response("s0", text="second"), failed):
        store.save(answer(run_id, 0, response))
        store.flush()
    assert [response.text for _, response in store.responses(run_id)] == ["first"]


def test_equal_keys_continue_one_run_and_unequal_ones_never_mix(store: Store) -> None:
    assert begun(store) == begun(store)
    others = [
        a_run(seed=1),
        a_run(draw=3),
        a_run(limit=3),
        a_run(label="b"),
        a_run(options=Options(max_tokens=1)),
        a_run(model_identity={"kind": "fake", "name": "other"}),
        a_run(fingerprint="ef" * 32),
        a_run(repeats=2),
        a_run(attempt=2),
        a_run(parent="ab" * 32),
        a_run(options=Options(temperature=0.7)),
    ]
    assert len({begun(store), *(begun(store, run) for run in others)}) == 1 + len(others)
    assert run_key(a_run(provenance={"host": "elsewhere"})) == run_key(a_run())


def test_the_key_of_a_run_without_repeats_is_what_it_was_before_there_were_any() -> None:
    assert run_key(a_run()).hex() == "7f0d1732c8663e24744789b94919276f6ed2f214ef35da3d66e568074db09546"


def test_every_repeat_of_a_sample_is_a_row_of_its_own(store: Store) -> None:
    run_id = begun(store, a_run(repeats=2, total=10))
    for repeat in (1, 0):
        store.save(replace(answer(run_id, 3, Response("s3", text=f"reply {repeat}")), repeat=repeat))
    store.flush()
    assert [(place, response.text) for place, response in store.responses(run_id)] == [
        ((3, 0), "reply 0"),
        ((3, 1), "reply 1"),
    ]


def test_the_cache_answers_an_equal_request_and_keeps_no_failure(store: Store) -> None:
    run_id = begun(store)
    failed = Response("s1", error="boom", error_kind=ErrorKind.internal)
    store.save(answer(run_id, 0, Response("s0", text="hello", output_tokens=2), b"k" * 32))
    store.save(answer(run_id, 1, failed, b"f" * 32))
    store.flush()
    found = store.cached([b"k" * 32, b"f" * 32, b"z" * 32])
    assert list(found) == [b"k" * 32]
    assert (found[b"k" * 32].text, found[b"k" * 32].cached) == ("hello", True)


def finished(store: Store) -> int:
    run_id = begun(store)
    for no, (sample, _) in enumerate(SAMPLES):
        store.save(answer(run_id, no, Response(sample.id, text="yes", answer="yes")))
    store.flush()
    rows = [((no, 0), Scored(s, Response(s.id), Outcome.scored, 1.0)) for no, (s, _) in enumerate(SAMPLES)]
    rows[4] = ((4, 0), Scored(SAMPLES[4][0], Response("s4"), Outcome.unparsed, 0.0, "no label"))
    store.finish(run_id, [(METRIC, rows, Estimate(0.8, 0.4, math.nan, 5, 5, "Wilson"))], seconds=2.0)
    return run_id


def test_scores_and_estimates_come_back_with_their_denominators(store: Store) -> None:
    run_id = finished(store)
    [(name, estimate)] = store.estimates(run_id)
    assert (name, estimate.value, estimate.scored, estimate.total) == ("accuracy", 0.8, 5, 5)
    assert math.isnan(estimate.high)
    assert store.outcomes(run_id) == {"accuracy": {Outcome.scored: 4, Outcome.unparsed: 1}}
    [row] = store.runs()
    assert (row.status, row.seconds, row.total) == (RunStatus.finished, 2.0, 5)
    assert (row.repeats, row.attempt, row.parent, row.samples) == (1, 1, "", 5)
    assert (row.model_identity, row.options["max_tokens"]) == ({"kind": "fake", "name": "m"}, 256)


def test_a_run_has_a_digest_while_it_is_finished(store: Store) -> None:
    run_id = finished(store)
    [row] = store.runs()
    assert row.digest == store.digest_now(run_id) and len(row.digest) == 64
    assert store.reopen(run_id)
    assert store.runs()[0].digest == ""


def test_facts_about_a_run_are_added_to_its_provenance_and_are_not_in_its_digest(store: Store) -> None:
    run_id = finished(store)
    (before,) = store.runs()
    store.note(run_id, {"engine": {"level": "L1"}})
    store.note(run_id, {"engine": {"level": "L2"}, "host": "here"})
    (after,) = store.runs()
    assert after.provenance == {**before.provenance, "engine": {"level": "L2"}, "host": "here"}
    assert after.digest == before.digest == store.digest_now(run_id)


def test_the_next_attempt_follows_the_newest_finished_one(store: Store) -> None:
    assert store.next_attempt(a_run()) == 1
    begun(store)
    assert store.next_attempt(a_run()) == 1
    finished(store)
    begun(store, a_run(attempt=2))
    assert (store.next_attempt(a_run()), store.next_attempt(a_run(label="b"))) == (2, 1)


def test_samples_can_be_looked_at_by_outcome(store: Store) -> None:
    finished(store)
    [row] = store.runs()
    [sample] = store.samples(row, "accuracy", Outcome.unparsed)
    assert (sample["id"], sample["note"], sample["target"], sample["text"]) == ("s4", "no label", ["yes"], "yes")
    assert len(list(store.samples(row, "accuracy"))) == 5


def test_the_digest_depends_on_content_only(tmp_path: Path) -> None:
    digests = []
    for name in ("a.db", "b.db"):
        with Store(str(tmp_path / name)) as store:
            finished(store)
        with closing(sqlite3.connect(tmp_path / name)) as raw:
            digests.append(raw.execute("SELECT digest FROM runs").fetchone()[0])
    assert digests[0] == digests[1] and len(digests[0]) == 32


def test_a_text_that_is_used_twice_is_stored_once(store: Store) -> None:
    run_id = begun(store)
    for no in range(5):
        store.save(answer(run_id, no, Response(f"s{no}", text="the same long answer " * 20)))
    store.flush()
    with closing(sqlite3.connect(store.path)) as raw:
        sizes = [size for (size,) in raw.execute("SELECT size FROM blobs WHERE size > 400")]
    assert sizes == [420]


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    Store(str(path)).close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(VERSION + 1),))
    with pytest.raises(StoreError, match=f"schema version {VERSION + 1}, this vevals knows up to {VERSION}; upgrade"):
        Store(str(path))


@pytest.mark.parametrize("content", [b"this is no database, but long enough to be one" * 100, b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"v\.db: .*database"):
        Store(str(path))
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="was not made by vevals"):
        Store(str(path))


def test_looking_does_not_create_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no results here yet"):
        open_store(str(tmp_path / "none.db"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_server_url_is_refused_with_the_remedy() -> None:
    with pytest.raises(StoreError, match="runs are written to SQLite"):
        open_store("postgresql://localhost/x")


def test_a_run_is_locked_against_a_second_process(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys; from vevals.store import Store; from vevals.errors import RunLocked\n"
        "try:\n    with Store(sys.argv[1]).lock('ab' * 32): print('got it')\n"
        "except RunLocked as error: print('refused:', error)"
    )
    command = [sys.executable, "-c", code, str(store.path)]
    with store.lock("ab" * 32):
        held = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    free = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert held.startswith("refused: ") and "another process" in held
    assert free == "got it\n"


def test_two_processes_write_different_runs_into_one_file(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); from test_queries import *\n"
        "store = Store(sys.argv[1]); run_id = begun(store, a_run(label=sys.argv[2]))\n"
        "for no in range(5):\n"
        "    for turn in range(40):\n"
        "        store.save(answer(run_id, no, Response(f's{no}', error='again', text=f'{turn}')))\n"
        "        if turn % 10 == 0: store.flush()\n"
        "    store.save(answer(run_id, no, Response(f's{no}', text=sys.argv[2])))\n"
        "store.flush(); store.close()"
    )
    path = str(tmp_path / "v.db")
    here = str(Path(__file__).parent)
    jobs = [subprocess.Popen([sys.executable, "-c", code, path, label, here]) for label in ("one", "two", "three")]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0, 0]
    with Store(path) as store:
        for run in store.runs():
            assert [response.text for _, response in store.responses(run.id)] == [run.label] * 5
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_failed_write_is_raised_by_flush(store: Store) -> None:
    run_id = begun(store)
    store.save(answer(run_id + 99, 0, Response("s0", text="for a run that is not there")))
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.flush()


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    run_id = finished(store)
    seen: list[int] = []
    with store._write():
        reader = threading.Thread(target=lambda: seen.append(len(list(store.responses(run_id)))))
        reader.start()
        reader.join(timeout=10)
    assert seen == [5]


def test_run_locked_is_a_store_error() -> None:
    assert issubclass(RunLocked, StoreError)
