"""Log-likelihoods of continuations: the forward passes over what ``plan`` laid out, and what is read from them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Level, Network, attempt, padded
from vevals.engine.pairs import Pair
from vevals.engine.plan import Limits, Row, Shape, Work, batches, plan
from vevals.engine.trie import Trie

if TYPE_CHECKING:
    import torch

SHAPES = {Level.L0: Shape(False, False), Level.L1: Shape(False, True), Level.L2: Shape(True, True)}
ROWS_AT_ONCE = 5000
RUN_ROWS = 4
"""A prefix longer than this many times the capacity is read in parts."""

Reading = tuple[int, float, bool]
"""(edge, log-probability in nats, whether it was the most likely token)."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Summed log-probability (nats) of a continuation's tokens, and whether each was the most likely one."""

    logprob: float
    greedy: bool
    seconds: float


def likelihoods(
    network: Network, pairs: Sequence[Pair], budget: int, shape: Shape | None = None
) -> Iterator[tuple[int, Likelihood | None]]:
    """The likelihood of each pair, by its index, as it is known; None for one that does not fit into memory alone.

    ``budget``: tokens in a forward pass of several rows. ``shape``: what a row may be; by default what the model's
    level allows. Pairs longer than ``network.alone_above`` run by themselves.
    """
    from vevals.engine.ladder import shape_of

    shape = shape or shape_of(network)
    limit = network.alone_above
    long = [index for index, pair in enumerate(pairs) if limit is not None and _length(pair) > limit]
    apart = set(long)
    rest = [index for index in range(len(pairs)) if index not in apart]
    alone = SHAPES[Level.L0]
    failed: list[int] = []
    for indices, one_shape in ((rest, shape), (long, alone)):
        failed += yield from _scored(network, pairs, indices, budget, one_shape)
    if failed and shape.prefixes:
        failed = yield from _scored(network, pairs, failed, budget, alone)
    for index in failed:  # one that is the beginning of another may fit where the longer one does not
        for lost in (yield from _scored(network, pairs, [index], budget, alone)):
            yield lost, None


def _scored(
    network: Network, pairs: Sequence[Pair], indices: Sequence[int], budget: int, shape: Shape
) -> Generator[tuple[int, Likelihood | None], None, list[int]]:
    """Likelihoods under one shape; returns the indices of pairs that did not fit into memory.

    Where nothing is shared there is a row for each pair: they are laid out so many at a time.
    """
    failed = []
    step = max(1, len(indices)) if shape.prefixes else ROWS_AT_ONCE
    for start in range(0, len(indices), step):
        part = indices[start : start + step]
        for place, found in Scoring(network, [pairs[index] for index in part], budget, shape).results():
            if found is None:
                failed.append(part[place])
            else:
                yield part[place], found
    return failed


def _length(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1]) - 1


