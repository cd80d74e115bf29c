"""vevals inside lm-eval, against lm-eval's own ``hf`` with the same weights in float32."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("lm_eval")

import lm_eval  # noqa: E402
import yaml  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.model import CachingLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

import vevals  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.harness.model import VevalsLM  # noqa: E402
from vevals.models import load_model  # noqa: E402
from vevals.models.hf import Settings  # noqa: E402

TOLERANCE = 1e-4
LIMIT = 96
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}{% if not loop.last or add_generation_prompt %}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LINES = [
    "The ferry leaves the harbour at seven, and the last train waits for it.",
    "Question: which animal guards the sheep? Answer: the dog. Which one gives wool? Answer: the sheep.",
    "naïve café, 上海 and 杭州 lie far apart, 😀 they say; цена is a price.",
    "A baker, a tailor, and a lighthouse keeper walked along the coast for three days.",
]


def tokenizer(bos):
    """A byte-level BPE trained on a few lines, with a BOS that it adds, or with nothing but an EOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["</s>", "<s>", "<|end|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        LINES,
        trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if not bos:
        return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", model_max_length=LIMIT)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", model_max_length=LIMIT)


def config(kind, size):
    import transformers as t

    shape = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
    wide = {**shape, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": 0}
    long = {**wide, "max_position_embeddings": LIMIT, "bos_token_id": 1}
    made = {
        "llama": lambda: t.LlamaConfig(**long),
        "gpt2": lambda: t.GPT2Config(
            vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=LIMIT, initializer_range=0.3, eos_token_id=0
        ),
        "qwen3": lambda: t.Qwen3Config(**long, head_dim=8),
        "gemma3": lambda: t.Gemma3TextConfig(**long, head_dim=8, sliding_window=16),
        "bloom": lambda: t.BloomConfig(vocab_size=size, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3),
    }
    return made[kind]()


BOS = {"llama": True, "gpt2": False, "qwen3": False, "gemma3": True, "bloom": True}


def written(path, kind):
    """A folder with a random model of two layers."""
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    torch.manual_seed(3)
    words = tokenizer(BOS[kind])
    AutoModelForCausalLM.from_config(config(kind, len(words))).save_pretrained(path)
    words.save_pretrained(path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return written(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session", params=BOS)
def folder(request, llama, tmp_path_factory):
    return llama if request.param == "llama" else written(tmp_path_factory.mktemp("models") / "tiny", request.param)


def hf(folder, batch):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch)


def ours(folder, **given):
    return VevalsLM(pretrained=str(folder), **{"device": "cpu", "dtype": "float32", **given})


def instances(kind, arguments):
    return [Instance(kind, {}, given, 0, ("task", place, 1)) for place, given in enumerate(arguments)]


FOX = "Question: which animal guards the sheep? Answer:"
PAIRS = [
    *(
        (FOX, answer)
        for answer in (" the dog", " the sheep", " the", " dog", " a lighthouse keeper", " the dog.", "dog")
    ),
    ("The ferry leaves ", "the harbour"),
    ("The ferry leaves \n ", "at seven"),
    ("", "The baker"),
    ("", " walked along the coast"),
    ("a line\n\n", "another"),
    ("上海 and", " 杭州 😀"),
    ("naïve café", ", цена"),
    ("the last train waits for it. " * 20, " A baker"),
    ("the last train waits for it. " * 20, " a tailor, and a lighthouse keeper walked along the coast"),
    ("the last train waits for it. " * 20 + "x", "y"),
    (FOX, " the dog"),
]
# No text repeats itself over a window: hf mixes up equal windows that begin elsewhere when its batch is above 1.
TEXTS = [
    "A baker.",
    " ".join(f"sheep {number}" for number in range(60)),
    "上海, naïve café 😀",
    LINES[0],
    "A baker.",
    " ",
    "; ".join(LINES) * 2,
]
PROMPTS = [
    (FOX, {"until": ["\n", "e"], "max_gen_toks": 24, "do_sample": False}),
    ("", {"until": "a", "max_gen_toks": 8}),
    ("The ferry", {"until": [], "max_gen_toks": 30, "do_sample": False, "temperature": 1}),
    ("The ferry", {"until": ["</s>", "qq", "the", " a"], "max_gen_toks": 30}),
    ("the last train waits for it. " * 20, {"until": ["er", "i"], "max_gen_toks": 12, "temperature": 0.0}),
    ("上海", {"until": ["\n\n"], "max_new_tokens": 20}),
    (FOX, {"until": ["\n", "e"], "max_gen_toks": 24, "do_sample": False}),
]


@pytest.mark.parametrize("batch", [1, 5])
def test_log_likelihoods_are_those_of_hf(folder, batch):
    asked = instances("loglikelihood", PAIRS)
    peer, found = hf(folder, batch).loglikelihood(asked), ours(folder).loglikelihood(asked)
    assert [one for one, _ in found] == pytest.approx([one for one, _ in peer], abs=TOLERANCE)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in peer]


def test_what_greedy_decoding_writes_is_greedy_for_both(folder):
    peer, mine = hf(folder, 1), ours(folder)
    asked = instances("generate_until", [(text, {"max_gen_toks": 4, "until": []}) for text in (FOX, *LINES)])
    pairs = [(one.args[0], text) for one, text in zip(asked, mine.generate_until(asked), strict=True)]
    scored = instances("loglikelihood", [pair for pair in pairs if pair[1]])
    found = [greedy for _, greedy in mine.loglikelihood(scored)]
    assert found == [greedy for _, greedy in peer.loglikelihood(scored)]


@pytest.mark.parametrize("batch", [1, 3])
def test_rolling_log_likelihoods_are_those_of_hf(folder, batch):
    asked = instances("loglikelihood_rolling", [(text,) for text in TEXTS])
    peer = hf(folder, batch).loglikelihood_rolling(asked)
    assert ours(folder).loglikelihood_rolling(asked) == pytest.approx(peer, abs=1e-3, rel=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_generated_texts_are_those_of_hf(folder, batch):
    prompts = [one for one in PROMPTS if one[0] or BOS[folder.name if folder.name in BOS else "gpt2"]]
    asked = instances("generate_until", prompts)
    assert ours(folder).generate_until(asked) == hf(folder, batch).generate_until(asked)


ANIMALS = [
    ("Which animal guards the sheep?", ["dog", "baker", "lighthouse keeper", "dog"], 0),
    ("Who works with bread?", ["the baker", "the tailor", "the last train"], 0),
    ("哪个城市? 上海 or", ["杭州", "café", "naïve 😀"], 1),
    ("the coast " * 60 + "Where do they walk?", ["along the coast", "harbour", "far apart for three days"], 2),
    ("Which one gives wool?", ["a", "the sheep", "they"], 1),
    ("Which leaves at seven?", ["ferry", "train"], 0),
]
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
TASKS = {
    "animals": {**CHOICE, "doc_to_text": "Question: {{question}}\nAnswer:"},
    "animals_spaced": {**CHOICE, "doc_to_text": "{{question}} ", "target_delimiter": ""},
    "animals_shots": {**CHOICE, "doc_to_text": "{{question}}\nAnswer:", "num_fewshot": 2, "fewshot_split": "test"},
    "endings": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[gold]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[gold]}}",
        "generation_kwargs": {"until": ["\n", "?", "er"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    """A folder of lm-eval tasks of every output type over a few questions."""
    place = tmp_path_factory.mktemp("tasks")
    rows = [{"question": text, "choices": choices, "gold": gold} for text, choices, gold in ANIMALS]
    (place / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    source = {"data_files": {"test": str(place / "rows.jsonl")}, "cache_dir": str(place / "cache")}
    for name, task in TASKS.items():
        whole = {"task": name, "dataset_path": "json", "dataset_kwargs": source, "test_split": "test"}
        whole = {**whole, "num_fewshot": 0, **task}
        (place / f"{name}.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True))
    return place


def evaluated(model, tasks, names=tuple(TASKS), **given):
    """lm-eval's evaluation of a loaded model, without the survey of the machine that ``simple_evaluate`` adds."""
    loaded = TaskManager(include_path=str(tasks), include_defaults=False).load(list(names))
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=1234)
    return lm_eval.evaluate(model, loaded, bootstrap_iters=0, log_samples=True, **given)


def answers(results, name):
    """The filtered answers of a task, document by document."""
    ordered = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    return [sample["filtered_resps"] for sample in ordered]


def agree(found, peer, names=tuple(TASKS)):
    """The same log-probabilities, choices, greedy flags, texts and metrics."""
    for name in names:
        for mine, theirs in zip(answers(found, name), answers(peer, name), strict=True):
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                same(one, other)
        for metric, value in peer["results"][name].items():
            if metric.partition(",")[0] in ("acc", "acc_norm", "exact_match"):
                assert found["results"][name][metric] == value
            elif isinstance(value, float):
                assert found["results"][name][metric] == pytest.approx(value, rel=1e-4)


def same(one, other):
    if isinstance(other, str):
        assert one == other
    elif isinstance(other, float):
        assert one == pytest.approx(other, abs=1e-3)
    else:
        assert one[0] == pytest.approx(other[0], abs=1e-3)
        assert one[1] == other[1]


@pytest.mark.parametrize("batch", [1, 7])
def test_tasks_of_every_output_type_come_out_as_with_hf(llama, tasks, batch):
    agree(evaluated(ours(llama), tasks), evaluated(hf(llama, batch), tasks))


@pytest.mark.model
@pytest.mark.slow
def test_tasks_come_out_as_with_hf_for_a_language_model(smollm2, tasks):
    from vevals.engine.gguf import converted

    weights = converted(load_model(smollm2)._path)
    names = [name for name in TASKS if name != "texts"]
    found = evaluated(VevalsLM(pretrained=smollm2, dtype="float32", device="cpu"), tasks, names)
    agree(found, evaluated(hf(weights, 4), tasks, names), names)


def test_chat_prompts_are_those_of_hf(llama, tasks):
    names, chat = ["animals_shots", "written"], {"apply_chat_template": True, "system_instruction": "Be brief."}
    for given in ({**chat, "fewshot_as_multiturn": False}, {"apply_chat_template": True, "fewshot_as_multiturn": True}):
        found, peer = evaluated(ours(llama), tasks, names, **given), evaluated(hf(llama, 2), tasks, names, **given)
        agree(found, peer, names)
        prompts = [sample["arguments"] for name in names for sample in found["samples"][name]]
        assert prompts == [sample["arguments"] for name in names for sample in peer["samples"][name]]


def test_a_system_turn_that_the_template_refuses_is_left_out_with_a_warning(llama, caplog):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    with caplog.at_level(logging.WARNING):
        assert ours(llama).apply_chat_template(turns) == "<|user|>hello<|end|>\n<|assistant|>\n"
    assert "refuses the system turn" in caplog.text


def test_an_answer_that_is_begun_is_not_closed(llama):
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "The answer is"}]
    expected = "<|user|>hello<|end|>\n<|assistant|>The answer is"
    assert ours(llama).apply_chat_template(turns, add_generation_prompt=False) == expected


def test_a_model_that_is_to_use_no_template_refuses_one(llama):
    with pytest.raises(ModelError, match="no chat template in use; leave out --apply_chat_template"):
        VevalsLM(pretrained=f"hf:{llama}?chat=no").apply_chat_template([{"role": "user", "content": "hello"}])


def test_only_the_default_template_can_be_asked_for(llama):
    model = ours(llama)
    assert model.chat_template(True) == model.chat_template("default") == TEMPLATE
    assert model.chat_template(False) is None
    with pytest.raises(ModelError, match="tool_use"):
        model.chat_template("tool_use")


class Recorder:
    """A model that keeps what it is asked, and asks another."""

    def __init__(self, model):
        self.inner, self.calls = model, []
        self.name, self.identity = model.name, model.identity

    def generate(self, requests):
        self.calls.append(list(requests))
        return self.inner.generate(requests)

    def loglikelihood(self, requests):
        self.calls.append(list(requests))
        return self.inner.loglikelihood(requests)

    def close(self):
        self.inner.close()


@pytest.fixture
def recorder(llama):
    return Recorder(load_model(f"hf:{llama}?device=cpu&truncate=left"))


def test_all_requests_go_to_the_engine_at_once_with_the_choices_of_a_context_together(recorder):
    VevalsLM(pretrained=recorder).loglikelihood(instances("loglikelihood", PAIRS))
    (asked,) = recorder.calls
    assert [request.prompts for request in asked] == [(context,) for context in dict.fromkeys(one for one, _ in PAIRS)]
    assert asked[0].choices == tuple(answer for _, answer in PAIRS[:7])


def test_the_same_greedy_question_is_asked_once_and_samples_are_each_drawn(recorder):
    model, greedy = VevalsLM(pretrained=recorder, seed=5), {"until": [], "max_gen_toks": 5}
    model.generate_until(instances("generate_until", [(FOX, greedy), (FOX, {**greedy, "do_sample": False})]))
    sampled = [Instance("generate_until", {}, (FOX, {**greedy, "temperature": 2.0}), 0, ("task", 7, 3))] * 3
    texts = model.generate_until(sampled)
    assert [[(request.id, request.seed) for request in call] for call in recorder.calls] == [
        [("task/0", 5)],
        [("task/7", 5), ("task/7#2", 5), ("task/7#3", 5)],
    ]
    assert len(set(texts)) > 1
    assert texts == VevalsLM(pretrained=recorder.inner, seed=5).generate_until(sampled)


def test_answers_come_from_lm_evals_cache_the_second_time(recorder, tasks, tmp_path):
    cached, names = CachingLM(VevalsLM(pretrained=recorder), str(tmp_path / "cache.db")), ["animals", "written"]
    first, second = evaluated(cached, tasks, names), evaluated(cached, tasks, names)
    assert [call[0].kind for call in recorder.calls] == ["loglikelihood", "generate"]
    assert first["results"] == second["results"]
    assert [answers(first, name) for name in names] == [answers(second, name) for name in names]
    cached.dbdict.close()


def test_a_request_that_fails_stops_the_run(llama):
    model = ours(llama, truncate="none")
    with pytest.raises(ModelError, match=r"failed on task/14: .* more than the model's 96; .* truncate=left"):
        model.loglikelihood(instances("loglikelihood", PAIRS[:15]))
    with pytest.raises(ModelError, match=r"failed on task/0: .*truncate=left"):
        model.generate_until(instances("generate_until", [PROMPTS[4]]))


def test_a_continuation_without_text_is_an_error_and_no_score(llama):
    with pytest.raises(ModelError, match=r"failed on task/0: .*empty choice"):
        ours(llama).loglikelihood(instances("loglikelihood", [(FOX, "")]))


def test_nothing_asked_is_nothing_answered(llama):
    assert ours(llama).loglikelihood([]) == ours(llama).generate_until([]) == []


@pytest.fixture
def recorded(workplace):
    """Recorded outputs for the task ``written``."""
    rows = [{"id": f"written/{place}", "text": f"{row[1][row[2]]}\nand more"} for place, row in enumerate(ANIMALS)]
    (workplace / "out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "replay:out.jsonl"


def test_recorded_outputs_are_scored_by_lm_eval_and_cut_at_its_stops(recorded, tasks):
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = lm_eval.simple_evaluate(
        "vevals", model_args=f"pretrained={recorded}", tasks=["written"], task_manager=manager, device="cuda:0"
    )
    expected = ["dog", "the bak", "café", "far apart for three days", "the sheep", "f"]
    assert answers(results, "written") == [[text] for text in expected]
    assert results["config"]["vevals"]["model"] == "replay:out.jsonl"


def test_a_model_that_cannot_score_says_so(recorded):
    model = VevalsLM(pretrained=recorded)
    with pytest.raises(ModelError, match="cannot score answers; use another model"):
        model.loglikelihood(instances("loglikelihood", PAIRS))
    with pytest.raises(ModelError, match="cannot score whole texts"):
        model.loglikelihood_rolling(instances("loglikelihood_rolling", [("text",)]))
    assert (model.tokenizer, model.max_length, model.chat_template(True)) == (None, None, "")


def test_turns_reach_a_model_without_a_tokenizer_as_turns(recorder):
    model = VevalsLM(pretrained=recorder)
    prompt = model.apply_chat_template([{"role": "user", "content": "hello “you”"}])
    model.generate_until(instances("generate_until", [(prompt, {"max_gen_toks": 2})]))
    ((request,),) = recorder.calls
    assert (request.prompts, [(one.role, one.content) for one in request.messages]) == ((), [("user", "hello “you”")])


def test_reference_models_have_nothing_to_say_here():
    with pytest.raises(ModelError, match="'fake:oracle' only repeats answers that it is shown"):
        VevalsLM(pretrained="fake:oracle")


def test_a_loaded_model_takes_no_settings(recorder):
    with pytest.raises(ModelError, match="'dtype' goes to load_model"):
        VevalsLM(pretrained=recorder, dtype="float32")


@pytest.mark.skipif("max_length" not in {field.name for field in fields(Settings)}, reason="hf: has no max_length yet")
def test_a_shorter_length_cuts_as_with_hf(llama):
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=str(llama), device="cpu", dtype="float32", max_length=24)
    asked = instances("loglikelihood", PAIRS)
    found = ours(llama, max_length=24)
    assert found.max_length == 24
    expected = [one for one, _ in peer.loglikelihood(asked)]
    assert [one for one, _ in found.loglikelihood(asked)] == pytest.approx(expected, abs=TOLERANCE)


def test_several_processes_are_refused(llama, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ModelError, match="runs in one process"):
        ours(llama)


def test_model_args_without_a_model_are_refused():
    with pytest.raises(ModelError, match="needs pretrained="):
        VevalsLM.create_from_arg_string("dtype=float32", {"batch_size": 1})


def test_registering_leaves_lm_evals_own_models_in_place():
    from lm_eval.api.registry import get_model

    assert get_model("vevals") is VevalsLM
    assert get_model("dummy").__module__ == "lm_eval.models.dummy"


def test_a_batch_size_is_accepted_with_a_note(llama, caplog):
    with caplog.at_level(logging.INFO):
        assert ours(llama, batch_size="auto:4", max_batch_size=64).model.name == "hf:llama?dtype=float32&truncate=left"
    assert "batch_size means nothing to --model vevals" in caplog.text


def command(*arguments, cwd):
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    root = str(Path(vevals.__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    line = [sys.executable, "-m", "vevals.harness", "run", "--model", "vevals", *arguments]
    environment = {**os.environ, **offline, "PYTHONPATH": paths}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command_line_of_lm_eval_runs_a_task_on_vevals(llama, tasks, workplace):
    done = command(
        *("--model_args", f"pretrained={llama},dtype=float32", "--tasks", "animals,written"),
        *("--include_path", str(tasks), "--output_path", "out", "--log_samples", "--batch_size", "8"),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (workplace / "out").rglob("results_*.json")
    written = json.loads(path.read_text())
    assert written["config"]["model"] == "vevals"
    assert written["config"]["vevals"]["identity"]["dtype"] == "float32"
    assert written["max_length"] == LIMIT
    expected = evaluated(ours(llama), tasks, ["animals", "written"])["results"]
    for name, metric in (("animals", "acc,none"), ("animals", "acc_norm,none"), ("written", "exact_match,none")):
        assert written["results"][name][metric] == expected[name][metric]


@pytest.mark.slow
def test_the_command_line_refuses_in_one_sentence(llama, tasks, workplace):
    arguments = ("--model_args", f"pretrained={llama},peft=x", "--tasks", "animals", "--include_path", str(tasks))
    done = command(*arguments, cwd=workplace)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("vevals: model_args: --model vevals has no argument 'peft'")
