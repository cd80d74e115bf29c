"""A classical reference row: logistic regression over TF-IDF of the input, cross-validated on the benchmark itself.

It is trained on the right answers of the other folds, which no model under test sees: its row shows what words alone
are worth on a set of labels, not how a model without training does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vevals.errors import ModelError
from vevals.extract import puts_spaces
from vevals.types import Request, Response, Sample

FOLDS = 5
_LEAST_PROBABILITY = 1e-12


def load(name: str, settings: Mapping[str, str]) -> TfidfModel:
    """``tfidf:logistic``; no settings."""
    if name != "logistic":
        raise ModelError(f"'tfidf:{name}': there is 'tfidf:logistic' only")
    if settings:
        raise ModelError(f"'tfidf:logistic' has no setting '{min(settings)}'; it has none")
    return TfidfModel()


@dataclass(slots=True)
class TfidfModel:
    """Answers each question by a classifier that was trained on the other four fifths of the benchmark."""

    answers_by_id: ClassVar[bool] = True
    plain_prompts: ClassVar[bool] = True
    name: str = "tfidf:logistic"
    _place: Mapping[str, int] = field(default_factory=dict)
    _probabilities: Mapping[str, Sequence[float]] = field(default_factory=dict)
    _known: int | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "tfidf", "name": "logistic", "folds": FOLDS, "version": 1}

    def introduce(self, samples: Sequence[Sample], ideals: Sequence[str]) -> None:
        """Learn the answer texts ``ideals`` from the inputs; ModelError where the set is none of fixed labels."""
        if len({sample.choices for sample in samples}) > 1 or len(samples[0].choices) < 2 or len(set(ideals)) < 2:
            raise ModelError("'tfidf:logistic' needs a benchmark whose rows all have the same choices")
        if any(len(sample.target) != 1 for sample in samples) or min(Counter(ideals).values()) < 2:
            raise ModelError("'tfidf:logistic' needs one label a row, and each label on two rows or more")
        groups = [sample.cluster or sample.id for sample in samples]
        texts = [sample.input for sample in samples]
        known = hash((tuple(texts), tuple(ideals), tuple(groups)))
        if known == self._known:
            return
        self._probabilities = cross_validated(texts, ideals, groups, characters=not puts_spaces(texts))
        self._place, self._known = {sample.id: place for place, sample in enumerate(samples)}, known

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in requests:
            said = max(self._probabilities, key=lambda label: self._probabilities[label][self._place[request.id]])
            yield Response(request.id, text=said, input_tokens=0, output_tokens=0)

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in requests:
            place = self._place[request.id]
            found = [
                self._probabilities[choice][place] if choice in self._probabilities else 0.0
                for choice in request.choices
            ]
            logprobs = tuple(math.log(max(one, _LEAST_PROBABILITY)) for one in found)
            best = tuple(one == max(logprobs) for one in logprobs)
            yield Response(request.id, logprobs=logprobs, choice_tokens=(1,) * len(found), greedy=best, input_tokens=0)

    def close(self) -> None:
        """Nothing to free."""


def cross_validated(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[str | int], characters: bool = False
) -> dict[str, list[float]]:
    """Label -> probability for each text, (n,), by a classifier that has not seen the text's group.

    Features: TF-IDF of words and pairs of words, or with ``characters`` of runs of one to three characters. Folds are
    stratified by label, drawn with a fixed seed. ModelError where there is nothing to learn from: fewer than two
    groups or labels, a label in one group only, texts without words.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline

    names, (y, group) = sorted(set(labels)), (np.array(labels), np.array([str(one) for one in groups]))
    fewest = min(len(set(group[y == name])) for name in names)
    if len(names) < 2 or fewest < 2:
        raise ModelError("a cross-validated classifier needs two labels or more, each in at least two clusters")
    found = np.zeros((len(texts), len(names)))
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    for train, test in folds.split(y, y, group):
        words: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
        runs: dict[str, Any] = {"ngram_range": (1, 3), "analyzer": "char"}
        vectorizer = TfidfVectorizer(sublinear_tf=True, **(runs if characters else words))
        model = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=1000))
        try:
            model.fit([texts[row] for row in train], y[train])
        except ValueError as error:  # one label only, or no word at all
            raise ModelError(f"a cross-validated classifier has nothing to learn from: {error}") from error
        columns = [names.index(label) for label in model.classes_]
        found[np.ix_(test, columns)] = model.predict_proba([texts[row] for row in test])
    return {name: found[:, column].tolist() for column, name in enumerate(names)}
