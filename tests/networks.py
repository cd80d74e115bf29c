"""A tiny random Llama for tests of the engine."""

from __future__ import annotations

from typing import Any

from vevals.engine.network import Network

SIZE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}


def tiny_llama(**changes: Any) -> Network:
    """The same weights each time; ``changes`` go into its config."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    return Network(AutoModelForCausalLM.from_config(LlamaConfig(**{**SIZE, **changes})).eval())
