"""How a database is opened: SQLite in WAL mode, one kind of transaction for readers and one for writers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from vevals.errors import StoreError
from vevals.store import migrations

WRITES = "vevals_writes"
BUSY_SECONDS = 30


def connect(db: str, create: bool = True) -> tuple[Engine, Path]:
    """Open the SQLite database at a path or ``sqlite:///`` URL, creating it and its folder when absent.

    Raises:
        StoreError: not a database, not ours, a newer schema, or not writable.
    """
    path = _path_of(db)
    if not create and not path.is_file():
        raise StoreError(
            f"{path}: there are no results here yet; 'vevals run' makes some, or name a database with --db"
        )
    with explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: the folder cannot be made: {error.strerror}") from error
        engine = create_engine(URL.create("sqlite", database=str(path)))
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        migrations.prepare(engine.execution_options(**{WRITES: True}), path)
    return engine, path


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a database error into one sentence that names the file."""
    try:
        yield
    except DBAPIError as error:
        cause = str(error.orig)
        if "full" in cause or "disk I/O" in cause:
            hint = "make room; everything answered so far is kept, and the same command goes on from there"
        elif "locked" in cause:
            hint = "another process holds it; try again when it is done"
        elif "not a database" in cause or "malformed" in cause:
            hint = "this file is no SQLite database, or is damaged; name another with --db"
        else:
            hint = "is the folder writable?"
        raise StoreError(f"{path}: {cause}: {hint}") from error


def _path_of(db: str) -> Path:
    if "://" not in db:
        return Path(db)
    try:
        url = make_url(db)
    except ArgumentError as error:
        raise StoreError(f"'{db}' is no database URL: {error}") from error
    if url.get_backend_name() != "sqlite" or not url.database:
        raise StoreError(f"'{db}': runs are written to SQLite; give a path or sqlite:///PATH")
    return Path(url.database)


def _set_up(connection: Any, _record: object) -> None:
    """On each new connection: our own BEGIN, write-ahead log, foreign keys."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Writers take the lock at once: a transaction that reads first and writes later could find it taken."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
