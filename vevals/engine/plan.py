"""What runs together: prefixes that are read once, rows that hold trees, batches under a budget. Pure: no torch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from vevals.engine.trie import MIXED, Node, Tokens, Trie, common, walk

__all__ = ["Group", "Limits", "Row", "Shape", "Tokens", "Work", "batches", "common", "plan"]

Read = tuple[int, int, int]
"""(index in a row's tokens at which it is read, token whose log-probability is wanted, number of the edge)."""
Item = tuple[tuple[Node, ...], Node]
"""Nodes that are repeated in front, and a node that comes with its whole subtree."""
SEARCHED = 32
"""How many of the newest rows are tried for room before a new one is begun."""


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
class Shape:
    """What a row may be. ``trees``: it may branch, else it is a chain; ``prefixes``: what several rows begin with may
    be read once and kept.

    ``capacity``: tokens in a row of several samples. ``overhead``: tokens whose forward pass costs as much as one more
    call: a prefix is worth a call of its own when it saves more than that.
    """

    trees: bool
    prefixes: bool
    capacity: int = 384
    overhead: int = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a forward pass. Token k stands at ``positions[k]`` and is seen by the tokens k to ``ends[k]`` - 1."""

    tokens: Tokens
    positions: Tokens
    ends: Tokens
    reads: tuple[Read, ...]

    @property
    def branches(self) -> bool:
        """Whether plain causal attention would let one ending see another."""
        return any(end != len(self.tokens) for end in self.ends)


@dataclass(slots=True)
class Group:
    """Rows that continue one prefix: that of the ``parent`` group (an index; None for the first) and the own ``run``.

    ``run`` is a chain; None where there is no prefix. A parent comes before its children, and between a group and its
    last descendant there are only descendants: one path of prefixes is all that must be kept.
    """

    parent: int | None
    nodes: tuple[Node, ...]
    items: list[Item] = field(default_factory=list)
    run: Row | None = None
    rows: list[Row] = field(default_factory=list)


def plan(trie: Trie, shape: Shape) -> Iterator[Group]:
    """Every token of the trie in some row, every edge read exactly once.

    A prefix is worth a call of its own where repeating it in front of every row would cost more than that call. What
    shares nothing with anything is a row by itself: it needs no mask of ours. Rows are made as the groups are taken,
    since rows of a whole run can be large.
    """
    trie.measure()
    groups = [Group(None, ())]
    waiting: list[tuple[Node, tuple[Node, ...], int]] = [(trie.root, (), 0)]
    while waiting:
        node, lead, owner = waiting.pop()
        children = sorted(node.children.values(), key=lambda child: child.size)  # the last one, the largest, is next
        if not children or _whole(node, lead, shape):
            groups[owner].items.append((lead, node))
            continue
        lead = (*lead, node) if node.run else lead
        if shape.prefixes and _saved(node, lead, shape) >= shape.overhead:
            groups.append(Group(owner, lead))
            lead, owner = (), len(groups) - 1
        waiting.extend((child, lead, owner) for child in children)
    seen: set[int] = set()
    for group in groups:
        group.run = _row([(group.nodes[:-1], group.nodes[-1])], seen, alone=True) if group.nodes else None
        alone: list[Item] = []
        packed: list[Item] = []
        for lead, node in group.items:
            (packed if group.nodes or lead or node.children else alone).append((lead, node))
        group.rows = [_row(items, seen) for items in [*_packed(packed, shape), *([item] for item in alone)]]
        yield replace(group)
        group.items, group.run, group.rows = [], None, []


def _whole(node: Node, lead: tuple[Node, ...], shape: Shape) -> bool:
    """Whether the subtree goes into one row. The trunk of a single sample is causal anyway, so it may be longer."""
    total = sum(len(one.run) for one in lead) + node.size
    return shape.trees and total <= shape.capacity * (1 if node.owner == MIXED else 4)


def _saved(node: Node, lead: Sequence[Node], shape: Shape) -> int:
    """Tokens that need not be repeated in other rows when ``lead`` (with ``node`` at its end) is read once."""
    length = sum(len(one.run) for one in lead)
    if not length:
        return 0
    if not shape.trees:
        return length * (sum(not one.children for one in walk(node)) - 1)
    return length * (math.ceil((node.size - len(node.run)) / max(1, shape.capacity - length)) - 1)


def _packed(items: Sequence[Item], shape: Shape) -> list[list[Item]]:
    """Items by rows: each chain by itself, or trees first fit by decreasing size. A lead counts once in a row."""
    if not shape.trees:
        return [[item] for item in items]
    bins: list[_Bin] = []
    for item in sorted(items, key=lambda item: -item[1].size):
        roomy = (one for one in reversed(bins[-SEARCHED:]) if one.size + one.cost(item) <= shape.capacity)
        found = next(roomy, None)
        if found is None:
            bins.append(found := _Bin())
        found.put(item)
    return [sorted(one.items, key=lambda item: item[1].order) for one in bins]


class _Bin:
    """What will be one row: its items, and the tokens that these take together."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size = 0
        self._leads: set[int] = set()

    def cost(self, item: Item) -> int:
        """Tokens that ``item`` would add."""
        lead, node = item
        return node.size + sum(len(one.run) for one in lead if one.order not in self._leads)

    def put(self, item: Item) -> None:
        """Add an item, whether or not there is room."""
        self.size += self.cost(item)
        self.items.append(item)
        self._leads.update(one.order for one in item[0])


def _row(items: Iterable[Item], seen: set[int], alone: bool = False) -> Row:
    """The row that holds ``items`` (in the order of the trie). ``alone``: the last node comes without its subtree."""
    row = _Row(seen)
    for lead, node in items:
        shared = 0
        while shared < min(len(lead), len(row.path)) and row.path[shared][0] is lead[shared]:
            shared += 1
        row.close(shared)
        for one in lead[shared:]:
            row.put(one)
        for one in [node] if alone else walk(node):
            while one is not node and row.path[-1][0].children.get(one.run[0]) is not one:
                row.close(len(row.path) - 1)
            row.put(one)
    row.close(0)
    return Row(tuple(row.tokens), tuple(row.positions), tuple(row.ends), tuple(sorted(row.reads)))


class _Row:
    """A row being filled in depth-first order. ``path``: the open nodes, each with the index of its first token."""

    def __init__(self, seen: set[int]) -> None:
        self._seen = seen
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.ends: list[int] = []
        self.reads: list[Read] = []
        self.path: list[tuple[Node, int]] = []

    def put(self, node: Node) -> None:
        """Add a run. What is asked in it is read where it is met first, in whatever row that is."""
        first = len(self.tokens)
        self.path.append((node, first))
        self.tokens.extend(node.run)
        self.positions.extend(range(node.start, node.start + len(node.run)))
        self.ends.extend([0] * len(node.run))
        if node.order not in self._seen:
            self._seen.add(node.order)
            self.reads.extend((first + offset, token, edge) for (offset, token), edge in node.asked.items())

    def close(self, keep: int) -> None:
        """Nothing that follows will see the nodes of the path after the first ``keep``."""
        for node, first in self.path[keep:]:
            self.ends[first : first + len(node.run)] = [len(self.tokens)] * len(node.run)
        del self.path[keep:]
