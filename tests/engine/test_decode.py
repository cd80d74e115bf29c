"""Generation, in slots and in batches: own ends for each row, texts that say where they stopped, own draws."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from networks import tiny_llama  # noqa: E402

from vevals.engine.decode import Prompt, answers, sample  # noqa: E402
from vevals.engine.network import Network  # noqa: E402
from vevals.engine.sampling import choose, uniform  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.types import FinishReason, Options  # noqa: E402

LETTERS = "".join(chr(ord("a") + number % 26) for number in range(97))
END = 2


@pytest.fixture(scope="module")
def llama():
    return tiny_llama()


@pytest.fixture(scope="module")
def batched():
    """The same model, written in left-padded batches."""
    found = tiny_llama()
    found.generation = "batches"
    return found


@pytest.fixture(params=["slots", "batches"])
def either(request, llama, batched):
    return llama if request.param == "slots" else batched


def text(tokens):
    return "".join(LETTERS[token] for token in tokens)


def prompt(size, **options):
    draw = random.Random(size)
    chosen = Options(**{"max_tokens": 12, **options})
    return Prompt(tuple(draw.randrange(3, 97) for _ in range(size)), chosen, frozenset({END}), f"0/{size}")


PROMPTS = [prompt(size) for size in (1, 3, 7, 7, 20, 41)]


def generated(network, one):
    """The same by transformers' own loop, one prompt at a time; new tokens with the one that ended them."""
    shape = {"do_sample": False, "eos_token_id": END, "pad_token_id": 0, "max_new_tokens": one.options.max_tokens}
    with torch.inference_mode():
        return network.model.generate(torch.tensor([one.tokens]), **shape)[0, len(one.tokens) :].tolist()


def test_greedy_texts_are_those_of_transformers_one_at_a_time(either):
    found = dict(answers(either, PROMPTS, text, 1000))
    assert sorted(found) == list(range(len(PROMPTS)))
    for index, one in enumerate(PROMPTS):
        want = generated(either, one)
        assert found[index].text == text(token for token in want if token != END)
        assert found[index].tokens == len(want)


@pytest.mark.parametrize("budget", [1, 30, 10_000])
def test_the_batch_changes_no_text(either, budget):
    mixed = [prompt(size, max_tokens=3 + size % 9, temperature=size % 2, top_p=0.9) for size in range(1, 12)]
    alone = [dict(answers(either, [one], text, 1))[0] for one in mixed]
    found = dict(answers(either, mixed, text, budget))
    for index, answer in enumerate(alone):
        assert (found[index].text, found[index].tokens, found[index].finish) == (
            answer.text,
            answer.tokens,
            answer.finish,
        )


def test_every_row_ends_at_its_own_limit(either):
    asked = [prompt(9, max_tokens=size) for size in (1, 4, 30)]
    found = dict(answers(either, asked, text, 1000))
    assert [found[index].tokens for index in range(3)] == [1, 4, 30]
    assert {found[index].finish for index in range(3)} == {FinishReason.length}
    assert found[2].text.startswith(found[1].text)


def test_an_end_token_ends_the_row_and_is_not_in_the_text(either):
    one = prompt(9, max_tokens=20)
    tokens = generated(either, one)
    ends = frozenset({tokens[5]})
    (found,) = dict(answers(either, [Prompt(one.tokens, one.options, ends, "")], text, 1000)).values()
    first = tokens.index(tokens[5])
    assert found.text == text(tokens[:first])
    assert (found.tokens, found.finish) == (first + 1, FinishReason.stop)


def test_a_stop_string_across_tokens_is_cut_away_with_what_follows(either):
    one = prompt(9, max_tokens=20)
    (whole,) = dict(answers(either, [one], text, 1000)).values()
    stop = whole.text[6:9]
    (found,) = dict(answers(either, [prompt(9, max_tokens=20, stop=("absent", stop))], text, 1000)).values()
    place = whole.text.find(stop)
    assert found.text == whole.text[:place]
    assert found.finish is FinishReason.stop
    assert found.tokens == place + 3


def test_the_earliest_of_several_stop_strings_counts(either):
    def spelled(tokens):
        return "".join(f"{LETTERS[token]}-." for token in tokens)

    (whole,) = dict(answers(either, [prompt(9)], spelled, 1000)).values()
    found = dict(answers(either, [prompt(9, stop=(".", "-."))], spelled, 1000))[0]
    assert found.text == whole.text[0]
    assert found.tokens == 1


