"""From a file to the bytes inside it: ``.gz`` and ``.zip`` are opened in memory, and never beyond a limit."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from vevals.data.sources import FileSource
from vevals.errors import DataError

LIMIT_BYTES = 2 * 1024**3
_SHOWN_MEMBERS = 10
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError, RuntimeError)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpack(file: Path, source: FileSource, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The bytes of ``file``, unpacked by the suffix of ``source.name`` (a file in the cache has no suffix).

    Raises DataError for a damaged archive, a member that is not there, and more than ``limit_bytes`` unpacked.
    """
    name = source.name.lower()
    if source.member is not None and not name.endswith(".zip"):
        raise DataError(f"{source.name}: only a .zip file has members; remove member: {source.member}")
    try:
        if name.endswith(".zip"):
            return _from_zip(file, source, limit_bytes)
        with file.open("rb") as raw:
            return _read(gzip.GzipFile(fileobj=raw) if name.endswith(".gz") else raw, source, limit_bytes)
    except _DAMAGED as error:
        raise DataError(f"{source.place}: the archive cannot be read ({error}); fetch or pack it again") from error
    except OSError as error:
        raise DataError(f"{source.place}: the file cannot be read: {error.strerror or error}") from error


def _from_zip(file: Path, source: FileSource, limit_bytes: int) -> bytes:
    with zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
        listed = ", ".join(members[:_SHOWN_MEMBERS]) + (", ..." if len(members) > _SHOWN_MEMBERS else "")
        member = source.member
        if member is None:
            raise DataError(f"{source.name}: say which member of the archive holds the data; it has: {listed}")
        if _leaves_the_archive(member):
            raise DataError(f"{source.name}: the member '{member}' is absolute or contains '..', which is refused")
        if member not in members:
            near = get_close_matches(member, members, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise DataError(f"{source.name}: the archive has no member '{member}'; {hint}It has: {listed}")
        if members.count(member) > 1:
            raise DataError(f"{source.name}: the archive has the member '{member}' twice; pack it again")
        with archive.open(member) as stream:
            return _read(stream, source, limit_bytes)


def _leaves_the_archive(member: str) -> bool:
    windows = PureWindowsPath(member)  # understands both kinds of slash
    return bool(PurePosixPath(member).is_absolute() or windows.drive or windows.root or ".." in windows.parts)


def _read(stream: _Readable, source: FileSource, limit_bytes: int) -> bytes:
    data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise DataError(f"{source.place}: more than {limit_bytes:,} bytes unpacked, which is refused; split the file")
    return data
