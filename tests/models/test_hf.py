"""The hf: backend: folders and GGUF files, chat and plain text, choices and texts, errors one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.engine.network import Level  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.models import Model, Scorer, load_model  # noqa: E402
from vevals.models.hf import load  # noqa: E402
from vevals.types import ErrorKind, FinishReason, Message, Options, Request  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LINES = [
    "The customer asks where the parcel is and wants the money back.",
    "Answer with one of these labels: refund, delivery, cancel the order.",
    "Question: what is the capital of France? Answer: Paris.",
    "naïve café 東京 and 北京 are not the same, 😀 no.",
]


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE trained on a few lines: it adds BOS, and knows <|end|> as the end of a turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(LINES, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def folder(tokenizer, tmp_path_factory):
    """A random model of two layers with a chat template."""
    return write(tmp_path_factory.mktemp("models") / "tiny", tokenizer)


def write(path, tokenizer, template=TEMPLATE, seed=0, **changes):
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "eos_token_id": 2,
        "bos_token_id": 1,
    }
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(LlamaConfig(**{**shape, **changes})).save_pretrained(path)
    tokenizer.save_pretrained(path)
    if template:
        (path / "chat_template.jinja").write_text(template)
    return path


@pytest.fixture(scope="session")
def tiny(folder):
    return load(str(folder), {"device": "cpu"})


@pytest.fixture(scope="session")
def plain(folder):
    return load(str(folder), {"device": "cpu", "chat": "no"})


def ask(id, text, kind="generate", **fields):
    return Request(id, kind, (Message("user", text),), **fields)


def by_id(responses):
    found = list(responses)
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


def reference(model, context, choices):
    """Each choice by itself: the pair rule by hand, full logits, float32."""
    opened = model._open()
    found = []
    for choice in choices:
        kept = context.rstrip()
        ids, whole = [opened.encode([text], model.template is None)[0] for text in (kept, context + choice)]
        ending = whole[len(ids) :]
        with torch.inference_mode():
            logits = opened.network.model(torch.tensor([ids + ending[:-1]])).logits[0, len(ids) - 1 :]
        logprobs = logits.log_softmax(-1)
        found.append(float(logprobs[range(len(ending)), ending].sum()))
    return found


def test_it_is_a_model_and_a_scorer(tiny):
    assert isinstance(tiny, Model)
    assert isinstance(tiny, Scorer)
    assert tiny.name == "hf:tiny"


def test_loading_reads_no_weights_and_imports_no_torch(folder):
    code = "import sys; from vevals.models import load_model\n"
    code += f"model = load_model('hf:{folder}'); dict(model.identity)\n"
    code += "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_setting_is_refused_with_the_known_ones(folder):
    with pytest.raises(ModelError, match="no setting 'dtpye'; it has dtype, device, chat"):
        load(str(folder), {"dtpye": "float32"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("dtype", "int8"), ("chat", "maybe"), ("batch_tokens", "0"), ("batch_tokens", "x"), ("truncate", "right")],
)
def test_a_value_that_a_setting_cannot_have_is_refused(folder, key, value):
    with pytest.raises(ModelError, match=f"{key} is '{value}'"):
        load(str(folder), {key: value})


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", "absent.gguf", "~/absent-model"])
def test_a_path_at_which_nothing_lies_is_an_error(name):
    with pytest.raises(ModelError, match="no such folder or file"):
        load(name, {})


def test_a_folder_that_is_no_model_and_a_file_that_is_none_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.gguf").write_text("x")
    for name, said in (
        ("empty", "is empty"),
        ("other", "no config.json"),
        ("notes.txt", "no .gguf"),
        ("broken.gguf", "GGUF"),
    ):
        with pytest.raises(ModelError, match=said):
            load(str(tmp_path / name), {})


def test_a_revision_of_a_folder_is_refused(folder):
    with pytest.raises(ModelError, match="revision"):
        load(str(folder), {"revision": "main"})


def test_weights_that_lack_a_tensor_are_not_made_up(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        list(load(str(broken), {}).generate([ask("a", "x")]))


def test_the_identity_is_json_the_same_each_time_and_knows_no_folder(folder, tokenizer, tmp_path):
    first = load(str(folder), {"device": "cpu"}).identity
    copy = write(tmp_path / "tiny", tokenizer)
    assert json.loads(json.dumps(first)) == first
    assert load(str(copy), {"device": "cpu"}).identity == first
    assert str(folder.parent) not in json.dumps(first)
    assert {key: first[key] for key in ("kind", "source", "revision", "chat", "dtype", "truncate")} == {
        "kind": "hf",
        "source": "tiny",
        "revision": None,
        "chat": "yes",
        "dtype": "float32",
        "truncate": "none",
    }
    assert first["backend"].startswith("transformers 5.")


def test_the_identity_differs_wherever_an_answer_could(folder, tokenizer, tmp_path):
    first = load(str(folder), {"device": "cpu"}).identity
    weights = load(str(write(tmp_path / "a" / "tiny", tokenizer, seed=1)), {"device": "cpu"}).identity
    template = load(
        str(write(tmp_path / "b" / "tiny", tokenizer, template="{{ messages }}")), {"device": "cpu"}
    ).identity
    config = load(str(write(tmp_path / "c" / "tiny", tokenizer, rms_norm_eps=0.1)), {"device": "cpu"}).identity
    settings = [{"chat": "no"}, {"dtype": "bfloat16"}, {"truncate": "left"}]
    others = [load(str(folder), {"device": "cpu", **changed}).identity for changed in settings]
    every = [first, weights, template, config, *others]
    assert len({json.dumps(one, sort_keys=True) for one in every}) == len(every)
    assert (weights["weights"] != first["weights"], weights["tokenizer"]) == (True, first["tokenizer"])
    assert template["chat_template"] != first["chat_template"]
    assert config["config"] != first["config"]


def test_speed_settings_are_not_part_of_the_identity(folder):
    assert (
        load(str(folder), {"batch_tokens": "7", "device": "cpu"}).identity
        == load(str(folder), {"device": "cpu"}).identity
    )


def test_chat_without_a_template_is_refused_and_auto_falls_back_to_text(tokenizer, tmp_path):
    bare = write(tmp_path / "bare", tokenizer, template=None)
    with pytest.raises(ModelError, match="a model without chat template asked for chat; use chat=no"):
        load(str(bare), {"chat": "yes"})
    model = load(str(bare), {"device": "cpu"})
    assert (model.identity["chat"], model.identity["chat_template"]) == ("no", None)
    found = by_id(model.generate([ask("a", "hello", options=Options(max_tokens=3))]))["a"]
    assert found.input_tokens == len(tokenizer("hello")["input_ids"])


def test_a_chat_prompt_gets_no_special_tokens_twice(tiny, tokenizer):
    found = by_id(tiny.generate([ask("a", "hello", options=Options(max_tokens=3))]))["a"]
    want = tokenizer("<|user|>hello<|end|>\n<|assistant|>\n", add_special_tokens=False)["input_ids"]
    assert found.input_tokens == len(want)


def test_a_text_that_starts_with_bos_gets_no_second_one(plain, tokenizer):
    found = by_id(plain.generate([ask(text, text, options=Options(max_tokens=3)) for text in ("<s>hello", "hello")]))
    assert found["<s>hello"].input_tokens == found["hello"].input_tokens == len(tokenizer("hello")["input_ids"])


def test_plain_text_joins_the_messages_with_the_system_first(plain, tokenizer):
    messages = (Message("user", "one"), Message("system", "rules"), Message("user", "two"))
    found = by_id(plain.generate([Request("a", "generate", messages, Options(max_tokens=2))]))["a"]
    assert found.input_tokens == len(tokenizer("rules\n\none\n\ntwo")["input_ids"])


def test_the_turn_ends_at_the_token_of_the_template(tiny, tokenizer):
    assert tiny._open().ends == {2, tokenizer.convert_tokens_to_ids("<|end|>")}


def test_a_batch_of_one_writes_what_a_batch_of_many_writes(tiny, plain):
    options = [Options(max_tokens=size) for size in (1, 5, 9, 20)]
    asked = [ask(f"{n}", line * (1 + n % 3), options=options[n % 4]) for n, line in enumerate(LINES * 2)]
    for model in (tiny, plain):
        together = by_id(model.generate(asked))
        for request in asked:
            (alone,) = model.generate([request])
            assert replace(together[request.id], seconds=0) == replace(alone, seconds=0)


def test_a_text_stops_at_a_stop_string_or_at_its_limit(plain):
    whole = by_id(plain.generate([ask("a", LINES[0], options=Options(max_tokens=12))]))["a"]
    assert (whole.finish_reason, whole.output_tokens) == (FinishReason.length, 12)
    stop = whole.text[4:7]
    cut = by_id(plain.generate([ask("a", LINES[0], options=Options(max_tokens=12, stop=(stop,)))]))["a"]
    assert cut.text == whole.text[: whole.text.find(stop)]
    assert cut.finish_reason is FinishReason.stop
    assert cut.output_tokens <= 12


def test_a_special_token_can_be_a_stop_string(tiny, tokenizer):
    tokens = tiny._open()
    request = ask("a", LINES[0], options=Options(max_tokens=5, stop=("<|user|>",)))
    ((_, prompt),) = tiny._prompts([request], tokens)
    assert tokenizer.convert_tokens_to_ids("<|user|>") in prompt.ends


CHOICES = (
    "refund",
    "delivery",
    "refund the money",
    "refund the order",
    "re",
    "東京",
    "東京 and 北京",
    "😀",
    "naïve café",
    "refund",
    " refund",
    "\nrefund",
)


@pytest.mark.parametrize("chat", ["yes", "no"])
def test_scores_are_those_of_each_pair_by_itself(folder, chat):
    model = load(str(folder), {"chat": chat, "device": "cpu"})
    texts = ["Where is it?", "Where is it? ", "ends with a newline\n", "q" * 20, "京"]
    found = by_id(model.loglikelihood([ask(text, text, "loglikelihood", choices=CHOICES) for text in texts]))
    for text in texts:
        context = f"<|user|>{text}<|end|>\n<|assistant|>\n" if chat == "yes" else text
        spaced = chat == "yes" or text[-1].isspace()
        written = [choice if spaced or choice[0] in "東" else f" {choice}" for choice in CHOICES]
        assert found[text].logprobs == pytest.approx(reference(model, context, written), abs=1e-4)
        assert found[text].logprobs[0] == found[text].logprobs[CHOICES.index("refund", 1)]
        assert len(found[text].greedy) == len(found[text].choice_tokens) == len(CHOICES)


def test_token_counts_are_of_the_choice_and_of_the_prompt(tiny, tokenizer):
    found = by_id(tiny.loglikelihood([ask("a", "Where?", "loglikelihood", choices=("refund", "cancel the order"))]))[
        "a"
    ]

    def count(text):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert found.choice_tokens == (count("refund"), count("cancel the order"))
    assert found.input_tokens == count("<|user|>Where?<|end|>\n<|assistant|>\n")


def test_the_answer_that_would_be_written_is_greedy(tiny):
    written = by_id(tiny.generate([ask("a", "Where?", options=Options(max_tokens=1))]))["a"].text
    asked = ask("a", "Where?", "loglikelihood", choices=(written, written + " order", "cancel the order"))
    found = by_id(tiny.loglikelihood([asked]))["a"]
    opened = tiny._open()
    first = opened.encode(["<|user|>Where?<|end|>\n<|assistant|>"], False)[0]
    with torch.inference_mode():
        newline = (
            int(opened.network.model(torch.tensor([first])).logits[0, -1].argmax())
            == opened.encode(["\n"], False)[0][0]
        )
    assert found.greedy[0] is newline
    assert found.greedy[2] is False


def test_scores_do_not_depend_on_the_batch(folder, tiny):
    asked = [ask(str(n), line, "loglikelihood", choices=CHOICES) for n, line in enumerate(LINES)]
    together = by_id(tiny.loglikelihood(asked))
    small = by_id(load(str(folder), {"batch_tokens": "1", "device": "cpu"}).loglikelihood(asked))
    for request in asked:
        (alone,) = tiny.loglikelihood([request])
        assert alone.logprobs == pytest.approx(together[request.id].logprobs, abs=1e-4)
        assert small[request.id].logprobs == pytest.approx(together[request.id].logprobs, abs=1e-4)
        assert alone.greedy == small[request.id].greedy == together[request.id].greedy


def test_a_bad_request_is_answered_and_hurts_no_other(tiny):
    good = ask("good", "hello", options=Options(max_tokens=3))
    (alone,) = tiny.generate([good])
    bad = [
        ask("zero", "hello", options=Options(max_tokens=0)),
        ask("cold", "hello", options=Options(temperature=-1.0)),
        ask("nucleus", "hello", options=Options(top_p=0.0)),
        ask("stop", "hello", options=Options(stop=("",))),
        ask("half a character", "\ud800"),
        Request("template", "generate", (Message("tool", "x"),)),
    ]
    found = by_id(tiny.generate([*bad[:3], good, *bad[3:]]))
    assert len(found) == 7
    assert replace(found.pop("good"), seconds=0) == replace(alone, seconds=0)
    for response in found.values():
        assert response.error_kind is ErrorKind.bad_request
        assert response.finish_reason is FinishReason.error
    assert "no tools here" in found["template"].error


def test_choices_that_cannot_be_scored_are_errors_of_their_request(tiny):
    good = ask("good", "hello", "loglikelihood", choices=("refund",))
    bad = [
        ask("empty", "hello", "loglikelihood", choices=("refund", "")),
        ask("none", "hello", "loglikelihood"),
        ask("half", "hello", "loglikelihood", choices=("\udfff",)),
    ]
    found = by_id(tiny.loglikelihood([*bad, good]))
    assert found["good"].error is None
    assert all(found[one.id].error_kind is ErrorKind.bad_request for one in bad)
    assert "an empty choice" in found["empty"].error


def test_an_input_that_is_too_long_is_an_error_or_cut_on_request(folder, plain):
    long = " ".join(LINES * 10)
    asked = [ask("long", long, options=Options(max_tokens=8)), ask("short", "hi", options=Options(max_tokens=8))]
    found = by_id(plain.generate(asked))
    assert found["long"].error_kind is ErrorKind.too_long
    assert "128" in found["long"].error
    assert found["short"].error is None
    cutting = load(str(folder), {"chat": "no", "truncate": "left", "device": "cpu"})
    assert by_id(cutting.generate(asked))["long"].input_tokens == 120
    assert (
        by_id(cutting.generate([ask("all", "hi", options=Options(max_tokens=128))]))["all"].error_kind
        is ErrorKind.too_long
    )


def test_choices_that_are_too_long_are_errors_or_cut_each_by_itself(folder, plain):
    long = " ".join(LINES * 10)
    asked = [
        ask("long", long, "loglikelihood", choices=("refund", "cancel the order")),
        ask("choice", "hi", "loglikelihood", choices=(long,)),
    ]
    assert {one.error_kind for one in plain.loglikelihood(asked)} == {ErrorKind.too_long}
    cutting = load(str(folder), {"chat": "no", "truncate": "left", "device": "cpu"})
    found = by_id(cutting.loglikelihood(asked))
    assert found["choice"].error_kind is ErrorKind.too_long
    opened = cutting._open()
    context = opened.encode([long], True)[0]
    for choice, logprob in zip(("refund", "cancel the order"), found["long"].logprobs, strict=True):
        ending = opened.encode([f"{long} {choice}"], True)[0][len(context) :]
        tokens = (context + ending)[-129:]
        with torch.inference_mode():
            logprobs = opened.network.model(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
        places = range(len(tokens) - len(ending) - 1, len(tokens) - 1)
        assert logprob == pytest.approx(float(logprobs[places, ending].sum()), abs=1e-4)


def test_a_request_that_does_not_fit_into_memory_is_an_error_and_the_others_are_answered(folder):
    model = load(str(folder), {"chat": "no", "device": "cpu"})
    body = model._open().network.model.base_model

    def hook(module, args, kwargs):
        if kwargs["input_ids"].numel() > 40:
            raise torch.OutOfMemoryError("injected")

    handle = body.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        texts = {"long": " ".join(LINES[:3]), "a": "hi", "b": "hello", "c": "Where is the parcel?"}
        generated = by_id(model.generate([ask(id, text, options=Options(max_tokens=4)) for id, text in texts.items()]))
        scored = by_id(
            model.loglikelihood([ask(id, text, "loglikelihood", choices=CHOICES[:3]) for id, text in texts.items()])
        )
    finally:
        handle.remove()
    for found in (generated, scored):
        assert found.pop("long").error_kind is ErrorKind.out_of_memory
        assert all(response.error is None for response in found.values())


def test_a_closed_model_can_be_asked_again(folder):
    model = load(str(folder), {"device": "cpu"})
    model.close()
    (first,) = model.generate([ask("a", "hello", options=Options(max_tokens=3))])
    model.close()
    (second,) = model.generate([ask("a", "hello", options=Options(max_tokens=3))])
    assert first.text == second.text


def test_no_requests_give_no_responses(tiny):
    assert list(tiny.generate([])) == list(tiny.loglikelihood([])) == []


def test_draws_repeat_with_the_seed_of_the_request(plain):
    asked = [
        ask(id, LINES[0], options=Options(max_tokens=8, temperature=1.0), seed=seed)
        for id, seed in (("a", 1), ("b", 1))
    ]
    first, again = by_id(plain.generate(asked)), by_id(plain.generate(asked[:1]))
    assert first["a"].text == again["a"].text != first["b"].text
    assert by_id(plain.generate([replace(asked[0], seed=2)]))["a"].text != first["a"].text


@pytest.fixture(scope="session")
def embedded(smollm2):
    """The embedded GGUF model on the CPU, converted into the user's cache at the first use."""
    return load_model(f"{smollm2}?device=cpu")


