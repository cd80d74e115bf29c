"""What is asked, as one tree of tokens: every prefix that several sequences share is there once. Pure: no torch."""

from __future__ import annotations

from collections.abc import Iterator

Tokens = tuple[int, ...]
MIXED = -1
"""The owner of a node that several samples share."""


class Node:
    """A run of tokens that is never left in the middle, and what follows it.

    ``start`` is the position of its first token in every sequence through it. ``asked`` says which log-probabilities
    are wanted: (offset in the run at which it is read, token) -> number of the edge. ``size`` is the number of tokens
    in the subtree, the run included; it is known after ``Trie.measure``. ``owner`` is the sample that all sequences
    through the node belong to, or ``MIXED``.
    """

    __slots__ = ("asked", "children", "order", "owner", "run", "size", "start")

    def __init__(self, run: Tokens, start: int, owner: int) -> None:
        self.run = run
        self.start = start
        self.owner = owner
        self.children: dict[int, Node] = {}
        self.asked: dict[tuple[int, int], int] = {}
        self.size = 0
        self.order = 0

    def split(self, at: int) -> Node:
        """A new node with the first ``at`` tokens of the run, above this one."""
        upper = Node(self.run[:at], self.start, self.owner)
        upper.children[self.run[at]] = self
        upper.asked = {key: edge for key, edge in self.asked.items() if key[0] < at}
        self.asked = {(offset - at, token): edge for (offset, token), edge in self.asked.items() if offset >= at}
        self.run, self.start = self.run[at:], self.start + at
        return upper


class Trie:
    """A compressed trie over the inputs of all (context, ending) pairs.

    The last token of an ending is no input: its probability is read at the token before it. An *edge* is one such
    reading; equal readings of several pairs are one edge.
    """

    def __init__(self) -> None:
        self.root = Node((), 0, MIXED)
        self.edges = 0

    def add(self, context: Tokens, ending: Tokens, owner: int) -> tuple[int, ...]:
        """The edges whose log-probabilities sum up to that of ``ending`` after ``context`` (both at least a token)."""
        tokens = context + ending[:-1]
        path = self._path(tokens, owner)
        edges: list[int] = []
        place = 0
        for position, token in enumerate(ending, start=len(context) - 1):
            while position >= path[place].start + len(path[place].run):
                place += 1
            edges.append(self._edge(path[place], position - path[place].start, token))
        return tuple(edges)

    def _edge(self, node: Node, offset: int, token: int) -> int:
        edge = node.asked.setdefault((offset, token), self.edges)
        self.edges += edge == self.edges
        return edge

    def _path(self, tokens: Tokens, owner: int) -> list[Node]:
        """The nodes that ``tokens`` go through; what is missing is added."""
        path: list[Node] = []
        node, at = self.root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                child = node.children[tokens[at]] = Node(tokens[at:], at, owner)
            shared = common(child.run, tokens[at : at + len(child.run)])
            if shared < len(child.run) and at + shared < len(tokens):
                child = node.children[tokens[at]] = child.split(shared)
            if child.owner != owner:
                child.owner = MIXED
            path.append(child)
            node, at = child, at + shared
        return path

    def measure(self) -> None:
        """Fill in ``size`` and ``order`` of all nodes; nothing may be added afterwards."""
        nodes = list(walk(self.root))
        for number, node in enumerate(nodes):
            node.order = number
        for node in reversed(nodes):
            node.size = len(node.run) + sum(child.size for child in node.children.values())


def walk(node: Node) -> Iterator[Node]:
    """``node`` and all below it, each before what follows it; the largest child first once sizes are known."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        waiting.extend(sorted(found.children.values(), key=lambda child: child.size))


def common(first: Tokens, second: Tokens) -> int:
    """How many tokens two sequences share at their start. By halving: comparing slices costs next to nothing."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while low < high - 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
