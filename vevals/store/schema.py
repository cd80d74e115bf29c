"""The tables. Enumerations are small integers, times are microseconds since 1970 (UTC), hashes are raw SHA-256."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

tables = MetaData()

meta = Table("meta", tables, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

blobs = Table(
    "blobs",
    tables,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("codec", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
)

benchmarks = Table(
    "benchmarks",
    tables,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("total", Integer, nullable=False),
)

samples = Table(
    "samples",
    tables,
    Column("benchmark_id", Integer, ForeignKey("benchmarks.id"), nullable=False),
    Column("sample_no", Integer, nullable=False),
    Column("sample_id", Text, nullable=False),
    Column("content_hash", LargeBinary(32), nullable=False),
    Column("cluster", Text),
    Column("slices", Text, nullable=False),
    Column("payload", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("benchmark_id", "sample_no"),
    UniqueConstraint("benchmark_id", "sample_id"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    tables,
    Column("id", Integer, primary_key=True),
    Column("key", LargeBinary(32), nullable=False, unique=True),
    Column("digest", LargeBinary(32)),
    Column("benchmark_id", Integer, ForeignKey("benchmarks.id"), nullable=False),
    Column("parts", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_hash", LargeBinary(32), nullable=False),
    Column("model_identity", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("limit", Integer),
    Column("draw", Integer),
    Column("seed", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("status", Integer, nullable=False),
    Column("provenance", Text, nullable=False),
    Column("started", Integer, nullable=False),
    Column("finished", Integer),
    Column("seconds", Float, nullable=False),
    Column("repeats", Integer, nullable=False, server_default=text("1")),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("parent", LargeBinary(32)),
    Index("runs_by_benchmark", "benchmark_id", "status"),
)

responses = Table(
    "responses",
    tables,
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("sample_no", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("request", LargeBinary(32), nullable=False),
    Column("response", LargeBinary(32), nullable=False),
    Column("answer", Text),
    Column("finish_reason", Integer, nullable=False),
    Column("error", Text),
    Column("error_kind", Integer, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("cached", Integer, nullable=False),
    Column("scored", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    PrimaryKeyConstraint("run_id", "sample_no", "repeat"),
    sqlite_with_rowid=False,
)

metrics = Table(
    "metrics",
    tables,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("source_hash", Text, nullable=False),
    Column("worst", Float, nullable=False),
    Column("best", Float, nullable=False),
    UniqueConstraint("name", "options", "source_hash"),
)

scores = Table(
    "scores",
    tables,
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("sample_no", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("metric_id", Integer, ForeignKey("metrics.id"), nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("value", Float),
    Column("note", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "sample_no", "repeat", "metric_id"),
    sqlite_with_rowid=False,
)

estimates = Table(
    "estimates",
    tables,
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("metric_id", Integer, ForeignKey("metrics.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("scored", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("method", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("run_id", "metric_id"),
    sqlite_with_rowid=False,
)

cache = Table(
    "cache",
    tables,
    Column("request", LargeBinary(32), primary_key=True),
    Column("response", LargeBinary(32), nullable=False),
    Column("meta", Text, nullable=False),
    Column("created", Integer, nullable=False),
    sqlite_with_rowid=False,
)

baselines = Table(
    "baselines",
    tables,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("set_digest", LargeBinary(32), nullable=False),
    Column("runs", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Integer, nullable=False),
)

verdicts = Table(
    "verdicts",
    tables,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("prev", LargeBinary(32)),
    Column("link", LargeBinary(32), nullable=False),
    Column("key", LargeBinary(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("candidate", LargeBinary(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Integer, nullable=False),
    Index("verdicts_by_key", "key"),
)


def _append_only(table: Table, same: str) -> None:
    """Refuse UPDATE, DELETE, and REPLACE of a row that is the ``same``, which SQLite does not count as a deletion."""
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table.name} are only added to'); END"
    there = f"EXISTS (SELECT 1 FROM {table.name} WHERE {same})"

    def add_triggers(_table: Table, connection: Connection, **_: Any) -> None:
        for statement in (
            f"CREATE TRIGGER {table.name}_no_update BEFORE UPDATE ON {table.name} {refuse}",
            f"CREATE TRIGGER {table.name}_no_delete BEFORE DELETE ON {table.name} {refuse}",
            f"CREATE TRIGGER {table.name}_no_replace BEFORE INSERT ON {table.name} WHEN {there} {refuse}",
        ):
            connection.execute(text(statement))

    event.listen(table, "after_create", add_triggers)


_append_only(baselines, "id = NEW.id")
_append_only(verdicts, "id = NEW.id OR digest = NEW.digest")
