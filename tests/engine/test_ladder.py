"""The self-check: a model takes the highest level that scores as one row at a time does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from networks import SIZE, tiny_llama  # noqa: E402

from vevals.engine.ladder import OVERHEAD, shape_of, timed_overhead  # noqa: E402
from vevals.engine.network import Level, Network, attempt  # noqa: E402
from vevals.engine.score import likelihoods  # noqa: E402

PAIRS = [(tuple(range(3, 40)), (5, 6)), (tuple(range(3, 40)), (5, 7)), (tuple(range(3, 30)), (9, 8, 7))]


def scores(network):
    return [one.logprob for _, one in sorted(likelihoods(network, PAIRS, 100))]


def test_a_mask_that_is_not_obeyed_costs_the_trees(monkeypatch):
    want = scores(tiny_llama())
    broken = tiny_llama()
    monkeypatch.setattr(Network, "_mask", lambda self, visible: torch.ones_like(visible[:, None]).tril(diagonal=99))
    assert scores(broken) == pytest.approx(want, abs=1e-4)
    assert broken.level is Level.L1


def test_a_cache_that_is_not_continued_costs_the_prefixes(monkeypatch):
    want = scores(tiny_llama())
    forward = Network.forward

    def forgetful(self, tokens, **inputs):
        inputs.pop("past_key_values", None)
        inputs.pop("attention_mask", None)
        return forward(self, tokens, **inputs)

    monkeypatch.setattr(Network, "forward", forgetful)
    broken = tiny_llama()
    assert scores(broken) == pytest.approx(want, abs=1e-4)
    assert broken.level is Level.L0


def test_a_check_that_could_not_tell_is_no_check():
    blind = tiny_llama(initializer_range=1e-12)
    _ = shape_of(blind)
    assert blind.level is Level.L0


def test_the_check_is_made_once_a_model():
    one = tiny_llama()
    calls = []
    handle = one.model.register_forward_pre_hook(lambda *_: calls.append(1))
    handle2 = one.model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    _ = shape_of(one)
    first = len(calls)
    _ = shape_of(one)
    handle.remove()
    handle2.remove()
    assert 0 < first == len(calls)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_judged_by_its_own_noise(dtype):
    half = tiny_llama()
    half = Network(half.model.to(dtype))
    _ = shape_of(half)
    assert half.level is Level.L2


def test_too_little_memory_for_the_check_is_the_lowest_level():
    small = tiny_llama()

    def fail(*_):
        raise torch.OutOfMemoryError("injected")

    handle = small.model.base_model.register_forward_pre_hook(fail)
    shape = shape_of(small)
    handle.remove()
    assert (shape.trees, shape.prefixes) == (False, False)
    assert small.level is None


def test_what_a_call_costs_is_measured_in_tokens():
    found = attempt(lambda: timed_overhead(tiny_llama(), 128))
    assert OVERHEAD <= found < 1_000_000


def test_too_little_memory_for_the_trees_alone_passes_no_check(monkeypatch):
    """What is fallen back to when memory runs out must not be taken for what was to be tried."""
    broken = tiny_llama()
    monkeypatch.setattr(Network, "_mask", lambda self, visible: torch.ones_like(visible[:, None]).tril(diagonal=99))

    def fail(module, args, kwargs):
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 4:
            raise torch.OutOfMemoryError("injected")

    handle = broken.model.base_model.register_forward_pre_hook(fail, with_kwargs=True)
    shape = shape_of(broken)
    handle.remove()
    assert (shape.trees, shape.prefixes, broken.level) == (False, False, None)


def test_queries_that_are_scaled_by_their_index_get_no_trees():
    from transformers import AutoModelForCausalLM, Llama4TextConfig

    torch.manual_seed(0)
    shape = {**SIZE, "head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 2}
    config = Llama4TextConfig(**shape, attention_chunk_size=64, floor_scale=16, no_rope_layers=[0, 0])
    one = Network(AutoModelForCausalLM.from_config(config).eval())
    assert not one.takes_trees
    assert not attempt(lambda: one.pads_left)


def test_a_head_that_does_not_fit_behind_the_body_is_found_out():
    from transformers import AutoModelForCausalLM, ElectraConfig

    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=97,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        is_decoder=True,
        initializer_range=0.3,
    )
    one = Network(AutoModelForCausalLM.from_config(config).eval())
    assert len(scores(one)) == len(PAIRS)
    assert not one._separable