@pytest.mark.model
def test_the_embedded_model_writes_what_transformers_writes_one_prompt_at_a_time(embedded):
    questions = ["What is the capital of France?", "Say hi.", "Name three colours.", LINES[0], LINES[3]]
    questions += [f"Summarise in one sentence: {' '.join(LINES[:n] * 2)}" for n in (1, 2, 3)]
    questions += ["2+2=", "Translate 'good morning' into Spanish.", "x", "Why is the sky blue? Be brief."]
    asked = [ask(str(n), text, options=Options(max_tokens=10)) for n, text in enumerate(questions)]
    found = by_id(embedded.generate(asked))
    opened = embedded._open()
    for request, _ in zip(asked, range(12), strict=True):
        ids = opened.encode([opened.rendered(request.messages)], False)[0]
        with torch.inference_mode():
            new = opened.network.model.generate(torch.tensor([ids]), max_new_tokens=10, do_sample=False)[0, len(ids) :]
        ended = int(new[-1]) in opened.ends
        assert found[request.id].text == opened.text(new.tolist())
        assert found[request.id].input_tokens == len(ids)
        assert found[request.id].output_tokens == len(new)
        assert found[request.id].finish_reason is (FinishReason.stop if ended else FinishReason.length)


@pytest.mark.model
def test_the_embedded_model_scores_what_each_pair_scores_by_itself(embedded):
    choices = ("Paris", "Paris, France", "London", "London is the capital", "パリ", "I do not know")
    found = by_id(
        embedded.loglikelihood([ask("a", "What is the capital of France?", "loglikelihood", choices=choices)])
    )
    opened = embedded._open()
    context = opened.rendered((Message("user", "What is the capital of France?"),))
    assert found["a"].logprobs == pytest.approx(reference(embedded, context, choices), abs=1e-4)
    assert opened.network.level is Level.L2
    assert max(found["a"].logprobs) == found["a"].logprobs[0]


