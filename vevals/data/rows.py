"""From a DataSpec to rows that know where they stand: load, and fetch and verify of what load will read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, overload

from vevals.data import hub
from vevals.data.archive import unpack
from vevals.data.documents import Document, kind, parse
from vevals.data.expressions import evaluate
from vevals.data.functions import parallel
from vevals.data.remote import absent, cache_path, check_digest, find_mirrored, is_right, obtain
from vevals.data.sources import DataSpec, FileSource
from vevals.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Sequence[dict[str, Any]]):
    """The rows of a benchmark, in order. ``names`` are all columns, by first appearance."""

    rows: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    places: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        return self.rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def where(self, index: int) -> str:
        """Where row ``index`` stands: ``data.csv:7`` (line 7), or ``data.json: row 7`` (the seventh) without lines."""
        return self.places[index]

    @property
    def sha256(self) -> str:
        """Hash of the rows as canonical JSON: the same for the same rows, whatever file, format or line ends hold them.

        Computed at each call; the order of rows counts, the order of columns does not.
        """
        seen = hashlib.sha256()
        for row in self.rows:
            seen.update(json.dumps(row, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n")
        return seen.hexdigest()


def load(spec: DataSpec, folder: Path) -> Rows:
    """The rows of a benchmark whose YAML is in ``folder``; files at addresses are fetched if they are not here yet.

    Every file with a sha256 is verified. Raises DataError for whatever is wrong, with file and line.
    """
    if spec.hub is not None:
        place = hub.place(spec.hub)
        return _rows([Document(place, hub.read_hub(spec.hub, folder))], ["data"], spec.rows)
    documents = [_document(source, folder) for source in spec.files.values()]
    return _rows(documents, list(spec.files), spec.rows)


def fetch(spec: DataSpec, folder: Path) -> list[Path]:
    """Make every remote file local, verified. Returns them: in the mirror, in the cache, or in that of the hub."""
    if spec.hub is not None:
        return hub.hub_files(spec.hub, folder)
    return [obtain(source) for source in spec.files.values() if source.url is not None]


def verify(spec: DataSpec, folder: Path) -> list[str]:
    """What is wrong with the files on this machine, one sentence a file; empty when all are here with the right hash.

    Never touches the network. A hub data set is pinned by its commit: there is nothing to compare.
    """
    problems = []
    for source in spec.files.values():
        try:
            if source.path is not None:
                _local(source, folder)
            elif find_mirrored(source) is None and not is_right(cache_path(str(source.digest)), str(source.digest)):
                problems.append(absent(source, "was not fetched yet"))
        except DataError as error:
            problems.append(str(error))
    return problems


# ---- files


def _document(source: FileSource, folder: Path) -> Document:
    file = _local(source, folder) if source.path is not None else obtain(source)
    return parse(unpack(file, source), source)


def _local(source: FileSource, folder: Path) -> Path:
    """The file that ``source.path`` names in ``folder``, verified if it has a sha256."""
    given = str(source.path)
    windows = PureWindowsPath(given)  # understands both kinds of slash
    inside = not (PurePosixPath(given).is_absolute() or windows.drive or windows.root or ".." in windows.parts)
    file = folder / given
    if not inside or not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{given}: the file is outside the benchmark's folder, which is refused; copy it beside the YAML"
        )
    if not file.is_file():
        beside = ", ".join(sorted(entry.name for entry in folder.glob("*"))) or "nothing"
        raise DataError(f"{given}: there is no such file in {folder}; it holds: {beside}")
    if source.digest is not None:
        check_digest(file, source)
    return file


# ---- rows


def _rows(documents: list[Document], keys: list[str], expression: str | None) -> Rows:
    place = " + ".join(document.place for document in documents)
    found = _joined(documents, keys) if expression is None else _selected(documents, keys, expression)
    if not isinstance(found, list):
        raise DataError(f"{place}: {kind(found)} where a list of objects is needed{_hint(found, expression)}")
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{place}: row {number} is {kind(row)}, not an object{_hint(found, expression)}")
    if not found:
        raise DataError(f"{place}: no rows{f' in {expression!r}' if expression else ''}; at least one is needed")
    names = dict.fromkeys(name for document in documents for name in document.names) if expression is None else {}
    names |= dict.fromkeys(name for row in found for name in row)
    places = _places(documents, found, expression is None)
    return Rows(tuple(found), tuple(names), places)


def _joined(documents: list[Document], keys: list[str]) -> Any:
    """The rows of files that say nothing about them: those of the only file, or all files side by side."""
    if len(documents) == 1 and not _is_texts(documents[0]):
        return documents[0].content
    try:
        return parallel({key: document.content for key, document in zip(keys, documents, strict=True)})
    except ValueError as error:
        place = " + ".join(document.place for document in documents)
        raise DataError(f"{place}: {error}; say rows: how they belong together") from error


def _is_texts(document: Document) -> bool:
    return bool(document.lines) and isinstance(document.content[0], str)


def _selected(documents: list[Document], keys: list[str], expression: str) -> Any:
    place = " + ".join(document.place for document in documents)
    contents = {key: document.content for key, document in zip(keys, documents, strict=True)}
    try:
        return evaluate(expression, documents[0].content if len(documents) == 1 else contents)
    except DataError as error:
        raise DataError(f"{place}: rows: {error}") from error


def _hint(found: Any, expression: str | None) -> str:
    if expression is not None:
        return f"; correct rows: {expression}"
    if isinstance(found, dict):
        return (
            f"; say where its rows are, as in rows: {next(iter(found), 'data')} (it has: {', '.join(list(found)[:10])})"
        )
    return "; say rows: how they become objects"


def _places(documents: list[Document], found: list[dict[str, Any]], joined: bool) -> tuple[str, ...]:
    """A place a row. Rows that an expression only selected are still the document's objects, and keep their lines."""
    lined = [document for document in documents if document.lines]
    if joined and lined:
        return tuple(f"{lined[0].place}:{line}" for line in lined[0].lines)
    known = {id(row): f"{document.place}:{line}" for document in lined for row, line in _numbered(document)}
    place = " + ".join(document.place for document in documents)
    return tuple(known.get(id(row), f"{place}: row {number}") for number, row in enumerate(found, start=1))


def _numbered(document: Document) -> Iterator[tuple[dict[str, Any], int]]:
    return ((row, line) for row, line in zip(document.content, document.lines, strict=True) if isinstance(row, dict))
