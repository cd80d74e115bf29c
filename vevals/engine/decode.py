"""Generation: rows in slots, refilled in flight, so that no row waits for the slowest of its batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from vevals.engine.admission import ordered
from vevals.engine.lockstep import in_batches
from vevals.engine.network import Network, attempt
from vevals.engine.sampling import choose, sample, uniform
from vevals.engine.slotcheck import generation
from vevals.engine.slots import Entry, Prefix, Slots
from vevals.engine.stops import Text
from vevals.engine.trie import Tokens
from vevals.engine.writing import Answer, Prompt, Writing, writings

__all__ = ["Answer", "Prompt", "answers", "end_of_turn", "sample"]

MAX_ROWS = {"cpu": 32, "cuda": 256}
READ_AT_ONCE = {"cpu": 512}
"""Prompt tokens in one forward pass, where more are no faster."""
_MARK = "vevals-answer"
Ended = Iterator[tuple[int, Answer | None]]


def answers(network: Network, prompts: Sequence[Prompt], text: Text, budget: int) -> Ended:
    """The answer to each prompt, by its index, as it ends; None for one that does not fit into memory alone.

    ``text`` decodes new tokens; ``budget`` bounds the prompt tokens, padding included, of one forward pass. Neither it
    nor the other prompts change an answer. Long RoPE looks at the longest row of a batch: such rows are not mixed.
    """
    rows, limit = writings(prompts, text), network.alone_above
    apart = [row for row in rows if limit is not None and row.total > limit]
    rest = [row for row in rows if limit is None or row.total <= limit]
    yield from in_batches(network, apart, budget)
    if rest and generation(network) == "slots":
        yield from _Turns(network, rest, budget).answers()
    else:
        yield from in_batches(network, rest, budget)


class _Turns:
    """Answers that are written together. A turn admits rows where there is room, or writes one token of each."""

    def __init__(self, network: Network, rows: Sequence[Writing], budget: int) -> None:
        device = network.device.type
        self._network = network
        self._queue = deque(ordered(rows))
        self._live: list[Writing] = []
        """The row of each slot. It may have ended: slots are given free at the start of a turn."""
        self._most = min(len(rows), MAX_ROWS.get(device, 32))
        self._budget = min(budget, READ_AT_ONCE.get(device, budget))
        if network.body is network.model:  # every position passes the head
            self._budget = min(self._budget, network.head_rows)
        self._slots = Slots(network, self._most, max(row.total for row in rows))
        self._limit = self._at_once = self._most
        self._prefix: Prefix | None = None
        self._twin: Prefix | None = None

    def answers(self) -> Ended:
        """Everything, as it ends."""
        while self._queue or self._writing:
            if self._queue and self._room >= (max(1, self._slots.rows // 8) if self._writing else 1):
                yield from self._admit()
            else:
                yield from self._write()

    @property
    def _writing(self) -> list[Writing]:
        return [row for row in self._live if row.live]

    @property
    def _room(self) -> int:
        return min(self._slots.rows, self._limit) - len(self._writing)

    def _write(self) -> Ended:
        """One more token for every row."""
        started = time.perf_counter()
        tokens = attempt(self._step)
        if tokens is None:
            yield from self._crowded()
            return
        yield from _settled(self._live, tokens, time.perf_counter() - started)

    def _step(self) -> list[int]:
        self._tidy()
        logits = self._slots.step([row.tokens[-1] for row in self._live])
        return _chosen(logits, self._live)

    def _admit(self) -> Ended:
        """As many of the next rows as there is room for, in forward passes of rows of similar length."""
        self._fit()
        while self._queue and self._room > 0:
            started, batch = time.perf_counter(), self._next()
            tokens = attempt(partial(self._enter, batch))
            if tokens is None:
                yield from self._refused(batch)
                return
            self._keep_twin(batch[-1])
            yield from _settled(batch, tokens, time.perf_counter() - started)
        if self._prefix and not (self._queue and self._prefix.tokens == _lead(self._queue[0])):
            self._prefix = None

    def _next(self) -> list[Writing]:
        """Take the rows of one forward pass from the queue: one prefix, within the budget. Equal prompts count once."""
        first = self._queue.popleft()
        source, batch, reads = self._source(first), [first], {first.read}
        width = len(first.read) - len(source)
        while self._queue and len(batch) < min(self._room, self._at_once):
            row = self._queue[0]
            wider = max(width, len(row.read) - len(source))
            if self._source(row) != source or wider * len(reads | {row.read}) > self._budget:
                break
            batch.append(self._queue.popleft())
            reads.add(row.read)
            width = wider
        return batch

    def _source(self, row: Writing) -> Tokens:
        """The tokens whose keys and values are read, or will be, before the row itself."""
        if self._twin and row.read[:-1] == self._twin.tokens:
            return self._twin.tokens
        return _lead(row)

    def _enter(self, batch: Sequence[Writing]) -> list[int]:
        """Read prompts into slots; the first token of each."""
        self._tidy()
        source = self._source(batch[0])
        prefix = self._prefix_of(source) if source else None
        distinct = list(dict.fromkeys(row.read for row in batch))
        place = {tokens: number for number, tokens in enumerate(distinct)}
        entry = Entry([tokens[len(source) :] for tokens in distinct], [place[row.read] for row in batch], prefix)
        tokens = _chosen(self._slots.enter(entry), batch)
        self._live += batch
        return tokens

    def _prefix_of(self, tokens: Tokens) -> Prefix:
        if self._twin and self._twin.tokens == tokens:
            return self._twin
        if self._prefix is None or self._prefix.tokens != tokens:
            self._prefix = None
            self._prefix = self._slots.read(tokens)
        return self._prefix

    def _keep_twin(self, last: Writing) -> None:
        """Keep what the last row has read, if the next one in the queue has to read the same."""
        start = last.read[:-1]
        if not (self._queue and start and self._queue[0].read == last.read):
            self._twin = None
        elif self._twin is None or self._twin.tokens != start:
            self._twin = attempt(partial(self._slots.prefix, len(self._live) - 1, start))

    def _tidy(self) -> None:
        """Give the slots of ended rows free.

        This comes first in a turn: when it runs out of memory, every answer of the turn before has been given already.
        """
        live = [slot for slot, row in enumerate(self._live) if row.live]
        if len(live) < len(self._live):
            self._live = [self._live[slot] for slot in self._slots.keep(live)]

    def _fit(self) -> None:
        """Make slots shorter and more, where only memory bounded them and what is left needs no such length."""
        now = min(self._slots.rows, self._limit)
        if now >= self._most:
            return
        longest = max(row.total for row in (*self._writing, *self._queue))
        rows = min(self._most, now * self._slots.width // longest)
        if rows >= 2 * now and not attempt(partial(self._move, self._writing, rows, longest)):
            self._restart(now)

    def _move(self, keep: Sequence[Writing], rows: int, width: int) -> bool:
        """Go on with some rows in other slots; True when that is done."""
        places = {row.index: slot for slot, row in enumerate(self._live)}
        self._slots.resize([places[row.index] for row in keep], rows, width)
        self._live, self._limit = list(keep), rows
        return True

    def _undo(self) -> None:
        """Forget what a turn that failed did to the slots: a row there has read all but its last token."""
        self._slots.lengths = [len(row.read) - 1 for row in self._live]
        self._prefix = self._twin = None

    def _restart(self, rows: int) -> None:
        """Put every row back into the queue, and begin with new slots."""
        self._queue.extendleft(reversed(self._writing))
        self._live, self._limit = [], rows
        self._slots = Slots(self._network, rows, self._slots.width)

    def _crowded(self) -> Ended:
        """A step ran out of memory: the longest half of the answers goes on, the others read all theirs again later."""
        rows = sorted(self._writing, key=lambda row: (-len(row.tokens), row.index))
        half = (len(rows) + 1) // 2
        self._undo()
        if len(rows) > 1 and attempt(partial(self._move, rows[:half], half, self._slots.width)):
            self._queue.extendleft(reversed(rows[half:]))
            return
        alone = len(rows) == 1 and self._slots.rows == 1
        self._restart(half)
        if alone:
            yield from self._hopeless()

    def _refused(self, batch: Sequence[Writing]) -> Ended:
        """Reading prompts ran out of memory: half as many at once; or fewer rows; or this one does not fit at all."""
        self._queue.extendleft(reversed(batch))
        self._undo()
        if len(batch) > 1:
            self._at_once = len(batch) // 2
        elif self._writing:
            self._limit = len(self._writing)
        elif batch[0].lead:
            batch[0].lead = 0
        elif self._slots.rows > 1:
            self._restart(self._slots.rows // 2)
        else:
            yield from self._hopeless()

    def _hopeless(self) -> Ended:
        """The first row in the queue fits not even alone. That says nothing about the others."""
        row = self._queue.popleft()
        self._limit = self._at_once = self._most
        longest = max((other.total for other in self._queue), default=1)
        self._slots = Slots(self._network, self._most, longest)
        yield row.index, None


def _lead(row: Writing) -> Tokens:
    return row.prompt.tokens[: row.lead]


def _chosen(logits: Any, rows: Sequence[Writing]) -> list[int]:
    """The next token of each row: the only wait for the device in a turn."""
    draws = [(row.prompt.options, uniform(row.prompt.draw, len(row.tokens))) for row in rows]
    tokens: list[int] = choose(logits, draws).tolist()
    return tokens


def _settled(rows: Sequence[Writing], tokens: Sequence[int], seconds: float) -> Ended:
    """Add a token to each row; the answers that are whole."""
    share = seconds / len(rows)
    pairs = list(zip(rows, tokens, strict=True))
    for row, token in pairs:
        row.add(token, share)
    yield from ((row.index, row.answer) for row, _ in pairs if not row.live)


def end_of_turn(tokenizer: Any, template: str | None) -> int | None:
    """The special token that the chat template writes after an answer; None where it writes none."""
    from jinja2 import TemplateError

    if template is None:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    try:
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, chat_template=template)
    except (TemplateError, TypeError, ValueError, KeyError):
        return None
    after = tokenizer(rendered.rpartition(_MARK)[2].strip(), add_special_tokens=False)["input_ids"]
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return after[0] if after and after[0] in special else None
