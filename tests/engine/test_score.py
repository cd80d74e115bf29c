"""Log-likelihoods: the pair rule, and every fast way against one pair at a time with full logits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.engine.network import Network, attempt, out_of_memory  # noqa: E402
from vevals.engine.plan import rows  # noqa: E402
from vevals.engine.score import Question, encoded, likelihoods, score  # noqa: E402

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
SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}


def config(kind):
    import transformers as t

    made = {
        "llama": lambda: t.LlamaConfig(**SIZE),
        "llama eager": lambda: t.LlamaConfig(**SIZE, attn_implementation="eager"),
        "gpt2": lambda: t.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
        "gemma2 window 8": lambda: t.Gemma2Config(**SIZE, head_dim=8, sliding_window=8, final_logit_softcapping=5.0),
        "gemma3 window 64": lambda: t.Gemma3TextConfig(**SIZE, head_dim=8, sliding_window=64),
        "granite": lambda: t.GraniteConfig(**SIZE, logits_scaling=3.0),
        "bloom": lambda: t.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3),
        "mamba": lambda: t.MambaConfig(**SMALL),
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


PAIRS = [(tokens(size, size), ending) for size in (1, 5, 12, 30, 45) for ending in branching(size)]


def reference(network, context, ending):
    """One pair, the whole model, full logits, float32."""
    with torch.inference_mode():
        logits = network.model(torch.tensor([context + ending[:-1]]), use_cache=False).logits[0, len(context) - 1 :]
    logprobs = logits.float().log_softmax(-1)
    value = float(logprobs[range(len(ending)), list(ending)].double().sum())
    return value, logprobs.argmax(-1).tolist() == list(ending)


KINDS = {
    "llama": True,
    "llama eager": True,
    "gpt2": True,
    "gemma2 window 8": False,
    "gemma3 window 64": True,
    "granite": True,
    "bloom": False,
    "mamba": False,
    "phi3 long rope": True,
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_one_pair_at_a_time(kind):
    network_ = network(kind)
    found = dict(likelihoods(network_, PAIRS, 100))
    assert sorted(found) == list(range(len(PAIRS)))
    for index, (context, ending) in enumerate(PAIRS):
        value, greedy = reference(network_, context, ending)
        assert found[index].logprob == pytest.approx(value, abs=1e-4)
        assert found[index].greedy is greedy
    assert network_.shares is KINDS[kind]


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
    llama.shares = None
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


def test_a_mask_that_is_not_obeyed_is_found_out_and_not_used(monkeypatch):
    broken = network()
    monkeypatch.setattr(Network, "tree_mask", lambda self, visible: torch.ones_like(visible).tril())
    found = dict(likelihoods(broken, PAIRS, 100))
    assert broken.shares is False
    for index, (context, ending) in enumerate(PAIRS):
        assert found[index].logprob == pytest.approx(reference(broken, context, ending)[0], abs=1e-4)


def test_a_head_that_is_not_alone_behind_the_body_is_found_out(llama):
    other = network()
    other._head = torch.nn.Linear(32, 97)
    found = dict(likelihoods(other, PAIRS, 100))
    assert not other._separable
    assert found[3].logprob == pytest.approx(dict(likelihoods(llama, PAIRS, 100))[3].logprob, abs=1e-4)


def test_the_head_sees_only_positions_that_are_scored(llama):
    seen = []
    handle = llama._head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    try:
        score(llama, rows(tokens(50, 1), [(1, 2, 3), (1, 4), (5,)], 100))
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
@pytest.mark.parametrize("shares", [True, False])
def test_too_little_memory_halves_and_gives_up_only_on_what_fits_not_even_alone(llama, shares, error):
    want = {index: one.logprob for index, one in likelihoods(llama, PAIRS, 10_000)}
    llama.shares = shares
    with counted(llama, memory=34, error=error) as sizes:
        found = dict(likelihoods(llama, PAIRS, 10_000))
    llama.shares = None
    assert max(rows * width for rows, width in sizes) > 34
    for index, (context, ending) in enumerate(PAIRS):
        if len(context) + len(ending) - 1 <= 34:
            assert found[index].logprob == pytest.approx(want[index], abs=1e-4)
        else:
            assert found[index] is None
    assert None in found.values()


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


def spell(texts, special):
    """A toy tokenizer: pairs of letters inside a word merge, a space goes to the word after it, 1 is BOS."""
    return [[1] * special + _spell(text) for text in texts]


def _spell(text):
    found, place = [], 0
    while place < len(text):
        size = 2 if text[place : place + 2].strip() and place + 1 < len(text) and text[place + 1] != " " else 1
        found.append(sum(ord(letter) * 7**power for power, letter in enumerate(text[place : place + size])) + 2)
        place += size
    return found


def test_the_continuation_is_what_the_whole_text_has_after_the_context():
    ((found,),) = encoded([Question("ab", ("cd",), True)], spell, 1)
    assert found == ((1, *_spell("ab")), tuple(_spell("cd")), 0)


def test_a_merge_across_the_border_is_cut_where_the_context_ends():
    ((found,),) = encoded([Question("abc", ("def",), False)], spell, 1)
    context, ending, _ = found
    assert list(context) == _spell("abc")
    assert list(ending) == _spell("abcdef")[len(context) :]
    assert [*context, *ending] != _spell("abcdef")


def test_white_space_at_the_end_of_the_context_goes_to_the_continuation():
    one, other = encoded([Question("ab ", ("cd",), False), Question("ab", (" cd",), False)], spell, 1)
    assert one[0][:2] == other[0][:2] == (tuple(_spell("ab")), tuple(_spell(" cd")))


def test_white_space_that_stays_a_token_of_its_own_is_counted():
    split = {"q": [5], "q\n": [5, 6], "q\nyes": [5, 6, 7, 8], "q\n\n": [5, 9]}
    question = Question("q\n", ("yes", "\n"), False)
    ((yes, newline),) = encoded([question], lambda texts, special: [split[text] for text in texts], None)
    assert yes == ((5,), (6, 7, 8), 1)
    assert newline == ((5,), (9,), 0)


@pytest.mark.parametrize("context", ["", "  ", "\n"])
def test_a_context_without_text_is_the_first_token_of_a_text(context):
    ((found,),) = encoded([Question(context, ("ab",), True)], spell, 1)
    assert found == ((1,), tuple(_spell(context + "ab")), 0)


def test_a_continuation_that_brings_the_first_token_along_keeps_it():
    ((found,),) = encoded([Question("", ("xab",), True)], lambda texts, special: [[1, 4, 5] for _ in texts], 1)
    assert found == ((1,), (4, 5), 0)


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3))))
def test_encoding_together_is_encoding_one_by_one(items):
    questions = [Question(context, tuple(endings), len(context) % 2 == 0) for context, endings in items]
    assert encoded(questions, spell, 1) == [encoded([question], spell, 1)[0] for question in questions]
