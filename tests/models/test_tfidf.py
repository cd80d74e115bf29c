"""The classical reference row: what words alone are worth."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import write_benchmark

from vevals.benchmark import Benchmark, load
from vevals.errors import ModelError
from vevals.models import load_model
from vevals.models.tfidf import cross_validated

YAML = """
title: Colours
version: 1
data: data.jsonl
choices: [warm, cold]
prompt: "{{ input }}"
answer: %s
metrics: [accuracy]
chance: 0.5
license: CC-BY-4.0
source: written for the test
"""
WARM, COLD = ("red", "orange", "amber", "scarlet"), ("blue", "grey", "ice", "teal")


def benchmark(root: Path, answer: str = "label") -> Benchmark:
    rows = [
        {"id": f"{word}-{n}", "input": f"the {word} one, number {n}", "target": target}
        for target, words in (("warm", WARM), ("cold", COLD))
        for word in words
        for n in range(5)
    ]
    return load(write_benchmark(root, yaml=YAML % answer, rows=rows), "test/capitals")


@pytest.mark.parametrize("answer", ["label", "most_likely"])
def test_words_that_decide_are_learnt_from_the_other_folds(tmp_path: Path, answer: str) -> None:
    found, model = benchmark(tmp_path, answer), load_model("tfidf:logistic")
    samples = found.samples
    model.introduce(samples, [found.ideal(sample) for sample in samples])  # type: ignore[attr-defined]
    requests = [found.request(sample) for sample in samples]
    replies = list(model.loglikelihood(requests) if answer == "most_likely" else model.generate(requests))  # type: ignore[attr-defined]
    said = [found.extractor.answer(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
    assert [sample.target[0] for sample in samples] == said


def test_no_group_is_answered_by_a_classifier_that_has_seen_it() -> None:
    """Each word belongs to one group: seen alone, nothing can be learnt for it, and probabilities stay at a half."""
    texts = [f"word{group}" for group in range(20) for _ in range(3)]
    labels = ["a" if group % 2 else "b" for group in range(20) for _ in range(3)]
    groups = [group for group in range(20) for _ in range(3)]
    own = cross_validated(texts, labels, groups)["a"]
    assert max(abs(one - 0.5) for one in own) < 0.2


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [("tfidf:svm", "there is 'tfidf:logistic' only"), ("tfidf:logistic?c=1", "has no setting 'c'")],
)
def test_other_names_and_settings_are_refused(spec: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_model(spec)


@pytest.mark.parametrize(
    ("texts", "labels", "groups"),
    [
        (["a b", "c d"], ["x", "x"], [1, 2]),
        (["a b", "c d", "e f"], ["x", "y", "y"], [1, 2, 3]),
        (["+", "-", "*", "/"], ["x", "x", "y", "y"], [1, 2, 3, 4]),
        (["a b", "c d", "e f", "g h"], ["x", "x", "y", "y"], [1, 1, 2, 2]),
    ],
)
def test_what_cannot_be_learnt_is_one_sentence(texts: list[str], labels: list[str], groups: list[int]) -> None:
    with pytest.raises(ModelError, match="a cross-validated classifier"):
        cross_validated(texts, labels, groups)


def test_free_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    yaml = (YAML % "whole").replace("choices: [warm, cold]\n", "").replace("[accuracy]", "[exact_match]")
    rows = [{"id": str(n), "input": f"question {n}", "target": f"answer {n}"} for n in range(6)]
    found = load(write_benchmark(tmp_path, yaml=yaml, rows=rows), "test/capitals")
    with pytest.raises(ModelError, match="whose rows all have the same choices"):
        load_model("tfidf:logistic").introduce(found.samples, [found.ideal(one) for one in found.samples])  # type: ignore[attr-defined]
