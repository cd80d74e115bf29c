"""Classification: texts of like length in one forward pass, and for each the logits of the model's labels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Network, attempt, out_of_memory
from vevals.engine.plan import Limits, Work, batches
from vevals.engine.trie import Tokens

if TYPE_CHECKING:
    import torch

MULTIPLE = 8
"""Rows are padded to a multiple of this many tokens on a GPU, whose kernels want it. A CPU has nothing from it."""


@dataclass(frozen=True, slots=True)
class Coded:
    """A text, or a text and its pair, as tokens. ``types``: which of the two each token is from, where that counts."""

    tokens: Tokens
    types: Tokens = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The log-probability (nats) of each of the model's labels."""

    logprobs: tuple[float, ...]
    seconds: float


class Reading(Enum):
    """How rows of different length are read together, such that each gets the logits that it gets by itself."""

    end = "end"
    """Base model over padded rows, then the head at each row's own last token: heads on decoders."""
    padded = "padded"
    """The model itself over padded rows: heads that look at the first token, or at all that the mask shows."""
    alone = "alone"
    """Not at all: one row a forward pass."""


class Heads:
    """A loaded classifier. ``several``: each label is there or not by itself; otherwise exactly one of them is."""

    def __init__(self, network: Network, fill: int, several: bool) -> None:
        self.network, self.fill, self.several = network, fill, several
        self.reading: Reading | None = None
        """None until ``settle`` has tried."""

    def settle(self, rows: Sequence[Coded]) -> None:
        """Take the fastest reading that gives two of ``rows``, padded, what the model gives each of them alone.

        Rows of one length would try no padding where they are as long as a row can be: one of them is shortened. Rows
        of two tokens or fewer teach nothing; what comes later is tried then.
        """
        if self.reading is not None or max(len(row.tokens) for row in rows) <= 2:
            return
        ordered = sorted(rows, key=lambda row: len(row.tokens))
        short = ordered[0]
        longer = next((row for row in ordered if len(row.tokens) > len(short.tokens)), None)
        eos: Any = getattr(self.network.config, "eos_token_id", None)
        tried = [short, _shortened(short, eos)] if longer is None else [longer, short]
        if len(tried[0].tokens) == len(tried[1].tokens):  # nothing but end tokens: there is none to be left out
            return
        alone = [self._plain([row], len(row.tokens))[0] for row in tried]
        agreeing = (reading for reading in (Reading.end, Reading.padded) if self._agrees(reading, tried, alone))
        self.reading = next(agreeing, Reading.alone)

    def _agrees(self, reading: Reading, rows: Sequence[Coded], alone: Sequence[torch.Tensor]) -> bool:
        width = max(len(row.tokens) for row in rows)
        try:
            found = self._logits(reading, rows, self._widened(width, width + 3))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            return False
        limit = self.network.tolerance(1)
        return all(
            one.shape == other.shape and bool(((one - other).abs() <= limit + 1e-5 * other.abs()).all())
            for one, other in zip(found, alone, strict=True)
        )

    def logprobs(self, rows: Sequence[Coded]) -> list[list[float]]:
        """For each row one log-probability a label; a single copy to the host."""
        import torch

        width = max(len(row.tokens) for row in rows)
        if len(rows) > 1 and self.network.device.type != "cpu":
            width = self._widened(width, -(-width // MULTIPLE) * MULTIPLE)
        logits = self._logits(self.reading or Reading.alone, rows, width)  # (B, L)
        found = torch.nn.functional.logsigmoid(logits) if self.several else logits.log_softmax(-1)
        values: list[list[float]] = found.tolist()
        return values

    def _widened(self, width: int, wanted: int) -> int:
        """``wanted`` (``width`` or more), as far as the model has positions; one that states 0 or less has any."""
        limit = self.network.max_length
        return max(width, min(wanted, limit)) if limit > 0 else wanted

    def _logits(self, reading: Reading, rows: Sequence[Coded], width: int) -> torch.Tensor:
        """Float32 logits (B, L) of rows that are padded to ``width``."""
        return self._at_the_end(rows, width) if reading is Reading.end else self._plain(rows, width)

    def _plain(self, rows: Sequence[Coded], width: int) -> torch.Tensor:
        logits: torch.Tensor = self.network.model(**self._inputs(rows, width)).logits
        return logits.reshape(len(rows), -1).float()

    def _at_the_end(self, rows: Sequence[Coded], width: int) -> torch.Tensor:
        model, tensor = self.network.model, self.network.tensor
        hidden = model.base_model(**self._inputs(rows, width), use_cache=False).last_hidden_state  # (B, T, d)
        ends = [_end(row.tokens, self.network.config.pad_token_id) for row in rows]
        index = tensor(list(enumerate(ends))).to(hidden.device)
        logits: torch.Tensor = model.score(hidden[index[:, 0], index[:, 1]])
        return logits.float()

    def _inputs(self, rows: Sequence[Coded], width: int) -> dict[str, torch.Tensor]:
        """Token ids, mask and token types, each (B, T)."""
        tensor = self.network.tensor
        spare = [width - len(row.tokens) for row in rows]
        pairs = list(zip(rows, spare, strict=True))
        found = {
            "input_ids": tensor([[*row.tokens, *[self.fill] * pad] for row, pad in pairs]),
            "attention_mask": tensor([[1] * len(row.tokens) + [0] * pad for row, pad in pairs]),
        }
        if rows[0].types:
            found["token_type_ids"] = tensor([[*row.types, *[0] * pad] for row, pad in pairs])
        return found


def _shortened(row: Coded, eos: Any) -> Coded:
    """The row without the first half of what stands between its ends; its end tokens stay, whose number can matter."""
    last = len(row.tokens) - 1
    kept = [
        place for place, token in enumerate(row.tokens) if place in (0, last) or place > (last + 1) // 2 or token == eos
    ]
    return Coded(tuple(row.tokens[place] for place in kept), tuple(row.types[place] for place in kept if row.types))


def _end(tokens: Tokens, pad: int | None) -> int:
    """Where the head of a decoder reads: at the last token that is not the config's pad token, as it was trained."""
    return next((place for place in reversed(range(len(tokens))) if tokens[place] != pad), 0)


def verdicts(heads: Heads, rows: Sequence[Coded], budget: int) -> Iterator[tuple[int, Verdict | None]]:
    """The verdict on each row, by its index, as it is known; None for one that does not fit into memory alone.

    Equal rows are computed once. ``budget``: tokens in a forward pass of several rows, padding included.
    """
    askers: dict[Coded, list[int]] = {}
    for index, row in enumerate(rows):
        askers.setdefault(row, []).append(index)
    distinct = list(askers)
    if distinct:
        attempt(partial(heads.settle, distinct))
    lengths = [len(row.tokens) for row in distinct]
    work = Work(_plan(heads, distinct, lengths, budget), lengths)
    for batch in work:
        members = [distinct[place] for place in batch]
        started = time.perf_counter()
        found = attempt(partial(heads.logprobs, members))
        seconds = (time.perf_counter() - started) / len(batch)
        if found is not None:
            for row, logprobs in zip(members, found, strict=True):
                for index in askers[row]:
                    yield index, Verdict(tuple(logprobs), seconds)
        elif (hopeless := work.failed(batch)) is not None:
            for index in askers[distinct[hopeless]]:
                yield index, None


def _plan(heads: Heads, rows: Sequence[Coded], lengths: Sequence[int], budget: int) -> list[tuple[int, ...]]:
    """Batches of rows of like length. Encoder-decoders read the end token: its number must be the same in all rows."""
    alone = heads.reading not in (Reading.end, Reading.padded)
    limits = Limits(budget, max_rows=1 if alone else None)
    eos: Any = getattr(heads.network.config, "eos_token_id", None)
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        same = row.tokens.count(eos) if heads.network.model.config.is_encoder_decoder else 0
        groups.setdefault(same, []).append(place)
    return [
        tuple(group[place] for place in batch)
        for group in groups.values()
        for batch in batches([lengths[place] for place in group], limits)
    ]
