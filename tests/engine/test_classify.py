"""Classifiers: rows read together against one row at a time through the plain model."""

from __future__ import annotations

import math
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.engine.classify import Coded, Heads, Reading, verdicts  # noqa: E402
from vevals.engine.network import Network  # noqa: E402

VOCABULARY, LABELS, PAD = 96, 5, 1
READINGS = {
    "bert": Reading.padded,
    "distilbert": Reading.padded,
    "roberta": Reading.padded,
    "deberta": Reading.padded,
    "modernbert": Reading.padded,
    "electra": Reading.padded,
    "bart": Reading.padded,
    "t5": Reading.padded,
    "llama": Reading.end,
    "qwen2": Reading.end,
    "gpt2": Reading.end,
    "bloom": Reading.end,
    "mistral": Reading.end,
    "opt": Reading.end,
    "xlnet": Reading.alone,
}


def build(kind, seed=0, **changes):
    """A random classifier of two layers with five labels. Only encoders know a pad token."""
    import transformers as hf

    torch.manual_seed(seed)
    ids = {"vocab_size": VOCABULARY, "num_labels": LABELS, "initializer_range": 0.3}
    body = {**ids, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    body |= {"max_position_embeddings": 64}
    encoder, decoder = {**body, "pad_token_id": PAD}, {**body, "pad_token_id": None, "num_key_value_heads": 2}
    configs = {
        "bert": lambda: hf.BertConfig(**encoder),
        "distilbert": lambda: hf.DistilBertConfig(
            **ids, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64, pad_token_id=PAD
        ),
        "roberta": lambda: hf.RobertaConfig(**encoder),
        "deberta": lambda: hf.DebertaV2Config(**encoder, relative_attention=True, pos_att_type=["p2c", "c2p"]),
        "modernbert": lambda: hf.ModernBertConfig(**encoder, global_attn_every_n_layers=2, local_attention=8),
        "electra": lambda: hf.ElectraConfig(**encoder, embedding_size=32),
        "bart": lambda: hf.BartConfig(
            **{**ids, "init_std": 0.3, "pad_token_id": PAD, "eos_token_id": 2, "bos_token_id": 0},
            **{f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in SIDE.items()},
            d_model=32,
            max_position_embeddings=64,
        ),
        "t5": lambda: hf.T5Config(
            vocab_size=VOCABULARY,
            num_labels=LABELS,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            pad_token_id=PAD,
            eos_token_id=2,
            decoder_start_token_id=PAD,
        ),
        "llama": lambda: hf.LlamaConfig(**decoder),
        "qwen2": lambda: hf.Qwen2Config(**decoder),
        "mistral": lambda: hf.MistralConfig(**decoder, sliding_window=8),
        "gpt2": lambda: hf.GPT2Config(**ids, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        "bloom": lambda: hf.BloomConfig(**{**ids, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": None}),
        "opt": lambda: hf.OPTConfig(
            **ids,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            ffn_dim=64,
            max_position_embeddings=64,
            word_embed_proj_dim=32,
            pad_token_id=None,
        ),
        "xlnet": lambda: hf.XLNetConfig(**ids, d_model=32, n_layer=2, n_head=4, d_inner=64),
    }
    config = configs[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    return hf.AutoModelForSequenceClassification.from_config(config).eval()


SIDE = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}


def coded(seed, count, types=False):
    """A text of ``count`` tokens that ends as encoders' texts do."""
    draw = random.Random(f"text {seed}")
    tokens = (*(draw.randrange(3, VOCABULARY) for _ in range(count - 1)), 2)
    return Coded(tokens, tuple(int(place > count // 2) for place in range(count)) if types else ())


ROWS = [coded(number, count) for number, count in enumerate((5, 17, 3, 30, 11, 17, 9))]


def alone(model, row):
    shape = {"token_type_ids": torch.tensor([row.types])} if row.types else {}
    with torch.inference_mode():
        return model(input_ids=torch.tensor([row.tokens]), **shape).logits[0]


def heads(model, several=False):
    fill = model.config.pad_token_id
    return Heads(Network(model), 0 if fill is None else fill, several)


@pytest.mark.parametrize("kind", READINGS)
def test_rows_that_are_read_together_get_what_each_gets_alone(kind):
    model = build(kind)
    types = kind == "bert"
    rows = [coded(number, len(row.tokens), types) for number, row in enumerate(ROWS)]
    read = heads(model)
    found = dict(verdicts(read, rows, 64))
    assert sorted(found) == list(range(len(rows)))
    for number, row in enumerate(rows):
        assert found[number].logprobs == pytest.approx(alone(model, row).log_softmax(-1).tolist(), abs=1e-4)
    assert read.reading is READINGS[kind]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_labels_that_stand_by_themselves_get_a_sigmoid(kind):
    model = build(kind)
    for number, found in verdicts(heads(model, several=True), ROWS, 64):
        assert found.logprobs == pytest.approx(alone(model, ROWS[number]).sigmoid().log().tolist(), abs=1e-4)
        assert not math.isclose(sum(map(math.exp, found.logprobs)), 1, abs_tol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("pad", [None, 2, 0])
def test_a_head_on_a_decoder_reads_each_row_at_its_own_last_token(kind, pad):
    """As the plain model does alone, also where the pad token of the config is a token that texts end with."""
    model = build(kind, pad_token_id=pad)
    rows = [*ROWS, Coded((5, 6, 0)), Coded((5, 0, 0, 7, 0)), Coded((9,))]
    read = heads(model)
    for number, found in verdicts(read, rows, 256):
        assert found.logprobs == pytest.approx(alone(model, rows[number]).log_softmax(-1).tolist(), abs=1e-4)
    assert read.reading is Reading.end


def test_texts_with_more_than_one_end_token_are_read_apart():
    """BART's head reads the last end token and wants as many in every row of a batch."""
    model = build("bart")
    rows = [*ROWS, Coded((4, 2, 9, 2)), Coded((7, 2, 2))]
    for number, found in verdicts(heads(model), rows, 256):
        assert found.logprobs == pytest.approx(alone(model, rows[number]).log_softmax(-1).tolist(), abs=1e-4)


def counted(model):
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def test_equal_rows_are_read_once_and_batches_hold_rows_of_like_length():
    model = build("bert")
    read = heads(model)
    dict(verdicts(read, ROWS[:2], 64))
    shapes = counted(model)
    rows = [coded(number, count) for number, count in enumerate((8, 16, 8, 16, 8, 16, 8, 16))]
    assert len(dict(verdicts(read, rows * 3, 64))) == 24
    assert shapes == [(4, 16), (4, 8)]


def test_what_does_not_fit_into_memory_is_halved_and_what_never_fits_is_given_up():
    model = build("bert")
    read = heads(model)
    want = dict(verdicts(read, ROWS, 4096))

    def hook(module, args, kwargs):
        if kwargs["input_ids"].numel() > 24:
            raise torch.OutOfMemoryError("injected")

    model.register_forward_pre_hook(hook, with_kwargs=True)
    found = dict(verdicts(read, ROWS, 4096))
    assert found.pop(3) is None
    for number, one in found.items():
        assert one.logprobs == pytest.approx(want[number].logprobs, abs=1e-4)


def test_too_little_memory_for_the_trial_is_no_end():
    model = build("bert")

    def hook(module, args, kwargs):
        if len(kwargs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("injected")

    model.register_forward_pre_hook(hook, with_kwargs=True)
    read = heads(model)
    found = dict(verdicts(read, ROWS, 4096))
    assert read.reading is None
    for number, one in found.items():
        assert one.logprobs == pytest.approx(alone(model, ROWS[number]).log_softmax(-1).tolist(), abs=1e-4)


@pytest.mark.parametrize("stated", [-1, 16])
def test_rows_of_one_length_as_long_as_can_be_still_try_padding(stated):
    """XLNet's last tokens change with what is padded before it decides."""
    model = build("xlnet")
    read = heads(model)
    read.network.max_length = stated
    rows = [coded(number, 16) for number in range(3)]
    dict(verdicts(read, rows, 256))
    assert read.reading is Reading.alone
    later = [coded(number, count) for number, count in enumerate((5, 9))]
    for number, found in verdicts(read, later, 256):
        assert found.logprobs == pytest.approx(alone(model, later[number]).log_softmax(-1).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "reading"), [("bert", Reading.padded), ("bart", Reading.padded), ("llama", Reading.end)]
)
def test_the_longest_rows_alone_settle_as_any_others_do(kind, reading):
    model = build(kind)
    read = heads(model)
    read.network.max_length = 16
    dict(verdicts(read, [coded(number, 16) for number in range(3)], 256))
    assert read.reading is reading


def test_rows_too_short_to_learn_from_settle_nothing():
    read = heads(build("bert"))
    assert len(dict(verdicts(read, [Coded((5, 2)), Coded((6, 2)), Coded((7,))], 64))) == 3
    assert read.reading is None
    dict(verdicts(read, ROWS, 64))
    assert read.reading is Reading.padded


def test_no_rows_give_no_verdicts():
    assert dict(verdicts(heads(build("bert")), [], 64)) == {}
