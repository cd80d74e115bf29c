"""What ``vevals check`` finds without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from folders import LETTER_YAML, ROWS, write_benchmark

from vevals.benchmark import load
from vevals.check import Report, problems
from vevals.errors import DataError


def report(root: Path, yaml: str = LETTER_YAML, rows: list[dict[str, Any]] | None = None) -> Report:
    return problems(load(write_benchmark(root, yaml=yaml, rows=ROWS if rows is None else rows), "test/capitals"))


def repairs(found: Report) -> str:
    return " | ".join(finding.text for finding in found.findings if finding.repair)


def test_a_good_benchmark_has_counts_and_nothing_to_repair(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert found.ok and repairs(found) == ""
    assert (found.samples, found.labels) == (24, {"Paris": 8, "Rome": 8, "Oslo": 8})
    assert found.slices == {"level": {"easy": 12, "hard": 12}}


BAD_PROMPTS = [
    ("{{ input }}", "{ input }", "the prompt is the same for every row; write {{ input }}"),
    ("{{ input }}", "{{ input }} (it is {{ target }})", "the prompt shows the target"),
    ("{{ choices }}", "", "the answer is a letter, but the prompt shows no {{ choices }}"),
]


@pytest.mark.parametrize(("right", "wrong", "sentence"), BAD_PROMPTS)
def test_a_prompt_that_cannot_measure_anything_needs_repair(
    tmp_path: Path, right: str, wrong: str, sentence: str
) -> None:
    found = report(tmp_path, LETTER_YAML.replace(right, wrong))
    assert sentence in repairs(found) and "benchmark.yaml:6" in repairs(found)


def test_exact_and_near_duplicates_are_found(tmp_path: Path) -> None:
    long = "A rather long question about the weather in the capital of a small country far away, number"
    rows = [{**ROWS[0], "id": str(n), "input": f"{long} {n}"} for n in range(2)]
    found = repairs(report(tmp_path, rows=[*ROWS, {**ROWS[3], "id": "again"}, *rows]))
    assert "1 exact duplicates: c-03 = again" in found and "1 near duplicates: 0 ~ 1" in found


def test_a_target_that_cannot_be_read_back_names_its_row(tmp_path: Path) -> None:
    yaml = LETTER_YAML.replace("answer: letter", "answer: number").replace("[accuracy, macro_f1]", "[number_match]")
    yaml = yaml.replace("choices: [Paris, Rome, Oslo]\n", "").replace("  {{ choices }}\n", "")
    rows = [
        {"id": "a", "input": "?", "target": "12", "level": "x"},
        {"id": "b", "input": "!", "target": "x", "level": "x"},
    ]
    assert "sample 'b': target 'x' is not one number" in repairs(report(tmp_path, yaml, rows))


def test_choices_without_a_chance_are_noted(tmp_path: Path) -> None:
    found = report(tmp_path, LETTER_YAML.replace("chance: 0.3333\n", ""))
    assert found.ok
    assert [f.text for f in found.findings] == ["chance is 0, but there are 3 choices; guessing scores about 0.3333"]


def test_a_few_shot_example_that_is_a_question_is_a_leak(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, yaml=LETTER_YAML + "few_shot: {data: shots.jsonl, count: 1}\n")
    (folder / "shots.jsonl").write_text(
        '{"id": "s", "input": "Question 4 about Rome?", "target": "Rome", "level": "x"}\n', encoding="utf-8"
    )
    assert "the few-shot example 's' is the question 'c-04'" in repairs(problems(load(folder, "test/capitals")))


def test_a_skewed_label_is_noted(tmp_path: Path) -> None:
    rows = [{**row, "target": "Rome"} if number < 18 else row for number, row in enumerate(ROWS)]
    [note] = [finding.text for finding in report(tmp_path, rows=rows).findings if not finding.repair]
    assert note.startswith("label 'Rome' is ") and "a fair share is 33%" in note


def test_all_wrong_rows_are_listed_at_once_and_a_run_names_the_first(tmp_path: Path) -> None:
    rows = [{**row, "target": "Bergen"} if number % 5 == 1 else row for number, row in enumerate(ROWS)]
    found = report(tmp_path, rows=rows)
    lines = [finding.text.split(": ")[0].rsplit(":", 1)[1] for finding in found.findings]
    assert lines == ["2", "7", "12", "17", "22"] and not found.ok
    with pytest.raises(DataError, match=r"data\.jsonl:2: the target is 'Bergen'.* \(and 4 more; vevals check"):
        _ = load(tmp_path / "test" / "capitals", "test/capitals").samples