@pytest.mark.model
def test_the_embedded_model_has_an_identity_without_being_loaded(smollm2):
    identity = load_model(smollm2).identity
    assert identity["source"].endswith(".gguf")
    assert identity["chat"] == "yes"
    assert len(identity["weights"]) == 64
    assert Path(identity["source"]).name == identity["source"]


def test_texts_are_encoded_in_one_call_however_many_requests_there_are(folder, monkeypatch):
    from vevals.engine.load import Loaded

    model = load(str(folder), {"device": "cpu"})
    calls = []
    encode = Loaded.encode
    monkeypatch.setattr(
        Loaded, "encode", lambda self, texts, special: calls.append(len(texts)) or encode(self, texts, special)
    )
    requests = [ask(str(number), f"parcel {number}", "loglikelihood", choices=("a", "b")) for number in range(700)]
    assert len(list(model.loglikelihood(requests))) == 700
    assert calls == [4 * 700]


def test_many_choices_behind_a_long_prompt_are_encoded_with_its_end_only(folder, monkeypatch):
    from vevals.engine import pairs
    from vevals.engine.load import Loaded

    model = load(str(folder), {"device": "cpu", "chat": "no"})
    listed = "Labels: " + ", ".join(f"refund {number}" for number in range(12))
    requests = [
        Request(str(number), "loglikelihood", (), prompts=(prompt,), choices=(" a", " be"))
        for number in range(20)
        for prompt in [f"{listed}\nticket {number} from the customer, what is its label:"]
    ]
    want = {one.id: one.logprobs for one in model.loglikelihood(requests)}
    monkeypatch.setattr(pairs, "MANY_CHARACTERS", 100)
    seen = []
    encode = Loaded.encode
    monkeypatch.setattr(
        Loaded, "encode", lambda self, texts, special: seen.extend(texts) or encode(self, texts, special)
    )
    assert {one.id: one.logprobs for one in model.loglikelihood(requests)} == want
    tails = [text for text in seen if text.endswith((" a", " be")) and "Labels" not in text]
    assert len(tails) == len(set(tails)) < len(requests) * 2


