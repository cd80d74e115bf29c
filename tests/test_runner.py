"""The whole flow on fake models: resuming, failures, caching, identity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from folders import LETTER_YAML, ROWS, write_benchmark

from vevals import session
from vevals.benchmark import Benchmark, load
from vevals.canonical import sha256_hex
from vevals.check import problems
from vevals.errors import BenchmarkError, ModelError
from vevals.models import load_model
from vevals.rescore import rescore
from vevals.runner import Result, Silent, Slice, at_temperature, run, seed_of, with_answer
from vevals.store import Store
from vevals.types import ErrorKind, FinishReason, Outcome, Request, Response


@dataclass
class Scripted:
    """A model that answers from a table, in reverse order, and remembers what it was asked."""

    answers: Mapping[str, str | Response]
    name: str = "scripted"
    asked: list[str] = field(default_factory=list)
    stop_after: int | None = None
    version: str = "1"

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted", "version": self.version}

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        for count, request in enumerate(reversed(requests)):
            if self.stop_after == count:
                raise KeyboardInterrupt
            self.asked.append(request.id)
            given = self.answers.get(request.id, "A")
            yield Response(request.id, text=given) if isinstance(given, str) else replace(given, id=request.id)

    def close(self) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "v.db")) as opened:
        yield opened


@pytest.fixture
def capitals(tmp_path: Path) -> Benchmark:
    return load(write_benchmark(tmp_path / "b"), "test/capitals")


LETTERS = {row["id"]: "ABC"[["Paris", "Rome", "Oslo"].index(row["target"])] for row in ROWS}


def score(result: Result, metric: str = "accuracy") -> tuple[float, int, int]:
    estimate = dict(result.estimates)[metric]
    return round(estimate.value, 6), estimate.scored, estimate.total


def test_right_answers_score_one_whatever_order_they_come_in(capitals: Benchmark, store: Store) -> None:
    result = run(capitals, Scripted(LETTERS), store)
    assert score(result) == score(result, "macro_f1") == (1.0, 24, 24)
    assert result.outcomes["accuracy"] == {Outcome.scored: 24}


def test_only_a_classifier_is_read_by_its_numbers(capitals: Benchmark) -> None:
    sample = capitals.samples[0]
    response = Response(sample.id, text="B", logprobs=(-3.0, -2.0, -0.1))
    assert with_answer(capitals, sample, response, labelled=False).answer == sample.choices[1]
    assert with_answer(capitals, sample, response, labelled=True).answer == capitals.labels[2]


@pytest.mark.parametrize("given", ["''", "['{{ input }}', ' ']"])
def test_a_text_to_classify_is_not_empty(tmp_path: Path, given: str) -> None:
    folder = write_benchmark(tmp_path / "b")
    file = folder / "benchmark.yaml"
    file.write_text(file.read_text(encoding="utf-8") + f"\nclassify: {given}\n", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="write the text that a classifier is shown: a template is empty"):
        load(folder, "test/capitals")


def test_the_same_run_again_asks_nothing(capitals: Benchmark, store: Store) -> None:
    first = run(capitals, Scripted({}), store)
    model = Scripted({})
    again = run(capitals, model, store)
    assert (model.asked, again.asked, first.asked) == ([], 0, 24)
    assert again.estimates == first.estimates and again.run.id == first.run.id


def test_a_stopped_run_goes_on_and_asks_no_question_twice(capitals: Benchmark, store: Store) -> None:
    stopped = Scripted(LETTERS, stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        run(capitals, stopped, store)
    resumed = Scripted(LETTERS)
    result = run(capitals, resumed, store)
    assert len(stopped.asked) == 10 and len(resumed.asked) == 14
    assert not set(stopped.asked) & set(resumed.asked)
    assert score(result) == (1.0, 24, 24)


BROKEN = Response("", error="timed out", error_kind=ErrorKind.timeout, finish_reason=FinishReason.error)


def test_a_failure_lowers_coverage_not_the_score_and_is_asked_again(capitals: Benchmark, store: Store) -> None:
    result = run(capitals, Scripted({**LETTERS, "c-00": BROKEN, "c-01": BROKEN}), store)
    assert score(result) == (1.0, 22, 24)
    assert (result.outcomes["accuracy"][Outcome.failed], result.failures) == (2, 2)
    second = Scripted(LETTERS)
    result = run(capitals, second, store)
    assert sorted(second.asked) == ["c-00", "c-01"]
    assert score(result) == (1.0, 24, 24)


def test_what_is_too_long_is_not_asked_again(capitals: Benchmark, store: Store) -> None:
    long = replace(BROKEN, error_kind=ErrorKind.too_long)
    run(capitals, Scripted({"c-00": long}), store)
    second = Scripted({})
    assert run(capitals, second, store).failures == 1
    assert second.asked == []


def test_what_the_model_did_counts_as_wrong_and_is_told_apart(capitals: Benchmark, store: Store) -> None:
    cut = Response("", text="Let me think about", finish_reason=FinishReason.length)
    refused = replace(BROKEN, error_kind=ErrorKind.refused)
    given = {**LETTERS, "c-00": "", "c-01": "I would rather not say", "c-02": cut, "c-03": refused}
    result = run(capitals, Scripted(given), store)
    assert score(result) == (round(20 / 24, 6), 24, 24)
    counts = result.outcomes["accuracy"]
    assert counts == {
        Outcome.scored: 20,
        Outcome.empty: 1,
        Outcome.unparsed: 1,
        Outcome.truncated: 1,
        Outcome.refused: 1,
    }


def test_a_benchmark_may_say_that_a_refusal_is_right(tmp_path: Path, store: Store) -> None:
    yaml = LETTER_YAML + "outcome_values: {refused: best}\n"
    benchmark = load(write_benchmark(tmp_path / "b", yaml=yaml), "test/capitals")
    refused = replace(BROKEN, error_kind=ErrorKind.refused)
    result = run(benchmark, Scripted({sample.id: refused for sample in benchmark.samples}), store)
    assert score(result) == (1.0, 24, 24)


def test_another_part_of_the_benchmark_reuses_answers_from_the_cache(capitals: Benchmark, store: Store) -> None:
    run(capitals, Scripted(LETTERS), store, Slice(draw=10))
    model = Scripted(LETTERS)
    result = run(capitals, model, store)
    assert len(model.asked) == 14
    assert (score(result), result.usage["cached"]) == ((1.0, 24, 24), 10)


def test_two_different_models_never_share_an_answer(capitals: Benchmark, store: Store) -> None:
    run(capitals, Scripted(LETTERS), store)
    other = Scripted({}, version="2")
    result = run(capitals, other, store)
    assert len(other.asked) == 24
    assert score(result) == (round(8 / 24, 6), 24, 24)


def test_a_changed_scorer_is_a_new_run_that_asks_nothing(tmp_path: Path, capitals: Benchmark, store: Store) -> None:
    run(capitals, Scripted(LETTERS), store)
    yaml = LETTER_YAML.replace("[accuracy, macro_f1]", "[balanced_accuracy]")
    changed = load(write_benchmark(tmp_path / "b2", yaml=yaml), "test/capitals")
    model = Scripted(LETTERS)
    result = run(changed, model, store)
    assert model.asked == []
    assert [name for name, _ in result.estimates] == ["balanced_accuracy"]


def test_limit_takes_the_first_rows_and_draw_the_seeded_ones(capitals: Benchmark, store: Store) -> None:
    first, drawn = Scripted({}), Scripted({}, version="2")
    run(capitals, first, store, Slice(limit=3))
    run(capitals, drawn, store, Slice(draw=3, seed=9))
    assert sorted(first.asked) == ["c-00", "c-01", "c-02"]
    assert sorted(drawn.asked) == sorted(sample.id for sample in capitals.draw(3, seed=9))
    with pytest.raises(BenchmarkError, match="not both"):
        run(capitals, first, store, Slice(limit=3, draw=3))


@pytest.mark.parametrize("fault", ["twice", "missing", "unasked"])
def test_a_backend_that_breaks_its_promise_is_stopped(capitals: Benchmark, store: Store, fault: str) -> None:
    class Faulty(Scripted):
        def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
            for request in requests[1:] if fault == "missing" else requests:
                yield Response(request.id, text="A")
            if fault == "twice":
                yield Response(requests[0].id, text="B")
            if fault == "unasked":
                yield Response("nobody", text="B")

    with pytest.raises(ModelError, match="unanswered" if fault == "missing" else "twice, or without being asked"):
        run(capitals, Faulty({}), store)
    kept = dict(store.responses(store.runs()[0].id))
    assert len(kept) == (23 if fault == "missing" else 24)
    assert all(response.text == "A" for response in kept.values())


def test_choices_are_scored_by_a_model_that_can(tmp_path: Path, store: Store) -> None:
    yaml = LETTER_YAML.replace("answer: letter", "answer: most_likely")
    benchmark = load(write_benchmark(tmp_path / "b", yaml=yaml), "test/capitals")
    assert score(run(benchmark, load_model("fake:oracle"), store)) == (1.0, 24, 24)
    with pytest.raises(ModelError, match="scripted cannot score choices, which test/capitals needs"):
        run(benchmark, Scripted({}), store)


def test_the_reference_rows_are_worth_what_they_should_be(capitals: Benchmark, store: Store) -> None:
    assert score(run(capitals, load_model("fake:majority"), store)) == (round(8 / 24, 6), 24, 24)
    guess = score(run(capitals, load_model("fake:random"), store))[0]
    assert 0.1 < guess < 0.6
    assert score(run(capitals, load_model("fake:oracle"), store))[0] == 1.0
    assert score(run(capitals, load_model("fake:empty"), store))[0] == 0.0


def test_a_flaky_model_is_shown_as_failures(capitals: Benchmark, store: Store) -> None:
    result = run(capitals, load_model("fake:flaky"), store)
    value, scored, total = score(result)
    assert value == 1.0 and 0 < scored < total == 24
    assert result.failures == total - scored


def test_recorded_outputs_are_scored_and_gaps_are_failures(capitals: Benchmark, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "outputs.csv"
    lines = ["ticket,reply", *(f"{key},The answer is ({letter})." for key, letter in list(LETTERS.items())[:20])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = load_model(f"replay:{path}?id=ticket&text=reply&name=production")
    result = run(capitals, model, store)
    assert (score(result), result.run.model) == ((1.0, 20, 24), "production")
    assert result.outcomes["accuracy"][Outcome.failed] == 4


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("gpt", "'gpt' is no model: write PREFIX:NAME"),
        ("hff:x", "no model backend is called 'hff'; there are hf, replay, tfidf, fake; did you mean 'hf'"),
        ("smolm2", "did you mean 'smollm2'"),
        ("fake:majorty", "'fake:majorty': there is majority"),
        ("fake:random?sed=1", "has no setting 'sed'"),
        ("fake:random?seed", "settings after '?' are written name=value"),
        ("fake:random?seed=x", "seed are numbers"),
        ("fake:random?accuracy=1", "has no setting 'accuracy'; it has seconds, seed"),
        ("fake:noisy?accuracy=1.2", "accuracy is 1.2; it is a probability, 0 to 1"),
        ("fake:noisy?accuracy=nan", "accuracy is nan; it is a probability, 0 to 1"),
        ("replay:nowhere.jsonl", "there is no such file"),
    ],
)
def test_a_model_that_cannot_be_meant_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(spec)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_seeds_of_requests_do_not_depend_on_order_or_machine() -> None:
    assert seed_of(0, "c-01") == 3796572889
    assert len({seed_of(0, "a"), seed_of(1, "a"), seed_of(0, "b"), seed_of(0, "a", 1)}) == 4


def test_a_board_over_the_store_ranks_by_rescaled_means(capitals: Benchmark, store: Store) -> None:
    for model in (Scripted(LETTERS, name="good"), Scripted({}, name="bad", version="2")):
        run(capitals, model, store)
    board = session.board(store)
    assert [row.model for row in board.rows] == ["good", "bad"]
    good, bad = (row.overall for row in board.rows)
    assert good and bad
    assert (round(good.value, 4), abs(round(bad.value, 3))) == (1.0, 0.0)


def test_recorded_outputs_are_never_taken_for_another_row_with_the_same_prompt(tmp_path: Path, store: Store) -> None:
    rows = [{"id": f"r{n}", "input": "the same question", "target": "ABC"[n % 3], "level": "x"} for n in range(6)]
    benchmark = load(write_benchmark(tmp_path / "b", rows=rows), "test/capitals")
    path = tmp_path / "out.jsonl"
    path.write_text("".join(f'{{"id": "r{n}", "text": "{"ABC"[n % 3]}"}}\n' for n in range(5)), encoding="utf-8")
    run(benchmark, load_model(f"replay:{path}"), store, Slice(limit=1))
    for _ in range(2):
        result = run(benchmark, load_model(f"replay:{path}"), store)
        assert (score(result), result.failures) == ((1.0, 5, 6), 1)


def test_rows_in_another_order_keep_their_own_answers(tmp_path: Path, store: Store) -> None:
    stopped = Scripted(LETTERS, stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        run(load(write_benchmark(tmp_path / "a"), "test/capitals"), stopped, store)
    reversed_rows = load(write_benchmark(tmp_path / "b", rows=ROWS[::-1]), "test/capitals")
    resumed = Scripted(LETTERS)
    assert score(run(reversed_rows, resumed, store)) == (1.0, 24, 24)
    assert len(resumed.asked) == 14
    first = Scripted({}, version="2")
    run(reversed_rows, first, store, Slice(limit=1))
    assert first.asked == ["c-23"]


def test_an_output_that_looks_like_our_own_format_is_a_text(capitals: Benchmark, store: Store) -> None:
    strange = '{"greedy":[ is not json'
    result = run(capitals, Scripted({**LETTERS, "c-00": strange}), store)
    assert score(result)[1:] == (24, 24)
    assert next(store.samples(result.run, "accuracy"))["text"] == strange


def test_a_corrected_chance_is_another_version(tmp_path: Path, capitals: Benchmark) -> None:
    corrected = LETTER_YAML.replace("chance: 0.3333", "chance: 0.25")
    assert load(write_benchmark(tmp_path / "c", yaml=corrected), "test/capitals").fingerprint != capitals.fingerprint


def test_a_small_trial_run_hides_no_full_run(capitals: Benchmark, store: Store) -> None:
    run(capitals, Scripted(LETTERS, name="full"), store, Slice(seed=7))
    run(capitals, Scripted({}, name="drawn", version="2"), store, Slice(draw=999))
    run(capitals, Scripted({}, name="trial", version="3"), store, Slice(limit=2))
    board = session.board(store)
    assert ([row.model for row in board.rows], board.left_out) == (["full", "drawn"], 1)


def test_a_label_keeps_runs_of_one_model_apart(capitals: Benchmark, store: Store) -> None:
    for label in ("", "again"):
        run(capitals, Scripted(LETTERS), store, Slice(label=label))
    assert sorted(row.model for row in session.board(store).rows) == ["scripted", "scripted [again]"]


def test_a_result_stays_on_the_board_while_its_failures_are_asked_again(capitals: Benchmark, store: Store) -> None:
    run(capitals, Scripted({**LETTERS, "c-00": BROKEN, "c-01": BROKEN}), store)
    with pytest.raises(KeyboardInterrupt):
        run(capitals, Scripted(LETTERS, stop_after=1), store)
    assert [row.model for row in session.board(store).rows] == ["scripted"]
    assert score(run(capitals, Scripted(LETTERS), store)) == (1.0, 24, 24)


def test_a_broken_extractor_is_our_failure_and_keeps_the_reply(
    capitals: Benchmark, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vevals.extract import Extractor

    real = Extractor.answer

    def breaks(self: Extractor, sample: Any, response: Response) -> str | None:
        if sample.id == "c-05":
            raise ValueError("cannot read this")
        return real(self, sample, response)

    monkeypatch.setattr(Extractor, "answer", breaks)
    result = run(capitals, Scripted(LETTERS), store)
    assert (score(result), result.failures) == ((1.0, 23, 24), 1)
    monkeypatch.undo()
    again = Scripted(LETTERS)
    assert score(run(capitals, again, store)) == (1.0, 24, 24)
    assert again.asked == []


@pytest.mark.parametrize("part", [{"limit": 0}, {"draw": 0}, {"limit": -1}, {"draw": -5}, {"repeats": 0}])
def test_a_number_of_samples_or_repeats_below_one_is_refused(part: dict[str, int]) -> None:
    with pytest.raises(BenchmarkError, match="1 or more"):
        Slice(**part)


def test_a_failure_without_a_text_is_asked_again_and_never_cached(capitals: Benchmark, store: Store) -> None:
    silent = Response("", error_kind=ErrorKind.timeout, finish_reason=FinishReason.error)
    run(capitals, Scripted({**LETTERS, "c-00": silent}), store)
    again = Scripted(LETTERS)
    assert score(run(capitals, again, store)) == (1.0, 24, 24)
    assert again.asked == ["c-00"]


def test_cluster_names_cannot_collide_with_sample_ids(tmp_path: Path, store: Store) -> None:
    methods = []
    for place, prefix in enumerate(("", "cluster ")):
        rows = [
            {
                "id": str(n),
                "input": f"q{n}?",
                "target": "A",
                "level": "x",
                "c": f"{prefix}{20 + n % 2}" if n < 10 else "",
            }
            for n in range(30)
        ]
        yaml = LETTER_YAML + "columns: {cluster: c}\n"
        benchmark = load(write_benchmark(tmp_path / str(place), yaml=yaml, rows=rows), "test/capitals")
        model = Scripted({str(n): "AB"[n % 2] for n in range(30)})
        methods.append(dict(run(benchmark, model, store, Slice(label=prefix)).estimates)["accuracy"].method)
    assert methods[0] == methods[1] and "22 clusters" in methods[0]


# -- repeats, attempts, temperature ------------------------------------------------------------------------------------


@dataclass
class Drawn(Scripted):
    """A model whose replies depend on the seed of the request alone, as if they were drawn."""

    requests: list[Request] = field(default_factory=list)

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        self.requests += requests
        for request in reversed(requests):
            yield Response(request.id, text="ABC"[request.seed % 3])


def test_every_sample_is_asked_as_often_as_there_are_repeats_each_with_its_own_seed(
    capitals: Benchmark, store: Store
) -> None:
    model = Drawn({})
    result = run(capitals, model, store, Slice(repeats=3))
    assert {request.seed for request in model.requests} == {
        seed_of(0, sample.id, repeat) for sample in capitals.samples for repeat in range(3)
    }
    assert len({request.id for request in model.requests}) == result.asked == 72
    assert (result.run.total, result.run.repeats, result.run.samples, score(result)[1:]) == (72, 3, 24, (72, 72))
    assert sorted(place for place, _ in store.responses(result.run.id)) == [
        (no, r) for no in range(24) for r in range(3)
    ]
    assert run(capitals, model, store, Slice(repeats=3)).asked == 0


def test_repeats_are_averaged_for_each_sample_before_the_mean_is_taken(capitals: Benchmark, store: Store) -> None:
    class HalfLost(Scripted):
        """Right at first and wrong the second time, where c-00 is lost."""

        def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
            for request in requests:
                name, _, repeat = request.id.partition("#")
                if request.id == "c-00#1":
                    yield replace(BROKEN, id=request.id)
                else:
                    yield Response(request.id, text="none" if repeat else LETTERS[name])

    result = run(capitals, HalfLost({}), store, Slice(repeats=2))
    value, scored, total = score(result)
    assert (value, scored, total) == (round((1.0 + 23 * 0.5) / 24, 6), 47, 48)
    assert dict(result.estimates)["accuracy"].method == "plus-2"
    assert result.failures == 1


def test_the_interval_of_a_set_level_metric_draws_all_repeats_of_a_sample_together(
    capitals: Benchmark, store: Store
) -> None:
    once = dict(run(capitals, load_model("fake:noisy"), store).estimates)["macro_f1"]
    same = Scripted({**LETTERS, **dict.fromkeys(list(LETTERS)[:9], "A")})

    class Stubborn(Scripted):
        def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
            for request in requests:
                yield Response(request.id, text=same.answers[request.id.partition("#")[0]])

    whole = dict(run(capitals, Stubborn({}), store).estimates)["macro_f1"]
    repeated = dict(run(capitals, Stubborn({}), store, Slice(repeats=4)).estimates)["macro_f1"]
    assert (once.method, repeated.method, repeated.scored) == ("BCa", "BCa, 24 samples", 96)
    assert (repeated.value, repeated.low, repeated.high) == pytest.approx((whole.value, whole.low, whole.high))


def test_a_stopped_run_with_repeats_goes_on_and_asks_no_repeat_twice(capitals: Benchmark, store: Store) -> None:
    stopped, resumed = Scripted({}, stop_after=30), Scripted({})
    with pytest.raises(KeyboardInterrupt):
        run(capitals, stopped, store, Slice(repeats=2))
    run(capitals, resumed, store, Slice(repeats=2))
    assert (len(stopped.asked), len(resumed.asked)) == (30, 18)
    assert not set(stopped.asked) & set(resumed.asked)


def test_a_model_that_answers_by_id_is_asked_one_repeat_after_the_other(capitals: Benchmark, store: Store) -> None:
    calls: list[list[str]] = []

    class ById(Scripted):
        answers_by_id = True

        def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
            calls.append(sorted(request.id for request in requests))
            yield from super().generate(requests)

    result = run(capitals, ById(LETTERS), store, Slice(repeats=2))
    assert calls == [sorted(LETTERS)] * 2 and score(result) == (1.0, 48, 48)


def test_ids_of_repeats_cannot_be_taken_for_ids_of_samples(tmp_path: Path, store: Store) -> None:
    rows = [{**row, "id": name} for row, name in zip(ROWS, ("a", "a#1", "a##1", "b"), strict=False)]
    benchmark = load(write_benchmark(tmp_path / "b", rows=rows), "test/capitals")
    model = Scripted({})
    assert run(benchmark, model, store, Slice(repeats=2)).asked == len(set(model.asked)) == 8


def test_again_asks_other_repeats_and_leaves_the_first_attempt(capitals: Benchmark, store: Store) -> None:
    model = Drawn({})
    first = run(capitals, model, store, Slice(repeats=2))
    second = run(capitals, model, store, Slice(repeats=2, again=True))
    third = run(capitals, model, store, Slice(repeats=2, again=True))
    assert [result.run.attempt for result in (first, second, third)] == [1, 2, 3]
    assert len({request.seed for request in model.requests}) == len(model.requests) == 6 * 24
    assert {place[1] for place, _ in store.responses(third.run.id)} == {4, 5}
    assert len({result.run.digest for result in (first, second, third)}) == 3
    assert run(capitals, model, store, Slice(repeats=2)).run.key == first.run.key


def test_an_attempt_that_was_stopped_is_continued_and_one_that_failed_can_be_named(
    capitals: Benchmark, store: Store
) -> None:
    run(capitals, Scripted(LETTERS), store)
    with pytest.raises(KeyboardInterrupt):
        run(capitals, Scripted({"c-00#1": BROKEN}, stop_after=20), store, Slice(again=True))
    resumed = run(capitals, Scripted({"c-00#1": BROKEN}), store, Slice(again=True))
    assert (resumed.run.attempt, resumed.failures) == (2, 1)
    model = Scripted({})
    named = run(capitals, model, store, Slice(attempt=2))
    assert (named.run.key, named.failures, model.asked) == (resumed.run.key, 0, ["c-00#1"])
    with pytest.raises(BenchmarkError, match="attempt 4 cannot come before attempt 3"):
        run(capitals, model, store, Slice(attempt=4))
    with pytest.raises(BenchmarkError, match="not both"):
        Slice(attempt=2, again=True)


def test_a_stopped_command_for_several_benchmarks_goes_on_with_the_same_attempt(tmp_path: Path, store: Store) -> None:
    names = ("test/one", "test/two")
    prompts = (LETTER_YAML, LETTER_YAML.replace("{{ input }}", "Say: {{ input }}"))
    pairs = zip(names, prompts, strict=True)
    benchmarks = [load(write_benchmark(tmp_path / "b", name, yaml), name) for name, yaml in pairs]

    class Stopped(Scripted):
        """Stopped in the middle of the second benchmark."""

        def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
            for response in super().generate(requests):
                if len(self.asked) > 30:
                    raise KeyboardInterrupt
                yield response

    def command(model: Scripted, again: bool) -> list[Result]:
        selection = session.Selection(benchmarks, {name: Slice(again=again) for name in names})
        return list(session.run_all(selection, [model], store, Silent()))

    command(Scripted({}), again=False)
    with pytest.raises(KeyboardInterrupt):
        command(Stopped({}), again=True)
    resumed = command(Scripted({}), again=True)
    assert [(result.run.attempt, result.asked) for result in resumed] == [(2, 0), (2, 18)]
    assert [result.run.attempt for result in command(Scripted({}), again=True)] == [3, 3]


def test_the_cache_keeps_repeats_apart(capitals: Benchmark, store: Store) -> None:
    run(capitals, Scripted({}), store, Slice(draw=10))
    model = Scripted({})
    result = run(capitals, model, store, Slice(repeats=2))
    assert (len(model.asked), result.usage["cached"]) == (38, 10)


def test_a_temperature_is_part_of_the_request_the_fingerprint_and_the_run(capitals: Benchmark, store: Store) -> None:
    cold, warm = Drawn({}), Drawn({})
    first = run(capitals, cold, store)
    warmer = at_temperature(capitals, 0.7)
    second = run(warmer, warm, store)
    assert {request.options.temperature for request in warm.requests} == {0.7}
    assert len(warm.requests) == 24 and first.run.key != second.run.key
    differing = [name for name in first.run.parts if first.run.parts[name] != second.run.parts[name]]
    assert (differing, second.run.options["temperature"]) == (["generation"], 0.7)
    assert at_temperature(capitals, 0.0) is capitals


def test_the_seed_of_a_whole_benchmark_counts_where_replies_are_drawn(capitals: Benchmark, store: Store) -> None:
    warm = at_temperature(capitals, 1.0)
    keys = [
        run(benchmark, Drawn({}), store, Slice(seed=seed)).run.key for benchmark in (capitals, warm) for seed in (0, 5)
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 3


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(capitals: Benchmark, temperature: float) -> None:
    with pytest.raises(BenchmarkError, match=r"temperature is .*; give 0"):
        at_temperature(capitals, temperature)


def test_a_temperature_changes_nothing_where_choices_are_scored(tmp_path: Path) -> None:
    yaml = LETTER_YAML.replace("answer: letter", "answer: most_likely")
    benchmark = load(write_benchmark(tmp_path / "b", yaml=yaml), "test/capitals")
    assert at_temperature(benchmark, 0.7) is benchmark


@pytest.mark.parametrize("answer", ["letter", "most_likely"])
def test_a_noisy_model_is_right_with_its_probability_and_draws_anew_for_every_repeat(
    tmp_path: Path, store: Store, answer: str
) -> None:
    rows = [{**row, "id": f"{turn}-{row['id']}"} for turn in range(20) for row in ROWS]
    yaml = LETTER_YAML.replace("answer: letter", f"answer: {answer}")
    benchmark = load(write_benchmark(tmp_path / "b", yaml=yaml, rows=rows), "test/capitals")
    result = run(benchmark, load_model("fake:noisy?accuracy=0.7&seed=3"), store, Slice(repeats=3))
    value, scored, total = score(result)
    assert abs(value - 0.7) < 4 * (0.21 / 1440) ** 0.5 and scored == total == 1440
    by_sample = {
        no: {row.value for place, row in store.judged(result.run.id, "accuracy") if place[0] == no} for no in range(60)
    }
    assert sum(len(values) > 1 for values in by_sample.values()) > 20
    other = run(benchmark, load_model("fake:noisy?accuracy=0.7&seed=4"), store, Slice(repeats=3))
    assert other.run.key != result.run.key and other.estimates != result.estimates


@pytest.mark.parametrize(("accuracy", "value"), [(0, 0.0), (1, 1.0)])
def test_a_noisy_model_that_is_never_or_always_right(
    capitals: Benchmark, store: Store, accuracy: int, value: float
) -> None:
    assert score(run(capitals, load_model(f"fake:noisy?accuracy={accuracy}"), store))[0] == value


# -- runs that others rely on ------------------------------------------------------------------------------------------


def frozen_with_failures(capitals: Benchmark, store: Store) -> Result:
    result = run(capitals, Scripted({**LETTERS, "c-00": BROKEN, "c-01": BROKEN}), store)
    store.add_baseline("prod", "ab" * 32, [result.run.digest], "ann", "first release")
    return result


def test_asking_failures_of_a_frozen_run_again_makes_a_run_that_begins_with_its_good_rows(
    capitals: Benchmark, store: Store
) -> None:
    frozen = frozen_with_failures(capitals, store)
    model = Scripted(LETTERS)
    result = run(capitals, model, store)
    assert sorted(model.asked) == ["c-00", "c-01"]
    assert (score(result), result.failures, result.asked) == ((1.0, 24, 24), 0, 2)
    assert (result.run.parent, result.run.key != frozen.run.key) == (frozen.run.digest, True)
    kept = store.run(frozen.run.key)
    assert (kept, store.digest_now(kept.id)) == (frozen.run, frozen.run.digest)
    assert store.estimates(kept.id) == frozen.estimates
    again = Scripted(LETTERS)
    assert (run(capitals, again, store).run.key, again.asked) == (result.run.key, [])


def test_a_run_from_a_frozen_one_that_was_stopped_goes_on(capitals: Benchmark, store: Store) -> None:
    frozen_with_failures(capitals, store)
    stopped = Scripted(LETTERS, stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        run(capitals, stopped, store)
    resumed = Scripted(LETTERS)
    assert score(run(capitals, resumed, store)) == (1.0, 24, 24)
    assert sorted(stopped.asked + resumed.asked) == ["c-00", "c-01"]
    assert len(store.runs()) == 2


def test_a_run_from_a_frozen_one_may_fail_again_and_be_frozen_in_turn(capitals: Benchmark, store: Store) -> None:
    frozen = frozen_with_failures(capitals, store)
    failing = {**LETTERS, "c-00": BROKEN, "c-01": BROKEN}
    child = run(capitals, Scripted(failing), store)
    assert (child.failures, child.run.parent, child.run.digest != frozen.run.digest) == (2, frozen.run.digest, True)
    assert run(capitals, Scripted(failing), store).run.key == child.run.key
    store.add_baseline("prod", "cd" * 32, [child.run.digest], "ann", "second release")
    last = run(capitals, Scripted(LETTERS), store)
    assert (last.run.parent, score(last)) == (child.run.digest, (1.0, 24, 24))
    assert len(store.runs()) == 3


def test_a_frozen_run_without_failures_is_answered_from_the_store(capitals: Benchmark, store: Store) -> None:
    result = run(capitals, Scripted(LETTERS), store)
    store.add_baseline("prod", "ab" * 32, [result.run.digest], "ann", "first release")
    assert run(capitals, Scripted(LETTERS), store).run == result.run


# --- classifiers ----------------------------------------------------------------------------------------------------


@dataclass
class Labeller:
    """A classifier that gives each text the log-probabilities of a table, in reverse order of the requests."""

    table: Mapping[str, Mapping[str, float]]
    name: str = "labeller"
    own: tuple[str, ...] = ("Rome", "Oslo", "Paris")
    asked: list[Request] = field(default_factory=list)
    conditions: Mapping[str, Any] = field(default_factory=lambda: {"device": "none"})

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "labeller"}

    def check_labels(self, labels: Sequence[str], several: bool) -> None:
        missing = set(labels) - set(self.own)
        if missing:
            raise ModelError(f"{self.name} has no label {sorted(missing)[0]}")

    def classify(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in reversed(requests):
            self.asked.append(request)
            given = self.table.get(request.prompts[0], {})
            logprobs = tuple(given.get(choice, -3.0) for choice in request.choices)
            yield Response(request.id, text=request.choices[logprobs.index(max(logprobs))], logprobs=logprobs)

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        raise ModelError("a classifier writes no text")

    def close(self) -> None:
        pass


RIGHT = {str(row["input"]): {str(row["target"]): -0.1} for row in ROWS}


@pytest.mark.parametrize("answer", ["letter", "label", "most_likely", "whole"])
def test_the_answer_of_a_classifier_is_its_most_likely_label(tmp_path: Path, store: Store, answer: str) -> None:
    yaml = LETTER_YAML.replace("answer: letter", f"answer: {answer}")
    benchmark = load(write_benchmark(tmp_path, yaml=yaml), "test/capitals")
    one_wrong = {**RIGHT, "Question 0 about Paris?": {"Oslo": -0.1}}
    model = Labeller(one_wrong)
    result = run(benchmark, model, store)
    assert score(result) == (round(23 / 24, 6), 24, 24)
    assert [request.kind for request in model.asked] == ["classify"] * 24
    assert {request.choices for request in model.asked} == {("Paris", "Rome", "Oslo")}
    shown = {one["id"]: one for one in store.samples(result.run, "accuracy")}
    assert (shown["c-00"]["answer"], shown["c-00"]["outcome"]) == ("Oslo", "scored")
    assert shown["c-00"]["logprobs"] == {"Paris": -3.0, "Rome": -3.0, "Oslo": -0.1}
    assert shown["c-00"]["request"]["prompts"] == ["Question 0 about Paris?"]


def test_a_classifier_is_shown_what_the_yaml_says(tmp_path: Path, store: Store) -> None:
    shown = "classify: ['{{ input }} of {{ level }}', 'one of {{ choices | join(\", \") }}']\n"
    benchmark = load(write_benchmark(tmp_path, yaml=LETTER_YAML + shown), "test/capitals")
    model = Labeller({})
    run(benchmark, model, store)
    found = {request.id: request.prompts for request in model.asked}
    assert found["c-03"] == ("Question 3 about Paris? of hard", "one of Paris, Rome, Oslo")


def test_only_a_benchmark_that_says_it_has_it_in_its_fingerprint(tmp_path: Path, capitals: Benchmark) -> None:
    spec = capitals.spec
    assert capitals.parts["prompt"] == sha256_hex([spec.prompt, None, [], None, "generate"])
    text = load(write_benchmark(tmp_path, yaml=LETTER_YAML + "classify: '{{ input }}!'\n"), "test/capitals")
    assert text.parts["prompt"] != capitals.parts["prompt"]
    assert {**text.parts, "prompt": ""} == {**capitals.parts, "prompt": ""}


def test_a_classifier_answers_from_the_store_what_it_has_answered_before(
    capitals: Benchmark, store: Store, tmp_path: Path
) -> None:
    first = run(capitals, Labeller(RIGHT), store)
    again = Labeller({})
    assert score(run(capitals, again, store)) == score(first) and again.asked == []
    relabelled = run(capitals, again, store, Slice(label="second"))
    assert again.asked == [] and score(relabelled) == score(first) == (1.0, 24, 24)
    changed = LETTER_YAML.replace("[accuracy, macro_f1]", "[macro_f1, accuracy]")
    other = load(write_benchmark(tmp_path / "other", yaml=changed), "test/capitals")
    assert score(run(other, again, store), "macro_f1") == (1.0, 24, 24)
    fresh = rescore(store, first.run, other)
    assert fresh is not None
    assert {one["answer"] for one in store.samples(fresh, "accuracy")} == {"Paris", "Rome", "Oslo"}


def test_labels_that_name_nothing_are_no_answer(capitals: Benchmark, store: Store) -> None:
    nothing = dict.fromkeys(("Paris", "Rome", "Oslo"), math.nan)
    result = run(capitals, Labeller({**RIGHT, "Question 0 about Paris?": nothing}), store)
    assert result.outcomes["accuracy"] == {Outcome.scored: 23, Outcome.unparsed: 1}


SEVERAL = (
    LETTER_YAML.replace("answer: letter", "answer: labels")
    .replace("[accuracy, macro_f1]", "[set_f1, set_match]")
    .replace("slices: [level]", "columns: {target: \"split(target, ';')\"}")
)


def test_a_classifier_of_several_labels_gives_all_that_are_as_likely_as_not(tmp_path: Path, store: Store) -> None:
    rows = [{"id": str(n), "input": f"text {n}", "target": target} for n, target in enumerate(["Paris;Oslo", "Rome"])]
    benchmark = load(write_benchmark(tmp_path, yaml=SEVERAL, rows=rows), "test/capitals")
    table = {"text 0": {"Oslo": math.log(0.5), "Paris": math.log(0.9)}, "text 1": {"Rome": math.log(0.49)}}
    result = run(benchmark, Labeller(table), store)
    shown = {one["id"]: one["answer"] for one in store.samples(result.run, "set_match")}
    assert shown == {"0": '["Paris", "Oslo"]', "1": "[]"}
    assert score(result, "set_match")[0] == 0.5


FREE = LETTER_YAML.replace("choices: [Paris, Rome, Oslo]\n", "").replace("  {{ choices }}\n", "")
REFUSED = [
    (FREE.replace("answer: letter", "answer: whole"), ROWS, r"has no labels \(answer: whole, no choices\)"),
    (LETTER_YAML.replace("answer: letter", "answer: number"), ROWS, r"has no labels \(answer: number\)"),
    (
        LETTER_YAML.replace("choices: [Paris, Rome, Oslo]\n", ""),
        [{**row, "choices": ["Paris", "Rome", "Oslo", str(row["id"])]} for row in ROWS],
        "each row has choices of its own",
    ),
    (LETTER_YAML.replace("Oslo]", "Oslo, Bern]"), ROWS, "labeller has no label Bern"),
]


@pytest.mark.parametrize(("yaml", "rows", "said"), REFUSED)
def test_a_classifier_is_refused_where_it_cannot_answer(
    tmp_path: Path, store: Store, yaml: str, rows: list[Mapping[str, Any]], said: str
) -> None:
    benchmark = load(write_benchmark(tmp_path, yaml=yaml, rows=rows), "test/capitals")
    model = Labeller(RIGHT)
    with pytest.raises(ModelError, match=said):
        run(benchmark, model, store)
    assert model.asked == [] and store.runs() == []


def test_the_conditions_of_a_model_are_kept_with_the_run_that_asked_it(capitals: Benchmark, store: Store) -> None:
    result = run(capitals, Labeller(RIGHT), store)
    assert result.run.provenance["engine"] == {"device": "none"}
    elsewhere = Labeller(RIGHT, conditions={"device": "other"})
    assert run(capitals, elsewhere, store).run.provenance["engine"] == {"device": "none"}
    cached = run(capitals, elsewhere, store, Slice(label="from the cache"))
    assert elsewhere.asked == [] and "engine" not in cached.run.provenance
    assert "engine" not in run(capitals, Scripted({}), store).run.provenance


WRONG_TEMPLATES = [
    ("classify: '{{ inputs }}'", "classify uses 'inputs', which no column has; did you mean 'input'?"),
    ("classify: ['{{ input }}', '{{ input']", "classify is not a valid template"),
    ("classify: ['a', 'b', 'c']", "'classify': give one template, or a list of two"),
    ("classify: '{{ input }} is {{ target }}'", "classify shows the target"),
    ("classify: 'the same'", "classify is the same for every row"),
    ("classify: '{{ input.nothing }}'", "classify: sample c-00"),
]


@pytest.mark.parametrize(("line", "said"), WRONG_TEMPLATES)
def test_a_wrong_template_for_classifiers_is_found_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    folder = write_benchmark(tmp_path, yaml=LETTER_YAML + line + "\n")
    try:
        findings = [one.text for one in problems(load(folder, "test/capitals")).findings if one.repair]
    except BenchmarkError as error:
        findings = [str(error)]
    assert said in findings[0]
    assert "benchmark.yaml:15: " in findings[0]


def test_a_template_for_classifiers_needs_labels(tmp_path: Path) -> None:
    yaml = FREE.replace("answer: letter", "answer: whole") + "classify: '{{ input }}'\n"
    found = problems(load(write_benchmark(tmp_path, yaml=yaml), "test/capitals"))
    assert "classify: test/capitals has no labels" in found.findings[0].text
