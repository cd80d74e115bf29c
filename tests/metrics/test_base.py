"""What every metric promises, and how a response's outcome is decided."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vevals import extract, metrics
from vevals.errors import MetricError
from vevals.metrics import Metric, base
from vevals.types import ErrorKind, FinishReason, Outcome, Response, Sample, Score, Scored

WORDS = ("card arrival", "exchange rate", "top up", "refund")
SENTENCES = (
    "The customer asks when the new card will arrive.",
    "A refund was promised but it has not been paid yet.",
    "The exchange rate at the shop was worse than expected.",
    "He wants to top up his account with the other card.",
)


@dataclass(frozen=True)
class Setting:
    """Samples that a metric suits, how their answers are read, and wrong answers."""

    samples: tuple[Sample, ...]
    wrong: tuple[str, ...]
    extractor: str = "whole"
    options: dict[str, Any] = field(default_factory=dict)


CHOICE = Setting(tuple(Sample(str(i), "", (word,), WORDS) for i, word in enumerate(WORDS * 2)), WORDS, "label")
SETS = Setting(
    tuple(Sample(str(i), "", (WORDS[i], WORDS[(i + 1) % 4]), WORDS) for i in range(4)),
    ('["nothing known"]', '["top up", "nothing known"]'),
    "labels",
)
TEXT = Setting(tuple(Sample(str(i), "", (text,)) for i, text in enumerate(SENTENCES)), ("something else", *SENTENCES))
NUMBER = Setting(
    tuple(Sample(str(i), "", (text,)) for i, text in enumerate(("1,200", "-0.5", "7"))), ("8", "x"), "number"
)
LIKELY = replace(CHOICE, extractor="most_likely")

CHECKLIST = Setting(
    tuple(
        Sample(
            str(i), "", (text,), fields={"facts": [text.split()[1], [text.split()[-1], "end"]], "forbidden": ["else"]}
        )
        for i, text in enumerate(SENTENCES)
    ),
    ("something else", "nothing"),
)
RECORDS = Setting(
    tuple(Sample(str(i), "", (f'{{"clause": {i}, "decision": "{word}"}}',)) for i, word in enumerate(WORDS)),
    ('{"clause": 9, "decision": "?"}', "[]"),
    "json",
)
PAIRS = replace(CHOICE, samples=tuple(replace(sample, cluster=sample.target[0]) for sample in CHOICE.samples))

SETTINGS = {"accuracy_norm": LIKELY, "set_f1": SETS, "set_match": SETS, "number_match": NUMBER}
SETTINGS |= dict.fromkeys(("exact_match", "includes", "token_f1", "rouge1", "rouge2", "rougeL", "rougeLsum"), TEXT)
SETTINGS |= dict.fromkeys(("bleu", "chrf"), TEXT)
SETTINGS |= dict.fromkeys(("fact_score", "fact_strict"), CHECKLIST)
SETTINGS |= dict.fromkeys(("field_match", "field_share"), RECORDS) | {"same_answer": PAIRS}

OWN = [name for name in metrics.names() if metrics.get(name).fn.__module__.startswith("vevals.metrics.")]
# a wrong answer also costs precision, which silence does not: these may prefer silence as a set, and say so
MAY_PREFER_SILENCE = {"macro_f1", "weighted_f1", "macro_precision", "mcc", "bleu"}


def setting_of(name: str) -> Setting:
    return SETTINGS.get(name, CHOICE)


def respond(setting: Setting, sample: Sample, answer: str | None) -> Response:
    """A response whose answer is ``answer``; where log-probabilities decide, they say so too."""
    logprobs = tuple(0.0 if choice == answer else -9.0 for choice in sample.choices)
    return Response(sample.id, text="some text", logprobs=logprobs, choice_tokens=(1,) * len(logprobs), answer=answer)


def ideal(setting: Setting, sample: Sample) -> Response:
    extractor = extract.get(setting.extractor, setting.options)
    reply = extractor.ideal(sample)
    response = respond(setting, sample, reply)
    return replace(response, text=reply, answer=extractor.answer(sample, replace(response, text=reply)))


def better(metric: Metric, left: float, right: float) -> bool:
    return left > right + 1e-12 if metric.best > metric.worst else left < right - 1e-12


def judged(metric: Metric, setting: Setting, answers: Sequence[str | None]) -> list[Scored]:
    pairs = zip(setting.samples, answers, strict=True)
    return [metric.judge(sample, respond(setting, sample, answer)) for sample, answer in pairs]


@pytest.mark.parametrize("name", OWN)
def test_a_samples_own_target_earns_the_best_value(name: str) -> None:
    metric, setting = metrics.get(name), setting_of(name)
    rows = [metric.judge(sample, ideal(setting, sample)) for sample in setting.samples]
    assert [row.value for row in rows] == pytest.approx([metric.best] * len(rows), abs=1e-12)
    assert {row.outcome for row in rows} == {Outcome.scored}
    assert metric.value(rows) == pytest.approx(metric.best, abs=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_no_answer_is_never_better_than_a_wrong_one(name: str) -> None:
    metric, setting = metrics.get(name), setting_of(name)
    for sample in setting.samples:
        silent = metric.judge(sample, replace(respond(setting, sample, None), logprobs=()))
        assert silent.value == metric.worst
        for wrong in setting.wrong:
            value = metric.judge(sample, respond(setting, sample, wrong)).value
            assert value is not None
            assert not better(metric, metric.worst, value)


@pytest.mark.parametrize("name", [name for name in OWN if name not in MAY_PREFER_SILENCE])
def test_in_a_set_too_silence_is_never_better_than_a_wrong_answer(name: str) -> None:
    metric, setting = metrics.get(name), setting_of(name)
    right = [ideal(setting, sample).answer for sample in setting.samples]
    for wrong in setting.wrong:
        if wrong != right[0]:
            guessed = metric.value(judged(metric, setting, [wrong, *right[1:]]))
            silent = metric.value(judged(metric, setting, [None, *right[1:]]))
            assert not better(metric, silent, guessed)


@pytest.mark.parametrize("name", OWN)
def test_values_are_bounded_and_their_order_does_not_matter(name: str) -> None:
    metric, setting = metrics.get(name), setting_of(name)
    draw = random.Random(name)
    pool = [None, *setting.wrong, *(ideal(setting, sample).answer for sample in setting.samples)]
    low, high = sorted((metric.worst, metric.best))
    for _ in range(20):
        rows = judged(metric, setting, draw.choices(pool, k=len(setting.samples)))
        assert all(row.value is not None and low <= row.value <= high for row in rows)
        value = metric.value(rows)
        assert low <= value <= high
        draw.shuffle(rows)
        assert metric.value(rows) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in OWN if name != "same_answer"])  # it is drawn by whole clusters
def test_the_value_of_a_draw_is_the_value_of_its_rows(name: str) -> None:
    metric, setting = metrics.get(name), setting_of(name)
    rows = judged(metric, setting, [*setting.wrong, *[None] * 9][: len(setting.samples)])
    prepared = metric.prepare(rows)
    for _ in range(10):
        indices = np.random.default_rng(7).integers(0, len(rows), len(rows))
        assert prepared(indices) == pytest.approx(metric.value([rows[i] for i in indices]), abs=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_a_misspelt_option_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(MetricError, match=f"metric '{name}' has no option 'stemer'"):
        metrics.get(name, {"stemer": True})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("acuracy", {}, "did you mean 'accuracy'"),
        ("rouge1", {"stemer": True}, "did you mean 'stemmer'"),
        ("rouge1", {"tokens": "letters"}, "'words' or 'characters' or 'jieba'"),
        ("exact_match", {"normalise": ["cases"]}, "a list, each 'width'"),
        ("exact_match", {"normalise": "case"}, "a list"),
        ("number_match", {"tolerance": -1}, "a number, 0 or more"),
        ("number_match", {"tolerance": "1"}, "a number, 0 or more"),
        ("number_match", {"tolerance": True}, "a number"),
        ("number_match", {"any": 1}, "true or false"),
    ],
)
def test_a_name_or_value_that_does_not_exist_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        metrics.get(name, options)


def test_every_metric_has_its_own_source_hash() -> None:
    hashes = [metrics.get(name).source_hash for name in OWN]
    assert all(len(value) == 64 and int(value, 16) >= 0 for value in hashes)
    assert len(set(hashes)) == len(hashes)
    assert metrics.get("accuracy").source_hash == metrics.get("accuracy").source_hash


# --- outcomes -------------------------------------------------------------------------------------------------------

SAMPLE = Sample("s", "", ("yes",))
ACCURACY = metrics.get("accuracy")


@pytest.mark.parametrize(
    ("response", "outcome", "value"),
    [
        (Response("s", error="content filter", error_kind=ErrorKind.refused), Outcome.refused, 0.0),
        (Response("s", error="time-out", error_kind=ErrorKind.timeout), Outcome.failed, None),
        (Response("s", error="something", text="yes", answer="yes"), Outcome.failed, None),
        (Response("s", finish_reason=FinishReason.error), Outcome.failed, None),
        (Response("s", text=" \n"), Outcome.empty, 0.0),
        (Response("s", text=" \n", answer="yes"), Outcome.empty, 0.0),
        (Response("s", text="", finish_reason=FinishReason.length), Outcome.truncated, 0.0),
        (Response("s", text="well,", finish_reason=FinishReason.length), Outcome.truncated, 0.0),
        (Response("s", text="well"), Outcome.unparsed, 0.0),
        (Response("s", logprobs=(-1.0,)), Outcome.unparsed, 0.0),
        (Response("s", logprobs=(-1.0,), answer="yes"), Outcome.scored, 1.0),
        (Response("s", text="yes", answer="yes"), Outcome.scored, 1.0),
        (Response("s", text="yes", answer="no"), Outcome.scored, 0.0),
    ],
)
def test_the_first_row_of_the_table_that_applies_decides(
    response: Response, outcome: Outcome, value: float | None
) -> None:
    row = ACCURACY.judge(SAMPLE, response)
    assert (row.outcome, row.value) == (outcome, value)


def test_an_answer_in_a_reply_that_was_cut_off_counts_and_is_marked() -> None:
    row = ACCURACY.judge(SAMPLE, Response("s", text="yes and", answer="yes", finish_reason=FinishReason.length))
    assert (row.outcome, row.value, row.note) == (Outcome.scored, 1.0, "cut")


def raises(sample: Sample, response: Response) -> float:
    raise ZeroDivisionError("no words")


@pytest.mark.parametrize(
    ("given", "note"),
    [
        (raises, "ZeroDivisionError: no words"),
        (lambda sample, response: None, "gave no value"),
        (lambda sample, response: math.nan, "gave no value"),
        (lambda sample, response: Score(None, "the judge was not reached"), "the judge was not reached"),
        (lambda sample, response: 1.5, "1.5, which is outside 0 to 1"),
        (lambda sample, response: "0.5x", "ValueError"),
    ],
)
def test_a_metric_without_a_verdict_leaves_the_row_unjudgeable(given: Any, note: str) -> None:
    row = Metric("probe", given, {}).judge(SAMPLE, Response("s", text="yes", answer="yes"))
    assert (row.outcome, row.value) == (Outcome.unjudgeable, None)
    assert note in row.note


def test_a_benchmark_may_say_what_the_models_failures_count_as_but_not_ours() -> None:
    refused = Response("s", error="no", error_kind=ErrorKind.refused)
    assert ACCURACY.judge(SAMPLE, refused, {"refused": 1.0}).value == 1.0
    assert ACCURACY.judge(SAMPLE, Response("s", text=""), {"empty": 1.0}).value == 1.0
    for ours in ("failed", "unjudgeable", "scored", "emtpy"):
        with pytest.raises(MetricError, match="cannot be given a value"):
            ACCURACY.judge(SAMPLE, refused, {ours: 1.0})


def test_rows_without_a_value_are_left_out_and_none_at_all_is_nan() -> None:
    failed = ACCURACY.judge(SAMPLE, Response("s", error="time-out", error_kind=ErrorKind.timeout))
    right = ACCURACY.judge(SAMPLE, Response("s", text="yes", answer="yes"))
    wrong = ACCURACY.judge(SAMPLE, Response("s", text="yes", answer="no"))
    assert ACCURACY.value([failed, right, wrong]) == 0.5
    assert math.isnan(ACCURACY.value([failed]))
    macro = metrics.get("macro_recall")
    assert macro.value([macro.judge(row.sample, row.response) for row in (failed, right, wrong)]) == 0.5


PLUGIN = """
from vevals.metrics import metric

@metric(best=0.0, worst=100.0)
def shout_length(sample, response, *, most=100):
    return min(most, len(response.answer))
"""


def test_an_installed_package_adds_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouting_metric.py").write_text(PLUGIN)
    info = tmp_path / "shouting_metric-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting-metric\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vevals.metrics]\nshout_length = shouting_metric:shout_length\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "shout_length" in metrics.names()
    shouted = metrics.get("shout_length", {"most": 3})
    assert shouted.judge(SAMPLE, Response("s", text="hello", answer="hello")).value == 3
    assert shouted.judge(SAMPLE, Response("s", text="")).value == 100


def test_a_metric_is_registered_once_and_stays_a_function() -> None:
    with pytest.raises(MetricError, match="registered twice"):
        base.metric(name="accuracy")(lambda sample, response: 1.0)
