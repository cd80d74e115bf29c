"""Log-likelihoods: the pair rule, and every fast way against one pair at a time with full logits."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from networks import SIZE  # noqa: E402

from vevals.engine.ladder import shape_of  # noqa: E402
from vevals.engine.network import Level, Network, attempt, out_of_memory  # noqa: E402
from vevals.engine.plan import Shape  # noqa: E402
from vevals.engine.score import SHAPES, likelihoods  # noqa: E402

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}


def config(kind):
    import transformers as t

    heads = {key: value for key, value in SIZE.items() if key != "num_key_value_heads"}
    linear = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    }
    made = {
        "llama": lambda: t.LlamaConfig(**SIZE),
        "llama eager": lambda: t.LlamaConfig(**SIZE, attn_implementation="eager"),
        "qwen2": lambda: t.Qwen2Config(**SIZE),
        "qwen2 window": lambda: t.Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=16, max_window_layers=1),
        "qwen3": lambda: t.Qwen3Config(**SIZE, head_dim=8),
        "qwen3 next": lambda: t.Qwen3NextConfig(
            **SIZE, head_dim=8, **experts, **linear, layer_types=["linear_attention", "full_attention"]
        ),
        "gpt2": lambda: t.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
        "gpt neo": lambda: t.GPTNeoConfig(
            vocab_size=97,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=16,
            max_position_embeddings=256,
            initializer_range=0.3,
        ),
        "gpt neox": lambda: t.GPTNeoXConfig(**heads),
        "gemma2 window 8": lambda: t.Gemma2Config(**SIZE, head_dim=8, sliding_window=8, final_logit_softcapping=5.0),
        "gemma3 window 16": lambda: t.Gemma3TextConfig(**SIZE, head_dim=8, sliding_window=16),
        "mistral window 16": lambda: t.MistralConfig(**SIZE, sliding_window=16),
        "granite": lambda: t.GraniteConfig(**SIZE, logits_scaling=3.0),
        "phi": lambda: t.PhiConfig(**SIZE),
        "opt": lambda: t.OPTConfig(
            vocab_size=97,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            word_embed_proj_dim=32,
            init_std=0.3,
        ),
        "bloom": lambda: t.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3),
        "falcon alibi": lambda: t.FalconConfig(
            vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, initializer_range=0.3
        ),
        "mamba": lambda: t.MambaConfig(**SMALL),
        "mamba2": lambda: t.Mamba2Config(**SMALL, num_heads=8, head_dim=8, state_size=16, n_groups=1),
        "phi3 long rope": lambda: t.Phi3Config(
            **SIZE,
            pad_token_id=0,
            original_max_position_embeddings=32,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 32,
            },
        ),
    }
    return made[kind]()


def network(kind="llama"):
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    return Network(AutoModelForCausalLM.from_config(config(kind)).eval())


@pytest.fixture(scope="module")
def llama():
    return network()


def tokens(count, seed):
    draw = random.Random(seed)
    return tuple(draw.randrange(3, 97) for _ in range(count))


def branching(seed):
    """Continuations with shared prefixes, one within another, one token long, and one alone."""
    base, other = tokens(3, seed), tokens(4, seed + 1)
    return [base[:1], base[:2], base, base[:2] + other[:1], base[:1] + other[:2], other, other[1:2]]


SHARED = tokens(60, 3)
CONTEXTS = [tokens(size, size) for size in (1, 5, 12, 30, 45)]
CONTEXTS += [SHARED + tokens(size, 50 + size) for size in (1, 4, 9, 9, 20)] + [SHARED[:30] + tokens(4, 9)]
PAIRS = [(context, ending) for context in CONTEXTS for ending in branching(len(context))]


def reference(network, context, ending):
    """One pair, the whole model, full logits, float32."""
    with torch.inference_mode():
        logits = network.model(torch.tensor([context + ending[:-1]]), use_cache=False).logits[0, len(context) - 1 :]
    logprobs = logits.float().log_softmax(-1)
    value = float(logprobs[range(len(ending)), list(ending)].double().sum())
    return value, logprobs.argmax(-1).tolist() == list(ending)


KINDS = {
    "llama": Level.L2,
    "llama eager": Level.L2,
    "qwen2": Level.L2,
    "qwen2 window": Level.L2,
    "qwen3": Level.L2,
    "qwen3 next": Level.L1,
    "gpt2": Level.L2,
    "gpt neo": Level.L1,
    "gpt neox": Level.L2,
    "gemma2 window 8": Level.L2,
    "gemma3 window 16": Level.L2,
    "mistral window 16": Level.L2,
    "granite": Level.L2,
    "phi": Level.L2,
    "opt": Level.L2,
    "bloom": Level.L1,
    "falcon alibi": Level.L1,
    "mamba": Level.L0,
    "mamba2": Level.L1,
    "phi3 long rope": Level.L2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_one_pair_at_a_time(kind):
    network_ = network(kind)
    shape = replace(shape_of(network_), capacity=48, overhead=16)
    found = dict(likelihoods(network_, PAIRS, 100, shape))
    assert sorted(found) == list(range(len(PAIRS)))
    for index, (context, ending) in enumerate(PAIRS):
        value, greedy = reference(network_, context, ending)
        assert found[index].logprob == pytest.approx(value, abs=1e-4)
        assert found[index].greedy is greedy
    assert network_.level is KINDS[kind]


def test_the_most_likely_continuation_is_greedy(llama):
    context = tokens(9, 1)
    ending = []
    with torch.inference_mode():
        for _ in range(4):
            logits = llama.model(torch.tensor([[*context, *ending]]), use_cache=False).logits
            ending.append(int(logits[0, -1].argmax()))
    found = dict(likelihoods(llama, [(context, tuple(ending)), (context, (*ending[:3], (ending[3] + 1) % 97))], 100))
    assert [found[0].greedy, found[1].greedy] == [True, False]


def test_equal_pairs_are_computed_once_and_answered_each(llama):
    context, ending = tokens(9, 1), tokens(3, 2)
    with counted(llama) as sizes:
        found = dict(likelihoods(llama, [(context, ending)] * 5, 100))
    assert sizes == [(1, 11)]
    assert len({found[index].logprob for index in range(5)}) == 1


def test_the_choices_of_a_context_share_its_forward_pass(llama):
    context = tokens(40, 1)
    pairs = [(context, tokens(3, seed)) for seed in range(20)]
    dict(likelihoods(llama, pairs[:2], 500))
    with counted(llama) as sizes:
        dict(likelihoods(llama, pairs, 500))
    assert sizes == [(1, 40 + len({ending[:size] for _, ending in pairs for size in (1, 2)}))]


def test_the_same_scores_come_out_whatever_is_in_the_batch(llama):
    alone = {index: dict(likelihoods(llama, [pair], 1))[0].logprob for index, pair in enumerate(PAIRS)}
    for budget in (1, 60, 10_000):
        together = dict(likelihoods(llama, PAIRS, budget))
        assert {index: one.logprob for index, one in together.items()} == pytest.approx(alone, abs=1e-4)


def test_a_head_that_is_not_alone_behind_the_body_is_found_out(llama):
    other = network()
    other._head = torch.nn.Linear(32, 97)
    found = dict(likelihoods(other, PAIRS, 100))
    assert not other._separable
    assert found[3].logprob == pytest.approx(dict(likelihoods(llama, PAIRS, 100))[3].logprob, abs=1e-4)


def test_the_head_sees_only_positions_that_are_scored(llama):
    seen = []
    context = tokens(50, 1)
    dict(likelihoods(llama, [(context, (1, 2))], 100))
    handle = llama._head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    try:
        dict(likelihoods(llama, [(context, ending) for ending in [(1, 2, 3), (1, 4), (5,)]], 100))
    finally:
        handle.remove()
    assert seen == [3]


class counted:  # noqa: N801
    """Sizes (B, T) of the forward passes inside; above ``memory`` tokens they run out of memory."""

    def __init__(self, network, memory=None, error=torch.OutOfMemoryError):
        self.network, self.memory, self.error, self.sizes = network, memory, error, []

    def __enter__(self):
        self.handle = self.network.model.base_model.register_forward_pre_hook(self.hook, with_kwargs=True)
        return self.sizes

    def hook(self, module, args, kwargs):
        size = tuple(kwargs["input_ids"].shape)
        self.sizes.append(size)
        if self.memory is not None and size[0] * size[1] > self.memory:
            raise self.error("injected: out of memory")

    def __exit__(self, *exception):
        self.handle.remove()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
@pytest.mark.parametrize("level", Level)
def test_too_little_memory_halves_and_gives_up_only_on_what_fits_not_even_alone(llama, level, error):
    want = {index: one.logprob for index, one in likelihoods(llama, PAIRS, 10_000)}
    shape = replace(SHAPES[level], capacity=60, overhead=16)
    with counted(llama, memory=34, error=error) as sizes:
        found = dict(likelihoods(llama, PAIRS, 10_000, shape))
    assert max(rows * width for rows, width in sizes) > 34
    assert sorted(found) == list(range(len(PAIRS)))
    for index, (context, ending) in enumerate(PAIRS):
        if len(context) + len(ending) - 1 <= 34:
            assert found[index].logprob == pytest.approx(want[index], abs=1e-4)
        else:
            assert found[index] is None or found[index].logprob == pytest.approx(want[index], abs=1e-4)
    assert None in found.values()


def test_a_prefix_that_does_not_fit_costs_no_score(llama):
    pairs = [(SHARED + tokens(3, seed), tokens(2, seed)) for seed in range(9)]
    want = {index: one.logprob for index, one in likelihoods(llama, pairs, 100)}
    shape = Shape(True, True, 20, 8)
    fail = []

    def hook(module, args, kwargs):
        if kwargs.get("past_key_values") is not None and not fail:
            fail.append(kwargs["input_ids"].shape)
            raise torch.OutOfMemoryError("injected")

    handle = llama.model.base_model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        found = dict(likelihoods(llama, pairs, 100, shape))
    finally:
        handle.remove()
    assert fail == [(1, 60)]
    assert {index: one.logprob for index, one in found.items()} == pytest.approx(want, abs=1e-4)


def test_an_error_that_is_not_about_memory_is_raised(llama):
    with counted(llama, memory=1, error=ValueError), pytest.raises(ValueError, match="injected"):
        dict(likelihoods(llama, PAIRS, 100))


def test_only_words_about_memory_count_as_too_little_of_it():
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("out of memory"))


def test_what_fits_is_returned_and_what_does_not_is_none():
    def too_much():
        raise torch.OutOfMemoryError("injected")

    assert attempt(lambda: 3) == 3
    assert attempt(too_much) is None


def test_the_time_of_all_answers_is_the_time_that_they_took(llama):
    import time

    pairs = [(SHARED + tokens(3, seed), tokens(2, seed)) for seed in range(9)] * 3
    dict(likelihoods(llama, pairs[:2], 100))
    started = time.perf_counter()
    found = list(likelihoods(llama, pairs, 100, Shape(True, True, 20, 8)))
    spent = time.perf_counter() - started
    told = sum(one.seconds for _, one in found)
    assert 0.2 * spent < told <= spent


def test_one_path_of_prefixes_is_all_that_is_kept(llama):
    import gc
    import weakref

    from vevals.engine import memory

    alive, most = weakref.WeakSet(), []
    extended = memory.KeyValues.extended

    def watching(self, cache, count):
        prefix = extended(self, cache, count)
        alive.add(prefix)
        gc.collect()
        most.append(len(alive))
        return prefix

    groups = [tokens(40, seed) for seed in (1, 2, 3, 4)]
    pairs = [(group + tokens(3, seed), (1, 2)) for group in groups for seed in range(12)]
    memory.KeyValues.extended = watching
    try:
        found = dict(likelihoods(llama, pairs, 100, Shape(True, True, 50, 8)))
    finally:
        memory.KeyValues.extended = extended
    assert len(found) == len(pairs)
    assert most == [1, 1, 1, 1]
