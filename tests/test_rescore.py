"""Stored replies under a changed scorer: from Python and from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from folders import LETTER_YAML, ROWS, write_benchmark
from typer.testing import CliRunner

from vevals.benchmark import Benchmark, load
from vevals.cli.rescore import rescore as command
from vevals.errors import StoreError
from vevals.models import load_model
from vevals.rescore import rescore
from vevals.runner import Result, Slice, at_temperature, run
from vevals.store import RunRow, Store
from vevals.types import ErrorKind, Outcome, Response

NAME = "test/capitals"
OTHER_METRIC = LETTER_YAML.replace("[accuracy, macro_f1]", "[balanced_accuracy]")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "v.db")) as opened:
        yield opened


def benchmark(tmp_path: Path, yaml: str = LETTER_YAML) -> Benchmark:
    return load(write_benchmark(tmp_path / f"b{abs(hash(yaml))}", yaml=yaml), NAME)


def first_metric(store: Store, row: RunRow) -> tuple[str, float]:
    name, estimate = store.estimates(row.id)[0]
    return name, round(estimate.value, 6)


def test_an_unchanged_benchmark_is_nothing_to_do(tmp_path: Path, store: Store) -> None:
    result = run(benchmark(tmp_path), load_model("fake:noisy"), store)
    assert rescore(store, result.run, benchmark(tmp_path)) is None
    assert len(store.runs()) == 1


@pytest.mark.parametrize(
    "part", [Slice(), Slice(draw=10, seed=3, label="x"), Slice(repeats=3), Slice(limit=5)], ids=str
)
def test_a_changed_scorer_makes_a_run_of_its_own_with_the_old_replies(
    tmp_path: Path, store: Store, part: Slice
) -> None:
    model = load_model("fake:noisy")
    old = run(benchmark(tmp_path), model, store, part).run
    changed = benchmark(tmp_path, OTHER_METRIC)
    new = rescore(store, old, changed)
    assert new is not None and (new.fingerprint, new.parts["scorer"]) == (changed.fingerprint, changed.parts["scorer"])
    texts = [[(row.id, place[1], row.text) for place, row in store.responses(one.id)] for one in (old, new)]
    assert sorted(texts[0]) == sorted(texts[1]) and len(texts[1]) == old.total == new.total
    assert store.run(old.key) == old and store.digest_now(old.id) == old.digest
    asked_now = run(changed, model, store, part)
    assert (asked_now.run, asked_now.asked) == (new, 0)
    assert first_metric(store, new)[0] == "balanced_accuracy"
    assert rescore(store, old, changed) == new and len(store.runs()) == 2


def test_answers_are_read_anew_by_the_extractor_of_today(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vevals.extract import Extractor

    def breaks(self: Extractor, sample: object, response: Response) -> str | None:
        raise ValueError("cannot read this")

    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "answer", breaks)
        old = run(benchmark(tmp_path), load_model("fake:oracle"), store)
    assert old.outcomes["accuracy"] == {Outcome.failed: 24}
    new = rescore(store, old.run, benchmark(tmp_path, OTHER_METRIC))
    assert new is not None and first_metric(store, new) == ("balanced_accuracy", 1.0)
    assert {row.error_kind for _, row in store.responses(new.id)} == {ErrorKind.none}


def test_failures_of_the_model_stay_failures(tmp_path: Path, store: Store) -> None:
    old = run(benchmark(tmp_path), load_model("fake:flaky"), store)
    new = rescore(store, old.run, benchmark(tmp_path, OTHER_METRIC))
    assert new is not None
    assert store.outcomes(new.id)["balanced_accuracy"] == old.outcomes["accuracy"]


def test_the_temperature_of_the_run_is_no_change_of_the_benchmark(tmp_path: Path, store: Store) -> None:
    old = run(at_temperature(benchmark(tmp_path), 0.7), load_model("fake:noisy"), store).run
    new = rescore(store, old, benchmark(tmp_path, OTHER_METRIC))
    assert rescore(store, old, benchmark(tmp_path)) is None
    assert new is not None and new.options["temperature"] == 0.7


def test_rows_in_another_order_keep_their_own_replies(tmp_path: Path, store: Store) -> None:
    old = run(benchmark(tmp_path), load_model("fake:noisy"), store, Slice(limit=7)).run
    folder = write_benchmark(tmp_path / "reversed", yaml=OTHER_METRIC, rows=ROWS[::-1])
    new = rescore(store, old, load(folder, NAME))
    assert new is not None
    before, after = ({row.id: row.answer for _, row in store.responses(one.id)} for one in (old, new))
    assert before == after and sorted(after) == [f"c-{number:02d}" for number in range(7)]


def test_what_was_asked_anew_of_a_frozen_run_follows_its_rescored_parent(tmp_path: Path, store: Store) -> None:
    def flaky() -> Result:
        return run(benchmark(tmp_path), load_model("fake:flaky"), store)

    parent = flaky().run
    store.add_baseline("prod", "ab" * 32, [parent.digest], "ann", "")
    child = flaky().run
    changed = benchmark(tmp_path, OTHER_METRIC)
    new_child, new_parent = rescore(store, child, changed), rescore(store, parent, changed)
    assert new_child is not None and new_parent is not None
    assert (child.parent, new_child.parent) == (parent.digest, new_parent.digest)


OTHER_PROMPT = LETTER_YAML.replace("{{ input }}", "Question: {{ input }}")
OTHER_OPTIONS = LETTER_YAML + "max_tokens: 7\n"


@pytest.mark.parametrize(("yaml", "part"), [(OTHER_PROMPT, "prompt"), (OTHER_OPTIONS, "generation")])
def test_more_than_a_changed_scorer_is_refused_with_the_part(
    tmp_path: Path, store: Store, yaml: str, part: str
) -> None:
    old = run(benchmark(tmp_path), load_model("fake:noisy"), store).run
    with pytest.raises(StoreError, match=f"{NAME} has another {part} now, not only another scorer"):
        rescore(store, old, benchmark(tmp_path, yaml))
    assert len(store.runs()) == 1


def test_an_unfinished_run_is_refused(tmp_path: Path, store: Store) -> None:
    old = run(benchmark(tmp_path), load_model("fake:flaky"), store).run
    store.reopen(old.id)
    with pytest.raises(StoreError, match="is not finished; run it to its end first"):
        rescore(store, store.run(old.key), benchmark(tmp_path, OTHER_METRIC))


# -- the command ---------------------------------------------------------------------------------------------------

app = typer.Typer()
app.command()(command)


def invoke(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout, done.stderr


@pytest.fixture
def changed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> RunRow:
    """A run whose benchmark has got another scorer since, beside one whose benchmark is gone."""
    monkeypatch.setenv("COLUMNS", "120")
    folder = write_benchmark(workplace / "benchmarks")
    with Store("results/vevals.db") as store:
        old = run(load(folder, NAME), load_model("fake:majority"), store).run
        run(load(folder, "test/gone"), load_model("fake:majority"), store)
    write_benchmark(workplace / "benchmarks", yaml=OTHER_METRIC)
    return old


def test_the_command_shows_old_and_new_scores_and_what_it_left_out(changed: RunRow) -> None:
    out, err = invoke()
    assert changed.key[:8] in out and "33% (18–53)" in out
    assert "Left out: no benchmark is called 'test/gone'" in err
    with Store("results/vevals.db") as store:
        [new] = [row for row in store.runs() if row.benchmark == NAME and row.key != changed.key]
    assert new.key[:8] in out


def test_the_command_takes_runs_and_patterns_and_prints_json(changed: RunRow) -> None:
    [record] = json.loads(invoke(changed.key[:8], "--json")[0])["runs"]
    assert (record["benchmark"], record["model"]) == (NAME, "fake:majority")
    assert (record["old"]["metric"], record["new"]["metric"]) == ("accuracy", "balanced_accuracy")
    assert record["old"]["run"] == changed.key[:8] != record["new"]["run"]
    assert json.loads(invoke("--benchmark", "test", "--json")[0])["runs"] == [record]
    assert "Nothing to do" in invoke("--benchmark", "medical/*")[0]


def test_a_named_run_that_cannot_be_rescored_is_an_error(changed: RunRow) -> None:
    with Store("results/vevals.db") as store:
        gone = next(row for row in store.runs() if row.benchmark == "test/gone")
    done = CliRunner().invoke(app, [gone.key[:8]])
    assert done.exit_code == 1 and "no benchmark is called 'test/gone'" in str(done.exception)
