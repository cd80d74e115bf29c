"""Slots: preallocated keys and values of rows that are written together, whatever their lengths are.

Row r of the first ``len(lengths)`` rows is in use and holds ``lengths[r]`` tokens; the rest is free. What lies beyond a
row's length is finite, and never seen: attention gets our own mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Network, padded
from vevals.engine.trie import Tokens

if TYPE_CHECKING:
    import torch

    Pair = tuple[torch.Tensor, torch.Tensor]
    Update = Callable[[torch.Tensor, torch.Tensor], Pair]

COLUMNS = {"cpu": 32, "cuda": 128}
"""The keys that a step looks at are a multiple of this."""
FREE_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Prefix:
    """What several prompts begin with: keys and values (1, H, S, D) of each layer, None where a layer keeps none."""

    tokens: Tokens
    layers: Sequence[Pair | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """Prompts to be read by one forward pass, without their common ``prefix``.

    Slot i of the new ones becomes a copy of prompt ``copies[i]``.
    """

    prompts: Sequence[Tokens]
    copies: Sequence[int]
    prefix: Prefix | None = None

    @property
    def past(self) -> int:
        """Tokens of the prefix."""
        return len(self.prefix.tokens) if self.prefix else 0

    @property
    def plain(self) -> bool:
        """Whether every prompt goes into one slot, in order."""
        return list(self.copies) == list(range(len(self.prompts)))


class Slots:
    """Room for ``rows`` rows of up to ``width`` tokens. Call the methods under ``torch.inference_mode()``.

    Room is taken when the first keys come, and then ``rows`` may become fewer: as many as memory is free for.
    """

    def __init__(self, network: Network, rows: int, width: int) -> None:
        self._network = network
        self._columns = COLUMNS.get(network.device.type, 32)
        self.rows, self.width = rows, self._rounded(width)
        self.lengths: list[int] = []
        self._layers: list[Pair | None] = [None] * int(network.config.num_hidden_layers)
        self._clean = [0] * len(self._layers)

    def read(self, tokens: Tokens) -> Prefix:
        """Keys and values of a prefix: one row, and no slot."""
        kept: list[Pair | None] = [None] * len(self._layers)

        def keep(layer: int, keys: torch.Tensor, values: torch.Tensor) -> Pair:
            kept[layer] = (keys.contiguous(), values.contiguous())
            return keys, values

        self._forward(self._network.tensor([tokens]), 0, keep)
        return Prefix(tokens, kept)

    def prefix(self, row: int, tokens: Tokens) -> Prefix:
        """A copy of a row's first keys and values, which are those of ``tokens``."""
        part = (slice(row, row + 1), slice(None), slice(len(tokens)))
        return Prefix(tokens, [pair and (pair[0][part].clone(), pair[1][part].clone()) for pair in self._layers])

    def enter(self, entry: Entry) -> torch.Tensor:
        """Read prompts into free slots; logits (B, V) of the token after each new slot.

        Padding is on the right, where causal attention never looks; the head sees each prompt's last token only.
        """
        network, past = self._network, entry.past
        ends = [len(prompt) - 1 for prompt in entry.prompts]
        features = self._forward(network.tensor(padded(entry.prompts)), past, partial(self._fill, entry))
        logits = network.logits(features[network.tensor(range(len(ends))), network.tensor(ends)])
        self.lengths += [past + ends[place] + 1 for place in entry.copies]
        return logits if entry.plain else logits[network.tensor(entry.copies)]

    def step(self, tokens: Sequence[int], least: int = 0) -> torch.Tensor:
        """Read one more token of each row in use; logits (B, V) of the ones after them.

        It looks at ``least`` keys or more. If memory runs out, nothing has happened.
        """
        network = self._network
        places = network.tensor(self.lengths)
        view = min(self._rounded(max(*self.lengths, least - 1) + 1), self.width)
        spot = _Spot(network.tensor(range(len(self.lengths))), places, view)
        cache = _cache([partial(self._append, spot, layer) for layer in range(len(self._layers))], max(self.lengths))
        state = {"attention_mask": self._mask(places, view), "position_ids": places[:, None], "use_cache": True}
        features, _ = network.forward(network.tensor(tokens)[:, None], past_key_values=cache, **state)
        logits = network.logits(features[:, -1])
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Give the other rows free. Rows from the end move into the gaps: which row now is where."""
        count = len(rows)
        gaps = sorted(set(range(count)) - set(rows))
        moved = [row for row in rows if row >= count]
        if moved:
            used = max(self.lengths[row] for row in moved)
            target, source = self._network.tensor(gaps), self._network.tensor(moved)
            for tensor in self._tensors():
                tensor[target.to(tensor.device), :, :used] = tensor[source.to(tensor.device), :, :used]
        origin = {**{row: row for row in range(count)}, **dict(zip(gaps, moved, strict=True))}
        order = [origin[row] for row in range(count)]
        self.lengths = [self.lengths[row] for row in order]
        return order

    def resize(self, keep: Sequence[int], rows: int, width: int) -> None:
        """Other room, with the rows of ``keep`` in it. One layer after another, so that little more memory is needed.

        When memory runs out on the way, these slots cannot be used any more.
        """
        if not keep:
            self._layers, self._clean = [None] * len(self._layers), [0] * len(self._layers)
        chosen, width = self._network.tensor(keep), self._rounded(width)
        used = self._rounded(max((self.lengths[row] for row in keep), default=0))
        for layer, pair in enumerate(self._layers):
            if pair is not None:
                first, second = (_moved(tensor, chosen, (rows, width, used)) for tensor in pair)
                self._layers[layer], self._clean[layer] = (first, second), used
                del pair
        self.rows, self.width = rows, width
        self.lengths = [self.lengths[row] for row in keep]

    def _forward(self, tokens: torch.Tensor, past: int, update: Callable[..., Pair]) -> torch.Tensor:
        """Features (B, T, ..) of tokens (B, T) behind ``past`` earlier ones; ``update`` gets layer, keys and values."""
        cache = _cache([partial(update, layer) for layer in range(len(self._layers))], past)
        positions = self._network.tensor([range(past, past + tokens.shape[1])]).expand(len(tokens), -1)
        return self._network.forward(tokens, past_key_values=cache, position_ids=positions, use_cache=True)[0]

    def _fill(self, entry: Entry, layer: int, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """Write what a layer made of new prompts into their slots; what it shall look at: prefix and prompt."""
        import torch

        kept = entry.prefix.layers[layer] if entry.prefix else None
        past, start = entry.past, len(self.lengths)
        stop, slots = past + keys.shape[2], slice(start, start + len(entry.copies))
        store = self._store(layer, (keys, values), slots.stop, stop)
        copies = self._network.tensor(entry.copies).to(keys.device)
        seen = []
        for place, new in enumerate((keys, values)):
            store[place][slots, :, past:stop] = new if entry.plain else new[copies]
            if kept is not None:
                store[place][slots, :, :past] = kept[place]
                new = torch.cat([kept[place].expand(len(new), -1, -1, -1), new], 2)
            seen.append(new)
        return seen[0], seen[1]

    def _append(self, spot: _Spot, layer: int, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """Write the keys of one token a row, (B, H, 1, D), behind the row's others; all that the rows look at."""
        rows, places = spot.rows.to(keys.device), spot.places.to(keys.device)
        first, second = self._store(layer, (keys, values), len(rows), spot.view)
        first[rows, :, places], second[rows, :, places] = keys[:, :, 0], values[:, :, 0]
        return first[: len(rows), :, : spot.view], second[: len(rows), :, : spot.view]

    def _store(self, layer: int, new: Pair, rows: int, columns: int) -> Pair:
        """A layer's keys and values (rows, H, width, D), with so many columns fit to be looked at.

        Memory comes uninitialised and is set to 0 column by column: what nobody writes to is never touched, and a
        masked NaN would still be a NaN.
        """
        columns = min(self._rounded(columns), self.width)
        if (pair := self._layers[layer]) is None:
            if not any(self._layers):
                self.rows = max(rows, min(self.rows, self._affordable(new)))
            first, second = (_room(tensor, self.rows, self.width) for tensor in new)
            pair = self._layers[layer] = (first, second)
        if columns > self._clean[layer]:
            for tensor in pair:
                tensor[:, :, self._clean[layer] : columns] = 0
            self._clean[layer] = columns
        return pair

    def _affordable(self, new: Pair) -> int:
        cell = len(self._layers) * sum(tensor.shape[1] * tensor.shape[3] * tensor.element_size() for tensor in new)
        return int(FREE_SHARE * free_bytes(self._network.device) / (cell * self.width))

    def _mask(self, places: torch.Tensor, view: int) -> Any:
        """What the token at each place (B,) sees of the first ``view`` keys: all up to itself."""
        import torch

        keys = torch.arange(view, device=places.device)[None]
        return self._network.masks((keys <= places[:, None])[:, None], places[:, None], keys)

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for pair in self._layers if pair is not None for tensor in pair]

    def _rounded(self, columns: int) -> int:
        return -(-columns // self._columns) * self._columns


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where one step writes: rows (B,), their places (B,), and how many columns it looks at."""

    rows: torch.Tensor
    places: torch.Tensor
    view: int


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on a device; on a host that does not tell, as good as endless."""
    import re
    from pathlib import Path

    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    table = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", table.read_text()) if table.is_file() else None
    return int(found[1]) << 10 if found else 1 << 60


def _room(like: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    return like.new_empty((rows, like.shape[1], width, like.shape[3]))


def _moved(tensor: torch.Tensor, chosen: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    rows, width, used = shape
    new = _room(tensor, rows, width)
    new[:, :, :used] = 0
    new[: len(chosen), :, :used] = tensor[chosen.to(tensor.device), :, :used]
    return new


def _cache(updates: Sequence[Update], past: int) -> Any:
    """A cache for one forward pass that leaves keys and values to ``updates``, one a layer."""
    from transformers import Cache

    layer = _layer_type()
    return Cache(layers=[layer(update, past) for update in updates])


@cache
def _layer_type() -> Any:
    """The class of our cache layers: made on first use, because its base comes with transformers."""
    from transformers.cache_utils import CacheLayerMixin

    class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
        """One layer's part in one forward pass; ``past`` tokens come before."""

        is_sliding = False

        def __init__(self, update: Update, past: int) -> None:
            super().__init__()
            self._update, self._past = update, past

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            return self._update(key_states, value_states)

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            """Nothing: the slots do it."""

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self._past + query_length, 0

        def get_seq_length(self) -> int:
            return self._past

        def get_max_length(self) -> int:
            return -1

    return SlotLayer
