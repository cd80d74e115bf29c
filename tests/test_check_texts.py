"""What ``vevals check`` sees in the texts of a set: dirt, personal data, shortcuts, a question in two sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from folders import write_benchmark

from vevals.benchmark import load
from vevals.check import Report, across, problems
from vevals.check.texts import length_of, personal_data, unclean
from vevals.types import Sample

CHOICE_YAML = """
title: A choice
version: 1
data: data.jsonl
prompt: "{{ input }} {{ choices }}"
answer: letter
metrics: [accuracy]
chance: 0.25
license: CC-BY-4.0
source: written for the test
"""
PARTS_YAML = """
title: A rule and a case
version: 1
data: data.jsonl
choices: [allowed, forbidden]
prompt: "{{ rule }} {{ input }}"
answer: label
metrics: [accuracy]
chance: 0.5
license: CC-BY-4.0
source: written for the test
"""
WORDS = ["river", "stone", "lamp", "window", "garden", "bridge", "winter", "paper", "engine", "market", "signal"]


def texts(draw: random.Random, count: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(count))


def checked(root: Path, yaml: str, rows: list[dict[str, Any]]) -> Report:
    return problems(load(write_benchmark(root, yaml=yaml, rows=rows), "test/capitals"))


def choice_rows(longest: bool, telling: bool = False, count: int = 120) -> list[dict[str, Any]]:
    """Rows of four choices; the right one is always the longest, or holds a word that the others lack, or neither."""
    draw = random.Random(1)
    rows = []
    for number in range(count):
        choices = [texts(draw, draw.randint(3, 6)) for _ in range(4)]
        right = number % 4
        if longest:
            choices[right] = max(choices, key=len) + " and more"
        if telling:
            choices[right] = choices[right].replace(" ", " probably ", 1)
        rows.append({"id": f"q-{number}", "input": texts(draw, 12), "choices": choices, "target": choices[right]})
    return rows


def shortcuts_of(report: Report) -> dict[str, bool]:
    return {
        finding.text.split(" is right for")[0]: finding.repair
        for finding in report.findings
        if "is right for" in finding.text
    }


def test_choices_that_do_not_give_themselves_away_are_left_alone(tmp_path: Path) -> None:
    assert not any(shortcuts_of(checked(tmp_path, CHOICE_YAML, choice_rows(longest=False))).values())


def test_a_right_choice_that_is_always_the_longest_needs_repair(tmp_path: Path) -> None:
    found = shortcuts_of(checked(tmp_path, CHOICE_YAML, choice_rows(longest=True)))
    assert found["always the longest choice"]


def test_a_word_that_only_right_choices_have_needs_repair(tmp_path: Path) -> None:
    found = checked(tmp_path, CHOICE_YAML, choice_rows(longest=False, telling=True))
    assert shortcuts_of(found)["a classifier that sees the choices alone"] and not found.ok


def test_variants_of_a_case_are_no_shortcut_to_each_other(tmp_path: Path) -> None:
    """Twins share their choices: a classifier that has seen the one would know the other."""
    rows = [
        {**row, "id": f"{row['id']}-{variant}", "input": f"{row['input']} {variant}", "case": row["id"]}
        for row in choice_rows(longest=False, count=40)
        for variant in ("one", "two", "three")
    ]
    yaml = CHOICE_YAML + "columns: {cluster: case}\n"
    assert not any(shortcuts_of(checked(tmp_path, yaml, rows)).values())


@pytest.mark.parametrize("change", [{"target": "allowed"}, {"rule": "+ - * / + - * / + - *"}, {"case": "one"}])
def test_a_set_that_no_classifier_can_learn_is_checked_all_the_same(tmp_path: Path, change: dict[str, str]) -> None:
    rows = [{**row, "case": row["id"], **change} for row in part_rows(leak=False)]
    assert checked(tmp_path, PARTS_YAML + "columns: {cluster: case}\n", rows).samples == 100


def part_rows(leak: bool) -> list[dict[str, Any]]:
    draw = random.Random(2)
    rows = []
    for number in range(100):
        target = ("allowed", "forbidden")[number % 2]
        rule = texts(draw, 12) + (f" {'gladly' if target == 'allowed' else 'never'}" if leak else "")
        rows.append({"id": f"r-{number}", "rule": rule, "input": texts(draw, 12), "target": target})
    return rows


def test_a_part_that_says_the_answer_without_the_rest_needs_repair(tmp_path: Path) -> None:
    assert shortcuts_of(checked(tmp_path, PARTS_YAML, part_rows(leak=True))) == {
        "a classifier that sees 'rule' alone": True
    }
    assert not any(shortcuts_of(checked(tmp_path / "other", PARTS_YAML, part_rows(leak=False))).values())


def sample(text: str, **fields: Any) -> Sample:
    return Sample("s-1", text, ("x",), fields=fields)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a zero\u200bwidth space", "cannot be seen"),
        ("bidi \u202e turned", "cannot be seen"),
        ("bell \a", "cannot be seen"),
        ("lost \ufffd character", "U+FFFD"),
        ("cafe\u0301", "NFC"),
        (" space before", "white space"),
    ],
)
def test_dirt_is_named_with_its_rows(text: str, problem: str) -> None:
    [found] = unclean([sample("clean"), sample(text)])
    assert problem in found and found.endswith("s-1")
    assert list(unclean([sample("clean", notes=[{"inner": text}])]))


def test_line_breaks_tabs_and_chinese_are_clean() -> None:
    assert not list(unclean([sample("first\nsecond\tthird，第四行。")]))


@pytest.mark.parametrize(
    "text",
    [
        "write to jane.roe@mailbox.io",
        "call 13812345678",
        "card 4539 1488 0343 6467",
        "id 11010519491231002X",
        "qty 3 4539 1488 0343 6467 12/28",
        "call +8613812345678",
        "138-1234-5678",
    ],
)
def test_what_may_be_a_real_persons_is_found(text: str) -> None:
    [found] = personal_data([sample("nothing here"), sample(text)])
    assert "may be somebody's: s-1" in found


@pytest.mark.parametrize(
    "text",
    [
        "write to jane@example.com or help@shop.example",
        "card 4000 0012 3456 7899",
        "order 2024110300017",
        "call 555-0134",
        "card 4539 1488 0343 6468",
        "id 110105194912310021",
        "邮箱help@shop.example即可",
    ],
)
def test_reserved_and_impossible_numbers_are_nobodys(text: str) -> None:
    assert not list(personal_data([sample(text)]))


def test_a_question_of_one_set_in_another_is_found_also_when_it_was_touched_up() -> None:
    one = [Sample("a-1", "When does the warranty of a repaired washing machine begin to run again?", ("x",))]
    other = [
        Sample("b-1", "When does the warranty of a repaired washing machine begin to run again??", ("y",)),
        Sample("b-2", "Who pays for the parts when a washing machine is repaired under warranty?", ("y",)),
    ]
    assert across({"one": one, "other": other}) == ["one a-1 ~ other b-1"]


def test_variants_of_one_case_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    rows = part_rows(leak=False)
    twin = {**rows[0], "id": "twin", "input": rows[0]["input"] + "."}
    assert any("near duplicates" in finding.text for finding in checked(tmp_path, PARTS_YAML, [*rows, twin]).findings)
    clustered = [{**row, "case": "one" if row is rows[0] else row["id"]} for row in rows]
    yaml = PARTS_YAML + "columns: {cluster: case}\n"
    again = checked(tmp_path / "other", yaml, [*clustered, {**twin, "case": "one"}])
    assert not any("near duplicates" in finding.text for finding in again.findings)


def test_length_is_in_words_or_in_characters_where_there_are_no_spaces() -> None:
    assert str(length_of([sample("one two three"), sample("four five")])) == "median 2.5 words, 2 to 3"
    assert str(length_of([sample("一二三四")])) == "median 4 characters, 4 to 4"


def test_reading_level_is_a_grade_or_the_length_of_sentences() -> None:
    """By hand: 11 words, 2 sentences, 33 letters: 4.71 * 3 + 0.5 * 5.5 - 21.43 is below grade 1."""
    easy = length_of([sample("The cat sat on the mat. Dogs ran to see it.")])
    assert easy.reading == "grade 1 by the Automated Readability Index"
    words = "Notwithstanding contractual indemnification, consequential damages remain unrecoverable."
    assert length_of([sample(words)]).reading == "grade 36 by the Automated Readability Index"  # 7 words, 80 letters
    assert length_of([sample("今天下雨。我没有带伞。")]).reading == "6 characters a sentence"
