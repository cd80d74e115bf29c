"""Checklists of facts: what counts as said, and what a copy of the source or silence is worth."""

from __future__ import annotations

from typing import Any

import pytest

from vevals import metrics
from vevals.metrics.facts import occurs, plain
from vevals.types import Outcome, Response, Sample, Scored


def judged(name: str, answer: str | None, facts: Any, forbidden: Any = None, **options: str) -> Scored:
    fields = {"facts": facts} | ({} if forbidden is None else {"forbidden": forbidden})
    sample = Sample("s", "?", ("x",), fields=fields)
    return metrics.get(name, options).judge(sample, Response("s", text=answer or "text", answer=answer))


@pytest.mark.parametrize(
    ("spelling", "text"),
    [
        ("14 days", "Within 14  Days, please."),
        ("£25", "a credit of £25."),
        ("£25", "(£25)"),
        ("1200", "that is 1,200 in all"),
        ("1,200", "that is 1200 in all"),
        ("1,234,567", "1234567 units"),
        ("customer's", "the customer’s card"),
        ("2-3 days", "2–3 days"),
        ("４月", "于4月办理"),
        ("3月5日", "改到3月5日下午"),
        ("五日", "三月五日前"),
        ("15万", "一共15万元"),
        ("4000 0012 3456 7890", "card 4000-0012-3456-7890"),
        ("4000001234567890", "card 4000 0012 3456 7890."),
        ("4000 0012 3456 7890", "4000001234567890"),
        ("7.5", "a margin of 7.5%."),
        ("389,000", "| 298,000 389,000 |"),
        ("3月5日", "于 3 月 5 日 签约"),
        ("4000 0016 5520 9013", "The card is 4000 0016 5520 9013 09/27."),
        ("4000 0016 5520 9013", "card 3: 4000001655209013 12/28"),
        ("2024-01-15", "by 2024-01-15 10:30"),
        ("14 days", "within **14** days"),
        ("14 May", "on __14 May__."),
        ("3 May", "on 3\u200b May"),
        ("£25", "a credit of £25.00"),
        ("100-200", "some 100-200 units"),
        ("周五", "周五十点开会"),
        ("一天", "唯一一天"),
        ("19", "on the 19th"),
        ("3rd May", "on 3 May"),
    ],
)
def test_a_spelling_is_found_however_it_is_set(spelling: str, text: str) -> None:
    assert occurs([spelling], plain(text))


@pytest.mark.parametrize(
    ("spelling", "text"),
    [
        ("5 May", "on 15 May"),
        ("25", "25.50"),
        ("£25", "£25.50"),
        ("5", "1.5 kg"),
        ("200", "1,200"),
        ("200", "1200"),
        ("1,20", "1,200"),
        ("五日", "三月十五日"),
        ("十五", "十五万"),
        ("15", "15万"),
        ("二十", "二十五"),
        ("month", "monthly"),
        ("£25", "£25 million"),
        ("389,000", "389,000.50"),
        ("123456", "0.123456"),
        ("100-200", "100,200 units"),
        ("£251", "£25¹"),
        ("三天", "第三天"),
        ("£25", "£25.005"),
        ("123456", "1234567"),
        ("123456", "9 12 34 56"),
        ("86586", "分别为86，586人"),
        ("refund", "refunds"),
    ],
)
def test_a_part_of_another_word_or_number_is_not_it(spelling: str, text: str) -> None:
    assert not occurs([spelling], plain(text))


FACTS = [["14 days", "two weeks"], ["£25"], ["Friday"]]
FORBIDDEN = [["£50"], "Monday"]


@pytest.mark.parametrize(
    ("answer", "score", "strict"),
    [
        ("£25 by Friday, within two weeks", 1.0, 1.0),
        ("£25 by Friday", 2 / 3, 0.0),
        ("£25 by Friday, within 14 days (not £50)", 2 / 3, 0.0),
        ("Monday £50, then Friday £25 in 14 days", 1 / 3, 0.0),
        ("Monday £50", 0.0, 0.0),
        ("I do not know.", 0.0, 0.0),
    ],
)
def test_facts_count_up_and_forbidden_values_count_down(answer: str, score: float, strict: float) -> None:
    assert judged("fact_score", answer, FACTS, FORBIDDEN).value == pytest.approx(score)
    assert judged("fact_strict", answer, FACTS, FORBIDDEN).value == strict


def test_the_note_says_what_is_missing_and_what_should_not_be_there() -> None:
    assert judged("fact_score", "£25 on Monday", FACTS, FORBIDDEN).note == "missing: 14 days, Friday; forbidden: Monday"


def test_the_columns_can_have_other_names_and_forbidden_may_be_absent() -> None:
    assert judged("fact_score", "two weeks, £25, Friday", FACTS).value == 1
    without = Sample("s", "?", ("x",), fields={"facts": FACTS, "forbidden": None})
    assert metrics.get("fact_strict").judge(without, Response("s", text="x", answer="£25 Friday 14 days")).value == 1
    sample = Sample("s", "?", ("x",), fields={"key": ["a"], "slips": ["b"]})
    metric = metrics.get("fact_strict", {"facts": "key", "forbidden": "slips"})
    assert metric.judge(sample, Response("s", text="a b", answer="a b")).value == 0


@pytest.mark.parametrize(
    ("facts", "problem"),
    [([], "at least one fact"), ("£25", "not a list"), ([["£25"], []], "write a text"), ([3], "write a text")],
)
def test_a_checklist_that_is_none_is_no_verdict(facts: Any, problem: str) -> None:
    row = judged("fact_score", "anything", facts)
    assert row.outcome is Outcome.unjudgeable and row.value is None and problem in row.note


def test_a_row_without_the_column_is_no_verdict() -> None:
    metric = metrics.get("fact_score", {"facts": "key_facts"})
    row = metric.judge(Sample("s", "?", ("x",), fields={"facts": FACTS}), Response("s", text="a", answer="a"))
    assert row.outcome is Outcome.unjudgeable and "no column 'key_facts'" in row.note


def test_a_megabyte_of_hostile_text_costs_little() -> None:
    import time

    started = time.perf_counter()
    for text in ("9 " * 500_000, "£25." * 250_000, "五" * 1_000_000, "1,111," * 160_000):
        judged("fact_score", text, [["£25"], ["4000001234567890"], ["五日"], ["1,111"]])
    assert time.perf_counter() - started < 20
