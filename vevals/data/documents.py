"""From bytes to a parsed document that knows its line numbers. All text is UTF-8, with or without a mark in front.

| format | document | read as |
|---|---|---|
| csv | list of objects | RFC 4180: a quoted cell may hold commas, line ends and doubled quotes |
| tsv | list of objects | the same with tabs (LegalBench, pandas) |
| tsv_raw | list of objects | tabs, one row a line; a quote is a character like any other (CSL, many Chinese corpora) |
| json | anything | one whole document |
| jsonl | list of objects | one object a line, blank lines skipped |
| lines | list of texts | one text a line; only \\n and \\r\\n end a line (TweetEval, WMT) |

Cells are texts, never numbers: ``expressions`` converts what needs converting.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any, NoReturn

from vevals.data.sources import FileSource
from vevals.errors import DataError

_MARK = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CELL_CHARACTERS = 2**30
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. ``lines[i]`` is the line on which element ``i`` begins (1 is the first); empty for json."""

    place: str
    content: Any
    lines: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


def parse(data: bytes, source: FileSource) -> Document:
    """The document in ``data``; DataError with file and line for whatever is wrong with it."""
    form = source.named_format()
    text = _decode(data, source.place)
    if not text.strip():
        raise DataError(f"{source.place}: the file is empty")
    if form == "json":
        return Document(source.place, _json(text, source.place, 1))
    if form == "jsonl":
        return _parse_jsonl(text, source.place)
    if form == "lines":
        texts = split_lines(text)
        return Document(source.place, texts, tuple(range(1, len(texts) + 1)))
    return _parse_table(text, source, form)


def split_lines(text: str) -> list[str]:
    """The lines of ``text``. Only \\n and \\r\\n end one: U+2028, U+0085 and form feeds are part of many real texts."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _decode(data: bytes, place: str) -> str:
    if data.startswith(_UTF16):
        raise DataError(f"{place}: the file is UTF-16; save it as UTF-8")
    start = len(_MARK) if data.startswith(_MARK) else 0
    try:
        return data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = start + error.start
        line = data.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{place}:{line}: byte 0x{data[offset]:02x} at offset {offset} is not UTF-8; save the file as UTF-8"
        ) from error


# ---- csv and tsv


def _parse_table(text: str, source: FileSource, form: str) -> Document:
    records = _records(text, source.place, form)
    names, line = (source.header, 0) if source.header else _first(records, source.place)
    _check_names(names, source.place, line)
    if not source.header:
        _check_separator(names, source.place, line, form)
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    for line, cells in records:
        if len(cells) != len(names):
            raise DataError(
                f"{source.place}:{line}: {len(cells)} cells, but there are {len(names)} columns ({', '.join(names)}); "
                f"put a cell that holds a {'comma' if form == 'csv' else 'tab'} in double quotes, or repair the line"
            )
        rows.append(dict(zip(names, cells, strict=True)))
        lines.append(line)
    return Document(source.place, rows, tuple(lines), names)


def _check_separator(names: tuple[str, ...], place: str, line: int, form: str) -> None:
    """A header of one cell that holds another separator was written with that one."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if len(names) == 1 and mark in names[0]:
            wanted = "commas" if form == "csv" else "tabs"
            raise DataError(f"{place}:{line}: cells are separated by {name}; save the file with {wanted}")


def _records(text: str, place: str, form: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of every record; blank lines are skipped."""
    if form == "tsv_raw":
        yield from ((line, row.split("\t")) for line, row in enumerate(split_lines(text), start=1) if row)
        return
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_CHARACTERS))  # the standard limit is 128 KiB a cell
    reader = csv.reader(StringIO(text, newline=""), delimiter="," if form == "csv" else "\t", strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "" if form == "csv" else ", or say format: tsv_raw where quotes have no meaning"
        raise DataError(
            f"{place}:{line}: the row that begins here has a wrong quote ({error}); double the quotes inside a quoted "
            f"cell and close it{hint}"
        ) from error


def _first(records: Iterator[tuple[int, list[str]]], place: str) -> tuple[tuple[str, ...], int]:
    for line, cells in records:
        return tuple(cells), line
    raise DataError(f"{place}: the file is empty")


def _check_names(names: tuple[str, ...], place: str, line: int) -> None:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        where = f"{place}:{line}" if line else f"{place}: header"
        raise DataError(f"{where}: two columns are named '{twice}'; rename one of them")


# ---- json and jsonl


def _parse_jsonl(text: str, place: str) -> Document:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        row = _json(line, place, number, whole=False)
        if not isinstance(row, dict):
            raise DataError(f'{place}:{number}: {kind(row)} where a JSON object is needed, as in {{"input": "..."}}')
        rows.append(row)
        lines.append(number)
    return Document(place, rows, tuple(lines))


def kind(value: Any) -> str:
    """What a parsed value is, in the words of JSON, with its article."""
    named = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return named.get(type(value), "a number")


def _json(text: str, place: str, line: int, whole: bool = True) -> Any:
    """The value in ``text``, which begins at ``line`` of the file and is the whole file or one line of it."""
    repair = "repair the file or fetch it again" if whole else "repair or delete the line"
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        end = len(text.rstrip())
        cut = error.pos >= end or error.msg.startswith("Unterminated string")
        pos = end if cut else error.pos
        column = pos - text.rfind("\n", 0, pos)
        what = f"cut off at column {column}" if cut else f"{error.msg} at column {column}"
        at = line + text.count("\n", 0, pos)
        raise DataError(f"{place}:{at}: not valid JSON ({what}); {repair}") from error
    except RecursionError as error:
        raise DataError(f"{place}:{line}: not usable JSON (nested too deeply); {repair}") from error
    except ValueError as error:
        raise DataError(f"{_where(place, line, whole)}: not usable JSON ({error}); {repair}") from error
    if _HALF_CHARACTER.search(text):
        _check_characters(value, _where(place, line, whole), repair)
    return value


def _where(place: str, line: int, whole: bool) -> str:
    return place if whole else f"{place}:{line}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the name '{twice}' stands twice in one object")
    return value


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number; write null")


def _check_characters(value: Any, where: str, repair: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: not usable JSON (half a character, a lone surrogate escape); {repair}") from error
