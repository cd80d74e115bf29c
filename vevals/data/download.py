"""From an http(s) address to a verified file. Nothing else of vevals' data touches the network, the hub apart.

What has arrived is kept in ``<target>.part`` (and the server's version mark in ``<target>.mark``), so that a later
attempt, in this process or the next, asks for the rest only. The target appears whole and right, or not at all.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from vevals.data.archive import LIMIT_BYTES
from vevals.errors import DataError

_CHUNK_BYTES = 1 << 20
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try, how long to wait for the server each time, and before the second try (then twice that)."""

    tries: int = 3
    timeout_seconds: float = 30.0
    pause_seconds: float = 0.5


class UnreachableError(Exception):
    """The address gave no file: ``str(error)`` says why. What has arrived is kept for the next time."""


class _BrokenOffError(Exception):
    """This attempt ended early, another may do better."""


def download(url: str, sha256: str, target: Path, patience: Patience = Patience()) -> None:
    """Put the bytes at ``url`` into ``target``. One process a target: the caller holds the lock.

    Raises UnreachableError when the server does not deliver, DataError when it delivers bytes that ``sha256`` does not
    allow, OSError when they cannot be written.
    """
    part = _Part(target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.mark"))
    why = ""
    for attempt in range(patience.tries):
        if attempt:
            time.sleep(patience.pause_seconds * 2 ** (attempt - 1))
        try:
            found, resumed = _attempt(url, sha256, part, patience.timeout_seconds)
        except _BrokenOffError as error:
            why = str(error)
            continue
        if found == sha256:
            part.become(target)
            return
        part.discard()
        if not resumed:
            raise DataError(
                f"{url}: the file there has sha256 {found}, but {sha256} is expected; look at what changed, then pin "
                "the new sha256 or an address with the old file"
            )
        why = "the rest did not fit what had arrived before"
    raise UnreachableError(f"{why}, {patience.tries} times")


@dataclass(frozen=True, slots=True)
class _Part:
    """What has arrived of a file, and the mark (ETag or date) of the version it is of."""

    file: Path
    mark: Path

    def arrived(self) -> tuple[int, hashlib._Hash]:
        """How many bytes are here, and a hash that has seen them."""
        seen = hashlib.sha256()
        if not self.file.exists():
            return 0, seen
        with self.file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                seen.update(chunk)
            return stream.tell(), seen

    def discard(self) -> None:
        self.file.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        self.file.replace(target)
        self.mark.unlink(missing_ok=True)


def _attempt(url: str, sha256: str, part: _Part, timeout_seconds: float) -> tuple[str, bool]:
    """Fetch what is missing. Returns the sha256 of all bytes, and whether some of them are from an earlier attempt."""
    size, seen = part.arrived()
    if size and seen.hexdigest() == sha256:
        return sha256, True
    with _open(url, size, part, timeout_seconds) as response:
        start = _start(response)
        if start not in (0, size):
            part.discard()
            raise _BrokenOffError(f"the server sent bytes from {start} on instead of {size}")
        if start == 0:
            size, seen = 0, hashlib.sha256()
            part.mark.write_text(_version(response), encoding="utf-8")
        expected = size + response.length if response.length is not None else None
        with part.file.open("ab" if start else "wb") as stream:
            for chunk in _chunks(response):
                stream.write(chunk)
                seen.update(chunk)
                size += len(chunk)
                if size > LIMIT_BYTES:
                    part.discard()
                    raise UnreachableError(f"the file has more than {LIMIT_BYTES:,} bytes")
            stream.flush()
            os.fsync(stream.fileno())
    if expected is not None and size < expected:
        raise _BrokenOffError(f"the connection ended after {size:,} of {expected:,} bytes")
    return seen.hexdigest(), start > 0


def _open(url: str, size: int, part: _Part, timeout_seconds: float) -> HTTPResponse:
    headers = {"User-Agent": "vevals", "Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
        if part.mark.exists() and (mark := part.mark.read_text(encoding="utf-8")):
            headers["If-Range"] = mark
    request = urllib.request.Request(_ascii(url), headers=headers)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        with error:
            answer = f"the server answered {error.code} {error.reason}".rstrip()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
        elif error.code not in _WORTH_ANOTHER_TRY:
            raise UnreachableError(answer) from error
        raise _BrokenOffError(answer) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"no connection: {getattr(error, 'reason', error)}") from error
    return response


def _start(response: HTTPResponse) -> int:
    """The offset of the first byte that the server sends: 0, unless it answered with a part."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _version(response: HTTPResponse) -> str:
    """What If-Range may hold: a strong ETag, else the date of the last change, else nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(f"the connection broke: {error}") from error
        if not chunk:
            return
        yield chunk


def _ascii(url: str) -> str:
    """The address as it goes over the wire: other characters percent-encoded, what is encoded already left alone."""
    parts = urlsplit(url)
    host = parts.netloc.encode("idna").decode("ascii") if not parts.netloc.isascii() else parts.netloc
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    return urlunsplit((parts.scheme, host, path, quote(parts.query, safe="/%:@!$&'()*+,;=~-._?"), ""))
