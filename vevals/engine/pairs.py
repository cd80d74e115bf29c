"""Texts -> (context, continuation) tokens: the pair rule, the same as lm-evaluation-harness has. Pure: no torch.

Encoding whole texts costs as many tokens as there are in all contexts x choices. Where that is much, only the ends of
the contexts are encoded with their continuations, and it is checked that nothing comes out otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vevals.engine.trie import Tokens, common

Pair = tuple[Tokens, Tokens]
"""(context, continuation), both of at least one token."""
Part = tuple[Tokens, Tokens, int]
"""A pair, and how many tokens at the start of the continuation are nothing but white space of the context."""
Encode = Callable[[Sequence[str], bool], list[list[int]]]
"""(texts, whether to add special tokens) -> token ids of each text."""
Cuts = Callable[[str], Sequence[int]]
"""Where in a text a new word begins for the tokenizer, such that what stands before cannot change its tokens: a few
character offsets near the end, the last one first."""

MANY_CHARACTERS = 2_000_000
CHECKED = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A context and the texts that may follow it. ``special``: whether the tokenizer adds its special tokens."""

    context: str
    continuations: tuple[str, ...]
    special: bool


def encoded(
    questions: Sequence[Question], encode: Encode, prefix: int | None, cuts: Cuts | None = None
) -> list[list[Part]]:
    """The (context, continuation) tokens of every question's continuations, in order, and the white space in front.

    The rule: white space at the end of the context goes to the front of the continuation; the context is encoded by
    itself, the continuation is what ``context + continuation`` has after as many tokens. What is scored is these two
    joined, also where a merge across the border makes the whole text encode otherwise. A context without text becomes
    ``prefix`` (BOS, else EOS), unless the continuation brings that token along. A continuation may come out empty,
    and so may a context without text when there is no prefix token: the caller refuses both.

    Source: the pair rule of lm-evaluation-harness, ``TemplateLM._encode_pair`` and ``loglikelihood``.
    """
    size = sum(len(one.context) * len(one.continuations) for one in questions)
    if cuts is not None and size > MANY_CHARACTERS and (found := _by_tails(questions, encode, cuts)) is not None:
        whole = encoded([questions[index] for index in found.rest], encode, prefix)
        return [parts or whole.pop(0) for parts in found.parts]
    texts = _encoded_texts(questions, encode)
    return [_parts(question, texts, prefix) for question in questions]


def _encoded_texts(questions: Sequence[Question], encode: Encode) -> Mapping[tuple[str, bool], list[int]]:
    wanted: list[tuple[str, bool]] = []
    for question in questions:
        kept, _, special = _cut(question)
        wanted += [(kept, special), (question.context, special)]
        wanted += [(question.context + ending, special) for ending in question.continuations]
    return distinct(wanted, encode)


def distinct(wanted: Iterable[tuple[str, bool]], encode: Encode) -> dict[tuple[str, bool], list[int]]:
    """Every distinct text once, in one call for those with special tokens and one for those without."""
    texts: dict[tuple[str, bool], list[int]] = {key: [] for key in wanted}
    for special in (True, False):
        keys = [key for key in texts if key[1] is special]
        for key, ids in zip(keys, encode([text for text, _ in keys], special) if keys else [], strict=True):
            texts[key] = ids
    return texts


def _cut(question: Question) -> tuple[str, str, bool]:
    """The context without the white space at its end, that white space, and whether special tokens are added."""
    kept = question.context.rstrip()
    return kept, question.context[len(kept) :], question.special and bool(kept)


def _parts(question: Question, texts: Mapping[tuple[str, bool], list[int]], prefix: int | None) -> list[Part]:
    kept, _, special = _cut(question)
    wholes = [texts[question.context + ending, special] for ending in question.continuations]
    context, spaced = texts[kept, special], texts[question.context, special]
    if not kept:
        return [(*_unconditional(whole, prefix), 0) for whole in wholes]
    endings, head = [tuple(whole[len(context) :]) for whole in wholes], tuple(context)
    return [(head, ending, common(ending, tuple(spaced[len(context) :]))) for ending in endings]


def _unconditional(tokens: Sequence[int], prefix: int | None) -> Pair:
    if prefix is None or (tokens and tokens[0] == prefix):
        return tuple(tokens[:1]), tuple(tokens[1:])
    return (prefix,), tuple(tokens)


@dataclass(frozen=True, slots=True)
class _Tails:
    """Parts by question, empty for those (``rest``) that need their whole texts."""

    parts: list[list[Part]]
    rest: list[int]


def _by_tails(questions: Sequence[Question], encode: Encode, cuts: Cuts) -> _Tails | None:
    """Every question by the end of its context, where that can be done; None when a sample of pairs disagrees."""
    tails, contexts = _tails(questions, encode, cuts)
    wanted = [
        (tail + question.context[len(_cut(question)[0]) :] + ending, False)
        for question, tail in zip(questions, tails, strict=True)
        if tail
        for ending in ("", *question.continuations)
    ]
    texts = distinct([*wanted, *((tail, False) for tail in tails if tail)], encode)
    found = [
        _tail_parts(question, tail, contexts[index], texts) if tail else []
        for index, (question, tail) in enumerate(zip(questions, tails, strict=True))
    ]
    if not _agree(questions, found, encode):
        return None
    return _Tails(found, [index for index, parts in enumerate(found) if not parts])


def _tails(questions: Sequence[Question], encode: Encode, cuts: Cuts) -> tuple[list[str], list[list[int]]]:
    """For each question the shortest end of its context that encodes to the end of the context's own tokens, or "";
    and those tokens.
    """
    kept = [_cut(question) for question in questions]
    offered = [[text[cut:] for cut in cuts(text)] if text else [] for text, _, _ in kept]
    keys = [(text, special) for text, _, special in kept]
    texts = distinct([*keys, *((tail, False) for tails in offered for tail in tails)], encode)
    contexts = [texts[key] for key in keys]
    fitting = [
        next((tail for tail in tails if _ends(context, texts[tail, False])), "")
        for tails, context in zip(offered, contexts, strict=True)
    ]
    return fitting, contexts


def _ends(context: Sequence[int], tail: Sequence[int]) -> bool:
    return 0 < len(tail) <= len(context) and context[-len(tail) :] == tail


def _tail_parts(
    question: Question, tail: str, context: list[int], texts: Mapping[tuple[str, bool], list[int]]
) -> list[Part]:
    space = question.context[len(_cut(question)[0]) :]
    length, spaced = len(texts[tail, False]), texts[tail + space, False]
    endings = [tuple(texts[tail + space + ending, False][length:]) for ending in question.continuations]
    head = tuple(context)
    return [(head, ending, common(ending, tuple(spaced[length:]))) for ending in endings]


def _agree(questions: Sequence[Question], found: Sequence[Sequence[Part]], encode: Encode) -> bool:
    """Whether a sample of pairs comes out as it does from whole texts."""
    places = [(index, place) for index, parts in enumerate(found) for place in range(len(parts))]
    chosen = random.Random(0).sample(places, min(CHECKED, len(places)))
    single = [
        Question(questions[index].context, (questions[index].continuations[place],), questions[index].special)
        for index, place in chosen
    ]
    texts = _encoded_texts(single, encode)
    wholes = [_parts(question, texts, None)[0] for question in single]
    return all(whole == found[index][place] for whole, (index, place) in zip(wholes, chosen, strict=True))
