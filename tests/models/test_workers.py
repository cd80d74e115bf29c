"""Several worker processes answer like one. They may die, be interrupted or be forgotten: nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vevals.errors import ModelError  # noqa: E402
from vevals.models import Classifier, Described, Model, Roller, Scorer  # noqa: E402
from vevals.models.hf import CausalModel, ClassifierModel, Settings  # noqa: E402
from vevals.models.hf.workers import parallel, seats  # noqa: E402
from vevals.types import ErrorKind, Options, Request  # noqa: E402

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not (PROC / "self" / "stat").is_file(), reason="looks for processes in /proc")
FRAGILE = '''
import os, signal
import torch
from transformers import LlamaForCausalLM

class FragileForCausalLM(LlamaForCausalLM):
    """Two tildes in a row end the process, two carets raise an error."""

    def __init__(self, config):
        super().__init__(config)
        self.model.embed_tokens.register_forward_pre_hook(self._look)

    def _look(self, module, inputs):
        ids = inputs[0]
        if ids.shape[-1] < 2:
            return
        twice = ids[:, 1:][ids[:, 1:] == ids[:, :-1]].tolist()
        if TILDE in twice:
            os.kill(os.getpid(), signal.SIGKILL)
        if CARET in twice:
            raise ValueError("carets are not read here")
'''


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", *letters])}
    raw = Tokenizer(models.BPE(vocab=known, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A random model of two layers."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **shape,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=2,
        bos_token_id=1,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "tiny"
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def single(folder):
    return CausalModel("tiny", folder, Settings(device="cpu"))


@pytest.fixture(scope="module")
def pair(folder):
    model = parallel(CausalModel("tiny", folder, Settings(device="cpu,cpu")))
    yield model
    model.close()


def ask(id, text, **fields):
    return Request(id, "generate", (), prompts=(text,), **fields)


def long_answers(count=96):
    """Enough work to do something in the middle of it."""
    return [ask(f"{n}", f"tell me of {n}: ", options=Options(max_tokens=4 + 96 * (n % 2))) for n in range(count)]


def by_id(responses):
    found = list(responses)
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


def workers_of(parent):
    """Worker processes that were started by ``parent`` and run."""
    found = []
    for entry in PROC.iterdir():
        try:
            state, before = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if int(before) == parent and state not in "ZX" and b"vevals.models.hf.process" in command:
            found.append(int(entry.name))
    return found


def running(pid):
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ended(pids, seconds=20):
    until = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(running, pids))


def test_it_can_be_asked_what_the_model_itself_can(pair, folder, single):
    assert isinstance(pair, Model) and isinstance(pair, Scorer) and isinstance(pair, Described)
    assert isinstance(pair, Roller) == isinstance(single, Roller)
    assert not isinstance(pair, Classifier)
    assert (pair.name, pair.identity, pair.template) == (single.name, single.identity, single.template)
    labels = parallel(ClassifierModel("tiny", folder, Settings(device="cpu,cpu")))
    assert isinstance(labels, Classifier) and not isinstance(labels, Scorer)
    assert hasattr(labels, "check_labels")


def test_starting_nothing_for_no_question(pair):
    before = workers_of(os.getpid())
    assert list(pair.generate([])) == []
    assert workers_of(os.getpid()) == before


def test_texts_are_those_of_one_process(pair, single):
    texts = ["ab" * (number % 7) + f" {number}" for number in range(40)]
    asked = [ask(f"g{n}", text, options=Options(max_tokens=20 + n % 5)) for n, text in enumerate(texts)]
    drawn = Options(max_tokens=12, temperature=1.0, top_p=0.9)
    asked += [ask(f"s{n}", text, options=drawn, seed=n) for n, text in enumerate(texts[:20])]
    found, wanted = by_id(pair.generate(asked)), by_id(single.generate(asked))
    assert found.keys() == wanted.keys() == {one.id for one in asked}
    for id, response in wanted.items():
        assert found[id].text == response.text
        assert found[id].finish_reason == response.finish_reason
        assert (found[id].input_tokens, found[id].output_tokens) == (response.input_tokens, response.output_tokens)


def test_log_probabilities_are_those_of_one_process(pair, single):
    shots = "Question: one? Answer: yes. " * 6
    asked = [
        Request(f"{n}", "loglikelihood", (), choices=(" yes", " no", " not at all"), prompts=(f"{shots}{n * n}?",))
        for n in range(60)
    ]
    found, wanted = by_id(pair.loglikelihood(asked)), by_id(single.loglikelihood(asked))
    assert found.keys() == wanted.keys()
    for id, response in wanted.items():
        assert found[id].logprobs == pytest.approx(response.logprobs, abs=2e-4)
        assert (found[id].greedy, found[id].choice_tokens) == (response.greedy, response.choice_tokens)


def test_a_bad_request_hurts_nobody_beside_it(pair):
    bad = [ask("long", "x" * 600), ask("none", "a", options=Options(max_tokens=0)), ask("surrogate", "\ud800")]
    good = [ask(f"{number}", f"{number}", options=Options(max_tokens=5)) for number in range(20)]
    found = by_id(pair.generate([*good[:10], *bad, *good[10:]]))
    assert [found[one.id].error_kind for one in bad] == [
        ErrorKind.too_long,
        ErrorKind.bad_request,
        ErrorKind.bad_request,
    ]
    assert all(found[one.id].error is None for one in good)


def test_the_conditions_name_devices_and_workers(pair):
    assert {one.error for one in pair.generate(long_answers(8))} == {None}
    conditions = pair.conditions
    assert conditions["devices"] == ["cpu", "cpu"]
    assert [one["device"] for one in conditions["workers"]] == ["cpu", "cpu"]
    json.dumps(conditions, allow_nan=False)


@needs_proc
@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_costs_no_answer(pair, single):
    assert len(list(pair.generate(long_answers(8)))) == 8  # both have loaded the model
    asked = long_answers()
    answers = pair.generate(asked)
    found = [next(answers)]
    victims = workers_of(os.getpid())
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    found += answers
    assert sorted(one.id for one in found) == sorted(one.id for one in asked)
    assert {one.error for one in found} == {None}
    assert pair.conditions["workers_died"] == 1
    wanted = by_id(single.generate(asked[:4]))
    assert all(one.text == wanted[one.id].text for one in found if one.id in wanted)


@needs_proc
@pytest.mark.slow
def test_a_call_that_is_not_read_to_its_end_ends_the_workers(pair):
    answers = pair.generate(long_answers())
    next(answers)
    pids = workers_of(os.getpid())
    assert len(pids) == 2
    answers.close()
    assert not any(map(running, pids))


@needs_proc
@pytest.mark.slow
def test_a_new_call_ends_an_older_one_that_is_still_open(pair):
    older = pair.generate(long_answers())
    next(older)
    pids = workers_of(os.getpid())
    newer = list(pair.generate([ask("a", "b", options=Options(max_tokens=2))]))
    assert [(one.id, one.error) for one in newer] == [("a", None)]
    assert not any(map(running, pids))
    assert len(workers_of(os.getpid())) == 1, "one request needs one worker"
    with pytest.raises(ModelError, match="asked anew, before it had answered everything"):
        list(older)
    pair.close()
    assert workers_of(os.getpid()) == []


@needs_proc
@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_says_so_in_the_same_words(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    said = []
    for device in ("cpu", "cpu,cpu"):
        front = CausalModel("broken", broken, Settings(device=device))
        with pytest.raises(ModelError) as caught:
            list((parallel(front) if "," in device else front).generate(long_answers(2)))
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "model.norm.weight" in said[0]
    assert workers_of(os.getpid()) == []


@pytest.fixture
def fragile(folder, tokenizer, tmp_path, monkeypatch):
    """A model that comes with code of its own, which two texts break."""
    path = tmp_path / "fragile"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    tilde, caret = tokenizer.convert_tokens_to_ids(["~", "^"])
    (path / "modeling_fragile.py").write_text(FRAGILE.replace("TILDE", str(tilde)).replace("CARET", str(caret)))
    config = json.loads((path / "config.json").read_text())
    config["architectures"] = ["FragileForCausalLM"]
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_fragile.FragileForCausalLM"}
    (path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = parallel(CausalModel("fragile", path, Settings(device="cpu,cpu", trust_remote_code="true")))
    yield model
    model.close()


@pytest.mark.slow
def test_a_request_that_kills_every_worker_is_an_error_and_few_others_with_it(fragile):
    good = [ask(f"{number}", f"{number} and on", options=Options(max_tokens=8)) for number in range(160)]
    found = by_id(fragile.generate([*good[:80], ask("killer", "~~~"), *good[80:]]))
    assert len(found) == 161
    assert found["killer"].error_kind is ErrorKind.internal
    assert "two workers ended before they had answered this, the second on cpu: " in found["killer"].error
    assert "SIGKILL" in found["killer"].error
    others = [one for one in found.values() if one.error is not None and one.id != "killer"]
    assert len(others) <= 20
    assert fragile.conditions["workers_died"] == 2


@pytest.mark.slow
def test_an_error_inside_a_worker_is_told_with_the_request(fragile):
    found = by_id(fragile.generate([ask("fault", "^^^", options=Options(max_tokens=8))]))
    assert found["fault"].error_kind is ErrorKind.internal
    assert found["fault"].error.endswith("carets are not read here")


SCRIPT = """
from pathlib import Path
from vevals.models.hf import CausalModel, Settings
from vevals.models.hf.workers import parallel
from vevals.types import Options, Request

