"""From a DataSpec to rows: several files, expressions, places, hashes, and what a source may not be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vevals.data import DataSpec, FileSource, HubSource, load, verify
from vevals.errors import DataError

HASH = "0" * 64


def write(folder: Path, **files: str) -> DataSpec:
    """Files by key (``text_txt`` is ``text.txt``) and the spec that names them all."""
    sources = {}
    for name, content in files.items():
        key, suffix = name.rsplit("_", 1)
        (folder / f"{key}.{suffix}").write_text(content, encoding="utf-8")
        sources[key] = FileSource(path=f"{key}.{suffix}")
    return DataSpec(sources)


def with_rows(spec: DataSpec, rows: str) -> DataSpec:
    return DataSpec(spec.files, rows)


def test_files_of_equal_length_stand_side_by_side(tmp_path: Path) -> None:
    spec = write(tmp_path, meta_json='[{"id": 1}, {"id": 2}]', text_txt="a\nb\n", label_txt="0\n1\n")
    rows = load(spec, tmp_path)
    assert list(rows) == [{"id": 1, "text": "a", "label": "0"}, {"id": 2, "text": "b", "label": "1"}]
    assert rows.names == ("id", "text", "label")
    assert rows.where(1) == "text.txt:2"


def test_files_of_unequal_length_are_refused_with_both_lengths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"text\.txt \+ label\.txt: .* 'text' has 2, 'label' has 3; say rows"):
        load(write(tmp_path, text_txt="a\nb\n", label_txt="0\n1\n0\n"), tmp_path)


def test_an_expression_sees_several_files_by_name(tmp_path: Path) -> None:
    spec = write(tmp_path, questions_json='{"a": {"q": 1}, "b": {"q": 2}}', test_json='{"b": "yes"}')
    rows = load(with_rows(spec, "pick(questions, keys(test))"), tmp_path)
    assert list(rows) == [{"key": "b", "value": {"q": 2}}]
    assert rows.where(0) == "questions.json + test.json: row 1"


def test_rows_that_an_expression_only_selects_keep_their_lines(tmp_path: Path) -> None:
    spec = write(tmp_path, data_jsonl='{"l": "en"}\n{"l": "zh"}\n\n{"l": "en"}\n')
    assert load(with_rows(spec, "[?l == 'en']"), tmp_path).where(1) == "data.jsonl:4"
    assert load(with_rows(spec, "[].{language: l}"), tmp_path).where(2) == "data.jsonl: row 3"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("[", "'[' is neither a column here nor JMESPath: it ends too early"),
        ("[].missing", "no rows"),
        ("missing", "null where a list of objects is needed; correct rows: missing"),
        ("[].l", "row 1 is a text, not an object"),
        ("unnest(@, 'x')", "rows: 'unnest(@, 'x')': unnest(): element 1 has no list"),
    ],
)
def test_an_expression_that_gives_no_rows_is_refused(tmp_path: Path, rows: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        load(with_rows(write(tmp_path, data_jsonl='{"l": "en"}\n'), rows), tmp_path)
    assert str(caught.value).startswith("data.jsonl: ") and problem in str(caught.value)


def test_rows_are_a_sequence(tmp_path: Path) -> None:
    rows = load(write(tmp_path, data_csv="a\n1\n2\n3\n"), tmp_path)
    assert (len(rows), rows[-1], [row["a"] for row in rows[:2]]) == (3, {"a": "3"}, ["1", "2"])


def test_the_hash_is_that_of_the_rows_whatever_file_holds_them(tmp_path: Path) -> None:
    table = load(write(tmp_path, data_csv='b,a\n1,"é"\n'), tmp_path)
    lines = load(write(tmp_path, data_jsonl='\n{"a": "\\u00e9", "b": "1"}\n'), tmp_path)
    other = load(write(tmp_path, data_jsonl='{"a": "e", "b": "1"}\n'), tmp_path)
    assert table.sha256 == lines.sha256 != other.sha256
    canonical = json.dumps({"a": "é", "b": "1"}, separators=(",", ":")) + "\n"
    assert table.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


# ---- bundled files


@pytest.mark.parametrize(
    "path", ["../secret.csv", "sub/../../secret.csv", "..\\secret.csv", "/etc/passwd", "C:\\x.csv"]
)
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (tmp_path / "benchmark" / "sub").mkdir(parents=True)
    with pytest.raises(DataError, match="outside the benchmark's folder"):
        load(DataSpec({"data": FileSource(path=path, format="csv")}), tmp_path / "benchmark")


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "benchmark"
    folder.mkdir()
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (folder / "real.csv").write_text("a\n2\n")
    (folder / "out.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "in.csv").symlink_to("real.csv")
    with pytest.raises(DataError, match="outside the benchmark's folder"):
        load(DataSpec({"data": FileSource(path="out.csv")}), folder)
    assert load(DataSpec({"data": FileSource(path="in.csv")}), folder)[0] == {"a": "2"}


def test_a_file_that_is_not_there_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "date.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"data\.csv: there is no such file .* it holds: date\.csv"):
        load(DataSpec({"data": FileSource(path="data.csv")}), tmp_path)


def test_a_bundled_file_with_a_hash_is_verified_and_noticed_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"a\n1\n")
    spec = DataSpec({"data": FileSource(path="data.csv", sha256=hashlib.sha256(b"a\n1\n").hexdigest().upper())})
    assert len(load(spec, tmp_path)) == 1
    assert verify(spec, tmp_path) == []
    (tmp_path / "data.csv").write_bytes(b"a\n1\n2\n")
    found = hashlib.sha256(b"a\n1\n2\n").hexdigest()
    with pytest.raises(DataError, match=found):
        load(spec, tmp_path)
    (problem,) = verify(spec, tmp_path)
    assert found in problem and "data.csv" in problem


# ---- sources that are wrong in themselves


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: FileSource(), "either a path or a url"),
        (lambda: FileSource(path="a.csv", url="https://x.org/a.csv", sha256=HASH), "either a path or a url"),
        (lambda: FileSource(url="https://x.org/a.csv"), "needs its sha256"),
        (lambda: FileSource(url="https://x.org/a.csv", sha256="abc"), "not 64 hexadecimal digits"),
        (lambda: FileSource(url="file:///etc/passwd", sha256=HASH), "not an http or https address"),
        (lambda: FileSource(url="ftp://x.org/a.csv", sha256=HASH), "not an http or https address"),
        (lambda: FileSource(url="https:///a.csv", sha256=HASH), "not an http or https address"),
        (lambda: FileSource(url="https://[x/a.csv", sha256=HASH), "is not an address"),
        (lambda: FileSource(url="https://me:pw@x.org/a.csv", sha256=HASH), "must not hold credentials"),
        (lambda: FileSource(path="a.xls", format="xls"), "unknown format 'xls'"),
        (lambda: FileSource(path="a.jsonl", format="jsonl", header=("a",)), "only csv and tsv files do"),
        (lambda: FileSource(path="a.jsonl", header=("a",)).named_format(), "has no header"),
        (lambda: DataSpec({}), "either files or a hub data set"),
        (
            lambda: DataSpec({"a": FileSource(path="a.csv")}, hub=HubSource("x/y", None, "test")),
            "either files or a hub",
        ),
        (lambda: HubSource("x/y", None, "test", "main"), "is not a commit"),
    ],
)
def test_a_source_that_is_wrong_in_itself_cannot_be_built(build: Callable[[], object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        build()
