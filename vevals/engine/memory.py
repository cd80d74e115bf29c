"""Keys and values of a prefix that is read once and continued by many rows. Loads torch: import it where it is used."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class PrefixLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values (1, H, S, D), seen by every row of a batch in front of its own.

    It keeps all keys, whatever the window of the layer: the window is in our mask. ``keep``: the new keys and values
    are stored behind the old ones (batch 1); otherwise a call leaves no trace.
    """

    is_sliding = False

    def __init__(self, keys: torch.Tensor | None, values: torch.Tensor | None, keep: bool) -> None:
        super().__init__()
        self.keys, self.values, self._keep = keys, values, keep
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: what is kept is given at the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, H, S + T, D): the prefix, then the new ones (B, H, T, D)."""
        keys, values = _behind(self.keys, key_states), _behind(self.values, value_states)
        if self._keep:
            self.keys, self.values = keys, values
        return keys, values

    def get_seq_length(self) -> int:
        """S."""
        return 0 if self.keys is None else int(self.keys.shape[-2])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(keys that a query sees at most, position of the first)."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


def _behind(old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    return new if old is None else torch.cat([old.expand(len(new), -1, -1, -1), new], dim=-2)


class KeyValues:
    """A prefix as keys and values of every layer. Rows may be trees: the mask is ours."""

    def __init__(self, layers: int, length: int = 0, parts: list[Any] | None = None) -> None:
        self.length = length
        self._parts = parts or [(None, None)] * layers

    def cache(self, keep: bool = False) -> Cache:
        """A cache for one forward pass of rows that continue the prefix."""
        return Cache(layers=[PrefixLayer(keys, values, keep) for keys, values in self._parts])

    def extended(self, cache: Cache, tokens: int) -> KeyValues:
        """The prefix with the ``tokens`` that went through a ``cache`` of it that keeps them."""
        parts = [(layer.keys, layer.values) for layer in cache.layers]
        return KeyValues(len(parts), self.length + tokens, parts)


class State:
    """A prefix as whatever cache the model makes itself: also the state of a recurrent model. Rows must be chains."""

    def __init__(self, cache: Any = None, length: int = 0) -> None:
        self._cache, self.length = cache, length

    def copies(self, rows: int) -> Any:
        """A copy of the cache for ``rows`` rows; None where there is no prefix."""
        if self._cache is None:
            return None
        cache = copy.deepcopy(self._cache)
        if rows > 1:
            cache.reorder_cache(torch.zeros(rows, dtype=torch.long))
        return cache
