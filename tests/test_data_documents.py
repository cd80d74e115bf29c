"""Formats and archives: every file becomes rows with line numbers, or one sentence that says where it is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vevals.data import DataSpec, FileSource, Rows, load
from vevals.data.archive import unpack
from vevals.data.documents import parse
from vevals.errors import DataError


def rows_of(folder: Path, name: str, content: str | bytes, **source: object) -> Rows:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load(DataSpec({"data": FileSource(path=name, **source)}), folder)  # type: ignore[arg-type]


def refusal(folder: Path, name: str, content: str | bytes, **source: object) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(folder, name, content, **source)
    return str(caught.value)


# ---- csv and tsv


def test_a_csv_gives_texts_and_knows_the_line_on_which_each_row_begins(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "data.csv", 'q,a\r\n"two\r\nlines, one ""cell""",1\r\n\r\n007,x\r\n')
    assert list(rows) == [{"q": 'two\r\nlines, one "cell"', "a": "1"}, {"q": "007", "a": "x"}]
    assert [rows.where(0), rows.where(1)] == ["data.csv:2", "data.csv:5"]
    assert rows.names == ("q", "a")


def test_a_mark_in_front_of_a_utf8_file_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "data.csv", b"\xef\xbb\xbfq,a\n1,2\n").names == ("q", "a")


@pytest.mark.parametrize("row", ["only", "a,b,c", "a,b,"])
def test_a_csv_row_with_too_many_or_too_few_cells_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    message = refusal(tmp_path, "data.csv", f'q,a\n"x\ny",1\n{row}\n')
    assert message.startswith(f"data.csv:4: {row.count(',') + 1} cells, but there are 2 columns (q, a)")


def test_an_unclosed_quote_is_refused_with_the_line_where_its_row_begins(tmp_path: Path) -> None:
    assert refusal(tmp_path, "data.csv", 'q,a\n1,2\n"open,3\n4,5\n').startswith("data.csv:3: the row that begins here")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "data.csv", "q,a,q\n1,2,3\n").startswith("data.csv:1: two columns are named 'q'")
    assert "two columns are named 'q'" in refusal(tmp_path, "data.csv", "1,2\n", header=("q", "q"))


def test_a_header_from_the_yaml_makes_the_first_line_a_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "data.tsv", "a\tb\nc\td\n", header=("x", "y"))
    assert list(rows) == [{"x": "a", "y": "b"}, {"x": "c", "y": "d"}]
    assert rows.where(0) == "data.tsv:1"


def test_a_tsv_has_quotes_unless_it_is_said_to_be_raw(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "data.tsv", 'q\ta\n"say ""hi"""\t1\n')[0]["q"] == 'say "hi"'
    raw = 'q\ta\n"hi" she said\t1\n'
    assert "data.tsv:2" in (message := refusal(tmp_path, "data.tsv", raw)) and "tsv_raw" in message
    assert rows_of(tmp_path, "data.tsv", raw, format="tsv_raw")[0]["q"] == '"hi" she said'


def test_a_cell_may_be_larger_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    assert len(rows_of(tmp_path, "data.csv", "q\n" + "x" * 300_000 + "\n")[0]["q"]) == 300_000


def test_a_table_without_a_row_below_its_header_is_refused(tmp_path: Path) -> None:
    assert "no rows" in refusal(tmp_path, "data.csv", "q,a\n")


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.lists(cells.filter(lambda name: name.strip() and name[0] != "\ufeff"), min_size=1, max_size=4, unique=True)


@settings(deadline=None)
@given(names, st.data(), st.booleans())
def test_what_the_csv_module_writes_is_read_back_the_same(header: list[str], draw: st.DataObject, mark: bool) -> None:
    row = st.lists(cells, min_size=len(header), max_size=len(header))
    written = draw.draw(st.lists(row, min_size=1, max_size=5))
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([header, *written])
    data = stream.getvalue().encode("utf-8-sig" if mark else "utf-8")
    document = parse(data, FileSource(path="data.csv"))
    assert [list(found.values()) for found in document.content] == written
    assert document.names == tuple(header)


# ---- json, jsonl and lines

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | cells,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(cells, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(cells, values, max_size=4), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_what_the_json_module_writes_line_by_line_is_read_back_the_same(
    written: list[dict[str, object]], ascii_only: bool, windows: bool
) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in written]
    document = parse(("\r\n" if windows else "\n").join(lines).encode(), FileSource(path="data.jsonl"))
    assert document.content == written
    assert document.lines == tuple(range(1, len(written) + 1))


def test_blank_lines_of_a_jsonl_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "data.jsonl", '\n{"a": 1}\n  \n{"b": 2}\n\n')
    assert [rows.where(0), rows.where(1)] == ["data.jsonl:2", "data.jsonl:4"]
    assert rows.names == ("a", "b")


def test_a_cut_line_of_a_jsonl_is_refused_with_line_and_column(tmp_path: Path) -> None:
    message = refusal(tmp_path, "data.jsonl", '{"a": 1}\n{"a": "tru')
    assert message == "data.jsonl:2: not valid JSON (cut off at column 11); repair or delete the line"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a" 1}', "not valid JSON (Expecting ':' delimiter at column 6)"),
        ("[1]", "a list where a JSON object is needed"),
        ('{"a": 1, "a": 2}', "the name 'a' stands twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": "\\ud83d"}', "half a character"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "not usable JSON"),
    ],
)
def test_a_wrong_line_of_a_jsonl_is_refused_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    message = refusal(tmp_path, "data.jsonl", f'{{"a": 0}}\n{line}\n{{"a": 3}}\n')
    assert message.startswith("data.jsonl:2: ") and problem in message