def test_a_prompt_of_its_own_for_each_choice_is_scored_as_it_stands(plain):
    request = Request("1", "loglikelihood", (), prompts=("Anna said", "The parcel said"), choices=(" yes", " yes"))
    found = by_id(plain.loglikelihood([request]))["1"]
    one, other = [
        by_id(plain.loglikelihood([replace(request, prompts=(prompt,), choices=(" yes",))]))["1"].logprobs[0]
        for prompt in request.prompts
    ]
    assert found.logprobs == pytest.approx((one, other), abs=1e-4)
    assert one != pytest.approx(other, abs=1e-3)


def test_prompts_that_do_not_fit_the_choices_are_refused(plain):
    request = Request("1", "loglikelihood", (), prompts=("a", "b"), choices=("x", "y", "z"))
    assert "2 prompts for 3 choices" in by_id(plain.loglikelihood([request]))["1"].error


def test_plain_prompts_pass_the_chat_template_by(tiny, plain):
    request = Request("1", "generate", (), prompts=("Question: what",), options=Options(max_tokens=5))
    assert by_id(tiny.generate([request]))["1"].text == by_id(plain.generate([request]))["1"].text


def test_whole_texts_are_scored_and_an_empty_one_is_refused(plain):
    texts = ["The customer asks where the parcel is.", "", LINES[3] * 20]
    requests = [Request(str(number), "rolling", (), prompts=(text,)) for number, text in enumerate(texts)]
    found = by_id(plain.rolling(requests))
    assert found["1"].error == "the text is empty; nothing can be scored"
    opened = plain._open()
    ids = opened.encode([texts[0]], True)[0]
    with torch.inference_mode():
        logits = opened.network.model(torch.tensor([[opened.prefix, *ids[:-1]]])).logits[0].log_softmax(-1)
    assert found["0"].logprobs == pytest.approx((float(logits[range(len(ids)), ids].double().sum()),), abs=1e-3)
    assert found["0"].choice_tokens == (len(ids),)
    assert found["2"].choice_tokens[0] > opened.network.max_length


def test_the_level_is_known_after_a_question_has_been_scored(folder):
    model = load(str(folder), {"device": "cpu"})
    assert "level" not in model.conditions
    list(model.loglikelihood([ask("1", "parcel", "loglikelihood", choices=("a", "b"))]))
    assert model.conditions["level"] == "L2"
    assert model.conditions["device"] == "cpu"


def test_a_limit_beyond_that_of_the_config_is_refused(folder):
    model = load(str(folder), {"device": "cpu", "max_length": "129"})
    with pytest.raises(ModelError, match="max_length is 129, but its config allows 128 tokens"):
        list(model.generate([ask("1", "parcel")]))


def test_a_smaller_limit_is_kept_to_and_part_of_the_name_and_identity(folder):
    model = load(str(folder), {"device": "cpu", "max_length": "20"})
    assert model.name.endswith("?max_length=20")
    assert model.identity != load(str(folder), {"device": "cpu"}).identity
    (found,) = model.generate([ask("1", "Where is the parcel? " * 5, options=Options(max_tokens=5))])
    assert found.error_kind is ErrorKind.too_long
    assert "more than the model's 20" in found.error
