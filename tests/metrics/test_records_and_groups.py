"""Fields of JSON answers, and whether variants of a case get the same answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from vevals import metrics
from vevals.types import Outcome, Response, Sample, Scored

TARGET = '{"clause": 3, "decision": "refuse"}'


def judged(name: str, answer: str, target: str = TARGET, **options: Any) -> Scored:
    return metrics.get(name, options).judge(Sample("s", "?", (target,)), Response("s", text=answer, answer=answer))


@pytest.mark.parametrize(
    ("answer", "match", "share"),
    [
        ('{"decision": "refuse", "clause": 3}', 1, 1.0),
        ('{"decision": " Refuse", "clause": "3", "why": "because"}', 1, 1.0),
        ('{"decision": "refuse", "clause": 2}', 0, 0.5),
        ('{"decision": "refuse"}', 0, 0.5),
        ('{"decision": ["refuse"], "clause": null}', 0, 0.0),
        ("[3]", 0, 0.0),
        ("[" * 100_000, 0, 0.0),
    ],
)
def test_fields_are_compared_one_by_one(answer: str, match: float, share: float) -> None:
    assert judged("field_match", answer).value == match
    assert judged("field_share", answer).value == share


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ("25.0", "25", True),
        ('"25.50"', "25.5", True),
        ("1e3", "1000", True),
        ('"１,000"', "1000", False),
        ('{"n": 1, "t": " Y"}', '{"n": "1", "t": "y"}', True),
        ("[1, 2]", '"[1, 2]"', False),
        ("null", '"null"', False),
        ("null", "null", True),
        ("true", '"true"', True),
        ("true", "1", False),
        ('["a", "b"]', '["a"]', False),
    ],
)
def test_values_are_compared_by_what_they_mean(given: str, wanted: str, same: bool) -> None:
    assert judged("field_match", f'{{"x": {given}}}', f'{{"x": {wanted}}}').value == same


def test_the_nearest_of_several_targets_counts() -> None:
    sample = Sample("s", "?", ('{"a": 1, "b": 2}', '{"a": 3, "b": 4}'))
    assert metrics.get("field_share").judge(sample, Response("s", text="x", answer='{"a": 3, "b": 9}')).value == 0.5


def test_only_the_named_fields_count_and_the_note_says_which_are_wrong() -> None:
    assert judged("field_match", '{"decision": "refuse", "clause": 9}', fields=["decision"]).value == 1
    assert judged("field_match", "{}").note == "wrong: clause, decision"


@pytest.mark.parametrize("target", ["refuse", "[1]", "{}"])
def test_a_target_without_fields_is_no_verdict(target: str) -> None:
    assert judged("field_match", "{}", target).outcome is Outcome.unjudgeable


def test_a_field_that_the_target_lacks_is_no_verdict() -> None:
    row = judged("field_match", TARGET, fields=["verdict"])
    assert row.outcome is Outcome.unjudgeable and "the target has no field 'verdict'" in row.note


def rows(answers: dict[str, list[str | None]]) -> list[Scored]:
    metric = metrics.get("same_answer")
    return [
        metric.judge(Sample(f"{cluster}{i}", "?", ("A",), ("A", "B"), cluster), Response("x", text="x", answer=answer))
        for cluster, given in answers.items()
        for i, answer in enumerate(given)
    ]


def test_a_case_counts_as_the_same_only_if_all_its_variants_are_answered_alike() -> None:
    found = rows({"a": ["A", "A"], "b": ["B", "B", "B"], "c": ["A", "B"], "d": [None, None], "alone": ["A"]})
    assert metrics.get("same_answer").value(found) == pytest.approx(2 / 4)


def test_repeats_are_compared_each_by_itself_and_make_no_case_of_one_sample() -> None:
    metric = metrics.get("same_answer")

    def row(cluster: str, number: int, answer: str) -> Scored:
        sample = Sample(f"{cluster}{number}", "?", ("A",), ("A", "B"), cluster)
        return metric.judge(sample, Response("x", text="x", answer=answer))

    constant = [row("pair", number, answer) for answer in "AB" for number in (0, 1)]
    assert metric.value(constant) == 1
    alone = [row("alone", 0, answer) for answer in "AAA"]
    differing = [row("pair", 0, "A"), row("pair", 1, "B")] * 3
    assert metric.value([*alone, *differing]) == 0


def test_drawing_whole_clusters_counts_each_as_often_as_it_is_drawn() -> None:
    found = rows({"a": ["A", "A"], "b": ["A", "B", "B"]})
    prepared = metrics.get("same_answer").prepare(found)
    assert prepared(np.array([0, 1, 0, 1, 2, 3, 4])) == pytest.approx(2 / 3)
    assert prepared(np.array([2, 3, 4])) == 0


def test_without_variants_there_is_nothing_to_say() -> None:
    assert math.isnan(metrics.get("same_answer").value(rows({"a": ["A"], "b": ["B"]})))
