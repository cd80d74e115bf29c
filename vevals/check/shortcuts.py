"""Ways to be right without reading the question: choices that give themselves away, a part that says the answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median

from vevals.benchmark import Benchmark
from vevals.check.finding import Finding
from vevals.prompt import names_in
from vevals.statistics.intervals import z_of
from vevals.types import Sample

FEWEST = 40
LEAST_TEXT = 20  # characters, in the median: shorter columns only say whom or what a text is about
CONFIDENCE = 0.95
CERTAIN = 0.998
SPREAD = 1.7
"""How much more a cross-validated accuracy varies than one over independent rows: measured on words at random."""
_SPACELESS = {"zh", "ja"}


def shortcuts(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Baselines that do not see the question, where one of them beats guessing by more than chance explains.

    On rows with choices of their own: always the longest or the shortest one, and a classifier that is shown the
    choices alone. On rows with fixed labels whose prompt shows several texts (a rule and a case): a classifier that is
    shown one of them. Classifiers are logistic regressions over TF-IDF, cross-validated.
    """
    asked = [sample for sample in samples if len(sample.choices) > 1 and len(sample.target) == 1]
    if len(asked) < FEWEST or benchmark.extractor.name == "labels":
        return
    fixed = len({sample.choices for sample in asked}) == 1
    guesses = _of_parts(benchmark, asked) if fixed else _of_choices(benchmark, asked)
    expected = _expected(asked, fixed)
    units = len({sample.cluster or f"sample {sample.id}" for sample in asked})
    for title, right, spread in guesses:
        error = spread * math.sqrt(expected * (1 - expected) / units)
        yield from _judged(title, right / len(asked), expected, error)


def _expected(samples: Sequence[Sample], fixed: bool) -> float:
    """What guessing gets: the commonest label's share, or one in the number of choices."""
    if fixed:
        return Counter(sample.target[0] for sample in samples).most_common(1)[0][1] / len(samples)
    return sum(1 / len(sample.choices) for sample in samples) / len(samples)


def _judged(title: str, share: float, expected: float, error: float) -> Iterator[Finding]:
    """The share of rows that were right against the ``expected`` one, whose standard error is ``error``."""
    if share > expected + z_of(CONFIDENCE) * error:
        certain = share > expected + z_of(CERTAIN) * error
        yield Finding(f"{title} is right for {100 * share:.0f}%; guessing gets {100 * expected:.0f}%", repair=certain)


def _of_choices(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[tuple[str, float, float]]:
    yield "always the longest choice", sum(_share_of(max, sample) for sample in samples), 1.0
    yield "always the shortest choice", sum(_share_of(min, sample) for sample in samples), 1.0
    texts = [choice for sample in samples for choice in sample.choices]
    labels = ["right" if choice in sample.target else "wrong" for sample in samples for choice in sample.choices]
    groups = [sample.cluster or sample.id for sample in samples for _ in sample.choices]
    if right := _probabilities(benchmark, texts, labels, groups).get("right"):
        yield "a classifier that sees the choices alone", _best_of_each(samples, right), SPREAD


def _share_of(extreme: Callable[[Iterable[int]], int], sample: Sample) -> float:
    """1 where the only longest (or shortest) choice is the right one, a share where several are equally long."""
    length = extreme(map(len, sample.choices))
    among = [choice for choice in sample.choices if len(choice) == length]
    return (sample.target[0] in among) / len(among)


def _best_of_each(samples: Sequence[Sample], right: Sequence[float]) -> int:
    """For how many samples the choice with the highest probability of being right is right."""
    start = found = 0
    for sample in samples:
        mine = right[start : start + len(sample.choices)]
        start += len(sample.choices)
        found += sample.choices[max(range(len(mine)), key=mine.__getitem__)] in sample.target
    return found


def _of_parts(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[tuple[str, float, float]]:
    labels = [sample.target[0] for sample in samples]
    groups = [sample.cluster or sample.id for sample in samples]
    parts = _parts(benchmark, samples)
    for name, texts in parts.items() if len(parts) > 1 else ():
        probabilities = _probabilities(benchmark, texts, labels, groups)
        if not probabilities:
            continue
        said = [max(probabilities, key=lambda label: probabilities[label][row]) for row in range(len(texts))]
        yield f"a classifier that sees '{name}' alone", sum(map(str.__eq__, said, labels)), SPREAD


def _parts(benchmark: Benchmark, samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Column -> text of each row, for columns of the prompt that hold texts of some length, mostly different ones."""
    shown = sorted(names_in(benchmark.spec.prompt) - {"choices", "id"})
    columns = {name: [str(sample.fields.get(name, sample.input)) for sample in samples] for name in shown}
    return {
        name: texts
        for name, texts in columns.items()
        if median(map(len, texts)) >= LEAST_TEXT and len(set(texts)) > len(texts) / 10
    }


def _probabilities(
    benchmark: Benchmark, texts: Sequence[str], labels: Sequence[str], groups: Sequence[str | int]
) -> dict[str, list[float]]:
    """Empty where the rows cannot be divided into parts to learn from and parts to answer."""
    from vevals.errors import ModelError
    from vevals.models.tfidf import cross_validated

    try:
        return cross_validated(texts, labels, groups, characters=set(benchmark.spec.language) <= _SPACELESS)
    except ModelError:
        return {}
