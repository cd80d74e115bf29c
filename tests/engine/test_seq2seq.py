"""Encoder-decoders: the shared way against one pair, one prompt at a time through the plain model."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.engine.network import Network, attempt  # noqa: E402
from vevals.engine.seq2seq import EncoderDecoder, answers, likelihoods  # noqa: E402
from vevals.engine.writing import Prompt  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.types import FinishReason, Options  # noqa: E402

VOCABULARY = 96
START, END = 2, 1
KINDS = ["t5", "t5-gated", "mt5", "bart", "mbart", "pegasus", "marian", "led"]


def build(kind, seed=0):
    """A random encoder-decoder with two layers a side."""
    import transformers as hf

    torch.manual_seed(seed)
    ids = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": START}
    relative = {**ids, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    table = {**ids, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
    table |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.3}
    table |= {"max_position_embeddings": 64, "bos_token_id": 3, "forced_eos_token_id": None}
    configs = {
        "t5": lambda: hf.T5Config(**relative, initializer_factor=2.0),
        "t5-gated": lambda: hf.T5Config(
            **relative, initializer_factor=0.5, feed_forward_proj="gated-gelu", tie_word_embeddings=False
        ),
        "mt5": lambda: hf.MT5Config(**relative, initializer_factor=0.5),
        "bart": lambda: hf.BartConfig(**table),
        "mbart": lambda: hf.MBartConfig(**table),
        "pegasus": lambda: hf.PegasusConfig(**table),
        "marian": lambda: hf.MarianConfig(**table),
        "led": lambda: hf.LEDConfig(
            **table, attention_window=8, max_encoder_position_embeddings=64, max_decoder_position_embeddings=48
        ),
        "prophetnet": lambda: hf.ProphetNetConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_encoder_attention_heads=4,
            num_decoder_attention_heads=4,
            max_position_embeddings=64,
            pad_token_id=0,
            eos_token_id=END,
            decoder_start_token_id=START,
            init_std=0.3,
        ),
    }
    model = hf.AutoModelForSeq2SeqLM.from_config(configs[kind]()).eval()
    if (bias := getattr(model, "final_logits_bias", None)) is not None:
        bias.copy_(torch.randn(bias.shape))
    return model


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    return EncoderDecoder(Network(build(request.param)))


@pytest.fixture(scope="module")
def t5():
    return EncoderDecoder(Network(build("t5")))


def tokens(seed, count):
    draw = random.Random(str(seed))
    return tuple(draw.randrange(4, VOCABULARY) for _ in range(count))


SOURCES = [tokens(f"source {length}", length) for length in (3, 17, 6, 30, 11)]
TREE = [(7, 8, 9), (7, 8), (7,), (7, 8, 10), (11,), (7, 8, 9, 12), (13, 14, 15, 16, 17)]


def alone(pair, source, target):
    """The plain model: the target shifted right from the start token, all logits, float32."""
    fed = torch.tensor([[START, *target[:-1]]])
    with torch.inference_mode():
        logits = pair.model(input_ids=torch.tensor([source]), decoder_input_ids=fed).logits[0]
    logprobs = logits.log_softmax(-1)
    found = float(logprobs[range(len(target)), list(target)].sum())
    return found, logits.argmax(-1).tolist() == list(target)


def test_scores_are_those_of_each_pair_through_the_plain_model(pair):
    pairs = [(source, target) for source in SOURCES for target in [*TREE, tokens(source, 4)]]
    found = dict(likelihoods(pair, pairs, 64))
    assert sorted(found) == list(range(len(pairs)))
    for index, (source, target) in enumerate(pairs):
        logprob, greedy = alone(pair, source, target)
        assert found[index].logprob == pytest.approx(logprob, abs=1e-4)
        assert found[index].greedy is greedy


def test_what_would_be_written_is_greedy(pair):
    prompts = [Prompt(source, Options(max_tokens=4), frozenset(), str(source)) for source in SOURCES]
    written = {}
    list(answers(pair, prompts, lambda ids: written.setdefault(tuple(ids), ""), 4096))
    pairs = [(source, ids) for source in SOURCES for ids in written if len(ids) == 4]
    best = {pairs[index][0] for index, found in likelihoods(pair, pairs, 4096) if found.greedy}
    assert best == set(SOURCES)


def test_a_decoder_that_takes_one_token_at_a_time_writes_and_is_refused_for_scoring():
    pair = EncoderDecoder(Network(build("prophetnet")))
    for index, found in answers(pair, [prompt(source, 7) for source in SOURCES], spelled, 4096):
        new = generated(pair, SOURCES[index], 7)
        assert found.text == spelled(new[:-1] if new[-1] == END else new)
    with pytest.raises(ModelError, match=r"ProphetNet.* cannot score choices"):
        dict(likelihoods(pair, [(SOURCES[0], (7, 8, 9))], 4096))


class Counted:
    """Counts what passes the encoder, the decoder and the head of a model."""

    def __init__(self, pair):
        self.encoded = self.decoded = self.headed = self.calls = 0
        attempt(lambda: pair.encode(SOURCES[:1]))  # the look for the head is not what is counted
        self.handles = [
            pair.model.get_encoder().register_forward_pre_hook(self.encoder, with_kwargs=True),
            pair.model.get_decoder().register_forward_pre_hook(self.decoder, with_kwargs=True),
            pair.model.get_output_embeddings().register_forward_pre_hook(self.head),
        ]

    def encoder(self, module, args, kwargs):
        self.encoded += int(kwargs["attention_mask"].sum())

    def decoder(self, module, args, kwargs):
        self.calls += 1
        self.decoded += kwargs["input_ids"].numel()

    def head(self, module, args):
        self.headed += args[0].numel() // args[0].shape[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def test_a_source_is_encoded_once_and_the_head_reads_only_what_is_scored(t5):
    pairs = [(source, target) for source in SOURCES[:2] for target in TREE] * 3
    with Counted(t5) as counted:
        assert len(dict(likelihoods(t5, pairs, 4096))) == len(pairs)
    assert counted.encoded == len(SOURCES[0]) + len(SOURCES[1])
    nodes = {target[:end] for target in TREE for end in range(len(target))}
    assert counted.headed == 2 * len(nodes)
    assert counted.calls == 2  # the start tokens, then all chains
    assert counted.decoded == 2 + 2 * 2 * 4  # two chains, (7 8 9) and (13 14 15 16), padded to four


def test_one_token_choices_take_one_step_of_the_decoder(t5):
    pairs = [(source, (token,)) for source in SOURCES for token in range(4, 44)]
    with Counted(t5) as counted:
        found = dict(likelihoods(t5, pairs, 4096))
    assert (counted.calls, counted.decoded, counted.headed) == (1, 5, 5)
    assert found[7].logprob == pytest.approx(alone(t5, *pairs[7])[0], abs=1e-4)


def test_many_choices_of_one_source_copy_none_of_it(t5):
    pairs = [(SOURCES[3], tokens(number, 3)) for number in range(40)]
    sources = attempt(lambda: t5.encode([SOURCES[3]]))
    shown = sources.rows(torch.zeros(40, dtype=torch.long))
    keys = shown.cache.cross_attention_cache.layers[0].keys
    assert (keys.shape[0], keys.stride(0)) == (40, 0)
    for index, found in likelihoods(t5, pairs, 4096):
        assert found.logprob == pytest.approx(alone(t5, *pairs[index])[0], abs=1e-4)


@pytest.mark.parametrize("most", [70, 36, 20])
def test_a_batch_that_does_not_fit_is_halved_and_the_scores_stay(t5, most):
    """``most``: how many tokens of sources the encoder may hold at once, and the decoder may look at."""
    pairs = [(source, target) for source in SOURCES for target in TREE]
    want = dict(likelihoods(t5, pairs, 4096))

    def hook(module, args, kwargs):
        size = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else kwargs["attention_mask"]
        if size.shape[0] * size.shape[1] > most:
            raise torch.OutOfMemoryError("injected")

    handles = [
        part.register_forward_pre_hook(hook, with_kwargs=True)
        for part in (t5.model.get_encoder(), t5.model.get_decoder())
    ]
    try:
        found = dict(likelihoods(t5, pairs, 4096))
    finally:
        for handle in handles:
            handle.remove()
    lost = {pairs[index][0] for index, one in found.items() if one is None}
    assert lost == {source for source in SOURCES if len(source) > most}
    for index, one in found.items():
        if one is not None:
            assert one.logprob == pytest.approx(want[index].logprob, abs=1e-4)


# --- writing --------------------------------------------------------------------------------------------------------


def spelled(ids):
    return "".join(chr(0x61 + token) for token in ids)


def prompt(source, most=12, ends=(END,), **options):
    return Prompt(tuple(source), Options(max_tokens=most, **options), frozenset(ends), f"0/{source}")


def generated(pair, source, most):
    with torch.inference_mode():
        whole = pair.model.generate(
            torch.tensor([source]), max_new_tokens=most, num_beams=1, do_sample=False, use_cache=True
        )
    return whole[0, 1:].tolist()


def test_answers_are_those_of_generate_one_at_a_time(pair):
    prompts = [prompt(source, most) for source in SOURCES for most in (1, 5, 14)]
    found = dict(answers(pair, prompts, spelled, 4096))
    for index, one in enumerate(prompts):
        new = generated(pair, one.tokens, one.options.max_tokens)
        ended = new[-1] == END
        assert found[index].tokens == len(new)
        assert found[index].text == spelled(new[:-1] if ended else new)
        assert found[index].finish is (FinishReason.stop if ended else FinishReason.length)


def test_an_answer_ends_at_its_own_end_token_or_stop_string(t5):
    plain = dict(answers(t5, [prompt(SOURCES[1], ends=())], spelled, 64))[0].text
    third = ord(plain[2]) - 0x61
    cut = dict(answers(t5, [prompt(SOURCES[1], ends=()), prompt(SOURCES[1], ends=(third,))], spelled, 64))
    assert cut[0].text == plain
    assert cut[1].text == plain[: plain.index(plain[2])]
    assert (cut[1].finish, cut[1].tokens) == (FinishReason.stop, len(cut[1].text) + 1)
    stopped = dict(answers(t5, [prompt(SOURCES[1], ends=(), stop=(plain[2:4],))], spelled, 64))[0]
    assert stopped.text == plain[: plain.index(plain[2:4])]
    assert stopped.finish is FinishReason.stop


def test_equal_sources_are_encoded_once_and_draws_belong_to_the_row(t5):
    warm = [
        Prompt(SOURCES[2], Options(max_tokens=9, temperature=1.5), frozenset((END,)), f"{seed}/x") for seed in range(6)
    ]
    with Counted(t5) as counted:
        together = dict(answers(t5, [*warm, prompt(SOURCES[2])], spelled, 4096))
    assert counted.encoded == len(SOURCES[2])
    assert len({together[number].text for number in range(6)}) > 1
    for number, one in enumerate(warm):
        assert dict(answers(t5, [one], spelled, 4096))[0].text == together[number].text


def test_rows_that_ended_leave_the_batch(t5):
    prompts = [prompt(source, 2, ends=()) for source in SOURCES[:4]] + [prompt(SOURCES[4], 20, ends=())]
    with Counted(t5) as counted:
        found = dict(answers(t5, prompts, spelled, 4096))
    assert [found[number].tokens for number in range(5)] == [2, 2, 2, 2, 20]
    assert counted.decoded == 5 * 2 + 18


def test_answers_survive_too_little_memory_and_one_that_never_fits_is_given_up(t5):
    prompts = [prompt(source) for source in SOURCES]
    want = dict(answers(t5, prompts, spelled, 4096))

    def hook(module, args, kwargs):
        if kwargs["encoder_hidden_states"].shape[:2].numel() > 24:
            raise torch.OutOfMemoryError("injected")

    handle = t5.model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    try:
        found = dict(answers(t5, prompts, spelled, 4096))
    finally:
        handle.remove()
    assert found.pop(3) is None  # the source of 30 tokens
    assert {number: (one.text, one.tokens) for number, one in found.items()} == {
        number: (want[number].text, want[number].tokens) for number in found
    }


def test_the_token_that_every_answer_begins_with_is_kept():
    model = build("mbart")
    model.generation_config.forced_bos_token_id = 50
    forced = EncoderDecoder(Network(model))
    found = dict(answers(forced, [prompt(source, 6) for source in SOURCES], spelled, 4096))
    for number, source in enumerate(SOURCES):
        new = generated(forced, source, 6)
        assert new[0] == 50
        assert found[number].text == spelled(new[:-1] if new[-1] == END else new)


def test_the_limits_are_those_of_the_tables_of_positions():
    assert EncoderDecoder(Network(build("bart"))).longest_target == 64
    led = EncoderDecoder(Network(build("led")))
    assert (led.longest_source, led.longest_target) == (64, 48)
    assert EncoderDecoder(Network(build("t5"))).longest_target is None


def test_a_model_without_a_start_token_is_refused():
    model = build("t5")
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="no decoder_start_token_id"):
        dict(likelihoods(EncoderDecoder(Network(model)), [(SOURCES[0], (5,))], 64))