def test_a_whole_character_written_as_two_escapes_is_one_character(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "data.jsonl", '{"a": "\\ud83d\\ude00"}')[0]["a"] == "\U0001f600"


def test_a_json_document_is_refused_with_line_and_column(tmp_path: Path) -> None:
    assert refusal(tmp_path, "data.json", '[\n {"a": 1},\n {"a" 2}\n]').startswith(
        "data.json:3: not valid JSON (Expecting ':' delimiter at column 7)"
    )
    assert "data.json:2: not valid JSON (cut off at column 10)" in refusal(tmp_path, "data.json", '[\n{"a": 1},')


def test_a_json_list_of_objects_is_rows_and_anything_else_needs_rows(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "data.json", '[{"a": 1}, {"a": 2}]')
    assert rows.where(1) == "data.json: row 2"
    assert "say where its rows are, as in rows: version" in refusal(tmp_path, "data.json", '{"version": 1, "data": []}')
    assert "row 2 is a number, not an object" in refusal(tmp_path, "data.json", '[{"a": 1}, 2]')


def test_only_line_ends_end_a_line_of_text(tmp_path: Path) -> None:
    content = "a\u2028b\u0085c\x0bd\x0ce\r\nlone\rreturn\n\nlast"
    rows = rows_of(tmp_path, "data.txt", content)
    assert [row["data"] for row in rows] == ["a\u2028b\u0085c\x0bd\x0ce", "lone\rreturn", "", "last"]
    assert rows.where(3) == "data.txt:4"
    assert list(rows_of(tmp_path, "data.txt", content + "\n")) == list(rows)


# ---- what any file may have


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.json", "data.jsonl", "data.txt"])
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert refusal(tmp_path, name, content) == f"{name}: the file is empty"


def test_another_encoding_is_refused_with_line_and_offset(tmp_path: Path) -> None:
    message = refusal(tmp_path, "data.csv", "q\nok\ncaf\xe9\n".encode("latin-1"))
    assert message == "data.csv:3: byte 0xe9 at offset 8 is not UTF-8; save the file as UTF-8"
    marked = refusal(tmp_path, "data.csv", b"\xef\xbb\xbfq\n\xff\n")
    assert marked.startswith("data.csv:2: byte 0xff at offset 5")
    assert "UTF-16" in refusal(tmp_path, "data.csv", "q\nok\n".encode("utf-16"))


def test_a_format_overrides_the_suffix_and_an_unknown_suffix_needs_one(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "data.txt", '{"a": 1}', format="jsonl")[0] == {"a": 1}
    assert "names no format; say format: csv |" in refusal(tmp_path, "generaltest.en", "hello")


# ---- archives


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_gzipped_file_has_the_format_of_its_inner_suffix(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "data.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    assert (len(rows), rows.where(1)) == (2, "data.jsonl.gz:2")


def test_a_zip_needs_a_member_and_names_those_it_has(tmp_path: Path) -> None:
    content = zipped({"a/test.json": b'[{"x": 1}]', "a/train.json": b"[]"})
    rows = rows_of(tmp_path, "data.zip", content, member="a/test.json")
    assert (rows[0], rows.where(0)) == ({"x": 1}, "data.zip/a/test.json: row 1")
    assert refusal(tmp_path, "data.zip", content, format="json").endswith("it has: a/test.json, a/train.json")
    assert "did you mean 'a/test.json'?" in refusal(tmp_path, "data.zip", content, member="a/tests.json")


@pytest.mark.parametrize("member", ["/etc/passwd", "../x.json", "a/../../x.json", "..\\x.json", "C:\\x.json"])
def test_a_member_outside_its_archive_is_refused(tmp_path: Path, member: str) -> None:
    assert "is refused" in refusal(tmp_path, "data.zip", zipped({member: b"[]"}), member=member, format="json")


def test_a_member_without_a_zip_is_refused(tmp_path: Path) -> None:
    assert "only a .zip file has members" in refusal(tmp_path, "data.json", "[]", member="x.json")


@pytest.mark.parametrize("name", ["data.json.gz", "data.zip"])
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str) -> None:
    member = "x.json" if name.endswith("zip") else None
    whole = zipped({"x.json": b'[{"x": 1}]'}) if member else gzip.compress(b'[{"x": 1}]')
    for broken in (whole[:-6], b"not an archive"):
        assert "the archive cannot be read" in refusal(tmp_path, name, broken, member=member)


@pytest.mark.parametrize("name", ["bomb.json", "bomb.json.gz", "bomb.zip"])
def test_more_bytes_than_the_limit_are_never_unpacked(tmp_path: Path, name: str) -> None:
    zeros = bytes(5_000_000)
    packed = {"json": zeros, "gz": gzip.compress(zeros), "zip": zipped({"x.json": zeros})}
    (tmp_path / name).write_bytes(packed[name.rpartition(".")[2]])
    source = FileSource(path=name, member="x.json" if name.endswith("zip") else None)
    assert len(unpack(tmp_path / name, source, limit_bytes=5_000_000)) == 5_000_000
    with pytest.raises(DataError, match="more than 4,999,999 bytes unpacked"):
        unpack(tmp_path / name, source, limit_bytes=4_999_999)
