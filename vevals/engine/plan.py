"""What runs together: rows that share a context, batches under a token budget, halving. Pure: no torch, no strings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Tokens = tuple[int, ...]
Edge = tuple[int, int]
"""(index of the parent in a row's tokens, token whose log-probability is read there)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may hold. ``budget_tokens`` = padded width x rows; a longer row runs alone.

    ``alone_above``: rows longer than this run alone (position scaling that looks at the longest row of a batch).
    ``same_length``: no padding at all (models whose state a padded token would change).
    """

    budget_tokens: int
    max_rows: int | None = None
    alone_above: int | None = None
    same_length: bool = False


def batches(lengths: Sequence[int], limits: Limits) -> list[tuple[int, ...]]:
    """Indices of ``lengths``, longest first, cut into batches; every index occurs once.

    The longest comes first so that too little memory shows at the start of a run, not at its end.
    """
    found: list[tuple[int, ...]] = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and not _fits(lengths, batch, index, limits):
            found.append(tuple(batch))
            batch = []
        batch.append(index)
    return [*found, tuple(batch)] if batch else found


def _fits(lengths: Sequence[int], batch: Sequence[int], index: int, limits: Limits) -> bool:
    width = lengths[batch[0]]
    return (
        width * (len(batch) + 1) <= limits.budget_tokens
        and (limits.max_rows is None or len(batch) < limits.max_rows)
        and (limits.alone_above is None or width <= limits.alone_above)
        and (not limits.same_length or width == lengths[index])
    )


class Work:
    """Batches still to be run. One that did not fit into memory is halved, and so are all later ones of its size."""

    def __init__(self, batches: Iterable[tuple[int, ...]], lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._waiting = deque(batches)
        self._ceiling: int | None = None

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        while self._waiting:
            batch = self._waiting.popleft()
            while self._ceiling is not None and len(batch) > 1 and self._size(batch) > self._ceiling:
                batch, rest = _halves(batch)
                self._waiting.appendleft(rest)
            yield batch

    def failed(self, batch: tuple[int, ...]) -> int | None:
        """Put both halves of ``batch`` at the front; of a single row, return its index: it cannot be helped."""
        if len(batch) == 1:
            return batch[0]
        self._ceiling = min(self._size(batch) - 1, self._ceiling or self._size(batch))
        self._waiting.extendleft(reversed(_halves(batch)))
        return None

    def again(self, batch: tuple[int, ...]) -> None:
        """Put ``batch`` at the front."""
        self._waiting.appendleft(batch)

    def _size(self, batch: tuple[int, ...]) -> int:
        return max(self._lengths[index] for index in batch) * len(batch)


def _halves(batch: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    middle = (len(batch) + 1) // 2
    return batch[:middle], batch[middle:]


@dataclass(frozen=True, slots=True)
class Row:
    """A context and a tree of endings that continue it: what one row of a forward pass holds.

    ``tokens`` are the context, then the distinct proper prefixes of the endings in depth-first order: the last token
    of an ending is never an input, its probability is read at its parent. Token k is seen by the tokens k to
    ``ends[k]`` - 1. ``edges`` has one tuple per ending: where to read each of its tokens.
    """

    context: Tokens
    endings: tuple[Tokens, ...]
    tokens: Tokens
    positions: tuple[int, ...]
    ends: tuple[int, ...]
    edges: tuple[tuple[Edge, ...], ...]

    @property
    def branches(self) -> bool:
        """Whether plain causal attention would let one ending see another."""
        return any(end != len(self.tokens) for end in self.ends)

    @property
    def depth(self) -> int:
        """Length of the longest path through the row: what a model's maximum length is about."""
        return max(self.positions) + 1

    def halved(self) -> tuple[Row, Row] | None:
        """Two shorter rows with half of the endings each; None when that would not shorten them."""
        middle = (len(self.endings) + 1) // 2
        parts = [row(self.context, part) for part in (self.endings[:middle], self.endings[middle:]) if part]
        if len(parts) < 2 or max(len(part.tokens) for part in parts) == len(self.tokens):
            return None
        return parts[0], parts[1]


def row(context: Tokens, endings: Iterable[Tokens]) -> Row:
    """The row for distinct, non-empty ``endings`` of a non-empty ``context``."""
    ordered = tuple(sorted(endings))
    tokens, positions = list(context), list(range(len(context)))
    ends = [0] * len(context)
    path: list[int] = []
    edges: list[tuple[Edge, ...]] = []
    for ending in ordered:
        shared = common(ending[:-1], [tokens[index] for index in path])
        for index in path[shared:]:
            ends[index] = len(tokens)
        del path[shared:]
        for token in ending[len(path) : -1]:
            positions.append(len(context) + len(path))
            path.append(len(tokens))
            tokens.append(token)
            ends.append(0)
        edges.append(tuple(zip([len(context) - 1, *path], ending, strict=True)))
    whole = tuple(end or len(tokens) for end in ends)
    return Row(context, ordered, tuple(tokens), tuple(positions), whole, tuple(edges))


def rows(context: Tokens, endings: Iterable[Tokens], capacity: int | None) -> list[Row]:
    """Rows for all ``endings``: trees with up to ``capacity`` tokens beside the context, or chains only (None)."""
    distinct = sorted(set(endings))
    parts = _chains(distinct) if capacity is None else _parts(distinct, capacity)
    return [row(context, part) for part in parts]


def _parts(ordered: Sequence[Tokens], capacity: int) -> list[list[Tokens]]:
    parts: list[list[Tokens]] = []
    size = 0
    for ending in ordered:
        new = len(ending) - 1 - (common(ending[:-1], parts[-1][-1][:-1]) if parts else 0)
        if parts and size + new <= capacity:
            parts[-1].append(ending)
            size += new
        else:
            parts.append([ending])
            size = len(ending) - 1
    return parts


def _chains(ordered: Sequence[Tokens]) -> list[list[Tokens]]:
    """Endings whose proper prefixes lie on one path. In lexical order a prefix stands right before what extends it."""
    prefixes = sorted({ending[:-1] for ending in ordered}, reverse=True)
    leaf_of: dict[Tokens, Tokens] = {}
    leaf: Tokens = ()
    for prefix in prefixes:
        leaf = leaf if leaf[: len(prefix)] == prefix else prefix
        leaf_of[prefix] = leaf
    chains: dict[Tokens, list[Tokens]] = {}
    for ending in ordered:
        chains.setdefault(leaf_of[ending[:-1]], []).append(ending)
    return list(chains.values())


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences share at their start."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))
