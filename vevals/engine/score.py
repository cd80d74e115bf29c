"""Log-likelihoods of continuations: the pair rule that makes tokens of texts, and the forward passes over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Network, attempt, out_of_memory, padded, spread_tokens
from vevals.engine.plan import Limits, Row, Tokens, Work, batches, common, row, rows

if TYPE_CHECKING:
    import torch

Pair = tuple[Tokens, Tokens]
"""(context, continuation), both of at least one token."""
Part = tuple[Tokens, Tokens, int]
"""A pair, and how many tokens at the start of the continuation are nothing but white space of the context."""
Encode = Callable[[Sequence[str], bool], list[list[int]]]
"""(texts, whether to add special tokens) -> token ids of each text."""

TREE_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Question:
    """A context and the texts that may follow it. ``special``: whether the tokenizer adds its special tokens."""

    context: str
    continuations: tuple[str, ...]
    special: bool


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Summed log-probability (nats) of a continuation's tokens, and whether each was the most likely one."""

    logprob: float
    greedy: bool
    seconds: float


def encoded(questions: Sequence[Question], encode: Encode, prefix: int | None) -> list[list[Part]]:
    """The (context, continuation) tokens of every question's continuations, in order, and the white space in front.

    The rule: white space at the end of the context goes to the front of the continuation; the context is encoded by
    itself, the continuation is what ``context + continuation`` has after as many tokens. What is scored is these two
    joined, also where a merge across the border makes the whole text encode otherwise. A context without text becomes
    ``prefix`` (BOS, else EOS), unless the continuation brings that token along. A continuation may come out empty,
    and so may a context without text when there is no prefix token: the caller refuses both.

    Source: the pair rule of lm-evaluation-harness, ``TemplateLM._encode_pair`` and ``loglikelihood``.
    """
    texts: dict[tuple[str, bool], list[int]] = {}
    for question in questions:
        kept, _, special = _cut(question)
        for text in (kept, question.context, *(question.context + ending for ending in question.continuations)):
            texts[text, special] = []
    for special in (True, False):
        keys = [key for key in texts if key[1] is special]
        for key, ids in zip(keys, encode([text for text, _ in keys], special) if keys else [], strict=True):
            texts[key] = ids
    return [_parts(question, texts, prefix) for question in questions]


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
    endings = [tuple(whole[len(context) :]) for whole in wholes]
    return [(tuple(context), ending, common(ending, spaced[len(context) :])) for ending in endings]


def _unconditional(tokens: Sequence[int], prefix: int | None) -> Pair:
    if prefix is None or (tokens and tokens[0] == prefix):
        return tuple(tokens[:1]), tuple(tokens[1:])
    return (prefix,), tuple(tokens)


def likelihoods(network: Network, pairs: Sequence[Pair], budget: int) -> Iterator[tuple[int, Likelihood | None]]:
    """The likelihood of each pair, by its index, as it is known; None for one that does not fit into memory alone.

    Equal pairs are computed once. All continuations of a context share one forward pass of it where the model allows.
    """
    askers: dict[Tokens, dict[Tokens, list[int]]] = {}
    for index, (context, ending) in enumerate(pairs):
        askers.setdefault(context, {}).setdefault(ending, []).append(index)
    waiting = [part for context, endings in askers.items() for part in _rows(network, context, endings)]
    while waiting:
        retry: list[Row] = []
        for done, found in _run(network, waiting, budget):
            if found is None and (halves := done.halved()):
                retry.extend(halves)
                continue
            for place, ending in enumerate(done.endings):
                for index in askers[done.context][ending]:
                    yield index, found[place] if found else None
        waiting = retry


def _rows(network: Network, context: Tokens, endings: Mapping[Tokens, Any]) -> list[Row]:
    longest = len(context) + max(map(len, endings)) - 1
    if network.alone_above is not None and longest > network.alone_above:
        return _separate(context, endings)
    chains = rows(context, endings, None)
    if len(chains) == 1 or longest > network.tree_limit or not _shares(network):
        return chains
    return rows(context, endings, max(TREE_TOKENS, len(context)))


def _separate(context: Tokens, endings: Iterable[Tokens]) -> list[Row]:
    """A row for each input as a whole: where its length alone decides how positions turn, no row may be longer."""
    inputs: dict[Tokens, list[Tokens]] = {}
    for ending in endings:
        inputs.setdefault(ending[:-1], []).append(ending)
    return [row(context, same) for same in inputs.values()]


def _run(network: Network, waiting: Sequence[Row], budget: int) -> Iterator[tuple[Row, list[Likelihood] | None]]:
    """Each row with the likelihoods of its endings; None where it does not fit into memory alone."""
    lengths = [len(row.tokens) for row in waiting]
    limits = Limits(budget, alone_above=network.alone_above)
    found = []
    for branches in (True, False):
        chosen = [index for index, row in enumerate(waiting) if row.branches is branches]
        planned = batches([lengths[index] for index in chosen], limits)
        found += [tuple(chosen[place] for place in batch) for batch in planned]
    work = Work(found, lengths)
    for batch in work:
        members = [waiting[index] for index in batch]
        results = attempt(partial(score, network, members))
        if results is not None:
            yield from zip(members, results, strict=True)
        elif (hopeless := work.failed(batch)) is not None:
            yield waiting[hopeless], None


