"""Real public files at pinned addresses, read from the shared mirror with the hashes of its index."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vevals.data import DataSpec, FileSource, Rows, check_expression, column, load, verify

pytestmark = pytest.mark.shared
Pinned = Callable[..., FileSource]


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """An end of an address -> the file, pinned by the hash in the index; only the mirror has it."""
    shared = Path(os.environ.get("VEVALS_SHARED") or Path(__file__).parents[2] / "shared")
    index = shared / "mirror" / "INDEX.tsv"
    if not index.is_file():
        pytest.skip(f"no shared data at {shared}; set VEVALS_SHARED")
    monkeypatch.setenv("VEVALS_MIRROR", str(shared / "mirror"))
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    with index.open(encoding="utf-8", newline="") as stream:
        known = {row["url"]: row["sha256"] for row in csv.DictReader(stream, delimiter="\t")}

    def find(end: str, **settings: object) -> FileSource:
        (url,) = [url for url in known if url.endswith(end)]
        return FileSource(url=url, sha256=known[url], **settings)  # type: ignore[arg-type]

    return find


def read(rows: str | None = None, **files: FileSource) -> Rows:
    spec = DataSpec(files, rows)
    assert verify(spec, Path()) == []
    return load(spec, Path())


def value(rows: Rows, index: int, expression: str) -> object:
    assert check_expression(expression, rows.names) is None
    return column(rows[index], expression)


def test_pubmedqa_has_500_test_questions_in_the_order_of_the_ground_truth(pinned: Pinned) -> None:
    rows = read("pick(questions, keys(test))", questions=pinned("ori_pqal.json"), test=pinned("test_ground_truth.json"))
    assert (len(rows), rows.names, value(rows, 0, "key")) == (500, ("key", "value"), "12377809")
    assert value(rows, 0, "value.final_decision") == "yes"


def test_cmrc2018_has_3219_questions_with_their_passages(pinned: Pinned) -> None:
    rows = read("unnest(data[].paragraphs[], 'qas')", data=pinned("cmrc2018_dev.json"))
    assert (len(rows), value(rows, 0, "id")) == (3219, "DEV_0_QUERY_0")
    assert value(rows, 0, "answers[0].text") == "光荣和ω-force"
    assert str(value(rows, 0, "context")).startswith("《战国无双3》")


def test_tweeteval_sentiment_is_two_files_side_by_side(pinned: Pinned) -> None:
    rows = read(text=pinned("test_text.txt"), label=pinned("test_labels.txt"))
    assert (len(rows), value(rows, 3, "label"), rows.where(12_283)) == (12_284, "2", "test_text.txt:12284")
    assert str(value(rows, 12_283, "text")).endswith("ce President Pence ")


def test_banking77_is_a_csv(pinned: Pinned) -> None:
    rows = read(data=pinned("banking_data/test.csv"))
    assert (len(rows), rows[0]) == (3080, {"text": "How do I locate my card?", "category": "card_arrival"})
    assert len({row["category"] for row in rows}) == 77


def test_dialogsum_has_three_references_a_dialogue(pinned: Pinned) -> None:
    rows = read(data=pinned("dialogsum.test.jsonl"))
    assert (len(rows), value(rows, 0, "fname")) == (500, "test_0")
    assert len(value(rows, 0, "[summary1, summary2, summary3]")) == 3  # type: ignore[arg-type]


def test_medqa_has_four_options_a_question(pinned: Pinned) -> None:
    rows = read(data=pinned("phrases_no_exclude_test.jsonl"))
    assert (len(rows), len(value(rows, 0, "values(options)"))) == (1273, 4)  # type: ignore[arg-type]
    assert value(rows, 0, "options.B") == value(rows, 0, "answer")


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("2-4", "answer", "婚姻家庭"),
        ("3-3", "split(after(answer, '罪名:'), ';')", ["盗窃"]),
        ("3-7", "number(before(after(answer, ':'), '元'))", 8500.0),
    ],
)
def test_lawbench_targets_are_read_by_an_expression(pinned: Pinned, name: str, target: str, expected: object) -> None:
    rows = read(data=pinned(f"zero_shot/{name}.json"))
    assert (len(rows), value(rows, 0, target)) == (500, expected)
    assert all(value(rows, index, target) for index in range(500))


def test_gsm8k_targets_stand_behind_their_marker(pinned: Pinned) -> None:
    rows = read(data=pinned("grade_school_math/data/test.jsonl"))
    assert len(rows) == 1319
    target = "number(replace(after(answer, '####'), ',', ''))"
    assert [value(rows, index, target) for index in range(3)] == [18, 3, 70000]
    assert all(isinstance(value(rows, index, target), int) for index in range(1319))


def test_a_zip_a_gzip_and_both_kinds_of_tsv_are_read(pinned: Pinned) -> None:
    dialogues = read("items(@)", data=pinned("crosswoz/test.json.zip", member="test.json"))
    assert (len(dialogues), value(dialogues, 0, "value.messages[0].role")) == (500, "usr")
    problems = read(data=pinned("HumanEval.jsonl.gz"))
    assert (len(problems), value(problems, 0, "task_id")) == (164, "HumanEval/0")
    hearsay = read(data=pinned("hearsay/train.tsv"))
    assert str(value(hearsay, 2, "text")).endswith('"Real Madrid was the best soccer team in the world."')
    titles = read(data=pinned("ts/test.tsv", format="tsv_raw", header=("prompt", "abstract", "title")))
    assert (len(titles), value(titles, 0, "prompt")) == (1000, "to title")


def test_nested_tables_become_one_row_a_question(pinned: Pinned) -> None:
    rows = read("unnest(@, 'questions')", data=pinned("tatqa_dataset_dev.json"))
    assert (len(rows), value(rows, 0, "table.table[1][1]")) == (1668, "2019")
