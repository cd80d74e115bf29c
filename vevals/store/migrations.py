"""Numbered steps from one version of the schema to the next: forward only, each in a transaction of its own.

A step is a function ``mNNNN_what(connection)`` in ``STEPS``. Before the first one runs, the database is copied to
``NAME.before-N.db``. A new database is created at the newest version straight from ``schema.tables``.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select, text, update

from vevals.errors import StoreError
from vevals.store import schema


def m0002_repeats_baselines_and_verdicts(connection: Connection) -> None:
    """Repeats, attempts and parents of runs; the logs of baselines and verdicts, which are only added to."""
    for statement in (
        "ALTER TABLE runs ADD COLUMN repeats INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE runs ADD COLUMN parent BLOB",
        "CREATE TABLE baselines (id INTEGER NOT NULL, name TEXT NOT NULL, set_digest BLOB NOT NULL, "
        "runs TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (id))",
        "CREATE TABLE verdicts (id INTEGER NOT NULL, digest BLOB NOT NULL, prev BLOB, link BLOB NOT NULL, "
        "key BLOB NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, candidate BLOB NOT NULL, "
        "body TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (id), UNIQUE (digest))",
        "CREATE INDEX verdicts_by_key ON verdicts (key)",
    ):
        connection.execute(text(statement))
    for name, same in (("baselines", "id = NEW.id"), ("verdicts", "id = NEW.id OR digest = NEW.digest")):
        refuse = f"BEGIN SELECT RAISE(ABORT, '{name} are only added to'); END"
        there = f"EXISTS (SELECT 1 FROM {name} WHERE {same})"
        for statement in (
            f"CREATE TRIGGER {name}_no_update BEFORE UPDATE ON {name} {refuse}",
            f"CREATE TRIGGER {name}_no_delete BEFORE DELETE ON {name} {refuse}",
            f"CREATE TRIGGER {name}_no_replace BEFORE INSERT ON {name} WHEN {there} {refuse}",
        ):
            connection.execute(text(statement))


STEPS: tuple[Callable[[Connection], None], ...] = (m0002_repeats_baselines_and_verdicts,)
VERSION = 1 + len(STEPS)


def prepare(engine: Engine, path: Path) -> None:
    """Create the tables, or bring them to this version.

    Raises:
        StoreError: the file belongs to something else, or to a newer vevals.
    """
    with engine.begin() as connection:
        names = set(inspect(connection).get_table_names())
        if not names:
            schema.tables.create_all(connection)
            connection.execute(
                insert(schema.meta),
                [{"key": "schema", "value": str(VERSION)}, {"key": "store", "value": str(uuid.uuid4())}],
            )
            return
    if "meta" not in names:
        raise StoreError(f"{path}: this database was not made by vevals; name another with --db")
    _upgrade(engine, path)


def version_of(connection: Connection) -> int:
    """The schema version written in the database."""
    value = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar_one()
    return int(value)


def _upgrade(engine: Engine, path: Path) -> None:
    with engine.connect() as connection:
        found = version_of(connection)
    if found > VERSION:
        raise StoreError(
            f"{path}: the database has schema version {found}, this vevals knows up to {VERSION}; upgrade vevals"
        )
    for number in range(found, VERSION):
        with engine.begin() as connection:
            if version_of(connection) != number:
                continue  # another process was faster
            if number == found:
                _backup(path, found)
            STEPS[number - 1](connection)
            stamp = update(schema.meta).where(schema.meta.c.key == "schema").values(value=str(number + 1))
            connection.execute(stamp)


def _backup(path: Path, version: int) -> None:
    target = path.with_suffix(f".before-{version + 1}.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
