"""How much work the scoring does, in counts that are the same on every machine: tokens, head rows, calls, encodings."""

from __future__ import annotations

import math
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.engine.ladder import shape_of  # noqa: E402
from vevals.engine.network import Network  # noqa: E402
from vevals.engine.score import likelihoods  # noqa: E402

VOCABULARY = 997


@pytest.fixture(scope="module")
def llama():
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
    )
    network = Network(AutoModelForCausalLM.from_config(config).eval())
    _ = shape_of(network)
    return network


def tokens(draw, count):
    return tuple(draw.randrange(3, VOCABULARY) for _ in range(count))


def samples(shared, own, choices, length, count, seed=0):
    """``count`` samples of ``shared`` equal and ``own`` different tokens, each with the same choices."""
    draw = random.Random(seed)
    start, labels = tokens(draw, shared), [tokens(draw, length) for _ in range(choices)]
    return [(start + tail, label) for tail in [tokens(draw, own) for _ in range(count)] for label in labels]


def differing(own, choices, length, count):
    draw = random.Random(1)
    contexts = [tokens(draw, own) for _ in range(count)]
    return [(context, tokens(draw, length)) for context in contexts for _ in range(choices)]


def labels_of(count, seed=2):
    """Labels of 2 to 4 tokens that share first tokens, as the names of intents do."""
    draw = random.Random(seed)
    heads = [tokens(draw, 1) for _ in range(20)]
    return list(dict.fromkeys(draw.choice(heads) + tokens(draw, draw.randrange(1, 4)) for _ in range(count)))


def many_choice(shared):
    draw = random.Random(3)
    start, labels = tokens(draw, shared), labels_of(70)
    return [(start + own, label) for own in [tokens(draw, 26) for _ in range(40)] for label in labels]


WORKLOADS = {
    "many choices": many_choice(0),
    "many choices, listed": many_choice(380),
    "one token, no shots": differing(90, 1, 1, 60),
    "one token, fixed shots": samples(600, 90, 4, 1, 60),
    "one token, shots differ": differing(690, 1, 1, 20),
    "long endings, no shots": differing(57, 4, 25, 40),
    "long endings, fixed shots": samples(850, 57, 4, 25, 40),
    "one sample": samples(0, 30, 4, 3, 1),
    "one choice": samples(20, 30, 1, 3, 7),
}


def prefixes(pairs):
    inputs = {context + ending[:-1] for context, ending in pairs}
    return {one[:size] for one in inputs for size in range(1, len(one) + 1)}


def scored(pairs):
    """Inputs that have a scored child."""
    return {context + ending[:size] for context, ending in pairs for size in range(len(ending))}


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_work_is_what_the_shared_tree_of_all_tokens_needs(llama, name):
    pairs = WORKLOADS[name]
    forwarded, heads = [], []
    body = llama.model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: forwarded.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    head = llama._head.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0].shape[0]))
    found = dict(likelihoods(llama, pairs, 512))
    body.remove()
    head.remove()
    shape, needed = shape_of(llama), len(prefixes(pairs))
    assert len(found) == len(pairs)
    assert sum(forwarded) <= 1.03 * needed
    assert sum(heads) == len(scored(pairs))
    groups = 1 + name.endswith("fixed shots") * 2 + name.endswith("listed")
    assert len(forwarded) <= groups + 1.3 * math.ceil(needed / shape.capacity) + 1
