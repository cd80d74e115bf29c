"""Generation: left-padded batches in our own loop, so that every row ends where its own stop rules say."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Network, attempt
from vevals.engine.plan import Limits, Tokens, Work, batches
from vevals.errors import ModelError
from vevals.types import FinishReason, Options

if TYPE_CHECKING:
    import torch

_End = tuple[str, FinishReason]
MAX_ROWS = {"cpu": 32, "cuda": 128}
_MARK = "vevals-answer"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to continue. ``ends`` are the tokens that end the answer; ``draw`` seeds the sampling of this row alone."""

    tokens: Tokens
    options: Options
    ends: frozenset[int]
    draw: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated text, without what ended it. ``tokens`` counts up to and with the token that ended it."""

    text: str
    tokens: int
    finish: FinishReason
    seconds: float


def answers(
    network: Network, prompts: Sequence[Prompt], text: Callable[[Sequence[int]], str], budget: int
) -> Iterator[tuple[int, Answer | None]]:
    """The answer to each prompt, by its index, as it ends; None for one that does not fit into memory alone.

    ``text`` decodes new tokens. When memory runs out, only the rows that had not ended start again, in two halves.
    """
    lengths = [len(prompt.tokens) for prompt in prompts]
    totals = [length + prompt.options.max_tokens for length, prompt in zip(lengths, prompts, strict=True)]
    work = Work(_plan(network, lengths, totals, budget), lengths)
    for batch in work:
        running = _Batch(network, {index: prompts[index] for index in batch}, text)
        while running.waiting:
            ended = attempt(running.advance)
            if ended is None:
                if (hopeless := _give_back(work, batch, tuple(running.waiting))) is not None:
                    yield hopeless, None
                break
            yield from ended


def _give_back(work: Work, batch: tuple[int, ...], waiting: tuple[int, ...]) -> int | None:
    """Plan what is left of a batch that did not fit again; the row that fits not even alone, if it is that."""
    if len(waiting) == 1 < len(batch):
        work.again(waiting)
        return None
    return work.failed(waiting)


def _plan(network: Network, lengths: Sequence[int], totals: Sequence[int], budget: int) -> list[tuple[int, ...]]:
    """Batches of prompts of similar length. Long RoPE looks at the length that a row can reach, so those run alone."""
    limit = network.alone_above
    alone = [(index,) for index, total in enumerate(totals) if limit is not None and total > limit]
    rest = [index for index, total in enumerate(totals) if limit is None or total <= limit]
    padless = len(set(lengths)) > 1 and not attempt(lambda: network.pads_left)
    limits = Limits(budget, MAX_ROWS.get(network.device.type, 32), same_length=padless)
    planned = batches([lengths[index] for index in rest], limits)
    return alone + [tuple(rest[place] for place in batch) for batch in planned]


@dataclass(slots=True)
class _Slot:
    """One row of a batch while it is written."""

    index: int
    prompt: Prompt
    chance: random.Random
    tail: int
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0
    live: bool = True


class _Batch:
    """Prompts that are decoded together. ``advance`` does one token for all, and gives the answers that it ended."""

    def __init__(self, network: Network, prompts: Mapping[int, Prompt], text: Callable[[Sequence[int]], str]) -> None:
        self._network, self._text = network, text
        self.slots = [_slot(index, prompt) for index, prompt in prompts.items()]
        self._cache: Any = None
        self._mask: Any = None
        self._width = 0

    @property
    def waiting(self) -> list[int]:
        """Prompts without an answer yet."""
        return [slot.index for slot in self.slots if slot.live]

    def advance(self) -> list[tuple[int, Answer]]:
        """One more token for every row."""
        started = time.perf_counter()
        self._drop()
        tokens = self._choose(self._first() if self._cache is None else self._next())
        rows = [slot for slot in self.slots if slot.live]
        ended = {slot.index: end for slot, end in self._settle(tokens) if end}
        share = (time.perf_counter() - started) / len(rows)
        for slot in rows:
            slot.seconds += share
        return [(slot.index, _answer(slot, *ended[slot.index])) for slot in rows if slot.index in ended]

    def _settle(self, tokens: Sequence[int]) -> list[tuple[_Slot, _End | None]]:
        pairs = zip(self.slots, tokens, strict=True)
        return [(slot, _settle(slot, token, self._text)) for slot, token in pairs if slot.live]

    def _first(self) -> torch.Tensor:
        """Read the prompts; logits (B, V) of the first new token."""
        lengths = [len(slot.prompt.tokens) for slot in self.slots]
        self._width = max(lengths)
        pads = [self._width - length for length in lengths]
        room = max(slot.prompt.options.max_tokens for slot in self.slots)
        tensor = self._network.tensor
        tokens = tensor([[*[0] * pad, *slot.prompt.tokens] for pad, slot in zip(pads, self.slots, strict=True)])
        self._mask = (tensor(range(self._width + room))[None] >= tensor(pads)[:, None]).long()  # (B, width + room)
        return self._forward(tokens)

    def _next(self) -> torch.Tensor:
        """Read the tokens chosen last; logits (B, V) of the ones after them."""
        self._width += 1
        if self._width - 1 == self._network.alone_above:  # all positions turn otherwise from here on: read them again
            self._cache = None
            return self._forward(self._network.tensor([[*slot.prompt.tokens, *slot.tokens] for slot in self.slots]))
        return self._forward(self._network.tensor([[slot.tokens[-1]] for slot in self.slots]))

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        network, mask = self._network, self._mask[:, : self._width]
        # Rows that ended are read on until they are dropped: their positions must stay within the model's table.
        positions = (mask.cumsum(1) - 1).clamp(min=0, max=network.max_length - 1)[:, -tokens.shape[1] :]
        state = {network.cache_name: self._cache, "use_cache": True, "position_ids": positions}
        if self._cache is None or network.reads_mask:
            state["attention_mask"] = mask
        features, self._cache = network.forward(tokens, **state)
        if self._cache is None:
            raise ModelError(f"{type(network.model).__name__} keeps no key-value cache; hf: cannot generate with it")
        return network.logits(features[:, -1])

    def _choose(self, logits: torch.Tensor) -> list[int]:
        """The next token of each row: the most likely one, or one drawn by the row's own generator."""
        chosen: list[int] = logits.argmax(-1).tolist()
        drawn = [row for row, slot in enumerate(self.slots) if slot.live and slot.prompt.options.temperature > 0]
        for row in drawn:
            slot = self.slots[row]
            chosen[row] = sample(logits[row], slot.prompt.options, slot.chance.random())
        return chosen

    def _drop(self) -> None:
        """Take the rows that ended out of the batch, once they are half of it.

        This comes first in a turn: when it runs out of memory, every answer of the turn before has been given already.
        """
        live = [row for row, slot in enumerate(self.slots) if slot.live]
        if len(live) * 2 <= len(self.slots):
            rows = self._network.tensor(live)
            self._cache.reorder_cache(rows)
            self._mask = self._mask[rows]
            self.slots = [self.slots[row] for row in live]


