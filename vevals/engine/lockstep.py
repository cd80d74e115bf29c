"""Generation without slots: left-padded batches, for models whose cache or positions cannot be kept row by row.

Every row still ends by its own rules, and rows that ended leave once they are half of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Network, attempt
from vevals.engine.plan import Limits, Work, batches
from vevals.engine.sampling import choose, uniform
from vevals.engine.writing import Answer, Writing
from vevals.errors import ModelError

if TYPE_CHECKING:
    import torch

MAX_ROWS = {"cpu": 32, "cuda": 128}


def in_batches(network: Network, rows: Sequence[Writing], budget: int) -> Iterator[tuple[int, Answer | None]]:
    """The answer to each prompt, by its index, as it ends; None for one that does not fit into memory alone.

    When memory runs out, only the rows that had not ended start again, in two halves.
    """
    lengths = [len(row.prompt.tokens) for row in rows]
    work = Work(_plan(network, rows, lengths, budget), lengths)
    for batch in work:
        running = _Batch(network, {place: rows[place] for place in batch})
        while running.waiting:
            ended = attempt(running.advance)
            if ended is None:
                if (hopeless := _give_back(work, batch, tuple(running.waiting))) is not None:
                    yield rows[hopeless].index, None
                break
            yield from ((row.index, row.answer) for row in ended)


def _give_back(work: Work, batch: tuple[int, ...], waiting: tuple[int, ...]) -> int | None:
    """Plan what is left of a batch that did not fit again; the row that fits not even alone, if it is that."""
    if len(waiting) == 1 < len(batch):
        work.again(waiting)
        return None
    return work.failed(waiting)


def _plan(network: Network, rows: Sequence[Writing], lengths: Sequence[int], budget: int) -> list[tuple[int, ...]]:
    """Batches of prompts of similar length. Long RoPE looks at the length that a row can reach, so those run alone."""
    limit = network.alone_above
    alone = [(place,) for place, row in enumerate(rows) if limit is not None and row.total > limit]
    rest = [place for place, row in enumerate(rows) if limit is None or row.total <= limit]
    padless = len(set(lengths)) > 1 and not attempt(lambda: network.pads_left)
    limits = Limits(budget, MAX_ROWS.get(network.device.type, 32), same_length=padless)
    planned = batches([lengths[place] for place in rest], limits)
    return alone + [tuple(rest[number] for number in batch) for batch in planned]


class _Batch:
    """Prompts that are decoded together. ``advance`` does one token for all, and gives the rows that it ended."""

    def __init__(self, network: Network, rows: Mapping[int, Writing]) -> None:
        self._network = network
        self._rows = list(rows.items())
        for row in rows.values():
            row.tokens, row.seconds = [], 0.0
        limit = network.alone_above
        self._apart = limit is not None and any(row.total > limit for row in rows.values())  # these run alone
        self._last = min(network.max_length, network.max_length if self._apart or limit is None else limit) - 1
        self._cache: Any = None
        self._mask: Any = None
        self._width = 0

    @property
    def waiting(self) -> list[int]:
        """Places of the rows without an answer yet."""
        return [place for place, row in self._rows if row.live]

    def advance(self) -> list[Writing]:
        """One more token for every row."""
        started = time.perf_counter()
        self._drop()
        logits = self._first() if self._cache is None else self._next()
        draws = [(row.prompt.options, uniform(row.prompt.draw, len(row.tokens))) for _, row in self._rows]
        tokens: list[int] = choose(logits, draws).tolist()
        live = [(row, token) for (_, row), token in zip(self._rows, tokens, strict=True) if row.live]
        share = (time.perf_counter() - started) / len(live)
        for row, token in live:
            row.add(token, share)
        return [row for row, _ in live if not row.live]

    def _first(self) -> torch.Tensor:
        """Read the prompts; logits (B, V) of the first new token."""
        lengths = [len(row.prompt.tokens) for _, row in self._rows]
        self._width = max(lengths)
        pads = [self._width - length for length in lengths]
        room = max(row.prompt.options.max_tokens for _, row in self._rows)
        tensor = self._network.tensor
        tokens = tensor([[*[0] * pad, *row.prompt.tokens] for pad, (_, row) in zip(pads, self._rows, strict=True)])
        self._mask = (tensor(range(self._width + room))[None] >= tensor(pads)[:, None]).long()  # (B, width + room)
        return self._forward(tokens)

    def _next(self) -> torch.Tensor:
        """Read the tokens chosen last; logits (B, V) of the ones after them."""
        self._width += 1
        if (
            self._apart and self._width - 1 == self._network.alone_above
        ):  # all positions turn otherwise from here on: read them again
            self._cache = None
            return self._forward(self._network.tensor([row.read for _, row in self._rows]))
        return self._forward(self._network.tensor([[row.tokens[-1]] for _, row in self._rows]))

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        network, mask = self._network, self._mask[:, : self._width]
        # Rows that ended are read on until they are dropped: their positions must stay where they hurt no other row.
        positions = (mask.cumsum(1) - 1).clamp(min=0, max=self._last)[:, -tokens.shape[1] :]
        state = {network.cache_name: self._cache, "use_cache": True, "position_ids": positions}
        if self._cache is None or network.reads_mask:
            state["attention_mask"] = mask
        features, self._cache = network.forward(tokens, **state)
        if self._cache is None:
            raise ModelError(f"{type(network.model).__name__} keeps no key-value cache; hf: cannot generate with it")
        return network.logits(features[:, -1])

    def _drop(self) -> None:
        """Take the rows that ended out of the batch, once they are half of it.

        This comes first in a turn: when it runs out of memory, every answer of the turn before has been given already.
        """
        live = [number for number, (_, row) in enumerate(self._rows) if row.live]
        if len(live) * 2 <= len(self._rows):
            rows = self._network.tensor(live)
            self._cache.reorder_cache(rows)
            self._mask = self._mask[rows]
            self._rows = [self._rows[number] for number in live]
