"""Log-likelihood of whole texts, however long: windows as wide as the model, each token scored once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from vevals.engine.network import Network, attempt
from vevals.engine.pairs import Pair
from vevals.engine.plan import Limits, Row, Tokens, Work, batches
from vevals.engine.score import Likelihood, read


def windows(tokens: Tokens, prefix: int, width: int) -> list[Pair]:
    """(context, scored tokens) of at most ``width`` inputs each; together they score every token once, in order.

    Full windows see one token of what was before; the last, shorter one sees as much as fits. ``prefix`` stands before
    the first token. Source: the rule of lm-evaluation-harness, ``get_rolling_token_windows`` with a context of 1.
    """
    found: list[Pair] = [((prefix,), tokens[:width])] if tokens else []
    done = len(tokens[:width])
    while done < len(tokens):
        end = min(done + width, len(tokens))
        found.append((tokens[end - width - 1 : done], tokens[done:end]))
        done = end
    return found


@dataclass(slots=True)
class _Text:
    """A text being scored: windows still open, and the sums so far. ``lost``: one did not fit into memory."""

    open: int
    logprob: float = 0.0
    greedy: bool = True
    seconds: float = 0.0
    lost: bool = False


def rolling(
    network: Network, texts: Sequence[Tokens], prefix: int, budget: int
) -> Iterator[tuple[int, Likelihood | None]]:
    """The likelihood of each text (at least one token), by its index; None where a window does not fit into memory.

    Windows of all texts are sorted together. Memory: features of one batch, and logits of a few hundred tokens.
    """
    found = [windows(text, prefix, network.max_length) for text in texts]
    states = [_Text(len(pairs)) for pairs in found]
    owners = [index for index, pairs in enumerate(found) for _ in pairs]
    rows = [_row(pair) for pairs in found for pair in pairs]
    lengths = [len(row.tokens) for row in rows]
    work = Work(batches(lengths, Limits(budget, alone_above=network.alone_above)), lengths)
    for batch in work:
        started = time.perf_counter()
        readings = attempt(partial(read, network, None, [_numbered(rows[number], number) for number in batch]))
        if readings is None:
            if (hopeless := work.failed(batch)) is None:
                continue
            states[owners[hopeless]].lost = True
            batch = (hopeless,)
        seconds = (time.perf_counter() - started) / len(batch)
        for number, value, best in readings or ():
            state = states[owners[number]]
            state.logprob += value
            state.greedy &= best
        yield from _closed(states, [owners[number] for number in batch], seconds)


def _closed(states: Sequence[_Text], done: Sequence[int], seconds: float) -> Iterator[tuple[int, Likelihood | None]]:
    """Count the windows of the texts ``done``; those that have none left are given."""
    for index in done:
        state = states[index]
        state.open -= 1
        state.seconds += seconds
        if not state.open:
            yield index, None if state.lost else Likelihood(state.logprob, state.greedy, state.seconds)


def _row(pair: Pair) -> Row:
    context, scored = pair
    tokens = context + scored[:-1]
    reads = tuple((len(context) - 1 + place, token, 0) for place, token in enumerate(scored))
    return Row(tokens, tuple(range(len(tokens))), (len(tokens),) * len(tokens), reads)


def _numbered(row: Row, number: int) -> Row:
    return Row(row.tokens, row.positions, row.ends, tuple((index, token, number) for index, token, _ in row.reads))