class Scoring:
    """Pairs being scored under one shape: their trie, and what has been read so far."""

    def __init__(self, network: Network, pairs: Sequence[Pair], budget: int, shape: Shape) -> None:
        self._network, self._shape = network, shape
        self._limits = Limits(budget, alone_above=network.alone_above)
        self._askers: dict[Pair, list[int]] = {}
        for index, pair in enumerate(pairs):
            self._askers.setdefault(pair, []).append(index)
        self._trie = Trie()
        owners: dict[tuple[int, ...], int] = {}
        self._edges = [
            self._trie.add(context, ending, owners.setdefault(context, len(owners))) for context, ending in self._askers
        ]
        self._indices = list(self._askers.values())
        self._open = [len(edges) for edges in self._edges]
        self._users: list[list[int]] = [[] for _ in range(self._trie.edges)]
        for number, edges in enumerate(self._edges):
            for edge in edges:
                self._users[edge].append(number)
        self._values = [0.0] * self._trie.edges
        self._best = [False] * self._trie.edges
        self._seconds = [0.0] * self._trie.edges
        self._debt = 0.0

    def results(self) -> Iterator[tuple[int, Likelihood | None]]:
        """By index of the pairs given, each once; None for one that needs a pass that did not fit into memory."""
        path: list[tuple[int, Any]] = []
        lost: set[int] = set()
        for number, group in enumerate(plan(self._trie, self._shape) if self._indices else ()):
            while path and path[-1][0] != group.parent:
                path.pop()
            rows = [group.run, *group.rows] if group.run else group.rows
            if group.parent in lost:
                lost.add(number)
                yield from self._lose(rows)
                continue
            prefix = path[-1][1] if path else None
            if group.run is not None:
                started = time.perf_counter()
                found = attempt(partial(read_prefix, self._network, prefix, group.run, self._shape))
                if found is None:
                    lost.add(number)
                    yield from self._lose(rows)
                    continue
                prefix, readings = found
                del found
                yield from self._land(readings, time.perf_counter() - started)
            path.append((number, prefix))
            yield from self._rows(prefix, group.rows)
            del prefix

    def _rows(self, prefix: Any, rows: Sequence[Row]) -> Iterator[tuple[int, Likelihood | None]]:
        lengths = [len(row.tokens) for row in rows]
        work = Work(self._batches(rows, lengths), lengths)
        for batch in work:
            started = time.perf_counter()
            found = attempt(partial(read, self._network, prefix, [rows[index] for index in batch]))
            if found is not None:
                yield from self._land(found, time.perf_counter() - started)
                continue
            if (hopeless := work.failed(batch)) is not None:
                yield from self._lose([rows[hopeless]])
            else:  # later groups begin with what fitted here
                size = len(batch) * max(lengths[index] for index in batch)
                self._limits = replace(self._limits, budget_tokens=max(1, size // 2))

    def _batches(self, rows: Sequence[Row], lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Rows that branch apart from those that do not: these need no mask."""
        for branches in (True, False):
            chosen = [index for index, row in enumerate(rows) if row.branches is branches]
            for batch in batches([lengths[index] for index in chosen], self._limits):
                yield tuple(chosen[place] for place in batch)

    def _land(self, readings: Sequence[Reading], seconds: float) -> Iterator[tuple[int, Likelihood | None]]:
        """Note what was read. Time in which nothing was read is that of what comes next."""
        self._debt += seconds
        if readings:
            share, self._debt = self._debt / len(readings), 0.0
        for edge, value, best in readings:
            self._values[edge], self._best[edge] = value, best
            self._seconds[edge] = share / len(self._users[edge])
        for edge, _, _ in readings:
            for number in self._users[edge]:
                self._open[number] -= 1
                if not self._open[number]:
                    yield from self._give(number, self._likelihood(number))

    def _likelihood(self, number: int) -> Likelihood:
        edges, values, best = self._edges[number], self._values, self._best
        seconds = sum(self._seconds[edge] for edge in edges) / len(self._indices[number])
        return Likelihood(sum(values[edge] for edge in edges), all(best[edge] for edge in edges), seconds)

    def _lose(self, rows: Sequence[Row]) -> Iterator[tuple[int, Likelihood | None]]:
        """Give up every pair that needs one of these rows."""
        for row in rows:
            for _, _, edge in row.reads:
                for number in self._users[edge]:
                    if self._open[number] > 0:
                        self._open[number] = -1
                        yield from self._give(number, None)

    def _give(self, number: int, found: Likelihood | None) -> Iterator[tuple[int, Likelihood | None]]:
        for index in self._indices[number]:
            yield index, found


def read_prefix(network: Network, before: Any, run: Row, shape: Shape) -> tuple[Any, list[Reading]]:
    """Read the prefix ``run`` after ``before`` and keep it; what was asked in it is read on the way."""
    from vevals.engine.memory import KeyValues, State

    if not shape.trees:
        state = before or State()
        tokens = network.tensor([run.tokens])
        features, cache = _continued(network, tokens, state)
        return State(cache, state.length + len(run.tokens)), _read(network, features, [run])
    prefix = before or KeyValues(int(network.config.num_hidden_layers))
    readings: list[Reading] = []
    step = RUN_ROWS * shape.capacity
    for start in range(0, len(run.tokens), step):
        part = _part(run, start, start + step)
        cache = prefix.cache(keep=True)
        readings += _read(network, _tree_features(network, prefix, [part], cache), [part])
        prefix = prefix.extended(cache, len(part.tokens))
    return prefix, readings


def _part(run: Row, start: int, stop: int) -> Row:
    """Tokens ``start`` to ``stop`` of a chain."""
    tokens = run.tokens[start:stop]
    reads = tuple((index - start, token, edge) for index, token, edge in run.reads if start <= index < stop)
    return Row(tokens, run.positions[start:stop], (len(tokens),) * len(tokens), reads)


def read(network: Network, prefix: Any, rows: Sequence[Row]) -> list[Reading]:
    """One forward pass over rows that continue ``prefix`` (None: nothing), and everything that they ask."""
    from vevals.engine.memory import State

    if isinstance(prefix, State):
        features, _ = _continued(network, network.tensor(padded([row.tokens for row in rows])), prefix)
    elif prefix is None and not any(row.branches for row in rows):
        # causal attention never looks at the padding on the right
        features = network.forward(network.tensor(padded([row.tokens for row in rows])))[0]
    else:
        features = _tree_features(network, prefix, rows, prefix.cache() if prefix else None)
    return _read(network, features, rows)


def _continued(network: Network, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """Features (B, T, d or V) of chains ``tokens`` (B, T) after copies of a state, and the cache behind them."""
    import torch

    count, width = tokens.shape
    inputs: dict[str, Any] = {"use_cache": True}
    if cache := state.copies(count):
        inputs[network.cache_name] = cache
    positions = torch.arange(state.length, state.length + width, device=network.device)
    inputs["position_ids"] = positions.expand(count, -1)
    if network.reads_mask:
        inputs["attention_mask"] = torch.ones(count, state.length + width, dtype=torch.long, device=network.device)
    return network.forward(tokens, **inputs)


def _tree_features(network: Network, prefix: Any, rows: Sequence[Row], cache: Any) -> torch.Tensor:
    """Features (B, T, d or V) of rows that may branch, behind a prefix of S tokens (or none)."""
    import torch

    length = prefix.length if prefix else 0
    tokens = network.tensor(padded([row.tokens for row in rows]))
    positions = network.tensor(padded([row.positions for row in rows], fill=length))
    seen = torch.nn.functional.pad(_visible(network, rows), (length, 0), value=True)  # (B, T, S + T)
    before = torch.arange(length, device=network.device).expand(len(rows), -1)
    masks = network.masks(seen, positions, torch.cat([before, positions], dim=1))
    inputs: dict[str, Any] = {"attention_mask": masks, "position_ids": positions}
    if cache is not None:
        inputs |= {network.cache_name: cache, "use_cache": True}
    return network.forward(tokens, **inputs)[0]


def _visible(network: Network, rows: Sequence[Row]) -> torch.Tensor:
    """Booleans (B, T, T), query x key: key k is seen by the queries k to ends[k] - 1; padding sees itself."""
    width = max(len(row.tokens) for row in rows)
    ends = network.tensor([[*row.ends, *range(len(row.ends) + 1, width + 1)] for row in rows])
    place = network.tensor(range(width))
    return (place[:, None] >= place[None, :]) & (place[None, :, None] < ends[:, None, :])


def _read(network: Network, features: torch.Tensor, rows: Sequence[Row]) -> list[Reading]:
    """What ``rows`` ask of their ``features`` (B, T, d or V).

    Only places that are asked reach the head. Log-softmax is in float32 whatever the weights are, and only as many
    places pass the head at once as memory is given for: there is never a (B, T, V) tensor. One copy to the host.
    """
    import torch

    asked = [(number, index, token, edge) for number, row in enumerate(rows) for index, token, edge in row.reads]
    if not asked:
        return []
    places = sorted({(number, index) for number, index, _, _ in asked})
    order = {place: number for number, place in enumerate(places)}
    table = network.tensor([(order[number, index], token) for number, index, token, _ in asked])  # (edges, 2)
    at = network.tensor(places)
    step = max(1, network.head_rows // 2)  # the log-sum-exp needs as much memory as its logits once more
    chosen, found = features[at[:, 0], at[:, 1]], []
    for start in range(0, len(places), step):
        logits = network.logits(chosen[start : start + step])  # (n, V)
        inside = table[(table[:, 0] >= start) & (table[:, 0] < start + step)]
        row, token = inside[:, 0] - start, inside[:, 1]
        values = logits[row, token] - logits.logsumexp(-1)[row]
        found.append(torch.stack([values, (logits.argmax(-1)[row] == token).float()], dim=1))
    read_ = torch.cat(found).tolist()
    return [(edge, value, bool(best)) for (_, _, _, edge), (value, best) in zip(asked, read_, strict=True)]