def test_a_stop_string_that_never_comes_changes_nothing(either):
    plain = dict(answers(either, [prompt(9)], text, 1000))[0]
    found = dict(answers(either, [prompt(9, stop=("NEVER",))], text, 1000))[0]
    assert (found.text, found.finish) == (plain.text, FinishReason.length)


def test_only_the_tail_of_a_long_answer_is_decoded_and_only_where_a_stop_could_end(either):
    longest = []

    def watched(tokens):
        longest.append(len(tokens))
        return text(tokens)

    (plain,) = dict(answers(either, [prompt(9, max_tokens=60)], text, 1000)).values()
    last = plain.text[40]
    dict(answers(either, [prompt(9, max_tokens=60, stop=(f"zzzz!{last}",))], watched, 1000))
    looks = [length for length in longest[:-1] if length > 2]
    assert longest[-1] == 60
    assert max(looks) == len("zzzz!?") + 8
    assert len(looks) == plain.text[2:].count(last)


def test_rows_that_ended_leave_the_batch(batched):
    sizes = []
    handle = batched.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    try:
        dict(answers(batched, [prompt(9, max_tokens=size) for size in (2, 2, 2, 2, 2, 2, 9, 9)], text, 1000))
    finally:
        handle.remove()
    assert sizes == [8] * 2 + [2] * 7


def test_positions_stay_within_a_learned_table_while_others_go_on():
    from transformers import AutoModelForCausalLM, GPT2Config

    torch.manual_seed(0)
    shape = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24}
    gpt2 = Network(AutoModelForCausalLM.from_config(GPT2Config(**shape)).eval())
    asked = [prompt(22, max_tokens=2), prompt(4, max_tokens=20), prompt(5, max_tokens=19)]
    found = dict(answers(gpt2, asked, text, 1000))
    assert [found[index].tokens for index in range(3)] == [2, 20, 19]


def test_seconds_of_all_rows_add_up_to_less_than_the_clock(either):
    import time

    started = time.perf_counter()
    found = dict(answers(either, PROMPTS, text, 1000))
    assert 0 < sum(answer.seconds for answer in found.values()) <= time.perf_counter() - started


class scarce:  # noqa: N801
    """Forward passes above ``memory`` rows x cached width run out of memory."""

    def __init__(self, network, memory):
        self.network, self.memory, self.failures = network, memory, 0

    def __enter__(self):
        self.handle = self.network.model.base_model.register_forward_pre_hook(self.hook, with_kwargs=True)
        return self

    def hook(self, module, args, kwargs):
        if kwargs.get("use_cache") and kwargs["attention_mask"].numel() > self.memory:
            self.failures += 1
            raise torch.OutOfMemoryError("injected")

    def __exit__(self, *exception):
        self.handle.remove()


def test_too_little_memory_repeats_only_what_had_not_ended(batched):
    asked = [prompt(size, max_tokens=20) for size in (5, 6, 7, 8)] + [prompt(9, max_tokens=2), prompt(70)]
    want = dict(answers(batched, asked, text, 10_000))
    with scarce(batched, memory=60) as memory:
        pairs = list(answers(batched, asked, text, 10_000))
    found = dict(pairs)
    assert memory.failures > 1
    assert len(pairs) == len(asked)
    assert found[5] is None
    assert [found[index].text for index in range(5)] == [want[index].text for index in range(5)]


def test_memory_that_runs_out_while_rows_are_dropped_loses_no_answer(batched, monkeypatch):
    from transformers import DynamicCache

    asked = [prompt(size, max_tokens=size) for size in (2, 3, 4, 9, 10, 11)]
    want = dict(answers(batched, asked, text, 1000))
    failures = iter([True, True])
    reorder = DynamicCache.reorder_cache

    def scarce_reorder(self, rows):
        if next(failures, False):
            raise torch.OutOfMemoryError("injected")
        reorder(self, rows)

    monkeypatch.setattr(DynamicCache, "reorder_cache", scarce_reorder)
    pairs = list(answers(batched, asked, text, 1000))
    assert next(failures, None) is None
    assert sorted(index for index, _ in pairs) == list(range(6))
    assert {index: answer.text for index, answer in pairs} == {index: answer.text for index, answer in want.items()}


def test_draws_depend_on_the_seed_and_the_request_only(either):
    one = prompt(9, temperature=1.0)
    again, other = Prompt(one.tokens, one.options, one.ends, one.draw), Prompt(one.tokens, one.options, one.ends, "x")
    found = dict(answers(either, [one, other, again], text, 1000))
    assert found[0].text == found[2].text != found[1].text


