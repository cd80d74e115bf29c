"""Metrics of classes, against scikit-learn."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from vevals import metrics
from vevals.metrics.labels import confusion
from vevals.types import Outcome, Response, Sample, Scored

NO_ANSWER = "\0 no answer"
CLASSES = ("angry", "neutral", "happy", "sad", "rare")


def rows_of(name: str, gold: Sequence[str], said: Sequence[str | None]) -> list[Scored]:
    metric = metrics.get(name)
    pairs = enumerate(zip(gold, said, strict=True))
    return [
        metric.judge(Sample(str(i), "", (g,), CLASSES), Response(str(i), text="some text", answer=answer))
        for i, (g, answer) in pairs
    ]


def random_rows(seed: int, size: int = 60) -> tuple[list[str], list[str | None]]:
    """Golds of up to five classes; answers right, wrong, missing, or of a class that is never gold."""
    draw = np.random.default_rng(seed)
    gold = draw.choice(CLASSES, size, p=[0.4, 0.3, 0.15, 0.13, 0.02]).tolist()
    other = draw.choice([*CLASSES, "never gold", ""], size).tolist()
    kind = draw.random(size)
    said = [g if k < 0.5 else None if k < 0.6 else o for g, o, k in zip(gold, other, kind, strict=True)]
    return gold, said


def expected(name: str, gold: Sequence[str], said: Sequence[str | None]) -> float:
    plain = [NO_ANSWER if answer is None else answer for answer in said]
    classes = sorted(set(gold))
    average, score = {
        "macro_f1": ("macro", f1_score),
        "weighted_f1": ("weighted", f1_score),
        "macro_precision": ("macro", precision_score),
        "macro_recall": ("macro", recall_score),
    }.get(name, (None, None))
    if score is not None:
        return float(score(gold, plain, labels=classes, average=average, zero_division=0))
    if name == "micro_f1":
        return float(f1_score(gold, plain, average="micro", zero_division=0))
    return float((balanced_accuracy_score if name == "balanced_accuracy" else matthews_corrcoef)(gold, plain))


NAMES = ["macro_f1", "weighted_f1", "micro_f1", "macro_precision", "macro_recall", "balanced_accuracy", "mcc"]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_that_of_scikit_learn_missing_answers_and_draws_included(name: str) -> None:
    for seed in range(8):
        gold, said = random_rows(seed)
        rows = rows_of(name, gold, said)
        assert metrics.get(name).value(rows) == pytest.approx(expected(name, gold, said), abs=1e-12)
        drawn = np.random.default_rng(seed).integers(0, len(rows), 25)
        wanted = expected(name, [gold[i] for i in drawn], [said[i] for i in drawn])
        assert metrics.get(name).prepare(rows)(drawn) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", ["macro_f1", "mcc"])
def test_ten_thousand_draws_of_five_hundred_rows_take_under_two_seconds(name: str) -> None:
    gold, said = random_rows(1, 500)
    prepared = metrics.get(name).prepare(rows_of(name, gold, said))
    draws = np.random.default_rng(0).integers(0, 500, (2000, 500))
    begun = time.process_time()
    values = [prepared(draw) for draw in draws]
    assert time.process_time() - begun < 4
    assert 0 < np.std(values) < 0.1


def test_one_class_only_makes_mcc_zero() -> None:
    assert metrics.get("mcc").value(rows_of("mcc", ["sad", "sad"], ["sad", "sad"])) == 0


def test_accuracy_accepts_any_target() -> None:
    metric = metrics.get("accuracy")
    sample = Sample("s", "", ("a", "b"))
    given = [metric.judge(sample, Response("s", text="x", answer=answer)).value for answer in ("a", "b", "c")]
    assert given == [1, 1, 0]


def normed(logprobs: tuple[float, ...], normalise: str = "bytes") -> Scored:
    sample = Sample("s", "", ("a long choice",), ("short", "a long choice", "三个字"))
    response = Response("s", logprobs=logprobs, choice_tokens=(1, 3, 9), answer="short")
    return metrics.get("accuracy_norm", {"normalise": normalise}).judge(sample, response)


def test_accuracy_norm_divides_by_the_length_of_the_choice() -> None:
    assert normed((-5.0, -12.0, -9.1)).value == 1
    assert normed((-4.0, -12.0, -9.1)).value == 0
    assert normed((-5.0, -12.0, -8.2)).value == 0, "9 bytes"
    assert normed((-5.0, -12.0, -8.2), "characters").value == 1, "3 characters"


def test_accuracy_norm_without_log_probabilities_is_unjudgeable() -> None:
    row = metrics.get("accuracy_norm").judge(Sample("s", "", ("a",), ("a", "b")), Response("s", text="a", answer="a"))
    assert (row.outcome, row.value) == (Outcome.unjudgeable, None)
    assert "log-probability" in row.note


@pytest.mark.parametrize(
    ("answer", "f1", "match"),
    [
        (["a", "b"], 1, 1),
        (["b", "a", "a"], 1, 1),
        (["a"], 2 / 3, 0),
        (["a", "b", "c", "d"], 2 / 3, 0),
        (["c"], 0, 0),
        ([], 0, 0),
    ],
)
def test_label_sets_are_compared_as_sets(answer: list[str], f1: float, match: float) -> None:
    sample, response = Sample("s", "", ("a", "b")), Response("s", text="x", answer=json.dumps(answer))
    assert metrics.get("set_f1").judge(sample, response).value == pytest.approx(f1)
    assert metrics.get("set_match").judge(sample, response).value == match


def test_two_empty_sets_match_and_an_answer_that_is_no_list_cannot_be_judged() -> None:
    nothing = Sample("s", "", ())
    assert metrics.get("set_f1").judge(nothing, Response("s", text="none", answer="[]")).value == 1
    row = metrics.get("set_f1").judge(nothing, Response("s", text="a", answer="a"))
    assert row.outcome is Outcome.unjudgeable
    assert "answer: labels" in row.note


def test_confusion_has_a_column_for_no_answer_and_the_order_of_the_choices() -> None:
    gold, said = random_rows(3)
    labels, counts = confusion(rows_of("macro_f1", gold, said))
    assert labels == [name for name in CLASSES if name in {*gold, *said}] + [
        name for name in labels if name not in CLASSES
    ]
    plain = [NO_ANSWER if answer is None else answer for answer in said]
    wanted = confusion_matrix(gold, plain, labels=[*labels, NO_ANSWER])
    assert counts.tolist() == wanted[:-1].tolist()
    assert counts.sum() == len(gold)
