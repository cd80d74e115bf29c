"""A causal language model as body, head and cache: everything that asks torch for a forward pass asks it here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

CHUNK_BYTES = 128 << 20
FAILURES = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, AssertionError)
"""What a model may raise that is asked for more than it can do."""
_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_OUT_OF_MEMORY_CUDA = ("cublas_status_alloc_failed", "cudnn_status_alloc_failed")


class Level(IntEnum):
    """How much the forward passes of a model may share. Every level gives the same scores.

    L0: nothing. L1: prefixes are read once and their state is copied for the rows, which are chains. L2: besides, a row
    may be a tree, with a mask of ours.
    """

    L0 = 0
    L1 = 1
    L2 = 2


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a device or on the host."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in (*_OUT_OF_MEMORY, *_OUT_OF_MEMORY_CUDA)
    )


def attempt(step: Callable[[], T]) -> T | None:
    """``step()``, or None when memory ran out. By then the traceback, which keeps tensors alive, is gone."""
    import gc

    import torch

    try:
        with torch.inference_mode():
            return step()
    except Exception as error:
        if not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    return None


@dataclass(frozen=True, slots=True)
class Span:
    """How far back an attention layer looks: ``window`` tokens, to the start of its ``chunk``, or all the way.

    ``known`` is False for a kind of layer whose rule we do not know (or that is no attention).
    """

    window: int | None = None
    chunk: int | None = None
    known: bool = True

    def narrowed(
        self, seen: torch.Tensor, back: torch.Tensor, asking: torch.Tensor, shown: torch.Tensor
    ) -> torch.Tensor:
        """``seen`` (B, T, K) without what lies too far back."""
        if self.window is not None:
            seen = seen & (back < self.window)
        if self.chunk is not None:
            seen = seen & (asking[:, :, None] // self.chunk == shown[:, None, :] // self.chunk)
        return seen


class Network:
    """One loaded model. ``features`` are last hidden states (B, T, d) or, where the head cannot be had alone, logits.

    Call its methods under ``torch.inference_mode()`` (``attempt`` does).
    """

    def __init__(self, model: Any, tokenizer_limit: int = 0) -> None:
        self.model = model
        self.device = _entry(model)
        self.config = model.config.get_text_config()
        self.stated_length = _stated_length(self.config)
        self.max_length = self.stated_length or (tokenizer_limit if 0 < tokenizer_limit < 10**9 else 2048)
        self.level: Level | None = None
        """How much the scoring may share; None until ``ladder`` has tried."""
        self.overhead: int | None = None
        """Tokens whose forward pass costs as much as one more call; None until ``ladder`` has measured it."""
        self.generation: str | None = None
        """How text is generated, ``slots`` or ``batches``; None until ``decode`` has tried."""
        self._head = model.get_output_embeddings()

    @cached_property
    def exact(self) -> bool:
        """Whether the weights are float32 (or wider): then different batches agree to 1e-4."""
        return int(next(self.model.parameters()).element_size()) >= 4

    def tolerance(self, tokens: int) -> float:
        """By how much (nats) two ways to score ``tokens`` tokens may differ."""
        return 1e-4 + 1e-5 * tokens if self.exact else 0.1 + 0.02 * tokens

    @cached_property
    def body(self) -> Any:
        """The part that is called: the base model where its head is separable, else the whole model."""
        return self.model.base_model if self._separable else self.model

    @cached_property
    def _separable(self) -> bool:
        """Whether base model, then head, then the config's scaling gives the model's own logits. Tried, not guessed."""
        import torch

        if self._head is None or self.model.base_model is self.model:
            return False
        tokens = self.tensor([spread_tokens(self.config.vocab_size, 8)])
        try:
            hidden = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
            own, whole = self._scaled(self._head(hidden)), self.model(input_ids=tokens, use_cache=False).logits
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            return False
        return own.shape == whole.shape and bool(torch.allclose(own.float(), whole.float(), rtol=1e-3, atol=1e-4))

    def _scaled(self, logits: torch.Tensor) -> torch.Tensor:
        """What Gemma, Cohere and Granite do to logits behind the head. A model in parts has its head elsewhere."""
        import torch

        logits = logits.to(self.device)
        if cap := getattr(self.config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        if scale := getattr(self.config, "logit_scale", None):
            logits = logits * scale
        if divisor := getattr(self.config, "logits_scaling", None):
            logits = logits / divisor
        return logits

    def tensor(self, values: Any) -> torch.Tensor:
        """``values`` on the model's device."""
        import torch

        return torch.tensor(values, device=self.device)

    def forward(self, tokens: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, Any]:
        """Features (B, T, d or V) for ``tokens`` (B, T), and the cache (None unless ``use_cache=True``)."""
        if not self.takes_positions:
            inputs.pop("position_ids", None)
        inputs.setdefault("use_cache", False)
        output = self.body(input_ids=tokens, **inputs)
        features = output.last_hidden_state if self._separable else output.logits
        return features.to(self.device), getattr(output, self.cache_name, None)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Float32 logits (N, V) for chosen features (N, d or V)."""
        return (self._scaled(self._head(features)) if self._separable else features).float()

    @property
    def head_rows(self) -> int:
        """How many positions may pass the head at once, so that their float32 logits stay within 128 MiB."""
        return max(1, CHUNK_BYTES // (4 * int(self.config.vocab_size)))

    @cached_property
    def cache_name(self) -> str:
        """What the body calls its cache: state-space models have another word for it."""
        return "cache_params" if "cache_params" in self._inputs else "past_key_values"

    @property
    def reads_mask(self) -> bool:
        """Whether the mask goes along with a cache. State-space models take it for one of the new tokens alone."""
        return self.cache_name == "past_key_values"

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.body.forward).parameters)

    @cached_property
    def takes_positions(self) -> bool:
        """Whether the body is told where each token stands."""
        return "position_ids" in self._inputs

    @cached_property
    def alone_above(self) -> int | None:
        """Long RoPE changes its frequencies with the longest row of a batch: rows above this length run alone."""
        rope = getattr(self.config, "rope_parameters", None) or getattr(self.config, "rope_scaling", None) or {}
        if rope.get("rope_type") != "longrope":
            return None
        own = rope.get("original_max_position_embeddings")
        return int(own or getattr(self.config, "original_max_position_embeddings", None) or 0)

    @cached_property
    def spans(self) -> Mapping[str, Span]:
        """How far back each type of attention layer looks, by the type's name in the config."""
        window = getattr(self.config, "sliding_window", None)
        if getattr(self.config, "use_sliding_window", True) is False:
            window = None
        known = {
            "full_attention": Span(),
            "sliding_attention": Span(window=window),
            "chunked_attention": Span(chunk=getattr(self.config, "attention_chunk_size", None)),
        }
        alike = "full_attention" if window is None else "sliding_attention"
        types = getattr(self.config, "layer_types", None) or [alike]
        return {name: known.get(name, Span(known=False)) for name in sorted(set(types))}

    @property
    def takes_trees(self) -> bool:
        """Whether the attention function takes our own mask, and positions that are not the index in the row."""
        attention = getattr(self.model.config, "_attn_implementation", None) in ("sdpa", "eager")
        if getattr(self.config, "attn_temperature_tuning", None):  # scales queries by their index, not their position
            return False
        return self.takes_positions and attention and all(span.known for span in self.spans.values())

    def masks(self, seen: torch.Tensor, asking: torch.Tensor, shown: torch.Tensor) -> Any:
        """What the attention layers take as their mask: a tensor (B, 1, T, K), or one for each type of layer.

        ``seen`` (B, T, K) says which key is on a query's path. ``asking`` (B, T) and ``shown`` (B, K) are positions:
        layers that look back a limited way see less. A query always sees itself.
        """
        back = asking[:, :, None] - shown[:, None, :]
        found = {name: self._mask(span.narrowed(seen, back, asking, shown)) for name, span in self.spans.items()}
        return found if len(found) > 1 else next(iter(found.values()))

    def _mask(self, visible: torch.Tensor) -> torch.Tensor:
        """(B, 1, T, K) as the attention function wants it, from booleans (True: is seen).

        Eager attention *adds* its mask: given booleans it would run, with wrong scores.
        """
        import torch

        visible = visible[:, None]
        if self.model.config._attn_implementation == "sdpa":
            return visible
        hidden = torch.finfo(self.model.dtype).min
        return torch.zeros(visible.shape, dtype=self.model.dtype, device=self.device).masked_fill(~visible, hidden)

    @cached_property
    def pads_left(self) -> bool:
        """Whether padding on the left leaves the logits of a row alone. Tried: state-space models differ."""
        import torch

        if getattr(self.config, "attn_temperature_tuning", None):
            return False
        short = spread_tokens(self.config.vocab_size, 6)
        long = spread_tokens(self.config.vocab_size, 9)
        padded = [[0, 0, 0, *short], long]
        mask = self.tensor([[0, 0, 0] + [1] * 6, [1] * 9])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        both, _ = self.forward(self.tensor(padded), attention_mask=mask, position_ids=positions)
        for row, tokens in enumerate((short, long)):
            alone, _ = self.forward(self.tensor([tokens]))
            ours, theirs = (torch.log_softmax(self.logits(part), -1) for part in (both[row, -1:], alone[0, -1:]))
            likely = theirs > theirs.max() - 10
            if not bool(((ours - theirs).abs()[likely] <= self.tolerance(1)).all()):
                return False
        return True


def _entry(model: Any) -> torch.device:
    """Where inputs go. A model in parts (``device_map``) computes its embedding there, wherever the weights lie."""
    import torch

    place = getattr(getattr(model.get_input_embeddings(), "_hf_hook", None), "execution_device", None)
    found: torch.device = model.device if place is None else torch.device(place)
    return found


def _stated_length(config: Any) -> int:
    """The config's longest sequence; 0 where it says nothing. Then it is the tokenizer's, or 2048 (as in lm-eval)."""
    return int(next((value for key in _LENGTH_KEYS if (value := getattr(config, key, None))), 0))


def spread_tokens(vocabulary: int, count: int, start: int = 1) -> list[int]:
    """``count`` token ids from all over the vocabulary, the same each time: input for self-checks."""
    return [(start * 7919 + index * 104729 + 13) % vocabulary for index in range(count)]


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> list[list[int]]:
    """Rows of equal width, filled up on the right."""
    width = max(map(len, rows))
    return [[*row, *[fill] * (width - len(row))] for row in rows]
