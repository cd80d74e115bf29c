"""Whether a model can be written in slots: tried once a model against plain forward passes, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vevals.engine.network import FAILURES, Network, attempt, out_of_memory, spread_tokens
from vevals.engine.slots import Entry, Slots
from vevals.engine.trie import Tokens

if TYPE_CHECKING:
    import torch

_WIDTH = 512
"""Columns that the check looks at: models with windows of their own count them from the last one."""


def generation(network: Network) -> str:
    """ "slots" or "batches", kept as ``network.generation``. A check that finds too little memory settles nothing."""
    if network.generation is None:
        good = _possible(network) and attempt(lambda: _agrees(network))
        if good is None:
            return "batches"
        network.generation = "slots" if good else "batches"
    return network.generation


def _possible(network: Network) -> bool:
    return network.cache_name == "past_key_values" and network.takes_trees and network.max_length >= 16


def _agrees(network: Network) -> bool:
    """Rows that enter and leave at different times must give what each gives alone; a cut row must not."""
    texts = _texts(network)
    try:
        found = list(_written(network, texts))
    except FAILURES as error:
        if out_of_memory(error):
            raise
        return False
    whole = [_alone(network, text) for text in texts]
    limit = network.tolerance(1)
    agrees = all(_apart(logits, whole[text][length - 1]) <= limit for text, length, logits in found)
    return agrees and _apart(_alone(network, texts[1][7:])[-1], whole[1][-1]) >= 3 * limit


def _texts(network: Network) -> list[Tokens]:
    """Texts of 12 to 14 tokens, the last two alike at first; with a window, the first one is longer than that."""
    size = network.config.vocab_size
    windows = [span.window + 8 for span in network.spans.values() if span.window is not None]
    long = max((length for length in windows if length <= min(_WIDTH, network.max_length)), default=12)
    one, other = spread_tokens(size, 14, start=5), spread_tokens(size, 14, start=9)
    return [tuple(spread_tokens(size, max(12, long))), tuple(one), (*one[:4], *other[4:])]


def _written(network: Network, texts: Sequence[Tokens]) -> Iterator[tuple[int, int, torch.Tensor]]:
    """(text, tokens read, logits after them): rows enter with padding and behind a prefix, twice, leave and move."""
    slots = Slots(network, 5, min(network.max_length, _WIDTH))
    rows = [1, 0]
    parts = [texts[1][:9], texts[0][:-5]]
    yield from _seen(slots, rows, slots.enter(Entry(parts, [0, 1])))
    yield from _step(slots, rows, texts, 0)
    prefix = slots.read(texts[2][:4])
    rows += [2, 2, 1]
    new = slots.enter(Entry([texts[2][4:9], texts[1][4:7]], [0, 0, 1], prefix))
    yield from _seen(slots, rows, new, start=2)
    rows = [rows[row] for row in slots.keep([1, 3, 4])]
    yield from _step(slots, rows, texts, 0)
    yield from _step(slots, rows, texts, _WIDTH)


def _step(
    slots: Slots, rows: Sequence[int], texts: Sequence[Tokens], least: int
) -> Iterator[tuple[int, int, torch.Tensor]]:
    tokens = [texts[text][length] for text, length in zip(rows, slots.lengths, strict=True)]
    yield from _seen(slots, rows, slots.step(tokens, least))


def _seen(
    slots: Slots, rows: Sequence[int], logits: torch.Tensor, start: int = 0
) -> Iterator[tuple[int, int, torch.Tensor]]:
    yield from zip(rows[start:], slots.lengths[start:], logits, strict=True)


def _alone(network: Network, tokens: Sequence[int]) -> torch.Tensor:
    """Logits (T, V) of one row, without a cache."""
    return network.logits(network.forward(network.tensor([tokens]))[0][0])


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference in log-probability between logits (V,), among tokens that are not hopeless."""
    import torch

    ours, theirs = torch.log_softmax(one, -1), torch.log_softmax(other, -1)
    return float((ours - theirs).abs()[theirs > theirs.max() - 10].max())
