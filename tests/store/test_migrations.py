"""Databases of earlier releases stay readable: each released schema is kept as a file and brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from vevals.errors import StoreError
from vevals.store import Store, migrations

RELEASED = Path(__file__).parent / "released"


def columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as raw:
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(row[1:] for row in raw.execute(f"PRAGMA table_info({name})")) for name in names}


def rules(path: Path) -> dict[str, str]:
    """Triggers and indexes by name, with their text in one line."""
    query = "SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
    with closing(sqlite3.connect(path)) as raw:
        return {name: " ".join(text.replace('"', "").split()) for name, text in raw.execute(query)}


@pytest.mark.parametrize("released", sorted(RELEASED.glob("*.db")), ids=lambda path: path.stem)
def test_a_released_database_opens_with_all_its_runs_and_the_schema_of_a_new_one(
    released: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    shutil.copy(released, old)
    with Store(str(old)) as store:
        runs = store.runs()
        assert runs and all(store.estimates(run.id) for run in runs)
        assert all(store.digest_now(run.id) == run.digest for run in runs)
        assert store.check_chain() == []
    Store(str(new)).close()
    assert columns(old) == columns(new)
    assert rules(old) == rules(new) and "verdicts_no_delete" in rules(new)


def test_a_database_of_the_first_release_still_shows_its_results(tmp_path: Path) -> None:
    shutil.copy(RELEASED / "schema-1.db", tmp_path / "v.db")
    with Store(str(tmp_path / "v.db")) as store:
        run = store.runs()[0]
        scores = [(name, round(estimate.value, 4)) for name, estimate in store.estimates(run.id)]
        assert scores == [("accuracy", 0.3333), ("macro_f1", 0.1667)]
        assert (run.repeats, run.attempt, run.parent, run.samples) == (1, 1, "", 24)
        assert store.digest_now(run.id) == run.digest
        rows = store.observations(run.id)
        assert (len(rows), sum(row.scores["accuracy"][1] or 0 for row in rows)) == (24, 8)
        assert store.baselines() == store.verdicts() == []


def test_a_database_of_the_second_release_still_shows_attempts_a_baseline_and_a_verdict(tmp_path: Path) -> None:
    shutil.copy(RELEASED / "schema-2.db", tmp_path / "v.db")
    with Store(str(tmp_path / "v.db")) as store:
        runs = store.runs()
        assert [(run.repeats, run.attempt, run.total) for run in runs] == [
            (1, 1, 24),
            (2, 1, 48),
            (2, 2, 48),
            (1, 1, 24),
            (1, 1, 24),
        ]
        [baseline], [verdict] = store.baselines("prod"), store.verdicts()
        assert runs[3].digest == runs[4].parent == baseline.runs[0]
        assert (verdict.state, verdict.body["candidate"]["runs"]) == ("INCONCLUSIVE", [{"digest": runs[4].digest}])
        assert [row.repeat for row in store.observations(runs[2].id)[:2]] == [2, 3]


def test_several_processes_may_open_an_old_database_at_once(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    shutil.copy(RELEASED / "schema-1.db", path)
    code = "import sys; from vevals.store import Store; Store(sys.argv[1]).close()"
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(job.communicate(timeout=60)[1], job.returncode) for job in jobs] == [(b"", 0)] * 3
    assert "repeats" not in {row[0] for row in columns(tmp_path / "v.before-2.db")["runs"]}


def test_there_is_a_file_for_every_released_schema() -> None:
    assert [path.stem for path in sorted(RELEASED.glob("*.db"))] == [
        f"schema-{number}" for number in range(1, migrations.VERSION + 1)
    ]


def test_a_step_runs_once_after_a_copy_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.db"
    Store(str(path)).close()

    def add_colour(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE runs ADD COLUMN colour TEXT"))

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, add_colour))
    monkeypatch.setattr(migrations, "VERSION", migrations.VERSION + 1)
    for _ in range(2):
        Store(str(path)).close()
    assert "colour" in {row[0] for row in columns(path)["runs"]}
    copy = tmp_path / f"v.before-{migrations.VERSION}.db"
    assert "colour" not in {row[0] for row in columns(copy)["runs"]}


def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.db"
    Store(str(path)).close()
    before = columns(path)

    def breaks(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE runs ADD COLUMN colour TEXT"))
        connection.execute(text("SELECT nonsense FROM nowhere"))

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, breaks))
    monkeypatch.setattr(migrations, "VERSION", migrations.VERSION + 1)
    with pytest.raises(StoreError):
        Store(str(path))
    assert columns(path) == before
