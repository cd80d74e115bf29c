"""The logs of baselines and verdicts: added to, never changed, and bound together."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vevals.canonical import sha256_hex
from vevals.errors import StoreError
from vevals.store import Answer, RunRow, Store
from vevals.types import Options, Response, Run, Sample

KEY = "ee" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "v.db"))


def finished(store: Store, label: str = "") -> RunRow:
    sample = Sample("s0", "question", ("yes",))
    described = Run("test/x", "cd" * 32, "fake:m", {"kind": "fake"}, Options(), total=1, label=label)
    run = store.start(described, [(sample, "ab" * 32)], "{}", 1)
    store.save(Answer(run.id, 0, "{}", Response("s0", text=f"yes {label}")))
    store.flush()
    store.finish(run.id, [], seconds=0.0)
    return store.run(run.key)


def digest_of(body: Any) -> str:
    return sha256_hex({name: value for name, value in body.items() if name not in ("digest", "prev")})


def body(number: int, run: str = "ab" * 32) -> dict[str, Any]:
    return {"state": "PASS", "number": number, "candidate": {"digest": "cd" * 32, "runs": [{"digest": run}]}}


def write(store: Store, number: int, key: str = KEY, run: str = "ab" * 32) -> str:
    content = body(number, run)
    return store.add_verdict(content, digest_of(content), key, number, "PASS").digest


def test_a_baseline_is_a_log_with_the_newest_entry_last(store: Store) -> None:
    old, new = finished(store), finished(store, "b")
    store.add_baseline("prod", "11" * 32, [old.digest], "ann", "first release")
    store.add_baseline("stage", "22" * 32, [new.digest], "bob", "trial")
    added = store.add_baseline("prod", "33" * 32, [new.digest, old.digest], "ann", "second release")
    log = store.baselines("prod")
    assert [(entry.who, entry.reason, entry.set_digest) for entry in log] == [
        ("ann", "first release", "11" * 32),
        ("ann", "second release", "33" * 32),
    ]
    assert log[-1] == added and added.runs == (new.digest, old.digest) and log[0].at <= added.at
    assert [entry.name for entry in store.baselines()] == ["prod", "stage", "prod"]
    assert store.baselines("nobody") == []


def test_only_finished_runs_of_this_store_can_be_a_baseline(store: Store) -> None:
    run = finished(store)
    with pytest.raises(StoreError, match="'prod' cannot be set: run abababab is not finished here"):
        store.add_baseline("prod", "11" * 32, [run.digest, "ab" * 32], "ann", "")
    with pytest.raises(StoreError, match="there is no run in it"):
        store.add_baseline("prod", "11" * 32, [], "ann", "")
    store.reopen(run.id)
    with pytest.raises(StoreError, match="is not finished here"):
        store.add_baseline("prod", "11" * 32, [run.digest], "ann", "")
    assert store.baselines() == []


def test_a_run_that_a_baseline_or_verdict_names_is_not_reopened(store: Store) -> None:
    runs = [finished(store, label) for label in "abc"]
    store.add_baseline("prod", "11" * 32, [runs[0].digest], "ann", "")
    write(store, 1, run=runs[1].digest)
    assert [store.frozen(run.digest) for run in runs] == [True, True, False]
    assert [store.reopen(run.id) for run in runs] == [False, False, True]
    assert [run.digest != "" for run in store.runs()] == [True, True, False]
    assert not store.frozen("")


def test_a_verdict_names_the_one_before_it_whatever_its_key(store: Store) -> None:
    first, second, third = write(store, 1), write(store, 2, "ff" * 32), write(store, 3)
    assert [row.prev for row in store.verdicts()] == ["", first, second]
    assert [row.digest for row in store.verdicts(KEY)] == [first, third]
    row = store.verdict(third[:10])
    assert (row.attempt, row.state, row.candidate, row.key) == (3, "PASS", "cd" * 32, KEY)
    assert row.body == {**body(3), "digest": third, "prev": second}
    assert store.check_chain(digest_of) == []


def test_the_same_verdict_is_written_once(store: Store) -> None:
    first = write(store, 1)
    write(store, 2)
    before = store.verdicts()
    assert write(store, 1) == first
    assert store.verdicts() == before


@pytest.mark.parametrize("name", ["", "zz", "00000000"])
def test_a_verdict_that_cannot_be_meant_is_one_sentence(store: Store, name: str) -> None:
    write(store, 1)
    write(store, 2)
    with pytest.raises(StoreError, match="2 verdicts begin with" if not name else "no verdict is called"):
        store.verdict(name)


CHANGES = [
    "UPDATE {table} SET at = 0",
    "DELETE FROM {table}",
    "INSERT OR REPLACE INTO {table} SELECT * FROM {table} WHERE id = 1",
]


@pytest.mark.parametrize("table", ["baselines", "verdicts"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_database_refuses_to_change_an_entry(store: Store, table: str, change: str) -> None:
    store.add_baseline("prod", "11" * 32, [finished(store).digest], "ann", "")
    write(store, 1)
    before = store.baselines(), store.verdicts()
    with closing(sqlite3.connect(store.path)) as raw, pytest.raises(sqlite3.IntegrityError, match="only added to"):
        raw.execute(change.format(table=table))
    assert (store.baselines(), store.verdicts()) == before


FORGERIES = {
    "UPDATE verdicts SET state = 'FAIL' WHERE id = 2": ["is not what was written"],
    "UPDATE verdicts SET at = at - 1 WHERE id = 3": ["is not what was written"],
    "UPDATE verdicts SET body = replace(body, '\"number\":1', '\"number\":7') WHERE id = 1": [
        "is not what was written",
        "another content than its digest says",
    ],
    "DELETE FROM verdicts WHERE id = 2": ["does not follow the one that stands before it"],
    "UPDATE verdicts SET id = 9 WHERE id = 1": ["does not follow", "does not follow"],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_ledger_that_was_forged_behind_its_triggers_is_found_out(store: Store, forgery: str) -> None:
    for number in (1, 2, 3):
        write(store, number)
    with closing(sqlite3.connect(store.path)) as raw, raw:
        for name in ("no_update", "no_delete", "no_replace"):
            raw.execute(f"DROP TRIGGER verdicts_{name}")
        raw.execute(forgery)
    problems = store.check_chain(digest_of)
    assert len(problems) == len(FORGERIES[forgery])
    assert all(part in problem for part, problem in zip(FORGERIES[forgery], problems, strict=True))


def test_processes_that_write_at_once_make_one_chain(store: Store) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_ledger import *\n"
        "store = Store(sys.argv[1])\n"
        "for number in range(int(sys.argv[3]), int(sys.argv[3]) + 20): write(store, number)"
    )
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", code, str(store.path), here]
    jobs = [subprocess.Popen([*arguments, start]) for start in ("100", "200", "300")]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0, 0]
    assert len(store.verdicts()) == 60
    assert store.check_chain(digest_of) == []
