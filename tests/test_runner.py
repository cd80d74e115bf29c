"""The whole flow on fake models: resuming, failures, caching, identity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from folders import LETTER_YAML, ROWS, write_benchmark

from vevals import session
from vevals.benchmark import Benchmark, load
from vevals.errors import BenchmarkError, ModelError
from vevals.models import load_model
from vevals.runner import Result, Slice, run, seed_of
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
        ("hff:x", "no model backend is called 'hff'; there are hf, replay, fake; did you mean 'hf'"),
        ("smolm2", "did you mean 'smollm2'"),
        ("fake:majorty", "'fake:majorty': there is majority"),
        ("fake:random?sed=1", "has no setting 'sed'"),
        ("fake:random?seed", "settings after '?' are written name=value"),
        ("fake:random?seed=x", "seed are numbers"),
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


@pytest.mark.parametrize("part", [{"limit": 0}, {"draw": 0}, {"limit": -1}, {"draw": -5}])
def test_a_number_of_samples_below_one_is_refused(part: dict[str, int]) -> None:
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
