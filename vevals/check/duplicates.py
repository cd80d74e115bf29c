"""Questions that stand twice: exactly, nearly, in one set and across sets. Near means shared character 5-grams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vevals.types import Sample

NEAR = 0.8
MOST_COMPARED = 20_000
SHOWN = 5
_GRAM = 5
_BLOCK = 500


def question(sample: Sample) -> str:
    """What a sample asks, as one text: the input and its choices."""
    return " ".join([sample.input, *sample.choices]).casefold()


def exact_duplicates(samples: Sequence[Sample]) -> Iterator[str]:
    """One sentence where questions stand twice, with all that the row shows beside them."""
    groups: dict[str, list[str]] = {}
    for sample in samples:
        own = {name: value for name, value in sample.fields.items() if name not in ("id", "target", *sample.slices)}
        groups.setdefault(repr((question(sample), sorted(own.items(), key=str))), []).append(sample.id)
    repeated = [ids for ids in groups.values() if len(ids) > 1]
    if repeated:
        shown = "; ".join(" = ".join(ids[:3]) for ids in repeated[:SHOWN])
        yield f"{sum(len(ids) - 1 for ids in repeated)} exact duplicates: {shown}"


def near_duplicates(samples: Sequence[Sample]) -> Iterator[str]:
    """One sentence on pairs of inputs that share at least 80% of their character 5-grams (Jaccard).

    Variants of one case, which share a cluster, are alike on purpose and left out.
    """
    if len({sample.input.casefold() for sample in samples}) > MOST_COMPARED:
        yield f"near duplicates were not looked for: more than {MOST_COMPARED:,} different inputs"
        return
    distinct = list({sample.input.casefold(): sample for sample in samples}.values())
    pairs = [
        f"{left.id} ~ {right.id}"
        for left, right in _alike(distinct)
        if left.cluster is None or left.cluster != right.cluster
    ]
    if pairs:
        yield f"{len(pairs)} near duplicates: {'; '.join(pairs[:SHOWN])}"


def across(sets: Mapping[str, Sequence[Sample]]) -> list[str]:
    """``set id ~ set id`` for inputs of two different sets that are equal or nearly so.

    Sets beyond 20,000 inputs in all are not compared.
    """
    if sum(map(len, sets.values())) > MOST_COMPARED:
        return []
    owner = {id(sample): name for name, members in sets.items() for sample in members}
    samples = [sample for members in sets.values() for sample in members]
    return [
        f"{owner[id(left)]} {left.id} ~ {owner[id(right)]} {right.id}"
        for left, right in _alike(samples)
        if owner[id(left)] != owner[id(right)]
    ]


def _alike(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """All pairs whose inputs share at least ``NEAR`` of their character 5-grams."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    if len(samples) < 2:
        return []
    grams = CountVectorizer(analyzer="char", ngram_range=(_GRAM, _GRAM), binary=True, dtype=np.int32)
    try:
        matrix = grams.fit_transform([f"  {sample.input.casefold()}  " for sample in samples])
    except ValueError:  # nothing is as long as one gram
        return []
    sizes = np.asarray(matrix.sum(axis=1)).ravel()
    return [pair for start in range(0, len(samples), _BLOCK) for pair in _near_in(samples, matrix, sizes, start)]


def _near_in(samples: Sequence[Sample], matrix: Any, sizes: Any, start: int) -> list[tuple[Sample, Sample]]:
    """Pairs of a row of the block from ``start`` on and any later row. ``matrix`` is (n, grams), ``sizes`` (n,)."""
    shared = (matrix[start : start + _BLOCK] @ matrix.T).tocoo()
    left = shared.row + start
    union = sizes[left] + sizes[shared.col] - shared.data
    near = (left < shared.col) & (shared.data >= NEAR * union)
    return [(samples[a], samples[b]) for a, b in zip(left[near], shared.col[near], strict=True)]
