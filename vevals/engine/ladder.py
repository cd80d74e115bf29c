"""How much a model's forward passes may share: decided once a model, by trying it on a few made-up questions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from vevals.engine.network import Level, Network, attempt, out_of_memory, spread_tokens
from vevals.engine.pairs import Pair
from vevals.engine.plan import Shape
from vevals.engine.score import SHAPES, likelihoods

TRIES = 3
LONGEST_WINDOW = 1024
CAPACITY = {"cpu": 384, "cuda": 1024}
OVERHEAD = 64


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
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        return False


def _heads(network: Network) -> list[int]:
    """Lengths of the shared part: a short one, and one that is longer than a window that could matter."""
    windows = [span.window or span.chunk for span in network.spans.values()]
    windows += [getattr(network.config, name, None) for name in ("sliding_window", "window_size", "attention_window")]
    sized = [window for window in windows if isinstance(window, int) and window <= LONGEST_WINDOW]
    return [24, *sorted({window + 8 for window in sized if 24 <= window + 8 <= network.max_length - 24})]


def _agrees(network: Network, level: Level, head: int) -> bool:
    """Whether ``level`` scores as L0 does. That this could tell is tried too: half a context must give other scores."""
    shape = replace(SHAPES[level], capacity=20, overhead=8)
    for start in range(1, TRIES + 1):
        pairs, cut = _questions(network.config.vocab_size, head, start)
        alone = _scores(network, pairs, 1, SHAPES[Level.L0])
        halves = _scores(network, cut, 1, SHAPES[Level.L0])
        noise = 0.0 if network.exact else _noise(network, pairs, alone)
        limits = [
            network.tolerance(len(ending)) if network.exact else noise + 0.01 * len(ending) for _, ending in pairs
        ]
        if any(abs(half - one) < 3 * limit for half, one, limit in zip(halves, alone, limits, strict=True)):
            continue
        found = _scores(network, pairs, 64, shape)
        return all(abs(new - old) <= limit for new, old, limit in zip(found, alone, limits, strict=True))
    return False


def _questions(vocabulary: int, head: int, start: int) -> tuple[list[Pair], list[Pair]]:
    """Two samples behind one shared part and one by itself, with endings that branch and endings of one token; and the
    same pairs without the first half of their contexts.
    """
    shared = tuple(spread_tokens(vocabulary, head, start))
    one, two, three = (tuple(spread_tokens(vocabulary, size, start + size)) for size in (5, 7, 11))
    a, b, c, d, e = spread_tokens(vocabulary, 5, start + 3)
    endings = [(a, b, c), (a, b, d), (a, c), (d, e, a), (a,), (e,)]
    pairs = [(shared + own, ending) for own in (one, two) for ending in endings]
    pairs += [(three, ending) for ending in endings[2:]]
    return pairs, [(context[len(context) // 2 :], ending) for context, ending in pairs]


def _noise(network: Network, pairs: Sequence[Pair], alone: Sequence[float]) -> float:
    """By how much (nats) a score may differ in half precision: four times what padding alone changes."""
    together = _scores(network, pairs, 1 << 20, SHAPES[Level.L0])
    return 4 * max(abs(new - old) for new, old in zip(together, alone, strict=True))


def _scores(network: Network, pairs: Sequence[Pair], budget: int, shape: Shape) -> list[float]:
    found = dict(likelihoods(network, pairs, budget, shape))
    scores = [found[index] for index in range(len(pairs))]
    if any(score is None for score in scores):
        raise MemoryError("out of memory in the self-check")
    return [score.logprob for score in scores if score is not None]


def timed_overhead(network: Network, long: int = 1024) -> int:
    """Tokens whose forward pass costs as much as one more call, measured on an accelerator; at least ``OVERHEAD``.

    A short call costs little but its launch; a long one shows the rate.
    """
    import torch

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

    short, whole = seconds(8), seconds(min(long, network.max_length))
    return max(OVERHEAD, int(short * long / max(whole - short, short / 16)))
