"""The two logs that are only added to: which runs a baseline's name stands for, and every verdict of a gate.

A verdict is bound to the one before by ``link`` = SHA-256 over the link before and the whole row: who changes, moves or
removes an entry has to rewrite all that follow, and the last link, wherever it was noted, gives it away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select

from vevals.canonical import canonical_json, sha256
from vevals.store import schema
from vevals.store.rows import BaselineRow, VerdictRow, hex_of
from vevals.types import RunStatus

DigestOf = Callable[[Mapping[str, Any]], str]
"""A verdict's JSON -> the digest (hex) that it must carry."""


def add_baseline(connection: Connection, row: Mapping[str, Any]) -> BaselineRow:
    """Append ``row`` (name, set_digest, runs, who, reason, at)."""
    values = {**row, "set_digest": bytes.fromhex(row["set_digest"]), "runs": canonical_json(list(row["runs"]))}
    connection.execute(insert(schema.baselines).values(values))
    return baselines(connection, row["name"])[-1]


def baselines(connection: Connection, name: str | None) -> list[BaselineRow]:
    """All entries, or those of one name, newest last."""
    query = select(schema.baselines).order_by(schema.baselines.c.id)
    if name is not None:
        query = query.where(schema.baselines.c.name == name)
    return [_baseline(row) for row in connection.execute(query).mappings()]


def unfinished(connection: Connection, digests: tuple[str, ...]) -> list[str]:
    """Those of ``digests`` (hex) that are no finished run of this store."""
    query = select(schema.runs.c.digest).where(schema.runs.c.status == RunStatus.finished)
    known = {hex_of(digest) for digest in connection.execute(query).scalars()}
    return [digest for digest in digests if digest not in known]


def began(connection: Connection) -> int | None:
    """The time of the first entry of either log."""
    times = [connection.execute(select(func.min(table.c.at))).scalar() for table in (schema.baselines, schema.verdicts)]
    return min((int(at) for at in times if at is not None), default=None)


def frozen(connection: Connection, digest: str) -> bool:
    """Whether a baseline or a verdict names the run with this digest (hex): it must stay as it is."""
    for column in (schema.baselines.c.runs, schema.verdicts.c.body):
        if connection.execute(select(func.count()).where(func.instr(column, digest) > 0)).scalar_one():
            return True
    return False


def add_verdict(connection: Connection, row: Mapping[str, Any]) -> VerdictRow:
    """Append ``row`` (digest, key, attempt, state, body, at), or find the entry that has this digest already."""
    there = _verdicts(connection, select(schema.verdicts).where(schema.verdicts.c.digest == row["digest"]))
    if there:
        return there[0]
    newest = select(schema.verdicts).order_by(schema.verdicts.c.id.desc()).limit(1)
    prev, link = _ends(connection.execute(newest).mappings().first())
    body = {**row["body"], "digest": row["digest"].hex(), "prev": hex_of(prev)}
    candidate = bytes.fromhex(body["candidate"]["digest"])
    values = {**row, "prev": prev, "candidate": candidate, "body": canonical_json(body)}
    connection.execute(insert(schema.verdicts).values({**values, "link": _link(link, values)}))
    return _verdicts(connection, newest)[0]


def verdicts(connection: Connection, key: str | None) -> list[VerdictRow]:
    """All verdicts, or those under one key (hex), newest last."""
    query = select(schema.verdicts).order_by(schema.verdicts.c.id)
    if key is not None:
        query = query.where(schema.verdicts.c.key == bytes.fromhex(key))
    return _verdicts(connection, query)


def verdicts_called(connection: Connection, digest_prefix: str) -> list[VerdictRow]:
    """Verdicts whose digest begins with these hexadecimal digits."""
    start = func.substr(func.hex(schema.verdicts.c.digest), 1, len(digest_prefix))
    return _verdicts(connection, select(schema.verdicts).where(start == digest_prefix.upper()))


def problems(connection: Connection, digest_of: DigestOf | None) -> list[str]:
    """What is wrong with the chain, a sentence each; nothing for a whole one."""
    found: list[str] = []
    prev, link = _ends(None)
    for row in connection.execute(select(schema.verdicts).order_by(schema.verdicts.c.id)).mappings():
        name = f"verdict {row['digest'].hex()[:8]}"
        if row["prev"] != prev:
            found.append(f"{name} does not follow the one that stands before it: an entry was removed or moved")
        elif row["link"] != _link(link, row):
            found.append(f"{name} is not what was written: its entry was changed")
        if digest_of is not None and digest_of(json.loads(row["body"])) != row["digest"].hex():
            found.append(f"{name} has another content than its digest says")
        prev, link = _ends(row)
    return found


def _ends(row: RowMapping | None) -> tuple[bytes | None, bytes | None]:
    """Digest and link that the next entry follows."""
    return (None, None) if row is None else (row["digest"], row["link"])


def _link(before: bytes | None, row: Mapping[str, Any] | RowMapping) -> bytes:
    hashes = [hex_of(before), *(hex_of(row[name]) for name in ("digest", "prev", "key", "candidate"))]
    return sha256([*hashes, *(row[name] for name in ("attempt", "state", "body", "at"))])


def _baseline(row: RowMapping) -> BaselineRow:
    runs = tuple(json.loads(row["runs"]))
    return BaselineRow(row["id"], row["name"], hex_of(row["set_digest"]), runs, row["who"], row["reason"], row["at"])


def _verdicts(connection: Connection, query: Select[Any]) -> list[VerdictRow]:
    return [
        VerdictRow(
            id=row["id"],
            digest=hex_of(row["digest"]),
            prev=hex_of(row["prev"]),
            link=hex_of(row["link"]),
            key=hex_of(row["key"]),
            attempt=row["attempt"],
            state=row["state"],
            candidate=hex_of(row["candidate"]),
            body=json.loads(row["body"]),
            at=row["at"],
        )
        for row in connection.execute(query).mappings()
    ]
