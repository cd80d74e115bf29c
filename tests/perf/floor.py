"""The floor: what the necessary arithmetic costs on this machine, as bare calls of the model in simple batches.

It answers nothing. Rows are filled with the workload's own tokens, so many as are necessary and none more; who sees
whom is not kept, which changes the values but not the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from perf.tools import Task
from perf.workloads import Part

HEAD_BYTES = 128 << 20


class Floor:
    """Runs the plan in ``Task.extra``: ``rows`` of tokens, ``heads`` of them scored; for answers also ``live`` rows."""

    def __init__(self, folder: Path, part: Part) -> None:
        import torch
        import transformers as t

        kinds = {
            "causal": t.AutoModelForCausalLM,
            "seq2seq": t.AutoModelForSeq2SeqLM,
            "classifier": t.AutoModelForSequenceClassification,
        }
        self._part = part
        self._model: Any = kinds[part].from_pretrained(folder, dtype=torch.float32).eval()
        self._head: Any = self._model.get_output_embeddings()

    def prepared(self, task: Task) -> Callable[[], Any]:
        import torch

        plan = task.extra
        steps = {"rates": self._rates, "seq2seq": self._sources, "classifier": self._rows, "causal": self._causal}
        step = steps["rates" if plan.get("rates") else self._part]

        def timed() -> Any:
            with torch.inference_mode():
                return step(plan)

        return timed

    def results(self, raw: Any) -> list[dict[str, Any]]:
        return [raw] if isinstance(raw, dict) else []

    def _causal(self, plan: Mapping[str, Any]) -> None:
        import torch

        heads = plan["heads"]
        for row, wanted in zip(plan["rows"], heads, strict=True):
            hidden = self._model.base_model(torch.tensor([row]), use_cache=False).last_hidden_state[0]
            self._score(hidden[:wanted])
        if plan.get("live"):
            self._decode(plan["live"], plan["keys"])

    def _score(self, hidden: Any) -> None:
        """Head and log-sum-exp over chosen positions (N, d), in chunks."""
        chunk = max(1, HEAD_BYTES // (4 * self._head.weight.shape[0]))
        for part in hidden.split(chunk):
            self._head(part).logsumexp(-1)

    def _decode(self, live: Sequence[int], keys: int) -> None:
        """One token for each live row, step by step, with one cache of ``keys`` keys that exists beforehand."""
        import torch

        cache = _cache(self._model.config, max(live), keys)
        positions = torch.tensor([[keys - 1]])
        for rows, same in groupby(live):
            tokens = torch.ones(rows, 1, dtype=torch.long)
            for _ in same:
                state = {"past_key_values": cache, "use_cache": True, "position_ids": positions.expand(rows, 1)}
                hidden = self._model.base_model(tokens, **state).last_hidden_state
                self._head(hidden[:, -1]).argmax(-1)

    def _rows(self, plan: Mapping[str, Any]) -> None:
        """Batches of rows of equal length, as a classifier reads them."""
        import torch

        for batch in plan["batches"]:
            self._model(torch.tensor(batch))

    def _sources(self, plan: Mapping[str, Any]) -> None:
        """Every source once, and behind it the distinct tokens of all its choices as one row of the decoder."""
        import torch

        for source, ending in zip(plan["rows"], plan["endings"], strict=True):
            self._model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ending]), use_cache=False)

    def _rates(self, plan: Mapping[str, Any]) -> dict[str, float]:
        """What the machine does at best: float32 matrix products and copies."""
        import torch

        size = 1024
        left, right = torch.randn(size, size), torch.randn(size, size)
        block = torch.randn(32 << 20)
        other = torch.empty_like(block)
        products = min(_seconds(lambda: torch.mm(left, right)) for _ in range(8))
        copies = min(_seconds(lambda: other.copy_(block)) for _ in range(4))
        return {"gemm_gflops": 2 * size**3 / products / 1e9, "copy_gb_s": 8 * block.numel() / copies / 1e9}


def _seconds(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _cache(config: Any, rows: int, keys: int) -> Any:
    """A key-value cache whose last column is written again in every step: nothing grows, nothing is copied."""
    import torch
    from transformers.cache_utils import Cache, CacheLayerMixin

    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    class Fixed(CacheLayerMixin):  # type: ignore[misc, unused-ignore]
        is_sliding = False

        def __init__(self) -> None:
            super().__init__()
            self.keys = torch.zeros(rows, heads, keys, width)
            self.values = torch.zeros(rows, heads, keys, width)
            self.is_initialized = True

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            pass

        def update(self, key_states: Any, value_states: Any, *given: Any, **named: Any) -> tuple[Any, Any]:
            count = key_states.shape[0]
            self.keys[:count, :, -1:] = key_states
            self.values[:count, :, -1:] = value_states
            return self.keys[:count], self.values[:count]

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return keys, 0

        def get_seq_length(self) -> int:
            return keys - 1

        def get_max_length(self) -> int:
            return keys

    return Cache(layers=[Fixed() for _ in range(config.num_hidden_layers)])