def test_a_draw_has_no_state_but_the_key_and_the_step():
    numbers = [uniform("0/a", step) for step in range(2000)]
    assert numbers[7] == uniform("0/a", 7) != uniform("0/b", 7)
    assert all(0 <= number < 1 for number in numbers)
    assert sum(numbers) / 2000 == pytest.approx(0.5, abs=0.03)
    assert len(set(numbers)) == 2000


def test_rows_with_different_options_are_drawn_as_if_alone():
    torch.manual_seed(1)
    logits = torch.randn(6, 3000)
    draws = [
        (Options(temperature=heat, top_p=top), uniform("x", row))
        for row, (heat, top) in enumerate([(0, 1), (1, 1), (0.5, 0.9), (9, 0.999), (0, 0.5), (1, 0.1)])
    ]
    together = choose(logits, draws).tolist()
    assert together == [sample(row, *draw) for row, draw in zip(logits, draws, strict=True)]
    assert together[0] == int(logits[0].argmax())


def test_a_flat_distribution_is_drawn_from_beyond_its_most_likely_tokens():
    logits = torch.linspace(0, 1e-3, 5000)
    options = Options(temperature=1.0, top_p=0.9)
    drawn = [sample(logits, options, number / 200) for number in range(200)]
    assert min(drawn) < 1000
    assert min(drawn) >= 490


def test_draws_follow_the_probabilities_within_top_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    draw = random.Random(0)
    plain = [sample(logits, Options(temperature=1.0), draw.random()) for _ in range(4000)]
    assert [plain.count(token) / 4000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    nucleus = [sample(logits, Options(temperature=1.0, top_p=0.75), draw.random()) for _ in range(4000)]
    assert [nucleus.count(token) / 4000 for token in range(4)] == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    cold = {sample(logits, Options(temperature=1e-6), draw.random()) for _ in range(50)}
    assert cold == {0}
    assert sample(logits, Options(temperature=1.0, top_p=1e-9), 0.999) == 0


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_every_draw_is_a_token(uniform):
    assert 0 <= sample(torch.randn(97), Options(temperature=2.0), uniform) < 97


def test_a_state_space_model_generates_what_transformers_does():
    from transformers import AutoModelForCausalLM, MambaConfig, logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
    mamba = Network(AutoModelForCausalLM.from_config(MambaConfig(**shape)).eval())
    found = dict(answers(mamba, PROMPTS, text, 1000))
    for index, one in enumerate(PROMPTS):
        assert found[index].text == text(token for token in generated(mamba, one) if token != END)


def test_a_model_that_padding_disturbs_gets_batches_without_padding(batched, monkeypatch):
    monkeypatch.setitem(vars(batched), "pads_left", False)
    widths = []
    handle = batched.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["attention_mask"].bool().all().item()), with_kwargs=True
    )
    try:
        found = dict(answers(batched, PROMPTS, text, 1000))
    finally:
        handle.remove()
    assert all(widths)
    assert sorted(found) == list(range(len(PROMPTS)))


def test_a_model_without_a_cache_is_an_error(batched, monkeypatch):
    monkeypatch.setattr(Network, "cache_name", "nothing_such")
    monkeypatch.setattr(Network, "reads_mask", True)
    monkeypatch.setattr(batched, "forward", lambda tokens, **inputs: (torch.zeros(1, 1, 32), None))
    with pytest.raises(ModelError, match="no key-value cache"):
        dict(answers(batched, PROMPTS[:1], text, 1000))


def test_long_rope_rows_in_one_batch_are_those_of_one_by_one(monkeypatch):
    """Short rows that are padded together, some of which end early, never turn the positions of the others."""
    from transformers import AutoModelForCausalLM, Phi3Config

    turns = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 32,
    }
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.3,
        pad_token_id=0,
        original_max_position_embeddings=32,
        rope_parameters=turns,
    )
    phi = Network(AutoModelForCausalLM.from_config(config).eval())
    phi.generation = "batches"
    asked = [prompt(28, max_tokens=3), prompt(3, max_tokens=25), prompt(4, max_tokens=25), prompt(30, max_tokens=9)]
    found = dict(answers(phi, asked, text, 1000))
    for index, one in enumerate(asked):
        want = generated(phi, one)
        assert found[index].text == text(token for token in want if token != END)
