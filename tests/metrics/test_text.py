"""Metrics of text and numbers, against rouge-score and sacrebleu, in English and Chinese."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from vevals import metrics
from vevals.metrics.text import normalised
from vevals.types import Outcome, Response, Sample, Scored

VOCABULARY = ["the", "a", "customer", "bank", "transfers", "money,", "refunded", "paying", "quickly!"]
VOCABULARY += ["2", "days", "later.", "it's", "(not)", "fine"]
HANZI = "客户要求银行退款但是没有收到卡片。"


def judge(name: str, answer: str | None, *targets: str, **options: Any) -> Scored:
    return metrics.get(name, options).judge(Sample("s", "", targets), Response("s", text="some text", answer=answer))


def value(name: str, answer: str, *targets: str, **options: Any) -> float:
    row = judge(name, answer, *targets, **options)
    assert row.value is not None, row.note
    return row.value


def sentences(seed: int, size: int, words: Any = VOCABULARY, gap: str = " ") -> list[str]:
    draw = random.Random(seed)
    return [gap.join(draw.choices(words, k=draw.randint(1, 14))) for _ in range(size)]


# --- matches --------------------------------------------------------------------------------------------------------


def test_exact_match_ignores_case_width_and_spacing_but_not_punctuation() -> None:
    assert value("exact_match", " ＡＢＣ  corp ", "abc corp") == 1
    assert value("exact_match", "-5", "5") == 0
    assert value("exact_match", "C++", "C", "C#") == 0
    assert value("exact_match", "b", "a", "B") == 1, "any target counts"


def test_the_steps_of_normalisation_can_be_chosen() -> None:
    squad = ["width", "case", "punctuation", "articles", "whitespace"]
    assert value("exact_match", "The bank!", "bank", normalise=squad) == 1
    assert value("exact_match", "Bank", "bank", normalise=[]) == 0
    assert normalised("“退款”，好。", ["punctuation"]) == "退款好"
    assert normalised("ｆｕｌｌ　ｗｉｄｔｈ①", ["width"]) == "full width1"
    assert normalised("theatre an the a", ["articles", "whitespace"]) == "theatre"


def test_hostile_combining_marks_do_not_stall_normalisation() -> None:
    begun = time.process_time()
    assert len(normalised("é" + "\u0301\u0316" * 200_000, ["width"])) < 100
    assert time.process_time() - begun < 10


def test_includes_looks_for_whole_words_and_needs_no_spaces_in_chinese() -> None:
    assert value("includes", "I do not know", "no") == 0
    assert value("includes", "No, thanks", "no") == 1
    assert value("includes", "客户要求退款。", "退款") == 1
    assert value("includes", "anything", "") == 0


def test_token_f1_is_that_of_squad() -> None:
    assert value("token_f1", "The Bank of America.", "bank of england") == pytest.approx(2 / 3)
    assert value("token_f1", "a bank bank", "the bank") == pytest.approx(2 / 3)
    assert value("token_f1", "x", "y", "x z") == pytest.approx(2 / 3), "the best reference counts"
    assert value("token_f1", "the", "a") == 1, "nothing is left of both"


def test_token_f1_of_chinese_counts_characters_or_words() -> None:
    assert value("token_f1", "要求退款", "客户要求退款。", tokens="characters") == pytest.approx(0.8)
    assert value("token_f1", "我来到北京清华大学", "我在清华大学", tokens="jieba") == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    ("answer", "target", "options", "wanted"),
    [
        ("1200", "1,200.00", {}, 1),
        ("$1,200", "1200", {}, 1),
        ("0.30000000000000001", "0.3", {}, 0),
        ("1/3", "2/6", {}, 1),
        ("5 or 6", "5", {}, 0),
        ("none", "5", {}, 0),
        ("5.1", "5", {"tolerance": 0.1}, 1),
        ("5.11", "5", {"tolerance": 0.1}, 0),
        ("-102", "-100", {"relative": 0.02}, 1),
        ("-102.1", "-100", {"relative": 0.02}, 0),
        ("[金额]9100元+5000元<eoa>", "9100.0", {"any": True}, 1),
        ("[金额]59,827元<eoa>", "59827", {"any": True}, 0),
        ("[金额]５００元", "500", {"any": True}, 1),
    ],
)
def test_numbers_match_exactly_or_within_a_tolerance(
    answer: str, target: str, options: dict[str, Any], wanted: float
) -> None:
    assert value("number_match", answer, target, **options) == wanted


def test_a_target_that_is_no_number_cannot_be_judged() -> None:
    assert judge("number_match", "5", "five").outcome is Outcome.unjudgeable


# --- ROUGE ----------------------------------------------------------------------------------------------------------

KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stemmer", [True, False])
def test_rouge_is_that_of_rouge_score_for_the_best_reference(kind: str, stemmer: bool) -> None:
    oracle = RougeScorer([kind], use_stemmer=stemmer)
    texts = zip(sentences(1, 40), sentences(2, 40), sentences(3, 40, gap=" \n"), strict=True)
    for answer, first, second in texts:
        wanted = max(oracle.score(target, answer)[kind].fmeasure for target in (first, second))
        assert value(kind, answer, first, second, stemmer=stemmer) == wanted


def spelt(text: str) -> str:
    """Each character as a Latin word of its own, punctuation left out: what rouge-score can count."""
    return " ".join(f"x{ord(character)}" for character in text if character != "。")


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_rouge_of_chinese_characters_is_rouge_of_as_many_words(kind: str) -> None:
    oracle = RougeScorer([kind])
    for answer, target in zip(sentences(4, 30, HANZI, ""), sentences(5, 30, HANZI[:-1], ""), strict=True):
        wanted = oracle.score(spelt(target), spelt(answer))[kind].fmeasure
        assert value(kind, answer, target, tokens="characters") == pytest.approx(wanted)


def test_rouge_of_chinese_words_cuts_them_as_jieba_does() -> None:
    assert value("rouge1", "我来到北京清华大学", "我在清华大学。", tokens="jieba") == pytest.approx(4 / 7)
    assert value("rouge1", "清华大学 Running", "清华大学 runs", tokens="jieba") == 1
    assert value("rouge1", "清华大学 Running", "清华大学 runs", tokens="jieba", stemmer=False) == pytest.approx(0.5)


def test_rouge_of_chinese_as_english_words_is_unjudgeable_and_says_what_to_do() -> None:
    row = judge("rougeL", "退款", "客户要求退款")
    assert (row.outcome, row.value) == (Outcome.unjudgeable, None)
    assert "characters or jieba" in row.note


# --- BLEU and chrF --------------------------------------------------------------------------------------------------


def bleu_rows(answers: list[str | None], first: list[str], second: list[str], **options: Any) -> list[Scored]:
    return [judge("bleu", a, x, y, **options) for a, x, y in zip(answers, first, second, strict=True)]


@pytest.mark.parametrize(
    ("options", "words", "gap"),
    [({}, VOCABULARY, " "), ({"lowercase": True}, VOCABULARY, " "), ({"tokens": "zh"}, HANZI, "")],
)
def test_bleu_is_corpus_bleu_of_sacrebleu_missing_answers_and_draws_included(
    options: dict[str, Any], words: Any, gap: str
) -> None:
    answers: list[str | None] = [*sentences(1, 40, words, gap)]
    first, second = sentences(2, 40, words, gap), sentences(3, 40, words, gap)
    answers[:10] = first[:10]
    answers[12] = None
    prepared = metrics.get("bleu", options).prepare(bleu_rows(answers, first, second, **options))
    for drawn in (np.arange(40), *np.random.default_rng(1).integers(0, 40, (5, 40))):
        wanted = sacrebleu.corpus_bleu(
            [answers[i] or "" for i in drawn],
            [[first[i] for i in drawn], [second[i] for i in drawn]],
            tokenize=options.get("tokens", "13a"),
            lowercase=options.get("lowercase", False),
        )
        assert 1 < wanted.score < 100
        assert prepared(drawn) == pytest.approx(wanted.score / 100, abs=1e-12)


def test_ten_thousand_draws_of_bleu_take_under_two_seconds() -> None:
    prepared = metrics.get("bleu").prepare(bleu_rows([*sentences(1, 500)], sentences(2, 500), sentences(3, 500)))
    draws = np.random.default_rng(0).integers(0, 500, (2000, 500))
    begun = time.process_time()
    values = [prepared(draw) for draw in draws]
    assert time.process_time() - begun < 4
    assert np.std(values) > 0


def test_bleu_of_short_targets_has_no_four_grams_and_is_zero() -> None:
    rows = [judge("bleu", "退款", "退款", tokens="zh")] * 3
    assert rows[0].value == 1, "one sentence is scored over the orders that it has"
    assert metrics.get("bleu", {"tokens": "zh"}).value(rows) == 0


def test_chrf_is_the_mean_of_sacrebleus_sentence_scores() -> None:
    answers, targets = sentences(1, 20), sentences(2, 20)
    rows = [judge("chrf", answer, target) for answer, target in zip(answers, targets, strict=True)]
    wanted = [sacrebleu.sentence_chrf(a, [t]).score / 100 for a, t in zip(answers, targets, strict=True)]
    assert metrics.get("chrf").value(rows) == pytest.approx(float(np.mean(wanted)), abs=1e-12)
    assert value("chrf", "要求退款", "客户要求退款") > 0.3