def score(network: Network, members: Sequence[Row]) -> list[list[Likelihood]]:
    """One forward pass over rows of one kind (all branch, or none does); per row one likelihood per ending."""
    started = time.perf_counter()
    features = _features(network, members)  # (B, T, d or V)
    nodes = [sorted({node for path in row.edges for node, _ in path}) for row in members]
    places = [(number, node) for number, row in enumerate(nodes) for node in row]
    order = {place: number for number, place in enumerate(places)}
    asked = [
        (order[number, node], token) for number, row in enumerate(members) for path in row.edges for node, token in path
    ]
    asked.sort()
    index = network.tensor(places)
    known = dict(zip(asked, _read(network, features[index[:, 0], index[:, 1]], asked), strict=True))
    seconds = (time.perf_counter() - started) / len(members)
    return [
        [
            _likelihood([known[order[number, node], token] for node, token in path], seconds / len(row.edges))
            for path in row.edges
        ]
        for number, row in enumerate(members)
    ]


def _likelihood(parts: Sequence[tuple[float, bool]], seconds: float) -> Likelihood:
    return Likelihood(sum(value for value, _ in parts), all(best for _, best in parts), seconds)


def _features(network: Network, members: Sequence[Row]) -> torch.Tensor:
    tokens = network.tensor(padded([row.tokens for row in members]))
    if not any(row.branches for row in members):
        return network.forward(tokens)[0]  # causal attention never looks at the padding on the right
    positions = network.tensor(padded([row.positions for row in members]))
    mask = network.tree_mask(_visible(network, members))
    return network.forward(tokens, attention_mask=mask, position_ids=positions)[0]


def _visible(network: Network, members: Sequence[Row]) -> torch.Tensor:
    """Booleans (B, 1, T, T), query x key: key k is seen by the queries k to ends[k] - 1; padding sees itself only."""
    width = max(len(row.tokens) for row in members)
    ends = network.tensor([[*row.ends, *range(len(row.ends) + 1, width + 1)] for row in members])
    place = network.tensor(range(width))
    seen = (place[:, None] >= place[None, :]) & (place[None, :, None] < ends[:, None, :])
    return seen[:, None]


def _read(network: Network, features: torch.Tensor, asked: Sequence[tuple[int, int]]) -> list[tuple[float, bool]]:
    """(log-probability, is it the most likely) for each asked (row of ``features``, token); ``asked`` is sorted.

    Log-softmax is in float32 whatever the weights are, and only as many rows pass the head at once as memory is given
    for: there is never a (B, T, V) tensor. One copy to the host at the end.
    """
    import torch

    step, values, best = network.head_rows, [], []
    table = network.tensor(asked)  # (edges, 2)
    for start in range(0, len(features), step):
        logits = network.logits(features[start : start + step])  # (n, V)
        inside = table[(table[:, 0] >= start) & (table[:, 0] < start + step)]
        row, token = inside[:, 0] - start, inside[:, 1]
        values.append(logits[row, token] - logits.logsumexp(-1)[row])
        best.append(logits.argmax(-1)[row] == token)
    return list(zip(torch.cat(values).tolist(), torch.cat(best).tolist(), strict=True))


def _shares(network: Network) -> bool:
    """Whether several continuations may hang on one context in one row: decided once a model, by trying."""
    if network.shares is None:
        network.shares = network.takes_trees and bool(attempt(lambda: _tree_agrees(network)))
    return network.shares


def _tree_agrees(network: Network) -> bool:
    """A tree must score as its chains do, one at a time; and the check must notice a context that is cut in half."""
    context = tuple(spread_tokens(network.config.vocab_size, 24))
    other = spread_tokens(network.config.vocab_size, 9, start=5)
    endings = [tuple(other[:3]), (*other[:2], other[3]), (other[0], other[4], other[5]), tuple(other[6:9]), (other[0],)]
    chains = [row for ending in endings for row in rows(context, [ending], None)]
    halves = [row for ending in endings for row in rows(context[12:], [ending], None)]
    try:
        tree = _scores(network, rows(context, endings, TREE_TOKENS))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        if out_of_memory(error):
            raise
        return False
    alone, cut = _scores(network, *[[row] for row in chains]), _scores(network, *[[row] for row in halves])
    limit = network.tolerance(3)
    agrees = all(abs(tree[ending] - alone[ending]) <= limit for ending in endings)
    return agrees and max(abs(cut[ending] - alone[ending]) for ending in endings) >= 3 * limit


def _scores(network: Network, *batches_of_rows: Sequence[Row]) -> dict[Tokens, float]:
    return {
        ending: likelihood.logprob
        for members in batches_of_rows
        for row, found in zip(members, score(network, members), strict=True)
        for ending, likelihood in zip(row.endings, found, strict=True)
    }
