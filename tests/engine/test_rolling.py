"""Whole texts: every token once, with as much before it as the windows of lm-eval have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.engine.network import Network  # noqa: E402
from vevals.engine.rolling import rolling, windows  # noqa: E402

WIDTH = 24


@given(st.lists(st.integers(3, 90), min_size=1, max_size=60).map(tuple), st.integers(1, 20))
def test_windows_score_every_token_once_behind_what_precedes_it(tokens, width):
    whole, done = (1, *tokens), 0
    for context, scored in windows(tokens, 1, width):
        end = done + len(scored)
        assert scored == tokens[done:end]
        assert whole[done + 1 - len(context) : done + 1] == context
        assert len(context) + len(scored) - 1 <= width
        assert len(context) == 1 or len(context) + len(scored) == width + 1
        done = end
    assert done == len(tokens)


def test_windows_are_those_of_lm_eval():
    utils = pytest.importorskip("lm_eval.utils")
    for size in (1, 5, 10, 11, 19, 20, 21, 47):
        tokens = list(range(100, 100 + size))
        theirs = [utils.make_disjoint_window(window) for window in utils.get_rolling_token_windows(tokens, 1, 10, 1)]
        ours = [(list(context), list(scored)) for context, scored in windows(tuple(tokens), 1, 10)]
        assert ours == [(list(context), list(scored)) for context, scored in theirs]


@pytest.fixture(scope="module")
def llama():
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WIDTH,
        initializer_range=0.3,
    )
    return Network(AutoModelForCausalLM.from_config(config).eval())


TEXTS = [tuple((7 * place + size) % 94 + 3 for place in range(size)) for size in (1, 5, 23, 24, 25, 60, 100)]


def reference(network, text):
    total, greedy = 0.0, True
    for context, scored in windows(text, 1, WIDTH):
        with torch.inference_mode():
            logits = network.model(torch.tensor([context + scored[:-1]])).logits[0, len(context) - 1 :]
        logprobs = logits.log_softmax(-1)
        total += float(logprobs[range(len(scored)), list(scored)].double().sum())
        greedy &= logprobs.argmax(-1).tolist() == list(scored)
    return total, greedy


@pytest.mark.parametrize("budget", [1, 50, 10_000])
def test_texts_are_scored_as_window_by_window(llama, budget):
    found = dict(rolling(llama, TEXTS, 1, budget))
    assert sorted(found) == list(range(len(TEXTS)))
    for index, text in enumerate(TEXTS):
        value, greedy = reference(llama, text)
        assert found[index].logprob == pytest.approx(value, abs=1e-4 + 1e-5 * len(text))
        assert found[index].greedy is greedy


def test_logits_of_only_so_many_tokens_are_there_at_once(llama, monkeypatch):
    from vevals.engine import network as module

    monkeypatch.setattr(module, "CHUNK_BYTES", 97 * 4 * 5)
    rows = []
    handle = llama._head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    found = dict(rolling(llama, TEXTS, 1, 10_000))
    handle.remove()
    assert max(rows) == 2  # half of the five: their log-sum-exp needs as much again
    assert found[6].logprob == pytest.approx(reference(llama, TEXTS[6])[0], abs=2e-3)


def test_a_text_whose_window_does_not_fit_is_none_and_the_others_are_scored(llama):
    def hook(module, args, kwargs):
        rows, width = kwargs["input_ids"].shape
        if rows * width > 10:
            raise torch.OutOfMemoryError("injected")

    handle = llama.model.base_model.register_forward_pre_hook(hook, with_kwargs=True)
    found = dict(rolling(llama, TEXTS, 1, 10_000))
    handle.remove()
    assert sorted(found) == list(range(len(TEXTS)))
    assert {index for index, one in found.items() if one is not None} == {0, 1}
