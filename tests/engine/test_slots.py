"""Slots: what transformers writes one prompt at a time, for real architectures; shared reading; refill; memory."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from networks import SIZE as PLAIN  # noqa: E402

from vevals.engine.decode import MAX_ROWS, Prompt, answers  # noqa: E402
from vevals.engine.network import Network, attempt  # noqa: E402
from vevals.engine.slotcheck import generation  # noqa: E402
from vevals.engine.slots import Entry, Slots  # noqa: E402
from vevals.types import FinishReason, Options  # noqa: E402

END = 2
SIZE = {**PLAIN, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}
SHORT = {key: SIZE[key] for key in ("vocab_size", "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id")}
GPT = {**SHORT, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
NEOX = {key: value for key, value in SIZE.items() if key != "num_key_value_heads"}
OPT = {"vocab_size": 97, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GEMMA = {**SIZE, "head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
NEO = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8}
CONFIGS = {
    "llama": lambda t: t.LlamaConfig(**SIZE),
    "llama eager": lambda t: t.LlamaConfig(**SIZE, attn_implementation="eager"),
    "qwen2": lambda t: t.Qwen2Config(**SIZE),
    "qwen3": lambda t: t.Qwen3Config(**SIZE, head_dim=8),
    "gemma3 window 8": lambda t: t.Gemma3TextConfig(**GEMMA),
    "gemma3 window 8 eager": lambda t: t.Gemma3TextConfig(**GEMMA, attn_implementation="eager"),
    "mistral window 8": lambda t: t.MistralConfig(**SIZE, sliding_window=8),
    "gpt2": lambda t: t.GPT2Config(**GPT),
    "gpt-neox": lambda t: t.GPTNeoXConfig(**NEOX),
    "phi": lambda t: t.PhiConfig(**SIZE),
    "opt": lambda t: t.OPTConfig(**OPT, max_position_embeddings=256, init_std=0.3, word_embed_proj_dim=32),
    "bloom": lambda t: t.BloomConfig(**SHORT, hidden_size=32, n_layer=2, n_head=4),
    "mpt": lambda t: t.MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4, initializer_range=0.3),
    "gpt-neo window 8": lambda t: t.GPTNeoConfig(**SHORT, **NEO, hidden_size=32, max_position_embeddings=256),
    "mamba": lambda t: t.MambaConfig(**SHORT, hidden_size=32, num_hidden_layers=2),
}
IN_BATCHES = {"bloom", "mpt", "mamba", "gpt-neo window 8"}


def network(kind="llama"):
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    return Network(transformers.AutoModelForCausalLM.from_config(CONFIGS[kind](transformers)).eval())


@pytest.fixture(scope="module")
def llama():
    return network()


def text(tokens):
    return " ".join(map(str, tokens))


def prompt(tokens, ends=frozenset({END}), draw="", **options):
    return Prompt(tuple(tokens), Options(**{"max_tokens": 24, **options}), ends, draw or f"0/{len(tokens)}")


def spread(size, seed=0):
    draw = random.Random(f"{size}/{seed}")
    return tuple(draw.randrange(3, 97) for _ in range(size))


def generated(network, one):
    """The same by transformers' own loop, one prompt at a time; new tokens with the one that ended them."""
    shape = {"do_sample": False, "eos_token_id": END, "pad_token_id": 0, "max_new_tokens": one.options.max_tokens}
    tokens = torch.tensor([one.tokens])
    with torch.inference_mode():
        return network.model.generate(tokens, attention_mask=torch.ones_like(tokens), **shape)[
            0, tokens.shape[1] :
        ].tolist()


