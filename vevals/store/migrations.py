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

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from vevals.errors import StoreError
from vevals.store import schema

STEPS: tuple[Callable[[Connection], None], ...] = ()
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
    if found < VERSION:
        _backup(path, found)
    for number in range(found, VERSION):
        with engine.begin() as connection:
            STEPS[number - 1](connection)
            stamp = update(schema.meta).where(schema.meta.c.key == "schema").values(value=str(number + 1))
            connection.execute(stamp)


def _backup(path: Path, version: int) -> None:
    target = path.with_suffix(f".before-{version + 1}.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
