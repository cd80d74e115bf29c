"""Databases of earlier releases stay readable: each released schema is kept as a file and brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
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


@pytest.mark.parametrize("released", sorted(RELEASED.glob("*.db")), ids=lambda path: path.stem)
def test_a_released_database_opens_with_all_its_runs_and_the_schema_of_a_new_one(
    released: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    shutil.copy(released, old)
    with Store(str(old)) as store:
        runs = store.runs()
        assert runs and all(store.estimates(run.id) for run in runs)
    Store(str(new)).close()
    assert columns(old) == columns(new)


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