def tied(network, one, ours, theirs):
    """Whether two greedy answers part where the two most likely tokens are within 1e-4 (logits)."""
    place = next(place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    with torch.inference_mode():
        logits = network.model(torch.tensor([[*one.tokens, *theirs[:place]]])).logits[0, -1]
    first, second = logits.topk(2).values.tolist()
    return first - second <= 1e-4


PROMPTS = [prompt(spread(size)) for size in (1, 2, 5, 7, 7, 12, 33, 64)]
FEW_SHOT = [prompt((*spread(90), *spread(size, 1))) for size in (3, 9)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_greedy_texts_are_those_of_transformers_one_at_a_time(kind):
    found_in = network(kind)
    asked = [*PROMPTS, *FEW_SHOT]
    found = dict(answers(found_in, asked, text, 200))
    assert found_in.generation == ("batches" if kind in IN_BATCHES else "slots")
    assert sorted(found) == list(range(len(asked)))
    for index, one in enumerate(asked):
        want = generated(found_in, one)
        ours = list(map(int, found[index].text.split()))
        assert ours == [token for token in want if token != END] or tied(found_in, one, ours, want)


class seen:  # noqa: N801
    """Forward passes of a model: (rows, tokens of a row), and whether they were steps."""

    def __init__(self, network):
        self.network, self.shapes = network, []

    def __enter__(self):
        generation(self.network)
        self.handle = self.network.model.base_model.register_forward_pre_hook(self.hook, with_kwargs=True)
        return self

    def hook(self, module, args, kwargs):
        self.shapes.append((tuple(kwargs["input_ids"].shape), "attention_mask" in kwargs))

    def __exit__(self, *exception):
        self.handle.remove()

    @property
    def steps(self):
        return [shape[0] for shape, step in self.shapes if step]

    @property
    def read(self):
        """Prompt tokens that were read, padding included."""
        return sum(rows * tokens for (rows, tokens), step in self.shapes if not step)


def fewest_steps(lengths, rows):
    """Steps of ``rows`` slots that are refilled at once, in this order; an answer's first token needs none."""
    busy = [0] * rows
    for length in lengths:
        slot = busy.index(min(busy))
        busy[slot] += length - 1
    return max(busy)


def test_steps_are_close_to_those_of_slots_that_are_refilled_at_once(llama):
    draw = random.Random(0)
    lengths = [min(100, 1 + int(draw.expovariate(1 / 20))) for _ in range(300)]
    asked = [prompt(spread(8, index), ends=frozenset(), max_tokens=size) for index, size in enumerate(lengths)]
    with seen(llama) as passes:
        found = dict(answers(llama, asked, text, 4096))
    assert [found[index].tokens for index in range(300)] == lengths
    assert len(passes.steps) <= 1.05 * fewest_steps(sorted(lengths, reverse=True), MAX_ROWS["cpu"])
    assert sum(passes.steps) == sum(lengths) - 300


def test_a_row_that_ends_makes_room_for_the_next_one(llama, monkeypatch):
    monkeypatch.setitem(MAX_ROWS, "cpu", 2)
    asked = [prompt(spread(9, size), ends=frozenset(), max_tokens=size) for size in (10, 4, 4, 3)]
    with seen(llama) as passes:
        dict(answers(llama, asked, text, 4096))
    assert passes.steps == [2] * 8 + [1]


def test_a_shared_prefix_is_read_once(llama):
    shots = spread(100)
    asked = [prompt((*shots, *spread(6, index)), max_tokens=2) for index in range(20)]
    with seen(llama) as passes:
        dict(answers(llama, asked, text, 4096))
    assert passes.read == 100 + 20 * 6


def test_two_groups_of_prompts_have_each_their_prefix(llama):
    groups = [(*spread(80, shot), *spread(6, index)) for shot in (1, 2) for index in range(6)]
    asked = [prompt(tokens, max_tokens=3) for tokens in groups]
    with seen(llama) as passes:
        found = dict(answers(llama, asked, text, 4096))
    assert passes.read == 2 * 80 + 12 * 6
    assert [found[index].text for index in range(12)] == [
        text(token for token in generated(llama, one) if token != END) for one in asked
    ]


def test_samples_of_one_prompt_are_one_reading_and_copies(llama, monkeypatch):
    monkeypatch.setitem(MAX_ROWS, "cpu", 4)
    one = spread(30)
    asked = [prompt(one, draw=f"0/{sample}", temperature=1.0, ends=frozenset(), max_tokens=6) for sample in range(10)]
    with seen(llama) as passes:
        found = dict(answers(llama, asked, text, 4096))
    assert passes.read == 30 + 2
    alone = [dict(answers(llama, [each], text, 4096))[0].text for each in asked]
    assert [found[index].text for index in range(10)] == alone
    assert len(set(alone)) > 1


def test_a_long_prompt_does_not_widen_the_keys_of_the_short_ones(llama):
    views = []
    masks = llama.masks
    asked = [prompt(spread(200), max_tokens=4), *[prompt(spread(5, index), max_tokens=9) for index in range(40)]]
    llama.masks = lambda seen, *places: views.append(seen.shape[-1]) or masks(seen, *places)
    try:
        generation(llama)
        views.clear()
        dict(answers(llama, asked, text, 4096))
    finally:
        del llama.masks
    assert views.count(224) == 3
    assert set(views) == {224, 32}


class scarce:  # noqa: N801
    """Forward passes that look at more than ``memory`` rows x keys run out of memory, when ``due`` says so."""

    def __init__(self, network, memory, due=lambda: True):
        self.network, self.memory, self.due, self.failures = network, memory, due, []

    def __enter__(self):
        generation(self.network)
        self.handle = self.network.model.base_model.register_forward_pre_hook(self.hook, with_kwargs=True)
        return self

    def hook(self, module, args, kwargs):
        rows, width = kwargs["input_ids"].shape
        step = "attention_mask" in kwargs
        keys = kwargs["attention_mask"].shape[-1] if step else width + kwargs["past_key_values"].get_seq_length()
        if rows * keys > self.memory and self.due():
            self.failures.append("step" if step else "prompt")
            raise torch.OutOfMemoryError("injected")

    def __exit__(self, *exception):
        self.handle.remove()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("memory", [64, 100, 300])
def test_too_little_memory_changes_no_answer(llama, memory, temperature):
    asked = [prompt(spread(size, size), max_tokens=30, temperature=temperature) for size in range(2, 20)]
    want = dict(answers(llama, asked, text, 4096))
    with scarce(llama, memory) as failing:
        pairs = list(answers(llama, asked, text, 4096))
    assert set(failing.failures) >= {"step"}
    assert len(pairs) == len(asked)
    assert {index: (answer.text, answer.finish) for index, answer in pairs} == {
        index: (answer.text, answer.finish) for index, answer in want.items()
    }


def test_shared_reading_that_does_not_fit_is_given_up(llama):
    asked = [prompt((*spread(60), *spread(4, index)), max_tokens=4) for index in range(5)]
    want = dict(answers(llama, asked, text, 4096))
    with scarce(llama, 100) as failing:
        found = dict(answers(llama, asked, text, 4096))
    assert failing.failures
    assert {index: answer.text for index, answer in found.items()} == {
        index: answer.text for index, answer in want.items()
    }


def test_a_prompt_that_does_not_fit_alone_is_none_and_the_others_are_answered(llama):
    asked = [prompt(spread(size, size), max_tokens=8) for size in (5, 6, 70, 7)]
    with scarce(llama, 65):
        found = dict(answers(llama, asked, text, 4096))
    assert found[2] is None
    assert all(found[index].text == dict(answers(llama, [asked[index]], text, 64))[0].text for index in (0, 1, 3))


def test_memory_that_runs_out_anywhere_once_changes_no_answer(llama):
    asked = [prompt(spread(size % 9 + 2, size), max_tokens=3 + size % 7) for size in range(40)]
    want = {index: answer.text for index, answer in answers(llama, asked, text, 64)}
    draw = random.Random(3)
    with scarce(llama, 0, lambda: draw.random() < 0.2) as failing:
        pairs = list(answers(llama, asked, text, 64))
    assert len(failing.failures) > 3
    assert len(pairs) == len(asked)
    assert {index: answer.text for index, answer in pairs if answer} == {
        index: want[index] for index, answer in pairs if answer
    }


def test_few_rows_where_memory_is_short_and_more_when_the_rest_is_shorter(llama, monkeypatch):
    import vevals.engine.slots as slots

    monkeypatch.setattr(slots, "free_bytes", lambda device: 100 << 10)
    asked = [prompt(spread(150, index), ends=frozenset(), max_tokens=8) for index in range(3)]
    asked += [prompt(spread(6, index), ends=frozenset(), max_tokens=8) for index in range(12)]
    with seen(llama) as passes:
        found = dict(answers(llama, asked, text, 160))
    assert passes.steps[0] == 1
    assert max(passes.steps) > 3
    assert {answer.tokens for answer in found.values()} == {8}


def test_the_self_check_notices_wrong_positions(monkeypatch):
    found_in = network()
    forward = found_in.forward

    def shifted(tokens, **inputs):
        if "attention_mask" in inputs:
            inputs["position_ids"] = inputs["position_ids"] + 3
        return forward(tokens, **inputs)

    monkeypatch.setattr(found_in, "forward", shifted)
    assert generation(found_in) == "batches"


def test_the_self_check_notices_a_mask_that_hides_too_little():
    found_in = network("mistral window 8")
    masks = found_in.masks
    found_in.masks = lambda seen, asking, shown: masks(seen, asking, shown) | seen[:, None]
    assert generation(found_in) == "batches"


def test_the_self_check_has_no_faith_in_a_model_that_ignores_its_prompt(monkeypatch):
    found_in = network()
    with torch.no_grad():
        found_in.model.lm_head.weight.zero_()
    assert generation(found_in) == "batches"


def test_a_self_check_without_memory_settles_nothing():
    found_in = network()
    handle = found_in.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: (_ for _ in ()).throw(torch.OutOfMemoryError("injected")), with_kwargs=True
    )
    vars(found_in)["_separable"] = True
    assert generation(found_in) == "batches"
    assert found_in.generation is None
    handle.remove()
    assert generation(found_in) == "slots"


def test_rows_that_move_and_grow_keep_what_they_have_read(llama):
    texts = [spread(size, size) for size in (5, 9, 7, 6)]
    more = spread(3, 99)

    def written():
        slots = Slots(llama, 4, 32)
        slots.enter(Entry(texts, [0, 1, 2, 3]))
        assert slots.keep([1, 3]) == [3, 1]
        slots.resize([1], 3, 90)
        assert (slots.rows, slots.width, slots.lengths) == (3, 96, [9])
        return [slots.step([token])[0] for token in more], llama.model(torch.tensor([[*texts[1], *more]])).logits[
            0, -3:
        ]

    ours, theirs = attempt(written)
    assert torch.allclose(torch.stack(ours), theirs, atol=1e-4)


@pytest.mark.model
def test_a_real_model_writes_what_transformers_writes(smollm2):
    from vevals.models import load_model

    model = load_model(smollm2)
    opened = model._open()
    asked = [
        prompt(opened.encode([question], special=False)[0], ends=opened.ends, max_tokens=12)
        for question in (f"{number} plus {number + 2} is" for number in range(12))
    ]
    found = dict(answers(opened.network, asked, opened.text, 4096))
    shape = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": sorted(opened.ends), "pad_token_id": 0}
    for index, one in enumerate(asked):
        tokens = torch.tensor([one.tokens])
        with torch.inference_mode():
            made = opened.network.model.generate(tokens, attention_mask=torch.ones_like(tokens), **shape)
        want = made[0, tokens.shape[1] :].tolist()
        ours = [token for token in want if token not in opened.ends]
        assert found[index].text == opened.text(ours)
        assert found[index].finish is (FinishReason.stop if len(ours) < len(want) else FinishReason.length)
