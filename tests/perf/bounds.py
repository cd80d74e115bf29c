"""What a workload needs at least: distinct tokens, scored positions, decode steps. Own simple code, without the engine.

A token is necessary once for every distinct sequence of tokens that ends in it: what any two requests begin with alike
has to be read once. The last token of a choice is never read, only predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

Encode = Callable[[str, bool], list[int]]
"""Token ids of a text, with (True) or without the tokenizer's special tokens."""

FLOOR_ROW = 384
SLOTS = 32


@dataclass(slots=True)
class Prefixes:
    """A set of token sequences and all that they begin with, as a table (parent, token) -> node. Node 0 is empty."""

    nodes: dict[tuple[int, int], int] = field(default_factory=dict)
    depths: list[int] = field(default_factory=lambda: [0])
    scored: set[int] = field(default_factory=set)

    def add(self, tokens: Sequence[int], scored_from: int) -> None:
        """Add ``tokens``; the positions from index ``scored_from`` on have a next token that is asked for."""
        node = 0
        for index, token in enumerate(tokens):
            key = (node, token)
            if key not in self.nodes:
                self.nodes[key] = len(self.depths)
                self.depths.append(self.depths[node] + 1)
            node = self.nodes[key]
            if index >= scored_from:
                self.scored.add(node)

    @property
    def tokens(self) -> list[int]:
        """One token for each node."""
        return [token for _, token in self.nodes]

    @property
    def row(self) -> int:
        """How long a plain causal row must be for its tokens to see on average as many as the nodes here do."""
        return max(FLOOR_ROW, 2 * sum(self.depths) // max(1, len(self.nodes)))


@dataclass(frozen=True, slots=True)
class Bound:
    """The least work: tokens that must be read, and positions that must pass the head."""

    tokens: int
    head_rows: int


def pair(encode: Encode, context: str, choice: str, prefix: int | None) -> tuple[list[int], list[int]]:
    """Token ids of a context and of what is scored after it, by the rule that lm-eval uses for causal models.

    Blanks at the end of the context go to the choice. An empty context is the ``prefix`` token, unless the choice
    begins with it: then that token is the context.
    """
    if not context:
        ending = encode(choice, False)
        if prefix is None:
            raise ValueError("an empty context needs a tokenizer with a BOS or EOS token")
        return ([prefix], ending) if ending[0] != prefix else (ending[:1], ending[1:])
    kept = context.rstrip()
    whole, start = encode(context + choice, True), encode(kept, True)
    return start, whole[len(start) :]


def shared(pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Prefixes:
    """All contexts with all of their choices but the last token."""
    found = Prefixes()
    for context, ending in pairs:
        found.add([*context, *ending[:-1]], len(context) - 1)
    return found


def windows(tokens: Sequence[int], prefix: int, limit: int) -> list[list[int]]:
    """What is read of a text of any length, in windows of at most ``limit`` tokens; every token is scored once.

    The first window begins with ``prefix``; each other one with the token before those that it scores, and the last
    one is filled up with what came before.
    """
    stream = [prefix, *tokens[:-1]]
    found = [stream[:limit]]
    done = len(found[0])
    while done < len(tokens):
        step = min(limit, len(tokens) - done)
        found.append(stream[done + step - limit : done + step])
        done += step
    return found


def live_rows(lengths: Sequence[int], slots: int = SLOTS) -> list[int]:
    """Rows at work in each step when answers of these lengths refill ``slots`` slots, the longest first."""
    waiting = sorted((length for length in lengths if length > 0), reverse=True)
    ends = [0] * min(slots, len(waiting))
    heapify(ends)
    changes: dict[int, int] = {}
    for length in waiting:
        start = heappop(ends)
        heappush(ends, start + length)
        changes[start] = changes.get(start, 0) + 1
        changes[start + length] = changes.get(start + length, 0) - 1
    live, found = 0, []
    for step in range(max(ends, default=0)):
        live += changes.get(step, 0)
        found.append(live)
    return found


def mean_keys(prompts: Sequence[int], news: Sequence[int]) -> int:
    """How many keys a new token sees on average, given the lengths of prompts and answers."""
    seen = sum(new * prompt + new * (new + 1) // 2 for prompt, new in zip(prompts, news, strict=True))
    return max(1, round(seen / max(1, sum(news))))