def _slot(index: int, prompt: Prompt) -> _Slot:
    longest = max((len(stop.encode()) for stop in prompt.options.stop), default=0)
    return _Slot(index, prompt, random.Random(prompt.draw), longest + 8)


def sample(logits: torch.Tensor, options: Options, uniform: float) -> int:
    """The token at ``uniform`` (0 to 1) of the cumulative distribution, most likely first, within ``top_p``.

    Logits (V,) are float32. The draw depends on the number given and on this row, never on the rest of the batch.
    Source of ``top_p``: Holtzman et al., The Curious Case of Neural Text Degeneration, arXiv:1904.09751.
    """
    probabilities, order = (
        ((logits - logits.max()) / options.temperature).softmax(-1).sort(descending=True, stable=True)
    )
    total = probabilities.cumsum(-1)
    kept = int((total - probabilities < options.top_p).sum())
    place = int((total[:kept] <= uniform * float(total[kept - 1])).sum())
    return int(order[min(place, kept - 1)])


def _settle(slot: _Slot, token: int, text: Callable[[Sequence[int]], str]) -> _End | None:
    """Add a token to a row; the text and the reason if that ends it."""
    slot.tokens.append(token)
    if token in slot.prompt.ends:
        return _end(slot, text(slot.tokens[:-1]), FinishReason.stop)
    if (cut := _stopped(slot, text)) is not None:
        return _end(slot, cut, FinishReason.stop)
    if len(slot.tokens) >= slot.prompt.options.max_tokens:
        return _end(slot, text(slot.tokens), FinishReason.length)
    return None


def _end(slot: _Slot, text: str, finish: FinishReason) -> _End:
    slot.live = False
    return text, finish


def _answer(slot: _Slot, text: str, finish: FinishReason) -> Answer:
    return Answer(text, len(slot.tokens), finish, slot.seconds)


def _stopped(slot: _Slot, text: Callable[[Sequence[int]], str]) -> str | None:
    """The text before the earliest stop string, if there is one. Only the tail that a stop could lie in is decoded."""
    stops = slot.prompt.options.stop
    if not stops or not _first_of(stops, text(slot.tokens[-slot.tail :])):
        return None
    whole = text(slot.tokens)
    found = [place for stop in stops if (place := whole.find(stop)) >= 0]
    return whole[: min(found)] if found else None


def _first_of(stops: Sequence[str], text: str) -> bool:
    return any(stop in text for stop in stops)


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