model = parallel(CausalModel("tiny", Path({folder!r}), Settings(device="cpu,cpu")))
limits = [Options(max_tokens=4), Options(max_tokens=400)] * 2000
asked = [Request(str(n), "generate", (), limit, prompts=(f"tell me {{n}}",)) for n, limit in enumerate(limits)]
for number, response in enumerate(model.generate(asked)):
    if number == 0:
        print("begun", flush=True)
"""


@pytest.fixture
def parent(folder, tmp_path):
    """A script without a __main__ guard that asks two workers, in a process group of its own."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(folder)))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], env=env, start_new_session=True, **pipes) as process:
        yield process
        process.kill()


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_a_parent_that_is_killed_or_interrupted(parent, how):
    assert parent.stdout.readline() == "begun\n"
    pids = workers_of(parent.pid)
    assert len(pids) == 2
    if how is signal.SIGINT:
        os.killpg(parent.pid, how)  # as a terminal does it: to everybody
    else:
        os.kill(parent.pid, how)
    assert ended([parent.pid, *pids])
    said = parent.stderr.read()
    assert said.count("KeyboardInterrupt") == (1 if how is signal.SIGINT else 0)


def test_cpu_workers_share_the_threads_and_see_no_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    found = seats("m", "cpu,cpu,cpu,cpu")
    assert [seat.inside for seat in found] == ["cpu"] * 4
    assert all(
        seat.environment == {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        for seat in found
    )
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= int(seats("m", "cpu,cpu")[0].environment["OMP_NUM_THREADS"]) <= max(1, (os.cpu_count() or 1) // 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
@pytest.mark.parametrize(("device", "named"), [("cuda:0,cuda:1", "cuda:0"), ("all", "all")])
def test_gpus_that_are_not_there_are_refused(device, named):
    with pytest.raises(ModelError, match=rf"'hf:m': device is '{named}', but there are 0 visible GPUs"):
        seats("hf:m", device)


@pytest.mark.gpu
def test_a_gpu_may_have_two_workers(folder):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    single = CausalModel("tiny", folder, Settings(device="cuda:0", dtype="float32"))
    double = parallel(CausalModel("tiny", folder, Settings(device="cuda:0,cuda:0", dtype="float32")))
    asked = [
        Request(f"{n}", "loglikelihood", (), choices=(" yes", " no"), prompts=(f"shots shots {n}?",)) for n in range(60)
    ]
    found, wanted = by_id(double.loglikelihood(asked)), by_id(single.loglikelihood(asked))
    double.close()
    assert all(found[id].logprobs == pytest.approx(one.logprobs, abs=2e-4) for id, one in wanted.items())
