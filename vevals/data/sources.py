"""What a benchmark may say about its data. A source that is wrong in itself cannot be built: ``DataError``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from vevals.errors import DataError

FORMATS = ("csv", "tsv", "tsv_raw", "json", "jsonl", "lines")
_FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "lines",
}
_WITH_HEADER = ("csv", "tsv", "tsv_raw")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class FileSource:
    """One file: ``path`` inside the benchmark's folder, or ``url`` with the ``sha256`` of the bytes at the address.

    ``format`` is one of ``FORMATS``; None means by suffix. ``member`` is the file inside a ``.zip``. ``header`` names
    the columns of a csv or tsv file whose first line is data already.
    """

    path: str | None = None
    url: str | None = None
    sha256: str | None = None
    format: str | None = None
    member: str | None = None
    header: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.path is None) == (self.url is None):
            raise DataError("data: a file needs either a path or a url, and not both")
        if self.url is not None:
            _check_url(self.url)
            if self.sha256 is None:
                raise DataError(f"data: {self.url} needs its sha256, so that the rows cannot change unnoticed")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise DataError(f"data: the sha256 of {self.name} is not 64 hexadecimal digits: '{self.sha256}'")
        if self.format is not None and self.format not in FORMATS:
            raise DataError(
                f"data: {self.name} has the unknown format '{self.format}'; use one of {', '.join(FORMATS)}"
            )
        if self.header and self.format is not None and self.format not in _WITH_HEADER:
            raise DataError(f"data: {self.name} has a header, but only csv and tsv files do; remove the header")

    @property
    def name(self) -> str:
        """The file as a person calls it: the path as given, or the last part of the address."""
        if self.path is not None:
            return self.path
        return PurePosixPath(unquote(urlsplit(str(self.url)).path)).name or str(self.url)

    @property
    def place(self) -> str:
        """``name``, with the member of a zip file behind it."""
        return f"{self.name}/{self.member}" if self.member else self.name

    @property
    def digest(self) -> str | None:
        """``sha256`` in lower case, as hashlib writes it."""
        return self.sha256.lower() if self.sha256 else None

    def named_format(self) -> str:
        """The format as given, or by suffix: that of the member, or of the name without ``.gz``."""
        if self.format is not None:
            return self.format
        file = PurePosixPath(self.member.lower() if self.member else self.name.lower().removesuffix(".gz"))
        try:
            named = _FORMAT_OF_SUFFIX[file.suffix]
        except KeyError:
            raise DataError(f"{self.place}: its suffix names no format; say format: {' | '.join(FORMATS)}") from None
        if self.header and named not in _WITH_HEADER:
            raise DataError(f"{self.place}: a {named} file has no header; remove the header")
        return named


@dataclass(frozen=True, slots=True)
class HubSource:
    """A split of a hub data set. ``revision`` is a full commit; only a directory on this machine goes without."""

    path: str
    name: str | None
    split: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.revision is not None and not _COMMIT.fullmatch(self.revision):
            raise DataError(
                f"data: the revision '{self.revision}' of {self.path} is not a commit (40 hexadecimal digits); "
                "branches and tags can move"
            )


@dataclass(frozen=True, slots=True)
class DataSpec:
    """All files by name, and how they become rows; or a hub data set instead of files.

    ``rows`` is a JMESPath expression over the document of the only file, over an object of the documents of all files
    by name, or over the list of rows of the hub data set.
    """

    files: Mapping[str, FileSource]
    rows: str | None = None
    hub: HubSource | None = None

    def __post_init__(self) -> None:
        if bool(self.files) == (self.hub is not None):
            raise DataError("data: name either files or a hub data set, and not both")


def _check_url(url: str) -> SplitResult:
    """``DataError`` unless ``url`` is an http(s) address with a host and without a password in it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DataError(f"data: '{url}' is not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise DataError(f"data: '{url}' is not an http or https address; a file beside the YAML is named with path")
    if "@" in parts.netloc:
        raise DataError(f"data: the address on {host} holds a user name; a benchmark must not hold credentials")
    return parts
