"""How much a model's forward passes may share: decided once a model, by trying it on a few made-up questions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from vevals.engine.network import FAILURES, Level, Network, attempt, out_of_memory, spread_tokens
from vevals.engine.pairs import Pair
from vevals.engine.plan import Shape
from vevals.engine.score import SHAPES, Scoring

TRIES = 3
LONGEST_WINDOW = 1024
CAPACITY = {"cpu": 384, "cuda": 1024}
OVERHEAD = 64
SHORT = 24
FEWEST = 3


def shape_of(network: Network) -> Shape:
    """What a row of this model may be, at the highest level that passes the check."""
    if network.level is None:
        network.level = attempt(lambda: level_of(network))
    if network.overhead is None:
        timed = None if network.device.type == "cpu" else attempt(lambda: timed_overhead(network))
        network.overhead = timed or OVERHEAD
    shape = SHAPES[Level.L0 if network.level is None else network.level]
    return replace(shape, capacity=CAPACITY.get(network.device.type, 384), overhead=network.overhead)


def level_of(network: Network) -> Level:
    """The highest level that gives the scores of L0 with one row at a time."""
    if network.takes_trees and _passes(network, Level.L2):
        return Level.L2
    return Level.L1 if _passes(network, Level.L1) else Level.L0


def _passes(network: Network, level: Level) -> bool:
    try:
        return all(_agrees(network, level, head) for head in _heads(network))
    except FAILURES as error:
        if out_of_memory(error):
            raise
        return False


def _heads(network: Network) -> list[int]:
    """Lengths of the shared part: a short one, and one that is longer than a window that could matter."""
    windows = [span.window or span.chunk for span in network.spans.values()]
    windows += [getattr(network.config, name, None) for name in ("sliding_window", "window_size", "attention_window")]
    sized = [window for window in windows if isinstance(window, int) and window <= LONGEST_WINDOW]
    return [SHORT, *sorted({window + 8 for window in sized if SHORT <= window + 8 <= network.max_length - SHORT})]


def _agrees(network: Network, level: Level, head: int) -> bool:
    """Whether ``level`` scores as L0 does. That this could tell is tried too: half a context must give other scores."""
    shape = replace(SHAPES[level], capacity=20, overhead=8)
    for start in range(1, TRIES + 1):
        limit = network.alone_above or network.max_length  # longer ones never share a pass
        asked = _questions(network.config.vocab_size, head, start)
        pairs = [pair for pair in asked if len(pair[0]) + len(pair[1]) <= limit]
        if len(pairs) < FEWEST:
            return False
        alone = _scores(network, pairs, 1, SHAPES[Level.L0])
        noise = 0.0 if network.exact else _noise(network, pairs, alone)
        sizes = [len(ending) for _, ending in pairs]
        limits = [network.tolerance(size) if network.exact else noise + 0.01 * size for size in sizes]
        if head > SHORT or _tells(network, pairs, alone, limits):
            found = _scores(network, pairs, 64, shape)
            return all(abs(new - old) <= limit for new, old, limit in zip(found, alone, limits, strict=True))
    return False


def _tells(network: Network, pairs: Sequence[Pair], alone: Sequence[float], limits: Sequence[float]) -> bool:
    """Whether the pairs without the first half of their contexts have clearly other scores."""
    cut = [(context[len(context) // 2 :], ending) for context, ending in pairs]
    halves = _scores(network, cut, 1, SHAPES[Level.L0])
    return all(abs(half - one) >= 3 * limit for half, one, limit in zip(halves, alone, limits, strict=True))


def _questions(vocabulary: int, head: int, start: int) -> list[Pair]:
    """Samples behind one shared part and one by itself, with endings that branch and endings of one token.

    Behind a long part there are only as few as it takes: each is read whole for comparison.
    """
    shared = tuple(spread_tokens(vocabulary, head, start))
    one, two, three = (tuple(spread_tokens(vocabulary, size, start + size)) for size in (5, 7, 11))
    a, b, c, d, e = spread_tokens(vocabulary, 5, start + 3)
    endings = [(a, b, c), (a, b, d), (a, c), (d, e, a), (a,), (e,)]
    if head > SHORT:
        return [(shared + one, endings[0]), (shared + one, endings[1]), (shared + two, endings[3])]
    pairs = [(shared + own, ending) for own in (one, two) for ending in endings]
    return pairs + [(three, ending) for ending in endings[2:]]


def _noise(network: Network, pairs: Sequence[Pair], alone: Sequence[float]) -> float:
    """By how much (nats) a score may differ in half precision: four times what padding alone changes."""
    together = _scores(network, pairs, 1 << 20, SHAPES[Level.L0])
    return 4 * max(abs(new - old) for new, old in zip(together, alone, strict=True))


def _scores(network: Network, pairs: Sequence[Pair], budget: int, shape: Shape) -> list[float]:
    """Log-probabilities under this very shape. Out of memory is raised: another shape would prove nothing."""
    found = dict(Scoring(network, pairs, budget, shape).results())
    if None in found.values():
        raise MemoryError("out of memory in the self-check")
    return [one.logprob for _, one in sorted(found.items()) if one is not None]


def timed_overhead(network: Network, long: int = 1024) -> int:
    """Tokens whose forward pass costs as much as one more call, measured on an accelerator; at least ``OVERHEAD``.

    A short call costs little but its launch; a long one shows the rate.
    """
    import torch

    long = min(long, network.max_length)

    def seconds(tokens: int) -> float:
        rows = network.tensor([spread_tokens(network.config.vocab_size, tokens)])
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            network.forward(rows)
            if network.device.type == "cuda":
                torch.cuda.synchronize(network.device)
            best = min(best, time.perf_counter() - started)
        return best

    short, whole = seconds(8), seconds(long)
    return max(OVERHEAD, int(short * long / max(whole - short, short / 16)))
